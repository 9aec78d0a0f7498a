"""Sealing, against published vectors, libsodium, and a second implementation from the formats' description."""

import random
from dataclasses import replace
from typing import Any

import nacl.bindings
import nacl.exceptions
import pytest
import zstandard
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.encoding import Malformed
from consensus.ids import Network, SessionId
from pipeline.seal import (
    OVERHEAD,
    TAG_BYTES,
    ChunkKey,
    SessionKeys,
    Unauthentic,
    decrypt,
    encrypt_into,
    expand,
    extract,
    hchacha20,
    open_sealed,
    seal_into,
)
from pipeline.sealed import Flags, Header
from pipeline.stream import Stream
from tests.examples import examples
from tests.vectors import make
from tests.vectors.stored import vector

KEYS = SessionKeys(Network(b"\x01" * 32), SessionId(b"\x02" * 32), b"\x03" * 32)
LINES = b'{"at":1700000000000,"kind":"key","class":"char"}\n' * 100
NOISE = random.Random(5).randbytes(1000)
XCHACHA = vector("xchacha")
GOLDEN = vector("sealed_v1")


def sealed(
    plain: bytes,
    stream: Stream = Stream.VIDEO,
    index: int = 0,
    *,
    last: bool = False,
    gaps: int = 0,
    keys: SessionKeys = KEYS,
) -> bytes:
    out = bytearray(len(plain) + OVERHEAD + 50)
    size = seal_into(memoryview(out), keys, stream, index, memoryview(plain), last=last, gaps=gaps)
    assert not any(out[size:])
    return bytes(out[:size])


def by_hand(keys: SessionKeys, stream: int, index: int, payload: bytes, flags: int, gaps: int, plain: int) -> bytes:
    """A sealed chunk from DESIGN §6 and the formats' docstrings, on libsodium and the standard library alone."""
    place = bytes([stream]) + index.to_bytes(8, "big")
    counts = gaps.to_bytes(4, "big") + plain.to_bytes(8, "big")
    _, both = make.hkdf(keys.session, keys.secret, b"lucid/chunk/v1" + place, 64)
    _, nonce_key = make.hkdf(keys.session, keys.secret, b"lucid/nonce/v1", 32)
    nonce = blake3(place + bytes([flags]) + counts + payload, key=nonce_key).digest()[:24]
    associated = b"lucid/chunk/v1" + keys.network + keys.session + place + bytes([flags]) + counts
    cipher = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(payload, associated, nonce, both[:32])
    lengths = gaps.to_bytes(4, "big") + index.to_bytes(8, "big") + plain.to_bytes(8, "big")
    return b"LUCD" + bytes([1, stream, flags, 0]) + lengths + keys.network + keys.session + nonce + cipher


@pytest.mark.parametrize("case", vector("hkdf")["cases"], ids=lambda case: case["okm"][:8])
def test_hkdf_has_the_stored_values(case: dict[str, Any]) -> None:
    prk = extract(bytes.fromhex(case["salt"]), bytes.fromhex(case["secret"]))
    assert prk.hex() == case["prk"]
    assert expand(prk, bytes.fromhex(case["info"]), case["size"]).hex() == case["okm"]


@given(st.binary(max_size=150), st.binary(max_size=150), st.binary(max_size=150), st.integers(1, 300))
def test_hkdf_is_rfc_5869_over_hmac_blake2b(salt: bytes, secret: bytes, info: bytes, size: int) -> None:
    prk = extract(salt, secret)
    assert (prk, expand(prk, info, size)) == make.hkdf(salt, secret, info, size)


