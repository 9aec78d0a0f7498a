"""Witnesses and witnessed: each HOUR some nodes look at one and sign what they saw, and it makes its report of that.

    HOUR begins ── the seed draws the witnesses of every node ── three looks at each of ours, at times of our own:
      1  its claim of the HOUR, fixed and attested in the HOUR before; then segments of four replicas of it
      2  the root of its next claim      3  the same root again, and our statement for it
    next HOUR begins ── what our own witnesses stated ──→ HourReport ──→ everybody

What was not answered was not up: a third of the HOUR each. What cannot be shown earns nothing, and is held against nobody.
Whether a replica was placed where it lies is not judged here yet: for that a deposit has to be in a block (README).

Source: CONSENSUS §4.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from consensus.beacon import (
    CHALLENGED,
    Segment,
    challenge,
    discrepancy,
    read_deposit,
    read_receipt,
    receipt_id,
    shown,
    signable,
)
from consensus.encoding import Malformed
from consensus.ids import MB, Digest, Millis, NodeId
from consensus.params import PER_MILLE
from consensus.report import MB_MAX, SignedReport, assemble, report_signable, state_work, statement_signable, witnesses
from consensus.signing import KeyPair
from consensus.state import at_hour
from consensus.tally import Work, quorum
from node.overlay.agreement import Agreement
from node.overlay.custody import ReadSegments, SegmentsRead, Want
from node.overlay.inventory import Answerable, Inventory
from node.overlay.logs import Out
from node.overlay.machine import Channel, Noted, Rejected, Send, SetTimer, TimerKey
from node.overlay.witness_frames import (
    ENTRIES_MAX,
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

TARGETS_MAX: Final = 64
"""Nodes that are witnessed in an HOUR; nine in the mean."""

READS_MAX: Final = 64
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


def claim_of(held: Iterable[Answerable]) -> Claim:
    """The claim that names them."""
    entries = [*held]
    return Claim(b"".join(one.name for one in entries), tuple(one.size for one in entries))


class Witnessing:
    """One node's part in the evidence: what it sees of others, and what others see of it."""

    def __init__(
        self,
        me: NodeId,
        rng: "Random",
        agreement: Agreement,
        inventory: Inventory,
        next_exchange: Callable[[], int],
    ) -> None:
        self.me = me
        self._rng = rng
        self._agreement, self._replica = agreement, agreement.replica
        self._inventory, self._next_exchange = inventory, next_exchange
        self._hour = -1
        self._targets: dict[NodeId, Watched] = {}
        self._asked: dict[int, tuple[NodeId, int, Digest | None]] = {}
        """Exchanges of ours: whom, in which HOUR, and the claim that samples are of."""
        self._claims: dict[int, list[Answerable]] = {}
        """What we answer for, by HOUR; fixed when it is first asked for."""
        self._reading: dict[int, tuple[NodeId, int, list[Answerable]]] = {}
        self._ref = 0
        self._stated: dict[int, dict[int, bytes]] = {}

    # ------------------------------------------------------------------ time

    def start(self, now: Millis) -> list[Out]:
        """Look at the next HOUR; called once, before anything else."""
        return [self._at(now, self._hour_at(now) + 1, 0, "hour")]

    def _hour_at(self, now: Millis) -> int:
        return self._replica.slot_at(now) // self._replica.params.hour_slots

    def _at(self, now: Millis, hour: int, per_mille: int, *name: str | int | bytes) -> SetTimer:
        """A timer at a part of an HOUR."""
        del now
        size = self._replica.params.hour_slots * self._replica.params.slot_ms
        start = self._replica.start_of(hour * self._replica.params.hour_slots)
        return SetTimer(("witness", *name), Millis(start + size * per_mille // PER_MILLE))

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
        out: list[Out] = [self._at(now, hour + 1, 0, "hour"), self._at(now, hour, REPORTED_PER_MILLE, "report")]
        self._targets.clear()
        self._asked.clear()
        self._claims = {at: held for at, held in self._claims.items() if at >= hour}
        self._stated = {at: said for at, said in self._stated.items() if at >= hour - 1}
        at = self._replica.next()[0].checkpoint
        if at.hour != hour or self.me not in at.registry.members:
            return out
        network = self._replica.law.network
        for node in at.registry.order:
            drawn = witnesses(network, at.seed, hour, node, at.registry.entities, at.registry.order)
            if self.me in drawn and len(self._targets) < TARGETS_MAX:
                self._targets[node] = Watched(drawn.index(self.me))
                out += [
                    self._at(now, hour, self._rng.randint(*WHEN[turn]), "look", turn, node) for turn in range(LOOKS)
                ]
        return out

    # ------------------------------------------------------------------ as a witness

    def _look(self, turn: int, node: NodeId) -> list[Out]:
        if node not in self._targets:
            return []
        question = ClaimAsked(self._hour) if turn == 0 else NextAsked(self._hour)
        return self._ask(node, question, None)

    def _ask(self, node: NodeId, question: object, claim: Digest | None) -> list[Out]:
        exchange = self._next_exchange()
        self._asked[exchange] = node, self._hour, claim
        return [Send(node, Channel.WITNESS, write_witness(question), exchange)]

    def on_failed(self, exchange: int) -> list[Out]:
        """An exchange of ours will not be answered: it was not up."""
        self._asked.pop(exchange, None)
        return []

    def on_frame(self, now: Millis, peer: NodeId, frame: bytes, exchange: int) -> list[Out]:
        """A question, or an answer to ours."""
        try:
            record = read_witness(frame)
        except Malformed as error:
            return [Noted(Rejected(peer, str(error)))]
        if exchange < 0:
            return self._questioned(now, peer, record, exchange)
        asked = self._asked.pop(exchange, None)
        if isinstance(record, Taken):
            return []
        if asked is None or asked[0] != peer or asked[1] != self._hour or peer not in self._targets:
            return [Noted(Rejected(peer, "an answer that no witness waits for"))]
        match record:
            case Claim():
                return self._claimed(peer, record)
            case WitnessSample():
                return self._sampled(peer, record)
            case Next():
                return self._promised(peer, record)
            case _:
                return []

    def _claimed(self, peer: NodeId, claim: Claim) -> list[Out]:
        """A claim counts if the node's witnesses of the HOUR before attested to it; then it has to show parts of it."""
        seen = self._targets[peer]
        self._targets[peer] = seen._replace(answered=seen.answered + 1, claim=claim)
        before = self._replica.pools.reports.get((self._hour - 1, peer))
        root = claim_root(claim, self._replica.law.network)
        if not claim.sizes or before is None or before.report.next != root:
            return []
        names = self._drawn(claim)
        return self._ask(peer, SampleAsked(self._hour, names), root)

    def _drawn(self, claim: Claim) -> tuple[Digest, ...]:
        """Some of a claim's replicas, each with a chance by its size."""
        entries, total = claim.entries, sum(claim.sizes)
        found: dict[Digest, None] = {}
        for _ in range(SAMPLES):
            at = self._rng.randrange(max(1, total))
            for name, size in zip(entries, claim.sizes, strict=True):
                at -= size
                if at < 0:
                    found[name] = None
                    break
        return tuple(sorted(found))

    def _sampled(self, peer: NodeId, sample: WitnessSample) -> list[Out]:
        """Segments of a claim: all of them have to be right for it to count."""
        seen = self._targets[peer]
        claim = seen.claim
        if claim is None:
            return []
        slot = self._replica.slot_at(self._replica.start_of(self._hour * self._replica.params.hour_slots))
        sizes = dict(zip(claim.entries, claim.sizes, strict=True))
        names = [name for one in sample.shown if (name := self._checked(peer, one, sizes, slot)) is not None]
        if not names or len(names) != len(sample.shown) or len({*names}) != len(names):
            return []
        bytes_shown = sum(len(segment.data) for one in sample.shown for segment in one.segments)
        storage = min(MB_MAX, sum(claim.sizes) // MB)
        self._targets[peer] = seen._replace(storage=storage, shown=bytes_shown)
        return []

    def _checked(self, peer: NodeId, one: ShownReplica, sizes: Mapping[Digest, int], slot: int) -> Digest | None:
        """The name of a replica that is shown to be there and promised to its owner; None for every other."""
        law, at = self._replica.law, at_hour(self._replica.next()[0], self._hour)
        verify = self._replica.rules.verify
        try:
            receipt, deposit = read_receipt(one.receipt, law.network), read_deposit(one.deposit, law.network)
        except Malformed:
            return None
        name = receipt_id(receipt)
        longest = 2 * self._replica.params.era_hours * self._replica.params.hour_slots
        entities = {} if at is None else at.registry.entities
        is_wrong = (
            sizes.get(name) != receipt.size
            or receipt.holder != peer
            or discrepancy(receipt, deposit, slot, longest) is not None
            or entities.get(deposit.owner) == entities.get(peer, peer)
            or not verify(peer, one.signature, signable(receipt))
            or not verify(deposit.owner, one.deposit_signature, signable(deposit))
        )
        wanted = [*self._segments_of(name, receipt.size)]
        if is_wrong or not wanted or [segment.number for segment in one.segments] != wanted:
            return None
        whole = (shown(receipt.root, receipt.size, Segment(*_parts(segment))) for segment in one.segments)
        return name if all(whole) else None

    def _segments_of(self, name: Digest, size: int) -> tuple[int, ...]:
        """Which segments of a replica are looked at in this HOUR, drawn by its seed; none while that is not known."""
        at = at_hour(self._replica.next()[0], self._hour)
        if at is None:
            return ()
        return challenge(self._replica.law.network, at.seed, name, self._hour, size)[:: CHALLENGED // SEGMENTS]

    def _promised(self, peer: NodeId, answer: Next) -> list[Out]:
        """The root of the next claim; told twice and the same, it is what our statement attests."""
        seen = self._targets[peer]
        answered = seen.answered + 1
        if seen.following is None:
            self._targets[peer] = seen._replace(answered=answered, following=answer.root)
            return []
        if seen.following != answer.root:
            return []
        del self._targets[peer]
        work = Work(seen.storage, seen.shown // MB, PER_MILLE * answered // LOOKS)
        key = self._key()
        if key is None:
            return []
        statement = state_work(key, self._replica.law.network, peer, self._hour, answer.root, work)
        told = Stated(self._hour, seen.place, statement)
        exchange = self._next_exchange()
        return [Noted(Witnessed(peer, self._hour, work)), Send(peer, Channel.WITNESS, write_witness(told), exchange)]

    # ------------------------------------------------------------------ as one who is witnessed

    def _questioned(self, now: Millis, peer: NodeId, record: object, exchange: int) -> list[Out]:
        hour = self._hour_at(now)
        match record:
            case ClaimAsked(asked) if asked == hour:
                return [Send(peer, Channel.WITNESS, write_witness(claim_of(self._answered_for(hour))), exchange)]
            case NextAsked(asked) if asked == hour:
                root = claim_root(claim_of(self._answered_for(hour + 1)), self._replica.law.network)
                return [Send(peer, Channel.WITNESS, write_witness(Next(root)), exchange)]
            case SampleAsked(asked, names) if asked == hour:
                return self._show(peer, names, exchange)
            case Stated(asked, place, statement) if asked == hour:
                return self._state(peer, place, statement, exchange)
            case _:
                return [Noted(Rejected(peer, "a question that nobody answers in this HOUR"))]

    def _answered_for(self, hour: int) -> list[Answerable]:
        """What we answer for in an HOUR."""
        if hour not in self._claims:
            self._claims[hour] = self._inventory.answerable(ENTRIES_MAX)
        return self._claims[hour]

    def _show(self, peer: NodeId, names: tuple[Digest, ...], exchange: int) -> list[Out]:
        """Have the host read what is asked for; a replica that is gone leaves the question without an answer."""
        held = {one.name: one for one in self._answered_for(self._hour)}
        wanted = [held[name] for name in names if name in held]
        if not wanted or len(wanted) != len(names) or len(self._reading) >= READS_MAX:
            return []
        self._ref -= 1
        self._reading[self._ref] = peer, exchange, wanted
        wants = tuple(Want(one.chunk, one.root, self._segments_of(one.name, one.size)) for one in wanted)
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

    def _state(self, peer: NodeId, place: int, statement: bytes, exchange: int) -> list[Out]:
        """A statement about us: kept if it is by the witness of that place and about what we promised."""
        at = at_hour(self._replica.next()[0], self._hour)
        if at is None:
            return []
        law = self._replica.law
        drawn = witnesses(law.network, at.seed, self._hour, self.me, at.registry.entities, at.registry.order)
        if drawn[place : place + 1] != (peer,):
            return [Noted(Rejected(peer, "a statement by no witness of ours"))]
        root = claim_root(claim_of(self._answered_for(self._hour + 1)), law.network)
        signable_bytes = statement_signable(law.network, self.me, self._hour, root, statement[:8])
        if not self._replica.rules.verify(at.registry.members[peer].era_key, statement[8:], signable_bytes):
            return [Noted(Rejected(peer, "a statement that its witness has not signed"))]
        self._stated.setdefault(self._hour, {}).setdefault(place, statement)
        return [Send(peer, Channel.WITNESS, write_witness(Taken()), exchange)]

    def _report(self, now: Millis) -> list[Out]:
        """Our report of the HOUR before, from what our witnesses stated."""
        hour = self._hour - 1
        said = self._stated.pop(hour, {})
        at = at_hour(self._replica.next()[0], hour)
        key = self._key_of(hour)
        if at is None or key is None or self.me not in at.registry.members:
            return []
        network = self._replica.law.network
        drawn = witnesses(network, at.seed, hour, self.me, at.registry.entities, at.registry.order)
        if not drawn or len(said) < quorum(len(drawn)):
            return [Noted(ReportMade(hour, len(said), len(drawn)))]
        report = assemble(self.me, hour, claim_root(claim_of(self._answered_for(self._hour)), network), said)
        signed = SignedReport(report, key.sign_as_is(report_signable(report, network)))
        return [Noted(ReportMade(hour, len(said), len(drawn))), *self._agreement.submit(now, signed)]

    def _key(self) -> KeyPair | None:
        return self._key_of(self._hour)

    def _key_of(self, hour: int) -> KeyPair | None:
        """Our era key of an HOUR's registry."""
        own, at = self._replica.own, at_hour(self._replica.next()[0], hour)
        if own is None or at is None or self.me not in at.registry.members:
            return None
        keys = own.keys_of(at.registry.members[self.me].era_key)
        return None if keys is None else keys.signing


def _parts(segment: ShownSegment) -> tuple[int, bytes, tuple[bytes, ...]]:
    return segment.number, segment.data, segment.proof
