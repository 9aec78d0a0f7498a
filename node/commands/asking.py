"""status and restore: what is asked of a running daemon, over its socket; these commands load nothing of the network."""

import argparse
from typing import Any

from node.config import Home
from node.console import Console, size
from node.control.client import NoDaemon, ask
from node.exits import DONE, Unavailable


def _asked(home: Home, call: str, args: dict[str, Any]) -> dict[str, Any]:
    home.check()
    try:
        return ask(home.path, call, args)
    except NoDaemon as error:
        raise Unavailable(str(error)) from error


def status(_args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node status`: one screen."""
    facts = _asked(home, "status", {})
    say = console.say
    say(f"node       {facts['node']}")
    say(f"network    {facts['network']} ({facts['mode']}), HOUR {facts['hour']}")
    if (tor := facts["tor"]) is not None:
        reason = f": {tor['reason']}" if tor["reason"] else ""
        say(f"tor        {tor['state']}, version {tor['version'] or 'unknown'}{reason}")
    for address in facts["addresses"]:
        say(f"address    {address}")
    say(f"peers      {len(facts['peers'])} connected, {facts['mesh']} in the mesh, {facts['contacts']} in the table")
    say(f"directory  {facts['directory']} nodes, {facts['holders']} of them hold replicas")
    say(f"traffic    {size(facts['bytes_in'])} in, {size(facts['bytes_out'])} out, of the connections that are up")
    room = f" of {size(facts['replica_bytes_most'])}" if facts["replica_bytes_most"] else ""
    say(f"holding    {facts['replicas_held']} replicas for others, {size(facts['replica_bytes'])}{room}")
    missing = f", {facts['sessions_missing']} not brought back yet" if facts["sessions_missing"] else ""
    say(f"sessions   {facts['sessions']}, {facts['sessions_replicated']} of them replicated{missing}")
    if facts["chunks_owed"]:
        say(f"owed       {facts['chunks_owed']} chunks wait for holders")
    console.result(facts)
    return DONE


def restore(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node restore`: what the network holds of this owner's sessions, back onto this disk."""
    found = _asked(home, "restore", {})
    console.say(f"Brought back the records of {found['sessions']} sessions, {found['missing']} are not to be had yet.")
    chunks = 0
    if args.all or args.session:
        rows = _asked(home, "sessions", {})["sessions"]
        wanted = [row["session"] for row in rows if row["session"].startswith(args.session or "")]
        if args.session and len(wanted) != 1:
            raise Unavailable(f"{len(wanted)} sessions begin with {args.session}: give more digits")
        for session in wanted:
            chunks += _asked(home, "restore", {"session": session})["chunks"]
        console.say(f"Fetched {chunks} chunks from their holders.")
    console.result({"sessions": found["sessions"], "missing": found["missing"], "chunks": chunks})
    return DONE
