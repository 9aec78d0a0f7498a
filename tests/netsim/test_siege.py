"""The published attacks on gossip: each is what it says it is, nothing is lost, and what breaks the router is found."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netsim import siege, siege_report
from netsim.__main__ import main
from netsim.faults import Plan
from netsim.scenarios import SCENARIOS, Unknown, named, recipe
from netsim.siege import ATTACKS, DIALS, THIN, Router, SiegeStage, Sybil, stage
from netsim.tape import Recipe
from node.overlay.lazy import LazyPush
from node.overlay.topics import GossipLimits

pytestmark = pytest.mark.component
NODES = 12
FLOODED: tuple[tuple[tuple[str], dict[str, Any]], ...] = (
    (("gossip-calm",), {}),
    (("gossip-calm",), {"flood": 1}),
    (("gossip-cold-boot",), {"flood": 1, "sybils": 100}),
)


def made(name: str, nodes: int = NODES, seed: int = 1, **options: Any) -> Recipe:
    scenario = named(name)
    small = {"rate": "60", **{key: str(value) for key, value in options.items()}}
    return recipe(scenario, nodes, seed, None, small, Plan())


def played(what: Recipe) -> SiegeStage:
    from netsim.checks import judge

    found = stage(what)
    found.broken = judge(found.world, found.world.now + what.duration_ms, found.checks)
    return found


def test_there_are_twelve_set_ups_and_each_is_a_scenario() -> None:
    assert len(ATTACKS) == 12
    assert {one.name for one in SCENARIOS.values() if one.kind == "siege"} == {*ATTACKS}
    assert {*siege_report.PUBLISHED} <= {*ATTACKS}
    assert GossipLimits().degree_low == THIN


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_lost_under_any_of_the_published_attacks(name: str) -> None:
    found = played(made(name, sybils=0 if name == "gossip-calm" else 150))
    ledger = found.measures
    assert found.broken is None
    assert ledger.lost == 0
    assert ledger.wanted == len(ledger.sent) * (NODES - 1) > 0
    hostile = sum(isinstance(node.machine, Sybil) for node in found.world.nodes)
    assert hostile == len(ledger.sybils) == (0 if name == "gossip-calm" else 18)
    places = max((one.sybils for one in ledger.watched), default=0)
    assert (places > 0) == (name != "gossip-calm")


def test_sybils_join_when_and_where_their_attack_says() -> None:
    for name, joined_by in (("gossip-cold-boot", 5), ("gossip-eclipse-net", 65)):
        found = stage(made(name, sybils=50))
        world, ledger = found.world, found.measures
        world.run(ledger.begun + 1_000 * joined_by - 4_000)
        before = ledger.watched[-1].sybils if ledger.watched else 0
        world.run(ledger.begun + 1_000 * joined_by + 10_000)
        assert (before, ledger.watched[-1].sybils > 0) == (0, True)
    one = stage(made("gossip-eclipse-one", sybils=100, links=1))
    machines = [node.machine for node in one.world.nodes[NODES:]]
    one.world.run(one.measures.begun + 1)
    machines = [node.machine for node in one.world.nodes[NODES:]]
    assert {peer for each in machines if isinstance(each, Sybil) for peer in each._peers} == {one.measures.victim}
    honest = [node.machine for node in one.world.nodes[:NODES]]
    one.world.run(one.measures.begun + 2_000)
    honest = [node.machine for node in one.world.nodes[:NODES]]
    assert all(len(each.timetable.peers) == min(DIALS, NODES - 1) for each in honest if isinstance(each, Router))


def test_a_censor_passes_on_all_but_one_publishers_messages() -> None:
    found = played(made("gossip-censor", sybils=50))
    victims = sum(author == found.measures.victim for _, author in found.measures.sent.values())
    dropped = [node.machine.dropped for node in found.world.nodes if isinstance(node.machine, Sybil)]
    assert 0 < max(dropped) <= victims
    degraded = played(made("gossip-degrade", sybils=50))
    dropped = [node.machine.dropped for node in degraded.world.nodes if isinstance(node.machine, Sybil)]
    heard = sum(dropped) / len(dropped) / len(degraded.measures.sent)
    assert 0.2 < heard < 0.7


def test_who_behaves_until_the_flash_drops_nothing_before_it() -> None:
    found = stage(made("gossip-covert-flash", sybils=50))
    world, begun = found.world, found.measures.begun
    world.run(begun + 119_000)
    assert sum(node.machine.dropped for node in world.nodes if isinstance(node.machine, Sybil)) == 0
    world.run(begun + 150_000)
    assert sum(node.machine.dropped for node in world.nodes if isinstance(node.machine, Sybil)) > 0


def test_flooding_cannot_be_held_up_and_costs_more_than_gossip() -> None:
    calm, flood, besieged = (played(made(*what, nodes=40, **more)) for what, more in FLOODED)
    assert [one.broken for one in (calm, flood, besieged)] == [None] * 3
    assert max(besieged.measures.latencies) <= max(
        flood.measures.latencies
    )  # Sybils between honest neighbours change nothing
    assert all(not one.measures.watched[-1].places for one in (flood, besieged))
    received = [sum(one.world.by_id[node].bytes_in for node in one.measures.honest) for one in (calm, flood)]
    assert received[1] > 2 * received[0]


def test_one_recipe_is_one_trace_and_another_seed_another() -> None:
    digests = [played(made("gossip-dawn", sybils=30, seed=seed)).world.digest() for seed in (4, 4, 5)]
    assert digests[0] == digests[1] != digests[2]


def test_an_attack_that_never_took_place_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    calm = replace(ATTACKS["gossip-eclipse-net"], drops=0)
    monkeypatch.setattr(siege, "ATTACKS", {"gossip-eclipse-net": calm})
    found = played(made("gossip-eclipse-net", sybils=50))
    assert found.broken is not None
    assert found.broken.check == "AttackTook"


def test_options_that_make_no_siege_are_told() -> None:
    for options, nodes, sentence in (({"rate": 0}, 20, "a rate of 1"), ({}, 5, "honest nodes")):
        with pytest.raises(Unknown, match=sentence):
            stage(made("gossip-calm", nodes=nodes, **options))
    with pytest.raises(Unknown, match="minutes at least"):
        stage(replace(made("gossip-covert-flash"), duration_ms=180_000))


def test_a_siege_is_run_reported_and_its_tape_runs_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", "gossip-cold-boot", "--nodes", "20", "--option", "rate=50", "--option", "sybils=100"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "20 honest nodes, 20 Sybils" in said
    assert "published: 205 ms (p99), 1,200 ms (last)" in said
    numbers = json.loads((tmp_path / "result.json").read_text())
    assert (numbers["deliveries_lost"], numbers["ok"], numbers["sybils"]) == (0, True, 20)
    assert {one.name for one in tmp_path.iterdir()} == {
        "result.json",
        "meshes.csv",
        "meshes.svg",
        "meshes.png",
        "report.html",
        "report.md",
    }
    # A router that never asks for what it missed is found out.
    monkeypatch.setattr(LazyPush, "on_ihave", lambda *_: [])
    words[3:] = ["40", "--option", "rate=50", "--option", "links=40"]
    assert main([*words, "--out", str(tmp_path / "broken")]) == 1
    assert main(["replay", str(tmp_path / "broken" / "gossip-cold-boot-1.tape")]) == 1
    assert "NothingLost" in capsys.readouterr().out


def test_nothing_is_published_that_has_no_time_left_to_come() -> None:
    what = made("gossip-calm", 50, rate=10)  # five publishers, each once in 50 s: longer than the cool-down
    found = played(what)
    last = max(at for at, _ in found.measures.sent.values()) - found.measures.begun
    assert what.duration_ms - siege.COOL_DOWN_MS < last <= what.duration_ms - siege.COOL_DOWN_MS + siege.LAST_WORD_MS
    assert found.measures.lost == 0
