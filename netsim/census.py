"""How many copies of each chunk there are, for how long, and what that says about losses.

A copy is a replica whose holder has signed for it, has not departed and is true: what a liar signs for is a claim, and no
copy even while it shows the truth. A chunk is lost when its last copy departs while its owner is away. Losses are rare, so
they are told in two ways:

* counted, with the exact 95 % bounds of a Poisson count (Garwood, 1936: one-sided each);
* expected: holders depart independently and without memory, so the chance that a chunk with one copy is lost in dt is
  exactly dt / mean lifetime. The sum over all time that chunks had but one copy estimates the same number without bias,
  from far more cases; its standard error is taken between stretches of time.

Chunks that share holders are lost together, so with few nodes for many chunks the losses cluster: bounds and error are
then somewhat too narrow.

closed_form says what to expect: a holder departs (rate 3/L), and both others follow before the repair, at T, is done.
"""

from collections import Counter, deque
from dataclasses import dataclass
from math import exp, sqrt
from typing import Any, Final

from consensus.ids import Digest
from consensus.placement import REPLICAS
from netsim.liars import SERVED, SHOWN, THROWN
from netsim.world import World
from node.overlay.custody import Challenged, Discard, Repaired, RepairStarted, Stored, Uncounted, Unplaced
from node.overlay.machine import Rejected

YEAR_MS: Final = 365 * 86_400_000
COPIES_SHOWN: Final = 4
"""Chunks with that many copies or more are one class."""


@dataclass(frozen=True, slots=True)
class Copies:
    """The chunks at a moment."""

    day: float
    nodes: int
    none: int
    one: int
    two: int
    three: int
    more: int
    repairs: int
    last_copy_ms: int
    """Chunk-milliseconds so far with a single copy, that no online owner could replace."""


