"""Cuts are a function of the bytes and the seed, within their bounds; compression gives back what it took or says no."""

import random
import struct
from collections.abc import Sequence
from itertools import accumulate

import pytest
import zstandard
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import Malformed
from pipeline.chunk import Bounds, Cutter, compress, decompress
from pipeline.sealed import PLAIN_BYTES_MAX
from pipeline.stream import Stream

SEED, OTHER = b"\x01" * 32, b"\x02" * 32
SMALL = Bounds(20, 60)
NOISE = random.Random(5).randbytes(1_000_000)
LINES = b'{"at":1700000000000,"kind":"key","class":"char"}\n' * 20_000


@pytest.mark.parametrize(
    ("low", "high", "age_ms"),
    [(0, 1, 1), (-1, 1, 1), (5, 5, 1), (6, 5, 1), (1, 2, 0), (1, 2, -1), (1, PLAIN_BYTES_MAX + 1, 1)],
)
def test_bounds_that_no_chunk_could_keep_are_refused(low: int, high: int, age_ms: int) -> None:
    with pytest.raises(ValueError, match="chunk bounds are"):
        Bounds(low, high, age_ms)


def test_the_default_bounds_are_those_of_the_design() -> None:
    assert Bounds() == Bounds(8_000_000, 16_000_000, 300_000)
    assert Bounds(1, PLAIN_BYTES_MAX, 1).high == PLAIN_BYTES_MAX


@given(st.sampled_from(Stream), st.integers(0, (1 << 64) - 1))
def test_a_target_is_the_seeds_draw_for_that_place(stream: Stream, index: int) -> None:
    hashed = blake3(bytes([stream]) + index.to_bytes(8, "big"), key=SEED).digest()
    drawn = int.from_bytes(hashed[:8], "big")
    assert Bounds().target(SEED, stream, index) == 8_000_000 + drawn % 4_000_001
    assert SMALL.target(SEED, stream, index) == 20 + drawn % 21


def test_targets_fill_the_lower_half_of_the_bounds_and_no_more() -> None:
    targets = [SMALL.target(SEED, Stream.VIDEO, index) for index in range(1000)]
    assert set(targets) == set(range(20, 41))
    assert targets != [SMALL.target(OTHER, Stream.VIDEO, index) for index in range(1000)]
    assert targets != [SMALL.target(SEED, Stream.AUDIT, index) for index in range(1000)]
    assert Bounds(1, 2).target(SEED, Stream.VIDEO, 0) == 1


def frame(plain: bytes, *, sized: bool = True) -> bytes:
    return zstandard.ZstdCompressor(level=3, write_content_size=sized).compress(plain)


def cut(fragments: Sequence[bytes], bounds: Bounds, seed: bytes) -> tuple[list[bytes], bytes]:
    """The chunks that were cut, and what is left open: as a writer of whole fragments drives the cutter."""
    cutter, chunks, opened = Cutter(bounds, seed, Stream.VIDEO), [], b""
    for fragment in fragments:
        rest = fragment
        while rest:
            taken, full = cutter.take(len(rest))
            assert taken or full  # else the caller would offer it for ever
            opened, rest = opened + rest[:taken], rest[taken:]
            assert cutter.size == len(opened)
            if full:
                chunks.append(opened)
                opened = b""
                cutter.cut()
                assert (cutter.index, cutter.size) == (len(chunks), 0)
    return chunks, opened


def cut_exactly(fragments: Sequence[bytes], bounds: Bounds, seed: bytes) -> tuple[list[bytes], bytes]:
    """The same for bytes without structure: as an exact writer drives the cutter, which waits for the byte behind a cut."""
    cutter, chunks, opened = Cutter(bounds, seed, Stream.VIDEO), [], b""
    for fragment in fragments:
        rest = fragment
        while rest:
            if cutter.size == cutter.target:
                chunks.append(opened)
                opened = b""
                cutter.cut()
            taken, full = cutter.take(min(len(rest), cutter.target - cutter.size))
            assert taken > 0
            opened, rest = opened + rest[:taken], rest[taken:]
            assert full == (len(opened) == cutter.target)
    return chunks, opened


