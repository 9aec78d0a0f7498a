"""The logs of all authors that this node holds: what is let in, kept, forgotten, and told.

Whatever brings an entry (gossip, anti-entropy, our own commands) it goes through `check`, which changes nothing, and then
`admit`. What is held is a function of the set of entries seen (see entries.py), as long as limits of this machine are not
reached: authors, and for the index all bytes. They are node-local and turn away newcomers, never those who are here.

Time enters in two places. An entry of an expiry beyond LIFETIME is refused. Expired ones vanish at whole hours, so that
nodes compare equal in between although their clocks differ; who reads sees them vanish at once. An author never lowers
its expiry, so what an expired entry replaced expired before it, and no tombstone is needed: to delete is to append an
empty body. An index entry lives as long as it says; the author moves its base before its oldest expires.

After a restore from a backup our next entry opens a new epoch (see pen.py). It replaces all of the old one, so the
restoring owner reads its log back from its peers first and appends it as a snapshot.

Source: DESIGN §4 (directory), §5 (logs).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from consensus.encoding import Malformed, decode, encode
from consensus.ids import Digest, Millis, Network, NodeId
from consensus.signing import KeyPair, domain
from node.overlay.entries import (
    DOMAIN,
    LIFETIME,
    MARK,
    Chain,
    LogItem,
    LogName,
    Opener,
    bodies,
    fork,
    merge,
    opener,
    signed_parts,
    written,
)
from node.overlay.machine import (
    Action,
    Finished,
    Noted,
    Persist,
    Rejected,
    SetTimer,
    TimerKey,
    Unreadable,
    Verify,
)
from node.overlay.pen import Append, AppendRefused, Pen
from node.overlay.shelf import Shelf

TABLE: Final = "logs"
DAY: Final = 86_400_000
SWEEP: TimerKey = ("logs", "sweep")

ACCEPT, REJECT, IGNORE = "accept", "reject", "ignore"
"""What gossip does with a message: pass on, count against who sent it, neither (gossipsub v1.1, extended validators)."""

_UNADMITTED, _UNWANTED, _FULL, _FORKS = "author not admitted", "not kept here", "no room", "loses to its fork"


@dataclass(frozen=True, slots=True)
class LogsLimits:
    """How much one node holds and lets in."""

    directory_authors: int = 10_000
    """DESIGN §4; beyond it a node that is new is not listed here."""
    index_authors: int = 256
    """Owners whose index we hold; each has 2 MiB at most, by the form of entries."""
    index_bytes: int = 128 << 20
    """From so many on no other owner is taken in."""
    sweep_ms: int = 3_600_000
    """Expired entries vanish at multiples of it: the same on all nodes."""
    slack_ms: int = DAY
    """How far an author's clock may be ahead of ours before its LIFETIME looks absurd."""
    declined: int = 1024
    """Entries of authors not admitted yet that we remember, so as not to be sent them in every exchange."""
    changes_window_ms: int = 600_000
    changes: int = 64
    """Entries of one author that gossip may bring in a window: a fork flood stops here, the latest comes by exchange."""
    snapshot_bytes: int = 1 << 20
    """Size of our own index log at which a snapshot is due (DESIGN §5)."""


class ReadDirectory(NamedTuple):
    """Command: an author's latest directory entry; answered by a LogEntry, or None."""

    author: NodeId


class ReadLog(NamedTuple):
    """Command: what is held of a log; answered by LogBodies."""

    author: NodeId
    log: LogName


class Announce(NamedTuple):
    """To the parent: an entry of ours is new. "directory" goes to that gossip topic, "index" to Reconcile.nudge."""

    topic: str
    data: bytes


class Learned(NamedTuple):
    """Fact: an entry is held that was not."""

    item: LogItem


class Forked(NamedTuple):
    """Fact, once an author and log: two signed entries that prove it wrote two histories."""

    author: NodeId
    log: LogName
    first: bytes
    second: bytes


class Unadmitted(NamedTuple):
    """Fact, once an entry: it was declined because its author is not admitted."""

    peer: NodeId
    author: NodeId


class Outrun(NamedTuple):
    """Fact: an entry signed by us turned up that we did not know; we go on in a new epoch."""

    log: LogName
    epoch: int


class SnapshotDue(NamedTuple):
    """Fact: our own log has grown past what it should hold between snapshots."""

    log: LogName
    size: int


