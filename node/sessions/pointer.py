"""Where a session's dossier lies, as a body of the owner's index log: the first thing that a new machine reads back.

    body = 01 ‖ generation u32 ‖ nonce 24 ‖ XChaCha20-Poly1305(key, nonce, Placement of the dossier, ad = label ‖ generation)

Strangers keep the log for the owner and can read nothing of it but that there are sessions (DESIGN §5). The nonce is a
keyed hash of the content. Bodies with another first byte are other parts' business.
"""

from typing import Final

from consensus.encoding import Malformed
from consensus.records import pack, unpack
from node.sessions.placement import Placement
from node.wallet.vault import Secrets
from pipeline.seal import RecordKey, Unauthentic

KIND: Final = b"\x01"
LABEL: Final = b"lucid/pointer/v1"
_HEAD: Final = 1 + 4


def _key(secrets: Secrets, generation: int) -> RecordKey:
    return RecordKey.derive(LABEL, secrets.masters[generation], LABEL)


def write_pointer(placement: Placement, secrets: Secrets) -> bytes:
    """The body that points to a dossier, sealed under the newest master key; some 330 bytes."""
    generation = len(secrets.masters) - 1
    head = KIND + generation.to_bytes(4, "big")
    return head + _key(secrets, generation).seal(pack(placement), LABEL + head)


def read_pointer(body: bytes, secrets: Secrets) -> Placement | None:
    """The placement that a body points to; None for another kind of body, or a key that this vault does not hold.

    Raises Malformed for one that was changed.
    """
    if body[:1] != KIND or len(body) < _HEAD + RecordKey.OVERHEAD:
        return None
    head = body[:_HEAD]
    generation = int.from_bytes(head[1:], "big")
    if generation >= len(secrets.masters):
        return None
    try:
        plain = _key(secrets, generation).open(body[_HEAD:], LABEL + head)
    except Unauthentic:
        raise Malformed("a pointer that was changed, or is another owner's") from None
    return unpack(Placement, plain)
