"""Votes and quorums: what contradicts what, how many are enough, and who may vote."""

from dataclasses import replace

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import Malformed, decode
from consensus.finality import (
    VOTE_BYTES_MAX,
    Candidate,
    DoubleVote,
    SignedVote,
    Vote,
    Voter,
    contradict,
    era_lot,
    is_quorum,
    may_vote,
    next_electors,
    read_vote,
    sign_vote,
    vote_signable,
    vote_slot,
    voters_root,
)
from consensus.ids import Digest, NodeId
from consensus.params import DEVNET, ERA_LOT, MAINNET, SMALL, Params
from consensus.records import pack
from consensus.signing import verify
from tests.consensus.worlds import NETWORK, key, named

ME, OTHER = NodeId(named(1)), NodeId(named(2))


def vote(source: int, target: int, voter: NodeId = ME, head: int = 0, block: int = 0) -> Vote:
    """A vote from one HOUR to a later one."""
    return Vote(voter, source, named(block), target, named(block), named(0), named(head))


def voters(count: int) -> list[Voter]:
    """So many of them; the Server is the first."""
    return [Voter(NodeId(named(number)), bytes([number % 256])) for number in range(count)]


spans = st.integers(0, 30).flatmap(lambda source: st.tuples(st.just(source), st.integers(source + 1, 40)))
votes = st.builds(
    lambda span, voter, head: vote(span[0], span[1], voter, head),
    spans,
    st.sampled_from([ME, OTHER]),
    st.integers(0, 1),
)


# ------------------------------------------------------------------ contradictions


def test_two_votes_of_one_hour_contradict_and_one_does_not_contradict_itself() -> None:
    one = vote(3, 4)
    assert not contradict(one, one)
    for other in (vote(2, 4), vote(3, 4, head=1), vote(3, 4, block=1)):
        assert contradict(one, other)
        assert contradict(other, one)
        assert not contradict(one, replace(other, voter=OTHER))


def test_a_vote_that_surrounds_another_contradicts_it_and_one_that_follows_does_not() -> None:
    inner = vote(3, 4)
    assert contradict(inner, vote(2, 5))
    assert contradict(vote(2, 5), inner)
    for honest in (vote(3, 5), vote(4, 5), vote(5, 9), vote(2, 3), vote(0, 1)):
        assert not contradict(inner, honest)
        assert not contradict(honest, inner)


@given(votes, votes)
def test_contradiction_is_symmetric_and_is_what_the_rule_says(one: Vote, other: Vote) -> None:
    (s1, t1), (s2, t2) = ((each.source_hour, each.target_hour) for each in (one, other))
    surrounds = s1 < s2 < t2 < t1 or s2 < s1 < t1 < t2
    by_rule = one.voter == other.voter and ((t1 == t2 and one != other) or surrounds)
    assert contradict(one, other) == contradict(other, one) == by_rule


# ------------------------------------------------------------------ quorums


@pytest.mark.parametrize(("count", "others"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2)])
def test_of_fewer_than_seven_it_takes_the_server_and_half_of_the_others(count: int, others: int) -> None:
    all_of_them = voters(count)
    nodes = [voter.node for voter in all_of_them]
    assert is_quorum(all_of_them, nodes[0], nodes[: 1 + others], [])
    assert not is_quorum(all_of_them, nodes[0], nodes[1:], nodes)
    assert others == 0 or not is_quorum(all_of_them, nodes[0], nodes[:others], nodes)
    strangers = [NodeId(named(99 + at)) for at in range(9)]
    assert is_quorum(all_of_them, nodes[0], [nodes[0], *strangers], []) == (others == 0)


@pytest.mark.parametrize(
    ("count", "active", "needed"),
    [(7, 7, 5), (8, 8, 6), (9, 9, 7), (7, 4, 4), (7, 0, 4), (100, 100, 67), (100, 60, 51)],
)
def test_of_more_it_takes_two_thirds_of_the_active_and_half_of_all(count: int, active: int, needed: int) -> None:
    all_of_them = voters(count)
    nodes = [voter.node for voter in all_of_them]
    assert not is_quorum(all_of_them, nodes[0], nodes[: needed - 1], nodes[:active])
    assert is_quorum(all_of_them, nodes[0], nodes[:needed], nodes[:active])


def test_who_votes_after_a_long_time_is_awake() -> None:
    nodes = [voter.node for voter in voters(9)]
    assert not is_quorum(voters(9), nodes[0], nodes[:5], nodes[5:])
    assert is_quorum(voters(9), nodes[0], nodes[:5], nodes[:7])


def test_nobody_is_no_quorum_and_strangers_count_nothing() -> None:
    nodes = [voter.node for voter in voters(30)]
    assert not is_quorum([], nodes[0], nodes, nodes)
    assert not is_quorum(voters(7), nodes[0], nodes[3:], nodes)
    assert is_quorum(voters(7), nodes[0], nodes[2:], nodes)


