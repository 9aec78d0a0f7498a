"""ECVRF gives the RFC's values, one output a key and input, and None for everything else that can be sent."""

from hashlib import sha512
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_is_valid_point,
    crypto_core_ed25519_scalar_add,
    crypto_core_ed25519_scalar_mul,
    crypto_core_ed25519_sub,
    crypto_scalarmult_ed25519_base_noclamp,
    crypto_scalarmult_ed25519_noclamp,
)

from consensus import vrf
from consensus.signing import KeyPair
from consensus.vrf import Suite, prove, public_key, valid_key, verify
from tests.vectors.stored import vector

VECTORS = vector("ecvrf_rfc9381")
PROOFS = pytest.mark.parametrize("case", VECTORS["proofs"], ids=lambda case: f"example {case['example']}")
SUITES = pytest.mark.parametrize("suite", list(Suite), ids=lambda suite: suite.name)

SECRET, ALPHA = b"\x07" * 32, b"lucid/vrf/v1 of some slot"
PUBLIC = public_key(SECRET)
PRIME, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
IDENTITY, ZERO = b"\x01" + bytes(31), bytes(32)

ORDER_8 = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
TORSION = [IDENTITY]
for _ in range(7):
    TORSION.append(crypto_core_ed25519_add(TORSION[-1], ORDER_8))
"""The eight points of small order: the multiples of one of order 8 that libsodium's own list names."""

NO_POINT = (2).to_bytes(32, "little")
REDUCIBLE = [(y | sign << 255).to_bytes(32, "little") for y in range(PRIME, 2**255) for sign in (0, 1)]
"""Every encoding of a y that is not below the prime; libsodium's addition would reduce it."""

BAD_POINTS = {
    "of no point": NO_POINT,
    **{f"of small order, {number}·T": point for number, point in enumerate(TORSION)},
    "of −0": (1 | 1 << 255).to_bytes(32, "little"),
    "reducible": (PRIME + 3).to_bytes(32, "little"),
    "reducible, of the identity": (PRIME + 1).to_bytes(32, "little"),
    "of ones": b"\xff" * 32,
    "short": PUBLIC[:31],
    "long": PUBLIC + b"\x00",
    "empty": b"",
}


def unhex(case: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(case[name]) for name in names]


def secret_scalar(secret: bytes) -> bytes:
    """RFC 8032's x, from the integer's side: bits 0, 1, 2 and 255 off, 254 on."""
    number = int.from_bytes(sha512(secret).digest()[:32], "little") % 2**254
    return (number - number % 8 + 2**254).to_bytes(32, "little")


def by_hand(suite: Suite, gamma: bytes, number: int) -> bytes:
    """A proof for SECRET and ALPHA of any Gamma and with any nonce: what a cheating owner can put together."""
    base, nonce = vrf._encode_to_curve(PUBLIC, ALPHA, suite), number.to_bytes(32, "little")
    u, v = crypto_scalarmult_ed25519_base_noclamp(nonce), crypto_scalarmult_ed25519_noclamp(nonce, base)
    challenge = sha512(bytes([suite, 2]) + PUBLIC + base + gamma + u + v + b"\x00").digest()[:16]
    product = crypto_core_ed25519_scalar_mul(challenge + bytes(16), secret_scalar(SECRET))
    return gamma + challenge + crypto_core_ed25519_scalar_add(nonce, product)


@PROOFS
def test_keys_proofs_and_outputs_are_those_of_the_rfc(case: dict[str, Any]) -> None:
    secret, public, alpha, pi, beta, x = unhex(case, "secret", "public", "alpha", "pi", "beta", "x")
    suite = Suite(case["suite"])
    assert public_key(secret) == public == KeyPair.from_seed(secret).public
    assert secret_scalar(secret) == x
    assert valid_key(public)
    assert prove(secret, alpha, suite) == pi
    assert verify(public, alpha, pi, suite) == beta


