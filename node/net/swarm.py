"""What the host asks of the network: a swarm of connections to peers, and the transport below it that carries bytes.

    host ── post, drop ──→ swarm ── dial, listen ──→ transport (tor, loopback)
         ←── deliver(event) ──                          bytes only, no identities

The swarm proves who a peer is, shares one connection among all channels, and speaks the machines' own vocabulary
(node.overlay.machine). Its promises, which one contract suite checks for every implementation:

* `post` never blocks and never raises. To a peer that is not connected it dials first; what waits is bounded, the oldest
  goes first, and a frame that opens an exchange and cannot be sent yields `Failed`.
* Frames of one channel to one peer arrive in order. An exchange is a stream of its own and ends by one answer, by
  `Failed`, or by the asker's deadline; who is asked sees its number negative.
* `PeerUp` comes before the first frame of a peer, `PeerLost` after the last, once each, and every exchange of ours that
  was open yields `Failed` before it. Two connections between the same two nodes count as one.
* `drop` closes at once; nothing of that peer is delivered after it but `Failed` and `PeerLost`.
* A peer that says nothing for `dead_after_ms` is lost: Tor often hides the end of a connection.
* What a peer can make the swarm hold is bounded: connections, streams, frames, bytes, handshakes under way.

Source: DESIGN §3, §4; findings/net.md §1.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from consensus.ids import NodeId
from node.overlay.machine import Event, Send

if TYPE_CHECKING:
    import trio

Deliver: TypeAlias = Callable[[Event], None]
"""Takes an event at once; called from the swarm's own tasks, one at a time, between two checkpoints."""

Locate: TypeAlias = Callable[[NodeId], Sequence[bytes]]
"""The binary multiaddrs under which a peer may be met, the most promising first; empty when none is known."""


class Unreachable(Exception):
    """The peer cannot be reached now: no address is known, nobody answers there, or it refuses what was asked."""


class Unwilling(Exception):
    """The peer could be reached, and is not who was looked for or does not speak the protocol; again will not help."""


class Transport(Protocol):
    """A way for bytes to travel; it knows addresses, not peers."""

    def handles(self, address: bytes) -> bool:
        """Whether this transport can dial a binary multiaddr; all others are never dialled and never resolved."""

    async def dial(self, address: bytes, isolation: bytes) -> "trio.abc.Stream":
        """A stream to an address, one that shares no circuit with other isolations; raises Unreachable, in time."""

    async def listen(
        self,
        accept: Callable[["trio.abc.Stream"], Awaitable[None]],
        *,
        task_status: "trio.TaskStatus[tuple[bytes, ...]]",
    ) -> None:
        """Serve until cancelled, each stream in a task of its own; starts with the addresses under which we are met."""


class PeerStream(Protocol):
    """A byte stream to a peer under a protocol of our own, beside the channels: bulk goes here."""

    @property
    def peer(self) -> NodeId:
        """Who is at the other end; proven."""

    async def read(self, most: int) -> bytes:
        """1 to most bytes; b"" at the end. Raises Unreachable when the connection is gone."""

    async def write(self, data: bytes) -> None:
        """Send all of it, slowly when the reader is slow; raises Unreachable when the connection is gone."""

    async def close_writing(self) -> None:
        """Say that no more comes; reading goes on."""

    async def aclose(self) -> None:
        """End it, both ways."""


class Swarm(Protocol):
    """All connections of one node."""

    async def run(self, deliver: Deliver, *, task_status: "trio.TaskStatus[tuple[bytes, ...]]") -> None:
        """Listen and carry until cancelled, then close everything; starts with the addresses that we are met under."""

    def post(self, send: Send) -> None:
        """Have a frame sent, or what `machine.Send` promises instead; without effect before `run` and after it."""

    def drop(self, peer: NodeId, reason: str) -> None:
        """Close the connection to a peer; none is no error."""

    async def open_stream(self, peer: NodeId, protocol: str) -> PeerStream:
        """A stream to a peer, dialled if need be; raises Unreachable and Unwilling."""

    def serve_streams(self, protocol: str, handler: Callable[[PeerStream], Awaitable[None]], most_a_peer: int) -> None:
        """Handle what peers open under a protocol; to be called before `run`. More than that at once are reset."""

    def traffic(self) -> dict[NodeId, tuple[int, int]]:
        """Of each connected peer, bytes received and sent on its connection so far."""
