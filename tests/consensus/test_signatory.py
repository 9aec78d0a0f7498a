"""What one node signs: in its time, with the key that its branch knows, and never against what any key of it signed before."""

from dataclasses import replace

import pytest

from consensus.block import Block, BlockBody, sign_header
from consensus.finality import sign_vote
from consensus.ids import Digest, Millis
from consensus.inclusion import Rules
from consensus.params import SERVER_RANK
from consensus.pools import Pools
from consensus.records import pack, unpack
from consensus.signatory import Signatory
from consensus.signer import FRESH, SigningJournal, journal_key
from consensus.state import State, leaders
from consensus.transition import extend
from consensus.wishes import DoubleHeard, DutyDone, Keep, Prove, Told, Wake
from tests.consensus.towns import EMPTY, LASTING, Town
from tests.consensus.worlds import NETWORK, key, named

TOWN = Town(3)
V = TOWN.village
V.rules = TOWN.rules
FIRST = V.after(V.genesis, 1)
STATE = V.at(FIRST, 6)


def signatory(
    number: int = 0, since: int = 0, rows: dict[tuple[str, tuple[str, Digest]], bytes] | None = None
) -> Signatory:
    return Signatory(TOWN.law, TOWN.own(number), rows or {}, since)


def pools_with_votes() -> Pools:
    made = Pools()
    for vote in V.votes(STATE):
        made.add_vote(vote)
    return made


def elsewhere(number: int, era: int = 1) -> State:
    """The same slot on a branch that knows another era key of a voter."""
    at = STATE.checkpoint
    other = key(1_000 * era + number).public
    voters = tuple(voter._replace(key=other) if voter.node == V.nodes[number] else voter for voter in at.voters)
    members = {**at.registry.members}
    members[V.nodes[number]] = members[V.nodes[number]]._replace(era_key=other)
    registry = at.registry._replace(members=members)
    return replace(STATE, recent=(*STATE.recent[:-1], replace(at, voters=voters, registry=registry)))


def test_a_node_is_told_of_its_ranks_and_of_its_vote_from_its_own_slot_on() -> None:
    start = Millis(1_000)
    found: list[list[Wake]] = []
    for number in range(3):
        made = []
        for slot in range(4, 8):
            state = V.at(FIRST, slot)
            drawn = leaders(TOWN.law, state, slot)
            due = [one for one in signatory(number).due(state, slot, drawn, start) if isinstance(one, Wake)]
            ranks = [drawn.index(V.nodes[number]), *([SERVER_RANK] if number == 0 else [])]
            proposals = [Wake(("propose", slot, rank), Millis(start + rank * LASTING.rank_ms)) for rank in ranks]
            assert due[: len(ranks)] == proposals
            made += due[len(ranks) :]
        found.append(made)
    for made in found:
        assert all(one.at == start + LASTING.vote_ms for one in made)
        slots = [one.key[1] for one in made]
        assert slots in ([5, 6, 7], [6, 7])  # neither the first slot nor the last, and again until it is done


def test_who_has_just_begun_or_has_a_double_signs_nothing() -> None:
    drawn = leaders(TOWN.law, STATE, 6)
    for since in (5, 6, 9):
        assert signatory(since=since).due(STATE, 6, drawn, Millis(0)) == []
        assert signatory(since=since).register(STATE, 6, 1) == []
    me = signatory()
    me.is_doubled = True
    assert me.due(STATE, 6, drawn, Millis(0)) == []
    assert me.vote(STATE, FIRST.id) == (None, [])
    assert me.propose(TOWN.rules, Pools(), STATE, 6, SERVER_RANK, named(0), b"") == (None, [])


