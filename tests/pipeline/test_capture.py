"""The supervision of the encoder, with small programs in FFmpeg's place; tests/system has the real one."""

import itertools
import os
import shlex
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from consensus.ids import Millis
from pipeline.capture import CaptureLost, Encoder, Limits, NoEncoder, capture, command, probe
from pipeline.stream import Fragment, Gap, Piece

pytestmark = pytest.mark.component

LIMIT_S = 20
ANY = Encoder("libx264", ())

PROLOGUE = """
import os, signal, sys, time
place = {place!r}
run = len(os.listdir(place))
open(os.path.join(place, str(run)), "w").close()
def out(*parts):
    os.write(1, b"".join(parts))
def box(name, body=b""):
    return (8 + len(body)).to_bytes(4, "big") + name + body
head = box(b"ftyp", b"run%d" % run) + box(b"moov")
def fragment(n):
    return box(b"moof", b"%d" % n) + box(b"mdat", b"picture")
def until_interrupted():
    signal.sigwait([signal.SIGINT])
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
"""

Fake = Callable[[str], None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Puts a program of a few lines in FFmpeg's place."""
    place, runs = tmp_path / "bin", tmp_path / "runs"
    place.mkdir()
    runs.mkdir()
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")

    def install(script: str) -> None:
        program, body = place / "ffmpeg", place / "ffmpeg.py"
        body.write_text(f"{PROLOGUE.format(place=str(runs))}\n{script}\n")
        interpreter = shlex.join([sys.executable, "-IS", str(body)])  # a path with spaces cannot stand behind #!
        program.write_text(f'#!/bin/sh\nexec {interpreter} "$@"\n')
        program.chmod(0o755)

    return install


def box(name: bytes, body: bytes = b"") -> bytes:
    return (8 + len(body)).to_bytes(4, "big") + name + body


def head(run: int) -> bytes:
    return box(b"ftyp", b"run%d" % run) + box(b"moov")


def fragment(n: int) -> bytes:
    return box(b"moof", b"%d" % n) + box(b"mdat", b"picture")


async def record(enough: int, limits: Limits | None = None) -> list[Piece]:
    """What the capture sends, stopped when `enough` fragments are there; its clock counts its readings."""
    send, receive = trio.open_memory_channel[Piece](0)
    stop, ticks, pieces = trio.Event(), itertools.count(1), list[Piece]()

    async def run() -> None:
        async with send:
            await capture(
                send,
                display=":none",
                encoder=ANY,
                now=lambda: Millis(next(ticks)),
                stop=stop,
                size=(2, 2),
                limits=limits,
            )

    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            async for piece in receive:
                pieces.append(piece)
                if sum(isinstance(piece, Fragment) for piece in pieces) == enough:
                    stop.set()
    return pieces


def told(pieces: list[Piece]) -> list[bytes | str]:
    return [piece.data if isinstance(piece, Fragment) else piece.reason for piece in pieces]


async def test_a_death_loses_the_unfinished_fragment_and_tells_a_gap_before_the_next_epoch(fake: Fake) -> None:
    fake("""
out(head, fragment(1)); out(fragment(2), fragment(3)[:11])
if run == 0:
    os.kill(os.getpid(), signal.SIGKILL)
until_interrupted()
""")
    pieces = await record(4)
    assert told(pieces)[:2] == [head(0) + fragment(1), fragment(2)]
    gap, first, second, *_ = pieces[2:]
    assert isinstance(gap, Gap)
    assert gap.reason == "FFmpeg was killed by SIGKILL; 11 bytes of an unfinished fragment are lost"
    assert isinstance(first, Fragment)
    assert isinstance(second, Fragment)
    assert (first.data, second.data) == (head(1) + fragment(1), fragment(2))
    # The gap begins where the last kept byte ended, so that the lost fragment lies inside it.
    assert (gap.first, gap.last) == (pieces[1].last, first.first)
    assert gap.first < gap.last


async def test_what_a_stop_lets_the_encoder_finish_is_delivered(fake: Fake) -> None:
    fake("out(head, fragment(1)); until_interrupted(); out(fragment(2)); out(fragment(3)); sys.exit(255)")
    assert told(await record(1)) == [head(0) + fragment(1), fragment(2), fragment(3)]


async def test_an_encoder_deaf_to_stop_is_killed_and_its_loss_told(fake: Fake) -> None:
    fake("out(head, fragment(1), fragment(2)[:9]); signal.pause()")
    assert told(await record(1)) == [
        head(0) + fragment(1),
        "FFmpeg was killed by SIGKILL; 9 bytes of an unfinished fragment are lost",
    ]


async def test_an_encoder_that_falls_silent_is_replaced(fake: Fake) -> None:
    fake("""
out(head, fragment(1))
if run == 0:
    signal.pause()
until_interrupted()
""")
    pieces = await record(2, Limits(silent_s=0.5))
    assert told(pieces) == [head(0) + fragment(1), "FFmpeg delivered nothing for 0.5 s", head(1) + fragment(1)]


async def test_garbage_ends_an_epoch_and_not_the_recording(fake: Fake) -> None:
    fake("""
out(head, fragment(1))
if run == 0:
    out(bytes(16)); signal.pause()
until_interrupted()
""")
    first, reason, second = told(await record(2))
    assert (first, second) == (head(0) + fragment(1), head(1) + fragment(1))
    assert isinstance(reason, str)
    assert reason.endswith("16 bytes of an unfinished fragment are lost")


async def test_failures_in_a_row_are_one_gap_with_the_last_complaint(fake: Fake) -> None:
    fake("""
if run in (1, 2):
    sys.exit("trouble number %d" % run)
out(head, fragment(1))
if run == 0:
    sys.exit(0)
until_interrupted()
""")
    pieces = await record(2)
    assert told(pieces) == [
        head(0) + fragment(1),
        "FFmpeg ended with status 1: trouble number 2",
        head(3) + fragment(1),
    ]


async def test_an_encoder_that_keeps_failing_ends_the_capture_after_telling_the_gap(fake: Fake) -> None:
    fake("sys.exit('cannot open display')")
    send, receive = trio.open_memory_channel[Piece](10)
    now, stop = (lambda: Millis(0)), trio.Event()
    start = partial(
        capture, send, display=":7", encoder=ANY, now=now, stop=stop, size=(2, 2), limits=Limits(failing_s=0.3)
    )
    with trio.fail_after(LIMIT_S), pytest.raises(CaptureLost, match=r"picture of :7 .* status 1: cannot open display"):
        await start()
    gap = receive.receive_nowait()
    assert isinstance(gap, Gap)
    assert receive.statistics().current_buffer_used == 0


async def test_endless_complaints_never_block_the_picture(fake: Fake) -> None:
    fake("os.write(2, b'complaint' * 100_000); out(head, fragment(1)); until_interrupted()")
    assert told(await record(1)) == [head(0) + fragment(1)]


async def test_cancellation_leaves_no_encoder_behind(fake: Fake) -> None:
    fake("out(head, fragment(1)); signal.pause()")
    send, receive = trio.open_memory_channel[Piece](0)
    pids: list[int] = []
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(
                    capture,
                    send,
                    display=":7",
                    encoder=ANY,
                    now=lambda: Millis(0),
                    stop=trio.Event(),
                    size=(2, 2),
                    on_start=pids.append,
                )
            )
            await receive.receive()
            nursery.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], signal.SIGCONT)


