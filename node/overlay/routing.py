"""The Kademlia table: which peers we know, and exactly which k of them are nearest to a point.

Points are 256-bit: SHA-256 of a peer id or key, as libp2p's DHT has it, so that a stock node measures the same distance
(XOR). Bucket i holds contacts whose distance from us has i bits. Seen from a target at distance d from us, all contacts
of a bucket whose bit is set in d are nearer than we are, and nearer the higher the bit; all others are farther, and
farther the higher the bit. So the buckets are already in order, one or two of them are sorted for an answer, and it is
exact: walking outwards from the target's own bucket, as some do, misses 3-4 % (findings of the PyPI package).

Who gets in: a peer that answered us, never one that was only told of. Who stays: the longest known, as long as it
answers (Kademlia §2.2, §4.1). A full bucket's head, the contact not heard of for longest, is to be pinged; newcomers wait
in a bounded cache and the latest of them takes its place only if it fails.

Who told us of a contact matters: at most half of a bucket comes through one introducer. A single liar met early could
otherwise fill all buckets with answering peers of its own before anybody else is asked, and a long-lived contact is
never pushed out again. A contact beyond the share waits in the cache until it is met through another peer or comes to us
itself, which honest ones do within their first look-ups. Identities that connect by themselves are not bounded by this:
what an identity costs is (CONSENSUS §3).

Source: Maymounkov and Mazières, Kademlia (2002); libp2p specs, kad-dht; DESIGN §4.
"""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from consensus.ids import Millis, NodeId
from node.overlay.wire import peer_id

if TYPE_CHECKING:
    import random

BITS: Final = 256


@dataclass(frozen=True, slots=True)
class RoutingLimits:
    """Bounds of a table: 256 buckets × (bucket + spare) contacts of some 300 bytes, 3 MB if every bucket could be full."""

    bucket: int = 20  # contacts: Kademlia's k, libp2p's too
    spare: int = 20  # contacts that wait for a place, a bucket
    introduced: int = 10  # contacts of one bucket through one introducer
    strikes: int = 3  # failures in a row before a contact that nobody waits to replace is forgotten: Tor fails often
    fresh_ms: int = 600_000  # a head heard of since then is not pinged for a newcomer's sake
    pinged: int = 16  # strangers being pinged at a time; besides, one head a bucket
    silent: int = 1_024  # strangers remembered that did not answer: those who ask and do not serve …
    silent_ms: int = 600_000  # … are not pinged again for so long
    stale_ms: int = (
        4 * 3_600_000
    )  # without a look-up in its range, a bucket is refreshed: 25 circuits each over Tor, so not hourly
    refreshed: int = (
        10  # farthest buckets that are refreshed one by one: 20 × 2¹⁰ nodes; the self look-up does the rest
    )


def point(key: bytes) -> int:
    """Where a key, or a peer by its libp2p id, lies in the key space: 0 ≤ point < 2²⁵⁶."""
    return int.from_bytes(sha256(key).digest(), "big")


@lru_cache(maxsize=1 << 16)
def place(node: NodeId) -> int:
    """Where a node lies in the key space; kept, since each answer names twenty nodes that were named before."""
    return point(peer_id(node))


class Contact(NamedTuple):
    """A peer that answered, and the peer that first told us of it; none if it came by itself."""

    node: NodeId
    introducer: NodeId | None


class _Bucket:
    """Contacts of one distance, by place; the least recently seen first."""

    __slots__ = ("live", "probed", "spare")

    def __init__(self) -> None:
        self.live: dict[int, Contact] = {}
        self.spare: dict[int, Contact] = {}
        self.probed: int | None = None  # the head that is being pinged

    def shares(self, introducer: NodeId | None) -> int:
        return sum(contact.introducer == introducer for contact in self.live.values()) if introducer else 0


