"""Who belongs to an ERA: each node with its keys, for whom it works and since when, fixed before the ERA begins.

Source: CONSENSUS §3, §7.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from consensus.admission import PoolRegistration, Registration
from consensus.ids import Address, NodeId


class Member(NamedTuple):
    """A registered node."""

    node: NodeId
    entity: bytes
    """Its pool, or itself."""
    era_key: bytes
    vrf_key: bytes
    address: Address
    capacity: int
    """Bytes offered for replicas."""
    since: int
    """The HOUR from which on it has been registered without a break."""


class Pool(NamedTuple):
    """A registered pool."""

    keys: tuple[bytes, ...]
    threshold: int
    vrf_key: bytes
    address: Address


class Registry(NamedTuple):
    """The nodes and pools of one ERA."""

    era: int
    members: Mapping[NodeId, Member]
    """In the order of their ids."""
    entities: Mapping[NodeId, bytes]
    """Each node's entity, in the same order."""
    order: tuple[NodeId, ...]
    pools: Mapping[bytes, Pool]


def registry_of(era: int, members: Iterable[Member], pools: Mapping[bytes, Pool]) -> Registry:
    """The registry of members in any order, and of pools."""
    ordered = {member.node: member for member in sorted(members)}
    entities = {node: member.entity for node, member in ordered.items()}
    return Registry(era, ordered, entities, tuple(ordered), dict(sorted(pools.items())))


def founding(founders: Iterable[NodeId], addresses: Mapping[NodeId, Address]) -> Registry:
    """The registry of the first ERA: the founders, each with its identity as era key and VRF key."""
    nothing = Address(bytes(20))
    return registry_of(0, [Member(one, one, one, one, addresses.get(one, nothing), 0, 0) for one in founders], {})


def following(
    before: Registry,
    joining: Mapping[NodeId, Registration],
    pools: Mapping[bytes, PoolRegistration],
    hour: int,
    server: NodeId,
) -> Registry:
    """The registry of the ERA that begins with an HOUR, from who registered for it.

    A node works for a pool that it names if the pool names it, else for itself.

    The Server keeps its place, being the last who can publish; where nobody registered all do.
    """
    if not joining:
        return before._replace(era=before.era + 1)
    members = []
    if server in before.members and server not in joining:
        kept = before.members[server]
        members.append(kept._replace(entity=_entity(server, kept.entity, pools)))
    for node, one in joining.items():
        known = before.members.get(node)
        since = hour if known is None else known.since
        entity = _entity(node, one.pool, pools)
        members.append(Member(node, entity, one.era_key, one.vrf_key, one.address, one.capacity, since))
    made = {name: Pool(one.keys, one.threshold, one.vrf_key, one.address) for name, one in pools.items()}
    return registry_of(before.era + 1, members, made)


def _entity(node: NodeId, wanted: bytes | None, pools: Mapping[bytes, PoolRegistration]) -> bytes:
    """For whom a node works: the pool that it wants, if that is registered and names the node; else itself."""
    return wanted if wanted is not None and wanted in pools and node in pools[wanted].members else node
