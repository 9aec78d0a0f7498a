"""Chains drawn from a seed: blocks of calls to what the genesis holds, and of code of any kind on a chain without our rules."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from consensus.ids import Address, Digest
from node.chain.evm import Attributes, Evm, Grant, InvalidPayload, MemoryRows
from node.chain.genesis import GenesisAccount
from tests.contracts.world import BEGAN, LAW, SLOT_S
from tests.oracle.bytecode import INITCODE_BYTES_MAX, Bytecode
from tests.oracle.calls import PLACE_LIST, Calls
from tests.oracle.eels import Comparison, Oracle, Tally
from tests.oracle.senders import Senders
from tests.vectors.payloads import Allotted

CALL_GAS: Final = (0, 3_000, 40_000, *(300_000,) * 6, 1_500_000)


class Lawless(Allotted):
    """A chain without our rules on transactions: any may create or call precompiles.

    None gives an account code (EIP-7702): py-evm takes each frame that such an account calls for the first of its transaction, and has it
    pay twice for what it creates, 6 gas in 194,813. No block of ours has such a transaction.
    """

    def _check(self, one: Any) -> None:
        if not one.to and len(one.data) > INITCODE_BYTES_MAX:  # which py-evm would see once the nonce is gone
            raise InvalidPayload("a creation with more code than it may have")


def calls(oracle: Oracle, seed: int, blocks: int, size: int) -> Tally:
    """A chain of our own contracts that are called in all ways; raises Disagreement."""
    rng = Random(f"calls {seed}")
    senders = Senders(rng, PLACE_LIST, ("legacy", "unprotected", "listed", "priced", "priced"))
    caller = Calls(rng, senders)
    comparison = Comparison(oracle, LAW, lambda: Evm(MemoryRows(), LAW))

    def offer(time: int) -> list[bytes]:
        made = [caller.draw(time, comparison.tally.blocks + 1) for _ in range(size)]
        return [senders.sign(one.who, one.to, one.data, one.value, rng.choice(CALL_GAS)) for one in made]

    _run(comparison, rng, senders, PLACE_LIST, blocks, offer)
    return comparison.tally


def code(oracle: Oracle, seed: int, blocks: int, size: int) -> Tally:
    """A chain of code that nobody wrote; raises Disagreement."""
    rng = Random(f"code {seed}")
    author = Bytecode(rng)
    senders = Senders(rng, author.places, ("legacy", "unprotected", "listed", "priced", "priced"))
    accounts = dict(Evm(MemoryRows(), LAW)._accounts(LAW)) | {
        place: GenesisAccount(rng.choice((0, 0, 10**6)), 1, author.runtime()) for place in author.places
    }
    comparison = Comparison(oracle, LAW, lambda: Lawless(MemoryRows(), LAW, accounts))

    def offer(time: int) -> list[bytes]:
        del time
        return [author.transaction(senders) for _ in range(size)]

    _run(comparison, rng, senders, author.places, blocks, offer)
    return comparison.tally


def _run(
    comparison: Comparison,
    rng: Random,
    senders: Senders,
    places: Sequence[Address],
    blocks: int,
    offer: Callable[[int], list[bytes]],
) -> None:
    """Blocks in slots that now and then have none, with seeds, leaders and grants of all kinds."""
    time = BEGAN
    for _ in range(blocks):
        view = comparison.builder.at(comparison.head)
        senders.begin_block(view.nonce)
        offered = offer(time)
        time += SLOT_S * rng.choice((1, 1, 1, 2, 50))
        anybody = (
            *places,
            senders.address(),
            *(Address(one) for one in (rng.randbytes(20), bytes(20), bytes(19) + b"\2")),
        )
        grants = [Grant(rng.choice(anybody), rng.choice((0, 1, 10**9, 2**40))) for _ in range(rng.choice((0, 0, 1, 3)))]
        said = Attributes(
            time, Digest(rng.randbytes(32)), rng.choice(anybody), Digest(rng.randbytes(32)), tuple(grants)
        )
        comparison.block(said, offered)
