"""Frames in a byte stream: each behind its length as an unsigned varint, as gossipsub and kad-dht write them.

Source: multiformats/unsigned-varint; libp2p/specs: pubsub/README.md ("The RPC"), kad-dht/README.md ("RPC messages").
"""

from collections.abc import Iterator

from consensus.encoding import Malformed


def prefixed(frame: bytes) -> bytes:
    """The frame behind its length."""
    length = len(frame)
    if length < 0x80:
        return bytes((length,)) + frame
    head = bytearray()
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + frame


class Frames:
    """Bytes in, whole frames out; it holds one unfinished frame of at most `most` bytes and what follows it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = bytearray()

    def __len__(self) -> int:
        """Bytes held."""
        return len(self._held)

    def feed(self, data: bytes) -> None:
        """Take bytes as they come."""
        self._held += data

    def __iter__(self) -> Iterator[bytes]:
        """Take out the frames that are whole, one at a time; raises Malformed for a frame over the limit."""
        while (frame := self.pop()) is not None:
            yield frame

    def pop(self) -> bytes | None:
        """Take out one frame; None when none is whole."""
        held = self._held
        length = start = 0
        for byte in held:
            length |= (byte & 0x7F) << 7 * start
            start += 1
            if byte < 0x80:
                break
            if start == 5:
                raise Malformed("a frame's length of over 32 bits")
        else:
            return None
        if length > self._most:
            raise Malformed(f"a frame of {length} bytes, {self._most} at most")
        if len(held) < start + length:
            return None
        frame = bytes(held[start : start + length])
        del held[: start + length]
        return frame

    def rest(self) -> bytes:
        """Take out all that is held, whole frames or not."""
        rest = bytes(self._held)
        self._held.clear()
        return rest
