"""What a recording needs of the place that keeps it: the seams that node/store implements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from consensus.ids import Digest
from pipeline.manifest import Chunk, GapNote, Opening, Signed


class NoRoom(Exception):
    """The disk is full, or the quota for sealed chunks is used up; free space or raise the quota."""


class ChunkSink(Protocol):
    """Takes sealed chunks; blocking, called from worker threads."""

    def put(self, digest: Digest, sealed: memoryview, *, reserve: bool = False) -> None:
        """Keep the bytes under their BLAKE3; once it returns they survive a power cut. Raises NoRoom, OSError.

        With `reserve` the space that is kept free for winding up may be used, and the quota is passed over.
        """


class Ledger(Protocol):
    """Keeps a session's records as they come about; each call is durable when it returns, and raises NoRoom, OSError."""

    async def opened(self, opening: Signed) -> None:
        """Keep the opening; called once, before the first frame."""

    async def sealed(self, chunk: Chunk, gaps: Sequence[GapNote]) -> None:
        """Keep a chunk whose bytes are durable, with the gaps that lie in it; in order for each stream."""

    async def headed(self, head: Signed) -> None:
        """Keep a head."""

    async def closed(self, manifest: Signed) -> None:
        """Keep the manifest: the session is over."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """What the ledger holds of a session that has no manifest."""

    opening: Opening
    chunks: Sequence[Chunk]
    gaps: Sequence[GapNote]
    heads: Sequence[Signed]


class ChunkSource(Protocol):
    """Gives sealed chunks back; blocking."""

    def read(self, digest: Digest) -> bytes:
        """The bytes kept under the digest, unchecked: whoever reads verifies. Raises KeyError when absent."""


class ChunkKeeper(ChunkSink, ChunkSource, Protocol):
    """Both: what recovery needs, which reads what no head vouches for before it signs it."""
