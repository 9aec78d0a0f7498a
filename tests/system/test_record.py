"""The main job on real components: a desktop recorded by the command line, and what goes wrong on real machines."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import trio

from pipeline.child import child
from pipeline.desktop import virtual_display
from tests.system.crash import HEIGHT, WIDTH, answer, last_clock, lucid

pytestmark = pytest.mark.system


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lucid-record-") as folder:
        path = Path(folder) / "home"
        assert lucid(path, "init", "--insecure-plaintext-keys").returncode == 0
        yield path


@pytest.fixture
async def display() -> AsyncIterator[str]:
    async with virtual_display(WIDTH, HEIGHT) as name:
        async with child([sys.executable, "-m", "pipeline.testcard", "--display", name, "--busy", "10"]):
            yield name


def _record(home: Path, display: str, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "node", "--home", str(home), "--json", "record", "--display", display, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def _until(done: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Poll a condition until it holds; fails the test after the deadline."""
    with trio.fail_after(seconds):
        while not done():
            await trio.sleep(0.05)


def _chunks(home: Path) -> int:
    return sum(1 for path in (home / "chunks").rglob("*") if len(path.name) == 64)


def _ffmpeg(recorder: "subprocess.Popen[str]") -> int | None:
    for one in Path(f"/proc/{recorder.pid}/task/{recorder.pid}/children").read_text().split():
        if "ffmpeg" in Path(f"/proc/{one}/comm").read_text() and "x11grab" in Path(f"/proc/{one}/cmdline").read_text():
            return int(one)
    return None


async def _ended(recorder: "subprocess.Popen[str]") -> tuple[int, dict[str, object], str]:
    with trio.fail_after(60):
        out, err = await trio.to_thread.run_sync(recorder.communicate)
    return recorder.returncode, json.loads(out.splitlines()[-1]), err


async def test_a_desktop_is_recorded_until_sigterm_and_plays_with_what_it_showed(home: Path, display: str) -> None:
    began = time.time_ns() // 1_000_000
    with _record(home, display, "--chunk-bytes", "65536:131072") as recorder:
        await _until(lambda: _chunks(home) >= 4)
        recorder.send_signal(signal.SIGTERM)
        code, facts, _ = await _ended(recorder)
    ended = time.time_ns() // 1_000_000
    assert (code, facts["complete"], facts["gaps"]) == (0, True, 0)
    session = str(facts["session"])
    assert answer(lucid(home, "verify", session))["valid"]
    video, trail = home / "video.mp4", home / "audit.jsonl"
    assert lucid(home, "play", session, "--out", str(video)).returncode == 0
    assert lucid(home, "play", session, "--stream", "audit", "--out", str(trail)).returncode == 0
    probed = json.loads(
        subprocess.run(
            ["ffprobe", "-v", "error", "-show_format", "-show_streams", "-of", "json", str(video)],
            capture_output=True,
            check=True,
        ).stdout
    )
    assert [(s["codec_name"], s["width"], s["height"]) for s in probed["streams"]] == [("h264", WIDTH, HEIGHT)]
    opening = next(row for row in answer(lucid(home, "sessions"))["sessions"] if row["session"] == session)  # type: ignore[attr-defined]
    length = (opening["ended"] - opening["started"]) / 1000
    assert float(probed["format"]["duration"]) == pytest.approx(length, abs=1.5)
    shown = last_clock(video)
    assert shown is not None
    assert began <= shown <= ended
    kinds = [json.loads(line)["k"] for line in trail.read_text().splitlines()]
    assert (kinds[0], kinds[-1]) == ("start", "end")


async def test_a_killed_encoder_leaves_a_marked_gap_and_the_recording_goes_on(home: Path, display: str) -> None:
    with _record(home, display, "--chunk-bytes", "65536:131072") as recorder:
        await _until(lambda: _chunks(home) >= 1)
        killed = _ffmpeg(recorder)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await _until(lambda: _ffmpeg(recorder) not in {None, killed})
        before = _chunks(home)
        await _until(lambda: _chunks(home) >= before + 2)
        recorder.send_signal(signal.SIGTERM)
        code, facts, _ = await _ended(recorder)
    assert (code, facts["complete"], facts["gaps"]) == (0, True, 1)
    session = str(facts["session"])
    verdict = answer(lucid(home, "verify", session))
    assert (verdict["valid"], verdict["gaps"]) == (True, 1)
    video, trail = home / "video.mp4", home / "audit.jsonl"
    assert lucid(home, "play", session, "--out", str(video)).returncode == 0
    assert lucid(home, "play", session, "--stream", "audit", "--out", str(trail)).returncode == 0
    gaps = [json.loads(line) for line in trail.read_text().splitlines() if json.loads(line)["k"] == "gap"]
    assert [gap["stream"] for gap in gaps] == ["video"]
    times = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "packet=dts_time", "-of", "csv=p=0", str(video)],
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split()
    seconds = [float(text.strip(",")) for text in times]
    assert seconds == sorted(seconds), "the second epoch does not follow the first"
    assert last_clock(video) is not None


def test_a_missing_ffmpeg_is_named_with_its_mend(home: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "node", "--home", str(home), "record", "--display", ":0"]
    with subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-nolisten", "tcp"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout is not None
        command[-1] = f":{server.stdout.readline().decode().strip()}"
        done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
        server.terminate()
    assert done.returncode == 3
    assert "ffmpeg is not installed: apt-get install ffmpeg" in done.stderr


@pytest.mark.parametrize("megabytes", [90, 20])
def test_a_full_disk_ends_the_session_with_everything_sealed_so_far(megabytes: int, tmp_path: Path) -> None:
    """90 MB: the reserve for winding up suffices; 20 MB: nothing does, and the session waits for `recover`."""
    whole, place = tmp_path / "input", tmp_path / "disk"
    whole.write_bytes(os.urandom(60_000_000))
    place.mkdir()
    lucid_node = f"{sys.executable} -m node --home {place}/home --json"
    script = f"""
        mount -t tmpfs -o size={megabytes}m tmpfs {place} || exit 77
        {lucid_node} init --insecure-plaintext-keys >/dev/null 2>&1 || exit 70
        {lucid_node} record --input {whole} >{tmp_path}/record 2>{tmp_path}/said; echo $? >{tmp_path}/code
        mount -o remount,size=200m {place}
        {lucid_node} recover >{tmp_path}/recover || exit 71
        session=$({lucid_node} sessions | sed 's/.*"session": "//; s/".*//')
        {lucid_node} verify $session >{tmp_path}/verify
        {lucid_node} play $session --out {tmp_path}/out >/dev/null
    """
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"this machine refuses a mount namespace: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "code").read_text().strip() == "3"
    assert (
        "full" in (tmp_path / "said").read_text() + (tmp_path / "record").read_text()
        or "free" in (tmp_path / "record").read_text()
    )
    verdict = json.loads((tmp_path / "verify").read_text().splitlines()[-1])
    assert (verdict["valid"], verdict["complete"]) == (True, False)
    played = (tmp_path / "out").read_bytes()
    assert len(played) > 8_000_000
    assert whole.read_bytes().startswith(played)
    closed_by_recovery = json.loads((tmp_path / "recover").read_text().splitlines()[-1])["closed"]
    assert len(closed_by_recovery) == (1 if megabytes == 20 else 0)
