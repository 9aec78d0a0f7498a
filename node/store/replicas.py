"""Replicas of other people's chunks on this disk, by their roots: fetched piece by piece, shown segment by segment.

    ab/ab….part       what has come so far; a fetch that broke off goes on behind it
    ab/ab….replica    whole, and its root recomputed from the disk before it got this name
    ab/ab….leaves     32 bytes a segment: what proofs are made of, so that a challenge reads 512 KiB and not 16 MB

A leaf is believed only with its segment: what rotted on the disk is found when it is asked for, and told as missing.
Blocking, for worker threads. Source: CONSENSUS §4.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from blake3 import blake3

from consensus.beacon import Segment, segment_count
from consensus.ids import Digest
from consensus.merkle import SEGMENT, prove_all, root
from pipeline.durable import sync

_READ_BYTES: Final = 64 * SEGMENT


class ReplicaFiles:
    """The replicas in a folder, which is made with the first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, name: Digest, kind: str) -> Path:
        text = name.hex()
        return self._folder / text[:2] / f"{text}.{kind}"

    def has(self, name: Digest) -> bool:
        """Whether a replica is here, whole when it came."""
        return self._path(name, "replica").exists()

    def size(self, name: Digest) -> int:
        """The bytes of a replica that is here; raises KeyError."""
        try:
            return self._path(name, "replica").stat().st_size
        except FileNotFoundError:
            raise KeyError(name) from None

    def read(self, name: Digest, offset: int, most: int) -> bytes:
        """Up to so many bytes from an offset; raises KeyError when it is not here, OSError when the disk fails."""
        try:
            fd = os.open(self._path(name, "replica"), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise KeyError(name) from None
        try:
            return os.pread(fd, most, offset)
        finally:
            os.close(fd)

    def segments(self, name: Digest, indexes: Sequence[int]) -> tuple[Segment, ...] | None:
        """Segments with their proofs, ascending; None when any of them is not what it was, or cannot be read.

        Costs one read a segment and a tree over the leaves: about 5 ms for 32 of 16 MB.
        """
        try:
            leaves = self._path(name, "leaves").read_bytes()
            parts = [self.read(name, index * SEGMENT, SEGMENT) for index in indexes]
        except (OSError, KeyError):
            return None
        hashes = [leaves[at : at + 32] for at in range(0, len(leaves), 32)]
        if root(hashes) != name or any(not 0 <= index < len(hashes) for index in indexes):
            return None
        if any(blake3(part).digest() != hashes[index] for index, part in zip(indexes, parts, strict=True)):
            return None
        proofs = prove_all(hashes)
        return tuple(Segment(index, part, proofs[index]) for index, part in zip(indexes, parts, strict=True))

    # What is on its way

    def arrived(self, name: Digest) -> int:
        """Bytes of an unfinished replica that are here."""
        try:
            return self._path(name, "part").stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, name: Digest, offset: int, data: bytes) -> None:
        """Put what came at its place, behind what is here; raises OSError when the disk is full or fails."""
        path = self._path(name, "part")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                count = os.pwrite(fd, view, offset)
                offset, view = offset + count, view[count:]
        finally:
            os.close(fd)

    def finish(self, name: Digest) -> tuple[Digest, int]:
        """Make what has come a replica, if it is the one of that name; else it is gone. Its true root and size.

        Durable when it returns: the holder signs for it next.
        """
        part = self._path(name, "part")
        leaves, size = bytearray(), 0
        with part.open("rb") as file:
            while block := file.read(_READ_BYTES):
                size += len(block)
                for at in range(0, len(block), SEGMENT):
                    leaves += blake3(block[at : at + SEGMENT]).digest()
            os.fsync(file.fileno())
        found = root([bytes(leaves[at : at + 32]) for at in range(0, len(leaves), 32)])
        if found != name or len(leaves) != 32 * segment_count(size):
            part.unlink()
            return found, size
        listed = self._path(name, "leaves")
        with listed.open("wb") as out:
            out.write(leaves)
            out.flush()
            os.fsync(out.fileno())
        part.rename(self._path(name, "replica"))
        sync(part.parent)
        return found, size

    def discard(self, name: Digest) -> None:
        """Free what is here of a replica; nothing is no error."""
        for kind in ("replica", "leaves", "part"):
            self._path(name, kind).unlink(missing_ok=True)

    def names(self) -> list[Digest]:
        """The replicas that are here, and those on their way."""
        if not self._folder.exists():
            return []
        files = [path for path in sorted(self._folder.glob("??/*")) if path.suffix in {".replica", ".part"}]
        return [Digest(bytes.fromhex(path.stem)) for path in files if len(path.stem) == 64]

    def usage(self) -> int:
        """Bytes of everything here."""
        return sum(path.stat().st_size for path in self._folder.glob("??/*")) if self._folder.exists() else 0
