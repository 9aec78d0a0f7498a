"""Records of a session: one spelling each, bound to their network and kind."""

import json
from dataclasses import fields, replace

import pytest

from consensus.encoding import Malformed, Value, decode
from consensus.ids import Network
from consensus.records import pack, unpack
from pipeline.manifest import (
    Chunk,
    Head,
    Listing,
    Manifest,
    Opening,
    Signed,
    identity,
    open_opening,
    order,
    pack_heads,
    render,
    sign,
    signed_by,
    unpack_heads,
)
from pipeline.stream import Stream
from tests.pipeline.sessions import small

MADE = small()


@pytest.mark.parametrize("record", [MADE.opening, MADE.heads[0], MADE.manifest, Listing(MADE.chunks), MADE.chunks[0]])
def test_records_come_back_from_their_bytes_and_from_no_others(
    record: Opening | Head | Manifest | Listing | Chunk,
) -> None:
    kind, data = type(record), pack(record)
    assert unpack(kind, data) == record
    for cut in range(len(data)):
        with pytest.raises(Malformed):
            unpack(kind, data[:cut])
    with pytest.raises(Malformed):
        unpack(kind, data + b"\0")


def test_a_signature_holds_for_one_record_of_one_kind_on_one_network_by_one_key() -> None:
    key, network = MADE.terms.ephemeral, MADE.opening.network
    signed = sign(MADE.heads[0], key, network)
    assert signed_by(signed, Head, key.public, network)
    assert not signed_by(signed, Manifest, key.public, network)
    assert not signed_by(signed, Head, key.public, Network(bytes(31) + b"\1"))
    assert not signed_by(signed, Head, MADE.terms.identity.public, network)
    assert not signed_by(replace(signed, body=pack(MADE.heads[1])), Head, key.public, network)
    for at in range(64):
        wrong = signed.signature[:at] + bytes([signed.signature[at] ^ 1]) + signed.signature[at + 1 :]
        assert not signed_by(replace(signed, signature=wrong), Head, key.public, network)


def test_identities_tell_records_kinds_and_networks_apart() -> None:
    network, other = MADE.opening.network, Network(bytes(31) + b"\1")
    listings = [Listing(MADE.chunks), Listing(MADE.chunks[1:])]
    records: list[Opening | Head | Manifest | Listing] = [MADE.opening, *MADE.heads, MADE.manifest, *listings]
    assert len({identity(record, of) for record in records for of in (network, other)}) == 2 * len(records)


def test_a_leaf_binds_place_and_content_of_a_chunk() -> None:
    chunk, digest = MADE.chunks[0], MADE.chunks[1].file
    changed = {"stream": Stream.AUDIT, "index": 9, "file": digest, "commitment": digest, "segments": digest, "size": 1}
    leaves = {chunk.leaf()} | {replace(chunk, **{name: value}).leaf() for name, value in changed.items()}  # type: ignore[arg-type]
    assert len(leaves) == 1 + len(changed)
    bound_by_the_file = {"plain", "flags", "gaps", "first", "last"}
    assert {field.name for field in fields(Chunk)} == changed.keys() | bound_by_the_file


def test_order_is_by_stream_and_index_and_heads_are_one_array() -> None:
    assert order(MADE.chunks[::-1]) == MADE.chunks
    signed = [sign(head, MADE.terms.ephemeral, MADE.opening.network) for head in MADE.heads]
    assert unpack_heads([]) == ()
    values: list[Value] = [None, 1, b"", {}, [1], [None], [pack_heads(signed)]]
    for value in values:
        with pytest.raises(Malformed):
            unpack_heads(value)
    assert unpack_heads(decode(pack_heads(signed))) == tuple(signed)


def test_the_rendering_is_json_with_every_field_and_bytes_in_hex() -> None:
    told = json.loads(render(MADE.opening, MADE.manifest))
    assert told["opening"]["session"] == MADE.opening.session.hex()
    assert told["manifest"]["gaps"][0]["reason"] == "it died"
    assert told["opening"].keys() == {field.name for field in fields(Opening)} | {"v"}
    assert told["manifest"].keys() == {field.name for field in fields(Manifest)} | {"v"}


def test_an_opening_is_read_from_signed_bytes_only() -> None:
    signed = sign(MADE.opening, MADE.terms.identity, MADE.opening.network)
    assert open_opening(unpack(Signed, pack(signed))) == MADE.opening
    with pytest.raises(Malformed):
        open_opening(replace(signed, body=pack(MADE.manifest)))
