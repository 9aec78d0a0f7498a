"""The entries of `storage_v1.json`: news as a payload begins with them, what they lead to, and a snapshot that has it."""

from dataclasses import replace
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
from consensus.snapshot import credits_row, rows_of
from consensus.state import State, at_slot, state_digest
from consensus.storage import NOTHING, Storage, learned, revealed, settled, spell_storage
from tests.consensus.towns import Town
from tests.consensus.worlds import FULL, NETWORK, named
from tests.vectors.snapped import FOUNDERS, LAW

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


def snapped() -> tuple[Town, State]:
    """A town's state at the beginning of its last final HOUR, with such sessions."""
    town = Town(FOUNDERS, LAW, work=FULL)
    town.run(6 * LAW.hour_slots + 2)
    replica = town.up[0].replica
    at = at_slot(town.law, replica.tree.parent(replica.tree.root), replica.final.hour * LAW.hour_slots)
    state = replace(at, storage=stored())
    return town, replace(state, state=state_digest(town.law, state))


def storage_v1() -> dict[str, Any]:
    """News, storage, and a snapshot of version 4."""
    town, state = snapped()
    rows = rows_of(state)
    return {
        "origin": "News and storage as first released, made by paying.py; the snapshot is a town's of three founders.",
        "network": NETWORK.hex(),
        "payloads": [{"slot": slot, "payload": told(news, b"a block").hex()} for slot, news in NEWS],
        "storage": encode(spell_storage(stored())).hex(),
        "founders": [node.hex() for node in town.village.nodes],
        "window_hours": LAW.window_hours,
        "state": state.state.hex(),
        "snapshot": rows.snapshot.hex(),
        "credits": {name.hex(): credits_row(hour).hex() for name, hour in rows.hours.items()},
    }
