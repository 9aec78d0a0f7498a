"""Small sessions for tests, with fixed keys: sealed at once and open to any lie, or recorded on virtual time.

`seal` makes a session without a clock or a disk; `retold` changes what it says and signs it again as its owner could.
`recording` runs the real thing on trio's mock clock, with threads inline, so that each step comes when it is due.
"""

import copy
import itertools
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from blake3 import blake3

from consensus import merkle
from consensus.encoding import encode
from consensus.ids import NO_NETWORK, Address, Digest, Millis, NodeId, session_id
from consensus.records import pack, unpack
from consensus.signing import KeyPair
from node.store.memory import MemoryChunks
from pipeline.archive import VERSION, VERSION_NAME, chunk_name, end, header, padding
from pipeline.bundle import Evidence
from pipeline.chunk import Bounds
from pipeline.journal import Journal
from pipeline.manifest import (
    Chunk,
    Closer,
    GapNote,
    Head,
    Listing,
    Manifest,
    Opening,
    Signed,
    Tail,
    identity,
    order,
    pack_heads,
    render,
    sign,
)
from pipeline.seal import SessionKeys
from pipeline.session import Places, Source, Terms, record
from pipeline.stores import Interrupted
from pipeline.stream import Fragment, Gap, Piece, Stream
from pipeline.writer import seal_chunk, sealing_buffer

STARTED: Final = 1_700_000_000_000
BOUNDS: Final = Bounds(4096, 8192, 300_000)
BOTH: Final = (Stream.VIDEO, Stream.AUDIT)


def seed(name: str) -> bytes:
    return blake3(name.encode()).digest()


def terms(
    name: str = "one", *, streams: tuple[Stream, ...] = BOTH, bounds: Bounds = BOUNDS, signer: str = "owner"
) -> Terms:
    """The terms of a session whose owner, keys and secret follow from its name."""
    owner, uuid, ephemeral = (
        Address(seed("address")[:20]),
        seed(name)[:16],
        KeyPair.from_seed(seed(f"ephemeral {name}")),
    )
    key = KeyPair.from_seed(seed(signer))
    opening = Opening(
        session=session_id(owner, uuid, ephemeral.public),
        network=NO_NETWORK,
        owner=owner,
        uuid=uuid,
        ephemeral=ephemeral.public,
        identity=NodeId(key.public),
        started=Millis(STARTED),
        policy=bytes(32),
        streams=streams,
        codec="bytes",
        recorder="a test",
        device=seed("device"),
        chunk_low=bounds.low,
        chunk_high=bounds.high,
        chunk_age_ms=bounds.age_ms,
        key_generation=0,
    )
    return Terms(opening, key, ephemeral, seed(f"secret {name}"))


def keys(of: Terms) -> SessionKeys:
    return SessionKeys(of.opening.network, of.opening.session, of.secret)


@dataclass(frozen=True, slots=True)
class Made:
    """A session: its records unsigned, for a test to change, and its sealed files."""

    terms: Terms
    heads: tuple[Head, ...]
    chunks: tuple[Chunk, ...]
    manifest: Manifest
    files: Mapping[Digest, bytes]

    @property
    def opening(self) -> Opening:
        return self.terms.opening

    def signed_manifest(self) -> bytes:
        ephemeral = self.manifest.closer is Closer.EPHEMERAL
        key = self.terms.ephemeral if ephemeral else self.terms.identity
        return pack(sign(self.manifest, key, self.opening.network))

    def records(self) -> dict[str, bytes]:
        """The files of a bundle, without its chunks."""
        network, leaves = self.opening.network, [chunk.leaf() for chunk in self.chunks]
        return {
            VERSION_NAME: VERSION,
            "opening.cbor": pack(sign(self.opening, self.terms.identity, network)),
            "heads.cbor": pack_heads([sign(head, self.terms.ephemeral, network) for head in self.heads]),
            "listing.cbor": pack(Listing(self.chunks)),
            "proofs.cbor": encode([list(merkle.prove(leaves, index)) for index in range(len(leaves))]),
            "manifest.cbor": self.signed_manifest(),
            "manifest.json": render(self.opening, self.manifest).encode(),
        }

    def parts(self) -> dict[str, bytes]:
        """The files of a bundle with its chunks."""
        return self.records() | {chunk_name(chunk): self.files[chunk.file] for chunk in self.chunks}

    def evidence(self, **changed: Any) -> Evidence:
        parts = self.records()
        names = {
            "opening": "opening.cbor",
            "heads": "heads.cbor",
            "listing": "listing.cbor",
            "manifest": "manifest.cbor",
        }
        given = {field: parts[name] for field, name in names.items()} | {"read": self.read} | changed
        return Evidence(**given)

    def read(self, chunk: Chunk) -> bytes | None:
        return self.files.get(chunk.file)


