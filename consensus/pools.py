"""What waits to be put into a block: votes, reports, registrations, evidence, and headers of those that came too late.

Everything is bounded and keyed, so that a repetition costs nothing; what a branch has included or can include no more is
left out when a body is made, and forgotten when its time is over.
"""

from collections.abc import Iterator
from itertools import chain, islice
from typing import Final, NamedTuple, TypeVar

from consensus.admission import Registration, SignedPool, SignedRegistration
from consensus.block import (
    EVIDENCE_MAX,
    REGISTRATIONS_MAX,
    REPORTS_MAX,
    UNCLES_MAX,
    VOTES_MAX,
    BlockBody,
    DoubleProposal,
    SignedHeader,
    contradict_headers,
)
from consensus.checkpoint import Checkpoint, Included
from consensus.finality import DoubleVote, Point, SignedVote, contradict
from consensus.ids import NodeId
from consensus.inclusion import (
    Rules,
    check_double_proposal,
    check_double_vote,
    check_pool,
    check_registration,
    check_report,
    check_uncle,
    check_vote,
)
from consensus.params import HELD_SLOTS, UNCLE_SLOTS
from consensus.report import SignedReport
from consensus.state import State

VOTES_KEPT: Final = 4
"""HOURs for which votes are remembered, to find those that contradict each other."""

Key = TypeVar("Key")
Waiting = TypeVar("Waiting")


