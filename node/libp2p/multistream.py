"""Which protocol a stream speaks: multistream-select 1.0, both sides, as bytes in and bytes out.

Who opens a stream names the protocol and goes on at once, without a round trip: both lines and its first data leave
together, and the answer is checked when it comes. Who accepts reads proposals until one is known.
Lines and proposals are bounded. Source: multiformats/multistream-select; libp2p/specs connections/README.md.
"""

from collections.abc import Container
from typing import Final

from consensus.encoding import Malformed
from node.libp2p.framing import Frames, prefixed

LINE_BYTES_MAX: Final = 256
PROPOSALS_MAX: Final = 16
"""js offers three gossipsubs at once; nobody has more than a few."""

HEAD: Final = prefixed(b"/multistream/1.0.0\n")
REFUSED: Final = prefixed(b"na\n")


class NotSpoken(Exception):
    """The other end does not speak the protocol that was named."""


def proposal(protocol: str) -> bytes:
    """What who opens a stream writes first."""
    return HEAD + prefixed(protocol.encode() + b"\n")


class Proposed:
    """The side that named a protocol, waiting for the answer."""

    def __init__(self, protocol: str) -> None:
        self._expected = [b"/multistream/1.0.0\n", protocol.encode() + b"\n"]
        self._lines = Frames(LINE_BYTES_MAX)

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes; what follows the answer once it is whole, else None. Raises NotSpoken and Malformed."""
        self._lines.feed(data)
        while self._expected:
            line = self._lines.pop()
            if line is None:
                return None
            if line == b"na\n":
                raise NotSpoken(self._expected[-1].decode().rstrip())
            if line != self._expected.pop(0):
                raise Malformed("another protocol than the one that was named")
        return self._lines.rest()


class Accepting:
    """The side that is told which protocol; `chosen` is set once one of the offered was named."""

    def __init__(self, offered: Container[str]) -> None:
        self.chosen: str | None = None
        self._offered = offered
        self._lines = Frames(LINE_BYTES_MAX)
        self._greeted = False
        self._proposals = 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take bytes; what to answer, and what follows the choice. Raises Malformed."""
        self._lines.feed(data)
        answer = b""
        while self.chosen is None and (line := self._lines.pop()) is not None:
            if not self._greeted:
                if line != b"/multistream/1.0.0\n":
                    raise Malformed("a stream that does not begin with multistream-select")
                self._greeted = True
                answer += HEAD
                continue
            self._proposals += 1
            if self._proposals > PROPOSALS_MAX:
                raise Malformed(f"over {PROPOSALS_MAX} proposals on a stream")
            name = line[:-1].decode("ascii", "replace") if line.endswith(b"\n") else ""
            if name in self._offered:
                self.chosen = name
                answer += prefixed(line)
            else:
                answer += REFUSED
        return answer, b"" if self.chosen is None else self._lines.rest()
