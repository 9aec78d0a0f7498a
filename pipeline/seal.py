"""Chunk keys by HKDF-BLAKE2b, the nonce rule, and XChaCha20-Poly1305 over a chunk.

    session key ── Extract(salt = session id) ── PRK ─┬─ "lucid/chunk/v1" ‖ stream ‖ index  → key ‖ commitment key
                                                      ├─ "lucid/nonce/v1"                   → nonce key
                                                      ├─ "lucid/cut/v1"                     → seed of the cuts
                                                      └─ "lucid/journal/v1" ‖ stream ‖ index → journal key

The nonce is a keyed hash of what is sealed: the same input seals the same way, and an index that is sealed twice (after
a crash, or by a machine rolled back to a snapshot) meets another nonce unless the bytes are the same. XChaCha20 is run
as HChaCha20 plus OpenSSL's ChaCha20-Poly1305: byte-identical to libsodium's and faster (findings: 3×).
Source: DESIGN §6; RFC 5869 over HMAC-BLAKE2b-512; draft-irtf-cfrg-xchacha.
"""

import hashlib
import hmac
import struct
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Final

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import BLAKE2b
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from consensus.ids import Digest, Network, SessionId
from pipeline.chunk import compress, decompress
from pipeline.sealed import HEADER_BYTES, OVERHEAD, TAG_BYTES, Flags, Header, parse
from pipeline.stream import Stream

_POSITION: Final = struct.Struct(">BQ")
_NONCED: Final = struct.Struct(">BQB")
_U32: Final = 0xFFFFFFFF
_NONCE_BYTES: Final = 24


class Unauthentic(Exception):
    """The chunk does not open under its key: it was changed, or it belongs to another place or session."""


def extract(salt: bytes, secret: bytes) -> bytes:
    """HKDF-Extract over HMAC-BLAKE2b-512, 64 bytes."""
    return hmac.new(salt, secret, hashlib.blake2b).digest()


def expand(prk: bytes, info: bytes, size: int) -> bytes:
    """HKDF-Expand over HMAC-BLAKE2b-512."""
    return HKDFExpand(BLAKE2b(64), size, info).derive(prk)


@dataclass(frozen=True, slots=True)
class ChunkKey:
    """What opens one chunk, and may be handed to whoever shall see just that one."""

    key: bytes = field(repr=False)
    commitment: bytes = field(repr=False)

    @property
    def committed(self) -> Digest:
        """BLAKE3 of the commitment key, a part of the Merkle leaf: an AEAD alone would open under a false key too."""
        return Digest(blake3(self.commitment).digest())


@dataclass(frozen=True)
class SessionKeys:  # no slots: cached_property needs a dict
    """Everything that one session's secret yields."""

    network: Network
    session: SessionId
    secret: bytes = field(repr=False)

    @cached_property
    def _prk(self) -> bytes:
        return extract(self.session, self.secret)

    @cached_property
    def nonce_key(self) -> bytes:
        """Keys the hash that makes nonces; 32 bytes."""
        return expand(self._prk, b"lucid/nonce/v1", 32)

    @cached_property
    def cut_seed(self) -> bytes:
        """Keys the draw of the cuts; 32 bytes."""
        return expand(self._prk, b"lucid/cut/v1", 32)

    def chunk(self, stream: Stream, index: int) -> ChunkKey:
        """The key and the commitment key of one chunk."""
        both = expand(self._prk, b"lucid/chunk/v1" + _POSITION.pack(stream, index), 64)
        return ChunkKey(both[:32], both[32:])

    def journal(self, stream: Stream, index: int) -> tuple[bytes, bytes]:
        """The sealing key and the checking key of the journal that holds a chunk while it is open; 32 bytes each."""
        both = expand(self._prk, b"lucid/journal/v1" + _POSITION.pack(stream, index), 64)
        return both[:32], both[32:]

    def nonce(self, header: Header, payload: memoryview | bytes) -> bytes:
        """BLAKE3-keyed(nonce key, stream ‖ index ‖ flags ‖ gaps ‖ plain length ‖ payload), 24 bytes."""
        hasher = blake3(_NONCED.pack(header.stream, header.index, header.flags), key=self.nonce_key)
        hasher.update(struct.pack(">IQ", header.gaps, header.plain))
        hasher.update(payload)
        return hasher.digest(length=_NONCE_BYTES)


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """HChaCha20: the 32-byte subkey of a 32-byte key and a 16-byte nonce (draft-irtf-cfrg-xchacha §2.2); ~70 µs."""
    state = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[x] = (state[x] + state[y]) & _U32
            mixed = state[z] ^ state[x]
            state[z] = (mixed << turn | mixed >> (32 - turn)) & _U32

    for _ in range(10):
        for at in range(4):
            quarter(at, 4 + at, 8 + at, 12 + at)
        for at in range(4):
            quarter(at, 4 + (at + 1) % 4, 8 + (at + 2) % 4, 12 + (at + 3) % 4)
    return struct.pack("<8I", *state[:4], *state[12:])


