"""verify, export, play and scrub: reading commands, which work beside a recorder and start without trio."""

import argparse
import contextlib
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from consensus.encoding import Malformed
from consensus.ids import Digest, SessionId
from consensus.records import unpack
from node.commands.anchored import evidence_of
from node.config import Home
from node.console import Console, size
from node.exits import DONE, NO, Refuted, Unavailable, Usage
from node.naming import begun_by, is_beginning
from node.sessions.records import Kept, load, proofs, sessions
from node.store.files import ChunkFiles
from node.store.reading import Reader, StoreDamaged, read_only
from pipeline.archive import ANCHORS, VERSION, VERSION_ANCHORED, VERSION_NAME, chunk_name, end, header, padding
from pipeline.manifest import Head, render
from pipeline.sealed import OVERHEAD, PLAIN_BYTES_MAX
from pipeline.stream import Stream

WORKERS = 2
READ_BYTES_MAX = PLAIN_BYTES_MAX + OVERHEAD


@contextlib.contextmanager
def reading(home: Home) -> Iterator[Reader]:
    """A home's records for reading, beside whoever writes them; raises Unavailable, Refuted for damaged ones."""
    home.check()
    with contextlib.ExitStack() as stack:
        try:
            reader = stack.enter_context(read_only(home.store))
        except FileNotFoundError:
            raise Unavailable(f"nothing was recorded in {home.path} yet: `lucid-node record` does it") from None
        except OSError as error:
            raise Unavailable(f"{error.strerror or error}: restore the store from a backup") from error
        try:
            yield reader
        except (Malformed, StoreDamaged) as error:
            raise Refuted(
                f"the records in {home.store} are damaged ({error}): restore the store from a backup"
            ) from error


def which(reader: Reader, wanted: str) -> SessionId:
    """The session whose id begins with the digits, at least 4 of them; raises Usage, Unavailable."""
    if not is_beginning(wanted):
        raise Usage(f"{wanted} is neither a file nor the beginning of a session id: `lucid-node sessions` lists them")
    return begun_by(wanted, sessions(reader))


def records_of(reader: Reader, session: SessionId) -> Kept:
    """All records of a session that the reader lists; raises Unavailable."""
    kept = load(reader, session)
    if kept is None:
        raise Unavailable(f"session {session.hex()} has no opening: the store is damaged, restore it from a backup")
    return kept


def closed_session(reader: Reader, session: SessionId) -> Kept:
    """All records of a session that is closed; raises Unavailable for one that is not."""
    kept = records_of(reader, session)
    if kept.manifest_bytes is None:
        raise Unavailable(
            f"session {session.hex()} is not closed: it is being recorded, or was interrupted; then `lucid-node recover` closes it"
        )
    return kept


def bring_back(session: str, args: argparse.Namespace, home: Home, console: Console) -> None:
    """With --from-network, have the daemon fetch what this disk lacks."""
    if args.from_network:
        from node.commands.asking import bring

        bring(session, home, console)


@contextlib.contextmanager
def _output(name: str) -> Iterator[BinaryIO]:
    """A file that appears whole or not at all; raises Usage where there is one, Unavailable where none can be."""
    target = Path(name)
    if target.exists():
        raise Usage(f"{name} exists already; name another file with --out")
    try:
        fd, temporary = _unnamed(target)
    except OSError as error:
        raise Unavailable(f"{name} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(fd, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
            # A folder's descriptor makes Python call linkat, the only way to give an unnamed file its name.
            os.link(temporary or f"/proc/self/fd/{out.fileno()}", target, src_dir_fd=out.fileno(), follow_symlinks=True)
    except FileExistsError:
        raise Usage(f"{name} exists already; name another file with --out") from None
    except OSError as error:
        raise Unavailable(f"{name} cannot be written: {error.strerror}") from error
    finally:
        if temporary is not None:
            os.unlink(temporary)


def _unnamed(target: Path) -> tuple[int, str | None]:
    """A file without a name, so that a killed command leaves no plaintext behind; where that cannot be, with one."""
    try:
        return os.open(target.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600), None
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT}:
            raise
    return tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")


