"""Towns of replicas: what becomes final and when, what hostile peers can do, and what survives a restart."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus import catchup, replica
from consensus.admission import SignedRegistration
from consensus.block import Block, BlockBody, block_id, read_block, sign_header
from consensus.catchup import ANSWER_BLOCKS, BlockAnswer
from consensus.checkpoint import Checkpoint, Constitution, roll
from consensus.conclusions import EMPTY_HOURS, EMPTY_PAUSE_MS, FOLLOWED_MAX, Conclusions
from consensus.finality import SignedVote, read_vote, sign_vote
from consensus.ids import Digest, Millis, NodeId
from consensus.inclusion import Rules
from consensus.params import DEVNET, EARLY_MS, HELD_SLOTS, SERVER_RANK, Params
from consensus.payload import terms_of
from consensus.petitions import WAITING_MAX
from consensus.reasons import Reason
from consensus.records import pack, unpack
from consensus.replica import (
    REMEMBERED_MAX,
    SERVED,
    UNPAYABLE,
    ConsensusReplica,
)
from consensus.signer import SigningJournal
from consensus.snapshot import SNAPSHOT_HOURS
from consensus.state import State
from consensus.transition import extend
from consensus.waiting import EARLY_MAX, ORPHANS_MAX
from consensus.wishes import (
    BuildPayload,
    Doing,
    DoubleHeard,
    DutyDone,
    ExecutePayload,
    FetchBlocks,
    Heard,
    Keep,
    NewBlock,
    NewFinal,
    Prove,
    RecordRefused,
    Spread,
    Told,
    Topic,
    Wake,
)
from node.control.chain import standing
from tests.consensus.test_transition import pool, sign_pool
from tests.consensus.towns import BEGAN, EMPTY, LASTING, SLOT, Dweller, Town, kept, verify, verify_proof
from tests.consensus.worlds import FULL, NETWORK, Village, key, named, sign_registration
from tests.examples import examples

pytestmark = pytest.mark.component

STRANGER = NodeId(key(99).public)
FAST = replace(LASTING, hour_slots=4)


@pytest.fixture(scope="module")
def seven() -> Town:
    """Seven founders after ten HOURs."""
    town = Town(7, work=FULL)
    town.run(44)
    return town


def observer(town: Town, rules: Rules | None = None) -> ConsensusReplica:
    """A node of none: it has heard all blocks and votes of the first of a town, and sits in its slot."""
    first = town.up[min(town.up)]
    made = ConsensusReplica(rules or town.rules, town.village.genesis, BEGAN, None, dict(first.rows))
    made.start(Millis(town.now - SLOT))
    made.wake(town.now, ("slot", made.slot_at(town.now)))
    return made


def carried(town: Town, replica: ConsensusReplica, doing: list[Doing]) -> list[Doing]:
    """Payloads are valid; all else that follows."""
    out: list[Doing] = []
    waiting = [*doing]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, ExecutePayload):
            waiting[:0] = replica.executed(town.now, one.call, valid=True)
        else:
            out.append(one)
    return out


def hear(town: Town, replica: ConsensusReplica, topic: Topic, record: Any) -> tuple[Heard, list[Doing]]:
    data = record if isinstance(record, bytes) else pack(record)
    heard, doing = replica.hear(town.now, topic, data, STRANGER)
    return heard, carried(town, replica, doing)


def a_block(town: Town, replica: ConsensusReplica, slot: int, rank: int = 0, parent: Any = None, **body: Any) -> Block:
    """The block of a rank on top of the head, or of another state."""
    made = replica.head() if parent is None else parent
    return named_payload(town.village, made, slot, rank, BlockBody(**body))


def named_payload(village: Village, parent: Any, slot: int, rank: int, body: BlockBody) -> Block:
    header = replace(village.header(parent, slot, body, rank), payload=Digest(EMPTY))
    return Block(sign_header(header, village.keys[header.entity], NETWORK), body)


# ---------------------------------------------------------------------- what becomes final


@pytest.mark.parametrize("founders", [1, 3, 5, 7])
def test_an_hour_is_justified_in_itself_and_final_in_the_next(founders: int) -> None:
    town = Town(founders)
    for hour in range(1, 5):
        town.run((hour + 1) * 4)
        for one in town.up.values():
            head = one.replica.head()
            assert head.justified.hour == hour
            assert head.final.hour == hour - 1
            assert len(one.votes()) == hour
            assert one.votes()[-1].vote.target_hour == hour
    assert len(town.heads()) == 1
    town.run(20, into=0)
    assert [one.point.hour for one in town.up[0].told(NewFinal)] == [1, 2, 3]
    assert not any(one.told(RecordRefused) or one.told(DoubleHeard) for one in town.up.values())


def test_everybody_votes_once_an_hour_in_its_own_slot_and_alike(seven: Town) -> None:
    for one in seven.up.values():
        hours = [signed.vote.target_hour for signed in one.votes()]
        assert hours == [*range(1, 11)]
    for hour in range(1, 11):
        assert len({one.votes()[hour - 1].vote.target for one in seven.up.values()}) == 1
    assert seven.finals() == {9}


def test_reports_reach_the_chain_and_earn_weight(seven: Town) -> None:
    at = seven.up[0].replica.head().checkpoint
    assert {len(of) for hour, of in at.reports.items() if hour < at.hour - 1} == {7}
    assert {one.hours for one in at.tally.sums.values() if one.hours} == {sum(one.hour >= 0 for one in at.tally.hours)}


def test_of_three_one_may_be_down_if_it_is_not_the_server() -> None:
    town = Town(3)
    town.run(8)
    town.stop(2)
    town.run(20)
    assert town.finals() == {3}
    town.start(2)
    town.stop(0)
    town.run(36)
    assert len(town.heads()) == 1
    assert town.finals() == {3}  # none without it
    town.start(0)
    town.run(52)
    assert town.finals() == {11}
    assert len(town.heads()) == 1


def test_a_minority_finalises_nothing_and_agrees_with_the_others_afterwards() -> None:
    town = Town(10)
    town.run(12)
    before = town.finals()
    town.part(range(7), range(7, 10))
    town.run(28)
    most = {town.up[number].replica.head().final.hour for number in range(7)}
    few = {town.up[number].replica.head().final.hour for number in range(7, 10)}
    assert (before, most, few) == ({1}, {5}, {1})
    assert len(town.heads()) == 2
    town.part(range(10))
    town.run(40)
    assert len(town.heads()) == 1
    assert town.finals() == {8}
    assert not town.up[0].told(DoubleHeard)
    assert town.up[0].replica.head().checkpoint.expelled == {}


def test_nothing_is_final_while_neither_side_has_a_quorum_and_all_is_when_they_meet() -> None:
    town = Town(7)
    town.run(10)
    town.part(range(4), range(4, 7))
    town.run(14)
    assert town.finals() == {1}
    town.part(range(7))
    town.run(28)
    assert len(town.heads()) == 1
    assert town.finals() == {5}


@pytest.mark.parametrize(("seed", "founders", "params"), [(1, 4, DEVNET), (4, 3, LASTING), (7, 7, DEVNET)])
def test_after_splits_and_restarts_at_any_time_all_agree_and_nobody_has_broken_a_rule(
    seed: int, founders: int, params: Params
) -> None:
    chance, slot = Random(seed), 5
    town = Town(founders, params, work=FULL)
    for _ in range(12):
        slot += chance.randrange(1, 7)
        town.run(slot, into=chance.randrange(SLOT))
        match chance.choice(["part", "part", "heal", "stop", "stop", "start"]):
            case "part":
                side = [number for number in range(founders) if chance.random() < 0.5]
                town.part(side, [number for number in range(founders) if number not in side])
            case "heal":
                town.part(range(founders))
            case "stop" if len(town.up) > 1:
                town.stop(chance.choice([*town.up]))
            case _ if town.down:
                town.start(chance.choice([*town.down]))
            case _:
                pass
    for number in [*town.down]:
        town.start(number)
    town.part(range(founders))
    town.run(slot // 4 * 4 + 40)
    assert len(town.heads()) == 1
    assert town.finals() == {slot // 4 + 8}
    for one in town.up.values():
        assert one.replica.head().checkpoint.expelled == {}
        assert not one.told(DoubleHeard)
        assert not one.told(RecordRefused)


# ---------------------------------------------------------------------- who was away


@pytest.mark.parametrize("away", [1, 70, 200])
def test_who_was_away_has_the_head_of_the_others_after_questions_and_answers(away: int) -> None:
    town = Town(3, replace(LASTING, hour_slots=20))
    town.run(3)
    town.stop(2)
    town.run(3 + away, into=2_500)
    town.start(2)
    assert town.up[2].replica.head() == town.up[0].replica.head()
    assert town.up[2].replica.head().height > away - 2
    town.run(3 + away + 2)
    assert len({one.replica.final for one in town.up.values()}) == 1
    assert len(town.heads()) == 1


def test_a_fork_deeper_than_any_answer_heals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is final, the sides share a hundred blocks, and answers are so short that none reaches from a name to the fork."""
    monkeypatch.setattr(catchup, "ANSWER_BLOCKS", 4)
    town = Town(3, replace(LASTING, hour_slots=3_000))
    town.run(100)
    town.part(range(2), range(2, 3))
    one, other = town.up[0].replica, town.up[2].replica
    for slot in range(100, 140):
        town.run(slot, into=4_500)
        hear(town, other, Topic.BLOCKS, a_block(town, other, slot, 0))
    assert len(town.heads()) == 2
    assert one.final == other.final == town.village.genesis.final
    town.part(range(3))
    town.run(143)
    assert len(town.heads()) == 1


