"""A durability run as a folder and as lines: report.md, figures (SVG and PNG), result.json, CSV tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from netsim.census import Census
from netsim.durability import DurabilityStage, challenge_hours
from netsim.figures import Figure, draw, empty, percent_axis
from netsim.report import Run, capitalised, outcome, table, told
from node.overlay.custody import HOUR_MS

CHALLENGE_MB: Final = 32 * 16384 / 1e6


def result(stage: DurabilityStage, run: Run) -> dict[str, Any]:
    """The numbers of a run, as JSON has them; rates are lost chunks for each chunk-year."""
    world, census = stage.world, stage.measures
    numbers = census.numbers()
    shown = census.answers[True]
    return {
        **told(run, world, census.begun, stage.broken),
        "challenge_h": challenge_hours(stage.population.options),
        **numbers,
        "moved_gb": {
            "copies": round(census.stored * stage.population.options["chunk_mb"] / 1000, 3),
            "challenges": round(shown * CHALLENGE_MB / 1000, 3),
        },
        "challenges": {"passed": shown, "failed": census.answers[False]},
        "network": dict(sorted(world.counts.items())),
        "uncounted": dict(census.uncounted.most_common(20)),
        "rejected": dict(census.rejections.most_common(20)),
        "command": run.command,
    }


def write(folder: Path, stage: DurabilityStage, run: Run) -> dict[str, Any]:
    """Write the whole report and return its numbers; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    census = stage.measures
    census.sample()
    numbers = result(stage, run)
    (folder / "result.json").write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
    table(folder / "copies.csv", [asdict(sample) for sample in census.samples])
    table(folder / "repairs.csv", [{"hours": round(ms / HOUR_MS, 3)} for ms in sorted(census.repairs_ms)])
    losses = [{"day": (at - census.begun) / 86_400_000, "chunk": chunk.hex()} for at, chunk in census.losses]
    table(folder / "losses.csv", losses)
    (folder / "report.md").write_text(_markdown(numbers, _figures(folder, census)))
    return numbers


def _figures(folder: Path, census: Census) -> list[str]:
    figures = (
        Figure("copies", "Chunks that have not three copies", (_plot_copies,)),
        Figure("repairs", "From a departure to the copy that replaces it", (_plot_repairs,)),
    )
    return draw(folder, census, figures)


def _plot_copies(axes: Any, census: Census) -> None:
    days = [sample.day for sample in census.samples]
    axes.plot(days, [sample.more for sample in census.samples], label="four or more copies", linestyle=":")
    axes.plot(days, [sample.two for sample in census.samples], label="two copies")
    axes.plot(days, [sample.one for sample in census.samples], label="one copy")
    axes.plot(days, [sample.none for sample in census.samples], label="no copy")
    axes.set_xlabel("days")
    axes.set_ylabel(f"chunks, of {len(census.holders)}")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def _plot_repairs(axes: Any, census: Census) -> None:
    ranked = sorted(census.repairs_ms)
    if not ranked:
        empty(axes, "no copy was replaced in this run")
        return
    shares = [100 * (n + 1) / len(ranked) for n in range(len(ranked))]
    axes.step([0, *(ms / HOUR_MS for ms in ranked)], [0, *shares], where="post")
    axes.set_xlabel("hours from the departure until the new copy is there")
    percent_axis(axes, "% of repairs")


def _markdown(numbers: Mapping[str, Any], figures: Sequence[str]) -> str:
    lines = [
        f"# durability: {numbers['nodes']} nodes, seed {numbers['seed']}",
        "",
        f"**{capitalised(outcome(numbers))}.**",
        "",
    ]
    if numbers["broken"]:
        lines += [f"> {numbers['broken']['check']}: {numbers['broken']['sentence']}", ""]
    low, high = numbers["lost_a_year_95"]
    shown = [
        ("chunk-years", numbers["chunk_years"]),
        ("lost", f"{numbers['lost']}: {numbers['lost_a_year']} a chunk-year (95 %: at least {low}; at most {high})"),
        ("lost, from the time on last copies", _expected(numbers)),
        ("holders departed", numbers["departed"]),
        ("copies made", _made(numbers)),
        ("lies", ", ".join(f"{count} {name}" for name, count in numbers["lies"].items())),
        ("repairs", _repairs(numbers)),
        (
            "chunk-years with so many copies",
            ", ".join(f"{copies}: {years}" for copies, years in numbers["years_with_copies"].items()),
        ),
        ("GB moved: copies, challenges", f"{numbers['moved_gb']['copies']}, {numbers['moved_gb']['challenges']}"),
        ("events", f"{numbers['events']:,}"),
        ("real time, peak memory", f"{numbers['wall_s']} s, {numbers['peak_mb']} MB"),
        ("trace", f"`{numbers['digest']}`"),
    ]
    lines += ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in shown), ""]
    lines += [f"![{name}]({name}.svg)" for name in figures]
    options = ", ".join(f"{key} = {value}" for key, value in numbers["options"].items())
    lines += [
        "",
        "Nobody is ever away for a while and no disk is damaged: departures and lies alone are shown, and what a liar signed",
        "for is no copy. A replica is one segment for the machines, so fewer bytes went through them than are reckoned here.",
        "",
        f"Options: {options}; challenged each {numbers['challenge_h']} h. Run it again, to the same trace:",
        "",
        f"    {numbers['command']}",
        "",
    ]
    return "\n".join(lines)


def _expected(numbers: Mapping[str, Any]) -> str:
    if "lost_expected" not in numbers:
        return "nobody departs"
    rate, error = numbers["lost_a_year_expected"], numbers["lost_a_year_expected_error"]
    closed = numbers.get("lost_a_year_closed_form", "unknown")
    return f"{rate} ± {error} a chunk-year; closed form for the mean repair time: {closed}"


def _made(numbers: Mapping[str, Any]) -> str:
    made, again = numbers["copies_made"], numbers["repairs"]
    return (
        f"{made}: {again} in the place of copies that departed, {made - again} by liars, or in the place of liars' or of none. "
        f"{numbers['repairs_started']} repairs were begun since the first placement, {numbers['unplaced']} found nobody"
    )


def _repairs(numbers: Mapping[str, Any]) -> str:
    if (hours := numbers["repair_h"]) is None:
        return "nothing was to be repaired"
    rest = f"{hours['p50']} h (p50), {hours['p99']} h (p99), {hours['mean']} h in the mean"
    return f"{numbers['repairs']} copies made again, after {rest}"


def say(numbers: Mapping[str, Any]) -> list[str]:
    """What the terminal shows."""
    low, high = numbers["lost_a_year_95"]
    return [
        f"durability, {numbers['nodes']} nodes, seed {numbers['seed']}: {outcome(numbers)}",
        f"  {numbers['chunk_years']} chunk-years of {numbers['chunks']} chunks, {numbers['departed']} departures",
        f"  {numbers['events']:,} events in {numbers['wall_s']} s, {numbers['peak_mb']} MB",
        f"  {numbers['lost']} lost: {numbers['lost_a_year']} a chunk-year, 95 % bounds {low} and {high}",
        f"  from the time on last copies: {_expected(numbers)}",
        f"  {_repairs(numbers)}",
        "  lies: " + ", ".join(f"{count} {name}" for name, count in numbers["lies"].items()),
        f"  trace {numbers['digest']}",
    ]
