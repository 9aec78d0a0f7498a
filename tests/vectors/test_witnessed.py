"""The stored vectors of witnessing and of era keys: frames are read and written for ever, and what was sealed is opened."""

from pathlib import Path

import cbor2
import pytest
from blake3 import blake3

from consensus.ids import Network
from consensus.report import statement_signable
from consensus.signing import KeyPair, verify_as_is
from node.overlay.witness_frames import KINDS
from node.wallet.eras import EraKeyFiles
from tests.vectors import witnessed
from tests.vectors.beacon import OWNER, RECEIPT
from tests.vectors.spoken import Entry
from tests.vectors.stored import vector

STORED = vector("witness_v1")
BYTES = {entry["name"]: bytes.fromhex(entry["bytes"]) for entry in STORED["entries"]}
NETWORK = Network(bytes.fromhex(STORED["network"]))


@pytest.mark.parametrize("entry", witnessed.WITNESSED, ids=lambda entry: entry.name)
def test_frames_of_witnesses_are_read_and_written_for_ever(entry: Entry) -> None:
    data = BYTES[entry.name]
    assert entry.read(data) == entry.thing
    assert entry.write(entry.thing) == data
    assert data[0] == [*BYTES].index(entry.name)
    assert cbor2.dumps(cbor2.loads(data[1:]), canonical=True) == data[1:]


def test_there_is_a_frame_of_each_kind() -> None:
    assert [*BYTES] == [kind.__name__ for kind in KINDS]


def test_a_claim_is_called_by_its_hash_and_a_statement_is_signed_over_it() -> None:
    root = blake3(b"lucid/claim/v1" + NETWORK + BYTES["Claim"][1:]).digest()
    assert root.hex() == STORED["claim_root"] == cbor2.loads(BYTES["Next"][1:])["root"].hex()
    statement = cbor2.loads(BYTES["Stated"][1:])["statement"]
    said = b"lucid/statement/v1" + NETWORK + RECEIPT.holder + (1 << 33).to_bytes(8, "big") + root + statement[:8]
    assert said == statement_signable(NETWORK, RECEIPT.holder, 1 << 33, witnessed.ROOT, statement[:8])
    assert verify_as_is(OWNER.public, statement[8:], said)
    assert statement[:8] == bytes.fromhex("011170 000003 029a")


def test_the_keys_of_an_era_are_opened_for_ever(tmp_path: Path) -> None:
    kept = STORED["era_keys"]
    sealed = bytes.fromhex(kept["file"])
    assert witnessed.sealed_era() == sealed
    (tmp_path / str(kept["era"])).write_bytes(sealed)
    files = EraKeyFiles(tmp_path, KeyPair.from_seed(bytes.fromhex(kept["identity_seed"])), NETWORK)
    keys = files.keys_of(bytes.fromhex(kept["signing_public"]))
    assert keys is not None
    assert keys.vrf_secret.hex() == kept["vrf_secret"]
    assert files.new_keys(kept["era"]) == keys
