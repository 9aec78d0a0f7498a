"""Two real daemons of one owner over loopback: paired by a file and a code, edited while both are down, and the same when they meet."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from node.config import Home
from node.control.client import NoDaemon, ask
from node.devnet import started
from node.exits import Ended
from tests.system.homes import free_port, typed
from tests.system.test_devnet import folder

__all__ = ["folder"]
pytestmark = pytest.mark.system


@asynccontextmanager
async def running(*homes: Path) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for home in homes:
            await stack.enter_async_context(started(Home(home)))
        yield


async def said(home: Path, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What a daemon's annotations say of the one session as soon as it is so; generously, for busy machines."""
    with trio.fail_after(270):
        while True:
            try:
                rows = (await trio.to_thread.run_sync(partial(ask, home, "annotations")))["sessions"]
            except (NoDaemon, Ended):
                rows = []
            if rows and holds(rows[0]):
                found: dict[str, Any] = rows[0]
                return found
            await trio.sleep(0.3)


async def test_edits_of_two_devices_made_apart_merge_when_they_meet(folder: Path) -> None:
    desk, laptop, port = folder / "desk", folder / "laptop", free_port()
    await typed(desk, "init", "--insecure-plaintext-keys")
    settings = desk / "config.toml"
    settings.write_text(settings.read_text().replace('# listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{port}"'))
    local = ("--mode", "devnet", "--transport", "loopback", "--out", str(folder / "net"))
    await typed(desk, "network", "create", "pair", *local)
    await typed(desk, "network", "join", str(folder / "net"))
    (folder / "input").write_bytes(b"frame" * 1000)
    session = (await typed(desk, "record", "--input", str(folder / "input")))["session"]
    await typed(desk, "label", session[:8], "by the desk")
    offer = await typed(desk, "pair", "offer", "--out", str(folder / "offer"))
    (folder / "code").write_text(offer["code"])
    opens = ("--pair", str(folder / "offer"), "--code-file", str(folder / "code"))
    await typed(laptop, "init", "--insecure-plaintext-keys", "--quota-gb", "1", *opens)

    async with running(desk, laptop):
        await said(laptop, lambda row: row["label"] == "by the desk")
        (row,) = (await typed(laptop, "sessions"))["sessions"]
        assert (row["session"], row["state"], row["chunks"]) == (session, "elsewhere", None)

    await typed(desk, "hold", session[:8], "--reason", "case 7")
    await typed(laptop, "label", session[:8], "by the laptop")
    await typed(laptop, "note", session[:8], "seen on the way")

    async with running(desk, laptop):
        together = lambda row: row["label"] == "by the laptop" and row["legal_hold"] and row["notes"]  # noqa: E731
        assert await said(desk, together) == await said(laptop, together)
        names = [len((await typed(home, "pair", "devices"))["devices"]) for home in (desk, laptop)]
        assert names == [2, 2]
        (row,) = (await typed(desk, "sessions"))["sessions"]
        assert (row["state"], row["label"], row["legal_hold"]) == ("sealed", "by the laptop", True)
