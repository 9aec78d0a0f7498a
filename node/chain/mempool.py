"""Transactions that wait for a block: whom they are from, in which order they can go, and which are let go when there are too many.

    gossip, RPC, our own outbox ── `take` ──→ by account and number ── `best` ──→ a block        head ── `settle` ──→ what it has, goes

What needs no state is checked before a transaction is spread (`transactions`); what an account has is asked of the execution
layer afterwards. So who has nothing can fill no block, and spread no more than gossip lets one node write.
"""

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush
from typing import Final

from consensus.encoding import Malformed
from consensus.ids import Address
from node.chain.genesis import GAS_LIMIT
from node.chain.transactions import Transaction

MOST: Final = 4_096
MOST_BYTES: Final = 8 << 20
ACCOUNT_MOST: Final = 64
"""Of one account: sixty-four are two hours of heads."""
AHEAD_MOST: Final = 64
"""How far a number may be ahead of its account's."""
BUMP_PERCENT: Final = 10
"""What more in place of another one has to give."""
BLOCK_BYTES: Final = 250_000
"""Of transactions: a payload has 400,000 bytes (consensus/block), and its news are half as long as they are at the most."""


class Known(Exception):
    """A transaction that is here already."""


class Mempool:
    """Those that wait, and the accounts that are known at the head."""

    def __init__(self) -> None:
        self._waiting: dict[Address, dict[int, tuple[Transaction, bytes]]] = {}
        self._hashes: dict[bytes, bytes] = {}
        self._accounts: dict[Address, tuple[int, int]] = {}
        """Number and coins."""
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, transaction: bytes) -> bool:
        return transaction in self._hashes

    def get(self, transaction: bytes) -> bytes | None:
        """The bytes of one that waits, by its hash."""
        return self._hashes.get(transaction)

    @property
    def senders(self) -> tuple[Address, ...]:
        """Whose accounts have to be known."""
        return tuple(self._waiting)

    def knows(self, sender: Address) -> bool:
        """Whether what an account has at the head is known."""
        return sender in self._accounts

    @property
    def unknown(self) -> tuple[Address, ...]:
        """Those of them that are not."""
        return tuple(sender for sender in self._waiting if sender not in self._accounts)

    def take(self, one: Transaction, data: bytes) -> None:
        """One more. Raises Known for one that is here, Malformed for one that cannot be kept, with the reason."""
        if one.hash in self._hashes:
            raise Known
        nonce, wei = self._accounts.get(one.sender, (0, 0))
        if one.sender in self._accounts:
            if one.nonce < nonce:
                raise Malformed(f"the account has sent {nonce} transactions, and this is number {one.nonce}")
            if one.nonce > nonce + AHEAD_MOST:
                raise Malformed(f"the account's next transaction is number {nonce}: this one is too far ahead")
            if one.cost > wei:
                raise Malformed(f"the account has {wei} wei, and this takes {one.cost}")
        mine = self._waiting.setdefault(one.sender, {})
        before = mine.get(one.nonce)
        if before is not None and not _is_better(one, before[0]):
            raise Malformed(f"another transaction of that number waits: to replace it give {BUMP_PERCENT} % more")
        if before is None and len(mine) >= ACCOUNT_MOST:
            last = max(mine)
            if one.nonce > last:
                raise Malformed(f"{ACCOUNT_MOST} transactions of the account wait already")
            self._drop(one.sender, last)
        if before is not None:
            self._drop(one.sender, one.nonce)
        self._waiting.setdefault(one.sender, {})[one.nonce] = one, data
        self._hashes[one.hash] = data
        self._bytes += len(data)
        self._make_room()

    def _make_room(self) -> None:
        """Let go of the last number of the account that gives the least, while there are too many."""
        while len(self._hashes) > MOST or self._bytes > MOST_BYTES:
            last = {sender: mine[max(mine)][0] for sender, mine in self._waiting.items()}
            worst = min(last.values(), key=lambda one: (one.sender in self._accounts, one.tip, one.hash))
            self._drop(worst.sender, worst.nonce)

    def _drop(self, sender: Address, nonce: int) -> None:
        one, data = self._waiting[sender].pop(nonce)
        del self._hashes[one.hash]
        self._bytes -= len(data)
        if not self._waiting[sender]:
            del self._waiting[sender]

    def settle(self, accounts: Mapping[Address, tuple[int, int]]) -> None:
        """What accounts have at a new head: number and coins. Transactions that are in it, or that nobody can pay, go."""
        self._accounts = dict(accounts)
        for sender in self.senders:
            self._let_go(sender)

    def _let_go(self, sender: Address) -> None:
        """What a known account has sent already, or cannot pay, goes."""
        if sender in self._accounts:
            nonce, wei = self._accounts[sender]
            for at, (one, _) in [*self._waiting.get(sender, {}).items()]:
                if at < nonce or one.cost > wei:
                    self._drop(sender, at)

    def learn(self, sender: Address, nonce: int, wei: int) -> None:
        """An account that was not known, at the present head."""
        self._accounts[sender] = nonce, wei
        self._let_go(sender)

    def next_nonce(self, sender: Address, nonce: int) -> int:
        """The first number of an account's, from that at the head on, for which nothing waits."""
        mine = self._waiting.get(sender, {})
        while nonce in mine:
            nonce += 1
        return nonce

    def best(self, base_fee: int, without: Iterable[Address] = ()) -> list[bytes]:
        """Transactions for the next block, the numbers of each account in order, who gives most first; none of some accounts."""
        found: list[bytes] = []
        room, gas = BLOCK_BYTES, GAS_LIMIT
        skipped = set(without)
        ready = [
            (-_gives(mine[nonce][0], base_fee), sender, nonce)
            for sender, (nonce, _) in self._accounts.items()
            if sender not in skipped and nonce in (mine := self._waiting.get(sender, {}))
        ]
        heapify(ready)
        while ready:
            _, sender, nonce = heappop(ready)
            one, data = self._waiting[sender][nonce]
            if one.fee < base_fee or len(data) > room or one.gas > gas:
                continue  # what follows of this account has to wait, too
            found.append(data)
            room, gas = room - len(data), gas - one.gas
            following = self._waiting[sender].get(nonce + 1)
            if following is not None:
                heappush(ready, (-_gives(following[0], base_fee), sender, nonce + 1))
        return found


def _gives(one: Transaction, base_fee: int) -> int:
    """What its publisher gets for a unit of gas."""
    return min(one.tip, one.fee - base_fee)


def _is_better(one: Transaction, than: Transaction) -> bool:
    return all(100 * new >= (100 + BUMP_PERCENT) * old for new, old in ((one.tip, than.tip), (one.fee, than.fee)))
