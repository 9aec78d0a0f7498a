"""The open chunk's journal: what is not yet a sealed chunk survives its recorder's death, and never in the clear.

One file for each open chunk, `‹stream›-‹index›.journal`:

    header   "LUCJ"  version u8  stream u8  0 u16  index u64  network 32 B  session 32 B        80 bytes
    record   length u32  number u64  kind u8  mark 16 B  check 8 B ‖ ciphertext and tag            37 + length

A record is sealed under the chunk's journal key with its head and the file's header as associated data, so records
cannot be moved, repeated or altered. Its nonce is mark ‖ number, the mark a keyed BLAKE3 of what is sealed: a machine
that is rolled back to a snapshot and goes on differently meets no nonce again. The check is a keyed BLAKE3 of header and
head: it tells a file that a crash cut off inside a record, which is its end, from a length that was changed. Whatever
else does not authenticate was changed; the records behind it are found again and kept.
"""

import os
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final

from blake3 import blake3

from consensus.encoding import Malformed
from consensus.ids import Millis
from consensus.records import pack, unpack
from pipeline.durable import sync
from pipeline.manifest import GapNote
from pipeline.seal import SessionKeys, Unauthentic, decrypt, encrypt_into
from pipeline.sealed import TAG_BYTES
from pipeline.stream import Stream

VERSION: Final = 1
_HEADER: Final = struct.Struct(">4sBBHQ32s32s")
_RECORD: Final = struct.Struct(">IQB")
_MARK_BYTES: Final = 16
_CHECK_BYTES: Final = 8
_MARKED: Final = _RECORD.size + _MARK_BYTES
_HEAD_BYTES: Final = _MARKED + _CHECK_BYTES
_SPAN: Final = struct.Struct(">QQ")
_NAME: Final = re.compile(r"([01])-([0-9]{12})\.journal")


class Kind(IntEnum):
    """What a record holds."""

    BYTES = 0
    """first ms u64 ‖ last ms u64 ‖ the stream's bytes"""
    GAP = 1
    """A GapNote: the bytes that follow belong behind it."""


def path(folder: Path, stream: Stream, index: int) -> Path:
    """Where the journal of an open chunk lies."""
    return folder / f"{stream.value}-{index:012d}.journal"


def _nonce(head: bytes) -> bytes:
    """Mark ‖ number, 24 bytes."""
    return head[_RECORD.size : _MARKED] + head[4:12]


def _mark(key: bytes, plain: bytes) -> bytes:
    return blake3(b"mark" + plain, key=key).digest(length=_MARK_BYTES)


def _check(key: bytes, header: bytes, marked: bytes) -> bytes:
    return blake3(b"head" + header + marked, key=key).digest(length=_CHECK_BYTES)


@dataclass
class Journal:
    """The journal being written; blocking calls, one caller at a time."""

    file: Path
    header: bytes
    keys: tuple[bytes, bytes] = field(repr=False)
    fd: int
    number: int = 0

    @classmethod
    def create(cls, folder: Path, keys: SessionKeys, stream: Stream, index: int) -> "Journal":
        """A new journal, its name durable; raises OSError, and is not there then; FileExistsError where there is one."""
        header = _HEADER.pack(b"LUCJ", VERSION, stream, 0, index, keys.network, keys.session)
        file = path(folder, stream, index)
        fd = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        journal = cls(file, header, keys.journal(stream, index), fd)
        try:
            journal._write(header)
            sync(folder)
            sync(folder.parent)  # the folder may be as new as the file
        except OSError:
            journal.discard()
            raise
        return journal

    def append(self, data: bytes | bytearray | memoryview, first: Millis, last: Millis) -> None:
        """Seal bytes of the stream into the journal; in the kernel's hands when it returns.

        Raises OSError, and from then on always: what it holds stays, and it takes no more.
        """
        self._append(Kind.BYTES, _SPAN.pack(first, last) + bytes(data))

    def append_gap(self, gap: GapNote) -> None:
        """Seal a gap marker into the journal."""
        self._append(Kind.GAP, pack(gap))

    def _append(self, kind: Kind, plain: bytes) -> None:
        key, check_key = self.keys
        head = _RECORD.pack(len(plain) + TAG_BYTES, self.number, kind) + _mark(check_key, plain)
        head += _check(check_key, self.header, head)
        record = bytearray(len(head) + len(plain) + TAG_BYTES)
        record[: len(head)] = head
        encrypt_into(key, _nonce(head), plain, self.header + head, memoryview(record)[len(head) :])
        try:
            self._write(record)
        except OSError:
            # A journal ends with the record that it could not take whole: one behind it would look like a change, and
            # one over it would meet the same nonce with other bytes.
            self.close()
            raise
        self.number += 1

    def _write(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.fd, view) :]

    def sync(self) -> None:
        """Make everything appended survive a power cut."""
        os.fdatasync(self.fd)

    def close(self) -> None:
        """Let go of the file; what it holds stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def discard(self) -> None:
        """Remove the file: its chunk is sealed and durable."""
        self.close()
        self.file.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a journal still holds, in order, and what is wrong with it."""

    stream: Stream
    index: int
    data: bytes
    first: Millis
    last: Millis
    gaps: tuple[GapNote, ...]
    damage: tuple[str, ...]
    """One sentence for each record that was changed or is missing; a torn end is none."""


