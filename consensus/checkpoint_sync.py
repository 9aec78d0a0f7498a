"""Checkpoint sync: a newcomer begins at a snapshot from a stranger, which is shown to be final from the genesis on.

    magic ‖ version ‖ sections, each u32 length ‖ bytes:
    proof · snapshot · an HOUR's credits · an HOUR's credits … · what the execution layer begins with, its own affair

    proof ── `proof.check` ──→ a header that quorums made final ── names ──→ the state that snapshot and credits spell

So nothing of it is trusted: what is not the state that the header names is refused, whoever sent it. What that rests on
is what every proof rests on (`proof`): that those who voted since the genesis were not bought when their time was over.

Source: CONSENSUS §9; the term is Ethereum's.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from consensus.ancestry import Stored, key_of
from consensus.checkpoint import Constitution, credits_name
from consensus.encoding import Malformed
from consensus.finality import Point
from consensus.proof import ChainVerdict, ProofWrong, Verify, check, genesis_trust, read_proof
from consensus.records import pack
from consensus.snapshot import LAST, PROOF, credits_named, read, rows_of, unhashed
from consensus.state import State
from consensus.succession import HAND_OVERS
from consensus.wishes import Keep

MAGIC: Final = b"lucid-checkpoint\x03"
SECTION_BYTES_MAX: Final = 64 << 20
SECTIONS_MAX: Final = 1 << 16
"""Proof, snapshot, the HOURs of the longest window, with some that only older checkpoints know, and accounts."""
_LENGTH: Final = 4


class Offered(NamedTuple):
    """What a newcomer can begin at: final, whole, and the one that the headers name."""

    state: State
    verdict: ChainVerdict
    rows: tuple[Keep, ...]
    rest: tuple[bytes, ...]
    """The sections for the execution layer, which begins after the payload that the state names: unchecked."""

    @property
    def point(self) -> Point:
        """Its checkpoint."""
        return self.state.checkpoint.point


def sections(stored: Stored) -> list[bytes] | None:
    """The sections of what a node's consensus kept; None while its snapshot is not shown to be final, an HOUR in six, or is damaged."""
    proof, snapshot = stored(PROOF, LAST), stored("snapshot", LAST)
    if proof is None or snapshot is None:
        return None
    try:
        rows = [stored("credits", name) or b"" for name in credits_named(snapshot)]
        for row in rows:
            unhashed(row)
    except Malformed:
        return None
    return [proof, snapshot, *rows]


def spell(parts: Iterable[bytes]) -> Iterator[bytes]:
    """A file's bytes from its sections, a section at a time."""
    yield MAGIC
    for part in parts:
        yield len(part).to_bytes(_LENGTH, "big") + part


def split(data: bytes) -> list[bytes]:
    """The sections of a file; raises Malformed for what is none of this version, cut off, or too long."""
    if data[: len(MAGIC) - 1] != MAGIC[:-1]:
        raise Malformed("no checkpoint file")
    if data[: len(MAGIC)] != MAGIC:
        raise Malformed("a checkpoint file of another version than this program reads")
    at, found = len(MAGIC), list[bytes]()
    while at < len(data):
        size = int.from_bytes(data[at : at + _LENGTH], "big")
        at += _LENGTH
        if size > SECTION_BYTES_MAX or len(found) == SECTIONS_MAX:
            raise Malformed("a checkpoint file that is too long")
        if at + size > len(data):
            raise Malformed("a checkpoint file that is cut off")
        found.append(data[at : at + size])
        at += size
    if len(found) < 2:
        raise Malformed("a checkpoint file that is cut off")
    return found


def accept(law: Constitution, parts: Iterable[bytes], verify: Verify) -> Offered:
    """What the sections show to somebody who knows the genesis; raises Malformed, ProofWrong with what is wrong first.

    Costs the proof's signatures and a hash of everything.
    """
    spelled, snapshot, *more = parts
    proof = read_proof(spelled)
    verdict = check(proof, genesis_trust(law), verify)
    count = len(credits_named(snapshot))
    rows = {credits_name(law, unhashed(row)): row for row in more[:count]}
    state, point = read(law, snapshot, rows.get)
    header = proof.headers[0]
    if header.state != state.state or header.parent != state.id or header.slot <= state.slot:
        raise ProofWrong("the snapshot is of another state than the header names")
    if all(one is not state.at_final for one in state.recent) or state.at_final.point != state.final:
        raise ProofWrong("the snapshot's last final checkpoint is older than what the header tells of")
    again = rows_of(state)
    if again.snapshot != snapshot or again.hours.keys() != rows.keys():  # a row's bytes follow from its name
        raise Malformed("a checkpoint file in another spelling than its state's own")
    kept = [Keep("credits", (name,), row) for name, row in rows.items()]
    kept += [Keep(HAND_OVERS, (key_of(at),), pack(one)) for at, one in enumerate(proof.hand_overs)]
    kept += [Keep("chain", (key_of(state.height),), point.block), Keep("heights", (point.block,), key_of(state.height))]
    return Offered(
        state, verdict, (*kept, Keep(PROOF, (LAST,), spelled), Keep("snapshot", (LAST,), snapshot)), tuple(more[count:])
    )
