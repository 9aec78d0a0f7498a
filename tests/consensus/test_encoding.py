"""The encoding accepts one spelling of each value and nothing else, at a bounded cost."""

import tracemalloc
from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consensus.encoding import DEPTH_MAX, Malformed, Value, decode, encode
from tests.vectors.stored import vector

VECTORS = vector("cbor")
UINT64_MAX = (1 << 64) - 1
EDGES = [0, 23, 24, 0xFF, 0x100, 0xFFFF, 0x10000, 0xFFFFFFFF, 0x100000000, UINT64_MAX]

integers = (
    st.integers(-UINT64_MAX - 1, UINT64_MAX) | st.integers(-300, 300) | st.sampled_from(EDGES + [-1 - n for n in EDGES])
)
texts = st.text(max_size=30)
scalars = st.none() | st.booleans() | integers | st.binary(max_size=30) | texts
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(integers | texts, inner, max_size=4),
    max_leaves=15,
)


def exact(value: Any) -> Any:
    """The value such that True ≠ 1 and the order of a map's entries shows."""
    match value:
        case list() | tuple():
            return [exact(item) for item in value]
        case dict():
            return {"map": [(exact(key), exact(item)) for key, item in value.items()]}
        case _:
            return type(value).__name__, value


def ordered(value: Any) -> Any:
    """The value with its maps in the order of RFC 8949 §4.2.1, by cbor2's spelling of the keys."""
    match value:
        case list() | tuple():
            return [ordered(item) for item in value]
        case dict():
            return {key: ordered(value[key]) for key in sorted(value, key=cbor2.dumps)}
        case _:
            return value


@pytest.mark.parametrize("example", VECTORS["accepted"], ids=lambda example: example["hex"])
def test_examples_of_the_rfc_that_we_use_go_both_ways(example: dict[str, Any]) -> None:
    if "bytes" in example:
        value: Any = bytes.fromhex(example["bytes"])
    else:
        value = dict(example["entries"]) if "entries" in example else example["value"]
    assert encode(value).hex() == example["hex"]
    assert exact(decode(bytes.fromhex(example["hex"]))) == exact(value)


@pytest.mark.parametrize("example", VECTORS["rejected"] + VECTORS["uncanonical"], ids=lambda example: example["hex"])
def test_every_other_spelling_is_malformed(example: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        decode(bytes.fromhex(example["hex"]))


@given(values)
def test_decoding_gives_back_what_was_encoded(value: Any) -> None:
    assert exact(decode(encode(value))) == exact(ordered(value))


@given(values)
@example({"b": 0, "aa": 1, 24: 2, -1: 3, 0: 4})
def test_the_bytes_are_those_of_an_independent_encoder(value: Any) -> None:
    # Not cbor2's canonical=True: that is RFC 7049's order, in which a shorter key is first whatever its type (-1 before
    # 24). RFC 8949 orders by the bytes alone; cbor2 keeps the order that it is given and is otherwise shortest-form.
    assert encode(value) == cbor2.dumps(ordered(value))
    assert exact(cbor2.loads(encode(value))) == exact(ordered(value))


@given(st.recursive(scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5)))
def test_with_text_keys_it_is_cbor2s_canonical_form(value: Any) -> None:
    # Among keys of one type both orders are the same, and every record has text keys alone.
    assert encode(value) == cbor2.dumps(value, canonical=True)


def accepted(data: bytes) -> bool:
    """Whether the bytes decode, in which case they have to be the encoding of what they decode to."""
    try:
        value = decode(data)
    except Malformed:
        return False
    assert encode(value) == data
    return True


def test_of_the_strings_of_two_bytes_those_that_spell_something_are_accepted() -> None:
    one: list[Value] = [*range(-24, 24), b"", "", [], {}, False, True, None]
    two: list[Value] = [*range(24, 256), *range(-256, -24), *([item] for item in one)]
    two += [bytes([byte]) for byte in range(256)] + [chr(byte) for byte in range(128)]
    spelt = {encode(value) for value in one + two}
    assert len(spelt) == len(one) + len(two)
    strings = [bytes([a]) for a in range(256)] + [bytes([a, b]) for a in range(256) for b in range(256)]
    assert {data for data in strings if accepted(data)} == spelt


