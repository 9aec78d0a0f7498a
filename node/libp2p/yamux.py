"""Many streams over one connection: yamux, as bytes in and bytes out, without a clock or a task.

    bytes ──→ receive ──→ the stream's listener: data, ended, broken        write, finish, reset ──→ take ──→ bytes

Whoever is at the other end is not trusted. A stream holds at most its window of unread bytes, there are at most
`streams_max` of the peer's, and answers that pile up because the peer does not read end the session. What we send waits in
the streams' queues until the connection can take it, so that it can still be given up, and streams take turns.

py-libp2p's muxer was measured against this and does not serve: it holds whatever a peer sends beyond its window, gives up a
write after 5 s without window, waits by polling, and stops reading while ten streams wait to be accepted.
Source: hashicorp/yamux spec.md; libp2p/specs yamux/README.md.
"""

import struct
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from consensus.encoding import Malformed

DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
HEAD_BYTES: Final = 12
WINDOW_BYTES: Final = 256 * 1024
"""What a stream may send before the first update, by the specification; ours never grows."""
TURN_BYTES: Final = 16 * 1024
"""What a stream sends before the next one's turn."""
CONTROL_BYTES_MAX: Final = 64 * 1024
"""Answers to pings and openings that wait to be sent: over 5,000."""
_HEAD: Final = struct.Struct("!BBHII")


class Listener(Protocol):
    """Takes what happens to one stream, at once; it may write, finish and reset, this stream or others."""

    def data(self, data: bytes) -> None:
        """Bytes came. They count against the stream's window until `YamuxStream.consumed` says otherwise."""

    def ended(self) -> None:
        """The peer writes no more."""

    def broken(self) -> None:
        """The stream is gone, both ways: by the peer or with the connection. Never called after our own reset."""

    def writable(self) -> None:
        """The queue ran empty."""

    def late(self, now: float) -> None:
        """A look at the clock (trio's), now and then."""

    def stuck(self) -> None:
        """The peer has taken nothing for so long that the stream is given up; it is open still."""


