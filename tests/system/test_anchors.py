"""A recording is anchored while its node, and the process that executes its blocks, are killed, and is verified offline from a bundle."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from web3 import HTTPProvider, Web3

from node.control.client import NoDaemon, ask
from node.exits import Ended
from pipeline.archive import entries
from tests.system.homes import Homes, free_port, typed

pytestmark = pytest.mark.system


async def anchors(home: Path, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What a daemon says of the anchors of its sessions, as soon as it is so; generously."""
    with trio.fail_after(270):
        while True:
            try:
                facts = await trio.to_thread.run_sync(ask, home, "anchors")
                if holds(facts):
                    return facts
            except (NoDaemon, Ended):
                pass
            await trio.sleep(0.2)


def workers(daemon: int) -> list[int]:
    """The processes of a daemon that execute payloads."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == daemon and b"node.chain.worker" in words:
                found.append(int(folder.name))
    return found


async def test_a_session_is_anchored_whatever_dies_and_verified_with_nothing_but_the_networks_file() -> None:
    """HOURs of 3 s; node 0 is the Server, node 1 records."""
    with tempfile.TemporaryDirectory(prefix="an") as name:
        homes, folder = Homes(Path(name)), Path(name)
        homes.make(range(2), "slot_s=1", "hour_slots=3", "era_hours=3", "rank_ms=100", "vote_ms=650")
        server, home, source = homes.path(0), homes.path(1), folder / "input"
        source.write_bytes(os.urandom(2_000_000))
        rpc = f"127.0.0.1:{free_port()}"
        homes.set(1, f'[network]\nrpc = "{rpc}"\n')
        async with homes.daemon(0):
            async with homes.daemon(1) as running:
                await homes.met([0, 1])
                await anchors(home, lambda facts: int(facts["wei"] or 0) > 0)
                made = await typed(home, "record", "--input", str(source))
                session = made["session"]
                with trio.fail_after(60):
                    while not (found := workers(running.pid)):  # on a busy machine it may be beginning anew just now
                        await trio.sleep(0.05)
                (worker,) = found
                os.kill(worker, signal.SIGKILL)
                await anchors(
                    home, lambda facts: facts["sessions"].get(session, {}).get("state") in {"anchored", "final"}
                )
                running.signal(signal.SIGKILL)
                await running.wait()
            with trio.fail_after(10):
                while workers(running.pid):  # it ends with its parent
                    await trio.sleep(0.05)
            shutil.rmtree(home / "chain")  # as a disk might lose it
            async with homes.daemon(1):
                told = await anchors(home, lambda facts: facts["sessions"].get(session, {}).get("state") == "final")
                assert "chain.replayed" in (home / "log").read_text()
                opened = told["sessions"][session]["opened"]["block"]
                assert opened <= told["sessions"][session]["closed"]["block"]

                bundle, network = folder / "bundle.tar", folder / "network"
                with trio.fail_after(90):
                    while (await typed(home, "verify", session))["anchored"] != "final":
                        await trio.sleep(0.5)
                await typed(home, "export", session, "--out", str(bundle), "--with-chunks", "--anchored")
                web3 = Web3(HTTPProvider(f"http://{rpc}"))
                final = await trio.to_thread.run_sync(web3.eth.get_block, "finalized")
                assert opened <= final["number"] <= await trio.to_thread.run_sync(lambda: web3.eth.block_number)
                (row,) = (await typed(home, "sessions"))["sessions"]
                assert (row["chain"]["state"], row["chain"]["opened"]["block"]) == ("final", opened)
                (seen,) = (await typed(server, "sessions", "--chain", "--hours", "1000"))["sessions"]
                assert (seen["session"], seen["owner"], seen["state"]) == (session, told["account"], "closed")

        shutil.copyfile(home / "network", network)
        auditor = folder / "auditor"
        checked = await typed(auditor, "verify", str(bundle), "--network", str(network), "--require", "final")
        assert (checked["anchored"], checked["trust"], checked["opened"]["slot"] > 0) == ("final", "server", True)
        unchecked = await typed(auditor, "verify", str(bundle))
        assert (unchecked["valid"], unchecked["anchored"]) == (True, "unchecked")

        whole = bytearray(bundle.read_bytes())
        (evidence,) = (bytes(entry.data) for entry in entries(memoryview(bytes(whole))) if entry.name == "anchors.cbor")
        whole[bytes(whole).index(evidence) + len(evidence) // 2] ^= 1
        bundle.write_bytes(whole)
        refused = await typed(auditor, "verify", str(bundle), "--network", str(network), expected=1)
        assert [fault["part"] for fault in refused["faults"]] == ["anchors"]
