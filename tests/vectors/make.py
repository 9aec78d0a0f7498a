"""Makes the vectors of our own formats: `python -m tests.vectors.make [FOLDER]`.

A stored vector is a promise: what was written under this version is read for ever, so this refuses to touch a file that
exists. A new version of a format is a new file, made beside the old one. Trees and HKDF are computed by a second
implementation (below), so those files do not repeat whatever the code does; sealed chunks and records are the code's own,
and tests/pipeline/test_seal.py and test_golden.py take them apart by hand.
"""

import hashlib
import hmac
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from consensus.ids import Address, Digest, Millis, Network, NodeId, SessionId
from consensus.params import LeaderRule
from consensus.records import pack, to_value
from consensus.signing import KeyPair
from node.network import (
    TIMINGS,
    BootstrapNode,
    Carrier,
    Genesis,
    Mode,
    NetworkTerms,
    seal_terms,
    write_file,
)
from pipeline.journal import Journal
from pipeline.manifest import (
    Chunk,
    Closer,
    GapNote,
    Head,
    Incident,
    Listing,
    Manifest,
    Opening,
    Participant,
    Role,
    Signed,
    Tail,
    identity,
    sign,
)
from pipeline.seal import SessionKeys, seal_into
from pipeline.sealed import OVERHEAD
from pipeline.stream import Stream
from tests.vectors.agreed import consensus_v1, history_v4
from tests.vectors.beacon import beacon_v1
from tests.vectors.index import index_v1
from tests.vectors.onion import onion_v1
from tests.vectors.pairing import pairing_v1
from tests.vectors.paying import storage_v1
from tests.vectors.snapped import checkpoint_v3, snapshot_v4
from tests.vectors.spoken import kept_v1, spoken_v1, spoken_v2, vault_v2
from tests.vectors.stored import FOLDER
from tests.vectors.witnessed import witness_v1


def run(start: int, size: int) -> bytes:
    """Consecutive byte values, recognisable in a dump."""
    return bytes(value % 256 for value in range(start, start + size))


NETWORK: Final = Network(run(0x00, 32))
SESSION: Final = SessionId(run(0x20, 32))
SECRET: Final = run(0x40, 32)
KEY: Final = KeyPair.from_seed(run(0x60, 32))

SEALED: Final[tuple[tuple[str, Stream, int, bytes, bool, int], ...]] = (
    ("raw video", Stream.VIDEO, (1 << 33) + 5, run(0x80, 64), False, 7),
    ("compressed audit", Stream.AUDIT, 2, b'{"at":1700000000000,"kind":"key","class":"char"}\n' * 40, True, 0),
    ("empty last chunk", Stream.VIDEO, 9, b"", True, 1),
)


def sealed(stream: Stream, index: int, plain: bytes, *, last: bool, gaps: int) -> bytes:
    """One sealed chunk of the vectors' session."""
    out = memoryview(bytearray(len(plain) + OVERHEAD))
    keys = SessionKeys(NETWORK, SESSION, SECRET)
    return bytes(out[: seal_into(out, keys, stream, index, memoryview(plain), last=last, gaps=gaps)])


def sealed_v1() -> dict[str, Any]:
    """Three sealed chunks; only the opening of the compressed one is the contract, Zstandard may pack better one day."""
    chunks = []
    for what, stream, index, plain, last, gaps in SEALED:
        data = sealed(stream, index, plain, last=last, gaps=gaps)
        place = {"what": what, "stream": int(stream), "index": index, "last": last, "gaps": gaps}
        chunks.append(place | {"plain": plain.hex(), "sealed": data.hex()})
    session = {"network": NETWORK.hex(), "session": SESSION.hex(), "secret": SECRET.hex()}
    return {"origin": "Sealed chunks of version 1 as first released, made by make.py."} | session | {"chunks": chunks}


