"""The records of `onion_v1.json`: a binding, a rotation and an emergency, and the addresses that others published."""

from dataclasses import replace
from typing import Any, Final

from consensus.ids import Millis, Network, NodeId
from consensus.signing import KeyPair
from node.tor.onion import OnionBinding, OnionRotation, sign_binding, sign_rotation

IDENTITY, OLD, NEW = (KeyPair.from_seed(bytes([number] * 32)) for number in (1, 2, 3))
BINDING: Final = OnionBinding(
    identity=NodeId(IDENTITY.public),
    onion=OLD.public,
    seq=7,
    not_before=Millis(1_699_999_999_000),
    not_after=Millis(1_730_000_000_000),
)
ROTATION: Final = OnionRotation(
    identity=NodeId(IDENTITY.public),
    old=OLD.public,
    new=NEW.public,
    seq=8,
    not_before=Millis(1_700_000_000_000),
    old_until=Millis(1_701_209_600_000),
    emergency=False,
)
ADDRESSES: Final = {
    # The examples of rend-spec-v3 [ONIONADDRESS] and that of tor's own test, whose key is the first of RFC 8032 §7.1.
    "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd": "79bcc625184b05194975c28b66b66b0469f7f6556fb1ac3189a79b40dda32f1f",
    "sp3k262uwy4r2k3ycr5awluarykdpag6a7y33jxop4cs2lu5uz5sseqd": "93f6ad7b54b6391d2b78147a0b2e808e143780de07f1bda6ee7f052d2e9da67b",
    "xa4r2iadxm55fbnqgwwi5mymqdcofiu3w6rpbtqn7b2dyn7mgwj64jyd": "b8391d2003bb3bd285b035ac8eb30c80c4e2a29bb7a2f0ce0df8743c37ec3593",
    "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenl5sid": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
}


def onion_v1(network: Network) -> dict[str, Any]:
    """The records of version 1, each signed by seeds of 32 equal bytes: identity 1, old onion 2, new onion 3."""
    return {
        "origin": "Addresses: Tor rend-spec-v3 and tor's src/test/hs_build_address.py. Records of version 1 as first released.",
        "addresses": [{"address": address, "key": key} for address, key in ADDRESSES.items()],
        "binding": sign_binding(BINDING, IDENTITY, network).hex(),
        "rotation": sign_rotation(ROTATION, IDENTITY, network, old=OLD, new=NEW).hex(),
        "emergency": sign_rotation(replace(ROTATION, emergency=True), IDENTITY, network, old=None, new=None).hex(),
    }
