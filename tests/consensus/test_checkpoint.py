"""From HOUR to HOUR: duties, settlements, misses, ERAs, and that a state's name tells of all of it."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.admission import PoolRegistration, Registration
from consensus.checkpoint import (
    Checkpoint,
    Constitution,
    Duty,
    Happened,
    Included,
    active,
    candidates,
    checkpoint_digest,
    genesis_checkpoint,
    part_digests,
    roll,
    votes_per_mille,
)
from consensus.electorate import Electorate
from consensus.finality import Candidate, Point, Voter
from consensus.ids import Address, Digest, NodeId
from consensus.params import DEVNET, PPM, settled_hours
from consensus.registry import Pool, founding
from consensus.tally import Credit, HourCredits, Work, recompute
from tests.consensus.worlds import NETWORK, key, named

A, B, C, D, E = (NodeId(named(number)) for number in range(1, 6))
POOL = bytes(named(50))
LAW = Constitution(NETWORK, DEVNET, (A, B, C))
LASTING = replace(LAW, params=replace(DEVNET, era_hours=100, month_hours=100))
GENESIS = genesis_checkpoint(LAW, founding(LAW.founders, {}))
SETTLED = settled_hours(DEVNET)
WORKED = Included(Work(6_400, 0, 1_000), bytes(A))


def happened(before: Checkpoint, **what: Any) -> Happened:
    """What an HOUR brought: nothing but that."""
    return Happened(**{"justified": before.justified, "final": before.final, **what})


def next_one(
    law: Constitution, recent: Sequence[Checkpoint], at_final: Checkpoint | None = None, **what: Any
) -> Checkpoint:
    """The checkpoint after an HOUR that brought that."""
    before = recent[-1]
    block, seed = named(1_000 + before.hour), named(2_000 + before.hour)
    return roll(law, recent, GENESIS if at_final is None else at_final, happened(before, **what), block, seed)


USED: tuple[HourCredits, ...] = tuple(
    HourCredits.of(hour, ((bytes(node), Credit(0, 0, 0, 0, 6_400)) for node in (A, B, C, D))) for hour in range(-26, -2)
)
"""Credits that make nodes used to 6,400 MB an HOUR, and are worth nothing themselves."""


def used(*nodes: NodeId, hours: int = 24) -> Checkpoint:
    """The genesis of nodes that did a day's work before it."""
    known = [HourCredits.of(one.hour, (row for row in one.entries() if row[0] in nodes)) for one in USED[-hours:]]
    return replace(GENESIS, tally=recompute(known), credit_digests=(named(77),) * hours)


def after(
    law: Constitution, hours: Mapping[int, dict[str, Any]], until: int, first: Checkpoint = GENESIS
) -> list[Checkpoint]:
    """The checkpoints up to an HOUR; what the HOURs brought, by HOUR."""
    made = [first]
    while made[-1].hour < until:
        made.append(next_one(law, made, **hours.get(made[-1].hour, {})))
    return made


def joins(node: NodeId, era: int = 1, pool: bytes | None = None, era_key: bytes | None = None) -> Registration:
    signing = named(int.from_bytes(node, "big") + 100) if era_key is None else era_key
    return Registration(node, era, 0, GENESIS.block, bytes(16), signing, named(9), Address(bytes(20)), pool, 7)


# ------------------------------------------------------------------ the first one, and what each brings


def test_the_genesis_is_final_and_the_founders_vote_and_lead_alike() -> None:
    assert GENESIS.point == GENESIS.final == Point(0, Digest(NETWORK))
    assert GENESIS.voters == GENESIS.electors == GENESIS.successors == (Voter(A, A), Voter(B, B), Voter(C, C))
    assert GENESIS.key_of == {A: A, B: B, C: C}
    assert GENESIS.weights == {A: 1, B: 1, C: 1}
    assert LAW.server == A


def test_an_hour_without_anything_changes_its_place_alone() -> None:
    made = next_one(LASTING, [GENESIS])
    assert made.point == Point(1, named(1_000))
    assert made.seed == named(2_000)
    assert made.points == (GENESIS.block, named(1_000))
    assert made.duties == dict.fromkeys((A, B, C), Duty(0, 0))
    assert made.weights == dict.fromkeys((A, B, C), PPM)
    kept = {"registry", "electors", "voters", "successors", "named", "justified", "final", "joining", "joining_pools"}
    kept |= {"difficulty", "newcomers", "reports", "misses", "expelled"}
    assert all(getattr(made, name) == getattr(GENESIS, name) for name in kept)


