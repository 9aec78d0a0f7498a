"""What happens when: the queue of everything that is due, in the order of time and then of scheduling.

Time is whole milliseconds, so entries of one millisecond share a list, and the heap holds each distinct millisecond once.
That gives exactly the order of a heap of (time, sequence number, …) at a fraction of its cost when thousands of nodes are
busy: no comparison of tuples, no sequence numbers, and appending keeps the order of scheduling by itself.
"""

from heapq import heapify, heappush
from typing import Any, TypeAlias

from node.overlay.machine import TimerFired

Entry: TypeAlias = tuple[Any, Any, Any]
"""(node or None, event or what to call, guard); see netsim.world, which alone takes entries apart."""


class Agenda:
    """The entries that are due and the present moment, in Unix milliseconds."""

    __slots__ = ("buckets", "now", "times")

    def __init__(self, now: int) -> None:
        self.now = now
        self.buckets: dict[int, list[Entry]] = {}
        self.times: list[int] = []

    def push(self, at: int, entry: Entry) -> None:
        """Put an entry after all others of its millisecond; the past is now."""
        if at < self.now:  # noqa: PLR1730 - max() costs more than all the rest
            at = self.now
        bucket = self.buckets.get(at)
        if bucket is None:
            self.buckets[at] = [entry]
            heappush(self.times, at)
        else:
            bucket.append(entry)

    def prune(self, stale: int, limit: int) -> int:
        """Drop timers that can no longer fire once they outnumber limit; how many may still be stale is returned.

        A machine that resets a long timer with every frame would otherwise fill the memory with entries that do nothing.
        Called between two milliseconds.
        """
        if stale <= limit:
            return stale
        for at in list(self.buckets):
            kept = [entry for entry in self.buckets[at] if not is_stale(entry)]
            if kept:
                self.buckets[at] = kept
            else:
                del self.buckets[at]
        self.times[:] = self.buckets
        heapify(self.times)
        return 0

    def __len__(self) -> int:
        return sum(map(len, self.buckets.values()))


def is_stale(entry: Entry) -> bool:
    """Whether it is a timer that was cancelled or replaced: an armed timer is the very entry that the node names."""
    node, event, _ = entry
    return type(event) is TimerFired and node.armed.get(event.key) is not entry
