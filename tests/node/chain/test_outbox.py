"""The outbox: whatever happens to heads, numbers and programs, what was wanted is on the chain in the end, once and in its order."""

from collections.abc import Awaitable, Callable, Sequence
from random import Random

import pytest
import trio

from consensus.ids import Address, Digest, Millis
from node.chain.evm import Attributes, Evm, Grant, MemoryRows
from node.chain.executor import TransactionAt
from node.chain.genesis import ChainLaw
from node.chain.mempool import Known, Mempool
from node.chain.onsystem import Closed, Headed, Opened, anchor_head, close_session, open_session, said
from node.chain.outbox import TRIES, CallState, Outbox
from node.chain.transactions import Transaction, address_of, read, sign
from node.log import EventLog
from node.store.memory import MemoryStore
from tests.consensus.worlds import named

pytestmark = pytest.mark.component

LAW = ChainLaw(1_280, 1_800_000_000, (), 5)
SECRET, OTHER = b"\1" * 32, b"\2" * 32
ME = address_of(SECRET)
LEADER = Address(b"\x99" * 20)
UUID, KEY = b"u" * 16, b"k" * 32


class Branches:
    """A ChainPort on a real EVM, whose head goes where the test wants it."""

    def __init__(self, grant: bool = True) -> None:
        self.evm = Evm(MemoryRows(), LAW)
        self.mempool = Mempool()
        self.head = self.evm.genesis
        self.final_number = 0
        self.slot = 0
        self._moved = trio.Event()
        self.grant(Grant(ME, 10**8)) if grant else self.grant()

    def grant(self, *grants: Grant) -> None:
        self._grow([], grants)

    def _grow(self, transactions: list[bytes], grants: tuple[Grant, ...] = ()) -> None:
        self.slot += 1
        says = Attributes(LAW.began_s + 5 * self.slot, named(self.slot), LEADER, named(self.slot), grants)
        name, payload = self.evm.build(self.head, says, transactions)
        self.evm.execute(self.head, says, payload)
        self.move(name)

    def block(self, *own: bytes, empty: bool = False) -> None:
        """The next block on top of the head: some transactions, and those that wait."""
        self._grow([*own, *([] if empty else self.mempool.best(7))])

    def move(self, name: Digest) -> None:
        """Another head."""
        self.evm.follow(name)
        self.head = name
        view = self.evm.at(name)
        self.mempool.settle({one: (view.nonce(one), view.balance(one)) for one in self.mempool.senders})
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    def finalise(self) -> None:
        self.final_number = self.evm.header(self.head).block_number

    async def account_of(self, address: Address) -> tuple[int, int]:
        view = self.evm.at(self.head)
        return view.nonce(address), view.balance(address)

    async def places_of(self, transactions: Sequence[bytes]) -> list[TransactionAt | None]:
        return [*map(self._place, transactions)]

    def _place(self, transaction: bytes) -> TransactionAt | None:
        found = self.evm.place(transaction)
        if found is None:
            return None
        header = self.evm.header(found.name)
        ok = self.evm.receipts(found.name)[found.at].ok
        return TransactionAt(found.name, header.block_number, header.timestamp, ok)

    def waits(self, transaction: bytes) -> bool:
        return transaction in self.mempool

    async def submit(self, data: bytes) -> Transaction:
        one = read(data, LAW.chain_id)
        self.mempool.learn(one.sender, *await self.account_of(one.sender))
        self.mempool.take(one, data)
        return one

    async def moved(self) -> None:
        await self._moved.wait()

    def events(self) -> list[Opened | Headed | Closed]:
        """What was said on the head's branch, in its order."""
        found, number = [], 0
        while (name := self.evm.numbered(number)) is not None:
            found += [told for one in self.evm.receipts(name) for log in one.logs if (told := said(log))]
            number += 1
        return found


def outbox(store: MemoryStore, chain: Branches) -> Outbox:
    return Outbox(store, chain, SECRET, LAW.chain_id, EventLog(level="error"))


OPEN = open_session(UUID, KEY, bytes(32))


def session_of() -> bytes:
    from consensus.ids import session_id

    return session_id(ME, UUID, KEY)


async def settled(box: Outbox) -> None:
    """Look at the head as `run` does."""
    await box.settle()


def tried(work: Callable[[Branches, MemoryStore, Outbox], Awaitable[None]], *, grant: bool = True) -> None:
    async def main() -> None:
        chain, store = Branches(grant), MemoryStore()
        box = outbox(store, chain)
        await box.load()
        await work(chain, store, box)

    trio.run(main)


def test_a_call_is_sent_at_once_included_and_final() -> None:
    async def work(chain: Branches, store: MemoryStore, box: Outbox) -> None:
        await box.want(("s", "open"), OPEN, Millis(5))
        await box.want(("s", "open"), OPEN, Millis(6))
        assert (len(chain.mempool), box.wants(("s", "open")), box.wants(("s", "close"))) == (1, True, False)
        chain.block()
        await settled(box)
        standing = box.standing(("s", "open"))
        assert standing is not None
        assert (standing.state, standing.block, standing.time) == (CallState.INCLUDED, 2, LAW.began_s + 10)
        chain.finalise()
        await settled(box)
        assert [one.state for one in box.beginning(("s",))] == [CallState.FINAL]
        again = outbox(store, chain)
        await again.load()
        assert [(one.state, one.block) for one in again.beginning(("s",))] == [(CallState.FINAL, 2)]
        assert again.subjects() == ("s",)
        await settled(again)
        assert len(chain.events()) == 1
        await again.let_go(("s", "close"))
        await again.let_go(("t",))
        assert again.wants(("s", "open"))
        await again.let_go(("s", "open"))
        assert (again.subjects(), [row async for row in store.scan("outbox")]) == ((), [])

    tried(work)


