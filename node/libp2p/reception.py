"""What becomes of a stream that a peer opens: it names a protocol, and whoever serves that takes it over.

libp2p's ping echoes 32 bytes as often as they come; identify answers once and ends. A stream that does not say in time what
it is for is reset. Source: libp2p/specs: ping/ping.md, identify/README.md.
"""

from collections.abc import Callable, Container
from typing import Final

import trio

from consensus.encoding import Malformed
from node.libp2p.channels import Mute
from node.libp2p.multistream import Accepting
from node.libp2p.yamux import Listener, YamuxStream

PING: Final = "/ipfs/ping/1.0.0"
IDENTIFY: Final = "/ipfs/id/1.0.0"
ECHO_BYTES_MAX: Final = 4096
"""Of a peer's pings that it does not take back."""


class Reception(Mute):
    """A stream of a peer's that has not said yet what it is for."""

    def __init__(
        self,
        stream: YamuxStream,
        offered: Container[str],
        settle: Callable[[YamuxStream, str], Listener | None],
        negotiation_ms: int,
    ) -> None:
        super().__init__(stream)
        self._accepting = Accepting(offered)
        self._settle = settle
        self._until = trio.current_time() + negotiation_ms / 1000

    def data(self, data: bytes) -> None:
        """Answer proposals; hand over when one is taken."""
        stream = self.stream
        try:
            answer, rest = self._accepting.feed(data)
        except Malformed:
            stream.reset()
            return
        stream.write(answer)
        if (name := self._accepting.chosen) is None:
            stream.consumed(len(data))
            return
        stream.consumed(len(data) - len(rest))
        listener = self._settle(stream, name)
        if listener is None:
            stream.reset()
            return
        stream.listener = listener
        if rest:
            listener.data(rest)

    def late(self, now: float) -> None:
        """Reset it when its time is up."""
        if now >= self._until:
            self.stream.reset()


class Echo(Mute):
    """libp2p's ping."""

    def data(self, data: bytes) -> None:
        """Send it back; a peer that does not take it back loses the stream."""
        stream = self.stream
        stream.consumed(len(data))
        stream.write(data)
        if stream.queued > ECHO_BYTES_MAX:
            stream.reset()
