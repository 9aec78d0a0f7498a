"""What every Store and every Chunks does, engine by engine: the fakes are held to what the real ones are."""

import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.ids import Digest
from node.store import ABSENT, ANY, Chunks, Conflict, Delete, Held, Key, Put, Store
from node.store.files import ChunkFiles
from node.store.lmdb import LmdbStore
from node.store.memory import MemoryChunks, MemoryStore
from node.store.reading import PAGE_BYTES, PAGE_ROWS
from node.store.rows import KEY_BYTES_MAX, encode, row_key
from pipeline.stores import NoRoom
from tests.examples import examples

Engine = Callable[[Path], AbstractAsyncContextManager[Store]]


@asynccontextmanager
async def lmdb(path: Path) -> AsyncIterator[Store]:
    async with LmdbStore.open(path, map_bytes=1 << 24) as store:
        yield store


@asynccontextmanager
async def memory(path: Path) -> AsyncIterator[Store]:
    store = MemoryStore.restored(path) if path.exists() else MemoryStore()
    yield store
    await store.aclose()


every_engine = pytest.mark.parametrize("engine", [lmdb, memory])


async def rows(found: AsyncIterator[tuple[Key, bytes]]) -> list[tuple[Key, bytes]]:
    return [row async for row in found]


PARTS = st.sampled_from([0, 1, b"", "a", "a\0"])
KEYS = st.lists(PARTS, max_size=2).map(tuple)
TABLES = st.sampled_from(["t", "t", "t\0"])
VALUES = st.sampled_from([b"", b"1"])
EXPECT = st.just(ANY) | st.just(ANY) | st.just(ABSENT) | VALUES
OPS = st.builds(Put, TABLES, KEYS, VALUES, EXPECT) | st.builds(Delete, TABLES, KEYS, EXPECT)
COMMITS = st.lists(st.lists(OPS, max_size=6, unique_by=lambda op: (op.table, encode(op.key))), max_size=12)
SCANS = st.tuples(TABLES, st.just(()) | KEYS, st.none() | KEYS, st.booleans(), st.none() | st.integers(0, 3))


def stated(
    model: dict[tuple[str, Key], bytes], table: str, prefix: Key, start: Key | None, reverse: bool, limit: int | None
) -> list[tuple[Key, bytes]]:
    """What Store.scan promises of these rows."""
    found = sorted((row for row in model.items() if row[0][0] == table), key=lambda row: encode(row[0][1]))
    if reverse:
        found.reverse()
    within = [(key, value) for (_, key), value in found if key[: len(prefix)] == prefix]
    if start is not None:
        edge = encode(start)
        within = [row for row in within if (encode(row[0]) <= edge if reverse else encode(row[0]) >= edge)]
    return within[:limit]


@every_engine
@settings(max_examples=examples(60), deadline=None)
@given(COMMITS, st.lists(SCANS, min_size=10, max_size=20))
async def test_a_store_is_a_sorted_table_whose_commits_are_whole(
    engine: Engine,
    commits: list[list[Put | Delete]],
    scans: list[tuple[str, Key, Key | None, bool, int | None]],
) -> None:
    model: dict[tuple[str, Key], bytes] = {}
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        async with engine(Path(folder, "store")) as store:
            for ops in commits:
                fits = all(
                    op.expect is ANY or model.get((op.table, op.key)) == (None if op.expect is ABSENT else op.expect)
                    for op in ops
                )
                try:
                    sequence = await store.commit(ops)
                except Conflict:
                    assert not fits
                    continue
                done += 1
                assert fits
                assert sequence == done
                for op in ops:
                    if isinstance(op, Put):
                        model[op.table, op.key] = op.value
                    else:
                        model.pop((op.table, op.key), None)
            for (table, key), value in model.items():
                assert store.peek(table, key) == value
                assert await store.get(table, key) == value
            assert store.peek("t", ("nobody's",)) is None
            for scan in scans:
                assert await rows(store.scan(*scan)) == stated(model, *scan)


