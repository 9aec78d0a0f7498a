"""The consensus as a part of a peer: the replica's wishes in the words of the overlay, and blocks for who catches up.

    gossip topics blocks · votes · beacons · admissions ──→ ConsensusReplica.hear        Spread ──→ Announce
    Channel.BLOCKS: a question ↔ an answer                                               FetchBlocks ──→ Send
    timers ("agreement", …)                                                                 Wake ──→ SetTimer

Where the execution layer is a process of its own, its questions are the host's: `Noted(ExecutePayload)`, answered by the
command `PayloadJudged`, and `Noted(BuildPayload)`, answered by `PayloadBuilt`. In simulations `StandIn` answers at once.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from blake3 import blake3

from consensus.block import Block
from consensus.encoding import Malformed
from consensus.ids import Digest, Millis, NodeId
from consensus.payload import PayloadTerms
from consensus.replica import ConsensusReplica
from consensus.report import SignedReport
from consensus.wishes import (
    BuildPayload,
    Doing,
    ExecutePayload,
    FetchBlocks,
    Heard,
    Keep,
    Spread,
    Told,
    Topic,
    Wake,
)
from node.overlay.logs import Announce, Out
from node.overlay.machine import Channel, Noted, Persist, Rejected, Send, SetTimer, TimerKey
from node.overlay.topics import Ruling

TOPICS: Final = {topic.value: topic for topic in Topic}
FRAME_BYTES_MAX: Final = (1 << 20) + 4_096
ASKED_MAX: Final = 256
READ_AT_START: Final = frozenset({"blocks", "branches", "journal"})
READ_LATER: Final = frozenset({"blocks", "chain", "credits", "handovers", "heights", "proof", "snapshot"})
"""Tables of the replica, all of whose rows it is given, and those of which it reads one when it needs it."""
RULINGS: Final = {Heard.ACCEPT: Ruling.ACCEPT, Heard.IGNORE: Ruling.IGNORE, Heard.REJECT: Ruling.REJECT}


class Execution(Protocol):
    """What the consensus asks of the execution layer."""

    def build(self, terms: PayloadTerms) -> tuple[Digest, bytes]:
        """A payload that keeps to its terms, and its name."""

    def is_valid(self, block: Block, terms: PayloadTerms) -> bool:
        """Whether a block's payload keeps to its terms."""


class StandIn:
    """An execution layer in which nothing happens: payloads are empty or opaque, and named by their BLAKE3."""

    def build(self, terms: PayloadTerms) -> tuple[Digest, bytes]:
        """An empty payload."""
        del terms
        return Digest(blake3(b"").digest()), b""

    def is_valid(self, block: Block, terms: PayloadTerms) -> bool:
        """Whether the header names the payload."""
        del terms
        return block.header.payload == blake3(block.body.payload).digest()


class PayloadJudged(NamedTuple):
    """Command: whether the payload of an `ExecutePayload` is valid and a part of the execution layer's tree; no answer."""

    call: int
    valid: bool


class PayloadBuilt(NamedTuple):
    """Command: what a `BuildPayload` asked for; no answer."""

    call: int
    name: Digest
    payload: bytes


class ProofFound(NamedTuple):
    """Command: the nonce of a proof of work that a `Prove` asked for; no answer."""

    call: int
    nonce: bytes


