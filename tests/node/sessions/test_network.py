"""Whole nodes, over swarms in memory: a session outlives the machine that recorded it.

Everything is the daemon's but its process, its disk engine and its sockets. Times are real and short: HOURs of 3 s.
"""

import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path

import pytest
import trio

from consensus.ids import Digest, Millis, NodeId, SessionId
from consensus.params import LeaderRule
from consensus.placement import REPLICAS, REVEALED
from node.config import Config, Home
from node.daemon import Daemon, build
from node.libp2p.memory import Meeting
from node.log import EventLog
from node.net.addresses import AddressBook
from node.network import BootstrapNode, Carrier, Genesis, Mode, NetworkTerms, Timing
from node.overlay.custody import Untimely
from node.sessions.annotations import Annotations
from node.sessions.desk import OpenHome
from node.sessions.placement import DOSSIERS, standing_kept
from node.sessions.pointer import KIND
from node.sessions.records import load_one
from node.store import Key, Put, Store
from node.store.files import ChunkFiles
from node.store.memory import MemoryChunks, MemoryStore
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
            Millis(time.time_ns() // 1_000_000),
            Timing(1, 3, 3, 12, 100, 610, 30),
            LeaderRule.SORTITION,
            (author,),
            0,
            Carrier.LOOPBACK,
        )
        self.terms = NetworkTerms(genesis, 1, Millis(0), (BootstrapNode(author, ("/ip4/127.0.0.1/tcp/1",)),))
        self.made = 0

    @asynccontextmanager
    async def node(
        self, secrets: Secrets, *, replicas_gb: int = 1, store: MemoryStore | None = None
    ) -> AsyncIterator[Daemon]:
        """A node with these keys and an empty disk, or this one."""
        self.made += 1
        home = Home(self.folder / str(self.made))
        home.path.mkdir()
        store = store or MemoryStore()
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


class Frozen:
    """A store's rows as they are now, read without trio."""

    def __init__(self, rows: dict[tuple[str, Key], bytes]) -> None:
        self._rows = rows

    @classmethod
    async def of(cls, store: Store) -> "Frozen":
        return cls({(table, key): row for table in ("replicas", DOSSIERS) async for key, row in store.scan(table)})

    def get(self, table: str, key: Key) -> bytes | None:
        return self._rows.get((table, key))

    def scan(self, table: str, prefix: Key = ()) -> Iterator[tuple[Key, bytes]]:
        raise NotImplementedError


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
            (live,) = await first.sessions.progress()

            async def told() -> bool:
                bodies = await second.index.bodies(NodeId(owner.identity.public))
                return KIND in [body[:1] for body in bodies]

            with trio.fail_after(90):
                while not await told():  # strangers keep the owner's index
                    await trio.sleep(0.05)
        assert before is not None
        assert standing_kept(await Frozen.of(first.desk.store), before, first.desk.chunks.has) == live, (
            "the rows say the same"
        )

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


async def agree(first: Daemon, second: Daemon) -> None:
    """Wait until two devices of an owner know the same, and have said all of it."""
    with trio.fail_after(90):
        while (
            not (known := await first.annotations.entries())
            or known != await second.annotations.entries()
            or await first.annotations.owed()
            or await second.annotations.owed()
        ):
            await trio.sleep(0.05)


ONE, AT = SessionId(b"1" * 32), Millis(1_700_000_000_000)


async def test_what_two_devices_said_apart_is_the_same_on_both_after_they_met(tmp_path: Path) -> None:
    """Each is edited without a network, as the commands do it where no daemon runs; a third disk is lost and starts empty."""
    network, owner = Network(tmp_path), Secrets.generate()
    fresh = Secrets.generate()
    other = Secrets(fresh.identity_seed, fresh.account_key, owner.masters)
    disks = MemoryStore(), MemoryStore()
    desk, laptop = [Annotations(disk, MemoryChunks(), owner) for disk in disks]
    await desk.edit(lambda index: index.hold(ONE, AT, "old"))
    assert await laptop.take(await desk.owed()) == 1
    await desk.edit(lambda index: index.label(ONE, "by the desk"), lambda index: index.release(ONE))
    await laptop.edit(
        lambda index: index.label(ONE, "by the laptop"),
        lambda index: index.note(ONE, AT, "seen on the way"),
        lambda index: index.hold(ONE, AT, "case 7"),
    )
    async with network.node(network.server), network.node(Secrets.generate()) as stranger:
        async with network.node(owner, store=disks[0]) as first, network.node(other, store=disks[1]) as second:
            await agree(first, second)
            entry = (await first.annotations.entries())[ONE]
            assert entry.label in {"by the desk", "by the laptop"}
            assert [note.text for note in entry.notes] == ["seen on the way"]
            assert [hold.text for hold in entry.holds] == ["case 7"], "the release did not know of it"
            # And with both up, through the daemon's own edit.
            await second.annotations.edit(lambda index: index.label(ONE, "agreed"))
            await agree(first, second)
            assert (await first.annotations.entries())[ONE].label == "agreed"
            kept = dict[NodeId, list[bytes]]()
            with trio.fail_after(90):  # strangers keep both logs
                while len(kept) < 2 or not all(kept.values()):
                    await trio.sleep(0.05)
                    nodes = [NodeId(secrets.identity.public) for secrets in (owner, other)]
                    kept = {node: await stranger.index.bodies(node) for node in nodes}
        assert await stranger.annotations.entries() == {}
        for bodies in kept.values():
            assert not any(b"agreed" in body or b"case" in body for body in bodies)
        async with network.node(other) as again, network.node(owner, store=disks[0]) as first:
            await agree(first, again)
            assert (await again.annotations.entries())[ONE].label == "agreed"
            await again.annotations.edit(lambda index: index.note(ONE, AT, "back"))
            await agree(first, again)
            assert len(await again.index.bodies()) == 1, "a log that is begun anew has its words joined"


async def test_what_nobody_took_in_time_is_placed_anew_and_its_dossier_filed_anew(tmp_path: Path) -> None:
    network, made = Network(tmp_path), small()
    file, session = made.chunks[0].file, made.opening.session
    async with network.node(network.server) as alone:
        await record(alone, made)
        await until(lambda: alone.replication.drawn(file) is not None)
        first = alone.replication.drawn(file)
        assert first is not None
        await alone.desk.store.commit([Put(DOSSIERS, (session,), b"")])

        def anew() -> bool:
            alone.replication._hear(Untimely(file))
            return alone.replication.placement(file) != first

        await until(anew)
        await until(lambda: alone.replication.drawn(file) is not None)
        later = alone.replication.drawn(file)
        assert later is not None
        assert (later.opened > first.opened, later.roots) == (True, first.roots)
        assert later.seed == alone.lots.seed_at(later.opened + REVEALED)
        assert await alone.replication.found(file) == later
        assert await alone.desk.store.get(DOSSIERS, (session,)) is None
        await until(
            lambda: alone.peer.replicate.inventory.deposit(file) == later.order().deposit(alone.network, alone.me)
        )
        alone.desk.chunks.path(file).unlink()
        await until(lambda: alone.calendar.slot(alone.host.clock.now()) > later.opened)
        await alone.replication._reopen(file)
        assert alone.replication.placement(file) == later, "it may be held after all"
