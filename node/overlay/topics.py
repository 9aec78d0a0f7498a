"""What can be asked of the gossip router, what it tells, and the limits it keeps.

The defaults are gossipsub's where it names one, and say why where they differ for Tor: a round trip takes 0.3 to 2 s, an
uplink carries some 100 KB/s, and a connection costs seconds to make.

Source: gossipsub-v1.0.md, "Parameters"; gossipsub-v1.1.md, "Overview of New Parameters"; findings/net.md §3.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from consensus.ids import NodeId


class Ruling(Enum):
    """What a topic's rules say of a message; its signature was checked before."""

    ACCEPT = "accept"
    REJECT = "reject"
    """No honest peer passes this on: it is not kept, and whoever brought it pays for it."""
    IGNORE = "ignore"
    """Neither delivered nor passed on, and nobody's fault: too old, not yet known, not for us."""


class Validate(Protocol):
    """The rules of one topic: a quick look, without effects. What depends on our own state is IGNORE, never REJECT."""

    def __call__(self, topic: str, author: NodeId, data: bytes, /) -> Ruling:
        """What to do with the message."""


class Subscribe(NamedTuple):
    """Command: deliver a topic's messages from now on; Finished(None)."""

    topic: str


class Unsubscribe(NamedTuple):
    """Command: no more of a topic; Finished(None)."""

    topic: str


class Publish(NamedTuple):
    """Command: sign and send a message; Finished(message id, 46 bytes) when it is sent or in the queue for it."""

    topic: str
    data: bytes


class GossipRefused(NamedTuple):
    """The result of a command that could not be carried out."""

    reason: str


class Delivered(NamedTuple):
    """Fact: a valid message of a subscribed topic, once; of our own messages the source is us."""

    topic: str
    author: NodeId
    message_id: bytes
    source: NodeId
    data: bytes


class Introduced(NamedTuple):
    """Fact: a peer that pruned us names others in the topic; their addresses are to be looked up, nothing is proven."""

    topic: str
    by: NodeId
    peers: tuple[NodeId, ...]


class Throttled(NamedTuple):
    """Fact: a peer asked for more than its share, and the rest was skipped; at most one a peer and heartbeat."""

    peer: NodeId
    what: str


class Graylisted(NamedTuple):
    """Fact: a peer's score is below the graylist threshold and nothing it sends is read; told once a fall."""

    peer: NodeId
    score: float


@dataclass(frozen=True, slots=True)
class GossipLimits:
    """Degrees, intervals and bounds of the router; times in ms."""

    degree: int = 6  # D
    degree_low: int = 4
    degree_high: int = 12
    degree_score: int = 4  # kept by score when a mesh is cut back
    degree_out: int = 2  # at least so many of a mesh were dialled by us
    lazy: int = 6  # peers told by IHAVE in a heartbeat, at least
    lazy_percent: int = 25  # of the peers outside the mesh, if that is more

    heartbeat_ms: int = 1_000  # a lost message is recovered within 1 beat and 3 trips: ~2.5 s on Tor, below T = 5 s
    idle_heartbeat_ms: int = 30_000  # while nothing is cached, promised or missing from a mesh
    history: int = 5  # heartbeats during which an IWANT is answered
    history_told: int = 3  # heartbeats during which a message is told by IHAVE
    fanout_ms: int = 60_000
    prune_backoff_ms: int = 60_000
    unsubscribe_backoff_ms: int = 10_000
    backoff_ms_max: int = 3_600_000  # a peer may ask for 2⁶⁴ s; it gets an hour
    graft_flood_ms: int = 10_000  # a GRAFT so soon after the PRUNE counts twice
    opportunistic_ms: int = 60_000
    opportunistic_peers: int = 2
    lively: int = 20  # messages between two such moments from which on a mesh is judged by what it brought alone
    followup_ms: int = 4_000  # a promised message must be here by then: two slow round trips on Tor
    seen_ms: int = 120_000

    peers_max: int = 512
    topics_max: int = 32  # ours
    topics_per_peer_max: int = 64
    fanout_topics_max: int = 64
    backoffs_max: int = 4_096
    exchanged: int = 16  # peers named in a PRUNE
    seen_max: int = 32_768  # 120 s of 270 messages a second; ~7 MB
    cache_messages_max: int = 8_192
    cache_bytes_max: int = 32 << 20

    ihaves_max: int = 10  # a peer and heartbeat
    told_max: int = 1_000  # ids in an IHAVE of ours
    asked_max: int = 1_000  # ids asked of a peer within followup_ms
    asks_max: int = 6  # peers asked for one message at a time
    promises_max: int = 8_192
    wanted_max: int = 5_000  # ids of a peer's IWANTs looked at in a heartbeat
    retransmissions: int = 3  # of one message to one peer
    served_max: int = 2_048  # messages a peer is served within the history
    served_bytes_max: int = 128 << 10  # a peer and heartbeat: half an outbox; a longer message is served alone

    flood_bytes_max: int = 16_384  # of our own; a longer message goes to the mesh alone, an uplink is 100 KB/s
    frame_bytes: int = 32 << 10  # messages batched in one frame; a longer message goes alone
    pace_ms: int = 100
    pace_frames: int = 8  # in one pace_ms at once; what comes after is batched
    pace_bytes: int = 32 << 10  # of ours and as much of others', in one pace_ms; a peer's outbox holds 256 KB
    publish_queue_max: int = 4_096
    publish_queue_bytes_max: int = 8 << 20
    relay_queue_max: int = 4_096
    relay_queue_bytes_max: int = 16 << 20
