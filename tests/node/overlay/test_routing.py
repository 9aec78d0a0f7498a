import heapq
import random
from hashlib import sha256
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kademlia.node import Node, NodeHeap  # type: ignore[import-untyped]
from kademlia.routing import KBucket  # type: ignore[import-untyped]

from consensus.ids import Millis, NodeId
from node.overlay.routing import RoutingLimits, Strangers, Table, place, point
from tests.node.overlay.kad_world import START, fill, nodes_of
from tests.node.overlay.kademlia_package import node_of, table_of

ME = NodeId(bytes(32))
LIMITS = RoutingLimits()
LATER = Millis(START + LIMITS.fresh_ms)


def far_nodes(count: int) -> list[NodeId]:
    """Nodes that all lie in the farthest bucket, seen from ME."""
    side = place(ME) >> 255
    found: list[NodeId] = []
    number = 0
    while len(found) < count:
        number += 1
        node = NodeId(number.to_bytes(32, "big"))
        if place(node) >> 255 != side:
            found.append(node)
    return found


FAR = far_nodes(140)


def everybody(table: Table) -> list[NodeId]:
    return table.closest(0, 10_000)


def full_table(limits: RoutingLimits = LIMITS) -> Table:
    table = Table(ME, limits)
    for node in FAR[: limits.bucket]:
        assert table.seen(START, node) is None
    return table


def test_a_place_is_the_sha256_of_libp2ps_peer_id() -> None:
    peer = bytes.fromhex("002408011220") + FAR[0]
    assert place(FAR[0]).to_bytes(32, "big") == sha256(peer).digest()
    assert point(peer) == place(FAR[0])


@given(st.integers(0, 2**32), st.integers(1, 300), st.integers(1, 40), st.binary(min_size=32, max_size=32))
def test_closest_is_exactly_what_sorting_all_contacts_gives(seed: int, size: int, k: int, target: bytes) -> None:
    table = Table(ME, LIMITS)
    nodes = nodes_of(random.Random(seed), size)
    for node in nodes:
        table.seen(START, node)
    contacts = [node for node in nodes if node in table]
    assert len(contacts) == len(table)
    for goal in (int.from_bytes(target, "big"), place(ME), place(nodes[0])):
        assert table.closest(goal, k) == heapq.nsmallest(k, contacts, key=lambda node: place(node) ^ goal)


@given(st.integers(0, 2**32), st.integers(1, 200), st.binary(min_size=32, max_size=32), st.integers(0, 256))
def test_closest_agrees_with_the_heap_and_is_never_farther_than_the_walk_of_the_kademlia_package(
    seed: int, size: int, random_bits: bytes, far: int
) -> None:
    """Its walk is not exact, and may end before it has k (next test): what it names are contacts, none nearer than ours."""
    table = Table(ME, LIMITS)
    for node in nodes_of(random.Random(seed), size):
        table.seen(START, node)
    contacts = [place(node) for node in everybody(table)]
    goal = place(ME) ^ (int.from_bytes(random_bits, "big") >> (256 - far))
    ours = [place(node) ^ goal for node in table.closest(goal, 20)]
    heap = NodeHeap(node_of(goal), 20)
    heap.push([node_of(contact) for contact in contacts])
    assert ours == [node.long_id ^ goal for node in heap]
    walked = table_of(place(ME), contacts, 20).nearest(goal, 20)
    assert {*walked} <= {*contacts}
    assert all(near <= their ^ goal for near, their in zip(ours, walked, strict=False))


def test_the_walk_of_the_kademlia_package_ends_early_at_the_upper_end() -> None:
    """It looks left once and then, as there is nothing on the right, no farther: 21 of the 41 contacts that it has."""
    me, target = 2**256 - 1, 2**256 - 2
    lower = [2**255 - 1 - number for number in range(20)]
    upper = [2**255 + number for number in range(20)]
    walked = table_of(me, [*lower, *upper, target - 1], 20)
    assert [len(bucket) for bucket in walked.buckets] == [20, 20, 1]
    assert walked.nearest(target, 41) == [target - 1, *sorted(upper, key=target.__xor__)]


