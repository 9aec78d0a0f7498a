"""Would the tests notice a mistake in consensus: `python -m tests.mutants [MODULE…] [--jobs N] [--json]`, or `./lucid audit mutants`.

Each mutant is a module with one small mistake put in (`tests.mistakes`). It is killed if a test fails on it, and a mutant that
survives is either a gap in the tests or no mistake at all. Which tests run what is measured once, under coverage, so that a
mutant meets those alone that run its function, or, for what stands outside functions, that run anything of its module: those
of the module's own test file first. Every mutant has a process of its own, forked from one in which the libraries are loaded.

Exit codes: 0 every module is at its floor in pyproject.toml (`tool.lucid.mutants`, percent) or above, 1 one is not, 2 usage.
"""

import argparse
import importlib.abc
import importlib.util
import json
import os
import resource
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final, NamedTuple, NoReturn

from tests.__main__ import BYTECODE, COVERED, ROOT
from tests.mistakes import Mutant, mutants_of, with_mistake

EXAMPLES: Final = "5"
"""Of each law; more of them find hardly more mistakes and take as much longer."""
PATIENCE, GRACE_S = 5, 3.0
"""A test that takes so many times its usual time, and so many seconds besides, hangs."""
MEMORY: Final = 3 << 30
"""Bytes of address space that a mutant gets, for those that collect without end."""
FAILED, USAGE, NO_TESTS = 3, 4, 5
"""Exit codes of pytest that no mutant may end with, but the first, which is a crash."""


class Measured(NamedTuple):
    """What a run of all tests on the module as it is has shown; a test is FILE::FUNCTION, whatever its parameters."""

    seconds: Mapping[str, float]
    """What each test took."""
    ran: Mapping[str, Mapping[int, frozenset[str]]]
    """By file of a module and line, the tests that ran it."""

    def running(self, module: str, function: tuple[int, int] | None) -> set[str]:
        """The tests that ran something of a function, or of the module if none is given."""
        lines = self.ran[module]
        first, last = function or (0, max(lines, default=0))
        return {test for line, tests in lines.items() if first <= line <= last for test in tests}


def stages(module: str, tests: Iterable[str], seconds: Mapping[str, float]) -> list[list[str]]:
    """In what order tests meet a mutant: the module's own test file, then the others, cheap files and cheap tests first."""
    cost: Counter[str] = Counter()
    for test in tests:
        cost[file_of(test)] += round(1e6 * seconds[test])
    ordered = sorted(tests, key=lambda test: (cost[file_of(test)], file_of(test), seconds[test], test))
    own = f"tests/{module.replace('/', '/test_')}"
    parts = [[test for test in ordered if (file_of(test) == own) is first] for first in (True, False)]
    return [part for part in parts if part]


def file_of(test: str) -> str:
    """The file of a test."""
    return test.partition("::")[0]


class _Measuring:
    """A plugin of pytest that notes for each test how long it took and, with coverage, what it ran."""

    def __init__(self, coverage: "object") -> None:
        self.micros: Counter[str] = Counter()
        self._switch: Callable[[str], None] = coverage.switch_context  # type: ignore[attr-defined]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._switch(nodeid.partition("[")[0])
        self._began = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.micros[nodeid.partition("[")[0]] += round(1e6 * (time.monotonic() - self._began))
        self._switch("")


class _Chosen:
    """A plugin of pytest that runs the given tests alone, in their order, each for a limited time."""

    def __init__(self, tests: Sequence[str], seconds: Mapping[str, float]) -> None:
        self._order = {test: number for number, test in enumerate(tests)}
        self._seconds = seconds

    def pytest_collection_modifyitems(self, items: list["object"]) -> None:
        kept = [item for item in items if self._name(item) in self._order]
        items[:] = sorted(kept, key=lambda item: self._order[self._name(item)])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        # The signal's own action ends the process, in the midst of a long multiplication as well.
        signal.setitimer(signal.ITIMER_REAL, GRACE_S + PATIENCE * self._seconds[nodeid.partition("[")[0]])

    @staticmethod
    def _name(item: "object") -> str:
        return str(item.nodeid).partition("[")[0]  # type: ignore[attr-defined]


class _Quick:
    """A plugin of pytest that lets laws stop at their first counterexample, and try the same examples each time."""

    @staticmethod
    def pytest_sessionstart() -> None:
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile(
            "mutants", settings.get_profile("lucid"), phases=phases, derandomize=True, report_multiple_bugs=False
        )
        settings.load_profile("mutants")


