"""Receipts and their proofs: the root is the one that py-evm puts into the header, and nothing but what is under it is shown."""

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import Malformed
from consensus.ids import Address, Digest, SessionId
from node.chain.evm import Attributes, Evm, Grant, MemoryRows
from node.chain.genesis import ChainLaw
from node.chain.onsystem import anchor_head, open_session
from node.chain.receipts import NUMBER, RECEIPTS_ROOT, TIMESTAMP, header_fields, kinds_of, proof, root, shown, spelled
from node.chain.transactions import address_of, sign
from tests.consensus.worlds import named

LAW = ChainLaw(1_280, 1_800_000_000, (), 5)
SECRET = b"\1" * 32
ME = address_of(SECRET)


def attributes(slot: int, *grants: Grant) -> Attributes:
    return Attributes(LAW.began_s + 5 * slot, named(slot), Address(bytes(20)), named(slot), grants)


@pytest.fixture(scope="module")
def chain() -> tuple[Evm, Digest]:
    """A block of forty transactions, every third of which its contract refuses."""
    evm = Evm(MemoryRows(), LAW)
    first, payload = evm.build(evm.genesis, attributes(1, Grant(ME, 10**9)), [])
    evm.execute(evm.genesis, attributes(1, Grant(ME, 10**9)), payload)
    calls = [
        anchor_head(SessionId(named(nonce)), 1, named(2))
        if nonce % 3 == 2
        else open_session(nonce.to_bytes(16, "big"), bytes(32), bytes(32))
        for nonce in range(40)
    ]
    sent = [sign(SECRET, LAW.chain_id, nonce, call.to, call.data, call.gas) for nonce, call in enumerate(calls)]
    name, payload = evm.build(first, attributes(2), sent)
    evm.execute(first, attributes(2), payload)
    return evm, name


def test_the_root_is_the_headers_and_each_receipt_is_shown_by_its_nodes(chain: tuple[Evm, Digest]) -> None:
    evm, name = chain
    block, header = evm.payload(name), bytes(rlp.encode(evm.header(name)))
    assert block is not None
    fields = header_fields(header, name)
    receipts = spelled(evm.receipts(name), kinds_of(block))
    assert root(receipts) == fields[RECEIPTS_ROOT]
    assert (int.from_bytes(fields[NUMBER], "big"), int.from_bytes(fields[TIMESTAMP], "big")) == (2, LAW.began_s + 10)
    for at, one in enumerate(evm.receipts(name)):
        found = shown(fields[RECEIPTS_ROOT], at, proof(receipts, at))
        assert (found.ok, found.logs) == (one.ok, one.logs)
        assert found.ok is (at % 3 != 2)


@given(st.data())
def test_nothing_else_is_shown(chain: tuple[Evm, Digest], data: st.DataObject) -> None:
    evm, name = chain
    block = evm.payload(name)
    assert block is not None
    receipts = spelled(evm.receipts(name), kinds_of(block))
    at = data.draw(st.integers(0, 39))
    nodes = [bytearray(node) for node in proof(receipts, at)]
    wrong = data.draw(st.integers(0, len(nodes) - 1))
    match data.draw(st.sampled_from(["bit", "missing", "place", "junk"])):
        case "bit":
            bit = data.draw(st.integers(0, 8 * len(nodes[wrong]) - 1))
            nodes[wrong][bit // 8] ^= 1 << bit % 8
        case "missing":
            del nodes[wrong]
        case "place":
            at = 40 + at
        case _:
            nodes[wrong] = bytearray(data.draw(st.binary(max_size=40)))
    with pytest.raises(Malformed):
        shown(root(receipts), at, [bytes(node) for node in nodes])


@given(st.binary(max_size=100))
def test_a_header_is_the_one_of_its_name_or_none(data: bytes) -> None:
    with pytest.raises(Malformed):
        header_fields(data, named(1))