def test_an_answer_with_an_invalid_block_is_refused() -> None:
    town = Town(3)
    town.run(6)
    fresh = ConsensusReplica(town.rules, town.village.genesis, BEGAN, None, {})
    fresh.start(town.now)
    answer = unpack(BlockAnswer, town.up[0].replica.answer(fresh.question()))
    first = read_block(answer.blocks[0])
    wrong = pack(Block(replace(first.signed, signatures=read_block(answer.blocks[1]).signed.signatures), first.body))
    heard, doing = fresh.answered(town.now, STRANGER, pack(BlockAnswer((wrong, *answer.blocks[1:]))))
    assert heard is Heard.REJECT
    assert [*map(type, doing)] == [Told]
    for garbage in (b"", b"\x00", pack(BlockAnswer((b"x",)))):
        heard, doing = fresh.answered(town.now, STRANGER, garbage)
        assert (heard, len(doing)) == (Heard.REJECT, 1)
    assert fresh.answered(town.now, STRANGER, pack(BlockAnswer(()))) == (Heard.ACCEPT, [])
    assert len(fresh.tree) == 1
    heard, doing = fresh.answered(town.now, STRANGER, pack(answer))
    out = carried(town, fresh, doing)
    assert heard is Heard.ACCEPT
    assert fresh.head().id == town.up[0].replica.head().id
    assert out[-1] == FetchBlocks(STRANGER, fresh.question(fresh.head().id))


def test_who_answers_with_what_is_known_is_asked_on_only_while_that_leads_further() -> None:
    town = Town(1)
    town.run(8)
    me = observer(town)
    blocks = unpack(BlockAnswer, town.up[0].replica.answer(pack_question(town))).blocks
    once, twice = pack(BlockAnswer(blocks[:3])), pack(BlockAnswer(blocks[:5]))
    assert me.answered(town.now, STRANGER, once)[1] == [FetchBlocks(STRANGER, me.question(block_name(blocks[2])))]
    assert me.answered(town.now, STRANGER, once) == (Heard.ACCEPT, [])
    assert len(me.answered(town.now, STRANGER, once)[1]) == 1
    assert len(me.answered(town.now, STRANGER, twice)[1]) == 1
    for number in range(2 * REMEMBERED_MAX):
        me.answered(town.now, NodeId(named(number)), once)
    assert len(me._catching) == REMEMBERED_MAX


def pack_question(town: Town) -> bytes:
    fresh = ConsensusReplica(town.rules, town.village.genesis, BEGAN, None, {})
    return fresh.question()


def block_name(data: bytes) -> Digest:
    return block_id(read_block(data).header, NETWORK)


# ---------------------------------------------------------------------- proposing


def test_who_saw_a_valid_block_of_the_slot_publishes_none_and_without_work_only_the_server_does() -> None:
    town = Town(3)
    town.run(42)
    blocks = town.up[1].told(NewBlock)
    assert len({fact.slot for fact in blocks}) == len(blocks) == 40  # one a slot, none twice
    idle = [fact for fact in blocks if fact.rank == SERVER_RANK]
    busy = [fact for fact in blocks if fact.rank < SERVER_RANK]
    assert {fact.entity for fact in idle} == {town.law.server}
    assert busy
    assert {fact.rank for fact in busy} == {0}  # all are up, and heard at once


def test_a_payload_that_comes_after_another_block_or_after_its_slot_is_not_signed() -> None:
    town = Town(3)
    town.run(5, into=100)
    me = town.up[0].replica
    head, state = me.head(), me.next()[0]
    builds: list[Doing] = []
    for _ in range(3):
        builds += me.wake(town.now, ("propose", 5, SERVER_RANK))
    first, second, third = (one.call for one in builds if isinstance(one, BuildPayload))
    assert builds[0] == BuildPayload(first, terms_of(state, 5, me.own.node), state)  # type: ignore[union-attr]
    assert builds[0].terms[:3] == (head.payload, 5, state.seed)
    hear(town, me, Topic.BLOCKS, a_block(town, me, 5, 0))
    assert me.head().slot == 5
    assert me.built(town.now, first, Digest(EMPTY), b"") == []
    assert me.wake(town.now, ("propose", 5, SERVER_RANK)) == []
    me._building[first] = me.next()[0], 5, SERVER_RANK
    me.wake(Millis(BEGAN + 6 * SLOT), ("slot", 6))
    assert me.built(town.now, second, Digest(EMPTY), b"") == me.built(town.now, first, Digest(EMPTY), b"") == []
    assert me.built(town.now, third, Digest(EMPTY), b"") == []


