"""The clock of one node: wrong by a drift, set by a step, and never going back for the machine that reads it.

A machine's `now` is the host's epoch + monotonic time. When the wall clock is set, the host tells the machine
(`ClockStepped`) and lets `now` run faster or slower until it agrees again (machine.py); so does this model, at SLEW_PPM.
"""

from typing import Final

SLEW_PPM: Final = 100_000
"""How much faster or slower `now` runs while it makes up for a step: a minute takes ten."""

DRIFT_PPM_MAX: Final = 500_000
"""Far beyond any quartz (about 100), and with the slew still a clock that runs forward."""

_MILLION: Final = 1_000_000


class Clock:
    """A piecewise linear clock in integer milliseconds; `read` and `when` are exact inverses of each other."""

    __slots__ = ("behind", "drift_ppm", "node0", "ppm", "world0")

    def __init__(self, now: int) -> None:
        self.world0 = self.node0 = now
        self.ppm = self.drift_ppm = 0
        self.behind = 0  # what the wall clock is ahead of the machine's

    def read(self, now: int) -> int:
        """The node's time at a time of the world."""
        past = now - self.world0
        return self.node0 + past + past * self.ppm // _MILLION

    def when(self, at: int) -> int:
        """The first time of the world at which the node's clock shows at least that."""
        rate = _MILLION + self.ppm
        return self.world0 - ((self.node0 - at) * _MILLION // rate)

    def drift(self, now: int, ppm: int) -> int:
        """Run wrong by so many millionths from now on; what is left to slew, as `settle` tells it."""
        self.settle(now)
        self.drift_ppm = ppm
        self._turn(now)
        return self._left()

    def step(self, now: int, delta: int) -> int:
        """Set the wall clock by delta; what is left to slew, as `settle` tells it."""
        self.settle(now)
        self.behind += delta
        self._turn(now)
        return self._left()

    def settle(self, now: int) -> int:
        """Account for the slewing until now: the milliseconds of the world until it must be called again, 0 for never."""
        past = now - self.world0
        wall = self.node0 + self.behind + past + past * self.drift_ppm // _MILLION
        self.behind = wall - self.read(now)
        self._turn(now)
        return self._left()

    def boot(self, now: int) -> None:
        """Begin anew from the wall clock, as a process does that was restarted: the machine's time may go back by that."""
        self.settle(now)
        self.node0 += self.behind
        self.behind = 0
        self._turn(now)

    def _left(self) -> int:
        return -(-abs(self.behind) * _MILLION // SLEW_PPM)

    def _turn(self, now: int) -> None:
        self.world0, self.node0 = now, self.read(now)
        self.ppm = self.drift_ppm + (SLEW_PPM if self.behind > 0 else -SLEW_PPM if self.behind < 0 else 0)
