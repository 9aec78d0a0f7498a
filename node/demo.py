"""`./lucid run`: the main job on real input, on a network of its own under .run/, shown with every step that a user would take.

Five nodes meet over a private Tor network and run their chain. On one of them a desktop (a virtual one with a moving
picture, or with LUCID_RECORD=screen the real one) is recorded until three chunks are sealed. Once its anchors are final, a
bundle is exported and verified offline, with nothing but the network's file; a copy is tampered with, and caught; the
recording is played. Everything runs through the same command line that users type.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from consensus.ids import SessionId
from node.config import Home, demo_source, display
from node.console import Console, clock, size
from node.control.client import NoDaemon, ask
from node.devnet import LOOK_S, Devnet, devnet
from node.exits import DONE, NO, Ended, Unavailable, Usage
from node.network import Carrier
from node.sessions.records import load
from node.store.reading import read_only
from node.typed import command, typed
from pipeline.archive import chunk_name, entries
from pipeline.child import child
from pipeline.desktop import NoDisplay, virtual_display
from pipeline.manifest import Chunk
from pipeline.session import cause
from pipeline.stream import Stream

CHUNKS: Final = 3
NODES: Final = 5
SCREEN: Final = (1280, 720)
CHUNK_BYTES: Final = "5000000:8000000"
"""Smaller than usual, so that a first look takes two minutes."""
PATIENCE_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Demonstration:
    """The place of the demonstration, the home that records, and how it types commands."""

    root: Path
    home: Home
    console: Console

    async def ask(self, *words: str, expected: int = DONE, home: Path | None = None) -> dict[str, Any]:
        """What a command answers; raises Unavailable when it ends otherwise than expected."""
        return await trio.to_thread.run_sync(typed, home or self.home.path, words, (), expected)


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


def _progress(stage: Demonstration) -> list[Chunk]:
    """The chunks so far of the session that is being recorded."""
    if not (stage.home.store / "data.mdb").exists():
        return []
    with read_only(stage.home.store) as reader:
        for key, _ in reader.scan("sessions"):
            if (kept := load(reader, SessionId(bytes(key[0])))) is not None:  # type: ignore[arg-type]
                return list(kept.chunks)
    return []


async def _record(stage: Demonstration, chunks: int) -> tuple[dict[str, Any], float]:
    began = time.monotonic()
    async with _desktop() as (name, what):
        stage.console.say(f"Recording {what} until {chunks} chunks are sealed; less than a minute …")
        progress = stage.console.progress("recorded")
        words = ("record", "--display", name, "--chunk-bytes", CHUNK_BYTES)
        with open(stage.root / "record.log", "wb") as log:
            recorder = subprocess.Popen(  # noqa: ASYNC220 - forked by this thread, which outlives it
                command(stage.home.path, words), stdout=subprocess.PIPE, stderr=log
            )
            try:
                while recorder.poll() is None and time.monotonic() - began < PATIENCE_S:
                    video = [chunk for chunk in _progress(stage) if chunk.stream is Stream.VIDEO]
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


async def _connected(net: Devnet, console: Console) -> None:
    while net.connected_s is None:
        await net.look()
        await trio.sleep(LOOK_S)
    console.say(f"All {len(net.nodes)} nodes are connected after {net.connected_s:.0f} s.")


async def _coins(stage: Demonstration) -> None:
    """Wait until the chain has granted the node that records the coins that its anchors cost."""
    with trio.move_on_after(PATIENCE_S):
        while True:
            with suppress(NoDaemon, Ended):
                told = await trio.to_thread.run_sync(ask, stage.home.path, "anchors")
                if int(told["wei"] or 0):
                    return
            await trio.sleep(LOOK_S)
    raise Unavailable(f"after {PATIENCE_S:.0f} s the node in {stage.home.path} is not registered: see its log")


async def _bundled(stage: Demonstration, session: str, bundle: Path) -> None:
    """Export the session once its anchors are final."""
    stage.console.say("Waiting for its anchors to become final …")
    with trio.move_on_after(PATIENCE_S):
        while True:
            told = (await trio.to_thread.run_sync(ask, stage.home.path, "anchors"))["sessions"].get(session)
            is_final = told is not None and told["state"] == "final"
            if is_final and (await stage.ask("verify", session))["anchored"] == "final":
                await stage.ask("export", session, "--with-chunks", "--anchored", "--out", str(bundle))
                return
            await trio.sleep(LOOK_S)
    raise Unavailable(f"after {PATIENCE_S:.0f} s the session's anchors are not final: see {stage.home.path / 'log'}")


async def _show(root: Path, console: Console, options: argparse.Namespace) -> int:
    folder = root / "net"
    if folder.exists():
        await trio.to_thread.run_sync(shutil.rmtree, folder)
    root.mkdir(parents=True, exist_ok=True)
    console.say(f"Starting {NODES} nodes over {options.transport} in {folder} …")
    async with devnet(folder, NODES, Carrier[options.transport.upper()]) as net:
        await _connected(net, console)
        stage = Demonstration(root, net.nodes[1].home, console)
        await _coins(stage)
        code = await _told(stage, options.chunks)
        if options.keep and code == DONE:
            console.say("The network goes on; Ctrl-C stops it.")
            await trio.sleep_forever()
    return code


async def _told(stage: Demonstration, chunks: int) -> int:
    root, console = stage.root, stage.console
    recorded, seconds = await _record(stage, chunks)
    session = SessionId(bytes.fromhex(recorded["session"]))
    short = recorded["session"][:12]
    bundle, video, network = root / f"{short}.bundle.tar", root / f"{short}.mp4", root / f"{short}.network"
    await _bundled(stage, recorded["session"], bundle)
    shutil.copyfile(stage.home.network, network)
    offline = ("--network", str(network), "--require", "final")
    verdict = await stage.ask("verify", str(bundle), *offline, home=root / "auditor")
    copy, victim = await trio.to_thread.run_sync(_tamper, stage, bundle, session)
    refused = await stage.ask("verify", str(copy), *offline, home=root / "auditor", expected=NO)
    await stage.ask("play", recorded["session"], "--out", str(video))
    caught = [fault for fault in refused["faults"] if fault["chunk"] == victim]
    if not verdict["valid"] or verdict["anchored"] != "final" or not caught:
        console.warn("the verifier did not do what it promises: keep .run/ and report this")
        return NO
    opened, closed = verdict["opened"], verdict["closed"]
    rows = (
        ("session", recorded["session"]),
        ("chunks", f"{recorded['chunks']}"),
        ("bytes in, out", f"{size(recorded['bytes_in'])}, {size(recorded['bytes_out'])}"),
        ("Merkle root", recorded["root"]),
        ("time", clock(seconds)),
        ("opened", f"slot {opened['slot']}, block {opened['block'][:12]}"),
        ("heads anchored", f"{len(verdict['heads_anchored'])}; longest stretch {verdict['longest_stretch_s']} s"),
        ("closed", f"slot {closed['slot']}, block {closed['block'][:12]}"),
        ("verified offline", f"{size(verdict['bytes'])} checked, final; trust in the {verdict['trust']}"),
        ("one bit flipped", f"refused: {caught[0]['chunk']}: {caught[0]['reason']}"),
        ("playable video", str(video)),
    )
    for name, value in rows:
        console.say(f"  {name:<16} {value}")
    program = str(Path(sys.executable).with_name("lucid-node"))
    where = ["--home", str(stage.home.path)]
    console.say("Go on with:")
    for words in (
        ["verify", str(bundle), *offline[:2]],
        ["verify", str(copy), *offline[:2]],
        ["sessions", *where],
        ["play", short, "--stream", "audit", "--out", "audit.jsonl", *where],
    ):
        console.say(f"  {shlex.join([program, *words])}")
    told = {"session": session, "chunks": recorded["chunks"], "root": recorded["root"], "video": str(video)}
    console.result({**told, "bundle": str(bundle), "network": str(network), "anchored": verdict["anchored"]})
    return DONE


async def _interruptible(root: Path, console: Console, options: argparse.Namespace) -> int:
    """SIGTERM ends it as Ctrl-C does, and with it the network."""
    code = Unavailable.code
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

        nursery.start_soon(stop)
        code = await _show(root, console, options)
        nursery.cancel_scope.cancel()
    return code


def main() -> int:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(
        prog="./lucid run", description="Five nodes, a recording, its anchors, offline verification, in .run/."
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--chunks", type=int, default=CHUNKS, metavar="N", help=f"chunks to seal ({CHUNKS})")
    parser.add_argument("--keep", action="store_true", help="leave the network running until Ctrl-C")
    parser.add_argument(
        "--transport", choices=("tor", "loopback"), default="tor", help="what carries the nodes' bytes (tor)"
    )
    parser.add_argument("--root", type=Path, default=Path(__file__).parent.parent / ".run", help="where (.run)")
    options = parser.parse_args()
    console = Console(as_json=options.json)
    try:
        return trio.run(_interruptible, options.root.absolute(), console, options)
    except* (Ended, NoDisplay, OSError) as group:
        error = cause(group)
    except* KeyboardInterrupt:
        error = Unavailable("interrupted")
    console.warn(f"lucid: {error}")
    return error.code if isinstance(error, Ended) else Unavailable.code


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
