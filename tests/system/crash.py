"""Kill the recorder of a real desktop at random moments and measure what its recovery brings back.

Each round: `lucid-node record` on a virtual display whose picture shows the time, SIGKILL at a random moment, then
`recover`, `verify`, `play`, and the time is read from the last frame that the recording shows. Half of the rounds use
small chunks, so that kills also fall into cutting and sealing. `./lucid crash N` runs it.
"""

import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import trio

from pipeline.child import child
from pipeline.desktop import virtual_display
from pipeline.testcard import read_clock

WIDTH, HEIGHT = 640, 360
PROMISE_MS = 2000
SMALL = "65536:131072"


@dataclass(slots=True)
class Outcome:
    """What the rounds showed."""

    rounds: int = 0
    before_opening: int = 0
    lost_ms: list[int] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line."""
        if not self.lost_ms:
            return f"{self.rounds} rounds, none with a picture"
        lost = sorted(self.lost_ms)
        return (
            f"{self.rounds} kills: {self.before_opening} before the session was opened, {len(lost)} with a picture; "
            f"lost ms: median {statistics.median(lost):.0f}, worst {lost[-1]}; "
            f"chunks a session up to {max(self.chunks)}; broken promises: {len(self.broken)}"
        )


def lucid(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end."""
    command = [sys.executable, "-m", "node", "--home", str(home), "--json", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    """The JSON object on a command's last line."""
    assert done.stdout, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def last_clock(video: Path, width: int = WIDTH, height: int = HEIGHT) -> int | None:
    """The time that the last readable frame of a recording shows, in Unix milliseconds."""
    command = ["ffmpeg", "-v", "error", "-i", str(video), "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    frames = subprocess.run(command, capture_output=True, check=True, timeout=120).stdout
    size = width * height
    for start in range((len(frames) // size - 1) * size, -1, -size):
        if (shown := read_clock(frames[start : start + size], width, height)) is not None:
            return int(shown)
    return None


def _one(home: Path, display: str, delay: float, small: bool, place: Path, outcome: Outcome) -> None:
    command = [sys.executable, "-m", "node", "--home", str(home), "record", "--display", display]
    recorder = subprocess.Popen(
        command + (["--chunk-bytes", SMALL] if small else []), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        recorder.wait(delay)
    except subprocess.TimeoutExpired:
        recorder.send_signal(signal.SIGKILL)
    else:
        outcome.broken.append(f"the recorder ended by itself with {recorder.returncode}")
        return
    killed = time.time_ns() // 1_000_000
    recorder.wait()
    outcome.rounds += 1
    recovered = lucid(home, "recover")
    if recovered.returncode:
        outcome.broken.append(f"recover ended with {recovered.returncode}: {recovered.stderr}")
        return
    closed = answer(recovered)["closed"]
    assert isinstance(closed, list)
    if not closed:
        outcome.before_opening += 1
        return
    (session,) = closed
    verdict = answer(lucid(home, "verify", session))
    if not verdict["valid"] or verdict["complete"]:
        outcome.broken.append(f"after {delay:.2f} s: {verdict['faults']}, complete {verdict['complete']}")
        return
    video = place / "recovered.mp4"
    video.unlink(missing_ok=True)
    played = lucid(home, "play", session, "--out", str(video))
    if played.returncode:
        outcome.broken.append(f"after {delay:.2f} s: play ended with {played.returncode}: {played.stderr}")
        return
    shown = last_clock(video) if video.stat().st_size else None
    started = verdict["started"]
    assert isinstance(started, int)
    if shown is None and killed - started <= PROMISE_MS:
        return  # FFmpeg had not delivered its first fragment yet
    lost = killed - (shown if shown is not None else started)
    outcome.lost_ms.append(lost)
    chunks = verdict["chunks"]
    assert isinstance(chunks, int)
    outcome.chunks.append(chunks)
    if lost > PROMISE_MS:
        outcome.broken.append(f"killed after {delay:.2f} s: {lost} ms are lost")


async def crash_rounds(rounds: int, seed: int, *, say: bool = False) -> Outcome:
    """Kill and recover so many times; the seed draws the moments."""
    draw, outcome = random.Random(seed), Outcome()
    with tempfile.TemporaryDirectory(prefix="lucid-crash-") as folder:
        home = Path(folder) / "home"
        made = lucid(home, "init", "--insecure-plaintext-keys")
        assert made.returncode == 0, made.stderr
        async with virtual_display(WIDTH, HEIGHT) as display:
            async with child([sys.executable, "-m", "pipeline.testcard", "--display", display, "--busy", "10"]):
                for number in range(rounds):
                    delay = draw.uniform(0.3, 6.0)
                    await trio.to_thread.run_sync(_one, home, display, delay, number % 2 == 1, Path(folder), outcome)
                    if say:
                        print(f"{number + 1}/{rounds}  {outcome.summary()}", flush=True)
    return outcome


def main() -> int:
    """`python -m tests.system.crash [N] [SEED]`: exit 1 when a promise was broken."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns()
    print(f"{rounds} kills, seed {seed}")
    outcome = trio.run(lambda: crash_rounds(rounds, seed, say=True))
    for sentence in outcome.broken:
        print(sentence)
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
