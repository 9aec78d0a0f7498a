"""What a run measures: deliveries, look-ups, connections, traffic; collected from facts and from a look every so often.

A *message* is a directory entry that a node appends while the run goes on. Gossip pushes it, anti-entropy brings it to
whom gossip missed, so each is to reach every node that is up; its latency at a node is from the append to being held.
"""

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from consensus.ids import Digest, Millis, NodeId
from netsim.nodes import Call, Node
from netsim.seeds import derive
from netsim.world import World
from node.overlay.calls import FindNode, FindProviders, LookedUp, NodesFound, Provide, ProvidersFound
from node.overlay.entries import LogName
from node.overlay.logs import Learned
from node.overlay.machine import Rejected
from node.overlay.peer import Peer
from node.overlay.pen import Append

ENTRY_LIFE_MS: Final = 7 * 86_400_000
LATENCY_STEP_MS: Final = 50


@dataclass(frozen=True, slots=True)
class Sample:
    """The network at a moment; means over the nodes that are up."""

    at_s: float
    up: int
    connections: float
    contacts: float
    directory: float
    entries: int
    """Directory entries that exist: each node that wrote has one, its newest."""
    events: int
    bytes_in: int


@dataclass(frozen=True, slots=True)
class LookUp:
    """One look-up of a node that was up."""

    at_s: float
    found: bool
    hops: int
    queries: int
    ms: int


@dataclass(frozen=True, slots=True)
class Load:
    """What the run cost one node; rates over the whole run, time in which it was down included."""

    node: int
    up: bool
    events: int
    bytes_in_per_s: float
    bytes_out_per_s: float
    cpu_ms_per_hour: float
    """Processor time in its machine for each virtual hour, encoding and decoding included; 0 where it was not counted."""
    connections: int
    contacts: int


