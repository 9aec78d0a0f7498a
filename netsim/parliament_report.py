"""An agreement's run as numbers and lines: blocks, forks, finality, who published, who was expelled."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consensus.params import SERVER_RANK
from netsim.parliament import AgreementStage
from netsim.report import Run, outcome, table, told


def result(stage: AgreementStage, run: Run) -> dict[str, Any]:
    """The numbers of a run, as JSON has them."""
    world, chronicle = stage.world, stage.measures
    return {
        **told(run, world, chronicle.begun, stage.broken),
        **chronicle.numbers(),
        "network": dict(sorted(world.counts.items())),
        "command": run.command,
    }


def write(folder: Path, stage: AgreementStage, run: Run) -> dict[str, Any]:
    """Write result.json, the branch's blocks as CSV and report.md, and return the numbers; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = result(stage, run)
    (folder / "result.json").write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
    chain = reversed(stage.measures.canonical())
    rows = [{"slot": one.slot, "rank": one.rank, "entity": one.entity.hex(), "block": one.block.hex()} for one in chain]
    table(folder / "blocks.csv", rows)
    broken = numbers["broken"]
    reason = [f"> {broken['check']}: {broken['sentence']}"] if broken else []
    again = ["Run it again, to the same trace:", f"    {numbers['command']}"]
    (folder / "report.md").write_text("\n\n".join(["# " + numbers["scenario"], *say(numbers), *reason, *again]) + "\n")
    return numbers


def say(numbers: Mapping[str, Any]) -> list[str]:
    """The run in a few lines."""
    lag, spread = numbers["final_lag_hours"], numbers["spread_ms"]
    by_rank = {int(rank): count for rank, count in numbers["by_rank"].items()}
    ranks = ", ".join(f"{count} of rank {rank}" for rank, count in by_rank.items() if rank != SERVER_RANK)
    final = (
        "nothing became final"
        if lag["p50"] is None
        else f"final: HOUR {numbers['final_hour']} at the last of all; a checkpoint is final {lag['p50']} HOUR(s) later, {lag['max']} at the most"
    )
    lines = [
        f"{numbers['scenario']}: {numbers['nodes']} nodes, seed {numbers['seed']}, {numbers['virtual_s'] / 3600:.1f} hours: {outcome(numbers)}",
        f"  {numbers['blocks']} blocks in {numbers['slots']} slots ({100 * numbers['filled']:.1f} %), {numbers['forked']} on other branches",
        f"  {final}",
        f"  published: {ranks}, {by_rank.get(SERVER_RANK, 0)} by the Server for want of a rank; in all the Server made {100 * numbers['server_share_blocks']:.1f} % of the blocks",
        f"  a block is everywhere after {spread['p50']} ms (p50), {spread['p99']} ms (p99)",
    ]
    if numbers["expelled"]:
        lines.append(f"  expelled: nodes {', '.join(map(str, numbers['expelled']))}")
    return lines
