"""A whole peer as one machine: the parts side by side, each event to the part it is for, their words translated.

    Received ── by channel ──→ gossip · dht · reconcile(logs) · replicate · agreement
    TimerFired ── by the first word of its name ──→ the part that set it
    PeerUp, PeerLost ──→ all of them          Command ── by the type of its order ──→ one

    logs: Announce("directory") ──→ gossip.Publish        gossip: topic "directory" ──→ logs.on_gossip
    logs: Announce("index")     ──→ reconcile.nudge       dht, gossip, logs: nodes heard of ──→ connections kept up
    agreement: Announce(topic)  ──→ gossip.Publish        gossip: its topics ──→ agreement.on_heard

The parts know nothing of each other. The peer itself keeps connections: never fewer than `low` while anybody is known,
never more than `high`, and none with a peer that gossip has graylisted (blocklist). Of the dials of a round one goes to a
bootstrap node or to the directory: whoever fills our tables with his own nodes cannot fill those. Source: DESIGN §3, §4.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from consensus.ids import Digest, Millis, Network, NodeId
from consensus.placement import Registrant
from consensus.replica import ConsensusReplica
from consensus.signing import KeyPair
from node.overlay import agreement, calls, custody, topics
from node.overlay.agreement import Agreement, Execution, PayloadBuilt, PayloadJudged, ProofFound, StandIn
from node.overlay.blocklist import BlockLimits, Blocklist
from node.overlay.clocks import Clocks
from node.overlay.dht import Dht, DhtLimits
from node.overlay.entries import Opener
from node.overlay.gossip import Gossip
from node.overlay.logs import Announce, Logs, LogsLimits, Out, ReadDirectory, ReadLog
from node.overlay.machine import (
    Action,
    Channel,
    ClockStepped,
    Command,
    Drop,
    Event,
    Failed,
    Finished,
    Noted,
    PeerLost,
    PeerUp,
    Persist,
    Received,
    Rejected,
    Send,
    SetTimer,
    TimerFired,
    TimerKey,
    Verify,
)
from node.overlay.pen import Append
from node.overlay.reconcile import Reconcile, ReconcileLimits
from node.overlay.replicate import Replicate
from node.overlay.scoring import AuthorLimits, ScoreLimits
from node.overlay.topics import GossipLimits, Graylisted, Introduced, Ruling
from node.overlay.values import validators
from node.overlay.witnessing import Witnessing

if TYPE_CHECKING:
    from random import Random

DIRECTORY: Final = "directory"
UPKEEP: Final[TimerKey] = ("peer", "upkeep")
KEEPALIVE: Final = b""
Row = tuple[str, tuple[int | str | bytes, ...]]


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """How many connections a peer keeps, and the limits of its parts."""

    low: int = 8
    """Connections that are sought: more than gossip's degree of 6, so that a mesh heals at once."""
    high: int = 64
    """Connections that are kept; a circuit costs both ends and Tor's relays some kilobytes and keepalives."""
    upkeep_ms: int = 30_000
    attempts: int = 4
    """Dials a round; each takes seconds over Tor."""
    gossip: GossipLimits = field(default_factory=GossipLimits)
    scores: ScoreLimits = field(default_factory=ScoreLimits)
    authors: AuthorLimits = field(default_factory=AuthorLimits)
    blocks: BlockLimits = field(default_factory=BlockLimits)
    dht: DhtLimits = field(default_factory=DhtLimits)
    logs: LogsLimits = field(default_factory=LogsLimits)
    reconcile: ReconcileLimits = field(default_factory=ReconcileLimits)
    replicate: custody.ReplicateLimits = field(default_factory=custody.ReplicateLimits)