@PROOFS
def test_what_is_hashed_on_the_way_is_that_of_the_rfc(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    secret, public, alpha, pi, h, k, u, v = unhex(case, "secret", "public", "alpha", "pi", "h", "k", "u", "v")
    suite = Suite(case["suite"])
    challenge_of = vrf._challenge
    challenged: list[tuple[bytes, ...]] = []

    def overheard(suite: Suite, *points: bytes) -> bytes:
        challenged.append(points)
        return challenge_of(suite, *points)

    monkeypatch.setattr(vrf, "_challenge", overheard)
    prove(secret, alpha, suite)
    verify(public, alpha, pi, suite)
    assert challenged == [(public, h, pi[:32], u, v)] * 2
    assert crypto_scalarmult_ed25519_base_noclamp(k) == u
    if suite == Suite.ELL2:
        assert vrf._hash_to_field(public + alpha, vrf._ELL2_DOMAIN).to_bytes(32, "little").hex() == case["field"]
    else:
        tries = [sha512(b"\x03\x01" + public + alpha + bytes([n, 0])).digest()[:32] for n in range(case["counter"] + 1)]
        assert [vrf._interpret(candidate) for candidate in tries] == [IDENTITY] * case["counter"] + [h]


@pytest.mark.parametrize("case", VECTORS["encodings"], ids=lambda case: case["message"][:16])
def test_elligator_is_that_of_rfc_9380(case: dict[str, str]) -> None:
    def encoded(x: str, y: str) -> bytes:
        return (int(y, 16) | (int(x, 16) & 1) << 255).to_bytes(32, "little")

    u = vrf._hash_to_field(case["message"].encode(), VECTORS["domain"].encode())
    assert u == int(case["u"], 16)
    assert vrf._elligator(u) == vrf._elligator(PRIME - u) == encoded(case["qx"], case["qy"])
    assert vrf._clear_cofactor(vrf._elligator(u)) == encoded(case["px"], case["py"])


def test_the_examples_are_all_there() -> None:
    assert [(case["example"], case["suite"]) for case in VECTORS["proofs"]] == [
        *((example, 3) for example in (16, 17, 18)),
        *((example, 4) for example in (19, 20, 21)),
    ]
    assert [len(case["message"]) for case in VECTORS["encodings"]] == [0, 3, 16, 133, 517]


@given(st.integers(1, PRIME - 1))
def test_elligator_maps_every_number_into_the_subgroup_of_prime_order(u: int) -> None:
    assert crypto_core_ed25519_is_valid_point(vrf._clear_cofactor(vrf._elligator(u)))


def test_elligator_at_zero_is_the_identity_once_the_cofactor_is_cleared() -> None:
    assert vrf._clear_cofactor(vrf._elligator(0)) == IDENTITY
    assert vrf._multiply(b"\x05" + bytes(31), IDENTITY) == IDENTITY


def test_bytes_are_interpreted_as_rfc_8032_decodes_them() -> None:
    y = 4  # of a point, and the same with its other x
    point, mirrored = y.to_bytes(32, "little"), (y | 1 << 255).to_bytes(32, "little")
    assert crypto_core_ed25519_is_valid_point(vrf._interpret(point))
    assert vrf._interpret(point) == crypto_core_ed25519_sub(IDENTITY, vrf._interpret(mirrored)) != IDENTITY
    assert vrf._interpret(crypto_core_ed25519_add(PUBLIC, ORDER_8)) == vrf._clear_cofactor(PUBLIC)
    assert vrf._clear_cofactor((PRIME + y).to_bytes(32, "little")) == vrf._interpret(point)
    for nothing in (NO_POINT, *TORSION, *REDUCIBLE):
        assert vrf._interpret(nothing) == IDENTITY


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.sampled_from(Suite))
def test_an_owner_proves_the_one_output_of_each_input(secret: bytes, alpha: bytes, suite: Suite) -> None:
    public, proof = public_key(secret), prove(secret, alpha, suite)
    beta = verify(public, alpha, proof, suite)
    assert valid_key(public)
    assert beta is not None
    assert (len(proof), len(beta)) == (vrf.PROOF_BYTES, 64) == (80, 64)
    assert prove(secret, alpha, suite) == proof
    base = vrf._encode_to_curve(public, alpha, suite)
    gamma = crypto_scalarmult_ed25519_noclamp(secret_scalar(secret), base)
    eighth = crypto_scalarmult_ed25519_noclamp(b"\x08" + bytes(31), gamma)
    assert beta == sha512(bytes([suite, 3]) + eighth + b"\x00").digest()
    for other in (alpha + b"\x00", alpha[:-1] if alpha else b"\x01"):
        assert verify(public, other, proof, suite) is None
        assert verify(public, other, prove(secret, other, suite), suite) != beta
    stranger = public_key(sha512(secret).digest()[:32])
    assert verify(stranger, alpha, proof, suite) is None
    assert verify(public, alpha, proof, Suite(7 - suite)) is None


@given(st.integers(1, ORDER - 1), st.sampled_from(Suite))
def test_another_nonce_is_another_proof_of_the_same_output(nonce: int, suite: Suite) -> None:
    proof = prove(SECRET, ALPHA, suite)
    other = by_hand(suite, proof[:32], nonce)
    assert other != proof
    assert verify(PUBLIC, ALPHA, other, suite) == verify(PUBLIC, ALPHA, proof, suite) is not None


@given(st.integers(1, ORDER - 1), st.sampled_from(Suite))
def test_the_owner_cannot_prove_another_output(factor: int, suite: Suite) -> None:
    base = vrf._encode_to_curve(PUBLIC, ALPHA, suite)
    true = prove(SECRET, ALPHA, suite)[:32]
    false = crypto_scalarmult_ed25519_noclamp(factor.to_bytes(32, "little"), base)
    assert verify(PUBLIC, ALPHA, by_hand(suite, true, 9), suite) is not None
    assert false != true
    assert verify(PUBLIC, ALPHA, by_hand(suite, false, 9), suite) is None


