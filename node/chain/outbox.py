"""Calls of this node that have to reach the chain: written down before they are sent, signed by the one owner of the numbers.

    want(key, order) ── durable ──→ signed with the account's next number, durable ──→ mempool, gossip ──→ included ──→ final

Whatever happens meanwhile is looked at whenever the head moves: a call that another branch had, or whose number something
else used, is signed anew, and all that follow it, so that they stay in their order. A call that is wanted twice is one.

Source: DESIGN §6 (opened before the first frame), §7.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Final, NamedTuple, Protocol

import trio

from consensus.encoding import Malformed
from consensus.ids import Address, Digest, Millis
from consensus.records import pack, unpack
from node.chain.executor import TransactionAt
from node.chain.mempool import Known
from node.chain.onsystem import Order
from node.chain.transactions import FEE_WEI, TIP_WEI, Transaction, address_of, hash_of, read, sign
from node.chain.wanted import EARLIER_MAX, OUTBOX, WantedCall
from node.log import EventLog
from node.store import ABSENT, Delete, Key, Put, Store

TRIES: Final = 8
"""How often a call is made that its contract refuses: a block may have had it before what it builds upon."""


class CallState(Enum):
    """How far a call is."""

    WAITING = "waiting"
    """For coins."""
    SENT = "sent"
    INCLUDED = "included"
    FINAL = "final"
    FAILED = "failed"
    """Its contract refuses it."""


class CallStanding(NamedTuple):
    """How far a call is, and in which payload of which number, if it is in one."""

    state: CallState
    block: int | None = None
    name: Digest | None = None
    time: int | None = None
    """Of that payload, in seconds."""


class ChainPort(Protocol):
    """What the outbox needs of the chain."""

    head: Digest

    @property
    def final_number(self) -> int:
        """The number of the last final payload."""

    async def account_of(self, address: Address) -> tuple[int, int]:
        """An account's number and coins at the head."""

    async def places_of(self, transactions: Sequence[bytes]) -> list[TransactionAt | None]:
        """Where each transaction is on the head's branch, if it is."""

    def waits(self, transaction: bytes) -> bool:
        """Whether a transaction waits in the mempool."""

    async def submit(self, data: bytes) -> Transaction:
        """Take a transaction in and spread it; raises Malformed, Known."""

    async def moved(self) -> None:
        """Wait for another head."""


