"""What a node says on the chain of other people's sessions: that it holds their chunks, and that another holder showed one.

    head moves ── its storage: sessions that are followed ──┬─→ hold: chunks that we hold, were drawn to and are not named for
                                                            └─→ probe: a holder that passed our challenge, once a session

What is wanted follows from the head and from what is held, so whatever dies in between finds it again; only challenges are
remembered from fact to head. Calls are let go of once they are final and their session is followed no more. Source: CONSENSUS §8.
"""

from collections.abc import Callable, Iterator
from typing import Final

from consensus.ids import Address, Digest, NodeId, SessionId
from consensus.news import BITS_BYTES, roots_name
from consensus.placement import REPLICAS
from consensus.registry import Registry
from consensus.state import State
from consensus.storage import StoredChunk, StoredSession
from node.chain.following import Chain
from node.chain.onsystem import hold_chunks, show_replica
from node.chain.outbox import Outbox
from node.net.host import Host
from node.overlay.custody import Challenged
from node.overlay.inventory import Inventory
from node.store import Key

HOLD, PROBE = "hold", "probe"
SPAN: Final = 8 * BITS_BYTES
"""Chunks that one call may name."""


class Vouching:
    """For one node, with the outbox of each account of its."""

    def __init__(
        self, me: NodeId, host: Host, chain: Chain, inventory: Inventory, outbox_of: Callable[[Address], Outbox | None]
    ) -> None:
        self._me, self._host, self._chain = me, host, chain
        self._inventory, self._outbox_of = inventory, outbox_of
        self._said: dict[SessionId, set[tuple[int, int]]] = {}
        """Of each session that is followed: the chunks and replicas that we have said we hold."""
        self._shown: dict[Digest, set[NodeId]] = {}
        """Of each chunk: the holders that passed a challenge of ours."""
        host.on_fact(Challenged, self._hear)

    def _hear(self, fact: Challenged) -> None:
        if fact.passed:
            self._shown.setdefault(fact.chunk, set()).add(fact.holder)

    async def run(self) -> None:
        """Say what is due whenever the head moves, until cancelled."""
        while True:
            await self.look()
            await self._chain.moved()

    async def look(self) -> None:
        """Want what is due by the head."""
        state = self._chain.replica.head()
        registry, sessions = state.checkpoint.registry, state.storage.sessions
        self._shown = {chunk: who for chunk, who in self._shown.items() if self._inventory.deposit(chunk) is not None}
        member = registry.members.get(self._me)
        outbox = None if member is None else self._outbox_of(member.address)
        if outbox is None:
            return
        for session, followed in sessions.items():
            await self._hold(session, followed, outbox)
            await self._probe(session, followed, registry, outbox)
        await self._let_go(state, outbox)

    async def _hold(self, session: SessionId, followed: StoredSession, outbox: Outbox) -> None:
        said = self._said.setdefault(session, set())
        for j in range(REPLICAS):
            numbers = [
                number
                for number, chunk in enumerate(followed.chunks)
                if (number, j) not in said and self._holds(chunk, j)
            ]
            while numbers:
                first = numbers[0]
                named = [number for number in numbers if number < first + SPAN]
                bits = sum(1 << (number - first) for number in named)
                key: Key = (session, HOLD, first * REPLICAS + j)
                await outbox.want(key, hold_chunks(session, first, bits, j), self._host.clock.now())
                said.update((number, j) for number in named)
                numbers = numbers[len(named) :]

    def _holds(self, chunk: StoredChunk, j: int) -> bool:
        """Whether we hold that replica, as its owner committed to it, drawn by the chain's seed, and are not named for it."""
        if not chunk.seed or not chunk.size or self._me in dict(chunk.holders):
            return False
        deposit = self._inventory.deposit(chunk.chunk)
        return (
            deposit is not None
            and self._inventory.replica(chunk.chunk) == j
            and (deposit.size, deposit.seed, roots_name(deposit.roots)) == (chunk.size, chunk.seed, chunk.roots)
        )

    async def _probe(self, session: SessionId, followed: StoredSession, registry: Registry, outbox: Outbox) -> None:
        """Say that a holder passed a challenge of ours, if nobody is known to have passed one yet."""
        if followed.passed:
            return
        for number, holder, j in self._passed(followed):
            member = registry.members.get(holder)
            if member is not None:
                order = show_replica(session, number, j, member.address)
                await outbox.want((session, PROBE, number), order, self._host.clock.now())
                return

    def _passed(self, followed: StoredSession) -> Iterator[tuple[int, NodeId, int]]:
        """Chunks that we and others hold for a session, each with such another that passed, and its replica."""
        for number, chunk in enumerate(followed.chunks):
            holders = dict(chunk.holders)
            if self._me in holders:
                for holder in sorted(self._shown.get(chunk.chunk, ())):
                    j = self._inventory.replica_of(chunk.chunk, holder)
                    if holders.get(holder, holders[self._me]) != holders[self._me] and j is not None:
                        yield number, holder, j

    async def _let_go(self, state: State, outbox: Outbox) -> None:
        """Forget what concerns sessions that are followed no more."""
        followed = state.storage.sessions
        self._said = {session: said for session, said in self._said.items() if session in followed}
        for session in outbox.subjects():
            if isinstance(session, bytes) and session not in followed:
                for what in (HOLD, PROBE):
                    await outbox.let_go((session, what))
