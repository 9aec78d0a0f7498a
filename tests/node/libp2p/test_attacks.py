"""What strangers can do to a node over real sockets, and that it stays at its other peers' service meanwhile.

The node stands between a friend and an attacker. Each test ends with an exchange between node and friend, and with nothing
left of the attacker: no connection, no handshake, no file.
"""

import contextlib
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from consensus.ids import NodeId
from consensus.signing import KeyPair
from node.libp2p.bulk import PIECE_BYTES, QUEUE_BYTES
from node.libp2p.channels import ASKED
from node.libp2p.connection import MUXER, SealedStream, agree_on_yamux
from node.libp2p.framing import prefixed
from node.libp2p.multistream import proposal
from node.libp2p.secure import NOISE, Identity, Secured
from node.libp2p.swarm import Libp2pSwarm
from node.libp2p.yamux import WINDOW_BYTES
from node.net.limits import FRAME_BYTES_MAX, SwarmLimits
from node.net.swarm import PeerStream, Unreachable
from node.overlay.machine import Channel, Failed, PeerLost, PeerUp, Received
from tests.node.libp2p.attacker import Attacker
from tests.node.libp2p.test_yamux import ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW, frame
from tests.node.net.swarms import Node, SocketRig, keys_of, until

pytestmark = pytest.mark.component

LIMITS: Final = SwarmLimits(queue_bytes=1 << 20)
ATTACKER: Final = 66
PONG: Final = frame(PING, ACK, 0, 0)
BULK: Final = "/lucid/give/1"
BULK_A_PEER: Final = 4


