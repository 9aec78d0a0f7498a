"""What a real tor does when it is killed, frozen, misconfigured or not ours, on the private network."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import trio

from node.tor.control import open_control
from node.tor.interface import (
    ExternalOnion,
    ManagedTor,
    OnionService,
    SystemTor,
    Tor,
    TorLimits,
    TorState,
    TorStatus,
)
from node.tor.onion import Onion, onion_of
from node.tor.socks import DialFailed
from node.tor.supervisor import open_tor
from tests.node.tor.conftest import RUNNING, PrivateTor
from tests.node.tor.echo import echo_at, echoed

pytestmark = pytest.mark.component

WITHOUT_INTERFACES: Final = (
    "test_interface.py::test_every_tor_serves_and_dials",
    "test_rotation.py::test_old_and_new_onion_answer_during_the_overlap",
)
LIMITS = TorLimits(dial_s=30, heartbeat_s=0.5, answer_s=0.5, silences=6)


@asynccontextmanager
async def ours(net: PrivateTor, torrc: str = "", limits: TorLimits = LIMITS) -> AsyncIterator[tuple[Tor, Path]]:
    """A managed tor, and the folder of its sockets."""
    with tempfile.TemporaryDirectory(prefix="mt") as place:
        folder = Path(place, "t")
        async with open_tor(ManagedTor(folder, net.torrc + torrc), limits) as tor:
            yield tor, folder


@asynccontextmanager
async def peer(net: PrivateTor, limits: TorLimits = LIMITS) -> AsyncIterator[Tor]:
    """Another node's tor."""
    async with open_tor(SystemTor(net.controls[1], net.socks[1], private=True), limits) as tor:
        yield tor


async def until(tor: Tor, holds: Callable[[TorStatus], bool]) -> TorStatus:
    status = tor.status()
    with trio.fail_after(60):
        while not holds(status):
            status = await tor.changed(status)
    return status


async def answers(tor: Tor, onion: Onion) -> None:
    """Dials until the onion's echo comes back, as whoever dials has to."""
    with trio.fail_after(60):
        while True:
            try:
                async with await tor.dial(onion, 80, secrets.token_hex(8)) as stream:
                    assert await echoed(stream) == b"hello"
                    return
            except DialFailed as failed:
                if not failed.retry:
                    raise


async def pid_of(folder: Path) -> int:
    async with open_control(folder / "control") as control:
        return int(await control.info("process/pid"))


async def test_a_killed_tor_is_started_again_and_the_onion_is_published_again(private_tor: PrivateTor) -> None:
    async with (
        echo_at(private_tor.folder / "f1") as target,
        ours(private_tor) as (tor, folder),
        peer(private_tor) as client,
    ):
        onion = await tor.serve(OnionService(secrets.token_bytes(32), {80: target}))
        await answers(client, onion)
        first = await pid_of(folder)
        os.kill(first, signal.SIGKILL)
        status = await until(tor, lambda status: status.state is not TorState.UP)
        assert (status.state, status.onions) == (TorState.DOWN, ())
        status = await until(tor, lambda status: status.state is TorState.UP)
        assert status.onions == (onion,)
        assert await pid_of(folder) != first
        await answers(client, onion)


async def test_a_frozen_tor_is_degraded_and_thaws_or_is_killed(private_tor: PrivateTor) -> None:
    async with (
        echo_at(private_tor.folder / "f2") as target,
        ours(private_tor, limits=TorLimits(dial_s=30, heartbeat_s=0.2, answer_s=0.5, silences=10)) as (tor, folder),
        peer(private_tor) as client,
    ):
        onion = await tor.serve(OnionService(secrets.token_bytes(32), {80: target}))
        first = await pid_of(folder)
        os.kill(first, signal.SIGSTOP)
        status = await until(tor, lambda status: status.state is TorState.DEGRADED)
        assert "tor does not answer" in status.reason
        os.kill(first, signal.SIGCONT)
        await until(tor, lambda status: status.state is TorState.UP)
        assert await pid_of(folder) == first
        await answers(client, onion)
        os.kill(first, signal.SIGSTOP)
        status = await until(tor, lambda status: status.state is TorState.DOWN)
        assert "has been killed" in status.reason
        await until(tor, lambda status: status.onions == (onion,))
        assert await pid_of(folder) != first
        await answers(client, onion)


async def test_a_tor_that_ends_at_once_is_told_with_its_own_words(private_tor: PrivateTor) -> None:
    async with ours(private_tor, "NoSuchOption 1\n") as (tor, _):
        status = await until(tor, lambda status: "NoSuchOption" in status.reason)
        assert status.state is TorState.CONNECTING
        assert "tor ended and was started again" in status.reason


async def test_an_onion_of_somebody_elses_torrc_is_served_without_a_control_port(private_tor: PrivateTor) -> None:
    seed, backend = secrets.token_bytes(32), private_tor.folder / "f3"
    limits = TorLimits(dial_s=30, probe_s=0.2, reprobe_s=0.2)
    mode = ExternalOnion(onion_of(seed), backend, 80, private_tor.socks[0])
    async with open_tor(mode, limits) as tor, peer(private_tor) as client, trio.open_nursery() as nursery:
        nursery.start_soon(tor.serve, OnionService(bytes(32), {80: backend}))
        status = await until(tor, lambda status: status.state is TorState.PUBLISHING)
        assert status.onions == ()
        assert len(nursery.child_tasks) == 1
        async with open_control(private_tor.controls[0]) as somebody:
            await somebody.add_onion(seed, {80: backend})
            status = await until(tor, lambda status: status.state is TorState.DEGRADED)
            assert status == TorStatus(
                TorState.DEGRADED, f"nothing listens at unix:{backend}, where our onion leads", 100, "", (mode.onion,)
            )
            async with echo_at(backend):
                await until(tor, lambda status: status.state is TorState.UP)
                assert await tor.serve(OnionService(secrets.token_bytes(32), {80: backend})) == mode.onion
                await answers(client, mode.onion)
            await somebody.del_onion(mode.onion)
            status = await until(tor, lambda status: "could not be reached" in status.reason)
            assert status.state is TorState.DEGRADED


SEALED: Final = """
import errno, os, socket, sys
for family, address in ((socket.AF_INET, ("127.0.0.1", 9)), (socket.AF_INET, ("192.0.2.1", 9))):
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        assert sock.connect_ex(address) == errno.ENETUNREACH, address
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_a_node_without_any_interface_serves_and_dials(private_tor: PrivateTor) -> None:
    """A network namespace of its own with loopback down: whatever is not a unix socket fails there."""
    mapped = [] if os.getuid() == 0 else ["--map-root-user"]
    tests = [f"tests/node/tor/{name}[system]" for name in WITHOUT_INTERFACES]
    done = subprocess.run(
        ["unshare", *mapped, "--net", sys.executable, "-c", SEALED, "-P", "-m", "pytest", "-q", *tests],
        env={**os.environ, RUNNING: private_tor.said, "TMPDIR": str(private_tor.folder)},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(tests)} passed" in done.stdout
