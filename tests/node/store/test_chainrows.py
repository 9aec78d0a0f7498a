"""Rows of the chain: the same from memory and from a disk, whole or not at all, and there after a kill."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.chain.evm import ChainRows, MemoryRows
from node.store.chainrows import open_rows

pytestmark = pytest.mark.component

KEYS = st.binary(min_size=1, max_size=40)
COMMITS = st.lists(st.dictionaries(KEYS, st.none() | st.binary(max_size=60), max_size=6), max_size=8)


@pytest.fixture(params=["memory", "lmdb"], scope="module")
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainRows]:
    with ExitStack() as until:
        if request.param == "memory":
            yield MemoryRows()
        else:
            yield until.enter_context(open_rows(tmp_path_factory.mktemp("rows"), map_bytes=1 << 24))


@given(COMMITS)
def test_what_was_committed_is_there_and_nothing_else(
    rows: ChainRows, commits: list[dict[bytes, bytes | None]]
) -> None:
    known: dict[bytes, bytes | None] = {}
    for commit in commits:
        rows.commit(commit.items())
        known |= commit
        assert all(rows.get(key) == value for key, value in known.items())
    rows.commit((key, None) for key in known)
    assert all(rows.get(key) is None for key in known)


def test_a_commit_that_does_not_fit_leaves_everything_as_it_was(tmp_path: Path) -> None:
    with open_rows(tmp_path, map_bytes=1 << 18) as rows:
        rows.commit([(b"kept", b"as it was")])
        with pytest.raises(OSError, match="MDB_MAP_FULL"):
            rows.commit([(b"kept", b"changed"), (b"large", bytes(1 << 19))])
        assert (rows.get(b"kept"), rows.get(b"large")) == (b"as it was", None)
        rows.commit([(b"kept", b"changed")])
        assert rows.get(b"kept") == b"changed"


WRITER = """
import sys
from pathlib import Path
from node.store.chainrows import open_rows
with open_rows(Path(sys.argv[1]), map_bytes=1 << 26) as rows:
    for number in range(1, 1 << 30):
        head = number.to_bytes(8, "big")
        rows.commit([(b"part %d" % part, head) for part in range(64)] + [(b"head", head)])
        print(number, flush=True)
"""


@pytest.mark.parametrize("told", [1, 7, 30])
def test_a_writer_that_is_killed_leaves_a_whole_commit_and_none_that_it_told_of_is_lost(
    tmp_path: Path, told: int
) -> None:
    writer = subprocess.Popen([sys.executable, "-P", "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    last = 0
    for line in writer.stdout:
        last = int(line)
        if last >= told:
            break
    os.kill(writer.pid, signal.SIGKILL)
    rest = [int(line) for line in writer.stdout.read().splitlines()]
    writer.wait()
    writer.stdout.close()
    with open_rows(tmp_path, map_bytes=1 << 26) as rows:
        head = rows.get(b"head")
        assert head is not None
        assert int.from_bytes(head, "big") >= (rest[-1] if rest else last)
        assert {rows.get(b"part %d" % part) for part in range(64)} == {head}
