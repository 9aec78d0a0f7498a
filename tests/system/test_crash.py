"""Kill −9 the recorder of a real desktop; `./lucid crash` does it more often."""

import pytest

from tests.system.crash import PROMISE_MS, crash_rounds

pytestmark = pytest.mark.system


async def test_nothing_older_than_two_seconds_is_lost_when_the_recorder_is_killed() -> None:
    outcome = await crash_rounds(20, seed=20261123)
    assert outcome.broken == []
    assert outcome.rounds == 20
    assert len(outcome.lost_ms) >= 10, outcome.summary()
    assert max(outcome.lost_ms) <= PROMISE_MS
    assert max(outcome.chunks) > 2, "no kill fell behind a cut"
