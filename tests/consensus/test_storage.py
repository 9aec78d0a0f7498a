"""What the chain has of sessions' storage: who counts as a holder, which slot pays, and that nothing else counts."""

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.beacon import REPLICA_BYTES_MAX
from consensus.block import BlockBody
from consensus.encoding import decode, encode
from consensus.ids import Address, NodeId, SessionId
from consensus.news import ChunkNamed, ChunksNamed, ReplicasHeld, ReplicaShown, SessionEnded, SessionNews, told
from consensus.payload import payout_of
from consensus.placement import REVEALED, drawn, order, placement_key
from consensus.placement import Registrant as Offering
from consensus.registry import Member, Registry, registry_of
from consensus.reward import OWNER_HOURS, PAID_SLOTS_MIN, ClosedSession, Receipted, paid_slots
from consensus.state import State, at_slot, left_open
from consensus.storage import (
    CHUNKS_MAX,
    FOLLOWED_HOURS,
    NOTHING,
    OWNED_MAX,
    PAID_RANKS,
    Storage,
    due,
    learned,
    read_storage,
    revealed,
    settled,
    spell_storage,
)
from consensus.tally import Credit, HourCredits, Tally
from tests.consensus.worlds import NETWORK, Village, named

HOUR_SLOTS: Final = 4
SIZE: Final = 8_000_000
OWNER: Final = 0


def account(number: int) -> Address:
    return Address(number.to_bytes(20, "big"))


def node(number: int) -> NodeId:
    return NodeId(named(1_000 + number))


def member(number: int, *, entity: bytes | None = None, capacity: int = SIZE, address: int | None = None) -> Member:
    where = account(100 + (number if address is None else address))
    return Member(node(number), entity or node(number), b"", b"", where, capacity, 0)


def registry(*members: Member) -> Registry:
    return registry_of(1, members or [member(number) for number in range(6)], {})


SESSION: Final = SessionId(named(7))
SEED: Final = named(8)
ENDED: Final = SessionEnded(SESSION, account(100 + OWNER))
CHUNKS: Final = (ChunkNamed(named(21), SIZE, named(31)), ChunkNamed(named(22), 5, named(32)))
NAMED: Final = ChunksNamed(SESSION, account(100 + OWNER), 0, CHUNKS)


def held(holder: int, bits: int = 0b11, first: int = 0, replica: int = 0) -> ReplicasHeld:
    return ReplicasHeld(SESSION, account(100 + holder), replica, first, bits)


def shown(holder: int, prober: int, number: int = 0) -> ReplicaShown:
    return ReplicaShown(SESSION, number, 0, account(100 + holder), account(100 + prober))


def grown(storage: Storage, slot: int, *news: SessionNews, among: Registry | None = None) -> Storage:
    return learned(storage, news, slot, among or registry(), NETWORK)


def committed(slot: int = 10, among: Registry | None = None) -> Storage:
    """A session that was closed and committed to in a slot, and whose seed is known."""
    return revealed(grown(NOTHING, slot, ENDED, NAMED, among=among), slot + REVEALED, SEED)


def holders(storage: Storage, number: int = 0) -> set[NodeId]:
    return {one for one, _ in storage.sessions[SESSION].chunks[number].holders}


def test_a_session_counts_in_one_slot_once_three_others_hold_a_chunk_and_one_was_shown_to_another() -> None:
    storage = committed(10)
    pays = 10 + PAID_SLOTS_MIN
    storage = grown(storage, 13, held(1), held(2, replica=1), held(3, replica=2), shown(1, 2))
    assert holders(storage) == {node(1), node(2), node(3)}
    (paid,) = due(storage, pays, HOUR_SLOTS)
    receipts = tuple(
        Receipted(chunk.chunk, chunk.size, node(number), placed=True) for chunk in CHUNKS for number in (1, 2, 3)
    )
    assert paid == ClosedSession(SESSION, node(OWNER), receipts, 1)
    assert due(storage, pays - 1, HOUR_SLOTS) == due(storage, pays + 1, HOUR_SLOTS) == ()
    after = settled(storage, pays, HOUR_SLOTS, [paid])
    assert after == Storage({}, ((10, node(OWNER)),))
    assert settled(storage, pays - 1, HOUR_SLOTS, []).sessions == storage.sessions


