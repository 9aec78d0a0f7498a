"""devnet: N real daemons on this machine, with a live view, until Ctrl-C; or a drill in which one of them loses its disk."""

import argparse
import signal
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from consensus.placement import REPLICAS
from node.config import Home
from node.console import Console
from node.devnet import LOOK_S, Devnet, devnet
from node.exits import DONE, Ended, Unavailable, Usage
from node.lossdrill import drill
from node.network import Carrier
from pipeline.session import cause


def run(args: argparse.Namespace, _home: Home, console: Console) -> int:
    """`lucid-node devnet`."""
    with ExitStack() as until:
        if args.dir is None:
            folder = Path(until.enter_context(TemporaryDirectory(prefix="devnet-")))
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
    if args.drill and args.nodes <= REPLICAS:
        raise Usage(f"a drill needs {REPLICAS + 1} nodes at least: {REPLICAS} hold what the one records that is lost")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop, nursery.cancel_scope)
        console.say(f"Starting {args.nodes} nodes over {args.transport} in {folder} …")
        async with devnet(folder, args.nodes, Carrier[args.transport.upper()]) as net:
            await _watch(net, console, once=args.once or args.drill)
            if args.drill:
                with TemporaryDirectory(prefix="drill-") as place:
                    told = await drill(net, Path(place), console)
                console.result({**net.facts(), **told})
            elif args.once:
                console.result(net.facts())
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
            if once or not console.is_live:
                console.say(f"All {len(net.nodes)} nodes are connected after {net.connected_s:.1f} s.")
            if once:
                return
            if not console.is_live:
                _advise(net, console)
            console.result(net.facts())
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
