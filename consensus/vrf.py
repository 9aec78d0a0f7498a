"""A verifiable random function: for a key and an input one output, which its owner alone can make and everybody can check.

    H = encode to curve (Y, alpha)      Gamma = x·H      beta = SHA-512(suite ‖ 03 ‖ 8·Gamma ‖ 00)
    pi = Gamma ‖ c ‖ s shows that Gamma is to H as the public key Y is to the base point B:

    prover      U = k·B          V = k·H              s = k + c·x
    verifier    U = s·B − c·Y    V = s·H − c·Gamma    c = SHA-512(suite ‖ 02 ‖ Y ‖ H ‖ Gamma ‖ U ‖ V ‖ 00)[:16]

The owner of a key can make as many proofs of one output as there are nonces k, so only beta may be drawn from: whoever hashes
pi lets its maker choose. Points are their 32 bytes of RFC 8032 and scalars 32 bytes, little-endian. Arithmetic on both is
libsodium's, in constant time; Python computes Elligator's map alone, and that sees what is public.

Verification is one step stricter than the RFC: a key or a Gamma outside the subgroup of prime order is refused, where the RFC
refuses a key of small order only. Beta would be the same; this way there is one set of valid points, libsodium's as PyNaCl
has it since 1.6.2 (before, CVE-2025-69277 let in some points of mixed order, and nodes that differ would split).

Source: CONSENSUS §6, RFC 9381, RFC 9380 (Elligator).
"""

from enum import IntEnum
from hashlib import sha512
from typing import Final

from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_is_valid_point,
    crypto_core_ed25519_scalar_add,
    crypto_core_ed25519_scalar_mul,
    crypto_core_ed25519_scalar_reduce,
    crypto_core_ed25519_sub,
    crypto_scalarmult_ed25519_base_noclamp,
    crypto_scalarmult_ed25519_noclamp,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import CryptoError


class Suite(IntEnum):
    """The suites over edwards25519 and SHA-512 (RFC 9381 §5.5), which differ in how they find H; the protocol's is ELL2."""

    TAI = 3
    ELL2 = 4


PROOF_BYTES: Final = 80

_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_ZERO: Final = bytes(32)
_IDENTITY: Final = b"\x01" + bytes(31)
_ELL2_DOMAIN: Final = b"ECVRF_edwards25519_XMD:SHA-512_ELL2_NU_" + bytes([Suite.ELL2])

_P: Final = 2**255 - 19
_J: Final = 486662
"""Curve25519 is y² = x³ + J·x² + x, edwards25519 its image."""

