"""A run as a folder that can be read, plotted and run again: report.md, figures (SVG and PNG), result.json, CSV tables."""

import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from netsim.adversaries import Intruder
from netsim.checks import Broken
from netsim.faults import described
from netsim.figures import draw, overlay_figures
from netsim.measures import LATENCY_STEP_MS, Measures
from netsim.overlay import Stage
from netsim.scenarios import named
from netsim.tape import Recipe
from netsim.world import World

TABLES: Final = ("samples.csv", "look_ups.csv", "latencies.csv", "nodes.csv")


@dataclass(frozen=True, slots=True)
class Run:
    """How a run went, beside what it measured."""

    recipe: Recipe
    wall_s: float
    cpu_s: float
    """Of the process, for the run alone."""
    peak_mb: float
    partial: bool
    """Whether it was interrupted."""
    command: str


def told(run: Run, world: World, begun: int, broken: Broken | None) -> dict[str, Any]:
    """What the result of every run of a world says, as JSON has it; what was measured comes behind it."""
    return {
        "scenario": run.recipe.scenario,
        "seed": run.recipe.seed,
        "nodes": run.recipe.nodes,
        "options": dict(run.recipe.options),
        "faults": [described(fault) for fault in run.recipe.plan.faults],
        "virtual_s": (world.now - begun) / 1000,
        "partial": run.partial,
        "ok": broken is None and not run.partial,
        "broken": None if broken is None else broken._asdict(),
        "digest": world.digest(),
        "events": world.events,
        "events_per_s": round(world.events / run.wall_s) if run.wall_s else None,
        "wall_s": round(run.wall_s, 2),
        "cpu_s": round(run.cpu_s, 2),
        "peak_mb": round(run.peak_mb),
    }


def result(stage: Stage, run: Run) -> dict[str, Any]:
    """The numbers of a run, as JSON has them."""
    world, measures = stage.world, stage.measures
    looked = measures.look_ups
    up = [node for node in world.nodes if node.up]
    sent = len(measures.sent)
    missing = len(measures.missing())
    virtual = (world.now - measures.begun) / 1000
    return {
        **told(run, world, measures.begun, stage.broken),
        "up": len(up),
        "messages": sent,
        "deliveries": sum(measures.delivered.values()),
        "entries_missing": missing,
        "delivery_ms": {
            name: measures.percentile(share) for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
        },
        "look_ups": len(looked),
        "look_ups_found": sum(one.found for one in looked),
        "look_ups_without_answer": measures.look_ups_lost,
        "target_look_ups": len(measures.sought),
        "target_look_ups_found": sum(one.found for one in measures.sought),
        "adversaries": sum(isinstance(node.machine, Intruder) for node in world.nodes),
        "look_up_hops": _median([one.hops for one in looked if one.found]),
        "look_up_queries": _median([one.queries for one in looked]),
        "look_up_ms": _median([one.ms for one in looked if one.found]),
        "bytes_per_node_s": round(
            sum(node.bytes_in for node in world.nodes) / max(1, len(world.nodes)) / max(1.0, virtual), 1
        ),
        "load": _load(measures),
        "signature_checks": stage.verify.checks,
        "signatures_reused": stage.verify.reused,
        "network": dict(sorted(world.counts.items())),
        "facts": {
            kind.__name__: count for kind, count in sorted(world.facts.items(), key=lambda item: item[0].__name__)
        },
        "rejected": dict(measures.rejections.most_common(20)),
        "command": run.command,
    }


def _load(measures: Measures) -> dict[str, dict[str, float] | None]:
    """Median and maximum over the nodes of what each was burdened with; CPU is null where it was not counted."""
    loads = measures.loads()
    columns = {
        "bytes_in_per_s": [one.bytes_in_per_s for one in loads],
        "bytes_out_per_s": [one.bytes_out_per_s for one in loads],
        "cpu_ms_per_hour": [one.cpu_ms_per_hour for one in loads],
    }
    return {
        name: {"median": round(statistics.median(values), 1), "max": round(max(values), 1)} if any(values) else None
        for name, values in columns.items()
    }


def _median(values: Sequence[int]) -> float | None:
    return statistics.median(values) if values else None


