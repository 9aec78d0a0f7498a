"""The embedded engine of a Store: LMDB, copy-on-write and synced, with one writer task that groups commits.

Rule: a commit that has returned survives SIGKILL and a power cut. So LMDB syncs its data and then the page that names
the newest root; leaving that page to the next sync would be a quarter faster and could lose the last commit.

One disk flush costs the same for one row as for a thousand, so whatever commits arrive while a transaction is being
written form the next one: 50 callers then get about ten times the durable commits of one. A read takes microseconds and
is done inline; a hop to a thread would cost a hundred. All tables lie in LMDB's one unnamed database
under (table, *key), which spares opening, and racing to open, a handle for each.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import lmdb
import trio

from node.store import Busy, Conflict, Delete, Key, Put
from node.store.reading import page
from node.store.rows import Change, Interval, Scan, changes, conflict, interval, row_key
from pipeline.durable import sync
from pipeline.stores import NoRoom

MAP_BYTES: Final = 1 << 30
"""Address space at the start, not disk: the map doubles whenever the rows outgrow it."""

QUEUE: Final = 1024
"""Commits that wait for the writer before further callers wait for the queue."""

BATCH_ROWS: Final = 4096
"""A transaction takes no further commits once it has so many changes: it bounds what one failure concerns."""

_SEQUENCE: Final = b"\0sequence"
"""Row of the last commit's number; sorts before every encoded key."""

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)

_SCARCE: Final = 1 << 20
"""Bytes; a disk that has just cut a write short has next to none left."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """One caller's commit on its way through the writer."""

    changes: Sequence[Change]
    done: trio.Event = field(default_factory=trio.Event)
    outcome: int | Exception | None = None


class LmdbStore:
    """A Store in a directory; get it from `LmdbStore.open`."""

    def __init__(self, path: Path, env: lmdb.Environment) -> None:
        self._path = path
        self._env = env
        self._send, self._receive = trio.open_memory_channel[_Waiting](QUEUE)
        self._drained = trio.Event()
        self._closed = False
        # Held while another thread reads through the map, which must not move or go then.
        self._mapped = trio.Lock()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, path: Path, *, map_bytes: int = MAP_BYTES) -> AsyncIterator[Self]:
        """The store in the directory, made if need be, until the block ends; commits under way are then finished.

        Raises Busy while a process has it open, OSError when it cannot be opened.
        """
        lock = _claim(path)
        try:
            store = cls(path, await trio.to_thread.run_sync(_environment, path, map_bytes))
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(store._write)
                    try:
                        yield store
                    finally:
                        await store.aclose()
            except BaseExceptionGroup as group:
                # The writer is nobody's business: what the block raised leaves it as it was raised.
                if len(group.exceptions) > 1:
                    raise
                raise group.exceptions[0] from group.exceptions[0].__cause__
        finally:
            os.close(lock)

    @property
    def transactions(self) -> int:
        """LMDB transactions written in the store's life; far fewer than commits when callers are many."""
        return self._env.info()["last_txnid"]

    async def get(self, table: str, key: Key) -> bytes | None:
        return self.peek(table, key)

    def peek(self, table: str, key: Key) -> bytes | None:
        self._check_open()
        with self._env.begin() as txn:
            return txn.get(row_key(table, key))

    def scan(
        self, table: str, prefix: Key = (), start: Key | None = None, reverse: bool = False, limit: int | None = None
    ) -> AsyncIterator[tuple[Key, bytes]]:
        return Scan(self._page, interval(table, prefix, start, reverse), limit)

    async def commit(self, ops: Sequence[Put | Delete]) -> int:
        waiting = _Waiting(changes(ops))
        await self._send.send(waiting)
        await waiting.done.wait()
        if isinstance(waiting.outcome, int):
            return waiting.outcome
        assert waiting.outcome is not None
        raise waiting.outcome

    async def backup(self, dest: Path) -> None:
        """As `Store.backup` says; the copy is compact, and commits go on unless the map has to grow meanwhile."""
        async with self._mapped:
            self._check_open()
            await trio.to_thread.run_sync(_copy, self._env, dest)

    async def aclose(self) -> None:
        self._send.close()
        with trio.CancelScope(shield=True):
            await self._drained.wait()
            async with self._mapped:
                self._closed = True
                self._env.close()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("the store is closed")

    async def _page(self, span: Interval, most: int | None) -> list[tuple[bytes, bytes]]:
        await trio.lowlevel.checkpoint()
        self._check_open()
        with self._env.begin() as txn:
            return page(txn, span, most)

    async def _write(self) -> None:
        """Writes commits until the channel is closed and empty; shielded, because callers wait for their outcome."""
        try:
            with trio.CancelScope(shield=True):
                async for first in self._receive:
                    batch = [first]
                    size = len(first.changes)
                    with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel):
                        while size < BATCH_ROWS:
                            batch.append(self._receive.receive_nowait())
                            size += len(batch[-1].changes)
                    outcomes = await self._outcomes(batch)
                    for waiting, outcome in zip(batch, outcomes, strict=True):
                        waiting.outcome = outcome
                        waiting.done.set()
        finally:
            self._drained.set()

    async def _outcomes(self, batch: Sequence[_Waiting]) -> Sequence[int | Exception]:
        """What became of each commit of the batch: its number, or what its caller is to be told."""
        full = False
        while True:
            try:
                if full:
                    # Here and not in the thread: no task of this process reads while trio's loop is in this line.
                    async with self._mapped:
                        self._env.set_mapsize(2 * self._env.info()["map_size"])
                return await trio.to_thread.run_sync(self._transact, batch)
            except lmdb.MapFullError:
                full = True
            except lmdb.Error as error:
                return [_blame(error, self._path) for _ in batch]

    def _transact(self, batch: Sequence[_Waiting]) -> Sequence[int | Conflict]:
        outcomes: list[int | Conflict] = []
        with self._env.begin(write=True) as txn:
            last = sequence = int.from_bytes(txn.get(_SEQUENCE, b""), "big")
            for waiting in batch:
                refused = conflict(waiting.changes, txn.get)
                if refused is not None:
                    outcomes.append(refused)
                    continue
                for change in waiting.changes:
                    if change.value is None:
                        txn.delete(change.key)
                    else:
                        txn.put(change.key, change.value)
                sequence += 1
                outcomes.append(sequence)
            if sequence > last:
                txn.put(_SEQUENCE, sequence.to_bytes(8, "big"))
        return outcomes


