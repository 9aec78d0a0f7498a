"""What is asked of a running daemon, over its socket: these commands load nothing of the network."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from consensus.ids import SessionId
from node.config import Home
from node.console import Console
from node.control.client import NoDaemon, ask
from node.control.metrics import exposition
from node.exits import DONE, NO, Unavailable
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


def explain(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node explain`: exit 1 when the node is not registered."""
    facts = asked(home, "explain", {} if args.node is None else {"node": args.node})
    for line in _explained(facts):
        console.say(line)
    console.result(facts)
    return DONE if facts["registered"] else NO


def _explained(facts: Mapping[str, Any]) -> Iterator[str]:
    since = f"since HOUR {facts['since_hour']}" if facts["registered"] else "not in this ERA"
    following = "yes" if facts["registered_next"] else "not yet"
    yield f"node        {facts['node']}"
    if facts["entity"] != facts["node"]:
        yield f"pool        {facts['entity']}"
    yield f"registered  {since}; for the next ERA: {following}"
    if facts["expelled_hour"] is not None:
        yield f"expelled    in HOUR {facts['expelled_hour']}: it signed two things that contradict each other"
    voter = f"{facts['votes_per_mille']} ‰ of the votes due in the last 24 HOURs" if facts["voter"] else "no voter"
    yield f"votes       {voter}"
    yield f"work        {facts['work_mb']} MB in {facts['window_hours']} HOURs, at most {facts['cap_mb']} an HOUR; {facts['floors']} HOURs without"
    yield f"usual       {facts['usual_mb']} MB an HOUR: half as much again counts at the most"
    yield f"liveScore   {facts['live_ppm'] / 10_000:g} %, {facts['led']} slots led, {len(facts['misses'])} missed{_listed(facts['misses'])}"
    share = 100 * facts["weight"] / facts["weight_of_all"] if facts["weight_of_all"] else 0
    yield f"weight      {share:.2f} % of the draw, two HOURs from now"
    for row in facts["hours"]:
        yield f"  HOUR {row['hour']:<8} {row['work']:>12} MB of {row['witnessed']} seen, uptime {row['uptime']} ‰"
    for row in facts["not_settled"]:
        yield f"  HOUR {row['hour']:<8} {row['storage']:>12} MB stored, {row['relay']} relayed, uptime {row['uptime']} ‰: not settled yet"
    if not facts["hours"] and not facts["not_settled"]:
        yield "  no report of this node was included: no evidence, no credit"


def _listed(hours: Sequence[int]) -> str:
    return f" (HOURs {', '.join(map(str, hours[-8:]))})" if hours else ""


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
