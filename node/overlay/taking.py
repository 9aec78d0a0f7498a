"""The holder's side of a placement: offers that are taken or refused, transfers, and the bytes promised to each owner.

A receipt is signed only after the host has hashed what is on its own disk and found the root that the owner committed to.

Source: CONSENSUS §4.
"""

from collections.abc import Callable
from typing import NamedTuple

from consensus.beacon import Deposit, Receipt, discrepancy, read_deposit, read_receipt, signable
from consensus.encoding import Malformed
from consensus.ids import Digest, Millis, Network, NodeId
from consensus.placement import REVEALED, admitted
from node.overlay.custody import (
    TABLE,
    Custody,
    Discard,
    Fetch,
    Fetched,
    ReplicateLimits,
    incoming_row,
    read_incoming,
)
from node.overlay.machine import Action, Channel, Noted, Persist, Rejected, Send, Verify
from node.overlay.placing import Register
from node.overlay.replica_frames import Answered, ReplicaOffer, SignedReceipt, told, undone, verdict
from node.overlay.standing import span


class Transfer(NamedTuple):
    """A replica that is on its way to us."""

    ref: int
    leader: NodeId
    j: int
    deposit: Deposit
    packed: bytes
    signature: bytes
    holders: tuple[tuple[Receipt, SignedReceipt], ...]
    until: Millis


