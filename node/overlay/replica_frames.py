"""The frames of `Channel.REPLICAS`: canonical CBOR arrays [version, kind, …], capped in every field.

    offer ── verdict        (an exchange)      the leader of a placement asks a candidate to take a replica
    told · undone · released                   receipts for whoever watches; a copy that failed; a replica let go
    asked ── shown                             a challenge on any number of replicas; segments, over one or more frames.
                                               Kind 9; of kind 5, as nodes asked before 2026-11-27, it is only read
    missing ── verdict      (an exchange)      a holder tells the owner that another one is gone

What `read` returns has kept every cap, so nobody checks again. Receipts and deposits stay packed in here; consensus/beacon
reads them.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

from consensus.beacon import CHALLENGED, DEPOSIT_BYTES_MAX, RECEIPT_BYTES_MAX, Segment
from consensus.encoding import Malformed, Value, decode, encode
from consensus.ids import Digest, NodeId
from consensus.merkle import SEGMENT
from consensus.placement import MEMBERS_MAX, REPLICAS

VERSION: Final = 1
FRAME_BYTES_MAX: Final = 192 * 1024
"""Holds 8 segments with their proofs twice over, and stays under the 256 KiB that a stream may have in flight."""
ITEMS_MAX: Final = 64
"""Replicas in one challenge, and receipts in one notice."""
_PROOF_MAX: Final = 12
_ASKED, _SHOWN = bytes((0x85, VERSION, 9)), bytes((0x84, VERSION, 6))
_ITEM, _TRIPLE, _DIGEST = b"\x82\x58\x20", b"\x83", b"\x58\x20"


class Answered(IntEnum):
    """What a candidate says to an offer, or an owner to the news that a holder is missing."""

    YES = 0
    FULL = 1
    BUSY = 2
    HELD = 3
    NOT_PLACED = 4
    SAME_ENTITY = 5
    UNKNOWN = 6
    """I do not know the seed of its slot yet, or not the registry that tells whether its holders were placed."""
    LATE = 7
    """By my clock the deposit is too old for a first holder."""
    EARLY = 8
    """By my clock it has yet to be opened."""
    OTHER_SEED = 9
    """The seed of its slot is another one, as far as I know the chain."""


class SignedReceipt(NamedTuple):
    """A packed receipt and its holder's signature."""

    packed: bytes
    signature: bytes


class ReplicaOffer(NamedTuple):
    """Please take replica j from me; the owner's commitment, and who else holds a replica of the chunk."""

    deposit: bytes
    signature: bytes
    j: int
    holders: tuple[SignedReceipt, ...]


class ReplicaVerdict(NamedTuple):
    """The answer to an offer or to missing."""

    answer: Answered


class ReceiptsTold(NamedTuple):
    """Receipts, new or renewed."""

    receipts: tuple[SignedReceipt, ...]


class CopyUndone(NamedTuple):
    """A replica that was accepted could not be fetched, or was not what the owner committed to."""

    chunk: Digest
    j: int


class SegmentsAsked(NamedTuple):
    """A challenge: its HOUR, the receipts to answer for, and what draws their segments."""

    hour: int
    items: tuple[tuple[Digest, Digest], ...]
    """Chunk and receipt id."""
    nonce: Digest | None
    """The challenger's, which nobody could foresee; None for the HOUR's seed, as it was before there were nonces."""


class SegmentsShown(NamedTuple):
    """Segments asked for in an HOUR, some of them, by chunk."""

    hour: int
    items: tuple[tuple[Digest, tuple[Segment, ...]], ...]


class HolderMissing(NamedTuple):
    """To the owner: this holder has failed its challenges for too long; will you encode its replica anew?"""

    chunk: Digest
    holder: NodeId


class ReplicaReleased(NamedTuple):
    """I do not hold a replica of this chunk, or not any more."""

    chunk: Digest


