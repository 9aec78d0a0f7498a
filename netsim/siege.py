"""Gossip under the published attacks: our router alone, as shipped, against the Sybils of the gossipsub v1.1 evaluation.

    honest nodes dial each other ── a tenth publishes ──→ Sybils join, GRAFT everybody, carry nothing ──→ what is lost, how late
                                                             how many places of an honest mesh they hold, and for how long

The set-ups are those of the evaluation's configurations (libp2p/gossipsub-hardening, 2020): who joins when, with how many
connections to whom, and what is dropped. `nodes` are the honest ones; Sybils come on top, in per cent of them. What differs
is said in netsim/README.md: fewer messages a second, no IP addresses (P6 is none behind Tor), and our own limits and scores.

A Sybil subscribes and GRAFTs at once, accepts each GRAFT, tries again a minute after a PRUNE, tells nobody what it has and
answers nobody who asks. Sources: Vyzovitis et al., PL-TechRep-2020-001; their badboy.go.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, NamedTuple

from consensus.encoding import Malformed
from consensus.ids import Millis, NodeId
from consensus.signing import KeyPair
from netsim.checks import Broken, Check, Report, TimeForward
from netsim.flooding import Flood
from netsim.links import LinkModel
from netsim.scenarios import MINUTE, Options, Unknown, keys_of
from netsim.seeds import derive
from netsim.tape import Recipe
from netsim.verify import CachedVerify
from netsim.world import World
from node.overlay.blocklist import BlockLimits, Blocklist
from node.overlay.gossip import Gossip
from node.overlay.machine import (
    Action,
    Channel,
    Drop,
    Event,
    Machine,
    Noted,
    PeerLost,
    PeerUp,
    Received,
    Send,
    SetTimer,
    TimerFired,
    TimerKey,
)
from node.overlay.topics import Delivered, GossipLimits, Graylisted, Publish, Ruling, Subscribe
from node.overlay.wire import Rpc, Subscription, decode_rpc, encode_rpc

TOPIC: Final = "blocks"
WARM_UP_MS: Final = 30_000
COOL_DOWN_MS: Final = 30_000
LAST_WORD_MS: Final = 15_000
"""From the beginning of the cool-down, within which a message may still be published: what is published later has no time to come."""
DIALS: Final = 20
PUBLISHERS: Final = 10
"""One honest node in so many publishes."""
BYTES: Final = 2_048
REGRAFT_MS: Final = 60_000
REGRAFT_SPREAD_MS: Final = 15_000
WATCHED_MS: Final = 5_000
WINDOW_MS: Final = 30_000
HEALED: Final = 20
"""A network has recovered when no more than one in so many honest nodes has a thin mesh."""
THIN: Final = GossipLimits().degree_low
"""Honest places, below which a mesh is thin."""
JOIN: Final[TimerKey] = ("siege", "join")
SPEAK: Final[TimerKey] = ("siege", "speak")
HELLO: Final = encode_rpc(Rpc((Subscription(subscribe=True, topic=TOPIC),)))
GRAFT: Final = encode_rpc(Rpc(graft=(TOPIC,)))


@dataclass(frozen=True, slots=True)
class Attack:
    """A set-up: when Sybils come, to whom, and what they drop."""

    joins_ms: int = 60_000
    """After the start; honest nodes publish from 30 s on."""
    honest_ms: int = 0
    """When honest nodes start."""
    turns_ms: int = 0
    """How long a Sybil behaves before it drops anything."""
    drops: int = 1_000
    """Of 1,000 messages."""
    aims: str = "network"
    """"network": honest nodes by lot; "publishers": those alone; "one": the first publisher alone."""
    censors: bool = False
    """Whether what is dropped are the first publisher's messages alone."""


