"""One private Tor network for all tests of a run, in a process of its own, made when the first of them asks for it."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.net.leaks import forbid_leaks

forbid_leaks()  # in the whole run from here on: no test may reach off this machine, whatever it tests


@dataclass(frozen=True, slots=True)
class PrivateTor:
    """What `python -m node.net.tornet` says of itself: the lines for more clients, and the clients that it runs."""

    folder: Path
    torrc: str
    controls: tuple[Path, ...]
    socks: tuple[Path, ...]


@pytest.fixture(scope="session")
def private_tor() -> Iterator[PrivateTor]:
    """A network of four relays and three clients: some 15 s for the first test, nothing for the others."""
    with tempfile.TemporaryDirectory(prefix="tn") as folder:
        command = [sys.executable, "-P", "-m", "node.net.tornet", folder, "--clients", "3"]
        running = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert running.stdout is not None
        try:
            said = running.stdout.readline()
            assert said, f"the private Tor network did not start: it ended with {running.wait()}"
            ready = json.loads(said)
            clients = ready["clients"]
            yield PrivateTor(
                Path(folder),
                ready["torrc"],
                tuple(Path(client["control"]) for client in clients),
                tuple(Path(client["socks"]) for client in clients),
            )
        finally:
            running.terminate()
            running.stdout.close()
            assert running.wait(30) == 0
