"""An operator's network in a few lines of TOML, and what to expect of it: durability, finality, traffic, disk, credits.

    TOML ── `read` ──→ Described ── `parts` ──→ runs of four scenarios, several seeds each ── `answers` ──→ figures with intervals

Nothing is simulated here: durability, agree-churn, churn and poot-baseline are run as `run` runs them, by their options, and what
they measured is laid together. What no world has (sessions that are stored and fetched, other replica counts) follows by the
arithmetic that stands beside its answer, from what the worlds measured.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, get_type_hints

from consensus.params import LeaderRule
from consensus.placement import REPLICAS
from netsim.batch import figures
from netsim.census import YEAR_MS, poisson_bounds
from netsim.durability_report import CHALLENGE_MB
from netsim.parliament import LAG_HOURS
from netsim.population import lifetime_ms
from netsim.scenarios import Unknown
from netsim.significance import Estimate, estimate
from node.overlay.custody import ReplicateLimits

YEAR_S: Final = 365 * 86_400
HOUR_S: Final = 3_600
DURABLE: Final = 1e-3
"""Lost chunks a chunk-year that DESIGN §5 allows."""
RULES: Final = {rule.name.lower(): rule for rule in LeaderRule}


class Within(NamedTuple):
    """What a number of the file may be, and what it says."""

    low: int
    high: int
    means: str


@dataclass(frozen=True, slots=True)
class Described:
    """A network as its operator describes it."""

    nodes: Annotated[int, Within(10, 100_000, "nodes that are registered")] = 100
    availability: Annotated[int, Within(50, 100, "per cent of the time for which a node is up")] = 95
    departure: Annotated[int, Within(0, 90, "per cent of the nodes that leave for good in a month")] = 20
    disk_gb: Annotated[int, Within(1, 100_000, "GB that a node offers, in the median")] = 50
    bandwidth_kb_s: Annotated[int, Within(1, 1_000_000, "kB a second that a transfer between two nodes gets")] = 50
    line_kb_s: Annotated[
        int, Within(1, 1_000_000, "kB a second, each way, of a node's line that Lucid may have, for all its transfers")
    ] = 500
    latency_ms: Annotated[int, Within(1, 60_000, "milliseconds one way between two nodes, in the median")] = 250
    replicas: Annotated[int, Within(2, 6, "copies of each chunk; what is built keeps three")] = REPLICAS
    repair_hours: Annotated[int, Within(2, 720, "hours without an answer after which a holder is replaced")] = 24
    challenge_hours: Annotated[
        int, Within(1, 360, "hours between two challenges of a copy, at most half of repair_hours")
    ] = ReplicateLimits().challenge_hours
    slot_timeout_ms: Annotated[int, Within(1_000, 7_400, "milliseconds after which the next rank may publish")] = 5_000
    sessions: Annotated[int, Within(1, 10_000, "sessions that close in an hour, for every 100 nodes")] = 10
    session_mb: Annotated[int, Within(1, 100_000, "MB of a session, in the mean")] = 60
    kept_days: Annotated[int, Within(1, 3_650, "days for which a session is kept")] = 90
    leader_rule: Annotated[str, "sortition, rank or bands"] = "sortition"

    @property
    def stored_gb(self) -> float:
        """GB of other people's replicas on a node, once as many sessions expire as close."""
        return self.sessions / 100 * self.session_mb * self.replicas * 24 * self.kept_days / 1_000


class Part(NamedTuple):
    """A world that has to be run for it."""

    name: str
    words: tuple[str, ...]
    """What stands after `run`."""
    nodes: int


class Answer(NamedTuple):
    """What to expect of one figure."""

    name: str
    unit: str
    value: Estimate
    source: str
    """The part that it was measured in, or how it was reckoned."""
    verdict: str = ""
    """Why it is not enough, where it is not."""


WHOLE: Final = {"durability": 100, "consensus": 40, "overlay": 150, "credits": 2_000}
"""Nodes that a part is run with at the most, unless all are asked for."""
EXAMPLE_HEAD: Final = (
    "# A network for `lucid-netsim what-if`. Each line may be left out: this is what then stands for it.\n"
)


def example() -> str:
    """A file with every key, its default and its meaning."""
    hints, lines = get_type_hints(Described, include_extras=True), []
    for one in fields(Described):
        span, value = hints[one.name].__metadata__[0], one.default
        said = f"{span.means} ({span.low:,} to {span.high:,})" if isinstance(span, Within) else span
        spelt = f'"{value}"' if isinstance(value, str) else str(value)
        lines.append(f"{f'{one.name} = {spelt}':<28}# {said}\n")
    return EXAMPLE_HEAD + "".join(lines)


