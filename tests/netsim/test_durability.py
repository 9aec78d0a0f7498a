"""Chunks outlive the departures that they are meant to outlive, and what is said about losses is right."""

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.ids import Digest, Millis
from consensus.merkle import segment_root
from consensus.placement import REPLICAS
from netsim import keeper
from netsim.__main__ import BROKE, HELD, USAGE, main
from netsim.census import YEAR_MS, Census, closed_form, poisson_bounds
from netsim.checks import judge
from netsim.durability import DurabilityStage, Senseless, stage
from netsim.faults import Plan
from netsim.keeper import Disk, replica
from netsim.liars import SERVED, SHOWN, THROWN, TURN_MS, Fickle, Forgetful, corrupted, lot
from netsim.population import MONTH_MS, PLACING_MS, exponential, lifetime_ms
from netsim.scenarios import keys_of, named, recipe
from node.overlay import watching
from node.overlay.custody import HOUR_MS, Repaired, ReplicaDamaged
from node.overlay.machine import Rejected

DAY_MS = 24 * HOUR_MS
TRUE = {"liars": 0}
QUIET = {"departures": 0, "chunks": 12, "challenge_h": 6, **TRUE}


def made(nodes: int, days: int, seed: int = 1, **options: int) -> tuple[DurabilityStage, int]:
    """A stage, and when its run ends."""
    texts = {key: str(value) for key, value in options.items()}
    what = recipe(named("durability"), nodes, seed, days * 24 * 60, texts, Plan())
    built = stage(what)
    return built, built.world.now + what.duration_ms


def ran(nodes: int, days: int, seed: int = 1, **options: int) -> DurabilityStage:
    """A stage that has run under its checks."""
    built, end = made(nodes, days, seed, **options)
    built.broken = judge(built.world, end, built.checks)
    return built


def copies(census: Census) -> list[int]:
    return [len(held) for held in census.holders.values()]


def test_without_departures_every_chunk_keeps_its_three_first_copies() -> None:
    done = ran(20, 20, **QUIET)
    numbers = done.measures.numbers()
    assert done.broken is None
    assert copies(done.measures) == [3] * 12
    assert numbers["years_with_copies"] == {"3": round(12 * 19 * DAY_MS / YEAR_MS, 5)}
    assert numbers["lost"] == numbers["repairs"] == numbers["copies_made"] == 0
    assert done.measures.answers[False] == 0
    assert not done.measures.rejections


def test_when_two_of_three_holders_depart_at_once_every_chunk_is_back_at_three() -> None:
    built, _ = made(20, 8, **QUIET)
    world, census = built.world, built.measures
    left = []

    def strike() -> None:
        for node in list(next(iter(census.holders.values())))[:2]:
            built.population.depart(node)
        left.extend(copies(census))

    world.at(census.begun + 3 * DAY_MS, strike)
    assert judge(world, census.begun + 6 * DAY_MS, built.checks) is None
    assert min(left) == 1
    assert copies(census) == [3] * 12
    assert world.facts[Repaired] == len(census.repairs_ms) >= 2
    assert max(census.repairs_ms) < 36 * HOUR_MS
    assert not census.losses


def test_the_last_copy_can_be_lost_unless_the_owner_is_there_to_encode_it_again() -> None:
    kept = {}
    for online in (0, 100):
        built, _ = made(20, 8, **QUIET, owners_online=online)
        world, census = built.world, built.measures
        world.run(census.begun + 3 * DAY_MS)
        chunk, held = next(iter(census.holders.items()))
        for node in list(held):
            built.population.depart(node)
        world.run(census.begun + 6 * DAY_MS)
        kept[online] = ([lost for _, lost in census.losses] == [chunk], len(census.holders[chunk]))
    assert kept == {0: (True, 0), 100: (False, 3)}


def test_a_holder_whose_bytes_are_gone_is_found_out_and_replaced() -> None:
    built, _ = made(20, 8, **QUIET)
    world, census = built.world, built.measures
    world.run(census.begun + 3 * DAY_MS)
    liar = next(iter(next(iter(census.holders.values()))))
    built.population.disks[world.nodes[liar].id].clear()
    world.run(census.begun + 6 * DAY_MS)
    assert world.facts[ReplicaDamaged] >= 1
    assert set(copies(census)) <= {3, 4}  # two members whose views differed may have made a copy each
    disks = built.population.disks
    assert all(len(disks[world.nodes[node].id]) == len(held) for node, held in census.held.items())


