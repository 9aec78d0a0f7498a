"""Witnesses see what is there: replicas that are held, lies that are shown, nodes that are silent; in worlds of five nodes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.beacon import Deposit, Receipt, show, signable
from consensus.encoding import Malformed
from consensus.ids import Digest, Millis, NodeId
from consensus.merkle import SEGMENT, segment_root
from consensus.params import MAINNET
from consensus.records import pack
from consensus.report import state_work, statement_signable, witnesses
from consensus.tally import Work
from netsim.agreement import Citizen, Society
from netsim.seeds import derive
from netsim.world import World
from node.overlay.claims import Claims
from node.overlay.custody import ReadSegments, SegmentsRead
from node.overlay.inventory import Answerable
from node.overlay.logs import Out
from node.overlay.machine import Action, Channel, Event, Failed, Noted, Persist, Received, Rejected, Send, TimerFired
from node.overlay.witness_frames import (
    SEGMENTS,
    Claim,
    ClaimAsked,
    Next,
    NextAsked,
    SampleAsked,
    Stated,
    Taken,
    WitnessSample,
    read_witness,
    write_witness,
)
from node.overlay.witnessing import SERVED_MAX, ReportMade, Witnessed, Witnessing
from tests.examples import examples

pytestmark = pytest.mark.component

NODES = 5
HOUR_MS = MAINNET.slot_ms * MAINNET.hour_slots
SIZE = 1_200_000
HELD = 2


@cache
def replica_of(number: int, turn: int) -> bytes:
    return derive(7, "replica", number, turn).randbytes(SIZE)


class Shelf:
    """What a node says that it holds, in the place of an inventory."""

    def __init__(self, society: Society, number: int, owner: int) -> None:
        self.rows = [self._row(society, number, turn, owner) for turn in range(HELD)]

    def _row(self, society: Society, number: int, turn: int, owner: int) -> Answerable:
        network, root = society.law.network, segment_root(replica_of(number, turn))
        chunk = Digest(derive(7, "chunk", number, turn).randbytes(32))
        roots = (root, Digest(b"1" * 32), Digest(b"2" * 32))
        deposit = Deposit(network, chunk, SIZE, society.ids[owner], 1, Digest(bytes(32)), roots)
        receipt = Receipt(network, chunk, 0, root, SIZE, society.ids[number], society.ids[owner], 0, 1_000)
        return Answerable(
            root,
            SIZE,
            chunk,
            pack(receipt),
            society.identities[number].sign_as_is(signable(receipt)),
            pack(deposit),
            society.identities[owner].sign_as_is(signable(deposit)),
        )

    def answerable(self, most: int) -> list[Answerable]:
        return sorted(self.rows)[:most]


class Observer(Citizen):
    """A citizen that is witnessed and witnesses, with replicas on its disk."""

    def __init__(self, society: Society, number: int, records: Mapping[Any, bytes], lie: str) -> None:
        super().__init__(society, number, records, None)
        self.number, self.lie = number, lie
        self.asked = 0
        """Questions for the next claim, by all."""
        owner = number if lie == "owns them itself" else (number + 1) % NODES
        shelf: Any = Shelf(society, number, owner)
        self.shelf = shelf
        self.witnessing = Witnessing(self.me, Random(number), self.agreement, shelf, self._next_exchange, records)
        if lie == "claims one twice":
            shelf.rows = [shelf.rows[0], shelf.rows[0]]
        if lie == "never heard of the second":
            shelf.rows[1] = shelf.rows[1]._replace(deposit_signature=bytes(64))

    def start(self, now: Millis) -> Sequence[Action]:
        return [*super().start(now), *self.told(self.witnessing.start(now))]

    def handle(self, now: Millis, event: Event) -> Sequence[Action]:
        match event:
            case Received(peer, Channel.WITNESS, frame, exchange):
                told = self._lies(read_witness(frame)) if exchange < 0 else frame
                if exchange < 0 and isinstance(told, bytes):
                    return [Send(peer, Channel.WITNESS, told, exchange)]
                if told is None:
                    return []
                question = told if isinstance(told, bytes) else write_witness(told)
                return self._read(self.witnessing.on_frame(now, peer, question, exchange))
            case Failed(_, Channel.WITNESS, exchange):
                return self.told(self.witnessing.on_failed(exchange))
            case TimerFired(key) if key[0] == "witness":
                return self._read(self.witnessing.on_timer(now, key))
            case _:
                return super().handle(now, event)

    def _lies(self, asked: Any) -> Any:
        """What it takes a question for; bytes to say in its place, None for nothing."""
        root = Next(Digest(b"n" * 32))
        match self.lie, asked:
            case "is silent at first", ClaimAsked():
                return None
            case "is there at the last look only", ClaimAsked():
                return None
            case "is there at the last look only", NextAsked():
                self.asked += 1
                return asked if self.asked > NODES - 1 else None
            case "shows what it has in place of what is asked", SampleAsked(hour, names):
                return SampleAsked(hour, names[:1])
            case "answers what was not asked", ClaimAsked() | SampleAsked():
                return write_witness(root)
            case "answers what was not asked", NextAsked():
                return write_witness(Claim(b"", ()))
            case "claims again and again", SampleAsked():
                rows = sorted(self.shelf.rows)
                return write_witness(Claim(b"".join(row.root for row in rows), tuple(row.size for row in rows)))
            case "tells two roots", NextAsked():
                self.asked += 1
                return write_witness(Next(Digest(self.asked.to_bytes(32, "big"))))
            case _:
                return asked

    def _read(self, out: Iterable[Out]) -> list[Action]:
        done: list[Action] = []
        for one in out:
            if isinstance(one, Noted) and isinstance(one.fact, ReadSegments):
                order = one.fact
                done += self.told(
                    self.witnessing.on_read(SegmentsRead(order.ref, tuple(map(self._found, order.wants))))
                )
            else:
                done += self.told([one])
        return done

    def _found(self, want: Any) -> Any:
        turn = next(turn for turn in range(HELD + 1) if segment_root(replica_of(self.number, turn)) == want.root)
        found = show(replica_of(self.number, turn), want.indexes)
        if self.lie == "shows other bytes":
            found = (found[0]._replace(data=bytes(len(found[0].data))), *found[1:])
        if self.lie == "has lost them":
            return None
        return found


class Seen(NamedTuple):
    """What a world came to."""

    world: World
    society: Society
    works: dict[int, list[Work]]
    """What was stated of each node, in its HOURs' order."""
    reports: list[ReportMade]


