from hypothesis import given
from hypothesis import strategies as st

from consensus.ids import NodeId
from node.net.addresses import ADDRESSES_MAX, AddressBook

ME, SEED, OTHER = (NodeId(bytes([n]) * 32) for n in (1, 2, 3))


def test_what_a_node_signed_comes_before_the_networks_file_and_that_before_hearsay() -> None:
    book = AddressBook(ME, {SEED: [b"file"]})
    book.heard(SEED, [b"rumour", b"file"])
    assert book.locate(SEED) == (b"file", b"rumour")
    book.signed(SEED, [b"signed"])
    assert book.locate(SEED) == (b"signed", b"file", b"rumour")
    book.signed(SEED, [])
    assert book.locate(SEED) == (b"file", b"rumour")
    assert book.locate(OTHER) == ()


def test_nobody_tells_us_where_we_are() -> None:
    book = AddressBook(ME, {})
    book.heard(ME, [b"elsewhere"])
    book.own([b"here"])
    assert book.locate(ME) == (b"here",)


@given(st.lists(st.tuples(st.integers(0, 9), st.lists(st.binary(max_size=2), max_size=6)), max_size=60))
def test_hearsay_is_bounded_and_the_newest_stays(said: list[tuple[int, list[bytes]]]) -> None:
    book = AddressBook(ME, {}, heard_max=4)
    for number, where in said:
        node = NodeId(bytes([number + 10]) * 32)
        book.heard(node, where)
        told = tuple(dict.fromkeys(where))[:ADDRESSES_MAX]
        assert book.locate(node)[: len(told)] == told
        assert sum(bool(book.locate(NodeId(bytes([n + 10]) * 32))) for n in range(10)) <= 4
