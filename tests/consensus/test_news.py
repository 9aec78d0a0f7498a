"""News of sessions in a payload: one spelling, nothing else read, and blocks whose news are malformed are none."""

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from consensus.block import BlockBody, read_block
from consensus.encoding import Malformed, Value, encode
from consensus.ids import Address, Digest, SessionId
from consensus.news import (
    ChunkNamed,
    ChunksNamed,
    ReplicasHeld,
    ReplicaShown,
    SessionEnded,
    SessionNews,
    roots_name,
    split,
    told,
)
from consensus.payload import BUSY, IDLE, is_busy
from consensus.records import pack
from tests.consensus.worlds import Village

digests = st.binary(min_size=32, max_size=32).map(Digest)
sessions = digests.map(SessionId)
accounts = st.binary(min_size=20, max_size=20).map(Address)
numbers = st.integers(0, (1 << 64) - 1)
chunks = st.builds(ChunkNamed, digests, numbers, digests)
NEWS = st.one_of(
    st.builds(SessionEnded, sessions, accounts),
    st.builds(ChunksNamed, sessions, accounts, numbers, st.lists(chunks, min_size=1, max_size=4).map(tuple)),
    st.builds(ReplicasHeld, sessions, accounts, st.integers(0, 255), numbers, st.integers(1, (1 << 256) - 1)),
    st.builds(ReplicaShown, sessions, numbers, st.integers(0, 255), accounts, accounts),
)
S, A, H = bytes(32), bytes(20), b"\1" * 32


@given(st.lists(NEWS, min_size=1, max_size=6), st.binary(max_size=40))
def test_what_is_told_is_read_with_the_block_behind_it(news: list[SessionNews], block: bytes) -> None:
    payload = told(news, block)
    assert split(payload) == (tuple(news), block)
    assert is_busy(payload)


@given(st.binary(max_size=60))
def test_other_payloads_say_nothing_and_bytes_that_spell_no_news_are_malformed(data: bytes) -> None:
    assert split(IDLE + data) == split(BUSY + data) == ((), data)
    assert split(b"") == ((), b"")
    try:
        news, block = split(b"\2" + data)
    except Malformed:
        return
    assert told(news, block) == b"\2" + data


def spelled(*items: Value) -> bytes:
    said = encode(list(items))
    return b"\2" + len(said).to_bytes(4, "big") + said


@pytest.mark.parametrize(
    "wrong",
    [
        b"\2",
        b"\2\0\0\0\0",
        b"\2\0\0\0\5\x80",
        spelled(),
        b"\2" + (1).to_bytes(4, "big") + encode(7),
        spelled(7),
        spelled([0, S]),
        spelled([0, S, A, A]),
        spelled([0, A, A]),
        spelled([0, S, S]),
        spelled([1, S, A, 0, []]),
        spelled([1, S, A, -1, [[S, 1, S]]]),
        spelled([1, A, A, 0, [[S, 1, S]]]),
        spelled([1, S, A, 0, [[S, 1, A]]]),
        spelled([1, S, A, 0, [[S, True, S]]]),
        spelled([1, S, A, 0, [[S, 1, S], 5]]),
        spelled([2, S, A, 0, 0, S]),
        spelled([2, S, A, 0, 0, b"\1"]),
        spelled([2, S, A, True, 0, H]),
        spelled([3, S, 0, 0, A]),
        spelled([3, S, 0, False, A, A]),
        spelled([3, S, -1, 0, A, A]),
        spelled([3, S, 0, 0, A, S]),
        spelled([4, S, A]),
        spelled([0, S, A])[:-1],
    ],
)
def test_news_have_one_form(wrong: bytes) -> None:
    with pytest.raises(Malformed):
        split(wrong)


def test_a_block_whose_news_are_malformed_is_none() -> None:
    village = Village(2)
    good = village.block(village.genesis, 1, BlockBody(payload=spelled([0, S, A]) + b"block"))
    assert read_block(pack(good)).body.payload == spelled([0, S, A]) + b"block"
    wrong = village.block(village.genesis, 1, BlockBody(payload=spelled([0, S, A])[:-1]))
    with pytest.raises(Malformed):
        read_block(pack(wrong))


def test_the_roots_of_replicas_have_one_name_in_their_order() -> None:
    one, two = b"\1" * 32, b"\2" * 32
    assert roots_name([one, two]) == Digest(blake3(one + two).digest()) != roots_name([two, one])
