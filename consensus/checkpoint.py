"""The state before an HOUR: everything that what follows may depend on, rolled forward from the HOUR before.

    Checkpoint h − 1, and what the blocks of HOUR h − 1 brought ── `roll` ──→ Checkpoint h

Validity of a block in HOUR h looks at the weights of checkpoint h − 2, at the registry and the voters of its ERA, and at
nothing that a node knows besides. A registry is that of who had registered two HOURs before its ERA, the next voters are
chosen from what was final on the branch, and vote as soon as the present ones have made a checkpoint final that names
them: so two branches cannot finalise each with voters of its own, and whoever knows one ERA's voters can be shown the next.

Source: CONSENSUS §2, §3, §4, §7.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from consensus.admission import FRESH_HOURS, PoolRegistration, Registration, retarget
from consensus.electorate import Electorate, attended, elected, spell_month, spell_rest
from consensus.encoding import Value, encode
from consensus.finality import Candidate, Point, Voter, era_lot, may_vote, next_electors
from consensus.ids import Address, Digest, Network, NodeId
from consensus.params import ACTIVE_HOURS, PER_MILLE, STATE_HOURS, Params, settled_hours, usual_hours
from consensus.records import to_value
from consensus.registry import Registry, following
from consensus.signing import digest
from consensus.tally import (
    Credit,
    HourCredits,
    Tally,
    Work,
    advance,
    credit,
    live_ppm,
    of_entities,
    settled,
    spell,
    usual,
    weights,
)

INCLUDER_SHARE: Final = 64
"""Who includes a report earns a 64th of its credit."""

_VOTED: Final = (1 << ACTIVE_HOURS) - 1


class Included(NamedTuple):
    """A report that was included: what it proves, and the entity that included it."""

    work: Work
    includer: bytes


class Duty(NamedTuple):
    """How a voter votes: of the last 24 HOURs, bit 0 the latest, those that it voted in and those that anybody did."""

    voted: int
    due: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state before an HOUR; never changed."""

    hour: int
    block: Digest
    """The last block before the HOUR."""
    seed: Digest
    """That of the last slot before the HOUR."""
    registry: Registry
    electors: tuple[Voter, ...]
    """Who may vote; of more than 512 a lot does in each ERA."""
    voters: tuple[Voter, ...]
    successors: tuple[Voter, ...]
    """Who votes as soon as a checkpoint of the ERA for which they were named is final: the voters themselves in between."""
    named: int
    """The HOUR in which they were named."""
    justified: Mapping[int, Digest]
    """The justified checkpoints of this branch from the latest final one on."""
    final: Point
    joining: Mapping[NodeId, Registration] = field(default_factory=dict)
    """For the next ERA."""
    joining_pools: Mapping[bytes, PoolRegistration] = field(default_factory=dict)
    difficulty: int = 1
    newcomers: int = 0
    """Nodes that register for the next ERA and are not in this one."""
    tally: Tally = field(default_factory=Tally)
    credit_digests: tuple[Digest, ...] = ()
    """Of the tally's HOURs."""
    reports: Mapping[int, Mapping[NodeId, Included]] = field(default_factory=dict)
    """Those of HOURs that are not settled yet."""
    duties: Mapping[NodeId, Duty] = field(default_factory=dict)
    misses: Mapping[bytes, tuple[int, ...]] = field(default_factory=dict)
    """The HOURs in which an entity missed a slot of its."""
    led: Mapping[bytes, tuple[int, ...]] = field(default_factory=dict)
    """The HOURs in which it published one."""
    expelled: Mapping[bytes, int] = field(default_factory=dict)
    """Who broke a rule, and in which HOUR that was shown."""
    points: tuple[Digest, ...] = ()
    """The blocks of the last checkpoints, this one's last."""
    electorate: Electorate = field(default_factory=Electorate)
    weights: Mapping[bytes, int] = field(default_factory=dict)
    """In the draw, two HOURs later."""

    @property
    def point(self) -> Point:
        """Its name."""
        return Point(self.hour, self.block)

    def has(self, point: Point) -> bool:
        """Whether a checkpoint is one of this branch's, at most 24 HOURs old."""
        age = self.hour - point.hour
        return 0 <= age < len(self.points) and self.points[-1 - age] == point.block

    @property
    def key_of(self) -> Mapping[NodeId, bytes]:
        """The era keys of its voters."""
        return dict(self.voters)


