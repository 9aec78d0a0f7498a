"""Onion keys and addresses, and the signed records that say which onion is whose.

An onion key is independent of the identity key: one key for both would let whoever learns a node's identity probe it and
flood it for ever, would put the identity's secret inside tor's process, and would make a new onion a new identity. The two
are linked by a signed record, which is given only to those that shall know it and means nothing before the encrypted
session has shown who is at the other end.

    address = base32(key 32 B ‖ checksum 2 B ‖ version 03)      checksum = SHA3-256(".onion checksum" ‖ key ‖ 03)[:2]

What is kept of a key is its 32-byte seed. tor takes and gives the expanded form, with which libraries cannot sign.
Source: Tor rend-spec-v3 §6 [ONIONADDRESS]; control-spec ADD_ONION; DESIGN §4.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, NewType, TypeVar

from nacl.bindings import crypto_core_ed25519_is_valid_point, crypto_scalarmult_base

from consensus.encoding import Malformed
from consensus.ids import Millis, Network, NodeId
from consensus.records import Size, pack, unpack
from consensus.signing import KeyPair, verify

Onion = NewType("Onion", str)
"""A v3 onion address without its ending ".onion": 56 characters of a-z and 2-7 with a right checksum and a valid key."""

SUFFIX: Final = ".onion"

_VERSION: Final = b"\x03"
_SPELLING: Final = re.compile("[a-z2-7]{56}", re.ASCII)

Bytes32 = Annotated[bytes, Size(32)]
Bytes64 = Annotated[bytes, Size(64)]


class BadOnion(ValueError):
    """The text is no v3 onion address; the message says what is wrong with it, and that it should be copied anew."""


class Unproven(Exception):
    """A record about an onion is malformed, out of its time, not newer than what is known, or lacks a valid signature."""


def address_of(key: bytes) -> Onion:
    """The address of a 32-byte Ed25519 public key; raises BadOnion for 32 bytes that are no key."""
    if len(key) != 32 or not crypto_core_ed25519_is_valid_point(key):
        raise BadOnion("an onion's key is a point of Ed25519's prime-order group, and these bytes are none")
    return Onion(base64.b32encode(key + _checksum(key) + _VERSION).decode().lower())


def parse_onion(text: str) -> Onion:
    """The onion that text spells, with or without ".onion"; raises BadOnion for every other text.

    Upper case is refused too, so that an onion has one spelling everywhere.
    """
    name = text.removesuffix(SUFFIX)
    if not _SPELLING.fullmatch(name):
        raise BadOnion(f"{text[:80]!r} is not 56 characters of a-z and 2-7: copy the address anew")
    raw = base64.b32decode(name.upper())
    key, checksum, version = raw[:32], raw[32:34], raw[34:]
    if version != _VERSION:
        raise BadOnion(f"{text} is an onion of version {version[0]}, not 3: copy the address anew")
    if checksum != _checksum(key):
        raise BadOnion(f"the checksum of {text} is wrong, a character was changed: copy the address anew")
    return address_of(key)


def key_of(onion: Onion) -> bytes:
    """The 32-byte public key inside an address."""
    return base64.b32decode(onion.upper())[:32]


def onion_of(seed: bytes) -> Onion:
    """The address of a 32-byte seed."""
    return address_of(KeyPair.from_seed(seed).public)


def expand(seed: bytes) -> bytes:
    """The 64-byte expanded secret key that ADD_ONION wants: SHA-512 of the seed with its lower half clamped (RFC 8032)."""
    if len(seed) != 32:
        raise ValueError("the seed of an onion key is 32 bytes")
    wide = bytearray(hashlib.sha512(seed).digest())
    wide[0] &= 0xF8
    wide[31] = wide[31] & 0x3F | 0x40
    return bytes(wide)


def reader_key(secret: bytes) -> str:
    """The public half of a 32-byte X25519 secret in unpadded base32, as ADD_ONION's ClientAuthV3 wants it."""
    return base64.b32encode(crypto_scalarmult_base(secret)).decode().rstrip("=")


def _checksum(key: bytes) -> bytes:
    return hashlib.sha3_256(b".onion checksum" + key + _VERSION).digest()[:2]


@dataclass(frozen=True, slots=True)
class OnionBinding:
    """An identity says: this onion leads to me, from not_before to not_after, Unix ms; a higher seq replaces a lower."""

    VERSION: ClassVar = 1
    identity: Annotated[NodeId, Size(32)]
    onion: Bytes32
    """The onion's public key."""
    seq: int
    not_before: Millis
    not_after: Millis