@pytest.mark.component
def test_liars_are_found_out_and_every_chunk_gets_three_copies_on_true_holders() -> None:
    built, end = made(20, 12, **QUIET | {"liars": 30})
    world, census = built.world, built.measures
    blamed = []
    world.on_fact(Rejected, lambda _now, _node, fact: blamed.append(world.by_id[fact.peer].index))
    world.run(census.begun + PLACING_MS)
    assert sum(len(claims) for claims in census.claims.values()) > 6, "liars have signed"
    assert min(copies(census)) < 3
    assert judge(world, end, built.checks) is None
    assert min(copies(census)) >= 3
    assert not census.losses
    kinds = {type(built.population.disks[world.nodes[index].id]) for index in census.liars}
    assert kinds == {Forgetful, Fickle}
    assert len(census.liars) == 6
    assert min(census.numbers()["lies"][name] for name in (THROWN, SHOWN)) > 0
    assert blamed
    assert set(blamed) <= set(census.liars), "nobody who is true is blamed"


@pytest.mark.component
def test_corrupt_replicas_are_served_and_never_signed_for(monkeypatch: pytest.MonkeyPatch) -> None:
    heavy = {"departures": 80, "liars": 0, "withholders": 40, "chunks": 12, "challenge_h": 6, "target_ppm": 0}
    done = ran(20, 14, **heavy)
    assert done.broken is None
    assert done.measures.numbers()["lies"][SERVED] > 0
    assert done.measures.rejections["a replica that is not what its owner committed to"] > 0
    real = segment_root
    roots = {real(data) for chunk in done.measures.holders for data in (replica(chunk, j) for j in range(REPLICAS))}

    def blind(data: bytes) -> Digest:
        """A host that does not see the bit that is wrong."""
        return real(data) if real(data) in roots else real(corrupted(data))

    monkeypatch.setattr(keeper, "segment_root", blind)
    broken = ran(20, 14, **heavy).broken
    assert broken is not None
    assert broken.check == "NothingFalseBelieved"
    assert broken.sentence.startswith("it has signed for replica")


def test_who_takes_a_false_answer_breaks_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "shown", lambda *_: True)
    broken = ran(20, 3, **QUIET | {"liars": 30}).broken
    assert broken is not None
    assert broken.check == "NothingFalseBelieved"
    assert broken.sentence.startswith("it took a false answer")


