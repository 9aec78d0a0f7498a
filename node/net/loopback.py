"""The transport of tests and devnets: TCP on 127.0.0.1, and no other address, ever.

Addresses are multiaddrs, /ip4/127.0.0.1/tcp/‹port›, 8 bytes. Source: multiformats/multiaddr, protocols.csv.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from node.net.swarm import Unreachable

HOST: Final = "127.0.0.1"
_HEAD: Final = bytes((4, 127, 0, 0, 1, 6))
DIAL_S: Final = 10.0


def address(port: int) -> bytes:
    """The multiaddr of a port of this machine."""
    return _HEAD + port.to_bytes(2, "big")


class Loopback:
    """A Transport (node.net.swarm). `port` 0 lets the system choose."""

    def __init__(self, port: int = 0) -> None:
        self._port = port

    def handles(self, address: bytes) -> bool:
        """Whether it is a port of 127.0.0.1."""
        return len(address) == len(_HEAD) + 2 and address.startswith(_HEAD) and any(address[-2:])

    async def dial(self, address: bytes, isolation: bytes) -> trio.abc.Stream:
        """A connection to a port of this machine; raises Unreachable. All connections are isolated here."""
        del isolation
        if not self.handles(address):
            raise Unreachable("not an address on 127.0.0.1")
        socket = trio.socket.socket()
        try:
            with trio.fail_after(DIAL_S):
                await socket.connect((HOST, int.from_bytes(address[-2:], "big")))
        except (OSError, trio.TooSlowError) as error:
            socket.close()
            raise Unreachable(f"nobody answers there: {error}") from error
        except BaseException:
            socket.close()
            raise
        return trio.SocketStream(socket)

    async def listen(
        self,
        accept: Callable[[trio.abc.Stream], Awaitable[None]],
        *,
        task_status: "trio.TaskStatus[tuple[bytes, ...]]",
    ) -> None:
        """Serve until cancelled, each stream in a task of its own; starts with the address."""
        socket = trio.socket.socket()
        socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)  # a restart finds its port in TIME_WAIT
        await socket.bind((HOST, self._port))
        socket.listen(128)
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, accept, [trio.SocketListener(socket)])
            task_status.started((address(socket.getsockname()[1]),))
