"""The questions of PoOT that an economy answers: who leads and who earns, alone, split, in a cartel, or against the rules.

A scenario is a table: each row is a world of its own, with the same others and one operator that plays a strategy. Judged is
what CONSENSUS §5 asks of every strategy of at most 20 % adversaries under sortition: a share of the slots of at most 1.33 times the
share of the real work and a hundredth. Rows of other rules, or of more adversaries, are there to be compared.

Source: CONSENSUS §4 to §8.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import sqrt
from typing import Final, NamedTuple

from blake3 import blake3

from consensus.ids import NodeId
from consensus.params import MAINNET, PER_MILLE, LeaderRule
from netsim.economy import Economy
from netsim.operators import AWAY, STORED_MB, Operator, Rig, rigs, share_of, sized
from netsim.scenarios import MINUTE, Options, Unknown
from netsim.strategies import HONEST, Censor, Collude, Strategy, Withhold
from netsim.tape import Recipe

ADVERSARIES_MAX: Final = 20
"""Per cent, of the work or of the identities, up to which a row is judged."""

UP: Final = 950
"""Thousandths of the time for which an operator of several identities is up, if nothing else is said: as the others are."""

SESSIONS_MAX: Final = 15_000

SPLITS: Final = (1, 2, 5, 10, 20, 50)
CARTELS: Final = (5, 10, 20, 33)
WASHERS: Final = (0, 10, 100)

Nodes = frozenset[NodeId]


class Case(NamedTuple):
    """One row that is to be made: what it is called, and its world."""

    strategy: str
    n: int
    """Identities, or accounts of a washer."""
    adversaries: int
    """Per cent."""
    operators: tuple[Operator, ...]
    """The last of them is watched."""
    rule: LeaderRule = LeaderRule.SORTITION


@dataclass(frozen=True, slots=True)
class Share:
    """A row: what the identities of an operator, or a part of all nodes, did and got."""

    strategy: str
    rule: str
    n: int
    share_work: float
    share_slots: float
    ratio: float
    """Share of the slots for the share of the work."""
    error: float
    """Standard error of the ratio, as if every slot were drawn for itself."""
    share_lucid: float
    lucid: int
    misses: int
    bound: float | None
    """What the share of slots may be; None where it is not judged."""
    margin: float
    """Two standard errors of a share that is just at the bound: a share so near to it may be there by luck; 0 where none is judged."""
    ever_led: float
    """Of all nodes of its world, the share that led once."""
    server_share_blocks: float
    server_share_lucid: float
    fallbacks: int
    """Slots that the Server published because no rank did."""
    gini_work: float
    gini_slots: float
    correlation: float
    """Pearson's, of slots and real work, over the nodes."""
    reports: int
    """That were made, of all HOURs."""
    reports_lost: int
    """For which no block had a place in time."""
    work_unwitnessed: float
    """Of all real work, the share that earned nothing, since fewer than five of nine witnesses were there to tell."""
    wash_paid: int
    digest: str

    @property
    def is_within(self) -> bool:
        """Whether the target is kept, or does not apply, or what is above it may be luck."""
        return self.bound is None or self.share_slots <= self.bound + self.margin

    @property
    def is_told(self) -> bool:
        """Whether there were slots enough to tell."""
        return self.bound is None or abs(self.share_slots - self.bound) > self.margin


def target(share_work: float) -> float:
    """The greatest share of the slots that CONSENSUS §5 allows for a share of the real work."""
    return 1.33 * share_work + 0.01


def gini(values: Sequence[int]) -> float:
    """How unevenly something is spread: 0 when all have the same, near 1 when one has all."""
    total, count = sum(values), len(values)
    if not total:
        return 0.0
    return (count + 1 - 2 * sum(accumulate(sorted(values))) / total) / count


def correlation(xs: Sequence[int], ys: Sequence[int]) -> float:
    """Pearson's coefficient; 0 where one of them does not vary."""
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sqrt(sum((one - x) ** 2 for one in xs) * sum((one - y) ** 2 for one in ys))
    return sum((one - x) * (other - y) for one, other in zip(xs, ys, strict=True)) / spread if spread else 0.0


