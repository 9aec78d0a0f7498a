"""A recorder killed at each of its steps in turn, and its recovery at each of its own."""

import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from consensus.ids import Digest, Millis
from consensus.records import unpack
from pipeline import recovery
from pipeline.bundle import verify
from pipeline.chunk import Bounds
from pipeline.journal import Journal, path
from pipeline.manifest import Closer, GapNote, Head, Manifest, Tail, identity, sign
from pipeline.restore import stream_bytes
from pipeline.sealed import Flags
from pipeline.stream import Fragment, Gap, Piece, Stream
from pipeline.writer import _Seal
from tests.pipeline.sessions import (
    BOTH,
    STARTED,
    Crash,
    Disk,
    fragment,
    gap,
    inline,
    keys,
    recording,
    script,
    steady,
    terms,
)

OF = terms(bounds=Bounds(1500, 3000, 40_000))
VIDEO = random.Random(6).randbytes(14_000)
AUDIT = b"".join(b'{"n":%d}\n' % n for n in range(60))
SCRIPTS: dict[Stream, list[Piece | float]] = {
    Stream.VIDEO: [
        *steady(VIDEO[:2600], 400, 0.4),
        gap("it died"),
        0.3,
        *steady(VIDEO[2600:9000], 800, 0.01),  # faster than a journal is begun
        gap(),
        *steady(VIDEO[9000:10_000], 500, 0.3),
        29.7,
        *steady(VIDEO[10_000:], 2000, 1),
    ],
    Stream.AUDIT: [*steady(AUDIT, 100, 2.2), 32],
}
CONTENT = {Stream.VIDEO: VIDEO, Stream.AUDIT: AUDIT}


def slow(job: object) -> float:
    """Sealing takes a while, and some chunks longer than those after them."""
    return (0.6, 0.2, 0.7)[job.place[1] % 3] if isinstance(job, _Seal) else 0.001


async def crashed(disk: Disk, run: Callable[[], Awaitable[object]]) -> None:
    """Run until the disk's crash, or to the end."""
    with disk.watched():
        try:
            await run()
        except* Crash:
            assert disk.dies_at is not None


async def recorded(disk: Disk) -> None:
    await crashed(disk, lambda: recording(OF, disk.places, {s: script(*pieces) for s, pieces in SCRIPTS.items()}))


async def recovered(disk: Disk) -> None:
    found = disk.ledger.interrupted(OF.opening)
    await crashed(disk, lambda: recovery.close(found, OF.secret, OF.identity, disk.places, lambda: Millis(STARTED)))


def streams(disk: Disk) -> dict[Stream, bytes]:
    chunks, read = disk.ledger.chunks, disk.chunks.read
    return {
        stream: b"".join(stream_bytes(OF.opening, chunks, stream, OF.secret, lambda chunk: read(chunk.file)))
        for stream in BOTH
    }


def checked(disk: Disk) -> Manifest:
    """The manifest of the closed session, which is valid, lacks no journal and is a beginning of what was recorded."""
    verdict = verify(disk.ledger.evidence(disk.chunks))
    assert verdict.faults == ()
    assert verdict.manifest
    assert verdict.manifest.incidents == ()
    for stream, found in streams(disk).items():
        assert CONTENT[stream].startswith(found)
    assert not list(disk.folder.glob("*.journal"))
    return verdict.manifest


def sent(stream: Stream, by: float) -> int:
    """How many bytes of a stream its script had sent by a time."""
    at, total = 0.0, 0
    for piece in SCRIPTS[stream]:
        if at > by:
            break
        match piece:
            case Fragment(data=data):
                total += len(data)
            case Gap():
                pass
            case _:
                at += piece
    return total


