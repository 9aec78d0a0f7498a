"""A home opened for writing by the one process that owns its store: the daemon, or a command where no daemon runs.

A recorder is a process of its own beside the daemon, and tells it what to keep (node/control/ledger). It holds a lock on
its folder of journals for as long as it lives, so that nobody closes, or sweeps away, what is still being recorded.
"""

import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from consensus.encoding import Malformed
from consensus.ids import Millis, SessionId
from node.config import Config, Home
from node.exits import Unavailable
from node.sessions.records import Kept, StoreLedger, held_files, load_open
from node.store import Store
from node.store.files import ChunkFiles
from node.store.lmdb import LmdbStore
from node.wallet.vault import Secrets
from pipeline import recovery
from pipeline.manifest import Manifest
from pipeline.session import Places

_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class OpenHome:
    """An opened home: its settings, keys, records and chunks."""

    home: Home
    config: Config
    secrets: Secrets
    store: Store
    chunks: ChunkFiles

    def places(self, session: SessionId) -> Places:
        """Where a session is kept; its folder of journals is made."""
        return Places(self.chunks, StoreLedger(self.store, session), folder_of(self.home, session))


def folder_of(home: Home, session: SessionId) -> Path:
    """The folder of a session's journals, made if need be."""
    folder = home.journals(session)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextmanager
def recording(folder: Path) -> Iterator[None]:
    """Holds a session's folder of journals while it is being recorded; it vanishes with its process, however that ends."""
    fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
        (folder / _LOCK).unlink(missing_ok=True)
    finally:
        os.close(fd)


def is_recording(folder: Path) -> bool:
    """Whether a live process records into a folder of journals."""
    try:
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


@asynccontextmanager
async def opened(home: Home, config: Config, secrets: Secrets) -> AsyncIterator[OpenHome]:
    """Open a home's store and chunks, swept of what dead writers left; raises Busy while another process has it open."""
    home.store.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with LmdbStore.open(home.store) as store:
        chunks = ChunkFiles(home.chunks, quota_bytes=config.quota_gb * 1_000_000_000)
        chunks.hold(await held_files(store))
        if not any(is_recording(folder) for folder in home.journal_folders()):
            known = {bytes(key[0]) async for key, _ in store.scan("files")}  # type: ignore[arg-type]
            await trio.to_thread.run_sync(chunks.sweep)
            await trio.to_thread.run_sync(chunks.sweep_unreferenced, known.__contains__)
        yield OpenHome(home, config, secrets, store, chunks)


async def close_one(desk: OpenHome, kept: Kept, now: Callable[[], Millis]) -> Manifest:
    """Close a session whose recorder died, with all that was safe in its journals; raises Unavailable."""
    found = kept.interrupted()
    opening = found.opening
    secret = desk.secrets.session_secret(opening.key_generation, opening.session)
    places = desk.places(opening.session)
    try:
        return await recovery.close(found, secret, desk.secrets.identity, places, now)
    except Malformed as error:
        raise Unavailable(
            f"session {opening.session.hex()} cannot be closed: {error}; move what does not belong there out of "
            f"{places.journals}, then `lucid-node recover`"
        ) from error


async def close_interrupted(
    desk: OpenHome, now: Callable[[], Millis], told: Callable[[Manifest], None]
) -> list[Manifest]:
    """Close every session that has no manifest and no live recorder, and remove what journals a crash left behind."""
    closed = []
    for kept in await load_open(desk.store):
        if not is_recording(desk.home.journals(kept.opening.session)):
            manifest = await close_one(desk, kept, now)
            told(manifest)
            closed.append(manifest)
    for folder in desk.home.journal_folders():
        if not is_recording(folder) and await desk.store.get("manifests", (bytes.fromhex(folder.name),)) is not None:
            shutil.rmtree(folder)
    return closed
