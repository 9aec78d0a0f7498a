"""The swarm of the daemon: libp2p's protocols over any transport, one connection to a peer, whoever dialled.

    post ──→ connected? ── channels of the connection ──→ yamux ──→ noise ──→ transport
                 └ no ──→ waits for a dial, or for the peer's own                        Dialler, Backoff
    transport ──→ proven who it is ──→ up ──→ streams: a channel, bulk, ping, identify ──→ deliver

Two nodes that dial each other at once must settle on one connection: the dial of the lower NodeId counts. So the lower one
lets the other's dial wait until its own is decided, and the higher one takes the other's and gives its own up. Apart from
that nobody dials a peer that is connected; whoever does has lost the connection unnoticed, and the new one replaces it.
Source: DESIGN §4; findings/net.md §1.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

import trio

from consensus.ids import NodeId
from consensus.signing import KeyPair
from node.libp2p.bulk import BulkStream
from node.libp2p.channels import ASKED, HEARD, Asked, Channels, Mute, Switchboard
from node.libp2p.connection import Connection, SealedStream, agree_on_yamux
from node.libp2p.dialling import Backoff, Dialler, Waiting
from node.libp2p.framing import prefixed
from node.libp2p.identify import identify
from node.libp2p.reception import IDENTIFY, PING, Echo, Reception
from node.libp2p.secure import Identity
from node.libp2p.yamux import Listener, YamuxStream
from node.net.limits import SwarmLimits
from node.net.swarm import Deliver, Locate, PeerStream, Transport, Unreachable, Unwilling
from node.net.telling import Teller
from node.overlay.machine import Failed, PeerLost, PeerUp, Send

Handler = Callable[[PeerStream], Awaitable[None]]


@dataclass(slots=True)
class _Link:
    connection: Connection
    channels: Channels
    serving: dict[str, int] = field(default_factory=dict)
    """Of each bulk protocol, how many of the peer's streams are being handled."""
    said: bool = True
    """Whether the host knows, or will, that the peer is up."""


