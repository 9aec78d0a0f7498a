"""What anchors show: a session's own, in blocks that are shown to be final, and nothing that was changed in any way."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from consensus.block import Block, BlockBody, sign_header
from consensus.encoding import Malformed
from consensus.ids import Address, Digest, Millis, session_id
from consensus.proof import ChainProof, ProofWrong, TrustPoint, genesis_trust
from consensus.prover import prove
from consensus.records import pack
from consensus.signing import KeyPair, verify_as_is
from consensus.state import State
from consensus.transition import extend
from node.chain.evidence import Anchor, AnchorEvidence, begun_at, judge, read_evidence
from node.chain.evm import Attributes, Evm, Grant, MemoryRows
from node.chain.genesis import ChainLaw
from node.chain.onsystem import anchor_head, close_session, open_session
from node.chain.receipts import kinds_of, proof, spelled
from node.chain.transactions import address_of, sign
from pipeline.manifest import Closer, Head, Manifest, Opening, Signed, identity
from pipeline.manifest import sign as signed_record
from pipeline.stream import Stream
from tests.consensus.worlds import NETWORK, Village, key, named

pytestmark = pytest.mark.component

SECRET = b"\1" * 32
OWNER = address_of(SECRET)
LAW = ChainLaw(1_280, 1_800_000_000, (), 5)
EPHEMERAL = KeyPair.from_seed(b"\5" * 32)
SESSION = session_id(OWNER, b"u" * 16, EPHEMERAL.public)

OPENING = Opening(
    session=SESSION,
    network=NETWORK,
    owner=OWNER,
    uuid=b"u" * 16,
    ephemeral=EPHEMERAL.public,
    identity=key(9).public,  # type: ignore[arg-type]
    started=Millis(1_800_000_004_000),
    policy=bytes(32),
    streams=(Stream.VIDEO,),
    codec="",
    recorder="",
    device=bytes(32),
    chunk_low=1,
    chunk_high=2,
    chunk_age_ms=3,
    key_generation=0,
)


def heads() -> Iterator[Signed]:
    previous = identity(OPENING, NETWORK)
    for number in range(3):
        head = Head(SESSION, number, Millis(OPENING.started + number), previous, (named(number),), ())
        previous = identity(head, NETWORK)
        yield signed_record(head, EPHEMERAL, NETWORK)


HEADS = tuple(heads())
MANIFEST = Manifest(
    SESSION,
    identity(OPENING, NETWORK),
    Millis(9),
    True,
    "",
    Closer.EPHEMERAL,
    3,
    named(50),
    named(51),
    3,
    named(52),
    (),
    (),
    (),
)


@dataclass(frozen=True)
class Told:
    """A chain on which a session was opened, followed and closed, and its evidence."""

    trust: TrustPoint
    evidence: AnchorEvidence
    village: Village

    def judged(self, evidence: AnchorEvidence | None = None, **changes: Any) -> Any:
        session = (changes.get("opening", OPENING), changes.get("heads", HEADS), changes.get("manifest", MANIFEST))
        trust = changes.get("trust", self.trust)
        return judge(evidence or self.evidence, session, trust, changes.get("law", LAW), verify_as_is)


def head_name(number: int) -> Digest:
    from consensus.records import unpack

    return identity(unpack(Head, HEADS[number].body), NETWORK)


CALLS = {
    3: [open_session(b"u" * 16, EPHEMERAL.public, bytes(32))],
    5: [anchor_head(SESSION, 0, head_name(0))],
    8: [anchor_head(SESSION, 2, head_name(2))],
    9: [close_session(SESSION, identity(MANIFEST, NETWORK), MANIFEST.root, 3, 3)],
}


@pytest.fixture(scope="module")
def told() -> Told:
    """Slots 1 to 19 of a devnet of one, an anchor in four of them."""
    village, evm = Village(1), Evm(MemoryRows(), LAW)
    state, parent, nonce = village.genesis, evm.genesis, 0
    chain: list[tuple[Block, State]] = []
    where: dict[int, tuple[State, Digest]] = {}
    for slot in range(1, 20):
        at = village.at(state, slot)
        grants = (Grant(OWNER, 10**8),) if slot == 1 else ()
        says = Attributes(LAW.began_s + 5 * slot, named(slot), Address(bytes(20)), named(slot), grants)
        sent = [
            sign(SECRET, LAW.chain_id, nonce + number, call.to, call.data, call.gas)
            for number, call in enumerate(CALLS.get(slot, []))
        ]
        nonce += len(sent)
        name, payload = evm.build(parent, says, sent)
        evm.execute(parent, says, payload)
        votes = village.votes(at) if slot % 4 == 1 and slot > 4 else ()
        header = replace(village.header(state, slot, BlockBody(votes=votes)), payload=name)
        block = Block(sign_header(header, village.keys[header.entity], NETWORK), BlockBody(votes=votes))
        state, parent = extend(village.rules, state, block), name
        chain.append((block, state))
        where[slot] = state, name
    trust = genesis_trust(village.law)
    shown = prove(trust, chain, where[3][0].id)
    assert isinstance(shown, ChainProof)
    anchors = []
    for slot in CALLS:
        after, name = where[slot]
        kept = evm.payload(name)
        assert kept is not None
        receipts = spelled(evm.receipts(name), kinds_of(kept))
        anchors.append(Anchor(after.id, bytes(rlp.encode(evm.header(name))), 0, proof(receipts, 0)))
    whole = prove(trust, chain, where[9][0].id)
    assert whole is not None
    assert whole.finality is not None
    first = next(at for at, (_, after) in enumerate(chain) if after.id == where[3][0].id)
    last = next(at for at, (_, after) in enumerate(chain) if after.id == whole.finality.point.block)
    headers = tuple(block.header for block, _ in chain[first : last + 1])
    return Told(trust, AnchorEvidence(replace(whole, headers=headers), tuple(anchors)), village)


def test_what_is_shown_is_when_it_was_opened_followed_and_closed(told: Told) -> None:
    found = told.judged(read_evidence(pack(told.evidence)))
    assert (found.trust, found.trust_hour) == ("server", 0)
    assert (found.opened.slot, found.opened.time_s) == (3, LAW.began_s + 15)
    assert {number: at.slot for number, at in found.heads.items()} == {0: 5, 2: 8}
    assert (found.closed.slot, found.stretch_s) == (9, 15)
    assert "that it was opened by its owner in slot 3, and its key existed by then" in found.proven
    assert "that it was closed with this manifest in slot 9, and not changed since" in found.proven
    assert "anything before its opening was anchored" in found.not_proven


def test_without_a_close_it_says_so_and_without_an_opening_there_is_nothing(told: Told) -> None:
    open_only = told.judged(replace(told.evidence, anchors=told.evidence.anchors[:3]))
    assert open_only.closed is None
    assert "that it ended: its close is not anchored" in open_only.not_proven
    with pytest.raises(Malformed, match="do not open this session"):
        told.judged(replace(told.evidence, anchors=told.evidence.anchors[1:]))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"opening": replace(OPENING, policy=named(1))}, "another owner, key or policy"),
        ({"heads": HEADS[:2]}, "another head 2"),
        ({"heads": (HEADS[1], *HEADS[1:])}, "another head 0"),
        ({"manifest": replace(MANIFEST, root=named(53))}, "another manifest"),
        ({"manifest": replace(MANIFEST, complete=False)}, "another manifest"),
        ({"manifest": None}, "its records do not"),
        ({"law": LAW._replace(slot_s=6)}, "another time than its slot's"),
    ],
)
def test_records_that_are_not_those_that_were_anchored_are_found(
    told: Told, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Malformed, match=reason):
        told.judged(**changes)


def test_another_sessions_anchors_open_nothing_here(told: Told) -> None:
    other = replace(OPENING, session=session_id(OWNER, b"v" * 16, EPHEMERAL.public), uuid=b"v" * 16)
    with pytest.raises(Malformed, match="do not open this session"):
        told.judged(opening=other)


def test_a_block_that_the_proof_does_not_lead_through_shows_nothing(told: Told) -> None:
    chain = told.evidence.chain
    with pytest.raises(Malformed, match="does not lead through"):
        told.judged(replace(told.evidence, chain=replace(chain, headers=chain.headers[1:])))
    with pytest.raises(ProofWrong, match="another point"):
        told.judged(trust=replace(told.trust, block=named(1)))


def test_from_a_later_point_of_trust_it_needs_what_came_after_it_alone(told: Told) -> None:
    finality = told.evidence.chain.finality
    assert finality is not None
    between = replace(told.trust, hour=finality.point.hour - 1, block=named(7))
    begun = begun_at(told.evidence, between)
    assert (begun.chain.trust_hour, begun.chain.trust_block) == (between.hour, named(7))
    with pytest.raises(ProofWrong, match="older than the checkpoint"):
        begun_at(told.evidence, replace(told.trust, hour=finality.point.hour))


@given(st.data())
def test_any_bit_that_is_turned_is_found_or_changes_nothing(told: Told, data: st.DataObject) -> None:
    whole = bytearray(pack(told.evidence))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    usual = told.judged()
    try:
        found = told.judged(read_evidence(bytes(whole)))
    except (Malformed, ProofWrong):
        return
    assert found == usual
