"""What the consensus says of an execution payload: all that is not its builder's to choose.

    state at the beginning of a slot, who publishes ── `terms_of` ──→ parent, time, seed, recipient, facts, grants, payout

Coins buy room in blocks and nothing else. Whoever registers for an ERA is granted some with the next block: newcomers at
once, everybody else once an ERA. What a block is worth is paid by the next one, whose first transaction mints it with a proof that
leads to the facts of its parent (`facts`). A payload begins with a byte that tells whether something waited for it.

Source: CONSENSUS §8; DESIGN §7; the attributes of Ethereum's Engine API, EIP-4788, EIP-4895.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from consensus.facts import NOBODY, REWARD, Facts, Listed, Minting, facts_proof, facts_root
from consensus.ids import Address, Digest, NodeId
from consensus.reward import BASE_BYTES, ClosedSession, reward, work_done

if TYPE_CHECKING:
    from consensus.state import State

FIRST: Final = Digest(bytes(32))
"""Stands for the payload of the genesis, whose name is the execution layer's affair."""
GRANT_GWEI: Final = 100_000_000
"""A tenth of a coin: at the usual price of gas more than an ERA of sessions takes."""
UNTOLD: Final = Listed(0, Digest(bytes(32)), 0)
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
    """What the contracts are told of a state's last block. Credits and voters are not told yet: their lists are empty."""
    return Facts(state.id, state.payout or Minting(0, NOBODY, 0), UNTOLD, UNTOLD)


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
    return len({entities.get(NodeId(name), name) for name, credit in hours[-1].entries if credit.work}) if hours else 0


def is_busy(payload: bytes) -> bool:
    """Whether something waited for a payload: it is there, and does not begin with IDLE."""
    return bool(payload) and payload[:1] != IDLE
