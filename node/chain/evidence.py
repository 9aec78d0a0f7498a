"""What a session's anchors show to somebody who follows no chain: made from what a node kept, checked offline.

    receipt ── nodes ──→ execution header ──→ consensus header ── headers ──→ final checkpoint ── certificates ──→ trust

One proof leads from the oldest anchor's block to a final checkpoint, and so through the blocks of all the others. Whoever
checks needs the network's genesis, or a checkpoint that they trust, and nothing else. Source: CONSENSUS §9; SPEC §3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, ClassVar, Final, NamedTuple

from consensus.block import BlockHeader, block_id
from consensus.encoding import Malformed
from consensus.ids import Digest
from consensus.proof import HEADER_ALONE, ChainProof, ChainVerdict, ProofWrong, TrustPoint, Verify, check
from consensus.records import Most, Size, unpack
from node.chain.genesis import ChainLaw
from node.chain.onsystem import Closed, Headed, Opened, said
from node.chain.receipts import HEADER_BYTES_MAX, RECEIPTS_ROOT, TIMESTAMP, header_fields, shown
from pipeline.manifest import Head, Manifest, Opening, Signed, identity

ANCHORS_MAX: Final = 4_096
NODES_MAX: Final = 16
NODE_BYTES_MAX: Final = 64 << 10
EVIDENCE_BYTES_MAX: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class Anchor:
    """A transaction of a session's in a block."""

    VERSION: ClassVar = 1
    block: Annotated[Digest, Size(32)]
    """Of the consensus."""
    header: Annotated[bytes, Most(HEADER_BYTES_MAX)]
    """Of the block's payload, in RLP."""
    at: int
    """The transaction's place in the payload."""
    nodes: Annotated[tuple[Annotated[bytes, Most(NODE_BYTES_MAX)], ...], Most(NODES_MAX)]
    """From the payload's receipts root to the transaction's receipt."""


@dataclass(frozen=True, slots=True)
class AnchorEvidence:
    """All anchors of a session, and the proof that its blocks are final."""

    VERSION: ClassVar = 1
    chain: ChainProof
    anchors: Annotated[tuple[Anchor, ...], Most(ANCHORS_MAX)]


class AnchoredAt(NamedTuple):
    """A block that has an anchor."""

    slot: int
    block: Digest
    time_s: int
    """When the slot began: no anchor says more of its time."""


class AnchorVerdict(NamedTuple):
    """What the anchors of a session show."""

    trust: str
    trust_hour: int
    opened: AnchoredAt
    heads: Mapping[int, AnchoredAt]
    """By their numbers: the first anchor of each."""
    closed: AnchoredAt | None
    stretch_s: int
    """The longest time between one anchor and the next."""
    proven: tuple[str, ...]
    not_proven: tuple[str, ...]


def read_evidence(data: bytes) -> AnchorEvidence:
    """The evidence that data spells; raises Malformed. Nothing in it is looked at."""
    if len(data) > EVIDENCE_BYTES_MAX:
        raise Malformed("evidence that is too long")
    return unpack(AnchorEvidence, data)


def begun_at(evidence: AnchorEvidence, trust: TrustPoint) -> AnchorEvidence:
    """The evidence from a later point of trust on than the genesis: without the hand-overs before that point.

    Raises ProofWrong where it leads to nothing later.
    """
    chain = evidence.chain
    if chain.finality is None or chain.finality.point.hour <= trust.hour:
        raise ProofWrong("what it shows to be final is older than the checkpoint: check it from the genesis on")
    later = [one for one in chain.hand_overs if one.finality.point.hour > trust.hour]
    from_there = replace(chain, trust_hour=trust.hour, trust_block=trust.block, hand_overs=tuple(later))
    return replace(evidence, chain=from_there)


