"""The stored vectors: what was written under a version is read for ever, and nothing overwrites it."""

import json
from pathlib import Path
from typing import Any

import cbor2
import pytest
from blake3 import blake3

from consensus.records import pack, unpack
from pipeline.manifest import Chunk, Head, Listing, Manifest, Opening, Signed, identity, open_opening, signed_by
from tests.vectors import make
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
        assert made == stored
    (tmp_path / "merkle.json").write_text("kept")
    (tmp_path / "hkdf.json").unlink()
    capsys.readouterr()
    assert make.main(tmp_path) == 1
    assert (tmp_path / "merkle.json").read_text() == "kept"
    assert (tmp_path / "hkdf.json").exists()
    assert capsys.readouterr().out.count("exists and stays as it is") == len(make.MAKERS) - 1
