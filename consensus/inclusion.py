"""What may be put into a block: for each kind of record the rules, and the first one that a record breaks.

A proposer asks before it includes, a node before it passes a record on, and everybody again when it is in a block. Each
check costs a bounded number of signature checks, whoever asks.

Source: CONSENSUS §3, §4, §6, §7.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from consensus import vrf
from consensus.admission import (
    Registration,
    SignedPool,
    SignedRegistration,
    are_signed,
    is_enough,
    pool_id,
    pool_signable,
    registration_signable,
    work_of,
)
from consensus.block import DoubleProposal, SignedHeader, contradict_headers, header_signable, vrf_input
from consensus.checkpoint import Constitution, Included
from consensus.finality import DoubleVote, Point, SignedVote, contradict, vote_signable, voters_root
from consensus.ids import Digest, NodeId
from consensus.params import SERVER_RANK, UNCLE_SLOTS
from consensus.reasons import Reason
from consensus.report import SignedReport, judge_report, report_signable, witnesses
from consensus.state import State, at_hour, proposer


class Invalid(Exception):
    """A block breaks a rule; the sentence says which."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The law of a network, and how signatures and proofs are checked; a simulation checks each once for all its nodes."""

    law: Constitution
    verify: Callable[[bytes, bytes, bytes], bool]
    """(public key, signature, bytes with their domain)."""
    verify_proof: Callable[[bytes, bytes, bytes], bytes | None] = vrf.verify
    """(VRF key, input, proof) to the output, or None."""
    shared: dict[Any, Any] | None = None
    """Where a simulation keeps what follows from a block for all its nodes; a node of its own keeps it for itself."""


def check_header(rules: Rules, state: State, signed: SignedHeader, drawn: tuple[bytes, ...], seed: Digest) -> bytes:
    """The VRF output of a header that was its entity's to make; raises Invalid."""
    header, law = signed.header, rules.law
    if header.rank < SERVER_RANK and (header.rank >= len(drawn) or drawn[header.rank] != header.entity):
        raise Invalid(f"rank {header.rank} of slot {header.slot} is another's")
    by = proposer(law, state, header)
    if by is None:
        raise Invalid("a block by nobody registered")
    if not are_signed(signed.signatures, by.keys, by.threshold, header_signable(header, law.network), rules.verify):
        raise Invalid("a block that its proposer has not signed")
    output = rules.verify_proof(by.vrf_key, vrf_input(law.network, seed, header.slot), header.proof)
    if output is None:
        raise Invalid("a block whose VRF proof is wrong")
    return output


def check_vote(rules: Rules, state: State, signed: SignedVote) -> Reason | None:
    """Why a vote cannot be included now on this branch; None when it can. Costs one signature check."""
    vote = signed.vote
    at = next((one for one in state.recent[-2:] if one.hour == vote.target_hour), None)
    if at is None or at.block != vote.target:
        return Reason.OTHER_CHECKPOINT
    if at.justified.get(vote.source_hour) != vote.source:
        return Reason.NOT_JUSTIFIED
    if vote.successors != voters_root(at.successors, rules.law.network):
        return Reason.OTHER_SUCCESSORS
    if (vote.target_hour, vote.voter) in state.happened.votes:
        return Reason.SECOND_VOTE
    key = at.key_of.get(vote.voter)
    if key is None or vote.voter in at.expelled:
        return Reason.NO_VOTER
    if not rules.verify(key, signed.signature, vote_signable(vote, rules.law.network)):
        return Reason.VOTE_UNSIGNED
    return None


def check_report(rules: Rules, state: State, slot: int, signed: SignedReport) -> Included | Reason:
    """The work that a report proves and may be included for in a slot, its includer left open; or why it may not.

    Costs ten signature checks at the most.
    """
    report, law = signed.report, rules.law
    ended = (report.hour + 1) * law.params.hour_slots
    if not ended <= slot < ended + law.params.report_slots:
        return Reason.OUT_OF_TIME
    at = at_hour(state, report.hour)
    if at is None:
        return Reason.UNKNOWN_HOUR
    member = at.registry.members.get(report.node)
    if member is None or report.node in state.checkpoint.expelled:
        return Reason.UNREGISTERED
    known = state.checkpoint.reports.get(report.hour, {})
    if report.node in known or (report.hour, report.node) in state.happened.reports:
        return Reason.SECOND_REPORT
    if not rules.verify(member.era_key, signed.signature, report_signable(report, law.network)):
        return Reason.REPORT_UNSIGNED
    drawn = witnesses(law.network, at.seed, report.hour, report.node, at.registry.entities, at.registry.order)
    keys = [at.registry.members[node].era_key for node in drawn]
    work = judge_report(report, law.network, keys, rules.verify)
    return work if isinstance(work, Reason) else Included(work, b"")


