"""How a transaction ran, as `callTracer` of debug_traceTransaction tells it: a frame for each call, with those that it made.

    py-evm's computation ── frame ──→ {type, from, to, gas, gasUsed, input, output, error, calls: [frame …]}

Source: go-ethereum's documentation of its built-in tracers. What is called within a static call is static, too, and named so.
"""

from typing import Any

from node.chain.ethereum_views import data, quantity


def frame_of(computation: Any, gas: int, gas_used: int) -> dict[str, Any]:
    """A transaction's frame, whose gas and gas used are those of the transaction itself."""
    return {**_frame(computation), "gas": quantity(gas), "gasUsed": quantity(gas_used)}


def _frame(computation: Any) -> dict[str, Any]:
    message = computation.msg
    made: dict[str, Any] = {
        "type": _type(message),
        "from": data(message.sender),
        "to": data(message.storage_address if message.is_create else message.to),
        "gas": quantity(message.gas),
        "gasUsed": quantity(computation.get_gas_used()),
        "input": data(message.data_as_bytes),
        "output": data(computation.output),
    }
    if not message.is_static:
        made["value"] = quantity(message.value)
    if computation.is_error:
        fault = computation.error
        reverted = type(fault).__name__ == "Revert"
        made["error"] = "execution reverted" if reverted else type(fault).__name__
    calls = [_frame(child) for child in computation.children]
    return {**made, "calls": calls} if calls else made


def _type(message: Any) -> str:
    if message.is_create:
        return "CREATE"
    if message.is_static:
        return "STATICCALL"
    return "DELEGATECALL" if message.code_address != message.to else "CALL"
