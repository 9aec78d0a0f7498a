"""run: the daemon of a home, until it is stopped."""

import argparse
import os
import random
import signal
from typing import Any

import trio

from consensus.ids import NodeId
from node.appliance.notify import beat, tell
from node.carrier import carrier
from node.config import Home
from node.console import Console
from node.daemon import Daemon, build
from node.exits import DONE, Ended, Unavailable, Usage
from node.keys import unlock
from node.libp2p.swarm import Libp2pSwarm
from node.log import EventLog
from node.membership import joined
from node.net.addresses import AddressBook
from node.net.leaks import forbid_leaks
from node.net.multiaddrs import binary, written_out
from node.sessions.desk import opened
from node.store import Busy
from pipeline.session import cause
from pipeline.stores import NoRoom

GRACE_S = 4
"""A stop takes 5 s at the most (DESIGN §12): what has not ended by then is left to the next start."""


def run(args: argparse.Namespace, home: Home, console: Console) -> int:
    """`lucid-node run`: until SIGTERM or SIGINT."""
    try:
        return trio.run(_run, args, home, console)
    except* (Busy, NoRoom, Ended, OSError) as group:
        failure = cause(group)
    if isinstance(failure, Ended):
        raise failure
    if isinstance(failure, Busy):
        raise Unavailable(f"{failure}: a home has one daemon") from failure
    raise Unavailable(str(failure)) from failure


async def _run(args: argparse.Namespace, home: Home, console: Console) -> int:
    home.check()
    forbid_leaks()
    config, terms = home.config(), joined(home)
    if config.rpc_reader and (not config.rpc or config.tor_mode == "external"):
        raise Usage(
            "network.rpc_reader has the JSON-RPC published as an onion: that takes network.rpc as well, and a tor whose "
            'control port the daemon may touch, which tor.mode "external" is not'
        )
    if terms is None:
        raise Usage(
            f"{home.path} has joined no network: `lucid-node network join FILE`, with a file that its author gave"
        )
    secrets = await trio.to_thread.run_sync(unlock, home, args.passphrase_file)
    log = EventLog(args.log_level, as_json=args.log_json)
    async with opened(home, config, secrets) as desk, carrier(home, config, terms, log) as carried:
        me = NodeId(secrets.identity.public)
        book = AddressBook(me, {one.node: [binary(text) for text in one.addresses] for one in terms.bootstrap})
        swarm = Libp2pSwarm(secrets.identity, carried.transport, book.locate, random.Random(os.urandom(16)))  # noqa: S311
        daemon = await build(desk, terms, swarm, book, carried.tor, log)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stop, nursery.cancel_scope, scope, log)
                _say(daemon, await nursery.start(daemon.run), console)
                tell("READY=1")
                nursery.start_soon(beat)
    log.info("node.stopped")
    return DONE


def _say(daemon: Daemon, addresses: tuple[bytes, ...], console: Console) -> None:
    where = [written_out(address) for address in addresses]
    console.say(f"Node {daemon.me.hex()} of {daemon.terms.genesis.name} runs at {', '.join(where)}. Ctrl-C stops it.")
    facts: dict[str, Any] = {"node": daemon.me, "network": daemon.terms.genesis.name, "addresses": where}
    console.result(facts)


async def _stop(work: trio.CancelScope, everything: trio.CancelScope, log: EventLog) -> None:
    """End the work at the first signal; what does not end in time is left as it is, and so at the second signal."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            if work.cancel_called:
                os._exit(1)
            log.info("node.stopping")
            tell("STOPPING=1")
            work.cancel()
            everything.deadline = trio.current_time() + GRACE_S
            return
