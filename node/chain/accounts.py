"""All accounts after a payload, for a node that begins there: every row by its own hash, so that nothing has to be believed.

    header ── state root ──→ nodes ──→ accounts ── storage root, code hash ──→ nodes, code         `values`, in the order of the walk
    values ── keccak ──→ rows ── the same walk, complete, nothing left over ──→ `adopt`

Source: the yellow paper, appendix D; DESIGN §7 (snapshot sync).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import rlp

from consensus.encoding import Malformed
from consensus.ids import Digest, keccak256
from node.chain.evm import ChainRows
from node.chain.index import HEAD, Get, number_key
from node.chain.receipts import NUMBER, header_fields
from node.chain.spelling import decoded

STATE_ROOT: Final = 3
NO_NODES: Final = keccak256(rlp.encode(b""))
NO_CODE: Final = keccak256(b"")
_HASH: Final = 32


def values(header: bytes, name: Digest, get: Get) -> Iterator[bytes]:
    """Every node and code of the accounts after a payload, each once, parents first; raises Malformed where one is missing."""
    seen: set[bytes] = set()
    waiting: list[tuple[bytes, bool | None]] = [(header_fields(header, name)[STATE_ROOT], True)]
    while waiting:
        wanted, is_state = waiting.pop()
        if wanted in seen or wanted in (NO_NODES, NO_CODE):
            continue
        seen.add(wanted)
        value = get(wanted)
        if value is None:
            raise Malformed("accounts of which a part is missing")
        yield value
        if is_state is not None:
            waiting += reversed([*_below(decoded(value), is_state)])


def _below(node: Any, is_state: bool) -> Iterator[tuple[bytes, bool | None]]:
    """What a node refers to by hash: a name, and whether what is there is a node of accounts, of storage, or (None) code."""
    if not isinstance(node, list) or len(node) not in (2, 17):
        raise Malformed("accounts of which a part is no node")
    if len(node) == 17:
        children = node[:16]
    elif not isinstance(node[0], bytes) or not node[0]:
        raise Malformed("accounts of which a part is no node")
    elif node[0][0] & 0x20:
        yield from _of_leaf(node[1]) if is_state else ()
        return
    else:
        children = node[1:]
    for child in children:
        if isinstance(child, list):
            yield from _below(child, is_state)
        elif len(child) == _HASH:
            yield child, is_state
        elif child:
            raise Malformed("accounts of which a part is no node")


def _of_leaf(value: Any) -> Iterator[tuple[bytes, bool | None]]:
    account = decoded(value)
    if not isinstance(account, list) or len(account) != 4:
        raise Malformed("accounts of which one is none")
    yield account[2], False
    yield account[3], None


def adopt(rows: ChainRows, header: bytes, name: Digest, found: Iterable[bytes]) -> int:
    """Have a chain begin after a payload, with the accounts that values spell; how many values there were.

    Raises Malformed, and changes nothing, for values that are not exactly those of the header, in their order.
    """
    number = int.from_bytes(header_fields(header, name)[NUMBER], "big")
    given = [*found]
    by_hash: Mapping[bytes, bytes] = {keccak256(value): value for value in given}
    if [*values(header, name, by_hash.get)] != given:
        raise Malformed("accounts in another order than their own, or more than there are")
    rows.commit([*by_hash.items(), (name, header), (number_key(number), name), (HEAD, name)])
    return len(given)
