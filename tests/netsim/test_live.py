"""What a terminal shows while a run goes on, on a pseudo-terminal of its own."""

import json
import os
import pty
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsim.live import BARS, POINTS, Curve, spoken
from tests.netsim.test_cli import ROOT

RUNS = {
    "bootstrap": ("--nodes 20 --minutes 20", "entries that a directory has in the mean", " %"),
    "agree-steady": ("--nodes 12 --minutes 300", "HOURs that finality is behind", ""),
    "gossip-cold-boot": ("--nodes 20", "places in honest meshes that Sybils hold", " %"),
}


def _on_a_terminal(words: list[str]) -> tuple[int, str, str]:
    """The exit code of a command, what it wrote to stdout, and what to a terminal as stderr."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            shown += part
        assert process.stdout is not None
        said = process.stdout.read()
    os.close(ours)
    return process.returncode, said, shown.decode()


@pytest.mark.component
@pytest.mark.parametrize("scenario", RUNS)
def test_a_run_shows_how_far_it_is_and_the_curve_that_decides(scenario: str) -> None:
    words, name, value = RUNS[scenario]
    command = [sys.executable, "-m", "netsim", "run", scenario, *words.split(), "--json"]
    code, said, shown = _on_a_terminal(command)
    assert code == 0
    assert re.search(r"\d\.\d%  .* of .* events, [\d,]+/s, .* left", shown)
    assert re.search(rf"{name}: [\d.e+]+{value}  [{BARS}]+", shown), shown[-2_000:]
    assert shown.endswith("\r\x1b[K\r\n\x1b[K\r\x1b[A")
    plain = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert plain.stderr == ""
    assert json.loads(said)["digest"] == json.loads(plain.stdout)["digest"]


@given(st.lists(st.floats(0, 1e9), max_size=1_000))
def test_a_curve_is_never_wider_than_a_line(values: list[float]) -> None:
    curve = Curve()
    for value in values:
        curve.add(value)
    drawn = curve.drawn()
    assert len(drawn) < POINTS
    assert {*drawn} <= {*BARS}
    assert bool(drawn) is bool(values)


def test_a_curve_shows_what_rose_and_what_fell() -> None:
    curve = Curve()
    for value in range(8):
        curve.add(value)
    assert curve.drawn() == BARS
    for later in (3.5, 0.0):
        curve.add(later)
    assert curve.drawn() == BARS + BARS[4] + BARS[0]


@pytest.mark.parametrize(
    ("ms", "said"), [(0, "0 s"), (61_000, "1 m 1 s"), (3_600_000, "1 h 0 m"), (90_000_000, "1 d 1 h")]
)
def test_a_time_is_told_in_its_two_largest_units(ms: int, said: str) -> None:
    assert spoken(ms) == said
