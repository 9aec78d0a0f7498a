"""libp2p's messages: js-libp2p's bytes, every cap, and no other exception than Malformed for any bytes."""

import contextlib
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nacl.bindings import crypto_sign

from consensus.encoding import Malformed
from consensus.ids import NodeId
from consensus.signing import KeyPair
from node.overlay.wire import (
    KAD_LIMITS,
    RPC_LIMITS,
    Ihave,
    KadLimits,
    KadMessage,
    KadPeer,
    KadRecord,
    KadType,
    Message,
    Prune,
    Rpc,
    RpcLimits,
    Subscription,
    compact,
    decode_kad,
    decode_message,
    decode_rpc,
    encode_kad,
    encode_publish,
    encode_rpc,
    node_id,
    peer_id,
    public_key_pb,
    sign_message,
    signed_bytes,
)
from tests.vectors.stored import vector

VECTORS: Final[dict[str, Any]] = vector("gossip_rpc_v1")
KEY: Final = KeyPair.from_seed(bytes.fromhex(VECTORS["seed"]))
ME: Final = NodeId(KEY.public)
U64_MAX: Final = (1 << 64) - 1
FRAMES: Final = [bytes.fromhex(each["frame"]) for each in VECTORS["frames"]]
KADS: Final = [bytes.fromhex(each["frame"]) for each in VECTORS["kad"]]
USUAL: Final = [
    encode_kad(KadMessage(KadType.FIND_NODE, peer_id(ME), closer=(KadPeer(peer_id(ME), where, kind),) * 3))
    for where in ((), (bytes(39),))
    for kind in (0, 1)
]
MESSAGES: Final = [
    bytes.fromhex(each[form]) for each in VECTORS["messages"][:3] for form in ("with_key", "without_key")
]


def sign(data: bytes) -> bytes:
    return bytes(crypto_sign(data, KEY.secret)[:64])


def signed(data: bytes = b"data", topic: str = "beacons", seqno: int = 7) -> Message:
    return sign_message(ME, seqno, topic, data, sign)


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return out + bytes((value,))


