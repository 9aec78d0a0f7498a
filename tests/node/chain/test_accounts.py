"""Accounts for who begins at a payload: complete, each by its hash, and nothing else; the next payload is executed on them."""

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import Malformed
from consensus.ids import Address, Digest
from node.chain.accounts import adopt, values
from node.chain.evm import Attributes, Evm, Grant, MemoryRows
from node.chain.genesis import PLACES, ChainLaw
from node.chain.onsystem import open_session
from node.chain.transactions import address_of, sign
from tests.consensus.worlds import named

LAW = ChainLaw(1_280, 1_800_000_000, (), 5)
SECRETS = [bytes([number]) * 32 for number in range(1, 6)]


def attributes(slot: int, *grants: Grant) -> Attributes:
    return Attributes(LAW.began_s + 5 * slot, named(slot), Address(b"\x99" * 20), named(slot), grants)


def extended(evm: Evm, parent: Digest, slot: int, *grants: Grant, calls: int = 0) -> Digest:
    sent = []
    for secret in SECRETS:
        nonce = evm.at(parent).nonce(address_of(secret))
        for at in range(nonce, nonce + calls):
            call = open_session(bytes([slot, at]) * 8, bytes(32), bytes(32))
            sent.append(sign(secret, LAW.chain_id, at, call.to, call.data, call.gas))
    name, payload = evm.build(parent, attributes(slot, *grants), sent)
    evm.execute(parent, attributes(slot, *grants), payload)
    return name


@pytest.fixture(scope="module")
def grown() -> tuple[MemoryRows, Evm, Digest, list[bytes]]:
    rows = MemoryRows()
    evm = Evm(rows, LAW)
    name = extended(evm, evm.genesis, 1, *(Grant(address_of(secret), 10**8) for secret in SECRETS))
    for slot in range(2, 5):
        name = extended(evm, name, slot, calls=6)
    return rows, evm, name, [*values(header_of(evm, name), name, rows.get)]


def header_of(evm: Evm, name: Digest) -> bytes:
    return bytes(rlp.encode(evm.header(name)))


def test_who_begins_there_comes_to_the_same_with_what_follows(
    grown: tuple[MemoryRows, Evm, Digest, list[bytes]],
) -> None:
    _, evm, name, found = grown
    rows = MemoryRows()
    assert adopt(rows, header_of(evm, name), name, found) == len(found) > 90
    other = Evm(rows, LAW)
    assert (other.head, other.numbered(4)) == (name, name)
    for address in (*map(address_of, SECRETS), *PLACES.values()):
        ours, theirs = evm.at(name), other.at(name)
        assert (ours.balance(address), ours.code(address)) == (theirs.balance(address), theirs.code(address))
    following, payload = evm.build(name, attributes(9), [])
    assert other.build(name, attributes(9), [])[0] == following
    other.execute(name, attributes(9), payload)
    last = extended(evm, name, 10, calls=3)
    kept = evm.payload(last)
    assert kept is not None
    assert other.execute(name, attributes(10), kept).name == last
    other.follow(last)
    assert other.numbered(5) == last


@given(st.data())
def test_nothing_is_taken_that_is_not_exactly_it(
    grown: tuple[MemoryRows, Evm, Digest, list[bytes]], data: st.DataObject
) -> None:
    _, evm, name, found = grown
    given_ = [*found]
    at = data.draw(st.integers(0, len(found) - 1))
    match data.draw(st.sampled_from(["bit", "missing", "twice", "more", "order", "junk"])):
        case "bit":
            changed = bytearray(found[at])
            bit = data.draw(st.integers(0, 8 * len(changed) - 1))
            changed[bit // 8] ^= 1 << bit % 8
            given_[at] = bytes(changed)
        case "missing":
            del given_[at]
        case "twice":
            given_.insert(at, found[at])
        case "more":
            given_.insert(at, b"more than there is")
        case "order":
            other = (at + 1) % len(found)
            given_[at], given_[other] = given_[other], given_[at]
        case _:
            given_[at] = data.draw(st.binary(max_size=50))
    rows = MemoryRows()
    with pytest.raises(Malformed):
        adopt(rows, header_of(evm, name), name, given_)
    assert rows.rows == {}


def test_a_header_of_another_name_is_refused(grown: tuple[MemoryRows, Evm, Digest, list[bytes]]) -> None:
    _, evm, name, found = grown
    with pytest.raises(Malformed, match="of another name"):
        adopt(MemoryRows(), header_of(evm, evm.genesis), name, found)
