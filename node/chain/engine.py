"""What the process that executes payloads does: terms of the consensus become attributes of a block, verbs become answers.

    build(terms, transactions) → name, payload       judge(terms, name, payload) → a part of the tree       replay(payload)
    follow(name) → the head                          account, call, receipts … → at a name

A payload begins with a byte, IDLE where nothing waited for it (consensus/payload), and with its news, if it has any
(consensus/news). Source: DESIGN §7.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

from consensus.block import PAYLOAD_BYTES_MAX
from consensus.encoding import Malformed
from consensus.facts import NOBODY
from consensus.ids import Address, Digest
from consensus.news import SessionNews, split, told
from consensus.payload import BUSY, FIRST, GRANT_GWEI, IDLE, PayloadTerms
from node.chain import index
from node.chain.ethereum import Ethereum
from node.chain.ethereum_views import RpcFault
from node.chain.evm import Attributes, Evm, Executed, Grant, InvalidPayload
from node.chain.genesis import ChainLaw
from node.chain.news import news_of
from node.chain.onsystem import Closed, Headed, Opened, Order, mint, said
from node.chain.spelling import decoded
from node.chain.verbs import terms_from, wide

_TO: Final = {0: 3, 1: 4, 2: 5}
"""The place of the address that is called, in a transaction of each kind."""
_TRANSACTIONS: Final = 1
"""The place of the transactions in a block's RLP."""


def attributes_of(terms: PayloadTerms, law: ChainLaw) -> Attributes:
    """What a block has to say of itself."""
    return Attributes(
        law.time_of(terms.slot),
        terms.seed,
        terms.recipient,
        terms.root,
        tuple(Grant(one, GRANT_GWEI) for one in terms.grants),
    )


def calls_of(block: bytes) -> list[tuple[bytes, bytes]]:
    """Whom the transactions in a block's RLP call, and with what; raises InvalidPayload for bytes that spell no block."""
    found = []
    try:
        for one in decoded(block)[_TRANSACTIONS]:
            kind = one[0] if isinstance(one, bytes) else 0
            fields = decoded(one[1:]) if kind else one
            to, _, data = fields[_TO[kind] : _TO[kind] + 3]
            found.append((to, data))
    except (Malformed, IndexError, TypeError, KeyError, ValueError) as error:
        raise InvalidPayload(f"a payload that spells no block: {type(error).__name__}") from error
    return found


def _split(payload: bytes) -> tuple[tuple[SessionNews, ...], bytes]:
    """The news and the block of a payload; raises InvalidPayload."""
    try:
        return split(payload)
    except Malformed as error:
        raise InvalidPayload(str(error)) from error


def _begins(calls: Sequence[tuple[bytes, bytes]], wanted: Order | None) -> bool:
    """Whether the first call is the one that is wanted."""
    return wanted is not None and calls[:1] == [(wanted.to, wanted.data)]


