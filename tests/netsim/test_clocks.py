"""The clock of one node: forward, exact, and right again after a step."""

from hypothesis import given
from hypothesis import strategies as st

from netsim.clocks import DRIFT_PPM_MAX, Clock

TURNS = st.lists(
    st.tuples(st.integers(0, 100_000), st.sampled_from(["step", "drift", "settle"]), st.integers(-50_000, 50_000)),
    max_size=8,
)


def turned(turns: list[tuple[int, str, int]]) -> tuple[Clock, int, list[int]]:
    clock, now, shown = Clock(1_000_000), 1_000_000, []
    for wait, what, amount in turns:
        now += wait
        shown.append(clock.read(now))
        if what == "step":
            clock.step(now, amount)
        elif what == "drift":
            clock.drift(now, amount * DRIFT_PPM_MAX // 50_000)
        else:
            clock.settle(now)
        shown.append(clock.read(now))
    return clock, now, shown


@given(TURNS)
def test_it_never_goes_back_whatever_is_done_to_it(turns: list[tuple[int, str, int]]) -> None:
    _, _, shown = turned(turns)
    assert shown == sorted(shown)


@given(TURNS, st.integers(0, 1_000_000))
def test_when_is_the_first_moment_that_shows_a_time(turns: list[tuple[int, str, int]], ahead: int) -> None:
    clock, now, _ = turned(turns)
    at = clock.read(now) + ahead
    moment = clock.when(at)
    assert clock.read(moment) >= at > clock.read(moment - 1)


@given(st.integers(-100_000, 100_000), st.lists(st.integers(1, 50_000), max_size=5))
def test_a_step_is_made_up_for_completely(delta: int, looks: list[int]) -> None:
    clock, now = Clock(0), 5000
    left = clock.step(now, delta)
    for look in looks:  # somebody else turns the clock meanwhile
        if look < left:
            now += look
            left = clock.settle(now)
    while left:
        now += left
        left = clock.settle(now)
    assert clock.read(now + 77) == now + 77 + delta
    assert clock.ppm == 0


def test_a_restarted_process_begins_with_the_wall_clock() -> None:
    clock = Clock(0)
    clock.step(1000, -60_000)
    assert clock.read(2000) == 1900  # slewed by a tenth
    clock.boot(2000)
    assert clock.read(2500) == -57_500
