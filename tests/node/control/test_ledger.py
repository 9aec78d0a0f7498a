"""A recorder beside the daemon: what it tells over the socket is kept as if it had the store in its own hands."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from consensus.ids import SessionId
from consensus.records import unpack
from node.config import Home
from node.control import ledger as remote
from node.control.client import NoDaemon
from node.control.ledger import Keeping, RemoteLedger
from node.control.server import Control
from node.sessions.desk import folder_of, is_recording, recording
from node.sessions.records import load_one
from node.store import Put
from node.store.memory import MemoryStore
from pipeline.bundle import verify
from pipeline.manifest import Signed, sign
from tests.node.sessions.test_records import gaps
from tests.pipeline.sessions import Made, small


@asynccontextmanager
async def daemon(home: Path, store: MemoryStore, told: list[SessionId]) -> AsyncIterator[None]:
    control = Control(home)
    Keeping(store, told.append).offer(control)
    async with trio.open_nursery() as nursery:
        await nursery.start(control.serve)
        yield
        nursery.cancel_scope.cancel()


async def keep(ledger: RemoteLedger, made: Made, *, times: int = 1) -> None:
    """Tell a session as its recorder does, each record so often."""
    network = made.opening.network
    for _ in range(times):
        await ledger.opened(sign(made.opening, made.terms.identity, network))
    for chunk in made.chunks:
        for _ in range(times):
            await ledger.sealed(chunk, gaps(made, chunk.stream, chunk.index))
    for head in made.heads:
        for _ in range(times):
            await ledger.headed(sign(head, made.terms.ephemeral, network))
    for _ in range(times):
        await ledger.closed(unpack(Signed, made.signed_manifest()))


async def test_a_session_told_over_the_socket_verifies_from_the_daemons_store(tmp_path: Path) -> None:
    store, made, told = MemoryStore(), small(), list[SessionId]()
    async with daemon(tmp_path, store, told):
        await keep(RemoteLedger(tmp_path, made.opening.session), made)
    kept = await load_one(store, made.opening.session)
    assert kept is not None
    assert kept.evidence(made.read) == made.evidence(read=made.read)
    assert verify(kept.evidence(made.read)).valid
    assert told == [made.opening.session] * (len(made.chunks) + len(made.heads) + 2)


async def test_what_was_kept_and_not_confirmed_is_kept_once(tmp_path: Path) -> None:
    store, made = MemoryStore(), small()
    async with daemon(tmp_path, store, []):
        await keep(RemoteLedger(tmp_path, made.opening.session), made, times=2)
    kept = await load_one(store, made.opening.session)
    assert kept is not None
    assert len(kept.heads) == len(made.heads)
    assert verify(kept.evidence(made.read)).valid


async def test_another_record_in_its_place_is_refused(tmp_path: Path) -> None:
    store, made = MemoryStore(), small()
    await store.commit([Put("sessions", (made.opening.session,), b"another")])
    async with daemon(tmp_path, store, []):
        with pytest.raises(OSError, match="refuses"):
            await keep(RemoteLedger(tmp_path, made.opening.session), made)
    assert await store.get("sessions", (made.opening.session,)) == b"another"


async def test_a_daemon_that_is_restarted_meanwhile_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, made = MemoryStore(), small()
    tried = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def asked(*args: object) -> None:
        try:
            real(*args)  # type: ignore[arg-type]
        except NoDaemon:
            token.run_sync_soon(tried.set)
            raise

    real = remote._asked
    monkeypatch.setattr(remote, "_asked", asked)
    monkeypatch.setattr(remote, "RETRY_S", 0.01)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep, RemoteLedger(tmp_path, made.opening.session), made)
        await tried.wait()
        async with daemon(tmp_path, store, []):
            while await store.get("manifests", (made.opening.session,)) is None:
                await trio.sleep(0.01)
    monkeypatch.setattr(remote, "PATIENCE_S", 0)
    with pytest.raises(OSError, match="keeps no records"):
        await keep(RemoteLedger(tmp_path, made.opening.session), made)


def test_a_folder_is_being_recorded_as_long_as_its_recorder_lives(tmp_path: Path) -> None:
    folder = folder_of(Home(tmp_path), SessionId(bytes(32)))
    assert not is_recording(folder)
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        with recording(folder):
            os.write(writer, b".")
            signal.pause()
    os.read(reader, 1)
    assert is_recording(folder)
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert not is_recording(folder), "a killed recorder holds nothing"
    with recording(folder):
        assert is_recording(folder)
    assert not is_recording(folder)
    assert list(folder.iterdir()) == []
