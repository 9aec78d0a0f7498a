"""Do they agree? Worlds of consensus machines under partitions, deaths, double signatures, wrong clocks and slow links.

    Chronicle ── every block and every final checkpoint that any node tells of ──→ checks and numbers

What must hold: no two honest nodes hold conflicting checkpoints for final; a slot has a block wherever a quorum is
connected; when the faults are over finality is back within three HOURs; no honest node is ever expelled.

Source: CONSENSUS §6, §7.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from consensus.block import BlockBody, body_digest, read_block, sign_header
from consensus.finality import read_vote, sign_vote
from consensus.ids import Digest, NodeId
from consensus.params import MAINNET, SERVER_RANK, LeaderRule, Params, complaints
from consensus.records import pack
from consensus.tally import Work
from consensus.wishes import DoubleHeard, NewBlock, NewFinal, Topic
from netsim.agreement import TOPICS, Citizen, Society
from netsim.checks import Broken, Check, FaultsTook, Report, TimeForward
from netsim.faults import Churn, Cut, DriftClock, Fault, Gone, Plan, StepClock, apply
from netsim.links import TOR, LinkModel
from netsim.scenarios import MINUTE, Options, Unknown
from netsim.seeds import derive
from netsim.tape import Recipe
from netsim.world import World
from node.overlay.logs import Announce, Out
from node.overlay.machine import Action, Channel, Machine, Send

SLOT_MS: Final = MAINNET.slot_ms
HOUR_MS: Final = SLOT_MS * MAINNET.hour_slots
LAG_HOURS: Final = 3
"""Finality is at most so far behind (§ issue: within 3 HOURs at 80 % uptime)."""

FILLED: Final = 990
"""Of 1,000 slots, those that have a block."""

LINKS: Final = replace(TOR, life_ms=0, silent=0, outbox_frames=4_096)
"""Connections for ever, so that nothing but the faults of a scenario breaks one."""


class Equivocator(Citizen):
    """A node that signs two votes and two blocks where it should sign one, and shows each half of the others one of them."""

    def told(self, out: Iterable[Out]) -> list[Action]:
        """Announcements of our own are doubled."""
        done: list[Action] = []
        for one in out:
            other = self._other(one) if isinstance(one, Announce) else None
            if other is None or not isinstance(one, Announce):
                done += super().told([one])
                continue
            tag = bytes((TOPICS.index(Topic(one.topic)),))
            for place, peer in enumerate(self.others):
                done.append(Send(peer, Channel.GOSSIP, tag + (one.data if place % 2 else other)))
        return done

    def _other(self, one: Announce) -> bytes | None:
        """What contradicts an announcement of our own; None for what is not our own, or cannot be."""
        network = self.society.law.network
        if one.topic == Topic.VOTES:
            vote = read_vote(one.data).vote
            keys = self.society.keys.get(self.replica.next()[0].checkpoint.key_of.get(vote.voter, b""))
            if vote.voter != self.me or keys is None:
                return None
            return pack(
                sign_vote(
                    replace(vote, head=vote.target if vote.head != vote.target else Digest(bytes(32))),
                    keys.signing,
                    network,
                )
            )
        if one.topic == Topic.BLOCKS:
            block = read_block(one.data)
            member = self.replica.next()[0].checkpoint.registry.members.get(self.me)
            if block.header.entity != self.me or member is None:
                return None
            body = BlockBody() if block.body != BlockBody() else replace(block.body, uncles=())
            header = replace(block.header, body=body_digest(body))
            if header == block.header:
                return None
            return pack(
                replace(
                    block, signed=sign_header(header, self.society.keys[member.era_key].signing, network), body=body
                )
            )
        return None


class Chronicle:
    """What all nodes told: blocks, final checkpoints, and who is honest."""

    def __init__(self, world: World, society: Society, crooked: frozenset[int]) -> None:
        self.world, self.society, self.crooked = world, society, crooked
        self.begun = world.now
        self.blocks: dict[Digest, NewBlock] = {}
        self.seen_ms: dict[Digest, int] = {}
        self.spread_ms: list[int] = []
        self.lags: list[int] = []
        self.last: NewFinal | None = None
        self.conflict: str | None = None
        self.weights: list[int] = []
        """Bytes that an honest node keeps, in the mean, at the end of each HOUR."""
        world.on_fact(NewBlock, self._on_block)
        world.on_fact(NewFinal, self._on_final)
        world.every(HOUR_MS, self._weigh)

    def _weigh(self) -> None:
        honest = [node for node in self.world.nodes if node.index not in self.crooked]
        kept = sum(len(value) for node in honest for value in node.records.values())
        self.weights.append(kept // max(1, len(honest)))

    def _on_block(self, now: int, _index: int, fact: NewBlock) -> None:
        first = self.seen_ms.setdefault(fact.block, now)
        self.blocks[fact.block] = fact
        self.spread_ms.append(now - first)

    def _on_final(self, now: int, index: int, fact: NewFinal) -> None:
        if index in self.crooked:
            return
        self.lags.append((now - self.begun) // HOUR_MS - fact.point.hour)
        if self.last is None or fact.point.hour > self.last.point.hour:
            if self.last is not None and not self._follows(fact.point.block, self.last.point.block):
                self.conflict = (
                    f"HOUR {fact.point.hour} is final at node {index}, and does not follow HOUR {self.last.point.hour}"
                )
            self.last = fact
        elif not self._follows(self.last.point.block, fact.point.block):
            self.conflict = (
                f"HOUR {fact.point.hour} is final at node {index}, and HOUR {self.last.point.hour} does not follow it"
            )

    def _follows(self, block: Digest, ancestor: Digest) -> bool:
        """Whether an ancestor, or the genesis, lies below a block."""
        root = self.society.genesis.id
        while block not in {ancestor, root}:
            block = self.blocks[block].parent
        return ancestor in {block, root}

    @property
    def honest(self) -> list[Citizen]:
        """The machines of the honest nodes that are up."""
        nodes = (node for node in self.world.nodes if node.index not in self.crooked and node.machine is not None)
        return [node.machine for node in nodes if isinstance(node.machine, Citizen)]

    def canonical(self) -> list[NewBlock]:
        """The blocks of the branch that most honest nodes are on, the last first."""
        heads = Counter(one.replica.head().id for one in self.honest)
        block = max(heads, key=lambda head: (heads[head], head), default=self.society.genesis.id)
        chain = []
        while block in self.blocks:
            chain.append(self.blocks[block])
            block = self.blocks[block].parent
        return chain

    def numbers(self) -> dict[str, Any]:
        """What there is to say at the end."""
        chain = self.canonical()
        slots = max(1, (self.world.now - self.begun) // SLOT_MS - 1)  # nobody signs in slot 1, the first after a start
        server = self.society.law.server
        spread = sorted(self.spread_ms)
        lags = sorted(self.lags)
        virtual_s = max(1.0, (self.world.now - self.begun) / 1000)
        half = len(self.weights) // 2
        grown = (self.weights[-1] - self.weights[half]) / max(1, len(self.weights) - 1 - half) if self.weights else 0.0
        return {
            "slots": slots,
            "blocks": len(chain),
            "filled": round(len(chain) / slots, 4),
            "forked": len(self.blocks) - len(chain),
            "by_rank": {str(rank): count for rank, count in sorted(Counter(one.rank for one in chain).items())},
            "server_share_blocks": round(sum(one.entity == server for one in chain) / max(1, len(chain)), 4),
            "fallback_share": round(sum(one.rank == SERVER_RANK for one in chain) / max(1, len(chain)), 4),
            "final_hour": min((one.replica.final.hour for one in self.honest), default=0),
            "final_lag_hours": {"p50": _part(lags, 50), "max": _part(lags, 100)},
            "spread_ms": {"p50": _part(spread, 50), "p99": _part(spread, 99)},
            "bytes_per_node_s": round(
                sum(node.bytes_in for node in self.world.nodes) / max(1, len(self.world.nodes)) / virtual_s, 1
            ),
            "disk_bytes_per_hour": round(grown),
            "expelled": sorted(
                {self._number(node) for one in self.honest for node in one.replica.head().checkpoint.expelled}
            ),
        }

    def _number(self, node: bytes) -> int:
        return self.society.ids.index(NodeId(node))


def _part(numbers: Sequence[int], percent: int) -> int | None:
    return numbers[(len(numbers) - 1) * percent // 100] if numbers else None


class NoConflict:
    """No two honest nodes hold checkpoints for final of which neither follows the other."""

    def __init__(self, chronicle: Chronicle) -> None:
        self.chronicle = chronicle

    def watch(self, world: World, report: Report) -> None:
        """After each final checkpoint."""

        def look(_now: int, index: int, _fact: NewFinal) -> None:
            if self.chronicle.conflict is not None:
                report(index, self.chronicle.conflict)

        world.on_fact(NewFinal, look)

    def end(self, world: World, report: Report) -> None:
        """Nothing is left to look at."""


class Finalises:
    """At the end finality is at most three HOURs behind, at every honest node that is up."""

    def __init__(self, chronicle: Chronicle) -> None:
        self.chronicle = chronicle

    def watch(self, world: World, report: Report) -> None:
        """Nothing is needed while it runs."""

    def end(self, world: World, report: Report) -> None:
        """Look at all."""
        hour = (world.now - self.chronicle.begun) // HOUR_MS
        for one in self.chronicle.honest:
            if one.replica.final.hour < hour - LAG_HOURS:
                number = self.chronicle.society.ids.index(one.me)
                report(number, f"in HOUR {hour} its last final checkpoint is that of HOUR {one.replica.final.hour}")
                return


class Filled:
    """Enough of the slots have a block on the branch that the honest are on."""

    def __init__(self, chronicle: Chronicle, least: int) -> None:
        self.chronicle, self.least = chronicle, least

    def watch(self, world: World, report: Report) -> None:
        """Nothing is needed while it runs."""

    def end(self, world: World, report: Report) -> None:
        """Count."""
        del world
        numbers = self.chronicle.numbers()
        if 1000 * numbers["blocks"] < self.least * numbers["slots"]:
            report(
                -1, f"{numbers['blocks']} of {numbers['slots']} slots have a block; {self.least} in 1,000 are expected"
            )


class NobodyFaulted:
    """No honest node is expelled, and none believes that it has a double."""

    def __init__(self, chronicle: Chronicle) -> None:
        self.chronicle = chronicle

    def watch(self, world: World, report: Report) -> None:
        """Hear of doubles."""

        def doubled(_now: int, index: int, fact: DoubleHeard) -> None:
            if index not in self.chronicle.crooked:
                report(index, f"it believes that another program signed its {fact.what}")

        world.on_fact(DoubleHeard, doubled)

    def end(self, world: World, report: Report) -> None:
        """Look at who was expelled."""
        del world
        for number in self.chronicle.numbers()["expelled"]:
            if number not in self.chronicle.crooked:
                report(number, "an honest node was expelled")


class CrookedCaught:
    """Who signed twice is expelled in the end."""

    def __init__(self, chronicle: Chronicle) -> None:
        self.chronicle = chronicle

    def watch(self, world: World, report: Report) -> None:
        """Nothing is needed while it runs."""

    def end(self, world: World, report: Report) -> None:
        """Compare."""
        del world
        missing = {*self.chronicle.crooked} - {*self.chronicle.numbers()["expelled"]}
        if missing:
            report(min(missing), f"{len(missing)} nodes that signed twice were not expelled")


@dataclass(frozen=True, slots=True)
class Sitting:
    """What a scenario adds to an agreement's world."""

    faults: Callable[[int, int, Options], tuple[Fault, ...]] = lambda _nodes, _ms, _options: ()
    filled: int = FILLED
    kills_leaders: bool = False
    is_final: bool = True
    """Whether finality has to be back at the end."""


