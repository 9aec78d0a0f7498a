"""What is known on one branch: the checkpoints that still matter, and what the blocks of the present HOUR brought.

A State is never changed: a block that breaks a rule leaves no trace, and branches share what they have in common. All of
it follows from the branch's own blocks: no clock, no peer and no "final" of a node's own enters.

Source: CONSENSUS §2, §5, §6.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, TypeAlias

from consensus.block import BlockHeader, skipped_seed
from consensus.checkpoint import (
    Checkpoint,
    Constitution,
    Happened,
    genesis_checkpoint,
    name_of,
    part_digests,
    roll,
)
from consensus.encoding import Value, encode
from consensus.facts import Minting
from consensus.finality import Point
from consensus.ids import Address, Digest, NodeId
from consensus.params import SERVER_RANK, STATE_HOURS, settled_hours
from consensus.payload import FIRST
from consensus.registry import Registry
from consensus.schedule import cooldown, ranks
from consensus.signing import digest
from consensus.storage import NOTHING, Storage, revealed, spell_storage

Links: TypeAlias = Mapping[tuple[Point, Point], frozenset[NodeId]]

RECENT: Final = 4
"""Checkpoints that are kept beside those that reports may still be for."""


class Published(NamedTuple):
    """A slot with a block: who could have led, who did, and who showed a header of its own that came too late."""

    slot: int
    drawn: tuple[bytes, ...]
    rank: int
    busy: bool
    before: Digest
    """The seed of the slot before."""
    uncles: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class State:
    """What is known on one branch after a slot."""

    id: Digest
    """The last block; the genesis is named by the network."""
    state: Digest
    """The digest of the whole state at the beginning of the present HOUR: what a header of the HOUR says."""
    slot: int
    height: int
    rank: int
    seed: Digest
    recent: tuple[Checkpoint, ...]
    """The last of them is that of the present HOUR."""
    names: tuple[Digest, ...]
    """Their digests."""
    at_final: Checkpoint
    happened: Happened
    """In the present HOUR."""
    published: tuple[Published, ...] = ()
    """The slots whose misses are not charged yet."""
    publishers: tuple[tuple[int, bytes], ...] = ()
    """Who published within the longest cooldown."""
    payload: Digest = FIRST
    """What the execution layer calls the last block's payload."""
    granted: tuple[Address, ...] = ()
    """Who registered with the last block: the next one gives them coins."""
    payout: Minting | None = None
    """What the last block is worth: the next one mints it."""
    minted: int = 0
    """In LUCID: what all blocks up to the last were worth."""
    storage: Storage = NOTHING
    """The closed sessions that later slots pay for, and who stores them."""
    links: Links = field(default_factory=dict)
    """Who voted from which source to which of the last two targets, on this branch."""

    @property
    def checkpoint(self) -> Checkpoint:
        """That of the present HOUR."""
        return self.recent[-1]

    @property
    def final(self) -> Point:
        """The last final checkpoint of this branch."""
        return self.happened.final

    @property
    def justified(self) -> Point:
        """The last justified one."""
        return Point(hour := max(self.happened.justified), self.happened.justified[hour])


def genesis_state(law: Constitution, registry: Registry) -> State:
    """The state before slot 1: slot 0 is the genesis itself."""
    first = genesis_checkpoint(law, registry)
    happened, parts = Happened(first.justified, first.final), part_digests(law, first)
    made = State(
        id=first.block,
        state=first.block,
        slot=0,
        height=0,
        rank=0,
        seed=first.seed,
        recent=(first,),
        names=(name_of(law, parts),),
        at_final=first,
        happened=happened,
    )
    return replace(made, state=_digest(law, made, parts))


def parts_of(law: Constitution, state: State) -> tuple[Digest, ...]:
    """The digests of a state's parts at the beginning of its HOUR, so that one can be shown without the others.

    Those of its checkpoint come first (`part_digests`); then all the checkpoints before, and what their blocks left open.
    """
    return _with_rest(law, state, part_digests(law, state.checkpoint))


def state_digest(law: Constitution, state: State) -> Digest:
    """The name of a whole state at the beginning of its HOUR: whoever has it and knows a header of the HOUR can begin there."""
    return _digest(law, state, part_digests(law, state.checkpoint))


def _digest(law: Constitution, state: State, parts: tuple[Digest, ...]) -> Digest:
    return digest("state", law.network, b"".join(_with_rest(law, state, parts)))


