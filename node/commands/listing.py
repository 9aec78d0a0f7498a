"""sessions: what was recorded here, with what the owner's devices say of it, and what they say of sessions elsewhere.

What was said is sealed on the disk. A running daemon tells it; without one it is read with the vault's passphrase where that
is at hand, and never asked for: who lists sessions needs no keys. Whether a session is on hold stands in the clear.
"""

import argparse
import contextlib
import typing
from collections.abc import Iterator, Mapping

from consensus.ids import Millis
from node.commands.inspection import reading, records_of
from node.config import Home, passphrase_file
from node.console import Console, moment, size
from node.control.client import NoDaemon, ask
from node.exits import DONE, Ended, Unavailable
from node.sessions.placement import standing_kept
from node.sessions.records import HOLDS, Kept, sessions
from node.store.files import ChunkFiles
from node.store.reading import Reader

_UNSAID: typing.Final[Mapping[str, typing.Any]] = {"label": None, "notes": None, "holds": None}


def list_sessions(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node sessions`."""
    home.check()
    if args.chain:
        return _list_chain(args, home, console)
    with _reading(home) as reader:
        said = _said(args, home, reader)
        rows = _rows(home, reader, said)
    if rows:
        console.say(f"{'session':<14}{'started':<25}{'state':<11}{'chunks':>7}{'copies':>7}{'sealed':>12}  chain")
    for row in rows:
        for line in _lines(row):
            console.say(line)
    if not rows:
        console.say("No sessions yet: `lucid-node record` makes one.")
    if said is None:
        console.say("Labels and notes are sealed: --passphrase-file FILE shows them, and so does a running node.")
    console.result({"sessions": rows, "annotations_shown": said is not None})
    return DONE


@contextlib.contextmanager
def _reading(home: Home) -> Iterator[Reader | None]:
    """The records of a home, None where nothing was recorded yet."""
    if not (home.store / "data.mdb").exists():
        yield None
        return
    with reading(home) as reader:
        yield reader


def _said(args: argparse.Namespace, home: Home, reader: Reader | None) -> dict[str, typing.Any] | None:
    """What the owner's devices say, by session; None where it is there and cannot be read."""
    try:
        return {one["session"]: one for one in ask(home.path, "annotations")["sessions"]}
    except NoDaemon:
        pass
    bodies = [] if reader is None else [body for _, body in reader.scan("index")]
    if not bodies:
        return {}
    from node.keys import open_data, vault_bytes
    from node.wallet.vault import needs_passphrase

    data = vault_bytes(home)
    if needs_passphrase(data) and passphrase_file(args.passphrase_file) is None:
        return None
    from node.store.index import read, told

    index = read(open_data(data, args.passphrase_file, str(home.vault)).masters, bodies)
    return {entry.session.hex(): told(entry) for entry in index.entries().values()}


def _rows(home: Home, reader: Reader | None, said: Mapping[str, typing.Any] | None) -> list[dict[str, typing.Any]]:
    """One for each session of this disk, by their opening, then those of which is only spoken."""
    files = ChunkFiles(home.chunks)
    here = [] if reader is None else [_row(reader, records_of(reader, one), files) for one in sessions(reader)]
    held = set() if reader is None else {bytes(key[0]).hex() for key, _ in reader.scan(HOLDS)}  # type: ignore[arg-type]
    known = {row["session"] for row in here}
    rows = here + [_elsewhere(one) for one in (said or {}).values() if one["session"] not in known]
    anchors = _anchors(home)
    for row in rows:
        row["chain"] = anchors.get(row["session"])
        one = None if said is None else said.get(row["session"], {"label": "", "notes": [], "holds": []})
        row.update(_UNSAID if one is None else {name: one[name] for name in _UNSAID})
        row["legal_hold"] = row["session"] in held or bool(row["holds"])
    return rows


def _row(reader: Reader, kept: Kept, files: ChunkFiles) -> dict[str, typing.Any]:
    manifest, opening = kept.manifest, kept.opening
    return {
        **standing_kept(reader, kept, files.has),
        "session": opening.session.hex(),
        "ended": None if manifest is None else manifest.ended,
        "bytes_in": sum(chunk.plain for chunk in kept.chunks),
        "bytes_out": sum(chunk.size for chunk in kept.chunks),
        "root": None if manifest is None else manifest.root.hex(),
        "gaps": 0 if manifest is None else len(manifest.gaps),
        "codec": opening.codec,
    }


def _anchors(home: Home) -> Mapping[str, typing.Any]:
    """How far each session is on the chain, as the running daemon knows; nothing without one."""
    try:
        found: Mapping[str, typing.Any] = ask(home.path, "anchors")["sessions"]
    except (NoDaemon, Ended):  # or one of an earlier release
        return {}
    return found


def _on_chain(chain: Mapping[str, typing.Any] | None) -> str:
    """A session's state on the chain, and its blocks."""
    if chain is None:
        return ""
    blocks = [chain["opened"]["block"], chain["last_head_block"], (chain["closed"] or {}).get("block")]
    return f"{chain['state']} {'–'.join(str(block) for block in blocks if block is not None)}".rstrip()


def _list_chain(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node sessions --chain`: what anybody opened on the network's chain."""
    try:
        answer = ask(home.path, "chain_sessions", {"hours": args.hours})
    except NoDaemon as error:
        raise Unavailable(f"{error}: the chain is asked of a running node") from error
    rows = answer["sessions"]
    if rows:
        console.say(f"{'session':<14}{'owner':<14}{'state':<11}{'opened':<34}{'last seen':<34}closed")
    for row in rows:
        places = [
            "–" if row[f"{what}_block"] is None else f"{row[f'{what}_block']} ({moment(Millis(row[what]))})"
            for what in ("opened", "seen", "closed")
        ]
        console.say(
            f"{row['session'][:12]:<14}{row['owner'][:12]:<14}{row['state']:<11}{places[0]:<34}{places[1]:<34}{places[2]}"
        )
        if row["storage"] is not None:
            console.say(f"  {_stored(row['storage'])}")
    if not rows:
        console.say(f"No session was opened on the chain in the last {args.hours} HOURs.")
    console.result(answer)
    return DONE


def _stored(storage: Mapping[str, typing.Any]) -> str:
    """What the chain has of a session's storage."""
    said = [
        f"{storage['held']} of {storage['chunks']} chunks held by three",
        "shown to a holder" if storage["shown"] else "not shown to anybody yet",
    ]
    if storage["paid_slot"] is not None:
        said.append(f"slot {storage['paid_slot']} pays for it")
    return ", ".join(said)


_COUNTS: typing.Final = ("chunks", "here", "missing", "replicated", "copies", "copies_wanted", "owed")
_ABSENT: typing.Final = ("ended", "bytes_in", "bytes_out", "root", "gaps", "codec", "complete", "filed", *_COUNTS)


def _elsewhere(one: Mapping[str, typing.Any]) -> dict[str, typing.Any]:
    """Of a session whose records are not on this disk."""
    return {**dict.fromkeys(_ABSENT), "session": one["session"], "started": one["started"], "state": "elsewhere"}


def _lines(row: Mapping[str, typing.Any]) -> Iterator[str]:
    """A session as a person reads it: its figures, then what is said of it."""
    started = "" if row["started"] is None else moment(row["started"])
    figures = ""
    if row["chunks"] is not None:
        figures = f"{row['chunks']:>7}{row['copies']:>5}/{row['copies_wanted']}{size(row['bytes_out']):>12}"
    yield f"{row['session'][:12]:<14}{started:<25}{row['state']:<11}{figures:<26}  {_on_chain(row['chain'])}".rstrip()
    if row["missing"]:
        yield f"  {row['missing']} of {row['chunks']} chunks are not on this disk"
    if row["owed"] and row["copies"]:
        yield f"  {row['owed']} replicas wait for holders"
    if row["label"]:
        yield f"  label {row['label']}"
    reasons = [hold["reason"] for hold in row["holds"] or () if hold["reason"]]
    if row["legal_hold"]:
        yield "  ON HOLD" + (f" ({'; '.join(reasons)})" if reasons else "")
    for note in row["notes"] or ():
        yield f"  note  {moment(Millis(note['at']))}  {note['text']}"
