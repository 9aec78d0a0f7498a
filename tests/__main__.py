"""Runs the tiers of the tests in order and says what each did: `python -m tests [unit|component|system|all] [pytest arguments]`.

A tier that fails, or that ran nothing, fails the whole; a tier over its time only says so, loudly. The last line is alone on
its line and gives the totals: `N passed, N failed, N skipped`.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

ROOT: Final = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Tier:
    """Some of the tests, chosen by their marks, the seconds that they should take at most on two cores, and how they spread."""

    name: str
    marks: str
    limit_s: int
    spread: tuple[str, ...]
    """How pytest-xdist shares them out: a file of tests that wait for processes stays together, with what it started."""


TIERS: Final = (
    Tier("unit", "not component and not system", 60, ("-n2", "--dist=worksteal")),
    Tier("component", "component and not system", 360, ("-n3", "--dist=loadfile")),
    Tier("system", "system", 480, ("-n3", "--dist=loadfile")),
)


COVERED: Final = ("tests/consensus", "tests/vectors")
"""What reaches every branch of consensus: the component tier runs all of it again, under coverage, which makes Python three times
as slow, and with few examples of each law."""
COVERED_EXAMPLES: Final = "10"
BYTECODE: Final = ROOT / ".run" / "bytecode"
PYTEST: Final = [sys.executable, "-m", "pytest"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many tests passed, failed and were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def counts(report: Path) -> Outcome:
    """The outcomes in a JUnit report by pytest, an error in a fixture being a failure of its test.

    A report that is absent or cut off, as after a crash of the interpreter, is one failure.
    """
    try:
        cases = list(ET.parse(report).iter("testcase"))
    except (FileNotFoundError, ET.ParseError):
        return Outcome(failed=1)
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    skipped = sum(case.find("skipped") is not None for case in cases)
    return Outcome(len(cases) - failed - skipped, failed, skipped)


def total(outcomes: Iterable[Outcome]) -> Outcome:
    """The sum of the outcomes."""
    rows = list(outcomes)
    return Outcome(sum(o.passed for o in rows), sum(o.failed for o in rows), sum(o.skipped for o in rows))


def run(tier: Tier, arguments: Sequence[str]) -> Outcome:
    """Runs one tier and prints what it did; consensus has to be covered to the last branch by the whole component tier.

    A whole tier is spread over processes; chosen tests run in one, so that pytest's --pdb and -s do what they should.
    In the whole component tier COVERED runs under coverage beside all the rest.
    """
    say(f"== {tier.name} tier, limit {tier.limit_s} s")
    covering = tier.name == "component" and not arguments
    if tier.name == "component" and arguments:
        say("== the coverage of consensus is not measured, since arguments for pytest were given")
    with tempfile.TemporaryDirectory(prefix="lucid-tests-") as folder:
        data = Path(folder, "coverage")
        coverage = [sys.executable, "-m", "coverage"]
        start = time.monotonic()
        parts = [Part(PYTEST, tier.marks, list(arguments or tier.spread))]
        if covering:
            traced = [*coverage, "run", f"--data-file={data}", "-m", "pytest"]
            parts[0].chosen.extend(["tests", *(f"--ignore={name}" for name in COVERED)])
            parts.append(Part(traced, "not system", list(COVERED), {"LUCID_EXAMPLES": COVERED_EXAMPLES}))
        reports = [Path(folder, f"report-{number}.xml") for number in range(len(parts))]
        running = [part.begin(report) for part, report in zip(parts, reports, strict=True)]
        codes = [process.wait() for process in running]
        seconds = time.monotonic() - start
        outcomes = [counts(report) for report in reports]
        for code, outcome in zip(codes, list(outcomes), strict=True):
            if code not in {0, 5} and not outcome.failed:  # stopped outside its tests: the report knows no failure
                outcomes.append(Outcome(failed=1))
        whole = total(outcomes)
        if covering and not whole.failed and whole.passed:
            floor = execute([*coverage, "report", f"--data-file={data}", "--include=consensus/*", "--fail-under=100"])
            if floor:
                say("== the component tier has to cover every branch of consensus, and does not: see the lines above")
                whole = total([whole, Outcome(failed=1)])
    say(f"== {tier.name} tier: {whole} in {seconds:.1f} s")
    if seconds > tier.limit_s:
        say(f"!! WARNING: the {tier.name} tier took {seconds:.0f} s, over its limit of {tier.limit_s} s")
    return whole


@dataclass(frozen=True, slots=True)
class Part:
    """One process of pytest: its command, the marks and the files that it chooses, and what its environment has besides."""

    command: list[str]
    marks: str
    chosen: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def begin(self, report: Path) -> "subprocess.Popen[bytes]":
        """Starts it; what became of its tests will be in the report."""
        options = ["-q", "-rs", "-m", self.marks, f"--junit-xml={report}", "-o", "junit_logging=no"]
        return begin([*self.command, *options, *self.chosen], self.environment)


def begin(
    command: Sequence[str], more: Mapping[str, str] | None = None, stdout: int | None = None
) -> "subprocess.Popen[bytes]":
    everything = environment() | dict(more or {})
    return subprocess.Popen(command, cwd=ROOT, env=everything, stdin=subprocess.DEVNULL, stdout=stdout)


def environment() -> dict[str, str]:
    # A test that forgets to name a home must not find the user's.
    kept = {name: value for name, value in os.environ.items() if name not in {"LUCID_HOME", "PYTHONDONTWRITEBYTECODE"}}
    return kept | {"PYTHONPYCACHEPREFIX": str(BYTECODE)}


def execute(command: Sequence[str]) -> int:
    return begin(command).wait()


def compile_tests() -> None:
    """Lets pytest compile all tests where that was never done, so that the processes of a tier do not each do it again."""
    if BYTECODE.exists():
        return
    start = time.monotonic()
    halves = (["tests/node"], ["tests", "--ignore=tests/node"])
    running = [begin([*PYTEST, "--collect-only", "-q", *half], stdout=subprocess.DEVNULL) for half in halves]
    for process in running:
        process.wait()  # what cannot be collected is told by the tier that needs it
    say(f"== compiled the tests in {time.monotonic() - start:.1f} s")


def verdict(ran: Sequence[tuple[Tier, Outcome]], *, selected: bool) -> list[str]:
    """Why the whole has failed, a sentence each; empty when it has not.

    Without a selection by pytest arguments each tier has to have run a test; with one, any of them.
    """
    wrong = [f"{tier.name}: {outcome.failed} failed" for tier, outcome in ran if outcome.failed]
    idle = [tier.name for tier, outcome in ran if not outcome.passed + outcome.failed]
    if len(idle) == len(ran) or not selected:
        wrong += [f"{name}: ran no test" for name in idle]
    return wrong


def say(line: str) -> None:
    print(line, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Runs what the arguments ask for; exit code 0 when all is well, else 1, or 130 when interrupted."""
    names = [tier.name for tier in TIERS]
    chosen, rest = "all", list(arguments)
    if rest and rest[0] in {*names, "all"}:
        chosen = rest.pop(0)
    if not rest:
        compile_tests()
    try:
        ran = [(tier, run(tier, rest)) for tier in TIERS if chosen in {tier.name, "all"}]
    except KeyboardInterrupt:
        return 130
    wrong = verdict(ran, selected=bool(rest))
    for sentence in wrong:
        say(f"!! {sentence}")
    say(str(total(outcome for _, outcome in ran)))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
