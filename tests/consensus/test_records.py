"""Records: what unpack gives keeps every limit and packs to the same bytes; everything else is Malformed."""

import random
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Annotated, Any, ClassVar, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import Malformed, Value, decode, encode
from consensus.ids import Millis, SessionId
from consensus.records import Between, Most, Size, from_value, pack, to_value, unpack

UINT64_MAX = (1 << 64) - 1


class Colour(IntEnum):
    RED = 1
    BLUE = 300


@dataclass(frozen=True, slots=True)
class Part:
    VERSION: ClassVar = 1
    n: int


@dataclass(frozen=True, slots=True)
class Whole:
    """Every kind of field."""

    VERSION: ClassVar = 3
    count: int
    score: Annotated[int, Between(-5, 5)]
    at: Millis
    raw: bytes
    key: Annotated[bytes, Size(4)]
    few: Annotated[bytes, Most(3)]
    session: Annotated[SessionId, Size(32)]
    text: str
    short: Annotated[str, Most(3)]
    done: bool
    colour: Colour
    maybe: int | None
    maybe_key: Optional[Annotated[bytes, Size(2)]]  # noqa: UP045  # both spellings have a codec
    maybe_short: Annotated[str | None, Most(3)]
    maybe_part: Part | None
    part: Part
    digits: Annotated[tuple[Annotated[int, Between(0, 9)], ...], Most(4)]
    parts: tuple[Part, ...]
    colours: tuple[Colour, ...] | None


SAMPLE = Whole(
    count=7,
    score=-5,
    at=Millis(1_700_000_000_000),
    raw=b"raw",
    key=b"key!",
    few=b"",
    session=SessionId(bytes(32)),
    text="téxt",
    short="水水水",
    done=True,
    colour=Colour.BLUE,
    maybe=None,
    maybe_key=b"ab",
    maybe_short=None,
    maybe_part=Part(1),
    part=Part(UINT64_MAX),
    digits=(0, 9, 4, 4),
    parts=(Part(0), Part(2)),
    colours=(Colour.RED, Colour.RED),
)

uint64 = st.integers(0, UINT64_MAX)
colours = st.sampled_from(Colour)
parts = st.builds(Part, uint64)
wholes = st.builds(
    Whole,
    count=uint64,
    score=st.integers(-5, 5),
    at=uint64,
    raw=st.binary(max_size=40),
    key=st.binary(min_size=4, max_size=4),
    few=st.binary(max_size=3),
    session=st.binary(min_size=32, max_size=32),
    text=st.text(max_size=20),
    short=st.text(max_size=3),
    done=st.booleans(),
    colour=colours,
    maybe=st.none() | uint64,
    maybe_key=st.none() | st.binary(min_size=2, max_size=2),
    maybe_short=st.none() | st.text(max_size=3),
    maybe_part=st.none() | parts,
    part=parts,
    digits=st.lists(st.integers(0, 9), max_size=4).map(tuple),
    parts=st.lists(parts, max_size=3).map(tuple),
    colours=st.none() | st.lists(colours, max_size=3).map(tuple),
)


def exact(record: Any) -> Any:
    """A record such that True ≠ 1 and an enumeration's member ≠ its number."""
    if hasattr(record, "VERSION"):
        return type(record), [exact(getattr(record, field.name)) for field in fields(record)]
    return (type(record), [exact(item) for item in record]) if isinstance(record, tuple) else (type(record), record)


@given(wholes)
def test_unpacking_gives_back_what_was_packed(record: Whole) -> None:
    assert exact(unpack(Whole, pack(record))) == exact(record)
    assert exact(from_value(Whole, decode(encode(to_value(record))))) == exact(record)


def test_a_record_is_a_map_of_its_fields_and_its_version() -> None:
    value: Any = decode(pack(SAMPLE))
    assert value.keys() == {"v"} | {field.name for field in fields(Whole)}
    assert value["v"] == 3
    assert value["colour"] == 300
    assert value["maybe"] is None
    assert value["part"] == {"v": 1, "n": UINT64_MAX}
    assert value["parts"] == [{"v": 1, "n": 0}, {"v": 1, "n": 2}]
    assert value["digits"] == [0, 9, 4, 4]
    assert pack(Part(5)) == bytes.fromhex("a2616e05617601")


