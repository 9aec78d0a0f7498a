"""The four channels over one connection: frames on a long-lived stream each way, an exchange on a stream of its own.

    post(frame)    ──→ our stream of the channel, opened by its first frame ──→ the peer hears, in order
    post(request)  ──→ an idle stream of the pool, or a new one ──→ answer ──→ back into the pool
    their request  ──→ Received(… −n) ──→ post(answer, −n) ──→ their stream; the next request of that stream waits until then

The DHT speaks as stock libp2p does: each request has a stream, and what wants no answer has one that is finished behind it.
Where both ends are ours, frames and exchanges go by two protocol names, so that a stream says at once which it carries.
A request on an idle stream costs one round trip and no negotiation; a new stream costs no more, since the name of the
protocol is not waited for. Everything a peer can make this hold is bounded by SwarmLimits.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from consensus.encoding import Malformed
from consensus.ids import NodeId
from node.libp2p.framing import Frames, prefixed
from node.libp2p.multistream import NotSpoken, Proposed, proposal
from node.libp2p.yamux import Yamux, YamuxStream
from node.net.limits import FRAME_BYTES_MAX, SwarmLimits
from node.overlay.machine import Channel, Event, Failed, Received, Send

ASKING: Final = "/ask"
CONCURRENT: Final = 24
"""Exchanges of ours at once on one channel to one peer: below js-libp2p's 32 and below `SwarmLimits.asked`."""


def frames_protocol(channel: Channel) -> str | None:
    """The protocol of a channel's frames outside exchanges on one stream; None for the DHT, which has no such stream."""
    return None if channel is Channel.DHT else channel.value


def asking_protocol(channel: Channel) -> str | None:
    """The protocol of a channel's exchanges; None for gossip, which has none."""
    if channel is Channel.GOSSIP:
        return None
    return channel.value if channel is Channel.DHT else channel.value + ASKING


HEARD: Final = {name: channel for channel in Channel if (name := frames_protocol(channel)) is not None}
ASKED: Final = {name: channel for channel in Channel if (name := asking_protocol(channel)) is not None}


class Switchboard(NamedTuple):
    """What the channels of all connections share."""

    limits: SwarmLimits
    tell: Callable[[Event], None]
    number: Callable[[], int]
    """Numbers for exchanges that peers open, from 1 on."""


class Channels:
    """The channels of one connection."""

    def __init__(self, mux: Yamux, peer: NodeId, board: Switchboard, lost: Callable[[], None]) -> None:
        self.mux, self.peer, self.board = mux, peer, board
        self.lost = lost
        """Ends the connection."""
        self._hearing: dict[Channel, YamuxStream] = {}
        self._telling: dict[Channel, YamuxStream] = {}
        self._notices: dict[YamuxStream, None] = {}
        self.asked: dict[Channel, dict[int, Asked]] = {channel: {} for channel in Channel}
        self._asking: dict[Channel, dict[int, _Asking]] = {channel: {} for channel in Channel}
        self._queue: dict[Channel, deque[tuple[int, bytes]]] = {channel: deque() for channel in Channel}
        self._idle: dict[Channel, list[_Asking]] = {channel: [] for channel in Channel}

    @property
    def busy(self) -> bool:
        """Whether exchanges are under way, either way."""
        return any(self.asked.values()) or any(self._asking.values())

    def post(self, send: Send) -> None:
        """Send a frame, open an exchange or answer one."""
        _, channel, frame, exchange = send
        if exchange < 0:
            if (asked := self.asked[channel].get(exchange)) is not None:
                asked.answer(frame)
        elif exchange and asking_protocol(channel) is not None:
            self._ask(channel, exchange, frame)
        elif exchange:
            self.board.tell(Failed(self.peer, channel, exchange))
        elif channel is Channel.DHT:
            self._notice(frame)
        else:
            self._tell(channel, frame)

    # ------------------------------------------------------------------ frames

    def _tell(self, channel: Channel, frame: bytes) -> None:
        stream = self._telling.get(channel)
        if stream is None or not stream.open:
            name = frames_protocol(channel)
            assert name is not None
            stream = self._telling[channel] = _Telling(self, name).stream
        stream.write(prefixed(frame))
        limits = self.board.limits
        while stream.waiting > limits.queue_frames or stream.queued > limits.queue_bytes:
            if not stream.give_up_oldest():
                break

    def _notice(self, frame: bytes) -> None:
        self._notices = {stream: None for stream in self._notices if stream.open}
        if len(self._notices) >= self.board.limits.streams:
            oldest = next(iter(self._notices))
            del self._notices[oldest]
            oldest.reset()
        self._notices[_Noticing(self, frame).stream] = None

    def hear(self, stream: YamuxStream, channel: Channel) -> "Hearing":
        """Take a peer's stream of frames; the newest replaces the one before."""
        before = self._hearing.get(channel)
        if before is not None:
            before.reset()
        self._hearing[channel] = stream
        return Hearing(self, stream, channel)

    # ------------------------------------------------------------------ our exchanges

    def _ask(self, channel: Channel, exchange: int, frame: bytes) -> None:
        queue, limits = self._queue[channel], self.board.limits
        queue.append((exchange, frame))
        if len(queue) > limits.asking:
            self.board.tell(Failed(self.peer, channel, queue.popleft()[0]))
        self._next_question(channel)

    def _next_question(self, channel: Channel) -> None:
        queue, asking, idle = self._queue[channel], self._asking[channel], self._idle[channel]
        while queue and len(asking) < CONCURRENT and not self.mux.closed:
            exchange, frame = queue.popleft()
            asker = idle.pop() if idle else _Asking(self, channel)
            asking[exchange] = asker
            asker.ask(exchange, frame)

    def settled(self, asker: "_Asking", exchange: int, answer: bytes | None) -> None:
        """An exchange of ours is over; None: without an answer. The asker is idle, or gone."""
        channel = asker.channel
        del self._asking[channel][exchange]
        idle = self._idle[channel]
        if asker.stream.open and not asker.stream.ended:
            idle.append(asker)
        if answer is None:
            self.board.tell(Failed(self.peer, channel, exchange))
        else:
            self.board.tell(Received(self.peer, channel, answer, exchange))
        if len(idle) > self.board.limits.pooled and not self._queue[channel]:
            idle.pop(0).retire()
        self._next_question(channel)

    def unpool(self, asker: "_Asking") -> None:
        """An idle stream is gone."""
        idle = self._idle[asker.channel]
        if asker in idle:
            idle.remove(asker)

    def close(self) -> None:
        """The connection is gone and every stream broken: what still waits in queues fails."""
        for channel, queue in self._queue.items():
            while queue:
                self.board.tell(Failed(self.peer, channel, queue.popleft()[0]))


