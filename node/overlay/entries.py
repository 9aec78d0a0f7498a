"""One entry of a per-author log, its canonical bytes, and the law by which a log's entries merge.

    SignedEntry { entry: LogEntry { author, log, epoch, seq, base, part, rest, previous, expiry, body }, signature }

An author numbers its entries (epoch, seq). `base` is the seq from which its log stands by itself: whatever comes before
is replaced and forgotten. So a snapshot is an entry whose base is its own, a directory is a log of nothing else, and a
quota needs no counting: seq < base + WINDOW makes an entry that exceeds it invalid by itself, in whatever order entries
come. A body too long for one entry is cut over several: `part` counts up from 0 while `rest` counts down to 0.

**The law.** What a replica holds of a log is a function of the set of entries it was given: of the highest epoch, the
entries from the highest base on; at one seq, of those that claim the highest base, the one of the lowest hash. That is a
join (commutative, associative, idempotent). That a higher base goes before a lower hash is what keeps it one: else a
fork without the claim could displace the entry that made others go.

`previous` decides nothing, because a decision by it would depend on the order of arrival; it proves forks.

Source: DESIGN §5.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, ClassVar, Final, NamedTuple, TypeAlias

from blake3 import blake3

from consensus.encoding import Malformed
from consensus.ids import Digest, Millis, Network, NodeId
from consensus.records import Between, Most, Size, pack, unpack
from consensus.signing import KeyPair, domain

DOMAIN: Final = "entry"
"""The name under which entries are signed and hashed."""

DIRECTORY_BODY_MAX: Final = 512
"""Bytes of what a node says of itself; 10,000 nodes' make a directory of 8 MB (DESIGN §4)."""

BODY_MAX: Final = 4096
"""Bytes of an index entry's body; longer ones are cut."""

WINDOW: Final = 512
"""Entries of an index log from its base on: a snapshot of ≤ 1 MiB and as much again in updates after it."""

PARTS_MAX: Final = 256
"""Entries over which one body may be cut: 1 MiB."""

LIFETIME: Final = 400 * 86_400_000
"""The longest an entry may live, ms: replicas that drew the line elsewhere would not converge, so it is no local limit."""

ENTRY_BYTES_MAX: Final = BODY_MAX + 512
"""Bytes of a signed entry: its body and 301 at most for the rest."""

MARK: Final = 16
"""Bytes of a hash by which replicas compare what they hold; finding two entries with one mark takes 2⁶⁴ hashes."""

_COUNT_MAX: Final = (1 << 62) - 1


class LogName(IntEnum):
    """The logs that an author has."""

    DIRECTORY = 1
    """What a node says of itself; only the latest entry matters; held by every node."""
    INDEX = 2
    """Encrypted updates of an owner's session index, append-only; held by some nodes for the owner."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What an author adds to one of its logs; see the module for its fields."""

    VERSION: ClassVar = 1
    author: Annotated[NodeId, Size(32)]
    log: LogName
    epoch: Annotated[int, Between(0, _COUNT_MAX)]
    """Raised by the author when it may have forgotten entries of its own: after a restore from a backup."""
    seq: Annotated[int, Between(0, _COUNT_MAX)]
    base: Annotated[int, Between(0, _COUNT_MAX)]
    part: Annotated[int, Between(0, PARTS_MAX - 1)]
    rest: Annotated[int, Between(0, PARTS_MAX - 1)]
    previous: Annotated[Digest, Size(32)]
    """Hash of the author's entry before this one; zeros in its first."""
    expiry: Millis
    body: Annotated[bytes, Most(BODY_MAX)]


@dataclass(frozen=True, slots=True)
class SignedEntry:
    """The bytes of a LogEntry and its author's signature over them in the domain "entry"."""

    VERSION: ClassVar = 1
    entry: Annotated[bytes, Most(ENTRY_BYTES_MAX)]
    signature: Annotated[bytes, Size(64)]


class LogItem(NamedTuple):
    """A well-formed entry as replicas hold it: what merging needs, and the bytes; 32-byte digest over all of them."""

    digest: Digest
    author: NodeId
    log: LogName
    epoch: int
    seq: int
    base: int
    previous: Digest
    expiry: Millis
    raw: bytes


class LogBodies(NamedTuple):
    """Whole bodies in order, the snapshot first; `gapless` tells that no entry from it to the last is missing or expired."""

    bodies: tuple[bytes, ...]
    gapless: bool


Chain: TypeAlias = tuple[LogItem, ...]
"""What is held of one author's log, by seq; of one epoch."""

Opener: TypeAlias = Callable[[bytes], Chain]
"""From a signed entry's bytes to a chain of it alone, signature unchecked; raises Malformed.

A chain of one is all that a directory holds of an author, so where many nodes live in one process and share a memoised
opener (`functools.lru_cache`), a row of each one's directory costs it pointers and no object.
"""


