"""Real hosts under virtual time: what the machines alone cannot show, timers, cancellation, slow disks, crashes and restarts.

    MockClock ── trio, its scheduling drawn from the seed ──→ 5 to 50 × (Host ─ Peer ─ MemoryStore ─ MemorySwarm)
                                                                        ↑ crash · restart · cut · silence · a disk that stalls

The host is the daemon's (node.net.host), and so are the machine, the store's fake and the swarm's, which pass the suites of the real
ones. trio runs ready tasks in an order that it draws; here it draws from the seed, so that a rehearsal is repeated exactly,
and other seeds are other schedules. Source: findings on determinism in trio (issue 3089).
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import trio
from blake3 import blake3
from trio.testing import MockClock

from consensus.ids import Millis, Network, NodeId
from consensus.signing import KeyPair, verify_as_is
from netsim.scenarios import MINUTE, Unknown, keys_of
from netsim.seeds import derive
from netsim.world import EPOCH
from node.libp2p.memory import Meeting
from node.net.clock import SteadyClock
from node.net.host import Host, load
from node.overlay.calls import FindNode
from node.overlay.entries import LogName
from node.overlay.logs import Learned
from node.overlay.peer import Peer, PeerLimits, Surroundings
from node.overlay.pen import Append
from node.store import Delete, Put
from node.store.memory import MemoryStore

NODES: Final = (5, 50)
SEEDS: Final = 2
STALL_S: Final = 4.0
"""A disk's commit that takes its time: what follows gathers behind it."""
STOP_S: Final = 5.0
"""A host that is told to stop has stopped by then."""
SETTLE_MIN: Final = 5
TROUBLES: Final = ("crash", "stop", "cut", "silence", "stall")


NETWORK: Final = Network(bytes(32))


class Rehearsed(NamedTuple):
    """What came of a rehearsal."""

    digest: str
    """Of every fact that was told, with its time and its node: equal for equal seeds."""
    virtual_s: float
    steps: int
    commits: int
    troubles: dict[str, int]
    written: int
    found: int
    look_ups: int
    slowest_stop_s: float
    most_waiting: int
    """Actions that waited for a disk."""
    complaints: tuple[str, ...]


