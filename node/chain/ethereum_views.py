"""Payloads, transactions, receipts and logs as Ethereum's JSON-RPC writes them, and what its params spell.

Source: the Ethereum execution APIs; EIP-1474.
"""

from collections.abc import Sequence
from typing import Any, Final

import rlp

from consensus.ids import Address, Digest
from node.chain.index import EmittedLog, TransactionReceipt
from node.chain.receipts import bloom_of

NO_UNCLES: Final = bytes.fromhex("1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347")


class RpcFault(Exception):
    """Why there is no result, as JSON-RPC says it."""

    def __init__(self, code: int, message: str, given: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, given


# ------------------------------------------------------------------ params


def as_quantity(text: Any) -> int:
    """The number that a hex text spells; raises RpcFault."""
    if not isinstance(text, str) or not text.startswith("0x") or len(text) > 66:
        raise RpcFault(-32602, f"{str(text)[:40]!r} is no quantity: write it as 0x1f")
    try:
        return int(text, 16)
    except ValueError:
        raise RpcFault(-32602, f"{text[:40]!r} is no quantity: write it as 0x1f") from None


def as_bytes(text: Any) -> bytes:
    """The bytes that a hex text spells; raises RpcFault."""
    if not isinstance(text, str) or not text.startswith("0x"):
        raise RpcFault(-32602, f"{str(text)[:40]!r} is no data: write it as 0x00ff")
    try:
        return bytes.fromhex(text[2:])
    except ValueError:
        raise RpcFault(-32602, f"{text[:40]!r} is no data: write it as 0x00ff") from None


def as_address(text: Any) -> Address:
    """The address that a hex text spells; raises RpcFault."""
    found = as_bytes(text)
    if len(found) != 20:
        raise RpcFault(-32602, f"{text[:60]!r} is no address: it has 20 bytes")
    return Address(found)


def as_hash(text: Any) -> Digest:
    """The hash that a hex text spells; raises RpcFault."""
    found = as_bytes(text)
    if len(found) != 32:
        raise RpcFault(-32602, f"{text[:80]!r} is no hash: it has 32 bytes")
    return Digest(found)


def addresses_of(wanted: Any) -> set[Address] | None:
    """The addresses of a filter; None for any."""
    if wanted is None or wanted == []:
        return None
    return {as_address(one) for one in (wanted if isinstance(wanted, list) else [wanted])}


# ------------------------------------------------------------------ results


def quantity(number: int) -> str:
    """A number: hex without leading zeros."""
    return hex(number)


def data(given: bytes) -> str:
    """Bytes: hex."""
    return "0x" + given.hex()


def block_of(name: Digest, header: Any, block: Any, *, whole: bool) -> dict[str, Any]:
    """A payload; its transactions whole or by their hashes. The genesis has no block beside its header."""
    taken = () if block is None else block.transactions
    withdrawals = () if block is None else block.withdrawals
    return {
        "number": quantity(header.block_number),
        "hash": data(name),
        "parentHash": data(header.parent_hash),
        "nonce": data(header.nonce),
        "sha3Uncles": data(NO_UNCLES),
        "logsBloom": data(header.bloom.to_bytes(256, "big")),
        "transactionsRoot": data(header.transaction_root),
        "stateRoot": data(header.state_root),
        "receiptsRoot": data(header.receipt_root),
        "miner": data(header.coinbase),
        "difficulty": "0x0",
        "totalDifficulty": "0x0",
        "extraData": data(header.extra_data),
        "size": quantity(len(rlp.encode(header if block is None else block))),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "mixHash": data(header.mix_hash),
        "baseFeePerGas": quantity(header.base_fee_per_gas),
        "withdrawalsRoot": data(header.withdrawals_root),
        "blobGasUsed": quantity(header.blob_gas_used),
        "excessBlobGas": quantity(header.excess_blob_gas),
        "parentBeaconBlockRoot": data(header.parent_beacon_block_root),
        "requestsHash": data(header.requests_hash),
        "transactions": [
            transaction_of(one, name, header, at) if whole else data(one.hash) for at, one in enumerate(taken)
        ],
        "withdrawals": [
            {
                "index": quantity(one.index),
                "validatorIndex": quantity(one.validator_index),
                "address": data(one.address),
                "amount": quantity(one.amount),
            }
            for one in withdrawals
        ],
        "uncles": [],
    }


def transaction_of(one: Any, name: Digest, header: Any, at: int) -> dict[str, Any]:
    """A transaction in its payload."""
    kind = getattr(one, "type_id", 0) or 0
    found: dict[str, Any] = {
        "blockHash": data(name),
        "blockNumber": quantity(header.block_number),
        "transactionIndex": quantity(at),
        "hash": data(one.hash),
        "type": quantity(kind),
        "nonce": quantity(one.nonce),
        "gas": quantity(one.gas),
        "from": data(one.sender),
        "to": data(one.to),
        "value": quantity(one.value),
        "input": data(one.data),
        "gasPrice": quantity(price_of(one, header)),
        "r": quantity(one.r),
        "s": quantity(one.s),
        "chainId": None if one.chain_id is None else quantity(one.chain_id),
    }
    if not kind:
        return {**found, "v": quantity(one.v)}
    lists = [
        {"address": data(address), "storageKeys": [data(slot.to_bytes(32, "big")) for slot in slots]}
        for address, slots in one.access_list
    ]
    found |= {"v": quantity(one.y_parity), "yParity": quantity(one.y_parity), "accessList": lists}
    if kind == 2:
        fees = {"maxFeePerGas": one.max_fee_per_gas, "maxPriorityFeePerGas": one.max_priority_fee_per_gas}
        found |= {key: quantity(fee) for key, fee in fees.items()}
    return found


def price_of(one: Any, header: Any) -> int:
    """What a transaction paid for a unit of gas."""
    return int(min(one.max_fee_per_gas, header.base_fee_per_gas + one.max_priority_fee_per_gas))


def receipt_of(
    name: Digest, header: Any, taken: Sequence[Any], receipts: Sequence[TransactionReceipt]
) -> list[dict[str, Any]]:
    """The receipts of a payload, in the order of its transactions."""
    found, gas, logs = [], 0, 0
    for at, (one, receipt) in enumerate(zip(taken, receipts, strict=True)):
        gas += receipt.gas_used
        told = [log_of(log, name, header, one, at, logs + number) for number, log in enumerate(receipt.logs)]
        logs += len(told)
        found.append(
            {
                "transactionHash": data(one.hash),
                "transactionIndex": quantity(at),
                "blockHash": data(name),
                "blockNumber": quantity(header.block_number),
                "from": data(one.sender),
                "to": data(one.to),
                "cumulativeGasUsed": quantity(gas),
                "gasUsed": quantity(receipt.gas_used),
                "effectiveGasPrice": quantity(price_of(one, header)),
                "contractAddress": None,
                "logs": told,
                "logsBloom": data(bloom_of(receipt.logs)),
                "type": quantity(getattr(one, "type_id", 0) or 0),
                "status": quantity(int(receipt.ok)),
            }
        )
    return found


def log_of(log: EmittedLog, name: Digest, header: Any, one: Any, place: int, at: int) -> dict[str, Any]:
    """An event; at is its place among all of its payload's."""
    return {
        "address": data(log.address),
        "topics": [data(topic) for topic in log.topics],
        "data": data(log.data),
        "blockHash": data(name),
        "blockNumber": quantity(header.block_number),
        "blockTimestamp": quantity(header.timestamp),
        "transactionHash": data(one.hash),
        "transactionIndex": quantity(place),
        "logIndex": quantity(at),
        "removed": False,
    }
