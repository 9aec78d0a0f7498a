"""Signatures hold for one key, name, network and message, with libsodium's verdict on every odd encoding."""

from typing import Any

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from consensus import signing
from consensus.ids import Network
from consensus.signing import KeyPair, digest, domain, verify
from tests.vectors.stored import vector

VECTORS = vector("ed25519")
NETWORK, OTHER = Network(bytes(range(32))), Network(bytes(range(1, 33)))
KEY = KeyPair.from_seed(b"\x07" * 32)
ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519's base point (RFC 8032 §5.1)."""


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Published vectors are over bare messages, so for them the domain is empty."""
    monkeypatch.setattr(signing, "domain", lambda name, network: b"")


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("case", VECTORS["signatures"], ids=lambda case: case["public"][:8])
def test_keys_and_signatures_are_those_of_the_rfc(case: dict[str, str]) -> None:
    seed, public, message, signature = (
        bytes.fromhex(case[name]) for name in ("seed", "public", "message", "signature")
    )
    key = KeyPair.from_seed(seed)
    assert (key.public, key.secret) == (public, seed + public)
    assert key.sign("", NETWORK, message) == signature
    assert verify(public, signature, "", NETWORK, message)
    assert not verify(public, signature, "", NETWORK, message + b"\x00")


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("case", VECTORS["edges"], ids=lambda case: str(case["number"]))
def test_small_orders_and_odd_encodings_are_judged_as_libsodium_does(case: dict[str, Any]) -> None:
    public, message, signature = (bytes.fromhex(case[name]) for name in ("public", "message", "signature"))
    assert verify(public, signature, "", NETWORK, message) is case["accepted"]


def test_the_edge_cases_are_all_there() -> None:
    assert [case["accepted"] for case in VECTORS["edges"]] == [number == 3 for number in range(12)]


@given(st.binary(max_size=100))
def test_what_is_signed_is_the_domain_and_the_message(message: bytes) -> None:
    other = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    signature = KEY.sign("head", NETWORK, message)
    assert signature == other.sign(b"lucid/head/v1" + NETWORK + message)
    assert verify(KEY.public, signature, "head", NETWORK, message)
    assert digest("head", NETWORK, message) == blake3(b"lucid/head/v1" + NETWORK + message).digest()
    assert domain("head", NETWORK) == b"lucid/head/v1" + NETWORK


def test_a_signature_holds_in_its_own_place_only() -> None:
    signature = KEY.sign("head", NETWORK, b"message")
    stranger = KeyPair.from_seed(b"\x08" * 32)
    assert verify(KEY.public, signature, "head", NETWORK, b"message")
    assert not verify(KEY.public, signature, "manifest", NETWORK, b"message")
    assert not verify(KEY.public, signature, "head", OTHER, b"message")
    assert not verify(KEY.public, signature, "head", NETWORK, b"massage")
    assert not verify(KEY.public, signature, "head", NETWORK, b"")
    assert not verify(stranger.public, signature, "head", NETWORK, b"message")


def test_no_bit_of_a_signature_or_a_key_can_change() -> None:
    signature = KEY.sign("head", NETWORK, b"message")
    both = signature + KEY.public
    for bit in range(8 * len(both)):
        flipped = (int.from_bytes(both, "big") ^ 1 << bit).to_bytes(len(both), "big")
        assert not verify(flipped[64:], flipped[:64], "head", NETWORK, b"message")


@given(st.binary(max_size=40), st.integers(1, 15))
def test_a_signature_has_no_second_spelling(message: bytes, times: int) -> None:
    signature = KEY.sign("head", NETWORK, message)
    larger = int.from_bytes(signature[32:], "little") + times * ORDER
    if larger < 1 << 256:
        assert not verify(KEY.public, signature[:32] + larger.to_bytes(32, "little"), "head", NETWORK, message)


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_a_key_of_an_odd_size_verifies_nothing(size: int) -> None:
    signature = KEY.sign("head", NETWORK, b"message")
    assert not verify((KEY.public * 2)[:size], signature, "head", NETWORK, b"message")


@pytest.mark.parametrize("size", [0, 32, 63, 65, 128])
def test_a_signature_of_an_odd_size_does_not_hold(size: int) -> None:
    signature = (KEY.sign("head", NETWORK, b"message") * 2)[:size]
    assert not verify(KEY.public, signature, "head", NETWORK, b"message")


def test_bytes_of_the_signed_text_cannot_move_into_the_signature() -> None:
    # verify joins signature, domain and message for libsodium: the border must be where the signature says it is.
    whole = KEY.sign("head", NETWORK, b"message") + domain("head", NETWORK)
    assert not verify(KEY.public, whole[:65], "head", NETWORK, b"message")
    assert not verify(KEY.public, whole, "head", NETWORK, b"message")


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_seed_of_an_odd_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError):
        KeyPair.from_seed(bytes(size))


def test_a_key_pair_does_not_print_its_secret() -> None:
    assert KEY.secret.hex() not in repr(KEY)
    assert repr(KEY) == f"KeyPair(public={KEY.public!r})"
