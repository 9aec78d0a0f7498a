"""BLAKE3 Merkle trees with inclusion proofs, for sessions, sealed files and later blocks and payouts.

Node = H(01 ‖ left ‖ right); an odd node is promoted, never paired with itself, so no two lists share a tree; the root
binds the number of leaves: H(02 ‖ count u64 ‖ top). A leaf is whatever the caller hashed under 00 (see `leaf`).

    root = H(02 ‖ 5 ‖ •)        proof of c: [d right, ab left, e right]
                     ├── • ── ab ── a, b
                     │    └── cd ── c, d
                     └── e            (promoted twice)
"""

from collections.abc import Sequence

from blake3 import blake3

from consensus.ids import Digest

SEGMENT = 16384
"""Bytes of a segment of a sealed file: what a storage challenge asks for (CONSENSUS §4)."""


def leaf(content: bytes) -> Digest:
    """H(00 ‖ content): the form of a leaf, which no inner node can have."""
    return Digest(blake3(b"\x00" + content).digest())


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        above = [blake3(b"\x01" + below[i] + below[i + 1]).digest() for i in range(0, len(below) - 1, 2)]
        if len(below) % 2:
            above.append(below[-1])
        levels.append(above)
    return levels


def _bind(count: int, top: bytes) -> Digest:
    return Digest(blake3(b"\x02" + count.to_bytes(8, "big") + top).digest())


def root(leaves: Sequence[bytes]) -> Digest:
    """The root over the leaves in their order; of no leaves, the root that binds the count 0 to an empty top."""
    if not leaves:
        return _bind(0, b"")
    return _bind(len(leaves), _levels(leaves)[-1][0])


def prove(leaves: Sequence[bytes], index: int) -> tuple[Digest, ...]:
    """The siblings from the leaf at index up to the top; ≤ ⌈log2 count⌉ of 32 bytes. Raises IndexError."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} among {len(leaves)}")
    return _climb(_levels(leaves), index)


def prove_all(leaves: Sequence[bytes]) -> list[tuple[Digest, ...]]:
    """Every leaf's proof, in order; one tree is built for all."""
    levels = _levels(leaves) if leaves else []
    return [_climb(levels, index) for index in range(len(leaves))]


def _climb(levels: list[list[bytes]], index: int) -> tuple[Digest, ...]:
    siblings = []
    for level in levels[:-1]:
        sibling = index ^ 1
        if sibling < len(level):
            siblings.append(Digest(level[sibling]))
        index >>= 1
    return tuple(siblings)


def included(root: Digest, count: int, index: int, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the leaf stands at index among the count leaves of the root; False for a proof of any other shape."""
    if not 0 <= index < count < 1 << 64:
        return False
    node, at, width, used = leaf, index, count, 0
    while width > 1:
        if at & 1 or at + 1 < width:  # else promoted: this level has no sibling for it
            if used == len(proof) or len(proof[used]) != 32:
                return False
            node = blake3(b"\x01" + (proof[used] + node if at & 1 else node + proof[used])).digest()
            used += 1
        at, width = at >> 1, (width + 1) >> 1
    return used == len(proof) and _bind(count, node) == root


def segment_root(data: memoryview | bytes) -> Digest:
    """The root over the 16 KiB segments of a sealed file, the last one as short as it is.

    A segment's leaf is plain BLAKE3 of the segment, which saves a copy of the whole file: the count that the root binds
    fixes the depth of every leaf, so no inner node can pose as one.
    """
    return root([blake3(data[at : at + SEGMENT]).digest() for at in range(0, len(data), SEGMENT)])
