"""Named worlds with their expectations: what happens, what is measured, and what must hold.

A scenario is data: its nodes and minutes, its options with defaults, its faults, and the checks that it runs under. A user
adds one in a TOML file of their own, on top of one of these:

    base = "churn"          # which of the named ones it varies
    nodes = 200
    minutes = 30
    [options]               # any that the base has
    rate = 50
    [[faults.crash]]        # more faults, in the words of netsim.faults; times in ms from the beginning
    node = 3
    at = 60000
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final

from consensus.params import MAINNET
from consensus.signing import KeyPair
from netsim.adversaries import (
    CONTENT,
    ContentEclipse,
    MeshSpam,
    RandomIdEclipse,
    Recruit,
    Replayer,
    TargetedEclipse,
)
from netsim.faults import Churn, Contradiction, Crash, Cut, Fault, Gone, Plan, complaints, parse
from netsim.links import LOSSY, TOR, LinkModel
from netsim.measures import Measures
from netsim.tape import Recipe

MINUTE: Final = 60_000
WEEK: Final = 7 * 24 * 60
"""In minutes."""
SEEDS: Final = 3
SAMPLES: Final = 120
ADVERSARIES_MAX: Final = 500
"""In 1,000 nodes."""
Options = Mapping[str, int]


class Unknown(Exception):
    """There is no such scenario or option, or it makes no sense; the sentence says what there is."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named world."""

    name: str
    shows: str
    minutes: int
    options: Options
    faults: Callable[[int, Options], tuple[Fault, ...]]
    work: Callable[[Measures, int, Options], None]
    settle_min: int = 10
    """The end of the run in which nothing new happens and everything must have come together."""
    look_ups_found: int = 950
    """Of 1,000 look-ups, how many must find their node."""
    kind: str = "overlay"
    """What makes its world: "overlay" netsim.overlay, "durability" netsim.durability, "economy" netsim.poot,
    "agreement" netsim.parliament, "siege" netsim.siege."""
    adversary: Recruit | None = None
    """What the option `adversaries` says how many of: in thousandths of all nodes, none of them a bootstrap node."""
    is_aimed: bool = False
    """Whether the adversaries' ids are ground to lie beside one honest node's, or a key."""
    links: Callable[[Options], LinkModel] = lambda _options: TOR
    """How its connections are, which its options may say."""


def keys_of(seed: int, number: int) -> KeyPair:
    """The key pair of a node of a run."""
    return KeyPair.from_seed(Random(f"{seed}/{number}").randbytes(32))  # noqa: S311 - a simulation, no secret


def _nothing(_nodes: int, _options: Options) -> tuple[Fault, ...]:
    return ()


def _no_work(_measures: Measures, _until: int, _options: Options) -> None:
    """All that happens follows from the options."""


def _steady(measures: Measures, until: int, options: Options) -> None:
    """Messages and look-ups from the moment everybody has joined until the network is left to settle."""
    start = measures.begun + options["join_s"] * 1000 + 2 * MINUTE
    measures.messages(options["messages"], start, max(1, until - start))
    measures.look_ups_between(options["look_ups"], start, max(1, until - start))


def _burst(measures: Measures, _until: int, options: Options) -> None:
    """All messages at once, from a few nodes in turn."""
    start = measures.begun + options["join_s"] * 1000 + 5 * MINUTE
    measures.messages(options["messages"], start, options["burst_ms"])


def _churn(nodes: int, options: Options) -> tuple[Fault, ...]:
    """Each node but the seeds goes `rate` per cent of an hour's worth: mean session 1 h · 100 / rate, ten minutes away."""
    if not options["rate"]:
        return ()
    begin = options["join_s"] * 1000 + 3 * MINUTE
    session = 3_600_000 * 100 // options["rate"]
    return (Churn(begin, begin + options["churn_min"] * MINUTE, session, 10 * MINUTE, tuple(range(SEEDS, nodes))),)


def _datagrams(options: Options) -> LinkModel:
    """Tor's figures, with frames as datagrams."""
    return replace(LOSSY, loss=options["loss"], doubled=options["doubled"], overtaken=options["overtaken"])


def _partition(nodes: int, options: Options) -> tuple[Fault, ...]:
    """Two halves that hear nothing of each other for a while."""
    begin, half = options["join_s"] * 1000 + 5 * MINUTE, nodes // 2
    one, other, span = tuple(range(half)), tuple(range(half, nodes)), options["cut_min"] * MINUTE
    return (Cut("east", begin, one, other, span), Cut("west", begin, other, one, span))


