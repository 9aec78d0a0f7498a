"""A sealed chunk as the replica that one holder keeps: ChaCha20 under a key of its own, so that no two are the same bytes.

    replica j = ChaCha20(K_j, sealed)      K_j = replica_key(replica secret, chunk, j)      root_j over 16 KiB segments

Encoding is its own inverse. It hides nothing that sealing does not hide already: it makes three holders on one disk keep
three copies (CONSENSUS §4). K_j encodes one (chunk, j) only, so nonce and counter begin at 0 (RFC 8439's cipher).
"""

from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from consensus.beacon import replica_key
from consensus.ids import Digest
from consensus.merkle import segment_root
from consensus.placement import REPLICAS
from pipeline.seal import expand, extract

BLOCK: Final = 64
"""Where encoding can begin: ChaCha20's block."""


def replica_secret(session_secret: bytes, session: bytes) -> bytes:
    """What a session's replica keys follow from, 32 bytes."""
    return expand(extract(session, session_secret), b"lucid/replica/v1", 32)


def encode(data: bytes | memoryview, key: bytes, offset: int = 0) -> bytes:
    """The bytes of a replica from those of the sealed chunk that begin at offset, a multiple of 64; or the way back."""
    if offset % BLOCK:
        raise ValueError("encoding begins at a multiple of 64 bytes")
    nonce = (offset // BLOCK).to_bytes(8, "little") + bytes(8)  # OpenSSL's: a 64-bit counter, then 64 bits of nonce
    return Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(data)


def roots(sealed: bytes | memoryview, secret: bytes, chunk: Digest) -> tuple[Digest, ...]:
    """root_0 to root_(R−1) of a sealed chunk; costs R passes of ChaCha20 and BLAKE3, some 40 ms for 16 MB."""
    return tuple(segment_root(encode(sealed, replica_key(secret, chunk, j))) for j in range(REPLICAS))
