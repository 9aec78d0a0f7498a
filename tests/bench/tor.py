"""From nothing to a byte through an onion on a private network, and from a killed tor to the next byte.

Each round makes a network in an empty folder and has two nodes with tors of their own. Times add up to `in all`; `again` is
what follows when the server's tor is killed: until its onion is published by a new one, and until the client has dialled it.
"""

import os
import secrets
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from node.tor.control import open_control
from node.tor.interface import ManagedTor, OnionService, Tor, TorLimits, TorState, TorStatus
from node.tor.network import tor_network
from node.tor.onion import Onion
from node.tor.socks import DialFailed
from node.tor.supervisor import open_tor
from tests.bench.measure import spread, table
from tests.node.tor.echo import echo_at, echoed

LIMITS: Final = TorLimits(dial_s=60, slow_s=5)


class Laps:
    """Seconds between marks, by name."""

    def __init__(self) -> None:
        self.began = self.last = trio.current_time()
        self.seconds: dict[str, float] = {}

    def mark(self, name: str) -> None:
        """The time since the mark before."""
        now = trio.current_time()
        self.seconds[name] = now - self.last
        self.last = now


async def _until(tor: Tor, holds: Callable[[TorStatus], bool]) -> None:
    status = tor.status()
    while not holds(status):
        status = await tor.changed(status)


async def _answered(tor: Tor, onion: Onion, isolation: str) -> None:
    while True:
        try:
            async with await tor.dial(onion, 80, isolation) as stream:
                await echoed(stream)
                return
        except DialFailed as failed:
            print(f"  again, because {failed}", flush=True)


async def _round(place: Path) -> dict[str, float]:
    laps = Laps()
    async with tor_network(place / "net") as net:
        laps.mark("network")
        async with (
            echo_at(place / "echo") as target,
            open_tor(ManagedTor(place / "a", net.torrc), LIMITS) as server,
            open_tor(ManagedTor(place / "b", net.torrc), LIMITS) as client,
        ):
            for tor in (server, client):
                await _until(tor, lambda status: status.progress == 100)
            laps.mark("bootstrapped")
            onion = await server.serve(OnionService(secrets.token_bytes(32), {80: target}))
            laps.mark("published")
            await _answered(client, onion, "a")
            laps.mark("dialled")
            laps.seconds["in all"] = laps.last - laps.began
            await _answered(client, onion, "a")
            laps.mark("same circuit")
            await _answered(client, onion, "b")
            laps.mark("new circuit")
            async with open_control(place / "a" / "control") as control:
                os.kill(int(await control.info("process/pid")), signal.SIGKILL)
            laps.mark("")
            await _until(server, lambda status: status.state is not TorState.UP)
            await _until(server, lambda status: status.state is TorState.UP)
            laps.mark("published again")
            await _answered(client, onion, "c")
            laps.mark("dialled again")
    return {name: seconds for name, seconds in laps.seconds.items() if name}


def main(_: Path, rounds: int) -> None:
    """Print the seconds of each stage."""
    seen = []
    for _number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="tb") as place:  # short: sockets have 107 bytes
            seen.append(trio.run(_round, Path(place)))
    table([("stage", "seconds"), *((name, spread([laps[name] for laps in seen])) for name in seen[0])])
