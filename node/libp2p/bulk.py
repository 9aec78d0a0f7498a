"""Byte streams to a peer under protocols of our own, beside the channels: PeerStream over one yamux stream.

Reading makes room: what was not read fills the window of 256 KiB, and then the peer waits. Writing waits once as much is
queued. A caller that is cancelled while it writes has sent a part, and nobody else is harmed.
"""

from typing import TYPE_CHECKING, Final

import trio

from consensus.encoding import Malformed
from consensus.ids import NodeId
from node.libp2p.multistream import NotSpoken, Proposed, proposal
from node.net.swarm import Unreachable, Unwilling

if TYPE_CHECKING:
    from node.libp2p.yamux import Yamux, YamuxStream

QUEUE_BYTES: Final = 256 * 1024
PIECE_BYTES: Final = 64 * 1024


class BulkStream:
    """One stream, ours or a peer's."""

    def __init__(self, peer: NodeId, linger_s: float) -> None:
        self._peer, self._linger_s = peer, linger_s
        self._stream: YamuxStream
        self._proposed: Proposed | None = None
        self._held = bytearray()
        self._changed = trio.Event()
        self._ended = self._broken = self._closing = False
        self._closing_since: float | None = None
        self.refusal: str | None = None
        """Why the peer does not speak the protocol, once it has said so."""

    @classmethod
    def ours(cls, mux: "Yamux", peer: NodeId, protocol: str, linger_s: float) -> "BulkStream":
        """A new stream; `agreed` tells whether the peer takes it."""
        bulk = cls(peer, linger_s)
        bulk._proposed = Proposed(protocol)
        bulk._stream = mux.open(proposal(protocol), bulk)
        bulk._broken = not bulk._stream.open
        return bulk

    @classmethod
    def theirs(cls, stream: "YamuxStream", peer: NodeId, linger_s: float) -> "BulkStream":
        """A peer's stream, its protocol settled."""
        bulk = cls(peer, linger_s)
        bulk._stream = stream
        return bulk

    @property
    def peer(self) -> NodeId:
        """Who is at the other end; proven."""
        return self._peer

    async def agreed(self) -> None:
        """Wait for the peer's word; raises Unwilling and Unreachable."""
        while self._proposed is not None and not self._broken:
            await self._change()
        if self.refusal is not None:
            raise Unwilling(self.refusal)
        if self._broken:
            raise Unreachable("the stream broke before the peer took it")

    async def read(self, most: int) -> bytes:
        """1 to most bytes; b"" at the end. Raises Unreachable when the stream is gone."""
        if most < 1:
            raise ValueError("a read of less than a byte")
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._held:
            if self._ended:
                return b""
            if self._broken:
                raise Unreachable("the stream was broken off")
            await self._change()
        data = bytes(self._held[:most])
        del self._held[:most]
        self._stream.consumed(len(data))
        await trio.lowlevel.cancel_shielded_checkpoint()
        return data

    async def write(self, data: bytes) -> None:
        """Queue all of it, slowly when the reader is slow; raises Unreachable when the stream is gone."""
        await trio.lowlevel.checkpoint()
        for at in range(0, len(data), PIECE_BYTES):
            while self._stream.queued >= QUEUE_BYTES and self._stream.writable:
                await self._change()
            self._ensure_writable()
            self._stream.write(bytes(data[at : at + PIECE_BYTES]))
        self._ensure_writable()

    def _ensure_writable(self) -> None:
        if not self._stream.writable:
            raise Unreachable("the stream was broken off, or nothing more may be written to it")

    async def close_writing(self) -> None:
        """Say that no more comes; reading goes on."""
        self._stream.finish()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """End it, both ways: what was written still goes out, what comes is not read."""
        self.end()
        await trio.lowlevel.checkpoint()

    def end(self) -> None:
        """`aclose` without the checkpoint."""
        self._stream.finish()
        self._closing = True
        self._held.clear()
        self.broken()

    async def _change(self) -> None:
        changed = self._changed
        await changed.wait()

    def _note(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    # ---- as the stream's listener ----

    def data(self, data: bytes) -> None:
        """Keep it until it is read."""
        if self._proposed is not None:
            try:
                rest = self._proposed.feed(data)
            except NotSpoken as refused:
                self._refused(f"the peer does not speak {refused}")
                return
            except Malformed:
                self._refused("the peer speaks no multistream-select")
                return
            self._stream.consumed(len(data) - len(rest or b""))
            if rest is None:
                return
            self._proposed, data = None, rest
        if not self._closing:  # else the window fills, and the peer waits for its end
            self._held += data
            self._note()

    def _refused(self, why: str) -> None:
        self.refusal = why
        self._stream.reset()
        self.broken()

    def ended(self) -> None:
        """Nothing more will come."""
        self._ended = True
        if self._proposed is not None:
            self._refused("the peer ended the stream without a word")
        self._note()

    def broken(self) -> None:
        """Gone, both ways."""
        self._broken = True
        self._note()

    def writable(self) -> None:
        """Room for more."""
        self._note()

    def late(self, now: float) -> None:
        """Bulk has no deadline of its own; a peer that does not end a stream that we have ended loses it."""
        if self._closing:
            if self._closing_since is None:
                self._closing_since = now
            elif now - self._closing_since >= self._linger_s and not self._stream.queued:
                self._stream.reset()

    def stuck(self) -> None:
        """The reader is gone."""
        self._stream.reset()
        self.broken()
