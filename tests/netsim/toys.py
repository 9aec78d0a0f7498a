"""Machines that are small enough to see through, and the worlds that run them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import NamedTuple

from consensus.ids import Millis, NodeId
from netsim.checks import Check, Converges
from netsim.faults import Plan, apply
from netsim.links import TOR, LinkModel
from netsim.nodes import Make
from netsim.tape import Recipe
from netsim.world import World
from node.overlay.machine import (
    Action,
    Channel,
    Command,
    Event,
    Finished,
    Machine,
    Noted,
    Persist,
    Received,
    Rejected,
    Send,
    SetTimer,
    TimerFired,
)

STEADY = LinkModel(
    latency_ms=100, spread=0, jitter=0, dial_ms=1000, dial_spread=0, dial_failures=0, life_ms=0, silent=0
)
"""A network without chance: 100 ms there, 1 s to dial, nothing breaks by itself."""

Given = Mapping[tuple[str, tuple[int | str | bytes, ...]], bytes]


def node_id(index: int) -> NodeId:
    return NodeId(index.to_bytes(32))


class Puppet:
    """Does what a command tells it, a tuple of actions, and remembers everything that happens to it."""

    def __init__(self, me: NodeId, rng: Random, records: Given) -> None:
        self.me = me
        self.draw = rng.random()
        self.records = dict(records)
        self.log: list[tuple[int, Event]] = []

    def start(self, now: Millis) -> Sequence[Action]:
        return []

    def handle(self, now: Millis, event: Event) -> Sequence[Action]:
        self.log.append((now, event))
        return event.order if isinstance(event, Command) and isinstance(event.order, tuple) else ()

    def events(self) -> list[Event]:
        return [event for _, event in self.log if not isinstance(event, Command)]

    def frames(self) -> list[bytes]:
        return [event.frame for _, event in self.log if isinstance(event, Received)]


class Stage:
    """A world of puppets, and short names for what tests do to it."""

    def __init__(self, nodes: int, links: LinkModel = STEADY, seed: int = 1, make: Make = Puppet) -> None:
        self.world = World(seed, make, links, now=0)
        for index in range(nodes):
            self.world.add(node_id(index))
        self.world.run(0)

    def puppet(self, index: int) -> Puppet:
        machine = self.world.nodes[index].machine
        assert isinstance(machine, Puppet)
        return machine

    def act(self, index: int, *actions: Action) -> None:
        self.world.command(index, actions)

    def send(self, index: int, peer: int, frame: bytes, exchange: int = 0) -> None:
        self.act(index, Send(node_id(peer), Channel.GOSSIP, frame, exchange))

    def after(self, ms: int) -> None:
        self.world.run(self.world.now + ms)

    def connect(self, index: int, peer: int) -> None:
        self.send(index, peer, b"")
        self.after(2000)
        for one in (index, peer):
            self.puppet(one).log.clear()


class Publish(NamedTuple):
    """A command to a Gossiper."""

    rumour: bytes


class Heard(NamedTuple):
    """A fact of a Gossiper's."""

    rumour: bytes


class Gossiper:
    """Spreads rumours to three others, keeps them durably, and asks one other a second for those it lacks."""

    ids: Sequence[NodeId] = ()

    def __init__(self, me: NodeId, rng: Random, records: Given) -> None:
        self.me = me
        self.rng = rng
        self.known = {bytes(key[0]): None for _, key in records if isinstance(key[0], bytes)}
        self.exchange = 0

    def start(self, now: Millis) -> Sequence[Action]:
        return [SetTimer(("tick",), Millis(now + self.rng.randrange(1000)))]

    def handle(self, now: Millis, event: Event) -> Sequence[Action]:
        match event:
            case Received(_, Channel.GOSSIP, rumour):
                return self.learn(rumour)
            case Received(peer, Channel.LOGS, frame, exchange) if exchange < 0:
                theirs = {frame[i : i + 8] for i in range(0, len(frame), 8)}
                missing = [rumour for rumour in self.known if rumour not in theirs]
                return [Send(peer, Channel.LOGS, b"".join(missing[:4]), exchange)]
            case Received(_, Channel.LOGS, frame):
                return [action for i in range(0, len(frame), 8) for action in self.learn(frame[i : i + 8])]
            case TimerFired(("tick",)):
                self.exchange += 1
                peer = self.other()
                return [
                    SetTimer(("tick",), Millis(now + 1000)),
                    Send(peer, Channel.LOGS, b"".join(self.known), self.exchange),
                ]
            case Command(call, Publish(rumour)):
                return [*self.learn(rumour), Finished(call, len(self.known))]
            case Received(peer):
                return [Noted(Rejected(peer, "not a channel of mine"))]
            case _:
                return []

    def other(self) -> NodeId:
        while (peer := self.rng.choice(self.ids)) == self.me:
            pass
        return peer

    def learn(self, rumour: bytes) -> list[Action]:
        if rumour in self.known:
            return []
        self.known[rumour] = None
        actions: list[Action] = [Persist("rumours", (rumour,), b"\x01"), Noted(Heard(rumour))]
        return actions + [Send(self.other(), Channel.GOSSIP, rumour) for _ in range(3)]


def gossipers(nodes: int, wrap: Callable[[Gossiper], Machine] = lambda machine: machine) -> Make:
    ids = [node_id(index) for index in range(nodes)]

    def make(me: NodeId, rng: Random, records: Given) -> Machine:
        machine = Gossiper(me, rng, records)
        machine.ids = ids
        return wrap(machine)

    return make


def all_know(world: World) -> bool:
    known = [len(node.machine.known) for node in world.nodes if isinstance(node.machine, Gossiper)]
    return len(known) == len(world.nodes) and min(known) == max(known)


def gossip_world(
    recipe: Recipe,
    recorded: Iterable[int] = (),
    *,
    links: LinkModel = TOR,
    wrap: Callable[[Gossiper], Machine] = lambda machine: machine,
) -> tuple[World, Sequence[Check]]:
    """A rumour a second for ten seconds, each from another node, under the recipe's plan."""
    world = World(recipe.seed, gossipers(recipe.nodes, wrap), links, recorded=recorded)
    for index in range(recipe.nodes):
        world.add(node_id(index))
    for index in range(10):
        rumour = index.to_bytes(8)
        world.at(world.now + 1000 * index, lambda i=index, r=rumour: world.command(i % recipe.nodes, Publish(r)))  # type: ignore[misc]
    expanded = apply(world, recipe.plan) if recipe.plan.faults else recipe.plan
    healed = world.now + max(expanded.end, 10_000)
    return world, [Converges("everybody knows the same", all_know, healed, 120_000, 1000)]


def digest_of(seed: int, nodes: int = 12, plan: Plan | None = None, duration_ms: int = 60_000) -> str:
    world, _ = gossip_world(Recipe("gossip", seed, nodes, duration_ms, plan=plan or Plan()))
    world.run(world.now + duration_ms)
    return f"{world.digest()} {world.events} {sorted(world.counts.items())}"
