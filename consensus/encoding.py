"""The one canonical encoding: value to bytes and back, rejecting every other spelling.

Deterministic CBOR (RFC 8949 §4.2.1) cut down to what a record needs: integers of 64 bits, byte strings, text, arrays,
maps with integer or text keys, booleans and null. Shortest heads, definite lengths, keys in the order of their encoded
bytes, no tags, no floats. So two equal values have one spelling, and a signature over bytes is one over the value.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

Value: TypeAlias = "int | bytes | str | bool | list[Value] | tuple[Value, ...] | dict[int | str, Value] | None"

DEPTH_MAX: Final = 16
"""Nested arrays and maps; deeper input is refused before it can exhaust the stack."""

_UINT64_MAX: Final = (1 << 64) - 1
_FALSE, _TRUE, _NULL = b"\xf4", b"\xf5", b"\xf6"


class Malformed(Exception):
    """The bytes are not the canonical encoding of anything that was expected."""


def encode(value: Value) -> bytes:
    """The canonical bytes of a value; raises Malformed for a value that has none (float, too deep, out of 64 bits)."""
    out: list[bytes] = []
    _encode(value, out, DEPTH_MAX)
    return b"".join(out)


def decode(data: bytes) -> Value:
    """The value whose canonical encoding is exactly data; raises Malformed for anything else, at a cost linear in data."""
    value, end = _decode(data, 0, DEPTH_MAX)
    if end != len(data):
        raise Malformed(f"{len(data) - end} bytes after the end of the value")
    return value


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes((major | argument,))
    if argument < 0x100:
        return bytes((major | 24, argument))
    if argument < 0x10000:
        return bytes((major | 25,)) + argument.to_bytes(2, "big")
    if argument < 0x100000000:
        return bytes((major | 26,)) + argument.to_bytes(4, "big")
    return bytes((major | 27,)) + argument.to_bytes(8, "big")


def _encode_int(value: int) -> bytes:
    if value > _UINT64_MAX or value < -_UINT64_MAX - 1:
        raise Malformed("an integer beyond 64 bits has no encoding")
    return _head(0x00, value) if value >= 0 else _head(0x20, -1 - value)


def _encode_text(value: str) -> bytes:
    try:
        raw = value.encode()
    except UnicodeEncodeError as error:
        raise Malformed("text with a lone surrogate has no encoding") from error
    return _head(0x60, len(raw)) + raw


def _encode(value: Value, out: list[bytes], depth: int) -> None:
    match value:
        case bool():
            out.append(_TRUE if value else _FALSE)
        case int():
            out.append(_encode_int(value))
        case bytes():
            out.append(_head(0x40, len(value)))
            out.append(value)
        case str():
            out.append(_encode_text(value))
        case None:
            out.append(_NULL)
        case list() | tuple():
            _enter(depth)
            out.append(_head(0x80, len(value)))
            for item in value:
                _encode(item, out, depth - 1)
        case dict():
            _enter(depth)
            out.append(_head(0xA0, len(value)))
            for key, item in sorted((_encode_key(key), item) for key, item in value.items()):
                out.append(key)
                _encode(item, out, depth - 1)
        case _:
            raise Malformed(f"a {type(value).__name__} has no encoding")


def _encode_key(key: object) -> bytes:
    match key:
        case bool():
            raise Malformed("a map key is an integer or text")
        case int():
            return _encode_int(key)
        case str():
            return _encode_text(key)
        case _:
            raise Malformed("a map key is an integer or text")


def _enter(depth: int) -> None:
    if depth <= 0:
        raise Malformed(f"nested deeper than {DEPTH_MAX}")


def _argument(data: bytes, at: int) -> tuple[int, int]:
    """The argument of the head at a position and where the head ends; refuses any head but the shortest."""
    low = data[at] & 0x1F
    if low < 24:
        return low, at + 1
    if low > 27:
        raise Malformed("indefinite lengths and reserved heads are not canonical")
    width = 1 << (low - 24)
    end = at + 1 + width
    if end > len(data):
        raise Malformed("the data ends inside a head")
    argument = int.from_bytes(data[at + 1 : end], "big")
    if argument < (24 if width == 1 else 1 << (4 * width)):
        raise Malformed("a head longer than it needs to be is not canonical")
    return argument, end


def _span(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise Malformed("the data ends inside a string")
    return data[at : at + size]


def _decode(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    if at >= len(data):
        raise Malformed("the data ends where a value was due")
    return _DECODERS[data[at] >> 5](data, at, depth)


def _decode_unsigned(data: bytes, at: int, _depth: int) -> tuple[Value, int]:
    return _argument(data, at)


def _decode_negative(data: bytes, at: int, _depth: int) -> tuple[Value, int]:
    argument, at = _argument(data, at)
    return -1 - argument, at


def _decode_bytes(data: bytes, at: int, _depth: int) -> tuple[Value, int]:
    size, at = _argument(data, at)
    return bytes(_span(data, at, size)), at + size


def _decode_text(data: bytes, at: int, _depth: int) -> tuple[Value, int]:
    size, at = _argument(data, at)
    try:
        return _span(data, at, size).decode(), at + size
    except UnicodeDecodeError as error:
        raise Malformed("text that is not UTF-8") from error


def _decode_array(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    _enter(depth)
    count, at = _argument(data, at)
    if count > len(data) - at:  # each item takes a byte at least: refuse before a list of that length exists
        raise Malformed("an array announces more items than there are bytes")
    items: list[Value] = []
    for _ in range(count):
        item, at = _decode(data, at, depth - 1)
        items.append(item)
    return items, at


def _decode_map(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    _enter(depth)
    count, at = _argument(data, at)
    if 2 * count > len(data) - at:
        raise Malformed("a map announces more entries than there are bytes")
    entries: dict[int | str, Value] = {}
    last = b""
    for _ in range(count):
        start = at
        key, at = _decode(data, at, depth - 1)
        if isinstance(key, bool) or not isinstance(key, (int, str)):
            raise Malformed("a map key is an integer or text")
        spelled = data[start:at]
        if spelled <= last:
            raise Malformed("map keys are repeated or out of order")
        last = spelled
        entries[key], at = _decode(data, at, depth - 1)
    return entries, at


def _decode_tag(_data: bytes, _at: int, _depth: int) -> tuple[Value, int]:
    raise Malformed("tags are not part of the encoding")


def _decode_simple(data: bytes, at: int, _depth: int) -> tuple[Value, int]:
    match data[at]:
        case 0xF4:
            return False, at + 1
        case 0xF5:
            return True, at + 1
        case 0xF6:
            return None, at + 1
        case _:
            raise Malformed("floats and other simple values are not part of the encoding")


_DECODERS: Final[tuple[Callable[[bytes, int, int], tuple[Value, int]], ...]] = (
    _decode_unsigned,
    _decode_negative,
    _decode_bytes,
    _decode_text,
    _decode_array,
    _decode_map,
    _decode_tag,
    _decode_simple,
)
