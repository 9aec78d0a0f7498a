"""The picture of a session: FFmpeg grabs an X display and hands us fragmented MP4, and it is FFmpeg that may die, not we.

The rules: every fragment is whole and decodable together with its epoch's beginning; what is missing between two epochs
is told by a Gap before the second one's first fragment, from the last byte kept to the first new one; encoders are
chosen by encoding, since being listed by FFmpeg proves nothing. A fragment spans at most 500 ms even on a still screen
(repeated pictures are dropped, but never for longer), so that all but the last second is always in the journal.
"""

import shutil
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from os import close, pipe
from typing import Final

import trio

from consensus.ids import Millis
from pipeline import audit
from pipeline.child import GRACE_S, Child, child
from pipeline.desktop import NoDisplay
from pipeline.fmp4 import MalformedVideo, Splitter
from pipeline.stream import Fragment, Gap, Piece

KEYFRAME_S: Final = 4
PROBE_S: Final = 15.0
READ_BYTES: Final = 1 << 18
TAIL_BYTES: Final = 4096
BACKOFF_S: Final = (0.05, 2.0)


class NoEncoder(Exception):
    """No way to encode video here; the message says what was tried and what to install."""


class CaptureLost(Exception):
    """The encoder kept failing for too long; what was recorded before it is kept and the session ends as an incident."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """A way of encoding that FFmpeg may offer, in FFmpeg's words."""

    name: str
    options: tuple[str, ...]
    device: tuple[str, ...] = ()
    picture: str = "format=yuv420p"


ENCODERS: Final = (
    Encoder("libx264", ("-preset", "veryfast", "-tune", "zerolatency", "-crf", "26", "-threads", "2")),
    Encoder("h264_v4l2m2m", ("-b:v", "3M")),
    Encoder("h264_vaapi", ("-qp", "26"), ("-vaapi_device", "/dev/dri/renderD128"), "format=nv12,hwupload"),
    Encoder("h264_nvenc", ("-preset", "p2", "-tune", "ull", "-cq", "26")),
    Encoder("h264_qsv", ("-global_quality", "26"), picture="format=nv12"),
)
"""In the order of trial: libx264 runs everywhere and costs 10-25 % of one core at 1080p, 15 frames a second."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient the capture is: a silent encoder is killed, and failures without one fragment between end it."""

    silent_s: float = 5.0
    failing_s: float = 20.0


async def probe(names: Sequence[str] | None = None) -> Encoder:
    """The first encoder that really encodes: of those named (one, when the user forces it), else of ENCODERS.

    Raises NoEncoder, with FFmpeg's last line about each that was tried.
    """
    known = {encoder.name: encoder for encoder in ENCODERS}
    for program, package in (("ffmpeg", "ffmpeg"), ("setpriv", "util-linux")):
        if shutil.which(program) is None:
            raise NoEncoder(f"{program} is not installed: apt-get install {package}")
    reasons: list[str] = []
    for name in known if names is None else names:
        if name not in known:
            raise NoEncoder(f"there is no encoder {name!r}: choose one of {', '.join(known)}")
        if not (reason := await _trial(known[name])):
            return known[name]
        reasons.append(f"{name}: {reason}")
    raise NoEncoder(f"FFmpeg cannot encode here ({'; '.join(reasons)}): choose one of {', '.join(known)}")


