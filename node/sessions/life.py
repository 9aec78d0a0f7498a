"""What the daemon does about its owner's sessions as they go on, and to have them back.

    a record kept ──→ chunks placed ──→ closed: dossier sealed and placed ──→ pointer into the owner's index log
    a chunk sealed ──→ held, if its session is on legal hold
    recorder gone, no manifest ──→ closed from its journals, as incomplete
    index log brought by peers ──→ pointers to sessions that this disk does not know ──→ dossiers ──→ their records

Source: DESIGN §2 (node/sessions owns the life of a session), §5.
"""

from contextlib import suppress
from typing import Any, Final

import trio

from consensus.encoding import Malformed
from consensus.ids import SessionId
from consensus.records import pack, unpack
from node.log import EventLog
from node.net.host import Host
from node.overlay.entries import LogName
from node.overlay.logs import Learned
from node.sessions import dossier
from node.sessions.annotations import Annotations
from node.sessions.desk import OpenHome, close_one, is_recording
from node.sessions.indexlog import IndexLog
from node.sessions.placement import DOSSIERS, Placement, Summary, standing, summary
from node.sessions.pointer import read_pointer, write_pointer
from node.sessions.records import load_one, load_open
from node.sessions.replication import Replication
from node.sessions.restore import NotFound, Restore
from node.store import ABSENT, Put

MOURNING_S: Final = 10
"""How often recorders that died are looked for."""
LOOK_S: Final = 15.0
"""How often, at the least, the owner's index log is looked through for sessions that this disk does not know."""


