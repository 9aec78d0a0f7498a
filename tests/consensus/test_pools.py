"""What waits for a block: kept once, offered while it fits, forgotten in time, and evidence where two things contradict."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from consensus.admission import PoolRegistration, SignatureList, SignedPool, pool_id, pool_signable
from consensus.block import (
    EVIDENCE_MAX,
    REGISTRATIONS_MAX,
    UNCLES_MAX,
    VOTES_MAX,
    BlockBody,
    DoubleProposal,
    SignedHeader,
    sign_header,
)
from consensus.finality import DoubleVote, SignedVote, Vote, contradict, sign_vote
from consensus.ids import Address, NodeId
from consensus.params import DEVNET, HELD_SLOTS, UNCLE_SLOTS
from consensus.pools import VOTES_KEPT, Pools
from consensus.signing import KeyPair
from consensus.state import State
from tests.consensus.worlds import NETWORK, Village, key, named, sign_registration

WORLD = Village(4)
LASTING = Village(4, replace(DEVNET, hour_slots=24, report_slots=24))
"""With HOURs that are longer than a report may be held."""


def voted(source: int, target: int, head: int = 0, voter: int = 1) -> SignedVote:
    node = NodeId(key(voter).public)
    vote = Vote(node, source, named(source), target, named(target), named(0), named(head))
    return sign_vote(vote, key(voter), NETWORK)


def proposed(slot: int, rank: int = 0, state: int = 0, by: int = 1) -> SignedHeader:
    header = WORLD.header(WORLD.genesis, 1, BlockBody())
    header = replace(header, slot=slot, rank=rank, entity=key(by).public, state=named(state))
    return sign_header(header, key(by), NETWORK)


def pooled(era: int, *signers: KeyPair) -> SignedPool:
    pool = PoolRegistration(
        era, tuple(one.public for one in signers), len(signers), key(1).public, Address(bytes(20)), ()
    )
    message = pool_signable(pool, NETWORK)
    made = tuple(one.sign_as_is(message) for one in signers)
    return SignedPool(pool, SignatureList((1 << len(signers)) - 1, made))


def named_pool(era: int, *signers: KeyPair) -> tuple[SignedPool, bytes]:
    made = pooled(era, *signers)
    return made, pool_id(made.pool, NETWORK)


# ------------------------------------------------------------------ kept once


def test_each_thing_is_new_once_even_if_it_is_the_same_object() -> None:
    pools = Pools()
    state = WORLD.at(WORLD.genesis, 9)
    report = WORLD.report(state, 0, 0)
    registration = WORLD.registration(state, 7)
    pool, name = named_pool(1, key(8))
    for is_new in (True, False):
        assert pools.add_vote(voted(0, 1)) is is_new
        assert pools.add_report(report, 9 + is_new) is is_new
        assert pools.add_registration(registration) is is_new
        assert pools.add_pool(pool, name) is is_new
    assert [*pools.held.values()] == [10]  # since it was heard first
    assert not pools.double_votes
    vote = voted(1, 2)
    assert pools.add_vote(vote)
    assert not pools.add_vote(vote)


def test_two_votes_that_contradict_each_other_are_evidence_whichever_comes_first() -> None:
    for first, second in ((voted(3, 4), voted(3, 4, head=1)), (voted(2, 5), voted(3, 4)), (voted(3, 4), voted(2, 5))):
        pools = Pools()
        assert pools.add_vote(first)
        pools.add_vote(second)
        assert pools.double_votes == {first.vote.voter: DoubleVote(first, second)}
        pools.add_vote(voted(1, 6))  # one proof is enough
        assert pools.double_votes == {first.vote.voter: DoubleVote(first, second)}


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3), st.integers(0, 1), st.integers(1, 2)), max_size=8))
def test_evidence_is_kept_for_just_those_who_contradicted_themselves(
    plan: list[tuple[int, int, int, int]],
) -> None:
    pools, given_ = Pools(), [voted(source, source + more, head, voter) for source, more, head, voter in plan]
    for one in given_:
        pools.add_vote(one)
    kept = [*pools.votes.values()]
    assert all(contradict(one.first.vote, one.second.vote) for one in pools.double_votes.values())
    doubled = {one.vote.voter for one in given_ for other in kept if contradict(one.vote, other.vote)}
    assert {*pools.double_votes} == doubled


def test_two_headers_of_one_rank_are_evidence() -> None:
    pools = Pools()
    first, second = proposed(9), proposed(9, state=1)
    for header in (first, first, proposed(9, rank=1), proposed(9, by=2), proposed(10, state=2)):
        pools.add_header(header)
    assert not pools.double_proposals
    pools.add_header(second)
    pools.add_header(proposed(9, state=3))
    assert pools.double_proposals == {key(1).public: DoubleProposal(first, second)}


# ------------------------------------------------------------------ bodies


def in_hour_two() -> State:
    """The state in the second slot of HOUR 2, of a world without a block but one."""
    return WORLD.at(WORLD.after(WORLD.genesis, 7), 9)


def test_a_body_takes_what_fits_this_branch_and_leaves_the_rest() -> None:
    state, pools = in_hour_two(), Pools()
    good, early = WORLD.vote(state, 0), WORLD.vote(WORLD.at(WORLD.genesis, 2), 1)
    elsewhere = WORLD.vote(WORLD.at(WORLD.genesis, 9), 2)
    report, silent = WORLD.report(state, 1, 0), WORLD.report(state, 1, 1, silent=(0, 1))
    registration, stale = WORLD.registration(state, 7), WORLD.registration(WORLD.at(WORLD.genesis, 9), 8)
    pool, late_pool = named_pool(1, key(8)), named_pool(2, key(8))
    for vote in (good, early, elsewhere):
        pools.add_vote(vote)
    for one in (report, silent):
        pools.add_report(one, 9)
    for joining in (registration, stale):
        pools.add_registration(joining)
    pools.add_pool(*pool)
    pools.add_pool(*late_pool)
    body = pools.body(WORLD.rules, state, 9, b"payload")
    assert body == BlockBody(
        votes=(good,), reports=(report,), registrations=(registration,), pools=(pool[0],), payload=b"payload"
    )
    after = WORLD.after(WORLD.after(WORLD.genesis, 7), 9, body)
    again = pools.body(WORLD.rules, WORLD.at(after, 10), 10, b"")
    assert again == BlockBody()


def test_a_body_takes_evidence_and_one_proof_for_each_of_the_accused() -> None:
    state, pools = in_hour_two(), Pools()
    first, second = WORLD.vote(state, 1), WORLD.vote(state, 1, head=named(5))
    pools.add_vote(first)
    pools.add_vote(second)
    unsigned = replace(WORLD.vote(state, 2), signature=bytes(64))
    pools.add_vote(unsigned)
    pools.add_vote(WORLD.vote(state, 2, head=named(5)))
    by_another = [replace(WORLD.header(WORLD.genesis, 7, BlockBody()), entity=WORLD.nodes[at]) for at in (0, 1, 2)]
    for at, header in zip((0, 1, 2), by_another, strict=True):
        pools.add_header(sign_header(header, key(at), NETWORK))
        pools.add_header(sign_header(replace(header, state=named(9)), key(at), NETWORK))
    pools.add_header(sign_header(replace(by_another[0], slot=8, entity=named(66)), key(6), NETWORK))
    pools.add_header(
        sign_header(replace(by_another[0], slot=8, entity=named(66), rank=0, state=named(1)), key(6), NETWORK)
    )
    assert {*pools.double_proposals} == {WORLD.nodes[0], WORLD.nodes[1], WORLD.nodes[2], named(66)}
    body = pools.body(WORLD.rules, state, 9, b"")
    assert [one.first.vote.voter for one in body.double_votes] == [WORLD.nodes[1]]
    assert [one.first.header.entity for one in body.double_proposals] == [WORLD.nodes[0], WORLD.nodes[2]]
    after = WORLD.after(WORLD.after(WORLD.genesis, 7), 9, body)
    assert {*after.happened.expelled} == {WORLD.nodes[0], WORLD.nodes[1], WORLD.nodes[2]}
    assert pools.body(WORLD.rules, WORLD.at(after, 10), 10, b"").double_votes == ()


def test_a_body_takes_headers_of_ranks_that_were_passed_over() -> None:
    pools = Pools()
    slot = 7
    passed = WORLD.block(WORLD.genesis, slot, rank=0)
    head = WORLD.after(WORLD.genesis, slot, BlockBody(payload=b"something"), rank=1)
    pools.add_header(passed.signed)
    pools.add_header(WORLD.block(WORLD.genesis, slot, BlockBody(payload=b"something"), rank=1).signed)
    assert pools.body(WORLD.rules, WORLD.at(head, 8), 8, b"").uncles == (passed.signed,)
    assert pools.body(WORLD.rules, WORLD.at(WORLD.genesis, 8), 8, b"").uncles == ()


def test_a_body_is_bounded_in_everything() -> None:
    many = Village(2, replace(DEVNET, era_hours=12))
    state, pools = many.at(many.genesis, 5), Pools()
    for number in range(REGISTRATIONS_MAX + 2):
        pools.add_registration(many.registration(state, 100 + number))
        pools.add_pool(*named_pool(1, key(200 + number)))
    body = pools.body(many.rules, state, 5, b"")
    assert [one.registration.node for one in body.registrations] == [
        key(100 + number).public for number in range(REGISTRATIONS_MAX)
    ]
    assert len(body.pools) == REGISTRATIONS_MAX
    assert (VOTES_MAX, EVIDENCE_MAX, UNCLES_MAX) == (128, 16, 12)
    many.after(many.genesis, 5, body)


# ------------------------------------------------------------------ what a block leaves out


def test_a_block_leaves_out_a_report_that_was_held_for_long_and_could_be_included() -> None:
    parent = LASTING.after(LASTING.genesis, 24)
    pools = Pools()
    report = LASTING.report(LASTING.at(parent, 25), 0, 0)
    pools.add_report(report, 25)
    just_held = LASTING.after(parent, 25 + HELD_SLOTS)
    assert not pools.leaves_out(LASTING.rules, just_held)
    long_held = LASTING.after(parent, 26 + HELD_SLOTS)
    assert pools.leaves_out(LASTING.rules, long_held)
    including = LASTING.after(parent, 26 + HELD_SLOTS, BlockBody(reports=(report,)))
    assert not pools.leaves_out(LASTING.rules, including)
    out_of_time = LASTING.after(LASTING.at(parent, 49), 49)
    assert not pools.leaves_out(LASTING.rules, out_of_time)
    invalid = Pools()
    invalid.add_report(LASTING.report(LASTING.at(parent, 25), 0, 0, silent=(0, 1)), 25)
    assert not invalid.leaves_out(LASTING.rules, long_held)


# ------------------------------------------------------------------ forgetting


def test_what_can_be_included_no_more_is_forgotten() -> None:
    pools = Pools()
    early = WORLD.at(WORLD.genesis, 9)
    for target in range(1, 9):
        pools.add_vote(voted(target - 1, target))
    for slot in range(20, 40):
        pools.add_header(proposed(slot))
    pools.add_report(WORLD.report(early, 0, 0), 9)
    late = WORLD.at(WORLD.genesis, 41)
    assert late.recent[0].hour == 4
    pools.add_report(WORLD.report(late, 4, 0), 41)
    era = late.checkpoint.registry.era
    for number in range(era, era + 3):
        pools.add_pool(*named_pool(number, key(8)))
        one = replace(WORLD.registration(late, 7).registration, era=number)
        pools.add_registration(sign_registration(one, key(7)))
    pools.forget(late, 41)
    hour = late.checkpoint.hour
    assert [target for target, _ in pools.votes] == [*range(hour - VOTES_KEPT + 1, 9)]
    assert [report_hour for report_hour, _ in pools.reports] == [4]
    assert pools.held.keys() == pools.reports.keys()
    assert [slot for slot, _, _ in pools.headers] == [*range(41 - UNCLE_SLOTS, 40)]
    assert [number for number, _ in pools.pools] == [era + 1, era + 2]
    assert [number for number, _ in pools.registrations] == [era + 1, era + 2]


def test_evidence_is_forgotten_when_its_author_is_expelled() -> None:
    pools = Pools()
    state = WORLD.at(WORLD.genesis, 9)
    for one in (voted(0, 1), voted(0, 1, head=1), voted(0, 1, voter=2), voted(0, 1, head=1, voter=2)):
        pools.add_vote(one)
    for by in (1, 2):
        pools.add_header(proposed(9, by=by))
        pools.add_header(proposed(9, by=by, state=1))
    gone = replace(state.checkpoint, expelled={key(1).public: 1})
    pools.forget(replace(state, recent=(*state.recent[:-1], gone)), 9)
    assert {*pools.double_votes} == {*pools.double_proposals} == {key(2).public}


def test_a_registration_goes_when_its_checkpoint_is_too_old_or_of_another_branch() -> None:
    """So that its node can make another one: the first of each node and ERA is the only one that is kept."""
    world = Village(1, replace(DEVNET, era_hours=100, month_hours=100))
    pools, begin = Pools(), world.at(world.genesis, 5)
    assert pools.add_registration(world.registration(begin, 7))
    on_branch = world.at(world.genesis, 4 * 25)
    pools.forget(on_branch, 100)
    assert len(pools.registrations) == 1
    assert on_branch.checkpoint.hour == 25
    pools.forget(world.at(world.genesis, 4 * 26), 104)
    assert not pools.registrations
    assert pools.add_registration(world.registration(world.at(world.genesis, 104), 7))
    other = world.at(world.after(world.genesis, 103), 104)
    pools.forget(other, 104)
    assert not pools.registrations
