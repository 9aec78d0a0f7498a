"""Credits, the window and the weights: the laws that keep identities without work worthless."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import Malformed
from consensus.ids import NodeId
from consensus.params import PPM
from consensus.tally import (
    LIVE_MIN_PPM,
    Credit,
    HourCredits,
    Tally,
    Work,
    advance,
    credit,
    live_ppm,
    median,
    of_entities,
    quorum,
    read_spelled,
    recompute,
    settled,
    spell,
    usual,
    weights,
)

CAP = 4_000_000
A, B, C = b"a" * 32, b"b" * 32, b"c" * 32

works = st.builds(Work, st.integers(0, 2 * CAP), st.integers(0, 2 * CAP), st.integers(0, 1_000))
credits_ = st.builds(credit, works, st.integers(0, 1_000), st.just(CAP), st.just(CAP))
hours = st.lists(st.dictionaries(st.sampled_from([A, B, C]), credits_), max_size=12)


def test_five_of_nine_witnesses_make_a_median_and_four_none() -> None:
    said = [Work(10, 1, 1_000), Work(20, 2, 900), Work(30, 3, 800), Work(40, 4, 700), Work(1 << 60, 1 << 60, 0)]
    assert median(said, 5) == Work(30, 3, 800)
    assert median(said, 9) == Work(10, 1, 0)  # four are missing, and saw nothing
    assert median(said[:4], 9) is None
    assert median([], 0) is None
    assert [quorum(count) for count in (1, 2, 3, 4, 8, 9)] == [1, 2, 2, 3, 5, 5]


@given(st.lists(works, min_size=5, max_size=9), st.data())
def test_a_minority_of_witnesses_moves_no_median_beyond_what_others_said(said: list[Work], data: st.DataObject) -> None:
    liars = (len(said) - 1) // 2
    lied = [*data.draw(st.lists(works, min_size=liars, max_size=liars)), *said[liars:]]
    found = median(lied, len(lied))
    assert found is not None
    for place in range(3):
        honest = [one[place] for one in said[liars:]]
        assert min(honest) <= found[place] <= max(honest)


@given(works, st.integers(0, 1_000), st.integers(0, CAP))
def test_a_credit_is_bounded_and_more_of_anything_is_never_worth_less(work: Work, votes: int, used_to: int) -> None:
    made = credit(work, votes, CAP, used_to)
    assert 0 <= made.work <= min(CAP, 3 * used_to // 2)
    assert made.work <= made.witnessed <= CAP
    assert made.floors == (made.work == 0)
    for more in (
        work._replace(storage=work.storage + 1),
        work._replace(relay=work.relay + 1),
        work._replace(uptime=min(1_000, work.uptime + 1)),
    ):
        assert credit(more, votes, CAP, used_to).work >= made.work
    assert credit(work, votes, CAP, used_to + 1).work >= made.work
    assert credit(work, 0, CAP, used_to) == Credit(0, 1, 1, work.uptime, made.witnessed)
    assert credit(work._replace(uptime=0), votes, CAP, used_to) == Credit(0, 1, 1, 0, made.witnessed)


def test_relay_counts_up_to_a_fourth_of_what_is_stored_and_halves_multiply() -> None:
    assert credit(Work(1_000, 10_000, 1_000), 1_000, CAP, CAP) == Credit(1_250, 0, 1, 1_000, 1_250)
    assert credit(Work(0, 10_000, 1_000), 1_000, CAP, CAP) == Credit(0, 1, 1, 1_000, 0)
    assert credit(Work(1_000, 0, 500), 500, CAP, CAP) == Credit(250, 0, 1, 500, 1_000)
    assert credit(Work(CAP, CAP, 1_000), 1_000, CAP, CAP) == Credit(CAP, 0, 1, 1_000, CAP)


def test_an_hour_counts_for_half_as_much_again_as_the_usual_one_and_without_a_usual_one_for_nothing() -> None:
    assert credit(Work(100_000, 0, 1_000), 1_000, CAP, 1_001) == Credit(1_501, 0, 1, 1_000, 100_000)
    assert credit(Work(1_400, 0, 500), 1_000, CAP, 1_001) == Credit(700, 0, 1, 500, 1_400)
    assert credit(Work(100_000, 0, 1_000), 1_000, CAP, 0) == Credit(0, 1, 1, 1_000, 100_000)


@given(hours, st.integers(-9, 1 << 40))
def test_an_hours_credits_have_one_spelling(made: list[dict[bytes, Credit]], hour: int) -> None:
    for one in made:
        credits_of = settled(hour, one.items())
        data = spell(credits_of)
        assert read_spelled(data) == credits_of
        assert len(data) == 8 + 60 * len(one)


def test_what_spells_no_credits_is_refused() -> None:
    data = spell(settled(7, [(A, Credit(1, 0)), (B, Credit(2, 0))]))
    assert data == bytes(7) + b"\7" + A + bytes(7) + b"\1" + bytes(20) + B + bytes(7) + b"\2" + bytes(20)
    for wrong in (b"", data[:-1], data[:7], data + b"\0"):
        with pytest.raises(Malformed, match="no whole number"):
            read_spelled(wrong)
    for names in ((B, A), (A, A)):
        with pytest.raises(Malformed, match="not ascending"):
            read_spelled(data[:8] + b"".join(name + bytes(28) for name in names))


def test_the_usual_hour_is_the_median_of_the_last_ones_and_one_without_a_report_is_one_without_work() -> None:
    def named(name: str) -> bytes:
        return name.encode().rjust(32)

    def hour(at: int, **seen: int) -> HourCredits:
        return settled(at, [(named(name), Credit(0, 1, 1, 1_000, mb)) for name, mb in seen.items()])

    tally = recompute([hour(0, a=9, b=9, c=9), hour(1, a=10, b=1), hour(2, a=900), hour(3, a=30, b=70), hour(4, c=8)])
    assert usual(tally, 4) == {named("a"): 10}  # of b: 0, 0, 1, 70
    assert usual(tally, 3) == {named("a"): 30}
    assert usual(tally, 1) == {named("c"): 8}
    assert usual(tally, 9) == usual(Tally(), 24) == {}


def test_the_nodes_of_an_entity_are_added_up_and_those_of_none_are_not() -> None:
    sums = {A: Credit(5, 1, 2, 3), B: Credit(7, 0, 1, 1), C: Credit(9, 0)}
    assert of_entities(sums, {NodeId(A): C, NodeId(B): C, NodeId(b"d" * 32): A}) == {C: Credit(12, 1, 3, 4)}
    made = settled(7, [(B, Credit(5, 0)), (A, Credit(0, 1)), (B, Credit(6, 0))])
    assert made == HourCredits.of(7, ((A, Credit(0, 1)), (B, Credit(11, 0))))


@given(
    st.dictionaries(
        st.binary(min_size=32, max_size=32), st.builds(Credit, *[st.integers(0, 2**32 - 1)] * 5), max_size=20
    )
)
def test_packed_credits_give_back_what_was_put_in(plan: dict[bytes, Credit]) -> None:
    made = HourCredits.of(7, sorted(plan.items()))
    assert dict(made.entries()) == {name: made.get(name) for name in plan} == plan
    assert dict(made.witnessed()) == {name: one.witnessed for name, one in plan.items()}
    assert [name for name, _ in made.entries()] == sorted(plan)
    assert made.count == len(plan)
    assert made.get(bytes(32)) == plan.get(bytes(32))
    assert made.get(b"\xff" * 32) == plan.get(b"\xff" * 32)
    assert made.get(b"\x80" * 32) == plan.get(b"\x80" * 32)


@given(hours, st.integers(1, 6))
def test_the_window_moved_hour_by_hour_is_the_window_summed_afresh(
    plan: list[dict[bytes, Credit]], window_hours: int
) -> None:
    tally, made = Tally(), []
    for hour, entries in enumerate(plan):
        made.append(settled(hour, entries.items()))
        tally = advance(tally, made[-1], window_hours)
        assert tally == recompute(made[-window_hours:])


def test_the_first_miss_is_free_and_a_score_never_falls_to_nothing() -> None:
    assert [live_ppm(0, misses) for misses in (0, 1, 2)] == [PPM, PPM, 950_000]
    assert live_ppm(0, 1_000) == LIVE_MIN_PPM


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_score_is_the_part_of_the_slots_that_were_led(led: int, misses: int) -> None:
    assert LIVE_MIN_PPM <= live_ppm(led, misses) <= PPM
    assert live_ppm(led + 1, misses) >= live_ppm(led, misses) >= live_ppm(led, misses + 1)
    if led + misses > 1_000 and misses < led:
        assert abs(live_ppm(led, misses) - PPM * led // (led + misses)) < 20_000


def test_while_nobody_has_worked_all_are_alike() -> None:
    assert weights({}, {A: PPM, B: 500_000}) == {A: PPM, B: 500_000}
    assert weights({A: Credit(0, 1)}, {A: PPM, B: PPM}) == {A: PPM, B: PPM}


@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=2), st.builds(Credit, st.integers(0, CAP), st.integers(0, 720)), max_size=60
    )
)
def test_identities_without_work_weigh_a_twentieth_together_at_most(sums: dict[bytes, Credit]) -> None:
    made = weights(sums, dict.fromkeys(sums, PPM))
    work = sum(one.work for one in sums.values())
    if work:
        assert sum(made.values()) - work * PPM <= sum(made.values()) // 20 + 1
        assert all(made[entity] >= one.work * PPM for entity, one in sums.items())


def test_who_is_not_registered_has_no_weight_and_a_bad_score_costs_its_part() -> None:
    assert weights({A: Credit(100, 0), B: Credit(100, 0)}, {A: 900_000}) == {A: 90_000_000}
