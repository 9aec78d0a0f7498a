"""libp2p's Noise handshake, XX over 25519, ChaChaPoly and SHA-256, as messages in and out.

    who dialled ── e ──────────────────→ who was dialled
                ←─ e, ee, s, es, proof ──
                ── s, se, proof ───────→ then each has a cipher for either way

A proof is protobuf: the node's Ed25519 key, and its signature over the Noise key `s` of this run. So whoever holds `s`
speaks for the node, and nobody else has its proof. The state machine of Noise is the package noiseprotocol's, the
primitives are those of `cryptography`; what is ours here is the proof. Nothing of it outlives the process.

Everything comes from a stranger, and whatever is no handshake is Malformed. Source: noiseprotocol.org, revision 34 §5, §7.5;
libp2p/specs noise/README.md ("The Libp2p Handshake Payload").
"""

from collections.abc import Callable
from typing import Final, cast

from cryptography.exceptions import InvalidTag
from google.protobuf.message import DecodeError
from noise.connection import Keypair, NoiseConnection
from noise.exceptions import NoiseValueError

from consensus.encoding import Malformed
from consensus.ids import NodeId
from consensus.signing import KeyPair, verify_as_is
from node.overlay.protobufs import message_classes
from node.overlay.wire import public_key_pb

NAME: Final = b"Noise_XX_25519_ChaChaPoly_SHA256"
_SIGNED_PREFIX: Final = b"noise-libp2p-static-key:"
_KEY_HEAD: Final = public_key_pb(NodeId(b""))
_PROOF: Final = message_classes("lucid.noise", {"Proof": "1 bytes key, 2 bytes signature"})("Proof")

Cipher = Callable[[bytes], bytes]


class Handshake:
    """One side of one handshake: `write` and `read` in turn, who dialled begins; `peer` is set by the peer's proof."""

    def __init__(self, keys: KeyPair, noise_secret: bytes, *, dialled: bool) -> None:
        """noise_secret: the X25519 key of this run, 32 bytes."""
        self.peer: NodeId | None = None
        self._keys = keys
        self._state = state = NoiseConnection.from_name(NAME)
        state.set_keypair_from_private_bytes(Keypair.STATIC, noise_secret)
        (state.set_as_initiator if dialled else state.set_as_responder)()
        state.start_handshake()
        # kept here because noiseprotocol lets go of it with the last message
        self._messages = state.noise_protocol.handshake_state
        self._is_first = True

    @property
    def finished(self) -> bool:
        """Whether all three messages are through, and so who the peer is."""
        return self.peer is not None and bool(self._state.handshake_finished)

    def write(self) -> bytes:
        """Our next message; raises Malformed when the peer's key is one of the few that agree on nothing secret."""
        proof = b"" if self._next_is_first() else self._proof()
        try:
            return bytes(self._state.write_message(proof))
        except ValueError as error:
            raise Malformed("a Noise key of low order") from error

    def read(self, message: bytes) -> None:
        """Take the peer's next message; raises Malformed for one that proves nobody, after which nothing more is of use."""
        try:
            payload = bytes(self._state.read_message(message))
        except (InvalidTag, NoiseValueError, ValueError) as error:
            raise Malformed("no message of a Noise handshake") from error
        if not self._next_is_first():
            self.peer = _proven(payload, self._messages.rs.public_bytes)

    def ciphers(self) -> tuple[Cipher, Cipher]:
        """How to seal what we send, 65,519 bytes at most, and to open what comes, which raises Malformed; once finished."""
        protocol = self._state.noise_protocol
        encrypt, decrypt = protocol.cipher_state_encrypt.encrypt_with_ad, protocol.cipher_state_decrypt.decrypt_with_ad

        def unseal(message: bytes) -> bytes:
            try:
                return cast("bytes", decrypt(None, message))
            except InvalidTag:
                raise Malformed("a Noise message that was tampered with") from None

        return lambda plain: cast("bytes", encrypt(None, plain)), unseal

    def _next_is_first(self) -> bool:
        first, self._is_first = self._is_first, False
        return first

    def _proof(self) -> bytes:
        signature = self._keys.sign_as_is(_SIGNED_PREFIX + self._messages.s.public_bytes)
        proof: bytes = _PROOF(key=public_key_pb(NodeId(self._keys.public)), signature=signature).SerializeToString()
        return proof


def _proven(payload: bytes, noise_public: bytes) -> NodeId:
    try:
        proof = _PROOF.FromString(payload)
    except DecodeError as error:
        raise Malformed("not protobuf") from error
    head, node = proof.key[: len(_KEY_HEAD)], NodeId(proof.key[len(_KEY_HEAD) :])
    if head != _KEY_HEAD or not verify_as_is(node, proof.signature, _SIGNED_PREFIX + noise_public):
        raise Malformed("a Noise key that no Ed25519 key has signed")
    return node