def test_xchacha_has_the_values_of_the_draft() -> None:
    for case in XCHACHA["hchacha20"]:
        assert hchacha20(bytes.fromhex(case["key"]), bytes.fromhex(case["nonce"])).hex() == case["subkey"]
    for case in XCHACHA["aead"]:
        key, nonce, plain, associated = (bytes.fromhex(case[name]) for name in ("key", "nonce", "plain", "associated"))
        out = bytearray(len(plain) + TAG_BYTES)
        encrypt_into(key, nonce, plain, associated, memoryview(out))
        assert out.hex() == case["sealed"]
        assert decrypt(key, nonce, bytes(out), associated) == plain


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=24, max_size=24), st.binary(max_size=200), st.data())
def test_xchacha_is_libsodiums_both_ways(key: bytes, nonce: bytes, associated: bytes, data: st.DataObject) -> None:
    plain = data.draw(st.binary(max_size=300))
    out = bytearray(len(plain) + TAG_BYTES)
    encrypt_into(key, nonce, memoryview(plain), associated, memoryview(out))
    theirs = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, associated, nonce, key)
    assert out == theirs
    assert decrypt(key, nonce, memoryview(theirs), associated) == plain
    flipped = bytearray(theirs)
    flipped[data.draw(st.integers(0, len(theirs) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Unauthentic):
        decrypt(key, nonce, bytes(flipped), associated)
    with pytest.raises(Unauthentic):
        decrypt(key, nonce, bytes(out), associated + b"\x00")


@pytest.mark.parametrize("size", [0, 1, TAG_BYTES - 1])
def test_what_is_shorter_than_a_tag_is_unauthentic(size: int) -> None:
    with pytest.raises(Unauthentic):
        decrypt(bytes(32), bytes(24), bytes(size), b"")


plains = st.binary(max_size=400) | st.binary(max_size=20).map(lambda data: data * 100)
places = st.tuples(st.sampled_from(Stream), st.integers(0, (1 << 64) - 1))


@given(plains, places, st.booleans(), st.integers(0, (1 << 32) - 1))
def test_a_sealed_chunk_opens_to_what_was_sealed(
    plain: bytes, place: tuple[Stream, int], last: bool, gaps: int
) -> None:
    stream, index = place
    data = sealed(plain, stream, index, last=last, gaps=gaps)
    assert data == sealed(plain, stream, index, last=last, gaps=gaps)
    assert len(data) <= len(plain) + OVERHEAD
    header, opened = open_sealed(KEYS.chunk(stream, index).key, memoryview(data))
    assert opened == plain
    raw = Flags.RAW if len(data) == len(plain) + OVERHEAD else Flags.NONE
    flags = raw | (Flags.LAST if last else Flags.NONE)
    assert header == Header(KEYS.network, KEYS.session, stream, index, flags, gaps, len(plain))


@settings(max_examples=examples(50))
@given(st.binary(max_size=300), places, st.booleans(), st.integers(0, (1 << 32) - 1))
def test_sealed_bytes_are_those_of_a_second_implementation(
    plain: bytes, place: tuple[Stream, int], last: bool, gaps: int
) -> None:
    stream, index = place
    noise = blake3(plain).digest(length=len(plain))  # does not compress
    assert sealed(noise, stream, index, last=last, gaps=gaps) == by_hand(
        KEYS, stream, index, noise, 2 | last, gaps, len(noise)
    )
    lines = b"x" * 100 + plain
    data = sealed(lines, stream, index, last=last, gaps=gaps)
    _, both = make.hkdf(KEYS.session, KEYS.secret, b"lucid/chunk/v1" + bytes([stream]) + index.to_bytes(8, "big"), 64)
    associated = b"lucid/chunk/v1" + KEYS.network + KEYS.session + bytes([stream]) + data[12:20] + data[6:7]
    payload = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
        data[116:], associated + data[8:12] + data[20:28], data[92:116], both[:32]
    )
    assert data == by_hand(KEYS, stream, index, payload, 0 | last, gaps, len(lines))
    assert zstandard.ZstdDecompressor().decompress(payload) == lines


def test_audit_is_compressed_whenever_it_gains_and_large_video_when_a_probe_does() -> None:
    probe = 65536
    noise = blake3(b"video").digest(length=8 * probe)
    between = noise[:probe] + bytes(probe) + noise[2 * probe :]  # zeros where no probe looks
    assert len(sealed(between)) == len(between) + OVERHEAD
    assert len(sealed(between, Stream.AUDIT)) < len(between)


def refused(key: bytes, data: bytes) -> bool:
    """Whether the chunk does not open, for one of the two reasons that there are."""
    try:
        open_sealed(key, data)
    except (Malformed, Unauthentic):
        return True
    return False


@pytest.mark.parametrize("plain", [NOISE, LINES, b""], ids=["raw", "compressed", "empty"])
def test_no_bit_of_a_sealed_chunk_can_change(plain: bytes) -> None:
    key = KEYS.chunk(Stream.AUDIT, 5).key
    data = sealed(plain, Stream.AUDIT, 5, last=True, gaps=2)
    assert not refused(key, data)
    behind = random.Random(4).choices(range(8 * 116, 8 * len(data)), k=300)
    for bit in [*range(8 * 116), *behind]:
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert refused(key, bytes(flipped)), f"bit {bit}"
    for byte in range(116):
        for value in (0x00, 0xFF, data[byte] + 1 & 0xFF):
            replaced = data[:byte] + bytes([value]) + data[byte + 1 :]
            assert refused(key, replaced) == (replaced != data), f"byte {byte}"


def test_a_sealed_chunk_cannot_be_cut_or_grown() -> None:
    for plain in (NOISE, LINES, b""):
        key, data = KEYS.chunk(Stream.VIDEO, 0).key, sealed(plain)
        assert all(refused(key, data[:size]) for size in range(len(data)))
        assert refused(key, data + b"\x00")
        assert refused(key, data + data)


def test_random_bytes_are_refused_and_nothing_else() -> None:
    rng = random.Random(6)
    key, data = KEYS.chunk(Stream.VIDEO, 0).key, sealed(NOISE)
    for _ in range(150):
        assert refused(key, rng.randbytes(rng.randint(0, 300)))
        assert refused(key, data[:116] + rng.randbytes(len(data) - 116))
        assert refused(rng.randbytes(32), data)


def test_a_payload_that_its_own_key_holder_forged_is_malformed() -> None:
    # Whoever has the key can authenticate anything: the format still has one reading, and no bomb in it.
    frame = zstandard.ZstdCompressor().compress
    key = KEYS.chunk(Stream.AUDIT, 0).key
    for payload, plain in (
        (frame(bytes(10_000_000)), 5000),
        (frame(bytes(2500)) * 2, 5000),
        (frame(bytes(5000)) + b"hidden", 5000),
        (b"no frame", 5000),
        (zstandard.ZstdCompressor(write_content_size=False).compress(bytes(5000)), 5000),
        (frame(b"") + b"hidden", 0),
        (frame(b"a"), 1),
    ):
        with pytest.raises(Malformed):
            open_sealed(key, by_hand(KEYS, Stream.AUDIT, 0, payload, 0, 0, plain))
    assert open_sealed(key, by_hand(KEYS, Stream.AUDIT, 0, frame(bytes(5000)), 0, 0, 5000))[1] == bytes(5000)


def test_a_chunk_opens_under_no_other_places_or_sessions_key() -> None:
    data = sealed(NOISE, Stream.VIDEO, 5)
    others = [
        KEYS.chunk(Stream.VIDEO, 4),
        KEYS.chunk(Stream.AUDIT, 5),
        replace(KEYS, secret=b"\x04" * 32).chunk(Stream.VIDEO, 5),
        replace(KEYS, session=SessionId(b"\x04" * 32)).chunk(Stream.VIDEO, 5),
    ]
    for key in others:
        with pytest.raises(Unauthentic):
            open_sealed(key.key, data)
        with pytest.raises(Unauthentic):
            open_sealed(key.commitment, data)


def test_every_key_of_a_session_is_its_own() -> None:
    keys = [KEYS, replace(KEYS, secret=b"\x04" * 32), replace(KEYS, session=SessionId(b"\x04" * 32))]
    derived = [key for one in keys for key in (one.nonce_key, one.cut_seed)]
    committed = []
    for one in keys:
        for stream in Stream:
            for index in (0, 1, 255, 256, 1 << 32, (1 << 64) - 1):
                chunk = one.chunk(stream, index)
                committed.append(chunk.committed)
                derived += [chunk.key, chunk.commitment, *one.journal(stream, index)]
                assert chunk.committed == blake3(chunk.commitment).digest()
    assert {len(key) for key in derived} == {32}
    assert len(set(derived)) == len(derived) == 3 * (2 + 2 * 6 * 4)
    assert len(set(committed)) == len(committed)


def test_keys_are_hkdf_of_their_label_and_place() -> None:
    def derived(info: bytes, size: int) -> bytes:
        return make.hkdf(KEYS.session, KEYS.secret, info, size)[1]

    place = b"\x01" + (1 << 40).to_bytes(8, "big")
    both = derived(b"lucid/chunk/v1" + place, 64)
    assert KEYS.chunk(Stream.AUDIT, 1 << 40) == ChunkKey(both[:32], both[32:])
    both = derived(b"lucid/journal/v1" + place, 64)
    assert KEYS.journal(Stream.AUDIT, 1 << 40) == (both[:32], both[32:])
    assert KEYS.nonce_key == derived(b"lucid/nonce/v1", 32)
    assert KEYS.cut_seed == derived(b"lucid/cut/v1", 32)


@given(st.binary(min_size=1, max_size=100), st.data())
def test_a_nonce_is_new_whenever_anything_else_is(payload: bytes, data: st.DataObject) -> None:
    header = Header(KEYS.network, KEYS.session, Stream.VIDEO, 7, Flags.NONE, 3, 200)
    flipped = bytearray(payload)
    flipped[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    others = [
        KEYS.nonce(header, bytes(flipped)),
        KEYS.nonce(header, payload[:-1]),
        KEYS.nonce(header, payload + b"\x00"),
        KEYS.nonce(replace(header, flags=data.draw(st.sampled_from([Flags.LAST, Flags.RAW]))), payload),
        KEYS.nonce(replace(header, gaps=data.draw(st.integers(4, (1 << 32) - 1))), payload),
        KEYS.nonce(replace(header, index=data.draw(st.integers(8, (1 << 64) - 1))), payload),
        KEYS.nonce(replace(header, stream=Stream.AUDIT), payload),
        KEYS.nonce(replace(header, plain=data.draw(st.integers(201, 1000))), payload),
        replace(KEYS, secret=b"\x04" * 32).nonce(header, payload),
    ]
    nonces = [KEYS.nonce(header, payload), *others]
    assert len(set(nonces)) == len(nonces)
    assert {len(nonce) for nonce in nonces} == {24}
    assert KEYS.nonce(header, memoryview(payload)) == nonces[0]


def test_a_sealed_chunk_carries_its_own_nonce() -> None:
    header = Header(KEYS.network, KEYS.session, Stream.VIDEO, 7, Flags.RAW, 3, len(NOISE))
    assert sealed(NOISE, index=7, gaps=3)[92:116] == KEYS.nonce(header, NOISE)


def test_no_secret_is_printed() -> None:
    chunk = KEYS.chunk(Stream.VIDEO, 0)
    assert repr(chunk) == "ChunkKey()"
    assert repr(KEYS) == f"SessionKeys(network={KEYS.network!r}, session={KEYS.session!r})"


def golden_keys() -> SessionKeys:
    network, session, secret = (bytes.fromhex(GOLDEN[name]) for name in ("network", "session", "secret"))
    return SessionKeys(Network(network), SessionId(session), secret)


@pytest.mark.parametrize("case", GOLDEN["chunks"], ids=lambda case: case["what"])
def test_chunks_of_version_1_open_for_ever(case: dict[str, Any]) -> None:
    keys, stream, plain = golden_keys(), Stream(case["stream"]), bytes.fromhex(case["plain"])
    data = bytes.fromhex(case["sealed"])
    header, opened = open_sealed(keys.chunk(stream, case["index"]).key, data)
    assert opened == plain
    stated = (stream, case["index"], bool(header.flags & Flags.LAST), header.gaps, header.plain)
    assert stated == (header.stream, header.index, case["last"], case["gaps"], len(plain))
    assert (header.network, header.session) == (keys.network, keys.session)
    if header.flags & Flags.RAW:
        again = sealed(plain, stream, case["index"], last=case["last"], gaps=case["gaps"], keys=keys)
        assert again == data


def test_the_golden_chunks_are_of_every_kind() -> None:
    flags = [bytes.fromhex(case["sealed"])[6] for case in GOLDEN["chunks"]]
    assert flags == [Flags.RAW, Flags.LAST, Flags.RAW | Flags.LAST]
