"""What a swarm promises its host (node.net.swarm), kept by the one in memory and by libp2p's over real sockets."""

from collections.abc import AsyncIterator, Callable
from random import Random

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from consensus.ids import NodeId
from node.net.limits import SwarmLimits
from node.net.swarm import PeerStream, Unreachable, Unwilling
from node.overlay.machine import Channel, Event, Failed, PeerLost, PeerUp, Received, Send
from tests.node.net.swarms import MemoryRig, Node, OnionRig, Rig, SocketRig, until

STRANGER = NodeId(bytes(31) + b"\x01")
BULK = "/lucid/test/1"


RIGS: dict[str, Callable[[trio.Nursery], Rig]] = {"memory": MemoryRig, "loopback": SocketRig, "onions": OnionRig}


@pytest.fixture(params=list(RIGS))
async def rig(request: pytest.FixtureRequest, nursery: trio.Nursery) -> AsyncIterator[Rig]:
    yield RIGS[request.param](nursery)
    nursery.cancel_scope.cancel()


async def pair(rig: Rig, limits: SwarmLimits | None = None) -> tuple[Node, Node]:
    a, b = await rig.node(1, limits), await rig.node(2, limits)
    await a.connected(b)
    await a.sees(PeerUp(b.id, True))
    return a, b


# Posting


