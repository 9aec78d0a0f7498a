"""Witnesses see what is there: replicas that are held, lies that are shown, nodes that are silent; in worlds of five nodes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.beacon import Deposit, Receipt, receipt_id, show, signable
from consensus.encoding import Malformed
from consensus.ids import Digest, Millis, NodeId
from consensus.merkle import segment_root
from consensus.params import MAINNET
from consensus.records import pack
from consensus.tally import Work
from netsim.agreement import Citizen, Society
from netsim.seeds import derive
from netsim.world import World
from node.overlay.custody import ReadSegments, SegmentsRead
from node.overlay.inventory import Answerable
from node.overlay.logs import Out
from node.overlay.machine import Action, Channel, Event, Failed, Noted, Received, Rejected, Send, TimerFired
from node.overlay.witness_frames import (
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
from node.overlay.witnessing import ReportMade, Witnessed, Witnessing

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
            receipt_id(receipt),
            SIZE,
            chunk,
            root,
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
        owner = number if lie == "owns them itself" else (number + 1) % NODES
        shelf: Any = Shelf(society, number, owner)
        self.witnessing = Witnessing(self.me, Random(number), self.agreement, shelf, self._next_exchange)
        if lie == "claims one twice":
            shelf.rows = [shelf.rows[0], shelf.rows[0]]
        if lie == "never heard of the second":
            shelf.rows[1] = shelf.rows[1]._replace(deposit_signature=bytes(64))

    def start(self, now: Millis) -> Sequence[Action]:
        return [*super().start(now), *self.told(self.witnessing.start(now))]

    def handle(self, now: Millis, event: Event) -> Sequence[Action]:
        match event:
            case Received(peer, Channel.WITNESS, frame, exchange):
                asked = read_witness(frame) if exchange < 0 else None
                if self.lie == "is silent at first" and isinstance(asked, ClaimAsked):
                    return []
                return self._read(self.witnessing.on_frame(now, peer, frame, exchange))
            case Failed(_, Channel.WITNESS, exchange):
                return self.told(self.witnessing.on_failed(exchange))
            case TimerFired(key) if key[0] == "witness":
                return self._read(self.witnessing.on_timer(now, key))
            case _:
                return super().handle(now, event)

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
        turn = next(turn for turn in range(HELD) if segment_root(replica_of(self.number, turn)) == want.root)
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


def watched(lie: str = "", hours: int = 4) -> Seen:
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
    world.run(world.now + hours * HOUR_MS)
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


@pytest.mark.parametrize(
    "lie", ["shows other bytes", "has lost them", "owns them itself", "claims one twice", "never heard of the second"]
)
def test_what_cannot_be_shown_earns_nothing_and_is_held_against_nobody(lie: str) -> None:
    seen = watched(lie)
    stated = {work.storage for work in seen.works[NODES - 1]}
    if lie == "never heard of the second":  # seen by whoever happened to look at it; four looks at two of equal size
        assert 0 in stated
    else:
        assert stated <= {0}
    assert settled_work(seen, 0, 2) == Work(HELD * SIZE // 1_000_000, 0, 1_000)


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
    seen = watched(hours=2)
    one, now = seen.world.nodes[0].machine, Millis(seen.world.now)
    assert isinstance(one, Observer)
    hour = one.witnessing._hour
    asker = seen.society.ids[1]
    now = one.replica.start_of(hour * MAINNET.hour_slots)
    unknown = write_witness(SampleAsked(hour, (Digest(b"x" * 32),)))
    assert one.witnessing.on_frame(now, asker, unknown, -1) == []
    names = tuple(sorted(row.name for row in one.witnessing._answered_for(hour)))
    reads = [one.witnessing.on_frame(now, asker, write_witness(SampleAsked(hour, names)), -1) for _ in range(100)]
    assert sum(map(bool, reads)) == 64
    assert one.witnessing.on_read(SegmentsRead(-999, ())) == []


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
def test_a_claim_names_each_receipt_once_with_its_size(claim: Claim) -> None:
    with pytest.raises(Malformed, match="ascending"):
        read_witness(write_witness(claim))


def test_a_send_of_a_witness_is_an_exchange() -> None:
    seen = watched(hours=1)
    one = seen.world.nodes[0].machine
    assert isinstance(one, Observer)
    (sent,) = one.witnessing._ask(seen.society.ids[1], NextAsked(0), None)
    assert isinstance(sent, Send)
    assert sent.channel is Channel.WITNESS
    assert sent.exchange > 0
