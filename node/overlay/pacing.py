"""When messages leave: at once while little is going on, in batches on a timer during a burst.

A host's outboxes are bounded and drop what does not fit, so a burst of 500 frames to each of eight peers would lose most
of it (findings/net.md §3: 32 of 60 arrived). What exceeds a few frames in `pace_ms` waits here and leaves as batches.

Our own messages also wait until every receiver's budget for us (scoring.AuthorLimits) surely covers them: we keep to
three quarters of it, so that jitter on the way does not make us look greedy. A full queue refuses to publish; nothing
that was taken is dropped. A full queue of others' messages drops the new ones, which IHAVE still tells of.
"""

from collections import deque
from dataclasses import replace
from typing import NamedTuple

from consensus.ids import Millis, NodeId
from node.overlay.scoring import AuthorLimits, Budget
from node.overlay.topics import GossipLimits
from node.overlay.wire import Message


class Outgoing(NamedTuple):
    """A message on its way to whoever should have it, except its source."""

    message: Message
    source: NodeId


class Pacer:
    """Two queues, ours and others', and the window of `pace_ms` that both are measured by."""

    def __init__(self, me: NodeId, limits: GossipLimits, authors: AuthorLimits) -> None:
        self._me = me
        self._limits = limits
        self._allowed = replace(
            authors,
            messages_burst=max(1, authors.messages_burst * 3 // 4),
            messages_per_s=max(1, authors.messages_per_s * 3 // 4),
            bytes_burst=authors.bytes_burst * 3 // 4,
            bytes_per_s=max(1, authors.bytes_per_s * 3 // 4),
        )
        self._budget = Budget(Millis(0), self._allowed)
        self._ours: deque[Message] = deque()
        self._ours_bytes = 0
        self._relays: deque[Outgoing] = deque()
        self._relays_bytes = 0
        self._window_end = 0
        self._frames = 0
        self._bytes = 0

    def waiting(self) -> tuple[int, int]:
        """How many messages wait for their turn, ours and others'."""
        return len(self._ours), len(self._relays)

    def room(self, size: int) -> str:
        """Why a message of ours of so many bytes cannot be taken now; empty if it can."""
        if size > self._allowed.bytes_burst:
            return f"a message of {size} bytes can never leave: an author may burst {self._allowed.bytes_burst}"
        limits = self._limits
        if len(self._ours) >= limits.publish_queue_max or self._ours_bytes + size > limits.publish_queue_bytes_max:
            return f"{len(self._ours)} messages of ours wait already; publish more slowly"
        return ""

    def publish(self, now: Millis, message: Message) -> list[Outgoing]:
        """What leaves at once of a message of ours, for which there is `room`: itself or nothing."""
        size = len(message.raw)
        if not self._ours and self._budget.covers(now, size, self._allowed) and self._opens(now, size):
            self._budget.charge(now, size, self._allowed)
            return [Outgoing(message, self._me)]
        self._ours.append(message)
        self._ours_bytes += size
        return []

    def relay(self, now: Millis, items: list[Outgoing]) -> list[Outgoing]:
        """What leaves at once of others' messages: all or nothing."""
        if not self._relays and self._opens(now, sum([len(each.message.raw) for each in items])):
            return items
        limits = self._limits
        for each in items:
            size = len(each.message.raw)
            if len(self._relays) < limits.relay_queue_max and self._relays_bytes + size <= limits.relay_queue_bytes_max:
                self._relays.append(each)
                self._relays_bytes += size
        return []

    def flush(self, now: Millis) -> list[Outgoing]:
        """What leaves now that the time of `due` has come."""
        self._window_end, self._frames, self._bytes = now + self._limits.pace_ms, 0, 0
        most = self._limits.pace_bytes
        released: list[Outgoing] = []
        while self._ours and ((size := len(self._ours[0].raw)) <= most or not released):
            if not self._budget.covers(now, size, self._allowed):
                break
            self._budget.charge(now, size, self._allowed)
            self._ours_bytes -= size
            most -= size
            released.append(Outgoing(self._ours.popleft(), self._me))
        most, first = self._limits.pace_bytes, True
        while self._relays and ((size := len(self._relays[0].message.raw)) <= most or first):
            self._relays_bytes -= size
            most -= size
            first = False
            released.append(self._relays.popleft())
        return released

    def due(self) -> Millis | None:
        """When to call `flush`; None while nothing waits."""
        if self._relays:
            return Millis(self._window_end)
        if self._ours:
            return Millis(max(self._window_end, self._budget.ready(len(self._ours[0].raw), self._allowed)))
        return None

    def _opens(self, now: Millis, size: int) -> bool:
        """Take one frame out of the window; False if that is used up."""
        if now >= self._window_end:
            self._window_end, self._frames, self._bytes = now + self._limits.pace_ms, 0, 0
        if self._frames >= self._limits.pace_frames or (self._frames and self._bytes + size > self._limits.pace_bytes):
            return False
        self._frames += 1
        self._bytes += size
        return True
