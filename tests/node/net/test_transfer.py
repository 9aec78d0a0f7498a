"""Ranges of a replica between two nodes that meet in memory: whole over interruptions, and never believed too early."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

from consensus.ids import Digest, NodeId
from node.libp2p.memory import Meeting, MemorySwarm
from node.net import transfer
from node.net.swarm import PeerStream, Unwilling
from node.net.transfer import PIECE_BYTES, PROTOCOL, Find, Readable, Replica, fetch, pieces, serve

ASKER, HOLDER = NodeId(b"a" * 32), NodeId(b"h" * 32)
CHUNK, ROOT = Digest(b"c" * 32), Digest(b"r" * 32)
DATA = random.Random(5).randbytes(3 * PIECE_BYTES + 17)
WHAT = Replica(CHUNK, ROOT, len(DATA))


def shelf(data: bytes = DATA, reads: Callable[[int], None] = lambda _at: None) -> Find:
    async def read(offset: int, most: int) -> bytes:
        reads(offset)
        return data[offset : offset + most]

    def find(peer: NodeId, chunk: Digest, root: Digest) -> Readable | None:
        return Readable(len(data), read) if (peer, chunk, root) == (ASKER, CHUNK, ROOT) else None

    return find


@asynccontextmanager
async def pair(find: Find) -> AsyncIterator[tuple[Meeting, MemorySwarm]]:
    """A meeting and the asker's swarm; the holder serves what find finds."""
    meeting, where = Meeting(), dict[NodeId, list[bytes]]()
    asker, holder = (meeting.swarm(me, lambda node: where.get(node, []), random.Random(1)) for me in (ASKER, HOLDER))

    async def handle(stream: PeerStream) -> None:
        await serve(stream, find)

    holder.serve_streams(PROTOCOL, handle, 4)
    async with trio.open_nursery() as nursery:
        where[HOLDER] = list(await nursery.start(holder.run, lambda _event: None))
        await nursery.start(asker.run, lambda _event: None)
        yield meeting, asker
        nursery.cancel_scope.cancel()


async def collect(swarm: MemorySwarm, have: int = 0) -> bytes:
    got = bytearray(DATA[:have])

    async def put(at: int, data: bytes) -> None:
        assert at == len(got)
        got.extend(data)

    await fetch(swarm, HOLDER, WHAT, have, put)
    return bytes(got)


@pytest.mark.parametrize("have", [0, 1, PIECE_BYTES, len(DATA) - 1, len(DATA)])
async def test_what_is_missing_comes_and_no_more(have: int, autojump_clock: trio.testing.MockClock) -> None:
    read: list[int] = []
    async with pair(shelf(reads=read.append)) as (_, asker):
        assert await collect(asker, have) == DATA
    assert all(at >= have for at in read)


async def test_a_range_is_given_as_far_as_the_replica_goes(autojump_clock: trio.testing.MockClock) -> None:
    async with pair(shelf()) as (_, asker):
        part = b"".join([piece async for piece in pieces(asker, HOLDER, WHAT, len(DATA) - 10, 1000)])
    assert part == DATA[-10:]


async def test_a_fetch_goes_on_where_its_connection_broke(autojump_clock: trio.testing.MockClock) -> None:
    cuts: list[Callable[[], None]] = []

    def reads(at: int) -> None:
        if at and cuts:
            cuts.pop()()

    async with pair(shelf(reads=reads)) as (meeting, asker):
        cuts += 2 * [partial(meeting.cut, ASKER, HOLDER)]
        assert await collect(asker) == DATA
    assert not cuts


async def test_who_may_not_have_it_is_told_so_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with pair(lambda *_: None) as (_, asker):
        with pytest.raises(Unwilling, match="nothing under that root"):
            await collect(asker)
    async with pair(shelf(DATA[:-1])) as (_, asker):
        with pytest.raises(Unwilling, match="not 393233"):
            await collect(asker)


async def test_a_holder_that_says_nothing_costs_a_minute_and_not_the_fetch(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = [True]

    async def read(offset: int, most: int) -> bytes:
        if silent:
            silent.clear()
            await trio.sleep(10 * transfer.IDLE_S)
        return DATA[offset : offset + most]

    async with pair(lambda *_: Readable(len(DATA), read)) as (_, asker):
        began = trio.current_time()
        assert await collect(asker) == DATA
        assert transfer.IDLE_S <= trio.current_time() - began < 2 * transfer.IDLE_S


@pytest.mark.parametrize("junk", [b"\0", b"\0\0", b"\0\5hello", b"\xff\xff" + bytes(70_000)])
async def test_garbage_ends_its_stream_and_nothing_else(junk: bytes, autojump_clock: trio.testing.MockClock) -> None:
    async with pair(shelf()) as (_, asker):
        stream = await asker.open_stream(HOLDER, PROTOCOL)
        await stream.write(junk)
        await stream.close_writing()
        assert await stream.read(100) == b""
        assert await collect(asker) == DATA