@pytest.mark.parametrize(("options", "lie"), [({"liars": 30}, SHOWN), ({"withholders": 30}, SERVED)])
def test_a_run_whose_liars_told_no_lie_breaks(
    options: dict[str, int], lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (Forgetful, Fickle):
        monkeypatch.setattr(kind, "keep", Disk.keep)
        monkeypatch.setattr(kind, "shown", Disk.shown)
    broken = ran(20, 3, **QUIET | options).broken
    assert broken is not None
    assert broken.check == "LiesTold"
    assert broken.sentence.endswith(f"there were no {lie}")


def test_a_fickle_host_is_true_for_two_days_each_time_that_it_takes_a_replica() -> None:
    disk, data, again = Fickle(Counter()), b"replica", Millis(9 * TURN_MS)
    root = segment_root(data)
    disk.keep(Millis(0), root, data)
    assert (disk.shown(Millis(TURN_MS - 1), root), disk.turned) == (data, {})
    assert (disk.shown(Millis(TURN_MS), root), disk.turned) == (corrupted(data), {root: TURN_MS})
    disk.pop(root)
    assert disk.shown(Millis(TURN_MS), root) is None
    disk.keep(again, root, data)
    assert (disk.shown(again, root), disk.turned) == (data, {})
    assert disk.served(root) == corrupted(data)


@given(percent=st.integers(0, 100), phase=st.integers(0, 99), count=st.integers(0, 300), split=st.integers(0, 300))
def test_liars_are_as_many_as_were_asked_for_among_any_that_follow_each_other(
    percent: int, phase: int, count: int, split: int
) -> None:
    chosen = sum(lot(number, percent, phase) for number in range(split, split + count))
    assert count * percent // 100 <= chosen <= -(-count * percent // 100)


@pytest.mark.component
def test_where_most_leave_within_a_month_chunks_are_lost_about_as_often_as_the_theory_says() -> None:
    done = ran(30, 40, 2, departures=95, repair_h=48, challenge_h=24, chunks=60, target_ppm=0, **TRUE)
    numbers = done.measures.numbers()
    expected, _ = done.measures.expected()
    low, high = poisson_bounds(numbers["lost"], 0.001)
    assert numbers["lost"] > 3
    assert low < expected < high  # the time on last copies foretells the count
    assert 0.3 < numbers["lost_a_year_expected"] / numbers["lost_a_year_closed_form"] < 3
    assert numbers["departed"] == pytest.approx(30 * 39 * DAY_MS / (lifetime_ms(95) or 1), rel=0.3)


def test_real_signatures_lead_to_the_same_copies() -> None:
    what = recipe(named("durability"), 8, 1, 3 * 24 * 60, {"departures": "0", "chunks": "3", "liars": "0"}, Plan())
    built = stage(what, keys=keys_of)
    assert judge(built.world, built.world.now + what.duration_ms, built.checks) is None
    assert copies(built.measures) == [3] * 3


def test_one_seed_is_one_run_and_another_seed_another() -> None:
    first, again, other = (ran(12, 12, seed, departures=90, chunks=6, challenge_h=6) for seed in (5, 5, 6))
    assert first.world.digest() == again.world.digest() != other.world.digest()
    assert first.measures.numbers() == again.measures.numbers()


def test_chunks_that_find_no_three_holders_break_the_run() -> None:
    built, end = made(8, 3, departures=0, chunks=2, **TRUE)
    for index in list(built.population.holders)[2:]:
        built.world.at(built.world.now, lambda index=index: built.population.depart(index))  # type: ignore[misc]
    broken = judge(built.world, end, built.checks)
    assert broken is not None
    assert broken.check == "AllPlaced"
    assert broken.now == built.measures.begun + PLACING_MS


@pytest.mark.parametrize(
    "options",
    [
        {"departures": 100},
        {"owners_online": 101},
        {"repair_h": 0},
        {"chunks": 0},
        {"repair_h": 6, "challenge_h": 4},
        {"liars": 51},
        {"withholders": 51},
        {"liars": 4},  # of 20: not one
    ],
)
def test_options_that_make_no_world_are_told(options: dict[str, int]) -> None:
    with pytest.raises(Senseless):
        made(20, 10, **options)


def test_a_run_that_ends_before_the_liars_can_be_found_out_is_refused() -> None:
    made(20, 2, departures=0, **TRUE)
    with pytest.raises(Senseless, match="50 hours"):
        made(20, 2, departures=0, liars=10)


def test_lifetimes_are_exponential_and_leave_the_share_that_was_asked_for() -> None:
    draw, mean = Random(1), 1_000_000
    lives = [exponential(draw, mean) for _ in range(20_000)]
    assert sum(lives) / len(lives) == pytest.approx(mean, rel=0.03)
    for share, survive in ((0.5, 0.6065), (1, 0.3679), (2, 0.1353)):
        assert sum(life > share * mean for life in lives) / len(lives) == pytest.approx(survive, abs=0.015)
    assert lifetime_ms(0) is None
    twenty = lifetime_ms(20)
    assert twenty is not None
    assert 0.8 ** (twenty / MONTH_MS) == pytest.approx(1 / 2.718281828)


@pytest.mark.parametrize(
    ("count", "low", "high"), [(0, 0.0, 2.9957), (1, 0.0513, 4.7439), (3, 0.8177, 7.7537), (10, 5.4254, 16.9622)]
)
def test_the_bounds_of_a_count_are_those_of_the_tables(count: int, low: float, high: float) -> None:
    assert poisson_bounds(count) == pytest.approx((low, high), abs=1e-3)


def test_the_closed_form_is_half_of_what_the_design_was_told_for_repairs_that_last_exponentially() -> None:
    mean = lifetime_ms(20)
    assert mean is not None
    for hours, rate in ((6, 5.6e-5), (24, 8.7e-4), (48, 3.4e-3)):
        assert 2 * closed_form(mean, hours * HOUR_MS) == pytest.approx(rate, rel=0.1)


def lines(out: str) -> dict[str, Any]:
    numbers: dict[str, Any] = json.loads(out)
    return numbers


@pytest.mark.component
def test_a_run_leaves_a_report_and_says_by_its_exit_code_whether_the_target_was_met(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "durability", "--nodes", "12", "--seed", "2", "--minutes", str(20 * 24 * 60), "--json"]
    words += ["--option", "chunks=6", "--option", "challenge_h=6"]
    assert main([*words, "--option", "departures=50", "--out", str(tmp_path)]) == HELD
    numbers = lines(capsys.readouterr().out)
    assert numbers == json.loads((tmp_path / "result.json").read_text())
    assert numbers["digest"] == ran(12, 20, 2, chunks=6, challenge_h=6, departures=50).world.digest()
    names = {path.name for path in tmp_path.iterdir()}
    assert {"report.md", "copies.csv", "copies.svg", "copies.png", "repairs.csv", "losses.csv"} <= names
    table = (tmp_path / "copies.csv").read_text().splitlines()
    assert table[0] == "day,nodes,none,one,two,three,more,repairs,last_copy_ms"
    assert len(table) > 200
    heavy = ["--option", "departures=99", "--option", "repair_h=96", "--option", "challenge_h=24"]
    words[words.index("chunks=6")], words[words.index("challenge_h=6")] = "chunks=25", "kb_s=50"
    assert main([*words, *heavy, "--out", str(tmp_path)]) == USAGE
    assert "has the report of another run" in capsys.readouterr().err
    assert main([*words, *heavy, "--out", str(tmp_path / "heavy")]) == BROKE
    numbers = lines(capsys.readouterr().out)
    assert numbers["broken"]["check"] == "Target"
    tape = next((tmp_path / "heavy").glob("*.tape"))
    assert main(["replay", str(tape), "--json"]) == BROKE
    assert lines(capsys.readouterr().out)["digest"] == numbers["digest"]
    assert main([*words, "--option", "departures=100"]) == USAGE
