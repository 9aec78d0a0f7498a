"""The sources of a recording on a real X server, with the real FFmpeg, xdotool, openbox and xterm."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from Xlib import X
from Xlib.display import Display

from consensus.ids import Millis
from pipeline.audit import audit
from pipeline.capture import CaptureLost, Limits, capture, probe
from pipeline.child import child
from pipeline.desktop import virtual_display
from pipeline.fmp4 import epochs
from pipeline.stream import Fragment, Gap, Piece
from pipeline.testcard import read_clock

pytestmark = pytest.mark.system

LIMIT_S = 30
SCREEN = (640, 360)


def now() -> Millis:
    return Millis(time.time_ns() // 1_000_000)


@pytest.fixture(autouse=True)
def _tools() -> None:
    missing = [tool for tool in ("ffmpeg", "ffprobe", "Xvfb", "xdotool", "openbox", "xterm") if not shutil.which(tool)]
    assert not missing, f"install {', '.join(missing)} to run the system tests"


@asynccontextmanager
async def moving_picture(display: str) -> AsyncIterator[None]:
    async with child([sys.executable, "-m", "pipeline.testcard", "--display", display]):
        yield


async def record(
    display: str,
    until: Callable[[list[Piece]], bool],
    *,
    watch: Callable[[list[Piece], list[int]], None] = lambda pieces, pids: None,
    limits: Limits | None = None,
) -> list[Piece]:
    """What the capture of a display sends until a condition holds, and while it ends; `watch` sees each piece and the pids."""
    send, receive = trio.open_memory_channel[Piece](0)
    pieces: list[Piece] = []
    pids: list[int] = []
    stop, encoder = trio.Event(), await probe()

    async def run() -> None:
        async with send:
            await capture(
                send, display=display, encoder=encoder, now=now, stop=stop, limits=limits, on_start=pids.append
            )

    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            async for piece in receive:
                pieces.append(piece)
                watch(pieces, pids)
                if until(pieces):
                    stop.set()
    return pieces


def video(pieces: list[Piece]) -> bytes:
    return b"".join(piece.data for piece in pieces if isinstance(piece, Fragment))


async def duration_s(file: Path) -> float:
    shown = await trio.run_process(
        [
            "ffprobe",
            "-v",
            "error",
            "-of",
            "json",
            "-show_entries",
            "format=duration:stream=codec_name,width,height",
            file,
        ],
        capture_stdout=True,
    )
    facts = json.loads(shown.stdout)
    (stream,) = facts["streams"]
    assert (stream["codec_name"], stream["width"], stream["height"]) == ("h264", *SCREEN)
    return float(facts["format"]["duration"])


async def clocks(file: Path) -> list[Millis | None]:
    """The time that each decoded frame shows; the decoder must not complain about one of them."""
    width, height = SCREEN
    decoded = await trio.run_process(
        ["ffmpeg", "-v", "error", "-i", file, "-f", "rawvideo", "-pix_fmt", "gray", "-fps_mode", "passthrough", "-"],
        capture_stdout=True,
        capture_stderr=True,
    )
    assert decoded.stderr == b""
    frames = range(0, len(decoded.stdout), width * height)
    return [read_clock(decoded.stdout[at : at + width * height], width, height) for at in frames]


async def test_a_recording_shows_the_time_at_which_it_was_made(tmp_path: Path) -> None:
    async with virtual_display(*SCREEN) as display, moving_picture(display):
        pieces = await record(display, lambda sent: sent[-1].last - sent[0].first >= 3_500)
    fragments = [piece for piece in pieces if isinstance(piece, Fragment)]
    assert len(fragments) == len(pieces)
    file = tmp_path / "recording.mp4"
    file.write_bytes(video(pieces))
    lasted = await duration_s(file)
    shown = await clocks(file)
    times = [ms for ms in shown if ms is not None]
    # The test card may not be there yet when the first frames are grabbed; from then on each frame shows a time.
    assert shown[-len(times) :] == times
    # A quiet machine shows 50 frames, 70 ms apart, and a fragment each second: three times that for a busy one.
    assert len(times) >= 15
    assert all(0 <= later - earlier <= 1_500 for earlier, later in pairwise(times))
    assert fragments[0].first - 3_000 <= times[0]
    assert 0 <= fragments[-1].last - times[-1] <= 2_000
    assert abs(lasted * 1000 - (fragments[-1].last - fragments[0].first)) <= 2_000
    assert max(later.last - earlier.last for earlier, later in pairwise(fragments)) <= 3_000


async def test_a_killed_encoder_costs_a_gap_and_the_recording_goes_on(tmp_path: Path) -> None:
    killed: list[Millis] = []

    def kill(pieces: list[Piece], pids: list[int]) -> None:
        if len(pieces) == 3 and not killed:
            os.kill(pids[0], signal.SIGKILL)
            killed.append(now())

    def enough(pieces: list[Piece]) -> bool:
        gaps = [place for place, piece in enumerate(pieces) if isinstance(piece, Gap)]
        return bool(gaps) and len(pieces) - gaps[0] > 3

    async with virtual_display(*SCREEN) as display, moving_picture(display):
        pieces = await record(display, enough, watch=kill)
    ((place, gap),) = [(place, piece) for place, piece in enumerate(pieces) if isinstance(piece, Gap)]
    before, after = pieces[:place], pieces[place + 1 :]
    assert gap.reason.startswith("FFmpeg was killed by SIGKILL")
    assert gap.first == before[-1].last <= killed[0] <= gap.last == after[0].first
    assert gap.last - gap.first < 9_000
    whole = video(pieces)
    assert list(epochs([whole])) == [0, len(video(before))]
    for number, part in enumerate((before, after)):
        file = tmp_path / f"{number}.mp4"
        file.write_bytes(video(part))
        shown = [ms for ms in await clocks(file) if ms is not None]
        assert shown
        assert part[0].first - 3_000 <= shown[0] <= shown[-1] <= part[-1].last


async def test_a_still_screen_yields_a_fragment_each_second() -> None:
    async with virtual_display(*SCREEN) as display:
        pieces = await record(display, lambda sent: len(sent) == 5)
    assert all(isinstance(piece, Fragment) for piece in pieces)
    assert max(later.last - earlier.last for earlier, later in pairwise(pieces)) <= 3_000
    assert len(video(pieces)) < 50_000


async def test_a_lost_display_ends_the_capture_after_telling_the_gap() -> None:
    pieces: list[Piece] = []
    send, receive = trio.open_memory_channel[Piece](100)
    encoder = await probe()
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:

            async def run(display: str) -> None:
                with pytest.raises(CaptureLost, match=r"has been lost for 1 s: FFmpeg ended with status 1: .*:"):
                    async with send:
                        await capture(
                            send,
                            display=display,
                            encoder=encoder,
                            now=now,
                            stop=trio.Event(),
                            limits=Limits(failing_s=1),
                        )

            async with virtual_display(*SCREEN) as display:
                nursery.start_soon(run, display)
                pieces.append(await receive.receive())
            lost = now()
            pieces += [piece async for piece in receive]
    assert isinstance(pieces[0], Fragment)
    # A busy machine may have had gaps while there still was a display.
    assert len([piece for piece in pieces if isinstance(piece, Gap) and piece.last >= lost]) == 1
    assert isinstance(pieces[-1], Gap)


class Heard:
    """The audit's lines so far, and waiting for one of them."""

    def __init__(self, receive: "trio.MemoryReceiveChannel[Piece]") -> None:
        self._receive = receive
        self.raw = b""

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(text) for text in self.raw.splitlines()]

    async def until(self, met: Callable[[list[dict[str, object]]], bool]) -> None:
        while not met(self.lines):
            piece = await self._receive.receive()
            assert isinstance(piece, Fragment)
            self.raw += piece.data