class StallingStore(MemoryStore):
    """A disk that may be slow for a while, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.stalls_until = -math.inf
        self.commits = 0

    async def commit(self, changes: Sequence[Put | Delete]) -> Any:
        """As ever, after a stall."""
        if (left := self.stalls_until - trio.current_time()) > 0:
            await trio.sleep(min(left, STALL_S))
        self.commits += 1
        return await super().commit(changes)


class Actor:
    """A node: what outlives its processes, and the process that runs."""

    def __init__(self, number: int, keys: KeyPair) -> None:
        self.number, self.keys, self.me = number, keys, NodeId(keys.public)
        self.store = StallingStore()
        self.host: Host | None = None
        self.peer: Peer | None = None
        self.scope: trio.CancelScope | None = None
        self.over = trio.Event()
        self.address = b""
        self.steps = 0


class Rehearsal:
    """One rehearsal."""

    def __init__(self, seed: int, nodes: int, minutes: int) -> None:
        self.seed, self.minutes = seed, minutes
        self.actors = [Actor(number, keys_of(seed, number)) for number in range(nodes)]
        self.meeting, self.rng = Meeting(), derive(seed, "rehearsal")
        self.troubles: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.written = self.found = self.look_ups = self.most_waiting = 0
        self.slowest_stop = 0.0
        self._trace = blake3()
        self._lives = 0

    def _now(self) -> int:
        return int(trio.current_time() * 1_000)

    async def run(self) -> None:
        """Play it to its end."""
        async with trio.open_nursery() as nursery:
            for actor in self.actors:
                await nursery.start(self._live, actor)
            with trio.move_on_after(60 * (self.minutes - SETTLE_MIN)):
                async with trio.open_nursery() as work:
                    work.start_soon(self._write)
                    work.start_soon(self._look_up)
                    work.start_soon(self._trouble, nursery)
            for actor in self.actors:
                actor.store.stalls_until = -math.inf
                if actor.host is None:
                    await nursery.start(self._live, actor)
            await trio.sleep(60 * SETTLE_MIN)
            self._compare()
            for actor in self.actors:
                await self._end(actor)

    # ------------------------------------------------------------------ lives

    async def _live(self, actor: Actor, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """One life of a node, from what its store has."""
        self._lives += 1
        rng = derive(self.seed, "life", actor.number, self._lives)
        seeds = tuple(one.me for one in self.actors[:SEEDS] if one is not actor)
        around = Surroundings(NETWORK, verify_as_is, seeds, first_epoch=self._now() // 1_000)
        actor.peer = Peer(actor.keys, rng, around, PeerLimits(), await load(actor.store))
        swarm = self.meeting.swarm(actor.me, self._located, derive(self.seed, "swarm", actor.number, self._lives))
        clock = SteadyClock(self._now, lambda: EPOCH + self._now())
        host = Host(actor.peer, swarm, actor.store, clock)
        host.on_fact(Learned, lambda fact: self._note(actor, fact))
        actor.over = trio.Event()
        with trio.CancelScope() as actor.scope:
            async with trio.open_nursery() as own:
                addresses = await own.start(host.run)
                actor.host, actor.address = host, addresses[0]
                task_status.started()
                await trio.sleep_forever()
        actor.steps += host.steps
        actor.host = actor.peer = None
        actor.address = b""
        actor.over.set()

    def _located(self, node: NodeId) -> tuple[bytes, ...]:
        return next(((one.address,) for one in self.actors if one.me == node and one.address), ())

    async def _end(self, actor: Actor) -> None:
        """Have a node stop, and wait for it."""
        began = trio.current_time()
        assert actor.scope is not None
        actor.scope.cancel()
        await actor.over.wait()
        took = trio.current_time() - began
        self.slowest_stop = max(self.slowest_stop, took)
        if took > STOP_S:
            self.complaints.append(f"node {actor.number} took {took:.1f} s to stop; {STOP_S:g} are the most")

    def _note(self, actor: Actor, fact: Learned) -> None:
        self._trace.update(f"{self._now()} {actor.number} ".encode() + fact.item.digest)

    # ------------------------------------------------------------------ what happens

    @property
    def _up(self) -> list[Actor]:
        return [one for one in self.actors if one.host is not None]

    async def _write(self) -> None:
        """Somebody writes an entry, every so often."""
        while True:
            await trio.sleep(self.rng.expovariate(1 / 20))
            actor = self.rng.choice(self._up)
            if actor.host is not None and actor.host.running:
                expiry = Millis(EPOCH + self._now() + 24 * 60 * MINUTE)
                self.written += 1
                actor.host.tell(Append(LogName.DIRECTORY, b"%d" % self.written, expiry))
                self.most_waiting = max(self.most_waiting, actor.host.waiting)

    async def _look_up(self) -> None:
        """Somebody looks for somebody, and may be cancelled while it does."""
        async with trio.open_nursery() as asking:
            while True:
                await trio.sleep(self.rng.expovariate(1 / 15))
                asker, sought = self.rng.choice(self._up), self.rng.choice(self.actors)
                patience = self.rng.choice((0.001, 60.0, 60.0))
                asking.start_soon(self._ask, asker, sought.me, patience)

    async def _ask(self, asker: Actor, sought: NodeId, patience: float) -> None:
        host = asker.host
        if host is None or not host.running:
            return
        with trio.move_on_after(patience):
            found = await host.ask(FindNode(sought))
            self.look_ups += 1
            self.found += found.found or asker.me == sought

    async def _trouble(self, nursery: trio.Nursery) -> None:
        """Something goes wrong, every so often; most of it mends."""
        while True:
            await trio.sleep(self.rng.expovariate(1 / 30))
            what, actor = self.rng.choice(TROUBLES), self.rng.choice(self.actors[SEEDS:])
            if actor.host is None:
                await nursery.start(self._live, actor)
                self.troubles["restart"] += 1
                continue
            self.troubles[what] += 1
            other = self.rng.choice([one for one in self.actors if one is not actor])
            match what:
                case "crash":  # nothing that was not committed is there afterwards
                    rows = dict(actor.store._values), list(actor.store._keys), actor.store._sequence
                    await self._end(actor)
                    actor.store._values, actor.store._keys, actor.store._sequence = rows
                case "stop":
                    await self._end(actor)
                case "cut":
                    self.meeting.cut(actor.me, other.me)
                case "silence":
                    self.meeting.silence(actor.me, other.me)
                case _:
                    actor.store.stalls_until = trio.current_time() + self.rng.uniform(1, 60)

    # ------------------------------------------------------------------ the end

    def _compare(self) -> None:
        """At the end all directories have the same root, and it has everybody who wrote."""
        roots = Counter(
            actor.peer.logs.directory.root(Millis(EPOCH + self._now()))
            for actor in self.actors
            if actor.peer is not None
        )
        if len(roots) != 1:
            self.complaints.append(f"{len(roots)} different directories at the end: {sorted(roots.values())}")

    def told(self, virtual_s: float) -> Rehearsed:
        """What came of it."""
        return Rehearsed(
            self._trace.hexdigest(),
            virtual_s,
            sum(one.steps for one in self.actors),
            sum(one.store.commits for one in self.actors),
            dict(sorted(self.troubles.items())),
            self.written,
            self.found,
            self.look_ups,
            round(self.slowest_stop, 3),
            self.most_waiting,
            tuple(self.complaints),
        )


def rehearse(seed: int, nodes: int, minutes: int) -> Rehearsed:
    """Play one rehearsal; raises Unknown for what makes none. The same for the same seed, nodes and minutes."""
    if not NODES[0] <= nodes <= NODES[1]:
        raise Unknown(f"a rehearsal has {NODES[0]} to {NODES[1]} nodes, and {nodes} were asked for")
    if minutes <= SETTLE_MIN:
        raise Unknown(f"a rehearsal takes more than the {SETTLE_MIN} minutes in which it settles")
    made = Rehearsal(seed, nodes, minutes)

    async def main() -> float:
        await made.run()
        return trio.current_time()

    running: Any = trio._core._run  # trio has no public name for it; its own Hypothesis plugin does the same
    before = running._ALLOW_DETERMINISTIC_SCHEDULING, running._r.getstate()
    running._ALLOW_DETERMINISTIC_SCHEDULING = True
    running._r.seed(seed)
    stopped, virtual_s = False, 0.0
    try:
        virtual_s = trio.run(main, clock=MockClock(autojump_threshold=0))
    except* KeyboardInterrupt:  # which trio may hand on within groups
        stopped = True
    finally:
        running._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        running._r.setstate(before[1])
    if stopped:
        raise KeyboardInterrupt
    return made.told(virtual_s)


def say(seed: int, nodes: int, told: Rehearsed) -> list[str]:
    """A rehearsal in a few lines."""
    troubles = ", ".join(f"{count} {name}" for name, count in told.troubles.items())
    return [
        f"rehearsal of {nodes} hosts, seed {seed}: {'; '.join(told.complaints) or 'every invariant held'}",
        f"  {told.virtual_s:.0f} virtual seconds, {told.steps:,} steps, {told.commits:,} commits; {troubles}",
        f"  {told.written} entries written, {told.found} of {told.look_ups} look-ups found their node",
        f"  the slowest stop took {told.slowest_stop_s:g} s; {told.most_waiting} actions waited for a disk at the most",
        f"  trace {told.digest}",
    ]
