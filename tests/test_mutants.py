"""The mistakes that are put into a module, and what is made of the tests' answers."""

import ast
import json
import subprocess
import sys

import pytest

from tests import mutants
from tests.__main__ import ROOT
from tests.mistakes import Mutant, mutants_of, with_mistake
from tests.mutants import Tally, as_json, floors, progress, stages, told


def mistakes(text: str) -> set[str]:
    """How the mutants of a text read, on one line each."""
    return {mutant.mutated for mutant in mutants_of(text)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a < b", {"a <= b", "a >= b"}),
        ("a <= b", {"a < b", "a > b"}),
        ("a > b >= c", {"a >= b >= c", "a <= b >= c", "a > b > c", "a > b < c"}),
        ("a == b", {"a != b"}),
        ("a is not b", {"a is b"}),
        ("a not in b", {"a in b"}),
        ("a + b", {"a - b"}),
        ("a // b", {"a * b"}),
        ("a << b", {"a >> b"}),
        ("-a", {"a"}),
        ("not a", {"a"}),
        ("X = 7", {"X = 8", "X = 6"}),
        ("X = True", {"X = False"}),
        ("X = 'a'", {"X = 'ax'"}),
        ("X = b'a'", {"X = b'ax'"}),
        ("X = None", set()),
        ("a and b and c", {"a or b or c", "b and c", "a and c", "a and b"}),
        ("a or b", {"a and b", "a", "b"}),
        ("x if a else y", {"x if not a else y"}),
        ("[x for x in y if a]", {"[x for x in y if not a]"}),
        ("min(a, b)", {"max(a, b)"}),
        ("sorted(a, key=b)", {"list(a)"}),
        ("a[b:c]", {"a[:c]", "a[b:]"}),
    ],
)
def test_each_kind_of_mistake_is_made(text: str, expected: set[str]) -> None:
    assert mistakes(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        '"""A module."""',
        "def f(): 'It does.'",
        "x: int | None",
        "def f(x: 'A') -> 'B': pass",
        "@cache(9)\nclass A: pass",
    ],
)
def test_what_no_test_can_be_asked_to_notice_is_left_alone(text: str) -> None:
    assert mistakes(text) == set()


def test_the_sentence_of_an_error_is_left_alone_and_the_limit_of_a_field_is_not() -> None:
    assert mistakes("def f():\n    raise E('no ' + name)") == {"E('no ' - name)", "pass"}
    assert mistakes("x: Annotated[bytes, Size(32)]") == {
        "x: Annotated[bytes, Size(33)]",
        "x: Annotated[bytes, Size(31)]",
    }


def test_a_statement_is_left_out_unless_a_name_would_be_missing() -> None:
    text = """
def f(a):
    b = g(a)
    a = b
    h(a)
    if a:
        a += b
    return a
"""
    left_out = [mutant.original for mutant in mutants_of(text) if mutant.mutated == "pass"]
    assert left_out == ["a = b", "h(a)", "if a:", "a += b"]
    assert "return None" in mistakes(text)
    assert "not a" in mistakes(text)


def test_a_mutant_is_the_module_with_one_mistake_in_it() -> None:
    text = "X = 1\n\ndef f(a):\n    return a + X\n"
    whole = ast.unparse(ast.parse(text))
    found = mutants_of(text)
    assert [(mutant.line, mutant.function) for mutant in found] == [(1, None)] * 2 + [(4, (3, 4))] * 2
    made = [ast.unparse(with_mistake(text, mutant)) for mutant in found]
    assert len({whole, *made}) == 5
    for mutant, changed in zip(found, made, strict=True):
        assert whole.replace(mutant.original, mutant.mutated) == changed
    assert mutants_of(text) is not found
    assert [ast.unparse(with_mistake(text, mutant)) for mutant in found] == made, "the mutants are not used up"


@pytest.mark.parametrize("name", floors())
def test_every_mutant_of_the_modules_compiles_and_differs(name: str) -> None:
    text = (ROOT / "consensus" / f"{name}.py").read_text()
    found = mutants_of(text)
    assert len(found) > 50
    changed = [with_mistake(text, mutant) for mutant in found[::5]]
    assert len({ast.unparse(ast.parse(text)), *map(ast.unparse, changed)}) == 1 + len(changed)
    for tree in changed:
        compile(tree, name, "exec")


def test_the_tests_of_the_module_itself_come_first_and_then_the_cheap_ones() -> None:
    own = ["tests/consensus/test_forks.py::slow", "tests/consensus/test_forks.py::quick"]
    others = ["tests/a.py::x", "tests/a.py::y", "tests/b.py::z"]
    seconds = dict(zip([*own, *others], (3.0, 0.1, 2.0, 1.0, 2.5), strict=True))
    assert stages("consensus/forks.py", [*others, *own], seconds) == [own[::-1], [others[2], others[1], others[0]]]
    assert stages("consensus/forks.py", others[:1], seconds) == [others[:1]]
    assert stages("consensus/forks.py", [], seconds) == []


SURVIVOR = Mutant(4, "a < b", "a <= b", (), ast.Pass(), None)


def test_the_verdict_of_a_module_counts_what_hangs_as_noticed() -> None:
    tally = Tally("consensus/forks.py", 75.0, mutants=4, killed=2, timed_out=1, survivors=[SURVIVOR])
    assert tally.score == 75
    assert told(tally) == (
        "consensus/forks.py:4: a < b → a <= b\nconsensus/forks.py: 4 mutants, 2 killed, 1 survived, 1 timed out: 75.0 %"
    )
    assert json.loads(as_json([tally]))["modules"]["consensus/forks.py"] == {
        "mutants": 4,
        "killed": 2,
        "survived": 1,
        "timed_out": 1,
        "score_percent": 75.0,
        "floor_percent": 75.0,
        "survivors": [{"line": 4, "original": "a < b", "mutated": "a <= b"}],
    }
    tally.floor = 76.0
    assert told(tally).endswith("BELOW ITS FLOOR of 76.0 %")


def test_progress_tells_the_rate_and_what_is_left() -> None:
    tally = Tally("m", 0.0, mutants=10, killed=3, survivors=[SURVIVOR])
    assert progress(tally, 2.0) == "m: 4 of 10, 1 survived, 2.0 a second, 3 s left"
    assert progress(Tally("m", 0.0, mutants=10), 2.0).endswith("just begun")


def test_a_module_without_a_floor_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        mutants.main(["nonsense"])
    assert refused.value.code == 2
    assert "nonsense has no floor" in capsys.readouterr().err


TRIAL = """
from tests.mutants import *
from tests.mutants import fork, attempt, warm
import ast, os, sys
os.chdir(ROOT)
text = (ROOT / "consensus/reward.py").read_text()
tests = ["tests/consensus/test_reward.py::test_rewards_by_hand"]
warm()
for old, new in (("", ""), ("minted // HALVING", "minted // HALVING + 1"), ("return minted // HALVING", "while True: pass")):
    code = compile(text.replace(old, new) if old else text, "reward", "exec")
    child = fork(lambda: attempt("consensus/reward.py", code, tests, {tests[0]: -0.5}))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.component
def test_a_mutant_is_survived_killed_or_does_not_end() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", TRIAL], cwd=ROOT, check=True, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["0", "1", "-14"]
