"""What can be asked of the DHT, what comes of it, and how far one such call has got.

A call is a look-up whose questions are of one kind, and for some a second stage that tells the peers found. GET takes
the newest of a quorum of answers, not the first, for one liar may hold an old value; who answered with an older one is
put right (libp2p specs, kad-dht, "Entry correction").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from consensus.encoding import Malformed
from consensus.ids import Millis, NodeId
from node.overlay.holdings import Judged
from node.overlay.lookup import Lookup
from node.overlay.wire import KadMessage, KadPeer, KadRecord, KadType, encode_kad, node_id, peer_id

ADDRESSES_MAX = 4
"""Remembered of one peer: an honest one has a single onion, two while it rotates; a liar may add others."""


@dataclass(frozen=True, slots=True)
class FindNode:
    """Find the peers nearest to a node or key; answered by NodesFound."""

    target: NodeId | bytes
    is_key: bool = False  # of another kind than a node's


@dataclass(frozen=True, slots=True)
class PutValue:
    """Keep a signed value in the DHT until it expires, putting it again now and then; answered by ValuePut."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class GetValue:
    """Find the newest value under a key; answered by ValueFound."""

    key: bytes


@dataclass(frozen=True, slots=True)
class Provide:
    """Say that we provide what a key names, until Withdraw; answered by ProvisionTold."""

    key: bytes


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Put a value no more, provide a key no more: what others hold expires; answered by None."""

    key: bytes


@dataclass(frozen=True, slots=True)
class FindProviders:
    """Find who provides what a key names; answered by ProvidersFound."""

    key: bytes


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Join through peers, or anew through those known, and fill the table; answered by TableFilled."""

    peers: tuple[NodeId, ...] = ()


Order: TypeAlias = FindNode | PutValue | GetValue | Provide | Withdraw | FindProviders | Bootstrap


class Effort(NamedTuple):
    """What a call took."""

    hops: int
    """Questions on the way to the nearest peer, 0 when nobody answered."""
    queries: int
    rounds: int
    """The longest chain of questions that had to wait for each other."""
    ms: int


class NodesFound(NamedTuple):
    """The peers nearest to a target that answered, nearest first; fewer if the target itself answered before they did."""

    nodes: tuple[NodeId, ...]
    found: bool
    """Whether the target itself is among them; for a key, whether anybody is."""
    effort: Effort


class ValuePut(NamedTuple):
    """How many of how many peers said that they keep the value."""

    stored: int
    told: int
    newer: bytes | None
    """A newer value that one of them showed instead."""
    effort: Effort


class ValueFound(NamedTuple):
    """The newest value of those that were found."""

    value: bytes | None
    sequence: int | None
    found: int
    """Peers that answered with a valid value, we included."""
    repaired: int
    """Of them, those that were put right because they held an older one."""
    effort: Effort


class ProvisionTold(NamedTuple):
    """How many peers were told; the protocol has no answer to this."""

    told: int
    effort: Effort


class ProvidersFound(NamedTuple):
    """Who is said to provide a key, with addresses; nothing here is signed."""

    providers: tuple[tuple[NodeId, tuple[bytes, ...]], ...]
    effort: Effort


class TableFilled(NamedTuple):
    """How many contacts the table has after joining; refreshes of its buckets follow."""

    contacts: int
    effort: Effort


class Declined(NamedTuple):
    """A command that was not carried out, and why."""

    reason: str


class LookedUp(NamedTuple):
    """A call came to its end; the host's and our own (kinds join, refresh, republish)."""

    kind: str
    target: bytes
    ok: bool
    hops: int
    queries: int
    ms: int


class Located(NamedTuple):
    """Addresses that others gave of a peer whom we are about to ask; unproven until the transport has met it there."""

    peer: NodeId
    addresses: tuple[bytes, ...]


class Errand:
    """One call under way: its look-up, and what its answers brought."""

    __slots__ = (
        *("addresses", "frame", "held", "key", "lookup", "newer", "number", "order", "pending", "providers", "request"),
        *("routine", "shown", "started", "stored", "told", "value"),
    )

    def __init__(
        self, now: Millis, number: int | None, order: Order, routine: str, key: bytes, request: KadType, lookup: Lookup
    ) -> None:
        self.number = number  # the host's; none for our own upkeep
        self.order = order
        self.routine = routine  # the kind that LookedUp tells
        self.key = key
        self.request = request
        self.frame = encode_kad(KadMessage(request, key))
        self.lookup = lookup
        self.started = now
        self.addresses: dict[NodeId, tuple[bytes, ...]] = {}  # of peers named to us
        self.held: dict[NodeId, Judged] = {}  # by whom
        self.providers: dict[NodeId, tuple[bytes, ...]] = {}
        self.value: Judged | None = None  # the one to be told
        self.shown: Judged | None = None  # the last one that an answer brought
        self.newer: Judged | None = None
        self.pending: dict[int, None] | None = None  # exchanges of the second stage
        self.stored = 0
        self.told = 0

    def effort(self, now: Millis) -> Effort:
        """What it has taken so far."""
        return Effort(self.lookup.hops(), self.lookup.queries, self.lookup.rounds, now - self.started)

    def learn(self, peers: Sequence[KadPeer]) -> list[NodeId]:
        """The nodes among peers that were named; others speak no Ed25519 and are not for us."""
        nodes = []
        for peer, addresses, _ in peers:
            node = _node_of(peer)
            if node is None:
                continue
            nodes.append(node)
            if addresses:
                known = self.addresses.get(node, ())
                if len(known) < ADDRESSES_MAX:
                    fresh = [address for address in addresses if address not in known]
                    self.addresses[node] = (known + tuple(fresh))[:ADDRESSES_MAX]
        return nodes

    def best(self) -> Judged | None:
        """The newest value of those that answers brought."""
        return max(self.held.values(), default=None)

    def outdated(self, most: int) -> list[NodeId]:
        """Peers that answered with another value than the newest, the first of them."""
        best = self.best()
        return [node for node, value in self.held.items() if value != best][:most]

    def value_found(self, now: Millis, repaired: int) -> ValueFound:
        """The result of a GET."""
        best = self.best()
        value, sequence = (None, None) if best is None else (best.value, best.standing.sequence)
        return ValueFound(value, sequence, len(self.held), repaired, self.effort(now))

    def value_put(self, now: Millis) -> ValuePut:
        """The result of a PUT."""
        return ValuePut(self.stored, self.told, self.newer.value if self.newer else None, self.effort(now))


@lru_cache(maxsize=1 << 14)
def _node_of(peer: bytes) -> NodeId | None:
    """The node of a peer id, one object for all who are named again and again; none if it speaks no Ed25519."""
    try:
        return node_id(peer)
    except Malformed:
        return None


def put_message(key: bytes, value: Judged) -> KadMessage:
    """The request to keep a value; the same bytes are the answer of who keeps it."""
    return KadMessage(KadType.PUT_VALUE, key, KadRecord(key, value.value))


def provide_message(key: bytes, me: NodeId, addresses: Sequence[bytes]) -> KadMessage:
    """The notice that we provide a key; libp2p has no answer to it."""
    return KadMessage(KadType.ADD_PROVIDER, key, providers=(KadPeer(peer_id(me), tuple(addresses)),))