class Outbox:
    """The calls of one account."""

    def __init__(self, store: Store, chain: ChainPort, secret: bytes, chain_id: int, log: EventLog) -> None:
        self._store, self._chain, self._secret, self._chain_id, self._log = store, chain, secret, chain_id, log
        self.address = address_of(secret)
        self._calls: dict[Key, WantedCall] = {}
        """Those that are not final yet."""
        self._standing: dict[object, dict[Key, CallStanding]] = {}
        """Of all that were ever wanted, by what their keys begin with."""
        self._last = 0
        self._next: int | None = None
        """The account's number for what is wanted next; None until it was looked at, and while something cannot be sent."""
        self._looked: Digest | None = None
        """The head at which it was."""
        self._lock = trio.Lock()
        self.wei = 0
        """What the account had when it was looked at last."""

    async def load(self) -> None:
        """Take up what was wanted in earlier lives; before all else."""
        async for key, row in self._store.scan(OUTBOX):
            call = unpack(WantedCall, row)
            if call.account != self.address:
                continue
            self._last = max(self._last, call.number)
            self._stand(key, _finally(call) if call.name else CallStanding(CallState.WAITING))
            if not call.name:
                self._calls[key] = call

    def wants(self, key: Key) -> bool:
        """Whether a call is wanted, or was."""
        return self.standing(key) is not None

    def standing(self, key: Key) -> CallStanding | None:
        """How far a call is; None for one that nobody wanted."""
        return self._standing.get(key[0], {}).get(key)

    def subjects(self) -> tuple[object, ...]:
        """What the keys of calls begin with, each once."""
        return tuple(self._standing)

    def beginning(self, prefix: Key) -> list[CallStanding]:
        """How far those calls are whose keys begin so."""
        return [one for key, one in self._standing.get(prefix[0], {}).items() if key[: len(prefix)] == prefix]

    async def let_go(self, prefix: Key) -> None:
        """Forget the calls whose keys begin so and that are final, or were refused for good: nobody will ask for them again."""
        known = self._standing.get(prefix[0], {})
        gone = [key for key in known if key[: len(prefix)] == prefix and key not in self._calls]
        if gone:
            await self._store.commit([Delete(OUTBOX, key) for key in gone])
        for key in gone:
            del known[key]
        if not known:
            self._standing.pop(prefix[0], None)

    def _stand(self, key: Key, standing: CallStanding) -> None:
        self._standing.setdefault(key[0], {})[key] = standing

    async def want(self, key: Key, order: Order, now: Millis) -> None:
        """Have a call made; when this returns it is on the disk, and it is sent as soon as it can be."""
        if self.wants(key):
            return
        self._last += 1
        call = WantedCall(self._last, self.address, *order, now, b"", (), b"", 0, False)
        self._calls[key] = call
        self._stand(key, CallStanding(CallState.WAITING))
        await self._store.commit([Put(OUTBOX, key, pack(call), ABSENT)])
        async with self._lock:
            if self._next is not None and self._looked == self._chain.head:
                await self._send_next(key)
                return
        await self.settle()

    async def run(self) -> None:
        """Keep at it until cancelled."""
        while True:
            await self.settle()
            if self._chain.head == self._looked:
                await self._chain.moved()

    async def settle(self) -> None:
        """Look where each call is, and sign and send what is nowhere."""
        head = self._chain.head
        nonce, wei = await self._chain.account_of(self.address)
        asked = [one for call in self._calls.values() for one in call.hashes]
        found = dict(zip(asked, await self._chain.places_of(asked), strict=True))
        async with self._lock:  # from here on nobody is asked: who wants a call waits for the disk alone
            self.wei, self._next, self._looked = wei, nonce, head
            for key, call in sorted(self._calls.items(), key=lambda one: one[1].number):
                if not await self._is_in(key, call, found):
                    await self._send_next(key)

    async def _send_next(self, key: Key) -> None:
        """Send a call with the account's next number; after one that cannot be sent none is, so that they stay in their order."""
        if self._next is not None:
            self._next = self._next + 1 if await self._send(key, self._next) else None

    async def _is_in(self, key: Key, call: WantedCall, found: Mapping[bytes, TransactionAt | None]) -> bool:
        """Whether a call is on the head's branch, and need not be sent."""
        places = [at for one in call.hashes if (at := found.get(one)) is not None]
        if not places:
            return False
        name, number, time, ok = max(places, key=lambda one: (one.ok, -one.number))  # the first that its contract took
        if not ok and len(places) < TRIES:
            if call.signed and found.get(hash_of(call.signed)) is not None:
                self._log.warning("call.refused", key="/".join(map(_word, key)), block=number)
                await self._keep(key, _unsigned(call))
            return False
        if number <= self._chain.final_number:
            last = replace(call, name=name, block=number, ok=ok)
            await self._keep(key, last)
            del self._calls[key]
            self._stand(key, _finally(last)._replace(time=time))
        else:
            state = CallState.INCLUDED if ok else CallState.FAILED
            self._stand(key, CallStanding(state, number, name, time))
        return True

    async def _send(self, key: Key, nonce: int) -> bool:
        """Sign a call with a number, unless it is already, and have it spread if it is not on its way; whether it is."""
        call = self._calls[key]
        before = read(call.signed, self._chain_id) if call.signed else None
        if before is None or before.nonce != nonce:
            tip, fee = (TIP_WEI, FEE_WEI) if before is None else (_raised(before.tip), _raised(before.fee))
            if call.gas * fee > self.wei:
                self._stand(key, CallStanding(CallState.WAITING))
                return False
            data = sign(self._secret, self._chain_id, nonce, call.to, call.data, call.gas, tip=tip, fee=fee)
            call = replace(_unsigned(call), signed=data)
            await self._keep(key, call)
        self._stand(key, CallStanding(CallState.SENT))
        if not self._chain.waits(hash_of(call.signed)):
            try:
                await self._chain.submit(call.signed)
            except Known:
                pass
            except Malformed as error:
                self._log.debug("call.waits", key="/".join(map(_word, key)), reason=str(error))
                return False
        return True

    async def _keep(self, key: Key, call: WantedCall) -> None:
        self._calls[key] = call
        await self._store.commit([Put(OUTBOX, key, pack(call))])


def _unsigned(call: WantedCall) -> WantedCall:
    """The call as it is before it is signed again."""
    return replace(call, signed=b"", earlier=call.hashes[:EARLIER_MAX])


def _finally(call: WantedCall) -> CallStanding:
    return CallStanding(CallState.FINAL if call.ok else CallState.FAILED, call.block, Digest(call.name))


def _raised(wei: int) -> int:
    """So much that it replaces what waits, in every mempool."""
    return wei + wei // 8 + 1


def _word(part: int | str | bytes) -> str:
    return part.hex()[:8] if isinstance(part, bytes) else str(part)
