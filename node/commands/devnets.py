"""devnet: N real daemons on this machine, with a live view, until Ctrl-C."""

import argparse
import signal
import tempfile
from contextlib import ExitStack
from pathlib import Path

import trio

from node.config import Home
from node.console import Console
from node.devnet import LOOK_S, Devnet, devnet
from node.exits import DONE, Ended, Unavailable
from node.network import Carrier
from pipeline.session import cause


def run(args: argparse.Namespace, _home: Home, console: Console) -> int:
    """`lucid-node devnet`."""
    with ExitStack() as until:
        if args.dir is None:
            folder = Path(until.enter_context(tempfile.TemporaryDirectory(prefix="devnet-")))
        else:
            folder = Path(args.dir).absolute()
        try:
            return trio.run(_run, args, folder, console)
        except* (Ended, OSError) as group:
            failure = cause(group)
    if isinstance(failure, Ended):
        raise failure
    raise Unavailable(str(failure)) from failure


async def _run(args: argparse.Namespace, folder: Path, console: Console) -> int:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop, nursery.cancel_scope)
        console.say(f"Starting {args.nodes} nodes over {args.transport} in {folder} …")
        async with devnet(folder, args.nodes, Carrier[args.transport.upper()]) as net:
            await _watch(net, console, once=args.once)
        nursery.cancel_scope.cancel()
    console.say("All nodes are stopped.")
    return DONE


async def _watch(net: Devnet, console: Console, *, once: bool) -> None:
    drawn, told = 0, False
    while True:
        await net.look()
        if console.is_live:
            drawn = console.redraw(net.screen(), drawn)
        if net.connected_s is not None and not told:
            told = True
            if not console.is_live:
                console.say(f"All {len(net.nodes)} nodes are connected after {net.connected_s:.1f} s.")
                _advise(net, console)
            console.result(net.facts())
            if once:
                return
        await trio.sleep(LOOK_S)


def _advise(net: Devnet, console: Console) -> None:
    home = net.nodes[1].home.path
    console.say("Try:")
    console.say(f"  lucid-node record --home {home} --input FILE")
    console.say(f"  lucid-node status --home {home}")
    console.say("Ctrl-C stops them all.")


async def _stop(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()
            return
