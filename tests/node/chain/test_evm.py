"""Payloads: whoever executes one comes to the same names and accounts, and what breaks a rule changes nothing."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest
import rlp
from eth.vm.forks.prague.blocks import PragueBlock
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from hypothesis import given
from hypothesis import strategies as st

from consensus.facts import REWARD, Facts, Listed, Minting, facts_proof, facts_root, list_root
from consensus.ids import Address, Digest
from node.chain.evm import Attributes, Evm, Grant, InvalidPayload, MemoryRows
from node.chain.genesis import BASE_FEE, CONTRACTS, GAS_LIMIT, PLACES, GenesisAccount, artefact
from tests.contracts import world
from tests.contracts.world import ACCOUNTS, BEGAN, LAW, SLOT_S, Account, encoded
from tests.node.chain.test_transactions import nested
from tests.vectors.payloads import Allotted

pytestmark = pytest.mark.component

BUILDER: Any = PragueTransactionBuilder  # whose types say less than it takes
OWNER, OTHER, *_ = ACCOUNTS
LEADER = Address(b"\x99" * 20)
NEWCOMER = Address(b"\x55" * 20)
BEACON_ROOTS = Address(bytes.fromhex("000f3df6d732807ef1319fb7b8bb8522d0beac02"))


def attributes(slot: int, *grants: Grant) -> Attributes:
    return Attributes(
        BEGAN + SLOT_S * slot, Digest(bytes([slot]) * 32), LEADER, Digest(bytes([100 + slot]) * 32), grants
    )


def signed(who: Account, nonce: int, to: bytes, data: bytes = b"", gas: int = 300_000) -> bytes:
    return bytes(world.signed(who, nonce, to, data, gas).encode())


def opening(who: Account, nonce: int, number: int = 0) -> bytes:
    data = encoded("LucidAnchors", "open", bytes([number]) * 16, bytes(32), bytes(32))
    return signed(who, nonce, PLACES["LucidAnchors"], data)


class Lax(Evm):
    """A builder that keeps no rule of ours."""

    def _check(self, one: Any) -> None:
        del one


class Counting(MemoryRows):
    """Rows that count how often they are changed."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = 0

    def commit(self, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
        self.commits += 1
        super().commit(rows)


@pytest.fixture
def evm() -> Evm:
    return Evm(MemoryRows(), LAW)


@cache
def first() -> tuple[Digest, bytes]:
    """A block in slot 1: two sessions are opened, and a newcomer is given coins."""
    built = Evm(MemoryRows(), LAW)
    return built.build(built.genesis, attributes(1, Grant(NEWCOMER, 7)), [opening(OWNER, 0), opening(OTHER, 0)])


def test_the_genesis_is_the_contracts_and_the_founders(evm: Evm) -> None:
    assert Evm(MemoryRows(), LAW).genesis == evm.genesis
    assert Evm(MemoryRows(), LAW._replace(began_s=BEGAN + 1)).genesis != evm.genesis
    view = evm.at(evm.genesis)
    assert len(CONTRACTS) == 9
    for name in CONTRACTS:
        found = artefact(name)
        assert found is not None
        assert view.code(PLACES[name]).hex() == found["code"] != ""
    assert view.balance(Address(OWNER.address)) == 10**18


def test_whoever_executes_a_payload_comes_to_the_same(evm: Evm) -> None:
    name, payload = first()
    builder = Evm(MemoryRows(), LAW)
    assert builder.build(
        builder.genesis, attributes(1, Grant(NEWCOMER, 7)), [opening(OWNER, 0), opening(OTHER, 0)]
    ) == (
        name,
        payload,
    )
    mine = builder.execute(builder.genesis, attributes(1, Grant(NEWCOMER, 7)), payload)
    theirs = evm.execute(evm.genesis, attributes(1, Grant(NEWCOMER, 7)), payload)
    assert mine == theirs
    assert (theirs.name, theirs.number) == (name, 1)
    assert [receipt.ok for receipt in theirs.receipts] == [True, True]
    assert sum(receipt.gas_used for receipt in theirs.receipts) == theirs.gas_used
    assert {log.address for receipt in theirs.receipts for log in receipt.logs} == {PLACES["LucidAnchors"]}
    assert (builder.payload(name), evm.payload(name)) == (payload, payload)
    view = evm.at(name)
    assert view.balance(NEWCOMER) == 7 * 10**9
    assert view.nonce(Address(OWNER.address)) == 1
    assert evm.at(evm.genesis).nonce(Address(OWNER.address)) == 0


def test_contracts_see_the_seed_and_the_block_of_the_consensus(evm: Evm) -> None:
    name, payload = evm.build(evm.genesis, attributes(3), [])
    evm.execute(evm.genesis, attributes(3), payload)
    told = evm.at(name).call(NEWCOMER, BEACON_ROOTS, (BEGAN + 3 * SLOT_S).to_bytes(32, "big"))
    assert (told.ok, told.output) == (True, bytes([103]) * 32)
    assert rlp.decode(payload, PragueBlock).header.mix_hash == bytes([3]) * 32


def test_what_a_block_was_told_of_the_one_before_is_minted_by_its_first_transaction(evm: Evm) -> None:
    nothing = Listed(0, list_root([]), 0)
    facts = Facts(Digest(b"b" * 32), Minting(1, NEWCOMER, 7), nothing, nothing)
    told = attributes(2)._replace(beacon_root=facts_root(facts))
    proof = facts_proof(facts, REWARD)
    data = encoded("RewardMinter", "mint", *facts.reward, told.timestamp, proof)
    name, payload = evm.build(evm.genesis, told, [signed(OWNER, 0, PLACES["RewardMinter"], data), opening(OTHER, 0)])
    assert [receipt.ok for receipt in evm.execute(evm.genesis, told, payload).receipts] == [True, True]
    balance = evm.at(name).call(LEADER, PLACES["LucidToken"], encoded("LucidToken", "balanceOf", NEWCOMER))
    assert int.from_bytes(balance.output, "big") == 7 * 10**18


def test_two_branches_have_accounts_of_their_own(evm: Evm) -> None:
    one, payload_one = evm.build(evm.genesis, attributes(1), [opening(OWNER, 0, 1)])
    two, payload_two = evm.build(evm.genesis, attributes(2), [opening(OWNER, 0, 1), opening(OWNER, 1, 2)])
    for payload, slot in ((payload_one, 1), (payload_two, 2)):
        evm.execute(evm.genesis, attributes(slot), payload)
    three, payload_three = evm.build(one, attributes(4), [opening(OWNER, 1, 3)])
    evm.execute(one, attributes(4), payload_three)
    assert [evm.at(name).nonce(Address(OWNER.address)) for name in (one, two, three)] == [1, 2, 2]
    with pytest.raises(InvalidPayload, match="on top of another block"):
        evm.execute(two, attributes(4), payload_three)
    for unknown in (Digest(bytes(32)), Digest(b"\1" * 32)):
        with pytest.raises(KeyError):
            evm.build(unknown, attributes(5), [])
        with pytest.raises(KeyError):
            evm.at(unknown)


def test_what_cannot_be_in_a_block_is_left_out_of_it(evm: Evm) -> None:
    poor = Account(77)
    offered = [
        opening(OWNER, 0),
        b"",
        b"\xc0",
        opening(OWNER, 0, 1),  # its nonce was used
        opening(OWNER, 2),  # one is missing before it
        opening(poor, 0),  # who has no coins
        signed(OWNER, 1, b"", b"\x60\x00"),  # a creation
        signed(OWNER, 1, bytes(19) + b"\2"),  # a precompile
        signed(OWNER, 1, PLACES["LucidAnchors"], gas=GAS_LIMIT + 1),
        opening(OTHER, 0),
    ]
    _, payload = evm.build(evm.genesis, attributes(1), offered)
    taken = rlp.decode(payload, PragueBlock).transactions
    assert [one.encode() for one in taken] == [offered[0], offered[-1]]
    assert len(evm.execute(evm.genesis, attributes(1), payload).receipts) == 2


def _priced(nonce: int, **said: Any) -> bytes:
    """A transaction of OWNER's with something else in it than usual."""
    fields: dict[str, Any] = {
        "max_fee_per_gas": 1_000,
        "max_priority_fee_per_gas": 0,
        "gas": 300_000,
        "data": b"",
        "access_list": (),
    }
    fields |= {"chain_id": LAW.chain_id, "nonce": nonce, "to": PLACES["LucidAnchors"], "value": 0} | said
    unsigned = BUILDER.new_unsigned_dynamic_fee_transaction(**fields)
    return bytes(unsigned.as_signed_transaction(OWNER.key).encode())


def _of_another_chain() -> bytes:
    fields = {"nonce": 1, "gas_price": 7, "gas": 300_000, "to": PLACES["LucidAnchors"], "value": 0, "data": b""}
    unsigned = BUILDER.create_unsigned_transaction(**fields)
    return bytes(unsigned.as_signed_transaction(OWNER.key, chain_id=LAW.chain_id + 1).encode())


IMPOSSIBLE = {
    "less gas than its lists cost": _priced(1, gas=22_000, access_list=((PLACES["LucidToken"], (0, 1)),)),
    "less gas than its data costs": _priced(1, gas=21_000 + 16 * 100, data=b"x" * 100),
    "more for the leader than is paid": _priced(1, max_priority_fee_per_gas=1_001),
    "another chain": _of_another_chain(),
    "nobody's": b"\2" + rlp.encode([*rlp.decode(_priced(1)[1:])[:-2], b"\xff" * 31 + b"\xee", b"\1"]),
}
"""Transactions that Ethereum has in no block, and py-evm alone would stumble over or take (found by fuzzing against EELS)."""


@pytest.mark.parametrize("transaction", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_ethereum_cannot_have_is_left_out_without_a_trace_and_refused(evm: Evm, transaction: bytes) -> None:
    usual, later = opening(OWNER, 0), opening(OWNER, 1, 1)
    _, payload = evm.build(evm.genesis, attributes(1), [usual, transaction, later])
    block = rlp.decode(payload, PragueBlock)
    assert [one.encode() for one in block.transactions] == [usual, later]
    node = Evm(MemoryRows(), LAW)
    assert [one.ok for one in node.execute(node.genesis, attributes(1), payload).receipts] == [True, True]
    other = block.copy(transactions=(block.transactions[0], BUILDER().decode(transaction)))
    with pytest.raises(InvalidPayload, match="a transaction"):
        evm.execute(evm.genesis, attributes(1), rlp.encode(other))


CLEARER = Address(b"\xce" * 20)
SLOTS = 10


def test_a_receipt_says_the_gas_that_is_paid_when_its_data_cost_more_than_the_call() -> None:
    """EIP-7623; py-evm took a larger share for refunds than it paid back, so that the two differed (found by fuzzing against EELS)."""
    code = b"".join(b"\x5f\x35\x60" + bytes([slot]) + b"\x55" for slot in range(SLOTS))  # SSTORE(slot, CALLDATALOAD(0))
    accounts = {**Evm(MemoryRows(), LAW)._accounts(LAW), CLEARER: GenesisAccount(0, 1, code)}
    evm = Allotted(MemoryRows(), LAW, accounts)
    sets, clears = bytes(31) + b"\1", bytes(32) + b"x" * 3_000
    offered = [signed(OWNER, 0, CLEARER, sets), signed(OTHER, 0, CLEARER, clears)]
    name, payload = evm.build(evm.genesis, attributes(1), offered)
    receipt = evm.execute(evm.genesis, attributes(1), payload).receipts[1]
    owned = [evm.at(one).balance(Address(OTHER.address)) for one in (evm.genesis, name)]
    assert receipt.gas_used == 21_000 + 10 * 32 + 40 * 3_000 == (owned[0] - owned[1]) // BASE_FEE


def test_a_call_that_fails_is_in_the_block_and_says_so(evm: Evm) -> None:
    name, payload = evm.build(evm.genesis, attributes(1), [opening(OWNER, 0), opening(OWNER, 1)])
    done = evm.execute(evm.genesis, attributes(1), payload)
    assert done.name == name
    assert [(receipt.ok, len(receipt.logs)) for receipt in done.receipts] == [(True, 1), (False, 0)]


@pytest.mark.parametrize(
    "transaction",
    [
        signed(OWNER, 0, b"", b"\x60\x00"),
        signed(OWNER, 0, bytes(19) + b"\1"),
        signed(OWNER, 0, bytes(19) + b"\x11"),
    ],
    ids=["creates", "precompile", "last precompile"],
)
def test_a_block_with_code_that_is_not_ours_is_refused(transaction: bytes) -> None:
    lax, rows = Lax(MemoryRows(), LAW), Counting()
    _, payload = lax.build(lax.genesis, attributes(1), [transaction])
    assert len(lax.execute(lax.genesis, attributes(1), payload).receipts) == 1
    evm = Evm(rows, LAW)
    with pytest.raises(InvalidPayload, match="a transaction"):
        evm.execute(evm.genesis, attributes(1), payload)
    assert rows.commits == 1  # the genesis


CHANGES = {
    "timestamp": BEGAN + 2 * SLOT_S,
    "mix_hash": b"\7" * 32,
    "coinbase": b"\7" * 20,
    "parent_beacon_block_root": b"\7" * 32,
    "gas_limit": GAS_LIMIT - 1,
    "extra_data": b"x",
    "blob_gas_used": 131_072,
    "state_root": b"\7" * 32,
    "receipt_root": b"\7" * 32,
    "transaction_root": b"\7" * 32,
    "bloom": 7,
    "gas_used": 7,
    "base_fee_per_gas": 8,
    "block_number": 2,
    "withdrawals_root": b"\7" * 32,
    "requests_hash": b"\7" * 32,
    "excess_blob_gas": 1,
    "difficulty": 1,
    "nonce": b"\7" * 8,
    "uncles_hash": b"\7" * 32,
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_header_that_says_something_else_is_refused_and_changes_nothing(field: str) -> None:
    rows = Counting()
    evm = Evm(rows, LAW)
    block = rlp.decode(first()[1], PragueBlock)
    other = block.copy(header=block.header.copy(**{field: CHANGES[field]}))
    before = dict(rows.rows)
    with pytest.raises(InvalidPayload):
        evm.execute(evm.genesis, attributes(1, Grant(NEWCOMER, 7)), rlp.encode(other))
    assert (rows.rows, rows.commits) == (before, 1)


def test_other_grants_than_the_consensus_says_are_refused(evm: Evm) -> None:
    for grants in ((), (Grant(NEWCOMER, 8),), (Grant(LEADER, 7),), (Grant(NEWCOMER, 7), Grant(NEWCOMER, 7))):
        with pytest.raises(InvalidPayload, match="other grants"):
            evm.execute(evm.genesis, attributes(1, *grants), first()[1])


@given(st.data())
def test_no_bytes_do_anything_but_what_their_block_says(data: st.DataObject) -> None:
    """Damaged payloads and bytes of any kind: refused with a sentence, and nothing is written."""
    rows = Counting()
    evm, payload = Evm(rows, LAW), bytearray(first()[1])
    if data.draw(st.booleans()):
        for _ in range(data.draw(st.integers(1, 3))):
            payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
        payload = payload[: data.draw(st.integers(len(payload) // 2, len(payload)))]
    else:
        payload = bytearray(data.draw(st.binary(max_size=80)))
    if bytes(payload) == first()[1]:
        return
    with pytest.raises(InvalidPayload):
        evm.execute(evm.genesis, attributes(1, Grant(NEWCOMER, 7)), bytes(payload))
    assert rows.commits == 1


def test_too_much_code_for_a_creation_ends_the_frame_whatever_else_is_wrong(evm: Evm) -> None:
    """EIP-3860; py-evm looked at the balance first, and went on with 0 where others end (found by fuzzing against EELS)."""
    size = (50_000).to_bytes(3, "big")
    for value in (b"\x60\x00", b"\x61\x01\x2c"):  # nothing, and more than there is
        creates = b"\x60\x00" + b"\x62" + size + b"\x60\x00" + value + b"\xf5\x00"  # CREATE2(value, 0, size, 0), STOP
        vm = evm.at(evm.genesis)._vm
        made = vm.execute_bytecode(
            origin=LEADER, gas_price=0, gas=400_000, to=LEADER, sender=LEADER, value=0, data=b"", code=creates
        )
        assert made.is_error


@pytest.mark.parametrize("depth", [20, 900, 20_000])
def test_lists_within_lists_are_no_payload_and_no_transaction_and_end_no_process(evm: Evm, depth: int) -> None:
    """py-evm lets Python recurse until its C code has no stack left."""
    deep = nested(depth)
    _, payload = first()
    fields: Any = rlp.decode(payload)
    for wrong in (
        deep,
        bytes(rlp.encode([fields[0], [b"\2" + deep], *fields[2:]])),
        bytes(rlp.encode([fields[0], [b"\1" + deep]])),
    ):
        with pytest.raises(InvalidPayload):
            evm.execute(evm.genesis, attributes(1, Grant(NEWCOMER, 7)), wrong)
    builder = Evm(MemoryRows(), LAW)
    made = builder.build(builder.genesis, attributes(1), [deep, b"\2" + deep, b"\1" + deep, b""])
    assert made == builder.build(builder.genesis, attributes(1), [])
