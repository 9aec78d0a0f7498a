"""What several seeds say together: a mean with its interval, and whether two sets of runs differ by more than luck.

    figures of n seeds ── `estimate` ──→ mean, 95 % interval          two sets ── `chance` ──→ how often luck alone differs as much

A permutation test asks nothing of how figures are distributed: under luck alone a run could as well have been the other side's.
Where both sides ran the same seeds, pairs are turned over; else runs change sides. Many figures are many chances to be lucky,
so chances are corrected by Holm's method. Source: Fisher (1935); Holm (1979); Student's quantiles as printed in any table.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Final, NamedTuple

from netsim.seeds import derive

EXACT_MAX: Final = 20_000
"""Orders that are tried one by one; of more, so many are drawn."""
LEVEL: Final = 0.05
_STUDENT: Final = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""The 97.5 % quantiles for 1 to 30 degrees of freedom; beyond them the normal distribution's 1.96 is 4 % short at the most."""


class Estimate(NamedTuple):
    """A figure over several seeds."""

    seeds: int
    mean: float
    low: float
    high: float
    """The 95 % interval of the mean, if seeds are alike; of one seed it is the figure itself."""
    least: float
    most: float


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of at least one value, with its interval."""
    count, mean = len(values), statistics.fmean(values)
    if count == 1:
        return Estimate(1, mean, mean, mean, mean, mean)
    quantile = _STUDENT[count - 2] if count - 2 < len(_STUDENT) else statistics.NormalDist().inv_cdf(0.975)
    half = quantile * statistics.stdev(values) / math.sqrt(count)
    return Estimate(count, mean, mean - half, mean + half, min(values), max(values))


def chance(a: Sequence[float], b: Sequence[float], *, paired: bool) -> float:
    """How often luck alone makes the means differ by as much; 1 for no difference. Paired values are of one seed each.

    Exact up to EXACT_MAX orders, else from as many that are drawn, always the same ones.
    """
    if paired:
        return _turned([one - other for one, other in zip(a, b, strict=True)])
    return _exchanged(a, b)


def _turned(differences: Sequence[float]) -> float:
    seen, count = abs(math.fsum(differences)), len(differences)
    if 2**count <= EXACT_MAX:
        signs = list(product((1, -1), repeat=count))
    else:
        rng = derive(count, "turned")
        signs = [tuple(rng.choice((1, -1)) for _ in range(count)) for _ in range(EXACT_MAX)]
    sums = [abs(math.fsum(sign * one for sign, one in zip(order, differences, strict=True))) for order in signs]
    return _share(sums, seen, exact=2**count <= EXACT_MAX)


def _exchanged(a: Sequence[float], b: Sequence[float]) -> float:
    whole, size = [*a, *b], len(a)
    total, seen = math.fsum(whole), abs(statistics.fmean(a) - statistics.fmean(b))
    orders = math.comb(len(whole), size)

    def apart(chosen: Sequence[float]) -> float:
        part = math.fsum(chosen)
        return abs(part / size - (total - part) / (len(whole) - size))

    if orders <= EXACT_MAX:
        found = [apart(chosen) for chosen in combinations(whole, size)]
    else:
        rng = derive(len(whole), "exchanged")
        found = [apart(rng.sample(whole, size)) for _ in range(EXACT_MAX)]
    return _share(found, seen, exact=orders <= EXACT_MAX)


def _share(found: Sequence[float], seen: float, *, exact: bool) -> float:
    """Of all orders, or of those drawn and the one that was seen."""
    as_far = sum(one >= seen or math.isclose(one, seen, rel_tol=1e-9, abs_tol=1e-12) for one in found)
    return as_far / len(found) if exact else (as_far + 1) / (len(found) + 1)


def holm(chances: Mapping[str, float]) -> dict[str, float]:
    """Chances as they are when so many figures were looked at: each times those that are no smaller, in order, 1 at the most."""
    corrected: dict[str, float] = {}
    worst = 0.0
    for place, name in enumerate(sorted(chances, key=lambda one: (chances[one], one))):
        worst = max(worst, min(1.0, chances[name] * (len(chances) - place)))
        corrected[name] = worst
    return {name: corrected[name] for name in chances}


def least_chance(a: int, b: int, *, paired: bool) -> float:
    """The smallest chance that so many runs can show, before it is corrected."""
    return 2 / 2**a if paired else (2 if a == b else 1) / math.comb(a + b, a)


def seeds_needed(looked_at: int) -> int:
    """How many paired seeds can show a difference where so many figures are looked at."""
    return next(seeds for seeds in range(1, 64) if least_chance(seeds, seeds, paired=True) * looked_at < LEVEL)
