"""What is kept of nodes so that the chain's contracts can be told who may vote: MONTHs of uptime, who was paid, who could.

    settled HOUR ── uptimes ──→ months: the one in progress and three before       blocks ── payees ──→ paid
    new ERA: registry, months, paid ── `eligibility` ──→ voters {account: may vote}

Who could vote once and no longer can stays in the list with False, for the contracts keep what they were shown. A node's vote is
that of its account, so nodes that share one have one. A pool's members have earned what their pool has.

Source: SPEC §4 (EligibilityManager); CONSENSUS §8.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from struct import Struct
from typing import Any, Final

from consensus.eligibility import EARNED_MIN, MONTHS, Attendance, electorate
from consensus.encoding import Malformed, Value
from consensus.facts import NOBODY
from consensus.ids import Address, NodeId
from consensus.registry import Member, Registry
from consensus.tally import HourCredits

_UPTIME: Final = Struct(">32sI")
"""A node, and the sum of its HOURs' uptimes in thousandths."""


@dataclass(frozen=True, slots=True)
class Electorate:
    """As a checkpoint knows it; never changed."""

    months: tuple[Mapping[NodeId, int], ...] = ()
    """The sums of uptimes, in thousandths: of the MONTH of the last settled HOUR, last, and of up to three before."""
    paid: frozenset[Address] = frozenset()
    """Accounts that blocks have paid, and that are registered or were voters."""
    voters: Mapping[Address, bool] = field(default_factory=dict)
    """Who may vote in the present ERA, and with False who once could."""


def attended(known: Electorate, hour: HourCredits, registry: Registry, month_hours: int) -> Electorate:
    """After one more HOUR is settled; those of before the genesis count for nothing."""
    if hour.hour < 0:
        return known
    *before, current = known.months or ({},)
    if hour.hour % month_hours == 0 and known.months:
        before, current = [*before, current], {}
    sums = dict(current)
    for name, credit in hour.entries():
        if credit.uptime and name in registry.members:
            sums[NodeId(name)] = sums.get(NodeId(name), 0) + credit.uptime
    return replace(known, months=(*before, sums)[-MONTHS - 1 :])


def elected(
    known: Electorate, registry: Registry, expelled: Collection[bytes], settled_to: int, month_hours: int
) -> Electorate:
    """At the beginning of an ERA with its registry; settled_to is the last HOUR that is settled."""
    months = (*({},) * (MONTHS + 1), *known.months)[-MONTHS - 1 : -1]

    def earned(member: Member) -> bool:
        pool = registry.pools.get(member.entity)
        return member.address in known.paid or (pool is not None and pool.address in known.paid)

    attendances = (
        Attendance(
            member.node,
            member.since,
            tuple(month.get(member.node, 0) for month in months),
            EARNED_MIN if earned(member) else 0,
        )
        for member in registry.members.values()
        if member.address != NOBODY and not {member.node, member.entity} & {*expelled}
    )
    able = {registry.members[node].address for node in electorate(attendances, settled_to // month_hours, month_hours)}
    voters = dict.fromkeys(known.voters, False) | dict.fromkeys(sorted(able), True)
    there = {one.address for one in registry.members.values()} | {one.address for one in registry.pools.values()}
    return replace(known, paid=known.paid & (there | {*voters}), voters=voters)


def spell_month(month: Mapping[NodeId, int]) -> bytes:
    """A MONTH's sums as rows of 36 bytes, by their nodes."""
    return b"".join(_UPTIME.pack(node, month[node]) for node in sorted(month))


def read_month(data: bytes) -> dict[NodeId, int]:
    """The sums of such rows; raises Malformed for bytes that are none."""
    if len(data) % _UPTIME.size:
        raise Malformed("a MONTH that is cut off")
    return {NodeId(node): count for node, count in _UPTIME.iter_unpack(data)}


def spell_rest(known: Electorate) -> Value:
    """All but its MONTHs, as a value."""
    return [[*map(bytes, sorted(known.paid))], [[account, known.voters[account]] for account in sorted(known.voters)]]


def read_rest(months: Iterable[Mapping[NodeId, int]], value: Any) -> Electorate:
    """The electorate of MONTHs and such a value. Raises what mismatches raise: whoever reads a stranger's checks its digest."""
    paid, voters = value
    return Electorate(tuple(months), frozenset(paid), {Address(account): may for account, may in voters})
