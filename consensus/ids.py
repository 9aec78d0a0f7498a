"""Identifier and unit types, and the few limits that every package shares.

An identifier is raw bytes inside the program and lowercase hex at its edges (DESIGN §12).
"""

from typing import Final, NewType

Digest = NewType("Digest", bytes)
"""BLAKE3-256, 32 bytes."""

NodeId = NewType("NodeId", bytes)
"""A node's Ed25519 public key, 32 bytes: the identity itself, so that no look-up is needed to check a signature."""

Address = NewType("Address", bytes)
"""An account of the on-system chain, 20 bytes: the last 20 of keccak256 of its secp256k1 public key (x ‖ y)."""

SessionId = NewType("SessionId", bytes)
"""keccak256(owner address ‖ uuid ‖ ephemeral key), 32 bytes; see `session_id`."""

Millis = NewType("Millis", int)
"""Unix time in milliseconds."""

Network = NewType("Network", bytes)
"""BLAKE3 of a network's genesis, 32 bytes: prefixed to everything signed, so that nothing is replayed elsewhere."""

NO_NETWORK: Final = Network(bytes(32))
"""The network of a home that has not joined one: its recordings are sealed and verifiable, and anchored nowhere."""

MB: Final = 1_000_000
"""CONSENSUS §1: MB = 10⁶ B."""


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it (the padding of before FIPS 202), 32 bytes."""
    from Crypto.Hash import keccak  # a third of a command's start, by way of cffi's parser of C

    return keccak.new(data=data, digest_bits=256).digest()


def session_id(owner: Address, uuid: bytes, ephemeral: bytes) -> SessionId:
    """The id of one session: keccak256(owner 20 B ‖ uuid 16 B ‖ ephemeral Ed25519 key 32 B).

    The chain computes the same from its caller's address, so nobody can open a session in another's name (DESIGN §6).
    """
    if (len(owner), len(uuid), len(ephemeral)) != (20, 16, 32):
        raise ValueError("owner, uuid and ephemeral key are 20, 16 and 32 bytes")
    return SessionId(keccak256(owner + uuid + ephemeral))
