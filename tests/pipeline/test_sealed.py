"""The header of a sealed chunk, byte by byte, and everything that is not one."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import Malformed
from consensus.ids import Network, SessionId
from pipeline.sealed import HEADER_BYTES, OVERHEAD, PLAIN_BYTES_MAX, TAG_BYTES, Flags, Header, parse
from pipeline.stream import Stream

NETWORK, SESSION, NONCE = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 88))
RAW = Flags.LAST | Flags.RAW


def header(flags: Flags = RAW, plain: int = 5) -> Header:
    return Header(Network(NETWORK), SessionId(SESSION), Stream.AUDIT, 0x0102030405060708, flags, 0x0A0B0C0D, plain)


SOUND = header().spell(NONCE) + bytes(5 + TAG_BYTES)


def changed(at: int, new: bytes, data: bytes = SOUND) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def test_the_layout_is_the_documented_one() -> None:
    assert (HEADER_BYTES, TAG_BYTES, OVERHEAD, PLAIN_BYTES_MAX) == (116, 16, 132, 64_000_000)
    assert header().spell(NONCE) == (
        b"LUCD\x01\x01\x03\x00"
        + bytes.fromhex("0a0b0c0d0102030405060708")
        + (5).to_bytes(8, "big")
        + NETWORK
        + SESSION
        + NONCE
    )
    assert header().associated() == (
        b"lucid/chunk/v1"
        + NETWORK
        + SESSION
        + b"\x01"
        + bytes.fromhex("0102030405060708")
        + b"\x03"
        + bytes.fromhex("0a0b0c0d")
        + (5).to_bytes(8, "big")
    )


ids = st.binary(min_size=32, max_size=32)
headers = st.builds(
    Header,
    network=ids,
    session=ids,
    stream=st.sampled_from(Stream),
    index=st.integers(0, (1 << 64) - 1),
    flags=st.sampled_from([Flags.NONE, Flags.LAST, Flags.RAW, RAW]),
    gaps=st.integers(0, (1 << 32) - 1),
    plain=st.integers(1, 300),
)


@given(headers, st.binary(min_size=24, max_size=24), st.integers(0, 300))
def test_parsing_gives_back_what_was_spelt(spelt: Header, nonce: bytes, packed: int) -> None:
    payload = spelt.plain if spelt.flags & Flags.RAW else min(packed, spelt.plain - 1)
    data = spelt.spell(nonce) + bytes(payload + TAG_BYTES)
    found, found_nonce = parse(data)
    assert (found, found_nonce) == (spelt, nonce)
    assert (type(found.stream), type(found.flags)) == (Stream, Flags)
    assert parse(memoryview(data)) == (found, nonce)


@given(headers, headers)
def test_different_headers_have_different_associated_data(one: Header, other: Header) -> None:
    assert (one.associated() == other.associated()) == (one == other)


@pytest.mark.parametrize("size", [0, 1, 4, HEADER_BYTES - 1, HEADER_BYTES, OVERHEAD - 1])
def test_what_is_too_short_is_malformed(size: int) -> None:
    with pytest.raises(Malformed, match=f"^{size} bytes are too few"):
        parse(SOUND[:size])


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (changed(0, b"M"), "first bytes"),
        (changed(3, b"\x00"), "first bytes"),
        (changed(4, b"\x00"), "version 0"),
        (changed(4, b"\x02"), "version 2; this program reads version 1"),
        (changed(5, b"\x02"), "out of its range"),
        (changed(5, b"\xff"), "out of its range"),
        *[(changed(6, bytes([3 | 1 << bit])), "out of its range") for bit in range(2, 8)],
        *[(changed(6, bytes([1 << bit])), "out of its range") for bit in range(2, 8)],
        *[(changed(7, bytes([1 << bit])), "out of its range") for bit in range(8)],
        (changed(20, b"\x80"), "out of its range"),
        (changed(20, (PLAIN_BYTES_MAX + 1).to_bytes(8, "big")), "out of its range"),
        (changed(20, PLAIN_BYTES_MAX.to_bytes(8, "big")), "size is not that"),
        (changed(27, b"\x04"), "size is not that"),
        (changed(27, b"\x06"), "size is not that"),
        (SOUND[:-1], "size is not that"),
        (SOUND + b"\x00", "size is not that"),
    ],
)
def test_a_field_out_of_its_range_is_malformed(data: bytes, sentence: str) -> None:
    parse(SOUND)
    with pytest.raises(Malformed, match=sentence):
        parse(data)


def test_a_compressed_payload_is_shorter_than_its_plain_bytes() -> None:
    spelt = header(Flags.NONE, 5).spell(NONCE)
    for size in range(5):
        assert parse(spelt + bytes(size + TAG_BYTES))[0].plain == 5
    for size in (5, 6, 10_000):
        with pytest.raises(Malformed, match="not shorter"):
            parse(spelt + bytes(size + TAG_BYTES))
    with pytest.raises(Malformed, match="not shorter"):
        parse(header(Flags.NONE, 0).spell(NONCE) + bytes(TAG_BYTES))
    assert parse(header(Flags.RAW, 0).spell(NONCE) + bytes(TAG_BYTES))[0].plain == 0


def survives(data: bytes) -> bool:
    """Whether the bytes parse, in which case the header has to spell them."""
    try:
        found, nonce = parse(data)
    except Malformed:
        return False
    assert found.spell(nonce) == data[:HEADER_BYTES]
    assert 0 <= len(data) - OVERHEAD <= found.plain <= PLAIN_BYTES_MAX
    return True


def test_of_the_headers_first_eight_bytes_only_the_documented_ones_parse() -> None:
    sound: list[Any] = [(at, byte) for at in range(8) for byte in range(256) if survives(changed(at, bytes([byte])))]
    flags = [(6, 2), (6, 3)]  # without RAW the payload would have to be shorter
    assert sound == [(0, 0x4C), (1, 0x55), (2, 0x43), (3, 0x44), (4, 1), (5, 0), (5, 1), *flags, (7, 0)]


def test_random_and_damaged_bytes_parse_or_are_malformed() -> None:
    rng = random.Random(2)
    outcomes = set()
    for _ in range(3000):
        data = bytearray(SOUND)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        outcomes.add(survives(bytes(data[: rng.choice([None, None, rng.randrange(len(data))])])))
        assert not survives(rng.randbytes(rng.randint(0, 300)))
        survives(b"LUCD\x01" + rng.randbytes(rng.randint(0, 300)))
    assert outcomes == {False, True}