GAP: Final = GapNote(Stream.VIDEO, 1 << 40, Millis(1_700_000_100_000), Millis(1_700_000_101_500), "ffmpeg died – again")
INCIDENT: Final = Incident(Millis(1_700_000_100_000), damaging=True, what="the clock was set back by 3 s")
PARTICIPANT: Final = Participant(Role.OBSERVER, run(0xA0, 32), run(0xC0, 64))
OPENING: Final = Opening(
    session=SESSION,
    network=NETWORK,
    owner=Address(run(0x10, 20)),
    uuid=run(0x30, 16),
    ephemeral=run(0x50, 32),
    identity=NodeId(KEY.public),
    started=Millis(1_700_000_000_000),
    policy=bytes(32),
    streams=(Stream.VIDEO, Stream.AUDIT),
    codec='video/mp4; codecs="avc1.42c01f"',
    recorder="lucid-node 0.1.0",
    device=run(0x70, 32),
    chunk_low=8_000_000,
    chunk_high=16_000_000,
    chunk_age_ms=300_000,
    key_generation=3,
)
CHUNK: Final = Chunk(
    stream=Stream.AUDIT,
    index=(1 << 33) + 5,
    file=Digest(run(0x01, 32)),
    commitment=Digest(run(0x02, 32)),
    segments=Digest(run(0x03, 32)),
    size=8_000_132,
    plain=9_000_000,
    flags=1,
    gaps=2,
    first=Millis(1_700_000_000_100),
    last=Millis(1_700_000_200_000),
)
TAIL: Final = Tail(Stream.VIDEO, 4, 123_456, Digest(run(0x04, 32)))
HEAD: Final = Head(
    SESSION, 24, Millis(1_700_000_000_030), Digest(run(0x05, 32)), (CHUNK.leaf(), Digest(run(0x06, 32))), (TAIL,)
)
LISTING: Final = Listing((CHUNK,))
MANIFEST: Final = Manifest(
    session=SESSION,
    opening=identity(OPENING, NETWORK),
    ended=Millis(1_700_000_300_000),
    complete=False,
    reason="stopped by SIGTERM",
    closer=Closer.IDENTITY,
    chunk_count=1,
    root=Digest(run(0x07, 32)),
    listing=identity(LISTING, NETWORK),
    heads=25,
    last_head=identity(HEAD, NETWORK),
    gaps=(GAP,),
    incidents=(INCIDENT,),
    participants=(PARTICIPANT,),
)
SIGNED: Final = sign(OPENING, KEY, NETWORK)
RECORDS: Final = (OPENING, TAIL, HEAD, CHUNK, LISTING, GAP, INCIDENT, PARTICIPANT, MANIFEST, SIGNED)


def shown(value: Any) -> Any:
    """A decoded value with its bytes in hex."""
    match value:
        case bytes():
            return value.hex()
        case list() | tuple():
            return [shown(item) for item in value]
        case dict():
            return {key: shown(item) for key, item in value.items()}
        case _:
            return value


def records_v1() -> dict[str, Any]:
    """One record of each class, its canonical bytes, and what other records call it."""
    entries = []
    for record in RECORDS:
        entry = {"class": type(record).__name__, "packed": pack(record).hex(), "fields": shown(to_value(record))}
        match record:
            case Opening() | Head() | Listing() | Manifest():
                entry["identity"] = identity(record, NETWORK).hex()
            case Chunk():
                entry["leaf"] = record.leaf().hex()
            case Signed():
                entry["signer"] = KEY.public.hex()
            case _:
                pass
        entries.append(entry)
    origin = "Records of version 1 as first released, made by make.py; `fields` is the decoded map, its bytes in hex."
    return {"origin": origin, "network": NETWORK.hex(), "records": entries}


def top(leaves: Sequence[bytes]) -> bytes:
    """The top of a tree as RFC 6962 §2.1 splits it: the left part holds the largest power of two that leaves a right one."""
    if len(leaves) == 1:
        return leaves[0]
    at = 1 << ((len(leaves) - 1).bit_length() - 1)
    return blake3(b"\x01" + top(leaves[:at]) + top(leaves[at:])).digest()


