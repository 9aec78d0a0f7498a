"""The named worlds hold, each run small; one command is one trace; a scenario of one's own is read or refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from consensus.ids import Millis
from netsim.__main__ import main
from netsim.checks import Broken, judge
from netsim.expectations import LinksTook, Trust
from netsim.faults import Contradiction, Crash, Cut, MassRestart, Plan, StepClock
from netsim.links import LOSSY
from netsim.measures import Measures
from netsim.overlay import Stage, stage
from netsim.scenarios import SCENARIOS, SEEDS, Unknown, from_file, named, recipe
from netsim.world import World
from node.overlay.machine import Rejected
from node.overlay.peer import Blocked, Peer
from node.overlay.topics import Graylisted
from tests.netsim.toys import Puppet, node_id

ROOT = Path(__file__).parent.parent.parent
SMALL: dict[str, tuple[int, dict[str, str]]] = {
    # minutes, and options that make the run as short as what it shows allows
    "bootstrap": (14, {}),
    "churn": (22, {"churn_min": "8", "rate": "50"}),
    "partition": (25, {"cut_min": "4"}),
    "burst": (16, {"messages": "100"}),
    "bootstrap-gone": (30, {}),
    "lossy": (14, {"loss": "100", "doubled": "100", "overtaken": "300"}),
    "eclipse": (14, {}),
    "sybil-flood": (14, {}),
    "content-eclipse": (14, {}),
    "spam": (14, {}),
    "replay": (14, {}),
}


def small(name: str) -> tuple[int, dict[str, str]]:
    minutes, options = SMALL[name]
    few = {"join_s": "20", "messages": "24", "look_ups": "40"}
    return minutes, {key: text for key, text in few.items() if key in SCENARIOS[name].options} | options


def play(name: str, nodes: int = 14, seed: int = 5, more: Plan | None = None) -> tuple[Stage, Broken | None]:
    minutes, options = small(name)
    what = recipe(named(name), nodes, seed, minutes, options, more or Plan())
    made = stage(what)
    return made, judge(made.world, made.world.now + what.duration_ms, made.checks)


def words(name: str, nodes: int = 12) -> list[str]:
    minutes, options = small(name)
    given = [word for key, text in options.items() for word in ("--option", f"{key}={text}")]
    return ["run", name, "--nodes", str(nodes), "--seed", "9", "--minutes", str(minutes), "--json", *given]


@pytest.mark.component
@pytest.mark.parametrize("name", [name for name, one in SCENARIOS.items() if one.kind == "overlay"])
def test_every_named_scenario_holds_and_does_its_work(name: str) -> None:
    made, broken = play(name)
    assert broken is None
    _, options = small(name)
    assert len(made.measures.sent) == int(options["messages"]) + (name == "sybil-flood")
    assert len(made.measures.look_ups) + made.measures.look_ups_lost == int(options.get("look_ups", 0))
    assert len(made.measures.samples) > 100


@pytest.mark.component
def test_two_halves_that_both_wrote_are_one_directory_after_healing() -> None:
    made, broken = play("partition", nodes=12)
    world = made.world
    assert broken is None
    assert world.counts["cuts"] == world.counts["heals"] == 2
    assert world.counts["frames lost to a cut"] + world.counts["frames sent into a cut"] > 0
    late = [step for step in made.measures.latencies if step * 50 > 30_000]
    assert late, "some messages had to wait for the healing"
    shelves = [
        {author: shelf.chain(author)[0].digest for author in shelf.authors}
        for shelf in (node.machine.logs.directory for node in world.nodes if isinstance(node.machine, Peer))
    ]
    assert len(shelves) == 12
    assert all(shelf == shelves[0] for shelf in shelves)


@pytest.mark.component
def test_a_network_whose_bootstrap_nodes_are_gone_takes_its_own_back() -> None:
    made, broken = play("bootstrap-gone", nodes=15)
    world = made.world
    assert broken is None
    assert not any(node.up for node in world.nodes[:SEEDS])
    again = [node for node in world.nodes if node.life > 1]
    assert len(again) >= 2
    for node in again:
        assert isinstance(node.machine, Peer)
        assert node.machine.connected
        assert len(node.machine.dht.table) >= 5


@pytest.mark.component
def test_a_node_that_is_cut_off_at_the_end_breaks_the_directories() -> None:
    rest = tuple(range(3)) + tuple(range(4, 12))
    plan = Plan((Cut("in", 150_000, rest, (3,)), Cut("out", 150_000, (3,), rest)))
    _, broken = play("bootstrap", nodes=12, more=plan)
    assert broken is not None
    assert broken.check == "Directories"
    assert "entries are missing" in broken.sentence


@pytest.mark.component
@pytest.mark.parametrize("seed", [5, 6, 7])
def test_links_that_lose_a_tenth_cost_no_entry_and_no_honest_node_its_name(seed: int) -> None:
    made, broken = play("lossy", nodes=20, seed=seed)
    assert broken is None
    counts, facts = made.world.counts, made.world.facts
    assert min(counts["frames lost"], counts["frames doubled"], counts["frames overtaken"]) > 100
    assert facts[Graylisted] == facts[Blocked] == facts[Rejected] == 0
    assert made.measures.missing() == []
    assert set(made.measures.delivered.values()) == {20}


@pytest.mark.component
def test_clocks_set_by_an_hour_either_way_cost_no_entry_and_no_honest_node_its_name() -> None:
    """Two of the four restart at once: their time jumps, where the others' makes up for it bit by bit."""
    hour = 3_600_000
    steps = [StepClock(node, 150_000, delta) for node, delta in ((3, hour), (4, -hour), (5, hour), (6, -hour))]
    made, broken = play("bootstrap", nodes=12, more=Plan((*steps, Crash(5, 155_000, 5_000), Crash(6, 155_000, 5_000))))
    world, measures = made.world, made.measures
    assert broken is None
    assert (world.counts["clock steps"], world.counts["restarts"]) == (4, 2)
    assert world.nodes[5].now(world.now) - world.now > hour // 2 > world.now - world.nodes[3].now(world.now)
    assert world.now - world.nodes[6].now(world.now) > hour // 2
    assert world.facts[Graylisted] == world.facts[Blocked] == world.facts[Rejected] == 0
    assert measures.missing() == []
    assert set(measures.delivered.values()) == {12}
    assert all(one.found for one in measures.look_ups)


