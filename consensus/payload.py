"""What the consensus says of an execution payload: all that is not its builder's to choose.

    state at the beginning of a slot, who publishes ── `terms_of` ──→ parent, time, seed, recipient, facts, grants, payout

Coins buy room in blocks and nothing else. Whoever registers for an ERA is granted some with the next block: newcomers at
once, everybody else once an ERA. What a block is worth is paid by the next one, whose first transaction mints it with a proof that
leads to the facts of its parent (`facts`). A payload begins with a byte that tells whether something waited for it.

Source: CONSENSUS §8; DESIGN §7; the attributes of Ethereum's Engine API, EIP-4788, EIP-4895.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from consensus.facts import (
    NOBODY,
    REWARD,
    Facts,
    Listed,
    Minting,
    credits_entries,
    facts_proof,
    facts_root,
    list_root,
    voters_entries,
)
from consensus.ids import Address, Digest, NodeId
from consensus.reward import BASE_BYTES, ClosedSession, reward, work_done

if TYPE_CHECKING:
    from consensus.checkpoint import Checkpoint
    from consensus.state import State

FIRST: Final = Digest(bytes(32))
"""Stands for the payload of the genesis, whose name is the execution layer's affair."""
GRANT_GWEI: Final = 100_000_000
"""A tenth of a coin: at the usual price of gas more than an ERA of sessions takes."""
UNTOLD: Final = Listed(0, Digest(bytes(32)), 0)
"""A list of nobody."""
IDLE, BUSY = b"\0", b"\1"


class PayloadTerms(NamedTuple):
    """What a payload has to keep to."""

    parent: Digest
    """The name of the payload that it follows, or FIRST."""
    slot: int
    seed: Digest
    """Of the slot before."""
    recipient: Address
    """The publisher's registered address; NOBODY for a founder that has not registered yet."""
    root: Digest
    """Over the facts of the parent's block of the consensus, for contracts to look up (EIP-4788)."""
    grants: tuple[Address, ...]
    """Whom it gives GRANT_GWEI, each; an address may be there twice."""
    payout: Minting | None
    """What the parent's block is worth: its first transaction mints that."""
    siblings: tuple[bytes, ...]
    """From the payout to the root; none without one."""


def terms_of(state: "State", slot: int, entity: bytes) -> PayloadTerms:
    """The terms of an entity's payload for a slot; state is that at the slot's beginning."""
    told = facts_of(state)
    siblings = () if state.payout is None else facts_proof(told, REWARD)
    return PayloadTerms(
        state.payload,
        slot,
        state.seed,
        recipient_of(state, entity),
        facts_root(told),
        state.granted,
        state.payout,
        siblings,
    )


def facts_of(state: "State") -> Facts:
    """What the contracts are told of a state's last block, and of its HOUR: credits that are settled, and who may vote.

    Costs two keccaks for each node once an HOUR.
    """
    credits_told, voters_told = _lists(_Same(state.checkpoint))
    return Facts(state.id, state.payout or Minting(0, NOBODY, 0), credits_told, voters_told)


def credits_list(checkpoint: "Checkpoint") -> tuple[int, dict[Address, int]]:
    """The last settled HOUR, and what each account that is registered was credited in it, in MB; -1 and nothing before one is."""
    hours, registry = checkpoint.tally.hours, checkpoint.registry
    credited: dict[Address, int] = {}
    for name, credit in hours[-1].entries() if hours else ():
        known = registry.pools.get(name) or registry.members.get(NodeId(name))
        if credit.work and known is not None and known.address != NOBODY:
            credited[known.address] = credited.get(known.address, 0) + credit.work
    return (hours[-1].hour if hours else -1), credited


class _Same:
    """A checkpoint as a key: itself and no other, since to compare two costs as much as what is kept for them."""

    __slots__ = ("checkpoint",)

    def __init__(self, checkpoint: "Checkpoint") -> None:
        self.checkpoint = checkpoint

    def __hash__(self) -> int:
        return id(self.checkpoint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.checkpoint is self.checkpoint


@lru_cache(maxsize=16)
def _lists(at: _Same) -> tuple[Listed, Listed]:
    hour, credited = credits_list(at.checkpoint)
    registry, voters = at.checkpoint.registry, at.checkpoint.electorate.voters
    return (
        Listed(hour, list_root(credits_entries(credited)), len(credited)) if credited else UNTOLD,
        Listed(registry.era, list_root(voters_entries(voters)), len(voters)) if voters else UNTOLD,
    )


def recipient_of(state: "State", entity: bytes) -> Address:
    """Where an entity is paid; NOBODY for a founder that has not registered yet."""
    registry = state.checkpoint.registry
    known = registry.pools.get(entity) or registry.members.get(NodeId(entity))
    return NOBODY if known is None else known.address


def payout_of(
    state: "State", slot: int, entity: bytes, server: NodeId, sessions: Sequence[ClosedSession]
) -> Minting | None:
    """What an entity gets for its block in a slot that pays for sessions; state is that at the slot's beginning.

    None where it has no address.
    """
    payee = recipient_of(state, entity)
    if payee == NOBODY:
        return None
    work = work_done(sessions, credited(state) if sessions else 0)
    return Minting(slot, payee, reward(work, state.minted, BASE_BYTES, to_server=entity == server))


def credited(state: "State") -> int:
    """N: entities with credit in the last HOUR whose reports are all in."""
    checkpoint = state.checkpoint
    hours, entities = checkpoint.tally.hours, checkpoint.registry.entities
    return (
        len({entities.get(NodeId(name), name) for name, credit in hours[-1].entries() if credit.work}) if hours else 0
    )


def is_busy(payload: bytes) -> bool:
    """Whether something waited for a payload: it is there, and does not begin with IDLE."""
    return bool(payload) and payload[:1] != IDLE
