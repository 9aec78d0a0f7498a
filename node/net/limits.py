"""What one node's swarm holds at most, and how long it waits: all of its bounds in one place.

Defaults are for Tor, where a dial takes seconds and the end of a connection is often hidden (DESIGN §4).
"""

from dataclasses import dataclass
from typing import Final

from node.overlay import agreement, clocks, reconcile_frames, replica_frames, wire, witness_frames
from node.overlay.machine import Channel

FRAME_BYTES_MAX: Final = {
    Channel.GOSSIP: wire.RPC_LIMITS.frame_bytes_max,
    Channel.DHT: wire.KAD_LIMITS.frame_bytes_max,
    Channel.LOGS: reconcile_frames.FRAME_BYTES_MAX,
    Channel.REPLICAS: replica_frames.FRAME_BYTES_MAX,
    Channel.BLOCKS: agreement.FRAME_BYTES_MAX,
    Channel.WITNESS: witness_frames.FRAME_BYTES_MAX,
    Channel.CLOCK: clocks.FRAME_BYTES,
}
"""The longest frame of each channel; a peer that announces a longer one loses the stream."""


@dataclass(frozen=True, slots=True)
class SwarmLimits:
    """Bounds of a swarm; times in milliseconds."""

    connections: int = 192
    """A peer keeps 64 and a newcomer always gets an answer first; beyond these, who comes is closed at once."""
    handshakes: int = 32
    """Inbound connections whose peer is not proven yet; the oldest gives way, so that idlers cannot lock others out."""
    handshake_ms: int = 30_000
    dials: int = 8
    """At a time; each builds a circuit."""
    dial_ms: int = 90_000
    """An address, handshake included; the transport's own deadline comes first."""
    addresses: int = 4
    """That are tried of one peer."""
    backoff_ms: int = 1_000
    backoff_most_ms: int = 60_000
    failed_peers: int = 1024
    """Whose failures are remembered."""
    waiting_peers: int = 256
    """To whom something waits for a connection."""
    queue_frames: int = 512
    """That wait on a channel to one peer, or for its connection."""
    queue_bytes: int = 2 << 20
    streams: int = 96
    """That a peer may have opened."""
    negotiation_ms: int = 20_000
    """Until a stream that was opened says what for."""
    asked: int = 32
    """Exchanges of a peer's that we have not answered, on one channel; the oldest gives way."""
    asking: int = 256
    """Exchanges of ours with one peer that it has not answered; the oldest fails."""
    exchange_ms: int = 60_000
    """Until an exchange that nobody answers is ended; askers have deadlines of their own, shorter ones."""
    pooled: int = 4
    """Idle exchange streams that are kept on one channel to one peer."""
    pooled_ms: int = 8_000
    """Of idleness; js-libp2p resets a DHT stream that is idle for 10 s."""
    keepalive_ms: int = 15_000
    dead_after_ms: int = 45_000
    """Without a byte from the peer, or without a byte that it takes."""
    linger_ms: int = 5_000
    """That a bulk stream which we have ended waits for the peer's end."""
    look_ms: int = 5_000
    """Between two looks at the clock for all of these."""
