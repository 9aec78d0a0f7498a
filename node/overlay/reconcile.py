"""Anti-entropy: every node keeps comparing what it holds with one peer after another, and both get what they lack.

Push gossip alone misses nodes even without loss (DESIGN §3). So each interval a node opens a *repair* with the connected
peer that waited longest; ties go by the rng. Only who opens it drives it, who answers keeps nothing between two frames:

    1  is all of yours as mine?         two fingerprints; if equal, as nearly always, it is over: 51 bytes there, 4 back
    2  cut the directory, by turns      16 pieces each, so two levels a round trip, until ≤ 64 authors are left
    3  fetch                            our marks of that range; the answer holds what we lack and says what the peer lacks
    4  push                             what the peer lacks
    5  the same for index logs          a page of owners we keep, each on its own: nodes keep different ones

Ranges by rank, not per-author vectors: a vector of 10,000 authors is 160 KB each time, this finds k differences in
O(k log n). Not a prefix tree: authors choose their ids, and could make one branch hold everything.

**Convergence.** One completed repair leaves both partners with the join of their directories, and of the indexes that
both keep and that the opener holds or finds in its directory (of a directory of 10,000, a tenth a repair). A node opens
one with each of its d partners in d rounds, and so do they. So after faults end, all nodes of a connected network hold
the same after at most d × diameter rounds, whatever the rng; on average after O(log n).

**Nothing is believed.** Entries go through Logs.check; a frame with one bad entry is refused whole. Counts and
fingerprints only steer; a liar wastes STEPS exchanges of ours at the most, one repair at a time, and then waits its turn.
An exchange that nobody answers ends with the next round, and what was learned until then stays learned.

Source: DESIGN §4 (in flight), §5 (anti-entropy).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from consensus.encoding import Malformed
from consensus.ids import Millis, NodeId
from node.overlay.entries import MARK, LogItem, find
from node.overlay.logs import REJECT, Checked, Learned, Logs, Out
from node.overlay.machine import CancelTimer, Channel, Noted, Rejected, Send, SetTimer, TimerKey
from node.overlay.ranges import WHOLE, ask, covers, finer, give, left_over, order, owners, pieces, point, tell
from node.overlay.reconcile_frames import (
    ENTRIES_BYTES_MAX,
    ENTRIES_MAX,
    HAVES_MAX,
    RANGES_MAX,
    AskRanges,
    Cuts,
    FetchEntries,
    GiveEntries,
    Message,
    PushEntries,
    Span,
    TellRanges,
    TookEntries,
    read_frame,
    write_frame,
)

if TYPE_CHECKING:
    from random import Random

ROUND: TimerKey = ("reconcile", "round")
EQUAL: Final = write_frame(TellRanges(()))
_MINUTE: Final = 60_000


@dataclass(frozen=True, slots=True)
class ReconcileLimits:
    """How often and how much; the defaults are for Tor."""

    interval_ms: int = 60_000
    """Between two rounds, ± a quarter; an idle round costs 55 bytes of payload."""
    retry_ms: int = 5_000
    """After a repair that did not end well; doubles up to the interval."""
    wait_ms: int = 45_000
    """For an answer: DESIGN §4 calls a peer dead after as much."""
    repair_ms: int = 600_000
    """A whole repair; a newcomer's takes 160 exchanges for 10,000 entries, ~4 minutes over Tor."""
    repairs: int = 2
    """At a time: a second one lest a silent peer stops all, no more because they would fetch the same."""
    steps: int = 512
    """Exchanges of one repair."""
    pending: int = 1024
    """Spans and entries that wait within one repair; what is beyond is left to the next."""
    leaf: int = 64
    """Authors in a range that is not cut any more."""
    owners: int = 256
    """Index logs that one repair compares, 70 bytes each, where the two nodes do not keep just the same."""
    partners: int = 256
    requests: int = 600
    """Of one peer in a minute."""
    bytes: int = 8 << 20
    """Of entries to and from one peer in a minute: its whole directory."""


class Reconciled(NamedTuple):
    """Fact: a repair found a difference, or did not end well."""

    peer: NodeId
    complete: bool
    learned: int
    pushed: int
    exchanges: int


@dataclass(slots=True)
class _Repair:
    exchange: int
    deadline: Millis
    ends: Millis
    asked: Message
    indexes: bool = False
    """Whether index logs are still to be compared, owner by owner."""
    asks: list[Span] = field(default_factory=list)
    fetches: list[Span] = field(default_factory=list)
    pushes: list[LogItem] = field(default_factory=list)
    haves: list[list[LogItem]] = field(default_factory=list)
    """What stands behind the marks of the FetchEntries that is out, a list each span."""
    steps: int = 1
    learned: int = 0
    pushed: int = 0
    cut_short: bool = False


