"""The clock's offset from peers: who is asked, what counts, and when a node may propose and vote."""

from dataclasses import replace
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.ids import Millis, NodeId
from consensus.params import SERVER_RANK
from consensus.replica import ConsensusReplica
from node.overlay.agreement import Agreement, StandIn
from node.overlay.clocks import ASK, ASKED, ENOUGH, OFFSET_MS_MAX, RTT_MS_MAX, WEIGH, ClockOffset, Clocks
from node.overlay.logs import Out
from node.overlay.machine import Channel, Noted, Rejected, Send, SetTimer
from tests.consensus.towns import BEGAN, LASTING, Town
from tests.consensus.worlds import key

NOW = Millis(BEGAN + 60_000)
STRANGER = NodeId(key(99).public)


@pytest.fixture(scope="module")
def town() -> Town:
    """Twenty founders; the first is the Server."""
    return Town(20)


def clocks(town: Town, me: int = 1) -> Clocks:
    replica = ConsensusReplica(town.rules, town.village.genesis, BEGAN, town.own(me), {})
    exchanges = count(1)
    agreement = Agreement(replica, StandIn(), exchanges.__next__)
    made = Clocks(town.village.nodes[me], Random(1), agreement, exchanges.__next__)
    agreement.start(NOW)
    assert made.start(NOW) == [SetTimer(ASK, Millis(NOW + LASTING.slot_ms * LASTING.hour_slots))]
    return made


def asked(out: list[Out]) -> dict[NodeId, int]:
    return {
        one.peer: one.exchange
        for one in out
        if isinstance(one, Send) and one.channel is Channel.CLOCK and not one.frame
    }


def told(made: Clocks, offsets: dict[NodeId, int], rtt: int = 200) -> ClockOffset:
    """A round in which peers that are so many ms ahead answer."""
    for node in offsets:
        made.on_peer_up(NOW, node)
    questions = asked(made.on_timer(NOW, ASK))
    for node, exchange in questions.items():
        answer = NOW + rtt // 2 + offsets[node]
        assert made.on_frame(Millis(NOW + rtt), node, answer.to_bytes(8, "big"), exchange) == []
    (noted,) = made.on_timer(Millis(NOW + RTT_MS_MAX + 1), WEIGH)
    assert isinstance(noted, Noted)
    assert isinstance(noted.fact, ClockOffset)
    return noted.fact


def test_answers_are_weighed_before_the_next_round_on_the_shortest_hours() -> None:
    town = Town(1, replace(LASTING, slot_ms=1_000, hour_slots=3, vote_ms=601, rank_ms=100))
    made = Clocks(STRANGER, Random(1), Agreement(town.up[0].replica, StandIn(), count(1).__next__), count(1).__next__)
    timers = {one.key: one.at for one in made.on_timer(NOW, ASK) if isinstance(one, SetTimer)}
    assert NOW < timers[WEIGH] < timers[ASK]


def test_a_question_is_answered_with_our_time(town: Town) -> None:
    assert clocks(town).on_frame(NOW, STRANGER, b"", -5) == [Send(STRANGER, Channel.CLOCK, NOW.to_bytes(8, "big"), -5)]


def test_the_offset_is_the_median_of_what_peers_say(town: Town) -> None:
    made = clocks(town)
    server, *others = (town.village.nodes[number] for number in (0, 2, 3, 4, 5))
    assert told(made, {server: 9_999, others[0]: -70, others[1]: 40, others[2]: 10, others[3]: 60}) == (40, 5)
    assert (made.offset, made.samples, made._replica.is_on_time) == (40, 5, True)


@pytest.mark.parametrize(
    ("offset", "is_on_time"), [(OFFSET_MS_MAX, True), (-OFFSET_MS_MAX - 1, False), (90_000, False)]
)
def test_who_is_more_than_five_seconds_off_signs_nothing(offset: int, is_on_time: bool) -> None:
    town = Town(1)
    town.run(5, into=10)
    me = town.up[0].replica
    made = Clocks(STRANGER, Random(1), Agreement(me, StandIn(), count(1).__next__), count(1).__next__)
    assert told(made, {town.village.nodes[0]: offset}) == (offset, 1)
    assert me.is_on_time is is_on_time
    slot = me.slot_at(town.now)
    doing = [*me.wake(town.now, ("propose", slot, SERVER_RANK)), *me.wake(town.now, ("vote", slot))]
    assert bool(doing) is is_on_time


