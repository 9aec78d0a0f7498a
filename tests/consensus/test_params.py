from dataclasses import fields, replace

import pytest

from consensus.params import DEVNET, MAINNET, Params, bounds, complaints, settled_hours


@pytest.mark.parametrize("params", [MAINNET, DEVNET])
def test_the_values_of_both_kinds_of_network_are_within_their_bounds(params: Params) -> None:
    assert complaints(params) == []


def test_every_parameter_has_bounds_and_each_is_checked_on_both_sides() -> None:
    assert [field.name for field in fields(Params)] == list(bounds())
    for name, limit in bounds().items():
        for value in (limit.low - 1, limit.high + 1):
            wrong = complaints(replace(MAINNET, **{name: value}))  # type: ignore[arg-type]  # a name of many types
            assert (
                f"{name} is {value}: from {limit.low} to {limit.high} {limit.unit} (CONSENSUS {limit.section})" in wrong
            )


def test_ranks_come_before_votes_and_votes_well_before_the_slot_ends() -> None:
    assert complaints(replace(MAINNET, rank_ms=7_500)) == ["six times rank_ms has to be below vote_ms (CONSENSUS §1)"]
    assert complaints(replace(MAINNET, vote_ms=80_000)) == [
        "vote_ms has to be below two thirds of a slot (CONSENSUS §1)"
    ]
    assert complaints(replace(MAINNET, era_hours=721)) == ["an ERA is no longer than a MONTH (CONSENSUS §1)"]


def test_an_hour_is_settled_when_no_report_of_it_can_come_any_more() -> None:
    assert settled_hours(MAINNET) == 4  # 72 slots are 2.4 HOURs
    assert settled_hours(DEVNET) == 3
    assert settled_hours(replace(MAINNET, report_slots=60)) == 3
