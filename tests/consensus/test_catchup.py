"""Catching up: answers follow the newest block that both know, are bounded, and bring whoever is behind to the head."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.ancestry import REMEMBERED, Ancestry, key_of
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


def past(chain: list[Digest]) -> Ancestry:
    """A final chain, most of which is in rows."""
    rows: dict[tuple[str, bytes], bytes] = {("chain", key_of(height)): name for height, name in enumerate(chain)}
    rows |= {("heights", name): key_of(height) for height, name in enumerate(chain)}
    return Ancestry(chain[0], chain[-1], len(chain) - 1, lambda *row: rows.get(row))


def reply(asked: bytes, branch: list[Digest], stored: Callable[[Digest], bytes | None]) -> list[bytes]:
    """The answer by one whose branch is final up to its middle."""
    final = len(branch) // 2
    return [*unpack(BlockAnswer, answer(asked, past(branch[: final + 1]), branch[final:], stored)).blocks]


def told(asked: bytes, branch: list[Digest]) -> list[Digest]:
    """What is answered where a block's bytes are its name."""
    return [Digest(data) for data in reply(asked, branch, lambda name: name)]


def test_an_answer_follows_the_newest_block_that_both_know() -> None:
    asked = pack(BlockQuestion((theirs(9), OURS[7], OURS[3], OURS[0])))
    assert told(asked, OURS[:12]) == OURS[8:12]
    assert told(asked, OURS[:8]) == []
    assert told(asked, OURS[:5]) == [OURS[4]]


def test_a_stranger_is_answered_nothing() -> None:
    assert told(pack(BlockQuestion(())), OURS) == []
    assert told(pack(BlockQuestion((theirs(0),))), OURS) == []
    with pytest.raises(Malformed):
        reply(b"\xff", OURS, lambda name: name)


def test_an_answer_is_bounded_in_blocks_and_in_bytes() -> None:
    asked = pack(BlockQuestion((OURS[0],)))
    assert told(asked, OURS) == OURS[1 : 1 + ANSWER_BLOCKS]
    third = bytes(ANSWER_BYTES // 3)
    assert len(reply(asked, OURS, lambda _: third)) == 3
    assert len(reply(asked, OURS, lambda _: third + b"\0")) == 2
    half = bytes(ANSWER_BYTES // 2)
    assert len(reply(asked, OURS, lambda _: half)) == 2
    largest = bytes(BLOCK_BYTES_MAX)
    assert reply(asked, OURS, lambda _: largest) == [largest]


def test_an_answer_ends_before_a_block_that_is_not_kept() -> None:
    asked = pack(BlockQuestion((OURS[0],)))
    kept = reply(asked, OURS, lambda name: None if name == OURS[4] else name)
    assert kept == OURS[1:4]


def test_a_question_names_the_nearest_then_even_steps_then_doubling_ones_and_the_genesis() -> None:
    recent = list(reversed(OURS[1_000:1_100]))
    asked = unpack(BlockQuestion, question(recent, past(OURS[:1_001]))).known
    places = [OURS.index(name) for name in asked]
    nearest, even, chain = places[:8], places[8:21], places[21:]
    assert nearest == [*range(1_099, 1_091, -1)]
    assert even == [*range(1_085, 1_000, -7)]
    assert chain == [1_000, 999, 997, 993, 985, 969, 937, 873, 745, 489, 0]
    assert unpack(BlockQuestion, question([OURS[0]], past(OURS[:1]))).known == (OURS[0],)


@given(st.integers(1, 2_000), st.integers(0, 2_500))
def test_a_question_is_bounded_names_head_root_and_genesis_and_each_once(final: int, more: int) -> None:
    have = OURS[:1] + [named(number) for number in range(1, final + more)]
    asked = unpack(BlockQuestion, question(reversed(have[final - 1 :]), past(have[:final]))).known
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
    while sent := told(question(reversed(recent), past(OURS[:final])), branch):
        rounds += 1
        assert branch.index(sent[0]) == 0 or branch[branch.index(sent[0]) - 1] in known
        if not ({*sent} - known):
            break
        known |= {*sent}
        recent = branch[final - 1 : branch.index(sent[-1]) + 1]
    assert known >= {*branch}
    assert rounds <= 2 + ahead // ANSWER_BLOCKS


def test_a_chain_that_grows_knows_every_height_and_reads_rows_of_old_ones_alone() -> None:
    rows: dict[tuple[str, bytes], bytes] = {}
    asked: list[tuple[str, bytes]] = []

    def stored(*row: Any) -> bytes | None:
        asked.append(row)
        return rows.get(row)

    made = Ancestry(OURS[0], OURS[0], 0, stored)
    kept = [*made.extend(OURS[1:])]
    assert made.height == len(OURS) - 1
    assert [made.at(height) for height in range(len(OURS) - REMEMBERED, len(OURS))] == OURS[-REMEMBERED:]
    assert [made.height_of(name) for name in OURS[-REMEMBERED:]] == [*range(len(OURS) - REMEMBERED, len(OURS))]
    assert (made.at(0), made.height_of(OURS[0]), asked) == (OURS[0], 0, [])
    assert (made.at(5), made.height_of(OURS[5])) == (None, None), "its rows are lost"
    rows |= {(one.table, bytes(one.key[0])): one.value or b"" for one in kept if isinstance(one.key[0], bytes)}
    assert (made.at(5), made.height_of(OURS[5])) == (OURS[5], 5)
    assert (made.at(len(OURS)), made.height_of(theirs(1))) == (None, None)
    again = Ancestry(OURS[0], OURS[7], 7, stored)
    assert [*again._above()] == OURS[8:]
    assert again.at(8) is None, "not final in this life as yet"
