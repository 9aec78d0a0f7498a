"""One stream's way from fragments to durable chunks, with a journal for what is still open.

    fragments ─→ open chunk (memory) ─┬─→ journal, within 250 ms, synced every second
                                      └─→ cut ─→ bench (a worker thread: compress, seal, hash, store) ─→ ledger ─→ journal gone

Chunks of a stream enter the ledger in their order, whatever order the workers finish in; a journal goes only when its
chunk is in the ledger. A chunk that is cut before its journal was due (a fast stream) never has one. What survives is
always a beginning of the stream: a journal is whole and synced before its chunk is sealed, and none is begun while an
earlier chunk without one is still being stored.
"""

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar

import trio
from blake3 import blake3

from consensus import merkle
from consensus.ids import Digest, Millis
from pipeline.chunk import Bounds, Cutter
from pipeline.journal import Journal
from pipeline.manifest import GAPS_MAX, Chunk, GapNote, Tail
from pipeline.seal import SessionKeys, seal_into
from pipeline.sealed import OVERHEAD, parse
from pipeline.stores import ChunkSink, Ledger, NoRoom
from pipeline.stream import Fragment, Gap, Piece, Stream

FLUSH_SECONDS: Final = 0.25
SYNC_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.05
_NEVER: Final = Millis(0)
Made = TypeVar("Made")


class SourceShrank(Exception):
    """The input became shorter while it was being recorded."""


class TooManyGaps(Exception):
    """The source died more often than a manifest can list."""


def seal_chunk(
    out: memoryview, keys: SessionKeys, place: tuple[Stream, int], plain: memoryview, *, last: bool, gaps: int
) -> tuple[Chunk, memoryview]:
    """The sealed chunk's entry for the listing, its times still 0, and its bytes inside `out`; ~2 s CPU a GB."""
    stream, index = place
    sealed = out[: seal_into(out, keys, stream, index, plain, last=last, gaps=gaps)]
    header, _ = parse(sealed)
    file, segments = Digest(blake3(sealed).digest()), merkle.segment_root(sealed)
    committed = keys.chunk(stream, index).committed
    flags, size = int(header.flags), len(sealed)
    chunk = Chunk(stream, index, file, committed, segments, size, len(plain), flags, gaps, _NEVER, _NEVER)
    return chunk, sealed


