"""Real hosts under virtual time: repeated exactly, sound through crashes, stalls and cuts, and broken by what breaks hosts."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import trio

from netsim.__main__ import main
from netsim.rehearsal import NODES, Rehearsal, Rehearsed, rehearse
from node.net.host import Host
from node.overlay.reconcile import Reconcile
from tests.netsim.test_cli import ROOT

pytestmark = pytest.mark.component


def test_a_rehearsal_is_repeated_exactly_and_other_seeds_are_other_ones() -> None:
    first, again, other = (rehearse(seed, 6, 12) for seed in (3, 3, 4))
    assert first == again
    assert first.digest != other.digest
    assert {"crash", "restart"} <= {*first.troubles} | {*other.troubles}


def test_it_is_the_same_in_another_process_whatever_its_hashes_are() -> None:
    words = [sys.executable, "-m", "netsim", "rehearse", "--nodes", "6", "--minutes", "10", "--json"]
    found = [
        json.loads(
            subprocess.run(
                words, env={**os.environ, "PYTHONHASHSEED": seed}, cwd=ROOT, capture_output=True, check=True
            ).stdout
        )
        for seed in ("1", "2")
    ]
    assert found[0] == found[1]
    assert found[0]["rehearsals"][0]["digest"] == rehearse(1, 6, 10).digest


@pytest.mark.parametrize("seed", range(6))
def test_hosts_come_together_again_whatever_happened(seed: int) -> None:
    told = rehearse(seed, 5 + 3 * seed, 25)
    assert told.complaints == ()
    assert told.written > 20
    assert told.found > told.look_ups / 2
    assert sum(told.troubles.values()) > 10


def test_hosts_that_never_compare_their_directories_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reconcile, "_open", lambda *_: [])
    assert any("different directories" in one for told in _some(4) for one in told.complaints)


def test_a_host_that_takes_its_time_to_stop_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def save(_host: Any) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(9)

    monkeypatch.setattr(Host, "_save", save)
    assert any("to stop" in one for told in _some(1) for one in told.complaints)


def _some(count: int) -> list[Rehearsed]:
    return [rehearse(seed, 6, 12) for seed in range(count)]


def test_ctrl_c_within_groups_of_tasks_is_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(_rehearsal: Rehearsal) -> None:
        raise BaseExceptionGroup("tasks", [BaseExceptionGroup("of tasks", [KeyboardInterrupt()])])

    monkeypatch.setattr(Rehearsal, "run", run)
    assert main(["rehearse"]) == 3
    assert capsys.readouterr().err.startswith("lucid-netsim: interrupted")


def test_the_scheduling_of_everything_else_is_left_as_it_was() -> None:
    running: Any = trio._core._run
    before = running._ALLOW_DETERMINISTIC_SCHEDULING, running._r.getstate()
    rehearse(1, 5, 6)
    assert (running._ALLOW_DETERMINISTIC_SCHEDULING, running._r.getstate()) == before


def test_the_command_plays_several_seeds_and_refuses_what_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rehearse", "--nodes", "5", "--minutes", "6", "--seeds", "2"]) == 0
    said = capsys.readouterr().out
    assert said.count("every invariant held") == 2
    for words in (["--nodes", str(NODES[1] + 1)], ["--nodes", "4"], ["--minutes", "5"]):
        assert main(["rehearse", *words]) == 2
