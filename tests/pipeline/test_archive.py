"""The container against an independent reader and writer of ustar: Python's tarfile."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import Malformed
from pipeline.archive import Entry, end, entries, header, padding
from tests.pipeline.sessions import archived, small

names = st.text("abcdefghijklmnopqrstuvwxyz-./0123456789", min_size=1, max_size=100).filter(lambda n: n[-1] != "/")


@given(names, st.integers(0, 8**11 - 1))
def test_headers_are_those_of_tarfile(name: str, size: int) -> None:
    known = tarfile.TarInfo(name)
    known.size = size
    raw = bytearray(known.tobuf(tarfile.USTAR_FORMAT))
    raw[329:345] = (
        b"0000000\0" * 2
    )  # device numbers as GNU tar writes them; tarfile leaves them blank or not, by version
    raw[148:154] = b"%06o" % tarfile.calc_chksums(bytes(raw))[0]  # type: ignore[attr-defined]
    assert header(name, size) == raw


@given(st.dictionaries(names, st.binary(max_size=1100), max_size=4))
def test_files_come_back_in_order_by_tarfile_and_by_us(files: dict[str, bytes]) -> None:
    data = archived(files)
    assert [(entry.name, bytes(entry.data)) for entry in entries(memoryview(data))] == list(files.items())
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = [(member.name, tar.extractfile(member)) for member in tar]
        assert [(name, file.read()) for name, file in found if file] == list(files.items())


def test_tarfile_reads_a_bundle() -> None:
    parts = small().parts()
    with tarfile.open(fileobj=io.BytesIO(archived(parts)), mode="r:") as tar:
        assert tar.getnames() == list(parts)
        assert all(member.isreg() and member.mode == 0o644 and member.mtime == 0 for member in tar)
        assert all(not member.name.startswith("/") and ".." not in member.name for member in tar)


def test_a_file_that_ends_early_is_told_with_what_is_there() -> None:
    data = header("chunks/video-00000000.sealed", 2000) + bytes(700)
    with pytest.raises(Malformed, match=r"ends inside chunks/video-00000000.sealed: 700 of its 2000 bytes"):
        list(entries(memoryview(data)))


@given(st.binary(max_size=1500))
def test_bytes_that_are_no_archive_are_malformed_and_nothing_else(data: bytes) -> None:
    for prefix in (b"", header("a", 3) + b"abc" + padding(3)):
        if data != end():
            with pytest.raises(Malformed):
                list[Entry](entries(memoryview(prefix + data)))
