"""The offer of `pairing_v1.json`, sealed under a code that everybody knows."""

from typing import Any, Final

from consensus.ids import Millis, NodeId
from node.wallet.pairing import LIFE_MS, Offer, seal

OFFER: Final = Offer(
    NodeId(bytes(range(32))),
    "Größe",
    Millis(1_700_000_000_000),
    (bytes(range(32, 64)), bytes(range(64, 96))),
    b"network",
)
CODE: Final = "0123-4567-89AB-CDEF"


def pairing_v1() -> dict[str, Any]:
    """An offer of two master keys and what stands in for a network's record."""
    expires = Millis(OFFER.made + LIFE_MS)
    number, text = seal(OFFER, CODE, expires, random=lambda count: bytes(range(count)))
    return {
        "origin": "An offer to pair a device of version 1 as first released, made by make.py.",
        "text": text,
        "code": CODE,
        "expires": expires,
        "number": number.hex(),
        "offered_by": OFFER.origin.hex(),
        "name": OFFER.name,
        "made": OFFER.made,
        "masters": [master.hex() for master in OFFER.masters],
        "network": OFFER.network.hex(),
    }
