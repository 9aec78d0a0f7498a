"""Storage receipts and challenges: the records, what makes them valid, and what an answer has to show.

    sealed file ── ChaCha20(K_j) ──→ replica j ── 16 KiB segments ──→ root_j
    owner:  Deposit {chunk, size, roots 0…R−1, seed} signed      ── commits to every replica before anybody has one
    holder: Receipt {chunk, j, root_j, size, since, until} signed ── after it has recomputed root_j from its own disk
    challenge: 32 segments drawn from (the HOUR's seed, receipt, HOUR)   answer: those segments, each with its proof

Replicas are different bytes, so three identities on one disk cannot answer for three with one copy. The cipher is not
run here: `replica_key` gives K_j, used once, with nonce and counter 0. Deadlines belong to the caller; nothing is
concluded from how quickly an answer comes (over Tor it tells nothing).

Source: CONSENSUS §4, DESIGN §5.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, NamedTuple

from blake3 import blake3

from consensus.encoding import Malformed
from consensus.ids import Digest, Network, NodeId
from consensus.merkle import SEGMENT, included, prove_all
from consensus.placement import REPLICAS
from consensus.records import Between, Most, Size, pack, unpack
from consensus.signing import domain

CHALLENGED: Final = 32
"""Segments of one challenge: a holder that lost 10 % of a replica fails 97 % of them."""

REPLICA_BYTES_MAX: Final = 1 << 25
"""A sealed chunk is 8 to 16 MB; twice that can be replicated."""

DEPOSIT_BYTES_MAX: Final = 512
RECEIPT_BYTES_MAX: Final = 384
"""Caps on the packed records, for whoever reads them from a peer."""


@dataclass(frozen=True, slots=True)
class Deposit:
    """An owner's commitment to all replicas of one sealed chunk; whoever holds or repairs one knows it by this."""

    VERSION: ClassVar = 1
    network: Annotated[Network, Size(32)]
    chunk: Annotated[Digest, Size(32)]
    size: Annotated[int, Between(1, REPLICA_BYTES_MAX)]
    owner: Annotated[NodeId, Size(32)]
    opened: int
    """The slot in which the chunk was committed to on the chain, or sealed if it was not; `seed` is that of two slots later."""
    seed: Annotated[Digest, Size(32)]
    roots: Annotated[tuple[Annotated[Digest, Size(32)], ...], Most(REPLICAS)]


@dataclass(frozen=True, slots=True)
class Receipt:
    """A holder's word that it has replica j and will answer for it from slot `since` to slot `until`, the latter excluded."""

    VERSION: ClassVar = 1
    network: Annotated[Network, Size(32)]
    chunk: Annotated[Digest, Size(32)]
    j: Annotated[int, Between(0, REPLICAS - 1)]
    root: Annotated[Digest, Size(32)]
    size: Annotated[int, Between(1, REPLICA_BYTES_MAX)]
    holder: Annotated[NodeId, Size(32)]
    owner: Annotated[NodeId, Size(32)]
    since: int
    until: int


class Segment(NamedTuple):
    """One segment of a replica and the siblings that lead from it to the root."""

    number: int
    data: bytes
    proof: tuple[bytes, ...]


def replica_key(secret: bytes, chunk: Digest, j: int) -> bytes:
    """K_j, 32 bytes: BLAKE3-keyed(replica secret 32 B, "lucid/replica/v1" ‖ chunk ‖ j u8).

    Of one (chunk, j) only, so ChaCha20 runs with nonce and counter 0. Raises ValueError for another size of secret.
    """
    if len(secret) != 32:
        raise ValueError("a replica secret is 32 bytes")
    return blake3(b"lucid/replica/v1" + chunk + bytes((j,)), key=secret).digest()


def signable(record: Deposit | Receipt) -> bytes:
    """The bytes that the owner of a deposit, or the holder of a receipt, signs: its domain, then its packing."""
    return domain("deposit" if isinstance(record, Deposit) else "receipt", record.network) + pack(record)


def receipt_id(receipt: Receipt) -> Digest:
    """What a challenge calls the receipt: BLAKE3 of its signed bytes."""
    return Digest(blake3(signable(receipt)).digest())