class Engine:
    """The verbs, on one tree."""

    def __init__(self, evm: Evm, law: ChainLaw) -> None:
        self._evm, self._law = evm, law
        self._ethereum = Ethereum(evm, law.chain_id, f"lucid-node/{version('lucid-node')}")
        self.verbs: Mapping[str, Callable[..., Any]] = {
            "build": self._build,
            "judge": self._judge,
            "replay": self._replay,
            "known": lambda name: self._name(name) in evm,
            "follow": self._follow,
            "accounts": self._accounts,
            "call": self._call,
            "calls": self._calls,
            "places": lambda transactions: [*map(self._place, transactions)],
            "receipts": lambda name: index.receipts_row(evm.receipts(self._name(name))),
            "anchored": self._anchored,
            "rpc": self._rpc,
        }

    def _name(self, name: bytes) -> Digest:
        return self._evm.genesis if name == FIRST else Digest(name)

    # ------------------------------------------------------------------ blocks

    def _build(self, terms: Sequence[Any], transactions: Sequence[bytes]) -> list[Any]:
        asked, parent = terms_from(terms), self._name(terms[0])
        while True:
            name, block = self._evm.build(parent, attributes_of(asked, self._law), transactions)
            news = news_of(self._evm.built(name))
            payload = told(news, block) if news else self._kind(asked, calls_of(block), self._mint(asked)) + block
            if len(payload) <= PAYLOAD_BYTES_MAX:
                return [name, payload]
            transactions = transactions[: len(transactions) // 2]

    def _kind(self, terms: PayloadTerms, calls: Sequence[tuple[bytes, bytes]], wanted: Order | None) -> bytes:
        """Whether something waited: grants, or a transaction beside the one that mints."""
        waiting = len(calls) - _begins(calls, wanted)
        return BUSY if waiting or terms.grants else IDLE

    def _mint(self, terms: PayloadTerms) -> Order | None:
        """The call that a payload has to begin with; None where nothing is to be minted."""
        return None if terms.payout is None else mint(terms.payout, self._law.time_of(terms.slot), terms.siblings)

    def _can_pay(self, terms: PayloadTerms, wanted: Order) -> bool:
        """Whether the publisher's account has the coins to mint: without them a payload may do without, too."""
        parent = self._name(terms.parent)
        price = 2 * self._evm.header(parent).base_fee_per_gas
        coins = self._evm.at(parent).balance(terms.recipient)
        return coins >= wanted.gas * int(price)

    def _judge(self, terms: Sequence[Any], name: bytes, payload: bytes) -> None:
        asked, (news, block) = terms_from(terms), _split(payload)
        calls, wanted = calls_of(block), self._mint(asked)
        if not news and payload[:1] != self._kind(asked, calls, wanted):
            raise InvalidPayload("a payload that says that something waited for it, or that nothing did, and is wrong")
        owes = wanted is not None and self._can_pay(asked, wanted)
        if owes and not _begins(calls, wanted):
            raise InvalidPayload("a payload that does not begin with minting what its parent's block is worth")

        def judge(executed: Executed) -> None:
            if owes and not executed.receipts[0].ok:
                raise InvalidPayload("a payload whose minting fails")
            if news_of(executed) != news:
                raise InvalidPayload("a payload that says something else of sessions than its contracts")

        says = attributes_of(asked, self._law)
        self._evm.execute(self._name(asked.parent), says, block, Digest(name), judge)

    def _replay(self, payload: bytes) -> None:
        """A payload that was judged before, and got lost here."""
        _, block = _split(payload)
        parent, says = self._evm.attributes_of(block)
        self._evm.execute(parent, says, block)

    def _rpc(self, method: str, params: str, tags: Mapping[str, bytes]) -> list[Any]:
        """What Ethereum's JSON-RPC answers: 0 and the result as JSON, or a code, a message, and data or nothing."""
        self._ethereum.tags = {tag: self._name(name) for tag, name in tags.items()}
        try:
            return [0, json.dumps(self._ethereum.answer(method, json.loads(params))), None]
        except RpcFault as fault:
            return [fault.code, fault.message, fault.data]

    def _follow(self, name: bytes) -> None:
        self._evm.follow(self._name(name))

    # ------------------------------------------------------------------ what is so

    def _accounts(self, name: bytes, addresses: Sequence[bytes]) -> list[Any]:
        view = self._evm.at(self._name(name))
        return [[view.nonce(Address(one)), wide(view.balance(Address(one)))] for one in addresses]

    def _call(self, name: bytes, sender: bytes, to: bytes, data: bytes) -> list[Any]:
        made = self._evm.at(self._name(name)).call(Address(sender), Address(to), data)
        return [made.ok, made.output, made.gas_used]

    def _calls(self, name: bytes, to: bytes, datas: Sequence[bytes]) -> list[bytes | None]:
        view = self._evm.at(self._name(name))
        made = [view.call(NOBODY, Address(to), data) for data in datas]
        return [one.output if one.ok else None for one in made]

    def _place(self, transaction: bytes) -> list[Any] | None:
        found = self._evm.place(transaction)
        if found is None:
            return None
        header = self._evm.header(found.name)
        ok = self._evm.receipts(found.name)[found.at].ok
        return [found.name, header.block_number, header.timestamp, ok]

    def _anchored(self, first: int, last: int) -> list[Any]:
        """Every session that was opened on the head's branch in payloads of those numbers, and what came of it in them.

        session, owner, opened, last head or opening, closed or nothing: each of the last three number and time.
        """
        found: dict[bytes, list[Any]] = {}
        for number in range(first, last + 1):
            name = self._evm.numbered(number)
            if name is None:
                break
            if not self._evm.has_anchors(name):
                continue
            at = [number, self._evm.header(name).timestamp]
            for log in (log for one in self._evm.receipts(name) for log in one.logs):
                match said(log):
                    case Opened(session, owner):
                        found[session] = [session, owner, at, at, None]
                    case Headed(session) if session in found:
                        found[session][3] = at
                    case Closed(session) if session in found:
                        found[session][4] = at
                    case _:
                        pass
        return [*found.values()]
