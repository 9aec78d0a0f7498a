"""Comparing two replicas range by range: what the one who answers says, and how the one who asked goes on.

All of it are functions of what a node holds and of one message; nothing is kept from one message to the next. Functions
that read an answer raise Malformed when it does not fit the question.
"""

from itertools import pairwise

from consensus.encoding import Malformed
from consensus.ids import NodeId
from node.overlay.entries import MARK, LogItem, LogName
from node.overlay.logs import Logs
from node.overlay.reconcile_frames import (
    CUTS_MAX,
    ENTRIES_BYTES_MAX,
    ENTRIES_MAX,
    AskRanges,
    Cuts,
    FetchEntries,
    GiveEntries,
    Span,
    TellRanges,
)
from node.overlay.shelf import Shelf

_SCAN = 1024
"""Authors of the directory that one look for owners goes through."""


WHOLE = (Span(LogName.DIRECTORY, b"", None), Span(LogName.INDEX, b"", None))
"""What a repair begins with: all there is."""


def point(author: NodeId) -> Span:
    """The span of one author's index."""
    return Span(LogName.INDEX, author, author + b"\x00")


def order(span: Span) -> tuple[int, bytes]:
    """Spans stand in a message by log, then by author."""
    return span.log, span.low


def covers(span: Span, item: LogItem) -> bool:
    """Whether an entry belongs to a span."""
    return item.log is span.log and span.low <= item.author and (span.high is None or item.author < span.high)


def ask(logs: Logs, spans: list[Span]) -> AskRanges:
    """The question whether a peer holds the same in these spans, which are in order."""
    marks: list[bytes] = []
    for span in spans:
        shelf = logs.shelf(span.log)
        marks.append(shelf.fingerprint(*shelf.span(span.low, span.high)))
    return AskRanges(tuple(spans), tuple(marks))


def tell(logs: Logs, spans: tuple[Span, ...], marks: tuple[bytes, ...], leaf: int) -> TellRanges:
    """The spans that differ; those of the directory cut if they hold more than `leaf` authors here.

    Indexes are compared each by itself: nodes keep different ones. One that is not kept here is no difference.
    """
    parts: list[tuple[int, Cuts]] = []
    for at, (span, mark) in enumerate(zip(spans, marks, strict=True)):
        shelf = logs.shelf(span.log)
        start, end = shelf.span(span.low, span.high)
        if shelf.fingerprint(start, end) == mark:
            continue
        if span.log is LogName.INDEX and start == end and not _keeps(logs, span):
            continue
        if span.log is LogName.INDEX or end - start <= leaf:
            parts.append((at, Cuts((), (), ())))
            continue
        places = _places(start, end)
        bounds = tuple(_between(shelf.authors[place - 1], shelf.authors[place]) for place in places[1:-1])
        edges = list(pairwise(places))
        counts = tuple(above - below for below, above in edges)
        parts.append((at, Cuts(bounds, counts, tuple(shelf.fingerprint(*edge) for edge in edges))))
    return TellRanges(tuple(parts))


def pieces(spans: tuple[Span, ...], parts: tuple[tuple[int, Cuts], ...]) -> list[tuple[Span, int, bytes]]:
    """What a TellRanges says of each piece of what was asked: count and fingerprint; 0 and nothing, of a span not cut."""
    found: list[tuple[Span, int, bytes]] = []
    for at, cuts in parts:
        if at >= len(spans):
            raise Malformed("an answer for a range that was not asked")
        log, low, high = spans[at]
        if not cuts.counts:
            found.append((spans[at], 0, b""))
            continue
        below = low
        for bound, count, mark in zip((*cuts.bounds, high), cuts.counts, cuts.marks, strict=True):
            if bound is not high and not (bound is not None and below < bound and (high is None or bound < high)):
                raise Malformed("cuts outside the range that was asked")
            found.append((Span(log, below, bound), count, mark))
            below = bound or b""
    return found


