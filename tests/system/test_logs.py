"""What a daemon logs, in both forms and with all it has to say, holds no secret: none that it was given, none that it made."""

import base64
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from node.control.client import NoDaemon, ask
from node.exits import Ended
from node.tor.onion import onion_of
from node.wallet.vault import open_vault
from pipeline.child import child
from tests.system import homes
from tests.system.homes import Facts

pytestmark = pytest.mark.system

PHRASE = "canary-passphrase-5193"
TITLE = "canary-of-a-session-title-8842"
BRIDGE = "192.0.2.77:443 4352C5A2D7B1E0F94352C5A2D7B1E0F94352C5A2"
"""In the network that is for documentation, and DisableNetwork keeps tor from it."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lg-") as name:
        yield Path(name)


async def typed(folder: Path, *words: str | Path) -> Facts:
    return await homes.typed(folder / "home", *map(str, words), "--passphrase-file", str(folder / "phrase"))


def spellings(secret: bytes) -> set[str]:
    return {
        secret.hex(),
        base64.b64encode(secret).decode(),
        base64.b32encode(secret).decode().rstrip("="),
        repr(secret)[2:-1],
    }


@pytest.mark.parametrize(
    "torrc", [f"UseBridges 1\nBridge {BRIDGE}\n", f"Bridge {BRIDGE} nonsense\n"], ids=["good", "bad"]
)
@pytest.mark.parametrize("form", ["text", "json"])
async def test_no_secret_gets_into_the_log(folder: Path, form: str, torrc: str) -> None:
    home, log = folder / "home", folder / "log"
    (folder / "phrase").write_text(PHRASE + "\n")
    (folder / "input").write_text(TITLE * 1000)
    await typed(folder, "init")
    address = f"/onion3/{onion_of(bytes(32))}:4001"
    await typed(
        folder, "network", "create", "trial", "--mode", "devnet", "--bootstrap", address, "--out", folder / "net"
    )
    await typed(folder, "network", "join", folder / "net")
    (home / "torrc").write_text(f"DisableNetwork 1\n{torrc}")
    command = [
        sys.executable,
        "-P",
        "-m",
        "node",
        "run",
        "--home",
        str(home),
        "--passphrase-file",
        str(folder / "phrase"),
    ]
    command += ["--log-level", "debug", *(["--log-json"] if form == "json" else [])]
    with log.open("wb") as out:
        async with child(command, stdout=out.fileno(), stderr=out.fileno(), ending=signal.SIGTERM):
            await answering(home)
            made = await typed(folder, "record", "--input", folder / "input")
            await typed(folder, "label", made["session"], TITLE)
            await answering(home)
    secrets = open_vault((home / "vault").read_bytes(), PHRASE.encode())
    keys = (secrets.identity_seed, secrets.account_key, *secrets.masters, (home / "onion").read_bytes())
    canaries = {PHRASE, TITLE, BRIDGE, BRIDGE.split(maxsplit=1)[0], BRIDGE.split()[1]}.union(*map(spellings, keys))
    said = log.read_text()
    lines = said.splitlines()
    assert [line for line in lines if "node.up" in line], "it logged what it does"
    if form == "json":
        assert {"time", "level", "event"} <= json.loads(next(line for line in lines if "node.up" in line)).keys()
    assert [canary for canary in canaries if canary in said] == []


async def answering(home: Path) -> None:
    with trio.fail_after(270):
        while True:
            try:
                await trio.to_thread.run_sync(ask, home, "status")
            except (NoDaemon, Ended):
                await trio.sleep(0.3)
            else:
                return