class Blocked(NamedTuple):
    """Fact: a peer's connection was closed for its score, and it is let in no more until a time."""

    peer: NodeId
    score: float
    until: Millis


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a peer is given of the world beside its keys and limits."""

    network: Network
    verify: Verify
    seeds: tuple[NodeId, ...] = ()
    """Nodes to begin with."""
    admitted: Callable[[NodeId], bool] = field(default=lambda _author: True)
    keeps: Callable[[NodeId], bool] = field(default=lambda _author: False)
    """Whose session index this node holds."""
    locate: Callable[[NodeId], Sequence[bytes]] = field(default=lambda _node: ())
    rules: Mapping[str, topics.Validate] = field(default_factory=dict)
    """Gossip topics beside "directory", and their rules."""
    first_epoch: int = 0
    """Of our logs, where we remember nothing of them: higher than in any life before."""
    seed_at: Callable[[int], Digest | None] = field(default=lambda _slot: None)
    """The seed of a slot, where it is known."""
    is_here: Callable[[Digest], bool] = field(default=lambda _chunk: True)
    """Whether a chunk of ours is on this disk, so that it can be encoded for a holder."""
    consensus: Callable[[Mapping[Row, bytes]], ConsensusReplica] | None = None
    """Makes this node's part in the consensus from its rows; None on a network without."""
    execution: Execution | None = field(default_factory=StandIn)
    """What executes payloads at once; None where the host has it done elsewhere."""
    open_entry: Opener | None = None
    """Shared by the peers of one process, so that each entry is parsed and kept once."""


