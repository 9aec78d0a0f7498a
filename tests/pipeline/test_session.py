"""A recording on virtual time: what is journalled, cut, headed and listed when, and what becomes of it when something fails."""

import itertools
import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from blake3 import blake3
from trio.testing import MockClock

from consensus.ids import Digest, Millis
from consensus.records import unpack
from pipeline import recovery
from pipeline.bundle import verify
from pipeline.chunk import Bounds
from pipeline.journal import Journal, find, recover
from pipeline.manifest import GAPS_MAX, Chunk, GapNote, Head, Manifest, Signed
from pipeline.restore import stream_bytes
from pipeline.sealed import Flags
from pipeline.session import NotClosed, Source, SourceLost, Terms
from pipeline.stores import NoRoom
from pipeline.stream import Fragment, Piece, Stream
from pipeline.writer import _Seal
from tests.pipeline.sessions import (
    STARTED,
    Disk,
    fragment,
    gap,
    inline,
    keys,
    now,
    recording,
    script,
    steady,
    terms,
)
from tests.vectors import make_session

DATA = random.Random(5).randbytes(100_000)
VIDEO = (Stream.VIDEO,)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A place for a session, with threads inline."""
    made = Disk(tmp_path)
    with inline(), made.watched():
        yield made


def plain(disk: Disk, of: Terms, stream: Stream = Stream.VIDEO) -> list[bytes]:
    """The stream as its player gets it."""
    chunks = disk.ledger.chunks
    return list(stream_bytes(of.opening, chunks, stream, of.secret, lambda chunk: disk.chunks.read(chunk.file)))


def sound(disk: Disk) -> Manifest:
    """The manifest of a session that verifies without a fault."""
    verdict = verify(disk.ledger.evidence(disk.chunks))
    assert verdict.faults == ()
    assert verdict.manifest
    return verdict.manifest


async def recovered(disk: Disk, of: Terms) -> Manifest:
    """What recovery makes of what is left."""
    again = disk.reborn()
    with again.watched():
        return await recovery.close(again.ledger.interrupted(of.opening), of.secret, of.identity, again.places, now)


async def test_pieces_are_journalled_within_a_quarter_second_and_synced_each_second(
    autojump_clock: MockClock, disk: Disk
) -> None:
    of, sent = terms(streams=VIDEO), list[tuple[float, int]]()

    async def source(send: trio.MemorySendChannel[Piece]) -> None:
        for at in range(0, 3600, 36):
            await send.send(Fragment(DATA[at : at + 36], now(), now()))
            sent.append((trio.current_time(), at + 36))
            await trio.sleep(0.04 if at % 360 else 0.7)
        await trio.sleep(20)

    await recording(of, disk.places, {Stream.VIDEO: source})
    taken, total = list[tuple[float, int]](), 0
    for time, _, data in disk.journalled:
        total += len(data)
        taken.append((time, total))
    for time, size in sent:
        assert min(at for at, kept in taken if kept >= size) <= time + 0.2501
        assert min(at for at, kept in disk.syncs if kept >= size) <= time + 1.2501
    times = [time for time, _ in disk.syncs]
    assert all(later - time >= 0.9999 for time, later in itertools.pairwise(times[:-1]))
    assert not any(sent[-1][0] + 1.26 < time < sent[-1][0] + 19 for time in times)  # nothing to do, nothing done
    assert plain(disk, of) == [DATA[:3600]]
    assert sound(disk).complete
    assert not list(disk.folder.iterdir())


async def test_chunks_are_cut_at_their_target_or_after_300_seconds(autojump_clock: MockClock, disk: Disk) -> None:
    of = terms(streams=VIDEO)
    pieces = [*steady(DATA[:70], 1, 10), *steady(DATA[70:30_070], 100, 0.01)]
    await recording(of, disk.places, {Stream.VIDEO: script(*pieces)})
    chunks = disk.ledger.chunks
    assert [chunk.plain for chunk in chunks[:2]] == [30, 30]
    assert [chunk.first for chunk in chunks[:3]] == [STARTED, STARTED + 300_000, STARTED + 600_000]
    assert chunks[0].last == STARTED + 290_000
    for chunk in chunks[2:-1]:
        target = of.bounds.target(keys(of).cut_seed, Stream.VIDEO, chunk.index)
        assert target <= chunk.plain < target + 100  # a fragment is not split
        assert (chunk.plain - 10) % 100 == 0 or chunk.index > 2
    assert [bool(chunk.flags & Flags.LAST) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert b"".join(plain(disk, of)) == DATA[:30_070]
    sound(disk)


async def test_heads_every_30_seconds_tell_what_is_sealed_and_what_is_safe(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, disk: Disk
) -> None:
    of = terms()
    heads = list[Head]()
    headed = disk.ledger.headed

    async def watched(signed: Signed) -> None:
        head = unpack(Head, signed.body)
        safe = {}
        for stream, index, file in find(disk.folder):
            found = recover(file, keys(of), stream, index)
            assert not found.damage
            safe[stream] = found.data
        for tail in head.tails:
            chunk = next((c for c in disk.ledger.chunks if (c.stream, c.index) == (tail.stream, tail.index)), None)
            data = plain_of(chunk) if chunk else safe[tail.stream]
            key = keys(of).chunk(tail.stream, tail.index).commitment
            assert tail.digest == blake3(data[: tail.size], key=key).digest()
            assert chunk or len(data) - tail.size <= 200  # what came since the last sync
        heads.append(head)
        await headed(signed)

    def plain_of(chunk: Chunk) -> bytes:
        from pipeline.restore import open_chunk

        return open_chunk(of.opening, chunk, disk.chunks.read(chunk.file), keys(of))

    monkeypatch.setattr(disk.ledger, "headed", watched)
    video, audit = steady(DATA[:20_000], 40, 0.4), steady(b"line\n" * 100, 5, 2)
    await recording(of, disk.places, {Stream.VIDEO: script(*video), Stream.AUDIT: script(*audit)})
    assert [head.at - STARTED for head in heads] == [30_000, 60_000, 90_000, 120_000, 150_000, 180_000, 200_000]
    assert [len(head.tails) for head in heads] == [2] * 6 + [0]
    leaves = [leaf for head in heads for leaf in head.leaves]
    assert sorted(leaves) == sorted(chunk.leaf() for chunk in disk.ledger.chunks)
    assert len(leaves) > 4
    assert sound(disk).heads == 7


async def test_a_clock_that_is_set_back_makes_no_session_invalid(autojump_clock: MockClock, disk: Disk) -> None:
    of = terms(streams=VIDEO)
    await recording(
        of,
        disk.places,
        {Stream.VIDEO: script(fragment(b"x"), 100)},
        now=lambda: Millis(STARTED - round(trio.current_time() * 1000)),
    )
    assert [unpack(Head, head.body).at for head in disk.ledger.heads] == [STARTED] * 4
    sound(disk)


async def test_gaps_are_counted_in_their_chunk_listed_and_told(autojump_clock: MockClock, disk: Disk) -> None:
    of, told = terms(streams=VIDEO), list[GapNote]()
    pieces: list[Piece | float] = [
        gap("late"),
        fragment(DATA[:100]),
        1,
        gap("x" * 300),
        2,
        fragment(DATA[100:9000]),
        fragment(b""),
        gap(),
    ]
    await recording(of, disk.places, {Stream.VIDEO: script(*pieces)}, noted=told.append)
    manifest = sound(disk)
    assert list(manifest.gaps) == told
    assert [(note.offset, note.reason) for note in told] == [(0, "late"), (100, "x" * 200), (9000, "it died")]
    counts = [chunk.gaps for chunk in disk.ledger.chunks]
    assert counts[0] == 2
    assert counts[-1] == 3
    assert [len(gaps) for _, gaps in disk.ledger.rows] == [2, *[0] * (len(counts) - 2), 1]


async def test_too_many_gaps_end_the_session_with_what_was_taken(autojump_clock: MockClock, disk: Disk) -> None:
    """Also while the source is still sending: the channel that breaks under it is no failure of its own."""
    of = terms(streams=VIDEO)
    pieces: list[Piece | float] = [fragment(b"first"), *[gap()] * (GAPS_MAX + 50), fragment(b"never")]
    manifest = await recording(of, disk.places, {Stream.VIDEO: script(*pieces)})
    assert manifest == sound(disk)
    assert not manifest.complete
    assert manifest.reason == "4096 gaps in the video"
    assert len(manifest.gaps) == GAPS_MAX
    assert plain(disk, of) == [b"first"]


async def test_an_empty_stream_is_one_empty_last_chunk(autojump_clock: MockClock, disk: Disk) -> None:
    of = terms()
    await recording(of, disk.places, {Stream.VIDEO: script(), Stream.AUDIT: script(fragment(b""), 3, fragment(b""))})
    assert [(chunk.name, chunk.plain, bool(chunk.flags & Flags.LAST)) for chunk in disk.ledger.chunks] == [
        ("video/0", 0, True),
        ("audit/0", 0, True),
    ]
    assert sound(disk).complete
    assert "create" not in disk.steps


def delays(*seconds: float) -> Callable[[object], float]:
    """Sealing chunk n takes so many seconds, no time where nothing is said."""

    def delay(job: object) -> float:
        if isinstance(job, _Seal):
            index = job.place[1]
            return seconds[index] if index < len(seconds) else 0
        return 0

    return delay


async def test_chunks_enter_the_ledger_in_order_whatever_order_they_are_stored_in(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    disk, of = Disk(tmp_path), terms(streams=VIDEO)
    with inline(delays(3, 1, 0, 0.5, 0.1)), disk.watched():
        await recording(of, disk.places, {Stream.VIDEO: script(*steady(DATA[:40_000], 500, 0))})
    assert len(disk.ledger.rows) > 5
    assert disk.steps.index("put") < disk.steps.index("sealed")
    assert disk.steps[: disk.steps.index("sealed")].count("put") >= 2  # chunk 1 was stored before chunk 0 was
    assert b"".join(plain(disk, of)) == DATA[:40_000]
    sound(disk)


async def test_no_journal_is_begun_behind_a_chunk_that_could_still_be_lost(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Else a crash would leave a hole in the middle instead of an end a little earlier."""
    disk, of = Disk(tmp_path), terms(streams=VIDEO)
    pieces: list[Piece | float] = [fragment(DATA[:8000]), 0.1, *steady(DATA[8000:9000], 50, 0.2), 5]
    with inline(delays(2)), disk.watched():
        await recording(of, disk.places, {Stream.VIDEO: script(*pieces)})
    assert disk.steps.index("sealed") < disk.steps.index("create")
    first = disk.journalled[0][0]
    assert 2 <= first <= 2.06  # as soon as chunk 0 is in the ledger
    assert b"".join(plain(disk, of)) == DATA[:9000]


