"""A call that this node wants on the chain, as it is kept: the outbox writes these rows, and whoever shows anchors reads them.

outbox     what the call is for: session, kind, number     ──→ the call, and what was signed for it
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from consensus.ids import Address, Millis, keccak256
from consensus.records import Most, Size

OUTBOX: Final = "outbox"
EARLIER_MAX: Final = 32
BYTES_MAX: Final = 120_000
"""Of a transaction: below what other clients take (128 KiB)."""


@dataclass(frozen=True, slots=True)
class WantedCall:
    """A call as it is kept."""

    VERSION: ClassVar = 1
    number: int
    """Calls are made in the order of their numbers."""
    account: Annotated[Address, Size(20)]
    """Whose call it is."""
    to: Annotated[Address, Size(20)]
    data: Annotated[bytes, Most(BYTES_MAX)]
    gas: int
    wanted: Millis
    signed: Annotated[bytes, Most(2 * BYTES_MAX)]
    """The transaction; empty until it is signed."""
    earlier: Annotated[tuple[Annotated[bytes, Size(32)], ...], Most(EARLIER_MAX)]
    """The hashes of what was signed before: another branch may have it."""
    name: Annotated[bytes, Most(32)]
    """The payload that it is final in; empty until it is."""
    block: int
    """That payload's number."""
    ok: bool
    """Of a final one: whether its contract took it."""

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """Of all transactions that were signed for it, the last one first."""
        return (*([keccak256(self.signed)] if self.signed else ()), *self.earlier)
