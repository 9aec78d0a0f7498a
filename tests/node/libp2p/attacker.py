"""A connection that a stranger has proven an identity on, and then writes what it likes to."""

import trio

from consensus.ids import NodeId
from consensus.signing import KeyPair
from node.libp2p.connection import SealedStream, agree_on_yamux
from node.libp2p.multistream import proposal
from node.libp2p.secure import Identity
from tests.node.libp2p.test_yamux import DATA, SYN, frame
from tests.node.net.swarms import until


class Attacker:
    """Speaks yamux by hand."""

    @classmethod
    async def reaching(cls, stream: trio.SocketStream, node: NodeId, keys: KeyPair) -> "Attacker":
        secured = await Identity(keys).secure_outbound(stream, node)
        sealed = SealedStream(stream, secured)
        return cls(stream, sealed, await agree_on_yamux(sealed, dialled=True))

    def __init__(self, stream: trio.SocketStream, sealed: SealedStream, early: bytes) -> None:
        self.raw, self.sealed = stream, sealed
        self.said = early
        """What the node has said so far, as far as it was read."""

    async def send(self, *frames: bytes) -> None:
        await self.sealed.send(b"".join(frames))

    async def open(self, number: int, protocol: str, more: bytes = b"") -> None:
        body = proposal(protocol) + more
        await self.send(frame(DATA, SYN, number, len(body), body))

    async def hears(self, data: bytes, times: int = 1) -> bool:
        """Whether the node says that so often, rather than hang up."""
        hung_up = False

        async def read() -> None:
            nonlocal hung_up
            try:
                while more := await self.sealed.receive():
                    self.said += more
            except trio.BrokenResourceError:
                pass
            hung_up = True

        def said() -> bool:
            return bool(data) and self.said.count(data) >= times

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await until(lambda: hung_up or said(), f"{data!r} in {self.said!r:.500}")
            nursery.cancel_scope.cancel()
        return said()

    async def takes(self, size: int) -> None:
        """Read so many bytes, and forget them."""
        taken = len(self.said)
        while taken < size:
            taken += len(await self.sealed.receive())
        self.said = b""

    async def receives(self, data: bytes, times: int = 1) -> None:
        """Return once the node has said that so often."""
        assert await self.hears(data, times), self.said[:500]

    async def gone(self) -> None:
        """Return once the node has hung up."""
        assert not await self.hears(b"")
