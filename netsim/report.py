"""A run as a folder that can be read, plotted and run again: report.md, figures (SVG and PNG), result.json, CSV tables."""

import csv
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netsim.adversaries import Intruder
from netsim.measures import LATENCY_STEP_MS, Measures
from netsim.scenarios import Stage, named
from netsim.tape import Recipe

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Run:
    """How a run went, beside what it measured."""

    recipe: Recipe
    wall_s: float
    peak_mb: float
    partial: bool
    """Whether it was interrupted."""
    command: str


def result(stage: Stage, run: Run) -> dict[str, Any]:
    """The numbers of a run, as JSON has them."""
    world, measures = stage.world, stage.measures
    looked = measures.look_ups
    up = [node for node in world.nodes if node.up]
    sent = len(measures.sent)
    missing = len(measures.missing())
    virtual = (world.now - measures.begun) / 1000
    return {
        "scenario": run.recipe.scenario,
        "seed": run.recipe.seed,
        "nodes": run.recipe.nodes,
        "options": dict(run.recipe.options),
        "virtual_s": virtual,
        "partial": run.partial,
        "ok": stage.broken is None and not run.partial,
        "broken": None if stage.broken is None else stage.broken._asdict(),
        "digest": world.digest(),
        "events": world.events,
        "events_per_s": round(world.events / run.wall_s) if run.wall_s else None,
        "wall_s": round(run.wall_s, 2),
        "peak_mb": round(run.peak_mb),
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
        "signature_checks": stage.verify.checks,
        "signatures_reused": stage.verify.reused,
        "network": dict(sorted(world.counts.items())),
        "facts": {
            kind.__name__: count for kind, count in sorted(world.facts.items(), key=lambda item: item[0].__name__)
        },
        "rejected": dict(measures.rejections.most_common(20)),
        "command": run.command,
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
    figures = _figures(folder, stage.measures)
    (folder / "report.md").write_text(_markdown(numbers, run, figures))
    return numbers


def table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, their keys as its first line; without rows an empty file."""
    with path.open("w", newline="") as out:
        if rows:
            writer = csv.DictWriter(out, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)


def _figures(folder: Path, measures: Measures) -> list[str]:
    plots = (
        ("delivery", "delivery latency of directory entries", _plot_latency),
        ("look_ups", "look-ups: share found, and hops", _plot_look_ups),
        ("network", "connections, contacts and directory entries a node", _plot_network),
        ("traffic", "bytes and events a node and second", _plot_traffic),
    )
    return draw(folder, measures, plots)


def draw(folder: Path, measures: Any, plots: Sequence[tuple[str, str, Callable[[Any, Any], None]]]) -> list[str]:
    """Draw (file name, title, what draws the measures into axes) each as SVG and PNG; their names."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    made = []
    for name, title, plot in plots:
        figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
        plot(axes, measures)
        axes.set_title(title)
        axes.grid(visible=True, alpha=0.3)
        for ending in ("svg", "png"):
            figure.savefig(folder / f"{name}.{ending}", dpi=110, metadata={"Date": None} if ending == "svg" else None)
        plt.close(figure)
        made.append(name)
    return made


def _plot_latency(axes: "Axes", measures: Measures) -> None:
    total, passed, xs, ys = sum(measures.latencies.values()), 0, [0.0], [0.0]
    for step in sorted(measures.latencies):
        passed += measures.latencies[step]
        xs.append((step + 1) * LATENCY_STEP_MS / 1000)
        ys.append(passed / total)
    axes.step(xs, ys, where="post")
    axes.set_xlabel("seconds")
    axes.set_ylabel("share of deliveries")
    if xs[-1] > 0:
        axes.set_xscale("symlog", linthresh=1.0)


def _plot_look_ups(axes: "Axes", measures: Measures) -> None:
    found = [one for one in measures.look_ups if one.found]
    lost = [one for one in measures.look_ups if not one.found]
    axes.scatter([one.at_s for one in found], [one.ms / 1000 for one in found], s=9, label=f"found ({len(found)})")
    axes.scatter(
        [one.at_s for one in lost], [one.ms / 1000 for one in lost], s=14, marker="x", label=f"not found ({len(lost)})"
    )
    axes.set_xlabel("virtual seconds")
    axes.set_ylabel("seconds a look-up took")
    axes.legend()


def _plot_network(axes: "Axes", measures: Measures) -> None:
    at = [sample.at_s for sample in measures.samples]
    axes.plot(at, [sample.up for sample in measures.samples], label="nodes up", linestyle=":")
    axes.plot(at, [sample.connections for sample in measures.samples], label="connections")
    axes.plot(at, [sample.contacts for sample in measures.samples], label="contacts")
    axes.plot(at, [sample.directory for sample in measures.samples], label="directory entries")
    axes.set_xlabel("virtual seconds")
    axes.set_yscale("symlog")
    axes.legend()


def _plot_traffic(axes: "Axes", measures: Measures) -> None:
    pairs = list(zip(measures.samples, measures.samples[1:], strict=False))
    at = [later.at_s for _, later in pairs]
    span = [max(later.at_s - earlier.at_s, 1e-9) * max(1, later.up) for earlier, later in pairs]
    axes.plot(
        at, [(b.bytes_in - a.bytes_in) / s for (a, b), s in zip(pairs, span, strict=True)], label="bytes received"
    )
    axes.plot(at, [(b.events - a.events) / s for (a, b), s in zip(pairs, span, strict=True)], label="events")
    axes.set_xlabel("virtual seconds")
    axes.set_yscale("symlog")
    axes.legend()


def outcome(numbers: Mapping[str, Any]) -> str:
    """How a run ended, for people."""
    if numbers["partial"]:
        return "interrupted: these are partial results"
    return "every invariant held" if numbers["ok"] else "BROKEN"


def _markdown(numbers: dict[str, Any], run: Run, figures: Sequence[str]) -> str:
    state = outcome(numbers)
    lines = [
        f"# {numbers['scenario']}: {numbers['nodes']} nodes, seed {numbers['seed']}",
        "",
        f"{named(numbers['scenario']).shows[0].upper()}{named(numbers['scenario']).shows[1:]}. **{state[0].upper()}{state[1:]}.**",
        "",
    ]
    if numbers["broken"]:
        broken = numbers["broken"]
        where = "the network as a whole" if broken["node"] < 0 else f"node {broken['node']}"
        lines += [f"> {broken['check']}, {where}: {broken['sentence']}", ""]
    shown = (
        ("virtual time", f"{numbers['virtual_s']:.0f} s"),
        ("events", f"{numbers['events']:,} ({numbers['events_per_s']:,} a second of real time)"),
        ("real time, peak memory", f"{numbers['wall_s']} s, {numbers['peak_mb']} MB"),
        ("nodes up at the end", numbers["up"]),
        ("messages, deliveries", f"{numbers['messages']}, {numbers['deliveries']}"),
        ("entries missing at the end", numbers["entries_missing"]),
        ("delivery p50, p90, p99", ", ".join(f"{value} ms" for value in numbers["delivery_ms"].values())),
        ("look-ups found", f"{numbers['look_ups_found']} of {numbers['look_ups']}"),
        (
            "look-up, median",
            f"{numbers['look_up_hops']} hops, {numbers['look_up_queries']} queries, {numbers['look_up_ms']} ms",
        ),
        ("received a node", f"{numbers['bytes_per_node_s']} B/s"),
        ("trace", f"`{numbers['digest']}`"),
    )
    lines += ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in shown), ""]
    lines += [f"![{name}]({name}.svg)" for name in figures]
    lines += ["", "What happened in the network:", ""]
    lines += [f"- {name}: {count}" for name, count in numbers["network"].items()]
    options = ", ".join(f"{key} = {value}" for key, value in numbers["options"].items())
    lines += ["", f"Options: {options}. Run it again, to the same trace:", "", f"    {run.command}", ""]
    return "\n".join(lines)
