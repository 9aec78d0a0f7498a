"""The words between the daemon and the process that executes payloads: a frame is u32 length ‖ CBOR.

    [number, verb, arguments …] ──→          ←── [number, 0, result]  or  [number, fault, sentence]

Both ends are of one release and one machine: the words may change with it.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final

from consensus.encoding import Malformed, decode, encode
from consensus.facts import Minting
from consensus.ids import Address, Digest
from consensus.payload import PayloadTerms

FRAME_BYTES_MAX: Final = 64 << 20
LENGTH_BYTES: Final = 4
READY: Final = 0
"""The number of what a worker says when it has opened its rows, unasked."""


class VerbFault(IntEnum):
    """Why there is no result."""

    NONE = 0
    INVALID = 1
    """The payload breaks a rule."""
    UNKNOWN = 2
    """Something it names is not known."""
    DISK = 3
    """The disk does not take it."""


def frame(value: Sequence[Any]) -> bytes:
    """A message as it is written."""
    data = encode(list(value))
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def length_of(head: bytes) -> int:
    """How long the message is whose first bytes these are; raises Malformed for what no end of ours writes."""
    size = int.from_bytes(head, "big")
    if size > FRAME_BYTES_MAX:
        raise Malformed("a message that is too long")
    return size


def read(data: bytes) -> list[Any]:
    """What a message says."""
    found = decode(data)
    if not isinstance(found, list) or len(found) < 2:
        raise Malformed("a message without a verb")
    return found


def of_terms(terms: PayloadTerms) -> list[Any]:
    """Terms as a message holds them."""
    return list(terms)


def terms_from(value: Sequence[Any]) -> PayloadTerms:
    """The terms in a message."""
    parent, slot, seed, recipient, root, grants, payout, siblings = value
    return PayloadTerms(
        Digest(parent),
        slot,
        Digest(seed),
        Address(recipient),
        Digest(root),
        tuple(map(Address, grants)),
        None if payout is None else Minting(payout[0], Address(payout[1]), payout[2]),
        tuple(siblings),
    )


def wide(number: int) -> bytes:
    """An integer of up to 256 bits, as 32 bytes."""
    return number.to_bytes(32, "big")


def number_of(data: bytes) -> int:
    """The integer that 32 bytes spell."""
    return int.from_bytes(data, "big")
