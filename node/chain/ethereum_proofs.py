"""Proofs of accounts and of their storage under a header's state root (EIP-1186), by the library `trie`."""

from collections.abc import Sequence
from typing import Any

import rlp
from trie.hexary import HexaryTrie

from consensus.ids import Address, keccak256
from node.chain.accounts import NO_CODE, NO_NODES
from node.chain.ethereum_views import data, quantity
from node.chain.index import Get


class _Nodes(dict[bytes, bytes]):
    """The nodes of the chain as a mapping that reads them when they are needed."""

    def __init__(self, get: Get) -> None:
        super().__init__()
        self._get = get

    def __missing__(self, name: bytes) -> bytes:
        found = self._get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __contains__(self, name: object) -> bool:
        return isinstance(name, bytes) and self._get(name) is not None


def _lookup(get: Get, root: bytes, key: bytes) -> tuple[bytes, list[str]]:
    """What lies under a key, nothing where nothing does, and the nodes that lead there or show that."""
    if root == NO_NODES:
        return b"", []
    made: Any = HexaryTrie(_Nodes(get), root)
    hashed = keccak256(key)
    return bytes(made.get(hashed)), [data(rlp.encode(node)) for node in made.get_proof(hashed)]


def proof(get: Get, root: bytes, address: Address, slots: Sequence[int]) -> dict[str, Any]:
    """An account and words of its storage, each with the nodes that lead to it."""
    found, nodes = _lookup(get, root, address)
    nonce, balance, storage, code = rlp.decode(found) if found else (b"", b"", NO_NODES, NO_CODE)
    words = []
    for slot in slots:
        value, way = _lookup(get, storage, slot.to_bytes(32, "big"))
        word = int.from_bytes(rlp.decode(value), "big") if value else 0
        words.append({"key": quantity(slot), "value": quantity(word), "proof": way})
    return {
        "address": data(address),
        "accountProof": nodes,
        "balance": quantity(int.from_bytes(balance, "big")),
        "nonce": quantity(int.from_bytes(nonce, "big")),
        "codeHash": data(code),
        "storageHash": data(storage),
        "storageProof": words,
    }
