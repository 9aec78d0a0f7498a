"""Gets every sealed chunk of this home onto R holders, and knows how far that has come.

    sealed chunk ── roots of its R replicas ──→ placement (kept) ── Place ──→ machine ── serves each holder its encoding
                                                    ↑ a slot and seed of now ── Untimely ──┘ nobody took it in time

Source: CONSENSUS §4, SPEC §3.
"""

from collections.abc import Callable
from dataclasses import replace

import trio

from consensus.beacon import replica_key
from consensus.ids import Digest, Network, SessionId
from consensus.placement import REPLICAS, REVEALED
from consensus.records import pack, unpack
from node.net.host import Host
from node.net.transfer import Readable
from node.overlay.custody import Untimely
from node.overlay.inventory import Inventory
from node.sessions.placement import DOSSIERS, PLACEMENTS, Placement
from node.sessions.records import load_one
from node.store import ABSENT, Delete, Put, Store
from node.store.files import ChunkFiles
from node.timeline import Timeline, interim_seed
from node.wallet.vault import Secrets
from pipeline.replica import BLOCK, encode, replica_secret, roots


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
        network: Network,
    ) -> None:
        self._host, self._inventory, self._store, self._chunks = host, inventory, store, chunks
        self._secrets, self._calendar, self._network = secrets, calendar, network
        self._placements: dict[Digest, Placement] = {}
        self._wanted = trio.Event()
        self.on_placed: Callable[[], None] = lambda: None
        """Called when all that was sealed has been committed to."""
        self._untimely: dict[Digest, None] = {}
        host.on_fact(Untimely, self._hear)

    async def load(self) -> None:
        """Take up the placements of earlier runs; to be called before the host runs."""
        async for _, value in self._store.scan(PLACEMENTS):
            placement = unpack(Placement, value)
            self._placements[placement.chunk] = placement

    def sealed(self) -> None:
        """Take note that a chunk was sealed, or a session closed."""
        self._wanted.set()

    def placement(self, chunk: Digest) -> Placement | None:
        """What was committed to for a chunk."""
        return self._placements.get(chunk)

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
            if self._inventory.deposit(placement.chunk) is None:
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
            self.on_placed()
            await self._wanted.wait()

    async def _place_session(self, session: SessionId) -> None:
        kept = await load_one(self._store, session)
        if kept is not None:
            for chunk in kept.chunks:
                if chunk.file not in self._placements:
                    await self.place(session, kept.opening.key_generation, chunk.file)

    async def place(self, session: SessionId, generation: int, file: Digest) -> Placement | None:
        """Commit to the replicas of a sealed file of a session, and have them placed; None when the file is not here."""
        secret = self._secret(generation, session)
        calendar, now = self._calendar, self._host.clock.now()
        slot = calendar.slot(now)

        def read() -> tuple[int, tuple[Digest, ...]]:
            sealed = self._chunks.read(file)
            return len(sealed), roots(sealed, secret, file)

        try:
            size, found = await trio.to_thread.run_sync(read)
        except KeyError:
            return None
        seed = interim_seed(self._network, slot + REVEALED)
        placement = Placement(session, generation, file, size, slot, seed, found)
        await self._store.commit([Put(PLACEMENTS, (file,), pack(placement), ABSENT)])
        self._placements[file] = placement
        self._host.tell(placement.order())
        return placement

    async def _reopen(self, chunk: Digest) -> None:
        """Commit to a chunk that nobody holds under a slot and seed of now; one that is not here may be held after all."""
        placement, slot = self._placements.get(chunk), self._calendar.slot(self._host.clock.now())
        if placement is None or slot <= placement.opened or not self._chunks.has(chunk):
            return
        later = replace(placement, opened=slot, seed=interim_seed(self._network, slot + REVEALED))
        stale = Delete(DOSSIERS, (placement.session,))
        await self._store.commit([Put(PLACEMENTS, (chunk,), pack(later)), stale])
        self._placements[chunk] = later
        self._host.tell(later.order())

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
