"""A run in a few lines for people, whatever kind of world it was."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from netsim import durability_report, economy_report, parliament_report, siege_report
from netsim.report import outcome
from netsim.scenarios import named


def lines_of(numbers: Mapping[str, Any]) -> list[str]:
    """The lines of a result, the answer first."""
    return _TELLERS[named(numbers["scenario"]).kind](numbers)


def _overlay(numbers: Mapping[str, Any]) -> list[str]:
    latency = numbers["delivery_ms"]
    told = f"  {numbers['messages']} messages, {numbers['deliveries']} deliveries, {numbers['entries_missing']} missing"
    found = f"  {numbers['look_ups_found']} of {numbers['look_ups']} look-ups found their node"
    if numbers["look_ups_found"]:
        found += (
            f"; median {numbers['look_up_hops']} hops, {numbers['look_up_queries']} queries, {numbers['look_up_ms']} ms"
        )
    hidden = (
        [
            f"  of {numbers['target_look_ups']} look-ups of what {numbers['adversaries']} adversaries hide, {numbers['target_look_ups_found']} found it"
        ]
        if numbers["target_look_ups"]
        else []
    )
    return [
        f"{numbers['scenario']}, {numbers['nodes']} nodes, seed {numbers['seed']}: {outcome(numbers)}",
        f"  {numbers['virtual_s']:,.0f} virtual seconds, {numbers['events']:,} events in {numbers['wall_s']} s, {numbers['peak_mb']} MB",
        told if latency["p50"] is None else f"{told}; p50 {latency['p50']} ms, p99 {latency['p99']} ms",
        found,
        *hidden,
        f"  trace {numbers['digest']}",
    ]


_TELLERS: Final[Mapping[str, Callable[[Mapping[str, Any]], list[str]]]] = {
    "overlay": _overlay,
    "durability": lambda numbers: [*durability_report.say(dict(numbers))],
    "agreement": lambda numbers: [*parliament_report.say(numbers)],
    "siege": siege_report.say,
    "economy": lambda numbers: [*economy_report.say(dict(numbers))],
}
