"""Catching up: answers follow the newest block that both know, are bounded, and bring whoever is behind to the head."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.block import BLOCK_BYTES_MAX
from consensus.catchup import ANSWER_BLOCKS, ANSWER_BYTES, QUESTION_IDS, BlockAnswer, BlockQuestion, answer, question
from consensus.encoding import Malformed
from consensus.ids import Digest
from consensus.records import pack, unpack
from tests.consensus.worlds import named

OURS = [named(number) for number in range(3_000)]


def theirs(number: int) -> Digest:
    """A block of another branch."""
    return named(1 << 20 | number)


def told(asked: bytes, branch: list[Digest]) -> list[Digest]:
    """What is answered where a block's bytes are its name."""
    return [Digest(data) for data in unpack(BlockAnswer, answer(asked, branch, lambda name: name)).blocks]


def test_an_answer_follows_the_newest_block_that_both_know() -> None:
    asked = pack(BlockQuestion((theirs(9), OURS[7], OURS[3], OURS[0])))
    assert told(asked, OURS[:12]) == OURS[8:12]
    assert told(asked, OURS[:8]) == []
    assert told(asked, OURS[:5]) == [OURS[4]]


def test_a_stranger_is_answered_nothing() -> None:
    assert told(pack(BlockQuestion(())), OURS) == []
    assert told(pack(BlockQuestion((theirs(0),))), OURS) == []
    assert told(pack(BlockQuestion((OURS[0],))), []) == []
    with pytest.raises(Malformed):
        answer(b"\xff", OURS, lambda name: name)


def test_an_answer_is_bounded_in_blocks_and_in_bytes() -> None:
    asked = pack(BlockQuestion((OURS[0],)))
    assert told(asked, OURS) == OURS[1 : 1 + ANSWER_BLOCKS]
    third = bytes(ANSWER_BYTES // 3)
    assert len(unpack(BlockAnswer, answer(asked, OURS, lambda _: third)).blocks) == 3
    assert len(unpack(BlockAnswer, answer(asked, OURS, lambda _: third + b"\0")).blocks) == 2
    half = bytes(ANSWER_BYTES // 2)
    assert len(unpack(BlockAnswer, answer(asked, OURS, lambda _: half)).blocks) == 2
    largest = bytes(BLOCK_BYTES_MAX)
    assert unpack(BlockAnswer, answer(asked, OURS, lambda _: largest)).blocks == (largest,)


def test_an_answer_ends_before_a_block_that_is_not_kept() -> None:
    asked = pack(BlockQuestion((OURS[0],)))
    kept = unpack(BlockAnswer, answer(asked, OURS, lambda name: None if name == OURS[4] else name)).blocks
    assert [*kept] == OURS[1:4]


def test_a_question_names_the_nearest_then_even_steps_then_doubling_ones_and_the_genesis() -> None:
    recent = list(reversed(OURS[1_000:1_100]))
    asked = unpack(BlockQuestion, question(recent, OURS[:1_001])).known
    places = [OURS.index(name) for name in asked]
    nearest, even, chain = places[:8], places[8:21], places[21:]
    assert nearest == [*range(1_099, 1_091, -1)]
    assert even == [*range(1_085, 1_000, -7)]
    assert chain == [1_000, 999, 997, 993, 985, 969, 937, 873, 745, 489, 0]
    assert unpack(BlockQuestion, question([OURS[0]], OURS[:1])).known == (OURS[0],)


@given(st.integers(1, 2_000), st.integers(0, 2_500))
def test_a_question_is_bounded_names_head_root_and_genesis_and_each_once(final: int, more: int) -> None:
    have = OURS[:1] + [named(number) for number in range(1, final + more)]
    asked = unpack(BlockQuestion, question(reversed(have[final - 1 :]), have[:final])).known
    assert len(asked) <= QUESTION_IDS
    assert len({*asked}) == len(asked)
    assert asked[0] == have[-1]
    assert asked[-1] == have[0]
    assert have[final - 1] in asked


@given(st.integers(1, 400), st.integers(0, 400), st.integers(0, 568), st.data())
def test_whoever_is_behind_or_on_another_branch_catches_up_in_rounds(
    final: int, common: int, forked: int, data: st.DataObject
) -> None:
    """The asker's branch is final for so many blocks, then common, then forked; it stops when it is sent nothing new."""
    ahead = data.draw(st.integers(0, 700))
    branch = OURS[: final + common + ahead]
    recent = OURS[final - 1 : final + common] + [theirs(number) for number in range(forked)]
    known = {*OURS[: final + common]}
    rounds = 0
    while sent := told(question(reversed(recent), OURS[:final]), branch):
        rounds += 1
        assert branch.index(sent[0]) == 0 or branch[branch.index(sent[0]) - 1] in known
        if not ({*sent} - known):
            break
        known |= {*sent}
        recent = branch[final - 1 : branch.index(sent[-1]) + 1]
    assert known >= {*branch}
    assert rounds <= 2 + ahead // ANSWER_BLOCKS
