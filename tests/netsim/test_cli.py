"""The command line: exit codes, one sentence for each refusal, tapes that run again, Ctrl-C, and silence in a pipe."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from netsim import tape
from netsim.__main__ import ORDERS, main

ROOT = Path(__file__).parent.parent.parent
QUICK = [
    "--nodes",
    "8",
    "--minutes",
    "14",
    "--option",
    "join_s=10",
    "--option",
    "messages=10",
    "--option",
    "look_ups=10",
]
CUT_OFF = """
nodes = 8
minutes = 14
[options]
join_s = 10
messages = 10
look_ups = 0
[[faults.freeze]]
node = 2
at = 100_000
for_ms = 5_000
[[faults.cut]]
name = "forever"
at = 120_000
sources = [0, 1, 2, 3]
targets = [4, 5, 6, 7]
[[faults.crash]]
node = 6
at = 60_000
down_ms = 20_000
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(CUT_OFF)
    return path


def test_the_list_names_every_scenario_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["scenarios"]}
    assert {"bootstrap", "churn", "partition", "burst", "bootstrap-gone", "eclipse", "sybil-flood", "spam"} <= set(rows)
    assert rows["churn"]["options"]["rate"] == 20
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in rows)


@pytest.mark.component
def test_a_run_that_holds_says_so_and_shows_no_progress_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "bootstrap", *QUICK]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("bootstrap, 8 nodes, seed 1: every invariant held\n")
    assert "10 of 10 look-ups found their node" in out


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["run", "bootstrp"], 2, "there is no scenario bootstrp"),
        (["run", "bootstrap", "--option", "speed=9"], 2, "has no option speed"),
        (["run", "bootstrap", "--option", "messages=many"], 2, "messages is a number, and many is none"),
        (["run", "bootstrap", "--nodes", "1"], 2, "at least 2 nodes, and 1 were asked for"),
        (["run", "bootstrap", "--seed", str(1 << 63)], 2, "a seed has 64 bits"),
        (["compare", "nowhere", "nowhere"], 3, "nowhere: No such file"),
        (["compare", "README.md", "README.md"], 3, "README.md is not JSON"),
        (["run", "nowhere.toml"], 3, "nowhere.toml: No such file"),
        (["replay", "nowhere.tape"], 3, "nowhere.tape: No such file"),
    ],
)
def test_what_cannot_be_run_is_one_sentence_on_stderr(
    words: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("lucid-netsim: ")
    assert err.count("\n") == 1
    assert sentence in err


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["run", "bootstrap", "--nodes", "many"],
        ["run", "bootstrap", "--nodes", "0"],
        ["run", "bootstrap", "--option", "messages"],
        ["fly"],
    ],
)
def test_a_command_line_that_is_none_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(words)
    assert refused.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("lucid-netsim")


def test_a_plan_that_contradicts_itself_is_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "heal.toml"
    path.write_text(
        '[[faults.heal]]\nname = "x"\nat = 5\n[[faults.cut]]\nname = "x"\nat = 9\nsources=[0]\ntargets=[1]\n'
    )
    assert main(["run", str(path)]) == 2
    assert capsys.readouterr().err == "lucid-netsim: Heal at 5 ms: there is no cut x to heal then\n"


def test_where_nothing_can_be_written_nothing_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> None:
        raise AssertionError("it is run, for nothing")

    monkeypatch.setattr("netsim.__main__.perform", run)
    (tmp_path / "file").touch()
    assert main(["run", "bootstrap", *QUICK, "--out", str(tmp_path / "file" / "report")]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "Not a directory" in err


@pytest.mark.component
def test_what_broke_is_kept_shrunk_and_breaks_again_exactly(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    assert main(["run", str(mine), "--out", str(out), "--shrink", "10", "--json"]) == 1
    said, err = capsys.readouterr()
    numbers = json.loads(said.splitlines()[-1])
    assert not numbers["ok"]
    assert numbers["broken"]["check"] == "Directories"
    assert "1 of 3 faults suffice" in err
    assert "\n  cut: name = forever, at = " in err
    assert all(one in (out / "report.md").read_text() for one in numbers["faults"])
    path = out / "bootstrap-1.tape"
    assert f"lucid-netsim replay {path}" in err
    kept = tape.read(path, ORDERS)
    assert [fault.name for fault in kept.recipe.plan.faults] == ["forever"]  # type: ignore[union-attr]
    assert main(["replay", str(path), "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["digest"] == kept.digest
    assert facts["sentence"] == kept.broken.sentence


@pytest.mark.component
def test_without_shrinking_the_tape_is_the_run_itself(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(mine), "--json"]) == 1
    numbers = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert main(["replay", "bootstrap-1.tape", "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["digest"] == numbers["digest"]
    assert (facts["check"], facts["now"], facts["node"]) == tuple(
        numbers["broken"][key] for key in ("check", "now", "node")
    )

    head, _, body = Path("bootstrap-1.tape").read_bytes().partition(b"\n")
    header = json.loads(head)
    for change, sentence in (
        ({"lucid_tape": 99}, "is a tape of version 99 and this code reads 1"),
        ({"code": "00" * 32, "commit": ""}, "was made by other code (00000000)"),
    ):
        Path("other.tape").write_bytes(json.dumps(header | change).encode() + b"\n" + body)
        assert main(["replay", "other.tape"]) == 3
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert sentence in err


@pytest.mark.component
def test_ctrl_c_leaves_a_report_that_says_it_is_partial(tmp_path: Path) -> None:
    """Its progress, which it shows on a terminal alone, tells when it has begun."""
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "netsim", "run", "bootstrap", "--nodes", "30", "--minutes", "6000", "--json"]
    with subprocess.Popen([*words, "--out", str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs) as run:
        os.close(theirs)
        shown = b""
        while b"events" not in shown:
            shown += os.read(ours, 1024)
        run.send_signal(signal.SIGINT)
        out, _ = run.communicate(timeout=60)
        assert run.returncode == 3
    os.close(ours)
    numbers = json.loads(out.splitlines()[-1])
    assert numbers["partial"]
    assert not numbers["ok"]
    assert 0 < numbers["virtual_s"] < 6000 * 60
    assert json.loads((tmp_path / "result.json").read_text()) == numbers
    assert "Interrupted: these are partial results" in (tmp_path / "report.md").read_text()
    assert not list(tmp_path.glob("*.tape"))
