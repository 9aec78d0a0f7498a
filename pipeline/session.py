"""One session from its opening to its manifest: the stages joined by bounded channels.

    sources ─→ channel (16) ─→ writer ─→ bench of workers ─→ sink, ledger        one line a stream
    every 30 s: head over what was sealed and what is safe in the journals ─→ ledger
    all streams ended ─→ last head ─→ manifest ─→ ledger; the ephemeral key is dropped

The session is in the ledger before its first byte is taken. Whatever fails on the way (a source that cannot go on, a
full disk) ends it early, with everything sealed and an incident in the manifest. Source: DESIGN §6.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from consensus import merkle
from consensus.ids import Digest, Millis
from consensus.signing import KeyPair
from pipeline.chunk import Bounds
from pipeline.manifest import (
    Chunk,
    Closer,
    GapNote,
    Head,
    Incident,
    Listing,
    Manifest,
    Opening,
    Signed,
    identity,
    order,
    sign,
)
from pipeline.seal import SessionKeys
from pipeline.stores import ChunkKeeper, Ledger, NoRoom
from pipeline.stream import Piece, Stream
from pipeline.writer import Bench, Desk, TooManyGaps, Writer

HEAD_SECONDS: Final = 30.0
CHANNEL_PIECES: Final = 16
WORKERS: Final = 2

Source = Callable[[trio.MemorySendChannel[Piece]], Awaitable[None]]
"""Sends a stream's pieces and returns when there are no more, or when its `stop` event says so."""


class SourceLost(Exception):
    """A source cannot go on; the sentence becomes the session's reason."""


class NotClosed(Exception):
    """The session could not be closed: what was taken is in its journals, and `lucid-node recover` closes it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a session is recorded under."""

    opening: Opening
    identity: KeyPair
    ephemeral: KeyPair
    secret: bytes = field(repr=False)

    @property
    def bounds(self) -> Bounds:
        """The chunk bounds that the opening states."""
        return Bounds(self.opening.chunk_low, self.opening.chunk_high, self.opening.chunk_age_ms)


@dataclass(frozen=True, slots=True)
class Places:
    """Where a session is kept: sealed bytes, records, and the folder of its journals."""

    sink: ChunkKeeper
    ledger: Ledger
    journals: Path


@dataclass(slots=True)
class _Heads:
    """The chain of heads as it grows."""

    opening: Opening
    key: KeyPair
    previous: Digest
    at: Millis
    number: int = 0
    leaves: list[Digest] = field(default_factory=list)

    def next(self, at: Millis, writers: Sequence[Writer]) -> tuple[Signed, Digest]:
        """The next head, signed, and its identity; never earlier than the one before it, if the clock was set back."""
        self.at = max(self.at, at)
        tails = tuple(writer.tail for writer in writers if writer.tail is not None)
        network = self.opening.network
        head = Head(self.opening.session, self.number, self.at, self.previous, tuple(self.leaves), tails)
        return sign(head, self.key, network), identity(head, network)

    def advance(self, digest: Digest, leaves: int) -> None:
        """The head is in the ledger: the next one follows it."""
        self.number, self.previous = self.number + 1, digest
        del self.leaves[:leaves]


async def record(
    terms: Terms,
    places: Places,
    sources: Mapping[Stream, Source | int],
    *,
    stop: trio.Event,
    now: Callable[[], Millis],
    noted: Callable[[GapNote], None] = lambda _gap: None,
    stored: Callable[[Chunk], None] = lambda _chunk: None,
    exact: bool = False,
) -> Manifest:
    """Record until the sources end or `stop` is set, and return the manifest that is then in the ledger.

    A source may be the descriptor of a regular file instead. When one source ends or fails, `stop` is set for the
    others. `exact`: the video stream is bytes without structure. Raises NotClosed, NoRoom and OSError when not even
    the manifest could be kept; the session then stays open for recovery.
    """
    opening = terms.opening
    await places.ledger.opened(sign(opening, terms.identity, opening.network))
    failures: list[Exception] = []

    def failed(error: Exception) -> None:
        failures.append(error)
        stop.set()

    heads = _Heads(opening, terms.ephemeral, identity(opening, opening.network), opening.started)

    def kept(chunk: Chunk) -> None:
        heads.leaves.append(chunk.leaf())
        stored(chunk)

    bench = Bench(terms.bounds, WORKERS)
    keys = SessionKeys(opening.network, opening.session, terms.secret)
    async with trio.open_nursery() as nursery:
        desk = Desk(
            keys, terms.bounds, places.journals, places.sink, places.ledger, bench, nursery, failed, kept, noted
        )
        writers = [Writer(desk, stream, exact=exact and stream is Stream.VIDEO) for stream in sources]
        beat = trio.CancelScope()
        nursery.start_soon(_beat, beat, heads, writers, places.ledger, now, failed)
        async with trio.open_nursery() as lines:
            for writer, source in zip(writers, sources.values(), strict=True):
                lines.start_soon(_line, writer, source, stop, now, failed)
        for writer in writers:
            await writer.finish()
        beat.cancel()
    return await _close(terms, places.ledger, heads, writers, failures, now)


