"""The journal's law: a cut leaves whole records and no damage, a change costs the record it is in and is reported."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.encoding import Malformed
from consensus.ids import Millis
from consensus.records import pack
from pipeline.journal import Journal, Recovered, find, path, recover
from pipeline.manifest import GapNote
from pipeline.seal import SessionKeys
from pipeline.stream import Stream
from tests.examples import examples
from tests.pipeline.sessions import keys, terms
from tests.vectors.make import journal_v1
from tests.vectors.stored import vector

KEYS, OTHER = keys(terms()), keys(terms("two"))
HEAD_BYTES = 37
HEADER_BYTES, RECORD_BYTES = 80, HEAD_BYTES + 16
Record = bytes | GapNote

records = st.lists(
    st.binary(min_size=1, max_size=40)
    | st.builds(GapNote, st.just(Stream.AUDIT), st.integers(0, 99), st.just(1), st.just(2), st.text(max_size=9)),
    max_size=5,
)


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def written(where: Path, items: list[Record], index: int = 3) -> tuple[bytes, list[int]]:
    """The bytes of a journal of these records, and where each record begins and the last one ends."""
    book = Journal.create(where, KEYS, Stream.AUDIT, index)
    starts = [HEADER_BYTES]
    for number, item in enumerate(items):
        if isinstance(item, GapNote):
            book.append_gap(item)
        else:
            book.append(item, Millis(100 + number), Millis(101 + number))
        starts.append(book.file.stat().st_size)
    book.sync()
    book.close()
    data = book.file.read_bytes()
    book.discard()
    return data, starts


def read(data: bytes, index: int = 3, stream: Stream = Stream.AUDIT) -> Recovered:
    file = cast("Path", SimpleNamespace(read_bytes=lambda: data))  # a thousand files would take the whole test's time
    return recover(file, KEYS, stream, index)


def holds(found: Recovered, items: list[Record]) -> bool:
    data = b"".join(item for item in items if isinstance(item, bytes))
    return (found.data, found.gaps) == (data, tuple(item for item in items if isinstance(item, GapNote)))


@settings(max_examples=examples(12))
@given(records)
def test_a_journal_cut_anywhere_gives_a_beginning_of_whole_records_and_no_damage(items: list[Record]) -> None:
    with folder() as where:
        data, starts = written(where, items)
        for cut in range(len(data) + 1):
            found = read(data[:cut])
            whole = sum(start <= cut for start in starts[1:])
            assert holds(found, items[:whole])
            assert not found.damage
        found = read(data)
        times = [at for at, item in enumerate(items) if isinstance(item, bytes)]
        expected = (100 + times[0], 101 + times[-1]) if times else (0, 0)
        assert (found.first, found.last) == expected


@pytest.mark.component
@settings(max_examples=examples(8))
@given(records, st.integers(0, 7))
def test_a_flipped_byte_costs_the_record_it_is_in_and_is_reported(items: list[Record], bit: int) -> None:
    with folder() as where:
        data, starts = written(where, items)
        for at in range(len(data)):
            found = read(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
            hit = [number for number in range(len(items)) if starts[number] <= at < starts[number + 1]]
            assert holds(found, [item for number, item in enumerate(items) if number not in hit])
            assert len(found.damage) == 1, (at, found.damage)


@settings(max_examples=examples(40))
@given(st.data(), records.filter(lambda items: len(items) > 1))
def test_removed_repeated_and_moved_records_are_reported_and_never_misplaced(
    data: st.DataObject, items: list[Record]
) -> None:
    with folder() as where:
        raw, starts = written(where, items)
        pieces = [raw[a:b] for a, b in itertools.pairwise(starts)]
        order = data.draw(st.lists(st.integers(0, len(items) - 1), max_size=8))
        found = read(raw[:HEADER_BYTES] + b"".join(pieces[number] for number in order))
        kept = [n for at, n in enumerate(order) if n > max(order[:at], default=-1)]
        assert holds(found, [items[number] for number in kept])
        assert bool(found.damage) == (order != list(range(len(order))))


def test_a_journal_of_another_place_or_session_gives_nothing_and_is_reported() -> None:
    with folder() as where:
        raw, _ = written(where, [b"keys of chunk 3", b"more"])
        for index, stream, of in [(4, Stream.AUDIT, KEYS), (3, Stream.VIDEO, KEYS), (3, Stream.AUDIT, OTHER)]:
            file = path(where, stream, index)
            file.write_bytes(raw)
            found = recover(file, of, stream, index)
            assert (found.data, found.gaps) == (b"", ())
            assert "the header of the journal" in found.damage[0]
        secret = replace(KEYS, secret=bytes(32))
        assert recover(path(where, Stream.AUDIT, 3), secret, Stream.AUDIT, 3).data == b""


@given(st.binary(max_size=400))
def test_no_bytes_make_recovery_raise_or_yield(data: bytes) -> None:
    with folder() as where:
        raw, _ = written(where, [b"one"])
        assert read(data).data == b""
        found = read(raw + data)
        assert found.data == b"one"


def test_no_plaintext_is_in_the_file() -> None:
    marker = b"a word that was typed"
    note = GapNote(Stream.AUDIT, 0, Millis(1), Millis(2), marker.decode())
    with folder() as where:
        raw, _ = written(where, [marker * 40, note, marker])
        for length in range(4, len(marker)):
            assert marker[:length] not in raw
        assert len(set(raw[HEADER_BYTES:])) > 200


def test_the_same_bytes_are_never_sealed_alike() -> None:
    with folder() as where:
        raw, starts = written(where, [b"same" * 20] * 2)
        other, _ = written(where, [b"same" * 20] * 2, index=4)
        one, two = (raw[start + HEAD_BYTES : start + HEAD_BYTES + 80] for start in starts[:2])
        assert len({one, two, other[starts[0] + HEAD_BYTES : starts[0] + HEAD_BYTES + 80]}) == 3


def test_a_machine_rolled_back_to_a_snapshot_meets_no_nonce_again() -> None:
    with folder() as where:
        (one, starts), (other, _) = written(where, [b"one way"]), written(where, [b"another"])
        nonces = {raw[starts[0] + 4 : starts[0] + 12] + raw[starts[0] + 13 : starts[0] + 29] for raw in (one, other)}
        assert len(nonces) == 2


def test_the_golden_journal_is_read_and_written_to_the_byte() -> None:
    golden = vector("journal_v1")
    with folder() as where:
        at = path(where, Stream.VIDEO, golden["index"])
        at.write_bytes(bytes.fromhex(golden["file"]))
        session = SessionKeys(*(bytes.fromhex(golden[name]) for name in ("network", "session", "secret")))  # type: ignore[arg-type]
        found = recover(at, session, Stream.VIDEO, golden["index"])
    assert (found.data, found.damage) == (bytes.fromhex(golden["data"]), ())
    assert [pack(gap) for gap in found.gaps] == [bytes.fromhex(golden["gap"])]
    assert (found.first, found.last) == (1_700_000_000_000, 1_700_000_102_000)
    assert journal_v1()["file"] == golden["file"]


def test_a_journal_is_private_and_never_replaces_one() -> None:
    with folder() as where:
        book = Journal.create(where, KEYS, Stream.VIDEO, 0)
        assert book.file.stat().st_mode & 0o777 == 0o600
        with pytest.raises(FileExistsError):
            Journal.create(where, KEYS, Stream.VIDEO, 0)
        book.discard()
        assert not list(where.iterdir())
        book.discard()


def test_a_journal_that_cannot_be_begun_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with folder() as where:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", _full)
            with pytest.raises(OSError, match="No space"):
                Journal.create(where, KEYS, Stream.VIDEO, 0)
        assert not list(where.iterdir())
        Journal.create(where, KEYS, Stream.VIDEO, 0).discard()


def _full(_fd: int, _data: memoryview) -> int:
    raise OSError(28, "No space left on device")


def test_after_a_failed_write_a_journal_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record behind the torn one would be sealed under the same nonce, and would look like damage."""
    with folder() as where:
        book = Journal.create(where, KEYS, Stream.VIDEO, 0)
        book.append(b"first", Millis(1), Millis(2))
        whole = book.file.stat().st_size
        write, room = os.write, [30]

        def little_room(fd: int, data: memoryview) -> int:
            if not room[0]:
                raise OSError(28, "No space left on device")
            taken, room[0] = min(len(data), room[0]), 0
            return write(fd, data[:taken])

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", little_room)
            with pytest.raises(OSError, match="No space"):
                book.append(b"lost", Millis(2), Millis(3))
        torn = book.file.stat().st_size
        assert torn == whole + 30
        with pytest.raises(OSError, match="Bad file descriptor"):
            book.append(b"later", Millis(3), Millis(4))
        assert book.file.stat().st_size == torn
        found = recover(book.file, KEYS, Stream.VIDEO, 0)
        assert (found.data, found.damage) == (b"first", ())
        book.discard()


def test_journals_are_found_by_stream_and_index_and_other_names_are_refused() -> None:
    with folder() as where:
        for stream, index in [(Stream.AUDIT, 0), (Stream.VIDEO, 10), (Stream.VIDEO, 9)]:
            Journal.create(where, KEYS, stream, index).close()
        (where / "notes.txt").touch()
        assert [entry[:2] for entry in find(where)] == [(Stream.VIDEO, 9), (Stream.VIDEO, 10), (Stream.AUDIT, 0)]
        for name in (
            "0-9",
            "0-0000000000009",
            "2-000000000009",
            "0-00000000000²",
            "-000000000009",
            "0-00000000009x",
            "",
        ):
            file = where / f"{name}.journal"
            file.touch()
            with pytest.raises(Malformed, match="is not the name of a journal"):
                find(where)
            file.unlink()
