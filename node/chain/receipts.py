"""Receipts as Ethereum hashes them: their bytes, the root that a header names, and the way from one of them to it.

    receipts, kinds ── `spelled` ──→ bytes of each ── `proof` ──→ nodes         root, nodes ── `shown` ──→ what one says

Source: EIP-2718, EIP-658; the Merkle Patricia trie of the yellow paper, appendix D, by the library `trie`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import rlp
from eth_bloom.bloom import BloomFilter
from rlp.exceptions import RLPException
from trie.exceptions import BadTrieProof, ValidationError
from trie.hexary import HexaryTrie

from consensus.encoding import Malformed
from consensus.ids import Address, keccak256
from node.chain.index import EmittedLog, TransactionReceipt
from node.chain.spelling import decoded

RECEIPTS_ROOT, NUMBER, TIMESTAMP = 5, 8, 11
"""The places of a header's fields."""
HEADER_BYTES_MAX: Final = 1_024


def spelled(receipts: Iterable[TransactionReceipt], kinds: Sequence[int]) -> list[bytes]:
    """The bytes of a block's receipts, from its transactions' kinds: 0 for those of before EIP-2718."""
    gas, made = 0, []
    for one, kind in zip(receipts, kinds, strict=True):
        gas += one.gas_used
        logs = [[log.address, list(log.topics), log.data] for log in one.logs]
        body = rlp.encode([int(one.ok), gas, bloom_of(one.logs), logs])
        made.append((bytes([kind]) if kind else b"") + bytes(body))
    return made


def bloom_of(logs: Iterable[EmittedLog]) -> bytes:
    """The bloom filter of some logs, 256 bytes."""
    bloom = BloomFilter()
    for log in logs:
        bloom.add(log.address)
        bloom.extend(log.topics)
    return int(bloom).to_bytes(256, "big")


def kinds_of(block: bytes) -> list[int]:
    """The kinds of the transactions in a block's RLP."""
    return [one[0] if isinstance(one, bytes) else 0 for one in rlp.decode(block)[1]]


def _trie(receipts: Sequence[bytes]) -> Any:  # a library without types
    made: Any = HexaryTrie({})
    for at, one in enumerate(receipts):
        made[rlp.encode(at)] = one
    return made


def root(receipts: Sequence[bytes]) -> bytes:
    """What a header names of its block's receipts."""
    found: bytes = _trie(receipts).root_hash
    return found


def proof(receipts: Sequence[bytes], at: int) -> tuple[bytes, ...]:
    """The nodes from the root to a receipt."""
    return tuple(bytes(rlp.encode(node)) for node in _trie(receipts).get_proof(rlp.encode(at)))


def shown(named: bytes, at: int, nodes: Sequence[bytes]) -> TransactionReceipt:
    """The receipt at a place under a root; its gas is that of all before it, too. Raises Malformed where nodes do not lead there."""
    try:
        given: Any = tuple(decoded(node) for node in nodes)
        tries: Any = HexaryTrie  # a library without types
        data = tries.get_from_proof(named, rlp.encode(at), given)
        kind = data[0] if data and data[0] < 0x7F else 0
        ok, gas, _bloom, logs = decoded(data[1:] if kind else data)
        events = tuple(EmittedLog(Address(address), tuple(topics), said) for address, topics, said in logs)
        return TransactionReceipt(ok == b"\1", int.from_bytes(gas, "big"), events)
    except (
        BadTrieProof,
        ValidationError,
        RLPException,
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        RecursionError,
    ) as error:
        raise Malformed(f"nodes that do not lead to a receipt: {type(error).__name__}") from error


def number_of(header: bytes) -> int:
    """The number that a header of ours says."""
    return int.from_bytes(rlp.decode(header)[NUMBER], "big")


def header_fields(header: bytes, name: bytes) -> list[bytes]:
    """The fields of a header of that name; raises Malformed for another one."""
    if len(header) > HEADER_BYTES_MAX or keccak256(header) != name:
        raise Malformed("a header of another name")
    fields: list[bytes] = decoded(header)
    if len(fields) <= TIMESTAMP or not all(isinstance(one, bytes) for one in fields):
        raise Malformed("a header without its fields")
    return fields
