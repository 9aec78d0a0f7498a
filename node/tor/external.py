"""A Tor without a control port: an onion that somebody configured in a torrc, and a SOCKS port to dial through.

For those who run tor by hand, or in a container that gives no control port away. Nothing of that tor can be asked or
changed, its version included, so the onion is judged by the one thing that counts: whether dialling it works.
"""

import secrets
from dataclasses import replace

import trio

from node.net.endpoints import connect, spelled
from node.tor.interface import ExternalOnion, LatestStatus, OnionService, TorLimits, TorState, TorStatus
from node.tor.onion import Onion
from node.tor.socks import BACKEND_REFUSED, DialFailed, dial_onion


class NotControlled(Exception):
    """What was asked needs tor's control port; the message says what to write into its torrc instead."""


class ExternalTor:
    """A Tor (node.tor.interface) that is not controlled; made by `supervisor.open_tor`."""

    def __init__(self, mode: ExternalOnion, limits: TorLimits) -> None:
        self._mode = mode
        self._limits = limits
        self._label = secrets.token_hex(4)
        self._status = LatestStatus(TorStatus(TorState.CONNECTING))
        self._served = False
        self._reached = trio.Event()
        self._doubt = trio.Event()
        """Set to have the onion dialled at once."""

    async def dial(self, onion: Onion, port: int, isolation: str) -> trio.abc.Stream:
        """See node.tor.interface."""
        return await self._dial(onion, port, isolation)

    async def serve(self, service: OnionService) -> Onion:
        """See node.tor.interface; whatever the seed, it is the configured onion. Raises NotControlled for other ports or readers."""
        mode = self._mode
        if dict(service.ports) != {mode.port: mode.backend}:
            raise NotControlled(
                f"this onion leads from port {mode.port} to {spelled(mode.backend)} alone: listen there, or change "
                "HiddenServicePort in the torrc and the settings here"
            )
        if service.readers:
            raise NotControlled(
                "who may find this onion is said by the files in authorized_clients of its HiddenServiceDir"
            )
        self._served = True
        self._doubt.set()
        await self._reached.wait()
        return mode.onion

    async def withdraw(self, onion: Onion) -> None:
        """See node.tor.interface; tor goes on leading to where we listened."""
        await trio.lowlevel.checkpoint()
        if onion == self._mode.onion and self._served:
            self._served = False
            self._status.set(replace(self._status.now, onions=()))

    async def add_reader(self, onion: Onion, secret: bytes) -> None:
        """Raises NotControlled: the secret goes into that tor's ClientOnionAuthDir."""
        if len(secret) != 32:
            raise ValueError("a reader's secret is 32 bytes")
        await trio.lowlevel.checkpoint()
        raise NotControlled(f"put our key for {onion[:8]}….onion into the ClientOnionAuthDir of that tor and reload it")

    def status(self) -> TorStatus:
        """See node.tor.interface; its version is not known."""
        return self._status.now

    async def changed(self, since: TorStatus) -> TorStatus:
        """See node.tor.interface."""
        return await self._status.other_than(since)

    async def supervise(self) -> None:
        """Dials the onion now and then, until cancelled."""
        limits, failed = self._limits, 0
        while True:
            self._doubt = trio.Event()
            failed = 0 if await self._probe() else failed + 1
            pause = min(limits.retry_first_s * 2 ** min(failed, 10), limits.reprobe_s) if failed else limits.probe_s
            with trio.move_on_after(pause):
                await self._doubt.wait()

    async def _probe(self) -> bool:
        """Whether all is well, after dialling our onion; it goes into the status."""
        mode = self._mode
        try:
            await trio.aclose_forcefully(await connect(mode.socks))
        except OSError as error:
            return self._judge(
                TorState.DOWN, f"nothing answers at tor's SOCKS port {spelled(mode.socks)} ({error.strerror})"
            )
        try:
            await trio.aclose_forcefully(await self._dial(mode.onion, mode.port, f"probe {secrets.token_hex(8)}"))
        except DialFailed as failed:
            if failed.code != BACKEND_REFUSED:
                state = TorState.DEGRADED if self._reached.is_set() else TorState.PUBLISHING
                return self._judge(state, f"our onion could not be reached: {failed}")
            self._reached.set()
            if self._served:
                return self._judge(
                    TorState.DEGRADED, f"nothing listens at {spelled(mode.backend)}, where our onion leads"
                )
        self._reached.set()
        return self._judge(TorState.UP, "")

    def _judge(self, state: TorState, why: str) -> bool:
        reached = state in {TorState.UP, TorState.DEGRADED}
        onions = (self._mode.onion,) if self._served and reached else ()
        self._status.set(TorStatus(state, why, progress=100 if reached else 0, onions=onions))
        return state is TorState.UP

    async def _dial(self, onion: Onion, port: int, isolation: str) -> trio.SocketStream:
        return await dial_onion(
            self._mode.socks, onion, port, f"{self._label} {isolation}", deadline_s=self._limits.dial_s
        )
