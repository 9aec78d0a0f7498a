"""Fills a small filesystem: `python -m tests.node.store.full FOLDER`, FOLDER being one that nothing else uses.

Prints a line for each claim that held and ends with an AssertionError at the first that did not.
"""

import os
import sys
from pathlib import Path

import pytest
import trio
from blake3 import blake3

from consensus.ids import Digest
from node.store import Put
from node.store.files import ChunkFiles
from node.store.lmdb import LmdbStore
from pipeline.stores import NoRoom


async def fill_store(folder: Path) -> None:
    folder.mkdir()
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(1 << 20))
    value = os.urandom(100_000)
    kept = 0
    async with LmdbStore.open(folder / "store", map_bytes=1 << 30) as store:
        with pytest.raises(NoRoom, match="is full: free some space"):
            while True:
                await store.commit([Put("t", (kept,), value), Put("u", (kept,), b"")])
                kept += 1
        assert kept > 10
        print(f"after {kept} commits the disk is full")
        with pytest.raises(NoRoom):
            await store.backup(folder / "copy")
        assert sorted(path.name for path in folder.iterdir()) == ["ballast", "store"]
        print("a backup that does not fit leaves nothing")
        assert [key async for key, _ in store.scan("t")] == [key async for key, _ in store.scan("u")]
        assert [key async for key, _ in store.scan("t")] == [(i,) for i in range(kept)]
        print("exactly the commits that returned are there")
        ballast.unlink()
        assert await store.commit([Put("t", (kept,), value)]) == kept + 1
        print("once there is room again, commits go on")
    async with LmdbStore.open(folder / "store") as store:
        assert [value async for _, value in store.scan("t")] == [value] * (kept + 1)
        print("and all is there when reopened")


def fill_chunks(folder: Path) -> None:
    chunks = ChunkFiles(folder / "chunks", reserve_bytes=0)
    frugal = ChunkFiles(folder / "chunks", reserve_bytes=1 << 30)
    data = memoryview(bytearray(os.urandom(300_001)))
    data[0] = 0
    first = Digest(blake3(data).digest())
    with pytest.raises(NoRoom, match="1073741824 are reserved"):
        frugal.put(first, data)
    frugal.put(first, data, reserve=True)
    frugal.put(first, data)
    print("the reserve is kept for those who may use it")
    put = {first}
    with pytest.raises(NoRoom, match="free some space"):
        while True:
            data[0] = len(put)  # 0 is the first's; the disk holds fewer than 256
            digest = Digest(blake3(data).digest())
            chunks.put(digest, data)
            put.add(digest)
    assert len(put) > 5
    assert set(chunks.digests()) == put
    assert chunks.usage() == len(put) * 300_001
    print(f"after {len(put)} chunks the disk is full")
    _use_up(folder)
    # Neither reserve nor quota stands before the disk now: the write itself fails.
    with pytest.raises(NoRoom, match="is full"):
        Unaware(folder / "chunks").put(digest, data)
    assert not list((folder / "chunks").glob(".*"))
    assert list(chunks.scrub()) == []
    print("a chunk that does not fit leaves nothing")


class Unaware(ChunkFiles):
    """Is told that there is room, as someone is whose room another process takes while they write."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, reserve_bytes=-(1 << 40))


def _use_up(folder: Path) -> None:
    with (folder / "rest").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))


if __name__ == "__main__":
    where = Path(sys.argv[1])
    trio.run(fill_store, where / "records")
    for path in sorted((where / "records").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    fill_chunks(where)
