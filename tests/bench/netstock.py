"""A node of stock py-libp2p's gossipsub for benches, driven as tests/bench/netcrowd.py says.

Only noise, yamux and gossipsub 1.1, its IP-based protections off: the fastest that it is without losing messages
(findings of 2026-11: 1.2 costs double). Its own heartbeat of 120 s is set to the others' 1 s.
"""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import trio
from libp2p import new_host
from libp2p.abc import ISubscriptionAPI
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as new_noise_keys
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.security.noise.transport import PROTOCOL_ID, Transport
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from tests.bench.netload import (
    DEGREE,
    DEGREE_HIGH,
    DEGREE_LOW,
    HEAD,
    HEARTBEAT_S,
    TOPIC,
    obey,
    on_time,
    resident_mb,
    say,
)


class StockNode:
    """One node, its answers to requests by their name."""

    def __init__(self) -> None:
        keys = create_new_key_pair()
        noise = Transport(keys, noise_privkey=new_noise_keys().private_key)
        # Its own seconds are too few for twenty processes on two cores.
        patient = ConnectionConfig(
            outbound_upgrade_timeout=60,
            inbound_upgrade_timeout=60,
            outbound_stream_protocol_negotiation_timeout=60,
            inbound_stream_protocol_negotiation_timeout=60,
        )
        self.host = new_host(
            key_pair=keys,
            sec_opt={PROTOCOL_ID: noise},
            muxer_opt={TProtocol("/yamux/1.0.0"): Yamux},
            connection_config=patient,
            disable_identify_address_discovery=True,
            negotiate_timeout=60,
        )
        self.router = GossipSub(
            [PROTOCOL_ID_V11],
            degree=DEGREE,
            degree_low=DEGREE_LOW,
            degree_high=DEGREE_HIGH,
            heartbeat_interval=HEARTBEAT_S,
            spam_protection_enabled=False,
            eclipse_protection_enabled=False,
            adaptive_gossip_enabled=False,
        )
        self.pubsub = Pubsub(self.host, self.router)
        self.got: list[tuple[int, float, str]] = []
        self.nursery: trio.Nursery

    async def run(self) -> None:
        """Answer until stdin ends."""
        async with (
            self.host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]),
            background_trio_service(self.pubsub),
            background_trio_service(self.router),
            trio.open_nursery() as self.nursery,
        ):
            await self.pubsub.wait_until_ready()
            self.nursery.start_soon(self._listen, await self.pubsub.subscribe(TOPIC))
            say({"address": str(self.host.get_addrs()[0])})
            await obey(self)
            self.nursery.cancel_scope.cancel()

    async def _listen(self, subscription: ISubscriptionAPI) -> None:
        me = self.host.get_id().to_bytes()
        while True:
            message = await subscription.get()
            if message.from_id != me:
                sent, number = HEAD.unpack_from(message.data)
                self.got.append((number, time.monotonic() - sent, ""))

    async def dial(self, request: Mapping[str, Any]) -> object:
        """Connect to addresses."""
        for address in request["to"]:
            with trio.move_on_after(30):
                await self.host.connect(info_from_p2p_addr(Multiaddr(address)))
        return len(self.host.get_connected_peers())

    async def state(self, _request: Mapping[str, Any]) -> object:
        """Figures of this process."""
        await trio.lowlevel.checkpoint()
        return {
            "mesh": len(self.router.mesh.get(TOPIC, ())),
            "links": len(self.host.get_connected_peers()),
            "cpu": time.process_time(),
            "mb": resident_mb(),
            "got": len(self.got),
        }

    async def publish(self, request: Mapping[str, Any]) -> object:
        """Have messages published at their times, in the background."""
        self.nursery.start_soon(on_time, request["plan"], partial(self.pubsub.publish, TOPIC))
        await trio.lowlevel.checkpoint()
        return None

    async def results(self, _request: Mapping[str, Any]) -> object:
        """What came since the last time: message, seconds."""
        await trio.lowlevel.checkpoint()
        got, self.got = self.got, []
        return got


if __name__ == "__main__":
    trio.run(StockNode().run)
