"""Who may vote, from what checkpoints know: MONTHs of uptime, being paid once, and that nobody is forgotten who could."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.block import BlockBody
from consensus.electorate import Electorate, attended, elected, read_month, read_rest, spell_month, spell_rest
from consensus.eligibility import MONTHS
from consensus.encoding import Malformed, decode, encode
from consensus.facts import NOBODY, Listed, credits_entries, list_root, voters_entries
from consensus.ids import Address, NodeId
from consensus.payload import UNTOLD, credits_list, facts_of
from consensus.registry import Member, Pool, Registry, registry_of
from consensus.tally import Credit, HourCredits, Tally
from tests.consensus.worlds import Village, named

MONTH = 5
"""HOURs."""
A, B, C = (NodeId(named(number)) for number in (1, 2, 3))
ACCOUNTS = {node: Address(bytes([number]) * 20) for number, node in enumerate((A, B, C), 1)}
POOL = bytes(named(9))
POOLED = Address(b"\x99" * 20)


def member(node: NodeId, **changes: Any) -> Member:
    return Member(node, bytes(node), b"", b"", ACCOUNTS[node], 0, 0)._replace(**changes)


def registry(*members: Member, pools: dict[bytes, Pool] | None = None) -> Registry:
    return registry_of(1, members or [member(node) for node in (A, B, C)], pools or {})


def hour(number: int, **uptimes: int) -> HourCredits:
    nodes = {"a": A, "b": B, "c": C, "d": NodeId(named(4))}
    entries = [(bytes(nodes[name]), Credit(1, 0, 1, uptime)) for name, uptime in uptimes.items()]
    return HourCredits.of(number, sorted(entries))


def lived(hours: int, **uptimes: int) -> Electorate:
    """After so many HOURs that were all alike; everybody was paid once."""
    known = Electorate(paid=frozenset(ACCOUNTS.values()))
    for number in range(hours):
        known = attended(known, hour(number, **uptimes), registry(), MONTH)
    return known


def test_uptimes_add_up_by_months_of_which_four_are_kept() -> None:
    known = Electorate()
    for number in range(-3, 5 * MONTH + 2):
        known = attended(known, hour(number, a=number + 3, d=7), registry(), MONTH)
    sums = [sum(number + 3 for number in range(first, first + MONTH)) for first in range(2 * MONTH, 5 * MONTH, MONTH)]
    now = 5 * MONTH + 3 + 5 * MONTH + 4
    assert [dict(month) for month in known.months] == [{A: count} for count in (*sums, now)]
    assert attended(Electorate(), hour(-1, a=9), registry(), MONTH) == Electorate()
    assert attended(Electorate(), hour(7, a=0), registry(), MONTH) == Electorate(({},))  # begun in the midst of a MONTH


def test_a_node_votes_after_three_months_in_which_it_was_there_and_was_paid() -> None:
    whole = lived(3 * MONTH + 1, a=800, b=799, c=1_000)
    settled_to = 3 * MONTH

    def able(known: Electorate, among: Registry, gone: tuple[bytes, ...] = (), to: int = settled_to) -> set[Address]:
        return {account for account, may in elected(known, among, gone, to, MONTH).voters.items() if may}

    assert able(whole, registry()) == {ACCOUNTS[A], ACCOUNTS[C]}
    assert able(whole, registry(), (bytes(A),)) == {ACCOUNTS[C]}
    assert able(whole, registry(member(A, since=1), member(C))) == {ACCOUNTS[C]}
    assert able(replace(whole, paid=frozenset({ACCOUNTS[A]})), registry()) == {ACCOUNTS[A]}
    assert able(whole, registry(member(A), member(C, address=NOBODY))) == {ACCOUNTS[A]}
    assert able(whole, registry(member(A), member(C, address=ACCOUNTS[A]))) == {ACCOUNTS[A]}
    short = lived(3 * MONTH, a=1_000)  # the third MONTH is over, and nothing is settled of the next
    assert able(short, registry(), to=3 * MONTH - 1) == set()


def test_a_pools_members_have_earned_what_it_has_and_go_with_it() -> None:
    pools = {POOL: Pool((), 1, b"", POOLED)}
    among = registry(member(A, entity=POOL), member(B, entity=POOL), member(C), pools=pools)
    known = replace(lived(3 * MONTH + 1, a=1_000, b=900), paid=frozenset({POOLED}))
    assert elected(known, among, (), 3 * MONTH, MONTH).voters == {ACCOUNTS[A]: True, ACCOUNTS[B]: True}
    assert elected(known, among, (POOL,), 3 * MONTH, MONTH).voters == {}


def test_who_may_no_longer_stays_in_the_list_with_that() -> None:
    before = elected(lived(3 * MONTH + 1, a=1_000, c=1_000), registry(), (), 3 * MONTH, MONTH)
    later = elected(before, registry(member(C)), (), 3 * MONTH, MONTH)
    assert later.voters == {ACCOUNTS[A]: False, ACCOUNTS[C]: True}
    assert later.paid == {ACCOUNTS[A], ACCOUNTS[C]}  # of B, who is neither there nor was a voter, it is forgotten
    assert elected(later, registry(), (), 3 * MONTH, MONTH).voters == {ACCOUNTS[A]: True, ACCOUNTS[C]: True}
    assert len(before.months) == MONTHS + 1


@given(st.dictionaries(st.binary(min_size=32, max_size=32).map(NodeId), st.integers(0, (1 << 32) - 1), max_size=5))
def test_a_month_and_the_rest_are_spelled_and_read(month: dict[NodeId, int]) -> None:
    assert read_month(spell_month(month)) == month
    known = Electorate((month, {}), frozenset(ACCOUNTS.values()), {ACCOUNTS[A]: True, ACCOUNTS[B]: False})
    assert read_rest(known.months, decode(encode(spell_rest(known)))) == known
    with pytest.raises(Malformed):
        read_month(spell_month(month) + b"\0")


def test_whom_a_block_pays_is_known_by_the_next_hour_on() -> None:
    village = Village(2)
    members = [Member(one, one, one, one, account, 0, 0) for one, account in zip(village.nodes, ACCOUNTS.values())]  # noqa: B905
    first = village.after(village.genesis, 1)
    first = replace(first, recent=(replace(first.checkpoint, registry=registry_of(0, members, {})),))
    paid = village.after(first, 2, BlockBody())
    assert paid.payout is not None
    assert paid.happened.paid == {paid.payout.payee}
    assert village.at(paid, 4).checkpoint.electorate.paid == {paid.payout.payee}
    assert village.at(paid, 4).happened.paid == frozenset()


def test_contracts_are_told_of_the_last_settled_hour_and_of_who_may_vote() -> None:
    village = Village(2)
    state = village.genesis
    told = facts_of(state)
    assert (told.credits, told.voters) == (UNTOLD, UNTOLD)
    pools = {POOL: Pool((), 1, b"", POOLED)}
    among = registry(member(A), member(B, address=ACCOUNTS[A]), member(C, address=NOBODY), pools=pools)
    hours = (
        HourCredits(6),
        HourCredits.of(
            7,
            ((bytes(A), Credit(5, 0)), (bytes(B), Credit(6, 0)), (bytes(C), Credit(7, 0)), (bytes(named(4)), Credit(8, 0)), (POOL, Credit(3, 0)),
             (bytes(named(5)), Credit(0, 1))),
        ),
    )  # fmt: skip
    voters = {ACCOUNTS[C]: False, ACCOUNTS[A]: True}
    checkpoint = replace(
        state.checkpoint, registry=among, tally=Tally(hours, {}), electorate=Electorate((), frozenset(), voters)
    )
    told = facts_of(replace(state, recent=(checkpoint,)))
    credited = {ACCOUNTS[A]: 11, POOLED: 3}
    assert credits_list(checkpoint) == (7, credited)
    assert told.credits == Listed(7, list_root(credits_entries(credited)), 2)
    assert told.voters == Listed(1, list_root(voters_entries(voters)), 2)
    nothing = replace(checkpoint, tally=Tally((HourCredits(8),), {}))
    assert facts_of(replace(state, recent=(nothing,))).credits == UNTOLD
    assert credits_list(state.checkpoint) == (-1, {})