ReplicaFrame: TypeAlias = (
    ReplicaOffer
    | ReplicaVerdict
    | ReceiptsTold
    | CopyUndone
    | SegmentsAsked
    | SegmentsShown
    | HolderMissing
    | ReplicaReleased
)


def read(data: bytes) -> ReplicaFrame:
    """The frame that data spells; raises Malformed for every other byte string."""
    if len(data) > FRAME_BYTES_MAX:
        raise Malformed(f"a frame of {len(data)} bytes, {FRAME_BYTES_MAX} at most")
    value = decode(data)
    if not isinstance(value, list) or len(value) < 2 or type(value[0]) is not int or type(value[1]) is not int:
        raise Malformed("not a versioned frame")
    version, kind, *fields = value
    if version != VERSION:
        raise Malformed("a frame of another version")
    if kind not in _READERS:
        raise Malformed("a frame of an unknown kind")
    count, reader = _READERS[kind]
    if len(fields) != count:
        raise Malformed("a frame with other fields than its kind has")
    return reader(fields)


def offer(frame: ReplicaOffer) -> bytes:
    """An offer's bytes."""
    return encode([VERSION, 1, frame.deposit, frame.signature, frame.j, [list(one) for one in frame.holders]])


def verdict(answer: Answered) -> bytes:
    """A verdict's bytes."""
    return _VERDICTS[answer]


def told(receipts: tuple[SignedReceipt, ...]) -> bytes:
    """A notice of at most ITEMS_MAX receipts."""
    return encode([VERSION, 3, [list(one) for one in receipts]])


def undone(chunk: Digest, j: int) -> bytes:
    """The bytes of a copy that failed."""
    return encode([VERSION, 4, chunk, j])


def asked(hour: int, nonce: Digest, items: list[tuple[Digest, Digest]]) -> bytes:
    """A challenge's bytes, for at most ITEMS_MAX (chunk, receipt id); spelled by hand, being one of the two that are many."""
    parts = [_ASKED, encode(hour), _DIGEST, nonce, _array(len(items))]
    for chunk, receipt in items:
        parts += (_ITEM, chunk, _DIGEST, receipt)
    return b"".join(parts)


def shown(hour: int, items: list[tuple[Digest, tuple[Segment, ...]]]) -> bytes:
    """An answer's bytes, spelled by hand too; the caller keeps it below FRAME_BYTES_MAX."""
    parts = [_SHOWN, encode(hour), _array(len(items))]
    for chunk, segments in items:
        parts += (_ITEM, chunk, _array(len(segments)))
        for number, data, proof in segments:
            parts += (_TRIPLE, encode(number), encode(data), _array(len(proof)))
            for sibling in proof:
                parts += (_DIGEST, sibling)
    return b"".join(parts)


def _array(count: int) -> bytes:
    """The head of an array of at most 255."""
    return bytes((0x80 | count,)) if count < 24 else bytes((0x98, count))


def missing(chunk: Digest, holder: NodeId) -> bytes:
    """The bytes of the news that a holder is gone."""
    return encode([VERSION, 7, chunk, holder])


def released(chunk: Digest) -> bytes:
    """The bytes of a replica that was let go."""
    return encode([VERSION, 8, chunk])


def _bytes(value: Value, size: int) -> bytes:
    if type(value) is not bytes or len(value) != size:
        raise Malformed(f"not {size} bytes")
    return value


def _at_most(value: Value, most: int) -> bytes:
    if type(value) is not bytes or len(value) > most:
        raise Malformed(f"not at most {most} bytes")
    return value


