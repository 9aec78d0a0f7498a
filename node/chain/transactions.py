"""Transactions as bytes: signed by an account, read back with their sender, and held to the rules that ask no state.

    2 ‖ rlp(chain id, nonce, tip, fee, gas, to, value, data, access list, y, r, s)        EIP-1559, which we sign
    1 ‖ rlp(…)  EIP-2930        rlp(…)  EIP-155 and older, which others may send

The rules are those of the EVM process (`evm`), and its are what counts: here they keep what it would refuse from being spread.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import rlp
from coincurve import PrivateKey, PublicKey
from rlp.exceptions import RLPException

from consensus.encoding import Malformed
from consensus.ids import Address, keccak256
from node.chain.genesis import BASE_FEE, GAS_LIMIT, PRECOMPILES
from node.chain.spelling import decoded
from node.chain.wanted import BYTES_MAX

HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
TIP_WEI: Final = 1
"""What we give whoever takes our transactions."""
FEE_WEI: Final = 1_000 * BASE_FEE
"""The most that we pay for gas: the base fee has to be at its usual for forty full blocks to get there."""
_WORD: Final = 1 << 256


class Transaction(NamedTuple):
    """What a transaction says, and who signed it."""

    sender: Address
    nonce: int
    tip: int
    fee: int
    """In wei a unit of gas, at most."""
    gas: int
    to: Address
    value: int
    data: bytes
    hash: bytes
    size: int

    @property
    def cost(self) -> int:
        """What its sender needs at least, in wei."""
        return self.value + self.gas * self.fee


def address_of(secret: bytes) -> Address:
    """The account of a secret key."""
    return _address(PublicKey.from_secret(secret))


def _address(public: PublicKey) -> Address:
    return Address(keccak256(public.format(compressed=False)[1:])[12:])


def sign(
    secret: bytes,
    chain_id: int,
    nonce: int,
    to: Address,
    data: bytes,
    gas: int,
    *,
    value: int = 0,
    tip: int = TIP_WEI,
    fee: int = FEE_WEI,
) -> bytes:
    """A transaction of EIP-1559, signed as RFC 6979 does, so that the same call has the same bytes."""
    fields: list[Any] = [chain_id, nonce, tip, fee, gas, to, value, data, []]
    signature = PrivateKey(secret).sign_recoverable(keccak256(b"\2" + rlp.encode(fields)), hasher=None)
    numbers = [signature[64], int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")]
    return b"\2" + bytes(rlp.encode([*fields, *numbers]))


def hash_of(data: bytes) -> bytes:
    """A transaction's name."""
    return keccak256(data)


def read(data: bytes, chain_id: int) -> Transaction:
    """The transaction that data spells; raises Malformed, with the first rule that it breaks. Costs one recovery, 0.1 ms."""
    if len(data) > BYTES_MAX:
        raise Malformed("a transaction that is too long")
    try:
        return _read(data, chain_id)
    except (RLPException, ValueError, TypeError, IndexError, OverflowError) as error:
        raise Malformed(f"bytes that spell no transaction: {type(error).__name__}") from error


def _read(data: bytes, chain_id: int) -> Transaction:
    kind = data[0] if data and data[0] < 0x7F else 0
    fields = decoded(data[1:] if kind else data)
    if not isinstance(fields, list) or rlp.encode(fields) != (data[1:] if kind else data):
        raise Malformed("a transaction in another spelling than its own")
    match kind, fields:
        case 2, [chain, nonce, tip, fee, gas, to, value, said, access, parity, r, s]:
            signed = b"\2" + rlp.encode(fields[:9])
        case 1, [chain, nonce, fee, gas, to, value, said, access, parity, r, s]:
            tip, signed = fee, b"\1" + rlp.encode(fields[:8])
        case 0, [nonce, fee, gas, to, value, said, v, r, s]:
            access, tip = [], fee
            chain, parity, signed = _legacy(fields[:6], _number(v))
        case _:
            raise Malformed("a transaction of a type that this chain has not")
    if not isinstance(to, bytes) or not isinstance(said, bytes):
        raise Malformed("a transaction with a list where bytes belong")
    if _number(chain) != chain_id:
        raise Malformed("a transaction of another chain")
    sender = _sender(signed, _number(parity), _number(r), _number(s))
    _check_access(access)
    made = Transaction(
        sender,
        _number(nonce),
        _number(tip),
        _number(fee),
        _number(gas),
        Address(to),
        _number(value),
        said,
        hash_of(data),
        len(data),
    )
    _check(made, access)
    return made


def _legacy(fields: Sequence[Any], v: int) -> tuple[bytes, bytes, bytes]:
    """Chain id, parity, and what was signed, of a transaction before types."""
    if v < 37:
        raise Malformed("a transaction that is not bound to a chain (EIP-155)")
    chain, parity = divmod(v - 35, 2)
    return chain.to_bytes(8, "big").lstrip(b"\0"), bytes([parity]).lstrip(b"\0"), rlp.encode([*fields, chain, 0, 0])


def _number(field: Any) -> int:
    if not isinstance(field, bytes) or len(field) > 32 or field[:1] == b"\0":
        raise Malformed("a transaction with a number in another spelling than its own")
    return int.from_bytes(field, "big")


def _sender(signed: bytes, parity: int, r: int, s: int) -> Address:
    if parity > 1 or not 0 < s <= HALF_ORDER or not 0 < r < _WORD:
        raise Malformed("a transaction whose signature is not in its one form")
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([parity])
    try:
        return _address(PublicKey.from_signature_and_message(signature, keccak256(signed), hasher=None))
    except Exception as error:
        if type(error) in (Exception, ValueError):  # coincurve raises plain ones
            raise Malformed("a transaction that nobody signed") from error
        raise


def _check_access(access: Any) -> None:
    if not isinstance(access, list):
        raise Malformed("a transaction with a broken access list")
    for entry in access:
        if not (
            isinstance(entry, list)
            and len(entry) == 2
            and isinstance(entry[0], bytes)
            and len(entry[0]) == 20
            and isinstance(entry[1], list)
        ):
            raise Malformed("a transaction with a broken access list")
        if any(not isinstance(slot, bytes) or len(slot) != 32 for slot in entry[1]):
            raise Malformed("a transaction with a broken access list")


def _check(one: Transaction, access: Sequence[Any]) -> None:
    """The rules that keep all code on the chain our own, and what nobody can pay for."""
    rules = (
        (len(one.to) == 20, "a transaction that would create a contract"),
        (int.from_bytes(one.to, "big") > PRECOMPILES, "a transaction to a contract of the EVM's own"),
        (one.tip <= one.fee, "a transaction that gives more than it pays"),
        (one.fee >= BASE_FEE, "a transaction that pays less than any block takes"),
        (one.gas <= GAS_LIMIT, "a transaction with more gas than a block has"),
        (one.gas >= intrinsic_gas(one.data, access), "a transaction with less gas than its bytes cost"),
        (one.nonce < (1 << 64) - 1, "a transaction with a number that no account reaches"),
    )
    for holds, rule in rules:
        if not holds:
            raise Malformed(rule)


def intrinsic_gas(data: bytes, access: Sequence[Any] = ()) -> int:
    """What a call costs before it runs, or at least (EIP-2028, 2930, 7623)."""
    zeros = data.count(0)
    tokens = zeros + 4 * (len(data) - zeros)
    listed = sum(2_400 + 1_900 * len(entry[1]) for entry in access)
    return max(21_000 + 4 * tokens + listed, 21_000 + 10 * tokens)
