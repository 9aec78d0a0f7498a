"""Fragmented MP4 as a stream of bytes: where its fragments end and where its epochs begin.

The rule: nothing is changed, nothing is lost. Whatever portions the bytes arrive in, the pieces that come out are the
same, and joined they are the input. Only box headers are looked at (ISO/IEC 14496-12 §4.2: size u32 be, type 4 B, then
size u64 be when the first is 1). An *epoch* is the output of one encoder, from its `ftyp` to the next one's.
"""

from collections.abc import Iterable, Iterator
from typing import Final

PIECE_BYTES_MAX: Final = 64 << 20
"""A piece above this is garbage from a dying encoder: 500 ms of video are far below 1 MiB."""

_SHORT: Final = 8
_LONG: Final = 16


class MalformedVideo(Exception):
    """The bytes are not fragmented MP4; the encoder that wrote them is broken or died while writing."""


class Splitter:
    """Cuts one encoder's output into pieces that a player can take one by one.

    The first piece is everything up to the end of the first `mdat` after a `moof`: the initialisation (`ftyp`, `moov`)
    and the first fragment. Every later piece ends with the next such `mdat`; other boxes stay with what follows them.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        self._at = 0  # of the next box header in `_pending`
        self._fragment = False  # a `moof` has been passed since the last cut

    @property
    def pending(self) -> int:
        """Bytes taken in that do not make a whole piece yet."""
        return len(self._pending)

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces that these bytes complete, in order.

        Raises MalformedVideo at the first impossible box, but not before what was complete ahead of it has been
        returned: in that case the next call raises.
        """
        self._pending += data
        pieces: list[bytes] = []
        try:
            while (box := _header(self._pending, self._at, PIECE_BYTES_MAX - self._at)) is not None:
                name, size = box
                if self._at + size > len(self._pending):
                    break
                self._at += size
                self._fragment |= name == b"moof"
                if self._fragment and name == b"mdat":
                    pieces.append(bytes(self._pending[: self._at]))
                    del self._pending[: self._at]
                    self._at, self._fragment = 0, False
        except MalformedVideo:
            if not pieces:
                raise
        return pieces

    def finish(self) -> bytes:
        """What was fed and returned in no piece: empty after an orderly end, else the start of something unfinished."""
        tail = bytes(self._pending)
        self._pending.clear()
        self._at, self._fragment = 0, False
        return tail


def epochs(data: Iterable[bytes]) -> Iterator[int]:
    """Positions of the `ftyp` boxes, each the first byte of an epoch, in a recording given in any portions.

    A last box that is cut short counts for what is there of it. Raises MalformedVideo where a box is impossible.
    """
    position = 0  # in the stream, of the first byte in `head`
    head = bytearray()
    skip = 0  # bytes of the present box that are still to come
    for portion in data:
        passed = min(skip, len(portion))
        position, skip = position + passed, skip - passed
        if skip:
            continue
        head += portion[passed:]
        at = 0
        while (box := _header(head, at)) is not None:
            name, size = box
            if name == b"ftyp":
                yield position + at
            at += size
        passed = min(at, len(head))
        position, skip = position + passed, at - passed
        del head[:passed]


def _header(data: bytearray, at: int, size_max: int = PIECE_BYTES_MAX) -> tuple[bytes, int] | None:
    """Type and whole size of the box at a position, None when its header is not all there."""
    head = data[at : at + _LONG]
    if len(head) < _SHORT:
        return None
    size, name, least = int.from_bytes(head[:4], "big"), bytes(head[4:8]), _SHORT
    if size == 1:
        if len(head) < _LONG:
            return None
        size, least = int.from_bytes(head[8:], "big"), _LONG
    # Size 0, "to the end of the file", is legal in a file and useless in a stream: FFmpeg does not write it.
    if not least <= size <= size_max or not all(0x20 <= letter <= 0x7E for letter in name):
        raise MalformedVideo(f"no box of fragmented MP4 has type {name!r} and {size} bytes here")
    return name, size
