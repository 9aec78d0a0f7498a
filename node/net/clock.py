"""The time that machines see: Unix milliseconds that never go back, whatever happens to the wall clock.

    now = wall clock at the start + CLOCK_BOOTTIME since      (which runs on while the machine sleeps)

When the wall clock is set, or peers say that it is wrong, `now` goes on from where it was and creeps towards it, by half a second a minute at most
(CONSENSUS §6), so that no deadline jumps; the step itself is told once. No NTP: it is UDP, and clearnet.
"""

import time
from collections.abc import Callable
from typing import Final

from consensus.ids import Millis

STEP_MS: Final = 1_000
"""Smaller differences are drift and are slewed in silence."""

SLEW: Final = 120
"""One millisecond of correction for so many that pass: half a second a minute."""


def _elapsed() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def _wall() -> int:
    return time.time_ns() // 1_000_000


class SteadyClock:
    """Machine time of one run; `elapsed` and `wall` are in milliseconds."""

    def __init__(self, elapsed: Callable[[], int] = _elapsed, wall: Callable[[], int] = _wall) -> None:
        self._elapsed, self._wall = elapsed, wall
        self._last = elapsed()
        self._now = wall()
        self._offset = 0  # of this time against the wall clock, as peers have it
        self._behind = 0  # what is still to be slewed, signed
        self._credit = 0  # milliseconds that passed and do not make one of slewing yet

    def now(self) -> Millis:
        """The present; at least as late as at the last call."""
        elapsed = self._elapsed()
        passed = max(0, elapsed - self._last)
        self._last = elapsed
        self._now += passed
        if self._behind:
            whole, self._credit = divmod(self._credit + passed, SLEW)  # whole ≤ passed: time slows, and never goes back
            step = min(whole, abs(self._behind)) if self._behind > 0 else -min(whole, abs(self._behind))
            self._now += step
            self._behind -= step
        return Millis(self._now)

    def stepped(self) -> int:
        """By how many ms the wall clock was set since the last call, 0 for less than STEP_MS; to be asked now and then."""
        ahead = self._wall() + self._offset - self.now()
        delta = ahead - self._behind
        self._behind = ahead
        return delta if abs(delta) >= STEP_MS else 0

    def correct(self, ms: int) -> None:
        """Peers are ahead by so much of where this time is going: creep towards them, in place of what was said before."""
        self._behind = ms
        self._offset = self.now() + ms - self._wall()
