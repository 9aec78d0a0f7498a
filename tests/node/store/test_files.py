import errno
import fcntl
import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from consensus.ids import Digest
from node.store.files import ChunkFiles, Damage

ROOT = Path(__file__).parents[3]
LENGTHS = [0, 1, 4095, 4096, 4097, 8191, 8192, 12_000_000, 12 * 1024 * 1024]


def page_aligned(data: bytes) -> memoryview:
    """The bytes in a buffer of its own that begins at a page, as the sealer's buffers do."""
    pages = mmap.mmap(-1, max(len(data), 1))
    pages[: len(data)] = data
    return memoryview(pages)[: len(data)]


def digest_of(data: bytes | memoryview) -> Digest:
    return Digest(blake3(data).digest())


def put(chunks: ChunkFiles, data: bytes) -> Digest:
    digest = digest_of(data)
    chunks.put(digest, page_aligned(data))
    return digest


class Kernel:
    """Stands before os.write: notes how each write went, and may take less or refuse, as filesystems do."""

    def __init__(self, *, most: int | None = None, refuse_direct: bool = False) -> None:
        self.direct: list[int] = []
        self.buffered: list[int] = []
        self._most = most
        self._refuse_direct = refuse_direct
        self._write = os.write

    def write(self, descriptor: int, data: memoryview) -> int:
        direct = bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)
        if direct and self._refuse_direct:
            raise OSError(errno.EINVAL, "Invalid argument")
        if direct and self._most is not None and self._most % 4096:
            # As a filesystem would that can do this; ours may not, so the cache lends a hand.
            fcntl.fcntl(descriptor, fcntl.F_SETFL, 0)
            count = self._write(descriptor, data[: self._most])
            fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_DIRECT)
        else:
            count = self._write(descriptor, data[: self._most])
        (self.direct if direct else self.buffered).append(count)
        return count


