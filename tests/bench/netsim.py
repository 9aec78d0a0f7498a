"""What the simulator costs against the number of nodes: the scenario bootstrap with the whole peer, and a world of toy machines.

Each run is a process of its own on one core. `events/CPU-s` counts processor time and so bears a busy machine; `events/s` is of
real time. `machines %` is the share of a run's processor time that is spent in the peers' machines, the rest being the world's;
counting it costs some, so one run of each size does it and nothing else. The toys (tests/netsim/toys.py) do little with an
event and dial a new peer every second: they show what the world alone bears.
"""

import json
import resource
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from netsim.__main__ import perform
from netsim.checks import judge
from netsim.faults import Plan
from netsim.figures import Figure, draw
from netsim.overlay import stage
from netsim.report import table as write_csv
from netsim.scenarios import named, recipe
from netsim.tape import Recipe
from tests.bench.measure import answer_of, spread, table
from tests.netsim.toys import gossip_world

SEED: Final = 7
TOY_NODE_SECONDS: Final = 120_000
"""Virtual seconds of all toys together, some three events each; at least half a minute for each."""


class Series(NamedTuple):
    """Runs that differ in nothing but the number of nodes."""

    name: str
    minutes: int
    options: Mapping[str, int]
    nodes: Sequence[int]


WHOLE: Final = Series("a virtual hour", 60, {"join_s": 60, "messages": 60, "look_ups": 200}, (100, 300, 1000))
LARGE: Final = Series("a quarter, less to do", 15, {"join_s": 60, "messages": 10, "look_ups": 100}, (1000, 3000))
LARGEST: Final = Series(
    "twenty minutes, joining over five", 20, {"join_s": 300, "messages": 10, "look_ups": 100}, (10_000,)
)


def peers(nodes: int, minutes: int, options: Mapping[str, int], *, counts: bool = False) -> dict[str, Any]:
    """One run of the whole peer in this process; counts: with the processor time of the machines."""
    empty = _peak_kb()
    what = recipe(named("bootstrap"), nodes, SEED, minutes, {key: str(value) for key, value in options.items()}, Plan())
    made = stage(what, cpu_ns=time.thread_time_ns if counts else None)
    wall, cpu, interrupted = perform(made, what)
    if interrupted:
        raise KeyboardInterrupt
    kb = _peak_kb()
    return {
        "nodes": nodes,
        "minutes": minutes,
        "events": made.world.events,
        "wall_s": wall,
        "cpu_s": cpu,
        "mb": kb / 1000,
        "kb_per_node": (kb - empty) / nodes,
        "broken": None if made.broken is None else made.broken.sentence,
        "digest": made.world.digest(),
        "machine_percent": 100 * sum(node.cpu_ns for node in made.world.nodes) / 1e9 / cpu,
    }


