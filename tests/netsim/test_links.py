"""The link model: tables that are the same everywhere, and options that make sense."""

from itertools import pairwise

import pytest

from consensus.encoding import encode
from netsim.links import LOSSY, PRIVATE, TOR, LinkModel, exponential, lognormal
from netsim.seeds import derive


def test_the_tables_are_quantiles_of_their_distributions() -> None:
    latencies = lognormal(250, 500)
    assert all(a <= b for a, b in pairwise(latencies))
    assert latencies[511] == latencies[512] == 250
    assert latencies[861] == 412  # median · √e, where the normal distribution has one sigma
    lives = exponential(1000)
    assert sum(lives) // len(lives) in range(990, 1001)
    assert lives[511] == 692  # the mean times ln 2


def test_the_tables_are_the_same_on_every_machine() -> None:
    assert (
        derive(0, encode([*lognormal(4000, 500), *exponential(4 * 3_600_000)])).getrandbits(64) == 11323563763151211493
    )


def test_the_presets_make_sense_and_nonsense_is_named() -> None:
    assert [model.complaints() for model in (TOR, PRIVATE, LOSSY)] == [[], [], []]
    wrong = LinkModel(loss=1001, latency_ms=0, life_ms=-1).complaints()
    assert [sentence.partition(" ")[0] for sentence in wrong] == ["loss", "latency_ms", "life_ms", "a"]


@pytest.mark.parametrize("sigma", [0, 1])
def test_without_spread_every_draw_is_the_median(sigma: int) -> None:
    assert set(lognormal(100, sigma)) == {100}
