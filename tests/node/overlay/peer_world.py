"""Four whole peers on a network that does its worst, step by step as told: the host's rules, and none of its kindness.

Frames arrive in any order, twice, changed, on another channel or never; exchanges fail or are answered with anything;
clocks are set; processes die between two steps and start again from what they persisted, or from a torn copy of it.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from random import Random
from typing import Any, Final

from blake3 import blake3

from consensus.ids import NO_NETWORK, Digest, Millis, NodeId
from consensus.placement import Registrant
from consensus.replica import ConsensusReplica
from consensus.signing import KeyPair
from netsim.verify import CachedVerify
from node.overlay import calls, topics
from node.overlay.custody import Fetch, Fetched, Place, ReadSegments, SegmentsRead
from node.overlay.entries import LogName
from node.overlay.machine import (
    Action,
    CancelTimer,
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
)
from node.overlay.peer import DIRECTORY, Peer, PeerLimits, Row, Surroundings
from node.overlay.wire import RPC_LIMITS

CHANNELS: Final = tuple(Channel)
KEYS: Final = [KeyPair.from_seed(bytes([seed]) * 32) for seed in range(1, 9)]
IDS: Final = [NodeId(pair.public) for pair in KEYS]
VERIFY: Final = CachedVerify()
REGISTRY: Final = [Registrant(node, node, 1 << 40) for node in sorted(IDS[:4])]
PENDING_MAX: Final = 400


def seed_of(slot: int) -> Digest:
    return Digest(blake3(b"%d" % slot).digest())


def peer(
    index: int,
    life: int,
    rows: dict[Row, bytes],
    limits: PeerLimits | None = None,
    consensus: Callable[[Mapping[Row, bytes]], ConsensusReplica] | None = None,
) -> Peer:
    """A peer of the network whose bootstrap nodes are the first two."""
    seeds = tuple(IDS[:2])
    around = Surroundings(NO_NETWORK, VERIFY, seeds, keeps=lambda _node: True, seed_at=seed_of, consensus=consensus)
    return Peer(KEYS[index], Random(100 * index + life), around, limits or PeerLimits(), rows)


class Host:
    """One peer with what its host keeps for it."""

    def __init__(self, index: int) -> None:
        self.index, self.me = index, IDS[index]
        self.life = 0
        self.rows: dict[Row, bytes] = {}
        self.torn: tuple[Row, bytes | None] | None = None
        self.begin()

    def begin(self) -> None:
        self.life += 1
        self.machine = peer(self.index, self.life, dict(self.rows))
        self.timers: dict[Any, int] = {}
        self.up: dict[int, None] = {}
        self.open: dict[int, tuple[int, Channel]] = {}
        """Our exchanges: the peer that was asked."""
        self.asked: dict[int, tuple[int, int]] = {}
        """Theirs, by the number that we see: who asked, and under which number."""
        self.commands: dict[int, object] = {}


class Chaos:
    """The four hosts, what is on its way between them, and time."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.numbers = count(1)
        self.wire: list[tuple[int, int, Channel, bytes, int]] = []
        self.hosts = [Host(index) for index in range(4)]
        for host in self.hosts:
            self.start(host)

    def start(self, host: Host) -> None:
        self.apply(host, host.machine.start(Millis(self.now)))
        self.apply(host, host.machine.on_registry(Millis(self.now), 0, REGISTRY))
        hour = self.now // 3_600_000
        self.apply(host, host.machine.on_seed(Millis(self.now), hour, seed_of(hour * 30)))

    def give(self, host: Host, event: Event) -> None:
        actions = host.machine.handle(Millis(self.now), event)
        if isinstance(event, Received):
            rejected = [each for each in actions if isinstance(each, Noted) and isinstance(each.fact, Rejected)]
            assert len(rejected) <= 1, rejected
            if (
                rejected and event.channel is not Channel.GOSSIP
            ):  # of a gossip frame what came first may have been taken
                assert list(actions) == rejected
        self.apply(host, actions)

    def apply(self, host: Host, actions: Sequence[Action]) -> None:
        """As a host does; what is against the vocabulary's rules fails the test."""
        for action in actions:
            if isinstance(action, Persist):
                row = (action.table, action.key)
                host.torn = (row, host.rows.get(row))
                if action.value is None:
                    host.rows.pop(row, None)
                else:
                    host.rows[row] = action.value
        for action in actions:
            match action:
                case Send():
                    self.post(host, action)
                case SetTimer(key, at):
                    assert type(at) is int
                    assert key[0] in {"gossip", "dht", "logs", "reconcile", "replicate", "peer"}
                    host.timers[key] = at
                case CancelTimer(key):
                    host.timers.pop(key, None)
                case Drop(node):
                    self.part(host, IDS.index(node))
                case Finished(call):
                    assert call == 0 or host.commands.pop(call, None) is not None
                case Noted(Fetch() as fact):
                    host.commands[-1] = Fetched(fact.ref, fact.root, fact.size)
                case Noted(ReadSegments() as fact):
                    host.commands[-2] = SegmentsRead(fact.ref, tuple(None for _ in fact.wants))
                case _:
                    assert isinstance(action, Noted | Persist)
        assert len(host.timers) < 100

    def post(self, host: Host, send: Send) -> None:
        assert send.peer != host.me
        assert len(send.frame) <= RPC_LIMITS.frame_bytes_max
        target = IDS.index(send.peer) if send.peer in IDS else -1
        exchange = send.exchange
        if exchange < 0:
            _, exchange = host.asked.pop(exchange, (0, 0))
            if not exchange:
                return
        elif exchange > 0:
            assert exchange not in host.open
            host.open[exchange] = (target, send.channel)
            exchange = -next(self.numbers)
            if 0 <= target < 4:
                self.hosts[target].asked[exchange] = (host.index, send.exchange)
        if 0 <= target < 4 and len(self.wire) < PENDING_MAX:
            self.wire.append((host.index, target, send.channel, send.frame, exchange))

    # What may happen

    def meet(self, one: int, other: int) -> None:
        if one != other and other not in self.hosts[one].up:
            for mine, theirs in ((one, other), (other, one)):
                self.hosts[mine].up[theirs] = None
            for mine, theirs in ((one, other), (other, one)):
                if theirs in self.hosts[mine].up:
                    self.give(self.hosts[mine], PeerUp(IDS[theirs], dialled=mine == one))

    def part(self, host: Host, other: int) -> None:
        if other in host.up:
            for mine, theirs in ((host, other), (self.hosts[other], host.index)):
                del mine.up[theirs]
                for exchange, (asked, channel) in list(mine.open.items()):
                    if asked == theirs:
                        del mine.open[exchange]
                        self.give(mine, Failed(IDS[theirs], channel, exchange))
                self.give(mine, PeerLost(IDS[theirs]))

    def deliver(self, position: int, fate: int, blob: bytes) -> None:
        """One of the frames on their way: whole, lost, twice, changed, cut, with more, or on another channel."""
        if not self.wire:
            return
        source, target, channel, frame, exchange = self.wire.pop(position % len(self.wire))
        self.meet(source, target)
        at = position % (len(frame) + 1)
        match fate:
            case 1:
                return
            case 2 if not exchange:
                self.receive(source, target, channel, frame, exchange)
            case 3 if frame:
                frame = frame[:at] + (blob or b"\x00") + frame[at + 1 :]
            case 4:
                frame = frame[:at]
            case 5:
                frame += blob
            case 6:
                channel = CHANNELS[position % 4]
            case _:
                pass
        self.receive(source, target, channel, frame, exchange)

    def receive(self, source: int, target: int, channel: Channel, frame: bytes, exchange: int) -> None:
        host = self.hosts[target]
        if source in host.up and (exchange <= 0 or host.open.pop(exchange, None) is not None):
            self.give(host, Received(IDS[source], channel, frame, exchange))

    def garbage(self, source: int, target: int, channel: Channel, blob: bytes, *, asks: bool) -> None:
        if source != target:
            self.meet(source, target)
            self.receive(source, target, channel, blob, -next(self.numbers) if asks else 0)

    def answer(self, index: int, position: int, blob: bytes, *, fails: bool) -> None:
        """An open exchange ends with anything."""
        host = self.hosts[index]
        if host.open:
            exchange = list(host.open)[position % len(host.open)]
            target, channel = host.open.pop(exchange)
            if target < 0:
                fails, node = True, NodeId(bytes(32))
            else:
                node = IDS[target]
            event = Failed(node, channel, exchange) if fails or target not in host.up else None
            self.give(host, event or Received(node, channel, blob, exchange))

    def wait(self, span: int) -> None:
        """Let time pass; timers fire in their order, frames stay on their way."""
        end, fired = self.now + span, 0
        while True:
            due = [(at, host.index, key) for host in self.hosts for key, at in host.timers.items() if at <= end]
            if not due:
                break
            at, index, key = min(due, key=lambda each: each[:2])
            self.now = max(self.now, at)
            del self.hosts[index].timers[key]
            self.give(self.hosts[index], TimerFired(key))
            fired += 1
            assert fired < 200 + 12 * span // 1000, "a storm of timers"
        self.now = end

    def command(self, index: int, which: int, blob: bytes) -> None:
        host = self.hosts[index]
        node = IDS[len(blob) % len(IDS)]
        digest = Digest(blake3(blob).digest())
        orders: list[object] = [
            topics.Publish(DIRECTORY, blob),
            topics.Unsubscribe(DIRECTORY),
            topics.Subscribe(DIRECTORY),
            calls.FindNode(node),
            calls.PutValue(blob, blob),
            calls.GetValue(blob),
            calls.Provide(digest),
            calls.FindProviders(digest),
            calls.Withdraw(blob),
            calls.Bootstrap(tuple(IDS[:3])),
            Place(digest, 4096, (digest, seed_of(1), seed_of(2)), 0, seed_of(3)),
            host.commands.pop(-1, None),
            host.commands.pop(-2, None),
        ]
        orders += self.appends(blob)
        order = orders[which % len(orders)]
        if order is None:
            return
        call = next(self.numbers)
        host.commands[call] = order
        self.give(host, Command(call, order))

    def appends(self, blob: bytes) -> list[object]:
        from node.overlay.pen import Append

        expiry = Millis(self.now + 86_400_000)
        return [
            Append(LogName.DIRECTORY, blob, expiry),
            Append(LogName.INDEX, blob, expiry, snapshot=len(blob) % 2 > 0),
        ]

    def step_clock(self, index: int, delta: int) -> None:
        self.give(self.hosts[index], ClockStepped(delta))

    def crash(self, index: int, torn: int) -> None:
        """Die, and start again from the rows; the last of them lost, cut in half or changed, as a torn write leaves it."""
        host = self.hosts[index]
        for other in list(host.up):
            theirs = self.hosts[other]
            del theirs.up[index]
            for exchange, (asked, channel) in list(theirs.open.items()):
                if asked == index:
                    del theirs.open[exchange]
                    self.give(theirs, Failed(host.me, channel, exchange))
            self.give(theirs, PeerLost(host.me))
        self.wire = [each for each in self.wire if index not in each[:2]]
        if torn and host.torn is not None:
            row, before = host.torn
            value = host.rows.get(row)
            if torn == 1 or value is None:
                value = before
            else:
                value = value[: len(value) // 2] if torn == 2 else bytes([value[0] ^ 1]) + value[1:] if value else value
            host.rows.pop(row, None)
            if value is not None:
                host.rows[row] = value
        host.torn = None
        host.begin()
        self.start(host)
