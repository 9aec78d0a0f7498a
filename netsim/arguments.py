"""The words of lucid-netsim's command line, and what they may be."""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

Does: TypeAlias = Mapping[str, Callable[[argparse.Namespace], int]]
Subparsers: TypeAlias = Any  # argparse has no public name for it


def _option(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (key and sign and value):
        raise argparse.ArgumentTypeError("KEY=NUMBER")
    return key, value


def _count(text: str, least: int = 1) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"a whole number, at least {least}, and not {text}")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < 1e6:
        raise argparse.ArgumentTypeError(f"minutes above 0, and not {text}")
    return minutes


def _folder(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the name of a folder, and not nothing")
    return text


def parser(does: Does) -> argparse.ArgumentParser:
    """The command line; `does` has what each command does."""
    whole = argparse.ArgumentParser(
        prog="lucid-netsim",
        description="Simulate the overlay and the consensus on virtual time: the daemon's own code, one seed, one trace.",
        epilog="Exit codes: 0 every invariant held · 1 one broke · 2 usage or a contradictory plan · 3 could not be done now.",
    )
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    _of_runs(commands, does)
    _of_questions(commands, does)
    _of_results(commands, does)
    return whole


def _of_runs(commands: Subparsers, does: Does) -> None:
    """Commands that run a scenario."""
    made = commands.add_parser("list", help="the scenarios and their options")
    made.set_defaults(does=does["list"])
    made.add_argument("--json", action="store_true", help="one JSON object")
    made = commands.add_parser("run", help="run a scenario, or the TOML file of your own")
    made.set_defaults(does=does["run"])
    made.add_argument("scenario", metavar="SCENARIO", help="a name from `list`, or a file that ends in .toml")
    made.add_argument(
        "--example",
        action="store_true",
        help="run nothing, and print a file of your own on top of the scenario to begin with",
    )
    made.add_argument("--nodes", type=_count, metavar="N", help="how many nodes (100)")
    made.add_argument("--seed", type=int, metavar="S", help="what all randomness follows from (1)")
    made.add_argument("--seeds", type=_count, metavar="K", help="so many seeds from S on, and what they say together")
    made.add_argument("--jobs", type=_count, metavar="J", help="so many of them at a time (as many as there are cores)")
    made.add_argument("--minutes", type=_count, metavar="M", help="virtual minutes, if not the scenario's own")
    made.add_argument(
        "--option", type=_option, action="append", default=[], metavar="KEY=N", help="an option of the scenario"
    )
    made.add_argument(
        "--out",
        type=_folder,
        metavar="DIR",
        help="a folder for the report, its figures and tables; counts each node's processor time, which costs some",
    )
    made.add_argument("--real-signatures", action="store_true", help="check each signature each time; for small N")
    made.add_argument(
        "--shrink", type=int, default=0, metavar="RUNS", help="after a failure, shrink the fault plan by so many runs"
    )
    made.add_argument("--json", action="store_true", help="one JSON object on the last line")


def _of_questions(commands: Subparsers, does: Does) -> None:
    """Commands that ask the simulator something else."""
    made = commands.add_parser("explain", help="what a scenario models, what it assumes, and what it leaves out")
    made.set_defaults(does=does["explain"])
    made.add_argument("scenario", metavar="SCENARIO", help="a name from `list`")
    made.add_argument("--json", action="store_true", help="one JSON object")
    made = commands.add_parser(
        "what-if", help="what to expect of a network that you describe: losses, finality, traffic, disk, credits"
    )
    made.set_defaults(does=does["what-if"])
    made.add_argument("file", metavar="FILE", nargs="?", help="TOML; --example shows one")
    made.add_argument("--example", action="store_true", help="print a file with every key, its default and its meaning")
    made.add_argument("--seeds", type=_count, default=4, metavar="K", help="so many seeds of each part (4)")
    made.add_argument("--jobs", type=_count, metavar="J", help="so many of them at a time (as many as there are cores)")
    made.add_argument("--whole", action="store_true", help="run every part with all nodes, however long it takes")
    made.add_argument("--out", type=_folder, metavar="DIR", help="a folder for the page and the numbers")
    made.add_argument("--json", action="store_true", help="one JSON object on the last line")
    made = commands.add_parser("hunt", help="draw random worlds and fault plans, and keep what breaks an invariant")
    made.set_defaults(does=does["hunt"])
    made.add_argument("--minutes", type=_minutes, default=10.0, metavar="M", help="how long, in real time (10)")
    made.add_argument("--seed", type=int, default=1, metavar="S", help="what the worlds are drawn from (1)")
    made.add_argument(
        "--world", type=partial(_count, least=0), metavar="K", help="this world alone, as a hunt named it"
    )
    made.add_argument(
        "--out", type=_folder, metavar="DIR", default=".", help="where tapes of what broke are left (here)"
    )
    made.add_argument("--json", action="store_true", help="one JSON object on the last line")
    made = commands.add_parser(
        "rehearse", help="play the daemon's own hosts under virtual time, with crashes and slow disks"
    )
    made.set_defaults(does=does["rehearse"])
    made.add_argument("--nodes", type=_count, default=8, metavar="N", help="5 to 50 hosts (8)")
    made.add_argument("--minutes", type=_count, default=20, metavar="M", help="virtual minutes (20)")
    made.add_argument("--seed", type=int, default=1, metavar="S", help="what all follows from, the scheduling too (1)")
    made.add_argument("--seeds", type=_count, default=1, metavar="K", help="so many seeds from S on (1)")
    made.add_argument("--json", action="store_true", help="one JSON object")


def _of_results(commands: Subparsers, does: Does) -> None:
    """Commands that take what a run left."""
    made = commands.add_parser("replay", help="run what broke again, exactly")
    made.set_defaults(does=does["replay"])
    made.add_argument("tape", metavar="TAPE", help="a file that a broken run left")
    made.add_argument("--json", action="store_true", help="one JSON object")
    made = commands.add_parser(
        "compare", help="lay two runs side by side, or two sets of seeds, and tell luck from difference"
    )
    made.set_defaults(does=does["compare"])
    for name in "ab":
        made.add_argument(
            name, metavar=name.upper(), help="a folder that `run --out` wrote, or its result.json or seeds.json"
        )
    made.add_argument("--json", action="store_true", help="one JSON object")
