"""The mempool: what can go first goes first, nobody fills it for others, and what a head has is let go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import Malformed
from consensus.ids import Address
from node.chain import mempool
from node.chain.mempool import ACCOUNT_MOST, AHEAD_MOST, Known, Mempool
from node.chain.transactions import Transaction

COINS = 10**18


def account(number: int) -> Address:
    return Address(number.to_bytes(20, "big"))


def one(
    sender: int, nonce: int, tip: int = 1, gas: int = 21_000, size: int = 100, fee: int = 1_000
) -> tuple[Transaction, bytes]:
    data = b"%d/%d/%d/%d/" % (sender, nonce, tip, fee) + bytes(size)
    return Transaction(account(sender), nonce, tip, fee, gas, account(99), 0, b"", data[:32], len(data)), data


def filled(*transactions: tuple[Transaction, bytes], rich: int = 10) -> Mempool:
    pool = Mempool()
    pool.settle({account(number): (0, COINS) for number in range(rich)})
    for made in transactions:
        pool.take(*made)
    return pool


CALLS = st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 9), st.sampled_from([21_000, 7_000_000]))


@given(st.lists(CALLS, max_size=40))
def test_a_block_has_each_accounts_numbers_in_order_without_a_gap_and_fits(
    calls: list[tuple[int, int, int, int]],
) -> None:
    pool, kept = filled(), dict[bytes, Transaction]()
    for sender, nonce, tip, gas in calls:
        made, data = one(sender, nonce, tip, gas)
        try:
            pool.take(made, data)
        except (Known, Malformed):
            continue
        kept = {
            **{have: what for have, what in kept.items() if (what.sender, what.nonce) != (made.sender, made.nonce)},
            data: made,
        }
    assert len(pool) == len(kept)
    best = [kept[data] for data in pool.best(7)]
    for whose in {made.sender for made in best}:
        mine = [made.nonce for made in best if made.sender == whose]
        assert mine == [*range(len(mine))]
    assert sum(made.gas for made in best) <= 15_000_000
    left = [made for made in kept.values() if made not in best]
    for made in left:  # it has to wait for a number, or for room
        before = [*(other for other in best if other.sender == made.sender)]
        assert made.nonce != len(before) or made.gas == 7_000_000
    assert pool.best(7, without=[made.sender for made in kept.values()]) == []


def test_who_gives_more_goes_first_and_what_does_not_pay_the_base_fee_waits() -> None:
    poor, rich, thrifty = one(1, 0, 1), one(2, 0, 5), one(3, 0, 9, fee=20)
    pool = filled(poor, rich, thrifty)
    assert pool.best(7) == [thrifty[1], rich[1], poor[1]]
    assert pool.best(18) == [rich[1], thrifty[1], poor[1]]
    assert pool.best(21) == [rich[1], poor[1]]


def test_another_transaction_takes_a_numbers_place_for_ten_percent_more_of_both() -> None:
    first = one(1, 0, tip=100)
    pool = filled(first)
    for tip, fee in ((100, 1_100), (109, 1_100), (110, 1_099)):
        with pytest.raises(Malformed, match="to replace it give 10 % more"):
            pool.take(*one(1, 0, tip=tip, fee=fee))
    better = one(1, 0, tip=110, fee=1_100)
    pool.take(*better)
    assert pool.best(7) == [better[1]]
    assert (len(pool), first[0].hash in pool, pool.get(better[0].hash)) == (1, False, better[1])
    with pytest.raises(Known):
        pool.take(*better)


def test_an_account_has_no_more_than_its_share_and_lower_numbers_come_first() -> None:
    pool = filled(*(one(1, nonce) for nonce in range(1, ACCOUNT_MOST + 1)))
    with pytest.raises(Malformed, match="too far ahead"):
        pool.take(*one(1, AHEAD_MOST + 1))
    pool.take(*one(1, 0))
    assert len(pool.best(7)) == ACCOUNT_MOST
    with pytest.raises(Malformed, match="wait already"):
        pool.take(*one(1, ACCOUNT_MOST))
    assert pool.next_nonce(account(1), 0) == ACCOUNT_MOST


def test_what_is_spent_or_unpayable_is_refused_and_goes_when_a_head_says_so() -> None:
    pool = filled(one(1, 0), one(1, 1), one(2, 0))
    with pytest.raises(Malformed, match="0 wei, and this takes"):
        _poor().take(*one(1, 0))
    pool.settle({account(1): (1, COINS), account(2): (0, 20_999)})
    assert pool.best(7) == [one(1, 1)[1]]
    assert pool.senders == (account(1),)
    with pytest.raises(Malformed, match="has sent 1 transactions"):
        pool.take(*one(1, 0))


def _poor() -> Mempool:
    pool = Mempool()
    pool.settle({account(1): (0, 0)})
    return pool


def test_an_account_that_is_not_known_waits_until_it_is() -> None:
    pool = filled(one(20, 3), rich=0)
    assert (pool.unknown, pool.best(7)) == ((account(20),), [])
    pool.learn(account(20), 3, COINS)
    assert (pool.unknown, pool.best(7)) == ((), [one(20, 3)[1]])


def test_when_there_are_too_many_strangers_go_first_then_who_gives_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool, "MOST", 3)
    pool = filled(one(1, 0, tip=5), one(50, 0, tip=9), one(2, 0, tip=3), one(3, 0, tip=4))
    assert one(50, 0, tip=9)[0].hash not in pool
    pool.take(*one(4, 0, tip=7))
    assert pool.best(7) == [one(4, 0, tip=7)[1], one(1, 0, tip=5)[1], one(3, 0, tip=4)[1]]
    monkeypatch.setattr(mempool, "MOST_BYTES", 250)
    pool.take(*one(5, 0, tip=8))
    assert pool.best(7) == [one(5, 0, tip=8)[1], one(4, 0, tip=7)[1]]
