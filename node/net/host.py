"""Runs one machine in trio: events in, actions done, callers answered.

    swarm ── event ─→ ┐                          ┌─→ timers (at once)
    timer ──────────→ ├─ machine.handle(now, …) ─┤
    ask, tell ──────→ ┘                          └─→ release queue: Persist made durable, then Send, Finished, facts

A step is atomic: it runs between two checkpoints, in whatever task brought the event. What it wants done in the world
leaves in the order of the steps, and nothing of a step leaves before all that it and earlier steps persist is durable;
while one commit is being written, the steps that follow gather for the next (group commit). A step that persists nothing
while nothing waits is released at once. So a crash at any point is a crash before or after a step, never within.

A machine that raises has been asked something its author did not foresee and may be in any state: the exception ends the
host, and the daemon with it, whose next start reads the journal. A disk that takes no more ends it likewise.

Source: DESIGN §3; findings/style.md §4.3.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import Any, Final

import trio

from consensus.ancestry import key_of
from consensus.ids import Millis
from node.net.clock import SteadyClock
from node.net.swarm import Swarm
from node.overlay.machine import (
    Action,
    CancelTimer,
    ClockStepped,
    Command,
    Drop,
    Event,
    Finished,
    Machine,
    Noted,
    Persist,
    Send,
    SetTimer,
    TimerFired,
    TimerKey,
)
from node.store import Delete, Key, Put, Store

TABLES: Final = ("branches", "claims", "dht", "journal", "logs", "replicas", "statements")
"""What is read whole at a start; of the chain, whose tables grow for ever, rows are read as they are needed."""
"""The tables that the overlay's machines persist to."""

CLOCK_MS: Final = 10_000
"""How often the wall clock is looked at; also how late a timer may be after the machine slept."""

WAITING_MAX: Final = 1 << 16
"""Actions that wait for the disk before the host gives up on it."""

Hear = Callable[[Any], None]


class Overrun(Exception):
    """The disk is so slow that what waits for it does not fit into memory any more."""


async def load(store: Store) -> dict[tuple[str, Key], bytes]:
    """What machines persisted in earlier lives, for their constructors."""
    rows = {(table, key): value for table in TABLES async for key, value in store.scan(table)}
    if all(table != "branches" for table, _ in rows) and store.peek("chain", (key_of(1),)) is None:
        # A node of an earlier release, whose blocks are in no order as yet, or one that has none.
        rows |= {("blocks", key): value async for key, value in store.scan("blocks")}
    return rows


