"""Worlds of whole peers: the daemon's own, with adversaries among them, set up from a recipe to run under its checks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from consensus.ids import NO_NETWORK, NodeId
from consensus.signing import KeyPair
from netsim.adversaries import CONTENT, ContentEclipse, Crew, Recruit, ground
from netsim.checks import Broken, Check, FaultsTook, TimeForward
from netsim.expectations import Directories, KeptBounded, LinksTook, LookUps, Trust
from netsim.faults import apply
from netsim.measures import Measures
from netsim.nodes import Make
from netsim.scenarios import MINUTE, SAMPLES, SEEDS, Options, Scenario, keys_of, named
from netsim.seeds import derive
from netsim.tape import Recipe
from netsim.verify import CachedVerify
from netsim.world import World
from node.overlay.entries import Chain, opener
from node.overlay.machine import Machine
from node.overlay.peer import Peer, PeerLimits, Surroundings
from node.overlay.routing import place, point


@dataclass
class Stage:
    """A world that is set up to run: with its measures and its checks."""

    world: World
    measures: Measures
    checks: Sequence[Check]
    verify: CachedVerify
    broken: Broken | None = None


def stage(
    recipe: Recipe,
    recorded: Iterable[int] = (),
    *,
    real_signatures: bool = False,
    limits: PeerLimits | None = None,
    cpu_ns: Callable[[], int] | None = None,
) -> Stage:
    """The world of a recipe with everything scheduled, its measures and its checks; cpu_ns as in World."""
    scenario, options = named(recipe.scenario), {key: int(value) for key, value in recipe.options}
    verify = CachedVerify(real=real_signatures)
    pairs = [keys_of(recipe.seed, number) for number in range(recipe.nodes)]
    hostile, target = _cast(recipe, scenario, options, pairs)
    keys = {NodeId(pair.public): pair for pair in pairs}
    ids = list(keys)
    seeds, bounds, open_entry = tuple(ids[:SEEDS]), limits or PeerLimits(), _shared()

    def make(me: NodeId, rng: Random, records: Mapping[Any, bytes]) -> Machine:
        around = Surroundings(NO_NETWORK, verify, seeds, open_entry=open_entry)
        return Peer(keys[me], rng, around, bounds, records)

    crew = Crew(tuple([ids[number] for number in hostile]), seeds, ids[target])
    intrude = _intrusion(scenario.adversary, crew)
    world = World(recipe.seed, make, scenario.links(options), cpu_ns=cpu_ns, recorded=recorded)
    begun = world.now
    for number, node in enumerate(ids):
        world.add(
            node, intrude if number in hostile else make, at=begun + options["join_s"] * 1000 * number // recipe.nodes
        )
    measures = Measures(world, begun, crew.target)
    measures.watch(max(1000, recipe.duration_ms // SAMPLES))
    settle = begun + recipe.duration_ms - scenario.settle_min * MINUTE
    scenario.work(measures, settle, options)
    applied = apply(world, recipe.plan)
    checks: list[Check] = [TimeForward(MINUTE), Directories(measures), LookUps(measures, scenario.look_ups_found)]
    honest = [node for number, node in enumerate(ids) if number not in hostile]
    checks += [Trust(honest), LinksTook()]
    if not hostile:  # who means ill goes on to the end
        checks.append(KeptBounded(measures, honest))
    if applied.faults:
        checks.append(FaultsTook(recipe.plan))
    return Stage(world, measures, checks, verify)


def _cast(recipe: Recipe, scenario: Scenario, options: Options, pairs: list[KeyPair]) -> tuple[dict[int, None], int]:
    """Which nodes are adversaries, with their keys put among the pairs, and whom they are after."""
    count = recipe.nodes * options.get("adversaries", 0) // 1000
    able = range(min(SEEDS, recipe.nodes), recipe.nodes)
    hostile = dict.fromkeys(sorted(derive(recipe.seed, "adversaries").sample(able, min(count, len(able)))))
    target = next((number for number in able if number not in hostile), 0)
    if scenario.is_aimed and hostile:
        aim = point(CONTENT) if scenario.adversary is ContentEclipse else place(NodeId(pairs[target].public))
        made = ground(recipe.seed, aim, len(hostile), recipe.nodes)
        for number, pair in zip(hostile, made, strict=True):
            pairs[number] = pair
    return hostile, target


def _intrusion(recruit: Recruit | None, crew: Crew) -> Make | None:
    if recruit is None:
        return None

    def make(me: NodeId, rng: Random, records: Mapping[Any, bytes]) -> Machine:
        del records
        return recruit(me, rng, crew)

    return make


def build(recipe: Recipe, recorded: Iterable[int]) -> tuple[World, Sequence[Check]]:
    """What netsim.tape needs to run a recipe again."""
    made = stage(recipe, recorded)
    return made.world, made.checks


def _shared() -> Callable[[bytes], Chain]:
    """One parsed and kept copy of each entry for all nodes of a world."""
    open_entry, kept = opener(NO_NETWORK), dict[bytes, Chain]()

    def opened(data: bytes) -> Chain:
        chain = kept.get(data)
        if chain is None:
            chain = kept[data] = open_entry(data)
        return chain

    return opened