def test_a_vote_is_from_the_highest_justified_checkpoint_once_and_not_due_again() -> None:
    me = signatory(1)
    vote, (keep, told) = me.vote(STATE, FIRST.id)
    assert vote == V.vote(STATE, 1, head=FIRST.id)
    assert isinstance(keep, Keep)
    assert (keep.table, keep.key) == ("journal", journal_key(V.nodes[1]))
    assert keep.value is not None
    assert unpack(SigningJournal, keep.value).target_hour == 1
    assert told == Told(DutyDone("vote", 1))
    assert me.vote(STATE, FIRST.id) == (None, [])
    assert not [one for one in me.due(V.at(FIRST, 7), 7, (), Millis(0)) if isinstance(one, Wake)]
    row = {("journal", journal_key(V.nodes[1])): keep.value}
    assert signatory(1, rows=row).vote(STATE, named(1)) == (None, [])
    assert signatory(1, rows=row).vote(V.at(FIRST, 9), FIRST.id)[0] is not None


def test_what_another_key_of_the_node_signed_is_not_contradicted() -> None:
    """On branches with other registries a node has other keys; evidence looks at all of them."""
    other = elsewhere(1)
    assert TOWN.own(1).new_keys(1).signing == key(1_001)
    me = signatory(1)
    vote, (keep, _) = me.vote(STATE, FIRST.id)
    assert vote is not None
    assert me.vote(other, FIRST.id) == (None, [])
    assert isinstance(keep, Keep)
    assert keep.value is not None
    again = signatory(1, rows={("journal", journal_key(V.nodes[1])): keep.value})
    assert again.vote(other, FIRST.id) == (None, [])
    high = unpack(SigningJournal, keep.value)
    ahead = replace(high, source_hour=1, target_hour=0)
    assert signatory(1, rows={("journal", journal_key(V.nodes[1])): pack(ahead)}).vote(other, named(1)) == (None, [])
    assert signatory(1).vote(other, FIRST.id)[0] is not None
    block, _ = me.propose(TOWN.rules, pools_with_votes(), STATE, 6, 0, Digest(EMPTY), b"")
    assert block is not None
    assert me.propose(TOWN.rules, pools_with_votes(), other, 6, 0, Digest(EMPTY), b"") == (None, [])


def test_nothing_is_published_where_there_is_nothing_but_by_the_server() -> None:
    for number in range(3):
        rank = leaders(TOWN.law, STATE, 6).index(V.nodes[number])
        assert signatory(number).propose(TOWN.rules, Pools(), STATE, 6, rank, Digest(EMPTY), b"") == (None, [])
        block, (keep, told) = signatory(number).propose(
            TOWN.rules, pools_with_votes(), STATE, 6, rank, Digest(EMPTY), b""
        )
        assert block is not None
        assert len(block.body.votes) == 3
        assert extend(TOWN.rules, FIRST, block).slot == 6
        assert isinstance(keep, Keep)
        assert told == Told(DutyDone("block", 6))
    block, _ = signatory(0).propose(TOWN.rules, Pools(), STATE, 6, SERVER_RANK, Digest(EMPTY), b"")
    assert block is not None
    assert extend(TOWN.rules, FIRST, block).rank == SERVER_RANK


def test_two_blocks_of_a_slot_are_never_signed_whatever_the_rank() -> None:
    me = signatory(0)
    assert me.propose(TOWN.rules, pools_with_votes(), STATE, 6, 0, Digest(EMPTY), b"")[0] is not None
    assert me.propose(TOWN.rules, Pools(), STATE, 6, SERVER_RANK, Digest(EMPTY), b"") == (None, [])
    assert me.propose(TOWN.rules, Pools(), V.at(FIRST, 5), 5, SERVER_RANK, Digest(EMPTY), b"") == (None, [])


def test_without_its_keys_or_a_place_in_the_registry_a_node_signs_nothing() -> None:
    stranger = signatory(7)
    assert stranger.vote(STATE, FIRST.id) == (None, [])
    assert stranger.propose(TOWN.rules, Pools(), STATE, 6, 0, named(0), b"") == (None, [])
    lost = Signatory(TOWN.law, replace(TOWN.own(1), keys_of=lambda _: None), {}, 0)
    assert lost.vote(STATE, FIRST.id) == (None, [])
    assert lost.propose(TOWN.rules, Pools(), STATE, 6, 0, named(0), b"") == (None, [])


