"""EELS comes to the roots that our Evm comes to: on the recorded chain, on one of today's contracts, and on drawn ones."""

from collections.abc import Iterator

import pytest
import rlp
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.blocks import PragueBlock
from eth.vm.forks.shanghai.logic import Create2EIP3860, CreateEIP3860

from consensus.ids import Address
from node.chain.evm import Evm, MemoryRows, _Vm
from node.chain.genesis import GenesisAccount
from tests.contracts.world import ACCOUNTS, LAW
from tests.oracle import fuzz
from tests.oracle.bytecode import CREATE, CREATE2, INITCODE_BYTES_MAX, creates
from tests.oracle.eels import ROOTS, Comparison, Disagreement, Oracle, replayed, running
from tests.vectors.payloads import BEACON_ROOTS, BLOCK_HASHES, BLOCKS, NEWCOMER, Author, recorded, slots

pytestmark = pytest.mark.component

PLANTED = Address(b"\xcd" * 20)


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    with running() as one:
        yield one


def test_the_recorded_chain_is_that_of_eels(oracle: Oracle) -> None:
    assert replayed(oracle, recorded("payloads_v1"))[:2] == (20, 99)


def test_a_chain_of_the_present_contracts_is_that_of_eels(oracle: Oracle) -> None:
    comparison = Comparison(oracle, LAW, lambda: Evm(MemoryRows(), LAW))
    done = [comparison.block(*slot) for slot in slots()]
    assert comparison.tally.blocks == BLOCKS
    assert 0 < comparison.tally.failed < comparison.tally.transactions
    view = comparison.builder.at(comparison.head)
    asked = [
        (BEACON_ROOTS, slots()[-1].attributes.timestamp, slots()[-1].attributes.beacon_root),
        (BLOCK_HASHES, BLOCKS - 1, done[-2].name),
    ]
    for place, word, answer in asked:
        assert view.call(Address(NEWCOMER.address), place, word.to_bytes(32, "big")).output == answer


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_said_to_the_contracts_eels_comes_to_the_same(oracle: Oracle, seed: int) -> None:
    tally = fuzz.calls(oracle, seed, blocks=4, size=30)
    assert 0.2 < tally.failed / tally.transactions < 0.8
    assert tally.left_out


@pytest.mark.filterwarnings("ignore:SELFDESTRUCT:DeprecationWarning")
@pytest.mark.parametrize("seed", range(6))
def test_whatever_code_there_were_eels_would_come_to_the_same(oracle: Oracle, seed: int) -> None:
    tally = fuzz.code(oracle, seed, blocks=4, size=30)
    assert 0.2 < tally.failed / tally.transactions < 0.8


def _planted(oracle: Oracle, code: bytes, *offered: bytes) -> None:
    """A block of calls to a contract of that code."""
    accounts = {**Evm(MemoryRows(), LAW)._accounts(LAW), PLANTED: GenesisAccount(0, 1, code)}
    comparison = Comparison(oracle, LAW, lambda: fuzz.Lawless(MemoryRows(), LAW, accounts))
    assert len(comparison.block(slots()[0].attributes, offered).receipts) == len(offered)


@pytest.mark.parametrize("kind", [CREATE, CREATE2], ids=["CREATE", "CREATE2"])
def test_without_our_mend_py_evm_creates_otherwise_than_eels(
    oracle: Oracle, kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIP-3860's limit comes before the balance: a contract creates one for more than it has, of that many bytes."""

    def create(size: int) -> None:
        _planted(oracle, creates(kind, 300, size) + b"\0", Author().sign(ACCOUNTS[0], PLANTED))

    for size in (INITCODE_BYTES_MAX, INITCODE_BYTES_MAX + 1):
        create(size)
    for mended in (CreateEIP3860, Create2EIP3860):
        (usual,) = mended.get_gas_cost.__defaults__ or ()
        monkeypatch.setattr(mended, "get_gas_cost", usual)
    create(INITCODE_BYTES_MAX)
    with pytest.raises(Disagreement, match="another state_root"):
        create(INITCODE_BYTES_MAX + 1)


def test_without_our_mend_py_evm_says_less_gas_than_eels(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIP-7623's floor and a capped refund: ten slots are set, and cleared with 3,000 bytes of data."""
    code, author = b"".join(b"\x5f\x35\x60" + bytes([slot]) + b"\x55" for slot in range(10)), Author()
    said = (bytes(31) + b"\1", bytes(32) + b"x" * 3_000)
    offered = [author.sign(ACCOUNTS[0], PLANTED, data) for data in said]
    _planted(oracle, code, *offered)
    monkeypatch.setattr(_Vm, "finalize_gas_used", PragueVM.finalize_gas_used)
    with pytest.raises(Disagreement, match="another receipt_root"):
        _planted(oracle, code, *offered)


OTHER = {"bloom": 7, "gas_used": 7}


@pytest.mark.parametrize("field", ROOTS)
def test_a_header_with_another_root_is_told(oracle: Oracle, field: str) -> None:
    chain = recorded("payloads_v1")
    oracle.begin(chain.law, chain.accounts)
    block = rlp.decode(chain.blocks[0][1], PragueBlock)
    other = block.copy(header=block.header.copy(**{field: OTHER.get(field, b"\7" * 32)}))
    with pytest.raises(Disagreement, match=f"block 1 has another {field} in EELS"):
        oracle.agree(rlp.encode(other))


def test_what_eels_refuses_and_what_it_could_have_had_is_told(oracle: Oracle) -> None:
    chain = recorded("payloads_v1")
    oracle.begin(chain.law, chain.accounts)
    with pytest.raises(Disagreement, match="block 2 is refused by EELS: InvalidBlock"):
        oracle.agree(chain.blocks[1][1])
    evm = Evm(MemoryRows(), LAW)
    oracle.begin(LAW, evm._accounts(LAW))
    _, empty = evm.build(evm.genesis, slots()[0].attributes, [])
    with pytest.raises(Disagreement, match="block 1 could have had these in EELS"):
        oracle.agree(empty, [(0, Author().sign(ACCOUNTS[0], PLANTED))])
