"""The replica among the parts of a peer: each wish in the overlay's words, and blocks asked for one question at a time."""

from collections.abc import Iterable
from itertools import count

import pytest
from blake3 import blake3

from consensus.block import Block
from consensus.catchup import BlockAnswer
from consensus.facts import NOBODY
from consensus.ids import Digest, Millis, NodeId
from consensus.payload import FIRST, PayloadTerms
from consensus.records import pack, unpack
from consensus.replica import ConsensusReplica
from consensus.wishes import (
    Doing,
    DutyDone,
    FetchBlocks,
    Heard,
    Keep,
    NewBlock,
    Prove,
    RecordRefused,
    Spread,
    Told,
    Topic,
    Wake,
)
from node.overlay import agreement
from node.overlay.agreement import ASKED_MAX, RULINGS, TOPICS, Agreement, StandIn, kept
from node.overlay.logs import Announce, Out
from node.overlay.machine import Channel, Noted, Persist, Rejected, Send, SetTimer
from node.overlay.topics import Ruling
from tests.consensus.towns import BEGAN, EMPTY, SLOT, Town
from tests.consensus.worlds import key, named

A, B, C = (NodeId(key(number).public) for number in (60, 61, 62))


TERMS = PayloadTerms(FIRST, 1, named(0), NOBODY, named(1), (), None, ())


class Unwilling(StandIn):
    """An execution layer to which no payload is valid."""

    def is_valid(self, block: Block, terms: PayloadTerms) -> bool:
        return False


@pytest.fixture(scope="module")
def town() -> Town:
    made = Town(1)
    made.run(9)
    return made


def member(town: Town, number: int | None = None, execution: StandIn | None = None) -> Agreement:
    """A newcomer that knows the genesis: the founder of a number, or nobody."""
    own = None if number is None else town.own(number)
    replica = ConsensusReplica(town.rules, town.village.genesis, BEGAN, own, {})
    asked = count(1)
    made = Agreement(replica, execution or StandIn(), lambda: next(asked))
    assert made.start(town.now) == [SetTimer(("agreement", "slot", 9), Millis(BEGAN + 9 * SLOT))]
    return made


def answer(town: Town, first: int, last: int) -> bytes:
    """Some of the founder's blocks, as an answer."""
    fresh = ConsensusReplica(town.rules, town.village.genesis, BEGAN, None, {})
    blocks = unpack(BlockAnswer, town.up[0].replica.answer(fresh.question())).blocks
    return pack(BlockAnswer(blocks[first:last]))


def asked(out: Iterable[Out]) -> list[tuple[NodeId, int]]:
    return [(one.peer, one.exchange) for one in out if isinstance(one, Send) and one.channel is Channel.BLOCKS]


def test_every_wish_has_one_word_in_the_overlay(town: Town) -> None:
    me = member(town)
    wishes: dict[str, tuple[Doing, list[Out]]] = {
        "spread": (Spread(Topic.VOTES, b"x"), [Announce("votes", b"x")]),
        "wake": (Wake(("vote", 7), Millis(5)), [SetTimer(("agreement", "vote", 7), Millis(5))]),
        "keep": (Keep("blocks", (named(1),), b"x"), [Persist("blocks", (named(1),), b"x")]),
        "forget": (Keep("blocks", (named(1),), None), [Persist("blocks", (named(1),), None)]),
        "told": (Told(DutyDone("vote", 1)), [Noted(DutyDone("vote", 1))]),
        "prove": (Prove(1, named(1), 4), [Noted(Prove(1, named(1), 4))]),
        "fetch": (FetchBlocks(A, b"x"), []),  # of nobody who is connected
    }
    for wish, expected in wishes.values():
        assert me._done(town.now, [wish]) == expected
    everything = [wish for wish, _ in wishes.values()]
    assert me._done(town.now, everything) == [one for _, out in wishes.values() for one in out]
    assert {*TOPICS} == {*map(str, Topic)}
    assert RULINGS == {Heard.ACCEPT: Ruling.ACCEPT, Heard.IGNORE: Ruling.IGNORE, Heard.REJECT: Ruling.REJECT}


def test_a_heard_block_is_executed_at_once_and_kept_before_anything_else(town: Town) -> None:
    (data,) = unpack(BlockAnswer, answer(town, 0, 1)).blocks
    me = member(town)
    ruling, out = me.on_heard(town.now, "blocks", A, data)
    assert ruling is Ruling.ACCEPT
    assert isinstance(out[0], Persist)
    assert (out[0].table, out[0].value) == ("blocks", data)
    assert isinstance(out[1], Persist)
    assert (out[1].table, out[1].key, out[1].value) == ("branches", out[0].key, b"")
    assert isinstance(out[2], Noted)
    assert isinstance(out[2].fact, NewBlock)
    assert me.on_heard(town.now, "blocks", A, data) == (Ruling.IGNORE, [])
    assert me.on_heard(town.now, "votes", A, data) == (Ruling.REJECT, [])
    other = member(town, execution=Unwilling())
    ruling, out = other.on_heard(town.now, "blocks", A, data)
    assert [one.fact for one in out if isinstance(one, Noted)] == [
        RecordRefused(Topic.BLOCKS, "a block whose payload is invalid")
    ]
    assert len(other.replica.tree) == 1