def mutated(data: bytes, at: int, kind: int, byte: int) -> bytes:
    at %= len(data) + 1
    match kind:
        case 0:
            return data[:at] + bytes([byte]) + data[at + 1 :]
        case 1:
            return data[:at] + bytes([byte]) + data[at:]
        case 2:
            return data[:at] + data[at + 1 :]
        case _:
            return data[:at] + data[at : at + byte] + data[at:]


changes = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 3), st.integers(0, 255)), min_size=8, max_size=12)


@given(values, changes)
def test_whatever_decodes_is_the_encoding_of_what_it_decodes_to(
    value: Any, changed: list[tuple[int, int, int]]
) -> None:
    data = worse = encode(value)
    assert accepted(data)
    for at, kind, byte in changed:
        accepted(mutated(data, at, kind, byte))
        worse = mutated(worse, at, kind, byte)
        accepted(worse)


@given(st.binary(max_size=40))
def test_random_bytes_decode_or_are_malformed(data: bytes) -> None:
    accepted(data)


@given(values)
def test_no_encoding_is_the_beginning_of_another(value: Any) -> None:
    data = encode(value)
    assert not any(accepted(data[:size]) for size in range(0, len(data), 1 + len(data) // 30))
    assert not accepted(data[:-1])
    assert not accepted(data + b"\x00")


def nested(depth: int) -> Value:
    value: Value = 0
    for level in range(depth):
        value = [value] if level % 2 else {0: value}
    return value


def test_nesting_ends_at_its_limit_both_ways() -> None:
    assert decode(encode(nested(DEPTH_MAX))) == nested(DEPTH_MAX)
    with pytest.raises(Malformed, match="deeper than 16"):
        encode(nested(DEPTH_MAX + 1))
    deeper = b"\x81" + encode(nested(DEPTH_MAX))
    assert cbor2.loads(deeper) == [nested(DEPTH_MAX)]
    with pytest.raises(Malformed, match="deeper than 16"):
        decode(deeper)


@pytest.mark.parametrize("opening", [b"\x81", b"\xa1\x00", b"\xa1", b"\x82\x00", b"\xc0"])
def test_a_hundred_thousand_levels_are_malformed_and_exhaust_nothing(opening: bytes) -> None:
    with pytest.raises(Malformed):
        decode(opening * 100_000 + b"\x00")


def test_a_value_inside_itself_is_malformed() -> None:
    loop: list[Value] = []
    loop.append(loop)
    with pytest.raises(Malformed):
        encode(loop)


@pytest.mark.parametrize("major", [0x40, 0x60, 0x80, 0xA0])
@pytest.mark.parametrize("size", [(1 << 64) - 1, 1 << 63, 1 << 40, 0xFFFFFFFF, 100_000_000])
def test_an_announced_length_reserves_nothing(major: int, size: int) -> None:
    head = (
        bytes([major | 27]) + size.to_bytes(8, "big") if size > 0xFFFFFFFF else bytes([major | 26]) + size.to_bytes(4)
    )
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            decode(head + bytes(1000))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "value",
    [
        *(1.0, float("nan"), 1j, bytearray(b"a"), memoryview(b"a"), {1}, frozenset(), object(), ..., range(2)),
        *(UINT64_MAX + 1, -UINT64_MAX - 2, 1 << 1000, "\ud800"),
        *({True: 0}, {b"a": 0}, {None: 0}, {(1,): 0}, {1.5: 0}, {"\udfff": 0}, {UINT64_MAX + 1: 0}),
        *([1.0], {"a": 1.0}, [[{0: [bytearray()]}]]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_without_an_encoding_is_malformed(value: Any) -> None:
    with pytest.raises(Malformed):
        encode(value)


def test_a_tuple_is_spelt_as_a_list() -> None:
    assert encode((1, (2,))) == encode([1, [2]])
