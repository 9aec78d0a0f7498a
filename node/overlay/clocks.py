"""How far this node's clock is from its peers': asked of them, since NTP is UDP and clearnet.

    each ROUND: to at most 16 admitted peers   "" ──→   ←── their time, u64 in ms     offset = theirs − ours − RTT/2

The median of the answers is what the host turns its clock by, slowly. Of fewer than three answers the Server's rules alone; without
it, and while the median is over five seconds, this node neither proposes nor votes. A slow answer is none.

Source: CONSENSUS §6.
"""

from collections.abc import Callable, Mapping
from statistics import median_low
from typing import TYPE_CHECKING, Final, NamedTuple

from consensus.ids import Millis, NodeId
from consensus.registry import Member
from consensus.replica import ConsensusReplica
from node.overlay.agreement import Agreement
from node.overlay.logs import Out
from node.overlay.machine import Channel, Noted, Rejected, Send, SetTimer, TimerKey

if TYPE_CHECKING:
    from random import Random

FRAME_BYTES: Final = 8
ROUND_MS: Final = 600_000
"""Or an HOUR, where that is shorter."""
ASKED: Final = 16
RTT_MS_MAX: Final = 4_000
ENOUGH: Final = 3
OFFSET_MS_MAX: Final = 5_000
ASK: Final[TimerKey] = ("clocks", "ask")
WEIGH: Final[TimerKey] = ("clocks", "weigh")


class ClockOffset(NamedTuple):
    """Fact: by how many ms the peers' clocks are ahead of ours, as so many of them say; None if too few do."""

    offset: Millis | None
    samples: int


class Clocks:
    """One node's view of its peers' clocks; `offset` is None until it is known."""

    def __init__(self, me: NodeId, rng: "Random", agreement: Agreement, next_exchange: Callable[[], int]) -> None:
        self._me, self._rng, self._agreement, self._next_exchange = me, rng, agreement, next_exchange
        self._up: dict[NodeId, None] = {}
        self._asked: dict[int, tuple[NodeId, Millis]] = {}
        self._samples: dict[NodeId, int] = {}
        self.offset: Millis | None = None
        self.samples = 0
        """Peers behind the offset."""
        self._judge()

    @property
    def _replica(self) -> ConsensusReplica:
        return self._agreement.replica

    def start(self, now: Millis) -> list[Out]:
        """The first actions; called once, before anything else."""
        return self._again(now)

    def on_peer_up(self, now: Millis, peer: NodeId) -> list[Out]:
        """A peer is connected: while too few have told their time, it is asked at once."""
        self._up[peer] = None
        if self.samples >= ENOUGH or peer not in self._admitted():
            return []
        return [self._ask(now, peer), _weigh_later(now)]

    def on_peer_lost(self, peer: NodeId) -> None:
        """A peer is gone."""
        self._up.pop(peer, None)

    def on_failed(self, exchange: int) -> None:
        """An exchange of ours will not be answered."""
        self._asked.pop(exchange, None)

    def on_timer(self, now: Millis, key: TimerKey) -> list[Out]:
        """It is time to ask, or to make something of the answers."""
        return self._round(now) if key == ASK else self._weigh()

    def on_frame(self, now: Millis, peer: NodeId, frame: bytes, exchange: int) -> list[Out]:
        """The question for our time, or an answer to ours."""
        if exchange < 0 and not frame:
            return [Send(peer, Channel.CLOCK, now.to_bytes(FRAME_BYTES, "big"), exchange)]
        known = self._asked.get(exchange)
        if known is None or known[0] != peer or len(frame) != FRAME_BYTES:
            return [Noted(Rejected(peer, "a time that nobody asked for, or none"))]
        del self._asked[exchange]
        sent = known[1]
        if now - sent <= RTT_MS_MAX:
            self._samples[peer] = int.from_bytes(frame, "big") - (sent + now) // 2
        return []

    def _again(self, now: Millis) -> list[Out]:
        params = self._replica.params
        # Answers have to be weighed before they are forgotten, however short the HOURs are.
        return [SetTimer(ASK, Millis(now + max(3 * RTT_MS_MAX, min(ROUND_MS, params.slot_ms * params.hour_slots))))]

    def _round(self, now: Millis) -> list[Out]:
        """Begin anew: what was heard in the last round was of a clock that was turned since."""
        self._samples, self._asked = {}, {}
        admitted, server = self._admitted(), self._replica.law.server
        there = [peer for peer in self._up if peer in admitted]
        chosen = {server, *self._rng.sample(there, min(ASKED, len(there)))}
        return [*self._again(now), _weigh_later(now), *(self._ask(now, peer) for peer in there if peer in chosen)]

    def _ask(self, now: Millis, peer: NodeId) -> Out:
        exchange = self._next_exchange()
        self._asked[exchange] = peer, now
        return Send(peer, Channel.CLOCK, b"", exchange)

    def _admitted(self) -> Mapping[NodeId, Member]:
        return self._replica.next()[0].checkpoint.registry.members

    def _weigh(self) -> list[Out]:
        """What the answers of this round come to."""
        said, server = self._samples, self._replica.law.server
        if len(said) < ENOUGH:
            said = {node: offset for node, offset in said.items() if node == server}
        self.samples = len(said)
        self.offset = Millis(median_low(said.values())) if said else None
        self._judge()
        return [Noted(ClockOffset(self.offset, self.samples))]

    def _judge(self) -> None:
        """Whether this node may propose and vote."""
        if self.offset is None:
            self._replica.is_on_time = self._me == self._replica.law.server
        else:
            self._replica.is_on_time = abs(self.offset) <= OFFSET_MS_MAX


def _weigh_later(now: Millis) -> Out:
    """When every answer that counts is there."""
    return SetTimer(WEIGH, Millis(now + RTT_MS_MAX + 1))
