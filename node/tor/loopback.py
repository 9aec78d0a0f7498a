"""A Tor made of this machine's sockets: onions are entries of a table, and dialling one connects to where it leads.

For tests and for networks of nodes on one machine, where the real one's seconds would only be in the way. It passes the
tests that the real one passes; nothing is anonymous, and nothing leaves the machine.
"""

from dataclasses import dataclass
from typing import Final

import trio

from node.net.endpoints import connect
from node.tor.interface import LatestStatus, OnionService, TorState, TorStatus
from node.tor.onion import Onion, onion_of, reader_key
from node.tor.socks import BACKEND_REFUSED, MEANINGS, DialFailed

VERSION: Final = "loopback"


@dataclass(frozen=True, slots=True)
class _Known:
    service: OnionService
    owner: "LoopbackTor"


class LoopbackOnions:
    """The onions that can be dialled: one table for all nodes of a test."""

    def __init__(self) -> None:
        self.known: dict[Onion, _Known] = {}

    def tor(self) -> "LoopbackTor":
        """One more node's Tor."""
        return LoopbackTor(self)


class LoopbackTor:
    """A Tor (node.tor.interface) of one node; made by `LoopbackOnions.tor`."""

    def __init__(self, onions: LoopbackOnions) -> None:
        self._onions = onions
        self._secrets: dict[Onion, bytes] = {}
        self._status = LatestStatus(TorStatus(TorState.UP, "", 100, VERSION))

    async def dial(self, onion: Onion, port: int, isolation: str) -> trio.abc.Stream:
        """See node.tor.interface; the isolation isolates nothing."""
        if not 0 < len(isolation.encode()) < 200:
            raise ValueError("an isolation is 1 to 199 bytes long")
        await trio.lowlevel.checkpoint()
        known = self._onions.known.get(onion)
        if known is None:
            raise _failed(onion, 0xF0)
        service = known.service
        if service.readers and known.owner is not self:
            secret = self._secrets.get(onion)
            if secret is None:
                raise _failed(onion, 0xF4)
            if reader_key(secret) not in service.readers:
                raise _failed(onion, 0xF5)
        if port not in service.ports:
            raise _failed(onion, 0x05)
        try:
            return await connect(service.ports[port])
        except OSError as error:
            raise _failed(onion, BACKEND_REFUSED) from error

    async def serve(self, service: OnionService) -> Onion:
        """See node.tor.interface; takes no time."""
        await trio.lowlevel.checkpoint()
        onion = onion_of(service.seed)
        self._onions.known[onion] = _Known(service, self)
        self._tell()
        return onion

    async def withdraw(self, onion: Onion) -> None:
        """See node.tor.interface."""
        await trio.lowlevel.checkpoint()
        known = self._onions.known.get(onion)
        if known is not None and known.owner is self:
            del self._onions.known[onion]
            self._tell()

    async def add_reader(self, onion: Onion, secret: bytes) -> None:
        """See node.tor.interface."""
        if len(secret) != 32:
            raise ValueError("a reader's secret is 32 bytes")
        await trio.lowlevel.checkpoint()
        self._secrets[onion] = secret

    def status(self) -> TorStatus:
        """Always up."""
        return self._status.now

    async def changed(self, since: TorStatus) -> TorStatus:
        """See node.tor.interface."""
        return await self._status.other_than(since)

    def _tell(self) -> None:
        ours = sorted(onion for onion, known in self._onions.known.items() if known.owner is self)
        self._status.set(TorStatus(TorState.UP, "", 100, VERSION, tuple(ours)))


def _failed(onion: Onion, code: int) -> DialFailed:
    why, retry = MEANINGS[code]
    return DialFailed(onion, why, code=code, retry=retry)
