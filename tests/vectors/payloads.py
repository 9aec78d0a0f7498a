"""Makes the recorded chain of payloads, once: `python -m tests.vectors.payloads` in the repository; and reads it.

Twenty blocks with every kind of call that the contracts of the genesis answer, and some that they refuse. The record holds its genesis
account by account, so that it is executed for ever, whatever becomes of `contracts/`; it is never made anew.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from eth.vm.forks.prague.transactions import PragueTransactionBuilder

from consensus.ids import Address, Digest, session_id
from node.chain.evm import Attributes, ChainRows, Evm, Executed, Grant, MemoryRows
from node.chain.genesis import CONSOLIDATIONS, PLACES, WITHDRAWALS, ChainLaw, GenesisAccount
from tests.contracts.world import ACCOUNTS, BEGAN, LAW, SLOT_S, Account, encoded
from tests.vectors.stored import FOLDER, vector

BEACON_ROOTS: Final = Address(bytes.fromhex("000f3df6d732807ef1319fb7b8bb8522d0beac02"))
BLOCK_HASHES: Final = Address(bytes.fromhex("0000f90827f1c53a10cb7a02335b175320002935"))
BLOCKS: Final = 20
LEADERS: Final = tuple(Address(bytes([0xE0 + number]) * 20) for number in range(3))
NEWCOMER: Final = Account(100)
"""Has coins only once a block grants them."""
ANCHORS, CHUNKS, TOKEN = PLACES["LucidAnchors"], PLACES["LucidChunkStore"], PLACES["LucidToken"]


class Slot(NamedTuple):
    """What one block is built of."""

    attributes: Attributes
    transactions: Sequence[bytes]


def drawn(*what: object) -> bytes:
    """32 bytes, always the same for the same."""
    return hashlib.sha256(repr(what).encode()).digest()


class Author:
    """Signs transactions of types 0, 1 and 2 in turn, with the nonce that is next."""

    def __init__(self) -> None:
        self._nonces: Counter[bytes] = Counter()
        self._count = 0

    def sign(self, who: Account, to: bytes, data: bytes = b"", value: int = 0, gas: int = 400_000) -> bytes:
        """The next transaction of an account."""
        builder: Any = PragueTransactionBuilder
        said = {"nonce": self._nonces[who.address], "gas": gas, "to": to, "value": value, "data": data}
        fees = {"max_fee_per_gas": 1_000, "max_priority_fee_per_gas": self._count % 5}
        chain = {"chain_id": LAW.chain_id}
        warm = {"access_list": ((to, (0, 1)), (ANCHORS, ()))}
        match self._count % 3:
            case 0:
                one = builder.new_unsigned_dynamic_fee_transaction(**said, **fees, **chain, access_list=())
                made = one.as_signed_transaction(who.key)
            case 1:
                one = builder.create_unsigned_transaction(**said, gas_price=9)
                made = one.as_signed_transaction(who.key, chain_id=LAW.chain_id)
            case _:
                one = builder.new_unsigned_access_list_transaction(**said, **chain, **warm, gas_price=11)
                made = one.as_signed_transaction(who.key)
        self._nonces[who.address] += 1
        self._count += 1
        return bytes(made.encode())


def attributes(number: int) -> Attributes:
    """Slots that now and then have no block; seeds, leaders and grants differ."""
    grants = (Grant(Address(NEWCOMER.address), 10**9), Grant(LEADERS[0], number)) if number % 4 == 1 else ()
    time = BEGAN + SLOT_S * (number + number // 3)
    leader = LEADERS[number % len(LEADERS)]
    return Attributes(time, Digest(drawn("seed", number)), leader, Digest(drawn("beacon", number)), grants)


def slots() -> list[Slot]:
    """The blocks from the genesis on."""
    author = Author()
    return [Slot(attributes(number), _calls(number, author)) for number in range(1, BLOCKS + 1)]


def _calls(number: int, author: Author) -> list[bytes]:
    """A session is opened, followed, committed to and closed in four blocks, by one account of eight; others get in its way."""
    who, other, third = (ACCOUNTS[(number // 4 + step) % len(ACCOUNTS)] for step in range(3))
    uuid, key = drawn("uuid", number // 4)[:16], drawn("key", number // 4)
    session = session_id(Address(who.address), uuid, key)
    opens = encoded("LucidAnchors", "open", uuid, key, drawn("policy"))
    head = encoded("LucidAnchors", "head", session, number, drawn("head", number))
    chunks = [(drawn("chunk", number, place), 8_000_000 + place, [bytes(32)] * 3) for place in range(number % 3 + 1)]
    commits = encoded("LucidChunkStore", "commit", session, 0, chunks)
    closes = encoded("LucidAnchors", "close", session, drawn("manifest"), drawn("root"), 4, 2)
    match number % 4:
        case 0:
            made = [author.sign(who, ANCHORS, opens), author.sign(other, ANCHORS, head)]  # who is not its owner
        case 1:
            made = [author.sign(who, ANCHORS, head), author.sign(who, ANCHORS, opens)]  # which is open
        case 2:
            made = [author.sign(who, CHUNKS, commits), author.sign(who, CHUNKS, commits)]  # which comes out of order
        case _:
            made = [author.sign(who, ANCHORS, closes), author.sign(who, ANCHORS, head)]  # which comes too late
    others = _other_calls(number, Address(other.address))
    made += [author.sign(third, *others[at % len(others)]) for at in (number, number + 3)]
    if number > 1:
        made.append(author.sign(NEWCOMER, other.address, b"", number))
    return made


def _other_calls(number: int, somebody: Address) -> Sequence[tuple[Address, bytes, int]]:
    """What nobody may do, what is done to the token, and what Prague's own contracts answer: to, data, wei."""
    before = attributes(number - 1).timestamp.to_bytes(32, "big")
    return (
        (TOKEN, encoded("LucidToken", "transfer", somebody, number % 2), 0),  # nobody has any
        (TOKEN, encoded("LucidToken", "approve", somebody, 1 << number), 0),
        (TOKEN, encoded("LucidToken", "mint", somebody, 1), 0),
        (PLACES["ParamRegistry"], encoded("ParamRegistry", "set", b"dMinPpm".ljust(32, b"\0"), 1), 0),
        (BEACON_ROOTS, before, 0),
        (BLOCK_HASHES, (number - 1).to_bytes(32, "big"), 0),
        (WITHDRAWALS, drawn("validator") + bytes(24), 2),
        (CONSOLIDATIONS, drawn("validator") + bytes(64), 2),
    )


