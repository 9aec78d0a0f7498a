"""Blocks executed by EELS, Ethereum's executable specification, in a Python of its own: lines of JSON in, a line of JSON out for each.

    {"chain", "timestamp", "gas_limit", "base_fee", "accounts": {address: [balance, nonce, code]}}  ──→  {"name", "state_root"}
    {"payload", "left_out": [[place, transaction], …]}    ──→  {"name", the roots, "gas", "taken"}, or {"refused": why}

A first line begins a chain, the others are blocks on top of the last; bytes are in hex. Roots and gas are what EELS comes to,
whatever the payload says of them. `left_out` are transactions that another left out before the one at a place: `taken` are
those of them that EELS could have had there. Of the project nothing is imported here.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ethereum.crypto.hash import keccak256
from ethereum.exceptions import EthereumException, InvalidTransaction
from ethereum.forks.prague import vm
from ethereum.forks.prague.blocks import Block, Header, Receipt, decode_receipt
from ethereum.forks.prague.bloom import logs_bloom
from ethereum.forks.prague.fork import (
    BEACON_ROOTS_ADDRESS,
    EMPTY_OMMER_HASH,
    HISTORY_STORAGE_ADDRESS,
    BlockChain,
    check_transaction,
    get_last_256_block_hashes,
    process_general_purpose_requests,
    process_transaction,
    process_unchecked_system_transaction,
    process_withdrawals,
    validate_header,
)
from ethereum.forks.prague.fork_types import Account, Address, Bloom, Root
from ethereum.forks.prague.requests import compute_requests_hash
from ethereum.forks.prague.state import State, set_account, state_root
from ethereum.forks.prague.transactions import LegacyTransaction, decode_transaction, validate_transaction
from ethereum.forks.prague.trie import Trie, root, trie_get
from ethereum_rlp import rlp
from ethereum_rlp.exceptions import RLPException
from ethereum_types.bytes import Bytes, Bytes8, Bytes32
from ethereum_types.numeric import U64, U256, Uint

EMPTY: Any = root(Trie(secured=False, default=None))


def begin(said: Mapping[str, Any]) -> tuple[BlockChain, dict[str, Any]]:
    """A chain with nothing but its genesis, and what that is called."""
    state = State()
    for address, (balance, nonce, code) in said["accounts"].items():
        account = Account(nonce=Uint(nonce), balance=U256(balance), code=Bytes.fromhex(code))
        set_account(state, Address(bytes.fromhex(address)), account)
    header = Header(
        parent_hash=Bytes32(bytes(32)),
        ommers_hash=EMPTY_OMMER_HASH,
        coinbase=Address(bytes(20)),
        state_root=state_root(state),
        transactions_root=EMPTY,
        receipt_root=EMPTY,
        bloom=Bloom(bytes(256)),
        difficulty=Uint(0),
        number=Uint(0),
        gas_limit=Uint(said["gas_limit"]),
        gas_used=Uint(0),
        timestamp=U256(said["timestamp"]),
        extra_data=Bytes(b""),
        prev_randao=Bytes32(bytes(32)),
        nonce=Bytes8(bytes(8)),
        base_fee_per_gas=Uint(said["base_fee"]),
        withdrawals_root=EMPTY,
        blob_gas_used=U64(0),
        excess_blob_gas=U64(0),
        parent_beacon_block_root=Root(bytes(32)),
        requests_hash=compute_requests_hash([]),
    )
    genesis = Block(header=header, transactions=(), ommers=(), withdrawals=())
    chain = BlockChain(blocks=[genesis], state=state, chain_id=U64(said["chain"]))
    return chain, {"name": name_of(header), "state_root": header.state_root.hex()}


def name_of(header: Header) -> str:
    """What a block is called."""
    return str(keccak256(rlp.encode(header)).hex())


def execute(chain: BlockChain, payload: bytes, left_out: list[tuple[int, bytes]]) -> dict[str, Any]:
    """What a block on top of the last comes to; the chain goes on from there. Raises EthereumException for one that cannot be."""
    block = rlp.decode_to(Block, payload)
    validate_header(chain, block.header)
    environment = environment_of(chain, block.header)
    output, taken = vm.BlockOutput(), []
    process_unchecked_system_transaction(environment, BEACON_ROOTS_ADDRESS, block.header.parent_beacon_block_root)
    process_unchecked_system_transaction(environment, HISTORY_STORAGE_ADDRESS, environment.block_hashes[-1])
    for place in range(len(block.transactions) + 1):
        taken += [data.hex() for at, data in left_out if at == place and could_have(environment, output, data)]
        if place < len(block.transactions):
            process_transaction(environment, output, read(environment, block.transactions[place]), Uint(place))
    process_withdrawals(environment, output, block.withdrawals)
    process_general_purpose_requests(environment, output)
    chain.blocks = [*chain.blocks[-255:], block]
    return {
        "name": name_of(block.header),
        "state_root": state_root(environment.state).hex(),
        "transaction_root": root(output.transactions_trie).hex(),
        "receipt_root": root(output.receipts_trie).hex(),
        "withdrawals_root": root(output.withdrawals_trie).hex(),
        "requests_hash": compute_requests_hash(output.requests).hex(),
        "bloom": logs_bloom(output.block_logs).hex(),
        "gas_used": int(output.block_gas_used),
        "gas": [[bool(one.succeeded), int(one.cumulative_gas_used)] for one in receipts(output)],
        "taken": taken,
    }


def environment_of(chain: BlockChain, header: Header) -> vm.BlockEnvironment:
    """What the transactions of a block see of it."""
    return vm.BlockEnvironment(
        chain_id=chain.chain_id,
        state=chain.state,
        block_gas_limit=header.gas_limit,
        block_hashes=get_last_256_block_hashes(chain),
        coinbase=header.coinbase,
        number=header.number,
        base_fee_per_gas=header.base_fee_per_gas,
        time=header.timestamp,
        prev_randao=header.prev_randao,
        excess_blob_gas=header.excess_blob_gas,
        parent_beacon_block_root=header.parent_beacon_block_root,
    )


def read(environment: vm.BlockEnvironment, spelled: LegacyTransaction | bytes) -> Any:
    """A transaction; raises InvalidTransaction for one of another chain, which EELS looks at in legacy ones alone."""
    one = decode_transaction(spelled)
    if not isinstance(one, LegacyTransaction) and one.chain_id != environment.chain_id:
        raise InvalidTransaction("another chain")
    return one


def could_have(environment: vm.BlockEnvironment, output: vm.BlockOutput, data: bytes) -> bool:
    """Whether a transaction could be the next of a block."""
    try:
        one = read(environment, data if data and data[0] < 0x80 else rlp.decode_to(LegacyTransaction, data))
        validate_transaction(one)
        check_transaction(environment, output, one)
    except (EthereumException, RLPException, ValueError, OverflowError):
        return False
    return True


def receipts(output: vm.BlockOutput) -> Iterator[Receipt]:
    """The receipts of a block, in their order."""
    for key in output.receipt_keys:
        yield decode_receipt(trie_get(output.receipts_trie, key))


def main() -> None:
    """Answer until there is nothing more to read."""
    chain: BlockChain | None = None
    for line in sys.stdin:
        said = json.loads(line)
        if "accounts" in said:
            chain, answer = begin(said)
        else:
            assert chain is not None
            left_out = [(place, bytes.fromhex(data)) for place, data in said["left_out"]]
            try:
                answer = execute(chain, bytes.fromhex(said["payload"]), left_out)
            except (EthereumException, RLPException) as error:
                answer = {"refused": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
