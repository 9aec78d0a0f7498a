"""What a host may ask about replication: who holds what, and what is here; nothing of it changes anything."""

from collections.abc import Mapping
from itertools import zip_longest
from typing import NamedTuple

from consensus.beacon import Deposit
from consensus.ids import Digest, Network, NodeId
from consensus.placement import REPLICAS
from node.overlay.custody import Custody, Place
from node.overlay.placing import Placing, Register
from node.overlay.taking import Taking


class Moves(NamedTuple):
    """Replicas on their way."""

    sought: int
    """Holders looked for now."""
    waiting: int
    """To be looked for when others are found."""
    arriving: int
    """Fetched from others."""
    leaving: int
    """Fetched by others, as we have agreed."""


class Answerable(NamedTuple):
    """A replica that the node answers for: its receipt and its deposit, as they were signed."""

    root: Digest
    size: int
    chunk: Digest
    receipt: bytes
    signature: bytes
    deposit: bytes
    deposit_signature: bytes


class Inventory:
    """A view of one node's custodies, transfers and registry."""

    def __init__(
        self,
        me: NodeId,
        network: Network,
        custodies: Mapping[Digest, Custody],
        placing: Placing,
        taking: Taking,
        register: Register,
    ) -> None:
        self._me, self._network = me, network
        self._custodies, self._placing, self._taking, self._register = custodies, placing, taking, register

    def deposit(self, chunk: Digest) -> Deposit | None:
        """What the owner of a chunk committed to, if this node has a part in it."""
        custody = self._custodies.get(chunk)
        return None if custody is None else custody.deposit

    def holders(self, chunk: Digest) -> tuple[NodeId, ...]:
        """The nodes that hold a chunk and count, this one included."""
        custody = self._custodies.get(chunk)
        return () if custody is None else custody.ring

    def replica(self, chunk: Digest) -> int | None:
        """Which replica of a chunk this node holds for another one."""
        custody = self._custodies.get(chunk)
        return None if custody is None or custody.mine < 0 else custody.mine

    def replica_of(self, chunk: Digest, holder: NodeId) -> int | None:
        """Which replica of a chunk another node holds, as far as is known here."""
        custody = self._custodies.get(chunk)
        holding = None if custody is None else custody.holders.get(holder)
        return None if holding is None else holding.j

    def candidates(self, order: Place) -> list[tuple[NodeId, int]]:
        """Who may hold which replica of a chunk of ours: its known holders, then all whom the seed names, best first."""
        custody = self._custodies.get(order.chunk)
        known = [] if custody is None else [(node, holding.j) for node, holding in custody.holders.items()]
        deposit = order.deposit(self._network, self._me)
        named = [self._register.ranks(deposit, j) for j in range(REPLICAS)]
        turns = [(node, j) for rank in zip_longest(*named) for j, node in enumerate(rank) if node is not None]
        return list(dict.fromkeys([*known, *turns]))

    def held(self) -> tuple[int, int]:
        """How many replicas this node holds for others, and their bytes."""
        sizes = [custody.deposit.size for custody in self._custodies.values() if custody.mine >= 0]
        return len(sizes), sum(sizes)

    def moves(self) -> Moves:
        """How many replicas are looking for a holder, wait to, and come here."""
        sought, waiting = self._placing.loads()
        leaving = sum(len(custody.copying) for custody in self._custodies.values())
        return Moves(sought, waiting, len(self._taking.roots()), leaving)

    def answerable(self, most: int) -> list[Answerable]:
        """The replicas that this node holds for others and has signed for, by their roots; at most so many."""
        made = []
        for custody in self._custodies.values():
            if custody.mine >= 0 and custody.signed is not None:
                deposit, (receipt, signature) = custody.deposit, custody.signed
                root = deposit.roots[custody.mine]
                promised = (receipt, signature, custody.packed, custody.signature)
                made.append(Answerable(root, deposit.size, deposit.chunk, *promised))
        return sorted(made)[:most]

    def roots(self) -> dict[Digest, None]:
        """The roots of all replicas that are here or on their way."""
        mine = [custody for custody in self._custodies.values() if custody.mine >= 0]
        return dict.fromkeys([*(one.deposit.roots[one.mine] for one in mine), *self._taking.roots()])
