"""status: how the node does, on one screen; of a node that does not run, what its disk says."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from node.commands.inspection import reading, records_of
from node.config import Home
from node.console import Console, moment, size
from node.control.client import NoDaemon, ask
from node.exits import DONE, UNAVAILABLE
from node.membership import joined
from node.sessions.placement import newest, owed, standing_kept
from node.sessions.records import sessions
from node.store.files import ChunkFiles
from node.store.replicas import ReplicaFiles


def status(_args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node status`: exit 3 when no daemon runs."""
    home.check()
    try:
        facts = {"running": True, **ask(home.path, "status", {})}
        lines, code = _awake(facts), DONE
    except NoDaemon as error:
        facts = {"running": False, "reason": str(error), **_on_disk(home)}
        lines, code = _asleep(facts), UNAVAILABLE
    for line in lines:
        console.say(line)
    console.result(facts)
    return code


def _awake(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"node       {facts['node']}"
    yield f"network    {facts['network']} ({facts['mode']}), HOUR {facts['hour']}"
    if (tor := facts["tor"]) is not None:
        reason = f": {tor['reason']}" if tor["reason"] else ""
        yield f"tor        {tor['state']}, version {tor['version'] or 'unknown'}{reason}"
    for address in facts["addresses"]:
        yield f"address    {address}"
    if (rpc := facts.get("rpc")) is not None:
        yield f"rpc        {rpc['address']}{' and ' + rpc['onion'] + ':8545' if rpc['onion'] else ''}"
    yield f"peers      {len(facts['peers'])} connected, {facts['mesh']} in the mesh, {facts['contacts']} in the table"
    yield f"directory  {facts['directory']} nodes, {facts['holders']} of them hold replicas"
    if (chain := facts["chain"]) is not None:
        yield from _chain(chain)
    if (account := facts.get("account")) is not None:
        yield (
            f"account    0x{account['address']}: {int(account['lucid']) / 10**18:,.2f} LUCID, coins for gas "
            f"{int(account['wei']) / 10**18:.6f}; {facts['transactions_waiting']} transactions wait"
        )
    yield f"traffic    {size(facts['bytes_in'])} in, {size(facts['bytes_out'])} out, of the connections that are up"
    queues, offsets = facts["queues"], facts["offsets"]
    yield (
        f"queues     gossip {queues['gossip_ours']} + {queues['gossip_others']} relayed, disk {queues['disk']}, "
        f"replicas {queues['sought']} sought + {queues['waiting']} waiting, {queues['arriving']} in, {queues['leaving']} out"
    )
    each = [f"{name} of {log['authors']} nodes, {log['entries']} entries ours" for name, log in offsets.items()]
    yield f"logs       {'; '.join(each)}"
    yield from _holding(facts)
    yield from _sessions(facts)


def _chain(chain: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"chain      slot {chain['slot']}, head {chain['head'][:8]} of slot {chain['head_slot']}, height {chain['height']}; "
        f"justified HOUR {chain['justified_hour']}, final HOUR {chain['final_hour']}"
    )
    yield f"           ERA {chain['era']}: {chain['registered']} registered, {chain['voters']} vote"
    yield f"leader     {chain['leader'][:8]} of slot {chain['next_slot']}: {chain['why']}"
    if chain["hours_behind"]:
        yield f"           {chain['hours_behind']:,} HOURs without a block are still to be followed: until then nothing is judged or signed"
    yield f"clock      {_clock(chain)}"
    if chain["doubled"]:
        yield "double     another program signs with this node's key: this one signs nothing; stop one and start the other anew"


def _clock(chain: Mapping[str, Any]) -> str:
    offset, samples = chain["clock_offset_ms"], chain["clock_samples"]
    if offset is None:
        known = "of no three peers, nor of the Server, is the time known"
    else:
        known = f"{-offset:+,} ms to the median of {samples} peers" if samples > 1 else f"{-offset:+,} ms to the Server"
    return known if chain["on_time"] else f"{known}: this node neither proposes nor votes until it is within 5 s"


def _asleep(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"node       does not run: {facts['reason']}"
    yield f"network    {facts['network'] or 'none joined yet: `lucid-node init --network FILE` does it'}"
    yield from _holding(facts)
    yield from _sessions(facts)


def _holding(facts: Mapping[str, Any]) -> Iterator[str]:
    room = f" of {size(facts['replica_bytes_most'])}" if facts["replica_bytes_most"] else ""
    yield f"holding    {facts['replicas_held']} replicas for others, {size(facts['replica_bytes'])}{room}"


def _sessions(facts: Mapping[str, Any]) -> Iterator[str]:
    missing = f", {facts['sessions_missing']} not brought back yet" if facts["sessions_missing"] else ""
    yield f"sessions   {facts['sessions']}, {facts['sessions_replicated']} of them replicated{missing}"
    if facts["replicas_owed"]:
        yield f"owed       {facts['replicas_owed']} replicas of {facts['chunks_owed']} chunks wait for holders"
    for row in facts["newest"]:
        yield f"  {row['session'][:12]}  {moment(row['started'])}  {row['state']:<10}  {safety(row)}"


def safety(row: Mapping[str, Any]) -> str:
    """How safe a session is, in a few words."""
    gone = f", {row['missing']} not here" if row["missing"] else ""
    if not row["chunks"]:
        return "no chunks"
    return f"{row['copies']} of {row['copies_wanted']} copies, {row['chunks']} chunks{gone}"


def _on_disk(home: Home) -> dict[str, Any]:
    """The figures that need no daemon."""
    terms = joined(home)
    held = ReplicaFiles(home.path / "replicas")
    sizes = [held.size(name) for name in held.names() if held.has(name)]
    rows = _rows(home)
    return {
        "network": None if terms is None else terms.genesis.name,
        "network_id": None if terms is None else terms.network,
        "replicas_held": len(sizes),
        "replica_bytes": sum(sizes),
        "replica_bytes_most": home.config().replicas_gb * 10**9,
        "sessions": len(rows),
        "sessions_replicated": sum(row["state"] == "replicated" for row in rows),
        "sessions_missing": 0,
        **owed(rows),
        "newest": [{**row, "session": row["session"].hex()} for row in newest(rows)],
    }


def _rows(home: Home) -> Sequence[dict[str, Any]]:
    if not (home.store / "data.mdb").exists():
        return ()
    files = ChunkFiles(home.chunks)
    with reading(home) as reader:
        return [standing_kept(reader, records_of(reader, session), files.has) for session in sessions(reader)]
