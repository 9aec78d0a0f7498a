"""A run of an economy as a folder and as lines: report.md, a figure (SVG and PNG), result.json, rows.csv."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from consensus.block import REPORTS_MAX
from consensus.params import MAINNET
from netsim.figures import Figure, draw, percent_axis
from netsim.poot import EconomyStage, Share
from netsim.report import Run, outcome, table

MEANS: Final = ("server_share_blocks", "server_share_lucid", "gini_work", "gini_slots", "correlation", "ever_led")
"""Figures of a world that stand for the whole run by their mean over its rows."""


def result(stage: EconomyStage, run: Run) -> dict[str, Any]:
    """The numbers of a run, as JSON has them; those of a row are in `table`."""
    broken = stage.complaints()
    slots = stage.played * stage.slots + stage.cut
    return {
        "scenario": run.recipe.scenario,
        "seed": run.recipe.seed,
        "nodes": run.recipe.nodes,
        "slots": stage.slots,
        "counted_slots": stage.slots - stage.begins + 1,
        "options": dict(run.recipe.options),
        "virtual_s": stage.slots * MAINNET.slot_ms / 1000,
        "partial": run.partial,
        "ok": not broken and not run.partial,
        "broken": {"check": "Target", "sentence": "; ".join(broken)} if broken else None,
        "slots_of_the_last": stage.cut or stage.slots,
        "digest": stage.digest(),
        "table": [_short(row) for row in stage.rows],
        "rows": {f"{row.strategy}, n = {row.n}, {row.rule}": _shares(row) for row in stage.rows},
        **{name: round(fmean([getattr(row, name) for row in stage.rows] or [0.0]), 4) for name in MEANS},
        "slots_per_s": round(slots / run.wall_s) if run.wall_s else None,
        "wall_s": round(run.wall_s, 2),
        "cpu_s": round(run.cpu_s, 2),
        "peak_mb": round(run.peak_mb),
        "command": run.command,
    }


def _shares(row: Share) -> dict[str, float]:
    """What of a row several runs are compared by."""
    return {name: round(getattr(row, name), 4) for name in ("share_work", "share_slots", "ratio", "share_lucid")}


def _short(row: Share) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(row).items()} | {
        "within": row.is_within,
        "told": row.is_told,
    }


def write(folder: Path, stage: EconomyStage, run: Run) -> dict[str, Any]:
    """Write the whole report and return its numbers; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = result(stage, run)
    (folder / "result.json").write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
    table(folder / "rows.csv", numbers["table"])
    figures = draw(folder, stage.rows, [Figure("shares", "Real work, slots and LUCID of who is watched", (_plot,))])
    lines = say(numbers)
    options = ", ".join(f"{key} = {value}" for key, value in numbers["options"].items())
    text = [f"# {lines[0]}", "", *(f"    {line}" for line in lines[1:]), ""]
    text += [f"![{name}]({name}.svg)" for name in figures]
    text += ["", f"Options: {options}. Run it again, to the same trace:", "", f"    {numbers['command']}", ""]
    (folder / "report.md").write_text("\n".join(text))
    return numbers


def _plot(axes: Any, rows: Sequence[Share]) -> None:
    width = 0.27
    for turn, (name, label) in enumerate(
        (("share_work", "real work"), ("share_slots", "slots"), ("share_lucid", "LUCID"))
    ):
        at = [number + (turn - 1) * width for number in range(len(rows))]
        axes.bar(at, [100 * getattr(row, name) for row in rows], width, label=label)
    bounds = [(number, 100 * row.bound) for number, row in enumerate(rows) if row.bound is not None]
    if bounds:
        axes.scatter(
            [at for at, _ in bounds], [bound for _, bound in bounds], marker="_", s=400, color="0.3", label="allowed"
        )
    axes.set_xticks(range(len(rows)), [f"{row.strategy}\n{row.rule}, n = {row.n}" for row in rows], fontsize=6)
    percent_axis(axes, "% of all")
    axes.set_ylim(0, 110 * max([0.1, *(max(row.share_work, row.share_slots, row.share_lucid) for row in rows)]))
    axes.legend(frameon=False)


def say(numbers: Mapping[str, Any]) -> list[str]:
    """What the terminal shows."""
    untold = [row for row in numbers["table"] if not row["told"]]
    kept = "compared"
    if any(row["bound"] for row in numbers["table"]):
        kept = "too few slots to tell" if untold else "within the target"
    state = "the target is broken" if numbers["broken"] else outcome(numbers) if numbers["partial"] else kept
    lines = [f"{numbers['scenario']}, {numbers['nodes']} nodes, seed {numbers['seed']}: {state}"]
    heads = (
        "strategy",
        "rule",
        "n",
        "% work",
        "% slots",
        "allowed",
        "ratio",
        "% LUCID",
        "LUCID",
        "misses",
        "ever led",
        "% server",
    )
    cells = [heads]
    for row in numbers["table"]:
        ratio = f"{row['ratio']:.2f} ± {row['error']:.2f}" + ("" if row["within"] else " !")
        shares = [f"{100 * row[name]:.2f}" for name in ("share_work", "share_slots", "share_lucid")]
        allowed = "–" if row["bound"] is None else f"{100 * row['bound']:.2f}"
        tail = (
            f"{row['lucid']:,}",
            f"{row['misses']}",
            f"{100 * row['ever_led']:.0f} %",
            f"{100 * row['server_share_blocks']:.2f}",
        )
        cells.append(
            (row["strategy"], row["rule"], f"{row['n']}", shares[0], shares[1], allowed, ratio, shares[2], *tail)
        )
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    for line in cells:
        words = [
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  " + "  ".join(words))
    lines.append(
        f"  {numbers['slots']:,} slots a row, {numbers['counted_slots']:,} of them counted, in {numbers['wall_s']} s; Gini of work {numbers['gini_work']:.2f}, "
        f"of slots {numbers['gini_slots']:.2f}, correlation {numbers['correlation']:.3f}"
    )
    if numbers["slots_of_the_last"] < numbers["slots"]:
        lines.append(f"  the last world was interrupted after {numbers['slots_of_the_last']:,} of them")
    lost = max((row["reports_lost"] / max(1, row["reports"]) for row in numbers["table"]), default=0)
    if lost >= 0.0005:
        lines.append(
            f"  {100 * lost:.1f} % of the reports of work came into no block: {REPORTS_MAX} a block are too few"
        )
    if untold:
        rows = ", ".join(f"{row['strategy']} {row['n']}" for row in untold)
        nearest = min(untold, key=lambda row: abs(row["share_slots"] - row["bound"]))
        lines.append(
            f"  too few slots to tell luck from strategy: {rows}; shares within {100 * nearest['margin']:.2g} points of what is "
            "allowed may be either. Give more --minutes"
        )
    if numbers["broken"]:
        lines.append("  allowed are 1.33 times the share of the work and a hundredth: " + numbers["broken"]["sentence"])
    lines.append(f"  trace {numbers['digest']}")
    return lines
