"""RLP from strangers: how deep it nests is looked at before the library reads it, which does so by recursion.

py-evm raises Python's limit of recursion to ten thousand calls, at which the library's C code has no stack left: 60 KB of lists
within lists ended the process. What Ethereum writes nests six deep.
"""

from typing import Any, Final

import rlp
from rlp.exceptions import RLPException

from consensus.encoding import Malformed

DEPTH_MAX: Final = 16


def check_depth(data: bytes) -> None:
    """Raises Malformed for RLP whose lists nest too deep; what is wrong in other ways is the library's to tell. Costs O(items)."""
    at, ends = 0, list[int]()
    while at < len(data):
        while ends and at >= ends[-1]:
            ends.pop()
        head = data[at]
        if head < 0x80:
            at += 1
        elif head < 0xC0:
            start, size = _span(data, at, head - 0x80)
            at = start + size
        else:
            at, size = _span(data, at, head - 0xC0)
            ends.append(at + size)
            if len(ends) > DEPTH_MAX:
                raise Malformed(f"lists that nest deeper than {DEPTH_MAX}")


def _span(data: bytes, at: int, size: int) -> tuple[int, int]:
    """Where the content of an item begins, and how long it is."""
    if size < 56:
        return at + 1, size
    wide = size - 55
    return at + 1 + wide, int.from_bytes(data[at + 1 : at + 1 + wide], "big")


def decoded(data: bytes) -> Any:
    """What RLP from a stranger spells: bytes, and lists of such; raises Malformed."""
    check_depth(data)
    try:
        return rlp.decode(data)
    except (RLPException, ValueError, TypeError, IndexError, OverflowError) as error:
        raise Malformed(f"bytes that are no RLP: {type(error).__name__}") from error