class Agreement:
    """One node's replica among the parts of a peer."""

    def __init__(
        self,
        replica: ConsensusReplica,
        execution: Execution | None,
        next_exchange: Callable[[], int],
    ) -> None:
        self.replica = replica
        self._execution = execution
        self._next_exchange = next_exchange
        self._asked: dict[int, NodeId] = {}
        self._up: dict[NodeId, None] = {}

    def start(self, now: Millis) -> list[Out]:
        """The first actions; called once, before anything else."""
        return self._done(now, self.replica.start(now))

    def on_heard(self, now: Millis, topic: str, peer: NodeId, data: bytes) -> tuple[Ruling, list[Out]]:
        """The ruling on a gossip message of one of TOPICS, and what follows; peer is who wrote it."""
        heard, doing = self.replica.hear(now, TOPICS[topic], data, peer)
        if heard is Heard.REJECT:
            return Ruling.REJECT, []  # which gossip notes, once, and of who sent it
        return RULINGS[heard], self._done(now, doing)

    def on_timer(self, now: Millis, key: TimerKey) -> list[Out]:
        """One of our timers."""
        rest: Any = key[1:]
        return self._done(now, self.replica.wake(now, rest))

    def on_peer_up(self, now: Millis, peer: NodeId) -> list[Out]:
        """A peer is connected: it may have blocks that we lack."""
        self._up[peer] = None
        return self._done(now, self.replica.peer_up(peer))

    def on_peer_lost(self, peer: NodeId) -> list[Out]:
        """A peer is gone, and will answer nothing."""
        self._up.pop(peer, None)
        self._asked = {exchange: node for exchange, node in self._asked.items() if node != peer}
        return []

    def on_failed(self, exchange: int) -> list[Out]:
        """An exchange of ours will not be answered."""
        self._asked.pop(exchange, None)
        return []

    def on_frame(self, now: Millis, peer: NodeId, frame: bytes, exchange: int) -> list[Out]:
        """A question for blocks, or an answer to ours."""
        if exchange < 0:
            try:
                return [Send(peer, Channel.BLOCKS, self.replica.answer(frame), exchange)]
            except Malformed as error:
                return [Noted(Rejected(peer, str(error)))]
        if self._asked.get(exchange) != peer:
            return [Noted(Rejected(peer, "blocks that nobody asked for"))]
        del self._asked[exchange]
        heard, doing = self.replica.answered(now, peer, frame)
        out = self._done(now, doing)
        if heard is Heard.REJECT:
            out.append(Noted(Rejected(peer, "an answer with an invalid block")))
        return out

    def found(self, now: Millis, call: int, nonce: bytes) -> list[Out]:
        """The host found a proof of work."""
        return self._done(now, self.replica.proven(call, nonce))

    def on_command(self, now: Millis, order: PayloadJudged | PayloadBuilt) -> list[Out]:
        """An answer of the execution layer."""
        match order:
            case PayloadJudged(call, valid):
                return self._done(now, self.replica.executed(now, call, valid=valid))
            case PayloadBuilt(call, name, payload):
                return self._done(now, self.replica.built(now, call, name, payload))

    def submit(self, now: Millis, signed: SignedReport) -> list[Out]:
        """A report of our own, for everybody."""
        return self._done(now, self.replica.submit(signed))

    def _done(self, now: Millis, doing: Iterable[Doing]) -> list[Out]:
        """The replica's wishes, carried out or translated, in their order."""
        out: list[Out] = []
        waiting = [*doing]
        while waiting:
            one = waiting.pop(0)
            match one:
                case ExecutePayload(call, block, terms) if self._execution is not None:
                    valid = self._execution.is_valid(block, terms)
                    waiting[:0] = self.replica.executed(now, call, valid=valid)
                case BuildPayload(call, terms) if self._execution is not None:
                    waiting[:0] = self.replica.built(now, call, *self._execution.build(terms))
                case Spread(topic, data):
                    out.append(Announce(topic.value, data))
                case Wake(key, at):
                    out.append(SetTimer(("agreement", *key), at))
                case Keep(table, key, value):
                    out.append(Persist(table, key, value))
                case FetchBlocks(peer, question):
                    out += self._ask(peer, question)
                case Told(fact):
                    out.append(Noted(fact))
                case _:  # Prove, and what no execution layer is here for, which are the host's
                    out.append(Noted(one))
        return out

    def _ask(self, peer: NodeId, question: bytes) -> list[Out]:
        """Ask a peer for blocks, one question at a time.

        In place of one that is not connected, while no question is out, the one is asked that was asked the longest ago:
        so nobody can leave us behind by answering nothing.
        """
        asked = peer if peer in self._up else next(iter({} if self._asked else self._up), None)
        if asked is None or asked in self._asked.values() or len(self._asked) >= ASKED_MAX:
            return []
        self._up[asked] = self._up.pop(asked)
        exchange = self._next_exchange()
        self._asked[exchange] = asked
        return [Send(asked, Channel.BLOCKS, question, exchange)]


def kept(rows: Mapping[tuple[str, tuple[int | str | bytes, ...]], bytes]) -> dict[Any, bytes]:
    """The rows of a peer that are the replica's."""
    return {key: value for key, value in rows.items() if key[0] in READ_AT_START}