ATTACKS: Final[Mapping[str, Attack]] = {
    "gossip-calm": Attack(),
    "gossip-eclipse-one": Attack(aims="one"),
    "gossip-eclipse-net": Attack(),
    "gossip-eclipse-publishers": Attack(aims="publishers"),
    "gossip-censor": Attack(drops=0, censors=True),
    "gossip-degrade": Attack(drops=500),
    "gossip-degrade-little": Attack(drops=100),
    "gossip-cold-boot": Attack(joins_ms=0),
    "gossip-cold-boot-dense": Attack(joins_ms=0),
    "gossip-covert-flash": Attack(joins_ms=0, turns_ms=120_000),
    "gossip-dawn": Attack(joins_ms=0, honest_ms=10_000),
    "gossip-colocation": Attack(joins_ms=0),
}


class Timetable:
    """What an honest node does at which time, whatever carries its messages: dial, and publish every so many ms."""

    def __init__(self, rng: Random, peers: Sequence[NodeId], at: int, speaks: int) -> None:
        """Speaks is 0 for who publishes nothing."""
        self.peers, self._rng, self._at, self._speaks, self._until = peers, rng, at, speaks, 1 << 62

    def begin(self, now: Millis) -> SetTimer:
        """Dial when it is time."""
        return SetTimer(JOIN, Millis(max(now, self._at)))

    def join(self, now: Millis) -> list[Action]:
        """Dial, and speak later."""
        out: list[Action] = [Send(peer, Channel.GOSSIP, HELLO) for peer in self.peers]
        if self._speaks:
            out.append(SetTimer(SPEAK, Millis(now + WARM_UP_MS + self._rng.randrange(self._speaks))))
        return out

    def speak(self, now: Millis) -> bytes | None:
        """What is to be published now, if anything still is."""
        return None if now > self._until else self._rng.randbytes(BYTES)

    def again(self, now: Millis) -> SetTimer:
        """Speak once more."""
        return SetTimer(SPEAK, Millis(now + self._speaks))

    def hush(self, until: int) -> None:
        """Publish what is due until then, once, and no more."""
        self._speaks, self._until = 1 << 40, until


class Router:
    """An honest node: the daemon's router alone, with its connections and its blocklist."""

    def __init__(self, keys: KeyPair, rng: Random, verify: CachedVerify, timetable: Timetable) -> None:
        self.me, self.timetable = NodeId(keys.public), timetable
        self.gossip = Gossip(self.me, keys.sign_as_is, rng, verify, {TOPIC: _any})
        self._blocklist = Blocklist(BlockLimits())
        self._call = 0

    def start(self, now: Millis) -> Sequence[Action]:
        """Be in the topic, and dial when it is time."""
        self._call += 1
        out = [*self.gossip.start(now), *self.gossip.on_command(now, self._call, Subscribe(TOPIC))]
        return [*out, self.timetable.begin(now)]

    def handle(self, now: Millis, event: Event) -> Sequence[Action]:
        """What the event leads to."""
        match event:
            case Received(peer, _, frame, exchange):
                return self._judged(now, self.gossip.on_frame(now, peer, frame, exchange))
            case PeerUp(peer, dialled):
                if self._blocklist.refuses(now, peer):
                    return [Drop(peer, "it was shut out")]
                return self.gossip.on_peer_up(now, peer, dialled)
            case PeerLost(peer):
                return self.gossip.on_peer_lost(now, peer)
            case TimerFired(("siege", "join")):
                return self.timetable.join(now)
            case TimerFired(("siege", "speak")):
                data = self.timetable.speak(now)
                if data is None:
                    return []
                self._call += 1
                return [*self.gossip.on_command(now, self._call, Publish(TOPIC, data)), self.timetable.again(now)]
            case TimerFired(key):
                return self._judged(now, self.gossip.on_timer(now, key))
            case _:
                return []

    def _judged(self, now: Millis, actions: list[Action]) -> list[Action]:
        """With who is graylisted shut out, as a peer does."""
        out = []
        for action in actions:
            out.append(action)
            if type(action) is Noted and type(action.fact) is Graylisted:
                self._blocklist.block(now, action.fact.peer)
                out.append(Drop(action.fact.peer, "graylisted"))
        return out


