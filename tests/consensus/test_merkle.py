"""Merkle trees: what is in them proves so, and nothing else does; against a second, recursive implementation."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from consensus.ids import Digest
from consensus.merkle import SEGMENT, included, leaf, prove, prove_all, root, segment_root
from tests.vectors import make
from tests.vectors.stored import vector

BLAKE3 = vector("blake3")


def leaves(count: int) -> list[bytes]:
    return [leaf(number.to_bytes(4, "big")) for number in range(count)]


@pytest.mark.parametrize("case", BLAKE3["cases"], ids=lambda case: str(case["input_len"]))
def test_blake3_has_the_published_values(case: dict[str, Any]) -> None:
    size = case["input_len"]
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    key = BLAKE3["key"].encode()
    assert blake3(data).digest(length=131).hex() == case["hash"]
    assert blake3(data).digest().hex() == case["hash"][:64]
    assert blake3(data, key=key).digest(length=131).hex() == case["keyed_hash"]
    assert blake3(data, derive_key_context=BLAKE3["context"]).digest(length=131).hex() == case["derive_key"]
    pieces = blake3()
    for at in range(0, size, 1000):
        pieces.update(data[at : at + 1000])
    assert pieces.digest() == blake3(data).digest()


@pytest.mark.parametrize("tree", vector("merkle")["trees"], ids=lambda tree: f"{tree['count']} leaves")
def test_roots_and_proofs_are_the_stored_ones(tree: dict[str, Any]) -> None:
    below = [leaf(bytes([number])) for number in range(tree["count"])]
    assert root(below).hex() == tree["root"]
    assert [[sibling.hex() for sibling in proof] for proof in prove_all(below)] == tree["proofs"]


@pytest.mark.parametrize("count", [*range(71), 127, 128, 129, 255, 256, 257, 1000])
def test_every_leaf_proves_itself_and_as_a_second_implementation_does(count: int) -> None:
    below = leaves(count)
    top = root(below)
    assert top == make.root(below)
    proofs = prove_all(below)
    assert len(proofs) == count
    for index, proof in enumerate(proofs):
        if count <= 70 or index % 97 in {0, 96} or index == count - 1:  # the second implementation is slow
            assert list(proof) == make.path(below, index)
        assert len(proof) <= math.ceil(math.log2(count))
        assert included(top, count, index, below[index], proof)
    for index in range(0, count, 1 + count // 8):
        assert prove(below, index) == proofs[index]


@pytest.mark.parametrize("count", [*range(1, 10), 13])
def test_a_proof_holds_for_no_other_leaf_place_count_or_root(count: int) -> None:
    below = leaves(count)
    top, other = root(below), root(leaves(count + 1))
    for index, proof in enumerate(prove_all(below)):
        holding = [
            (claimed, place, number)
            for claimed in range(2 * count + 3)
            for place in range(-2, claimed + 2)
            for number in range(count)
            if included(top, claimed, place, below[number], proof)
        ]
        assert holding == [(count, index, index)]
        assert not included(other, count, index, below[index], proof)
        assert not included(top, count, index, leaf(below[index]), proof)


@given(st.integers(1, 70), st.data())
def test_a_proof_of_any_other_shape_does_not_hold(count: int, data: st.DataObject) -> None:
    below = leaves(count)
    top, index = root(below), data.draw(st.integers(0, count - 1))
    proof = list(prove(below, index))

    def holds(siblings: Sequence[bytes]) -> bool:
        return included(top, count, index, below[index], [Digest(sibling) for sibling in siblings])

    assert holds(proof)
    at = data.draw(st.integers(0, len(proof)))
    assert not holds([*proof[:at], data.draw(st.sampled_from([bytes(32), b"", *proof, top])), *proof[at:]])
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        sibling = proof[at]
        assert not holds(proof[:at] + proof[at + 1 :])
        flipped = bytearray(sibling)
        flipped[data.draw(st.integers(0, 31))] ^= 1 << data.draw(st.integers(0, 7))
        for false in (bytes(flipped), sibling[:31], sibling + b"\x00", b""):
            assert not holds([*proof[:at], false, *proof[at + 1 :]])
    if len(proof) > 1:
        assert not holds(proof[::-1])


def test_a_proof_under_an_absurd_count_does_not_hold() -> None:
    for count in (1 << 64, 1 << 70):
        assert not included(Digest(bytes(32)), count, 0, bytes(32), [Digest(bytes(32))] * count.bit_length())
        assert not included(Digest(bytes(32)), count, 0, bytes(32), [Digest(bytes(32))] * (count.bit_length() - 1))
    most = (1 << 64) - 1
    proof = [Digest(bytes([level]) * 32) for level in range(64)]
    node = bytes(32)
    for sibling in proof:
        node = blake3(b"\x01" + node + sibling).digest()
    top = Digest(blake3(b"\x02" + most.to_bytes(8, "big") + node).digest())
    assert included(top, most, 0, bytes(32), proof)


def test_nothing_is_included_in_an_empty_tree() -> None:
    assert root([]) == blake3(b"\x02" + bytes(8)).digest()
    assert prove_all([]) == []
    assert not included(root([]), 0, 0, b"", ())


@pytest.mark.parametrize(("count", "index"), [(0, 0), (1, 1), (5, 5), (5, -1), (5, -5), (5, 1 << 70)])
def test_there_is_no_proof_of_a_leaf_that_is_not_there(count: int, index: int) -> None:
    with pytest.raises(IndexError):
        prove(leaves(count), index)


@given(st.integers(1, 70), st.data())
def test_no_other_list_has_the_same_root(count: int, data: st.DataObject) -> None:
    below = leaves(count)
    at = data.draw(st.integers(0, count - 1))
    others = [
        [*below, below[-1]],
        [*below, leaf(b"new")],
        below[:at] + below[at + 1 :],
        [*below[: at + 1], *below[at:]],
        [*below[:at], leaf(b"new"), *below[at + 1 :]],
        [blake3(b"\x01" + below[0] + below[1]).digest(), *below[2:]] if count > 1 else [],
    ]
    if count > 1:
        to = data.draw(st.integers(0, count - 1).filter(lambda to: to != at))
        swapped = list(below)
        swapped[at], swapped[to] = swapped[to], swapped[at]
        others.append(swapped)
    roots = {root(other) for other in others}
    assert root(below) not in roots


def test_a_leaf_is_hashed_as_no_inner_node_is() -> None:
    assert leaf(b"content") == blake3(b"\x00content").digest()
    left, right = leaves(2)
    assert leaf(left + right) != blake3(b"\x01" + left + right).digest()


@pytest.mark.parametrize("size", [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 5 * SEGMENT + 77])
def test_segment_root_is_the_root_of_the_segments_hashes(size: int) -> None:
    assert SEGMENT == 16 * 1024
    data = blake3(b"file").digest(length=size)
    hashes, rest = [], data
    while rest:
        hashes.append(blake3(rest[:SEGMENT]).digest())
        rest = rest[SEGMENT:]
    assert len(hashes) == -(-size // SEGMENT)
    assert segment_root(data) == segment_root(memoryview(data)) == make.root(hashes)
