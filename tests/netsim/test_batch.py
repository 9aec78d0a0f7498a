"""Several seeds at once: the numbers are those of one by one, what fails is told, and differences are told from luck."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from netsim import batch
from netsim.__main__ import main
from netsim.batch import FILE, MACHINE, Batch, SeedFailed, figures, merged, play
from netsim.versus import say, versus
from tests.netsim.test_cli import QUICK, ROOT

WORDS = ["bootstrap", *QUICK]


def plain(numbers: Any) -> Any:
    """Without what is the machine's."""
    if isinstance(numbers, dict):
        left = {key: plain(value) for key, value in numbers.items() if key not in {*MACHINE, "command", "load"}}
        return {key: value for key, value in left.items() if not key.startswith("load.")}
    return [plain(one) for one in numbers] if isinstance(numbers, list | tuple) else numbers


def test_seeds_side_by_side_are_what_they_are_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *WORDS, "--seed", "3", "--seeds", "3", "--jobs", "3", "--out", str(tmp_path), "--json"]) == 0
    together = json.loads(capsys.readouterr().out)
    assert together == json.loads((tmp_path / FILE).read_text())
    alone = []
    for seed in (3, 4, 5):
        assert main(["run", *WORDS, "--seed", str(seed), "--json"]) == 0
        alone.append(json.loads(capsys.readouterr().out))
        assert plain(json.loads((tmp_path / f"seed-{seed}" / "result.json").read_text())) == plain(alone[-1])
    assert plain(together) == plain(merged(Batch(tuple(alone), partial=False)))
    assert together["seeds"] == [3, 4, 5]
    assert together["figures"]["messages"]["mean"] == 10
    assert main(["run", *WORDS, "--seeds", "2", "--jobs", "1"]) == 0
    said = capsys.readouterr().out
    assert "2 seeds: every invariant held" in said
    assert "the same with every seed: virtual_s 840," in said


def test_a_seed_that_breaks_is_named_and_its_tape_is_in_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.netsim.test_cli import CUT_OFF

    (tmp_path / "mine.toml").write_text(CUT_OFF)
    assert main(["run", str(tmp_path / "mine.toml"), "--seeds", "2", "--out", str(tmp_path / "out")]) == 1
    said, told = capsys.readouterr()
    assert "BROKEN" in said
    assert f"Kept: lucid-netsim replay {tmp_path / 'out' / 'seed-2' / 'bootstrap-2.tape'}" in told
    numbers = json.loads((tmp_path / "out" / FILE).read_text())
    assert numbers["broken"] == {"1": "Directories", "2": "Directories"}
    assert len([*(tmp_path / "out").glob("seed-*/*.tape")]) == 2


def test_a_run_without_a_result_fails_the_batch_with_what_it_said() -> None:
    with pytest.raises(SeedFailed, match=r"seed 1 ended with 2: .*no scenario"):
        play(["nothing-like-it"], [1], 1, None, lambda _done, _of: None)
    assert main(["run", "bootstrap", "--seeds", "1", "--option", "what=1"]) in {2, 3}


@pytest.mark.component
def test_ctrl_c_keeps_what_was_finished(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "netsim", "run", "bootstrap", "--nodes", "40", "--seeds", "40", "--jobs", "1"]
    quick = ["--minutes", "14", "--option", "join_s=10", "--option", "messages=10", "--option", "look_ups=10"]
    running = subprocess.Popen(
        [*command, *quick, "--out", str(tmp_path), "--json"], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "seed-3").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGINT)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 3
    numbers = json.loads(out.splitlines()[-1])
    assert numbers["partial"] is True
    assert numbers["seeds"][:2] == [1, 2]
    assert len(numbers["seeds"]) < 40


def runs(*values: float, name: str = "hops", **more: Any) -> dict[str, Any]:
    """A batch of runs with one figure."""
    base = {"scenario": "s", "nodes": 5, "options": {}, "virtual_s": 60.0, "ok": True, "broken": None, "partial": False}
    made = [
        {**base, "seed": seed, name: value, "same": 1, "wall_s": value, **more} for seed, value in enumerate(values)
    ]
    return merged(Batch(tuple(made), partial=False))


def test_a_difference_is_told_from_luck_seed_by_seed() -> None:
    a = runs(*[10.0 + number % 3 for number in range(12)])
    b = runs(*[11.0 + number % 3 for number in range(12)])
    found = versus(a, b)
    rows = {one.name: one for one in found.rows}
    assert (found.paired, found.needed, found.differ) == (True, None, [])
    assert rows["hops"].differs
    assert rows["hops"].ratio == pytest.approx(12 / 11)
    assert rows["same"].chance is None
    assert rows["wall_s"].chance is None  # the machine's
    assert any(line.startswith("  hops") and line.endswith("differs") for line in say(found))


def test_few_seeds_say_how_many_it_takes_and_luck_is_no_difference() -> None:
    found = versus(runs(1.0, 2.0, 3.0), runs(1.5, 2.5, 3.5))
    assert found.needed == 6
    assert "both sides need at least 6" in "\n".join(say(found))
    scattered = versus(runs(*range(12)), runs(*[float(11 - number) for number in range(12)]))
    assert not any(one.differs for one in scattered.rows)


def test_what_was_run_differently_is_told() -> None:
    a, b = runs(1.0), runs(2.0, 3.0, scenario="t", options={"x": 1}, virtual_s=90.0, broken={"check": "C"})
    found = versus(a, b)
    assert found.differ == [
        "scenario: s and t",
        "option x: none and 1",
        "virtual seconds: 60 and 90",
        "seeds: 1 and 2",
        "in B seed 0 broke C",
        "in B seed 1 broke C",
    ]
    assert not found.paired
    assert "seeds are not paired" in say(found)


def test_one_run_is_laid_beside_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    several = runs(1.0, 2.0)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / FILE).write_text(json.dumps(several))
    (tmp_path / "b.json").write_text(json.dumps({**several["runs"][0], "digest": "d"}))
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b.json"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["rows"]["hops"]["a"]["mean"] == 1.5
    assert main(["compare", str(tmp_path / "b.json"), str(tmp_path / "a")]) == 0
    assert "seeds are not paired" in capsys.readouterr().out


def test_figures_are_those_that_all_runs_have_and_counters_that_lack_are_nothing() -> None:
    a = {"seed": 1, "x": 2, "network": {"dials": 3}, "only": 5}
    b = {"seed": 2, "x": 4, "network": {"losses": 1}}
    assert figures([a, b]) == {"x": [2.0, 4.0], "network.dials": [3.0, 0.0], "network.losses": [0.0, 1.0]}
    assert batch.cores() >= 1