class Flooder:
    """An honest node that floods: the baseline to the router."""

    def __init__(self, keys: KeyPair, rng: Random, verify: CachedVerify, timetable: Timetable) -> None:
        del rng
        self.me, self.timetable = NodeId(keys.public), timetable
        self._flood = Flood(keys, verify)

    def start(self, now: Millis) -> Sequence[Action]:
        """Dial when it is time."""
        return [self.timetable.begin(now)]

    def handle(self, now: Millis, event: Event) -> Sequence[Action]:
        """What the event leads to."""
        match event:
            case Received():
                return self._flood.on_frame(event)
            case PeerUp() | PeerLost():
                self._flood.on_peer(event)
                return []
            case TimerFired(("siege", "join")):
                return self.timetable.join(now)
            case TimerFired(("siege", "speak")):
                data = self.timetable.speak(now)
                return [] if data is None else [*self._flood.publish(now, TOPIC, data), self.timetable.again(now)]
            case _:
                return []


class Sybil:
    """A node that is in everybody's mesh and carries as little as its attack wants."""

    def __init__(
        self, me: NodeId, rng: Random, attack: Attack, peers: Sequence[NodeId], begun: int, victim: NodeId
    ) -> None:
        self.me, self._rng, self._attack, self._peers, self._victim = me, rng, attack, peers, victim
        self._joins = begun + attack.joins_ms + rng.randrange(1_000)
        self._turns = begun + attack.turns_ms
        self._meshed: dict[NodeId, None] = {}
        self._seen: dict[bytes, None] = {}
        self.dropped = 0

    def start(self, now: Millis) -> Sequence[Action]:
        """Join when it is time."""
        return [SetTimer(JOIN, Millis(max(now, self._joins)))]

    def handle(self, now: Millis, event: Event) -> Sequence[Action]:
        """What the event leads to."""
        match event:
            case Received(peer, _, frame, _):
                return self._heard(now, peer, frame)
            case PeerUp(peer):
                return [Send(peer, Channel.GOSSIP, HELLO), Send(peer, Channel.GOSSIP, GRAFT)]
            case PeerLost(peer):
                self._meshed.pop(peer, None)
                return []
            case TimerFired(("siege", "join")):
                return [Send(peer, Channel.GOSSIP, HELLO) for peer in self._peers]
            case TimerFired(("siege", "graft", bytes(peer))):
                return [Send(NodeId(peer), Channel.GOSSIP, GRAFT)]
            case _:
                return []

    def _heard(self, now: Millis, peer: NodeId, frame: bytes) -> list[Action]:
        try:
            rpc = decode_rpc(frame)
        except Malformed:
            return []
        out: list[Action] = []
        if rpc.graft or rpc.subscriptions:
            self._meshed[peer] = None
        if rpc.prune:
            self._meshed.pop(peer, None)
            later = now + REGRAFT_MS + self._rng.randrange(REGRAFT_SPREAD_MS)
            out.append(SetTimer(("siege", "graft", bytes(peer)), Millis(later)))
        for message in rpc.publish:
            if message.id in self._seen:
                continue
            self._seen[message.id] = None
            while len(self._seen) > 4_096:
                del self._seen[next(iter(self._seen))]
            if self._drops(now, message.author):
                self.dropped += 1
                continue
            passed = encode_rpc(Rpc(publish=(message,)))
            out += [Send(to, Channel.GOSSIP, passed) for to in self._meshed if to not in (peer, message.author)]
        return out

    def _drops(self, now: Millis, author: NodeId) -> bool:
        if now < self._turns:
            return False
        if self._attack.censors:
            return author == self._victim
        return self._rng.randrange(1_000) < self._attack.drops


class MeshesSeen(NamedTuple):
    """The meshes of honest nodes at one time."""

    at_s: float
    places: int
    """All of them."""
    sybils: int
    """Those that Sybils hold."""
    thin: int
    """Honest nodes with fewer honest places than the router's low degree."""


