"""A session's records as one sealed file, so that they outlive the disk they were made on together with the chunks.

    dossier = 01 ‖ nonce 24 ‖ XChaCha20-Poly1305(key, nonce, Dossier, ad = label ‖ session)

It is placed on holders like any chunk; the owner's session index says where. With it and the keys a new machine has all
that the old one had of the session, and can verify and play it. The nonce is a keyed hash of the content, as for chunks.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from blake3 import blake3

from consensus.encoding import Malformed
from consensus.ids import Digest, SessionId
from consensus.records import Most, pack, unpack
from node.sessions.placement import Placement
from node.sessions.records import Kept, Row
from node.store import ABSENT, Put
from pipeline.manifest import Signed
from pipeline.seal import RecordKey, Unauthentic

LABEL: Final = b"lucid/dossier/v1"
BYTES_MAX: Final = 1 << 25
_VERSION: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class Dossier:
    """Everything that is kept of a closed session but its chunks."""

    VERSION: ClassVar = 1
    opening: Annotated[bytes, Most(1 << 20)]
    manifest: Annotated[bytes, Most(1 << 24)]
    rows: Annotated[tuple[Row, ...], Most(1 << 20)]
    heads: Annotated[tuple[Signed, ...], Most(1 << 20)]
    placements: Annotated[tuple[Placement, ...], Most(1 << 20)]
    """Of its chunks; whoever holds a replica is asked for it by its root."""


def seal(kept: Kept, placements: tuple[Placement, ...], session: SessionId, secret: bytes) -> bytes:
    """The sealed dossier of a closed session; raises ValueError for one that is open."""
    if kept.manifest_bytes is None:
        raise ValueError("an open session has no dossier yet")
    plain = pack(Dossier(kept.opening_bytes, kept.manifest_bytes, kept.rows, kept.heads, placements))
    return _VERSION + RecordKey.derive(session, secret, LABEL).seal(plain, LABEL + session)


def unseal(data: bytes, session: SessionId, secret: bytes) -> Dossier:
    """The dossier in sealed bytes; raises Malformed for what is not one, was changed, or is another session's."""
    if data[:1] != _VERSION or len(data) > BYTES_MAX:
        raise Malformed("not a dossier that this program reads")
    if len(data) < len(_VERSION) + RecordKey.OVERHEAD:
        raise Malformed("a dossier that was cut short")
    try:
        plain = RecordKey.derive(session, secret, LABEL).open(data[len(_VERSION) :], LABEL + session)
    except Unauthentic:
        raise Malformed("a dossier that was changed, or is not this session's") from None
    return unpack(Dossier, plain)


def rows(dossier: Dossier, session: SessionId) -> list[Put]:
    """The changes that give a store the session's records, for one commit; it must not know the session yet."""
    changes = [
        Put("sessions", (session,), dossier.opening, ABSENT),
        Put("manifests", (session,), dossier.manifest, ABSENT),
    ]
    for row in dossier.rows:
        changes.append(Put("chunks", (session, int(row.chunk.stream), row.chunk.index), pack(row), ABSENT))
        changes.append(Put("files", (row.chunk.file,), b""))
    changes += [Put("heads", (session, number), pack(head), ABSENT) for number, head in enumerate(dossier.heads)]
    return changes + [Put("placements", (one.chunk,), pack(one)) for one in dossier.placements]


def name(data: bytes) -> Digest:
    """What a sealed dossier is called: its BLAKE3, as of a chunk."""
    return Digest(blake3(data).digest())
