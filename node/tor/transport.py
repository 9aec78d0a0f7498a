"""The transport of the daemon: /onion3 multiaddrs over a Tor, and nothing else, ever.

    dial(/onion3/…) ──→ tor.dial        our onion ──→ tor ──→ a socket of this machine ──→ accept

    address = varint(445) ‖ the 35 bytes that an onion's name spells ‖ port, big-endian      39 bytes in all

A name with a wrong checksum or a key that is none is not dialled. Who comes through our onion has no address.
Source: multiformats/multiaddr protocols.csv; Tor rend-spec-v3 §6; DESIGN §4.
"""

import base64
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from node.net.endpoints import Endpoint, checked
from node.net.nursery import bare_nursery
from node.net.swarm import Unreachable
from node.tor.interface import OnionService, Tor
from node.tor.onion import BadOnion, Onion, onion_of, parse_onion
from node.tor.socks import DialFailed

PORT: Final = 4001
"""The virtual port of every node's onion, libp2p's usual one."""
WITHDRAW_S: Final = 2.0
_HEAD: Final = bytes((0xBD, 0x03))
_NAME_BYTES: Final = 35


def multiaddr(onion: Onion, port: int = PORT) -> bytes:
    """The binary multiaddr of an onion's virtual port."""
    return _HEAD + base64.b32decode(onion.upper()) + port.to_bytes(2, "big")


def parse_multiaddr(address: bytes) -> tuple[Onion, int] | None:
    """The onion and virtual port that a binary multiaddr names; None for every other address."""
    if len(address) != len(_HEAD) + _NAME_BYTES + 2 or not address.startswith(_HEAD) or not any(address[-2:]):
        return None
    name = base64.b32encode(address[len(_HEAD) : -2]).decode().lower()
    try:
        return parse_onion(name), int.from_bytes(address[-2:], "big")
    except BadOnion:
        return None


class Onions:
    """A Transport (node.net.swarm) over a Tor.

    seed: our onion's, 32 bytes; backend: where tor hands connections over to us, with port 0 the system chooses one;
    onion: ours where somebody else holds its key, and the seed is of no use (ExternalOnion).
    """

    def __init__(
        self,
        tor: Tor,
        seed: bytes,
        backend: Endpoint,
        *,
        port: int = PORT,
        readers: Sequence[str] = (),
        onion: Onion | None = None,
    ) -> None:
        self._tor, self._seed, self._backend = tor, seed, backend
        self._port, self._readers = port, tuple(readers)
        self._onion = onion_of(seed) if onion is None else onion

    def handles(self, address: bytes) -> bool:
        """Whether it is a valid onion's."""
        return parse_multiaddr(address) is not None

    async def dial(self, address: bytes, isolation: bytes) -> trio.abc.Stream:
        """A stream to an onion on circuits of that isolation; raises Unreachable, when tor's own deadline is over."""
        found = parse_multiaddr(address)
        if found is None:
            raise Unreachable("not the address of an onion")
        try:
            return await self._tor.dial(*found, isolation.hex())
        except DialFailed as failed:
            raise Unreachable(str(failed)) from failed

    async def listen(
        self,
        accept: Callable[[trio.abc.Stream], Awaitable[None]],
        *,
        task_status: "trio.TaskStatus[tuple[bytes, ...]]",
    ) -> None:
        """Serve until cancelled, each stream in a task of its own; starts with our onion's address.

        It starts before tor has made the onion known, which may take minutes, so that a node can dial meanwhile.
        """
        listener, endpoint = await _listener(self._backend)
        onion = self._onion
        async with listener, bare_nursery() as nursery:
            try:
                await nursery.start(trio.serve_listeners, accept, [listener])
                nursery.start_soon(self._tor.serve, OnionService(self._seed, {self._port: endpoint}, self._readers))
                task_status.started((multiaddr(onion, self._port),))
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True), trio.move_on_after(WITHDRAW_S):
                    await self._tor.withdraw(onion)


async def _listener(backend: Endpoint) -> tuple[trio.SocketListener, Endpoint]:
    if isinstance(backend, Path):
        checked(backend)
        with suppress(FileNotFoundError):
            os.unlink(backend)  # left by a life that ended suddenly
        socket = trio.socket.socket(trio.socket.AF_UNIX)
        await socket.bind(str(backend))
    else:
        host, port = backend
        checked((host, port or PORT))
        socket = trio.socket.socket(trio.socket.AF_INET6 if ":" in host else trio.socket.AF_INET)
        socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
        await socket.bind((host, port))
        backend = host, socket.getsockname()[1]
    socket.listen(128)
    return trio.SocketListener(socket), backend
