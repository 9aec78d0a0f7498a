"""Whole nodes, over swarms in memory: a session outlives the machine that recorded it.

Everything is the daemon's but its process, its disk engine and its sockets. Times are real and short: HOURs of 3 s.
"""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path

import pytest
import trio

from consensus.ids import Digest, Millis, NodeId
from consensus.placement import REPLICAS
from node.config import Config, Home
from node.daemon import Daemon, build
from node.log import EventLog
from node.net.addresses import AddressBook
from node.net.memory import Meeting
from node.network import BootstrapNode, Carrier, Genesis, LeaderRule, Mode, NetworkTerms, Timing
from node.sessions.desk import OpenHome
from node.sessions.records import load_one
from node.store.files import ChunkFiles
from node.store.memory import MemoryStore
from node.wallet.vault import Secrets
from pipeline.bundle import verify
from tests.node.sessions.test_records import keep
from tests.pipeline.sessions import Made, small

pytestmark = pytest.mark.component
FIRST = bytes((0x89, 0x06)) + (1).to_bytes(8, "big")
"""Where the first swarm of a Meeting is met."""


class Network:
    """A devnet whose nodes meet in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.meeting = folder, Meeting()
        self.server = Secrets.generate()
        author = NodeId(self.server.identity.public)
        genesis = Genesis(
            "test",
            Mode.DEVNET,
            author,
            Millis(1_700_000_000_000),
            Timing(1, 3, 3, 12, 100, 610, 30),
            LeaderRule.SORTITION,
            (author,),
            0,
            Carrier.LOOPBACK,
        )
        self.terms = NetworkTerms(genesis, 1, Millis(0), (BootstrapNode(author, ("/ip4/127.0.0.1/tcp/1",)),))
        self.made = 0

    @asynccontextmanager
    async def node(self, secrets: Secrets, *, replicas_gb: int = 1) -> AsyncIterator[Daemon]:
        """A node with these keys and an empty disk."""
        self.made += 1
        home = Home(self.folder / str(self.made))
        home.path.mkdir()
        store = MemoryStore()
        desk = OpenHome(home, Config(replicas_gb=replicas_gb), secrets, store, ChunkFiles(home.chunks))
        me = NodeId(secrets.identity.public)
        book = AddressBook(me, {self.terms.bootstrap[0].node: [FIRST]})
        swarm = self.meeting.swarm(me, book.locate, random.Random(self.made))
        daemon = await build(desk, self.terms, swarm, book, None, EventLog(out=StringIO()))
        async with trio.open_nursery() as nursery:
            await nursery.start(daemon.run)
            yield daemon
            nursery.cancel_scope.cancel()


async def until(what: Callable[[], bool]) -> None:
    """Wait for something that many exchanges bring; generously, for busy machines."""
    with trio.fail_after(90):
        while not what():
            await trio.sleep(0.05)


async def record(daemon: Daemon, made: Made) -> None:
    """Keep a closed session as its recorder would, beside the daemon."""
    for chunk in made.chunks:
        daemon.desk.chunks.put(chunk.file, memoryview(made.files[chunk.file]))
    store = daemon.desk.store
    assert isinstance(store, MemoryStore)
    await keep(store, made)
    daemon.sessions.sealed(made.opening.session)


def copies(daemon: Daemon, files: list[Digest]) -> int:
    return min((daemon.replication.copies(file) for file in files), default=0)


async def test_a_session_outlives_the_machine_that_recorded_it(tmp_path: Path) -> None:
    network, owner, made = Network(tmp_path), Secrets.generate(), small()
    session, files = made.opening.session, [chunk.file for chunk in made.chunks]
    async with (
        network.node(network.server),
        network.node(Secrets.generate()) as second,
        network.node(Secrets.generate()),
        network.node(Secrets.generate()),
    ):
        async with network.node(owner) as first:
            await until(lambda: len(first.presence.adverts()) == 5)
            await record(first, made)

            async def filed() -> bool:
                (row,) = await first.sessions.progress()
                return bool(row["state"] == "replicated")

            with trio.fail_after(90):
                while not await filed():
                    await trio.sleep(0.05)
            assert copies(first, files) == REPLICAS
            assert first.replicas.usage() == 0, "an owner holds no replica of its own"
            before = await load_one(first.desk.store, session)
        pointers = len(second.peer.logs.index.chain(NodeId(owner.identity.public)))
        assert pointers == 1, "strangers keep the owner's index"

        # The disk is lost: the same keys, and nothing else.
        async with network.node(owner) as again:
            with trio.fail_after(90):
                while (after := await load_one(again.desk.store, session)) is None:
                    await trio.sleep(0.05)
            assert after == before
            assert not any(again.desk.chunks.has(file) for file in files)
            assert await again.sessions.bring_chunks(session) == len(files)
            read = lambda chunk: memoryview(again.desk.chunks.read(chunk.file))  # noqa: E731
            assert verify(after.evidence(read)).valid
            assert await again.sessions.bring_chunks(session) == 0
            # It is the owner again: its chunks are watched over, and nobody was asked to hold them twice.
            await until(lambda: copies(again, files) == REPLICAS)


async def test_a_home_with_nobody_around_waits_with_its_index(tmp_path: Path) -> None:
    network, made = Network(tmp_path), small()
    async with network.node(network.server) as alone:
        await record(alone, made)
        await until(lambda: all(alone.replication.placement(chunk.file) for chunk in made.chunks))
        assert not alone.index.ready
        assert alone.peer.logs.index.chain(alone.me) == ()
        (row,) = await alone.sessions.progress()
        assert (row["state"], row["replicated"], row["filed"]) == ("sealed", 0, False)
