"""Sessions by the first digits of their ids, as people name them."""

from collections.abc import Iterable

from consensus.ids import SessionId
from node.exits import Unavailable, Usage

DIGITS_MIN = 4


def is_beginning(text: str) -> bool:
    """Whether a session's id could begin so, and people would name it by that."""
    return DIGITS_MIN <= len(text) <= 64 and all(digit in "0123456789abcdefABCDEF" for digit in text)


def begun_by(wanted: str, known: Iterable[SessionId], absent: str = "") -> SessionId:
    """The one of the known sessions whose id begins with the digits; raises Usage for several, Unavailable for none."""
    found = [session for session in known if session.hex().startswith(wanted.lower())]
    if not found:
        raise Unavailable(absent or f"no session begins with {wanted}: `lucid-node sessions` lists them")
    if len(found) > 1:
        raise Usage(f"{len(found)} sessions begin with {wanted}: give more digits")
    return found[0]