async def audited(display: str, act: Callable[[Heard], Awaitable[None]], *, titles: bool = True) -> Heard:
    """What the audit of a display tells while something is done there."""
    send, receive = trio.open_memory_channel[Piece](100)
    heard, stop = Heard(receive), trio.Event()
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(audit, send, display=display, now=now, stop=stop, titles=titles))
            await act(heard)
            stop.set()
    send.close()
    async for piece in receive:
        assert isinstance(piece, Fragment)
        heard.raw += piece.data
    return heard


def counted(lines: list[dict[str, object]], kind: str, what: str = "n") -> Counter[str]:
    return sum((Counter(entry[what]) for entry in lines if entry["k"] == kind), Counter())  # type: ignore[call-overload]


async def xdotool(display: str, *words: str) -> None:
    await trio.run_process(["xdotool", *words], env={**os.environ, "DISPLAY": display}, stderr=subprocess.DEVNULL)


async def test_typing_is_counted_by_class_and_nothing_of_it_is_kept() -> None:
    async with virtual_display(*SCREEN) as display:

        async def act(heard: Heard) -> None:
            await xdotool(display, "type", "--delay", "20", "hunter2 secret")
            await xdotool(display, "key", "Return", "BackSpace", "Left", "F5")
            await xdotool(display, "key", "ctrl+c")
            await xdotool(display, "click", "1")
            await xdotool(display, "click", "--repeat", "3", "4")
            await heard.until(lambda lines: counted(lines, "button")["4"] == 3)

        heard = await audited(display, act)
    assert counted(heard.lines, "key") == {"char": 15, "enter": 1, "edit": 1, "nav": 1, "fn": 1, "mod": 1}
    assert counted(heard.lines, "key", "m") == {"char": 1}
    assert counted(heard.lines, "button") == {"1": 1, "4": 3}
    keys = [entry for entry in heard.lines if entry["k"] == "key"]
    assert all(set(entry) == {"t", "k", "w", "n", "m"} for entry in keys)
    assert all(isinstance(entry["t"], int) and entry["t"] % 500 == 0 for entry in keys)
    assert b"hunter" not in heard.raw
    assert b"secret" not in heard.raw
    # One spelling: sorted keys and no spaces.
    for text in heard.raw.splitlines():
        assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")).encode()


