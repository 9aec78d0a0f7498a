"""A dozen nodes that replicate to each other on virtual time, with disks that are dicts; for test_replicate.py."""

import heapq
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

from blake3 import blake3

from consensus.beacon import replica_key, show
from consensus.ids import Digest, Millis, Network, NodeId
from consensus.merkle import segment_root
from consensus.placement import Registrant
from consensus.signing import domain
from node.overlay.custody import (
    HOUR_MS,
    Discard,
    Fetch,
    Fetched,
    Place,
    ReadSegments,
    ReplicateLimits,
    SegmentsRead,
    Serve,
)
from node.overlay.machine import Action, Finished, Noted, Persist, Rejected, Send, SetTimer
from node.overlay.replicate import Replicate

NETWORK = Network(b"n" * 32)
FAST = replace(ReplicateLimits(), jitter_ms=60_000, transfer_ms=600_000)


def node_id(number: int) -> NodeId:
    return NodeId(blake3(b"node" + number.to_bytes(4, "big")).digest())


def seed_of(number: int) -> Digest:
    return Digest(blake3(b"seed" + number.to_bytes(8, "big")).digest())


class Pen:
    """A key whose signatures are hashes: everybody could make them, and in the tests only their owner does."""

    def __init__(self, public: NodeId) -> None:
        self.public = public

    def sign(self, name: str, network: Network, message: bytes) -> bytes:
        return blake3(self.public + domain(name, network) + message).digest(length=64)


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    return signature == blake3(public + message).digest(length=64)


def encoded(data: bytes, secret: bytes, chunk: Digest, j: int) -> bytes:
    """Replica j, with BLAKE3's output stream in the place of ChaCha20's."""
    stream = blake3(b"", key=replica_key(secret, chunk, j)).digest(length=len(data))
    return (int.from_bytes(data) ^ int.from_bytes(stream)).to_bytes(len(data))


class Site:
    """One node and its host."""

    def __init__(self, world: "World", number: int) -> None:
        self.world, self.node = world, node_id(number)
        self.alive = True
        self.mute = False
        """Takes everything and answers no challenge."""
        self.spoil: Callable[[bytes], bytes] = lambda data: data
        """What a lying host serves and reads in the place of its bytes."""
        self.own: dict[Digest, tuple[bytes, bytes]] = {}
        self.disk: dict[Digest, bytes] = {}
        self.serving: dict[tuple[NodeId, Digest], None] = {}
        self.rows: dict[tuple[Any, ...], bytes] = {}
        self.timers: dict[Any, int] = {}
        self.facts: list[Any] = []
        self.finished: list[Finished] = []
        self.machine = self.boot()

    def boot(self) -> Replicate:
        numbers = count(1 + self.world.now % 1_000_000 * 1000)
        return Replicate(
            self.node,
            NETWORK,
            random.Random(int.from_bytes(self.node[:4], "big")),
            self.world.limits,
            Pen(self.node),
            verify,
            lambda slot: seed_of(slot) if slot < 1 << 40 else None,
            lambda: next(numbers),
            [(key, value) for key, value in self.rows.items()],
            lambda chunk: chunk in self.own,
        )

    def bytes_of(self, chunk: Digest, j: int, root: Digest) -> bytes | None:
        if chunk in self.own:
            return encoded(*self.own[chunk], chunk, j)
        return self.disk.get(root)

    def facts_of(self, kind: type) -> list[Any]:
        return [fact for fact in self.facts if isinstance(fact, kind)]


