r"""The proof bundle's container: a plain ustar archive with exactly one spelling.

    lucid-bundle          "1\\n", the version of this layout, or "2\\n" where there are anchors
    opening.cbor  heads.cbor  listing.cbor  proofs.cbor  manifest.cbor  manifest.json
    anchors.cbor                                          what the network's chain says of the session: opaque here
    chunks/video-00000000.sealed …                                        with --with-chunks only

`tar xf` opens it anywhere, in any year. Each header is a function of name and size alone, padding is zeros, two zero
blocks end the file: whatever bytes differ from that were changed. Source: POSIX.1-1988 ustar.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from consensus.encoding import Malformed
from pipeline.manifest import Chunk

VERSION_NAME: Final = "lucid-bundle"
VERSION: Final = b"1\n"
VERSION_ANCHORED: Final = b"2\n"
CHUNKS: Final = "chunks/"
RECORDS: Final = ("opening.cbor", "heads.cbor", "listing.cbor", "proofs.cbor", "manifest.cbor", "manifest.json")
ANCHORS: Final = "anchors.cbor"
_BLOCK: Final = 512
_END: Final = bytes(2 * _BLOCK)


def chunk_name(chunk: Chunk) -> str:
    """Where a chunk lies in a bundle."""
    return f"{CHUNKS}{chunk.stream.name.lower()}-{chunk.index:08d}.sealed"


def header(name: str, size: int) -> bytes:
    """The 512-byte ustar header of a file, mode 0644, with no owner and no time."""
    fields = (
        name.encode().ljust(100, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,
        b"%011o\0" % size,
        b"%011o\0" % 0,
        b" " * 8,
        b"0" + bytes(100),
        b"ustar\x0000",
        bytes(64) + b"0000000\0" * 2 + bytes(155 + 12),
    )
    raw = b"".join(fields)
    return raw[:148] + b"%06o\0 " % sum(raw) + raw[156:]


def padding(size: int) -> bytes:
    """The zeros between a file's end and the next header."""
    return bytes(-size % _BLOCK)


def end() -> bytes:
    """What ends an archive."""
    return _END


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive."""

    name: str
    data: memoryview


def entries(archive: memoryview) -> Iterator[Entry]:
    """The files of an archive as they are met; raises Malformed at the first byte that is not canonical."""
    at = 0
    while at + _BLOCK <= len(archive) and archive[at] != 0:
        name, size = _name_and_size(bytes(archive[at : at + _BLOCK]), at)
        start, stop = at + _BLOCK, at + _BLOCK + size
        at = stop + len(padding(size))
        if at > len(archive):
            raise Malformed(f"the bundle ends inside {name}: {len(archive) - start} of its {size} bytes are there")
        yield Entry(name, archive[start:stop])
        if archive[stop:at] != padding(size):
            raise Malformed(f"the padding behind {name} was changed")
    if archive[at:] != _END:
        raise Malformed(f"the bundle does not end as it should at byte {at}: cut short, appended to or changed")


def _name_and_size(block: bytes, at: int) -> tuple[str, int]:
    try:
        name, size = block[:100].rstrip(b"\0").decode("ascii"), int(block[124:135].decode("ascii"), 8)
    except ValueError:
        raise Malformed(f"the entry at byte {at} was changed") from None
    if size < 0 or block != header(name, size):
        raise Malformed(f"the entry at byte {at} ({name!r}) was changed")
    return name, size
