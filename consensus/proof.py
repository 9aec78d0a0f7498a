"""What shows somebody who follows no chain that a block is an ancestor of a final checkpoint, from one point of trust.

    trust: network, Server, a final checkpoint, its voters ── hand-over ── hand-over ──→ who votes now
                                           block ── header ── header ──→ c, final by the votes s→c and c→c+1

A `Certificate` is the votes of one set of voters on one link, each of which names `successors` too. So the two that make
a checkpoint final hand over to the voters whom both name: at the moment at which the chain itself does (`checkpoint`).

A verifier does not know who was active, nor who had been expelled, and so counts against all: of seven voters and more it
asks for over half of them, which every quorum of the chain is; of fewer for the Server and half of the others, and then
it is the Server that it trusts. The verdict tells how many there were. Where they are over two thirds of all, they are
over two thirds of the active, whoever those were; a prover leaves out the votes beyond that.

Why s need not be shown to be justified: an honest voter signs s→c only when s is justified and not older than what is final
on its branch, and two quorums of one set have a voter in common. Let one set's c and d be shown to be final and contradict
each other, h(c) ≤ h(d), d by s→d. A voter in common has broken a rule and its two votes prove it if h(d) ≤ h(c) + 1 (two
votes for one HOUR) or h(s) < h(c) (s→d surrounds c→c+1). Else s does not follow c either, and those who voted s→d answer for
the certificate of s, with which the argument starts over, an HOUR or more earlier. The same is asked within one proof: no
source is older than what has been shown to be final before, and none of its HOUR, or of the HOUR after, is another one.

Between two sets it takes more: an eighth of the voters may differ, so that only quorums of over two thirds must have a
voter in common. And voters whose time is over lose nothing by signing again: what protects from them is that era keys are
erased, and a trust point that is younger.

Source: CONSENSUS §7, §9.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar, Final, Literal, NamedTuple, TypeAlias

from consensus.block import BlockHeader, block_id
from consensus.checkpoint import Checkpoint, Constitution
from consensus.encoding import Malformed, Value, decode
from consensus.finality import Point, Vote, Voter, is_quorum, vote_signable, voters_root
from consensus.ids import Digest, Network, NodeId
from consensus.params import ERA_LOT, SMALL
from consensus.records import Between, Most, Size, unpack
from consensus.signing import digest

Verify: TypeAlias = Callable[[bytes, bytes, bytes], bool]
"""(public key, signature, bytes with their domain)."""

PROOF_BYTES_MAX: Final = 16 << 20
"""The hand-overs of 1,000 ERAs by a hundred voters, of 200 by 512; who needs more begins at a younger point of trust."""
HAND_OVERS_MAX: Final = 1_024
"""One an ERA: twenty years of mainnet."""
HEADERS_MAX: Final = 4_096
"""From a block to the next final checkpoint: five days of mainnet without finality."""
VOTER_BYTES: Final = 64
SIGNATURE_BYTES: Final = 64

HEADER_ALONE: Final = "what the block carries: its header alone was looked at"
FROM_GENESIS: Final = "a history in which the genesis Server and its successors were honest contains this anchor"
"""CONSENSUS §9."""


class ProofWrong(Exception):
    """A proof does not show what it claims to; the sentence names the first thing that is wrong."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The votes of some voters on one link; those voters are known to who reads it, in the order of their ids."""

    VERSION: ClassVar = 1
    source_hour: int
    source: Annotated[Digest, Size(32)]
    target_hour: int
    target: Annotated[Digest, Size(32)]
    successors: Annotated[Digest, Size(32)]
    voted: Annotated[bytes, Most(ERA_LOT // 8)]
    """Bit i % 8 of byte i // 8: whether the voter at place i did. A bit for each, the last byte filled up with zeros."""
    heads: Annotated[tuple[Annotated[Digest, Size(32)], ...], Most(ERA_LOT)]
    """The heads that they named, each once, in the order in which they are first named."""
    head_of: Annotated[tuple[Annotated[int, Between(0, ERA_LOT - 1)], ...], Most(ERA_LOT)]
    """For each who voted: its head's place among heads."""
    signatures: Annotated[bytes, Most(ERA_LOT * SIGNATURE_BYTES)]
    """Of each who voted, 64 bytes after 64 bytes."""

    @property
    def origin(self) -> Point:
        """The source."""
        return Point(self.source_hour, self.source)

    @property
    def point(self) -> Point:
        """The target."""
        return Point(self.target_hour, self.target)


@dataclass(frozen=True, slots=True)
class Finality:
    """What makes a checkpoint c final: votes s→c, and votes c→c+1 by the same set of voters."""

    VERSION: ClassVar = 1
    justifies: Certificate
    finalises: Certificate

    @property
    def point(self) -> Point:
        """The checkpoint."""
        return self.justifies.point


@dataclass(frozen=True, slots=True)
class HandOver:
    """Finality by one set of voters, who name the next one, and who that is."""

    VERSION: ClassVar = 1
    finality: Finality
    successors: Annotated[bytes, Most(ERA_LOT * VOTER_BYTES)]
    """Node and era key of each, in the order of their ids: 64 bytes after 64 bytes."""


@dataclass(frozen=True, slots=True)
class TrustPoint:
    """Where a verifier begins: a checkpoint that is final, not just below a final one, and that no hand-over was under way at.

    The genesis is one, with the founders; a release carries a later one, and is itself signed.
    """

    VERSION: ClassVar = 1
    network: Annotated[Network, Size(32)]
    server: Annotated[NodeId, Size(32)]
    hour: int
    block: Annotated[Digest, Size(32)]
    voters: Annotated[bytes, Most(ERA_LOT * VOTER_BYTES)]

    @property
    def point(self) -> Point:
        """Its checkpoint."""
        return Point(self.hour, self.block)


@dataclass(frozen=True, slots=True)
class ChainProof:
    """That the first header's block is an ancestor of a final checkpoint, the block of the last header."""

    VERSION: ClassVar = 1
    trust_hour: int
    trust_block: Annotated[Digest, Size(32)]
    hand_overs: Annotated[tuple[HandOver, ...], Most(HAND_OVERS_MAX)]
    headers: Annotated[tuple[BlockHeader, ...], Most(HEADERS_MAX)]
    finality: Finality | None
    """None where the headers lead to the trust point itself."""


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """What a proof shows and what it does not, in sentences."""

    trust: Literal["genesis", "checkpoint", "server"]
    """On whose word it rests; the Server's wherever a set of fewer than seven voted."""
    trust_point: Point
    proven: tuple[str, ...]
    not_proven: tuple[str, ...]
    final: Point
    block: Digest
    header: BlockHeader


class _Count(NamedTuple):
    votes: int
    of: int


class _Shown(NamedTuple):
    """What has been shown so far: who votes, and the last final checkpoint, with the one after it once that is justified."""

    voters: tuple[Voter, ...]
    points: tuple[Point, ...]


# ------------------------------------------------------------------ points of trust


def spell_voters(voters: Iterable[Voter]) -> bytes:
    """A set of voters as records hold it: node ‖ era key of each, in the order of their ids."""
    return b"".join(node + key for node, key in sorted(voters))


def genesis_trust(law: Constitution) -> TrustPoint:
    """The trust in a genesis alone: the founders vote with their identities' keys."""
    return TrustPoint(
        law.network, law.server, 0, Digest(law.network), spell_voters(Voter(one, one) for one in law.founders)
    )


def checkpoint_trust(law: Constitution, at: Checkpoint) -> TrustPoint | None:
    """The trust in a checkpoint, which the caller knows to be final; None while its voters have yet to hand over."""
    if at.voters != at.successors:
        return None
    return TrustPoint(law.network, law.server, at.hour, at.block, spell_voters(at.voters))


# ------------------------------------------------------------------ to check


def read_proof(data: bytes) -> ChainProof:
    """The proof that data spells; or Malformed. Nothing in it is looked at."""
    if len(data) > PROOF_BYTES_MAX:
        raise Malformed("a proof that is too long")
    return unpack(ChainProof, data)


def check(proof: ChainProof, trust: TrustPoint, verify: Verify) -> ChainVerdict:
    """What a proof shows to somebody who trusts that point; raises ProofWrong with the first thing that is wrong.

    Whether the block is the one that was asked about the caller compares. Costs a signature check for each vote that is
    good, and one more: 2 × 512 an ERA at the most.
    """
    if (proof.trust_hour, proof.trust_block) != trust.point:
        raise ProofWrong("the proof begins at another point than the one that is trusted")
    if proof.finality is None and proof.hand_overs:
        raise ProofWrong("the hand-overs lead to no final checkpoint")
    final = trust.point if proof.finality is None else proof.finality.point
    block = _check_headers(proof.headers, final, trust.network)
    shown = _Shown(read_voters(trust.voters), (trust.point,))
    counts: list[_Count] = []
    for number, one in enumerate(proof.hand_overs, 1):
        where = f"hand-over {number}"
        successors = _check_successors(one, shown, trust, where)
        counts += _check_finality(one.finality, shown, trust, verify, where)
        shown = _Shown(successors, (one.finality.point, one.finality.finalises.point))
    if proof.finality is not None:
        counts += _check_finality(proof.finality, shown, trust, verify, "the final checkpoint")
    return _verdict(proof, trust, counts, final, block)


def mask_bytes(voters: int) -> int:
    """The length of a certificate's `voted`."""
    return -(-voters // 8)


def read_voters(data: bytes) -> tuple[Voter, ...]:
    """The set of voters that data spells; raises ProofWrong for none, and for one in another order."""
    size, rest = divmod(len(data), VOTER_BYTES)
    pairs = [data[at * VOTER_BYTES :][:VOTER_BYTES] for at in range(size)]
    voters = tuple(Voter(NodeId(pair[:32]), pair[32:]) for pair in pairs)
    if rest or not voters or any(one.node >= other.node for one, other in pairwise(voters)):
        raise ProofWrong("a list of voters is not one of nodes and keys in their order")
    return voters


def _check_successors(one: HandOver, shown: _Shown, trust: TrustPoint, where: str) -> tuple[Voter, ...]:
    """Who is handed over to: whom both certificates name."""
    successors = read_voters(one.successors)
    root = voters_root(successors, trust.network)
    if {one.finality.justifies.successors, one.finality.finalises.successors} != {root}:
        raise ProofWrong(f"{where}: the votes name other successors than it lists")
    if successors == shown.voters:
        raise ProofWrong(f"{where}: it hands over to those who vote already")
    return successors


def _check_finality(
    finality: Finality, shown: _Shown, trust: TrustPoint, verify: Verify, where: str
) -> tuple[_Count, _Count]:
    """How many voted, twice; raises ProofWrong where it is not final or contradicts what is known."""
    first, second = finality.justifies, finality.finalises
    if second.origin != first.point:
        raise ProofWrong(f"{where}: the two certificates do not meet in one checkpoint")
    if second.target_hour != first.target_hour + 1:
        raise ProofWrong(f"{where}: the second certificate is not for the HOUR after the first")
    if first.source_hour >= first.target_hour:
        raise ProofWrong(f"{where}: votes from no earlier HOUR")
    if first.target_hour <= shown.points[-1].hour:
        raise ProofWrong(f"{where}: its HOUR is over at what is final before it")
    if first.source_hour < shown.points[0].hour:
        raise ProofWrong(f"{where}: its votes surround those for what is final before it")
    if any(first.source_hour == hour and first.source != block for hour, block in shown.points):
        raise ProofWrong(f"{where}: its votes come from another checkpoint than the one that is justified")
    return _check_votes(first, shown.voters, trust, verify, where), _check_votes(
        second, shown.voters, trust, verify, where
    )


def _check_votes(one: Certificate, voters: Sequence[Voter], trust: TrustPoint, verify: Verify, where: str) -> _Count:
    """How many of the voters voted: a quorum, each with its key; raises ProofWrong."""
    where = f"{where}, the votes for HOUR {one.target_hour}"
    mask = int.from_bytes(one.voted, "little")
    if len(one.voted) != mask_bytes(len(voters)) or mask >> len(voters):
        raise ProofWrong(f"{where}: they are of another number of voters")
    agreed = [voter for place, voter in enumerate(voters) if mask >> place & 1]
    if len(one.head_of) != len(agreed) or len(one.signatures) != SIGNATURE_BYTES * len(agreed):
        raise ProofWrong(f"{where}: there are not as many heads and signatures as votes")
    if [*dict.fromkeys(one.head_of)] != [*range(len(one.heads))] or len({*one.heads}) != len(one.heads):
        raise ProofWrong(f"{where}: the heads are not listed once each and in order")
    if not is_quorum(voters, trust.server, {voter.node for voter in agreed}, ()):
        raise ProofWrong(f"{where}: {len(agreed)} of {len(voters)} are no quorum")
    for at, voter in enumerate(agreed):
        head = one.heads[one.head_of[at]]
        vote = Vote(voter.node, one.source_hour, one.source, one.target_hour, one.target, one.successors, head)
        signature = one.signatures[at * SIGNATURE_BYTES :][:SIGNATURE_BYTES]
        if not verify(voter.key, signature, vote_signable(vote, trust.network)):
            raise ProofWrong(f"{where}: that of {voter.node.hex()[:8]} is not signed with its key")
    return _Count(len(agreed), len(voters))


def _check_headers(headers: Sequence[BlockHeader], final: Point, network: Network) -> Digest:
    """The name of the first header's block, which the others lead up from; raises ProofWrong."""
    names = [block_id(header, network) for header in headers]
    for parent, header in zip(names, headers[1:], strict=False):
        if header.parent != parent:
            raise ProofWrong(f"the header of slot {header.slot} has another parent than the one before it")
    if not names or names[-1] != final.block:
        raise ProofWrong("the headers do not lead to the final checkpoint")
    return names[0]


def _verdict(
    proof: ChainProof, trust: TrustPoint, counts: Sequence[_Count], final: Point, block: Digest
) -> ChainVerdict:
    header, is_genesis = proof.headers[0], trust.point == Point(0, Digest(trust.network))
    if is_genesis:
        proven = [FROM_GENESIS]
    elif not counts:
        proven = [f"the history of the checkpoint of HOUR {trust.hour} that is trusted contains this anchor"]
    else:
        voters = f"the voters of the checkpoint of HOUR {trust.hour} and their successors"
        proven = [f"a history in which {voters} were honest contains this anchor"]
    not_proven = [HEADER_ALONE]
    if counts:
        (first, of), (second, _) = counts[-2:]
        proven += [
            f"hand-overs from the voters of the trust point to those who voted: {len(proof.hand_overs)}",
            f"the checkpoint of HOUR {final.hour} is final: {first} and {second} of {of} voters agreed",
        ]
        not_proven.append("that era keys were erased: who holds those of a past quorum can make another history")
    proven.append(f"headers from the block of slot {header.slot} to that checkpoint: {len(proof.headers)}")
    large = [one for one in counts if one.of >= SMALL]
    if large:
        votes, of = min(large, key=lambda one: one.votes * ERA_LOT * ERA_LOT // one.of)
        not_proven.append(f"who of the voters was active, or expelled: at the least {votes} of all {of} agreed")
        if all(3 * one.votes > 2 * one.of for one in counts):
            proven.append("over two thirds of all voters agreed each time, and so of the active, whoever they were")
    is_small = len(large) < len(counts)
    if is_small:
        not_proven.append("that the Server signed no second history: among fewer than seven voters its vote decides")
    kind: Literal["genesis", "checkpoint", "server"] = "genesis" if is_genesis else "checkpoint"
    return ChainVerdict(
        trust="server" if is_small else kind,
        trust_point=trust.point,
        proven=tuple(proven),
        not_proven=tuple(not_proven),
        final=final,
        block=block,
        header=header,
    )


def part_of(state: Digest, network: Network, parts: Sequence[Digest], place: int, part: bytes) -> Value:
    """A part of a header's state, such as the registry, from the digests of all and the bytes of one; or ProofWrong.

    The order of the parts is that of `checkpoint.part_digests`; bytes that have the digest and are no value are Malformed.
    """
    if any(len(one) != 32 for one in parts) or digest("state", network, b"".join(parts)) != state:
        raise ProofWrong("the parts are those of another state")
    if not 0 <= place < len(parts) or digest("part", network, part) != parts[place]:
        raise ProofWrong(f"the bytes are not those of part {place}")
    return decode(part)