@dataclass(slots=True)
class _Partner:
    visited: int = 0
    repair: _Repair | None = None
    minute: int = -1
    requests: int = 0
    bytes: int = 0


class Reconcile:
    """The anti-entropy of one node over its Logs."""

    def __init__(
        self,
        logs: Logs,
        rng: "Random",
        next_exchange: Callable[[], int],
        limits: ReconcileLimits | None = None,
    ) -> None:
        self._logs, self._rng, self._next_exchange = logs, rng, next_exchange
        self._limits = limits or ReconcileLimits()
        self._partners: dict[NodeId, _Partner] = {}
        self._round = 1
        self._running = 0
        self.compared: dict[NodeId, None] = {}
        """Peers with whom a repair has ended well, the first of them: what they kept of ours is here."""
        self._failures = 0
        self._owner = b""
        self._opening: tuple[tuple[bytes, bytes], bytes] = ((b"", b""), b"")

    def start(self, _now: Millis) -> list[Out]:
        """Nothing: rounds begin with the first peer."""
        return []

    def on_peer_up(self, now: Millis, peer: NodeId, dialled: bool) -> list[Out]:
        """Who dialled compares at once if it is not comparing already; who was dialled in its turn."""
        if peer in self._partners or len(self._partners) >= self._limits.partners:
            return []
        partner = self._partners[peer] = _Partner()
        out: list[Out] = [self._arm(now)] if len(self._partners) == 1 else []
        if dialled and not self._running:
            out += self._open(now, peer, partner, None)
        return out

    def on_peer_lost(self, _now: Millis, peer: NodeId) -> list[Out]:
        """A repair with that peer is over."""
        partner = self._partners.pop(peer, None)
        if partner is None:
            return []
        out = self._close(peer, partner, complete=False) if partner.repair is not None else []
        return out if self._partners else [*out, CancelTimer(ROUND)]

    def on_failed(self, now: Millis, peer: NodeId, exchange: int) -> list[Out]:
        """A repair that waits for that exchange is over; another partner's turn comes soon."""
        partner = self._partners.get(peer)
        if partner is None or partner.repair is None or partner.repair.exchange != exchange:
            return []
        return [*self._close(peer, partner, complete=False), self._arm(now)]

    def on_timer(self, now: Millis, key: TimerKey) -> list[Out]:
        """A round: repairs that nobody answers end, the partner that waited longest is next."""
        if key != ROUND or not self._partners:
            return []
        out: list[Out] = []
        idle: list[NodeId] = []
        longest = self._round
        for peer, partner in self._partners.items():
            repair = partner.repair
            if repair is not None:
                if now < repair.deadline and now < repair.ends:
                    continue
                out += self._close(peer, partner, complete=False)
            if partner.visited < longest:
                longest = partner.visited
                idle.clear()
            if partner.visited == longest:
                idle.append(peer)
        self._round += 1
        if idle and self._running < self._limits.repairs:
            peer = idle[self._rng.randrange(len(idle))]
            out += self._open(now, peer, self._partners[peer], None)
        out.append(self._arm(now))
        return out

    def nudge(self, now: Millis, author: NodeId, peers: int = 3) -> list[Out]:
        """Compare one owner's index with some partners now; for the parent, when Logs announced an entry of "index"."""
        idle = [peer for peer, partner in self._partners.items() if partner.repair is None]
        out: list[Out] = []
        for peer in self._rng.sample(idle, min(peers, len(idle), self._limits.repairs - self._running)):
            out += self._open(now, peer, self._partners[peer], author)
        return out

    def on_frame(self, now: Millis, peer: NodeId, frame: bytes, exchange: int) -> list[Out]:
        """An answer to us (exchange above 0) or a question (below)."""
        partner = self._partners.get(peer)
        if partner is None or exchange == 0:
            return [Noted(Rejected(peer, "a frame outside a connection or an exchange"))]
        repair = partner.repair
        try:
            if exchange < 0:
                return self._answer(now, peer, partner, frame, exchange)
            if repair is not None and repair.exchange == exchange:
                return self._hear(now, peer, partner, repair, frame)
        except Malformed as error:
            return [Noted(Rejected(peer, str(error)))]
        return [Noted(Rejected(peer, "an answer to no open exchange"))]

    # Who opens

    def _arm(self, now: Millis) -> SetTimer:
        limits = self._limits
        delay = limits.interval_ms
        if self._failures:
            delay = min(delay, limits.retry_ms << min(self._failures - 1, 16))
        return SetTimer(ROUND, Millis(now + delay * 3 // 4 + self._rng.randrange(delay // 2 + 1)))

    def _open(self, now: Millis, peer: NodeId, partner: _Partner, owner: NodeId | None) -> list[Out]:
        """Begin with everything, or with one owner's index."""
        if owner is None:
            frame = self._opening_frame()
            partner.visited = self._round
        else:
            frame = write_frame(ask(self._logs, [point(owner)]))
        spans = WHOLE if owner is None else (point(owner),)
        limits = self._limits
        deadline, ends = Millis(now + limits.wait_ms), Millis(now + limits.repair_ms)
        # An answer is checked against the spans alone, so the question's fingerprints are not kept.
        repair = partner.repair = _Repair(self._next_exchange(), deadline, ends, AskRanges(spans, ()))
        self._running += 1
        return [Send(peer, Channel.LOGS, frame, repair.exchange)]

    def _opening_frame(self) -> bytes:
        directory, index = self._logs.directory, self._logs.index
        marks = directory.fingerprint(0, len(directory.authors)), index.fingerprint(0, len(index.authors))
        if marks != self._opening[0]:
            self._opening = marks, write_frame(AskRanges(WHOLE, marks))
        return self._opening[1]

    def _close(self, peer: NodeId, partner: _Partner, *, complete: bool) -> list[Out]:
        repair = partner.repair
        partner.repair = None
        self._running -= 1
        self._failures = 0 if complete else self._failures + 1
        if complete and peer not in self.compared and len(self.compared) < self._limits.partners:
            self.compared[peer] = None
        if repair is None or (complete and repair.steps == 1):
            return []
        return [Noted(Reconciled(peer, complete, repair.learned, repair.pushed, repair.steps))]

    def _hear(self, now: Millis, peer: NodeId, partner: _Partner, repair: _Repair, frame: bytes) -> list[Out]:
        out: list[Out] = []
        if frame != EQUAL or not isinstance(repair.asked, AskRanges):
            match repair.asked, read_frame(frame):
                case AskRanges(spans, _), TellRanges(parts):
                    self._refine(repair, spans, parts)
                case FetchEntries() as fetch, GiveEntries() as given:
                    out = self._receive(now, peer, repair, fetch, given)
                case PushEntries(entries), TookEntries(taken) if taken <= len(entries):
                    repair.pushed += taken
                case _:
                    raise Malformed("an answer to another question")
        question = self._question(repair)
        if question is None or repair.steps >= self._limits.steps:
            complete = question is None and not repair.cut_short
            out += self._close(peer, partner, complete=complete)
            return out if complete else [*out, self._arm(now)]
        repair.asked = question
        repair.exchange = self._next_exchange()
        repair.deadline = Millis(now + self._limits.wait_ms)
        repair.steps += 1
        out.append(Send(peer, Channel.LOGS, write_frame(question), repair.exchange))
        return out

    def _question(self, repair: _Repair) -> Message | None:
        """What to ask next; None when all is done. Asks go first, which saves round trips, while fetches do not pile up."""
        if repair.fetches and not (repair.asks and len(repair.fetches) <= self._limits.pending // 2):
            return self._fetch(repair)
        if repair.pushes and not repair.asks:
            return self._push(repair)
        if not repair.asks and repair.indexes:
            repair.indexes = False
            repair.asks = self._owners()
        if not repair.asks:
            return None
        spans, repair.asks = repair.asks[-RANGES_MAX:], repair.asks[:-RANGES_MAX]
        return ask(self._logs, sorted(spans, key=order))

    def _owners(self) -> list[Span]:
        page, self._owner = owners(self._logs, self._owner, self._limits.owners)
        return [point(owner) for owner in page]

    def _refine(self, repair: _Repair, spans: tuple[Span, ...], parts: tuple[tuple[int, Cuts], ...]) -> None:
        """Go on with the ranges that differ; changes nothing before all parts are found to fit the question."""
        for span, count, mark in pieces(spans, parts):
            if span == WHOLE[1]:
                repair.indexes = True
                continue
            shelf = self._logs.shelf(span.log)
            start, end = shelf.span(span.low, span.high)
            if shelf.fingerprint(start, end) == mark:
                continue
            few = end - start <= self._limits.leaf or (count <= self._limits.leaf and end - start <= HAVES_MAX)
            spans_next = [span] if few else finer(shelf, span, start, end)
            queue = repair.fetches if few else repair.asks
            room = self._limits.pending - len(queue)
            queue += spans_next[: max(room, 0)]
            repair.cut_short |= len(spans_next) > room

    def _fetch(self, repair: _Repair) -> FetchEntries:
        chosen: list[tuple[Span, list[LogItem], bytes]] = []
        count = 0
        while repair.fetches and len(chosen) < RANGES_MAX:
            span = repair.fetches[-1]
            shelf = self._logs.shelf(span.log)
            items = list(shelf.items(*shelf.span(span.low, span.high)))[:HAVES_MAX]
            marks = [item.digest[:MARK] for item in items]
            marks += self._logs.declined(span.log, span.low, span.high)[: HAVES_MAX - len(items)]
            if chosen and count + len(marks) > HAVES_MAX:
                break
            count += len(marks)
            chosen.append((span, items, b"".join(marks)))
            repair.fetches.pop()
        chosen.sort(key=lambda part: order(part[0]))
        repair.haves = [items for _, items, _ in chosen]
        return FetchEntries(tuple(span for span, _, _ in chosen), tuple(marks for _, _, marks in chosen))

    def _push(self, repair: _Repair) -> PushEntries:
        entries: list[bytes] = []
        size = 0
        while repair.pushes and len(entries) < ENTRIES_MAX and size < ENTRIES_BYTES_MAX:
            entries.append(repair.pushes.pop().raw)
            size += len(entries[-1])
        return PushEntries(tuple(entries))

    def _receive(
        self, now: Millis, peer: NodeId, repair: _Repair, fetch: FetchEntries, given: GiveEntries
    ) -> list[Out]:
        """Take what a peer gives; changes nothing before all of it is found to be an answer to the question."""
        rest, advanced = left_over(fetch, given)
        checked = self._check_all(now, given.entries)
        for one in checked:
            if not any(covers(span, one.chain[0]) for span in fetch.spans):
                raise Malformed("an entry that was not asked for")
        out = self._admit_all(peer, checked)
        learned = _learned(out)
        repair.learned += learned
        if rest and (learned or (advanced and given.entries)):
            repair.fetches += rest
        elif rest:
            repair.cut_short = True
        for items, bits in zip(repair.haves, given.lacks, strict=True):
            lacking = int.from_bytes(bits, "little")
            for at, item in enumerate(items):
                if lacking >> at & 1 and find(self._logs.shelf(item.log).chain(item.author), item.seq) is item:
                    if len(repair.pushes) < self._limits.pending:
                        repair.pushes.append(item)
                    else:
                        repair.cut_short = True
        repair.haves = []
        return out

    # Who answers

    def _answer(self, now: Millis, peer: NodeId, partner: _Partner, frame: bytes, exchange: int) -> list[Out]:
        minute = now // _MINUTE
        requests, size = (partner.requests, partner.bytes) if minute == partner.minute else (0, 0)
        if requests >= self._limits.requests:
            raise Malformed(f"more than {self._limits.requests} questions in a minute")
        out: list[Out] = []
        answer = EQUAL
        if frame != self._opening_frame():
            match read_frame(frame):
                case AskRanges(spans, marks):
                    answer = write_frame(tell(self._logs, spans, marks, self._limits.leaf))
                case FetchEntries(spans, haves):
                    given = give(self._logs, spans, haves, self._limits.bytes - size)
                    answer = write_frame(given)
                    size += sum(map(len, given.entries))
                case PushEntries(entries):
                    size += sum(map(len, entries))
                    if size > self._limits.bytes:
                        raise Malformed(f"more than {self._limits.bytes} bytes of entries in a minute")
                    out = self._admit_all(peer, self._check_all(now, entries))
                    answer = write_frame(TookEntries(_learned(out)))
                case _:
                    raise Malformed("an answer where a question was due")
        partner.minute, partner.requests, partner.bytes = minute, requests + 1, size
        out.append(Send(peer, Channel.LOGS, answer, exchange))
        return out

    def _check_all(self, now: Millis, entries: tuple[bytes, ...]) -> list[Checked]:
        """Judge the entries of a frame; one that is invalid makes the whole frame so."""
        checked = [self._logs.check(now, entry) for entry in entries]
        for one in checked:
            if one.verdict is REJECT:
                raise Malformed(one.reason)
        return checked

    def _admit_all(self, peer: NodeId, checked: list[Checked]) -> list[Out]:
        out: list[Out] = []
        for one in checked:
            out += self._logs.admit(peer, one)
        return out


def _learned(out: list[Out]) -> int:
    return sum([isinstance(action, Noted) and isinstance(action.fact, Learned) for action in out])
