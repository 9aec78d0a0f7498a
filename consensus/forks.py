"""Which branch to build on: from the highest justified checkpoint towards the weight of the latest votes.

    weight of latest votes, one a voter  →  length  →  lower rank, the last of all if it came late  →  lower hash

A tree holds the blocks after the last final checkpoint. It is a node's own view and decides nothing about validity.
Source: CONSENSUS §7; "latest message driven GHOST" (Zamfir, 2017).
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from consensus.block import Block, BlockBody
from consensus.finality import Point
from consensus.ids import Digest, NodeId
from consensus.params import SERVER_RANK
from consensus.state import State


@dataclass(frozen=True, slots=True)
class Leaf:
    """A block of the tree, and those on top of it."""

    state: State
    parent: Digest
    is_late: bool
    """It came so long after its rank's time that its rank counts as the last."""
    block: Block | None = None
    """What shows it to be final: its header and its votes. The root has none, unless it was added before it became the root."""
    children: list[Digest] = field(default_factory=list)


class Tree:
    """The blocks of all branches from a root on; the root is a final checkpoint's block, or the genesis."""

    def __init__(self, root: State, final: Point | None = None) -> None:
        """The checkpoint is the root's, if it is not the genesis."""
        self.root = root.id
        self.justified = final or root.justified
        self._leaves = {root.id: Leaf(root, root.id, is_late=False)}

    def __contains__(self, block: Digest) -> bool:
        return block in self._leaves

    def __len__(self) -> int:
        return len(self._leaves)

    def state(self, block: Digest) -> State | None:
        """The state after a block; None for one that is not in the tree."""
        found = self._leaves.get(block)
        return None if found is None else found.state

    def parent(self, block: Digest) -> State:
        """The state before a block of the tree; of the root its own."""
        return self._leaves[self._leaves[block].parent].state

    def block(self, block: Digest) -> Block | None:
        """Header and votes of a block of the tree."""
        return self._leaves[block].block

    def add(self, state: State, parent: Digest, *, is_late: bool, block: Block | None = None) -> None:
        """One more block on top of one that is in the tree; of the block itself its votes alone are kept."""
        told = None if block is None else Block(block.signed, BlockBody(votes=block.body.votes))
        self._leaves[state.id] = Leaf(state, parent, is_late, told)
        self._leaves[parent].children.append(state.id)

    def justify(self) -> Point:
        """Take the highest justified checkpoint of any branch as the one to start from; at the beginning of an HOUR."""
        for leaf in self._leaves.values():
            found = leaf.state.justified
            if found.block in self._leaves and (found.hour, self.justified.block) > (self.justified.hour, found.block):
                self.justified = found
        return self.justified

    def head(self, latest: Mapping[NodeId, Digest], expelled: Collection[bytes] = ()) -> State:
        """The block to build on; latest are the newest votes' heads. Costs O(blocks) in the tree."""
        weight = dict.fromkeys(self._leaves, 0)
        for voter, block in latest.items():
            if block in weight and voter not in expelled:
                weight[block] += 1
        length = dict.fromkeys(self._leaves, 0)
        for block in reversed(list(self._leaves)):  # children were added after their parents
            parent = self._leaves[block].parent
            if parent != block:
                weight[parent] += weight[block]
                length[parent] = max(length[parent], 1 + length[block])
        at = self.justified.block if self.justified.block in self._leaves else self.root
        while children := self._leaves[at].children:
            at = min(children, key=lambda child: (-weight[child], -length[child], self._rank(child), child))
        return self._leaves[at].state

    def _rank(self, block: Digest) -> int:
        leaf = self._leaves[block]
        return SERVER_RANK + 1 if leaf.is_late else leaf.state.rank

    def ancestors(self, block: Digest) -> Iterator[State]:
        """A block's state, its parent's and so on to the root's."""
        while True:
            leaf = self._leaves[block]
            yield leaf.state
            if leaf.parent == block:  # the root
                return
            block = leaf.parent

    def prune(self, final: Point) -> list[Digest]:
        """Forget what is not on top of a final checkpoint's block, which becomes the root; the blocks that went.

        A final checkpoint that contradicts the root is none of this tree's: nothing changes.
        """
        if final.block not in self._leaves or final.block == self.root:
            return []
        kept: dict[Digest, Leaf] = {}
        for block, leaf in self._leaves.items():
            if block == final.block or leaf.parent in kept:
                kept[block] = leaf
        gone = [block for block in self._leaves if block not in kept]
        kept[final.block] = replace(kept[final.block], parent=final.block)
        self._leaves, self.root = kept, final.block
        if self.justified.block not in kept:
            self.justified = final
        return gone