class YamuxStream:
    """One stream; `listener` has to be set by whoever gets it, before anything else is received."""

    __slots__ = (
        "_begun",
        "_fin_sent",
        "_finished",
        "_owed",
        "_queue",
        "_received",
        "_session",
        "_theirs",
        "_window",
        "ended",
        "grants",
        "listener",
        "number",
        "open",
        "queued",
    )

    def __init__(self, session: "Yamux", number: int, *, theirs: bool) -> None:
        self._session, self.number, self._theirs = session, number, theirs
        self.listener: Listener
        self.open = True
        self.ended = False
        self.queued = 0
        self.grants = 0
        """How often the peer has made room."""
        self._queue: deque[bytes] = deque()
        self._begun = 0  # bytes of the first in the queue that have gone
        self._window = WINDOW_BYTES
        self._received = WINDOW_BYTES  # what the peer may still send
        self._owed = 0  # consumed and not yet granted anew
        self._finished = False
        self._fin_sent = False

    @property
    def waiting(self) -> int:
        """Writes that wait in the queue, the first perhaps in part."""
        return len(self._queue)

    @property
    def stalled(self) -> bool:
        """Whether something waits because the peer grants no window."""
        return self.queued > 0 and self._window == 0

    @property
    def writable(self) -> bool:
        """Whether what is written may still arrive."""
        return self.open and not self._finished

    def write(self, data: bytes) -> None:
        """Queue bytes; without effect on a stream that is gone or finished."""
        if data and self.writable:
            self._queue.append(data)
            self.queued += len(data)
            self._session.ready(self)

    def give_up_oldest(self) -> bool:
        """Drop the oldest write that has not been begun; False when there is none."""
        place = 1 if self._begun else 0
        if place >= len(self._queue):
            return False
        self.queued -= len(self._queue[place])
        del self._queue[place]
        return True

    def finish(self) -> None:
        """Say that no more comes, once the queue has gone."""
        if self.writable:
            self._finished = True
            self._session.ready(self)

    def reset(self) -> None:
        """End the stream, both ways, at once."""
        if self.open:
            self._session.forget(self)
            self._session.control(WINDOW, RST, self.number, 0)

    def consumed(self, count: int) -> None:
        """Bytes that came need no room any more; the peer may send as many again."""
        self._owed += count
        if self._owed >= WINDOW_BYTES // 2 and self.open and not self.ended:
            self._received += self._owed
            self._session.control(WINDOW, 0, self.number, self._owed)
            self._owed = 0

    # ---- for the session alone ----

    def accept(self, count: int) -> None:
        """Count bytes that came; raises Malformed for more than the window."""
        self._received -= count
        if self._received < 0:
            raise Malformed("a stream that sends more than its window")

    def granted(self, count: int) -> None:
        """The peer can take more; raises Malformed for a window that yamux cannot have."""
        self._window += count
        self.grants += 1
        if self._window >= 1 << 32:
            raise Malformed("a window of over 32 bits")
        if self.queued:
            self._session.ready(self)

    @property
    def sendable(self) -> bool:
        """Whether it has something to send that it may send now."""
        return (self._window > 0) if self._queue else self._finished and not self._fin_sent

    def turn(self) -> bytes:
        """The next frames of this stream, TURN_BYTES at most."""
        room = min(self._window, TURN_BYTES)
        parts: list[bytes] = []
        queue = self._queue
        while queue and room:
            part = queue[0]
            if self._begun or len(part) > room:
                piece = part[self._begun : self._begun + room]
                self._begun += len(piece)
                if self._begun == len(part):
                    queue.popleft()
                    self._begun = 0
                part = piece
            else:
                queue.popleft()
            parts.append(part)
            room -= len(part)
        body = b"".join(parts)
        self.queued -= len(body)
        self._window -= len(body)
        out = _HEAD.pack(0, DATA, 0, self.number, len(body)) + body if body else b""
        if self._finished and not queue and not self._fin_sent:
            self._fin_sent = True
            out += _HEAD.pack(0, WINDOW, FIN, self.number, 0)
            if self.ended:
                self._session.forget(self)
        return out

    @property
    def done(self) -> bool:
        """Whether both ends have said that no more comes, and the peer has been sent our word of it."""
        return self.ended and self._fin_sent

    @property
    def theirs(self) -> bool:
        """Whether the peer opened it."""
        return self._theirs


