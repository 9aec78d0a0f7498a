"""Worlds of consensus machines: who agrees on what, when blocks are late, nodes die, links are cut and some sign twice.

    Citizen = ConsensusReplica as in the daemon (node.overlay.agreement), with every record sent once to every other node

The overlay is left out: gossip reaches everybody within some round trips, which the link model's latency stands for, and what
is lost here is not pushed again. So 200 nodes can live a day. One scenario runs on whole peers as well, and has to agree.

Every node is up, serves its storage and has it witnessed: its report of an HOUR is signed by its witnesses' real keys,
without their challenges being sent. What matters here is who may publish and vote, and that it changes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from consensus import vrf
from consensus.checkpoint import Constitution
from consensus.ids import Digest, Millis, Network, NodeId
from consensus.inclusion import Rules
from consensus.params import Params
from consensus.registry import founding
from consensus.replica import ConsensusReplica
from consensus.report import SignedReport, assemble, report_signable, state_work, witnesses
from consensus.signatory import EraKeys, Own
from consensus.signing import KeyPair
from consensus.state import State, at_hour, genesis_state
from consensus.tally import Work
from consensus.wishes import Topic
from netsim.seeds import derive
from netsim.verify import CachedVerify
from netsim.world import EPOCH
from node.overlay.agreement import READ_LATER, Agreement, StandIn, kept
from node.overlay.logs import Announce, Out
from node.overlay.machine import (
    Action,
    Channel,
    Event,
    Failed,
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
)
from node.overlay.topics import Ruling

TOPICS: Final = tuple(Topic)
GREET_MS: Final = 60_000
GREET: Final[TimerKey] = ("citizen", "greet")


class Society:
    """What the nodes of a world share: the law, keys made from the seed, and each signature's and proof's one check."""

    def __init__(self, seed: int, nodes: int, founders: int, params: Params) -> None:
        self.seed = seed
        self.identities = [KeyPair.from_seed(derive(seed, "identity", number).randbytes(32)) for number in range(nodes)]
        self.ids = [NodeId(one.public) for one in self.identities]
        self.law = Constitution(Network(derive(seed, "network").randbytes(32)), params, tuple(self.ids[:founders]))
        self.genesis = genesis_state(self.law, founding(self.ids[:founders], {}))
        self.keys: dict[bytes, EraKeys] = {one.public: EraKeys(one, one.secret[:32]) for one in self.identities}
        self._proofs: dict[tuple[bytes, bytes, bytes], bytes | None] = {}
        self.rules = Rules(self.law, CachedVerify(), self._verify_proof, {})

    def _verify_proof(self, key: bytes, alpha: bytes, proof: bytes) -> bytes | None:
        asked = key, alpha, proof
        if asked not in self._proofs:
            self._proofs[asked] = vrf.verify(key, alpha, proof)
        return self._proofs[asked]

    def own(self, number: int) -> Own:
        """What a node is given of its own."""
        me = self.identities[number]
        ours = {me.public: self.keys[me.public]}

        def new_keys(era: int) -> EraKeys:
            made = derive(self.seed, "era keys", number, era).randbytes(64)
            keys = EraKeys(KeyPair.from_seed(made[:32]), made[32:])
            ours[keys.signing.public] = keys
            return self.keys.setdefault(keys.signing.public, keys)

        return Own(self.ids[number], me, ours.get, new_keys, capacity=1 << 40)

    def report(self, state: State, hour: int, node: NodeId, work: Work) -> SignedReport | None:
        """A node's report of an HOUR, signed by its witnesses and itself, as its branch knows them; None where it is not registered."""
        at = at_hour(state, hour)
        if at is None or node not in at.registry.members:
            return None
        network, members = self.law.network, at.registry.members
        drawn = witnesses(network, at.seed, hour, node, at.registry.entities, at.registry.order)
        root = Digest(bytes(32))
        said = {
            place: state_work(self.keys[members[one].era_key].signing, network, node, hour, root, work)
            for place, one in enumerate(drawn)
        }
        made = assemble(node, hour, root, said)
        signing = self.keys[members[node].era_key].signing
        return SignedReport(made, signing.sign_as_is(report_signable(made, network)))


