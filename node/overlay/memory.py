"""Which messages were seen, and which are still here to be given again.

Seen ids live for `seen_ms`, at most `seen_max` of them; one that goes raises its author's floor (scoring.Authors), so that
it is not taken for new again. Messages live for `history` heartbeats. Beside each dict stands a queue in the order of
arrival (the first key of a dict is slow to find once many before it were deleted), so that a heartbeat on which nothing
ends costs one look.

Source: gossipsub-v1.0.md, "Message Cache"; libp2p/specs pubsub, "Message Identification".
"""

from collections import deque

from consensus.ids import Millis, NodeId
from node.overlay.scoring import Authors
from node.overlay.topics import GossipLimits
from node.overlay.wire import SEQNO_BYTES, Message, peer_id

_KEY_AT = len(peer_id(NodeId(b"")))


def author_of(message_id: bytes) -> NodeId:
    """The author in a message id."""
    return NodeId(message_id[_KEY_AT:-SEQNO_BYTES])


class Seen:
    """The ids of messages that need no second look."""

    def __init__(self, limits: GossipLimits, authors: Authors) -> None:
        self._limits = limits
        self._authors = authors
        self._ends: deque[tuple[Millis, bytes]] = deque()
        self.ids: dict[bytes, None] = {}

    def add(self, now: Millis, message_id: bytes) -> None:
        """Remember an id that is not in `ids`."""
        if len(self.ids) >= self._limits.seen_max:
            self._forget()
        self.ids[message_id] = None
        self._ends.append((Millis(now + self._limits.seen_ms), message_id))

    def sweep(self, now: Millis) -> None:
        """Forget what has had its time."""
        while self._ends and self._ends[0][0] <= now:
            self._forget()

    def _forget(self) -> None:
        _, message_id = self._ends.popleft()
        del self.ids[message_id]
        self._authors.forgotten(author_of(message_id), message_id[-SEQNO_BYTES:])


class Cache:
    """Messages of the last heartbeats."""

    def __init__(self, limits: GossipLimits) -> None:
        self._limits = limits
        self._messages: dict[bytes, Message] = {}
        self._order: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._beat = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message) -> None:
        """Keep a message that is new, in the place of the oldest if there are too many."""
        limits = self._limits
        self._bytes += len(message.raw)
        self._messages[message.id] = message
        self._order.append((self._beat, message.id))
        while len(self._messages) > limits.cache_messages_max or self._bytes > limits.cache_bytes_max:
            self._drop()

    def get(self, message_id: bytes) -> Message | None:
        """The message of that id, if it is still here."""
        return self._messages.get(message_id)

    def told(self) -> dict[str, list[bytes]]:
        """The ids to tell others of in this heartbeat, by topic, newest first."""
        oldest = self._beat - self._limits.history_told
        topics: dict[str, list[bytes]] = {}
        for beat, message_id in reversed(self._order):
            if beat <= oldest:
                break
            topics.setdefault(self._messages[message_id].topic, []).append(message_id)
        return topics

    def shift(self) -> None:
        """One heartbeat has passed."""
        self._beat += 1
        oldest = self._beat - self._limits.history
        while self._order and self._order[0][0] <= oldest:
            self._drop()

    def _drop(self) -> None:
        _, message_id = self._order.popleft()
        self._bytes -= len(self._messages.pop(message_id).raw)
