"""What the contracts are told: every fact and entry proves itself, nothing else does; against a second implementation."""

from collections.abc import Callable, Sequence

import pytest
from eth_abi.abi import encode
from hypothesis import assume, given
from hypothesis import strategies as st

from consensus.facts import (
    BLOCK,
    CREDITS,
    NOBODY,
    REWARD,
    VOTERS,
    Facts,
    Listed,
    Minting,
    credits_entries,
    facts_leaves,
    facts_proof,
    facts_root,
    is_fact,
    is_listed,
    list_proofs,
    list_root,
    voters_entries,
)
from consensus.ids import Address, Digest, keccak256
from tests.examples import examples

NUMBERS = st.one_of(st.integers(0, 3), st.integers(0, 2**256 - 1))
HASHES = st.binary(min_size=32, max_size=32).map(Digest)
ADDRESSES = st.binary(min_size=20, max_size=20).map(Address)
LISTS = st.builds(Listed, NUMBERS, HASHES, NUMBERS)
FACTS = st.builds(Facts, HASHES, st.builds(Minting, NUMBERS, ADDRESSES, NUMBERS), LISTS, LISTS)
SAID = Facts(
    Digest(b"b" * 32),
    Minting(7, Address(b"p" * 20), 50),
    Listed(3, Digest(b"c" * 32), 9),
    Listed(1, Digest(b"v" * 32), 4),
)
NONE = Digest(bytes(32))


def hashed(prefix: int, *parts: bytes) -> Digest:
    return Digest(keccak256(bytes([prefix]) + b"".join(parts)))


def spelled(facts: Facts) -> list[bytes]:
    """The data of the leaves, by eth-abi."""
    lists = [encode(["uint256", "bytes32", "uint256"], list(one)) for one in (facts.credits, facts.voters)]
    reward = encode(["uint256", "address", "uint256"], list(facts.reward))
    return [encode(["bytes32"], [facts.block]), reward, *lists]


def top(entries: Sequence[bytes]) -> bytes:
    """By recursion instead of by levels: the left part has the largest power of two that leaves a right one."""
    if len(entries) == 1:
        return entries[0]
    at = 1 << (len(entries) - 1).bit_length() - 1
    return hashed(1, top(entries[:at]), top(entries[at:]))


def entries(count: int) -> list[Digest]:
    return [hashed(0, number.to_bytes(4, "big")) for number in range(count)]


@given(FACTS)
def test_the_root_is_that_of_four_leaves_spelled_as_solidity_does(facts: Facts) -> None:
    leaves = [hashed(0, data) for data in spelled(facts)]
    assert list(facts_leaves(facts)) == leaves
    assert facts_root(facts) == top(leaves)


def test_the_root_of_these_facts_is_this_one_for_ever() -> None:
    assert facts_root(SAID).hex() == "ff3ed38d5aeb7d1d50007b6c6820393beaa53ddf88eb37999e8a7c769dd0d4b4"


@given(FACTS, st.sampled_from([BLOCK, REWARD, CREDITS, VOTERS]), st.data())
def test_every_fact_proves_itself_at_its_place_and_nothing_else_does(
    facts: Facts, place: int, data: st.DataObject
) -> None:
    leaves = facts_leaves(facts)
    assume(len({*leaves}) == 4)  # two lists that are the same prove themselves at both places
    root, leaf, proof = facts_root(facts), leaves[place], facts_proof(facts, place)
    assert is_fact(root, place, leaf, proof)
    for other in {-1, 0, 1, 2, 3, 4, 5, place + 4, place - 4} - {place}:
        assert not is_fact(root, other, leaf, proof)
    assert not is_fact(data.draw(HASHES.filter(lambda one: one != root)), place, leaf, proof)
    assert not is_fact(root, place, data.draw(HASHES.filter(lambda one: one != leaf)), proof)
    for false in ((), proof[:1], (*proof, NONE), proof[::-1], (proof[0], NONE), (NONE, proof[1])):
        assert not is_fact(root, place, leaf, false)
    assert not is_fact(root, place, leaf, (Digest(proof[0] + b"\0"), proof[1]))
    assert not is_fact(root, place, Digest(leaf[1:]), proof)


@given(FACTS, FACTS)
def test_other_facts_have_another_root(one: Facts, other: Facts) -> None:
    assert (facts_root(one) == facts_root(other)) == (one == other)
    swapped = one._replace(credits=one.voters, voters=one.credits)
    assert (facts_root(one) == facts_root(swapped)) == (one.credits == one.voters)


@pytest.mark.parametrize("place", [-1, 4, -4])
def test_there_is_no_fact_beside_the_four(place: int) -> None:
    with pytest.raises(IndexError):
        facts_proof(SAID, place)


@pytest.mark.parametrize(
    "wrong",
    [
        SAID._replace(block=Digest(b"b" * 31)),
        SAID._replace(reward=SAID.reward._replace(payee=Address(b"p" * 32))),
        SAID._replace(reward=SAID.reward._replace(slot=-1)),
        SAID._replace(reward=SAID.reward._replace(amount=1 << 256)),
        SAID._replace(credits=SAID.credits._replace(root=Digest(b""))),
        SAID._replace(voters=SAID.voters._replace(size=-1)),
    ],
)
def test_what_is_no_word_of_a_contracts_is_refused(wrong: Facts) -> None:
    for make in (facts_leaves, facts_root, lambda one: facts_proof(one, REWARD)):
        with pytest.raises(ValueError):
            make(wrong)


