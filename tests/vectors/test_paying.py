"""The stored vector of what payloads say of sessions and of what that leads to: read for ever, and spelled the same."""

from blake3 import blake3
from cbor2 import loads

from consensus.encoding import decode, encode
from consensus.news import split, told
from consensus.storage import read_storage, spell_storage
from tests.vectors.paying import NEWS, ROOTS, stored
from tests.vectors.stored import vector

STORED = vector("storage_v1")


def test_news_of_this_version_are_read_for_ever() -> None:
    for one, (slot, news) in zip(STORED["payloads"], NEWS, strict=True):
        payload = bytes.fromhex(one["payload"])
        assert (one["slot"], split(payload)) == (slot, (news, b"a block"))
        assert told(news, b"a block") == payload


def test_news_are_a_byte_a_length_and_cbor() -> None:
    payload = bytes.fromhex(STORED["payloads"][0]["payload"])
    size = int.from_bytes(payload[1:5], "big")
    (kind, _, _, first, chunks), (ended, *_) = loads(payload[5 : 5 + size])
    assert (payload[0], kind, first, ended, len(chunks)) == (2, 1, 0, 0, 2)
    assert chunks[0][2] == blake3(b"".join(ROOTS)).digest()
    assert payload[5 + size :] == b"a block"


def test_they_lead_to_the_same_storage_for_ever() -> None:
    storage = bytes.fromhex(STORED["storage"])
    assert encode(spell_storage(stored())) == storage
    assert read_storage(decode(storage)) == stored()
