"""The entries of `storage_v1.json`: news as a payload begins with them, and what they lead to."""

from typing import Any, Final

from consensus.encoding import encode
from consensus.ids import Address, NodeId, SessionId
from consensus.news import (
    ChunkNamed,
    ChunksNamed,
    ReplicasHeld,
    ReplicaShown,
    SessionEnded,
    SessionNews,
    roots_name,
    told,
)
from consensus.registry import Member, registry_of
from consensus.storage import NOTHING, Storage, learned, revealed, settled, spell_storage
from tests.consensus.worlds import NETWORK, named

ROOTS: Final = (named(1), named(2), named(3))
NODES: Final = [NodeId(named(10 + number)) for number in range(5)]
ACCOUNTS: Final = [Address(bytes([0xA0 + number]) * 20) for number in range(5)]
SESSION: Final = SessionId(named(20))
NEWS: Final[tuple[tuple[int, tuple[SessionNews, ...]], ...]] = (
    (
        5,
        (
            ChunksNamed(
                SESSION,
                ACCOUNTS[0],
                0,
                (
                    ChunkNamed(named(30), 8_000_116, roots_name(ROOTS)),
                    ChunkNamed(named(31), 1 << 63, roots_name(ROOTS[::-1])),
                ),
            ),
            SessionEnded(SessionId(named(21)), ACCOUNTS[1]),
        ),
    ),
    (
        9,
        (
            *(ReplicasHeld(SESSION, ACCOUNTS[who], who - 1, 0, 1 << 255 | 3) for who in (1, 2, 3)),
            ReplicaShown(SESSION, 0, 1, ACCOUNTS[2], ACCOUNTS[3]),
            SessionEnded(SESSION, ACCOUNTS[0]),
        ),
    ),
)
"""By the slots of their blocks."""


def stored() -> Storage:
    """What those news lead to, with one session that was paid for before."""
    members = [Member(node, node, b"", b"", account, 1 << 40, 0) for node, account in zip(NODES, ACCOUNTS, strict=True)]
    storage = Storage({}, ((1, NODES[4]),))
    for slot, news in NEWS:
        storage = learned(settled(storage, slot, 30, ()), news, slot, registry_of(0, members, {}), NETWORK)
        storage = revealed(storage, slot + 2, named(40))
    assert storage != NOTHING
    return storage


def storage_v1() -> dict[str, Any]:
    """News and storage."""
    return {
        "origin": "News and storage as first released, made by paying.py.",
        "network": NETWORK.hex(),
        "payloads": [{"slot": slot, "payload": told(news, b"a block").hex()} for slot, news in NEWS],
        "storage": encode(spell_storage(stored())).hex(),
    }