@dataclass(frozen=True, slots=True)
class Happened:
    """What the blocks of one HOUR brought, or those since its beginning."""

    justified: Mapping[int, Digest]
    """The checkpoint's, and those since."""
    final: Point
    reports: Mapping[tuple[int, NodeId], Included] = field(default_factory=dict)
    votes: Mapping[tuple[int, NodeId], Point] = field(default_factory=dict)
    """By the HOUR of the target and the voter: the source."""
    registrations: Mapping[NodeId, Registration] = field(default_factory=dict)
    pools: Mapping[bytes, PoolRegistration] = field(default_factory=dict)
    misses: Mapping[bytes, int] = field(default_factory=dict)
    led: Mapping[bytes, int] = field(default_factory=dict)
    expelled: tuple[bytes, ...] = ()
    paid: frozenset[Address] = frozenset()


@dataclass(frozen=True, slots=True)
class Constitution:
    """What a genesis says beside the parameters."""

    network: Network
    params: Params
    founders: tuple[NodeId, ...]
    """The first of them is the Server."""
    difficulty: int = 1
    """Hashes for an admission, at the least."""
    newcomers_wanted: int = 448
    """New nodes an ERA for which the difficulty stays as it is: 64 a day."""

    @property
    def server(self) -> NodeId:
        """The genesis node."""
        return self.founders[0]


def genesis_checkpoint(law: Constitution, registry: Registry) -> Checkpoint:
    """The state before HOUR 0: the founders vote, lead alike, and the genesis is final."""
    root = Digest(law.network)
    voters = tuple(sorted(Voter(member.node, member.era_key) for member in registry.members.values()))
    return Checkpoint(
        hour=0,
        block=root,
        seed=root,
        registry=registry,
        electors=voters,
        voters=voters,
        successors=voters,
        named=0,
        justified={0: root},
        final=Point(0, root),
        difficulty=law.difficulty,
        points=(root,),
        weights=dict.fromkeys(registry.entities.values(), 1),
    )


def roll(
    law: Constitution,
    recent: Sequence[Checkpoint],
    at_final: Checkpoint,
    happened: Happened,
    block: Digest,
    seed: Digest,
) -> Checkpoint:
    """The checkpoint after the last of recent, from what happened in its HOUR; block and seed are the last before the new one.

    recent are the last checkpoints of the branch, at_final the one that is final on it. Costs O(nodes).
    """
    before, params = recent[-1], law.params
    hour = before.hour + 1
    expelled = dict(before.expelled) | dict.fromkeys(happened.expelled, before.hour)
    reports = {x: dict(kept) for x, kept in before.reports.items()}
    for (x, node), seen in happened.reports.items():
        reports.setdefault(x, {})[node] = seen
    duties = _duties(before, happened)
    past = hour - settled_hours(params)
    credits_of = _settle(law, reports.pop(past, {}), duties, before.tally, past)
    tally = advance(before.tally, credits_of, params.window_hours)
    first = hour - params.miss_hours
    misses = _remember(before.misses, happened.misses, before.hour, first)
    led = _remember(before.led, happened.led, before.hour, first)
    joining = dict(before.joining) | dict(happened.registrations)
    made = replace(
        before,
        hour=hour,
        block=block,
        seed=seed,
        justified={at: one for at, one in happened.justified.items() if at >= happened.final.hour},
        final=happened.final,
        joining=joining,
        joining_pools=dict(before.joining_pools) | dict(happened.pools),
        newcomers=before.newcomers + sum(node not in before.registry.members for node in happened.registrations),
        tally=tally,
        credit_digests=(*before.credit_digests, credits_digest(law, credits_of))[-len(tally.hours) :],
        reports=reports,
        duties=duties,
        misses=misses,
        led=led,
        expelled=expelled,
        points=(*before.points, block)[-FRESH_HOURS - 1 :],
        electorate=_attended(before, happened, credits_of, params),
    )
    if made.final.hour >= made.named:
        made = replace(made, voters=made.successors)
    if hour % params.era_hours == 0:
        made = _new_era(law, made, recent, at_final)
    return replace(made, weights=weigh(made))


