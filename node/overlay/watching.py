"""Challenges in both directions: whom we challenge each HOUR, whether the answer holds, and what we answer ourselves.

Every member of a chunk (its holders and its owner) draws the same lots from the HOUR's seed, so each holder is challenged
by one of the others, and nobody has to agree on anything. A member believes only the challenges that it made itself: one
that has not seen a holder pass for half the repair time asks every time, whoever was drawn, so colluding members cannot
vouch for each other.

Which segments are asked for the challenger draws by itself, and says so in its frame (a nonce): nobody can foresee them and keep
just those. A chunk has its turn every few HOURs, each its own, so that rounds are alike; who is overdue is asked in every one.

A round is one timer for all chunks, its challenges go out in one frame for each holder, and one timer watches over the
deadlines. Missed challenges count only while we are connected to somebody, or a node that was cut off would replace all.

Source: CONSENSUS §4.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

from consensus.beacon import CHALLENGED, Segment, challenge, segment_count, shown
from consensus.ids import Digest, Millis, Network, NodeId
from consensus.merkle import SEGMENT
from consensus.placement import lots, watcher
from consensus.signing import digest
from node.overlay import replica_frames as frames
from node.overlay.custody import Challenged, Custody, ReadSegments, ReplicateLimits, SegmentsRead, Want
from node.overlay.machine import Action, Channel, Noted, Rejected, Send, SetTimer, TimerKey
from node.overlay.replica_frames import ITEMS_MAX, SegmentsAsked, SegmentsShown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

ASKS: Final[TimerKey] = ("replicate", "asks")
_GROUP: Final = 8
"""Segments in one read and one answer frame: 128 KiB and their proofs."""


def is_turn(chunk: Digest, hour: int, every: int) -> bool:
    """Whether an HOUR is one in which the replicas of a chunk are challenged by lot."""
    return (hour + int.from_bytes(chunk[:4], "big")) % every == 0


class _Ask:
    """An open challenge of ours."""

    __slots__ = ("deadline", "hour", "left", "weight")

    def __init__(self, hour: int, indexes: tuple[int, ...], deadline: Millis) -> None:
        self.hour, self.deadline = hour, deadline
        self.left = dict.fromkeys(indexes)
        self.weight = len(indexes) * SEGMENT


class _Read(NamedTuple):
    """Whom we owe what the host is reading."""

    peer: NodeId
    hour: int
    chunks: tuple[Digest, ...]


class Watch:
    """The challenges of one node; `custodies` and `seeds` are its owner's, looked up and never replaced."""

    def __init__(
        self,
        me: NodeId,
        network: Network,
        limits: ReplicateLimits,
        custodies: dict[Digest, Custody],
        seeds: dict[int, Digest],
        rng: "Random",
    ) -> None:
        self._me, self._network, self._limits = me, network, limits
        self._custodies, self._seeds = custodies, seeds
        self._rng, self._secret, self._nonces = rng, b"", 0
        self._hour = 0
        self._queue: dict[NodeId, list[Digest]] = {}
        self._asks: dict[tuple[NodeId, Digest], _Ask] = {}
        self._asked_bytes = 0
        self._armed = False
        self._reads: dict[int, _Read] = {}
        self._ref = 0
        self._items: dict[NodeId, int] = {}
        self.up: dict[NodeId, None] = {}
        """Connected peers."""
        self.heard = Millis(0)
        """When a valid frame last came from anybody."""

    def new_hour(self) -> None:
        """Forget what counted for the last HOUR, and reads that the host has owed us for HOURs."""
        self._items.clear()
        for ref in [ref for ref, one in self._reads.items() if one.hour not in self._seeds]:
            del self._reads[ref]

    def begin(self, now: Millis, hour: int) -> list[Action]:
        """Challenge everybody that the HOUR's lots give us, and whoever we have not seen pass for long."""
        seed = self._seeds.get(hour)
        if seed is None:
            return []
        self._hour, self._queue = hour, {}
        me, queue, overdue = self._me, self._queue, now - self._limits.repair_ms // 2
        every = self._limits.challenge_hours
        for chunk, custody in self._custodies.items():
            holders = custody.holders
            if not holders:
                continue
            ring, owner = custody.ring, custody.deposit.owner
            drawn = lots(self._network, seed, chunk, hour) if is_turn(chunk, hour, every) else None
            for target, node in enumerate(ring):
                if node == me:
                    continue
                if holders[node].passed < overdue or (drawn is not None and watcher(drawn, ring, target, owner) == me):
                    queue.setdefault(node, []).append(chunk)
            if len(ring) - (custody.mine >= 0) < len(holders):
                for node, holding in holders.items():
                    if not holding.live and (holding.recall or hour % self._limits.sync_hours == 0):
                        holding.recall = False
                        queue.setdefault(node, []).append(chunk)
        return self._pump(now)

    def _pump(self, now: Millis) -> list[Action]:
        """Send challenges as long as what they ask for may be under way."""
        actions: list[Action] = []
        if self._hour not in self._seeds:  # so slow that nobody knows the seed any more
            self._queue = {}
        while self._queue and self._asked_bytes < self._limits.asked_bytes:
            node, chunks = next(iter(self._queue.items()))
            items: list[tuple[Digest, Digest]] = []
            nonce = self._nonce()
            while chunks and len(items) < ITEMS_MAX and self._asked_bytes < self._limits.asked_bytes:
                item = self._ask(now, node, chunks.pop(), nonce)
                if item is not None:
                    items.append(item)
            if not chunks:
                del self._queue[node]
            if items:
                actions.append(Send(node, Channel.REPLICAS, frames.asked(self._hour, nonce, items)))
        if self._asks and not self._armed:
            self._armed = True
            actions.append(SetTimer(ASKS, next(iter(self._asks.values())).deadline))
        return actions

    def _nonce(self) -> Digest:
        """Another one for each frame: who was asked may tell others what. Hashed, so that they do not tell the state of rng."""
        self._secret = self._secret or self._rng.randbytes(32)
        self._nonces += 1
        return digest("challenge nonce", self._network, self._secret + self._nonces.to_bytes(8, "big"))

    def _ask(self, now: Millis, node: NodeId, chunk: Digest, nonce: Digest) -> tuple[Digest, Digest] | None:
        """Open one challenge and return what its frame says, unless the holder is gone or still owes us one."""
        custody = self._custodies.get(chunk)
        holding = custody.holders.get(node) if custody is not None else None
        if custody is None or holding is None or (node, chunk) in self._asks:
            return None
        indexes = challenge(self._network, nonce, holding.name, self._hour, custody.deposit.size)
        ask = _Ask(self._hour, indexes, Millis(now + self._limits.answer_ms))
        self._asks[node, chunk] = ask
        self._asked_bytes += ask.weight
        return chunk, holding.name

    def on_shown(self, now: Millis, peer: NodeId, frame: SegmentsShown) -> list[Action]:
        """Take segments that were asked for and hold; one that does not spoils the frame."""
        for chunk, segments in frame.items:
            fault = self._fault(now, peer, frame.hour, chunk, segments)
            if fault is not None:
                return [Noted(Rejected(peer, fault))]
        actions: list[Action] = []
        for chunk, segments in frame.items:
            ask = self._asks[peer, chunk]
            for segment in segments:
                del ask.left[segment.number]
            if not ask.left:
                del self._asks[peer, chunk]
                self._asked_bytes -= ask.weight
                actions += self._passed(now, peer, chunk)
        return actions + self._pump(now) if self._queue else actions

    def _fault(self, now: Millis, peer: NodeId, hour: int, chunk: Digest, segments: tuple[Segment, ...]) -> str | None:
        ask = self._asks.get((peer, chunk))
        if ask is None or ask.hour != hour or now >= ask.deadline:
            return "an answer to no open challenge"
        custody = self._custodies[chunk]
        root, size = custody.deposit.roots[custody.holders[peer].j], custody.deposit.size
        last = -1
        for segment in segments:
            if segment.number <= last or segment.number not in ask.left:
                return "a segment that was not asked for"
            last = segment.number
            if not shown(root, size, segment):
                return "a segment that is not the replica's"
        return None

    def _passed(self, now: Millis, peer: NodeId, chunk: Digest) -> list[Action]:
        custody = self._custodies[chunk]
        holding = custody.holders[peer]
        holding.passed, holding.misses, holding.silent = now, 0, None
        actions: list[Action] = [Noted(Challenged(chunk, holding.j, peer, passed=True))]
        if not holding.live:
            holding.live = True
            custody.close_ring(self._me)
            if peer in custody.vacant:
                custody.vacant.remove(peer)
            actions.append(custody.persist())
        return actions

    def on_deadline(self, now: Millis) -> tuple[list[Action], list[tuple[Digest, NodeId]]]:
        """Close the challenges whose time is up; second, the live holders that have failed for too long."""
        self._armed = False
        actions: list[Action] = []
        failed: list[tuple[Digest, NodeId]] = []
        limits = self._limits
        # Who is overdue is asked in each HOUR, with a jitter: the round that is nearest to the repair time decides.
        since = now - limits.repair_ms + limits.hour_ms // 2
        silent = since + limits.repair_ms // 4
        for key in list(self._expired(now)):
            ask = self._asks.pop(key)
            self._asked_bytes -= ask.weight
            node, chunk = key
            holding = self._custodies[chunk].holders[node]
            actions.append(Noted(Challenged(chunk, holding.j, node, passed=False)))
            if self.up or self.heard > ask.deadline - limits.answer_ms:
                holding.misses += 1
                holding.silent = now if holding.silent is None else holding.silent
            is_gone = holding.passed <= since and holding.silent is not None and holding.silent <= silent
            if holding.live and is_gone and holding.misses >= limits.misses_min:
                failed.append((chunk, node))
        return actions + self._pump(now), failed

    def _expired(self, now: Millis) -> "Iterator[tuple[NodeId, Digest]]":
        for key, ask in self._asks.items():  # in the order of their deadlines, all being equally long
            if ask.deadline > now:
                return
            yield key

    def forget(self, chunk: Digest, node: NodeId | None = None) -> None:
        """Drop our open challenges on a chunk, or on one holder of it, before either is dropped."""
        for key in [key for key in self._asks if key[1] == chunk and node in {None, key[0]}]:
            self._asked_bytes -= self._asks.pop(key).weight

    def on_asked(self, peer: NodeId, frame: SegmentsAsked) -> list[Action]:
        """Have the host read what a member challenges us for; what we do not hold, or know by another receipt, is said."""
        spent = self._items.get(peer, 0) + len(frame.items)
        fault = self._refusal(peer, frame, spent)
        if fault is not None:
            return [Noted(Rejected(peer, fault))]
        if spent == len(frame.items) and len(self._items) >= self._limits.peers_max:
            return [Noted(Rejected(peer, "a challenge by one peer too many"))]
        self._items[peer] = spent
        actions: list[Action] = []
        stale = []
        seed = self._seeds[frame.hour] if frame.nonce is None else frame.nonce
        wants: list[tuple[Digest, Want]] = []
        for chunk, receipt in frame.items:
            custody = self._custodies.get(chunk)
            if custody is None or custody.signed is None:
                actions.append(Send(peer, Channel.REPLICAS, frames.released(chunk)))
                continue
            if peer != custody.deposit.owner and peer not in custody.holders:
                continue  # 512 KiB for whoever asks would be a weapon; an old holder that was replaced is no liar
            custody.asked[peer] = frame.hour
            if receipt not in {custody.name, custody.before}:
                stale.append(custody.signed)
                continue
            holding = custody.holders.get(peer)
            if holding is not None and not holding.live:
                holding.recall = True
            deposit = custody.deposit
            indexes = challenge(self._network, seed, receipt, frame.hour, deposit.size)
            root = deposit.roots[custody.mine]
            wants += [(chunk, Want(chunk, root, indexes[at : at + _GROUP])) for at in range(0, len(indexes), _GROUP)]
        if stale:
            actions.append(Send(peer, Channel.REPLICAS, frames.told(tuple(stale))))
        return actions + self._reading(peer, frame.hour, wants)

    def _refusal(self, peer: NodeId, frame: SegmentsAsked, spent: int) -> str | None:
        if frame.hour not in self._seeds:
            return "a challenge of an HOUR that is not now"
        if spent > self._limits.items_peer_max:
            return "too many challenges in one HOUR"
        parts = 0
        for chunk, _receipt in frame.items:
            custody = self._custodies.get(chunk)
            if custody is None or custody.signed is None:
                continue
            if custody.asked.get(peer, -1) >= frame.hour:
                return "a second challenge in one HOUR"
            parts += min(CHALLENGED, segment_count(custody.deposit.size))
        if len(self._reads) + 2 * parts // _GROUP + 1 > self._limits.reads_max:
            return "a challenge while too many are open"
        return None

    def _reading(self, peer: NodeId, hour: int, wants: list[tuple[Digest, Want]]) -> list[Action]:
        """Reads of at most _GROUP segments, over several replicas where they are small."""
        actions: list[Action] = []
        group: list[tuple[Digest, Want]] = []
        filled = 0
        for one in [*wants, None]:
            if group and (one is None or filled + len(one[1].indexes) > _GROUP):
                self._ref += 1
                self._reads[self._ref] = _Read(peer, hour, tuple(chunk for chunk, _ in group))
                actions.append(Noted(ReadSegments(self._ref, tuple(want for _, want in group))))
                group, filled = [], 0
            if one is not None:
                group.append(one)
                filled += len(one[1].indexes)
        return actions

    def on_read(self, order: SegmentsRead) -> tuple[list[Action], list[Digest]]:
        """Answer with what the host has read; second, the chunks that it could not read."""
        read = self._reads.pop(order.ref, None)
        if read is None:
            return [], []
        items = []
        damaged = []
        for chunk, segments in zip(read.chunks, order.found, strict=True):
            if segments is None:
                damaged.append(chunk)
            else:
                items.append((chunk, segments))
        if not items:
            return [], damaged
        return [Send(read.peer, Channel.REPLICAS, frames.shown(read.hour, items))], damaged