sizes = st.lists(st.integers(0, 25) | st.integers(0, 200), max_size=40)
bounds = st.tuples(st.integers(1, 40), st.integers(1, 60)).map(lambda pair: Bounds(pair[0], pair[0] + pair[1]))


def fragments_of(sizes: Sequence[int]) -> list[bytes]:
    ends = list(accumulate(sizes))
    return [NOISE[end - size : end] for size, end in zip(sizes, ends, strict=True)]


@given(sizes, bounds, st.binary(min_size=32, max_size=32))
def test_chunks_are_the_stream_in_pieces_within_the_bounds(sizes: list[int], limits: Bounds, seed: bytes) -> None:
    fragments = fragments_of(sizes)
    chunks, opened = cut(fragments, limits, seed)
    assert b"".join([*chunks, opened]) == b"".join(fragments)
    assert all(limits.low <= len(chunk) <= limits.high for chunk in chunks)
    assert len(opened) < limits.target(seed, Stream.VIDEO, len(chunks))
    assert (chunks, opened) == cut(fragments, limits, seed)


@given(sizes, bounds, st.binary(min_size=32, max_size=32))
def test_a_chunk_ends_with_the_first_fragment_past_its_target_that_fits(
    sizes: list[int], limits: Bounds, seed: bytes
) -> None:
    fragments = fragments_of(sizes)
    chunks, _ = cut(fragments, limits, seed)
    ends, at = set(), 0
    for fragment in fragments:
        at += len(fragment)
        ends.add(at)
    start = 0
    for index, chunk in enumerate(chunks):
        end, target = start + len(chunk), start + limits.target(seed, Stream.VIDEO, index)
        past = [at for at in ends if at >= target and at <= start + limits.high]
        before = [at for at in ends if start + limits.low <= at < target]
        if past:
            assert end == min(past)
        else:  # the next fragment is too long: it stays whole when what is there suffices, and is split at the bound else
            assert end == (max(before) if before else start + limits.high)
        start = end


@given(sizes, sizes, bounds, st.binary(min_size=32, max_size=32))
def test_exact_cuts_do_not_depend_on_how_the_bytes_arrive(
    sizes: list[int], others: list[int], limits: Bounds, seed: bytes
) -> None:
    stream = NOISE[: sum(sizes)]
    split, at = [], 0
    for size in others:
        split.append(stream[at : at + size])
        at += size
    split.append(stream[at:])
    chunks, opened = cut_exactly(fragments_of(sizes), limits, seed)
    assert (chunks, opened) == cut_exactly(split, limits, seed)
    assert b"".join([*chunks, opened]) == stream
    assert [len(chunk) for chunk in chunks] == [
        limits.target(seed, Stream.VIDEO, index) for index in range(len(chunks))
    ]


def test_another_seed_cuts_elsewhere() -> None:
    fragments = [bytes([byte]) for byte in NOISE[:1000]]
    assert cut(fragments, SMALL, SEED) != cut(fragments, SMALL, OTHER)


@given(st.binary(max_size=2000) | st.binary(max_size=50).map(lambda data: data * 50), st.booleans())
def test_compression_gives_back_what_it_took_and_only_when_it_is_shorter(plain: bytes, always: bool) -> None:
    packed = compress(memoryview(plain), always=always)
    assert packed == compress(memoryview(plain), always=always)
    if packed is not None:
        assert len(packed) < len(plain)
        assert decompress(packed, len(plain)) == plain
        assert zstandard.ZstdDecompressor().decompress(packed) == plain


@pytest.mark.parametrize("always", [False, True])
def test_what_compresses_to_its_own_length_stays_raw(always: bool) -> None:
    plain = next(plain for end in range(20) if len(frame(plain := NOISE[:20] + bytes(end))) == len(plain))
    assert (
        compress(memoryview(plain), always=always) is None
    )  # a reader refuses a compressed payload that gains nothing


