"""What our process costs beside FFmpeg's while a 1080p desktop is recorded at 15 frames a second, journal included."""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import trio

from pipeline.child import child
from pipeline.desktop import virtual_display
from tests.bench.measure import spread

SECONDS = 20
TICKS = os.sysconf("SC_CLK_TCK")


def _cpu(pid: int) -> float:
    """CPU seconds of a process so far, without its children's."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _ffmpeg(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next(int(one) for one in children if b"ffmpeg" in Path(f"/proc/{one}/comm").read_bytes())


async def _measure(rounds: int) -> tuple[list[float], list[float]]:
    ours, encoder = [], []
    with tempfile.TemporaryDirectory(prefix="lucid-bench-") as folder:
        lucid = [sys.executable, "-m", "node", "--home", f"{folder}/home"]
        subprocess.run([*lucid, "init", "--insecure-plaintext-keys"], check=True, capture_output=True)
        async with virtual_display(1920, 1080) as display:
            card = [sys.executable, "-m", "pipeline.testcard", "--display", display]
            async with (
                child([*card, "--busy", "4"]),
                child([*lucid, "record", "--display", display], ending=signal.SIGTERM) as recorder,
            ):
                await trio.sleep(5)
                video = _ffmpeg(recorder.pid)
                for _ in range(rounds):
                    before = _cpu(recorder.pid), _cpu(video)
                    await trio.sleep(SECONDS)
                    ours.append((_cpu(recorder.pid) - before[0]) / SECONDS * 100)
                    encoder.append((_cpu(video) - before[1]) / SECONDS * 100)
    return ours, encoder


def main(_folder: Path, rounds: int) -> dict[str, object]:
    """Measure and print; returns the figures."""
    ours, encoder = trio.run(_measure, rounds)
    print(
        f"  record, 1920x1080 at 15 fps, {rounds} x {SECONDS} s: ours {spread(ours)} % of a core, FFmpeg {spread(encoder, '{:.0f}')} %"
    )
    return {"ours_percent": statistics.median(ours), "ffmpeg_percent": statistics.median(encoder)}
