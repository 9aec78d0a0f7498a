"""Two runs side by side: every number of either, ratios that mean something, and what was run differently."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsim.__main__ import main
from netsim.comparison import NoResult, Pair, compare, read, say
from netsim.versus import versus

A: dict[str, Any] = {
    "scenario": "bootstrap",
    "seed": 7,
    "nodes": 100,
    "options": {"messages": 60, "join_s": 60},
    "virtual_s": 3600.0,
    "partial": False,
    "ok": True,
    "broken": None,
    "digest": "aa",
    "events": 1000,
    "delivery_ms": {"p50": 300, "p99": None},
    "network": {"dials": 4},
}


def test_faults_of_one_side_alone_are_a_difference() -> None:
    cut, freeze = "cut: at = 100000", "freeze: at = 5"
    assert compare(A | {"faults": [cut]}, A | {"faults": [cut, freeze]}).differ == [f"fault in B alone: {freeze}"]
    assert compare(A | {"faults": [cut]}, A).differ == [f"fault in A alone: {cut}"]
    assert compare(A | {"faults": [cut]}, A | {"faults": [cut]}).differ == []
    assert compare(A | {"faults": [cut, cut]}, A | {"faults": [cut]}).differ == [f"fault in A alone: {cut}"]
    assert compare(A | {"faults": [cut, freeze]}, A | {"faults": [freeze, cut]}).differ == ["the order of the faults"]
    assert versus(A | {"faults": [cut]}, A | {"faults": [freeze]}).differ == [
        f"fault in A alone: {cut}",
        f"fault in B alone: {freeze}",
    ]


def test_the_same_run_twice_differs_in_nothing() -> None:
    compared = compare(A, A)
    assert (compared.differ, compared.same_trace) == ([], True)
    assert compared.figures == [
        Pair("virtual_s", 3600.0, 3600.0),
        Pair("events", 1000, 1000),
        Pair("delivery_ms.p50", 300, 300),
        Pair("network.dials", 4, 4),
    ]
    assert [one.ratio for one in compared.figures] == [1.0] * 4
    assert say(compared)[:2] == ["the same recipe", "one trace"]


def test_figures_of_one_side_are_absent_on_the_other_and_counters_are_nothing() -> None:
    b = {**A, "digest": "bb", "events": 1500, "delivery_ms": {"p50": None, "p99": 9}, "network": {"restarts": 2}}
    b["cpu_s"] = 2.5
    figures = compare(A, b).figures
    assert [(one, one.ratio) for one in figures] == [
        (Pair("virtual_s", 3600.0, 3600.0), 1.0),
        (Pair("events", 1000, 1500), 1.5),
        (Pair("delivery_ms.p50", 300, None), None),
        (Pair("network.dials", 4, 0), 0.0),
        (Pair("delivery_ms.p99", None, 9), None),
        (Pair("network.restarts", 0, 2), None),
        (Pair("cpu_s", None, 2.5), None),
    ]


def test_what_was_run_differently_is_said() -> None:
    broken = {"check": "LookUps", "sentence": "…", "now": 1, "node": -1}
    other: dict[str, Any] = {
        "scenario": "churn",
        "nodes": 50,
        "options": {"messages": 10, "rate": 20},
        "virtual_s": 60.5,
        "partial": True,
        "broken": broken,
    }
    assert compare(A, A | other).differ == [
        "scenario: bootstrap and churn",
        "nodes: 100 and 50",
        "option messages: 60 and 10",
        "option join_s: 60 and none",
        "option rate: none and 20",
        "virtual seconds: 3600 and 60.5",
        "B was interrupted",
        "in B LookUps broke",
    ]


@given(st.dictionaries(st.text(max_size=8), st.integers(-(10**9), 10**9) | st.floats(allow_nan=False)))
def test_swapping_the_sides_swaps_the_figures(numbers: dict[str, float]) -> None:
    b = {**A, "facts": numbers}
    forth, back = compare(A, b).figures, compare(b, A).figures
    assert {(one.name, one.a, one.b) for one in forth} == {(one.name, one.b, one.a) for one in back}
    assert {one.name for one in forth} >= {f"facts.{name}" for name in numbers}
    assert len(say(compare(A, b))) == 3 + len(forth)


@pytest.mark.parametrize("text", ["[]", "{}", '{"scenario": "bootstrap", "seed": 1}', "no JSON", "\x00"])
def test_what_is_no_result_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(NoResult, match=r"result\.json is not"):
        read(tmp_path)


def test_the_command_takes_folders_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "result.json").write_text(json.dumps(A))
    (tmp_path / "b.json").write_text(json.dumps({**A, "seed": 8, "digest": "bb", "events": 500}))
    assert main(["compare", str(tmp_path), str(tmp_path / "b.json"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["differ"], said["same_trace"]) == (["seed: 7 and 8"], False)
    assert said["figures"]["events"] == {"a": 1000, "b": 500, "ratio": 0.5}
    (tmp_path / "c.json").write_text(json.dumps({**A, "scenario": "gossip-cold-boot"}))
    (tmp_path / "d.json").write_text(json.dumps({**A, "scenario": "churn"}))
    assert main(["compare", str(tmp_path), str(tmp_path / "c.json")]) == 2
    assert "bootstrap is of kind overlay and gossip-cold-boot of kind siege" in capsys.readouterr().err
    assert main(["compare", str(tmp_path), str(tmp_path / "d.json")]) == 0
    capsys.readouterr()
    assert main(["compare", str(tmp_path), str(tmp_path / "b.json")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("differs: seed: 7 and 8\ndifferent traces\n")
    assert any(line.split() == ["events", "1,000", "500", "0.500"] for line in out.splitlines())
