"""Makes the golden session of a format's version, once: `python -m tests.vectors.make_session` in the repository.

From its release a version verifies for ever, so what is there is never written again. Origin: this program, with the
fixed keys below on virtual time; what an independent hand can check of it (BLAKE3, tar, CBOR) the tests do check.
"""

import json
import random
import sys
import tempfile
from pathlib import Path

import trio
from blake3 import blake3
from trio.testing import MockClock

from pipeline.bundle import verify_bundle
from pipeline.chunk import Bounds
from pipeline.session import Terms
from pipeline.stream import Piece, Stream
from tests.pipeline.sessions import Disk, archived, gap, inline, recording, script, steady, terms

FOLDER = Path(__file__).parent / "session_v1"
NAME = "golden session 1"


def content() -> dict[Stream, bytes]:
    """What was recorded: random video bytes, and audit lines that compress."""
    rng = random.Random(1)
    lines = [b'{"at":%d,"kind":"key","class":"letter"}\n' % (1_700_000_000_000 + 250 * n) for n in range(300)]
    return {Stream.VIDEO: rng.randbytes(18_000), Stream.AUDIT: b"".join(lines)}


def scripts() -> dict[Stream, list[Piece | float]]:
    """When which piece of it came; its gap, its heads and its cuts follow."""
    video, audit = content()[Stream.VIDEO], content()[Stream.AUDIT]
    first, rest = steady(video[:9000], 600, 1.5), steady(video[9000:], 600, 1.5)
    return {Stream.VIDEO: [*first, gap("the encoder died"), 3, *rest], Stream.AUDIT: [*steady(audit, 400, 1), 20]}


def golden_terms() -> Terms:
    return terms(NAME, bounds=Bounds(4096, 8192, 40_000))


async def made(folder: Path) -> Disk:
    """The session, recorded again."""
    disk = Disk(folder)
    with inline():
        await recording(golden_terms(), disk.places, {stream: script(*pieces) for stream, pieces in scripts().items()})
    return disk


def main() -> int:
    """Writes bundle.tar and session.json; refuses where they are."""
    if FOLDER.exists() and any(FOLDER.iterdir()):
        print(f"{FOLDER.name} is there: a released format is never made anew")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        disk = trio.run(made, Path(folder), clock=MockClock(autojump_threshold=0))
    of = golden_terms()
    session = disk.ledger.made(of, disk.chunks)
    bundle = archived(session.parts())
    assert verify_bundle(memoryview(bundle)).valid
    facts = {
        "origin": "tests/vectors/make_session.py",
        "secret": of.secret.hex(),
        "session": of.opening.session.hex(),
        "signer": of.identity.public.hex(),
        "root": session.manifest.root.hex(),
        "bundle": blake3(bundle).hexdigest(),
        "heads": session.manifest.heads,
        "chunks": [chunk.name for chunk in session.chunks],
        "files": {chunk.name: chunk.file.hex() for chunk in session.chunks},
        "plain": {stream.name.lower(): blake3(data).hexdigest() for stream, data in content().items()},
    }
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "bundle.tar").write_bytes(bundle)
    (FOLDER / "session.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"{len(bundle)} bytes, root {facts['root']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
