"""The passphrase vault: the secrets of one home in one file.

    vault = CBOR {kdf, ops, memory, salt, nonce, sealed}
    key   = argon2id(passphrase, salt, ops, memory)      sealed = XChaCha20-Poly1305(key, nonce, Secrets, ad = all the rest)

Everything a node must never lose is derived from what is inside: its identity, its account, and through the master keys
the secret of every session it ever recorded. So an exported vault and the sealed chunks are enough to play them.
"""

import os
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, derive_private_key
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_pwhash_alg,
    crypto_pwhash_ALG_ARGON2ID13,
)
from nacl.exceptions import CryptoError

from consensus.encoding import Malformed, decode, encode
from consensus.ids import Address, SessionId, keccak256
from consensus.records import Between, Most, Size, from_value, pack, unpack
from consensus.signing import KeyPair
from node.exits import Unavailable, Usage
from pipeline.seal import expand, extract

OPS: Final = 3
MEMORY_BYTES: Final = 128 << 20
PLAINTEXT: Final = "none"
ARGON2ID: Final = "argon2id"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a vault holds."""

    VERSION: ClassVar = 2
    identity_seed: Annotated[bytes, Size(32)] = field(repr=False)
    account_key: Annotated[bytes, Size(32)] = field(repr=False)
    masters: Annotated[tuple[Annotated[bytes, Size(32)], ...], Most(1000)] = field(repr=False)
    """Master keys by generation; sessions keep the generation they were recorded under."""
    former: Annotated[tuple[Annotated[bytes, Size(32)], ...], Most(1000)] = field(default=(), repr=False)
    """Keys of accounts that were rotated away, the oldest first: what they opened on the chain they still close."""

    @classmethod
    def generate(cls) -> "Secrets":
        """New secrets from the system's randomness."""
        return cls(os.urandom(32), os.urandom(32), (os.urandom(32),))

    @property
    def identity(self) -> KeyPair:
        """The node's Ed25519 key pair."""
        return KeyPair.from_seed(self.identity_seed)

    @property
    def address(self) -> Address:
        """The account's address: the last 20 bytes of keccak256(x ‖ y) of its secp256k1 key."""
        return account_address(self.account_key)

    def session_secret(self, generation: int, session: SessionId) -> bytes:
        """The 32-byte secret of a session; raises Unavailable where the vault lacks that generation."""
        if generation >= len(self.masters):
            raise Unavailable(f"the vault has no master key of generation {generation}: import a newer export of it")
        return expand(extract(session, self.masters[generation]), b"lucid/session/v1", 32)


def account_address(key: bytes) -> Address:
    """The address of an account's key."""
    numbers = derive_private_key(int.from_bytes(key, "big"), SECP256K1()).public_key().public_numbers()
    return Address(keccak256(numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big"))[12:])


@dataclass(frozen=True, slots=True)
class _Unrotated:
    """Secrets of version 1, in which a vault is kept as long as no account was rotated: earlier releases open it."""

    VERSION: ClassVar = 1
    identity_seed: Annotated[bytes, Size(32)] = field(repr=False)
    account_key: Annotated[bytes, Size(32)] = field(repr=False)
    masters: Annotated[tuple[Annotated[bytes, Size(32)], ...], Most(1000)] = field(repr=False)


def spelled(secrets: Secrets) -> bytes:
    """The bytes of secrets, as a vault seals them."""
    if secrets.former:
        return pack(secrets)
    return pack(_Unrotated(secrets.identity_seed, secrets.account_key, secrets.masters))


def _read(plain: bytes) -> Secrets:
    value = decode(plain)
    if isinstance(value, dict) and value.get("v") == 1:
        old = from_value(_Unrotated, value)
        return Secrets(old.identity_seed, old.account_key, old.masters)
    return from_value(Secrets, value)


@dataclass(frozen=True, slots=True)
class _Vault:
    """The file."""

    VERSION: ClassVar = 1
    kdf: Annotated[str, Most(16)]
    ops: Annotated[int, Between(0, 64)]
    memory: Annotated[int, Between(0, 4 << 30)]
    salt: Annotated[bytes, Most(16)]
    nonce: Annotated[bytes, Most(24)]
    sealed: Annotated[bytes, Most(65536)]

    def associated(self) -> bytes:
        return encode(["lucid/vault/v1", self.kdf, self.ops, self.memory, self.salt, self.nonce])


def _key(vault: _Vault, passphrase: bytes) -> bytes:
    return bytes(crypto_pwhash_alg(32, passphrase, vault.salt, vault.ops, vault.memory, crypto_pwhash_ALG_ARGON2ID13))


def close(secrets: Secrets, passphrase: bytes | None) -> bytes:
    """The vault file of these secrets; without a passphrase they stand in the clear. Costs 128 MiB and ~0.3 s."""
    plain = spelled(secrets)
    if passphrase is None:
        return pack(_Vault(PLAINTEXT, 0, 0, b"", b"", plain))
    vault = _Vault(ARGON2ID, OPS, MEMORY_BYTES, os.urandom(16), os.urandom(24), b"")
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(plain, vault.associated(), vault.nonce, _key(vault, passphrase))
    return pack(_Vault(vault.kdf, vault.ops, vault.memory, vault.salt, vault.nonce, sealed))


def needs_passphrase(data: bytes) -> bool:
    """Whether the vault is closed; raises Usage for bytes that are no vault."""
    return _parse(data).kdf != PLAINTEXT


def _parse(data: bytes) -> _Vault:
    try:
        vault = unpack(_Vault, data)
    except Malformed as error:
        raise Usage(f"this is not a key vault that this program reads ({error}); restore it from an export") from error
    known = {PLAINTEXT: (0, 0), ARGON2ID: (16, 24)}
    if vault.kdf not in known or known[vault.kdf] != (len(vault.salt), len(vault.nonce)):
        raise Usage("this key vault is damaged; restore it from an export")
    if vault.kdf == ARGON2ID and not (vault.ops >= 1 and vault.memory >= 8192):
        raise Usage("this key vault is damaged; restore it from an export")
    return vault


def open_vault(data: bytes, passphrase: bytes | None) -> Secrets:
    """The secrets in a vault file; raises Unavailable for a wrong or missing passphrase, Usage for a damaged file."""
    vault = _parse(data)
    plain = vault.sealed
    if vault.kdf == ARGON2ID:
        if passphrase is None:
            raise Unavailable("the key vault is closed: give its passphrase in a file with --passphrase-file")
        try:
            plain = crypto_aead_xchacha20poly1305_ietf_decrypt(
                vault.sealed, vault.associated(), vault.nonce, _key(vault, passphrase)
            )
        except CryptoError:
            raise Unavailable("the passphrase is wrong, or the key vault was changed; try again") from None
    try:
        return _read(plain)
    except Malformed as error:
        raise Usage(f"this key vault is damaged ({error}); restore it from an export") from error
