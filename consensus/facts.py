"""What a block of the consensus says of itself to the contracts: four facts under a root, in Ethereum's own hash.

    leaf = keccak256(00 ‖ data), node = keccak256(01 ‖ left ‖ right)        data: words of 32 bytes, big-endian

    root ── BLOCK: id
         ── REWARD: slot, payee, amount in LUCID        ── CREDITS, VOTERS: not said yet, one zero word

The execution layer keeps the roots of 8,191 blocks (EIP-4788), so that a contract checks a fact without any key of ours.
Source: CONSENSUS §8; contracts/src/Facts.sol.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from consensus.ids import Address, Digest, keccak256

WORD: Final = 32
UNSAID: Final = bytes(WORD)


class Fact(IntEnum):
    """Its place among the leaves."""

    BLOCK = 0
    REWARD = 1
    CREDITS = 2
    VOTERS = 3


class Payout(NamedTuple):
    """What a block's publisher gets."""

    slot: int
    payee: Address
    amount: int
    """In LUCID."""


def words(*values: int | bytes) -> bytes:
    """Values as the EVM's ABI spells static ones: 32 bytes each, those that are shorter from the right."""
    return b"".join(
        (value.to_bytes(WORD, "big") if isinstance(value, int) else value.rjust(WORD, b"\0")) for value in values
    )


def _leaf(data: bytes) -> bytes:
    return keccak256(b"\0" + data)


def _node(left: bytes, right: bytes) -> bytes:
    return keccak256(b"\1" + left + right)


def facts(block: Digest, payout: Payout | None) -> tuple[bytes, bytes, bytes, bytes]:
    """The data of a block's four facts."""
    return words(block), UNSAID if payout is None else words(*payout), UNSAID, UNSAID


def root(data: Sequence[bytes]) -> Digest:
    """The root over four facts."""
    first, second, third, fourth = map(_leaf, data)
    return Digest(_node(_node(first, second), _node(third, fourth)))


def proof(data: Sequence[bytes], fact: Fact) -> tuple[bytes, bytes]:
    """The two siblings that lead from a fact to the root: the leaf beside it, then the node beside both."""
    leaves = [*map(_leaf, data)]
    beside = leaves[fact ^ 1]
    other = [*leaves[2:]] if fact < 2 else [*leaves[:2]]
    return beside, _node(other[0], other[1])


def leads(data: bytes, fact: Fact, siblings: tuple[bytes, bytes]) -> Digest:
    """The root that a fact and its siblings lead to, as the contracts work it out."""
    node = _leaf(data)
    for level, other in enumerate(siblings):
        node = _node(other, node) if fact >> level & 1 else _node(node, other)
    return Digest(node)
