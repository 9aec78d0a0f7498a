"""What a payload says of sessions and their storage: the part of its outcome that the consensus goes by.

    payload of kind TELLING:  02 ‖ u32 length ‖ news ‖ block          news: an encoded list, in the order of the events

The consensus executes nothing. A publisher spells what the contracts of its payload said, whoever executes the payload
compares (node/chain/engine), and one that says anything else is invalid. So what a block leads to follows from the block.

    [0, session, owner]                     it was closed        [2, session, holder, replica, first, bits]    chunks are held
    [1, session, owner, first, [[chunk, size, roots] …]] committed   [3, session, number, replica, holder, prober] one was shown

Source: CONSENSUS §8; contracts/src/LucidAnchors.sol, LucidChunkStore.sol.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from blake3 import blake3

from consensus.encoding import Malformed, Value, decode, encode
from consensus.ids import Address, Digest, SessionId

TELLING: Final = b"\2"
"""The first byte of a payload that begins with news; something waited for it, too."""
LENGTH_BYTES: Final = 4
BITS_BYTES: Final = 32


class SessionEnded(NamedTuple):
    """A session was closed."""

    session: SessionId
    owner: Address


class ChunkNamed(NamedTuple):
    """A sealed chunk as its owner commits to it."""

    chunk: Digest
    size: int
    roots: Digest
    """`roots_name` of its replicas' roots."""


class ChunksNamed(NamedTuple):
    """A session's owner committed to chunks, of which the first has this number."""

    session: SessionId
    owner: Address
    first: int
    chunks: tuple[ChunkNamed, ...]


class ReplicasHeld(NamedTuple):
    """An account says that it holds a replica of the chunks `first` + i for each bit i that is set."""

    session: SessionId
    holder: Address
    replica: int
    first: int
    bits: int
    """Of 256."""


class ReplicaShown(NamedTuple):
    """An account says that a holder has shown it a part of its replica of a chunk."""

    session: SessionId
    number: int
    replica: int
    holder: Address
    prober: Address


SessionNews: TypeAlias = SessionEnded | ChunksNamed | ReplicasHeld | ReplicaShown


def roots_name(roots: Sequence[bytes]) -> Digest:
    """One name for the roots of a chunk's replicas: BLAKE3 over them."""
    return Digest(blake3(b"".join(roots)).digest())


def told(news: Sequence[SessionNews], block: bytes) -> bytes:
    """The payload that spells news before a block of the execution layer."""
    said = encode([_spelled(one) for one in news])
    return TELLING + len(said).to_bytes(LENGTH_BYTES, "big") + said + block


def split(payload: bytes) -> tuple[tuple[SessionNews, ...], bytes]:
    """The news of a payload, and its block; of another kind than TELLING there are none. Raises Malformed."""
    if payload[:1] != TELLING:
        return (), payload[1:]
    begins = 1 + LENGTH_BYTES
    ends = begins + int.from_bytes(payload[1:begins], "big")
    if not begins < ends <= len(payload):
        raise Malformed("a payload whose news are cut off")
    match decode(payload[begins:ends]):
        case [_, *_] as items:
            return tuple(map(_read, items)), payload[ends:]
        case _:
            raise Malformed("a payload with news that say nothing")


def _spelled(one: SessionNews) -> Value:
    match one:
        case SessionEnded():
            return [0, *one]
        case ChunksNamed(session, owner, first, chunks):
            return [1, session, owner, first, [list(chunk) for chunk in chunks]]
        case ReplicasHeld(session, holder, replica, first, bits):
            return [2, session, holder, replica, first, bits.to_bytes(BITS_BYTES, "big")]
        case _:
            return [3, *one]


def _read(value: Any) -> SessionNews:
    match value:
        case [0, bytes(session), bytes(owner)] if _sized((session,), (owner,)):
            return SessionEnded(SessionId(session), Address(owner))
        case [1, bytes(session), bytes(owner), int(first), [_, *_] as chunks] if _sized(
            (session,), (owner,)
        ) and _counts(first):
            return ChunksNamed(SessionId(session), Address(owner), first, tuple(map(_chunk, chunks)))
        case [2, bytes(session), bytes(holder), int(replica), int(first), bytes(bits)] if (
            _sized((session, bits), (holder,)) and _counts(replica, first) and any(bits)
        ):
            return ReplicasHeld(SessionId(session), Address(holder), replica, first, int.from_bytes(bits, "big"))
        case [3, bytes(session), int(number), int(replica), bytes(holder), bytes(prober)] if _sized(
            (session,), (holder, prober)
        ) and _counts(number, replica):
            return ReplicaShown(SessionId(session), number, replica, Address(holder), Address(prober))
        case _:
            raise Malformed("news of a session that spell nothing")


def _chunk(value: Any) -> ChunkNamed:
    match value:
        case [bytes(chunk), int(size), bytes(roots)] if _sized((chunk, roots)) and _counts(size):
            return ChunkNamed(Digest(chunk), size, Digest(roots))
        case _:
            raise Malformed("news of a chunk that spell nothing")


def _sized(words: Iterable[bytes], accounts: Iterable[bytes] = ()) -> bool:
    return all(len(one) == 32 for one in words) and all(len(one) == 20 for one in accounts)


def _counts(*numbers: int) -> bool:
    """None of them is below 0, nor a boolean, which is an int to Python."""
    return all(number >= 0 and not isinstance(number, bool) for number in numbers)