class Pools:
    """What a node has heard and no block has made superfluous."""

    def __init__(self) -> None:
        self.votes: dict[tuple[int, NodeId], SignedVote] = {}
        self.reports: dict[tuple[int, NodeId], SignedReport] = {}
        self.held: dict[tuple[int, NodeId], int] = {}
        """Since when each report was."""
        self.registrations: dict[tuple[int, NodeId], SignedRegistration] = {}
        self.pools: dict[tuple[int, bytes], SignedPool] = {}
        self.double_votes: dict[NodeId, DoubleVote] = {}
        self.double_proposals: dict[bytes, DoubleProposal] = {}
        self.headers: dict[tuple[int, int, bytes], SignedHeader] = {}
        self.transactions_wait = False
        """Whether any do for the execution layer, as its host says."""
        self._tidied: Checkpoint | None = None

    def add_vote(self, signed: SignedVote) -> bool:
        """Keep a vote whose signature was checked; whether it is new. One that contradicts another makes evidence."""
        vote = signed.vote
        for hour in range(max(0, vote.target_hour - VOTES_KEPT), vote.target_hour + VOTES_KEPT):
            other = self.votes.get((hour, vote.voter))
            if other is not None and contradict(other.vote, vote):
                self.double_votes.setdefault(vote.voter, DoubleVote(other, signed))
        return _keep(self.votes, (vote.target_hour, vote.voter), signed)

    def add_header(self, signed: SignedHeader) -> None:
        """Keep a valid header for the slots in which it may still be an uncle; two that contradict each other are evidence."""
        header = signed.header
        other = self.headers.setdefault((header.slot, header.rank, header.entity), signed)
        if contradict_headers(other.header, header):
            self.double_proposals.setdefault(header.entity, DoubleProposal(other, signed))

    def add_report(self, signed: SignedReport, slot: int) -> bool:
        """Keep a report that was checked, and in which slot that was; whether it is new."""
        key = signed.report.hour, signed.report.node
        self.held.setdefault(key, slot)
        return _keep(self.reports, key, signed)

    def leaves_out(self, rules: Rules, head: State) -> bool:
        """Whether the head leaves out a report that it could have included and that was held for long when it was made."""
        long_held = (one for key, one in self.reports.items() if self.held[key] < head.slot - HELD_SLOTS)
        return any(isinstance(check_report(rules, head, head.slot, one), Included) for one in long_held)

    def add_registration(self, signed: SignedRegistration) -> bool:
        """Keep a registration that was checked; whether it is new."""
        one = signed.registration
        return _keep(self.registrations, (one.era, one.node), signed)

    def add_pool(self, signed: SignedPool, name: bytes) -> bool:
        """Keep a pool's registration that was checked; whether it is new."""
        return _keep(self.pools, (signed.pool.era, name), signed)

    def body(self, rules: Rules, state: State, slot: int, payload: bytes) -> BlockBody:
        """What a block on top of a state at its slot can carry, the oldest first; each is checked against that branch."""
        able = self._able(rules, state, slot)
        double_votes = tuple(islice(able.double_votes, EVIDENCE_MAX))
        accused = {one.first.vote.voter for one in double_votes}
        proposers = (one for one in able.double_proposals if one.first.header.entity not in accused)
        uncles = (one for one in self.headers.values() if check_uncle(rules, state, one) is None)
        return BlockBody(
            votes=tuple(islice(able.votes, VOTES_MAX)),
            reports=tuple(islice(able.reports, REPORTS_MAX)),
            double_votes=double_votes,
            double_proposals=tuple(islice(proposers, EVIDENCE_MAX)),
            uncles=tuple(islice(uncles, UNCLES_MAX)),
            registrations=tuple(islice(able.registrations, REGISTRATIONS_MAX)),
            pools=tuple(islice(able.pools, REGISTRATIONS_MAX)),
            payload=payload,
        )

    def is_pending(self, rules: Rules, state: State, slot: int) -> bool:
        """Whether such a block would be busy; costs the checks up to the first record that fits."""
        return self.transactions_wait or any(True for _ in chain.from_iterable(self._able(rules, state, slot)))

    def _able(self, rules: Rules, state: State, slot: int) -> "_Able":
        """What fits, of each kind, checked as it is taken."""
        return _Able(
            (one for one in self.votes.values() if check_vote(rules, state, one) is None),
            (one for one in self.reports.values() if isinstance(check_report(rules, state, slot, one), Included)),
            (one for one in self.double_votes.values() if not isinstance(check_double_vote(rules, state, one), str)),
            (
                one
                for one in self.double_proposals.values()
                if not isinstance(check_double_proposal(rules, state, one), str)
            ),
            (one for one in self.registrations.values() if check_registration(rules, state, one) is None),
            (one for one in self.pools.values() if check_pool(rules, state, one) is None),
        )

    def forget(self, state: State, slot: int) -> None:
        """Drop what can be included no more, and what a final block holds; state is that of the best branch.

        A registration goes when its checkpoint is too old or of another branch, so that its node can make a new one.
        """
        self.headers = {key: one for key, one in self.headers.items() if key[0] >= slot - UNCLE_SLOTS}
        if state.checkpoint is self._tidied:
            return  # all the rest goes by that
        self._tidied = state.checkpoint
        hour, era = state.checkpoint.hour, state.checkpoint.registry.era
        oldest = state.recent[0].hour
        self.votes = {key: one for key, one in self.votes.items() if key[0] > hour - VOTES_KEPT}
        self.reports = {key: one for key, one in self.reports.items() if key[0] >= oldest}
        self.held = {key: at for key, at in self.held.items() if key in self.reports}
        self.registrations = {
            key: one for key, one in self.registrations.items() if key[0] > era and _is_fresh(state, one.registration)
        }
        self.pools = {key: one for key, one in self.pools.items() if key[0] > era}
        gone = state.checkpoint.expelled
        self.double_votes = {node: one for node, one in self.double_votes.items() if node not in gone}
        self.double_proposals = {node: one for node, one in self.double_proposals.items() if node not in gone}


def _keep(kept: dict[Key, Waiting], key: Key, one: Waiting) -> bool:
    """Keep the first under a key; whether this is it."""
    is_new = key not in kept
    kept.setdefault(key, one)
    return is_new


def _is_fresh(state: State, one: Registration) -> bool:
    return state.checkpoint.has(Point(one.checkpoint_hour, one.checkpoint))


class _Able(NamedTuple):
    """What makes a block busy."""

    votes: Iterator[SignedVote]
    reports: Iterator[SignedReport]
    double_votes: Iterator[DoubleVote]
    double_proposals: Iterator[DoubleProposal]
    registrations: Iterator[SignedRegistration]
    pools: Iterator[SignedPool]
