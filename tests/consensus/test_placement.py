"""The window of a placement's slot: what an honest owner opens is admitted however far apart honest clocks are, and nothing else."""

import hypothesis.strategies as st
from hypothesis import given

from consensus.placement import PLACING_HOURS, SKEW_HOURS, admitted, opening


@given(st.integers(0, 1 << 30), st.integers(1, 1 << 12), st.integers(-SKEW_HOURS, SKEW_HOURS))
def test_what_an_owner_may_open_every_holder_within_the_skew_admits(hour: int, hour_slots: int, skew: int) -> None:
    first, end = opening(hour, hour_slots)
    least, most = admitted(hour + skew, hour_slots)
    assert least <= first < end <= most


def test_the_window_is_a_day_behind_the_owners_clock_and_the_hour_that_it_is() -> None:
    assert (PLACING_HOURS, SKEW_HOURS) == (24, 2), "consensus/README: changing them parts the network"
    assert opening(100, 30) == (76 * 30, 101 * 30)
    assert admitted(100, 30) == (74 * 30, 103 * 30)
