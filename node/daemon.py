"""The daemon: its parts built from what a home says, and run in one nursery; no logic of its own.

    home ── opened (store, chunks, keys) ─┐
    network file ── seeds, calendar ──────┼─→ swarm(transport) ─ host(peer) ─ custodian, replication, presence, control
    transport ── tor, or loopback ────────┘

It ends within seconds with everything durable; what a crash leaves is taken up at the next start. Source: DESIGN §2, §4.
"""

import random
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Final

import trio

from consensus.ids import Digest, Millis, NodeId, SessionId
from consensus.replica import ConsensusReplica
from consensus.signatory import Own
from consensus.signing import verify_as_is
from consensus.wishes import DoubleHeard, NewFinal, RecordRefused
from node.admitting import Admitting
from node.carrier import RPC_SEED, onion_seed
from node.chain.executor import Executor
from node.chain.following import TOPIC, Chain
from node.chain.outbox import Outbox
from node.chain.rpc import RpcServer
from node.constitution import chain_law_of, law_of, obstacle, rules_of
from node.control.annotating import Annotating
from node.control.calls import Calls
from node.control.ledger import Keeping
from node.control.server import Control
from node.log import EventLog
from node.net.addresses import AddressBook
from node.net.clock import SteadyClock
from node.net.endpoints import parse_endpoint
from node.net.host import Host, load
from node.net.swarm import Swarm
from node.network import NetworkTerms
from node.overlay.advert import Advert
from node.overlay.agreement import kept
from node.overlay.clocks import OFFSET_MS_MAX, ClockOffset
from node.overlay.custody import ReplicateLimits
from node.overlay.inventory import Inventory
from node.overlay.machine import Rejected
from node.overlay.peer import Peer, PeerLimits, Surroundings
from node.overlay.reconcile import ReconcileLimits
from node.overlay.topics import Ruling
from node.presence import Presence
from node.sessions.anchoring import Anchoring
from node.sessions.annotations import Annotations
from node.sessions.desk import OpenHome
from node.sessions.holding import Custodian
from node.sessions.indexlog import IndexLog
from node.sessions.life import LOOK_S, Sessions
from node.sessions.lots import ChainLots, InterimLots, Lots
from node.sessions.replication import Replication
from node.sessions.restore import Restore
from node.sessions.sharing import Sharing
from node.sessions.vouching import Vouching
from node.store import Key
from node.store.replicas import ReplicaFiles
from node.timeline import Timeline
from node.tor.interface import OnionService, Tor
from node.tor.onion import SUFFIX
from node.wallet.eras import EraKeyFiles

RPC_PORT: Final = 8545
"""Of the onion of the JSON-RPC."""
Rows = Mapping[tuple[str, Key], bytes]


