"""A block: the header that is signed and drawn for, and what it carries: votes, reports, evidence, an opaque payload.

    id = H("block" ‖ header)          header: slot, rank, parent, entity, VRF proof, digests of body, payload and state

`state` is the digest of everything that validity depends on as it was before the HOUR of the block, so that a newcomer can
begin there and a verifier can be shown a part of it. The payload belongs to the execution layer, which alone reads it.

Source: CONSENSUS §4 (inclusion), §6, §7 (evidence).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar, Final

from blake3 import blake3

from consensus.admission import SignatureList, SignedPool, SignedRegistration, check_pool_shape
from consensus.encoding import Malformed
from consensus.finality import DoubleVote, SignedVote
from consensus.ids import Digest, Network
from consensus.news import split
from consensus.params import SERVER_RANK
from consensus.payload import is_busy
from consensus.records import Between, Most, Size, pack, unpack
from consensus.report import SignedReport, check_shape
from consensus.signing import KeyPair, digest, domain

BLOCK_BYTES_MAX: Final = 900_000
"""It has to fit a gossip message of a million bytes."""

PAYLOAD_BYTES_MAX: Final = 400_000
"""15 M gas buy 375,000 bytes of calldata (EIP-7623)."""

VOTES_MAX: Final = 128
REPORTS_MAX: Final = 333
EVIDENCE_MAX: Final = 16
UNCLES_MAX: Final = 12
REGISTRATIONS_MAX: Final = 4
"""Each costs 60 ms and 64 MiB to check."""


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What a proposer signs."""

    VERSION: ClassVar = 1
    slot: int
    rank: Annotated[int, Between(0, SERVER_RANK)]
    parent: Annotated[Digest, Size(32)]
    entity: Annotated[bytes, Size(32)]
    """Whose turn it is: a node or a pool; the Server at the last rank."""
    proof: Annotated[bytes, Size(80)]
    """Of the VRF over the seed of the slot before and this slot: its output goes into the next seed."""
    body: Annotated[Digest, Size(32)]
    payload: Annotated[Digest, Size(32)]
    """What the execution layer calls the payload."""
    state: Annotated[Digest, Size(32)]


@dataclass(frozen=True, slots=True)
class SignedHeader:
    """A header and its signature by the proposer's era key, or those of a pool's keys."""

    VERSION: ClassVar = 1
    header: BlockHeader
    signatures: SignatureList


@dataclass(frozen=True, slots=True)
class DoubleProposal:
    """Proof that a proposer broke a rule: two of its headers for one slot and rank."""

    VERSION: ClassVar = 1
    first: SignedHeader
    second: SignedHeader


@dataclass(frozen=True, slots=True)
class BlockBody:
    """What a block carries."""

    VERSION: ClassVar = 1
    votes: Annotated[tuple[SignedVote, ...], Most(VOTES_MAX)] = ()
    reports: Annotated[tuple[SignedReport, ...], Most(REPORTS_MAX)] = ()
    double_votes: Annotated[tuple[DoubleVote, ...], Most(EVIDENCE_MAX)] = ()
    double_proposals: Annotated[tuple[DoubleProposal, ...], Most(EVIDENCE_MAX)] = ()
    uncles: Annotated[tuple[SignedHeader, ...], Most(UNCLES_MAX)] = ()
    registrations: Annotated[tuple[SignedRegistration, ...], Most(REGISTRATIONS_MAX)] = ()
    pools: Annotated[tuple[SignedPool, ...], Most(REGISTRATIONS_MAX)] = ()
    payload: Annotated[bytes, Most(PAYLOAD_BYTES_MAX)] = b""

    @property
    def is_busy(self) -> bool:
        """Whether there was something to publish, so that whoever was passed over should have."""
        evidence = self.double_votes or self.double_proposals
        return any((self.votes, self.reports, evidence, self.registrations, self.pools, is_busy(self.payload)))


@dataclass(frozen=True, slots=True)
class Block:
    """A signed header and its body."""

    VERSION: ClassVar = 1
    signed: SignedHeader
    body: BlockBody

    @property
    def header(self) -> BlockHeader:
        """What was signed."""
        return self.signed.header


def body_digest(body: BlockBody) -> Digest:
    """What a header says of its body: BLAKE3 of the packed body."""
    return Digest(blake3(pack(body)).digest())


@lru_cache(maxsize=4_096)
def block_id(header: BlockHeader, network: Network) -> Digest:
    """A block's name: the digest of its header, signature excluded."""
    return digest("block", network, pack(header))


@lru_cache(maxsize=4_096)
def header_signable(header: BlockHeader, network: Network) -> bytes:
    """The bytes that the proposer's era key signs."""
    return domain("header", network) + pack(header)


def sign_header(header: BlockHeader, key: KeyPair, network: Network) -> SignedHeader:
    """The header with its proposer's signature."""
    return SignedHeader(header, SignatureList(1, (key.sign_as_is(header_signable(header, network)),)))


def vrf_input(network: Network, seed: Digest, slot: int) -> bytes:
    """What the proposer of a slot proves its output for: domain ‖ seed of the slot before ‖ slot u64."""
    return domain("vrf", network) + seed + slot.to_bytes(8, "big")


def next_seed(network: Network, seed: Digest, output: bytes) -> Digest:
    """The seed after a published slot, from the one before and the VRF output."""
    return digest("seed", network, seed + output)


def skipped_seed(network: Network, seed: Digest, slot: int) -> Digest:
    """The seed after an empty slot."""
    return digest("skip", network, seed + slot.to_bytes(8, "big"))


def contradict_headers(one: BlockHeader, other: BlockHeader) -> bool:
    """Whether an honest proposer never signs both: one slot, rank and entity, and different content."""
    return (one.slot, one.rank, one.entity) == (other.slot, other.rank, other.entity) and one != other


@lru_cache(maxsize=32)
def read_block(data: bytes) -> Block:
    """The block that data spells, its body the one that its header names; or Malformed. No signature is looked at."""
    if len(data) > BLOCK_BYTES_MAX:
        raise Malformed("a block that is too long")
    block = unpack(Block, data)
    if body_digest(block.body) != block.header.body:
        raise Malformed("a block with another body than its header names")
    for report in block.body.reports:
        check_shape(report.report)
    for pool in block.body.pools:
        check_pool_shape(pool.pool)
    for signed in block.body.votes:
        if signed.vote.source_hour >= signed.vote.target_hour:
            raise Malformed("a block with a vote from no earlier HOUR")
    split(block.body.payload)
    return block
