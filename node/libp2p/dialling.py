"""Whom to dial and when: addresses that the transport handles and no others, and patience with peers that do not answer.

The gate stands before everything that could look an address up: a peer that advertises a name on the clear net causes no
query for it, since no module of ours knows how to make one. Source: findings/net.md §1, B and G.
"""

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

import trio

from consensus.ids import NodeId
from node.libp2p.connection import SealedStream, agree_on_yamux
from node.net.limits import SwarmLimits
from node.net.swarm import Locate, Transport, Unreachable, Unwilling
from node.overlay.machine import Send

if TYPE_CHECKING:
    from node.libp2p.secure import Identity


class Backoff:
    """After each failure in a row a peer is left alone for twice as long, give or take a quarter; bounded."""

    def __init__(self, limits: SwarmLimits, rng: Random) -> None:
        self._limits, self._rng = limits, rng
        self._failed: dict[NodeId, tuple[int, float]] = {}

    def blocks(self, peer: NodeId, now: float) -> bool:
        """Whether the peer is to be left alone still; now in trio's seconds."""
        entry = self._failed.get(peer)
        return entry is not None and now < entry[1]

    def failed(self, peer: NodeId, now: float) -> None:
        """Count a failure."""
        count, _ = self._failed.pop(peer, (0, 0.0))
        limits = self._limits
        wait = min(limits.backoff_most_ms, limits.backoff_ms << min(count, 30)) / 1000
        self._failed[peer] = count + 1, now + wait * self._rng.uniform(0.75, 1.25)
        if len(self._failed) > limits.failed_peers:
            del self._failed[next(iter(self._failed))]

    def succeeded(self, peer: NodeId) -> None:
        """Forget the failures."""
        self._failed.pop(peer, None)


class Waiting:
    """What waits for the dial to one peer: frames, and whoever wants to know how it ended."""

    def __init__(self, limits: SwarmLimits) -> None:
        self.scope = trio.CancelScope()
        self.decided = trio.Event()
        self.failure: Unreachable | Unwilling | None = None
        self.frames: deque[Send] = deque()
        self._bytes = 0
        self._limits = limits

    def add(self, send: Send) -> list[Send]:
        """Have a frame wait; those that have to give way, the oldest first."""
        self.frames.append(send)
        self._bytes += len(send.frame)
        gone = []
        while len(self.frames) > self._limits.queue_frames or self._bytes > self._limits.queue_bytes:
            gone.append(self.frames.popleft())
            self._bytes -= len(gone[-1].frame)
        return gone


class Dialler:
    """Turns a node into a proven stream to it."""

    def __init__(self, identity: "Identity", transport: Transport, locate: Locate, limits: SwarmLimits) -> None:
        self._identity, self._transport, self._locate, self._limits = identity, transport, locate, limits
        self._turns = trio.CapacityLimiter(limits.dials)

    def addresses(self, peer: NodeId) -> Sequence[bytes]:
        """Those of the peer's addresses that may be dialled, the most promising first."""
        handles = self._transport.handles
        return [address for address in self._locate(peer) if handles(address)][: self._limits.addresses]

    async def dial(self, peer: NodeId) -> tuple[SealedStream, bytes]:
        """A stream to the peer and what came on it already; raises Unreachable and Unwilling, each with its reason."""
        failure: Unreachable | Unwilling = Unreachable("no address of the peer is known that can be dialled")
        async with self._turns:
            for address in self.addresses(peer):
                try:
                    with trio.fail_after(self._limits.dial_ms / 1000):
                        return await self._reach(address, peer)
                except (Unreachable, Unwilling) as error:
                    failure = error
                except trio.TooSlowError:
                    failure = Unreachable("the peer did not answer in time")
        raise failure

    async def _reach(self, address: bytes, peer: NodeId) -> tuple[SealedStream, bytes]:
        stream = await self._transport.dial(address, peer)
        try:
            sealed = SealedStream(stream, await self._identity.secure_outbound(stream, peer))
            return sealed, await agree_on_yamux(sealed, dialled=True)
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
            raise
