"""Nodes that mean ill: machines that speak the peers' own frames and break their rules on purpose.

Each first does what every intruder must: it asks around, so that others hear of it and ask it, and it answers pings, so that
it enters their tables. What it then does differs:

    RandomIdEclipse  names nobody but its own kind when it is asked for nodes, and is silent otherwise
    ContentEclipse   sits beside a key: it forgets who provides it, and half of them name providers that are none
    TargetedEclipse  does so for one node alone, from ids ground to lie beside it; to all other questions it is honest
    MeshSpam         floods with GRAFT, IHAVE and IWANT; every other one sends forged and malformed messages instead
    Replayer         sends gossip that it has heard again, later and to others, and the entries in it as log frames

They are as bounded as honest machines, and draw from the generator they are given, so a run with them is as repeatable as
one without. What must hold against them is told in tests/netsim/test_adversaries. Source: DESIGN §3, §4; S/Kademlia §3.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from random import Random
from typing import Final, TypeAlias

from consensus.encoding import Malformed
from consensus.ids import Millis, NodeId
from consensus.signing import KeyPair
from netsim.seeds import derive
from node.overlay.machine import (
    Action,
    Channel,
    Event,
    Machine,
    PeerLost,
    PeerUp,
    Received,
    Send,
    SetTimer,
    TimerFired,
    TimerKey,
)
from node.overlay.peer import DIRECTORY
from node.overlay.reconcile_frames import PushEntries, write_frame
from node.overlay.routing import place, point
from node.overlay.wire import (
    SEQNO_BYTES,
    SIGNATURE_BYTES,
    Ihave,
    KadMessage,
    KadPeer,
    KadType,
    Rpc,
    Subscription,
    decode_kad,
    decode_rpc,
    encode_kad,
    encode_rpc,
    node_id,
    peer_id,
    sign_message,
)

TICK: Final[TimerKey] = ("adversary", "tick")
TICK_MS: Final = 2_000
CONTENT: Final = b"/content/eclipsed"
"""What somebody provides, in a world in which that is attacked."""
KNOWN_MAX: Final = 512
NAMED_MAX: Final = 20
"""Peers in one answer: what an honest node sends, and the most that one takes."""
FRAMES_A_TICK: Final = 6
INVENTED: Final = 50
"""Message ids in one IHAVE or IWANT of a flood."""
HOARD_MAX: Final = 256
RIPE_MS: Final = 150_000
"""When a frame is old enough to be replayed: gossip remembers what it has seen for 120 s."""
GRIND_MAX: Final = 20_000
"""Key pairs drawn at most to find some beside a target, about a second."""


@dataclass(frozen=True, slots=True)
class Crew:
    """What adversaries of one run know of each other and of the network."""

    members: tuple[NodeId, ...]
    seeds: tuple[NodeId, ...]
    target: NodeId
    """Whom they are after, if they are after one."""
    content: bytes = CONTENT
    """The key that they are after, if they are after one."""


Recruit: TypeAlias = Callable[[NodeId, Random, Crew], Machine]


def ground(seed: int, aim: int, count: int, nodes: int) -> list[KeyPair]:
    """Key pairs whose nodes lie nearer to a place than almost all of so many honest ones; of bounded cost, repeatable."""
    draw = derive(seed, "ground")
    tried = [KeyPair.from_seed(draw.randbytes(32)) for _ in range(min(4 * nodes * count, GRIND_MAX))]
    return nsmallest(count, tried, key=lambda pair: place(NodeId(pair.public)) ^ aim)


class Intruder:
    """What all adversaries do, which is honest: be known, answer questions, and hold connections."""

    def __init__(self, me: NodeId, rng: Random, crew: Crew) -> None:
        self.me, self.rng, self.crew = me, rng, crew
        self.up: dict[NodeId, None] = {}
        self.known: dict[NodeId, None] = {}
        self.done = 0
        """How often it did what its kind is for: a run proves nothing about an attack that never took place."""
        self._exchange = 0
        for node in crew.seeds:
            self._hear_of(node)

    def start(self, now: Millis) -> Sequence[Action]:
        """Begin to ask around."""
        return [SetTimer(TICK, Millis(now + self.rng.randrange(1, TICK_MS)))]

    def handle(self, now: Millis, event: Event) -> Sequence[Action]:
        """What the event leads to."""
        match event:
            case Received(peer, Channel.DHT, frame, exchange):
                return self._asked(peer, frame, exchange) if exchange < 0 else self._answered(frame)
            case Received():
                return self.overhear(now, event)
            case PeerUp(peer):
                self.up[peer] = None
                self._hear_of(peer)
                return self.greet(peer)
            case PeerLost(peer):
                self.up.pop(peer, None)
                return []
            case TimerFired():
                return [SetTimer(TICK, Millis(now + TICK_MS)), *self._ask_around(), *self.act(now)]
            case _:
                return []

    # What the kinds differ in

    def named(self, key: bytes) -> Sequence[NodeId]:
        """Whom to name to somebody who looks for a key."""
        return nsmallest(NAMED_MAX, self.known, key=lambda node: place(node) ^ point(key))

    def provided(self, key: bytes) -> Sequence[NodeId]:
        """Whom to name to somebody who looks for providers of a key."""
        del key
        return ()

    def greet(self, peer: NodeId) -> Sequence[Action]:
        """What a new connection is told."""
        del peer
        return []

    def overhear(self, now: Millis, event: Received) -> Sequence[Action]:
        """What comes on the other channels."""
        del now, event
        return []

    def act(self, now: Millis) -> Sequence[Action]:
        """What is done every so often."""
        del now
        return []

    # What they share

    def request(self, peer: NodeId, channel: Channel, frame: bytes) -> Send:
        """A frame that opens an exchange."""
        self._exchange += 1
        return Send(peer, channel, frame, self._exchange)

    def victims(self, count: int) -> list[NodeId]:
        """So many of the connected nodes that are none of ours, by lot."""
        able = [node for node in self.up if node not in self.crew.members]
        return self.rng.sample(able, min(count, len(able)))

    def among_us(self, key: bytes) -> Sequence[NodeId]:
        """The adversaries nearest to a key."""
        others = (node for node in self.crew.members if node != self.me)
        return nsmallest(NAMED_MAX, others, key=lambda node: place(node) ^ point(key))

    def _hear_of(self, node: NodeId) -> None:
        if node not in self.crew.members:
            self.known[node] = None
            while len(self.known) > KNOWN_MAX:
                del self.known[next(iter(self.known))]

    def _ask_around(self) -> list[Action]:
        if not self.known:
            return []
        node = self.rng.choice(list(self.known))
        frame = encode_kad(KadMessage(KadType.FIND_NODE, self.rng.randbytes(32)))
        return [self.request(node, Channel.DHT, frame)]

    def _answered(self, frame: bytes) -> list[Action]:
        for peer in decode_kad(frame).closer:
            try:
                self._hear_of(node_id(peer.id))
            except Malformed:
                continue
        return []

    def _asked(self, peer: NodeId, frame: bytes, exchange: int) -> list[Action]:
        kind, key = decode_kad(frame)[:2]
        if kind is KadType.PING:
            return [Send(peer, Channel.DHT, encode_kad(KadMessage(KadType.PING)), exchange)]
        if kind not in {KadType.FIND_NODE, KadType.GET_VALUE, KadType.GET_PROVIDERS}:
            return []
        closer = tuple([KadPeer(peer_id(node)) for node in self.named(key) if node != peer])
        providers = self.provided(key) if kind is KadType.GET_PROVIDERS else ()
        said = KadMessage(kind, key, closer=closer, providers=tuple([KadPeer(peer_id(node)) for node in providers]))
        return [Send(peer, Channel.DHT, encode_kad(said), exchange)]


class RandomIdEclipse(Intruder):
    """Sends everybody who looks for anybody round in a circle of adversaries."""

    def named(self, key: bytes) -> Sequence[NodeId]:
        """Nobody but us."""
        self.done += 1
        return self.among_us(key)


class TargetedEclipse(Intruder):
    """Sits beside one node, and knows nobody but its own kind when that one is looked for."""

    def named(self, key: bytes) -> Sequence[NodeId]:
        """Nobody but us beside the target, whoever is near elsewhere."""
        if key != peer_id(self.crew.target):
            return super().named(key)
        self.done += 1
        return self.among_us(key)


class ContentEclipse(Intruder):
    """Sits beside a key, keeps nothing that it is told, and answers who looks for providers there with its own kind.

    Every other one is active: it names as many providers as an answer takes, all of them ours, which ends a look-up that
    stops at so many. Source: Sridhar et al., NDSS 2024 (passive); de Moura Netto et al., arXiv 2505.01139, 2025 (active).
    """

    @property
    def is_active(self) -> bool:
        """Whether this one lies, rather than keeps silent."""
        return self.crew.members.index(self.me) % 2 == 1

    def named(self, key: bytes) -> Sequence[NodeId]:
        """Nobody but us beside the key, whoever is near elsewhere."""
        if key != self.crew.content:
            return super().named(key)
        self.done += 1
        return self.among_us(key)

    def provided(self, key: bytes) -> Sequence[NodeId]:
        """Us, who provide nothing."""
        return self.among_us(key) if self.is_active and key == self.crew.content else ()


class MeshSpam(Intruder):
    """Gets into meshes and wastes everybody's time there: half of them within the protocol, half with invalid messages."""

    @property
    def is_forger(self) -> bool:
        """Whether this one is of the other half."""
        return self.crew.members.index(self.me) % 2 == 1

    def greet(self, peer: NodeId) -> Sequence[Action]:
        """Be a member of the directory's topic, and of the mesh."""
        return [_gossip(peer, Rpc((Subscription(subscribe=True, topic=DIRECTORY),), graft=(DIRECTORY,)))]

    def act(self, now: Millis) -> Sequence[Action]:
        """Flood a few of those connected."""
        actions: list[Action] = []
        for peer in self.victims(FRAMES_A_TICK):
            self.done += 1
            if self.is_forger:
                actions.append(self._invalid(now, peer))
            else:
                actions += self._flood(now, peer)
        return actions

    def _flood(self, now: Millis, peer: NodeId) -> list[Action]:
        ids = tuple([self._invented(now) for _ in range(INVENTED)])
        graft, ihave, iwant = Rpc(graft=(DIRECTORY,)), Rpc(ihave=(Ihave(DIRECTORY, ids),)), Rpc(iwant=ids)
        return [_gossip(peer, rpc) for rpc in (graft, ihave, iwant)]

    def _invented(self, now: Millis) -> bytes:
        """The id of a message that there is not, of an author who may exist."""
        author = self.rng.choice(list(self.known)) if self.known else self.me
        return peer_id(author) + (now * 1_000_000 + self.rng.randrange(1_000_000)).to_bytes(SEQNO_BYTES, "big")

    def _invalid(self, now: Millis, peer: NodeId) -> Action:
        if self.rng.randrange(2):
            return Send(peer, Channel.GOSSIP, self.rng.randbytes(100))
        author = self.rng.choice(list(self.known)) if self.known else self.me
        forged = sign_message(author, now * 1_000_000, DIRECTORY, b"forged", lambda _: bytes(SIGNATURE_BYTES))
        return _gossip(peer, Rpc(publish=(forged,)))


