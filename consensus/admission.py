"""How a node comes to be registered for an ERA: a proof of work that cannot be stockpiled, and the keys of that ERA.

    Argon2id(64 MiB, password = chain ‖ node ‖ checkpoint, salt = nonce) · difficulty < 2²⁵⁶

The checkpoint is at most 24 HOURs old and the ERA the next one, so that nobody works ahead. Whoever wants as many identities
as there are nodes pays as much as all of them, ERA after ERA. Era keys are erased when their ERA is over: who steals a
machine later cannot rewrite what it once signed.

Source: CONSENSUS §3; RFC 9106.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar, Final

from blake3 import blake3
from nacl.bindings import crypto_pwhash_alg, crypto_pwhash_ALG_ARGON2ID13

from consensus.encoding import Malformed
from consensus.ids import Address, Digest, Network, NodeId
from consensus.records import Between, Most, Size, pack, unpack
from consensus.signing import digest, domain

REGISTRATION_BYTES_MAX: Final = 640
POOL_BYTES_MAX: Final = 4_096
POOL_KEYS_MAX: Final = 16
POOL_MEMBERS_MAX: Final = 64
MEMORY_BYTES: Final = 64 << 20
PASSES: Final = 1
FRESH_HOURS: Final = 24
DIFFICULTY_MAX: Final = 1 << 40
RETARGET: Final = 4
"""The difficulty changes by this factor at most, at an ERA's beginning."""


@dataclass(frozen=True, slots=True)
class SignatureList:
    """Signatures by some of several keys: bit i of the mask stands for key i."""

    VERSION: ClassVar = 1
    mask: Annotated[int, Between(0, (1 << POOL_KEYS_MAX) - 1)]
    signatures: Annotated[tuple[Annotated[bytes, Size(64)], ...], Most(POOL_KEYS_MAX)]


@dataclass(frozen=True, slots=True)
class Registration:
    """A node's entry into the registry of an ERA."""

    VERSION: ClassVar = 1
    node: Annotated[NodeId, Size(32)]
    era: int
    checkpoint_hour: int
    checkpoint: Annotated[Digest, Size(32)]
    nonce: Annotated[bytes, Size(16)]
    era_key: Annotated[bytes, Size(32)]
    """Signs votes, blocks, statements and reports of that ERA."""
    vrf_key: Annotated[bytes, Size(32)]
    address: Annotated[Address, Size(20)]
    """Who is paid for the blocks that it publishes."""
    pool: Annotated[bytes | None, Size(32)]
    """For whom it works, if not for itself."""
    capacity: Annotated[int, Between(0, (1 << 63) - 1)]
    """Bytes that it offers for replicas."""


@dataclass(frozen=True, slots=True)
class SignedRegistration:
    """A registration and its signature by the node's identity."""

    VERSION: ClassVar = 1
    registration: Registration
    signature: Annotated[bytes, Size(64)]


@dataclass(frozen=True, slots=True)
class PoolRegistration:
    """A pool's entry into the registry of an ERA: its members' work counts as one entity's (§10)."""

    VERSION: ClassVar = 1
    era: int
    keys: Annotated[tuple[Annotated[bytes, Size(32)], ...], Most(POOL_KEYS_MAX)]
    threshold: Annotated[int, Between(1, POOL_KEYS_MAX)]
    """So many of the keys have to sign."""
    vrf_key: Annotated[bytes, Size(32)]
    address: Annotated[Address, Size(20)]
    members: Annotated[tuple[Annotated[NodeId, Size(32)], ...], Most(POOL_MEMBERS_MAX)]
    """Who may work for it; each has to name it, too."""


@dataclass(frozen=True, slots=True)
class SignedPool:
    """A pool's registration, signed by as many of its keys as it takes."""

    VERSION: ClassVar = 1
    pool: PoolRegistration
    signatures: SignatureList


@lru_cache(maxsize=1_024)
def registration_signable(registration: Registration, network: Network) -> bytes:
    """The bytes that the node's identity signs."""
    return domain("registration", network) + pack(registration)


@lru_cache(maxsize=1_024)
def read_registration(data: bytes) -> SignedRegistration:
    """The registration that data spells; or Malformed. Neither its signature nor its work is looked at."""
    if len(data) > REGISTRATION_BYTES_MAX:
        raise Malformed("a registration that is too long")
    return unpack(SignedRegistration, data)


def pool_id(pool: PoolRegistration, network: Network) -> bytes:
    """A pool's name: the digest of its keys and its threshold, the same in every ERA."""
    return digest("pool", network, bytes((pool.threshold,)) + b"".join(pool.keys))


def pool_signable(pool: PoolRegistration, network: Network) -> bytes:
    """The bytes that a pool's keys sign."""
    return domain("pool registration", network) + pack(pool)


def are_signed(
    signed: SignatureList,
    keys: Sequence[bytes],
    threshold: int,
    message: bytes,
    verify: Callable[[bytes, bytes, bytes], bool],
) -> bool:
    """Whether at least so many of the keys signed a message, every signature that is there being good."""
    signers = [key for place, key in enumerate(keys) if signed.mask >> place & 1]
    if len(signers) != len(signed.signatures) or signed.mask >> len(keys) or len(signers) < threshold:
        return False
    return all(verify(key, one, message) for key, one in zip(signers, signed.signatures, strict=True))


@lru_cache(maxsize=256)
def read_pool(data: bytes) -> SignedPool:
    """The pool's registration that data spells, with keys for its threshold, each key and member once; or Malformed."""
    if len(data) > POOL_BYTES_MAX:
        raise Malformed("a pool that is too long")
    signed = unpack(SignedPool, data)
    check_pool_shape(signed.pool)
    return signed


def check_pool_shape(pool: PoolRegistration) -> None:
    """Raises Malformed for a pool that lists a key or a member twice, or has fewer keys than its threshold."""
    if len({*pool.keys}) != len(pool.keys) or len({*pool.members}) != len(pool.members):
        raise Malformed("a pool with a key or a member twice")
    if pool.threshold > len(pool.keys):
        raise Malformed("a pool with fewer keys than its threshold")


def work_of(network: Network, node: NodeId, checkpoint: Digest, nonce: bytes) -> int:
    """What a nonce of 16 bytes comes to: below 2²⁵⁶ ÷ difficulty it is a proof. Costs 64 MiB and some 60 ms."""
    password = blake3(domain("admission", network) + node + checkpoint).digest()
    made = crypto_pwhash_alg(32, password, nonce, PASSES, MEMORY_BYTES, crypto_pwhash_ALG_ARGON2ID13)
    return int.from_bytes(made, "big")


def is_proof(network: Network, node: NodeId, checkpoint: Digest, nonce: bytes, difficulty: int) -> bool:
    """Whether the nonce proves work of that difficulty, in hashes on average; of 1 and less anything does, unhashed."""
    return difficulty <= 1 or is_enough(work_of(network, node, checkpoint, nonce), difficulty)


def is_enough(work: int, difficulty: int) -> bool:
    """Whether what a nonce came to is a proof of that difficulty."""
    return work * difficulty < 1 << 256


def retarget(difficulty: int, admitted: int, wanted: int, least: int) -> int:
    """The difficulty of the next ERA when so many newcomers were admitted in this one and so many are wanted."""
    aimed = difficulty * admitted // max(1, wanted)
    bounded = min(max(aimed, difficulty // RETARGET), difficulty * RETARGET)
    return min(max(bounded, least), DIFFICULTY_MAX)