@pytest.mark.component
def test_of_the_same_contacts_the_kademlia_package_names_fewer_of_the_nearest_than_we_do() -> None:
    """Targets near the node that is asked, where a look-up ends. Measured: 82 % in the mean, 35 % at the worst; ours is exact."""
    rng = random.Random(1)
    recall: list[float] = []
    for size in (100, 300, 1000, 3000) * 5:
        nodes = nodes_of(rng, size)
        table = Table(nodes[0], LIMITS)
        fill(table, nodes[0], sorted((place(node), node) for node in nodes), rng, 20)
        contacts = [place(node) for node in everybody(table)]
        theirs = table_of(place(nodes[0]), contacts, 20)
        for _ in range(20):
            goal = place(nodes[0]) ^ rng.getrandbits(rng.randrange(240, 257))
            truth = sorted(contacts, key=goal.__xor__)[:20]
            assert [place(node) for node in table.closest(goal, 20)] == truth
            recall.append(len({*truth} & {*theirs.nearest(goal, 20)}) / len(truth))
    assert 0.75 < mean(recall) < 0.9
    assert min(recall) > 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 39)), max_size=150))
def test_one_bucket_keeps_and_replaces_as_that_of_the_kademlia_package_does(steps: list[tuple[bool, int]]) -> None:
    table = Table(ME, RoutingLimits(bucket=4, spare=20, introduced=4, strikes=1))
    theirs = KBucket(0, 2**256, 4, 5)
    for is_seen, choice in steps:
        node = FAR[choice]
        if is_seen:
            table.seen(START, node)
            theirs.add_node(Node(place(node).to_bytes(32, "big")))
        elif theirs.nodes:
            head = theirs.head()
            theirs.remove_node(head)
            table.failed(next(node for node in FAR if place(node) == head.long_id))
        assert {place(node) for node in everybody(table)} == {node.long_id for node in theirs.get_nodes()}


def test_a_full_buckets_head_is_pinged_once_when_it_was_not_heard_of_for_long() -> None:
    table = full_table()
    assert table.seen(START, FAR[20]) is None  # everybody is fresh
    assert table.seen(LATER, FAR[0]) is None  # so that the second is the least recently seen
    assert table.seen(LATER, FAR[21]) == FAR[1]
    assert table.seen(LATER, FAR[22]) is None
    assert FAR[21] not in table


def test_a_head_that_answers_its_ping_stays_and_the_newcomer_waits() -> None:
    table = full_table()
    head = table.seen(LATER, FAR[20])
    assert head == FAR[0]
    assert table.seen(LATER, head) is None
    assert everybody(table) == sorted(FAR[:20], key=place)
    assert table.seen(LATER, FAR[21]) == FAR[1]  # the next least recently seen


def test_a_head_that_fails_makes_room_for_the_latest_newcomer() -> None:
    table = full_table()
    assert table.seen(LATER, FAR[20]) == FAR[0]
    table.seen(LATER, FAR[21])
    table.failed(FAR[0])
    assert FAR[0] not in table
    assert FAR[21] in table
    assert FAR[20] not in table
    table.failed(FAR[20])  # a spare that fails waits no more
    for _ in range(LIMITS.strikes):
        table.failed(FAR[1])
    assert len(table) == 19


def test_a_contact_that_nobody_pinged_is_forgotten_only_after_three_failures_in_a_row() -> None:
    table = full_table()
    table.failed(FAR[5])
    table.failed(FAR[5])
    table.seen(START, FAR[5])
    table.failed(FAR[5])
    table.failed(FAR[5])
    assert FAR[5] in table
    table.failed(FAR[5])
    assert FAR[5] not in table


def test_a_failure_that_nobody_is_to_blame_for_costs_no_place_and_lets_the_head_be_pinged_again() -> None:
    table = full_table()
    assert table.seen(LATER, FAR[20]) == FAR[0]
    for _ in range(10):
        table.failed(FAR[0], is_blamed=False)
    assert FAR[0] in table
    assert table.seen(LATER, FAR[21]) == FAR[0]


