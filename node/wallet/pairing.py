"""An offer: what an owner's second device needs of the first, in a text sealed under a code that a person carries over.

    text = "lucid-pair:" ‖ base32 of CBOR {offer 16, expires ms, ops, memory, salt, nonce, sealed}
    code = 16 letters of Crockford's base32, 80 bits         key = argon2id(code, salt, ops, memory)
    sealed = XChaCha20-Poly1305(key, nonce, Offer, ad = all the rest)

It holds the master keys, and neither identity nor account: a device has its own, so that two never sign under one name.

An offer is taken within an hour and then removed by who took it. Neither can be enforced on whoever copied the text and the
code before: the owner's devices say by which offer they came (node/store/index), and one that came twice shows there.
"""

import os
from base64 import b32decode, b32encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final, NamedTuple

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_pwhash_alg,
    crypto_pwhash_ALG_ARGON2ID13,
)
from nacl.exceptions import CryptoError

from consensus.encoding import Malformed, encode
from consensus.ids import Millis, NodeId
from consensus.records import Between, Most, Size, pack, unpack
from node.exits import Refuted, Usage
from node.wallet.vault import MEMORY_BYTES, OPS

PREFIX: Final = "lucid-pair:"
LIFE_MS: Final = 3_600_000
CODE_LETTERS: Final = 16
LETTERS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's: no letter that could be read as another."""
_ALIKE: Final = str.maketrans("OIL", "011", "- ")
_TEXT_CHARACTERS_MAX: Final = 1 << 20


class Cost(NamedTuple):
    """What a guess at the code costs: argon2id's passes and bytes."""

    ops: int
    memory: int


USUAL: Final = Cost(OPS, MEMORY_BYTES)


@dataclass(frozen=True, slots=True)
class Offer:
    """What the second device gets."""

    VERSION: ClassVar = 1
    origin: Annotated[NodeId, Size(32)]
    """The device that offers."""
    name: Annotated[str, Most(256)]
    made: Millis
    masters: Annotated[tuple[Annotated[bytes, Size(32)], ...], Most(1000)] = field(repr=False)
    network: Annotated[bytes, Most(65536)]
    """The signed network file's record; empty where the first device has joined none."""


@dataclass(frozen=True, slots=True)
class SealedOffer:
    """The text's content; all but `sealed` can be read, and not changed, without the code."""

    VERSION: ClassVar = 1
    offer: Annotated[bytes, Size(16)]
    """Its name."""
    expires: Millis
    ops: Annotated[int, Between(1, 16)]
    memory: Annotated[int, Between(8192, 1 << 30)]
    salt: Annotated[bytes, Size(16)]
    nonce: Annotated[bytes, Size(24)]
    sealed: Annotated[bytes, Most(1 << 18)]

    def associated(self) -> bytes:
        """What the seal is over besides."""
        return encode(["lucid/pair/v1", self.offer, self.expires, self.ops, self.memory, self.salt, self.nonce])

    def key(self, code: str) -> bytes:
        """The key that a code, as `spelled`, makes."""
        algorithm = crypto_pwhash_ALG_ARGON2ID13
        return bytes(crypto_pwhash_alg(32, code.encode(), self.salt, self.ops, self.memory, algorithm))


def new_code(random: Callable[[int], bytes] = os.urandom) -> str:
    """A code to be carried by a person, in groups of four."""
    letters = [LETTERS[byte % len(LETTERS)] for byte in random(CODE_LETTERS)]
    return "-".join(["".join(letters[at : at + 4]) for at in range(0, CODE_LETTERS, 4)])


def spelled(code: str) -> str:
    """A code as it is hashed, however it was typed; raises Usage for what cannot be one."""
    plain = code.strip().upper().translate(_ALIKE)
    if len(plain) != CODE_LETTERS or not set(plain) <= set(LETTERS):
        raise Usage(f"a pairing code has {CODE_LETTERS} letters and digits, as the first device showed it")
    return plain


def seal(
    offer: Offer, code: str, expires: Millis, cost: Cost = USUAL, random: Callable[[int], bytes] = os.urandom
) -> tuple[bytes, str]:
    """The name and the text of an offer; costs what a guess does, 128 MiB and ~0.3 s."""
    blank = SealedOffer(random(16), expires, *cost, random(16), random(24), b"")
    key = blank.key(spelled(code))
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(pack(offer), blank.associated(), blank.nonce, key)
    whole = SealedOffer(blank.offer, expires, *cost, blank.salt, blank.nonce, sealed)
    return whole.offer, PREFIX + b32encode(pack(whole)).decode().rstrip("=")


def is_text(text: str) -> bool:
    """Whether this is meant to be an offer's text, and no file's name; in capitals as well, which makes a smaller QR code."""
    return text[: len(PREFIX)].lower() == PREFIX


def read(text: str) -> SealedOffer:
    """The offer in a text, still sealed; raises Usage for what is none."""
    letters = text.strip().lower().removeprefix(PREFIX).upper()
    try:
        data = b32decode(letters.encode("ascii") + b"=" * (-len(letters) % 8))
        if is_text(text) and len(text) <= _TEXT_CHARACTERS_MAX:
            return unpack(SealedOffer, data)
    except (ValueError, Malformed):
        pass
    raise Usage("this is no offer to pair a device, or it was damaged: make one with `lucid-node pair offer`")


def unseal(sealed: SealedOffer, code: str, now: Millis) -> Offer:
    """What is offered; raises Refuted for a wrong code and for an offer that has expired, Usage for a damaged one."""
    if now >= sealed.expires:
        raise Refuted(
            "the offer has expired, or this machine's clock is wrong: make another with `lucid-node pair offer`; "
            "nothing was changed"
        )
    key = sealed.key(spelled(code))
    try:
        plain = crypto_aead_xchacha20poly1305_ietf_decrypt(sealed.sealed, sealed.associated(), sealed.nonce, key)
    except CryptoError:
        raise Refuted("the code is wrong, or the offer was changed on the way; nothing was changed here") from None
    try:
        offer = unpack(Offer, plain)
    except Malformed as error:
        raise Usage(f"the offer is of a newer lucid-node ({error}): update this program") from error
    if not offer.masters:
        raise Usage("the offer holds no keys: make another with `lucid-node pair offer`")
    return offer
