"""A writer killed at random points: nothing it was told is kept may be missing, and nothing visible may be corrupt.

The child commits numbered rows, each with a chunk file that it put before, from several tasks at once, and writes the
number of a row to a pipe once its commit has returned. The parent kills it after some of them, at whatever point its
threads and tasks then are, and reads what is left. `python -m tests.node.store.crash ROUNDS [SEED]` runs it by hand.

SIGKILL leaves the page cache alone, so this does not show what a power cut does.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import trio
from blake3 import blake3

from consensus.ids import Digest
from node.store import ABSENT, Put
from node.store.files import ChunkFiles
from node.store.lmdb import LmdbStore
from node.store.reading import read_only

ROOT = Path(__file__).parents[3]
WRITERS = 4
ACKS_MAX = 40
FRESH_EVERY = 10
"""Rounds after which a new home is begun, so that checking a round does not grow with the rounds before it."""


@dataclass(slots=True)
class Tally:
    """What the rounds saw; `wrong` has a sentence for each promise that was broken."""

    rounds: int = 0
    acked: int = 0
    orphans: int = 0
    unreferenced: int = 0
    wrong: list[str] = field(default_factory=list)


def content(number: int) -> bytes:
    """What row `number` refers to: from nothing to 150 kB, seldom a whole number of blocks."""
    rng = random.Random(number)
    return rng.randbytes(rng.choice((0, 1, 4095, 4096, 4097, rng.randrange(150_000))))


async def write(home: Path, first: int) -> None:
    """Commits rows from `first` on until killed."""
    chunks = ChunkFiles(home / "chunks", reserve_bytes=0)
    async with LmdbStore.open(home / "store", map_bytes=1 << 17) as store, trio.open_nursery() as nursery:

        async def writer(number: int) -> None:
            while True:
                data = content(number)
                digest = Digest(blake3(data).digest())
                await trio.to_thread.run_sync(chunks.put, digest, memoryview(data))
                await store.commit([Put("rows", (number,), digest, ABSENT), Put("twins", (digest, number), b"")])
                os.write(1, b"%d\n" % number)
                number += WRITERS

        for offset in range(WRITERS):
            nursery.start_soon(writer, first + offset)


def killed(home: Path, first: int, acks: int) -> set[int]:
    """Rows that a child reported as kept before it was killed, which happens after so many of them.

    Raises RuntimeError when it ended by itself: then nothing was tried.
    """
    command = [sys.executable, "-m", "tests.node.store.crash", "write", str(home), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(acks)]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    if child.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the writer was to be killed and ended by itself with {child.returncode}")
    return {int(line) for line in lines}


def check(home: Path, acked: set[int], tally: Tally) -> int:
    """Adds what is wrong with what the child left; the next row's number."""
    chunks = ChunkFiles(home / "chunks")
    with read_only(home / "store") as store:
        rows = {number: Digest(value) for (number,), value in store.scan("rows") if isinstance(number, int)}
        twins = {key for key, _ in store.scan("twins")}
    tally.wrong += [f"row {number} was acknowledged and is missing" for number in sorted(acked - set(rows))]
    if twins != {(digest, number) for number, digest in rows.items()}:
        tally.wrong.append("a commit was done by half")
    for number, digest in rows.items():
        if not chunks.has(digest) or chunks.read(digest) != content(number):
            tally.wrong.append(f"row {number} refers to a chunk that is not there or is another")
    tally.wrong += [f"{fault.path.name}: {fault.reason}" for fault in chunks.scrub()]
    tally.orphans += chunks.sweep()
    tally.unreferenced += chunks.sweep_unreferenced(set(rows.values()).__contains__)
    if set(chunks.digests()) != set(rows.values()) or list((home / "chunks").glob("*.tmp")):
        tally.wrong.append("something unreferenced was left after sweeping")
    return max(rows, default=-1) + 1


def crash_rounds(rounds: int, seed: int, where: Path | None = None) -> Tally:
    """Kills a writer so many times, reopening what it left each time; see the module."""
    rng = random.Random(seed)
    tally = Tally()
    while tally.rounds < rounds and not tally.wrong:
        with tempfile.TemporaryDirectory(dir=where) as folder:
            home, acked, first = Path(folder), set[int](), 0
            for _ in range(min(FRESH_EVERY, rounds - tally.rounds)):
                acked.update(killed(home, first, rng.randint(1, ACKS_MAX)))
                first = check(home, acked, tally)
                tally.rounds += 1
            tally.acked += len(acked)
    return tally


def main() -> int:
    """Runs the rounds and prints the tally; 1 when a promise was broken."""
    match sys.argv[1:]:
        case ["write", home, first]:
            trio.run(write, Path(home), int(first))
            return 2  # it ends by being killed
        case [rounds, *seed]:
            tally = crash_rounds(int(rounds), int(seed[0]) if seed else 1)
            print(
                f"{tally.rounds} kills, {tally.acked} acknowledged commits, {tally.orphans} half-written files and "
                f"{tally.unreferenced} unreferenced chunks swept, {len(tally.wrong)} promises broken"
            )
            print("\n".join(tally.wrong), end="\n" if tally.wrong else "")
            return 1 if tally.wrong or tally.rounds < int(rounds) else 0
        case _:
            print("usage: python -m tests.node.store.crash ROUNDS [SEED]")
            return 2


if __name__ == "__main__":
    sys.exit(main())
