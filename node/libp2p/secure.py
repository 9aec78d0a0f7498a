"""Who is at the other end, and that nobody listens: libp2p's Noise handshake over a stream, both sides.

It is given a stream of bytes and hands back who the peer is and two functions that seal and open what travels from then on.
Source: libp2p/specs: noise/README.md ("Wire Format"), connections/README.md.
"""

import secrets
from typing import Final, NamedTuple

import trio

from consensus.encoding import Malformed
from consensus.ids import NodeId
from consensus.signing import KeyPair
from node.libp2p.handshake import Cipher, Handshake
from node.libp2p.multistream import Accepting, NotSpoken, Proposed, proposal
from node.net.swarm import Unreachable, Unwilling

NOISE: Final = "/noise"
READ_BYTES: Final = 4096
"""A handshake's messages are some hundred bytes."""


class Secured(NamedTuple):
    """A connection whose peer is proven."""

    peer: NodeId
    seal: Cipher
    """Plaintext of 65,519 bytes at most to one Noise message."""
    unseal: Cipher
    """One Noise message to its plaintext; raises Malformed."""
    early: bytes
    """What came behind the handshake already."""


class Identity:
    """Our node, to whoever connects."""

    def __init__(self, keys: KeyPair, noise_secret: bytes | None = None) -> None:
        """noise_secret: the X25519 key of this run, 32 bytes; a new one if none is given."""
        self._keys = keys
        self._noise_secret = noise_secret or secrets.token_bytes(32)

    async def secure_outbound(self, stream: trio.abc.Stream, expected: NodeId) -> Secured:
        """Prove each other as who dialled; raises Unwilling when it is somebody else, Unreachable for all that fails."""
        handshake = Handshake(self._keys, self._noise_secret, dialled=True)
        try:
            await stream.send_all(proposal(NOISE) + _sized(handshake.write()))
            held = await _agreed(stream)
            message, held = await _message(stream, held)
            handshake.read(message)
            if handshake.peer != expected:
                raise Unwilling("another node than the one that was looked for")
            await stream.send_all(_sized(handshake.write()))
        except (NotSpoken, Malformed) as error:
            raise Unwilling(f"no node of ours: {error}") from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Unreachable("the connection broke within its handshake") from error
        return Secured(expected, *handshake.ciphers(), held)

    async def secure_inbound(self, stream: trio.abc.Stream) -> Secured:
        """Prove each other as who was dialled; raises Unreachable for all that fails."""
        handshake = Handshake(self._keys, self._noise_secret, dialled=False)
        try:
            held = await _accepted(stream)
            message, held = await _message(stream, held)
            handshake.read(message)
            await stream.send_all(_sized(handshake.write()))
            message, held = await _message(stream, held)
            handshake.read(message)
        except Malformed as error:
            raise Unreachable(f"no handshake: {error}") from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Unreachable("the connection broke within its handshake") from error
        assert handshake.peer is not None
        return Secured(handshake.peer, *handshake.ciphers(), held)


def _sized(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


async def _more(stream: trio.abc.Stream) -> bytes:
    data = bytes(await stream.receive_some(READ_BYTES))
    if not data:
        raise Unreachable("the connection ended within its handshake")
    return data


async def _message(stream: trio.abc.Stream, held: bytes) -> tuple[bytes, bytes]:
    """The next message, and what came behind it."""
    while len(held) < 2 or len(held) < 2 + int.from_bytes(held[:2], "big"):
        held += await _more(stream)
    end = 2 + int.from_bytes(held[:2], "big")
    return held[2:end], held[end:]


async def _agreed(stream: trio.abc.Stream) -> bytes:
    """What came behind the answer to our proposal."""
    proposed = Proposed(NOISE)
    while (held := proposed.feed(await _more(stream))) is None:
        pass
    return held


async def _accepted(stream: trio.abc.Stream) -> bytes:
    """What came behind the proposal that we took."""
    accepting, held = Accepting((NOISE,)), b""
    while accepting.chosen is None:
        answer, held = accepting.feed(await _more(stream))
        if answer:
            await stream.send_all(answer)
    return held