PART: Value = {"v": 1, "n": 1}
FITTING: dict[str, list[Value]] = {
    "count": [0, UINT64_MAX],
    "score": [-5, 0, 5],
    "at": [0, UINT64_MAX],
    "raw": [b"", b"long" * 100],
    "key": [b"four"],
    "few": [b"", b"abc"],
    "session": [bytes(32)],
    "text": ["", "long" * 100],
    "short": ["", "水水水"],
    "done": [False, True],
    "colour": [1, 300],
    "maybe": [None, 0, UINT64_MAX],
    "maybe_key": [None, b"ab"],
    "maybe_short": [None, "", "abc"],
    "maybe_part": [None, PART],
    "part": [PART],
    "digits": [[], [0, 1, 8, 9]],
    "parts": [[], [PART], [PART] * 100],
    "colours": [None, [], [300, 1]],
}
UNFIT: dict[str, list[Value]] = {
    "count": [-1],
    "score": [-6, 6],
    "at": [-1],
    "key": [b"fou", b"fours"],
    "few": [b"abcd"],
    "session": [bytes(31), bytes(33)],
    "short": ["水水水水"],
    "colour": [0, 2, 299, -1],
    "maybe": [-1],
    "maybe_key": [b"a", b"abc"],
    "maybe_short": ["abcd"],
    "maybe_part": [{"v": 1}],
    "part": [{"v": 2, "n": 1}, {"v": 1, "n": -1}, {"v": 1, "n": 1, "m": 1}, {"n": 1}],
    "digits": [[10], [-1], [0] * 5, [None], [[0]], [True]],
    "parts": [[1], [None], [PART, {"v": 1}], [[PART]]],
    "colours": [[2], [True], [None], ["RED"]],
}
OF_EVERY_TYPE: list[Value] = [
    None,
    False,
    True,
    -1,
    0,
    1,
    300,
    b"",
    b"ab",
    b"four",
    bytes(32),
    "",
    "abc",
    [],
    [0],
    {},
    PART,
]


def spelling(name: str, value: Value) -> bytes:
    """The packed sample with one field replaced."""
    whole: Any = to_value(SAMPLE)
    return encode({**whole, name: value})


@pytest.mark.parametrize("name", FITTING)
def test_a_field_takes_what_fits_up_to_the_edge_and_nothing_else(name: str) -> None:
    for value in FITTING[name]:
        data = spelling(name, value)
        assert pack(unpack(Whole, data)) == data
    kinds = {type(value) for value in FITTING[name]}
    for value in UNFIT.get(name, []) + [value for value in OF_EVERY_TYPE if type(value) not in kinds]:
        with pytest.raises(Malformed):
            unpack(Whole, spelling(name, value))


def test_every_field_is_tried() -> None:
    assert list(FITTING) == [field.name for field in fields(Whole)]
    assert FITTING.keys() - UNFIT.keys() == {"raw", "text", "done"}  # these have no limits


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("count", -1), ("count", UINT64_MAX + 1), ("count", True), ("count", "7"), ("score", 6), ("score", -6)],
        *[("raw", bytearray(b"raw")), ("key", b"fou"), ("few", b"abcd"), ("session", bytes(31)), ("text", b"text")],
        *[("text", None), ("short", "abcd"), ("done", 1), ("done", None), ("colour", 2), ("colour", 299)],
        *[("maybe", -1), ("maybe_key", b"abc"), ("maybe_short", "abcd"), ("part", Part(-1)), ("maybe_part", Part(-1))],
        *[("digits", (0,) * 5), ("digits", (10,)), ("digits", (True,)), ("parts", (Part(-1),)), ("colours", (2,))],
    ],
)
def test_a_record_that_breaks_its_own_limits_is_not_packed(name: str, value: Any) -> None:
    with pytest.raises(Malformed):
        pack(replace(SAMPLE, **{name: value}))