def test_an_empty_bucket_is_walked_no_more() -> None:
    table = Table(ME, RoutingLimits(strikes=1))
    table.seen(START, FAR[0])
    table.failed(FAR[0])
    assert (everybody(table), table.stale(START)) == ([], [])


def test_one_introducer_fills_half_of_a_bucket_and_no_more() -> None:
    liar, other = FAR[100], FAR[101]
    table = Table(ME, LIMITS)
    for node in FAR[:30]:
        table.seen(START, node, liar)
    assert everybody(table) == sorted(FAR[:10], key=place)
    table.seen(START, FAR[10], other)  # met through another
    table.seen(START, FAR[11])  # comes by itself
    assert {FAR[10], FAR[11]} <= set(everybody(table))
    for node in FAR[40:48]:
        table.seen(START, node)
    assert len(table) == 20
    for _ in range(LIMITS.strikes):
        table.failed(FAR[40])
    assert len(table) == 19  # the spares all came through the liar


def test_a_flood_of_contacts_is_bounded() -> None:
    table = Table(ME, RoutingLimits(bucket=3, spare=2))
    strangers = nodes_of(random.Random(1), 5_000)
    for node in strangers:
        table.seen(START, node)
    assert len(table) <= 3 * 13  # 2¹³ > 5,000
    assert sum(len(bucket.spare) for bucket in table._buckets.values()) <= 2 * 13
    assert len(table._nodes) == len(table._heard) == len(table)


def test_we_are_never_a_contact_of_our_own() -> None:
    table = Table(ME, LIMITS)
    assert table.seen(START, ME) is None
    assert not table.has_room(ME)
    assert len(table) == 0


def test_buckets_without_a_look_up_for_four_hours_are_stale_down_to_the_nearest_contact() -> None:
    table = Table(ME, LIMITS)
    nodes = nodes_of(random.Random(2), 40)
    for node in nodes:
        table.seen(START, node)
    nearest = min((place(node) ^ place(ME)).bit_length() for node in nodes)
    assert table.stale(START) == list(range(256, nearest - 1, -1))
    table.touch(START, place(FAR[0]))
    assert table.stale(Millis(START + 14_399_999)) == list(range(255, nearest - 1, -1))
    assert table.stale(Millis(START + 14_400_000)) == list(range(256, nearest - 1, -1))


def test_a_contact_ground_close_to_us_does_not_make_refreshes_dear() -> None:
    table = Table(ME, LIMITS)
    table._filled = 1  # a contact in the nearest of all buckets
    assert table.stale(START) == list(range(256, 246, -1))


@pytest.mark.parametrize("index", [256, 255, 250, 247])
def test_a_made_up_node_lies_in_the_bucket_that_it_is_to_refresh(index: int) -> None:
    found = Table(ME, LIMITS).somewhere(index, random.Random(3))
    assert found is not None
    assert (place(found) ^ place(ME)).bit_length() == index
    assert found == Table(ME, LIMITS).somewhere(index, random.Random(3))


def test_strangers_are_pinged_once_within_bounds_and_left_alone_when_silent() -> None:
    strangers = Strangers(Table(ME, LIMITS), RoutingLimits(pinged=2, silent=2))
    one, two, three, four = FAR[:4]
    assert [strangers.is_worth_a_ping(START, node) for node in (one, one, two, three)] == [True, False, True, False]
    strangers.failed(START, one)
    assert not strangers.is_worth_a_ping(Millis(START + 599_999), one)
    assert strangers.is_worth_a_ping(START, three)
    for node in (two, three):
        strangers.failed(START, node)
    assert strangers.is_worth_a_ping(START, one)  # two are remembered at most
    strangers.answered(one)
    assert strangers.is_worth_a_ping(START, four)
    assert strangers.is_worth_a_ping(Millis(START + 600_000), two)


def test_a_stranger_is_worth_a_ping_only_while_there_is_room_to_wait() -> None:
    limits = RoutingLimits(bucket=2, spare=1)
    table = full_table(limits)
    assert not table.has_room(FAR[0])
    assert table.has_room(FAR[2])
    table.seen(START, FAR[2])
    assert not table.has_room(FAR[2])
    assert not table.has_room(FAR[3])