def write(folder: Path, stage: Stage, run: Run) -> dict[str, Any]:
    """Write the whole report and return its numbers; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = result(stage, run)
    (folder / "result.json").write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
    table(folder / "samples.csv", [asdict(sample) for sample in stage.measures.samples])
    table(folder / "look_ups.csv", [asdict(one) for one in stage.measures.look_ups])
    steps = sorted(stage.measures.latencies.items())
    table(folder / "latencies.csv", [{"up_to_ms": (step + 1) * LATENCY_STEP_MS, "deliveries": n} for step, n in steps])
    loads = [{key: _short(value) for key, value in asdict(one).items()} for one in stage.measures.loads()]
    table(folder / "nodes.csv", loads)
    figures = draw(folder, stage.measures, overlay_figures())
    (folder / "report.md").write_text(_markdown(numbers, run, figures))
    return numbers


def _short(value: Any) -> Any:
    return round(value, 2) if isinstance(value, float) else value


def table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, their keys as its first line; without rows an empty file."""
    with path.open("w", newline="") as out:
        if rows:
            writer = csv.DictWriter(out, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)


def capitalised(sentence: str) -> str:
    """A sentence as it begins a line."""
    return sentence[0].upper() + sentence[1:]


def outcome(numbers: Mapping[str, Any]) -> str:
    """How a run ended, for people."""
    if numbers["partial"]:
        return "interrupted: these are partial results"
    return "every invariant held" if numbers["ok"] else "BROKEN"


def _said(load: Mapping[str, float] | None, unit: str) -> str:
    return "not measured" if load is None else f"{load['median']:,} and {load['max']:,} {unit}"


def _markdown(numbers: dict[str, Any], run: Run, figures: Sequence[str]) -> str:
    state = outcome(numbers)
    lines = [
        f"# {numbers['scenario']}: {numbers['nodes']} nodes, seed {numbers['seed']}",
        "",
        f"{capitalised(named(numbers['scenario']).shows)}. **{capitalised(state)}.**",
        "",
    ]
    if numbers["broken"]:
        broken = numbers["broken"]
        where = "the network as a whole" if broken["node"] < 0 else f"node {broken['node']}"
        lines += [f"> {broken['check']}, {where}: {broken['sentence']}", ""]
    latency, load = numbers["delivery_ms"], numbers["load"]
    shown = (
        ("virtual time", f"{numbers['virtual_s']:,.0f} of {run.recipe.duration_ms // 1000:,} s"),
        ("events", f"{numbers['events']:,} ({numbers['events_per_s']:,} a second of real time)"),
        (
            "real time, processor time, peak memory",
            f"{numbers['wall_s']} s, {numbers['cpu_s']} s, {numbers['peak_mb']} MB",
        ),
        ("nodes up at the end", numbers["up"]),
        ("messages, deliveries", f"{numbers['messages']:,}, {numbers['deliveries']:,}"),
        ("entries missing at the end", numbers["entries_missing"]),
        (
            "delivery, 50, 90 and 99 %",
            "nothing was delivered"
            if latency["p50"] is None
            else ", ".join(f"{ms / 1000:g} s" for ms in latency.values()),
        ),
        ("look-ups found", f"{numbers['look_ups_found']} of {numbers['look_ups']}"),
        (
            "look-up, median",
            f"{numbers['look_up_hops']:g} hops, {numbers['look_up_queries']:g} queries, {numbers['look_up_ms']:,g} ms"
            if numbers["look_ups_found"]
            else "none found its node",
        ),
        *(
            [("look-ups of what adversaries hide, found", f"{numbers['target_look_ups_found']} of {hidden}")]
            if (hidden := numbers["target_look_ups"])
            else []
        ),
        ("received a node, median and most", _said(load["bytes_in_per_s"], "B/s")),
        ("sent a node, median and most", _said(load["bytes_out_per_s"], "B/s")),
        ("processor time a node, median and most", _said(load["cpu_ms_per_hour"], "ms a virtual hour")),
        ("trace", f"`{numbers['digest']}`"),
    )
    lines += ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in shown), ""]
    lines += [f"![{name}]({name}.svg)" for name in figures]
    lines += [
        "",
        f"The figures are there as PNG too; their numbers are in {', '.join(TABLES)}, all results in result.json.",
    ]
    lines += ["", "What happened in the network:", ""]
    lines += [f"- {name}: {count:,}" for name, count in numbers["network"].items()]
    if numbers["faults"]:
        lines += ["", "Faults of the plan:", "", *(f"- {one}" for one in numbers["faults"])]
    options = ", ".join(f"{key} = {value}" for key, value in numbers["options"].items())
    lines += ["", f"Options: {options}. Run it again, to the same trace:", "", f"    {run.command}", ""]
    return "\n".join(lines)
