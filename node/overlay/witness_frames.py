"""The frames of `Channel.WITNESS`: a tag and a record; what a witness asks of a node, and what it answers.

    ClaimAsked → Claim          what the node answers for in an HOUR: its replicas' roots and sizes
    SampleAsked → WitnessSample        for some of them who promised what, and segments that show that the bytes are there
    NextAsked → Next            the root of what it will answer for in the next HOUR
    Stated → Taken              the witness's statement of the HOUR

Source: CONSENSUS §4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Final

from consensus.beacon import DEPOSIT_BYTES_MAX, RECEIPT_BYTES_MAX
from consensus.encoding import Malformed
from consensus.ids import Digest, Network
from consensus.merkle import SEGMENT
from consensus.params import WITNESSES
from consensus.records import Between, Most, Size, pack, unpack
from consensus.signing import digest

ENTRIES_MAX: Final = 8_192
"""Replicas of a claim: some 100 GB."""

SAMPLES: Final = 16
"""Replicas that a witness looks into: with four, who claims 5 % more than it has would gain 4 %, with 16 less than 1 %."""

SEGMENTS: Final = 2
"""Of each: with nine witnesses 288 in an HOUR."""

FRAME_BYTES_MAX: Final = (1 << 20) - 1


@dataclass(frozen=True, slots=True)
class ClaimAsked:
    """What do you answer for in this HOUR?"""

    VERSION: ClassVar = 1
    hour: int


@dataclass(frozen=True, slots=True)
class Claim:
    """The replicas by their roots, ascending, and the size of each.

    Not by their receipts: of those a holder can sign any number for one replica.
    """

    VERSION: ClassVar = 1
    names: Annotated[bytes, Most(32 * ENTRIES_MAX)]
    sizes: Annotated[tuple[int, ...], Most(ENTRIES_MAX)]

    @property
    def entries(self) -> list[Digest]:
        """The roots."""
        return [Digest(self.names[at : at + 32]) for at in range(0, len(self.names), 32)]


@dataclass(frozen=True, slots=True)
class SampleAsked:
    """Show these, ascending."""

    VERSION: ClassVar = 1
    hour: int
    names: Annotated[tuple[Annotated[Digest, Size(32)], ...], Most(SAMPLES)]


@dataclass(frozen=True, slots=True)
class ShownSegment:
    """A segment, with the siblings that lead to the root."""

    VERSION: ClassVar = 1
    number: int
    data: Annotated[bytes, Most(SEGMENT)]
    proof: Annotated[tuple[Annotated[bytes, Size(32)], ...], Most(16)]


@dataclass(frozen=True, slots=True)
class ShownReplica:
    """One replica: the receipt, the owner's deposit, and segments."""

    VERSION: ClassVar = 1
    receipt: Annotated[bytes, Most(RECEIPT_BYTES_MAX)]
    signature: Annotated[bytes, Size(64)]
    deposit: Annotated[bytes, Most(DEPOSIT_BYTES_MAX)]
    deposit_signature: Annotated[bytes, Size(64)]
    segments: Annotated[tuple[ShownSegment, ...], Most(SEGMENTS)]


@dataclass(frozen=True, slots=True)
class WitnessSample:
    """The replicas that were asked for, in that order."""

    VERSION: ClassVar = 1
    shown: Annotated[tuple[ShownReplica, ...], Most(SAMPLES)]


@dataclass(frozen=True, slots=True)
class NextAsked:
    """What will you answer for in the HOUR after this?"""

    VERSION: ClassVar = 1
    hour: int


@dataclass(frozen=True, slots=True)
class Next:
    """Its root."""

    VERSION: ClassVar = 1
    root: Annotated[Digest, Size(32)]


@dataclass(frozen=True, slots=True)
class Stated:
    """A witness's statement of the node's HOUR, and its place among the witnesses."""

    VERSION: ClassVar = 1
    hour: int
    place: Annotated[int, Between(0, WITNESSES - 1)]
    statement: Annotated[bytes, Size(72)]


@dataclass(frozen=True, slots=True)
class Taken:
    """The statement was right, and is kept."""

    VERSION: ClassVar = 1


KINDS: Final = (ClaimAsked, Claim, SampleAsked, WitnessSample, NextAsked, Next, Stated, Taken)


def write_witness(record: Any) -> bytes:
    """The frame of a record."""
    return bytes((KINDS.index(type(record)),)) + pack(record)


def read_witness(frame: bytes) -> Any:
    """The record of a frame; raises Malformed for every other byte string, and for a claim or a question that is none."""
    if len(frame) > FRAME_BYTES_MAX:
        raise Malformed(f"a frame of witnesses has at most {FRAME_BYTES_MAX} bytes")
    if not frame or frame[0] >= len(KINDS):
        raise Malformed("not a frame of witnesses")
    record: Any = unpack(KINDS[frame[0]], frame[1:])
    if isinstance(record, Claim) and not (len(record.names) == 32 * len(record.sizes) and _ascend(record.entries)):
        raise Malformed("a claim whose replicas are not ascending, one size each")
    if isinstance(record, SampleAsked) and not _ascend(record.names):
        raise Malformed("a question whose replicas are not ascending")
    return record


def _ascend(names: Sequence[Digest]) -> bool:
    return all(one < other for one, other in pairwise(names))


def claim_root(claim: Claim, network: Network) -> Digest:
    """What a report calls a claim: the digest of its packing."""
    return digest("claim", network, pack(claim))
