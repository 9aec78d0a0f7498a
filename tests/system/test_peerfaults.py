"""Half of a network's nodes gone at once, and what the others make of it: real daemons over loopback."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.system.homes import Homes, typed

pytestmark = pytest.mark.system

OWNER: Final = 1
STAY: Final = (0, OWNER, 2)
GO: Final = {3: signal.SIGKILL, 4: signal.SIGKILL, 5: signal.SIGSTOP}
"""The last of them is the most silent: its connections stay open, and nothing comes through them."""
NEW: Final = 6


@pytest.fixture
def homes() -> Iterator[Homes]:
    with tempfile.TemporaryDirectory(prefix="pf") as name:  # short: sockets have names of 107 bytes
        yield Homes(Path(name))


async def test_the_nodes_that_are_left_notice_go_on_and_replicate_again(homes: Homes) -> None:
    """HOURs of 3 s, so that a holder without a passed challenge for a day is replaced after 72 s.

    Of five others three held each file, so three gone have held some of all; three are left with a newcomer, and each has
    to hold all in the end.
    """
    homes.make(range(7), "slot_s=1", "hour_slots=3", "era_hours=100", "rank_ms=100", "vote_ms=650", "month_hours=100")
    source = homes.folder / "input"
    source.write_bytes(os.urandom(300_000))
    async with AsyncExitStack() as until:
        nodes = {number: await until.enter_async_context(homes.daemon(number)) for number in (*STAY, *GO)}
        await homes.met(list(nodes))
        await typed(homes.path(OWNER), "record", "--input", str(source))
        await homes.until(OWNER, lambda facts: facts["sessions_replicated"] == 1)
        held = sum([(await homes.until(number, bool))[-1]["replicas_held"] for number in nodes])
        files = held // 3
        assert held == 3 * files > 0
        gone = {(await homes.until(number, bool))[-1]["node"] for number in GO}
        for number, how in GO.items():
            nodes[number].signal(how)
        for number in STAY:
            await homes.until(number, lambda facts: not gone & set(facts["peers"]))
        await homes.met(STAY)
        await until.enter_async_context(homes.daemon(NEW))
        for number in STAY:  # what the newcomer says of itself reaches them all
            await homes.until(number, lambda facts: facts["directory"] == 7)
        for number in {*STAY, NEW} - {OWNER}:
            await homes.until(number, lambda facts: facts["replicas_held"] == files)
        await homes.until(OWNER, lambda facts: facts["sessions_replicated"] == 1 and facts["chunks_owed"] == 0)
