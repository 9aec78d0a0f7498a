"""A chain that one Evm builds, another executes and EELS replays: at each block all three have the same roots, or it is said where not.

EELS (PyPI: ethereum-execution) is a process with a Python of its own, which `./lucid` makes in .venv/oracle; replay.py is what it runs.
"""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import rlp
from eth.exceptions import PyEVMError
from eth.vm.forks.prague.blocks import PragueBlock
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth_utils.exceptions import ValidationError
from rlp.exceptions import RLPException

from consensus.ids import Address, Digest
from node.chain.evm import Attributes, Evm, Executed, InvalidPayload
from node.chain.genesis import BASE_FEE, GAS_LIMIT, ChainLaw, GenesisAccount
from tests.vectors.payloads import Recorded

ROOT: Final = Path(__file__).parent.parent.parent
PYTHON: Final = ROOT / ".venv" / "oracle" / "bin" / "python"
PROGRAM: Final = Path(__file__).with_name("replay.py")
ROOTS: Final = (
    "state_root",
    "transaction_root",
    "receipt_root",
    "withdrawals_root",
    "requests_hash",
    "bloom",
    "gas_used",
)


class Disagreement(AssertionError):
    """What two implementations come to is not the same; the sentence says where."""


class Oracle:
    """A running EELS, with one chain at a time."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._input, self._output = process.stdin, process.stdout

    def begin(self, law: ChainLaw, accounts: Mapping[Address, GenesisAccount]) -> Digest:
        """Begin a chain with these accounts; returns what its genesis is called."""
        said = {
            "chain": law.chain_id,
            "timestamp": law.began_s,
            "gas_limit": GAS_LIMIT,
            "base_fee": BASE_FEE,
            "accounts": {place.hex(): [one.balance, one.nonce, one.code.hex()] for place, one in accounts.items()},
        }
        return Digest(bytes.fromhex(self._ask(said)["name"]))

    def execute(self, payload: bytes, left_out: Sequence[tuple[int, bytes]] = ()) -> Mapping[str, Any]:
        """What it comes to with a payload on top of the last one, or why it refuses it: see replay.py."""
        return self._ask({"payload": payload.hex(), "left_out": [(place, data.hex()) for place, data in left_out]})

    def agree(self, payload: bytes, left_out: Sequence[tuple[int, bytes]] = ()) -> None:
        """Raises Disagreement if a payload's header says anything else than EELS comes to, or it could have had what was left out."""
        header, found = rlp.decode(payload, PragueBlock).header, self.execute(payload, left_out)
        place = f"block {header.block_number}"
        if "refused" in found:
            raise Disagreement(f"{place} is refused by EELS: {found['refused']}")
        said = {name: getattr(header, name) for name in ROOTS} | {
            "bloom": header.bloom.to_bytes(256, "big"),
            "name": header.hash,
        }
        for name, value in said.items():
            if found[name] != (value.hex() if isinstance(value, bytes) else value):
                raise Disagreement(f"{place} has another {name} in EELS; its receipts there: {found['gas']}")
        if found["taken"]:
            raise Disagreement(f"{place} could have had these in EELS: {found['taken']}")

    def _ask(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        self._input.write(json.dumps(said) + "\n")
        self._input.flush()
        answer: Mapping[str, Any] = json.loads(self._output.readline())
        return answer


@contextmanager
def running() -> Iterator[Oracle]:
    """A running oracle, which ends with the context."""
    with subprocess.Popen([PYTHON, "-I", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Oracle(process)
        finally:
            process.kill()


class Tally(NamedTuple):
    """What was compared, without a difference."""

    blocks: int = 0
    transactions: int = 0
    failed: int = 0
    """Of the transactions in blocks."""
    left_out: int = 0
    """Offered, and in no block."""

    def plus(self, other: "Tally") -> "Tally":
        """Both together."""
        return Tally(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def __str__(self) -> str:
        return (
            f"{self.blocks:,} blocks, {self.transactions:,} transactions, {self.failed:,} failed; "
            f"{self.left_out:,} left out"
        )


class Comparison:
    """One chain in an Evm that builds it, in another that only executes it, and in EELS."""

    def __init__(self, oracle: Oracle, law: ChainLaw, evm: Callable[[], Evm]) -> None:
        """Each call of `evm` gives another one that has its genesis alone; raises Disagreement if EELS has another genesis."""
        self.builder, self._node, self._oracle = evm(), evm(), oracle
        self.head, self.tally = self.builder.genesis, Tally()
        if {self.builder.genesis, self._node.genesis} != {oracle.begin(law, self.builder._accounts(law))}:
            raise Disagreement("the genesis is another one in EELS")

    def block(self, attributes: Attributes, offered: Sequence[bytes]) -> Executed:
        """The next block, of those transactions that can be in it; raises Disagreement."""
        name, payload = self.builder.build(self.head, attributes, offered)
        done = self.builder.execute(self.head, attributes, payload)
        try:
            if self._node.execute(self.head, attributes, payload) != done:
                raise Disagreement(f"block {done.number} is another one when it is executed than when it is built")
        except InvalidPayload as error:
            raise Disagreement(f"block {done.number} cannot be executed as it was built: {error}") from error
        left_out = _left_out(payload, offered)
        self._oracle.agree(payload, [(place, data) for place, data in left_out if not self._is_against_our_rules(data)])
        self.head = name
        failed = sum(not receipt.ok for receipt in done.receipts)
        self.tally = self.tally.plus(Tally(1, len(done.receipts), failed, len(left_out)))
        return done

    def _is_against_our_rules(self, data: bytes) -> bool:
        """Whether Ethereum would have it and this chain would not."""
        try:
            self.builder._check(PragueTransactionBuilder().decode(data))
        except InvalidPayload:
            return True
        except (ValidationError, RLPException, PyEVMError, ValueError, TypeError):
            return False
        return False


def _left_out(payload: bytes, offered: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """The transactions that are not in a payload, each with how many of it came before."""
    taken, place, found = [one.encode() for one in rlp.decode(payload, PragueBlock).transactions], 0, []
    for data in offered:
        if place < len(taken) and taken[place] == data:
            place += 1
        else:
            found.append((place, data))
    if place != len(taken):
        raise Disagreement("a transaction is in a block in another spelling than it was offered in")
    return found


def replayed(oracle: Oracle, chain: Recorded) -> Tally:
    """The payloads of a recorded chain; raises Disagreement."""
    if oracle.begin(chain.law, chain.accounts) != chain.genesis:
        raise Disagreement("the genesis is another one in EELS")
    tally = Tally()
    for _, payload, _, receipts in chain.blocks:
        oracle.agree(payload)
        tally = tally.plus(Tally(1, len(receipts), sum(not ok for ok, _, _ in receipts)))
    return tally
