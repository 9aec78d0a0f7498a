"""Where a month's income goes, to the last millionth of a USDT, and what each holder of LUCID is entitled to.

    income ─┬─ 18 % tax
            ├─  2 % management
            ├─ 40 % holdings vault ←┐ 10 % of Goal_k, once the vault has reached it
            └─ 40 % distributable ←─┴── dust of the month before
    distributable ── by snapshot balance, rounded down ──→ shares ── + rolled over ──→ entitlements of 10 USDT and more

Nothing is lost: what does not divide goes on in `Books`, and parts and books add up to books before and income. All money
is in µUSDT; a USDT is a USD. LUCID are base units, of which only the ratios matter.

Source: SPEC §6.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from consensus.ids import Address
from consensus.reward import LUCID

USDT: Final = 1_000_000
"""µUSDT of a USDT: a TRC-20 transfer's own unit."""

TAX, MANAGEMENT, VAULT = 18, 2, 40
"""Hundredths of the income; the rest, 40 and what does not divide, is distributable."""

GOAL_FIRST: Final = 20_000_000 * USDT
GOAL_STEP: Final = 5_000_000 * USDT

STIMULUS: Final = 10
"""The vault gives a tenth of a goal."""

PAYABLE_MIN: Final = 10 * USDT
"""Who is entitled to less, before fees, is paid when it is more."""


class Split(NamedTuple):
    """The four parts of an income, in µUSDT."""

    tax: int
    management: int
    vault: int
    distributable: int


class Books(NamedTuple):
    """What goes on from month to month: the vault, the number of the next goal, and what was not paid out."""

    vault: int = 0
    goal: int = 1
    dust: int = 0
    """What did not divide among the holders; below one µUSDT a holder, or a whole month's where there were none."""
    rolled: Mapping[Address, int] = {}
    """Entitlements below 10 USDT, in the order of addresses."""


class MonthClose(NamedTuple):
    """A month's result, in µUSDT."""

    split: Split
    stimulus: int
    """What the vault gave."""
    distributable: int
    """The split's, the stimulus and the last month's dust."""
    entitlements: Mapping[Address, int]
    """Gross, 10 USDT and more, in the order of addresses: the leaves of the month's Merkle tree."""
    books: Books
    """As they are after the month."""


class Payment(NamedTuple):
    """How an entitlement is paid, in µUSDT: its three parts add up to it."""

    net: int
    network_fee: int
    platform_fee: int


def split(income: int) -> Split:
    """The parts of an income, rounded down but for the distributable, which takes what is left.

    So the holders gain by rounding, less than 3 µUSDT, and nobody who keeps the books does. Raises ValueError for an income
    below 0.
    """
    if income < 0:
        raise ValueError("an income is not below 0")
    tax, management, vault = (income * part // 100 for part in (TAX, MANAGEMENT, VAULT))
    return Split(tax, management, vault, income - tax - management - vault)


def goal(number: int) -> int:
    """Goal_k in µUSDT, k from 1: 20 M, 25 M, 30 M, …"""
    return GOAL_FIRST + (number - 1) * GOAL_STEP


def close_month(books: Books, income: int, snapshot: Mapping[Address, int]) -> MonthClose:
    """A month's parts, entitlements and books, from its income in µUSDT and the balances of its snapshot.

    The goal is compared with the vault before the month's own 40 % accrues, and one goal a month at most is reached: SPEC's
    first example has 18 M "after the stimulus", to which they are added. A holder that sold everything keeps what rolled
    over. Raises ValueError for an income or a balance below 0.
    """
    if min(snapshot.values(), default=0) < 0:
        raise ValueError("a balance is not below 0")
    parts = split(income)
    reached = books.vault >= goal(books.goal)
    stimulus = goal(books.goal) // STIMULUS if reached else 0
    distributable = parts.distributable + stimulus + books.dust
    due = shares(distributable, snapshot)
    dust = distributable - sum(due.values())
    for holder, amount in books.rolled.items():
        due[holder] = due.get(holder, 0) + amount
    ordered = sorted(due.items())
    return MonthClose(
        parts,
        stimulus,
        distributable,
        {holder: gross for holder, gross in ordered if gross >= PAYABLE_MIN},
        Books(
            books.vault - stimulus + parts.vault,
            books.goal + reached,
            dust,
            {holder: gross for holder, gross in ordered if 0 < gross < PAYABLE_MIN},
        ),
    )


def shares(distributable: int, snapshot: Mapping[Address, int]) -> dict[Address, int]:
    """Each holder's part in proportion to its balance, in µUSDT, rounded down; empty when nobody holds anything.

    By the product and not by `rate`: a rate that was rounded first would lose up to a µUSDT a token.
    """
    total = sum(snapshot.values())
    if total == 0:
        return {}
    return {holder: distributable * balance // total for holder, balance in snapshot.items()}


def rate(distributable: int, supply: int) -> int:
    """µUSDT a whole LUCID, rounded down, for people to read; supply is the sum of a snapshot's balances, above 0."""
    return distributable * LUCID // supply


def settle(gross: int, network_fee: int, platform_fee: int) -> Payment:
    """Net = gross − network fee − platform fee, never below 0: fees are cut to what there is, the platform's first.

    A net of 0 is not worth a transfer; the entitlement can wait for lower fees. Raises ValueError for amounts below 0.
    """
    if min(gross, network_fee, platform_fee) < 0:
        raise ValueError("neither an entitlement nor a fee is below 0")
    network = min(network_fee, gross)
    platform = min(platform_fee, gross - network)
    return Payment(gross - network - platform, network, platform)