def toys(nodes: int) -> dict[str, Any]:
    """One run of the toy machines in this process."""
    ms = max(30, TOY_NODE_SECONDS // nodes) * 1000
    world, _ = gossip_world(Recipe("gossip", SEED, nodes, ms))
    began = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    judge(world, world.now + ms, ())
    spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime - began
    return {"toy_events_per_cpu_s": world.events / spent}


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


COLUMNS: Final = {
    "wall_s": ("wall s", "{:.1f}"),
    "events_per_s": ("events/s", "{:,.0f}"),
    "events_per_cpu_s": ("events/CPU-s", "{:,.0f}"),
    "cpu_ms_per_node_hour": ("CPU ms/node/virtual h", "{:.0f}"),
    "mb": ("MB", "{:.0f}"),
    "kb_per_node": ("KB/node", "{:.0f}"),
    "toy_events_per_cpu_s": ("toys: events/CPU-s", "{:,.0f}"),
}


def _derived(run: dict[str, Any]) -> dict[str, Any]:
    return run | {
        "events_per_s": run["events"] / run["wall_s"],
        "events_per_cpu_s": run["events"] / run["cpu_s"],
        "cpu_ms_per_node_hour": run["cpu_s"] * 1000 / run["nodes"] / (run["minutes"] / 60),
    }


def _runs(series: Series, nodes: int, rounds: int, folder: Path) -> list[dict[str, Any]]:
    """The rounds of one size, which differ in time and memory alone."""
    command = [sys.executable, "-P", "-m", "tests.bench.netsim"]
    what = [str(nodes), str(series.minutes), json.dumps(series.options)]
    share = answer_of([*command, "counted", *what], cwd=folder)["machine_percent"]
    done = []
    for number in range(rounds):
        run = answer_of([*command, "peers", *what], cwd=folder) | {"machine_percent": share}
        run |= answer_of([*command, "toys", str(nodes)], cwd=folder)
        done.append(_derived(run))
        print(
            f"    round {number + 1}  {nodes:>6,} nodes  {run['wall_s']:8.1f} s  {run['cpu_s']:8.1f} CPU-s", flush=True
        )
    if len({run["digest"] for run in done}) > 1:
        raise RuntimeError(f"{nodes} nodes: one seed gave different traces")
    return done


def main(folder: Path, rounds: int, *, large: bool = False, out: Path | None = None) -> dict[str, object]:
    """Measure and print, with out as netsim.csv and a figure too; returns the figures."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for series in (WHOLE, LARGE, LARGEST) if large else (WHOLE,):
        options = ", ".join(f"{key} = {value}" for key, value in series.options.items())
        print(f"  bootstrap, seed {SEED}, {series.minutes} virtual minutes, {options}; {rounds} rounds", flush=True)
        shown = [("nodes", "virtual min", "events", *(head for head, _ in COLUMNS.values()), "machines %")]
        for nodes in series.nodes:
            runs = _runs(series, nodes, rounds, folder)
            spreads = [spread([run[key] for run in runs], form) for key, (_, form) in COLUMNS.items()]
            shown.append(
                (
                    f"{nodes:,}",
                    str(series.minutes),
                    f"{runs[0]['events']:,}",
                    *spreads,
                    f"{runs[0]['machine_percent']:.0f}",
                )
            )
            rows.append(_row(series, runs))
            if runs[0]["broken"]:
                print(f"    {nodes:,} nodes: broken: {runs[0]['broken']}")
        table(shown)
    if out is not None:
        write_csv(out / "netsim.csv", rows)
        draw(out, rows, [Figure("netsim", "Cost of simulating the whole peer, against the number of nodes", PANELS)])
        print(f"  {out / 'netsim.csv'}, netsim.svg, netsim.png")
    return {"rows": rows}


def _row(series: Series, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "series": series.name,
        **{key: runs[0][key] for key in ("nodes", "minutes", "events", "machine_percent")},
    }
    for key in ("cpu_s", *COLUMNS):
        values = [run[key] for run in runs]
        row |= {key: round(statistics.median(values), 2), f"{key}_min": round(min(values), 2)}
        row[f"{key}_max"] = round(max(values), 2)
    return row


def _panel(axes: Any, rows: Sequence[Mapping[str, Any]], key: str, unit: str) -> None:
    """A column against the nodes, medians with their range, a line for each series."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for name in dict.fromkeys(row["series"] for row in rows):
        chosen = [row for row in rows if row["series"] == name]
        middle = [row[key] for row in chosen]
        low, high = ([abs(row[key] - row[f"{key}_{end}"]) for row in chosen] for end in ("min", "max"))
        axes.errorbar(
            [row["nodes"] for row in chosen], middle, yerr=[low, high], marker="o", markersize=4, capsize=3, label=name
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    lowest, highest = (end(row[key] for row in rows) for end in (min, max))
    axes.set_ylim(lowest / 2, highest * 2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 3) if axis is axes.xaxis else (1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("nodes")
    axes.set_ylabel(unit)


def _speed(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    _panel(axes, rows, "events_per_cpu_s", "events a CPU second")
    toy = sorted({row["nodes"]: row["toy_events_per_cpu_s"] for row in rows}.items())
    axes.plot([nodes for nodes, _ in toy], [rate for _, rate in toy], ":", color="0.5", label="toy machines")
    axes.set_ylim(top=2 * max(rate for _, rate in toy))
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=9)


def _burden(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    _panel(axes, rows, "cpu_ms_per_node_hour", "CPU ms a node\nand virtual hour")


def _memory(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    _panel(axes, rows, "kb_per_node", "KB a node")


PANELS: Final = (_speed, _burden, _memory)


def _child(what: str, nodes: str, *more: str) -> dict[str, Any]:
    if what == "toys":
        return toys(int(nodes))
    minutes, options = more
    return peers(int(nodes), int(minutes), json.loads(options), counts=what == "counted")


if __name__ == "__main__":
    print(json.dumps(_child(*sys.argv[1:])))
