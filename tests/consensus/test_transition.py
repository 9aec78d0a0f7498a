"""Each rule of a block, broken alone: the sentence that says so, and a state that stays as it was."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from blake3 import blake3

from consensus.admission import PoolRegistration, SignatureList, SignedPool, is_proof, pool_id, pool_signable
from consensus.block import (
    Block,
    BlockBody,
    BlockHeader,
    DoubleProposal,
    SignedHeader,
    body_digest,
    header_signable,
    sign_header,
)
from consensus.finality import DoubleVote, Point, SignedVote, sign_vote
from consensus.ids import Address, Digest, NodeId
from consensus.inclusion import Invalid, Rules, check_registration
from consensus.params import DEVNET, SERVER_RANK
from consensus.reasons import Reason
from consensus.report import SignedReport, report_signable
from consensus.state import State, leaders
from consensus.transition import extend
from tests.consensus.towns import LASTING, verify, verify_proof
from tests.consensus.worlds import NETWORK, Village, key, named, sign_registration

SLOT = 10


class Place(NamedTuple):
    """Where a block is put: seven founders, two HOURs of blocks before it, the third slot of the third HOUR."""

    village: Village
    rules: Rules
    fork: State
    """The parent's grandparent: slot 5 was published by rank 2 on top of it."""
    parent: State

    @property
    def now(self) -> State:
        return self.village.at(self.parent, SLOT)

    def block(self, rank: int = 0, **body: Any) -> Block:
        return self.village.block(self.parent, SLOT, BlockBody(**body), rank)

    def header(self, **changes: Any) -> Block:
        """A block whose header says something else, signed by the one who may publish."""
        block = self.block()
        return resigned(replace(block.header, **changes), block.header.entity, block.body)


def resigned(header: BlockHeader, by: bytes, body: BlockBody) -> Block:
    pair = next(pair for number in range(7) if (pair := key(number)).public == by)
    return Block(sign_header(header, pair, NETWORK), body)


def place_of(founders: int = 7, difficulty: int = 1) -> Place:
    village = Village(founders, LASTING, difficulty)
    village.rules = rules = Rules(village.law, verify, verify_proof)
    fork = village.after(village.after(village.genesis, 1), 2, rank=3)
    reports = (village.report(village.at(fork, 5), 0, 0), village.report(village.at(fork, 5), 0, 1))
    fifth = village.after(fork, 5, BlockBody(votes=village.votes(village.at(fork, 5)), reports=reports), rank=2)
    votes = village.votes(village.at(fifth, 9))[:-1]
    return Place(village, rules, fork, village.after(fifth, 9, BlockBody(votes=votes)))


@pytest.fixture(scope="module")
def place() -> Place:
    return place_of()


@pytest.fixture(scope="module")
def shamed(place: Place) -> Place:
    """The same, after voter 6 has been expelled and an HOUR has begun; the slot is not SLOT but 13."""
    state = place.village.after(place.parent, SLOT, BlockBody(double_votes=(double_vote(place, 6),)))
    return place._replace(parent=place.village.after(state, 12))


def double_vote(place: Place, voter: int) -> DoubleVote:
    return DoubleVote(place.village.vote(place.now, voter), place.village.vote(place.now, voter, head=named(1)))


def double_proposal(place: Place, entity: bytes | None = None, slot: int = SLOT) -> DoubleProposal:
    header = place.village.header(place.parent, SLOT, BlockBody())
    header = replace(header, slot=slot, entity=header.entity if entity is None else entity)
    return DoubleProposal(
        resigned(header, header.entity, BlockBody()).signed,
        resigned(replace(header, payload=named(1)), header.entity, BlockBody()).signed,
    )


def other(place: Place) -> bytes:
    """Who has no part in the slot's first rank."""
    return leaders(place.village.law, place.now, SLOT)[1]


def pool(era: int = 1, **changes: Any) -> PoolRegistration:
    keys = key(30).public, key(31).public
    made = PoolRegistration(era, keys, 2, keys[0], Address(bytes(20)), (NodeId(key(1).public), NodeId(key(2).public)))
    return replace(made, **changes)


