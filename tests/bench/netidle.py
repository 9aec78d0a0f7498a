"""What a daemon costs that has nothing to do, and how soon a command answers.

21 daemons (`lucid-node run`) over loopback with the timing of a real network; the first one has the other twenty for peers.
After QUIET_S in which all are connected its processor time is counted for WATCHED_S, and its memory read at the end.
"""

import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

import trio

from node.devnet import Devnet, devnet
from node.network import TIMINGS, Carrier, Mode
from tests.bench.measure import run, spread, table

NODES: Final = 21
JOIN_S: Final = 600
QUIET_S: Final = 60
WATCHED_S: Final = 150
COMMANDS: Final = (("--help",), ("status",), ("sessions",))
STARTS: Final = 10


async def _idle(folder: Path) -> tuple[list[tuple[int, float, float]], dict[str, list[tuple[float, float]]]]:
    """Of each daemon its peers, per cent of a core, MB; and of each command its seconds, of the clock and of a processor."""
    async with devnet(folder, NODES, Carrier.LOOPBACK, TIMINGS[Mode.MAINNET]) as net:
        with trio.fail_after(JOIN_S):
            while not net.said or len(net.said) < NODES or len(net.said[0]["peers"]) < NODES - 1:
                await trio.sleep(2)
                await net.look()
        await trio.sleep(QUIET_S)
        before, began = [_cpu(one.running.pid) for one in net.nodes], trio.current_time()
        await trio.sleep(WATCHED_S)
        watched = trio.current_time() - began
        cpu = [100 * (_cpu(one.running.pid) - at) / watched for one, at in zip(net.nodes, before, strict=True)]
        await net.look()
        peers = [len(net.said[one.number]["peers"]) for one in net.nodes]
        memory = [_resident_mb(one.running.pid) for one in net.nodes]
        return list(zip(peers, cpu, memory, strict=True)), await trio.to_thread.run_sync(_starts, net)


def _starts(net: Devnet) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {" ".join(words): [] for words in COMMANDS}
    environment = {**os.environ, "LUCID_HOME": str(net.nodes[0].home.path)}
    for number in range(STARTS + 1):  # the first one warms up
        for words in COMMANDS:
            cost = run(
                [str(Path(sys.executable).parent / "lucid-node"), *words], cwd=net.folder, environment=environment
            )
            if number:
                found[" ".join(words)].append((cost.wall, cost.cpu))
    return found


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(folder: Path, _: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        daemons, starts = trio.run(_idle, Path(place))
    first, rest = daemons[0], daemons[1:]
    table([
        ("daemons", "peers", "% of a core", "MB"),
        ("the first", str(first[0]), f"{first[1]:.2f}", f"{first[2]:.0f}"),
        (
            "the others",
            f"{statistics.median(one[0] for one in rest):.0f}",
            spread([one[1] for one in rest]),
            spread([one[2] for one in rest], "{:.0f}"),
        ),
    ])  # fmt: skip
    rows = [
        (f"lucid-node {words}", *(spread(one) for one in zip(*costs, strict=True))) for words, costs in starts.items()
    ]
    table([(f"{STARTS} starts", "seconds", "CPU-s"), *rows])
