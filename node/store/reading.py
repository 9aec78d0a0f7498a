"""Reading an LMDB store without trio and without owning it: for commands that must start at once, beside a recorder.

LMDB's readers need no lock of ours: each sees the last durable commit, and a writer never waits for them. A page of a
scan is one short read transaction, since an open one pins every page that the writer frees meanwhile.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import lmdb

from node.store import Key
from node.store.rows import KEY_BYTES_MAX, Interval, decode, interval, row_key

PAGE_ROWS: Final = 512
PAGE_BYTES: Final = 1 << 20
"""A page ends with the row that reaches one of these: about a millisecond when its pages are in memory."""


def page(txn: "lmdb.Transaction[bytes]", span: Interval, most: int | None) -> list[tuple[bytes, bytes]]:
    """The first rows of an interval in its direction, at most `most` of them; none when nothing is left there."""
    cursor = txn.cursor()
    if span.reverse:
        found = cursor.set_range(span.high[:KEY_BYTES_MAX])
        found = (cursor.key() < span.high or cursor.prev()) if found else cursor.last()
    else:
        found = cursor.set_range(span.low[:KEY_BYTES_MAX]) and (cursor.key() >= span.low or cursor.next())
    step = cursor.prev if span.reverse else cursor.next
    rows: list[tuple[bytes, bytes]] = []
    room, count = PAGE_BYTES, PAGE_ROWS if most is None else min(most, PAGE_ROWS)
    while found and len(rows) < count and room > 0:
        key, value = cursor.item()
        if not span.low <= key < span.high:
            break
        rows.append((key, value))
        room -= len(key) + len(value)
        found = step()
    return rows


class StoreDamaged(Exception):
    """LMDB met pages that it did not write: the records cannot be read."""


class Reader:
    """The reading half of a Store, blocking; get it from `read_only`."""

    def __init__(self, env: lmdb.Environment) -> None:
        self._env = env

    def get(self, table: str, key: Key) -> bytes | None:
        """The value of a row as of the last commit, None when there is none."""
        with self._begin() as txn, _told():
            return txn.get(row_key(table, key))

    def scan(
        self, table: str, prefix: Key = (), start: Key | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[Key, bytes]]:
        """The same rows as `Store.scan` gives."""
        left = interval(table, prefix, start, reverse)
        while limit is None or limit > 0:
            with self._begin() as txn, _told():
                rows = page(txn, left, limit)
            if not rows:
                return
            left = left.beyond(rows[-1][0])
            limit = None if limit is None else limit - len(rows)
            for key, value in rows:
                yield _key(key)[1:], value

    def _begin(self) -> "lmdb.Transaction[bytes]":
        try:
            return self._env.begin()
        except lmdb.MapResizedError:
            self._env.set_mapsize(0)  # the writer's map has grown past ours: take over its size
            return self._env.begin()


def _key(row: bytes) -> Key:
    try:
        return decode(row)
    except ValueError as error:
        raise StoreDamaged(str(error)) from error


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except lmdb.Error as error:
        raise StoreDamaged(str(error)) from error


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[Reader]:
    """A reader of the store in a directory, whether or not a process has it open; but not the process that has.

    Raises FileNotFoundError when there is no store, OSError when it cannot be read.
    """
    if not (path / "data.mdb").exists():
        raise FileNotFoundError(f"there is no store in {path}: nothing was recorded with this home yet")
    try:
        env = lmdb.open(str(path), readonly=True, create=False)
    except lmdb.Error as error:
        raise OSError(error.code, f"the store in {path} cannot be read: {error}") from error
    try:
        yield Reader(env)
    finally:
        env.close()
