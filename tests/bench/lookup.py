"""Our routing table and look-up beside those of PyPI's kademlia, on the same nodes, contacts, targets and alpha.

Everybody answers truly. Each size and round runs in a process of its own, with other nodes. `rounds` is how many round trips
follow upon each other when all take equally long, and what stands before it is of those look-ups too. `seconds` and the recall
beside it are of the same look-ups with log-normal round trips, 1 s in the median (σ 0.5), as over built circuits of Tor: the
package waits for the slowest of each round, here without its own time-out; ours passes over what takes longer than its patience.
"""

import gc
import json
import random
import statistics
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from consensus.ids import Millis, NodeId
from node.overlay.lookup import Lookup, LookupLimits
from node.overlay.routing import RoutingLimits, Table, place
from tests.bench.measure import answer_of, spread, table
from tests.node.overlay.kad_world import START, follow, nodes_of, tor_ms, true_nearest
from tests.node.overlay.kademlia_package import WideTable, crawl, table_of

SIZES: Final = (1000, 5000, 10_000)
LOOK_UPS: Final = 150
K: Final = 20


class Case(NamedTuple):
    """Whose look-up, how many questions at a time, on how many disjoint paths."""

    name: str
    alpha: int
    paths: int


CASES: Final = (
    Case("kademlia, alpha 3", 3, 0),
    Case("ours, alpha 3, 1 path", 3, 1),
    Case("kademlia, alpha 10", 10, 0),
    Case("ours, alpha 10, 1 path", 10, 1),
    Case("ours as shipped: alpha 10, 2 paths", LookupLimits().alpha, LookupLimits().paths),
)


class Network:
    """Nodes whose tables hold up to k contacts of each distance, twice: in our table and in the package's."""

    def __init__(self, size: int, seed: int) -> None:
        self.rng = random.Random(seed)
        self.nodes = nodes_of(self.rng, size)
        self.by_place = {place(node): node for node in self.nodes}
        everybody = sorted(self.by_place)
        contacts = {at: _contacts(everybody, at, self.rng) for at in self.by_place}
        self.contacts = statistics.mean(map(len, contacts.values()))
        self.theirs: dict[int, WideTable]
        self.ours: dict[int, Table]
        self.theirs, their_cost = _built(lambda: {at: table_of(at, known, K) for at, known in contacts.items()})
        self.ours, our_cost = _built(lambda: {at: self._ours(at, known) for at, known in contacts.items()})
        self.build = {"kademlia": [cost / size for cost in their_cost], "ours": [cost / size for cost in our_cost]}
        for at, known in contacts.items():
            assert len(self.ours[at]) == sum(map(len, self.theirs[at].buckets)) == len(known)

    def _ours(self, at: int, contacts: Sequence[int]) -> Table:
        made = Table(self.by_place[at], RoutingLimits(bucket=K))
        for contact in contacts:
            made.seen(START, self.by_place[contact])
        return made

    def closest(self, at: int, target: int) -> list[NodeId]:
        """What a node of ours answers."""
        return self.ours[at].closest(target, K)

    def look_up(self, case: Case, me: int, target: int, ms: Callable[[], int]) -> tuple[list[int], int, int]:
        """The places found, how many questions it took, and how long."""
        if not case.paths:
            found, queries, _, took = crawl(self.theirs, me, target, K, case.alpha, ms)
            return found, queries, took
        limits = LookupLimits(k=K, alpha=case.alpha, paths=case.paths)
        lookup = Lookup(Millis(0), target, self.closest(me, target), self.by_place[me], limits)
        ended, _ = follow(lookup, lambda node: (ms(), self.closest(place(node), target)))
        return [place(node) for node in lookup.nearest()], lookup.queries, ended


def _contacts(everybody: Sequence[int], at: int, rng: random.Random) -> list[int]:
    """Up to k nodes of each distance from a place, by its highest bit, in random order; everybody is sorted."""
    found: list[int] = []
    for bit in range(255, 225, -1):
        low = ((at >> bit) ^ 1) << bit
        part = range(bisect_left(everybody, low), bisect_left(everybody, low + (1 << bit)))
        found += [everybody[number] for number in (part if len(part) <= K else rng.sample(part, K))]
    rng.shuffle(found)
    return found


def _built(make: Callable[[], dict[int, Any]]) -> tuple[dict[int, Any], tuple[float, float]]:
    """What make builds, with its CPU in ms and its memory in KB."""
    gc.collect()
    memory, began = _resident_kb(), time.process_time()
    made = make()
    return made, ((time.process_time() - began) * 1e3, _resident_kb() - memory)


