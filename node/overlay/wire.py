"""The protobuf messages of libp2p's gossipsub and kad-dht, to and from tuples, with a cap on every field.

Whoever sends these bytes is not trusted: a decoder returns a message within its limits or raises Malformed, nothing else.
Fields that it does not know are skipped, as protobuf demands; the cap on the frame bounds them. Frames carry no length
prefix here, that is the transport's.

Two choices keep the hot path short. A published message is spliced into its frame as bytes, so that it is passed on as it
came. And every author is an Ed25519 key that stands inside its own peer id, so that a signature needs no look-up.
Strings are declared as bytes and decoded here, because
protobuf implementations differ on what they do with text that is not UTF-8.

Source: libp2p/specs: pubsub/README.md ("Message", "Message Signing"), pubsub/gossipsub/gossipsub-v1.1.md ("Protobuf"),
kad-dht/README.md ("RPC messages"), peer-ids/peer-ids.md ("Keys", "Peer IDs").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from consensus.encoding import Malformed
from consensus.ids import NodeId
from node.overlay.protobufs import KAD, KAD_PEER, MESSAGE, RPC

SEQNO_BYTES: Final = 8
SIGNATURE_BYTES: Final = 64

_KEY_HEAD: Final = bytes.fromhex("08011220")  # protobuf: type = Ed25519, data = 32 bytes
_ID_HEAD: Final = bytes.fromhex("0024") + _KEY_HEAD  # multihash: identity, 36 bytes
_ID_BYTES: Final = len(_ID_HEAD) + 32
_SIGNATURE_HEAD: Final = b"\x2a\x40"  # field 5, 64 bytes
_SIGNED_PREFIX: Final = b"libp2p-pubsub:"
_KEY_FIELD_BYTES: Final = 2 + len(_KEY_HEAD) + 32
_PUBLISH_HEAD: Final = b"\x12"  # field 2 of an RPC


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """What a gossip frame may hold."""

    frame_bytes_max: int = 1 << 20  # go and js refuse longer frames too
    data_bytes_max: int = 1_000_000  # of one message; leaves room for its head within the frame
    messages_max: int = 4096  # a frame full of messages of 250 B
    topics_max: int = 128  # subscriptions, GRAFTs, PRUNEs and IHAVEs, each; a network has five topics
    topic_bytes_max: int = 128
    ids_max: int = 8192  # message ids in all; a burst of 5,000 (go's own bound) fits
    id_bytes_max: int = 64  # ours are 46
    exchanged_max: int = 32  # peers in a PRUNE; go and js send 16


@dataclass(frozen=True, slots=True)
class KadLimits:
    """What a DHT frame may hold."""

    frame_bytes_max: int = 1 << 16  # 20 contacts of 4 addresses take 8 KiB
    key_bytes_max: int = 128
    value_bytes_max: int = 32_768
    time_bytes_max: int = 64  # RFC 3339
    peers_max: int = 64  # of each kind; k is 20
    addresses_max: int = 16
    address_bytes_max: int = 256  # /onion3 takes 39
    id_bytes_max: int = 64


RPC_LIMITS: Final = RpcLimits()
KAD_LIMITS: Final = KadLimits()


class Message(NamedTuple):
    """A published message in the form that StrictSign demands; whether its signature holds is not checked here."""

    id: bytes
    """author's peer id ‖ seqno, 46 bytes."""
    author: NodeId
    topic: str
    data: bytes
    signature: bytes
    raw: bytes
    """The message as it came, signature included."""


class Subscription(NamedTuple):
    """Whether the sender wants a topic from now on."""

    subscribe: bool
    topic: str


class Ihave(NamedTuple):
    """Messages that the sender has and could send."""

    topic: str
    ids: tuple[bytes, ...]


class Prune(NamedTuple):
    """The sender has taken us out of its mesh."""

    topic: str
    peers: tuple[bytes, ...] = ()
    """Peer ids of others in the topic; signed records that came with them are not kept."""
    backoff_s: int = 0
    """Seconds during which to send no GRAFT, 0 ≤ n < 2⁶⁴; 0: not told."""


