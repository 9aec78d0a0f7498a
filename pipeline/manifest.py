"""The signed records of a session, and the identity of each.

    Opening ── certifies the ephemeral key, before the first frame, signed by the identity
       └─ Head 0 ─ Head 1 ─ …  every 30 s, signed by the ephemeral key, each bound to the one before it
            └─ Manifest        at the end: counts, Merkle root, gaps, incidents; signed by the ephemeral key, or by the
                               identity if the recorder died (the ephemeral key dies with it)
    Listing ── one Chunk for each sealed chunk; bound by the manifest

All of them are canonical CBOR; `render` is their JSON, made for people and bound to the same bytes.
Source: SPEC §3, DESIGN §6.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, ClassVar, Final

from consensus import merkle
from consensus.encoding import Malformed, Value, encode
from consensus.ids import NO_NETWORK, Address, Digest, Millis, Network, NodeId, SessionId
from consensus.records import Between, Most, Size, from_value, pack, to_value, unpack
from consensus.signing import KeyPair, digest, verify
from pipeline.stream import Stream

GAPS_MAX: Final = 4096
CHUNKS_MAX: Final = 1 << 20
_PLACE: Final = struct.Struct(">BQ")

Bytes16 = Annotated[bytes, Size(16)]
Bytes32 = Annotated[bytes, Size(32)]
Bytes64 = Annotated[bytes, Size(64)]
Short = Annotated[str, Most(200)]
Long = Annotated[str, Most(1000)]


@dataclass(frozen=True, slots=True)
class Signed:
    """Canonical bytes and an Ed25519 signature over them in the domain of their record."""

    VERSION: ClassVar = 1
    body: bytes
    signature: Bytes64


@dataclass(frozen=True, slots=True)
class Opening:
    """What a session is, said before its first frame."""

    VERSION: ClassVar = 1
    session: Annotated[SessionId, Size(32)]
    network: Annotated[Network, Size(32)]
    owner: Annotated[Address, Size(20)]
    uuid: Bytes16
    ephemeral: Bytes32
    identity: Annotated[NodeId, Size(32)]
    started: Millis
    policy: Bytes32
    """Hash of the signed control policy; zeros where no policy applies."""
    streams: Annotated[tuple[Stream, ...], Most(8)]
    codec: Short
    recorder: Short
    device: Bytes32
    chunk_low: int
    chunk_high: int
    chunk_age_ms: int
    key_generation: int
    """Which master key of the owner's vault the session's secret is derived from."""


@dataclass(frozen=True, slots=True)
class Tail:
    """How much of an open chunk was safe in the journal: BLAKE3, keyed with the chunk's commitment key, of those bytes."""

    VERSION: ClassVar = 1
    stream: Stream
    index: int
    size: int
    digest: Annotated[Digest, Size(32)]


@dataclass(frozen=True, slots=True)
class Head:
    """What was sealed by a moment; number 0 follows the opening."""

    VERSION: ClassVar = 1
    session: Annotated[SessionId, Size(32)]
    number: int
    at: Millis
    previous: Annotated[Digest, Size(32)]
    leaves: Annotated[tuple[Annotated[Digest, Size(32)], ...], Most(CHUNKS_MAX)]
    """Leaves of the chunks sealed since the head before, in the order of their sealing."""
    tails: Annotated[tuple[Tail, ...], Most(8)]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One sealed chunk as the manifest lists it."""

    VERSION: ClassVar = 1
    stream: Stream
    index: int
    file: Annotated[Digest, Size(32)]
    """BLAKE3 of the whole sealed file, its header included: its name in every store."""
    commitment: Annotated[Digest, Size(32)]
    segments: Annotated[Digest, Size(32)]
    size: int
    plain: int
    flags: Annotated[int, Between(0, 3)]
    gaps: Annotated[int, Between(0, GAPS_MAX)]
    first: Millis
    last: Millis

    def leaf(self) -> Digest:
        """H(00 ‖ stream ‖ index ‖ file ‖ commitment ‖ segments ‖ size)."""
        place = _PLACE.pack(self.stream, self.index)
        return merkle.leaf(place + self.file + self.commitment + self.segments + self.size.to_bytes(8, "big"))

    @property
    def name(self) -> str:
        """How people and reports call it: "video/3"."""
        return f"{self.stream.name.lower()}/{self.index}"


@dataclass(frozen=True, slots=True)
class Listing:
    """Every chunk of a session by stream and index."""

    VERSION: ClassVar = 1
    chunks: Annotated[tuple[Chunk, ...], Most(CHUNKS_MAX)]


@dataclass(frozen=True, slots=True)
class GapNote:
    """A stretch in which a stream has no picture or no events; `offset` is where the stream goes on, in its plain bytes."""

    VERSION: ClassVar = 1
    stream: Stream
    offset: int
    first: Millis
    last: Millis
    reason: Short


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that an auditor has to know; `damaging` when the recording may lack or misstate what happened."""

    VERSION: ClassVar = 1
    at: Millis
    damaging: bool
    what: Long


