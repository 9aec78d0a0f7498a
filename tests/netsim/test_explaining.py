"""Every scenario says what it models, what it does not, and what each of its options means."""

import json
import re
from pathlib import Path

import pytest

from netsim.__main__ import main
from netsim.explaining import MEANS_IN, MODELS, OPTIONS, WITHOUT_FAULTS, example, explained, say
from netsim.faults import KINDS, Plan
from netsim.scenarios import SCENARIOS, Scenario, from_file, named, recipe


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda one: one.name)
def test_every_scenario_is_explained_with_all_its_options(scenario: Scenario) -> None:
    told = explained(scenario)
    assert all(told[part] for part in ("runs", "stands_in", "leaves_out", "checks"))
    lines = [*say(told)]
    assert all(any(line.startswith(f"  {name}") for line in lines) for name in told["options"])


def test_nothing_is_explained_that_is_not_there() -> None:
    of_kinds = {(one.kind, name) for one in SCENARIOS.values() for name in one.options}
    assert {*OPTIONS} <= {name for _, name in of_kinds}
    assert {(kind, name) for kind, names in MEANS_IN.items() for name in names} <= of_kinds
    assert {*MODELS} >= WITHOUT_FAULTS
    assert {*MODELS} == {one.kind for one in SCENARIOS.values()}


def test_the_command_explains_for_people_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "agree-slow"]) == 0
    said = capsys.readouterr().out
    assert "What is left out:" in said
    assert "latency_ms = 5000" in said
    assert main(["explain", "agree-slow", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["options"]["latency_ms"]["default"] == 5000
    assert main(["explain", "nothing"]) == 2


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda one: one.name)
def test_an_example_is_the_scenario_itself_and_its_faults_can_be_switched_on(
    scenario: Scenario, tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(example(scenario))
    base, table, plan = from_file(file)
    assert (base, plan) == (scenario, Plan())
    given = {key: str(value) for key, value in table["options"].items()}
    made = recipe(base, table["nodes"], table["seed"], table["minutes"], given, plan)
    assert made == recipe(scenario, 100, 1, None, {}, Plan())
    file.write_text(re.sub(r"^# (\[\[|\w+ = )", r"\1", example(scenario), flags=re.MULTILINE))
    kinds = [type(fault) for fault in from_file(file)[2].faults]
    assert kinds == ([] if scenario.kind in WITHOUT_FAULTS else [*KINDS.values()])


@pytest.mark.parametrize("kind", sorted(WITHOUT_FAULTS))
def test_a_kind_without_faults_refuses_them(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = next(one.name for one in SCENARIOS.values() if one.kind == kind)
    (tmp_path / "mine.toml").write_text(f'base = "{name}"\n[[faults.crash]]\nnode = 1\nat = 60000\n')
    assert main(["run", str(tmp_path / "mine.toml")]) == 2
    assert "faults" in capsys.readouterr().err
    assert main(["run", name, "--example"]) == 0
    assert capsys.readouterr().out == example(named(name))
