"""The draw: its vectors, its fairness, and that the quick way finds what the definition says."""

import json
import math
from collections import Counter
from decimal import Decimal, localcontext
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from consensus import schedule
from consensus.ids import Digest, Network
from consensus.params import RANKS, LeaderRule
from consensus.schedule import cooldown, draw_key, drawing, log2fix, ranks, sortition_exact, uniform

NETWORK = Network(bytes(range(32)))
SEED = Digest(bytes(32))
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "schedule_v1.json").read_text())

weights = st.dictionaries(st.binary(min_size=32, max_size=32), st.integers(0, 1 << 60), max_size=40)


def entities(count: int) -> list[bytes]:
    return [number.to_bytes(32, "big") for number in range(count)]


@pytest.mark.parametrize("vector", VECTORS["log2fix"], ids=lambda vector: f"{vector[0]}")
def test_logarithms_are_those_of_the_vectors(vector: tuple[str, int]) -> None:
    assert log2fix(int(vector[0])) == vector[1]


@pytest.mark.parametrize("vector", VECTORS["draws"], ids=lambda vector: f"slot {vector['slot']}, {vector['rule']}")
def test_draws_are_those_of_the_vectors(vector: dict[str, object]) -> None:
    given_weights = {bytes.fromhex(entity): weight for entity, weight in vector["weights"].items()}  # type: ignore[attr-defined]
    resting = {bytes.fromhex(entity) for entity in vector["resting"]}  # type: ignore[attr-defined]
    seed, rule = Digest(bytes.fromhex(str(vector["seed"]))), LeaderRule[str(vector["rule"]).upper()]
    drawn = ranks(rule, NETWORK, seed, int(str(vector["slot"])), given_weights, resting)
    assert [entity.hex() for entity in drawn] == vector["ranks"]


@given(st.integers(1, 1 << 64))
def test_a_logarithm_is_below_the_true_one_by_less_than_a_two_to_the_thirtieth(number: int) -> None:
    with localcontext() as context:
        context.prec = 40
        true = Decimal(number).ln() / Decimal(2).ln() * (1 << 32)
    rounding = Decimal("1e-20")  # of the forty digits: a power of two comes out a little below itself
    assert -rounding <= true - log2fix(number) < 4


@given(st.integers(0, 64))
def test_the_logarithm_of_a_power_of_two_is_exact(power: int) -> None:
    assert log2fix(1 << power) == power << 32
    assert draw_key(1 << power, 1) == (64 - power) << 96


def test_a_number_is_one_more_than_eight_bytes_of_the_hash() -> None:
    start, entity = drawing(NETWORK, SEED, 7), entities(1)[0]
    hashed = blake3(b"lucid/draw/v1" + NETWORK + SEED + (7).to_bytes(8, "big") + entity).digest()
    assert uniform(start, entity) == 1 + int.from_bytes(hashed[:8], "big")


@given(weights, st.integers(0, 1 << 63))
def test_the_quick_draw_is_the_draw_as_defined(able: dict[bytes, int], slot: int) -> None:
    drawn = ranks(LeaderRule.SORTITION, NETWORK, SEED, slot, able)
    positive = {entity: weight for entity, weight in able.items() if weight}
    assert drawn == sortition_exact(drawing(NETWORK, SEED, slot), positive)
    assert len(drawn) == min(RANKS, len(positive)) == len(set(drawn))


def test_the_quick_draw_is_the_draw_as_defined_among_thousands_alike() -> None:
    able = dict.fromkeys(entities(3_000), 7)
    for slot in range(20):
        assert ranks(LeaderRule.SORTITION, NETWORK, SEED, slot, able) == sortition_exact(
            drawing(NETWORK, SEED, slot), able
        )


@given(weights, st.integers(0, 1 << 63), st.sets(st.integers(0, 40)))
def test_a_draw_that_looked_at_too_few_begins_anew(able: dict[bytes, int], slot: int, tired: set[int]) -> None:
    resting = {entity for number, entity in enumerate(able) if number in tired}
    awake = {entity: weight for entity, weight in able.items() if weight and entity not in resting}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("consensus.schedule._NEAR", 2)
        drawn = ranks(LeaderRule.SORTITION, NETWORK, SEED, slot, able, resting)
    assert drawn == sortition_exact(drawing(NETWORK, SEED, slot), awake)


