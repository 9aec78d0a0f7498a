"""Where a node keeps what must survive it: small records in a `Store`, sealed chunks in a `Chunks`.

A record is opaque bytes under a table and a key; a key is a tuple whose order `node.store.rows` states. There are no
queries: whatever must be found another way has a second table, written in the same commit. Preconditions on the
changes of a commit stand in for transactions, so that one engine can be replaced by another without its users noticing
(DESIGN §9). `node.store.memory` is the fake of both protocols and passes the same tests.
"""

from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Literal, Protocol

from consensus.ids import Digest
from pipeline.stores import ChunkSink, ChunkSource

Key = tuple[int | str | bytes, ...]
"""Components of a key: integers of 0 to 2⁶⁴−1, text and bytes; table and key take at most 511 bytes encoded."""


class Expect(Enum):
    """What a change may require of the row it touches, short of naming its exact value."""

    ANY = "any"
    ABSENT = "absent"


ANY: Final[Literal[Expect.ANY]] = Expect.ANY
ABSENT: Final[Literal[Expect.ABSENT]] = Expect.ABSENT


@dataclass(frozen=True, slots=True)
class Put:
    """Sets a row, provided that it holds what is expected: ANY thing, nothing (ABSENT), or exactly these bytes."""

    table: str
    key: Key
    value: bytes
    expect: Expect | bytes = ANY


@dataclass(frozen=True, slots=True)
class Delete:
    """Removes a row if it is there; with `expect` ABSENT it changes nothing and only requires that there is none."""

    table: str
    key: Key
    expect: Expect | bytes = ANY


class Conflict(Exception):
    """A row did not hold what the commit expected: nothing of that commit was done; read again and decide anew."""

    def __init__(self, table: str, key: Key) -> None:
        super().__init__(f"{table} {key} did not hold what the commit expected")
        self.table = table
        self.key = key


class Busy(Exception):
    """Another process, or another part of this one, has the store open: stop it first, or ask it over its socket."""

    def __init__(self, path: Path, pid: int | None) -> None:
        owner = "another process" if pid is None else f"process {pid}"
        super().__init__(f"the store in {path} is open in {owner}; stop it, or ask it instead of opening the store")
        self.path = path
        self.pid = pid


class Held(Exception):
    """A chunk is not removed: a legal hold is on its session, which has to be released first."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"chunk {digest.hex()[:12]} belongs to a session on legal hold: release the hold first")


class Store(Protocol):
    """Records of one node, in tables, ordered by key; one process has it open, any number of its tasks use it.

    After `aclose` every call raises trio.ClosedResourceError.
    """

    async def get(self, table: str, key: Key) -> bytes | None:
        """The value of a row, None when there is none; a commit that has returned is seen. Does not yield to trio."""

    def peek(self, table: str, key: Key) -> bytes | None:
        """What `get` gives, for whoever cannot await."""

    def scan(
        self, table: str, prefix: Key = (), start: Key | None = None, reverse: bool = False, limit: int | None = None
    ) -> AsyncIterator[tuple[Key, bytes]]:
        """The rows of a table whose key begins with the prefix, in the order of keys, or in the opposite one.

        `start` is a whole key, there or not: the scan begins with it, or with the next in its direction. A page of
        rows is one snapshot, the scan as a whole is not: what others commit meanwhile may or may not be seen. Nothing
        is held between two rows, so a scan may be left at any point.
        """

    async def commit(self, ops: Sequence[Put | Delete]) -> int:
        """The number of this commit, one more than that of the last; all changes are done and durable, or none is.

        A key occurs at most once in a commit, and expectations are about the rows as they were before it. A caller
        that is cancelled meanwhile leaves all of its changes or none. Raises Conflict, `pipeline.stores.NoRoom` (the
        store is as it was), OSError, and ValueError for a key that repeats, is too long or has an integer out of range.
        """

    async def backup(self, dest: Path) -> None:
        """Writes a copy of one moment, for the same engine to open, while commits go on; dest must not exist yet.

        Dest appears whole and durable or not at all. Raises FileExistsError, `pipeline.stores.NoRoom`, OSError.
        """

    async def aclose(self) -> None:
        """Finishes the commits under way and lets go of the files; may be called twice."""


class Chunks(ChunkSink, ChunkSource, Protocol):
    """Sealed chunks by the BLAKE3 of their bytes; blocking, and safe to call from many threads."""

    def has(self, digest: Digest) -> bool:
        """Whether the chunk is kept, whatever its content has become; scrubbing tells that."""

    def size(self, digest: Digest) -> int:
        """Bytes kept under the digest. Raises KeyError when absent."""

    def delete(self, digest: Digest) -> None:
        """Frees the chunk's room; one that is not there is no error. A power cut may bring it back. Raises Held."""

    def hold(self, digests: Collection[Digest]) -> None:
        """From now on nothing removes these chunks, there or not, whoever asks; it replaces what was held before."""

    def digests(self) -> Iterator[Digest]:
        """The chunks kept, in ascending order; one that comes or goes meanwhile may or may not be among them."""

    def usage(self) -> int:
        """Bytes of all chunks kept, as the quota counts them."""