class World:
    def __init__(
        self,
        size: int,
        *,
        limits: ReplicateLimits = FAST,
        entities: Callable[[int], bytes] = lambda number: b"entity %d" % number,
        seed: int = 1,
    ) -> None:
        self.limits, self.rng = limits, random.Random(seed)
        self.now = Millis(1000 * HOUR_MS)
        self.heap: list[tuple[int, int, Callable[[], None]]] = []
        self.order = count()
        self.events = 0
        self.sites = {node_id(number): Site(self, number) for number in range(size)}
        self.registry = tuple(sorted(Registrant(node_id(number), entities(number), 1 << 40) for number in range(size)))
        for site in self.sites.values():
            self.start(site)

    def start(self, site: Site) -> None:
        self.do(site, site.machine.start(self.now))
        era = self.now // HOUR_MS // self.limits.era_hours
        for each in (era - 1, era):
            self.do(site, site.machine.on_registry(self.now, each, self.registry))
        self.do(site, site.machine.on_seed(self.now, self.now // HOUR_MS, seed_of(self.now // HOUR_MS)))
        self.do(site, site.machine.on_peer_up(self.now, node_id(999), True))

    def kill(self, node: NodeId) -> None:
        self.sites[node].alive = False
        self.sites[node].timers.clear()

    def restart(self, node: NodeId) -> None:
        site = self.sites[node]
        site.alive = True
        site.timers.clear()
        site.machine = site.boot()
        self.start(site)

    def later(self, delay: int, act: Callable[[], None]) -> None:
        heapq.heappush(self.heap, (self.now + delay, next(self.order), act))

    def latency(self) -> int:
        return self.rng.randrange(300, 3000)

    def step(self, site: Site, method: str, *arguments: Any) -> None:
        if site.alive:
            self.events += 1
            self.do(site, getattr(site.machine, method)(self.now, *arguments))

    def do(self, site: Site, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(peer, _, frame, exchange):
                    self.post(site, peer, frame, exchange)
                case SetTimer(key, at):
                    site.timers[key] = at
                    self.later(at - self.now, lambda key=key, at=at: self.fire(site, key, at))  # type: ignore[misc]
                case Persist(_, key, value):
                    if value is None:
                        site.rows.pop(key, None)
                    else:
                        site.rows[key] = value
                case Finished():
                    site.finished.append(action)
                case Noted(fact):
                    site.facts.append(fact)
                    self.host(site, fact)
                case _:
                    raise AssertionError(action)

    def fire(self, site: Site, key: Any, at: int) -> None:
        if site.timers.get(key) == at:
            del site.timers[key]
            self.step(site, "on_timer", key)

    def post(self, site: Site, peer: NodeId, frame: bytes, exchange: int) -> None:
        other = self.sites.get(peer)

        def arrive() -> None:
            if other is not None and other.alive:
                self.step(other, "on_frame", site.node, frame, -exchange)
            elif exchange > 0:
                self.step(site, "on_failed", peer, exchange)

        self.later(self.latency(), arrive)

    def host(self, site: Site, fact: Any) -> None:
        match fact:
            case Serve(peer, _, _, root):
                site.serving[peer, root] = None
            case Fetch(ref, peer, chunk, j, root):
                self.later(30_000, lambda: self.fetch(site, ref, peer, chunk, j, root))
            case ReadSegments(ref, wants):
                if site.mute:
                    return
                found = []
                for want in wants:
                    data = site.disk.get(want.root)
                    found.append(None if data is None else show(site.spoil(data), want.indexes))
                self.later(5, lambda: self.step(site, "on_command", 0, SegmentsRead(ref, tuple(found))))
            case Discard(_, root):
                site.disk.pop(root, None)
            case _:
                pass

    def fetch(self, site: Site, ref: int, peer: NodeId, chunk: Digest, j: int, root: Digest) -> None:
        source = self.sites[peer]
        data = None
        if source.alive and (site.node, root) in source.serving:
            data = source.bytes_of(chunk, j, root)
        if data is None:
            self.step(site, "on_command", 0, Fetched(ref, None, 0))
            return
        data = source.spoil(data)
        found = segment_root(data)
        site.disk[found] = data
        self.step(site, "on_command", 0, Fetched(ref, found, len(data)))

    def place(self, owner: NodeId, data: bytes, call: int = 7) -> Digest:
        site = self.sites[owner]
        chunk = Digest(blake3(data).digest())
        secret = blake3(b"secret" + owner).digest()
        site.own[chunk] = (data, secret)
        roots = tuple(segment_root(encoded(data, secret, chunk, j)) for j in range(3))
        opened = self.now // HOUR_MS * self.limits.hour_slots
        self.step(site, "on_command", call, Place(chunk, len(data), roots, opened, seed_of(opened + 2)))
        return chunk

    def run(self, hours: float) -> None:
        end = int(self.now + hours * HOUR_MS)
        while self.now < end:
            hour = self.now // HOUR_MS
            boundary = min((hour + 1) * HOUR_MS, end)
            while self.heap and self.heap[0][0] < boundary:
                at, _, act = heapq.heappop(self.heap)
                self.now = Millis(max(self.now, at))
                act()
            self.now = Millis(boundary)
            if boundary % HOUR_MS == 0:
                self.strike()

    def strike(self) -> None:
        """The HOUR: everybody gets its seed."""
        hour = self.now // HOUR_MS
        for site in self.sites.values():
            self.step(site, "on_seed", hour, seed_of(hour))

    def holders(self, chunk: Digest) -> dict[NodeId, int]:
        """Who is alive, has signed for a replica and has its very bytes; and which replica that is."""
        held = {}
        for node, site in self.sites.items():
            custody = site.machine._custodies.get(chunk)
            if site.alive and custody is not None and custody.mine >= 0:
                root = custody.deposit.roots[custody.mine]
                data = site.disk.get(root)
                if data is not None and segment_root(site.spoil(data)) == root:
                    held[node] = custody.mine
        return held

    def rejections(self) -> list[Rejected]:
        return [fact for site in self.sites.values() for fact in site.facts_of(Rejected)]
