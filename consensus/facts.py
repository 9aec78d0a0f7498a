"""What the consensus tells the chain's contracts of the block before, so that they can be shown it: a keccak tree of four leaves.

    root ──┬── • ──┬── 0  block    its id                      data of a leaf: words of 32 bytes, as Solidity's abi.encode
           │       └── 1  reward   slot, payee, LUCID          leaf = keccak256(00 ‖ data)
           └── • ──┬── 2  credits  HOUR, root, count           node = keccak256(01 ‖ left ‖ right)
                   └── 3  voters   ERA, root, count            proof of a leaf: [its neighbour, the other pair's node]

Credits and voters are lists: an entry is keccak256(00 ‖ account, credits) or (00 ‖ account, eligible), in ascending order of
accounts. The tree over them has the same nodes, an odd one promoted as it is; its root is keccak256(02 ‖ count as a word ‖
top), of no entries keccak256(02 ‖ 0). The count fixes the shape: a proof is the siblings from below, none where a node is
promoted, and holds for one place of one count. The root of the facts is an execution block's parent_beacon_block_root.

Source: CONSENSUS §8, EIP-4788; contracts/src/Facts.sol reads what is made here.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from consensus.ids import Address, Digest, keccak256

BLOCK, REWARD, CREDITS, VOTERS = range(4)
"""The places of the leaves."""

NOBODY: Final = Address(bytes(20))
"""The payee of a block that mints nothing."""


class Minting(NamedTuple):
    """What a block's publisher gets, in whole LUCID; of 0, or for NOBODY, nothing is minted."""

    slot: int
    payee: Address
    amount: int


class Listed(NamedTuple):
    """A list, of an HOUR or of an ERA by its number: its root and how many entries it has."""

    number: int
    root: Digest
    size: int


class Facts(NamedTuple):
    """All that is said of a block, in the order of the leaves."""

    block: Digest
    reward: Minting
    credits: Listed
    voters: Listed


def facts_leaves(facts: Facts) -> tuple[Digest, ...]:
    """The four leaves. Raises ValueError for a hash or an address of another length, and for a number that is no uint256."""
    return (
        _leaf(_hash(facts.block)),
        _leaf(_number(facts.reward.slot), _account(facts.reward.payee), _number(facts.reward.amount)),
        *(_leaf(_number(one.number), _hash(one.root), _number(one.size)) for one in (facts.credits, facts.voters)),
    )


def facts_root(facts: Facts) -> Digest:
    """The root of the facts; raises ValueError as `facts_leaves` does."""
    leaves = facts_leaves(facts)
    return _node(_node(*leaves[:2]), _node(*leaves[2:]))


def facts_proof(facts: Facts, place: int) -> tuple[Digest, Digest]:
    """What proves the leaf at a place. Raises IndexError for a place that is none, and ValueError as `facts_leaves` does."""
    leaves = facts_leaves(facts)
    if not 0 <= place < len(leaves):
        raise IndexError(f"no fact {place}")
    other = place & 2 ^ 2
    return leaves[place ^ 1], _node(leaves[other], leaves[other + 1])


def is_fact(root: Digest, place: int, leaf: Digest, proof: Sequence[Digest]) -> bool:
    """Whether a leaf is at that place of the facts; False for a proof of any other shape."""
    return 0 <= place < 4 and _climbed(4, place, leaf, proof) == root


def credits_entries(credited: Mapping[Address, int]) -> list[Digest]:
    """An HOUR's list: what each account was credited. Raises ValueError as `facts_leaves` does."""
    return [_leaf(_account(account), _number(credited[account])) for account in sorted(credited)]


def voters_entries(eligible: Mapping[Address, bool]) -> list[Digest]:
    """An ERA's list: whether each account may vote. Raises ValueError as `facts_leaves` does.

    Who no longer may has to be in it, with False: for the contracts, who is not in it stays as he was.
    """
    return [_leaf(_account(account), _number(bool(eligible[account]))) for account in sorted(eligible)]


def list_root(entries: Sequence[Digest]) -> Digest:
    """The root over entries in their order; it binds how many they are."""
    return _bind(len(entries), _levels(entries)[-1][0] if entries else b"")


def list_proofs(entries: Sequence[Digest]) -> list[tuple[Digest, ...]]:
    """What proves each entry, in their order: the siblings from below, at most ⌈log2 count⌉; one tree is built for all."""
    levels = _levels(entries)
    return [
        tuple(
            Digest(level[sibling])
            for height, level in enumerate(levels[:-1])
            if (sibling := place >> height ^ 1) < len(level)
        )
        for place in range(len(entries))
    ]


def is_listed(root: Digest, count: int, place: int, entry: Digest, proof: Sequence[Digest]) -> bool:
    """Whether an entry is at that place of a list of so many; False for a proof of any other shape."""
    if not 0 <= place < count < 1 << 256:
        return False
    top = _climbed(count, place, entry, proof)
    return top is not None and _bind(count, top) == root


def _climbed(count: int, place: int, leaf: Digest, proof: Sequence[Digest]) -> Digest | None:
    """The top over a leaf, by its siblings; None if they are too few, too many, or no hashes."""
    if any(len(one) != 32 for one in (leaf, *proof)):
        return None
    node, width, used = leaf, count, 0
    while width > 1:
        if place ^ 1 < width:  # else promoted: this level has no sibling for it
            if used == len(proof):
                return None
            node = _node(proof[used], node) if place & 1 else _node(node, proof[used])
            used += 1
        place, width = place >> 1, (width + 1) >> 1
    return node if used == len(proof) else None


def _levels(entries: Sequence[Digest]) -> list[list[Digest]]:
    levels = [list(entries)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        above = [_node(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)]
        levels.append(above + below[-1:] if len(below) % 2 else above)
    return levels


def _bind(count: int, top: bytes) -> Digest:
    return Digest(keccak256(b"\x02" + _number(count) + top))


def _node(left: bytes, right: bytes) -> Digest:
    return Digest(keccak256(b"\x01" + left + right))


def _leaf(*words: bytes) -> Digest:
    return Digest(keccak256(b"\x00" + b"".join(words)))


def _hash(value: bytes) -> bytes:
    if len(value) != 32:
        raise ValueError("a hash has 32 bytes")
    return value


def _account(value: bytes) -> bytes:
    if len(value) != 20:
        raise ValueError("an address has 20 bytes")
    return bytes(12) + value


def _number(value: int) -> bytes:
    if not 0 <= value < 1 << 256:
        raise ValueError("a number of a contract is 0 to 2^256 - 1")
    return value.to_bytes(32, "big")
