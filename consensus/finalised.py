"""The final part of the chain and all that is kept of it: its blocks by height, a snapshot to begin at, who voted, late seeds.

head is final up to a newer checkpoint ── `advance` ──→ the tree's new root; rows: chain, heights, branches, snapshot, handovers, proof
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final

from consensus.ancestry import Ancestry, Stored
from consensus.block import skipped_seed
from consensus.checkpoint import Constitution
from consensus.forks import Tree
from consensus.ids import Digest
from consensus.placement import PLACING_HOURS, SKEW_HOURS
from consensus.snapshot import Snapshots
from consensus.state import State
from consensus.succession import Succession
from consensus.wishes import Keep

SEED_HOURS: Final = PLACING_HOURS + 2 * SKEW_HOURS
"""How long the seeds of final slots are remembered: as long as they draw whoever is the first to hold something."""


class Finalised:
    """Of one node; where it begins is the root."""

    def __init__(self, law: Constitution, genesis: State, stored: Stored) -> None:
        self.snapshots = Snapshots(law, stored)
        self.root, self.final = self.snapshots.begin() or (genesis, genesis.final)
        self.past = Ancestry(genesis.id, self.root.id, self.root.height, stored)
        self._succession = Succession(law, self.root, stored)
        self._law = law
        self._seeds: list[tuple[int, Digest]] = []
        """Of the final blocks before the tree's root, by their slots; what was before the last start is not among them."""

    def advance(
        self,
        tree: Tree,
        head: State,
        at: Callable[[State, int], State],
    ) -> tuple[list[Keep], Sequence[Digest]]:
        """Cut a tree to the head's final checkpoint, which is newer: the rows to keep, and the blocks that it lost.

        at gives the state at a later slot.
        """
        final = head.final
        rows = [*self._succession.follow([*tree.ancestors(head.id)][::-1], self.snapshots.point, tree.block)]
        states = [*tree.ancestors(final.block)]
        path = [state.id for state in states]
        first = states[0].slot - SEED_HOURS * self._law.params.hour_slots
        past = [*self._seeds, *((state.slot, state.seed) for state in reversed(states[1:]))]
        self._seeds = past[bisect_right(past, first, key=lambda one: one[0]) :]
        rows += self.past.extend(reversed(path[:-1]))
        gone = [name for name in tree.prune(final) if name not in {*path}]
        rows += [Keep("branches", (name,), None) for name in (*path[:-1], *gone)]
        rows += [Keep("blocks", (name,), None) for name in gone]
        self.final = final
        return [*rows, *self.snapshots.renew(tree.parent(final.block), final, at)], (*gone, *path[1:])

    def seed_of(self, tree: Tree, head: State, slot: int) -> Digest | None:
        """The seed of a slot on a head's branch, as if later ones were empty; None where it is not remembered."""
        if slot >= tree.parent(tree.root).slot:
            start, seed = next((one.slot, one.seed) for one in tree.ancestors(head.id) if one.slot <= slot)
        elif at := bisect_right(self._seeds, slot, key=lambda one: one[0]):
            start, seed = self._seeds[at - 1]
        else:
            return None
        if slot - start > SEED_HOURS * self._law.params.hour_slots:  # nobody published for days: in one go
            return skipped_seed(self._law.network, seed, slot)
        for following in range(start + 1, slot + 1):
            seed = skipped_seed(self._law.network, seed, following)
        return seed
