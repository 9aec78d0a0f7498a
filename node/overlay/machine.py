"""The vocabulary of the peer machines: what happens to them, and what they want done.

    host or simulator ── Event ──→ machine.handle(now, event) ── Action, … ──→ host or simulator

A machine has no clock, no socket, no task and no randomness of its own: `now` is Unix milliseconds and never goes back,
rng, keys, parameters and limits are constructor arguments. It is bounded in everything it keeps. Rules that both sides
rely on:

* Timers are named; setting a name again replaces it. A timer that was cancelled or replaced never fires.
* The host posts a send and never awaits one; to a peer that is not connected it dials first and drops what waits too long.
* Within one step the host makes `Persist` durable before it releases a `Send`.
* Input that is invalid changes no state at all and yields one `Noted(Rejected(…))`.

An *exchange* is one request and its answer on a stream of their own, as libp2p's DHT speaks. The asker picks a number
above 0, unique among its own; the answer arrives with the same number. Who is asked sees it negative and answers with
that. Frames outside exchanges (0) travel on the one long-lived stream of their protocol, in order.

Source: DESIGN §3.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeAlias

from consensus.ids import Millis, NodeId

TimerKey: TypeAlias = tuple[str | int | bytes, ...]
"""The name of a timer; its first component names the part of the machine that set it."""


class Channel(StrEnum):
    """The protocols that peers speak, by their libp2p names."""

    GOSSIP = "/meshsub/1.1.0"
    DHT = "/lucid/kad/1.0.0"
    LOGS = "/lucid/logs/1"
    REPLICAS = "/lucid/replicas/1"
    BLOCKS = "/lucid/blocks/1"
    WITNESS = "/lucid/witness/1"
    CLOCK = "/lucid/clock/1"


class Received(NamedTuple):
    """A whole frame from a peer whose identity the transport has proven."""

    peer: NodeId
    channel: Channel
    frame: bytes
    exchange: int = 0


class Failed(NamedTuple):
    """An exchange of ours will not be answered: the peer is gone, refused the protocol or broke the stream off."""

    peer: NodeId
    channel: Channel
    exchange: int


class TimerFired(NamedTuple):
    """A timer that was set has come due."""

    key: TimerKey


class PeerUp(NamedTuple):
    """A peer is connected, whoever dialled; `dialled` tells that it was we."""

    peer: NodeId
    dialled: bool


class PeerLost(NamedTuple):
    """A peer is no longer connected."""

    peer: NodeId


class ClockStepped(NamedTuple):
    """The wall clock was set; `now` goes on from where it was and is slewed, deadlines in wall time move by delta ms."""

    delta: int


class Command(NamedTuple):
    """A request of the host's; `Finished` with the same call answers it. `order` is one of the parts' commands."""

    call: int
    order: object


Event: TypeAlias = Received | Failed | TimerFired | PeerUp | PeerLost | ClockStepped | Command


class Send(NamedTuple):
    """Post a frame to a peer; lost without notice when the peer cannot be reached, unless it opens an exchange."""

    peer: NodeId
    channel: Channel
    frame: bytes
    exchange: int = 0


class SetTimer(NamedTuple):
    """Fire `TimerFired(key)` at a time, in Unix milliseconds."""

    key: TimerKey
    at: Millis


class CancelTimer(NamedTuple):
    """Forget a timer; one that is not set is no error."""

    key: TimerKey


class Drop(NamedTuple):
    """Close the connection to a peer."""

    peer: NodeId
    reason: str


class Finished(NamedTuple):
    """The answer to a command."""

    call: int
    result: object


class Persist(NamedTuple):
    """Keep a record durably, or forget it (None); given back to the constructor at the next start."""

    table: str
    key: tuple[int | str | bytes, ...]
    value: bytes | None


class Rejected(NamedTuple):
    """Something a peer sent was invalid, and changed nothing."""

    peer: NodeId
    reason: str


class Unreadable(NamedTuple):
    """Fact: so many stored records were not understood, and are left for the peers to bring again."""

    records: int


class Noted(NamedTuple):
    """A fact for logs, counters and the simulator's checks: `Rejected`, `Unreadable` or one of the parts' own facts."""

    fact: object


Action: TypeAlias = Send | SetTimer | CancelTimer | Drop | Finished | Persist | Noted


class Machine(Protocol):
    """Everything that can be run by node/net/host and by netsim/world."""

    def start(self, now: Millis) -> Sequence[Action]:
        """The first actions; called once, before any event."""

    def handle(self, now: Millis, event: Event) -> Sequence[Action]:
        """What the event leads to; the only way in after `start`."""


class Verify(Protocol):
    """Checks an Ed25519 signature over bytes that already carry their domain; the simulator answers from a cache."""

    def __call__(self, public: bytes, signature: bytes, message: bytes) -> bool:
        """Whether the signature is the key's."""
