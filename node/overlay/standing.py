"""Whose receipt counts, and who of too many holders lets go, and who is told: decided by each member alone, from what it knows.

Source: CONSENSUS §4.
"""

from consensus.beacon import Receipt, discrepancy
from consensus.ids import Millis, NodeId
from consensus.placement import REPLICAS
from node.overlay.custody import Custody, ReplicateLimits
from node.overlay.machine import Action, Channel, Send
from node.overlay.placing import Register
from node.overlay.replica_frames import told


def span(limits: ReplicateLimits, receipt: Receipt, slot: int) -> tuple[int, int]:
    """The slot at which to judge a receipt, allowing its holder to be two HOURs ahead, and the longest term in slots."""
    ahead = max(slot, min(receipt.since, slot + 2 * limits.hour_slots))
    return ahead, (limits.era_hours + limits.overlap_hours) * limits.hour_slots


def objection(
    register: Register,
    limits: ReplicateLimits,
    custody: Custody,
    me: NodeId,
    slot: int,
    teller: NodeId,
    receipt: Receipt,
) -> str | None:
    """Why a receipt is not one that we could count, its signature apart; None when it is. Cheap checks first."""
    deposit, holders = custody.deposit, custody.holders
    wrong = discrepancy(receipt, deposit, *span(limits, receipt, slot))
    if wrong is not None:
        return wrong
    known = holders.get(receipt.holder)
    if known is not None:
        return "a second replica for one holder" if known.live and known.j != receipt.j else None
    told_by = holders.get(teller)
    if teller not in {receipt.holder, deposit.owner} and not (told_by is not None and told_by.live):
        return "a receipt from one who has no part in it"
    entity = register.entity(receipt.holder)
    others = [deposit.owner, *(node for node, one in holders.items() if one.live)]
    if custody.mine >= 0:
        others.append(me)
    if any(register.entity(other) == entity for other in others):
        return "a second replica for one entity"
    if receipt.holder not in register.ranks(deposit.seed, deposit.chunk, receipt.j, deposit.size):
        return "a receipt by one who was not placed"
    return None


def surplus(register: Register, limits: ReplicateLimits, custody: Custody, me: NodeId, now: Millis) -> bool:
    """Whether R others, seen to pass lately, come before us: each encoding once, then by placement order.

    The first R never let go, so members whose views differ cannot all do.
    """
    deposit = custody.deposit
    fresh = now - limits.repair_ms // 2
    held = {node: one.j for node, one in custody.holders.items() if one.live and one.passed >= fresh}
    if len(held) < REPLICAS:
        return False
    held[me] = custody.mine
    orders = [register.ranks(deposit.seed, deposit.chunk, j, deposit.size) for j in range(REPLICAS)]
    last = limits.ranks_max
    ranked = sorted((orders[j].index(node) if node in orders[j] else last, j, node) for node, j in held.items())
    firsts = {j: node for _, j, node in reversed(ranked)}
    before = sorted((firsts[j] != node, rank, j, node) for rank, j, node in ranked)
    return me not in [node for _, _, _, node in before[:REPLICAS]]


def introductions(custody: Custody, me: NodeId, slot: int) -> list[Action]:
    """Every member's notice of all live holders but itself."""
    receipts = {node: one.signed for node, one in custody.holders.items() if one.live and one.until > slot}
    if custody.signed is not None and custody.until > slot:
        receipts[me] = custody.signed
    sends: list[Action] = []
    for member in custody.members():
        others = tuple(signed for node, signed in receipts.items() if node != member)
        if others:
            sends.append(Send(member, Channel.REPLICAS, told(others)))
    return sends
