"""A recorder's ledger where the daemon owns the store: each record goes over its socket, and is durable when it returns.

    recorder ── Ledger ──→ RemoteLedger ══ keep_opening, keep_chunk, keep_head, keep_manifest ══→ Keeping ──→ StoreLedger

The daemon may be restarted while a recorder runs: calls are made again for two minutes. What was kept and not confirmed
is then met again; the same bytes at the same place are a success.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from consensus.encoding import Malformed
from consensus.ids import SessionId
from consensus.records import Record, pack, unpack
from node.control.client import NoDaemon, ask
from node.control.server import Control, Request
from node.exits import Ended, Refuted, Unavailable, Usage
from node.sessions.records import Row, StoreLedger
from node.store import Conflict, Key, Store
from pipeline.manifest import Chunk, GapNote, Signed
from pipeline.stores import NoRoom

PATIENCE_S: Final = 120
RETRY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class RemoteLedger:
    """The Ledger of one session, kept by the daemon of a home."""

    home: Path
    session: SessionId

    async def opened(self, opening: Signed) -> None:
        """Keep the opening."""
        await self._ask("keep_opening", pack(opening))

    async def sealed(self, chunk: Chunk, gaps: Sequence[GapNote]) -> None:
        """Keep a chunk."""
        await self._ask("keep_chunk", pack(Row(chunk, tuple(gaps))))

    async def headed(self, head: Signed) -> None:
        """Keep a head."""
        await self._ask("keep_head", pack(head))

    async def closed(self, manifest: Signed) -> None:
        """Keep the manifest."""
        await self._ask("keep_manifest", pack(manifest))

    async def _ask(self, call: str, record: bytes) -> None:
        args = {"session": self.session.hex(), "record": record.hex()}
        began = time.monotonic()
        while True:
            try:
                await trio.to_thread.run_sync(_asked, self.home, call, args)
            except (NoDaemon, Unavailable) as error:
                if time.monotonic() - began > PATIENCE_S:
                    raise OSError(f"the daemon keeps no records of this session ({error})") from error
                await trio.sleep(RETRY_S)
            except Ended as error:
                raise OSError(f"the daemon refuses a record of this session: {error}") from error
            else:
                return


def _asked(home: Path, call: str, args: Mapping[str, Any]) -> None:
    ask(home, call, args)


class Keeping:
    """The daemon's side: `kept` is called after each record that is new."""

    def __init__(self, store: Store, kept: Callable[[SessionId], None]) -> None:
        self._store, self._kept = store, kept

    def offer(self, control: Control) -> None:
        """Add the calls to the table."""
        control.add("keep_opening", self._opening)
        control.add("keep_chunk", self._chunk)
        control.add("keep_head", self._head)
        control.add("keep_manifest", self._manifest)

    async def _opening(self, request: Request) -> Mapping[str, Any]:
        session, record = _record(request)
        ledger = StoreLedger(self._store, session)
        result = await self._once(("sessions", (session,)), record, ledger.opened, Signed)
        self._kept(session)
        return result

    async def _manifest(self, request: Request) -> Mapping[str, Any]:
        session, record = _record(request)
        ledger = StoreLedger(self._store, session)
        result = await self._once(("manifests", (session,)), record, ledger.closed, Signed)
        self._kept(session)
        return result

    async def _head(self, request: Request) -> Mapping[str, Any]:
        session, record = _record(request)
        async for _, last in self._store.scan("heads", (session,), reverse=True, limit=1):
            if last == record:
                return {"kept": "before"}
        await StoreLedger(self._store, session).headed(_read(Signed, record))
        self._kept(session)
        return {"kept": "now"}

    async def _chunk(self, request: Request) -> Mapping[str, Any]:
        session, record = _record(request)
        chunk = _read(Row, record).chunk

        async def keep(row: Row) -> None:
            await StoreLedger(self._store, session).sealed(row.chunk, row.gaps)

        result = await self._once(("chunks", (session, int(chunk.stream), chunk.index)), record, keep, Row)
        self._kept(session)
        return result

    async def _once(
        self, place: tuple[str, Key], record: bytes, keep: Callable[[Any], Awaitable[None]], kind: type[Any]
    ) -> Mapping[str, Any]:
        """Keep a record; one that is there already, to the byte, was kept by a call whose answer got lost."""
        try:
            await keep(_read(kind, record))
        except Conflict as conflict:
            if await self._store.get(*place) == record:
                return {"kept": "before"}
            raise Refuted(f"another record stands there: {conflict}") from conflict
        except (NoRoom, OSError) as error:
            raise Unavailable(str(error)) from error
        return {"kept": "now"}


def _record(request: Request) -> tuple[SessionId, bytes]:
    try:
        return SessionId(bytes.fromhex(request.text("session"))), bytes.fromhex(request.text("record"))
    except ValueError:
        raise Usage("session and record are hex digits") from None


def _read(kind: type[Record], record: bytes) -> Record:
    try:
        return unpack(kind, record)
    except Malformed as error:
        raise Usage(f"not the record of this call: {error}") from error
