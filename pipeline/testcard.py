"""A desktop's worth of motion with the time burned in, to record and to check recordings by.

`python -m pipeline.testcard --display :N [--seconds S] [--busy PERCENT]` covers a display with scrolling lines, moving
boxes and noise. The noise is what makes bytes: at 1280x720 and 15 frames a second a minute at the default level fills
about three chunks.

The clock is a band of 2 x 28 squares along the top edge: Unix milliseconds, 48 bits, highest first, and their CRC-8,
white for 1. Squares are a 32nd of the width, so that it survives compression and scaling and can be read from a frame
of any size; their neighbours' blur and ringing stay outside the middle half that is read.
"""

import argparse
import random
import time
from collections.abc import Sequence
from typing import Any, Final

from Xlib import X
from Xlib.display import Display

from consensus.ids import Millis

COLUMNS: Final = 28
ROWS: Final = 2
TIME_BITS: Final = 48
BUSY_PERCENT: Final = 12

_DOUBTFUL: Final = range(96, 160)
_NOISE_SIDE: Final = 512
_PUT_BYTES: Final = 200_000  # below X11's largest request, 256 KiB


def clock_bits(ms: Millis) -> tuple[bool, ...]:
    """The clock's 56 squares in reading order: 48 bits of time, 8 of CRC. Raises ValueError when the time needs more."""
    whole = ms.to_bytes(TIME_BITS // 8, "big") if 0 <= ms < 1 << TIME_BITS else b""
    if not whole:
        raise ValueError(f"the clock shows 0 to 2^{TIME_BITS} - 1 ms, not {ms}")
    value = ms << 8 | _crc(whole)
    return tuple(bool(value >> shift & 1) for shift in range(TIME_BITS + 7, -1, -1))


def squares(width: int) -> list[tuple[int, int, int, int]]:
    """Where the clock's squares are in a picture of this width: x, y, width and height of each, in reading order."""
    edges = [(column + 2) * width // 32 for column in range(COLUMNS + 1)]
    rows = [row * width // 32 for row in range(ROWS + 1)]
    return [
        (edges[column], rows[row], edges[column + 1] - edges[column], rows[row + 1] - rows[row])
        for row in range(ROWS)
        for column in range(COLUMNS)
    ]


def read_clock(gray: bytes, width: int, height: int) -> Millis | None:
    """The time shown in a picture of one byte of brightness a pixel, row by row; None when no clock can be read."""
    if width < 128 or height < width // 16 or len(gray) < width * height:
        return None
    value = 0
    for x, y, w, h in squares(width):
        left, right = x + w // 4, x + w - w // 4
        lines = range(y + h // 4, y + h - h // 4)
        mean = sum(sum(gray[row * width + left : row * width + right]) for row in lines) // (
            (right - left) * len(lines)
        )
        if mean in _DOUBTFUL:
            return None
        value = value << 1 | (mean >= _DOUBTFUL.stop)
    ms = value >> 8
    return Millis(ms) if _crc(ms.to_bytes(TIME_BITS // 8, "big")) == value & 0xFF else None


def _crc(data: bytes) -> int:
    """CRC-8, polynomial 0x07, from 0x5A: neither an all-black nor an all-white band is a time."""
    crc = 0x5A
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 ^ (0x107 if crc & 0x80 else 0)
    return crc


class Card:
    """The picture on one display: drawn on a pixmap and shown by one copy, so that no grab sees half a frame."""

    def __init__(self, connection: Any, busy: int) -> None:
        screen = connection.screen()
        self._connection, self._depth = connection, screen.root_depth
        self._width, self._height = screen.width_in_pixels, screen.height_in_pixels
        self._window = screen.root.create_window(
            0, 0, self._width, self._height, 0, self._depth, X.CopyFromParent, override_redirect=1
        )
        self._window.map()
        self._gc = self._window.create_gc(graphics_exposures=0)
        self._random = random.Random(7)  # noqa: S311 - a picture, not a secret
        self._back = self._window.create_pixmap(self._width, self._height, self._depth)
        self._page = self._text()
        self._noise = self._static()
        self._noise_height = self._height * busy // 100

    def show(self, frame: int, ms: Millis) -> None:
        """Draw and show one frame with this time."""
        width, height = self._width, self._height
        offset = frame * 3 % height
        self._back.copy_area(self._gc, self._page, 0, offset, width, height, 0, 0)
        for number, colour in enumerate((0xC03030, 0x3030C0, 0x30A030)):
            place = frame * (5 + 2 * number)
            self._box(colour, _bounce(place, width - 120), height // 3 + _bounce(place // 2, height // 3), 120, 90)
        for x in range(0, width, _NOISE_SIDE):
            for y in range(height - self._noise_height, height, _NOISE_SIDE):
                part = min(_NOISE_SIDE, height - y)
                left, top = self._random.randrange(_NOISE_SIDE), self._random.randrange(_NOISE_SIDE)
                self._back.copy_area(self._gc, self._noise, left, top, _NOISE_SIDE, part, x, y)
        self._box(0, 0, 0, width, ROWS * (width // 32) + width // 64)
        self._gc.change(foreground=0xFFFFFF)
        lit = [place for place, bit in zip(squares(width), clock_bits(ms), strict=True) if bit]
        self._back.poly_fill_rectangle(self._gc, lit)
        self._window.copy_area(self._gc, self._back, 0, 0, width, height, 0, 0)
        self._connection.sync()

    def _box(self, colour: int, x: int, y: int, width: int, height: int) -> None:
        self._gc.change(foreground=colour)
        self._back.fill_rectangle(self._gc, x, y, width, height)

    def _text(self) -> Any:
        """A page two screens long whose halves are equal, so that scrolling never jumps; words are bars."""
        page = self._window.create_pixmap(self._width, 2 * self._height, self._depth)
        self._gc.change(foreground=0xF4F4F4)
        page.fill_rectangle(self._gc, 0, 0, self._width, 2 * self._height)
        words = []
        for y in range(6, self._height - 12, 18):
            x = 10
            while x < self._width - 20:
                length = self._random.randrange(8, 90)
                words += [(x, y, length, 9), (x, y + self._height, length, 9)]
                x += length + 8
        self._gc.change(foreground=0x202020)
        page.poly_fill_rectangle(self._gc, words)
        return page

    def _static(self) -> Any:
        """Gray noise, twice the side of what is copied from it, so that every copy differs."""
        side = 2 * _NOISE_SIDE
        noise = self._window.create_pixmap(side, side, self._depth)
        rows = _PUT_BYTES // (4 * side)
        for y in range(0, side, rows):
            height = min(rows, side - y)
            pixels = b"".join(bytes((level,)) * 4 for level in self._random.randbytes(side * height))
            noise.put_image(self._gc, 0, y, side, height, X.ZPixmap, self._depth, 0, pixels)
        return noise


def _bounce(place: int, room: int) -> int:
    return abs(place % (2 * room) - room)


def main(arguments: Sequence[str] | None = None) -> None:
    """Show the card on a display for some seconds, or until we are killed."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.testcard", description="A moving picture with a clock.")
    parser.add_argument("--display", required=True)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--fps", type=int, default=15)
    parser.add_argument("--busy", type=int, default=BUSY_PERCENT, help="percent of the screen that is noise")
    options = parser.parse_args(arguments)
    connection = Display(options.display)
    card = Card(connection, options.busy)
    begun, frame = time.monotonic(), 0
    while (passed := time.monotonic() - begun) < options.seconds:
        card.show(frame, Millis(time.time_ns() // 1_000_000))
        frame += 1
        time.sleep(max(0.0, frame / options.fps - passed))
    connection.close()


if __name__ == "__main__":
    main()