def test_of_fewer_than_three_the_servers_clock_rules_and_without_it_none(town: Town) -> None:
    made = clocks(town)
    assert not made._replica.is_on_time, "nothing is known at the start"
    assert told(made, {town.village.nodes[2]: 30, town.village.nodes[3]: 40}) == (None, 0)
    assert not made._replica.is_on_time
    made = clocks(town)
    assert told(made, {town.village.nodes[2]: 30, town.village.nodes[0]: -800}) == (-800, 1)
    assert made._replica.is_on_time
    server = clocks(town, me=0)
    assert server._replica.is_on_time
    assert told(server, {town.village.nodes[2]: 30}) == (None, 0)
    assert server._replica.is_on_time


def test_slow_answers_do_not_count_and_a_round_begins_anew(town: Town) -> None:
    made = clocks(town)
    peers = dict.fromkeys(town.village.nodes[2:6], 25)
    assert told(made, peers, rtt=RTT_MS_MAX + 2) == (None, 0)
    assert told(made, peers, rtt=RTT_MS_MAX) == (25, 4)
    assert told(made, peers, rtt=RTT_MS_MAX + 2) == (None, 0)
    assert not made._replica.is_on_time


def test_what_nobody_asked_for_or_is_no_time_is_refused(town: Town) -> None:
    made = clocks(town)
    peer, other = town.village.nodes[2:4]
    exchange = asked(made.on_peer_up(NOW, peer))[peer]
    for sender, frame, of in (
        (other, bytes(8), exchange),
        (peer, bytes(8), exchange + 1),
        (peer, bytes(7), exchange),
        (peer, b"x", -3),
    ):
        (noted,) = made.on_frame(NOW, sender, frame, of)
        assert isinstance(noted, Noted)
        assert isinstance(noted.fact, Rejected)
    assert made._samples == {}
    made.on_failed(exchange)
    (noted,) = made.on_frame(NOW, peer, bytes(8), exchange)
    assert isinstance(noted, Noted)


def test_admitted_peers_alone_are_asked_at_once_while_too_few_are_known(town: Town) -> None:
    made = clocks(town)
    assert made.on_peer_up(NOW, STRANGER) == []
    peers = town.village.nodes[2 : 2 + ENOUGH]
    for peer in peers:
        out = made.on_peer_up(NOW, peer)
        assert [*asked(out)] == [peer]
        assert out[-1] == SetTimer(WEIGH, Millis(NOW + RTT_MS_MAX + 1))
    told(made, dict.fromkeys(peers, 1))
    assert made.on_peer_up(NOW, town.village.nodes[9]) == []


def test_a_round_asks_sixteen_and_the_server_among_them(town: Town) -> None:
    made = clocks(town)
    nodes = [node for node in town.village.nodes if node != made._me]
    for node in (*nodes, STRANGER):
        made.on_peer_up(NOW, node)
    made.on_peer_lost(nodes[-1])
    for _ in range(20):
        questions = asked(made.on_timer(NOW, ASK))
        assert ASKED <= len(questions) <= ASKED + 1
        assert {*questions} <= {*nodes[:-1]}
        assert nodes[0] in questions


@given(st.lists(st.integers(-2_000, 2_000), min_size=4, max_size=9), st.lists(st.integers(0, 1 << 62), max_size=3))
def test_liars_that_are_fewer_move_it_within_what_honest_ones_say(honest: list[int], lies: list[int]) -> None:
    town = _crowd()
    said = dict(zip(town.village.nodes[2:], [*honest, *lies], strict=False))
    fact = told(clocks(town), said)
    assert fact.offset is not None
    assert min(honest) <= fact.offset <= max(honest)


_CROWD: list[Town] = []


def _crowd() -> Town:
    if not _CROWD:
        _CROWD.append(Town(20))
    return _CROWD[0]
