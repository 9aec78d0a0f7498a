"""Rewards: each payload begins with minting what its parent's block was worth, once, or it is none."""

from dataclasses import dataclass
from typing import Any

import pytest
from eth_abi.abi import decode

from consensus.facts import NOBODY, REWARD, Facts, Minting, facts_proof, facts_root
from consensus.ids import Address, Digest
from consensus.payload import BUSY, FIRST, IDLE, UNTOLD, PayloadTerms
from node.chain.engine import Engine
from node.chain.evm import Evm, InvalidPayload, MemoryRows
from node.chain.genesis import PLACES, ChainLaw
from node.chain.index import read_receipts
from node.chain.onsystem import calldata, mint, open_session
from node.chain.transactions import address_of, sign
from node.chain.verbs import of_terms
from tests.consensus.worlds import named

pytestmark = pytest.mark.component

LAW = ChainLaw(1_280, 1_800_000_000, (), 5)
SECRET = b"\1" * 32
ME = address_of(SECRET)
PAYEE = Address(b"\x44" * 20)
POOR = Address(b"\x45" * 20)


def said(block: Digest, payout: Minting | None) -> Facts:
    return Facts(block, payout or Minting(0, NOBODY, 0), UNTOLD, UNTOLD)


def terms(
    parent: Digest, slot: int, payout: Minting | None = None, *grants: Address, recipient: Address = ME
) -> PayloadTerms:
    told = said(named(100 + slot), payout)
    siblings = () if payout is None else facts_proof(told, REWARD)
    return PayloadTerms(parent, slot, named(slot), recipient, facts_root(told), grants, payout, siblings)


def minting(of: PayloadTerms, nonce: int, **changes: Any) -> bytes:
    assert of.payout is not None
    payout = changes.get("payout", of.payout)
    call = mint(payout, LAW.began_s + of.slot * LAW.slot_s, changes.get("siblings", of.siblings))
    return sign(SECRET, LAW.chain_id, nonce, call.to, call.data, changes.get("gas", call.gas))


@dataclass
class Minted:
    """A chain whose account of ours has coins."""

    engine: Engine
    head: Digest

    def judge(self, of: PayloadTerms, *transactions: bytes) -> Digest:
        """Build a payload that has exactly these, and have it judged."""
        name, payload = self.engine.verbs["build"](of_terms(of), list(transactions))
        assert payload[:1] in (IDLE, BUSY)
        self.engine.verbs["judge"](of_terms(of), name, payload)
        self.head = name
        return Digest(name)

    def asked(self, contract: str, function: str, *arguments: Any, kind: str = "uint256") -> Any:
        ok, output, _ = self.engine.verbs["call"](
            self.head, ME, PLACES[contract], calldata(contract, function, *arguments)
        )
        assert ok
        return decode([kind], output)[0]


@pytest.fixture
def chain() -> Minted:
    made = Minted(Engine(Evm(MemoryRows(), LAW), LAW), FIRST)
    made.judge(terms(FIRST, 1, None, ME))
    return made


def test_what_a_block_is_worth_is_minted_by_the_next_one(chain: Minted) -> None:
    of = terms(chain.head, 2, Minting(1, PAYEE, 2))
    name, payload = chain.engine.verbs["build"](of_terms(of), [minting(of, 0)])
    assert payload[:1] == IDLE  # nothing waited for it
    chain.engine.verbs["judge"](of_terms(of), name, payload)
    chain.head = Digest(name)
    assert chain.asked("LucidToken", "balanceOf", PAYEE) == 2 * 10**18
    assert chain.asked("LucidToken", "totalSupply") == 2 * 10**18
    assert chain.asked("RewardMinter", "minted", 1, kind="bool") is True
    of = terms(chain.head, 3, Minting(2, PAYEE, 1))
    call = open_session(b"u" * 16, bytes(32), bytes(32))
    other = sign(SECRET, LAW.chain_id, 2, call.to, call.data, call.gas)
    name, payload = chain.engine.verbs["build"](of_terms(of), [minting(of, 1), other])
    assert payload[:1] == BUSY
    chain.engine.verbs["judge"](of_terms(of), name, payload)
    chain.head = Digest(name)
    assert chain.asked("LucidToken", "balanceOf", PAYEE) == 3 * 10**18


def test_a_payload_that_does_not_begin_with_it_is_none(chain: Minted) -> None:
    before, of = chain.head, terms(chain.head, 2, Minting(1, PAYEE, 2))
    call = open_session(b"u" * 16, bytes(32), bytes(32))
    first, later = (sign(SECRET, LAW.chain_id, nonce, call.to, call.data, call.gas) for nonce in (0, 1))
    for transactions in ((), (first,), (first, minting(of, 1)), (minting(of, 0, payout=Minting(1, PAYEE, 3)),)):
        with pytest.raises(InvalidPayload, match="does not begin with minting"):
            chain.judge(of, *transactions)
    for wrong in (minting(of, 0, siblings=of.siblings[::-1]), minting(of, 0, payout=Minting(2, PAYEE, 2))):
        with pytest.raises(InvalidPayload, match="does not begin with minting"):
            chain.judge(of, wrong)
    with pytest.raises(InvalidPayload, match="whose minting fails"):
        chain.judge(of, minting(of, 0, gas=60_000))
    assert chain.head == before
    chain.judge(of, minting(of, 0), later)


def test_what_the_consensus_did_not_say_is_minted_by_nobody(chain: Minted) -> None:
    of = terms(chain.head, 2)
    lies = [
        (Minting(1, ME, 50), facts_proof(said(named(5), Minting(1, ME, 50)), REWARD)),
        (Minting(1, ME, 51), (bytes(32), bytes(32))),
        (Minting(1, Address(bytes(20)), 1), (bytes(32), bytes(32))),
        (Minting(1, ME, 0), (bytes(32), bytes(32))),
    ]
    orders = [mint(payout, LAW.began_s + 10, siblings) for payout, siblings in lies]
    calls = [sign(SECRET, LAW.chain_id, nonce, one.to, one.data, one.gas) for nonce, one in enumerate(orders)]
    chain.judge(of, *calls)
    receipts = read_receipts(chain.engine.verbs["receipts"](chain.head))
    assert [one.ok for one in receipts] == [False] * 4
    assert chain.asked("LucidToken", "totalSupply") == 0


def test_a_slot_is_minted_once_and_later_by_anybody_who_has_the_proof(chain: Minted) -> None:
    of = terms(chain.head, 2, Minting(1, PAYEE, 2), recipient=POOR)  # its publisher has no coins for it
    chain.judge(of)
    assert chain.asked("LucidToken", "totalSupply") == 0
    late = mint(Minting(1, PAYEE, 2), LAW.began_s + 10, of.siblings)
    twice = [sign(SECRET, LAW.chain_id, nonce, late.to, late.data, late.gas) for nonce in (0, 1)]
    chain.judge(terms(chain.head, 3), *twice)
    assert [one.ok for one in read_receipts(chain.engine.verbs["receipts"](chain.head))] == [True, False]
    assert chain.asked("LucidToken", "balanceOf", PAYEE) == 2 * 10**18
