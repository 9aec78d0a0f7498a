import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from node.store import ABSENT, Busy, Conflict, Put
from node.store.lmdb import LmdbStore
from node.store.reading import read_only
from tests.node.store.crash import ROOT, crash_rounds


def child(program: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


async def test_commits_that_arrive_together_share_a_transaction(tmp_path: Path) -> None:
    async with LmdbStore.open(tmp_path) as store:
        await store.commit([Put("t", (), b"")])
        before = store.transactions
        numbers: list[int] = []

        async def caller(number: int) -> None:
            for turn in range(4):
                numbers.append(await store.commit([Put("t", (number, turn), b"")]))

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(caller, number)
        assert sorted(numbers) == list(range(2, 202))
        assert 4 <= store.transactions - before <= 20


async def test_a_conflict_spoils_nobody_elses_commit_in_the_same_transaction(tmp_path: Path) -> None:
    refused: list[int] = []
    async with LmdbStore.open(tmp_path) as store:
        await store.commit([Put("t", (3,), b"there")])
        before = store.transactions

        async def caller(number: int) -> None:
            try:
                await store.commit([Put("u", (number,), b""), Put("t", (number % 7,), b"%d" % number, expect=ABSENT)])
            except Conflict:
                refused.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(14):
                nursery.start_soon(caller, number)
        assert store.transactions - before <= 3
        # Of each pair with the same row one wins, by what the other wrote in this very transaction.
        assert len(refused) == 8
        assert {3, 10} <= set(refused)
        written = [key[0] async for key, _ in store.scan("u")]
        assert written == sorted(set(range(14)) - set(refused))


async def test_the_map_grows_as_rows_do(tmp_path: Path) -> None:
    value = os.urandom(300_000)
    async with LmdbStore.open(tmp_path, map_bytes=1 << 17) as store:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(store.commit, [Put("t", (number,), value)])
    async with LmdbStore.open(tmp_path, map_bytes=1 << 17) as store:
        assert [row async for row in store.scan("t")] == [((number,), value) for number in range(20)]
        await store.commit([Put("u", (), value * 10)])
        assert await store.get("u", ()) == value * 10


async def test_a_cancelled_commit_is_done_whole_or_not_at_all(tmp_path: Path) -> None:
    async with LmdbStore.open(tmp_path) as store:
        outcomes: set[bool] = set()
        for patience in range(12):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.commit, [Put("t", (patience,), b""), Put("u", (patience,), b"")])
                for _ in range(patience):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            await store.commit([])  # whatever the writer still had of it is done now
            assert await store.get("t", (patience,)) == await store.get("u", (patience,))
            outcomes.add(await store.get("t", (patience,)) is None)
        assert outcomes == {True, False}


async def test_what_the_block_raises_leaves_it_unwrapped_and_lets_go_of_the_store(tmp_path: Path) -> None:
    for error in (ValueError("ours"), ExceptionGroup("ours too", [KeyError(1)])):
        with pytest.raises(type(error)) as raised:
            async with LmdbStore.open(tmp_path) as store:
                await store.commit([Put("t", (), str(error).encode())])
                raise error
        assert raised.value.args == error.args
    async with LmdbStore.open(tmp_path) as store:
        assert await store.get("t", ()) == b"ours too (1 sub-exception)"


@pytest.mark.parametrize("cancelled", [False, True])
async def test_commits_under_way_are_finished_when_the_block_ends(cancelled: bool, tmp_path: Path) -> None:
    numbers: list[int] = []

    async def caller(store: LmdbStore, number: int) -> None:
        numbers.append(await store.commit([Put("t", (number,), bytes(1_000_000))]))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with LmdbStore.open(tmp_path, map_bytes=1 << 17) as store:
                for number in range(5):
                    nursery.start_soon(caller, store, number)
                await trio.testing.wait_all_tasks_blocked()
                if cancelled:
                    scope.cancel()
                    await trio.sleep_forever()
        with pytest.raises(trio.ClosedResourceError):
            await store.get("t", (0,))
    assert scope.cancelled_caught == cancelled
    assert sorted(numbers) == [1, 2, 3, 4, 5]
    with read_only(tmp_path) as reader:
        assert len(list(reader.scan("t"))) == 5


