"""A swarm in memory: a Swarm's promises without sockets, keys and bytes, for tests and for hosts under virtual time.

    post ──→ what waits at the other swarm's end of the link ──→ that swarm's task ──→ deliver

Nothing is lost on the way and nothing takes time but a turn of the scheduler; `Meeting.cut` and `Meeting.silence` break
links as the world would.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

import trio

from consensus.ids import NodeId
from node.libp2p.channels import asking_protocol
from node.libp2p.dialling import Backoff, Waiting
from node.libp2p.pipes import MemoryStream, stream_pair
from node.net.limits import FRAME_BYTES_MAX, SwarmLimits
from node.net.swarm import Deliver, Locate, PeerStream, Unreachable, Unwilling
from node.net.telling import Teller
from node.overlay.machine import Channel, Failed, PeerLost, PeerUp, Received, Send

Handler = Callable[[PeerStream], Awaitable[None]]
_ADDRESS: Final = bytes((0x89, 0x06))
"""/memory of the multiaddr table; eight bytes follow."""


class Meeting:
    """Where the swarms of one process meet; each runs under an address of its own."""

    def __init__(self) -> None:
        self._swarms: dict[bytes, MemorySwarm] = {}
        self._numbers = 0

    def swarm(self, me: NodeId, locate: Locate, rng: Random, limits: SwarmLimits | None = None) -> "MemorySwarm":
        """One more node's swarm."""
        return MemorySwarm(self, me, locate, rng, limits or SwarmLimits())

    def enter(self, swarm: "MemorySwarm") -> bytes:
        """Make a swarm one that can be dialled; its address."""
        self._numbers += 1
        address = _ADDRESS + self._numbers.to_bytes(8, "big")
        self._swarms[address] = swarm
        return address

    def leave(self, address: bytes) -> None:
        """Undo `enter`."""
        del self._swarms[address]

    def at(self, address: bytes) -> "MemorySwarm | None":
        """The swarm that runs under an address."""
        return self._swarms.get(address)

    def _ends(self, one: NodeId, other: NodeId) -> Iterator["_End"]:
        for swarm in self._swarms.values():
            for me, peer in ((one, other), (other, one)):
                if swarm.me == me and (end := swarm.links.get(peer)) is not None:
                    yield end

    def cut(self, one: NodeId, other: NodeId) -> None:
        """Break the link between two nodes; both notice."""
        for end in list(self._ends(one, other)):
            end.swarm.hang_up(end)

    def silence(self, one: NodeId, other: NodeId) -> None:
        """Let nothing more pass on the link between two nodes, and neither end be told."""
        for end in self._ends(one, other):
            end.silent = True


@dataclass(slots=True, eq=False)
class _End:
    """One swarm's end of a link."""

    swarm: "MemorySwarm"
    peer: NodeId
    dialled: bool
    heard: float
    other: "_End" = field(init=False)
    incoming: dict[Channel, deque[tuple[bytes | None, int]]] = field(
        default_factory=lambda: {channel: deque() for channel in Channel}
    )
    """Frames and exchanges: above 0 the peer's question, below 0 its answer to ours, None for one that was refused."""
    asking: dict[tuple[Channel, int], float] = field(default_factory=dict)
    """Our exchanges, and since when."""
    asked: dict[Channel, dict[int, tuple[int, float]]] = field(
        default_factory=lambda: {channel: {} for channel in Channel}
    )
    """The peer's exchanges, by our numbers, and since when."""
    streams: list[MemoryStream] = field(default_factory=list)
    serving: dict[str, int] = field(default_factory=dict)
    silent: bool = False
    gone: bool = False
    """The peer has hung up; what came before is still to be taken."""
    up: bool = False
    """Whether the host knows, or will."""
    received: int = 0
    sent: int = 0

    def count(self, sent: int) -> None:
        """Note bytes of a stream that we have sent."""
        self.sent += sent
        self.other.received += sent

    def send(self, channel: Channel, frame: bytes | None, exchange: int) -> None:
        """Put something at the other end; there the oldest gives way when too much waits."""
        other = self.other
        self.sent += len(frame or b"")
        if self.silent or other.swarm.links.get(other.peer) is not other:
            return
        waiting = other.incoming[channel]
        waiting.append((frame, exchange))
        if len(waiting) > self.swarm.limits.queue_frames:
            _, oldest = waiting.popleft()
            if oldest > 0:
                other.refuse(channel, oldest)
        other.swarm.notice(other)

    def refuse(self, channel: Channel, exchange: int) -> None:
        """Leave a question of the peer's unanswered, and say so."""
        self.send(channel, None, -exchange)


