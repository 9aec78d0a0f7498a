"""A month's money: the specification's two examples to the unit, and that not a millionth of a USDT is lost or made."""

from collections.abc import Mapping
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.ids import Address
from consensus.revenue import (
    PAYABLE_MIN,
    USDT,
    Books,
    MonthClose,
    Payment,
    close_month,
    goal,
    rate,
    settle,
    shares,
    split,
)
from consensus.reward import LUCID

addresses = st.integers(0, 7).map(lambda number: Address(bytes((number,)) * 20))
balances = st.one_of(st.integers(0, 3), st.integers(0, 1000 * LUCID))
snapshots = st.dictionaries(addresses, balances, max_size=8)
incomes = st.one_of(st.integers(0, 1000), st.integers(0, 10_000_000 * USDT))
rolled = st.dictionaries(addresses, st.integers(1, PAYABLE_MIN - 1))
states = st.builds(Books, st.integers(0, 60_000_000 * USDT), st.integers(1, 6), st.integers(0, 10**7), rolled)

HOLDER, REST = Address(b"h" * 20), Address(b"r" * 20)
EXAMPLE = {HOLDER: 10_000 * LUCID, REST: 990_000 * LUCID}


def worth(books: Books) -> int:
    return books.vault + books.dust + sum(books.rolled.values())


def spent(month: MonthClose) -> int:
    return month.split.tax + month.split.management + sum(month.entitlements.values())


def test_the_specifications_first_example_with_a_goal_reached() -> None:
    month = close_month(Books(vault=20_000_000 * USDT), 100_000 * USDT, EXAMPLE)
    assert month.split == (18_000 * USDT, 2_000 * USDT, 40_000 * USDT, 40_000 * USDT)
    assert month.stimulus == 2_000_000 * USDT
    assert month.distributable == 2_040_000 * USDT
    assert rate(month.distributable, 1_000_000 * LUCID) == 2_040_000
    assert month.entitlements == {HOLDER: 20_400 * USDT, REST: 2_019_600 * USDT}
    assert month.books == Books(vault=18_040_000 * USDT, goal=2)
    assert goal(month.books.goal) == 25_000_000 * USDT


def test_the_specifications_second_example_without_a_stimulus() -> None:
    month = close_month(Books(vault=20_000_000 * USDT - 1), 100_000 * USDT, EXAMPLE)
    assert month.distributable == 40_000 * USDT
    assert rate(month.distributable, 1_000_000 * LUCID) == 40_000
    assert month.entitlements[HOLDER] == 400 * USDT
    assert month.books == Books(vault=20_040_000 * USDT - 1, goal=1), "the month's own part is compared the month after"


