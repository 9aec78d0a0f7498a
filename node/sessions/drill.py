"""A restore drill: what exported keys alone open of this home's recordings, and when that was last tried.

Every session's key commitment is compared, which reads no chunk; of each generation's newest session that has a chunk on
this disk one chunk is opened whole. What came of it lies in HOME/drill, for `doctor`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, ClassVar, Final

from consensus.encoding import Malformed
from consensus.ids import Millis
from consensus.records import Most, pack, unpack
from node.exits import Unavailable
from node.sessions.records import Kept
from node.wallet.vault import Secrets
from pipeline import durable
from pipeline.manifest import Chunk
from pipeline.restore import Damaged, open_chunk
from pipeline.seal import SessionKeys

FAULTS_MAX: Final = 100
AGE_MS_MAX: Final = 365 * 86_400_000


@dataclass(frozen=True, slots=True)
class Drill:
    """What a drill found."""

    VERSION: ClassVar = 1
    at: Millis
    file: Annotated[str, Most(4096)]
    generations: int
    """Master keys in the export."""
    sessions: int
    """Sessions whose key it yields."""
    opened: int
    """Chunks that were opened with it."""
    faults: Annotated[tuple[Annotated[str, Most(400)], ...], Most(FAULTS_MAX)]


def drill(
    at: Millis, file: str, exported: Secrets, held: Secrets, kept: Iterable[Kept], read: Callable[[Chunk], bytes | None]
) -> Drill:
    """Try exported keys on the sessions of a home with the keys `held`, in the order of their opening.

    `read` gives a sealed chunk, None where it is not on this disk.
    """
    faults, good = _differences(exported, held), 0
    newest: dict[int, list[Kept]] = {}
    for one in kept:
        session, generation = one.opening.session, one.opening.key_generation
        try:
            keys = _keys(exported, one)
        except Unavailable:
            faults.append(f"session {session.hex()[:12]} was recorded under a newer key than the export holds")
            continue
        other = next((it for it in one.chunks if keys.chunk(it.stream, it.index).committed != it.commitment), None)
        if other is not None:
            faults.append(f"{other.name} of session {session.hex()[:12]} was sealed under another key")
            continue
        good += 1
        newest.setdefault(generation, []).insert(0, one)
    opened = 0
    for ones in newest.values():
        here = ((one, chunk, sealed) for one in ones for chunk in one.chunks if (sealed := read(chunk)) is not None)
        for one, chunk, sealed in islice(here, 1):
            try:
                open_chunk(one.opening, chunk, sealed, _keys(exported, one))
                opened += 1
            except Damaged as damage:
                faults.append(f"of session {one.opening.session.hex()[:12]} {damage}")
    return Drill(at, file[-4096:], len(exported.masters), good, opened, tuple(faults[:FAULTS_MAX]))


def _keys(secrets: Secrets, kept: Kept) -> SessionKeys:
    opening = kept.opening
    secret = secrets.session_secret(opening.key_generation, opening.session)
    return SessionKeys(opening.network, opening.session, secret)


def _differences(exported: Secrets, held: Secrets) -> list[str]:
    found = []
    if exported.identity_seed != held.identity_seed:
        found.append("it holds another node's identity")
    theirs, ours = (*exported.former, exported.account_key), (*held.former, held.account_key)
    if theirs != ours[: len(theirs)]:
        found.append("it holds another account's key")
    elif len(theirs) < len(ours):
        found.append("it was made before the newest account: export the keys again")
    if exported.masters != held.masters[: len(exported.masters)]:
        found.append("it holds other master keys")
    elif len(exported.masters) < len(held.masters):
        found.append("it was made before the newest master key: export the keys again")
    return found


def keep(file: Path, found: Drill) -> None:
    """Put what a drill found where `last` reads it; raises OSError."""
    durable.replace(file, pack(found))


def last(file: Path) -> Drill | None:
    """What the last drill found, None where there was none, or what is kept of it is damaged."""
    try:
        return unpack(Drill, file.read_bytes())
    except (OSError, Malformed):
        return None


def mend(found: Drill | None, generations: Iterable[int], now: Millis) -> str | None:
    """What is to be done about the drill of a home whose sessions were recorded under these generations; None: nothing."""
    used = max(generations, default=None)
    again = "`lucid-node keys export --out FILE`, then `lucid-node keys drill --from FILE`"
    if used is None:
        return None
    if found is None:
        return f"no export of the keys was ever tried, and without one a lost disk loses every recording: {again}"
    if found.faults:
        return f"the last drill failed, {found.faults[0]}: {again}"
    if used >= found.generations:
        return f"sessions were recorded under a newer key than the export that was tried: {again}"
    if now - found.at > AGE_MS_MAX:
        return "the last drill is over a year old: `lucid-node keys drill --from FILE`"
    return None