class Siege:
    """A node, its friend, and the way to the node."""

    def __init__(self, node: Node, friend: Node) -> None:
        self.node, self.friend = node, friend
        self.port = int.from_bytes(node.addresses[0][-2:], "big")
        assert isinstance(node.swarm, Libp2pSwarm)
        self.swarm = node.swarm
        self.asked = 0

    async def tcp(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def serves(self) -> None:
        """The friend asks and is answered."""
        self.asked += 1
        question = b"question %d" % self.asked
        self.friend.post(self.node, question, self.asked, Channel.DHT)
        event = await self.node.hears(question, Channel.DHT)
        self.node.post(self.friend, b"answer", event.exchange, Channel.DHT)
        await self.friend.sees(Received(self.node.id, Channel.DHT, b"answer", self.asked))
        assert not self.friend.of(PeerLost, Failed)

    def of_attacker(self, *kinds: type) -> list[object]:
        peer = NodeId(keys_of(ATTACKER).public)
        return [event for event in self.node.of(*kinds) if event.peer == peer]  # type: ignore[union-attr]


async def attacker(siege: Siege) -> Attacker:
    return await Attacker.reaching(await siege.tcp(), siege.node.id, keys_of(ATTACKER))


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def give(stream: PeerStream) -> None:
    """A protocol of bulk: who asks for so many bytes gets them."""
    left = int(await stream.read(100) or b"0")
    while left > 0:
        await stream.write(bytes(min(left, PIECE_BYTES)))
        left -= PIECE_BYTES
    await stream.close_writing()


@pytest.fixture
async def siege(nursery: trio.Nursery) -> AsyncIterator[Siege]:
    rig = SocketRig(nursery)
    node, friend = await rig.node(1, LIMITS, start=False), await rig.node(2)
    node.swarm.serve_streams(BULK, give, BULK_A_PEER)
    await rig.start(node)
    await friend.connected(node)
    siege = Siege(node, friend)
    await siege.serves()
    files = open_files()
    yield siege
    await siege.serves()
    await until(lambda: set(siege.swarm.traffic()) == {friend.id}, "the attacker is gone")
    assert not siege.swarm._proving
    await until(lambda: open_files() <= files, "its files are closed")
    assert len(siege.of_attacker(PeerUp)) == len(siege.of_attacker(PeerLost))
    nursery.cancel_scope.cancel()


# Who takes nothing


async def test_a_peer_that_reads_nothing_costs_a_bounded_queue_and_is_dropped(
    siege: Siege, mock_clock: MockClock
) -> None:
    enemy = await attacker(siege)
    await until(lambda: siege.of_attacker(PeerUp))
    peer = NodeId(keys_of(ATTACKER).public)
    link = siege.swarm._links[peer]
    for _ in range(100):
        for channel in (Channel.GOSSIP, Channel.LOGS):
            siege.node.post(peer, bytes(100_000), 0, channel)
        await trio.lowlevel.checkpoint()
    held = sum(stream.queued for stream in link.connection.mux.streams)
    assert held <= 2 * (LIMITS.queue_bytes + 100_000)
    await siege.serves()
    for _ in range(12):
        mock_clock.jump(5)
        await siege.serves()
    await until(lambda: siege.of_attacker(PeerLost))
    await enemy.raw.aclose()


async def test_a_peer_that_asks_and_takes_no_answer_is_dropped(siege: Siege, mock_clock: MockClock) -> None:
    enemy = await attacker(siege)
    answers = 0

    def answer(event: object) -> None:
        nonlocal answers
        if isinstance(event, Received) and event.exchange < 0 and event.frame == b"ask":
            answers += 1
            siege.node.post(event.peer, bytes(60_000), event.exchange, event.channel)

    siege.node.then = answer
    await enemy.open(1, "/lucid/kad/1.0.0", prefixed(b"ask") * 5000)
    await until(lambda: answers >= 2)
    link = siege.swarm._links[NodeId(keys_of(ATTACKER).public)]
    for _ in range(10):
        mock_clock.jump(5)
        await siege.serves()
        if not siege.of_attacker(PeerLost):
            assert sum(stream.queued for stream in link.connection.mux.streams) <= 60_004
            await enemy.send(PONG)
    await until(lambda: siege.of_attacker(PeerLost))
    assert answers <= 6, "its window holds four, the kernel some, and one waits"
    await enemy.raw.aclose()


async def read_in_bulk(siege: Siege, size: int) -> None:
    """The friend reads so much from the node."""
    stream = await siege.friend.swarm.open_stream(siege.node.id, BULK)
    await stream.write(b"%d" % size)
    await stream.close_writing()
    while more := await stream.read(PIECE_BYTES):
        size -= len(more)
    assert size == 0
    await stream.aclose()


async def test_bulk_that_a_peer_asks_for_and_does_not_take_is_bounded_and_given_up(
    siege: Siege, mock_clock: MockClock
) -> None:
    enemy = await attacker(siege)
    for number in range(1, 2 * BULK_A_PEER + 3, 2):
        await enemy.open(number, BULK, b"%d" % (1 << 30))
    await enemy.receives(frame(WINDOW, RST, 2 * BULK_A_PEER + 1, 0))  # one more than a peer may have
    link = siege.swarm._links[NodeId(keys_of(ATTACKER).public)]
    streams = [stream for stream in link.connection.mux.streams if stream.theirs]
    await enemy.takes(BULK_A_PEER * WINDOW_BYTES)
    assert all(stream.stalled for stream in streams)
    for turn in range(10):  # it answers pings all the while, and reads what comes, but takes none of it
        assert sum(stream.queued for stream in streams) <= BULK_A_PEER * (QUEUE_BYTES + PIECE_BYTES)
        await read_in_bulk(siege, 1_000_000)
        mock_clock.jump(5)
        await enemy.send(frame(PING, SYN, 0, turn))
        await enemy.receives(frame(PING, ACK, 0, turn))
    for number in range(1, 2 * BULK_A_PEER + 1, 2):
        await enemy.receives(frame(WINDOW, RST, number, 0))
    await until(lambda: not link.serving[BULK], "nobody works for it any more")
    assert not siege.of_attacker(PeerLost)
    await enemy.raw.aclose()


async def test_a_window_that_opens_byte_by_byte_delays_nobody_else(siege: Siege, mock_clock: MockClock) -> None:
    enemy = await attacker(siege)
    await enemy.open(1, BULK, b"%d" % (1 << 30))
    link = siege.swarm._links[NodeId(keys_of(ATTACKER).public)]
    await enemy.takes(WINDOW_BYTES)
    for _ in range(20):
        await enemy.send(frame(WINDOW, 0, 1, 1) * 500)
        await read_in_bulk(siege, 300_000)
        assert sum(stream.queued for stream in link.connection.mux.streams) <= QUEUE_BYTES + PIECE_BYTES
    await enemy.raw.aclose()


async def test_a_peer_that_pings_and_reads_nothing_is_dropped(siege: Siege, mock_clock: MockClock) -> None:
    enemy = await attacker(siege)
    with pytest.raises(trio.BrokenResourceError):
        while True:
            await enemy.send(frame(PING, SYN, 0, 7) * 5000)
    await enemy.raw.aclose()


# Who says nothing


async def test_streams_that_say_nothing_are_few_and_end_in_time(siege: Siege, mock_clock: MockClock) -> None:
    enemy = await attacker(siege)
    most = siege.swarm.limits.streams
    await enemy.send(b"".join(frame(WINDOW, SYN, 2 * n + 1, 0) for n in range(most + 1)))
    await enemy.receives(frame(WINDOW, RST, 2 * most + 1, 0))
    await siege.serves()
    mock_clock.jump(20)
    await enemy.receives(frame(WINDOW, RST, 1, 0))
    await enemy.open(1, "/ipfs/ping/1.0.0", bytes(range(32)))
    await enemy.receives(bytes(range(32)))
    await enemy.raw.aclose()


async def test_streams_that_stop_after_the_protocols_name_end_in_time(siege: Siege, mock_clock: MockClock) -> None:
    enemy = await attacker(siege)
    for place, name in enumerate(ASKED):
        await enemy.open(2 * place + 1, name, b"\x05hal")
    await enemy.receives(prefixed(b"/lucid/kad/1.0.0\n"))
    for turn in range(6):
        assert frame(WINDOW, RST, 1, 0) not in enemy.said
        mock_clock.jump(10)
        await enemy.send(frame(PING, SYN, 0, turn))
        await enemy.receives(frame(PING, ACK, 0, turn))
    mock_clock.jump(5)
    for place in range(len(ASKED)):
        await enemy.receives(frame(WINDOW, RST, 2 * place + 1, 0))
    await enemy.raw.aclose()


async def test_a_thousand_that_connect_and_close_leave_nothing(siege: Siege, mock_clock: MockClock) -> None:
    for _ in range(1000):
        await (await siege.tcp()).aclose()
    await siege.serves()


async def test_idlers_cannot_lock_a_newcomer_out(siege: Siege, mock_clock: MockClock, nursery: trio.Nursery) -> None:
    idle = [await siege.tcp() for _ in range(200)]
    for stream in idle[::2]:
        await stream.send_all(proposal(NOISE))
    await until(lambda: len(siege.swarm._proving) == siege.swarm.limits.handshakes)
    enemy = await attacker(siege)
    await until(lambda: siege.of_attacker(PeerUp))
    mock_clock.jump(30)
    await until(lambda: not siege.swarm._proving)
    for stream in (*idle, enemy.raw):
        await stream.aclose()


def limit_with_room(count: int) -> int:
    """The limit that leaves so many files to be opened: it bounds their numbers, among which others may have left holes."""
    taken = {int(name) for name in os.listdir("/proc/self/fd")}
    limit = 0
    while count:
        count -= limit not in taken
        limit += 1
    return limit


async def test_no_files_left_means_no_newcomers_for_a_while_and_no_end(
    siege: Siege, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as raw:
        for _ in range(100):  # in the kernel's queue
            raw.enter_context(socket.create_connection(("127.0.0.1", siege.port)))
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit_with_room(5), before[1]))
        raw.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        await siege.serves()
        await until(lambda: "accept returned EMFILE" in caplog.text, "there is no file left for the next newcomer")
        await siege.serves()
    mock_clock.jump(1)
    enemy = None
    while enemy is None:
        mock_clock.jump(1)
        try:
            enemy = await attacker(siege)
        except Unreachable:
            await trio.lowlevel.checkpoint()
    await enemy.raw.aclose()


