import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.store import Key
from node.store.rows import KEY_BYTES_MAX, decode, encode, row_key

PARTS = st.integers(0, 2**64 - 1) | st.binary(max_size=6) | st.text(max_size=6)
# Zeros, their escapes and what lies beside them, which random bytes seldom are.
EDGES = st.sampled_from(
    [0, 1, 255, 256, 2**63, b"", b"\0", b"\0\xff", b"\0\0", b"\xff", "", "\0", "a", "a\0", "\U00010000"]
)
KEYS = st.lists(PARTS | EDGES, max_size=4).map(tuple)


def stated(key: Key) -> list[tuple[int, int | str | bytes]]:
    """The order that the module promises, in terms of Python's own: by type, then by value."""
    return [(0 if isinstance(part, int) else 1 if isinstance(part, bytes) else 2, part) for part in key]


@given(KEYS, KEYS)
def test_encoded_keys_sort_as_keys_do(one: Key, other: Key) -> None:
    assert (encode(one) < encode(other)) == (stated(one) < stated(other))


@given(KEYS)
def test_decoding_gives_the_key_back(key: Key) -> None:
    assert decode(encode(key)) == key
    assert [type(part) for part in decode(encode(key))] == [type(part) for part in key]


@given(KEYS, KEYS)
def test_a_key_begins_with_a_prefix_exactly_when_its_bytes_do(prefix: Key, key: Key) -> None:
    assert encode(prefix + key) == encode(prefix) + encode(key)
    assert encode(key).startswith(encode(prefix)) == (stated(key)[: len(prefix)] == stated(prefix))


@given(st.binary(max_size=12) | st.binary(max_size=12).map(lambda tail: b"\x06a\0\xff" + tail))
def test_bytes_decode_only_if_a_key_encodes_to_them(encoded: bytes) -> None:
    try:
        key = decode(encoded)
    except ValueError:
        return
    assert encode(key) == encoded


@pytest.mark.parametrize("part", [-1, 2**64, "\ud800"])
def test_a_value_that_no_key_can_hold_is_refused(part: int | str) -> None:
    with pytest.raises(ValueError):
        encode((part,))


@pytest.mark.parametrize("part", [True, 1.0, None, ()])
def test_a_type_that_no_key_can_hold_is_refused(part: object) -> None:
    with pytest.raises(TypeError, match="components are integers, text and bytes"):
        encode((part,))  # type: ignore[arg-type]


def test_a_row_key_has_511_bytes_and_no_more() -> None:
    room = KEY_BYTES_MAX - len(row_key("t", (b"",)))
    assert len(row_key("t", (b"x" * room,))) == KEY_BYTES_MAX
    with pytest.raises(ValueError, match="takes 512 bytes, 511 at most"):
        row_key("t", (b"x" * (room + 1),))