async def test_a_post_dials_and_what_waited_arrives_in_order(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await rig.node(1), await rig.node(2)
    for number in range(3):
        a.post(b, b"%d" % number)
    await b.hears(b"2")
    assert b.events == [PeerUp(a.id, False), *(Received(a.id, Channel.LOGS, b"%d" % number) for number in range(3))]
    await a.sees(PeerUp(b.id, True))
    assert len(a.events) == 1


async def test_nothing_that_is_posted_blocks_or_raises_and_only_exchanges_fail(rig: Rig, mock_clock: MockClock) -> None:
    a = await rig.node(1)
    a.post(STRANGER, b"nobody knows where")
    a.post(STRANGER, b"question", 7)
    a.post(STRANGER, b"answer to nothing", -7)
    a.post(a, b"to ourselves", 8)
    rig.known[STRANGER] = (b"\x01\x02nonsense",)
    a.post(STRANGER, b"nobody dials that", 9)
    await a.fails(STRANGER, 7)
    await a.fails(STRANGER, 9)
    await a.fails(a, 8)
    assert len(a.events) == 3
    a.swarm.drop(STRANGER, "no connection, no error")


async def test_before_it_runs_and_after_it_a_post_has_no_effect(rig: Rig, mock_clock: MockClock) -> None:
    b = await rig.node(2)
    a = await rig.node(1, start=False)
    a.post(b, b"too early", 1)
    await rig.start(a)
    a.post(b, b"in time")
    await b.hears(b"in time")
    await a.stop()
    await b.lost(a)
    told = list(a.events)
    a.post(b, b"too late", 2)
    with pytest.raises(Unreachable):
        await a.swarm.open_stream(b.id, BULK)
    assert a.events == told
    assert b.frames() == [b"in time"]


async def test_what_waits_for_a_connection_is_bounded_and_the_oldest_goes_first(
    rig: Rig, mock_clock: MockClock
) -> None:
    a, b = await rig.node(1, SwarmLimits(queue_frames=4)), await rig.node(2)
    a.post(b, b"question", 5)
    for number in range(6):
        a.post(b, b"%d" % number)
    await a.fails(b, 5)
    await b.hears(b"5")
    assert b.frames() == [b"2", b"3", b"4", b"5"]


async def test_bytes_that_wait_for_a_connection_are_bounded_too(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await rig.node(1, SwarmLimits(queue_bytes=1000)), await rig.node(2)
    for number in range(6):
        a.post(b, bytes([number]) * 400)
    await b.hears(bytes([5]) * 400)
    assert b.frames() == [bytes([4]) * 400, bytes([5]) * 400]


async def test_a_peer_that_cannot_be_reached_is_left_alone_for_a_while(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await rig.node(1), await rig.node(2, start=False)
    a.post(b, b"nobody there", 1)
    await a.fails(b, 1)
    await rig.start(b)
    a.post(b, b"too soon", 2)
    await a.fails(b, 2)
    mock_clock.jump(1.25)
    a.post(b, b"hello", 3)
    await b.hears(b"hello")


async def test_who_answers_under_another_identity_is_nobody(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await rig.node(1), await rig.node(2)
    rig.known[STRANGER] = b.addresses
    a.post(STRANGER, b"for a stranger", 1)
    await a.fails(STRANGER, 1)
    with pytest.raises(Unreachable):  # left alone
        await a.swarm.open_stream(STRANGER, BULK)
    assert a.events == [Failed(STRANGER, Channel.LOGS, 1)]
    assert b.of(Received, PeerUp) == []


async def test_the_next_address_is_tried_when_one_does_not_answer(rig: Rig, mock_clock: MockClock) -> None:
    a, b, gone = await rig.node(1), await rig.node(2), await rig.node(3)
    await gone.stop()
    rig.known[b.id] = (b"\x04\x7f", *gone.addresses, *b.addresses)
    await a.connected(b)


# Frames


@pytest.mark.parametrize("seed", range(3))
async def test_each_channel_keeps_its_order_both_ways(rig: Rig, mock_clock: MockClock, seed: int) -> None:
    a, b = await rig.node(1), await rig.node(2)
    rng = Random(seed)
    sent: dict[tuple[NodeId, Channel], list[bytes]] = {}
    for number in range(300):
        one, other = (a, b) if rng.random() < 0.5 else (b, a)
        channel = rng.choice([Channel.GOSSIP, Channel.LOGS, Channel.REPLICAS])
        frame = number.to_bytes(4, "big") + bytes(int(10 ** rng.uniform(0, 4)))
        one.post(other, frame, 0, channel)
        sent.setdefault((other.id, channel), []).append(frame)
        if rng.random() < 0.1:
            await trio.lowlevel.checkpoint()
    for node in (a, b):
        for channel in (Channel.GOSSIP, Channel.LOGS, Channel.REPLICAS):
            expected = sent[node.id, channel]
            await until(lambda: len(node.frames(channel)) == len(expected), "all frames")  # noqa: B023
            assert node.frames(channel) == expected
        assert len(node.of(PeerUp)) == 1
        assert not node.of(PeerLost, Failed)


async def test_a_frame_of_the_dht_outside_an_exchange_arrives_too(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await pair(rig)
    a.post(b, b"notice", 0, Channel.DHT)
    event = await b.hears(b"notice", Channel.DHT)
    assert event.exchange <= 0, "stock libp2p cannot say that it wants no answer"


# Exchanges


@pytest.mark.parametrize("channel", [Channel.DHT, Channel.LOGS, Channel.REPLICAS])
async def test_an_exchange_is_answered_under_its_number_in_any_order(
    rig: Rig, mock_clock: MockClock, channel: Channel
) -> None:
    a, b = await rig.node(1), await rig.node(2)
    for number in range(1, 6):
        a.post(b, b"q%d" % number, number, channel)
    numbers = [(await b.hears(b"q%d" % number, channel)).exchange for number in range(1, 6)]
    assert all(number < 0 for number in numbers)
    assert len(set(numbers)) == 5
    for number in (3, 1, 5, 2, 4):
        b.post(a, b"a%d" % number, numbers[number - 1], channel)
        b.post(a, b"again", numbers[number - 1], channel)
    for number in range(1, 6):
        await a.sees(Received(b.id, channel, b"a%d" % number, number))
    assert len(a.of(Received)) == 5
    assert not a.of(Failed)


async def test_many_exchanges_one_after_the_other_both_ways(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await pair(rig)
    for node, other in ((a, b), (b, a)):

        def answer(event: Event, node: Node = node, other: Node = other) -> None:
            if isinstance(event, Received) and event.exchange < 0:
                node.post(other, event.frame, event.exchange, event.channel)

        node.then = answer
    for number in range(1, 101):
        for node, other in ((a, b), (b, a)):
            node.post(other, b"%d" % number, number, Channel.DHT)
        for node, other in ((a, b), (b, a)):
            await node.sees(Received(other.id, Channel.DHT, b"%d" % number, number))
    assert not a.of(Failed)


async def test_an_exchange_that_nobody_answers_fails_in_time(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await pair(rig, SwarmLimits(exchange_ms=10_000))
    a.post(b, b"question", 1)
    asked = (await b.hears(b"question")).exchange
    mock_clock.jump(5)
    await trio.testing.wait_all_tasks_blocked()
    assert not a.of(Failed)
    mock_clock.jump(5)
    await a.fails(b, 1)
    b.post(a, b"too late", asked)
    b.post(a, b"still there")
    await a.hears(b"still there")
    assert b"too late" not in a.frames()


async def test_gossip_knows_no_exchanges(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await pair(rig)
    a.post(b, b"question", 1, Channel.GOSSIP)
    await a.fails(b, 1, Channel.GOSSIP)


async def test_whoever_asks_too_much_at_once_is_answered_last_first(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await rig.node(1), await rig.node(2, SwarmLimits(asked=2))
    for number in range(1, 4):
        a.post(b, b"q%d" % number, number)
    await b.hears(b"q3")
    await a.fails(b, 1)
    for number in (2, 3):
        b.post(a, b"a%d" % number, (await b.hears(b"q%d" % number)).exchange)
        await a.sees(Received(b.id, Channel.LOGS, b"a%d" % number, number))


# Peers come and go


async def test_two_nodes_that_dial_each_other_at_once_have_one_connection(rig: Rig, mock_clock: MockClock) -> None:
    nodes = [await rig.node(number) for number in range(1, 6)]
    for one in nodes:
        for other in nodes:
            if one is not other:
                one.post(other, one.id + other.id)
                one.post(other, b"question" + one.id, 1, Channel.DHT)
    for one in nodes:
        for other in nodes:
            if one is not other:
                await one.hears(other.id + one.id)
                await one.hears(b"question" + other.id, Channel.DHT)
    for one in nodes:
        ups = [event for event in one.events if isinstance(event, PeerUp)]
        assert sorted(up.peer for up in ups) == sorted(other.id for other in nodes if other is not one)
        assert not one.of(PeerLost, Failed)
    dialled = {(one.id, up.peer): up.dialled for one in nodes for up in one.of(PeerUp) if isinstance(up, PeerUp)}
    assert all(dialled[one, other] != dialled[other, one] for one, other in dialled), "one of the two has dialled"


async def test_a_peer_is_up_before_its_first_frame_and_lost_after_its_last(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await pair(rig)
    for number in range(1, 4):
        a.post(b, b"q%d" % number, number, Channel.DHT)
    await b.hears(b"q3", Channel.DHT)
    rig.cut(a, b)
    await a.lost(b)
    await b.lost(a)
    assert a.events[0] == PeerUp(b.id, True)
    assert sorted(a.events[1:-1]) == [Failed(b.id, Channel.DHT, number) for number in range(1, 4)]
    assert a.events[-1] == PeerLost(b.id)
    assert (b.events[0], b.events[-1]) == (PeerUp(a.id, False), PeerLost(a.id))
    assert len(b.of(PeerUp, PeerLost)) == 2
    a.events.clear()
    b.post(a, b"here again")
    await a.hears(b"here again")
    assert a.events == [PeerUp(b.id, False), Received(b.id, Channel.LOGS, b"here again")]


async def test_a_swarm_that_ends_is_lost_to_its_peers(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await pair(rig)
    await a.stop()
    await b.lost(a)


async def test_after_a_drop_nothing_of_the_peer_is_delivered_but_its_loss(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await pair(rig)
    b.post(a, b"question", 1)
    await a.hears(b"question")

    def drop(event: Event) -> None:
        if isinstance(event, Received) and event.frame == b"0":
            b.swarm.drop(a.id, "enough")

    b.then = drop
    for number in range(20):
        a.post(b, b"%d" % number)
        a.post(b, b"%d" % number, 0, Channel.GOSSIP)
        a.post(b, b"%d" % number, number + 1, Channel.DHT)
    await b.lost(a)
    place = next(n for n, event in enumerate(b.events) if isinstance(event, Received) and event.frame == b"0")
    assert b.events[place + 1 :] == [Failed(a.id, Channel.LOGS, 1), PeerLost(a.id)]
    await a.lost(b)
    b.then = lambda _event: None
    a.post(b, b"back again")
    await b.hears(b"back again")


async def test_a_drop_before_anybody_heard_of_the_peer_leaves_no_trace(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await rig.node(1), await rig.node(2)

    def drop(event: Event) -> None:
        if isinstance(event, PeerUp):
            a.swarm.drop(b.id, "not this one")
            a.post(STRANGER, b"", 1)

    a.then = drop
    a.post(b, b"never")
    await a.fails(STRANGER, 1)
    assert a.events[:2] == [PeerUp(b.id, True), PeerLost(b.id)]


async def test_a_peer_that_falls_silent_is_lost_on_both_sides(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await pair(rig)
    a.post(b, b"question", 1)
    await b.hears(b"question")
    rig.silence(a, b)
    a.post(b, b"into the void")
    mock_clock.jump(40)
    await trio.testing.wait_all_tasks_blocked()
    assert not a.of(PeerLost)
    assert not b.of(PeerLost)
    mock_clock.jump(10)
    await a.lost(b)
    await b.lost(a)
    assert a.events[-2:] == [Failed(b.id, Channel.LOGS, 1), PeerLost(b.id)]
    assert b"into the void" not in b.frames()


async def test_more_peers_than_there_is_room_for_are_turned_away(rig: Rig, mock_clock: MockClock) -> None:
    hub = await rig.node(1, SwarmLimits(connections=2))
    others = [await rig.node(number) for number in range(2, 5)]
    for other in others[:2]:
        await other.connected(hub)
    others[2].post(hub, b"let me in", 1)
    await others[2].fails(hub, 1)
    assert len(hub.of(PeerUp)) == 2
    await others[0].stop()
    await hub.lost(others[0])
    await hub.connected(others[2])


# Streams


async def serving(rig: Rig, handler: object, most: int = 4) -> tuple[Node, Node]:
    a, b = await rig.node(1), await rig.node(2, start=False)
    b.swarm.serve_streams(BULK, handler, most)  # type: ignore[arg-type]
    await rig.start(b)
    return a, b


async def read_all(stream: PeerStream, most: int = 1 << 16) -> bytes:
    parts = []
    while part := await stream.read(most):
        assert len(part) <= most
        parts.append(part)
    return b"".join(parts)


async def test_a_stream_dials_and_carries_bytes_both_ways_to_its_end(rig: Rig, mock_clock: MockClock) -> None:
    peers = []

    async def shout(stream: PeerStream) -> None:
        peers.append(stream.peer)
        while data := await stream.read(1000):
            await stream.write(data.upper())
        await stream.close_writing()

    a, b = await serving(rig, shout)
    stream = await a.swarm.open_stream(b.id, BULK)
    assert stream.peer == b.id
    text = b"all that is written " * 50_000
    async with trio.open_nursery() as nursery:
        received: list[bytes] = []

        async def read() -> None:
            received.append(await read_all(stream))

        nursery.start_soon(read)
        await stream.write(text)
        await stream.write(b"")
        await stream.close_writing()
    assert received == [text.upper()]
    assert peers == [a.id]
    with pytest.raises(Unreachable):
        await stream.write(b"after the end")
    await stream.aclose()
    assert all(count >= len(text) for count in a.swarm.traffic()[b.id])
    assert a.events == [PeerUp(b.id, True)]


async def test_traffic_counts_the_bytes_of_each_connected_peer(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await pair(rig)
    before = a.swarm.traffic()[b.id][1]
    a.post(b, bytes(10_000))
    await b.hears(bytes(10_000))
    await until(lambda: a.swarm.traffic()[b.id][1] - before >= 10_000)
    assert a.swarm.traffic()[b.id][1] - before < 11_000
    assert b.swarm.traffic()[a.id][0] >= 10_000
    rig.cut(a, b)
    await a.lost(b)
    assert a.swarm.traffic() == {}


async def test_a_writer_waits_for_a_reader_that_does_not_read(rig: Rig, mock_clock: MockClock) -> None:
    go = trio.Event()
    received = []

    async def later(stream: PeerStream) -> None:
        await go.wait()
        received.append(await read_all(stream))

    a, b = await serving(rig, later)
    stream = await a.swarm.open_stream(b.id, BULK)
    written = 0

    async def write() -> None:
        nonlocal written
        for _ in range(100):
            await stream.write(bytes(100_000))
            written += 100_000
        await stream.close_writing()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await until(lambda: written >= 100_000)
        a.post(b, b"while it is stuck")
        await b.hears(b"while it is stuck")
        assert written < 2_000_000
        go.set()
        await until(lambda: received)
    assert received == [bytes(10_000_000)]


async def test_a_writer_that_is_cancelled_harms_nobody_else(rig: Rig, mock_clock: MockClock) -> None:
    async def deaf(stream: PeerStream) -> None:
        await trio.sleep_forever()

    a, b = await serving(rig, deaf)
    stream = await a.swarm.open_stream(b.id, BULK)
    for _ in range(3):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.write, bytes(5_000_000))
                a.post(b, b"x" * 50_000)
                await until(lambda: b"x" * 50_000 in b.frames())
                scope.cancel()
        b.events.clear()
    a.post(b, b"question", 1)
    b.post(a, b"answer", (await b.hears(b"question")).exchange)
    await a.hears(b"answer")
    assert not b.of(PeerLost)


async def test_a_protocol_that_nobody_serves_is_refused_for_good(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await serving(rig, read_all)
    with pytest.raises(Unwilling):
        await a.swarm.open_stream(b.id, "/lucid/unheard-of/1")
    with pytest.raises(Unreachable):
        await a.swarm.open_stream(STRANGER, BULK)
    with pytest.raises(RuntimeError):
        b.swarm.serve_streams("/too/late/1", read_all, 1)  # type: ignore[arg-type]


async def test_a_stranger_in_a_peers_place_is_no_reason_to_try_again(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await serving(rig, read_all)
    rig.known[STRANGER] = b.addresses
    with pytest.raises(Unwilling):
        await a.swarm.open_stream(STRANGER, BULK)


async def test_a_peer_may_have_so_many_streams_and_no_more(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await serving(rig, read_all, 2)
    streams = [await a.swarm.open_stream(b.id, BULK) for _ in range(2)]
    with pytest.raises(Unreachable):
        await a.swarm.open_stream(b.id, BULK)
    await streams[0].aclose()
    third = None
    while third is None:
        try:
            third = await a.swarm.open_stream(b.id, BULK)
        except Unreachable:
            await trio.lowlevel.checkpoint()
    assert not a.of(PeerLost)


async def test_streams_break_with_their_connection(rig: Rig, mock_clock: MockClock) -> None:
    ends: list[object] = []

    async def reads(stream: PeerStream) -> None:
        try:
            await read_all(stream)
        except Unreachable as error:
            ends.append(error)
            raise

    a, b = await serving(rig, reads)
    stream = await a.swarm.open_stream(b.id, BULK)
    await stream.write(b"begun")
    rig.cut(a, b)
    with pytest.raises(Unreachable):
        await stream.read(1)
    with pytest.raises(Unreachable):
        await stream.write(bytes(1 << 20))
    await until(lambda: ends)


async def test_a_host_that_posts_within_a_delivery_is_not_called_within_it(rig: Rig, mock_clock: MockClock) -> None:
    a, b = await pair(rig)
    depth: list[int] = []
    inside = 0

    def react(event: Event) -> None:
        nonlocal inside
        inside += 1
        depth.append(inside)
        if isinstance(event, Received):
            a.swarm.post(Send(STRANGER, Channel.LOGS, b"", len(depth)))
            a.swarm.drop(b.id, "in between")
        inside -= 1

    a.then = react
    b.post(a, b"go")
    await a.lost(b)
    await a.fails(STRANGER, 1)
    assert depth == [1, 1, 1], "the frame, the failure, the loss; each by itself"
