"""Rotation: old and new onion both answer for a while, and whatever moment a crash chooses, nobody is led astray."""

import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import trio
import trio.testing

from consensus.ids import Millis, Network, NodeId
from consensus.records import pack, unpack
from consensus.signing import KeyPair
from node.net.nursery import bare_nursery
from node.tor.interface import Tor
from node.tor.loopback import LoopbackOnions
from node.tor.onion import Onion, OnionBinding, OnionRotation, key_of, onion_of, open_rotation
from node.tor.rotation import OVERLAP_MS, NewOnionUnreachable, OnionKeys, RotatingOnion, RotationUnderway
from node.tor.socks import DialFailed
from tests.node.tor.echo import echo_at, echoed
from tests.node.tor.test_interface import Pair, loopback, system

IDENTITY = KeyPair.from_seed(bytes(32))
NETWORK = Network(bytes(32))


class Crash(Exception):
    """The power went."""


class Disk:
    """What survives: the last keys that were saved. It can fail at a given save, before or after it is on the disk."""

    def __init__(self, keys: OnionKeys) -> None:
        self.data = pack(keys)
        self.saves = 0
        self.crash_at: int | None = None
        self.written = False
        self.wall = Millis(1_800_000_000_000)

    @property
    def keys(self) -> OnionKeys:
        return unpack(OnionKeys, self.data)

    def save(self, keys: OnionKeys) -> None:
        self.saves += 1
        crashes = self.saves == self.crash_at
        if not crashes or self.written:
            self.data = pack(keys)
        if crashes:
            raise Crash

    def rotating(self, tor: Tor, target: Path) -> RotatingOnion:
        return RotatingOnion(
            tor, self.keys, self.save, identity=IDENTITY, network=NETWORK, ports={80: target}, now=lambda: self.wall
        )


def fresh() -> OnionKeys:
    return OnionKeys(secrets.token_bytes(32))


def told(onion: Onion) -> OnionBinding:
    """What a peer knows who was invited to that onion."""
    return OnionBinding(NodeId(IDENTITY.public), key_of(onion), 0, Millis(0), Millis(2**60))


@asynccontextmanager
async def running(rotating: RotatingOnion) -> AsyncIterator[RotatingOnion]:
    async with bare_nursery() as nursery:
        nursery.start_soon(rotating.run)
        await trio.testing.wait_all_tasks_blocked()
        yield rotating
        nursery.cancel_scope.cancel()


async def reachable(tor: Tor, onion: Onion) -> bool:
    try:
        async with await tor.dial(onion, 80, secrets.token_hex(8)) as stream:
            return await echoed(stream) == b"hello"
    except DialFailed:
        return False


@pytest.mark.parametrize("pair", [loopback, pytest.param(system, marks=pytest.mark.component)])
async def test_old_and_new_onion_answer_during_the_overlap(pair: Pair, request: pytest.FixtureRequest) -> None:
    disk = Disk(fresh())
    with tempfile.TemporaryDirectory(prefix="ro") as place:
        async with echo_at(Path(place, "b")) as target, pair(request) as (server, client):
            async with running(disk.rotating(server, target)) as node:
                old = node.onion
                with trio.fail_after(90):
                    while old not in server.status().onions:
                        await server.changed(server.status())
                    stream = await client.dial(old, 80, "peer")
                    record = await node.rotate()
                    rotation = open_rotation(record, told(old), NETWORK)
                    assert rotation.new == key_of(node.onion)
                    assert rotation.old_until == disk.wall + OVERLAP_MS
                    assert await reachable(client, old)
                    assert await reachable(client, node.onion)
                    assert set(server.status().onions) == {old, node.onion}
                    disk.wall = rotation.old_until
                    node.recheck()
                    while old in server.status().onions:
                        await server.changed(server.status())
                    assert await reachable(client, node.onion)
                    assert not await reachable(client, old)
                    assert await echoed(stream) == b"hello"  # what was open stays
                    await stream.aclose()
            assert disk.keys == OnionKeys(disk.keys.current, 1, record=record)  # the old seed is gone
            await server.withdraw(node.onion)