def test_without_coins_it_waits_and_then_goes() -> None:
    async def work(chain: Branches, _store: MemoryStore, box: Outbox) -> None:
        await box.want(("s", "open"), OPEN, Millis(5))
        chain.block()
        await settled(box)
        assert [one.state for one in box.beginning(("s",))] == [CallState.WAITING]
        assert box.wei == 0
        chain.grant(Grant(ME, 10**8))
        await settled(box)
        chain.block()
        assert len(chain.events()) == 1

    tried(work, grant=False)


def test_a_number_that_something_else_used_moves_all_that_follow_and_they_stay_in_order() -> None:
    async def work(chain: Branches, _store: MemoryStore, box: Outbox) -> None:
        session = session_of()
        await box.want(("s", "open"), OPEN, Millis(1))
        await box.want(("s", "head", 0), anchor_head(session, 0, named(7)), Millis(2))  # type: ignore[arg-type]
        foreign = sign(SECRET, LAW.chain_id, 0, Address(b"\x77" * 20), b"", 21_000)
        chain.block(foreign, empty=True)
        await settled(box)
        chain.block()
        await settled(box)
        assert [type(one) for one in chain.events()] == [Opened, Headed]
        assert {one.state for one in box.beginning(("s",))} == {CallState.INCLUDED}

    tried(work)


def test_a_call_in_both_branches_is_on_the_chain_once_in_the_end() -> None:
    async def work(chain: Branches, _store: MemoryStore, box: Outbox) -> None:
        fork = chain.head
        await box.want(("s", "open"), OPEN, Millis(1))
        chain.block()
        await settled(box)
        chain.move(fork)
        await settled(box)
        assert [one.state for one in box.beginning(("s",))] == [CallState.SENT]
        chain.block()
        await settled(box)
        chain.block()
        await settled(box)
        assert [type(one) for one in chain.events()] == [Opened]
        assert [one.state for one in box.beginning(("s",))] == [CallState.INCLUDED]

    tried(work)


def test_what_its_contract_refuses_is_tried_again_and_then_given_up() -> None:
    async def work(chain: Branches, _store: MemoryStore, box: Outbox) -> None:
        await box.want(("s", "head", 0), anchor_head(session_of(), 0, named(7)), Millis(2))  # type: ignore[arg-type]
        for _ in range(TRIES + 3):
            chain.block()
            await settled(box)
        assert [one.state for one in box.beginning(("s",))] == [CallState.FAILED]
        chain.finalise()
        await settled(box)
        assert [one.state for one in box.beginning(("s",))] == [CallState.FAILED]
        assert (await chain.account_of(ME))[0] == TRIES

    tried(work)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_all_is_there_in_the_end_once_and_in_order(seed: int) -> None:
    """Reorganisations, other users of the numbers, restarts, empty blocks and lost mempools, in any order."""

    async def work(chain: Branches, store: MemoryStore, box: Outbox) -> None:
        dice, session = Random(seed), session_of()
        calls = [(("s", "open", 0), OPEN)]
        calls += [(("s", "head", at), anchor_head(session, at, named(at))) for at in range(5)]  # type: ignore[arg-type]
        calls.append((("s", "close", 0), close_session(session, named(8), named(9), 1, 5)))  # type: ignore[arg-type]
        forks = [chain.head]
        for _ in range(40):
            match dice.randrange(7):
                case 0 if calls:
                    await box.want(*calls.pop(0), Millis(1))
                case 1:
                    chain.move(dice.choice(forks))
                case 2:
                    nonce = (await chain.account_of(ME))[0]
                    chain.block(sign(SECRET, LAW.chain_id, nonce, Address(b"\x77" * 20), b"", 21_000), empty=True)
                case 3:
                    box = outbox(store, chain)
                    await box.load()
                case 4:
                    chain.mempool = Mempool()
                case 5:
                    chain.block(empty=dice.random() < 0.3)
                case _:
                    await settled(box)
            forks = [*forks[-3:], chain.head]
        while calls:
            await box.want(*calls.pop(0), Millis(1))
        for _ in range(12):
            await settled(box)
            chain.block()
        await settled(box)
        assert {one.state for one in box.beginning(("s",))} == {CallState.INCLUDED}
        told = chain.events()
        assert [type(one) for one in (told[0], told[-1])] == [Opened, Closed]
        heads = [one.number for one in told[1:-1] if isinstance(one, Headed)]
        assert len(heads) == len(told) - 2  # opened once, closed once
        assert [*dict.fromkeys(heads)] == [*range(5)]  # a head may be said twice, and the first counts
        chain.finalise()
        await settled(box)
        assert {one.state for one in box.beginning(("s",))} == {CallState.FINAL}

    tried(work)


def test_who_saw_an_opening_wait_cannot_take_its_id() -> None:
    async def work(chain: Branches, _store: MemoryStore, box: Outbox) -> None:
        chain.grant(Grant(address_of(OTHER), 10**8))
        await box.want(("s", "open"), OPEN, Millis(1))
        seen = sign(OTHER, LAW.chain_id, 0, OPEN.to, OPEN.data, OPEN.gas, tip=1_000, fee=100_000)
        await chain.submit(seen)
        chain.block()
        opened = [one for one in chain.events() if isinstance(one, Opened)]
        assert [one.owner for one in opened] == [address_of(OTHER), ME]
        assert [one.session == session_of() for one in opened] == [False, True]
        with pytest.raises(Known):
            chain.mempool.take(*await _twice(chain))

    tried(work)


async def _twice(chain: Branches) -> tuple[Transaction, bytes]:
    data = sign(OTHER, LAW.chain_id, 1, OPEN.to, OPEN.data, OPEN.gas)
    await chain.submit(data)
    return read(data, LAW.chain_id), data
