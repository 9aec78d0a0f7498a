"""Everything a node holds under one log name, ordered by author, with a fingerprint of every range of authors.

Three columns side by side instead of a dict of objects: the authors (sorted), their chains, and their marks in one
bytearray, so that a range's fingerprint is one BLAKE3 over a slice. That hash, and not a sum or xor of hashes, because
sums can be made to collide by an author of a few dozen entries (Wagner's k-tree: 2³² steps for a sum of 256 bits over 128
chosen items, 2²³ over 1,024), and then a difference would go unseen; the whole of 10,000 costs ~60 µs, once a change.

Memory: 34 bytes an author (two pointers, a mark, slack) beside authors and entries, which nodes in one process share.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from typing import Final

from blake3 import blake3

from consensus import merkle
from consensus.ids import Digest, Millis, NodeId
from node.overlay.entries import MARK, Chain, LogItem, mark

NOTHING: Final = blake3(b"").digest()[:MARK]
"""The fingerprint of an empty range."""


class Shelf:
    """The chains of one log name; whoever calls bounds the number of authors."""

    __slots__ = ("_chains", "_marks", "_root", "_whole", "authors", "size")

    def __init__(self) -> None:
        self.authors: list[NodeId] = []
        self.size = 0
        """Bytes of all entries."""
        self._chains: list[Chain] = []
        self._marks = bytearray()
        self._whole: bytes | None = NOTHING
        self._root: tuple[Millis, Digest] | None = None

    def chain(self, author: NodeId) -> Chain:
        """What is held of an author; empty when nothing is."""
        at = bisect_left(self.authors, author)
        return self._chains[at] if at < len(self.authors) and self.authors[at] == author else ()

    def put(self, chain: Chain, author: NodeId) -> None:
        """Hold this of an author instead of what is held; nothing, for an empty chain."""
        at = bisect_left(self.authors, author)
        known = at < len(self.authors) and self.authors[at] == author
        place = slice(at * MARK, (at + known) * MARK)
        if known:
            self.size -= sum(len(item.raw) for item in self._chains[at])
        if not chain:
            if known:
                del self.authors[at], self._chains[at], self._marks[place]
        else:
            self.size += sum(len(item.raw) for item in chain)
            self._marks[place] = mark(chain)
            if known:
                self._chains[at] = chain
            else:
                self.authors.insert(at, chain[0].author)
                self._chains.insert(at, chain)
        self._whole = self._root = None

    def span(self, low: bytes, high: bytes | None) -> tuple[int, int]:
        """The positions from the first author ≥ low up to before the first ≥ high; None is above all."""
        start = bisect_left(self.authors, low)
        return start, len(self.authors) if high is None else bisect_left(self.authors, high, lo=start)

    def fingerprint(self, start: int, end: int) -> bytes:
        """16 bytes that two shelves share exactly when they hold the same in a range of positions."""
        if start == 0 and end == len(self.authors):
            if self._whole is None:
                self._whole = blake3(self._marks).digest()[:MARK]
            return self._whole
        return blake3(self._marks[start * MARK : end * MARK]).digest()[:MARK]

    def items(self, start: int, end: int) -> Iterator[LogItem]:
        """The entries in a range of positions, by author and seq; the shelf may not change meanwhile."""
        for at in range(start, end):
            yield from self._chains[at]

    def chains(self) -> Iterator[tuple[NodeId, Chain]]:
        """All authors with what is held of them; the shelf may not change meanwhile."""
        return zip(self.authors, self._chains, strict=True)

    def soonest(self) -> list[Millis]:
        """When the first entry of each author expires, by author."""
        return [chain[0].expiry if len(chain) == 1 else min([item.expiry for item in chain]) for chain in self._chains]

    def page(self, after: bytes, most: int) -> list[NodeId]:
        """At most so many authors, in order, from the first one above `after`."""
        start = bisect_left(self.authors, after + b"\x00")
        return list(islice(self.authors, start, start + most))

    def root(self, at: Millis) -> Digest:
        """The Merkle root over (author, digest of its latest entry) by author, of what has not expired at a time.

        A function of the entries and of `at` alone, so that nodes whose clocks differ agree. Leaf = H(00 ‖ author ‖ digest).
        Costs ~1.5 µs an author; the last one is kept until something changes.
        """
        if self._root is None or self._root[0] != at:
            latest = [chain[-1] for chain in self._chains]
            leaves = [merkle.leaf(item.author + item.digest) for item in latest if item.expiry > at]
            self._root = (at, merkle.root(leaves))
        return self._root[1]