class Mute:
    """A stream on which nothing more is expected; the beginning of all listeners here."""

    def __init__(self, stream: YamuxStream) -> None:
        self.stream = stream

    def data(self, data: bytes) -> None:
        self.stream.consumed(len(data))

    def ended(self) -> None:
        self.stream.finish()

    def broken(self) -> None:
        pass

    def writable(self) -> None:
        pass

    def late(self, now: float) -> None:
        pass

    def stuck(self) -> None:
        self.stream.reset()


class _Telling(Mute):
    """Our stream of frames; what comes back on it is of no interest."""

    def __init__(self, channels: Channels, protocol: str) -> None:
        super().__init__(channels.mux.open(proposal(protocol), self))
        self._channels = channels
        self._proposed: Proposed | None = Proposed(protocol)

    def data(self, data: bytes) -> None:
        self.stream.consumed(len(data))
        if self._proposed is not None:
            try:
                if self._proposed.feed(data) is not None:
                    self._proposed = None
            except (NotSpoken, Malformed):
                self.stream.reset()

    def ended(self) -> None:
        """js-libp2p closes its side of a stream on which it only reads."""

    def stuck(self) -> None:
        self._channels.lost()


class Hearing(Mute):
    """A peer's stream of frames."""

    def __init__(self, channels: Channels, stream: YamuxStream, channel: Channel) -> None:
        super().__init__(stream)
        self._channels, self._channel = channels, channel
        self._frames = Frames(FRAME_BYTES_MAX[channel])

    def data(self, data: bytes) -> None:
        """Deliver each frame that is whole."""
        self.stream.consumed(len(data))
        self._frames.feed(data)
        peer, channel, tell = self._channels.peer, self._channel, self._channels.board.tell
        try:
            for frame in self._frames:
                if not self.stream.open:
                    break  # dropped by who took the frame before
                tell(Received(peer, channel, frame))
        except Malformed:
            self.stream.reset()


class _Noticing(Mute):
    """A frame that wants no answer on a stream of its own."""

    def __init__(self, channels: Channels, frame: bytes) -> None:
        protocol = asking_protocol(Channel.DHT)
        assert protocol is not None
        super().__init__(channels.mux.open(proposal(protocol), self))
        self._until = trio.current_time() + channels.board.limits.exchange_ms / 1000
        self.stream.write(prefixed(frame))
        self.stream.finish()

    def late(self, now: float) -> None:
        if now >= self._until:
            self.stream.reset()