def _split(nodes: int, ms: int, options: Options) -> tuple[Fault, ...]:
    """A cut both ways for the middle third of the time, or several short ones."""
    count = nodes * options["share"] // 100
    one, other = tuple(range(count)), tuple(range(count, nodes))
    times = max(1, options["times"])
    period = ms // 3 // times
    begins = [ms // 3 + turn * period for turn in range(times)]
    length = period if times == 1 else period // 2
    return tuple(
        Cut(f"{name} {turn}", at, sources, targets, length)
        for turn, at in enumerate(begins)
        for name, sources, targets in (("there", one, other), ("back", other, one))
    )


def _dead(nodes: int, ms: int, options: Options) -> tuple[Fault, ...]:
    """So many per cent of the nodes leave for good after an HOUR, the Server stays."""
    del ms
    count = nodes * options["dead"] // 100
    return (Gone(tuple(range(nodes - count, nodes)), HOUR_MS),)


def _attrition(nodes: int, ms: int, options: Options) -> tuple[Fault, ...]:
    """`lost` per cent of the nodes leave for good, one after the other, evenly over the time; the Server stays."""
    count = nodes * options["lost"] // 100
    return tuple(Gone((nodes - 1 - turn,), ms * (2 * turn + 1) // (2 * count)) for turn in range(count))


def _churn(nodes: int, ms: int, options: Options) -> tuple[Fault, ...]:
    """Each node but the Server is down for `down` per cent of the time, an HOUR and a half between two of its ends."""
    down = 90 * MINUTE * options["down"] // 100
    if not down:
        return ()
    return (
        Churn(HOUR_MS // 2, max(HOUR_MS, ms - LAG_HOURS * HOUR_MS), 90 * MINUTE - down, down, tuple(range(1, nodes))),
    )


def _skew(nodes: int, ms: int, options: Options) -> tuple[Fault, ...]:
    """Every third clock is set forward, every third back, by `skew` seconds; they drift by 50 in a million, too."""
    del ms
    sign = (1, -1, 0)
    steps = [
        StepClock(node, SLOT_MS, sign[node % 3] * 1000 * options["skew"]) for node in range(nodes) if sign[node % 3]
    ]
    return (*steps, *(DriftClock(node, SLOT_MS, 50 * sign[node % 3]) for node in range(nodes) if sign[node % 3]))


SITTINGS: Final[Mapping[str, Sitting]] = {
    "agree-steady": Sitting(),
    "agree-partition": Sitting(_split, filled=600),
    "agree-dead": Sitting(_dead),
    "agree-attrition": Sitting(_attrition),
    "agree-churn": Sitting(_churn),
    "agree-skew": Sitting(_skew),
    "agree-slow": Sitting(),
    "agree-equivocate": Sitting(filled=900),
    "agree-leaderless": Sitting(kills_leaders=True),
}


class AgreementStage:
    """A world of consensus machines that is set up to run: with its measures and its checks."""

    def __init__(self, world: World, chronicle: Chronicle, checks: Sequence[Check]) -> None:
        self.world, self.measures, self.checks = world, chronicle, checks
        self.broken: Broken | None = None


def stage(recipe: Recipe, recorded: Iterable[int] = ()) -> AgreementStage:
    """The world of a recipe with everything scheduled; raises Unknown for options that make none."""
    options = {key: int(value) for key, value in recipe.options}
    sitting, nodes = SITTINGS[recipe.scenario], recipe.nodes
    if recipe.duration_ms < (2 + LAG_HOURS) * HOUR_MS:
        raise Unknown(f"an agreement takes {2 + LAG_HOURS} hours at least: --minutes {(2 + LAG_HOURS) * 60}")
    for name in ("share", "dead", "lost", "down", "crooked"):
        if not 0 <= options.get(name, 0) < 100:
            raise Unknown(f"{name} is {options[name]}: per cent, below 100")
    society = Society(recipe.seed, nodes, nodes, _law(options))
    crooked = frozenset(range(nodes - nodes * options.get("crooked", 0) // 100, nodes))
    number = {node: place for place, node in enumerate(society.ids)}

    def make(me: NodeId, rng: Random, records: Mapping[Any, bytes]) -> Machine:
        del rng
        place = number[me]
        work = Work(derive(recipe.seed, "work", place).randrange(100, 1_000_000), 0, 1_000)
        return (Equivocator if place in crooked else Citizen)(society, place, records, work)

    world = World(recipe.seed, make, _links(options), recorded=recorded)
    chronicle = Chronicle(world, society, crooked)
    for node in society.ids:
        world.add(node)
    faults = sitting.faults(nodes, recipe.duration_ms, options)
    plan = Plan((*faults, *recipe.plan.faults))
    apply(world, plan)
    if sitting.kills_leaders:
        _hunt(world, chronicle, recipe.duration_ms)
    checks: list[Check] = [
        TimeForward(HOUR_MS),
        NoConflict(chronicle),
        NobodyFaulted(chronicle),
        Filled(chronicle, sitting.filled),
    ]
    if sitting.is_final:
        checks.append(Finalises(chronicle))
    if crooked:
        checks.append(CrookedCaught(chronicle))
    if plan.faults:
        checks.append(FaultsTook(plan))
    return AgreementStage(world, chronicle, checks)


def _law(options: Options) -> Params:
    """Mainnet's law, but that everybody may vote at once, with what the options change of it; raises Unknown."""
    if options.get("rule", 1) not in {*LeaderRule}:
        raise Unknown(f"rule is {', '.join(f'{rule} for {rule.name.lower()}' for rule in LeaderRule)}")
    law = replace(
        MAINNET,
        voter_hours=0,
        rank_ms=options.get("rank_ms", MAINNET.rank_ms),
        leader_rule=LeaderRule(options.get("rule", MAINNET.leader_rule)),
    )
    if wrong := complaints(law):
        raise Unknown("; ".join(wrong))
    return law


def _links(options: Options) -> LinkModel:
    latency = options.get("latency_ms", 0)
    return replace(LINKS, latency_ms=latency) if latency else LINKS


def _hunt(world: World, chronicle: Chronicle, duration_ms: int) -> None:
    """Kill each slot's first leader a moment before its slot, for half a slot; until an HOUR before the end."""
    first = world.now

    def strike() -> None:
        citizens = chronicle.honest
        if not citizens or world.now > first + duration_ms - LAG_HOURS * HOUR_MS:
            return
        state, slot = citizens[0].replica.next()
        drawn = citizens[0].replica.leaders(state, slot)
        if drawn and drawn[0] != chronicle.society.law.server:
            victim = world.by_id[NodeId(drawn[0])]
            world.stop_node(victim.index, "it would have led")
            world.counts["leaders killed"] += 1
            world.at(world.now + SLOT_MS // 2, lambda: world.start(victim))

    world.every(SLOT_MS, strike, start=world.now + HOUR_MS - 1)


def build(recipe: Recipe, recorded: Iterable[int]) -> tuple[World, Sequence[Check]]:
    """What netsim.tape needs to run a recipe again."""
    made = stage(recipe, recorded)
    return made.world, made.checks