def test_a_vault_beyond_several_goals_gives_for_one_a_month() -> None:
    books, given_up = Books(vault=100_000_000 * USDT), []
    for _ in range(4):
        month = close_month(books, 0, {})
        given_up.append(month.stimulus // USDT)
        books = month.books
    assert given_up == [2_000_000, 2_500_000, 3_000_000, 3_500_000]
    assert books == Books(vault=89_000_000 * USDT, goal=5, dust=11_000_000 * USDT)


@given(incomes)
def test_the_four_parts_are_the_income_and_rounding_favours_the_holders(income: int) -> None:
    parts = split(income)
    assert sum(parts) == income
    ideal = [Fraction(income * part, 100) for part in (18, 2, 40, 40)]
    assert all(0 <= due - part < 1 for part, due in zip(parts[:3], ideal[:3], strict=True))
    assert 0 <= parts.distributable - ideal[3] < 3


@given(states, incomes, snapshots)
def test_every_unit_is_paid_or_in_the_books(books: Books, income: int, snapshot: Mapping[Address, int]) -> None:
    month = close_month(books, income, snapshot)
    assert spent(month) + worth(month.books) == income + worth(books)
    assert sum(month.split) == income
    assert all(gross >= PAYABLE_MIN for gross in month.entitlements.values())
    assert all(0 < gross < PAYABLE_MIN for gross in month.books.rolled.values())
    assert not month.entitlements.keys() & month.books.rolled.keys()
    assert month.books.vault >= 0
    assert 0 <= month.books.dust < max(1, len(snapshot)) or not sum(snapshot.values())


@given(st.integers(0, 10**13), snapshots)
def test_a_share_is_the_exact_one_rounded_down(distributable: int, snapshot: Mapping[Address, int]) -> None:
    total = sum(snapshot.values())
    found = shares(distributable, snapshot)
    assert sum(found.values()) <= distributable
    assert all(
        0 <= Fraction(distributable * snapshot[holder], total) - share < 1 and share >= 0
        for holder, share in found.items()
    )
    assert found.keys() == (snapshot.keys() if total else set())


@given(states, incomes, snapshots, st.data())
def test_no_order_of_holders_matters(
    books: Books, income: int, snapshot: Mapping[Address, int], data: st.DataObject
) -> None:
    month = close_month(books, income, snapshot)
    mixed = dict(data.draw(st.permutations(list(snapshot.items()))))
    earlier = books._replace(rolled=dict(data.draw(st.permutations(list(books.rolled.items())))))
    again = close_month(earlier, income, mixed)
    assert again == month
    assert list(again.entitlements.items()) == sorted(month.entitlements.items())
    assert list(again.books.rolled.items()) == sorted(month.books.rolled.items())


@given(st.lists(st.tuples(st.integers(0, 100 * USDT), snapshots), max_size=6))
def test_rolling_over_loses_nothing_for_anybody_in_half_a_year(months: list[tuple[int, Mapping[Address, int]]]) -> None:
    books = Books()
    due = {Address(bytes((number,)) * 20): 0 for number in range(8)}
    got = dict(due)
    for income, snapshot in months:
        month = close_month(books, income, snapshot)
        for holder, share in shares(month.distributable, snapshot).items():
            due[holder] += share
        for holder, gross in month.entitlements.items():
            got[holder] += gross
        books = month.books
    assert due == {holder: got[holder] + books.rolled.get(holder, 0) for holder in due}


def test_less_than_ten_usdt_waits_until_it_is_ten() -> None:
    books = Books()
    seen = []
    for snapshot in ({HOLDER: 1, REST: 9}, {HOLDER: 1}, {REST: 1}):
        month = close_month(books, 20 * USDT, snapshot)  # 8 to distribute
        books = month.books
        seen.append((month.entitlements, books.rolled))
    assert seen == [
        ({}, {HOLDER: 800_000, REST: 7_200_000}),
        ({}, {HOLDER: 8_800_000, REST: 7_200_000}),
        ({REST: 15_200_000}, {HOLDER: 8_800_000}),
    ]
    exact = close_month(books, 3 * USDT, {HOLDER: 1})
    assert exact.entitlements == {HOLDER: 10 * USDT}, "ten itself is paid"


@given(incomes, incomes, incomes)
def test_a_payment_and_its_fees_are_the_entitlement(gross: int, network_fee: int, platform_fee: int) -> None:
    payment = settle(gross, network_fee, platform_fee)
    assert sum(payment) == gross
    assert min(payment) >= 0
    assert payment.net == max(0, gross - network_fee - platform_fee)
    assert payment.network_fee == min(gross, network_fee), "energy is spent whatever the platform gets"


def test_amounts_below_nothing_are_refused() -> None:
    assert settle(400 * USDT, 3 * USDT, USDT) == Payment(396 * USDT, 3 * USDT, USDT)
    with pytest.raises(ValueError, match="income"):
        split(-1)
    with pytest.raises(ValueError, match="balance"):
        close_month(Books(), 0, {HOLDER: 2, REST: -1})
    for amounts in ((-1, 0, 0), (0, -1, 0), (0, 0, -1)):
        with pytest.raises(ValueError, match="fee"):
            settle(*amounts)
