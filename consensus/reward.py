"""What a slot mints: from the sessions that were closed two HOURs before it, are stored by others and are shown to be.

    closed sessions ── `counted` ──→ `work_done` ──→ SlotWork {S, B, N} ── `reward` ──→ LUCID ── `scaled` ──→ minted

    W = max(S, ⌈B ÷ BASE_MB_PER_SESSION⌉)        slotMax = max(1, ⌊50 ÷ 2^⌊minted ÷ 2.1 G⌋⌋)
    reward = 1 + ⌊(slotMax − 1) · min(max(S−1,0),9) · min(max(5W−N,0),4N) ÷ 36N⌋

The last line is SPEC §6's (slotMax − 1) · g_sessions · g_density with D_min = 1/5 over one denominator, so that it is
floored once. Nothing in it is the publisher's own word: who closed, what is held and who worked are in the chain.
Amounts are whole LUCID. 42 G is the reference that the halvings divide by twenty, and no cap: slotMax never falls below 1.

Source: CONSENSUS §8, SPEC §6.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from consensus.ids import MB, Digest, SessionId
from consensus.params import PPM

LUCID: Final = 10**18
"""Base units of a LUCID, as an ERC-20 counts it."""

SUPPLY: Final = 42_000_000_000
"""In LUCID: the supply that the halvings refer to."""

HALVING: Final = SUPPLY // 20
"""In LUCID: after each so many minted a slot mints half."""

SLOT_MAX: Final = 50
"""In LUCID: what a slot mints at most before the first halving."""

BASE_BYTES: Final = 5 * MB
"""BASE_MB_PER_SESSION: so many bytes count as a session, where they are more than the sessions."""

IDLE: Final = 1
IDLE_SERVER: Final = 2
"""In LUCID: for a slot without sessions, to the Server; IDLE to another publisher."""

PAID_HOURS: Final = 2
"""In HOURs: how long before a slot the sessions were closed that it pays for."""

PAID_SLOTS_MIN: Final = 60
"""Mainnet's two HOURs in slots: so much time there is where HOURs are short, too, as on a devnet."""

RECEIPTS: Final = 3
"""Entities that hold a chunk, for it to count."""

OWNER_SESSIONS: Final = 2
OWNER_HOURS: Final = 24
"""Sessions of one owner that count, in any so many HOURs."""


class Receipted(NamedTuple):
    """A receipt for a replica of one of a session's chunks, as the chain has it."""

    chunk: Digest
    size: int
    """Bytes of the sealed file, the same in every receipt for it."""
    entity: bytes
    """Whose the holder is."""
    placed: bool
    """Whether the seed placed the replica with that holder."""


class ClosedSession(NamedTuple):
    """A session that was closed, with what the chain has of its storage before the slot that pays for it.

    Its chunks are those that its heads commit to, each in one session only: whoever gathers the receipts sees to that.
    """

    session: SessionId
    owner: bytes
    """The owner's entity."""
    receipts: tuple[Receipted, ...]
    passed: int
    """Challenges that those holders have passed."""


class SlotWork(NamedTuple):
    """What a slot is paid for: S sessions, B bytes, N entities with credit in the HOUR of those sessions."""

    sessions: int
    size: int
    entities: int


def paid_slots(hour_slots: int) -> int:
    """How many slots after its closing a session is paid for: two HOURs, and 60 at the least."""
    return max(PAID_SLOTS_MIN, PAID_HOURS * hour_slots)


def paid_slot(slot: int, hour_slots: int) -> int | None:
    """The slot whose closed sessions a slot pays for: the corresponding one two HOURs before; None in the first two."""
    paid = slot - paid_slots(hour_slots)
    return paid if paid >= 0 else None


def receipted_bytes(closed: ClosedSession) -> int:
    """Bytes of a session's chunks that three entities hold where the seed placed them, none the owner's; each once."""
    holders: dict[Digest, set[bytes]] = {}
    sizes: dict[Digest, int] = {}
    for receipt in closed.receipts:
        if receipt.placed and receipt.entity != closed.owner:
            holders.setdefault(receipt.chunk, set()).add(receipt.entity)
            sizes[receipt.chunk] = receipt.size
    return sum(size for chunk, size in sizes.items() if len(holders[chunk]) >= RECEIPTS)


def counted(closed: Iterable[ClosedSession], earlier: Mapping[bytes, int]) -> tuple[ClosedSession, ...]:
    """The sessions of one slot that are paid for, by their ids: stored, challenged with success, two an owner at most.

    `earlier` is how many of each owner's were counted in the 24 HOURs before (`recent`). Of an owner with more the lowest
    ids count, so that no order of inclusion matters. A session counts once a single chunk of it does; of the others the
    bytes are not paid for.
    """
    had = Counter(earlier)
    kept = []
    for one in sorted(closed):
        if one.passed > 0 and had[one.owner] < OWNER_SESSIONS and receipted_bytes(one) > 0:
            had[one.owner] += 1
            kept.append(one)
    return tuple(kept)


def recent(history: Iterable[tuple[int, bytes]], slot: int, hour_slots: int) -> dict[bytes, int]:
    """How many sessions of each owner were counted in the 24 HOURs up to a slot, itself not: from (slot closed, owner)."""
    return dict(Counter(owner for closed, owner in history if slot - OWNER_HOURS * hour_slots < closed < slot))


def work_done(sessions: Iterable[ClosedSession], entities: int) -> SlotWork:
    """S and B of the sessions that count, and N."""
    sizes = [receipted_bytes(one) for one in sessions]
    return SlotWork(len(sizes), sum(sizes), entities)


def halvings(minted: int) -> int:
    """H, from all LUCID minted before the slot."""
    return minted // HALVING


def slot_max(minted: int) -> int:
    """slotMax(H): 50, 25, 12, 6, 3, and 1 for ever, in LUCID."""
    return max(1, SLOT_MAX >> halvings(minted))


def weighed_sessions(work: SlotWork, base_bytes: int) -> int:
    """W = max(S, ⌈B ÷ base_bytes⌉); base_bytes above 0."""
    return max(work.sessions, -(-work.size // base_bytes))


def reward(work: SlotWork, minted: int, base_bytes: int, *, to_server: bool) -> int:
    """What a slot's publisher gets, in LUCID, 1 to slotMax; `minted` is all that slots before it have.

    No entity with credit (N = 0) counts as one, as in SPEC's D = W ÷ max(1, N). A slot without sessions is 2 to the
    Server and 1 to others, and after the fifth halving 1 to the Server as well: else it would be worth more empty than full.
    """
    most = slot_max(minted)
    if work.sessions == 0:
        return min(most, IDLE_SERVER if to_server else IDLE)
    entities = max(1, work.entities)
    density = min(max(5 * weighed_sessions(work, base_bytes) - entities, 0), 4 * entities)
    return 1 + (most - 1) * min(work.sessions - 1, 9) * density // (36 * entities)


def scaled(amount: int, stabiliser_ppm: int) -> int:
    """A reward after the stabiliser, in LUCID: it takes from what is above 1, and 10⁶ ppm or more take nothing.

    The first LUCID stays, or a scale of 999,999 ppm would leave most slots without any reward. Raises ValueError for a
    scale below 0 ppm.
    """
    if stabiliser_ppm < 0:
        raise ValueError("a stabiliser is 0 to 1,000,000 ppm")
    return 1 + (amount - 1) * min(stabiliser_ppm, PPM) // PPM
