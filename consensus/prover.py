"""Makes the proofs that `proof` checks: certificates of votes, hand-overs, and the way from a block to a final checkpoint.

    blocks of one branch, each with the state after it ── `prove` ──→ ChainProof         ── `hand_overs` ──→ HandOver …

Source: CONSENSUS §7, §9.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from consensus.block import Block, BlockHeader
from consensus.finality import Point, SignedVote, Vote, Voter, is_quorum
from consensus.ids import Digest, NodeId
from consensus.params import SMALL
from consensus.proof import (
    Certificate,
    ChainProof,
    Finality,
    HandOver,
    TrustPoint,
    mask_bytes,
    read_voters,
    spell_voters,
)
from consensus.state import State


def certify(votes: Iterable[SignedVote], voters: Sequence[Voter]) -> Certificate:
    """The certificate of votes on one link by some of those voters; raises ValueError for others.

    Of seven voters and more no votes are kept beyond two thirds of all and one, those that name the rarest heads left out.
    """
    ordered = sorted(voters)
    cast = {signed.vote.voter: signed for signed in votes}
    links = {_link(signed.vote) for signed in cast.values()}
    if len(links) != 1 or not cast.keys() <= {voter.node for voter in ordered}:
        raise ValueError("a certificate is of votes on one link by voters of one set")
    common = Counter(signed.vote.head for signed in cast.values())
    ranked = sorted(cast.values(), key=lambda one: (-common[one.vote.head], one.vote.head, one.vote.voter))
    kept = {one.vote.voter: one for one in ranked[: _wanted(len(ordered))]}
    places = [place for place, voter in enumerate(ordered) if voter.node in kept]
    signed_by = [kept[ordered[place].node] for place in places]
    heads = {head: at for at, head in enumerate(dict.fromkeys(one.vote.head for one in signed_by))}
    ((source, target, successors),) = links
    return Certificate(
        source_hour=source.hour,
        source=source.block,
        target_hour=target.hour,
        target=target.block,
        successors=successors,
        voted=sum(1 << place for place in places).to_bytes(mask_bytes(len(ordered)), "little"),
        heads=tuple(heads),
        head_of=tuple(heads[one.vote.head] for one in signed_by),
        signatures=b"".join(one.signature for one in signed_by),
    )


def _wanted(voters: int) -> int:
    return voters if voters < SMALL else 2 * voters // 3 + 1


def _link(vote: Vote) -> tuple[Point, Point, Digest]:
    return Point(vote.source_hour, vote.source), Point(vote.target_hour, vote.target), vote.successors


@dataclass
class _Gathered:
    """What a series of blocks says: who voted for what, and who might; headers from the wanted block on."""

    sets: dict[int, tuple[tuple[Voter, ...], tuple[Voter, ...]]] = field(default_factory=dict)
    """By HOUR: its voters, and their successors."""
    votes: dict[int, dict[tuple[Point, Point, Digest], dict[NodeId, SignedVote]]] = field(default_factory=dict)
    """By the HOUR of the target and by link."""
    headers: list[BlockHeader] = field(default_factory=list)
    names: list[Digest] = field(default_factory=list)
    least: int | None = None
    """The HOUR whose checkpoint is the first to have the block among its ancestors."""
    final: int = 0

    def add(self, block: Block, state: State, wanted: Digest | None) -> None:
        for at in state.recent[-2:]:
            self.sets[at.hour] = at.voters, at.successors
        for signed in block.body.votes:
            link = _link(signed.vote)
            self.votes.setdefault(link[1].hour, {}).setdefault(link, {})[signed.vote.voter] = signed
        if state.id == wanted:
            self.least = state.checkpoint.hour + 1
        if self.least is not None:
            self.headers.append(block.header)
            self.names.append(state.id)
        self.final = state.final.hour

    def certificate(self, hour: int, server: NodeId) -> Certificate | None:
        """That of the link which a quorum voted on, to the checkpoint of an HOUR: there is one at the most."""
        voters, _ = self.sets.get(hour, ((), ()))
        for votes in self.votes.get(hour, {}).values():
            if is_quorum(voters, server, votes, ()):
                return certify(votes.values(), voters)
        return None

    def finality(self, hour: int, server: NodeId) -> Finality | None:
        """What makes the checkpoint of an HOUR final, if one set of voters did."""
        first, second = self.certificate(hour, server), self.certificate(hour + 1, server)
        if first is None or second is None or second.origin != first.point:
            return None
        return Finality(first, second) if self.sets[hour][0] == self.sets[hour + 1][0] else None

    def until(self, final: Digest) -> tuple[BlockHeader, ...]:
        """The headers from the wanted block to a final one."""
        return tuple(self.headers[: self.names.index(final) + 1])


def prove(
    trust: TrustPoint, chain: Iterable[tuple[Block, State]], block: Digest, known: Sequence[HandOver] = ()
) -> ChainProof | None:
    """The proof of a block; None for one that is not there, or that no final checkpoint follows yet.

    chain is one branch from the trust point on, each block with the state after it; known are the hand-overs that are known
    from a proof before, from the same trust point; then the branch may begin with the checkpoint of the last of them.
    """
    found = _Gathered()
    for one, state in chain:
        found.add(one, state, block)
    if found.least is None:
        return None
    if found.least <= trust.hour:
        if trust.block not in found.names:
            return None
        return ChainProof(trust.hour, trust.block, (), found.until(trust.block), None)
    steps, finality = _walk(found, trust, known)
    if finality is None:
        return None
    return ChainProof(trust.hour, trust.block, steps, found.until(finality.point.block), finality)


def hand_overs(
    trust: TrustPoint, chain: Iterable[tuple[Block, State]], known: Sequence[HandOver] = ()
) -> tuple[HandOver, ...]:
    """The hand-overs that a branch brings beside those known; what is asked of chain and known is what `prove` asks."""
    found = _Gathered()
    for one, state in chain:
        found.add(one, state, None)
    return _walk(found, trust, known)[0][len(known) :]


def _walk(
    found: _Gathered, trust: TrustPoint, known: Sequence[HandOver]
) -> tuple[tuple[HandOver, ...], Finality | None]:
    """Each set of voters to the next, until one makes a checkpoint final that follows the wanted block; None where none does."""
    steps, voters, least = [*known], read_voters(trust.voters), trust.hour + 1
    if steps:
        voters, least = read_voters(steps[-1].successors), steps[-1].finality.finalises.target_hour + 1
    for hour in sorted(found.sets):
        at, successors = found.sets[hour]
        is_after = found.least is not None and hour >= found.least
        if not least <= hour <= found.final or at != voters or not (is_after or successors != voters):
            continue
        finality = found.finality(hour, trust.server)
        if finality is None:
            continue
        if is_after:
            return tuple(steps), finality
        voters, least = successors, hour + 2
        steps.append(HandOver(finality, spell_voters(voters)))
    return tuple(steps), None