def _resident_kb() -> float:
    return next(
        float(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line
    )


def measure(size: int, seed: int) -> dict[str, Any]:
    """One round at one size: for each case its figures."""
    network = Network(size, seed)
    places = list(network.by_place)
    tasks: list[tuple[int, int, list[int]]] = []
    while len(tasks) < LOOK_UPS:
        me, target = network.rng.choice(places), network.rng.getrandbits(256)
        truth = [place(node) for node in true_nearest(network.nodes, target, K)]
        if me not in truth:  # nobody has itself for a contact
            tasks.append((me, target, truth))
    figures: dict[str, Any] = {"contacts": network.contacts}
    for case in CASES:
        side = "ours" if case.paths else "kademlia"
        began = time.process_time()
        done = [network.look_up(case, me, target, lambda: 1000) for me, target, _ in tasks]
        cpu = time.process_time() - began
        ms = partial(tor_ms, random.Random(seed))
        slow = [network.look_up(case, me, target, ms) for me, target, _ in tasks]
        truths = [truth for _, _, truth in tasks]
        figures[case.name] = {
            "build_ms": network.build[side][0],
            "kb": network.build[side][1],
            "answer": 100 * statistics.mean(_answer_recall(network, side, near[0], target) for _, target, near in tasks),
            "recall": _recall(done, truths),
            "nearest": 100 * statistics.mean(truth[0] in found for (found, *_), truth in zip(done, truths, strict=True)),
            "queries": statistics.mean(queries for _, queries, _ in done),
            "rounds": statistics.mean(ms / 1000 for *_, ms in done),
            "seconds": statistics.median(ms for *_, ms in slow) / 1000,
            "slow_recall": _recall(slow, truths),
            "cpu_ms": 1000 * cpu / LOOK_UPS,
        }  # fmt: skip
    return figures


def _recall(done: Sequence[tuple[list[int], int, int]], truths: Sequence[list[int]]) -> float:
    """The per cent of the k nearest that look-ups found, in the mean."""
    return 100 * statistics.mean(len({*found} & {*truth}) / K for (found, *_), truth in zip(done, truths, strict=True))


def _answer_recall(network: Network, side: str, at: int, target: int) -> float:
    """The share of the k nearest among a node's contacts that one answer of it names.

    Only near the target is that a question: from afar the target's own bucket holds all k.
    """
    contacts = [node.long_id for bucket in network.theirs[at].buckets for node in bucket.get_nodes()]
    truth = {*sorted(contacts, key=target.__xor__)[:K]}
    if side == "kademlia":
        return len(truth & {*network.theirs[at].nearest(target, K)}) / len(truth)
    return len(truth & {place(node) for node in network.closest(at, target)}) / len(truth)


COLUMNS: Final = {
    "build_ms": ("table, CPU ms", "{:.2f}"),
    "kb": ("KB", "{:.0f}"),
    "answer": ("the nearest's answer: recall %", "{:.1f}"),
    "recall": ("look-up: recall %", "{:.1f}"),
    "nearest": ("nearest found %", "{:.1f}"),
    "queries": ("queries", "{:.1f}"),
    "rounds": ("rounds", "{:.1f}"),
    "seconds": ("seconds", "{:.1f}"),
    "slow_recall": ("recall % then", "{:.1f}"),
    "cpu_ms": ("CPU ms, all nodes", "{:.2f}"),
}


def main(folder: Path, rounds: int) -> dict[str, object]:
    """Measure and print; returns the figures."""
    whole: dict[str, object] = {}
    for size in SIZES:
        runs = [
            answer_of([sys.executable, "-P", "-m", "tests.bench.lookup", str(size), str(number)], cwd=folder)
            for number in range(1, rounds + 1)
        ]
        print(f"  {size:,} nodes, {statistics.mean(run['contacts'] for run in runs):.0f} contacts each, "
              f"{rounds} networks, {LOOK_UPS} look-ups of random keys in each", flush=True)  # fmt: skip
        rows = [("", *(head for head, _ in COLUMNS.values()))]
        rows += [
            (case.name, *(spread([run[case.name][key] for run in runs], form) for key, (_, form) in COLUMNS.items()))
            for case in CASES
        ]
        table(rows)
        whole[str(size)] = runs
    return whole


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
