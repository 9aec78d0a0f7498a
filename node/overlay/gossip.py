"""Who gets which message: the gossipsub 1.1 router, spoken as `/meshsub/1.1.0` with StrictSign.

A node keeps a mesh of about D peers in every topic it is in (meshes) and passes each new message on to them at once. Every
heartbeat it tells some of the others which messages it has, and who misses one asks for it (lazy). So a loss on a mesh link
costs a delay and no message.

    frame → graylisted? → decode → subscriptions → messages → GRAFT, PRUNE → IHAVE, IWANT
    message → seen? ours? → old, over budget? → signature → validator → deliver, keep, pass on

Rules beyond the specification's:

* What is invalid changes nothing but its sender's score, and ends the frame it stands in: after a forged signature (62 µs)
  nothing of that frame is worth checking. An honest peer checks before it passes on, so it never loses by this.
* A frame is built once for all who get it, and a message in it is the bytes that came (wire.compact takes out what the
  signature does not cover). Bursts leave in batches (pacing).
* Heartbeats are rare while nothing is kept, promised or missing; what changes that calls one.
* Replays: an author's floor refuses them (scoring). After a restart the floors are unknown and an old message passes once:
  it is the validators, which know when their records expire, who refuse it.
* Whether a mesh is mixed up is judged, where messages pass, by what its peers brought and not by how long they were in it:
  a free rider sits still and earns the time.
* Our sequence numbers are Unix nanoseconds, so that they rise across restarts. A clock that is set back between two runs
  by more than `seen_ms` mutes us until it has caught up.

Source: gossipsub-v1.0.md, gossipsub-v1.1.md, pubsub/README.md in libp2p/specs; DESIGN §4.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from consensus.encoding import Malformed
from consensus.ids import Millis, NodeId
from node.overlay.lazy import LazyPush, batches
from node.overlay.machine import Action, Channel, Finished, Noted, Rejected, Send, SetTimer, TimerKey, Verify
from node.overlay.memory import Cache, Seen
from node.overlay.meshes import Meshes
from node.overlay.pacing import Outgoing, Pacer
from node.overlay.scoring import AuthorLimits, Authors, ScoreLimits, Scores
from node.overlay.topics import (
    Delivered,
    GossipLimits,
    GossipRefused,
    Graylisted,
    Publish,
    Ruling,
    Subscribe,
    Throttled,
    Unsubscribe,
    Validate,
)
from node.overlay.wire import (
    SEQNO_BYTES,
    Message,
    Rpc,
    Subscription,
    compact,
    decode_rpc,
    encode_rpc,
    sign_message,
    signed_bytes,
)

if TYPE_CHECKING:
    import random

HEARTBEAT: Final[TimerKey] = ("gossip", "heartbeat")
FLUSH: Final[TimerKey] = ("gossip", "flush")


class _Fanout:
    """The peers that get what we publish in a topic without being in it."""

    __slots__ = ("last", "peers")

    def __init__(self) -> None:
        self.last = Millis(0)
        self.peers: dict[NodeId, None] = {}


class Gossip:
    """The gossip part of a peer: Channel.GOSSIP, timers ("gossip", …), commands Subscribe, Unsubscribe, Publish."""

    def __init__(
        self,
        me: NodeId,
        sign: Callable[[bytes], bytes],
        rng: "random.Random",
        verify: Verify,
        validators: Mapping[str, Validate],
        limits: GossipLimits | None = None,
        scores: ScoreLimits | None = None,
        authors: AuthorLimits | None = None,
    ) -> None:
        """sign: plain Ed25519 of me's key over the bytes as they are; validators: the topics there are, and their rules."""
        self._me = me
        self._sign = sign
        self._rng = rng
        self._verify = verify
        self._validators = validators
        self._limits = limits = limits or GossipLimits()
        self._thresholds = scores or ScoreLimits()
        budgets = authors or AuthorLimits()
        self._scores = Scores(self._thresholds)
        self._authors = Authors(budgets)
        self._seen = Seen(limits, self._authors)
        self._cache = Cache(limits)
        self._pacer = Pacer(me, limits, budgets)
        self._meshes = Meshes(me, rng, limits, self._scores, self._thresholds)
        self._lazy = LazyPush(me, limits, self._thresholds, self._scores, self._authors, self._seen, self._cache)
        self._shunned: dict[NodeId, None] = {}
        self._fanout: dict[str, _Fanout] = {}
        self._seqno = 0
        self._hello = b""
        self._next_beat = Millis(0)
        self._next_flush: Millis | None = None
        self._next_mix = Millis(0)
        self._taken = 0
        """Messages of others since meshes were last mixed."""

    def mesh(self, topic: str) -> tuple[NodeId, ...]:
        """The peers in our mesh of a topic."""
        return tuple(self._meshes.of.get(topic, ()))

    def waiting(self) -> tuple[int, int]:
        """How many messages wait for their turn to leave, ours and others'."""
        return self._pacer.waiting()

    def score(self, now: Millis, peer: NodeId) -> float:
        """A connected peer's score; 0 for others."""
        return self._scores.value(now, peer)

    def start(self, now: Millis) -> list[Action]:
        """The first heartbeat, at a random moment so that a network started at once does not beat as one."""
        self._next_beat = Millis(now + 1 + self._rng.randrange(self._limits.heartbeat_ms))
        self._next_mix = Millis(now + self._limits.opportunistic_ms)
        return [SetTimer(HEARTBEAT, self._next_beat)]

    def on_peer_up(self, now: Millis, peer: NodeId, dialled: bool) -> list[Action]:
        """Tell a new peer our topics."""
        out = self.on_peer_lost(now, peer)
        if len(self._meshes.peers) >= self._limits.peers_max:
            out.append(Noted(Throttled(peer, "more peers than gossip has room for")))
            return out
        self._meshes.enter(peer, dialled=dialled)
        self._lazy.enter(peer)
        self._scores.enter(now, peer)
        if self._hello:
            out.append(Send(peer, Channel.GOSSIP, self._hello))
        return out

    def on_peer_lost(self, now: Millis, peer: NodeId) -> list[Action]:
        """Forget a peer but for its faults."""
        if peer not in self._meshes.peers:
            return []
        self._meshes.lose(peer)
        self._lazy.lose(peer)
        self._scores.leave(now, peer)
        self._shunned.pop(peer, None)
        for fanout in self._fanout.values():
            fanout.peers.pop(peer, None)
        return self._settle(now, [])

    def on_frame(self, now: Millis, peer: NodeId, frame: bytes, exchange: int = 0) -> list[Action]:
        """What a frame leads to; see the module's picture."""
        if peer not in self._meshes.peers:
            return [Noted(Rejected(peer, "a gossip frame from a peer that is not connected"))]
        if peer in self._scores.tainted:
            score = self._scores.value(now, peer)
            if score < self._thresholds.graylist:
                if peer in self._shunned:
                    return []
                self._shunned[peer] = None
                return [Noted(Graylisted(peer, score))]
            self._shunned.pop(peer, None)
        if exchange:
            return self._reject(now, peer, "a gossip frame in an exchange")
        try:
            subscriptions, publish, ihave, iwant, graft, prune = decode_rpc(frame)
        except Malformed as error:
            return self._reject(now, peer, str(error))
        meshes = self._meshes
        if subscriptions and not meshes.on_subscriptions(peer, subscriptions):
            return self._reject(now, peer, f"a peer in more than {self._limits.topics_per_peer_max} topics")
        out: list[Action] = []
        reason = self._messages(now, peer, publish, out) if publish else ""
        if reason:
            out.extend(self._reject(now, peer, reason))
            return self._settle(now, out)
        if graft:
            out.extend(meshes.on_grafts(now, peer, graft))
        if prune:
            out.extend(meshes.on_prunes(now, peer, prune))
        if (ihave or iwant) and self._scores.ok(now, peer, self._thresholds.gossip):
            if ihave:
                out.extend(self._lazy.on_ihave(now, peer, ihave, meshes.of))
            if iwant:
                out.extend(self._lazy.on_iwant(now, peer, iwant))
        return self._settle(now, out)

    def on_timer(self, now: Millis, key: TimerKey) -> list[Action]:
        """A heartbeat, or the end of a pause between two batches."""
        if key == HEARTBEAT:
            return self._heartbeat(now)
        out: list[Action] = []
        if key == FLUSH:
            self._next_flush = None
            self._send(now, self._pacer.flush(now), out)
        return self._settle(now, out)

    def on_command(self, now: Millis, call: int, order: object) -> list[Action]:
        """Carry out one of the commands; what is none of ours yields nothing."""
        match order:
            case Publish(topic, data):
                return self._publish(now, call, topic, data)
            case Subscribe(topic):
                return self._subscribe(now, call, topic)
            case Unsubscribe(topic):
                return self._unsubscribe(now, call, topic)
            case _:
                return []

    def _publish(self, now: Millis, call: int, topic: str, data: bytes) -> list[Action]:
        validate = self._validators.get(topic)
        if validate is None:
            return [Finished(call, GossipRefused(f"there is no topic {topic}"))]
        if (verdict := validate(topic, self._me, data)) is not Ruling.ACCEPT:
            return [Finished(call, GossipRefused(f"the topic's own rules {verdict.value} the message"))]
        if refusal := self._pacer.room(len(data)):
            return [Finished(call, GossipRefused(refusal))]
        seqno = max(self._seqno + 1, now * 1_000_000)
        try:
            message = sign_message(self._me, seqno, topic, data, self._sign)
        except Malformed as error:
            return [Finished(call, GossipRefused(str(error)))]
        self._seqno = seqno
        out: list[Action] = []
        self._send(now, self._pacer.publish(now, message), out)
        if topic in self._meshes.of:
            out.append(Noted(Delivered(topic, self._me, message.id, self._me, data)))
        out.append(Finished(call, message.id))
        return self._settle(now, out)

    def _subscribe(self, now: Millis, call: int, topic: str) -> list[Action]:
        topics = self._meshes.of
        if topic not in self._validators:
            return [Finished(call, GossipRefused(f"there is no topic {topic}"))]
        if topic in topics:
            return [Finished(call, None)]
        if len(topics) >= self._limits.topics_max:
            return [Finished(call, GossipRefused(f"in {len(topics)} topics already"))]
        out = self._announce(Subscription(subscribe=True, topic=topic))
        fanout = self._fanout.pop(topic, None)
        out.extend(self._meshes.join(now, topic, () if fanout is None else fanout.peers))
        self._greet()
        out.append(Finished(call, None))
        return self._settle(now, out)

    def _unsubscribe(self, now: Millis, call: int, topic: str) -> list[Action]:
        if topic not in self._meshes.of:
            return [Finished(call, None)]
        out = self._announce(Subscription(subscribe=False, topic=topic))
        out.extend(self._meshes.leave(now, topic))
        self._greet()
        out.append(Finished(call, None))
        return out

    def _announce(self, subscription: Subscription) -> list[Action]:
        frame = encode_rpc(Rpc((subscription,)))
        return [Send(peer, Channel.GOSSIP, frame) for peer in self._meshes.peers]

    def _greet(self) -> None:
        self._hello = encode_rpc(Rpc(tuple([Subscription(subscribe=True, topic=topic) for topic in self._meshes.of])))

    def _reject(self, now: Millis, peer: NodeId, reason: str) -> list[Action]:
        self._scores.invalid(now, peer)
        return [Noted(Rejected(peer, reason))]

    def _messages(self, now: Millis, peer: NodeId, messages: Sequence[Message], out: list[Action]) -> str:
        """Take the messages of a frame; the reason if one was invalid, and then none after it was looked at."""
        seen, topics = self._seen.ids, self._meshes.of
        fresh: list[Outgoing] = []
        reason = ""
        for message in messages:
            message_id, author, topic, data, signature, raw = message
            if message_id in seen or author == self._me or topic not in topics:
                continue
            if not self._authors.admits(now, author, message_id[-SEQNO_BYTES:], len(raw)):
                self._lazy.arrived(now, message_id)
                continue
            signed = signed_bytes(message)
            if not self._verify(author, signature, signed):
                reason = "a signature that is not the author's"
                break
            verdict = self._validators[topic](topic, author, data)
            if verdict is Ruling.REJECT:
                reason = f"a message that breaks the rules of {topic}"
                break
            accepted = verdict is Ruling.ACCEPT
            self._lazy.arrived(now, message_id)
            self._authors.charge(now, author, len(raw), known=accepted)
            self._seen.add(now, message_id)
            if accepted:
                kept = compact(message, signed)
                self._cache.put(kept)
                self._scores.brought(now, peer)
                self._taken += 1
                fresh.append(Outgoing(kept, peer))
                out.append(Noted(Delivered(topic, author, message_id, peer, data)))
        if fresh:
            self._send(now, self._pacer.relay(now, fresh), out)
        return reason

    def _send(self, now: Millis, items: Sequence[Outgoing], out: list[Action]) -> None:
        """Build frames for what leaves now, one for all who get the same, and see to it that the rest leaves later."""
        groups: dict[tuple[NodeId, ...], list[Message]] = {}
        for message, source in items:
            if source == self._me:
                self._cache.put(message)
                targets = self._audience(now, message)
            else:
                mesh = self._meshes.of.get(message.topic, ())
                without = (source, message.author)
                targets = tuple([peer for peer in mesh if peer not in without])
            if targets:
                groups.setdefault(targets, []).append(message)
        for targets, messages in groups.items():
            for frame in batches(messages, self._limits.frame_bytes):
                out.extend([Send(peer, Channel.GOSSIP, frame) for peer in targets])
        due = self._pacer.due()
        if due is not None and (self._next_flush is None or due < self._next_flush):
            self._next_flush = due
            out.append(SetTimer(FLUSH, due))

    def _audience(self, now: Millis, message: Message) -> tuple[NodeId, ...]:
        """Who gets a message of ours: everybody in the topic, or of a long one the mesh or the fanout."""
        topic, meshes = message.topic, self._meshes
        mesh = meshes.of.get(topic)
        if mesh is None:
            mesh = self._fanout_of(now, topic)
        if len(message.data) > self._limits.flood_bytes_max:
            return tuple(mesh)
        threshold = self._thresholds.publish
        flooded = [peer for peer in meshes.members.get(topic, ()) if self._scores.ok(now, peer, threshold)]
        return tuple(dict.fromkeys((*mesh, *flooded)))

    def _fanout_of(self, now: Millis, topic: str) -> dict[NodeId, None]:
        fanout = self._fanout.get(topic)
        if fanout is None:
            while len(self._fanout) >= self._limits.fanout_topics_max:
                del self._fanout[next(iter(self._fanout))]
            fanout = self._fanout[topic] = _Fanout()
        fanout.last = now
        missing = self._limits.degree - len(fanout.peers)
        if missing > 0:
            members, threshold = self._meshes.members.get(topic, ()), self._thresholds.publish
            able = [p for p in members if p not in fanout.peers and self._scores.ok(now, p, threshold)]
            fanout.peers.update(dict.fromkeys(self._meshes.pick(able, missing)))
        return fanout.peers

    @property
    def _busy(self) -> bool:
        return self._meshes.unsettled or len(self._cache) > 0 or self._lazy.waiting

    def _settle(self, now: Millis, out: list[Action]) -> list[Action]:
        """Have the next heartbeat soon if there is something for it to do."""
        soon = now + self._limits.heartbeat_ms
        if self._next_beat > soon and self._busy:
            self._next_beat = Millis(soon)
            out.append(SetTimer(HEARTBEAT, self._next_beat))
        return out

    def _newly_shunned(self, now: Millis) -> list[tuple[NodeId, float]]:
        """Who has fallen below the graylist threshold without sending anything since: a broken promise is no frame."""
        scores = [(peer, self._scores.value(now, peer)) for peer in list(self._scores.tainted)]
        low = [each for each in scores if each[1] < self._thresholds.graylist and each[0] not in self._shunned]
        self._shunned.update(dict.fromkeys(peer for peer, _ in low))
        return low

    def _heartbeat(self, now: Millis) -> list[Action]:
        out: list[Action] = []
        self._seen.sweep(now)
        self._lazy.judge(now)
        out.extend([Noted(Graylisted(*each)) for each in self._newly_shunned(now)])
        self._meshes.expire(now)
        mixing = now >= self._next_mix
        if mixing:
            self._next_mix = Millis(now + self._limits.opportunistic_ms)
        if self._meshes.unsettled or mixing or self._scores.tainted:
            out.extend(self._meshes.tend(now, mixing=mixing, lively=self._taken >= self._limits.lively))
        if mixing:
            self._taken = 0
        if self._fanout:
            stale = now - self._limits.fanout_ms
            for topic in [topic for topic, fanout in self._fanout.items() if fanout.last <= stale]:
                del self._fanout[topic]
        if self._cache:
            out.extend(self._lazy.tell(now, self._meshes))
            self._cache.shift()
        pause = self._limits.heartbeat_ms if self._busy else self._limits.idle_heartbeat_ms
        self._next_beat = Millis(now + pause)
        out.append(SetTimer(HEARTBEAT, self._next_beat))
        return out