def sealing_buffer(plain_bytes: int) -> memoryview:
    """A page-aligned buffer that holds the sealed form of so many plain bytes."""
    pages = -(-(plain_bytes + OVERHEAD) // mmap.PAGESIZE)
    return memoryview(mmap.mmap(-1, pages * mmap.PAGESIZE))


class Bench:
    """A few workers' places, each with a reused buffer; acquiring a place is the back-pressure on every source."""

    def __init__(self, bounds: Bounds, workers: int) -> None:
        self.places = trio.Semaphore(workers)
        self.bounds = bounds
        self._outs = [sealing_buffer(bounds.high) for _ in range(workers)]
        self._plains: list[memoryview] = []

    def take_plain(self) -> memoryview:
        """A buffer for one open chunk, taken with its first byte; give it back with `leave_plain`."""
        return self._plains.pop() if self._plains else memoryview(mmap.mmap(-1, self.bounds.high))

    def leave_plain(self, buffer: memoryview) -> None:
        """Give a buffer back; its pages are reused."""
        self._plains.append(buffer)

    async def work(self, job: Callable[[memoryview], Made]) -> Made:
        """Run the job in a thread with one of the buffers; for holders of a place."""
        out = self._outs.pop()
        try:
            return await trio.to_thread.run_sync(job, out)
        finally:
            self._outs.append(out)


@dataclass(slots=True)
class _Open:
    """The chunk that is being filled."""

    plain: memoryview | None = None
    size: int = 0
    journalled: int = 0
    first: Millis = _NEVER
    last: Millis = _NEVER
    since: float = 0.0
    gaps: list[GapNote] = field(default_factory=list)
    gaps_journalled: int = 0
    unsynced: bool = False
    """Whether its journal holds what a power cut would take."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the writers of one session share."""

    keys: SessionKeys
    bounds: Bounds
    folder: Path
    sink: ChunkSink
    ledger: Ledger
    bench: Bench
    nursery: trio.Nursery
    failed: Callable[[Exception], None]
    """Told of the first thing that went wrong with storing; the session then winds up."""
    stored: Callable[[Chunk], None]
    """Told of each chunk that is in the ledger."""
    noted: Callable[[GapNote], None]
    """Told of each gap."""


class Writer:
    """Writes one stream; `run` or `run_file` once, then `finish`."""

    def __init__(self, desk: Desk, stream: Stream, *, exact: bool) -> None:
        self.desk, self.stream = desk, stream
        self.exact = exact
        """Whether the stream is bytes without structure, which are cut exactly at the target."""
        self.cutter = Cutter(desk.bounds, desk.keys.cut_seed, stream)
        self.offset = 0
        self.gaps: list[GapNote] = []
        self.chunks: list[Chunk] = []
        self.unstored = 0
        """Plain bytes that were taken and could not be stored."""
        self.tail: Tail | None = None
        self._open = _Open()
        self._journal: Journal | None = None
        self._journalling = True
        """Until a journal fails, which winds the session up."""
        self._whole = True
        """Whether all of the chunk before is in its journal."""
        self._hasher = self._new_hasher()
        self._flushed = self._synced = trio.current_time()
        self._before = trio.Event()
        self._before.set()
        self._rest: Callable[[memoryview], None] | None = None

    @property
    def index(self) -> int:
        """The index of the open chunk."""
        return self.cutter.index

    async def run(self, pieces: trio.MemoryReceiveChannel[Piece]) -> None:
        """Write every piece until the channel ends; what is then open stays open for `finish`."""
        async with pieces:
            while True:
                piece: Piece | None = None
                with trio.move_on_at(self._due()):
                    try:
                        piece = await pieces.receive()
                    except trio.EndOfChannel:
                        break
                match piece:
                    case Fragment():
                        await self._take(piece)
                    case Gap():
                        self._note(piece)
                    case None:
                        pass
                if trio.current_time() >= self._due():
                    await self._tick()

    async def run_file(self, fd: int, now: Callable[[], Millis], stop: trio.Event) -> None:
        """Write a regular file, each chunk read by the worker that seals it; it needs no journal, it is on disk already."""
        while not stop.is_set():
            left, start = os.fstat(fd).st_size - self.offset, self.offset
            opened, size = self._open, min(left, self.cutter.target)
            opened.size, opened.first, opened.last = size, now(), now()
            self.offset += size

            def fill(view: memoryview, start: int = start) -> None:
                _fill(fd, view, start)

            if size == left:
                self._rest = fill  # the file ends in this chunk: `finish` seals it as the last
                return
            await self._submit(last=False, fill=fill)

    async def finish(self) -> None:
        """Seal what is open as the last chunk, empty if need be, and wait until the ledger has everything."""
        await self._submit(last=True, fill=self._rest)
        await self._before.wait()

    async def _take(self, fragment: Fragment) -> None:
        data = memoryview(fragment.data)
        while data:
            if self.exact and self.cutter.size == self.cutter.target:
                await self._submit(last=False)
            offered = min(len(data), self.cutter.target - self.cutter.size) if self.exact else len(data)
            taken, cut = self.cutter.take(offered)
            opened = self._open
            if taken:
                if opened.plain is None:
                    opened.plain = self.desk.bench.take_plain()
                if not opened.size:
                    opened.first, opened.since = fragment.first, trio.current_time()
                opened.plain[opened.size : opened.size + taken] = data[:taken]
                opened.size += taken
                opened.last = fragment.last
                self.offset += taken
                data = data[taken:]
            if cut and not self.exact:
                await self._submit(last=False)

    def _note(self, gap: Gap) -> None:
        if len(self.gaps) >= GAPS_MAX:
            raise TooManyGaps(f"{GAPS_MAX} gaps in the {self.stream.name.lower()}")
        note = GapNote(self.stream, self.offset, gap.first, gap.last, gap.reason[:200])
        self.gaps.append(note)
        self._open.gaps.append(note)
        self.desk.noted(note)

    def _due(self) -> float:
        opened = self._open
        due = float("inf")
        if not self._journalling:
            pass
        elif opened.size > opened.journalled or len(opened.gaps) > opened.gaps_journalled:
            due = self._flushed + FLUSH_SECONDS
            if not (self._whole or self._before.is_set()):
                due = max(due, trio.current_time() + _LOOK_SECONDS)
        elif opened.unsynced:
            due = self._synced + SYNC_SECONDS
        if opened.size:
            due = min(due, opened.since + self.desk.bounds.age_ms / 1000)
        return due

    async def _tick(self) -> None:
        opened = self._open
        if opened.size and trio.current_time() >= opened.since + self.desk.bounds.age_ms / 1000:
            await self._submit(last=False)
            return
        await self._keep(sync=trio.current_time() >= self._synced + SYNC_SECONDS)

    async def _keep(self, *, sync: bool) -> None:
        try:
            await trio.to_thread.run_sync(self._flush, self._open, sync)
        except OSError as error:
            # The bytes stay in memory and are sealed when the session winds up; a journal with a hole helps nobody.
            self._journalling = False
            self.desk.failed(error)
        self._flushed = trio.current_time()
        if sync:
            self._synced = self._flushed

    def _flush(self, opened: _Open, sync: bool) -> None:
        """Journal what the open chunk holds beyond its journal; in a thread, while this stream's task waits."""
        if self._journal is None:
            self._journal = Journal.create(self.desk.folder, self.desk.keys, self.stream, self.index)
        opened.unsynced = True
        for gap in opened.gaps[opened.gaps_journalled :]:
            self._journal.append_gap(gap)
        opened.gaps_journalled = len(opened.gaps)
        if opened.plain is not None and (fresh := opened.plain[opened.journalled : opened.size]):
            self._journal.append(fresh, opened.first, opened.last)
            self._hasher.update(fresh)
            opened.journalled = opened.size
        if sync:
            self._journal.sync()
            opened.unsynced = False
            self.tail = Tail(self.stream, self.index, opened.journalled, Digest(self._hasher.digest()))

    def _new_hasher(self) -> blake3:
        return blake3(key=self.desk.keys.chunk(self.stream, self.index).commitment)

    async def _submit(self, *, last: bool, fill: Callable[[memoryview], None] | None = None) -> None:
        """Hand the open chunk to a worker, once one is free, and begin the next."""
        if self._journal is not None and self._journalling:
            await self._keep(sync=True)
        self._whole = self._journal is not None and self._journalling
        await self.desk.bench.places.acquire()
        opened, book, before, done = self._open, self._journal, self._before, trio.Event()
        if opened.plain is None:
            opened.plain = self.desk.bench.take_plain()
        seal = _Seal(self.desk.keys, (self.stream, self.index), opened, last, len(self.gaps), fill, self.desk.sink)
        self.cutter.cut()
        self._open, self._journal, self._before = _Open(), None, done
        self._hasher = self._new_hasher()
        self.desk.nursery.start_soon(self._store, seal, book, before, done)

    async def _store(self, seal: "_Seal", book: Journal | None, before: trio.Event, done: trio.Event) -> None:
        opened = seal.opened
        try:
            try:
                chunk = await self._sealed(seal, before)
            finally:
                if opened.plain is not None:
                    self.desk.bench.leave_plain(opened.plain)
                    opened.plain = None
                self.desk.bench.places.release()
            await before.wait()
            if self.unstored:  # an earlier chunk is missing: this one stays in its journal
                self.unstored += opened.size
                return
            chunk = replace(chunk, first=opened.first, last=opened.last)
            await self.desk.ledger.sealed(chunk, opened.gaps)
            self.chunks.append(chunk)
            self.desk.stored(chunk)
            if book is not None:
                self._discard(book)
        except (OSError, NoRoom, SourceShrank) as error:
            self.desk.failed(error)
            await before.wait()  # what comes before this chunk is stored all the same
            self.unstored += max(1, opened.size)
            if book is not None:
                book.close()
        finally:
            done.set()

    def _discard(self, book: Journal) -> None:
        try:
            book.discard()
        except OSError as error:  # its chunk is stored: recovery passes such a journal over
            self.desk.failed(error)

    async def _sealed(self, seal: "_Seal", before: trio.Event) -> Chunk:
        try:
            return await self.desk.bench.work(seal)
        except NoRoom as error:
            self.desk.failed(error)
            await before.wait()  # the room that is left is for the chunk before, without which this one is of no use
            if self.unstored:
                raise
            return await self.desk.bench.work(replace(seal, reserve=True))


@dataclass(frozen=True, slots=True)
class _Seal:
    """One chunk's work: read it if it is not in memory yet, seal it, store it."""

    keys: SessionKeys
    place: tuple[Stream, int]
    opened: _Open
    last: bool
    gaps: int
    fill: Callable[[memoryview], None] | None
    sink: ChunkSink
    reserve: bool = False

    def __call__(self, out: memoryview) -> Chunk:
        assert self.opened.plain is not None
        plain = self.opened.plain[: self.opened.size]
        if self.fill is not None:
            self.fill(plain)
        chunk, sealed = seal_chunk(out, self.keys, self.place, plain, last=self.last, gaps=self.gaps)
        self.sink.put(chunk.file, sealed, reserve=self.reserve)
        return chunk


def _fill(fd: int, view: memoryview, start: int) -> None:
    while view:
        count = os.preadv(fd, [view], start)
        if not count:
            raise SourceShrank("the input became shorter while it was being recorded")
        view, start = view[count:], start + count
