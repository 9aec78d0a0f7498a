"""A file from several holders at once: whole whatever they do, each byte asked for about once, and nobody waited for in vain."""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import hypothesis.strategies as st
import pytest
import trio
import trio.testing
from hypothesis import given

from consensus.ids import Digest, NodeId
from node.libp2p.memory import Meeting, MemorySwarm
from node.net import striping
from node.net.striping import BLOCK, SPLIT_BYTES_MIN, Source, Stripes, gather
from node.net.swarm import PeerStream
from node.net.transfer import PIECE_BYTES, PROTOCOL, Readable, Replica, serve
from pipeline.replica import BLOCK as CIPHER_BLOCK
from pipeline.replica import encode

ASKER = NodeId(b"a" * 32)
HOLDERS = tuple(NodeId(bytes([number]) * 32) for number in range(1, 5))
CHUNK, ROOT = Digest(b"c" * 32), Digest(b"r" * 32)
DATA = random.Random(5).randbytes(9 * SPLIT_BYTES_MIN + 17)


def key_of(node: NodeId) -> bytes:
    """Each holder has a replica of its own."""
    return bytes(node)


class Holder:
    """One that sends its replica, PAUSE_S a piece; or fails at the byte `fails_at`, or says nothing from there on."""

    def __init__(self, node: NodeId, pause_s: float = 1, fails_at: int | None = None, mute: bool = False) -> None:
        self.node, self.pause_s, self.fails_at, self.mute = node, pause_s, fails_at, mute
        self.replica = encode(DATA, key_of(node))
        self.sent = 0

    async def read(self, offset: int, most: int) -> bytes:
        if self.fails_at is not None and offset + most > self.fails_at:
            if self.mute:
                await trio.sleep_forever()
            raise OSError("bad sector")
        await trio.sleep(self.pause_s)
        piece = self.replica[offset : offset + most]
        self.sent += len(piece)
        return piece

    async def handle(self, stream: PeerStream) -> None:
        await serve(stream, lambda _peer, _chunk, _root: Readable(len(DATA), self.read))

    @property
    def source(self) -> Source:
        key = key_of(self.node)
        return Source(self.node, Replica(CHUNK, ROOT, len(DATA)), lambda data, at: encode(data, key, at))


@asynccontextmanager
async def among(*holders: Holder) -> AsyncIterator[MemorySwarm]:
    meeting, where = Meeting(), dict[NodeId, list[bytes]]()

    def locate(node: NodeId) -> list[bytes]:
        return where.get(node, [])

    asker = meeting.swarm(ASKER, locate, random.Random(1))
    async with trio.open_nursery() as nursery:
        for one in holders:
            swarm = meeting.swarm(one.node, locate, random.Random(2))
            swarm.serve_streams(PROTOCOL, one.handle, 4)
            where[one.node] = list(await nursery.start(swarm.run, lambda _event: None))
        await nursery.start(asker.run, lambda _event: None)
        yield asker
        nursery.cancel_scope.cancel()


async def gathered(holders: list[Holder], at_once: int = 3) -> tuple[bytearray | None, float]:
    """What comes, and how long it took."""
    async with among(*holders) as swarm:
        began = trio.current_time()
        return await gather(swarm, len(DATA), [one.source for one in holders], at_once), trio.current_time() - began


def test_a_block_is_the_ciphers() -> None:
    assert BLOCK == CIPHER_BLOCK
    assert PIECE_BYTES % BLOCK == 0


async def test_three_holders_send_a_third_each_in_a_third_of_the_time(autojump_clock: trio.testing.MockClock) -> None:
    alone, alone_s = await gathered([Holder(HOLDERS[0])])
    holders = [Holder(node) for node in HOLDERS[:3]]
    together, together_s = await gathered(holders)
    assert bytes(alone or b"") == bytes(together or b"") == DATA
    assert together_s < 0.45 * alone_s
    assert sum(one.sent for one in holders) < 1.2 * len(DATA)


async def test_a_slow_holder_costs_its_pace_and_not_the_others(autojump_clock: trio.testing.MockClock) -> None:
    quick, slow = Holder(HOLDERS[0]), Holder(HOLDERS[1], pause_s=8)
    _, alone_s = await gathered([Holder(HOLDERS[0])])
    whole, spent_s = await gathered([slow, quick])
    assert bytes(whole or b"") == DATA
    assert spent_s < 1.3 * alone_s
    assert 0 < slow.sent < quick.sent


@pytest.mark.parametrize("mute", [False, True], ids=["breaks off", "falls silent"])
async def test_what_one_leaves_others_send(mute: bool, autojump_clock: trio.testing.MockClock) -> None:
    bad = [Holder(node, fails_at=3 * PIECE_BYTES, mute=mute) for node in HOLDERS[:2]]
    whole, spent_s = await gathered([*bad, Holder(HOLDERS[2]), Holder(HOLDERS[3])], at_once=2)
    assert bytes(whole or b"") == DATA
    assert spent_s < len(DATA) / PIECE_BYTES + 4 * striping.IDLE_S


async def test_when_all_fail_there_is_nothing(autojump_clock: trio.testing.MockClock) -> None:
    whole, _ = await gathered([Holder(node, fails_at=0) for node in HOLDERS])
    assert whole is None
    async with among() as swarm:
        assert await gather(swarm, 10, [Holder(HOLDERS[0]).source], 3) is None
        assert await gather(swarm, 0, [], 3) == bytearray()


@given(
    st.integers(0, 40 * SPLIT_BYTES_MIN),
    st.lists(
        st.tuples(st.sampled_from(["take", "double", "send", "give"]), st.integers(0, 5), st.integers(1, 1 << 21))
    ),
)
def test_every_byte_is_free_taken_or_there_and_none_is_lost(size: int, moves: list[tuple[str, int, int]]) -> None:
    stripes, active, come = Stripes(size), list[striping.Stripe](), bytearray(size)
    act: Mapping[str, Callable[[int, int], None]]

    def take(_which: int, _count: int) -> None:
        if (one := stripes.take()) is not None:
            assert one.at % BLOCK == 0
            assert one.at < one.end
            active.append(one)

    def double(_which: int, _count: int) -> None:
        if (one := stripes.double()) is not None:
            assert one.at % BLOCK == 0
            active.append(one)

    def send(which: int, count: int) -> None:
        if active:
            one = active[which % len(active)]
            count = max(0, min(count, one.end - one.at))
            come[one.at : one.at + count] = b"\1" * count
            one.at += count

    def give(which: int, _count: int) -> None:
        if active:
            stripes.give_back(active.pop(which % len(active)))

    act = {"take": take, "double": double, "send": send, "give": give}
    for name, which, count in moves:
        act[name](which, count)
    while active or not stripes.complete:
        take(0, 0)
        while active:
            send(0, size)
            give(0, 0)
    assert come == b"\1" * size
