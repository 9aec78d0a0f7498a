"""Witnesses and witnessed: each HOUR some nodes look at one and sign what they saw, and it makes its report of that.

    HOUR begins ── the seed draws the witnesses of every node ── three looks at each of ours, at times of our own:
      1  its claim of the HOUR, fixed and attested in the HOUR before; then segments of some replicas of it
      2  the root of its next claim      3  the same root again; then our statement for it, answered or not
    next HOUR begins ── what our own witnesses stated ──→ HourReport ──→ everybody

What was not answered was not up: a third of the HOUR each. What cannot be shown earns nothing, and is held against nobody.
Only our own witnesses are answered, and none of them more often than one asks.
Whether a replica was placed where it lies is not judged here yet: for that a deposit has to be in a block (README).

Source: CONSENSUS §4.
"""

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

from consensus.beacon import (
    Segment,
    challenge,
    discrepancy,
    read_deposit,
    read_receipt,
    shown,
    signable,
)
from consensus.checkpoint import Checkpoint
from consensus.encoding import Malformed
from consensus.ids import MB, Digest, Millis, NodeId
from consensus.params import PER_MILLE
from consensus.report import MB_MAX, SignedReport, assemble, report_signable, state_work, statement_signable, witnesses
from consensus.signing import KeyPair
from consensus.state import at_hour
from consensus.tally import Work, quorum
from node.overlay.agreement import Agreement
from node.overlay.claims import Claims, Rows
from node.overlay.custody import ReadSegments, SegmentsRead, Want
from node.overlay.inventory import Answerable, Inventory
from node.overlay.logs import Out
from node.overlay.machine import Channel, Noted, Rejected, Send, SetTimer, TimerKey
from node.overlay.witness_frames import (
    SAMPLES,
    SEGMENTS,
    Claim,
    ClaimAsked,
    Next,
    NextAsked,
    SampleAsked,
    ShownReplica,
    ShownSegment,
    Stated,
    Taken,
    WitnessSample,
    claim_root,
    read_witness,
    write_witness,
)

if TYPE_CHECKING:
    from random import Random

LOOKS: Final = 3
WHEN: Final = ((50, 350), (450, 600), (700, 850))
"""Between which thousandths of the HOUR each look is."""

LAST: Final = LOOKS - 1
LATER: Final = LOOKS
"""The turn of a question that is not a look of its own."""

TARGETS_MAX: Final = 64
"""Nodes that are witnessed in an HOUR; nine in the mean."""

SERVED_MAX: Final = LOOKS
"""Questions of a kind that a witness of ours is answered in an HOUR."""

READS_MAX: Final = 32
"""Samples that the host may owe us: of nine witnesses three each, and some of another branch's."""

ANSWERS: Final = {ClaimAsked: Claim, SampleAsked: WitnessSample, NextAsked: Next, Stated: Taken}
BEGUN_PER_MILLE: Final = 20
"""When in an HOUR a node looks up whom it witnesses: the last block of the HOUR before is there."""

REPORTED_PER_MILLE: Final = 40
"""When in its HOUR a node reports the one before."""


class Watched(NamedTuple):
    """What a witness has seen of a node in an HOUR."""

    place: int
    answered: int = 0
    storage: int = 0
    shown: int = 0
    """Bytes of segments."""
    claim: Claim | None = None
    following: Digest | None = None
    """The root of the next claim, as it was told first."""


class Awaited(NamedTuple):
    """A question of ours: to whom, in which HOUR, at which of its looks, and what was asked."""

    node: NodeId
    hour: int
    turn: int
    question: ClaimAsked | SampleAsked | NextAsked | Stated


class ReportMade(NamedTuple):
    """Fact: we reported an HOUR."""

    hour: int
    statements: int
    witnesses: int


class Witnessed(NamedTuple):
    """Fact: what we stated of a node."""

    node: NodeId
    hour: int
    work: Work