@dataclass
class Measures:
    """Everything that a run's report is made of."""

    world: World
    begun: int
    target: NodeId | None = None
    """The node that adversaries are after, whose look-ups are counted apart."""
    samples: list[Sample] = field(default_factory=list)
    look_ups: list[LookUp] = field(default_factory=list)
    look_ups_lost: int = 0
    sought: list[LookUp] = field(default_factory=list)
    """Look-ups of the target alone."""
    sent: dict[Digest, int] = field(default_factory=dict)
    writers: dict[int, None] = field(default_factory=dict)
    """Nodes that wrote an entry."""
    latencies: Counter[int] = field(default_factory=Counter)
    """How many deliveries took so many LATENCY_STEP_MS."""
    delivered: Counter[Digest] = field(default_factory=Counter)
    rejections: Counter[str] = field(default_factory=Counter)
    routines: Counter[str] = field(default_factory=Counter)

    def watch(self, every_ms: int) -> None:
        """Begin to measure."""
        world = self.world
        world.on_fact(Learned, self._learned)
        world.on_fact(Rejected, lambda _now, _node, fact: self.rejections.update([fact.reason]))
        world.on_fact(LookedUp, lambda _now, _node, fact: self.routines.update([fact.kind]))
        world.every(every_ms, self.sample)

    def sample(self) -> None:
        """Look at all nodes."""
        world = self.world
        peers = [node.machine for node in world.nodes if isinstance(node.machine, Peer)]
        up = max(1, len(peers))
        self.samples.append(
            Sample(
                (world.now - self.begun) / 1000,
                len(peers),
                sum(len(peer.connected) for peer in peers) / up,
                sum(len(peer.dht.table) for peer in peers) / up,
                sum(len(peer.logs.directory.authors) for peer in peers) / up,
                len(self.writers),
                world.events,
                sum(node.bytes_in for node in world.nodes),
            )
        )

    def _learned(self, now: int, _node: int, fact: Any) -> None:
        sent = self.sent.get(fact.item.digest)
        if sent is not None:
            self.latencies[(now - sent) // LATENCY_STEP_MS] += 1
            self.delivered[fact.item.digest] += 1

    def send(self, index: int, body: bytes) -> None:
        """Have a node append a directory entry, as one message."""
        world = self.world
        began = world.now

        def done(call: Call) -> None:
            if isinstance(call.result, bytes):
                digest = Digest(call.result)
                self.sent[digest] = began
                self.writers[index] = None
                self.delivered[digest] += 1

        world.command(index, Append(LogName.DIRECTORY, body, Millis(world.now + ENTRY_LIFE_MS)), done)

    def honest(self) -> list[Node]:
        """The nodes that are up and no adversaries: who is asked, and asked about."""
        return [node for node in self.world.nodes if isinstance(node.machine, Peer)]

    def look_up(self, index: int, target: NodeId, into: list[LookUp]) -> None:
        """Have a node look another one up."""
        world = self.world

        def done(call: Call) -> None:
            match call.result:
                case NodesFound(found=found, effort=effort):
                    at = (world.now - self.begun) / 1000
                    into.append(LookUp(at, found, effort.hops, effort.queries, effort.ms))
                case _:
                    self.look_ups_lost += 1

        world.command(index, FindNode(target), done)

    # Work for the nodes

    def messages(self, count: int, start: int, spread_ms: int, *, senders: list[int] | None = None) -> None:
        """Schedule so many messages between a time and spread_ms later, from random nodes that are up, or from these."""
        draw = derive(self.world.seed, "messages")
        for number in range(count):
            at = start + spread_ms * number // max(1, count)
            self.world.at(at, lambda number=number: self._someone_sends(draw, number, senders))  # type: ignore[misc]

    def _someone_sends(self, draw: Random, number: int, senders: list[int] | None) -> None:
        up = senders or [node.index for node in self.honest()]
        if up:
            self.send(up[draw.randrange(len(up))], b"message %d" % number)

    def look_ups_between(self, count: int, start: int, spread_ms: int) -> None:
        """Schedule so many look-ups of random nodes that are up by random nodes that are up."""
        draw = derive(self.world.seed, "look-ups")
        for number in range(count):
            self.world.at(start + spread_ms * number // max(1, count), lambda: self._someone_asks(draw))

    def _someone_asks(self, draw: Random) -> None:
        up = self.honest()
        if len(up) > 1:
            asker, target = draw.sample(up, 2)
            self.look_up(asker.index, target.id, self.look_ups)

    def look_ups_of_target(self, count: int, start: int, spread_ms: int) -> None:
        """Schedule so many look-ups of the target by random honest nodes."""
        draw = derive(self.world.seed, "sought")
        for number in range(count):
            self.world.at(start + spread_ms * number // max(1, count), lambda: self._someone_seeks(draw))

    def message_of_target(self, at: int) -> None:
        """Schedule one message from the target, so that directories have it."""
        if self.target is not None:
            index = self.world.by_id[self.target].index
            self.world.at(at, lambda: self.send(index, b"from the target"))

    def _someone_seeks(self, draw: Random) -> None:
        able = [node.index for node in self.honest() if node.id != self.target]
        if able and self.target is not None:
            self.look_up(able[draw.randrange(len(able))], self.target, self.sought)

    def provide_of_target(self, key: bytes, at: int) -> None:
        """Schedule that the target, whom adversaries are after, says that it provides a key."""
        if self.target is not None:
            index = self.world.by_id[self.target].index
            self.world.at(at, lambda: self.world.command(index, Provide(key)))

    def look_ups_of_content(self, key: bytes, count: int, start: int, spread_ms: int) -> None:
        """Schedule so many look-ups of a key's providers by random honest nodes; found where the target is among them."""
        draw = derive(self.world.seed, "sought")
        for number in range(count):
            self.world.at(start + spread_ms * number // max(1, count), lambda: self._someone_fetches(draw, key))

    def _someone_fetches(self, draw: Random, key: bytes) -> None:
        able = [node.index for node in self.honest() if node.id != self.target]
        world = self.world

        def done(call: Call) -> None:
            match call.result:
                case ProvidersFound(providers=providers, effort=effort):
                    found = any(node == self.target for node, _ in providers)
                    at = (world.now - self.begun) / 1000
                    self.sought.append(LookUp(at, found, effort.hops, effort.queries, effort.ms))
                case _:
                    self.look_ups_lost += 1

        if able:
            world.command(able[draw.randrange(len(able))], FindProviders(key), done)

    # Results

    def loads(self) -> list[Load]:
        """What the run cost each node, in the order of their numbers."""
        seconds = max(self.world.now - self.begun, 1) / 1000
        return [
            Load(
                node.index,
                node.up,
                node.events,
                node.bytes_in / seconds,
                node.bytes_out / seconds,
                node.cpu_ns / 1e6 / (seconds / 3600),
                len(node.machine.connected) if isinstance(node.machine, Peer) else 0,
                len(node.machine.dht.table) if isinstance(node.machine, Peer) else 0,
            )
            for node in self.world.nodes
        ]

    def missing(self) -> list[tuple[int, Digest]]:
        """Nodes that are up and do not hold the newest entry of an author that somebody holds: (node, entry)."""
        newest: dict[NodeId, Any] = {}
        shelves = [
            (node.index, node.machine.logs.directory) for node in self.world.nodes if isinstance(node.machine, Peer)
        ]
        for _, shelf in shelves:
            for author in shelf.authors:
                item = shelf.chain(author)[0]
                best = newest.get(author)
                if best is None or (item.epoch, item.seq) > (best.epoch, best.seq):
                    newest[author] = item
        return [
            (index, item.digest)
            for index, shelf in shelves
            for author, item in newest.items()
            if not (chain := shelf.chain(author)) or chain[0].digest != item.digest
        ]

    def percentile(self, share: float) -> int | None:
        """The latency in ms below which that share of deliveries lies."""
        total, passed = sum(self.latencies.values()), 0
        for step in sorted(self.latencies):
            passed += self.latencies[step]
            if passed >= share * total:
                return (step + 1) * LATENCY_STEP_MS
        return None
