"""What flows from a source into the recording: fragments, the gaps between them, and the two streams they make.

A session has two streams, video and audit; a fragment is the smallest piece that a reader can use by itself (one fMP4
fragment, some whole audit lines), so chunks are cut between fragments wherever their size allows it.
"""

from dataclasses import dataclass
from enum import IntEnum

from consensus.ids import Millis


class Stream(IntEnum):
    """The streams of a session; the number is part of every format."""

    VIDEO = 0
    AUDIT = 1


@dataclass(frozen=True, slots=True)
class Fragment:
    """Consecutive bytes of a stream and when their source delivered the first and the last of them."""

    data: bytes
    first: Millis
    last: Millis


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of time in which a source delivered nothing because it had died; the next fragment starts anew."""

    first: Millis
    last: Millis
    reason: str


Piece = Fragment | Gap
