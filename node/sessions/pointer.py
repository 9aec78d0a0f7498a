"""Where a session's dossier lies, as a body of the owner's index log: the first thing that a new machine reads back.

    body = 01 ‖ generation u32 ‖ nonce 24 ‖ XChaCha20-Poly1305(key, nonce, Placement of the dossier, ad = label ‖ generation)

Strangers keep the log for the owner and can read nothing of it but that there are sessions (DESIGN §5). The nonce is a
keyed hash of the content. Bodies with another first byte are other parts' business.
"""

from typing import Final

from blake3 import blake3

from consensus.encoding import Malformed
from consensus.records import pack, unpack
from node.sessions.replication import Placement
from node.wallet.vault import Secrets
from pipeline.seal import Unauthentic, decrypt, encrypt, expand, extract

KIND: Final = b"\x01"
LABEL: Final = b"lucid/pointer/v1"
_HEAD: Final = 1 + 4
_NONCE: Final = 24
_TAG: Final = 16


def _keys(secrets: Secrets, generation: int) -> tuple[bytes, bytes]:
    both = expand(extract(LABEL, secrets.masters[generation]), LABEL, 64)
    return both[:32], both[32:]


def write_pointer(placement: Placement, secrets: Secrets) -> bytes:
    """The body that points to a dossier, sealed under the newest master key; some 330 bytes."""
    generation = len(secrets.masters) - 1
    key, nonce_key = _keys(secrets, generation)
    plain, head = pack(placement), KIND + generation.to_bytes(4, "big")
    nonce = blake3(plain, key=nonce_key).digest(length=_NONCE)
    return head + nonce + encrypt(key, nonce, plain, LABEL + head)


def read_pointer(body: bytes, secrets: Secrets) -> Placement | None:
    """The placement that a body points to; None for another kind of body, or a key that this vault does not hold.

    Raises Malformed for one that was changed.
    """
    if body[:1] != KIND or len(body) < _HEAD + _NONCE + _TAG:
        return None
    head, nonce, sealed = body[:_HEAD], body[_HEAD : _HEAD + _NONCE], body[_HEAD + _NONCE :]
    generation = int.from_bytes(head[1:], "big")
    if generation >= len(secrets.masters):
        return None
    try:
        plain = decrypt(_keys(secrets, generation)[0], nonce, sealed, LABEL + head)
    except Unauthentic:
        raise Malformed("a pointer that was changed, or is another owner's") from None
    return unpack(Placement, plain)
