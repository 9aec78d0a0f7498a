"""What is asked of a running daemon, over its socket: these commands load nothing of the network."""

import argparse
from typing import Any

from consensus.ids import SessionId
from node.config import Home
from node.console import Console
from node.control.client import NoDaemon, ask
from node.control.metrics import exposition
from node.exits import DONE, Unavailable
from node.naming import begun_by


def asked(home: Home, call: str, args: dict[str, Any]) -> dict[str, Any]:
    """The daemon's answer; raises Unavailable when none runs, and what the call ended with."""
    home.check()
    try:
        return ask(home.path, call, args)
    except NoDaemon as error:
        raise Unavailable(str(error)) from error


def metrics(_args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node metrics`: the figures of `status` as Prometheus reads them."""
    facts = asked(home, "status", {})
    text = exposition(facts)
    console.say(text.rstrip("\n"))
    console.result({"metrics": text})
    return DONE


def bring(wanted: str, home: Home, console: Console) -> int:
    """Have a session's records and chunks on this disk, from their holders if need be; how many chunks came."""
    asked(home, "restore", {})
    return _fetch(_known(wanted, home), home, console)


def _known(wanted: str, home: Home) -> SessionId:
    """The session of this home that is meant; raises Usage, Unavailable."""
    absent = f"neither this home nor its owner's index has a session that begins with {wanted}"
    return begun_by(wanted, _sessions(home), absent)


def _sessions(home: Home) -> list[SessionId]:
    return [SessionId(bytes.fromhex(row["session"])) for row in asked(home, "sessions", {})["sessions"]]


def _fetch(session: SessionId, home: Home, console: Console) -> int:
    chunks: int = asked(home, "restore", {"session": session.hex()})["chunks"]
    if chunks:
        console.say(f"Fetched {chunks} chunks from their holders.")
    return chunks


def restore(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node restore`: what the network holds of this owner's sessions, back onto this disk."""
    found = asked(home, "restore", {})
    console.say(f"Brought back the records of {found['sessions']} sessions, {found['missing']} are not to be had yet.")
    wanted = [_known(args.session, home)] if args.session else _sessions(home) if args.all else []
    chunks = sum(_fetch(session, home, console) for session in wanted)
    console.result({"sessions": found["sessions"], "missing": found["missing"], "chunks": chunks})
    return DONE
