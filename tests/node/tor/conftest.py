"""One private Tor network for all tests of a run, in a process of its own, made when the first of them asks for it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest


@dataclass(frozen=True, slots=True)
class PrivateTor:
    """What `python -m node.tor.network` says of itself: the lines for more clients, and the clients that it runs."""

    folder: Path
    torrc: str
    controls: tuple[Path, ...]
    socks: tuple[Path, ...]

    said: str


RUNNING: Final = "LUCID_TEST_TOR"


def told(folder: Path, said: str) -> PrivateTor:
    ready = json.loads(said)
    controls, socks = (tuple(Path(client[what]) for client in ready["clients"]) for what in ("control", "socks"))
    return PrivateTor(folder, ready["torrc"], controls, socks, said)


@pytest.fixture(scope="session")
def private_tor() -> Iterator[PrivateTor]:
    """A network of four relays and three clients: some 15 s for the first test, nothing for the others.

    Where RUNNING names one, as for tests without interfaces, it is that.
    """
    if RUNNING in os.environ:
        yield told(Path(os.environ["TMPDIR"]), os.environ[RUNNING])
        return
    with tempfile.TemporaryDirectory(prefix="tn") as folder:
        command = [sys.executable, "-P", "-m", "node.tor.network", folder, "--clients", "3"]
        running = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert running.stdout is not None
        try:
            said = running.stdout.readline()
            assert said, f"the private Tor network did not start: it ended with {running.wait()}"
            yield told(Path(folder), said.decode())
        finally:
            running.terminate()
            running.stdout.close()
            assert running.wait(30) == 0
