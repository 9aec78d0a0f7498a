"""A world does for its machines what the daemon's host does, and the same again for the same seed."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from consensus.ids import Millis
from netsim.hazards import Crashed, crash, drift_clock, fill_disk, freeze, restart, step_clock
from netsim.links import LinkModel
from netsim.nodes import Call, Make
from netsim.world import MachineRaised, Started, Stopped, World
from node.overlay.machine import (
    Action,
    CancelTimer,
    Channel,
    ClockStepped,
    Command,
    Event,
    Finished,
    Noted,
    PeerLost,
    Persist,
    Rejected,
    Send,
    SetTimer,
    TimerFired,
)
from tests.netsim.toys import STEADY, Puppet, Stage, digest_of, node_id


def timer(at: int, name: str = "t") -> SetTimer:
    return SetTimer((name,), Millis(at))


def test_a_timer_set_again_fires_once_and_a_cancelled_one_never() -> None:
    stage = Stage(1)
    stage.act(0, timer(50), timer(90), timer(70, "u"), timer(60, "v"), CancelTimer(("v",)), CancelTimer(("none",)))
    stage.after(200)
    assert stage.puppet(0).events() == [TimerFired(("u",)), TimerFired(("t",))]
    assert [now for now, _ in stage.puppet(0).log] == [0, 70, 90]


def test_a_timer_in_the_past_fires_now_and_can_be_set_by_its_own_firing() -> None:
    class Again(Puppet):
        def handle(self, now: Millis, event: Event) -> Sequence[Action]:
            return [*super().handle(now, event), *([timer(now + 10)] if len(self.log) < 4 else [])]

    stage = Stage(1, make=Again)
    stage.after(100)
    stage.act(0, timer(5))
    stage.after(100)
    assert [now for now, _ in stage.puppet(0).log] == [
        100,
        110,
        120,
        130,
    ]  # the handler's own timer replaced the past one


def test_commands_are_answered_through_their_handle() -> None:
    stage = Stage(2)
    answers: list[Call] = []
    call = stage.world.command(0, (Finished(1, "done"), Finished(9, "nobody asked")), answers.append)
    unanswered = stage.world.command(0, ())
    stage.after(1)
    assert (call.answered, call.result, call.lost, answers) == (0, "done", False, [call])
    assert unanswered.answered is None
    crash(stage.world, 0)
    assert unanswered.lost
    assert stage.world.command(0, ()).lost
    assert stage.world.counts["answers to no command"] == 1


def test_facts_reach_those_who_watch_their_type() -> None:
    stage, seen = Stage(2), []
    stage.world.on_fact(Rejected, lambda now, node, fact: seen.append((now, node, fact)))
    stage.after(5)
    fact = Rejected(node_id(0), "so")
    stage.act(1, Noted(fact), Noted("another kind"))
    stage.after(1)
    assert seen == [(5, 1, fact)]
    assert stage.world.facts == {Started: 2, Rejected: 1, str: 1}


def test_a_crash_loses_all_but_what_was_persisted() -> None:
    stage = Stage(2)
    stage.connect(0, 1)
    one, two, three = (Persist("t", (n, b"k"), bytes([n]) * 8) for n in range(3))
    stage.act(0, one, two, three, timer(10_000), two._replace(value=None))
    stage.after(1)
    before = stage.puppet(0)
    crash(stage.world, 0)
    crash(stage.world, 0)  # it is down already: nothing
    stage.after(1000)
    restart(stage.world, 0)
    after = stage.puppet(0)
    assert after is not before
    assert after.records == {("t", (0, b"k")): bytes(8), ("t", (2, b"k")): b"\x02" * 8}
    assert after.draw != before.draw
    stage.after(20_000)
    assert after.log == []  # neither its timer nor its connection outlived it
    assert stage.puppet(1).events() == [PeerLost(node_id(0))]
    assert (stage.world.counts["crashes"], stage.world.counts["restarts"]) == (1, 1)
    assert stage.world.facts[Crashed] == 1


@pytest.mark.parametrize(
    ("torn", "kept"), [("", b"new value"), ("lost", b"old"), ("half", b"new "), ("half of nothing", b"old")]
)
def test_a_torn_write_is_the_last_one(torn: str, kept: bytes) -> None:
    stage = Stage(1)
    stage.act(0, Persist("t", (1,), b"first"), Persist("t", (2,), b"old"))
    stage.act(0, Persist("t", (2,), b"new value" if torn != "half of nothing" else None))
    stage.after(1)
    crash(stage.world, 0, torn.partition(" ")[0])
    restart(stage.world, 0)
    assert stage.puppet(0).records.pop(("t", (1,))) == b"first"
    assert stage.puppet(0).records == {("t", (2,)): kept}


def test_a_full_disk_stops_the_node_before_it_sends() -> None:
    stage, stopped = Stage(2), []
    stage.world.on_fact(Stopped, lambda _now, node, fact: stopped.append((node, fact)))
    stage.connect(0, 1)
    fill_disk(stage.world, 0, full=True)
    stage.send(0, 1, b"needs no disk")
    stage.act(0, Send(node_id(1), Channel.GOSSIP, b"before it is durable"), Persist("t", (1,), b"v"))
    stage.after(1000)
    assert stopped == [(0, Stopped("the disk is full"))]
    assert stage.puppet(1).frames() == [b"needs no disk"]
    assert not stage.world.nodes[0].up
    fill_disk(stage.world, 0, full=False)
    restart(stage.world, 0)
    stage.act(0, Persist("t", (1,), b"v"))
    stage.after(1)
    assert stage.world.nodes[0].records == {("t", (1,)): b"v"}


def test_a_frozen_node_handles_its_backlog_afterwards_in_order() -> None:
    stage = Stage(2)
    stage.connect(0, 1)
    begin = stage.world.now
    stage.act(1, timer(begin + 500), timer(begin + 200, "u"))
    stage.after(1)
    freeze(stage.world, 1, 10_000)
    for number in range(3):
        stage.send(0, 1, bytes([number]))
        stage.after(1000)
    stage.act(1, CancelTimer(("t",)))
    stage.after(6000)
    assert len(stage.puppet(1).log) == 1
    stage.after(2000)
    thawed = [(now - begin, event) for now, event in stage.puppet(1).log[1:]]
    assert {now for now, _ in thawed} == {10_001}
    assert [type(event).__name__ for _, event in thawed] == [
        "Received", "TimerFired", "TimerFired", "Received", "Received", "Command"
    ]  # fmt: skip


def test_who_is_frozen_for_too_long_is_taken_for_dead() -> None:
    stage = Stage(2)
    stage.connect(0, 1)
    freeze(stage.world, 1, 60_000)
    stage.after(STEADY.dead_after_ms)
    assert stage.puppet(0).events() == [PeerLost(node_id(1))]
    assert stage.puppet(1).events() == []
    stage.after(60_000)
    assert stage.puppet(1).events() == [PeerLost(node_id(0))]


def test_a_stepped_clock_is_told_slewed_and_keeps_its_timers() -> None:
    stage = Stage(1)
    stage.after(1000)
    stage.act(0, timer(2000), timer(130_000, "late"))
    step_clock(stage.world, 0, 10_000)
    stage.after(300_000)
    log = stage.puppet(0).log
    assert [event for _, event in log if not isinstance(event, Command)] == [
        ClockStepped(10_000), TimerFired(("t",)), TimerFired(("late",))
    ]  # fmt: skip
    assert [now for now, _ in log[-2:]] == [2001, 130_000]  # at a tenth faster, no millisecond shows 2000
    assert stage.world.nodes[0].now(301_000) == 311_000


def test_a_drifting_clock_moves_its_timers_in_the_worlds_time() -> None:
    stage, fired = Stage(1), []
    drift_clock(stage.world, 0, 100_000)
    stage.act(0, timer(1100))
    stage.world.at(999, lambda: fired.append(len(stage.puppet(0).log)))
    stage.world.at(1001, lambda: fired.append(len(stage.puppet(0).log)))
    stage.after(2000)
    assert fired == [1, 2]
    assert stage.puppet(0).log[-1] == (1100, TimerFired(("t",)))


def test_a_machine_that_raises_ends_the_run_with_its_name() -> None:
    class Faulty(Puppet):
        def handle(self, now: Millis, event: Event) -> Sequence[Action]:
            raise KeyError("missing")

    stage = Stage(3, make=Faulty)
    stage.after(10)
    stage.act(2)
    with pytest.raises(MachineRaised, match="node 2 raised KeyError in Command: 'missing'") as caught:
        stage.after(10)
    assert (caught.value.node, caught.value.now) == (2, 10)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_machine_that_raises_at_its_start_and_a_call_that_raises_are_told_apart() -> None:
    class Stillborn(Puppet):
        def start(self, now: Millis) -> Sequence[Action]:
            raise KeyError("missing")

    with pytest.raises(MachineRaised, match=r"node 0 raised KeyError in World.start: 'missing'"):
        Stage(1, make=Stillborn)
    stage = Stage(1)
    stage.world.at(5, lambda: dict[str, int]()["nothing"])
    with pytest.raises(MachineRaised, match=r"the simulation raised KeyError in .*lambda.*: 'nothing'") as caught:
        stage.after(10)
    assert caught.value.node == -1


def test_each_generator_depends_on_the_seed_and_its_purpose_alone() -> None:
    few, many, other = Stage(2), Stage(9), Stage(2, seed=2)
    assert [few.puppet(i).draw for i in (0, 1)] == [many.puppet(i).draw for i in (0, 1)]
    assert len({many.puppet(i).draw for i in range(9)}) == 9
    assert few.puppet(0).draw != other.puppet(0).draw


def test_the_same_seed_is_the_same_run_and_another_is_another() -> None:
    assert digest_of(1) == digest_of(1)
    assert digest_of(1) != digest_of(2)


def test_the_trace_tells_frames_senders_and_times_apart() -> None:
    def digest(frame: bytes, sender: int, wait: int) -> str:
        stage = Stage(3)
        for index in (0, 1):
            stage.connect(index, 2)
        stage.after(wait)
        stage.send(sender, 2, frame)
        stage.send(0, 1, b"")
        stage.after(2000 - wait)
        return stage.world.digest()

    runs = [digest(b"a", 0, 0), digest(b"b", 0, 0), digest(b"a", 1, 0), digest(b"a", 0, 1)]
    assert len(set(runs)) == 4
    assert digest(b"a", 0, 0) == runs[0]


def test_looking_at_a_run_does_not_change_it() -> None:
    def run(make: Make, *, looked_at: bool) -> str:
        clock = iter(range(10**9))
        world = World(3, make, now=0, cpu_ns=clock.__next__ if looked_at else None, recorded=range(5 * looked_at))
        for index in range(5):
            world.add(node_id(index))
        if looked_at:
            world.every(7, world.digest)
        for index in range(50):
            world.at(index * 300, lambda i=index: world.command(i % 5, (Send(node_id(i % 3), Channel.DHT, b"x"),)))  # type: ignore[misc]
        world.run(60_000)
        if looked_at:
            assert [node.cpu_ns for node in world.nodes] == [node.events for node in world.nodes]
            assert all(node.lives and len(node.lives[0].steps) == node.events + 1 for node in world.nodes)
        return world.digest()

    assert run(Puppet, looked_at=True) == run(Puppet, looked_at=False)


def test_a_world_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="set lossy"):
        World(1, Puppet, LinkModel(loss=5))
    stage = Stage(1)
    with pytest.raises(ValueError, match="own id"):
        stage.world.add(node_id(0))
    with pytest.raises(ValueError, match="a millisecond"):
        stage.world.every(0, print)


def test_traffic_and_events_are_counted_for_each_node() -> None:
    stage = Stage(2, replace(STEADY, life_ms=0))
    stage.connect(0, 1)
    before = [node.events for node in stage.world.nodes]
    for _ in range(3):
        stage.send(0, 1, bytes(100))
    stage.after(1000)
    one, two = stage.world.nodes
    assert (one.bytes_out, two.bytes_in, one.bytes_in, two.bytes_out) == (300, 300, 0, 0)
    assert (one.events - before[0], two.events - before[1]) == (3, 3)
    assert stage.world.events == one.events + two.events