def _await_window_manager(display: str) -> None:
    connection = Display(display)
    root = connection.screen().root
    root.change_attributes(event_mask=X.PropertyChangeMask)
    while root.get_full_property(connection.intern_atom("_NET_SUPPORTING_WM_CHECK"), X.AnyPropertyType) is None:
        connection.next_event()
    connection.close()


def _own_clipboard(display: str) -> Display:
    connection = Display(display)
    window = connection.screen().root.create_window(0, 0, 1, 1, 0, X.CopyFromParent)
    window.set_wm_class("notes", "Notes")
    window.set_selection_owner(connection.intern_atom("CLIPBOARD"), X.CurrentTime)
    connection.sync()
    return connection


@pytest.mark.parametrize("titles", [True, False])
async def test_the_active_window_and_the_clipboards_owner_are_told(titles: bool) -> None:
    async with virtual_display(*SCREEN) as display, child(["env", f"DISPLAY={display}", "openbox"]):

        async def act(heard: Heard) -> None:
            for name in ("Ledger", "Other"):
                start = partial(
                    child, ["xterm", "-display", display, "-class", name, "-T", f"{name} 2024 ü", "-e", "cat"]
                )
                opened = await stack.enter_async_context(start())
                await heard.until(lambda lines, name=name: any(entry.get("class") == name for entry in lines))  # type: ignore[misc]
                pids.append(opened.pid)
            owner = await trio.to_thread.run_sync(_own_clipboard, display)
            await heard.until(lambda lines: counted_kinds(lines)["clipboard"] == 1)
            owner.close()
            await heard.until(lambda lines: counted_kinds(lines)["clipboard"] == 2)

        pids: list[int] = []
        await trio.to_thread.run_sync(_await_window_manager, display)
        async with AsyncExitStack() as stack:
            heard = await audited(display, act, titles=titles)
    focus = [entry for entry in heard.lines if entry["k"] == "focus" and entry["class"] in {"Ledger", "Other"}]
    assert [(entry["class"], entry["pid"]) for entry in focus[:2]] == [("Ledger", pids[0]), ("Other", pids[1])]
    if titles:
        assert [entry["title"] for entry in focus[:2]] == ["Ledger 2024 ü", "Other 2024 ü"]
    else:
        assert all("title" not in entry for entry in heard.lines)
        assert b"2024" not in heard.raw
    clipboard = [entry for entry in heard.lines if entry["k"] == "clipboard"]
    assert [(entry["selection"], entry["class"]) for entry in clipboard] == [
        ("CLIPBOARD", "Notes"),
        ("CLIPBOARD", None),
    ]


def counted_kinds(lines: list[dict[str, object]]) -> Counter[object]:
    return Counter(entry["k"] for entry in lines)


async def test_a_server_without_record_is_told_as_a_gap_and_the_rest_goes_on() -> None:
    async with virtual_display(*SCREEN, options=["-extension", "RECORD"]) as display:

        async def act(heard: Heard) -> None:
            await heard.until(lambda lines: counted_kinds(lines)["gap"] == 1)
            owner = await trio.to_thread.run_sync(_own_clipboard, display)
            await heard.until(lambda lines: counted_kinds(lines)["clipboard"] == 1)
            owner.close()

        heard = await audited(display, act)
    (gap,) = [entry for entry in heard.lines if entry["k"] == "gap"]
    assert (gap["source"], gap["reason"]) == (
        "keys",
        "the X server has no RECORD extension: keys and buttons are not recorded",
    )


async def test_a_server_that_goes_away_ends_the_audit_with_a_last_line() -> None:
    send, receive = trio.open_memory_channel[Piece](100)
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            async with virtual_display(*SCREEN) as display:
                await nursery.start(partial(audit, send, display=display, now=now, stop=trio.Event()))
    heard = Heard(receive)
    await heard.until(lambda lines: counted_kinds(lines)["end"] == 1)
    assert heard.lines[-1]["k"] == "end"
    assert f"the X server of {display} has gone" in str(heard.lines[-1]["reason"])