@pytest.mark.parametrize("near", [1, 3, 6, 9])
def test_a_draw_stops_only_where_nobody_it_left_out_can_be_ahead(near: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consensus.schedule._NEAR", near)
    # A few heavy ones, whose keys are far above what a straight line says, among light ones that it leaves out.
    able = {entity: 40 if number < 7 else 1 for number, entity in enumerate(entities(200))}
    for slot in range(300):
        assert ranks(LeaderRule.SORTITION, NETWORK, SEED, slot, able) == sortition_exact(
            drawing(NETWORK, SEED, slot), able
        )


def test_what_a_key_beyond_reach_is_at_least_is_rounded_down() -> None:
    with localcontext() as context:
        context.prec = 40
        assert int(2**32 / Decimal(2).ln()) == schedule._PER_LN2


@pytest.mark.parametrize("rule", LeaderRule)
def test_who_weighs_nothing_or_rests_has_no_rank(rule: LeaderRule) -> None:
    first, second, third, fourth = entities(4)
    able = {first: 0, second: 1, third: 1, fourth: 1}
    assert {*ranks(rule, NETWORK, SEED, 5, able)} == {second, third, fourth}
    assert {*ranks(rule, NETWORK, SEED, 5, able, {third})} == {second, fourth}
    assert ranks(rule, NETWORK, SEED, 5, {first: 0}) == ranks(rule, NETWORK, SEED, 5, {}) == ()


def test_whoever_is_ahead_by_what_only_integers_can_tell_leads() -> None:
    for slot in range(20, 40):
        start = drawing(NETWORK, SEED, slot)
        costs = {entity: draw_key(uniform(start, entity), 1) >> 64 for entity in entities(40)}
        alike = {entity: cost << 20 for entity, cost in costs.items()}  # so that all keys are the same
        assert ranks(LeaderRule.SORTITION, NETWORK, SEED, slot, alike) == tuple(entities(RANKS))
        for entity, weight in alike.items():
            ahead = alike | {entity: weight + 1}
            assert ranks(LeaderRule.SORTITION, NETWORK, SEED, slot, ahead)[0] == entity


def test_of_thousands_only_those_near_the_best_have_their_keys_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []

    def noted(number: int, weight: int) -> int:
        computed.append(number)
        return draw_key(number, weight)

    monkeypatch.setattr(schedule, "draw_key", noted)
    able = dict.fromkeys(entities(3_000), 1 << 40)
    for slot in range(10):
        ranks(LeaderRule.SORTITION, NETWORK, SEED, slot, able)
    assert 10 * RANKS <= len(computed) <= 10 * 48  # twice the 24 that are looked at in the mean


@given(weights, st.randoms(use_true_random=False), st.sampled_from(LeaderRule))
def test_neither_the_order_of_entities_nor_who_rests_or_weighs_nothing_changes_the_others(
    able: dict[bytes, int], rng: "object", rule: LeaderRule
) -> None:
    drawn = ranks(rule, NETWORK, SEED, 5, able)
    shuffled = list(able.items())
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert ranks(rule, NETWORK, SEED, 5, dict(shuffled)) == drawn
    if drawn:
        without = ranks(rule, NETWORK, SEED, 5, able, resting={drawn[0]})
        assert drawn[0] not in without
        if rule is not LeaderRule.BANDS:  # whose bands are relative to the largest that does not rest
            assert without[: len(drawn) - 1] == drawn[1:]


def test_who_leads_is_who_has_the_weight() -> None:
    able = dict(zip(entities(5), (1, 2, 3, 4, 10), strict=True))
    slots = 20_000
    led = Counter(ranks(LeaderRule.SORTITION, NETWORK, SEED, slot, able)[0] for slot in range(slots))
    for entity, weight in able.items():
        share = weight / 20
        assert abs(led[entity] / slots - share) < 5 * math.sqrt(share * (1 - share) / slots)


def test_splitting_work_among_identities_changes_no_share_of_the_draw() -> None:
    honest = dict.fromkeys(entities(8), 100)
    split = {b"\xff" + number.to_bytes(31, "big"): 10 for number in range(10)}
    slots = 20_000
    led = Counter(ranks(LeaderRule.SORTITION, NETWORK, SEED, slot, honest | split)[0] in split for slot in range(slots))
    assert abs(led[True] / slots - 1 / 9) < 5 * math.sqrt(8 / 81 / slots)


def test_rank_takes_the_most_work_and_bands_draw_among_those_nearly_alike() -> None:
    able = dict(zip(entities(20), range(1_000, 1_020), strict=True))
    assert ranks(LeaderRule.RANK, NETWORK, SEED, 1, able) == tuple(reversed(entities(20)[-RANKS:]))
    first = {ranks(LeaderRule.BANDS, NETWORK, SEED, slot, able)[0] for slot in range(400)}
    assert first == {*entities(20)}


def test_a_band_is_a_sixteenth_of_the_most_weight_and_one() -> None:
    able = dict(zip(entities(5), (31, 30, 17, 16, 15), strict=True))
    best, second, below, lower, last = entities(5)
    drawn = {ranks(LeaderRule.BANDS, NETWORK, SEED, slot, able) for slot in range(60)}
    assert drawn == {
        (*upper, *middle, last)
        for upper in ((best, second), (second, best))
        for middle in ((below, lower), (lower, below))
    }


def test_who_published_rests_for_an_eighth_of_as_many_slots_as_there_are_alike() -> None:
    assert [cooldown(dict.fromkeys(entities(count), 5), 64) for count in (0, 7, 8, 15, 16, 511, 512, 999)] == [
        *(0, 0, 1, 1, 2, 63, 64, 64)
    ]
    assert cooldown(dict.fromkeys(entities(9), 0), 64) == 0


@given(st.lists(st.integers(0, 1 << 50), max_size=30), st.integers(0, 64))
def test_a_cooldown_lets_an_eighth_of_the_weight_rest_at_most(shares: list[int], slots: int) -> None:
    able = dict(zip(entities(len(shares)), shares, strict=True))
    resting = cooldown(able, slots)
    assert 0 <= resting <= slots
    assert 8 * resting * max(shares, default=0) <= sum(shares)
