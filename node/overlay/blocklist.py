"""Who is refused a connection, and until when: the peers whose gossip score fell below the graylist threshold.

    first time: first_ms · each further time: twice as long · at most longest_ms · forgotten forget_ms after its end

A block ends the connection and nothing else. The peer's entry stays in the directory, its values in the DHT, and others
may name it: a new identity costs what the registry says, not what we think of an old one. Whoever stays away for forget_ms
after a block begins anew.

Memory: one entry a peer, peers_max of them; beyond that the one that was blocked longest ago goes.
"""

from collections import OrderedDict
from dataclasses import dataclass

from consensus.ids import Millis, NodeId


@dataclass(frozen=True, slots=True)
class BlockLimits:
    """How long, and how many."""

    first_ms: int = 600_000
    """Ten minutes: a fault of ours, or a version of ours that others find invalid, must not cost a node its day."""
    longest_ms: int = 86_400_000
    forget_ms: int = 86_400_000
    """A spammer that comes back as soon as it may gets eight turns in the first day, and then one a day."""
    peers_max: int = 4096


class Blocklist:
    """The blocks of one node; kept in memory alone, so that a restart forgives."""

    def __init__(self, limits: BlockLimits) -> None:
        self._limits = limits
        self._blocks: OrderedDict[NodeId, tuple[Millis, int]] = OrderedDict()  # (end, how long it was)

    def __len__(self) -> int:
        return len(self._blocks)

    def block(self, now: Millis, peer: NodeId) -> Millis:
        """Refuse a peer from now on, for longer than the last time; until when. One that is refused already stays so."""
        limits = self._limits
        end, length = self._blocks.get(peer, (Millis(0), 0))
        if now < end:
            return end
        forgotten = not length or end + limits.forget_ms <= now
        length = limits.first_ms if forgotten else min(2 * length, limits.longest_ms)
        self._blocks.pop(peer, None)
        while len(self._blocks) >= limits.peers_max:
            self._blocks.popitem(last=False)
        until = Millis(now + length)
        self._blocks[peer] = (until, length)
        return until

    def refuses(self, now: Millis, peer: NodeId) -> bool:
        """Whether a peer is to be kept away."""
        block = self._blocks.get(peer)
        return block is not None and now < block[0]
