"""Real daemons publish and finalise blocks on what they witnessed of each other; one that is killed catches up."""

import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from node.control.client import NoDaemon, ask
from node.devnet import devnet, started
from node.exits import Ended
from node.network import Carrier
from tests.system.homes import connected

pytestmark = pytest.mark.system

HOUR_S = 20


async def until(home: Path, call: str, holds: Callable[[dict[str, Any]], bool], *, hours: int) -> dict[str, Any]:
    """A daemon's answer as soon as it is so: within three times the HOURs that it takes on a quiet machine."""
    with trio.fail_after(3 * hours * HOUR_S):
        while True:
            try:
                facts = await trio.to_thread.run_sync(ask, home, call)
            except (NoDaemon, Ended):
                facts = None
            if facts is not None and holds(facts):
                return facts
            await trio.sleep(0.5)


async def test_daemons_agree_on_blocks_and_on_what_each_has_done() -> None:
    with tempfile.TemporaryDirectory(prefix="dn-") as name:
        async with devnet(Path(name) / "net", 3, Carrier.LOOPBACK) as net:
            await connected(net)
            homes = [one.home.path for one in net.nodes]
            said = [
                await until(home, "status", lambda facts: facts["chain"]["final_hour"] >= 2, hours=5) for home in homes
            ]
            assert len({facts["chain"]["era"] for facts in said}) == 1

            # One is killed, misses blocks, and has the others' chain again; it contradicts nothing that it signed.
            killed = net.nodes[2]
            killed.running.signal(signal.SIGKILL)
            await killed.running.wait()
            final = said[0]["chain"]["final_hour"] + 2
            await until(homes[0], "status", lambda facts: facts["chain"]["final_hour"] >= final, hours=4)
            async with started(killed.home):
                caught = await until(homes[2], "status", lambda facts: facts["chain"]["final_hour"] >= final, hours=3)
                assert not caught["chain"]["doubled"]
                for home in homes:
                    told = await until(
                        home,
                        "explain",
                        lambda facts: any(row["uptime"] == 1_000 for row in [*facts["hours"], *facts["not_settled"]]),
                        hours=9,
                    )
                    assert told["registered"]
                    assert told["expelled_hour"] is None
