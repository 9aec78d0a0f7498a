"""The reward of a slot against the specification's own fractions, its bounds, its halvings, and which sessions it pays for."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.ids import Digest, SessionId
from consensus.reward import (
    BASE_BYTES,
    HALVING,
    LUCID,
    SUPPLY,
    ClosedSession,
    Receipted,
    SlotWork,
    counted,
    halvings,
    paid_slot,
    receipted_bytes,
    recent,
    reward,
    scaled,
    slot_max,
    work_done,
)

works = st.builds(SlotWork, st.integers(0, 30), st.integers(0, 400 * BASE_BYTES), st.integers(0, 60))
supplies = st.one_of(st.integers(0, HALVING), st.integers(0, 2 * SUPPLY))


def specified(work: SlotWork, minted: int, base_bytes: int) -> int:
    """SPEC §6 in fractions, word for word, for slots with sessions."""
    most = max(1, floor(Fraction(50, 2 ** floor(Fraction(minted, 2_100_000_000)))))
    weighed = max(work.sessions, ceil(Fraction(work.size, base_bytes)))
    dense = Fraction(weighed, max(1, work.entities))
    least = Fraction(1, 5)
    g_sessions = min(max(Fraction(work.sessions - 1, 9), Fraction(0)), Fraction(1))
    g_density = Fraction(0) if dense < least else min((dense - least) / (1 - least), Fraction(1))
    return 1 + floor((most - 1) * g_sessions * g_density)


def paid(work: SlotWork, minted: int = 0, *, to_server: bool = False) -> int:
    return reward(work, minted, BASE_BYTES, to_server=to_server)


@given(works, supplies, st.integers(1, 10**8), st.booleans())
def test_the_integer_formula_is_the_specification_in_fractions(
    work: SlotWork, minted: int, base_bytes: int, to_server: bool
) -> None:
    got = reward(work, minted, base_bytes, to_server=to_server)
    if work.sessions:
        assert got == specified(work, minted, base_bytes)
    assert 1 <= got <= slot_max(minted)


@given(works, supplies, st.integers(0, 5), st.integers(0, 50 * BASE_BYTES), st.integers(0, 9))
def test_more_sessions_or_bytes_never_pay_less_and_more_nodes_or_supply_never_more(
    work: SlotWork, minted: int, sessions: int, size: int, entities: int
) -> None:
    before = paid(work, minted)
    assert paid(SlotWork(work.sessions + sessions, work.size + size, work.entities), minted) >= before
    assert paid(SlotWork(work.sessions, work.size, work.entities + entities), minted) <= before
    assert paid(work, minted + entities * HALVING) <= before


@pytest.mark.parametrize(
    ("sessions", "size", "entities", "minted", "expected"),
    [
        (1, 10**12, 1, 0, 1),  # one session is the base, however large
        (2, 0, 2, 0, 1 + 49 // 9),
        (10, 0, 10, 0, 50),
        (10, 0, 0, 0, 50),  # nobody had credit: as if one had
        (11, 0, 11, 0, 50),
        (10, 0, 50, 0, 1),  # D = D_min
        (10, 0, 49, 0, 1),
        (10, 0, 30, 0, 1 + 49 * 9 * 20 // 1080),
        (10, 30 * BASE_BYTES, 30, 0, 50),
        (10, 29 * BASE_BYTES + 1, 30, 0, 50),  # a byte more than 29 is 30
        (10, 29 * BASE_BYTES, 30, 0, 1 + 49 * 9 * 115 // 1080),
        (10, 0, 10, HALVING - 1, 50),
        (10, 0, 10, HALVING, 25),
        (10, 0, 10, 2 * HALVING, 12),
        (10, 0, 10, 5 * HALVING, 1),
        (10, 0, 10, SUPPLY, 1),  # the reference is no cap
    ],
)
def test_rewards_by_hand(sessions: int, size: int, entities: int, minted: int, expected: int) -> None:
    assert paid(SlotWork(sessions, size, entities), minted) == expected


def test_an_empty_slot_is_two_to_the_server_one_to_others_and_never_more_than_a_full_one() -> None:
    empty = SlotWork(0, 0, 12)
    assert paid(empty, to_server=True) == 2
    assert paid(empty) == 1
    assert paid(empty, 4 * HALVING, to_server=True) == 2
    assert paid(empty, 5 * HALVING, to_server=True) == 1


def test_supply_grows_at_most_13_14_million_a_year_and_the_first_halving_is_160_years_away() -> None:
    fullest = max(paid(SlotWork(s, s * BASE_BYTES * 9, n)) for s in range(40) for n in range(40))
    year = 30 * 24 * 365 * fullest
    assert year == 13_140_000
    assert HALVING // year == 159
    assert (HALVING, SUPPLY, LUCID, BASE_BYTES) == (2_100_000_000, 42_000_000_000, 10**18, 5_000_000)


@given(st.integers(0, 21), st.integers(1, 200), st.lists(works, max_size=120), st.booleans())
def test_a_halving_takes_effect_in_the_very_next_slot(
    past: int, short: int, slots: list[SlotWork], to_server: bool
) -> None:
    minted = max(0, past * HALVING - short)
    for work in slots:
        before, least = minted, slot_max(minted)
        minted += paid(work, minted, to_server=to_server)
        assert minted - before <= max(1, 50 >> before // 2_100_000_000)
        border = HALVING * (halvings(before) + 1)
        assert minted < border + least, "past a border by less than one slot of before it"


@given(st.integers(1, 50), st.integers(0, 2_000_000), st.integers(0, 2_000_000))
def test_a_stabiliser_only_takes_and_leaves_one(amount: int, ppm: int, less: int) -> None:
    assert 1 <= scaled(amount, ppm) <= amount
    assert scaled(amount, max(0, ppm - less)) <= scaled(amount, ppm)
    assert scaled(amount, 1_000_000) == amount
    assert scaled(amount, 0) == 1


def test_a_stabiliser_below_nothing_is_refused() -> None:
    assert [scaled(50, ppm) for ppm in (0, 500_000, 1_000_000, 2_000_000)] == [1, 25, 50, 50]
    with pytest.raises(ValueError, match="ppm"):
        scaled(50, -1)


def entity(number: int) -> bytes:
    return bytes((number,)) * 32


def receipts(chunk: int, size: int, *holders: int, placed: bool = True) -> tuple[Receipted, ...]:
    return tuple(Receipted(Digest(bytes((chunk,)) * 32), size, entity(holder), placed) for holder in holders)


def session(number: int, owner: int, kept: Sequence[Receipted], passed: int = 1) -> ClosedSession:
    return ClosedSession(SessionId(bytes((number,)) * 32), entity(owner), tuple(kept), passed)


def test_bytes_count_once_where_three_entities_hold_them_by_the_seed() -> None:
    assert receipted_bytes(session(1, 0, receipts(1, 700, 1, 2, 3))) == 700
    assert receipted_bytes(session(1, 0, receipts(1, 700, 1, 2, 3, 4) + receipts(2, 50, 5, 6, 7))) == 750
    assert receipted_bytes(session(1, 0, receipts(1, 700, 1, 2, 2))) == 0
    assert receipted_bytes(session(1, 0, receipts(1, 700, 0, 1, 2))) == 0, "the owner's own entity"
    assert receipted_bytes(session(1, 0, receipts(1, 700, 1, 2) + receipts(2, 700, 3))) == 0, "of different chunks"
    assert receipted_bytes(session(1, 0, receipts(1, 700, 1, 2) + receipts(1, 700, 3, placed=False))) == 0


def test_sessions_without_receipts_or_challenge_are_not_paid_for_and_use_up_no_place() -> None:
    kept = receipts(1, 700, 1, 2, 3)
    good, other = session(3, 0, kept), session(4, 0, kept)
    unshown, unheld = session(1, 0, kept, passed=0), session(2, 0, kept[:2])
    assert counted([other, unheld, unshown, good], {}) == (good, other)
    assert work_done((good, other), 9) == SlotWork(2, 1400, 9)
    assert work_done((), 9) == SlotWork(0, 0, 9)


def test_a_single_byte_that_is_held_makes_a_session_count_and_an_empty_chunk_does_not() -> None:
    least, nothing = session(1, 0, receipts(1, 1, 1, 2, 3)), session(2, 0, receipts(2, 0, 1, 2, 3))
    assert counted([nothing, least], {}) == (least,)
    assert work_done([least], 1) == SlotWork(1, 1, 1)


offered = st.lists(  # owner, holders beyond the second, passed
    st.tuples(st.integers(0, 1), st.sampled_from((0, 1, 1, 2)), st.sampled_from((0, 1, 1, 2))), max_size=10
)


@given(offered, st.dictionaries(st.integers(0, 1), st.integers(0, 3)), st.data())
def test_an_owner_has_two_sessions_a_day_whatever_their_order(
    drawn: list[tuple[int, int, int]], had: dict[int, int], data: st.DataObject
) -> None:
    sessions = [
        session(number, owner, receipts(number, 100, *range(10, 12 + more)), passed)
        for number, (owner, more, passed) in enumerate(drawn)
    ]
    earlier = {entity(owner): count for owner, count in had.items()}
    kept = counted(sessions, earlier)
    sound = [one for one in sessions if one.passed and len(one.receipts) >= 3]
    for owner in range(2):
        mine = [one for one in sound if one.owner == entity(owner)]
        room = max(0, 2 - had.get(owner, 0))
        assert [one for one in kept if one.owner == entity(owner)] == mine[:room]
    assert counted(data.draw(st.permutations(sessions)), earlier) == kept


def test_the_day_of_an_owner_rolls() -> None:
    history = [(279, b"a"), (280, b"a"), (281, b"a"), (281, b"b"), (999, b"a"), (1000, b"a")]
    assert recent(history, 1000, 30) == Counter({b"a": 2, b"b": 1})
    assert recent(history, 1000, 4) == {b"a": 1}


def test_a_slot_pays_for_the_corresponding_one_two_hours_before() -> None:
    assert paid_slot(59, 30) is None
    assert paid_slot(60, 30) == 0
    assert paid_slot(1007, 4) == 947  # two HOURs of a devnet would be eight slots
    assert paid_slot(1007, 31) == 945
