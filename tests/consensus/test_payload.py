"""What the consensus says of a payload: who is paid, who is granted coins, and whether something waited."""

from dataclasses import replace

import pytest

from consensus.block import BlockBody
from consensus.facts import NOBODY, REWARD, Minting, facts_leaves, facts_root, is_fact
from consensus.ids import Address, Digest
from consensus.payload import BUSY, FIRST, IDLE, PayloadTerms, facts_of, is_busy, payout_of, terms_of
from consensus.registry import Member, Pool, registry_of
from consensus.state import left_open
from tests.consensus.worlds import Village, key, named


@pytest.mark.parametrize(
    ("payload", "busy"), [(b"", False), (IDLE, False), (IDLE + b"block", False), (BUSY, True), (b"block", True)]
)
def test_a_payload_is_busy_when_it_is_there_and_does_not_say_that_it_is_idle(payload: bytes, busy: bool) -> None:
    assert is_busy(payload) is busy
    assert BlockBody(payload=payload).is_busy is busy


def test_a_payload_follows_that_of_its_parent_and_its_publisher_is_paid_where_it_registered() -> None:
    village = Village(2)
    first = village.after(village.genesis, 1)
    state = village.at(first, 2)
    assert village.genesis.payload == FIRST
    assert first.payload == village.block(village.genesis, 1).header.payload
    founder = terms_of(state, 2, village.nodes[1])
    assert founder == PayloadTerms(first.payload, 2, state.seed, NOBODY, facts_root(facts_of(state)), (), None, ())
    paid, shared = Address(b"\1" * 20), Address(b"\2" * 20)
    member = Member(village.nodes[1], village.nodes[1], named(1), named(1), paid, 0, 0)
    registry = registry_of(1, [member], {b"pool": Pool((), 1, b"", shared)})
    later = replace(state, recent=(replace(state.checkpoint, registry=registry),))
    assert terms_of(later, 2, village.nodes[1]).recipient == paid
    assert terms_of(later, 2, b"pool").recipient == shared
    assert terms_of(later, 2, village.nodes[0]).recipient == NOBODY


def test_who_registers_is_granted_coins_by_the_next_block_and_by_no_other() -> None:
    village = Village(2)
    first = village.after(village.genesis, 1)
    signed = village.registration(village.at(first, 2), 5)
    with_it = village.after(first, 2, BlockBody(registrations=(signed,)))
    assert with_it.granted == (signed.registration.address,)
    assert terms_of(village.at(with_it, 5), 5, village.nodes[0]).grants == with_it.granted
    assert village.after(with_it, 5).granted == ()
    assert left_open(with_it) != left_open(replace(with_it, granted=()))
    assert left_open(with_it) != left_open(replace(with_it, payload=named(3)))
    assert key(5).public == signed.registration.node


def test_a_block_is_worth_what_the_next_one_mints_with_a_proof_that_leads_to_its_root() -> None:
    village = Village(2)
    server, other = village.nodes
    paid = Address(b"\1" * 20)
    members = [Member(node, node, node, node, paid, 0, 0) for node in village.nodes]
    first = village.after(village.genesis, 1)
    assert (first.payout, first.minted) == (None, 0)  # founders have no address yet
    known = replace(village.at(first, 2), recent=(replace(first.checkpoint, registry=registry_of(0, members, {})),))
    assert payout_of(known, 2, server, server, ()) == Minting(2, paid, 2)
    assert payout_of(known, 2, other, server, ()) == Minting(2, paid, 1)
    assert payout_of(replace(known, minted=10**18), 2, server, server, ()) == Minting(2, paid, 1)
    after = replace(known, payout=Minting(1, paid, 2))
    terms = terms_of(after, 2, other)
    assert terms.payout == after.payout
    told, other_way = facts_of(after), facts_of(replace(after, payout=Minting(1, paid, 3)))
    assert is_fact(terms.root, REWARD, facts_leaves(told)[REWARD], [*map(Digest, terms.siblings)])
    assert not is_fact(terms.root, REWARD, facts_leaves(other_way)[REWARD], [*map(Digest, terms.siblings)])
    assert left_open(after) != left_open(known) != left_open(replace(known, minted=1))
