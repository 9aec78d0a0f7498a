"""What the tests of logs and reconcile share: authors, entries, and a small world of nodes on virtual time."""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any, Final

from consensus.ids import Digest, Millis, Network, NodeId
from consensus.signing import KeyPair
from consensus.signing import verify as verify_in_domain
from node.overlay.entries import LogEntry, LogItem, LogName, entry_digest, opener, seal_entry
from node.overlay.logs import Logs, LogsLimits
from node.overlay.machine import CancelTimer, Noted, Persist, Rejected, Send, SetTimer, TimerKey
from node.overlay.reconcile import Reconcile, ReconcileLimits

NETWORK: Final = Network(bytes(range(32)))
NOW: Final = Millis(1_800_000_000_000)
DAY: Final = 86_400_000
LATER: Final = Millis(NOW + 30 * DAY)
OPEN: Final = opener(NETWORK)
ZEROS: Final = Digest(bytes(32))
DIRECTORY, INDEX = LogName.DIRECTORY, LogName.INDEX

KEYS: Final = [KeyPair.from_seed(bytes([seed]) * 32) for seed in range(64)]
IDS: Final = [NodeId(keys.public) for keys in KEYS]


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """The real check, for messages that carry their domain, which is the only one used here."""
    prefix = b"lucid/entry/v1" + NETWORK
    return message.startswith(prefix) and verify_in_domain(public, signature, "entry", NETWORK, message[len(prefix) :])


def entry(
    author: int,
    log: LogName,
    seq: int,
    *,
    epoch: int = 0,
    base: int | None = None,
    part: int = 0,
    rest: int = 0,
    previous: Digest = ZEROS,
    expiry: int = LATER,
    body: bytes = b"x",
) -> bytes:
    """A signed entry of an author, well-formed or not as asked."""
    claim = base if base is not None else seq if log is DIRECTORY else 0
    plain = LogEntry(IDS[author], log, epoch, seq, claim, part, rest, previous, Millis(expiry), body)
    return seal_entry(plain, KEYS[author], NETWORK)


def item(data: bytes) -> LogItem:
    return OPEN(data)[0]


def digest(data: bytes) -> Digest:
    return entry_digest(NETWORK, data)


def chained(author: int, log: LogName, how_many: int, *, epoch: int = 0, body: bytes = b"x") -> list[bytes]:
    """An honest history from seq 0 on."""
    out: list[bytes] = []
    previous = ZEROS
    for seq in range(how_many):
        out.append(entry(author, log, seq, epoch=epoch, previous=previous, body=body))
        previous = digest(out[-1])
    return out


def make_logs(me: int = 0, **options: Any) -> Logs:
    """Logs of one node that admits everybody and keeps every index, unless told otherwise."""
    chosen: dict[str, Any] = {"admitted": lambda _author: True, "keeps": lambda _author: True, "verify": verify}
    return Logs(IDS[me], KEYS[me], NETWORK, **(chosen | options))


def give_all(logs: Logs, entries: Iterable[bytes], now: int = NOW) -> list[Any]:
    """Check and admit entries as a frame of each alone."""
    out: list[Any] = []
    for data in entries:
        out += logs.admit(IDS[63], logs.check(Millis(now), data))
    return out


def held(logs: Logs) -> dict[tuple[LogName, NodeId], list[bytes]]:
    """Everything a node holds, byte by byte."""
    return {(log, author): [one.raw for one in chain] for log in LogName for author, chain in logs.shelf(log).chains()}


def facts(actions: Iterable[Any], kind: type) -> list[Any]:
    return [one.fact for one in actions if isinstance(one, Noted) and isinstance(one.fact, kind)]


def state(part: object, seen: dict[int, Any] | None = None) -> Any:
    """A deep copy of everything an object holds, comparable by ==, without what is merely kept to save work."""
    seen = {} if seen is None else seen
    if isinstance(part, (bytes, bytearray, str, int, type(None))):
        return bytes(part) if isinstance(part, bytearray) else part
    if id(part) in seen:
        return "seen"
    seen[id(part)] = True
    if isinstance(part, dict):
        return [(state(key, seen), state(value, seen)) for key, value in part.items()]
    if isinstance(part, (list, tuple)):
        return [state(one, seen) for one in part]
    if isinstance(part, Random):
        return part.getstate()
    if callable(part) and not isinstance(part, (Logs, Reconcile)):
        return "callable"
    names = list(getattr(part, "__dict__", {})) + [
        name for kind in type(part).__mro__ for name in getattr(kind, "__slots__", ())
    ]
    return [(name, state(getattr(part, name), seen)) for name in names if name not in {"_whole", "_root", "_opening"}]


@dataclass
class Faults:
    """What the links do until they heal; probabilities in percent."""

    lost: int = 0
    silent: int = 0
    """Of the lost ones, how many are lost without a Failed."""
    delay_max: int = 2_000


