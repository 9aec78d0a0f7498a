"""What peers have earned by how they behave, and what authors may still send: the books of the gossip router.

A peer's score is what gossipsub 1.1 calls P1 (time in the mesh), P2 (messages it brought first), P4 (invalid messages,
squared) and P7 (misbehaviour beyond a threshold, squared). P3 punishes a mesh member for messages that it did not bring:
on topics of a few messages an hour that is noise, so it is left out. P6 counts peers behind one IP: behind Tor all are
127.0.0.1. All topics weigh the same, so the counters are kept per peer. Counters decay in steps and lazily: a peer nobody
asks about costs nothing.

    score = mesh_weight · min(minutes, mesh_cap) + min(first, first_cap) − invalid_weight · invalid² − offence_weight · max(0, offences − tolerated)²

What a peer earns is capped far below what one lie costs, so that no good past pays for an attack. A bad name outlives the
connection; a good one does not. Faults decay far more slowly than merit: with one pace for both a peer below the graylist
threshold was read again after half a minute.

An author is limited by how many messages and bytes it signs, whoever forwards them: a limit on forwarders would punish
those who carry most. Only what its signature and the topic's rules accepted is charged, so nobody else can empty its
bucket. And an author's *floor* is the highest of its sequence numbers that were forgotten: what is not above it is old or
a replay. Messages that are still remembered may arrive in any order, so the floor costs nothing while messages take less
than the memory's time to live. It needs authors whose numbers rise, as go-libp2p's, js-libp2p's and ours do. Older
js-libp2p drew them at random: a network with such authors sets `ordered` to False and leaves replays to its validators.

Source: gossipsub-v1.1.md, "Peer Scoring", "Spam Protection Measures"; go-libp2p-pubsub, BasicSeqnoValidator.
"""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cache

from consensus.ids import Millis, NodeId
from node.overlay.wire import SEQNO_BYTES

_COUNTER_MAX = 1e3  # its square is far beyond every threshold


@dataclass(frozen=True, slots=True)
class ScoreLimits:
    """Weights and thresholds; the scale is gossipsub's own, where −10 stops gossip and −80 everything."""

    decay_ms: int = 10_000  # a step of decay
    decay: float = 0.9  # of what was earned, kept at a step: a half after 66 s, a tenth after 220 s
    fault_decay: float = 0.98729  # of faults: a half after 9 min, a hundredth after an hour, as in Lotus and Celestia
    mesh_weight: float = 1.0  # a minute in the mesh
    mesh_cap: float = 5.0
    first_cap: float = 20.0
    invalid_weight: float = 10.0  # three invalid messages within seconds: −90, graylisted
    offence_weight: float = 10.0
    tolerated: float = (
        6.0  # offences, as in Lotus and Prysm; one stall of an honest circuit breaks the promises of 5 beats
    )
    gossip: float = -10.0  # below: no IHAVE, no IWANT, none of ours told
    publish: float = -50.0  # below: our own messages are not flooded to it
    graylist: float = -80.0  # below: nothing of its frames is read, and the connection ends (peer, blocklist)
    accept_exchange: float = 0.0  # from here on the peers it names are passed on
    opportunistic: float = 1.0  # a mesh whose median is below is worth mixing up
    retain_ms: int = 6 * 3_600_000  # a bad name is kept after the connection, as in Lotus: longer than faults last
    retained_max: int = 4096


class _Standing:
    """Counters of one peer; `period` is the step of decay up to which they are right."""

    __slots__ = ("first", "invalid", "meshes", "offences", "period", "since")

    def __init__(self, period: int) -> None:
        self.meshes = 0
        self.since = 0
        self.first = 0.0
        self.invalid = 0.0
        self.offences = 0.0
        self.period = period