def watched(lie: str = "", hours: float = 4) -> Seen:
    """A world in which node 4 lies and the others do not."""
    society = Society(5, NODES, NODES, replace(MAINNET, voter_hours=0))
    number = {node: place for place, node in enumerate(society.ids)}

    def make(me: NodeId, rng: Random, records: Mapping[Any, bytes]) -> Citizen:
        del rng
        return Observer(society, number[me], records, lie if number[me] == NODES - 1 else "")

    world = World(5, make)
    works: dict[int, list[Work]] = {place: [] for place in range(NODES)}
    reports: list[ReportMade] = []
    world.on_fact(Witnessed, lambda _now, _index, fact: works[number[fact.node]].append(fact.work))
    world.on_fact(ReportMade, lambda _now, _index, fact: reports.append(fact))
    for node in society.ids:
        world.add(node)
    world.run(world.now + int(hours * HOUR_MS))
    return Seen(world, society, works, reports)


def settled_work(seen: Seen, node: int, hour: int) -> Work | None:
    """The work that a report of the chain proves."""
    machine = seen.world.nodes[0].machine
    assert isinstance(machine, Observer)
    state = machine.replica.head()
    known = {**state.checkpoint.reports.get(hour, {})}
    known |= {name: one for (at, name), one in state.happened.reports.items() if at == hour}
    found = known.get(seen.society.ids[node])
    return None if found is None else found.work


