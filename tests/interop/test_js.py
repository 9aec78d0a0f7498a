"""A stock js-libp2p node among three peers of ours, over loopback: what we say is understood by those who never read our code.

It dials one of the three and finds the others by itself. Needed of it: `/lucid/kad/1.0.0` as its DHT's name, addresses of
loopback not dropped, and the rules of the namespace `signed` (tests/interop/peer.mjs); all the rest is as it comes.
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from random import Random
from typing import Final

import pytest
import trio

from consensus.ids import Millis, Network, NodeId
from consensus.signing import KeyPair, verify_as_is
from node.libp2p.channels import ASKED, HEARD
from node.libp2p.identify import AGENT, PROTOCOL_VERSION
from node.libp2p.reception import IDENTIFY, PING
from node.libp2p.swarm import Libp2pSwarm
from node.net.clock import SteadyClock
from node.net.host import Host
from node.net.loopback import Loopback
from node.net.multiaddrs import written_out
from node.overlay.calls import GetValue, PutValue, ValueFound, ValuePut
from node.overlay.machine import Rejected
from node.overlay.peer import Peer, PeerLimits, Surroundings
from node.overlay.topics import Delivered, Publish, Ruling, Subscribe
from node.overlay.values import NamedValue, key_of, write
from node.store.memory import MemoryStore
from tests.interop.js import JsNode, Refused, js_node, until
from tests.node.net.swarms import keys_of

pytestmark = pytest.mark.component

NETWORK: Final = Network(bytes(range(32)))
ROOM: Final = "room"
HOUR: Final = 3_600_000
JS: Final = keys_of(77)


class OurPeer:
    """A peer as the daemon runs it, without the daemon around it."""

    def __init__(self, number: int, book: dict[NodeId, tuple[bytes, ...]]) -> None:
        self.keys = keys_of(number)
        self.id = NodeId(self.keys.public)
        around = Surroundings(
            NETWORK,
            verify_as_is,
            tuple(book),
            locate=lambda node: book.get(node, ()),
            rules={ROOM: lambda _topic, _author, _data: Ruling.ACCEPT},
        )
        self.peer = Peer(self.keys, Random(number), around, PeerLimits(), {})
        swarm = Libp2pSwarm(self.keys, Loopback(), around.locate, Random(number))
        self.clock = SteadyClock()
        self.host = Host(self.peer, swarm, MemoryStore(), self.clock)
        self.delivered: list[Delivered] = []
        self.rejected: list[Rejected] = []
        self.host.on_fact(Delivered, self.delivered.append)
        self.host.on_fact(Rejected, self.rejected.append)
        self.addresses: tuple[bytes, ...] = ()

    async def start(self, nursery: trio.Nursery) -> None:
        self.addresses = await nursery.start(self.host.run)
        await self.host.ask(Subscribe(ROOM))

    def value(self, keys: KeyPair, body: bytes, sequence: int = 1) -> bytes:
        return write(
            keys,
            NETWORK,
            NamedValue(NodeId(keys.public), b"name", sequence, Millis(self.clock.now() + HOUR), body),
        )


class Company:
    """Three peers of ours that know each other, and the js node, which has dialled the first."""

    def __init__(self, ours: list[OurPeer], js: JsNode) -> None:
        self.ours, self.js = ours, js

    def rejected(self) -> set[str]:
        """Why anything of the js node's was rejected by any of ours."""
        return {fact.reason for one in self.ours for fact in one.rejected if fact.peer == self.js.id}

    async def settled(self) -> None:
        """Return once everybody is in everybody's table, and everybody knows who is in the room."""
        names = {one.id.hex() for one in self.ours}
        while await self.js.asks("contacts") < len(names) or set(await self.js.asks("subscribers", topic=ROOM)) < names:
            await trio.sleep(0.02)
        everybody = {*(one.id for one in self.ours), self.js.id}
        for one in self.ours:
            await until(lambda one=one: {one.id, *one.peer.connected} == everybody, "all are connected")  # type: ignore[misc]
            await until(lambda one=one: len(one.peer.dht.table) == len(self.ours), "all are in the table")  # type: ignore[misc]
            await until(lambda one=one: self.js.id in one.peer.gossip.mesh(ROOM), "js is in the mesh")  # type: ignore[misc]


