"""Our own logs: where the next entry goes, and how a body becomes entries that every node takes.

A position is made durable with the entry that it follows, and outlives it: an author that forgot where it stood would
sign two histories. After a restore from a backup, and whenever an entry of ours turns up that we do not know (the disk
was rolled back, or someone else has the key), the next entry opens a new epoch. Source: DESIGN §5.
"""

from typing import Final, NamedTuple

from consensus.encoding import Malformed, decode, encode
from consensus.ids import Digest, Millis, Network, NodeId
from consensus.signing import KeyPair
from node.overlay.entries import (
    BODY_MAX,
    DIRECTORY_BODY_MAX,
    LIFETIME,
    PARTS_MAX,
    WINDOW,
    Chain,
    LogEntry,
    LogItem,
    LogName,
    entry_digest,
    floor,
    seal_entry,
)
from node.overlay.machine import Persist


class Append(NamedTuple):
    """Command: add a body to one of our logs; a snapshot replaces everything before it.

    Answered by the Digest of the last entry made of it, or by AppendRefused.
    """

    log: LogName
    body: bytes
    expiry: Millis
    snapshot: bool = False


class AppendRefused(NamedTuple):
    """Answer to an Append that would make an entry nobody takes; nothing changed."""

    reason: str


class Position(NamedTuple):
    """Where an entry of ours goes; expiry is the highest we ever gave."""

    epoch: int
    seq: int
    previous: Digest
    expiry: Millis


START: Final = Position(0, 0, Digest(bytes(32)), Millis(0))


class Pen:
    """The author's side of one node's logs."""

    def __init__(self, me: NodeId, keys: KeyPair, network: Network, table: str, first_epoch: int = 0) -> None:
        """first_epoch: of a log in which we remember nothing; one that rises from life to life makes forks impossible."""
        self._me, self._keys, self._network, self._table = me, keys, network, table
        self._next = dict.fromkeys(LogName, START._replace(epoch=first_epoch))

    def load(self, log: LogName, value: bytes) -> None:
        """Take a position back from the store; raises Malformed."""
        match decode(value):
            case [int(epoch), int(seq), bytes(previous), int(expiry)]:
                self._next[log] = Position(epoch, seq, Digest(previous), Millis(expiry))
            case _:
                raise Malformed("not a position")

    def resume(self, log: LogName, chain: Chain, *, restored: bool) -> list[Persist]:
        """Go on after what is held of ours; in a new epoch when it may not be all there was."""
        own = self._next[log]
        if chain and (chain[-1].epoch, chain[-1].seq) >= (own.epoch, own.seq):
            last = chain[-1]
            own = self._next[log] = Position(last.epoch, last.seq + 1, last.digest, max(own.expiry, last.expiry))
        if not restored:
            return []
        return [self.move(log, Position(own.epoch + 1, 0, own.previous, own.expiry))]

    def meet(self, item: LogItem, *, rival: bool) -> Persist | None:
        """Go on in a new epoch if this entry of ours, which came from a peer, is none that we remember writing."""
        own = self._next[item.log]
        if (item.epoch, item.seq) < (own.epoch, own.seq) and not rival:
            return None
        epoch = max(own.epoch, item.epoch) + 1
        return self.move(item.log, Position(epoch, 0, item.digest, max(own.expiry, item.expiry)))

    def epoch(self, log: LogName) -> int:
        """The epoch of our next entry."""
        return self._next[log].epoch

    def refusal(self, now: Millis, chain: Chain, order: Append) -> str:
        """Why an order would make an entry that nobody takes; empty when it would not."""
        own = self._next[order.log]
        if not now < order.expiry <= now + LIFETIME:
            return "an entry expires in the future, within 400 days"
        if order.expiry < own.expiry:
            return "an author never lowers its expiry: what the entry replaces would outlive it"
        if order.log is LogName.DIRECTORY:
            long = len(order.body) > DIRECTORY_BODY_MAX
            return f"a directory entry's body has {DIRECTORY_BODY_MAX} bytes at most" if long else ""
        if len(order.body) > PARTS_MAX * BODY_MAX:
            return f"a body has {PARTS_MAX * BODY_MAX} bytes at most"
        if not order.snapshot and own.seq + len(_cut(order.body)) > self._base(order.log, chain) + WINDOW:
            return "the log is full: append a snapshot first"
        return ""

    def write(self, chain: Chain, order: Append) -> tuple[list[bytes], Position]:
        """The signed entries of an order that is not refused, and where the next one would go; changes nothing."""
        log = order.log
        own, base = self._next[log], self._base(log, chain)
        entries: list[bytes] = []
        parts = _cut(order.body)
        for part, body in enumerate(parts):
            rest = len(parts) - 1 - part
            claim = base
            if log is LogName.DIRECTORY:
                claim = own.seq
            elif order.snapshot and (rest == 0 or own.seq >= base + WINDOW):
                claim = own.seq - part  # by the last part if possible, so that no replica is ever without both
            entry = LogEntry(self._me, log, own.epoch, own.seq, claim, part, rest, own.previous, order.expiry, body)
            data = seal_entry(entry, self._keys, self._network)
            own = Position(own.epoch, own.seq + 1, entry_digest(self._network, data), order.expiry)
            entries.append(data)
        return entries, own

    def move(self, log: LogName, position: Position) -> Persist:
        """The next entry goes there; to be made durable together with the one before it."""
        self._next[log] = position
        return Persist(self._table, ("own", int(log)), encode(list(position)))

    def _base(self, log: LogName, chain: Chain) -> int:
        own = self._next[log]
        return floor(chain) if chain and chain[0].epoch == own.epoch else own.seq


def _cut(body: bytes) -> list[bytes]:
    return [body[at : at + BODY_MAX] for at in range(0, len(body), BODY_MAX)] or [b""]