class Scores:
    """The score of every connected peer, and of those that left with a bad name."""

    def __init__(self, limits: ScoreLimits) -> None:
        self._limits = limits
        self._peers: dict[NodeId, _Standing] = {}
        self._retained: OrderedDict[NodeId, tuple[Millis, _Standing]] = OrderedDict()
        self.tainted: dict[NodeId, None] = {}
        """Connected peers with any fault on their account; only they can have a score below 0."""
        self._factors = _powers(limits.decay)
        self._fault_factors = _powers(limits.fault_decay)

    def enter(self, now: Millis, peer: NodeId) -> None:
        """The peer is connected; faults of a connection before this one still count."""
        if peer in self._peers:
            return
        until, standing = self._retained.pop(peer, (0, None))
        if standing is None or until <= now:
            standing = _Standing(now // self._limits.decay_ms)
        self._peers[peer] = standing
        if standing.invalid or standing.offences:
            self.tainted[peer] = None

    def leave(self, now: Millis, peer: NodeId) -> None:
        """The peer is gone, its faults are kept for a while."""
        standing = self._peers.pop(peer, None)
        if self.tainted.pop(peer, 0) == 0 or standing is None:
            return
        standing.meshes, standing.first = 0, 0.0
        self._retained.pop(peer, None)
        while len(self._retained) >= self._limits.retained_max:
            self._retained.popitem(last=False)
        self._retained[peer] = (Millis(now + self._limits.retain_ms), standing)

    def value(self, now: Millis, peer: NodeId) -> float:
        """The score; 0 for a peer that is not connected."""
        standing = self._peers.get(peer)
        if standing is None:
            return 0.0
        limits = self._limits
        self._decay(now, peer, standing)
        score = min(standing.first, limits.first_cap)
        if standing.meshes:
            score += limits.mesh_weight * min((now - standing.since) / 60_000, limits.mesh_cap)
        if standing.invalid:
            score -= limits.invalid_weight * standing.invalid * standing.invalid
        if standing.offences > limits.tolerated:
            excess = standing.offences - limits.tolerated
            score -= limits.offence_weight * excess * excess
        return score

    def merit(self, now: Millis, peer: NodeId) -> float:
        """P2 alone: what a peer has brought first, lately. Time in the mesh is no merit where messages pass it by."""
        standing = self._peers.get(peer)
        if standing is None:
            return 0.0
        self._decay(now, peer, standing)
        return standing.first

    def ok(self, now: Millis, peer: NodeId, threshold: float) -> bool:
        """Whether the score is at a threshold ≤ 0 or above it; cheap for peers without a fault."""
        return peer not in self.tainted or self.value(now, peer) >= threshold

    def grafted(self, now: Millis, peer: NodeId) -> None:
        """One more of our meshes has the peer."""
        standing = self._peers[peer]
        if not standing.meshes:
            standing.since = now
        standing.meshes += 1

    def pruned(self, peer: NodeId) -> None:
        """One less of our meshes has the peer."""
        standing = self._peers.get(peer)
        if standing is not None:
            standing.meshes -= 1

    def brought(self, now: Millis, peer: NodeId) -> None:
        """The peer was the first to bring a valid message (P2)."""
        standing = self._peers[peer]
        self._decay(now, peer, standing)
        standing.first = min(standing.first + 1, self._limits.first_cap)

    def invalid(self, now: Millis, peer: NodeId) -> None:
        """The peer sent what no honest peer sends (P4)."""
        standing = self._peers[peer]
        self._decay(now, peer, standing)
        standing.invalid = min(standing.invalid + 1, _COUNTER_MAX)
        self.tainted[peer] = None

    def offended(self, now: Millis, peer: NodeId, count: int = 1) -> None:
        """The peer did what an honest peer does rarely (P7): broke a promise, grafted during backoff."""
        standing = self._peers.get(peer)
        if standing is not None:
            self._decay(now, peer, standing)
            standing.offences = min(standing.offences + count, _COUNTER_MAX)
            self.tainted[peer] = None

    def kept(self, now: Millis, peer: NodeId) -> None:
        """The peer kept a promise, which makes up for a broken one: links lose frames of honest peers too."""
        standing = self._peers.get(peer)
        if standing is not None and standing.offences:
            self._decay(now, peer, standing)
            standing.offences = max(0.0, standing.offences - 1)

    def _decay(self, now: Millis, peer: NodeId, standing: _Standing) -> None:
        period = now // self._limits.decay_ms
        steps = period - standing.period
        if steps <= 0:
            return
        standing.period = period
        standing.first *= self._factors[steps] if steps < len(self._factors) else 0.0
        if peer in self.tainted:
            factor = self._fault_factors[steps] if steps < len(self._fault_factors) else 0.0
            standing.invalid *= factor
            standing.offences *= factor
            if standing.invalid < 0.01 and standing.offences < 0.01:
                standing.invalid = standing.offences = 0.0
                del self.tainted[peer]


@cache
def _powers(factor: float) -> tuple[float, ...]:
    """The factor to the power of 0, 1, … until no counter is left; by multiplication, which all platforms round alike."""
    powers = [1.0]
    while powers[-1] * _COUNTER_MAX >= 0.01:
        powers.append(powers[-1] * factor)
    return tuple(powers)


@dataclass(frozen=True, slots=True)
class AuthorLimits:
    """What one author may sign, however many peers forward it; a token bucket on each."""

    messages_burst: int = 1000  # a session's end or an era's directory entries come at once
    messages_per_s: int = 10  # "below 20 msg/s a node" in all (findings/net.md §3); one author is far below
    bytes_burst: int = 4 << 20
    bytes_per_s: int = 64 << 10  # what a Tor circuit carries beside everything else
    authors_max: int = 16_384  # the directory has at most 10,000 nodes
    ordered: bool = True  # authors number their messages upwards


class Budget:
    """A token bucket on messages and one on bytes, in thousandths."""

    __slots__ = ("at", "floor", "messages", "octets")

    def __init__(self, now: Millis, limits: AuthorLimits) -> None:
        self.at = now
        self.messages = limits.messages_burst * 1000
        self.octets = limits.bytes_burst * 1000
        self.floor = bytes(SEQNO_BYTES)
        """The highest sequence number of the author's that was forgotten."""

    def covers(self, now: Millis, size: int, limits: AuthorLimits) -> bool:
        """Whether a message of so many bytes may be sent now; changes nothing."""
        passed = max(0, now - self.at)
        return (
            min(self.messages + passed * limits.messages_per_s, limits.messages_burst * 1000) >= 1000
            and min(self.octets + passed * limits.bytes_per_s, limits.bytes_burst * 1000) >= size * 1000
        )

    def ready(self, size: int, limits: AuthorLimits) -> Millis:
        """When a message of so many bytes is covered."""
        messages = -(-max(0, 1000 - self.messages) // limits.messages_per_s)
        octets = -(-max(0, size * 1000 - self.octets) // limits.bytes_per_s)
        return Millis(self.at + max(messages, octets))

    def charge(self, now: Millis, size: int, limits: AuthorLimits) -> None:
        """Add what the time since the last charge has earned and take a message of so many bytes out."""
        passed = max(0, now - self.at)
        self.at = max(self.at, now)
        self.messages = min(self.messages + passed * limits.messages_per_s, limits.messages_burst * 1000) - 1000
        self.octets = min(self.octets + passed * limits.bytes_per_s, limits.bytes_burst * 1000) - size * 1000


class Authors:
    """The budgets and floors of the authors heard last."""

    def __init__(self, limits: AuthorLimits) -> None:
        self._limits = limits
        self._authors: OrderedDict[NodeId, Budget] = OrderedDict()

    def admits(self, now: Millis, author: NodeId, seqno: bytes, size: int) -> bool:
        """Whether a message is new enough and within its author's budget; changes nothing."""
        budget = self._authors.get(author)
        if budget is None:
            return True
        if seqno <= budget.floor and self._limits.ordered:
            return False
        return budget.covers(now, size, self._limits)

    def charge(self, now: Millis, author: NodeId, size: int, *, known: bool) -> None:
        """Take a verified message out of its author's budget.

        known: the topic's rules accepted it. Without that a new author gets no entry, else whoever makes up keys could
        push the real ones out.
        """
        budget = self._authors.get(author)
        if budget is None:
            if not known:
                return
            while len(self._authors) >= self._limits.authors_max:
                self._authors.popitem(last=False)
            budget = self._authors[author] = Budget(now, self._limits)
        self._authors.move_to_end(author)  # the first is who was silent longest
        budget.charge(now, size, self._limits)

    def forgotten(self, author: NodeId, seqno: bytes) -> None:
        """A message is no longer remembered as seen: from now on its number and those below are old."""
        budget = self._authors.get(author)
        if budget is not None and seqno > budget.floor:
            budget.floor = seqno
