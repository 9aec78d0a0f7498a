"""`./lucid bench [seal|verify|record|netsim|engines|economy|lookup|striping|tor|net|…] [--rounds N]`: figures of this machine, side by side with the peers."""

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench import (
    chain,
    consensus,
    economy,
    engines,
    evm,
    lookup,
    netagree,
    netdht,
    netgossip,
    netidle,
    netsim,
    nettransfer,
    record,
    seal,
    striping,
    tor,
    verify,
)
from tests.bench.measure import machine

PIPELINE = {"seal": seal.main, "verify": verify.main, "record": record.main}
NET = {
    "gossip": netgossip.main,
    "dht": netdht.main,
    "idle": netidle.main,
    "transfer": nettransfer.main,
    "agree": netagree.main,
}
OVERLAY: Final[Mapping[str, Callable[[Path, int], object]]] = {
    "consensus": consensus.main,
    "chain": chain.main,
    "evm": evm.main,
    "netsim": netsim.main,
    "engines": engines.main,
    "economy": economy.main,
    "lookup": lookup.main,
    "striping": striping.main,
    "tor": tor.main,
    **NET,
}
"""Only when named: a simulation of 1,000 nodes takes minutes, of 10,000 an hour; economy is a month of 1,000 nodes; striping and tor make private Tor networks;
`net` is those of NET, with 20 to 50 processes each."""


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number, at least 1, and not {text}")
    return int(text)


def main() -> int:
    """Run what was asked for, by default all of the pipeline."""
    parser = argparse.ArgumentParser(prog="./lucid bench", description="Measure on this machine.")
    parser.add_argument(
        "what",
        nargs="*",
        choices=[*PIPELINE, *OVERLAY, "net", []],
        help=f"which ({', '.join(PIPELINE)} if none is named)",
    )
    parser.add_argument(
        "--rounds", type=_count, help="counted rounds: after one to warm up for the pipeline (5), each a process (3)"
    )
    parser.add_argument("--large", action="store_true", help="netsim: 3,000 and 10,000 nodes as well, some hours")
    parser.add_argument("--out", type=Path, metavar="DIR", help="netsim: write the table as CSV, and a figure")
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).parents[2] / ".run" / "bench", help="for the input, 2 GB"
    )
    options = parser.parse_args()
    out = None if options.out is None else options.out.absolute()
    options.folder.mkdir(parents=True, exist_ok=True)
    print(machine())
    for name in [one for what in options.what or PIPELINE for one in (NET if what == "net" else [what])]:
        print(f"{name}:", flush=True)
        if name in PIPELINE:
            PIPELINE[name](options.folder.absolute(), options.rounds or 5)
        else:
            bench = partial(netsim.main, large=options.large, out=out) if name == "netsim" else OVERLAY[name]
            bench(options.folder.absolute(), options.rounds or 3)
    return 0


if __name__ == "__main__":
    sys.exit(main())