def path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings from a leaf to the top, by RFC 6962 §2.1.1."""
    if len(leaves) == 1:
        return []
    at = 1 << ((len(leaves) - 1).bit_length() - 1)
    if index < at:
        return [*path(leaves[:at], index), top(leaves[at:])]
    return [*path(leaves[at:], index - at), top(leaves[:at])]


def root(leaves: Sequence[bytes]) -> bytes:
    """The root as consensus/merkle defines it, by recursion instead of by levels."""
    return blake3(b"\x02" + len(leaves).to_bytes(8, "big") + (top(leaves) if leaves else b"")).digest()


def merkle() -> dict[str, Any]:
    """Roots and every proof of trees whose leaf i is BLAKE3(00 ‖ i as one byte)."""
    leaves = [blake3(b"\x00" + bytes([i])).digest() for i in range(11)]
    trees = [
        {
            "count": count,
            "root": root(leaves[:count]).hex(),
            "proofs": [[sibling.hex() for sibling in path(leaves[:count], index)] for index in range(count)],
        }
        for count in (0, 1, 2, 3, 5, 6, 7, 8, 11)
    ]
    return {"origin": "Made by make.py with a second, recursive implementation (RFC 6962's split).", "trees": trees}


def hkdf(salt: bytes, secret: bytes, info: bytes, size: int) -> tuple[bytes, bytes]:
    """PRK and OKM of RFC 5869 over HMAC-BLAKE2b-512, with nothing but the standard library."""
    prk = hmac.new(salt, secret, hashlib.blake2b).digest()
    block, okm = b"", b""
    for count in range(1, -(-size // 64) + 1):
        block = hmac.new(prk, block + info + bytes([count]), hashlib.blake2b).digest()
        okm += block
    return prk, okm[:size]


def hkdf_blake2b() -> dict[str, Any]:
    """RFC 5869's first three test cases' inputs under HMAC-BLAKE2b-512, and one that takes three blocks."""
    inputs = (
        (run(0, 13), b"\x0b" * 22, run(0xF0, 10), 42),
        (run(0x60, 80), run(0, 80), run(0xB0, 80), 82),
        (b"", b"\x0b" * 22, b"", 42),
        (SESSION, SECRET, b"lucid/chunk/v1" + bytes(9), 160),
    )
    cases = []
    for salt, secret, info, size in inputs:
        prk, okm = hkdf(salt, secret, info, size)
        case = {"salt": salt.hex(), "secret": secret.hex(), "info": info.hex(), "size": size}
        cases.append(case | {"prk": prk.hex(), "okm": okm.hex()})
    origin = (
        "Inputs of RFC 5869 A.1–A.3; nobody published values for BLAKE2b, these are make.py's from hashlib and hmac."
    )
    return {"origin": origin, "cases": cases}


def journal_v1() -> dict[str, Any]:
    """The journal of an open chunk: two pieces with a gap between them."""
    pieces = (b"the first fragment", b"and the second, after the gap")
    with tempfile.TemporaryDirectory() as folder:
        book = Journal.create(Path(folder), SessionKeys(NETWORK, SESSION, SECRET), Stream.VIDEO, 7)
        book.append(pieces[0], Millis(1_700_000_000_000), Millis(1_700_000_000_500))
        book.append_gap(GAP)
        book.append(pieces[1], Millis(1_700_000_101_500), Millis(1_700_000_102_000))
        book.close()
        data = book.file.read_bytes()
    session = {"network": NETWORK.hex(), "session": SESSION.hex(), "secret": SECRET.hex()}
    holds = {"stream": 0, "index": 7, "data": b"".join(pieces).hex(), "gap": pack(GAP).hex(), "file": data.hex()}
    return {"origin": "A journal of version 1 as first released, made by make.py."} | session | holds


ONION: Final = "/onion3/pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd:4001"
"""An onion address that the Tor Project published."""


def network_v1() -> dict[str, Any]:
    """Three network files: over Tor with a bootstrap node, a devnet on loopback, and a later sequence of the first."""
    author = NodeId(KEY.public)
    created = Millis(1_700_000_000_000)
    far = BootstrapNode(NodeId(run(0xA0, 32)), (ONION,))
    near = BootstrapNode(author, ("/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/tcp/65535"))
    usual, fast = TIMINGS[Mode.MAINNET], TIMINGS[Mode.DEVNET]
    founders = (author, NodeId(run(0x90, 32)))
    main = Genesis("lucid-1", Mode.MAINNET, author, created, usual, LeaderRule.SORTITION, founders, 10, Carrier.TOR)
    dev = Genesis("dev", Mode.DEVNET, author, created, fast, LeaderRule.RANK, (author,), 0, Carrier.LOOPBACK)
    files = []
    for terms in (
        NetworkTerms(main, 1, created, (far,)),
        NetworkTerms(dev, 1, created, (near,)),
        NetworkTerms(main, 2, Millis(1_700_000_100_000), ()),
    ):
        signed = seal_terms(terms, KEY)
        entry = {"network": terms.network.hex(), "terms": shown(to_value(terms)), "body": signed.body.hex()}
        files.append(entry | {"genesis": pack(terms.genesis).hex(), "text": write_file(signed, ["for people"])})
    origin = "Network files of version 1 as first released, made by make.py; signed by the key of seed 60…7f."
    return {"origin": origin, "author": KEY.public.hex(), "files": files}


MAKERS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "beacon_v1": beacon_v1,
    "checkpoint_v3": checkpoint_v3,
    "consensus_v1": consensus_v1,
    "history_v4": history_v4,
    "hkdf": hkdf_blake2b,
    "index_v1": index_v1,
    "journal_v1": journal_v1,
    "merkle": merkle,
    "onion_v1": lambda: onion_v1(NETWORK),
    "network_v1": network_v1,
    "pairing_v1": pairing_v1,
    "records_v1": records_v1,
    "sealed_v1": sealed_v1,
    "kept_v1": kept_v1,
    "snapshot_v4": snapshot_v4,
    "spoken_v1": spoken_v1,
    "spoken_v2": spoken_v2,
    "storage_v1": storage_v1,
    "vault_v2": vault_v2,
    "witness_v1": witness_v1,
}


def main(folder: Path = FOLDER) -> int:
    """Write the vectors that the folder lacks; 1 when it has one already, which stays as it is."""
    kept = 0
    for name, maker in MAKERS.items():
        file = folder / f"{name}.json"
        text = json.dumps(maker(), indent=1, ensure_ascii=False) + "\n"
        try:
            with file.open("x") as out:
                out.write(text)
            print(f"made {file.name}")
        except FileExistsError:
            print(f"{file.name} exists and stays as it is: give a new version of a format a new name")
            kept += 1
    return 1 if kept else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
