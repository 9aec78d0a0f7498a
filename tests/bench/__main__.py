"""`./lucid bench [seal|verify|record] [--rounds N]`: figures of this machine, side by side with the peers."""

import argparse
import sys
from pathlib import Path

from tests.bench import record, seal, verify
from tests.bench.measure import machine

BENCHES = {"seal": seal.main, "verify": verify.main, "record": record.main}


def main() -> int:
    """Run what was asked for, everything by default."""
    parser = argparse.ArgumentParser(prog="./lucid bench", description="Measure the pipeline on this machine.")
    parser.add_argument("what", nargs="*", choices=[*BENCHES, []], help="which (all)")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds after one to warm up (5)")
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).parents[2] / ".run" / "bench", help="for the input, 2 GB"
    )
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print(machine())
    for name in options.what or BENCHES:
        print(f"{name}:", flush=True)
        BENCHES[name](options.folder.absolute(), options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
