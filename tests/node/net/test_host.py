"""The host's promises, on virtual time: what leaves, when, and in which order."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import trio
import trio.testing

from consensus.ancestry import key_of
from consensus.ids import Millis, NodeId
from node.net.clock import SteadyClock
from node.net.host import Host, Overrun, load
from node.net.swarm import Deliver
from node.overlay.machine import (
    Action,
    CancelTimer,
    Channel,
    ClockStepped,
    Command,
    Drop,
    Event,
    Finished,
    Noted,
    Persist,
    Received,
    Send,
    SetTimer,
    TimerFired,
)
from node.store import Delete, Put
from node.store.memory import MemoryStore

PEER = NodeId(bytes(32))
START = 1_700_000_000_000


class Fact(NamedTuple):
    name: str


def send(word: str) -> Send:
    return Send(PEER, Channel.LOGS, word.encode())


class Script:
    """A machine that does what a command's order says, `call` standing for its number; other events it logs."""

    def __init__(self, begin: Sequence[Action] = ()) -> None:
        self.begin = begin
        self.log: list[tuple[int, Event]] = []
        self.then: Callable[[Event], Sequence[Action]] = lambda _event: ()

    def start(self, now: Millis) -> Sequence[Action]:
        del now
        return self.begin

    def handle(self, now: Millis, event: Event) -> Sequence[Action]:
        if isinstance(event, Command):
            return [Finished(event.call, one.result) if isinstance(one, Finished) else one for one in event.order]  # type: ignore[attr-defined]
        self.log.append((now - START, event))
        return self.then(event)


class Sink:
    """A swarm that goes nowhere and writes down what it was given."""

    def __init__(self, journal: list[str]) -> None:
        self.journal = journal
        self.deliver: Deliver | None = None

    async def run(self, deliver: Deliver, *, task_status: trio.TaskStatus[tuple[bytes, ...]]) -> None:
        self.deliver = deliver
        task_status.started((b"here",))
        await trio.sleep_forever()

    def post(self, one: Send) -> None:
        self.journal.append("send " + one.frame.decode())

    def drop(self, peer: NodeId, reason: str) -> None:
        del peer
        self.journal.append("drop " + reason)


class SlowStore(MemoryStore):
    """A store whose commits wait until they are let go, and that writes down when each is durable."""

    def __init__(self, journal: list[str]) -> None:
        super().__init__()
        self.journal = journal
        self.gate: trio.Semaphore | None = None
        self.fails: Exception | None = None

    async def commit(self, ops: Sequence[Put | Delete]) -> int:
        if self.gate is not None:
            await self.gate.acquire()
        if self.fails is not None:
            raise self.fails
        number = await super().commit(ops)
        self.journal.append("durable " + " ".join(str(one.key[0]) for one in ops))
        return number


class Rig:
    def __init__(self, begin: Sequence[Action] = ()) -> None:
        self.journal: list[str] = []
        self.machine, self.sink, self.store = Script(begin), Sink(self.journal), SlowStore(self.journal)
        began = trio.current_time()
        self.wall = 0

        def passed() -> int:
            return round((trio.current_time() - began) * 1000)

        clock = SteadyClock(passed, lambda: START + passed() + self.wall)
        self.host = Host(self.machine, self.sink, self.store, clock)  # type: ignore[arg-type]
        self.host.on_fact(Fact, lambda fact: self.journal.append("fact " + fact.name))


