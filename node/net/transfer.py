"""Bulk between two nodes: ranges of a replica, asked for by its root, on a stream beside the channels.

    asker: Ask {chunk, root, offset, most}      holder: Give {size} then the bytes, or Give {refusal}      (again on the same stream)

Every range can be asked for by itself, so a fetch that broke off goes on where it was, and several circuits can share one
file. What comes is not believed: whoever fetched recomputes the root. Who may read what is the server's `Find` to say.

Records travel as u16 length ‖ canonical CBOR. Source: DESIGN §4 (under 256 KB in flight a stream: the swarm's windows).
"""

import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, NamedTuple, TypeVar

import trio

from consensus.encoding import Malformed
from consensus.ids import Digest, NodeId
from consensus.records import Most, Size, pack, unpack
from node.net.swarm import PeerStream, Swarm, Unreachable, Unwilling

PROTOCOL: Final = "/lucid/replica/1"
STREAMS_A_PEER: Final = 8
PIECE_BYTES: Final = 128 << 10
"""What is read from the disk and written at once; below the 256 KB that may be in flight."""
IDLE_S: Final = 60
"""A stream on which nothing moves for so long is given up: Tor hides dead ends."""
PAUSE_S: Final = (1.0, 30.0)
"""Between two attempts at one file: from, doubling, to."""

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class Ask:
    """A range of a replica, please."""

    VERSION: ClassVar = 1
    chunk: Annotated[Digest, Size(32)]
    root: Annotated[Digest, Size(32)]
    offset: int
    most: int


@dataclass(frozen=True, slots=True)
class Give:
    """What follows: the bytes of the range, as far as the replica of that size goes; or nothing, and why."""

    VERSION: ClassVar = 1
    size: int
    refusal: Annotated[str, Most(200)]


class Readable(NamedTuple):
    """Something whose ranges can be read; read raises OSError and KeyError when it is gone."""

    size: int
    read: Callable[[int, int], Awaitable[bytes]]


class Replica(NamedTuple):
    """What is fetched: a chunk's replica by its root, and how long it is."""

    chunk: Digest
    root: Digest
    size: int


Find = Callable[[NodeId, Digest, Digest], Readable | None]
"""What a peer may read of a chunk under a root, None when there is nothing or it may not."""


class Wrong(Exception):
    """A peer broke the protocol of transfers."""


async def _write(stream: PeerStream, record: object) -> None:
    data = pack(record)
    await stream.write(len(data).to_bytes(2, "big") + data)


async def _exactly(stream: PeerStream, count: int) -> bytes:
    """So many bytes, or fewer at the end of the stream."""
    parts = bytearray()
    while len(parts) < count:
        with trio.move_on_after(IDLE_S) as waited:
            part = await stream.read(count - len(parts))
        if waited.cancelled_caught:
            raise Unreachable(f"nothing came for {IDLE_S} s")
        if not part:
            break
        parts += part
    return bytes(parts)


async def _read(stream: PeerStream, kind: type[_Record]) -> _Record | None:
    """The next record; None at the end. Raises Wrong, Unreachable."""
    head = await _exactly(stream, 2)
    if not head:
        return None
    length = int.from_bytes(head, "big")
    data = await _exactly(stream, length)
    if len(head) < 2 or len(data) < length:
        raise Wrong("the stream ended inside a record")
    try:
        return unpack(kind, data)
    except Malformed as error:
        raise Wrong(f"not a record of transfers: {error}") from error


async def serve(stream: PeerStream, find: Find) -> None:
    """Answer the asks of one stream until it ends; whatever goes wrong ends it, and nothing else."""
    try:
        while (ask := await _read(stream, Ask)) is not None:
            found = find(stream.peer, ask.chunk, ask.root)
            if found is None or ask.offset > found.size:
                await _write(stream, Give(0, "nothing under that root is for you"))
                continue
            await _write(stream, Give(found.size, ""))
            at, end = ask.offset, min(found.size, ask.offset + ask.most)
            while at < end:
                piece = await found.read(at, min(PIECE_BYTES, end - at))
                if not piece:
                    return  # shorter than it was: the stream ends early, and the asker sees it
                with trio.move_on_after(IDLE_S) as waited:
                    await stream.write(piece)
                if waited.cancelled_caught:
                    return
                at += len(piece)
    except (Wrong, Unreachable, OSError, KeyError):
        return
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(1):
            await stream.aclose()


async def pieces(swarm: Swarm, peer: NodeId, what: Replica, offset: int, most: int) -> AsyncGenerator[bytes, None]:
    """The bytes of a range as they come; raises Unreachable when they stop early, Unwilling when the peer has them not.

    size: of the whole replica, which the peer has to agree with.
    """
    stream = await swarm.open_stream(peer, PROTOCOL)
    try:
        await _write(stream, Ask(what.chunk, what.root, offset, most))
        try:
            given = await _read(stream, Give)
        except Wrong as error:
            raise Unwilling(str(error)) from error
        if given is None:
            raise Unreachable("the peer closed the stream before it answered")
        if given.refusal or given.size != what.size:
            raise Unwilling(given.refusal or f"the peer has {given.size} bytes under that root, not {what.size}")
        left = min(most, what.size - offset)
        while left:
            piece = await _exactly(stream, min(left, PIECE_BYTES))
            if not piece:
                raise Unreachable(f"the transfer broke off {left} bytes before its end")
            left -= len(piece)
            yield piece
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(1):
            await stream.aclose()


async def fetch(
    swarm: Swarm, peer: NodeId, what: Replica, have: int, put: Callable[[int, bytes], Awaitable[None]]
) -> None:
    """Fetch the rest of a replica behind what is there, over as many interruptions as its deadline allows.

    The deadline is the caller's cancel scope. Raises Unwilling when asking again is of no use, and what put raises.
    """
    at, pause = have, PAUSE_S[0]
    while at < what.size:
        before = at
        try:
            async with aclosing(pieces(swarm, peer, what, at, what.size - at)) as coming:
                async for piece in coming:
                    await put(at, piece)
                    at += len(piece)
        except Unreachable:
            pause = PAUSE_S[0] if at > before else min(2 * pause, PAUSE_S[1])
            await trio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, no secret