def test_justified_checkpoints_before_the_final_one_are_forgotten() -> None:
    justified = {0: GENESIS.block, 1: named(11), 2: named(12)}
    made = next_one(LASTING, [GENESIS], justified=justified, final=Point(1, named(11)))
    assert made.final == Point(1, named(11))
    assert made.justified == {1: named(11), 2: named(12)}


def test_a_checkpoint_of_this_branch_is_known_for_24_hours() -> None:
    made = after(LASTING, {}, 30)
    assert made[-1].has(made[6].point)
    assert made[-1].has(made[30].point)
    assert not made[-1].has(made[5].point)
    assert not made[-1].has(Point(31, named(1_030)))
    assert not made[-1].has(Point(6, named(0)))
    assert not made[3].has(Point(4, made[3].block))


# ------------------------------------------------------------------ duties


def voted(hour: int, *nodes: NodeId) -> dict[str, Any]:
    return {"votes": {(hour, node): Point(0, GENESIS.block) for node in nodes}}


def test_a_vote_is_due_in_hours_in_which_anybody_voted() -> None:
    made = after(LASTING, {1: voted(1, A, B), 3: voted(3, A)}, 5)[-1]
    assert made.duties == {A: Duty(0b1010, 0b1010), B: Duty(0b1000, 0b1010), C: Duty(0, 0b1010)}
    assert [votes_per_mille(made.duties, node) for node in (A, B, C, D)] == [1_000, 500, 0, 1_000]


def test_a_vote_that_came_an_hour_late_counts_for_its_hour_and_makes_it_due() -> None:
    made = after(LASTING, {1: voted(1, A), 2: voted(1, A, B), 4: voted(3, C)}, 5)[-1]
    assert made.duties == {A: Duty(0b1000, 0b1010), B: Duty(0b1000, 0b1010), C: Duty(0b10, 0b1010)}


def test_who_begins_to_vote_owes_nothing_of_before() -> None:
    before = replace(GENESIS, hour=7, voters=(*GENESIS.voters, Voter(D, D)), duties={A: Duty(1, 1), E: Duty(1, 1)})
    made = roll(LASTING, [before], GENESIS, happened(before, **voted(6, A, B)), named(0), named(0))
    assert made.duties == {A: Duty(2, 2), B: Duty(2, 0), C: Duty(0, 0), D: Duty(0, 0)}


def test_duties_are_remembered_for_24_hours() -> None:
    plan = {hour: voted(hour, *((A, B) if hour == 1 else (A,))) for hour in range(1, 40)}
    made = after(LASTING, plan, 40)
    assert [votes_per_mille(made[hour].duties, B) for hour in (2, 3, 25, 26)] == [1_000, 500, 41, 0]
    assert made[40].duties[A] == Duty((1 << 24) - 1, (1 << 24) - 1)
    assert active(made[25].duties, GENESIS.voters) == {A, B}
    assert active(made[26].duties, GENESIS.voters) == {A}


def test_who_gave_none_of_24_votes_is_away_and_nobody_else() -> None:
    all_due = (1 << 24) - 1
    duties = {A: Duty(1 << 23, all_due), B: Duty(0, all_due), C: Duty(0, all_due >> 1)}
    assert active(duties, [Voter(node, node) for node in (A, B, C, D)]) == {A, C, D}


# ------------------------------------------------------------------ settlement


def test_an_hour_is_settled_when_none_of_its_reports_can_come_any_more() -> None:
    reported = {"reports": {(1, B): WORKED}}
    made = after(LASTING, {2: reported, 3: {"reports": {(1, C): WORKED, (2, C): WORKED}}}, 1 + SETTLED + 1, used(B, C))
    assert made[3].reports == {1: {B: WORKED}}
    assert not any(one.hours for one in made[4 - 1].tally.sums.values())
    assert SETTLED == 3
    settled = made[1 + SETTLED]
    assert settled.reports == {2: {C: WORKED}}
    assert settled.tally.hours[-1] == HourCredits.of(
        1,
        (
            (bytes(A), Credit(200, 0)),
            (bytes(B), Credit(6_400, 0, 1, 1_000, 6_400)),
            (bytes(C), Credit(6_400, 0, 1, 1_000, 6_400)),
        ),
    )
    assert settled.weights == {A: 200 * PPM, B: 6_400 * PPM, C: 6_400 * PPM}
    assert made[-1].reports == {}
    assert made[-1].tally.sums[C] == Credit(12_800, 0, 2, 2_000, 26 * 6_400)
    assert made[-1].tally.sums[A] == Credit(300, 0)


