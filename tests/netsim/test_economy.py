"""The economy: one seed is one trace, the draw looks at settled work alone, and what strategies gain in it and on the command line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from consensus.ids import NodeId
from consensus.params import MAINNET, STATE_HOURS, LeaderRule, settled_hours
from netsim import poot
from netsim.__main__ import main
from netsim.economy import Economy
from netsim.faults import Plan
from netsim.operators import Operator, Rig, attendance, rigs, share_of, show, sized
from netsim.poot import Share, gini, stage, target
from netsim.scenarios import SCENARIOS, named, recipe
from netsim.strategies import HONEST, Collude, Withhold

pytestmark = pytest.mark.component

SIZE = MAINNET.hour_slots
DAY = 24 * 60


def rows(name: str, nodes: int, minutes: int, **options: int) -> list[Share]:
    what = recipe(named(name), nodes, 1, minutes, {key: str(value) for key, value in options.items()}, Plan())
    made = stage(what)
    made.play(lambda _played, _of: None)
    return made.rows


def world(count: int, slots: int, *more: Operator, seed: int = 1, rule: LeaderRule = LeaderRule.SORTITION) -> Economy:
    """Nodes that are always up, and some others."""
    others = [Operator(f"{number}", (rig._replace(up=1000),)) for number, rig in enumerate(rigs(seed, count))]
    return Economy(seed, (*others, *more), replace(MAINNET, leader_rule=rule), slots, 20)


def shares(economy: Economy, operator: int) -> tuple[float, float]:
    """Of the work and of the slots."""
    own = {one.node for one in economy.identities if one.operator == operator}
    counters = economy.worked, economy.led
    work, slots = (sum(of[node] for node in own) / sum(of.values()) for of in counters)
    return work, slots


def test_one_seed_is_one_trace() -> None:
    digests = []
    for seed in (1, 1, 2):
        economy = world(12, 300, seed=seed)
        economy.run(150)
        economy.run(300)
        digests.append(economy.digest())
    assert digests[0] == digests[1] != digests[2]


def test_work_leads_when_its_hour_is_settled_and_two_hours_are_over() -> None:
    """HOUR 16 is settled at 20 and in the state that HOUR 22 looks at: until then its work changes no publisher."""
    changed = 16
    first = (changed + settled_hours(MAINNET) + STATE_HOURS) * SIZE
    plain, other = world(12, first + SIZE), world(12, first + SIZE)
    for economy in (plain, other):
        economy.run(changed * SIZE)
    other.identities[5] = other.identities[5]._replace(storage=0, relay=0)
    for economy in (plain, other):
        economy.run(first - 1)
    assert plain.digest() == other.digest()
    for economy in (plain, other):
        economy.run(first + SIZE)
    assert plain.digest() != other.digest()


def test_what_witnesses_report_is_the_truth_within_some_per_cent() -> None:
    economy = world(20, 30 * SIZE)
    economy.run(30 * SIZE)
    sums = economy.state.checkpoint.tally.sums
    settled = len([hour for hour in economy.state.checkpoint.tally.hours if any(one.work for _, one in hour.entries())])
    for one in economy.identities:
        true = economy.worked[one.node] / (30 - economy.begins // SIZE + 1)
        assert sums[one.node].work / settled == pytest.approx(true, rel=0.12)  # what includers earn is in it, too


@pytest.mark.parametrize("identities", [1, 5, 20])
def test_work_that_is_split_leads_as_often_as_work_that_is_not(identities: int) -> None:
    slots = 3_000
    whole = sized(share_of(rigs(1, 40), 10), 1000)
    economy = world(40, slots, Operator("split", (whole,), identities))
    economy.run(slots)
    work, led = shares(economy, 40)
    assert work == pytest.approx(0.1, abs=0.01)
    assert led == pytest.approx(work, abs=0.022)  # four standard errors


def test_under_rank_and_bands_seventeen_nodes_above_the_best_lead_nearly_always() -> None:
    best = max(rig._replace(up=1000).rate for rig in rigs(1, 60))
    above = Operator("above", (sized(best * 101 // 100, 1000),) * 17, 17)
    led, ever = {}, {}
    for rule in LeaderRule:
        economy = world(60, 1_400, above, rule=rule)
        economy.run(1_400)
        work, led[rule] = shares(economy, 60)
        ever[rule] = len(economy.led)
        assert led[rule] <= target(work) or rule is not LeaderRule.SORTITION
    assert led[LeaderRule.RANK] > 0.95
    assert led[LeaderRule.BANDS] > 0.85
    assert led[LeaderRule.SORTITION] < 0.75
    assert ever[LeaderRule.RANK] < ever[LeaderRule.BANDS] < 60 < ever[LeaderRule.SORTITION]


@pytest.mark.parametrize("silent", [False, True])
def test_a_fifth_that_witness_too_much_for_each_other_stay_within_the_target(silent: bool) -> None:
    work, led = cartel(Collude("cartel", 10, silent=silent))
    assert led <= target(work)


def test_a_fifth_that_leave_out_what_honest_witnesses_stated_stay_within_the_target() -> None:
    work, led = cartel(Collude("cartel", 10, silent=True, selects=True))
    assert led <= target(work)


def cartel(strategy: Collude) -> tuple[float, float]:
    """Eight of forty alike: their shares of the work and of the slots."""
    rig = Rig(50_000, 5_000, 1000)
    others = [Operator(f"{number}", (rig,)) for number in range(32)]
    economy = Economy(1, [*others, Operator("cartel", (rig,) * 8, 8, strategy)], MAINNET, 2_000, 20)
    economy.run(2_000)
    return shares(economy, 32)


def test_one_identity_that_is_away_a_tenth_of_the_time_leads_for_most_of_its_work() -> None:
    economy = world(30, 2_500, Operator("one", (sized(share_of(rigs(1, 30), 15), 900),)))
    economy.run(2_500)
    work, led = shares(economy, 30)
    assert led > 0.7 * work


def test_a_slot_is_let_pass_only_if_the_next_draw_makes_up_for_it() -> None:
    slots = 1_500
    whole = sized(share_of(rigs(1, 40), 20), 1000)
    for late, charged in ((True, False), (False, True)):
        economy = world(40, slots, Operator("choosy", (whole,), 10, Withhold(late_header=late)))
        economy.run(slots)
        work, led = shares(economy, 40)
        own = sum(economy.misses[one.node] for one in economy.identities if one.operator == 40)
        assert bool(own) is charged
        assert led <= target(work)


def test_no_report_is_lost_to_a_fifth_that_leave_out_those_of_others() -> None:
    both = rows("poot-censor", 30, DAY, identities=5)
    assert [row.reports_lost for row in both] == [0, 0]
    assert both[1].is_within


def test_sessions_opened_to_be_counted_are_two_a_day_and_pay_all_alike() -> None:
    row = rows("poot-wash", 30, 2 * DAY, owners=40)[0]
    hours = 2 * 24 - settled_hours(MAINNET) - STATE_HOURS
    assert 0 < row.wash_paid <= 40 * 2 * hours / 24 + 40
    assert row.share_lucid <= target(row.share_work)


def test_a_machine_is_away_for_as_much_of_the_time_as_it_says_and_its_work_is_never_multiplied() -> None:
    slots = 200_000
    assert attendance(1, 3, 900, slots).count(1) / slots == pytest.approx(0.9, abs=0.02)
    assert set(attendance(1, 3, 1000, 10)) == {1}
    shown = show([Operator("a", (Rig(100, 10, 1000), Rig(7, 0, 1000)), 5)], 1)
    assert [one.storage for one in shown] == [33, 3, 33, 3, 33]
    assert len({one.node for one in shown}) == 5


def test_gini_is_none_for_equals_and_nearly_whole_for_one_who_has_all() -> None:
    assert gini([3, 3, 3]) == pytest.approx(0)
    assert gini([0] * 99 + [5]) == pytest.approx(0.99)
    assert gini([0, 0]) == 0


QUICK = ["--nodes", "12", "--minutes", "1500", "--seed", "3"]


def test_the_command_line_says_it_as_a_table_and_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["run", "poot-split", *QUICK, "--option", "n=4"]
    assert main([*words, "--json", "--out", str(tmp_path)]) == 0
    numbers = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"scenario", "nodes", "seed", "slots", "server_share_blocks", "server_share_lucid"} <= numbers.keys()
    assert {"gini_work", "gini_slots", "digest"} <= numbers.keys()
    (row,) = numbers["table"]
    assert {"strategy", "n", "share_work", "share_slots", "ratio", "share_lucid"} <= row.keys()
    assert (row["n"], numbers["slots"], row["rule"]) == (4, 750, "sortition")
    assert json.loads((tmp_path / "result.json").read_text()) == numbers
    assert {"report.md", "rows.csv", "shares.svg", "shares.png"} <= {path.name for path in tmp_path.iterdir()}
    shown = (tmp_path / "report.html").read_text()
    assert "<th>strategy</th><th>rule</th><th class=n>n</th><th class=n>% work</th>" in shown
    assert "<td>split</td><td>sortition</td><td class=n>4</td>" in shown
    assert "<li>strategy" not in shown
    assert "<li>750 slots a row" in shown
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("poot-split, 12 nodes, seed 3: within the target\n")
    assert numbers["digest"] in out
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["run", "poot-split", "--nodes", "12", "--seed", "3", "--minutes", "1150", "--option", "n=4"]) == 0
    few = capsys.readouterr().out
    assert few.startswith("poot-split, 12 nodes, seed 3: too few slots to tell\n")
    assert "Give more --minutes" in few


def test_a_share_beyond_the_target_is_a_breach_only_where_it_is_more_than_luck() -> None:
    (row,) = rows("poot-split", 12, DAY, n=4)
    assert row.bound is not None
    assert row.margin > 0
    far, near = row.bound + 2 * row.margin, row.bound + row.margin / 2
    told = [(one.is_within, one.is_told) for one in (replace(row, share_slots=share) for share in (0.0, near, far))]
    assert told == [(True, True), (True, False), (False, True)]
    longer = rows("poot-split", 12, 2 * DAY, n=4)[0]
    assert longer.margin < row.margin


def test_a_broken_target_is_told_and_ends_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poot, "target", lambda _share: 0.0)
    assert main(["run", "poot-split", *QUICK, "--option", "n=4", "--json"]) == 1
    numbers = json.loads(capsys.readouterr().out)
    assert not numbers["ok"]
    assert numbers["broken"]["sentence"].startswith("split, n = 4: ")
    assert main(["run", "poot-split", *QUICK, "--option", "n=4", "--option", "rule=2"]) == 0  # compared, not judged


def test_ctrl_c_leaves_the_rows_that_were_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Economy.run

    def run(economy: Economy, until: int) -> None:
        if len(economy.identities) > 13:
            raise KeyboardInterrupt
        played(economy, until)

    monkeypatch.setattr(Economy, "run", run)
    assert main(["run", "poot-split", *QUICK, "--json"]) == 3
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["partial"]
    assert [row["n"] for row in numbers["table"]] == [1]


def test_ctrl_c_in_the_middle_of_a_world_leaves_what_it_has_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Economy.run

    def run(economy: Economy, until: int) -> None:
        if until > 25 * SIZE:
            raise KeyboardInterrupt
        played(economy, until)

    monkeypatch.setattr(Economy, "run", run)
    words = ["run", "poot-baseline", "--nodes", "12", "--minutes", str(2 * DAY)]
    assert main([*words, "--json"]) == 3
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["slots_of_the_last"] == 25 * SIZE
    assert sum(row["share_slots"] for row in numbers["table"] if row["strategy"] == "everybody") == 1
    assert main(words) == 3
    assert f"the last world was interrupted after {25 * SIZE:,} of them" in capsys.readouterr().out


def test_a_network_whose_reports_find_no_block_is_told_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", "poot-baseline", "--nodes", "90", "--minutes", str(DAY)]
    assert main(words) == 0
    assert "came into no block" not in capsys.readouterr().out
    monkeypatch.setattr("netsim.economy.REPORTS_MAX", 1)
    assert main([*words, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["table"][0]
    assert 0 < row["reports_lost"] < row["reports"]
    assert row["reports"] - row["reports_lost"] <= DAY // 2 + 3 * 90, "one a block, and those that still wait"
    assert main(words) == 0
    assert "% of the reports of work came into no block" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["poot-split", "--minutes", "60"], "work leads from slot 570 on: 1142 minutes at least"),
        (["poot-split", "--option", "share=100"], "share is 100: per cent, below 100"),
        (["poot-split", "--option", "rule=4"], "rule is 1 for sortition, 2 for rank, 3 for bands"),
        (["poot-collude", "--nodes", "10", "--option", "share=5"], "5 per cent of 10 nodes are nobody"),
        (["poot-wash", "--option", "sessions=99999"], "15,000 an HOUR in all at most"),
    ],
)
def test_options_that_make_no_world_are_told(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_every_table_of_the_list_is_one_that_can_be_made() -> None:
    names = {name for name, one in SCENARIOS.items() if one.kind == "economy"}
    assert names == poot.CASES.keys()
    for name in names:
        made = stage(recipe(named(name), 30, 1, None, {}, Plan()))
        assert made.cases
        assert made.slots == 7 * 24 * SIZE
        assert NodeId(made.cases[0].operators[0].name.encode()) == b"server"
        assert made.cases[0].operators[0].strategy is HONEST


def test_with_a_tenth_away_few_hours_go_without_enough_witnesses() -> None:
    others = [Operator(f"{number}", (rig._replace(up=900),)) for number, rig in enumerate(rigs(1, 60))]
    economy = Economy(1, others, MAINNET, 72 * SIZE, 20)
    economy.run(72 * SIZE)
    assert 0 < economy.unwitnessed < sum(economy.worked.values()) // 250
    assert economy.reports_lost == 0