class EconomyStage:
    """The worlds of a recipe, to be played one after the other."""

    def __init__(self, recipe: Recipe, cases: Sequence[Case]) -> None:
        self.recipe, self.cases = recipe, cases
        self.slots = recipe.duration_ms // MAINNET.slot_ms
        self.begins = Economy(recipe.seed, cases[0].operators, MAINNET, 1, 1).begins
        """The first slot whose leaders are drawn by work, from which on all is counted."""
        self.rows: list[Share] = []
        self.played = 0
        self.cut = 0
        """Slots of the world in which it was interrupted; 0 where there is none, or none that counted yet."""

    def play(self, show: Callable[[int, int], None]) -> None:
        """Play what is left; show is told of every HOUR: slots played, of how many.

        A world in which Ctrl-C comes has rows, too, of what was played of it.
        """
        load = int(dict(self.recipe.options)["sessions"]) * self.recipe.nodes // 100
        for case in self.cases[self.played :]:
            law = replace(MAINNET, leader_rule=case.rule)
            economy = Economy(self.recipe.seed, case.operators, law, self.slots, load)
            try:
                for until in range(0, self.slots + law.hour_slots, law.hour_slots):
                    economy.run(min(until, self.slots))
                    gc.freeze()  # what is kept is in no cycle; scanning it took a fourth of the time
                    show(self.played * self.slots + economy.slot, len(self.cases) * self.slots)
            except KeyboardInterrupt:
                if economy.counts:
                    self.cut = economy.slot
                    self.rows += _rows(case, economy)
                raise
            self.played += 1
            self.rows += _rows(case, economy)
            del economy
            gc.unfreeze()

    @property
    def is_partial(self) -> bool:
        """Whether there are worlds that were not played to their end."""
        return self.played < len(self.cases)

    def digest(self) -> str:
        """BLAKE3 over the publishers of all worlds, each world's digest in its turn."""
        return blake3("".join(dict.fromkeys(row.digest for row in self.rows)).encode()).hexdigest()

    def complaints(self) -> list[str]:
        """The rows that break the target, a sentence each."""
        return [
            f"{row.strategy}, n = {row.n}: {row.share_slots:.3f} of the slots for {row.share_work:.3f} of the work; "
            f"{row.bound:.3f} are allowed"
            for row in self.rows
            if not row.is_within
        ]


