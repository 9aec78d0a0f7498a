"""A node that lies about what it holds: `python -m tests.system.liar run --home DIR` is `lucid-node run`, but for the disk.

It signs for every replica that it is offered, shows other segments than it was asked for under the right proofs, and serves
other bytes; what it does it says on stderr. Nothing else of it is changed, so its peers meet it like any other.
"""

import sys
from collections.abc import Sequence

from consensus.beacon import Segment
from consensus.ids import Digest
from node.cli import main
from node.store.replicas import ReplicaFiles

_segments, _read = ReplicaFiles.segments, ReplicaFiles.read


def turned(data: bytes) -> bytes:
    """Each bit the other way."""
    return bytes(byte ^ 0xFF for byte in data)


def segments(self: ReplicaFiles, name: Digest, indexes: Sequence[int]) -> tuple[Segment, ...] | None:
    """What is true but for the data."""
    print(f"showed {len(indexes)} false segments", file=sys.stderr, flush=True)
    shown = _segments(self, name, indexes)
    return None if shown is None else tuple(one._replace(data=turned(one.data)) for one in shown)


def read(self: ReplicaFiles, name: Digest, offset: int, most: int) -> bytes:
    """What is true, turned."""
    print("served false bytes", file=sys.stderr, flush=True)
    return turned(_read(self, name, offset, most))


if __name__ == "__main__":
    ReplicaFiles.segments, ReplicaFiles.read = segments, read  # type: ignore[method-assign]
    sys.exit(main(sys.argv[1:]))