class Taking:
    """What one node holds or is about to hold for others, in bytes, and the transfers to it."""

    def __init__(
        self,
        me: NodeId,
        network: Network,
        limits: ReplicateLimits,
        custodies: dict[Digest, Custody],
        register: Register,
        verify: Verify,
        seed_at: Callable[[int], Digest | None],
    ) -> None:
        self._me, self._network, self._limits = me, network, limits
        self._custodies, self._register = custodies, register
        self._verify, self._seed_at = verify, seed_at
        self._transfers: dict[Digest, Transfer] = {}
        self._refs: dict[int, Digest] = {}
        self._ref = 0
        self._bytes = 0
        self._owners: dict[NodeId, int] = {}

    def reserve(self, owner: NodeId, size: int) -> None:
        """Count bytes as promised; negative sizes give them back."""
        self._bytes += size
        left = self._owners.get(owner, 0) + size
        if left:
            self._owners[owner] = left
        else:
            self._owners.pop(owner, None)

    def deadline(self) -> Millis | None:
        """When the next transfer runs out of time."""
        return min((one.until for one in self._transfers.values()), default=None)

    def roots(self) -> list[Digest]:
        """The roots of the replicas that are on their way."""
        return [one.deposit.roots[one.j] for one in self._transfers.values()]

    def resume(self, now: Millis, data: bytes) -> list[Action]:
        """Fetch what was on its way when we stopped; the co-holders will be told to us in time."""
        deposit, packed, signature, j, leader = read_incoming(data, self._network)
        return [self._start(now, deposit, ReplicaOffer(packed, signature, j, ()), leader, ())]

    def _start(
        self,
        now: Millis,
        deposit: Deposit,
        frame: ReplicaOffer,
        leader: NodeId,
        holders: tuple[tuple[Receipt, SignedReceipt], ...],
    ) -> Noted:
        self._ref += 1
        until = Millis(now + self._limits.transfer_ms)
        self._transfers[deposit.chunk] = Transfer(
            self._ref, leader, frame.j, deposit, frame.deposit, frame.signature, holders, until
        )
        self._refs[self._ref] = deposit.chunk
        self.reserve(deposit.owner, deposit.size)
        root = deposit.roots[frame.j]
        return Noted(Fetch(self._ref, leader, deposit.chunk, frame.j, root, deposit.size, until))

    def on_offer(self, now: Millis, peer: NodeId, frame: ReplicaOffer, exchange: int, slot: int) -> list[Action]:
        """Accept or refuse, with the reason; what is not a valid offer gets no answer."""
        try:
            deposit, holders = self._read(peer, frame, slot)
        except Malformed as fault:
            return [Noted(Rejected(peer, str(fault)))]
        answer = self._answer(peer, deposit, frame.j, holders, slot)
        actions: list[Action] = [Send(peer, Channel.REPLICAS, verdict(answer), exchange)]
        custody = self._custodies.get(deposit.chunk)
        if answer is Answered.HELD and custody is not None and custody.signed is not None:  # it has missed our receipt
            actions.append(Send(peer, Channel.REPLICAS, told((custody.signed,))))
        if answer is Answered.YES and deposit.chunk not in self._transfers:
            row = incoming_row(frame.deposit, frame.signature, frame.j, peer)
            actions.insert(0, Persist(TABLE, ("in", deposit.chunk), row))
            actions.append(self._start(now, deposit, frame, peer, holders))
        return actions

    def _read(
        self, peer: NodeId, frame: ReplicaOffer, slot: int
    ) -> tuple[Deposit, tuple[tuple[Receipt, SignedReceipt], ...]]:
        """The deposit and the other holders of a valid offer, or Malformed."""
        deposit = read_deposit(frame.deposit, self._network)
        if deposit.owner == self._me:
            raise Malformed("an offer of our own chunk")
        if not self._verify(deposit.owner, frame.signature, signable(deposit)):
            raise Malformed("a deposit that its owner has not signed")
        holders = []
        names: dict[NodeId, None] = {}
        for signed in frame.holders:
            receipt = read_receipt(signed.packed, self._network)
            fault = discrepancy(receipt, deposit, *span(self._limits, receipt, slot))
            if fault is not None:
                raise Malformed(fault)
            if receipt.holder in names or receipt.holder == self._me:
                raise Malformed("a holder named twice, or ourselves")
            if not self._verify(receipt.holder, signed.signature, signable(receipt)):
                raise Malformed("a receipt that its holder has not signed")
            names[receipt.holder] = None
            holders.append((receipt, signed))
        if peer != deposit.owner and peer not in names:
            raise Malformed("an offer by one who has nothing to offer")
        return deposit, tuple(holders)

    def _answer(
        self, peer: NodeId, deposit: Deposit, j: int, holders: tuple[tuple[Receipt, SignedReceipt], ...], slot: int
    ) -> Answered:
        limits, register = self._limits, self._register
        custody = self._custodies.get(deposit.chunk)
        if custody is not None:  # under this digest anybody may have deposited anything
            return Answered.HELD if custody.deposit.owner == deposit.owner else Answered.BUSY
        under_way = self._transfers.get(deposit.chunk)
        if under_way is not None:
            return Answered.YES if (under_way.leader, under_way.j) == (peer, j) else Answered.BUSY
        if not register.takes(self._me, deposit, j):
            return Answered.NOT_PLACED
        untimely = self._untimely(deposit, holders, slot)
        if untimely is not None:
            return untimely
        entity = register.entity(self._me)
        others = [deposit.owner, *(receipt.holder for receipt, _ in holders)]
        if any(register.entity(other) == entity for other in others):
            return Answered.SAME_ENTITY
        if (
            self._bytes + deposit.size > limits.quota_bytes
            or self._owners.get(deposit.owner, 0) + deposit.size > limits.owner_bytes
            or len(self._custodies) + len(self._transfers) >= limits.held_max
        ):
            return Answered.FULL
        from_peer = sum(1 for one in self._transfers.values() if one.leader == peer)
        if len(self._transfers) >= limits.incoming_max or from_peer >= limits.incoming_peer_max:
            return Answered.BUSY
        return Answered.YES

    def _untimely(
        self, deposit: Deposit, holders: tuple[tuple[Receipt, SignedReceipt], ...], slot: int
    ) -> Answered | None:
        """Why a deposit's seed is not one that its owner had to take; None when it is, as far as we can tell.

        One that has a placed holder was opened when that one took it, however long ago.
        """
        known = self._seed_at(deposit.opened + REVEALED)
        if known is not None and known != deposit.seed:
            return Answered.OTHER_SEED
        first, end = admitted(slot // self._limits.hour_slots, self._limits.hour_slots)
        if known is not None and first <= deposit.opened < end:
            return None
        if deposit.opened >= end:
            return Answered.EARLY
        placed = [self._register.placed(deposit, receipt) for receipt, _ in holders]
        if True in placed:
            return None
        return Answered.UNKNOWN if None in placed or deposit.opened >= first else Answered.LATE

    def on_fetched(self, order: Fetched) -> tuple[list[Action], Transfer | None]:
        """End a transfer: second, what is now ours to sign for, None when it is not what the owner committed to."""
        chunk = self._refs.pop(order.ref, None)
        if chunk is None:
            return [] if order.root is None else [Noted(Discard(Digest(b""), order.root))], None
        transfer = self._transfers.pop(chunk)
        forget = Persist(TABLE, ("in", chunk), None)
        if (order.root, order.size) == (transfer.deposit.roots[transfer.j], transfer.deposit.size):
            return [forget], transfer
        actions: list[Action] = [forget, *self._abandoned(transfer)]
        if order.root is not None:
            actions.append(Noted(Discard(chunk, order.root)))
            actions.append(Noted(Rejected(transfer.leader, "a replica that is not what its owner committed to")))
        return actions, None

    def _abandoned(self, transfer: Transfer) -> list[Action]:
        self.reserve(transfer.deposit.owner, -transfer.deposit.size)
        return [Send(transfer.leader, Channel.REPLICAS, undone(transfer.deposit.chunk, transfer.j))]

    def on_deadline(self, now: Millis) -> list[Action]:
        """Give up the transfers whose time is up; what the host fetches after that is discarded."""
        actions: list[Action] = []
        for chunk in [chunk for chunk, one in self._transfers.items() if one.until <= now]:
            actions += self.drop(chunk)
        return actions

    def drop(self, chunk: Digest) -> list[Action]:
        """Give up the transfer of a chunk, if there is one."""
        transfer = self._transfers.pop(chunk, None)
        if transfer is None:
            return []
        del self._refs[transfer.ref]
        return [Persist(TABLE, ("in", chunk), None), *self._abandoned(transfer)]
