"""Ethereum's JSON-RPC on a tree of payloads: what can be asked without changing anything. Pure but for the filters' memory.

    method, params ── `answer` ──→ what goes into "result", or RpcFault: code, message, data

Tags: latest is the head's payload, safe and finalized are the consensus' own, pending is latest. Quantities are hex without
leading zeros, data is hex of whole bytes. Source: the Ethereum execution APIs; EIP-1474, EIP-1186; findings on what clients call.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from consensus.ids import Address, Digest, keccak256
from node.chain import ethereum_proofs
from node.chain.ethereum_traces import frame_of
from node.chain.ethereum_views import (
    RpcFault,
    addresses_of,
    as_address,
    as_bytes,
    as_hash,
    as_quantity,
    block_of,
    data,
    log_of,
    quantity,
    receipt_of,
    transaction_of,
)
from node.chain.evm import Evm
from node.chain.genesis import GAS_LIMIT
from node.chain.index import EmittedLog
from node.chain.transactions import intrinsic_gas

LOG_BLOCKS_MAX: Final = 10_000
LOGS_MAX: Final = 10_000
HISTORY_MAX: Final = 1_024
FILTERS_MAX: Final = 64
REVERTED: Final = 3
TOO_MUCH: Final = -32005
NOT_FOUND: Final = -32601
TIP_WEI: Final = 1


class Ethereum:
    """The methods, on one tree; `tags` says which payloads the consensus calls safe and finalized."""

    def __init__(self, evm: Evm, chain_id: int, version: str) -> None:
        self._evm, self._chain_id = evm, chain_id
        self.tags: Mapping[str, Digest] = {}
        self._filters: dict[int, tuple[dict[str, Any] | None, int]] = {}
        """By number: what of logs is wanted (None: blocks), and the next block."""
        self._last = 0
        self._methods: Mapping[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: version,
            "web3_sha3": lambda given: data(keccak256(as_bytes(given))),
            "net_version": lambda: str(chain_id),
            "net_listening": lambda: True,
            "eth_chainId": lambda: quantity(chain_id),
            "eth_accounts": list,
            "eth_syncing": lambda: False,
            "eth_blockNumber": lambda: quantity(self._height),
            "eth_gasPrice": lambda: quantity(self._header("latest").base_fee_per_gas + TIP_WEI),
            "eth_maxPriorityFeePerGas": lambda: quantity(TIP_WEI),
            "eth_feeHistory": self._fee_history,
            "eth_getBlockByNumber": lambda at, whole=False: self._block(self._named(at), whole=whole),
            "eth_getBlockByHash": lambda name, whole=False: self._block(self._known(as_hash(name)), whole=whole),
            "eth_getBlockTransactionCountByNumber": lambda at: self._count(self._named(at)),
            "eth_getBlockTransactionCountByHash": lambda name: self._count(self._known(as_hash(name))),
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionByBlockNumberAndIndex": lambda at, place: self._transaction_at(self._named(at), place),
            "eth_getTransactionByBlockHashAndIndex": lambda name, place: self._transaction_at(
                self._known(as_hash(name)), place
            ),
            "eth_getTransactionReceipt": self._receipt,
            "eth_getBlockReceipts": self._receipts,
            "eth_getBalance": lambda who, at="latest": quantity(self._view(at).balance(as_address(who))),
            "eth_getTransactionCount": lambda who, at="latest": quantity(self._view(at).nonce(as_address(who))),
            "eth_getCode": lambda who, at="latest": data(self._view(at).code(as_address(who))),
            "eth_getStorageAt": lambda who, slot, at="latest": data(
                self._view(at).storage(as_address(who), as_quantity(slot)).to_bytes(32, "big")
            ),
            "eth_getProof": self._proof,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "debug_traceTransaction": self._trace,
            "eth_getLogs": self._logs,
            "eth_newFilter": lambda wanted: self._new_filter(dict(wanted)),
            "eth_newBlockFilter": lambda: self._new_filter(None),
            "eth_getFilterChanges": self._changes,
            "eth_getFilterLogs": self._filter_logs,
            "eth_uninstallFilter": lambda number: self._filters.pop(as_quantity(number), None) is not None,
        }

    def answer(self, method: str, params: Sequence[Any]) -> Any:
        """The result of a method; raises RpcFault."""
        call = self._methods.get(method)
        if call is None:
            raise RpcFault(NOT_FOUND, f"the method {method[:60]} does not exist here")
        try:
            return call(*params)
        except RpcFault:
            raise
        except (TypeError, ValueError, AttributeError, KeyError, IndexError, OverflowError) as error:
            raise RpcFault(-32602, f"invalid params of {method}: {error}"[:300]) from error

    # ------------------------------------------------------------------ blocks

    @property
    def _height(self) -> int:
        return int(self._evm.header(self._evm.head).block_number)

    def _known(self, name: Digest) -> Digest | None:
        return name if name in self._evm else None

    def _named(self, at: Any) -> Digest | None:
        """The payload of a tag, of a number on the head's branch, or of EIP-1898's object."""
        if isinstance(at, dict):
            return self._known(as_hash(at["blockHash"])) if "blockHash" in at else self._named(at["blockNumber"])
        match at:
            case "latest" | "pending" | None:
                return self._evm.head
            case "earliest":
                return self._evm.genesis
            case "safe" | "finalized":
                return self.tags.get(at, self._evm.genesis)
            case _:
                return self._evm.numbered(as_quantity(at))

    def _there(self, at: Any) -> Digest:
        name = self._named(at)
        if name is None:
            raise RpcFault(-32001, "there is no such block")
        return name

    def _header(self, at: Any) -> Any:
        return self._evm.header(self._there(at))

    def _view(self, at: Any) -> Any:
        return self._evm.at(self._there(at))

    def _block(self, name: Digest | None, *, whole: bool) -> Any:
        if name is None:
            return None
        return block_of(name, self._evm.header(name), self._evm.block(name), whole=bool(whole))

    def _count(self, name: Digest | None) -> str | None:
        return None if name is None else quantity(len(self._taken(name)))

    def _taken(self, name: Digest) -> Sequence[Any]:
        block = self._evm.block(name)
        return () if block is None else block.transactions

    # ------------------------------------------------------------------ transactions

    def _transaction(self, wanted: Any) -> Any:
        place = self._evm.place(as_hash(wanted))
        return None if place is None else self._transaction_at(place.name, quantity(place.at))

    def _transaction_at(self, name: Digest | None, place: Any) -> Any:
        at = as_quantity(place)
        taken = () if name is None else self._taken(name)
        return None if name is None or at >= len(taken) else transaction_of(taken[at], name, self._evm.header(name), at)

    def _receipt(self, wanted: Any) -> Any:
        place = self._evm.place(as_hash(wanted))
        return None if place is None else self._all_receipts(place.name)[place.at]

    def _receipts(self, at: Any) -> Any:
        name = self._named(at)
        return None if name is None else self._all_receipts(name)

    def _all_receipts(self, name: Digest) -> list[Any]:
        return receipt_of(name, self._evm.header(name), self._taken(name), self._evm.receipts(name))

    def _trace(self, wanted: Any, says: Any = None) -> Any:
        tracer = (says or {}).get("tracer")
        if tracer != "callTracer":
            raise RpcFault(-32602, 'name a tracer: {"tracer": "callTracer"} is the one that is here')
        place = self._evm.place(as_hash(wanted))
        if place is None:
            raise RpcFault(-32000, "there is no such transaction")
        ran = self._evm.run_again(place.name, place.at)
        sent = self._taken(place.name)[place.at]
        return frame_of(ran, sent.gas, self._evm.receipts(place.name)[place.at].gas_used)

    # ------------------------------------------------------------------ accounts and calls

    def _proof(self, who: Any, slots: Sequence[Any], at: Any = "latest") -> Any:
        if len(slots) > HISTORY_MAX:
            raise RpcFault(TOO_MUCH, f"at most {HISTORY_MAX} slots at a time")
        root = self._header(at).state_root
        return ethereum_proofs.proof(self._evm.node, root, as_address(who), [as_quantity(slot) for slot in slots])

    def _asked(self, call: Mapping[str, Any]) -> tuple[Address, Address, bytes, int]:
        sender = as_address(call["from"]) if call.get("from") else Address(bytes(20))
        if not call.get("to"):
            raise RpcFault(-32000, "this chain creates no contracts: a call has to name one")
        given = call.get("input") or call.get("data") or "0x"
        return sender, as_address(call["to"]), as_bytes(given), as_quantity(call.get("value") or "0x0")

    def _call(self, call: Mapping[str, Any], at: Any = "latest", *_overrides: Any) -> str:
        sender, to, given, value = self._asked(call)
        gas = min(as_quantity(call.get("gas") or quantity(GAS_LIMIT)), GAS_LIMIT)
        found = self._view(at).call(sender, to, given, gas, value)
        if not found.ok:
            raise reverted(found.output)
        return data(found.output)

    def _estimate(self, call: Mapping[str, Any], at: Any = "latest", *_overrides: Any) -> str:
        """The least gas with which a call succeeds, by bisection, some fifteen executions."""
        sender, to, given, value = self._asked(call)
        view, least = self._view(at), intrinsic_gas(given)
        most = min(as_quantity(call.get("gas") or quantity(GAS_LIMIT)), GAS_LIMIT) - least
        found = view.call(sender, to, given, most, value)
        if not found.ok:
            raise reverted(found.output)
        low, high = found.gas_used - 1, min(most, max(found.gas_used, 1))
        while not view.call(
            sender, to, given, high, value
        ).ok:  # what is paid back, and a 64th at each depth, is needed first
            low, high = high, min(most, 2 * high)
        while low + 1 < high:
            middle = (low + high) // 2
            if view.call(sender, to, given, middle, value).ok:
                high = middle
            else:
                low = middle
        return quantity(least + high)

    def _fee_history(self, count: Any, newest: Any, percentiles: Sequence[Any] = ()) -> Any:
        last = self._header(newest).block_number
        first = max(0, last - min(as_quantity(count) if isinstance(count, str) else int(count), HISTORY_MAX) + 1)
        headers = [self._header(quantity(number)) for number in range(first, last + 1)]
        return {
            "oldestBlock": quantity(first),
            "baseFeePerGas": [quantity(one.base_fee_per_gas) for one in (*headers, headers[-1])],
            "gasUsedRatio": [one.gas_used / one.gas_limit for one in headers],
            "baseFeePerBlobGas": [quantity(1)] * (len(headers) + 1),
            "blobGasUsedRatio": [0.0] * len(headers),
            **({"reward": [[quantity(TIP_WEI)] * len(percentiles)] * len(headers)} if percentiles else {}),
        }

    # ------------------------------------------------------------------ logs

    def _logs(self, wanted: Mapping[str, Any]) -> list[Any]:
        if "blockHash" in wanted:
            name = self._known(as_hash(wanted["blockHash"]))
            if name is None:
                raise RpcFault(-32001, "there is no such block")
            names = [name]
        else:
            first = self._header(wanted.get("fromBlock", "latest")).block_number
            last = min(self._header_number(wanted.get("toBlock", "latest")), self._height)
            names = self._range(first, last)
        return self._logs_in(names, wanted)

    def _logs_in(self, names: Sequence[Digest], wanted: Mapping[str, Any]) -> list[Any]:
        """The logs of some payloads; raises RpcFault where they are too many."""
        found: list[Any] = []
        for name in names:
            found += self._logs_of(name, wanted)
            if len(found) > LOGS_MAX:
                raise RpcFault(TOO_MUCH, f"more than {LOGS_MAX} logs: ask for fewer blocks")
        return found

    def _header_number(self, at: Any) -> int:
        """A number may be beyond the head: then it is the head's."""
        if isinstance(at, str) and at.startswith("0x"):
            return as_quantity(at)
        return int(self._header(at).block_number)

    def _range(self, first: int, last: int) -> list[Digest]:
        if last - first >= LOG_BLOCKS_MAX:
            raise RpcFault(TOO_MUCH, f"{last - first + 1} blocks are too many: ask for {LOG_BLOCKS_MAX} at a time")
        return [name for number in range(first, last + 1) if (name := self._evm.numbered(number)) is not None]

    def _logs_of(self, name: Digest, wanted: Mapping[str, Any]) -> list[Any]:
        receipts = self._evm.receipts(name)
        if not any(one.logs for one in receipts):
            return []
        whose, topics = addresses_of(wanted.get("address")), wanted.get("topics") or []
        header, taken, found, at = self._evm.header(name), self._taken(name), [], 0
        for place, receipt in enumerate(receipts):
            for log in receipt.logs:
                if (whose is None or log.address in whose) and _fits(log, topics):
                    found.append(log_of(log, name, header, taken[place], place, at))
                at += 1
        return found

    # ------------------------------------------------------------------ filters

    def _new_filter(self, wanted: dict[str, Any] | None) -> str:
        self._last += 1
        self._filters[self._last] = wanted, self._height + 1
        while len(self._filters) > FILTERS_MAX:
            del self._filters[next(iter(self._filters))]
        return quantity(self._last)

    def _filter(self, number: Any) -> tuple[int, dict[str, Any] | None, int]:
        key = as_quantity(number)
        if key not in self._filters:
            raise RpcFault(-32000, "filter not found: it is forgotten after a restart, and the oldest of many are")
        wanted, following = self._filters.pop(key)
        self._filters[key] = wanted, self._height + 1
        return key, wanted, following

    def _changes(self, number: Any) -> list[Any]:
        _, wanted, following = self._filter(number)
        if following > self._height:
            return []
        names = self._range(following, self._height)
        return [data(name) for name in names] if wanted is None else self._logs_in(names, wanted)

    def _filter_logs(self, number: Any) -> list[Any]:
        _, wanted, _ = self._filter(number)
        if wanted is None:
            raise RpcFault(-32000, "this filter is one of blocks")
        return self._logs(wanted)


def reverted(output: bytes) -> RpcFault:
    """How clients expect a refusal of a contract: with what it said, and in words where it is a plain reason."""
    reason = ""
    if output[:4] == bytes.fromhex("08c379a0") and len(output) >= 68:
        length = int.from_bytes(output[36:68], "big")
        reason = ": " + output[68 : 68 + min(length, 300)].decode("utf-8", "replace")
    return RpcFault(REVERTED, "execution reverted" + reason, data(output))


def _fits(log: EmittedLog, topics: Sequence[Any]) -> bool:
    """Whether a log has the topics that are wanted: at each place one, one of several, or any."""
    if len(topics) > len(log.topics):
        return False
    for wanted, topic in zip(topics, log.topics, strict=False):
        if wanted is None or wanted == []:
            continue
        allowed = wanted if isinstance(wanted, list) else [wanted]
        if topic not in [as_hash(one) for one in allowed]:
            return False
    return True
