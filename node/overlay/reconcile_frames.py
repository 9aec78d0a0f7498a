"""The messages of anti-entropy: what two replicas say to each other to find and carry over what one of them lacks.

A frame is a version byte and one canonical CBOR array, its first item the kind. One exchange is one of three pairs:

    AskRanges     is your fingerprint of these ranges of authors mine too?
      TellRanges    of those that differ: cut here, with these counts and fingerprints; or no cuts: few, fetch them
    FetchEntries  of these ranges I have the entries of these marks: give me the others
      GiveEntries   some of them, how far they reach, and which of yours I lack
    PushEntries   entries for you
      TookEntries   so many were new

Every field has a cap, ranges in one message are in order and disjoint, so that answering costs one pass at most over
what is held. Decoding raises Malformed. Source: DESIGN §5; range-based set reconciliation (Meyer, arXiv 2212.13567).
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from consensus.encoding import Malformed, Value, decode, encode
from node.overlay.entries import ENTRY_BYTES_MAX, MARK, LogName

VERSION: Final = 1
FRAME_BYTES_MAX: Final = 160 << 10
"""Under the 256 KB that may be in flight on one stream (DESIGN §4)."""
RANGES_MAX: Final = 32
CUTS_MAX: Final = 16
HAVES_MAX: Final = 1024
"""Marks in one FetchEntries, all ranges together."""
ENTRIES_MAX: Final = 64
"""Entries in one frame: 64 signatures take 4 ms to check."""
ENTRIES_BYTES_MAX: Final = 128 << 10
"""Bytes of entries that we put in one frame."""
BOUND_MAX: Final = 33
"""Bytes of a bound: an author and a zero byte is the first thing above that author."""
_COUNT_MAX: Final = 1 << 20


class Span(NamedTuple):
    """The authors from low up to before high under one log name; high None is above all."""

    log: LogName
    low: bytes
    high: bytes | None


class AskRanges(NamedTuple):
    """≤ 32 spans, each with the asker's fingerprint."""

    spans: tuple[Span, ...]
    marks: tuple[bytes, ...]


class Cuts(NamedTuple):
    """A span in ≤ 16 pieces: the bounds between them, and each one's count of authors and fingerprint; or no pieces."""

    bounds: tuple[bytes, ...]
    counts: tuple[int, ...]
    marks: tuple[bytes, ...]


class TellRanges(NamedTuple):
    """Of the spans that differ: their positions in the question, and their cuts."""

    parts: tuple[tuple[int, Cuts], ...]


class FetchEntries(NamedTuple):
    """≤ 32 spans, each with the marks of what the asker has of it, in order; ≤ 1,024 marks."""

    spans: tuple[Span, ...]
    haves: tuple[bytes, ...]
    """The marks of one span in one byte string."""


class GiveEntries(NamedTuple):
    """For each span: the bound from which to go on, None when it is done; a bit for each have, set when it is lacked."""

    reached: tuple[bytes | None, ...]
    lacks: tuple[bytes, ...]
    entries: tuple[bytes, ...]


class PushEntries(NamedTuple):
    """≤ 64 signed entries."""

    entries: tuple[bytes, ...]


class TookEntries(NamedTuple):
    """How many of the pushed entries were new."""

    taken: int


Message: TypeAlias = AskRanges | TellRanges | FetchEntries | GiveEntries | PushEntries | TookEntries


def write_frame(message: Message) -> bytes:
    """The frame of a message."""
    body: list[Value]
    match message:
        case AskRanges(spans, marks):
            body = [0, [[*span, held] for span, held in zip(spans, marks, strict=True)]]
        case TellRanges(parts):
            body = [1, [[at, list(cuts.bounds), list(cuts.counts), b"".join(cuts.marks)] for at, cuts in parts]]
        case FetchEntries(spans, haves):
            body = [2, [[*span, held] for span, held in zip(spans, haves, strict=True)]]
        case GiveEntries(reached, lacks, entries):
            body = [3, [list(part) for part in zip(reached, lacks, strict=True)], list(entries)]
        case PushEntries(entries):
            body = [4, list(entries)]
        case TookEntries(taken):
            body = [5, taken]
    return bytes((VERSION,)) + encode(body)


def read_frame(frame: bytes) -> Message:
    """The message that a frame spells; raises Malformed for every other."""
    if len(frame) > FRAME_BYTES_MAX:
        raise Malformed(f"a frame of {len(frame)} bytes; {FRAME_BYTES_MAX} at most")
    if not frame or frame[0] != VERSION:
        raise Malformed(f"a frame of version {frame[0] if frame else 'none'}; this program reads version {VERSION}")
    match decode(frame[1:]):
        case [int(kind), *fields] if type(kind) is int and 0 <= kind < len(_READERS):
            return _READERS[kind](fields)
        case _:
            raise Malformed("no message of anti-entropy")