class Rpc(NamedTuple):
    """One gossip frame."""

    subscriptions: tuple[Subscription, ...] = ()
    publish: tuple[Message, ...] = ()
    ihave: tuple[Ihave, ...] = ()
    iwant: tuple[bytes, ...] = ()
    graft: tuple[str, ...] = ()
    prune: tuple[Prune, ...] = ()


class KadType(IntEnum):
    """What a DHT message asks or answers."""

    PUT_VALUE = 0
    GET_VALUE = 1
    ADD_PROVIDER = 2
    GET_PROVIDERS = 3
    FIND_NODE = 4
    PING = 5


class KadRecord(NamedTuple):
    """A value under its key."""

    key: bytes
    value: bytes
    time_received: str = ""
    """RFC 3339, set by whoever stored it; not to be trusted."""


class KadPeer(NamedTuple):
    """A peer as another knows it."""

    id: bytes
    """A peer id; `node_id` tells whose."""
    addresses: tuple[bytes, ...] = ()
    """Binary multiaddrs."""
    connection: int = 0
    """0 not connected, 1 connected, 2 can connect, 3 cannot connect."""


class KadMessage(NamedTuple):
    """One DHT frame."""

    type: KadType
    key: bytes = b""
    record: KadRecord | None = None
    closer: tuple[KadPeer, ...] = ()
    providers: tuple[KadPeer, ...] = ()


def public_key_pb(node: NodeId) -> bytes:
    """libp2p's protobuf of an Ed25519 public key, 36 bytes."""
    return _KEY_HEAD + node


def peer_id(node: NodeId) -> bytes:
    """libp2p's peer id of a node, 38 bytes: the identity multihash of its public key's protobuf."""
    return _ID_HEAD + node


def node_id(peer: bytes) -> NodeId:
    """The node whose peer id that is; raises Malformed for keys of another type, hashed ids and other bytes."""
    if len(peer) != _ID_BYTES or not peer.startswith(_ID_HEAD):
        raise Malformed("not the peer id of an Ed25519 key")
    return NodeId(peer[len(_ID_HEAD) :])


_NOTHING: Final[tuple[Any, ...]] = ()


def _parse(kind: Any, data: bytes, most: int) -> Any:
    if len(data) > most:
        raise Malformed(f"{len(data)} bytes, {most} at most")
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise Malformed("not protobuf") from error


def _capped(what: str, value: bytes, most: int) -> bytes:
    if len(value) > most:
        raise Malformed(f"{what} of {len(value)} bytes, {most} at most")
    return value


def _counted(what: str, items: Sequence[Any], most: int) -> Sequence[Any]:
    if len(items) > most:  # before anything is made of them
        raise Malformed(f"{len(items)} {what}, {most} at most")
    return items


def _topic(raw: bytes, most: int) -> str:
    if not 0 < len(raw) <= most:
        raise Malformed(f"a topic of {len(raw)} bytes, 1 to {most} are allowed")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Malformed("a topic that is not UTF-8") from error


def decode_message(raw: bytes, limits: RpcLimits = RPC_LIMITS) -> Message:
    """The published message in raw bytes; raises Malformed unless it has all that StrictSign demands.

    That is an author whose Ed25519 key is in its peer id, eight bytes of seqno, a topic, 64 bytes of signature, and no
    key but the author's.
    """
    parsed = _parse(MESSAGE, raw, limits.frame_bytes_max)
    sender = getattr(parsed, "from")
    seqno, signature, key = parsed.seqno, parsed.signature, parsed.key
    author = node_id(sender)
    if len(seqno) != SEQNO_BYTES or len(signature) != SIGNATURE_BYTES:
        raise Malformed("a message without seqno of 8 bytes and signature of 64")
    if key and key != _KEY_HEAD + author:
        raise Malformed("a message with a key that is not its author's")
    data = _capped("data", parsed.data, limits.data_bytes_max)
    return Message(sender + seqno, author, _topic(parsed.topic, limits.topic_bytes_max), data, signature, raw)


