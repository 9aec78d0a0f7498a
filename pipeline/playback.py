"""One playable MP4 from a recording whose encoder was restarted: later epochs follow the first on one timeline.

An epoch's own clock starts at zero. Its fragments' decode times (`tfdt`) are moved to where its gap ended, its `ftyp`
and `moov` are dropped (the same encoder wrote the same ones), and so is every `mfra`, whose offsets no longer hold.
Source: ISO/IEC 14496-12 §8.8.12 (tfdt), §8.4.2 (mdhd).
"""

import contextlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from pipeline.fmp4 import MalformedVideo

_CONTAINERS: Final = {b"moov", b"trak", b"mdia", b"moof", b"traf"}
_TIMESCALE_DEFAULT: Final = 1000


def _boxes(data: bytearray | memoryview, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, first byte and end of each whole box between two positions."""
    at = start
    while at + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, at)
        if size == 1 and at + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, at + 8)
        if size < 8:
            raise MalformedVideo(f"a box of {size} bytes in the recording")
        if at + size > end:
            return
        yield name, at, at + size
        at += size


def _find(data: bytearray, start: int, end: int, wanted: bytes) -> Iterator[int]:
    """Where the boxes of one type begin, looking inside the containers that can hold them."""
    for name, first, last in _boxes(data, start, end):
        if name == wanted:
            yield first
        elif name in _CONTAINERS:
            yield from _find(data, first + 8, last, wanted)


@contextlib.contextmanager
def _inside(name: str) -> Iterator[None]:
    try:
        yield
    except (struct.error, IndexError) as error:
        raise MalformedVideo(f"a {name} box of the recording is too short, or its time beyond what it holds") from error


def _timescale(data: bytearray, start: int, end: int) -> int:
    for at in _find(data, start, end, b"mdhd"):
        with _inside("mdhd"):
            scale: int = struct.unpack_from(">I", data, at + (28 if data[at + 8] else 20))[0]
        return scale
    return _TIMESCALE_DEFAULT


def _delay(data: bytearray, start: int, end: int, ticks: int) -> None:
    """Move a fragment's decode times by so many ticks, in place."""
    for at in _find(data, start, end, b"tfdt"):
        with _inside("tfdt"):
            form = ">Q" if data[at + 8] else ">I"
            (time,) = struct.unpack_from(form, data, at + 12)
            struct.pack_into(form, data, at + 12, time + ticks)


def join_epochs(parts: Iterable[bytes], starts_ms: Sequence[int]) -> Iterator[bytes]:
    """The parts of a recording as one MP4; `starts_ms` says when each epoch begins, the first at 0.

    Holds a part and an unfinished box in memory. Raises MalformedVideo where the recording is not fragmented MP4; a
    box that the recording breaks off in is dropped.
    """
    pending, epoch, scale = bytearray(), -1, _TIMESCALE_DEFAULT
    for part in parts:
        pending += part
        done = 0
        for name, first, last in _boxes(pending, 0, len(pending)):
            done = last
            if name == b"ftyp":
                epoch += 1
            if name == b"moov" and epoch == 0:
                scale = _timescale(pending, first, last)
            if name == b"moof" and epoch > 0:
                start = starts_ms[epoch] if epoch < len(starts_ms) else starts_ms[-1]
                _delay(pending, first, last, start * scale // 1000)
            if not (name == b"mfra" or (epoch > 0 and name in {b"ftyp", b"moov"})):
                yield bytes(pending[first:last])
        del pending[:done]
