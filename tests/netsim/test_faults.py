"""Faults are data: read, checked for contradictions, expanded, and then they really happen."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netsim.faults import (
    KINDS,
    Churn,
    Contradiction,
    Crash,
    Cut,
    DriftClock,
    Fault,
    Freeze,
    FullDisk,
    Gone,
    Heal,
    MassRestart,
    Plan,
    Restart,
    StepClock,
    apply,
    complaints,
    described,
    expand,
    parse,
)
from tests.examples import examples
from tests.netsim.toys import Stage, digest_of

NODES = 6

TOML = """
[[crash]]
node = 3
at = 10_000
down_ms = 60_000
torn = "half"

[[cut]]
name = "atlantic"
at = 5
sources = [0, 1]
targets = [2]

[[heal]]
name = "atlantic"
at = 9_000
"""


def test_a_fault_is_described_by_its_kind_and_its_fields() -> None:
    assert described(Freeze(2, 100_000, 5_000)) == "freeze: node = 2, at = 100000, for_ms = 5000"
    assert described(Cut("a", 7, (0,), (1, 2))) == "cut: name = a, at = 7, sources = [0], targets = [1, 2], for_ms = 0"


def test_a_plan_is_read_from_toml() -> None:
    assert parse(TOML) == Plan(
        (Crash(3, 10_000, 60_000, "half"), Cut("atlantic", 5, (0, 1), (2,)), Heal("atlantic", 9_000))
    )
    assert parse("") == Plan()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[crash]", "the plan is not TOML"),
        ("[[meteor]]", "there is no fault [[meteor]]"),
        ("[crash]\nnode = 1", "in double brackets"),
        ("[[crash]]\nnode = 1", "[[crash]] lacks at"),
        ("[[crash]]\nnode = 1\nat = 1\nwhy = 1", "[[crash]] has no field why"),
        ("[[crash]]\nnode = 1.5\nat = 1", "[[crash]] node is a whole number"),
        ("[[crash]]\nnode = true\nat = 1", "[[crash]] node is a whole number"),
        ("[[heal]]\nname = 1\nat = 1", "[[heal]] name is text"),
        ("[[gone]]\nnodes = 1\nat = 1", "[[gone]] nodes is a list"),
    ],
)
def test_what_is_no_plan_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(Contradiction) as caught:
        parse(text)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("faults", "sentence"),
    [
        ([Crash(6, 0)], "there is no node 6 among 6"),
        ([Crash(-1, 0)], "there is no node -1"),
        ([Crash(0, -5)], "a time before the beginning"),
        ([Crash(0, 0, -1)], "a negative time"),
        ([Crash(0, 0, torn="twice")], "torn is"),
        ([Crash(0, 0), Crash(0, 5)], "node 0 is down then"),
        ([Crash(0, 0, 10), Crash(0, 9)], "node 0 is down then"),
        ([Restart(0, 5)], "node 0 is not down then"),
        ([Crash(0, 5), Restart(0, 4)], "node 0 is not down then"),
        ([Crash(0, 5, 10), Restart(0, 20)], "node 0 is not down then"),
        ([Gone((0, 1), 3), Freeze(1, 4, 10)], "node 1 is down then"),
        ([Gone((), 3)], "nobody is named"),
        ([Freeze(0, 0, 0)], "frozen for no time"),
        ([FullDisk(0, 0, -1)], "a negative time"),
        ([StepClock(0, 0, 0)], "a step of 0"),
        ([DriftClock(0, 0, 600_000)], "no clock drifts"),
        ([MassRestart(0, 1001, 5)], "between 1 and 1000"),
        ([Churn(5, 5, 1, 1)], "until comes after"),
        ([Churn(0, 50, 10, 10), Crash(0, 20)], "node 0 is churned then"),
        ([Heal("x", 3), Cut("x", 4, (0,), (1,))], "there is no cut x to heal"),
        ([Cut("x", 4, (0,), (1,), 10), Heal("x", 20)], "there is no cut x to heal"),
        ([Cut("x", 4, (0,), (1,)), Cut("x", 5, (0,), (1,))], "there is a cut x already"),
        ([Cut("x", 4, (), (1,))], "name a node at least"),
    ],
)
def test_a_contradiction_is_rejected_with_a_sentence(faults: list[Fault], sentence: str) -> None:
    assert sentence in "; ".join(complaints(Plan(tuple(faults)), NODES))
    stage = Stage(NODES)
    with pytest.raises(Contradiction):
        apply(stage.world, Plan(tuple(faults)))


@pytest.mark.parametrize(
    "faults",
    [
        [Crash(0, 5), Restart(0, 6), Crash(0, 7, 3), Crash(0, 10)],
        [Restart(0, 6), Crash(0, 5)],
        [FullDisk(0, 1), Restart(0, 50)],
        [Cut("x", 4, (0,), (1,), 6), Cut("x", 10, (0,), (1,)), Heal("x", 11), Cut("y", 4, (0,), (1,))],
        [Churn(0, 50, 10, 10, (1, 2)), Crash(0, 20), Crash(1, 60)],
    ],
)
def test_what_only_looks_like_a_contradiction_is_accepted(faults: list[Fault]) -> None:
    assert complaints(Plan(tuple(faults)), NODES) == []


def test_expansion_is_fixed_by_the_seed_and_each_fault_by_itself() -> None:
    churn, mass = Churn(0, 3_600_000, 600_000, 60_000), MassRestart(50, 500, 10, 5)
    plan = expand(Plan((churn, mass)), 1, 100)
    assert plan == expand(Plan((churn, mass)), 1, 100) != expand(Plan((churn, mass)), 2, 100)
    crashes = [fault for fault in plan.faults if isinstance(fault, Crash)]
    assert plan.faults == (*expand(Plan((churn,)), 1, 100).faults, *expand(Plan((mass,)), 1, 100).faults)
    assert all(0 < crash.at < churn.until and crash.at + crash.down_ms <= churn.until for crash in crashes[:-50])
    assert 400 < len(crashes) - 50 < 650  # an hour of 11-minute rounds, times a hundred
    assert len({crash.node for crash in crashes[-50:]}) == 50
    assert all(50 <= crash.at <= 55 and crash.down_ms == 10 for crash in crashes[-50:])
    assert expand(Plan((Gone((1, 2), 7),)), 1, 100).faults == (Crash(1, 7), Crash(2, 7))


def test_the_end_of_a_plan_is_when_its_last_fault_is_over() -> None:
    ends: list[tuple[Fault, int]] = [
        (Crash(0, 5, 6), 11),
        (Freeze(0, 5, 7), 12),
        (Cut("x", 5, (0,), (1,), 8), 13),
        (MassRestart(5, 1, 2, 7), 14),
        (Churn(5, 15, 1, 1), 15),
        (Gone((0,), 16), 16),
    ]
    assert [Plan((fault,)).end for fault, _ in ends] == [end for _, end in ends]
    assert Plan(tuple(fault for fault, _ in ends)).end == 16
    assert Plan().end == 0


def test_every_fault_happens_when_it_should() -> None:
    faults: list[Fault] = [
        Crash(0, 100, 50), Crash(1, 100), Restart(1, 200), Freeze(2, 100, 100), FullDisk(3, 100, 100),
        StepClock(4, 100, 1000), DriftClock(5, 100, 1000), Cut("x", 100, (0,), (1,), 100), Cut("y", 100, (1,), (0,)),
        Heal("y", 200), MassRestart(300, 1000, 50), Churn(1000, 100_000, 5000, 5000), Gone((0,), 200_000),
    ]  # fmt: skip
    assert {type(fault) for fault in faults} == set(KINDS.values())
    stage = Stage(NODES)
    apply(stage.world, Plan(tuple(faults)))
    nodes, circuits = stage.world.nodes, stage.world.circuits

    def state() -> tuple[list[int], bool, bool, bool, list[str]]:
        up = [node.index for node in nodes if node.up]
        return up, nodes[2].frozen, nodes[3].disk_full, nodes[4].clock is not None, sorted(circuits.cuts)

    told = []
    for until in (99, 100, 150, 200, 320, 350):
        stage.world.run(until)
        told.append(state())
    everyone = list(range(NODES))
    assert told == [
        (everyone, False, False, False, []),
        ([2, 3, 4, 5], True, True, True, ["x", "y"]),
        ([0, 2, 3, 4, 5], True, True, True, ["x", "y"]),
        (everyone, False, False, True, []),
        ([], False, False, True, []),
        (everyone, False, False, True, []),
    ]
    stage.world.run(150_000)
    assert [node.up for node in nodes] == [True] * NODES
    assert min(node.life for node in nodes) > 4
    stage.world.run(200_000)
    assert not nodes[0].up


NODE, AT = st.integers(0, NODES - 1), st.integers(0, 50_000)
GROUP = st.lists(NODE, min_size=1, max_size=3).map(tuple)
FAULT = st.one_of(
    st.builds(Crash, NODE, AT, st.integers(0, 30_000), st.sampled_from(["", "lost", "half"])),
    st.builds(Restart, NODE, AT),
    st.builds(Freeze, NODE, AT, st.integers(1, 90_000)),
    st.builds(FullDisk, NODE, AT, st.integers(0, 30_000)),
    st.builds(StepClock, NODE, AT, st.integers(-100_000, 100_000)),
    st.builds(DriftClock, NODE, AT, st.integers(-500_000, 500_000)),
    st.builds(MassRestart, AT, st.integers(1, 1000), st.integers(1, 30_000), st.integers(0, 5000)),
    st.builds(Gone, GROUP, AT),
    st.builds(Churn, AT, AT.map(lambda at: at + 50_000), st.integers(1000, 60_000), st.integers(1000, 60_000), GROUP),
    st.builds(Cut, st.sampled_from("ab"), AT, GROUP, GROUP, st.integers(0, 60_000)),
    st.builds(Heal, st.sampled_from("ab"), AT),
)


def possible(faults: list[Fault]) -> Plan:
    """The faults that do not contradict those before them."""
    plan = Plan()
    for fault in faults:
        if not complaints(longer := replace(plan, faults=(*plan.faults, fault)), NODES):
            plan = longer
    return plan


@given(st.lists(FAULT, max_size=10), st.integers(0, 2**40))
@settings(max_examples=examples(25))
def test_no_plan_makes_a_world_raise_or_two_runs_differ(faults: list[Fault], seed: int) -> None:
    plan = possible(faults)
    assert digest_of(seed, NODES, plan) == digest_of(seed, NODES, plan)
