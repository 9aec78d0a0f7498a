"""record and recover: with the store in their own hands, or beside the daemon that has it."""

import argparse
import os
import signal
import stat
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

import trio
from blake3 import blake3

from consensus.encoding import Malformed
from consensus.ids import Millis, Network, NodeId, SessionId, session_id
from consensus.signing import KeyPair
from node.config import Config, Home, display
from node.console import Console, clock, size
from node.control.client import answers
from node.control.ledger import RemoteLedger
from node.exits import DONE, Unavailable, Usage
from node.keys import unlock
from node.membership import network_of
from node.sessions.desk import close_interrupted, folder_of, opened, recording
from node.sessions.records import StoreLedger
from node.store import Busy, Conflict
from node.store.files import ChunkFiles
from node.wallet.vault import Secrets
from pipeline.audit import audit, line
from pipeline.capture import CaptureLost, NoEncoder, capture, probe, screen_size
from pipeline.chunk import Bounds
from pipeline.desktop import NoDisplay
from pipeline.manifest import Chunk, GapNote, Manifest, Opening
from pipeline.session import NotClosed, Places, Source, SourceLost, Terms, cause, record
from pipeline.stores import Ledger, NoRoom
from pipeline.stream import Fragment, Piece, Stream

READ_BYTES = 1 << 18