async def test_a_chunk_that_has_a_journal_is_whole_in_it_before_it_is_sealed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, disk: Disk
) -> None:
    of = terms(streams=VIDEO)
    held: list[bytes] = []
    put = disk.chunks.put

    def watched(digest: Digest, sealed: memoryview, *, reserve: bool = False) -> None:
        held.extend(recover(file, keys(of), stream, index).data for stream, index, file in find(disk.folder))
        assert disk.syncs[-1][1] == sum(len(data) for _, _, data in disk.journalled)
        put(digest, sealed, reserve=reserve)

    monkeypatch.setattr(disk.chunks, "put", watched)
    await recording(of, disk.places, {Stream.VIDEO: script(*steady(DATA[:20_000], 100, 0.02))})
    assert held == plain(disk, of)


class Failing:
    """A step of a disk that raises these errors in turn, then does what it does."""

    def __init__(self, do: Callable[..., object], *errors: Exception) -> None:
        self.do, self.errors = do, list(errors)

    def __call__(self, *args: object, **options: object) -> object:
        if self.errors:
            raise self.errors.pop(0)
        return self.do(*args, **options)


PIECES = steady(DATA[:20_000], 100, 0.02)
NO_ROOM, BROKEN = NoRoom("the disk is full"), OSError(5, "Input/output error")