@pytest.fixture
def direct_io(tmp_path: Path) -> None:
    """Skips where files cannot be written past the page cache; the fallback is tested everywhere."""
    descriptor = os.open(tmp_path / "probe", os.O_CREAT | os.O_WRONLY)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_DIRECT)
        os.write(descriptor, page_aligned(bytes(4096)))
    except OSError as refused:
        pytest.skip(f"the filesystem of {tmp_path} takes no direct writes: {refused}")
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("most", [None, 4096 * 5])
@pytest.mark.usefixtures("direct_io")
def test_direct_writes_keep_every_byte_and_cache_only_the_tail(
    length: int, most: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(most=most)
    monkeypatch.setattr(os, "write", kernel.write)
    data = os.urandom(length)
    chunks = ChunkFiles(tmp_path / "chunks")
    digest = put(chunks, data)
    assert chunks.path(digest).read_bytes() == data
    assert sum(kernel.direct) == length - length % 4096
    assert sum(kernel.buffered) == length % 4096


@pytest.mark.usefixtures("direct_io")
def test_a_write_that_stops_inside_a_block_is_carried_on_through_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(most=5000)
    monkeypatch.setattr(os, "write", kernel.write)
    data = os.urandom(100_001)
    chunks = ChunkFiles(tmp_path / "chunks")
    digest = put(chunks, data)
    assert chunks.path(digest).read_bytes() == data
    assert kernel.direct == [5000]
    assert kernel.buffered == [5000] * 19 + [1]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("how", ["unaligned buffer", "refused write", "refused flag"])
def test_what_cannot_go_directly_goes_through_the_cache_and_is_the_same(
    length: int, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(length)
    kernel = Kernel(refuse_direct=how == "refused write")
    monkeypatch.setattr(os, "write", kernel.write)
    if how == "refused flag":
        monkeypatch.setattr(os, "O_DIRECT", 0)
    # One byte into a page: kernels that insist on alignment refuse it, others take it; both must be right.
    buffer = page_aligned(b"x" + data)[1:] if how == "unaligned buffer" else page_aligned(data)
    chunks = ChunkFiles(tmp_path / "chunks")
    chunks.put(digest_of(data), buffer)
    assert chunks.path(digest_of(data)).read_bytes() == data
    if how != "unaligned buffer":
        assert kernel.direct == []
        assert sum(kernel.buffered) == length


def test_a_folder_that_was_removed_under_it_is_made_again(tmp_path: Path) -> None:
    chunks = ChunkFiles(tmp_path / "chunks")
    name = put(chunks, b"sealed")
    shutil.rmtree(tmp_path / "chunks")
    assert put(chunks, b"sealed") == name
    assert chunks.read(name) == b"sealed"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    chunks = ChunkFiles(tmp_path / "chunks")
    kept = put(chunks, b"kept")
    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(OSError, match="Input/output error"):
        put(chunks, b"lost")
    monkeypatch.undo()
    assert list(chunks.digests()) == [kept]
    assert chunks.usage() == 4
    assert chunks.sweep() == 0


def test_a_chunk_is_synced_before_it_is_named_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    sync, rename, datasync = os.fsync, os.rename, os.fdatasync

    def noted_sync(descriptor: int) -> None:
        told.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    def noted_datasync(descriptor: int) -> None:
        told.append("sync data")
        datasync(descriptor)

    def noted_rename(one: str, other: str) -> None:
        told.append("rename")
        rename(one, other)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "fdatasync", noted_datasync)
    monkeypatch.setattr(os, "rename", noted_rename)
    chunks = ChunkFiles(tmp_path / "chunks")
    digest = put(chunks, b"data")
    folder = digest.hex()[:2]
    assert told == ["sync chunks", f"sync {tmp_path.name}", "sync data", "rename", f"sync {folder}"]
    told.clear()
    put(chunks, b"data")
    assert told == [f"sync {folder}"]  # it is there, but nobody has told us that its name is durable


def test_only_the_owner_can_read_chunks(tmp_path: Path) -> None:
    chunks = ChunkFiles(tmp_path / "chunks")
    path = chunks.path(put(chunks, b"data"))
    assert path == tmp_path / "chunks" / path.name[:2] / digest_of(b"data").hex()
    assert [each.stat().st_mode & 0o777 for each in (path, path.parent, path.parent.parent)] == [0o600, 0o700, 0o700]


def test_a_chunk_that_is_there_is_rewritten_only_if_its_length_is_wrong(tmp_path: Path) -> None:
    chunks = ChunkFiles(tmp_path / "chunks")
    digest = put(chunks, b"0123456789")
    path = chunks.path(digest)
    before = path.stat()
    put(chunks, b"0123456789")
    assert path.stat().st_ino == before.st_ino
    os.truncate(path, 4)
    put(ChunkFiles(tmp_path / "chunks"), b"0123456789")
    assert path.read_bytes() == b"0123456789"
    assert chunks.usage() == 10


def test_a_new_process_counts_what_is_there_against_the_quota(tmp_path: Path) -> None:
    put(ChunkFiles(tmp_path / "chunks"), b"x" * 1000)
    chunks = ChunkFiles(tmp_path / "chunks", quota_bytes=1500)
    assert chunks.usage() == 1000
    put(chunks, b"y" * 500)
    assert chunks.usage() == 1500


def test_sweeping_removes_half_written_files_and_unreferenced_old_chunks(tmp_path: Path) -> None:
    before = ChunkFiles(tmp_path / "chunks")
    referenced, forgotten, known, held = [put(before, data) for data in (b"1", b"2", b"3", b"5")]
    (tmp_path / "chunks" / ".x1.tmp").write_bytes(b"half")
    chunks = ChunkFiles(tmp_path / "chunks")
    assert chunks.sweep() == 1
    fresh = put(chunks, b"4")
    assert put(chunks, b"3") == known  # was there: its new reference may be about to be committed all the same
    chunks.hold([held])
    assert chunks.sweep_unreferenced({referenced}.__contains__) == 1
    assert chunks.has(held)
    chunks.hold([])
    assert chunks.sweep_unreferenced({referenced}.__contains__) == 1
    assert set(chunks.digests()) == {referenced, known, fresh}
    assert not chunks.has(forgotten)
    assert chunks.usage() == 3
    assert sorted(path.name for path in (tmp_path / "chunks").iterdir() if path.name.startswith(".")) == []


def test_scrubbing_finds_bit_rot_wrong_names_and_what_cannot_be_read(tmp_path: Path) -> None:
    chunks = ChunkFiles(tmp_path / "chunks")
    for i in range(5):
        put(chunks, bytes([i]) * 600_000)
    rotten, cut, unreadable, moved, _ = list(chunks.digests())
    damaged = bytearray(chunks.read(rotten))
    damaged[300_000] ^= 0x10
    chunks.path(rotten).write_bytes(damaged)
    os.truncate(chunks.path(cut), 599_999)
    chunks.path(unreadable).unlink()
    chunks.path(unreadable).mkdir()
    stray = chunks.path(moved).with_name("note")
    elsewhere = tmp_path / "chunks" / "zz"
    chunks.path(moved).rename(stray)
    elsewhere.write_bytes(b"")
    progress: list[tuple[int, int]] = []
    faults = list(ChunkFiles(tmp_path / "chunks").scrub(lambda done, total: progress.append((done, total))))
    assert sorted(faults, key=lambda fault: fault.path) == sorted(
        [
            Damage(chunks.path(rotten), rotten, f"content is {blake3(damaged).hexdigest()}, not its name"),
            Damage(chunks.path(cut), cut, f"content is {blake3(chunks.read(cut)).hexdigest()}, not its name"),
            Damage(chunks.path(unreadable), unreadable, "unreadable: Is a directory"),
            Damage(stray, None, "its name is not that of a chunk"),
            Damage(elsewhere, None, "its name is not that of a chunk"),
        ],
        key=lambda fault: fault.path,
    )
    assert progress[-1][0] == 600_000 + 599_999 + 600_000


def test_a_chunk_deleted_while_scrubbing_is_no_fault(tmp_path: Path) -> None:
    chunks = ChunkFiles(tmp_path / "chunks")
    one, other = put(chunks, b"1"), put(chunks, b"2")
    folders = {one: other, other: one}
    read: list[int] = []

    def delete_the_other(done: int, _: int) -> None:
        read.append(done)
        chunks.delete(folders[min(one, other)])

    assert list(chunks.scrub(delete_the_other)) == []
    assert read == [1]


def test_files_can_be_used_without_trio() -> None:
    program = "import sys, node.store.files, node.store.reading; sys.exit('trio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> list[str]:
    """A command that runs another with an 8 MB filesystem on `disk`, in a mount namespace of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=8m tmpfs '{disk}' && exec \"$@\""
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no filesystem can be mounted here to fill it: {tried.stderr.strip()}")
    return command


@pytest.mark.component
def test_a_full_disk_is_reported_and_changes_nothing(small_disk: list[str], tmp_path: Path) -> None:
    filling = [*small_disk, sys.executable, "-m", "tests.node.store.full", str(tmp_path / "disk")]
    done = subprocess.run(filling, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 8, done.stdout
