"""What a node does by the clock: says in the directory where it is met, and tells its machine HOUR, seed and registry.

The registry of replication is the directory (every listed node that offers room), so that newcomers hold chunks before they
are registered; who challenges whom in an HOUR goes by the interim seeds of node/timeline. Source: CONSENSUS §1, §4; DESIGN §4, §5.
"""

from collections.abc import Iterable
from typing import Final

import trio

from consensus.ids import Millis, Network, NodeId
from node.net.addresses import AddressBook
from node.net.host import Host
from node.overlay.advert import Advert, read_advert, registry, write_advert
from node.overlay.calls import Located
from node.overlay.entries import LogItem, LogName, written
from node.overlay.logs import Learned, Outrun
from node.overlay.peer import Peer
from node.overlay.pen import Append
from node.timeline import Timeline, interim_seed

LIFE_MS: Final = 7 * 86_400_000
"""Of an advert; who has left is forgotten after it."""
RENEWED_MS: Final = 86_400_000
REGISTRY_MS: Final = 10_000
"""How soon a change of the directory reaches the registry; sooner where HOURs are short."""


class Presence:
    """Keeps one node in its directory, and its machine in time."""

    def __init__(self, host: Host, peer: Peer, book: AddressBook, calendar: Timeline, network: Network) -> None:
        self._host, self._peer, self._book, self._calendar, self._network = host, peer, book, calendar, network
        self._advert: Advert | None = None
        self._changed = trio.Event()
        self._stirred = trio.Event()
        host.on_fact(Learned, self._learned)
        host.on_fact(Located, lambda fact: book.heard(fact.peer, fact.addresses))
        host.on_fact(Outrun, lambda _fact: self._changed.set())
        for _, chain in peer.logs.directory.chains():
            self._note(chain)

    def advertise(self, advert: Advert) -> None:
        """Say this of ourselves from now on."""
        self._advert = advert
        self._book.own(advert.addresses)
        self._changed.set()

    def adverts(self) -> list[tuple[NodeId, Advert]]:
        """What the nodes of the directory say of themselves, those whose entry has not expired."""
        now, found = self._host.clock.now(), list[tuple[NodeId, Advert]]()
        for author, chain in self._peer.logs.directory.chains():
            advert = read_advert(written(chain[0]).body) if chain[0].expiry > now else None
            if advert is not None:
                found.append((author, advert))
        return found

    async def run(self) -> None:
        """Do it until cancelled; the host runs already."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_listed)
            nursery.start_soon(self._keep_time)
            nursery.start_soon(self._keep_registry)

    def _learned(self, fact: Learned) -> None:
        if fact.item.log is LogName.DIRECTORY:
            self._note((fact.item,))
            self._stirred.set()

    def _note(self, chain: Iterable[LogItem]) -> None:
        for item in chain:
            advert = read_advert(written(item).body)
            self._book.signed(item.author, advert.addresses if advert is not None else ())

    async def _keep_listed(self) -> None:
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            if self._advert is None:
                continue
            expiry = Millis(self._host.clock.now() + LIFE_MS)
            await self._host.ask(Append(LogName.DIRECTORY, write_advert(self._advert), expiry))
            with trio.move_on_after(RENEWED_MS / 1000):
                await self._changed.wait()
            self._changed.set()

    async def _keep_time(self) -> None:
        """Begin each HOUR with its seed; the present one right away."""
        calendar = self._calendar
        self._enter()
        while True:
            now = self._host.clock.now()
            hour = calendar.hour(now)
            seed = interim_seed(self._network, hour * calendar.hour_slots)
            self._host.step(lambda at, hour=hour, seed=seed: self._peer.on_seed(at, hour, seed))  # type: ignore[misc]
            await self._until(calendar.starts(hour + 1))

    async def _until(self, moment: Millis) -> None:
        """Machine time is slewed, so one sleep may end early."""
        while (left := moment - self._host.clock.now()) > 0:  # noqa: ASYNC110 - no event tells of a time
            await trio.sleep(left / 1000)

    async def _keep_registry(self) -> None:
        while True:
            await self._stirred.wait()
            await trio.sleep(min(REGISTRY_MS, self._calendar.hour_ms // 8) / 1000)
            self._stirred = trio.Event()
            self._enter()

    def _enter(self) -> None:
        listed = registry(self.adverts())
        era = self._calendar.hour(self._host.clock.now()) // self._calendar.era_hours
        self._host.step(lambda at: self._peer.on_registry(at, era, listed))
