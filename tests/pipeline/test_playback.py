"""Epochs joined into one MP4: accepted by ffprobe with every picture at its time, and untouched where nothing has to move."""

import json
import random
import struct
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.fmp4 import MalformedVideo
from pipeline.playback import join_epochs


def box(name: bytes, *body: bytes) -> bytes:
    content = b"".join(body)
    return struct.pack(">I4s", 8 + len(content), name) + content


def head(scale: int, *, wide: bool = False) -> bytes:
    times = struct.pack(">B3xQQI" if wide else ">B3xIII", wide, 1, 2, scale)
    return box(b"ftyp", b"isom") + box(b"moov", box(b"trak", box(b"mdia", box(b"mdhd", times, bytes(8)))))


def fragment(time: int, *, wide: bool = True) -> bytes:
    tfdt = box(b"tfdt", struct.pack(">B3xQ" if wide else ">B3xI", wide, time))
    return box(b"moof", box(b"mfhd", bytes(8)), box(b"traf", tfdt)) + box(b"mdat", b"picture")


def joined(data: bytes, starts: list[int], sizes: list[int] | None = None) -> bytes:
    cuts = [0, *sorted({min(size, len(data)) for size in sizes or []}), len(data)]
    return b"".join(join_epochs((data[a:b] for a, b in pairwise(cuts)), starts))


@pytest.mark.parametrize("wide", [False, True])
def test_later_epochs_begin_where_their_gap_ended_and_keep_only_their_fragments(wide: bool) -> None:
    first = head(90_000, wide=wide) + fragment(0, wide=wide) + fragment(45_000, wide=wide)
    epochs = first + box(b"mfra", b"x") + head(90_000) + fragment(0, wide=wide) + head(90_000) + fragment(9, wide=wide)
    expected = first + fragment(90_000 * 3, wide=wide) + fragment(90_000 * 7 // 2 + 9, wide=wide)
    assert joined(epochs, [0, 3000, 3500]) == expected


def test_epochs_without_a_start_of_their_own_take_the_last() -> None:
    assert joined((head(1000) + fragment(5)) * 3, [0, 400]) == head(1000) + fragment(5) + fragment(405) * 2


@given(st.lists(st.integers(0, 400)), st.integers(0, 30))
def test_parts_may_end_anywhere_and_a_box_that_breaks_off_is_dropped(sizes: list[int], cut: int) -> None:
    whole = head(1000) + fragment(0) + head(1000) + fragment(0)
    last = len(fragment(0)) - len(box(b"mdat", b"picture"))
    expected = joined(whole, [0, 9])
    assert joined(whole, [0, 9], sizes) == expected
    assert joined(whole + fragment(7)[: min(cut, last - 1)], [0, 9], sizes) == expected


@given(st.binary(max_size=300))
def test_bytes_that_are_no_video_are_malformed_and_nothing_else(data: bytes) -> None:
    for prefix in (b"", head(1000) + fragment(0), head(1000) * 2):
        try:
            joined(prefix + data, [0, 5])
        except MalformedVideo:
            continue


@given(st.integers(0, 400), st.integers(1, 255), st.integers(0, 60))
def test_damage_to_a_box_is_malformed_and_nothing_else(at: int, change: int, less: int) -> None:
    data = bytearray(head(1000) + fragment(0) + head(1000) + fragment(2**64 - 1) + fragment(2**32 - 1, wide=False))
    data[at % len(data)] ^= change
    try:
        joined(bytes(data[: len(data) - less]), [0, 2**40])
    except MalformedVideo:
        return


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """Two recordings by ffmpeg, of 2 and of 3 seconds."""
    folder = tmp_path_factory.mktemp("videos")
    for seconds in (2, 3):
        source = f"testsrc=size=64x48:rate=10:duration={seconds}"
        flags = ["-c:v", "libx264", "-g", "5", "-bf", "0", "-movflags", "frag_keyframe+empty_moov+default_base_moof"]
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, *flags, "-f", "mp4", f"{seconds}.mp4"]
        subprocess.run(command, check=True, cwd=folder, stdin=subprocess.DEVNULL)
    return (folder / "2.mp4").read_bytes(), (folder / "3.mp4").read_bytes()


@pytest.mark.component
def test_two_recordings_with_a_gap_play_as_one(videos: tuple[bytes, bytes], tmp_path: Path) -> None:
    out = tmp_path / "joined.mp4"
    rng = random.Random(3)
    sizes = [rng.randrange(60_000) for _ in range(9)]
    out.write_bytes(joined(b"".join(videos), [0, 6500], sizes))
    probe = ["ffprobe", "-v", "error", "-show_packets", "-show_format", "-of", "json", str(out)]
    found = subprocess.run(probe, check=True, capture_output=True)
    told = json.loads(found.stdout)
    times = sorted(float(packet["pts_time"]) for packet in told["packets"])
    assert times == pytest.approx([n / 10 for n in range(20)] + [6.5 + n / 10 for n in range(30)])
    assert float(told["format"]["duration"]) == pytest.approx(9.5, abs=0.11)
    assert found.stderr == b""
    decode = ["ffmpeg", "-v", "error", "-xerror", "-i", str(out), "-f", "null", "-"]
    assert subprocess.run(decode, check=True, capture_output=True, stdin=subprocess.DEVNULL).stderr == b""


@pytest.mark.component
def test_one_recording_is_left_as_it_is_but_for_its_index(videos: tuple[bytes, bytes]) -> None:
    whole = videos[1]
    index = whole.rindex(b"mfra") - 4
    assert joined(whole, [0]) == whole[:index]
