"""A replica from one process to another over loopback: node/net/transfer on Noise and yamux, as the daemon fetches it.

`memory`: bytes to bytes. `disk`: read from and written to the replica files as the daemon does, in worker threads, without
the last check and sync. Beside it the same bytes over plain TCP between trio tasks of two processes. The last column is
what a machine whose processors nobody else wants would carry.
"""

import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from consensus.ids import Digest, NodeId
from consensus.signing import KeyPair
from node.libp2p.swarm import Libp2pSwarm
from node.net.loopback import HOST, Loopback
from node.net.swarm import PeerStream
from node.net.transfer import PROTOCOL, Readable, Replica, fetch, serve
from node.store.replicas import ReplicaFiles
from tests.bench.measure import spread, table

BYTES: Final = 16 << 20
"""A chunk at its largest; one fetch is of REPLICAS of them, one after the other."""
REPLICAS: Final = 8
HOLDER, ASKER = (KeyPair.from_seed(bytes([number]) * 32) for number in (1, 2))
MEMORY, DISK, PLAIN = "memory", "disk", "plain TCP"
CHUNKS: Final = {MEMORY: Digest(bytes(32)), DISK: Digest(bytes([1]) * 32)}
NAME: Final = Digest(bytes([2]) * 32)


async def _hold(folder: Path) -> None:
    """Serve the replica until killed; prints the ports of both services."""
    replica = os.urandom(BYTES)
    files = ReplicaFiles(folder)
    files.append(NAME, 0, replica)
    (part,) = folder.rglob("*.part")
    part.rename(part.with_suffix(".replica"))

    async def from_memory(offset: int, most: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return replica[offset : offset + most]

    async def from_disk(offset: int, most: int) -> bytes:
        return await trio.to_thread.run_sync(files.read, NAME, offset, most)

    async def handle(stream: PeerStream) -> None:
        await serve(
            stream, lambda _peer, chunk, _root: Readable(BYTES, from_memory if chunk == CHUNKS[MEMORY] else from_disk)
        )

    async def plain(stream: trio.SocketStream) -> None:
        async with stream:
            for at in range(0, BYTES, 1 << 16):
                await stream.send_all(replica[at : at + (1 << 16)])

    swarm = Libp2pSwarm(HOLDER, Loopback(), lambda _node: (), random.Random(1))
    swarm.serve_streams(PROTOCOL, handle, 8)
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(swarm.run, lambda _event: None)
        (listener,) = await nursery.start(
            lambda task_status: trio.serve_tcp(plain, 0, host=HOST, task_status=task_status)
        )
        sys.stdout.write(f"{address.hex()} {listener.socket.getsockname()[1]}\n")
        sys.stdout.flush()


@contextmanager
def _holder(folder: Path) -> Iterator[tuple[bytes, int, int]]:
    """A holder's address, its port for plain TCP and its pid, while it runs."""
    command = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "--",
        sys.executable,
        "-P",
        "-m",
        "tests.bench.nettransfer",
        str(folder),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address, port = process.stdout.readline().split()
            yield bytes.fromhex(address), int(port), process.pid
        finally:
            process.kill()


def _cpu(pid: int) -> tuple[float, float]:
    """CPU seconds of the holder, and of us."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = resource.getrusage(resource.RUSAGE_SELF)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), own.ru_utime + own.ru_stime


async def _measure(folder: Path, rounds: int) -> dict[str, list[tuple[float, ...]]]:
    found: dict[str, list[tuple[float, ...]]] = {MEMORY: [], DISK: [], PLAIN: []}
    with _holder(folder / "holder") as (address, port, pid):
        async with trio.open_nursery() as nursery:
            swarm = Libp2pSwarm(ASKER, Loopback(), lambda _node: (address,), random.Random(2))
            await nursery.start(swarm.run, lambda _event: None)
            files = ReplicaFiles(folder / "asker")

            async def keep(_at: int, data: bytes) -> None:
                kept.append(data)
                await trio.lowlevel.checkpoint()

            async def write(at: int, data: bytes) -> None:
                await trio.to_thread.run_sync(files.append, NAME, at, data)

            async def over_swarm(kind: str, put: Callable[[int, bytes], Awaitable[None]]) -> None:
                what = Replica(CHUNKS[kind], NAME, BYTES)
                await fetch(swarm, NodeId(HOLDER.public), what, 0, put)

            async def plain() -> None:
                async with await trio.open_tcp_stream(HOST, port) as stream:
                    async for data in stream:
                        kept.append(bytes(data))

            kept: list[bytes] = []
            ways = {MEMORY: lambda: over_swarm(MEMORY, keep), DISK: lambda: over_swarm(DISK, write), PLAIN: plain}
            for number in range(rounds + 1):  # the first one warms up
                for name in random.sample(sorted(ways), len(ways)):
                    cpu, began = _cpu(pid), time.perf_counter()
                    for _ in range(REPLICAS):
                        kept.clear()
                        await ways[name]()
                        came = files.arrived(NAME) if name == DISK else sum(map(len, kept))
                        if came != BYTES:
                            raise RuntimeError(f"{came} bytes came and not {BYTES}")
                    wall = time.perf_counter() - began
                    gigabytes = REPLICAS * BYTES / 1e9
                    spent = [(after - before) / gigabytes for before, after in zip(cpu, _cpu(pid), strict=True)]
                    if number:
                        found[name].append((1000 * gigabytes / wall, *spent, 1000 / max(spent)))
            nursery.cancel_scope.cancel()
    return found


def main(folder: Path, rounds: int) -> dict[str, list[tuple[float, ...]]]:
    """Measure and print; returns the figures of each round."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        found = trio.run(_measure, Path(place), rounds)
    print(f"  {REPLICAS} × {BYTES >> 20} MiB a round, {rounds} rounds; median [lowest … highest]")
    rows = [(name, *(spread(one, "{:.1f}") for one in zip(*seen, strict=True))) for name, seen in found.items()]
    table([("", "MB/s", "CPU-s/GB of the holder", "of the asker", "MB per CPU-s of the busier"), *rows])
    return found


if __name__ == "__main__":
    trio.run(_hold, Path(sys.argv[1]))
