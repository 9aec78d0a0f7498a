"""One connection to a proven peer: Noise messages below, yamux streams above, two tasks that carry.

    reader: socket → open → yamux.receive → listeners, all within one step        writer: yamux.take → seal → socket

Nobody but the writer touches the socket, so that no cancelled caller leaves half a message behind. What is written by many
in one step leaves as one Noise message. A write that does not get on for `dead_after_ms` ends the connection.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from consensus.encoding import Malformed
from consensus.ids import NodeId
from node.libp2p.multistream import Accepting, NotSpoken, Proposed, proposal
from node.libp2p.yamux import Yamux, YamuxStream
from node.net.limits import SwarmLimits
from node.net.swarm import Unreachable, Unwilling

if TYPE_CHECKING:
    from node.libp2p.secure import Secured

MUXER: Final = "/yamux/1.0.0"
READ_BYTES: Final = 64 * 1024
PLAIN_BYTES_MAX: Final = 65_535 - 16
"""Of one Noise message: its length in 16 bits, less the tag."""


class SealedStream:
    """A stream that carries Noise messages: each behind its length, 16 bits big-endian."""

    def __init__(self, stream: trio.abc.Stream, secured: "Secured") -> None:
        self._stream = stream
        self._seal, self._unseal = secured.seal, secured.unseal
        self._held = bytearray(secured.early)
        self.peer = secured.peer
        self.received = self.sent = 0

    def _opened(self) -> bytes:
        held, at, plain = self._held, 0, []
        with memoryview(held) as view:
            while len(held) - at >= 2:
                end = at + 2 + (held[at] << 8 | held[at + 1])
                if len(held) < end:
                    break
                plain.append(self._unseal(bytes(view[at + 2 : end])))
                at = end
        if at:
            del held[:at]
        return plain[0] if len(plain) == 1 else b"".join(plain)

    async def receive(self) -> bytes:
        """What came, opened; b"" at the end. Raises Malformed, and trio's errors of the stream below."""
        while not (plain := self._opened()):
            data = await self._stream.receive_some(READ_BYTES)
            if not data:
                return b""
            self.received += len(data)
            self._held += data
        return plain

    async def send(self, plain: bytes) -> None:
        """Seal and send; a cancelled call leaves the stream unusable."""
        parts = []
        for at in range(0, len(plain), PLAIN_BYTES_MAX):
            message = self._seal(plain[at : at + PLAIN_BYTES_MAX])
            parts += [len(message).to_bytes(2, "big"), message]
        data = b"".join(parts)
        await self._stream.send_all(data)
        self.sent += len(data)

    async def aclose(self) -> None:
        """Close it without waiting."""
        await trio.aclose_forcefully(self._stream)


async def agree_on_yamux(stream: SealedStream, *, dialled: bool) -> bytes:
    """Settle the muxer, the same as all nodes speak; what came behind it. Raises Unreachable and Unwilling."""
    try:
        if dialled:
            await stream.send(proposal(MUXER))
            proposed = Proposed(MUXER)
            while (rest := proposed.feed(await _some(stream))) is None:
                pass
            return rest
        accepting = Accepting((MUXER,))
        rest = b""
        while accepting.chosen is None:
            answer, rest = accepting.feed(await _some(stream))
            if answer:
                await stream.send(answer)
    except (NotSpoken, Malformed) as error:
        raise Unwilling(f"no node of ours: {error}") from error
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise Unreachable("the connection broke within its handshake") from error
    return rest


async def _some(stream: SealedStream) -> bytes:
    data = await stream.receive()
    if not data:
        raise Unreachable("the connection ended within its handshake")
    return data


class Connection:
    """One connection, from the end of its handshake on."""

    def __init__(
        self,
        stream: SealedStream,
        early: bytes,
        limits: SwarmLimits,
        opened: Callable[["Connection", YamuxStream], None],
        ended: Callable[["Connection"], None],
        *,
        dialled: bool,
    ) -> None:
        self.peer: NodeId = stream.peer
        self.dialled = dialled
        self.closed = False
        self.born = self.heard = trio.current_time()
        self._stream, self._early, self._limits, self._ended = stream, early, limits, ended
        self._scope = trio.CancelScope()
        self._wakened = trio.Event()
        self._pinged = self.heard
        self._stalled: dict[YamuxStream, tuple[int, float]] = {}

        def hand_over(stream: YamuxStream) -> None:
            opened(self, stream)

        self.mux = Yamux(client=dialled, streams_max=limits.streams, opened=hand_over, wake=self._wake)

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes received and sent."""
        return self._stream.received, self._stream.sent

    def _wake(self) -> None:
        self._wakened.set()

    async def run(self) -> None:
        """Carry until the connection ends, whoever ends it; then all its streams are broken."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read, nursery.cancel_scope)
                    nursery.start_soon(self._write, nursery.cancel_scope)
        finally:
            self.close()
            with trio.CancelScope(shield=True):
                await self._stream.aclose()

    def close(self) -> None:
        """End it at once, without another byte: all its streams are broken when this returns."""
        if not self.closed:
            self.closed = True
            self.mux.close()
            self._scope.cancel()
            self._ended(self)

    async def _read(self, both: trio.CancelScope) -> None:
        mux = self.mux
        try:
            mux.receive(self._early)
            while not self.closed and not mux.gone_away:
                data = await self._stream.receive()
                if not data:
                    break
                self.heard = trio.current_time()
                if not self.closed:
                    mux.receive(data)
        except (Malformed, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # whatever it was, this connection is over
        both.cancel()

    async def _write(self, both: trio.CancelScope) -> None:
        mux, patience = self.mux, self._limits.dead_after_ms / 1000
        try:
            while True:
                if not mux.pending:
                    self._wakened = trio.Event()
                    await self._wakened.wait()
                with trio.move_on_after(patience) as timer:
                    await self._stream.send(mux.take(PLAIN_BYTES_MAX))
                if timer.cancelled_caught:
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        both.cancel()

    def look(self, now: float) -> None:
        """Keep the connection alive, or end it because the peer is silent; give up streams whose peer takes nothing."""
        limits = self._limits
        if now - self.heard >= limits.dead_after_ms / 1000:
            self.close()
            return
        idle = limits.keepalive_ms / 1000
        if now - self.heard >= idle and now - self._pinged >= idle:
            self._pinged = now
            self.mux.ping()
        before, self._stalled = self._stalled, {}
        for stream in self.mux.streams:
            if not stream.open:
                continue
            if stream.stalled:
                grants, since = before.get(stream, (-1, now))
                since = since if grants == stream.grants else now
                self._stalled[stream] = stream.grants, since
                if now - since >= limits.dead_after_ms / 1000:
                    stream.listener.stuck()
                    continue
            stream.listener.late(now)
