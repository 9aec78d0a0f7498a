"""Domain-separated Ed25519: what is signed under one name on one network means nothing under another.

The signed bytes are "lucid/‹name›/v1" ‖ network ‖ message (CONSENSUS §1). Signatures are checked by libsodium alone, one
by one: other implementations differ on small-order keys and non-canonical encodings, and nodes that differ would split.
"""

from dataclasses import dataclass, field

from blake3 import blake3
from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from consensus.ids import Digest, Network


def domain(name: str, network: Network) -> bytes:
    """The prefix of everything signed or hashed under a name: "lucid/‹name›/v1" ‖ network."""
    return b"lucid/%s/v1" % name.encode() + network


def digest(name: str, network: Network, message: bytes) -> Digest:
    """BLAKE3-256 of a message in its domain."""
    return Digest(blake3(domain(name, network) + message).digest())


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An Ed25519 key; `public` is 32 bytes, `secret` is libsodium's 64 (seed ‖ public) and never printed."""

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> "KeyPair":
        """The key pair of a 32-byte seed (RFC 8032)."""
        return cls(*crypto_sign_seed_keypair(seed))

    def sign(self, name: str, network: Network, message: bytes) -> bytes:
        """The 64-byte signature over the message in its domain."""
        return self.sign_as_is(domain(name, network) + message)

    def sign_as_is(self, message: bytes) -> bytes:
        """The 64-byte signature over bytes that carry a domain already, such as libp2p's."""
        return bytes(crypto_sign(message, self.secret)[:crypto_sign_BYTES])


def verify(public: bytes, signature: bytes, name: str, network: Network, message: bytes) -> bool:
    """Whether the signature is the key's, over that message in that domain; False for keys and signatures of odd sizes."""
    return verify_as_is(public, signature, domain(name, network) + message)


def verify_as_is(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the signature is the key's, over bytes that carry a domain already; ~60 µs."""
    if len(public) != 32 or len(signature) != crypto_sign_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public)
    except BadSignatureError:
        return False
    return True