@pytest.mark.parametrize(
    "news",
    [
        [held(1), held(2), held(3)],  # nobody was shown anything
        [held(1), held(2), shown(1, 2)],  # two hold it
        [held(1), held(2), held(OWNER), shown(1, 2)],  # of whom one is the owner
        [held(1), held(2), held(3), shown(1, 1)],  # who was shown its own
        [held(1), held(2), held(3), shown(1, 4)],  # or holds nothing
        [held(1), held(2), held(3), shown(4, 1)],  # or has shown nothing that it holds
        [held(1), held(2), held(3), shown(1, 2, 2)],  # of a chunk that there is none
        [held(1, 0b10), held(2, 0b01), held(3), shown(3, 1, 1)],  # no chunk is held by three
        [held(1), held(2), held(9), shown(1, 2)],  # who is not registered
        [held(1), held(2), held(3, replica=3), shown(1, 2)],  # a replica that there is none
        [held(1), held(2), held(3, first=2), shown(1, 2)],  # chunks that there are none
    ],
)
def test_what_is_not_stored_by_three_and_shown_is_not_paid_for(news: list[SessionNews]) -> None:
    assert due(grown(committed(10), 13, *news), 10 + PAID_SLOTS_MIN, HOUR_SLOTS) == ()


def test_a_chunk_may_be_committed_to_before_its_session_is_closed_and_after() -> None:
    more = NAMED._replace(first=2, chunks=(ChunkNamed(named(23), SIZE, named(33)),))
    storage = grown(NOTHING, 5, NAMED)
    assert storage.sessions[SESSION].closed == 0
    storage = grown(revealed(storage, 7, SEED), 8, held(1), held(2), ENDED, held(3), shown(2, 3), more)
    assert [one.slot for one in storage.sessions[SESSION].chunks] == [5, 5, 8]
    assert [bool(one.seed) for one in storage.sessions[SESSION].chunks] == [True, True, False]
    storage = revealed(revealed(storage, 9, named(50)), 10, named(51))
    assert [one.seed for one in storage.sessions[SESSION].chunks] == [SEED, SEED, named(51)]
    assert len(due(storage, 8 + PAID_SLOTS_MIN, HOUR_SLOTS)) == 1


def test_nobody_holds_what_is_not_drawn_for_yet_nor_what_is_too_large_for_it() -> None:
    early = grown(NOTHING, 10, ENDED, NAMED, held(1))
    assert holders(early) == holders(grown(early, 11, held(2))) == set()
    among = registry(*[member(number, capacity=SIZE - (number == 1)) for number in range(6)])
    storage = grown(committed(10, among), 13, held(1), held(2), among=among)
    assert (holders(storage, 0), holders(storage, 1)) == ({node(2)}, {node(1), node(2)})


def test_a_holder_counts_once_and_accounts_stand_for_all_nodes_that_registered_them() -> None:
    pool = bytes(32)
    two = registry(
        member(OWNER), member(1), member(2, address=1), member(3, entity=pool), member(4, entity=pool), member(5)
    )
    storage = grown(committed(10, two), 13, held(1), held(1), held(3), held(4), shown(3, 4), among=two)
    assert dict(storage.sessions[SESSION].chunks[0].holders) == {
        node(1): node(1),
        node(2): node(2),
        node(3): pool,
        node(4): pool,
    }
    assert storage.sessions[SESSION].passed == 0  # both work for one
    assert grown(storage, 14, shown(3, 1), among=two).sessions[SESSION].passed == 1
    of_owner = registry(*[member(number, entity=node(OWNER) if number == 1 else None) for number in range(6)])
    assert holders(grown(committed(10, of_owner), 13, held(1), among=of_owner)) == set()


