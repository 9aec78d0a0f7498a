"""What the calls of the contracts cost, in gas: a transaction each, in a world of its own."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from consensus.facts import (
    CREDITS,
    NOBODY,
    REWARD,
    VOTERS,
    Facts,
    Listed,
    Minting,
    credits_entries,
    facts_proof,
    list_proofs,
    list_root,
    voters_entries,
)
from consensus.ids import Address, Digest, keccak256, session_id
from node.chain.genesis import PLACES
from tests.contracts.world import ACCOUNTS, World, encoded

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


NODES: Final = sorted(Address(keccak256(bytes([number]))[12:]) for number in range(100))
LIST: Final = voters_entries(dict.fromkeys(NODES, True))
VOTER_PROOFS: Final = list_proofs(LIST)
PROPOSED: Final = (PLACES["ParamRegistry"], encoded("ParamRegistry", "set", b"cooldownSlots".ljust(32, b"\0"), 20))


def _facts(slot: int = 0) -> Facts:
    credited = credits_entries(dict.fromkeys(NODES, 1_000))
    return Facts(
        Digest(bytes(32)),
        Minting(slot, Address(OTHER.address) if slot else NOBODY, 50),
        Listed(1, list_root(credited), 100),
        Listed(1, list_root(LIST), 100),
    )


def _committed(count: int) -> World:
    world = _opened()
    for first in range(0, count, 100):
        world.send(OWNER, "LucidChunkStore", "commit", ID, first, _chunks(100))
    return world


def _mint(world: World, slot: int) -> int:
    facts = _facts(slot)
    call = (*facts.reward, world.tell(facts), facts_proof(facts, REWARD))
    return world.send(OWNER, "RewardMinter", "mint", *call).gas


def _mint_again() -> int:
    world = _minted()
    _mint(world, 1)
    return _mint(world, 2)


def _commit_hour() -> int:
    world, facts = World(), _facts()
    call = (*facts.credits, world.tell(facts), facts_proof(facts, CREDITS))
    return world.send(OWNER, "WorkCreditsOracle", "commit", *call).gas


def _enrol(count: int) -> int:
    world, facts = World(), _facts()
    entries = [(place, account, True) for place, account in enumerate(NODES[:count])]
    call = (*facts.voters, world.tell(facts), facts_proof(facts, VOTERS), entries, VOTER_PROOFS[:count])
    return world.send(OWNER, "WorkCreditsOracle", "enrol", *call).gas


def _elected() -> World:
    world = World()
    world.act("EligibilityManager", "WorkCreditsOracle", "setEligible", [OWNER.address, OTHER.address], [True] * 2)
    world.pass_blocks()
    return world


def _propose(world: World) -> Any:
    return world.send(OWNER, "Governance", "propose", *PROPOSED, "because")


def _vote() -> int:
    world = _elected()
    (proposal,) = _propose(world).returned
    world.send(OWNER, "Governance", "vote", proposal, 1)
    return world.send(OTHER, "Governance", "vote", proposal, 1).gas


def _execute() -> int:
    world = _elected()
    (proposal,) = _propose(world).returned
    world.send(OWNER, "Governance", "vote", proposal, 1)
    world.pass_blocks(3_600)
    return world.send(OTHER, "Governance", "execute", *PROPOSED, OWNER.address, keccak256(b"because")).gas


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
    "RewardMinter.mint, to a new account": lambda: _mint(_minted(), 1),
    "RewardMinter.mint, again": _mint_again,
    "WorkCreditsOracle.commit": _commit_hour,
    "WorkCreditsOracle.enrol, 1 of 100 voters": lambda: _enrol(1),
    "WorkCreditsOracle.enrol, 100 voters": lambda: _enrol(100),
    "Governance.propose": lambda: _propose(_elected()).gas,
    "Governance.vote": _vote,
    "Governance.execute, ParamRegistry.set": _execute,
    "LucidToken.transfer, to a new account": lambda: (
        _minted().send(OWNER, "LucidToken", "transfer", OTHER.address, 1).gas
    ),
    "LucidToken.approve": lambda: _minted().send(OWNER, "LucidToken", "approve", OTHER.address, 1).gas,
}


def measured() -> dict[str, int]:
    """Of each call, by its name."""
    return {name: call() for name, call in CALLS.items()}
