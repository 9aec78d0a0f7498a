"""Who is in which topic, and our mesh of each topic that we are in: GRAFT, PRUNE, backoff and peer exchange.

    mesh < D_low → graft up to D          mesh > D_high → prune down to D: best by score, some dialled, rest by lot
    a negative score → out                fewer than D_out dialled → graft such       fewer than D_low good ones → graft better

A peer that was pruned keeps away for the backoff; a GRAFT before its end is an offence, and two if it comes at once. Peers
are exchanged by id alone: an address that a stranger names proves nothing, whoever wants the peer looks it up.

Source: gossipsub-v1.0.md, "Router State", "Heartbeat"; gossipsub-v1.1.md, "Explicit Peering…" to "Opportunistic Grafting".
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from consensus.encoding import Malformed
from consensus.ids import Millis, NodeId
from node.overlay.machine import Action, Channel, Noted, Send
from node.overlay.scoring import ScoreLimits, Scores
from node.overlay.topics import GossipLimits, Introduced
from node.overlay.wire import Prune, Rpc, Subscription, encode_rpc, node_id, peer_id

if TYPE_CHECKING:
    import random


class _Member:
    """A connected peer."""

    __slots__ = ("dialled", "topics")

    def __init__(self, *, dialled: bool) -> None:
        self.dialled = dialled
        self.topics: dict[str, None] = {}


class Meshes:
    """Membership and meshes. Whoever calls looks at `unsettled` afterwards: a heartbeat would have something to do."""

    def __init__(
        self, me: NodeId, rng: "random.Random", limits: GossipLimits, scores: Scores, thresholds: ScoreLimits
    ) -> None:
        self._me = me
        self._rng = rng
        self._limits = limits
        self._scores = scores
        self._thresholds = thresholds
        self.peers: dict[NodeId, _Member] = {}
        self.members: dict[str, dict[NodeId, None]] = {}
        """Who is in which topic; no empty ones."""
        self.of: dict[str, dict[NodeId, None]] = {}
        """Our meshes, of exactly the topics that we are in."""
        self._backoff: OrderedDict[tuple[str, NodeId], Millis] = OrderedDict()
        self.unsettled = False

    def enter(self, peer: NodeId, *, dialled: bool) -> None:
        """A peer is connected."""
        self.peers[peer] = _Member(dialled=dialled)

    def lose(self, peer: NodeId) -> None:
        """A peer is gone; its backoffs stay."""
        for topic in self.peers.pop(peer).topics:
            self._leaves(peer, topic)

    def join(self, now: Millis, topic: str, known: Iterable[NodeId]) -> list[Action]:
        """Be in a topic, with a mesh of those known that may be grafted, filled up by lot."""
        mesh = self.of[topic] = {}
        able = [peer for peer in known if self._may_graft(now, topic, peer)][: self._limits.degree]
        chosen = dict.fromkeys(able)
        chosen.update(dict.fromkeys(self._candidates(now, topic, self._limits.degree - len(chosen), chosen)))
        for peer in chosen:
            mesh[peer] = None
            self._scores.grafted(now, peer)
        self.unsettled = True
        return _post(chosen, Rpc(graft=(topic,)))

    def leave(self, now: Millis, topic: str) -> list[Action]:
        """Be in a topic no longer, and say so to its mesh."""
        mesh = self.of.pop(topic)
        backoff = self._limits.unsubscribe_backoff_ms
        for peer in mesh:
            self._scores.pruned(peer)
            self._back_off(topic, peer, Millis(now + backoff))
        return _post(mesh, Rpc(prune=(Prune(topic, (), backoff // 1000),)))

    def on_subscriptions(self, peer: NodeId, subscriptions: Sequence[Subscription]) -> bool:
        """Take over a peer's wishes; False, and nothing done, if they are too many."""
        state = self.peers[peer]
        topics = dict(state.topics)
        for subscribe, topic in subscriptions:
            if subscribe:
                topics[topic] = None
            else:
                topics.pop(topic, None)
        if len(topics) > self._limits.topics_per_peer_max:
            return False
        for topic in state.topics:
            if topic not in topics:
                self._leaves(peer, topic)
        for topic in topics:
            if topic not in state.topics:
                self._enters(peer, topic)
        state.topics = topics
        return True

    def on_grafts(self, now: Millis, peer: NodeId, topics: Sequence[str]) -> list[Action]:
        """Take the peer into meshes, or tell it why not by PRUNE; a topic we are not in is passed over in silence."""
        limits, state = self._limits, self.peers[peer]
        refused: list[Prune] = []
        for topic in dict.fromkeys(topics):
            mesh = self.of.get(topic)
            if mesh is None or peer in mesh:
                continue
            until = self._backoff.get((topic, peer), 0)
            others: tuple[bytes, ...] = ()
            if until > now:
                early = until - limits.prune_backoff_ms + limits.graft_flood_ms > now
                self._scores.offended(now, peer, 2 if early else 1)
            elif not self._scores.ok(now, peer, 0.0):
                pass  # a bad peer is named nobody
            elif len(mesh) >= limits.degree_high and not state.dialled:
                others = self._others(now, topic, peer)
            elif topic in state.topics or len(state.topics) < limits.topics_per_peer_max:
                if topic not in state.topics:  # to graft is to be in the topic
                    state.topics[topic] = None
                    self._enters(peer, topic)
                mesh[peer] = None
                self._scores.grafted(now, peer)
                self.unsettled |= len(mesh) > limits.degree_high
                continue
            self._back_off(topic, peer, Millis(now + limits.prune_backoff_ms))
            refused.append(Prune(topic, others, limits.prune_backoff_ms // 1000))
        return _post((peer,), Rpc(prune=tuple(refused))) if refused else []

    def on_prunes(self, now: Millis, peer: NodeId, prunes: Sequence[Prune]) -> list[Action]:
        """The peer has taken us out of meshes: keep away from it for as long as it says, an hour at most."""
        limits = self._limits
        out: list[Action] = []
        for topic, peers, backoff_s in prunes:
            mesh = self.of.get(topic)
            if mesh is None:
                continue
            if peer in mesh:
                del mesh[peer]
                self._scores.pruned(peer)
                self.unsettled = True
            backoff = min(backoff_s, limits.backoff_ms_max // 1000) * 1000 or limits.prune_backoff_ms
            self._back_off(topic, peer, Millis(now + backoff + limits.heartbeat_ms))
            if peers and self._scores.value(now, peer) >= self._thresholds.accept_exchange:
                named = dict.fromkeys(_node_ids(peers[: limits.exchanged]))
                known = tuple([node for node in named if node != self._me and node not in self.peers])
                if known:
                    out.append(Noted(Introduced(topic, peer, known)))
        return out

    def pick(self, peers: Sequence[NodeId], count: int) -> Sequence[NodeId]:
        """Count of the peers by lot, or all if they are no more."""
        return peers if len(peers) <= count else self._rng.sample(peers, count)

    def expire(self, now: Millis) -> None:
        """Forget backoffs that are over, as far as they stand first; the others are few."""
        while self._backoff and next(iter(self._backoff.values())) <= now:
            self._backoff.popitem(last=False)

    def tend(self, now: Millis, *, mixing: bool, lively: bool = False) -> list[Action]:
        """Bring every mesh to its size and quality; `unsettled` stays if time alone may bring a mesh its missing peers.

        Lively: so many messages came since meshes were mixed last that it tells what each peer brought.
        """
        grafts: dict[NodeId, list[str]] = {}
        prunes: dict[NodeId, list[Prune]] = {}
        self.unsettled = False
        worth = (self._scores.merit if lively else self._scores.value) if mixing else None
        for topic, mesh in self.of.items():
            self._expel(now, topic, mesh, prunes)
            added: Sequence[NodeId] = ()
            if len(mesh) < self._limits.degree_low:
                added = self._candidates(now, topic, self._limits.degree - len(mesh), mesh)
            elif len(mesh) > self._limits.degree_high:
                self._cut(now, topic, mesh, prunes)
            for peer in (*added, *self._improve(now, topic, dict.fromkeys((*mesh, *added)), worth)):
                mesh[peer] = None
                self._scores.grafted(now, peer)
                grafts.setdefault(peer, []).append(topic)
            self.unsettled |= len(mesh) < self._limits.degree_low and len(self.members.get(topic, ())) > len(mesh)
        frames: dict[tuple[str, ...], bytes] = {}
        out: list[Action] = []
        for peer, topics in grafts.items():
            key = tuple(topics)
            frame = frames.get(key) or encode_rpc(Rpc(graft=key))
            frames[key] = frame
            out.append(Send(peer, Channel.GOSSIP, frame))
        for peer, pruned in prunes.items():
            out.extend(_post((peer,), Rpc(prune=tuple(pruned))))
        return out

    def _enters(self, peer: NodeId, topic: str) -> None:
        self.members.setdefault(topic, {})[peer] = None
        self.unsettled |= topic in self.of

    def _leaves(self, peer: NodeId, topic: str) -> None:
        members = self.members[topic]
        del members[peer]
        if not members:
            del self.members[topic]
        if topic in self.of and peer in self.of[topic]:
            del self.of[topic][peer]
            self._scores.pruned(peer)
            self.unsettled = True

    def _expel(self, now: Millis, topic: str, mesh: dict[NodeId, None], prunes: dict[NodeId, list[Prune]]) -> None:
        """Take peers with a negative score out of the mesh; they are named nobody."""
        for peer in [peer for peer in self._scores.tainted if peer in mesh]:
            if self._scores.value(now, peer) < 0:
                self._prune(now, topic, mesh, peer, (), prunes)

    def _cut(self, now: Millis, topic: str, mesh: dict[NodeId, None], prunes: dict[NodeId, list[Prune]]) -> None:
        """Down to D: the best by score, at least `degree_out` that we dialled, the rest by lot."""
        limits = self._limits
        order = self._rng.sample(list(mesh), len(mesh))
        order.sort(key=lambda peer: self._scores.value(now, peer), reverse=True)
        tail = order[limits.degree_score :]
        kept = [*order[: limits.degree_score], *self._rng.sample(tail, limits.degree - limits.degree_score)]
        ours = sum(self.peers[peer].dialled for peer in kept)
        spare = [peer for peer in order if peer not in kept and self.peers[peer].dialled]
        for peer in spare[: max(0, limits.degree_out - ours)]:
            given_up = next(each for each in reversed(kept) if not self.peers[each].dialled)
            kept[kept.index(given_up)] = peer
        for peer in order:
            if peer not in kept:
                self._prune(now, topic, mesh, peer, self._others(now, topic, peer), prunes)

    def _improve(
        self, now: Millis, topic: str, mesh: Mapping[NodeId, None], worth: Callable[[Millis, NodeId], float] | None
    ) -> list[NodeId]:
        """Peers to add to a mesh that is large enough: for the outbound quota, and because others are worth more."""
        limits = self._limits
        if len(mesh) < limits.degree_low:
            return []
        chosen: list[NodeId] = []
        missing = limits.degree_out - sum(self.peers[peer].dialled for peer in mesh)
        if missing > 0:
            able = self._candidates(now, topic, len(self.peers), mesh)
            chosen.extend(self.pick([peer for peer in able if self.peers[peer].dialled], missing))
        if worth is not None:
            values = sorted((worth(now, peer) for peer in mesh), reverse=True)
            low = values[min(len(values), limits.degree_low) - 1]
            if low < self._thresholds.opportunistic:
                able = self._candidates(now, topic, len(self.peers), dict.fromkeys((*mesh, *chosen)))
                better = [peer for peer in able if worth(now, peer) > low]
                chosen.extend(self.pick(better, limits.opportunistic_peers))
        return chosen

    def _prune(
        self,
        now: Millis,
        topic: str,
        mesh: dict[NodeId, None],
        peer: NodeId,
        others: tuple[bytes, ...],
        prunes: dict[NodeId, list[Prune]],
    ) -> None:
        del mesh[peer]
        self._scores.pruned(peer)
        self._back_off(topic, peer, Millis(now + self._limits.prune_backoff_ms))
        prunes.setdefault(peer, []).append(Prune(topic, others, self._limits.prune_backoff_ms // 1000))

    def _back_off(self, topic: str, peer: NodeId, until: Millis) -> None:
        key = (topic, peer)
        self._backoff[key] = max(until, self._backoff.get(key, until))
        self._backoff.move_to_end(key)
        while len(self._backoff) > self._limits.backoffs_max:
            self._backoff.popitem(last=False)

    def _may_graft(self, now: Millis, topic: str, peer: NodeId) -> bool:
        return self._backoff.get((topic, peer), 0) <= now and self._scores.ok(now, peer, 0.0)

    def _candidates(self, now: Millis, topic: str, count: int, besides: Mapping[NodeId, None]) -> Sequence[NodeId]:
        """Up to count peers of a topic, by lot, that may be grafted and are not among those besides."""
        members = self.members.get(topic, {})
        return self.pick([p for p in members if p not in besides and self._may_graft(now, topic, p)], count)

    def _others(self, now: Millis, topic: str, peer: NodeId) -> tuple[bytes, ...]:
        """Peer ids of others in a topic, for one that is pruned."""
        members = [p for p in self.members.get(topic, ()) if p != peer and self._scores.ok(now, p, 0.0)]
        return tuple([peer_id(each) for each in self.pick(members, self._limits.exchanged)])


def _post(peers: Iterable[NodeId], rpc: Rpc) -> list[Action]:
    frame = encode_rpc(rpc)
    return [Send(peer, Channel.GOSSIP, frame) for peer in peers]


def _node_ids(peers: Iterable[bytes]) -> list[NodeId]:
    """The nodes among peer ids; those of other key types are left out."""
    found = []
    for peer in peers:
        try:
            found.append(node_id(peer))
        except Malformed:
            continue
    return found