def test_chunks_are_committed_to_in_their_order_and_each_counts_for_one_session() -> None:
    storage = committed(10)
    assert grown(storage, 11, NAMED).sessions[SESSION].chunks == storage.sessions[SESSION].chunks
    other = SessionId(named(9))
    again = NAMED._replace(session=other, chunks=(*CHUNKS, ChunkNamed(named(40), REPLICA_BYTES_MAX + 1, named(0))))
    storage = grown(storage, 12, again)
    assert [one.size for one in storage.sessions[other].chunks] == [0, 0, 0]
    storage = grown(revealed(storage, 14, SEED), 15, held(1)._replace(session=other))
    assert not any(one.holders for one in storage.sessions[other].chunks)
    many = tuple(ChunkNamed(named(1_000 + number), 1, named(0)) for number in range(CHUNKS_MAX))
    storage = grown(storage, 16, NAMED._replace(first=2, chunks=many))
    assert len(storage.sessions[SESSION].chunks) == CHUNKS_MAX
    assert storage.sessions[SESSION].heard == 16


def test_a_registered_owner_is_followed_with_eight_sessions_and_nobody_else_is() -> None:
    ends = [SessionEnded(SessionId(named(number)), account(100)) for number in range(OWNED_MAX + 1)]
    storage = grown(NOTHING, 10, *ends)
    assert [*storage.sessions] == [one.session for one in ends[:-1]]
    assert grown(NOTHING, 10, SessionEnded(SESSION, account(99)), held(1), shown(1, 2)) is NOTHING
    other = SessionId(named(99))
    assert grown(storage, 11, SessionEnded(other, account(101))).sessions[other].owner == node(1)


def test_of_an_owner_two_sessions_in_a_day_are_paid_for() -> None:
    pays, storage = 10 + PAID_SLOTS_MIN, committed(10)
    storage = grown(storage, 13, held(1), held(2), held(3), shown(1, 2))
    day = OWNER_HOURS * HOUR_SLOTS
    for history, count in (
        (((9, node(OWNER)), (10 - day + 1, node(OWNER))), 0),
        (((9, node(OWNER)), (10 - day, node(OWNER))), 1),
        (((9, node(OWNER)), (9, node(1))), 1),
    ):
        known = Storage(storage.sessions, history)
        assert len(due(known, pays, HOUR_SLOTS)) == count
    assert settled(Storage(storage.sessions, ((10 - day, node(1)), (10 - day + 1, node(2)))), pays, HOUR_SLOTS, []) == (
        Storage({}, ((10 - day + 1, node(2)),))
    )


def test_an_open_session_is_followed_for_a_day_after_the_last_that_was_heard() -> None:
    storage = grown(NOTHING, 10, NAMED)
    last = 10 + FOLLOWED_HOURS * HOUR_SLOTS - 1
    assert settled(storage, last, HOUR_SLOTS, []).sessions == storage.sessions
    assert settled(storage, last + 1, HOUR_SLOTS, []) is NOTHING
    assert settled(NOTHING, 5, HOUR_SLOTS, []) is NOTHING
    assert due(storage, PAID_SLOTS_MIN, HOUR_SLOTS) == ()  # slot 0, as if it were closed there
    assert due(storage, 3, HOUR_SLOTS) == ()


@given(st.integers(0, 2**31), st.integers(1, 60))
def test_who_is_drawn_is_among_the_first_of_the_order_and_all_are_where_few_have_room(start: int, count: int) -> None:
    key = placement_key(NETWORK, named(start), named(1), 0)
    nodes = [node(start + number) for number in range(count)]
    chosen = {one for one in nodes if drawn(key, one, count, PAID_RANKS)}
    ranked = order(key, [Offering(one, one, SIZE) for one in nodes], SIZE, count)
    assert chosen == {*ranked[: len(chosen)]}
    assert count > PAID_RANKS or chosen == {*nodes}


def test_so_many_are_drawn_on_average_and_the_first_eight_of_the_order_nearly_always() -> None:
    nodes, chosen, first = [node(number) for number in range(1_000)], 0, 0
    for round_ in range(50):
        key = placement_key(NETWORK, named(round_), named(1), 0)
        chosen += sum(drawn(key, one, len(nodes), PAID_RANKS) for one in nodes)
        ranked = order(key, [Offering(one, one, SIZE) for one in nodes], SIZE, 8)
        first += drawn(key, ranked[-1], len(nodes), PAID_RANKS)
    assert 13 * 50 < chosen < 19 * 50
    assert first >= 48


