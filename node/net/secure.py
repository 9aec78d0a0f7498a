"""Who is at the other end, and that nobody listens: libp2p's identity, Noise handshake and identify, from py-libp2p.

The only module that knows the library. It is given a stream of bytes and hands back who the peer is and two functions that
seal and open what travels from then on; what the library keeps of a handshake ends there. `import libp2p` takes 58 MB and
half a second of CPU, since it loads every transport that it has.

Everything comes from a stranger. The library raises whatever occurs to it on odd input, so that all of it becomes
Unreachable here. Source: libp2p/specs: noise/README.md, identify/README.md, peer-ids/peer-ids.md.
"""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from libp2p.crypto.ed25519 import Ed25519PrivateKey
from libp2p.crypto.keys import KeyPair as Libp2pKeys
from libp2p.crypto.x25519 import create_new_key_pair as new_noise_keys
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.peer.peerstore import create_signed_peer_record
from libp2p.security.noise.io import BaseNoiseMsgReadWriter
from libp2p.security.noise.transport import Transport as Noise
from libp2p.security.secure_session import SecureSession
from multiaddr import Multiaddr

from consensus.encoding import Malformed
from consensus.ids import NodeId
from consensus.signing import KeyPair
from node.net.multistream import Accepting, NotSpoken, Proposed, proposal
from node.net.swarm import Unreachable, Unwilling
from node.overlay import wire

if TYPE_CHECKING:
    import trio
    from libp2p.abc import ISecureConn

NOISE: Final = "/noise"
PROTOCOL_VERSION: Final = "lucid/1"
AGENT: Final = "lucid-node"
READ_BYTES: Final = 4096
"""A handshake's messages are some hundred bytes."""

logging.getLogger("libp2p").setLevel(logging.CRITICAL + 1)  # it warns of every stranger's oddity; ours are events


class Secured(NamedTuple):
    """A connection whose peer is proven."""

    peer: NodeId
    seal: Callable[[bytes], bytes]
    """Plaintext of 65,519 bytes at most to one Noise message."""
    unseal: Callable[[bytes], bytes]
    """One Noise message to its plaintext; raises Malformed."""
    early: bytes
    """What came behind the handshake already."""


class _Wire:
    """A trio stream as the library reads and writes one, with multistream-select's lines slipped in at the start."""

    def __init__(self, stream: "trio.abc.Stream", proposed: str | None) -> None:
        self._stream = stream
        self._early = b"" if proposed is None else proposal(proposed)
        self._proposed = None if proposed is None else Proposed(proposed)
        self.held = b""

    async def write(self, data: bytes) -> None:
        early, self._early = self._early, b""
        await self._stream.send_all(early + data)

    async def read(self, most: int | None = None) -> bytes:
        while self._proposed is not None:
            rest = self._proposed.feed(await self.receive())
            if rest is not None:
                self._proposed, self.held = None, rest
        if not self.held:
            self.held = await self.receive()
        most = len(self.held) if most is None else most
        data, self.held = self.held[:most], self.held[most:]
        return data

    async def receive(self) -> bytes:
        data = bytes(await self._stream.receive_some(READ_BYTES))
        if not data:
            raise Unreachable("the connection ended within its handshake")
        return data

    async def accept(self) -> None:
        """The other side of what `proposed` does."""
        accepting = Accepting((NOISE,))
        while accepting.chosen is None:
            answer, self.held = accepting.feed(await self.receive())
            if answer:
                await self._stream.send_all(answer)

    async def close(self) -> None:
        await self._stream.aclose()

    def get_remote_address(self) -> None:
        """Behind Tor all addresses are loopback's, and mean nothing."""


class Identity:
    """Our node, as libp2p knows it."""

    def __init__(self, keys: KeyPair) -> None:
        private = Ed25519PrivateKey.from_bytes(keys.secret[:32])
        self._keys = Libp2pKeys(private, private.get_public_key())
        self._noise = Noise(self._keys, new_noise_keys().private_key)
        self._id = ID(wire.peer_id(NodeId(keys.public)))

    async def secure_outbound(self, stream: "trio.abc.Stream", expected: NodeId) -> Secured:
        """Prove each other as who dialled; raises Unwilling when it is somebody else, Unreachable for all that fails."""
        link = _Wire(stream, NOISE)
        connection = RawConnection(cast("trio.abc.Stream", link), True)  # type: ignore[arg-type]  # by shape
        try:
            session = await self._noise.secure_outbound(connection, ID(wire.peer_id(expected)))
            secured = _secured(session, link.held)
        except (NotSpoken, Malformed) as error:
            raise Unwilling(f"no node of ours: {error}") from error
        except Unreachable:
            raise
        except Exception as error:
            if type(error).__name__ == "PeerIDMismatchesPubkey":
                raise Unwilling("another node than the one that was looked for") from error
            raise Unreachable(f"the handshake failed: {type(error).__name__}") from error
        if secured.peer != expected:
            raise Unwilling("another node than the one that was looked for")
        return secured

    async def secure_inbound(self, stream: "trio.abc.Stream") -> Secured:
        """Prove each other as who was dialled; raises Unreachable for all that fails."""
        link = _Wire(stream, None)
        try:
            await link.accept()
            session = await self._noise.secure_inbound(RawConnection(link, False))  # type: ignore[arg-type]  # by shape
            return _secured(session, link.held)
        except Unreachable:
            raise
        except Exception as error:
            raise Unreachable(f"the handshake failed: {type(error).__name__}") from error

    def identify(self, addresses: Sequence[bytes], protocols: Sequence[str]) -> bytes:
        """What /ipfs/id/1.0.0 answers, without length: our key, addresses (binary multiaddrs) and protocols, signed."""
        listed = [Multiaddr(address) for address in addresses]
        record = create_signed_peer_record(self._id, listed, self._keys.private_key)
        return Identify(
            protocol_version=PROTOCOL_VERSION,
            agent_version=AGENT,
            public_key=self._keys.public_key.serialize(),
            listen_addrs=addresses,
            protocols=protocols,
            signedPeerRecord=record.marshal_envelope(),
        ).SerializeToString()


def _secured(session: "ISecureConn", held: bytes) -> Secured:
    """The library's session taken apart; raises Malformed for an identity that is no Ed25519 key."""
    peer = wire.node_id(session.get_remote_peer().to_bytes())
    messages = cast("BaseNoiseMsgReadWriter", cast("SecureSession", session).conn)
    state = messages.noise_state.noise_protocol
    seal, unseal = state.cipher_state_encrypt.encrypt_with_ad, state.cipher_state_decrypt.decrypt_with_ad

    def opened(message: bytes) -> bytes:
        try:
            return cast("bytes", unseal(None, message))
        except Exception as error:
            raise Malformed("a Noise message that was tampered with") from error

    return Secured(peer, lambda plain: cast("bytes", seal(None, plain)), opened, held)