def _with_rest(law: Constitution, state: State, parts: tuple[Digest, ...]) -> tuple[Digest, ...]:
    before = digest("recent", law.network, b"".join(state.names[:-1]))
    return (*parts, before, digest("part", law.network, encode(left_open(state))))


def left_open(state: State) -> Value:
    """What no checkpoint says of a state at the beginning of its HOUR: its last payload, slots to be charged, who rests, votes that may be joined, sessions to be paid for."""
    return [
        [state.height, state.rank, state.payload, list(state.granted), list(state.payout or ()), state.minted],
        [[one.slot, list(one.drawn), one.rank, one.busy, one.before, list(one.uncles)] for one in state.published],
        [list(one) for one in state.publishers],
        [
            [list(source), list(target), [*map(bytes, sorted(who))]]
            for (source, target), who in sorted(state.links.items())
        ],
        [[hour, node, list(source)] for (hour, node), source in sorted(state.happened.votes.items())],
        spell_storage(state.storage),
    ]


def at_slot(law: Constitution, state: State, slot: int) -> State:
    """The state at the beginning of a later slot when all between are empty; seeds go on, HOURs begin."""
    size = law.params.hour_slots
    while state.slot < slot and (state.slot + 1 < slot or (state.slot + 1) // size > state.checkpoint.hour):
        following = state.slot + 1
        if following // size > state.checkpoint.hour:
            state = _new_hour(law, state)
        if following < slot:
            seed = skipped_seed(law.network, state.seed, following)
            state = replace(state, slot=following, seed=seed, storage=revealed(state.storage, following, seed))
    return state


def _new_hour(law: Constitution, state: State) -> State:
    happened = state.happened
    made = roll(law, state.recent, state.at_final, happened, state.id, state.seed)
    kept, parts = settled_hours(law.params) + RECENT, part_digests(law, made)
    late = {link: who for link, who in state.links.items() if link[1].hour >= made.hour - 1}
    begun = replace(
        state,
        recent=(*state.recent, made)[-kept:],
        names=(*state.names, name_of(law, parts))[-kept:],
        happened=Happened(
            made.justified,
            made.final,
            votes={key: one for key, one in happened.votes.items() if key[0] == made.hour - 1},
        ),
        links=late,
    )
    return replace(begun, state=_digest(law, begun, parts))


def leaders(law: Constitution, state: State, slot: int) -> tuple[bytes, ...]:
    """Who may publish a slot, at most six entities, rank 0 first; state is that at the slot's beginning."""
    past, registry = weighing(state), state.checkpoint.registry
    weights = past.weights
    if past.registry is not registry:
        entities = {*registry.entities.values()}
        weights = {entity: weight for entity, weight in weights.items() if entity in entities}
    rest = cooldown(weights, law.params.cooldown_slots)
    resting = {entity for at, entity in state.publishers if at >= slot - rest}
    return ranks(law.params.leader_rule, law.network, state.seed, slot, weights, resting)


def weighing(state: State) -> Checkpoint:
    """The checkpoint whose weights a draw goes by: the last one at least two HOURs before, or the first (CONSENSUS §2)."""
    latest = state.checkpoint.hour - STATE_HOURS
    return next((one for one in reversed(state.recent) if one.hour <= latest), state.recent[0])


def at_hour(state: State, hour: int) -> Checkpoint | None:
    """The checkpoint before an HOUR, if it is remembered."""
    return next((one for one in reversed(state.recent) if one.hour == hour), None)


class Proposer(NamedTuple):
    """Whose signatures and whose VRF proof a header needs."""

    keys: tuple[bytes, ...]
    threshold: int
    vrf_key: bytes


def proposer(law: Constitution, state: State, header: BlockHeader) -> Proposer | None:
    """Who has to have signed a header of its slot and rank; None for who is not registered, or expelled."""
    at = at_hour(state, header.slot // law.params.hour_slots)
    if at is None or header.entity in state.checkpoint.expelled:
        return None
    if header.rank == SERVER_RANK and header.entity != law.server:
        return None
    pool = at.registry.pools.get(header.entity)
    if pool is not None:
        return Proposer(pool.keys, pool.threshold, pool.vrf_key)
    member = at.registry.members.get(NodeId(header.entity))
    return None if member is None else Proposer((member.era_key,), 1, member.vrf_key)
