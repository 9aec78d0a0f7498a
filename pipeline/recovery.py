"""Closing a session whose recorder died: the journals become the last chunks, the identity signs what there is.

Done again after a crash of its own it comes to the same end: a journal becomes the chunk of its own index, chunks that
are in the ledger are not sealed twice, and the journals go only when the manifest is in the ledger. Where a chunk is
neither sealed nor in a journal, an empty one takes its place; the recorder itself never writes one before the last.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from consensus import merkle
from consensus.ids import Millis
from consensus.records import unpack
from consensus.signing import KeyPair
from pipeline import journal
from pipeline.manifest import Chunk, Closer, GapNote, Head, Incident, Listing, Manifest, order, sign
from pipeline.manifest import identity as identity_of
from pipeline.restore import Damaged, holds, open_chunk
from pipeline.seal import SessionKeys
from pipeline.sealed import Flags
from pipeline.session import Places
from pipeline.stores import Interrupted
from pipeline.stream import Stream
from pipeline.writer import seal_chunk, sealing_buffer

REASON = "the recorder stopped without closing the session; closed at recovery"
INCIDENTS_MAX = 256
"""More are not listed one by one."""


@dataclass(slots=True)
class _Rest:
    """What recovery adds."""

    chunks: list[Chunk]
    gaps: list[GapNote]
    incidents: list[Incident] = field(default_factory=list)
    last: Millis = field(default=Millis(0))


async def close(
    found: Interrupted, secret: bytes, identity: KeyPair, places: Places, now: Callable[[], Millis]
) -> Manifest:
    """Seal what the journals hold, sign the manifest as incomplete, and return it; it is in the ledger then.

    What a journal cannot give back intact becomes a damaging incident, which every later verification reports.
    Raises NoRoom and OSError, leaving everything for another attempt.
    """
    opening = found.opening
    keys = SessionKeys(opening.network, opening.session, secret)
    rest = _Rest(
        list(found.chunks), list(found.gaps), last=max((c.last for c in found.chunks), default=opening.started)
    )
    journals = journal.find(places.journals)
    heads = [unpack(Head, head.body) for head in found.heads]
    for sentence in await trio.to_thread.run_sync(_unvouched, found, heads, keys, places):
        rest.incidents.append(Incident(now(), True, sentence))
    for stream in opening.streams:
        entries = [entry for entry in journals if entry[0] is stream]
        await _seal_rest(stream, entries, heads, keys, places, rest, now)
    chunks = order(rest.chunks)
    lost = [chunk.name for chunk in chunks if not (chunk.plain or chunk.flags & Flags.LAST)]
    rest.incidents += [
        Incident(now(), True, f"{name} was lost: it is neither sealed nor in a journal") for name in lost
    ]
    if (more := len(rest.incidents) - INCIDENTS_MAX) > 0:
        rest.incidents[INCIDENTS_MAX:] = [Incident(now(), True, f"and {more} more")]
    manifest = Manifest(
        session=opening.session,
        opening=identity_of(opening, opening.network),
        ended=rest.last,
        complete=False,
        reason=REASON,
        closer=Closer.IDENTITY,
        chunk_count=len(chunks),
        root=merkle.root([chunk.leaf() for chunk in chunks]),
        listing=identity_of(Listing(chunks), opening.network),
        heads=len(found.heads),
        last_head=identity_of(heads[-1] if heads else opening, opening.network),
        gaps=tuple(rest.gaps),
        incidents=tuple(rest.incidents),
        participants=(),
    )
    await places.ledger.closed(sign(manifest, identity, opening.network))
    for _, _, file in journals:
        file.unlink(missing_ok=True)
    return manifest


def _unvouched(found: Interrupted, heads: Sequence[Head], keys: SessionKeys, places: Places) -> list[str]:
    """What is wrong with the chunks in the ledger that no head names: the identity is about to sign for them."""
    vouched = {leaf for head in heads for leaf in head.leaves}
    wrong = []
    for chunk in found.chunks:
        if chunk.leaf() not in vouched:
            try:
                open_chunk(found.opening, chunk, places.sink.read(chunk.file), keys)
            except Damaged as error:
                wrong.append(str(error))
            except (KeyError, OSError):
                wrong.append(f"{chunk.name} is in the records, its file is not there")
    return wrong


def _contradicted(heads: Sequence[Head], found: journal.Recovered, keys: SessionKeys) -> list[str]:
    """Heads that vouched for other bytes of an open chunk than its journal gives back."""
    tails = [tail for head in heads for tail in head.tails if (tail.stream, tail.index) == (found.stream, found.index)]
    # Too few bytes are the verifier's finding, which names the head.
    wrong = [tail for tail in tails if len(found.data) >= tail.size and not holds(tail, found.data, keys)]
    name = f"{found.stream.name.lower()}/{found.index}"
    return [f"the journal of {name} holds other bytes than a head vouches for"] if wrong else []


async def _seal_rest(
    stream: Stream,
    journals: Sequence[tuple[Stream, int, Path]],
    heads: Sequence[Head],
    keys: SessionKeys,
    places: Places,
    rest: _Rest,
    now: Callable[[], Millis],
) -> None:
    line = [chunk for chunk in rest.chunks if chunk.stream is stream]
    place = line[-1].index + 1 if line else 0
    if place > len(line):
        missing = f"the records lack {place - len(line)} chunks of the {stream.name.lower()}"
        rest.incidents.append(Incident(now(), True, missing))
    left: dict[int, journal.Recovered] = {}
    for _, index, file in journals:
        found = await trio.to_thread.run_sync(journal.recover, file, keys, stream, index)
        damage = (*found.damage, *(_contradicted(heads, found, keys) if index >= place else ()))
        rest.incidents += [Incident(now(), True, sentence[:1000]) for sentence in damage]
        if index >= place and (found.data or found.gaps):
            left[index] = found
    end = max(left, default=place if not (line and line[-1].flags & Flags.LAST) else -1)
    for index in range(place, end + 1):
        found = left.get(index) or journal.Recovered(stream, index, b"", rest.last, rest.last, (), ())
        rest.gaps += found.gaps
        rest.last = max(rest.last, found.last)
        gaps = sum(gap.stream is stream for gap in rest.gaps)
        chunk = await trio.to_thread.run_sync(_seal, keys, found, index == end, gaps, places)
        chunk = replace(chunk, first=found.first or rest.last, last=found.last or rest.last)
        await places.ledger.sealed(chunk, found.gaps)
        rest.chunks.append(chunk)


def _seal(keys: SessionKeys, found: journal.Recovered, last: bool, gaps: int, places: Places) -> Chunk:
    plain, place = memoryview(found.data), (found.stream, found.index)
    chunk, sealed = seal_chunk(sealing_buffer(len(plain)), keys, place, plain, last=last, gaps=gaps)
    places.sink.put(chunk.file, sealed, reserve=True)
    return chunk