def test_a_row_that_is_damaged_is_as_none() -> None:
    society = Society(5, NODES, NODES, MAINNET)
    shelf: Any = Shelf(society, 0, 1)
    first = Claims(society.law.network, shelf.answerable, {})
    rows = [*first.fix(7), *first.take(6, 2, bytes(72)), *first.take(6, 2, bytes(71) + b"\1")]
    assert [(row.table, row.key) for row in rows] == [("claims", (7,)), ("statements", (6, 2))]
    kept = {(row.table, row.key): row.value or b"" for row in rows}
    again = Claims(society.law.network, lambda _most: [], kept)
    assert (again.of(7), again.root(7), again.stated(6)) == (first.of(7), first.root(7), {2: bytes(72)})
    assert again.wanted(7, tuple(row.root for row in shelf.rows)) == []  # they are gone
    for row in rows:
        for damaged in (b"", (row.value or b"")[:-1], bytes(40)):
            other = Claims(society.law.network, shelf.answerable, kept | {(row.table, row.key): damaged})
            assert (other.of(7) is None, dict(other.stated(6)) == {}) == (
                row.table == "claims",
                row.table == "statements",
            )
    swapped = Claims(society.law.network, shelf.answerable, {("statements", (5, 2)): rows[1].value or b""})
    assert swapped.stated(5) == {}
    assert again.forget(8) == [Persist("claims", (7,), None), Persist("statements", (6, 2), None)]
    assert again.of(7) is None


def test_everybody_is_seen_by_all_and_credited_with_what_it_holds() -> None:
    seen = watched()
    assert seen.reports
    assert all(report.statements == report.witnesses == NODES - 1 for report in seen.reports if report.hour > 0)
    megabytes = HELD * SIZE // 1_000_000
    for node in range(NODES):
        # What nobody attested in the HOUR before counts for nothing yet.
        assert settled_work(seen, node, 2) == Work(megabytes, 0, 1_000), node
        assert {work.uptime for work in seen.works[node]} == {1_000}
    assert not seen.world.facts[Rejected]


def test_a_node_that_starts_again_reports_and_shows_what_was_attested_before() -> None:
    """It dies when its witnesses have stated all, and holds a replica more when it is back: the claim is the old one."""
    seen = watched(hours=2.9)
    world, node = seen.world, seen.world.nodes[NODES - 1]
    before = node.machine
    assert isinstance(before, Observer)
    stated, claim = dict(before.witnessing.claims.stated(2)), before.witnessing.claims.of(3)
    assert len(stated) == NODES - 1
    assert claim is not None
    world.stop_node(node.index, "to start again")
    world.start(node)
    after = node.machine
    assert isinstance(after, Observer)
    assert after is not before
    assert (after.witnessing.claims.stated(2), after.witnessing.claims.of(3)) == (stated, claim)
    after.shelf.rows.append(after.shelf._row(seen.society, NODES - 1, HELD, 0))
    world.run(world.now + int(1.3 * HOUR_MS))
    for hour in (2, 3):
        found = settled_work(seen, NODES - 1, hour)
        assert found is not None
        assert found.storage == HELD * SIZE // 1_000_000
    assert {key[0] for table, key in node.records if table == "statements"} <= {4}
    assert {key[0] for table, key in node.records if table == "claims"} <= {4, 5}


