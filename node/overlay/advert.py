"""What a node says of itself in the directory: where it is met, and what it offers.

Everything else that the network needs to know of a node follows from who signed the entry. Source: DESIGN §4, §5.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from consensus.encoding import Malformed
from consensus.ids import NodeId
from consensus.placement import Registrant
from consensus.records import Most, pack, unpack

ADDRESSES_MAX = 4
"""A node has one address, and two while it changes its onion."""


@dataclass(frozen=True, slots=True)
class Advert:
    """The body of a directory entry."""

    VERSION: ClassVar = 1
    addresses: Annotated[tuple[Annotated[bytes, Most(128)], ...], Most(ADDRESSES_MAX)]
    """Binary multiaddrs, the newest first."""
    capacity: int
    """Bytes of other people's replicas that it would hold; 0: none."""
    program: Annotated[str, Most(32)]
    """What it runs, for people."""


def write_advert(advert: Advert) -> bytes:
    """The body to append."""
    return pack(advert)


def read_advert(body: bytes) -> Advert | None:
    """The advert in a body; None for anything else, which is another program's business."""
    try:
        return unpack(Advert, body)
    except Malformed:
        return None


def registry(adverts: Iterable[tuple[NodeId, Advert]]) -> list[Registrant]:
    """Who may hold replicas, as long as nobody is admitted by more than being listed: each node is its own entity."""
    return [Registrant(node, node, advert.capacity) for node, advert in adverts if advert.capacity]
