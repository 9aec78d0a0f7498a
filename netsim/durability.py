"""Chunks over a year: holders depart for good, fresh nodes take their places, and replication has to keep up.

    a day or two to place every chunk ── owners go away ──→ departures, repairs and registry changes until the run ends

Every node runs the daemon's replication (netsim.keeper) on links that carry and dial at once: what decides here takes
hours. `departures` per cent of the holders leave within a month, each after an exponential lifetime, and a fresh one with
an identity of its own joins at once; the registry tells of either at the next ERA. Nobody else is ever away, and no
disk is damaged. `liars` per cent of the holders lie in ways that challenges find out, `withholders` per cent in one that
they cannot (netsim.liars); 10 and 0 are assumptions. Owners hold nothing and never depart; `owners_online` per cent of them stay, the others leave when their
chunks are placed. An owner that stays can encode every replica again, so its chunks cannot be lost.

Source: DESIGN §5 (at 20 % a month at most 1e-3 lost chunk-years), CONSENSUS §4.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from consensus.merkle import segment_root
from consensus.placement import REPLICAS
from netsim.census import Census, poisson_bounds
from netsim.checks import Broken, Check, FaultsTook, Report, TimeForward
from netsim.faults import apply
from netsim.keeper import replica
from netsim.liars import LIARS_MAX, SERVED, SHOWN, TURN_MS, LyingDisk
from netsim.population import PLACING_MS, KeySource, Population
from netsim.tape import Recipe
from netsim.world import World
from node.overlay.custody import HOUR_MS, Challenged, ReplicateLimits, Stored

SAMPLES: Final = 240
MENDING_MS: Final = 24 * HOUR_MS
"""What finding the next holder and copying may take on top of noticing."""


class Senseless(Exception):
    """These options make no world; the sentence says which, and what they may be."""


class Mended:
    """A chunk that has a copy left is back at three within the repair time and a day after the last departure.

    A liar that found belief since then counts like a departure, two days later: for so long it may show the truth. Judged from the ERA's beginning on, and while half of its registry lives: else nobody may be left to take a copy.
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
        for chunk, last in census.stirred.items():
            if last < due and census.holders[chunk] and census.lasting(chunk) < REPLICAS:
                hours = (world.now - last) // HOUR_MS
                report(-1, f"{hours} hours after the last departure or lie {chunk.hex()[:8]} is still short of a copy")
                return


class AllPlaced:
    """Every chunk has its three holders, who may lie, before the first departs."""

    def __init__(self, census: Census) -> None:
        self.census = census

    def watch(self, world: World, report: Report) -> None:
        """Look when the day of placing is over."""
        world.at(self.census.begun + PLACING_MS, lambda: self._look(report))

    def end(self, world: World, report: Report) -> None:
        """Nothing is left to look at."""

    def _look(self, report: Report) -> None:
        census = self.census
        short = sum(len(held) + len(census.claims[chunk]) < REPLICAS for chunk, held in census.holders.items())
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


class NothingFalseBelieved:
    """Who is true signs for the very bytes that were placed, and takes no answer that is false."""

    def __init__(self, population: Population) -> None:
        self.population = population

    def watch(self, world: World, report: Report) -> None:
        """Hear of each receipt and each answer."""
        disks = self.population.disks

        def stored(_now: int, index: int, fact: Stored) -> None:
            disk, data = disks[world.nodes[index].id], replica(fact.chunk, fact.j)
            if not isinstance(disk, LyingDisk) and disk.get(segment_root(data)) != data:
                report(index, f"it has signed for replica {fact.j} of {fact.chunk.hex()[:8]}, and holds other bytes")

        def challenged(now: int, index: int, fact: Challenged) -> None:
            disk = disks[fact.holder]
            if fact.passed and isinstance(disk, LyingDisk):
                turned = disk.turned.get(segment_root(replica(fact.chunk, fact.j)), now)
                if turned < now - self.population.limits.answer_ms:
                    report(index, f"it took a false answer for replica {fact.j} of {fact.chunk.hex()[:8]}")

        world.on_fact(Stored, stored)
        world.on_fact(Challenged, challenged)

    def end(self, world: World, report: Report) -> None:
        """Nothing is left to look at."""


class LiesTold:
    """There were liars, and they lied: a run in which nobody did shows nothing about lies."""

    def __init__(self, options: Mapping[str, int]) -> None:
        self.options = options

    def watch(self, world: World, report: Report) -> None:
        """Nothing is needed while it runs."""

    def end(self, world: World, report: Report) -> None:
        """Count."""
        for sort, lie in (("liars", SHOWN), ("withholders", SERVED)):
            if self.options[sort] and not world.counts[lie]:
                report(-1, f"{self.options[sort]} per cent of the holders are {sort}, and there were no {lie}")


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
        *(
            f"{sort} is {options[sort]}: per cent of the holders, at most {LIARS_MAX}"
            for sort in ("liars", "withholders")
            if options[sort] > LIARS_MAX
        ),
        "repair_h and chunks are at least 1" if options["repair_h"] < 1 or options["chunks"] < 1 else "",
    ]
    every = challenge_hours(options)
    if 2 * every > max(2, options["repair_h"]):
        wrong.append(f"challenge_h is {every}: two challenges have to fit into the repair time")
    if any(wrong):
        raise Senseless("; ".join(filter(None, wrong)))
    return ReplicateLimits(challenge_hours=every, repair_ms=options["repair_h"] * HOUR_MS)


def stage(recipe: Recipe, recorded: Iterable[int] = (), *, keys: KeySource | None = None) -> DurabilityStage:
    """The world of a recipe with everything scheduled; real signatures when keys are given. Raises Senseless."""
    options = {key: int(value) for key, value in recipe.options}
    if recipe.nodes < REPLICAS + 1:
        raise Senseless(f"{recipe.nodes} nodes cannot replace one of {REPLICAS} holders: {REPLICAS + 1} are the least")
    limits = limits_of(options)
    for sort in ("liars", "withholders"):
        if 0 < recipe.nodes * options[sort] < 100:
            raise Senseless(f"{options[sort]} per cent of {recipe.nodes} nodes are no {sort}; 0 stands for none")
    everybody = Population(recipe.seed, options, limits, keys)
    if recipe.duration_ms < everybody.settled_ms + 2 * HOUR_MS:
        raise Senseless(
            f"with liars it takes {everybody.settled_ms // HOUR_MS + 2} hours at least, to place and to find out"
        )
    everybody.settle(recipe.nodes, recorded)
    everybody.own()
    world, census = everybody.world, everybody.census
    census.watch(max(HOUR_MS, recipe.duration_ms // SAMPLES))
    apply(world, recipe.plan)
    bound = limits.repair_ms + MENDING_MS + (TURN_MS if options["liars"] else 0)
    checks: list[Check] = [
        TimeForward(24 * HOUR_MS),
        AllPlaced(census),
        Mended(everybody, bound),
        Target(census, options["target_ppm"]),
        NothingFalseBelieved(everybody),
        LiesTold(options),
    ]
    if recipe.plan.faults:
        checks.append(FaultsTook(recipe.plan))
    return DurabilityStage(everybody, checks)


def build(recipe: Recipe, recorded: Iterable[int]) -> tuple[World, Sequence[Check]]:
    """What netsim.tape needs to run a recipe again."""
    made = stage(recipe, recorded)
    return made.world, made.checks
