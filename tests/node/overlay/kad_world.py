"""Little worlds for the DHT's tests: well-filled tables without traffic, and parts that talk over links of Tor's shape."""

import heapq
import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from consensus.ids import Millis, NodeId
from node.overlay.dht import Dht, DhtLimits
from node.overlay.holdings import Standing
from node.overlay.lookup import Lookup
from node.overlay.machine import Action, Channel, Finished, Noted, Send, SetTimer, TimerKey
from node.overlay.routing import Table, place
from node.overlay.wire import KadMessage, KadPeer, decode_kad, encode_kad, peer_id

START = Millis(1_700_000_000_000)
Liar = Callable[[NodeId, KadMessage], KadMessage | bytes | None]
"""(asker, request) to an answer, bytes that are none, or silence."""


def nodes_of(rng: random.Random, count: int) -> list[NodeId]:
    return [NodeId(rng.randbytes(32)) for _ in range(count)]


def fill(table: Table, me: NodeId, everybody: Sequence[tuple[int, NodeId]], rng: random.Random, bucket: int) -> None:
    """Give a table up to `bucket` random contacts of every bucket, as a long life would; everybody: sorted by place."""
    at = place(me)
    for bit in range(255, 225, -1):
        low = ((at >> bit) ^ 1) << bit
        part = everybody[bisect_left(everybody, (low, b"")) : bisect_left(everybody, (low + (1 << bit), b""))]
        for _, node in part if len(part) <= bucket else rng.sample(list(part), bucket):
            table.seen(START, node)


def true_nearest(nodes: Sequence[NodeId], target: int, count: int) -> list[NodeId]:
    return heapq.nsmallest(count, nodes, key=lambda node: place(node) ^ target)


def tor_ms(rng: random.Random) -> int:
    """A round trip over a built circuit."""
    return int(rng.lognormvariate(0, 0.5) * 1000)


def follow(
    lookup: Lookup, answer: Callable[[NodeId], tuple[int, Sequence[NodeId] | None]], now: int = 0
) -> tuple[int, int]:
    """Run a look-up to its end: (ms until the answer, peers named or None for a failure) for each question asked.

    Returns when it ended, and the most questions that were out at once.
    """
    heap: list[tuple[int, int, NodeId, Sequence[NodeId] | None]] = []
    number = count()
    most = 0
    while True:
        for node in lookup.due(Millis(now)):
            ms, named = answer(node)
            heapq.heappush(heap, (now + ms, next(number), node, named))
        most = max(most, len(heap))
        if lookup.done:
            return now, most
        wake = lookup.wake()
        if heap and heap[0][0] <= wake:
            now, _, node, closer = heapq.heappop(heap)
            if closer is None:
                lookup.failed(node)
            else:
                lookup.answered(node, closer)
        else:
            now = wake
        lookup.expire(Millis(now))


def validate(key: bytes, value: bytes, _now: Millis) -> Standing | None:
    """Accepts ok ‖ sequence u64 ‖ expiry u64 ‖ anything."""
    if not value.startswith(b"ok") or len(value) < 18 or not key.startswith(b"/t/"):
        return None
    return Standing(int.from_bytes(value[2:10], "big"), Millis(int.from_bytes(value[10:18], "big")))


def value_of(sequence: int, expires: int, more: bytes = b"") -> bytes:
    return b"ok" + sequence.to_bytes(8, "big") + expires.to_bytes(8, "big") + more


class KadWorld:
    """Parts on one virtual clock. Who is in `liars` answers by a function, who is in `silent` not at all."""

    def __init__(self, seed: int, size: int, limits: DhtLimits | None = None) -> None:
        self.rng = random.Random(seed)
        self.limits = limits or DhtLimits()
        self.now = START
        self.nodes = nodes_of(self.rng, size)
        self.parts: dict[NodeId, Dht] = {}
        self.liars: dict[NodeId, Liar] = {}
        self.silent: dict[NodeId, None] = {}
        self.results: dict[int, object] = {}
        self.facts: list[tuple[NodeId, object]] = []
        self.events = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._calls = count(1)
        self._armed: dict[tuple[NodeId, TimerKey], int] = {}
        for node in self.nodes:
            self.add(node)

    def add(self, node: NodeId, **more: object) -> Dht:
        exchanges = count(1)
        part = Dht(
            node,
            random.Random(self.rng.random()),
            self.limits,
            {"t": validate},
            lambda: next(exchanges),
            lambda _: (),
            **more,  # type: ignore[arg-type]
        )
        self.parts[node] = part
        return part

    def fill_tables(self) -> None:
        everybody = sorted((place(node), node) for node in self.nodes)
        for node, part in self.parts.items():
            fill(part.table, node, everybody, self.rng, self.limits.routing.bucket)

    def command(self, node: NodeId, order: object) -> object:
        """The result of a command; the world runs on until it is there."""
        call = self.order(node, order)
        while call not in self.results:
            self.step()
        return self.results.pop(call)

    def order(self, node: NodeId, order: object) -> int:
        call = next(self._calls)
        self.act(node, self.parts[node].on_command(self.now, call, order))  # type: ignore[arg-type]
        return call

    def step(self) -> None:
        at, _, event = heapq.heappop(self._heap)
        self.now = Millis(at)
        self.events += 1
        event()

    def run(self, ms: int) -> None:
        until = self.now + ms
        while self._heap and self._heap[0][0] <= until:
            self.step()
        self.now = Millis(until)

    def act(self, node: NodeId, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Send(peer, Channel.DHT, frame, exchange):
                    self._post(node, peer, frame, exchange)
                case SetTimer(key, at):
                    self._armed[node, key] = at
                    self._later(at - self.now, partial(self._fire, node, key, at))
                case Finished(call, result):
                    self.results[call] = result
                case Noted(fact):
                    self.facts.append((node, fact))
                case _:
                    pass

    def _post(self, node: NodeId, peer: NodeId, frame: bytes, exchange: int) -> None:
        ms = tor_ms(self.rng) // 2
        if peer in self.silent or peer not in self.parts:
            if peer not in self.parts and exchange > 0:
                self._later(6_000, lambda: self.act(node, self.parts[node].on_failed(self.now, peer, exchange)))
        elif peer in self.liars and exchange > 0:
            answer = self.liars[peer](node, decode_kad(frame))
            if answer is not None:
                raw = answer if isinstance(answer, bytes) else encode_kad(answer)
                self._later(2 * ms, lambda: self.act(node, self.parts[node].on_frame(self.now, peer, raw, exchange)))
        else:
            self._later(ms, lambda: self.act(peer, self.parts[peer].on_frame(self.now, node, frame, -exchange)))

    def _fire(self, node: NodeId, key: TimerKey, at: int) -> None:
        if self._armed.get((node, key)) == at:
            del self._armed[node, key]
            self.act(node, self.parts[node].on_timer(self.now, key))

    def _later(self, ms: int, event: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + ms, next(self._order), event))


def named(nodes: Sequence[NodeId]) -> tuple[KadPeer, ...]:
    return tuple(KadPeer(peer_id(node)) for node in nodes)
