"""What a node says of itself under a name of its own or in the directory: taken as it was signed, or not at all."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.encoding import Malformed
from consensus.ids import NO_NETWORK, Millis, Network, NodeId
from consensus.records import pack, unpack
from consensus.signing import KeyPair
from netsim.verify import CachedVerify
from node.overlay.advert import ADDRESSES_MAX, Advert, read_advert, registry, write_advert
from node.overlay.holdings import HoldingLimits, Standing, Values
from node.overlay.values import NamedValue, SignedValue, key_of, validators, write
from tests.examples import examples

PAIR, OTHER = (KeyPair.from_seed(bytes([seed]) * 32) for seed in (1, 2))
ME, NOW = NodeId(PAIR.public), Millis(1_800_000_000_000)
VALUE = NamedValue(ME, b"met at", 7, Millis(NOW + 60_000), b"an onion")
KEY, DATA = key_of(ME, b"met at"), write(PAIR, NO_NETWORK, VALUE)
VERIFY = CachedVerify()
JUDGE = validators(NO_NETWORK, VERIFY)["signed"]


def test_a_value_counts_under_its_own_key_with_its_sequence_and_expiry() -> None:
    assert JUDGE(KEY, DATA, NOW) == Standing(7, VALUE.expiry)


def signed(value: NamedValue, pair: KeyPair = PAIR, name: str = "value", network: Network = NO_NETWORK) -> bytes:
    body = pack(value)
    return pack(SignedValue(body, pair.sign(name, network, body)))


WRONG = {
    "under another name": (key_of(ME, b"other"), DATA),
    "under another's key": (key_of(NodeId(OTHER.public), b"met at"), DATA),
    "signed by another": (KEY, signed(VALUE, OTHER)),
    "said of another": (KEY, signed(replace(VALUE, author=NodeId(OTHER.public)))),
    "of another network": (KEY, signed(VALUE, network=Network(b"n" * 32))),
    "signed as an entry": (KEY, signed(VALUE, name="entry")),
    "with a later sequence": (KEY, pack(replace(unpack(SignedValue, DATA), value=pack(replace(VALUE, sequence=8))))),
    "nothing": (KEY, b""),
    "not signed": (KEY, pack(VALUE)),
    "longer": (KEY, DATA + b"\x00"),
}


@pytest.mark.parametrize(("key", "data"), WRONG.values(), ids=WRONG)
def test_a_value_that_is_not_its_authors_own_of_that_name_does_not_count(key: bytes, data: bytes) -> None:
    values = Values(validators(NO_NETWORK, VERIFY), HoldingLimits())
    assert JUDGE(key, data, NOW) is None
    assert values.judge(NOW, key, data) is None
    assert len(values) == 0


@settings(max_examples=examples(300))
@given(at=st.integers(0, len(DATA) - 1), bit=st.integers(0, 7), more=st.binary(max_size=2))
def test_no_mutation_of_a_value_counts(at: int, bit: int, more: bytes) -> None:
    assert JUDGE(KEY, DATA[:at] + bytes((DATA[at] ^ 1 << bit,)) + DATA[at + 1 :], NOW) is None
    assert JUDGE(KEY, DATA[:at] + more + DATA[at:], NOW) is None or not more


@given(st.binary(max_size=200))
def test_random_bytes_are_no_value_and_no_advert(data: bytes) -> None:
    assert JUDGE(KEY, data, NOW) is None
    advert = read_advert(data)
    assert advert is None or write_advert(advert) == data


ADVERT = Advert((b"\x01" * 39,), 5_000_000_000, "lucid 1")
adverts = st.builds(
    Advert, st.lists(st.binary(max_size=128), max_size=4).map(tuple), st.integers(0, (1 << 64) - 1), st.text(max_size=8)
)


@given(adverts)
def test_an_advert_is_read_as_it_was_written(advert: Advert) -> None:
    assert read_advert(write_advert(advert)) == advert


@settings(max_examples=examples(300))
@given(adverts, st.integers(0, 1 << 16), st.binary(max_size=3))
def test_a_damaged_advert_is_another_or_none(advert: Advert, at: int, more: bytes) -> None:
    body = write_advert(advert)
    at %= len(body)
    damaged = body[:at] + more + body[at + 1 :]
    read = read_advert(damaged)
    assert read is None or write_advert(read) == damaged


@pytest.mark.parametrize(
    "change",
    [
        {"addresses": (b"a",) * (ADDRESSES_MAX + 1)},
        {"addresses": (bytes(129),)},
        {"capacity": 1 << 64},
        {"program": "x" * 33},
    ],
)
def test_an_advert_beyond_its_bounds_is_not_written(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        write_advert(replace(ADVERT, **change))


def test_who_offers_no_space_holds_nothing() -> None:
    listed = registry([(ME, ADVERT), (NodeId(OTHER.public), replace(ADVERT, capacity=0))])
    assert [(one.node, one.entity, one.capacity) for one in listed] == [(ME, ME, ADVERT.capacity)]
