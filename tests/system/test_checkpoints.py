"""A newcomer begins at a checkpoint that a running daemon saved: it has the chain from there on, and refuses other files."""

import tempfile
from pathlib import Path

import pytest

from tests.system.homes import Homes, typed

pytestmark = pytest.mark.system


async def test_a_newcomer_begins_at_a_file_and_has_the_chain_of_the_others() -> None:
    """HOURs of 3 s and ERAs of three: some have handed over to each other when the file is made."""
    with tempfile.TemporaryDirectory(prefix="cp") as name:
        homes = Homes(Path(name))
        homes.make(range(2), "slot_s=1", "hour_slots=3", "era_hours=3", "rank_ms=100", "vote_ms=650")
        first, newcomer, file = homes.path(0), homes.path(1), Path(name) / "file.checkpoint"
        async with homes.daemon(0) as running:
            await homes.until(0, lambda facts: facts["chain"]["final_hour"] >= 9)
            saved = await typed(first, "checkpoint", "save", str(file), "--json")
            assert saved["hour"] >= 6
            assert saved["bytes"] == file.stat().st_size
            await typed(first, "checkpoint", "load", str(file), "--json", expected=3)  # a node runs there
            assert running.process.poll() is None

            shown = await typed(newcomer, "checkpoint", "show", str(file), "--json")
            assert {**shown, "file": ""} == {**saved, "file": ""}
            assert shown["trust"] == "server"  # a network of one
            loaded = await typed(newcomer, "checkpoint", "load", str(file), "--json")
            assert loaded["block"] == saved["block"]
            await typed(newcomer, "checkpoint", "load", str(file), "--json", expected=1)
            async with homes.daemon(1):
                wanted = saved["hour"] + 6
                said = [
                    (await homes.until(number, lambda facts: facts["chain"]["final_hour"] >= wanted))[-1]
                    for number in (1, 0)
                ]
            assert said[0]["chain"]["height"] > saved["height"]
            log = (newcomer / "log").read_text()
            assert f"hour={saved['hour']} " not in log  # it was final before the node began

        await typed(first, "checkpoint", "load", str(file), "--json", expected=1)  # it knows more itself
        damaged = bytearray(file.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        for other in (bytes(damaged), bytes(damaged[:-9]), b"something else"):
            file.write_bytes(other)
            await typed(newcomer, "checkpoint", "show", str(file), "--json", expected=1)
        await typed(newcomer, "checkpoint", "show", str(file.with_name("none")), "--json", expected=3)
