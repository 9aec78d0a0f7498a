"""Blocks: their names, their bytes and their sizes, and that no change of a byte goes unnoticed."""

from dataclasses import replace
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from consensus.admission import (
    POOL_KEYS_MAX,
    POOL_MEMBERS_MAX,
    PoolRegistration,
    Registration,
    SignatureList,
    SignedPool,
    SignedRegistration,
)
from consensus.block import (
    BLOCK_BYTES_MAX,
    EVIDENCE_MAX,
    PAYLOAD_BYTES_MAX,
    REGISTRATIONS_MAX,
    REPORTS_MAX,
    UNCLES_MAX,
    VOTES_MAX,
    Block,
    BlockBody,
    BlockHeader,
    DoubleProposal,
    SignedHeader,
    block_id,
    body_digest,
    contradict_headers,
    header_signable,
    next_seed,
    read_block,
    sign_header,
    skipped_seed,
    vrf_input,
)
from consensus.encoding import Malformed
from consensus.finality import DoubleVote, SignedVote, Vote
from consensus.ids import Address, Network, NodeId
from consensus.records import pack
from consensus.report import HourReport, SignedReport
from consensus.signing import verify
from tests.consensus.worlds import NETWORK, Village, key, named

LAST = (1 << 64) - 1
ME = NodeId(key(1).public)
HEADER = BlockHeader(LAST, 6, named(1), ME, bytes(80), named(2), named(3), named(4))
VOTE = SignedVote(Vote(ME, LAST - 1, named(5), LAST, named(6), named(14), named(7)), bytes(64))
REPORT = SignedReport(HourReport(ME, LAST, named(8), 511, bytes(9 * 72)), bytes(64))
SIGNED = sign_header(HEADER, key(1), NETWORK)
REGISTRATION = SignedRegistration(
    Registration(
        ME, LAST, LAST, named(9), bytes(16), named(10), named(11), Address(bytes(20)), named(12), (1 << 63) - 1
    ),
    bytes(64),
)
POOL = SignedPool(
    PoolRegistration(
        LAST,
        tuple(named(number) for number in range(POOL_KEYS_MAX)),
        POOL_KEYS_MAX,
        named(13),
        Address(bytes(20)),
        tuple(NodeId(named(number)) for number in range(POOL_MEMBERS_MAX)),
    ),
    SignatureList((1 << POOL_KEYS_MAX) - 1, (bytes(64),) * POOL_KEYS_MAX),
)
BODY = BlockBody(
    (VOTE,),
    (REPORT,),
    (DoubleVote(VOTE, VOTE),),
    (DoubleProposal(SIGNED, SIGNED),),
    (SIGNED,),
    (REGISTRATION,),
    (POOL,),
    b"payload",
)


def made(body: BlockBody) -> Block:
    """A block with a body, by nobody in particular."""
    return Block(sign_header(replace(HEADER, body=body_digest(body)), key(1), NETWORK), body)


# ------------------------------------------------------------------ names


def test_a_block_is_named_by_its_header_in_its_domain_and_not_by_its_signature() -> None:
    assert block_id(HEADER, NETWORK) == blake3(b"lucid/block/v1" + NETWORK + pack(HEADER)).digest()
    assert block_id(HEADER, NETWORK) != block_id(HEADER, Network(bytes(32)))
    block = made(BODY)
    other = replace(block, signed=replace(block.signed, signatures=SignatureList(2, (bytes(64),))))
    assert other != block
    assert block_id(other.header, NETWORK) == block_id(block.header, NETWORK)
    assert body_digest(BODY) == blake3(pack(BODY)).digest()


@pytest.mark.parametrize("name", ["slot", "rank", "parent", "entity", "proof", "body", "payload", "state"])
def test_every_field_of_a_header_is_in_its_name(name: str) -> None:
    before: Any = getattr(HEADER, name)
    after: Any = before - 1 if isinstance(before, int) else bytes([before[0] ^ 1]) + before[1:]
    assert block_id(replace(HEADER, **{name: after}), NETWORK) != block_id(HEADER, NETWORK)


def test_a_header_is_signed_in_its_domain() -> None:
    (signature,) = SIGNED.signatures.signatures
    assert SIGNED.signatures.mask == 1
    assert verify(ME, signature, "header", NETWORK, pack(HEADER))
    assert header_signable(HEADER, NETWORK) == b"lucid/header/v1" + NETWORK + pack(HEADER)


def test_seeds_are_hashes_of_the_one_before_and_the_output_or_the_slot() -> None:
    seed, slot = named(1), 1 << 40
    tail = NETWORK + seed + slot.to_bytes(8, "big")
    assert vrf_input(NETWORK, seed, slot) == b"lucid/vrf/v1" + tail
    assert skipped_seed(NETWORK, seed, slot) == blake3(b"lucid/skip/v1" + tail).digest()
    assert next_seed(NETWORK, seed, b"b" * 64) == blake3(b"lucid/seed/v1" + NETWORK + seed + b"b" * 64).digest()


def test_headers_contradict_each_other_for_one_slot_rank_and_entity() -> None:
    assert not contradict_headers(HEADER, HEADER)
    other_name: Any = named(99)
    for name in ("parent", "body", "payload", "state"):
        other = replace(HEADER, **{name: other_name})
        assert contradict_headers(HEADER, other)
        assert contradict_headers(other, HEADER)
        for apart in (replace(other, slot=1), replace(other, rank=1), replace(other, entity=named(98))):
            assert not contradict_headers(HEADER, apart)
    assert contradict_headers(HEADER, replace(HEADER, proof=b"\1" * 80))