class Checked(NamedTuple):
    """What `check` found: one of accept, reject, ignore, and why it is not accept."""

    verdict: str
    chain: Chain = ()
    reason: str = ""


_NEVER: Final = Millis((1 << 64) - 1)

Out: TypeAlias = Action | Announce
Records: TypeAlias = Iterable[tuple[tuple[int | str | bytes, ...], bytes]]


def _nobody(_author: NodeId) -> bool:
    return False


class Logs:
    """The logs of one node; `records` are the keys and values of its Persist actions so far, in any order."""

    def __init__(
        self,
        me: NodeId,
        keys: KeyPair,
        network: Network,
        verify: Verify,
        admitted: Callable[[NodeId], bool],
        *,
        keeps: Callable[[NodeId], bool] = _nobody,
        limits: LogsLimits | None = None,
        records: Records = (),
        restored: bool = False,
        first_epoch: int = 0,
        open_entry: Opener | None = None,
    ) -> None:
        self.me = me
        self.directory, self.index = Shelf(), Shelf()
        self._prefix = domain(DOMAIN, network)
        self._verify, self._admitted, self._keeps = verify, admitted, keeps
        self._limits = limits or LogsLimits()
        self._open = open_entry or opener(network)
        self._pen = Pen(me, keys, network, TABLE, first_epoch)
        self._forks: dict[tuple[LogName, NodeId], tuple[bytes, bytes]] = {}
        self._declined: dict[Digest, tuple[LogName, NodeId]] = {}
        self._changes: dict[NodeId, int] = {}
        self._window = 0
        self._sweep_at = 0
        self._unreadable = 0
        for key, value in records:
            self._load(key, value)
        self._resumed: list[Persist] = []
        for log in LogName:
            self._resumed += self._pen.resume(log, self.shelf(log).chain(me), restored=restored)

    def shelf(self, log: LogName) -> Shelf:
        """What is held under a log name; for reading."""
        return self.directory if log is LogName.DIRECTORY else self.index

    def wanted(self, log: LogName, author: NodeId) -> bool:
        """Whether entries of that log of that author are for this node."""
        if author == self.me:
            return True
        return self._admitted(author) and (log is LogName.DIRECTORY or self._keeps(author))

    def next_epoch(self, log: LogName) -> int:
        """The epoch of our next entry; if it is above that of what is held, the entry replaces all of that."""
        return self._pen.epoch(log)

    @property
    def keeps_others(self) -> bool:
        """Whether this node keeps the index of any owner but itself."""
        return self._keeps is not _nobody

    def forked(self, log: LogName, author: NodeId) -> tuple[bytes, bytes] | None:
        """The two signed entries that prove an author's fork, if it is flagged."""
        return self._forks.get((log, author))

    def declined(self, log: LogName, low: bytes, high: bytes | None) -> list[bytes]:
        """Marks of the entries of a range of authors that we do not want to be sent again; forgets those admitted since."""
        marks: list[bytes] = []
        for digest, (name, author) in list(self._declined.items()) if self._declined else ():
            if self._admitted(author):
                del self._declined[digest]
            elif name is log and author >= low and (high is None or author < high):
                marks.append(digest[:MARK])
        return marks

    # What the parent calls

    def start(self, now: Millis) -> list[Out]:
        """The first actions: what expired while we were away is forgotten."""
        out: list[Out] = [*self._resumed]
        if self._unreadable:
            out.append(Noted(Unreadable(self._unreadable)))
        return out + self._sweep(now, revising=True)

    def on_timer(self, now: Millis, key: TimerKey) -> list[Out]:
        """Forget what has expired."""
        return self._sweep(now) if key == SWEEP else []

    def on_clock(self, _now: Millis, _delta: int) -> list[Out]:
        """Nothing: `now` never goes back, and an hour more or less is within the slack of every rule here."""
        return []

    def on_command(self, now: Millis, call: int, order: object) -> list[Out]:
        """Append, ReadDirectory and ReadLog; raises TypeError for an order of another part."""
        match order:
            case Append():
                return self._append(now, call, order)
            case ReadDirectory(author):
                chain = self.directory.chain(author)
                live = chain and chain[0].expiry > now
                return [Finished(call, written(chain[0]) if live else None)]
            case ReadLog(author, log):
                return [Finished(call, bodies(self.shelf(log).chain(author), now))]
            case _:
                raise TypeError(f"{type(order).__name__} is no command of the logs")

    def on_gossip(self, now: Millis, author_peer: NodeId, data: bytes) -> tuple[str, list[Out]]:
        """What gossip is to do with a message of topic "directory" (accept, reject, ignore), and what follows from it."""
        checked = self.check(now, data)
        if checked.verdict is REJECT:
            return REJECT, [Noted(Rejected(author_peer, checked.reason))]
        if checked.verdict is ACCEPT:
            author = checked.chain[0].author
            window = now // self._limits.changes_window_ms
            if window != self._window:
                self._window = window
                self._changes.clear()
            changes = self._changes.get(author, 0)
            if changes >= self._limits.changes:
                return IGNORE, []
            self._changes[author] = changes + 1
        return checked.verdict, self.admit(author_peer, checked)

    def revise(self, now: Millis) -> list[Out]:
        """Forget the logs of authors that are admitted no longer; call it when the registry has changed."""
        return self._sweep(now, revising=True)

    # What is let in

    def check(self, now: Millis, data: bytes) -> Checked:
        """Judge a signed entry; changes nothing. Signatures are checked last, and only where something hangs on them."""
        try:
            alone = self._open(data)
        except Malformed as error:
            return Checked(REJECT, (), f"malformed entry: {error}")
        item = alone[0]
        log, author = item.log, item.author
        shelf = self.shelf(log)
        held = shelf.chain(author)
        verdict, reason = ACCEPT, ""
        if merge(held, alone) is held:
            if (log, author) in self._forks or fork(held, item) is None:
                return Checked(IGNORE, alone, "known or replaced")
            verdict, reason = IGNORE, _FORKS
        if item.expiry <= now - now % self._limits.sweep_ms:
            return Checked(IGNORE, alone, "expired")
        if item.expiry > now + LIFETIME + self._limits.slack_ms:
            return Checked(REJECT, alone, "an expiry in the absurd future")
        if author != self.me:
            if not self._admitted(author):
                return Checked(IGNORE, alone, _UNADMITTED)
            if log is LogName.INDEX and not self._keeps(author):
                return Checked(IGNORE, alone, _UNWANTED)
            if self._full(log, held):
                return Checked(IGNORE, alone, _FULL)
        signature, body = signed_parts(item)
        if not self._verify(author, signature, self._prefix + body):
            return Checked(REJECT, alone, "an entry that its author did not sign")
        return Checked(verdict, alone, reason)

    def admit(self, peer: NodeId, checked: Checked) -> list[Out]:
        """Take what `check` let pass; of entries that were checked together the later ones see the earlier ones."""
        if checked.verdict is not ACCEPT and checked.reason is not _FORKS:
            return self._decline(peer, checked.chain[0]) if checked.reason is _UNADMITTED else []
        item = checked.chain[0]
        shelf = self.shelf(item.log)
        held = shelf.chain(item.author)
        if item.author != self.me and self._full(item.log, held):
            return []
        rival = fork(held, item)
        out = self._flag(rival, item) if rival is not None else []
        out += self._take(shelf, held, checked.chain)
        if item.author == self.me and (moved := self._pen.meet(item, rival=rival is not None)):
            out += [moved, Noted(Outrun(item.log, self._pen.epoch(item.log)))]
        return out

    def _full(self, log: LogName, held: Chain) -> bool:
        if held:
            return False
        if log is LogName.DIRECTORY:
            return len(self.directory.authors) >= self._limits.directory_authors
        return len(self.index.authors) >= self._limits.index_authors or self.index.size >= self._limits.index_bytes

    def _decline(self, peer: NodeId, item: LogItem) -> list[Out]:
        if item.digest in self._declined:
            return []
        if len(self._declined) >= self._limits.declined:
            del self._declined[next(iter(self._declined))]
        self._declined[item.digest] = (item.log, item.author)
        return [Noted(Unadmitted(peer, item.author))]

    def _flag(self, rival: LogItem, item: LogItem) -> list[Out]:
        place = (item.log, item.author)
        if place in self._forks:
            return []
        self._forks[place] = (rival.raw, item.raw)
        proof = encode([rival.raw, item.raw])
        fact = Forked(item.author, item.log, rival.raw, item.raw)
        return [Persist(TABLE, ("fork", int(item.log), item.author), proof), Noted(fact)]

    def _take(self, shelf: Shelf, held: Chain, alone: Chain) -> list[Out]:
        merged = merge(held, alone)
        if merged is held:
            return []
        item = alone[0]
        shelf.put(merged, item.author)
        out: list[Out] = [Persist(TABLE, _key(item), item.raw)]
        if item.log is LogName.INDEX and len(merged) != len(held) + 1:
            kept = {left.seq for left in merged}
            out += [Persist(TABLE, _key(gone), None) for gone in held if gone.seq not in kept]
        out.append(Noted(Learned(item)))
        return out + self._schedule(item.expiry)

    # What is forgotten

    def _schedule(self, expiry: Millis) -> list[Out]:
        step = self._limits.sweep_ms
        at = -(-expiry // step) * step
        if self._sweep_at and at >= self._sweep_at:
            return []
        self._sweep_at = at
        return [SetTimer(SWEEP, Millis(at))]

    def _sweep(self, now: Millis, *, revising: bool = False) -> list[Out]:
        tick = now - now % self._limits.sweep_ms
        out: list[Out] = []
        earliest = _NEVER
        for log in LogName:
            shelf = self.shelf(log)
            strangers = [one for one in shelf.authors if one != self.me and not self._admitted(one)] if revising else []
            for author in strangers:
                out += self._forget(shelf, log, author, _NEVER)
            soonest = shelf.soonest()
            if min(soonest, default=_NEVER) <= tick:
                due = [author for author, first in zip(shelf.authors, soonest, strict=True) if first <= tick]
                for author in due:
                    out += self._forget(shelf, log, author, tick)
                soonest = shelf.soonest()
            earliest = min([earliest, *soonest])
        self._sweep_at = 0
        return out if earliest == _NEVER else out + self._schedule(earliest)

    def _forget(self, shelf: Shelf, log: LogName, author: NodeId, tick: int) -> list[Out]:
        chain = shelf.chain(author)
        left = tuple(item for item in chain if item.expiry > tick)
        shelf.put(left, author)
        out: list[Out] = [Persist(TABLE, _key(item), None) for item in chain if item.expiry <= tick]
        if not left and (log, author) in self._forks:
            del self._forks[log, author]
            out.append(Persist(TABLE, ("fork", int(log), author), None))
        return out

    # What we write

    def _append(self, now: Millis, call: int, order: Append) -> list[Out]:
        log = order.log
        shelf = self.shelf(log)
        if reason := self._pen.refusal(now, shelf.chain(self.me), order):
            return [Finished(call, AppendRefused(reason))]
        out: list[Out] = []
        told: list[Out] = []
        entries, position = self._pen.write(shelf.chain(self.me), order)
        for data in entries:
            alone = self._open(data)
            out += self._take(shelf, shelf.chain(self.me), alone)
            told.append(Announce(log.name.lower(), data))
        out.append(self._pen.move(log, position))
        size = sum([len(item.raw) for item in shelf.chain(self.me)])
        if log is LogName.INDEX and size > self._limits.snapshot_bytes:
            told.append(Noted(SnapshotDue(log, size)))
        return [*out, *told, Finished(call, position.previous)]

    # What the store gives back

    def _load(self, key: tuple[int | str | bytes, ...], value: bytes) -> None:
        try:
            match key:
                case ("entry", int(), bytes(), int()):
                    alone = self._open(value)
                    shelf = self.shelf(alone[0].log)
                    shelf.put(merge(shelf.chain(alone[0].author), alone), alone[0].author)
                case ("fork", int(number), bytes(author)):
                    self._forks[LogName(number), NodeId(author)] = _pair(value)
                case ("own", int(number)):
                    self._pen.load(LogName(number), value)
                case _:
                    self._unreadable += 1
        except (ValueError, Malformed):
            self._unreadable += 1


def _key(item: LogItem) -> tuple[str | int | bytes, ...]:
    """An entry's place in the store: one an author for the directory, one a seq for an index (it is of one epoch)."""
    return ("entry", int(item.log), item.author, item.seq if item.log is LogName.INDEX else 0)


def _pair(value: bytes) -> tuple[bytes, bytes]:
    match decode(value):
        case [bytes(first), bytes(second)]:
            return first, second
        case _:
            raise Malformed("not two entries")