def test_registering_is_tried_once_an_hour_until_it_is_on_the_chain() -> None:
    me = signatory(1)
    (first,) = me.register(STATE, 6, 1)
    assert first == Prove(1, STATE.checkpoint.block, STATE.checkpoint.difficulty)
    assert me.register(STATE, 7, 2) == []
    (second,) = me.register(V.at(FIRST, 9), 9, 3)
    assert isinstance(second, Prove)
    assert me.proven(1, bytes(16)) is None  # overtaken
    signed = me.proven(3, b"n" * 16)
    assert signed is not None
    assert (signed.registration.nonce, signed.registration.capacity) == (b"n" * 16, 7)
    assert me.proven(3, bytes(16)) is None
    done = V.after(FIRST, 9, BlockBody(registrations=(signed,)))
    assert signatory(1).register(V.at(done, 10), 10, 1) == []
    assert signatory(1).register(V.at(done, 13), 13, 1) == []


def test_nobody_registers_in_the_last_two_hours_of_an_era_which_come_too_late() -> None:
    law = replace(TOWN.law, params=replace(TOWN.law.params, era_hours=5, month_hours=5))
    tried = []
    for hour in range(12):
        me = Signatory(law, TOWN.own(1), {}, 0)
        at = replace(STATE.checkpoint, hour=hour)
        if me.register(replace(STATE, recent=(*STATE.recent[:-1], at)), hour * 4 + 9, 1):
            tried.append(hour)
    assert tried == [0, 1, 2, 5, 6, 7, 10, 11]


@pytest.mark.parametrize("since", [0, 4, 9])
def test_of_votes_by_its_key_a_node_learns_the_old_and_finds_its_double_in_the_new(since: int) -> None:
    me = signatory(1, since=since)
    vote = V.vote(STATE, 1)
    doing = me.heard_vote(V.nodes[1], vote)
    if since == 0:  # it began before HOUR 1
        assert doing == [Told(DoubleHeard("vote"))]
        assert me.is_doubled
        assert me.heard_vote(V.nodes[1], V.vote(V.at(FIRST, 9), 1)) == []
    else:
        (keep,) = doing
        assert isinstance(keep, Keep)
        assert me.heard_vote(V.nodes[1], vote) == []
        assert me.vote(STATE, named(1)) == (None, [])
        assert not me.is_doubled
    assert me.heard_vote(V.nodes[2], V.vote(STATE, 2)) == []


def test_blocks_show_a_node_its_own_header_and_its_own_votes() -> None:
    rank = leaders(TOWN.law, STATE, 6).index(V.nodes[1])
    block = V.block(FIRST, 6, BlockBody(votes=V.votes(STATE)), rank)
    after = extend(TOWN.rules, FIRST, block)
    old = signatory(1, since=8)
    header, vote = old.heard_block(after, block)
    assert isinstance(header, Keep)
    assert isinstance(vote, Keep)
    assert vote.value is not None
    journal = unpack(SigningJournal, vote.value)
    assert (journal.slot, journal.target_hour) == (6, 1)
    assert old.propose(TOWN.rules, pools_with_votes(), STATE, 6, rank, named(0), b"") == (None, [])
    assert old.vote(STATE, named(1)) == (None, [])
    assert signatory(1, since=3).heard_block(after, block) == [Told(DoubleHeard("block"))]
    (own_vote,) = signatory(2, since=8).heard_block(after, block)
    assert isinstance(own_vote, Keep)
    stranger = replace(block.header, entity=bytes(32))
    assert signatory(7).heard_block(after, Block(sign_header(stranger, key(1), NETWORK), BlockBody())) == []


def test_a_journal_that_begins_is_empty() -> None:
    assert SigningJournal(0, 0, None, 0, 0, None) == FRESH
    assert Rules(TOWN.law, TOWN.rules.verify).shared is None
    assert sign_vote(V.vote(STATE, 1).vote, key(1), NETWORK) == V.vote(STATE, 1)