def _read_spans(value: Value) -> tuple[tuple[Span, ...], tuple[bytes, ...]]:
    spans: list[Span] = []
    held: list[bytes] = []
    for item in _items(value, RANGES_MAX):
        match item:
            case [int(log), bytes(low), (bytes() | None) as high, bytes(marks)] if type(log) is int and log in _LOGS:
                spans.append(Span(_LOGS[log], low, high))
                held.append(marks)
            case _:
                raise Malformed("no span")
        if len(low) > BOUND_MAX or (high is not None and (len(high) > BOUND_MAX or high <= low)):
            raise Malformed("bounds out of order or too long")
    for before, after in pairwise(spans):
        if (before.log, before.high or b"\xff" * 34) > (after.log, after.low):
            raise Malformed("spans out of order")
    if not spans:
        raise Malformed("a question about nothing")
    return tuple(spans), tuple(held)


def _read_ask(fields: list[Value]) -> Message:
    spans, marks = _read_spans(_only(fields))
    if any(len(mark) != MARK for mark in marks):
        raise Malformed("a fingerprint of another size")
    return AskRanges(spans, marks)


def _read_tell(fields: list[Value]) -> Message:
    parts: list[tuple[int, Cuts]] = []
    for item in _items(_only(fields), RANGES_MAX):
        match item:
            case [int(at), list(bounds), list(counts), bytes(marks)]:
                parts.append((_number(at, RANGES_MAX - 1), _read_cuts(bounds, counts, marks)))
            case _:
                raise Malformed("no cuts of a span")
    if any(before[0] >= after[0] for before, after in pairwise(parts)):
        raise Malformed("parts out of order")
    return TellRanges(tuple(parts))


def _read_cuts(bounds: list[Value], counts: list[Value], marks: bytes) -> Cuts:
    pieces = len(counts)
    if pieces > CUTS_MAX or len(marks) != pieces * MARK or len(bounds) != max(0, pieces - 1):
        raise Malformed("cuts that do not fit each other")
    return Cuts(
        tuple(_bytes(bound, BOUND_MAX) for bound in bounds),
        tuple(_number(count, _COUNT_MAX) for count in counts),
        tuple(marks[at : at + MARK] for at in range(0, len(marks), MARK)),
    )


def _read_fetch(fields: list[Value]) -> Message:
    spans, haves = _read_spans(_only(fields))
    if any(len(held) % MARK for held in haves) or sum(map(len, haves)) > HAVES_MAX * MARK:
        raise Malformed("marks of another size, or too many")
    return FetchEntries(spans, haves)


def _read_give(fields: list[Value]) -> Message:
    match fields:
        case [list(parts), list(entries)]:
            pass
        case _:
            raise Malformed("nothing given")
    reached: list[bytes | None] = []
    lacks: list[bytes] = []
    for item in _items(parts, RANGES_MAX):
        match item:
            case [(bytes() | None) as bound, bytes(bits)]:
                reached.append(None if bound is None else _bytes(bound, BOUND_MAX))
                lacks.append(_bytes(bits, HAVES_MAX // 8))
            case _:
                raise Malformed("no answer for a span")
    return GiveEntries(tuple(reached), tuple(lacks), _read_entries(entries))


def _read_push(fields: list[Value]) -> Message:
    return PushEntries(_read_entries(_only(fields)))


def _read_took(fields: list[Value]) -> Message:
    return TookEntries(_number(_only(fields), ENTRIES_MAX))


def _read_entries(value: Value) -> tuple[bytes, ...]:
    return tuple(_bytes(item, ENTRY_BYTES_MAX) for item in _items(value, ENTRIES_MAX))


def _only(fields: list[Value]) -> Value:
    if len(fields) != 1:
        raise Malformed("more or fewer fields than the message has")
    return fields[0]


def _items(value: Value, most: int) -> list[Value]:
    if not isinstance(value, list) or len(value) > most:
        raise Malformed(f"no list of {most} at most")
    return value


def _bytes(value: Value, most: int) -> bytes:
    if not isinstance(value, bytes) or len(value) > most:
        raise Malformed(f"no {most} bytes at most")
    return value


def _number(value: Value, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise Malformed(f"no number from 0 to {most}")
    return value


_LOGS: Final = {int(log): log for log in LogName}
_READERS: Final[tuple[Callable[[list[Value]], Message], ...]] = (
    _read_ask,
    _read_tell,
    _read_fetch,
    _read_give,
    _read_push,
    _read_took,
)
