"""A holder that lies about everything that it holds, among daemons over loopback: nothing is lost by it, and it is replaced."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.system.homes import Homes, typed

pytestmark = pytest.mark.system

OWNER, LIAR = 1, 3
HONEST: Final = (0, 2, 4)


@pytest.fixture
def homes() -> Iterator[Homes]:
    with tempfile.TemporaryDirectory(prefix="li") as name:  # short: sockets have names of 107 bytes
        yield Homes(Path(name), programs={LIAR: [sys.executable, "-P", "-m", "tests.system.liar"]})


async def test_a_holder_that_lies_spoils_no_restore_and_is_replaced(homes: Homes) -> None:
    """HOURs of 3 s, so that it is replaced after 72 s, and at once by whom it has shown a false segment.

    Of the four nodes besides the owner three take each file, the liar among them for some; in the end it is the honest three.
    """
    homes.make(range(5), "slot_s=1", "hour_slots=3", "era_hours=100", "rank_ms=100", "vote_ms=650", "month_hours=100")
    source, out = homes.folder / "input", homes.folder / "out"
    source.write_bytes(os.urandom(1_000_000))
    async with AsyncExitStack() as until:
        for number in (OWNER, *HONEST, LIAR):
            await until.enter_async_context(homes.daemon(number))
        await homes.met([OWNER, *HONEST, LIAR])
        words = ["record", "--input", str(source), "--chunk-bytes", "65536:131072"]
        recorded = await typed(homes.path(OWNER), *words)
        await homes.until(OWNER, lambda facts: facts["sessions_replicated"] == 1)

        shutil.rmtree(homes.path(OWNER) / "chunks")
        await typed(homes.path(OWNER), "play", recorded["session"], "--from-network", "--out", str(out))
        assert out.read_bytes() == source.read_bytes()

        for number in HONEST:
            await homes.until(number, lambda facts: facts["replicas_held"] == recorded["chunks"] + 1)
        await homes.until(OWNER, lambda facts: facts["sessions_replicated"] == 1 and facts["replicas_owed"] == 0)
    assert "showed" in (homes.path(LIAR) / "log").read_text(), "it was asked, and lied"
