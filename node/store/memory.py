"""The fakes of Store and Chunks: the same behaviour, proved by the same tests, and nothing survives the process.

For tests of what stands on a store, and for nodes that exist only in a simulation.
"""

import errno
import threading
from bisect import bisect_left, insort
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from pathlib import Path
from typing import Self

import trio

from consensus.ids import Digest
from node.store import Delete, Held, Key, Put
from node.store.rows import Interval, Scan, changes, conflict, interval, row_key
from pipeline.stores import NoRoom


class MemoryStore:
    """A Store in a dictionary and the sorted list of its keys."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._sequence = 0
        self._closed = False

    @classmethod
    def restored(cls, copy: Path) -> Self:
        """A store with the rows of a file that `backup` wrote."""
        store = cls()
        lines = iter(copy.read_text(encoding="ascii").splitlines())
        store._sequence = int(next(lines))
        store._values = {bytes.fromhex(key): bytes.fromhex(value) for key, value in (line.split(":") for line in lines)}
        store._keys = sorted(store._values)
        return store

    async def get(self, table: str, key: Key) -> bytes | None:
        return self.peek(table, key)

    def peek(self, table: str, key: Key) -> bytes | None:
        self._check_open()
        return self._values.get(row_key(table, key))

    def scan(
        self, table: str, prefix: Key = (), start: Key | None = None, reverse: bool = False, limit: int | None = None
    ) -> AsyncIterator[tuple[Key, bytes]]:
        return Scan(self._page, interval(table, prefix, start, reverse), limit)

    async def commit(self, ops: Sequence[Put | Delete]) -> int:
        wanted = changes(ops)
        self._check_open()
        await trio.lowlevel.checkpoint()
        refused = conflict(wanted, self._values.get)
        if refused is not None:
            raise refused
        for change in wanted:
            if change.value is not None:
                if change.key not in self._values:
                    insort(self._keys, change.key)
                self._values[change.key] = change.value
            elif self._values.pop(change.key, None) is not None:
                del self._keys[bisect_left(self._keys, change.key)]
        self._sequence += 1
        return self._sequence

    async def backup(self, dest: Path) -> None:
        """Writes the rows as lines of hex, after a line with the number of the last commit."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        if dest.exists():
            raise FileExistsError(errno.EEXIST, "a backup needs a name that is not taken", str(dest))
        rows = (f"{key.hex()}:{self._values[key].hex()}\n" for key in self._keys)
        dest.write_text(f"{self._sequence}\n{''.join(rows)}", encoding="ascii")

    async def aclose(self) -> None:
        self._closed = True
        await trio.lowlevel.checkpoint()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("the store is closed")

    async def _page(self, span: Interval, most: int | None) -> list[tuple[bytes, bytes]]:
        await trio.lowlevel.checkpoint()
        self._check_open()
        keys = self._keys[bisect_left(self._keys, span.low) : bisect_left(self._keys, span.high)]
        if span.reverse:
            keys.reverse()
        return [(key, self._values[key]) for key in keys[:most]]


class MemoryChunks:
    """A Chunks in a dictionary, full at the quota (bytes, 0 for none)."""

    def __init__(self, *, quota_bytes: int = 0) -> None:
        self._quota_bytes = quota_bytes
        self._sealed: dict[Digest, bytes] = {}
        self._held: frozenset[Digest] = frozenset()
        self._lock = threading.Lock()

    def put(self, digest: Digest, sealed: memoryview, *, reserve: bool = False) -> None:
        with self._lock:
            kept = len(self._sealed.get(digest, b""))
            if self._quota_bytes and not reserve and self._used() - kept + sealed.nbytes > self._quota_bytes:
                raise NoRoom(f"chunks take {self._used()} of {self._quota_bytes} bytes: raise the quota or free some")
            if digest not in self._sealed or kept != sealed.nbytes:
                self._sealed[digest] = bytes(sealed)

    def read(self, digest: Digest) -> bytes:
        return self._sealed[digest]

    def has(self, digest: Digest) -> bool:
        return digest in self._sealed

    def size(self, digest: Digest) -> int:
        return len(self._sealed[digest])

    def delete(self, digest: Digest) -> None:
        with self._lock:
            if digest in self._held:
                raise Held(digest)
            self._sealed.pop(digest, None)

    def hold(self, digests: Collection[Digest]) -> None:
        with self._lock:
            self._held = frozenset(digests)

    def digests(self) -> Iterator[Digest]:
        return iter(sorted(self._sealed))

    def usage(self) -> int:
        with self._lock:
            return self._used()

    def _used(self) -> int:
        return sum(map(len, self._sealed.values()))
