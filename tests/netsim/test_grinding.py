"""What an owner with nodes of his own gets onto them, by what he may choose before the holders of his chunks are drawn.

Drawn without choice, his nodes get their share, ground ids or not. Each thing that he may choose after the seed is known is
a draw more, and consensus/README.md says what has to take it from him.
"""

from collections.abc import Iterable
from math import sqrt
from random import Random

import pytest

from consensus.ids import Digest, Network, NodeId
from consensus.placement import REPLICAS, REVEALED, Registrant, first_holders, opening, order, placement_key
from netsim.seeds import derive
from node.overlay.custody import ReplicateLimits

NETWORK = Network(b"n" * 32)
NODES, OWN = 100, 20
ATTEMPTS = 400
SIZE = 8_000_000
OWNER = b"the owner's first identity"


def beacon(slot: int) -> Digest:
    return Digest(derive(4, "beacon", slot).randbytes(32))


def drawn(rng: Random) -> Digest:
    return Digest(rng.randbytes(32))


def ground(rng: Random) -> NodeId:
    """The best of fifty ids by the seeds that are known when they are made."""
    keys = [placement_key(NETWORK, beacon(slot), Digest(bytes(32)), 0) for slot in range(5)]
    tried = [NodeId(rng.randbytes(32)) for _ in range(50)]
    rivals = [Registrant(node, node, SIZE) for node in tried]
    ranks = [order(key, rivals, SIZE, len(rivals)) for key in keys]
    return min(tried, key=lambda node: sum(each.index(node) for each in ranks))


def network() -> tuple[list[Registrant], frozenset[NodeId]]:
    """Everybody, and the owner's, each of his nodes under an entity of its own."""
    rng = derive(4, "nodes")
    own = [ground(rng) for _ in range(OWN)]
    nodes = [*own, *(NodeId(rng.randbytes(32)) for _ in range(NODES - OWN))]
    return [Registrant(node, node, SIZE) for node in nodes], frozenset(own)


REGISTRY, MINE = network()


def mine(seed: Digest, chunk: Digest) -> int:
    """How many of a chunk's first holders are the owner's."""
    return sum(node in MINE for node in first_holders(NETWORK, seed, chunk, SIZE, OWNER, REGISTRY))


def share(won: Iterable[int]) -> float:
    got = list(won)
    return sum(got) / (REPLICAS * len(got))


def test_whose_chunk_and_slot_are_fixed_before_the_seed_gets_no_more_than_his_share_of_the_nodes() -> None:
    rng = derive(4, "fixed")
    got = share(mine(beacon(1000 + at + REVEALED), drawn(rng)) for at in range(ATTEMPTS))
    fair = OWN / NODES
    assert abs(got - fair) < 3 * sqrt(fair * (1 - fair) / (REPLICAS * ATTEMPTS))


@pytest.mark.component
def test_every_choice_after_the_seed_is_known_is_a_draw_more() -> None:
    rng = derive(4, "chosen")
    first, end = opening(1000, 30)
    slots = [max(mine(beacon(slot + REVEALED), drawn(rng)) for slot in range(first, end)) for _ in range(1)]
    sealed_anew = [max(mine(beacon(1002), drawn(rng)) for _ in range(500)) for _ in range(3)]
    skipped = []
    for _ in range(20):
        chunk, taken = drawn(rng), set[NodeId]()
        for j in range(REPLICAS):
            ranked = order(placement_key(NETWORK, beacon(1002), chunk, j), REGISTRY, SIZE, ReplicateLimits().ranks_max)
            taken.update([node for node in ranked if node in MINE and node not in taken][:1])
        skipped.append(len(taken))
    assert (share(slots), share(sealed_anew), share(skipped)) == (1, 1, 1)
