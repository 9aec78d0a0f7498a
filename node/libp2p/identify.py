"""What a node says of itself in libp2p's identify: its key, addresses and protocols, and a signed record of the addresses.

Source: libp2p/specs: identify/README.md ("The Identify Message"), RFC 0002 (signed envelopes), RFC 0003 (peer records).
"""

from collections.abc import Sequence
from typing import Final

from consensus.ids import NodeId
from consensus.signing import KeyPair
from node.libp2p.framing import prefixed
from node.overlay.protobufs import message_classes
from node.overlay.wire import peer_id, public_key_pb

PROTOCOL_VERSION: Final = "lucid/1"
AGENT: Final = "lucid-node"

_DOMAIN: Final = b"libp2p-peer-record"
_RECORD_TYPE: Final = b"\x03\x01"  # multicodec libp2p-peer-record, not as a varint
_class: Final = message_classes(
    "lucid.identify",
    {
        "Identify": "1 bytes key, 2* bytes addresses, 3* bytes protocols, 5 bytes version, 6 bytes agent, 8 bytes record",
        "Envelope": "1 bytes key, 2 bytes type, 3 bytes payload, 5 bytes signature",
        "Record": "1 bytes id, 2 u64 sequence, 3* Place places",
        "Place": "1 bytes address",
    },
)
_IDENTIFY, _ENVELOPE, _RECORD = map(_class, ("Identify", "Envelope", "Record"))


def identify(keys: KeyPair, addresses: Sequence[bytes], protocols: Sequence[str], sequence: int) -> bytes:
    """What /ipfs/id/1.0.0 answers, without length; addresses: binary multiaddrs; sequence: higher with each record, 64 bits."""
    node = NodeId(keys.public)
    key = public_key_pb(node)
    record = _RECORD(id=peer_id(node), sequence=sequence, places=[{"address": address} for address in addresses])
    payload = record.SerializeToString()
    signature = keys.sign_as_is(b"".join(map(prefixed, (_DOMAIN, _RECORD_TYPE, payload))))
    envelope = _ENVELOPE(key=key, type=_RECORD_TYPE, payload=payload, signature=signature)
    said: bytes = _IDENTIFY(
        key=key,
        addresses=addresses,
        protocols=[protocol.encode() for protocol in protocols],
        version=PROTOCOL_VERSION.encode(),
        agent=AGENT.encode(),
        record=envelope.SerializeToString(),
    ).SerializeToString()
    return said
