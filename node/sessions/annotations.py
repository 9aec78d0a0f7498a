"""What the owner's devices say of sessions, kept on this disk: bodies of the index as they were sealed, and who is on hold.

    table   key       value
    index   name      a body of the owner's index (node/store/index)
    owed    name      such a body, of this device's, that its log has not taken yet (node/sessions/sharing)
    holds   session   nothing: it is on legal hold

Holds stand there in the clear besides: what frees space may have no keys. They are written in the commit that has the body,
and the chunks of such a session are held (`Chunks.hold`) from before anything is swept.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from consensus.ids import SessionId
from node.sessions.records import HOLDS, held_files
from node.store import Chunks, Delete, Put, Store
from node.store.index import KIND, Body, Device, Index, IndexEntry, named, read, taken
from node.wallet.vault import Secrets

TABLE: Final = "index"
OWED: Final = "owed"
ROWS_MAX: Final = 256
"""Bodies that are kept one by one; of more, those that are merged become one when they are loaded the next time."""

Change = Callable[[Index], Body | None]
"""An edit of the index: one of its methods that say something."""


class Annotations:
    """The index of one home, which the process that has its store open reads and edits."""

    def __init__(self, store: Store, chunks: Chunks, secrets: Secrets) -> None:
        self._store, self._chunks, self._secrets = store, chunks, secrets
        self._index: Index | None = None
        self._names = set[bytes]()
        self._held = set[SessionId]()
        self._lock = trio.Lock()
        self.stirred = trio.Event()
        """Set, and replaced, when the log is owed something."""

    # What is known

    async def entries(self) -> dict[SessionId, IndexEntry]:
        """What is said of each session."""
        async with self._lock:
            return (await self._loaded()).entries()

    async def devices(self) -> list[Device]:
        """The owner's devices, as `Index.devices`."""
        async with self._lock:
            return (await self._loaded()).devices()

    async def _loaded(self) -> Index:
        """The index; read anew when a commit failed, since what is in memory then was never said."""
        if self._index is None:
            bodies = [(bytes(key[0]), value) async for key, value in self._store.scan(TABLE)]  # type: ignore[arg-type]
            index = read(self._secrets.masters, [body for _, body in bodies])
            if len(bodies) > ROWS_MAX and not index.waiting:
                whole = index.whole()
                gone = [Delete(TABLE, (name,)) for name, body in bodies if index.merged(body)]
                await self._store.commit([*gone, Put(TABLE, (named(whole),), whole)])
                bodies = [(name, body) for name, body in bodies if not index.merged(body)]
                bodies.append((named(whole), whole))
            self._names = {name for name, _ in bodies}
            self._index, self._held = index, _held(index)
        return self._index

    # What is said

    async def edit(self, *changes: Change) -> bool:
        """Say something here, durable when this returns, and owe it to the log; whether that changed anything.

        Raises ValueError for a text that is too long, and what the store raises; nothing has changed then.
        """
        async with self._lock, self._changing() as (index, rows):
            bodies = [body for change in changes if (body := change(index)) is not None]
            rows.extend([*_rows(TABLE, bodies), *_rows(OWED, bodies)])
        if bodies:
            self.stirred.set()
            self.stirred = trio.Event()
        return bool(bodies)

    async def take(self, bodies: Iterable[bytes]) -> int:
        """Merge and keep what devices of the owner said, durable when this returns; how many bodies were new.

        What they did not say is passed over: other kinds, strangers' bodies, and ours when somebody changed them.
        """
        async with self._lock, self._changing() as (index, rows):
            new = [body for body in dict.fromkeys(bodies) if self._is_new(index, body) and taken(index, body)]
            rows.extend(_rows(TABLE, new))
        return len(new)

    def _is_new(self, index: Index, body: bytes) -> bool:
        return body[:1] == KIND and not index.merged(body) and named(body) not in self._names

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[tuple[Index, list[Put]]]:
        """The index to be changed and the rows that this makes, committed with the holds that came and went."""
        index, rows = await self._loaded(), list[Put]()
        before = self._held
        try:
            yield index, rows
            if rows:
                self._held = after = _held(index)
                held = [Put(HOLDS, (session,), b"") for session in sorted(after - before)]
                # No more than was seen to be released: a hold that these keys cannot read is a hold.
                released = [Delete(HOLDS, (session,)) for session in sorted(before - after)]
                await self._store.commit([*rows, *held, *released])
                self._names |= {named(row.value) for row in rows}
        except BaseException:
            self._index = None
            raise
        if rows:
            await self.hold()

    async def hold(self) -> None:
        """Hold the chunks of the sessions that are on hold; to be called when such a session gets more of them."""
        self._chunks.hold(await held_files(self._store))

    # What the log is owed

    async def owed(self) -> list[Body]:
        """What this device said and its log has not."""
        return [Body(body) async for _, body in self._store.scan(OWED)]

    async def paid(self, body: Body) -> None:
        """Take note that the log has a body."""
        await self._store.commit([Delete(OWED, (named(body),))])

    def fold(self, bodies: Sequence[bytes]) -> list[bytes]:
        """A log's bodies with all that is merged of the index as one, the last; those of other kinds as they are."""
        index = self._index
        if index is None or not any(map(index.merged, bodies)):
            return [*bodies]
        return [*(body for body in bodies if not index.merged(body)), index.whole()]


def _held(index: Index) -> set[SessionId]:
    return {session for session, entry in index.entries().items() if entry.legal_hold}


def _rows(table: str, bodies: Sequence[bytes]) -> list[Put]:
    return [Put(table, (named(body),), body) for body in bodies]
