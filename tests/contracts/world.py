"""A chain of the contracts of the genesis in py-evm at Prague: accounts that send calls, and blocks that pass, in memory."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from eth.chains.base import MiningChain
from eth.db.atomic import AtomicDB
from eth.vm.forks.cancun.constants import BEACON_ROOTS_ADDRESS, BEACON_ROOTS_CONTRACT_CODE
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth_abi.abi import decode, encode
from eth_keys.datatypes import PrivateKey

from consensus.facts import Facts, facts_root
from consensus.ids import Address, keccak256
from node.chain.genesis import GAS_LIMIT, PLACES, ChainLaw, allocation, artefact

SLOT_S: Final = 120
CALL_GAS: Final = 10_000_000
"""What a call may take; py-evm's own default moves a block's limit a little."""
BEGAN: Final = 1_800_000_000


class Reverted(Exception):
    """A call that the contract refused: the name of its error, and what that says."""

    def __init__(self, name: str, said: tuple[Any, ...]) -> None:
        super().__init__(f"{name}{said}")
        self.name, self.said = name, said


class Told(NamedTuple):
    """An event: its name and its arguments by their names."""

    name: str
    said: Mapping[str, Any]


class Done(NamedTuple):
    """A transaction in a block: the gas that it took, what it returned and told."""

    gas: int
    returned: tuple[Any, ...]
    events: tuple[Told, ...]


def abi_of(contract: str) -> Sequence[Mapping[str, Any]]:
    """The ABI that is committed of a contract; nothing of one that is not built yet."""
    found = artefact(contract)
    return () if found is None else found["abi"]


def _types(of: list[Mapping[str, Any]]) -> list[str]:
    return [
        f"({','.join(_types(one['components']))}){one['type'][5:]}" if one["type"].startswith("tuple") else one["type"]
        for one in of
    ]


def _signature(one: Mapping[str, Any]) -> bytes:
    return keccak256(f"{one['name']}({','.join(_types(one['inputs']))})".encode())


class Account:
    """Somebody with a key."""

    def __init__(self, number: int) -> None:
        self.key = PrivateKey(keccak256(b"account %d" % number))
        self.address = self.key.public_key.to_canonical_address()


ACCOUNTS: Final = [Account(number) for number in range(8)]


LAW: Final = ChainLaw(1_280, BEGAN, tuple(Address(one.address) for one in ACCOUNTS))


def signed(who: Account, nonce: int, to: bytes, data: bytes = b"", gas: int = CALL_GAS) -> Any:
    """A transaction of an account's, as py-evm takes it."""
    unsigned = PragueTransactionBuilder.new_unsigned_dynamic_fee_transaction(
        chain_id=LAW.chain_id,
        nonce=nonce,
        max_priority_fee_per_gas=0,
        max_fee_per_gas=1_000,
        gas=gas,
        to=to,  # type: ignore[arg-type]
        value=0,
        data=data,
        access_list=(),
    )
    return unsigned.as_signed_transaction(who.key)


@cache
def _genesis() -> Any:  # py-evm's own types say less than it takes
    kind: Any = MiningChain.configure("Lucid", vm_configuration=((0, PragueVM),), chain_id=LAW.chain_id)
    system = {Address(BEACON_ROOTS_ADDRESS): BEACON_ROOTS_CONTRACT_CODE}
    accounts: Any = {place: one._asdict() | {"storage": {}} for place, one in allocation(LAW, system).items()}
    params = {"difficulty": 0, "gas_limit": GAS_LIMIT, "timestamp": BEGAN, "base_fee_per_gas": 7}
    return kind.from_genesis(AtomicDB(), params, accounts)