def signed_bytes(message: Message) -> bytes:
    """What the author signed: "libp2p-pubsub:" ‖ the message marshalled anew without signature and key."""
    return _signed(message.raw)


@lru_cache(maxsize=1 << 7)
def _signed(raw: bytes) -> bytes:
    parsed = MESSAGE.FromString(raw)
    parsed.ClearField("signature")
    parsed.ClearField("key")
    return _SIGNED_PREFIX + bytes(parsed.SerializeToString())


def compact(message: Message, signed: bytes) -> Message:
    """The message without what its signature does not cover and what a relay could have added; signed: `signed_bytes`."""
    extra = len(message.raw) - (len(signed) - len(_SIGNED_PREFIX)) - len(_SIGNATURE_HEAD) - SIGNATURE_BYTES
    if extra in (0, _KEY_FIELD_BYTES):  # nothing, or the author's key
        return message
    return message._replace(raw=signed[len(_SIGNED_PREFIX) :] + _SIGNATURE_HEAD + message.signature)


def sign_message(author: NodeId, seqno: int, topic: str, data: bytes, sign: Callable[[bytes], bytes]) -> Message:
    """A message signed by sign, plain Ed25519 of the author's key; raises Malformed if it breaks the RPC_LIMITS.

    The key itself is left out: it stands in the peer id (libp2p/specs pubsub, "Message").
    """
    if seqno >> 8 * SEQNO_BYTES:
        raise Malformed(
            f"sequence number {seqno} does not fit {SEQNO_BYTES} bytes: set the clock to before the year 2554"
        )
    sender, number = peer_id(author), seqno.to_bytes(SEQNO_BYTES, "big")
    name = topic.encode(errors="surrogatepass")
    _topic(name, RPC_LIMITS.topic_bytes_max)
    _capped("data", data, RPC_LIMITS.data_bytes_max)
    body = MESSAGE(**{"from": sender, "data": data, "seqno": number, "topic": name}).SerializeToString()
    signature = sign(_SIGNED_PREFIX + body)
    raw = body + _SIGNATURE_HEAD + signature
    return Message(sender + number, author, topic, data, signature, raw)


def decode_rpc(frame: bytes, limits: RpcLimits = RPC_LIMITS) -> Rpc:
    """The gossip frame in bytes, every message in it decoded; raises Malformed.

    Short frames that were met lately are not decoded again: a message comes from several peers in the same bytes.
    """
    if limits is RPC_LIMITS and len(frame) <= _SHORT_BYTES:
        return _short_rpc(frame)
    return _whole_rpc(frame, limits)


_SHORT_BYTES: Final = 1024


@lru_cache(maxsize=1 << 11)
def _short_rpc(frame: bytes) -> Rpc:
    """The frame decoded; the 2,048 short ones met last are kept, 8 MB at most."""
    return _whole_rpc(frame, RPC_LIMITS)


def _whole_rpc(frame: bytes, limits: RpcLimits) -> Rpc:
    parsed = _parse(RPC, frame, limits.frame_bytes_max)
    publish = _counted("messages", parsed.publish, limits.messages_max)
    subscriptions = _counted("subscriptions", parsed.subscriptions, limits.topics_max)
    messages = tuple([decode_message(raw, limits) for raw in publish]) if publish else _NOTHING
    wishes = _NOTHING
    if subscriptions:
        most = limits.topic_bytes_max
        wishes = tuple([Subscription(each.subscribe, _topic(each.topic, most)) for each in subscriptions])
    if not parsed.HasField("control"):
        return Rpc(wishes, messages)
    return Rpc(wishes, messages, *_decode_control(parsed.control, limits))