class Yamux:
    """One connection's streams. `wake` is called whenever there is something to `take`."""

    def __init__(
        self, *, client: bool, streams_max: int, opened: Callable[[YamuxStream], None], wake: Callable[[], None]
    ) -> None:
        self._streams: dict[int, YamuxStream] = {}
        self._next = 1 if client else 2
        self._streams_max = streams_max
        self._theirs = 0
        self._opened, self._wake = opened, wake
        self._control = bytearray()
        self._ready: dict[YamuxStream, None] = {}
        self._head = bytearray()
        self._body: YamuxStream | None = None
        self._body_left = 0
        self._body_flags = 0
        self.gone_away = False
        self.closed = False

    @property
    def streams(self) -> tuple[YamuxStream, ...]:
        """Those that are open."""
        return tuple(self._streams.values())

    @property
    def pending(self) -> bool:
        """Whether there is something to take."""
        return bool(self._control or self._ready)

    def open(self, first: bytes, listener: Listener) -> YamuxStream:
        """A new stream of ours and its first bytes, some hundred at most, which leave before all data."""
        stream = YamuxStream(self, self._next, theirs=False)
        stream.listener = listener
        self._next += 2
        if self.closed:
            stream.open = False
            return stream
        self._streams[stream.number] = stream
        stream.granted(-len(first))
        self._control += _HEAD.pack(0, DATA, SYN, stream.number, len(first)) + first
        self._wake()
        return stream

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self.control(PING, SYN, 0, 0)

    def go_away(self) -> None:
        """Say that the session ends, in order."""
        self.control(GO_AWAY, 0, 0, 0)

    def close(self) -> None:
        """End all streams: the connection is gone."""
        self.closed = True
        self._ready.clear()
        while self._streams:
            _, stream = self._streams.popitem()
            stream.open = False
            stream.listener.broken()

    # ------------------------------------------------------------------ out

    def control(self, kind: int, flags: int, number: int, value: int) -> None:
        """Queue a frame that carries no data; it goes before all data."""
        if not self.closed:
            self._control += _HEAD.pack(0, kind, flags, number, value)
            self._wake()

    def ready(self, stream: YamuxStream) -> None:
        """Note that a stream has something to send."""
        if not self.closed and stream.sendable and stream not in self._ready:
            self._ready[stream] = None
            self._wake()

    def forget(self, stream: YamuxStream) -> None:
        """Take a stream out: it is reset, or finished both ways."""
        stream.open = False
        self._ready.pop(stream, None)
        if self._streams.pop(stream.number, None) is not None and stream.theirs:
            self._theirs -= 1

    def take(self, most: int) -> bytes:
        """Bytes to send, about `most` of them, at least one frame if any is ready."""
        parts = [bytes(self._control)]
        size = len(self._control)
        self._control.clear()
        ready = self._ready
        while ready and size + HEAD_BYTES + TURN_BYTES + HEAD_BYTES <= most:
            stream = next(iter(ready))
            del ready[stream]
            part = stream.turn()
            size += len(part)
            parts.append(part)
            if stream.open:
                if stream.queued and stream.sendable:
                    ready[stream] = None
                elif not stream.queued:
                    stream.listener.writable()
        return b"".join(parts)

    # ------------------------------------------------------------------ in

    def receive(self, data: bytes) -> None:
        """Take bytes as they come; raises Malformed, after which the session is over and has to be closed."""
        at, end = 0, len(data)
        while at < end and not self.closed:  # whoever takes data may close the session
            if self._body_left:
                piece = data[at : at + self._body_left] if at or end > self._body_left else data
                at += len(piece)
                self._body_left -= len(piece)
                stream = self._body
                if stream is not None and stream.open:
                    stream.accept(len(piece))
                    stream.listener.data(piece)
                if not self._body_left:
                    self._flagged(stream, self._body_flags)
                continue
            if self._head or end - at < HEAD_BYTES:
                missing = HEAD_BYTES - len(self._head)
                self._head += data[at : at + missing]
                at += missing
                if len(self._head) < HEAD_BYTES:
                    return
                head = _HEAD.unpack(self._head)
                self._head.clear()
            else:
                head = _HEAD.unpack_from(data, at)
                at += HEAD_BYTES
            self._frame(*head)
            if len(self._control) > CONTROL_BYTES_MAX:
                raise Malformed("a peer that asks and does not read")

    def _frame(self, version: int, kind: int, flags: int, number: int, value: int) -> None:
        if version:
            raise Malformed(f"yamux of version {version}")
        if kind == PING:
            if flags & SYN:
                self.control(PING, ACK, 0, value)
            return
        if kind == GO_AWAY:
            self.gone_away = True
            return
        if kind > GO_AWAY:
            raise Malformed(f"no yamux frame has type {kind}")
        if flags & SYN:
            self._syn(number)
        stream = self._streams.get(number)
        if kind == DATA and value:
            self._body, self._body_left, self._body_flags = stream, value, flags
            return
        if stream is not None:
            if kind == WINDOW and value:
                stream.granted(value)
            self._flagged(stream, flags)

    def _syn(self, number: int) -> None:
        if not number or number % 2 == self._next % 2 or number in self._streams:
            raise Malformed("a stream opened under a number that is not the peer's to take")
        if self._theirs >= self._streams_max:
            self.control(WINDOW, RST, number, 0)
            return
        stream = YamuxStream(self, number, theirs=True)
        self._streams[number] = stream
        self._theirs += 1
        self.control(WINDOW, ACK, number, 0)
        self._opened(stream)

    def _flagged(self, stream: YamuxStream | None, flags: int) -> None:
        if stream is None or not stream.open:
            return
        if flags & RST:
            self.forget(stream)
            stream.listener.broken()
        elif flags & FIN and not stream.ended:
            stream.ended = True
            stream.listener.ended()
            if stream.done:
                self.forget(stream)
