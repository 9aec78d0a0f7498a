"""Blocks that cannot join the tree yet: those whose parent is not known, and those whose time has not come.

An orphan cannot be checked, so orphans are bounded in number and in bytes, the oldest given up first. They are told apart by
all their bytes: with a forged signature a header has the same name, and must not keep the true one out. A block that is
early was checked, and waits once for each rank of a slot, whatever else its proposer signs.
"""

from typing import Final, TypeVar

from consensus.block import Block
from consensus.ids import Digest, Millis
from consensus.params import EARLY_MS, RANKS

Key = TypeVar("Key")
Value = TypeVar("Value")

ORPHANS_MAX: Final = 256
ORPHANS_BYTES_MAX: Final = 16 << 20
EARLY_MAX: Final = 4 * RANKS


class Orphans:
    """Blocks that wait for their parent."""

    def __init__(self) -> None:
        self._blocks: dict[bytes, Block] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._blocks)

    def __contains__(self, data: bytes) -> bool:
        return data in self._blocks

    def add(self, block: Block, data: bytes) -> None:
        """One more, read from data."""
        self._blocks[data] = block
        self._bytes += len(data)
        while len(self._blocks) > ORPHANS_MAX or self._bytes > ORPHANS_BYTES_MAX:
            self._drop(next(iter(self._blocks)))

    def take(self, parent: Digest) -> list[tuple[Block, bytes]]:
        """Those that waited for a block, the longest first; they wait no more."""
        found = [(block, data) for data, block in self._blocks.items() if block.header.parent == parent]
        for _, data in found:
            self._drop(data)
        return found

    def forget(self, slot: int) -> None:
        """Give up those up to a slot."""
        for data in [data for data, block in self._blocks.items() if block.header.slot <= slot]:
            self._drop(data)

    def _drop(self, data: bytes) -> None:
        del self._blocks[data]
        self._bytes -= len(data)


class Early:
    """Valid blocks that wait for their time."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[int, int, bytes], tuple[Block, bytes, Millis]] = {}

    def __len__(self) -> int:
        return len(self._blocks)

    def add(self, block: Block, data: bytes, due: Millis) -> Millis | None:
        """One more: when to look again; None when it is not kept."""
        key = block.header.slot, block.header.rank, block.header.entity
        if key in self._blocks or len(self._blocks) >= EARLY_MAX:
            return None
        self._blocks[key] = block, data, due
        return Millis(min(at for _, _, at in self._blocks.values()) - EARLY_MS)

    def take(self) -> list[tuple[Block, bytes]]:
        """All of them, which wait no more."""
        found = [(block, data) for block, data, _ in self._blocks.values()]
        self._blocks = {}
        return found


def remember(where: dict[Key, Value], key: Key, value: Value, most: int) -> None:
    """Put something into a dict that holds no more than so many, the oldest given up."""
    where[key] = value
    if len(where) > most:
        del where[next(iter(where))]