class Sessions:
    """The life of all sessions of one home."""

    def __init__(
        self,
        desk: OpenHome,
        host: Host,
        replication: Replication,
        restore: Restore,
        index: IndexLog,
        annotations: Annotations,
        log: EventLog,
        look_s: float = LOOK_S,
    ) -> None:
        self._look_s = look_s
        self._desk, self._host, self._replication, self._restore = desk, host, replication, restore
        self._index, self._annotations, self._log = index, annotations, log
        self._stirred, self._learned = trio.Event(), trio.Event()
        replication.on_placed = self._stir
        host.on_fact(Learned, self._hear)
        self._closed: dict[SessionId, Summary] = {}
        self.unknown = 0
        """Sessions in the owner's index that could not be brought back yet."""

    def sealed(self, session: SessionId) -> None:
        """Take note that a chunk of a session was sealed, or that it was closed."""
        del session
        self._replication.sealed()
        self._stirred.set()

    def _stir(self) -> None:
        self._stirred.set()

    def _hear(self, fact: Learned) -> None:
        if fact.item.log is LogName.INDEX and fact.item.author == self._restore.me:
            self._learned.set()

    async def run(self) -> None:
        """Do it until cancelled; the host runs already."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._mourn)
            nursery.start_soon(self._file_dossiers)
            nursery.start_soon(self._bring_back)

    # Going on

    async def _mourn(self) -> None:
        while True:
            for kept in await load_open(self._desk.store):
                session = kept.opening.session
                if not is_recording(self._desk.home.journals(session)):
                    manifest = await close_one(self._desk, kept, self._host.clock.now)
                    self._log.warning("session.interrupted", session=session, chunks=manifest.chunk_count)
                    self.sealed(session)
            await trio.sleep(MOURNING_S)

    async def _file_dossiers(self) -> None:
        while True:
            self._stirred = trio.Event()
            await self._annotations.hold()  # a session on hold may have got more chunks
            async for key, _ in self._desk.store.scan("manifests"):
                session = SessionId(bytes(key[0]))  # type: ignore[arg-type]
                if await self._desk.store.get(DOSSIERS, (session,)) is None:
                    await self._file(session)
            with trio.move_on_after(MOURNING_S):
                await self._stirred.wait()

    async def _file(self, session: SessionId) -> None:
        """Seal and place a session's dossier once the lots of all its chunks are drawn, and point to it once its own is."""
        kept = await load_one(self._desk.store, session)
        assert kept is not None
        placements = [self._replication.drawn(chunk.file) for chunk in kept.chunks]
        whole = tuple([one for one in placements if one is not None])
        if len(whole) < len(placements):
            return  # they are being placed, or a chunk is not on this disk
        generation = kept.opening.key_generation
        secret = self._desk.secrets.session_secret(generation, session)
        data = await trio.to_thread.run_sync(dossier.seal, kept, whole, session, secret)
        name = dossier.name(data)
        await trio.to_thread.run_sync(self._desk.chunks.put, name, memoryview(data))
        await self._desk.store.commit([Put("files", (name,), b"")])
        if self._replication.placement(name) is None:
            await self._replication.place(session, generation, name)
        pointer = self._replication.drawn(name)
        if pointer is None:
            return
        await self._annotations.edit(lambda index: index.start(session, kept.opening.started))
        await self._index.append(write_pointer(pointer, self._desk.secrets))
        if [self._replication.drawn(chunk.file) for chunk in kept.chunks] != placements:
            return  # one was placed anew meanwhile
        await self._desk.store.commit([Put(DOSSIERS, (session,), pack(pointer), ABSENT)])
        self._log.info("session.filed", session=session, chunks=len(whole))

    # Coming back

    async def _bring_back(self) -> None:
        while True:
            self._learned = trio.Event()
            await self.look()
            with trio.move_on_after(self._look_s):
                await self._learned.wait()

    async def look(self) -> int:
        """Bring back the records of sessions that the owner's index knows and this disk does not; how many came."""
        came = self.unknown = 0
        for pointer in await self._pointers():
            session = SessionId(pointer.session)
            if await self._desk.store.get("sessions", (session,)) is not None:
                continue
            try:
                chunks = await self._restore.records(pointer)
            except (NotFound, Malformed) as problem:
                self.unknown += 1
                self._log.debug("session.missing", session=session, reason=problem)
                continue
            await self._replication.load()
            self._replication.resume()
            await self._desk.store.commit([Put(DOSSIERS, (session,), pack(pointer))])
            came += 1
            self._log.info("session.restored", session=session, chunks=chunks)
        return came

    async def _pointers(self) -> list[Placement]:
        """The newest first: a session whose chunks were placed anew has several."""
        found = []
        for body in await self._index.bodies():
            try:
                pointer = read_pointer(body, self._desk.secrets)
            except Malformed as problem:
                self._log.warning("index.unreadable", reason=problem)
                continue
            if pointer is not None:
                found.append(pointer)
        return found[::-1]

    async def bring_chunks(self, session: SessionId) -> int:
        """Fetch what this disk lacks of a session's chunks; how many. Raises NotFound, NoRoom, OSError, KeyError."""
        kept = await load_one(self._desk.store, session)
        if kept is None:
            raise KeyError(session)
        placements = [await self._replication.found(chunk.file) for chunk in kept.chunks]
        came = await self._restore.missing([one for one in placements if one is not None])
        filed = await self._desk.store.get(DOSSIERS, (session,))
        if (
            filed is not None
        ):  # so that it can be encoded for new holders, as its chunks can; its records are here already
            with suppress(NotFound):
                await self._restore.missing([unpack(Placement, filed)])
        return came

    async def progress(self) -> list[dict[str, Any]]:
        """How safe each session is (node/sessions/placement.standing)."""
        rows = []
        async for key, _ in self._desk.store.scan("sessions"):
            of = await self._summary(SessionId(bytes(key[0])))  # type: ignore[arg-type]
            filed = await self._desk.store.get(DOSSIERS, (of.session,))
            pointer = unpack(Placement, filed) if filed is not None else None
            rows.append(standing(of, pointer, self._replication.copies, self._desk.chunks.has))
        return rows

    async def _summary(self, session: SessionId) -> Summary:
        found = self._closed.get(session)
        if found is None:
            kept = await load_one(self._desk.store, session)
            assert kept is not None
            found = summary(kept)
            if found.complete is not None:
                self._closed[session] = found
        return found
