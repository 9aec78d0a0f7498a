"""Events to the host, in order: at once where a task of the swarm's brings them, soon where the host itself is at work.

`Deliver` is never called while the host is inside `post`, `drop` or another delivery; what comes up meanwhile waits for the
swarm's own task. Nothing overtakes what waits.
"""

from collections import deque
from types import TracebackType

import trio

from consensus.ids import NodeId
from node.net.swarm import Deliver
from node.overlay.machine import Event, PeerLost, PeerUp, Received


class Teller:
    """The one way to the host; `with teller:` around everything that the host calls."""

    def __init__(self) -> None:
        self._deliver: Deliver | None = None
        self._depth = 0
        self._later: deque[Event] = deque()
        self._wakened = trio.Event()

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1

    def tell(self, event: Event) -> None:
        """Deliver an event, now or soon; without effect while nobody listens."""
        if self._depth or self._later or self._deliver is None:
            if self._deliver is not None:
                self._later.append(event)
                self._wakened.set()
            return
        with self:
            self._deliver(event)

    async def run(self, deliver: Deliver, *, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Hand on what has to wait, until cancelled."""
        self._deliver = deliver
        task_status.started()
        try:
            while True:
                while self._later:
                    event = self._later.popleft()
                    with self:
                        deliver(event)
                self._wakened = trio.Event()
                await self._wakened.wait()
        finally:
            self._deliver = None
            self._later.clear()

    def unsay(self, peer: NodeId) -> bool:
        """Take back what waits of a peer, but Failed; whether the host will then never have heard that it is up."""
        kept: deque[Event] = deque()
        up = False
        for event in self._later:
            match event:
                case Received(peer=of) if of == peer:
                    continue
                case PeerUp(peer=of) if of == peer:
                    up = True
                    continue
                case PeerLost(peer=of) if of == peer and up:
                    up = False
                    continue
                case _:
                    kept.append(event)
        self._later = kept
        return up
