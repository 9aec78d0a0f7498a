"""The way back: sealed chunks to the bytes that were recorded, each checked before a byte of it is given out."""

from collections.abc import Callable, Iterator, Sequence

from blake3 import blake3

from consensus.encoding import Malformed
from pipeline.manifest import Chunk, Opening, Tail
from pipeline.seal import SessionKeys, Unauthentic, open_sealed
from pipeline.sealed import Flags
from pipeline.stream import Stream


class Damaged(Exception):
    """A chunk cannot be played: it is missing, was changed, or does not open under the session's key."""

    def __init__(self, chunk: str, reason: str) -> None:
        super().__init__(f"{chunk} cannot be played: {reason}")
        self.chunk, self.reason = chunk, reason


def open_chunk(opening: Opening, chunk: Chunk, sealed: bytes | memoryview, keys: SessionKeys) -> bytes:
    """The plain bytes of one chunk; raises Damaged unless it is the listed one, in its place, under its own key."""
    if blake3(sealed).digest() != chunk.file:
        raise Damaged(chunk.name, "its bytes are not those that were sealed")
    key = keys.chunk(chunk.stream, chunk.index)
    if key.committed != chunk.commitment:
        raise Damaged(chunk.name, "it was sealed under another session's key")
    try:
        header, plain = open_sealed(key.key, sealed)
    except (Unauthentic, Malformed) as error:
        raise Damaged(chunk.name, str(error) or "it does not open under the session's key") from error
    stated = (opening.network, opening.session, chunk.stream, chunk.index, chunk.flags, chunk.gaps, chunk.plain)
    if (header.network, header.session, header.stream, header.index, header.flags, header.gaps, header.plain) != stated:
        raise Damaged(chunk.name, "its header says otherwise than the listing")
    return plain


def holds(tail: Tail, plain: bytes, keys: SessionKeys) -> bool:
    """Whether a chunk's plain bytes begin with those that a head vouched for while it was open."""
    if len(plain) < tail.size:
        return False
    key = keys.chunk(tail.stream, tail.index).commitment
    return blake3(memoryview(plain)[: tail.size], key=key).digest() == tail.digest


def stream_bytes(
    opening: Opening,
    chunks: Sequence[Chunk],
    stream: Stream,
    secret: bytes,
    read: Callable[[Chunk], bytes | memoryview],
    tails: Sequence[Tail] = (),
) -> Iterator[bytes]:
    """A stream's plain bytes chunk by chunk; raises Damaged at the first chunk that is at fault. Holds one in memory.

    A stream begins with chunk 0, lacks none and ends with the one that says so: what is not there is at fault too.
    """
    keys = SessionKeys(opening.network, opening.session, secret)
    index, ended = 0, False
    for chunk in chunks:
        if chunk.stream is stream:
            if ended or chunk.index != index:
                raise Damaged(f"{stream.name.lower()}/{index}", f"{chunk.name} stands in its place")
            try:
                sealed = read(chunk)
            except (KeyError, OSError) as error:
                raise Damaged(chunk.name, "it is missing") from error
            plain = open_chunk(opening, chunk, sealed, keys)
            if not all(
                holds(tail, plain, keys) for tail in tails if (tail.stream, tail.index) == (stream, chunk.index)
            ):
                raise Damaged(chunk.name, "a head vouched for other bytes while it was being recorded")
            yield plain
            index, ended = index + 1, bool(chunk.flags & Flags.LAST)
    if not ended:
        raise Damaged(f"{stream.name.lower()}/{index}", "it is missing: the chunk before it is not the stream's last")