def check_registration(rules: Rules, state: State, signed: SignedRegistration) -> Reason | None:
    """Why a registration cannot be included now; None when it can. Costs a signature check and, for work, 60 ms."""
    one, at = signed.registration, state.checkpoint
    if one.era != at.registry.era + 1:
        return Reason.OTHER_ERA
    if one.node in at.joining or one.node in state.happened.registrations:
        return Reason.SECOND_REGISTRATION
    if one.node in at.expelled:
        return Reason.EXPELLED
    this_era = at.registry.era * rules.law.params.era_hours
    if one.checkpoint_hour < this_era or not at.has(Point(one.checkpoint_hour, one.checkpoint)):
        return Reason.STALE_CHECKPOINT  # the proof of work of one ERA is none for the next
    if not vrf.valid_key(one.vrf_key):
        return Reason.NO_VRF_KEY
    if not rules.verify(one.node, signed.signature, registration_signable(one, rules.law.network)):
        return Reason.REGISTRATION_UNSIGNED
    return _check_work(rules.law, one, at.difficulty)


def _check_work(law: Constitution, one: Registration, difficulty: int) -> Reason | None:
    """Why a proof of work does not do, if it does not: what is below the least difficulty does on no branch."""
    if difficulty <= 1:
        return None
    work = work_of(law.network, one.node, one.checkpoint, one.nonce)
    if is_enough(work, difficulty):
        return None
    return Reason.NO_WORK if is_enough(work, law.difficulty) else Reason.LITTLE_WORK


def check_pool(rules: Rules, state: State, signed: SignedPool) -> Reason | None:
    """Why a pool's registration cannot be included now; None when it can. Costs 16 signature checks at the most."""
    pool, at, network = signed.pool, state.checkpoint, rules.law.network
    name = pool_id(pool, network)
    if pool.era != at.registry.era + 1:
        return Reason.OTHER_ERA
    if name in at.joining_pools or name in state.happened.pools:
        return Reason.SECOND_REGISTRATION
    if name in at.expelled:
        return Reason.EXPELLED
    if not vrf.valid_key(pool.vrf_key):
        return Reason.NO_VRF_KEY
    if not are_signed(signed.signatures, pool.keys, pool.threshold, pool_signable(pool, network), rules.verify):
        return Reason.REGISTRATION_UNSIGNED
    return None


def check_double_vote(rules: Rules, state: State, found: DoubleVote) -> NodeId | Reason:
    """The voter that broke a rule, or why nothing is proven. Costs two signature checks a key that it had."""
    first, second = found.first, found.second
    if not contradict(first.vote, second.vote):
        return Reason.NO_CONTRADICTION
    voter = first.vote.voter
    if _is_expelled(state, voter):
        return Reason.KNOWN_FAULT
    network = rules.law.network
    for one in (first, second):
        if not any(
            rules.verify(key, one.signature, vote_signable(one.vote, network)) for key in era_keys(state, voter)
        ):
            return Reason.EVIDENCE_UNSIGNED
    return voter


def check_double_proposal(rules: Rules, state: State, found: DoubleProposal) -> bytes | Reason:
    """The entity that broke a rule, or why nothing is proven. Costs two header checks, 16 signatures each at the most."""
    first, second = found.first, found.second
    if not contradict_headers(first.header, second.header):
        return Reason.NO_CONTRADICTION
    if _is_expelled(state, first.header.entity):
        return Reason.KNOWN_FAULT
    by = proposer(rules.law, state, first.header)
    for one in (first, second):
        message = header_signable(one.header, rules.law.network)
        if by is None or not are_signed(one.signatures, by.keys, by.threshold, message, rules.verify):
            return Reason.EVIDENCE_UNSIGNED
    return first.header.entity


def _is_expelled(state: State, entity: bytes) -> bool:
    return entity in state.checkpoint.expelled or entity in state.happened.expelled


def era_keys(state: State, node: NodeId) -> list[bytes]:
    """The era keys that a node had as a voter in the HOURs that are remembered, each once."""
    return [*dict.fromkeys(key for at in (state.at_final, *state.recent) for one, key in at.voters if one == node)]


def check_uncle(rules: Rules, state: State, signed: SignedHeader) -> Reason | None:
    """Why a header does not show that a passed-over rank was there; None when it does. state is that at the block's slot."""
    header = signed.header
    at = next((one for one in state.published if one.slot == header.slot), None)
    if at is None or header.rank >= at.rank or header.slot < state.slot + 1 - UNCLE_SLOTS:
        return Reason.NO_UNCLE
    if header.rank in at.uncles:
        return Reason.SECOND_UNCLE
    try:
        check_header(rules, state, signed, at.drawn, at.before)
    except Invalid:
        return Reason.UNCLE_INVALID
    return None