def sign_pool(one: PoolRegistration, *numbers: int) -> SignedPool:
    signers = numbers or (30, 31)
    mask = sum(1 << one.keys.index(key(number).public) for number in signers)
    signatures = tuple(key(number).sign_as_is(pool_signable(one, NETWORK)) for number in signers)
    return SignedPool(one, SignatureList(mask, signatures))


def vote(place: Place, **changes: Any) -> SignedVote:
    good = place.village.vote(place.now, 6)
    return sign_vote(replace(good.vote, **changes), key(6), NETWORK)


def report(place: Place, *, hour: int = 1, number: int = 0, **changes: Any) -> SignedReport:
    made = replace(place.village.report(place.now, hour, number).report, **changes)
    return SignedReport(made, key(number).sign_as_is(report_signable(made, NETWORK)))


def joins(place: Place, number: int = 20, by: int | None = None, **changes: Any) -> Any:
    made = replace(place.village.registration(place.now, number).registration, **changes)
    return sign_registration(made, key(number if by is None else by))


def late(place: Place, rank: int, slot: int = 5) -> SignedHeader:
    """A passed-over rank's header of a slot on top of the fork."""
    return place.village.block(place.fork, slot, rank=rank).signed


def mask_of(place: Place, mask: int, signatures: int) -> Block:
    block = place.block()
    signed = SignatureList(mask, block.signed.signatures.signatures * signatures)
    return Block(replace(block.signed, signatures=signed), block.body)


