"""Flood publishing, the baseline of gossip: what is new goes to everybody that a node is connected with, and that is all.

The same frames, signatures and connections as the router's, without meshes, scores, IHAVE or a blocklist. It cannot be eclipsed while one honest
neighbour is left, and everybody pays for it: a message crosses nearly every link, in both directions.
"""

from collections.abc import Sequence

from consensus.encoding import Malformed
from consensus.ids import Millis, NodeId
from consensus.signing import KeyPair
from netsim.verify import CachedVerify
from node.overlay.machine import Action, Channel, Noted, PeerLost, PeerUp, Received, Send
from node.overlay.topics import Delivered
from node.overlay.wire import Message, Rpc, decode_rpc, encode_rpc, sign_message, signed_bytes


class Flood:
    """Stands where the router stands in a node: it takes frames, and tells what was delivered."""

    def __init__(self, keys: KeyPair, verify: CachedVerify) -> None:
        self.me, self._keys, self._verify = NodeId(keys.public), keys, verify
        self._up: dict[NodeId, None] = {}
        self._seen: set[bytes] = set()

    def on_peer(self, event: PeerUp | PeerLost) -> None:
        """Know who is there."""
        if isinstance(event, PeerUp):
            self._up[event.peer] = None
        else:
            self._up.pop(event.peer, None)

    def publish(self, now: Millis, topic: str, data: bytes) -> Sequence[Action]:
        """Tell everybody."""
        return self._spread(sign_message(self.me, now, topic, data, self._keys.sign_as_is), self.me)

    def on_frame(self, event: Received) -> Sequence[Action]:
        """Pass on what is new and signed."""
        try:
            messages = decode_rpc(event.frame).publish
        except Malformed:
            return []
        new = [
            one
            for one in messages
            if one.id not in self._seen and self._verify(one.author, one.signature, signed_bytes(one))
        ]
        return [action for one in new for action in self._spread(one, event.peer)]

    def _spread(self, message: Message, source: NodeId) -> list[Action]:
        self._seen.add(message.id)
        frame = encode_rpc(Rpc(publish=(message,)))
        told = [peer for peer in self._up if peer not in {source, message.author}]
        fact = Delivered(message.topic, message.author, message.id, source, message.data)
        return [Noted(fact), *(Send(peer, Channel.GOSSIP, frame) for peer in told)]
