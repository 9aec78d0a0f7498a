"""verify, export, play and scrub: reading commands, which work beside a recorder and start without trio."""

import argparse
import contextlib
import errno
import mmap
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from consensus.encoding import Malformed
from consensus.ids import Digest, SessionId
from consensus.records import unpack
from node.config import Home
from node.console import Console, Progress, moment, size
from node.exits import DONE, NO, Refuted, Unavailable, Usage
from node.naming import begun_by, is_beginning
from node.sessions.records import Kept, load, proofs, sessions
from node.store.files import ChunkFiles
from node.store.reading import Reader, StoreDamaged, read_only
from pipeline.archive import VERSION, VERSION_NAME, chunk_name, end, header, padding
from pipeline.bundle import Evidence, Fault, Read, Verdict, verify, verify_bundle
from pipeline.manifest import Chunk, Head, render
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


def _which(reader: Reader, wanted: str) -> SessionId:
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


def _closed(reader: Reader, session: SessionId) -> Kept:
    kept = records_of(reader, session)
    if kept.manifest_bytes is None:
        raise Unavailable(
            f"session {session.hex()} is not closed: it is being recorded, or was interrupted; then `lucid-node recover` closes it"
        )
    return kept


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    """A file's bytes without reading them all into memory; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        length = os.fstat(fd).st_size
        if not length:
            yield memoryview(b"")
            return
        with mmap.mmap(fd, length, prot=mmap.PROT_READ) as view:
            whole = memoryview(view)
            try:
                yield whole
            finally:
                with contextlib.suppress(BufferError):
                    whole.release()
    finally:
        os.close(fd)


def _side_by_side(check: Callable[[Chunk], Fault | None], chunks: Iterable[Chunk]) -> Iterable[Fault | None]:
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(check, chunks))


def _bring(session: str, args: argparse.Namespace, home: Home, console: Console) -> None:
    """With --from-network, have the daemon fetch what this disk lacks."""
    if args.from_network:
        from node.commands.asking import bring

        bring(session, home, console)


def run_verify(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node verify`: exit 0 when intact and what was required holds, else 1."""
    wanted = Path(args.what)
    if wanted.is_dir():
        raise Usage(f"{args.what} is a folder: name a session or a bundle file")
    if wanted.is_file():
        with contextlib.ExitStack() as stack:
            try:
                view = stack.enter_context(_mapped(wanted))
            except OSError as error:
                raise Unavailable(f"{args.what} cannot be read: {error.strerror}") from error
            verdict = verify_bundle(view, _side_by_side)
    elif "/" in args.what or "." in args.what:
        raise Unavailable(f"{args.what} is not there: name a bundle file, or a session of this home")
    else:
        _bring(args.what, args, home, console)
        verdict = _verify_session(args.what, home, console)
    return _answer(verdict, args, console)


def _reader(files: ChunkFiles, progress: Progress) -> Read:
    """Reads a chunk into a buffer that its thread reuses: fresh memory for each would cost more than the hashing."""
    local, done = threading.local(), [0]

    def read(chunk: Chunk) -> memoryview | None:
        done[0] += chunk.size
        progress.update(done[0])
        try:
            with open(files.path(chunk.file), "rb", buffering=0) as file:
                length = os.fstat(file.fileno()).st_size
                if length > READ_BYTES_MAX:
                    return memoryview(b"")  # no sealer wrote it: a fault, and no reason to take its memory
                if len(getattr(local, "buffer", b"")) < length:
                    local.buffer = bytearray(length)
                view = memoryview(local.buffer)[:length]
                filled = 0
                while filled < length and (count := file.readinto(view[filled:])):
                    filled += count
                return view[:filled]
        except FileNotFoundError:
            return None

    return read


def _verify_session(wanted: str, home: Home, console: Console) -> Verdict:
    with reading(home) as reader:
        session = _which(reader, wanted)
        try:
            kept = _closed(reader, session)
            evidence = kept.evidence(None)
            total = sum(chunk.size for chunk in kept.chunks)
        except (Malformed, StoreDamaged) as error:
            return Verdict((Fault("store", f"the records of session {session.hex()} are damaged: {error}"),))
    progress = console.progress("verified", total=total)
    read = _reader(ChunkFiles(home.chunks), progress)

    records = (evidence.opening, evidence.heads, evidence.listing, evidence.manifest)
    verdict = verify(Evidence(*records, read), _side_by_side)
    progress.end()
    return verdict


