"""A world of machines on virtual time: everything that happens follows from the seed, the link model and the plan.

The world does for each machine what the daemon's host does, and in the same order: it applies the actions of a step one
after the other, makes `Persist` durable before it releases a `Send`, keeps timers by name, posts and never awaits, dials
where there is no connection, numbers exchanges for both sides. `now` is the world's time in Unix milliseconds, seen
through the node's own clock (netsim.clocks).

What happens within one millisecond happens in the order in which it was scheduled. The trace digest is BLAKE3 over time,
node, kind of event, sender and frame of everything handled: two runs are the same run when it agrees.

A full disk stops a node in the step that persists, with none of that step's sends released (`Stopped`); a machine that
raises ends the whole run (`MachineRaised`). Everything else that may go wrong is in netsim.hazards.
"""

import gc
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from heapq import heappop
from typing import Any, Final, NamedTuple

from blake3 import blake3

from consensus.ids import Millis, NodeId
from netsim.agenda import Agenda, Entry
from netsim.circuits import Circuits, Pipe
from netsim.links import TOR, LinkModel
from netsim.nodes import Call, Life, Make, Node, Step
from netsim.seeds import derive
from node.overlay.machine import (
    Action,
    CancelTimer,
    ClockStepped,
    Command,
    Drop,
    Event,
    Failed,
    Finished,
    Noted,
    PeerLost,
    PeerUp,
    Persist,
    Received,
    Send,
    SetTimer,
    TimerFired,
)

EPOCH: Final = 1_767_225_600_000
"""Where worlds begin: 2026-01-01, 00:00 UTC."""

TRACE_EVENTS: Final = 1_024
"""Events that are hashed at a time: few enough that their frames are still in the processor's cache."""

STALE_MAX: Final = 500_000
"""Timers that were replaced and may wait in the agenda before it is pruned."""

COLLECTING: Final = (100_000, 50, 50)
"""How rarely Python looks for garbage in cycles while a world runs: what is in flight outlives its usual 700 allocations,
and looking through the machines of thousands of nodes again and again costs as much as running them."""

_KINDS: Final = {PeerUp: 1, PeerLost: 2, Failed: 3, ClockStepped: 4, Command: 5}
_STARTED: Final = 6
_new: Final = tuple.__new__


class Stopped(NamedTuple):
    """A node stopped by itself."""

    reason: str


class Started(NamedTuple):
    """A node was started, for the first time or again."""

    life: int


class MachineRaised(Exception):
    """A machine raised an exception, which no input may bring it to; the cause is the exception itself.

    Node -1 is the simulation: the world, a check or a measure.
    """

    def __init__(self, now: int, node: int, event: str, cause: BaseException) -> None:
        who = "the simulation" if node < 0 else f"node {node}"
        super().__init__(f"{who} raised {type(cause).__name__} in {event}: {cause}")
        self.now = now
        self.node = node


