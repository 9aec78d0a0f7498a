"""The sealed chunk's file format, version 1: a header in the clear, then ciphertext and tag.

    0   "LUCD"  version u8  stream u8  flags u8  0 u8      integers big-endian
    8   gaps so far u32
    12  index u64
    20  plain length u64
    28  network 32 B
    60  session 32 B
    92  nonce 24 B
    116 ciphertext, 16 B tag

Everything before the nonce is authenticated as associated data in the spelling of DESIGN §6, the nonce by the tag itself.
"""

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from consensus.encoding import Malformed
from consensus.ids import Network, SessionId
from pipeline.stream import Stream

MAGIC: Final = b"LUCD"
VERSION: Final = 1
HEADER_BYTES: Final = 116
TAG_BYTES: Final = 16
OVERHEAD: Final = HEADER_BYTES + TAG_BYTES
PLAIN_BYTES_MAX: Final = 64_000_000
"""No chunk holds more before compression, whatever its header says: four times the largest that is ever cut."""

_HEADER: Final = struct.Struct(">4sBBBBIQQ32s32s24s")
_AAD: Final = struct.Struct(">BQBIQ")
_KNOWN_FLAGS: Final = 3
"""LAST and RAW; a plain number, because the complement of an IntFlag is not the same in every Python."""


class Flags(IntFlag):
    """What a reader must know of a chunk; authenticated."""

    NONE = 0
    LAST = 1
    """The stream ends with this chunk."""
    RAW = 2
    """The payload is the plain bytes; else one Zstandard frame of them."""


@dataclass(frozen=True, slots=True)
class Header:
    """The clear part of a sealed chunk."""

    network: Network
    session: SessionId
    stream: Stream
    index: int
    flags: Flags
    gaps: int
    plain: int

    def spell(self, nonce: bytes) -> bytes:
        """The 116 bytes that stand before the ciphertext."""
        return _HEADER.pack(
            MAGIC,
            VERSION,
            self.stream,
            self.flags,
            0,
            self.gaps,
            self.index,
            self.plain,
            self.network,
            self.session,
            nonce,
        )

    def associated(self) -> bytes:
        """The associated data: "lucid/chunk/v1" ‖ network ‖ session ‖ stream ‖ index ‖ flags ‖ gaps ‖ plain length."""
        counts = _AAD.pack(self.stream, self.index, self.flags, self.gaps, self.plain)
        return b"lucid/chunk/v1" + self.network + self.session + counts


def parse(sealed: memoryview | bytes) -> tuple[Header, bytes]:
    """The header of a sealed chunk and its nonce; raises Malformed for anything that no sealer wrote."""
    if len(sealed) < OVERHEAD:
        raise Malformed(f"{len(sealed)} bytes are too few for a sealed chunk")
    magic, version, stream, flags, zero, gaps, index, plain, network, session, nonce = _HEADER.unpack_from(sealed)
    if magic != MAGIC:
        raise Malformed("not a sealed chunk: its first bytes are wrong")
    if version != VERSION:
        raise Malformed(f"sealed chunk of version {version}; this program reads version {VERSION}")
    if zero or stream not in (Stream.VIDEO, Stream.AUDIT) or flags & ~_KNOWN_FLAGS or plain > PLAIN_BYTES_MAX:
        raise Malformed("a field of the chunk's header is out of its range")
    if flags & Flags.RAW:
        if len(sealed) != OVERHEAD + plain:
            raise Malformed("the chunk's size is not that of its raw payload")
    elif len(sealed) >= OVERHEAD + plain:  # also what bounds the size of every sealed chunk
        raise Malformed("the chunk's compressed payload is not shorter than its plain bytes")
    header = Header(Network(network), SessionId(session), Stream(stream), index, Flags(flags), gaps, plain)
    return header, nonce
