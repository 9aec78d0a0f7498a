"""What the DHT answers to peers: from the table, the values and the provisions that it keeps, within quotas.

Each request is answered in the step in which it comes, so no exchange of a peer's is ever open here (the stock server
stops at twelve idle streams; how long a stream may idle is the transport's affair). What bounds a peer is a rate: its
own and that of all together. A request that is refused or invalid changes nothing and is not charged.

The contacts in an answer are spliced in from bytes that were made once: protobuf lets encodings of one message be
concatenated, and making twenty anew is two thirds of the cost of an answer.

Source: libp2p specs, kad-dht ("RPC messages"); DESIGN §4.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from consensus.ids import Millis, NodeId
from node.overlay.calls import ADDRESSES_MAX, put_message
from node.overlay.holdings import Provisions, Stowed, Values
from node.overlay.routing import Table, point
from node.overlay.wire import KadMessage, KadPeer, KadRecord, KadType, encode_kad, peer_id

PING_FRAME: Final = encode_kad(KadMessage(KadType.PING))
_FIND_HEAD: Final = bytes((0x08, KadType.FIND_NODE, 0x12))  # its type, and the head of a key of fewer than 128 bytes
_TYPE_BYTES: Final = len(PING_FRAME)  # the field that each frame begins with


@lru_cache(maxsize=1 << 14)
def _spelled(node: NodeId, addresses: tuple[bytes, ...]) -> bytes:
    """The field of a frame that names a node among those closer."""
    named = KadPeer(peer_id(node), addresses[:ADDRESSES_MAX])
    return encode_kad(KadMessage(KadType.PING, closer=(named,)))[_TYPE_BYTES:]


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """How fast peers may ask."""

    request_ms: int = 50  # 20 requests a second from one peer …
    burst_ms: int = 5_000  # … after a burst of 100: a look-up asks one peer once
    request_ms_all: int = 2  # 500 a second from all: 5 % of a core
    burst_ms_all: int = 4_000  # 2,000
    peers: int = 4_096  # remembered before those that have been quiet are forgotten


class Quota:
    """Token buckets: each is the time until which it is spent, at most a burst ahead of now (GCRA, ITU-T I.371)."""

    def __init__(self, limits: QuotaLimits) -> None:
        self._limits = limits
        self._spent: dict[NodeId, int] = {}
        self._spent_all = 0

    def __len__(self) -> int:
        return len(self._spent)

    def allows(self, now: Millis, peer: NodeId) -> bool:
        """Whether a peer may ask once more now."""
        limits = self._limits
        return (
            self._spent.get(peer, 0) + limits.request_ms <= now + limits.burst_ms
            and self._spent_all + limits.request_ms_all <= now + limits.burst_ms_all
        )

    def charge(self, now: Millis, peer: NodeId) -> None:
        """Count one request. What is remembered stays bounded, because all together can spend only so fast."""
        self._spent[peer] = max(self._spent.get(peer, 0), now) + self._limits.request_ms
        self._spent_all = max(self._spent_all, now) + self._limits.request_ms_all
        if len(self._spent) > self._limits.peers:
            self._spent = {other: spent for other, spent in self._spent.items() if spent > now}


class Answers:
    """The serving side; `provided` are the keys that we provide ourselves."""

    def __init__(
        self,
        me: NodeId,
        table: Table,
        values: Values,
        provisions: Provisions,
        provided: Mapping[bytes, None],
        locate: Callable[[NodeId], Sequence[bytes]],
        k: int,
    ) -> None:
        self._me = me
        self._table = table
        self._values = values
        self._provisions = provisions
        self._provided = provided
        self._locate = locate
        self._k = k
        self._serve: Final[dict[KadType, Callable[[Millis, NodeId, KadMessage], bytes | str | None]]] = {
            KadType.FIND_NODE: self._find,
            KadType.GET_VALUE: self._get,
            KadType.PUT_VALUE: self._put,
            KadType.GET_PROVIDERS: self._providers,
            KadType.ADD_PROVIDER: self._provide,
            KadType.PING: self._ping,
        }

    def answer(self, now: Millis, peer: NodeId, asked: KadMessage) -> bytes | str | None:
        """The frame that answers a request, none where the protocol has none; or, as text, why it is refused."""
        if not asked.key and asked.type is not KadType.PING:
            return "a request without a key"
        return self._serve[asked.type](now, peer, asked)

    def _find(self, _now: Millis, peer: NodeId, asked: KadMessage) -> bytes:
        key = asked.key
        if len(key) > 0x7F:
            return encode_kad(KadMessage(KadType.FIND_NODE, key)) + self._closer(peer, key)
        return _FIND_HEAD + bytes((len(key),)) + key + self._closer(peer, key)

    def _get(self, now: Millis, peer: NodeId, asked: KadMessage) -> bytes:
        held = self._values.get(now, asked.key)
        record = KadRecord(asked.key, held.value) if held is not None else None
        return encode_kad(KadMessage(KadType.GET_VALUE, asked.key, record)) + self._closer(peer, asked.key)

    def _put(self, now: Millis, peer: NodeId, asked: KadMessage) -> bytes | str:
        """The record that is held now: the same as was put, or the newer one that stands in its way."""
        record = asked.record
        if record is None or record.key != asked.key:
            return "a value that is not of its key"
        value = self._values.judge(now, asked.key, record.value)
        if value is None:
            return "a value that no validator accepts"
        if self._values.put(now, asked.key, value, peer) is Stowed.FULL:
            return "no room for one more value of this peer's"
        held = self._values.get(now, asked.key)
        return encode_kad(put_message(asked.key, value if held is None else held))

    def _providers(self, now: Millis, peer: NodeId, asked: KadMessage) -> bytes:
        providers = [KadPeer(peer_id(node), where) for node, where in self._provisions.of(now, asked.key)]
        if asked.key in self._provided:
            providers.append(KadPeer(peer_id(self._me), tuple(self._locate(self._me)[:ADDRESSES_MAX])))
        message = KadMessage(KadType.GET_PROVIDERS, asked.key, providers=tuple(providers))
        return encode_kad(message) + self._closer(peer, asked.key)

    def _provide(self, now: Millis, peer: NodeId, asked: KadMessage) -> str | None:
        """Other peers than the sender may be named; they are passed over, as the specification has it."""
        itself = next((each for each in asked.providers if each.id == peer_id(peer)), None)
        if itself is None:
            return "a provision that is not the sender's own"
        kept = self._provisions.add(now, asked.key, peer, itself.addresses)
        return None if kept else "no room for one more provision"

    def _ping(self, _now: Millis, _peer: NodeId, _asked: KadMessage) -> bytes:
        return PING_FRAME

    def _closer(self, asker: NodeId, key: bytes) -> bytes:
        nodes = self._table.closest(point(key), self._k + 1)
        locate = self._locate
        if asker in nodes:
            nodes.remove(asker)
        else:
            del nodes[self._k :]
        return b"".join(
            [_spelled(node, where if type(where := locate(node)) is tuple else tuple(where)) for node in nodes]
        )