def _claim(path: Path) -> int:
    """A descriptor that holds the directory's lock until it is closed, also by the death of the process."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path / "owner", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(lock, 16, 0).strip()
        os.close(lock)
        raise Busy(path, int(pid) if pid.isdigit() else None) from None
    with contextlib.suppress(OSError):  # on a full disk Busy cannot name us, but the store must open to be freed
        os.pwrite(lock, b"%10d\n" % os.getpid(), 0)
    return lock


def _environment(path: Path, map_bytes: int) -> lmdb.Environment:
    try:
        env = lmdb.open(str(path), map_size=map_bytes, mode=0o600, max_readers=512)
        env.reader_check()  # readers that were killed still pin pages
    except lmdb.Error as error:
        raise OSError(error.code, f"the store in {path} cannot be opened: {error}; restore a backup") from error
    return env


def _copy(env: lmdb.Environment, dest: Path) -> None:
    if dest.exists():
        raise FileExistsError(errno.EEXIST, "a backup needs a name that is not taken", str(dest))
    partial_copy = dest.with_name(f"{dest.name}.partial")
    shutil.rmtree(partial_copy, ignore_errors=True)
    try:
        partial_copy.mkdir(mode=0o700)
        env.copy(str(partial_copy), compact=True)
        (partial_copy / "data.mdb").chmod(0o600)
        for each in (partial_copy / "data.mdb", partial_copy):
            sync(each)
        partial_copy.rename(dest)
        sync(dest.parent)
    except (lmdb.Error, OSError) as error:
        blamed = _blame(error, dest.parent)
        shutil.rmtree(partial_copy, ignore_errors=True)
        raise blamed from error


def _blame(error: lmdb.Error | OSError, folder: Path) -> Exception:
    """The same failure in the words of Store; the folder is where it happened."""
    code = error.errno if isinstance(error, OSError) else error.code
    # LMDB says EIO when the disk takes only part of a write, which is how most disks run full.
    if code in _FULL or (code == errno.EIO and _free(folder) < _SCARCE):
        return NoRoom(f"the disk that holds {folder} is full: free some space on it")
    return error if isinstance(error, OSError) else OSError(code, f"the store in {folder} cannot be written: {error}")


def _free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