def archived(parts: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> bytes:
    """A bundle of these files."""
    pairs = parts.items() if isinstance(parts, Mapping) else parts
    return b"".join(header(name, len(data)) + data + padding(len(data)) for name, data in pairs) + end()


def seal(
    of: Terms, plain: Mapping[Stream, Sequence[bytes]], gaps: Mapping[tuple[Stream, int], int] | None = None
) -> Made:
    """A complete session of these chunks; `gaps` says how many gaps begin in a chunk.

    Two heads name them by halves in order of index; the first vouches for half of what is then open.
    """
    chunks, files, notes = [], {}, []
    for stream, datas in plain.items():
        offset = count = 0
        for index, data in enumerate(datas):
            for _ in range((gaps or {}).get((stream, index), 0)):
                notes.append(GapNote(stream, offset, Millis(STARTED + index), Millis(STARTED + index + 1), "it died"))
                count += 1
            chunk, sealed = seal_chunk(
                sealing_buffer(len(data)),
                keys(of),
                (stream, index),
                memoryview(data),
                last=index == len(datas) - 1,
                gaps=count,
            )
            chunks.append(replace(chunk, first=Millis(STARTED + index), last=Millis(STARTED + index + 1)))
            files[chunk.file] = bytes(sealed)
            offset += len(data)
    by_age = sorted(chunks, key=lambda chunk: (chunk.index, chunk.stream))
    half = len(by_age) // 2
    tails = tuple(
        Tail(chunk.stream, chunk.index, chunk.plain // 2, Digest(seed("unread"))) for chunk in by_age[half : half + 2]
    )
    heads = [
        Head(
            of.opening.session, 0, Millis(STARTED + 1), Digest(bytes(32)), tuple(c.leaf() for c in by_age[:half]), tails
        ),
        Head(of.opening.session, 0, Millis(STARTED + 2), Digest(bytes(32)), tuple(c.leaf() for c in by_age[half:]), ()),
    ]
    return told(of, heads, order(chunks), files, gaps=tuple(notes))


def told(
    of: Terms, heads: Sequence[Head], chunks: Sequence[Chunk], files: Mapping[Digest, bytes], **manifest: Any
) -> Made:
    """A session that says this, its heads chained anew and its manifest made to fit, then changed as told."""
    opening, chained = of.opening, []
    previous = identity(opening, opening.network)
    for number, head in enumerate(heads):
        chained.append(replace(head, number=number, previous=previous))
        previous = identity(chained[-1], opening.network)
    fitting = Manifest(
        session=opening.session,
        opening=identity(opening, opening.network),
        ended=Millis(STARTED + 1000),
        complete=True,
        reason="closed by the recorder",
        closer=Closer.EPHEMERAL,
        chunk_count=len(chunks),
        root=merkle.root([chunk.leaf() for chunk in chunks]),
        listing=identity(Listing(tuple(chunks)), opening.network),
        heads=len(chained),
        last_head=previous,
        gaps=(),
        incidents=(),
        participants=(),
    )
    return Made(of, tuple(chained), tuple(chunks), replace(fitting, **manifest), files)


def retold(
    made: Made,
    *,
    opening: Opening | None = None,
    heads: Sequence[Head] | None = None,
    chunks: Sequence[Chunk] | None = None,
    files: Mapping[Digest, bytes] | None = None,
    **manifest: Any,
) -> Made:
    """The session with another story, signed again with its own keys wherever a signature stands.

    Heads follow changed chunks: a leaf of the old listing becomes that of the new one in the same place.
    """
    changed = made.chunks if chunks is None else tuple(chunks)
    new = {(chunk.stream, chunk.index): chunk.leaf() for chunk in changed}
    leaves = {chunk.leaf(): new.get((chunk.stream, chunk.index), chunk.leaf()) for chunk in made.chunks}
    followed = [replace(head, leaves=tuple(leaves.get(leaf, leaf) for leaf in head.leaves)) for head in made.heads]
    of = made.terms if opening is None else replace(made.terms, opening=opening)
    kept = {name: getattr(made.manifest, name) for name in ("complete", "closer", "gaps", "incidents", "participants")}
    given = followed if heads is None else heads
    return told(of, given, changed, made.files if files is None else files, **(kept | manifest))


def replaced(made: Made, name: str, **changed: Any) -> Made:
    """The session with one entry of its listing changed, and everything signed anew to fit."""
    return retold(made, chunks=[replace(c, **changed) if c.name == name else c for c in made.chunks])


def small(name: str = "one") -> Made:
    """Two streams of 3 chunks, ~10 kB: video raw, audit compressed, a gap in each."""
    rng = random.Random(name)
    video = [rng.randbytes(size) for size in (900, 1700, 400)]
    audit = [b"".join(b'{"at":%d,"key":"letter"}\n' % rng.randrange(10**6) for _ in range(n)) for n in (20, 30, 5)]
    return seal(terms(name), {Stream.VIDEO: video, Stream.AUDIT: audit}, {(Stream.VIDEO, 1): 1, (Stream.AUDIT, 2): 1})


class MemoryLedger:
    """A Ledger in memory that insists on the order that the protocol states."""

    def __init__(self) -> None:
        self.opening: Signed | None = None
        self.rows: list[tuple[Chunk, tuple[GapNote, ...]]] = []
        self.heads: list[Signed] = []
        self.manifest: Signed | None = None

    async def opened(self, opening: Signed) -> None:
        assert self.opening is None
        self.opening = opening

    async def sealed(self, chunk: Chunk, gaps: Sequence[GapNote]) -> None:
        assert self.manifest is None
        line = [row.index for row, _ in self.rows if row.stream is chunk.stream]
        assert chunk.index == (line[-1] + 1 if line else 0)
        self.rows.append((chunk, tuple(gaps)))

    async def headed(self, head: Signed) -> None:
        assert self.manifest is None
        self.heads.append(head)

    async def closed(self, manifest: Signed) -> None:
        assert self.manifest is None
        self.manifest = manifest

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        return order([chunk for chunk, _ in self.rows])

    def interrupted(self, opening: Opening) -> Interrupted:
        return Interrupted(opening, self.chunks, [gap for _, gaps in self.rows for gap in gaps], self.heads)

    def made(self, of: Terms, chunks: MemoryChunks) -> Made:
        """What was kept, as a session that can be verified; raises if it is not closed."""
        assert self.manifest is not None
        heads = tuple(unpack(Head, head.body) for head in self.heads)
        files = {digest: chunks.read(digest) for digest in chunks.digests()}
        return Made(of, heads, self.chunks, unpack(Manifest, self.manifest.body), files)

    def evidence(self, chunks: MemoryChunks) -> Evidence:
        """Exactly the bytes that were kept."""
        assert self.opening is not None
        assert self.manifest is not None

        def read(chunk: Chunk) -> bytes | None:
            return chunks.read(chunk.file) if chunks.has(chunk.file) else None

        listing = pack(Listing(self.chunks))
        return Evidence(pack(self.opening), pack_heads(self.heads), listing, pack(self.manifest), read)


class Crash(BaseException):
    """The recorder was killed here."""


def now() -> Millis:
    """The wall clock of virtual time."""
    return Millis(STARTED + round(trio.current_time() * 1000))


@contextmanager
def inline(delay: Callable[[object], float] = lambda _job: 0.0) -> Iterator[None]:
    """Threads run as a part of their task, after so many virtual seconds; needs a mock clock."""

    async def run_sync(job: Callable[..., Any], *args: object, **_options: object) -> Any:
        if seconds := delay(job):
            with trio.CancelScope(shield=True):  # a thread cannot be cancelled either
                await trio.sleep(seconds)
        await trio.lowlevel.checkpoint()
        return job(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", run_sync)
        yield


@dataclass
class Disk:
    """Everything that lasts, with a count of the steps that change it; the step `dies_at` and all after it raise Crash.

    `journalled` lists what the journals took and when, `syncs` how much of it each sync made safe.
    """

    folder: Path
    dies_at: int | None = None
    chunks: MemoryChunks = field(default_factory=MemoryChunks)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    steps: list[str] = field(default_factory=list)
    journalled: list[tuple[float, Stream, bytes]] = field(default_factory=list)
    syncs: list[tuple[float, int]] = field(default_factory=list)
    synced: dict[Path, int] = field(default_factory=dict)
    died_at: Millis | None = None

    @property
    def places(self) -> Places:
        return Places(self, self, self.folder)

    def copy(self, folder: Path, dies_at: int | None = None) -> "Disk":
        """Another disk that holds the same."""
        shutil.copytree(self.folder, folder)
        ledger, chunks = copy.deepcopy(self.ledger), MemoryChunks()
        for digest in self.chunks.digests():
            chunks.put(digest, memoryview(self.chunks.read(digest)))
        synced = {folder / file.name: size for file, size in self.synced.items()}
        return Disk(folder, dies_at, chunks=chunks, ledger=ledger, synced=synced)

    def reborn(self) -> "Disk":
        """The same disk after the crash."""
        return Disk(self.folder, chunks=self.chunks, ledger=self.ledger)

    def cut_power(self) -> None:
        """What was not synced is gone."""
        for file in self.folder.glob("*.journal"):
            with file.open("r+b") as out:
                out.truncate(self.synced.get(file, 0))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        number = len(self.steps)
        self.steps.append(name)
        if self.dies_at is not None and number >= self.dies_at:
            self.died_at = self.died_at or now()
            raise Crash
        yield

    def put(self, digest: Digest, sealed: memoryview, *, reserve: bool = False) -> None:
        with self.step("put"):
            self.chunks.put(digest, sealed, reserve=reserve)

    def read(self, digest: Digest) -> bytes:
        return self.chunks.read(digest)

    async def opened(self, opening: Signed) -> None:
        with self.step("opened"):
            await self.ledger.opened(opening)

    async def sealed(self, chunk: Chunk, gaps: Sequence[GapNote]) -> None:
        with self.step("sealed"):
            await self.ledger.sealed(chunk, gaps)

    async def headed(self, head: Signed) -> None:
        with self.step("headed"):
            await self.ledger.headed(head)

    async def closed(self, manifest: Signed) -> None:
        with self.step("closed"):
            await self.ledger.closed(manifest)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """What is done to journals are steps of this disk."""
        create, append, append_gap, sync, unlink = (
            Journal.create,
            Journal.append,
            Journal.append_gap,
            Journal.sync,
            Path.unlink,
        )

        def created(*args: Any) -> Journal:
            with self.step("create"):
                return create(*args)

        def appended(book: Journal, data: memoryview, first: Millis, last: Millis) -> None:
            with self.step("append"):
                append(book, data, first, last)
                self.journalled.append((trio.current_time(), Stream(book.header[5]), bytes(data)))

        def noted(book: Journal, note: GapNote) -> None:
            with self.step("gap"):
                append_gap(book, note)

        def synced(book: Journal) -> None:
            with self.step("sync"):
                sync(book)
                self.synced[book.file] = book.file.stat().st_size
                self.syncs.append((trio.current_time(), sum(len(data) for _, _, data in self.journalled)))

        def unlinked(path: Path, missing_ok: bool = False) -> None:
            with self.step("unlink"):
                unlink(path, missing_ok)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Journal, "create", created)
            patch.setattr(Journal, "append", appended)
            patch.setattr(Journal, "append_gap", noted)
            patch.setattr(Journal, "sync", synced)
            patch.setattr(Path, "unlink", unlinked)
            yield


def script(*pieces: Piece | float) -> Source:
    """A source that sends these pieces, stamped with the time, and waits so many seconds where a number stands."""

    async def source(send: trio.MemorySendChannel[Piece]) -> None:
        for piece in pieces:
            match piece:
                case Fragment(data=data):
                    await send.send(Fragment(data, now(), now()))
                case Gap(reason=reason):
                    await send.send(Gap(now(), now(), reason))
                case _:
                    await trio.sleep(piece)

    return source


def fragment(data: bytes) -> Fragment:
    return Fragment(data, Millis(0), Millis(0))


def gap(reason: str = "it died") -> Gap:
    return Gap(Millis(0), Millis(0), reason)


def steady(data: bytes, piece: int, every: float) -> list[Piece | float]:
    """The data in pieces of one size, so many seconds apart."""
    cuts = range(0, len(data), piece)
    return list(itertools.chain.from_iterable((fragment(data[at : at + piece]), every) for at in cuts))


async def recording(
    of: Terms, places: Places, sources: Mapping[Stream, Source | int], stop: trio.Event | None = None, **options: Any
) -> Manifest:
    """`record` with a stop event of its own and virtual time."""
    return await record(of, places, sources, stop=trio.Event() if stop is None else stop, **({"now": now} | options))