def field(number: int, content: bytes | int) -> bytes:
    """One protobuf field, by hand."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


@pytest.mark.parametrize("each", VECTORS["messages"], ids=lambda each: each["what"])
def test_a_message_signed_here_is_byte_for_byte_the_one_js_libp2p_signs(each: dict[str, str]) -> None:
    seqno, data = int(each["seqno"], 16), bytes.fromhex(each["data"])
    message = sign_message(ME, seqno, each["topic"], data, sign)
    assert message.raw.hex() == each["without_key"]
    assert decode_message(message.raw) == message
    theirs = decode_message(bytes.fromhex(each["with_key"]))
    assert theirs == message._replace(raw=theirs.raw)
    assert sign(signed_bytes(theirs)).hex() == each["signature"]
    assert compact(theirs, signed_bytes(theirs)) is theirs


@pytest.mark.parametrize("each", VECTORS["frames"], ids=lambda each: each["what"])
def test_the_frames_of_js_gossipsub_are_understood(each: dict[str, Any]) -> None:
    frame, expected = bytes.fromhex(each["frame"]), each["fields"]
    messages = [decode_message(bytes.fromhex(one["with_key"])) for one in VECTORS["messages"]]
    rpc = Rpc(
        tuple(Subscription(*one) for one in expected.get("subscriptions", ())),
        tuple(messages[index] for index in expected.get("publish", ())),
        tuple(Ihave(topic, tuple(map(bytes.fromhex, ids))) for topic, ids in expected.get("ihave", ())),
        tuple(map(bytes.fromhex, expected.get("iwant", ()))),
        tuple(expected.get("graft", ())),
        tuple(Prune(topic, tuple(map(bytes.fromhex, ids)), wait) for topic, ids, wait in expected.get("prune", ())),
    )
    assert decode_rpc(frame) == rpc
    assert decode_rpc(encode_rpc(rpc)) == rpc


@pytest.mark.parametrize("each", VECTORS["kad"], ids=lambda each: each["what"])
def test_the_frames_of_js_kad_dht_are_understood(each: dict[str, Any]) -> None:
    expected = each["fields"]

    def peers(name: str) -> tuple[KadPeer, ...]:
        return tuple(
            KadPeer(bytes.fromhex(id_), tuple(map(bytes.fromhex, addresses)), connection)
            for id_, addresses, connection in expected.get(name, ())
        )

    record = None
    if "record" in expected:
        key, value, time = expected["record"]
        record = KadRecord(bytes.fromhex(key), bytes.fromhex(value), time)
    key = bytes.fromhex(expected.get("key", ""))
    message = KadMessage(KadType(expected["type"]), key, record, peers("closer"), peers("providers"))
    assert decode_kad(bytes.fromhex(each["frame"])) == message
    assert decode_kad(encode_kad(message)) == message


def test_a_peer_id_holds_the_key_and_other_kinds_of_key_are_refused() -> None:
    assert peer_id(ME).hex() == VECTORS["peer_id"]
    assert public_key_pb(ME).hex() == VECTORS["public_key_pb"]
    assert node_id(peer_id(ME)) == ME
    others = (
        b"",
        bytes(38),
        peer_id(ME)[:-1],
        peer_id(ME) + b"\0",
        bytes.fromhex("1220") + bytes(32),  # an RSA key, hashed
        bytes.fromhex("002508021221") + bytes(33),  # secp256k1
        bytes.fromhex("002408021220") + bytes(32),
    )
    for other in others:
        with pytest.raises(Malformed):
            node_id(other)


topics = st.text(min_size=1, max_size=12)
ids = st.binary(max_size=64)
messages = st.builds(signed, st.binary(max_size=300), topics, st.integers(0, U64_MAX))
rpcs = st.builds(
    Rpc,
    st.lists(st.builds(Subscription, st.booleans(), topics), max_size=3).map(tuple),
    st.lists(messages, max_size=3).map(tuple),
    st.lists(st.builds(Ihave, topics, st.lists(ids, max_size=3).map(tuple)), max_size=3).map(tuple),
    st.lists(ids, max_size=3).map(tuple),
    st.lists(topics, max_size=3).map(tuple),
    st.lists(st.builds(Prune, topics, st.lists(ids, max_size=3).map(tuple), st.integers(0, U64_MAX)), max_size=3).map(
        tuple
    ),
)
kad_peers = st.lists(
    st.builds(KadPeer, ids, st.lists(st.binary(max_size=80), max_size=3).map(tuple), st.integers(0, 3)), max_size=3
).map(tuple)
kads = st.builds(
    KadMessage,
    st.sampled_from(KadType),
    st.binary(max_size=128),
    st.none() | st.builds(KadRecord, st.binary(max_size=40), st.binary(max_size=300), st.text(max_size=16)),
    kad_peers,
    kad_peers,
)


@given(rpcs)
@example(Rpc(prune=(Prune("t", (), U64_MAX),)))
def test_a_gossip_frame_decodes_to_what_was_encoded(rpc: Rpc) -> None:
    assert decode_rpc(encode_rpc(rpc)) == rpc
    assert decode_rpc(encode_publish(rpc.publish)) == Rpc(publish=rpc.publish)


@given(kads)
def test_a_dht_frame_decodes_to_what_was_encoded(message: KadMessage) -> None:
    assert decode_kad(encode_kad(message)) == message


def mutated(samples: list[bytes]) -> st.SearchStrategy[bytes]:
    """Cuts, splices and overwritten bytes of real frames."""

    def damage(base: bytes, other: bytes, cut: int, edits: list[tuple[int, int]]) -> bytes:
        data = bytearray(base[: cut % (len(base) + 1)] + other if cut % 3 == 0 else base)
        for at, value in edits:
            if data:
                data[at % len(data)] = value
        return bytes(data)

    edits = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=4)
    return st.builds(damage, st.sampled_from(samples), st.sampled_from(samples), st.integers(0, 1 << 16), edits)


def only_malformed(decoder: Callable[[bytes], object], data: bytes) -> None:
    with contextlib.suppress(Malformed):
        decoder(data)


@given(st.binary(max_size=400) | mutated(FRAMES))
@example(field(1, b"\x10\x00" * 9) * 3)
@example(b"\x0b" * 5000)  # groups, nested beyond any stack
@example(field(2, field(4, b"\xff\xfe")))
def test_a_gossip_decoder_raises_malformed_or_nothing(data: bytes) -> None:
    only_malformed(decode_rpc, data)


@given(st.binary(max_size=400) | mutated(KADS))
@example(field(1, U64_MAX))
@example(field(3, field(5, b"\xff")))
def test_a_dht_decoder_raises_malformed_or_nothing(data: bytes) -> None:
    only_malformed(decode_kad, data)


def outcome(decoder: Callable[[bytes], object], data: bytes) -> object:
    try:
        return decoder(data)
    except Malformed:
        return Malformed


@given(mutated(USUAL) | mutated(KADS))
@example(b"\x08\x04\x12\x00" + b"\x42\x00" * KAD_LIMITS.peers_max)
@example(b"\x08\x04\x12\x00" + b"\x42\x00" * (KAD_LIMITS.peers_max + 1))
@example(b"\x08\x04\x12\x01k\x42\x02\x18\x04")  # no such kind of connection
@example(b"\x08\x04\x12\x01k\x42\x7f\x18\x01")  # a peer that ends after the frame
def test_a_usual_dht_frame_is_read_like_any_other(data: bytes) -> None:
    """Limits that are equal and not the same object make protobuf read the whole frame."""
    assert outcome(decode_kad, data) == outcome(lambda each: decode_kad(each, KadLimits()), data)


@given(st.binary(max_size=200) | mutated(MESSAGES))
def test_what_passes_for_a_message_is_bound_to_its_signature(raw: bytes) -> None:
    """Whatever was done to a message: it is malformed, or other bytes are signed, or it is the same message."""
    try:
        message = decode_message(raw)
    except Malformed:
        return
    signed_part = signed_bytes(message)
    for original in map(decode_message, MESSAGES):
        if signed_part == signed_bytes(original) and message.signature == original.signature:
            assert message._replace(raw=original.raw) == original
            assert len(compact(message, signed_part).raw) in {len(each) for each in MESSAGES}


def rebuilt(**changed: bytes | None) -> bytes:
    """A message by hand, with some fields changed or left out (None)."""
    parts: dict[str, bytes | None] = {
        "sender": peer_id(ME),
        "data": b"data",
        "seqno": bytes(8),
        "topic": b"beacons",
        "signature": bytes(64),
        "key": None,
    } | changed
    return b"".join(field(number, part) for number, part in enumerate(parts.values(), 1) if part is not None)


@pytest.mark.parametrize(
    "changed",
    [
        {"sender": None},
        {"sender": bytes.fromhex("1220") + bytes(32)},
        {"seqno": None},
        {"seqno": bytes(7)},
        {"signature": None},
        {"signature": bytes(63)},
        {"topic": None},
        {"topic": b""},
        {"topic": b"\xff"},
        {"topic": b"t" * (RPC_LIMITS.topic_bytes_max + 1)},
        {"key": public_key_pb(NodeId(bytes(32)))},
        {"data": bytes(RPC_LIMITS.data_bytes_max + 1)},
    ],
    ids=str,
)
def test_a_message_that_strict_sign_forbids_is_malformed(changed: dict[str, bytes | None]) -> None:
    assert decode_message(rebuilt()).author == ME
    with pytest.raises(Malformed):
        decode_message(rebuilt(**changed))


CONTROL: Final = Rpc(
    (Subscription(subscribe=True, topic="topic"),),
    (signed(), signed()),
    (Ihave("topic", (b"1" * 40,)),),
    (b"2" * 40,),
    ("topic",),
    (Prune("topic", (b"3" * 40,), 9),),
)


@pytest.mark.parametrize(
    "limits",
    [
        RpcLimits(frame_bytes_max=len(encode_rpc(CONTROL)) - 1),
        RpcLimits(data_bytes_max=3),
        RpcLimits(messages_max=1),
        RpcLimits(topics_max=0),
        RpcLimits(topic_bytes_max=4),
        RpcLimits(ids_max=1),
        RpcLimits(id_bytes_max=39),
        RpcLimits(exchanged_max=0),
    ],
    ids=str,
)
def test_every_cap_of_a_gossip_frame_is_kept(limits: RpcLimits) -> None:
    frame = encode_rpc(CONTROL)
    assert decode_rpc(frame) == CONTROL
    with pytest.raises(Malformed):
        decode_rpc(frame, limits)


@pytest.mark.parametrize(
    "message",
    [
        KadMessage(KadType.PING, bytes(KAD_LIMITS.key_bytes_max + 1)),
        KadMessage(KadType.PING, b"", KadRecord(bytes(KAD_LIMITS.key_bytes_max + 1), b"")),
        KadMessage(KadType.PING, b"", KadRecord(b"", bytes(KAD_LIMITS.value_bytes_max + 1))),
        KadMessage(KadType.PING, b"", KadRecord(b"", b"", "0" * (KAD_LIMITS.time_bytes_max + 1))),
        KadMessage(KadType.PING, closer=(KadPeer(b""),) * (KAD_LIMITS.peers_max + 1)),
        KadMessage(KadType.PING, providers=(KadPeer(b""),) * (KAD_LIMITS.peers_max + 1)),
        KadMessage(KadType.PING, closer=(KadPeer(bytes(KAD_LIMITS.id_bytes_max + 1)),)),
        KadMessage(KadType.PING, closer=(KadPeer(b"", (b"",) * (KAD_LIMITS.addresses_max + 1)),)),
        KadMessage(KadType.PING, closer=(KadPeer(b"", (bytes(KAD_LIMITS.address_bytes_max + 1),)),)),
        KadMessage(KadType.PING, closer=(KadPeer(b"", (), 4),)),
    ],
)
def test_every_cap_of_a_dht_frame_is_kept(message: KadMessage) -> None:
    with pytest.raises(Malformed):
        decode_kad(encode_kad(message))


def test_a_dht_frame_too_long_for_any_receiver_is_neither_sent_nor_read() -> None:
    long = KadMessage(KadType.PING, b"", KadRecord(b"", bytes(KAD_LIMITS.frame_bytes_max)))
    with pytest.raises(Malformed):
        encode_kad(long)
    with pytest.raises(Malformed):
        decode_kad(field(7, bytes(KAD_LIMITS.frame_bytes_max)))


def test_a_dht_message_of_a_type_that_does_not_exist_is_malformed() -> None:
    for kind in (6, 255, U64_MAX):
        with pytest.raises(Malformed):
            decode_kad(field(1, kind))


def test_what_a_relay_adds_to_a_message_does_not_travel_on() -> None:
    message = signed()
    for junk in (field(2, b"other data") + message.raw, field(6, b"") + message.raw):
        swollen = decode_message(junk)
        assert swollen == message._replace(raw=junk)
        assert signed_bytes(swollen) == signed_bytes(message)
        assert compact(swollen, signed_bytes(swollen)).raw == message.raw


def test_unknown_fields_are_signed_over_so_that_no_relay_can_add_them() -> None:
    message = signed()
    assert signed_bytes(decode_message(message.raw + field(9, b"junk"))) != signed_bytes(message)


def test_a_message_that_breaks_the_limits_is_not_signed() -> None:
    for topic, data in (("", b""), ("t" * 200, b""), ("\ud800", b""), ("t", bytes(RPC_LIMITS.data_bytes_max + 1))):
        with pytest.raises(Malformed):
            signed(data, topic)
