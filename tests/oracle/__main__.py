"""`./lucid audit oracle [SEEDS] [--first SEED]`: does EELS come to the state that our Evm comes to, block by block?

The recorded chain, two chains of 300 blocks, and for every seed one of calls to what the genesis holds and one of code of any kind.
Exit codes: 0 the same everywhere, 1 a chain on which they differ, whose seed is said.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from tests.oracle import fuzz
from tests.oracle.eels import Disagreement, Oracle, Tally, replayed, running
from tests.vectors.payloads import recorded

LONG, BLOCKS, CALLS, CODES = 300, 10, 40, 30


class Trial(NamedTuple):
    """A chain to compare."""

    name: str
    run: Callable[[Oracle], Tally]


def trials(first: int, seeds: int) -> Iterator[Trial]:
    """What is compared, in order; the long chains look further back than the 256 blocks that BLOCKHASH knows."""
    yield Trial("payloads_v1", lambda oracle: replayed(oracle, recorded("payloads_v1")))
    yield Trial("long calls", partial(fuzz.calls, seed=0, blocks=LONG, size=3))
    yield Trial("long code", partial(fuzz.code, seed=0, blocks=LONG, size=3))
    for seed in range(first, first + seeds):
        yield Trial(f"calls {seed}", partial(fuzz.calls, seed=seed, blocks=BLOCKS, size=CALLS))
        yield Trial(f"code {seed}", partial(fuzz.code, seed=seed, blocks=BLOCKS, size=CODES))


def main() -> int:
    """Compare all, say of each how it went, and go on after a difference."""
    parser = argparse.ArgumentParser(prog="./lucid audit oracle", description="Compare our Evm with EELS.")
    parser.add_argument("seeds", nargs="?", type=int, default=30, metavar="SEEDS", help="how many (30)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of them (0)")
    options = parser.parse_args()
    began, total, wrong = time.monotonic(), Tally(), []
    with running() as oracle:
        for trial in trials(options.first, options.seeds):
            start = time.monotonic()
            print(f"{trial.name}: ", end="", flush=True)  # whatever stops it, its seed is known
            try:
                done = trial.run(oracle)
            except Disagreement as error:
                wrong.append(trial.name)
                print(f"DIFFERS {error}", flush=True)
                continue
            total = total.plus(done)
            print(f"{done} in {time.monotonic() - start:.1f} s", flush=True)
    print(
        f"{total} in {time.monotonic() - began:.0f} s; " + (f"differ: {', '.join(wrong)}" if wrong else "no difference")
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
