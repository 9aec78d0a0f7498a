"""verify: whether a session of this home, or a proof bundle, is what it says, and since when; offline, without a secret."""

import argparse
import contextlib
import mmap
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

from consensus.encoding import Malformed
from node.commands.anchored import Anchored, evidence_of, facts, judged, not_proven, proven, say
from node.commands.inspection import bring_back, closed_session, reading, which
from node.config import Home
from node.console import Console, Progress, moment, size
from node.exits import DONE, NO, Unavailable, Usage
from node.store.files import ChunkFiles
from node.store.reading import StoreDamaged
from pipeline.bundle import Evidence, Fault, Read, Verdict, verify, verify_bundle
from pipeline.manifest import Chunk
from pipeline.sealed import OVERHEAD, PLAIN_BYTES_MAX

WORKERS = 2
READ_BYTES_MAX = PLAIN_BYTES_MAX + OVERHEAD


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
        found = judged(verdict, args, home, "the bundle holds none")
    elif "/" in args.what or "." in args.what:
        raise Unavailable(f"{args.what} is not there: name a bundle file, or a session of this home")
    else:
        bring_back(args.what, args, home, console)
        verdict, missing = _verify_session(args.what, home, console)
        found = judged(verdict, args, home, missing)
    if found.fault is not None:
        verdict = replace(verdict, faults=(*verdict.faults, found.fault))
    return _answer(verdict, found, args, console)


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


def _verify_session(wanted: str, home: Home, console: Console) -> tuple[Verdict, str]:
    """The verdict, with the anchors of this home, or why there are none."""
    with reading(home) as reader:
        session = which(reader, wanted)
        try:
            kept = closed_session(reader, session)
            evidence = kept.evidence(None)
            total = sum(chunk.size for chunk in kept.chunks)
        except (Malformed, StoreDamaged) as error:
            return Verdict((Fault("store", f"the records of session {session.hex()} are damaged: {error}"),)), ""
        anchors, missing = evidence_of(home, session, reader)
    progress = console.progress("verified", total=total)
    read = _reader(ChunkFiles(home.chunks), progress)

    records = (evidence.opening, evidence.heads, evidence.listing, evidence.manifest)
    verdict = verify(Evidence(*records, read), _side_by_side)
    progress.end()
    return replace(verdict, anchors=anchors), missing


def _answer(verdict: Verdict, found: Anchored, args: argparse.Namespace, console: Console) -> int:
    opening, manifest = verdict.opening, verdict.manifest
    signer = opening.identity.hex() if opening else None
    trusted = signer is not None and args.signer is not None and signer == args.signer.lower()
    unmet = _unmet(verdict, found, args, trusted=trusted)
    good = verdict.valid and unmet is None
    _say_verdict(verdict, found, args, console, trusted=trusted)
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
            **facts(found),
            "proven": proven(verdict, found),
            "not_proven": not_proven(verdict, found),
            "required": args.require,
            "ok": good,
        }
    )
    return DONE if good else NO


def _unmet(verdict: Verdict, found: Anchored, args: argparse.Namespace, *, trusted: bool) -> str | None:
    if args.require == "signer" and not trusted:
        return "Required: a trusted signer. The signer is not the one that --signer names."
    if args.require == "chunks" and not verdict.with_chunks:
        return "Required: the sealed chunks. This bundle does not hold them."
    if args.require in {"witnessed", "final"} and found.level not in {args.require, "final"}:
        return f"Required: anchored as {args.require}. It is not: {found.why or 'its anchors are not good'}."
    return None


def _say_verdict(
    verdict: Verdict, found: Anchored, args: argparse.Namespace, console: Console, *, trusted: bool
) -> None:
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
    say(found, console)
    for shown in proven(verdict, found):
        console.say(f"  proven: {shown}")
    for missing in not_proven(verdict, found):
        console.say(f"  not proven: {missing}")
    if not trusted and args.signer is None:
        console.say("  compare the signer's key with --signer KEY")
