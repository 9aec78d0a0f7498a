"""The entries of `witness_v1.json`: what a witness and a node say to each other, what a claim is called, and an ERA's sealed keys."""

from typing import Any, Final

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt

from consensus.beacon import show
from consensus.ids import Digest
from consensus.records import pack
from consensus.report import state_work
from consensus.signing import KeyPair
from consensus.tally import Work
from node.overlay.witness_frames import (
    Claim,
    ClaimAsked,
    Next,
    NextAsked,
    SampleAsked,
    ShownReplica,
    ShownSegment,
    Stated,
    Taken,
    WitnessSample,
    claim_root,
    read_witness,
    write_witness,
)
from pipeline.seal import expand, extract
from tests.vectors.beacon import DEPOSIT, HOLDER, NETWORK, OWNER, RECEIPT, REPLICA
from tests.vectors.spoken import RECEIPT_SIGNED, SIGNED_DEPOSIT, Entry, text

HOUR: Final = 1 << 33
NAMES: Final = tuple(sorted((RECEIPT.root, Digest(text(0x21)))))
CLAIM: Final = Claim(b"".join(NAMES), (RECEIPT.size, 1 << 24))
ROOT: Final = claim_root(CLAIM, NETWORK)
STATEMENT: Final = state_work(OWNER, NETWORK, RECEIPT.holder, HOUR, ROOT, Work(70_000, 3, 666))
SHOWN: Final = tuple(ShownSegment(*segment) for segment in show(REPLICA, (0, 2)))
PROMISED: Final = (pack(RECEIPT), RECEIPT_SIGNED.signature, pack(DEPOSIT), SIGNED_DEPOSIT)


def _frame(thing: Any) -> Entry:
    return Entry(type(thing).__name__, thing, write_witness, read_witness)


WITNESSED: Final = (
    _frame(ClaimAsked(HOUR)),
    _frame(CLAIM),
    _frame(SampleAsked(HOUR, NAMES)),
    _frame(WitnessSample((ShownReplica(*PROMISED, SHOWN),))),
    _frame(NextAsked(HOUR)),
    _frame(Next(ROOT)),
    _frame(Stated(HOUR, 8, STATEMENT)),
    _frame(Taken()),
)

ERA: Final = 1 << 20
SEEDS: Final = text(0x30) + text(0x50)


def sealed_era() -> bytes:
    """The file of an ERA's keys under the holder's identity, spelt out, with a nonce that is known."""
    label, nonce = b"lucid/era keys/v1" + NETWORK, text(0x90, 24)
    key = expand(extract(NETWORK, HOLDER.secret[:32]), label, 32)
    return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(SEEDS, label, nonce, key)


def witness_v1() -> dict[str, Any]:
    """The frames, the claim's name, and the sealed keys with what opens them."""
    return {
        "origin": "Frames and sealed era keys of version 1 as first released, made by witnessed.py; the sealed file spelt out there.",
        "network": NETWORK.hex(),
        "entries": [{"name": one.name, "bytes": one.write(one.thing).hex()} for one in WITNESSED],
        "claim_root": ROOT.hex(),
        "era_keys": {
            "era": ERA,
            "identity_seed": HOLDER.secret[:32].hex(),
            "signing_public": KeyPair.from_seed(SEEDS[:32]).public.hex(),
            "vrf_secret": SEEDS[32:].hex(),
            "file": sealed_era().hex(),
        },
    }
