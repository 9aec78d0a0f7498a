"""A siege as numbers and lines: what was lost, how late it came, and who sat in the meshes; beside what was published."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from netsim.figures import draw, siege_figures
from netsim.report import Run, outcome, table, told
from netsim.siege import BYTES, THIN, MeshesSeen, SiegeStage


class PublishedOutcome(NamedTuple):
    """What others report of gossipsub v1.1 with its scores: deliveries lost, and when the last came; None where none is known."""

    lost: str
    p99_ms: int | None = None
    most_ms: int | None = None
    recovered: str = "not stated"


PUBLISHED: Final[Mapping[str, PublishedOutcome]] = {
    "gossip-eclipse-net": PublishedOutcome("none", 141, 178, "Sybils are kept out from the onset"),
    "gossip-cold-boot": PublishedOutcome("none", 205, 1_200, "within about 1.5 min"),
    "gossip-covert-flash": PublishedOutcome("none", 197, 1_000, "within 2 min of the turn"),
}
"""By way of reading notes and the authors' own article of 2020-10-06: the report's text could not be read here."""
GENERAL: Final = PublishedOutcome("none")


def result(stage: SiegeStage, run: Run) -> dict[str, Any]:
    """The numbers of a run, as JSON has them."""
    world, ledger, attack = stage.world, stage.measures, stage.attack
    began_s = (attack.joins_ms + attack.turns_ms) / 1000
    under = [one for one in ledger.watched if one.at_s >= began_s]
    return {
        **told(run, world, ledger.begun, stage.broken),
        "sybils": len(ledger.sybils),
        "messages": len(ledger.sent),
        "copies": round(_received(stage) / max(1, ledger.wanted - ledger.lost) / BYTES, 3),
        "deliveries_wanted": ledger.wanted,
        "deliveries_lost": ledger.lost,
        "delivery_ms": _spread(ledger.latencies),
        "victim_delivery_ms": _spread(ledger.of_victim),
        "sybil_places_most": max((round(_share(one), 4) for one in under), default=0),
        "sybil_places_end": round(_share(under[-1]), 4) if under else 0,
        "thin_meshes_most": max((one.thin for one in under), default=0),
        "thin_meshes_end": under[-1].thin if under else 0,
        "delivery_ms_end": _spread(ledger.late[max(ledger.late)] if ledger.late else ()),
        "recovered_s": ledger.recovered_s(began_s),
        "graylisted": sum(count for kind, count in world.facts.items() if kind.__name__ == "Graylisted"),
        "network": dict(sorted(world.counts.items())),
        "command": run.command,
    }


def _received(stage: SiegeStage) -> int:
    """Bytes that came to honest nodes."""
    return sum(stage.world.by_id[node].bytes_in for node in stage.measures.honest)


def _spread(latencies: Sequence[int]) -> dict[str, int | None]:
    ranked = sorted(latencies)
    if not ranked:
        return {"p50": None, "p99": None, "max": None}
    return {"p50": ranked[len(ranked) // 2], "p99": ranked[99 * len(ranked) // 100], "max": ranked[-1]}


def _share(one: MeshesSeen) -> float:
    return one.sybils / one.places if one.places else 0.0


def write(folder: Path, stage: SiegeStage, run: Run) -> dict[str, Any]:
    """Write result.json, the meshes as CSV and a figure, and report.md; returns the numbers; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = result(stage, run)
    (folder / "result.json").write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
    table(folder / "meshes.csv", [one._asdict() for one in stage.measures.watched])
    draw(folder, stage.measures, siege_figures())
    text = ["# " + numbers["scenario"], *say(numbers), "![meshes](meshes.svg)", f"    {run.command}"]
    (folder / "report.md").write_text("\n\n".join(text) + "\n")
    return numbers


def say(numbers: Mapping[str, Any]) -> list[str]:
    """The run in a few lines, the published figures beside it."""
    told = PUBLISHED.get(numbers["scenario"], GENERAL)
    late, victim = numbers["delivery_ms"], numbers["victim_delivery_ms"]
    back = numbers["recovered_s"]
    lines = [
        f"{numbers['scenario']}: {numbers['nodes']} honest nodes, {numbers['sybils']} Sybils, seed {numbers['seed']}: {outcome(numbers)}",
        f"  {numbers['deliveries_lost']:,} of {numbers['deliveries_wanted']:,} deliveries of {numbers['messages']} messages never came (published: {told.lost})",
        f"  they came after {late['p50']} ms (p50), {late['p99']} ms (p99), {late['max']} ms (last){_published(told)}",
    ]
    if victim["p50"] is not None:
        lines.append(
            f"  the first publisher's after {victim['p50']} ms (p50), {victim['p99']} ms (p99), {victim['max']} ms (last)"
        )
    if numbers["sybils"]:
        lines.append(
            f"  Sybils held {100 * numbers['sybil_places_most']:.0f} % of the places of honest meshes at the most, "
            f"{100 * numbers['sybil_places_end']:.0f} % at the end; of {numbers['nodes']} meshes {numbers['thin_meshes_most']} "
            f"had fewer than {THIN} honest places at the most, {numbers['thin_meshes_end']} at the end"
        )
        healed = "meshes did not recover" if back is None else f"meshes had recovered after {back:g} s"
        late = numbers["delivery_ms_end"]
        lines.append(
            f"  {healed} (published: {told.recovered}); the last half minute came after {late['p50']} ms (p50), {late['p99']} ms (p99)"
        )
    lines.append(f"  {numbers['copies']:g} times its bytes came to a node for each message that came")
    lines.append(f"  {numbers['events']:,} events in {numbers['wall_s']} s")
    return lines


def _published(told: PublishedOutcome) -> str:
    if told.p99_ms is None:
        return "; published: not known"
    return f"; published: {told.p99_ms} ms (p99), {told.most_ms:,} ms (last)"
