"""The index of a tree of payloads: numbers are those of the head's branch, whichever heads came before."""

from hypothesis import given
from hypothesis import strategies as st

from consensus.ids import Address, Digest
from node.chain.evm import MemoryRows
from node.chain.index import (
    HEAD,
    EmittedLog,
    TransactionPlace,
    TransactionReceipt,
    number_key,
    numbers_to,
    places,
    places_key,
    read_receipts,
    receipts_row,
    rows_of,
)
from tests.consensus.worlds import named


@given(st.lists(st.integers(0, 30), max_size=30), st.lists(st.integers(0, 30), max_size=12))
def test_whatever_the_head_was_the_numbers_lead_to_the_one_of_now(parents: list[int], heads: list[int]) -> None:
    tree = {0: (0, 0)}  # block to parent and number
    for block, parent in enumerate(parents, 1):
        tree[block] = parent % block, tree[parent % block][1] + 1
    rows = MemoryRows()
    for wanted in heads:
        head = wanted % len(tree)
        rows.commit(
            numbers_to(named(head), tree[head][1], lambda at: named(tree[int.from_bytes(at, "big")][0]), rows.get)
        )
        path, at = [], head
        while at:
            path.append(at)
            at = tree[at][0]
        kept = [rows.get(number_key(number)) for number in range(32)]
        assert kept == [*map(named, [0, *reversed(path)]), *[None] * (31 - len(path))]
        assert rows.get(HEAD) == named(head)


LOGS = st.builds(
    EmittedLog,
    st.binary(min_size=20, max_size=20).map(Address),
    st.lists(st.binary(min_size=32, max_size=32), max_size=4).map(tuple),
    st.binary(max_size=40),
)
RECEIPTS = st.lists(
    st.builds(TransactionReceipt, st.booleans(), st.integers(0, 2**63), st.lists(LOGS, max_size=3).map(tuple)),
    max_size=4,
).map(tuple)


@given(RECEIPTS)
def test_receipts_are_read_as_they_were(receipts: tuple[TransactionReceipt, ...]) -> None:
    assert read_receipts(receipts_row(receipts)) == receipts


def test_a_transaction_is_found_on_every_branch_that_has_it_and_once_on_each() -> None:
    rows = MemoryRows()
    for name in (named(1), named(2), named(1)):
        rows.commit(rows_of(name, (), [b"a", b"b"], rows.get))
    assert places(rows.get(places_key(b"b"))) == [
        TransactionPlace(Digest(named(1)), 1),
        TransactionPlace(Digest(named(2)), 1),
    ]
    assert places(rows.get(places_key(b"c"))) == []