async def _trial(encoder: Encoder) -> str:
    """Why the encoder fails on half a second of a test picture; empty when it works."""
    test = command(encoder, ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=15:duration=0.6"], fps=15, frag_ms=500)
    result = None
    with trio.move_on_after(PROBE_S):
        result = await trio.run_process(test, capture_stdout=True, capture_stderr=True, check=False)
    if result is None:
        return f"no answer within {PROBE_S:.0f} s"
    try:
        pieces = Splitter().feed(result.stdout)
    except MalformedVideo as problem:
        return str(problem)
    return "" if pieces and result.returncode == 0 else _last_line(result.stderr)


async def screen_size(display: str) -> tuple[int, int]:
    """Width and height of the display's screen in pixels. Raises NoDisplay."""
    with trio.move_on_after(5):
        return await trio.to_thread.run_sync(audit.screen_size, display, abandon_on_cancel=True)
    raise NoDisplay(f"the X server of {display} does not answer: restart it")


def command(encoder: Encoder, source: Sequence[str], *, fps: int, frag_ms: int) -> list[str]:
    """The FFmpeg command that encodes the source to fragmented MP4 on its standard output."""
    # mpdecimate drops what looks the same, but lets a picture pass every frag_ms, just late enough for it to end the
    # fragment of the one before: FFmpeg ends none before the next picture comes. Its max=0 would mean to drop for ever.
    repeated = -(-fps * frag_ms // 1000) - 1
    still = [f"mpdecimate=max={repeated}"] if repeated > 0 else []
    # fmt: off
    return [
        "ffmpeg", "-hide_banner", "-nostats", "-nostdin", "-loglevel", "warning", *encoder.device, *source,
        "-an", "-vf", ",".join([*still, encoder.picture]), "-fps_mode", "vfr",
        "-c:v", encoder.name, *encoder.options,
        # -g counts pictures, of which a still screen has few: the expression keeps the seconds.
        "-g", str(fps * KEYFRAME_S), "-force_key_frames", f"expr:gte(t,n_forced*{KEYFRAME_S})",
        "-f", "mp4", "-movflags", "+frag_keyframe+empty_moov+default_base_moof+skip_trailer",
        "-frag_duration", str(frag_ms * 1000), "-flush_packets", "1", "pipe:1",
    ]
    # fmt: on


async def capture(
    send: "trio.MemorySendChannel[Piece]",
    *,
    display: str,
    encoder: Encoder,
    now: Callable[[], Millis],
    stop: trio.Event,
    fps: int = 15,
    size: tuple[int, int] | None = None,
    frag_ms: int = 500,
    limits: Limits | None = None,
    on_start: Callable[[int], None] = lambda _: None,
) -> None:
    """Sends the display's picture until `stop` is set; `size` None means the whole screen, measured for every epoch.

    After `stop`, FFmpeg gets SIGINT and two seconds to finish; the receiver must go on receiving until this returns, and
    then has the last fragment. Cancellation is for emergencies: FFmpeg is killed and what it held is lost. The channel
    stays open. `on_start` hears each FFmpeg's pid. Raises NoDisplay when there is none to begin with, and CaptureLost
    after Limits.failing_s without a fragment from encoders that die; the gap up to then has been sent.
    """
    bounds = limits or Limits()
    outlet = _Outlet(send, now)
    area = size or await screen_size(display)
    backoff, working = BACKOFF_S[0], trio.current_time()
    while True:
        sent = outlet.sent
        grab = ["-f", "x11grab", "-draw_mouse", "1", "-framerate", str(fps)]
        grab += ["-video_size", f"{area[0] & ~1}x{area[1] & ~1}", "-i", display]  # H.264 takes even sizes
        reason = await _epoch(command(encoder, grab, fps=fps, frag_ms=frag_ms), outlet, stop, bounds, on_start)
        outlet.lost(reason)
        if stop.is_set():
            break
        if outlet.sent > sent:
            backoff, working = BACKOFF_S[0], trio.current_time()
        if trio.current_time() - working >= bounds.failing_s:
            await outlet.close()
            raise CaptureLost(f"the picture of {display} has been lost for {bounds.failing_s:g} s: {reason}")
        with trio.move_on_after(backoff):
            await stop.wait()
            break
        backoff = min(2 * backoff, BACKOFF_S[1])
        with suppress(NoDisplay):  # then FFmpeg fails as well, and tells it
            area = size or await screen_size(display)
    await outlet.close()


class _Outlet:
    """Sends fragments with their times, and before the first one after a death the gap that it left."""

    def __init__(self, send: "trio.MemorySendChannel[Piece]", now: Callable[[], Millis]) -> None:
        self._send = send
        self._now = now
        self._last = now()  # when the last byte that was kept arrived
        self.reason = ""  # of the death since then
        self.sent = 0

    def lost(self, reason: str) -> None:
        """The encoder has died, unless there is no reason; of several deaths in a row the last one's reason is told."""
        self.reason = reason

    async def take(self, splitter: Splitter, data: bytes, first: Millis | None) -> Millis | None:
        """Send what these bytes complete; `first` is when the pending ones began to arrive, and so is the result."""
        now = self._now()
        begun = now if first is None else first
        for piece in splitter.feed(data):
            await self._gap(begun)
            await self._send.send(Fragment(piece, begun, now))
            self._last, begun = now, now
            self.sent += 1
        return begun if splitter.pending else None

    async def close(self) -> None:
        """Tell a gap that nothing has ended."""
        await self._gap(self._now())

    async def _gap(self, last: Millis) -> None:
        if self.reason:
            await self._send.send(Gap(self._last, last, self.reason))
            self.reason = ""


async def _epoch(
    program: list[str], outlet: _Outlet, stop: trio.Event, bounds: Limits, on_start: Callable[[int], None]
) -> str:
    """One encoder from its start to its end, and why it ended; empty when it ended because of `stop`, with nothing lost."""
    splitter, tail, first = Splitter(), bytearray(), None
    silenced = trio.Event()
    (reading, writing), (complaints, complaining) = pipe(), pipe()
    stdout, stderr = trio.lowlevel.FdStream(reading), trio.lowlevel.FdStream(complaints)
    async with stdout, stderr, child(program, stdout=writing, stderr=complaining) as ffmpeg:
        close(writing)
        close(complaining)
        on_start(ffmpeg.pid)
        reason = ""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_keep_tail, stderr, tail, silenced)
            nursery.start_soon(_interrupt, stop, ffmpeg)
            while True:
                data = None
                with trio.move_on_after(bounds.silent_s):
                    data = await stdout.receive_some(READ_BYTES)
                if data is None:
                    reason = f"FFmpeg delivered nothing for {bounds.silent_s:g} s"
                    break
                if not data:
                    break
                try:
                    first = await outlet.take(splitter, data, first)
                except MalformedVideo as problem:
                    reason = str(problem)
                    break
            if not reason:
                reason = "FFmpeg closed its output and did not end"
                with trio.move_on_after(GRACE_S):
                    status = await ffmpeg.wait()
                    await silenced.wait()
                    asked = stop.is_set() and status != -signal.SIGKILL and not splitter.pending
                    reason = "" if asked else _ending(status, tail)
            nursery.cancel_scope.cancel()
    unfinished = f"; {splitter.pending} bytes of an unfinished fragment are lost" if splitter.pending else ""
    return reason + unfinished


async def _keep_tail(stream: trio.abc.ReceiveStream, tail: bytearray, over: trio.Event) -> None:
    """Reads what FFmpeg complains about, so that it never blocks on it, and keeps the end of it."""
    async for data in stream:
        tail += data
        del tail[:-TAIL_BYTES]
    over.set()


async def _interrupt(stop: trio.Event, ffmpeg: Child) -> None:
    """On stop, lets FFmpeg finish its last fragment; a still busy one is killed, which ends its output as well."""
    await stop.wait()
    ffmpeg.signal(signal.SIGINT)
    await trio.sleep(GRACE_S)
    ffmpeg.signal(signal.SIGKILL)


def _ending(status: int, tail: bytes | bytearray) -> str:
    if status < 0:
        return f"FFmpeg was killed by {signal.Signals(-status).name}"
    return f"FFmpeg ended with status {status}: {_last_line(tail)}"


def _last_line(text: bytes | bytearray) -> str:
    lines = (line.strip() for line in reversed(text.decode(errors="replace").splitlines()))
    return next((line for line in lines if line), "it says nothing")