@dataclass(frozen=True, slots=True)
class OnionRotation:
    """An identity moves from the old onion to the new one; the old one answers until old_until, Unix ms.

    An emergency is told by the identity alone, because the old key is lost or stolen: whoever reads it asks a person.
    """

    VERSION: ClassVar = 1
    identity: Annotated[NodeId, Size(32)]
    old: Bytes32
    new: Bytes32
    seq: int
    not_before: Millis
    old_until: Millis
    emergency: bool


@dataclass(frozen=True, slots=True)
class SignedOnion:
    """A binding or rotation with its signatures; the onions' are absent in a binding and in an emergency."""

    VERSION: ClassVar = 1
    body: bytes
    by_identity: Bytes64
    by_old: Bytes64 | None
    by_new: Bytes64 | None


Told = TypeVar("Told", OnionBinding, OnionRotation)

_BINDING: Final = "onion-binding"
_ROTATION: Final = "onion-rotation"


def sign_binding(binding: OnionBinding, identity: KeyPair, network: Network) -> bytes:
    """The bytes to hand to a peer. Dialling the onion and finding the identity there is what proves the onion's side."""
    body = pack(binding)
    return pack(SignedOnion(body, identity.sign(_BINDING, network, body), None, None))


def open_binding(data: bytes, identity: NodeId, network: Network, now: Millis, *, above: int = -1) -> OnionBinding:
    """The binding in data if that identity signed it for this time with a seq above one; raises Unproven."""
    signed, binding = _opened(data, OnionBinding)
    _expect(binding.identity == identity, "it is about another identity")
    _expect(verify(identity, signed.by_identity, _BINDING, network, signed.body), "the identity's signature is wrong")
    _expect(signed.by_old is None and signed.by_new is None, "a binding has one signature")
    _expect(binding.seq > above, f"its number {binding.seq} is not above {above}, which is known")
    _expect(binding.not_before <= now <= binding.not_after, "it is not valid at this time")
    _key_is_valid(binding.onion)
    return binding


def sign_rotation(
    rotation: OnionRotation, identity: KeyPair, network: Network, *, old: KeyPair | None, new: KeyPair | None
) -> bytes:
    """The bytes to hand to peers; an emergency is signed without the onions' keys, everything else with both.

    Raises ValueError when the keys are not those the rotation names.
    """
    wanted = (rotation.identity, None, None) if rotation.emergency else (rotation.identity, rotation.old, rotation.new)
    if wanted != (identity.public, old and old.public, new and new.public):
        raise ValueError("a rotation is signed by the keys it names, and an emergency by the identity alone")
    body = pack(rotation)
    by_old, by_new = (key.sign(_ROTATION, network, body) if key else None for key in (old, new))
    return pack(SignedOnion(body, identity.sign(_ROTATION, network, body), by_old, by_new))


def open_rotation(data: bytes, binding: OnionBinding, network: Network) -> OnionRotation:
    """The rotation in data if it continues a known binding; raises Unproven.

    Continues: the same identity, away from the known onion, with a higher seq, signed by identity, old onion and new onion.
    An emergency lacks the onions' signatures: whoever stole the identity could have made it, so it needs a person's yes.
    """
    signed, rotation = _opened(data, OnionRotation)
    identity = binding.identity
    _expect(rotation.identity == identity, "it is about another identity")
    _expect(rotation.old == binding.onion, "it leads away from another onion than the known one")
    _expect(rotation.new != rotation.old, "it leads to the onion that it leads away from")
    _expect(rotation.seq > binding.seq, f"its number {rotation.seq} is not above {binding.seq}, which is known")
    _expect(rotation.not_before <= rotation.old_until, "the old onion would end before the new one begins")
    _key_is_valid(rotation.new)
    _expect(verify(identity, signed.by_identity, _ROTATION, network, signed.body), "the identity's signature is wrong")
    if rotation.emergency:
        _expect(signed.by_old is None and signed.by_new is None, "an emergency has one signature")
        return rotation
    for key, signature, whose in ((rotation.old, signed.by_old, "old"), (rotation.new, signed.by_new, "new")):
        proven = signature is not None and verify(key, signature, _ROTATION, network, signed.body)
        _expect(proven, f"the {whose} onion's signature is wrong or absent")
    return rotation


def _opened(data: bytes, kind: type[Told]) -> tuple[SignedOnion, Told]:
    try:
        signed = unpack(SignedOnion, data)
        return signed, unpack(kind, signed.body)
    except Malformed as error:
        raise Unproven(f"the onion record is not readable: {error}") from error


def _key_is_valid(key: bytes) -> None:
    try:
        address_of(key)
    except BadOnion as error:
        raise Unproven(f"the onion record is refused: {error}") from error


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Unproven(f"the onion record is refused: {otherwise}")
