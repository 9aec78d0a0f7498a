"""Facts for contracts: each is shown by its siblings, and nothing else is; the hashes by hand."""

from hypothesis import given
from hypothesis import strategies as st

from consensus.facts import UNSAID, Fact, Payout, facts, leads, proof, root, words
from consensus.ids import Address, keccak256
from tests.consensus.worlds import named

DATA = st.lists(st.binary(max_size=100), min_size=4, max_size=4)


@given(DATA, st.sampled_from(Fact), st.binary(max_size=100), st.integers(0, 1), st.integers(0, 255))
def test_each_fact_leads_to_the_root_and_another_one_or_other_siblings_do_not(
    data: list[bytes], fact: Fact, other: bytes, level: int, bit: int
) -> None:
    siblings = proof(data, fact)
    assert leads(data[fact], fact, siblings) == root(data)
    if other != data[fact]:
        assert leads(other, fact, siblings) != root(data)
    turned = [bytearray(one) for one in siblings]
    turned[level][bit // 8] ^= 1 << bit % 8
    assert leads(data[fact], fact, (bytes(turned[0]), bytes(turned[1]))) != root(data)


def test_words_are_those_of_the_abi_and_the_tree_is_the_one_of_the_contracts() -> None:
    payee = Address(b"\xaa" * 20)
    assert words(5, payee) == (5).to_bytes(32, "big") + bytes(12) + payee
    said = facts(named(1), Payout(7, payee, 3))
    assert said == (named(1), words(7, payee, 3), UNSAID, UNSAID)
    assert facts(named(1), None)[Fact.REWARD] == UNSAID
    leaves = [keccak256(b"\0" + one) for one in said]
    left, right = (keccak256(b"\1" + leaves[at] + leaves[at + 1]) for at in (0, 2))
    assert root(said) == keccak256(b"\1" + left + right)
    assert proof(said, Fact.REWARD) == (leaves[0], right)
    assert proof(said, Fact.VOTERS) == (leaves[2], left)