def test_links_that_did_nothing_and_honest_nodes_that_are_shut_out_are_told() -> None:
    world = World(1, Puppet, LOSSY)
    world.at(world.now + 5, lambda: world.note(0, Blocked(node_id(1), -90.0, Millis(0))))
    broken = judge(world, world.now + 3, [Trust([node_id(1)]), LinksTook()])
    assert broken is not None
    assert broken.sentence == "no frame was lost, and 50 in 1,000 were to be"
    assert judge(world, world.now + 9, [Trust([node_id(2)])]) is None
    world.at(world.now, lambda: world.note(0, Blocked(node_id(1), -90.0, Millis(0))))
    broken = judge(world, world.now + 9, [Trust([node_id(1)])])
    assert broken is not None
    assert (broken.check, broken.node) == ("Trust", 0)


@pytest.mark.component
def test_one_command_is_one_trace_in_every_process(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("churn", "sybil-flood"):
        assert main(words(name)) == 0
        ours = json.loads(capsys.readouterr().out)
        for hash_seed in ("1", "2"):
            done = subprocess.run(
                [sys.executable, "-m", "netsim", *words(name)],
                check=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONHASHSEED": hash_seed},
                capture_output=True,
                text=True,
            )
            theirs = json.loads(done.stdout.splitlines()[-1])
            volatile = ("wall_s", "cpu_s", "events_per_s", "peak_mb")
            assert {k: v for k, v in theirs.items() if k not in volatile} == {
                k: v for k, v in ours.items() if k not in volatile
            }


def test_watching_a_run_leaves_no_trace() -> None:
    """The report's samples and the terminal's progress may be as frequent as one likes."""
    made, _ = play("bootstrap", nodes=6)
    minutes, options = small("bootstrap")
    what = recipe(named("bootstrap"), 6, 5, minutes, options, Plan())
    watched = stage(what)
    other = Measures(watched.world, watched.measures.begun)
    other.watch(777)
    assert judge(watched.world, watched.world.now + what.duration_ms, watched.checks) is None
    assert len(other.samples) > 1000
    assert watched.world.digest() == made.world.digest()


def test_a_scenario_of_ones_own_is_a_base_settings_and_faults(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        'base = "churn"\nnodes = 20\nminutes = 30\nseed = 4\n[options]\nrate = 50\n[[faults.crash]]\nnode = 1\nat = 5000\n'
        'torn = "half"\n[[faults.cut]]\nname = "x"\nat = 10\nsources = [1, 2]\ntargets = [3]\nfor_ms = 9\n'
        "[[faults.mass_restart]]\nat = 7\nshare = 100\ndown_ms = 8\n"
    )
    base, table, more = from_file(mine)
    assert base is SCENARIOS["churn"]
    assert table == {"base": "churn", "nodes": 20, "minutes": 30, "seed": 4, "options": {"rate": 50}}
    assert more.faults == (Crash(1, 5000, torn="half"), Cut("x", 10, (1, 2), (3,), 9), MassRestart(7, 100, 8))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nodes = ", "is not TOML"),
        ('base = "bootstrp"', "there is no scenario bootstrp: there are bootstrap, "),
        ("node = 3", "node is unknown; there are base, "),
        ('nodes = "ten"', "nodes is a whole number above 0"),
        ("minutes = 0", "minutes is a whole number above 0"),
        ("seed = 1.5", "seed is a whole number"),
        ("options = 3", "options are a table"),
        ("faults = 3", "faults are tables in double brackets"),
        ("[faults.crash]\nnode = 1\nat = 1", "faults are tables in double brackets"),
        ("[[faults.crash]]\nnode = 1", "lacks at"),
        ("[[faults.quake]]\nat = 1", "there is no fault"),
    ],
)
def test_a_scenario_that_cannot_be_read_is_refused_with_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(text)
    with pytest.raises((Unknown, Contradiction), match=sentence.replace("[", r"\[")):
        from_file(mine)


@pytest.mark.parametrize(
    ("name", "nodes", "minutes", "options", "sentence"),
    [
        ("bootstrap", 1, None, {}, "at least 2 nodes"),
        ("bootstrap", 9, None, {"rate": "5"}, "has no option rate; it has join_s=60"),
        ("churn", 9, None, {"rate": "²"}, "the option rate is a number, and ² is none"),
        ("bootstrap", 9, 13, {}, "takes 14 minutes at least"),
        ("partition", 9, 30, {}, "takes 36 minutes at least"),
        ("eclipse", 9, None, {"adversaries": "501"}, "at most 500"),
        ("lossy", 9, None, {"loss": "1001"}, "loss is 1001 thousandths: a share lies between 0 and 1000"),
    ],
)
def test_what_makes_no_sense_is_refused(
    name: str, nodes: int, minutes: int | None, options: dict[str, str], sentence: str
) -> None:
    with pytest.raises(Unknown, match=sentence):
        recipe(named(name), nodes, 1, minutes, options, Plan())


def test_a_plan_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(Contradiction, match="there is no node 9 among 9"):
        recipe(named("bootstrap"), 9, 1, None, {}, Plan((Crash(9, 1),)))
