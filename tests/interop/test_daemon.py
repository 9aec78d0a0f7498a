"""Stock js-libp2p nodes that join two real daemons: what one of them says reaches all, and what it leaves is there for the other."""

import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from consensus.ids import Digest, Millis, Network, NodeId
from node.control.client import ask
from node.devnet import Devnet, DevNode, devnet
from node.network import Carrier
from node.overlay.advert import Advert, write_advert
from node.overlay.entries import LogEntry, LogName, seal_entry
from node.overlay.peer import DIRECTORY
from node.overlay.values import NamedValue, key_of, write
from tests.interop.js import JsNode, js_node
from tests.node.net.swarms import keys_of
from tests.system.homes import connected

pytestmark = pytest.mark.system

DAY_MS: Final = 86_400_000


async def status(node: DevNode) -> dict[str, Any]:
    return await trio.to_thread.run_sync(ask, node.home.path, "status")


async def until(node: DevNode, holds: Callable[[dict[str, Any]], object]) -> None:
    with trio.fail_after(90):
        while not holds(await status(node)):
            await trio.sleep(0.1)


@pytest.fixture
async def net() -> AsyncIterator[Devnet]:
    with tempfile.TemporaryDirectory(prefix="dj-") as folder:  # a short path: sockets have names of 107 bytes
        async with devnet(Path(folder), 2, Carrier.LOOPBACK) as net:
            await connected(net, seconds=90)
            yield net


async def joined(js: JsNode, first: DevNode, all_of: list[DevNode]) -> None:
    """Have it dial one, and wait until it is connected with everybody, by its own look-ups, and they with it."""
    await js.asks("dial", address=(await status(first))["addresses"][0])
    for one in all_of:
        await js.hears("identify", lambda event, one=one: event["peer"] == one.node.hex())  # type: ignore[misc]
        await until(one, lambda facts: js.id.hex() in facts["peers"])
    while await js.asks("contacts") < len(all_of):
        await trio.sleep(0.1)


async def test_js_nodes_take_part_in_a_network_of_daemons(net: Devnet) -> None:
    first, second = net.nodes
    network = Network(bytes.fromhex((await status(first))["network_id"]))
    expiry = Millis(time.time_ns() // 1_000_000 + DAY_MS)
    keys = keys_of(77)
    name = key_of(NodeId(keys.public), b"name")
    async with js_node(keys, network, DIRECTORY) as one, js_node(keys_of(78), network, DIRECTORY) as other:
        await joined(one, first, net.nodes)
        await joined(other, second, net.nodes)

        advert = write_advert(Advert((), 0, "js-libp2p"))
        entry = LogEntry(one.id, LogName.DIRECTORY, 1, 0, 0, 0, 0, Digest(bytes(32)), expiry, advert)
        signed = seal_entry(entry, keys, network).hex()
        while not await one.asks("subscribers", topic=DIRECTORY):
            await trio.sleep(0.1)
        await one.asks("publish", topic=DIRECTORY, data=signed)
        for daemon in net.nodes:
            await until(daemon, lambda facts: facts["directory"] == 3)
        heard = await other.hears("message", lambda event: event["data"] == signed)
        assert (heard["type"], heard["from"]) == ("signed", one.id.hex())

        value = write(keys, network, NamedValue(one.id, b"name", 1, expiry, b"left here")).hex()
        put = await one.asks("put", name=name.hex(), value=value)
        assert {node.node.hex() for node in net.nodes} <= set(put["kept"])
    async with js_node(keys_of(79), network) as late:  # both have gone: only the daemons can have it
        await joined(late, second, net.nodes)
        found = await late.asks("get", name=name.hex())
        assert {each["value"] for each in found} == {value}
        assert {each["from"] for each in found} <= {node.node.hex() for node in net.nodes}
