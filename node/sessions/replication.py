"""Gets every sealed chunk of this home onto R holders, and knows how far that has come.

    sealed chunk ── roots of its R replicas ──→ placement (kept) ── its lot is drawn (lots) ── Place ──→ machine
                                                    ↑ a slot of now ── Untimely, nobody took it in time ──┘ └─→ serves each holder its encoding

A chunk waits for its commitment on the chain, but not for long: that it is stored comes before what is paid for it.

Source: CONSENSUS §4, SPEC §3.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import trio

from consensus.beacon import replica_key
from consensus.ids import Digest, SessionId
from consensus.placement import REPLICAS, REVEALED
from consensus.records import pack, unpack
from node.net.host import Host
from node.net.transfer import Readable
from node.overlay.custody import Untimely
from node.overlay.inventory import Inventory
from node.sessions.lots import Lot, Lots
from node.sessions.placement import DOSSIERS, PLACEMENTS, UNDRAWN, Placement
from node.sessions.records import load_one
from node.store import ABSENT, Delete, Put, Store
from node.store.files import ChunkFiles
from node.timeline import Timeline
from node.wallet.vault import Secrets
from pipeline.replica import BLOCK, encode, replica_secret, roots

PATIENCE_SLOTS: Final = 10
"""How long a chunk waits for its commitment before it is placed without."""


class Replication:
    """The owner's side of replication, for one home."""

    def __init__(
        self,
        host: Host,
        inventory: Inventory,
        store: Store,
        chunks: ChunkFiles,
        secrets: Secrets,
        calendar: Timeline,
        lots: Lots,
    ) -> None:
        self._host, self._inventory, self._store, self._chunks = host, inventory, store, chunks
        self._secrets, self._calendar, self._lots = secrets, calendar, lots
        self._placements: dict[Digest, Placement] = {}
        self._undrawn: dict[Digest, int] = {}
        """How many slots the lot of each may wait for a commitment."""
        self._wanted = trio.Event()
        self.on_placed: Callable[[], None] = lambda: None
        """Called when something was placed."""
        self.on_rooted: Callable[[SessionId], None] = lambda _session: None
        """Called when the roots of a chunk's replicas are known, so that they can be committed to."""
        self._untimely: dict[Digest, None] = {}
        host.on_fact(Untimely, self._hear)

    async def load(self) -> None:
        """Take up the placements of earlier runs; to be called before the host runs."""
        async for _, value in self._store.scan(PLACEMENTS):
            placement = unpack(Placement, value)
            self._placements[placement.chunk] = placement
            if not placement.is_drawn:
                self._undrawn[placement.chunk] = PATIENCE_SLOTS

    def sealed(self) -> None:
        """Take note that a chunk was sealed, or a session closed."""
        self._wanted.set()

    def placement(self, chunk: Digest) -> Placement | None:
        """The replicas of a chunk, whether its lot is drawn or not."""
        return self._placements.get(chunk)

    def drawn(self, chunk: Digest) -> Placement | None:
        """The placement of a chunk whose lot is drawn."""
        placement = self._placements.get(chunk)
        return None if placement is None or not placement.is_drawn else placement

    async def found(self, chunk: Digest) -> Placement | None:
        """What was committed to for a chunk, if only by a record that has just been brought back."""
        value = await self._store.get(PLACEMENTS, (chunk,))
        return unpack(Placement, value) if value is not None else None

    def copies(self, chunk: Digest) -> int:
        """Holders of a chunk that count, at most R."""
        return min(REPLICAS, len(self._inventory.holders(chunk)))

    def resume(self) -> None:
        """Tell the machine of the placements that it does not know: it died before it was told, or lost its disk."""
        for placement in self._placements.values():
            if placement.is_drawn and self._inventory.deposit(placement.chunk) is None:
                self._host.tell(placement.order())

    def _hear(self, fact: Untimely) -> None:
        self._untimely[fact.chunk] = None
        self._wanted.set()

    async def run(self) -> None:
        """Place what is sealed, and anew what nobody took in time, until cancelled; the host runs already."""
        self.resume()
        while True:
            self._wanted = trio.Event()
            while self._untimely:
                await self._reopen(self._untimely.popitem()[0])
            async for key, _ in self._store.scan("sessions"):
                await self._place_session(SessionId(bytes(key[0])))  # type: ignore[arg-type]
            for chunk in [*self._undrawn]:
                await self._draw(chunk)
            self.on_placed()
            with trio.move_on_after(self._calendar.slot_ms / 1000 if self._undrawn else float("inf")):
                await self._wanted.wait()

    async def _place_session(self, session: SessionId) -> None:
        kept = await load_one(self._store, session)
        if kept is not None:
            for chunk in kept.chunks:
                if chunk.file not in self._placements:
                    await self.place(session, kept.opening.key_generation, chunk.file, PATIENCE_SLOTS)

    async def place(self, session: SessionId, generation: int, file: Digest, patience: int = 0) -> None:
        """Keep the roots of the replicas of a sealed file of a session, and have them placed; nothing if it is not here.

        Its lot waits so many slots for a commitment.
        """
        secret = self._secret(generation, session)

        def read() -> tuple[int, tuple[Digest, ...]]:
            sealed = self._chunks.read(file)
            return len(sealed), roots(sealed, secret, file)

        try:
            size, found = await trio.to_thread.run_sync(read)
        except KeyError:
            return
        placement = Placement(session, generation, file, size, self._slot(), UNDRAWN, found)
        await self._store.commit([Put(PLACEMENTS, (file,), pack(placement), ABSENT)])
        self._placements[file], self._undrawn[file] = placement, patience
        self.on_rooted(session)
        await self._draw(file)
        self._wanted.set()

    def _slot(self) -> int:
        return self._calendar.slot(self._host.clock.now())

    async def _draw(self, chunk: Digest) -> None:
        """Draw a chunk's lot if that can be done, and have it placed."""
        placement, lot = self._placements[chunk], self._lot(chunk)
        if lot is None:
            return
        later = replace(placement, opened=lot.opened, seed=lot.seed)
        await self._store.commit([Put(PLACEMENTS, (chunk,), pack(later))])
        self._placements[chunk] = later
        if later.is_drawn:
            del self._undrawn[chunk]
            self._host.tell(later.order())

    def _lot(self, chunk: Digest) -> Lot | None:
        """The slot and seed by which holders are drawn; without a seed for one that begins to wait anew; None to wait on."""
        placement, now = self._placements[chunk], self._slot()
        known = self._lots.committed(placement.session, chunk)
        if known is not None and known.slot >= placement.opened:
            return Lot(known.slot, Digest(known.seed)) if known.seed and now > known.slot + REVEALED else None
        patience = self._undrawn[chunk] if self._lots.follows_us else 0
        if now < placement.opened + patience:
            return None
        seed = self._lots.seed_at(placement.opened + REVEALED)
        if seed is not None:
            return Lot(placement.opened, seed)
        is_forgotten = now > placement.opened + REVEALED + patience
        return Lot(now, UNDRAWN) if is_forgotten else None

    async def _reopen(self, chunk: Digest) -> None:
        """Have the lot of a chunk that nobody holds drawn anew, from now on; one that is not here may be held after all."""
        placement, slot = self._placements.get(chunk), self._slot()
        if placement is None or slot <= placement.opened or not self._chunks.has(chunk):
            return
        later = replace(placement, opened=slot, seed=UNDRAWN)
        stale = Delete(DOSSIERS, (placement.session,))
        await self._store.commit([Put(PLACEMENTS, (chunk,), pack(later)), stale])
        self._placements[chunk], self._undrawn[chunk] = later, 0

    def _secret(self, generation: int, session: SessionId) -> bytes:
        return replica_secret(self._secrets.session_secret(generation, session), session)

    def encoded(self, chunk: Digest, j: int) -> Readable | None:
        """Replica j of a chunk of ours, encoded as it is read."""
        placement = self._placements.get(chunk)
        if placement is None or not self._chunks.has(chunk):
            return None
        key = replica_key(self._secret(placement.generation, placement.session), chunk, j)
        path = self._chunks.path(chunk)

        def part(offset: int, most: int) -> bytes:
            start = offset - offset % BLOCK
            with path.open("rb", buffering=0) as file:
                file.seek(start)
                return encode(file.read(most + offset - start), key, start)[offset - start :]

        async def read(offset: int, most: int) -> bytes:
            return await trio.to_thread.run_sync(part, offset, most)

        return Readable(placement.size, read)
