"""Where peers may be met: what they sign in the directory, what the network's file names, and what others say.

Only the first is proven to be theirs; a wrong address costs a dial, for whoever answers there must prove to be the peer.
Bounded: adverts by the directory, hearsay by HEARD_MAX, the longest unused first to go. Source: DESIGN §4.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from consensus.ids import NodeId

HEARD_MAX: Final = 4096
ADDRESSES_MAX: Final = 4
"""Tried of one peer."""


class AddressBook:
    """The addresses of peers, binary multiaddrs, and our own."""

    def __init__(self, me: NodeId, named: Mapping[NodeId, Sequence[bytes]], heard_max: int = HEARD_MAX) -> None:
        """named: the bootstrap nodes of the network's file; heard_max: nodes of whom hearsay is kept."""
        self._heard_max = heard_max
        self._me = me
        self._own: tuple[bytes, ...] = ()
        self._named = {node: tuple(addresses) for node, addresses in named.items()}
        self._signed: dict[NodeId, tuple[bytes, ...]] = {}
        self._heard: dict[NodeId, tuple[bytes, ...]] = {}

    def locate(self, node: NodeId) -> tuple[bytes, ...]:
        """The addresses of a node, the most trusted first; our own for ourselves."""
        if node == self._me:
            return self._own
        known = (*self._signed.get(node, ()), *self._named.get(node, ()), *self._heard.get(node, ()))
        return tuple(dict.fromkeys(known))[:ADDRESSES_MAX]

    def own(self, addresses: Iterable[bytes]) -> None:
        """Take note of where we are met."""
        self._own = tuple(addresses)

    def signed(self, node: NodeId, addresses: Iterable[bytes]) -> None:
        """Take what a node says of itself in its newest directory entry; none: it has left."""
        addresses = tuple(addresses)[:ADDRESSES_MAX]
        if addresses:
            self._signed[node] = addresses
        else:
            self._signed.pop(node, None)

    def heard(self, node: NodeId, addresses: Iterable[bytes]) -> None:
        """Take what somebody says of another node."""
        said = tuple(dict.fromkeys((*addresses, *self._heard.pop(node, ()))))[:ADDRESSES_MAX]
        if node == self._me or not said:
            return
        while len(self._heard) >= self._heard_max:
            del self._heard[next(iter(self._heard))]
        self._heard[node] = said