def _rows(case: Case, economy: Economy) -> list[Share]:
    if case.strategy != "none":
        last = len(case.operators) - 1
        own = frozenset(one.node for one in economy.identities if one.operator == last)
        return [_share(case, economy, case.strategy, own)]
    ranked = sorted((one.node for one in economy.identities), key=lambda node: (economy.worked[node], node))
    parts = {
        "most work": ranked[-1:],
        "upper tenth": ranked[-max(1, len(ranked) // 10) :],
        "lower half": ranked[: len(ranked) // 2],
        "median node": ranked[len(ranked) // 2 : len(ranked) // 2 + 1],
        "everybody": ranked,
        "server": [economy.server],
    }
    return [_share(case, economy, name, frozenset(nodes)) for name, nodes in parts.items()]


def _share(case: Case, economy: Economy, name: str, own: Nodes) -> Share:
    nodes = [one.node for one in economy.identities]
    led, worked, earned = ([of[node] for node in nodes] for of in (economy.led, economy.worked, economy.earned))
    slots, work, lucid = max(1, sum(led)), max(1, sum(worked)), max(1, sum(earned))
    share_work = sum(economy.worked[node] for node in own) / work
    share_slots = sum(economy.led[node] for node in own) / slots
    judged = case.rule is LeaderRule.SORTITION and case.adversaries <= ADVERSARIES_MAX
    bound = min(1.0, target(share_work)) if judged else None
    return Share(
        strategy=name,
        rule=case.rule.name.lower(),
        n=case.n,
        share_work=share_work,
        share_slots=share_slots,
        ratio=share_slots / share_work if share_work else 0.0,
        error=sqrt(share_slots * (1 - share_slots) / slots) / share_work if share_work else 0.0,
        share_lucid=sum(economy.earned[node] for node in own) / lucid,
        lucid=sum(economy.earned[node] for node in own),
        misses=sum(economy.misses[node] for node in own),
        bound=bound,
        margin=2 * sqrt(bound * (1 - bound) / slots) if bound is not None else 0.0,
        ever_led=sum(map(bool, led)) / len(nodes),
        server_share_blocks=economy.led[economy.server] / slots,
        server_share_lucid=economy.earned[economy.server] / lucid,
        fallbacks=economy.fallbacks,
        gini_work=gini(worked),
        gini_slots=gini(led),
        correlation=correlation(led, worked),
        reports=economy.reports,
        reports_lost=economy.reports_lost,
        work_unwitnessed=economy.unwitnessed / work,
        wash_paid=economy.wash_paid,
        digest=economy.digest(),
    )


# The scenarios


def _others(
    recipe: Recipe, count: int, stored_mb: int = STORED_MB, away: float = AWAY
) -> tuple[tuple[Operator, ...], list[Rig]]:
    """The Server, which works as others do and is always up, and so many operators of one machine and one identity."""
    found = rigs(recipe.seed, count, stored_mb, away)
    found[0] = found[0]._replace(up=PER_MILLE)
    return tuple(Operator("server" if not number else f"{number}", (rig,)) for number, rig in enumerate(found)), found


def _versus(
    recipe: Recipe, percent: int, identities: int, strategy: Strategy | None = None, **more: int
) -> tuple[Operator, ...]:
    """The others, and an operator of so many per cent of all work on one machine."""
    others, found = _others(recipe, recipe.nodes)
    whole = (sized(share_of(found, percent), UP),)
    return (*others, Operator("watched", whole, identities, strategy or HONEST, **more))


def _baseline(recipe: Recipe, options: Options) -> list[Case]:
    others = _others(recipe, recipe.nodes, 1_000 * options["stored_gb"], options["away"] / 100)[0]
    return [Case("none", 1, 100, others, LeaderRule(options["rule"]))]


def _rank17(recipe: Recipe, options: Options) -> list[Case]:
    others, found = _others(recipe, recipe.nodes)
    best = max(rig.rate for rig in found)
    above = Operator("watched", (sized(best * 101 // 100, PER_MILLE),) * options["identities"], options["identities"])
    rules = [LeaderRule(options["rule"])] if options["rule"] else [*LeaderRule]
    return [Case("just above the best", options["identities"], 0, (*others, above), rule) for rule in rules]


def _split(recipe: Recipe, options: Options) -> list[Case]:
    counts = (options["n"],) if options["n"] else SPLITS
    return [
        Case("split", n, options["share"], _versus(recipe, options["share"], n), LeaderRule(options["rule"]))
        for n in counts
    ]


def _collude(recipe: Recipe, options: Options) -> list[Case]:
    made = []
    for percent in (options["share"],) if options["share"] else CARTELS:
        count = recipe.nodes * percent // 100
        if not count:
            raise Unknown(f"{percent} per cent of {recipe.nodes} nodes are nobody")
        others, found = _others(recipe, recipe.nodes)
        real, times = options["real"], options["times"]
        own = tuple(Rig(rig.storage * real // 100, rig.relay * real // 100, rig.up) for rig in found[-count:])
        strategies = (
            Collude("inflate, deny", times, silent=False),
            Collude("inflate, silent", times, silent=True),
            Collude("inflate, select", times, silent=True, selects=True),
        )
        made += [
            Case(one.name, count, percent, (*others[:-count], Operator("watched", own, count, one)))
            for one in strategies
        ]
    return made


def _wash(recipe: Recipe, options: Options) -> list[Case]:
    share, identities = options["share"], options["identities"]
    counts = (options["owners"],) if options["owners"] else WASHERS
    return [Case("wash", n, share, _versus(recipe, share, identities, owners=n)) for n in counts]


def _censor(recipe: Recipe, options: Options) -> list[Case]:
    share, n = options["share"], options["identities"]
    return [
        Case("includes all", n, share, _versus(recipe, share, n)),
        Case("omits others'", n, share, _versus(recipe, share, n, Censor())),
    ]


def _withhold(recipe: Recipe, options: Options) -> list[Case]:
    share, made = options["share"], []
    for n in (1, options["identities"]):
        made.append(Case("publishes", n, share, _versus(recipe, share, n)))
        strategies = (Withhold(late_header=False), Withhold(late_header=True))
        made += [Case(one.name, n, share, _versus(recipe, share, n, one)) for one in strategies]
    return made


CASES: Final[Mapping[str, Callable[[Recipe, Options], list[Case]]]] = {
    "poot-baseline": _baseline,
    "poot-rank17": _rank17,
    "poot-split": _split,
    "poot-collude": _collude,
    "poot-wash": _wash,
    "poot-censor": _censor,
    "poot-withhold": _withhold,
}


def stage(recipe: Recipe) -> EconomyStage:
    """The worlds of a recipe, none of them played yet; raises Unknown for options that make none."""
    options = {key: int(value) for key, value in recipe.options}
    if recipe.plan.faults:
        raise Unknown(f"{recipe.scenario} has no network that faults could happen to")
    if options.get("share", 0) >= 100:
        raise Unknown(f"share is {options['share']}: per cent, below 100")
    if options.get("rule", 0) > max(LeaderRule) or (
        recipe.scenario in {"poot-split", "poot-baseline"} and not options["rule"]
    ):
        raise Unknown(f"rule is {', '.join(f'{rule} for {rule.name.lower()}' for rule in LeaderRule)}")
    if options.get("stored_gb", 1) < 1 or options.get("away", 0) > 50:
        raise Unknown("stored_gb is at least 1, and away at most 50 per cent")
    if options.get("identities", 1) < 1:
        raise Unknown("identities are at least 1")
    if options["sessions"] * recipe.nodes > SESSIONS_MAX * 100:
        raise Unknown(f"sessions are for every hundred nodes, and {SESSIONS_MAX:,} an HOUR in all at most")
    made = EconomyStage(recipe, CASES[recipe.scenario](recipe, options))
    if made.slots <= made.begins:
        raise Unknown(
            f"work leads from slot {made.begins} on: {(made.begins + 1) * MAINNET.slot_ms // MINUTE} minutes at least"
        )
    return made
