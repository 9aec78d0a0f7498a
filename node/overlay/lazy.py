"""Lazy push: telling others what we have (IHAVE), asking for what we miss (IWANT), and holding them to their word.

Every id that we ask for is a promise of the peer that named it. It is kept when the message comes by `followup_ms`, from
whomever. A peer that breaks any in a heartbeat has one offence more, however many: links of honest peers stall too. For
each that it keeps it has one less. Up to `asks_max` peers are asked for one message, since on a network that loses frames
the first answer may be lost.

Telling goes to peers outside the mesh. If these are fewer than `lazy`, mesh peers are told too: in a network of ten nodes
nobody is outside, and a frame lost by a full outbox would be lost for good.

Source: gossipsub-v1.0.md, "Gossip emission"; gossipsub-v1.1.md, "Adaptive Gossip Dissemination", "Spam Protection
Measures".
"""

from collections import deque
from collections.abc import Iterable, Sequence

from consensus.ids import Millis, NodeId
from node.overlay.machine import Action, Channel, Noted, Send
from node.overlay.memory import Cache, Seen, author_of
from node.overlay.meshes import Meshes
from node.overlay.scoring import Authors, ScoreLimits, Scores
from node.overlay.topics import GossipLimits, Throttled
from node.overlay.wire import SEQNO_BYTES, Ihave, Message, Rpc, encode_publish, encode_rpc, peer_id

_ID_BYTES = len(peer_id(NodeId(bytes(32)))) + SEQNO_BYTES


class _Share:
    """What a peer has had: the counters are those of the heartbeat `beat`, `served` those of the history `age`."""

    __slots__ = ("age", "asked", "beat", "ihaves", "octets", "served", "throttled", "wanted")

    def __init__(self) -> None:
        self.asked = 0  # ids promised by the peer and not yet due
        self.beat = 0
        self.ihaves = 0
        self.wanted = 0
        self.octets = 0
        self.throttled = False
        self.age = 0
        self.served: dict[bytes, int] = {}


