"""By which slot and seed the holders of a chunk are drawn.

    committed to in a block of slot c ──→ c, the seed of slot c + 2          not committed to in time ──→ the slot in which it was sealed

What is committed to before its seed is known nobody can choose the holders of; only that is paid for. Source: CONSENSUS §4, §8.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from consensus.facts import NOBODY
from consensus.ids import Digest, Network, NodeId, SessionId
from consensus.replica import ConsensusReplica
from consensus.storage import StoredChunk
from node.timeline import interim_seed


class Lot(NamedTuple):
    """A slot and the seed of two slots later."""

    opened: int
    seed: Digest


class Lots(Protocol):
    """What a network says of seeds and commitments."""

    def seed_at(self, slot: int) -> Digest | None:
        """The seed of a slot; None where it is not known yet, or no more."""

    def committed(self, session: SessionId, chunk: Digest) -> StoredChunk | None:
        """A session's chunk as the chain has it, while it is followed there."""

    @property
    def follows_us(self) -> bool:
        """Whether the chain would follow what this node commits to."""


class InterimLots:
    """Those of a network without a chain."""

    follows_us = False

    def __init__(self, network: Network) -> None:
        self._network = network

    def seed_at(self, slot: int) -> Digest:
        """The seed of a slot, which everybody knows in advance."""
        return interim_seed(self._network, slot)

    def committed(self, session: SessionId, chunk: Digest) -> None:
        """There is nothing to commit to."""


class ChainLots:
    """Those of a chain, as its head has them; `present` tells the slot of now."""

    def __init__(self, replica: ConsensusReplica, me: NodeId, present: Callable[[], int]) -> None:
        self._replica, self._me, self._present = replica, me, present

    def seed_at(self, slot: int) -> Digest | None:
        """The seed of a slot that is over."""
        replica = self._replica
        return replica.finalised.seed_of(replica.tree, replica.head(), slot) if slot < self._present() else None

    def committed(self, session: SessionId, chunk: Digest) -> StoredChunk | None:
        """A session's chunk as the head's branch has it."""
        followed = self._replica.head().storage.sessions.get(session)
        return None if followed is None else next((one for one in followed.chunks if one.chunk == chunk), None)

    @property
    def follows_us(self) -> bool:
        """Whether we are registered, with an account."""
        known = self._replica.head().checkpoint.registry.members.get(self._me)
        return known is not None and known.address != NOBODY
