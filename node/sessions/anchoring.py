"""What of a home's sessions goes on the chain: each is opened, followed by a head every five slots, closed, and its chunks committed to.

    opening kept ──→ open     a newer head, 5 slots after the last ──→ head     replicas known ──→ commit     manifest ──→ close
                                            all of them wanted of the outbox, once each, by (session, what, number)

What is wanted follows from the records alone, so whatever dies in between finds it again. Only sessions of this account and
this network can be anchored. Source: DESIGN §6; SPEC §3.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import trio

from consensus.ids import Digest, Network, SessionId
from consensus.records import unpack
from node.chain.executor import AnchoredSession
from node.chain.onsystem import anchor_head, close_session, open_session
from node.chain.outbox import CallStanding, CallState, Outbox
from node.net.clock import SteadyClock
from node.sessions.committing import Committing
from node.sessions.records import Kept, load_one
from node.sessions.replication import Replication
from node.store import Key, Store
from node.timeline import Timeline
from pipeline.manifest import Head, identity

HEAD_SLOTS: Final = 5
ABANDONED_HOURS: Final = 24
"""Without a head a session that was opened and not closed is given up."""
OPEN, HEAD, CLOSE = "open", "head", "close"


def call_key(session: bytes, what: str, number: int = 0) -> Key:
    """What the outbox knows a call of a session by."""
    return session, what, number


class Anchoring:
    """The sessions of one home, on one network's chain."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        former: Sequence[Outbox],
        replication: Replication,
        calendar: Timeline,
        network: Network,
        clock: SteadyClock,
    ) -> None:
        self._store, self.outbox, self._committing = store, outbox, Committing(store, replication)
        replication.on_rooted = self.stir
        self.outboxes = {one.address: one for one in (*former, outbox)}
        """Of the account that opens sessions now, and of those that did."""
        self._calendar, self._network, self._clock = calendar, network, clock
        self._stirred = trio.Event()
        self._new: set[SessionId] = set()
        self._headed: dict[SessionId, int] = {}
        """The slot in which a head was wanted last, or the opening."""
        self._done: set[SessionId] = set()

    def stir(self, session: SessionId) -> None:
        """Take note that there are new records of a session."""
        self._new.add(session)
        self._stirred.set()

    async def run(self) -> None:
        """Want what is due until cancelled."""
        while True:
            async for key, _ in self._store.scan("sessions"):
                session = SessionId(bytes(key[0]))  # type: ignore[arg-type]
                if session not in self._done:
                    await self._look(session)
            with trio.move_on_after(self._calendar.slot_ms / 1000):
                while True:
                    self._stirred = trio.Event()
                    while self._new:
                        await self._look(self._new.pop())
                    await self._stirred.wait()

    async def _look(self, session: SessionId) -> None:
        kept = await load_one(self._store, session)
        if kept is None:
            return
        opening = kept.opening
        outbox = self.outboxes.get(opening.owner)
        if opening.network != self._network or outbox is None:
            self._done.add(session)
            return
        now = self._clock.now()
        slot = self._calendar.slot(now)
        await outbox.want(call_key(session, OPEN), open_session(opening.uuid, opening.ephemeral, opening.policy), now)
        since = self._headed.setdefault(session, slot)
        if kept.heads and slot >= since + HEAD_SLOTS and not outbox.wants(call_key(session, CLOSE)):
            number = len(kept.heads) - 1
            await outbox.want(
                call_key(session, HEAD, number), anchor_head(session, number, self._name(kept, number)), now
            )
            self._headed[session] = slot
        is_whole = await self._committing.commit(kept, outbox, slot, now)
        manifest = kept.manifest
        if manifest is None:
            return
        name = identity(manifest, self._network)
        call = close_session(session, name, manifest.root, manifest.chunk_count, manifest.heads)
        await outbox.want(call_key(session, CLOSE), call, now)
        if is_whole:
            self._done.add(session)
            self._headed.pop(session, None)
            self._committing.forget(session)

    def _name(self, kept: Kept, number: int) -> Digest:
        return identity(unpack(Head, kept.heads[number].body), self._network)

    # ------------------------------------------------------------------ for people

    def told(self) -> Mapping[str, Any]:
        """Every session that is to be on the chain."""
        return {
            session.hex(): standing
            for outbox in self.outboxes.values()
            for session in outbox.subjects()
            if isinstance(session, bytes) and (standing := self.standing(session)) is not None
        }

    def standing(self, session: bytes) -> Mapping[str, Any] | None:
        """How far a session is on the chain; None for one that is not to be there."""
        outbox = next((one for one in self.outboxes.values() if one.wants(call_key(session, OPEN))), self.outbox)
        opened = outbox.standing(call_key(session, OPEN))
        if opened is None:
            return None
        closed = outbox.standing(call_key(session, CLOSE))
        heads = [one for one in outbox.beginning((session, HEAD)) if one.block is not None]
        return {
            "state": _state(opened, closed),
            "opened": _told(opened),
            "heads": len(heads),
            "last_head_block": max((one.block or 0 for one in heads), default=None),
            "closed": None if closed is None else _told(closed),
        }


def told(one: AnchoredSession, now_s: int, patience_s: int) -> Mapping[str, Any]:
    """A session of anybody's as the chain has it: open, closed, or abandoned, when nothing was heard of it for so long."""
    is_over = now_s - one.seen.time_s > patience_s
    return {
        "session": one.session,
        "owner": one.owner,
        "state": "closed" if one.closed else "abandoned" if is_over else "open",
        "opened_block": one.opened.number,
        "opened": 1_000 * one.opened.time_s,
        "seen_block": one.seen.number,
        "seen": 1_000 * one.seen.time_s,
        "closed_block": None if one.closed is None else one.closed.number,
        "closed": None if one.closed is None else 1_000 * one.closed.time_s,
    }


def _state(opened: CallStanding, closed: CallStanding | None) -> str:
    """opening, opened, closing, anchored, final; or failed."""
    if CallState.FAILED in (opened.state, None if closed is None else closed.state):
        return "failed"
    if closed is None:
        return "opening" if opened.block is None else "opened"
    if closed.block is None:
        return "closing"
    return "final" if closed.state is CallState.FINAL and opened.state is CallState.FINAL else "anchored"


def _told(one: CallStanding) -> Mapping[str, Any]:
    return {"state": one.state.value, "block": one.block, "time": one.time}
