"""The sessions that a slot will pay for, and what the chain has of their storage: a part of the state.

    commitments ── seed of two slots later ── receipts of whom it drew ── one of them shown ── closed ──→ `due`, so many slots on

Sessions are followed from their first commitment or their closing on, at most 8 of an owner: until the slot has passed that
pays for them, or for 24 HOURs after the last thing that was heard of an open one.

Accounts stand for the nodes that registered them. A receipt counts where the seed drew its node: its score is below
PAID_RANKS shares of the nodes with room, so one hash tells, however many nodes there are (16 are drawn on average; whoever
stands within the first eight of the order is among them in 99.6 of 100 cases, and where 16 or fewer have room all are).
Nothing here is invalid: what does not count is passed over, since anybody may call the contracts with anything.

Source: CONSENSUS §4, §8.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from consensus.beacon import REPLICA_BYTES_MAX
from consensus.encoding import Value
from consensus.ids import Address, Digest, Network, NodeId, SessionId
from consensus.news import ChunksNamed, ReplicasHeld, ReplicaShown, SessionEnded, SessionNews
from consensus.placement import REPLICAS, REVEALED, drawn, placement_key
from consensus.registry import Member, Registry
from consensus.reward import OWNER_HOURS, ClosedSession, Receipted, counted, paid_slots, recent

OWNED_MAX: Final = 8
"""Sessions of one owner that are followed at a time; two in 24 HOURs count."""
CHUNKS_MAX: Final = 256
"""Chunks of a session that count."""
FOLLOWED_HOURS: Final = 24
"""How long an open session is followed after the last that was heard of it."""
PAID_RANKS: Final = 16


class StoredChunk(NamedTuple):
    """A chunk that was committed to in a block."""

    chunk: Digest
    size: int
    """0 for one that counts for nothing: of no size, of one that cannot be, or of another session already."""
    roots: Digest
    slot: int
    """Of that block."""
    seed: bytes
    """That which draws its holders, of two slots later; nothing before."""
    holders: tuple[tuple[NodeId, bytes], ...]
    """Who holds it and was drawn to, with its entity."""


class StoredSession(NamedTuple):
    """A session that later slots may pay for."""

    closed: int
    """The slot of the block that has its closing; 0 while it is open."""
    heard: int
    """The slot of the last block that had something of it from its owner."""
    owner: bytes
    """The owner's entity."""
    chunks: tuple[StoredChunk, ...]
    passed: int
    """Challenges that holders have passed."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Of one branch; never changed."""

    sessions: Mapping[SessionId, StoredSession] = field(default_factory=dict)
    paid: tuple[tuple[int, bytes], ...] = ()
    """The slots in which sessions were closed that counted, and their owners: of the last 24 HOURs."""


NOTHING: Final = Storage()


def revealed(storage: Storage, slot: int, seed: Digest) -> Storage:
    """After the seed of a slot is known: it draws the holders of what was committed to two slots before."""
    wanted = slot - REVEALED
    drawing = {name: one for name, one in storage.sessions.items() if any(chunk.slot == wanted for chunk in one.chunks)}
    if not drawing:
        return storage
    made = {
        name: one._replace(
            chunks=tuple(chunk._replace(seed=seed) if chunk.slot == wanted else chunk for chunk in one.chunks)
        )
        for name, one in drawing.items()
    }
    return Storage({**storage.sessions, **made}, storage.paid)


def due(storage: Storage, slot: int, hour_slots: int) -> tuple[ClosedSession, ...]:
    """The sessions that a slot pays for; storage is that at its beginning."""
    closed = slot - paid_slots(hour_slots)
    if closed <= 0:
        return ()
    found = [_closed(name, one) for name, one in storage.sessions.items() if one.closed == closed]
    return counted(found, recent(storage.paid, closed, hour_slots)) if found else ()


def _closed(name: SessionId, one: StoredSession) -> ClosedSession:
    receipts = tuple(
        Receipted(chunk.chunk, chunk.size, entity, placed=True)
        for chunk in one.chunks
        if chunk.size
        for _, entity in chunk.holders
    )
    return ClosedSession(name, one.owner, receipts, one.passed)


def settled(storage: Storage, slot: int, hour_slots: int, paid: Iterable[ClosedSession]) -> Storage:
    """After a slot has paid for sessions: those whose slot has passed are forgotten, who was paid for is remembered."""
    if storage is NOTHING:
        return storage
    closed, silent = slot - paid_slots(hour_slots), slot - FOLLOWED_HOURS * hour_slots
    sessions = {
        name: one
        for name, one in storage.sessions.items()
        if (one.closed > closed if one.closed else one.heard > silent)
    }
    first = closed - OWNER_HOURS * hour_slots
    history = (*(one for one in storage.paid if one[0] > first), *((closed, one.owner) for one in paid))
    return Storage(sessions, history) if sessions or history else NOTHING


