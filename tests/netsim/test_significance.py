"""What several seeds say: intervals that hold the truth as often as they claim, and chances that luck has as often as they say."""

import math
import statistics
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsim.significance import (
    EXACT_MAX,
    LEVEL,
    Estimate,
    chance,
    estimate,
    holm,
    least_chance,
    seeds_needed,
)

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8)


def test_an_estimate_is_students() -> None:
    # by hand: mean 3, standard deviation 1.5811, t(4) = 2.776
    found = estimate([1, 2, 3, 4, 5])
    assert (found.seeds, found.mean, found.least, found.most) == (5, 3.0, 1, 5)
    assert [found.low, found.high] == pytest.approx([1.0371, 4.9629], abs=1e-4)
    assert estimate([7.0]) == Estimate(1, 7.0, 7.0, 7.0, 7.0, 7.0)
    many = [float(number % 7) for number in range(200)]
    half = 1.959964 * statistics.stdev(many) / math.sqrt(200)
    assert estimate(many).high == pytest.approx(statistics.fmean(many) + half)


def test_intervals_hold_the_mean_in_nineteen_of_twenty_cases() -> None:
    rng, held = Random(5), 0
    for _ in range(1_000):
        found = estimate([rng.gauss(10, 3) for _ in range(6)])
        held += found.low <= 10 <= found.high
    assert 930 <= held <= 970


def test_exact_chances_are_counted_by_hand() -> None:
    assert chance([1, 2, 3], [4, 5, 6], paired=False) == 2 / 20  # this order and its mirror, of C(6, 3)
    assert chance([1, 2, 3], [2, 3, 4], paired=True) == 2 / 8
    assert chance([1, 2], [1, 2], paired=True) == chance([1, 2], [2, 1], paired=False) == 1
    assert chance([0, 0, 0, 1], [5, 5, 5, 5], paired=False) == 2 / 70
    assert [least_chance(3, 3, paired=False), least_chance(3, 3, paired=True), least_chance(2, 3, paired=False)] == [
        0.1,
        0.25,
        0.1,
    ]


@given(VALUES, st.floats(-100, 100), st.booleans())
def test_a_chance_is_a_share_the_same_from_both_sides_and_whatever_is_added(
    values: list[float], more: float, paired: bool
) -> None:
    other = [value + (number % 3) * 1_000 for number, value in enumerate(values)]
    found = chance(values, other, paired=paired)
    assert 0 < found <= 1
    assert chance(other, values, paired=paired) == pytest.approx(found)
    shifted = [[round(one + more, 3) for one in side] for side in (values, other)]
    assert 0 < chance(*shifted, paired=paired) <= 1


def test_where_nothing_differs_luck_is_believed_one_time_in_twenty() -> None:
    rng, fooled = Random(7), 0
    for _ in range(400):
        a, b = ([rng.gauss(0, 1) for _ in range(6)] for _ in range(2))
        fooled += chance(a, b, paired=False) < LEVEL
    assert 8 <= fooled <= 34


def test_of_many_orders_some_are_drawn_and_always_the_same() -> None:
    a, b = [float(number) for number in range(16)], [number + 0.5 for number in range(16)]
    assert EXACT_MAX < 2**16
    assert chance(a, b, paired=True) == chance(a, b, paired=True) < 0.001
    assert 0.7 < chance(a, b, paired=False) <= 1


def test_holm_corrects_for_all_that_was_looked_at() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9}) == {"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.9}
    assert holm({"a": 0.6, "b": 0.5}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_the_seeds_that_are_needed_grow_with_the_figures() -> None:
    assert [seeds_needed(1), seeds_needed(40)] == [6, 11]
