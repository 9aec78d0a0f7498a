"""Payloads built and executed: py-evm at Prague, driven block by block, on rows that a block changes whole or not at all.

    parent's name, attributes, transactions ── `build` ──→ payload        payload ── `execute` ──→ Executed, or InvalidPayload
                                                                          name ── `at` ──→ accounts, calls

A payload is an Ethereum block in RLP, its name the hash of its header. Every header stays known, with the state after it, so
that to switch the head is to read at another name. What decides is the block with its parent: neither clock nor peers.

py-evm's own chain is left out: it would choose forks by itself, and its miner leaves out what Prague does before and after a
block. Faults of its EVM that fuzzing against EELS found are mended here: EIP-3860's limit came after other checks, a receipt of
EIP-7623 said less gas than was paid, and some of what Ethereum refuses was taken (`_check_possible`).
Source: DESIGN §7; the Engine API's payload attributes; findings on py-evm 0.12.1b1.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import rlp
from eth.db.atomic import AtomicDB
from eth.db.backends.base import BaseDB
from eth.db.chain import ChainDB
from eth.exceptions import OutOfGas, PyEVMError
from eth.rlp.headers import BlockHeader as OldHeader
from eth.vm.chain_context import ChainContext
from eth.vm.forks.cancun.constants import BEACON_ROOTS_ADDRESS, BEACON_ROOTS_CONTRACT_CODE
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.blocks import PragueBlock, PragueBlockHeader
from eth.vm.forks.prague.constants import HISTORY_STORAGE_ADDRESS, HISTORY_STORAGE_CONTRACT_CODE
from eth.vm.forks.prague.state import PragueTransactionExecutor
from eth.vm.forks.shanghai.constants import MAX_INITCODE_SIZE
from eth.vm.forks.shanghai.logic import Create2EIP3860, CreateEIP3860
from eth.vm.forks.shanghai.withdrawals import Withdrawal
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError
from rlp.exceptions import RLPException

from consensus.encoding import Malformed
from consensus.ids import Address, Digest
from node.chain import index
from node.chain.genesis import BASE_FEE, GAS_LIMIT, PRECOMPILES, ChainLaw, GenesisAccount, allocation
from node.chain.index import EmittedLog, TransactionPlace, TransactionReceipt
from node.chain.spelling import check_depth, decoded
from node.chain.view import View

TYPES: Final = frozenset({0, 1, 2})
"""Transactions: legacy, with access lists, with a base fee. None brings blobs, and none gives an account code."""
ZEROS: Final = bytes(32)
_SPELLING: Final = (RLPException, Malformed, ValueError, TypeError, KeyError, IndexError)
"""What bytes that spell nothing raise."""


class InvalidPayload(Exception):
    """A payload that breaks a rule; the sentence names the first."""


class ChainRows(Protocol):
    """Where the chain is kept: nothing is read that was not committed whole."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""

    def commit(self, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Set, and with None remove, all of them or none."""


class Grant(NamedTuple):
    """Coins that a block gives, in gwei: a withdrawal of EIP-4895, that the consensus worked out."""

    to: Address
    gwei: int


class Attributes(NamedTuple):
    """What the consensus says of a block: not its builder's to choose."""

    timestamp: int
    randao: Digest
    """The seed of the slot."""
    fee_recipient: Address
    beacon_root: Digest
    """The parent's block of the consensus, for EIP-4788."""
    grants: tuple[Grant, ...] = ()


class Executed(NamedTuple):
    """A block that is a part of the tree now."""

    name: Digest
    number: int
    gas_used: int
    receipts: tuple[TransactionReceipt, ...]
    transactions: tuple[bytes, ...]
    """Their hashes, in the same order."""
    senders: tuple[Address, ...]


def _pass(_executed: Executed) -> None:
    """Whatever came of it is right."""


class MemoryRows:
    """Rows that nothing survives."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        return self.rows.get(key)

    def commit(self, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Set and remove."""
        for key, value in rows:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value


class _Layer(BaseDB):
    """What a block changes, on top of what is committed."""

    def __init__(self, rows: ChainRows) -> None:
        self._rows = rows
        self.changes: dict[bytes, bytes | None] = {}

    def __getitem__(self, key: bytes) -> bytes:
        value = self.changes[key] if key in self.changes else self._rows.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.changes[key] = value

    def __delitem__(self, key: bytes) -> None:
        self.changes[key] = None

    def _exists(self, key: bytes) -> bool:
        return (self.changes[key] if key in self.changes else self._rows.get(key)) is not None


class _Vm(PragueVM):
    """Prague, with the gas of a receipt as EIP-7623 has it."""

    @classmethod
    def finalize_gas_used(cls, transaction: Any, computation: Any) -> int:
        """The gas that is paid: what is refunded is a share of what was used, before that is raised to what the data cost at least."""
        used = transaction.gas - computation.get_gas_remaining()
        refund = cls.calculate_net_gas_refund(used, computation.get_gas_refund())
        paid: int = used - refund + computation.data_floor_gas
        return paid


class Evm:
    """The tree of blocks above one genesis; it takes payloads in any order in which parents come first."""

    def __init__(self, rows: ChainRows, law: ChainLaw) -> None:
        self._rows, self._context = rows, ChainContext(law.chain_id)
        self.genesis = self._begin(law)
        self._built: dict[bytes, tuple[Executed, _Layer]] = {}
        """The last block of our own: what it changes is known already."""

    def _begin(self, law: ChainLaw) -> Digest:
        """The genesis block, kept if it is not yet."""
        layer = _Layer(self._rows)
        state = _Vm.build_state(AtomicDB(layer), _before(), self._context)
        for place, account in self._accounts(law).items():
            state.set_balance(place, account.balance)  # type: ignore[arg-type]
            state.set_nonce(place, account.nonce)  # type: ignore[arg-type]
            state.set_code(place, account.code)  # type: ignore[arg-type]
        state.persist()
        header = _Vm.create_genesis_header(
            difficulty=0,
            gas_limit=GAS_LIMIT,
            timestamp=law.began_s,
            base_fee_per_gas=BASE_FEE,
            parent_beacon_block_root=ZEROS,
            state_root=state.state_root,
        )
        layer[header.hash] = rlp.encode(header)
        if self._rows.get(header.hash) is None:
            self._rows.commit(layer.changes.items())
        return Digest(header.hash)

    def _accounts(self, law: ChainLaw) -> Mapping[Address, GenesisAccount]:
        """Every account of the genesis, the contracts that Prague itself calls among them."""
        system = {
            Address(BEACON_ROOTS_ADDRESS): BEACON_ROOTS_CONTRACT_CODE,
            Address(HISTORY_STORAGE_ADDRESS): HISTORY_STORAGE_CONTRACT_CODE,
        }
        return allocation(law, system)

    # ------------------------------------------------------------------ blocks

    def __contains__(self, name: Digest) -> bool:
        return self._rows.get(name) is not None

    def build(self, parent: Digest, attributes: Attributes, transactions: Sequence[bytes]) -> tuple[Digest, bytes]:
        """A payload's name and bytes, with those of the transactions, in their order, that can be in it; others are left out.

        Raises KeyError for a parent that is not known. `execute` still has to be told of it.
        """
        layer = _Layer(self._rows)
        vm = self._vm(layer, parent, attributes)
        block = vm.get_block().copy(withdrawals=_withdrawals(attributes))
        vm._block = block  # as `import_block` does it: what follows looks at its header
        vm.block_preprocessing(block)
        header, taken, receipts = block.header.copy(gas_used=0), [], []
        for data in transactions:
            try:
                check_depth(data[1:] if data[:1] < b"\x7f" else data)
                one = vm.get_transaction_builder().decode(data)
                self._check(one)
                self._check_possible(one)
                receipt, _ = vm.apply_transaction(header, one)
            except (InvalidPayload, ValidationError, RLPException, PyEVMError, Malformed, ValueError, TypeError):
                continue
            header = vm.increment_blob_gas_used(vm.add_receipt_to_header(header, receipt), one)
            taken.append(one)
            receipts.append(receipt)
        vm.apply_all_withdrawals(block.withdrawals)
        filled = vm.set_block_transactions_and_withdrawals(
            block, header, taken, receipts, withdrawals=block.withdrawals
        )
        made = vm.mine_block(vm.block_postprocessing(filled)).block
        name = Digest(made.header.hash)
        self._built = {name: (_executed(made, receipts), layer)}
        return name, rlp.encode(made)

    def built(self, name: Digest) -> Executed:
        """What came of the block that was built last; raises KeyError for another one."""
        return self._built[name][0]

    def execute(
        self,
        parent: Digest,
        attributes: Attributes,
        payload: bytes,
        named: Digest | None = None,
        judge: Callable[[Executed], None] = _pass,
    ) -> Executed:
        """Make a payload a part of the tree; raises InvalidPayload, which changes nothing, and KeyError for an unknown parent.

        Once it returns the block and the state after it are committed. `named` is the name that it has to have;
        `judge` raises InvalidPayload for what came of it.
        """
        block = self._read(payload)
        name = Digest(block.header.hash)
        if named not in (None, name):
            raise InvalidPayload("a payload of another name than its block says")
        self._check_header(block, parent, attributes)
        known = self._built.pop(name) if name in self._built else self._import(block, parent, attributes)
        executed, layer = known
        judge(executed)
        layer[name] = rlp.encode(block.header)
        layer[index.payload_key(name)] = payload
        for key, row in index.rows_of(name, executed.receipts, executed.transactions, self._rows.get):
            layer[key] = row
        self._rows.commit(layer.changes.items())
        return executed

    def attributes_of(self, payload: bytes) -> tuple[Digest, Attributes]:
        """The parent of a payload and what it says of itself: enough to execute it again, once somebody judged it before."""
        block = self._read(payload)
        header = block.header
        grants = tuple(Grant(Address(one.address), one.amount) for one in block.withdrawals)
        says = Attributes(
            header.timestamp,
            Digest(header.mix_hash),
            Address(header.coinbase),
            Digest(header.parent_beacon_block_root),
            grants,
        )
        return Digest(header.parent_hash), says

    def run_again(self, name: Digest, at: int) -> Any:
        """How a transaction of a payload ran, as py-evm's computation, with the calls that it made as its children.

        Raises KeyError for a payload that is not known; costs the execution of all transactions up to that one.
        """
        block = self.block(name)
        if block is None:
            raise KeyError(name)
        parent, says = self.attributes_of(rlp.encode(block))
        vm = self._vm(_Layer(self._rows), parent, says)
        vm._block = vm.get_block().copy(withdrawals=block.withdrawals)
        vm.block_preprocessing(vm.get_block())
        header, computation = vm.get_block().header.copy(gas_used=0), None
        for one in block.transactions[: at + 1]:
            receipt, computation = vm.apply_transaction(header, one)
            header = vm.add_receipt_to_header(header, receipt)
        return computation

    @property
    def head(self) -> Digest:
        """The head of the branch whose numbers are known."""
        return Digest(self._rows.get(index.HEAD) or self.genesis)

    def follow(self, name: Digest) -> None:
        """Make another payload the head; raises KeyError for one that is not known."""
        header = self.header(name)
        if name != self._rows.get(index.HEAD):
            parents = lambda one: Digest(self.header(one).parent_hash)  # noqa: E731
            self._rows.commit(index.numbers_to(name, header.block_number, parents, self._rows.get))

    def numbered(self, number: int) -> Digest | None:
        """The payload of a number on the head's branch."""
        found = self.genesis if number == 0 else self._rows.get(index.number_key(number))
        return None if found is None else Digest(found)

    def header(self, name: Digest) -> Any:
        """The header of a payload; raises KeyError for one that is not known."""
        found = self._rows.get(name)
        if found is None:
            raise KeyError(name)
        return rlp.decode(found, PragueBlockHeader)

    def receipts(self, name: Digest) -> tuple[TransactionReceipt, ...]:
        """What came of a payload's transactions; nothing of the genesis."""
        found = self._rows.get(index.receipts_key(name))
        return () if found is None else index.read_receipts(found)

    def block(self, name: Digest) -> Any:
        """A payload that was executed, taken apart; None for the genesis and for one that is not known."""
        found = self.payload(name)
        return None if found is None else rlp.decode(found, PragueBlock)

    def node(self, name: bytes) -> bytes | None:
        """A node of a trie, by its hash."""
        return self._rows.get(name)

    def has_anchors(self, name: Digest) -> bool:
        """Whether sessions were opened, followed or closed in a payload."""
        return self._rows.get(index.anchors_key(name)) is not None

    def place(self, transaction: bytes) -> TransactionPlace | None:
        """Where a transaction is on the head's branch, by its hash."""
        for one in index.places(self._rows.get(index.places_key(transaction))):
            if self.numbered(self.header(one.name).block_number) == one.name:
                return one
        return None

    def payload(self, name: Digest) -> bytes | None:
        """A payload that was executed."""
        return self._rows.get(index.payload_key(name))

    def _read(self, payload: bytes) -> Any:
        try:
            for one in decoded(payload)[1]:
                if isinstance(one, bytes):
                    check_depth(one[1:])  # of a type, which is spelled within
            block = rlp.decode(payload, PragueBlock)
            if rlp.encode(block) != payload:
                raise InvalidPayload("a payload in another spelling than its own")
        except (*_SPELLING, ValidationError, AttributeError) as error:
            raise InvalidPayload(f"a payload that spells no block: {type(error).__name__}") from error
        return block

    def _check_header(self, block: Any, parent: Digest, attributes: Attributes) -> None:
        """What the consensus says of a block, and the few numbers that are for ever the same."""
        header = block.header
        if header.parent_hash != parent:
            raise InvalidPayload("a payload on top of another block")
        wanted = {
            "timestamp": attributes.timestamp,
            "mix_hash": attributes.randao,
            "coinbase": attributes.fee_recipient,
            "parent_beacon_block_root": attributes.beacon_root,
            "gas_limit": GAS_LIMIT,
            "extra_data": b"",
            "blob_gas_used": 0,
        }
        for field, value in wanted.items():
            if getattr(header, field) != value:
                raise InvalidPayload(f"a payload with another {field} than the consensus says")
        if tuple(block.withdrawals) != _withdrawals(attributes):
            raise InvalidPayload("a payload with other grants than the consensus says")
        for one in block.transactions:
            self._check(one)
            self._check_possible(one)

    def _check(self, one: Any) -> None:
        """The rules that keep all code on the chain our own (DESIGN §7)."""
        if (getattr(one, "type_id", 0) or 0) not in TYPES:
            raise InvalidPayload("a transaction of a type that this chain has not")
        if len(one.to) != 20:
            raise InvalidPayload("a transaction that would create a contract")
        if int.from_bytes(one.to, "big") <= PRECOMPILES:
            raise InvalidPayload("a transaction to a contract of the EVM's own")

    def _check_possible(self, one: Any) -> None:
        """What Ethereum asks of a transaction, and py-evm only once the nonce and the fee are gone, or not at all (found by EELS)."""
        if one.chain_id not in {None, self._context.chain_id}:
            raise InvalidPayload("a transaction of another chain")  # EIP-155; None is one of before it
        if one.gas < max(one.intrinsic_gas, PragueTransactionExecutor.calc_data_floor_gas(one, 0, 0)):
            raise InvalidPayload("a transaction with less gas than its data and lists cost")  # EIP-7623 among others
        if one.max_priority_fee_per_gas > one.max_fee_per_gas:
            raise InvalidPayload("a transaction that gives its leader more than it pays")  # EIP-1559
        try:
            _ = one.sender
        except BadSignature as error:
            raise InvalidPayload("a transaction that nobody signed") from error

    def _import(self, block: Any, parent: Digest, attributes: Attributes) -> tuple[Executed, _Layer]:
        layer = _Layer(self._rows)
        vm = self._vm(layer, parent, attributes)
        try:
            made = vm.import_block(block).block
        except (ValidationError, PyEVMError) as error:
            raise InvalidPayload(f"a payload that cannot be executed: {error}") from error
        for field in ("state_root", "transaction_root", "receipt_root", "bloom", "gas_used", "base_fee_per_gas"):
            if getattr(made.header, field) != getattr(block.header, field):
                raise InvalidPayload(f"a payload whose {field} is another one once it is executed")
        if made.header.hash != block.header.hash:
            raise InvalidPayload("a payload whose header is another one once it is executed")
        return _executed(made, made.get_receipts(vm.chaindb)), layer

    def _vm(self, layer: _Layer, parent: Digest, attributes: Attributes) -> Any:
        return self._on_top(
            layer,
            parent,
            timestamp=attributes.timestamp,
            mix_hash=attributes.randao,
            coinbase=attributes.fee_recipient,
            parent_beacon_block_root=attributes.beacon_root,
        )

    def _on_top(self, layer: _Layer, parent: Digest, **says: Any) -> Any:
        """An EVM for the block after another, whose header says that; raises KeyError for one that is not known."""
        if parent not in self:
            raise KeyError(parent)
        chaindb = ChainDB(AtomicDB(layer))
        before: Any = chaindb.get_block_header_by_hash(parent)  # type: ignore[arg-type]
        says = {"timestamp": before.timestamp + 1, "gas_limit": GAS_LIMIT, **says}  # py-evm would ask the clock
        header = _Vm.create_header_from_parent(before, **says)
        return _Vm(header, chaindb, self._context, None)  # type: ignore[arg-type]

    # ------------------------------------------------------------------ what is so

    def at(self, name: Digest) -> View:
        """The accounts after a block; raises KeyError for one that is not known."""
        return View(self._on_top(_Layer(self._rows), name))


def _before() -> Any:
    return OldHeader(difficulty=0, block_number=-1, gas_limit=0)


def _withdrawals(attributes: Attributes) -> tuple[Any, ...]:
    made: Any = Withdrawal  # whose address is another name for 20 bytes
    return tuple(made(at, 0, one.to, one.gwei) for at, one in enumerate(attributes.grants))


def _executed(block: Any, receipts: Iterable[Any]) -> Executed:
    before, made = 0, []
    for one in receipts:
        logs = tuple(
            EmittedLog(Address(log.address), tuple(topic.to_bytes(32, "big") for topic in log.topics), bytes(log.data))
            for log in one.logs
        )
        made.append(TransactionReceipt(one.state_root == b"\1", one.gas_used - before, logs))
        before = one.gas_used
    header, sent = block.header, block.transactions
    hashes, senders = tuple(bytes(one.hash) for one in sent), tuple(Address(one.sender) for one in sent)
    return Executed(Digest(header.hash), header.block_number, header.gas_used, tuple(made), hashes, senders)


def _mend() -> None:
    """EIP-3860: too much code for a creation ends the frame before anything else is looked at."""
    for kind in (CreateEIP3860, Create2EIP3860):

        def get_gas_cost(self: Any, data: Any, _usual: Any = kind.get_gas_cost) -> int:
            if data.memory_length > MAX_INITCODE_SIZE:
                raise OutOfGas("EIP-3860: more code than a creation may have")
            cost: int = _usual(self, data)
            return cost

        kind.get_gas_cost = get_gas_cost  # type: ignore[method-assign]


_mend()
