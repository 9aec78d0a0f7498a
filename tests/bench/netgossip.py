"""Gossip beside the peers: 20 processes on loopback, 200 B messages, the same links and degrees (D 6, 4 to 12), StrictSign.

Ours is the whole peer (its DHT, logs and replicas run too), theirs gossipsub alone. Each round starts every implementation
anew, in random order, with the same links. CPU is all of all processes from the first message to the last delivery, divided
by messages and nodes: heartbeats are in it. A phase ends when everything has arrived, or when nothing has for QUIET_S.
"""

import random
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench.measure import spread, table
from tests.bench.netcrowd import PYTHON, Crowd, js, wait_until
from tests.bench.netload import DEGREE_LOW

NODES: Final = 20
CYCLES: Final = 4
"""So 8 links a node, or a few less."""
SETTLE_S: Final = 8.0
QUIET_S: Final = 15.0
BURST: Final = 500
WARM_UP_RATE: Final = 20
PHASES: Final = {"4/s": (4, 60), "20/s": (20, 200)}
"""Messages a second from random nodes, and how many."""
OURS, STOCK, JS = "ours", "py-libp2p", "js-libp2p"
WARM_UP: Final = {OURS: 400, STOCK: 20, JS: 400}
"""Messages before any is counted: JavaScript is compiled while it runs. py-libp2p is not, and would take minutes for so many."""


class Phase(NamedTuple):
    """What came of the messages of one phase."""

    delivered: float
    """Of a hundred deliveries."""
    cpu_ms: float
    """A message and node."""
    p50_ms: float
    p99_ms: float
    took_s: float


class Round(NamedTuple):
    """One implementation once."""

    idle: float
    """Per cent of a core, a node."""
    mb: float
    mesh: float
    phases: Mapping[str, Phase]


def measure(command: Sequence[str], seed: int, warm_up: int) -> Round:
    """One round of one implementation."""
    rng = random.Random(seed)
    with Crowd(command, NODES) as crowd:
        crowd.link(seed, CYCLES)
        if not wait_until(lambda: min(one["mesh"] for one in crowd.ask_all("state")) >= DEGREE_LOW, 60):
            raise RuntimeError(f"a mesh of fewer than {DEGREE_LOW} peers after a minute")
        time.sleep(SETTLE_S)
        _phase(crowd, _plan(rng, WARM_UP_RATE, range(warm_up)))
        time.sleep(SETTLE_S)
        before, began = _cpu(crowd), time.monotonic()
        time.sleep(SETTLE_S)
        idle = 100 * (_cpu(crowd) - before) / (time.monotonic() - began) / NODES
        first, phases = warm_up, dict[str, Phase]()
        for name, (rate, count) in PHASES.items():
            phases[name] = _phase(crowd, _plan(rng, rate, range(first, first + count)))
            first += count
        states = crowd.ask_all("state")
        start = time.monotonic() + 0.5
        burst = {rng.randrange(NODES): [(number, start) for number in range(first, first + BURST)]}
        phases["burst"] = _phase(crowd, burst)
        mesh = statistics.mean(one["mesh"] for one in states)
        return Round(idle, statistics.mean(one["mb"] for one in states), mesh, phases)


def _plan(rng: random.Random, rate: int, numbers: range) -> dict[int, list[tuple[int, float]]]:
    start = time.monotonic() + 0.5
    plan: dict[int, list[tuple[int, float]]] = {}
    for place, number in enumerate(numbers):
        plan.setdefault(rng.randrange(NODES), []).append((number, start + place / rate))
    return plan


def _cpu(crowd: Crowd) -> float:
    return float(sum(one["cpu"] for one in crowd.ask_all("state")))


def _phase(crowd: Crowd, plan: Mapping[int, Sequence[tuple[int, float]]]) -> Phase:
    count = sum(map(len, plan.values()))
    expected = count * (NODES - 1)
    before, began = _cpu(crowd), time.monotonic()
    crowd.ask({number: {"do": "publish", "plan": part} for number, part in plan.items()})
    last, moved, cpu = 0, max(at for part in plan.values() for _, at in part), before
    end = began
    time.sleep(max(0.0, moved - time.monotonic()))
    while last < expected and time.monotonic() - moved < QUIET_S:
        time.sleep(0.5)
        states = crowd.ask_all("state")
        if (got := sum(one["got"] for one in states)) > last:
            last, moved = got, max(moved, time.monotonic())
            end, cpu = time.monotonic(), sum(one["cpu"] for one in states)
    ours = {message for part in plan.values() for message, _ in part}  # and not what is left of the phase before
    came = [each for got in crowd.ask_all("results") for each in got if each[0] in ours]
    waits = sorted(wait for _, wait, _ in came) or [float("nan")]
    return Phase(
        100 * len(came) / expected,
        1000 * (cpu - before) / count / NODES,
        1000 * waits[len(waits) // 2],
        1000 * waits[int(0.99 * (len(waits) - 1))],
        end - began,
    )


def main(_: Path, rounds: int) -> dict[str, list[Round]]:
    """Measure and print; returns the rounds of each implementation."""
    commands = {
        OURS: (*PYTHON, "tests.bench.netours"),
        STOCK: (*PYTHON, "tests.bench.netstock"),
        JS: js("gossip.mjs"),
    }
    seen: dict[str, list[Round]] = {name: [] for name in commands}
    for number in range(1, rounds + 1):
        for name in random.sample(sorted(commands), len(commands)):
            seen[name].append(one := measure(commands[name], number, WARM_UP[name]))
            said = [f"{phase} {of.delivered:.0f} % {of.cpu_ms:.2f} ms" for phase, of in one.phases.items()]
            print(f"  round {number}, {name}: {', '.join(said)}", flush=True)
    print(f"  {NODES} processes, {rounds} rounds; median [lowest … highest]")
    for phase in (*PHASES, "burst"):
        heads = ("delivered %", "CPU ms a message and node", "p50 ms", "p99 ms", "until the last, s")
        forms = ("{:.1f}", "{:.2f}", "{:.0f}", "{:.0f}", "{:.1f}")
        rows = [[phase, *heads]]
        for name, all_of in seen.items():
            columns = zip(*(one.phases[phase] for one in all_of), strict=True)
            rows.append([name, *(spread(values, form) for values, form in zip(columns, forms, strict=True))])
        table(rows)
        for name in (STOCK, JS):
            pairs = zip(seen[OURS], seen[name], strict=True)
            ratios = [ours.phases[phase].cpu_ms / theirs.phases[phase].cpu_ms for ours, theirs in pairs]
            print(f"  CPU of ours / {name}: {spread(ratios)}")
    table([
        ("idle", "% of a core, a node", "MB a node", "peers in the mesh"),
        *(
            (name, spread([one.idle for one in of]), spread([one.mb for one in of], "{:.0f}"), spread([one.mesh for one in of], "{:.1f}"))
            for name, of in seen.items()
        ),
    ])  # fmt: skip
    return seen