def _answer(verdict: Verdict, args: argparse.Namespace, console: Console) -> int:
    opening, manifest = verdict.opening, verdict.manifest
    signer = opening.identity.hex() if opening else None
    trusted = signer is not None and args.signer is not None and signer == args.signer.lower()
    unmet = _unmet(verdict, args, trusted=trusted)
    good = verdict.valid and unmet is None
    _say_verdict(verdict, args, console, trusted=trusted)
    if verdict.valid and unmet:
        console.say(unmet)
    console.result(
        {
            "valid": verdict.valid,
            "session": opening.session if opening else None,
            "faults": [asdict(fault) for fault in verdict.faults],
            "signer": signer,
            "signer_trusted": trusted,
            "complete": manifest.complete if manifest else None,
            "reason": manifest.reason if manifest else None,
            "chunks": len(verdict.chunks),
            "bytes": verdict.bytes_checked,
            "root": manifest.root if manifest else None,
            "gaps": len(manifest.gaps) if manifest else None,
            "started": opening.started if opening else None,
            "ended": manifest.ended if manifest else None,
            "with_chunks": verdict.with_chunks,
            "anchored": "none",
            "trust": "none",
            "trust_point": None,
            "proven": verdict.proven,
            "not_proven": verdict.not_proven,
            "required": args.require,
            "ok": good,
        }
    )
    return DONE if good else NO


def _unmet(verdict: Verdict, args: argparse.Namespace, *, trusted: bool) -> str | None:
    if args.require == "signer" and not trusted:
        return "Required: a trusted signer. The signer is not the one that --signer names."
    if args.require == "chunks" and not verdict.with_chunks:
        return "Required: the sealed chunks. This bundle does not hold them."
    if args.require in {"witnessed", "final"}:
        return f"Required: anchored as {args.require}. This session is not anchored."
    return None


def _say_verdict(verdict: Verdict, args: argparse.Namespace, console: Console, *, trusted: bool) -> None:
    opening, manifest = verdict.opening, verdict.manifest
    if not verdict.valid:
        console.say(f"NOT VALID: {len(verdict.faults)} fault{'s' if len(verdict.faults) > 1 else ''}")
        for fault in verdict.faults[:50]:
            console.say(f"  {fault.chunk or fault.part}: {fault.reason}")
        return
    who = "by the signer you trust" if trusted else "but the signer is unknown to you"
    console.say(f"Intact, {who}.")
    if opening and manifest:
        console.say(f"  session  {opening.session.hex()}")
        console.say(f"  signer   {opening.identity.hex()}")
        console.say(f"  time     {moment(opening.started)} to {moment(manifest.ended)}, by the recorder's own clock")
        console.say(f"  chunks   {len(verdict.chunks)}, {size(verdict.bytes_checked)} checked")
        console.say(f"  root     {manifest.root.hex()}")
        if not manifest.complete:
            console.say(f"  ended early: {manifest.reason}")
        for gap in manifest.gaps:
            console.say(
                f"  gap of {(gap.last - gap.first) / 1000:.1f} s in the {gap.stream.name.lower()}: {gap.reason}"
            )
    for missing in verdict.not_proven:
        console.say(f"  not proven: {missing}")
    if not trusted and args.signer is None:
        console.say("  compare the signer's key with --signer KEY")


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
        kept = _closed(reader, _which(reader, args.session))
    manifest = kept.manifest
    assert manifest is not None
    evidence, files = kept.evidence(None), ChunkFiles(home.chunks)
    records = {
        VERSION_NAME: VERSION,
        "opening.cbor": evidence.opening,
        "heads.cbor": evidence.heads,
        "listing.cbor": evidence.listing,
        "proofs.cbor": proofs(kept.chunks),
        "manifest.cbor": evidence.manifest,
        "manifest.json": render(kept.opening, manifest).encode(),
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
    console.say(f"Anyone checks it: lucid-node verify {args.out}")
    console.result(
        {
            "session": manifest.session,
            "out": args.out,
            "bytes": length,
            "with_chunks": args.with_chunks,
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
    _bring(args.session, args, home, console)
    with reading(home) as reader:
        kept = _closed(reader, _which(reader, args.session))
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
