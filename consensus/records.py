"""Frozen dataclasses to canonical bytes and back, checked field by field on the way in.

A record is a map from field name to value, plus "v", its version: `class Head: VERSION: ClassVar = 1`. Limits stand in
the type: `Annotated[bytes, Size(32)]`, `Annotated[str, Most(200)]`, `Annotated[int, Between(0, 9)]`; a plain int is
0 ≤ n < 2⁶⁴. What comes out of `unpack` satisfies them all, so that nobody needs to check again.
"""

import types
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from consensus.encoding import Malformed, Value, decode, encode

Record = TypeVar("Record")
_Reader = Callable[[Value], Any]
_Writer = Callable[[Any], Value]


@dataclass(frozen=True, slots=True)
class Size:
    """Exactly so many bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class Most:
    """At most so many bytes, characters or items."""

    count: int


@dataclass(frozen=True, slots=True)
class Between:
    """An integer from low to high, both included."""

    low: int
    high: int


def pack(record: Any) -> bytes:
    """The canonical bytes of a record; raises Malformed if a field breaks its own limits."""
    return encode(to_value(record))


def unpack(kind: type[Record], data: bytes) -> Record:
    """The record of that kind which data spells; raises Malformed for every other byte string."""
    return from_value(kind, decode(data))


def to_value(record: Any) -> Value:
    """The record as a map of plain values, for embedding in a larger one or for rendering."""
    kind: Any = type(record)
    return _codec(kind)[1](record)


def from_value(kind: type[Record], value: Value) -> Record:
    """The record that a decoded map spells; raises Malformed."""
    hashable: Any = kind
    result: Record = _codec(hashable)[0](value)
    return result


@cache
def _codec(kind: Any) -> tuple[_Reader, _Writer]:
    hints = get_type_hints(kind, include_extras=True)
    version = kind.VERSION
    plan = [(field.name, *_field(hints[field.name], f"{kind.__name__}.{field.name}")) for field in fields(kind)]
    names = {"v", *(name for name, _, _ in plan)}

    def read(value: Value) -> Any:
        if not isinstance(value, dict) or value.keys() != names:
            raise Malformed(f"not the fields of a {kind.__name__}")
        spoken = value["v"]
        if type(spoken) is not int:
            raise Malformed(f"the version of a {kind.__name__} is not int")
        if spoken != version:
            raise Malformed(f"{kind.__name__} of version {spoken}; this program reads version {version}")
        return kind(**{name: reader(value[name]) for name, reader, _ in plan})

    def write(record: Any) -> Value:
        value: dict[int | str, Value] = {name: writer(getattr(record, name)) for name, _, writer in plan}
        value["v"] = version
        return value

    return read, write


def _field(hint: Any, where: str) -> tuple[_Reader, _Writer]:
    limits: tuple[Any, ...] = ()
    while True:
        if get_origin(hint) is Annotated:
            hint, *more = get_args(hint)
            limits += tuple(more)
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        else:
            break
    if get_origin(hint) in (Union, types.UnionType):
        return _optional(hint, limits, where)
    if get_origin(hint) is tuple:
        return _tuple(get_args(hint), limits, where)
    if hint in (int, bytes, str, bool):
        return _plain(hint, limits, where)
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return _enum(hint, where)
    return _codec(hint)


def _plain(kind: Any, limits: tuple[Any, ...], where: str) -> tuple[_Reader, _Writer]:
    if kind is int and not limits:
        limits = (Between(0, (1 << 64) - 1),)

    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise Malformed(f"{where} is not {kind.__name__}")
        for limit in limits:
            match limit:
                case Size(size):
                    fits = len(value) == size
                case Most(count):
                    fits = len(value) <= count
                case Between(low, high):
                    fits = low <= value <= high
                case _:
                    raise TypeError(f"{where}: {limit!r} is no limit")
            if not fits:
                raise Malformed(f"{where} breaks its limit {limit}")
        return value

    return check, check


def _enum(kind: type[IntEnum], where: str) -> tuple[_Reader, _Writer]:
    def read(value: Value) -> Any:
        if type(value) is not int or value not in kind.__members__.values():
            raise Malformed(f"{where} is no {kind.__name__}")
        return kind(value)

    return read, lambda value: int(read(int(value)))


def _optional(hint: Any, limits: tuple[Any, ...], where: str) -> tuple[_Reader, _Writer]:
    (inner,) = (arm for arm in get_args(hint) if arm is not type(None))
    read, write = _field(Annotated[(inner, *limits)] if limits else inner, where)
    return (lambda value: None if value is None else read(value)), (lambda v: None if v is None else write(v))


def _tuple(arms: tuple[Any, ...], limits: tuple[Any, ...], where: str) -> tuple[_Reader, _Writer]:
    if len(arms) != 2 or arms[1] is not Ellipsis:
        raise TypeError(f"{where}: only tuple[T, ...] has an encoding")
    read, write = _field(arms[0], where)
    most = next((limit.count for limit in limits if isinstance(limit, Most)), None)

    def check(count: int) -> None:
        if most is not None and count > most:
            raise Malformed(f"{where} has {count} items, {most} at most")

    def read_all(value: Value) -> Any:
        if not isinstance(value, list):
            raise Malformed(f"{where} is not an array")
        check(len(value))
        return tuple(read(item) for item in value)

    def write_all(items: Any) -> Value:
        check(len(items))
        return [write(item) for item in items]

    return read_all, write_all
