"""Dials to onions of peers that may have restarted: what tor remembers of them may lead nowhere, and tor waits there.

A descriptor names introduction points, and a tor that is started again has new ones. Whoever holds the old descriptor hangs
for up to two minutes, so a dial that is slow is raced by a second one with the descriptor renewed, and so is the next after
a failure. Renewing is cheap, and bounded for each peer; forgetting everything (NEWNYM) would hit all who share that tor.
"""

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import trio

from node.net.endpoints import Endpoint
from node.net.nursery import bare_nursery
from node.tor.interface import TorLimits
from node.tor.onion import Onion
from node.tor.socks import DialFailed, dial_onion


class OnionDials:
    """Dials through one SOCKS port; `fetch` has its tor renew an onion's descriptor, and raises nothing."""

    def __init__(self, socks: Endpoint, limits: TorLimits, fetch: Callable[[Onion], Awaitable[None]]) -> None:
        self._socks, self._limits, self._fetch = socks, limits, fetch
        self._label = secrets.token_hex(4)
        self._fetched: OrderedDict[Onion, float] = OrderedDict()

    async def dial(self, onion: Onion, port: int, isolation: str) -> trio.SocketStream:
        """See node.tor.interface."""
        try:
            return await self._raced(onion, port, isolation)
        except DialFailed as failed:
            if failed.retry:
                await self._renew(onion)
            raise

    async def dial_once(self, onion: Onion, port: int, isolation: str) -> trio.SocketStream:
        """One attempt, and nothing is renewed."""
        return await self._once(onion, port, isolation, self._limits.dial_s)

    async def _raced(self, onion: Onion, port: int, isolation: str) -> trio.SocketStream:
        """The first stream of a dial and, when that is slow, of another with the peer's descriptor renewed.

        tor may be waiting at introduction points of before the peer's tor restarted, and goes on doing so when it learns of
        newer ones: only another attempt uses those.
        """
        won: list[trio.SocketStream] = []
        failed: list[DialFailed] = []
        first_over = trio.Event()

        async def attempt(name: str, deadline_s: float) -> None:
            try:
                won.append(await self._once(onion, port, name, deadline_s))
                nursery.cancel_scope.cancel()
            except DialFailed as error:
                failed.append(error)

        async def first() -> None:
            await attempt(isolation, self._limits.dial_s)
            first_over.set()

        try:
            async with bare_nursery() as nursery:
                nursery.start_soon(first)
                with trio.move_on_after(self._limits.slow_s):
                    await first_over.wait()
                if not first_over.is_set():
                    await self._renew(onion)
                    await attempt(f"{isolation} again", self._limits.dial_s - self._limits.slow_s)
        except BaseException:
            for stream in won:
                stream.socket.close()
            raise
        for stream in won[1:]:
            stream.socket.close()
        if not won:
            raise failed[0]
        return won[0]

    async def _once(self, onion: Onion, port: int, isolation: str, deadline_s: float) -> trio.SocketStream:
        return await dial_onion(self._socks, onion, port, f"{self._label} {isolation}", deadline_s=deadline_s)

    async def _renew(self, onion: Onion) -> None:
        """Unless it was renewed a moment ago."""
        now = trio.current_time()
        if now - self._fetched.get(onion, -self._limits.fetch_s) < self._limits.fetch_s:
            return
        self._fetched[onion] = now
        self._fetched.move_to_end(onion)
        if len(self._fetched) > self._limits.fetched_most:
            self._fetched.popitem(last=False)
        await self._fetch(onion)