def opener(network: Network) -> Opener:
    """The opener of a network's entries."""
    prefix = domain(DOMAIN, network)

    def open_entry(data: bytes) -> Chain:
        if len(data) > ENTRY_BYTES_MAX:
            raise Malformed(f"an entry of {len(data)} bytes; {ENTRY_BYTES_MAX} at most")
        entry = unpack(LogEntry, unpack(SignedEntry, data).entry)
        check_form(entry)
        digest = Digest(blake3(prefix + data).digest())
        author, log, epoch, seq, base = entry.author, entry.log, entry.epoch, entry.seq, entry.base
        return (LogItem(digest, author, log, epoch, seq, base, entry.previous, entry.expiry, data),)

    return open_entry


def entry_digest(network: Network, data: bytes) -> Digest:
    """BLAKE3 of a signed entry, signature included, in the domain "entry": its name in `previous` and in roots."""
    return Digest(blake3(domain(DOMAIN, network) + data).digest())


def check_form(entry: LogEntry) -> None:
    """Raises Malformed for an entry that breaks the rules of its log, whatever else is held."""
    if entry.log is LogName.DIRECTORY:
        if entry.base != entry.seq or entry.part or entry.rest:
            raise Malformed("a directory entry replaces all before it and has no parts")
        if len(entry.body) > DIRECTORY_BODY_MAX:
            raise Malformed(f"a directory entry's body has {DIRECTORY_BODY_MAX} bytes at most")
    elif not entry.base <= entry.seq < entry.base + WINDOW:
        raise Malformed(f"an entry outside its log's window of {WINDOW}")


def seal_entry(entry: LogEntry, keys: KeyPair, network: Network) -> bytes:
    """The canonical bytes of an entry with its author's signature; raises Malformed for one that nobody would take."""
    check_form(entry)
    body = pack(entry)
    return pack(SignedEntry(body, keys.sign(DOMAIN, network, body)))


def signed_parts(item: LogItem) -> tuple[bytes, bytes]:
    """An item's signature and the bytes it is over, domain excluded.

    Cut out by position, at a tenth of the cost of decoding again: whatever was opened has this one spelling,
    map of 3 ‖ "v" 1 ‖ "entry" head bytes ‖ "signature" head bytes, and an entry of over 100 bytes a head of 2 or 3.
    """
    raw = item.raw
    return raw[-64:], raw[12 if raw[10] == 0x58 else 13 : -76]


def written(item: LogItem) -> LogEntry:
    """The entry itself, with its body."""
    return unpack(LogEntry, unpack(SignedEntry, item.raw).entry)


def floor(chain: Chain) -> int:
    """The seq from which a log stands by itself: the highest base in a chain that is not empty."""
    return chain[0].base if len(chain) == 1 else max(item.base for item in chain)


def find(chain: Chain, seq: int) -> LogItem | None:
    """The item at a seq."""
    at = bisect_left(chain, seq, key=_seq)
    return chain[at] if at < len(chain) and chain[at].seq == seq else None


def merge(chain: Chain, alone: Chain) -> Chain:
    """What is held after one more item; the very same chain when that item changes nothing."""
    item = alone[0]
    if not chain or item.epoch > chain[0].epoch:
        return alone
    if item.epoch < chain[0].epoch:
        return chain
    cut = floor(chain)
    if item.seq < cut:
        return chain
    at = bisect_left(chain, item.seq, key=_seq)
    taken = at < len(chain) and chain[at].seq == item.seq
    if taken and not _beats(item, chain[at]):
        return chain
    below = chain[:at] if item.base <= cut else chain[bisect_left(chain, item.base, key=_seq) : at]
    above = chain[at + taken :]
    return (*below, item, *above) if below or above else alone


def fork(chain: Chain, item: LogItem) -> LogItem | None:
    """The held item that together with this one proves that their author wrote two histories; None if there is none."""
    if not chain or item.epoch != chain[0].epoch:
        return None
    rival = find(chain, item.seq)
    if rival is not None:
        return rival if rival.digest != item.digest else None
    before = find(chain, item.seq - 1)
    if before is not None and before.digest != item.previous:
        return before
    after = find(chain, item.seq + 1)
    if after is not None and after.previous != item.digest:
        return after
    return None


def bodies(chain: Chain, now: Millis) -> LogBodies:
    """What a log says at a time, as far as it is held."""
    whole: list[bytes] = []
    parts: list[bytes] = []
    gapless = True
    expected = floor(chain) if chain else 0
    for item in chain:
        entry = written(item)
        if item.seq != expected or item.expiry <= now:
            gapless, parts = False, []
        expected = item.seq + 1
        if item.expiry <= now or entry.part != len(parts):
            parts = []
            continue
        parts.append(entry.body)
        if entry.rest == 0:
            whole.append(b"".join(parts))
            parts = []
    return LogBodies(tuple(whole), gapless and not parts)


def mark(chain: Chain) -> bytes:
    """The 16 bytes by which replicas compare what they hold of one log."""
    if len(chain) == 1:
        return chain[0].digest[:MARK]
    return blake3(b"".join([item.digest for item in chain])).digest()[:MARK]


def _seq(item: LogItem) -> int:
    return item.seq


def _beats(item: LogItem, rival: LogItem) -> bool:
    if item.base != rival.base:
        return item.base > rival.base
    return item.digest < rival.digest