def learned(storage: Storage, news: Iterable[SessionNews], slot: int, registry: Registry, network: Network) -> Storage:
    """After a block of a slot with news, by the registry of its ERA. Costs O(nodes) once, and a hash for each receipt."""
    accounts: dict[Address, list[Member]] = {}
    for member in registry.members.values():
        accounts.setdefault(member.address, []).append(member)
    rooms = sorted(member.capacity for member in registry.members.values())
    sessions = dict(storage.sessions)
    named = {chunk.chunk for known in sessions.values() for chunk in known.chunks}
    for one in news:
        known = sessions.get(one.session)
        if known is None and isinstance(one, SessionEnded | ChunksNamed):
            known = _begun(sessions.values(), accounts.get(one.owner))
        if known is None:
            continue
        match one:
            case SessionEnded():
                known = known._replace(closed=slot, heard=slot)
            case ChunksNamed():
                known = _name(known, one, slot, named)._replace(heard=slot)
            case ReplicasHeld():
                known = _hold(known, one, accounts, rooms, network)
            case _:
                known = _show(known, one, accounts)
        sessions[one.session] = known
    return Storage(sessions, storage.paid) if sessions or storage.paid else NOTHING


def _begun(followed: Iterable[StoredSession], owners: Sequence[Member] | None) -> StoredSession | None:
    """A session of a registered owner who has not too many that are followed."""
    if owners is None:
        return None
    entity = owners[0].entity
    owned = sum(known.owner == entity for known in followed)
    return StoredSession(0, 0, entity, (), 0) if owned < OWNED_MAX else None


def _name(known: StoredSession, one: ChunksNamed, slot: int, named: set[Digest]) -> StoredSession:
    """Chunks are committed to in their order, each for one session: in another it has no size."""
    if one.first != len(known.chunks):
        return known
    made = list(known.chunks)
    for chunk in one.chunks[: CHUNKS_MAX - len(made)]:
        size = 0 if chunk.size > REPLICA_BYTES_MAX or chunk.chunk in named else chunk.size
        made.append(StoredChunk(chunk.chunk, size, chunk.roots, slot, b"", ()))
        named.add(chunk.chunk)
    return known._replace(chunks=tuple(made))


def _hold(
    known: StoredSession,
    one: ReplicasHeld,
    accounts: Mapping[Address, list[Member]],
    rooms: Sequence[int],
    network: Network,
) -> StoredSession:
    """Add whom the seed drew to the holders of chunks."""
    nodes = [member for member in accounts.get(one.holder, ()) if member.entity != known.owner]
    if not nodes or one.replica >= REPLICAS:
        return known
    chunks = list(known.chunks)
    for number in range(one.first, min(len(chunks), one.first + one.bits.bit_length())):
        chunk = chunks[number]
        if not one.bits >> (number - one.first) & 1 or not chunk.size or not chunk.seed:
            continue
        key = placement_key(network, Digest(chunk.seed), chunk.chunk, one.replica)
        eligible = len(rooms) - bisect_left(rooms, chunk.size)
        for member in nodes:
            entry = (member.node, member.entity)
            if (
                member.capacity >= chunk.size
                and entry not in chunk.holders
                and drawn(key, member.node, eligible, PAID_RANKS)
            ):
                chunk = chunks[number] = chunk._replace(holders=tuple(sorted((*chunk.holders, entry))))
    return known._replace(chunks=tuple(chunks))


def _show(known: StoredSession, one: ReplicaShown, accounts: Mapping[Address, list[Member]]) -> StoredSession:
    """A holder of a chunk was challenged by another holder of it, who works for somebody else."""
    if one.number >= len(known.chunks):
        return known
    holders = dict(known.chunks[one.number].holders)
    shown, asked = (
        {holders[member.node] for member in accounts.get(account, ()) if member.node in holders}
        for account in (one.holder, one.prober)
    )
    passes = any(entity != other for entity in shown for other in asked)
    return known._replace(passed=known.passed + passes)


# ---------------------------------------------------------------------- as a value


def spell_storage(storage: Storage) -> Value:
    """Storage as a state spells it."""
    sessions: list[Value] = [
        [
            name,
            one.closed,
            one.heard,
            one.owner,
            one.passed,
            [[*chunk[:5], [list(holder) for holder in chunk.holders]] for chunk in one.chunks],
        ]
        for name, one in sorted(storage.sessions.items())
    ]
    return [sessions, [list(one) for one in storage.paid]]


def read_storage(value: Any) -> Storage:
    """The storage that a value spells. Raises what any mismatch of shapes raises: whoever reads a stranger's checks its digest."""
    sessions, paid = value
    found = {
        name: StoredSession(
            closed,
            heard,
            owner,
            tuple(
                StoredChunk(chunk, size, roots, at, seed, tuple((node, entity) for node, entity in holders))
                for chunk, size, roots, at, seed, holders in chunks
            ),
            passed,
        )
        for name, closed, heard, owner, passed, chunks in sessions
    }
    return Storage(found, tuple((at, owner) for at, owner in paid))
