"""Homes of one network, the daemons that run in them, and what these say of themselves."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from node.cli import main
from node.control.client import NoDaemon, ask
from node.devnet import Devnet
from node.exits import Ended
from node.tor.control import open_control
from node.typed import command
from pipeline.child import Child, child
from tests.system.enclosed import enclosed

Facts = dict[str, Any]


class Homes:
    """Homes by number in a folder, over the private Tor network of a torrc, without one over loopback.

    `programs` are what some of them run in the place of lucid-node.
    """

    def __init__(self, folder: Path, torrc: str = "", programs: Mapping[int, Sequence[str]] | None = None) -> None:
        self.folder, self.torrc, self.programs = folder, torrc, programs or {}

    def path(self, number: int) -> Path:
        return self.folder / str(number)

    def make(self, numbers: Sequence[int], *timing: str) -> None:
        """These homes; home 0 makes the network, of a devnet's timing but for what is set, and its file names home 0 alone."""
        file = str(self.folder / "file")
        for number in numbers:
            home = self.path(number)
            joined = ["--network", file] if number else []
            typed_here(home, "init", "--insecure-plaintext-keys", "--quota-gb", "1", *joined)
            if self.torrc:
                (home / "torrc").write_text(self.torrc)
            if number == 0:
                self.set(0, f'[network]\nlisten = "127.0.0.1:{free_port()}"\n')
                carrier = "tor" if self.torrc else "loopback"
                words = [word for setting in timing for word in ("--set", setting)]
                typed_here(
                    home, "network", "create", "test", "--mode", "devnet", "--transport", carrier, "--out", file, *words
                )
                typed_here(home, "network", "join", file)

    def set(self, number: int, settings: str) -> None:
        """Give a home these settings, and room for others' replicas."""
        (self.path(number) / "config.toml").write_text(f"[store]\nreplicas_gb = 1\n{settings}")

    def command(self, number: int) -> list[str]:
        program = self.programs.get(number, (sys.executable, "-P", "-m", "node"))
        return [*program, "run", "--home", str(self.path(number))]

    @asynccontextmanager
    async def daemon(
        self, number: int, before: Sequence[str] = (), shared: Sequence[tuple[str, int]] | None = None
    ) -> AsyncIterator[Child]:
        """A daemon, behind a command, and with `shared` in a namespace that reaches those ports."""
        with (self.path(number) / "log").open("ab") as log:
            whole = [*before, *self.command(number)]
            if shared is not None:
                async with enclosed(whole, shared, log.fileno()) as running:
                    yield running
            else:
                async with child(whole, stderr=log.fileno(), ending=signal.SIGTERM) as running:
                    yield running

    async def says(self, number: int) -> Facts | None:
        """The status of a daemon, None while it has no control socket."""
        try:
            return await trio.to_thread.run_sync(ask, self.path(number), "status")
        except (NoDaemon, Ended):
            return None

    async def until(self, number: int, holds: Callable[[Facts], bool]) -> list[Facts]:
        """All that a daemon said of itself until it was so; generously, for machines that do other things as well."""
        said = list[Facts]()
        with trio.move_on_after(270):
            while not said or not holds(said[-1]):
                facts = await self.says(number)
                said += [facts] if facts is not None and (not said or facts != said[-1]) else []
                await trio.sleep(0.1)
            return said
        log = (self.path(number) / "log").read_text().splitlines()[-20:]
        raise AssertionError(f"node {number} said last {said[-1:]}, and its log ends with {log}")

    async def met(self, numbers: Sequence[int]) -> None:
        """Returns when these all are connected to each other."""
        ids = {number: (await self.until(number, lambda facts: True))[-1]["node"] for number in numbers}
        for number in numbers:
            others = {ids[other] for other in numbers if other != number}
            await self.until(number, lambda facts, others=others: others <= set(facts["peers"]))  # type: ignore[misc]

    async def tor_pid(self, number: int) -> int:
        async with open_control(self.path(number) / "tor" / "control") as control:
            return int(await control.info("process/pid"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def typed_here(home: Path, *words: str) -> None:
    assert main(["--home", str(home), *words]) == 0


async def connected(net: Devnet, *, seconds: float = 270) -> None:
    """Returns when all of a devnet are."""
    with trio.fail_after(seconds):
        while net.connected_s is None:
            await net.look()
            await trio.sleep(0.3)


async def typed(home: Path, *words: str, expected: int = 0) -> Facts:
    """What a command of a home answers."""
    run = partial(subprocess.run, command(home, words), capture_output=True, text=True, check=False)
    done = await trio.to_thread.run_sync(run)
    assert done.returncode == expected, done.stderr
    answer: Facts = json.loads(done.stdout.splitlines()[-1])
    return answer
