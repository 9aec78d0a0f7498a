from Crypto.Cipher import ChaCha20
from hypothesis import given
from hypothesis import strategies as st

from consensus.beacon import replica_key
from consensus.ids import Digest
from consensus.merkle import SEGMENT, segment_root
from pipeline.replica import BLOCK, encode, replica_secret, roots

SECRET, CHUNK = bytes(range(32)), Digest(bytes(32))


@given(st.binary(max_size=1000), st.integers(0, 20))
def test_encoding_undoes_itself_and_any_part_is_encoded_alone(data: bytes, blocks: int) -> None:
    key = replica_key(SECRET, CHUNK, 1)
    whole = encode(data, key)
    assert encode(whole, key) == data
    start = min(blocks * BLOCK, len(data) // BLOCK * BLOCK)
    assert encode(data[start:], key, start) == whole[start:]


@given(st.binary(min_size=1, max_size=300))
def test_the_cipher_is_chacha20_as_another_library_has_it(data: bytes) -> None:
    key = replica_key(SECRET, CHUNK, 0)
    assert encode(data, key) == ChaCha20.new(key=key, nonce=bytes(8)).encrypt(data)


def test_each_replica_has_a_root_of_its_own_over_its_own_bytes() -> None:
    sealed = bytes(3 * SEGMENT + 5)
    found = roots(sealed, SECRET, CHUNK)
    assert len(set(found)) == 3
    assert found[2] == segment_root(encode(sealed, replica_key(SECRET, CHUNK, 2)))


def test_sessions_have_secrets_of_their_own() -> None:
    assert replica_secret(SECRET, bytes(32)) != replica_secret(SECRET, bytes(31) + b"\1")


def test_the_keystream_is_the_one_of_rfc_8439_appendix_a_1() -> None:
    keystream = encode(bytes(64), bytes(32)).hex()
    assert keystream.startswith("76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7")