# Who says something else


GARBAGE: Final = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: text/html, image/png, */*\r\n\r\n",
    "tls": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "a long line": prefixed(bytes(60_000)),
    "an endless length": b"\xff" * 100,
    "no handshake": proposal(NOISE) + b"\x00\x05hello",
    "an empty handshake": proposal(NOISE) + b"\x00\x00" * 10,
    "a long handshake": proposal(NOISE) + b"\xff\xff" + bytes(65535),
    "many proposals": proposal("/x") + prefixed(b"/x\n") * 30,
    "noise": Random(1).randbytes(100_000),
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_instead_of_a_handshake_ends_the_connection(
    siege: Siege, mock_clock: MockClock, name: str
) -> None:
    stream = await siege.tcp()
    try:
        await stream.send_all(GARBAGE[name])
        await stream.send_eof()
        while await stream.receive_some(1000):
            pass
    except trio.BrokenResourceError:
        pass
    await stream.aclose()
    assert not siege.of_attacker(PeerUp)


async def test_half_a_handshake_ends_in_time(siege: Siege, mock_clock: MockClock) -> None:
    stream = await siege.tcp()
    await stream.send_all(proposal(NOISE) + b"\x00\x20half")
    await until(lambda: siege.swarm._proving)
    mock_clock.jump(30)
    with pytest.raises(trio.BrokenResourceError):
        while await stream.receive_some(1000):
            pass
        raise trio.BrokenResourceError
    await stream.aclose()


@pytest.mark.parametrize("muxer", ["/mplex/6.7.0", MUXER])
async def test_garbage_instead_of_a_muxer_ends_the_connection(siege: Siege, mock_clock: MockClock, muxer: str) -> None:
    stream = await siege.tcp()
    secured = await Identity(keys_of(ATTACKER)).secure_outbound(stream, siege.node.id)
    sealed = SealedStream(stream, secured)
    await sealed.send(proposal(muxer) + b"garbage that is no frame of any muxer" * 10)
    enemy = Attacker(stream, sealed, b"")
    if muxer == MUXER:
        await enemy.gone()
    else:
        await enemy.receives(prefixed(b"na\n"))
    await stream.aclose()


def as_sent(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def flipped(message: bytes) -> bytes:
    return message[:-1] + bytes([message[-1] ^ 1])


BAD_MESSAGES: Final[dict[str, Callable[[Secured], bytes]]] = {
    "no message of ours": lambda secured: as_sent(bytes(32)),
    "too short for a tag": lambda secured: as_sent(b"abc"),
    "empty": lambda secured: as_sent(b""),
    "replayed": lambda secured: 2 * as_sent(secured.seal(PONG)),
    "one bit flipped": lambda secured: as_sent(flipped(secured.seal(PONG))),
}


@pytest.mark.parametrize("name", BAD_MESSAGES)
async def test_a_message_that_was_tampered_with_ends_the_connection(
    siege: Siege, mock_clock: MockClock, name: str
) -> None:
    stream = await siege.tcp()
    secured = await Identity(keys_of(ATTACKER)).secure_outbound(stream, siege.node.id)
    sealed = SealedStream(stream, secured)
    enemy = Attacker(stream, sealed, await agree_on_yamux(sealed, dialled=True))
    await until(lambda: siege.of_attacker(PeerUp))
    await stream.send_all(BAD_MESSAGES[name](secured))
    await enemy.gone()
    await until(lambda: siege.of_attacker(PeerLost))
    await stream.aclose()


ASKING: Final = proposal("/lucid/kad/1.0.0") + prefixed(b"?")
"""A question; what comes behind it has to wait."""
BAD_FRAMES: Final = {
    "another version": frame(DATA, SYN, 1, 0, version=1),
    "no such frame": frame(9, 0, 0, 0),
    "our own numbers": frame(DATA, SYN, 2, 0),
    "more than the window": frame(DATA, SYN, 1, 300_000) + (ASKING + bytes(300_000))[:300_000],
    "an impossible window": frame(DATA, SYN, 1, 0) + frame(WINDOW, 0, 1, 0xFFFFFFFF),
    "goodbye": frame(GO_AWAY, 0, 0, 0),
    "noise": Random(2).randbytes(50_000),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
async def test_frames_that_yamux_does_not_have_end_the_connection(
    siege: Siege, mock_clock: MockClock, name: str
) -> None:
    enemy = await attacker(siege)
    await until(lambda: siege.of_attacker(PeerUp))
    await enemy.send(BAD_FRAMES[name])
    await enemy.gone()
    await until(lambda: siege.of_attacker(PeerLost))
    assert all(event.frame == b"?" for event in siege.of_attacker(Received))  # type: ignore[attr-defined]
    await enemy.raw.aclose()


@pytest.mark.parametrize("channel", list(Channel))
@pytest.mark.parametrize("length", ["one too long", "endless"])
async def test_a_frame_over_its_channels_limit_costs_the_stream_and_holds_nothing(
    siege: Siege, mock_clock: MockClock, channel: Channel, length: str
) -> None:
    enemy = await attacker(siege)
    most = FRAME_BYTES_MAX[channel]
    head = prefixed(bytes(most + 1))[: -most - 1] if length == "one too long" else b"\xff\xff\xff\xff\xff"
    await enemy.open(1, channel.value, head)
    await enemy.receives(frame(WINDOW, RST, 1, 0))
    await enemy.open(3, channel.value, prefixed(b"as it is"))
    await siege.node.hears(b"as it is", channel)
    await enemy.raw.aclose()


async def test_garbage_within_a_stream_costs_that_stream(siege: Siege, mock_clock: MockClock) -> None:
    enemy = await attacker(siege)
    garbage = GARBAGE["http"]
    await enemy.send(frame(DATA, SYN, 1, len(garbage), garbage))
    await enemy.receives(frame(WINDOW, RST, 1, 0))
    await enemy.open(3, "/unknown/1")
    await enemy.receives(prefixed(b"na\n"))
    await enemy.raw.aclose()


async def test_a_peer_that_dies_within_a_frame_leaves_nothing_of_it(siege: Siege, mock_clock: MockClock) -> None:
    for cut in ("message", "frame", "varint"):
        enemy = await attacker(siege)
        body = proposal("/meshsub/1.1.0") + prefixed(b"whole " + cut.encode()) + prefixed(bytes(1000))
        await enemy.send(frame(DATA, SYN, 1, len(body), body)[: -500 if cut == "frame" else -1001])
        if cut == "message":
            await enemy.raw.send_all(b"\x03\xe8half")
        await siege.node.hears(b"whole " + cut.encode(), Channel.GOSSIP)
        await enemy.raw.aclose()
        await until(lambda: set(siege.swarm.traffic()) == {siege.friend.id})
    assert len(siege.of_attacker(Received)) == 3


async def test_fins_and_resets_without_end_do_no_harm(siege: Siege, mock_clock: MockClock) -> None:
    enemy = await attacker(siege)
    for number in range(1, 2001, 2):
        body = proposal("/lucid/logs/1/ask") + prefixed(b"?")
        await enemy.send(
            frame(DATA, SYN, number, len(body), body),
            frame(DATA, FIN, number, 0) * 2,
            frame(WINDOW, RST, number, 0) * 2,
        )
    await enemy.send(frame(PING, SYN, 0, 9))
    await enemy.receives(frame(PING, ACK, 0, 9))
    link = siege.swarm._links[NodeId(keys_of(ATTACKER).public)]
    assert link.connection.mux.streams == ()
    assert not link.channels.busy
    await enemy.raw.aclose()


# Who is somebody else


async def test_an_identity_is_not_had_without_its_key(siege: Siege, mock_clock: MockClock) -> None:
    # signs with a key of its own and shows another's
    impostor = Identity(KeyPair(keys_of(3).public, keys_of(ATTACKER).secret))
    stream = await siege.tcp()
    secured = await impostor.secure_outbound(stream, siege.node.id)  # the node's own proof is right
    enemy = Attacker(stream, SealedStream(stream, secured), b"")
    await enemy.gone()
    assert {event.peer for event in siege.node.of(PeerUp)} == {siege.friend.id}  # type: ignore[union-attr]
    await stream.aclose()


async def test_our_own_identity_is_nobody_elses(siege: Siege, mock_clock: MockClock) -> None:
    stream = await siege.tcp()
    secured = await Identity(siege.node.keys).secure_outbound(stream, siege.node.id)
    await Attacker(stream, SealedStream(stream, secured), b"").gone()
    await stream.aclose()


# What leaves the machine


NAMES: Final = {
    "dns": b"\x35\x0bexample.org\x06\x0f\xa1",
    "dns4": b"\x36\x0bexample.org\x06\x0f\xa1",
    "dns6": b"\x37\x0bexample.org\x06\x0f\xa1",
    "dnsaddr": b"\x38\x0bexample.org",
    "ip4": b"\x04\xc0\x00\x02\x01\x06\x0f\xa1",
    "ip4 loopback udp": b"\x04\x7f\x00\x00\x01\x91\x02\x0f\xa1",
    "ip6": b"\x29" + bytes(15) + b"\x01\x06\x0f\xa1",
    "port 0": b"\x04\x7f\x00\x00\x01\x06\x00\x00",
    "empty": b"",
    "cut": b"\x36\xff",
}


@pytest.mark.parametrize("name", NAMES)
async def test_no_address_but_the_transports_own_is_looked_up_or_dialled(
    siege: Siege, mock_clock: MockClock, nursery: trio.Nursery, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[object] = []

    def look_up(*arguments: object, **_: object) -> object:
        looked_up.append(arguments)
        raise socket.gaierror

    async def connect(*arguments: object) -> None:
        looked_up.append(arguments)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(trio.socket, "getaddrinfo", connect)
    monkeypatch.setattr(trio._socket._SocketType, "connect", connect)
    rig = SocketRig(nursery)
    stranger = NodeId(bytes(32))
    rig.known[stranger] = (NAMES[name],)
    node = await rig.node(9)
    node.post(stranger, b"question", 1)
    await node.fails(stranger, 1)
    assert looked_up == []
    await node.stop()


# What keeps


@pytest.mark.parametrize("keepalive_ms", [15_000, 1_000_000])
async def test_an_idle_peer_that_lives_is_kept_by_pings(
    nursery: trio.Nursery, mock_clock: MockClock, keepalive_ms: int
) -> None:
    rig = SocketRig(nursery)
    limits = SwarmLimits(keepalive_ms=keepalive_ms)
    node, friend = await rig.node(1, limits), await rig.node(2, limits)
    await friend.connected(node)
    for _ in range(24):
        mock_clock.jump(10)
        async with await trio.open_tcp_stream("127.0.0.1", int.from_bytes(node.addresses[0][-2:], "big")) as stream:
            await stream.send_all(proposal("/x"))
            said = b""
            while not said.endswith(prefixed(b"na\n")):  # by then the pings have come and gone
                said += await stream.receive_some()
    assert bool(node.of(PeerLost)) is (keepalive_ms > limits.dead_after_ms)
    nursery.cancel_scope.cancel()


@asynccontextmanager
async def held(siege: Siege) -> AsyncIterator[Attacker]:
    enemy = await attacker(siege)
    await until(lambda: siege.of_attacker(PeerUp))
    yield enemy
    await enemy.raw.aclose()


async def test_the_same_peer_twice_is_one_peer(siege: Siege, mock_clock: MockClock) -> None:
    async with held(siege) as first:
        second = await attacker(siege)
        await first.gone()
        assert [type(event) for event in siege.of_attacker(PeerUp, PeerLost)] == [PeerUp, PeerLost, PeerUp]
        await second.raw.aclose()