class SiegeLedger:
    """Who got which message, and when; and who sat in the meshes."""

    def __init__(self, world: World, honest: Sequence[NodeId], sybils: frozenset[NodeId], victim: NodeId) -> None:
        self.world, self.begun = world, world.now
        self.honest, self.sybils, self.victim = honest, sybils, victim
        self.sent: dict[bytes, tuple[int, NodeId]] = {}
        self.got: Counter[bytes] = Counter()
        self.latencies: list[int] = []
        self.late: dict[int, list[int]] = {}
        """Those of the messages of each half minute."""
        self.of_victim: list[int] = []
        self.watched: list[MeshesSeen] = []
        world.on_fact(Delivered, self._delivered)
        world.every(WATCHED_MS, self._watch)

    def _delivered(self, now: int, index: int, fact: Delivered) -> None:
        node = self.world.nodes[index].id
        if fact.author == node:
            self.sent[fact.message_id] = now, node
            return
        at, author = self.sent[fact.message_id]
        self.got[fact.message_id] += 1
        self.latencies.append(now - at)
        self.late.setdefault((at - self.begun) // WINDOW_MS, []).append(now - at)
        if author == self.victim:
            self.of_victim.append(now - at)

    def _watch(self) -> None:
        places = sybils = thin = 0
        for node in self.honest:
            machine = self.world.by_id[node].machine
            if isinstance(machine, Router):
                mesh = machine.gossip.mesh(TOPIC)
                hostile = sum(peer in self.sybils for peer in mesh)
                places, sybils, thin = places + len(mesh), sybils + hostile, thin + (len(mesh) - hostile < THIN)
        self.watched.append(MeshesSeen((self.world.now - self.begun) / 1000, places, sybils, thin))

    @property
    def wanted(self) -> int:
        """Deliveries there should be: each message to all honest nodes but its author."""
        return len(self.sent) * (len(self.honest) - 1)

    @property
    def lost(self) -> int:
        """Deliveries that never came."""
        return self.wanted - sum(self.got.values())

    def recovered_s(self, since_s: float) -> float | None:
        """How long after the attack began hardly any mesh is thin, and none is to the end; None where that never came."""
        last = next((one for one in reversed(self.watched) if HEALED * one.thin > len(self.honest)), None)
        if last is None:
            return 0.0
        later = [one.at_s for one in self.watched if one.at_s > last.at_s]
        return round(later[0] - since_s, 1) if later else None


class NothingLost:
    """Of the deliveries that there should be so many in 1,000 came: all of them in the published runs."""

    def __init__(self, ledger: SiegeLedger, least: int) -> None:
        self.ledger, self.least = ledger, least

    def watch(self, world: World, report: Report) -> None:
        """Nothing is needed while it runs."""

    def end(self, world: World, report: Report) -> None:
        """Count."""
        del world
        ledger = self.ledger
        if not ledger.sent:
            report(-1, "nobody published anything")
        elif 1_000 * (ledger.wanted - ledger.lost) < self.least * ledger.wanted:
            report(-1, f"{ledger.lost} of {ledger.wanted} deliveries never came; {self.least} in 1,000 are expected")


class AttackTook:
    """The Sybils were there and did what they came for."""

    def __init__(self, ledger: SiegeLedger) -> None:
        self.ledger = ledger

    def watch(self, world: World, report: Report) -> None:
        """Nothing is needed while it runs."""

    def end(self, world: World, report: Report) -> None:
        """Look for what they dropped."""
        machines = [world.by_id[node].machine for node in self.ledger.sybils]
        if machines and not any(one.dropped for one in machines if isinstance(one, Sybil)):
            report(-1, "no Sybil was given a message that it could drop")


class SiegeStage:
    """A siege that is set up to run."""

    def __init__(self, world: World, ledger: SiegeLedger, checks: Sequence[Check], attack: Attack) -> None:
        self.world, self.measures, self.checks, self.attack = world, ledger, checks, attack
        self.broken: Broken | None = None


def _any(topic: str, author: NodeId, data: bytes) -> Ruling:
    del topic, author, data
    return Ruling.ACCEPT


def links_of(options: Options) -> LinkModel:
    """Connections as in the evaluation: so many ms one way in the median, ± 10 %, of any bandwidth, for ever."""
    return LinkModel(
        latency_ms=options["latency_ms"],
        spread=options["spread"],
        jitter=100,
        dial_ms=4 * options["latency_ms"],
        dial_spread=100,
        dial_failures=0,
        bytes_per_s=100_000_000,
        life_ms=0,
        silent=0,
    )


def stage(recipe: Recipe, recorded: Iterable[int] = ()) -> SiegeStage:
    """The world of a recipe with everything scheduled; raises Unknown for options that make none."""
    options, attack = {key: int(value) for key, value in recipe.options}, ATTACKS[recipe.scenario]
    if recipe.plan.faults:
        raise Unknown(f"{recipe.scenario} plays its attack alone, and takes no other faults")
    least = attack.joins_ms + attack.turns_ms + WARM_UP_MS + COOL_DOWN_MS + MINUTE
    if recipe.duration_ms < least:
        raise Unknown(
            f"{recipe.scenario} takes {-(-least // MINUTE)} minutes at least: --minutes {-(-least // MINUTE)}"
        )
    if options["rate"] < 1 or recipe.nodes < DIALS // 2:
        raise Unknown(f"a siege has a rate of 1 message in 100 s or more, and {DIALS // 2} honest nodes")
    count = recipe.nodes * options["sybils"] // 100
    keys = [keys_of(recipe.seed, number) for number in range(recipe.nodes + count)]
    ids = [NodeId(pair.public) for pair in keys]
    honest, sybils = ids[: recipe.nodes], ids[recipe.nodes :]
    publishers = honest[: max(1, recipe.nodes // PUBLISHERS)]
    aimed = {"network": honest, "publishers": publishers, "one": publishers[:1]}[attack.aims]
    verify, pairs = CachedVerify(real=False), dict(zip(ids, keys, strict=True))
    speaks = 100_000 * len(publishers) // options["rate"]

    def make(me: NodeId, rng: Random, records: Mapping[Any, bytes]) -> Machine:
        del records
        others = [node for node in honest if node != me]
        chosen = derive(recipe.seed, "dials", me).sample(others, min(DIALS, len(others)))
        kind = Flooder if options.get("flood") else Router
        timetable = Timetable(rng, chosen, world.now + attack.honest_ms, speaks * (me in publishers))
        return kind(pairs[me], rng, verify, timetable)

    def intrude(me: NodeId, rng: Random, records: Mapping[Any, bytes]) -> Machine:
        del records
        chosen = derive(recipe.seed, "dials", me).sample(aimed, min(options["links"], len(aimed)))
        return Sybil(me, rng, attack, chosen, begun, publishers[0])

    world = World(recipe.seed, make, links_of(options), recorded=recorded)
    begun = world.now
    ledger = SiegeLedger(world, honest, frozenset(sybils), publishers[0])
    for node in honest:
        world.add(node, make, at=begun + derive(recipe.seed, "start", node).randrange(1_000))
    for node in sybils:
        world.add(node, intrude)
    world.at(begun + recipe.duration_ms - COOL_DOWN_MS, lambda: _hush(world, publishers))
    checks: list[Check] = [TimeForward(MINUTE), NothingLost(ledger, options["least"]), AttackTook(ledger)]
    return SiegeStage(world, ledger, checks, attack)


def _hush(world: World, publishers: Iterable[NodeId]) -> None:
    for node in publishers:
        machine = world.by_id[node].machine
        if isinstance(machine, Router | Flooder):
            machine.timetable.hush(world.now + LAST_WORD_MS)


def build(recipe: Recipe, recorded: Iterable[int]) -> tuple[World, Sequence[Check]]:
    """What netsim.tape needs to run a recipe again."""
    made = stage(recipe, recorded)
    return made.world, made.checks