class World:
    """All nodes, the network between them, and time.

    make builds every machine unless `add` names another; cpu_ns is a clock such as time.perf_counter_ns when the processor
    time of each node is to be counted (a third slower); recorded are the nodes whose steps are kept whole.
    """

    def __init__(
        self,
        seed: int,
        make: Make,
        links: LinkModel = TOR,
        *,
        now: int = EPOCH,
        cpu_ns: Callable[[], int] | None = None,
        recorded: Iterable[int] = (),
    ) -> None:
        if wrong := links.complaints():
            raise ValueError("; ".join(wrong))
        self.seed = seed
        self.make = make
        self.links = links
        self.agenda = Agenda(now)
        self.nodes: list[Node] = []
        self.by_id: dict[NodeId, Node] = {}
        self.counts: Counter[str] = Counter()
        self.facts: Counter[type] = Counter()
        self.stopping = False
        self.circuits = Circuits(self.agenda, links, self.by_id, self.counts)
        self.recorded = frozenset(recorded)
        self._cpu_ns = cpu_ns
        self._watchers: dict[type, tuple[Callable[[int, int, Any], None], ...]] = {}
        self.stale = 0  # timers in the agenda that were replaced
        self._codes_hash = blake3()  # two, so that it does not matter when they are fed
        self._frames_hash = blake3()
        self._codes: list[int] = []
        self._frames: list[bytes] = []
        self._acting = -1  # who is being started
        self._others: Final[dict[type, Callable[[Node, Any], None]]] = {
            CancelTimer: self._cancel_timer,
            Drop: self._drop,
            Finished: self._finished,
            Persist: self._persist,
            Noted: self._noted,
        }

    # Asking

    @property
    def now(self) -> int:
        """The present, in Unix milliseconds."""
        return self.agenda.now

    @property
    def events(self) -> int:
        """How many events all nodes have handled."""
        return sum(node.events for node in self.nodes)

    def digest(self) -> str:
        """The trace digest so far, in hexadecimal."""
        codes, frames = self._codes_hash.copy(), self._frames_hash.copy()
        codes.update(array("q", self._codes).tobytes())
        frames.update(b"".join(self._frames))
        return blake3(codes.digest() + frames.digest()).hexdigest()

    # Setting up

    def add(self, node_id: NodeId, make: Make | None = None, at: int | None = None) -> Node:
        """One more node, started now or at a time."""
        if node_id in self.by_id:
            raise ValueError(f"node {node_id.hex()[:8]} is in the world already: give each its own id")
        node = Node(len(self.nodes), node_id, make or self.make, derive(self.seed, "net", node_id))
        self.nodes.append(node)
        self.by_id[node_id] = node
        if node.index in self.recorded:
            node.lives = []
        self.at(self.now if at is None else at, partial(self.start, node))
        return node

    def at(self, when: int, what: Callable[[], object]) -> None:
        """Call something at a time, after what is scheduled for it already; the past is now."""
        self.agenda.push(when, (None, what, None))

    def every(self, period: int, what: Callable[[], object], start: int | None = None) -> None:
        """Call something again and again, first at start or after one period."""
        if period <= 0:
            raise ValueError("a period is at least a millisecond")

        def again() -> None:
            what()
            self.at(self.now + period, again)

        self.at(self.now + period if start is None else start, again)

    def on_fact(self, kind: type, what: Callable[[int, int, Any], None]) -> None:
        """Call what(now, node index, fact) for every fact of a type that a machine notes, or the world about a node."""
        self._watchers[kind] = (*self._watchers.get(kind, ()), what)

    def command(self, index: int, order: object, then: Callable[[Call], None] | None = None) -> Call:
        """Give a node a command now; the handle holds the result in time, then `then` is called with it."""
        node = self.nodes[index]
        call = Call(index, self.now, then)
        if not node.up:
            self._lose(call)
            return call
        node.call += 1
        node.calls[node.call] = call
        self.agenda.push(self.now, (node, Command(node.call, order), node.life))
        return call

    def stop(self) -> None:
        """End `run` when the present millisecond is over."""
        self.stopping = True

    # Running

    def run(self, until: int) -> None:
        """Let happen what is due up to and including a time; raises MachineRaised.

        One long loop, because it is the hot path of every simulation: a call costs as much as all that is done here for
        one event. While a millisecond is worked off its bucket stays in the agenda, so what is added for now is met too.
        """
        agenda, codes, frames, apply = self.agenda, self._codes, self._frames, self._apply
        times, buckets = agenda.times, agenda.buckets
        self.stopping = False
        entry: Entry = (None, None, None)
        thresholds = gc.get_threshold()
        gc.set_threshold(*COLLECTING)
        try:
            while times and (now := times[0]) <= until and not self.stopping:
                agenda.now = now
                codes.append(-now)
                marked = len(codes)
                for entry in buckets[now]:
                    node, event, guard = entry
                    if node is None:
                        event()
                        continue
                    handle = node.handle
                    if handle is None:
                        self._miss(node, entry)
                        continue
                    kind = type(event)
                    if kind is Received:
                        if guard.fate:
                            self.counts["frames lost to a " + guard.fate] += 1
                            continue
                        if event[3] > 0 and (not (asked := guard.twin.asked) or asked.pop(event[3], None) is None):
                            self.counts["answers that nobody waits for"] += 1
                            continue
                        frame = event[2]
                        node.bytes_in += len(frame)
                        frames.append(frame)
                        codes.append(guard.code)
                    elif kind is TimerFired:
                        armed = node.armed
                        if armed.get(event[0]) is not entry:
                            continue
                        del armed[event[0]]
                        codes.append(node.code)
                    elif guard != node.life and not (type(guard) is Pipe and self.circuits.accept(guard)):
                        continue
                    else:
                        codes.append(node.code + _KINDS[kind])
                    node.events += 1
                    clock = node.clock
                    actions = handle(now if clock is None else clock.read(now), event)
                    if node.lives is not None:
                        node.lives[-1].steps.append(Step(node.now(now), event, tuple(actions)))
                    if actions:
                        apply(node, actions)
                del buckets[heappop(times)]
                if len(codes) == marked:  # nothing but calls, which may be a check's: looking leaves no trace
                    codes.pop()
                elif len(codes) >= TRACE_EVENTS:
                    self._hash_codes()
                    self.stale = agenda.prune(self.stale, STALE_MAX)
        except Exception as error:
            raise self._raised(error, entry) from error
        finally:
            gc.set_threshold(*thresholds)
        if not self.stopping:
            agenda.now = max(agenda.now, until)

    def _apply(self, node: Node, actions: Sequence[Action]) -> None:
        if node.disk_full and any(type(action) is Persist for action in actions):
            self.stop_node(node.index, "the disk is full")
            return
        pipes, post = node.pipes, self.circuits.post
        action: Any  # its exact type decides, which is faster than isinstance and says nothing to mypy
        for action in actions:
            kind = type(action)
            if kind is Send:
                pipe = pipes.get(action[0])
                if pipe is None:
                    self.circuits.dial_for(node, action)
                else:
                    post(pipe, action)
            elif kind is SetTimer:
                key, at = action
                entry = (node, _new(TimerFired, (key,)), at)
                armed = node.armed
                if key in armed:
                    self.stale += 1
                armed[key] = entry
                self.agenda.push(at if node.clock is None else node.clock.when(at), entry)
            else:
                self._others[kind](node, action)

    def _miss(self, node: Node, entry: Entry) -> None:
        """Keep what comes to a frozen node for later; what comes to one that is down is lost."""
        if node.frozen:
            node.backlog.append(entry)
        elif type(entry[1]) is Received:
            self.counts["frames lost to a crashed node"] += 1
        elif type(entry[2]) is Pipe:
            self.circuits.accept(entry[2])  # which refuses, and lets the other side find out

    def _raised(self, error: Exception, entry: Entry) -> MachineRaised:
        node, event, _ = entry
        if node is None:  # a call: a start, or something of ours or of a check's
            name = getattr(getattr(event, "func", event), "__qualname__", "a call")
            return MachineRaised(self.now, self._acting, name, error)
        return MachineRaised(self.now, node.index, type(event).__name__, error)

    def _hash_codes(self) -> None:
        self._codes_hash.update(array("q", self._codes).tobytes())
        self._frames_hash.update(b"".join(self._frames))
        self._codes.clear()
        self._frames.clear()

    # The other actions

    def _cancel_timer(self, node: Node, action: CancelTimer) -> None:
        if node.armed.pop(action.key, None) is not None:
            self.stale += 1

    def _drop(self, node: Node, action: Drop) -> None:
        self.counts["connections dropped"] += 1
        self.circuits.drop(node, action.peer)

    def _finished(self, node: Node, action: Finished) -> None:
        call = node.calls.pop(action.call, None)
        if call is None:
            self.counts["answers to no command"] += 1
            return
        call.answered, call.result = self.now, action.result
        if call.then is not None:
            call.then(call)

    def _persist(self, node: Node, action: Persist) -> None:
        key = (action.table, action.key)
        node.last_write = (key, node.records.get(key))
        if action.value is None:
            node.records.pop(key, None)
        else:
            node.records[key] = action.value

    def _noted(self, node: Node, action: Noted) -> None:
        self.note(node.index, action.fact)

    def note(self, index: int, fact: object) -> None:
        """Count a fact about a node, and tell those who watch for its type."""
        self.facts[type(fact)] += 1
        for watcher in self._watchers.get(type(fact), ()):
            watcher(self.now, index, fact)

    def _lose(self, call: Call) -> None:
        call.lost = True
        if call.then is not None:
            call.then(call)

    # The life of a node

    def start(self, node: Node) -> None:
        """Start a node that is not running, from its records."""
        if node.up:
            return
        node.life += 1
        if node.clock is not None:
            node.clock.boot(self.now)
        if node.lives is not None:
            node.lives.append(Life(node.life, dict(node.records), []))
        self._acting = node.index
        node.machine = node.make(node.id, derive(self.seed, "node", node.id, node.life), dict(node.records))
        self.attach(node)
        actions = node.machine.start(node.now(self.now))
        self._codes.append(node.code + _STARTED)
        if node.lives is not None:
            node.lives[-1].steps.append(Step(node.now(self.now), None, tuple(actions)))
        self._apply(node, actions)
        self._acting = -1
        self.note(node.index, Started(node.life))

    def stop_node(self, index: int, reason: str) -> None:
        """What a host does that cannot go on: end, and say why."""
        if self.nodes[index].up:
            self.end(self.nodes[index])
            self.counts["nodes that stopped"] += 1
            self.note(index, Stopped(reason))

    def end(self, node: Node) -> None:
        """Take everything from a node but its records and its clock."""
        self.circuits.crash(node)
        node.machine = node.handle = None
        node.frozen = False
        node.backlog = []
        node.armed = {}
        lost, node.calls = node.calls, {}
        for call in lost.values():
            self._lose(call)

    def attach(self, node: Node) -> None:
        """Let events reach the machine of a node."""
        assert node.machine is not None
        handle = node.machine.handle
        node.handle = handle if self._cpu_ns is None else partial(self._timed, node, handle, self._cpu_ns)

    @staticmethod
    def _timed(
        node: Node, handle: Callable[[Millis, Event], Any], cpu_ns: Callable[[], int], now: Millis, event: Event
    ) -> Any:
        begun = cpu_ns()
        actions = handle(now, event)
        node.cpu_ns += cpu_ns() - begun
        return actions