@pytest.mark.parametrize("always", [False, True])
def test_text_is_compressed_and_noise_is_not(always: bool) -> None:
    packed = compress(memoryview(LINES), always=always)
    assert packed is not None
    assert len(packed) < len(LINES) // 20
    assert decompress(packed, len(LINES)) == LINES
    assert compress(memoryview(NOISE), always=always) is None
    assert compress(memoryview(b""), always=always) is None


def test_large_video_is_compressed_only_when_probes_gain() -> None:
    probe = 65536
    room = len(NOISE) // 2
    # Zeros between the probes gain much, but not where the probes look.
    unseen = NOISE[:probe] + bytes(200_000) + NOISE[probe : 3 * probe] + bytes(200_000) + NOISE[3 * probe : 4 * probe]
    assert compress(memoryview(unseen), always=False) is None
    found = compress(memoryview(unseen), always=True)
    assert found is not None
    assert len(found) < len(unseen) * 0.5
    for at in (0, room, len(NOISE) - probe):
        seen = NOISE[:at] + bytes(probe) + NOISE[at + probe :]
        assert compress(memoryview(seen), always=False) is not None
    slight = NOISE[: probe - 4000] + bytes(4000) + NOISE[probe:]  # 2 % of the probes
    assert compress(memoryview(slight), always=False) is None
    enough = NOISE[: probe - 8000] + bytes(8000) + NOISE[probe:]  # 4 %
    assert compress(memoryview(enough), always=False) is not None
    small = NOISE[: 4 * probe - 4000] + bytes(4000)  # too small for probes: any gain will do
    assert compress(memoryview(small), always=False) is not None
    probed = NOISE[: 4 * probe - 3999] + bytes(4000)
    assert compress(memoryview(probed), always=False) is None
    assert compress(memoryview(probed), always=True) is not None


@pytest.mark.parametrize(
    ("packed", "size"),
    [
        (frame(bytes(10_000_000)), 1000),
        (frame(bytes(10_000_000)), 9_999_999),
        (frame(bytes(1000)), 1001),
        (frame(bytes(1000), sized=False), 1000),
        (frame(bytes(500)) + frame(bytes(500)), 1000),
        (frame(bytes(500)) + frame(bytes(500)), 500),
        (frame(bytes(1000)) + b"\x00", 1000),
        (frame(bytes(1000))[:-1], 1000),
        (frame(b""), 0),
        (frame(b"") + b"hidden", 0),
        (frame(b"")[:-1], 0),
        (struct.pack("<II", 0x184D2A50, 5) + b"hello", 5),
        (struct.pack("<II", 0x184D2A50, 0) + frame(bytes(1000)), 1000),
        (b"", 0),
        (b"", 5),
        (b"\x28\xb5\x2f\xfd", 5),
        (b"not Zstandard at all", 20),
    ],
)
def test_what_is_not_one_frame_of_that_length_is_malformed(packed: bytes, size: int) -> None:
    with pytest.raises(Malformed):
        decompress(packed, size)


def test_a_frame_that_lies_about_its_length_is_malformed_and_never_inflates_past_it() -> None:
    packed = bytearray(frame(bytes(100_000)))
    assert packed[4] == 0xA0  # a single segment, its length in the next four bytes
    for size in (99_999, 100_001, 70_000, 200_000):
        packed[5:9] = size.to_bytes(4, "little")
        assert zstandard.get_frame_parameters(bytes(packed)).content_size == size
        with pytest.raises(Malformed):
            decompress(bytes(packed), size)


def test_damaged_frames_give_the_length_asked_for_or_are_malformed() -> None:
    rng = random.Random(3)
    sound = frame(LINES[:3000])
    opened = 0
    for _ in range(2000):
        packed = bytearray(sound)
        packed[rng.randrange(len(packed))] ^= 1 << rng.randrange(8)
        try:
            opened += len(decompress(bytes(packed), 3000)) == 3000
        except Malformed:
            continue
    assert 0 < opened < 2000  # a frame has no checksum: the AEAD around it is what authenticates
