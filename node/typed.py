"""Commands typed as a user would, in a process of their own, and what they answer: for what shows the program at work."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from node.exits import DONE, Unavailable


def command(home: Path, words: Sequence[str], options: Sequence[str] = ()) -> list[str]:
    """The command line that does this in a home, with its answer as JSON."""
    return [sys.executable, "-P", "-m", "node", *words, "--home", str(home), *options, "--json"]


def typed(home: Path, words: Sequence[str], options: Sequence[str] = (), expected: int = DONE) -> dict[str, Any]:
    """The answer of a command that is waited for; raises Unavailable when it ends otherwise than expected."""
    done = subprocess.run(command(home, words, options), capture_output=True, text=True, check=False)
    if done.returncode != expected:
        raise Unavailable(f"`lucid-node {' '.join(words)}` ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
