"""The state of a slot: however one gets there it is the same, and seeds, leaders and HOURs follow from the branch alone."""

from dataclasses import replace
from functools import cache

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from consensus import vrf
from consensus.block import BlockBody
from consensus.checkpoint import checkpoint_digest
from consensus.ids import Digest, NodeId
from consensus.inclusion import Rules
from consensus.params import DEVNET, RANKS, SERVER_RANK, STATE_HOURS, settled_hours
from consensus.schedule import ranks
from consensus.state import RECENT, State, at_hour, at_slot, genesis_state, leaders, proposer, state_digest
from tests.consensus.towns import LASTING, verify, verify_proof
from tests.consensus.worlds import NETWORK, Village, key, named

V = Village(7, LASTING)
V.rules = Rules(V.law, verify, verify_proof)


@cache
def chain() -> tuple[State, ...]:
    """The genesis and blocks in six slots of four HOURs, with votes, reports and one that breaks the rules."""
    made = [V.genesis, V.after(V.genesis, 1)]
    first = V.at(made[-1], 5)
    made.append(V.after(made[-1], 5, BlockBody(votes=V.votes(first), reports=(V.report(first, 0, 0),))))
    made.append(V.after(made[-1], 7, rank=2))
    second = V.at(made[-1], 9)
    made.append(V.after(made[-1], 9, BlockBody(votes=V.votes(second), reports=(V.report(second, 1, 3),))))
    return (*made, V.after(made[-1], 12), V.after(V.after(made[-1], 12), 14, rank=SERVER_RANK))


states = st.sampled_from(range(7)).map(lambda place: chain()[place])


