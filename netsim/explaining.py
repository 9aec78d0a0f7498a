"""What a scenario models and what it does not: for whoever has to decide how far to believe its numbers.

kind of world ──→ what runs for real, what stands in for something, what is left out          option ──→ its meaning and unit
"""

from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from typing import Any, Final, NamedTuple

from netsim.faults import KINDS
from netsim.scenarios import Scenario


class Model(NamedTuple):
    """A kind of world."""

    runs: tuple[str, ...]
    """The daemon's own code that decides."""
    stands_in: tuple[str, ...]
    """What is replaced by an assumption."""
    leaves_out: tuple[str, ...]
    checks: tuple[str, ...]
    """What breaks a run."""


MODELS: Final[Mapping[str, Model]] = {
    "overlay": Model(
        (
            "whole peers: Kademlia, gossip, replicated directory, their frames encoded and decoded as on the wire",
            "signatures, each made for real and checked once for all nodes (--real-signatures: each time)",
        ),
        (
            "Tor: circuits of 250 ms one way and 500 kB/s in the median, 4 s to connect, that break after 4 hours in the mean",
            "these figures are shaped like published ones; only a private Tor network was measured",
            "disks: what is kept is there at the next start, unless a fault says otherwise",
        ),
        ("Noise, yamux and sockets", "replicas of chunks, and the chain", "processor time: a machine answers at once"),
        (
            "every node that is up at the end has the newest directory entry of everybody",
            "enough look-ups find their node",
            "no honest node shuts out another, and where nobody means ill none keeps more than is going on",
            "time never goes back, and each fault and each loss that was to be took place",
        ),
    ),
    "durability": Model(
        ("the daemon's replication: placement, challenges, repair, renewal, receipts and their signatures",),
        (
            "disks of chunks, of which a replica's roots are computed and its bytes are not kept",
            "departures: exponential lifetimes; nobody is away for a while",
            "transfers: `kb_s` over each link, whatever else it carries",
        ),
        (
            "gossip, Kademlia and the directory: who is registered is told at the ERA's change",
            "correlated failures: a data centre, an operator or a country that goes at once",
            "disks that fail while their node lives",
        ),
        (
            "a chunk that has a copy is back at three within the repair time and a day",
            "no true holder takes a false answer, or signs for other bytes than were placed",
        ),
    ),
    "agreement": Model(
        (
            "the daemon's consensus: draws, blocks, votes, fork choice, finality, reports and credits, journals and restarts",
        ),
        (
            "gossip: every record goes once to every other node, over links of some round trips",
            "witnesses: reports are signed by their real keys, challenges are not sent",
            "payloads: they are empty, and valid when their header names them",
        ),
        ("Kademlia, replicas and the execution layer", "processor time: a block is checked at once"),
        (
            "no two final checkpoints contradict each other",
            "enough slots have a block, and finality is back at the end",
            "nobody is expelled but those who signed twice, and they are",
        ),
    ),
    "economy": Model(
        ("the consensus's own functions: witnesses, credits, draws, misses, rewards, ERAs",),
        (
            "storage and relay: log-normal, a median of 50 GB and sigma 1, a tenth of it relayed",
            "machines: away for 5 % of the time in the median, two hours at a time",
            "sessions: they close at random, stored and shown as the rule asks",
        ),
        ("frames, forks and latency: everybody sees every block at once", "prices, money and why anybody takes part"),
        (
            "who has at most 20 % of the work, or of the nodes, leads in no more than 1.33 times its share of the work, and a hundredth",
        ),
    ),
    "siege": Model(
        (
            "the daemon's gossip router, as shipped, with its blocklist: meshes, scores, IHAVE and IWANT, frames as on the wire",
            "Sybils as in the published evaluation: GRAFT at once and again a minute after a PRUNE, no IHAVE, no IWANT answered",
        ),
        (
            "links: 25 ms ± 10 %, no limit of bandwidth, as there; `latency_ms` 250 and `spread` 500 are Tor's",
            "load: 2 messages a second from a tenth of the nodes; there it was 120. Messages of 2 KiB",
            "connections: each honest node dials 20, as there; of fewer than a hundred nodes that is most of them",
        ),
        (
            "IP addresses (P6) and the delivery penalty (P3), which our router does not have",
            "Kademlia and peer exchange: nobody dials anybody who was not chosen at the start",
            "processor time and memory of the victims",
        ),
        ("every message reaches every honest node (`least` in 1,000)", "the Sybils were given what they dropped"),
    ),
}