async def _line(
    writer: Writer,
    source: Source | int,
    stop: trio.Event,
    now: Callable[[], Millis],
    failed: Callable[[Exception], None],
) -> None:
    """One stream from its source to its writer; whatever ends it ends the session."""
    try:
        if isinstance(source, int):
            await writer.run_file(source, now, stop)
            return
        send, receive = trio.open_memory_channel[Piece](CHANNEL_PIECES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_feed, source, send, failed)
            await writer.run(receive)
    except* (OSError, TooManyGaps) as errors:
        failed(cause(errors))
    finally:
        stop.set()


async def _feed(source: Source, send: trio.MemorySendChannel[Piece], failed: Callable[[Exception], None]) -> None:
    async with send:
        try:
            await source(send)
        except* trio.BrokenResourceError:
            pass  # the writer is gone, and its line tells why
        except* (SourceLost, OSError) as errors:
            failed(cause(errors))


def cause(errors: BaseException) -> Exception:
    """The first exception inside a group, however deep; raises it again if it is none to be handled."""
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if not isinstance(first, Exception):
        raise first
    return first


async def _beat(
    scope: trio.CancelScope,
    heads: _Heads,
    writers: Sequence[Writer],
    ledger: Ledger,
    now: Callable[[], Millis],
    failed: Callable[[Exception], None],
) -> None:
    with scope:
        while True:
            await trio.sleep(HEAD_SECONDS)
            with trio.CancelScope(shield=True):  # a head that is in the ledger has to be in the chain
                try:
                    await _head(heads, writers, ledger, now)
                except (OSError, NoRoom) as error:
                    failed(error)


async def _head(heads: _Heads, writers: Sequence[Writer], ledger: Ledger, now: Callable[[], Millis]) -> None:
    leaves = len(heads.leaves)
    signed, digest = heads.next(now(), writers)
    await ledger.headed(signed)
    heads.advance(digest, leaves)


async def _close(
    terms: Terms,
    ledger: Ledger,
    heads: _Heads,
    writers: Sequence[Writer],
    failures: Sequence[Exception],
    now: Callable[[], Millis],
) -> Manifest:
    if unstored := sum(writer.unstored for writer in writers):
        raise NotClosed(f"{unstored} bytes could not be stored ({failures[0]}); what is journalled waits for recovery")
    opening = terms.opening
    for writer in writers:
        writer.tail = None
    if heads.leaves:
        await _head(heads, (), ledger, now)
    chunks = order([chunk for writer in writers for chunk in writer.chunks])
    manifest = Manifest(
        session=opening.session,
        opening=identity(opening, opening.network),
        ended=now(),
        complete=not failures,
        reason=str(failures[0])[:1000] if failures else "closed by the recorder",
        closer=Closer.EPHEMERAL,
        chunk_count=len(chunks),
        root=merkle.root([chunk.leaf() for chunk in chunks]),
        listing=identity(Listing(chunks), opening.network),
        heads=heads.number,
        last_head=heads.previous,
        gaps=tuple(gap for writer in writers for gap in writer.gaps),
        incidents=tuple(Incident(now(), False, str(failure)[:1000]) for failure in failures[:16]),
        participants=(),
    )
    await ledger.closed(sign(manifest, terms.ephemeral, opening.network))
    return manifest
