"""The sessions of a home: their records in the store, opened, sealed, closed, and taken up again after a crash.

table       key                       value
sessions    session                   the signed opening
chunks      session, stream, index    the chunk's entry and the gaps in it
files       digest                    empty: the file belongs to a session
heads       session, number           the signed head
manifests   session                   the signed manifest: absent while the session is open
holds       session                   empty: it is on legal hold (node/sessions/annotations)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Protocol

from consensus import merkle
from consensus.encoding import Malformed, encode
from consensus.ids import Digest, Millis, SessionId
from consensus.records import Most, pack, unpack
from node.store import ABSENT, Key, Put, Store
from pipeline.bundle import Evidence, Read
from pipeline.manifest import (
    GAPS_MAX,
    Chunk,
    GapNote,
    Listing,
    Manifest,
    Opening,
    Signed,
    open_opening,
    order,
    pack_heads,
)
from pipeline.stores import Interrupted

HOLDS: Final = "holds"


@dataclass(frozen=True, slots=True)
class Row:
    """A chunk as the store keeps it."""

    VERSION: ClassVar = 1
    chunk: Chunk
    gaps: Annotated[tuple[GapNote, ...], Most(GAPS_MAX)]


@dataclass(frozen=True, slots=True)
class StoreLedger:
    """A session's ledger in the store."""

    store: Store
    session: SessionId

    async def opened(self, opening: Signed) -> None:
        """Keep the opening; raises Conflict for a session id that was used before."""
        await self.store.commit([Put("sessions", (self.session,), pack(opening), ABSENT)])

    async def sealed(self, chunk: Chunk, gaps: Sequence[GapNote]) -> None:
        """Keep a chunk; raises Conflict for an index that is taken."""
        key = (self.session, int(chunk.stream), chunk.index)
        row = Put("chunks", key, pack(Row(chunk, tuple(gaps))), ABSENT)
        await self.store.commit([row, Put("files", (chunk.file,), b"")])

    async def headed(self, head: Signed) -> None:
        """Keep a head under its own number."""
        number = 0
        async for key, _ in self.store.scan("heads", (self.session,), reverse=True, limit=1):
            number = int(key[1]) + 1
        await self.store.commit([Put("heads", (self.session, number), pack(head), ABSENT)])

    async def closed(self, manifest: Signed) -> None:
        """Keep the manifest; raises Conflict for a session that was closed before."""
        await self.store.commit([Put("manifests", (self.session,), pack(manifest), ABSENT)])


@dataclass(frozen=True, slots=True)
class Kept:
    """All records of one session."""

    opening_bytes: bytes
    manifest_bytes: bytes | None
    rows: tuple[Row, ...]
    heads: tuple[Signed, ...]

    @property
    def opening(self) -> Opening:
        """The opening, its signature unchecked."""
        return open_opening(unpack(Signed, self.opening_bytes))

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of a closed session, its signature unchecked."""
        if self.manifest_bytes is None:
            return None
        return unpack(Manifest, unpack(Signed, self.manifest_bytes).body)

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """Its chunks by stream and index."""
        return order([row.chunk for row in self.rows])

    def interrupted(self) -> Interrupted:
        """What recovery starts from."""
        return Interrupted(self.opening, self.chunks, [gap for row in self.rows for gap in row.gaps], self.heads)

    def evidence(self, read: Read | None) -> Evidence:
        """What verification starts from; for closed sessions only."""
        if self.manifest_bytes is None:
            raise ValueError("an open session has no manifest")
        return Evidence(
            self.opening_bytes, pack_heads(self.heads), pack(Listing(self.chunks)), self.manifest_bytes, read
        )


class Reading(Protocol):
    """The reading half of a store, blocking: node/store/reading."""

    def get(self, table: str, key: Key) -> bytes | None:
        """The value of a row."""

    def scan(self, table: str, prefix: Key = ()) -> Iterable[tuple[Key, bytes]]:
        """The rows under a prefix, in order."""


def _kept(opening: bytes, manifest: bytes | None, rows: Iterable[bytes], heads: Iterable[bytes]) -> Kept:
    return Kept(
        opening, manifest, tuple(unpack(Row, row) for row in rows), tuple(unpack(Signed, head) for head in heads)
    )


def load(reader: Reading, session: SessionId) -> Kept | None:
    """A session's records, None where the store has no such session; raises Malformed for a damaged store."""
    opening = reader.get("sessions", (session,))
    if opening is None:
        return None
    rows = [value for _, value in reader.scan("chunks", (session,))]
    heads = [value for _, value in reader.scan("heads", (session,))]
    return _kept(opening, reader.get("manifests", (session,)), rows, heads)


async def load_one(store: Store, session: SessionId) -> Kept | None:
    """A session's records from the store that this process owns, None where there is no such session."""
    opening = await store.get("sessions", (session,))
    if opening is None:
        return None
    rows = [value async for _, value in store.scan("chunks", (session,))]
    heads = [value async for _, value in store.scan("heads", (session,))]
    return _kept(opening, await store.get("manifests", (session,)), rows, heads)


async def load_open(store: Store) -> list[Kept]:
    """The sessions without a manifest, from the store that this process owns: what died before it was closed."""
    found = []
    async for key, _ in store.scan("sessions"):
        if await store.get("manifests", key) is None:
            kept = await load_one(store, SessionId(bytes(key[0])))  # type: ignore[arg-type]
            assert kept is not None, "this process alone writes, and never removes an opening"
            found.append(kept)
    return found


async def held_sessions(store: Store) -> set[SessionId]:
    """The sessions on legal hold; needs no keys."""
    return {SessionId(bytes(key[0])) async for key, _ in store.scan(HOLDS)}  # type: ignore[arg-type]


async def held_files(store: Store) -> set[Digest]:
    """The chunks of all sessions on legal hold; needs no keys."""
    found = set[Digest]()
    for session in sorted(await held_sessions(store)):
        async for _, value in store.scan("chunks", (session,)):
            try:
                found.add(unpack(Row, value).chunk.file)
            except Malformed:
                continue  # `verify` tells what is wrong with it; the others are held all the same
    return found


def sessions(reader: Reading) -> list[SessionId]:
    """The ids of all sessions, by their time of opening; first those whose opening is damaged."""
    found = [(_started(value), SessionId(bytes(key[0]))) for key, value in reader.scan("sessions")]  # type: ignore[arg-type]
    return [session for _, session in sorted(found)]


def _started(opening: bytes) -> Millis:
    try:
        return open_opening(unpack(Signed, opening)).started
    except Malformed:
        return Millis(0)  # `verify` tells what is wrong with it, and the others must not suffer


def proofs(chunks: Sequence[Chunk]) -> bytes:
    """The inclusion proof of each chunk, as a bundle carries them."""
    return encode([list(proof) for proof in merkle.prove_all([chunk.leaf() for chunk in chunks])])