async def test_the_first_encoder_that_works_is_chosen_and_a_forced_one_is_not_replaced(fake: Fake) -> None:
    fake("""
if "h264_vaapi" not in sys.argv:
    sys.exit("noise\\nno such device\\n")
out(head, fragment(1))
""")
    assert (await probe()).name == "h264_vaapi"
    with pytest.raises(NoEncoder, match="h264_nvenc: no such device"):
        await probe(["h264_nvenc"])
    with pytest.raises(NoEncoder, match="there is no encoder 'divx': choose one of libx264"):
        await probe(["divx"])


async def test_an_encoder_that_succeeds_without_video_does_not_work(fake: Fake) -> None:
    fake("out(head)")
    with pytest.raises(NoEncoder, match="libx264: it says nothing"):
        await probe(["libx264"])


async def test_a_missing_ffmpeg_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoEncoder, match="ffmpeg is not installed: apt-get install ffmpeg"):
        await probe()


def test_repeated_pictures_are_dropped_for_one_fragment_at_most() -> None:
    """mpdecimate's max=0 would drop a still screen for ever."""
    for fps in range(1, 61):
        filters = command(ANY, [], fps=fps, frag_ms=500)[command(ANY, [], fps=fps, frag_ms=500).index("-vf") + 1]
        if fps <= 2:
            assert "mpdecimate" not in filters
        else:
            repeated = int(filters.removeprefix("mpdecimate=max=").split(",")[0])
            assert 500 <= (repeated + 1) * 1000 / fps < 1000
