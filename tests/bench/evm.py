"""What the execution layer costs: blocks of 300 transactions of a kind, built by one node and executed by another, in memory.

Per second of one core's process time; the store is a dict, so what a disk takes is not in it.
"""

import time
from pathlib import Path
from typing import Final

from consensus.ids import Address, Digest, session_id
from node.chain.evm import Evm, MemoryRows
from node.chain.genesis import PLACES
from tests.bench.measure import spread, table
from tests.contracts.world import ACCOUNTS, LAW, encoded
from tests.node.chain.test_evm import attributes, signed

COUNT: Final = 300
WANTED: Final = 300
"""Openings a second."""


def main(_folder: Path, rounds: int) -> dict[str, object]:
    """Measure and print; returns the figures in transactions a second."""
    openings = [_opening(number) for number in range(COUNT)]
    heads = [_head(number) for number in range(COUNT)]
    measured: dict[str, list[float]] = {"open, built": [], "open": [], "head": [], "nothing, ms a block": []}
    gas = {}
    for _ in range(rounds):
        builder, node = Evm(MemoryRows(), LAW), Evm(MemoryRows(), LAW)
        parent = builder.genesis
        for slot, (name, transactions) in enumerate((("open", openings), ("head", heads), ("", [])), start=1):
            began = time.process_time()
            made, payload = builder.build(parent, attributes(slot), transactions)
            built = time.process_time() - began
            builder.execute(parent, attributes(slot), payload)
            began = time.process_time()
            done = node.execute(parent, attributes(slot), payload)
            took = time.process_time() - began
            if len(done.receipts) != len(transactions) or not all(receipt.ok for receipt in done.receipts):
                raise RuntimeError("not every transaction was executed")
            if name == "open":
                measured["open, built"].append(COUNT / built)
            if name:
                measured[name].append(COUNT / took)
                gas[name] = done.gas_used // COUNT
            else:
                measured["nothing, ms a block"].append(1_000 * took)
            parent = made
    rows: list[tuple[str, ...]] = [("", "a second", "gas", "at least")]
    for name, values in measured.items():
        rows.append(
            (name, spread(values), f"{gas[name]:,}" if name in gas else "", f"{WANTED}" if name == "open" else "")
        )
    table(rows)
    return dict(measured)


def _opening(number: int) -> bytes:
    who = ACCOUNTS[number % len(ACCOUNTS)]
    data = encoded("LucidAnchors", "open", number.to_bytes(16, "big"), bytes(32), bytes(32))
    return signed(who, number // len(ACCOUNTS), PLACES["LucidAnchors"], data)


def _head(number: int) -> bytes:
    """A head of the session that the same account opened in its own number."""
    who = ACCOUNTS[number % len(ACCOUNTS)]
    before = -(-(COUNT - number % len(ACCOUNTS)) // len(ACCOUNTS))
    session = _session(who.address, number)
    data = encoded("LucidAnchors", "head", session, number, Digest(bytes(32)))
    return signed(who, before + number // len(ACCOUNTS), PLACES["LucidAnchors"], data)


def _session(owner: bytes, number: int) -> bytes:
    return bytes(session_id(Address(owner), number.to_bytes(16, "big"), bytes(32)))
