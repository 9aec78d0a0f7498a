"""Sessions in a store: what is kept is what comes back, a second time is refused, and damage is told and goes no further."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from consensus.encoding import Malformed
from consensus.ids import Millis, SessionId
from consensus.records import pack, unpack
from node.sessions.records import Kept, StoreLedger, load, load_open, proofs, sessions
from node.store import Conflict, Key, Put
from node.store.memory import MemoryStore
from pipeline.bundle import verify
from pipeline.manifest import GapNote, Manifest, Signed, sign
from pipeline.stream import Stream
from tests.pipeline.sessions import STARTED, Made, seal, small, terms


class Rows:
    """The reading half of a store as it is now."""

    def __init__(self, rows: dict[str, list[tuple[Key, bytes]]]) -> None:
        self.rows = rows

    def get(self, table: str, key: Key) -> bytes | None:
        return dict(self.rows[table]).get(key)

    def scan(self, table: str, prefix: Key = ()) -> Iterator[tuple[Key, bytes]]:
        return ((key, value) for key, value in self.rows[table] if key[: len(prefix)] == prefix)


async def reading(store: MemoryStore) -> Rows:
    tables = ("sessions", "chunks", "files", "heads", "manifests")
    return Rows({table: [row async for row in store.scan(table)] for table in tables})


async def keep(store: MemoryStore, made: Made, *, close: bool = True) -> None:
    """Keep a session as its recorder does."""
    ledger, network = StoreLedger(store, made.opening.session), made.opening.network
    await ledger.opened(sign(made.opening, made.terms.identity, network))
    for chunk in made.chunks:
        await ledger.sealed(chunk, gaps(made, chunk.stream, chunk.index))
    for head in made.heads:
        await ledger.headed(sign(head, made.terms.ephemeral, network))
    if close:
        await ledger.closed(unpack(Signed, made.signed_manifest()))


def gaps(made: Made, stream: Stream, index: int) -> list[GapNote]:
    counts = [0, *(chunk.gaps for chunk in made.chunks if chunk.stream is stream)]
    return [gap for gap in made.manifest.gaps if gap.stream is stream][counts[index] : counts[index + 1]]


async def kept(store: MemoryStore, made: Made) -> Kept:
    found = load(await reading(store), made.opening.session)
    assert found is not None
    return found


async def test_a_session_comes_back_as_the_same_evidence() -> None:
    store, one, two = MemoryStore(), small(), small("two")
    await keep(store, one)
    await keep(store, two)
    for made in (one, two):
        found = await kept(store, made)
        assert found.evidence(made.read) == made.evidence(read=made.read)
        assert verify(found.evidence(made.read)).valid
        assert (found.opening, found.manifest, found.chunks) == (made.opening, made.manifest, made.chunks)
        assert proofs(found.chunks) == made.parts()["proofs.cbor"]
    assert load(await reading(store), SessionId(bytes(32))) is None
    files = [key async for key, _ in store.scan("files")]
    assert sorted(files) == sorted((chunk.file,) for made in (one, two) for chunk in made.chunks)


async def test_many_chunks_and_heads_keep_their_order() -> None:
    store = MemoryStore()
    many = seal(terms(streams=(Stream.VIDEO,)), {Stream.VIDEO: [bytes([n % 256]) for n in range(300)]})
    await keep(store, many)
    assert (await kept(store, many)).chunks == many.chunks
    assert [head.body for head in (await kept(store, many)).heads] == list(map(pack, many.heads))


async def test_nothing_is_kept_twice() -> None:
    store, made = MemoryStore(), small()
    await keep(store, made)
    ledger, network = StoreLedger(store, made.opening.session), made.opening.network
    before = await kept(store, made)
    other = replace(made.manifest, complete=False)
    for again in (
        ledger.opened(sign(made.opening, made.terms.identity, network)),
        ledger.sealed(made.chunks[0], ()),
        ledger.closed(sign(other, made.terms.ephemeral, network)),
    ):
        with pytest.raises(Conflict):
            await again
    assert await kept(store, made) == before


async def test_open_sessions_are_those_without_a_manifest_and_recovery_gets_all_of_them() -> None:
    store, done, left = MemoryStore(), small(), small("two")
    await keep(store, done)
    await keep(store, left, close=False)
    (found,) = await load_open(store)
    interrupted = found.interrupted()
    assert interrupted.opening == left.opening
    assert interrupted.chunks == left.chunks
    assert sorted(interrupted.gaps, key=lambda gap: (gap.stream, gap.offset)) == list(left.manifest.gaps)
    assert [head.body for head in interrupted.heads] == list(map(pack, left.heads))
    assert found.manifest is None
    with pytest.raises(ValueError, match="an open session has no manifest"):
        found.evidence(None)


async def test_sessions_are_listed_by_their_time() -> None:
    store = MemoryStore()
    times = {}
    for number, name in enumerate(("c", "a", "b")):
        made = small(name)
        opening = replace(made.opening, started=Millis(STARTED - number))
        await keep(store, replace(made, terms=replace(made.terms, opening=opening)), close=False)
        times[opening.session] = opening.started
    listed = sessions(await reading(store))
    assert [times[session] for session in listed] == [STARTED - 2, STARTED - 1, STARTED]


async def test_a_damaged_opening_hides_no_session_and_is_a_fault_of_its_own() -> None:
    store, hurt, sound = MemoryStore(), small(), small("two")
    await keep(store, hurt)
    await keep(store, sound)
    opening = bytearray(hurt.parts()["opening.cbor"])
    opening[2] ^= 1
    await store.commit([Put("sessions", (hurt.opening.session,), bytes(opening))])
    assert sessions(await reading(store)) == [hurt.opening.session, sound.opening.session]
    assert verify((await kept(store, sound)).evidence(None)).valid
    assert [fault.part for fault in verify((await kept(store, hurt)).evidence(None)).faults] == ["opening"]


@pytest.mark.parametrize("table", ["sessions", "chunks", "heads", "manifests"])
async def test_every_flipped_byte_of_a_stored_record_is_malformed_or_a_fault(table: str) -> None:
    """But for a chunk's copy of its gaps, which the manifest has as well: recovery alone reads it."""
    store, both = MemoryStore(), {Stream.VIDEO: [b"frame"], Stream.AUDIT: [b"line"]}
    made = seal(terms(), both, {(Stream.AUDIT, 0): 1})
    await keep(store, made)
    rows = await reading(store)
    key, value = rows.rows[table][-1]
    unread = pack_of_gaps(value) if table == "chunks" else range(0)
    for at in range(len(value)):
        changed = value[:at] + bytes([value[at] ^ 4]) + value[at + 1 :]
        with_it = Rows(rows.rows | {table: [*rows.rows[table][:-1], (key, changed)]})
        try:
            found = load(with_it, made.opening.session)
            assert found is not None
            valid = verify(found.evidence(made.read)).valid
        except Malformed:
            continue
        assert valid == (at in unread), at