OPTIONS: Final[Mapping[str, str]] = {
    "adversaries": "adversaries in 1,000 nodes",
    "away": "per cent of the time for which a machine is away, in the median",
    "burst_ms": "milliseconds in which all messages are written",
    "challenge_h": "hours between two challenges of a replica; 0: what keeps the promise at least cost",
    "chunk_mb": "MB of a chunk",
    "chunks": "chunks that are placed",
    "churn_min": "minutes for which nodes come and go",
    "crooked": "per cent of the nodes that sign two votes and two blocks",
    "cut_min": "minutes for which the halves hear nothing of each other",
    "dead": "per cent of the nodes that die after an HOUR",
    "departures": "per cent of the holders that leave for good in a month",
    "doubled": "of 1,000 frames those that come twice",
    "down": "per cent of the time for which each node is away",
    "flood": "1: honest nodes flood, as a baseline: everything new to everybody they are connected with",
    "identities": "identities of the operator who is watched",
    "join_s": "seconds over which the nodes start",
    "kb_s": "kB a second and link for transfers",
    "latency_ms": "milliseconds one way, in the median; 0: as in every agreement",
    "least": "of 1,000 deliveries those that have to come",
    "liars": "per cent of the holders that sign and have no true copy",
    "links": "connections that each Sybil makes",
    "look_ups": "look-ups that are made",
    "loss": "of 1,000 frames those that are lost",
    "lost": "per cent of the nodes that leave for good over the run",
    "messages": "directory entries that are written",
    "n": "identities into which the work is split; 0: 1 to 50, a row each",
    "overtaken": "of 1,000 frames those that others overtake",
    "owners": "accounts under which sessions are opened; 0: none, 10 and 100, a row each",
    "owners_online": "per cent of the owners that stay, and can encode anew",
    "real": "per cent of what it claims that a colluding node really does",
    "repair_h": "hours without a passed challenge after which a holder is replaced",
    "rank_ms": "slotTimeout: milliseconds after which the next rank may publish",
    "rule": "the leader rule: 1 sortition, 2 rank, 3 bands; 0: each of them",
    "sessions": "sessions that close in an HOUR, for every 100 nodes",
    "skew": "seconds by which clocks are fast or slow",
    "sought": "look-ups of the one who is hidden",
    "spread": "sigma of the log-normal latencies, in thousandths",
    "stored_gb": "GB that a machine stores, in the median",
    "sybils": "Sybils for every 100 honest nodes",
    "target_ppm": "lost chunks in a million chunk-years that are allowed",
    "withholders": "per cent of the holders that answer challenges truly and serve corrupt bytes",
}

MEANS_IN: Final[Mapping[str, Mapping[str, str]]] = {
    "overlay": {
        "rate": "per cent of the nodes that go in an hour",
        "share": "per cent of the nodes that start again",
    },
    "agreement": {
        "share": "per cent of the nodes that are cut off",
        "times": "pieces of the cut",
    },
    "economy": {
        "share": "per cent of the work that the operator has, or of the nodes that collude",
        "times": "how many times the truth is witnessed",
    },
    "siege": {"rate": "messages in 100 s, of all nodes"},
}
"""Options that mean something else in each kind of scenario."""
WITHOUT_FAULTS: Final = frozenset({"economy", "siege"})
"""Kinds of scenarios that take no fault plan."""


def means(scenario: Scenario, option: str) -> str:
    """What an option means in a scenario."""
    return MEANS_IN.get(scenario.kind, {}).get(option) or OPTIONS[option]


def example(scenario: Scenario) -> str:
    """A file of one's own on top of a scenario: every option with its default and meaning, and one fault of each kind as a comment."""
    lines = [
        "# A scenario of your own, for `lucid-netsim run FILE.toml`. Each line may be left out: this is what then stands for it.",
        f'base = "{scenario.name}"',
        "nodes = 100",
        f"minutes = {scenario.minutes}",
        "seed = 1",
        "",
        "[options]",
        *(f"{f'{key} = {value}':<20}# {means(scenario, key)}" for key, value in scenario.options.items()),
    ]
    if scenario.kind not in WITHOUT_FAULTS:
        lines += [
            "",
            "# Faults, as many of each kind as you like, once the # is gone; times in milliseconds from the beginning.",
        ]
        for name, kind in KINDS.items():
            lines += ["", f"# {(kind.__doc__ or '').splitlines()[0]}", f"# [[faults.{name}]]"]
            lines += [f"# {field.name} = {_sample(field)}" for field in fields(kind)]
    return "\n".join(lines) + "\n"


_SAMPLES: Final[Mapping[str, str]] = {
    "at": "600000",
    "until": "900000",
    "name": '"west"',
    "torn": '"half"',
    "node": "3",
    "nodes": "[4, 5]",
    "sources": "[0, 1]",
    "targets": "[2, 3]",
    "share": "300",
    "delta_ms": "-5000",
    "ppm": "100",
}


def _sample(field: Field[Any]) -> str:
    return _SAMPLES.get(field.name, "60000")


def explained(scenario: Scenario) -> dict[str, Any]:
    """A scenario with its model, as JSON has it."""
    model = MODELS[scenario.kind]
    return {
        "name": scenario.name,
        "shows": scenario.shows,
        "kind": scenario.kind,
        "minutes": scenario.minutes,
        "options": {key: {"default": value, "means": means(scenario, key)} for key, value in scenario.options.items()},
        **{name: list(sentences) for name, sentences in model._asdict().items()},
    }


def say(told: Mapping[str, Any]) -> Iterator[str]:
    """The same for people, line by line."""
    yield f"{told['name']}: {told['shows']}"
    for title, name in (
        ("What runs for real", "runs"),
        ("What is assumed in the place of something", "stands_in"),
        ("What is left out", "leaves_out"),
        ("What breaks a run", "checks"),
    ):
        yield ""
        yield f"{title}:"
        yield from (f"  - {sentence}" for sentence in told[name])
    yield ""
    yield f"{told['minutes']:,} virtual minutes unless --minutes says otherwise. Options:"
    width = max((len(name) for name in told["options"]), default=0)
    for name, one in told["options"].items():
        yield f"  {name:<{width}} = {one['default']:<6} {one['means']}"