def test_the_largest_numbers_and_nobody_are_words() -> None:
    most = (1 << 256) - 1
    facts = SAID._replace(reward=Minting(most, NOBODY, most))
    assert facts_root(facts) == top([hashed(0, data) for data in spelled(facts)])


@given(st.dictionaries(ADDRESSES, NUMBERS, max_size=9), st.dictionaries(ADDRESSES, st.booleans(), max_size=9))
def test_entries_are_by_account_and_spelled_as_solidity_does(
    credited: dict[Address, int], voters: dict[Address, bool]
) -> None:
    assert credits_entries(credited) == [
        hashed(0, encode(["address", "uint256"], [account, credited[account]])) for account in sorted(credited)
    ]
    assert voters_entries(voters) == [
        hashed(0, encode(["address", "bool"], [account, voters[account]])) for account in sorted(voters)
    ]
    assert credits_entries(dict(reversed(credited.items()))) == credits_entries(credited)


@pytest.mark.parametrize(
    "make",
    [
        lambda: credits_entries({Address(b"a" * 20): -1}),
        lambda: credits_entries({Address(b"a" * 20): 1 << 256}),
        lambda: credits_entries({Address(b"a" * 21): 1}),
        lambda: voters_entries({Address(b"a" * 19): True}),
    ],
)
def test_what_is_no_entry_is_refused(make: Callable[[], list[Digest]]) -> None:
    with pytest.raises(ValueError):
        make()


@pytest.mark.parametrize("count", [*range(1, 34), 63, 64, 65, 127, 200])
def test_every_entry_proves_itself(count: int) -> None:
    below = entries(count)
    root, proofs = list_root(below), list_proofs(below)
    assert root == hashed(2, count.to_bytes(32, "big"), top(below))
    assert len(proofs) == count
    for place, proof in enumerate(proofs):
        assert len(proof) <= (count - 1).bit_length()
        assert is_listed(root, count, place, below[place], proof)


@pytest.mark.parametrize("count", range(1, 8))
def test_a_proof_holds_for_no_other_entry_place_count_or_root(count: int) -> None:
    below = entries(count)
    root, other = list_root(below), list_root(entries(count + 1))
    for place, proof in enumerate(list_proofs(below)):
        holding = [
            (claimed, at, number)
            for claimed in range(2 * count + 3)
            for at in range(-2, claimed + 2)
            for number in range(count)
            if is_listed(root, claimed, at, below[number], proof)
        ]
        assert holding == [(count, place, place)]
        assert not is_listed(other, count, place, below[place], proof)


@given(st.integers(1, 40), st.data())
def test_a_proof_of_any_other_shape_does_not_hold(count: int, data: st.DataObject) -> None:
    below = entries(count)
    root, place = list_root(below), data.draw(st.integers(0, count - 1))
    proof = list_proofs(below)[place]
    at = data.draw(st.integers(0, len(proof)))
    more = data.draw(st.sampled_from([NONE, Digest(b""), root, *proof]))
    assert not is_listed(root, count, place, below[place], (*proof[:at], more, *proof[at:]))
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        flipped = bytearray(proof[at])
        flipped[data.draw(st.integers(0, 31))] ^= 1 << data.draw(st.integers(0, 7))
        for false in ((), (Digest(bytes(flipped)),), (Digest(proof[at][:31]),), (Digest(proof[at] + b"\0"),)):
            assert not is_listed(root, count, place, below[place], (*proof[:at], *false, *proof[at + 1 :]))


def test_a_count_that_no_contract_could_spell_holds_nothing() -> None:
    most = (1 << 256) - 1
    node, proof = NONE, [hashed(0, bytes([level])) for level in range(256)]
    for sibling in proof:
        node = hashed(1, node, sibling)
    root = hashed(2, most.to_bytes(32, "big"), node)
    assert is_listed(root, most, 0, NONE, proof)
    assert not is_listed(root, most + 1, 0, NONE, proof)


def test_an_empty_list_has_a_root_and_nothing_in_it() -> None:
    assert list_root([]) == hashed(2, bytes(32))
    assert list_proofs([]) == []
    assert not is_listed(list_root([]), 0, 0, NONE, ())


@given(st.integers(1, examples(200)), st.data())
def test_no_other_list_has_the_same_root(count: int, data: st.DataObject) -> None:
    below = entries(count)
    at = data.draw(st.integers(0, count - 1))
    new = hashed(0, b"new")
    others = [
        [*below, below[-1]],
        [*below, new],
        below[:at] + below[at + 1 :],
        [*below[:at], new, *below[at + 1 :]],
        [hashed(1, *below[:2]), *below[2:]] if count > 1 else [],
    ]
    assert list_root(below) not in {list_root(other) for other in others}


def test_leaves_are_in_the_order_of_their_places() -> None:
    assert [Facts._fields[place] for place in (BLOCK, REWARD, CREDITS, VOTERS)] == [
        "block",
        "reward",
        "credits",
        "voters",
    ]
