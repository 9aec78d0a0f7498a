"""Each check says so when its invariant is broken, and says nothing when it is not."""

from collections.abc import Callable, Sequence

import pytest

from consensus.ids import Millis
from netsim.checks import Bounded, Broken, Check, Converges, FaultsTook, TimeForward, judge, running
from netsim.faults import Crash, Cut, Plan, apply
from netsim.hazards import crash, step_clock
from netsim.world import World
from node.overlay.machine import Action, Event, Machine
from tests.netsim.toys import Puppet, Stage


def kept(machine: Machine) -> int:
    assert isinstance(machine, Puppet)
    return len(machine.log)


def growing(events: int) -> Stage:
    stage = Stage(2)
    for number in range(events):
        stage.world.at(number * 10, lambda: stage.act(1))
    return stage


def test_growth_beyond_a_limit_is_told_at_the_first_look_after_it() -> None:
    check = Bounded("remembered events", kept, limit=10, every_ms=25)
    broken = judge(growing(20).world, 1000, [check])
    assert broken == Broken("Bounded", 125, 1, "remembered events: 13 are kept, and 10 is the limit")


def test_growth_within_the_limit_is_measured_and_not_told() -> None:
    check = Bounded("remembered events", kept, limit=10, every_ms=25)
    assert judge(growing(10).world, 1000, [check]) is None
    assert check.largest == 10


def test_time_that_goes_back_is_told_but_not_when_a_node_was_restarted() -> None:
    stage = Stage(1)
    stage.world.at(50, lambda: step_clock(stage.world, 0, -60_000))
    assert judge(stage.world, 100, [TimeForward(10)]) is None
    stage.world.at(150, lambda: crash(stage.world, 0))
    stage.world.at(160, lambda: stage.world.start(stage.world.nodes[0]))
    assert judge(stage.world, 300, [TimeForward(10)]) is None
    assert stage.world.nodes[0].now(stage.world.now) < 0

    def turn_back() -> None:
        clock = stage.world.nodes[0].clock
        assert clock is not None
        clock.node0 -= 1000

    stage.world.at(350, turn_back)
    broken = judge(stage.world, 400, [TimeForward(10)])
    assert broken is not None
    assert (broken.check, broken.now, broken.node) == ("TimeForward", 350, 0)


def test_a_planned_fault_that_never_happened_is_told() -> None:
    plan = Plan((Crash(0, 500),))
    for until, happened in ((499, False), (500, True)):
        stage = Stage(2)
        apply(stage.world, plan)
        broken = judge(stage.world, until, [FaultsTook(plan)])
        assert (broken is None) == happened
        assert broken is None or broken.sentence == "crashes were planned, and none happened"


def test_a_cut_that_nothing_met_is_told() -> None:
    plan = Plan((Cut("x", 100, (0,), (1,)),))
    for talk in (False, True):
        stage = Stage(2)
        apply(stage.world, plan)
        if talk:
            stage.world.at(200, lambda: stage.send(0, 1, b"x"))  # noqa: B023 - called before the next one is made
        broken = judge(stage.world, 5000, [FaultsTook(plan)])
        assert (broken is None) == talk


@pytest.mark.parametrize(
    ("reached", "until", "sentence"),
    [
        (lambda now: now >= 1500, 3000, None),
        (lambda now: now >= 2000, 3000, None),
        (lambda now: now >= 2001, 3000, "the goal was not reached 1000 ms after the last fault"),
        (lambda now: now < 1500, 3000, "the goal held from 1000 on, and does no longer"),
        (lambda now: now < 1500, 1400, "the run ended 600 ms before the goal was due"),
        (lambda now: now < 500 or now >= 1800, 3000, None),  # what holds during the faults is nobody's business
    ],
)
def test_a_goal_is_due_a_bound_after_the_faults_and_must_be_kept(
    reached: Callable[[int], bool], until: int, sentence: str | None
) -> None:
    check = Converges("the goal", lambda world: reached(world.now), after=1000, within_ms=1000, every_ms=100)
    broken = judge(Stage(1).world, until, [check])
    assert (broken and broken.sentence) == sentence


def test_an_exception_out_of_a_machine_is_always_broken() -> None:
    class Faulty(Puppet):
        def handle(self, now: Millis, event: Event) -> Sequence[Action]:
            raise ZeroDivisionError

    stage = Stage(2, make=Faulty)
    stage.world.at(70, lambda: stage.act(1))
    broken = judge(stage.world, 1000, [])
    assert broken is not None
    assert (broken.check, broken.now, broken.node) == ("MachineRaised", 70, 1)


def test_the_first_broken_invariant_ends_the_run_with_its_millisecond() -> None:
    class Told(Check):
        def __init__(self, at: int) -> None:
            self.at = at

        def watch(self, world: World, report: Callable[[int, str], None]) -> None:
            world.at(self.at, lambda: report(0, f"at {self.at}"))

        def end(self, world: World, report: Callable[[int, str], None]) -> None:
            raise AssertionError("a run that broke has no end")

    stage = Stage(1)
    broken = judge(stage.world, 1000, [Told(300), Told(200), Told(201)])
    assert broken == Broken("Told", 200, 0, "at 200")
    assert stage.world.now == 200


def test_running_nodes_are_those_that_are_up() -> None:
    stage = Stage(3)
    crash(stage.world, 1)
    assert [node.index for node in running(stage.world)] == [0, 2]