def test_who_includes_a_report_earns_a_sixty_fourth_and_of_less_nothing() -> None:
    small = Included(Work(63, 0, 1_000), bytes(A))
    one = Included(Work(64, 0, 1_000), bytes(A))
    made = after(LASTING, {2: {"reports": {(1, B): small, (1, C): one}}}, 1 + SETTLED, used(B, C))[-1]
    assert dict(made.tally.hours[-1].entries()) == {
        A: Credit(1, 0),
        B: Credit(63, 0, 1, 1_000, 63),
        C: Credit(64, 0, 1, 1_000, 64),
    }


def test_an_hour_of_a_hundred_times_the_usual_counts_for_one_and_a_half() -> None:
    captured = {2: {"reports": {(1, node): Included(Work(640_000, 0, 1_000), bytes(D)) for node in (A, B, C)}}}
    first = used(A, B, hours=13)  # of the last 24 HOURs, where 12 are half
    made = after(LASTING, captured, 1 + SETTLED, first)[-1]
    counted = dict(made.tally.hours[-1].entries())
    assert counted[A] == counted[B] == Credit(9_600, 0, 1, 1_000, 640_000)
    assert counted[C] == Credit(0, 1, 1, 1_000, 640_000)  # nothing is known of it as yet
    assert counted[D] == Credit(2 * 150, 0)
    hours = {hour + 1: {"reports": {(hour, C): WORKED}} for hour in range(40)}
    worth = [one.tally.hours[-1].entries() for one in after(LASTING, hours, 30)[SETTLED:]]
    assert [dict(one).get(C, Credit(0, 0)).work for one in worth] == [0] * 13 + [6_400] * (len(worth) - 13)


def test_credit_is_multiplied_by_the_votes_that_were_given() -> None:
    hours = {1: voted(1, A, B), 2: voted(2, A) | {"reports": {(1, node): WORKED for node in (A, B, C, D)}}}
    sums = dict(after(LASTING, hours, 1 + SETTLED, used(A, B, C, D))[-1].tally.hours[-1].entries())
    assert {node: sums[node].work for node in (B, C, D)} == {B: 3_200, C: 0, D: 6_400}
    assert sums[C] == Credit(0, 1, 1, 1_000, 6_400)
    assert sums[A].work == 6_400 + 6_400 // 64 + 3_200 // 64 + 6_400 // 64


def test_work_is_forgotten_after_the_window() -> None:
    law = replace(LASTING, params=replace(LASTING.params, window_hours=24))
    made = after(law, {2: {"reports": {(1, B): WORKED}}}, 1 + SETTLED + 24, used(B))
    assert B in made[-2].tally.sums
    assert made[-1].tally.sums == {}
    assert len(made[-1].credit_digests) == len(made[-1].tally.hours) == 24
    assert len({*made[-1].credit_digests}) == 24


# ------------------------------------------------------------------ misses, expulsions, weights