def _seeds_gone(nodes: int, options: Options) -> tuple[Fault, ...]:
    """All bootstrap nodes leave for good; later a third of the others restarts within a minute.

    These are named one by one, for a MassRestart may draw nodes that have gone, and so bring them back.
    """
    begin, seeds = options["join_s"] * 1000 + 5 * MINUTE, min(SEEDS, nodes - 1)
    gone, others = Gone(tuple(range(seeds)), begin), nodes - seeds
    count = others * min(options["share"], 100) // 100
    again = (
        Crash(seeds + others * turn // count, begin + 5 * MINUTE + MINUTE * turn // count, 2 * MINUTE)
        for turn in range(count)
    )
    return (gone, *again)


def _besieged(measures: Measures, until: int, options: Options) -> None:
    """As ever, and one honest node is looked for again and again: the one that the adversaries are after."""
    _steady(measures, until, options)
    start = measures.begun + options["join_s"] * 1000 + 2 * MINUTE
    measures.message_of_target(start)
    measures.look_ups_of_target(options["sought"], start, max(1, until - start))


def _forgotten(measures: Measures, until: int, options: Options) -> None:
    """As ever, and one honest node provides a content that others look for again and again."""
    _steady(measures, until, options)
    start = measures.begun + options["join_s"] * 1000 + 2 * MINUTE
    measures.provide_of_target(CONTENT, start)
    later = start + MINUTE
    measures.look_ups_of_content(CONTENT, options["sought"], later, max(1, until - later))


_COMMON: Final = {"join_s": 60, "messages": 60, "look_ups": 200}
_SIEGE: Final = {"sybils": 400, "links": 100, "rate": 200, "latency_ms": 25, "spread": 0, "least": 1_000, "flood": 0}

SCENARIOS: Final[Mapping[str, Scenario]] = {
    one.name: one
    for one in (
        Scenario(
            "bootstrap",
            "a network builds itself from three bootstrap nodes, gossips, looks up and compares directories",
            60,
            _COMMON,
            _nothing,
            _steady,
        ),
        Scenario(
            "churn",
            "nodes come and go: `rate` per cent of them an hour (5, 20, 50)",
            60,
            {**_COMMON, "rate": 20, "churn_min": 40},
            _churn,
            _steady,
            look_ups_found=850,
        ),
        Scenario(
            "partition",
            "the network falls into two halves and heals; both went on writing",
            50,
            {**_COMMON, "cut_min": 15},
            _partition,
            _steady,
            settle_min=15,
            look_ups_found=500,
        ),
        Scenario(
            "burst",
            "500 messages within a second",
            25,
            {"join_s": 60, "messages": 500, "burst_ms": 1000},
            _nothing,
            _burst,
        ),
        Scenario(
            "bootstrap-gone",
            "all bootstrap nodes leave for good, then a third of the others restarts: the directory brings them back",
            45,
            {**_COMMON, "share": 33},
            _seeds_gone,
            _steady,
            settle_min=15,
            look_ups_found=850,
        ),
        Scenario(
            "lossy",
            "frames are datagrams: of 1,000 so many are lost, doubled and overtaken; anti-entropy brings what is missing",
            45,
            {**_COMMON, "loss": 50, "doubled": 20, "overtaken": 100},
            _nothing,
            _steady,
            look_ups_found=750,  # an exchange that is lost is not asked again
            links=_datagrams,
        ),
        Scenario(
            "eclipse",
            "`adversaries` in 1,000 nodes answer every look-up with the names of each other",
            45,
            {**_COMMON, "adversaries": 200},
            _nothing,
            _steady,
            adversary=RandomIdEclipse,
        ),
        Scenario(
            "sybil-flood",
            "adversaries with ids ground beside one honest node hide it from look-ups; the directory still has it",
            45,
            {**_COMMON, "adversaries": 200, "sought": 40},
            _nothing,
            _besieged,
            adversary=TargetedEclipse,
            is_aimed=True,
        ),
        Scenario(
            "content-eclipse",
            "adversaries with ids ground beside a key forget who provides it, and half of them name providers that are none",
            45,
            {**_COMMON, "adversaries": 200, "sought": 40},
            _nothing,
            _forgotten,
            adversary=ContentEclipse,
            is_aimed=True,
        ),
        Scenario(
            "spam",
            "adversaries flood the meshes with GRAFT, IHAVE and IWANT, and with invalid messages",
            45,
            {**_COMMON, "adversaries": 200},
            _nothing,
            _steady,
            adversary=MeshSpam,
        ),
        Scenario(
            "replay",
            "adversaries send what they heard again, later and to others",
            45,
            {**_COMMON, "adversaries": 200},
            _nothing,
            _steady,
            adversary=Replayer,
        ),
        Scenario(
            "durability",
            "chunks over a year: `departures` per cent of the holders leave each month, `liars` per cent have no true copy",
            367 * 24 * 60,
            {
                "departures": 20,
                "repair_h": 24,
                "challenge_h": 0,
                "chunks": 100,
                "owners_online": 0,
                "liars": 10,
                "withholders": 0,
                "chunk_mb": 12,
                "kb_s": 50,
                "target_ppm": 1000,
            },
            _nothing,
            _no_work,
            settle_min=26 * 60,
            kind="durability",
        ),
        *(
            Scenario(name, shows, minutes, {**_SIEGE, **options}, _nothing, _no_work, settle_min=0, kind="siege")
            for name, shows, minutes, options in (
                ("gossip-calm", "the routers of the published attacks, with nobody who attacks", 4, {"sybils": 0}),
                (
                    "gossip-eclipse-one",
                    "`sybils` Sybils for every 100 honest nodes connect to one publisher, after a minute",
                    4,
                    {"sybils": 100, "links": 1},
                ),
                (
                    "gossip-eclipse-net",
                    "Sybils with `links` connections each join everybody's meshes and drop all",
                    4,
                    {},
                ),
                (
                    "gossip-eclipse-publishers",
                    "Sybils do so to all publishers, a tenth of the nodes",
                    4,
                    {"sybils": 100},
                ),
                (
                    "gossip-censor",
                    "Sybils in everybody's meshes drop the messages of one publisher and pass on the others'",
                    4,
                    {"sybils": 200},
                ),
                ("gossip-degrade", "Sybils in everybody's meshes drop every other message", 4, {"sybils": 200}),
                (
                    "gossip-degrade-little",
                    "Sybils with 20 connections each drop one message in ten",
                    4,
                    {"sybils": 250, "links": 20},
                ),
                ("gossip-cold-boot", "Sybils join with the honest nodes, before there is any mesh", 4, {"links": 20}),
                ("gossip-cold-boot-dense", "the same with 100 connections each", 4, {}),
                (
                    "gossip-covert-flash",
                    "Sybils join with the honest nodes, behave for two minutes, and then drop all at once",
                    6,
                    {"links": 20},
                ),
                ("gossip-dawn", "Sybils are there ten seconds before the honest nodes", 4, {"links": 20}),
                (
                    "gossip-colocation",
                    "Sybils behind few addresses: behind Tor there is none to see, so it is a cold boot",
                    4,
                    {"links": 20},
                ),
            )
        ),
        *(
            Scenario(name, shows, 12 * 60, options, _nothing, _no_work, settle_min=0, kind="agreement")
            for name, shows, options in (
                ("agree-steady", "consensus machines that nothing happens to", {}),
                (
                    "agree-partition",
                    "`share` per cent of the nodes, the Server among them, are cut off for a third of the time, in `times` pieces",
                    {"share": 30, "times": 1},
                ),
                ("agree-dead", "`dead` per cent of the nodes die after an HOUR and stay dead", {"dead": 20}),
                ("agree-attrition", "`lost` per cent of the nodes leave for good, one after the other", {"lost": 10}),
                (
                    "agree-churn",
                    "each node but the Server is down for `down` per cent of the time",
                    {"down": 10, "latency_ms": 0, "rank_ms": MAINNET.rank_ms, "rule": int(MAINNET.leader_rule)},
                ),
                ("agree-skew", "a third of the clocks is `skew` seconds fast, a third as slow", {"skew": 2}),
                ("agree-slow", "links of `latency_ms`", {"latency_ms": 5_000}),
                ("agree-equivocate", "`crooked` per cent of the nodes sign two votes and two blocks", {"crooked": 20}),
                ("agree-leaderless", "the first leader of every slot is killed before it", {}),
            )
        ),
        *(
            Scenario(name, shows, WEEK, {"sessions": 60, **options}, _nothing, _no_work, settle_min=0, kind="economy")
            for name, shows, options in (
                (
                    "poot-baseline",
                    "who leads and earns where everybody keeps to the rules",
                    {"rule": 1, "stored_gb": 50, "away": 5},
                ),
                (
                    "poot-rank17",
                    "17 identities just above the best node, under each leader rule, or under `rule` (1 sortition, 2 rank, 3 bands)",
                    {"rule": 0, "identities": 17},
                ),
                (
                    "poot-split",
                    "an operator of `share` per cent of the work splits it into 1 to 50 identities, or into `n`",
                    {"share": 10, "n": 0, "rule": 1},
                ),
                (
                    "poot-collude",
                    "5 to 33 per cent of the nodes, or `share`, witness `times` the truth for each other and nothing for the rest",
                    {"share": 0, "times": 10, "real": 100},
                ),
                (
                    "poot-wash",
                    "an operator has sessions counted that it opens for it, under `owners` accounts or none, 10 and 100",
                    {"share": 10, "identities": 10, "owners": 0},
                ),
                (
                    "poot-censor",
                    "an operator's blocks leave out everybody else's reports",
                    {"share": 20, "identities": 10},
                ),
                (
                    "poot-withhold",
                    "an operator publishes or lets pass as the next draw suits it, under one identity and under several",
                    {"share": 20, "identities": 20},
                ),
            )
        ),
    )
}


def named(name: str) -> Scenario:
    """A scenario by its name; raises Unknown."""
    if name not in SCENARIOS:
        raise Unknown(f"there is no scenario {name}: there are {', '.join(SCENARIOS)}, or the TOML file of your own")
    return SCENARIOS[name]


def from_file(path: Path) -> tuple[Scenario, dict[str, Any], Plan]:
    """The base, the settings and the additional faults of a user's scenario; raises Unknown, Contradiction, OSError."""
    try:
        table = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Unknown(f"{path} is not TOML: {error}") from error
    known = {"base", "nodes", "minutes", "seed", "options", "faults"}
    if strange := [key for key in table if key not in known]:
        raise Unknown(f"{path}: {', '.join(strange)} is unknown; there are {', '.join(sorted(known))}")
    for key in ("nodes", "minutes", "seed"):
        if key in table and (type(table[key]) is not int or (table[key] < 1 and key != "seed")):
            raise Unknown(f"{path}: {key} is a whole number{'' if key == 'seed' else ' above 0'}")
    base = named(str(table.get("base", "bootstrap")))
    faults = table.pop("faults", {})
    if not isinstance(table.get("options", {}), dict):
        raise Unknown(f"{path}: options are a table: [options]")
    if not isinstance(faults, dict) or not all(_is_tables(entries) for entries in faults.values()):
        raise Unknown(f"{path}: faults are tables in double brackets: [[faults.crash]]")
    text = "".join(_toml(kind, entry) for kind, entries in faults.items() for entry in entries)
    return base, table, parse(text)


def _is_tables(entries: object) -> bool:
    return isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)


