"""The onions that shall be served, kept published while a control connection lasts and dialled to see that they are.

tor believes that it published when a directory said so, and can be out of reach for hours without noticing. So our own
onions are dialled now and then, from our own tor, each time on new circuits. A few failures in a row and one is published
anew; as many again, and nothing but a new tor helps.
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from node.tor.control import TorControl, TorRefusal, TorSilent
from node.tor.interface import OnionService, TorLimits
from node.tor.onion import Onion, onion_of, reader_key
from node.tor.publishing import NotPublished, publish
from node.tor.socks import BACKEND_REFUSED, DialFailed

PROBE: Final = "probe"


class OutOfReach(Exception):
    """An onion of ours was not reached though it was published anew: this tor does not do what it says."""


class Served:
    """An onion that shall be served, and whether it is."""

    def __init__(self, service: OnionService) -> None:
        self.service = service
        self.published = trio.Event()
        self.again = trio.Event()
        """Set when it has to be published anew."""
        self.over = trio.CancelScope()


class OurOnions:
    """What is served through one tor; `judge` is told what is wrong with which, and "" when it is well again."""

    def __init__(
        self,
        limits: TorLimits,
        dial: Callable[[Onion, int, str], Awaitable[trio.abc.Stream]],
        judge: Callable[[str, str], None],
    ) -> None:
        self._limits = limits
        self._dial = dial
        self._judge = judge
        self._publishing = trio.CapacityLimiter(limits.publications)
        self._served: dict[Onion, Served] = {}
        self._doubt = trio.Event()

    @property
    def published(self) -> tuple[Onion, ...]:
        """Those that can be found now, in the order of their addresses."""
        return tuple(sorted(onion for onion, served in self._served.items() if served.published.is_set()))

    @property
    def awaited(self) -> bool:
        """Whether there are others."""
        return len(self.published) < len(self._served)

    def add(self, service: OnionService) -> Served:
        """Takes note of an onion; another of the same seed has to be removed before."""
        served = self._served[onion_of(service.seed)] = Served(service)
        return served

    def remove(self, onion: Onion) -> bool:
        """Forgets an onion and lets go whoever waits for it; whether it was there."""
        served = self._served.pop(onion, None)
        if served is None:
            return False
        served.over.cancel()
        served.published.set()
        for what in ("publish", PROBE):
            self._judge(f"{what} {onion}", "")
        return True

    def doubt(self) -> None:
        """Has all onions dialled at once."""
        self._doubt.set()

    def lose(self) -> None:
        """The control connection has ended, and every onion with it."""
        for served in self._served.values():
            if served.published.is_set():
                served.published = trio.Event()

    def keep_all(self, control: TorControl, nursery: trio.Nursery) -> None:
        """Publishes all of them through a new control connection, and dials them from time to time."""
        for served in self._served.values():
            nursery.start_soon(self.keep, control, served)
        nursery.start_soon(self._probe_all, control)

    async def keep(self, control: TorControl, served: Served) -> None:
        """Publishes an onion, and again whenever it has to be, until it is removed or the connection ends."""
        onion, pause = onion_of(served.service.seed), self._limits.retry_first_s
        if self._served.get(onion) is not served:
            return  # removed before this began
        served.over = trio.CancelScope()
        with served.over:
            while True:
                served.again = trio.Event()
                try:
                    async with self._publishing:
                        await publish(control, served.service, self._limits, reader=await self._own(control, served))
                except (NotPublished, TorRefusal) as error:
                    self._judge(f"publish {onion}", str(error))
                    await trio.sleep(pause)
                    pause = min(2 * pause, self._limits.retry_last_s)
                    continue
                pause = self._limits.retry_first_s
                served.published.set()
                self._judge(f"publish {onion}", "")
                await served.again.wait()

    async def _own(self, control: TorControl, served: Served) -> str | None:
        """A reader's key of ours for a restricted onion, which our tor knows: a probe could not open it otherwise."""
        if not served.service.readers:
            return None
        secret = secrets.token_bytes(32)
        await control.add_reader(onion_of(served.service.seed), secret)
        return reader_key(secret)

    async def _probe_all(self, control: TorControl) -> None:
        limits = self._limits
        failures: dict[Onion, int] = {}
        while True:
            self._doubt = trio.Event()
            with trio.move_on_after(limits.reprobe_s if any(failures.values()) else limits.probe_s):
                await self._doubt.wait()
            try:
                if await control.info("network-liveness") == "down":
                    continue
            except TorSilent:
                continue  # the heartbeat's affair: a dial would only tell the same
            failures = {onion: failed for onion, failed in failures.items() if onion in self._served}
            for onion, served in list(self._served.items()):
                if not served.published.is_set() or served.again.is_set():
                    continue
                failed = failures[onion] = await self._probe(onion, served, failures.get(onion, 0))
                if failed == limits.probes_failed:
                    served.again.set()
                elif failed >= 2 * limits.probes_failed:
                    raise OutOfReach("our onion stayed out of reach after it was published anew: tor is begun anew")

    async def _probe(self, onion: Onion, served: Served, failed: int) -> int:
        """How often in a row our own onion has not been reached, after one more dial."""
        port, why, times = next(iter(served.service.ports)), "", 0
        try:
            await trio.aclose_forcefully(await self._dial(onion, port, f"{PROBE} {secrets.token_hex(8)}"))
        except DialFailed as error:
            if error.code == BACKEND_REFUSED:  # tor did its part
                why = f"nothing listens behind port {port} of our onion"
            else:
                times = failed + 1
                why = f"our own onion could not be reached, {times} times in a row: {error}"
        if self._served.get(onion) is served:
            self._judge(f"{PROBE} {onion}", why)
        return times
