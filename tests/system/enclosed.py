"""A program in a network namespace of its own, which shares the ports of its choice with the one outside, and nothing else.

    inside:  lo, with a listener on each shared ADDRESS:PORT ── its socket, handed out ──→ outside: accept, dial ADDRESS:PORT there

With no port to share not even lo is up, and whatever is no unix socket fails. A listener belongs to the namespace that it was
made in, whoever accepts from it: so nothing has to be routed, and nobody needs more than a namespace (`unshare --net`; with
`--map-root-user` where we are not root). `python -P enclosed.py FD ADDRESS:PORT… -- PROGRAM` is the inside.
"""

import errno
import fcntl
import os
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio

from pipeline.child import Child, child

UNSHARE: Final = ("unshare", *(() if os.geteuid() == 0 else ("--map-root-user",)), "--net", "--")
OFF_THIS_MACHINE: Final = ("192.0.2.1", 9)
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1
_SHARED_MAX: Final = 100


@asynccontextmanager
async def enclosed(command: Sequence[str], shared: Sequence[tuple[str, int]], stderr: int) -> AsyncIterator[Child]:
    """The command in a namespace that reaches those ports of ours, for as long as the block runs."""
    ours, theirs = socket.socketpair()
    ports = [f"{host}:{port}" for host, port in shared]
    inside = [
        "setpriv",
        "--pdeathsig",
        "TERM",
        "--",
        sys.executable,
        "-P",
        __file__,
        str(theirs.fileno()),
        *ports,
        "--",
    ]
    whole = [*UNSHARE, *inside, *command]
    with ours:
        async with child(whole, stderr=stderr, pass_fds=[theirs.fileno()], ending=signal.SIGTERM) as running:
            theirs.close()
            _, fds, _, _ = await trio.to_thread.run_sync(socket.recv_fds, ours, 1, _SHARED_MAX)
            assert len(fds) == len(shared), "the namespace was refused: see the log"
            async with trio.open_nursery() as nursery:
                for fd, place in zip(fds, shared, strict=True):
                    listener = trio.SocketListener(trio.socket.from_stdlib_socket(socket.socket(fileno=fd)))
                    nursery.start_soon(trio.serve_listeners, partial(_hand_over, place), [listener])
                yield running
                nursery.cancel_scope.cancel()


async def _hand_over(place: tuple[str, int], inner: trio.SocketStream) -> None:
    with suppress(OSError, trio.BrokenResourceError):
        async with inner, await trio.open_tcp_stream(*place) as outer, trio.open_nursery() as nursery:
            nursery.start_soon(_copy, inner, outer, nursery.cancel_scope)
            await _copy(outer, inner, nursery.cancel_scope)


async def _copy(source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
    """Until either end has closed, which ends the other direction too, as tor's connections do."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            await sink.send_all(data)
    both.cancel()


def main(words: Sequence[str]) -> None:
    """The inside: make the listeners, hand them out, prove that nothing else is reached, and become the program."""
    cut = words.index("--")
    assert [name for _, name in socket.if_nameindex()] == ["lo"], "this is no network namespace of its own"
    shared = [(host, int(port)) for host, _, port in (word.rpartition(":") for word in words[1:cut])]
    if shared:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
    for place in (OFF_THIS_MACHINE, *(() if shared else (("127.0.0.1", 9),))):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            assert probe.connect_ex(place) == errno.ENETUNREACH, f"{place} is within reach"
    listeners = [socket.create_server(place) for place in shared]
    with socket.socket(fileno=int(words[0])) as out:
        socket.send_fds(out, [b"."], [listener.fileno() for listener in listeners])
    os.execvp(words[cut + 1], list(words[cut + 1 :]))


def relays_of(folder: Path) -> list[tuple[str, int]]:
    """Where the relays of the private Tor network in a folder are reached."""
    lines = [line.split() for torrc in folder.glob("*/torrc") for line in torrc.read_text().splitlines()]
    places = [words[1].rpartition(":") for words in lines if words[:1] in (["ORPort"], ["DirPort"])]
    return [(host, int(port)) for host, _, port in places]


if __name__ == "__main__":
    main(sys.argv[1:])