@every_engine
async def test_a_scan_longer_than_a_page_misses_nothing_in_either_direction(engine: Engine, tmp_path: Path) -> None:
    async with engine(tmp_path / "store") as store:
        many: list[tuple[Key, bytes]] = [((i,), b"") for i in range(2 * PAGE_ROWS + 1)]
        large: list[tuple[Key, bytes]] = [((b"x" * 400, i), bytes([i]) * (PAGE_BYTES // 3)) for i in range(7)]
        full = b"y" * (KEY_BYTES_MAX - len(row_key("full", (b"", 0))))
        longest: list[tuple[Key, bytes]] = [((full, i), b"") for i in range(2 * PAGE_ROWS + 1)]
        for table, expected in (("many", many), ("large", large), ("full", longest)):
            await store.commit([Put(table, *row) for row in expected])
        for table, expected in (("many", many), ("large", large), ("full", longest)):
            assert await rows(store.scan(table)) == expected
            assert await rows(store.scan(table, reverse=True)) == expected[::-1]
            for at, (key, _) in enumerate(expected[:3]):
                assert await rows(store.scan(table, key)) == expected[at : at + 1]
                assert await rows(store.scan(table, start=key, reverse=True)) == expected[: at + 1][::-1]
                assert await rows(store.scan(table, start=(*key, 0))) == expected[at + 1 :]
        assert await rows(store.scan("many", limit=PAGE_ROWS + 1)) == many[: PAGE_ROWS + 1]


@every_engine
async def test_a_scan_may_be_left_and_the_rows_changed_under_it(engine: Engine, tmp_path: Path) -> None:
    async with engine(tmp_path / "store") as store:
        await store.commit([Put("t", (i,), b"") for i in range(3 * PAGE_ROWS)])
        async for _ in store.scan("t"):
            break
        seen: list[Key] = []
        async for key, _ in store.scan("t"):
            seen.append(key)
            if len(seen) % PAGE_ROWS == 1:
                await store.commit([Delete("t", each) for each in seen if each[0] not in (0, PAGE_ROWS)])
        assert seen == [(i,) for i in range(3 * PAGE_ROWS)]
        assert len(await rows(store.scan("t"))) < PAGE_ROWS + 2


@every_engine
async def test_of_many_who_expect_absence_one_wins(engine: Engine, tmp_path: Path) -> None:
    won: list[int] = []
    lost: list[tuple[str, Key]] = []
    async with engine(tmp_path / "store") as store:

        async def race(number: int) -> None:
            try:
                await store.commit([Put("lock", (), b"%d" % number, expect=ABSENT), Put("trace", (number,), b"")])
            except Conflict as conflict:
                lost.append((conflict.table, conflict.key))
            else:
                won.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(race, number)
        assert len(won) == 1
        assert lost == [("lock", ())] * 7
        assert await store.get("lock", ()) == b"%d" % won[0]
        assert [key for key, _ in await rows(store.scan("trace"))] == [(won[0],)]


@every_engine
async def test_a_commit_cannot_change_a_row_twice(engine: Engine, tmp_path: Path) -> None:
    async with engine(tmp_path / "store") as store:
        with pytest.raises(ValueError, match="the same row twice"):
            await store.commit([Put("t", (1,), b""), Delete("t", (1,))])


@every_engine
async def test_a_backup_is_a_store_of_one_moment(engine: Engine, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    async with engine(tmp_path / "store") as store:
        await store.commit([Put("t", (i,), b"%d" % i) for i in range(100)])
        before = await rows(store.scan("t"))
        await store.backup(copy)
        number = await store.commit([Delete("t", (5,)), Put("t", (100,), b"")])
        with pytest.raises(FileExistsError):
            await store.backup(copy)
    async with engine(copy) as restored:
        assert await rows(restored.scan("t")) == before
        assert await restored.commit([]) == number


@every_engine
async def test_a_closed_store_says_so(engine: Engine, tmp_path: Path) -> None:
    async with engine(tmp_path / "store") as store:
        await store.commit([Put("t", (1,), b"")])
        await store.aclose()
        await store.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await store.get("t", (1,))
        with pytest.raises(trio.ClosedResourceError):
            store.peek("t", (1,))
        with pytest.raises(trio.ClosedResourceError):
            await store.commit([Put("t", (2,), b"")])
        with pytest.raises(trio.ClosedResourceError):
            await rows(store.scan("t"))
        with pytest.raises(trio.ClosedResourceError):
            await store.backup(tmp_path / "copy")


@pytest.fixture(params=["files", "memory"])
def chunks(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], Chunks]:
    def make(quota_bytes: int) -> Chunks:
        if request.param == "files":
            return ChunkFiles(tmp_path / "chunks", quota_bytes=quota_bytes)
        return MemoryChunks(quota_bytes=quota_bytes)

    return make


def named(data: bytes) -> tuple[Digest, memoryview]:
    return Digest(blake3(data).digest()), memoryview(data)


def test_chunks_come_back_as_they_were_put(chunks: Callable[[int], Chunks]) -> None:
    kept = chunks(0)
    absent, _ = named(b"absent")
    assert list(kept.digests()) == []
    sealed = dict(named(bytes([i]) * (i * 1000)) for i in range(9))
    for digest, data in sealed.items():
        kept.put(digest, data)
        kept.put(digest, data)
    for digest, data in sealed.items():
        assert kept.read(digest) == data
        assert kept.size(digest) == len(data)
        assert kept.has(digest)
    assert list(kept.digests()) == sorted(sealed)
    assert kept.usage() == sum(map(len, sealed.values()))
    assert not kept.has(absent)
    for call in (kept.read, kept.size):
        with pytest.raises(KeyError):
            call(absent)


def test_a_deleted_chunk_is_gone_and_frees_its_room(chunks: Callable[[int], Chunks]) -> None:
    kept = chunks(1000)
    first, data = named(b"1" * 600)
    second, other = named(b"2" * 600)
    kept.put(first, data)
    with pytest.raises(NoRoom, match="600 of 1000 bytes: raise the quota"):
        kept.put(second, other)
    assert list(kept.digests()) == [first]
    kept.put(first, data)  # needs no more room than it has
    last, end = named(b"3" * 600)
    kept.put(last, end, reserve=True)
    assert kept.usage() == 1200
    kept.delete(last)
    kept.delete(first)
    kept.delete(first)
    assert not kept.has(first)
    kept.put(second, other)
    assert kept.usage() == 600


def test_a_held_chunk_is_not_deleted_until_it_is_held_no_more(chunks: Callable[[int], Chunks]) -> None:
    kept = chunks(0)
    (held, data), (free, other) = named(b"held"), named(b"free")
    kept.put(held, data)
    kept.put(free, other)
    kept.hold([held])
    kept.delete(free)
    with pytest.raises(Held, match="legal hold: release the hold first"):
        kept.delete(held)
    assert (list(kept.digests()), kept.usage()) == ([held], 4)
    kept.hold([])
    kept.delete(held)
    assert (list(kept.digests()), kept.usage()) == ([], 0)


def test_many_threads_may_put_the_same_chunks(chunks: Callable[[int], Chunks]) -> None:
    kept = chunks(0)
    sealed = [named(bytes([i]) * 5000) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda each: kept.put(*each), sealed * 6):
            pass
    assert list(kept.digests()) == sorted(digest for digest, _ in sealed)
    assert kept.usage() == 8 * 5000