def pack_of_gaps(row: bytes) -> range:
    """Where the row of a chunk has its gaps."""
    return range(row.index(b"\x64gaps\x81") + 6, row.index(b"\x65chunk"))


@pytest.mark.parametrize("table", ["chunks", "heads"])
async def test_a_row_that_is_gone_moved_or_anothers_is_a_fault(table: str) -> None:
    store, made, other = MemoryStore(), small(), small("two")
    await keep(store, made)
    await keep(store, other)
    rows = await reading(store)
    mine = [row for row in rows.rows[table] if row[0][0] == made.opening.session]
    theirs = [row for row in rows.rows[table] if row[0][0] == other.opening.session]
    for at in range(len(mine)):
        swapped = [*mine[:at], (mine[at][0], mine[at - 1][1]), *mine[at + 1 :]]
        for changed in (
            mine[:at] + mine[at + 1 :],
            swapped,
            [*mine[:at], (mine[at][0], theirs[at][1]), *mine[at + 1 :]],
        ):
            found = load(Rows(rows.rows | {table: changed}), made.opening.session)
            assert found is not None
            assert not verify(found.evidence(made.read)).valid


async def test_a_manifest_of_another_session_is_a_fault() -> None:
    store, made, other = MemoryStore(), small(), small("two")
    await keep(store, made, close=False)
    await store.commit([Put("manifests", (made.opening.session,), other.signed_manifest())])
    found = await kept(store, made)
    assert isinstance(found.manifest, Manifest)
    assert not verify(found.evidence(made.read)).valid
