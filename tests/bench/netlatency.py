"""A transport whose bytes come later, so that the network and not the processor decides who is first."""

from collections import deque
from collections.abc import Awaitable, Callable

import trio

from node.net.swarm import Transport


class Late(trio.abc.Stream):
    """A stream on which everything that comes is held back for a time; `pump` has to run."""

    def __init__(self, inner: trio.abc.Stream, seconds: float) -> None:
        self._inner, self._seconds = inner, seconds
        self._held: deque[tuple[float, bytes]] = deque()
        self._came = trio.Event()

    async def pump(self) -> None:
        """Read at once what comes, until the end."""
        data = b"to begin with"
        while data:
            try:
                data = bytes(await self._inner.receive_some(1 << 16))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            self._held.append((trio.current_time() + self._seconds, data))
            self._came.set()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        del max_bytes
        while not self._held:
            self._came = trio.Event()
            await self._came.wait()
        await trio.sleep_until(self._held[0][0])
        return self._held.popleft()[1] if self._held[0][1] else b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._inner.aclose()


class Latency:
    """A Transport around another; its pumps run in a nursery that has to outlive it."""

    def __init__(self, inner: Transport, seconds: float, pumps: Callable[[], trio.Nursery]) -> None:
        self._inner, self._seconds, self._pumps = inner, seconds, pumps
        self.handles = inner.handles

    def _late(self, stream: trio.abc.Stream) -> Late:
        late = Late(stream, self._seconds)
        self._pumps().start_soon(late.pump)
        return late

    async def dial(self, address: bytes, isolation: bytes) -> trio.abc.Stream:
        """As the transport below, both ways later."""
        return self._late(await self._inner.dial(address, isolation))

    async def listen(
        self,
        accept: Callable[[trio.abc.Stream], Awaitable[None]],
        *,
        task_status: "trio.TaskStatus[tuple[bytes, ...]]",
    ) -> None:
        """As the transport below."""

        async def taken(stream: trio.abc.Stream) -> None:
            await accept(self._late(stream))

        await self._inner.listen(taken, task_status=task_status)
