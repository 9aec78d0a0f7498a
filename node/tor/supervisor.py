"""Keeps tor going: connects, waits for the network, publishes our onions, and does all of it again when tor is lost.

One session is one control connection. Our onions are tied to it, so that they are gone when we are, and a new session
publishes them again. tor's word is not enough: a frozen tor holds its connections open, so it has to answer a heartbeat,
and an onion can be unreachable while tor believes it published, so we dial our own from time to time.

tor's belief in its circuits decides nothing here: it builds none until somebody dials, and who waits for it waits for ever.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

import trio

from node.net.endpoints import Endpoint
from node.net.nursery import bare_nursery
from node.tor.control import TorClosed, TorControl, TorRefusal, TorSilent, TorUnreachable, open_control
from node.tor.dials import OnionDials
from node.tor.external import ExternalTor
from node.tor.interface import (
    ExternalOnion,
    LatestStatus,
    ManagedTor,
    OnionService,
    SystemTor,
    Tor,
    TorLimits,
    TorState,
    TorStatus,
    ensure_version,
)
from node.tor.onion import Onion, onion_of
from node.tor.process import NoTorProcess, TorProcess
from node.tor.serving import OurOnions, OutOfReach
from node.tor.wire import NotTor, TorEvent

LOST: Final = (TorUnreachable, TorClosed, TorSilent, TorRefusal, NotTor, NoTorProcess, OutOfReach)
"""What ends a session, and is mended by another one."""

_NETWORK, _SILENCE, _CLOCK = "network", "silence", "clock"


class SupervisedTor:
    """A Tor (node.tor.interface) that is a process and its control port; made by `open_tor`."""

    def __init__(self, mode: ManagedTor | SystemTor, limits: TorLimits, process: TorProcess | None) -> None:
        self._limits = limits
        self._process = process
        self._private = bool(mode.network) if isinstance(mode, ManagedTor) else mode.private
        if isinstance(mode, SystemTor):
            self._control_at: Endpoint = mode.control
            socks: Endpoint = mode.socks
        else:
            assert process is not None
            self._control_at, socks = process.control, process.socks
        self._dials = OnionDials(socks, limits, self._fetch)
        self._ours = OurOnions(limits, self._dials.dial_once, self._judge)
        self._secrets: dict[Onion, bytes] = {}
        self._session: tuple[TorControl, trio.Nursery] | None = None
        self._wrong: dict[str, str] = {}
        self._status = LatestStatus(TorStatus(TorState.DOWN, "tor was not started yet"))
        self._version = ""
        self._ended = ""
        """What the process before this one said last, until this one answers."""
        self._phase = ""
        self._progress = -1
        """Percent of the way into the network; -1 before tor is asked, and it is not UP before our own onions are."""

    # --- what a Tor does

    async def dial(self, onion: Onion, port: int, isolation: str) -> trio.abc.Stream:
        """See node.tor.interface."""
        return await self._dials.dial(onion, port, isolation)

    async def serve(self, service: OnionService) -> Onion:
        """See node.tor.interface."""
        onion = onion_of(service.seed)
        await self.withdraw(onion)
        served = self._ours.add(service)
        if self._session is not None:
            control, nursery = self._session
            nursery.start_soon(self._ours.keep, control, served)
        self._tell()
        await served.published.wait()
        return onion

    async def withdraw(self, onion: Onion) -> None:
        """See node.tor.interface."""
        if self._ours.remove(onion) and self._session is not None:
            # Not published yet, or tor has ended: either way it is not served.
            with suppress(TorRefusal, TorClosed, TorSilent):
                await self._session[0].del_onion(onion)

    async def add_reader(self, onion: Onion, secret: bytes) -> None:
        """See node.tor.interface."""
        if len(secret) != 32:
            raise ValueError("a reader's secret is 32 bytes")
        self._secrets[onion] = secret
        if self._session is not None:
            with suppress(*LOST):  # the next session adds it again
                await self._session[0].add_reader(onion, secret)

    def status(self) -> TorStatus:
        """See node.tor.interface."""
        return self._status.now

    async def changed(self, since: TorStatus) -> TorStatus:
        """See node.tor.interface."""
        return await self._status.other_than(since)

    async def _fetch(self, onion: Onion) -> None:
        if self._session is not None:
            with suppress(*LOST), trio.move_on_after(self._limits.answer_s):
                await self._session[0].fetch_descriptor(onion)

    # --- sessions

    async def supervise(self) -> None:
        """Runs until cancelled; raises TorOutdated, which no new session mends."""
        pause = self._limits.retry_first_s
        while True:
            self._progress = -1
            try:
                await self._run_session()
            except LOST as error:
                if isinstance(error, OutOfReach) and self._process is not None:
                    self._process.kill()
                if isinstance(error, TorUnreachable) and self._process is not None and self._process.pid:
                    # It was started a moment ago, and is asked until it has made its socket.
                    why = str(error) if self._process.control.exists() else "tor is starting"
                    self._become(TorState.CONNECTING, self._ended or why)
                else:
                    self._become(TorState.DOWN, str(error))
            self._wrong.clear()
            if self._progress == 100:
                pause = self._limits.retry_first_s
            await trio.sleep(pause)
            pause = min(2 * pause, self._limits.retry_last_s)

    async def _run_session(self) -> None:
        if self._process is not None and (said := await self._process.ensure_running()):
            self._ended = f"tor ended and was started again; it had said: {said}"
        self._become(TorState.CONNECTING, self._ended)
        async with open_control(self._control_at, answer_s=3 * self._limits.answer_s) as control:
            self._ended = ""
            version = await control.version()
            ensure_version(version, private=self._private, allow_outdated=self._limits.allow_outdated)
            self._version = version
            async with control.events("STATUS_CLIENT", "STATUS_GENERAL", "NETWORK_LIVENESS") as events:
                await self._work(control, events)

    async def _work(self, control: TorControl, events: trio.MemoryReceiveChannel[TorEvent]) -> None:
        async with bare_nursery() as nursery:
            nursery.start_soon(self._beat, control)
            await self._bootstrap(control, events)
            for onion, secret in list(self._secrets.items()):
                await control.add_reader(onion, secret)
            self._session = control, nursery
            try:
                self._ours.keep_all(control, nursery)
                self._tell()
                async for event in events:
                    self._note(event)
                raise TorClosed(await control.wait_closed())
            finally:
                self._session = None
                self._ours.lose()

    async def _bootstrap(self, control: TorControl, events: trio.MemoryReceiveChannel[TorEvent]) -> None:
        if self._arrived(await control.bootstrap()):
            return
        async for event in events:
            if event.name == "STATUS_CLIENT" and event.words[1:2] == ["BOOTSTRAP"]:
                if self._arrived(event.pairs):
                    return
            else:
                self._note(event)
        raise TorClosed(await control.wait_closed())

    def _arrived(self, phase: dict[str, str]) -> bool:
        """Whether tor is in the network, by its own word; how far it is goes into the status."""
        self._progress = int(phase.get("PROGRESS", "0"))
        self._phase = f"{phase.get('SUMMARY', 'looking for the network')} ({phase.get('TAG', 'starting')})"
        if warning := phase.get("WARNING"):
            self._phase += f": {warning}; look at this machine's connection, and at its clock, which has to be right"
        self._tell()
        return self._progress == 100

    def _note(self, event: TorEvent) -> None:
        """What tor tells of the network and the clock, into the reasons."""
        match event.name, event.words:
            case "NETWORK_LIVENESS", [liveness]:
                self._judge(_NETWORK, "" if liveness == "UP" else "tor hears nothing from the network")
            case "STATUS_GENERAL", [_, "CLOCK_SKEW", *_]:
                skew = event.pairs.get("SKEW", "?")
                self._judge(
                    _CLOCK, f"this machine's clock is {skew} s off, and onions need it right within hours: set it"
                )
            case "STATUS_GENERAL", [_, "CLOCK_JUMPED", *_]:  # the machine slept
                self._ours.doubt()
            case _:
                pass

    async def _beat(self, control: TorControl) -> None:
        """Asks tor whether it lives; a managed one that stays silent is killed, another may come to itself."""
        silences = 0
        while True:
            with trio.move_on_after(self._limits.answer_s) as patience:
                await control.info("network-liveness")
            if not patience.cancelled_caught:
                silences = 0
                self._judge(_SILENCE, "")
                await trio.sleep(self._limits.heartbeat_s)
                continue
            silences += 1
            self._judge(_SILENCE, "tor does not answer: it is frozen, or this machine is overloaded")
            if self._process is not None and silences >= self._limits.silences:
                self._process.kill()
                raise TorSilent("tor was frozen and has been killed, to be started again")

    # --- how it is

    def _judge(self, what: str, why: str) -> None:
        """Notes that something is wrong, or with an empty reason that it is not."""
        if why:
            self._wrong[what] = why
        else:
            self._wrong.pop(what, None)
        self._tell()

    def _tell(self) -> None:
        """The state that follows from how far tor is, what is published and what is wrong."""
        if self._progress < 0:
            return
        if self._wrong:
            state, why = TorState.DEGRADED, "; ".join(self._wrong.values())
        elif self._session is None:
            state, why = TorState.BOOTSTRAPPING, self._phase
        elif self._ours.awaited:
            state, why = TorState.PUBLISHING, ""
        else:
            state, why = TorState.UP, ""
        self._status.set(TorStatus(state, why, self._progress, self._version, self._ours.published))

    def _become(self, state: TorState, reason: str) -> None:
        self._status.set(TorStatus(state, reason, version=self._version))


@asynccontextmanager
async def open_tor(mode: ManagedTor | SystemTor | ExternalOnion, limits: TorLimits | None = None) -> AsyncIterator[Tor]:
    """A tor that is kept going while the context lasts; it need not be up yet. Raises TorOutdated, bare, at any time."""
    async with AsyncExitStack() as until:
        tor: SupervisedTor | ExternalTor
        if isinstance(mode, ExternalOnion):
            tor = ExternalTor(mode, limits or TorLimits())
        else:
            process = TorProcess(mode, until) if isinstance(mode, ManagedTor) else None
            tor = SupervisedTor(mode, limits or TorLimits(), process)
        async with bare_nursery() as nursery:
            nursery.start_soon(tor.supervise)
            try:
                yield tor
            finally:
                nursery.cancel_scope.cancel()
