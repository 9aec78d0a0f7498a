"""What a terminal shows while a run goes on: virtual time, rate, time left, and the curve that decides what the run shows.

41.3%  24 m 47 s of 60 m  1,204,551 events, 21,300/s, 33 s left
entries that a directory has in the mean  ▁▁▃▅▇█████▇▇████  99.2 %
"""

import shutil
import sys
import time
from typing import Final, TextIO

from netsim.census import Census
from netsim.durability import DurabilityStage
from netsim.overlay import Stage
from netsim.parliament import HOUR_MS, AgreementStage
from netsim.siege import SiegeStage

AnyStage = Stage | DurabilityStage | AgreementStage | SiegeStage
EVERY_S: Final = 0.2
LOOKS: Final = 2_000
"""How often a run looks at the clock, spread over its virtual time."""
POINTS: Final = 48
BARS: Final = "▁▂▃▄▅▆▇█"


class Curve:
    """A series in so many points at the most: where there are more, two neighbours become their mean."""

    def __init__(self) -> None:
        self.points: list[float] = []
        self._each, self._sum, self._count = 1, 0.0, 0

    def add(self, value: float) -> None:
        """Add a value."""
        self._sum, self._count = self._sum + value, self._count + 1
        if self._count < self._each:
            return
        self.points.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if len(self.points) == POINTS:
            self.points = [(one + two) / 2 for one, two in zip(self.points[::2], self.points[1::2], strict=True)]
            self._each *= 2

    def drawn(self) -> str:
        """The series as bars between nothing, or the least below it, and the most of it."""
        if not self.points:
            return ""
        low, high = min(0.0, *self.points), max(self.points)
        scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
        return "".join(BARS[round((value - low) * scale)] for value in self.points)


def matters(made: AnyStage) -> tuple[str, float | None, str]:
    """What decides a run of this kind: its name, its value now or None while there is none, and its unit."""
    if isinstance(made, SiegeStage):
        seen = made.measures.watched
        share = 100 * seen[-1].sybils / seen[-1].places if seen and seen[-1].places else None
        return "places in honest meshes that Sybils hold", share, " %"
    if isinstance(made, AgreementStage):
        chronicle = made.measures
        hour = (made.world.now - chronicle.begun) // HOUR_MS
        return "HOURs that finality is behind", float(hour - (chronicle.last.point.hour if chronicle.last else 0)), ""
    if isinstance(made, DurabilityStage):
        return "chunks that are short of a copy", _short(made.measures), ""
    sample = made.measures.samples[-1] if made.measures.samples else None
    held = 100 * sample.directory / sample.entries if sample and sample.entries else None
    return "entries that a directory has in the mean", held, " %"


def _short(census: Census) -> float | None:
    if not census.samples:
        return None
    last = census.samples[-1]
    return float(last.none + last.one + last.two)


def spoken(ms: int) -> str:
    """A virtual time in its two largest units."""
    seconds = ms // 1000
    days, hours, minutes = seconds // 86_400, seconds // 3_600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} m"
    return f"{minutes} m {seconds % 60} s" if minutes else f"{seconds} s"


class Live:
    """The view of one run, on a terminal and nowhere else."""

    def __init__(self, made: AnyStage, until: int, to: TextIO | None = None) -> None:
        self.made, self.until, self.to = made, until, to or sys.stderr
        self.began, self.shown, self.curve = time.monotonic(), 0.0, Curve()
        if self.to.isatty():
            made.world.every(max(1000, (until - made.world.now) // LOOKS), self.look)

    def look(self) -> None:
        """Take a point, and draw anew at most five times a second."""
        _, value, _ = matters(self.made)
        if value is not None:
            self.curve.add(value)
        now = time.monotonic()
        if now - self.shown >= EVERY_S:
            self.shown = now
            first, second = (line[: self._width()] for line in self.lines(now - self.began))
            print(f"\r\x1b[K{first}\n\x1b[K{second}\r\x1b[A", end="", file=self.to, flush=True)

    def lines(self, elapsed: float) -> tuple[str, str]:
        """What is shown after so many seconds."""
        world, begun = self.made.world, self.made.measures.begun
        whole = max(1, self.until - begun)
        share = (world.now - begun) / whole
        left = spoken(int(1000 * (elapsed / share - elapsed))) if share > 0 else "unknown time"
        name, value, unit = matters(self.made)
        first = f"{share:6.1%}  {spoken(world.now - begun)} of {spoken(whole)}"
        rate = world.events / max(elapsed, 1e-6)
        last = "not known yet" if value is None else f"{value:.3g}{unit}"
        return f"{first}  {world.events:,} events, {rate:,.0f}/s, {left} left", f"{name}: {last}  {self.curve.drawn()}"

    def end(self) -> None:
        """Wipe both lines."""
        if self.shown:
            print("\r\x1b[K\n\x1b[K\r\x1b[A", end="", file=self.to, flush=True)

    def _width(self) -> int:
        return max(20, shutil.get_terminal_size().columns - 1)
