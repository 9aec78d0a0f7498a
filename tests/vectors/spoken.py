"""The entries of `spoken_v1.json` and `kept_v1.json`: what nodes say to each other, and what a home keeps, one of each kind.

Deposits and receipts are those of beacon.py. Of what is sealed the key is in the vector, so that libsodium opens it.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_pwhash_alg,
    crypto_pwhash_ALG_ARGON2ID13,
)

from consensus.beacon import receipt_id, show
from consensus.encoding import decode, encode
from consensus.ids import Digest, Millis, NodeId, SessionId
from consensus.merkle import SEGMENT
from consensus.records import pack, unpack
from node.net.transfer import Ask, Give
from node.overlay import replica_frames as replicas
from node.overlay.advert import Advert, read_advert, write_advert
from node.overlay.custody import Custody, Holding, incoming_row, read_incoming, read_row
from node.overlay.entries import LogName
from node.overlay.reconcile_frames import (
    AskRanges,
    Cuts,
    FetchEntries,
    GiveEntries,
    Message,
    PushEntries,
    Span,
    TellRanges,
    TookEntries,
    read_frame,
    write_frame,
)
from node.overlay.values import NamedValue, SignedValue
from node.sessions import dossier
from node.sessions.dossier import Dossier
from node.sessions.drill import Drill
from node.sessions.placement import Placement
from node.sessions.pointer import write_pointer
from node.sessions.records import Kept, Row
from node.tor.rotation import OnionKeys
from node.wallet.vault import Secrets, account_address, close, spelled
from pipeline.manifest import Chunk, GapNote, Signed
from pipeline.stream import Stream
from tests.vectors.beacon import CHUNK, DEPOSIT, HOLDER, NETWORK, OWNER, RECEIPT, REPLICA, ROOTS, SEED, SIZE


class Entry(NamedTuple):
    """A thing, its bytes, and both ways between them."""

    name: str
    thing: Any
    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]


def record(thing: Any) -> Entry:
    """An entry for a record."""
    return Entry(type(thing).__name__, thing, pack, lambda data: unpack(type(thing), data))


def text(start: int, size: int = 32) -> bytes:
    """Consecutive byte values."""
    return bytes(value % 256 for value in range(start, start + size))


SIGNED_DEPOSIT: Final = OWNER.sign("deposit", NETWORK, pack(DEPOSIT))
RECEIPT_SIGNED: Final = replicas.SignedReceipt(pack(RECEIPT), HOLDER.sign("receipt", NETWORK, pack(RECEIPT)))
STRANGER: Final = NodeId(text(0x11))
SESSION: Final = SessionId(text(0x20))
PLACEMENT: Final = Placement(SESSION, 2, CHUNK, SIZE, 1 << 33, SEED, ROOTS)
ROW: Final = Row(
    Chunk(
        stream=Stream.AUDIT,
        index=(1 << 33) + 5,
        file=Digest(text(0x01)),
        commitment=Digest(text(0x02)),
        segments=Digest(text(0x03)),
        size=8_000_132,
        plain=9_000_000,
        flags=1,
        gaps=1,
        first=Millis(1_700_000_000_100),
        last=Millis(1_700_000_200_000),
    ),
    (GapNote(Stream.VIDEO, 1 << 40, Millis(1_700_000_100_000), Millis(1_700_000_101_500), "ffmpeg died – again"),),
)
DOSSIER: Final = Dossier(b"an opening", b"a manifest", (ROW,), (Signed(b"a head", text(0xC0, 64)),), (PLACEMENT,))


def _replica(name: str, thing: replicas.ReplicaFrame, data: bytes) -> Entry:
    return Entry(name, thing, lambda _: data, replicas.read)


def _reconcile(thing: Message) -> Entry:
    return Entry(type(thing).__name__, thing, write_frame, read_frame)


_SPANS: Final = (Span(LogName.DIRECTORY, b"", text(0x40)), Span(LogName.INDEX, text(0x40), None))
_SHOWN: Final = ((CHUNK, show(REPLICA, (0, 2))),)
_ASKED: Final = ((CHUNK, receipt_id(RECEIPT)),)
_VALUE: Final = NamedValue(NodeId(OWNER.public), b"name", 1 << 33, Millis(1_700_003_600_000), b"body")

SPOKEN: Final = (
    _replica(
        "ReplicaOffer",
        replicas.ReplicaOffer(pack(DEPOSIT), SIGNED_DEPOSIT, 2, (RECEIPT_SIGNED,)),
        replicas.offer(replicas.ReplicaOffer(pack(DEPOSIT), SIGNED_DEPOSIT, 2, (RECEIPT_SIGNED,))),
    ),
    *(
        _replica(f"ReplicaVerdict {answer.name}", replicas.ReplicaVerdict(answer), replicas.verdict(answer))
        for answer in replicas.Answered
    ),
    _replica("ReceiptsTold", replicas.ReceiptsTold((RECEIPT_SIGNED,)), replicas.told((RECEIPT_SIGNED,))),
    _replica("CopyUndone", replicas.CopyUndone(CHUNK, 1), replicas.undone(CHUNK, 1)),
    _replica("SegmentsAsked", replicas.SegmentsAsked(1 << 33, _ASKED, None), encode([1, 5, 1 << 33, list(_ASKED)])),
    _replica("SegmentsShown", replicas.SegmentsShown(7, _SHOWN), replicas.shown(7, list(_SHOWN))),
    _replica("HolderMissing", replicas.HolderMissing(CHUNK, STRANGER), replicas.missing(CHUNK, STRANGER)),
    _replica("ReplicaReleased", replicas.ReplicaReleased(CHUNK), replicas.released(CHUNK)),
    _reconcile(AskRanges(_SPANS, (text(0x50, 16), text(0x60, 16)))),
    _reconcile(
        TellRanges(((1, Cuts((text(0x48),), (3, 1 << 10), (text(0x51, 16), text(0x52, 16)))), (2, Cuts((), (), ()))))
    ),
    _reconcile(FetchEntries(_SPANS, (text(0x50, 32), b""))),
    _reconcile(GiveEntries((text(0x44), None), (b"\x03", b""), (b"an entry", b"another"))),
    _reconcile(PushEntries((b"an entry",))),
    _reconcile(TookEntries(64)),
    record(Ask(CHUNK, ROOTS[1], SEGMENT, 1 << 20)),
    record(Give(SIZE, "")),
    Entry("Advert", Advert((b"\x01", b"\x02"), 10**9, "lucid-node 0.1.0"), write_advert, read_advert),
    record(_VALUE),
    record(SignedValue(pack(_VALUE), OWNER.sign("value", NETWORK, pack(_VALUE)))),
)


SPOKEN_LATER: Final = (
    _replica(
        "SegmentsAsked by a nonce",
        replicas.SegmentsAsked(1 << 33, _ASKED, Digest(text(0x70))),
        replicas.asked(1 << 33, Digest(text(0x70)), list(_ASKED)),
    ),
)
"""What nodes of later versions say, in the order in which it came."""


def _custody() -> Custody:
    """One of ours with a holder that counts, and a copy under way."""
    made = Custody(DEPOSIT, pack(DEPOSIT), SIGNED_DEPOSIT, owned=True)
    made.holders[RECEIPT.holder] = Holding(RECEIPT, RECEIPT_SIGNED, Millis(0), live=True)
    made.copying[2] = STRANGER
    return made


CUSTODY: Final = _custody().persist().value or b""
INCOMING: Final = incoming_row(pack(DEPOSIT), SIGNED_DEPOSIT, 1, STRANGER)

KEPT: Final = (
    record(ROW),
    record(PLACEMENT),
    record(DOSSIER),
    record(OnionKeys(text(0x10), 4, text(0x30), text(0x50), Millis(1_700_000_000_000), b"a rotation")),
    record(Drill(Millis(1_700_000_000_000), "exported.age", 2, 3, 4, ("session ab was lost",))),
    Entry("Custody", decode(CUSTODY), encode, lambda data: (read_row(data, NETWORK), decode(data))[1]),
    Entry("Incoming", decode(INCOMING), encode, lambda data: (read_incoming(data, NETWORK), decode(data))[1]),
)


MASTERS: Final = (text(0x70), text(0x71), text(0x72))
SECRETS: Final = Secrets(text(0x60), text(0x61), MASTERS)
PASSPHRASE: Final = "korrektes Pferd – 🐎"


def closed_vault(secrets: Secrets = SECRETS) -> bytes:
    """A vault file under a passphrase, spelt out: Argon2id at its cheapest, then XChaCha20-Poly1305 over the packed secrets."""
    salt, nonce, ops, memory = text(0x80, 16), text(0x90, 24), 1, 8192
    key = crypto_pwhash_alg(32, PASSPHRASE.encode(), salt, ops, memory, crypto_pwhash_ALG_ARGON2ID13)
    head = encode(["lucid/vault/v1", "argon2id", ops, memory, salt, nonce])
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(spelled(secrets), head, nonce, key)
    return encode(
        {"v": 1, "kdf": "argon2id", "ops": ops, "memory": memory, "salt": salt, "nonce": nonce, "sealed": sealed}
    )


ROTATED: Final = Secrets(text(0x60), text(0x63), MASTERS, (text(0x61), text(0x62)))


def vault_v2() -> dict[str, Any]:
    """A vault whose account was rotated twice, open and closed."""
    return {
        "origin": "Secrets of version 2, with former accounts, as first released; made by spoken.py.",
        "passphrase": PASSPHRASE,
        "secrets": spelled(ROTATED).hex(),
        "closed": closed_vault(ROTATED).hex(),
        "open": close(ROTATED, None).hex(),
        "addresses": [account_address(key).hex() for key in (*ROTATED.former, ROTATED.account_key)],
    }


def sealed_dossier() -> bytes:
    """DOSSIER sealed for SESSION."""
    kept = Kept(DOSSIER.opening, DOSSIER.manifest, DOSSIER.rows, DOSSIER.heads)
    return dossier.seal(kept, DOSSIER.placements, SESSION, SECRETS.session_secret(2, SESSION))


def spoken_v1() -> dict[str, Any]:
    """What nodes say to each other on our own protocols."""
    return {"origin": "Messages of version 1 as first released, made by spoken.py.", "entries": entries(SPOKEN)}


def spoken_v2() -> dict[str, Any]:
    """What they say since."""
    return {"origin": "A challenge of kind 9, drawn by a nonce, made by spoken.py.", "entries": entries(SPOKEN_LATER)}


def kept_v1() -> dict[str, Any]:
    """What a home keeps, its vault, and what of it is sealed and handed to strangers."""
    return {
        "origin": "Records of version 1 as first released, made by spoken.py; the closed vault spelt out there by hand.",
        "entries": entries(KEPT),
        "vault": {
            "passphrase": PASSPHRASE,
            "secrets": spelled(SECRETS).hex(),
            "closed": closed_vault().hex(),
            "open": close(SECRETS, None).hex(),
        },
        "dossier": {
            "session": SESSION.hex(),
            "secret": SECRETS.session_secret(2, SESSION).hex(),
            "sealed": sealed_dossier().hex(),
        },
        "pointer": {"master": MASTERS[-1].hex(), "body": write_pointer(PLACEMENT, SECRETS).hex()},
    }


def entries(of: tuple[Entry, ...]) -> list[dict[str, str]]:
    """The bytes of each, by name."""
    return [{"name": one.name, "bytes": one.write(one.thing).hex()} for one in of]