@pytest.mark.parametrize("torsion", TORSION[1:], ids=lambda torsion: torsion.hex()[:8])
def test_a_gamma_of_mixed_order_is_refused_even_where_the_equations_hold(torsion: bytes) -> None:
    gamma = crypto_core_ed25519_add(prove(SECRET, ALPHA)[:32], torsion)
    assert not crypto_core_ed25519_is_valid_point(gamma)  # PyNaCl before 1.6.2 lets the one of 4·T in: CVE-2025-69277
    proofs = (by_hand(Suite.ELL2, gamma, nonce) for nonce in range(1, 1000))
    whole = next(proof for proof in proofs if proof[32] % 8 == 0)  # c·T is the identity: V is as the prover has it
    assert vrf._clear_cofactor(gamma) == vrf._clear_cofactor(prove(SECRET, ALPHA)[:32])
    assert verify(PUBLIC, ALPHA, whole) is None


@pytest.mark.parametrize("torsion", TORSION[1:], ids=lambda torsion: torsion.hex()[:8])
def test_a_key_of_mixed_order_is_refused(torsion: bytes) -> None:
    mixed = crypto_core_ed25519_add(PUBLIC, torsion)
    assert not valid_key(mixed)
    assert verify(mixed, ALPHA, prove(SECRET, ALPHA)) is None


def test_the_points_of_small_order_are_the_eight() -> None:
    assert len(set(TORSION)) == 8
    assert crypto_core_ed25519_add(TORSION[-1], ORDER_8) == IDENTITY


@pytest.mark.parametrize("point", BAD_POINTS.values(), ids=BAD_POINTS.keys())
def test_bad_encodings_are_no_key_and_no_gamma(point: bytes) -> None:
    proof = prove(SECRET, ALPHA)
    assert not valid_key(point)
    assert verify(point, ALPHA, proof) is None
    assert verify(PUBLIC, ALPHA, point + proof[32:]) is None
    assert verify(PUBLIC, ALPHA, point + bytes(48)) is None


@SUITES
def test_no_bit_of_a_proof_or_key_can_be_flipped(suite: Suite) -> None:
    proof = prove(SECRET, ALPHA, suite)
    assert verify(PUBLIC, ALPHA, proof, suite) is not None
    for bit in range(640):
        flipped = (int.from_bytes(proof, "little") ^ 1 << bit).to_bytes(80, "little")
        assert verify(PUBLIC, ALPHA, flipped, suite) is None, bit
    for bit in range(256):
        other = (int.from_bytes(PUBLIC, "little") ^ 1 << bit).to_bytes(32, "little")
        assert verify(other, ALPHA, proof, suite) is None, bit


def test_s_has_one_spelling() -> None:
    proof = prove(SECRET, ALPHA)
    s = int.from_bytes(proof[48:], "little")
    for multiple in range(1, (2**256 - s) // ORDER + 1):
        assert verify(PUBLIC, ALPHA, proof[:48] + (s + multiple * ORDER).to_bytes(32, "little")) is None
    for absurd in (ORDER - 1, ORDER, ORDER + 1, 2**253, 2**256 - 1):
        assert verify(PUBLIC, ALPHA, proof[:48] + absurd.to_bytes(32, "little")) is None


def test_a_proof_has_eighty_bytes() -> None:
    proof = prove(SECRET, ALPHA)
    for false in (b"", proof[:-1], proof + b"\x00", b"\x00" + proof, proof * 2, proof[:32]):
        assert verify(PUBLIC, ALPHA, false) is None


@given(st.binary(max_size=40) | st.just(PUBLIC), st.binary(max_size=100) | st.binary(min_size=80, max_size=80))
def test_whatever_is_sent_raises_nothing(public: bytes, proof: bytes) -> None:
    assert verify(public, ALPHA, proof) is None
    assert verify(PUBLIC, ALPHA, prove(SECRET, ALPHA)[:32] + proof[32:80]) is None


def test_a_challenge_or_response_of_zero_is_counted_with_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    proof = prove(SECRET, ALPHA)
    beta, gamma, one = verify(PUBLIC, ALPHA, proof), proof[:32], b"\x01" + bytes(31)
    for c, s in ((bytes(16), ZERO), (bytes(16), one), (proof[32:48], ZERO)):
        assert verify(PUBLIC, ALPHA, gamma + c + s) is None
    base = vrf._encode_to_curve(PUBLIC, ALPHA, Suite.ELL2)
    points: list[tuple[bytes, ...]] = []

    def constant(suite: Suite, *hashed: bytes) -> bytes:
        points.append(hashed[3:])
        return bytes(16)

    monkeypatch.setattr(vrf, "_challenge", constant)
    assert verify(PUBLIC, ALPHA, gamma + bytes(16) + one) == beta
    assert verify(PUBLIC, ALPHA, gamma + bytes(16) + ZERO) == beta
    assert points == [(crypto_scalarmult_ed25519_base_noclamp(one), base), (IDENTITY, IDENTITY)]
    assert verify(PUBLIC, ALPHA, prove(SECRET, ALPHA)) == beta


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_secret_has_32_bytes(size: int) -> None:
    with pytest.raises(ValueError):
        public_key(bytes(size))
    with pytest.raises(ValueError):
        prove(bytes(size), ALPHA)