def test_nobody_proposes_another_ones_rank_or_another_slot() -> None:
    town = Town(3)
    town.run(5, into=100)
    me = town.up[1].replica
    drawn = me.leaders(me.next()[0], 5)
    other = next(rank for rank, entity in enumerate(drawn) if entity != me.own.node)  # type: ignore[union-attr]
    me._was_pending = True
    assert me.wake(town.now, ("propose", 5, other)) == []
    assert me.wake(town.now, ("propose", 4, 0)) == []
    assert me.wake(town.now, ("vote", 4)) == []
    assert observer(town).wake(town.now, ("propose", 5, 0)) == []
    assert observer(town).wake(town.now, ("vote", 5)) == []


def test_a_block_with_an_invalid_payload_is_refused_once_executed_and_at_once_afterwards() -> None:
    town = Town(3)
    town.run(5, into=100)
    me = observer(town)
    before = kept(me)
    data = pack(a_block(town, me, 5))
    heard, (wish,) = me.hear(town.now, Topic.BLOCKS, data, STRANGER)
    assert heard is Heard.ACCEPT
    assert isinstance(wish, ExecutePayload)
    assert me.hear(town.now, Topic.BLOCKS, data, STRANGER) == (Heard.IGNORE, [])  # being executed
    refused = [Told(RecordRefused(Topic.BLOCKS, UNPAYABLE))]
    assert me.executed(town.now, wish.call, valid=False) == refused
    assert me.hear(town.now, Topic.BLOCKS, data, STRANGER) == (Heard.REJECT, refused)
    assert kept(me) == before


# ---------------------------------------------------------------------- time


def test_an_early_block_waits_for_its_time_and_is_passed_on_then() -> None:
    town = Town(3)
    town.run(5, into=100)
    me = observer(town)
    parent = me.head()
    soon, later = a_block(town, me, 6, 0), a_block(town, me, 7, 0)
    due = BEGAN + 6 * SLOT
    before = kept(me)
    assert hear(town, me, Topic.BLOCKS, later) == (Heard.IGNORE, [Wake(("early",), Millis(due + SLOT - EARLY_MS))])
    first = Wake(("early",), Millis(due - EARLY_MS))
    assert hear(town, me, Topic.BLOCKS, soon) == (Heard.IGNORE, [first])  # the timer is set to the sooner
    assert hear(town, me, Topic.BLOCKS, soon) == (Heard.IGNORE, [])
    assert kept(me) == before
    town.now = Millis(due - EARLY_MS)
    out = carried(town, me, me.wake(town.now, ("early",)))
    assert [one for one in out if isinstance(one, Spread)] == [Spread(Topic.BLOCKS, pack(soon))]
    assert Wake(("early",), Millis(due + SLOT - EARLY_MS)) in out
    assert me.head().slot == 6
    assert me.head().height == parent.height + 1


def test_a_block_of_a_far_slot_is_not_looked_at_and_an_invalid_one_never_waits() -> None:
    town = Town(3)
    town.run(5, into=100)
    me = observer(town)
    for slot in (8, 1 << 40, (1 << 64) - 1):
        header = replace(a_block(town, me, 6).header, slot=slot)
        block = Block(sign_header(header, town.village.keys[header.entity], NETWORK), BlockBody())
        assert hear(town, me, Topic.BLOCKS, block) == (Heard.IGNORE, [])
    wrong = replace(a_block(town, me, 6).header, state=named(1))
    heard, told = hear(
        town, me, Topic.BLOCKS, Block(sign_header(wrong, town.village.keys[wrong.entity], NETWORK), BlockBody())
    )
    assert heard is Heard.REJECT
    assert told == [Told(RecordRefused(Topic.BLOCKS, "a block on top of another state"))]
    assert len(me._early) == 0


def test_of_a_flood_of_early_blocks_one_of_each_rank_waits() -> None:
    town = Town(7)
    town.run(5, into=100)
    me = observer(town)
    for turn in range(40):
        hear(town, me, Topic.BLOCKS, a_block(town, me, 6, 0, payload=bytes([16 + turn])))
    assert len(me._early) == 1
    for slot in (6, 7):
        for rank in range(7):
            hear(town, me, Topic.BLOCKS, a_block(town, me, slot, rank))
    assert len(me._early) == 14
    for parent in [*me.tree.ancestors(me.head().id)][1:]:
        for slot in (6, 7):
            for rank in range(7):
                hear(town, me, Topic.BLOCKS, a_block(town, me, slot, rank, parent))
    assert len(me._early) == EARLY_MAX


def test_a_machine_that_slept_does_nothing_of_what_was_due() -> None:
    town = Town(1)
    town.run(5)
    me = town.up[0].replica
    late = Millis(BEGAN + 90 * SLOT + 3)
    assert me.wake(late, ("slot", 5)) == [Wake(("slot", 91), Millis(BEGAN + 91 * SLOT))]
    assert me.wake(late, ("vote", 5)) == me.wake(late, ("propose", 5, SERVER_RANK)) == []