@pytest.fixture
async def company(nursery: trio.Nursery) -> AsyncIterator[Company]:
    book: dict[NodeId, tuple[bytes, ...]] = {}
    ours: list[OurPeer] = []
    for number in (1, 2, 3):
        one = OurPeer(number, book)
        await one.start(nursery)
        book[one.id] = one.addresses
        ours.append(one)
    async with js_node(JS, NETWORK, ROOM) as js:
        assert await js.asks("dial", address=written_out(ours[0].addresses[0])) == {
            "encryption": "/noise",
            "multiplexer": "/yamux/1.0.0",
        }
        yield Company(ours, js)
    nursery.cancel_scope.cancel()


async def test_it_identifies_us_and_we_answer_its_pings(company: Company) -> None:
    first, js = company.ours[0], company.js
    said = await js.hears("identify", lambda event: event["peer"] == first.id.hex())
    where = [written_out(address) for address in first.addresses]
    assert (said["agent"], said["version"]) == (AGENT, PROTOCOL_VERSION)
    assert (said["addresses"], said["signed"]) == (where, where)
    assert set(said["protocols"]) == {*HEARD, *ASKED, PING, IDENTIFY}
    answered = 0
    while answered < 3:  # it has one stream for pings at a time, and the one before must have ended on both sides
        with suppress(Refused):
            assert await js.asks("ping", peer=first.id.hex()) >= 0
            answered += 1


async def test_gossip_is_heard_both_ways_and_signed(company: Company) -> None:
    await company.settled()
    js = company.js
    for number, one in enumerate(company.ours):
        for turn in range(3):
            body = b"from ours %d %d" % (number, turn)
            await one.host.ask(Publish(ROOM, body))
            heard = await js.hears("message", lambda event, body=body: event["data"] == body.hex())  # type: ignore[misc]
            assert (heard["type"], heard["topic"], heard["from"]) == ("signed", ROOM, one.id.hex())
    for turn in range(5):  # its sequence numbers rise, else we would take the later ones for replays
        body = b"from js %d" % turn
        await js.asks("publish", topic=ROOM, data=body.hex())
        for one in company.ours:
            await until(lambda one=one, body=body: body in [each.data for each in one.delivered])  # type: ignore[misc]
    for one in company.ours:
        said = [each for each in one.delivered if each.author == js.id]
        assert [each.data for each in said] == [b"from js %d" % turn for turn in range(5)]
    assert not company.rejected()


async def test_values_put_on_either_side_are_got_on_the_other(company: Company) -> None:
    await company.settled()
    js, (first, second, third) = company.js, company.ours

    value = first.value(JS, b"written by js")
    key = key_of(js.id, b"name")
    put = await js.asks("put", name=key.hex(), value=value.hex())
    assert (set(put["kept"]), put["errors"]) == ({one.id.hex() for one in company.ours}, [])
    found: ValueFound = await third.host.ask(GetValue(key))
    assert found.value == value

    value = second.value(second.keys, b"written by ours")
    key = key_of(second.id, b"name")
    kept: ValuePut = await second.host.ask(PutValue(key, value))
    assert (kept.stored, kept.told, kept.newer) == (4, 4, None), "all four keep it, the js node among them"
    got = await js.asks("get", name=key.hex())
    assert {each["value"] for each in got} == {value.hex()}

    newer = second.value(second.keys, b"said again", sequence=2)
    await second.host.ask(PutValue(key, newer))
    assert {each["value"] for each in await js.asks("get", name=key.hex())} == {newer.hex()}
    assert not company.rejected()


async def test_a_value_that_its_author_did_not_sign_is_kept_by_none_of_ours(
    company: Company, nursery: trio.Nursery
) -> None:
    await company.settled()
    js, first = company.js, company.ours[0]
    key = key_of(first.id, b"name")
    forged = first.value(first.keys, b"truth").replace(b"truth", b"false")
    put = partial(js.asks, "put", name=key.hex(), value=forged.hex())
    nursery.start_soon(put)  # nobody answers it, and its patience is long
    for one in company.ours:
        await until(lambda one=one: one.rejected)  # type: ignore[misc]
        assert not len(one.peer.dht._values)
    assert company.rejected() == {"a value that no validator accepts"}
