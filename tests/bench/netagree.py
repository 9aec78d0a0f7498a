"""Whether the simulator tells the truth: one scenario of 20 nodes in netsim and in 20 processes on loopback.

The same machines, keys and limits: everybody begins with three bootstrap nodes, joins, subscribes, and 200 messages of
200 B are published, 5 a second, by random nodes. A publisher tells its mesh alone (`flood_bytes_max` 0), since otherwise
almost everything arrives in one hop. A delivery's hops are counted along who brought the message first. Both networks
take 250 ms for every frame, the processes through a transport that holds back what comes: else the scheduler of a busy
machine would decide who is first.

Agreed is, stated before anything was measured: 100 % delivered on both sides, and over all rounds together the mean of
hops within MEAN_APART and the shares of deliveries at each number of hops within SHARES_APART, summed and halved (the
total variation distance).
"""

import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import trio

from consensus.ids import NodeId
from netsim.links import LinkModel
from netsim.verify import CachedVerify
from netsim.world import World
from node.overlay.machine import Machine
from node.overlay.peer import Peer, PeerLimits
from node.overlay.topics import Delivered, GossipLimits, Publish, Subscribe
from tests.bench.measure import table
from tests.bench.netcrowd import PYTHON, Crowd, wait_until
from tests.bench.netload import DEGREE_LOW, HEAD, TOPIC, filled
from tests.bench.netours import SEED_KEYS, OurNode, keys_of, peer_of

NODES: Final = 20
MESSAGES: Final = 200
EVERY_S: Final = 0.2
SETTLE_S: Final = 60
LIMITS: Final = PeerLimits(gossip=GossipLimits(flood_bytes_max=0))
LATENCY_MS: Final = 250
LINKS: Final = LinkModel(
    latency_ms=LATENCY_MS, spread=0, jitter=0, dial_ms=1000, dial_spread=0, dial_failures=0, bytes_per_s=50_000_000, life_ms=0, silent=0
)  # fmt: skip
MEAN_APART: Final = 0.15
SHARES_APART: Final = 0.10


class Outcome(NamedTuple):
    """What became of the messages on one side."""

    delivered: int
    """Of MESSAGES · (NODES − 1)."""
    hops: Counter[int]
    mesh: float
    links: float


def _hops(brought: Mapping[int, Mapping[int, int]], authors: Sequence[int]) -> Counter[int]:
    """Deliveries by hops; brought: for each message, who had it first from whom."""
    found: Counter[int] = Counter()
    for message, sources in brought.items():
        for node in sources:
            count, at = 1, node
            while (at := sources[at]) != authors[message]:
                count += 1
            found[count] += 1
    return found


def simulated(seed: int) -> Outcome:
    """The scenario in netsim."""
    verify = CachedVerify()
    numbers = {NodeId(keys_of(number).public): number for number in range(NODES)}

    def make(me: NodeId, rng: Random, records: Mapping[Any, bytes]) -> Machine:
        del records  # nobody restarts
        return peer_of(numbers[me], rng, verify, lambda _node: (), LIMITS, SEED_KEYS)

    world = World(seed, make, LINKS)
    brought: dict[int, dict[int, int]] = {message: {} for message in range(MESSAGES)}

    def delivered(_now: int, node: int, fact: Delivered) -> None:
        if fact.source != (me := world.nodes[node].id) and fact.author != me:
            brought[HEAD.unpack_from(fact.data)[1]][node] = numbers[fact.source]

    world.on_fact(Delivered, delivered)
    begun, rng = world.now, Random(seed)
    for node in numbers:
        world.add(node)
    world.run(begun + 1000)
    for number in range(NODES):
        world.command(number, Subscribe(TOPIC))
    world.run(begun + 1000 * SETTLE_S)
    peers = [node.machine for node in world.nodes if isinstance(node.machine, Peer)]
    mesh, links = _means([(len(peer.gossip.mesh(TOPIC)), len(peer.connected)) for peer in peers])
    authors = []
    for message in range(MESSAGES):
        authors.append(rng.randrange(NODES))
        world.command(authors[-1], Publish(TOPIC, filled(message)))
        world.run(world.now + int(1000 * EVERY_S))
    world.run(world.now + 10_000)
    return Outcome(sum(map(len, brought.values())), _hops(brought, authors), mesh, links)