NO_KEY = bytes(32)
BROKEN: dict[str, tuple[str, Callable[[Place], Block]]] = {
    # the header
    "slot of the parent": ("not after its parent", lambda p: p.header(slot=9)),
    "slot before the parent": ("not after its parent", lambda p: p.header(slot=1)),
    "another rank": ("rank 1 of slot 10 is another's", lambda p: p.header(rank=1)),
    "another's rank": (
        "rank 0 of slot 10 is another's",
        lambda p: resigned(replace(p.block().header, entity=other(p)), other(p), BlockBody()),
    ),
    "the Server's rank": ("nobody registered", lambda p: p.header(rank=SERVER_RANK, entity=p.village.nodes[1])),
    "a proof of another slot": (
        "VRF proof is wrong",
        lambda p: p.header(proof=p.village.header(p.parent, 11, BlockBody(), SERVER_RANK).proof),
    ),
    "another's signature": (
        "proposer has not signed",
        lambda p: resigned(p.block().header, other(p), BlockBody()),
    ),
    "no signature": ("proposer has not signed", lambda p: mask_of(p, 0, 0)),
    "a signature by nobody": ("proposer has not signed", lambda p: mask_of(p, 3, 2)),
    "a signature more": ("proposer has not signed", lambda p: mask_of(p, 1, 2)),
    "another state": ("on top of another state", lambda p: p.header(state=p.fork.state)),
    # votes
    "a vote twice": ("a second vote", lambda p: p.block(votes=(vote(p), vote(p)))),
    "two votes": ("a second vote", lambda p: p.block(votes=(vote(p), vote(p, head=named(1))))),
    "a vote that is on the chain": ("a second vote", lambda p: p.block(votes=(p.village.vote(p.now, 0),))),
    "a vote for another block": ("another checkpoint", lambda p: p.block(votes=(vote(p, target=named(1)),))),
    "a vote for an HOUR to come": ("another checkpoint", lambda p: p.block(votes=(vote(p, target_hour=3),))),
    "a vote for an HOUR long past": (
        "another checkpoint",
        lambda p: p.village.block(p.parent, 16, BlockBody(votes=(vote(p),))),
    ),
    "a vote from another source": ("not justified", lambda p: p.block(votes=(vote(p, source=named(1)),))),
    "a vote from a later source": (
        "not justified",
        lambda p: p.block(votes=(vote(p, source_hour=2, source=p.now.checkpoint.block),)),
    ),
    "a vote for other voters": ("other successors", lambda p: p.block(votes=(vote(p, successors=named(1)),))),
    "a vote by a stranger": (
        "a vote by no voter",
        lambda p: p.block(votes=(sign_vote(replace(vote(p).vote, voter=NodeId(key(9).public)), key(9), NETWORK),)),
    ),
    "a vote signed by another": (
        "voter has not signed",
        lambda p: p.block(votes=(sign_vote(vote(p).vote, key(5), NETWORK),)),
    ),
    # reports
    "a report too early": ("a report out of time", lambda p: p.block(reports=(report(p, hour=2),))),
    "a report too late": (
        "a report out of time",
        lambda p: p.village.block(p.parent, 16, BlockBody(reports=(report(p),))),
    ),
    "a report twice": ("a second report", lambda p: p.block(reports=(report(p), report(p)))),
    "a report that is on the chain": ("a second report", lambda p: p.block(reports=(report(p, hour=0),))),
    "a report by a stranger": (
        "nobody registered",
        lambda p: p.block(reports=(report(p, node=NodeId(key(9).public)),)),
    ),
    "a report signed by another": (
        "node has not signed",
        lambda p: p.block(reports=(replace(report(p), signature=report(p, number=1).signature),)),
    ),
    "a statement for another root": (
        "witness has not signed",
        lambda p: p.block(reports=(report(p, next=named(1)),)),
    ),
    "a statement of nobody": (
        "a statement of nobody",
        lambda p: p.block(reports=(report(p, mask=(1 << 7) - 1, said=report(p).report.said + bytes(72)),)),
    ),
    "a report with three of six witnesses": (
        "too few of its witnesses",
        lambda p: p.block(reports=(p.village.report(p.now, 1, 0, silent=(0, 2, 4)),)),
    ),
    # registrations
    "a registration for this ERA": ("another ERA", lambda p: p.block(registrations=(joins(p, era=0),))),
    "a registration for a far ERA": ("another ERA", lambda p: p.block(registrations=(joins(p, era=2),))),
    "a registration twice": ("a second registration", lambda p: p.block(registrations=(joins(p), joins(p)))),
    "a registration with a checkpoint to come": (
        "too old, or of another branch",
        lambda p: p.block(registrations=(joins(p, checkpoint_hour=3),)),
    ),
    "a registration with another's checkpoint": (
        "too old, or of another branch",
        lambda p: p.block(registrations=(joins(p, checkpoint=named(1)),)),
    ),
    "a registration without a key": ("VRF key is none", lambda p: p.block(registrations=(joins(p, vrf_key=NO_KEY),))),
    "a registration signed by another": ("node has not signed", lambda p: p.block(registrations=(joins(p, by=21),))),
    "a pool for this ERA": ("another ERA", lambda p: p.block(pools=(sign_pool(pool(era=0)),))),
    "a pool twice": ("a second registration", lambda p: p.block(pools=(sign_pool(pool()), sign_pool(pool())))),
    "a pool without a key": ("VRF key is none", lambda p: p.block(pools=(sign_pool(pool(vrf_key=NO_KEY)),))),
    "a pool signed by one of two": ("node has not signed", lambda p: p.block(pools=(sign_pool(pool(), 31),))),
    # evidence
    "one vote as two": (
        "do not contradict",
        lambda p: p.block(double_votes=(DoubleVote(vote(p), vote(p)),)),
    ),
    "votes of two voters": (
        "do not contradict",
        lambda p: p.block(double_votes=(DoubleVote(vote(p), p.village.vote(p.now, 0, head=named(1))),)),
    ),
    "votes that somebody else signed": (
        "accused has not signed",
        lambda p: p.block(double_votes=(DoubleVote(vote(p), sign_vote(vote(p, head=named(1)).vote, key(5), NETWORK)),)),
    ),
    "votes of a stranger": (
        "accused has not signed",
        lambda p: p.block(
            double_votes=(
                DoubleVote(
                    *(
                        sign_vote(replace(vote(p, head=named(head)).vote, voter=NodeId(key(9).public)), key(9), NETWORK)
                        for head in (0, 1)
                    )
                ),
            )
        ),
    ),
    "evidence twice": ("expelled before", lambda p: p.block(double_votes=(double_vote(p, 6), double_vote(p, 6)))),
    "one header as two": (
        "do not contradict",
        lambda p: p.block(double_proposals=(DoubleProposal(p.block().signed, p.block().signed),)),
    ),
    "headers of two slots": (
        "do not contradict",
        lambda p: p.block(double_proposals=(DoubleProposal(p.header(slot=11).signed, p.block().signed),)),
    ),
    "headers that somebody else signed": (
        "accused has not signed",
        lambda p: p.block(
            double_proposals=(
                DoubleProposal(
                    p.block().signed,
                    resigned(replace(p.block().header, payload=named(1)), other(p), BlockBody()).signed,
                ),
            )
        ),
    ),
    "headers of an HOUR that is not known": (
        "accused has not signed",
        lambda p: p.block(double_proposals=(double_proposal(p, slot=1 << 60),)),
    ),
    "headers of one who has voted twice": (
        "expelled before",
        lambda p: p.block(
            double_votes=(double_vote(p, 6),), double_proposals=(double_proposal(p, p.village.nodes[6]),)
        ),
    ),
    # uncles
    "an uncle of the rank that published": ("passed over", lambda p: p.block(uncles=(late(p, 2),))),
    "an uncle of an empty slot": ("passed over", lambda p: p.block(uncles=(late(p, 0, 6),))),
    "an uncle twice": ("a second uncle", lambda p: p.block(uncles=(late(p, 1), late(p, 1)))),
    "an uncle of another's rank": (
        "an uncle that is invalid",
        lambda p: p.block(
            uncles=(resigned(replace(late(p, 0).header, rank=1), late(p, 0).header.entity, BlockBody()).signed,)
        ),
    ),
    "an uncle after nine slots": (
        "passed over",
        lambda p: p.village.block(p.parent, 14, BlockBody(uncles=(late(p, 0),))),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_named_and_changes_nothing(place: Place, name: str) -> None:
    sentence, made = BROKEN[name]
    block, before = made(place), deepcopy(place.parent)
    with pytest.raises(Invalid, match=sentence):
        extend(place.rules, place.parent, block)
    assert place.parent == before


def test_what_breaks_no_rule_is_taken_in(place: Place) -> None:
    found = double_vote(place, 5)
    block = place.block(
        votes=(vote(place),),
        reports=(report(place), report(place, hour=0, number=2)),
        registrations=(joins(place),),
        pools=(sign_pool(pool()),),
        double_votes=(found,),
        double_proposals=(double_proposal(place),),
        uncles=(late(place, 1), late(place, 0)),
        payload=b"anything",
    )
    before = deepcopy(place.parent)
    state = extend(place.rules, place.parent, block)
    assert place.parent == before
    assert (state.slot, state.height, state.rank) == (SLOT, place.parent.height + 1, 0)
    assert state.happened.votes[2, place.village.nodes[6]] == Point(1, place.now.checkpoint.points[1])
    assert {place.village.nodes[0], place.village.nodes[2]} == {node for _, node in state.happened.reports}
    assert {one.includer for one in state.happened.reports.values()} == {block.header.entity}
    assert [*state.happened.registrations] == [key(20).public]
    assert [*state.happened.pools] == [pool_id(pool(), NETWORK)]
    assert state.happened.expelled == (place.village.nodes[5], block.header.entity)
    assert next(one for one in state.published if one.slot == 5).uncles == (1, 0)
    with pytest.raises(Invalid, match="a second uncle"):
        extend(place.rules, state, place.village.block(state, 11, BlockBody(uncles=(late(place, 1),))))
    for slot in (11, 13):  # in this HOUR and in the next, and whatever says it
        for body in (BlockBody(registrations=(joins(place),)), BlockBody(pools=(sign_pool(pool()),))):
            with pytest.raises(Invalid, match="a second registration"):
                extend(place.rules, state, place.village.block(state, slot, body, SERVER_RANK))
        with pytest.raises(Invalid, match="a second report"):
            again = BlockBody(reports=(report(place),))
            extend(place.rules, state, place.village.block(state, slot, again, SERVER_RANK))
        with pytest.raises(Invalid, match="expelled before"):
            again = BlockBody(double_votes=(found,))
            extend(place.rules, state, place.village.block(state, slot, again, SERVER_RANK))


SHAMED: dict[str, tuple[str, Callable[[Place, State], BlockBody]]] = {
    "vote": ("by no voter", lambda p, state: BlockBody(votes=(p.village.vote(state, 6),))),
    "report": ("nobody registered", lambda p, state: BlockBody(reports=(p.village.report(state, 2, 6),))),
    "registration": ("was expelled", lambda p, state: BlockBody(registrations=(p.village.registration(state, 6),))),
    "evidence": ("expelled before", lambda p, _: BlockBody(double_votes=(double_vote(p, 6),))),
    "header": ("expelled before", lambda p, _: BlockBody(double_proposals=(double_proposal(p, p.village.nodes[6]),))),
}


@pytest.mark.parametrize("what", SHAMED)
def test_who_was_expelled_has_no_part_any_more(shamed: Place, what: str) -> None:
    sentence, body = SHAMED[what]
    block = shamed.village.block(shamed.parent, 13, body(shamed, shamed.village.at(shamed.parent, 13)), SERVER_RANK)
    with pytest.raises(Invalid, match=sentence):
        extend(shamed.rules, shamed.parent, block)


def test_who_was_expelled_publishes_nothing_though_it_was_drawn(shamed: Place) -> None:
    outcast = shamed.village.nodes[6]
    drawn = {slot: leaders(shamed.village.law, shamed.village.at(shamed.parent, slot), slot) for slot in range(13, 20)}
    slot = next(slot for slot, who in drawn.items() if outcast in who)
    with pytest.raises(Invalid, match="nobody registered"):
        shamed.village.after(shamed.parent, slot, rank=drawn[slot].index(outcast))
    after = shamed.village.at(shamed.parent, 24)
    assert outcast not in after.checkpoint.weights
    assert all(outcast not in leaders(shamed.village.law, after, slot) for slot in range(24, 28))


def test_a_pool_that_was_expelled_does_not_come_back(place: Place) -> None:
    at = replace(place.now.checkpoint, expelled={pool_id(pool(), NETWORK): 1})
    parent = replace(place.parent, recent=(*place.parent.recent[:-1], at))
    with pytest.raises(Invalid, match="was expelled"):
        extend(place.rules, parent, place.block(pools=(sign_pool(pool()),)))


def test_a_registration_takes_work_and_a_stale_checkpoint_none() -> None:
    place = place_of(difficulty=1 << 30)
    with pytest.raises(Invalid, match="with less work than any ERA asks for"):
        extend(place.rules, place.parent, place.block(registrations=(joins(place),)))


def test_work_that_another_era_would_take_is_nobodys_fault() -> None:
    place = place_of(difficulty=2)
    one = joins(place).registration
    enough = next(
        nonce
        for nonce in (number.to_bytes(16, "big") for number in range(99))
        if is_proof(NETWORK, one.node, one.checkpoint, nonce, 2)
    )
    signed = joins(place, nonce=enough)
    assert check_registration(place.rules, place.now, signed) is None
    harder = replace(place.now.checkpoint, difficulty=1 << 60)
    now = replace(place.now, recent=(*place.now.recent[:-1], harder))
    assert check_registration(place.rules, now, signed) is Reason.NO_WORK


def test_with_three_founders_no_other_rank_is_anybodys() -> None:
    village = Village(3, LASTING)
    block = village.block(village.genesis, 1)
    header = replace(block.header, rank=3)
    with pytest.raises(Invalid, match="rank 3 of slot 1"):
        extend(village.rules, village.genesis, resigned(header, header.entity, block.body))


def test_a_block_costs_no_more_checks_than_it_carries(place: Place) -> None:
    asked: list[bytes] = []

    def counted(public: bytes, signature: bytes, message: bytes) -> bool:
        asked.append(signature)
        return verify(public, signature, message)

    rules = Rules(place.rules.law, counted, verify_proof)
    costs: dict[str, tuple[Any, int]] = {
        "votes": ((vote(place),), 1),
        "reports": ((report(place),), 1 + 6),
        "registrations": ((joins(place),), 1),
        "pools": ((sign_pool(pool()),), 2),
        "double_votes": ((double_vote(place, 6),), 2),
        "double_proposals": ((double_proposal(place),), 2),
        "uncles": ((late(place, 0),), 1),
    }
    for name, (carried, cost) in costs.items():
        asked.clear()
        extend(rules, place.parent, place.block(0, **{name: carried}))
        assert len(asked) == 1 + cost, name
    spam = tuple(DoubleVote(vote(place), sign_vote(vote(place, head=named(n)).vote, key(5), NETWORK)) for n in range(9))
    asked.clear()
    with pytest.raises(Invalid):
        extend(rules, place.parent, place.block(double_votes=spam))
    assert len(asked) == 3  # the first one that is wrong ends it


def test_misses_are_charged_when_a_block_was_busy_and_no_uncle_came_within_eight_slots(place: Place) -> None:
    """Slot 2 was published by rank 3 and empty, slot 5 by rank 2 and busy."""
    village = place.village
    zero, one, *_ = next(published.drawn for published in place.parent.published if published.slot == 5)
    assert 2 in {published.slot for published in place.parent.published}
    at_13 = village.after(place.parent, 13)
    assert (at_13.happened.misses, at_13.published[0].slot) == ({}, 5)
    assert village.after(place.parent, 14).happened.misses == {zero: 1, one: 1}
    saved = village.after(place.parent, 13, BlockBody(uncles=(late(place, 1),)))
    assert village.after(saved, 14).happened.misses == {zero: 1}
    both = village.after(place.parent, 13, BlockBody(uncles=(late(place, 1), late(place, 0))))
    assert village.after(both, 14).happened.misses == {}
    charged = village.at(village.after(saved, 14), 16).checkpoint
    assert charged.misses == {zero: (3,)}


def finalised(founders: int, *sides: tuple[int, ...]) -> tuple[Village, list[State]]:
    """Two branches of which each has the votes of a side in the first two HOURs."""
    village = Village(founders, LASTING)
    village.rules = Rules(village.law, verify, verify_proof)
    made = []
    for rank, side in enumerate(sides):
        state = village.after(village.genesis, 1, rank=rank)
        for slot in (5, 9):
            votes = village.votes(village.at(state, slot))
            state = village.after(state, slot, BlockBody(votes=tuple(votes[voter] for voter in side)))
        made.append(state)
    return village, made


def test_two_final_checkpoints_that_contradict_need_a_third_of_double_voters_whom_the_evidence_expels() -> None:
    village, (one, other) = finalised(7, (0, 1, 2, 3, 4), (2, 3, 4, 5, 6))
    assert one.final.hour == other.final.hour == 1
    assert one.final.block != other.final.block
    votes: dict[int, list[SignedVote]] = {voter: [] for voter in range(7)}
    for side in ((0, 1, 2, 3, 4), (2, 3, 4, 5, 6)):
        start = village.after(village.genesis, 1, rank=int(side[0] > 0))
        for voter in side:
            votes[voter].append(village.vote(village.at(start, 5), voter))
    found = tuple(DoubleVote(*both) for both in votes.values() if len(both) == 2)
    assert 3 * len(found) > 7
    for branch in (one, other):
        after = village.at(village.after(branch, 10, BlockBody(double_votes=found)), 12)
        assert {*after.checkpoint.expelled} == {*village.nodes[2:5]}
        assert {*after.checkpoint.weights} == {*village.nodes[:2], *village.nodes[5:]}
        assert {*after.checkpoint.expelled.values()} == {2}


def test_with_fewer_double_voters_only_one_side_is_final() -> None:
    _, (one, other) = finalised(7, (0, 1, 2, 3, 4), (3, 4, 5, 6))
    assert (one.final.hour, other.final.hour) == (1, 0)


def test_below_seven_voters_the_server_alone_can_make_two_histories_final() -> None:
    village, (one, other) = finalised(5, (0, 1, 2), (0, 3, 4))
    assert one.final.hour == other.final.hour == 1
    assert one.final.block != other.final.block
    _, (with_server, without) = finalised(5, (0, 1, 2), (1, 2, 3, 4))
    assert (with_server.final.hour, without.final.hour) == (1, 0)
    assert village.law.server == village.nodes[0]


def test_a_source_is_final_only_when_the_hour_after_it_was_justified_from_it() -> None:
    village = Village(7, LASTING)
    village.rules = Rules(village.law, verify, verify_proof)
    first = village.after(village.genesis, 1)
    state = village.after(first, 5, BlockBody(votes=village.votes(village.at(first, 5))))
    assert (state.justified.hour, state.final.hour) == (1, 0)
    skipped = village.after(state, 13, BlockBody(votes=village.votes(village.at(state, 13))))
    assert (skipped.justified.hour, skipped.final.hour) == (3, 0)
    assert sorted(skipped.happened.justified) == [0, 1, 3]
    joined = village.after(skipped, 17, BlockBody(votes=village.votes(village.at(skipped, 17))))
    assert (joined.justified.hour, joined.final.hour) == (4, 3)
    assert sorted(joined.happened.justified) == [3, 4]
    assert joined.at_final.point == joined.final


def test_votes_of_the_hour_before_still_count_and_those_before_that_do_not() -> None:
    village = Village(3, LASTING)
    village.rules = Rules(village.law, verify, verify_proof)
    first = village.after(village.genesis, 1)
    votes = village.votes(village.at(first, 5))
    part = village.after(first, 5, BlockBody(votes=votes[1:]))
    assert part.justified.hour == 0  # without the Server
    late = village.after(part, 9, BlockBody(votes=votes[:1]))
    assert late.justified.hour == 1
    assert late.links == {(Point(0, village.genesis.id), Point(1, first.id)): frozenset(village.nodes)}
    with pytest.raises(Invalid, match="another checkpoint"):
        village.after(part, 12, BlockBody(votes=votes[:1]))


def test_a_pool_leads_signs_with_its_keys_and_is_expelled_as_one() -> None:
    village = Village(3, DEVNET)
    village.rules = Rules(village.law, verify, verify_proof)
    name = pool_id(pool(), NETWORK)
    start = village.at(village.genesis, 1)
    registrations = (
        village.registration(start, 0),
        village.registration(start, 1, name),
        village.registration(start, 2, name),
    )
    state = village.after(village.genesis, 1, BlockBody(registrations=registrations, pools=(sign_pool(pool()),)))
    village.keys = {**village.keys, name: key(30)}
    slot, rank = next(
        (slot, leaders(village.law, village.at(state, slot), slot).index(name))
        for slot in range(20, 24)
        if name in leaders(village.law, village.at(state, slot), slot)
    )
    assert village.at(state, 20).checkpoint.registry.era == 1
    assert set(leaders(village.law, village.at(state, slot), slot)) == {village.nodes[0], name}
    header = village.header(state, slot, BlockBody(), rank)

    def sign(one: BlockHeader, *numbers: int) -> SignedHeader:
        mask = sum(1 << (number - 30) for number in numbers)
        message = header_signable(one, NETWORK)
        return SignedHeader(one, SignatureList(mask, tuple(key(number).sign_as_is(message) for number in numbers)))

    with pytest.raises(Invalid, match="proposer has not signed"):
        extend(village.rules, state, Block(sign(header, 30), BlockBody()))
    led = extend(village.rules, state, Block(sign(header, 30, 31), BlockBody()))
    assert led.publishers[-1] == (slot, name)
    second = replace(header, payload=Digest(blake3(b"x").digest()))
    found = BlockBody(double_proposals=(DoubleProposal(sign(header, 30, 31), sign(second, 30, 31)),))
    assert village.after(led, slot + 1, found, SERVER_RANK).happened.expelled == (name,)
    half = BlockBody(double_proposals=(DoubleProposal(sign(header, 30, 31), sign(second, 31)),))
    with pytest.raises(Invalid, match="accused has not signed"):
        village.after(led, slot + 1, half, SERVER_RANK)


def test_the_body_of_a_header_is_bound_by_its_digest(place: Place) -> None:
    block = place.block(votes=(vote(place),))
    assert block.header.body == body_digest(block.body) != body_digest(BlockBody())
