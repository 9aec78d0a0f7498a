"""A node of ours for benches: the whole peer in node/net's host over loopback, driven as tests/bench/netcrowd.py says.

Nobody is dialled but those whom `dial` names: no other address is known.
"""

import sys
import time
from collections.abc import Mapping
from random import Random
from typing import Any, Final

import trio

from consensus.ids import Millis, Network, NodeId
from consensus.records import unpack
from consensus.signing import KeyPair, verify_as_is
from node.libp2p.swarm import Libp2pSwarm
from node.net.clock import SteadyClock
from node.net.host import Host
from node.net.loopback import Loopback
from node.net.swarm import Locate, Transport
from node.overlay.calls import Bootstrap, GetValue, PutValue, ValueFound, ValuePut
from node.overlay.machine import Channel, Send, Verify
from node.overlay.peer import Peer, PeerLimits, Surroundings
from node.overlay.topics import Delivered, GossipRefused, Publish, Ruling, Subscribe
from node.overlay.values import NamedValue, SignedValue, key_of, write
from node.store.memory import MemoryStore
from tests.bench.netlatency import Latency
from tests.bench.netload import HEAD, TOPIC, obey, on_time, resident_mb, say

HOUR_MS: Final = 3_600_000
NETWORK: Final = Network(bytes(range(32)))


SEED_KEYS: Final = 3
"""The first nodes, by whom those that `meet` begin."""


def keys_of(number: int) -> KeyPair:
    """The keys of a node by its number, the same in every bench."""
    return KeyPair.from_seed((1 + number).to_bytes(32, "big"))


def peer_of(number: int, rng: Random, verify: Verify, locate: Locate, limits: PeerLimits, seeds: int) -> Peer:
    """The machine of a node, in the topic of the bench if it subscribes; `seeds` of the first nodes are its bootstrap nodes."""
    first = tuple(NodeId(keys_of(one).public) for one in range(seeds))
    rules = {TOPIC: lambda _topic, _author, _data: Ruling.ACCEPT}
    around = Surroundings(NETWORK, verify, first, locate=locate, rules=rules)
    return Peer(keys_of(number), rng, around, limits, {})


class OurNode:
    """One node, its answers to requests by their name."""

    def __init__(self, number: int, limits: PeerLimits, seeds: int = 0, latency_s: float = 0) -> None:
        keys = keys_of(number)
        self.keys, self.me = keys, NodeId(keys.public)
        self.book: dict[NodeId, tuple[bytes, ...]] = {}
        self.peer = peer_of(number, Random(), verify_as_is, self._address, limits, seeds)
        transport: Transport = Latency(Loopback(), latency_s, lambda: self.nursery) if latency_s else Loopback()
        self.swarm = Libp2pSwarm(keys, transport, self._address, Random())
        self.clock = SteadyClock()
        self.host = Host(self.peer, self.swarm, MemoryStore(), self.clock)
        self.host.on_fact(Delivered, self._delivered)
        self.got: list[tuple[int, float, str]] = []
        self.nursery: trio.Nursery

    def _address(self, node: NodeId) -> tuple[bytes, ...]:
        return self.book.get(node, ())

    def _delivered(self, fact: Delivered) -> None:
        if fact.author != self.me:
            sent, number = HEAD.unpack_from(fact.data)
            self.got.append((number, time.monotonic() - sent, fact.source.hex()[:8]))

    async def run(self) -> None:
        """Answer until stdin ends."""
        async with trio.open_nursery() as self.nursery:
            (address,) = await self.nursery.start(self.host.run)
            await self.host.ask(Subscribe(TOPIC))
            say({"address": f"{self.me.hex()}@{address.hex()}"})
            await obey(self)
            self.nursery.cancel_scope.cancel()

    async def meet(self, request: Mapping[str, Any]) -> object:
        """Know everybody's address, and be connected to the bootstrap nodes."""
        self.book = {NodeId(bytes.fromhex(one[:64])): (bytes.fromhex(one[65:]),) for one in request["all"]}
        return await self._reach({*list(self.book)[:SEED_KEYS]} - {self.me})

    async def dial(self, request: Mapping[str, Any]) -> object:
        """Connect to addresses."""
        wanted = {NodeId(bytes.fromhex(one[:64])): (bytes.fromhex(one[65:]),) for one in request["to"]}
        self.book |= wanted
        return await self._reach({*wanted})

    async def _reach(self, nodes: set[NodeId]) -> int:
        """Be connected to these, or to those that answer within a minute; to how many we are then.

        Asked for again: a peer whose address was not known when the machine first wanted it is left alone for a while.
        """
        with trio.move_on_after(60):
            while missing := nodes - {*self.peer.connected}:
                for node in missing:
                    self.swarm.post(Send(node, Channel.GOSSIP, b""))
                await trio.sleep(0.1)
        return len(self.peer.connected)

    async def state(self, _request: Mapping[str, Any]) -> object:
        """Figures of this process."""
        await trio.lowlevel.checkpoint()
        return {
            "mesh": len(self.peer.gossip.mesh(TOPIC)),
            "links": len(self.peer.connected),
            "contacts": len(self.peer.dht.table),
            "cpu": time.process_time(),
            "mb": resident_mb(),
            "got": len(self.got),
        }

    async def publish(self, request: Mapping[str, Any]) -> object:
        """Have messages published at their times, in the background."""
        self.nursery.start_soon(on_time, request["plan"], self._publish)
        await trio.lowlevel.checkpoint()
        return None

    async def _publish(self, message: bytes) -> None:
        said = await self.host.ask(Publish(TOPIC, message))
        assert not isinstance(said, GossipRefused), said

    async def fill(self, _request: Mapping[str, Any]) -> object:
        """Fill the table by looking ourselves up; how many contacts it has."""
        await self.host.ask(Bootstrap())
        return len(self.peer.dht.table)

    async def put(self, request: Mapping[str, Any]) -> object:
        """Put a value of a name."""
        body = f"the value of {request['name']}".encode()
        value = NamedValue(self.me, request["name"].encode(), 1, Millis(self.clock.now() + HOUR_MS), body)
        key = key_of(self.me, value.name)
        done = await self.host.ask(PutValue(key, write(self.keys, NETWORK, value)))
        assert isinstance(done, ValuePut), done
        return {"address": key.hex(), "kept": done.stored}

    async def get(self, request: Mapping[str, Any]) -> object:
        """Get a value."""
        began = time.perf_counter()
        got = await self.host.ask(GetValue(bytes.fromhex(request["address"])))
        ms = 1000 * (time.perf_counter() - began)
        assert isinstance(got, ValueFound), got
        if got.value is None:
            return {"ms": ms, "found": None}
        value = unpack(NamedValue, unpack(SignedValue, got.value).value)
        return {"ms": ms, "found": value.body.decode()}

    async def results(self, _request: Mapping[str, Any]) -> object:
        """What came since the last time: message, seconds, and from whom."""
        await trio.lowlevel.checkpoint()
        got, self.got = self.got, []
        return got


if __name__ == "__main__":
    trio.run(OurNode(int(sys.argv[1]), PeerLimits()).run)
