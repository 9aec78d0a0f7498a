from hypothesis import given
from hypothesis import strategies as st

from node.net.clock import SLEW, STEP_MS, SteadyClock

HOUR = 3_600_000


class Watch:
    """A machine whose two clocks are moved by hand."""

    def __init__(self) -> None:
        self.elapsed, self.wall = 1_000, 1_700_000_000_000
        self.clock = SteadyClock(lambda: self.elapsed, lambda: self.wall)

    def pass_ms(self, ms: int) -> None:
        self.elapsed += ms
        self.wall += ms


def test_the_present_is_the_wall_clock_at_the_start_plus_what_passed() -> None:
    watch = Watch()
    watch.pass_ms(1234)
    assert watch.clock.now() == watch.wall
    assert watch.clock.stepped() == 0


def test_a_clock_that_was_set_is_told_once_and_crept_after() -> None:
    for delta in (HOUR, -HOUR):
        watch = Watch()
        watch.wall += delta
        before = watch.clock.now()
        assert watch.clock.stepped() == delta
        assert watch.clock.stepped() == 0
        watch.pass_ms(60_000)
        assert watch.clock.now() == before + 60_000 + (500 if delta > 0 else -500)
        assert watch.clock.stepped() == 0


def test_after_its_slew_the_clock_agrees_again() -> None:
    watch = Watch()
    watch.wall += 2_000
    assert watch.clock.stepped() == 2_000
    watch.pass_ms(2_000 * SLEW)
    assert watch.clock.now() == watch.wall


@given(st.lists(st.tuples(st.integers(0, 100_000), st.integers(-HOUR, HOUR), st.booleans()), max_size=40))
def test_time_never_goes_back_and_small_steps_are_no_news(moves: list[tuple[int, int, bool]]) -> None:
    watch = Watch()
    last = watch.clock.now()
    for passed, step, asked in moves:
        watch.pass_ms(passed)
        watch.wall += step
        now = watch.clock.now()
        assert last <= now <= last + passed + passed // SLEW + 1
        last = now
        if asked:
            told = watch.clock.stepped()
            assert told == 0 or abs(told) >= STEP_MS


def test_what_peers_say_is_crept_after_and_the_last_word_counts() -> None:
    watch = Watch()
    for said in (9_000, 3_000):
        watch.clock.correct(said)
    assert watch.clock.stepped() == 0
    watch.pass_ms(60_000)
    assert watch.clock.now() == watch.wall + 500
    assert watch.clock.stepped() == 0
    watch.pass_ms(3_000 * SLEW)
    assert watch.clock.now() == watch.wall + 3_000
    watch.wall += HOUR
    assert watch.clock.stepped() == HOUR
    watch.clock.correct(-HOUR)
    assert watch.clock.stepped() == 0
    watch.pass_ms(60_000)
    assert watch.clock.now() == watch.wall - HOUR + 3_000 - 500
