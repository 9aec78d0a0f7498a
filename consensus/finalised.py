"""The final part of the chain and all that is kept of it: its blocks by height, a snapshot to begin at, and who voted.

head is final up to a newer checkpoint ── `advance` ──→ the tree's new root; rows: chain, heights, branches, snapshot, handovers, proof
"""

from collections.abc import Callable, Sequence

from consensus.ancestry import Ancestry, Stored
from consensus.checkpoint import Constitution
from consensus.forks import Tree
from consensus.ids import Digest
from consensus.snapshot import Snapshots
from consensus.state import State
from consensus.succession import Succession
from consensus.wishes import Keep


class Finalised:
    """Of one node; where it begins is the root."""

    def __init__(self, law: Constitution, genesis: State, stored: Stored) -> None:
        self.snapshots = Snapshots(law, stored)
        self.root, self.final = self.snapshots.begin() or (genesis, genesis.final)
        self.past = Ancestry(genesis.id, self.root.id, self.root.height, stored)
        self._succession = Succession(law, self.root, stored)

    def advance(
        self,
        tree: Tree,
        head: State,
        read: Callable[[Digest], bytes | None],
        at: Callable[[State, int], State],
    ) -> tuple[list[Keep], Sequence[Digest]]:
        """Cut a tree to the head's final checkpoint, which is newer: the rows to keep, and the blocks that it lost.

        read is of blocks, and at gives the state at a later slot.
        """
        final = head.final
        rows = [*self._succession.follow([*tree.ancestors(head.id)][::-1], self.snapshots.point, read)]
        path = [state.id for state in tree.ancestors(final.block)]
        rows += self.past.extend(reversed(path[:-1]))
        gone = [name for name in tree.prune(final) if name not in {*path}]
        rows += [Keep("branches", (name,), None) for name in (*path[:-1], *gone)]
        rows += [Keep("blocks", (name,), None) for name in gone]
        self.final = final
        return [*rows, *self.snapshots.renew(tree.parent(final.block), final, at)], (*gone, *path[1:])
