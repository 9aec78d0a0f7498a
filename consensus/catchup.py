"""How a node catches up: it names blocks that it has, and is sent those that follow, in their order.

    names: head ── the 8 nearest ── 15 in even steps ── last final ── 1, 2, 4, … ── genesis

Source: DESIGN §4; Bitcoin's block locator (names ever further apart).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from consensus.ancestry import Ancestry
from consensus.block import BLOCK_BYTES_MAX
from consensus.ids import Digest
from consensus.records import Most, Size, pack, unpack

ANSWER_BLOCKS: Final = 64
ANSWER_BYTES: Final = 1 << 20
QUESTION_IDS: Final = 32
_NEAREST: Final = 8
_SPREAD: Final = 15


@dataclass(frozen=True, slots=True)
class BlockQuestion:
    """What a node that catches up has: blocks of its branch, the newest first, ever further apart."""

    VERSION: ClassVar = 1
    known: Annotated[tuple[Annotated[Digest, Size(32)], ...], Most(QUESTION_IDS)]


@dataclass(frozen=True, slots=True)
class BlockAnswer:
    """The blocks that follow the newest of those, in order."""

    VERSION: ClassVar = 1
    blocks: Annotated[tuple[Annotated[bytes, Most(BLOCK_BYTES_MAX)], ...], Most(ANSWER_BLOCKS)]


def question(recent: Iterable[Digest], past: Ancestry) -> bytes:
    """What a node has: the head and its nearest ancestors, the rest of its branch in even steps, then its final chain.

    recent goes from the head to the last final block; along the final chain the steps double, and the genesis is the last.
    The even ones are shorter than an answer where at most 968 blocks are not final: so whoever forked is sent news.
    """
    nearest, rest = (branch := [*recent])[:_NEAREST], branch[_NEAREST:]
    even = max(1, -(-len(rest) // _SPREAD))
    names = [*nearest, *rest[even - 1 :: even]]
    step, at = 1, past.height
    while at > 0 and len(names) < QUESTION_IDS - 1:
        if (name := past.at(at)) is not None:  # its row may be lost
            names.append(name)
        at, step = at - step, step * 2
    return pack(BlockQuestion((*dict.fromkeys([*names, past.genesis]),)))


def answer(asked: bytes, past: Ancestry, path: Sequence[Digest], stored: Callable[[Digest], bytes | None]) -> bytes:
    """The blocks of a branch after the newest that the question names; at most 64 and a MiB, none if it names none of it.

    The branch is the final chain and then path, which begins with the last final block. `stored` reads a block. Raises
    Malformed for no question.
    """
    places = {name: past.height + at for at, name in enumerate(path)}
    known = unpack(BlockQuestion, asked).known
    heights = [places[name] if name in places else past.height_of(name) for name in known]
    newest = max((height for height in heights if height is not None), default=None)
    found: list[bytes] = []
    for height in range(newest + 1, newest + 1 + ANSWER_BLOCKS) if newest is not None else ():
        at = height - past.height
        name = path[at] if 0 <= at < len(path) else past.at(height)
        data = None if name is None else stored(name)
        if data is None or sum(map(len, found)) + len(data) > ANSWER_BYTES:  # no block alone is so long
            break
        found.append(data)
    return pack(BlockAnswer(tuple(found)))