async def test_a_full_disk_ends_the_session_with_everything_sealed_from_the_reserve(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, disk: Disk
) -> None:
    of = terms(streams=VIDEO)
    monkeypatch.setattr(disk.chunks, "put", Failing(disk.chunks.put, NO_ROOM))
    manifest = await recording(of, disk.places, {Stream.VIDEO: script(*PIECES)})
    assert manifest == sound(disk)
    assert (manifest.complete, manifest.reason) == (False, "the disk is full")
    assert [(incident.damaging, incident.what) for incident in manifest.incidents] == [(False, "the disk is full")]
    assert DATA.startswith(b"".join(plain(disk, of)))
    assert not list(disk.folder.iterdir())


@pytest.mark.parametrize("step", ["put", "sealed"])
@pytest.mark.parametrize("error", [NO_ROOM, BROKEN])
async def test_what_cannot_be_stored_waits_in_the_journal_and_recovery_closes_it(
    autojump_clock: MockClock, disk: Disk, step: str, error: Exception
) -> None:
    """Every chunk after it waits too, since none may enter the ledger out of order."""
    of, owner = terms(streams=VIDEO), disk.chunks if step == "put" else disk.ledger
    works = getattr(owner, step)
    calls = [0]

    def fails(*args: object, **options: object) -> object:
        calls[0] += 1
        if calls[0] == 1:
            return works(*args, **options)
        raise error

    setattr(owner, step, fails)
    with pytest.raises(NotClosed, match="could not be stored"):
        await recording(of, disk.places, {Stream.VIDEO: script(*PIECES)})
    assert disk.ledger.manifest is None
    assert len(disk.ledger.rows) == 1
    setattr(owner, step, works)
    manifest = await recovered(disk, of)
    assert manifest == sound(disk)
    assert manifest.incidents == ()
    found = b"".join(plain(disk, of))
    assert DATA.startswith(found)
    assert len(found) == sum(len(data) for _, _, data in disk.journalled)
    assert len(found) > disk.ledger.rows[0][0].plain


