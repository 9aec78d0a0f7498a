"""What the calls of the contracts cost, in gas: a transaction each, in a world of its own."""

from collections.abc import Callable, Mapping
from typing import Final

from consensus.ids import Address, session_id
from tests.contracts.world import ACCOUNTS, World

OWNER, OTHER, *_ = ACCOUNTS
UUID, KEY = bytes(range(16)), bytes(range(32))
ID: Final = bytes(session_id(Address(OWNER.address), UUID, KEY))


def _chunks(count: int) -> list[tuple[bytes, int, list[bytes]]]:
    return [
        (number.to_bytes(32, "big"), 16_000_000, [bytes([number, j]) * 16 for j in range(3)])
        for number in range(1, count + 1)
    ]


def _opened() -> World:
    world = World()
    world.send(OWNER, "LucidAnchors", "open", UUID, KEY, b"p" * 32)
    return world


def _minted() -> World:
    world = World()
    world.act("LucidToken", "RewardMinter", "mint", OWNER.address, 100)
    world.pass_blocks()
    return world


def _committed(count: int) -> World:
    world = _opened()
    for first in range(0, count, 100):
        world.send(OWNER, "LucidChunkStore", "commit", ID, first, _chunks(100))
    return world


CALLS: Final[Mapping[str, Callable[[], int]]] = {
    "LucidAnchors.open": lambda: World().send(OWNER, "LucidAnchors", "open", UUID, KEY, b"p" * 32).gas,
    "LucidAnchors.head": lambda: _opened().send(OWNER, "LucidAnchors", "head", ID, 1, b"h" * 32).gas,
    "LucidAnchors.close": lambda: _opened().send(OWNER, "LucidAnchors", "close", ID, b"m" * 32, b"r" * 32, 9, 3).gas,
    "LucidChunkStore.commit, 1 chunk": lambda: (
        _opened().send(OWNER, "LucidChunkStore", "commit", ID, 0, _chunks(1)).gas
    ),
    "LucidChunkStore.commit, 100 chunks": lambda: (
        _opened().send(OWNER, "LucidChunkStore", "commit", ID, 0, _chunks(100)).gas
    ),
    "LucidChunkStore.hold, 256 chunks": lambda: (
        _committed(300).send(OTHER, "LucidChunkStore", "hold", ID, 0, 2**256 - 1, 1).gas
    ),
    "LucidChunkStore.probe": lambda: (
        _committed(100).send(OTHER, "LucidChunkStore", "probe", ID, 7, 1, OWNER.address, True).gas
    ),
    "LucidToken.transfer, to a new account": lambda: (
        _minted().send(OWNER, "LucidToken", "transfer", OTHER.address, 1).gas
    ),
    "LucidToken.approve": lambda: _minted().send(OWNER, "LucidToken", "approve", OTHER.address, 1).gas,
}


def measured() -> dict[str, int]:
    """Of each call, by its name."""
    return {name: call() for name, call in CALLS.items()}