_I: Final = pow(2, (_P - 1) // 4, _P)
"""A square root of −1."""

_TWO: Final = pow(2, (_P + 3) // 8, _P)
"""2 is no square: this is a square root of 2·i or of −2·i."""

_SCALE: Final = 6853475219497561581579357271197624642482790079785650197046958215289687604742
"""The even square root of −J − 2 (RFC 9380 §6.8.2)."""


def public_key(secret: bytes) -> bytes:
    """The 32-byte public key Y of a 32-byte secret, as in Ed25519; ~0.05 ms. Raises ValueError for a secret of another size.

    Source: RFC 9381 §5.5, RFC 8032 §5.1.5.
    """
    return bytes(crypto_sign_seed_keypair(secret)[0])


def valid_key(public: bytes) -> bool:
    """Whether verify can accept anything under the key: 32 bytes, canonical, of prime order; ~0.1 ms.

    Source: RFC 9381 §5.4.5, and stricter (see above).
    """
    return len(public) == len(_IDENTITY) and crypto_core_ed25519_is_valid_point(public)


def prove(secret: bytes, alpha: bytes, suite: Suite = Suite.ELL2) -> bytes:
    """The proof pi = Gamma ‖ c ‖ s of alpha's output, 32 + 16 + 32 bytes, always the same; ~0.5 ms.

    The secret is 32 bytes, alpha public and of any size. Raises ValueError for a secret of another size.
    Source: RFC 9381 §5.1, nonce of §5.4.2.2.
    """
    public = public_key(secret)
    expanded = sha512(secret).digest()
    scalar = bytes([expanded[0] & 248, *expanded[1:31], expanded[31] & 127 | 64])
    base = _encode_to_curve(public, alpha, suite)
    gamma = _multiply(scalar, base)
    nonce = crypto_core_ed25519_scalar_reduce(sha512(expanded[32:] + base).digest())
    challenge = _challenge(suite, public, base, gamma, _multiply_base(nonce), _multiply(nonce, base))
    response = crypto_core_ed25519_scalar_add(nonce, crypto_core_ed25519_scalar_mul(_widen(challenge), scalar))
    return gamma + challenge + response


def verify(public: bytes, alpha: bytes, proof: bytes, suite: Suite = Suite.ELL2) -> bytes | None:
    """The 64-byte output beta that the proof shows to be alpha's under the key; None for every other key, alpha or proof.

    Sizes are checked here, and nothing is raised for what others may send; ~1 ms.
    Source: RFC 9381 §5.3.
    """
    if len(proof) != PROOF_BYTES or not valid_key(public):
        return None
    gamma, challenge, response = proof[:32], proof[32:48], proof[48:]
    if int.from_bytes(response, "little") >= _ORDER or not crypto_core_ed25519_is_valid_point(gamma):
        return None
    base, multiplier = _encode_to_curve(public, alpha, suite), _widen(challenge)
    u = crypto_core_ed25519_sub(_multiply_base(response), _multiply(multiplier, public))
    v = crypto_core_ed25519_sub(_multiply(response, base), _multiply(multiplier, gamma))
    if _challenge(suite, public, base, gamma, u, v) != challenge:
        return None
    return sha512(bytes([suite, 3]) + _clear_cofactor(gamma) + b"\x00").digest()


def _challenge(suite: Suite, *points: bytes) -> bytes:
    return sha512(bytes([suite, 2]) + b"".join(points) + b"\x00").digest()[:16]


def _widen(challenge: bytes) -> bytes:
    return challenge + bytes(16)


def _multiply(scalar: bytes, point: bytes) -> bytes:
    # The point is of prime order or the identity. Where the product is the identity, libsodium fails instead.
    if scalar == _ZERO or point == _IDENTITY:
        return _IDENTITY
    return crypto_scalarmult_ed25519_noclamp(scalar, point)


def _multiply_base(scalar: bytes) -> bytes:
    return _IDENTITY if scalar == _ZERO else crypto_scalarmult_ed25519_base_noclamp(scalar)


def _clear_cofactor(point: bytes) -> bytes:
    # By addition, which libsodium does for every point of the curve; its multiplication wants a prime order.
    for _ in range(3):
        point = crypto_core_ed25519_add(point, point)
    return point


def _encode_to_curve(public: bytes, alpha: bytes, suite: Suite) -> bytes:
    if suite == Suite.TAI:
        return _try_and_increment(public + alpha)
    return _clear_cofactor(_elligator(_hash_to_field(public + alpha, _ELL2_DOMAIN)))


def _try_and_increment(message: bytes) -> bytes:
    # Each try succeeds with a chance of one half; that all 256 fail, for which the RFC has no answer, one of 2⁻²⁵⁶.
    point, counter = _IDENTITY, 0
    while point == _IDENTITY:
        point = _interpret(sha512(bytes([Suite.TAI, 1]) + message + bytes([counter, 0])).digest()[:32])
        counter += 1
    return point


def _interpret(candidate: bytes) -> bytes:
    # 8 times the point, and the identity for bytes that encode none (RFC 8032 §5.1.3) as for points of small order.
    if int.from_bytes(candidate, "little") % (1 << 255) >= _P:  # libsodium would reduce it
        return _IDENTITY
    try:
        return _clear_cofactor(candidate)
    except CryptoError:
        return _IDENTITY


def _hash_to_field(message: bytes, domain: bytes) -> int:
    # RFC 9380 §5.2 and §5.3.1: of expand_message_xmd's blocks, the first holds all 48 bytes.
    tail = domain + bytes([len(domain)])
    first = sha512(bytes(128) + message + b"\x00\x30\x00" + tail).digest()
    return int.from_bytes(sha512(first + b"\x01" + tail).digest()[:48], "big") % _P


def _elligator(u: int) -> bytes:
    # RFC 9380 §6.7.1 and §6.8.2. Of x₁ and x₂ = −x₁ − J exactly one is on the curve, for g(x₂) = 2u²·g(x₁) and 2 is no
    # square. One power gives, up to a factor i, the root of either: the same steps for every u.
    ratio = 2 * u * u % _P
    x1 = -_J * pow(1 + ratio, -1, _P) % _P  # −1 is a square and 2u² none, so this is no division by 0
    x2 = (-x1 - _J) % _P
    root1 = pow(_curve(x1), (_P + 3) // 8, _P)
    root2 = root1 * u * _TWO % _P
    candidates = [(x1, root1, 1), (x1, root1 * _I % _P, 1), (x2, root2, 0), (x2, root2 * _I % _P, 0)]
    x, root, parity = next(found for found in candidates if found[1] * found[1] % _P == _curve(found[0]))
    y = root if root & 1 == parity else _P - root
    # To edwards25519: (scale·x ÷ y, (x − 1) ÷ (x + 1)), where x + 1 is never 0. At u = 0 both x and y are: the RFC then says
    # (0, 1) and this (0, −1), of which the cofactor makes the same.
    edwards_x = _SCALE * x * pow(y or 1, -1, _P) % _P
    edwards_y = (x - 1) * pow(x + 1, -1, _P) % _P
    return (edwards_y | (edwards_x & 1) << 255).to_bytes(32, "little")


def _curve(x: int) -> int:
    return (x * (x + _J) + 1) * x % _P