class Witnessing:
    """One node's part in the evidence: what it sees of others, and what others see of it."""

    def __init__(
        self,
        me: NodeId,
        rng: "Random",
        agreement: Agreement,
        inventory: Inventory,
        next_exchange: Callable[[], int],
        rows: Rows,
    ) -> None:
        """Rows are what was kept in an earlier life, of the tables claims and statements."""
        self.me = me
        self._rng = rng
        self._agreement, self._replica = agreement, agreement.replica
        self._next_exchange = next_exchange
        self.claims = Claims(self._replica.law.network, inventory.answerable, rows)
        self._hour = -1
        self._targets: dict[NodeId, Watched] = {}
        self._asked: dict[int, Awaited] = {}
        """By exchange. What comes after its HOUR tells nothing more, and is nobody's fault."""
        self._served: dict[tuple[NodeId, int, type], int] = {}
        """How often a witness of ours has asked what in which HOUR."""
        self._reading: dict[int, tuple[NodeId, int, list[Answerable]]] = {}
        self._ref = 0

    # ------------------------------------------------------------------ time

    def start(self, now: Millis) -> list[Out]:
        """Look at the next HOUR, and report the last one if that is still to be done; called once, before anything else."""
        hour = self._hour = self._hour_at(now)
        soon = Millis(now + self._part(REPORTED_PER_MILLE))  # the chain is there again by then
        report = [SetTimer(("witness", "report"), soon)] if self.claims.stated(hour - 1) else []
        return [self._at(hour + 1, BEGUN_PER_MILLE, "hour"), *report, *self.claims.forget(hour)]

    def _hour_at(self, now: Millis) -> int:
        return self._replica.slot_at(now) // self._replica.params.hour_slots

    def _at(self, hour: int, per_mille: int, *name: str | int | bytes) -> SetTimer:
        """A timer at a part of an HOUR."""
        start = self._replica.start_of(hour * self._replica.params.hour_slots)
        return SetTimer(("witness", *name), Millis(start + self._part(per_mille)))

    def _part(self, per_mille: int) -> int:
        """So many thousandths of an HOUR, in ms."""
        return self._replica.params.hour_slots * self._replica.params.slot_ms * per_mille // PER_MILLE

    def on_timer(self, now: Millis, key: TimerKey) -> list[Out]:
        """One of our timers."""
        match key:
            case (_, "hour"):
                return self._begin(now)
            case (_, "report"):
                return self._report(now)
            case (_, "look", int(turn), bytes(node)):
                return self._look(turn, NodeId(node))
            case _:
                return []

    def _begin(self, now: Millis) -> list[Out]:
        """An HOUR begins: whom we witness in it follows from its seed."""
        hour = self._hour = self._hour_at(now)
        out: list[Out] = [self._at(hour + 1, BEGUN_PER_MILLE, "hour"), self._at(hour, REPORTED_PER_MILLE, "report")]
        self._targets.clear()
        self._reading.clear()
        self._asked = {exchange: one for exchange, one in self._asked.items() if one.hour >= hour - 1}
        out += self.claims.forget(hour)
        self._served = {key: count for key, count in self._served.items() if key[1] >= hour}
        at = self._checkpoint(hour)
        if at is None or self.me not in at.registry.members:
            return out
        network = self._replica.law.network
        for node in at.registry.order:
            drawn = witnesses(network, at.seed, hour, node, at.registry.entities, at.registry.order)
            if self.me in drawn and len(self._targets) < TARGETS_MAX:
                self._targets[node] = Watched(drawn.index(self.me))
                out += [self._at(hour, self._rng.randint(*WHEN[turn]), "look", turn, node) for turn in range(LOOKS)]
        return out

    def _checkpoint(self, hour: int) -> Checkpoint | None:
        """What the branch that we follow knew at the beginning of an HOUR; None where that is not known."""
        return at_hour(self._replica.next()[0], hour)

    # ------------------------------------------------------------------ as a witness

    def _look(self, turn: int, node: NodeId) -> list[Out]:
        if node not in self._targets:
            return []
        return self._ask(node, turn, ClaimAsked(self._hour) if turn == 0 else NextAsked(self._hour))

    def _ask(self, node: NodeId, turn: int, question: ClaimAsked | SampleAsked | NextAsked | Stated) -> list[Out]:
        exchange = self._next_exchange()
        self._asked[exchange] = Awaited(node, self._hour, turn, question)
        return [Send(node, Channel.WITNESS, write_witness(question), exchange)]

    def on_failed(self, exchange: int) -> list[Out]:
        """An exchange of ours will not be answered: it was not up."""
        asked = self._asked.pop(exchange, None)
        if asked is None or asked.turn != LAST or asked.hour != self._hour or asked.node not in self._targets:
            return []
        return self._tell(asked.node)

    def on_frame(self, now: Millis, peer: NodeId, frame: bytes, exchange: int) -> list[Out]:
        """A question, or an answer to ours."""
        try:
            record = read_witness(frame)
        except Malformed as error:
            return [Noted(Rejected(peer, str(error)))]
        if exchange < 0:
            return self._questioned(now, peer, record, exchange)
        asked = self._asked.get(exchange)
        if asked is None or asked.node != peer or type(record) is not ANSWERS[type(asked.question)]:
            return [Noted(Rejected(peer, "an answer that no witness waits for"))]
        del self._asked[exchange]
        if asked.hour != self._hour or peer not in self._targets:
            return []
        match asked.question, record:
            case _, Claim():
                return self._claimed(peer, record)
            case SampleAsked(_, names), WitnessSample():
                return self._sampled(peer, names, record)
            case _, Next(root):
                return self._promised(peer, asked.turn, root)
            case _:
                return []

    def _claimed(self, peer: NodeId, claim: Claim) -> list[Out]:
        """A claim counts if the node's witnesses of the HOUR before attested to it; then it has to show parts of it."""
        seen = self._targets[peer]
        self._targets[peer] = seen._replace(answered=seen.answered + 1, claim=claim)
        before = self._replica.pools.reports.get((self._hour - 1, peer))
        root = claim_root(claim, self._replica.law.network)
        if not sum(claim.sizes) or before is None or before.report.next != root:
            return []
        return self._ask(peer, LATER, SampleAsked(self._hour, self._drawn(claim)))

    def _drawn(self, claim: Claim) -> tuple[Digest, ...]:
        """Some of a claim's replicas, each with a chance by its size."""
        entries, upto = claim.entries, [*accumulate(claim.sizes)]
        found = (bisect_right(upto, self._rng.randrange(upto[-1])) for _ in range(SAMPLES))
        return tuple(sorted({entries[at]: None for at in found}))

    def _sampled(self, peer: NodeId, names: tuple[Digest, ...], sample: WitnessSample) -> list[Out]:
        """Segments of a claim: all that was asked for has to be right for it to count."""
        seen, shown_here = self._targets[peer], sample.shown
        if seen.claim is None or len(shown_here) != len(names):
            return []
        sizes = dict(zip(seen.claim.entries, seen.claim.sizes, strict=True))
        if not all(self._is_there(peer, name, sizes[name], one) for name, one in zip(names, shown_here, strict=True)):
            return []
        bytes_shown = sum(len(segment.data) for one in shown_here for segment in one.segments)
        storage = min(MB_MAX, sum(seen.claim.sizes) // MB)
        self._targets[peer] = seen._replace(storage=storage, shown=bytes_shown)
        return []

    def _is_there(self, peer: NodeId, root: Digest, size: int, one: ShownReplica) -> bool:
        """Whether a replica of a claim is shown to be there, and promised to an owner who is somebody else."""
        law, at = self._replica.law, self._checkpoint(self._hour)
        verify = self._replica.rules.verify
        try:
            receipt, deposit = read_receipt(one.receipt, law.network), read_deposit(one.deposit, law.network)
        except Malformed:
            return False
        wanted = self._segments_of(self._hour, root, size)
        if at is None or not wanted or tuple(segment.number for segment in one.segments) != wanted:
            return False
        longest = 2 * law.params.era_hours * law.params.hour_slots
        entities = at.registry.entities
        return (
            (receipt.root, receipt.size, receipt.holder) == (root, size, peer)
            and discrepancy(receipt, deposit, self._hour * law.params.hour_slots, longest) is None
            and entities.get(deposit.owner) != entities.get(peer, peer)
            and all(shown(root, size, Segment(*_parts(segment))) for segment in one.segments)
            and verify(peer, one.signature, signable(receipt))
            and verify(deposit.owner, one.deposit_signature, signable(deposit))
        )

    def _segments_of(self, hour: int, root: Digest, size: int) -> tuple[int, ...]:
        """Which segments of a replica are looked at in an HOUR, drawn by its seed; none while that is not known."""
        at = self._checkpoint(hour)
        if at is None:
            return ()
        drawn = challenge(self._replica.law.network, at.seed, root, hour, size)
        step = -(-len(drawn) // SEGMENTS)
        return drawn[(at.seed[0] + root[0]) % step :: step]

    def _promised(self, peer: NodeId, turn: int, root: Digest) -> list[Out]:
        """The root of the next claim; who tells two is attested neither."""
        seen = self._targets[peer]
        if seen.following not in {None, root}:
            del self._targets[peer]
            return []
        self._targets[peer] = seen._replace(answered=seen.answered + 1, following=root)
        return self._tell(peer) if turn == LAST else []

    def _tell(self, peer: NodeId) -> list[Out]:
        """Our statement of the HOUR, after the last look; a node that told no root has nothing that it could be for."""
        seen, key = self._targets.pop(peer), self._key_of(self._hour)
        if seen.following is None or key is None:
            return []
        work = Work(seen.storage, seen.shown // MB, PER_MILLE * seen.answered // LOOKS)
        statement = state_work(key, self._replica.law.network, peer, self._hour, seen.following, work)
        fact = Noted(Witnessed(peer, self._hour, work))
        return [fact, *self._ask(peer, LATER, Stated(self._hour, seen.place, statement))]

    # ------------------------------------------------------------------ as one who is witnessed

    def _questioned(self, now: Millis, peer: NodeId, record: object, exchange: int) -> list[Out]:
        """A question: answered to the witnesses of this HOUR."""
        hour = self._hour_at(now)
        at = self._checkpoint(hour)
        if not isinstance(record, ClaimAsked | SampleAsked | NextAsked | Stated) or record.hour != hour or at is None:
            return [Noted(Rejected(peer, "a question that nobody answers in this HOUR"))]
        drawn = self._witnesses(at)
        if peer not in drawn:
            return [Noted(Rejected(peer, "a question by no witness of ours"))]
        asked = peer, hour, type(record)
        if self._served.get(asked, 0) >= SERVED_MAX:
            return [Noted(Rejected(peer, "more questions than a witness has"))]
        self._served[asked] = self._served.get(asked, 0) + 1
        match record:
            case ClaimAsked():
                return self._answer(peer, hour, exchange, self.claims.of)
            case NextAsked():
                return self._answer(peer, hour + 1, exchange, lambda following: Next(self.claims.root(following)))
            case SampleAsked(_, names):
                return self._show(peer, hour, names, exchange)
            case Stated(_, place, statement):
                if drawn[place : place + 1] != (peer,):
                    return [Noted(Rejected(peer, "a statement in another's place"))]
                return self._take(peer, at, place, statement, exchange)

    def _witnesses(self, at: Checkpoint) -> tuple[NodeId, ...]:
        """Ours of an HOUR; nobody's while we are not registered."""
        if self.me not in at.registry.members:
            return ()
        network, registry = self._replica.law.network, at.registry
        return witnesses(network, at.seed, at.hour, self.me, registry.entities, registry.order)

    def _answer(self, peer: NodeId, hour: int, exchange: int, said: Callable[[int], object]) -> list[Out]:
        """What is said of the claim of an HOUR, once that is fixed and kept."""
        kept = self.claims.fix(hour)
        return [*kept, Send(peer, Channel.WITNESS, write_witness(said(hour)), exchange)]

    def _show(self, peer: NodeId, hour: int, names: tuple[Digest, ...], exchange: int) -> list[Out]:
        """Have the host read what is asked for; a replica that is gone leaves the question without an answer."""
        wanted = self.claims.wanted(hour, names)
        if not wanted or len(wanted) != len(names) or len(self._reading) >= READS_MAX:
            return []
        self._ref -= 1
        self._reading[self._ref] = peer, exchange, wanted
        wants = tuple(Want(one.chunk, one.root, self._segments_of(hour, one.root, one.size)) for one in wanted)
        return [Noted(ReadSegments(self._ref, wants))]

    def on_read(self, order: SegmentsRead) -> list[Out]:
        """The host has read segments for a sample."""
        waiting = self._reading.pop(order.ref, None)
        if waiting is None or any(found is None for found in order.found):
            return []
        peer, exchange, wanted = waiting
        parts = []
        for one, found in zip(wanted, order.found, strict=True):
            segments = tuple(ShownSegment(part.number, part.data, part.proof) for part in found or ())
            parts.append(ShownReplica(one.receipt, one.signature, one.deposit, one.deposit_signature, segments))
        return [Send(peer, Channel.WITNESS, write_witness(WitnessSample(tuple(parts))), exchange)]

    def _take(self, peer: NodeId, at: Checkpoint, place: int, statement: bytes, exchange: int) -> list[Out]:
        """A statement about us: kept if a report with it is one that everybody takes."""
        if self.claims.of(at.hour + 1) is None or int.from_bytes(statement[6:8], "big") > PER_MILLE:
            return [Noted(Rejected(peer, "a statement of more than there is, or of what was never asked"))]
        network, root = self._replica.law.network, self.claims.root(at.hour + 1)
        message = statement_signable(network, self.me, at.hour, root, statement[:8])
        if not self._replica.rules.verify(at.registry.members[peer].era_key, statement[8:], message):
            return [Noted(Rejected(peer, "a statement that its witness has not signed"))]
        return [
            *self.claims.take(at.hour, place, statement),
            Send(peer, Channel.WITNESS, write_witness(Taken()), exchange),
        ]

    def _report(self, now: Millis) -> list[Out]:
        """Our report of the HOUR before, from what our witnesses stated."""
        hour = self._hour - 1
        said = dict(self.claims.stated(hour))
        out: list[Out] = [*self.claims.reported(hour)]
        at, key = self._checkpoint(hour), self._key_of(hour)
        drawn = () if at is None else self._witnesses(at)
        if key is None or not drawn:
            return out
        out.append(Noted(ReportMade(hour, len(said), len(drawn))))
        if len(said) < quorum(len(drawn)) or self.claims.of(self._hour) is None:
            return out
        report = assemble(self.me, hour, self.claims.root(self._hour), said)
        signed = SignedReport(report, key.sign_as_is(report_signable(report, self._replica.law.network)))
        return [*out, *self._agreement.submit(now, signed)]

    def _key_of(self, hour: int) -> KeyPair | None:
        """Our era key of an HOUR's registry."""
        own, at = self._replica.own, self._checkpoint(hour)
        if own is None or at is None or self.me not in at.registry.members:
            return None
        keys = own.keys_of(at.registry.members[self.me].era_key)
        return None if keys is None else keys.signing


def _parts(segment: ShownSegment) -> tuple[int, bytes, tuple[bytes, ...]]:
    return segment.number, segment.data, segment.proof
