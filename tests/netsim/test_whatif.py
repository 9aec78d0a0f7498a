"""What an operator describes and what is answered: the file's mistakes, the arithmetic, and the whole command."""

import json
import tomllib
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsim import whatif_report
from netsim.__main__ import main
from netsim.census import YEAR_MS, closed_form
from netsim.faults import Plan
from netsim.population import lifetime_ms
from netsim.scenarios import SCENARIOS, Unknown, named, recipe
from netsim.whatif import WHOLE, Described, example, lost_by_formula, parts, read

SMALL = "nodes = 10\nsessions = 60\ndeparture = 20\n"


def test_the_example_says_what_stands_for_a_line_that_is_left_out() -> None:
    assert tomllib.loads(example()) == asdict(Described())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nodes = 9", "nodes is 9: a whole number from 10 to 100,000"),
        ('nodes = "many"', "nodes is 'many'"),
        ("nodes = 50.5", "nodes is 50.5"),
        ("departure = true", "departure is True"),
        ("availabilty = 95", "availabilty is unknown; there are nodes"),
        ('leader_rule = "lottery"', "leader_rule is 'lottery': sortition, rank, bands"),
        ("slot_timeout_ms = 8000", "from 1,000 to 7,400"),
        ("challenge_hours = 20", "two challenges have to fit into the 24 of repair_hours"),
        ("nodes 9", "is not TOML"),
        ("nodes = 9\nreplicas = 9", "replicas is 9"),
    ],
)
def test_a_file_that_describes_no_network_is_refused_with_every_mistake(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "n.toml"
    file.write_text(text)
    with pytest.raises(Unknown) as caught:
        read(file)
    assert says in str(caught.value)


def test_who_repairs_soon_and_says_no_more_challenges_soon(tmp_path: Path) -> None:
    file = tmp_path / "n.toml"
    for hours, every in ((2, 1), (4, 2), (6, 3), (24, 3)):
        file.write_text(f"repair_hours = {hours}\n")
        assert read(file).challenge_hours == every


@given(
    st.builds(
        Described,
        nodes=st.integers(10, 100_000),
        availability=st.integers(50, 100),
        departure=st.integers(0, 90),
        slot_timeout_ms=st.integers(1_000, 7_400),
        repair_hours=st.integers(2, 720),
        leader_rule=st.sampled_from(["sortition", "rank", "bands"]),
    ),
    st.booleans(),
)
def test_each_network_that_can_be_described_makes_runs_that_can_be_run(network: Described, whole: bool) -> None:
    for part in parts(network, whole=whole):
        scenario, words = part.words[0], part.words[1:]
        given_options = dict(word.split("=") for word in words[words.index("--option") + 1 :: 2])
        made = recipe(named(scenario), part.nodes, 1, int(words[3]), given_options, Plan())
        assert made.nodes == (network.nodes if whole else min(network.nodes, WHOLE[part.name]))


@given(st.integers(1, 90), st.floats(1, 100))
def test_with_three_copies_the_formula_is_the_one_of_the_durability_runs(departure: int, hours: float) -> None:
    mean_ms = lifetime_ms(departure)
    assert mean_ms is not None
    found = lost_by_formula(Described(departure=departure), hours)
    assert found == pytest.approx(closed_form(mean_ms, hours * 3_600_000))
    fewer = lost_by_formula(Described(departure=departure, replicas=2), hours)
    assert found / fewer == pytest.approx(1.5 * hours * 3_600_000 / mean_ms)


def test_nobody_departs_and_nothing_is_lost() -> None:
    assert lost_by_formula(Described(departure=0), 24) == 0.0


def test_a_node_stores_what_closes_while_it_is_kept() -> None:
    network = Described(sessions=100, session_mb=1_000, replicas=3, kept_days=1)
    assert network.stored_gb == 72  # each node closes a session an hour, and 24 of them, of a GB each, are kept thrice
    assert replace(network, kept_days=10).stored_gb == 720


@pytest.mark.component
def test_the_command_answers_with_confidence_and_says_what_is_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "n.toml").write_text(
        SMALL + "replicas = 2\ndisk_gb = 1\nline_kb_s = 1\nkept_days = 30\nrepair_hours = 48\nchallenge_hours = 16\n"
    )
    assert main(["what-if", str(tmp_path / "n.toml"), "--seeds", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    found = {one["name"]: one for one in told["answers"]}
    lost = found["chunks lost, by formula"]
    repair_h = found["time to a new copy"]["value"]["mean"]
    mean_ms = lifetime_ms(20)
    assert mean_ms is not None
    assert lost["value"]["mean"] == pytest.approx(2 * YEAR_MS / mean_ms * repair_h * 3_600_000 / mean_ms, rel=1e-3)
    assert "above 0.001" in lost["verdict"]
    assert "chunks lost" not in found  # what runs has three copies, and says nothing of two
    assert "above the 1 GB" in found["disk of replicas and the chain"]["verdict"]
    moved = [one["value"]["mean"] for name, one in found.items() if name.startswith("traffic of")]
    assert len(moved) == 5
    assert found["traffic in all"]["value"]["mean"] == pytest.approx(sum(moved))
    kb_s = found["traffic in all, in the mean"]
    assert kb_s["value"]["mean"] == pytest.approx(sum(moved) * 1e6 / (365 * 86_400))
    assert kb_s["verdict"] == "above the 1 kB/s of its line"
    assert all(one["value"]["seeds"] <= 2 and one["value"]["low"] >= 0 for one in told["answers"])
    assert found["finality behind"]["value"]["mean"] <= 3
    assert {part["name"] for part in told["parts"]} == WHOLE.keys()
    assert all(len(set(part["digests"])) == 2 for part in told["parts"])
    page = whatif_report.write(tmp_path / "out", told).read_text()
    assert json.loads((tmp_path / "out" / "what-if.json").read_text()) == told
    assert "Short of what is asked" in page
    assert all(command in page for part in told["parts"] for command in part["commands"])


def test_the_command_refuses_what_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["what-if"]) == 2
    assert "--example" in capsys.readouterr().err
    assert main(["what-if", str(tmp_path / "none.toml")]) == 3
    (tmp_path / "n.toml").write_bytes(b"\xff\xfe")
    assert main(["what-if", str(tmp_path / "n.toml")]) == 2
    assert main(["what-if", "--example"]) == 0
    assert tomllib.loads(capsys.readouterr().out) == asdict(Described())


def test_each_part_is_a_scenario_that_there_is() -> None:
    assert {part.words[0] for part in parts(Described(), whole=False)} <= SCENARIOS.keys()
