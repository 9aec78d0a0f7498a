"""`./lucid run`: the main job on real input, in a home of its own under .run/, shown with every step that a user would take.

A desktop (a virtual one with a moving picture, or with LUCID_RECORD=screen the real one) is recorded until three chunks
are sealed, verified, exported, tampered with in a copy, caught, and played. Everything runs through the same command
line that users type.
"""

import argparse
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from consensus.ids import SessionId
from node.config import Home, demo_source, display
from node.console import Console, clock, size
from node.exits import DONE, NO, Ended, Unavailable, Usage
from node.sessions.records import load
from node.store.reading import read_only
from node.typed import command, typed
from pipeline.archive import chunk_name, entries
from pipeline.child import child
from pipeline.desktop import NoDisplay, virtual_display
from pipeline.manifest import Chunk
from pipeline.session import cause
from pipeline.stream import Stream

CHUNKS = 3
SCREEN = (1280, 720)
PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Demonstration:
    """The place of the demonstration and how it types commands."""

    root: Path
    console: Console

    @property
    def home(self) -> Home:
        """Its own home, never the user's."""
        return Home(self.root / "home")

    @property
    def options(self) -> tuple[str, str]:
        """What opens its vault."""
        return ("--passphrase-file", str(self.root / "passphrase"))

    def ask(self, *words: str, expected: int = DONE) -> dict[str, Any]:
        """What a command answers; raises Unavailable when it ends otherwise than expected."""
        return typed(self.home.path, words, self.options, expected)


def _prepare(root: Path, console: Console) -> Demonstration:
    root.mkdir(parents=True, exist_ok=True)
    stage = Demonstration(root, console)
    phrase = root / "passphrase"
    if not phrase.exists():
        phrase.touch(mode=0o600)
        phrase.write_text(secrets.token_hex(16) + "\n")
    if not stage.home.vault.exists():
        stage.ask("init")
    return stage


@asynccontextmanager
async def _desktop() -> AsyncIterator[tuple[str, str]]:
    """The display to record and what it is."""
    source = demo_source()
    if source == "screen":
        name = display()
        if name is None:
            raise Usage("LUCID_RECORD=screen needs a display: set DISPLAY, or leave LUCID_RECORD out for a virtual one")
        yield name, f"the screen {name}"
        return
    if source is not None:
        raise Usage(f"LUCID_RECORD={source} is unknown: say screen, or leave it out for a virtual desktop")
    card = [sys.executable, "-m", "pipeline.testcard", "--display"]
    async with virtual_display(*SCREEN) as name, child([*card, name]):
        yield name, f"a virtual desktop {name} with a moving picture"


def _progress(stage: Demonstration, known: set[bytes]) -> tuple[SessionId | None, list[Chunk]]:
    """The session being recorded and its chunks so far."""
    if not (stage.home.store / "data.mdb").exists():
        return None, []
    with read_only(stage.home.store) as reader:
        for key, _ in reader.scan("sessions"):
            session = SessionId(bytes(key[0]))  # type: ignore[arg-type]
            if session not in known and (kept := load(reader, session)) is not None:
                return session, list(kept.chunks)
    return None, []


async def _record(stage: Demonstration, chunks: int) -> tuple[dict[str, Any], float]:
    known = {bytes.fromhex(row["session"]) for row in stage.ask("sessions")["sessions"]}
    began = time.monotonic()
    async with _desktop() as (name, what):
        stage.console.say(f"Recording {what} until {chunks} chunks are sealed; about a minute …")
        progress = stage.console.progress("recorded")
        with open(stage.root / "record.log", "wb") as log:
            recorder = subprocess.Popen(  # noqa: ASYNC220 - forked by this thread, which outlives it
                command(stage.home.path, ("record", "--display", name), stage.options),
                stdout=subprocess.PIPE,
                stderr=log,
            )
            try:
                while recorder.poll() is None and time.monotonic() - began < PATIENCE_S:
                    _, sealed = _progress(stage, known)
                    video = [chunk for chunk in sealed if chunk.stream is Stream.VIDEO]
                    progress.update(sum(chunk.plain for chunk in video), f"({len(video)} chunks)")
                    if len(video) >= chunks:
                        break
                    await trio.sleep(0.5)
            finally:
                recorder.send_signal(signal.SIGTERM)
                answer, _ = await trio.to_thread.run_sync(recorder.communicate)
        progress.end()
    if recorder.returncode:
        said = (stage.root / "record.log").read_text(errors="replace").strip()
        raise Unavailable(f"recording ended with {recorder.returncode}: {said[-500:] or 'it says nothing'}")
    return json.loads(answer.splitlines()[-1]), time.monotonic() - began


