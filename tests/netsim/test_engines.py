"""The engines of the bench play one protocol: what is compared there is the engines and nothing else."""

import pytest

from tests.bench.engines import ENGINES, RUMOURS, in_world


@pytest.mark.parametrize("nodes", [2, 15])
def test_all_engines_play_the_same_and_everybody_knows_all(nodes: int) -> None:
    played = [engine(nodes, 40_000) for engine in ENGINES.values()]
    assert len({one.events for one in played}) == 1
    assert [one.kept for one in played] == [played[0].kept] * len(played)
    assert {one.known() for one in played} == {RUMOURS * nodes}
    events, known = in_world(nodes, 40_000)
    assert known == RUMOURS * nodes
    assert events > played[0].events  # connections come up, too