def _cipher(key: bytes, nonce: bytes) -> tuple[ChaCha20Poly1305, bytes]:
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])), bytes(4) + nonce[16:]


def encrypt_into(key: bytes, nonce: bytes, plain: memoryview | bytes, associated: bytes, out: memoryview) -> None:
    """XChaCha20-Poly1305 of plain into out, which is 16 bytes longer; nonce of 24 bytes."""
    cipher, short = _cipher(key, nonce)
    cipher.encrypt_into(short, plain, associated, out)


def encrypt(key: bytes, nonce: bytes, plain: memoryview | bytes, associated: bytes) -> bytes:
    """XChaCha20-Poly1305 of plain; nonce of 24 bytes."""
    cipher, short = _cipher(key, nonce)
    return cipher.encrypt(short, plain, associated)


def decrypt(key: bytes, nonce: bytes, sealed: memoryview | bytes, associated: bytes) -> bytes:
    """The plain bytes, or Unauthentic."""
    cipher, short = _cipher(key, nonce)
    try:
        return cipher.decrypt(short, sealed, associated)
    except InvalidTag:
        raise Unauthentic from None


@dataclass(frozen=True, slots=True)
class RecordKey:
    """Seals records other than chunks: nonce ‖ XChaCha20-Poly1305, the nonce being a keyed hash of what is sealed."""

    OVERHEAD: ClassVar = _NONCE_BYTES + TAG_BYTES
    key: bytes = field(repr=False)
    nonce_key: bytes = field(repr=False)

    @classmethod
    def derive(cls, salt: bytes, secret: bytes, label: bytes) -> "RecordKey":
        """Both keys, out of a secret, for what the label names."""
        both = expand(extract(salt, secret), label, 64)
        return cls(both[:32], both[32:])

    def seal(self, plain: bytes, associated: bytes) -> bytes:
        """OVERHEAD bytes more than plain; the same for the same."""
        nonce = blake3(plain, key=self.nonce_key).digest(length=_NONCE_BYTES)
        return nonce + encrypt(self.key, nonce, plain, associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """The plain bytes; sealed has at least OVERHEAD bytes. Raises Unauthentic."""
        return decrypt(self.key, sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated)


def seal_into(
    out: memoryview, keys: SessionKeys, stream: Stream, index: int, plain: memoryview, *, last: bool, gaps: int
) -> int:
    """Seal a chunk into out and return how many bytes of it the sealed chunk takes.

    `out` holds at least len(plain) + OVERHEAD bytes. Deterministic: same arguments, same bytes. Releases the GIL for
    all but microseconds; costs one pass of Zstandard (or its probe), BLAKE3 and ChaCha20-Poly1305.
    """
    packed = compress(plain, always=stream is Stream.AUDIT)
    payload = plain if packed is None else packed
    flags = (Flags.LAST if last else Flags.NONE) | (Flags.RAW if packed is None else Flags.NONE)
    header = Header(keys.network, keys.session, stream, index, flags, gaps, len(plain))
    nonce = keys.nonce(header, payload)
    size = len(payload) + OVERHEAD
    out[:HEADER_BYTES] = header.spell(nonce)
    encrypt_into(keys.chunk(stream, index).key, nonce, payload, header.associated(), out[HEADER_BYTES:size])
    return size


def open_sealed(key: bytes, sealed: memoryview | bytes) -> tuple[Header, bytes]:
    """The header and the plain bytes of a sealed chunk.

    Raises Malformed for what is not in the format, Unauthentic for what does not open under the key.
    """
    header, nonce = parse(sealed)
    payload = decrypt(key, nonce, memoryview(sealed)[HEADER_BYTES:], header.associated())
    return header, payload if header.flags & Flags.RAW else decompress(payload, header.plain)


__all__ = [
    "OVERHEAD",
    "TAG_BYTES",
    "ChunkKey",
    "SessionKeys",
    "Unauthentic",
    "decrypt",
    "encrypt_into",
    "open_sealed",
    "seal_into",
]
