"""Signed values of the DHT: what a node says under a name of its own, with a sequence and an expiry.

key = "/signed/" ‖ author 32 B ‖ name. The newest sequence counts; of two with one sequence the greater bytes, so that
replicas agree. Nothing that must be true depends on this (DESIGN §4): the directory is the fallback for every look-up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from consensus.encoding import Malformed
from consensus.ids import Millis, Network, NodeId
from consensus.records import Most, Size, pack, unpack
from consensus.signing import KeyPair, domain
from node.overlay.holdings import Standing, Validator
from node.overlay.machine import Verify

NAMESPACE: Final = "signed"
_DOMAIN: Final = "value"


@dataclass(frozen=True, slots=True)
class NamedValue:
    """What the author signs."""

    VERSION: ClassVar = 1
    author: Annotated[NodeId, Size(32)]
    name: Annotated[bytes, Most(64)]
    sequence: int
    expiry: Millis
    body: Annotated[bytes, Most(8192)]


@dataclass(frozen=True, slots=True)
class SignedValue:
    """A value as it travels."""

    VERSION: ClassVar = 1
    value: Annotated[bytes, Most(9000)]
    signature: Annotated[bytes, Size(64)]


def key_of(author: NodeId, name: bytes) -> bytes:
    """Where an author's value of a name lies."""
    return b"/signed/" + author + name


def write(keys: KeyPair, network: Network, value: NamedValue) -> bytes:
    """The signed bytes of a value."""
    body = pack(value)
    return pack(SignedValue(body, keys.sign(_DOMAIN, network, body)))


def validators(network: Network, verify: Verify) -> Mapping[str, Validator]:
    """The DHT's namespaces and their rules."""
    prefix = domain(_DOMAIN, network)

    def judge(key: bytes, data: bytes, _now: Millis, /) -> Standing | None:
        try:
            signed = unpack(SignedValue, data)
            value = unpack(NamedValue, signed.value)
        except Malformed:
            return None
        if key != key_of(value.author, value.name):
            return None
        if not verify(value.author, signed.signature, prefix + signed.value):
            return None
        return Standing(value.sequence, value.expiry)

    return {NAMESPACE: judge}
