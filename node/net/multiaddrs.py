"""The two kinds of multiaddr that this network has: an onion service, and a port of this machine for devnets.

    /onion3/‹56 base32›:‹port›       code 0x01bd as a varint ‖ 35 bytes of address ‖ port u16
    /ip4/127.0.0.1/tcp/‹port›        04 ‖ 7f000001 ‖ 06 ‖ port u16

All others are refused: they would have to be resolved, or reached outside Tor. Source: multiformats/multiaddr, protocols.csv.
"""

import re
from base64 import b32decode, b32encode
from typing import Final

_ONION: Final = re.compile(r"/onion3/([a-z2-7]{56}):([1-9][0-9]{0,4})")
_LOOPBACK: Final = re.compile(r"/ip4/127\.0\.0\.1/tcp/([1-9][0-9]{0,4})")
_ONION_HEAD: Final = b"\xbd\x03"
_LOOPBACK_HEAD: Final = bytes((4, 127, 0, 0, 1, 6))
_PORT_MAX: Final = 65_535


def binary(text: str) -> bytes:
    """The bytes of a multiaddr that is written out; raises ValueError for one of another kind."""
    if (found := _LOOPBACK.fullmatch(text)) and int(found[1]) <= _PORT_MAX:
        return _LOOPBACK_HEAD + int(found[1]).to_bytes(2, "big")
    if (found := _ONION.fullmatch(text)) and int(found[2]) <= _PORT_MAX:
        return _ONION_HEAD + b32decode(found[1].upper()) + int(found[2]).to_bytes(2, "big")
    raise ValueError(f"{text} is neither /onion3/ADDRESS:PORT nor /ip4/127.0.0.1/tcp/PORT")


def written_out(address: bytes) -> str:
    """A multiaddr for people; raises ValueError for one of another kind."""
    port = int.from_bytes(address[-2:], "big")
    if port and address.startswith(_LOOPBACK_HEAD) and len(address) == len(_LOOPBACK_HEAD) + 2:
        return f"/ip4/127.0.0.1/tcp/{port}"
    if port and address.startswith(_ONION_HEAD) and len(address) == len(_ONION_HEAD) + 35 + 2:
        return f"/onion3/{b32encode(address[2:37]).decode().lower()}:{port}"
    raise ValueError("not a multiaddr of this network")
