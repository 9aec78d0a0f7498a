"""libp2p's protobuf messages of gossip and DHT, as classes made from descriptors that are written out here.

Source: libp2p/specs, pubsub/README.md, gossipsub-v1.1.md, kad-dht/README.md ("RPC messages").
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_SPECS: Final = {
    # `publish` and the strings are declared as bytes: the same on the wire.
    "Subscription": "1 bool subscribe, 2 bytes topic",
    "Message": "1 bytes from, 2 bytes data, 3 bytes seqno, 4 bytes topic, 5 bytes signature, 6 bytes key",
    "Ihave": "1 bytes topic, 2* bytes ids",
    "Iwant": "1* bytes ids",
    "Graft": "1 bytes topic",
    "PeerInfo": "1 bytes id, 2 bytes record",
    "Prune": "1 bytes topic, 2* PeerInfo peers, 3 u64 backoff",
    "Control": "1* Ihave ihave, 2* Iwant iwant, 3* Graft graft, 4* Prune prune",
    "Rpc": "1* Subscription subscriptions, 2* bytes publish, 3 Control control",
    "KadRecord": "1 bytes key, 2 bytes value, 5 bytes time",
    "KadPeer": "1 bytes id, 2* bytes addresses, 3 i32 connection",
    # enums are declared as int32, so that a value beyond them is seen and refused
    "Kad": "1 i32 type, 2 bytes key, 3 KadRecord record, 8* KadPeer closer, 9* KadPeer providers",
}


def message_classes(package: str, specs: Mapping[str, str]) -> Callable[[str], Any]:
    """Message classes by name, from fields written out as above; no generated file, and a pool of their own."""
    field = descriptor_pb2.FieldDescriptorProto
    kinds = {"bytes": field.TYPE_BYTES, "bool": field.TYPE_BOOL, "u64": field.TYPE_UINT64, "i32": field.TYPE_INT32}
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    for name, fields in specs.items():
        entry = file.message_type.add(name=name)
        for spec in fields.split(", "):
            number, kind, label = spec.split(" ")
            repeated = number.endswith("*")
            entry.field.add(
                name=label,
                number=int(number.rstrip("*")),
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
                type=kinds.get(kind, field.TYPE_MESSAGE),
                type_name=None if kind in kinds else f".{package}.{kind}",
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))


_class: Final = message_classes("lucid.libp2p", _SPECS)
RPC: Final = _class("Rpc")
MESSAGE: Final = _class("Message")
KAD: Final = _class("Kad")
KAD_PEER: Final = _class("KadPeer")
