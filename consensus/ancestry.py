"""The final chain by height: its newest blocks in memory, all the others in the rows that a node kept.

chain: height u64 ──→ block          heights: block ──→ height u64
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

from consensus.block import Block, read_block
from consensus.encoding import Malformed
from consensus.ids import Digest
from consensus.wishes import Keep

Stored: TypeAlias = Callable[[str, bytes], bytes | None]
"""Reads a row that was kept, by its table and its key."""

REMEMBERED: Final = 1_024
"""Blocks whose place is known without reading a row."""


def key_of(height: int) -> bytes:
    """The row key of a height."""
    return height.to_bytes(8, "big")


class Ancestry:
    """The blocks of a chain from the genesis, at height 0, up to the last final one."""

    def __init__(self, genesis: Digest, root: Digest, height: int, stored: Stored) -> None:
        self.genesis, self._stored = genesis, stored
        self._heights: dict[Digest, int] = {root: height}
        self._names: dict[int, Digest] = {height: root}
        self.height = height
        """Of the last final block."""

    def at(self, height: int) -> Digest | None:
        """The block of a height; None where its row is lost."""
        if height == 0:
            return self.genesis
        found: bytes | None = self._names.get(height) or self._stored("chain", key_of(height))
        return None if found is None or height > self.height else Digest(found)

    def height_of(self, block: Digest) -> int | None:
        """The height of a block of this chain."""
        if block == self.genesis:
            return 0
        found = self._heights.get(block)
        if found is None and (row := self._stored("heights", block)) is not None:
            found = int.from_bytes(row, "big")
        return found

    def extend(self, blocks: Iterable[Digest]) -> Iterator[Keep]:
        """The next blocks are final, too: the rows to keep."""
        for block in blocks:
            self.height += 1
            self._names[self.height], self._heights[block] = block, self.height
            old = self._names.pop(self.height - REMEMBERED, None)
            if old is not None:
                del self._heights[old]
            yield Keep("chain", (key_of(self.height),), block)
            yield Keep("heights", (block,), key_of(self.height))

    def kept_blocks(self, rows: Mapping[tuple[str, tuple[Any, ...]], bytes]) -> Iterator[tuple[Block, bytes]]:
        """The blocks above the last one that were kept: those of the chain, of branches, and of rows as they once were."""
        names = {*self._above(), *(key[0] for (table, key) in rows if table == "branches")}
        read = [self._stored("blocks", name) for name in names]
        for data in (*read, *(data for (table, _), data in rows.items() if table == "blocks")):
            if data is not None:
                with suppress(Malformed):  # a damaged row: peers have the block
                    yield read_block(data), data

    def _above(self) -> Iterator[bytes]:
        height = self.height + 1
        while (row := self._stored("chain", key_of(height))) is not None:
            yield row
            height += 1