class Peer:
    """One node of the overlay. `rows` are the records it persisted in its last life."""

    def __init__(
        self, keys: KeyPair, rng: "Random", around: Surroundings, limits: PeerLimits, rows: Mapping[Row, bytes]
    ) -> None:
        me = self.me = NodeId(keys.public)
        self.limits = limits
        self._rng = rng
        self._around = around
        self._now = Millis(0)
        self._exchange = 0
        self._up: dict[NodeId, bool] = {}
        self._known: dict[NodeId, None] = dict.fromkeys(node for node in around.seeds if node != me)
        self._blocklist = Blocklist(limits.blocks)
        self._heard: list[Out] = []
        self._announcing = False
        self.gossip, self.dht = self._gossip(keys), self._dht(rows)
        self.logs, self.replicate = self._logs(keys, rows), self._replicate(keys, rows)
        self.reconcile = Reconcile(self.logs, rng, self._next_exchange, limits.reconcile)
        self.agreement: Agreement | None = None
        self.witnessing: Witnessing | None = None
        self.clocks: Clocks | None = None
        if around.consensus is not None:
            replica = around.consensus(rows)
            self.agreement = Agreement(replica, around.execution, self._next_exchange)
            inventory = self.replicate.inventory
            self.witnessing = Witnessing(me, rng, self.agreement, inventory, self._next_exchange, rows)
            self.clocks = Clocks(me, rng, self.agreement, self._next_exchange)
        self._handlers: dict[type, Callable[[Millis, Any], Sequence[Action]]] = {
            Received: self._received,
            Failed: self._failed,
            TimerFired: self._fired,
            PeerUp: self._peer_up,
            PeerLost: self._peer_lost,
            ClockStepped: self._stepped,
            Command: self._command,
        }
        self._timers: dict[object, Callable[[Millis, TimerKey], list[Any]]] = {
            "gossip": self._gossip_timer,
            "dht": self.dht.on_timer,
            "logs": self._logs_timer,
            "reconcile": self._reconcile_timer,
            "replicate": self.replicate.on_timer,
            "agreement": self._agreement_timer,
            "witness": self._witness_timer,
            "clocks": self._clocks_timer,
            "peer": self._upkeep,
        }

    # ------------------------------------------------------------------ the parts

    def _gossip(self, keys: KeyPair) -> Gossip:
        limits, around = self.limits, self._around
        rules = {**around.rules, DIRECTORY: self._judge_entry}
        if around.consensus is not None:
            rules |= dict.fromkeys(agreement.TOPICS, self._judge_record)
        kinds = (limits.gossip, limits.scores, limits.authors)
        return Gossip(self.me, keys.sign_as_is, self._rng, around.verify, rules, *kinds)

    def _dht(self, rows: Mapping[Row, bytes]) -> Dht:
        around = self._around
        kept = [Persist(table, key, value) for (table, key), value in rows.items() if table == "dht"]
        namespaces = validators(around.network, around.verify)
        ours = (self._next_exchange, around.locate, kept, tuple(self._known))
        return Dht(self.me, self._rng, self.limits.dht, namespaces, *ours)

    def _logs(self, keys: KeyPair, rows: Mapping[Row, bytes]) -> Logs:
        around = self._around
        return Logs(
            self.me,
            keys,
            around.network,
            around.verify,
            around.admitted,
            keeps=around.keeps,
            limits=self.limits.logs,
            records=[(key, value) for (table, key), value in rows.items() if table == "logs"],
            first_epoch=around.first_epoch,
            open_entry=around.open_entry,
        )

    def _replicate(self, keys: KeyPair, rows: Mapping[Row, bytes]) -> Replicate:
        around = self._around
        kept = [(key, value) for (table, key), value in rows.items() if table == "replicas"]
        ours = (keys, around.verify, around.seed_at, self._next_exchange, kept, around.is_here)
        return Replicate(self.me, around.network, self._rng, self.limits.replicate, *ours)

    # ------------------------------------------------------------------ what hosts and checks may ask

    @property
    def connected(self) -> tuple[NodeId, ...]:
        """The peers that are connected, the oldest first."""
        return tuple(self._up)

    # ------------------------------------------------------------------ the machine

    def start(self, now: Millis) -> Sequence[Action]:
        """Start every part, subscribe to the directory, and seek connections."""
        self._now = now
        out = self.gossip.start(now)
        out += self._gossip_says(now, self.gossip.on_command(now, 0, topics.Subscribe(DIRECTORY)))
        out += self.dht.start(now)
        out += self._told(now, self.logs.start(now))
        out += self._told(now, self.reconcile.start(now))
        out += self.replicate.start(now)
        if self.agreement is not None:
            for topic in agreement.TOPICS:
                out += self._gossip_says(now, self.gossip.on_command(now, 0, topics.Subscribe(topic)))
            out += self._told(now, self.agreement.start(now))
        if self.witnessing is not None:
            out += self._told(now, self.witnessing.start(now))
        if self.clocks is not None:
            out += self._told(now, self.clocks.start(now))
        first = SetTimer(UPKEEP, Millis(now + self._rng.randrange(1, self.limits.upkeep_ms)))
        return [action for action in (*out, first) if type(action) is not Finished]

    def handle(self, now: Millis, event: Event) -> Sequence[Action]:
        """What the event leads to."""
        self._now = now
        return self._handlers[type(event)](now, event)

    def _received(self, now: Millis, event: Received) -> Sequence[Action]:
        peer, channel, frame, exchange = event
        if channel is Channel.GOSSIP:
            return self._gossip_says(now, self.gossip.on_frame(now, peer, frame, exchange))
        if channel is Channel.DHT:
            return self.dht.on_frame(now, peer, frame, exchange)
        if channel is Channel.LOGS:
            return self._told(now, self.reconcile.on_frame(now, peer, frame, exchange))
        if channel is Channel.REPLICAS:
            return self.replicate.on_frame(now, peer, frame, exchange)
        if self.agreement is None or self.witnessing is None or self.clocks is None:
            return [Noted(Rejected(peer, "a question about the chain on a network without one"))]
        if channel is Channel.WITNESS:
            return self._told(now, self.witnessing.on_frame(now, peer, frame, exchange))
        if channel is Channel.CLOCK:
            return self._told(now, self.clocks.on_frame(now, peer, frame, exchange))
        return self._told(now, self.agreement.on_frame(now, peer, frame, exchange))

    def _failed(self, now: Millis, event: Failed) -> Sequence[Action]:
        peer, channel, exchange = event
        if channel is Channel.DHT:
            return self.dht.on_failed(now, peer, exchange)
        if channel is Channel.LOGS:
            return self._told(now, self.reconcile.on_failed(now, peer, exchange))
        if channel is Channel.BLOCKS and self.agreement is not None:
            return self._told(now, self.agreement.on_failed(exchange))
        if channel is Channel.WITNESS and self.witnessing is not None:
            return self._told(now, self.witnessing.on_failed(exchange))
        if channel is Channel.CLOCK and self.clocks is not None:
            self.clocks.on_failed(exchange)
        return self.replicate.on_failed(now, peer, exchange) if channel is Channel.REPLICAS else []

    def _fired(self, now: Millis, event: TimerFired) -> Sequence[Action]:
        return self._timers[event.key[0]](now, event.key)

    def _peer_up(self, now: Millis, event: PeerUp) -> Sequence[Action]:
        peer, dialled = event
        if self._blocklist.refuses(now, peer):  # the parts never hear of it
            return [Drop(peer, "this node refuses it for what it sent before")]
        self._up[peer] = dialled
        self._known.pop(peer, None)
        out: list[Action] = self._spare() if len(self._up) > self.limits.high else []
        out += self.gossip.on_peer_up(now, peer, dialled)
        out += self.dht.on_peer_up(now, peer, dialled)
        out += self._told(now, self.reconcile.on_peer_up(now, peer, dialled))
        out += self.replicate.on_peer_up(now, peer, dialled)
        if self.agreement is not None:
            out += self._told(now, self.agreement.on_peer_up(now, peer))
        if self.clocks is not None:
            out += self._told(now, self.clocks.on_peer_up(now, peer))
        return out

    def _peer_lost(self, now: Millis, event: PeerLost) -> Sequence[Action]:
        peer = event.peer
        if self._up.pop(peer, None) is None:
            return []
        self._remember(peer)
        out: list[Action] = self.gossip.on_peer_lost(now, peer)
        out += self.dht.on_peer_lost(now, peer)
        out += self._told(now, self.reconcile.on_peer_lost(now, peer))
        out += self.replicate.on_peer_lost(now, peer)
        if self.agreement is not None:
            out += self._told(now, self.agreement.on_peer_lost(peer))
        if self.clocks is not None:
            self.clocks.on_peer_lost(peer)
        return out

    def _stepped(self, now: Millis, event: ClockStepped) -> Sequence[Action]:
        return self._told(now, self.logs.on_clock(now, event.delta))

    def _command(self, now: Millis, event: Command) -> Sequence[Action]:
        call, order = event
        match order:
            case topics.Publish() | topics.Subscribe() | topics.Unsubscribe():
                return self._gossip_says(now, self.gossip.on_command(now, call, order))
            case ProofFound(asked, nonce) if self.agreement is not None:
                return self._told(now, self.agreement.found(now, asked, nonce))
            case PayloadJudged() | PayloadBuilt() if self.agreement is not None:
                return self._told(now, self.agreement.on_command(now, order))
            case Append() | ReadDirectory() | ReadLog():
                return self._told(now, self.logs.on_command(now, call, order))
            case custody.SegmentsRead(ref) if ref < 0 and self.witnessing is not None:
                return self._told(now, self.witnessing.on_read(order))
            case custody.Place() | custody.Fetched() | custody.SegmentsRead():
                return self.replicate.on_command(now, call, order)
            case (
                calls.FindNode()
                | calls.PutValue()
                | calls.GetValue()
                | calls.Provide()
                | calls.Withdraw()
                | calls.FindProviders()
                | calls.Bootstrap()
            ):
                return self.dht.on_command(now, call, order)
            case _:
                raise TypeError(f"{type(order).__name__} is no command of a peer")

    # ------------------------------------------------------------------ translation

    def _next_exchange(self) -> int:
        self._exchange += 1
        return self._exchange

    def _judge_entry(self, topic: str, author: NodeId, data: bytes) -> Ruling:
        """Gossip's rule for the directory: the logs judge, and what follows from it joins this step's actions."""
        del topic
        if self._announcing:
            return Ruling.ACCEPT  # our own, which the logs hold already
        verdict, heard = self.logs.on_gossip(self._now, author, data)
        ruling = Ruling(verdict)
        if ruling is not Ruling.REJECT:  # which gossip notes, once, and of who sent it
            self._heard += heard
        return ruling

    def _judge_record(self, topic: str, author: NodeId, data: bytes) -> Ruling:
        """Gossip's rule for what the consensus spreads: the replica judges, and what follows joins this step's actions."""
        if self._announcing or self.agreement is None:
            return Ruling.ACCEPT  # our own, which the replica holds already
        ruling, heard = self.agreement.on_heard(self._now, topic, author, data)
        self._heard += heard
        return ruling

    def _gossip_says(self, now: Millis, out: list[Action]) -> list[Action]:
        """What gossip wants done, and what the logs want because of it."""
        if self._heard:
            heard, self._heard = self._heard, []
            out += self._told(now, heard)
        graylisted: list[Graylisted] = []
        for action in out:
            if type(action) is Noted:
                fact = action.fact
                if type(fact) is Introduced:
                    for node in fact.peers:
                        self._remember(node)
                elif type(fact) is Graylisted:
                    graylisted.append(fact)
        for peer, score in graylisted:
            until = self._blocklist.block(now, peer)
            out += [Noted(Blocked(peer, score, until)), Drop(peer, "its gossip score is below the graylist threshold")]
        return out

    def _told(self, now: Millis, out: Iterable[Out]) -> list[Action]:
        """The logs' wishes, with each announcement made."""
        done: list[Action] = []
        for action in out:
            if type(action) is not Announce:
                done.append(action)  # type: ignore[arg-type]  # mypy does not narrow by an exact type
            elif action.topic == DIRECTORY or action.topic in agreement.TOPICS:
                self._announcing = True
                said = self.gossip.on_command(now, 0, topics.Publish(action.topic, action.data))
                self._announcing = False
                done += [one for one in self._gossip_says(now, said) if type(one) is not Finished]
            else:
                done += self._told(now, self.reconcile.nudge(now, self.me))
        return done

    def _gossip_timer(self, now: Millis, key: TimerKey) -> list[Action]:
        return self._gossip_says(now, self.gossip.on_timer(now, key))

    def _logs_timer(self, now: Millis, key: TimerKey) -> list[Action]:
        return self._told(now, self.logs.on_timer(now, key))

    def _reconcile_timer(self, now: Millis, key: TimerKey) -> list[Action]:
        return self._told(now, self.reconcile.on_timer(now, key))

    def _agreement_timer(self, now: Millis, key: TimerKey) -> list[Action]:
        return [] if self.agreement is None else self._told(now, self.agreement.on_timer(now, key))

    def _witness_timer(self, now: Millis, key: TimerKey) -> list[Action]:
        return [] if self.witnessing is None else self._told(now, self.witnessing.on_timer(now, key))

    def _clocks_timer(self, now: Millis, key: TimerKey) -> list[Action]:
        return [] if self.clocks is None else self._told(now, self.clocks.on_timer(now, key))

    def on_registry(self, now: Millis, era: int, registry: Sequence[Registrant]) -> Sequence[Action]:
        """An ERA's registry of nodes, from whoever knows it: later the consensus machine."""
        return self.replicate.on_registry(now, era, registry)

    def on_seed(self, now: Millis, hour: int, seed: Digest) -> Sequence[Action]:
        """The seed of an HOUR, likewise."""
        return self.replicate.on_seed(now, hour, seed)

    # ------------------------------------------------------------------ connections

    def _remember(self, node: NodeId) -> None:
        if node != self.me and node not in self._up:
            self._known.pop(node, None)
            self._known[node] = None
            while len(self._known) > 4 * self.limits.high:
                del self._known[next(iter(self._known))]

    def _spare(self) -> list[Action]:
        """Close the oldest connection that no mesh needs: newcomers always get a first answer, from a full node too."""
        needed = dict.fromkeys(self.gossip.mesh(DIRECTORY))
        victim = next((peer for peer in self._up if peer not in needed), next(iter(self._up)))
        return [Drop(victim, "this node keeps no more connections")]

    def _upkeep(self, now: Millis, _key: TimerKey) -> list[Action]:
        """Dial some of those we know while there are too few connections, and join anew while we know too few."""
        out: list[Action] = [SetTimer(UPKEEP, Millis(now + self.limits.upkeep_ms))]
        if len(self.dht.table) < self.limits.low and len(self._known) + len(self._up) > len(self.dht.table):
            again = calls.Bootstrap((*self._around.seeds, *self._up))
            out += [action for action in self.dht.on_command(now, 0, again) if type(action) is not Finished]
        missing = min(self.limits.low - len(self._up), self.limits.attempts)
        if missing <= 0:
            return out
        anchors = self._free(now, self._anchors())
        chosen = [self._rng.choice(anchors)] if anchors else []
        others = [node for node in self._free(now, self._candidates()) if node not in chosen]
        chosen += self._rng.sample(others, min(missing - len(chosen), len(others)))
        for node in chosen:
            out += self._greet(node)
        return out

    def _candidates(self) -> Iterable[NodeId]:
        """Whom we could dial: contacts of the table and those remembered."""
        found = dict.fromkeys(self.dht.table.closest(self._rng.getrandbits(256), 4 * self.limits.low))
        return found | self._known

    def _anchors(self) -> Iterable[NodeId]:
        """Whom nobody can keep us from knowing: the bootstrap nodes, and who signed an entry of the directory."""
        return dict.fromkeys((*self._around.seeds, *self.logs.directory.authors))

    def _free(self, now: Millis, nodes: Iterable[NodeId]) -> list[NodeId]:
        """Those of the nodes that are neither connected nor refused."""
        up, refuses = self._up, self._blocklist.refuses
        return [node for node in nodes if node not in up and node != self.me and not refuses(now, node)]

    def _greet(self, node: NodeId) -> list[Action]:
        """An empty gossip frame: it says nothing, and the host dials to deliver it."""
        return [Send(node, Channel.GOSSIP, KEEPALIVE)]
