"""A little world of gossip routers: one heap, latency, loss, and outboxes as small and slow as a host's on Tor."""

import heapq
import random
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import Final

from nacl.bindings import crypto_sign

from consensus.ids import Millis, NodeId
from consensus.signing import KeyPair
from node.overlay.gossip import Gossip
from node.overlay.machine import Action, CancelTimer, Finished, Noted, Rejected, Send, SetTimer, TimerKey
from node.overlay.topics import Delivered, GossipLimits, Graylisted, Publish, Ruling, Subscribe

TOPIC: Final = "beacons"
START: Final = Millis(1_700_000_000_000)
OUTBOX_BYTES: Final = 256 << 10
OUTBOX_FRAMES: Final = 64
BYTES_PER_MS: Final = 100  # of one link
LATENCY_MS: Final = 300  # a frame takes a half to one and a half of it


@cache
def key(index: int) -> KeyPair:
    return KeyPair.from_seed(index.to_bytes(32, "big"))


def node(index: int) -> NodeId:
    return NodeId(key(index).public)


def sign(index: int, data: bytes) -> bytes:
    return bytes(crypto_sign(data, key(index).secret)[:64])


def accept(_topic: str, _author: NodeId, _data: bytes) -> Ruling:
    return Ruling.ACCEPT


class World:
    """Nodes in a random graph, all subscribed to one topic. Signatures are taken as good: test_gossip has real ones."""

    def __init__(self, count: int, degree: int, seed: int, limits: GossipLimits | None = None) -> None:
        self.rng = random.Random(seed)
        self.now = START
        self.loss_percent = 0
        self.lost = 0
        self.overflowed = 0
        self.events = 0
        self.delivered: Counter[tuple[NodeId, bytes]] = Counter()
        self.rejected: list[Rejected] = []
        self.graylisted: list[Graylisted] = []
        self._heap: list[tuple[int, int, NodeId, TimerKey | tuple[NodeId, bytes]]] = []
        self._tick = 0
        self._armed: dict[tuple[NodeId, TimerKey], int] = {}
        self._outbox: dict[tuple[NodeId, NodeId], deque[tuple[float, int]]] = {}  # (when it has left, bytes)
        self.nodes: dict[NodeId, Gossip] = {}
        for index in range(count):
            self.nodes[node(index)] = Gossip(
                node(index),
                partial(sign, index),
                random.Random(seed * 1000 + index),
                lambda _public, _signature, _message: True,
                {TOPIC: accept},
                limits,
            )
        ids = list(self.nodes)
        links = {(ids[i], ids[(i + 1) % count]) for i in range(count)}
        while len(links) < count * degree // 2:
            left, right = sorted(self.rng.sample(ids, 2))
            links |= {(left, right)} if (right, left) not in links else set()
        for each in ids:
            self.apply(each, self.nodes[each].start(self.now))
            self.apply(each, self.nodes[each].on_command(self.now, 0, Subscribe(TOPIC)))
        for left, right in sorted(links):
            self.apply(left, self.nodes[left].on_peer_up(self.now, right, dialled=True))
            self.apply(right, self.nodes[right].on_peer_up(self.now, left, dialled=False))

    def apply(self, me: NodeId, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Send(peer, _, frame):
                    self._post(me, peer, frame)
                case SetTimer(name, at):
                    self._push(at, me, name)
                    self._armed[me, name] = self._tick
                case CancelTimer(name):
                    self._armed.pop((me, name), None)
                case Noted(Delivered() as fact):
                    self.delivered[me, fact.message_id] += 1
                case Noted(Rejected() as fact):
                    self.rejected.append(fact)
                case Noted(Graylisted() as fact):
                    self.graylisted.append(fact)
                case _:
                    pass

    def _post(self, me: NodeId, peer: NodeId, frame: bytes) -> None:
        if self.rng.randrange(100) < self.loss_percent:
            self.lost += 1
            return
        outbox = self._outbox.setdefault((me, peer), deque())
        while outbox and outbox[0][0] <= self.now:
            outbox.popleft()
        if outbox and (len(outbox) >= OUTBOX_FRAMES or sum(size for _, size in outbox) + len(frame) > OUTBOX_BYTES):
            self.overflowed += 1
            return
        left = (outbox[-1][0] if outbox else self.now) + len(frame) / BYTES_PER_MS
        outbox.append((left, len(frame)))
        self._push(int(left) + LATENCY_MS // 2 + self.rng.randrange(LATENCY_MS), peer, (me, frame))

    def _push(self, at: int, me: NodeId, what: TimerKey | tuple[NodeId, bytes]) -> None:
        self._tick += 1
        heapq.heappush(self._heap, (at, self._tick, me, what))

    def run(self, span_ms: int) -> None:
        end = self.now + span_ms
        while self._heap and self._heap[0][0] <= end:
            at, tick, me, what = heapq.heappop(self._heap)
            self.now = Millis(max(self.now, at))
            router = self.nodes[me]
            self.events += 1
            match what:
                case (bytes() as peer, bytes() as frame):
                    self.apply(me, router.on_frame(self.now, NodeId(peer), frame))
                case _ if self._armed.get((me, what)) == tick:
                    self.apply(me, router.on_timer(self.now, what))
                case _:
                    pass  # replaced since
        self.now = Millis(end)

    def publish(self, author: NodeId, data: bytes) -> bytes:
        """Publish and return the id."""
        actions = self.nodes[author].on_command(self.now, 1, Publish(TOPIC, data))
        self.apply(author, actions)
        (result,) = (each.result for each in actions if isinstance(each, Finished))
        assert isinstance(result, bytes), result
        return result

    def missing(self, ids: Iterable[bytes]) -> int:
        """Deliveries that should have been exactly one and were not, over all nodes."""
        return sum(self.delivered[me, each] != 1 for each in ids for me in self.nodes)