async def test_a_store_is_only_its_owners_to_read(tmp_path: Path) -> None:
    async with LmdbStore.open(tmp_path / "store") as store:
        await store.backup(tmp_path / "copy")
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700
    assert {path.name for path in (tmp_path / "store").iterdir()} == {"data.mdb", "lock.mdb", "owner"}
    for path in ((tmp_path / "store" / "data.mdb"), (tmp_path / "store" / "owner"), (tmp_path / "copy" / "data.mdb")):
        assert path.stat().st_mode & 0o777 == 0o600


async def test_backups_are_of_one_moment_while_commits_go_on(tmp_path: Path) -> None:
    async with LmdbStore.open(tmp_path / "store") as store, trio.open_nursery() as nursery:
        await store.commit([Put("a", (0,), b""), Put("b", (0,), b"")])

        async def writer() -> None:
            number = 1
            while True:
                await store.commit([Put("a", (number,), bytes(1000)), Put("b", (number,), b"")])
                number += 1

        nursery.start_soon(writer)
        for copy in range(5):
            await store.backup(tmp_path / str(copy))
        nursery.cancel_scope.cancel()
    for copy in range(5):
        with read_only(tmp_path / str(copy)) as reader:
            rows = [key for key, _ in reader.scan("a")]
            assert rows == [key for key, _ in reader.scan("b")] == [(number,) for number in range(len(rows))]


def test_reading_where_there_is_no_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no store"), read_only(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


async def test_a_damaged_store_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(os.urandom(1 << 16))
    with pytest.raises(OSError, match=r"cannot be opened: .*; restore a backup"):
        async with LmdbStore.open(tmp_path):
            pass
    with pytest.raises(OSError, match="cannot be read"), read_only(tmp_path):
        pass


@pytest.mark.component
async def test_one_process_at_a_time_and_readers_beside_it(tmp_path: Path) -> None:
    opening = """
import sys, trio
from pathlib import Path
from node.store import Busy
from node.store.lmdb import LmdbStore
async def main():
    async with LmdbStore.open(Path(sys.argv[1])):
        print("open", flush=True)
        input()
try:
    trio.run(main)
except Busy as busy:
    print(busy.pid, busy)
"""
    with child(opening, str(tmp_path)) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        with pytest.raises(Busy, match=f"is open in process {owner.pid}; stop it") as busy:
            async with LmdbStore.open(tmp_path):
                pass
        assert busy.value.pid == owner.pid
        owner.kill()
    async with LmdbStore.open(tmp_path):
        with pytest.raises(Busy, match=str(os.getpid())):
            async with LmdbStore.open(tmp_path):
                pass
        with child(opening, str(tmp_path)) as other:
            said, _ = other.communicate()
        assert said.startswith(f"{os.getpid()} the store in {tmp_path}")

    reading = """
import sys
from pathlib import Path
from node.store.reading import read_only
with read_only(Path(sys.argv[1])) as reader:
    for line in sys.stdin:
        print(len(list(reader.scan("t"))), len(reader.get("t", (int(line),)) or b""), flush=True)
"""
    async with LmdbStore.open(tmp_path, map_bytes=1 << 17) as store:
        await store.commit([Put("t", (0,), b"x")])
        with child(reading, str(tmp_path)) as reader:
            assert reader.stdin is not None
            assert reader.stdout is not None
            for number, size in ((0, 1), (1, 100), (2, 20_000_000)):  # the last outgrows the map that the reader has
                await store.commit([Put("t", (number,), bytes(size))])
                reader.stdin.write(f"{number}\n")
                reader.stdin.flush()
                assert reader.stdout.readline() == f"{number + 1} {size}\n"
            reader.stdin.close()


@pytest.mark.component
def test_killed_writers_lose_nothing_acknowledged_and_leave_nothing_corrupt(tmp_path: Path) -> None:
    tally = crash_rounds(10, seed=7, where=tmp_path)
    assert tally.wrong == []
    assert tally.rounds == 10
    assert tally.acked >= 10
