"""The stored vectors: what was written under a version is read for ever, and nothing overwrites it."""

import hmac
import json
from pathlib import Path
from typing import Any

import cbor2
import pytest
from blake3 import blake3
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt

from consensus.ids import SessionId
from consensus.records import pack, unpack
from node.sessions import dossier
from node.sessions.pointer import LABEL, read_pointer
from node.wallet.vault import account_address, open_vault, spelled
from pipeline.manifest import Chunk, Head, Listing, Manifest, Opening, Signed, identity, open_opening, signed_by
from tests.vectors import make, spoken
from tests.vectors.stored import FOLDER, vector

RECORDS = vector("records_v1")


@pytest.mark.parametrize("entry", RECORDS["records"], ids=lambda entry: entry["class"])
def test_records_of_version_1_are_read_and_written_for_ever(entry: dict[str, Any]) -> None:
    (record,) = (record for record in make.RECORDS if type(record).__name__ == entry["class"])
    packed = bytes.fromhex(entry["packed"])
    assert unpack(type(record), packed) == record
    assert pack(record) == packed
    assert make.shown(cbor2.loads(packed)) == entry["fields"]


@pytest.mark.parametrize("entry", RECORDS["records"], ids=lambda entry: entry["class"])
def test_a_record_is_called_by_the_hash_of_its_bytes_in_its_domain(entry: dict[str, Any]) -> None:
    (record,) = (record for record in make.RECORDS if type(record).__name__ == entry["class"])
    packed, fields = bytes.fromhex(entry["packed"]), entry["fields"]
    match record:
        case Opening() | Head() | Listing() | Manifest():
            name = {"Opening": b"opening", "Head": b"head", "Listing": b"listing", "Manifest": b"manifest"}
            by_hand = blake3(b"lucid/" + name[entry["class"]] + b"/v1" + make.NETWORK + packed).digest()
            assert identity(record, make.NETWORK).hex() == entry["identity"] == by_hand.hex()
        case Chunk():
            place = bytes([fields["stream"]]) + fields["index"].to_bytes(8, "big")
            hashes = bytes.fromhex(fields["file"] + fields["commitment"] + fields["segments"])
            by_hand = blake3(b"\x00" + place + hashes + fields["size"].to_bytes(8, "big")).digest()
            assert record.leaf().hex() == entry["leaf"] == by_hand.hex()
        case Signed():
            signer = bytes.fromhex(entry["signer"])
            assert signed_by(record, Opening, signer, make.NETWORK)
            assert not signed_by(record, Manifest, signer, make.NETWORK)
            assert open_opening(record) == make.OPENING
        case _:
            assert entry.keys() == {"class", "packed", "fields"}


def test_every_record_class_has_a_vector() -> None:
    assert [entry["class"] for entry in RECORDS["records"]] == [type(record).__name__ for record in make.RECORDS]
    assert len({entry["class"] for entry in RECORDS["records"]}) == 10


SPOKEN_AND_KEPT = [
    pytest.param(entry, stored, id=entry.name)
    for entries, name in ((spoken.SPOKEN, "spoken_v1"), (spoken.SPOKEN_LATER, "spoken_v2"), (spoken.KEPT, "kept_v1"))
    for entry, stored in zip(entries, vector(name)["entries"], strict=True)
]


@pytest.mark.parametrize(("entry", "stored"), SPOKEN_AND_KEPT)
def test_what_nodes_say_and_keep_is_read_and_written_for_ever(entry: spoken.Entry, stored: dict[str, str]) -> None:
    assert entry.name == stored["name"]
    data = bytes.fromhex(stored["bytes"])
    assert entry.read(data) == entry.thing
    assert entry.write(entry.thing) == data
    body = data[1:] if data[:1] == b"\x01" else data  # anti-entropy's version byte stands before the CBOR
    assert cbor2.dumps(cbor2.loads(body), canonical=True) == body


def test_a_vault_of_version_1_opens_for_ever() -> None:
    stored = vector("kept_v1")["vault"]
    assert open_vault(bytes.fromhex(stored["closed"]), stored["passphrase"].encode()) == spoken.SECRETS
    assert open_vault(bytes.fromhex(stored["open"]), None) == spoken.SECRETS
    assert spelled(spoken.SECRETS).hex() == stored["secrets"]


def test_a_vault_with_former_accounts_opens_for_ever() -> None:
    stored = vector("vault_v2")
    for name, phrase in (("closed", stored["passphrase"].encode()), ("open", None)):
        found = open_vault(bytes.fromhex(stored[name]), phrase)
        assert found == spoken.ROTATED
        assert [account_address(key).hex() for key in (*found.former, found.account_key)] == stored["addresses"]
    assert spelled(spoken.ROTATED).hex() == stored["secrets"]


def by_hand(secret: str, salt: bytes, label: bytes, sealed: bytes, head: bytes) -> bytes:
    """What is sealed, by libsodium, under a key of RFC 5869's HKDF over BLAKE2b."""
    first = hmac.digest(salt, bytes.fromhex(secret), "blake2b")
    key = hmac.digest(first, label + b"\x01", "blake2b")
    return crypto_aead_xchacha20poly1305_ietf_decrypt(sealed[24:], label + head, sealed[:24], key[:32])


def test_a_dossier_and_a_pointer_of_version_1_open_for_ever_and_by_libsodium() -> None:
    stored = vector("kept_v1")
    kept, pointer = stored["dossier"], bytes.fromhex(stored["pointer"]["body"])
    sealed, session = bytes.fromhex(kept["sealed"]), SessionId(bytes.fromhex(kept["session"]))
    assert dossier.unseal(sealed, session, bytes.fromhex(kept["secret"])) == spoken.DOSSIER
    assert read_pointer(pointer, spoken.SECRETS) == spoken.PLACEMENT
    assert sealed[:1] == b"\x01"
    assert by_hand(kept["secret"], session, dossier.LABEL, sealed[1:], session) == pack(spoken.DOSSIER)
    master, head = stored["pointer"]["master"], pointer[:5]
    assert head == b"\x01" + (2).to_bytes(4, "big")
    assert by_hand(master, LABEL, LABEL, pointer[5:], head) == pack(spoken.PLACEMENT)


def test_every_vector_says_where_it_comes_from() -> None:
    files = sorted(FOLDER.glob("*.json"))
    readme = (FOLDER / "README.md").read_text()
    assert len(files) >= 9
    for file in files:
        assert len(json.loads(file.read_text())["origin"]) > 20
        assert f"`{file.name}`" in readme


def test_the_maker_makes_what_is_stored_and_never_overwrites(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make.main(tmp_path) == 0
    for name in make.MAKERS:
        made, stored = json.loads((tmp_path / f"{name}.json").read_text()), vector(name)
        if name == "sealed_v1":  # another Zstandard may pack the second chunk another way, and that is no fault
            made["chunks"].pop(1)
            stored["chunks"].pop(1)
        if (
            name == "consensus_v1"
        ):  # whose blocks led elsewhere under the rules of before, and are only read (test_agreed)
            stored.pop("history")
            stored["genesis"] = {part: stored["genesis"][part] for part in made["genesis"]}
        assert made == stored
    (tmp_path / "merkle.json").write_text("kept")
    (tmp_path / "hkdf.json").unlink()
    capsys.readouterr()
    assert make.main(tmp_path) == 1
    assert (tmp_path / "merkle.json").read_text() == "kept"
    assert (tmp_path / "hkdf.json").exists()
    assert capsys.readouterr().out.count("exists and stays as it is") == len(make.MAKERS) - 1
