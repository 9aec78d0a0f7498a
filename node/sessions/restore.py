"""The way back: sealed chunks fetched from their holders, and sessions from their dossiers, after a disk was lost.

    placement ── whom the seed names ──→ candidates ── replica j from anywhere ── decoded ──→ sealed bytes ── BLAKE3? ──→ chunk

Every replica decodes to the same bytes, so that several holders send stripes of one chunk at once, and one that breaks off
is followed by the next. If the whole does not hash to its name one of them lied, and each is asked for all of it by itself.
Source: CONSENSUS §4, DESIGN §5.
"""

from collections.abc import Callable, Iterator
from typing import Final

import trio
from blake3 import blake3

from consensus.beacon import replica_key
from consensus.ids import Digest, NodeId, SessionId
from consensus.placement import REPLICAS
from node.net.striping import Source, gather
from node.net.swarm import Swarm
from node.net.transfer import Replica
from node.overlay.inventory import Inventory
from node.sessions import dossier
from node.sessions.placement import Placement
from node.store import Put, Store
from node.store.files import ChunkFiles
from node.wallet.vault import Secrets
from pipeline.replica import encode, replica_secret
from pipeline.stores import NoRoom

AT_ONCE: Final = 4
"""Chunks that are fetched at a time."""


class NotFound(Exception):
    """Nobody who may hold it has it and can be reached now; try again later, holders come and go."""


class Restore:
    """Fetches what is the owner's and not on this disk."""

    def __init__(
        self,
        me: NodeId,
        inventory: Inventory,
        swarm: Swarm,
        store: Store,
        chunks: ChunkFiles,
        secrets: Secrets,
        connected: Callable[[], tuple[NodeId, ...]],
        stripes: int = REPLICAS,
    ) -> None:
        self.me, self._inventory, self._swarm, self._store, self._stripes = me, inventory, swarm, store, stripes
        self._chunks, self._secrets, self._connected = chunks, secrets, connected

    async def chunk(self, placement: Placement) -> bytes:
        """The sealed bytes of a placement, checked; raises NotFound."""
        candidates = [self._source(placement, node, j) for node, j in self._candidates(placement)]
        sealed = await gather(self._swarm, placement.size, candidates, self._stripes)
        if sealed is not None and _named(sealed) == placement.chunk:
            return bytes(sealed)
        for one in candidates if sealed is not None else ():  # somebody lied: none of it is to be believed
            alone = await gather(self._swarm, placement.size, [one], 1)
            if alone is not None and _named(alone) == placement.chunk:
                return bytes(alone)
        asked = len(dict.fromkeys(one.node for one in candidates))
        raise NotFound(f"none of {asked} possible holders gave {placement.chunk.hex()[:12]}: try again later")

    def _source(self, placement: Placement, node: NodeId, j: int) -> Source:
        secret = self._secrets.session_secret(placement.generation, placement.session)
        key = replica_key(replica_secret(secret, placement.session), placement.chunk, j)
        what = Replica(placement.chunk, placement.roots[j], placement.size)
        return Source(node, what, lambda data, at: encode(data, key, at))

    def _candidates(self, placement: Placement) -> Iterator[tuple[NodeId, int]]:
        """Who may hold which replica: those known to, then by the seed's order; whoever is connected first."""
        order = self._inventory.candidates(placement.order())
        up = self._connected()
        for near in (True, False):
            for node, j in order:
                if node != self.me and (node in up) is near:
                    yield node, j

    async def missing(self, placements: list[Placement], told: Callable[[int], None] = lambda _size: None) -> int:
        """Fetch those whose chunk is not on this disk and keep them; how many. Raises NotFound, NoRoom, OSError."""
        lacking = [one for one in placements if not self._chunks.has(one.chunk)]
        room = trio.CapacityLimiter(AT_ONCE)
        failures: list[Exception] = []

        async def bring(one: Placement) -> None:
            try:
                async with room:
                    sealed = await self.chunk(one)
                    await trio.to_thread.run_sync(self._chunks.put, one.chunk, memoryview(sealed))
            except (NotFound, NoRoom, OSError) as failure:
                failures.append(failure)  # the others may be had all the same
            else:
                told(one.size)

        async with trio.open_nursery() as nursery:
            for one in lacking:
                nursery.start_soon(bring, one)
        if failures:
            raise failures[0]
        return len(lacking)

    async def records(self, pointer: Placement) -> int:
        """Bring back the records of a session whose dossier is placed there; the chunks that it has. Raises NotFound.

        Raises Malformed too, for a dossier that is not the session's. A session that is known is left as it is.
        """
        session = SessionId(pointer.session)
        sealed = await self.chunk(pointer)
        found = dossier.unseal(sealed, session, self._secrets.session_secret(pointer.generation, session))
        if await self._store.get("sessions", (session,)) is None:
            await self._store.commit(dossier.rows(found, session))
            await trio.to_thread.run_sync(self._chunks.put, pointer.chunk, memoryview(sealed))
            await self._store.commit([Put("files", (pointer.chunk,), b"")])
        return len(found.rows)


def _named(sealed: bytearray) -> Digest:
    return Digest(blake3(sealed).digest())
