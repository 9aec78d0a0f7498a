"""The Noise handshake: the bytes that js-libp2p took and sent, who is proven by it, and what becomes of everything else."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from noise.backends.default.diffie_hellmans import ED25519
from noise.backends.default.keypairs import KeyPair25519

from consensus.encoding import Malformed
from consensus.ids import NodeId
from consensus.signing import KeyPair
from node.libp2p.handshake import Handshake
from tests.node.net.swarms import keys_of
from tests.vectors.stored import vector

VECTORS: Final[dict[str, Any]] = vector("noise_v1")
SECRETS: Final = (b"\x11" * 32, b"\x22" * 32)
ONE, OTHER = keys_of(1), keys_of(2)


def pair(one: KeyPair = ONE, other: KeyPair = OTHER) -> tuple[Handshake, Handshake]:
    return Handshake(one, SECRETS[0], dialled=True), Handshake(other, SECRETS[1], dialled=False)


def meet(one: Handshake, other: Handshake, change: Callable[[int, bytes], bytes] = lambda _n, message: message) -> None:
    """Carry the three messages over, each as `change` leaves it."""
    for number, (source, target) in enumerate(((one, other), (other, one), (one, other))):
        target.read(change(number, source.write()))


@pytest.mark.parametrize("case", VECTORS["handshakes"], ids=lambda case: "dialled by " + case["dialled"])
def test_js_libp2p_took_these_bytes_of_ours_and_we_take_its(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, js = ({name: bytes.fromhex(value) for name, value in VECTORS[who].items()} for who in ("ours", "js"))
    ephemeral = KeyPair25519.from_private_bytes(ours["ephemeral_secret"])
    monkeypatch.setattr(ED25519, "generate_keypair", lambda _self: ephemeral)
    dialled = case["dialled"] == "ours"
    handshake = Handshake(KeyPair.from_seed(ours["identity_seed"]), ours["noise_secret"], dialled=dialled)
    for number, message in enumerate(map(bytes.fromhex, case["messages"])):
        if dialled is (number % 2 == 0):
            assert handshake.write() == message
        else:
            handshake.read(message)
    assert handshake.finished
    assert handshake.peer == KeyPair.from_seed(js["identity_seed"]).public
    seal, unseal = handshake.ciphers()
    for who, (plain, sealed) in case["sealed"].items():
        if who == "ours":
            assert seal(bytes.fromhex(plain)) == bytes.fromhex(sealed)
        else:
            assert unseal(bytes.fromhex(sealed)) == bytes.fromhex(plain)


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=100)), max_size=8))
def test_who_has_proven_who_it_is_can_be_talked_to_in_secret(talk: list[tuple[bool, bytes]]) -> None:
    one, other = pair()
    assert not one.finished
    assert not other.finished
    meet(one, other)
    assert (one.finished, one.peer) == (True, NodeId(OTHER.public))
    assert (other.finished, other.peer) == (True, NodeId(ONE.public))
    sides = (one.ciphers(), other.ciphers())
    for way, plain in talk:
        sealed = sides[way][0](plain)
        assert sides[not way][1](sealed) == plain
        with pytest.raises(Malformed):
            sides[not way][1](sealed)  # a replay, which costs the connection nothing of its order
    assert sides[0][0](b"same") != sides[1][0](b"same")


@given(st.integers(0, 2), st.binary(max_size=300))
@example(0, bytes(32))
@example(0, b"\x01" + bytes(31))
@example(0, bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"))
@example(0, bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"))
def test_what_is_no_message_of_a_handshake_is_malformed_and_proves_nobody(number: int, instead: bytes) -> None:
    one, other = pair()
    try:
        meet(one, other, lambda n, message: instead if n == number else message)
    except Malformed:
        assert not (one.finished and other.finished)
    else:
        pytest.fail("it was taken")


@given(st.integers(0, 2), st.integers(0, 10_000), st.integers(0, 7))
def test_a_bit_changed_on_the_way_ends_the_handshake(number: int, place: int, bit: int) -> None:
    def change(n: int, message: bytes) -> bytes:
        if n != number:
            return message
        changed = bytearray(message)
        changed[place % len(message)] ^= 1 << bit
        return bytes(changed)

    one, other = pair()
    with pytest.raises(Malformed):
        meet(one, other, change)


def test_a_key_is_not_proven_by_another_or_for_another_noise_key() -> None:
    with pytest.raises(Malformed):
        meet(*pair(one=KeyPair(keys_of(3).public, ONE.secret)))
    with pytest.raises(Malformed):
        meet(*pair(other=KeyPair(keys_of(3).public, OTHER.secret)))
    thief = Handshake(OTHER, SECRETS[1], dialled=False)
    overheard = thief._proof  # a proof shown once, to somebody who shows it again under a Noise key of his own
    one, other = Handshake(ONE, SECRETS[0], dialled=True), Handshake(keys_of(4), b"\x33" * 32, dialled=False)
    other._proof = overheard  # type: ignore[method-assign]
    with pytest.raises(Malformed):
        meet(one, other)
    assert one.peer is None


@pytest.mark.parametrize(
    "proof",
    [
        b"",
        b"\x0a",
        bytes.fromhex("0a25080112" + "21" + "02" + "11" * 32),  # protobuf of a secp256k1 key
        bytes.fromhex("0a24080112" + "20" + "11" * 32),  # no signature
        bytes.fromhex("0a24080112" + "20" + "11" * 32 + "1240" + "22" * 64),
    ],
)
def test_a_proof_of_another_kind_proves_nobody(proof: bytes) -> None:
    one, other = pair()
    one._proof = lambda: proof  # type: ignore[method-assign]
    with pytest.raises(Malformed):
        meet(one, other)
    assert other.peer is None