class World:
    """The state after the genesis, and what is done to it; nothing of it is seen by another world."""

    def __init__(self) -> None:
        chain = _genesis()
        self._chain = chain
        self._vm: Any = chain.get_vm()

    @property
    def block(self) -> int:
        """The number of the block that calls are in now."""
        number: int = self._vm.get_header().block_number
        return number

    @property
    def time(self) -> int:
        """Its time, in seconds."""
        at: int = self._vm.get_header().timestamp
        return at

    def pass_blocks(self, count: int = 1, beacon_root: bytes = bytes(32)) -> None:
        """The next calls are in a later block, which has that root of the consensus; those between are not even empty."""
        vm, header = self._vm, self._vm.get_header()
        root = vm.state.make_state_root()
        vm.state.persist()
        later = header.copy(
            block_number=header.block_number + count,
            timestamp=header.timestamp + count * SLOT_S,
            state_root=root,
            gas_used=0,
            parent_beacon_block_root=beacon_root,
        )
        self._vm = PragueVM(later, self._chain.chaindb, self._chain, self._chain.consensus_context)
        self._vm.block_preprocessing(self._vm.get_block())

    def tell(self, facts: Facts) -> int:
        """The next calls are in a block that was told those facts; its time, by which they can be shown."""
        self.pass_blocks(1, facts_root(facts))
        return self.time

    def send(self, who: Account, contract: str, function: str, *said: Any) -> Done:
        """A transaction of an account, in the present block; raises Reverted, which changes nothing but its nonce and its coins."""
        found, data = _call(contract, function, said)
        nonce = self._vm.state.get_nonce(who.address)
        transaction = signed(who, nonce, PLACES[contract], data)
        header = self._vm.get_header().copy(gas_used=0)
        receipt, computation = self._vm.apply_transaction(header, transaction)
        if computation.is_error:
            raise _reverted(contract, computation.output)
        return Done(receipt.gas_used, _returned(found, computation.output), _told(receipt.logs))

    def refusal(self, who: Account, contract: str, function: str, *said: Any) -> tuple[str, tuple[Any, ...]]:
        """The error of a transaction that is refused: its name and what it says."""
        try:
            self.send(who, contract, function, *said)
        except Reverted as refused:
            return refused.name, refused.said
        raise AssertionError(f"{contract}.{function} was not refused")

    def act(self, contract: str, by: str, function: str, *said: Any) -> Done:
        """The same by a contract of the genesis, which another of its contracts would have call it."""
        found, data = _call(contract, function, said)
        computation = self._run(PLACES[by], PLACES[contract], data)
        if computation.is_error:
            raise _reverted(contract, computation.output)
        logs = computation.get_log_entries()
        return Done(computation.get_gas_used(), _returned(found, computation.output), _told_of(logs))

    def ask(self, contract: str, function: str, *said: Any) -> Any:
        """What a view answers: the one value, or all of them."""
        found, data = _call(contract, function, said)
        computation = self._run(ACCOUNTS[-1].address, PLACES[contract], data)
        if computation.is_error:
            raise _reverted(contract, computation.output)
        answered = _returned(found, computation.output)
        return answered[0] if len(answered) == 1 else answered

    def _run(self, sender: bytes, to: bytes, data: bytes) -> Any:
        state = self._vm.state
        return self._vm.execute_bytecode(
            origin=sender, gas_price=7, gas=CALL_GAS, to=to, sender=sender, value=0, data=data, code=state.get_code(to)
        )


def encoded(contract: str, function: str, *said: Any) -> bytes:
    """The data of a call."""
    return _call(contract, function, said)[1]


def _call(contract: str, function: str, said: tuple[Any, ...]) -> tuple[Mapping[str, Any], bytes]:
    found: Mapping[str, Any] = next(
        one for one in abi_of(contract) if one["type"] == "function" and one["name"] == function
    )
    return found, _signature(found)[:4] + encode(_types(found["inputs"]), said)


def _returned(function: Mapping[str, Any], output: bytes) -> tuple[Any, ...]:
    answered: tuple[Any, ...] = decode(_types(function["outputs"]), output)
    return answered


def _reverted(contract: str, output: bytes) -> Reverted:
    """Its own error, or one of whatever it called, or a panic of Solidity's."""
    for name in (contract, *PLACES):
        for one in abi_of(name):
            if one["type"] == "error" and _signature(one)[:4] == output[:4]:
                return Reverted(one["name"], decode(_types(one["inputs"]), output[4:]))
    return Reverted("unknown", (output,))


def _told(logs: Any) -> tuple[Told, ...]:
    return _told_of((log.address, log.topics, log.data) for log in logs)


def _told_of(logs: Any) -> tuple[Told, ...]:
    made = []
    names = {place: name for name, place in PLACES.items()}
    for address, topics, data in logs:
        abi = abi_of(names[address])
        one = next(one for one in abi if one["type"] == "event" and _signature(one) == topics[0].to_bytes(32, "big"))
        indexed = [part for part in one["inputs"] if part["indexed"]]
        plain = [part for part in one["inputs"] if not part["indexed"]]
        values = {
            part["name"]: decode(_types([part]), topic.to_bytes(32, "big"))[0]
            for part, topic in zip(indexed, topics[1:], strict=True)
        }
        decoded = decode(_types(plain), data)
        made.append(
            Told(one["name"], values | {part["name"]: value for part, value in zip(plain, decoded, strict=True)})
        )
    return tuple(made)
