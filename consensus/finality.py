"""What makes a block final: one vote a voter and HOUR, a quorum that joins two checkpoints, and who broke the rules.

    checkpoint h = the last block before HOUR h        vote in HOUR h: source s ──→ target h, and the head that was seen

    s→t is valid      s is justified on t's branch
    t is justified    by a quorum of V(t) on one s→t
    s is final        s is justified, and s→t is justified with h(t) = h(s) + 1

Two final checkpoints that contradict each other need a third of the voters to have signed two things of which each is
proof against them (Buterin & Griffith, "Casper the Friendly Finality Gadget", 2017); below seven voters they need the
Server to have done so.

Source: CONSENSUS §7.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar, Final, NamedTuple

from blake3 import blake3

from consensus.encoding import Malformed
from consensus.ids import Digest, Network, NodeId
from consensus.params import ERA_LOT, SMALL, Params
from consensus.records import Size, pack, unpack
from consensus.signing import KeyPair, digest, domain

VOTE_BYTES_MAX: Final = 512
NEW_VOTERS_SHARE: Final = 8
"""At an ERA's beginning as many join, and as many leave, as an eighth of the voters, or one."""


class Point(NamedTuple):
    """A checkpoint: the last block before an HOUR."""

    hour: int
    block: Digest


@dataclass(frozen=True, slots=True)
class Vote:
    """One voter's word of an HOUR."""

    VERSION: ClassVar = 1
    voter: Annotated[NodeId, Size(32)]
    source_hour: int
    source: Annotated[Digest, Size(32)]
    target_hour: int
    target: Annotated[Digest, Size(32)]
    successors: Annotated[Digest, Size(32)]
    """The root of who votes next, as the target has it: so a quorum hands over to the voters of the next ERA."""
    head: Annotated[Digest, Size(32)]
    """The block that the voter builds on: it counts for the fork choice."""


@dataclass(frozen=True, slots=True)
class SignedVote:
    """A vote and its signature by the voter's era key."""

    VERSION: ClassVar = 1
    vote: Vote
    signature: Annotated[bytes, Size(64)]


@dataclass(frozen=True, slots=True)
class DoubleVote:
    """Proof that a voter broke a rule: two votes of its that contradict each other."""

    VERSION: ClassVar = 1
    first: SignedVote
    second: SignedVote


class Voter(NamedTuple):
    """One of an ERA's voters."""

    node: NodeId
    key: bytes
    """Its era key."""


def voters_root(voters: Sequence[Voter], network: Network) -> Digest:
    """What a vote calls a set of voters: the digest of their ids and era keys, in the order of their ids."""
    return digest("voters", network, b"".join(node + key for node, key in sorted(voters)))


class Candidate(NamedTuple):
    """What decides whether a registered node may vote."""

    node: NodeId
    key: bytes
    registered: int
    """HOURs for which it has been registered."""
    uptime: int
    """In thousandths, an HOUR without a report counting as none."""
    work: int
    """MB that counted, over the window."""


def sign_vote(vote: Vote, key: KeyPair, network: Network) -> SignedVote:
    """The vote with the signature of the voter's era key."""
    return SignedVote(vote, key.sign_as_is(vote_signable(vote, network)))


@lru_cache(maxsize=4_096)
def read_vote(data: bytes) -> SignedVote:
    """The vote that data spells, from an earlier HOUR to a later one; or Malformed. Its signature is not looked at."""
    if len(data) > VOTE_BYTES_MAX:
        raise Malformed("a vote that is too long")
    signed = unpack(SignedVote, data)
    if signed.vote.source_hour >= signed.vote.target_hour:
        raise Malformed("a vote from no earlier HOUR")
    return signed


@lru_cache(maxsize=4_096)
def vote_signable(vote: Vote, network: Network) -> bytes:
    """The bytes that a voter's era key signs."""
    return domain("vote", network) + pack(vote)


def vote_slot(params: Params, seed: Digest, hour: int, voter: NodeId) -> int:
    """The slot of an HOUR in which a voter votes; seed is that of the HOUR's start. Neither its first slot nor its last."""
    lot = int.from_bytes(blake3(seed + voter).digest(8), "big")
    return hour * params.hour_slots + 1 + lot % (params.hour_slots - 2)


def contradict(one: Vote, other: Vote) -> bool:
    """Whether an honest voter never signs both: two votes of one HOUR, or one that surrounds the other."""
    if one.voter != other.voter or one == other:
        return False
    if one.target_hour == other.target_hour:
        return True
    inner, outer = (one, other) if one.target_hour < other.target_hour else (other, one)
    return outer.source_hour < inner.source_hour


def is_quorum(voters: Sequence[Voter], server: NodeId, voted: Collection[NodeId], active: Collection[NodeId]) -> bool:
    """Whether the voters that voted are enough to justify what they voted for.

    Of fewer than seven: the Server and half of the others. Of more: over two thirds of the active, and over half of all.
    """
    agreed = {voter.node for voter in voters if voter.node in voted}
    count = len(agreed)
    if len(voters) < SMALL:
        return server in agreed and count - 1 >= (len(voters) - 1) // 2
    awake = sum(voter.node in active or voter.node in voted for voter in voters)
    return 3 * count > 2 * awake and 2 * count > len(voters)


def may_vote(candidates: Sequence[Candidate], founders: Collection[NodeId], params: Params) -> list[NodeId]:
    """Who of the registered nodes may vote in the next ERA, the longest registered first.

    The founders; then who has been registered long enough, was up 80 % of the time and did a fourth of the median's work.
    """
    works = sorted(one.work for one in candidates)
    least = works[(len(works) - 1) // 2] if works else 0
    able = [
        one
        for one in candidates
        if one.node in founders
        or (one.registered >= params.voter_hours and one.uptime >= 800 and 4 * one.work >= least)
    ]
    return [one.node for one in sorted(able, key=lambda one: (-one.registered, one.node))]


def next_electors(
    electors: Sequence[Voter], able: Sequence[NodeId], keys: Mapping[NodeId, bytes], expelled: Collection[bytes]
) -> tuple[Voter, ...]:
    """The electors of the next ERA: an eighth of them may join, and an eighth leave; the expelled leave at once.

    keys are the era keys of who registered for that ERA; who did not keeps its old one. Sorted by node.
    """
    most = max(1, len(electors) // NEW_VOTERS_SHARE)
    stay = [voter for voter in electors if voter.node not in expelled]
    wanted = {*able}
    leaving = {voter.node for voter in [one for one in stay if one.node not in wanted][:most]}
    there = {voter.node for voter in stay}
    joining = [node for node in able if node not in there and node not in expelled and node in keys][:most]
    kept = [Voter(voter.node, keys.get(voter.node, voter.key)) for voter in stay if voter.node not in leaving]
    return tuple(sorted([*kept, *(Voter(node, keys[node]) for node in joining)]))


def era_lot(electors: Sequence[Voter], network: Network, seed: Digest) -> tuple[Voter, ...]:
    """The voters of an ERA: all electors, or 512 of them by lot; sorted by node."""
    if len(electors) <= ERA_LOT:
        return tuple(sorted(electors))
    drawn = sorted(electors, key=lambda voter: digest("lot", network, seed + voter.node))
    return tuple(sorted(drawn[:ERA_LOT]))