class Libp2pSwarm:
    """A Swarm (node.net.swarm). `rng` spreads the back-off."""

    def __init__(
        self, keys: KeyPair, transport: Transport, locate: Locate, rng: Random, limits: SwarmLimits | None = None
    ) -> None:
        self.me = NodeId(keys.public)
        self.limits = limits = limits or SwarmLimits()
        self._keys, self._identity, self._transport = keys, Identity(keys), transport
        self._dialler, self._backoff = Dialler(self._identity, transport, locate, limits), Backoff(limits, rng)
        self._handlers: dict[str, tuple[Handler, int]] = {}
        self._links: dict[NodeId, _Link] = {}
        self._dials: dict[NodeId, Waiting] = {}
        self._proving: dict[trio.CancelScope, None] = {}
        self._numbers = 0
        self._teller = Teller()
        self._board = Switchboard(limits, self._teller.tell, self._number)
        self._nursery: trio.Nursery | None = None
        self._identified = b""

    # ------------------------------------------------------------------ what the host calls

    async def run(self, deliver: Deliver, *, task_status: "trio.TaskStatus[tuple[bytes, ...]]") -> None:
        """Listen and carry until cancelled, then close everything; starts with the addresses that we are met under."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._teller.run, deliver)
            self._nursery = nursery
            try:
                addresses = await nursery.start(self._transport.listen, self._accept)
                protocols = dict.fromkeys([*HEARD, *ASKED, *self._handlers, PING, IDENTIFY])
                self._identified = prefixed(identify(self._keys, addresses, list(protocols), time.time_ns()))
                nursery.start_soon(self._look)
                task_status.started(addresses)
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def post(self, send: Send) -> None:
        """Have a frame sent, or what `machine.Send` promises instead; without effect before `run` and after it."""
        if self._nursery is None:
            return
        with self._teller:
            link = self._links.get(send.peer)
            if link is not None:
                link.channels.post(send)
            elif send.exchange >= 0:
                dial = self._dial(send.peer)
                for refused in [send] if dial is None else dial.add(send):
                    self._fail(refused)

    def drop(self, peer: NodeId, reason: str) -> None:
        """Close the connection to a peer; none is no error."""
        del reason
        with self._teller:
            unheard = self._teller.unsay(peer)
            if (link := self._links.get(peer)) is not None:
                link.said = link.said and not unheard
                link.connection.close()

    async def open_stream(self, peer: NodeId, protocol: str) -> PeerStream:
        """A stream to a peer, dialled if need be; raises Unreachable and Unwilling."""
        link = await self._linked(peer)
        bulk = BulkStream.ours(link.connection.mux, peer, protocol, self.limits.linger_ms / 1000)
        try:
            with trio.fail_after(self.limits.negotiation_ms / 1000):
                await bulk.agreed()
        except trio.TooSlowError:
            bulk.stuck()
            raise Unreachable("the peer did not say in time whether it takes the stream") from None
        except BaseException:
            bulk.stuck()
            raise
        return bulk

    def serve_streams(self, protocol: str, handler: Handler, most_a_peer: int) -> None:
        """Handle what peers open under a protocol; to be called before `run`. More than that at once are reset."""
        if self._nursery is not None:
            raise RuntimeError(f"{protocol} has to be served before the swarm runs")
        self._handlers[protocol] = handler, most_a_peer

    def traffic(self) -> dict[NodeId, tuple[int, int]]:
        """Of each connected peer, bytes received and sent on its connection so far."""
        return {peer: link.connection.traffic for peer, link in self._links.items()}

    # ------------------------------------------------------------------ connections

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _fail(self, send: Send) -> None:
        if send.exchange > 0:
            self._teller.tell(Failed(send.peer, send.channel, send.exchange))

    async def _linked(self, peer: NodeId) -> _Link:
        if self._nursery is None:
            raise Unreachable("the swarm does not run")
        await trio.lowlevel.checkpoint()
        if peer not in self._links:
            with self._teller:
                dial = self._dial(peer)
            if dial is None:
                raise Unreachable("the peer could not be reached a moment ago, or too many are being dialled")
            await dial.decided.wait()
            if peer not in self._links:
                raise dial.failure or Unreachable("the connection was lost at once")
        return self._links[peer]

    def _dial(self, peer: NodeId) -> Waiting | None:
        """The dial to a peer that is under way, begun if need be; None: not now."""
        dial = self._dials.get(peer)
        if dial is None:
            full = len(self._dials) >= self.limits.waiting_peers
            if self._nursery is None or full or peer == self.me or self._backoff.blocks(peer, trio.current_time()):
                return None
            dial = self._dials[peer] = Waiting(self.limits)
            self._nursery.start_soon(self._run_dial, peer, dial)
        return dial

    async def _run_dial(self, peer: NodeId, dial: Waiting) -> None:
        reached: tuple[SealedStream, bytes] | None = None
        with dial.scope:
            try:
                reached = await self._dialler.dial(peer)
            except (Unreachable, Unwilling) as failure:
                dial.failure = failure
                self._backoff.failed(peer, trio.current_time())
        if reached is not None and peer not in self._links:
            await self._carry(*reached, dialled=True)
        elif reached is not None:
            await reached[0].aclose()
        if self._dials.get(peer) is dial:  # else the peer's own dial was quicker
            self._decide(peer)

    def _decide(self, peer: NodeId) -> None:
        """The dial to a peer is over: what waited for it is sent, or fails."""
        dial = self._dials.pop(peer, None)
        if dial is not None:
            dial.scope.cancel()
            dial.decided.set()
            link = self._links.get(peer)
            for send in dial.frames:
                if link is None or link.connection.closed:
                    self._fail(send)
                else:
                    link.channels.post(send)

    async def _accept(self, stream: trio.abc.Stream) -> None:
        limits = self.limits
        if len(self._links) >= limits.connections:
            await trio.aclose_forcefully(stream)
            return
        if len(self._proving) >= limits.handshakes:
            oldest = next(iter(self._proving))
            del self._proving[oldest]
            oldest.cancel()
        scope = trio.CancelScope(deadline=trio.current_time() + limits.handshake_ms / 1000)
        self._proving[scope] = None
        proven: tuple[SealedStream, bytes] | None = None
        try:
            with scope:
                proven = await self._prove(stream)
        except (Unreachable, Unwilling):
            pass
        finally:
            self._proving.pop(scope, None)
            if proven is None:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(stream)
        if proven is not None:
            await self._carry(*proven, dialled=False)

    async def _prove(self, stream: trio.abc.Stream) -> tuple[SealedStream, bytes] | None:
        """Who dialled us; None if it is not to become a connection."""
        sealed = SealedStream(stream, await self._identity.secure_inbound(stream))
        peer = sealed.peer
        if peer == self.me:
            return None
        if self.me < peer and (dial := self._dials.get(peer)) is not None:
            await dial.decided.wait()
        early = await agree_on_yamux(sealed, dialled=False)
        link = self._links.get(peer)
        if link is None:
            return (sealed, early) if len(self._links) < self.limits.connections else None
        age = trio.current_time() - link.connection.born
        if self.me < peer and link.connection.dialled and age < self.limits.handshake_ms / 1000:
            return None  # both dialled at once, and ours counts
        link.connection.close()
        return sealed, early

    async def _carry(self, sealed: SealedStream, early: bytes, *, dialled: bool) -> None:
        peer = sealed.peer
        connection = Connection(sealed, early, self.limits, self._opened, self._closed, dialled=dialled)
        self._links[peer] = _Link(connection, Channels(connection.mux, peer, self._board, connection.close))
        self._backoff.succeeded(peer)
        self._teller.tell(PeerUp(peer, dialled))
        self._decide(peer)
        await connection.run()

    def _closed(self, connection: Connection) -> None:
        link = self._links.get(connection.peer)
        if link is not None and link.connection is connection:
            del self._links[connection.peer]
            link.channels.close()
            if link.said:
                self._teller.tell(PeerLost(connection.peer))

    async def _look(self) -> None:
        while True:
            await trio.sleep(self.limits.look_ms / 1000)
            now = trio.current_time()
            for link in list(self._links.values()):
                link.connection.look(now)

    # ------------------------------------------------------------------ streams that peers open

    def _opened(self, connection: Connection, stream: YamuxStream) -> None:
        link = self._links[connection.peer]

        def settle(stream: YamuxStream, name: str) -> Listener | None:
            return self._settle(link, stream, name)

        stream.listener = Reception(stream, self, settle, self.limits.negotiation_ms)

    def __contains__(self, protocol: object) -> bool:
        """Whether a protocol is spoken here."""
        return protocol in HEARD or protocol in ASKED or protocol in self._handlers or protocol in {PING, IDENTIFY}

    def _settle(self, link: _Link, stream: YamuxStream, name: str) -> Listener | None:
        """Who takes a stream over, by its protocol; None: nobody can now."""
        if name in HEARD:
            return link.channels.hear(stream, HEARD[name])
        if name in ASKED:
            return Asked(link.channels, stream, ASKED[name])
        if name == PING:
            return Echo(stream)
        if name == IDENTIFY:
            stream.write(self._identified)
            stream.finish()
            return Mute(stream)
        handler, most = self._handlers[name]
        if self._nursery is None or link.serving.get(name, 0) >= most:
            return None
        bulk = BulkStream.theirs(stream, link.connection.peer, self.limits.linger_ms / 1000)
        link.serving[name] = link.serving.get(name, 0) + 1
        self._nursery.start_soon(self._serve, link, name, handler, bulk)
        return bulk

    async def _serve(self, link: _Link, name: str, handler: Handler, bulk: BulkStream) -> None:
        try:
            await handler(bulk)
        except Unreachable:
            pass  # the stream is gone, and with it whatever the handler was about
        finally:
            link.serving[name] -= 1
            bulk.end()