async def test_nothing_leaves_before_what_its_step_persists_is_durable(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    rig = Rig()
    assert await nursery.start(rig.host.run) == (b"here",)
    rig.store.gate = trio.Semaphore(0)
    rig.host.tell([send("a"), Persist("logs", (1,), b"x"), Noted(Fact("b")), Drop(PEER, "c")])
    await trio.testing.wait_all_tasks_blocked()
    assert rig.journal == []
    rig.store.gate.release()
    await trio.testing.wait_all_tasks_blocked()
    assert rig.journal == ["durable 1", "send a", "fact b", "drop c"]
    assert await load(rig.store) == {("logs", (1,)): b"x"}


async def test_steps_leave_in_their_order_and_those_that_wait_share_a_commit(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    rig = Rig()
    await nursery.start(rig.host.run)
    rig.store.gate = trio.Semaphore(0)
    rig.host.tell([Persist("logs", (1,), b"x"), send("first")])
    await trio.testing.wait_all_tasks_blocked()
    rig.host.tell([send("second")])
    rig.host.tell([Persist("logs", (2,), b"x"), Persist("dht", (3,), b"x"), send("third")])
    rig.host.tell([Persist("logs", (2,), None), send("fourth")])
    rig.store.gate.release()
    rig.store.gate.release()
    await trio.testing.wait_all_tasks_blocked()
    assert rig.journal == ["durable 1", "send first", "durable 2 3", "send second", "send third", "send fourth"]
    assert await load(rig.store) == {("logs", (1,)): b"x", ("dht", (3,)): b"x"}
    rig.host.tell([send("fifth")])
    assert rig.journal[-1] == "send fifth", "with nothing to persist and nothing waiting it leaves at once"


async def test_blocks_are_read_at_a_start_only_while_they_are_in_no_order() -> None:
    store = MemoryStore()
    block = ("blocks", (b"a",))
    await store.commit([Put(*block, b"x"), Put("journal", ("signed",), b"j")])
    assert await load(store) == {block: b"x", ("journal", ("signed",)): b"j"}
    await store.commit([Put("branches", (b"a",), b"")])
    assert block not in await load(store)
    await store.commit(
        [Delete("branches", (b"a",)), Put("chain", (key_of(1),), b"a"), Put("snapshot", (b"last",), b"s")]
    )
    assert await load(store) == {("journal", ("signed",)): b"j"}


async def test_what_a_hearer_brings_on_comes_after_the_rest_of_the_step(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    rig = Rig()
    rig.host.on_fact(Fact, lambda fact: rig.host.tell([send("reply")]) if fact.name == "ask" else None)
    await nursery.start(rig.host.run)
    rig.host.tell([Noted(Fact("ask")), send("rest")])
    await trio.testing.wait_all_tasks_blocked()
    assert rig.journal == ["fact ask", "send rest", "send reply"]


async def test_who_asks_is_answered_when_it_is_durable_and_may_walk_away(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    rig = Rig()
    await nursery.start(rig.host.run)
    assert await rig.host.ask([Finished(0, "now")]) == "now"
    rig.store.gate = trio.Semaphore(0)
    with trio.move_on_after(1) as scope:
        await rig.host.ask([Persist("logs", (1,), b"x"), Finished(0, "late")])
    assert scope.cancelled_caught
    rig.store.gate.release()
    await trio.testing.wait_all_tasks_blocked()
    assert rig.journal == ["durable 1"]


async def test_timers_fire_by_name_when_they_are_due_and_only_the_last_of_a_name(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    rig = Rig([SetTimer(("a",), Millis(START + 700)), SetTimer(("b",), Millis(START + 800))])
    await nursery.start(rig.host.run)
    rig.host.tell(
        [SetTimer(("a",), Millis(START + 300)), SetTimer(("c",), Millis(START + 25_000)), CancelTimer(("b",))]
    )
    rig.host.tell([SetTimer(("past",), Millis(5))])
    await trio.sleep(40)
    assert [(at, event.key) for at, event in rig.machine.log if isinstance(event, TimerFired)] == [
        (0, ("past",)),
        (300, ("a",)),
        (25_000, ("c",)),
    ]


async def test_a_clock_that_is_set_is_told_and_moves_no_timer(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    rig = Rig([SetTimer(("a",), Millis(START + 60_000))])
    await nursery.start(rig.host.run)
    rig.wall = -3_600_000
    await trio.sleep(61)
    assert [event for _, event in rig.machine.log] == [ClockStepped(-3_600_000), TimerFired(("a",))]


async def test_events_reach_the_machine_only_while_it_runs(autojump_clock: trio.testing.MockClock) -> None:
    rig = Rig()
    event = Received(PEER, Channel.LOGS, b"hello")
    rig.host.deliver(event)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.host.run)
        assert rig.sink.deliver is not None
        rig.sink.deliver(event)
        nursery.cancel_scope.cancel()
    rig.host.deliver(event)
    assert [event for _, event in rig.machine.log] == [event]
    with pytest.raises(trio.ClosedResourceError):
        await rig.host.ask([Finished(0, None)])


async def test_what_was_decided_before_the_end_is_durable_after_it(autojump_clock: trio.testing.MockClock) -> None:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.host.run)
        rig.host.tell([Persist("logs", (1,), b"x")])
        nursery.cancel_scope.cancel()
    assert rig.journal == ["durable 1"]


@pytest.mark.parametrize("failure", [OSError("the disk is gone"), KeyError("a bug")])
async def test_a_disk_or_a_machine_that_fails_ends_the_host_and_nothing_leaves(
    failure: Exception, autojump_clock: trio.testing.MockClock
) -> None:
    rig = Rig()

    def raises(_event: Event) -> Sequence[Action]:
        raise failure

    rig.machine.then = raises
    with pytest.RaisesGroup(type(failure), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.host.run)
            if isinstance(failure, OSError):
                rig.store.fails = failure
                rig.host.tell([Persist("logs", (1,), b"x"), send("never")])
            else:
                rig.host.tell([SetTimer(("bad",), Millis(0))])
    assert rig.journal == []


async def test_a_disk_that_never_answers_is_given_up_before_memory_is(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.net.host.WAITING_MAX", 100)
    rig = Rig()
    await nursery.start(rig.host.run)
    rig.store.gate = trio.Semaphore(0)
    rig.host.tell([Persist("logs", (1,), b"x")])
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(Overrun):
        for _ in range(101):
            rig.host.tell([send("more")])
    rig.store.gate = None
    nursery.cancel_scope.cancel()
