"""The calls that say something of a session, and tell what was said: label, note, hold, release, annotations, devices.

A command makes them of itself where no daemon runs: they need an opened home and nothing of the network.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from consensus.encoding import Malformed
from consensus.ids import Millis, SessionId
from consensus.records import unpack
from node.control.server import Call, Control, Request
from node.exits import Unavailable, Usage
from node.naming import begun_by, is_beginning
from node.sessions.annotations import Annotations, Change
from node.store import Store
from node.store.index import IndexEntry, told
from pipeline.manifest import Signed, open_opening
from pipeline.stores import NoRoom


class Annotating:
    """Answers about one home's annotations; `now` stamps what is said."""

    def __init__(self, store: Store, annotations: Annotations, now: Callable[[], Millis]) -> None:
        self._store, self._annotations, self._now = store, annotations, now
        self.calls: Mapping[str, Call] = {
            "label": self._label,
            "note": self._note,
            "hold": self._hold,
            "release": self._release,
            "annotations": self._all,
            "devices": self._devices,
        }

    def offer(self, control: Control) -> None:
        """Add the calls to the table."""
        for name, call in self.calls.items():
            control.add(name, call)

    async def _label(self, request: Request) -> Mapping[str, Any]:
        text = request.text("text")
        return await self._say(request, lambda session, _entry: lambda index: index.label(session, text))

    async def _note(self, request: Request) -> Mapping[str, Any]:
        text = request.text("text")
        return await self._say(request, lambda session, _entry: lambda index: index.note(session, self._now(), text))

    async def _hold(self, request: Request) -> Mapping[str, Any]:
        reason = request.text("reason", "")

        def change(session: SessionId, entry: IndexEntry) -> Change:
            held = any(hold.text == reason for hold in entry.holds)
            return lambda index: None if held else index.hold(session, self._now(), reason)

        return await self._say(request, change)

    async def _release(self, request: Request) -> Mapping[str, Any]:
        return await self._say(request, lambda session, _entry: lambda index: index.release(session))

    async def _say(self, request: Request, change: Callable[[SessionId, IndexEntry], Change]) -> Mapping[str, Any]:
        entries = await self._annotations.entries()
        session = await self._which(request.text("session"), entries)
        entry = entries.get(session, IndexEntry(session))
        try:
            await self._annotations.edit(await self._start(entry), change(session, entry))
        except ValueError as error:
            raise Usage(str(error)) from error
        except (NoRoom, OSError) as error:
            raise Unavailable(str(error)) from error
        now = (await self._annotations.entries()).get(session, IndexEntry(session))
        return {"changed": replace(now, started=entry.started) != entry, **told(now)}

    async def _start(self, entry: IndexEntry) -> Change:
        """When the session was started, said once: devices that do not have its records list it by that."""
        opening = await self._store.get("sessions", (entry.session,)) if entry.started is None else None
        started = None if opening is None else _started(opening)
        return lambda index: None if started is None else index.start(entry.session, started)

    async def _which(self, wanted: str, entries: Mapping[SessionId, IndexEntry]) -> SessionId:
        """The session of this disk or of the index whose id begins with the digits; raises Usage, Unavailable."""
        if not is_beginning(wanted):
            raise Usage(f"{wanted} is not the beginning of a session id: `lucid-node sessions` lists them")
        here = [SessionId(bytes(key[0])) async for key, _ in self._store.scan("sessions")]  # type: ignore[arg-type]
        return begun_by(wanted, dict.fromkeys([*here, *entries]))

    async def _all(self, _request: Request) -> Mapping[str, Any]:
        entries = await self._annotations.entries()
        return {"sessions": [told(entry) for entry in entries.values()]}

    async def _devices(self, _request: Request) -> Mapping[str, Any]:
        """The owner's devices, and those of them that came by one offer: it was to be used once."""
        devices = await self._annotations.devices()
        uses = Counter(device.offer for device in devices if device.offer)
        rows = []
        for at, node, name, offer in devices:
            came = {"offer": offer.hex() or None, "reused": uses[offer] > 1}
            rows.append({"node": node.hex(), "name": name, "at": at, **came})
        return {"devices": rows}


def _started(opening: bytes) -> Millis | None:
    try:
        return open_opening(unpack(Signed, opening)).started
    except Malformed:
        return None


async def answered(call: Callable[[Request], Awaitable[Mapping[str, Any]]], args: Mapping[str, Any]) -> dict[str, Any]:
    """What a call answers where there is no daemon to ask."""

    async def nobody(_facts: Mapping[str, Any]) -> None:
        pass

    return dict(await call(Request(args, None, nobody)))
