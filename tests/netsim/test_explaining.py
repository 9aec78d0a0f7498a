"""Every scenario says what it models, what it does not, and what each of its options means."""

import json

import pytest

from netsim.__main__ import main
from netsim.explaining import MODELS, OPTIONS, explained, say
from netsim.scenarios import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda one: one.name)
def test_every_scenario_is_explained_with_all_its_options(scenario: object) -> None:
    told = explained(scenario)  # type: ignore[arg-type]
    assert all(told[part] for part in ("runs", "stands_in", "leaves_out", "checks"))
    lines = [*say(told)]
    assert all(any(line.startswith(f"  {name}") for line in lines) for name in told["options"])


def test_nothing_is_explained_that_is_not_there() -> None:
    assert {*OPTIONS} == {name for one in SCENARIOS.values() for name in one.options}
    assert {*MODELS} == {one.kind for one in SCENARIOS.values()}


def test_the_command_explains_for_people_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "agree-slow"]) == 0
    said = capsys.readouterr().out
    assert "What is left out:" in said
    assert "latency_ms = 5000" in said
    assert main(["explain", "agree-slow", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["options"]["latency_ms"]["default"] == 5000
    assert main(["explain", "nothing"]) == 2
