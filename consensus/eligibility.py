"""Which nodes may vote on parameters and signers in a MONTH: those that were there for three, and have earned a LUCID.

One node, one vote. What a node holds is no input here, and of what it has earned only that it is one LUCID, so neither
tokens nor work weigh. Proposals, votes and the timelock are the contracts'; this is what EligibilityManager is told.
Eligibility is of a MONTH, not of a block: the electorate stays the same while a proposal is open, and changes for one
write a node.

Source: SPEC §4 (LucidGovernor + Timelock, EligibilityManager).
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from consensus.ids import NodeId
from consensus.params import PER_MILLE
from consensus.reward import LUCID

MONTHS: Final = 3
"""Complete MONTHs that are looked at."""

UPTIME_MIN: Final = 800
"""In thousandths of those MONTHs together."""

EARNED_MIN: Final = LUCID
"""In base units: by block rewards, ever. Bought tokens were not earned, and sold ones still were."""


class Attendance(NamedTuple):
    """What counts of a registered node: who was expelled, or has let its registration lapse, has none."""

    node: NodeId
    since: int
    """The HOUR from which on it has been registered without a break."""
    uptime: tuple[int, ...]
    """Of each of the last three complete MONTHs, the latest last, the sum of its HOURs' uptimes in thousandths.

    An HOUR without a report adds nothing: a mean of the reported ones alone would be high for who reports rarely.
    """
    earned: int
    """In base units of LUCID."""


def shortcoming(attendance: Attendance, month: int, month_hours: int) -> str | None:
    """Why a node may not vote in a MONTH, given by its number; None when it may.

    A node that is younger than the three MONTHs before may not, whatever its uptime was: else an identity would be worth a
    vote after a day. That holds for founders too, so nothing can be changed in a network's first three MONTHs. Raises
    ValueError for an attendance of another number of MONTHs.
    """
    if len(attendance.uptime) != MONTHS:
        raise ValueError(f"an attendance is of {MONTHS} MONTHs")
    if attendance.since > (month - MONTHS) * month_hours:
        return f"registered since HOUR {attendance.since}, has to be since HOUR {(month - MONTHS) * month_hours}"
    whole = MONTHS * month_hours
    if sum(attendance.uptime) < UPTIME_MIN * whole:
        permille = sum(attendance.uptime) // whole
        return f"{permille} ‰ uptime in {MONTHS} MONTHs, {UPTIME_MIN} of {PER_MILLE} are needed"
    if attendance.earned < EARNED_MIN:
        return "has not earned a LUCID yet"
    return None


def electorate(attendances: Iterable[Attendance], month: int, month_hours: int) -> tuple[NodeId, ...]:
    """The nodes with a vote in a MONTH, ascending, each once."""
    return tuple(sorted({one.node for one in attendances if shortcoming(one, month, month_hours) is None}))
