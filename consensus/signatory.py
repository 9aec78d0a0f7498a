"""One node's own part: when it proposes, votes and registers, and that it never signs two things that contradict.

Source: CONSENSUS §3, §6, §7.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from consensus import vrf
from consensus.admission import Registration, SignedRegistration, registration_signable
from consensus.block import Block, BlockHeader, SignedHeader, body_digest, vrf_input
from consensus.checkpoint import Constitution
from consensus.finality import SignedVote, Vote, vote_slot, voters_root
from consensus.ids import Address, Digest, Millis, NodeId
from consensus.inclusion import Rules
from consensus.params import SERVER_RANK, STATE_HOURS
from consensus.pools import Pools
from consensus.records import unpack
from consensus.signer import Signer, SigningJournal, journal_key
from consensus.signing import KeyPair
from consensus.state import State
from consensus.wishes import Doing, DoubleHeard, DutyDone, Keep, Prove, Told, Wake

LISTENS: Final = 1
"""Slots after its start for which a node only listens, for a double of its own."""


@dataclass(frozen=True, slots=True)
class EraKeys:
    """A node's keys of one ERA."""

    signing: KeyPair
    vrf_secret: bytes


@dataclass(frozen=True, slots=True)
class Own:
    """What a node is given of its own: `keys_of` finds the keys of an era key, `new_keys` makes those of an ERA."""

    node: NodeId
    identity: KeyPair
    keys_of: Callable[[bytes], EraKeys | None]
    new_keys: Callable[[int], EraKeys]
    address: Address = Address(bytes(20))  # noqa: RUF009 - no more than bytes
    pool: bytes | None = None
    capacity: int = 0


