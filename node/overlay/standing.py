"""Whose receipt counts, who of too many holders lets go, who is told: decided by each member alone, from what it knows.

Source: CONSENSUS §4.
"""

from collections.abc import Sequence

from consensus.beacon import Receipt, discrepancy, read_receipt, term
from consensus.ids import Millis, Network, NodeId
from consensus.placement import REPLICAS, SKEW_HOURS
from consensus.records import pack
from node.overlay.custody import Custody, Placed, ReplicateLimits, Signs, Uncounted
from node.overlay.machine import Action, Channel, Noted, Send
from node.overlay.placing import Register
from node.overlay.replica_frames import SignedReceipt, told


def span(limits: ReplicateLimits, receipt: Receipt, slot: int) -> tuple[int, int]:
    """The slot at which to judge a receipt, and the longest term in slots.

    Whoever gave or passed it on may be SKEW_HOURS ahead of us or behind.
    """
    slack = SKEW_HOURS * limits.hour_slots
    at = max(slot, min(receipt.since, slot + slack))
    at = min(at, max(receipt.until - 1, at - slack))
    return at, (limits.era_hours + limits.overlap_hours) * limits.hour_slots


def objection(limits: ReplicateLimits, custody: Custody, slot: int, teller: NodeId, receipt: Receipt) -> str | None:
    """Why nobody honest would have told us this receipt, its signature apart; None when somebody may have.

    The registry is not asked: another's may be an ERA ahead of ours or behind.
    """
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
    return None


def doubt(register: Register, custody: Custody, me: NodeId, receipt: Receipt) -> str | None:
    """Why we do not count a receipt that nobody is to blame for; None when we do, or when it cannot be told yet."""
    entity = register.entity(receipt.holder)
    others = [custody.deposit.owner, *(node for node, one in custody.holders.items() if one.live)]
    if custody.mine >= 0:
        others.append(me)
    if any(register.entity(other) == entity for other in others if other != receipt.holder):
        return "a second replica for one entity"
    if register.placed(custody.deposit, receipt) is False:
        return "a receipt by one who was not placed"
    return None


def misplaced(register: Register, custody: Custody, me: NodeId, network: Network) -> list[NodeId]:
    """The holders that were taken in before it could be told whether they were placed, and now turn out not to be."""
    wrong = []
    for node, holding in custody.holders.items():
        if not holding.judged:
            receipt = read_receipt(holding.signed.packed, network)
            if doubt(register, custody, me, receipt) is not None:
                wrong.append(node)
            holding.judged = register.placed(custody.deposit, receipt) is not None
    return wrong


def surplus(register: Register, limits: ReplicateLimits, custody: Custody, me: NodeId, now: Millis) -> bool:
    """Whether R others, seen to pass lately, come before us: each encoding once, then by placement order.

    The first R never let go, so members whose views differ cannot all do.
    """
    deposit = custody.deposit
    fresh = now - limits.seen_ms
    held = {node: one.j for node, one in custody.holders.items() if one.live and one.passed >= fresh}
    if len(held) < REPLICAS:
        return False
    held[me] = custody.mine
    orders = [register.ranks(deposit, j) for j in range(REPLICAS)]
    last = limits.ranks_max
    ranked = sorted((orders[j].index(node) if node in orders[j] else last, j, node) for node, j in held.items())
    firsts = {j: node for _, j, node in reversed(ranked)}
    before = sorted((firsts[j] != node, rank, j, node) for rank, j, node in ranked)
    return me not in [node for _, _, _, node in before[:REPLICAS]]


def settlement(custody: Custody) -> Placed | None:
    """Who holds replicas 0 to R − 1; None as long as one of them has no holder."""
    held = {holding.j: node for node, holding in custody.holders.items() if holding.live}
    if len(held) < REPLICAS:
        return None
    nodes = tuple(held[j] for j in range(REPLICAS))
    return Placed(custody.deposit.chunk, nodes, tuple(custody.holders[node].signed for node in nodes))


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


def uncounted(actions: Sequence[Action]) -> int:
    """How many receipts were not counted, each for the work of a whole frame."""
    return sum(isinstance(action, Noted) and isinstance(action.fact, Uncounted) for action in actions)


def sign(keys: Signs, limits: ReplicateLimits, custody: Custody, me: NodeId, j: int, hour: int) -> None:
    """Give our receipt for replica j, for the term of an HOUR."""
    deposit = custody.deposit
    since, until = term(hour, limits.hour_slots, limits.era_hours, limits.overlap_hours)
    root, network = deposit.roots[j], deposit.network
    receipt = Receipt(network, deposit.chunk, j, root, deposit.size, me, deposit.owner, since, until)
    packed = pack(receipt)
    custody.hold(receipt, SignedReceipt(packed, keys.sign("receipt", network, packed)))
