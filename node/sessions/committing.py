"""Which of a session's chunks are committed to on the chain, in what order, and by which call.

    chunk sealed, roots of its replicas known ── numbered (kept) ──→ one commit call a slot, for those that came since

A chunk's number is the place in which it is committed to: chunks of several streams are sealed in any order. A chunk is
committed to before the seed is known that draws its holders, so it is done while the session goes on, and not at its end.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from consensus.ids import Digest, Millis, SessionId
from node.chain.onsystem import CHUNKS_MOST, Commitment, commit_chunks
from node.chain.outbox import Outbox
from node.sessions.placement import Placement
from node.sessions.records import Kept
from node.sessions.replication import Replication
from node.store import ABSENT, Key, Put, Store

COMMITMENTS: Final = "commitments"
"""session, number ──→ chunk 32 ‖ the number of the first chunk of its call u64."""
COMMIT: Final = "commit"


class _Numbered(NamedTuple):
    chunk: Digest
    first: int
    """The number of the first chunk of its call."""


class Committing:
    """The commitments of one home."""

    def __init__(self, store: Store, replication: Replication) -> None:
        self._store, self._replication = store, replication
        self._numbered: dict[SessionId, list[_Numbered]] = {}
        self._slots: dict[SessionId, int] = {}
        """The slot in which chunks of an open session were committed to last."""

    async def commit(self, kept: Kept, outbox: Outbox, slot: int, now: Millis) -> bool:
        """Have those chunks committed to whose replicas' roots are known; whether all of a session are.

        Of an open session once a slot.
        """
        session = kept.opening.session
        numbered = await self._known(session)
        for first in dict.fromkeys(one.first for one in numbered):
            await self._want(session, first, outbox, now)  # it died in between, or is wanted already
        known = {one.chunk for one in numbered}
        placements = [self._replication.placement(one.file) for one in kept.chunks if one.file not in known]
        ready = [one for one in placements if one is not None]
        is_open = kept.manifest is None
        if ready and not (is_open and self._slots.get(session) == slot):
            self._slots[session] = slot
            for at in range(0, len(ready), CHUNKS_MOST):
                first = await self._number(session, ready[at : at + CHUNKS_MOST])
                await self._want(session, first, outbox, now)
            ready = []
        return len(placements) == 0 or (not ready and None not in placements)

    async def _known(self, session: SessionId) -> list[_Numbered]:
        if session not in self._numbered:
            rows = [row async for _, row in self._store.scan(COMMITMENTS, (session,))]
            self._numbered[session] = [_Numbered(Digest(row[:32]), int.from_bytes(row[32:], "big")) for row in rows]
        return self._numbered[session]

    async def _number(self, session: SessionId, ready: Sequence[Placement]) -> int:
        """Give chunks their numbers, which are those of one call, for ever; the first of them."""
        numbered = self._numbered[session]
        first = len(numbered)
        made = [_Numbered(one.chunk, first) for one in ready]
        await self._store.commit(
            [
                Put(COMMITMENTS, (session, first + at), one.chunk + first.to_bytes(8, "big"), ABSENT)
                for at, one in enumerate(made)
            ]
        )
        numbered += made
        return first

    async def _want(self, session: SessionId, first: int, outbox: Outbox, now: Millis) -> None:
        key: Key = (session, COMMIT, first)
        if outbox.wants(key):
            return
        call = [one.chunk for one in self._numbered[session] if one.first == first]
        placements = [self._replication.placement(chunk) for chunk in call]
        chunks = [
            Commitment(one.chunk, one.size, (one.roots[0], one.roots[1], one.roots[2]))
            for one in placements
            if one is not None
        ]
        assert len(chunks) == len(call), "what was numbered was placed before, and a placement is for ever"
        await outbox.want(key, commit_chunks(session, first, chunks), now)

    def forget(self, session: SessionId) -> None:
        """A session whose chunks are all committed to."""
        self._numbered.pop(session, None)
        self._slots.pop(session, None)
