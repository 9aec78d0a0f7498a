"""From witnessed work to the weight in the draw: credits of a node and HOUR, their sum over a window, misses.

    HourReport ── medians ──→ Work ── `credit` ──→ Credit ── `advance` ──→ Tally ── of_entities, × liveScore ──→ weights

Uptime and votes multiply and never add: added, twenty identities on one machine would earn ten times its work. Who did
nothing but be there has a floor of 1, and all floors together are a twentieth of the weight, so that identities without
work are worth nothing together and a newcomer is not shut out. An HOUR counts for half as much again as a node's usual
HOUR at the most: whoever has five friends among its nine witnesses once, and one HOUR of fifty they are at a fifth of all
nodes, could have them see a hundred times its disk.

Source: CONSENSUS §4.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct
from typing import Final, NamedTuple, Self

from consensus.encoding import Malformed
from consensus.ids import NodeId
from consensus.params import PER_MILLE, PPM

RELAY_SHARE: Final = 4
"""Relayed bytes count up to a fourth of those stored."""

FLOORS_SHARE: Final = 20
"""All floors together are at most a twentieth of the total."""

LED_PRIOR: Final = 19
"""Slots that everybody is taken to have led before the window, for its liveScore."""

LIVE_MIN_PPM: Final = 100_000
"""A liveScore never falls below a tenth: who comes back is drawn again, and can show that it is there."""


class Work(NamedTuple):
    """What a node's witnesses say of one HOUR, or their median: MB stored, MB relayed, uptime in thousandths."""

    storage: int
    relay: int
    uptime: int


class Credit(NamedTuple):
    """Of one node and HOUR, or the sum of several: work in MB that counts, and floors for those that did none."""

    work: int
    floors: int
    hours: int = 0
    """HOURs with a report."""
    uptime: int = 0
    """The sum of their uptimes, in thousandths."""
    witnessed: int = 0
    """MB that its witnesses saw, whether they count or not."""


_NOTHING: Final = Credit(0, 0)
_NAME_BYTES: Final = 32
_ENTRY: Final = Struct(f">{_NAME_BYTES}sQIIIQ")
"""A name, and what a Credit says, big-endian: read and written by the ten thousand."""
_WITNESSED: Final = Struct(f">{_NAME_BYTES}s20xQ")
"""The name and the last number of an entry alone."""
_HOUR_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class HourCredits:
    """All nodes' credits of one settled HOUR, or all entities'.

    They are kept as they are spelled, 60 bytes each: a window has 720 HOURs of all nodes, and objects took five times as much.
    """

    hour: int
    packed: bytes = b""
    """Entries one behind the other, sorted by name."""

    @classmethod
    def of(cls, hour: int, entries: Iterable[tuple[bytes, Credit]]) -> Self:
        """Those entries, each name once, in the order of their names."""
        return cls(hour, b"".join(_ENTRY.pack(name, *one) for name, one in entries))

    @property
    def count(self) -> int:
        """How many nodes, or entities, it has credits of."""
        return len(self.packed) // _ENTRY.size

    def entries(self) -> Iterator[tuple[bytes, Credit]]:
        """Each name and its credit, sorted by name."""
        return ((name, Credit(*numbers)) for name, *numbers in _ENTRY.iter_unpack(self.packed))

    def witnessed(self) -> Iterator[tuple[bytes, int]]:
        """Each name and the MB that were seen, sorted by name; a third of the cost of `entries`."""
        return _WITNESSED.iter_unpack(self.packed)

    def get(self, name: bytes) -> Credit | None:
        """The credit of one name, if it has any; costs a binary search."""

        def name_at(number: int) -> bytes:
            return self.packed[_ENTRY.size * number : _ENTRY.size * number + _NAME_BYTES]

        at = bisect_left(range(self.count), name, key=name_at)
        if at == self.count or name_at(at) != name:
            return None
        return Credit(*_ENTRY.unpack_from(self.packed, _ENTRY.size * at)[1:])


class Tally(NamedTuple):
    """The window: its HOURs, oldest first, and the sum of each name. Never changed; `advance` makes the next one."""

    hours: tuple[HourCredits, ...] = ()
    sums: Mapping[bytes, Credit] = {}


def quorum(witnesses: int) -> int:
    """How many of so many witnesses have to report: five of nine, or more than half of fewer."""
    return witnesses // 2 + 1


def median(reported: Sequence[Work], witnesses: int) -> Work | None:
    """The median of each number, the lower of two, a witness that is missing counting as one that saw nothing.

    None when too few reported. A node puts its report together itself: were the missing left out of the count, three
    friends of nine would do to carry it, since it may leave out whom it likes.
    """
    if len(reported) < quorum(witnesses):
        return None
    all_of_them = [*reported, *[Work(0, 0, 0)] * (witnesses - len(reported))]
    middle = (len(all_of_them) - 1) // 2
    storage, relay, uptime = zip(*all_of_them, strict=True)
    return Work(sorted(storage)[middle], sorted(relay)[middle], sorted(uptime)[middle])


