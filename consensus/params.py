"""What a genesis fixes for ever, and the constants that all networks share: unit, bounds and section of each.

Source: CONSENSUS §1 to §7. A number that the simulator corrects is corrected here, and told in consensus/README.md.
"""

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Annotated, Final, NamedTuple, get_type_hints

RANKS: Final = 6
"""Ranked proposers of a slot (§5); the Server stands behind them, at rank 6."""

SERVER_RANK: Final = RANKS

WITNESSES: Final = 9
"""Of a node and HOUR, at the most (§4)."""

UNCLE_SLOTS: Final = 8
"""In slots: within so many a header of a passed-over rank saves it from a miss (§6)."""

HELD_SLOTS: Final = 10
"""In slots: a block that leaves out a report which a voter has held for longer, and had room, gets no vote of its (§4)."""

EARLY_MS: Final = 2_000
"""In ms: a block that is earlier waits (§6)."""

LATE_MS: Final = 20_000
"""In ms: a block that came later than its rank's time and this counts as of the last rank (§7)."""

ERA_LOT: Final = 512
"""Voters of an ERA, at the most (§7)."""

SMALL: Final = 7
"""Voters from which on a quorum needs no Server (§6, §7)."""

ACTIVE_HOURS: Final = 24
"""In HOURs: a voter none of whose votes was included for so long is not active (§7)."""

USUAL_HOURS: Final = 24
"""In HOURs: the median of so many is what a node is used to, and half as much again counts at the most (§4)."""

STATE_HOURS: Final = 2
"""In HOURs: validity looks at the last checkpoint at least so long before a block (§2)."""

PPM: Final = 1_000_000
PER_MILLE: Final = 1_000


class LeaderRule(IntEnum):
    """How the leader of a slot is found (§5)."""

    SORTITION = 1
    RANK = 2
    BANDS = 3


class Allowed(NamedTuple):
    """What a parameter counts, its least and its greatest value, and where it is from."""

    unit: str
    low: int
    high: int
    section: str


@dataclass(frozen=True, slots=True)
class Params:
    """The parameters of one network."""

    slot_ms: Annotated[int, Allowed("ms", 1_000, 3_600_000, "§1")]
    hour_slots: Annotated[int, Allowed("slots", 3, 3_600, "§1")]
    """Slots in an HOUR."""
    era_hours: Annotated[int, Allowed("HOURs", 3, 10_000, "§1")]
    """Three at the least: who registers in its first HOUR is in the state that the next ERA begins from."""
    month_hours: Annotated[int, Allowed("HOURs", 1, 100_000, "§1")]
    rank_ms: Annotated[int, Allowed("ms", 100, 10_000, "§1")]
    """T: rank r may propose from r·T into the slot."""
    vote_ms: Annotated[int, Allowed("ms", 601, 2_400_000, "§1")]
    """When in its slot a voter votes."""
    window_hours: Annotated[int, Allowed("HOURs", 24, 8_760, "§4")]
    """leaderWindowDays: how long work counts."""
    cooldown_slots: Annotated[int, Allowed("slots", 0, 256, "§5")]
    """How long who has published does not lead; where few share the work it is shorter (`schedule.cooldown`)."""
    report_slots: Annotated[int, Allowed("slots", 1, 3_600, "§4")]
    """How long after its HOUR a report may be included."""
    cap_mb: Annotated[int, Allowed("MB", 1, 1_000_000_000, "§4")]
    """Work of a node and HOUR that counts, at the most."""
    voter_hours: Annotated[int, Allowed("HOURs", 0, 8_760, "§7")]
    """How long a node has to be registered before it may vote."""
    miss_hours: Annotated[int, Allowed("HOURs", 1, 8_760, "§4")]
    """How long a missed slot tells."""
    leader_rule: Annotated[LeaderRule, Allowed("rule", 1, 3, "§5")]


MAINNET: Final = Params(
    slot_ms=120_000,
    hour_slots=30,
    era_hours=168,
    month_hours=720,
    rank_ms=5_000,
    vote_ms=45_000,
    window_hours=720,
    cooldown_slots=16,
    report_slots=72,
    cap_mb=4_000_000,
    voter_hours=720,
    miss_hours=720,
    leader_rule=LeaderRule.SORTITION,
)
"""The values of mainnet and sandbox."""

DEVNET: Final = Params(
    slot_ms=5_000,
    hour_slots=4,
    era_hours=3,
    month_hours=12,
    rank_ms=300,
    vote_ms=3_000,
    window_hours=720,
    cooldown_slots=16,
    report_slots=8,
    cap_mb=4_000_000,
    voter_hours=3,
    miss_hours=12,
    leader_rule=LeaderRule.SORTITION,
)
"""The values of a devnet: an HOUR is twenty seconds."""


def bounds() -> dict[str, Allowed]:
    """Every parameter's bounds, by its name."""
    hints = get_type_hints(Params, include_extras=True)
    return {field.name: hints[field.name].__metadata__[0] for field in fields(Params)}


def complaints(params: Params) -> list[str]:
    """What is wrong with parameters, a sentence each; empty when a network can run on them."""
    wrong = []
    for name, limit in bounds().items():
        value = getattr(params, name)
        if not limit.low <= value <= limit.high:
            wrong.append(
                f"{name} is {value}: from {limit.low} to {limit.high} {limit.unit} (CONSENSUS {limit.section})"
            )
    rules = (
        (RANKS * params.rank_ms < params.vote_ms, "six times rank_ms has to be below vote_ms"),
        (3 * params.vote_ms < 2 * params.slot_ms, "vote_ms has to be below two thirds of a slot"),
        (params.era_hours <= params.month_hours, "an ERA is no longer than a MONTH"),
    )
    return wrong + [f"{rule} (CONSENSUS §1)" for holds, rule in rules if not holds]


def settled_hours(params: Params) -> int:
    """HOURs from one's beginning to the checkpoint that settles it: no report of it can be included any more."""
    return 1 + -(-params.report_slots // params.hour_slots)


def usual_hours(params: Params) -> int:
    """Of how many HOURs the median is what a node is used to: a day's, or an ERA's where that is shorter."""
    return min(USUAL_HOURS, params.era_hours)