def _decode_control(
    control: Any, limits: RpcLimits
) -> tuple[tuple[Ihave, ...], tuple[bytes, ...], tuple[str, ...], tuple[Prune, ...]]:
    most, longest, room = limits.topics_max, limits.topic_bytes_max, limits.ids_max
    ihave: list[Ihave] = []
    iwant: list[bytes] = []
    graft = prune = _NOTHING
    if entries := control.ihave:
        for each in _counted("IHAVEs", entries, most):
            ids = _ids(each.ids, room, limits)
            room -= len(ids)
            ihave.append(Ihave(_topic(each.topic, longest), tuple(ids)))
    if entries := control.iwant:
        for each in _counted("IWANTs", entries, most):
            ids = _ids(each.ids, room, limits)
            room -= len(ids)
            iwant.extend(ids)
    if entries := control.graft:
        graft = tuple([_topic(each.topic, longest) for each in _counted("GRAFTs", entries, most)])
    if entries := control.prune:
        prune = tuple([_decode_prune(each, limits) for each in _counted("PRUNEs", entries, most)])
    return tuple(ihave), tuple(iwant), graft, prune


def _ids(ids: Any, room: int, limits: RpcLimits) -> list[bytes]:
    if len(ids) > room:
        raise Malformed(f"more than {limits.ids_max} message ids")
    found: list[bytes] = ids[:]
    if found and max(map(len, found)) > limits.id_bytes_max:
        raise Malformed(f"a message id longer than {limits.id_bytes_max} bytes")
    return found


def _decode_prune(prune: Any, limits: RpcLimits) -> Prune:
    peers = _counted("exchanged peers", prune.peers, limits.exchanged_max)
    found = tuple([_capped("a peer id", each.id, limits.id_bytes_max) for each in peers])
    return Prune(_topic(prune.topic, limits.topic_bytes_max), found, prune.backoff)


def encode_publish(messages: Sequence[Message]) -> bytes:
    """The frame of an RPC that only publishes; by hand, since most frames are of this kind and hold one message."""
    if len(messages) == 1:
        raw = messages[0].raw
        return _PUBLISH_HEAD + _varint(len(raw)) + raw
    return b"".join([part for each in messages for part in (_PUBLISH_HEAD, _varint(len(each.raw)), each.raw)])


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    return bytes((value & 0x7F | 0x80,)) + _varint(value >> 7)


def encode_rpc(rpc: Rpc, limits: RpcLimits = RPC_LIMITS) -> bytes:
    """The frame of a gossip RPC, messages spliced in as they are; raises Malformed if the frame is too long."""
    out = RPC(publish=[message.raw for message in rpc.publish])
    for subscribe, topic in rpc.subscriptions:
        out.subscriptions.add(subscribe=subscribe, topic=topic.encode())
    for topic, ids in rpc.ihave:
        out.control.ihave.add(topic=topic.encode(), ids=ids)
    if rpc.iwant:
        out.control.iwant.add(ids=rpc.iwant)
    for topic in rpc.graft:
        out.control.graft.add(topic=topic.encode())
    for topic, peers, backoff_s in rpc.prune:
        entry = out.control.prune.add(topic=topic.encode(), peers=[{"id": peer} for peer in peers])
        if backoff_s:
            entry.backoff = backoff_s
    return _capped("a frame", out.SerializeToString(), limits.frame_bytes_max)


def decode_kad(frame: bytes, limits: KadLimits = KAD_LIMITS) -> KadMessage:
    """The DHT frame in bytes; raises Malformed."""
    if limits is KAD_LIMITS and (usual := _usual_kad(frame)) is not None:
        return usual
    parsed = _parse(KAD, frame, limits.frame_bytes_max)
    kind = parsed.type
    if not 0 <= kind <= KadType.PING:
        raise Malformed(f"no DHT message has type {kind}")
    return KadMessage(
        _KINDS[kind],
        _capped("a key", parsed.key, limits.key_bytes_max),
        _decode_record(parsed.record, limits) if parsed.HasField("record") else None,
        _decode_peers(parsed.closer, limits),
        _decode_peers(parsed.providers, limits),
    )


