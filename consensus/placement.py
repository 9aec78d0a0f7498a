"""Who shall hold a replica, who watches over it, and who comes next: drawn from a seed, so that nobody chooses.

    key of replica j = H("place" ‖ seed ‖ chunk ‖ j)      order = nodes by BLAKE3-keyed(key, node id), ascending

Rendezvous hashing: a node that comes or goes moves only its own share, every node has the same chance whatever its id
(with plain distances an id ground into a wide gap would draw more), and each replica has an order of its own, so that the
load of one that fails spreads over all. The seed is that of the deposit's open slot + 2 (CONSENSUS §4), and a holder takes
a first replica only of a deposit opened about now. One entity holds one replica of a chunk, the owner's entity none.

Source: CONSENSUS §4; Thaler & Ravishankar, "Using name-based mappings to increase hit rates" (1998).
"""

from collections.abc import Collection, Mapping, Sequence
from heapq import nsmallest
from typing import Final, NamedTuple

from blake3 import blake3

from consensus.ids import Digest, Network, NodeId
from consensus.signing import digest

REPLICAS: Final = 3
"""R: encoded replicas of a chunk, each on an entity of its own."""

MEMBERS_MAX: Final = 7
"""Holders of one chunk that lots are drawn for; more than R stand only between a repair and the ERA's end."""


REVEALED: Final = 2
"""Slots from a deposit's opening to the one whose seed draws its holders."""

PLACING_HOURS: Final = 24
"""How long a deposit may be without any holder; then its owner opens it anew, under another seed."""

SKEW_HOURS: Final = 2
"""By how much the HOURs of two honest nodes may differ, and what they say to each other still counts."""


class Registrant(NamedTuple):
    """A node of the ERA's registry: the entity whose work it does, and the bytes that it offers."""

    node: NodeId
    entity: bytes
    capacity: int


def placement_key(network: Network, seed: Digest, chunk: Digest, j: int) -> Digest:
    """The key that orders the nodes for replica j: H("place" ‖ seed ‖ chunk ‖ j u8) in its domain; j of 0 to 255."""
    return digest("place", network, seed + chunk + bytes((j,)))


def order(key: Digest, registry: Sequence[Registrant], size: int, first: int) -> tuple[NodeId, ...]:
    """The first so many nodes for the replica of a key, best first, of those that offer room for size bytes.

    Independent of the registry's own order. Costs one hash for each registrant: about 1 ms for 1,000.
    """
    scored = [(blake3(one.node, key=key).digest(), one.node) for one in registry if one.capacity >= size]
    return tuple(node for _, node in nsmallest(first, scored))


def drawn(key: Digest, node: NodeId, eligible: int, ranks: int) -> bool:
    """Whether a node is among the first of a key's order, of so many that have room, as far as its own score tells.

    As many as `ranks` are on average, and all where no more have room; costs one hash, where the order costs one for each.
    """
    score = int.from_bytes(blake3(node, key=key).digest(), "big")
    return score * eligible < ranks << 256


def opening(hour: int, hour_slots: int) -> tuple[int, int]:
    """The slots, first and excluded last, of which a deposit without a holder may be by the clock of its owner in an HOUR."""
    return (hour - PLACING_HOURS) * hour_slots, (hour + 1) * hour_slots


def admitted(hour: int, hour_slots: int) -> tuple[int, int]:
    """The same by the clock of whoever is asked to hold it, which may be SKEW_HOURS behind the owner's, or ahead."""
    first, end = opening(hour, hour_slots)
    return first - SKEW_HOURS * hour_slots, end + SKEW_HOURS * hour_slots


def next_holder(
    order: Sequence[NodeId],
    entities: Mapping[NodeId, bytes],
    taken: Collection[bytes],
    passed_over: Collection[NodeId],
) -> NodeId | None:
    """The first of the order whose entity is known and not taken, and which nobody has passed over; None when none is."""
    for node in order:
        entity = entities.get(node)
        if entity is not None and entity not in taken and node not in passed_over:
            return node
    return None


def first_holders(
    network: Network, seed: Digest, chunk: Digest, size: int, owner_entity: bytes, registry: Sequence[Registrant]
) -> tuple[NodeId | None, ...]:
    """Whom the seed names for replicas 0 to R − 1 if all are there and willing: distinct entities, none the owner's."""
    entities = {one.node: one.entity for one in registry}
    taken = {owner_entity}
    chosen: list[NodeId | None] = []
    for j in range(REPLICAS):
        ranked = order(placement_key(network, seed, chunk, j), registry, size, len(registry))
        node = next_holder(ranked, entities, taken, ())
        if node is not None:
            taken.add(entities[node])
        chosen.append(node)
    return tuple(chosen)


def lots(network: Network, seed: Digest, chunk: Digest, hour: int) -> Digest:
    """An HOUR's lots for the members of one chunk, 32 bytes: read them with `watcher` and `leader`."""
    return digest("watch", network, seed + chunk + hour.to_bytes(8, "big"))


def watcher(drawn: Digest, holders: Sequence[NodeId], target: int, owner: NodeId) -> NodeId:
    """Who challenges the holder at an index of the sorted holders this HOUR: one of the other holders, or the owner.

    Those have the means: they know the root. At most MEMBERS_MAX holders; the bias of the draw is below 2⁻²⁹.
    """
    at = int.from_bytes(drawn[4 * target : 4 * target + 4], "big") % len(holders)
    if at == len(holders) - 1:
        return owner
    return holders[at if at < target else at + 1]


def leader(drawn: Digest, holders: Sequence[NodeId]) -> NodeId:
    """Which of the sorted holders starts a repair this HOUR; at least one."""
    return holders[int.from_bytes(drawn[28:], "big") % len(holders)]
