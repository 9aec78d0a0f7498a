"""label, note and hold: what an owner says of a session; the daemon takes it down, or the command where none runs."""

import argparse
import time
from typing import Any

from consensus.ids import Millis
from node.config import Home
from node.console import Console
from node.control.client import NoDaemon, ask
from node.exits import DONE, Unavailable


def label(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node label`."""
    facts = _say(args, home, "label", {"text": args.text})
    words = f"is called {facts['label']}" if facts["label"] else "has no label"
    return _told(console, facts, words)


def note(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node note`."""
    facts = _say(args, home, "note", {"text": args.text})
    return _told(console, facts, f"has {len(facts['notes'])} note{'s' if len(facts['notes']) > 1 else ''}")


def hold(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node hold`, and with --release the end of it."""
    facts = _say(args, home, "release", {}) if args.release else _say(args, home, "hold", {"reason": args.reason})
    return _told(console, facts, "is on hold: nothing deletes it" if facts["legal_hold"] else "is not on hold")


def _told(console: Console, facts: dict[str, Any], words: str) -> int:
    console.say(f"Session {facts['session'][:12]} {words}.")
    console.result(facts)
    return DONE


def _say(args: argparse.Namespace, home: Home, call: str, more: dict[str, str]) -> dict[str, Any]:
    return asked(args, home, call, {"session": args.session, **more})


def asked(args: argparse.Namespace, home: Home, call: str, asked: dict[str, str]) -> dict[str, Any]:
    """What a call about annotations answers, by the daemon or, where none runs, by this process. Raises Ended."""
    home.check()
    try:
        return ask(home.path, call, asked)
    except NoDaemon:
        return _answer_here(args, home, call, asked)


def _answer_here(args: argparse.Namespace, home: Home, call: str, asked: dict[str, str]) -> dict[str, Any]:
    import trio

    from node.control.annotating import Annotating, answered
    from node.keys import unlock
    from node.sessions.annotations import Annotations
    from node.sessions.desk import opened
    from node.store import Busy
    from pipeline.stores import NoRoom

    secrets = unlock(home, args.passphrase_file)

    async def say() -> dict[str, Any]:
        async with opened(home, home.config(), secrets) as desk:
            annotations = Annotations(desk.store, desk.chunks, secrets)
            calls = Annotating(desk.store, annotations, lambda: Millis(time.time_ns() // 1_000_000)).calls
            return await answered(calls[call], asked)

    try:
        return trio.run(say)
    except (Busy, NoRoom, OSError) as error:
        raise Unavailable(str(error)) from error
