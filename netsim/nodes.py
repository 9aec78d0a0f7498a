"""What the world keeps for one node: its machine, its disk, its clock, its connections and what was counted."""

from collections import deque
from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from consensus.ids import Millis, NodeId
from netsim.clocks import Clock
from node.overlay.machine import Action, Channel, Event, Machine, Send

if TYPE_CHECKING:
    from netsim.circuits import Pipe

Records: TypeAlias = dict[tuple[str, tuple[int | str | bytes, ...]], bytes]
"""What a node has persisted: (table, key) to value."""


class Make(Protocol):
    """Builds the machine of a node, at its first start and at every restart."""

    def __call__(
        self, me: NodeId, rng: Random, records: Mapping[tuple[str, tuple[int | str | bytes, ...]], bytes]
    ) -> Machine:
        """A machine that knows nothing but the records; rng is new at each start."""


class Step(NamedTuple):
    """What went into a machine and what came out; without an event it was `start`."""

    now: int
    event: Event | None
    actions: tuple[Action, ...]


class Life(NamedTuple):
    """One run of a node's machine from its start to its end, recorded whole."""

    number: int
    records: Records
    steps: list[Step]


class Call:
    """A command given to a node, and in time its result."""

    __slots__ = ("answered", "asked", "lost", "node", "result", "then")

    def __init__(self, node: int, asked: int, then: "Callable[[Call], None] | None") -> None:
        self.node = node
        self.asked = asked
        self.answered: int | None = None
        self.result: object = None
        self.lost = False  # the node was down, or went down before it answered
        self.then = then


class Node:
    """One node of a world; read its fields, and leave changing them to the world."""

    __slots__ = (
        "armed", "backlog", "bytes_in", "bytes_out", "call", "calls", "clock", "code", "cpu_ns", "dialling", "disk_full", "events",
        "exchange", "frozen", "handle", "id", "index", "last_write", "life", "lives",
        "machine", "make", "net", "pipes", "records", "refused",
    )  # fmt: skip

    def __init__(self, index: int, node_id: NodeId, make: Make, net: Random) -> None:
        self.index = index
        self.code = index << 4  # the node's part of the trace
        self.id = node_id
        self.make = make
        self.net = net  # draws for what it dials and sends
        self.machine: Machine | None = None  # None while it is down
        self.handle: Callable[[Millis, Event], Any] | None = None  # None while it is down or frozen
        self.life = 0  # how often it was started
        self.frozen = False
        self.backlog: list[Any] = []
        self.clock: Clock | None = None  # None while it shows the world's time
        self.pipes: dict[NodeId, Pipe] = {}
        self.dialling: dict[NodeId, deque[Send]] = {}
        self.armed: dict[Any, Any] = {}
        self.exchange = 0
        self.refused: frozenset[Channel] = frozenset()
        self.call = 0
        self.calls: dict[int, Call] = {}
        self.records: Records = {}
        self.last_write: tuple[tuple[str, tuple[int | str | bytes, ...]], bytes | None] | None = None
        self.disk_full = False
        self.events = self.bytes_in = self.bytes_out = self.cpu_ns = 0
        self.lives: list[Life] | None = None  # recorded when not None

    @property
    def up(self) -> bool:
        """Whether its machine runs; a frozen one does, and handles nothing."""
        return self.machine is not None

    def now(self, now: int) -> Millis:
        """What its machine takes for the present."""
        return Millis(now if self.clock is None else self.clock.read(now))
