"""The transport that a home's settings ask for: tors that are not ours, by unix sockets alone, and settings that are none."""

import secrets
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from consensus.ids import Millis, NodeId
from consensus.params import LeaderRule
from node.carrier import Carried, carrier
from node.config import Home
from node.exits import Unavailable, Usage
from node.log import EventLog
from node.net.swarm import Unreachable
from node.network import TIMINGS, Carrier, Genesis, Mode, NetworkTerms
from node.tor.control import open_control
from node.tor.interface import TorState
from node.tor.onion import onion_of
from node.tor.transport import multiaddr
from tests.node.tor.conftest import PrivateTor

MADE = Genesis(
    "test",
    Mode.DEVNET,
    NodeId(bytes(32)),
    Millis(0),
    TIMINGS[Mode.DEVNET],
    LeaderRule.SORTITION,
    (NodeId(bytes(32)),),
    0,
    Carrier.TOR,
)
TERMS = NetworkTerms(MADE, 1, Millis(0), ())


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tc") as place:  # short: sockets have 107 bytes
        yield Path(place)


def home_of(folder: Path, name: str, settings: str, torrc: str = "") -> Home:
    home = Home(folder / name)
    home.create()
    (home.path / "config.toml").write_text(settings)
    (home.path / "torrc").write_text(torrc)
    return home


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def greet(stream: trio.abc.Stream) -> None:
    async with stream:
        await stream.send_all(b"here")


async def dialled(carried: Carried, address: bytes) -> bytes:
    with trio.fail_after(90):
        while True:
            try:
                stream = await carried.transport.dial(address, b"peer")
            except Unreachable:
                continue
            async with stream:
                return b"".join([bytes(part) async for part in stream])


@pytest.mark.component
@pytest.mark.parametrize("unix", [True, False])
async def test_homes_of_a_systems_tor_and_of_an_external_onion_meet(
    private_tor: PrivateTor, folder: Path, unix: bool
) -> None:
    seed = secrets.token_bytes(32)
    port = free_port()
    ours = folder / "external" / "onion.socket" if unix else ("127.0.0.1", port)
    listen = "" if unix else f'[network]\nlisten = "127.0.0.1:{port}"\n'
    external = (
        f'{listen}[tor]\nmode = "external"\nsocks = "{private_tor.socks[0]}"\nonion = "{onion_of(seed)}.onion:77"\n'
    )
    system = f'[tor]\nmode = "system"\ncontrol = "{private_tor.controls[1]}"\nsocks = "{private_tor.socks[1]}"\n'
    homes = home_of(folder, "external", external), home_of(folder, "system", system, private_tor.torrc)
    log = EventLog()
    async with (
        open_control(private_tor.controls[0]) as somebody,
        carrier(homes[0], homes[0].config(), TERMS, log) as one,
        carrier(homes[1], homes[1].config(), TERMS, log) as other,
        trio.open_nursery() as nursery,
    ):
        await somebody.add_onion(seed, {77: ours})
        (here,) = await nursery.start(one.transport.listen, greet)
        (there,) = await nursery.start(other.transport.listen, greet)
        assert here == multiaddr(onion_of(seed), 77)
        assert await dialled(other, here) == b"here"
        assert await dialled(one, there) == b"here"
        assert one.tor is not None
        status = one.tor.status()
        with trio.fail_after(60):
            while status.state is not TorState.UP:
                status = await one.tor.changed(status)
        assert status.onions == (onion_of(seed),)
        nursery.cancel_scope.cancel()


async def test_a_home_that_tor_cannot_name_is_told_before_anything_runs(folder: Path) -> None:
    home = home_of(folder, "my node", "")
    with pytest.raises(Unavailable, match=r"my node.* has a space, .* use another folder"):
        async with carrier(home, home.config(), TERMS, EventLog()):
            pass


@pytest.mark.parametrize(
    ("settings", "mend"),
    [
        (f'mode = "external"\nsocks = "/s"\nonion = "{"a" * 56}.onion:77"', "tor.onion: .* copy the address anew"),
        (
            f'mode = "external"\nsocks = "/{"s" * 107}"\nonion = "{onion_of(bytes(32))}.onion:77"',
            "tor.socks: .* shorter",
        ),
        (f'mode = "system"\ncontrol = "/{"c" * 107}"', "tor.control: .* use a shorter folder"),
        ('mode = "system"\ncontrol = "/c"\nsocks = "192.0.2.1:9050"', "tor.socks must be a socket's whole path or 127"),
    ],
)
async def test_settings_that_lead_nowhere_are_told_with_their_name(folder: Path, settings: str, mend: str) -> None:
    home = home_of(folder, "home", f"[tor]\n{settings}\n")
    with pytest.raises(Usage, match=mend):
        async with carrier(home, home.config(), TERMS, EventLog()):
            pass
