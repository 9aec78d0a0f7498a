"""A backend for onions: it sends back what it gets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from node.net.nursery import bare_nursery


@asynccontextmanager
async def echo_at(path: Path) -> AsyncIterator[Path]:
    """Listens at that path while the context lasts."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                async for data in stream:
                    await stream.send_all(data)
            except trio.BrokenResourceError:
                pass

    listening = trio.socket.socket(trio.socket.AF_UNIX)
    await listening.bind(str(path))
    listening.listen(16)
    async with bare_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(listening)])
        yield path
        nursery.cancel_scope.cancel()
    path.unlink()


async def echoed(stream: trio.abc.Stream) -> bytes:
    """What comes back of five bytes."""
    with trio.fail_after(30):
        await stream.send_all(b"hello")
        return bytes(await stream.receive_some(5))
