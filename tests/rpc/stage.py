"""A chain with a JSON-RPC server in this process: blocks are made as soon as a transaction waits, by the worker's own engine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from consensus.ids import Address, Digest
from consensus.payload import FIRST, PayloadTerms
from node.chain.engine import Engine
from node.chain.evm import Evm, MemoryRows
from node.chain.genesis import ChainLaw
from node.chain.mempool import Mempool
from node.chain.rpc import RpcServer
from node.chain.transactions import Transaction, address_of, read
from node.chain.verbs import number_of, of_terms
from tests.consensus.worlds import named

LAW: Final = ChainLaw(1_337_000, 1_800_000_000, (), 5)
SECRETS: Final = [bytes([number]) * 32 for number in range(1, 5)]
ACCOUNTS: Final = [address_of(secret) for secret in SECRETS]
LEADER: Final = Address(b"\x99" * 20)


class Served:
    """What the server asks: an engine, and a mempool that becomes a block at once."""

    def __init__(self) -> None:
        self.engine = Engine(Evm(MemoryRows(), LAW), LAW)
        self.mempool = Mempool()
        self.head, self.slot, self.is_behind = FIRST, 0, False
        self.makes_blocks = True
        self.block(tuple(ACCOUNTS))

    def block(self, grants: tuple[Address, ...] = ()) -> None:
        """One more block with what waits."""
        self.slot += 1
        terms = PayloadTerms(self.head, self.slot, named(self.slot), LEADER, named(self.slot), grants, None, ())
        name, payload = self.engine.verbs["build"](of_terms(terms), self.mempool.best(7))
        self.engine.verbs["judge"](of_terms(terms), name, payload)
        self.engine.verbs["follow"](name)
        self.head = Digest(name)
        self.mempool.settle({one: self._account(one) for one in self.mempool.senders})

    def _account(self, address: Address) -> tuple[int, int]:
        ((nonce, wei),) = self.engine.verbs["accounts"](self.head, [address])
        return nonce, number_of(wei)

    async def account_of(self, address: Address) -> tuple[int, int]:
        return self._account(address)

    async def rpc(self, method: str, params: str) -> list[Any]:
        found: list[Any] = self.engine.verbs["rpc"](method, params, {"finalized": FIRST, "safe": self.head})
        return found

    async def submit(self, data: bytes) -> Transaction:
        one = read(data, LAW.chain_id)
        self.mempool.learn(one.sender, *self._account(one.sender))
        self.mempool.take(one, data)
        if self.makes_blocks:
            self.block()
        return one


@asynccontextmanager
async def served(chain: Served) -> AsyncIterator[str]:
    """The address of a server that runs for as long as this lasts."""
    server = RpcServer(chain, 0)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield f"http://{server.address}"
        nursery.cancel_scope.cancel()
