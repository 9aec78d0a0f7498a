"""A running daemon and strangers that send garbage under every protocol that it says it serves."""

import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
import trio

from consensus.ids import NodeId
from node.control.client import ask
from node.devnet import DevNode, devnet
from node.libp2p.channels import ASKED, HEARD
from node.libp2p.framing import Frames, prefixed
from node.libp2p.identify import _IDENTIFY
from node.libp2p.reception import IDENTIFY, PING
from node.net.multiaddrs import binary
from node.net.transfer import PROTOCOL
from node.network import Carrier
from tests.node.libp2p.attacker import Attacker
from tests.node.libp2p.test_yamux import ACK, FIN, SYN, WINDOW, frame
from tests.node.libp2p.test_yamux import PING as YAMUX_PING
from tests.node.net.swarms import keys_of
from tests.system.homes import connected

pytestmark = pytest.mark.system

_RNG: Final = Random(5)
GROWTH_KB_MAX: Final = 64 * 1024


def nested(head: bytes, depth: int) -> bytes:
    """A protobuf message within a message, and so on, under the field of that head."""
    body = b""
    for _ in range(depth):
        body = head + prefixed(body)
    return body


GARBAGE: Final = {
    "noise": _RNG.randbytes(50_000),
    "frames of noise": b"".join(prefixed(_RNG.randbytes(size)) for size in range(1, 300)),
    "empty frames": prefixed(b"") * 5_000,
    "zeros": bytes(60_000),
    "a length without end": b"\xff" * 40,
    "a frame cut off": prefixed(bytes(5_000))[:100],
    "arrays in arrays": prefixed(b"\x81" * 5_000),
    "maps in maps": prefixed(b"\xa1\x61v" * 5_000),
    "messages in messages": b"".join(prefixed(nested(bytes([head]), 90)) for head in range(0x0A, 0x7B, 8)),
    "another protocol": b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: sockets have names of 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="dg-") as name:
        yield Path(name)


class Strangers:
    """Connections to one daemon, each by somebody that it has not met before."""

    def __init__(self, node: NodeId, port: int) -> None:
        self._node, self._port = node, port
        self._number = 100

    async def one(self) -> Attacker:
        self._number += 1
        stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        return await Attacker.reaching(stream, self._node, keys_of(self._number))


async def status(node: DevNode) -> dict[str, Any]:
    assert node.running.process.poll() is None, (node.home.path / "log").read_text()[-2000:]
    return await trio.to_thread.run_sync(ask, node.home.path, "status")


def memory_kb(node: DevNode) -> int:
    lines = Path(f"/proc/{node.running.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


async def served(strangers: Strangers) -> list[str]:
    """The protocols that the daemon names in its identify."""
    one = await strangers.one()
    await one.open(1, IDENTIFY)
    await one.receives(frame(WINDOW, FIN, 1, 0))
    await one.raw.aclose()
    answer = Frames(1 << 16)
    answer.feed(one.said.partition(prefixed(IDENTIFY.encode() + b"\n"))[2])
    said = answer.pop()
    assert said is not None
    return [name.decode() for name in _IDENTIFY.FromString(said).protocols]


async def test_garbage_under_each_protocol_that_a_daemon_names_leaves_it_as_it_was(folder: Path) -> None:
    async with devnet(folder, 2, Carrier.LOOPBACK) as net, AsyncExitStack() as until:
        await connected(net, seconds=90)
        victim, friend = net.nodes
        address = (await status(victim))["addresses"][0]
        strangers = Strangers(victim.node, int.from_bytes(binary(address)[-2:], "big"))
        protocols = await served(strangers)
        assert {*HEARD, *ASKED, PING, IDENTIFY, PROTOCOL} <= set(protocols), "what is served is what is named"
        before = memory_kb(victim)

        silent = await strangers.one()  # opens a stream for each and says nothing
        until.push_async_callback(silent.raw.aclose)
        for place, protocol in enumerate(protocols):
            await silent.open(2 * place + 1, protocol)

        for protocol in protocols:
            for garbage in GARBAGE.values():
                one = await strangers.one()
                await one.open(1, protocol, garbage)
                await one.send(frame(WINDOW, FIN, 1, 0), frame(YAMUX_PING, SYN, 0, 7))
                await one.hears(frame(YAMUX_PING, ACK, 0, 7))  # or is hung up on
                await one.raw.aclose()
            said = await status(victim)
            assert friend.node.hex() in said["peers"], protocol

        assert await served(strangers) == protocols
        assert memory_kb(victim) - before < GROWTH_KB_MAX
        assert "Traceback" not in (victim.home.path / "log").read_text()
