"""Rows of the chain in LMDB, for the process that executes it: no trio, one writer, a block in one durable transaction.

Unlike `node.store.lmdb` keys are bytes as they are (hashes, mostly), and a commit returns when it is on the disk.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import lmdb

MAP_BYTES: Final = 64 << 30
"""Address space, not disk: 46 GiB are a year of 50 transactions a block (DESIGN §7)."""


class LmdbRows:
    """Get it from `open_rows`; what a commit wrote is there after any end of the process."""

    def __init__(self, env: "lmdb.Environment") -> None:
        self._env = env

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None when there is none."""
        with self._env.begin() as txn:
            return txn.get(key)

    def size(self) -> int:
        """Bytes of pages that hold rows."""
        found = self._env.stat()
        pages: int = found["branch_pages"] + found["leaf_pages"] + found["overflow_pages"]
        return pages * int(found["psize"])

    def commit(self, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Set rows, and remove those of None: all of them durably, or none. Raises OSError where the disk takes no more."""
        try:
            with self._env.begin(write=True) as txn:
                for key, value in rows:
                    if value is None:
                        txn.delete(key)
                    else:
                        txn.put(key, value)
        except lmdb.Error as error:
            raise OSError(str(error)) from error


@contextmanager
def read_rows(path: Path) -> Iterator[LmdbRows]:
    """The rows in a folder, to be read only, beside the process that writes them. Raises OSError where there are none."""
    with _opened(path, readonly=True, create=False) as rows:
        yield rows


@contextmanager
def open_rows(path: Path, *, map_bytes: int = MAP_BYTES) -> Iterator[LmdbRows]:
    """The rows in a folder, made if need be. Raises OSError where it cannot be opened."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _opened(path, map_size=map_bytes, mode=0o600) as rows:
        yield rows


@contextmanager
def _opened(path: Path, **options: Any) -> Iterator[LmdbRows]:
    try:
        env = lmdb.open(str(path), readahead=False, **options)
    except lmdb.Error as error:
        raise OSError(str(error)) from error
    try:
        yield LmdbRows(env)
    finally:
        env.close()
