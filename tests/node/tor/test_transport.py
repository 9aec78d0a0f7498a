"""Onions as a transport: addresses to the byte, over sockets of this machine and over real tors."""

import secrets
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from multiaddr import Multiaddr

from consensus.ids import NodeId
from node.libp2p.swarm import Libp2pSwarm
from node.net.swarm import Unreachable
from node.overlay.machine import Channel, Failed, Received
from node.tor.interface import SystemTor, TorLimits, TorState
from node.tor.loopback import LoopbackOnions
from node.tor.onion import Onion, onion_of
from node.tor.supervisor import open_tor
from node.tor.transport import Onions, multiaddr, parse_multiaddr
from tests.node.net.swarms import Node, keys_of, until
from tests.node.tor.conftest import PrivateTor

seeds, ports = st.binary(min_size=32, max_size=32), st.integers(1, 65535)


@given(seeds, ports)
def test_an_address_is_spelled_as_multiaddr_spells_it_and_read_back(seed: bytes, port: int) -> None:
    onion = onion_of(seed)
    address = multiaddr(onion, port)
    assert address == Multiaddr(f"/onion3/{onion}:{port}").to_bytes()
    assert parse_multiaddr(address) == (onion, port)


@given(seeds, ports, st.integers(0, 36), st.integers(1, 255))
def test_an_address_with_one_byte_changed_is_none(seed: bytes, port: int, place: int, change: int) -> None:
    address = bytearray(multiaddr(onion_of(seed), port))
    address[place] ^= change
    assert parse_multiaddr(bytes(address)) is None


@given(st.binary(max_size=50))
def test_no_other_bytes_are_an_address(data: bytes) -> None:
    assert parse_multiaddr(data) is None


def test_port_0_and_what_follows_an_address_are_refused() -> None:
    address = multiaddr(onion_of(bytes(32)), 1)
    assert parse_multiaddr(address[:-1] + b"\0") is None
    assert parse_multiaddr(address + b"\0") is None


async def collect(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"here")
    await stream.aclose()


async def read(stream: trio.abc.Stream) -> bytes:
    async with stream:
        return b"".join([bytes(part) async for part in stream])


@pytest.mark.parametrize("unix", [False, True])
async def test_an_onion_is_served_while_it_listens_and_withdrawn_after(unix: bool) -> None:
    known = LoopbackOnions()
    with tempfile.TemporaryDirectory(prefix="o") as folder:
        path = Path(folder, "backend")
        path.touch()  # as if left by a life that ended suddenly
        ours = Onions(known.tor(), bytes(32), path if unix else ("127.0.0.1", 0), port=77)
        other = Onions(known.tor(), bytes(31) + b"\1", ("127.0.0.1", 0))
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(ours.listen, collect)
            assert address == multiaddr(onion_of(bytes(32)), 77)
            while not known.known:
                await trio.lowlevel.checkpoint()
            assert await read(await other.dial(address, b"peer")) == b"here"
            with pytest.raises(Unreachable, match="does not have that port"):
                await other.dial(multiaddr(onion_of(bytes(32)), 78), b"peer")
            nursery.cancel_scope.cancel()
        with pytest.raises(Unreachable, match="no descriptor"):
            await other.dial(address, b"peer")
        with pytest.raises(Unreachable, match="not the address of an onion"):
            await other.dial(b"\x04\x7f\x00\x00\x01\x06\x0f\xa1", b"peer")
    assert known.known == {}


class Recording:
    """A Tor that is only asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Onion, int, str]] = []

    async def dial(self, onion: Onion, port: int, isolation: str) -> trio.abc.Stream:
        self.asked.append((onion, port, isolation))
        return trio.testing.memory_stream_pair()[0]


async def test_each_peer_has_an_isolation_of_its_own() -> None:
    tor = Recording()
    transport = Onions(tor, bytes(32), ("127.0.0.1", 0))  # type: ignore[arg-type]
    onion = onion_of(bytes(32))
    for peer in (bytes(32), b"\xff" * 32):
        await transport.dial(multiaddr(onion), peer)
    assert tor.asked == [(onion, 4001, "00" * 32), (onion, 4001, "ff" * 32)]


@pytest.mark.component
async def test_two_swarms_meet_through_real_tors(private_tor: PrivateTor) -> None:
    known: dict[NodeId, tuple[bytes, ...]] = {}
    served = []

    async def serve(stream: object) -> None:
        served.append(await stream.read(100))  # type: ignore[attr-defined]
        await stream.write(b"bulk answer")  # type: ignore[attr-defined]

    async with AsyncExitStack() as stack:
        nodes = []
        for number in range(2):
            mode = SystemTor(private_tor.controls[number], private_tor.socks[number], private=True)
            tor = await stack.enter_async_context(open_tor(mode, TorLimits(dial_s=30)))
            transport = Onions(tor, secrets.token_bytes(32), private_tor.folder / f"swarm{number}")
            keys = keys_of(number + 1)
            swarm = Libp2pSwarm(keys, transport, lambda peer: known.get(peer, ()), Random(number))
            swarm.serve_streams("/lucid/test/1", serve, 1)
            nodes.append((Node(keys, swarm), tor))
        a, b = (node for node, _ in nodes)
        nursery = await stack.enter_async_context(trio.open_nursery())
        with trio.fail_after(120):
            for node, tor in nodes:
                known[node.id] = await nursery.start(node.run)
                status = tor.status()
                while status.state is not TorState.UP or not status.onions:
                    status = await tor.changed(status)
            while not b.frames(Channel.DHT):  # the first dial of an onion that was published a moment ago may fail
                a.events.clear()
                a.post(b, b"question", 1, Channel.DHT)
                await until(lambda: b.frames(Channel.DHT) or a.of(Failed))
            b.post(a, b"answer", (await b.hears(b"question", Channel.DHT)).exchange, Channel.DHT)
            stream = await a.swarm.open_stream(b.id, "/lucid/test/1")
            await stream.write(b"bulk question")
            assert await stream.read(100) == b"bulk answer"
            assert Received(b.id, Channel.DHT, b"answer", 1) in a.events
        assert served == [b"bulk question"]
        nursery.cancel_scope.cancel()
