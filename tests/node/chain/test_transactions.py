"""Transactions: what we sign is what others read, and what is none is refused with a reason."""

from contextlib import suppress
from typing import Any

import pytest
import rlp
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth_keys.datatypes import PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import Malformed
from consensus.ids import Address
from node.chain.genesis import BASE_FEE, GAS_LIMIT
from node.chain.transactions import HALF_ORDER, address_of, hash_of, intrinsic_gas, read, sign
from node.chain.wanted import BYTES_MAX

CHAIN = 1_280
TO = Address(b"\x11" * 20)
SECRETS = st.integers(1, 2**255).map(lambda number: number.to_bytes(32, "big"))
ORDER = 2 * HALF_ORDER + 1


def signed(secret: bytes = b"\1" * 32, nonce: int = 0, **says: Any) -> bytes:
    return sign(
        secret,
        says.pop("chain_id", CHAIN),
        nonce,
        says.pop("to", TO),
        says.pop("data", b""),
        says.pop("gas", 21_000),
        **says,
    )


@given(SECRETS, st.integers(0, 2**64 - 2), st.binary(max_size=200), st.integers(0, 2**128), st.integers(0, 1_000))
def test_what_is_signed_is_what_an_independent_implementation_reads(
    secret: bytes, nonce: int, data: bytes, value: int, tip: int
) -> None:
    made = signed(secret, nonce, data=data, gas=500_000, value=value, tip=tip)
    theirs: Any = PragueTransactionBuilder.decode(made)
    ours = read(made, CHAIN)
    assert theirs.sender == ours.sender == address_of(secret) == PrivateKey(secret).public_key.to_canonical_address()
    assert theirs.hash == ours.hash == hash_of(made)
    assert (theirs.nonce, theirs.to, theirs.value, theirs.data) == (ours.nonce, ours.to, ours.value, ours.data)
    assert (theirs.max_priority_fee_per_gas, theirs.max_fee_per_gas, theirs.gas) == (ours.tip, ours.fee, ours.gas)
    assert theirs.intrinsic_gas <= intrinsic_gas(data)
    assert sign(secret, CHAIN, nonce, TO, data, 500_000, value=value, tip=tip) == made


@given(st.integers(0, 3), SECRETS, st.integers(0, 2**64 - 2), st.binary(max_size=60))
def test_transactions_of_older_kinds_are_read_like_those_of_ours(
    kind: int, secret: bytes, nonce: int, data: bytes
) -> None:
    key: Any = PrivateKey(secret)
    says: Any = {"nonce": nonce, "gas": 100_000, "to": TO, "value": 1, "data": data}
    if kind == 0:
        theirs: Any = PragueTransactionBuilder.create_unsigned_transaction(gas_price=9, **says).as_signed_transaction(
            key, chain_id=CHAIN
        )
    else:
        access: Any = tuple((TO, tuple(range(slots))) for slots in range(kind))
        theirs = PragueTransactionBuilder.new_unsigned_access_list_transaction(
            chain_id=CHAIN, gas_price=9, access_list=access, **says
        ).as_signed_transaction(key)
    ours = read(theirs.encode(), CHAIN)
    assert (ours.sender, ours.hash, ours.nonce, ours.fee, ours.tip) == (theirs.sender, theirs.hash, nonce, 9, 9)
    with pytest.raises(Malformed, match="of another chain"):
        read(theirs.encode(), CHAIN + 1)


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda data: b"\2" + rlp.encode([data] * 12)))
def test_any_bytes_are_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data, CHAIN)