def export(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node export`: a proof bundle."""
    with reading(home) as reader:
        kept = closed_session(reader, which(reader, args.session))
        anchors, missing = evidence_of(home, kept.opening.session, reader)
    manifest = kept.manifest
    assert manifest is not None
    if args.anchored and anchors is None:
        raise Unavailable(f"session {manifest.session.hex()} has no anchors to export: {missing}")
    evidence, files = kept.evidence(None), ChunkFiles(home.chunks)
    records = {
        VERSION_NAME: VERSION if anchors is None else VERSION_ANCHORED,
        "opening.cbor": evidence.opening,
        "heads.cbor": evidence.heads,
        "listing.cbor": evidence.listing,
        "proofs.cbor": proofs(kept.chunks),
        "manifest.cbor": evidence.manifest,
        "manifest.json": render(kept.opening, manifest).encode(),
        **({} if anchors is None else {ANCHORS: anchors}),
    }
    chunks = kept.chunks if args.with_chunks else ()
    progress = console.progress("exported", total=sum(chunk.size for chunk in chunks) or None)
    with _output(args.out) as out:
        for name, data in records.items():
            _add(out, name, data)
        for chunk in chunks:
            try:
                _add(out, chunk_name(chunk), files.read(chunk.file))
            except KeyError:
                raise Refuted(f"{chunk.name} is missing from this home: a bundle with chunks cannot be made") from None
            progress.update(out.tell())
        out.write(end())
        length = out.tell()
    progress.end()
    what = "with its chunks" if args.with_chunks else "without its chunks (--with-chunks adds them)"
    console.say(f"Exported session {manifest.session.hex()} {what}: {args.out}, {size(length)}.")
    console.say("Its anchors are in it." if anchors is not None else f"It has no anchors: {missing}.")
    console.say(f"Anyone checks it: lucid-node verify {args.out}")
    console.result(
        {
            "session": manifest.session,
            "out": args.out,
            "bytes": length,
            "with_chunks": args.with_chunks,
            "anchored": anchors is not None,
            "root": manifest.root,
        }
    )
    return DONE


def _add(out: BinaryIO, name: str, data: bytes) -> None:
    out.write(header(name, len(data)))
    out.write(data)
    out.write(padding(len(data)))


def play(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node play`: the decrypted recording."""
    from node.keys import unlock
    from pipeline.fmp4 import MalformedVideo
    from pipeline.restore import Damaged, stream_bytes

    stream = Stream[args.stream.upper()]
    bring_back(args.session, args, home, console)
    with reading(home) as reader:
        kept = closed_session(reader, which(reader, args.session))
    opening, manifest, files = kept.opening, kept.manifest, ChunkFiles(home.chunks)
    assert manifest is not None
    if stream not in opening.streams:
        raise Unavailable(f"this session has no {args.stream} stream")
    secret = unlock(home, args.passphrase_file).session_secret(opening.key_generation, opening.session)
    total = sum(chunk.plain for chunk in kept.chunks if chunk.stream is stream)
    progress, written = console.progress("played", total=total), 0
    with _output(args.out) as out:
        try:
            heads = [unpack(Head, head.body) for head in kept.heads]
            tails = [tail for head in heads for tail in head.tails]
            plain = stream_bytes(opening, kept.chunks, stream, secret, lambda chunk: files.read(chunk.file), tails)
            for part in _playable(kept, stream, plain):
                written += out.write(part)
                progress.update(written)
        except MalformedVideo as error:
            raise Refuted(f"the recording cannot be joined into one MP4 ({error}); nothing was written") from error
        except Damaged as error:
            raise Refuted(f"{error}; nothing was written (`lucid-node verify` tells all that is wrong)") from error
    progress.end()
    console.say(f"Played session {manifest.session.hex()} into {args.out}, {size(written)}.")
    console.result({"session": manifest.session, "out": args.out, "stream": args.stream, "bytes": written})
    return DONE


def _playable(kept: Kept, stream: Stream, plain: Iterator[bytes]) -> Iterable[bytes]:
    """A recording with gaps as one MP4; anything else byte for byte."""
    from pipeline.playback import join_epochs

    manifest = kept.manifest
    gaps = [gap for gap in manifest.gaps if gap.stream is stream] if manifest else []
    if stream is not Stream.VIDEO or not gaps:
        return plain
    first = next((chunk.first for chunk in kept.chunks if chunk.stream is stream), kept.opening.started)
    # Gaps at one place are one: an encoder that died again before its first byte began no epoch. Those at the very
    # beginning come before the first epoch.
    starts = {gap.offset: max(0, gap.last - first) for gap in gaps if gap.offset}
    return join_epochs(plain, [0, *(starts[offset] for offset in sorted(starts))])


def scrub(_args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node scrub`: every sealed chunk read and compared with its name, and none missing."""
    with reading(home) as reader:
        known = {Digest(bytes(key[0])): None for key, _ in reader.scan("files")}  # type: ignore[arg-type]
        owners = {
            chunk.file: f"{session.hex()[:12]} {chunk.name}"
            for session in sessions(reader)
            for chunk in records_of(reader, session).chunks
        }
    files = ChunkFiles(home.chunks)
    progress = console.progress("scrubbed")
    faults = []
    for fault in files.scrub(lambda done, _total: progress.update(done)):
        whose = owners.get(fault.digest, "of no session") if fault.digest else "of no session"
        faults.append({"file": str(fault.path), "chunk": whose, "reason": fault.reason})
    faults += [
        {"file": str(files.path(digest)), "chunk": owners.get(digest, "of no session"), "reason": "missing"}
        for digest in known
        if not files.has(digest)
    ]
    progress.end()
    for found in faults:
        console.say(f"  {found['chunk']}: {found['reason']} ({found['file']})")
    console.say(
        f"{len(known)} chunks, {size(files.usage())}: {'all intact' if not faults else f'{len(faults)} at fault'}."
    )
    console.result({"chunks": len(known), "bytes": files.usage(), "faults": faults, "valid": not faults})
    return NO if faults else DONE
