"""Transactions of types 0, 1 and 2 by accounts with keys, drawn from a seed; some of them can be in no block, for reasons of all kinds."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import rlp
from eth.vm.forks.prague.transactions import PragueTransactionBuilder

from consensus.ids import Address, keccak256
from node.chain.genesis import GAS_LIMIT
from tests.contracts.world import ACCOUNTS, LAW, Account

BUILDER: Final[Any] = PragueTransactionBuilder
ORDER: Final = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
"""Of secp256k1."""
FAULTY: Final = 0.1
"""The share of transactions that can be in no block."""


class Senders:
    """The accounts of the founders, and one that has no coins."""

    def __init__(self, rng: Random, places: Sequence[Address], kinds: Sequence[str]) -> None:
        """`places` are for access lists; `kinds` of transactions are legacy, unprotected, listed and priced."""
        self._rng, self._places, self._kinds = rng, places, kinds
        self._nonces: dict[bytes, int] = {}
        self.accounts = [*ACCOUNTS, *ACCOUNTS, Account(1_000)]

    def begin_block(self, nonce_of: Callable[[Address], int]) -> None:
        """Go on from the nonces that are so."""
        self._nonces = {one.address: nonce_of(Address(one.address)) for one in self.accounts}

    def address(self) -> Address:
        """One of the accounts'."""
        return Address(self._rng.choice(self.accounts).address)

    def next_creation(self, who: Account) -> Address:
        """Where the contract will be that an account's next transaction creates."""
        return Address(keccak256(rlp.encode([who.address, self._nonces[who.address]]))[12:])

    def sign(self, who: Account, to: bytes, data: bytes, value: int, gas: int) -> bytes:
        """A transaction with that much gas besides what it costs to begin; now and then it is spoiled."""
        rng = self._rng
        nonce, price = self._nonces[who.address], rng.choice((7, 8, 50, 1_000, 100_000))
        said = {"nonce": nonce, "to": to, "value": value, "data": data, "chain_id": LAW.chain_id}
        said |= {"price": price, "tip": rng.choice((0, 0, 0, 1, 3, price))}
        if rng.random() > FAULTY:
            self._nonces[who.address] += 1
            return self._signed(who, said, gas)
        faults: Sequence[dict[str, Any]] = (
            {"nonce": nonce + rng.choice((1, 2, 100))},
            {"nonce": max(0, nonce - 1)},
            {"gas": rng.choice((0, 20_999, 21_000, 21_000 + 16 * len(data), 21_000 + 40 * len(data), GAS_LIMIT + 1))},
            {"value": 10 ** rng.choice((18, 19, 30))},
            {"price": price - 5},
            {"tip": price + 1},
            {"chain_id": LAW.chain_id - 1},
        )
        match rng.randrange(len(faults) + 2):
            case 0:
                return self._spoiled(self._signed(who, said, gas))
            case 1:
                return _other_signature(self._signed(who, said, gas))
            case _:
                return self._signed(who, said | rng.choice(faults), gas)

    def _signed(self, who: Account, said: dict[str, Any], more_gas: int) -> bytes:
        kind = self._rng.choice(self._kinds)
        warm = [] if kind in {"legacy", "unprotected"} else self._warm()
        gas = 21_000 + 40 * len(said["data"]) + (0 if said["to"] else 32_000) + more_gas
        gas += sum(2_400 + 1_900 * len(slots) for _, slots in warm)
        fields = {"gas": gas} | {name: said[name] for name in ("nonce", "to", "value", "data", "gas") if name in said}
        listed = {"chain_id": said["chain_id"], "access_list": warm}
        fees = {"max_fee_per_gas": said["price"], "max_priority_fee_per_gas": said["tip"]}
        match kind:
            case "legacy":
                one = BUILDER.create_unsigned_transaction(**fields, gas_price=said["price"])
                return bytes(one.as_signed_transaction(who.key, chain_id=said["chain_id"]).encode())
            case "unprotected":
                one = BUILDER.create_unsigned_transaction(**fields, gas_price=said["price"])
            case "listed":
                one = BUILDER.new_unsigned_access_list_transaction(**fields, **listed, gas_price=said["price"])
            case _:
                one = BUILDER.new_unsigned_dynamic_fee_transaction(**fields, **listed, **fees)
        return bytes(one.as_signed_transaction(who.key).encode())

    def _warm(self) -> list[tuple[bytes, list[int]]]:
        rng = self._rng
        return [
            (rng.choice(self._places), [rng.choice((0, 1, 2, rng.getrandbits(256))) for _ in range(rng.randrange(4))])
            for _ in range(rng.choice((0, 0, 1, 2, 4)))
        ]

    def _spoiled(self, made: bytes) -> bytes:
        """Other bytes, which seldom are a transaction."""
        rng, at = self._rng, self._rng.randrange(len(made))
        return rng.choice(
            (
                made[:at],
                made + rng.randbytes(1),
                made[:at] + bytes([made[at] ^ (1 << rng.randrange(8))]) + made[at + 1 :],
                bytes([rng.randrange(256)]) + made[1:],
                rng.randbytes(rng.randrange(120)),
                rlp.encode([rng.randbytes(rng.randrange(34)) for _ in range(9)]),
            )
        )


def _other_signature(made: bytes) -> bytes:
    """The other signature that fits a transaction, which EIP-2 forbids."""
    head, body = (made[:1], made[1:]) if made[0] < 0x80 else (b"", made)
    *rest, v, r, s = rlp.decode(body)
    parity = int.from_bytes(v, "big")
    flipped = parity ^ 1 if head else parity + (1 if parity % 2 else -1)
    other = ORDER - int.from_bytes(s, "big")
    return head + bytes(rlp.encode([*rest, _bytes(flipped), r, _bytes(other)]))


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
