"""Getting values from a DHT of 50 processes on loopback: ours beside js-libp2p's kad-dht, k = 20 both.

Everybody begins with three nodes and looks itself up until every table has K contacts or FILLS rounds are over. Then
random nodes put KEYS values, one after the other, and others get each of them GETS times. A get ends with the newest value:
ours when a quorum of five has answered, js-libp2p's when its look-up ends. Ours checks an Ed25519 signature on every value, the
other one nothing. Times are measured in the node that asks.
"""

import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import trio

from node.overlay.peer import PeerLimits
from tests.bench.measure import spread, table
from tests.bench.netcrowd import PYTHON, Crowd, js
from tests.bench.netours import SEED_KEYS, OurNode

NODES: Final = 50
K: Final = 20
FILLS: Final = 4
KEYS: Final = 20
GETS: Final = 3
OURS, JS = "ours", "js-libp2p"


class Round(NamedTuple):
    """One implementation once."""

    found: float
    """Of a hundred gets, those with the right value."""
    p50_ms: float
    p90_ms: float
    cpu_ms: float
    """Of all nodes, a get."""
    contacts: float
    kept: float
    """Nodes that kept a value."""


def measure(command: Sequence[str], seed: int) -> Round:
    """One round of one implementation."""
    rng = random.Random(seed)
    with Crowd(command, NODES) as crowd:
        for number in range(NODES):
            crowd.ask({number: {"do": "meet", "all": crowd.addresses}})
        contacts = [0]
        for _ in range(FILLS):
            contacts = crowd.ask_all("fill")
            if min(contacts) >= K:
                break
        put: dict[str, int] = {}
        kept = []
        for name in range(KEYS):
            at = rng.randrange(NODES)
            ((_, answer),) = crowd.ask({at: {"do": "put", "name": str(name)}}).items()
            put[answer["address"]] = at
            kept.append(answer["kept"])
        took, right = [], 0
        before = sum(one["cpu"] for one in crowd.ask_all("state"))
        wanted = [(address, name) for name, address in enumerate(put)] * GETS
        for address, name in rng.sample(wanted, len(wanted)):
            at = rng.choice([number for number in range(NODES) if number != put[address]])
            ((_, answer),) = crowd.ask({at: {"do": "get", "address": address}}).items()
            took.append(answer.get("ms", float("inf")))
            right += answer.get("found") == f"the value of {name}"
        cpu = sum(one["cpu"] for one in crowd.ask_all("state")) - before
        took.sort()
        middle, high = took[len(took) // 2], took[9 * len(took) // 10]
        return Round(
            100 * right / len(took),
            middle,
            high,
            1000 * cpu / len(took),
            statistics.mean(contacts),
            statistics.mean(kept),
        )


def main(_: Path, rounds: int) -> dict[str, list[Round]]:
    """Measure and print; returns the rounds of each implementation."""
    commands = {OURS: (*PYTHON, "tests.bench.netdht"), JS: js("dht.mjs")}
    seen: dict[str, list[Round]] = {name: [] for name in commands}
    for number in range(1, rounds + 1):
        for name in random.sample(sorted(commands), len(commands)):
            seen[name].append(one := measure(commands[name], number))
            print(f"  round {number}, {name}: {one.found:.0f} %, p50 {one.p50_ms:.0f} ms", flush=True)
    print(f"  {NODES} processes, {KEYS} values, {KEYS * GETS} gets, {rounds} rounds; median [lowest … highest]")
    heads = ("found %", "get p50 ms", "p90 ms", "CPU ms a get, all nodes", "contacts", "kept by")
    forms = ("{:.1f}", "{:.1f}", "{:.1f}", "{:.1f}", "{:.1f}", "{:.1f}")
    rows = [["", *heads]]
    for name, of in seen.items():
        rows.append([name, *(spread(one, form) for one, form in zip(zip(*of, strict=True), forms, strict=True))])
    table(rows)
    ratios = [ours.p50_ms / theirs.p50_ms for ours, theirs in zip(seen[OURS], seen[JS], strict=True)]
    print(f"  get p50 of ours / {JS}: {spread(ratios)}")
    return seen


if __name__ == "__main__":
    trio.run(OurNode(int(sys.argv[1]), PeerLimits(), SEED_KEYS).run)
