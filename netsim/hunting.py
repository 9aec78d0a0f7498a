"""Swarm testing: random small worlds under random fault plans, for as long as one likes; what breaks is shrunk and kept.

    seed, number ──→ scenario, size, options, faults (all over before the network is left to settle) ──→ run under its checks
                          └── broken? ── the plan shrunk by delta debugging ──→ a tape that runs again, exactly

Each world leaves out some kinds of faults and repeats others, so that rare combinations come up (Groce et al., Swarm Testing,
ISSTA 2012). World number k of a seed is the same whatever ran before it: what a hunt finds is found again by `--world k`.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from netsim import tape
from netsim.checks import Broken
from netsim.faults import Crash, Cut, DriftClock, Fault, Freeze, MassRestart, Plan, StepClock, complaints
from netsim.scenarios import MINUTE, Scenario, named, recipe
from netsim.seeds import derive
from netsim.tape import Build, Recipe

SHRINK_RUNS: Final = 40
VACUOUS: Final = frozenset({"FaultsTook", "LinksTook", "LiesTold", "AttackTook", "Filled"})
"""Checks that say that a run proves little, since what was to happen in it did not, or how many slots have a block, which faults lower."""
FAULTS_MAX: Final = 12
HOUR_MS: Final = 60 * MINUTE


class Ground(NamedTuple):
    """A scenario that is hunted in: how large its worlds are, and what in its options is drawn."""

    scenario: str
    nodes: tuple[int, int]
    minutes: int
    options: tuple[tuple[str, tuple[int, int]], ...] = ()
    takes_faults: bool = True


GROUNDS: Final = (
    Ground("bootstrap", (4, 14), 32, (("messages", (1, 40)), ("look_ups", (0, 0)), ("join_s", (1, 60)))),
    Ground("lossy", (4, 12), 32, (("messages", (1, 30)), ("look_ups", (0, 0)), ("loss", (0, 200)), ("doubled", (0, 200)), ("overtaken", (0, 300)))),
    Ground("replay", (8, 14), 32, (("messages", (1, 30)), ("look_ups", (0, 0)), ("adversaries", (100, 300)))),
    Ground("spam", (8, 14), 32, (("messages", (1, 30)), ("look_ups", (0, 0)), ("adversaries", (100, 300)))),
    Ground("agree-steady", (3, 9), 10 * 60),
    Ground("agree-equivocate", (5, 9), 10 * 60, (("crooked", (10, 30)),), takes_faults=False),
    Ground("agree-partition", (4, 9), 12 * 60, (("share", (26, 45)), ("times", (1, 4)))),
    Ground("gossip-cold-boot", (12, 20), 4, (("sybils", (20, 200)), ("rate", (20, 60)), ("links", (1, 20))), takes_faults=False),
    Ground("durability", (14, 24), 12 * 24 * 60, (("chunks", (4, 12)), ("departures", (5, 40)), ("liars", (0, 0))), takes_faults=False),
)  # fmt: skip


class Prey(NamedTuple):
    """What one world showed."""

    world: int
    recipe: Recipe
    broken: Broken | None
    events: int

    @property
    def is_found(self) -> bool:
        """Whether an invariant of the protocol broke."""
        return self.broken is not None and self.broken.check not in VACUOUS


def drawn(seed: int, number: int) -> Recipe:
    """World number k of a hunt: scenario, size, options and faults."""
    rng = derive(seed, "hunt", number)
    ground = rng.choice(GROUNDS)
    scenario, nodes = named(ground.scenario), rng.randint(*ground.nodes)
    options = {name: str(rng.randint(*span)) for name, span in ground.options}
    plain = recipe(scenario, nodes, rng.randrange(1 << 32), ground.minutes, options, Plan())
    if not ground.takes_faults:
        return plain
    torn = ("", "lost", "half") if scenario.kind == "overlay" else ("",)
    faults = _faults(rng, nodes, torn, *_window(scenario, plain))
    plan = Plan((*plain.plan.faults, *faults))
    while complaints(plan, nodes):  # what contradicts itself is drawn again, fault by fault
        faults = faults[:-1]
        plan = Plan((*plain.plan.faults, *faults))
    return Recipe(plain.scenario, plain.seed, nodes, plain.duration_ms, plain.options, plan)


def _window(scenario: Scenario, what: Recipe) -> tuple[int, int]:
    """When faults may be: after everybody has joined, and over long before the end."""
    if scenario.kind == "agreement":
        return HOUR_MS, what.duration_ms - 4 * HOUR_MS
    joined = dict(what.options).get("join_s", 60)
    return int(joined) * 1_000 + 3 * MINUTE, what.duration_ms - 18 * MINUTE


def _faults(rng: Random, nodes: int, torn: Sequence[str], first: int, last: int) -> tuple[Fault, ...]:
    """Some faults of some kinds; all of them are over at the end of the window.

    Last writes are torn where the machine answers for its rows; the consensus's journal is the store's to keep whole.
    """
    kinds = rng.sample(("crash", "freeze", "step", "drift", "cut", "mass"), rng.randint(1, 4))
    made: list[Fault] = []
    for turn in range(rng.randint(0, FAULTS_MAX)):
        at = rng.randrange(first, max(first + 1, last))
        room = max(1_000, last - at)
        span = rng.randint(500, max(501, min(room, 4 * MINUTE)))
        node = rng.randrange(nodes)
        match rng.choice(kinds):
            case "crash":
                made.append(Crash(node, at, span, rng.choice(torn)))
            case "freeze":
                made.append(Freeze(node, at, min(span, 60_000)))
            case "step":
                made.append(StepClock(node, at, rng.choice((-1, 1)) * rng.randint(1, 4_000)))
            case "drift":
                made.append(DriftClock(node, at, rng.randint(-100, 100)))
            case "mass":
                made.append(MassRestart(at, rng.randint(100, 600), span, rng.randint(0, 10_000)))
            case _:
                side = tuple(sorted(rng.sample(range(nodes), rng.randint(1, nodes - 1))))
                rest = tuple(one for one in range(nodes) if one not in side)
                made.append(Cut(f"cut {turn}", at, side, rest, span))
    return tuple(sorted(made, key=lambda fault: fault.at))


def hunt(
    seed: int, worlds: Sequence[int] | None, minutes: float, build: Build, tell: Callable[[Prey], None]
) -> list[Prey]:
    """Try worlds one after the other, those named or as many as fit into the time; what broke."""
    until, found, number = time.monotonic() + 60 * minutes, list[Prey](), 0
    while (number < len(worlds)) if worlds is not None else time.monotonic() < until:
        which = number if worlds is None else worlds[number]
        what = drawn(seed, which)
        world, broken = tape.perform(what, build)
        prey = Prey(which, what, broken, world.events)
        tell(prey)
        if prey.is_found:
            found.append(prey)
        number += 1
    return found


def kept(prey: Prey, build: Build, folder: Path) -> tuple[Path, int, int]:
    """The tape of what broke, its plan shrunk: its file, how many faults are left, and of how many."""
    what = prey.recipe

    def broken_by(plan: Plan) -> bool:
        return tape.perform(_with(what, plan), build)[1] is not None

    plan = tape.shrink(what.plan, what.nodes, broken_by, SHRINK_RUNS)[0] if what.plan.faults else what.plan
    smaller = _with(what, plan)
    world, broken = tape.perform(smaller, build)
    if broken is None:  # it ran out of runs in the midst of a step back
        smaller = what
        world, broken = tape.perform(smaller, build)
    assert broken is not None, "the same recipe is the same run"
    path = folder / f"hunt-{what.scenario}-{prey.world}.tape"
    tape.write(path, tape.capture(smaller, build, broken, world.digest()))
    return path, len(smaller.plan.faults), len(what.plan.faults)


def _with(what: Recipe, plan: Plan) -> Recipe:
    return Recipe(what.scenario, what.seed, what.nodes, what.duration_ms, what.options, plan)