def read(path: Path) -> Described:
    """The network that a file describes; raises Unknown with every mistake in it, and OSError."""
    try:
        table = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Unknown(f"{path} is not TOML: {error}") from error
    spans = {name: hint.__metadata__[0] for name, hint in get_type_hints(Described, include_extras=True).items()}
    wrong = [f"{key} is unknown; there are {', '.join(spans)}" for key in table if key not in spans]
    for key, value in table.items():
        span = spans.get(key)
        if isinstance(span, Within) and not (type(value) is int and span.low <= value <= span.high):
            wrong.append(f"{key} is {value!r}: a whole number from {span.low:,} to {span.high:,}, {span.means}")
    if table.get("leader_rule", "sortition") not in RULES:
        wrong.append(f"leader_rule is {table['leader_rule']!r}: {', '.join(RULES)}")
    if wrong:
        raise Unknown(f"{path}: {'; '.join(wrong)}")
    network = Described(**table)
    if "challenge_hours" not in table:
        network = replace(network, challenge_hours=min(network.challenge_hours, network.repair_hours // 2))
    if 2 * network.challenge_hours > network.repair_hours:
        raise Unknown(
            f"{path}: challenge_hours is {network.challenge_hours}, and two challenges have to fit into the "
            f"{network.repair_hours} of repair_hours"
        )
    return network


def parts(network: Described, *, whole: bool) -> list[Part]:
    """The worlds to run; not more nodes than WHOLE says, unless the whole network is asked for."""
    away = 100 - network.availability

    def part(name: str, scenario: str, minutes: int, **options: int) -> Part:
        count = network.nodes if whole else min(network.nodes, WHOLE[name])
        words = [scenario, "--nodes", str(count), "--minutes", str(minutes)]
        for key, value in options.items():
            words += ["--option", f"{key}={value}"]
        return Part(name, tuple(words), count)

    churn = {"rate": 600 * away // network.availability} if away else {}
    law = {"rank_ms": network.slot_timeout_ms, "rule": RULES[network.leader_rule], "latency_ms": network.latency_ms}
    return [
        part(
            "durability",
            "durability",
            90 * 24 * 60,
            departures=network.departure,
            repair_h=network.repair_hours,
            challenge_h=network.challenge_hours,
            kb_s=network.bandwidth_kb_s,
            chunks=100,
            liars=0,
            target_ppm=0,
        ),
        part("consensus", "agree-churn", 12 * 60, down=away, **law),
        part("overlay", "churn" if away else "bootstrap", 60, **churn),
        part(
            "credits",
            "poot-baseline",
            7 * 24 * 60,
            rule=RULES[network.leader_rule],
            stored_gb=network.disk_gb,
            away=away,
            sessions=network.sessions,
        ),
    ]


def lost_by_formula(network: Described, repair_h: float) -> float:
    """Chunks lost a chunk-year, where all copies of a chunk depart before the first is replaced, R·λ·(λT)^(R-1) (netsim.census)."""
    mean_ms = lifetime_ms(network.departure)
    if mean_ms is None:
        return 0.0
    return network.replicas * YEAR_MS / mean_ms * (repair_h * 3_600_000 / mean_ms) ** (network.replicas - 1)


def answers(network: Described, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Answer]:
    """What the runs of all parts say of the network, each over its seeds; runs by the names of their parts."""
    found = [*_durability(network, runs["durability"]), *_consensus(runs["consensus"]), *_costs(network, runs)]
    return [one._replace(value=one.value._replace(low=max(0.0, one.value.low))) for one in found]  # none can be less


def _over(runs: Sequence[Mapping[str, Any]], name: str, factor: float = 1.0) -> Estimate:
    """A figure of all runs, times a factor."""
    return estimate([value * factor for value in figures(runs)[name]])


def _scaled(one: Estimate, factor: float, plus: float = 0.0) -> Estimate:
    return Estimate(one.seeds, *(factor * value + plus for value in one[1:]))


def _sum(ones: Sequence[Estimate]) -> Estimate:
    """What figures are together; its interval is as wide as if all were off in one direction."""
    return Estimate(
        min(one.seeds for one in ones), *(sum(values) for values in zip(*(one[1:] for one in ones), strict=True))
    )


def _durability(network: Described, runs: Sequence[Mapping[str, Any]]) -> list[Answer]:
    found = []
    years, lost = sum(run["chunk_years"] for run in runs), sum(run["lost"] for run in runs)
    low, high = poisson_bounds(lost)
    counted = Estimate(len(runs), lost / years, low / years, high / years, lost / years, lost / years)
    repairs = [run["repair_h"]["mean"] for run in runs if run["repair_h"]]
    if network.replicas == REPLICAS:
        if network.departure:
            expected = _over(runs, "lost_a_year_expected")
            verdict = f"above {DURABLE:g}, the target" if expected.mean > DURABLE else ""
            found.append(Answer("chunks lost", "a chunk-year", expected, "durability: time on last copies", verdict))
        found.append(
            Answer("chunks lost, counted", "a chunk-year", counted, f"durability: {lost} of {years:,.0f} chunk-years")
        )
    if repairs:
        reckoned = estimate([lost_by_formula(network, hours) for hours in repairs])
        verdict = f"above {DURABLE:g}, the target" if reckoned.mean > DURABLE and network.replicas != REPLICAS else ""
        how = f"R·λ·(λT)^(R-1) with R = {network.replicas}, T from the durability run with R = {REPLICAS}"
        found.append(Answer("chunks lost, by formula", "a chunk-year", reckoned, how, verdict))
        found.append(Answer("time to a new copy", "hours", estimate(repairs), "durability"))
    return found


def _consensus(runs: Sequence[Mapping[str, Any]]) -> list[Answer]:
    lags = [run["final_lag_hours"] for run in runs]
    never = [run["virtual_s"] / HOUR_S for run in runs]  # where nothing became final, the whole run is waited for
    usual = estimate([hours if lag["p50"] is None else lag["p50"] for lag, hours in zip(lags, never, strict=True)])
    slow = estimate([hours if lag["max"] is None else lag["max"] for lag, hours in zip(lags, never, strict=True)])
    verdict = f"finality stalls: {LAG_HOURS} HOURs are what the rules expect" if slow.most > LAG_HOURS else ""
    return [
        Answer("finality behind", "HOURs", usual, "consensus: the median of all checkpoints"),
        Answer("finality behind, at the most", "HOURs", slow, "consensus", verdict),
        Answer("slots with a block", "%", _over(runs, "filled", 100), "consensus"),
        Answer("blocks by the Server", "%", _over(runs, "server_share_blocks", 100), "consensus"),
    ]


def _costs(network: Described, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Answer]:
    gb_a_year = YEAR_S / 1e9
    chunk_mb = runs["durability"][0]["options"]["chunk_mb"]
    copies = 1_000 * network.stored_gb / chunk_mb  # on a node
    taken_in = network.sessions / 100 * network.session_mb * network.replicas * 24 * 365 / 1_000
    chain = _over(runs["consensus"], "disk_bytes_per_hour", 24 * 365 / 1e9)
    disk = _scaled(chain, 1, network.stored_gb)
    full = f"above the {network.disk_gb} GB that a node offers" if disk.mean > network.disk_gb else ""
    proofs = estimate([_challenged(run) for run in runs["durability"]])
    mended = estimate([run["repaired"] / run["chunk_years"] / REPLICAS for run in runs["durability"]])
    lucid = estimate([_lucid_a_year(run, "everybody", run["nodes"]) for run in runs["credits"]])
    middle = estimate([_lucid_a_year(run, "median node", 1) for run in runs["credits"]])
    rule = f"{network.sessions} sessions an hour and 100 nodes of {network.session_mb} MB"
    traffic = [
        Answer("traffic of gossip, look-ups, directory", "GB in a node-year", _over(runs["overlay"], "bytes_per_node_s", gb_a_year), "overlay"),
        Answer("traffic of consensus", "GB in a node-year", _over(runs["consensus"], "bytes_per_node_s", gb_a_year), "consensus: each record once"),
        Answer("traffic of sessions taken in", "GB in a node-year", estimate([taken_in]), f"{rule}, {network.replicas} copies"),
        Answer("traffic of repairs", "GB in a node-year", _scaled(mended, copies * chunk_mb / 1_000), "durability: repairs of a copy in a year, times what a node stores"),
        Answer("traffic of challenges", "GB in a node-year", _scaled(proofs, copies / 1_000), f"durability: challenges of a copy in a year, {CHALLENGE_MB:.2f} MB each"),
    ]  # fmt: skip
    whole = _sum([one.value for one in traffic])
    kb_s = _scaled(whole, 1e6 / YEAR_S)
    crowded = f"above the {network.line_kb_s:,} kB/s of its line" if kb_s.mean > network.line_kb_s else ""
    return [
        *traffic,
        Answer("traffic in all", "GB in a node-year", whole, "the five above"),
        Answer("traffic in all, in the mean", "kB/s a node", kb_s, "the same", crowded),
        Answer("disk of replicas and the chain", "GB a node", disk, f"{rule}, kept for {network.kept_days} days; the chain of a year", full),
        Answer("disk of the chain", "GB a node-year", chain, "consensus"),
        Answer("credits", "LUCID a node-year", lucid, "credits: the mean node"),
        Answer("credits, median node", "LUCID a node-year", middle, "credits: the node of median work"),
    ]  # fmt: skip


def _challenged(run: Mapping[str, Any]) -> float:
    """MB that challenges of one copy move in a year."""
    copy_years = sum(int(copies) * years for copies, years in run["years_with_copies"].items())
    return float(sum(run["challenges"].values()) * CHALLENGE_MB / copy_years)


def _lucid_a_year(run: Mapping[str, Any], row: str, of: int) -> float:
    """LUCID that each of so many nodes is paid in a year, as it was in the part of the run that counts."""
    earned = next(one["lucid"] for one in run["table"] if one["strategy"] == row)
    counted_s = run["virtual_s"] * run["counted_slots"] / run["slots"]
    return float(earned / of * YEAR_S / counted_s)