class Allotted(Evm):
    """A chain whose genesis has the accounts that are given, whatever `contracts/` holds now."""

    def __init__(self, rows: ChainRows, law: ChainLaw, accounts: Mapping[Address, GenesisAccount]) -> None:
        self._given = accounts
        super().__init__(rows, law)

    def _accounts(self, law: ChainLaw) -> Mapping[Address, GenesisAccount]:
        del law
        return self._given


def payloads_v1() -> dict[str, Any]:
    """The chain's genesis, account by account, its payloads, and what came of them."""
    evm = Evm(MemoryRows(), LAW)
    parent, blocks = evm.genesis, []
    for slot in slots():
        name, payload = evm.build(parent, *slot)
        done = evm.execute(parent, slot.attributes, payload)
        blocks.append(_spelled(slot.attributes, payload, done))
        parent = name
    return {
        "origin": "Twenty payloads of version 1 as first released, made by payloads.py; EELS 2.20.0 came to the same.",
        "chain_id": LAW.chain_id,
        "began_s": LAW.began_s,
        "accounts": {
            place.hex(): [one.balance, one.nonce, one.code.hex()] for place, one in evm._accounts(LAW).items()
        },
        "genesis": evm.genesis.hex(),
        "blocks": blocks,
    }


def _spelled(said: Attributes, payload: bytes, done: Executed) -> dict[str, Any]:
    return {
        "timestamp": said.timestamp,
        "randao": said.randao.hex(),
        "fee_recipient": said.fee_recipient.hex(),
        "beacon_root": said.beacon_root.hex(),
        "grants": [[grant.to.hex(), grant.gwei] for grant in said.grants],
        "payload": payload.hex(),
        "name": done.name.hex(),
        "receipts": [[receipt.ok, receipt.gas_used, len(receipt.logs)] for receipt in done.receipts],
    }


def main(folder: Path = FOLDER) -> int:
    """Write the record if it is not there; 1 when it is, and stays as it is."""
    try:
        with (folder / "payloads_v1.json").open("x") as out:
            out.write(json.dumps(payloads_v1(), indent=1) + "\n")
    except FileExistsError:
        print("payloads_v1.json exists and stays as it is: give a new version of a format a new name")
        return 1
    return 0


class Recorded(NamedTuple):
    """A chain as it is recorded."""

    law: ChainLaw
    accounts: Mapping[Address, GenesisAccount]
    genesis: Digest
    blocks: Sequence[tuple[Attributes, bytes, Digest, Sequence[tuple[bool, int, int]]]]
    """What the consensus says, the payload, its name; of each transaction whether it came about, its gas, its logs."""


def recorded(name: str) -> Recorded:
    """The chain of a vector."""
    said = vector(name)
    blocks = [
        (
            Attributes(
                one["timestamp"],
                Digest(bytes.fromhex(one["randao"])),
                Address(bytes.fromhex(one["fee_recipient"])),
                Digest(bytes.fromhex(one["beacon_root"])),
                tuple(Grant(Address(bytes.fromhex(to)), gwei) for to, gwei in one["grants"]),
            ),
            bytes.fromhex(one["payload"]),
            Digest(bytes.fromhex(one["name"])),
            [(ok, gas, logs) for ok, gas, logs in one["receipts"]],
        )
        for one in said["blocks"]
    ]
    accounts = {
        Address(bytes.fromhex(place)): GenesisAccount(balance, nonce, bytes.fromhex(code))
        for place, (balance, nonce, code) in said["accounts"].items()
    }
    law = ChainLaw(said["chain_id"], said["began_s"], ())
    return Recorded(law, accounts, Digest(bytes.fromhex(said["genesis"])), blocks)


if __name__ == "__main__":
    sys.exit(main())