class Host:
    """The host of one machine. `facts` takes each fact that the machine notes, by its type."""

    def __init__(self, machine: Machine, swarm: Swarm, store: Store, clock: SteadyClock) -> None:
        self.machine, self._swarm, self._store, self.clock = machine, swarm, store, clock
        self._handlers: dict[type, tuple[Hear, ...]] = {}
        self._timers: list[tuple[Millis, int, TimerKey]] = []
        self._armed: dict[TimerKey, int] = {}
        self._serial = 0
        self._sooner = trio.Event()
        self._next = Millis(0)
        self._queue: deque[Action] = deque()
        self._unsaved = 0  # Persist actions in the queue
        self._busy = False  # writing to the store, or releasing
        self._queued = trio.Event()
        self._call = 0
        self._answers: dict[int, Callable[[object], None]] = {}
        self.running = False
        self.steps = 0

    def on_fact(self, kind: type, hear: Hear) -> None:
        """Have every fact of exactly this type told, after what was persisted with it is durable."""
        self._handlers[kind] = (*self._handlers.get(kind, ()), hear)

    async def run(self, *, task_status: trio.TaskStatus[tuple[bytes, ...]] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; starts with the addresses under which we are met, once the machine has begun.

        What was decided before the end is made durable even then. Raises what the machine, the store or the swarm raise.
        """
        try:
            async with trio.open_nursery() as nursery:
                self.running = True
                nursery.start_soon(self._release)
                addresses = await nursery.start(self._carry)
                nursery.start_soon(self._watch_timers)
                nursery.start_soon(self._watch_clock)
                self.step(self.machine.start)
                task_status.started(addresses)
        finally:
            self.running = False
            with trio.CancelScope(shield=True), trio.move_on_after(2):
                await self._save()

    @property
    def waiting(self) -> int:
        """Actions that wait until the store has what they follow from."""
        return len(self._queue)

    # Steps

    def deliver(self, event: Event) -> None:
        """Have the machine handle an event now."""
        if self.running:
            self._apply(self.machine.handle(self.clock.now(), event))

    def step(self, call: Callable[[Millis], Sequence[Action]]) -> None:
        """Have a method of the machine that is no event's, such as its start, called and its actions done."""
        self._apply(call(self.clock.now()))

    def tell(self, order: object) -> None:
        """Give the machine a command that has no answer, or whose answer nobody needs."""
        self._call += 1
        self.deliver(Command(self._call, order))

    async def ask(self, order: object) -> Any:
        """Give the machine a command and wait for its answer, which is durable then."""
        if not self.running:
            raise trio.ClosedResourceError("the host does not run")
        self._call += 1
        call = self._call
        found: list[object] = []
        answered = trio.Event()

        def take(result: object) -> None:
            found.append(result)
            answered.set()

        self._answers[call] = take
        try:
            self.deliver(Command(call, order))
            await answered.wait()
        finally:
            self._answers.pop(call, None)
        return found[0]

    def _apply(self, actions: Sequence[Action]) -> None:
        self.steps += 1
        for action in actions:
            match action:
                case SetTimer(key, at):
                    self._set_timer(key, at)
                case CancelTimer(key):
                    self._armed.pop(key, None)
                case _:
                    self._unsaved += type(action) is Persist
                    self._queue.append(action)
        if self._busy:
            if len(self._queue) > WAITING_MAX:
                raise Overrun("more waits for the disk than may wait: it is too slow; check it, or what else loads it")
        elif self._unsaved:
            self._queued.set()
        else:
            self._drain(len(self._queue))

    def _do(self, action: Action) -> None:
        match action:
            case Send():
                self._swarm.post(action)
            case Drop(peer, reason):
                self._swarm.drop(peer, reason)
            case Noted(fact):
                for hear in self._handlers.get(type(fact), ()):
                    hear(fact)
            case Finished(call, result):
                take = self._answers.pop(call, None)
                if take is not None:
                    take(result)
            case Persist() | SetTimer() | CancelTimer():
                raise AssertionError(f"{action!r} is not released, it is done before")

    # Release: Persist first

    async def _release(self) -> None:
        while True:
            await self._queued.wait()
            self._queued = trio.Event()
            await self._save()

    async def _save(self) -> None:
        """Make durable what waits to be, and then release what waited for it, in order."""
        while self._queue:
            count = len(self._queue)
            if changes := _changes(self._queue):
                self._busy = True
                try:
                    await self._store.commit(changes)
                finally:
                    self._busy = False
            self._drain(count)

    def _drain(self, count: int) -> None:
        """Release so many actions, all of which may leave; what they lead to in hearers queues behind them."""
        self._busy = True
        try:
            for _ in range(count):
                action = self._queue.popleft()
                if type(action) is Persist:
                    self._unsaved -= 1
                else:
                    self._do(action)
        finally:
            self._busy = False
        if self._queue:
            self._queued.set()

    # Timers

    def _set_timer(self, key: TimerKey, at: Millis) -> None:
        self._serial += 1
        self._armed[key] = self._serial
        heappush(self._timers, (at, self._serial, key))
        if at < self._next:
            self._sooner.set()
        if len(self._timers) > 4096 and len(self._timers) > 4 * len(self._armed):
            self._timers = [one for one in self._timers if self._armed.get(one[2]) == one[1]]
            self._timers.sort()

    async def _watch_timers(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            now = self.clock.now()
            while self._timers and self._timers[0][0] <= now:
                _, serial, key = heappop(self._timers)
                if self._armed.get(key) == serial:
                    del self._armed[key]
                    self.deliver(TimerFired(key))
            self._sooner = trio.Event()
            wait_ms = CLOCK_MS
            if self._timers:
                wait_ms = min(wait_ms, max(1, self._timers[0][0] - now))
            self._next = Millis(now + wait_ms)
            with trio.move_on_after(wait_ms / 1000):
                await self._sooner.wait()

    async def _watch_clock(self) -> None:
        while True:
            await trio.sleep(CLOCK_MS / 1000)
            if delta := self.clock.stepped():
                self.deliver(ClockStepped(delta))

    async def _carry(self, *, task_status: trio.TaskStatus[tuple[bytes, ...]]) -> None:
        await self._swarm.run(self.deliver, task_status=task_status)


def _changes(actions: Iterable[Action]) -> list[Put | Delete]:
    """The last word on each row, in the order of first words."""
    rows: dict[tuple[str, Key], bytes | None] = {}
    for action in actions:
        if type(action) is Persist:
            rows[action.table, action.key] = action.value
    return [Delete(table, key) if value is None else Put(table, key, value) for (table, key), value in rows.items()]
