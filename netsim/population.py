"""Who there is in the durability world: holders that depart and are replaced, owners, the registry, the beacon, transfers.

A holder lives exponentially long, and a fresh one with an identity of its own joins in the millisecond in which it departs;
the registry tells of either at the next ERA. Owners hold nothing and never depart: they place their chunks and stay, or
go away when that is done. Of all holders that are ever born, `liars` and `withholders` per cent have a host that lies
(netsim.liars); the liars are half of either kind that a challenge finds out.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal, localcontext
from random import Random
from typing import Any, Final, Protocol

from blake3 import blake3

from consensus.ids import Digest, NodeId
from consensus.merkle import segment_root
from consensus.placement import REPLICAS, REVEALED, Registrant
from netsim.census import Census
from netsim.keeper import Arrive, Disk, Enter, Keeper, Seal, Strike, replica, unsealed
from netsim.liars import Fickle, Forgetful, LyingDisk, Withholder, lot
from netsim.links import LinkModel
from netsim.nodes import Node
from netsim.seeds import derive
from netsim.verify import CachedVerify
from netsim.world import Started, World
from node.overlay.custody import HOUR_MS, Fetch, Place, ReplicateLimits, Signs
from node.overlay.machine import Command, Machine, Verify
from node.overlay.placing import ERAS_KEPT

MONTH_MS: Final = 365 * 86_400_000 // 12
PLACING_MS: Final = 24 * HOUR_MS
"""From the beginning until every chunk has its holders."""

OWNERS: Final = 10

AT_ONCE: Final = LinkModel(
    latency_ms=50,
    spread=0,
    jitter=0,
    dial_ms=1000,
    dial_spread=0,
    dial_failures=0,
    bytes_per_s=50_000_000,
    life_ms=0,
    silent=0,
    outbox_frames=4096,
)
"""Connections for ever, up within a second."""


class KeySource(Protocol):
    """Where the real key pairs come from; netsim.scenarios.keys_of."""

    def __call__(self, seed: int, number: int) -> Any:
        """The key pair of a node of a run."""


class Population:
    """Everybody, with the world that they live in."""

    def __init__(
        self, seed: int, options: Mapping[str, int], limits: ReplicateLimits, keys: KeySource | None = None
    ) -> None:
        """Real key pairs come from `keys`; None stands for hashes."""
        self.seed, self.options, self.limits, self.keys = seed, options, limits, keys
        self.disks: dict[NodeId, Disk] = {}
        self.settled_ms = PLACING_MS * (2 if options["liars"] else 1)
        """When departures begin and owners may go: with liars a day later, for only an owner finds out three of them."""
        self.phase = derive(seed, "liars").randrange(100)
        self.taken_in = 0  # how many holders were ever born
        self.pens: dict[NodeId, Signs] = {}
        self.registry: tuple[Registrant, ...] = ()
        self.registries: list[Enter] = []  # of the last ERAs, oldest first
        self.registered = 0  # when the registry was last drawn up
        self.holders: dict[int, None] = {}
        self.world: World
        self.census: Census

    def settle(self, nodes: int, recorded: Iterable[int]) -> None:
        """Make the world, its first nodes and its owners."""
        verify: Verify = unsealed if self.keys is None else CachedVerify()

        def make(me: NodeId, rng: Random, records: Mapping[Any, bytes]) -> Machine:
            return Keeper(self.pens[me], me, rng, self.limits, verify, self.seed_at, self.disks[me], records)

        world = self.world = World(self.seed, make, AT_ONCE, recorded=recorded)
        self.census = Census(world, world.now, lifetime_ms(self.options["departures"]))
        world.on_fact(Started, lambda _now, node, _fact: self._greet(world.nodes[node]))
        world.on_fact(Fetch, lambda _now, node, fact: self._fetch(world.nodes[node], fact))
        for _ in range(nodes):
            self._hold()
        self._register()
        world.every(HOUR_MS, self._strike)
        world.at(world.now + self.settled_ms, self._mortal)

    def _hold(self) -> int:
        """One more holder, true or not."""
        node, disk = self._born(), self._disk()
        self.disks[node.id] = disk
        self.holders[node.index] = None
        if isinstance(disk, LyingDisk):
            self.census.distrust(node.index, is_found_out=disk.is_found_out)
        return node.index

    def _disk(self) -> Disk:
        number, self.taken_in = self.taken_in, self.taken_in + 1
        liars, withholders = self.options["liars"], self.options["withholders"]
        untrue = liars + withholders
        if not lot(number, untrue, self.phase):
            return Disk()
        counts, turn = self.world.counts, (number * untrue + self.phase) // 100
        if lot(turn, 100 * withholders // untrue, 0):
            return Withholder(counts)
        return Fickle(counts) if turn % 2 else Forgetful(counts)

    def _born(self) -> Node:
        number = len(self.world.nodes)
        if self.keys is None:
            me = NodeId(derive(self.seed, "keeper", number).randbytes(32))
            self.pens[me] = Seal(me)
        else:
            pair = self.keys(self.seed, number)
            me = NodeId(pair.public)
            self.pens[me] = pair
        self.disks[me] = Disk()
        return self.world.add(me)

    # The beacon and the registry

    def seed_at(self, slot: int) -> Digest | None:
        """The beacon's seed of a slot."""
        return Digest(blake3(f"{self.seed}/{slot}".encode()).digest())

    def _post(self, node: Node, order: object) -> None:
        """Give a node a command that has no answer."""
        self.world.agenda.push(self.world.now, (node, Command(0, order), node.life))

    def _hour(self) -> Strike:
        hour = self.world.now // HOUR_MS
        seed = self.seed_at(hour * self.limits.hour_slots)
        assert seed is not None
        return Strike(hour, seed)

    def _greet(self, node: Node) -> None:
        for enter in self.registries:
            self._post(node, enter)
        self._post(node, self._hour())

    def living(self) -> int:
        """How many of the registry have not departed."""
        return sum(self.world.by_id[one.node].index in self.holders for one in self.registry)

    def _register(self) -> None:
        self.registered = self.world.now
        ids = [self.world.nodes[index].id for index in self.holders]
        self.registry = tuple(sorted(Registrant(node, node, 1 << 40) for node in ids))
        era = self.world.now // HOUR_MS // self.limits.era_hours
        self.registries = [*self.registries[1 - ERAS_KEPT :], Enter(era, self.registry)]

    def _strike(self) -> None:
        hour = self._hour()
        change = hour.hour % self.limits.era_hours == 0
        if change:
            self._register()
        for node in self.world.nodes:
            if node.up:
                if change:
                    self._post(node, self.registries[-1])
                self._post(node, hour)

    # Departures

    def _mortal(self) -> None:
        if self.census.mean_ms is not None:
            for index in self.holders:
                self._doom(index)

    def _doom(self, index: int) -> None:
        mean = self.census.mean_ms
        assert mean is not None
        at = self.world.now + exponential(derive(self.seed, "life", index), mean)
        self.world.at(at, lambda: self._replace(index))

    def _replace(self, index: int) -> None:
        self.depart(index)
        self._doom(self._hold())

    def depart(self, index: int) -> None:
        """A holder leaves for good."""
        node = self.world.nodes[index]
        self.world.stop_node(index, "departed")
        self.disks[node.id].clear()
        self.holders.pop(index, None)
        self.census.depart(index)

    # Transfers

    def _fetch(self, node: Node, fact: Fetch) -> None:
        took = self.options["chunk_mb"] * 1_000_000 // max(1, self.options["kb_s"])  # MB through kB/s, in ms
        life = node.life

        def done() -> None:
            if node.up and node.life == life:
                source = self.world.by_id.get(fact.peer)
                data = self.disks[source.id].served(fact.root) if source is not None and source.up else None
                self._post(node, Arrive(fact.ref, data))

        self.world.at(self.world.now + took, done)

    # Owners and their chunks

    def own(self) -> None:
        """Add the owners; they place their chunks over half the day of placing, and most of them go away after it."""
        world, chunks = self.world, self.options["chunks"]
        count = min(OWNERS, chunks)
        staying = count * self.options["owners_online"] // 100
        owners = [self._born() for _ in range(count)]
        for number in range(chunks):
            at = world.now + 60_000 + PLACING_MS * number // (2 * chunks)
            opened = at // HOUR_MS * self.limits.hour_slots
            seed = self.seed_at(opened + REVEALED)
            assert seed is not None
            owner = owners[number % count]
            chunk = Digest(blake3(f"{self.seed}/chunk {number}".encode()).digest())
            replicas = [replica(chunk, j) for j in range(REPLICAS)]
            roots = tuple(segment_root(data) for data in replicas)
            self.disks[owner.id].update(zip(roots, replicas, strict=True))
            self.census.chunk(chunk, guarded=number % count < staying)
            order = Place(chunk, len(replicas[0]), roots, opened, seed)
            world.at(at, lambda owner=owner, order=order: world.command(owner.index, order))  # type: ignore[misc]
        for owner in owners[staying:]:
            world.at(world.now + self.settled_ms, lambda owner=owner: world.stop_node(owner.index, "away"))  # type: ignore[misc]
        world.at(world.now + self.settled_ms, self.census.observe)


def exponential(rng: Random, mean: int) -> int:
    """An exponential variable with that mean, exactly, from comparisons alone (von Neumann, 1951).

    No mathematical library takes part, so no machine's can change a run.
    """
    whole = 0
    while True:
        first = last = rng.getrandbits(62)
        falling = 1
        while (draw := rng.getrandbits(62)) < last:
            last, falling = draw, falling + 1
        if falling % 2:
            return whole * mean + (first * mean >> 62)
        whole += 1


def lifetime_ms(departures: int) -> int | None:
    """The mean lifetime when so many per cent depart within a month; None when none do."""
    if not departures:
        return None
    with localcontext() as context:
        context.prec = 20
        return int(-MONTH_MS / (1 - Decimal(departures) / 100).ln())