async def test_a_chunk_that_fails_early_does_not_hold_up_those_before_it(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, of = Disk(tmp_path), terms(streams=VIDEO)
    put = disk.chunks.put

    def second_fails(digest: Digest, sealed: memoryview, *, reserve: bool = False) -> None:
        if sealed[19] == 1:
            raise BROKEN
        put(digest, sealed, reserve=reserve)

    monkeypatch.setattr(disk.chunks, "put", second_fails)
    with inline(delays(3)), disk.watched(), pytest.raises(NotClosed):
        await recording(of, disk.places, {Stream.VIDEO: script(*steady(DATA[:20_000], 500, 0))})
    assert [chunk.index for chunk in disk.ledger.chunks] == [0]


@pytest.mark.parametrize("seed", range(6))
async def test_the_last_room_is_for_the_earliest_chunk(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Two workers find no room, and the reserve has it for one: a later chunk there would help nobody."""
    disk, of = Disk(tmp_path), terms(streams=VIDEO)
    put, room = disk.chunks.put, [1]

    def takes_one(digest: Digest, sealed: memoryview, *, reserve: bool = False) -> None:
        if not reserve or not room:
            raise NO_ROOM
        room.clear()
        put(digest, sealed, reserve=reserve)

    monkeypatch.setattr(disk.chunks, "put", takes_one)
    with inline(delays(seed)), disk.watched(), pytest.raises(NotClosed):
        await recording(of, disk.places, {Stream.VIDEO: script(*steady(DATA[:20_000], 500, 0))})
    assert [chunk.index for chunk in disk.ledger.chunks] == [0]


@pytest.mark.parametrize("step", ["create", "append", "sync"])
async def test_a_journal_that_fails_ends_the_session_and_loses_nothing(
    autojump_clock: MockClock, disk: Disk, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = terms(streams=VIDEO)
    failing = Failing(getattr(Journal, step), BROKEN)
    monkeypatch.setattr(Journal, step, failing)
    manifest = await recording(of, disk.places, {Stream.VIDEO: script(*PIECES)})
    assert manifest == sound(disk)
    assert manifest.reason == str(BROKEN)
    assert DATA.startswith(b"".join(plain(disk, of)))
    assert not list(disk.folder.iterdir())


async def test_a_journal_that_failed_takes_nothing_more(
    autojump_clock: MockClock, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes behind a hole would be taken for what belongs there; and the tail keeps to what is safe."""
    of = terms(streams=VIDEO)
    append, calls = Journal.append, [0]

    def ninth_fails(book: Journal, data: memoryview, first: Millis, last: Millis) -> None:
        calls[0] += 1
        if calls[0] == 9:
            raise BROKEN
        append(book, data, first, last)

    monkeypatch.setattr(Journal, "append", ninth_fails)
    scope = trio.CancelScope(deadline=trio.current_time() + 45)
    with scope:  # a source that is deaf to `stop` keeps it open across a head
        await recording(of, disk.places, {Stream.VIDEO: script(*steady(DATA[:3000], 10, 0.2), 100)})
    assert scope.cancelled_caught
    assert calls[0] == 9
    ((stream, index, file),) = find(disk.folder)
    held = recover(file, keys(of), stream, index)
    assert (held.damage, held.data) == ((), DATA[: len(held.data)])
    (tail,) = unpack(Head, disk.ledger.heads[0].body).tails
    assert tail.size <= len(held.data)
    await recovered(disk, of)
    sound(disk)


async def test_a_failing_ledger_leaves_the_session_open(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, disk: Disk
) -> None:
    of = terms(streams=VIDEO)
    monkeypatch.setattr(disk.ledger, "closed", Failing(disk.ledger.closed, BROKEN))
    with pytest.raises(OSError, match="Input/output"):
        await recording(of, disk.places, {Stream.VIDEO: script(*PIECES)})
    await recovered(disk, of)
    assert sound(disk).chunk_count == len(disk.ledger.rows)
    assert b"".join(plain(disk, of)) == DATA[:20_000]


async def test_a_head_that_cannot_be_kept_ends_the_session_and_breaks_no_chain(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, disk: Disk
) -> None:
    of, stop = terms(streams=VIDEO), trio.Event()
    monkeypatch.setattr(disk.ledger, "headed", Failing(disk.ledger.headed, NO_ROOM))

    async def source(send: trio.MemorySendChannel[Piece]) -> None:
        await send.send(Fragment(b"picture", now(), now()))
        await stop.wait()

    manifest = await recording(of, disk.places, {Stream.VIDEO: source}, stop)
    assert manifest == sound(disk)
    assert manifest.ended == STARTED + 30_000
    assert manifest.reason == "the disk is full"


@pytest.mark.parametrize("error", [SourceLost("the screen is gone"), OSError(5, "the screen is gone")])
async def test_a_lost_source_ends_every_stream_with_its_reason(
    autojump_clock: MockClock, disk: Disk, error: Exception
) -> None:
    of, stop = terms(), trio.Event()

    async def lost(send: trio.MemorySendChannel[Piece]) -> None:
        await send.send(Fragment(b"picture", now(), now()))
        await trio.sleep(40)
        raise error

    async def other(send: trio.MemorySendChannel[Piece]) -> None:
        await send.send(Fragment(b"key\n", now(), now()))
        await stop.wait()
        await send.send(Fragment(b"end\n", now(), now()))

    manifest = await recording(of, disk.places, {Stream.VIDEO: lost, Stream.AUDIT: other}, stop)
    assert manifest == sound(disk)
    assert not manifest.complete
    assert "the screen is gone" in manifest.reason
    assert (plain(disk, of), plain(disk, of, Stream.AUDIT)) == ([b"picture"], [b"key\nend\n"])


async def test_stop_ends_a_session_as_complete(autojump_clock: MockClock, disk: Disk) -> None:
    of, stop = terms(streams=VIDEO), trio.Event()

    async def source(send: trio.MemorySendChannel[Piece]) -> None:
        await send.send(Fragment(b"picture", now(), now()))
        await stop.wait()

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            await trio.sleep(7)
            stop.set()

        manifest = await recording(of, disk.places, {Stream.VIDEO: source}, stop)
    assert manifest == sound(disk)
    assert (manifest.complete, manifest.reason, manifest.ended) == (True, "closed by the recorder", STARTED + 7000)


async def test_a_session_is_in_the_ledger_before_its_first_byte_is_taken(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, disk: Disk
) -> None:
    of = terms(streams=VIDEO)

    async def source(_send: trio.MemorySendChannel[Piece]) -> None:
        assert disk.steps == ["opened"]

    await recording(of, disk.places, {Stream.VIDEO: source})
    assert disk.steps == ["opened", "put", "sealed", "headed", "closed"]
    refused = Disk(disk.folder)
    monkeypatch.setattr(refused.ledger, "opened", Failing(refused.ledger.opened, NO_ROOM))
    with pytest.raises(NoRoom):
        await recording(of, refused.places, {Stream.VIDEO: source})
    assert refused.steps == ["opened"]


def pipe(data: bytes, sizes: Sequence[int]) -> Source:
    """The data in reads of these sizes, over and over."""

    async def source(send: trio.MemorySendChannel[Piece]) -> None:
        at = turn = 0
        while at < len(data):
            size = sizes[turn % len(sizes)]
            await send.send(Fragment(data[at : at + size], now(), now()))
            at, turn = at + size, turn + 1

    return source


@pytest.fixture
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    path = tmp_path_factory.mktemp("input") / "input"
    path.write_bytes(DATA)
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


def sealed(disk: Disk) -> list[Chunk]:
    return [replace(chunk, first=Millis(0), last=Millis(0)) for chunk in disk.ledger.chunks]


async def test_bytes_are_cut_alike_from_a_pipe_in_any_reads_and_from_a_file(
    autojump_clock: MockClock, disk: Disk, file: int
) -> None:
    of = terms(streams=VIDEO)
    targets = [of.bounds.target(keys(of).cut_seed, Stream.VIDEO, index) for index in range(3)]
    for length in (0, 1, targets[0] - 1, targets[0], targets[0] + 1, sum(targets), 100_000):
        os.truncate(file, 0)
        os.pwrite(file, DATA[:length], 0)
        whole = disk.reborn()
        whole.ledger = type(disk.ledger)()
        await recording(of, whole.places, {Stream.VIDEO: file}, exact=True)
        assert b"".join(plain(whole, of)) == DATA[:length]
        assert all(chunk.plain for chunk in whole.ledger.chunks) or length == 0
        for sizes in ([1 << 18], [7000], [1, 4096, 3]):
            other = disk.reborn()
            other.ledger = type(disk.ledger)()
            await recording(of, other.places, {Stream.VIDEO: pipe(DATA[:length], sizes)}, exact=True)
            assert sealed(other) == sealed(whole), (length, sizes)
            assert sound(other).root == sound(whole).root
    assert not list(disk.folder.iterdir())


async def test_a_file_that_shrinks_leaves_a_session_that_recovery_closes(
    autojump_clock: MockClock, disk: Disk, file: int
) -> None:
    of = terms(streams=VIDEO)

    def stored(chunk: Chunk) -> None:
        if chunk.index == 2:
            os.truncate(file, 20_000)

    with pytest.raises(NotClosed, match="the input became shorter while it was being recorded"):
        await recording(of, disk.places, {Stream.VIDEO: file}, exact=True, stored=stored)
    manifest = await recovered(disk, of)
    assert manifest == sound(disk)
    found = b"".join(plain(disk, of))
    assert 3 * of.bounds.low < len(found)
    assert DATA.startswith(found)


async def test_stop_ends_a_file_between_two_chunks(autojump_clock: MockClock, disk: Disk, file: int) -> None:
    of, stop = terms(streams=VIDEO), trio.Event()
    manifest = await recording(
        of, disk.places, {Stream.VIDEO: file}, stop, exact=True, stored=lambda _chunk: stop.set()
    )
    assert manifest == sound(disk)
    assert DATA.startswith(b"".join(plain(disk, of)))
    assert disk.ledger.chunks[-1].plain == 0


async def test_a_cancelled_recording_leaves_its_journal_and_no_manifest(autojump_clock: MockClock, disk: Disk) -> None:
    of = terms(streams=VIDEO, bounds=Bounds(4096, 8192, 300_000))
    with trio.move_on_after(31.5) as scope:
        await recording(of, disk.places, {Stream.VIDEO: script(*steady(DATA[:20_000], 100, 0.5))})
    assert scope.cancelled_caught
    assert disk.ledger.manifest is None
    manifest = await recovered(disk, of)
    assert manifest == sound(disk)
    assert manifest.heads == 1
    assert b"".join(plain(disk, of)) == DATA[:6300]


async def test_the_golden_session_recorded_again_is_cut_and_sealed_alike(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """To the byte where the chunk is raw; another Zstandard may pack the others in another way."""
    facts = json.loads((make_session.FOLDER / "session.json").read_text())
    disk = await make_session.made(tmp_path)
    assert [chunk.name for chunk in disk.ledger.chunks] == facts["chunks"]
    raw = {chunk.name: chunk.file.hex() for chunk in disk.ledger.chunks if chunk.flags & Flags.RAW}
    assert len(raw) == 4
    assert raw.items() <= facts["files"].items()
    assert sound(disk).heads == facts["heads"]
    for stream, data in make_session.content().items():
        assert b"".join(plain(disk, make_session.golden_terms(), stream)) == data
    assert make_session.main() == 1  # it is never made anew