def read_deposit(data: bytes, network: Network) -> Deposit:
    """The deposit that data spells, of this network and with a root for each replica, all different; or Malformed."""
    if len(data) > DEPOSIT_BYTES_MAX:
        raise Malformed("a deposit that is too long")
    deposit = unpack(Deposit, data)
    if deposit.network != network:
        raise Malformed("a deposit of another network")
    if len(set(deposit.roots)) != REPLICAS:
        raise Malformed(f"a deposit without {REPLICAS} different roots")
    return deposit


def read_receipt(data: bytes, network: Network) -> Receipt:
    """The receipt that data spells, of this network and for at least one slot; or Malformed."""
    if len(data) > RECEIPT_BYTES_MAX:
        raise Malformed("a receipt that is too long")
    receipt = unpack(Receipt, data)
    if receipt.network != network:
        raise Malformed("a receipt of another network")
    if receipt.since >= receipt.until:
        raise Malformed("a receipt for no time")
    return receipt


def discrepancy(receipt: Receipt, deposit: Deposit, slot: int, slots_max: int) -> str | None:
    """Why a receipt is not one for a replica of this deposit in this slot; None when it is. Signatures are not looked at.

    `slots_max` is the longest time that a receipt may be given for.
    """
    if (receipt.network, receipt.chunk, receipt.owner) != (deposit.network, deposit.chunk, deposit.owner):
        return "a receipt for another chunk"
    if receipt.size != deposit.size or receipt.root != deposit.roots[receipt.j]:
        return "a receipt for other bytes than the owner committed to"
    if receipt.holder == deposit.owner:
        return "a receipt by the owner itself"
    if not receipt.since <= slot < receipt.until or receipt.until - receipt.since > slots_max:
        return "a receipt for another time"
    return None


def term(hour: int, hour_slots: int, era_hours: int, overlap_hours: int) -> tuple[int, int]:
    """The slots, first and excluded last, of a receipt given in an HOUR: to the ERA's end and an overlap for its renewal."""
    era_end = (hour // era_hours + 1) * era_hours
    return hour * hour_slots, (era_end + overlap_hours) * hour_slots


def segment_count(size: int) -> int:
    """Segments of a replica of that size."""
    return -(-size // SEGMENT)


def challenge(network: Network, seed: Digest, receipt: Digest, hour: int, size: int) -> tuple[int, ...]:
    """The segments that the holder of a receipt has to show in an HOUR, ascending: 32 different ones, or all there are.

    Drawn without replacement by Fisher and Yates from BLAKE3's output stream, 8 bytes big-endian a draw.
    """
    count = segment_count(size)
    if count <= CHALLENGED:
        return tuple(range(count))
    start = blake3(domain("challenge", network) + seed + receipt + hour.to_bytes(8, "big"))
    stream = start.digest(length=8 * CHALLENGED)
    moved: dict[int, int] = {}
    drawn = []
    for turn in range(CHALLENGED):
        at = turn + int.from_bytes(stream[8 * turn : 8 * turn + 8], "big") % (count - turn)
        drawn.append(moved.get(at, at))
        moved[at] = moved.get(turn, turn)
    return tuple(sorted(drawn))


def show(replica: bytes | memoryview, indexes: Iterable[int]) -> tuple[Segment, ...]:
    """What a holder answers from a replica in memory; raises IndexError for a segment that it does not have."""
    parts = [bytes(replica[at : at + SEGMENT]) for at in range(0, len(replica), SEGMENT)]
    proofs = prove_all([blake3(part).digest() for part in parts])
    answer = []
    for index in indexes:
        if not 0 <= index < len(parts):
            raise IndexError(f"no segment {index} among {len(parts)}")
        answer.append(Segment(index, parts[index], proofs[index]))
    return tuple(answer)


def shown(root: Digest, size: int, segment: Segment) -> bool:
    """Whether the segment is the one at its index of the replica with this root and size."""
    index, data, proof = segment
    count = segment_count(size)
    if not 0 <= index < count or len(data) != min(SEGMENT, size - index * SEGMENT):
        return False
    return included(root, count, index, blake3(data).digest(), proof)


def passed(root: Digest, size: int, asked: Sequence[int], answer: Sequence[Segment]) -> bool:
    """Whether an answer shows exactly the segments that were asked for, in their order."""
    return [segment.number for segment in answer] == list(asked) and all(shown(root, size, one) for one in answer)
