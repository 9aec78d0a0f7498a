"""What a payload's events say of sessions and their storage, as the consensus spells it (consensus/news).

    logs of LucidAnchors.close, LucidChunkStore.commit, hold and probe, in their order ──→ SessionNews

Closings and commitments do not name the owner: that is who sent the call, since nobody else can, and no contract calls for
others.
"""

from collections.abc import Iterator
from typing import Final

from consensus.ids import Address, Digest, SessionId
from consensus.news import (
    ChunkNamed,
    ChunksNamed,
    ReplicasHeld,
    ReplicaShown,
    SessionEnded,
    SessionNews,
    roots_name,
)
from node.chain.evm import Executed
from node.chain.genesis import PLACES
from node.chain.index import EmittedLog
from node.chain.onsystem import Closed, said, topic

_STORE: Final = "LucidChunkStore"


def news_of(executed: Executed) -> tuple[SessionNews, ...]:
    """The news of a payload; chunks that one call commits to are one item."""
    news: list[SessionNews] = []
    for receipt, sender in zip(executed.receipts, executed.senders, strict=True):
        for one in _of(receipt.logs, sender):
            match news[-1:], one:
                case [ChunksNamed(chunks=chunks) as before], ChunksNamed(chunks=more) if (
                    one.session == before.session and one.first == before.first + len(chunks)
                ):
                    news[-1] = before._replace(chunks=(*chunks, *more))
                case _:
                    news.append(one)
    return tuple(news)


def _of(logs: tuple[EmittedLog, ...], sender: Address) -> Iterator[SessionNews]:
    for log in logs:
        if log.address == PLACES[_STORE]:
            found = _stored(log, sender)
            if found is not None:
                yield found
        elif isinstance(closed := said(log), Closed):
            yield SessionEnded(closed.session, sender)


def _stored(log: EmittedLog, sender: Address) -> SessionNews | None:
    """What an event of LucidChunkStore says; nothing of a challenge that was not passed."""
    name, session, *topics = log.topics
    words = [log.data[at : at + 32] for at in range(0, len(log.data), 32)]
    numbers = [int.from_bytes(word, "big") for word in words]
    if name == topic(_STORE, "ChunkCommitted"):
        named = ChunkNamed(Digest(topics[0]), numbers[1], roots_name(words[2:]))
        return ChunksNamed(SessionId(session), sender, numbers[0], (named,))
    accounts = [Address(one[12:]) for one in topics]
    if name == topic(_STORE, "ChunksHeld"):
        return ReplicasHeld(SessionId(session), accounts[0], *numbers)
    if name == topic(_STORE, "ChunkProbed") and numbers[2]:
        return ReplicaShown(SessionId(session), numbers[0], numbers[1], *accounts)
    return None