def _toml(kind: str, entry: Mapping[str, Any]) -> str:
    def spell(value: object) -> str:
        return f'"{value}"' if isinstance(value, str) else str(list(value) if isinstance(value, tuple) else value)

    return f"[[{kind}]]\n" + "".join(f"{key} = {spell(value)}\n" for key, value in entry.items())


def recipe(
    scenario: Scenario, nodes: int, seed: int, minutes: int | None, options: Mapping[str, str], more: Plan
) -> Recipe:
    """What exactly is to be run; raises Unknown and Contradiction for what makes no sense."""
    chosen = dict(scenario.options)
    for key, text in options.items():
        if key not in chosen:
            raise Unknown(
                f"{scenario.name} has no option {key}; it has {', '.join(f'{k}={v}' for k, v in chosen.items())}"
            )
        if not str(text).isdecimal():
            raise Unknown(f"the option {key} is a number, and {text} is none")
        chosen[key] = int(text)
    if not -(1 << 63) <= seed < 1 << 63:
        raise Unknown(f"a seed has 64 bits, its sign among them, and {seed} has more")
    if nodes < 2:
        raise Unknown(f"a network has at least 2 nodes, and {nodes} were asked for")
    length = (minutes or scenario.minutes) * MINUTE
    if chosen.get("adversaries", 0) > ADVERSARIES_MAX:
        raise Unknown(f"adversaries is a number in 1,000, at most {ADVERSARIES_MAX}")
    if wrong := scenario.links(chosen).complaints():
        raise Unknown("; ".join(wrong))
    own = Plan(scenario.faults(nodes, chosen))
    least = max(chosen.get("join_s", 0) * 1000 + 3 * MINUTE, own.end) + scenario.settle_min * MINUTE
    if length < least:
        raise Unknown(f"{scenario.name} takes {-(-least // MINUTE)} minutes at least with these options")
    plan = Plan((*own.faults, *more.faults))
    if wrong := complaints(plan, nodes):
        raise Contradiction("; ".join(wrong))
    return Recipe(scenario.name, seed, nodes, length, tuple(sorted(chosen.items())), plan)