def recover(file: Path, keys: SessionKeys, stream: Stream, index: int) -> Recovered:
    """Everything in the journal that authenticates; raises OSError. Costs one pass over the file in memory."""
    raw = file.read_bytes()
    expected = _HEADER.pack(b"LUCJ", VERSION, stream, 0, index, keys.network, keys.session)
    name = f"the journal of {stream.name.lower()}/{index}"
    if len(raw) < len(expected) and expected.startswith(raw):
        return Recovered(stream, index, b"", Millis(0), Millis(0), (), ())  # killed while it was being created
    damage = [] if raw.startswith(expected) else [f"the header of {name} was changed"]
    data = bytearray()
    gaps: list[GapNote] = []
    times: list[Millis] = []
    for found in _records(raw[len(expected) :], expected, keys.journal(stream, index)):
        match found:
            case str():
                damage.append(f"{name}: {found}")
            case (Kind.BYTES, plain) if len(plain) >= _SPAN.size:
                times += map(Millis, _SPAN.unpack_from(plain))
                data += plain[_SPAN.size :]
            case (Kind.GAP, plain):
                gaps.append(unpack(GapNote, plain))
            case _:
                damage.append(f"{name}: a record of unknown kind")
    first, last = (min(times), max(times)) if times else (Millis(0), Millis(0))
    return Recovered(stream, index, bytes(data), first, last, tuple(gaps), tuple(damage))


def _records(raw: bytes, header: bytes, keys: tuple[bytes, bytes]) -> Iterator[tuple[int, bytes] | str]:
    key, check_key = keys
    at, due = 0, 0
    while at + _HEAD_BYTES <= len(raw):
        head = raw[at : at + _HEAD_BYTES]
        length, number, kind = _RECORD.unpack_from(head)
        if head[_MARKED:] != _check(check_key, header, head[:_MARKED]):
            lost_from, at = at, _resume(raw, at + 1, header, check_key)
            yield f"record {due} was changed; {at - lost_from} bytes are lost"
            due = _RECORD.unpack_from(raw, at)[1] if at < len(raw) else due
            continue
        start, at = at + _HEAD_BYTES, at + _HEAD_BYTES + length
        if at > len(raw):
            return  # torn by a crash: the check vouches for the length
        if number < due:
            yield f"record {number} is repeated"
            continue
        if number > due:
            yield f"record {due} is missing"
        due = number + 1
        try:
            yield kind, decrypt(key, _nonce(head), raw[start:at], header + head)
        except Unauthentic:
            yield f"record {number} does not authenticate"


def _resume(raw: bytes, at: int, header: bytes, check_key: bytes) -> int:
    """Where the next record with a sound head begins, or the end; ~1 µs a byte, for damaged journals only."""
    while at + _HEAD_BYTES <= len(raw):
        if raw[at + _MARKED : at + _HEAD_BYTES] == _check(check_key, header, raw[at : at + _MARKED]):
            return at
        at += 1
    return len(raw)


def find(folder: Path) -> Sequence[tuple[Stream, int, Path]]:
    """The journals in a folder by stream and index; names that are no journal's raise Malformed."""
    found = []
    for file in sorted(folder.glob("*.journal")):
        named = _NAME.fullmatch(file.name)
        if not named:
            raise Malformed(f"{file.name} is not the name of a journal")
        found.append((Stream(int(named[1])), int(named[2]), file))
    return found