def _attended(before: Checkpoint, happened: Happened, settled_hour: HourCredits, params: Params) -> Electorate:
    known = before.electorate
    if happened.paid:
        known = replace(known, paid=known.paid | happened.paid)
    return attended(known, settled_hour, before.registry, params.month_hours)


def _duties(before: Checkpoint, happened: Happened) -> dict[NodeId, Duty]:
    """How the voters of the HOUR that ended voted; votes of the HOUR before that came late count for it."""
    current, late = (any(at == hour for at, _ in happened.votes) for hour in (before.hour, before.hour - 1))
    made = {}
    for voter in before.voters:
        voted, due = before.duties.get(voter.node, Duty(0, 0))
        voted |= (before.hour - 1, voter.node) in happened.votes
        due |= late and voter.node in before.duties
        bit = (before.hour, voter.node) in happened.votes
        made[voter.node] = Duty((voted << 1 | bit) & _VOTED, (due << 1 | current) & _VOTED)
    return made


def active(duties: Mapping[NodeId, Duty], voters: Sequence[Voter]) -> set[NodeId]:
    """Who of the voters is not known to be away: a vote was included in the last 24 HOURs, or it owed fewer than 24 as yet."""
    gone = {node for node, duty in duties.items() if not duty.voted and duty.due == _VOTED}
    return {node for node, _ in voters if node not in gone}


def votes_per_mille(duties: Mapping[NodeId, Duty], node: NodeId) -> int:
    """The thousandths of its votes that a node gave; all of them where it owed none."""
    duty = duties.get(node)
    if duty is None or not duty.due:
        return PER_MILLE
    return PER_MILLE * (duty.voted & duty.due).bit_count() // duty.due.bit_count()


