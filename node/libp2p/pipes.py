"""Byte streams between two nodes of one process: a PeerStream (node.net.swarm) each, bounded both ways."""

from collections.abc import Callable
from typing import Final

import trio

from consensus.ids import NodeId
from node.net.swarm import Unreachable

HELD_BYTES: Final = 256 * 1024
"""That a reader may be behind before the writer waits."""


class _Pipe:
    """Bytes one way."""

    def __init__(self) -> None:
        self.held = bytearray()
        self.finished = self.broken = self.unread = False
        """Finished: no more comes. Unread: nobody reads any more."""
        self._changed = trio.Event()

    async def change(self) -> None:
        await self._changed.wait()

    def note(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()


class MemoryStream:
    """One end of a stream; made by `stream_pair`."""

    def __init__(self, peer: NodeId, incoming: _Pipe, outgoing: _Pipe, wrote: Callable[[int], None]) -> None:
        self._peer, self._in, self._out, self._wrote = peer, incoming, outgoing, wrote

    @property
    def peer(self) -> NodeId:
        """Who is at the other end."""
        return self._peer

    @property
    def over(self) -> bool:
        """Whether nothing more can happen on it."""
        return self._in.broken or (self._in.unread and self._out.unread)

    async def read(self, most: int) -> bytes:
        """1 to most bytes; b"" at the end. Raises Unreachable when the connection is gone."""
        if most < 1:
            raise ValueError("a read of less than a byte")
        await trio.lowlevel.checkpoint()
        pipe = self._in
        while not pipe.held:
            if pipe.broken or pipe.unread:
                raise Unreachable("the stream was broken off")
            if pipe.finished:
                return b""
            await pipe.change()
        data = bytes(pipe.held[:most])
        del pipe.held[:most]
        pipe.note()
        return data

    async def write(self, data: bytes) -> None:
        """Send all of it, slowly when the reader is slow; raises Unreachable when the connection is gone."""
        await trio.lowlevel.checkpoint()
        pipe, at = self._out, 0
        while at < len(data) or not data:
            if pipe.broken or pipe.finished or pipe.unread:
                raise Unreachable("the stream was broken off")
            if not data:
                return
            if room := HELD_BYTES - len(pipe.held):
                piece = data[at : at + room]
                pipe.held += piece
                at += len(piece)
                self._wrote(len(piece))
                pipe.note()
            else:
                await pipe.change()

    async def close_writing(self) -> None:
        """Say that no more comes; reading goes on."""
        self._finish()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """End it, both ways: what was written can still be read, what comes is not read."""
        self.end()
        await trio.lowlevel.checkpoint()

    def end(self) -> None:
        """`aclose` without the checkpoint."""
        self._finish()
        self._in.unread = True
        self._in.held.clear()
        self._in.note()

    def break_off(self) -> None:
        """The connection is gone."""
        for pipe in (self._in, self._out):
            pipe.broken = True
            pipe.note()

    def _finish(self) -> None:
        self._out.finished = True
        self._out.note()


def stream_pair(
    one: NodeId, other: NodeId, wrote: tuple[Callable[[int], None], Callable[[int], None]]
) -> tuple[MemoryStream, MemoryStream]:
    """The end whose peer is `one` and the end whose peer is `other`; `wrote` is told what each of them writes."""
    there, back = _Pipe(), _Pipe()
    return MemoryStream(one, there, back, wrote[0]), MemoryStream(other, back, there, wrote[1])