class Census:
    """All copies of all chunks, kept up to date by what the nodes note."""

    def __init__(self, world: World, begun: int, mean_ms: int | None) -> None:
        """mean_ms is the mean lifetime of a holder, None when nobody departs."""
        self.world, self.begun, self.mean_ms = world, begun, mean_ms
        self.holders: dict[Digest, dict[int, None]] = {}
        self.held: dict[int, dict[Digest, None]] = {}
        self.guarded: dict[Digest, bool] = {}  # whether the owner of a chunk stays online
        self.since: dict[Digest, int] = {}  # until when a chunk's time is booked
        self.spent: Counter[int] = Counter()  # chunk-milliseconds with so many copies
        self.last_copy_ms = 0
        self.gone: dict[Digest, deque[int]] = {}  # when the copies departed that nobody has replaced yet
        self.liars: dict[int, bool] = {}  # and whether challenges find each out
        self.claims: dict[Digest, dict[int, None]] = {}
        self.claimed: dict[int, dict[Digest, None]] = {}
        self.stirred: dict[Digest, int] = {}  # when something last left a chunk short: a departure, a claim
        self.losses: list[tuple[int, Digest]] = []
        self.repairs_ms: list[int] = []
        self.samples: list[Copies] = []
        self.rejections: Counter[str] = Counter()
        self.uncounted: Counter[str] = Counter()
        self.answers: Counter[bool] = Counter()  # challenges, passed or not
        self.stored = self.departed = 0
        self.observed: int | None = None

    def chunk(self, chunk: Digest, *, guarded: bool) -> None:
        """One more chunk, of which there is no copy yet."""
        self.holders[chunk], self.guarded[chunk], self.gone[chunk], self.claims[chunk] = {}, guarded, deque(), {}

    def distrust(self, node: int, *, is_found_out: bool) -> None:
        """A holder that lies, and whether challenges find it out."""
        self.liars[node] = is_found_out

    def lasting(self, chunk: Digest) -> int:
        """Copies, and claims that nobody can find out."""
        return len(self.holders[chunk]) + sum(not self.liars[node] for node in self.claims[chunk])

    def watch(self, every_ms: int) -> None:
        """Begin to follow the nodes."""
        world = self.world
        world.on_fact(Stored, self._stored)
        world.on_fact(Repaired, lambda now, _node, fact: self._stir(now, fact.chunk, world.by_id[fact.new].index))
        world.on_fact(Discard, lambda _now, node, fact: self._released(node, fact.chunk))
        world.on_fact(Rejected, lambda _now, _node, fact: self.rejections.update([fact.reason]))
        world.on_fact(Uncounted, lambda _now, _node, fact: self.uncounted.update([fact.reason]))
        world.on_fact(Challenged, lambda _now, _node, fact: self.answers.update([fact.passed]))
        world.every(every_ms, self.sample)

    def observe(self) -> None:
        """Count from now on."""
        self.observed = self.world.now
        self.stored = 0
        self.answers.clear()
        self.since = dict.fromkeys(self.holders, self.observed)
        for chunk in self.holders:
            self._left(chunk)

    def _passed(self, chunk: Digest) -> None:
        """Book the time that a chunk has spent with the copies that it had until now."""
        if self.observed is None or chunk not in self.since:
            return
        span, copies = self.world.now - self.since[chunk], len(self.holders[chunk])
        self.since[chunk] = self.world.now
        self.spent[copies] += span
        if copies == 1 and not self.guarded[chunk]:
            self.last_copy_ms += span

    def _stored(self, now: int, node: int, fact: Any) -> None:
        chunk = fact.chunk
        self.stored += 1
        if node in self.liars:
            self.claims[chunk][node] = None
            self.claimed.setdefault(node, {})[chunk] = None
            self._stir(now, chunk, node)
            return
        self._passed(chunk)
        self.holders[chunk][node] = None
        self.held.setdefault(node, {})[chunk] = None
        if self.gone[chunk]:
            self.repairs_ms.append(now - self.gone[chunk].popleft())

    def _stir(self, now: int, chunk: Digest, node: int) -> None:
        """A liar has found belief, perhaps once more."""
        if node in self.liars:
            self.stirred[chunk] = now

    def _left(self, chunk: Digest) -> None:
        """Book the loss if no copy is left and nobody can make one."""
        if chunk in self.since and not self.holders[chunk] and not self.guarded[chunk]:
            self.losses.append((self.world.now, chunk))
            del self.since[chunk]

    def _released(self, node: int, chunk: Digest) -> None:
        if node in self.claims.get(chunk, ()):
            del self.claims[chunk][node], self.claimed[node][chunk]
        if node in self.holders.get(chunk, ()):
            self._passed(chunk)
            del self.holders[chunk][node], self.held[node][chunk]
            self._left(chunk)

    def depart(self, node: int) -> None:
        """A holder has left for good, with all that it held."""
        self.departed += 1
        for chunk in self.claimed.pop(node, {}):
            del self.claims[chunk][node]
            self.stirred[chunk] = self.world.now
        for chunk in self.held.pop(node, {}):
            self._passed(chunk)
            left = self.holders[chunk]
            del left[node]
            self.stirred[chunk] = self.world.now
            if len(left) < REPLICAS:
                self.gone[chunk].append(self.world.now)
            self._left(chunk)

    def sample(self) -> None:
        """Look at all chunks."""
        for chunk in self.holders:
            self._passed(chunk)
        count = Counter(min(len(held), COPIES_SHOWN) for held in self.holders.values())
        up = sum(node.up for node in self.world.nodes)
        day = (self.world.now - self.begun) / 86_400_000
        none, one, two, three, more = (count[copies] for copies in range(COPIES_SHOWN + 1))
        repairs = len(self.repairs_ms)
        self.samples.append(Copies(day, up, none, one, two, three, more, repairs, self.last_copy_ms))

    def numbers(self) -> dict[str, Any]:
        """What was measured, as JSON has it; years are chunk-years."""
        for chunk in self.holders:
            self._passed(chunk)
        years = sum(self.spent.values()) / YEAR_MS
        lost = len(self.losses)
        low, high = poisson_bounds(lost)
        facts = self.world.facts
        numbers: dict[str, Any] = {
            "chunks": len(self.holders),
            "chunk_years": round(years, 3),
            "lost": lost,
            "lost_a_year": _rate(lost, years),
            "lost_a_year_95": [_rate(low, years), _rate(high, years)],
            "departed": self.departed,
            "copies_made": self.stored,
            "lies": {name: self.world.counts[name] for name in (THROWN, SHOWN, SERVED)},
            "repairs": len(self.repairs_ms),
            "repair_h": quantiles(self.repairs_ms),
            "repairs_started": facts[RepairStarted],
            "repaired": facts[Repaired],
            "unplaced": facts[Unplaced],
            "years_with_copies": {str(copies): round(ms / YEAR_MS, 5) for copies, ms in sorted(self.spent.items())},
        }
        if self.mean_ms is not None:
            expected, error = self.expected()
            numbers["lost_expected"] = round(expected, 4)
            numbers["lost_a_year_expected"] = _rate(expected, years)
            numbers["lost_a_year_expected_error"] = _rate(error, years)
            if self.repairs_ms:
                mean = sum(self.repairs_ms) / len(self.repairs_ms)
                numbers["lost_a_year_closed_form"] = float(f"{closed_form(self.mean_ms, mean):.3g}")
        return numbers

    def expected(self) -> tuple[float, float]:
        """The losses that the time on last copies makes expect, and their standard error."""
        if self.mean_ms is None:
            return 0.0, 0.0
        steps = [b.last_copy_ms - a.last_copy_ms for a, b in zip(self.samples, self.samples[1:], strict=False)]
        mean = sum(steps) / max(1, len(steps))
        spread = sqrt(sum((step - mean) ** 2 for step in steps))
        return self.last_copy_ms / self.mean_ms, spread / self.mean_ms


def _rate(count: float, years: float) -> float | None:
    return float(f"{count / years:.3g}") if years else None


def quantiles(spans_ms: list[int]) -> dict[str, float] | None:
    """Median, 90th and 99th of 100, greatest and mean, in hours; None of nothing."""
    if not spans_ms:
        return None
    ranked = sorted(spans_ms)
    at = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
    found = {name: ranked[min(len(ranked) - 1, len(ranked) * share // 100)] for name, share in at.items()}
    return {name: round(ms / 3_600_000, 2) for name, ms in (*found.items(), ("mean", sum(ranked) // len(ranked)))}


def closed_form(mean_ms: float, repair_ms: float) -> float:
    """Losses a chunk-year when holders live for mean_ms, exponentially, and each departure is repaired after repair_ms.

    3λ · ∫₀ᵀ 2λ · λ(T − s) ds = 3λ · (λT)², for λT far below 1. With repairs that last exponentially it would be twice as much.
    """
    return REPLICAS * YEAR_MS / mean_ms * (repair_ms / mean_ms) ** 2


def poisson_bounds(count: int, miss: float = 0.05) -> tuple[float, float]:
    """The means below and above which so few, or so many, events come with a chance of `miss`; counts up to some 500."""
    return _solve(count - 1, 1 - miss) if count else 0.0, _solve(count, miss)


def _solve(count: int, chance: float) -> float:
    """The mean of a Poisson variable that is at most count with that chance, by halving an interval."""
    low, high = 0.0, 20.0 + 2.0 * count
    for _ in range(60):
        middle = (low + high) / 2
        term = total = exp(-middle)
        for number in range(1, count + 1):
            term *= middle / number
            total += term
        low, high = (middle, high) if total > chance else (low, middle)
    return high
