"""Where things are in the tree of payloads: the receipts of each, each transaction's payloads, and one branch by number.

    receipts ‖ name  ──→ what came of its transactions          tx ‖ hash ──→ (name, place) of each payload that has it
    number ‖ u64     ──→ name, on the branch of the head        head      ──→ name
    anchors ‖ name   ──→ is there where sessions were opened, followed or closed

To switch the head is to rewrite the numbers above the last common ancestor; receipts and places stay, branch by branch.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from consensus.encoding import decode, encode
from consensus.ids import Address, Digest
from node.chain.genesis import PLACES

HEAD: Final = b"head"
_PLACE_BYTES: Final = 36


class EmittedLog(NamedTuple):
    """An event."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes


class TransactionReceipt(NamedTuple):
    """What came of a transaction."""

    ok: bool
    gas_used: int
    logs: tuple[EmittedLog, ...]


class TransactionPlace(NamedTuple):
    """Where a transaction is."""

    name: Digest
    at: int


Get = Callable[[bytes], bytes | None]


def receipts_row(receipts: Iterable[TransactionReceipt]) -> bytes:
    """What is kept of a payload's receipts."""
    return encode(
        [[one.ok, one.gas_used, [[log.address, list(log.topics), log.data] for log in one.logs]] for one in receipts]
    )


def read_receipts(row: bytes) -> tuple[TransactionReceipt, ...]:
    """The receipts of a row of ours."""
    kept: Any = decode(row)
    return tuple(
        TransactionReceipt(ok, gas, tuple(EmittedLog(Address(at), tuple(topics), data) for at, topics, data in logs))
        for ok, gas, logs in kept
    )


def receipts_key(name: Digest) -> bytes:
    """The key of a payload's receipts."""
    return b"receipts" + name


def places_key(transaction: bytes) -> bytes:
    """The key of where a transaction is, by its hash."""
    return b"tx" + transaction


def payload_key(name: Digest) -> bytes:
    """The key of a payload's bytes; its header's is its name."""
    return b"payload" + name


def anchors_key(name: Digest) -> bytes:
    """The key that is there where a payload has anchors."""
    return b"anchors" + name


def number_key(number: int) -> bytes:
    """The key of the payload of a number on the head's branch."""
    return b"number" + number.to_bytes(8, "big")


def places(row: bytes | None) -> list[TransactionPlace]:
    """The payloads that have a transaction, on all branches."""
    kept = row or b""
    parts = [kept[at : at + _PLACE_BYTES] for at in range(0, len(kept), _PLACE_BYTES)]
    return [TransactionPlace(Digest(part[:32]), int.from_bytes(part[32:], "big")) for part in parts]


def rows_of(
    name: Digest, receipts: Sequence[TransactionReceipt], transactions: Sequence[bytes], get: Get
) -> list[tuple[bytes, bytes]]:
    """The rows that a new payload brings; transactions are the hashes of its own, in their order."""
    rows = [(receipts_key(name), receipts_row(receipts))]
    if any(log.address == PLACES["LucidAnchors"] for one in receipts for log in one.logs):
        rows.append((anchors_key(name), b""))
    for at, transaction in enumerate(transactions):
        key, place = places_key(transaction), name + at.to_bytes(4, "big")
        before = get(key) or b""
        if TransactionPlace(name, at) not in places(before):
            rows.append((key, before + place))
    return rows


def numbers_to(
    name: Digest, number: int, parent_of: Callable[[Digest], Digest], get: Get
) -> list[tuple[bytes, bytes | None]]:
    """The rows that make a payload of that number the head: numbers of its branch, and none above it."""
    rows: list[tuple[bytes, bytes | None]] = [(HEAD, name)]
    above = number + 1
    while get(number_key(above)) is not None:
        rows.append((number_key(above), None))
        above += 1
    at, height = name, number
    while get(number_key(height)) != at:
        rows.append((number_key(height), at))
        if height == 0:
            break
        at, height = parent_of(at), height - 1
    return rows
