"""The same scenario from several seeds, side by side on all cores, and what they say together.

    seeds ── a process each: `lucid-netsim run … --seed S --json` ──→ results ── merged ──→ seeds.json

A run's numbers follow from its seed alone, so it does not matter which runs went side by side: but for MACHINE's, which are the
machine's, the merged numbers are those of the runs one by one. Ctrl-C ends what is running and keeps what was finished.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import wrap
from typing import Any, Final, NamedTuple

from netsim.comparison import is_counter, leaves
from netsim.significance import Estimate, estimate

FILE: Final = "seeds.json"
MACHINE: Final = frozenset({"wall_s", "cpu_s", "peak_mb", "events_per_s"})
"""Figures that are the machine's: no two runs have the same."""


class SeedFailed(Exception):
    """A run came to no result; the sentence says which, and what it said."""


class Batch(NamedTuple):
    """Runs of one scenario, by their seeds."""

    results: tuple[Mapping[str, Any], ...]
    partial: bool
    """Whether some are missing."""

    @property
    def ok(self) -> bool:
        """Whether every invariant held in all of them."""
        return not self.partial and all(one["ok"] for one in self.results)


def play(
    words: Sequence[str], seeds: Sequence[int], jobs: int, out: Path | None, tell: Callable[[int, int], None]
) -> Batch:
    """Run `run` with those words from each seed, so many at a time; raises SeedFailed for one that gives no result.

    With a folder each run leaves its report in a folder of its seed there. `tell` hears how many of how many are done.
    """
    running: set[subprocess.Popen[str]] = set()
    over, lock, done = threading.Event(), threading.Lock(), 0

    def one(seed: int) -> Mapping[str, Any] | None:
        nonlocal done
        more = [] if out is None else ["--out", str(folder(out, seed))]
        command = [sys.executable, "-m", "netsim", "run", *words, "--seed", str(seed), "--json", *more]
        with lock:
            if over.is_set():
                return None
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            running.add(process)
        said, complained = process.communicate()
        with lock:
            running.discard(process)
            done += 1
            tell(done, len(seeds))
        if over.is_set():
            return None
        lines = said.splitlines()
        if process.returncode > 1 or not lines:
            raise SeedFailed(f"seed {seed} ended with {process.returncode}: {complained.strip() or 'it said nothing'}")
        found: Mapping[str, Any] = json.loads(lines[-1])
        return found

    def stop() -> None:
        over.set()
        with lock:
            for process in running:
                process.send_signal(signal.SIGINT)

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(one, seed) for seed in seeds]
        try:
            found = [future.result() for future in futures]
        except KeyboardInterrupt:
            stop()
            found = [future.result() if future.done() and future.exception() is None else None for future in futures]
        except SeedFailed:
            stop()
            raise
    results = tuple(one for one in found if one is not None)
    return Batch(results, len(results) < len(seeds))


def folder(out: Path, seed: int) -> Path:
    """Where in a batch's folder a seed has its own."""
    return out / f"seed-{seed}"


def cores() -> int:
    """The cores of this machine that we may use."""
    return len(os.sched_getaffinity(0))


def figures(results: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The values of each figure that all runs have, in their order; counters that a run lacks are 0."""
    flat = [dict(leaves(one)) for one in results]
    names = dict.fromkeys(name for one in flat for name in one)
    found = {}
    for name in names:
        values = [one.get(name, 0 if is_counter(name) else None) for one in flat]
        if None not in values:
            found[name] = [float(value) for value in values if value is not None]
    return found


def merged(batch: Batch) -> dict[str, Any]:
    """What is kept of a batch: what was run, each run's result, and each figure over all of them."""
    first = batch.results[0]
    over: dict[str, Estimate] = {name: estimate(values) for name, values in figures(batch.results).items()}
    return {
        "scenario": first["scenario"],
        "nodes": first["nodes"],
        "options": first["options"],
        "faults": first.get("faults", []),
        "virtual_s": first["virtual_s"],
        "seeds": [one["seed"] for one in batch.results],
        "ok": batch.ok,
        "partial": batch.partial,
        "broken": {str(one["seed"]): one["broken"]["check"] for one in batch.results if one.get("broken")},
        "figures": {name: one._asdict() for name, one in over.items()},
        "runs": list(batch.results),
    }


def _rank(name: str) -> int:
    """What matters comes first, then counters of what happened, then the machine's own figures."""
    return 2 if name in MACHINE else int(is_counter(name))


def say(numbers: Mapping[str, Any]) -> list[str]:
    """What the terminal shows."""
    state = "partial" if numbers["partial"] else "every invariant held" if numbers["ok"] else "BROKEN"
    lines = [f"{numbers['scenario']}, {numbers['nodes']} nodes, {len(numbers['seeds'])} seeds: {state}"]
    lines += [f"  seed {seed}: {check} broke" for seed, check in numbers["broken"].items()]
    rows = [("", "mean", "95 % interval", "least", "most")]
    same = []
    for name, one in sorted(numbers["figures"].items(), key=lambda figure: _rank(figure[0])):
        if one["least"] == one["most"] and len(numbers["seeds"]) > 1:
            same.append(f"{name} {one['mean']:,.6g}")
            continue
        low, high = one["low"] if one["least"] < 0 else max(0.0, one["low"]), one["high"]
        rows.append(
            (name, f"{one['mean']:,.6g}", f"{low:,.5g} … {high:,.5g}", f"{one['least']:,.6g}", f"{one['most']:,.6g}")
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        cells = "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append(f"  {row[0]:<{widths[0]}}{cells}")
    if same:
        told = f"the same with every seed: {', '.join(same)}"
        lines += wrap(told, 110, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    return lines