def credit(work: Work, votes: int, cap_mb: int, usual_mb: int) -> Credit:
    """A node's credit of an HOUR: min(cap, 3/2 × usual, seen) × uptime‰ × votes‰ ÷ 10⁶, in MB; or the floor.

    What was seen is storage + min(relay, storage/4). votes are the thousandths of its due votes that were included; 1000
    for who has none to give. usual_mb is of `usual`.
    """
    seen = min(cap_mb, work.storage + min(work.relay, work.storage // RELAY_SHARE))
    counted = min(seen, 3 * usual_mb // 2) * work.uptime * votes // PER_MILLE**2
    return Credit(counted, 0 if counted else 1, 1, work.uptime, seen)


def usual(tally: Tally, span: int) -> dict[bytes, int]:
    """The median of the MB that each node's witnesses saw in the last `span` HOURs of a tally, the lower of two.

    An HOUR without a report is one in which nothing was seen, or who reports its captured HOURs alone would be used to
    them: who is new, or was away for half of the span, begins at 0. Costs O(span × nodes).
    """
    seen = defaultdict[bytes, list[int]](list)
    for hour in tally.hours[-span:]:
        for name, mb in hour.witnessed():
            seen[name].append(mb)
    made = {}
    for name, numbers in seen.items():
        at = (span - 1) // 2 - (span - len(numbers))
        if at >= 0:
            made[name] = sorted(numbers)[at]
    return made


def settled(hour: int, earned: Iterable[tuple[bytes, Credit]]) -> HourCredits:
    """The credits of one HOUR, added up for each name, in any order."""
    sums: dict[bytes, Credit] = {}
    for name, one in earned:
        _add(sums, name, one, 1)
    return HourCredits.of(hour, sorted(sums.items()))


def spell(made: HourCredits) -> bytes:
    """The one spelling of an HOUR's credits: hour u64, then name ‖ work u64 ‖ floors u32 ‖ hours u32 ‖ uptime u32 ‖ witnessed u64."""
    return made.hour.to_bytes(_HOUR_BYTES, "big", signed=True) + made.packed


def read_spelled(data: bytes) -> HourCredits:
    """The credits that bytes spell; raises Malformed for what `spell` never makes."""
    if len(data) < _HOUR_BYTES or (len(data) - _HOUR_BYTES) % _ENTRY.size:
        raise Malformed("credits of no whole number of entries")
    made = HourCredits(int.from_bytes(data[:_HOUR_BYTES], "big", signed=True), data[_HOUR_BYTES:])
    if any(one >= other for (one, _), (other, _) in pairwise(made.witnessed())):
        raise Malformed("credits whose names are not ascending")
    return made


def advance(tally: Tally, latest: HourCredits, window_hours: int) -> Tally:
    """The tally after one more HOUR is settled; what is older than the window goes. Costs a copy of the sums."""
    hours = (*tally.hours, latest)
    sums = dict(tally.sums)
    for name, one in latest.entries():
        _add(sums, name, one, 1)
    while hours[0].hour <= latest.hour - window_hours:
        for name, one in hours[0].entries():
            _add(sums, name, one, -1)
        hours = hours[1:]
    return Tally(hours, sums)


def recompute(hours: Iterable[HourCredits]) -> Tally:
    """The tally of a window from its HOURs alone, as a node makes it that begins at a checkpoint; 10,000 × 168 in seconds."""
    kept = tuple(hours)
    sums: dict[bytes, list[int]] = {}
    for hour in kept:
        for name, (work, floors, reported, uptime, witnessed) in hour.entries():
            sofar = sums.get(name)
            if sofar is None:
                sums[name] = [work, floors, reported, uptime, witnessed]
            else:
                sofar[0] += work
                sofar[1] += floors
                sofar[2] += reported
                sofar[3] += uptime
                sofar[4] += witnessed
    return Tally(kept, {name: Credit(*numbers) for name, numbers in sums.items()})


def _add(sums: dict[bytes, Credit], name: bytes, one: Credit, sign: int) -> None:
    work, floors, hours, uptime, witnessed = sums.get(name, _NOTHING)
    after = Credit(
        work + sign * one.work,
        floors + sign * one.floors,
        hours + sign * one.hours,
        uptime + sign * one.uptime,
        witnessed + sign * one.witnessed,
    )
    if after == _NOTHING:
        sums.pop(name, None)
    else:
        sums[name] = after


def of_entities(sums: Mapping[bytes, Credit], entity_of: Mapping[NodeId, bytes]) -> dict[bytes, Credit]:
    """The sums of entities from those of their nodes; a node that is in no entity counts for none (CONSENSUS §10)."""
    made: dict[bytes, Credit] = {}
    for node, entity in entity_of.items():
        if node in sums:
            _add(made, entity, sums[node], 1)
    return made


def live_ppm(led: int, misses: int) -> int:
    """The liveScore of who led so many slots in the window and missed so many: 1 for no miss and one, then the part it led.

    (19 + led) ÷ (19 + led + misses − 1), so the second miss of a newcomer costs a twentieth. A part and not a number: who
    leads often misses often, and counted in numbers the same work led four times as often once it was split.
    """
    kept = LED_PRIOR + led
    return max(LIVE_MIN_PPM, PPM * kept // (kept + max(0, misses - 1)))


def weights(sums: Mapping[bytes, Credit], live: Mapping[bytes, int]) -> dict[bytes, int]:
    """Each entity's weight in the draw, from its credits and its liveScore in ppm; of those with a liveScore only.

    All floors together weigh a twentieth at most. While nobody's work counts all are alike.
    """
    counted = {entity: sums[entity] for entity in live if entity in sums}
    total = sum(one.work for one in counted.values())
    floors = sum(one.floors for one in counted.values())
    if total == 0:
        return dict(live)
    part, whole = (total, (FLOORS_SHARE - 1) * floors) if (FLOORS_SHARE - 1) * floors > total else (1, 1)
    return {
        entity: live[entity] * one.work + live[entity] * one.floors * part // whole for entity, one in counted.items()
    }