@dataclass
class Node:
    """One replica: its machines, its store, its timers."""

    number: int
    logs: Logs
    reconcile: Reconcile
    stored: dict[Any, bytes] = field(default_factory=dict)
    armed: dict[TimerKey, int] = field(default_factory=dict)
    up: bool = True
    life: int = 0
    clock: int = 0


class World:
    """Nodes, all connected unless told otherwise; every choice comes from one seed."""

    def __init__(
        self,
        size: int,
        seed: int,
        *,
        limits: ReconcileLimits | None = None,
        logs_limits: LogsLimits | None = None,
        clocks: Iterable[int] = (),
        links: Callable[[int, int], bool] = lambda _a, _b: True,
    ) -> None:
        self.rng = Random(seed)
        self.faults = Faults()
        self.now = int(NOW)
        self.limits, self.logs_limits, self.links = limits, logs_limits, links
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.order = count()
        self.exchanges = count(1)
        self.sent: list[tuple[int, int, bytes]] = []
        self.rejected: list[Rejected] = []
        self.learned = 0
        skews = [*clocks, *([0] * size)]
        self.nodes = [self._node(number, {}, skews[number]) for number in range(size)]
        for node in self.nodes:
            self.do(node, node.logs.start(self.at(node)))
            self._join(node)

    def at(self, node: Node) -> Millis:
        return Millis(self.now + node.clock)

    def do(self, node: Node, actions: Iterable[Any]) -> None:
        for action in actions:
            match action:
                case Send(peer, _, frame, exchange):
                    self._send(node, IDS.index(peer), frame, exchange)
                case SetTimer(key, at):
                    node.armed[key] = at
                    self._later(max(at - node.clock, self.now), self._timer(node, node.life, key, at))
                case CancelTimer(key):
                    node.armed.pop(key, None)
                case Persist(table, key, value):
                    assert table == "logs"
                    if value is None:
                        del node.stored[key]
                    else:
                        node.stored[key] = value
                case Noted(Rejected() as fact):
                    self.rejected.append(fact)
                case _:
                    pass

    def run(self, until: int) -> None:
        while self.queue and self.queue[0][0] <= until:
            self.now, _, step = heapq.heappop(self.queue)
            step()
        self.now = until

    def crash(self, number: int) -> None:
        node = self.nodes[number]
        node.up = False
        node.life += 1
        for other in self.nodes:
            if other is not node and other.up and self.links(other.number, number):
                self.do(other, other.reconcile.on_peer_lost(self.at(other), IDS[number]))

    def restart(self, number: int) -> None:
        old = self.nodes[number]
        node = self.nodes[number] = self._node(number, old.stored, old.clock)
        node.life = old.life
        self.do(node, node.logs.start(self.at(node)))
        self._join(node)

    def append(self, number: int, order: object) -> list[Any]:
        node = self.nodes[number]
        out = node.logs.on_command(self.at(node), 1, order)
        self.do(node, out)
        return out

    def roots(self) -> set[tuple[bytes, bytes]]:
        at = Millis(self.now)
        return {
            (node.logs.directory.root(at), node.logs.index.fingerprint(0, len(node.logs.index.authors)))
            for node in self.nodes
        }

    def _node(self, number: int, stored: dict[Any, bytes], clock: int) -> Node:
        logs = make_logs(number, records=list(stored.items()), limits=self.logs_limits)
        rng = Random(self.rng.randrange(1 << 32))
        return Node(number, logs, Reconcile(logs, rng, self.exchanges.__next__, self.limits), stored, clock=clock)

    def _join(self, node: Node) -> None:
        for other in getattr(self, "nodes", []):
            if other is not node and other.up and self.links(node.number, other.number):
                pairs = ((node, other, True), (other, node, False))
                for one, peer, dialled in pairs:
                    self.do(one, one.reconcile.on_peer_up(self.at(one), IDS[peer.number], dialled))

    def _later(self, at: int, step: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (at, next(self.order), step))

    def _timer(self, node: Node, life: int, key: TimerKey, at: int) -> Callable[[], None]:
        def fire() -> None:
            if node.up and node.life == life and node.armed.get(key) == at:
                del node.armed[key]
                part = node.logs if key[0] == "logs" else node.reconcile
                self.do(node, part.on_timer(self.at(node), key))

        return fire

    def _send(self, node: Node, number: int, frame: bytes, exchange: int) -> None:
        self.sent.append((node.number, number, frame))
        life = (node.life, self.nodes[number].life)
        delay = self.rng.randrange(10, self.faults.delay_max)

        def fail() -> None:
            if node.up and node.life == life[0]:
                self.do(node, node.reconcile.on_failed(self.at(node), IDS[number], exchange))

        def arrive() -> None:
            other = self.nodes[number]
            if other.up and other.life == life[1]:
                self.do(other, other.reconcile.on_frame(self.at(other), IDS[node.number], frame, -exchange))
            elif exchange > 0:
                fail()

        if self.rng.randrange(100) < self.faults.lost:
            if exchange > 0 and self.rng.randrange(100) >= self.faults.silent:
                self._later(self.now + delay, fail)
            return
        self._later(self.now + delay, arrive)