def test_storage_is_spelled_and_read_as_a_part_of_what_a_state_leaves_open() -> None:
    storage = grown(committed(10), 13, held(1), shown(1, 2))
    storage = Storage(storage.sessions, ((9, node(1)),))
    assert read_storage(decode(encode(spell_storage(storage)))) == storage
    assert read_storage(decode(encode(spell_storage(NOTHING)))) == NOTHING
    state = Village(2).genesis
    before, after = left_open(state), left_open(replace(state, storage=storage))
    assert isinstance(before, list)
    assert isinstance(after, list)
    assert after == [*before[:-1], spell_storage(storage)]


# ---------------------------------------------------------------------- in blocks


def town() -> tuple[Village, State]:
    """Founders that have all registered with room, and their state after the first block."""
    village = Village(6)
    members = [Member(one, one, one, one, account(100 + number), SIZE, 0) for number, one in enumerate(village.nodes)]
    first = village.after(village.genesis, 1)
    checkpoint = replace(first.checkpoint, registry=registry_of(1, members, {}))
    return village, replace(first, recent=(checkpoint,))


def test_blocks_tell_of_sessions_and_the_slot_that_pays_for_them_mints_by_the_rule() -> None:
    village, first = town()
    law, others = village.law, [SessionId(named(number)) for number in (60, 61)]

    def news(kind: int) -> list[SessionNews]:
        made: list[SessionNews] = []
        for number, one in enumerate(others):
            chunks = (ChunkNamed(named(70 + number), SIZE, named(0)),)
            if kind == 0:
                made += [SessionEnded(one, account(100 + number))]
                made += [ChunksNamed(one, account(100 + number), 0, chunks)]
            else:
                made += [ReplicasHeld(one, account(100 + holder), 0, 0, 1) for holder in (2, 3, 4)]
                made += [ReplicaShown(one, 0, 0, account(102), account(103))]
        return made

    def after(state: State, slot: int, *said: SessionNews) -> State:
        return village.after(state, slot, BlockBody(payload=told(said, b"block")))

    state = after(first, 2, *news(0))
    assert {one.closed for one in state.storage.sessions.values()} == {2}
    skipped = at_slot(law, state, 6)
    seed = at_slot(law, state, 5).seed  # that of slot 4, which is empty
    assert {chunk.seed for one in skipped.storage.sessions.values() for chunk in one.chunks} == {seed}
    state = after(state, 6, *news(1))
    assert {one.passed for one in state.storage.sessions.values()} == {1}
    pays = 2 + paid_slots(law.params.hour_slots)
    at = at_slot(law, state, pays)
    sessions = due(at.storage, pays, law.params.hour_slots)
    assert [one.session for one in sessions] == others
    credited = HourCredits.of(11, sorted((one, Credit(9 * (one != village.nodes[5]), 0)) for one in village.nodes))
    at = replace(at, recent=(replace(at.checkpoint, tally=Tally((credited,), {})),))
    payout = payout_of(at, pays, village.nodes[1], law.server, sessions)
    assert payout is not None
    # S = 2, B = 16 MB, so W = 4; N = 5 of whom one had no credit: 1 + 49 · 1 · min(20 − 5, 20) ÷ (36 · 5)
    assert payout.amount == 1 + 49 * 15 // 180 == 5
    empty = payout_of(at, pays, village.nodes[1], law.server, ())
    assert empty is not None
    assert empty.amount == 1


def test_a_seed_that_a_block_brings_draws_the_holders_of_two_slots_before() -> None:
    village, first = town()
    state = village.after(first, 2, BlockBody(payload=told([ENDED, NAMED], b"")))
    state = village.after(state, 4)
    assert state.storage.sessions[SESSION].chunks[0].seed == state.seed
    assert village.after(state, 5).storage.sessions[SESSION].chunks[0].seed == state.seed