def _settle(
    law: Constitution, seen: Mapping[NodeId, Included], duties: Mapping[NodeId, Duty], tally: Tally, hour: int
) -> HourCredits:
    """The credits of an HOUR whose reports are all in, with what their includers earn; the tally is of those before."""
    earned: list[tuple[bytes, Credit]] = []
    used_to = usual(tally, usual_hours(law.params)) if seen else {}
    for node, (work, includer) in seen.items():
        made = credit(work, votes_per_mille(duties, node), law.params.cap_mb, used_to.get(node, 0))
        earned.append((node, made))
        if made.work >= INCLUDER_SHARE:
            earned.append((includer, Credit(made.work // INCLUDER_SHARE, 0)))
    return settled(hour, earned)


def _remember(
    known: Mapping[bytes, tuple[int, ...]], more: Mapping[bytes, int], hour: int, first: int
) -> dict[bytes, tuple[int, ...]]:
    """The HOURs of each entity from a first one on, with those of the HOUR that ended."""
    made = {entity: tuple(at for at in hours if at >= first) for entity, hours in known.items()}
    for entity, count in more.items():
        made[entity] = made.get(entity, ()) + (hour,) * count
    return {entity: hours for entity, hours in made.items() if hours}


def weigh(made: Checkpoint) -> dict[bytes, int]:
    """The weight of each entity of the registry, in the order of their names; what a pool earned itself counts for it."""
    out = made.expelled
    entity_of = {
        node: entity for node, entity in made.registry.entities.items() if node not in out and entity not in out
    }
    names = sorted({*entity_of.values()})
    live = {entity: live_ppm(len(made.led.get(entity, ())), len(made.misses.get(entity, ()))) for entity in names}
    own = {NodeId(entity): entity for entity in names}
    return weights(of_entities(made.tally.sums, {**own, **entity_of}), live)


def _new_era(law: Constitution, made: Checkpoint, recent: Sequence[Checkpoint], at_final: Checkpoint) -> Checkpoint:
    """The registry and the voters of the ERA that begins; where nobody registered in time the old ones go on."""
    past = recent[-STATE_HOURS]  # of the same ERA: it has three HOURs at the least
    registry = following(made.registry, past.joining, past.joining_pools, made.hour, law.server)
    keys = {node: member.era_key for node, member in registry.members.items()}
    settled_to = made.hour - settled_hours(law.params)
    made = replace(
        made,
        registry=registry,
        electorate=elected(made.electorate, registry, made.expelled, settled_to, law.params.month_hours),
        joining={},
        joining_pools={},
        newcomers=0,
        difficulty=retarget(made.difficulty, made.newcomers, law.newcomers_wanted, law.difficulty),
    )
    if made.voters != made.successors:  # the last hand-over is not final yet
        return made
    able = may_vote(candidates(at_final, made.hour), law.founders, law.params)
    electors = next_electors(made.electors, able, keys, made.expelled)
    nodes = {voter.node for voter in (*electors, *made.voters)}
    return replace(
        made,
        electors=electors,
        successors=era_lot(electors, law.network, made.seed),
        named=made.hour,
        duties={node: duty for node, duty in made.duties.items() if node in nodes},
    )


def candidates(at: Checkpoint, hour: int) -> list[Candidate]:
    """The registry of a checkpoint, with what each of it did as that checkpoint knows it; hour is when they would begin to vote."""
    made = []
    settled_to = at.tally.hours[-1].hour + 1 if at.tally.hours else 0
    for node, member in at.registry.members.items():
        known = at.tally.sums.get(node, Credit(0, 0))
        hours = min(settled_to - member.since, len(at.tally.hours))
        uptime = known.uptime // hours if hours > 0 else 0  # an HOUR without a report is one without uptime
        made.append(Candidate(node, member.era_key, hour - member.since, uptime, known.work))
    return made


def credits_digest(law: Constitution, made: HourCredits) -> Digest:
    """The name of an HOUR's credits."""
    return credits_name(law, spell(made))


def credits_name(law: Constitution, spelled: bytes) -> Digest:
    """The name of credits that are spelled already."""
    return digest("credits", law.network, spelled)


def checkpoint_digest(law: Constitution, at: Checkpoint) -> Digest:
    """The name of a checkpoint: the digest of the digests of its parts."""
    return name_of(law, part_digests(law, at))


def name_of(law: Constitution, parts: Iterable[Digest]) -> Digest:
    """The name of a checkpoint with those parts."""
    return digest("checkpoint", law.network, b"".join(parts))


def part_digests(law: Constitution, at: Checkpoint) -> tuple[Digest, ...]:
    """The digests of a checkpoint's parts: place, registry, voters, electors, finality, joining, credits, reports, duties, the rest."""
    registry: Value = [
        [at.registry.era, at.difficulty, at.newcomers],
        [list(one) for one in at.registry.members.values()],
        [[name, list(one.keys), *one[1:]] for name, one in at.registry.pools.items()],
    ]
    known = at.electorate
    months: list[Value] = [spell_month(month) for month in known.months]
    electorate: list[Value] = [] if known == Electorate() else [[months, spell_rest(known)]]
    parts: tuple[Value, ...] = (
        [at.hour, at.block, at.seed],
        registry,
        [at.named, [list(one) for one in at.voters], [list(one) for one in at.successors]],
        [list(one) for one in at.electors],
        [list(at.final), [[hour, at.justified[hour]] for hour in sorted(at.justified)]],
        [
            [to_value(at.joining[node]) for node in sorted(at.joining)],
            [to_value(at.joining_pools[name]) for name in sorted(at.joining_pools)],
        ],
        list(at.credit_digests),
        [
            [hour, [[node, list(of[node].work), of[node].includer] for node in sorted(of)]]
            for hour, of in sorted(at.reports.items())
        ],
        [[node, *at.duties[node]] for node in sorted(at.duties)],
        [
            [[entity, list(at.misses[entity])] for entity in sorted(at.misses)],
            [[entity, list(at.led[entity])] for entity in sorted(at.led)],
            [[node, at.expelled[node]] for node in sorted(at.expelled)],
            list(at.points),
            *electorate,
        ],
    )
    return tuple(digest("part", law.network, encode(part)) for part in parts)
