"""Who voted after whom, kept as it happens: what shows a stranger that a snapshot is final, without the chain before it.

    a final HOUR names other voters ──→ handovers: number ──→ HandOver
    an HOUR after the snapshot's is final ──→ proof: last ──→ ChainProof of the first block on top of the snapshot
    an HOUR is final                      ──→ proof: newest ──→ ChainProof of its checkpoint, to which headers of ours lead

That block's header names the state at the beginning of its HOUR, which the snapshot is. Every proof begins at the genesis.
An HOUR without a block has no such header: then there is no proof until the next snapshot.

Source: CONSENSUS §7, §9.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from consensus.ancestry import Stored, key_of
from consensus.block import Block
from consensus.checkpoint import Constitution
from consensus.encoding import Malformed
from consensus.finality import Point
from consensus.ids import Digest
from consensus.proof import HandOver, genesis_trust, spell_voters
from consensus.prover import hand_overs, prove
from consensus.records import pack, unpack
from consensus.snapshot import LAST, PROOF
from consensus.state import State
from consensus.wishes import Keep

HAND_OVERS: Final = "handovers"
NEWEST: Final = b"newest"
"""The row of the last final checkpoint that was shown to be."""
UNSHOWN_MAX: Final = 256
"""Final blocks on top of a snapshot that is not shown to be final yet; beyond that the next snapshot will be."""


class Succession:
    """Of one node's final chain, from a root on."""

    def __init__(self, law: Constitution, root: State, stored: Stored) -> None:
        self._trust = genesis_trust(law)
        self._known = _known(self._trust.voters, spell_voters(root.checkpoint.voters), stored)
        """None where a row is lost: then nothing can be shown any more."""
        self._wanted: Digest | None = None
        """The first block on top of the snapshot, while it is not shown to be final."""
        self._unshown: list[tuple[Block, State]] = []
        """The blocks from that one to the root."""

    def follow(
        self, path: Sequence[State], snapshot: Point | None, read: Callable[[Digest], Block | None]
    ) -> Iterator[Keep]:
        """The rows to keep before a root is left for a newer one; path leads from it to the head, whose final checkpoint is newer.

        `read` gives a block's header and votes; costs as much as looking at all votes of the path.
        """
        root, head = path[0], path[-1]
        if snapshot is not None and snapshot.block == root.id:  # what was wanted before is of an older one
            self._unshown, self._wanted = [], path[1].id if path[1].checkpoint.point == snapshot else None
        last = self._known[-1].successors if self._known else self._trust.voters
        is_other = spell_voters(head.checkpoint.voters) != last
        if self._known is None:
            return
        new = [(block, state) for state in path[1:] if (block := read(state.id)) is not None]
        chain = [*self._unshown, *new]
        for one in hand_overs(self._trust, chain, self._known) if is_other else ():
            yield Keep(HAND_OVERS, (key_of(len(self._known)),), pack(one))
            self._known = [*self._known, one]
        newest = prove(self._trust, new, head.final.block, self._known)
        if newest is not None:
            yield Keep(PROOF, (NEWEST,), pack(newest))
        if self._wanted:
            yield from self._show(self._wanted, chain, head.final.block)

    def _show(self, wanted: Digest, chain: list[tuple[Block, State]], final: Digest) -> Iterator[Keep]:
        """The proof of the block on top of the snapshot, or what it will need once those who vote now have made an HOUR final."""
        proof = prove(self._trust, chain, wanted, self._known or ())
        if proof is not None:
            yield Keep(PROOF, (LAST,), pack(proof))
        past = [state.id for _, state in chain].index(final) + 1
        is_done = proof is not None or past > UNSHOWN_MAX
        self._wanted, self._unshown = (None, []) if is_done else (wanted, chain[:past])


def _known(founders: bytes, voters: bytes, stored: Stored) -> list[HandOver] | None:
    """The hand-overs from the founders to a set of voters, of those that were kept; None if they do not lead there."""
    found: list[HandOver] = []
    try:
        while (row := stored(HAND_OVERS, key_of(len(found)))) is not None:
            found.append(unpack(HandOver, row))
    except Malformed:
        pass  # a damaged row: what follows leads from nowhere
    while found and found[-1].successors != voters:
        found.pop()  # it was made after the root, and will be again
    return found if found or founders == voters else None