def _number(value: Value, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise Malformed(f"not a number from 0 to {most}")
    return value


def _items(value: Value, most: int, width: int) -> list[list[Value]]:
    """At most so many arrays, of a width each."""
    if not isinstance(value, list) or len(value) > most:
        raise Malformed(f"not an array of at most {most}")
    items: list[list[Value]] = []
    for item in value:
        if not isinstance(item, list) or len(item) != width:
            raise Malformed(f"not an array of {width}")
        items.append(item)
    return items


def _receipts(value: Value, most: int) -> tuple[SignedReceipt, ...]:
    return tuple(
        SignedReceipt(_at_most(packed, RECEIPT_BYTES_MAX), _bytes(signature, 64))
        for packed, signature in _items(value, most, 2)
    )


def _read_offer(fields: list[Value]) -> ReplicaFrame:
    deposit, signature, j, holders = fields
    return ReplicaOffer(
        _at_most(deposit, DEPOSIT_BYTES_MAX),
        _bytes(signature, 64),
        _number(j, REPLICAS - 1),
        _receipts(holders, MEMBERS_MAX),
    )


def _read_verdict(fields: list[Value]) -> ReplicaFrame:
    return ReplicaVerdict(Answered(_number(fields[0], len(Answered) - 1)))


def _read_told(fields: list[Value]) -> ReplicaFrame:
    receipts = _receipts(fields[0], ITEMS_MAX)
    if not receipts:
        raise Malformed("a notice of nothing")
    return ReceiptsTold(receipts)


def _read_undone(fields: list[Value]) -> ReplicaFrame:
    return CopyUndone(Digest(_bytes(fields[0], 32)), _number(fields[1], REPLICAS - 1))


def _read_asked(fields: list[Value]) -> ReplicaFrame:
    hour, nonce, listed = fields
    return _asked(hour, listed, Digest(_bytes(nonce, 32)))


def _read_asked_by_seed(fields: list[Value]) -> ReplicaFrame:
    hour, listed = fields
    return _asked(hour, listed, None)


def _asked(hour: Value, listed: Value, nonce: Digest | None) -> ReplicaFrame:
    items = tuple(
        (Digest(_bytes(chunk, 32)), Digest(_bytes(receipt, 32))) for chunk, receipt in _items(listed, ITEMS_MAX, 2)
    )
    if not items or len({chunk for chunk, _ in items}) != len(items):
        raise Malformed("a challenge on nothing, or twice on one chunk")
    return SegmentsAsked(_number(hour, (1 << 64) - 1), items, nonce)


def _read_shown(fields: list[Value]) -> ReplicaFrame:
    items = []
    for chunk, segments in _items(fields[1], ITEMS_MAX, 2):
        parts = []
        for index, data, proof in _items(segments, CHALLENGED, 3):
            if not isinstance(proof, list) or len(proof) > _PROOF_MAX:
                raise Malformed("not a proof")
            siblings = tuple(_bytes(sibling, 32) for sibling in proof)
            parts.append(Segment(_number(index, (1 << 32) - 1), _at_most(data, SEGMENT), siblings))
        if not parts:
            raise Malformed("an answer without segments")
        items.append((Digest(_bytes(chunk, 32)), tuple(parts)))
    if not items or len({chunk for chunk, _ in items}) != len(items):
        raise Malformed("an answer on nothing, or twice on one chunk")
    return SegmentsShown(_number(fields[0], (1 << 64) - 1), tuple(items))


def _read_missing(fields: list[Value]) -> ReplicaFrame:
    return HolderMissing(Digest(_bytes(fields[0], 32)), NodeId(_bytes(fields[1], 32)))


def _read_released(fields: list[Value]) -> ReplicaFrame:
    return ReplicaReleased(Digest(_bytes(fields[0], 32)))


_READERS: Final[dict[int, tuple[int, Callable[[list[Value]], ReplicaFrame]]]] = {
    1: (4, _read_offer),
    2: (1, _read_verdict),
    3: (1, _read_told),
    4: (2, _read_undone),
    5: (2, _read_asked_by_seed),
    6: (2, _read_shown),
    7: (2, _read_missing),
    8: (1, _read_released),
    9: (3, _read_asked),
}
_VERDICTS: Final = {answer: encode([VERSION, 2, int(answer)]) for answer in Answered}