@pytest.mark.parametrize("emergency", [False, True])
@pytest.mark.parametrize("written", [False, True])
async def test_a_crash_at_any_save_leaves_a_node_that_is_met_and_can_go_on(emergency: bool, written: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="ro") as place:
        async with echo_at(Path(place, "b")) as target:
            for crash_at in count(1):
                disk = Disk(fresh())
                first = onion_of(disk.keys.current)
                disk.crash_at, disk.written = crash_at, written
                crashed = await lived_through(disk, target, emergency=emergency)
                await met_after(disk, target, first)
                if not crashed:
                    break
            assert crash_at == 4  # three saves: the seed, the move, the end of the old one


async def lived_through(disk: Disk, target: Path, *, emergency: bool) -> bool:
    """Whether a life that rotates and waits for the end of the overlap crashed."""
    onions = LoopbackOnions()
    try:
        async with running(disk.rotating(onions.tor(), target)) as node:
            await node.rotate(emergency=emergency)
            disk.wall = Millis(disk.wall + OVERLAP_MS)
            node.recheck()
            await trio.testing.wait_all_tasks_blocked()
    except Crash:
        return True
    return False


async def met_after(disk: Disk, target: Path, first: Onion) -> None:
    """The next life: whoever has what was ever told finds the node, or the record that leads there."""
    onions = LoopbackOnions()
    disk.crash_at = None
    async with running(disk.rotating(onions.tor(), target)) as node:
        peer = onions.tor()
        await trio.testing.wait_all_tasks_blocked()
        assert await reachable(peer, node.onion)
        if node.keys.record:
            assert open_rotation(node.keys.record, told(first), NETWORK).new == key_of(node.onion)
        else:
            assert node.onion == first
        served = node.onion
        begun = node.keys.next
        if node.keys.old is not None:
            node.keys = replace(node.keys, old=None)
        await node.rotate()
        assert await reachable(peer, served)
        assert await reachable(peer, node.onion)
        assert begun in {None, node.keys.current}  # what was begun was gone on with


async def test_one_rotation_at_a_time_and_an_emergency_ends_the_old_onion_at_once() -> None:
    with tempfile.TemporaryDirectory(prefix="ro") as place:
        async with echo_at(Path(place, "b")) as target:
            onions, disk = LoopbackOnions(), Disk(fresh())
            peer = onions.tor()
            async with running(disk.rotating(onions.tor(), target)) as node:
                first = node.onion
                await node.rotate()
                second = node.onion
                with pytest.raises(RotationUnderway):
                    await node.rotate()
                assert node.onion == second
                record = await node.rotate(emergency=True)
                rotation: OnionRotation = open_rotation(record, told(second), NETWORK)
                assert (rotation.emergency, rotation.seq, rotation.old_until) == (True, 2, disk.wall)
                assert [await reachable(peer, onion) for onion in (first, second, node.onion)] == [False, False, True]
                assert disk.keys.old is None


async def test_an_onion_that_cannot_be_dialled_is_told_to_nobody(autojump_clock: trio.testing.MockClock) -> None:
    onions, disk = LoopbackOnions(), Disk(fresh())
    first = onion_of(disk.keys.current)
    with tempfile.TemporaryDirectory(prefix="ro") as place:
        async with running(disk.rotating(onions.tor(), Path(place, "b"))) as node:
            with pytest.raises(NewOnionUnreachable, match="what should listen behind it does not"):
                await node.rotate()
            assert (node.onion, disk.keys.record) == (first, b"")
            begun = disk.keys.next
            assert begun is not None
            async with echo_at(Path(place, "b")):
                await node.rotate()
            assert node.keys.current == begun


def test_secrets_are_in_no_text_of_the_keys() -> None:
    keys = OnionKeys(b"\x11" * 32, 0, b"\x22" * 32, b"\x33" * 32)
    assert not any(str(part) in repr(keys) for part in (keys.current, keys.next, keys.old))