class Signatory:
    """What one node signs. `rows` are its journals, `since` the slot in which this program began."""

    def __init__(self, law: Constitution, own: Own, rows: Mapping[Any, bytes], since: int) -> None:
        self.law = law
        self.own = own
        self.is_doubled = False
        self._rows = rows
        self._since = since
        self._signers: dict[bytes, Signer] = {}
        self._journals = {key: unpack(SigningJournal, row) for key, row in rows.items()}
        """Of all era keys: on branches with other registries a node has other ones, and answers for them all."""
        self._proving: dict[int, Registration] = {}
        self._tried = -1
        """The HOUR in which we registered last."""

    def listens(self, slot: int) -> bool:
        """Whether the node signs nothing in a slot: it has just begun, or has a double."""
        return self.is_doubled or slot <= self._since + LISTENS

    def due(self, state: State, slot: int, drawn: tuple[bytes, ...], start: Millis) -> list[Doing]:
        """When to propose and to vote in a slot that begins; state is that at its beginning."""
        if self.listens(slot):
            return []
        params, me = self.law.params, self.own.node
        ranks = [rank for rank, entity in enumerate(drawn) if entity == me]
        if me == self.law.server:
            ranks.append(SERVER_RANK)
        out: list[Doing] = [Wake(("propose", slot, rank), Millis(start + rank * params.rank_ms)) for rank in ranks]
        at = state.checkpoint
        signer = self._signer(at.key_of.get(me))
        owes = signer is not None and signer.journal.target_hour < at.hour
        if owes and slot >= vote_slot(params, at.seed, at.hour, me):
            out.append(Wake(("vote", slot), Millis(start + params.vote_ms)))
        return out

    def _signer(self, public: bytes | None) -> Signer | None:
        """The signer of one of our era keys."""
        if public is None or self.is_doubled:
            return None
        if public not in self._signers:
            keys = self.own.keys_of(public)
            if keys is None:
                return None
            self._signers[public] = Signer(
                keys.signing, self.law.network, self._rows.get(("journal", journal_key(public)))
            )
        return self._signers[public]

    def propose(
        self, rules: Rules, pools: Pools, state: State, slot: int, rank: int, name: Digest, payload: bytes
    ) -> tuple[Block | None, list[Doing]]:
        """Our block for a slot and rank; none where there is nothing to publish, unless we are the Server."""
        member = state.checkpoint.registry.members.get(self.own.node)
        signer = self._signer(None if member is None else member.era_key)
        keys = None if member is None else self.own.keys_of(member.era_key)
        if signer is None or keys is None:
            return None, []
        body = pools.body(rules, state, slot, payload)
        if rank < SERVER_RANK and not body.is_busy:
            return None, []
        proof = vrf.prove(keys.vrf_secret, vrf_input(self.law.network, state.seed, slot))
        header = BlockHeader(slot, rank, state.id, self.own.node, proof, body_digest(body), name, state.state)
        signed = None if any(kept.slot >= slot for kept in self._journals.values()) else signer.propose(header)
        if signed is None:
            return None, []
        return Block(signed, body), [self._journal(signer), Told(DutyDone("block", slot))]

    def vote(self, state: State, head: Digest) -> tuple[SignedVote | None, list[Doing]]:
        """Our vote in an HOUR, once: from its checkpoint's highest justified one; state is that at the present slot."""
        at = state.checkpoint
        signer = self._signer(at.key_of.get(self.own.node))
        if signer is None:
            return None, []
        hour = max(at.justified)
        if any(kept.target_hour >= at.hour or kept.source_hour > hour for kept in self._journals.values()):
            return None, []
        successors = voters_root(at.successors, self.law.network)
        vote = signer.vote(Vote(self.own.node, hour, at.justified[hour], at.hour, at.block, successors, head))
        return vote, [] if vote is None else [self._journal(signer), Told(DutyDone("vote", at.hour))]

    def register(self, state: State, slot: int, call: int) -> list[Doing]:
        """Register for the next ERA, once an HOUR until it is on the chain: its checkpoint may have been another branch's."""
        at = state.checkpoint
        if self._tried == at.hour or self.listens(slot):
            return []
        if at.hour % self.law.params.era_hours >= self.law.params.era_hours - STATE_HOURS:
            return []  # included now, it would come too late for the next ERA's registry, and count for no other
        if self.own.node in at.joining or self.own.node in state.happened.registrations:
            return []
        self._tried = at.hour
        keys = self.own.new_keys(at.registry.era + 1)
        one = Registration(
            node=self.own.node,
            era=at.registry.era + 1,
            checkpoint_hour=at.hour,
            checkpoint=at.block,
            nonce=bytes(16),
            era_key=keys.signing.public,
            vrf_key=vrf.public_key(keys.vrf_secret),
            address=self.own.address,
            pool=self.own.pool,
            capacity=self.own.capacity,
        )
        self._proving = {call: one}
        return [Prove(call, at.block, at.difficulty)]

    def proven(self, call: int, nonce: bytes) -> SignedRegistration | None:
        """The registration with its proof of work, signed; None for one that was overtaken."""
        one = self._proving.pop(call, None)
        if one is None:
            return None
        one = replace(one, nonce=nonce)
        return SignedRegistration(one, self.own.identity.sign_as_is(registration_signable(one, self.law.network)))

    def heard_vote(self, public: bytes, signed: SignedVote) -> list[Doing]:
        """A vote by a key, which may be ours: learn from it, or find that we have a double."""
        signer = self._signer(public)
        if signer is None:
            return []
        row = signer.row
        return self._learnt(
            signer, row, "vote", doubled=signer.heard_vote(signed, self._since // self.law.params.hour_slots)
        )

    def heard_block(self, state: State, block: Block) -> list[Doing]:
        """A block, of which the header may be ours, or votes in it: whoever catches up hears of them in no other way."""
        member = state.checkpoint.registry.members.get(NodeId(block.header.entity))
        out = [] if member is None else self.heard_header(member.era_key, block.signed)
        for signed in block.body.votes:
            if signed.vote.voter == self.own.node:
                at = next(one for one in state.recent if one.hour == signed.vote.target_hour)
                out += self.heard_vote(at.key_of[self.own.node], signed)
        return out

    def heard_header(self, public: bytes, signed: SignedHeader) -> list[Doing]:
        """A header by a key, likewise."""
        signer = self._signer(public)
        if signer is None:
            return []
        row = signer.row
        return self._learnt(signer, row, "block", doubled=signer.heard_proposal(signed, self._since))

    def _learnt(self, signer: Signer, row: bytes, what: str, *, doubled: bool) -> list[Doing]:
        if doubled:
            self.is_doubled = True
            return [Told(DoubleHeard(what))]
        return [] if signer.row == row else [self._journal(signer)]

    def _journal(self, signer: Signer) -> Keep:
        self._journals["journal", journal_key(signer.public)] = signer.journal
        return Keep("journal", journal_key(signer.public), signer.row)
