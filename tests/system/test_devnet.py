"""Real daemons over loopback and over a private Tor network: a recording that outlives its machine, and daemons that stop."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from node.control.client import NoDaemon, ask
from node.devnet import devnet
from node.exits import Ended
from node.network import Carrier
from pipeline.child import child
from tests.system.homes import connected, typed

pytestmark = pytest.mark.system


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: sockets have names of 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="dn-") as name:
        yield Path(name)


async def until(home: Path, holds: Callable[[dict[str, Any]], bool], *, seconds: float = 90) -> dict[str, Any]:
    """A daemon's status as soon as it is so; generously, for machines that do other things as well."""
    with trio.fail_after(3 * seconds):
        while True:
            try:
                facts = await trio.to_thread.run_sync(ask, home, "status")
            except (NoDaemon, Ended):
                facts = None
            if facts is not None and holds(facts):
                return facts
            await trio.sleep(0.3)


async def test_a_recording_is_played_from_the_others_after_its_machine_is_lost(folder: Path) -> None:
    source = folder / "input"
    source.write_bytes(os.urandom(9_000_000))
    async with devnet(folder / "net", 5, Carrier.LOOPBACK) as net:
        await connected(net)
        lost = net.nodes[1]
        home = lost.home.path
        made = await typed(home, "record", "--input", str(source), "--chunk-bytes", "2000000:4000000")
        await until(home, lambda facts: facts["sessions_replicated"] == 1)

        # The machine is gone, but for the exported keys and what joins the network.
        lost.running.signal(signal.SIGKILL)
        await lost.running.wait()
        (folder / "phrase").write_text("correct horse battery\n")
        phrase = ("--passphrase-file", str(folder / "phrase"))
        await typed(home, "keys", "export", "--out", str(folder / "keys"), *phrase)
        kept = {
            name: (home / name).read_bytes() for name in ("network", "config.toml", "torrc") if (home / name).exists()
        }
        shutil.rmtree(home)
        await typed(home, "keys", "import", str(folder / "keys"), *phrase)
        for name, data in kept.items():
            (home / name).write_bytes(data)

        command = [sys.executable, "-P", "-m", "node", "run", "--home", str(home), *phrase]
        async with child(command, ending=signal.SIGTERM):
            await until(home, lambda facts: facts["sessions"] == 1)
            assert (await typed(home, "verify", made["session"], expected=1))["faults"], "its chunks are not here yet"
            trusted = ("--signer", made["signer"], "--require", "signer")
            verdict = await typed(home, "verify", made["session"], *trusted, "--from-network")
            assert (verdict["valid"], verdict["root"]) == (True, made["root"])
            for file in (home / "chunks").rglob("*"):
                if file.is_file():
                    file.unlink()
            await typed(home, "play", made["session"], "--out", str(folder / "back"), "--from-network", *phrase)
            assert (folder / "back").read_bytes() == source.read_bytes()
            for file in (home / "chunks").rglob("*"):
                if file.is_file():
                    file.unlink()
            assert (await typed(home, "restore", "--all"))["chunks"] >= made["chunks"]
            figures = (await typed(home, "metrics"))["metrics"].splitlines()
            assert [line.split()[-1] for line in figures if line.startswith("lucid_sessions{")] == ["1"]


async def test_so_it_is_over_a_private_tor_network(folder: Path) -> None:
    said = await typed(folder, "devnet", "--nodes", "5", "--dir", str(folder / "net"), "--drill")
    assert said["same"]
    assert all(node["addresses"][0].startswith("/onion3/") for node in said["nodes"])
    assert said["recorded_s"] < said["replicated_s"] < said["lost_s"] < said["found_s"] < said["played_s"]
    few = await typed(folder, "devnet", "--nodes", "3", "--drill", expected=2)
    assert "4 nodes" in few["error"]


async def test_a_daemon_stops_when_it_is_told_and_leaves_nothing_behind(folder: Path) -> None:
    async with devnet(folder, 2, Carrier.LOOPBACK) as net:
        await connected(net)
        one = net.nodes[0]
        assert (one.home.path / "control").exists()
        with trio.fail_after(15):  # it promises 5 s
            one.running.signal(signal.SIGTERM)
            assert await one.running.wait() == 0
        assert not (one.home.path / "control").exists()
        said = await typed(one.home.path, "status", expected=3)
        assert not said["running"]
        assert "lucid-node run" in said["reason"]


async def test_a_home_has_one_daemon(folder: Path) -> None:
    async with devnet(folder, 2, Carrier.LOOPBACK) as net:
        await connected(net)
        said = await typed(net.nodes[0].home.path, "run", expected=3)
        assert "a home has one daemon" in said["error"]
        await until(net.nodes[0].home.path, lambda facts: len(facts["peers"]) == 1)


async def test_a_home_that_joined_no_network_is_told_how(folder: Path) -> None:
    await typed(folder / "home", "init", "--insecure-plaintext-keys")
    said = await typed(folder / "home", "run", expected=2)
    assert "network join" in said["error"]
