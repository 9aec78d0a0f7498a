"""Consensus machines in worlds that do their worst: they agree, go on, and expel nobody who is honest."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from netsim import parliament_report
from netsim.__main__ import BROKE, HELD, main
from netsim.checks import judge
from netsim.parliament import HOUR_MS, SITTINGS, AgreementStage, stage
from netsim.scenarios import Unknown, named
from netsim.tape import Recipe

pytestmark = pytest.mark.component


def played(scenario: str, nodes: int, hours: int = 9, seed: int = 1, **options: int) -> AgreementStage:
    usual = {**named(scenario).options, **options}
    made = stage(Recipe(scenario, seed, nodes, hours * HOUR_MS, tuple(sorted(usual.items()))))
    made.broken = judge(made.world, made.world.now + hours * HOUR_MS, made.checks)
    return made


@pytest.mark.parametrize("scenario", SITTINGS)
def test_every_scenario_holds(scenario: str) -> None:
    made = played(scenario, 10, 12 if scenario == "agree-partition" else 9)
    assert made.broken is None, made.broken
    assert made.measures.last is not None


@pytest.mark.parametrize("nodes", [1, 3, 5])
def test_a_few_nodes_of_which_each_is_away_a_fifth_of_the_time_finalise(nodes: int) -> None:
    made = played("agree-churn" if nodes > 1 else "agree-steady", nodes, **({"down": 20} if nodes > 1 else {}))
    assert made.broken is None, made.broken


def test_halves_that_were_apart_and_wrote_on_agree_again_without_a_conflict() -> None:
    made = played("agree-partition", 8, 12, share=50)
    assert made.broken is None, made.broken
    numbers = made.measures.numbers()
    assert numbers["forked"] > 0
    assert numbers["final_hour"] >= 12 - 3


def test_who_signs_twice_is_expelled_and_nobody_else() -> None:
    made = played("agree-equivocate", 10, crooked=30)
    assert made.broken is None, made.broken
    assert made.measures.numbers()["expelled"] == [7, 8, 9]


def test_where_too_many_are_dead_finality_stops_and_the_run_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", "agree-dead", "--nodes", "10", "--seed", "1", "--minutes", "480", "--option", "dead=60", "--json"]
    assert main(words) == BROKE
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["broken"]["check"] == "Finalises"
    assert said["blocks"] > 0
    assert "  nothing became final" in parliament_report.say(said)
    assert [*tmp_path.iterdir()] == [tmp_path / "agree-dead-1.tape"]


def test_nodes_that_are_never_down_are_no_churn() -> None:
    made = played("agree-churn", 4, 5, down=0)
    assert made.broken is None, made.broken
    assert made.world.counts["crashes"] == 0


def test_one_seed_is_one_trace(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "agree-churn", "--nodes", "5", "--minutes", "300", "--json", "--seed"]
    digests = []
    for seed in ("3", "3", "4"):
        assert main([*words, seed]) == HELD
        digests.append(json.loads(capsys.readouterr().out.splitlines()[-1])["digest"])
    assert digests[0] == digests[1] != digests[2]


def test_what_makes_no_world_is_told() -> None:
    with pytest.raises(Unknown, match="an agreement takes 5 hours at least"):
        stage(Recipe("agree-steady", 1, 5, HOUR_MS))
    with pytest.raises(Unknown, match="crooked is 100: per cent, below 100"):
        stage(replace(Recipe("agree-equivocate", 1, 5, 9 * HOUR_MS), options=(("crooked", 100),)))