def _usual_kad(frame: bytes) -> KadMessage | None:
    """A frame of type, key and closer peers alone, in that order and each shorter than 128 bytes; None for any other.

    That is what all questions and most answers look like, and reading them here takes a quarter of the time: the peers
    named in them are the same again and again, so each is decoded once. Other spellings, the invalid ones among them, are
    protobuf's affair.
    """
    end = len(frame)
    if not 4 <= end <= _USUAL_MAX or frame[0] != 0x08 or frame[1] >= len(_KINDS) or frame[2] != 0x12 or frame[3] > 0x7F:
        return None
    begin = at = 4 + frame[3]
    closer = []
    try:
        while at < end:
            size = frame[at + 1]
            if frame[at] != 0x42 or size > 0x7F:
                return None
            start = at + 2
            at = start + size
            closer.append(_short_peer(frame[start:at]))
    except (IndexError, DecodeError, Malformed):
        return None
    if at != end or len(closer) > KAD_LIMITS.peers_max:
        return None
    return _new(KadMessage, (_KINDS[frame[1]], frame[4:begin], None, tuple(closer), _NOTHING))


_USUAL_MAX: Final = 4 + 0x7F + KAD_LIMITS.peers_max * (2 + 0x7F)
_new: Final = tuple.__new__  # a NamedTuple's own constructor takes twice as long


@lru_cache(maxsize=1 << 14)
def _short_peer(raw: bytes) -> KadPeer:
    """The peer in bytes, fewer than 128; the 16,384 met last are kept, 8 MB at most."""
    return _decode_peer(KAD_PEER.FromString(raw), KAD_LIMITS)


_KINDS: Final = tuple(KadType)


def _decode_record(record: Any, limits: KadLimits) -> KadRecord:
    try:
        time = _capped("a time", record.time, limits.time_bytes_max).decode()
    except UnicodeDecodeError as error:
        raise Malformed("a time that is not UTF-8") from error
    key = _capped("a record's key", record.key, limits.key_bytes_max)
    return KadRecord(key, _capped("a value", record.value, limits.value_bytes_max), time)


def _decode_peers(peers: Sequence[Any], limits: KadLimits) -> tuple[KadPeer, ...]:
    if not peers:
        return _NOTHING
    return tuple([_decode_peer(peer, limits) for peer in _counted("peers", peers, limits.peers_max)])


def _decode_peer(peer: Any, limits: KadLimits) -> KadPeer:
    addresses = tuple(_counted("addresses", peer.addresses, limits.addresses_max))
    if addresses and max(map(len, addresses)) > limits.address_bytes_max:
        raise Malformed(f"an address longer than {limits.address_bytes_max} bytes")
    connection = peer.connection
    if not 0 <= connection <= 3:
        raise Malformed(f"no kind of connection is {connection}")
    return KadPeer(_capped("a peer id", peer.id, limits.id_bytes_max), addresses, connection)


def encode_kad(message: KadMessage, limits: KadLimits = KAD_LIMITS) -> bytes:
    """The frame of a DHT message; raises Malformed if it is too long for any receiver.

    An empty key and a connection of 0 are left out, as proto3 does; the type never is, since js-libp2p tells its messages
    apart by it.
    """
    out = KAD(type=message.type)
    if message.key:
        out.key = message.key
    if message.record is not None:
        out.record.key, out.record.value = message.record.key, message.record.value
        if message.record.time_received:
            out.record.time = message.record.time_received.encode()
    for peers, entries in ((message.closer, out.closer), (message.providers, out.providers)):
        for peer in peers:
            entry = entries.add(id=peer.id, addresses=peer.addresses)
            if peer.connection:
                entry.connection = peer.connection
    return _capped("a frame", out.SerializeToString(), limits.frame_bytes_max)
