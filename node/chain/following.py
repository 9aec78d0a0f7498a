"""The execution layer beside the consensus: payloads judged and built as the replica asks, its head followed, transactions spread.

    replica: ExecutePayload, BuildPayload ──→ executor ──→ PayloadJudged, PayloadBuilt ──→ replica
    replica: NewBlock, votes               ──→ head    ──→ executor.follow, mempool.settle, whoever waits for a head
    gossip topic "transactions" ──→ mempool            submit ──→ mempool, gossip

What the executor lacks of our own chain (a folder that was lost) it is given again from the blocks that the node kept.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import trio

from consensus.block import read_block
from consensus.encoding import Malformed
from consensus.ids import Address, Digest, NodeId
from consensus.payload import FIRST
from consensus.replica import ConsensusReplica
from consensus.wishes import BuildPayload, ExecutePayload, NewBlock
from node.chain import showing
from node.chain.executor import Executor, PayloadRefused, TransactionAt
from node.chain.genesis import BASE_FEE
from node.chain.mempool import Known, Mempool
from node.chain.onsystem import Order, mint
from node.chain.transactions import Transaction, address_of, read, sign
from node.exits import Unavailable
from node.log import EventLog
from node.net.host import Host
from node.overlay.agreement import PayloadBuilt, PayloadJudged
from node.overlay.topics import Delivered, Publish, Ruling, Subscribe

TOPIC: Final = "transactions"
MINT_FEE_WEI: Final = 1_000_000 * BASE_FEE
"""The most that a publisher pays for gas to mint: without it its block is none."""
LOOK_S: Final = 1.0
"""How often votes may have moved the head without a block."""


class AccountBalance(NamedTuple):
    """What an account has at the head."""

    address: Address
    wei: int
    lucid: int
    """In base units, 10¹⁸ a LUCID."""


class Chain:
    """One node's execution layer; its host runs the machine of which the replica is a part."""

    def __init__(self, host: Host, replica: ConsensusReplica, executor: Executor, secret: bytes, log: EventLog) -> None:
        self._host, self.replica, self.executor, self._log = host, replica, executor, log
        self._secret, self._account = secret, address_of(secret)
        """Of the account that mints, and that is looked at whenever the head moves."""
        self.mempool = Mempool()
        self.holding: AccountBalance | None = None
        self.head: Digest = FIRST
        """The payload of the head, once it is executed."""
        self._asked, self._asks = trio.open_memory_channel[ExecutePayload | BuildPayload](float("inf"))
        self._stirred = trio.Event()
        self._moved = trio.Event()
        self._arrived = trio.Event()
        host.on_fact(ExecutePayload, self._asked.send_nowait)
        host.on_fact(BuildPayload, self._asked.send_nowait)
        host.on_fact(NewBlock, lambda _fact: self._stirred.set())
        host.on_fact(Delivered, self._delivered)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; starts when the executor has all that the node's chain has. The host runs already."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.executor.run)
            self._host.tell(Subscribe(TOPIC))
            await self._catch_up(self.replica.head().id)
            await self._settle()
            task_status.started()
            nursery.start_soon(self._answer)
            nursery.start_soon(self._follow)
            nursery.start_soon(self._learn)

    async def moved(self) -> None:
        """Wait for another head."""
        await self._moved.wait()

    # ------------------------------------------------------------------ payloads

    async def _answer(self) -> None:
        """One question after the other: the executor has one core."""
        async for asked in self._asks:
            if isinstance(asked, ExecutePayload):
                await self._judge(asked)
            else:
                await self._build(asked)

    async def _judge(self, asked: ExecutePayload) -> None:
        header, payload = asked.block.header, asked.block.body.payload
        try:
            try:
                await self.executor.judge(asked.terms, header.payload, payload)
            except KeyError:
                await self._catch_up(header.parent)
                await self.executor.judge(asked.terms, header.payload, payload)
        except (
            KeyError
        ):  # a block that nobody kept here: it is not its proposer's fault, and the next start asks peers again
            mend = "restart the node: it asks its peers again for what it lacks"
            self._log.error("payload.parent_unknown", slot=header.slot, parent=header.parent, mend=mend)
            return
        except PayloadRefused as error:
            self._log.warning("payload.refused", slot=header.slot, proposer=header.entity, reason=str(error))
            self._host.tell(PayloadJudged(asked.call, False))
            return
        self._host.tell(PayloadJudged(asked.call, True))

    async def _build(self, asked: BuildPayload) -> None:
        terms = asked.terms
        own = (
            [] if terms.payout is None else [mint(terms.payout, self.executor.law.time_of(terms.slot), terms.siblings)]
        )
        own += await showing.orders(self.executor, terms, asked.state)
        signed = await self._signed(terms.parent, own)
        # What else the account has waiting goes into a later block: these take its next numbers.
        waiting = self.mempool.best(BASE_FEE, [self._account] if signed else [])
        try:
            name, payload = await self.executor.build(terms, [*signed, *waiting])
        except PayloadRefused as error:
            self._log.error("payload.unbuilt", slot=terms.slot, reason=str(error), mend="what waited is let go of")
            self.mempool = Mempool()
            return
        self._host.tell(PayloadBuilt(asked.call, name, payload))

    async def _signed(self, parent: Digest, own: Sequence[Order]) -> list[bytes]:
        """The calls with which this node's payload begins: the first of them mints what the block before is worth."""
        law, account = self.executor.law, await self.executor.account(parent, self._account)
        fee = min(MINT_FEE_WEI, account.wei // max(1, sum(one.gas for one in own)))
        return [
            sign(self._secret, law.chain_id, account.nonce + at, one.to, one.data, one.gas, tip=0, fee=fee)
            for at, one in enumerate(own)
        ]

    async def _catch_up(self, block: Digest) -> None:
        """Give the executor the payloads of our chain up to a block that it lacks, from where it has them on."""
        missing: list[bytes] = []
        at = block
        while at != self.replica.finalised.past.genesis:
            data = self.replica.block(at)
            if data is None:  # below the checkpoint at which this node began
                break
            kept = read_block(data)
            if await self.executor.knows(kept.header.payload):
                break
            missing.append(kept.body.payload)
            at = kept.header.parent
        if missing:
            self._log.info("chain.replayed", blocks=len(missing))
        for payload in reversed(missing):
            try:
                await self.executor.replay(payload)
            except KeyError:
                raise Unavailable(
                    "this node began at a checkpoint, and the accounts that came with it are gone: "
                    "`lucid-node checkpoint load` a younger file, which brings them again"
                ) from None

    # ------------------------------------------------------------------ the head

    async def _follow(self) -> None:
        while True:
            self._stirred = trio.Event()
            if self.replica.head().payload != self.head:
                await self._settle()
            with trio.move_on_after(LOOK_S):
                await self._stirred.wait()

    async def _settle(self) -> None:
        """Follow the replica's head, and let go of what it has of the transactions that wait."""
        name = self.replica.head().payload
        await self.executor.follow(name)
        whose = [*{*self.mempool.senders, self._account}]
        found = dict(zip(whose, await self.executor.accounts(name, whose), strict=True))
        self.mempool.settle(found)
        lucid = await self.executor.lucid(name, self._account)
        self.holding = AccountBalance(self._account, found[self._account].wei, lucid)
        self._tell_replica()
        self.head = name
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    # ------------------------------------------------------------------ transactions

    def judge(self, topic: str, author: NodeId, data: bytes) -> Ruling:
        """Gossip's rule for transactions."""
        del topic, author
        try:
            read(data, self.executor.law.chain_id)
        except Malformed:
            return Ruling.REJECT
        return Ruling.ACCEPT

    def _delivered(self, fact: Delivered) -> None:
        if fact.topic != TOPIC:
            return
        try:
            self.mempool.take(read(fact.data, self.executor.law.chain_id), fact.data)
        except (Known, Malformed) as error:
            self._log.debug("transaction.left", reason=str(error) or "known")
        self._arrived.set()
        self._tell_replica()

    def _tell_replica(self) -> None:
        """Whether something waits, so that whoever may publish does."""
        self.replica.pools.transactions_wait = len(self.mempool) > 0

    async def _learn(self) -> None:
        """Ask what those have whose transactions have come since the last head."""
        while True:
            await self._arrived.wait()
            self._arrived = trio.Event()
            whose = self.mempool.unknown
            for sender, known in zip(whose, await self.executor.accounts(self.head, whose), strict=True):
                self.mempool.learn(sender, *known)

    @property
    def tags(self) -> dict[str, Digest]:
        """The payloads of the last justified and the last final checkpoint, as Ethereum's tags."""
        tree = self.replica.tree
        final, justified = tree.state(tree.root), tree.state(tree.justified.block)
        known = final if justified is None else justified
        return {} if final is None or known is None else {"finalized": final.payload, "safe": known.payload}

    @property
    def is_behind(self) -> bool:
        """Whether the node is still catching up."""
        return self.replica.is_behind

    async def rpc(self, method: str, params: str) -> list[Any]:
        """What Ethereum's JSON-RPC answers: 0 and the result as JSON, or a code, a message, and data or nothing."""
        found: list[Any] = await self.executor.ask("rpc", method, params, dict(self.tags))
        return found

    @property
    def final_number(self) -> int:
        """The number of the last final payload."""
        return self.replica.finalised.past.height

    async def account_of(self, address: Address) -> tuple[int, int]:
        """An account's number and coins at the head."""
        return await self.executor.account(self.head, address)

    async def places_of(self, transactions: Sequence[bytes]) -> list[TransactionAt | None]:
        """Where each transaction is on the head's branch, if it is."""
        return await self.executor.places(transactions)

    def waits(self, transaction: bytes) -> bool:
        """Whether a transaction waits in the mempool."""
        return transaction in self.mempool

    async def submit(self, data: bytes) -> Transaction:
        """Take a transaction in and spread it; raises Malformed with what is wrong, Known for one that is here."""
        one = read(data, self.executor.law.chain_id)
        if not self.mempool.knows(one.sender):
            self.mempool.learn(one.sender, *await self.account_of(one.sender))
        self.mempool.take(one, data)
        self._tell_replica()
        self._host.tell(Publish(TOPIC, data))
        return one