class Daemon:
    """All parts of one running node; `swarm` carries its frames and is not running yet."""

    def __init__(
        self,
        desk: OpenHome,
        terms: NetworkTerms,
        swarm: Swarm,
        book: AddressBook,
        tor: Tor | None,
        rows: Rows,
        log: EventLog,
    ) -> None:
        self.desk, self.terms, self.swarm, self.book, self.tor, self.log = desk, terms, swarm, book, tor, log
        keys = desk.secrets.identity
        self.me = NodeId(keys.public)
        self.network = network = terms.network
        self.calendar = calendar = calendar_of(terms)
        self.capacity = desk.config.replicas_gb * 1_000_000_000
        around = Surroundings(
            network,
            verify_as_is,
            tuple(one.node for one in terms.bootstrap if one.node != self.me),
            keeps=lambda _owner: True,
            locate=book.locate,
            first_epoch=int(time.time()),
            seed_at=self._seed_at,
            is_here=desk.chunks.has,
            consensus=self._consensus() if obstacle(terms.genesis) is None else None,
            execution=None,
            rules={TOPIC: self._judge_transaction},
        )
        self.peer = Peer(keys, random.SystemRandom(), around, limits_of(calendar, self.capacity), rows)
        self.host = Host(self.peer, swarm, desk.store, SteadyClock())
        self.lots = self._lots()
        self.chain = self._chain()
        rpc = desk.config.rpc
        self.rpc = RpcServer(self.chain, int(rpc.rpartition(":")[2])) if rpc and self.chain is not None else None
        self.admitting = Admitting(self.host, network, self.me, log)
        inventory = self.peer.replicate.inventory
        self.presence = Presence(self.host, self.peer, book, calendar, network)
        self.replication = Replication(self.host, inventory, desk.store, desk.chunks, desk.secrets, calendar, self.lots)
        self.replicas = ReplicaFiles(desk.home.path / "replicas")
        self.custodian = Custodian(self.host, inventory, swarm, self.replicas, self.replication.encoded)
        self.restore = Restore(
            self.me,
            inventory,
            swarm,
            desk.store,
            desk.chunks,
            desk.secrets,
            lambda: self.peer.connected,
            desk.config.stripes,
        )
        self.anchoring = self._anchoring()
        self.vouching = self._vouching(inventory)
        self.annotations = Annotations(desk.store, desk.chunks, desk.secrets)
        self.index = IndexLog(self.host, self.peer, self.annotations.fold)
        self.sharing = Sharing(self.host, self.peer, self.index, self.annotations, log)
        look_s = min(LOOK_S, calendar.hour_ms / 4000)
        self.sessions = Sessions(
            desk, self.host, self.replication, self.restore, self.index, self.annotations, log, look_s
        )
        self.control = Control(desk.home.path)
        Keeping(desk.store, self._kept).offer(self.control)
        Calls(self).offer(self.control)
        Annotating(desk.store, self.annotations, self.host.clock.now).offer(self.control)
        self.host.on_fact(Rejected, lambda fact: log.debug("frame.rejected", peer=fact.peer, reason=fact.reason))
        self._tell_of_chain()
        self.addresses: tuple[bytes, ...] = ()

    def _consensus(self) -> Callable[[Rows], ConsensusReplica]:
        """What makes this node's replica from its rows: its law, its keys, and where the genesis began."""
        law, secrets = law_of(self.terms), self.desk.secrets
        rules, genesis = rules_of(law)
        eras = EraKeyFiles(self.desk.home.path / "eras", secrets.identity, self.network)
        own = Own(self.me, secrets.identity, eras.keys_of, eras.new_keys, secrets.address, None, self.capacity)
        store = self.desk.store
        return lambda rows: ConsensusReplica(
            rules, genesis, self.calendar.began, own, kept(rows), lambda table, key: store.peek(table, (key,))
        )

    def _chain(self) -> Chain | None:
        """The execution layer, on a network that has a chain."""
        if self.peer.agreement is None:
            return None
        executor = Executor(self.desk.home.path / "chain", chain_law_of(self.terms))
        return Chain(self.host, self.peer.agreement.replica, executor, self.desk.secrets.account_key, self.log)

    def _anchoring(self) -> Anchoring | None:
        """What goes of this home's sessions on the chain."""
        if self.chain is None:
            return None
        desk, chain, chain_id = self.desk, self.chain, self.chain.executor.law.chain_id
        *former, outbox = (
            Outbox(desk.store, chain, secret, chain_id, self.log)
            for secret in (*desk.secrets.former, desk.secrets.account_key)
        )
        return Anchoring(desk.store, outbox, former, self.replication, self.calendar, self.network, self.host.clock)

    def _lots(self) -> Lots:
        """By what the holders of chunks are drawn."""
        if self.peer.agreement is None:
            return InterimLots(self.network)
        return ChainLots(self.peer.agreement.replica, self.me, lambda: self.calendar.slot(self.host.clock.now()))

    def _seed_at(self, slot: int) -> Digest | None:
        return self.lots.seed_at(slot)

    def _vouching(self, inventory: Inventory) -> Vouching | None:
        """What this node says on the chain of what it holds."""
        if self.chain is None or self.anchoring is None:
            return None
        return Vouching(self.me, self.host, self.chain, inventory, self.anchoring.outboxes.get)

    def _kept(self, session: SessionId) -> None:
        """A recorder has given us a record."""
        self.sessions.sealed(session)
        if self.anchoring is not None:
            self.anchoring.stir(session)

    def _judge_transaction(self, topic: str, author: NodeId, data: bytes) -> Ruling:
        return Ruling.IGNORE if self.chain is None else self.chain.judge(topic, author, data)

    def _turn_clock(self, fact: ClockOffset) -> None:
        """Go by the peers' time, and say so where the difference keeps this node from its duties."""
        if fact.offset is None:
            self.log.debug("clock.unknown", peers=fact.samples)
            return
        self.host.clock.correct(fact.offset)
        if abs(fact.offset) > OFFSET_MS_MAX:
            self.log.warning("clock.off", ms=fact.offset, peers=fact.samples, mend="set this machine's clock")

    def _tell_of_chain(self) -> None:
        """What happens on the chain, in the log."""
        log, host = self.log, self.host
        if reason := obstacle(self.terms.genesis):
            log.warning("chain.none", reason=reason)
        host.on_fact(ClockOffset, self._turn_clock)
        host.on_fact(NewFinal, lambda fact: log.info("chain.final", hour=fact.point.hour, block=fact.point.block))
        host.on_fact(RecordRefused, lambda fact: log.debug("chain.refused", topic=fact.topic.value, reason=fact.reason))
        host.on_fact(
            DoubleHeard,
            lambda fact: log.error("chain.double", what=fact.what, mend="stop the other node with this key"),
        )

    async def _publish_rpc(self, rpc: RpcServer) -> None:
        """Have the JSON-RPC met over an onion of its own, by its reader alone."""
        reader, home = self.desk.config.rpc_reader, self.desk.home
        if reader and self.tor is not None and rpc.address is not None:
            seed = await trio.to_thread.run_sync(onion_seed, home, RPC_SEED)
            ports = {RPC_PORT: parse_endpoint(rpc.address)}
            rpc.met_at(f"{await self.tor.serve(OnionService(seed, ports, (reader,)))}{SUFFIX}")
            self.log.info("rpc.published", onion=rpc.onion)

    async def run(self, *, task_status: trio.TaskStatus[tuple[bytes, ...]] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; starts, with our addresses, when the node takes part."""
        await self.replication.load()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.custodian.run)
            self.addresses = await nursery.start(self.host.run)
            if self.chain is not None:
                await nursery.start(self.chain.run)
                nursery.start_soon(self.admitting.run)
            if self.rpc is not None:
                await nursery.start(self.rpc.run)
                self.log.info("rpc.up", address=self.rpc.address)
                nursery.start_soon(self._publish_rpc, self.rpc)
            if self.anchoring is not None:
                for outbox in self.anchoring.outboxes.values():
                    await outbox.load()
                    nursery.start_soon(outbox.run)
                nursery.start_soon(self.anchoring.run)
            if self.vouching is not None:
                nursery.start_soon(self.vouching.run)
            await self.custodian.sweep()
            self.presence.advertise(Advert(self.addresses, self.capacity, f"lucid-node {version('lucid-node')}"[:32]))
            nursery.start_soon(self.presence.run)
            nursery.start_soon(self.replication.run)
            nursery.start_soon(self.sessions.run)
            nursery.start_soon(self.sharing.run)
            await nursery.start(self.control.serve)
            self.log.info("node.up", node=self.me, network=self.terms.genesis.name)
            task_status.started(self.addresses)


def calendar_of(terms: NetworkTerms) -> Timeline:
    """The network's calendar."""
    timing = terms.genesis.timing
    return Timeline(Millis(terms.genesis.created), timing.slot_s * 1000, timing.hour_slots, timing.era_hours)


def limits_of(calendar: Timeline, capacity: int) -> PeerLimits:
    """A peer's limits where they follow from the network's calendar and this node's disk."""
    hour = calendar.hour_ms
    replicate = ReplicateLimits(
        hour_ms=hour,
        hour_slots=calendar.hour_slots,
        era_hours=calendar.era_hours,
        overlap_hours=min(24, calendar.era_hours),
        repair_ms=24 * hour,
        answer_ms=min(60_000, hour // 2),
        jitter_ms=hour // 3,
        quota_bytes=capacity,
    )
    reconcile = ReconcileLimits(interval_ms=min(60_000, hour // 4))
    return PeerLimits(upkeep_ms=min(30_000, hour // 4), replicate=replicate, reconcile=reconcile)


async def build(
    desk: OpenHome, terms: NetworkTerms, swarm: Swarm, book: AddressBook, tor: Tor | None, log: EventLog
) -> Daemon:
    """The parts of a node, from its home; nothing runs yet."""
    return Daemon(desk, terms, swarm, book, tor, await load(desk.store), log)