class LazyPush:
    """The books of IHAVE and IWANT."""

    def __init__(
        self,
        me: NodeId,
        limits: GossipLimits,
        thresholds: ScoreLimits,
        scores: Scores,
        authors: Authors,
        seen: Seen,
        cache: Cache,
    ) -> None:
        self._me = me
        self._limits = limits
        self._thresholds = thresholds
        self._scores = scores
        self._authors = authors
        self._seen = seen
        self._cache = cache
        self._shares: dict[NodeId, _Share] = {}
        self._promises: dict[bytes, list[NodeId]] = {}
        self._due: deque[tuple[Millis, bytes, NodeId]] = deque()

    @property
    def waiting(self) -> bool:
        """Whether any promise is not yet due."""
        return bool(self._due)

    def enter(self, peer: NodeId) -> None:
        """A peer is connected."""
        self._shares[peer] = _Share()

    def lose(self, peer: NodeId) -> None:
        """A peer is gone; its promises are to be asked of others."""
        del self._shares[peer]

    def arrived(self, now: Millis, message_id: bytes) -> None:
        """A message is here: those who promised it have kept their word."""
        for peer in self._promises.pop(message_id, ()):
            self._scores.kept(now, peer)

    def on_ihave(self, now: Millis, peer: NodeId, told: Iterable[Ihave], topics: Iterable[str]) -> list[Action]:
        """Ask by IWANT for what an IHAVE names and we miss, in the topics that we are in."""
        limits, share = self._limits, self._count(now, peer)
        out: list[Action] = []
        share.ihaves += 1
        if share.ihaves > limits.ihaves_max:
            self._throttle(peer, share, "IHAVEs", out)
            return out
        seen, promises, due = self._seen.ids, self._promises, Millis(now + limits.followup_ms)
        wanted: list[bytes] = []
        for message_id in [each for topic, ids in told if topic in topics for each in ids if each not in seen]:
            if len(message_id) != _ID_BYTES:
                continue
            asked = promises.get(message_id)
            if asked is not None and (peer in asked or len(asked) >= limits.asks_max):
                continue
            author = author_of(message_id)
            if author == self._me or not self._authors.admits(now, author, message_id[-SEQNO_BYTES:], 0):
                continue
            if share.asked >= limits.asked_max or len(self._due) >= limits.promises_max:
                self._throttle(peer, share, "messages told of by IHAVE", out)
                break
            if asked is None:
                promises[message_id] = [peer]
            else:
                asked.append(peer)
            self._due.append((due, message_id, peer))
            share.asked += 1
            wanted.append(message_id)
        if wanted:
            out.append(Send(peer, Channel.GOSSIP, encode_rpc(Rpc(iwant=tuple(wanted)))))
        return out

    def on_iwant(self, now: Millis, peer: NodeId, wanted: Sequence[bytes]) -> list[Action]:
        """Send what an IWANT asks for, as far as the peer's share goes."""
        limits, share = self._limits, self._count(now, peer)
        out: list[Action] = []
        served, found = share.served, []
        for message_id in wanted:
            if share.wanted >= limits.wanted_max:
                self._throttle(peer, share, "ids asked for by IWANT", out)
                break
            share.wanted += 1
            message = self._cache.get(message_id)
            if message is None:
                continue
            times = served.get(message_id, 0)
            size = len(message.raw)
            if (
                times >= limits.retransmissions
                or (not times and len(served) >= limits.served_max)
                or (share.octets and share.octets + size > limits.served_bytes_max)
            ):
                self._throttle(peer, share, "messages asked for by IWANT", out)
                continue
            served[message_id] = times + 1
            share.octets += size
            found.append(message)
        out.extend([Send(peer, Channel.GOSSIP, frame) for frame in batches(found, limits.frame_bytes)])
        return out

    def judge(self, now: Millis) -> None:
        """Count the promises that were broken by now."""
        broken: dict[NodeId, None] = {}
        while self._due and self._due[0][0] <= now:
            _, message_id, peer = self._due.popleft()
            share = self._shares.get(peer)
            if share is not None and share.asked:
                share.asked -= 1
            asked = self._promises.get(message_id)
            if asked is not None and peer in asked:
                broken[peer] = None
                asked.remove(peer)
                if not asked:
                    del self._promises[message_id]
        for peer in broken:
            self._scores.offended(now, peer)

    def tell(self, now: Millis, meshes: Meshes) -> list[Action]:
        """IHAVE to some of the peers outside each mesh; one frame a topic."""
        limits, threshold = self._limits, self._thresholds.gossip
        out: list[Action] = []
        for topic, ids in self._cache.told().items():
            mesh, members = meshes.of.get(topic, {}), meshes.members.get(topic, {})
            able = [peer for peer in members if peer not in mesh and self._scores.ok(now, peer, threshold)]
            chosen = list(meshes.pick(able, max(limits.lazy, len(able) * limits.lazy_percent // 100)))
            if len(chosen) < limits.lazy:
                chosen.extend(meshes.pick(list(mesh), limits.lazy - len(chosen)))
            if chosen:
                frame = encode_rpc(Rpc(ihave=(Ihave(topic, tuple(ids[: limits.told_max])),)))
                out.extend([Send(peer, Channel.GOSSIP, frame) for peer in chosen])
        return out

    def _count(self, now: Millis, peer: NodeId) -> _Share:
        """The peer's share, its counters begun anew when a heartbeat's time has passed, and those of the history too."""
        share = self._shares[peer]
        beat = now // self._limits.heartbeat_ms
        if share.beat != beat:
            share.beat, share.throttled = beat, False
            share.ihaves = share.wanted = share.octets = 0
            age = beat // self._limits.history
            if share.age != age:
                share.age = age
                share.served.clear()
        return share

    @staticmethod
    def _throttle(peer: NodeId, share: _Share, what: str, out: list[Action]) -> None:
        if not share.throttled:
            share.throttled = True
            out.append(Noted(Throttled(peer, what)))


def batches(messages: Sequence[Message], frame_bytes: int) -> list[bytes]:
    """The messages in frames of about so many bytes; one that is longer by itself goes alone."""
    if len(messages) == 1:
        return [encode_publish(messages)]
    frames: list[bytes] = []
    batch: list[Message] = []
    size = 0
    for message in messages:
        if batch and size + len(message.raw) > frame_bytes:
            frames.append(encode_publish(batch))
            batch, size = [], 0
        batch.append(message)
        size += len(message.raw)
    if batch:
        frames.append(encode_publish(batch))
    return frames
