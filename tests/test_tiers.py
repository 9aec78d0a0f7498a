"""The runner of the tiers: what it counts, and when it says no."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.__main__ import ROOT, TIERS, Outcome, counts, total, verdict

FINE, BAD, SKIPPED, IDLE = Outcome(passed=3), Outcome(passed=3, failed=1), Outcome(skipped=2), Outcome()


def test_a_report_that_is_absent_or_cut_off_is_a_failure(tmp_path: Path) -> None:
    cut = tmp_path / "cut.xml"
    cut.write_text('<testsuites><testsuite tests="5"><testcase name="a">')
    assert counts(cut) == counts(tmp_path / "absent.xml") == Outcome(failed=1)


def test_the_total_is_the_sum_of_each_count() -> None:
    assert total([BAD, SKIPPED, FINE]) == Outcome(passed=6, failed=1, skipped=2)
    assert str(total([])) == "0 passed, 0 failed, 0 skipped"


@pytest.mark.parametrize(
    ("outcomes", "selected", "sentences"),
    [
        ([FINE, FINE, FINE], False, []),
        ([FINE, BAD, FINE], False, ["component: 1 failed"]),
        ([FINE, FINE, IDLE], False, ["system: ran no test"]),
        ([FINE, SKIPPED, FINE], False, ["component: ran no test"]),
        ([FINE, IDLE, IDLE], True, []),
        ([BAD, IDLE, IDLE], True, ["unit: 1 failed"]),
        ([IDLE, IDLE, SKIPPED], True, ["unit: ran no test", "component: ran no test", "system: ran no test"]),
    ],
)
def test_a_failure_or_an_idle_tier_fails_the_whole(
    outcomes: list[Outcome], selected: bool, sentences: list[str]
) -> None:
    assert verdict(list(zip(TIERS, outcomes, strict=True)), selected=selected) == sentences


SUITE = """
import os
import pytest

@pytest.fixture
def broken():
    raise ValueError

def test_passes(): assert "LUCID_HOME" not in os.environ
def test_fails(): assert False
def test_errs(broken): pass
@pytest.mark.skip(reason="because it may")
def test_is_skipped(): pass
@pytest.mark.component
def test_of_another_tier(): pass
"""


@pytest.mark.component
def test_it_counts_what_pytest_did_and_closes_with_the_totals(tmp_path: Path) -> None:
    suite = tmp_path / "test_suite.py"
    suite.write_text(SUITE)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "tests", *arguments, f"--rootdir={tmp_path}", str(suite)]
        return subprocess.run(
            command, cwd=ROOT, env=os.environ | {"LUCID_HOME": "/mine"}, check=False, capture_output=True, text=True
        )

    unit = run("unit")
    assert unit.returncode == 1
    assert unit.stdout.splitlines()[-1] == "1 passed, 2 failed, 1 skipped"
    assert "because it may" in unit.stdout
    everything = run("-k", "passes or another")
    assert everything.returncode == 0
    assert everything.stdout.splitlines()[-1] == "2 passed, 0 failed, 0 skipped"
    assert re.findall(r"^== (\w+) tier,", everything.stdout, flags=re.MULTILINE) == ["unit", "component", "system"]
    unusable = run("unit", "--no-such-option")
    assert unusable.returncode == 1
    assert unusable.stdout.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"