class Citizen:
    """A node that is a agreement and nothing else, connected with all others."""

    def __init__(self, society: Society, number: int, records: Mapping[Any, bytes], work: Work | None) -> None:
        self.me = society.ids[number]
        self.society = society
        self.work = work
        self.others = [node for node in society.ids if node != self.me]
        self._exchange = 0
        self._up: dict[NodeId, None] = {}
        self._hour = 0
        self._disk = {(table, key[0]): row for (table, key), row in records.items() if table in READ_LATER}
        own = society.own(number)
        self.replica = ConsensusReplica(
            society.rules, society.genesis, Millis(EPOCH), own, kept(records), lambda *row: self._disk.get(row)
        )
        self.agreement = Agreement(self.replica, StandIn(), self._next_exchange)

    def _next_exchange(self) -> int:
        self._exchange += 1
        return self._exchange

    def start(self, now: Millis) -> Sequence[Action]:
        """Begin."""
        return [SetTimer(GREET, now), *self.told(self.agreement.start(now))]

    def handle(self, now: Millis, event: Event) -> Sequence[Action]:
        """What an event leads to."""
        match event:
            case Received(peer, Channel.BLOCKS, frame, exchange):
                return self.told(self.agreement.on_frame(now, peer, frame, exchange))
            case Received(peer, _, frame, _):
                return self._heard(now, peer, frame)
            case Failed(_, _, exchange):
                return self.told(self.agreement.on_failed(exchange))
            case TimerFired(key):
                return self._greet(now) if key == GREET else self._timer(now, key)
            case PeerUp(peer, _):
                self._up[peer] = None
                return self.told(self.agreement.on_peer_up(now, peer))
            case PeerLost(peer):
                self._up.pop(peer, None)
                return self.told(self.agreement.on_peer_lost(peer))
            case _:
                return []

    def _heard(self, now: Millis, peer: NodeId, frame: bytes) -> Sequence[Action]:
        if not frame:
            return []
        ruling, out = self.agreement.on_heard(now, TOPICS[frame[0]].value, peer, frame[1:])
        if ruling is Ruling.REJECT:
            return [Noted(Rejected(peer, "invalid"))]
        return self.told(out)

    def _timer(self, now: Millis, key: TimerKey) -> Sequence[Action]:
        out = self.agreement.on_timer(now, key)
        size = self.society.law.params.hour_slots
        if key[1] == "slot" and self.work is not None and self.replica.slot_at(now) % size == 1:
            out += self._report(now, self.replica.slot_at(now) // size - 1)
        return self.told(out)

    def _report(self, now: Millis, hour: int) -> list[Out]:
        """Our report of the HOUR that has ended."""
        made = None if self.work is None else self.society.report(self.replica.next()[0], hour, self.me, self.work)
        if made is None:
            return []
        return self.agreement.submit(now, made)

    def _greet(self, now: Millis) -> Sequence[Action]:
        """Be connected with everybody whose id is higher; the others see to it themselves."""
        missing = [node for node in self.others if node not in self._up and node > self.me]
        return [SetTimer(GREET, Millis(now + GREET_MS)), *(Send(node, Channel.GOSSIP, b"") for node in missing)]

    def told(self, out: Iterable[Out]) -> list[Action]:
        """Announcements go to everybody who is connected."""
        done: list[Action] = []
        for one in out:
            if isinstance(one, Announce):
                frame = bytes((TOPICS.index(Topic(one.topic)),)) + one.data
                done += [Send(peer, Channel.GOSSIP, frame) for peer in self._up]
                continue
            if isinstance(one, Persist) and one.table in READ_LATER:
                self._write(one)
            done.append(one)
        return done

    def _write(self, row: Persist) -> None:
        """What the world keeps for us, to be read again."""
        if row.value is None:
            self._disk.pop((row.table, row.key[0]), None)
        else:
            self._disk[row.table, row.key[0]] = row.value
