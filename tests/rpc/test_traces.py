"""debug_traceTransaction: the calls of a transaction, as the same transaction made them in its block."""

from typing import Any

import pytest

from consensus.facts import REWARD, Facts, Minting, facts_proof, facts_root
from consensus.ids import Digest
from consensus.payload import FIRST, UNTOLD, PayloadTerms
from node.chain.engine import Engine
from node.chain.evm import Evm, MemoryRows
from node.chain.genesis import PLACES, ChainLaw
from node.chain.onsystem import Order, calldata, mint, open_session
from node.chain.transactions import address_of, hash_of, sign
from node.chain.verbs import of_terms
from tests.consensus.worlds import named

pytestmark = pytest.mark.component

SECRET = b"\1" * 32
ME = address_of(SECRET)
LAW = ChainLaw(1_280, 1_800_000_000, (ME,), 5)


def chain() -> tuple[Engine, list[bytes]]:
    """A block with an opening, the same again, which is refused, and a minting."""
    engine = Engine(Evm(MemoryRows(), LAW), LAW)
    payout = Minting(1, ME, 7)
    told = Facts(named(1), payout, UNTOLD, UNTOLD)
    siblings = facts_proof(told, REWARD)
    terms = PayloadTerms(FIRST, 2, named(2), ME, facts_root(told), (), None, ())
    orders: list[Order] = [
        open_session(b"u" * 16, bytes(32), bytes(32)),
        open_session(b"u" * 16, bytes(32), bytes(32)),
        mint(payout, LAW.time_of(2), siblings),
    ]
    sent = [sign(SECRET, LAW.chain_id, nonce, one.to, one.data, one.gas) for nonce, one in enumerate(orders)]
    name, payload = engine.verbs["build"](of_terms(terms), sent)
    engine.verbs["judge"](of_terms(terms), name, payload)
    engine.verbs["follow"](name)
    return engine, [hash_of(one) for one in sent]


def traced(engine: Engine, name: bytes, says: Any = None) -> Any:
    return engine._ethereum.answer("debug_traceTransaction", ["0x" + name.hex(), says or {"tracer": "callTracer"}])


def receipt(engine: Engine, name: bytes) -> Any:
    return engine._ethereum.answer("eth_getTransactionReceipt", ["0x" + name.hex()])


def test_a_call_is_a_frame_with_the_gas_of_its_receipt() -> None:
    engine, (opening, _, _) = chain()
    found = traced(engine, opening)
    assert (found["type"], found["from"], found["value"]) == ("CALL", "0x" + ME.hex(), "0x0")
    assert found["to"] == "0x" + PLACES["LucidAnchors"].hex()
    assert found["input"].startswith("0x" + calldata("LucidAnchors", "open", bytes(16), bytes(32), bytes(32))[:4].hex())
    assert (found["gas"], found["gasUsed"]) == (hex(75_000), receipt(engine, opening)["gasUsed"])
    assert "calls" not in found
    assert "error" not in found
    assert len(found["output"]) == 2 + 64


def test_a_call_that_is_refused_says_so_with_its_reason_in_the_output() -> None:
    engine, (_, again, _) = chain()
    found = traced(engine, again)
    assert found["error"] == "execution reverted"
    assert found["output"][2:10] == engine_selector("SessionExists(bytes32)")
    assert receipt(engine, again)["status"] == "0x0"


def engine_selector(spelled: str) -> str:
    from consensus.ids import keccak256

    return keccak256(spelled.encode())[:4].hex()


def test_what_a_contract_calls_is_in_its_frame() -> None:
    engine, (_, _, minting) = chain()
    found = traced(engine, minting)
    kinds = [(one["type"], one["from"], one["to"]) for one in found["calls"]]
    minter, token = ("0x" + PLACES[name].hex() for name in ("RewardMinter", "LucidToken"))
    beacon = "0x000f3df6d732807ef1319fb7b8bb8522d0beac02"
    assert kinds == [("STATICCALL", minter, beacon), ("CALL", minter, token)]
    assert found["calls"][0]["output"] != "0x"
    assert "value" not in found["calls"][0]
    assert receipt(engine, minting)["status"] == "0x1"


def test_other_tracers_and_transactions_that_are_not_there_are_told_apart() -> None:
    engine, (opening, *_) = chain()
    for says, sentence in (({"tracer": "prestateTracer"}, "callTracer"), ({}, "callTracer")):
        with pytest.raises(Exception, match=sentence):
            engine._ethereum.answer("debug_traceTransaction", ["0x" + opening.hex(), says])
    with pytest.raises(Exception, match="no such transaction"):
        traced(engine, bytes(32))
    with pytest.raises(KeyError):
        engine._evm.run_again(Digest(named(9)), 0)