def test_a_body_is_busy_with_anything_but_uncles() -> None:
    assert not BlockBody().is_busy
    assert not BlockBody(uncles=BODY.uncles).is_busy
    for name in ("votes", "reports", "double_votes", "double_proposals", "registrations", "pools", "payload"):
        assert replace(BlockBody(), **{name: getattr(BODY, name)}).is_busy


# ------------------------------------------------------------------ bytes


def test_a_block_is_read_back() -> None:
    for body in (BODY, BlockBody()):
        block = made(body)
        assert read_block(pack(block)) == block
        assert block.header == block.signed.header


def test_the_fullest_block_that_can_be_made_fits() -> None:
    """A body is filled by counts alone, so the counts have to keep it within its bytes."""
    header = replace(SIGNED, signatures=POOL.signatures)
    fullest = made(
        BlockBody(
            (VOTE,) * VOTES_MAX,
            (REPORT,) * REPORTS_MAX,
            (DoubleVote(VOTE, VOTE),) * EVIDENCE_MAX,
            (DoubleProposal(header, header),) * EVIDENCE_MAX,
            (header,) * UNCLES_MAX,
            (REGISTRATION,) * REGISTRATIONS_MAX,
            (POOL,) * REGISTRATIONS_MAX,
            bytes(PAYLOAD_BYTES_MAX),
        )
    )
    data = pack(replace(fullest, signed=replace(fullest.signed, signatures=POOL.signatures)))
    assert len(data) <= BLOCK_BYTES_MAX
    assert read_block(data).body == fullest.body


def test_what_is_too_long_or_has_another_body_is_malformed() -> None:
    with pytest.raises(Malformed, match="too long"):
        read_block(bytes(BLOCK_BYTES_MAX + 1))
    with pytest.raises(Malformed, match="another body"):
        read_block(pack(Block(made(BODY).signed, BlockBody())))
    with pytest.raises(Malformed, match="fields of a Block"):
        read_block(pack(SIGNED))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (replace(BODY, votes=(replace(VOTE, vote=replace(VOTE.vote, source_hour=LAST)),)), "no earlier HOUR"),
        (replace(BODY, reports=(replace(REPORT, report=replace(REPORT.report, mask=1)),)), "statements of its mask"),
        (replace(BODY, pools=(replace(POOL, pool=replace(POOL.pool, members=(ME, ME))),)), "twice"),
        (replace(BODY, pools=(replace(POOL, pool=replace(POOL.pool, keys=())),)), "fewer keys"),
    ],
)
def test_a_block_with_a_part_of_another_shape_is_malformed(body: BlockBody, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        read_block(pack(made(body)))


@pytest.mark.parametrize(
    "changed",
    [
        {"votes": (VOTE,) * (VOTES_MAX + 1)},
        {"reports": (REPORT,) * (REPORTS_MAX + 1)},
        {"double_votes": (DoubleVote(VOTE, VOTE),) * (EVIDENCE_MAX + 1)},
        {"double_proposals": (DoubleProposal(SIGNED, SIGNED),) * (EVIDENCE_MAX + 1)},
        {"uncles": (SIGNED,) * (UNCLES_MAX + 1)},
        {"registrations": (REGISTRATION,) * (REGISTRATIONS_MAX + 1)},
        {"pools": (POOL,) * (REGISTRATIONS_MAX + 1)},
        {"payload": bytes(PAYLOAD_BYTES_MAX + 1)},
    ],
    ids=lambda changed: str(*changed),
)
def test_a_body_beyond_its_counts_has_no_bytes(changed: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        pack(replace(BODY, **changed))  # type: ignore[arg-type]


WORLD = Village(4)
HONEST = WORLD.block(
    WORLD.genesis, 5, BlockBody(votes=WORLD.votes(WORLD.at(WORLD.genesis, 5)), payload=b"what the other layer reads")
)
BYTES = pack(HONEST)


@given(st.integers(0, len(BYTES) - 1), st.integers(0, 7))
def test_a_block_with_one_bit_changed_is_refused_or_spells_another(place: int, bit: int) -> None:
    """Whatever reads as a block packs to the bytes it was read from; only the header and its signature can differ."""
    data = bytearray(BYTES)
    data[place] ^= 1 << bit
    try:
        read = read_block(bytes(data))
    except Malformed:
        return
    assert pack(read) == bytes(data)
    assert read.body == HONEST.body
    assert read.signed != HONEST.signed


@given(st.data())
def test_bytes_cut_out_put_in_or_doubled_are_no_block(data: st.DataObject) -> None:
    low, high = sorted(data.draw(st.tuples(st.integers(0, len(BYTES)), st.integers(0, len(BYTES)))))
    put_in = data.draw(st.one_of(st.just(b""), st.binary(min_size=1, max_size=9), st.just(2 * BYTES[low:high])))
    changed = BYTES[:low] + put_in + BYTES[high:]
    try:
        read = read_block(changed)
    except Malformed:
        return
    assert pack(read) == changed


def test_an_honest_block_is_read_and_its_proof_and_signature_are_good() -> None:
    assert read_block(BYTES) == HONEST
    after = WORLD.after(WORLD.genesis, 5, HONEST.body)
    assert after.id == block_id(HONEST.header, NETWORK)
    assert after.justified.hour == 1
    assert isinstance(HONEST.signed, SignedHeader)
