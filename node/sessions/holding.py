"""What the replication machine asks of its host: replicas fetched, served, shown and thrown away.

    machine ── Fetch, Serve, ReadSegments, Discard ──→ custodian ── Fetched, SegmentsRead ──→ machine

Whom a replica is served to: whoever the machine said (`Serve`, until its time), and at any time the owner of the chunk,
who may have lost everything else. Source: CONSENSUS §4, node/overlay/custody.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from consensus.beacon import Segment
from consensus.ids import Digest, NodeId
from node.net.host import Host
from node.net.swarm import PeerStream, Swarm, Unwilling
from node.net.transfer import PROTOCOL, STREAMS_A_PEER, Readable, Replica, fetch, serve
from node.overlay.custody import Discard, Fetch, Fetched, ReadSegments, SegmentsRead, Serve
from node.overlay.inventory import Inventory
from node.store.replicas import ReplicaFiles

GRANTS_MAX: Final = 4096
QUIET_S: Final = 300.0
"""Without a byte for this long a peer is given up: it has one of the few places for transfers, which may last two hours."""
PACE: Final = 1024
"""Bytes a second that keep it from being given up: half of the slowest onion worth waiting for."""

Encoded = Callable[[Digest, int], Readable | None]
"""Replica j of a chunk of ours, encoded as it is read; None for a chunk that is not ours or is not here."""


class Custodian:
    """Serves one host's replication machine from one folder of replicas; `encoded` gives those of our own chunks."""

    def __init__(self, host: Host, inventory: Inventory, swarm: Swarm, files: ReplicaFiles, encoded: Encoded) -> None:
        self._host, self._inventory, self._swarm, self._files, self._encoded = host, inventory, swarm, files, encoded
        self._grants: dict[tuple[NodeId, Digest], Serve] = {}
        self._nursery: trio.Nursery | None = None
        self._reading = trio.CapacityLimiter(2)
        host.on_fact(Fetch, self._fetch)
        host.on_fact(Serve, self._grant)
        host.on_fact(ReadSegments, lambda order: self._start(self._read, order))
        host.on_fact(Discard, lambda order: self._start(self._discard, order))
        swarm.serve_streams(PROTOCOL, self._serve, STREAMS_A_PEER)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do it until cancelled; to be started before the host."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None  # the host's last commit may still release orders to us

    async def sweep(self) -> int:
        """Throw away replicas that the machine, once it has started, knows nothing of; how many there were."""
        known = self._inventory.roots()
        names = await trio.to_thread.run_sync(self._files.names)
        strange = [name for name in names if name not in known]
        for name in strange:
            await trio.to_thread.run_sync(self._files.discard, name)
        return len(strange)

    def _start(self, work: Callable[[Any], Awaitable[None]], order: object) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(work, order)

    # Fetching

    def _fetch(self, order: Fetch) -> None:
        self._start(self._fetched, order)

    async def _fetched(self, order: Fetch) -> None:
        """Have a replica on the disk by its time, and say what is there."""
        found: tuple[Digest, int] | None = None
        what = Replica(order.chunk, order.root, order.size)
        within = max(0, order.until - self._host.clock.now()) / 1000
        with trio.move_on_after(within), trio.move_on_after(QUIET_S) as patience:
            try:
                have = await trio.to_thread.run_sync(self._files.arrived, order.root)
                if have > order.size:
                    await self._discard(Discard(order.chunk, order.root))
                    have = 0

                async def put(at: int, data: bytes) -> None:
                    await trio.to_thread.run_sync(self._files.append, order.root, at, data)
                    earned = patience.deadline + len(data) / PACE
                    patience.deadline = min(earned, trio.current_time() + QUIET_S)

                await fetch(self._swarm, order.peer, what, have, put)
                found = await trio.to_thread.run_sync(self._files.finish, order.root)
            except (Unwilling, OSError):
                pass  # nothing came, or there is no room: the next in the order is asked
        root, size = found if found is not None else (None, 0)
        self._host.tell(Fetched(order.ref, root, size))

    # Serving

    def _grant(self, order: Serve) -> None:
        if len(self._grants) >= GRANTS_MAX:
            now = self._host.clock.now()
            self._grants = {key: grant for key, grant in self._grants.items() if grant.until > now}
            while len(self._grants) >= GRANTS_MAX:
                del self._grants[next(iter(self._grants))]
        self._grants[order.peer, order.root] = order

    async def _serve(self, stream: PeerStream) -> None:
        await serve(stream, self._find)

    def _find(self, peer: NodeId, chunk: Digest, root: Digest) -> Readable | None:
        grant = self._grants.get((peer, root))
        if grant is not None and grant.chunk == chunk and grant.until > self._host.clock.now():
            return self._encoded(chunk, grant.j) or self._kept(root)
        deposit = self._inventory.deposit(chunk)
        return self._kept(root) if deposit is not None and deposit.owner == peer else None

    def _kept(self, root: Digest) -> Readable | None:
        try:
            size = self._files.size(root)
        except KeyError:
            return None

        async def read(offset: int, most: int) -> bytes:
            return await trio.to_thread.run_sync(self._files.read, root, offset, most)

        return Readable(size, read)

    # Showing and throwing away

    async def _read(self, order: ReadSegments) -> None:
        def look() -> tuple[tuple[Segment, ...] | None, ...]:
            return tuple(self._files.segments(want.root, want.indexes) for want in order.wants)

        found = await trio.to_thread.run_sync(look, limiter=self._reading)
        self._host.tell(SegmentsRead(order.ref, found))

    async def _discard(self, order: Discard) -> None:
        await trio.to_thread.run_sync(self._files.discard, order.root)