def finer(shelf: Shelf, span: Span, start: int, end: int) -> list[Span]:
    """A span, which is the positions from start to end, in at most 16 pieces of as many authors each."""
    places = _places(start, end)
    bounds = [_between(shelf.authors[place - 1], shelf.authors[place]) for place in places[1:-1]]
    edges = zip([span.low, *bounds], [*bounds, span.high], strict=True)
    return [Span(span.log, low, high) for low, high in edges]


def give(logs: Logs, spans: tuple[Span, ...], haves: tuple[bytes, ...], size: int) -> GiveEntries:
    """Entries that the asker lacks, ≤ size bytes and a frame's worth of them, and which of its own are lacked here."""
    size = min(size, ENTRIES_BYTES_MAX)
    entries: list[bytes] = []
    reached: list[bytes | None] = []
    lacks: list[bytes] = []
    for span, held in zip(spans, haves, strict=True):
        shelf = logs.shelf(span.log)
        start, end = shelf.span(span.low, span.high)
        marks = [held[at : at + MARK] for at in range(0, len(held), MARK)]
        known = frozenset(marks)
        stop: bytes | None = None
        for item in shelf.items(start, end):
            if item.digest[:MARK] in known:
                continue
            if len(entries) == ENTRIES_MAX or len(item.raw) > size:
                stop = item.author
                break
            entries.append(item.raw)
            size -= len(item.raw)
        reached.append(stop)
        lacks.append(_lacked(logs, span, marks))
    return GiveEntries(tuple(reached), tuple(lacks), tuple(entries))


def left_over(fetch: FetchEntries, given: GiveEntries) -> tuple[list[Span], bool]:
    """What is still to be fetched after an answer, and whether the answer got anywhere."""
    if len(given.reached) != len(fetch.spans):
        raise Malformed("an answer for other ranges")
    rest: list[Span] = []
    advanced = False
    for span, reached, haves, bits in zip(fetch.spans, given.reached, fetch.haves, given.lacks, strict=True):
        marks = len(haves) // MARK
        if len(bits) != (marks + 7) // 8 or int.from_bytes(bits, "little") >> marks:
            raise Malformed("lacks other than what we have")
        if reached is None:
            continue
        if reached < span.low or (span.high is not None and reached >= span.high):
            raise Malformed("an answer that goes beyond its range")
        advanced |= reached > span.low
        rest.append(Span(span.log, reached, span.high))
    return rest, advanced


def owners(logs: Logs, after: bytes, most: int) -> tuple[list[NodeId], bytes]:
    """The next owners whose index is kept here, held or only listed in the directory, and where to go on; b"" anew."""
    pages = [logs.index.page(after, _SCAN)]
    if logs.keeps_others:
        pages.append(logs.directory.page(after, _SCAN))
    ends = [page[-1] for page in pages if len(page) == _SCAN]
    seen = sorted(dict.fromkeys([author for page in pages for author in page if not ends or author <= min(ends)]))
    chosen: list[NodeId] = []
    for author in seen:
        if logs.wanted(LogName.INDEX, author):
            chosen.append(author)
            if len(chosen) == most:
                return chosen, author
    return chosen, seen[-1] if ends else b""


def _keeps(logs: Logs, span: Span) -> bool:
    if span.high is None:
        return logs.keeps_others
    return logs.wanted(span.log, NodeId(span.low))


def _lacked(logs: Logs, span: Span, marks: list[bytes]) -> bytes:
    if not marks:
        return b""
    shelf = logs.shelf(span.log)
    ours = {item.digest[:MARK] for item in shelf.items(*shelf.span(span.low, span.high))}
    ours.update(logs.declined(span.log, span.low, span.high))
    lacking = sum([1 << at for at, mark in enumerate(marks) if mark not in ours])
    return lacking.to_bytes((len(marks) + 7) // 8, "little")


def _places(start: int, end: int) -> list[int]:
    """The positions that cut a range into 16 pieces, or into its authors when they are fewer; both ends included."""
    count = end - start
    cuts = max(1, min(CUTS_MAX, count))
    return [start + count * cut // cuts for cut in range(cuts + 1)]


def _between(below: bytes, above: bytes) -> bytes:
    """The shortest bound that is above one author and not above the next."""
    for size in range(1, len(above)):
        if above[:size] > below:
            return above[:size]
    return above