def nested(depth: int) -> bytes:
    """Lists within lists, as nobody writes them."""
    made = b""
    for _ in range(depth):
        size = len(made)
        length = size.to_bytes((size.bit_length() + 7) // 8, "big")
        made = (bytes([0xC0 + size]) if size < 56 else bytes([0xF7 + len(length)]) + length) + made
    return made


@pytest.mark.parametrize("depth", [10, 900, 20_000])
def test_lists_within_lists_are_refused_like_any_bytes(depth: int) -> None:
    """As a fault of whoever wrote them: one message must not end the node that reads it."""
    deep = nested(depth)
    for data in (deep, b"\1" + deep, b"\2" + deep, rlp.encode([b""] * 5) + deep):
        with pytest.raises(Malformed):
            read(data, CHAIN)
    fields: Any = rlp.decode(signed()[1:])
    whole = b"".join(rlp.encode(one) for one in fields[:8]) + deep + b"".join(rlp.encode(one) for one in fields[9:])
    length = len(whole).to_bytes((len(whole).bit_length() + 7) // 8, "big")
    with pytest.raises(Malformed):
        read(b"\2" + bytes([0xF7 + len(length)]) + length + whole, CHAIN)


@pytest.mark.parametrize("place", range(12))
def test_a_list_where_bytes_belong_and_bytes_where_a_list_does_are_refused(place: int) -> None:
    fields: Any = rlp.decode(signed()[1:])
    for wrong in ([b"x"] * 20, [], [[b"x" * 20, []]], b"x"):
        if isinstance(wrong, list) != (place == 8) or wrong == [b"x"] * 20:
            with pytest.raises(Malformed):
                read(b"\2" + rlp.encode([*fields[:place], wrong, *fields[place + 1 :]]), CHAIN)


@given(st.data())
def test_a_bit_that_is_turned_makes_it_another_ones_or_nothing(data: st.DataObject) -> None:
    made = bytearray(signed(nonce=300, data=b"what it says", gas=100_000))
    at = data.draw(st.integers(0, 8 * len(made) - 1))
    made[at // 8] ^= 1 << at % 8
    with suppress(Malformed):
        assert read(bytes(made), CHAIN).sender != address_of(b"\1" * 32)


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ({"to": Address(b"")}, "would create a contract"),
        ({"to": Address(bytes(19) + b"\x11")}, "of the EVM's own"),
        ({"tip": 10, "fee": 9}, "gives more than it pays"),
        ({"fee": BASE_FEE - 1, "tip": 0}, "less than any block takes"),
        ({"gas": GAS_LIMIT + 1}, "more gas than a block has"),
        ({"gas": 20_999}, "less gas than its bytes cost"),
        ({"gas": 21_039, "data": b"\1"}, "less gas than its bytes cost"),
        ({"nonce": 2**64 - 1}, "no account reaches"),
        ({"chain_id": 1}, "of another chain"),
        ({"data": bytes(BYTES_MAX), "gas": GAS_LIMIT}, "too long"),
    ],
)
def test_what_no_block_may_hold_is_not_spread(says: dict[str, Any], reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        read(signed(**says), CHAIN)


def test_a_signature_has_one_form() -> None:
    fields: Any = rlp.decode(signed()[1:])
    twin = [
        *fields[:9],
        b"" if fields[9] else b"\1",
        fields[10],
        (ORDER - int.from_bytes(fields[11], "big")).to_bytes(32, "big"),
    ]
    for wrong in (twin, [*fields[:9], b"\2", *fields[10:]], [*fields[:10], b"", fields[11]]):
        with pytest.raises(Malformed, match="one form"):
            read(b"\2" + rlp.encode(wrong), CHAIN)
    with pytest.raises(Malformed, match="another spelling"):
        read(b"\2" + rlp.encode([b"\0" + fields[0], *fields[1:]]), CHAIN)


def test_a_transaction_that_is_bound_to_no_chain_is_refused() -> None:
    key: Any = PrivateKey(b"\1" * 32)
    says: Any = {"nonce": 0, "gas_price": 9, "gas": 21_000, "to": TO, "value": 0, "data": b""}
    old: Any = PragueTransactionBuilder.create_unsigned_transaction(**says)
    with pytest.raises(Malformed, match="not bound to a chain"):
        read(old.as_signed_transaction(key).encode(), CHAIN)