def test_a_payload_is_built_and_the_block_kept_before_it_is_announced(town: Town) -> None:
    me = member(town, 0)
    for slot in (9, 10):
        me.on_timer(Millis(BEGAN + slot * SLOT), ("agreement", "slot", slot))
    out = me.on_timer(Millis(BEGAN + 10 * SLOT), ("agreement", "propose", 10, 6))
    kinds = [one.table if isinstance(one, Persist) else type(one) for one in out]
    assert kinds == ["journal", Noted, "blocks", "branches", Noted, Announce]
    assert me.replica.head().slot == 10
    name, payload = StandIn().build(TERMS)
    assert (name, payload) == (Digest(EMPTY), b"")
    assert name == blake3(payload).digest()


def test_who_is_behind_asks_one_question_at_a_time_until_it_has_all(town: Town) -> None:
    me = member(town)
    (question,) = me.on_peer_up(town.now, A)
    assert isinstance(question, Send)
    assert (question.peer, question.channel, question.exchange) == (A, Channel.BLOCKS, 1)
    assert me._done(town.now, [FetchBlocks(A, b"more")]) == []
    out = me.on_frame(town.now, A, answer(town, 0, 3), 1)
    assert asked(out) == [(A, 2)]  # there is news: it goes on
    out = me.on_frame(town.now, A, answer(town, 3, 99), 2)
    assert me.replica.head() == town.up[0].replica.head()
    assert asked(out) == [(A, 3)]
    assert me.on_frame(town.now, A, pack(BlockAnswer(())), 3) == []


def test_answers_that_nobody_asked_for_are_noted_and_disturb_no_question(town: Town) -> None:
    me = member(town)
    me.on_peer_up(town.now, A)
    unasked = [Noted(Rejected(B, "blocks that nobody asked for"))]
    for exchange in (1, 2, 0, 1 << 40):
        assert me.on_frame(town.now, B, answer(town, 0, 3), exchange) == unasked
    assert len(me.replica.tree) == 1
    assert asked(me.on_frame(town.now, A, answer(town, 0, 3), 1)) == [(A, 2)]
    again = me.on_frame(town.now, A, answer(town, 0, 3), 1)
    assert again == [Noted(Rejected(A, "blocks that nobody asked for"))]


def test_an_answer_with_an_invalid_block_is_held_against_its_sender(town: Town) -> None:
    me = member(town)
    me.on_peer_up(town.now, A)
    out = me.on_frame(town.now, A, b"garbage", 1)
    assert out[-1] == Noted(Rejected(A, "an answer with an invalid block"))
    assert len(me.replica.tree) == 1


def test_a_question_is_answered_and_one_that_is_none_is_noted(town: Town) -> None:
    me = member(town)
    me.on_peer_up(town.now, A)
    me.on_frame(town.now, A, answer(town, 0, 99), 1)
    fresh = member(town)
    (reply,) = me.on_frame(town.now, B, fresh.replica.question(), -7)
    assert reply == Send(B, Channel.BLOCKS, answer(town, 0, 99), -7)
    (noted,) = me.on_frame(town.now, B, b"garbage", -8)
    assert isinstance(noted, Noted)
    assert isinstance(noted.fact, Rejected)


def test_in_place_of_a_stranger_one_connected_peer_after_the_other_is_asked(town: Town) -> None:
    me = member(town)
    me.on_peer_up(town.now, A)
    assert asked(me._done(town.now, [FetchBlocks(C, b"x")])) == []  # a question is out
    me.on_failed(1)
    me.on_peer_up(town.now, B)
    me.on_failed(2)
    turns = []
    for exchange in (3, 4, 5):
        turns += asked(me._done(town.now, [FetchBlocks(C, b"x"), FetchBlocks(C, b"x")]))
        me.on_failed(exchange)
    assert turns == [(A, 3), (B, 4), (A, 5)]
    me._done(town.now, [FetchBlocks(C, b"x")])
    assert me.on_peer_lost(B) == []
    assert asked(me.on_peer_up(town.now, B)) == [(B, 7)]
    assert me.on_peer_lost(A) == me.on_peer_lost(B) == []
    assert me._asked == {}
    assert me.on_frame(town.now, B, answer(town, 0, 1), 7) == [Noted(Rejected(B, "blocks that nobody asked for"))]


def test_questions_are_bounded(town: Town) -> None:
    me = member(town)
    sent = [one for number in range(2 * ASKED_MAX) for one in asked(me.on_peer_up(town.now, NodeId(named(number))))]
    assert len(sent) == len(me._asked) == ASKED_MAX


def test_reports_and_proofs_of_the_host_go_through(town: Town) -> None:
    me = member(town, 0)
    report = town.report(town.up[0].replica.next()[0], 1, town.village.nodes[0])
    assert me.submit(town.now, report) == [Announce("beacons", pack(report))]
    assert me.found(town.now, 5, bytes(16)) == []
    assert agreement.ProofFound(5, bytes(16)).call == 5


def test_the_replica_is_given_its_own_rows_alone() -> None:
    rows = {
        ("branches", (b"x",)): b"1",
        ("journal", ("signed", b"k")): b"2",
        ("logs", (1,)): b"3",
    }
    assert kept(rows) == {("branches", (b"x",)): b"1", ("journal", ("signed", b"k")): b"2"}