class _Asking(Mute):
    """A stream for exchanges of ours, one after the other."""

    def __init__(self, channels: Channels, channel: Channel) -> None:
        protocol = asking_protocol(channel)
        assert protocol is not None
        super().__init__(channels.mux.open(proposal(protocol), self))
        self.channel = channel
        self._channels = channels
        self._proposed: Proposed | None = Proposed(protocol)
        self._frames = Frames(FRAME_BYTES_MAX[channel])
        self._exchange = 0
        self._since = 0.0

    def ask(self, exchange: int, frame: bytes) -> None:
        self._exchange, self._since = exchange, trio.current_time()
        self.stream.write(prefixed(frame))

    def data(self, data: bytes) -> None:
        self.stream.consumed(len(data))
        try:
            if self._proposed is not None:
                rest = self._proposed.feed(data)
                if rest is None:
                    return
                self._proposed, data = None, rest
            self._frames.feed(data)
            answer = self._frames.pop()
        except (NotSpoken, Malformed):
            self._give_up()
            return
        if answer is not None:
            if not self._exchange or len(self._frames):
                self._give_up(answer)  # an answer that nobody asked for, or more than one
            else:
                self._settle(answer)

    def _settle(self, answer: bytes | None) -> None:
        exchange, self._exchange = self._exchange, 0
        self._since = trio.current_time()
        self._channels.settled(self, exchange, answer)

    def _give_up(self, answer: bytes | None = None) -> None:
        self.stream.reset()
        self.broken(answer)

    def ended(self) -> None:
        if self._exchange:
            self._give_up()
        else:
            self._channels.unpool(self)
            self.stream.finish()

    def broken(self, answer: bytes | None = None) -> None:
        if self._exchange:
            self._settle(answer)
        else:
            self._channels.unpool(self)

    def retire(self) -> None:
        """Close an idle stream in order; one whose peer does not close its side is reset later."""
        self.stream.finish()

    def late(self, now: float) -> None:
        limits = self._channels.board.limits
        if self._exchange:
            if now - self._since >= limits.exchange_ms / 1000:
                self._give_up()
        elif now - self._since >= limits.pooled_ms / 1000:
            self._channels.unpool(self)
            if now - self._since >= limits.exchange_ms / 1000:
                self.stream.reset()
            else:
                self.retire()

    def stuck(self) -> None:
        self._channels.lost()


class Asked(Mute):
    """A peer's stream of exchanges: one request at a time, the next one when the answer has left.

    What comes behind it counts against the window until then: else small questions would pile up large answers.
    """

    def __init__(self, channels: Channels, stream: YamuxStream, channel: Channel) -> None:
        super().__init__(stream)
        self._channels, self._channel = channels, channel
        self._frames = Frames(FRAME_BYTES_MAX[channel])
        self._held = 0
        self._exchange = 0
        self._since = trio.current_time()

    def data(self, data: bytes) -> None:
        """Deliver a request once it is whole."""
        self._frames.feed(data)
        self._held += len(data)
        self._next_request()

    def _next_request(self) -> None:
        if self._exchange or self.stream.queued:
            return
        self.stream.consumed(self._held)
        self._held = 0
        try:
            request = self._frames.pop()
        except Malformed:
            self.stream.reset()
            return
        if request is not None:
            board, channel = self._channels.board, self._channel
            self._since = trio.current_time()
            self._exchange = -board.number()
            asked = self._channels.asked[channel]
            asked[self._exchange] = self
            if len(asked) > board.limits.asked:
                next(iter(asked.values())).drop()
            board.tell(Received(self._channels.peer, channel, request, self._exchange))
        elif self.stream.ended:
            self.stream.finish()

    def answer(self, frame: bytes) -> None:
        """Answer the request that is open."""
        del self._channels.asked[self._channel][self._exchange]
        self._exchange = 0
        self._since = trio.current_time()
        self.stream.write(prefixed(frame))

    def writable(self) -> None:
        """The answer has left."""
        self._next_request()

    def drop(self) -> None:
        """End the stream without an answer."""
        self.broken()
        self.stream.reset()

    def ended(self) -> None:
        """Finish too, once the last answer has left."""
        self._next_request()

    def broken(self) -> None:
        """Forget the request; an answer to it will go nowhere."""
        if self._exchange:
            del self._channels.asked[self._channel][self._exchange]
            self._exchange = 0

    def late(self, now: float) -> None:
        """End what neither asks nor is answered; the peer's own pool forgets its streams sooner."""
        if now - self._since >= self._channels.board.limits.exchange_ms / 1000:
            self.drop()

    def stuck(self) -> None:
        """Whoever does not take answers is not there."""
        self._channels.lost()