class _Mistaken(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from code that is given."""

    def __init__(self, name: str, code: CodeType) -> None:
        self._name, self._code = name, code

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)


def pytest_run(files: Iterable[str], *plugins: object) -> int:
    """What pytest ends with on files of tests, stopping at the first failure."""
    import pytest

    options = ["-x", "-q", "--tb=no", "--no-header", "--assert=plain", "-m", "not system", "-o", "timeout=0"]
    return int(pytest.main([*options, *files], [_Quick, *plugins]))


def fork(work: Callable[[], int]) -> int:
    """The process id of a child that does the work silently, with none of our modules loaded, and ends with its result."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        _work(work)
    return child


def _work(work: Callable[[], int]) -> NoReturn:
    code = FAILED
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        for name in [
            name for name in sys.modules if name.partition(".")[0] in {"consensus", "pipeline", "node", "netsim"}
        ]:
            del sys.modules[name]
        for name in [name for name in sys.modules if name.startswith("tests.") or name == "tests.conftest"]:
            del sys.modules[name]
        code = work()
    finally:
        os._exit(code)


def measure(modules: Sequence[str]) -> Measured:
    """Runs the tests that consensus is covered by, once; a ValueError if they fail on the modules as they are."""
    with tempfile.TemporaryDirectory(prefix="lucid-mutants-") as folder:
        report = Path(folder, "report.json")
        _, status = os.waitpid(fork(lambda: _measure(modules, report)), 0)
        if status:
            raise ValueError("the tests fail without any mutant: run ./lucid test unit first")
        found = json.loads(report.read_text())
    ran = {
        module: {int(line): frozenset(tests) for line, tests in lines.items()} for module, lines in found["ran"].items()
    }
    return Measured(found["seconds"], ran)


def _measure(modules: Sequence[str], report: Path) -> int:
    from coverage import Coverage

    coverage = Coverage(data_file=None, include=[str(ROOT / module) for module in modules], config_file=False)
    noted = _Measuring(coverage)
    coverage.start()
    code = pytest_run(COVERED, noted)
    coverage.stop()
    data = coverage.get_data()
    ran = {
        module: {
            line: [test for test in tests if test]
            for line, tests in data.contexts_by_lineno(str(ROOT / module)).items()
        }
        for module in modules
    }
    report.write_text(json.dumps({"seconds": {test: n / 1e6 for test, n in noted.micros.items()}, "ran": ran}))
    return code


def attempt(module: str, code: CodeType, tests: Sequence[str], seconds: Mapping[str, float]) -> int:
    """Runs tests on a mutant, in this process, which is spent after that; what pytest ended with."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 10 * GRACE_S)  # to import everything
    sys.meta_path.insert(0, _Mistaken(module.removesuffix(".py").replace("/", "."), code))
    files = dict.fromkeys(file_of(test) for test in tests)
    return pytest_run(files, _Chosen(tests, seconds))


@dataclass(slots=True)
class Tally:
    """What became of a module's mutants."""

    module: str
    floor: float
    mutants: int = 0
    killed: int = 0
    timed_out: int = 0
    survivors: list[Mutant] = field(default_factory=list)

    @property
    def score(self) -> float:
        """Percent that were killed or, which the tests would notice as well, did not end."""
        return 100 * (self.killed + self.timed_out) / self.mutants if self.mutants else 100.0


def judge(tally: Tally, measured: Measured, jobs: int) -> None:
    """Tries all mutants of a module, some at a time, with progress on stderr."""
    text = (ROOT / tally.module).read_text()
    waiting = deque(
        (mutant, stages(tally.module, measured.running(tally.module, mutant.function), measured.seconds))
        for mutant in mutants_of(text)
    )
    control(tally.module, text, measured)
    tally.mutants, begun, said = len(waiting), time.monotonic(), 0.0
    running: dict[int, tuple[Mutant, list[list[str]]]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant, left = waiting.popleft()
            if not left:
                tally.survivors.append(mutant)
                continue
            code = compile(with_mistake(text, mutant), tally.module, "exec")
            tests = left[0]
            child = fork(lambda code=code, tests=tests: attempt(tally.module, code, tests, measured.seconds))  # type: ignore[misc]
            running[child] = (mutant, left[1:])
        if not running:
            break
        child, status = os.wait()
        mutant, left = running.pop(child)
        outcome = os.waitstatus_to_exitcode(status)
        if outcome in {USAGE, NO_TESTS}:
            raise ValueError(f"pytest ran no test on line {mutant.line}: {mutant.original} → {mutant.mutated}")
        if outcome == 0:
            waiting.appendleft((mutant, left))
        elif outcome == -signal.SIGALRM:
            tally.timed_out += 1
        else:
            tally.killed += 1
        if time.monotonic() - said > 5:
            said = time.monotonic()
            say(progress(tally, said - begun))


def control(module: str, text: str, measured: Measured) -> None:
    """A ValueError unless the module as it is survives: else what kills the mutants would be the way they are tried."""
    code = compile(text, module, "exec")
    for tests in stages(module, measured.running(module, None), measured.seconds):
        _, status = os.waitpid(fork(lambda tests=tests: attempt(module, code, tests, measured.seconds)), 0)  # type: ignore[misc]
        if status:
            raise ValueError(f"{module} without a mistake was killed: {os.waitstatus_to_exitcode(status)}")


def progress(tally: Tally, seconds: float) -> str:
    """One line: how far, how fast, and how long yet."""
    done = tally.killed + tally.timed_out + len(tally.survivors)
    rate = done / seconds if seconds else 0.0
    left = f"{(tally.mutants - done) / rate:.0f} s left" if rate else "just begun"
    return f"{tally.module}: {done} of {tally.mutants}, {len(tally.survivors)} survived, {rate:.1f} a second, {left}"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def told(tally: Tally) -> str:
    """The survivors, a line each, and the figures of a module."""
    lines = [f"{tally.module}:{one.line}: {one.original} → {one.mutated}" for one in tally.survivors]
    figures = f"{tally.killed} killed, {len(tally.survivors)} survived, {tally.timed_out} timed out"
    verdict = "" if tally.score >= tally.floor else f", BELOW ITS FLOOR of {tally.floor} %"
    return "\n".join([*lines, f"{tally.module}: {tally.mutants} mutants, {figures}: {tally.score:.1f} %{verdict}"])


def as_json(tallies: Iterable[Tally]) -> str:
    """The same as one object."""
    modules: dict[str, object] = defaultdict(dict)
    for tally in tallies:
        survivors = [{"line": one.line, "original": one.original, "mutated": one.mutated} for one in tally.survivors]
        modules[tally.module] = {
            "mutants": tally.mutants,
            "killed": tally.killed,
            "survived": len(survivors),
            "timed_out": tally.timed_out,
            "score_percent": round(tally.score, 1),
            "floor_percent": tally.floor,
            "survivors": survivors,
        }
    return json.dumps({"modules": modules})


def floors() -> dict[str, float]:
    """By module's name, percent of the mutants that have to be killed."""
    table: dict[str, float] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["lucid"]["mutants"]
    return table


def main(arguments: Sequence[str]) -> int:
    """Tries the mutants of the modules that are named, or of all that have a floor."""
    known = floors()
    parser = argparse.ArgumentParser(prog="./lucid audit mutants", description="Would the tests notice a mistake?")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(known)}; all if none is named")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (2)")
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    chosen = parser.parse_args(arguments)
    for name in chosen.modules:
        if name not in known:
            parser.error(f"{name} has no floor in pyproject.toml; there are {', '.join(known)}")
    names = chosen.modules or [*known]
    os.chdir(ROOT)
    os.environ["LUCID_EXAMPLES"] = EXAMPLES
    sys.pycache_prefix = str(BYTECODE)
    tallies = [Tally(f"consensus/{name}.py", known[name]) for name in names]
    say("loading, and measuring which tests run what")
    warm()
    measured = measure([tally.module for tally in tallies])
    for tally in tallies:
        judge(tally, measured, max(1, chosen.jobs))
        if not chosen.json:
            print(told(tally), flush=True)
    if chosen.json:
        print(as_json(tallies))
    return 1 if any(tally.score < tally.floor for tally in tallies) else 0


def warm() -> None:
    """Loads what every trial needs into this process: pytest, its plugins and the libraries under consensus."""
    kept = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        pytest_run(["tests/consensus/test_state.py", "--collect-only"])
    finally:
        sys.stdout.flush()
        for descriptor, copied in enumerate(kept, 1):
            os.dup2(copied, descriptor)
            os.close(copied)
        os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