@pytest.mark.parametrize("name", ["v", *FITTING])
def test_a_missing_field_is_malformed(name: str) -> None:
    whole: Any = to_value(SAMPLE)
    with pytest.raises(Malformed, match="not the fields of a Whole"):
        unpack(Whole, encode({key: value for key, value in whole.items() if key != name}))


@pytest.mark.parametrize("extra", ["extra", "V", "", 0, 3, -1])
def test_an_extra_field_is_malformed(extra: int | str) -> None:
    whole: Any = to_value(SAMPLE)
    with pytest.raises(Malformed, match="not the fields of a Whole"):
        unpack(Whole, encode({**whole, extra: None}))


@pytest.mark.parametrize("version", [0, 2, 4, -3, UINT64_MAX, "3", b"\x03", None, [3], b"x" * 10_000])
def test_another_version_is_malformed_in_a_short_sentence(version: Value) -> None:
    with pytest.raises(Malformed, match="version") as caught:
        unpack(Whole, spelling("v", version))
    assert len(str(caught.value)) < 200


def test_true_is_not_version_1() -> None:
    assert unpack(Part, encode({"v": 1, "n": 0})) == Part(0)
    with pytest.raises(Malformed):
        unpack(Part, encode({"v": True, "n": 0}))


@pytest.mark.parametrize("value", [*OF_EVERY_TYPE[:-1], {"n": 1}, {"v": 1}, {0: 1, 1: 1}])
def test_what_is_not_a_map_of_the_fields_is_malformed(value: Value) -> None:
    with pytest.raises(Malformed):
        unpack(Part, encode(value))


def test_a_record_of_another_class_is_malformed() -> None:
    with pytest.raises(Malformed):
        unpack(Whole, pack(Part(1)))
    with pytest.raises(Malformed):
        unpack(Part, pack(SAMPLE))


def survives(data: bytes) -> bool:
    """Whether the bytes unpack, in which case they have to be the packing of what they unpack to."""
    try:
        record = unpack(Whole, data)
    except Malformed:
        return False
    assert pack(record) == data
    return True


def test_of_five_thousand_damaged_packings_none_does_anything_but_unpack_or_be_malformed() -> None:
    rng = random.Random(20240229)
    sample = pack(SAMPLE)
    outcomes = set()
    for _ in range(5_000):
        data = bytearray(sample)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[at] ^= 1 << rng.randrange(8)
                case 1:
                    data[at] = rng.choice(b"\x00\x17\x18\x1b\x20\x40\x60\x80\xa0\xf4\xf5\xf6\xf9\xff")
                case 2:
                    del data[at : at + rng.randint(1, 4)]
                case _:
                    data[at:at] = rng.randbytes(rng.randint(1, 4))
        outcomes.add(survives(bytes(data)))
    assert outcomes == {False, True}


def test_of_five_thousand_random_strings_none_unpacks() -> None:
    rng = random.Random(1)
    assert not any(survives(rng.randbytes(rng.randint(0, 60))) for _ in range(5_000))


keys = st.sampled_from(["v", *FITTING])
anything: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(OF_EVERY_TYPE) | uint64, lambda inner: st.lists(inner, max_size=3)
)


@given(st.dictionaries(keys, anything, min_size=1, max_size=4))
def test_a_sample_with_any_fields_replaced_unpacks_or_is_malformed(replaced: dict[str, Any]) -> None:
    whole: Any = to_value(SAMPLE)
    survives(encode(whole | replaced))


@dataclass(frozen=True, slots=True)
class Pair:
    VERSION: ClassVar = 1
    both: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Odd:
    VERSION: ClassVar = 1
    n: Annotated[int, "few"]


def test_a_class_without_an_encoding_is_a_mistake_of_ours_and_says_so() -> None:
    with pytest.raises(TypeError, match=r"Pair.both: only tuple\[T, ...\]"):
        pack(Pair((1, 2)))
    with pytest.raises(TypeError, match=r"Odd.n: 'few' is no limit"):
        pack(Odd(1))