def test_misses_age_out() -> None:
    hours = {2: {"misses": {bytes(B): 3}}, 5: {"misses": {bytes(B): 1, bytes(C): 1}}}
    made = after(LASTING, hours, 5 + DEVNET.miss_hours + 1)
    assert made[3].misses == {B: (2, 2, 2)}
    assert made[3].weights == {A: PPM, B: PPM * 19 // 21, C: PPM}
    assert made[6].misses == {B: (2, 2, 2, 5), C: (5,)}
    assert made[2 + DEVNET.miss_hours].misses == {B: (2, 2, 2, 5), C: (5,)}
    assert made[3 + DEVNET.miss_hours].misses == {B: (5,), C: (5,)}
    assert made[-1].misses == {}
    assert made[-1].weights == dict.fromkeys((A, B, C), PPM)


def test_the_expelled_weigh_nothing_whether_nodes_or_pools() -> None:
    made = after(LASTING, {2: {"expelled": (bytes(B),)}, 3: {"expelled": (bytes(C),)}}, 4)
    assert made[3].expelled == {B: 2}
    assert made[3].weights == {A: PPM, C: PPM}
    assert made[4].expelled == {B: 2, C: 3}
    assert made[4].weights == {A: PPM}


def test_members_count_for_their_pool_and_what_it_earned_itself_counts_too() -> None:
    pools = {POOL: PoolRegistration(1, (named(9),), 1, named(9), Address(bytes(20)), (B, C))}
    joining = {node: joins(node, pool=None if node == A else POOL) for node in (A, B, C)}
    reports = {hour: {(hour, one): Included(WORKED.work, POOL) for one in (A, B, C)} for hour in (2, 3, 4)}
    hours = {0: {"registrations": joining, "pools": pools}} | {hour + 1: {"reports": reports[hour]} for hour in reports}
    made = after(LAW, hours, 4 + SETTLED + 1)  # what they are used to is known in HOUR 4
    assert made[3].registry.entities == {A: A, B: POOL, C: POOL}
    assert made[3].weights == {A: PPM, POOL: PPM}
    assert made[4 + SETTLED - 1].weights == {A: PPM, POOL: PPM}
    # ERA 2 began with HOUR 6, in which nobody registered: all stay
    assert made[4 + SETTLED].weights == {A: 6_402 * PPM, POOL: (2 * 6_402 + 300) * PPM}
    gone = next_one(LAW, made, expelled=(POOL,))
    assert gone.weights == {A: 6_402 * PPM}


# ------------------------------------------------------------------ ERAs


def test_a_registry_is_of_those_who_had_registered_two_hours_before_its_era() -> None:
    hours = {0: {"registrations": {node: joins(node) for node in (B, D)}}, 1: {"registrations": {C: joins(C)}}}
    made = after(LAW, hours, 3)
    assert made[1].joining == {B: joins(B), D: joins(D)}
    assert made[2].newcomers == 1
    assert made[2].joining == {B: joins(B), D: joins(D), C: joins(C)}
    era = made[3]
    assert era.registry.era == 1
    assert era.registry.order == (A, B, D)  # the Server stays
    assert era.registry.members[B].era_key == named(102)
    assert era.registry.members[D].since == 3
    assert (era.joining, era.joining_pools, era.newcomers) == ({}, {}, 0)


def test_where_nobody_registered_in_time_all_stay() -> None:
    made = after(LAW, {1: {"registrations": {D: joins(D)}}}, 3)[-1]
    assert made.registry == GENESIS.registry._replace(era=1)


def test_next_voters_are_named_at_an_era_and_vote_when_a_checkpoint_that_names_them_is_final() -> None:
    hours: dict[int, dict[str, Any]] = {0: {"registrations": {node: joins(node) for node in (A, B, C)}}}
    made = after(LAW, hours, 3)
    renewed = tuple(Voter(node, named(100 + number)) for number, node in enumerate((A, B, C), 1))
    assert made[3].successors == made[3].electors == renewed
    assert made[3].voters == GENESIS.voters
    assert made[3].named == 3
    made.append(next_one(LAW, made, final=Point(2, made[2].block)))
    assert made[4].voters == GENESIS.voters
    made.append(next_one(LAW, made, final=Point(3, made[3].block)))
    assert made[5].voters == made[5].successors == renewed


def test_no_other_voters_are_named_while_a_hand_over_is_not_final() -> None:
    hours: dict[int, dict[str, Any]] = {
        0: {"registrations": {node: joins(node) for node in (A, B, C)}},
        3: {"registrations": {node: joins(node, 2, era_key=named(300)) for node in (A, B, C)}},
    }
    made = after(LAW, hours, 6)[-1]
    assert made.registry.members[B].era_key == named(300)
    assert made.successors == made.electors == tuple(Voter(one, named(101 + at)) for at, one in enumerate((A, B, C)))
    assert (made.voters, made.named) == (GENESIS.voters, 3)


def test_voters_come_from_the_final_checkpoint_and_the_expelled_leave_at_once() -> None:
    founded = replace(LAW, founders=(A, B, C, D))
    wider = genesis_checkpoint(founded, founding(founded.founders, {}))
    hours: dict[int, dict[str, Any]] = {
        0: {"registrations": {node: joins(node) for node in (A, B, C, D)}},
        1: {"expelled": (bytes(C),)},
    }
    made = after(founded, hours, 2)
    assert next_one(founded, made, at_final=GENESIS).electors == (Voter(A, named(101)), Voter(B, named(102)))
    electors = next_one(founded, made, at_final=wider).electors
    assert electors == (Voter(A, named(101)), Voter(B, named(102)), Voter(D, named(104)))


def test_duties_of_who_is_neither_voter_nor_elector_are_forgotten() -> None:
    hours: dict[int, dict[str, Any]] = {1: voted(1, A, B, C)}
    made = after(LAW, hours, 2)
    era = next_one(LAW, made)
    assert era.duties == dict.fromkeys((A, B, C), Duty(2, 2))
    era = replace(era, voters=(Voter(A, A),), successors=(Voter(A, A),), electors=(Voter(A, A),), final=era.point)
    later = [era, next_one(LAW, [era]), era]
    before = replace(later[1], hour=5, duties={A: Duty(1, 1), B: Duty(1, 1)})
    again = roll(LAW, [era, later[1], before], before, happened(before), named(0), named(0))
    assert again.duties == {A: Duty(2, 2)}


def test_the_difficulty_follows_the_newcomers_of_the_era() -> None:
    law = replace(LAW, difficulty=8, newcomers_wanted=2)
    first = genesis_checkpoint(law, founding(law.founders, {}))
    assert first.difficulty == 8
    came = {node: joins(node) for node in (A, B, D, E, NodeId(named(6)), NodeId(named(7)))}
    made = [first, next_one(law, [first], registrations=came)]
    made.append(next_one(law, made))
    assert made[-1].newcomers == 4
    assert next_one(law, made).difficulty == 16


def test_a_candidate_is_judged_by_the_hours_that_are_settled_since_it_is_registered() -> None:
    """An HOUR without a report counts as none, but one whose reports may still come does not."""
    report = Included(Work(100, 0, 900), bytes(A))
    hours = {
        hour + 1: {"reports": {(hour, B): report} | ({(hour, C): report} if hour % 2 else {})} for hour in range(9)
    }
    at = after(LASTING, hours, 9, used(B, C))[-1]
    assert candidates(at, 12) == [
        Candidate(A, A, 12, 0, at.tally.sums[A].work),
        Candidate(B, B, 12, 900, 630),
        Candidate(C, C, 12, 900 * 3 // 7, 270),
    ]
    assert all(one.uptime == 0 and one.registered == 3 for one in candidates(GENESIS, 3))
    late = at.registry.members[B]._replace(since=8)
    newer = replace(at, registry=at.registry._replace(members={B: late}))
    assert candidates(newer, 12) == [Candidate(B, B, 4, 0, 630)]


# ------------------------------------------------------------------ names

FULL_ONE = replace(
    next_one(
        LASTING,
        after(LASTING, {2: {"reports": {(1, B): WORKED, (1, A): WORKED}}}, 4),
        reports={(3, A): WORKED, (3, B): WORKED, (4, C): WORKED},
        misses={bytes(B): 2, bytes(C): 1},
        expelled=(bytes(D), bytes(E)),
        registrations={node: joins(node) for node in (D, E)},
        pools={name: PoolRegistration(1, (named(8),), 1, named(9), Address(bytes(20)), (D,)) for name in (POOL, b"a")},
        justified={0: GENESIS.block, 3: named(33), 4: named(44)},
        **voted(4, A, B),
    ),
)
POOLED = FULL_ONE.registry._replace(pools={POOL: Pool((named(8),), 1, named(9), Address(bytes(20)))})
DERIVED = {"tally": "named by credit_digests", "weights": "follow from the rest"}
CHANGES: dict[str, Any] = {
    "hour": 6,
    "block": named(1),
    "seed": named(1),
    "registry": FULL_ONE.registry._replace(era=9),
    "electors": FULL_ONE.electors[1:],
    "voters": FULL_ONE.voters[1:],
    "successors": FULL_ONE.successors[1:],
    "named": 1,
    "justified": {0: GENESIS.block, 3: named(33)},
    "final": Point(0, named(1)),
    "joining": {},
    "joining_pools": {},
    "difficulty": 2,
    "newcomers": 3,
    "credit_digests": FULL_ONE.credit_digests[1:],
    "reports": {3: FULL_ONE.reports[3]},
    "duties": {A: Duty(1, 1)},
    "led": {bytes(A): (1,)},
    "misses": {B: (4, 4)},
    "expelled": {D: 4},
    "points": FULL_ONE.points[1:],
    "electorate": Electorate(({A: 5},)),
}
DEEPER: list[tuple[str, Any]] = [
    ("registry", FULL_ONE.registry._replace(members={A: GENESIS.registry.members[A]._replace(since=1)})),
    ("registry", FULL_ONE.registry._replace(members={A: GENESIS.registry.members[A]})),
    ("registry", POOLED),
    ("electors", (Voter(A, B), *FULL_ONE.electors[1:])),
    ("voters", (Voter(A, B), *FULL_ONE.voters[1:])),
    ("justified", {0: GENESIS.block, 3: named(34), 4: named(44)}),
    ("joining", dict(FULL_ONE.joining) | {D: joins(D, era_key=named(1))}),
    ("reports", {3: FULL_ONE.reports[3], 4: {C: Included(WORKED.work, bytes(B))}}),
    ("reports", {3: FULL_ONE.reports[3], 4: {C: Included(Work(1, 0, 0), bytes(A))}}),
    ("reports", {3: FULL_ONE.reports[3], 5: FULL_ONE.reports[4]}),
    ("duties", dict(FULL_ONE.duties) | {C: Duty(1, 1)}),
    ("misses", dict(FULL_ONE.misses) | {bytes(B): (4, 3)}),
    ("expelled", dict(FULL_ONE.expelled) | {bytes(D): 3}),
    ("electorate", replace(FULL_ONE.electorate, paid=frozenset({Address(bytes(20))}))),
    ("electorate", replace(FULL_ONE.electorate, voters={Address(bytes(20)): False})),
]


def test_every_field_is_in_a_checkpoints_name_or_follows_from_those_that_are() -> None:
    assert {field.name for field in fields(Checkpoint)} == CHANGES.keys() | DERIVED.keys()


@pytest.mark.parametrize(("name", "value"), [*CHANGES.items(), *DEEPER], ids=lambda value: str(value)[:20])
def test_a_change_of_any_part_changes_that_parts_digest_and_the_name(name: str, value: Any) -> None:
    changed = replace(FULL_ONE, **{name: value})
    assert changed != FULL_ONE
    before, now = part_digests(LASTING, FULL_ONE), part_digests(LASTING, changed)
    assert len(before) == len(now) == 10
    assert sum(one != other for one, other in zip(before, now, strict=True)) == 1
    assert checkpoint_digest(LASTING, changed) != checkpoint_digest(LASTING, FULL_ONE)


def test_credits_are_in_a_checkpoints_name_by_the_digests_of_their_hours() -> None:
    plan = {2: {"reports": {(1, B): WORKED}}}
    other = {2: {"reports": {(1, B): WORKED._replace(work=Work(6_401, 0, 1_000))}}}
    one, another = (after(LASTING, hours, 1 + SETTLED)[-1] for hours in (plan, other))
    assert one.credit_digests[:-1] == another.credit_digests[:-1]
    assert one.credit_digests[-1] != another.credit_digests[-1]


def turned(value: Any) -> Any:
    """The same mappings with their entries the other way round."""
    if isinstance(value, dict):
        return {name: turned(value[name]) for name in reversed([*value])}
    return value


@given(st.sets(st.sampled_from(["justified", "joining", "joining_pools", "reports", "duties", "misses", "expelled"])))
def test_the_name_does_not_depend_on_the_order_in_which_things_came(names: set[str]) -> None:
    changed = replace(FULL_ONE, **{name: turned(getattr(FULL_ONE, name)) for name in names})
    assert checkpoint_digest(LASTING, changed) == checkpoint_digest(LASTING, FULL_ONE)


@given(st.permutations(range(6)))
def test_what_an_hour_brought_in_another_order_makes_the_same_checkpoint(order: list[int]) -> None:
    nodes = [NodeId(key(number).public) for number in range(6)]

    def made(numbers: Sequence[int]) -> Checkpoint:
        """From an HOUR whose blocks brought things in that order."""
        mine = [nodes[number] for number in numbers]
        recent = after(LASTING, {}, 4)
        return next_one(
            LASTING,
            recent,
            reports={(2 + number % 2, nodes[number]): WORKED for number in numbers},
            registrations={node: joins(node) for node in mine},
            misses={bytes(node): 1 for node in mine},
            votes={(4, node): Point(0, GENESIS.block) for node in (A, B)},
            pools={bytes(node): PoolRegistration(1, (node,), 1, node, Address(bytes(20)), ()) for node in mine},
        )

    one, other = made(order), made(range(6))
    assert checkpoint_digest(LASTING, one) == checkpoint_digest(LASTING, other)
    assert [*one.weights.items()] == [*other.weights.items()]
    assert one.tally == other.tally


def test_a_name_means_nothing_on_another_network() -> None:
    elsewhere = replace(LASTING, network=type(NETWORK)(bytes(32)))
    assert checkpoint_digest(elsewhere, FULL_ONE) != checkpoint_digest(LASTING, FULL_ONE)
    assert not {*part_digests(elsewhere, FULL_ONE)} & {*part_digests(LASTING, FULL_ONE)}