def judge(
    evidence: AnchorEvidence,
    session: tuple[Opening, Sequence[Signed], Manifest | None],
    trust: TrustPoint,
    law: ChainLaw,
    verify: Verify,
) -> AnchorVerdict:
    """What anchors show of a session whose records hold together; raises Malformed, ProofWrong with what is wrong first.

    The session are its opening, heads and manifest. Costs the proof's signatures and a keccak of each node.
    """
    opening, heads, manifest = session
    verdict = check(evidence.chain, trust, verify)
    headers = {block_id(one, trust.network): one for one in evidence.chain.headers}
    opened: AnchoredAt | None = None
    closed: AnchoredAt | None = None
    headed: dict[int, AnchoredAt] = {}
    for anchor in evidence.anchors:
        where, told = _told(anchor, headers, law)
        for one in told:
            match one:
                case Opened() if one.session == opening.session:
                    _check_opened(one, opening)
                    opened = where
                case Headed() if one.session == opening.session:
                    _check_headed(one, heads, opening)
                    headed.setdefault(one.number, where)
                case Closed() if one.session == opening.session:
                    _check_closed(one, manifest, opening)
                    closed = where
                case _:
                    pass  # another session's, in the same transaction
    if opened is None:
        raise Malformed("the anchors do not open this session")
    return _verdict(verdict, trust, opened, dict(sorted(headed.items())), closed)


def _told(
    anchor: Anchor, headers: Mapping[Digest, BlockHeader], law: ChainLaw
) -> tuple[AnchoredAt, list[Opened | Headed | Closed]]:
    """Where an anchor is and what it says."""
    header = headers.get(anchor.block)
    if header is None:
        raise Malformed("an anchor in a block that the proof does not lead through")
    fields = header_fields(anchor.header, header.payload)
    time_s = int.from_bytes(fields[TIMESTAMP], "big")
    if time_s != law.time_of(header.slot):
        raise Malformed("an anchor in a payload of another time than its slot's")
    receipt = shown(fields[RECEIPTS_ROOT], anchor.at, anchor.nodes)
    told = [found for log in receipt.logs if receipt.ok and (found := said(log)) is not None]
    return AnchoredAt(header.slot, anchor.block, time_s), told


def _check_opened(one: Opened, opening: Opening) -> None:
    if (one.owner, one.uuid, one.ephemeral, one.policy) != (
        opening.owner,
        opening.uuid,
        opening.ephemeral,
        opening.policy,
    ):
        raise Malformed("the chain opened this session with another owner, key or policy")


def _check_headed(one: Headed, heads: Sequence[Signed], opening: Opening) -> None:
    if one.number >= len(heads) or identity(unpack(Head, heads[one.number].body), opening.network) != one.head:
        raise Malformed(f"the chain has another head {one.number} than the records")


def _check_closed(one: Closed, manifest: Manifest | None, opening: Opening) -> None:
    if manifest is None:
        raise Malformed("the chain closed this session, and its records do not")
    name = identity(manifest, opening.network)
    if (one.manifest, one.root, one.chunks, one.heads) != (name, manifest.root, manifest.chunk_count, manifest.heads):
        raise Malformed("the chain closed this session with another manifest")


def _verdict(
    chain: ChainVerdict,
    trust: TrustPoint,
    opened: AnchoredAt,
    headed: Mapping[int, AnchoredAt],
    closed: AnchoredAt | None,
) -> AnchorVerdict:
    times = sorted({opened.time_s, *(one.time_s for one in headed.values()), *([closed.time_s] if closed else ())})
    stretch = max((after - before for before, after in pairwise(times)), default=0)
    proven = [*chain.proven, f"that it was opened by its owner in slot {opened.slot}, and its key existed by then"]
    if headed:
        proven.append(f"that what {len(headed)} of its heads name was sealed by the slots that anchored them")
    unknown = [
        one for one in chain.not_proven if one != HEADER_ALONE
    ]  # what it carries for this session was looked at, too
    not_proven = [
        *unknown,
        "that the chain has no other heads of it: who exports leaves out what he likes",
        "anything before its opening was anchored",
        "a time more exact than a slot",
    ]
    if closed is None:
        not_proven.append("that it ended: its close is not anchored")
    else:
        proven.append(f"that it was closed with this manifest in slot {closed.slot}, and not changed since")
    return AnchorVerdict(chain.trust, trust.hour, opened, headed, closed, stretch, tuple(proven), tuple(not_proven))