def _tamper(stage: Demonstration, bundle: Path, session: SessionId) -> tuple[Path, str]:
    """A copy of the bundle with one bit flipped inside the second chunk; returns it and the chunk's name."""
    with read_only(stage.home.store) as reader:
        kept = load(reader, session)
    assert kept is not None
    victim = kept.chunks[1]
    copy = bundle.with_suffix(".tampered.tar")
    data = bytearray(bundle.read_bytes())
    for entry in entries(memoryview(bytes(data))):
        if entry.name == chunk_name(victim):
            at = bytes(data).index(bytes(entry.data[:116])) + len(entry.data) // 2
            data[at] ^= 1
    copy.write_bytes(data)
    return copy, victim.name


async def _show(root: Path, console: Console, chunks: int) -> int:
    stage = _prepare(root, console)
    recorded, seconds = await _record(stage, chunks)
    session = SessionId(bytes.fromhex(recorded["session"]))
    short = recorded["session"][:12]
    verdict = stage.ask("verify", recorded["session"])
    bundle, video = root / f"{short}.bundle.tar", root / f"{short}.mp4"
    stage.ask("export", recorded["session"], "--with-chunks", "--out", str(bundle))
    copy, victim = _tamper(stage, bundle, session)
    refused = stage.ask("verify", str(copy), expected=NO)
    stage.ask("play", recorded["session"], "--out", str(video))
    caught = [fault for fault in refused["faults"] if fault["chunk"] == victim]
    if not verdict["valid"] or not caught:
        console.warn("the verifier did not do what it promises: keep .run/ and report this")
        return NO
    rows = (
        ("session", recorded["session"]),
        ("chunks", f"{recorded['chunks']}"),
        ("bytes in, out", f"{size(recorded['bytes_in'])}, {size(recorded['bytes_out'])}"),
        ("Merkle root", recorded["root"]),
        ("time", clock(seconds)),
        ("intact session", f"valid, {size(verdict['bytes'])} checked"),
        ("one bit flipped", f"refused: {caught[0]['chunk']}: {caught[0]['reason']}"),
        ("playable video", str(video)),
    )
    for name, value in rows:
        console.say(f"  {name:<16} {value}")
    program = str(Path(sys.executable).with_name("lucid-node"))
    where = ["--home", str(stage.home.path)]
    closed = ["--passphrase-file", str(root / "passphrase")]
    console.say("Go on with:")
    for words in (
        ["sessions", *where],
        ["verify", str(copy)],
        ["play", short, "--stream", "audit", "--out", "audit.jsonl", *where, *closed],
    ):
        console.say(f"  {shlex.join([program, *words])}")
    console.result({"session": session, "chunks": recorded["chunks"], "root": recorded["root"], "video": str(video)})
    return DONE


def main() -> int:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(prog="./lucid run", description="Record, verify, tamper and play, in .run/.")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--chunks", type=int, default=CHUNKS, metavar="N", help=f"chunks to seal ({CHUNKS})")
    parser.add_argument("--root", type=Path, default=Path(__file__).parent.parent / ".run", help="where (.run)")
    options = parser.parse_args()
    console = Console(as_json=options.json)
    try:
        return trio.run(_show, options.root.absolute(), console, options.chunks)
    except* (Ended, NoDisplay, OSError) as group:
        error = cause(group)
    except* KeyboardInterrupt:
        error = Unavailable("interrupted")
    console.warn(f"lucid: {error}")
    return error.code if isinstance(error, Ended) else Unavailable.code


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