@pytest.mark.parametrize(
    "lie",
    [
        "shows other bytes",
        "has lost them",
        "owns them itself",
        "claims one twice",
        "never heard of the second",
        "shows what it has in place of what is asked",
        "answers what was not asked",
        "claims again and again",
        "tells two roots",
    ],
)
def test_what_cannot_be_shown_earns_nothing_and_is_held_against_nobody(lie: str) -> None:
    seen = watched(lie)
    assert {work.storage for work in seen.works[NODES - 1]} <= {0}
    assert {work.uptime for work in seen.works[NODES - 1]} <= {333, 666, 1_000}
    if lie in {"answers what was not asked", "tells two roots"}:  # nothing that could be attested
        assert seen.works[NODES - 1] == []
    assert settled_work(seen, 0, 2) == Work(HELD * SIZE // 1_000_000, 0, 1_000)


def test_who_is_there_at_one_look_of_three_was_there_for_a_third_of_the_hour() -> None:
    seen = watched("is there at the last look only", hours=2)
    assert seen.works[NODES - 1] == [Work(0, 0, 333)] * (NODES - 1)


def test_who_is_silent_at_one_look_of_three_was_away_for_a_third_of_the_hour() -> None:
    seen = watched("is silent at first", hours=3)
    assert {work.uptime for work in seen.works[NODES - 1]} == {666}
    assert {work.storage for work in seen.works[NODES - 1]} == {0}


def test_statements_by_strangers_and_answers_to_nobody_are_rejected() -> None:
    seen = watched(hours=2)
    one, now = seen.world.nodes[0].machine, Millis(seen.world.now)
    assert isinstance(one, Observer)
    hour = one.replica.slot_at(now) // MAINNET.hour_slots
    stranger = NodeId(b"\7" * 32)
    for record, exchange in (
        (Stated(hour, 0, bytes(72)), -5),
        (Next(Digest(bytes(32))), 99_999),
        (Claim(b"", ()), 99_999),
        (ClaimAsked(hour + 5), -5),
        (NextAsked(hour - 1), -5),
    ):
        out = one.witnessing.on_frame(now, stranger, write_witness(record), exchange)
        assert [type(action) for action in out] == [Noted]
        assert isinstance(out[0], Noted)
        assert isinstance(out[0].fact, Rejected)


def test_questions_for_samples_are_answered_for_what_is_claimed_and_bounded() -> None:
    one, now, hour = just_begun()
    asker = one.society.ids[1]
    unknown = write_witness(SampleAsked(hour, (Digest(b"x" * 32),)))
    assert one.witnessing.on_frame(now, asker, unknown, -1) == []
    one.witnessing.claims.fix(hour)
    names = tuple(sorted(row.root for row in one.shelf.rows))
    for question in (SampleAsked(hour, names), ClaimAsked(hour), NextAsked(hour)):
        for _ in range(SERVED_MAX - isinstance(question, SampleAsked)):
            assert rejection(one.witnessing.on_frame(now, asker, write_witness(question), -1)) is None
        refused = rejection(one.witnessing.on_frame(now, asker, write_witness(question), -1))
        assert refused == "more questions than a witness has"
    assert len(one.witnessing._reading) == SERVED_MAX - 1
    assert one.witnessing.on_read(SegmentsRead(-999, ())) == []


def just_begun() -> tuple[Observer, Millis, int]:
    """Node 0 when the third HOUR has begun and nobody has looked yet."""
    seen = watched(hours=2.03)
    one = seen.world.nodes[0].machine
    assert isinstance(one, Observer)
    return one, Millis(seen.world.now), 2


def rejection(out: Sequence[Out]) -> str | None:
    """Why a frame was rejected, which then is all that follows; None for one that was not."""
    reasons = [one.fact.reason for one in out if isinstance(one, Noted) and isinstance(one.fact, Rejected)]
    assert not reasons or len(out) == 1
    return reasons[0] if reasons else None


def test_a_statement_counts_if_a_report_with_it_is_one_that_everybody_takes() -> None:
    one, now, hour = just_begun()
    society, me = one.society, one.me
    registry = one.replica.next()[0].checkpoint.registry
    at = one.witnessing._checkpoint(hour)
    assert at is not None
    drawn = witnesses(society.law.network, at.seed, hour, me, registry.entities, registry.order)
    asker, place = drawn[1], 1
    key = society.keys[registry.members[asker].era_key].signing
    one.witnessing.claims.fix(hour + 1)
    root = one.witnessing.claims.root(hour + 1)
    said = state_work(key, society.law.network, me, hour, root, Work(1, 0, 1_000))
    more = said[:6] + (1_001).to_bytes(2, "big")
    more += key.sign_as_is(statement_signable(society.law.network, me, hour, root, more))
    other = state_work(key, society.law.network, me, hour, Digest(b"o" * 32), Work(1, 0, 1_000))

    def judged(peer: NodeId, place: int, statement: bytes) -> str | None:
        one.witnessing._served.clear()
        return rejection(one.witnessing.on_frame(now, peer, write_witness(Stated(hour, place, statement)), -1))

    assert judged(asker, place, more) == "a statement of more than there is, or of what was never asked"
    assert judged(asker, place, other) == judged(drawn[0], 0, said) == "a statement that its witness has not signed"
    assert judged(asker, 0, said) == judged(asker, 8, said) == "a statement in another's place"
    assert one.witnessing.claims.stated(hour) == {}
    assert judged(asker, place, said) is None
    assert one.witnessing.claims.stated(hour) == {place: said}
    one.witnessing.claims = Claims(society.law.network, one.shelf.answerable, {})
    assert judged(asker, place, said) == "a statement of more than there is, or of what was never asked"


def test_an_answer_is_of_the_kind_and_by_the_node_that_was_asked_and_of_its_hour() -> None:
    one, now, hour = just_begun()
    me, (peer, other) = one.witnessing, one.society.ids[1:3]
    (send,) = me._look(0, peer)
    assert isinstance(send, Send)
    claim = write_witness(Claim(b"", ()))
    for node, answer in (
        (peer, write_witness(Next(Digest(bytes(32))))),
        (peer, write_witness(Taken())),
        (other, claim),
    ):
        assert rejection(me.on_frame(now, node, answer, send.exchange)) == "an answer that no witness waits for"
    assert me.on_frame(now, peer, claim, send.exchange) == []
    assert rejection(me.on_frame(now, peer, claim, send.exchange)) == "an answer that no witness waits for"
    (late,) = me._look(1, peer)
    assert isinstance(late, Send)
    me.on_timer(Millis(now + HOUR_MS), ("witness", "hour"))
    assert me._hour == hour + 1
    before = dict(me._targets)
    assert me.on_frame(Millis(now + HOUR_MS), peer, write_witness(Next(Digest(bytes(32)))), late.exchange) == []
    assert me._targets == before


def test_a_node_without_time_is_asked_once_more_and_then_told_what_was_seen() -> None:
    one, now, _ = just_begun()
    me, peer = one.witnessing, one.society.ids[1]
    sends = [send for turn in (1, 2) for send in me._look(turn, peer)]
    first, last = (send.exchange for send in sends if isinstance(send, Send))
    assert me.on_frame(now, peer, write_witness(Next(Digest(b"n" * 32))), first) == []
    told = me.on_failed(last)
    assert [type(out.fact) for out in told if isinstance(out, Noted)] == [Witnessed]
    (stated,) = (read_witness(out.frame) for out in told if isinstance(out, Send))
    assert int.from_bytes(stated.statement[6:8], "big") == 333
    assert me.on_failed(last) == me._look(2, peer) == []


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_segments_of_every_size_are_looked_at_in_time(data: st.DataObject) -> None:
    one, _, hour = begun()
    segments = data.draw(st.integers(1, 40))
    size = (segments - 1) * SEGMENT + 1
    seen: set[int] = set()
    for number in range(200):
        drawn = one.witnessing._segments_of(hour, Digest(bytes((number,)) * 32), size)
        assert 1 <= len(drawn) <= SEGMENTS
        seen |= {*drawn}
    assert seen == {*range(segments)}


@cache
def begun() -> tuple[Observer, Millis, int]:
    return just_begun()


RECORDS = (
    ClaimAsked(3),
    Claim(b"a" * 32 + b"b" * 32, (1, 2)),
    SampleAsked(3, (Digest(b"a" * 32),)),
    WitnessSample(()),
    NextAsked(1),
    Next(Digest(b"n" * 32)),
    Stated(2, 8, b"s" * 72),
    Taken(),
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_every_frame_is_read_as_it_was_written(record: Any) -> None:
    assert read_witness(write_witness(record)) == record


@given(st.sampled_from(RECORDS), st.binary(max_size=4), st.floats(0, 1))
def test_a_damaged_frame_is_refused_or_is_the_one_spelling_of_another(record: Any, more: bytes, where: float) -> None:
    frame = write_witness(record)
    at = int(where * len(frame))
    damaged = frame[:at] + more + frame[at + len(more) :]
    try:
        read = read_witness(damaged)
    except Malformed:
        return
    assert write_witness(read) == damaged


@pytest.mark.parametrize(
    "claim", [Claim(b"b" * 32 + b"a" * 32, (1, 1)), Claim(b"a" * 64, (1, 1)), Claim(b"a" * 32, (1, 1)), Claim(b"a", ())]
)
def test_a_claim_names_each_replica_once_with_its_size(claim: Claim) -> None:
    with pytest.raises(Malformed, match="ascending"):
        read_witness(write_witness(claim))


def test_a_send_of_a_witness_is_an_exchange() -> None:
    one, _, _ = begun()
    (sent,) = one.witnessing._ask(one.society.ids[1], 1, NextAsked(0))
    assert isinstance(sent, Send)
    assert sent.channel is Channel.WITNESS
    assert sent.exchange > 0
