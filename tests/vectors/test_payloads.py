"""The recorded chain of payloads: whatever release executes them comes to the same names and receipts."""

from pathlib import Path

from node.chain.evm import MemoryRows
from tests.vectors.payloads import Allotted, main, recorded


def test_payloads_of_version_1_are_executed_to_the_same_names_for_ever() -> None:
    chain = recorded("payloads_v1")
    evm = Allotted(MemoryRows(), chain.law, chain.accounts)
    assert evm.genesis == chain.genesis
    parent = evm.genesis
    for attributes, payload, name, receipts in chain.blocks:
        done = evm.execute(parent, attributes, payload)
        assert done.name == name
        assert [(one.ok, one.gas_used, len(one.logs)) for one in done.receipts] == receipts
        parent = name


def test_the_record_is_made_once(tmp_path: Path) -> None:
    assert main(tmp_path) == 0
    made = (tmp_path / "payloads_v1.json").read_text()
    assert main(tmp_path) == 1
    assert (tmp_path / "payloads_v1.json").read_text() == made


def test_the_recorded_chain_has_calls_of_all_kinds() -> None:
    blocks = recorded("payloads_v1").blocks
    receipts = [one for *_, found in blocks for one in found]
    assert (len(blocks), len(receipts)) == (20, 99)
    assert {ok for ok, _, _ in receipts} == {True, False}
    assert {len(attributes.grants) for attributes, *_ in blocks} == {0, 2}