class Replayer(Intruder):
    """Keeps what it hears in the mesh, and says it again when gossip has forgotten that it was said."""

    def __init__(self, me: NodeId, rng: Random, crew: Crew) -> None:
        super().__init__(me, rng, crew)
        self.hoard: deque[tuple[Millis, Channel, bytes]] = deque(maxlen=HOARD_MAX)

    def greet(self, peer: NodeId) -> Sequence[Action]:
        """Be a member of the directory's topic, and of the mesh."""
        return [_gossip(peer, Rpc((Subscription(subscribe=True, topic=DIRECTORY),), graft=(DIRECTORY,)))]

    def overhear(self, now: Millis, event: Received) -> Sequence[Action]:
        """Keep the frame; the entries in it as a log frame too."""
        _, channel, frame, exchange = event
        if channel is Channel.LOGS and exchange < 0:
            self.hoard.append((now, channel, frame))
        elif channel is Channel.GOSSIP and frame:
            self.hoard.append((now, channel, frame))
            for message in decode_rpc(frame).publish:
                self.hoard.append((now, Channel.LOGS, write_frame(PushEntries((message.data,)))))
        return []

    def act(self, now: Millis) -> Sequence[Action]:
        """Replay some of what is ripe."""
        ripe = [(channel, frame) for heard, channel, frame in self.hoard if heard + RIPE_MS <= now]
        actions: list[Action] = []
        for peer in self.victims(FRAMES_A_TICK) if ripe else ():
            channel, frame = self.rng.choice(ripe)
            self.done += 1
            sent = self.request(peer, channel, frame) if channel is Channel.LOGS else Send(peer, channel, frame)
            actions.append(sent)
        return actions


def _gossip(peer: NodeId, rpc: Rpc) -> Send:
    return Send(peer, Channel.GOSSIP, encode_rpc(rpc))