@given(st.integers(SMALL, 40), st.data())
def test_two_quorums_share_a_third_when_all_are_active_and_a_voter_always(count: int, data: st.DataObject) -> None:
    all_of_them = voters(count)
    nodes = [voter.node for voter in all_of_them]
    numbers = st.sets(st.sampled_from(range(count)), min_size=count // 2)
    one, other = ({nodes[number] for number in data.draw(numbers)} for _ in range(2))
    awake = {nodes[number] for number in data.draw(st.sets(st.sampled_from(range(count))))}
    if all(is_quorum(all_of_them, nodes[0], voted, awake) for voted in (one, other)):
        assert one & other
    if all(is_quorum(all_of_them, nodes[0], voted, nodes) for voted in (one, other)):
        assert 3 * len(one & other) > count


@given(st.integers(1, 20), st.data())
def test_one_more_vote_never_undoes_a_quorum(count: int, data: st.DataObject) -> None:
    all_of_them = voters(count)
    nodes = [voter.node for voter in all_of_them]
    subsets = st.sets(st.sampled_from(nodes))
    voted, active, late = data.draw(subsets), data.draw(subsets), data.draw(st.sampled_from(nodes))
    before, after = (is_quorum(all_of_them, nodes[0], who, active) for who in (voted, voted | {late}))
    assert after or not before


# ------------------------------------------------------------------ when, and who


@given(st.binary(min_size=32, max_size=32), st.integers(0, 1 << 40), st.sampled_from([MAINNET, DEVNET]))
def test_a_vote_is_due_neither_in_the_first_slot_nor_in_the_last(seed: bytes, hour: int, params: Params) -> None:
    at = vote_slot(params, Digest(seed), hour, ME) - hour * params.hour_slots
    assert 1 <= at <= params.hour_slots - 2


def test_votes_are_spread_over_the_hour_and_move_with_its_seed() -> None:
    slots = [vote_slot(MAINNET, named(7), 0, NodeId(named(number))) for number in range(2_800)]
    assert {*slots} == {*range(1, 29)}
    assert all(60 <= slots.count(slot) <= 145 for slot in range(1, 29))  # 100 ± 4.5 σ
    assert slots != [vote_slot(MAINNET, named(8), 0, NodeId(named(number))) for number in range(2_800)]


def test_the_slot_of_a_vote_is_drawn_from_eight_bytes_of_the_seed_and_the_voter() -> None:
    for number in range(20):
        lot = int.from_bytes(blake3(named(7) + named(number)).digest()[:8], "big")
        assert vote_slot(MAINNET, named(7), 5, NodeId(named(number))) == 5 * 30 + 1 + lot % 28


def candidate(number: int, registered: int = 720, uptime: int = 1_000, work: int = 100) -> Candidate:
    return Candidate(NodeId(named(number)), bytes(32), registered, uptime, work)


def test_who_may_vote_was_there_long_enough_was_up_and_worked() -> None:
    founder = candidate(9, registered=0, uptime=0, work=0)
    able = [candidate(1), candidate(2, uptime=800), candidate(3, work=25), candidate(4, registered=721)]
    unable = [candidate(5, registered=719), candidate(6, uptime=799), candidate(7, work=24)]
    found = may_vote([*unable, founder, *able], [founder.node], MAINNET)
    assert found == [NodeId(named(number)) for number in (4, 1, 2, 3, 9)]
    assert may_vote([*unable, founder, *able], [], MAINNET) == found[:-1]
    assert may_vote([], [founder.node], MAINNET) == []


def test_the_median_is_the_lower_of_two() -> None:
    works = [candidate(1, work=4), candidate(2, work=16), candidate(3, work=17), candidate(4, work=100)]
    assert may_vote(works, [], MAINNET) == [one.node for one in works]
    assert may_vote([*works, candidate(5, work=100)], [], MAINNET) == [NodeId(named(number)) for number in (2, 3, 4, 5)]


pool_of_nodes = [NodeId(named(number)) for number in range(24)]
some = st.lists(st.sampled_from(pool_of_nodes), unique=True)


@given(some, some, some, st.sets(st.sampled_from(pool_of_nodes)))
def test_an_eighth_joins_an_eighth_leaves_and_the_expelled_leave_at_once(
    now: list[NodeId], able: list[NodeId], registered: list[NodeId], expelled: set[NodeId]
) -> None:
    before = tuple(Voter(node, b"old") for node in sorted(now))
    after = next_electors(before, able, dict.fromkeys(registered, b"new"), expelled)
    most = max(1, len(before) // 8)
    nodes = [voter.node for voter in after]
    assert nodes == sorted({*nodes})
    assert not {*nodes} & expelled
    joined, left = {*nodes} - {*now}, {*now} - {*nodes} - expelled
    may_join = [node for node in able if node not in now and node not in expelled and node in registered]
    may_leave = [node for node in sorted(now) if node not in able and node not in expelled]
    assert joined == {*may_join[:most]}
    assert left == {*may_leave[:most]}
    assert all(voter.key == (b"new" if voter.node in registered else b"old") for voter in after)


@pytest.mark.parametrize(
    ("count", "eighth"), [(1, 1), (7, 1), (8, 1), (15, 1), (16, 2), (23, 2), (24, 3), (63, 7), (64, 8)]
)
def test_an_eighth_is_rounded_down_and_one_at_the_least(count: int, eighth: int) -> None:
    now, fresh = voters(count), [NodeId(named(1_000 + number)) for number in range(20)]
    nodes = [voter.node for voter in now]
    assert next_electors(now, [], {}, []) == tuple(now[eighth:])
    joined = next_electors(now, [*nodes, *fresh], dict.fromkeys(fresh, b"new"), [])
    assert joined == (*now, *(Voter(node, b"new") for node in fresh[:eighth]))


def test_who_is_there_or_expelled_takes_up_no_place_of_those_who_join() -> None:
    now, fresh = voters(9), [NodeId(named(1_000 + number)) for number in range(3)]
    nodes = [voter.node for voter in now]
    keys = dict.fromkeys([*nodes, *fresh], b"new")
    after = next_electors(now, [*nodes, *fresh], keys, {nodes[4], fresh[0]})
    assert [voter.node for voter in after] == [*nodes[:4], *nodes[5:], fresh[1]]


def test_an_era_has_all_electors_or_512_by_lot_in_any_order() -> None:
    few, many = voters(ERA_LOT), voters(ERA_LOT + 100)
    assert era_lot(few[::-1], NETWORK, named(0)) == tuple(few)
    drawn = era_lot(many, NETWORK, named(0))
    assert len({*drawn}) == ERA_LOT
    assert [*drawn] == sorted(drawn)
    assert {*drawn} < {*many}
    assert era_lot(many[::-1], NETWORK, named(0)) == drawn
    lots = sorted(many, key=lambda voter: blake3(b"lucid/lot/v1" + NETWORK + named(0) + voter.node).digest())
    assert {*drawn} == {*lots[:ERA_LOT]}
    others = era_lot(many, NETWORK, named(1))
    assert others != drawn
    assert 400 < len({*drawn} & {*others}) < 460  # 512²/612 = 428


def test_voters_are_named_by_their_ids_and_keys_in_any_order() -> None:
    few = [Voter(NodeId(named(number)), named(100 + number)) for number in range(3)]
    root = voters_root(few, NETWORK)
    assert root == blake3(b"lucid/voters/v1" + NETWORK + b"".join(node + signing for node, signing in few)).digest()
    assert voters_root(few[::-1], NETWORK) == root
    others = [few[:2], [*few[:2], few[2]._replace(key=named(0))], [*few[:2], few[2]._replace(node=NodeId(named(9)))]]
    assert len({root, *(voters_root(other, NETWORK) for other in others)}) == 4


# ------------------------------------------------------------------ votes as bytes


def test_a_vote_is_signed_in_its_domain_and_read_back() -> None:
    signed = sign_vote(vote(3, 4), key(1), NETWORK)
    assert read_vote(pack(signed)) == signed
    assert verify(key(1).public, signed.signature, "vote", NETWORK, pack(signed.vote))
    assert vote_signable(signed.vote, NETWORK) == b"lucid/vote/v1" + NETWORK + pack(signed.vote)
    largest = vote((1 << 64) - 2, (1 << 64) - 1)
    assert len(pack(sign_vote(largest, key(1), NETWORK))) <= VOTE_BYTES_MAX


def test_votes_and_what_proves_two_of_them_are_records_of_their_first_version() -> None:
    signed = SignedVote(vote(3, 4), bytes(64))
    for record in (signed.vote, signed, DoubleVote(signed, signed)):
        spelled = decode(pack(record))
        assert isinstance(spelled, dict)
        assert spelled["v"] == 1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (bytes(513), "too long"),
        (bytes(512), "after the end"),
        (pack(SignedVote(vote(4, 4), bytes(64))), "no earlier HOUR"),
        (pack(SignedVote(vote(5, 4), bytes(64))), "no earlier HOUR"),
        (pack(vote(3, 4)), "fields of a SignedVote"),
        (pack(SignedVote(vote(3, 4), bytes(64)))[:-1], "ends"),
        (b"", "ends"),
    ],
)
def test_what_is_no_vote_is_malformed(data: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        read_vote(data)


@given(st.binary(max_size=300))
def test_noise_is_no_vote(noise: bytes) -> None:
    with pytest.raises(Malformed):
        read_vote(noise)


@given(votes, st.integers(0, 2_000), st.integers(1, 255))
def test_a_vote_with_one_byte_changed_is_refused_or_says_something_else(one: Vote, place: int, change: int) -> None:
    data = bytearray(pack(SignedVote(one, bytes(64))))
    data[place % len(data)] ^= change
    try:
        read = read_vote(bytes(data))
    except Malformed:
        return
    assert pack(read) == bytes(data)
    assert read != SignedVote(one, bytes(64))
