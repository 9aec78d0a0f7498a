"""A broken run can be seen again: from its recipe, from its tape, and with fewer faults."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.ids import Millis
from netsim.checks import Broken, Check
from netsim.faults import Churn, Crash, Cut, Fault, Plan, Restart
from netsim.tape import (
    Build,
    Diverged,
    Recipe,
    Refused,
    Tape,
    capture,
    code_digest,
    perform,
    read,
    replay,
    replay_life,
    shrink,
    write,
)
from netsim.world import World
from node.overlay.machine import Action, Event, TimerFired
from tests.netsim.toys import Gossiper, Heard, Publish, gossip_world, gossipers

PLAN = Plan(
    (Crash(2, 30_000, 20_000, "half"), Cut("x", 4000, (0, 1), (3,), 30_000), Churn(0, 60_000, 9000, 9000, (4,)))
)
RECIPE = Recipe("gossip", 5, 6, 200_000, (("flavour", "plain"), ("fanout", 3)), PLAN)


class Forgetful:
    """The rumour of which nobody may hear twice, and node 1 is told twice."""

    def watch(self, world: World, report: object) -> None:
        assert callable(report)
        heard: dict[tuple[int, bytes], None] = {}

        def hear(_now: int, node: int, fact: Heard) -> None:
            if (node, fact.rumour) in heard:
                report(node, f"heard {fact.rumour.hex()} again")
            heard[node, fact.rumour] = None

        world.on_fact(Heard, hear)

    def end(self, world: World, report: object) -> None:
        pass


def build(recipe: Recipe, recorded: Iterable[int]) -> tuple[World, Sequence[Check]]:
    """A crash with a torn write makes its node hear a rumour twice, which is what breaks here."""
    world, checks = gossip_world(recipe, recorded)
    return world, [*checks, Forgetful()]


@pytest.fixture(scope="module")
def tape() -> Tape:
    plan = Plan(tuple(replace(f, torn="lost") if isinstance(f, Crash) else f for f in PLAN.faults))
    recipe = replace(RECIPE, plan=plan)
    world, broken = perform(recipe, build)
    assert broken is not None
    assert (broken.check, broken.node) == ("Forgetful", 2)
    return capture(recipe, build, broken, world.digest())


def test_a_tape_survives_its_file_and_replays_exactly(tape: Tape, tmp_path: Path) -> None:
    write(tmp_path / "tape", tape)
    again = read(tmp_path / "tape", [Publish])
    assert again == tape
    assert replay(again, build).now == tape.broken.now
    header = json.loads((tmp_path / "tape").read_bytes().partition(b"\n")[0])
    assert (header["scenario"], header["seed"], header["node"], header["code"]) == ("gossip", 5, 2, code_digest())


def test_the_recorded_lives_replay_to_the_same_actions_in_a_new_machine(tape: Tape) -> None:
    ((node_id, lives),) = tape.lives
    assert [life.number for life in lives] == [1, 2]
    assert lives[1].records
    assert all(len(life.moments) > 5 for life in lives)
    for life in lives:
        assert replay_life(life, node_id, tape.recipe.seed, gossipers(6)) is None


def test_the_first_step_that_comes_out_otherwise_is_found(tape: Tape) -> None:
    class Changed:
        def __init__(self, machine: Gossiper) -> None:
            self.start = machine.start
            self.machine = machine
            self.ticks = 0

        def handle(self, now: Millis, event: Event) -> Sequence[Action]:
            self.ticks += isinstance(event, TimerFired)
            actions = self.machine.handle(now, event)
            return actions if self.ticks < 3 else actions[:-1]

    ((node_id, lives),) = tape.lives
    ticks = [number for number, moment in enumerate(lives[0].moments) if isinstance(moment.event, TimerFired)]
    assert replay_life(lives[0], node_id, tape.recipe.seed, gossipers(6, Changed)) == ticks[2]
    assert replay_life(lives[0], node_id, tape.recipe.seed + 1, gossipers(6)) == 0


def test_a_run_that_depends_on_more_than_its_recipe_is_noticed(tape: Tape) -> None:
    runs = iter(range(100))

    def unsteady(recipe: Recipe, recorded: Iterable[int]) -> tuple[World, Sequence[Check]]:
        return build(replace(recipe, seed=recipe.seed + next(runs)), recorded)

    replay(tape, unsteady)
    with pytest.raises(Diverged, match="heard"):
        replay(tape, unsteady)
    with pytest.raises(Diverged):
        capture(tape.recipe, build, tape.broken, "another digest")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda data: data.replace(b'"lucid_tape": 1', b'"lucid_tape": 2', 1),
            "a tape of version 2 and this code reads 1",
        ),
        (
            lambda data: re.sub(b'"commit": "[^"]*"', b'"commit": ""', data, count=1).replace(
                code_digest().encode(), bytes(64).hex()[:64].encode(), 1
            ),
            "made by other code (00000000)",
        ),
        (
            lambda data: re.sub(
                b'"code": "[^"]*", "commit": "[^"]*"', b'"code": "00", "commit": "abc1234"', data, count=1
            ),
            "made by other code (00, commit abc1234): check out abc1234, or run",
        ),
        (
            lambda data: re.sub(
                b'"code": "[^"]*", "commit": "[^"]*"', b'"code": "00", "commit": "abc1234+"', data, count=1
            ),
            "made by other code (00, commit abc1234+): check that out, or run",
        ),
        (
            lambda data: re.sub(b'"code": "[^"]*", "commit": "[^"]*"', b'"code": "00"', data, count=1),
            "made by other code (00): check that out, or run",
        ),
        (lambda data: b"not a tape", "tape is not a tape"),
        (lambda data: b"[]\n" + data, "tape is not a tape"),
        (lambda data: data[:-1], "tape is damaged"),
        (lambda data: data.replace(b"Publish", b"Perform"), "name its class among the orders"),
    ],
)
def test_a_tape_that_cannot_be_used_is_refused_with_a_sentence(
    tape: Tape, tmp_path: Path, spoil: object, sentence: str
) -> None:
    assert callable(spoil)
    write(tmp_path / "tape", tape)
    whole = (tmp_path / "tape").read_bytes()
    spoilt = spoil(whole)
    assert spoilt != whole
    (tmp_path / "tape").write_bytes(spoilt)
    with pytest.raises(Refused) as caught:
        read(tmp_path / "tape", [Publish])
    assert sentence in str(caught.value)


def test_a_run_that_breaks_for_the_whole_network_has_no_lives() -> None:
    deaf: Build = gossip_world
    recipe = replace(RECIPE, plan=Plan((Crash(2, 3000),)), duration_ms=250_000)
    world, broken = perform(recipe, deaf)
    assert broken is not None
    assert broken == Broken("Converges", world.now, -1, broken.sentence)
    assert capture(recipe, deaf, broken, world.digest()).lives == ()


CRASHES: list[Fault] = [Crash(node, 10 * node) for node in range(16)]


@given(st.sets(st.integers(0, 15), min_size=1, max_size=4))
def test_shrinking_leaves_exactly_the_faults_that_matter(guilty: set[int]) -> None:
    tried: list[Plan] = []

    def fails(plan: Plan) -> bool:
        tried.append(plan)
        return guilty <= {fault.node for fault in plan.faults if isinstance(fault, Crash)}

    small, runs = shrink(Plan(tuple(CRASHES)), 16, fails)
    assert small == Plan(tuple(CRASHES[node] for node in sorted(guilty)))
    assert runs == len(tried) < 120


def test_shrinking_keeps_its_budget_and_tries_no_contradiction() -> None:
    faults = [fault for node in range(8) for fault in (Crash(node, 1), Restart(node, 2))]

    def fails(plan: Plan) -> bool:
        restarted = {fault.node for fault in plan.faults if isinstance(fault, Restart)}
        assert restarted <= {fault.node for fault in plan.faults if isinstance(fault, Crash)}
        return 3 in restarted

    assert shrink(Plan(tuple(faults)), 8, fails)[0] == Plan((Crash(3, 1), Restart(3, 2)))
    partly, runs = shrink(Plan(tuple(faults)), 8, fails, runs_max=2)
    assert runs == 2
    assert 2 < len(partly.faults) < 16