@pytest.mark.component
async def test_a_recorder_killed_at_any_step_loses_two_seconds_at_most(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """By SIGKILL, and by a power cut, which takes all that was not synced."""
    with inline(slow):
        whole = Disk(tmp_path / "whole")
        whole.folder.mkdir()
        await recorded(whole)
        assert checked(whole).complete
        assert {"append", "gap", "sync", "create", "put", "sealed", "headed", "unlink", "closed"} <= set(whole.steps)
        assert streams(whole) == CONTENT
        for dies_at in range(1, len(whole.steps)):
            killed, began = Disk(tmp_path / str(dies_at), dies_at), trio.current_time()
            killed.folder.mkdir()
            await recorded(killed)
            assert killed.died_at is not None
            died = (killed.died_at - STARTED) / 1000 - began
            for power in (False, True):
                disk = killed.copy(tmp_path / f"{dies_at} {power}")
                if power:
                    disk.cut_power()
                await recovered(disk)
                manifest, found = checked(disk), streams(disk)
                assert (manifest.complete, manifest.closer) == (False, Closer.IDENTITY)
                for stream in BOTH:
                    assert len(found[stream]) >= sent(stream, died - 2), (dies_at, power, stream.name)
                for _, stream, data in killed.journalled:
                    assert power or data in found[stream], (dies_at, stream.name)


@pytest.mark.parametrize("dies_at", [25, 50])
async def test_recovery_killed_at_any_step_and_done_again_comes_to_the_same_end(
    tmp_path: Path, autojump_clock: MockClock, dies_at: int
) -> None:
    with inline(slow):
        left = Disk(tmp_path / "left", dies_at)
        left.folder.mkdir()
        await recorded(left)
        at_once = left.copy(tmp_path / "at once")
        await recovered(at_once)
        expected = checked(at_once)
        assert {"put", "sealed", "closed", "unlink"} <= set(at_once.steps)
        for at in range(len(at_once.steps)):
            dying = left.copy(tmp_path / str(at), at)
            await recovered(dying)
            if dying.ledger.manifest is None:
                await recovered(dying.reborn())
                assert checked(dying) == expected
            assert dying.ledger.manifest
            assert unpack(Manifest, dying.ledger.manifest.body) == expected
            assert verify(dying.ledger.evidence(dying.chunks)).valid


VIDEO_ONLY = terms(streams=(Stream.VIDEO,))
LINES = [b"first " * 50, b"second " * 50, b"third " * 50]


def journalled(folder: Path, index: int, *data: bytes, gaps: int = 0) -> Path:
    """The journal that a recorder left of a chunk."""
    book = Journal.create(folder, keys(VIDEO_ONLY), Stream.VIDEO, index)
    for number in range(gaps):
        book.append_gap(GapNote(Stream.VIDEO, 0, Millis(STARTED), Millis(STARTED + 1), f"gap {number}"))
    for part in data:
        book.append(part, Millis(STARTED + index), Millis(STARTED + index + 1))
    book.close()
    return book.file


async def opened(folder: Path) -> Disk:
    disk = Disk(folder)
    await disk.opened(sign(VIDEO_ONLY.opening, VIDEO_ONLY.identity, VIDEO_ONLY.opening.network))
    return disk


async def closed(disk: Disk) -> tuple[Manifest, list[str]]:
    """Recovery's manifest, and what a verifier then finds."""
    found = disk.ledger.interrupted(VIDEO_ONLY.opening)
    at = lambda: Millis(STARTED + 9)  # noqa: E731
    manifest = await recovery.close(found, VIDEO_ONLY.secret, VIDEO_ONLY.identity, disk.places, at)
    return manifest, [fault.reason for fault in verify(disk.ledger.evidence(disk.chunks)).faults]


def played(disk: Disk) -> list[bytes]:
    of, read = VIDEO_ONLY, disk.chunks.read
    return list(stream_bytes(of.opening, disk.ledger.chunks, Stream.VIDEO, of.secret, lambda c: read(c.file)))


async def test_each_journal_becomes_the_chunk_of_its_index(tmp_path: Path) -> None:
    disk = await opened(tmp_path)
    for index, line in enumerate(LINES):
        journalled(tmp_path, index, line[:7], line[7:], gaps=index)
    manifest, faults = await closed(disk)
    assert faults == []
    assert played(disk) == LINES
    assert [(c.first, c.last, c.gaps) for c in disk.ledger.chunks] == [
        (STARTED, STARTED + 1, 0),
        (STARTED + 1, STARTED + 2, 1),
        (STARTED + 2, STARTED + 3, 3),
    ]
    assert (manifest.ended, len(manifest.gaps), manifest.incidents) == (STARTED + 3, 3, ())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left", [None, b"", b"LUCJ", "header", "gap"])
async def test_a_session_that_had_taken_nothing_yet_is_closed_empty(tmp_path: Path, left: bytes | str | None) -> None:
    disk = await opened(tmp_path)
    if isinstance(left, bytes):
        path(tmp_path, Stream.VIDEO, 0).write_bytes(left)
    elif left:
        journalled(tmp_path, 0, gaps=left == "gap")
    manifest, faults = await closed(disk)
    assert faults == []
    assert played(disk) == [b""]
    assert disk.ledger.chunks[0].first == disk.ledger.chunks[0].last == STARTED
    assert len(manifest.gaps) == (left == "gap")


async def test_a_lost_chunk_is_replaced_by_an_empty_one_and_told_however_often_it_is_tried(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first = await opened(tmp_path / "a")
    for index in (0, 3):
        journalled(tmp_path / "a", index, LINES[index // 2])
    reasons = [f"video/{index} was lost: it is neither sealed nor in a journal" for index in (1, 2)]
    for dies_at in range(12):
        disk = first.copy(tmp_path / str(dies_at), dies_at)
        with inline():
            await crashed(disk, lambda: closed(disk))  # noqa: B023
        if disk.ledger.manifest is None:
            manifest, faults = await closed(disk.reborn())
            assert faults == reasons
            assert [incident.damaging for incident in manifest.incidents] == [True, True]
        assert played(disk) == [LINES[0], b"", b"", LINES[1]]
        assert [bool(chunk.flags & Flags.LAST) for chunk in disk.ledger.chunks] == [False, False, False, True]


async def test_records_that_lack_a_chunk_are_told_and_recovered_all_the_same(tmp_path: Path) -> None:
    disk = await opened(tmp_path)
    for index, line in enumerate(LINES):
        journalled(tmp_path, index, line)
    await closed(disk)
    disk.ledger.manifest = None
    del disk.ledger.rows[1]
    journalled(tmp_path, 3, b"fourth")
    manifest, _ = await closed(disk)
    assert [incident.what for incident in manifest.incidents] == ["the records lack 1 chunks of the video"]
    assert [chunk.index for chunk in disk.ledger.chunks] == [0, 2, 3]


async def test_a_damaged_journal_gives_what_it_holds_and_the_verdict_says_so(tmp_path: Path) -> None:
    disk = await opened(tmp_path)
    file = journalled(tmp_path, 0, *LINES)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    manifest, faults = await closed(disk)
    assert played(disk) == [LINES[0] + LINES[2]]
    assert faults == ["the journal of video/0: record 1 does not authenticate"]
    assert manifest.incidents[0].damaging


async def test_damage_without_end_is_summed_up(tmp_path: Path) -> None:
    disk = await opened(tmp_path)
    file = journalled(tmp_path, 0, b"!")
    raw = file.read_bytes()
    file.write_bytes(raw + raw[80:] * 6000)
    manifest, faults = await closed(disk)
    assert played(disk) == [b"!"]
    assert len(faults) == len(manifest.incidents) == 257
    assert faults[-1] == "and 5744 more"


async def test_a_journal_that_nobody_with_the_key_wrote_adds_nothing(tmp_path: Path) -> None:
    """An index in a name or a header is anybody's to write: no empty chunks are made up to it."""
    disk = await opened(tmp_path)
    raw = journalled(tmp_path, 0, LINES[0]).read_bytes()
    header = raw[:8] + (10**11).to_bytes(8, "big") + raw[16:80]
    path(tmp_path, Stream.VIDEO, 10**11).write_bytes(header)
    path(tmp_path, Stream.VIDEO, 5).write_bytes(raw)
    _, faults = await closed(disk)
    assert played(disk) == [LINES[0]]
    assert faults[0] == "the header of the journal of video/5 was changed"


async def test_the_journal_of_a_sealed_chunk_is_passed_over(tmp_path: Path) -> None:
    """Killed between the ledger and the end of the journal."""
    disk = await opened(tmp_path)
    journalled(tmp_path, 0, LINES[0])
    await closed(disk)
    disk.ledger.manifest = None
    journalled(tmp_path, 0, LINES[0])
    assert (await closed(disk))[1] == []
    assert played(disk) == [LINES[0]]
    assert not list(tmp_path.iterdir())


async def test_a_journal_cut_short_by_someone_is_betrayed_by_the_last_head(tmp_path: Path) -> None:
    disk = await opened(tmp_path)
    file = journalled(tmp_path, 0, *LINES)
    size, of = sum(map(len, LINES)), VIDEO_ONLY
    previous = identity(of.opening, of.opening.network)
    tail = Tail(Stream.VIDEO, 0, size, Digest(bytes(32)))
    head = Head(of.opening.session, 0, Millis(STARTED), previous, (), (tail,))
    await disk.headed(sign(head, of.ephemeral, of.opening.network))
    with file.open("r+b") as out:
        out.truncate(file.stat().st_size - 1)
    manifest, faults = await closed(disk)
    assert manifest.heads == 1
    assert faults == [f"head 0 vouches for {size} bytes of video/0, which holds {size - len(LINES[2])}"]


async def test_a_journal_that_holds_other_bytes_than_a_head_vouched_for_is_reported(tmp_path: Path) -> None:
    """Someone with the session's key wrote another journal of the same length before recovery."""
    disk = await opened(tmp_path)
    journalled(tmp_path, 0, *LINES)
    size, of = sum(map(len, LINES)), VIDEO_ONLY
    tail = Tail(Stream.VIDEO, 0, size, Digest(bytes(32)))
    head = Head(of.opening.session, 0, Millis(STARTED), identity(of.opening, of.opening.network), (), (tail,))
    await disk.headed(sign(head, of.ephemeral, of.opening.network))
    assert (await closed(disk))[1] == ["the journal of video/0 holds other bytes than a head vouches for"]


async def test_recovery_does_not_sign_for_a_file_that_was_put_in_a_chunks_place(tmp_path: Path) -> None:
    disk = await opened(tmp_path)
    journalled(tmp_path, 0, LINES[0])
    await closed(disk)
    (chunk,) = disk.ledger.chunks
    disk.ledger.manifest = None
    disk.chunks._sealed[chunk.file] = b"something else"
    incident = (await closed(disk))[1][0]
    assert "video/0" in incident
    assert "not those that were sealed" in incident


async def test_no_plaintext_is_on_the_disk_while_it_records_or_after(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Journals and sealed chunks are searched at every step, the compressed audit trail too."""
    marker, seen = b"a window's title", [0]
    audit: list[Piece | float] = [fragment(b'{"title":"%s"}\n' % marker), 0.7] * 20
    video: list[Piece | float] = [fragment(marker * 20), 0.4] * 30
    disk = Disk(tmp_path)

    def searched() -> None:
        for data in [
            *(file.read_bytes() for file in tmp_path.iterdir()),
            *map(disk.chunks.read, disk.chunks.digests()),
        ]:
            seen[0] += len(data)
            assert marker[:6] not in data
            assert b"title" not in data

    async def watch() -> None:
        while True:
            searched()
            await trio.sleep(0.3)

    sources = {Stream.VIDEO: script(*video), Stream.AUDIT: script(*audit)}
    with inline(slow):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await recording(OF, disk.places, sources)
            nursery.cancel_scope.cancel()
    searched()
    assert seen[0] > 20_000
