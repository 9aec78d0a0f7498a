"""RLP from strangers: what the library reads is what we read, and what nests too deep never reaches it."""

from typing import Any

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import Malformed
from node.chain.spelling import DEPTH_MAX, check_depth, decoded
from tests.node.chain.test_transactions import nested

TREES = st.recursive(st.binary(max_size=80), lambda inner: st.lists(inner, max_size=5), max_leaves=20)


def depth_of(tree: Any) -> int:
    return 1 + max(map(depth_of, tree), default=0) if isinstance(tree, list) else 0


@given(TREES)
def test_what_nests_as_ethereum_does_is_read_as_the_library_reads_it(tree: Any) -> None:
    data = bytes(rlp.encode(tree))
    if depth_of(tree) <= DEPTH_MAX:
        assert decoded(data) == tree
    else:
        with pytest.raises(Malformed, match="nest deeper"):
            decoded(data)


@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        assert rlp.encode(decoded(data)) == data
    except Malformed:
        return


def test_one_too_deep_is_told_wherever_it_stands() -> None:
    check_depth(nested(DEPTH_MAX))
    for data in (nested(DEPTH_MAX + 1), bytes(rlp.encode([b"x" * 99, [b""]])) + nested(50_000)):
        with pytest.raises(Malformed, match="nest deeper"):
            check_depth(data)