class Role(IntEnum):
    """Who took part besides the owner."""

    CLIENT = 1
    OBSERVER = 2


@dataclass(frozen=True, slots=True)
class Participant:
    """A party's consent: its signature over (session, policy hash, start)."""

    VERSION: ClassVar = 1
    role: Role
    key: Bytes32
    signature: Bytes64


class Closer(IntEnum):
    """Whose signature closes a session."""

    EPHEMERAL = 0
    IDENTITY = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a sealed session consists of."""

    VERSION: ClassVar = 1
    session: Annotated[SessionId, Size(32)]
    opening: Annotated[Digest, Size(32)]
    ended: Millis
    complete: bool
    reason: Long
    """Why the session ended."""
    closer: Closer
    chunk_count: int
    root: Annotated[Digest, Size(32)]
    listing: Annotated[Digest, Size(32)]
    heads: int
    last_head: Annotated[Digest, Size(32)]
    """The opening's identity where there is no head."""
    gaps: Annotated[tuple[GapNote, ...], Most(2 * GAPS_MAX)]
    incidents: Annotated[tuple[Incident, ...], Most(GAPS_MAX)]
    participants: Annotated[tuple[Participant, ...], Most(64)]


def identity(record: Opening | Head | Manifest | Listing, network: Network) -> Digest:
    """BLAKE3 of a record's canonical bytes in its own domain: how other records refer to it."""
    return digest(type(record).__name__.lower(), network, pack(record))


def sign(record: Opening | Head | Manifest, key: KeyPair, network: Network) -> Signed:
    """The record's bytes with the key's signature."""
    body = pack(record)
    return Signed(body, key.sign(type(record).__name__.lower(), network, body))


def signed_by(signed: Signed, kind: type[Opening | Head | Manifest], key: bytes, network: Network) -> bool:
    """Whether the key signed these bytes as a record of that kind on that network."""
    return verify(key, signed.signature, kind.__name__.lower(), network, signed.body)


def order(chunks: Sequence[Chunk]) -> tuple[Chunk, ...]:
    """Chunks by stream and index: the order of the Merkle leaves and of the listing."""
    return tuple(sorted(chunks, key=lambda chunk: (chunk.stream, chunk.index)))


def consent(session: SessionId, policy: bytes, started: Millis) -> bytes:
    """What a participant signs, under the name "consent"."""
    return encode([session, policy, started])


def pack_heads(heads: Sequence[Signed]) -> bytes:
    """The heads of a session as one canonical array."""
    return encode([to_value(head) for head in heads])


def unpack_heads(value: Value) -> tuple[Signed, ...]:
    """The heads that a decoded array spells; raises Malformed."""
    if not isinstance(value, list):
        raise Malformed("the heads are not an array")
    return tuple(from_value(Signed, item) for item in value)


def render(opening: Opening, manifest: Manifest) -> str:
    """Both records as JSON for people: bytes in lowercase hex, streams and roles by name, one spelling."""

    def plain(value: Value) -> object:
        match value:
            case bytes():
                return value.hex()
            case list() | tuple():
                return [plain(item) for item in value]
            case dict():
                return {str(key): plain(item) for key, item in value.items()}
            case _:
                return value

    both = {"opening": plain(to_value(opening)), "manifest": plain(to_value(manifest))}
    return json.dumps(both, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def open_opening(signed: Signed) -> Opening:
    """The opening inside its signed bytes, its signature not yet checked; raises Malformed."""
    return unpack(Opening, signed.body)


__all__ = [
    "NO_NETWORK",
    "Chunk",
    "Closer",
    "GapNote",
    "Head",
    "Incident",
    "Listing",
    "Manifest",
    "Opening",
    "Participant",
]