def test_a_network_that_stood_still_for_long_is_followed_in_pieces_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    rolled: list[int] = []

    def counted(law: Constitution, recent: Sequence[Checkpoint], *rest: Any) -> Checkpoint:
        rolled.append(recent[-1].hour)
        return roll(law, recent, *rest)

    monkeypatch.setattr("consensus.state.roll", counted)
    town = Town(3)
    town.run(4 * LASTING.hour_slots)
    vote = town.up[0].spread(Topic.VOTES)[-1]
    town.stop(0, 1, 2)
    still = 5 * EMPTY_HOURS + 9
    town.now = Millis(BEGAN + (4 + still) * LASTING.hour_slots * SLOT + 1)
    for number in range(3):
        rolled.clear()
        me = town.start(number).replica
        slot = me.slot_at(town.now)
        on_time = Wake(("slot", slot + 1), me.start_of(slot + 1))
        again = Wake(("approach",), Millis(town.now + EMPTY_PAUSE_MS))
        assert me.wake(town.now, ("slot", slot)) == [on_time, again]
        steps = 0
        while me.is_behind:
            assert len(rolled) <= 2 * EMPTY_HOURS + 9
            assert standing(me, town.now)["hours_behind"] > EMPTY_HOURS - 9
            assert me.hear(town.now, Topic.VOTES, vote, STRANGER) == (Heard.IGNORE, [])
            assert me.wake(town.now, ("vote", slot)) == []
            rolled.clear()
            assert me.wake(town.now, ("approach",)) == [again]
            steps += 1
        assert steps == 3
        assert me.wake(town.now, ("approach",)) == []
    rolled.clear()
    town.run((4 + still + 5) * LASTING.hour_slots)
    assert {one.replica.head().slot // LASTING.hour_slots for one in town.up.values()} == {still + 8}
    assert min(town.finals()) >= still + 6
    assert rolled.count(still) <= 3, "the way that was followed is followed once"


def test_of_the_ways_that_were_followed_the_last_ones_are_remembered() -> None:
    town = Town(1)
    me = Conclusions(town.rules)
    for number in range(FOLLOWED_MAX + 3):
        branch = replace(town.village.genesis, id=Digest(bytes([number]) * 32))
        me.approach(branch, 2 * LASTING.hour_slots)
        assert me.reached(branch).checkpoint.hour == 2
    forgotten = replace(town.village.genesis, id=Digest(bytes(32)))
    assert me.reached(forgotten) == forgotten


def test_before_the_first_slot_it_is_slot_0() -> None:
    town = Town(1)
    assert town.up[0].replica.slot_at(Millis(5)) == 0


# ---------------------------------------------------------------------- the journal and the double


def test_nothing_is_signed_in_the_slot_of_a_start_and_the_one_after() -> None:
    town = Town(1)
    town.run(6)
    assert min(fact.at for fact in town.up[0].told(DutyDone) if fact.what == "block") == 2
    town.stop(0)
    town.run(9, into=10)
    town.start(0)
    town.run(12)
    slots = [fact.at for fact in town.up[0].told(DutyDone) if fact.what == "block"]
    assert slots == [11]


@pytest.mark.parametrize("into", [0, 1, 2, 3])
@pytest.mark.parametrize("hour", [2, 5])
def test_who_restarts_anywhere_in_an_hour_knows_all_and_contradicts_nothing(hour: int, into: int) -> None:
    town = Town(3, work=FULL)
    signed: list[SignedVote] = []
    town.run(4 * hour + into, into=3_500)
    old = town.up[0]
    signed += old.votes()
    town.stop(0)
    made = town.start(0)
    assert made.replica.head() == old.replica.head()
    assert made.replica.final == old.replica.head().final  # which the old one would follow in the next slot
    assert made.replica.final.block == made.replica.tree.root
    town.run(4 * hour + 16)
    signed += made.votes()
    hours = [one.vote.target_hour for one in signed]
    assert hours == sorted({*hours})
    assert not made.told(DoubleHeard)
    assert not town.up[1].replica.pools.double_votes
    assert not town.up[1].replica.pools.double_proposals
    assert town.finals() == {hour + 2}
    assert len(town.heads()) == 1


def extended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The slots of the blocks that replicas check from now on."""
    slots: list[int] = []

    def counted(rules: Rules, parent: State, block: Block) -> State:
        slots.append(block.header.slot)
        return extend(rules, parent, block)

    monkeypatch.setattr(replica, "extend", counted)
    return slots


@pytest.fixture(scope="module")
def lasting() -> Town:
    """Three founders after twenty HOURs."""
    town = Town(3, replace(DEVNET, hour_slots=4, era_hours=7, month_hours=70), work=FULL)
    town.run(20 * 4 + 2)
    return town


def again(town: Town, rows: dict[Any, bytes]) -> ConsensusReplica:
    """One who has kept rows starts."""
    made = ConsensusReplica(town.rules, town.village.genesis, BEGAN, None, rows)
    made.start(town.now)
    return made


def test_who_starts_again_begins_at_its_last_snapshot(lasting: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    me = lasting.up[0]
    alone = again(lasting, {key: row for key, row in me.rows.items() if key[0] not in {"snapshot", "credits"}})
    slots = extended(monkeypatch)
    made = again(lasting, dict(me.rows))
    assert made.head() == alone.head() == me.replica.head()
    assert (made.final, made.tree.root, made.tree.justified, len(made.tree)) == (
        *(alone.final, alone.tree.root, alone.tree.justified, len(alone.tree)),
    )
    assert min(slots) // 4 >= made.final.hour - SNAPSHOT_HOURS
    assert made.question() == alone.question()
    fresh = again(lasting, {}).question()
    assert made.answer(fresh) == alone.answer(fresh) == me.replica.answer(fresh)
    credits_kept = {name[0] for table, name in me.rows if table == "credits"}
    assert [name for table, name in me.rows if table == "snapshot"] == [(b"last",)]
    assert credits_kept >= {*alone.tree.parent(alone.tree.root).checkpoint.credit_digests}
    assert len(credits_kept) <= lasting.params.window_hours + SNAPSHOT_HOURS + 9


def test_only_blocks_that_are_not_final_are_remembered_by_branch(lasting: Town) -> None:
    me = lasting.up[0]
    assert {key[1][0] for key in me.rows if key[0] == "branches"} == {
        state.id for state in me.replica.tree.ancestors(me.replica.head().id)
    } - {me.replica.tree.root}
    heights = {int.from_bytes(key[1][0], "big"): row for key, row in me.rows.items() if key[0] == "chain"}
    assert [*heights] == [*range(1, me.replica.tree.parent(me.replica.tree.root).height + 1)]
    assert all(int.from_bytes(me.rows["heights", (row,)], "big") == height for height, row in heights.items())


@pytest.mark.parametrize("table", ["snapshot", "credits", "blocks", "chain"])
def test_a_damaged_row_costs_time_and_not_the_chain(lasting: Town, table: str) -> None:
    me = lasting.up[0]
    for name in sorted(name for name in me.rows if name[0] == table)[::9]:
        for damaged in (None, b"\0" + me.rows[name][1:]):
            rows = {one: row for one, row in me.rows.items() if one != name}
            made = again(lasting, rows if damaged is None else rows | {name: damaged})
            questions = [made.question()]
            while questions:
                doing = made.answered(lasting.now, STRANGER, me.replica.answer(questions.pop()))[1]
                questions += [one.question for one in carried(lasting, made, doing) if isinstance(one, FetchBlocks)][:1]
            assert made.head().id == me.replica.head().id


def test_rows_of_a_release_that_kept_no_chain_are_put_into_order(lasting: Town) -> None:
    me = lasting.up[0]
    old = {key: row for key, row in me.rows.items() if key[0] in {"blocks", "journal"}}
    made = ConsensusReplica(lasting.rules, lasting.village.genesis, BEGAN, None, old)
    rows = dict(old)
    for one in made.start(lasting.now):
        if isinstance(one, Keep):
            rows[one.table, one.key] = one.value or b""
    assert made.head() == me.replica.head()
    assert {key for key in rows if key[0] in {"chain", "heights"}} == {
        key for key in me.rows if key[0] in {"chain", "heights"}
    }
    assert again(lasting, rows).head() == me.replica.head()


def test_an_old_copy_of_a_directory_contradicts_nothing() -> None:
    """The journal is three HOURs old: what the key signed since is learnt from others."""
    town = Town(3, work=FULL)
    town.run(9, into=3_500)
    copy = dict(town.up[0].rows)
    town.run(21, into=3_500)
    before = town.up[0].votes()
    town.stop(0)
    made = town.start(0, copy)
    journal = unpack(SigningJournal, made.rows["journal", ("signed", made.node)])
    assert journal.target_hour == max(hour for (hour, node) in made.replica.pools.votes if node == made.node) > 3
    for one in before:
        town.give(made, Topic.VOTES, pack(one), STRANGER)
    assert (
        unpack(SigningJournal, made.rows["journal", ("signed", made.node)]).target_hour == before[-1].vote.target_hour
    )
    town.run(36)
    hours = [one.vote.target_hour for one in (*before, *made.votes())]
    assert hours == sorted({*hours})
    assert not made.told(DoubleHeard)
    assert town.finals() == {7}


def test_of_two_that_run_on_one_directory_one_finds_its_double_and_stops() -> None:
    town = Town(3, work=FULL)
    town.run(9)
    double = Dweller(town, 0, dict(town.up[0].rows))
    town.do(double, double.replica.start(town.now))
    town.run(12)
    for one in (*town.up[1].sent, *town.up[0].sent):
        town.do(double, double.replica.hear(town.now, one.topic, one.data, town.up[1].node)[1])
    town.settle()
    assert double.told(DoubleHeard)[:1] == [DoubleHeard("block")] or double.told(DoubleHeard)
    assert double.replica.is_doubled
    assert not town.up[0].replica.is_doubled
    for slot in range(13, 21):
        now = Millis(BEGAN + slot * SLOT)
        doing = double.replica.wake(now, ("slot", slot))
        assert not [one for one in doing if isinstance(one, Wake) and one.key[0] != "slot"]
        assert not [one for one in doing if isinstance(one, Spread | Prove)]


def test_nobody_can_make_a_node_believe_that_it_has_a_double() -> None:
    town = Town(3, work=FULL)
    town.run(10, into=100)
    me, node = town.up[0].replica, town.up[0].node
    vote = town.up[0].votes()[-1]
    block = read_block(town.up[0].spread(Topic.BLOCKS)[-1])
    forged = [
        (Topic.VOTES, SignedVote(replace(vote.vote, head=named(1)), vote.signature)),
        (Topic.VOTES, sign_vote(replace(vote.vote, target_hour=3), key(1), NETWORK)),
        (Topic.VOTES, sign_vote(replace(vote.vote, head=named(1)), key(1), NETWORK)),
        (Topic.BLOCKS, Block(sign_header(replace(block.header, payload=named(1)), key(1), NETWORK), block.body)),
        *((Topic.VOTES, one) for one in town.up[0].votes()),
        *((Topic.BLOCKS, data) for data in town.up[0].spread(Topic.BLOCKS)),
    ]
    for topic, record in forged:
        heard, _ = hear(town, me, topic, record)
        assert heard is not Heard.ACCEPT
    assert not me.is_doubled
    assert node not in me._doubles
    assert not me.pools.double_votes
    assert not me.pools.double_proposals


def test_rows_of_other_branches_are_left_alone() -> None:
    town = Town(3)
    town.run(22)
    rows = dict(town.up[1].rows)
    middle = sorted(
        ((read_block(data).header.slot, name) for name, data in rows.items() if name[0] == "blocks"),
    )[10]
    del rows[middle[1]]
    made = ConsensusReplica(town.rules, town.village.genesis, BEGAN, None, rows)
    made.start(town.now)
    assert made.head().slot == middle[0] - 1
    assert len(town.up[1].replica._bytes) <= SERVED


# ---------------------------------------------------------------------- hostile peers


def records(town: Town) -> list[tuple[Topic, bytes]]:
    """One good record of each kind that everybody has heard, and one that nobody has."""
    first = town.up[1]
    me = first.replica
    state, slot = me.next()
    fresh = a_block(town, me, slot)
    return [
        (Topic.BLOCKS, pack(fresh)),
        *((Topic.BLOCKS, data) for data in first.spread(Topic.BLOCKS)[-2:]),
        *((Topic.VOTES, data) for data in first.spread(Topic.VOTES)[-3:]),
        *((Topic.BEACONS, data) for data in first.spread(Topic.BEACONS)[-2:]),
        (Topic.ADMISSIONS, pack(town.village.registration(state, 40))),
        (Topic.POOLS, pack(sign_pool(pool()))),
    ]


@pytest.fixture(scope="module")
def watched(seven: Town) -> tuple[Town, ConsensusReplica, list[tuple[Topic, bytes]]]:
    return seven, observer(seven, Rules(seven.law, verify, verify_proof)), records(seven)


@settings(max_examples=examples(400))
@given(data=st.data())
def test_whatever_was_changed_on_the_way_changes_nothing(
    watched: tuple[Town, ConsensusReplica, list[tuple[Topic, bytes]]], data: st.DataObject
) -> None:
    town, me, good = watched
    before = kept(me)
    for _ in range(data.draw(st.integers(1, 4))):
        topic, packed = data.draw(st.sampled_from(good))
        bad = bytearray(packed)
        match data.draw(st.sampled_from(["flip", "cut", "more", "topic", "swap"])):
            case "flip":
                bad[data.draw(st.integers(0, len(bad) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del bad[data.draw(st.integers(0, len(bad) - 1)) :]
            case "more":
                bad += data.draw(st.binary(min_size=1, max_size=3))
            case "topic":
                topic = data.draw(st.sampled_from([one for one in Topic if one is not topic]))
            case _:
                other = data.draw(st.sampled_from(good))[1]
                at = data.draw(st.integers(0, min(len(bad), len(other))))
                bad[at:] = other[at:]
                if bytes(bad) in {one for _, one in good}:
                    continue
        heard, doing = me.hear(town.now, topic, bytes(bad), STRANGER)
        assert heard is not Heard.ACCEPT
        assert sum(isinstance(one, Told) and isinstance(one.fact, RecordRefused) for one in doing) == (
            heard is Heard.REJECT
        )
        assert {type(one) for one in doing} <= {Told, FetchBlocks, Wake}
        assert kept(me) == before
    assert len(me._orphans) <= ORPHANS_MAX
    assert len(me._unplaced) <= 7 * 4


@given(data=st.data())
def test_replays_in_any_order_at_any_time_change_nothing(seven: Town, data: st.DataObject) -> None:
    me = seven.up[3].replica
    sent = [one for each in seven.up.values() for one in each.sent]
    before = kept(me)
    for one in data.draw(st.lists(st.sampled_from(sent), min_size=1, max_size=30)):
        slots = data.draw(st.sampled_from([0, 0, 1, 5]))
        assert me.hear(Millis(seven.now + slots * SLOT), one.topic, one.data, STRANGER) == (Heard.IGNORE, [])
        assert kept(me) == before


@given(st.sampled_from([*Topic]), st.binary(max_size=200))
def test_no_bytes_raise(seven: Town, topic: Topic, data: bytes) -> None:
    me = seven.up[2].replica
    before = kept(me)
    heard, doing = me.hear(seven.now, topic, data, STRANGER)
    assert heard is Heard.REJECT
    assert len(doing) == 1
    assert me.answered(seven.now, STRANGER, data)[0] is Heard.REJECT
    assert kept(me) == before


keys = st.lists(st.one_of(st.sampled_from(["slot", "propose", "vote", "early"]), st.integers(-9, 9)), max_size=4)


@settings(max_examples=examples(20))
@given(st.lists(keys, max_size=9))
def test_no_timer_raises(seven: Town, names: list[list[str | int]]) -> None:
    me = observer(seven)
    for name in names:
        me.wake(seven.now, tuple(name))


def test_orphans_are_bounded_and_the_true_block_gets_in_beside_forgeries() -> None:
    town = Town(3)
    town.run(5, into=100)
    me = observer(town)
    first = a_block(town, me, 5)
    after = me._known.after(me.head(), first, block_name(pack(first)))
    assert not isinstance(after, Exception)
    town.now = Millis(BEGAN + 6 * SLOT)
    second = named_payload(town.village, after, 6, 0, BlockBody())
    forged = Block(replace(second.signed, signatures=first.signed.signatures), second.body)
    for block in (forged, second):
        heard, (fetch,) = hear(town, me, Topic.BLOCKS, block)
        assert heard is Heard.IGNORE
        assert fetch == FetchBlocks(STRANGER, me.question())
        assert hear(town, me, Topic.BLOCKS, block) == (Heard.IGNORE, [])
    heard, out = hear(town, me, Topic.BLOCKS, first)
    assert heard is Heard.ACCEPT
    assert [one.fact.reason for one in out if isinstance(one, Told) and isinstance(one.fact, RecordRefused)] == [
        "a block that its proposer has not signed"
    ]
    assert me.head().id == block_name(pack(second))
    for number in range(ORPHANS_MAX + 9):
        header = replace(second.header, parent=named(number))
        hear(town, me, Topic.BLOCKS, Block(sign_header(header, key(0), NETWORK), second.body))
    assert len(me._orphans) == ORPHANS_MAX


def test_blocks_that_final_ones_exclude_are_neither_kept_nor_asked_for(seven: Town) -> None:
    me = observer(seven)
    assert me.tree.parent(me.tree.root).slot > 20
    for number in range(3):
        header = replace(a_block(seven, me, 44).header, slot=5 + number, parent=named(number))
        block = Block(sign_header(header, seven.village.keys[header.entity], NETWORK), BlockBody())
        assert hear(seven, me, Topic.BLOCKS, block) == (Heard.IGNORE, [])
    assert len(me._orphans) == 0


def test_a_flood_of_invalid_blocks_is_forgotten() -> None:
    town = Town(3)
    town.run(5, into=100)
    me = observer(town, Rules(town.law, verify, verify_proof))
    block = a_block(town, me, 5)
    before = kept(me)
    for number in range(2 * REMEMBERED_MAX):
        header = replace(block.header, payload=named(number))
        heard, told = hear(town, me, Topic.BLOCKS, Block(replace(block.signed, header=header), block.body))
        assert (heard, len(told)) == (Heard.REJECT, 1)
    assert len(me._known) <= REMEMBERED_MAX
    assert kept(me) == before


def test_votes_of_strangers_are_not_kept_and_those_of_voters_wait_for_their_block() -> None:
    town = Town(3)
    town.run(5, into=100)
    me = observer(town)
    good = town.village.vote(me.next()[0], 1)
    for number in range(30):
        away = replace(good.vote, target=named(number))
        assert hear(town, me, Topic.VOTES, sign_vote(away, key(2), NETWORK)) == (Heard.IGNORE, [])
        stranger = replace(away, voter=NodeId(key(50).public))
        assert hear(town, me, Topic.VOTES, sign_vote(stranger, key(50), NETWORK)) == (Heard.IGNORE, [])
    assert me._unplaced == {}
    for number in range(30):  # a voter that votes for everything is one that has broken a rule
        heard, _ = hear(town, me, Topic.VOTES, sign_vote(replace(good.vote, target=named(number)), key(1), NETWORK))
        assert heard is (Heard.ACCEPT if number < 2 else Heard.IGNORE)
    assert len(me._unplaced) == 1
    assert {*me.pools.double_votes} == {good.vote.voter}
    assert me.latest == {}
    for hour in (0, 1 << 40):
        out = sign_vote(replace(good.vote, source_hour=hour, target_hour=hour + 6), key(1), NETWORK)
        assert hear(town, me, Topic.VOTES, out) == (Heard.IGNORE, [])


def test_a_vote_for_a_block_that_comes_later_counts_then() -> None:
    town = Town(3)
    town.run(8, into=100)
    me = observer(town)
    last = a_block(town, me, 7, SERVER_RANK, [*me.tree.ancestors(me.head().id)][1])
    state = me._known.after(me.tree.parent(me.head().id), last, block_name(pack(last)))
    assert not isinstance(state, Exception)
    vote = town.village.vote(town.village.at(state, 9), 1)
    town.now = Millis(BEGAN + 9 * SLOT)
    me.wake(town.now, ("slot", 9))
    assert hear(town, me, Topic.VOTES, vote)[0] is Heard.ACCEPT
    assert hear(town, me, Topic.VOTES, vote) == (Heard.IGNORE, [])
    assert vote.vote.voter not in me.latest or me.latest[vote.vote.voter][0] < 2
    header = replace(last.header, payload=Digest(EMPTY))
    made = Block(sign_header(header, town.village.keys[header.entity], NETWORK), last.body)
    assert hear(town, me, Topic.BLOCKS, made)[0] is Heard.ACCEPT
    assert me.latest[vote.vote.voter] == (2, vote.vote.head)
    assert me._unplaced == {}


def test_a_vote_for_a_target_that_is_none_is_not_kept() -> None:
    town = Town(3)
    town.run(6, into=100)
    me = observer(town)
    head = me.head()
    vote = town.village.vote(me.next()[0], 1)
    wrong = sign_vote(replace(vote.vote, target=head.id), key(1), NETWORK)  # a block of the HOUR itself
    assert hear(town, me, Topic.VOTES, wrong) == (Heard.IGNORE, [])
    assert me._unplaced == {}


def test_the_state_of_a_target_elsewhere_is_worked_out_for_voters_only() -> None:
    town = Town(3)
    town.run(6, into=100)
    me = observer(town)
    good = town.village.vote(me.next()[0], 1)
    elsewhere = replace(good.vote, target=town.village.genesis.id)
    assert hear(town, me, Topic.VOTES, sign_vote(elsewhere, key(2), NETWORK)) == (Heard.IGNORE, [])
    assert me._views == {}
    refused = [Told(RecordRefused(Topic.VOTES, Reason.VOTE_UNSIGNED))]
    assert hear(town, me, Topic.VOTES, sign_vote(good.vote, key(2), NETWORK)) == (Heard.REJECT, refused)
    nobody = sign_vote(replace(good.vote, voter=NodeId(key(50).public)), key(50), NETWORK)
    assert hear(town, me, Topic.VOTES, nobody) == (Heard.REJECT, [Told(RecordRefused(Topic.VOTES, Reason.NO_VOTER))])
    assert hear(town, me, Topic.VOTES, sign_vote(elsewhere, key(1), NETWORK))[0] is Heard.ACCEPT
    assert len(me._views) == 2


def test_one_who_votes_twice_counts_no_more_and_is_expelled_on_both_sides() -> None:
    town = Town(7)
    town.run(5, into=100)
    me = town.up[0].replica
    state = me.next()[0]
    one, two = (town.village.vote(state, 6, head=head) for head in (me.head().id, me.tree.root))
    for number in range(7):
        for vote in (one, two) if number % 2 else (two, one):
            town.give(town.up[number], Topic.VOTES, pack(vote), STRANGER)
    town.settle()
    assert town.up[6].replica.is_doubled  # it hears its own key sign
    town.run(13)
    for dweller in town.up.values():
        assert town.village.nodes[6] in dweller.replica.head().checkpoint.expelled
        assert town.village.nodes[6] in dweller.replica._doubles
        assert dweller.replica.pools.double_votes == {}
    assert len(town.heads()) == 1
    again = town.village.vote(town.up[0].replica.next()[0], 6)
    assert hear(town, town.up[0].replica, Topic.VOTES, again) == (Heard.IGNORE, [])
    fresh = observer(town)  # which knows of it from a block alone
    assert fresh._doubles == {town.village.nodes[6]}
    fresh._doubles.clear()
    heard, told = hear(town, fresh, Topic.VOTES, again)
    assert (heard, told) == (Heard.REJECT, [Told(RecordRefused(Topic.VOTES, Reason.NO_VOTER))])
    town.run(28)
    assert town.finals() == {5}


def test_one_who_proposes_twice_is_expelled_and_a_third_block_is_not_spread() -> None:
    town = Town(7)
    town.run(5, into=10)
    me = observer(town)
    twice = [a_block(town, me, 5, 1, payload=bytes([16 + turn])) for turn in range(4)]
    heard = []
    for block in twice:
        header = replace(block.header, payload=named(0))
        heard.append(
            hear(
                town,
                me,
                Topic.BLOCKS,
                Block(sign_header(header, town.village.keys[header.entity], NETWORK), block.body),
            )[0]
        )
    assert heard == [Heard.ACCEPT, Heard.ACCEPT, Heard.IGNORE, Heard.IGNORE]
    assert {*me.pools.double_proposals} == {twice[0].header.entity}
    third = pack(twice[2])
    assert carried(town, me, me.answered(town.now, STRANGER, pack(BlockAnswer((third,))))[1])  # asked for, it is taken
    for dweller in town.up.values():
        for block in twice[:2]:
            town.give(dweller, Topic.BLOCKS, pack(block), STRANGER)
    town.settle()
    assert not any(one.replica.is_doubled for one in town.up.values() if one.node != twice[0].header.entity)


def test_registrations_and_pools_of_a_flood_are_bounded() -> None:
    town = Town(1)
    town.run(5, into=100)
    me = observer(town)
    good = town.village.registration(me.next()[0], 40)
    assert hear(town, me, Topic.ADMISSIONS, good) == (Heard.ACCEPT, [])
    assert hear(town, me, Topic.ADMISSIONS, good) == (Heard.IGNORE, [])
    assert hear(town, me, Topic.POOLS, sign_pool(pool())) == (Heard.ACCEPT, [])
    assert hear(town, me, Topic.POOLS, sign_pool(pool())) == (Heard.IGNORE, [])
    me.pools.registrations |= {(1, NodeId(named(number))): good for number in range(WAITING_MAX)}
    me.pools.pools |= {(1, named(number)): sign_pool(pool()) for number in range(WAITING_MAX // 8)}
    assert hear(town, me, Topic.ADMISSIONS, town.village.registration(me.next()[0], 41)) == (Heard.IGNORE, [])
    other = sign_pool(pool(threshold=1), 30)
    assert hear(town, me, Topic.POOLS, other) == (Heard.IGNORE, [])


@pytest.mark.parametrize(
    ("change", "by", "heard"),
    [
        ({"era": 2}, 40, Heard.IGNORE),
        ({"checkpoint": named(1)}, 40, Heard.IGNORE),
        ({"vrf_key": bytes(32)}, 40, Heard.REJECT),
        ({}, 41, Heard.REJECT),
    ],
)
def test_a_registration_that_cannot_be_right_anywhere_is_its_senders_fault(
    change: dict[str, Any], by: int, heard: Heard
) -> None:
    town = Town(1)
    town.run(5, into=100)
    me = observer(town)
    made = replace(town.village.registration(me.next()[0], 40).registration, **change)
    assert hear(town, me, Topic.ADMISSIONS, sign_registration(made, key(by)))[0] is heard
    wrong = sign_pool(pool(era=2)) if heard is Heard.IGNORE else sign_pool(pool(vrf_key=bytes(32)))
    assert hear(town, me, Topic.POOLS, wrong)[0] is heard
    assert (me.pools.registrations, me.pools.pools) == ({}, {})


def test_a_report_is_passed_on_once_and_one_out_of_time_never() -> None:
    town = Town(3)
    town.run(5, into=100)
    me = observer(town)
    state = me.next()[0]
    good = town.village.report(state, 0, 1)
    assert hear(town, me, Topic.BEACONS, good) == (Heard.ACCEPT, [])
    assert hear(town, me, Topic.BEACONS, good) == (Heard.IGNORE, [])
    assert hear(town, me, Topic.BEACONS, town.village.report(state, 1, 1)) == (Heard.IGNORE, [])
    assert {*me.pools.reports} == {(0, town.village.nodes[1])}


# ---------------------------------------------------------------------- held reports


def test_a_head_that_left_out_a_report_that_was_held_for_long_gets_no_vote() -> None:
    """§4: more than ten slots, and not while the block was full."""
    town = Town(3, replace(LASTING, hour_slots=40, report_slots=80))
    town.run(43)
    me = town.up[1]
    state = me.replica.next()[0]
    good = town.village.report(state, 0, 1)
    censor = [dweller for dweller in town.up.values() if dweller is not me]
    town.do(me, me.replica.submit(good))
    for dweller in (me, *censor):
        dweller.sent.clear()
    for dweller in censor:  # who leave it out, all of them
        dweller.replica.pools.reports.clear()
    town._queue.clear()
    head = me.replica.head
    before = me.replica.pools.held[0, me.node]
    assert before == 42
    for slot in range(43, 43 + HELD_SLOTS + 1):
        block = a_block(town, me.replica, slot, SERVER_RANK)
        town.now = Millis(BEGAN + slot * SLOT + 4_000)
        me.replica.wake(town.now, ("slot", slot))
        hear(town, me.replica, Topic.BLOCKS, block)
        assert head().slot == slot
        assert me.replica.pools.leaves_out(me.replica.rules, head()) == (slot > before + HELD_SLOTS)
    tip, parent = head(), me.replica.tree.parent(head().id)
    copied = deepcopy(me.replica.pools.reports)
    (signed,) = [
        read_vote(one.data)
        for one in me.replica.wake(town.now, ("vote", tip.slot))
        if isinstance(one, Spread) and one.topic is Topic.VOTES
    ]
    assert signed.vote.head == parent.id
    assert copied == me.replica.pools.reports
    assert me.replica.wake(town.now, ("vote", tip.slot)) == []  # once


def test_a_full_block_may_leave_out_what_it_has_no_room_for() -> None:
    town = Town(1, replace(LASTING, hour_slots=40, report_slots=80))
    town.run(43)
    me = town.up[0].replica
    me._full.add(me.head().id)
    me.pools.reports = {(0, town.village.nodes[0]): town.village.report(me.next()[0], 0, 0)}
    me.pools.held = {(0, town.village.nodes[0]): 1}
    me.wake(Millis(BEGAN + 43 * SLOT), ("slot", 43))
    votes = [one for one in me.wake(town.now, ("vote", 43)) if isinstance(one, Spread)]
    assert not votes or read_vote(votes[0].data).vote.head == me.head().id


# ---------------------------------------------------------------------- ERAs


def test_eras_go_on_while_everybody_registers_anew() -> None:
    town = Town(3, DEVNET, work=FULL)
    town.run(5 * 12 + 2)
    at = town.up[0].replica.head().checkpoint
    assert at.registry.era == 5
    assert {*at.registry.members} == {*town.village.nodes}
    assert not {one.era_key for one in at.registry.members.values()} & {*town.village.nodes}
    assert len(town.heads()) == 1
    assert min(town.finals()) >= 13
    assert not any(one.told(RecordRefused) or one.told(DoubleHeard) for one in town.up.values())


def test_a_restart_across_an_era_boundary_knows_its_keys_and_contradicts_nothing() -> None:
    town = Town(3, DEVNET, work=FULL)
    town.run(23, into=3_500)
    old = town.up[1]
    town.stop(1)
    made = town.start(1)
    assert made.replica.head() == old.replica.head()
    assert made.replica.final == old.replica.final
    town.run(50)
    hours = [one.vote.target_hour for one in (*old.votes(), *made.votes())]
    assert hours == sorted({*hours})
    assert len(town.heads()) == 1
    assert min(town.finals()) >= 9


def test_with_a_difficulty_a_proof_is_asked_for_and_one_that_was_overtaken_is_nothing() -> None:
    town = Town(1, difficulty=4)
    town.run(10)
    me = town.up[0]
    *overtaken, latest = me.proving
    assert latest.difficulty == 4
    for one in overtaken:
        assert me.replica.proven(one.call, bytes(16)) == []
    (spread,) = me.replica.proven(latest.call, bytes(16))
    assert isinstance(spread, Spread)
    assert spread.topic is Topic.ADMISSIONS
    found = unpack(SignedRegistration, spread.data).registration
    assert (found.era, found.checkpoint) == (1, latest.checkpoint)
    assert me.replica.proven(latest.call, bytes(16)) == []
    assert observer(town).proven(1, bytes(16)) == []


def test_a_server_that_was_expelled_publishes_no_more_and_the_others_go_on() -> None:
    town = Town(7, work=FULL)
    town.run(5, into=100)
    me = town.up[1].replica
    state = me.next()[0]
    for vote in (town.village.vote(state, 0), town.village.vote(state, 0, head=named(1))):
        for dweller in town.up.values():
            town.give(dweller, Topic.VOTES, pack(vote), STRANGER)
    town.settle()
    town.run(33)
    after = [fact for fact in town.up[1].told(NewBlock) if fact.slot >= 12]
    assert after
    assert all(fact.entity != town.law.server for fact in after)
    assert town.law.server in town.up[1].replica.head().checkpoint.expelled
    assert town.finals() == {6} or town.finals() == {7}
    assert len(town.heads()) == 1


def test_the_ranks_behind_the_first_publish_what_waited_when_the_slot_began_alone() -> None:
    town = Town(3)
    town.run(4)
    now = Millis(BEGAN + 6 * SLOT)
    for number in range(3):
        me = town.up[number].replica
        me.wake(now, ("slot", 6))
        rank = me.leaders(me.next()[0], 6).index(town.village.nodes[number])
        me.pools.add_vote(town.village.vote(me.next()[0], 0))
        assert bool(me.wake(now, ("propose", 6, rank))) == (rank == 0)
        me.wake(now, ("slot", 6))
        assert [*map(type, me.wake(now, ("propose", 6, rank)))] == [BuildPayload]


def test_a_block_without_room_for_one_more_report_is_remembered_as_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "REPORTS_MAX", 1)
    town = Town(3)
    town.run(5, into=100)
    me = observer(town)
    assert (
        hear(town, me, Topic.BLOCKS, a_block(town, me, 5, reports=(town.village.report(me.next()[0], 0, 1),)))[0]
        is Heard.ACCEPT
    )
    assert me._full == {me.head().id}


def test_an_observer_builds_nothing() -> None:
    town = Town(1)
    town.run(5)
    me = observer(town)
    me._building[9] = me.head(), 5, 0
    assert me.built(town.now, 9, Digest(EMPTY), b"") == []
    assert not me.is_doubled


def test_a_block_that_a_final_checkpoint_contradicts_meanwhile_does_not_join(seven: Town) -> None:
    me = observer(seven)
    block, size = a_block(seven, me, 44), len(me.tree)
    elsewhere = replace(block.signed, header=replace(block.header, parent=named(1)))
    me._executing[77] = Block(elsewhere, block.body), b"", me.head(), False
    assert me.executed(seven.now, 77, valid=True) == []
    assert len(me.tree) == size


def test_what_two_nodes_conclude_is_shared_and_a_node_alone_forgets() -> None:
    town = Town(1)
    town.run(6)
    shared = town.rules.shared
    assert shared
    alone = observer(town, Rules(town.law, verify, verify_proof))
    town.now = Millis(BEGAN + 6 * SLOT)
    alone.wake(town.now, ("slot", 6))
    assert len(alone._known) <= 3


def test_answers_are_bounded(seven: Town) -> None:
    answer = unpack(BlockAnswer, seven.up[0].replica.answer(pack_question(seven)))
    assert len(answer.blocks) == min(ANSWER_BLOCKS, 42)


def test_a_leader_that_dies_while_its_payload_is_built_costs_its_turn_and_no_slot() -> None:
    town = Town(5, work=FULL)
    town.run(9, into=100)
    state, slot = town.up[0].replica.next()
    leader = NodeId(town.up[0].replica.leaders(state, slot)[0])
    town.dying = {leader}
    town.run(17, into=100)
    slots = {fact.slot: fact for fact in town.up[0].facts if isinstance(fact, NewBlock)}
    assert {*range(slot, 17)} <= {*slots}
    assert slots[slot].rank > 0
    assert leader not in {slots[at].entity for at in range(slot, 17)}
