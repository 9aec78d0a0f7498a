"""What every Tor does: sockets of this machine, a tor of ours and the system's, on the private network."""

import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio

from node.tor.interface import (
    ManagedTor,
    OnionService,
    SystemTor,
    Tor,
    TorLimits,
    TorOutdated,
    TorState,
    ensure_version,
)
from node.tor.loopback import LoopbackOnions
from node.tor.onion import Onion, onion_of, reader_key
from node.tor.socks import DialFailed
from node.tor.supervisor import open_tor
from tests.node.tor.conftest import PrivateTor
from tests.node.tor.echo import echo_at, echoed

Pair = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[tuple[Tor, Tor]]]
LIMITS = TorLimits(dial_s=30)


@asynccontextmanager
async def loopback(_: pytest.FixtureRequest) -> AsyncIterator[tuple[Tor, Tor]]:
    onions = LoopbackOnions()
    yield onions.tor(), onions.tor()


@asynccontextmanager
async def system(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Tor, Tor]]:
    net: PrivateTor = request.getfixturevalue("private_tor")
    one, other = (SystemTor(net.controls[n], net.socks[n], private=True) for n in (0, 1))
    async with open_tor(one, LIMITS) as server, open_tor(other, LIMITS) as client:
        yield server, client


@asynccontextmanager
async def managed(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Tor, Tor]]:
    net: PrivateTor = request.getfixturevalue("private_tor")
    other = SystemTor(net.controls[1], net.socks[1], private=True)
    with tempfile.TemporaryDirectory(prefix="mt") as folder:
        async with (
            open_tor(ManagedTor(Path(folder, "Jürgen's tor"), net.torrc), LIMITS) as server,
            open_tor(other, LIMITS) as client,
        ):
            yield server, client


every_tor = pytest.mark.parametrize(
    "pair",
    [loopback, pytest.param(system, marks=pytest.mark.component), pytest.param(managed, marks=pytest.mark.component)],
)


@every_tor
async def test_every_tor_serves_and_dials(pair: Pair, request: pytest.FixtureRequest) -> None:
    ours, others, strangers = (secrets.token_bytes(32) for _ in range(3))
    with tempfile.TemporaryDirectory(prefix="b") as place:
        folder = Path(place)
        async with echo_at(folder / "b") as target, pair(request) as (server, client):
            with trio.fail_after(90):
                await open_service(server, client, target)
                await replaced_service(server, client, target)
                await service_with_readers(server, client, target, ours, others)
            with pytest.raises(DialFailed) as failed:
                await client.dial(onion_of(strangers), 80, "x")
            assert (failed.value.code, failed.value.retry) == (0xF0, True)


async def open_service(server: Tor, client: Tor, target: Path) -> None:
    seed, before = secrets.token_bytes(32), server.status()
    service = OnionService(seed, {80: target, 81: target.with_name("nobody")})
    onion = await server.serve(service)
    assert onion == onion_of(seed)
    after = await server.changed(before)
    assert (after.state, after.reason, after.progress, after.onions) == (TorState.UP, "", 100, (onion,))
    async with await client.dial(onion, 80, "a") as stream:
        assert await echoed(stream) == b"hello"
        for port, code in ((81, 0x01), (82, 0x05)):
            with pytest.raises(DialFailed) as failed:
                await client.dial(onion, port, "a")
            assert failed.value.code == code
        await server.withdraw(onion)
        await server.withdraw(onion)
        assert server.status().onions == ()
        assert await echoed(stream) == b"hello"  # what is open stays


async def replaced_service(server: Tor, client: Tor, target: Path) -> None:
    seed = secrets.token_bytes(32)
    onion = await server.serve(OnionService(seed, {80: target.with_name("nobody")}))
    assert await server.serve(OnionService(seed, {80: target})) == onion
    async with await dialled(client, onion, "replaced") as stream:
        assert await echoed(stream) == b"hello"
    assert server.status().onions == (onion,)
    await server.withdraw(onion)


async def service_with_readers(server: Tor, client: Tor, target: Path, ours: bytes, others: bytes) -> None:
    onion = await server.serve(OnionService(secrets.token_bytes(32), {80: target}, readers=(reader_key(ours),)))
    for secret, code in ((None, 0xF4), (others, 0xF5)):
        if secret is not None:
            await client.add_reader(onion, secret)
        with pytest.raises(DialFailed) as failed:
            await client.dial(onion, 80, "r")
        assert (failed.value.code, failed.value.retry) == (code, False)
    await client.add_reader(onion, ours)
    async with await client.dial(onion, 80, "r") as stream:
        assert await echoed(stream) == b"hello"
    async with await server.dial(onion, 80, "own") as stream:
        assert await echoed(stream) == b"hello"
    await server.withdraw(onion)


async def dialled(tor: Tor, onion: Onion, isolation: str) -> trio.abc.Stream:
    """A stream, tried until it works, as whoever dials has to."""
    while True:
        try:
            return await tor.dial(onion, 80, isolation)
        except DialFailed as failed:
            if not failed.retry:
                raise


@pytest.mark.parametrize(
    ("version", "private", "allowed", "fine"),
    [
        ("0.4.9.11", False, False, True),
        ("0.4.10.1-alpha", False, False, True),
        ("0.5.0.0", False, False, True),
        ("0.4.9.10", False, False, False),
        ("0.4.8.10", False, False, False),
        ("0.4.8.10", False, True, True),
        ("0.4.8.10", True, False, True),
        ("0.4.7.16", True, True, False),
        ("a new one", False, True, False),
    ],
)
def test_a_tor_in_which_others_can_pose_as_an_onion_is_refused(
    version: str, private: bool, allowed: bool, fine: bool
) -> None:
    if fine:
        ensure_version(version, private=private, allow_outdated=allowed)
    else:
        with pytest.raises(TorOutdated, match="upgrade tor"):
            ensure_version(version, private=private, allow_outdated=allowed)
