"""Our world beside SimPy and a bare heap of events, on one toy protocol: what a simulator costs that does no more than it must.

The machines are the same objects everywhere (tests/netsim/toys.py): a tick a second, a question to another node and its
answer, ten rumours that each node passes on to three others; frames take 100 ms. In our world they travel over connections
that are dialled, in order, with every event hashed into the trace and every write kept; the others hand an event over after its delay and keep
the writes. So the difference is what our promises cost, and the heap is the least that anything in Python costs.
"""

import json
import resource
import sys
from collections.abc import Callable, Generator
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final

import simpy

from consensus.ids import Millis
from netsim.checks import judge
from netsim.tape import Recipe
from node.overlay.machine import Command, Event, Persist, Received, Send, SetTimer, TimerFired
from tests.bench.measure import answer_of, spread, table
from tests.netsim.toys import STEADY, Gossiper, Publish, gossip_world, gossipers, node_id

SEED: Final = 7
NODES: Final = (100, 1_000)
NODE_SECONDS: Final = 120_000
RUMOURS: Final = 10
Schedule = Callable[[int, int, Event], None]
"""So many ms from now, at that node, this event."""


class Toys:
    """The toys of one run, for an engine that does nothing but call them."""

    def __init__(self, nodes: int) -> None:
        make = gossipers(nodes)
        self.numbers = {node_id(index): index for index in range(nodes)}
        self.machines: list[Gossiper] = []
        for index in range(nodes):
            made = make(node_id(index), Random(SEED * nodes + index), {})
            assert isinstance(made, Gossiper)
            self.machines.append(made)
        self.kept: list[dict[Any, bytes]] = [{} for _ in range(nodes)]
        self.events = 0

    def begin(self, schedule: Schedule) -> None:
        """Start everybody, and have the rumours come."""
        for index, one in enumerate(self.machines):
            self._do(index, 0, one.start(Millis(0)), schedule)
        for number in range(RUMOURS):
            schedule(1_000 * number, number % len(self.machines), Command(0, Publish(number.to_bytes(8))))

    def handle(self, now: int, index: int, event: Event, schedule: Schedule) -> None:
        """Have an event handled, and what follows scheduled."""
        self.events += 1
        self._do(index, now, self.machines[index].handle(Millis(now), event), schedule)

    def _do(self, index: int, now: int, actions: Any, schedule: Schedule) -> None:
        me = self.machines[index].me
        for action in actions:
            match action:
                case Send(peer, channel, frame, exchange):
                    schedule(STEADY.latency_ms, self.numbers[peer], Received(me, channel, frame, -exchange))
                case SetTimer(key, at):
                    schedule(at - now, index, TimerFired(key))
                case Persist(name, key, value):
                    assert value is not None
                    self.kept[index][name, key] = value
                case _:
                    pass

    def known(self) -> int:
        """Rumours that all nodes together know."""
        return sum(len(one.known) for one in self.machines)


def on_heap(nodes: int, ms: int) -> Toys:
    """On a heap of tuples."""
    toys, agenda, order = Toys(nodes), list[tuple[int, int, int, Event]](), count()
    now = 0

    def schedule(delay: int, index: int, event: Event) -> None:
        heappush(agenda, (now + delay, next(order), index, event))

    toys.begin(schedule)
    while agenda and agenda[0][0] < ms:
        now, _, index, event = heappop(agenda)
        toys.handle(now, index, event, schedule)
    return toys


def on_callbacks(nodes: int, ms: int) -> Toys:
    """On SimPy's environment, a timeout with a callback for each event."""
    toys, env = Toys(nodes), simpy.Environment()

    def schedule(delay: int, index: int, event: Event) -> None:
        env.timeout(delay, (index, event)).callbacks.append(due)

    def due(timeout: Any) -> None:
        index, event = timeout.value
        toys.handle(int(env.now), index, event, schedule)

    toys.begin(schedule)
    env.run(until=ms)
    return toys


def on_processes(nodes: int, ms: int) -> Toys:
    """On SimPy as its manual has it: each node a process that takes what comes from a store of its own."""
    toys, env = Toys(nodes), simpy.Environment()
    boxes = [simpy.Store(env) for _ in range(nodes)]

    def schedule(delay: int, index: int, event: Event) -> None:
        def due(timeout: Any) -> None:
            boxes[index].put(timeout.value)

        env.timeout(delay, event).callbacks.append(due)

    def live(index: int) -> Generator[simpy.Event, Any, None]:
        while True:
            event: Event = yield boxes[index].get()
            toys.handle(int(env.now), index, event, schedule)

    for index in range(nodes):
        env.process(live(index))
    toys.begin(schedule)
    env.run(until=ms)
    return toys


def in_world(nodes: int, ms: int) -> tuple[int, int]:
    """In our world: events, and what all nodes know at the end."""
    world, _ = gossip_world(Recipe("gossip", SEED, nodes, ms), links=STEADY)
    judge(world, world.now + ms, ())
    return world.events, sum(len(node.machine.known) for node in world.nodes if isinstance(node.machine, Gossiper))


ENGINES: Final[dict[str, Callable[[int, int], Toys]]] = {
    "a bare heap": on_heap,
    "SimPy, callbacks": on_callbacks,
    "SimPy, processes": on_processes,
}
OURS: Final = "our world"


def measured(engine: str, nodes: int) -> dict[str, float]:
    """One run in this process."""
    ms = max(30, NODE_SECONDS // nodes) * 1_000
    began = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    if engine == OURS:
        events, known = in_world(nodes, ms)
    else:
        toys = ENGINES[engine](nodes, ms)
        events, known = toys.events, toys.known()
    spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime - began
    return {"events": events, "known": known, "rate": events / spent}


def main(folder: Path, rounds: int) -> dict[str, object]:
    """Measure and print, engines in turn in each round; raises RuntimeError where not all rumours came, or the others disagree."""
    rows, found = [("nodes", "engine", "events", "events/CPU-s", "beside ours")], {}
    for nodes in NODES:
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in (OURS, *ENGINES)}
        for _ in range(rounds):
            for name, done in runs.items():
                command = [sys.executable, "-P", "-m", "tests.bench.engines", name, str(nodes)]
                done.append(answer_of(command, cwd=folder))
        if {run["known"] for done in runs.values() for run in done} != {RUMOURS * nodes}:
            raise RuntimeError(f"{nodes} nodes: not everybody knows all rumours everywhere")
        if len({run["events"] for name in ENGINES for run in runs[name]}) > 1:
            raise RuntimeError(f"{nodes} nodes: one protocol had different events on the other engines")
        ours = [run["rate"] for run in runs[OURS]]
        for name, done in runs.items():
            rates = [run["rate"] for run in done]
            ratio = spread([one / own for one, own in zip(rates, ours, strict=True)])
            rows.append((f"{nodes:,}", name, f"{done[0]['events']:,.0f}", spread(rates, "{:,.0f}"), ratio))
            found[f"{name}, {nodes}"] = median(rates)
    table(rows)
    return dict(found)


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], int(sys.argv[2]))))
