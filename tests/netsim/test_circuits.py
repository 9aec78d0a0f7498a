"""Connections: dialled, reliable and in order while they live, and lost in every way there is."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsim.hazards import crash, cut, freeze, heal, restart
from netsim.links import TOR, LinkModel
from netsim.world import MachineRaised
from node.overlay.machine import Channel, Drop, Failed, PeerLost, PeerUp, Received, Send
from tests.netsim.toys import STEADY, Stage, node_id

ZERO, ONE, TWO = map(node_id, range(3))
GOSSIP = Channel.GOSSIP


def test_a_frame_to_a_stranger_dials_and_nothing_comes_before_peer_up() -> None:
    stage = Stage(2)
    for number in range(3):
        stage.send(0, 1, bytes([number]))
    stage.after(2000)
    assert stage.puppet(0).log[3:] == [(1000, PeerUp(ONE, dialled=True))]
    assert stage.puppet(1).log == [
        (1100, PeerUp(ZERO, dialled=False)),
        *((1100, Received(ZERO, GOSSIP, bytes([number]))) for number in range(3)),
    ]
    assert stage.world.counts["dials"] == 1


@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=30), st.integers(0, 2**32), st.integers(0, 2000))
def test_a_stream_delivers_all_in_order_and_no_faster_than_its_bandwidth(
    sizes: list[int], seed: int, jitter: int
) -> None:
    links = replace(STEADY, jitter=jitter, bytes_per_s=100_000, outbox_wait_ms=10**9)
    stage = Stage(2, links, seed)
    stage.connect(0, 1)
    stage.after(60_000)
    stage.puppet(1).log.clear()
    begin = stage.world.now
    for number, size in enumerate(sizes):
        stage.send(0, 1, bytes([number]) * size)
    stage.after(200_000)
    log = stage.puppet(1).log
    assert stage.puppet(1).frames() == [bytes([number]) * size for number, size in enumerate(sizes)]
    sent = 0
    for (now, _), size in zip(log, sizes, strict=True):
        sent += size
        assert now - begin >= sent // 100


def test_the_outbox_of_a_dial_is_bounded_and_drops_the_oldest() -> None:
    stage = Stage(2)
    stage.send(0, 1, b"asks", exchange=7)
    for number in range(STEADY.outbox_frames + 2):
        stage.send(0, 1, bytes([number]))
    stage.after(2000)
    assert stage.puppet(1).frames() == [bytes([number]) for number in range(2, STEADY.outbox_frames + 2)]
    assert Failed(ONE, GOSSIP, 7) in stage.puppet(0).events()
    assert stage.world.counts["frames dropped from an outbox"] == 3


def test_a_frame_that_would_wait_too_long_is_dropped_and_its_exchange_fails() -> None:
    stage = Stage(2, replace(STEADY, bytes_per_s=1000, outbox_wait_ms=5000))
    stage.connect(0, 1)
    for number in range(5):
        stage.send(0, 1, bytes([number]) * 2000, exchange=number + 1)
    stage.after(60_000)
    assert [frame[0] for frame in stage.puppet(1).frames()] == [0, 1, 2]
    assert stage.puppet(0).events() == [Failed(ONE, GOSSIP, 4), Failed(ONE, GOSSIP, 5)]


def test_an_exchange_is_numbered_for_each_side_and_answered_once() -> None:
    stage = Stage(3)
    for asker in (0, 1):
        stage.connect(asker, 2)
    for asker, exchange in ((0, 1), (0, 2), (1, 1)):
        stage.send(asker, 2, bytes([asker, exchange]), exchange)
    stage.after(200)
    seen = {event.frame: event.exchange for event in stage.puppet(2).events() if isinstance(event, Received)}
    assert len(set(seen.values())) == 3
    assert max(seen.values()) < 0
    for frame, number in seen.items():
        stage.send(2, frame[0], b"to " + frame, number)
        stage.send(2, frame[0], b"again", number)
    stage.send(2, 0, b"to what nobody asked", -99)
    stage.after(200)
    assert stage.puppet(0).events() == [
        Received(TWO, GOSSIP, b"to \x00\x01", 1),
        Received(TWO, GOSSIP, b"to \x00\x02", 2),
    ]
    assert stage.puppet(1).events() == [Received(TWO, GOSSIP, b"to \x01\x01", 1)]
    assert stage.world.counts["answers that nobody waits for"] == 4
    stage.send(0, 2, b"the number is free again", 1)
    stage.after(200)
    assert stage.puppet(2).frames()[-1] == b"the number is free again"


def test_using_the_number_of_an_open_exchange_is_a_bug_of_the_machine() -> None:
    stage = Stage(2)
    stage.connect(0, 1)
    stage.send(0, 1, b"", 1)
    stage.send(0, 1, b"", 1)
    with pytest.raises(MachineRaised, match="exchange 1 is still open"):
        stage.after(1)


def test_open_exchanges_are_bounded_and_the_oldest_is_broken_off() -> None:
    stage = Stage(2, replace(STEADY, exchanges=2))
    stage.connect(0, 1)
    for number in (1, 2, 3):
        stage.send(0, 1, bytes([number]), number)
    stage.after(200)
    assert stage.puppet(0).events() == [Failed(ONE, GOSSIP, 1)]
    for event in stage.puppet(1).events():
        assert isinstance(event, Received)
        stage.send(1, 0, event.frame, event.exchange)
    stage.after(200)
    assert stage.puppet(0).frames() == [b"\x02", b"\x03"]


def test_a_protocol_that_is_refused_fails_after_a_round_trip() -> None:
    stage = Stage(2)
    stage.connect(0, 1)
    stage.world.nodes[1].refused = frozenset({Channel.DHT})
    begin = stage.world.now
    stage.act(0, Send(ONE, Channel.DHT, b"?", 1), Send(ONE, Channel.LOGS, b"?", 2))
    stage.after(1000)
    assert stage.puppet(0).log[1:] == [(begin + 200, Failed(ONE, Channel.DHT, 1))]
    assert len(stage.puppet(1).events()) == 1


@pytest.mark.parametrize("silent", [0, 1000])
def test_every_open_exchange_fails_before_peer_lost_however_the_peer_goes(silent: int) -> None:
    stage = Stage(2, replace(STEADY, silent=silent))
    stage.connect(0, 1)
    stage.send(0, 1, b"", 1)
    stage.send(0, 1, b"", 5)
    stage.after(150)
    begin = stage.world.now
    crash(stage.world, 1)
    stage.send(0, 1, b"nobody is there", 6)
    stage.after(60_000)
    lost = begin + (STEADY.dead_after_ms if silent else 100)
    assert stage.puppet(0).log[-4:] == [
        *((lost, Failed(ONE, GOSSIP, number)) for number in (1, 5, 6)),
        (lost, PeerLost(ONE)),
    ]


@pytest.mark.parametrize("why", ["nobody has that id", "the peer is down", "the peer is frozen", "a cut", "chance"])
def test_a_dial_that_fails_fails_its_exchanges_and_tells_nothing_else(why: str) -> None:
    stage = Stage(2, replace(STEADY, dial_failures=1000 if why == "chance" else 0))
    match why:
        case "the peer is down":
            crash(stage.world, 1)
        case "the peer is frozen":
            freeze(stage.world, 1, 30_000)
        case "a cut":
            cut(stage.world, "c", [1], [0])
        case _:
            pass
    peer = node_id(77) if why.startswith("nobody") else ONE
    stage.act(0, Send(peer, GOSSIP, b"lost"), Send(peer, GOSSIP, b"asks", 3))
    stage.after(60_000)
    failed = 1000 if why == "chance" else STEADY.dial_deadline_ms
    assert stage.puppet(0).log[1:] == [(failed, Failed(peer, GOSSIP, 3))]
    assert stage.world.nodes[0].dialling == {}


def test_what_was_sent_before_a_drop_still_arrives_and_then_the_end() -> None:
    stage = Stage(2)
    stage.connect(0, 1)
    begin = stage.world.now
    stage.send(1, 0, b"on its way to one that no longer reads")
    stage.act(0, Send(ONE, GOSSIP, b"last words"), Drop(ONE, "enough"), Drop(TWO, "not connected"))
    stage.after(5000)
    assert stage.puppet(0).log[1:] == [(begin, PeerLost(ONE))]
    assert stage.puppet(1).log[1:] == [
        (begin + 100, Received(ZERO, GOSSIP, b"last words")),
        (begin + 100, PeerLost(ZERO)),
    ]
    assert [node.pipes for node in stage.world.nodes] == [{}, {}]


@given(st.integers(0, 1200))
def test_two_that_dial_each_other_share_one_connection(apart: int) -> None:
    stage = Stage(2)
    stage.send(0, 1, b"from 0")
    stage.after(apart)
    stage.send(1, 0, b"from 1")
    stage.after(5000)
    for one, other in ((0, 1), (1, 0)):
        events = stage.puppet(one).events()
        assert [type(event) for event in events] == [PeerUp, Received]
        assert stage.puppet(one).frames() == [b"from %d" % other]
    assert stage.world.counts["connections"] == 1


def test_a_connection_that_is_dead_and_not_yet_noticed_is_replaced() -> None:
    stage = Stage(2, replace(STEADY, silent=1000))
    stage.connect(0, 1)
    crash(stage.world, 1)
    restart(stage.world, 1)
    stage.send(1, 0, b"back again")
    stage.after(2000)
    assert stage.puppet(0).events() == [PeerLost(ONE), PeerUp(ONE, dialled=False), Received(ONE, GOSSIP, b"back again")]
    stage.after(60_000)
    assert len(stage.puppet(0).events()) == 3  # the keepalive of the old one says nothing about the new


def test_a_circuit_breaks_for_both_sides_and_can_be_dialled_again() -> None:
    stage = Stage(2, replace(STEADY, life_ms=60_000, silent=500))
    for number in range(200):
        stage.send(number % 2, 1 - number % 2, bytes([number]))
        stage.after(10_000)
    for index in (0, 1):
        kinds = [type(event) for event in stage.puppet(index).events() if not isinstance(event, Received)]
        assert kinds[: 2 * (len(kinds) // 2)] == [PeerUp, PeerLost] * (len(kinds) // 2)
        assert len(kinds) > 20
    assert stage.world.counts["circuits broken"] > 10


def test_a_cut_stops_one_direction_at_once_and_ends_the_connection_for_both() -> None:
    stage = Stage(3)
    stage.connect(0, 1)
    stage.connect(0, 2)
    begin = stage.world.now
    cut(stage.world, "c", [0], [1])
    for _ in range(6):
        stage.send(0, 1, b"into the cut")
        stage.send(1, 0, b"against it")
        stage.send(0, 2, b"beside it")
        stage.after(10_000)
    assert stage.puppet(1).frames() == []
    assert stage.puppet(0).frames() == [b"against it"] * 5
    assert stage.puppet(2).frames() == [b"beside it"] * 6
    for index, peer in ((0, ONE), (1, ZERO)):
        assert (begin + STEADY.dead_after_ms, PeerLost(peer)) in stage.puppet(index).log
    heal(stage.world, "c")
    stage.after(60_000)
    stage.send(0, 1, b"whole again")
    stage.after(2000)
    assert stage.puppet(1).frames()[-1] == b"whole again"


def test_datagrams_pass_a_cut_in_the_other_direction_and_again_when_it_heals() -> None:
    stage = Stage(2, replace(STEADY, lossy=True))
    stage.connect(0, 1)
    cut(stage.world, "c", [0], [1])
    cut(stage.world, "d", [0], [1])
    for healed in ((), ("c",), ("d",)):
        for name in healed:
            heal(stage.world, name)
        stage.send(0, 1, b"there")
        stage.send(1, 0, b"back")
        stage.after(60_000)
    assert stage.puppet(0).frames() == [b"back"] * 3
    assert stage.puppet(1).frames() == [b"there"]
    assert PeerLost(ONE) not in stage.puppet(0).events()


def test_lossy_links_lose_double_and_reorder_about_as_often_as_they_should() -> None:
    links = LinkModel(**{
        **{name: getattr(STEADY, name) for name in STEADY.__dataclass_fields__},
        "lossy": True, "loss": 200, "doubled": 100, "overtaken": 500, "jitter": 500,
    })  # fmt: skip
    stage = Stage(2, links)
    while not stage.world.nodes[0].pipes:
        stage.connect(0, 1)
    for number in range(1000):
        stage.send(0, 1, number.to_bytes(2))
        stage.after(10)
    stage.after(5000)
    frames = [int.from_bytes(frame) for frame in stage.puppet(1).frames()]
    assert 150 < 1000 - len(set(frames)) < 250
    assert 50 < len(frames) - len(set(frames)) < 150
    assert sum(a > b for a, b in pairwise(frames)) > 100


def test_a_node_that_talks_to_itself_is_not_connected() -> None:
    stage = Stage(1)
    stage.send(0, 0, b"me")
    stage.after(60_000)
    assert stage.puppet(0).events() == []
    assert stage.world.counts["frames to itself"] == 1


def test_the_tor_model_keeps_a_pair_talking_for_a_day() -> None:
    stage = Stage(2, TOR)
    for _ in range(24 * 60):
        stage.send(0, 1, b"tick")
        stage.after(60_000)
    assert 0.97 * 24 * 60 < len(stage.puppet(1).frames()) <= 24 * 60
    assert stage.world.counts["connections"] > 1
