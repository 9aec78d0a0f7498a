"""What a node keeps about each chunk it has a part in, and the words that replication shares with its host.

Bytes live with the host: a machine tells it what to do in `Noted` facts (Fetch, Serve, ReadSegments, Discard) and hears
back by commands (Fetched, SegmentsRead), which need no `Finished`. A replica is named by its root.

Source: CONSENSUS §4, DESIGN §5.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from consensus.beacon import (
    Deposit,
    Receipt,
    Segment,
    read_deposit,
    read_receipt,
    receipt_id,
)
from consensus.encoding import Malformed, Value, decode, encode
from consensus.ids import Digest, Millis, Network, NodeId
from consensus.placement import REPLICAS
from node.overlay.machine import Persist
from node.overlay.replica_frames import Answered, SignedReceipt

TABLE: Final = "replicas"
"""Where `Persist` keeps a row for each chunk: ("at", chunk) a custody, ("in", chunk) a transfer under way."""

HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class ReplicateLimits:
    """How often, how long, how much; times in milliseconds. The first seven are the network's, the others a node's own."""

    hour_ms: int = HOUR_MS
    hour_slots: int = 30
    era_hours: int = 168
    overlap_hours: int = 24
    """A receipt outlives its ERA by this, so that a day offline at the change costs nothing."""
    challenge_hours: int = 3
    """HOURs between challenges of one replica: eight within the time after which its holder is replaced. A challenge moves 512 KiB:
    with those of overdue holders some 5 MB a day for each replica; hourly it was 12."""
    sync_hours: int = 24
    """HOURs between notices of all holders for a chunk that has not exactly R,
    and between challenges of holders that were given up."""
    repair_ms: int = 24 * HOUR_MS
    """Without a passed challenge for this long a holder is replaced; [S] 48 h loses 3.4e-3 chunk-years. Of that it has to have
    missed challenges for three fourths: the last that it passed may lie half a day back, and who is off overnight comes back."""
    misses_min: int = 2
    """Challenges missed before that, so that one lost answer replaces nobody."""
    answer_ms: int = 60_000
    """CONSENSUS §4's deadline."""
    jitter_ms: int = 20 * 60_000
    """A round of challenges begins up to so long after the HOUR, or all nodes would speak at once."""
    accept_ms: int = 90_000
    """For an answer to an offer; a first contact over Tor takes up to 45 s."""
    transfer_ms: int = 2 * HOUR_MS
    """For 16 MB at 2 KB/s, the slowest onion worth waiting for; then the next holder is asked."""
    ranks_max: int = 32
    """How far down the placement order a holder may stand; further, an owner could choose whom it likes."""
    quota_bytes: int = 50_000_000_000
    """Of other people's replicas on this disk."""
    owner_bytes: int = 10_000_000_000
    """Of one owner's."""
    held_max: int = 100_000
    """Custodies; about 2 kB of memory each."""
    incoming_max: int = 16
    """Transfers to us at once."""
    incoming_peer_max: int = 4
    jobs_max: int = 64
    """Placements and repairs of ours at once; the others wait."""
    asked_bytes: int = 4 << 20
    """Segments asked for and not yet shown: 8 challenges of full size, what Tor carries in the 60 s."""
    items_peer_max: int = 4096
    """Replicas that one peer may challenge in an HOUR, each once."""
    frames_peer_max: int = 1024
    """Valid frames, other than answers, that one peer may send in an HOUR."""
    peers_max: int = 16_384
    """Peers whose frames are counted; the registry has at most 10,000."""
    reads_max: int = 256
    """Reads that the host may owe us."""
    seeds_max: int = 4
    """HOURs whose seeds are kept: a challenge may come from a peer that is behind."""

    @property
    def seen_ms(self) -> int:
        """How long ago we may have seen a holder pass that we still vouch for.

        After half the repair time it is overdue, and asked in the next HOUR's round; two HOURs hold that round, jitter and
        all, and one that went by because we were away.
        """
        return min(self.repair_ms // 2 + 2 * self.hour_ms, self.repair_ms)


class Place(NamedTuple):
    """Command of the owner's: get a chunk onto R holders. `Finished` with a `Placed` when it is; goes on for ever.

    Of a chunk that is known only a later slot and seed are new, and they count while nobody holds it or is taking it.
    """

    chunk: Digest
    size: int
    roots: tuple[Digest, ...]
    opened: int
    seed: Digest

    def deposit(self, network: Network, me: NodeId) -> Deposit:
        """What its owner commits to with it."""
        return Deposit(network, self.chunk, self.size, me, self.opened, self.seed, self.roots)


class Placed(NamedTuple):
    """The holders of replicas 0 to R − 1, each with its signed receipt."""

    chunk: Digest
    holders: tuple[NodeId, ...]
    receipts: tuple[SignedReceipt, ...]


class Fetch(NamedTuple):
    """Host: get a replica from a peer within the time, hash what is then on the disk, and answer with Fetched."""

    ref: int
    peer: NodeId
    chunk: Digest
    j: int
    root: Digest
    size: int
    until: Millis


class Fetched(NamedTuple):
    """The root and size of what the host now has on its disk; None when nothing came."""

    ref: int
    root: Digest | None
    size: int


class Serve(NamedTuple):
    """Host: let the peer fetch this replica until then; an owner encodes it anew."""

    peer: NodeId
    chunk: Digest
    j: int
    root: Digest
    size: int
    until: Millis


class Want(NamedTuple):
    """Segments of one replica."""

    chunk: Digest
    root: Digest
    indexes: tuple[int, ...]


class ReadSegments(NamedTuple):
    """Host: read these with their proofs and answer with SegmentsRead; at most 512 KiB."""

    ref: int
    wants: tuple[Want, ...]


class SegmentsRead(NamedTuple):
    """What the host read, want by want; None where the replica is not whole any more."""

    ref: int
    found: tuple[tuple[Segment, ...] | None, ...]


class Discard(NamedTuple):
    """Host: these bytes are nobody's business any more."""

    chunk: Digest
    root: Digest


class Stored(NamedTuple):
    """Fact: a holder has signed for a replica, noted by the holder itself."""

    chunk: Digest
    j: int
    holder: NodeId


class Challenged(NamedTuple):
    """Fact: a challenge of ours was passed, or was not."""

    chunk: Digest
    j: int
    holder: NodeId
    passed: bool


class RepairStarted(NamedTuple):
    """Fact: we look for a holder in the place of an old one; again for each HOUR in which nobody is found."""

    chunk: Digest
    j: int
    old: NodeId | None


class Repaired(NamedTuple):
    """Fact: the new holder has signed; j is the encoding that it got, a second copy if the owner was away."""

    chunk: Digest
    j: int
    old: NodeId | None
    new: NodeId


class Unplaced(NamedTuple):
    """Fact: nobody in the placement order takes the replica; tried again next HOUR."""

    chunk: Digest
    j: int


class DepositRefused(NamedTuple):
    """Fact: a candidate does not take our deposit's seed: its clock, or the chain that it knows, is another than ours."""

    chunk: Digest
    j: int
    candidate: NodeId
    answer: Answered


class Untimely(NamedTuple):
    """Fact, noted by the owner: nobody holds the chunk, and no node with our clock will under its deposit any more.

    Host: Place it again with a slot and seed of now, if the chunk is here; until then the old deposit is tried each HOUR.
    """

    chunk: Digest


class Uncounted(NamedTuple):
    """Fact: a receipt that we did not count, for a reason that is nobody's fault: registries and views may differ."""

    chunk: Digest
    holder: NodeId
    teller: NodeId
    reason: str


class Lost(NamedTuple):
    """Fact, noted by the owner: no holder of the chunk passes any more."""

    chunk: Digest


class ReplicaDamaged(NamedTuple):
    """Fact, noted by a holder: the host could not read its own replica, which is released."""

    chunk: Digest
    j: int


class Signs(Protocol):
    """Our identity key; consensus.signing.KeyPair is one."""

    def sign(self, name: str, network: Network, message: bytes) -> bytes:
        """The signature over the message in its domain."""


class Holding:
    """A holder of a chunk as another member sees it."""

    __slots__ = ("j", "judged", "live", "misses", "name", "passed", "recall", "signed", "silent", "until")

    def __init__(self, receipt: Receipt, signed: SignedReceipt, now: Millis, *, live: bool) -> None:
        self.j = receipt.j
        self.name = receipt_id(receipt)
        self.until = receipt.until
        self.signed = signed
        self.live = live
        """It counts as one of the R; else it has to pass a challenge first."""
        self.passed = now
        self.misses = 0
        self.silent: Millis | None = now
        """Since when it has missed every challenge; None when it has passed since."""
        self.recall = not live
        """It has been heard of since it last failed, and is asked once more."""
        self.judged = True
        """It was placed, as far as that is ever judged; else the registry that tells has still to be entered."""

    def renew(self, receipt: Receipt, signed: SignedReceipt) -> None:
        """Take a later receipt for the same replica."""
        self.name, self.until, self.signed = receipt_id(receipt), receipt.until, signed


class Custody:
    """All that one member, owner or holder, knows of a chunk."""

    __slots__ = (
        "asked",
        "before",
        "copying",
        "deposit",
        "holders",
        "left",
        "mine",
        "name",
        "owned",
        "owner_until",
        "packed",
        "ring",
        "signature",
        "signed",
        "until",
        "vacant",
    )

    def __init__(self, deposit: Deposit, packed: bytes, signature: bytes, *, owned: bool) -> None:
        self.deposit, self.packed, self.signature, self.owned = deposit, packed, signature, owned
        self.mine = -1
        """The replica that we hold; −1 for none."""
        self.signed: SignedReceipt | None = None
        self.name = self.before = Digest(b"")
        """The ids of our receipt and of the one before it."""
        self.until = 0
        self.holders: dict[NodeId, Holding] = {}
        """The others."""
        self.ring: tuple[NodeId, ...] = ()
        """The live holders in order, ourselves included; for the lots."""
        self.vacant: list[NodeId] = []
        """Holders given up and not replaced."""
        self.left: dict[NodeId, None] = {}
        """Who let go of a replica lately, and is asked last; not kept over a restart."""
        self.owner_until = Millis(0)
        """Until then the owner has promised to repair."""
        self.copying: dict[int, NodeId] = {}
        """Who is fetching which replica from us."""
        self.asked: dict[NodeId, int] = {}
        """The HOUR in which each member last challenged us."""

    def pass_over(self, node: NodeId, most: int) -> None:
        """Ask a node last from now on, and forget the first of more than so many."""
        self.left[node] = None
        while len(self.left) > most:
            del self.left[next(iter(self.left))]

    def reopens(self, order: Place) -> bool:
        """Whether the order is a later deposit of a chunk of ours that nobody holds."""
        deposit, same = self.deposit, (order.size, order.roots) == (self.deposit.size, self.deposit.roots)
        return self.owned and not self.ring and same and order.opened > deposit.opened

    def commit(self, deposit: Deposit, packed: bytes, signature: bytes) -> None:
        """Take a later deposit of the same replicas in the place of the one that nobody took."""
        self.deposit, self.packed, self.signature = deposit, packed, signature

    def hold(self, receipt: Receipt, signed: SignedReceipt) -> None:
        """Take our own receipt."""
        self.before = self.name or receipt_id(receipt)
        self.mine, self.name, self.until, self.signed = receipt.j, receipt_id(receipt), receipt.until, signed

    def close_ring(self, me: NodeId) -> None:
        """Bring `ring` up to date after any change to who is live."""
        live = [node for node, holding in self.holders.items() if holding.live]
        if self.mine >= 0:
            live.append(me)
        self.ring = tuple(sorted(live))

    def lacking(self) -> list[int]:
        """The replicas that no other node holds and counts for, in order."""
        held = {holding.j for holding in self.holders.values() if holding.live}
        return [j for j in range(REPLICAS) if j not in held]

    def members(self) -> Iterable[NodeId]:
        """Everybody else who watches over the chunk; the owner first."""
        if not self.owned:
            yield self.deposit.owner
        yield from self.holders

    def persist(self) -> Persist:
        """Keep the custody as it now is."""
        return Persist(TABLE, ("at", self.deposit.chunk), self._row())

    def _row(self) -> bytes:
        holders: list[Value] = [[*holding.signed, holding.live] for holding in self.holders.values()]
        own: Value = None if self.signed is None else self.signed
        copying: list[Value] = [[j, node] for j, node in self.copying.items()]
        return encode([1, self.packed, self.signature, self.owned, own, holders, copying])


class KeptCustody(NamedTuple):
    """A custody's row as it is read back."""

    deposit: Deposit
    packed: bytes
    signature: bytes
    owned: bool
    own: tuple[Receipt, SignedReceipt] | None
    holders: tuple[tuple[Receipt, SignedReceipt, bool], ...]
    copying: tuple[tuple[int, NodeId], ...]

    def restore(self, me: NodeId, now: Millis) -> Custody:
        """The custody that the row was made of."""
        custody = Custody(self.deposit, self.packed, self.signature, owned=self.owned)
        if self.own is not None:
            custody.hold(*self.own)
        for receipt, signed, live in self.holders:
            custody.holders[receipt.holder] = Holding(receipt, signed, now, live=live)
        custody.copying.update(self.copying)
        custody.close_ring(me)
        return custody


def read_row(data: bytes, network: Network) -> KeptCustody:
    """What a row of ours holds; raises Malformed when the store has damaged it."""
    match decode(data):
        case [1, bytes(packed), bytes(signature), bool(owned), own, list(holders), list(copying)]:
            pass
        case _:
            raise Malformed("not a row of replicas")
    mine = None
    match own:
        case [bytes(receipt), bytes(signed)]:
            mine = (read_receipt(receipt, network), SignedReceipt(receipt, signed))
        case None:
            pass
        case _:
            raise Malformed("not our receipt in a row of replicas")
    others = []
    for item in holders:
        match item:
            case [bytes(receipt), bytes(signed), bool(live)]:
                others.append((read_receipt(receipt, network), SignedReceipt(receipt, signed), live))
            case _:
                raise Malformed("not a holder in a row of replicas")
    fetching = []
    for item in copying:
        match item:
            case [int(j), bytes(node)]:
                fetching.append((j, NodeId(node)))
            case _:
                raise Malformed("not a copy in a row of replicas")
    deposit = read_deposit(packed, network)
    return KeptCustody(deposit, packed, signature, owned, mine, tuple(others), tuple(fetching))


def live_holders(data: bytes) -> int:
    """How many hold a chunk and count, this node included, by a custody's row; raises Malformed."""
    match decode(data):
        case [1, bytes(), bytes(), bool(), own, list(holders), list()]:
            live = [item for item in holders if isinstance(item, list) and item[-1:] == [True]]
            return len(live) + (own is not None)
        case _:
            raise Malformed("not a row of replicas")


def incoming_row(packed: bytes, signature: bytes, j: int, leader: NodeId) -> bytes:
    """A transfer under way as a record for the store."""
    return encode([1, packed, signature, j, leader])


def read_incoming(data: bytes, network: Network) -> tuple[Deposit, bytes, bytes, int, NodeId]:
    """Deposit, its packing and signature, the replica, and whom it comes from; raises Malformed."""
    match decode(data):
        case [1, bytes(packed), bytes(signature), int(j), bytes(leader)]:
            return read_deposit(packed, network), packed, signature, j, NodeId(leader)
        case _:
            raise Malformed("not a transfer in a row of replicas")
