"""What an economy costs: a month of poot-baseline, each run a process of its own on one core.

`ms a slot` is processor time for everything that a slot and its share of an HOUR need: the draw among all nodes, nine
witnesses of each, settling. The draw alone is consensus.schedule's, a hash a node.
"""

import sys
from pathlib import Path
from typing import Final

from tests.bench.measure import answer_of, spread, table

SEED: Final = 1
MONTH: Final = 30 * 24 * 60
NODES: Final = (100, 300, 1000)


def main(folder: Path, rounds: int) -> dict[str, object]:
    """Measure and print; returns the figures."""
    rows: list[tuple[str, ...]] = [("nodes", "slots", "wall s", "CPU s", "ms a slot", "MB")]
    figures: dict[str, object] = {}
    for nodes in NODES:
        words = ["run", "poot-baseline", "--nodes", str(nodes), "--seed", str(SEED), "--minutes", str(MONTH), "--json"]
        runs = [answer_of([sys.executable, "-P", "-m", "netsim", *words], cwd=folder) for _ in range(rounds)]
        if len({run["digest"] for run in runs}) > 1:
            raise RuntimeError(f"{nodes} nodes: one seed gave different traces")
        slots = runs[0]["slots"]
        cpu = [run["cpu_s"] for run in runs]
        spreads = [
            spread([run["wall_s"] for run in runs], "{:.1f}"),
            spread(cpu, "{:.1f}"),
            spread([1000 * one / slots for one in cpu]),
            spread([run["peak_mb"] for run in runs], "{:.0f}"),
        ]
        rows.append((f"{nodes:,}", f"{slots:,}", *spreads))
        figures[f"cpu_s_{nodes}"] = cpu
    table(rows)
    return figures