@given(states, st.integers(0, 30), st.integers(0, 30))
def test_a_slot_has_one_state_whatever_was_asked_on_the_way(state: State, one: int, more: int) -> None:
    first, last = state.slot + one, state.slot + one + more
    assert at_slot(V.law, at_slot(V.law, state, first), last) == at_slot(V.law, state, last)
    made = at_slot(V.law, state, last)
    assert made.slot == (state.slot if last <= state.slot else last - 1)
    assert made.checkpoint.hour == max(state.checkpoint.hour, last // LASTING.hour_slots)
    assert made.id == state.id
    assert made.names[-1] == checkpoint_digest(V.law, made.checkpoint)


def test_the_name_of_a_state_tells_of_all_of_it() -> None:
    made = at_slot(V.law, chain()[4], 12)
    assert made.state == state_digest(V.law, made)
    assert made.published
    assert made.publishers
    assert made.links
    assert made.happened.votes
    others = (
        replace(made, height=made.height + 1),
        replace(made, rank=made.rank + 1),
        replace(made, published=made.published[1:]),
        replace(made, publishers=made.publishers[1:]),
        replace(made, links={}),
        replace(made, happened=replace(made.happened, votes={})),
        replace(made, names=(Digest(bytes(32)), *made.names[1:])),
        replace(made, recent=(*made.recent[:-1], replace(made.checkpoint, seed=Digest(bytes(32))))),
    )
    assert len({made.state, *(state_digest(V.law, one) for one in others)}) == 1 + len(others)


@given(states, st.integers(0, 20))
def test_a_slot_that_is_past_changes_nothing(state: State, before: int) -> None:
    assert at_slot(V.law, state, max(0, state.slot - before)) is state


@given(states, st.integers(1, 20))
def test_leaders_are_the_same_for_all_and_those_of_the_draw(state: State, ahead: int) -> None:
    slot = state.slot + ahead
    now = V.at(state, slot)
    drawn = leaders(V.law, now, slot)
    assert drawn == leaders(V.law, V.at(V.at(state, slot - 1), slot), slot)
    assert len({*drawn}) == len(drawn) <= RANKS
    past = at_hour(now, max(0, now.checkpoint.hour - STATE_HOURS))
    assert past is not None
    rest = min(LASTING.cooldown_slots, sum(past.weights.values()) // (8 * max(past.weights.values())))
    tired = {entity for at, entity in now.publishers if at >= slot - rest}
    assert drawn == ranks(LASTING.leader_rule, NETWORK, now.seed, slot, past.weights, tired)


def test_an_empty_slot_hashes_the_seed_and_a_published_one_takes_the_proof_in() -> None:
    """CONSENSUS §6, computed here: H(domain ‖ seed ‖ slot) and H(domain ‖ seed ‖ β)."""
    before = V.at(V.genesis, 3)
    seed = bytes(NETWORK)
    for slot in (1, 2):
        seed = blake3(b"lucid/skip/v1" + NETWORK + seed + slot.to_bytes(8, "big")).digest()
    assert before.seed == seed
    block = V.block(V.genesis, 3)
    alpha = b"lucid/vrf/v1" + NETWORK + seed + (3).to_bytes(8, "big")
    output = vrf.verify(block.header.entity, alpha, block.header.proof)
    assert output is not None
    assert V.after(V.genesis, 3).seed == blake3(b"lucid/seed/v1" + NETWORK + seed + output).digest()


def test_a_branch_forgets_checkpoints_that_no_report_is_for() -> None:
    late = V.at(V.genesis, 40 * 4)
    kept = settled_hours(LASTING) + RECENT
    assert [one.hour for one in late.recent] == [*range(41 - kept, 41)]
    assert at_hour(late, 40 - kept) is None
    assert at_hour(late, 40) is late.checkpoint
    assert late.final.hour == 0
    assert late.justified == late.at_final.point


def test_votes_of_the_hour_before_stay_known_and_what_is_older_does_not() -> None:
    voted = V.at(chain()[2], 8)
    assert {hour for hour, _ in voted.happened.votes} == {1}
    assert {target.hour for _, target in voted.links} == {1}
    later = V.at(chain()[2], 12)
    assert (later.happened.votes, later.links) == ({}, {})
    assert {*voted.checkpoint.reports} == {0}
    assert later.checkpoint.reports == {}  # settled: nothing of HOUR 0 can be included any more
    assert later.checkpoint.tally.sums[V.nodes[0]].hours == 1


def test_who_published_within_the_cooldown_rests() -> None:
    many = Village(33, LASTING)
    first = many.after(many.genesis, 1)
    drawn = leaders(many.law, many.at(first, 2), 2)
    assert first.publishers[-1][1] not in drawn
    published = {entity for _, entity in first.publishers}
    rest = 33 // 8
    for slot in range(2, 2 + rest):
        assert not published & {*leaders(many.law, many.at(first, slot), slot)}
    free = replace(many.at(first, 2 + rest), seed=many.at(first, 2 + rest).seed)
    assert 2 + rest - rest > 1
    assert any(
        published & {*leaders(many.law, replace(free, seed=named(turn)), 2 + rest)} for turn in range(40)
    )  # drawn again as soon as it has rested


@pytest.mark.parametrize("founders", [1, 2])
def test_the_few_lead_every_slot(founders: int) -> None:
    village = Village(founders, LASTING)
    assert {*leaders(village.law, village.at(village.genesis, 1), 1)} == {*village.nodes}


def test_a_header_needs_the_keys_of_whoever_its_slot_belonged_to() -> None:
    state = V.at(chain()[-1], 15)
    header = V.header(chain()[-1], 15, BlockBody())
    found = proposer(V.law, state, header)
    assert found == ((header.entity,), 1, header.entity)
    assert proposer(V.law, state, replace(header, slot=1 << 40)) is None
    assert proposer(V.law, state, replace(header, entity=bytes(32))) is None
    assert proposer(V.law, state, replace(header, rank=SERVER_RANK, entity=V.nodes[1])) is None
    assert proposer(V.law, state, replace(header, rank=SERVER_RANK, entity=V.law.server)) is not None
    shown = replace(state.checkpoint, expelled={header.entity: 3})
    assert proposer(V.law, replace(state, recent=(*state.recent[:-1], shown)), header) is None


def test_an_era_begins_with_who_registered_two_hours_before_and_its_leaders_have_worked_before() -> None:
    village = Village(3, DEVNET)
    start = village.at(village.genesis, 1)
    joining = tuple(village.registration(start, number) for number in (0, 1, 9))
    state = village.after(village.genesis, 1, BlockBody(registrations=joining))
    era = village.at(state, 12)
    assert era.checkpoint.registry.era == 1
    newcomer = NodeId(key(9).public)
    assert {*era.checkpoint.registry.members} == {village.nodes[0], village.nodes[1], newcomer}
    assert {*leaders(village.law, era, 12)} == {village.nodes[0], village.nodes[1]}  # weights are two HOURs old
    later = village.at(state, 20)
    assert newcomer in leaders(village.law, later, 20)
    too_late = village.after(
        village.genesis, 4, BlockBody(registrations=(village.registration(village.at(village.genesis, 4), 9),))
    )
    assert newcomer not in village.at(too_late, 12).checkpoint.registry.members


def test_the_genesis_is_final_and_named_by_its_network() -> None:
    made = genesis_state(V.law, V.genesis.checkpoint.registry)
    assert made == V.genesis
    assert made.id == Digest(NETWORK) == made.final.block == made.justified.block
    assert made.names[-1] == checkpoint_digest(V.law, made.checkpoint)
