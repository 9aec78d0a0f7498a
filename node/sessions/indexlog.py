"""The owner's index log as one list of bodies: read back after a disk was lost, before anything is added to it.

    body     first byte: 01 a pointer (node/sessions/pointer) · 02 a word of the session index (node/store/index) ·
             03 a snapshot: CBOR [body, …] of all that stood before it, words of the index joined into one

A log of a new epoch replaces the old one everywhere. So a machine that remembers nothing of its log (a new home, or one
whose keys were imported) writes nothing until it has compared it with some peers, and then begins with a snapshot of what
they gave back. Entries expire: a log whose oldest is half-way there is written anew as a snapshot.

Source: DESIGN §5; node/overlay/logs.
"""

from collections.abc import Callable, Sequence
from typing import Final

import trio

from consensus.encoding import Malformed, decode, encode
from consensus.ids import Millis, NodeId
from node.net.host import Host
from node.overlay.entries import LogBodies, LogName
from node.overlay.logs import ReadLog, SnapshotDue
from node.overlay.peer import Peer
from node.overlay.pen import Append, AppendRefused

SNAPSHOT: Final = b"\x03"
LIFE_MS: Final = 390 * 86_400_000
"""Below the 400 days that an entry may live."""
COMPARED_MIN: Final = 2
"""Peers with whom a log that we do not remember has to be compared, if there are so many."""


LOOK_S: Final = 1


class NotKept(Exception):
    """The log takes nothing more; the message says why."""


class IndexLog:
    """The index log of one owner's node."""

    def __init__(
        self, host: Host, peer: Peer, fold: Callable[[Sequence[bytes]], Sequence[bytes]] = lambda bodies: bodies
    ) -> None:
        """`fold` gives fewer bodies that say the same."""
        self._host, self._peer, self._fold = host, peer, fold
        self._due = False
        self._lock = trio.Lock()
        host.on_fact(SnapshotDue, self._grown)

    @property
    def ready(self) -> bool:
        """Whether our log is remembered, or what peers hold of it has been read back."""
        if self._peer.logs.index.chain(self._peer.me):
            return True
        others = max(1, len(self._peer.logs.directory.authors) - 1)
        return len(self._peer.reconcile.compared) >= min(COMPARED_MIN, others)

    def _grown(self, fact: SnapshotDue) -> None:
        self._due = self._due or fact.log is LogName.INDEX

    async def bodies(self, author: NodeId | None = None) -> list[bytes]:
        """All bodies that are held of an author's log, or of ours, the oldest first, snapshots taken apart."""
        held: LogBodies = await self._host.ask(ReadLog(author or self._peer.me, LogName.INDEX))
        return [one for body in held.bodies for one in taken_apart(body)]

    async def append(self, body: bytes) -> None:
        """Add a body, durable and on its way to peers when this returns; waits until the log is `ready`. Raises NotKept."""
        while not self.ready:  # noqa: ASYNC110 - it depends on what many exchanges bring
            await trio.sleep(LOOK_S)
        async with self._lock:
            if not self._is_to_be_written_anew():
                done = await self._host.ask(Append(LogName.INDEX, body, self._expiry()))
                if not isinstance(done, AppendRefused):
                    return
            whole = SNAPSHOT + encode([*self._fold([*await self.bodies(), body])])
            done = await self._host.ask(Append(LogName.INDEX, whole, self._expiry(), snapshot=True))
            if isinstance(done, AppendRefused):
                raise NotKept(f"the session index takes nothing more: {done.reason}")
            self._due = False

    def _is_to_be_written_anew(self) -> bool:
        chain = self._peer.logs.index.chain(self._peer.me)
        if not chain:
            return False
        half_gone = min(item.expiry for item in chain) < self._host.clock.now() + LIFE_MS // 2
        return self._due or half_gone or chain[0].epoch != self._peer.logs.next_epoch(LogName.INDEX)

    def _expiry(self) -> Millis:
        return Millis(self._host.clock.now() + LIFE_MS)


def taken_apart(body: bytes) -> list[bytes]:
    """The bodies in a snapshot, or the body itself; nothing for a snapshot that is damaged."""
    if not body.startswith(SNAPSHOT):
        return [body]
    try:
        inner = decode(body[len(SNAPSHOT) :])
    except Malformed:
        return []
    return [one for one in inner if isinstance(one, bytes)] if isinstance(inner, list) else []
