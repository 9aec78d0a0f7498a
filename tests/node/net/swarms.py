"""Swarms for tests: in memory, and libp2p's over real sockets of this machine whose connections can be cut and silenced.

Time stands still for a test that takes `mock_clock` itself (pytest-trio sees no other) unless a test lets it jump, while sockets go on: so nothing here waits for a clock, and
what should come about is waited for by `until`.
"""

import time
from collections.abc import Callable, Iterable
from random import Random
from typing import Final, Protocol

import trio

from consensus.ids import NodeId
from consensus.signing import KeyPair
from node.libp2p.memory import Meeting
from node.libp2p.swarm import Libp2pSwarm
from node.net.limits import SwarmLimits
from node.net.loopback import Loopback
from node.net.swarm import Swarm, Transport
from node.overlay.machine import Channel, Event, Failed, PeerLost, Received, Send
from node.tor.loopback import LoopbackOnions
from node.tor.transport import Onions

PATIENCE_S: Final = 30.0
"""Of the real clock, after which something that should come about counts as never coming."""


async def until(holds: Callable[[], object], what: str = "") -> None:
    """Return once it holds; everybody else runs meanwhile."""
    begun = time.monotonic()
    while not holds():
        await trio.lowlevel.checkpoint()
        if time.monotonic() - begun > PATIENCE_S:
            raise AssertionError(f"never came about: {what}")


class Node:
    """A swarm and what it has told its host."""

    def __init__(self, keys: KeyPair, swarm: Swarm) -> None:
        self.keys, self.id, self.swarm = keys, NodeId(keys.public), swarm
        self.events: list[Event] = []
        self.then: Callable[[Event], None] = lambda _event: None
        """What the host does in the same step."""
        self.addresses: tuple[bytes, ...] = ()
        self._scope = trio.CancelScope()
        self.ended = trio.Event()

    def deliver(self, event: Event) -> None:
        self.events.append(event)
        self.then(event)

    async def run(self, *, task_status: trio.TaskStatus[tuple[bytes, ...]] = trio.TASK_STATUS_IGNORED) -> None:
        with self._scope:
            await self.swarm.run(self.deliver, task_status=task_status)
        self.ended.set()

    async def stop(self) -> None:
        self._scope.cancel()
        await self.ended.wait()

    def post(self, peer: "Node | NodeId", frame: bytes, exchange: int = 0, channel: Channel = Channel.LOGS) -> None:
        self.swarm.post(Send(getattr(peer, "id", peer), channel, frame, exchange))  # type: ignore[arg-type]

    def of(self, *kinds: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kinds)]

    def frames(self, channel: Channel = Channel.LOGS) -> list[bytes]:
        return [event.frame for event in self.of(Received) if event.channel is channel]  # type: ignore[union-attr]

    async def sees(self, event: Event) -> None:
        await until(lambda: event in self.events, f"{event!r:.200} among {self.events!r:.2000}")

    async def hears(self, frame: bytes, channel: Channel = Channel.LOGS) -> Received:
        """The event of a frame."""
        await until(lambda: frame in self.frames(channel), f"the frame {frame!r:.80} among {self.events!r:.2000}")
        return next(one for one in self.of(Received) if isinstance(one, Received) and one.frame == frame)

    async def connected(self, other: "Node") -> None:
        """Connect by a frame, which the other one hears."""
        self.post(other, b"connect" + self.id)
        await other.hears(b"connect" + self.id)

    async def lost(self, other: "Node") -> None:
        await self.sees(PeerLost(other.id))

    async def fails(self, other: "Node | NodeId", exchange: int, channel: Channel = Channel.LOGS) -> None:
        await self.sees(Failed(getattr(other, "id", other), channel, exchange))  # type: ignore[arg-type]


class Rig(Protocol):
    """Makes swarms that can meet, and breaks what is between them."""

    known: dict[NodeId, tuple[bytes, ...]]
    """What every `locate` answers."""

    async def node(self, number: int, limits: SwarmLimits | None = None, *, start: bool = True) -> Node: ...

    async def start(self, node: Node) -> None: ...

    def cut(self, one: Node, other: Node) -> None: ...

    def silence(self, one: Node, other: Node) -> None: ...


def keys_of(number: int) -> KeyPair:
    return KeyPair.from_seed(number.to_bytes(32, "big"))


class MemoryRig:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery, self.meeting = nursery, Meeting()
        self.known: dict[NodeId, tuple[bytes, ...]] = {}

    def locate(self, peer: NodeId) -> tuple[bytes, ...]:
        return self.known.get(peer, ())

    async def node(self, number: int, limits: SwarmLimits | None = None, *, start: bool = True) -> Node:
        keys = keys_of(number)
        node = Node(keys, self.meeting.swarm(NodeId(keys.public), self.locate, Random(number), limits))
        if start:
            await self.start(node)
        return node

    async def start(self, node: Node) -> None:
        node.addresses = self.known[node.id] = await self.nursery.start(node.run)

    def cut(self, one: Node, other: Node) -> None:
        self.meeting.cut(one.id, other.id)

    def silence(self, one: Node, other: Node) -> None:
        self.meeting.silence(one.id, other.id)


class Wire(trio.abc.Stream):
    """A dialled connection that can fall silent, and whose bytes can be counted and held back."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self._inner = inner
        self.silent = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if not self.silent:
            await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._inner.receive_some(max_bytes)
        if self.silent:
            await trio.sleep_forever()
        return data

    async def aclose(self) -> None:
        await self._inner.aclose()


class Wired:
    """A transport whose dialled connections are kept hold of, by who was looked for."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.handles, self.listen = inner.handles, inner.listen
        self.wires: dict[bytes, list[Wire]] = {}

    async def dial(self, address: bytes, isolation: bytes) -> trio.abc.Stream:
        wire = Wire(await self.inner.dial(address, isolation))
        self.wires.setdefault(isolation, []).append(wire)
        return wire


class SocketRig:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.known: dict[NodeId, tuple[bytes, ...]] = {}
        self.transports: dict[NodeId, Wired] = {}

    def transport(self, number: int) -> Transport:
        del number
        return Loopback()

    def locate(self, peer: NodeId) -> tuple[bytes, ...]:
        return self.known.get(peer, ())

    async def node(self, number: int, limits: SwarmLimits | None = None, *, start: bool = True) -> Node:
        keys, transport = keys_of(number), Wired(self.transport(number))
        node = Node(keys, Libp2pSwarm(keys, transport, self.locate, Random(number), limits))
        self.transports[node.id] = transport
        if start:
            await self.start(node)
        return node

    async def start(self, node: Node) -> None:
        node.addresses = self.known[node.id] = await self.nursery.start(node.run)

    def _wires(self, one: Node, other: Node) -> Iterable[Wire]:
        yield from self.transports[one.id].wires.get(other.id, ())
        yield from self.transports[other.id].wires.get(one.id, ())

    def cut(self, one: Node, other: Node) -> None:
        for wire in self._wires(one, other):
            self.nursery.start_soon(trio.aclose_forcefully, wire)

    def silence(self, one: Node, other: Node) -> None:
        for wire in self._wires(one, other):
            wire.silent = True


class OnionRig(SocketRig):
    """The daemon's transport, over a Tor that is sockets of this machine."""

    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__(nursery)
        self.onions = LoopbackOnions()

    def transport(self, number: int) -> Transport:
        return Onions(self.onions.tor(), number.to_bytes(32, "little"), ("127.0.0.1", 0))
