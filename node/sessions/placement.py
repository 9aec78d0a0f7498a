"""What the owner of a chunk committed to, and how many hold it: rows that tell it without a daemon.

table        key             value
placements   chunk           Placement
dossiers     session         the Placement of its dossier, once that is pointed to; gone again when a placement in it is
replicas     "at", chunk     the machine's custody (node/overlay/custody): who holds it

A placement is ours and not the machine's: without it the roots would have to be computed anew, and after a crash nobody
would know what was promised.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, NamedTuple

from consensus.beacon import REPLICA_BYTES_MAX
from consensus.ids import Digest, Millis, SessionId
from consensus.placement import REPLICAS
from consensus.records import Between, Most, Size, unpack
from node.overlay.custody import TABLE as CUSTODIES
from node.overlay.custody import Place, live_holders
from node.sessions.records import Kept, Reading

PLACEMENTS: Final = "placements"
DOSSIERS: Final = "dossiers"
UNDRAWN: Final = Digest(bytes(32))
"""The seed of a placement whose lot is not drawn yet."""
NEWEST: Final = 7


@dataclass(frozen=True, slots=True)
class Placement:
    """What the owner of a chunk committed to: with it and the session's secret every replica can be made and found."""

    VERSION: ClassVar = 1
    session: Annotated[SessionId, Size(32)]
    generation: int
    """Of the master key that the session's secret follows from."""
    chunk: Annotated[Digest, Size(32)]
    size: Annotated[int, Between(1, REPLICA_BYTES_MAX)]
    opened: int
    """The slot in which the chunk was committed to on the chain, or, where it was not, sealed; `seed` is that of two slots later."""
    seed: Annotated[Digest, Size(32)]
    roots: Annotated[tuple[Annotated[Digest, Size(32)], ...], Most(REPLICAS)]

    @property
    def is_drawn(self) -> bool:
        """Whether it is known who shall hold it."""
        return self.seed != UNDRAWN

    def order(self) -> Place:
        """The machine's command."""
        return Place(self.chunk, self.size, self.roots, self.opened, self.seed)


class Summary(NamedTuple):
    """What is asked again and again of a session's records; of a closed one it stays as it is."""

    session: SessionId
    started: Millis
    complete: bool | None
    """None while it is open."""
    files: tuple[Digest, ...]


def summary(kept: Kept) -> Summary:
    """Of all records of a session."""
    complete = None if kept.manifest is None else kept.manifest.complete
    return Summary(kept.opening.session, kept.opening.started, complete, tuple([chunk.file for chunk in kept.chunks]))


def standing(
    of: Summary, pointer: Placement | None, copies: Callable[[Digest], int], here: Callable[[Digest], bool]
) -> dict[str, Any]:
    """How safe a session is, by what is known of each of its sealed files and of its dossier, if that is pointed to.

    here, missing: chunks on this disk and not; replicated: those with R holders; copies: holders of the chunk that has
    fewest, at most R; owed: replicas still to be placed. A session is replicated when its dossier is, too.
    """
    held = [min(REPLICAS, copies(file)) for file in of.files]
    present = sum(map(here, of.files))
    filed = pointer is not None and copies(pointer.chunk) >= REPLICAS
    state = "open" if of.complete is None else "sealed" if of.complete else "incomplete"
    least = min(held, default=REPLICAS)
    return {
        "session": of.session,
        "started": of.started,
        "state": "replicated" if of.complete is not None and filed and least == REPLICAS else state,
        "complete": of.complete,
        "chunks": len(held),
        "here": present,
        "missing": len(held) - present,
        "replicated": held.count(REPLICAS),
        "copies": least if held else 0,
        "copies_wanted": REPLICAS,
        "owed": len(held) * REPLICAS - sum(held),
        "filed": filed,
    }


def standing_kept(reader: Reading, kept: Kept, here: Callable[[Digest], bool]) -> dict[str, Any]:
    """The same from the store alone: as far as the machine has written it down."""

    def copies(chunk: Digest) -> int:
        row = reader.get(CUSTODIES, ("at", chunk))
        return 0 if row is None else live_holders(row)

    filed = reader.get(DOSSIERS, (kept.opening.session,))
    return standing(summary(kept), None if filed is None else unpack(Placement, filed), copies, here)


def owed(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Of all sessions, the chunks that have not R holders, and the holders that they lack."""
    counts = [(row["chunks"] - row["replicated"], row["owed"]) for row in rows]
    return {"chunks_owed": sum(chunks for chunks, _ in counts), "replicas_owed": sum(lacking for _, lacking in counts)}


def newest(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sessions that began last, those first, as many as a screen has room for beside all the rest."""
    return sorted(rows, key=lambda row: (row["started"], row["session"]), reverse=True)[:NEWEST]
