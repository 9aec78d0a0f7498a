"""The drill of a devnet: a session recorded on one node, that node's disk lost, the recording played from the others.

    record ─→ replicated ─→ SIGKILL, home removed ─→ keys imported, network joined ─→ daemon ─→ play --from-network ─→ the same?

What is kept of the lost machine is what an owner is told to keep: the exported keys and the network's file (and of a private
Tor network the lines of its torrc). Every step is a command that users type.
"""

import os
import secrets
import shutil
import signal
import time
from pathlib import Path
from typing import Any, Final

import trio

from node.console import Console, size
from node.control.client import NoDaemon, ask
from node.devnet import LOOK_S, Devnet, started
from node.exits import Ended, Unavailable
from node.typed import typed

SAMPLE_BYTES: Final = 30_000_000
"""Random bytes stand for an encoded screen: neither can be compressed."""
CHUNK_BYTES: Final = "4000000:8000000"
PATIENCE_S: Final = 600
KEPT: Final = ("network", "config.toml", "torrc")


async def drill(net: Devnet, folder: Path, console: Console) -> dict[str, Any]:
    """Do all of it on a connected devnet, saying each step; the seconds of each. Raises Unavailable when a step fails."""
    lost, took, began = net.nodes[1], dict[str, float](), time.monotonic()

    def done(step: str, sentence: str) -> None:
        took[step] = round(time.monotonic() - began, 1)
        console.say(f"{took[step]:>7.1f} s  {sentence}")

    home, source, back = lost.home.path, folder / "recorded", folder / "played"
    source.write_bytes(await trio.to_thread.run_sync(os.urandom, SAMPLE_BYTES))
    made = await _typed(home, "record", "--input", str(source), "--chunk-bytes", CHUNK_BYTES)
    done("recorded_s", f"Recorded {size(SAMPLE_BYTES)} on {home.name} as {made['chunks']} sealed chunks.")
    await _until(home, "sessions_replicated")
    done("replicated_s", "Each chunk is with three other nodes.")

    phrase = folder / "phrase"
    phrase.touch(0o600)
    phrase.write_text(secrets.token_hex(16) + "\n")
    keys = ("--passphrase-file", str(phrase))
    await _typed(home, "keys", "export", "--out", str(folder / "keys"), *keys)
    kept = {name: (home / name).read_bytes() for name in KEPT if (home / name).exists()}
    lost.running.signal(signal.SIGKILL)
    await lost.running.wait()
    await trio.to_thread.run_sync(shutil.rmtree, home)
    done("lost_s", f"Killed {home.name} and removed its disk; what is left are its exported keys.")

    await _typed(home, "keys", "import", str(folder / "keys"), *keys)
    for name, data in kept.items():
        (home / name).write_bytes(data)
    async with started(lost.home, *keys):
        await _until(home, "sessions")
        done("found_s", "A new machine with these keys has found the session's records.")
        await _typed(home, "play", made["session"], "--out", str(back), "--from-network", *keys)
        verdict = await _typed(home, "verify", made["session"], "--signer", made["signer"], "--require", "signer")
    same = await trio.to_thread.run_sync(lambda: back.read_bytes() == source.read_bytes())
    if not same or verdict["root"] != made["root"]:
        raise Unavailable("what was played is not what was recorded: keep the folder and report this")
    done("played_s", "Played from the others: verified, and the same to the last byte.")
    return {"session": made["session"], "root": made["root"], "same": same, **took}


async def _typed(home: Path, *words: str) -> dict[str, Any]:
    """What a command of a home answers; raises Unavailable when it is not done."""
    return await trio.to_thread.run_sync(typed, home, words)


async def _until(home: Path, figure: str) -> None:
    """Wait until a daemon's status counts one there; raises Unavailable when that takes too long."""
    with trio.move_on_after(PATIENCE_S):
        while True:
            try:
                if (await trio.to_thread.run_sync(ask, home, "status"))[figure]:
                    return
            except (NoDaemon, Ended):
                pass
            await trio.sleep(LOOK_S)
    raise Unavailable(f"after {PATIENCE_S} s the status of {home.name} still has no {figure}: see {home / 'log'}")
