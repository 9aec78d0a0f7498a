"""The books of the gossip router as laws: who can be graylisted and who cannot, and how long a block lasts."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.ids import Millis, NodeId
from node.overlay.blocklist import BlockLimits, Blocklist
from node.overlay.scoring import ScoreLimits, Scores
from tests.node.overlay.gossip_world import START, node

PEER, LIMITS = node(1), ScoreLimits()
DAY = 86_400_000


def worst_stretch(kept: Sequence[bool]) -> int:
    """By how much broken promises exceed kept ones in the worst stretch."""
    worst = run = 0
    for each in kept:
        run = max(0, run + (-1 if each else 1))
        worst = max(worst, run)
    return worst


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100_000)), max_size=80))
def test_a_peer_that_in_no_stretch_breaks_9_promises_more_than_it_keeps_is_never_graylisted(
    promises: list[tuple[bool, int]],
) -> None:
    scores, now = Scores(LIMITS), START
    scores.enter(now, PEER)
    for place, (kept, pause) in enumerate(promises):
        now = Millis(now + pause)
        if kept:
            scores.kept(now, PEER)
        else:
            scores.offended(now, PEER)
        if worst_stretch([each for each, _ in promises[: place + 1]]) < 9:
            assert scores.ok(now, PEER, LIMITS.graylist)


@pytest.mark.parametrize("pause", [0, 10_000, 30_000])
def test_who_breaks_every_promise_is_graylisted_however_slowly(pause: int) -> None:
    scores, now = Scores(LIMITS), START
    scores.enter(now, PEER)
    broken = 0
    while scores.ok(now, PEER, LIMITS.graylist) and broken < 40:
        now = Millis(now + pause)
        scores.offended(now, PEER)
        broken += 1
    assert 9 <= broken <= 12


@given(st.lists(st.sampled_from(["invalid", "offended", "kept", "brought", "leave", "wait"]), max_size=60))
def test_merit_never_hides_three_invalid_messages_and_leaving_never_helps(steps: list[str]) -> None:
    """Whatever else a peer does, within five minutes of three invalid messages it is worth no gossip."""
    scores, now = Scores(LIMITS), START
    scores.enter(now, PEER)
    last: list[Millis] = []
    for step in steps:
        match step:
            case "wait":
                now = Millis(now + 60_000)
            case "leave":
                before = scores.value(now, PEER)
                scores.leave(now, PEER)
                scores.enter(now, PEER)
                assert scores.value(now, PEER) <= before
            case "invalid":
                scores.invalid(now, PEER)
                last.append(now)
            case "brought":
                scores.brought(now, PEER)
            case _:
                getattr(scores, step)(now, PEER)
        if sum(at + 300_000 >= now for at in last) >= 3:
            assert not scores.ok(now, PEER, LIMITS.gossip)


def test_a_block_doubles_with_every_repetition_up_to_a_day_and_is_forgotten_a_day_after_its_end() -> None:
    blocklist, now, lasted = Blocklist(BlockLimits()), START, []
    for _ in range(10):
        until = blocklist.block(now, PEER)
        lasted.append((until - now) // 60_000)
        assert blocklist.block(Millis(now + 1), PEER) == until  # what was on its way is no repetition
        assert blocklist.refuses(Millis(until - 1), PEER)
        assert not blocklist.refuses(until, PEER)
        now = until
    assert lasted == [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440]
    now = Millis(now + DAY)
    assert blocklist.block(now, PEER) == now + 600_000


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2 * DAY)), max_size=100))
def test_a_blocklist_is_bounded_and_a_block_lasts_between_its_first_and_its_longest(
    steps: list[tuple[int, int]],
) -> None:
    limits = BlockLimits(peers_max=8)
    blocklist, now = Blocklist(limits), START
    for index, pause in steps:
        now = Millis(now + pause)
        peer = NodeId(index.to_bytes(32))
        was_refused = blocklist.refuses(now, peer)
        until = blocklist.block(now, peer)
        assert blocklist.refuses(now, peer)
        assert now < until <= now + limits.longest_ms
        assert was_refused or until >= now + limits.first_ms
        assert len(blocklist) <= limits.peers_max