class MemorySwarm:
    """A Swarm (node.net.swarm); made by `Meeting.swarm`."""

    def __init__(self, meeting: Meeting, me: NodeId, locate: Locate, rng: Random, limits: SwarmLimits) -> None:
        self.me, self.limits = me, limits
        self.links: dict[NodeId, _End] = {}
        self._meeting, self._locate = meeting, locate
        self._backoff = Backoff(limits, rng)
        self._dials: dict[NodeId, Waiting] = {}
        self._handlers: dict[str, tuple[Handler, int]] = {}
        self._teller = Teller()
        self._noticed: dict[_End, None] = {}
        self._woken = trio.Event()
        self._numbers = 0
        self._nursery: trio.Nursery | None = None

    # What the host calls

    async def run(self, deliver: Deliver, *, task_status: "trio.TaskStatus[tuple[bytes, ...]]") -> None:
        """Listen and carry until cancelled, then close everything; starts with the addresses that we are met under."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._teller.run, deliver)
            self._nursery = nursery
            address = self._meeting.enter(self)
            try:
                nursery.start_soon(self._look)
                task_status.started((address,))
                await self._carry()
            finally:
                self._nursery = None
                self._meeting.leave(address)
                for end in list(self.links.values()):
                    self.hang_up(end)

    def post(self, send: Send) -> None:
        """Have a frame sent, or what `machine.Send` promises instead; without effect before `run` and after it."""
        if self._nursery is None:
            return
        with self._teller:
            if (end := self.links.get(send.peer)) is not None:
                self._post(end, send)
            elif send.exchange >= 0:
                dial = self._dial(send.peer)
                for refused in [send] if dial is None else dial.add(send):
                    self._fail(refused)

    def drop(self, peer: NodeId, reason: str) -> None:
        """Close the connection to a peer; none is no error."""
        del reason
        with self._teller:
            unheard = self._teller.unsay(peer)
            if (end := self.links.get(peer)) is not None:
                end.up = end.up and not unheard
                self.hang_up(end)

    async def open_stream(self, peer: NodeId, protocol: str) -> PeerStream:
        """A stream to a peer, dialled if need be; raises Unreachable and Unwilling."""
        await trio.lowlevel.checkpoint()
        if self._nursery is None:
            raise Unreachable("the swarm does not run")
        if peer not in self.links:
            dial = self._dial(peer)
            if dial is None:
                raise Unreachable("the peer could not be reached a moment ago, or too many are being dialled")
            await dial.decided.wait()
            if peer not in self.links:
                raise dial.failure or Unreachable("the connection was lost at once")
        end = self.links[peer]
        return end.other.swarm.serve(end.other, protocol)

    def serve_streams(self, protocol: str, handler: Handler, most_a_peer: int) -> None:
        """Handle what peers open under a protocol; to be called before `run`. More than that at once are reset."""
        if self._nursery is not None:
            raise RuntimeError(f"{protocol} has to be served before the swarm runs")
        self._handlers[protocol] = handler, most_a_peer

    def traffic(self) -> dict[NodeId, tuple[int, int]]:
        """Of each connected peer, bytes received and sent on its connection so far."""
        return {peer: (end.received, end.sent) for peer, end in self.links.items()}

    # Links

    def _dial(self, peer: NodeId) -> Waiting | None:
        dial = self._dials.get(peer)
        if dial is None:
            full = len(self._dials) >= self.limits.waiting_peers
            if self._nursery is None or full or peer == self.me or self._backoff.blocks(peer, trio.current_time()):
                return None
            dial = self._dials[peer] = Waiting(self.limits)
            self._nursery.start_soon(self._run_dial, peer, dial)
        return dial

    async def _run_dial(self, peer: NodeId, dial: Waiting) -> None:
        await trio.lowlevel.checkpoint()
        if peer not in self.links:
            try:
                self._join(self._find(peer), peer)
            except (Unreachable, Unwilling) as failure:
                dial.failure = failure
                self._backoff.failed(peer, trio.current_time())
        self._decide(peer)

    def _find(self, peer: NodeId) -> "MemorySwarm":
        failure: Unreachable | Unwilling = Unreachable("no address of the peer is known that can be dialled")
        for address in list(self._locate(peer))[: self.limits.addresses]:
            found = self._meeting.at(address)
            if found is None:
                failure = Unreachable("nobody answers there")
            elif found.me != peer:
                failure = Unwilling("another node than the one that was looked for")
            elif len(found.links) >= found.limits.connections:
                failure = Unreachable("the connection ended within its handshake")
            else:
                return found
        raise failure

    def _join(self, found: "MemorySwarm", peer: NodeId) -> None:
        now = trio.current_time()
        ours, theirs = _End(self, peer, True, now), _End(found, self.me, False, now)
        ours.other, theirs.other = theirs, ours
        for end in (ours, theirs):
            if (before := end.swarm.links.get(end.peer)) is not None:  # lost unnoticed
                end.swarm.hang_up(before)
            end.swarm.links[end.peer] = end
            end.swarm._backoff.succeeded(end.peer)
            end.swarm.notice(end)
        found._decide(self.me)

    def _decide(self, peer: NodeId) -> None:
        dial = self._dials.pop(peer, None)
        if dial is not None:
            dial.decided.set()
            end = self.links.get(peer)
            for send in dial.frames:
                if end is None:
                    self._fail(send)
                else:
                    self._post(end, send)

    def hang_up(self, end: _End) -> None:
        """Close our end; the other one learns of it, unless nothing passes any more."""
        if self.links.get(end.peer) is not end:
            return
        del self.links[end.peer]
        self._noticed.pop(end, None)
        for stream in end.streams:
            stream.break_off()
        for channel, exchange in end.asking:
            self._teller.tell(Failed(end.peer, channel, exchange))
        if end.up:
            self._teller.tell(PeerLost(end.peer))
        if not end.silent:
            end.other.gone = True
            end.other.swarm.notice(end.other)

    async def _look(self) -> None:
        limits = self.limits
        while True:
            await trio.sleep(limits.look_ms / 1000)
            now = trio.current_time()
            for end in list(self.links.values()):
                if not end.silent:
                    end.heard = now
                elif now - end.heard >= limits.dead_after_ms / 1000:
                    self.hang_up(end)
                    continue
                since = now - limits.exchange_ms / 1000
                for key in [key for key, at in end.asking.items() if at <= since]:
                    del end.asking[key]
                    self._teller.tell(Failed(end.peer, *key))
                for asked in end.asked.values():
                    for number in [number for number, (_, at) in asked.items() if at <= since]:
                        del asked[number]

    # Frames

    def _fail(self, send: Send) -> None:
        if send.exchange > 0:
            self._teller.tell(Failed(send.peer, send.channel, send.exchange))

    def _post(self, end: _End, send: Send) -> None:
        _, channel, frame, exchange = send
        if exchange > 0:
            if asking_protocol(channel) is None:
                self._fail(send)
                return
            of_channel = [key for key in end.asking if key[0] is channel]
            if len(of_channel) >= self.limits.asking:
                del end.asking[of_channel[0]]
                self._teller.tell(Failed(end.peer, *of_channel[0]))
            end.asking[channel, exchange] = trio.current_time()
        elif exchange < 0:
            found = end.asked[channel].pop(exchange, None)
            if found is None:
                return
            exchange = -found[0]
        end.send(channel, frame, exchange)

    def notice(self, end: _End) -> None:
        """Have what waits at an end taken soon."""
        self._noticed[end] = None
        self._woken.set()

    async def _carry(self) -> None:
        while True:
            while self._noticed:
                end = next(iter(self._noticed))
                del self._noticed[end]
                if self.links.get(end.peer) is end:
                    self._take(end)
            self._woken = trio.Event()
            await self._woken.wait()

    def _take(self, end: _End) -> None:
        if not end.up:
            end.up = True
            self._teller.tell(PeerUp(end.peer, end.dialled))
        for channel, waiting in end.incoming.items():
            while waiting and self.links.get(end.peer) is end:
                frame, exchange = waiting.popleft()
                end.received += len(frame or b"")
                self._receive(end, channel, frame, exchange)
        if end.gone:
            self.hang_up(end)

    def _receive(self, end: _End, channel: Channel, frame: bytes | None, exchange: int) -> None:
        tell, peer = self._teller.tell, end.peer
        if frame is not None and len(frame) > FRAME_BYTES_MAX[channel]:
            frame = None
        if exchange < 0:
            if end.asking.pop((channel, -exchange), None) is not None:
                tell(Failed(peer, channel, -exchange) if frame is None else Received(peer, channel, frame, -exchange))
        elif frame is None:
            if exchange:
                end.refuse(channel, exchange)
        elif not exchange:
            tell(Received(peer, channel, frame))
        else:
            asked = end.asked[channel]
            self._numbers += 1
            asked[-self._numbers] = exchange, trio.current_time()
            if len(asked) > self.limits.asked:
                oldest = next(iter(asked))
                end.refuse(channel, asked.pop(oldest)[0])
            tell(Received(peer, channel, frame, -self._numbers))

    # Streams

    def serve(self, end: _End, protocol: str) -> MemoryStream:
        """Have a stream of the peer's handled; the peer's end of it. Raises Unwilling and Unreachable."""
        if protocol not in self._handlers:
            raise Unwilling(f"the peer does not speak {protocol}")
        handler, most = self._handlers[protocol]
        if self._nursery is None or end.silent or end.serving.get(protocol, 0) >= most:
            raise Unreachable("the stream broke before the peer took it")
        theirs, ours = stream_pair(self.me, end.peer, (end.other.count, end.count))
        for of, stream in ((end, ours), (end.other, theirs)):
            of.streams = [stream, *(other for other in of.streams if not other.over)]
        end.serving[protocol] = end.serving.get(protocol, 0) + 1
        self._nursery.start_soon(self._serve, end, protocol, handler, ours)
        return theirs

    async def _serve(self, end: _End, protocol: str, handler: Handler, stream: MemoryStream) -> None:
        try:
            await handler(stream)
        except Unreachable:
            pass  # the stream is gone, and with it whatever the handler was about
        finally:
            end.serving[protocol] -= 1
            stream.end()
