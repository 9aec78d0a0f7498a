"""Where a stream is cut, and whether a chunk is worth compressing.

A chunk ends at the first fragment end at or past its target, a size drawn from the session's seed between the bounds, so
the same bytes and the same secret are always cut alike. A fragment that would carry the chunk past the upper bound is
split there. A stream too slow for that is cut by age (300 s): what is sealed can be replicated and anchored.
"""

import struct
import threading
from dataclasses import dataclass
from typing import Final

import zstandard
from blake3 import blake3

from consensus.encoding import Malformed
from consensus.ids import MB
from pipeline.sealed import PLAIN_BYTES_MAX
from pipeline.stream import Stream

ZSTD_LEVEL: Final = 3
_PROBE_BYTES: Final = 65536
_PROBE_GAIN: Final = 0.97
_local = threading.local()


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large and how old a chunk may become; targets lie in the lower half, so that a fragment has room to end."""

    low: int = 8 * MB
    high: int = 16 * MB
    age_ms: int = 300_000

    def __post_init__(self) -> None:
        if not (0 < self.low < self.high <= PLAIN_BYTES_MAX and self.age_ms > 0):
            raise ValueError(f"chunk bounds are 0 < low < high ≤ {PLAIN_BYTES_MAX}, and an age above 0")

    def target(self, seed: bytes, stream: Stream, index: int) -> int:
        """The size at which the chunk is to be cut: uniform in [low, low + (high − low) ÷ 2], from a 32-byte seed."""
        drawn = int.from_bytes(blake3(struct.pack(">BQ", stream, index), key=seed).digest(length=8), "big")
        return self.low + drawn % ((self.high - self.low) // 2 + 1)


@dataclass(slots=True)
class Cutter:
    """Tells how much of the next fragment still belongs to the open chunk; holds sizes, not bytes."""

    bounds: Bounds
    seed: bytes
    stream: Stream
    index: int = 0
    size: int = 0

    @property
    def target(self) -> int:
        """The open chunk's target size."""
        return self.bounds.target(self.seed, self.stream, self.index)

    def take(self, fragment: int) -> tuple[int, bool]:
        """How many of a fragment's bytes the open chunk takes, and whether it has to be cut behind them.

        The caller cuts, and offers the rest again until nothing is left.
        """
        room = self.bounds.high - self.size
        taken = min(fragment, room)
        if taken < fragment and self.size >= self.bounds.low:
            taken = 0  # the fragment stays whole: this chunk is large enough without it
        self.size += taken
        return taken, taken < fragment or self.size >= self.target

    def cut(self) -> None:
        """Begin the next chunk here."""
        self.index += 1
        self.size = 0


def compress(plain: memoryview, *, always: bool) -> bytes | None:
    """One Zstandard frame of level 3, or None when the bytes are better stored raw.

    Unless `always`, three probes of 64 KiB must gain 3 % first: recorded H.264 never does, and is spared the pass.
    """
    if not hasattr(_local, "compressor"):
        _local.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_content_size=True)
    compressor: zstandard.ZstdCompressor = _local.compressor
    size = len(plain)
    if not always and size > 4 * _PROBE_BYTES:
        starts = (0, size // 2, size - _PROBE_BYTES)
        gained = sum(len(compressor.compress(plain[at : at + _PROBE_BYTES])) for at in starts)
        if gained > _PROBE_GAIN * 3 * _PROBE_BYTES:
            return None
    packed = compressor.compress(plain)
    return packed if len(packed) < size else None


def decompress(packed: bytes, size: int) -> bytes:
    """The plain bytes of one Zstandard frame that holds exactly `size` of them; raises Malformed, never inflates past."""
    try:
        parameters = zstandard.get_frame_parameters(packed)
        # A frame of nothing is never sealed, and the library would not look at what follows its header.
        if parameters.content_size != size or not size:
            raise Malformed("the compressed payload announces another length than its header")
        plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Malformed("the payload is not a Zstandard frame") from error
    if len(plain) != size:
        raise Malformed("the compressed payload has another length than its header")
    return plain
