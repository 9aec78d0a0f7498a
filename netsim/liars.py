"""Hosts that lie for a holder of replicas: their disks, while the machine above runs unchanged and does all else truly.

    Forgetful   throws the bytes away once the receipt is signed, and shows a challenger bytes that it makes up
    Fickle      shows the truth for two days, then corrupt bytes; whoever fetches from it gets corrupt bytes from the beginning
    Withholder  shows every challenger the truth, and gives whoever fetches from it corrupt bytes

Challenges find out the first two. They cannot find out the third, for it has what it says that it has.
Source: CONSENSUS §4; the two days are an assumption.
"""

from collections import Counter
from typing import Final

from blake3 import blake3

from consensus.ids import Digest, Millis
from netsim.keeper import Disk
from node.overlay.custody import HOUR_MS

TURN_MS: Final = 48 * HOUR_MS
"""For so long a fickle host shows the truth."""
LIARS_MAX: Final = 50
"""Per cent."""

THROWN: Final = "replicas thrown away"
SHOWN: Final = "corrupt segments shown"
SERVED: Final = "corrupt replicas served"


def corrupted(data: bytes) -> bytes:
    """The bytes with one bit of the last wrong."""
    return data[:-1] + bytes((data[-1] ^ 1,))


class LyingDisk(Disk):
    """A disk that keeps account of its lies."""

    is_found_out = True
    """Whether a challenge can tell."""

    def __init__(self, counts: Counter[str]) -> None:
        """Counts lies in `counts`."""
        super().__init__()
        self.counts = counts
        self.turned: dict[Digest, int] = {}
        """Since when what is shown of a replica is false."""

    def served(self, root: Digest) -> bytes | None:
        """Something else than the replica."""
        data = self.get(root)
        if data is None:
            return None
        self.counts[SERVED] += 1
        return corrupted(data)

    def lie(self, now: Millis, root: Digest, data: bytes) -> bytes:
        """Show these bytes in the place of the replica's."""
        self.turned.setdefault(root, now)
        self.counts[SHOWN] += 1
        return data


class Forgetful(LyingDisk):
    """Has a better use for the space."""

    def keep(self, now: Millis, root: Digest, data: bytes) -> None:
        """Nothing is kept."""
        del now, root, data
        self.counts[THROWN] += 1

    def shown(self, now: Millis, root: Digest) -> bytes:
        """As many bytes as were promised."""
        return self.lie(now, root, blake3(b"made up" + root).digest())


class Fickle(LyingDisk):
    """Is true until others rely on it."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__(counts)
        self.since: dict[Digest, int] = {}

    def keep(self, now: Millis, root: Digest, data: bytes) -> None:
        """The two days begin, anew when it let go of the replica in between."""
        super().keep(now, root, data)
        self.since[root] = now
        self.turned.pop(root, None)

    def shown(self, now: Millis, root: Digest) -> bytes | None:
        """The truth, while it is time for it."""
        data = super().shown(now, root)
        if data is None or now < self.since[root] + TURN_MS:
            return data
        return self.lie(now, root, corrupted(data))


class Withholder(LyingDisk):
    """Holds the bytes, and gives them to nobody."""

    is_found_out = False


def lot(number: int, percent: int, phase: int) -> bool:
    """Whether the holder of this number is one of so many per cent, evenly spread; phase, from 0 to 99, says which come first."""
    return ((number + 1) * percent + phase) // 100 > (number * percent + phase) // 100