class Table:
    """Contacts by their distance from one node."""

    def __init__(self, me: NodeId, limits: RoutingLimits) -> None:
        self._me = place(me)
        self._limits = limits
        self._buckets: dict[int, _Bucket] = {}
        self._filled = 0  # bit i - 1 is set while bucket i has contacts
        self._nodes: dict[int, NodeId] = {}  # of all buckets, by place
        self._heard: dict[int, Millis] = {}  # when each of them last answered
        self._strikes: dict[int, int] = {}  # failures in a row, of contacts that have any
        self._touched: dict[int, Millis] = {}  # the last look-up in a bucket's range

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, node: NodeId) -> bool:
        return place(node) in self._nodes

    def has_room(self, node: NodeId) -> bool:
        """Whether a stranger would find a place, if only a place to wait."""
        at = place(node)
        if at in self._nodes or at == self._me:
            return False
        bucket = self._buckets.get((at ^ self._me).bit_length())
        if bucket is None or len(bucket.live) < self._limits.bucket:
            return True
        return at not in bucket.spare and len(bucket.spare) < self._limits.spare

    def seen(self, now: Millis, node: NodeId, introducer: NodeId | None = None) -> NodeId | None:
        """Take note that a peer answered; the head of its full bucket if that is now to be pinged."""
        at = place(node)
        if at == self._me:
            return None
        index = (at ^ self._me).bit_length()
        bucket = self._buckets.get(index)
        if bucket is None:
            bucket = self._buckets[index] = _Bucket()
        live = bucket.live
        known = live.pop(at, None)
        if known is not None:
            live[at] = known
            self._heard[at] = now
            if self._strikes:
                self._strikes.pop(at, None)
            if bucket.probed == at:
                bucket.probed = None
            return None
        contact = Contact(node, introducer)
        bucket.spare.pop(at, None)
        if len(live) < self._limits.bucket and bucket.shares(introducer) < self._limits.introduced:
            self._admit(index, bucket, at, contact, now)
            return None
        while len(bucket.spare) >= self._limits.spare:
            del bucket.spare[next(iter(bucket.spare))]
        bucket.spare[at] = contact
        if len(live) < self._limits.bucket or bucket.probed is not None:
            return None
        head = next(iter(live))
        if now - self._heard[head] < self._limits.fresh_ms:
            return None
        bucket.probed = head
        return live[head].node

    def failed(self, node: NodeId, *, is_blamed: bool = True) -> None:
        """Take note that a peer did not answer: a pinged head makes room at once, others after some failures in a row.

        One that is not to blame, because nobody answers, stays; it can be pinged again.
        """
        at = place(node)
        index = (at ^ self._me).bit_length()
        bucket = self._buckets.get(index)
        if bucket is None:
            return
        probed = bucket.probed == at
        if probed:
            bucket.probed = None
        if not is_blamed:
            return
        if at not in bucket.live:
            bucket.spare.pop(at, None)
            return
        strikes = self._strikes.get(at, 0) + 1
        if strikes < self._limits.strikes and not (probed and bucket.spare):
            self._strikes[at] = strikes
            return
        del bucket.live[at], self._nodes[at]
        heard = self._heard.pop(at)
        self._strikes.pop(at, None)
        for waiting, contact in reversed(bucket.spare.items()):
            if bucket.shares(contact.introducer) < self._limits.introduced:
                del bucket.spare[waiting]
                self._admit(index, bucket, waiting, contact, heard)
                break
        if not bucket.live:
            self._filled &= ~(1 << (index - 1))

    def closest(self, target: int, count: int) -> list[NodeId]:
        """The contacts nearest to a point, nearest first, all of them or count."""
        nearer = self._filled & (target ^ self._me)
        farther = self._filled ^ nearer
        places: list[int] = []
        while nearer and len(places) < count:
            index = nearer.bit_length()
            nearer ^= 1 << (index - 1)
            places += sorted(self._buckets[index].live, key=target.__xor__)
        while farther and len(places) < count:
            index = (farther & -farther).bit_length()
            farther &= farther - 1
            places += sorted(self._buckets[index].live, key=target.__xor__)
        nodes = self._nodes
        return [nodes[at] for at in places[:count]]

    def touch(self, now: Millis, target: int) -> None:
        """Take note of a look-up towards a point: its bucket is fresh."""
        self._touched[(target ^ self._me).bit_length()] = now

    def stale(self, now: Millis) -> list[int]:
        """The buckets due for a refresh, farthest first: of those beyond our nearest contact, the others have nobody."""
        if not self._filled:
            return []
        nearest = max((self._filled & -self._filled).bit_length(), BITS - self._limits.refreshed + 1)
        fresh = now - self._limits.stale_ms
        return [index for index in range(BITS, nearest - 1, -1) if self._touched.get(index, fresh) <= fresh]

    def somewhere(self, index: int, rng: "random.Random") -> NodeId | None:
        """A made-up node that lies in a bucket, to be looked up for its refresh; none if luck did not find one.

        A point cannot be inverted, so this tries some 2^(257 - index) ids at 1-2 µs each: 1-2 ms for the tenth bucket.
        """
        seed = rng.getrandbits(BITS)
        for step in range(8 << (BITS + 1 - index)):
            node = NodeId(((seed + step) % (1 << BITS)).to_bytes(32, "big"))
            if (point(peer_id(node)) ^ self._me).bit_length() == index:
                return node
        return None

    def _admit(self, index: int, bucket: _Bucket, at: int, contact: Contact, heard: Millis) -> None:
        bucket.live[at] = contact
        self._heard[at] = heard
        self._nodes[at] = contact.node
        self._filled |= 1 << (index - 1)


class Strangers:
    """Peers that came to us and may become contacts, once they answer a ping; a flood of them is let pass by."""

    def __init__(self, table: Table, limits: RoutingLimits) -> None:
        self._table = table
        self._limits = limits
        self._pinged: dict[NodeId, None] = {}
        self._silent: dict[NodeId, Millis] = {}  # who did not answer, and when

    def is_worth_a_ping(self, now: Millis, node: NodeId) -> bool:
        """Whether to ping a peer now; it then counts as pinged until it answered or failed."""
        if not self._table.has_room(node) or node in self._pinged or len(self._pinged) >= self._limits.pinged:
            return False
        silent = self._silent.get(node)
        if silent is not None and now - silent < self._limits.silent_ms:
            return False
        self._pinged[node] = None
        return True

    def answered(self, node: NodeId) -> None:
        """Take note that a peer answered anything."""
        self._pinged.pop(node, None)

    def failed(self, now: Millis, node: NodeId) -> None:
        """Take note that a peer did not answer; forgets the one that is silent for longest to remember this one."""
        if node in self._pinged:
            del self._pinged[node]
            self._silent.pop(node, None)
            while len(self._silent) >= self._limits.silent:
                del self._silent[next(iter(self._silent))]
            self._silent[node] = now