def now() -> Millis:
    """The wall clock in Unix milliseconds."""
    return Millis(time.time_ns() // 1_000_000)


def run_recover(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node recover`."""

    async def main() -> int:
        home.check()
        secrets = await trio.to_thread.run_sync(unlock, home, args.passphrase_file)
        async with opened(home, home.config(), secrets) as desk:
            closed = await close_interrupted(desk, now, partial(_closed, console))
            if not closed:
                console.say("No session was interrupted.")
            console.result({"closed": [manifest.session for manifest in closed]})
        return DONE

    return _guarded(main)


def _closed(console: Console, manifest: Manifest) -> None:
    console.say(
        f"Session {manifest.session.hex()} had been interrupted: closed as incomplete with {manifest.chunk_count} chunks."
    )
    for incident in manifest.incidents:
        console.warn(f"incident: {incident.what}")


def run_record(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node record`."""
    return _guarded(partial(_record, args, home, console))


def _guarded(main: Callable[[], Awaitable[int]]) -> int:
    """Run the command; what ends it for a reason of the world's becomes a sentence and exit code 3."""
    try:
        return trio.run(main)
    except* (Busy, Conflict, NoRoom, NotClosed, NoDisplay, NoEncoder, Unavailable, Usage, Malformed, OSError) as group:
        failure = cause(group)
    match failure:
        case Usage() | Unavailable():
            raise failure
        case Malformed() | Conflict():
            raise Unavailable(
                f"the home's records are damaged ({failure}): restore the store from a backup"
            ) from failure
        case NotClosed() | NoRoom():
            raise Unavailable(f"{failure}; free some space, then `lucid-node recover`") from failure
        case _:
            raise Unavailable(str(failure)) from failure


@dataclass(slots=True)
class _Input:
    """What is recorded: a source for each stream, and what the opening says of it."""

    codec: str
    sources: dict[Stream, Source | int]
    exact: bool
    total: int | None = None
    noted: Callable[[GapNote], None] = field(default=lambda _gap: None)


async def _record(args: argparse.Namespace, home: Home, console: Console) -> int:
    """Record with the store in our hands, or as the guest of the daemon that has it."""
    home.check()
    config = home.config()
    secrets = await trio.to_thread.run_sync(unlock, home, args.passphrase_file)
    try:
        async with opened(home, config, secrets) as desk:
            await close_interrupted(desk, now, partial(_closed, console))
            return await _record_into(args, home, console, secrets, lambda session: StoreLedger(desk.store, session))
    except Busy:
        if not await trio.to_thread.run_sync(answers, home.path):
            raise  # it is open in another command, and not in a daemon
        return await _record_into(args, home, console, secrets, lambda session: RemoteLedger(home.path, session))


async def _record_into(
    args: argparse.Namespace,
    home: Home,
    console: Console,
    secrets: Secrets,
    ledger_of: Callable[[SessionId], Ledger],
) -> int:
    stop, config = trio.Event(), home.config()
    source = await _input(args, config, stop)
    terms = _terms(secrets, source, args, network_of(home))
    session = terms.opening.session
    folder = folder_of(home, session)
    chunks = ChunkFiles(home.chunks, quota_bytes=config.quota_gb * 1_000_000_000)
    console.say(f"Recording session {session.hex()}")
    totals = _Totals(console, source.total)
    with recording(folder):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_signals, stop, nursery.cancel_scope, console)
            if args.duration is not None:
                nursery.start_soon(_stop_after, args.duration, stop)
            nursery.start_soon(totals.show)
            manifest = await record(
                terms,
                Places(chunks, ledger_of(session), folder),
                source.sources,
                stop=stop,
                now=now,
                noted=source.noted,
                stored=totals.add,
                exact=source.exact,
            )
            nursery.cancel_scope.cancel()
    totals.progress.end()
    with suppress(OSError):
        folder.rmdir()
    return _report(manifest, totals, terms, console)


def _report(manifest: Manifest, totals: "_Totals", terms: Terms, console: Console) -> int:
    session = manifest.session.hex()
    if manifest.complete:
        console.say(f"Sealed {manifest.chunk_count} chunks, {size(totals.plain)} in, {size(totals.sealed)} out.")
    else:
        console.say(
            f"Ended early: {manifest.reason}. The {manifest.chunk_count} chunks sealed until then can be verified."
        )
    for gap in manifest.gaps:
        console.say(f"Gap of {(gap.last - gap.first) / 1000:.1f} s in the {gap.stream.name.lower()}: {gap.reason}")
    console.say(f"Root {manifest.root.hex()}")
    console.say(f"Check it: lucid-node verify {session}")
    console.result(
        {
            "session": session,
            "complete": manifest.complete,
            "reason": manifest.reason,
            "chunks": manifest.chunk_count,
            "bytes_in": totals.plain,
            "bytes_out": totals.sealed,
            "root": manifest.root,
            "gaps": len(manifest.gaps),
            "incidents": [incident.what for incident in manifest.incidents],
            "signer": terms.identity.public,
        }
    )
    return DONE if manifest.complete else Unavailable.code


@dataclass
class _Totals:
    """What was sealed so far, and its progress line."""

    console: Console
    total: int | None
    plain: int = 0
    sealed: int = 0
    chunks: int = 0

    def __post_init__(self) -> None:
        self.progress = self.console.progress("sealed", total=self.total)

    def add(self, chunk: Chunk) -> None:
        self.plain, self.sealed, self.chunks = self.plain + chunk.plain, self.sealed + chunk.size, self.chunks + 1

    async def show(self) -> None:
        while True:
            self.progress.update(
                self.plain, f"({self.chunks} chunks, {clock(time.monotonic() - self.progress.started)})"
            )
            await trio.sleep(0.5)


async def _signals(stop: trio.Event, scope: trio.CancelScope, console: Console) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            if stop.is_set():
                scope.cancel()  # asked twice: leave at once, the journals keep what is open
                return
            console.warn("stopping: sealing what is open")
            stop.set()


async def _stop_after(seconds: float, stop: trio.Event) -> None:
    await trio.sleep(seconds)
    stop.set()


def _terms(secrets: Secrets, source: _Input, args: argparse.Namespace, network: Network) -> Terms:
    ephemeral = KeyPair.from_seed(os.urandom(32))
    identity, owner, one_use = secrets.identity, secrets.address, uuid.uuid4().bytes
    session = session_id(owner, one_use, ephemeral.public)
    bounds = Bounds(*args.chunk_bytes) if args.chunk_bytes else Bounds()
    generation = len(secrets.masters) - 1
    opening = Opening(
        session=session,
        network=network,
        owner=owner,
        uuid=one_use,
        ephemeral=ephemeral.public,
        identity=NodeId(identity.public),
        started=now(),
        policy=bytes(32),
        streams=tuple(sorted(source.sources)),
        codec=source.codec,
        recorder=f"lucid-node {version('lucid-node')}",
        device=_device(identity.public),
        chunk_low=bounds.low,
        chunk_high=bounds.high,
        chunk_age_ms=bounds.age_ms,
        key_generation=generation,
    )
    return Terms(opening, identity, ephemeral, secrets.session_secret(generation, session))


def _device(identity: bytes) -> bytes:
    """A fingerprint that tells this machine from others without naming it: BLAKE3 of its id, keyed by the identity."""
    try:
        machine = Path("/etc/machine-id").read_bytes()
    except OSError:
        machine = os.uname().nodename.encode()
    return blake3(b"lucid/device/v1" + machine, key=identity).digest()


async def _input(args: argparse.Namespace, config: Config, stop: trio.Event) -> _Input:
    if args.input is not None:
        return await _file_input(args.input, stop)
    name = args.display or display()
    if name is None:
        raise Usage("there is no display to record: name one with --display :N, or a file with --input FILE")
    await screen_size(name)
    chosen = args.encoder or config.encoder
    encoder = await probe(None if chosen == "auto" else [chosen])
    fps = args.fps or config.fps

    async def video(send: trio.MemorySendChannel[Piece]) -> None:
        try:
            await capture(send, display=name, encoder=encoder, now=now, stop=stop, fps=fps)
        except (CaptureLost, NoDisplay) as error:
            raise SourceLost(str(error)) from error

    found = _Input(f"H.264 by {encoder.name} in fragmented MP4, {fps} fps", {Stream.VIDEO: video}, exact=False)
    if config.audit if args.audit is None else args.audit:
        _add_audit(found, name, stop, titles=config.titles)
    return found


def _add_audit(found: _Input, name: str, stop: trio.Event, *, titles: bool) -> None:
    gap_send, gap_receive = trio.open_memory_channel[bytes](float("inf"))

    def noted(gap: GapNote) -> None:
        fields = {"stream": gap.stream.name.lower(), "until": gap.last, "reason": gap.reason}
        with suppress(trio.ClosedResourceError):  # the trail has ended; the manifest has the gap all the same
            gap_send.send_nowait(line("gap", gap.first, **fields))

    async def trail(send: trio.MemorySendChannel[Piece]) -> None:
        async def tell(data: bytes) -> None:
            await send.send(Fragment(data, now(), now()))

        async def gaps() -> None:
            async for data in gap_receive:
                await tell(data)

        await tell(line("start", now(), display=name))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gaps)
            try:
                await audit(send, display=name, now=now, stop=stop, titles=titles)
            except NoDisplay as error:
                await tell(line("end", now(), reason=str(error)))
            await stop.wait()
            gap_send.close()
        await tell(line("end", now()))

    found.sources[Stream.AUDIT] = trail
    found.noted = noted


async def _file_input(name: str, stop: trio.Event) -> _Input:
    try:
        fd = sys.stdin.fileno() if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(fd)
    except OSError as error:
        raise Unavailable(f"{name} cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode):
        raise Usage(f"{name} is a folder: record one file, or pack the folder first")
    if stat.S_ISREG(status.st_mode):
        if not status.st_size:
            raise Unavailable(f"{name} is empty: there is nothing to record")
        return _Input("bytes", {Stream.VIDEO: fd}, exact=True, total=status.st_size)
    first = await trio.to_thread.run_sync(os.read, fd, READ_BYTES, abandon_on_cancel=True)
    if not first:
        raise Unavailable(f"{name} is empty: there is nothing to record")

    async def pipe(send: trio.MemorySendChannel[Piece]) -> None:
        data = first
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when, stop, nursery.cancel_scope)
            while data:
                await send.send(Fragment(data, now(), now()))
                data = await trio.to_thread.run_sync(os.read, fd, READ_BYTES, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()

    return _Input("bytes", {Stream.VIDEO: pipe}, exact=True)


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
