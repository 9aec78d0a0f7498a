"""The same seed on every CPython of this machine: `./lucid determinism [--folder DIR]`, asking the package index.

For each interpreter found (this one, python3.11 to python3.14 on the PATH, those of pyenv) it builds an environment of its
own from requirements.lock under `.run/`, runs small worlds of the whole peer there under two hash seeds, compares their
trace digests, and removes the environments again. The component tests do the same with toy machines, which need no packages.

Exit codes: 0 all digests agree, 1 they do not, 3 there was nothing to compare with, or an environment could not be built.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
VERSIONS: Final = ("3.11", "3.12", "3.13", "3.14")
HASH_SEEDS: Final = ("1", "2")
PLAN: Final = (
    "Plan((Crash(2, 3000, 9000), Cut('x', 4000, (0, 1, 2), (3, 4), 30_000), Churn(0, 60_000, 20_000, 9000, (5, 6))))"
)
TOYS: Final = f"""
from netsim.faults import *
from tests.netsim.toys import digest_of
print(digest_of(7, 12, {PLAN}, 90_000))
"""


class Trial(NamedTuple):
    """A world of the whole peer: scenario, nodes, virtual minutes, and the options that are not the scenario's own."""

    scenario: str
    nodes: int
    minutes: int
    options: Mapping[str, int]


TRIALS: Final = (
    Trial("bootstrap", 30, 14, {"join_s": 20, "messages": 20, "look_ups": 30}),
    Trial("churn", 20, 54, {"join_s": 20, "messages": 50, "look_ups": 30}),
    Trial("sybil-flood", 20, 14, {"join_s": 20, "messages": 20, "look_ups": 30}),
    Trial("durability", 30, 40 * 24 * 60, {"chunks": 20}),
)


def peers(trials: Sequence[Trial]) -> str:
    """A program that runs worlds and prints a JSON array for each: scenario, digest, events."""
    return f"""
import json
from netsim import durability, overlay, scenarios
from netsim.faults import Plan

for name, nodes, minutes, options in {[tuple(trial) for trial in trials]!r}:
    scenario = scenarios.named(name)
    what = scenarios.recipe(scenario, nodes, 7, minutes, options, Plan())
    made = durability.stage(what) if scenario.kind == "durability" else overlay.stage(what)
    made.world.run(made.world.now + what.duration_ms)
    print(json.dumps([name, made.world.digest(), made.world.events]))
"""


def version(python: str | Path) -> str | None:
    """The version of an interpreter, as 3.12.1; None if it is no CPython that we support or has no venv."""
    program = "import ensurepip, platform as p, venv; print(p.python_implementation(), p.python_version())"
    try:
        done = subprocess.run([str(python), "-c", program], check=False, capture_output=True, text=True)
    except OSError:
        return None
    found = re.fullmatch(r"CPython ((\d+\.\d+)\.\S+)\n", done.stdout)
    return found[1] if found and found[2] in VERSIONS else None


def interpreters() -> dict[str, Path]:
    """The first interpreter of each minor version that we support, by its whole version, this one first."""
    places = [Path(sys.executable)]
    for minor in VERSIONS:
        places += [Path(one) for folder in os.get_exec_path() if os.access(one := f"{folder}/python{minor}", os.X_OK)]
        places += sorted(Path.home().glob(f".pyenv/versions/{minor}.*/bin/python"))
    found: dict[str, Path] = {}
    for place in places:
        name = version(place)
        if name is not None and name.rpartition(".")[0] not in {other.rpartition(".")[0] for other in found}:
            found[name] = place
    return found


def run(python: Path, program: str, environment: Mapping[str, str]) -> str:
    """What a program prints that is run in our root; raises RuntimeError with the end of its stderr."""
    whole = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run(
        [str(python), "-c", program], check=False, cwd=ROOT, env=whole, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{python} ended with {done.returncode}: {done.stderr[-1000:]}")
    return done.stdout


def build(python: Path, folder: Path) -> Path:
    """An environment with the packages of the program, without the project itself; its interpreter. Raises RuntimeError."""
    shutil.rmtree(folder, ignore_errors=True)
    made = folder / "bin" / "python"
    install: list[str | Path] = [
        made,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-input",
        "--disable-pip-version-check",
        "--require-hashes",
    ]
    commands: list[list[str | Path]] = [
        [python, "-m", "venv", folder],
        [*install, "--no-deps", "--only-binary=:all:", "-r", ROOT / "requirements.lock"],
    ]
    for command in commands:
        done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise RuntimeError(f"{python}: {' '.join(map(str, command))}: {done.stderr[-1000:]}")
    return made


def compare(found: Mapping[str, Path], folder: Path) -> int:
    """Run everything everywhere and print what came out; the exit code."""
    seen: dict[str, list[str]] = {}
    for name, python in found.items():
        print(f"{name}: building its environment", file=sys.stderr, flush=True)
        environment = folder / name
        try:
            made = build(python, environment)
            for seed in HASH_SEEDS:
                began = time.monotonic()
                said = run(made, TOYS, {"PYTHONHASHSEED": seed}) + run(made, peers(TRIALS), {"PYTHONHASHSEED": seed})
                seen.setdefault(said, []).append(f"{name} (hash seed {seed})")
                print(f"{name}, hash seed {seed}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        finally:
            shutil.rmtree(environment, ignore_errors=True)
    for said, runs in seen.items():
        print(", ".join(runs) + ":")
        toys, *others = said.splitlines()
        print(f"  {'toys':<12} {toys.partition(' ')[0]}")
        for line in others:
            scenario, digest, events = json.loads(line)
            print(f"  {scenario:<12} {digest}  {events:,} events")
    print("one trace everywhere" if len(seen) == 1 else f"{len(seen)} different traces")
    return int(len(seen) > 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare all interpreters of this machine; the exit code."""
    parser = argparse.ArgumentParser(
        prog="./lucid determinism", description="Compare the traces of every CPython of this machine."
    )
    parser.add_argument("--folder", type=Path, default=ROOT / ".run" / "determinism", help="for the environments")
    options = parser.parse_args(arguments)
    found = interpreters()
    if len(found) < 2:
        print(f"there is only CPython {', '.join(found)} here: put another of {', '.join(VERSIONS)} on the PATH")
        return 3
    try:
        return compare(found, options.folder.absolute())
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
