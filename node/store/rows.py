r"""What every engine of a Store shares: keys as bytes, the interval that a scan walks, and the check of a commit.

Keys are ordered component by component: integers before bytes before text; integers by value, bytes and text by byte
and by code point; a key before those that extend it. The encoding sorts the same way under memcmp:

    integer   05 ‖ u64 be
    bytes     06 ‖ the bytes, each 00 written 00 ff ‖ 00 00
    text      07 ‖ its UTF-8, likewise

No component's form is the beginning of another's, and forms are simply joined, encode(a + b) = encode(a) ‖ encode(b);
so the keys that begin with a prefix p are exactly those in [encode(p), encode(p) ‖ ff). One terminating 00 would be
shorter, but then b"a" would be the beginning of b"a\0". A row's key is that of (table, *key).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from node.store import Conflict, Delete, Expect, Key, Put

KEY_BYTES_MAX: Final = 511
"""LMDB's limit, and so everybody's."""

_INTEGER, _BYTES, _TEXT = 5, 6, 7
_ABOVE: Final = b"\xff"
"""Sorts after the first byte of every component."""


def encode(key: Key) -> bytes:
    """The key as bytes that sort as keys do. Raises ValueError for an integer out of range, TypeError for other types."""
    parts = bytearray()
    for part in key:
        if isinstance(part, int) and not isinstance(part, bool):
            if not 0 <= part < 1 << 64:
                raise ValueError(f"{part} cannot be part of a key: integers are 0 to 2⁶⁴−1")
            parts += b"%c%b" % (_INTEGER, part.to_bytes(8, "big"))
        elif isinstance(part, bytes):
            parts += b"%c%b\0\0" % (_BYTES, part.replace(b"\0", b"\0\xff"))
        elif isinstance(part, str):
            parts += b"%c%b\0\0" % (_TEXT, part.encode().replace(b"\0", b"\0\xff"))
        else:
            raise TypeError(f"{part!r} cannot be part of a key: its components are integers, text and bytes")
    return bytes(parts)


def decode(encoded: bytes) -> Key:
    """The key that encodes to these bytes. Raises ValueError when none does: the store is damaged."""
    parts: list[int | str | bytes] = []
    at = 0
    while at < len(encoded):
        tag, at = encoded[at], at + 1
        if tag == _INTEGER and at + 8 <= len(encoded):
            parts.append(int.from_bytes(encoded[at : at + 8], "big"))
            at += 8
        elif tag in (_BYTES, _TEXT):
            end = encoded.find(b"\0\0", at)
            body = encoded[at : max(end, at)]
            plain = body.replace(b"\0\xff", b"\0")
            if end < 0 or plain.replace(b"\0", b"\0\xff") != body:
                raise ValueError(f"{encoded.hex()} is no key: text or bytes in it do not end")
            parts.append(plain if tag == _BYTES else plain.decode())
            at = end + 2
        else:
            raise ValueError(f"{encoded.hex()} is no key: it has no component at byte {at - 1}")
    return tuple(parts)


def row_key(table: str, key: Key) -> bytes:
    """The bytes under which an engine keeps the row, at most 511. Raises ValueError beyond that."""
    encoded = encode((table, *key))
    if len(encoded) > KEY_BYTES_MAX:
        raise ValueError(f"a key in {table} takes {len(encoded)} bytes, {KEY_BYTES_MAX} at most: put a digest in it")
    return encoded


@dataclass(frozen=True, slots=True)
class Interval:
    """Row keys from `low` up to but without `high`, to be walked upwards or downwards.

    Either end may be longer than any key: engines compare with it and never look it up.
    """

    low: bytes
    high: bytes
    reverse: bool

    def beyond(self, key: bytes) -> "Interval":
        """What is left once the walk has passed the row key."""
        return replace(self, high=key) if self.reverse else replace(self, low=key + b"\0")


def interval(table: str, prefix: Key, start: Key | None, reverse: bool) -> Interval:
    """Where the rows lie that a scan with these arguments gives; see `Store.scan`."""
    low = encode((table, *prefix))
    high = low + _ABOVE
    if start is not None:
        edge = encode((table, *start))
        low, high = (low, min(high, edge + b"\0")) if reverse else (max(low, edge), high)
    return Interval(low, high, reverse)


class Scan:
    """Walks an interval page by page: `page(interval, most)` gives its next rows, at most so many, and none at its end.

    A class and not an asynchronous generator, because one that is left early must be closed by hand.
    """

    def __init__(
        self,
        page: Callable[[Interval, int | None], Awaitable[Sequence[tuple[bytes, bytes]]]],
        left: Interval,
        limit: int | None,
    ) -> None:
        self._page = page
        self._left = left
        self._limit = limit
        self._rows: list[tuple[bytes, bytes]] = []

    def __aiter__(self) -> "Scan":
        return self

    async def __anext__(self) -> tuple[Key, bytes]:
        if not self._rows:
            self._rows = list(await self._page(self._left, self._limit))
            if not self._rows:
                raise StopAsyncIteration
            self._left = self._left.beyond(self._rows[-1][0])
            if self._limit is not None:
                self._limit -= len(self._rows)
            self._rows.reverse()
        key, value = self._rows.pop()
        return decode(key)[1:], value


@dataclass(frozen=True, slots=True)
class Change:
    """A Put or Delete whose key is encoded; no value means that the row goes."""

    key: bytes
    value: bytes | None
    op: Put | Delete


def changes(ops: Sequence[Put | Delete]) -> tuple[Change, ...]:
    """The changes of one commit. Raises ValueError for a key that no row can have or that repeats."""
    encoded = tuple(Change(row_key(op.table, op.key), op.value if isinstance(op, Put) else None, op) for op in ops)
    if len({change.key for change in encoded}) < len(encoded):
        raise ValueError("a commit changes the same row twice: join the two changes into one")
    return encoded


def conflict(wanted: Sequence[Change], get: Callable[[bytes], bytes | None]) -> Conflict | None:
    """The first expectation that the rows, read with `get`, do not meet; None when a commit may go ahead."""
    for change in wanted:
        expect = change.op.expect
        if expect is Expect.ANY:
            continue
        if get(change.key) != (None if expect is Expect.ABSENT else expect):
            return Conflict(change.op.table, change.op.key)
    return None
