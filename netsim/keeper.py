"""A node of the durability world: the daemon's replication and a disk, and nothing else of a peer.

What it leaves out, so that a year of a chunk costs seconds: gossip, look-ups and logs (who is there comes from the registry
and the beacon, by command), real signatures unless they are asked for, and the length of a replica. One stands for its 8
to 16 MB with 32 bytes, one segment: challenges are drawn, asked, shown and checked with real frames against a real root,
while traffic and the time of a transfer are reckoned with the full size.

The disk is the host's, so it outlives a restart; only who departs takes it along.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from random import Random
from typing import Any, Final, NamedTuple

from blake3 import blake3

from consensus.beacon import Segment, show
from consensus.ids import NO_NETWORK, Digest, Millis, Network, NodeId
from consensus.merkle import segment_root
from consensus.placement import Registrant
from consensus.signing import domain
from node.overlay.custody import Discard, Fetched, ReadSegments, ReplicateLimits, SegmentsRead, Signs
from node.overlay.machine import (
    Action,
    Command,
    Event,
    Failed,
    Noted,
    PeerLost,
    PeerUp,
    Received,
    TimerFired,
    Verify,
)
from node.overlay.replicate import Replicate

NEIGHBOUR: Final = NodeId(b"the rest of the overlay".ljust(32))
"""The peer that is always connected: a node takes itself for cut off when it has none, and suspects nobody then."""


class Disk(dict[Digest, bytes]):
    """Replicas by their roots, on a host that is true; netsim.liars has others."""

    def keep(self, now: Millis, root: Digest, data: bytes) -> None:
        """Take what a transfer has brought."""
        del now
        self[root] = data

    def shown(self, now: Millis, root: Digest) -> bytes | None:
        """What a challenge is answered from."""
        del now
        return self.get(root)

    def served(self, root: Digest) -> bytes | None:
        """What whoever fetches the replica gets."""
        return self.get(root)


class Enter(NamedTuple):
    """Command: the registry of an ERA."""

    era: int
    registry: tuple[Registrant, ...]


class Strike(NamedTuple):
    """Command: an HOUR has begun."""

    hour: int
    seed: Digest


class Arrive(NamedTuple):
    """Command: a transfer is over; data is what came, None when its source is gone."""

    ref: int
    data: bytes | None


class Seal:
    """A key whose signatures are hashes: anybody could make them, and in a world of honest nodes nobody else does."""

    def __init__(self, public: NodeId) -> None:
        self.public = public

    def sign(self, name: str, network: Network, message: bytes) -> bytes:
        """The hash that stands for a signature."""
        return blake3(self.public + domain(name, network) + message).digest(length=64)


def unsealed(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the hash is the one that stands for the key's signature; a machine.Verify."""
    return signature == blake3(public + message).digest(length=64)


def replica(chunk: Digest, j: int) -> bytes:
    """The 32 bytes that stand for replica j."""
    return blake3(b"replica" + chunk + bytes((j,))).digest()


class Keeper:
    """Replication with its host."""

    def __init__(
        self,
        pen: Signs,
        me: NodeId,
        rng: Random,
        limits: ReplicateLimits,
        verify: Verify,
        seed_at: Callable[[int], Digest | None],
        disk: Disk,
        records: Mapping[tuple[str, tuple[int | str | bytes, ...]], bytes],
    ) -> None:
        kept = [(key, value) for (_, key), value in records.items()]
        self.disk = disk
        self.part = Replicate(me, NO_NETWORK, rng, limits, pen, verify, seed_at, count(1).__next__, kept)

    def start(self, now: Millis) -> Sequence[Action]:
        """Take up what was kept."""
        actions = [*self.part.start(now), *self.part.on_peer_up(now, NEIGHBOUR, True)]
        return self._hosted(now, actions)

    def handle(self, now: Millis, event: Event) -> Sequence[Action]:
        """Pass the event on, and do on the spot what the host is asked for."""
        part = self.part
        match event:
            case Received(peer, _, frame, exchange):
                actions = part.on_frame(now, peer, frame, exchange)
            case TimerFired(key):
                actions = part.on_timer(now, key)
            case Command(call, order):
                actions = self._ordered(now, call, order)
            case Failed(peer, _, exchange):
                actions = part.on_failed(now, peer, exchange)
            case PeerUp(peer, dialled):
                actions = part.on_peer_up(now, peer, dialled)
            case PeerLost(peer):
                actions = part.on_peer_lost(now, peer)
            case _:
                return []
        return self._hosted(now, actions) if actions else actions

    def _ordered(self, now: Millis, call: int, order: Any) -> list[Action]:
        match order:
            case Strike(hour, seed):
                return self.part.on_seed(now, hour, seed)
            case Enter(era, registry):
                return self.part.on_registry(now, era, registry)
            case Arrive(ref, None):
                return self.part.on_command(now, call, Fetched(ref, None, 0))
            case Arrive(ref, bytes(data)):
                root = segment_root(data)
                self.disk.keep(now, root, data)
                return self.part.on_command(now, call, Fetched(ref, root, len(data)))
            case _:
                return self.part.on_command(now, call, order)

    def _hosted(self, now: Millis, actions: list[Action]) -> list[Action]:
        """The actions, with reads answered and what is nobody's business any more thrown away."""
        left: list[Action] = []
        for action in actions:
            if type(action) is Noted:
                fact = action.fact
                if type(fact) is ReadSegments:
                    left += self._hosted(now, self.part.on_command(now, 0, self._read(now, fact)))
                    continue
                if type(fact) is Discard:
                    self.disk.pop(fact.root, None)
            left.append(action)
        return left

    def _read(self, now: Millis, asked: ReadSegments) -> SegmentsRead:
        found: list[tuple[Segment, ...] | None] = []
        for want in asked.wants:
            data = self.disk.shown(now, want.root)
            found.append(None if data is None else show(data, want.indexes))
        return SegmentsRead(asked.ref, tuple(found))
