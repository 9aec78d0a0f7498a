"""What a command says: sentences for people on stdout, one JSON object as the last line with --json, progress on a terminal."""

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO


@dataclass
class Console:
    """The command's mouth; with `as_json` people's sentences go nowhere and only `result` speaks."""

    as_json: bool = False
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)

    def say(self, sentence: str = "") -> None:
        """A line for people."""
        if not self.as_json:
            print(sentence, file=self.out, flush=True)

    def result(self, facts: Mapping[str, object]) -> None:
        """The facts as one JSON object on a line of its own, if that was asked for; bytes become lowercase hex."""
        if self.as_json:
            print(json.dumps(facts, default=_plain, ensure_ascii=False), file=self.out, flush=True)

    @property
    def is_live(self) -> bool:
        """Whether people look at a terminal that can be drawn over."""
        return not self.as_json and self.out.isatty()

    def redraw(self, lines: Sequence[str], over: int) -> int:
        """Draw these lines over so many that were drawn before; how many there are now."""
        up = f"\x1b[{over}A" if over else ""
        print(up + "".join([f"\x1b[2K{line}\n" for line in lines]), end="", file=self.out, flush=True)
        return len(lines)

    def warn(self, sentence: str) -> None:
        """A line on stderr, whatever the form of the output."""
        print(sentence, file=self.err, flush=True)

    def draw(self, picture: Callable[[int], str | None]) -> None:
        """A picture for people at a terminal, made to fit its columns; nothing in a pipe or a file."""
        if not self.as_json and self.out.isatty():
            made = picture(shutil.get_terminal_size().columns)
            if made is not None:
                print(made, file=self.out, flush=True)

    def progress(self, what: str, unit: str = "B", total: int | None = None) -> "Progress":
        """A progress line on stderr, if that is a terminal."""
        return Progress(what, unit, total, self.err if self.err.isatty() else None)


def _plain(value: object) -> object:
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    raise TypeError(f"{type(value).__name__} has no JSON form")


@dataclass
class Progress:
    """One line that is overwritten: amount, rate, and the time left where the total is known; at most 5 times a second."""

    what: str
    unit: str
    total: int | None
    out: TextIO | None
    started: float = field(default_factory=time.monotonic)
    shown: float = 0.0

    def update(self, done: int, note: str = "") -> None:
        """Show how much is done."""
        now = time.monotonic()
        if self.out is None or now - self.shown < 0.2:
            return
        self.shown = now
        elapsed = max(now - self.started, 1e-6)
        rate = done / elapsed
        left = f", {clock((self.total - done) / rate)} left" if self.total and rate else ""
        share = f" of {size(self.total)}" if self.total else ""
        print(
            f"\r\x1b[K{self.what}: {size(done)}{share}, {size(rate)}/s{left} {note}", end="", file=self.out, flush=True
        )

    def end(self) -> None:
        """Wipe the line."""
        if self.out is not None and self.shown:
            print("\r\x1b[K", end="", file=self.out, flush=True)


def size(count: float) -> str:
    """Bytes for people: 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def clock(seconds: float) -> str:
    """A duration for people: 1:02:03 or 0:09."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def moment(ms: int) -> str:
    """A point in time for people, UTC to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(ms / 1000))
