"""A session's anchors as evidence: gathered from the records and the chain that a node kept, beside the daemon that keeps them.

    outbox: transactions ── index ──→ payloads ── height ──→ blocks ── headers ──→ the newest final checkpoint that is shown

Nothing is asked of anybody. What is not final yet, or lies below the checkpoint at which this node began, is said.
"""

from collections.abc import Iterable
from typing import NamedTuple

from consensus.ancestry import key_of
from consensus.block import BlockHeader, read_block
from consensus.encoding import Malformed
from consensus.ids import Digest, SessionId
from consensus.proof import HEADERS_MAX, ChainProof
from consensus.records import unpack
from consensus.snapshot import PROOF
from consensus.succession import NEWEST
from node.chain.evidence import Anchor, AnchorEvidence
from node.chain.index import Get, number_key, payload_key, places, places_key, read_receipts, receipts_key
from node.chain.receipts import kinds_of, number_of, proof, spelled
from node.chain.wanted import OUTBOX, WantedCall
from node.sessions.records import Reading


class NotAnchored(Exception):
    """There is no evidence; the sentence says why, and what would have to happen."""


class _Found(NamedTuple):
    what: str
    number: int
    """Of the payload, which is its block's height."""
    name: Digest
    at: int


def gather(session: SessionId, rows: Reading, chain: Get) -> AnchorEvidence:
    """The evidence of all anchors of a session that are shown to be final; raises NotAnchored when its opening is not among them."""
    found = sorted(_places(session, rows, chain), key=lambda one: one.number)
    if not any(one.what == "open" for one in found):
        raise NotAnchored("its opening is in no block yet: the node that runs for this home sends it")
    newest = _newest(rows)
    height = _height(rows, newest)
    final = [one for one in found if one.number <= height]
    if not any(one.what == "open" for one in final):
        raise NotAnchored(
            f"its opening is in block {found[0].number}, and what is shown to be final ends at block {height}: "
            "ask again in an HOUR or two"
        )
    headers = tuple(_header(rows, at) for at in range(final[0].number, height + 1))
    if len(headers) > HEADERS_MAX:
        raise NotAnchored(f"its opening is {len(headers)} blocks back, and a proof leads over {HEADERS_MAX} at most")
    whole = ChainProof(newest.trust_hour, newest.trust_block, newest.hand_overs, headers, newest.finality)
    return AnchorEvidence(whole, tuple(_anchor(one, rows, chain) for one in final))


def _places(session: SessionId, rows: Reading, chain: Get) -> Iterable[_Found]:
    """Where the session's transactions are on the branch of the head."""
    for key, row in rows.scan(OUTBOX, (session,)):
        call = unpack(WantedCall, row)
        what = str(key[1])
        if what == "commit":
            continue
        for place in (one for name in call.hashes for one in places(chain(places_key(name)))):
            number = number_of(chain(place.name) or b"")
            if chain(number_key(number)) == place.name:
                receipt = read_receipts(chain(receipts_key(place.name)) or b"")[place.at]
                if receipt.ok:
                    yield _Found(what, number, place.name, place.at)


def _newest(rows: Reading) -> ChainProof:
    row = rows.get(PROOF, (NEWEST,))
    if row is None:
        raise NotAnchored("this node has seen nothing become final yet: ask again in an HOUR or two")
    try:
        return unpack(ChainProof, row)
    except Malformed as error:
        raise NotAnchored(
            f"this node's proof of what is final is damaged ({error}): it makes another within an HOUR"
        ) from error


def _height(rows: Reading, newest: ChainProof) -> int:
    """The height of the final checkpoint's block."""
    assert newest.finality is not None
    row = rows.get("heights", (newest.finality.point.block,))
    if row is None:
        raise NotAnchored(
            "this node's chain and its proof of what is final do not belong together: ask again in an HOUR"
        )
    return int.from_bytes(row, "big")


def _block(rows: Reading, height: int) -> Digest:
    row = rows.get("chain", (key_of(height),))
    if row is None:
        raise NotAnchored(f"this node has no block {height}: it began at a later checkpoint")
    return Digest(row)


def _header(rows: Reading, height: int) -> BlockHeader:
    data = rows.get("blocks", (_block(rows, height),))
    if data is None:
        raise NotAnchored(f"this node has no block {height}: it began at a later checkpoint")
    return read_block(data).header


def _anchor(one: _Found, rows: Reading, chain: Get) -> Anchor:
    block = chain(payload_key(one.name)) or b""
    receipts = spelled(read_receipts(chain(receipts_key(one.name)) or b""), kinds_of(block))
    return Anchor(_block(rows, one.number), chain(one.name) or b"", one.at, proof(receipts, one.at))
