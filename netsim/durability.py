"""Chunks over a year: holders depart for good, fresh nodes take their places, and replication has to keep up.

    a day to place every chunk ── owners go away ──→ departures, repairs and registry changes until the run ends

Every node runs the daemon's replication (netsim.keeper) on links that carry and dial at once: what decides here takes
hours. `departures` per cent of the holders leave within a month, each after an exponential lifetime, and a fresh one with
an identity of its own joins at once; the registry tells of either at the next ERA. Nobody else is ever away, and no
disk is damaged. Owners hold nothing and never depart; `owners_online` per cent of them stay, the others leave when their
chunks are placed. An owner that stays can encode every replica again, so its chunks cannot be lost.

Source: DESIGN §5 (at 20 % a month at most 1e-3 lost chunk-years), CONSENSUS §4.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from consensus.placement import REPLICAS
from netsim.census import Census, poisson_bounds
from netsim.checks import Broken, Check, FaultsTook, Report, TimeForward
from netsim.faults import apply
from netsim.population import PLACING_MS, KeySource, Population
from netsim.tape import Recipe
from netsim.world import World
from node.overlay.custody import HOUR_MS, ReplicateLimits

SAMPLES: Final = 240
MENDING_MS: Final = 24 * HOUR_MS
"""What finding the next holder and copying may take on top of noticing."""


class Senseless(Exception):
    """These options make no world; the sentence says which, and what they may be."""


class Mended:
    """A chunk that has a copy left is back at three within the repair time and a day after the last departure.

    Judged from the ERA's beginning on, and while half of its registry lives: else nobody may be left to take a copy.
    """

    def __init__(self, population: Population, bound_ms: int) -> None:
        self.population, self.census, self.bound_ms = population, population.census, bound_ms

    def watch(self, world: World, report: Report) -> None:
        """Look four times a day."""
        world.every(6 * HOUR_MS, lambda: self._look(world, report))

    def end(self, world: World, report: Report) -> None:
        """Look once more."""
        self._look(world, report)

    def _look(self, world: World, report: Report) -> None:
        census, population = self.census, self.population
        due = world.now - self.bound_ms
        if population.registered > due or 2 * population.living() < len(population.registry):
            return
        for chunk, gone in census.gone.items():
            if gone and gone[-1] < due and 0 < len(census.holders[chunk]) < REPLICAS:
                hours = (world.now - gone[-1]) // HOUR_MS
                report(-1, f"{hours} hours after the last departure {chunk.hex()[:8]} is still short of a copy")
                return


class AllPlaced:
    """Every chunk has its three holders before the first departs."""

    def __init__(self, census: Census) -> None:
        self.census = census

    def watch(self, world: World, report: Report) -> None:
        """Look when the day of placing is over."""
        world.at(self.census.begun + PLACING_MS, lambda: self._look(report))

    def end(self, world: World, report: Report) -> None:
        """Nothing is left to look at."""

    def _look(self, report: Report) -> None:
        short = sum(len(held) < REPLICAS for held in self.census.holders.values())
        if short:
            report(-1, f"{short} chunks have not found {REPLICAS} holders within {PLACING_MS // HOUR_MS} hours")


class Target:
    """The losses do not contradict the target: its rate is not below the 95 % bound of the rate that was seen."""

    def __init__(self, census: Census, ppm: int) -> None:
        self.census, self.ppm = census, ppm

    def watch(self, world: World, report: Report) -> None:
        """Nothing is needed while it runs."""

    def end(self, world: World, report: Report) -> None:
        """Judge the count."""
        del world
        numbers = self.census.numbers()
        years, lost = numbers["chunk_years"], numbers["lost"]
        if self.ppm and lost and poisson_bounds(lost)[0] > self.ppm / 1e6 * years:
            report(-1, f"{lost} chunks lost in {years} chunk-years, and {self.ppm} in a million are the target")


class DurabilityStage:
    """A world of keepers that is set up to run: with its measures and its checks."""

    def __init__(self, population: Population, checks: Sequence[Check]) -> None:
        self.population, self.checks = population, checks
        self.world, self.measures = population.world, population.census
        self.broken: Broken | None = None


def challenge_hours(options: Mapping[str, int]) -> int:
    """HOURs between two challenges: as asked for, or an eighth of the repair time."""
    return options["challenge_h"] or max(1, options["repair_h"] // 8)


def limits_of(options: Mapping[str, int]) -> ReplicateLimits:
    """Replication's limits under the options; raises Senseless."""
    wrong = [
        f"departures is {options['departures']}: per cent that leave within a month, below 100"
        if options["departures"] >= 100
        else "",
        f"owners_online is {options['owners_online']}: per cent" if options["owners_online"] > 100 else "",
        "repair_h and chunks are at least 1" if options["repair_h"] < 1 or options["chunks"] < 1 else "",
    ]
    every = challenge_hours(options)
    if 2 * every > max(2, options["repair_h"]):
        wrong.append(f"challenge_h is {every}: two challenges have to fit into the repair time")
    if any(wrong):
        raise Senseless("; ".join(filter(None, wrong)))
    daily = -(-24 // every) * every
    return ReplicateLimits(challenge_hours=every, sync_hours=daily, repair_ms=options["repair_h"] * HOUR_MS)


def stage(recipe: Recipe, recorded: Iterable[int] = (), *, keys: KeySource | None = None) -> DurabilityStage:
    """The world of a recipe with everything scheduled; real signatures when keys are given. Raises Senseless."""
    options = {key: int(value) for key, value in recipe.options}
    if recipe.nodes < REPLICAS + 1:
        raise Senseless(f"{recipe.nodes} nodes cannot replace one of {REPLICAS} holders: {REPLICAS + 1} are the least")
    limits = limits_of(options)
    everybody = Population(recipe.seed, options, limits, keys)
    everybody.settle(recipe.nodes, recorded)
    everybody.own()
    world, census = everybody.world, everybody.census
    census.watch(max(HOUR_MS, recipe.duration_ms // SAMPLES))
    apply(world, recipe.plan)
    bound = limits.repair_ms + MENDING_MS
    checks: list[Check] = [
        TimeForward(24 * HOUR_MS),
        AllPlaced(census),
        Mended(everybody, bound),
        Target(census, options["target_ppm"]),
    ]
    if recipe.plan.faults:
        checks.append(FaultsTook(recipe.plan))
    return DurabilityStage(everybody, checks)


def build(recipe: Recipe, recorded: Iterable[int]) -> tuple[World, Sequence[Check]]:
    """What netsim.tape needs to run a recipe again."""
    made = stage(recipe, recorded)
    return made.world, made.checks