def real(seed: int) -> Outcome:
    """The scenario in processes."""
    rng = random.Random(seed)
    with Crowd((*PYTHON, "tests.bench.netagree"), NODES) as crowd:
        crowd.ask({number: {"do": "meet", "all": crowd.addresses} for number in range(NODES)})
        time.sleep(SETTLE_S)
        if not wait_until(lambda: min(one["mesh"] for one in crowd.ask_all("state")) >= DEGREE_LOW, SETTLE_S):
            raise RuntimeError(f"a mesh of fewer than {DEGREE_LOW} peers after two minutes")
        mesh, links = _means([(one["mesh"], one["links"]) for one in crowd.ask_all("state")])
        start = time.monotonic() + 1
        authors = [rng.randrange(NODES) for _ in range(MESSAGES)]
        plan: dict[int, list[tuple[int, float]]] = {}
        for message, author in enumerate(authors):
            plan.setdefault(author, []).append((message, start + EVERY_S * message))
        crowd.ask({number: {"do": "publish", "plan": part} for number, part in plan.items()})
        time.sleep(EVERY_S * MESSAGES)
        expected = MESSAGES * (NODES - 1)
        wait_until(lambda: sum(one["got"] for one in crowd.ask_all("state")) == expected, 60)
        brought: dict[int, dict[int, int]] = {message: {} for message in range(MESSAGES)}
        numbers = {keys_of(number).public.hex()[:8]: number for number in range(NODES)}
        for node, got in enumerate(crowd.ask_all("results")):
            for message, _, source in got:
                brought[message][node] = numbers[source]
    return Outcome(sum(map(len, brought.values())), _hops(brought, authors), mesh, links)


def _means(values: Iterable[tuple[int, int]]) -> tuple[float, float]:
    meshes, links = zip(*values, strict=True)
    return statistics.mean(meshes), statistics.mean(links)


def main(_: Path, rounds: int) -> None:
    """Measure and print; raises RuntimeError when the two sides do not agree."""
    sides = {
        "netsim": [simulated(seed) for seed in range(1, rounds + 1)],
        "processes": [real(seed) for seed in range(1, rounds + 1)],
    }
    rows = [["", "delivered %", "mean hops", "mean of each round", "1 hop %", "2 %", "3 %", "more %", "mesh", "links"]]
    shares: list[dict[int, float]] = []
    means: list[float] = []
    for name, outcomes in sides.items():
        hops = sum((one.hops for one in outcomes), Counter[int]())
        total = hops.total()
        shares.append({count: number / total for count, number in hops.items()})
        means.append(_mean(hops))
        rows.append([
            name,
            f"{100 * sum(one.delivered for one in outcomes) / (rounds * MESSAGES * (NODES - 1)):.2f}",
            f"{means[-1]:.3f}",
            " ".join(f"{_mean(one.hops):.2f}" for one in outcomes),
            *(f"{100 * shares[-1].get(count, 0):.1f}" for count in (1, 2, 3)),
            f"{100 * sum(share for count, share in shares[-1].items() if count > 3):.1f}",
            f"{statistics.mean(one.mesh for one in outcomes):.1f}",
            f"{statistics.mean(one.links for one in outcomes):.1f}",
        ])  # fmt: skip
    table(rows)
    apart = abs(means[0] - means[1])
    variation = sum(abs(shares[0].get(count, 0) - shares[1].get(count, 0)) for count in {*shares[0], *shares[1]}) / 2
    print(f"  apart: mean {apart:.3f} (at most {MEAN_APART}), shares {variation:.3f} (at most {SHARES_APART})")
    everything = all(one.delivered == MESSAGES * (NODES - 1) for outcomes in sides.values() for one in outcomes)
    if not (everything and apart <= MEAN_APART and variation <= SHARES_APART):
        raise RuntimeError("the simulator and the processes do not agree")


def _mean(hops: Counter[int]) -> float:
    return sum(count * number for count, number in hops.items()) / hops.total()


if __name__ == "__main__":
    trio.run(OurNode(int(sys.argv[1]), LIMITS, SEED_KEYS, LATENCY_MS / 1000).run)
