"""One replica from one holder, and from two to four at once, over a private Tor network: what isolated circuits add up to.

Holders and asker are whole swarms, each with a tor of its own; a fetch ends when every byte is there and decoded. Rounds are
interleaved; each holder is connected beforehand, so that no dial is counted.
"""

import os
import random
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import trio
from blake3 import blake3

from consensus.ids import Digest, NodeId
from consensus.signing import KeyPair
from node.libp2p.swarm import Libp2pSwarm
from node.net.striping import Source, gather
from node.net.swarm import PeerStream
from node.net.transfer import PROTOCOL, Readable, Replica, pieces, serve
from node.tor.interface import ManagedTor, TorLimits, TorState
from node.tor.network import tor_network
from node.tor.supervisor import open_tor
from node.tor.transport import Onions
from pipeline.replica import encode
from tests.bench.measure import spread, table

BYTES: Final = 16 << 20
"""A chunk at its largest."""
HOLDERS: Final = 4
LIMITS: Final = TorLimits(dial_s=60, slow_s=5)


class _Holder:
    def __init__(self, number: int, sealed: bytes) -> None:
        self.keys = KeyPair.from_seed(bytes([number]) * 32)
        self.node = NodeId(self.keys.public)
        self._key = bytes([number]) * 32
        self._replica = encode(sealed, self._key)
        self._root = Digest(blake3(self._replica).digest())

    async def handle(self, stream: PeerStream) -> None:
        async def read(offset: int, most: int) -> bytes:
            await trio.lowlevel.checkpoint()
            return self._replica[offset : offset + most]

        await serve(stream, lambda _peer, _chunk, _root: Readable(BYTES, read))

    @property
    def source(self) -> Source:
        what = Replica(Digest(bytes(32)), self._root, BYTES)
        return Source(self.node, what, lambda data, at: encode(data, self._key, at))


async def _rounds(place: Path, rounds: int) -> dict[int, list[float]]:
    sealed = os.urandom(BYTES)
    holders = [_Holder(number, sealed) for number in range(1, 1 + HOLDERS)]
    asker = KeyPair.from_seed(bytes([99]) * 32)
    where = dict[NodeId, tuple[bytes, ...]]()
    rates: dict[int, list[float]] = {count: [] for count in range(1, 1 + HOLDERS)}
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(tor_network(place / "net"))
        nursery = await stack.enter_async_context(trio.open_nursery())
        swarms = []
        for number, keys in enumerate([asker, *(one.keys for one in holders)]):
            tor = await stack.enter_async_context(open_tor(ManagedTor(place / str(number), net.torrc), LIMITS))
            onions = Onions(tor, bytes([number]) * 32, place / f"{number}.socket")
            swarm = Libp2pSwarm(keys, onions, lambda node: where.get(node, ()), random.Random(number))
            if number:
                swarm.serve_streams(PROTOCOL, holders[number - 1].handle, 8)
            where[NodeId(keys.public)] = await nursery.start(swarm.run, lambda _event: None)
            swarms.append(swarm)
            status = tor.status()
            while status.state is not TorState.UP:
                status = await tor.changed(status)
        for one in holders:
            async for _ in pieces(swarms[0], one.node, one.source.what, 0, 1):
                pass
        for number in range(1 + rounds):  # the first one warms up
            for count in random.sample(sorted(rates), len(rates)):
                began = trio.current_time()
                whole = await gather(swarms[0], BYTES, [one.source for one in random.sample(holders, count)], count)
                if bytes(whole or b"") != sealed:
                    raise RuntimeError("what came is not what was sent")
                if number:
                    rates[count].append(BYTES / (1 << 20) / (trio.current_time() - began))
        nursery.cancel_scope.cancel()
    return rates


def main(_: Path, rounds: int) -> None:
    """Print MiB/s by the number of holders, and what each adds to one."""
    with tempfile.TemporaryDirectory(prefix="ts") as place:  # short: sockets have 107 bytes
        rates = trio.run(_rounds, Path(place), rounds)
    alone = rates[1]
    rows = [
        (str(count), spread(seen), spread([one / base for one, base in zip(seen, alone, strict=True)]))
        for count, seen in rates.items()
    ]
    table([("holders at once", "MiB/s", "of one holder's"), *rows])
