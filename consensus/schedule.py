"""Who may publish a slot: six ranks, drawn by weight from the seed of the slot before, alike on every machine.

    u = 1 + BLAKE3("draw" ‖ seed ‖ slot ‖ entity)[:8]        e = 64·2³² − log2fix(u)        key = (e << 64) // weight

−log₂ of a uniform number divided by a weight is exponential with that weight, and the least of such numbers belongs to an
entity with a chance in proportion to its weight, the second of the rest likewise (Efraimidis & Spirakis, 2006). So work that
is split among identities leads exactly as often as work that is not. `rank` is the specification to the letter and `bands`
a compromise; both let the best few win every slot and are there to be compared.

Source: CONSENSUS §5, SPEC §5.
"""

from collections.abc import Collection, Mapping
from heapq import nsmallest
from typing import Final

from blake3 import blake3

from consensus.ids import Digest, Network
from consensus.params import RANKS, LeaderRule
from consensus.signing import domain

FRACTION: Final = 32
"""Fractional bits of `log2fix`."""

BANDS: Final = 16

_WHOLE: Final = 64 << FRACTION
_TOP: Final = 1 << 64

_NEAR: Final = 24
"""How many entities the draw looks at closely in the mean, to find six; three in 10⁶ draws begin anew where nobody rests."""

_PER_LN2: Final = 6_196_328_018
"""⌊2³² ÷ ln 2⌋."""


def log2fix(number: int) -> int:
    """The binary logarithm of 1 to 2⁶⁴ in units of 2⁻³², truncated: 32 fractional bits by squaring a 64-bit mantissa."""
    whole = number.bit_length() - 1
    mantissa = number << 63 - whole if whole < 64 else number >> 1
    result = whole
    for _ in range(FRACTION):
        mantissa = mantissa * mantissa >> 63
        result <<= 1
        if mantissa >> 64:
            mantissa >>= 1
            result |= 1
    return result


def uniform(start: bytes, entity: bytes) -> int:
    """The entity's number of a draw, 1 to 2⁶⁴: `start` is the draw's domain, seed and slot."""
    return 1 + int.from_bytes(blake3(start + entity).digest(8), "big")


def draw_key(number: int, weight: int) -> int:
    """What the ranks are sorted by, from a uniform number and a weight above 0."""
    return (_WHOLE - log2fix(number) << 64) // weight


def drawing(network: Network, seed: Digest, slot: int) -> bytes:
    """What every entity's number of one slot is hashed behind: domain ‖ seed ‖ slot u64 big-endian."""
    return domain("draw", network) + seed + slot.to_bytes(8, "big")


def cooldown(weights: Mapping[bytes, int], slots: int) -> int:
    """For how many slots who has published does not lead: `slots`, and fewer where few entities share the weight.

    min(slots, ⌊total ÷ (8 × largest)⌋). A flat one would give whoever splits among few the slots that the others sit out.
    """
    largest = max(weights.values(), default=0)
    return min(slots, sum(weights.values()) // (8 * largest)) if largest else 0


def ranks(
    rule: LeaderRule,
    network: Network,
    seed: Digest,
    slot: int,
    weights: Mapping[bytes, int],
    resting: Collection[bytes] = (),
) -> tuple[bytes, ...]:
    """The entities that may publish a slot, the first first: at most six, none that rests or has no weight.

    seed is that of the slot before. Costs a hash for each entity: 8 ms for 10,000.
    """
    start = drawing(network, seed, slot)
    if rule is LeaderRule.SORTITION:
        return _sortition(start, weights, resting)
    able = {entity: weight for entity, weight in weights.items() if weight > 0 and entity not in resting}
    if rule is LeaderRule.RANK:
        return _by_tiers(start, able)
    largest = max(able.values(), default=1)
    return _by_tiers(start, {entity: weight * BANDS // (largest + 1) for entity, weight in able.items()})


def sortition_exact(start: bytes, able: Mapping[bytes, int]) -> tuple[bytes, ...]:
    """The draw as it is defined, every key computed: what `ranks` finds sooner."""
    keys = [(draw_key(uniform(start, entity), weight), entity) for entity, weight in able.items()]
    return tuple(entity for _, entity in nsmallest(RANKS, keys))


def _sortition(start: bytes, weights: Mapping[bytes, int], resting: Collection[bytes]) -> tuple[bytes, ...]:
    """`sortition_exact` of those alone whose number is near enough to 2⁶⁴ for their weight, in integers alone.

    With y = 1 − u ÷ 2⁶⁴, −log₂(1 − y) is at least y ÷ ln 2, and log2fix is never above the logarithm. So who is left out, its y
    at least weight × reach ÷ 2⁶⁴, has a key of at least reach × 2³² ÷ ln 2; below that, the keys that are found are the least of all.
    Where a few have most of the weight the first reach is too short, and all numbers are kept while it grows.
    """
    reach = 1 + _NEAR * _TOP // (1 + sum(weights.values()))
    near = [
        (entity, weight)
        for entity, weight in weights.items()  # `uniform` written out: a call for each would be a third of the cost
        if _TOP - int.from_bytes(blake3(start + entity).digest(8), "big") <= weight * reach and entity not in resting
    ]
    numbers: list[tuple[int, bytes, int]] = []
    while True:
        first = nsmallest(RANKS, ((draw_key(uniform(start, entity), weight), entity) for entity, weight in near))
        if reach >= _TOP or (len(first) == RANKS and first[-1][0] < reach * _PER_LN2):
            return tuple(entity for _, entity in first)
        numbers = numbers or [
            (uniform(start, one), one, weight) for one, weight in weights.items() if one not in resting
        ]
        reach *= 4
        near = [(entity, weight) for number, entity, weight in numbers if _TOP - number < weight * reach]


def _by_tiers(start: bytes, able: Mapping[bytes, int]) -> tuple[bytes, ...]:
    """The highest first, equals in the order of their numbers."""
    keys = [(-tier, uniform(start, entity), entity) for entity, tier in able.items()]
    return tuple(entity for _, _, entity in nsmallest(RANKS, keys))
