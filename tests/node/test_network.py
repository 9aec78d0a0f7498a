"""Network files: one spelling, one author, bounds that are checked by whoever reads, and an id that is the genesis's."""

from base64 import b32decode
from dataclasses import fields, replace
from typing import Any

import cbor2
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import VerifyKey

from consensus.encoding import Malformed
from consensus.ids import Millis, NodeId
from consensus.params import LeaderRule
from consensus.records import pack
from consensus.signing import KeyPair
from node.network import (
    FILE_CHARACTERS_MAX,
    TIMINGS,
    BootstrapNode,
    Carrier,
    Genesis,
    Mode,
    NetworkTerms,
    Timing,
    network_id,
    newer,
    open_terms,
    qr_text,
    read_file,
    seal_terms,
    write_file,
)
from pipeline.manifest import Signed
from tests.vectors.make import ONION
from tests.vectors.stored import vector

AUTHOR, STRANGER = KeyPair.from_seed(bytes(32)), KeyPair.from_seed(b"\x01" * 32)
ME = NodeId(AUTHOR.public)
GENESIS = Genesis(
    "test", Mode.MAINNET, ME, Millis(5), TIMINGS[Mode.MAINNET], LeaderRule.SORTITION, (ME,), 10, Carrier.TOR
)
TERMS = NetworkTerms(GENESIS, 1, Millis(5), (BootstrapNode(NodeId(b"\x07" * 32), (ONION,)),))
TEXT = write_file(seal_terms(TERMS, AUTHOR), ["for people"])
DEVNET = replace(GENESIS, mode=Mode.DEVNET, timing=TIMINGS[Mode.DEVNET], carrier=Carrier.LOOPBACK)


def read(text: str) -> NetworkTerms:
    return open_terms(read_file(text))


@pytest.mark.parametrize("entry", vector("network_v1")["files"], ids=lambda entry: entry["terms"]["genesis"]["name"])
def test_files_of_version_1_are_read_for_ever(entry: dict[str, Any]) -> None:
    """The id and the signature by hand, with another CBOR reader and PyNaCl's own verifier."""
    terms = read(entry["text"])
    genesis, body = bytes.fromhex(entry["genesis"]), bytes.fromhex(entry["body"])
    assert terms.network.hex() == entry["network"] == blake3(b"lucid/genesis/v1" + bytes(32) + genesis).hexdigest()
    letters = "".join(line for line in entry["text"].splitlines()[1:] if not line.startswith("#"))
    outer = cbor2.loads(b32decode(letters + "=" * (-len(letters) % 8)))
    assert outer["body"] == body == pack(terms)
    signed = b"lucid/network/v1" + terms.network + body
    VerifyKey(bytes.fromhex(vector("network_v1")["author"])).verify(signed, outer["signature"])
    inner = cbor2.loads(body)
    assert cbor2.dumps(inner["genesis"], canonical=True) == genesis
    assert inner["genesis"]["timing"] == entry["terms"]["genesis"]["timing"]


def test_new_bootstrap_addresses_leave_the_id_and_count_by_their_sequence() -> None:
    later = replace(TERMS, sequence=2, bootstrap=())
    assert read(write_file(seal_terms(later, AUTHOR), [])) == later
    assert later.network == TERMS.network
    assert (newer(later, TERMS), newer(TERMS, later), newer(TERMS, TERMS)) == (True, False, False)
    other = replace(later, genesis=replace(GENESIS, name="other"))
    assert not newer(other, TERMS)


@pytest.mark.parametrize("name", [field.name for field in fields(Genesis)])
def test_every_part_of_the_genesis_is_in_the_id(name: str) -> None:
    other: dict[str, object] = {
        "name": "tesu",
        "mode": Mode.SANDBOX,
        "author": NodeId(STRANGER.public),
        "created": 6,
        "timing": replace(GENESIS.timing, window_days=31),
        "leader_rule": LeaderRule.BANDS,
        "founders": (ME, NodeId(STRANGER.public)),
        "admission_bits": 11,
        "carrier": Carrier.LOOPBACK,
    }
    assert network_id(replace(GENESIS, **{name: other[name]})) != network_id(GENESIS)  # type: ignore[arg-type]


def test_only_the_author_signs() -> None:
    with pytest.raises(Malformed, match="only the author"):
        seal_terms(TERMS, STRANGER)
    signed = seal_terms(TERMS, AUTHOR)
    for other in (
        STRANGER.sign("network", TERMS.network, signed.body),
        AUTHOR.sign("entry", TERMS.network, signed.body),
        AUTHOR.sign("network", network_id(DEVNET), signed.body),
    ):
        with pytest.raises(Malformed, match="signature"):
            open_terms(Signed(signed.body, other))


def timing(**changes: int) -> Timing:
    return replace(TIMINGS[Mode.MAINNET], **changes)


BROKEN = [
    (replace(GENESIS, name="Test"), "name"),
    (replace(GENESIS, name="-a"), "name"),
    (replace(GENESIS, name=""), "name"),
    (replace(GENESIS, name="a\x1b[2J"), "name"),
    (replace(GENESIS, founders=()), "founder"),
    (replace(GENESIS, founders=(ME, ME)), "twice"),
    (replace(GENESIS, carrier=Carrier.LOOPBACK), "only a devnet"),
    (replace(GENESIS, timing=timing(rank_ms=2_999)), "rank_ms"),
    (replace(GENESIS, timing=timing(rank_ms=7_500)), "six times"),
    (replace(GENESIS, timing=timing(vote_ms=80_000)), "two thirds"),
    (replace(GENESIS, timing=timing(era_hours=721)), "ERA"),
    (replace(GENESIS, timing=timing(hour_slots=2)), "hour_slots"),
    (replace(GENESIS, timing=timing(window_days=0)), "window_days"),
    (replace(GENESIS, admission_bits=33), "admission_bits"),
]


@pytest.mark.parametrize(("genesis", "part"), BROKEN)
def test_parameters_out_of_bounds_are_refused_by_writer_and_reader(genesis: Genesis, part: str) -> None:
    terms = replace(TERMS, genesis=genesis)
    with pytest.raises(Malformed, match=part):
        seal_terms(terms, AUTHOR)
    try:
        body = pack(terms)
    except Malformed:
        return  # it has no spelling at all
    with pytest.raises(Malformed, match=part):
        open_terms(Signed(body, AUTHOR.sign("network", terms.network, body)))


def test_the_values_of_each_mode_are_within_the_bounds() -> None:
    for mode, usual in TIMINGS.items():
        seal_terms(replace(TERMS, genesis=replace(GENESIS, mode=mode, timing=usual)), AUTHOR)


@pytest.mark.parametrize(
    ("genesis", "address", "part"),
    [
        (GENESIS, "/ip4/127.0.0.1/tcp/4001", "no onion address"),
        (GENESIS, "/ip4/203.0.113.7/tcp/4001", "no onion address"),
        (GENESIS, "/dns/example.org/tcp/4001", "no onion address"),
        (GENESIS, ONION.replace("4001", "65536"), "no onion address"),
        (GENESIS, ONION.replace("pg6", "pg7"), "mistyped"),
        (DEVNET, ONION, "no loopback address"),
        (DEVNET, "/ip4/127.0.0.2/tcp/4001", "no loopback address"),
        (DEVNET, "/ip4/127.0.0.1/tcp/0", "no loopback address"),
    ],
)
def test_an_address_that_leads_around_the_carrier_is_refused(genesis: Genesis, address: str, part: str) -> None:
    terms = replace(TERMS, genesis=genesis, bootstrap=(BootstrapNode(ME, (address,)),))
    with pytest.raises(Malformed, match=part):
        seal_terms(terms, AUTHOR)


def test_a_bootstrap_node_is_listed_once_and_has_an_address() -> None:
    node = TERMS.bootstrap[0]
    for wrong in ((node, node), (BootstrapNode(ME, ()),)):
        with pytest.raises(Malformed):
            seal_terms(replace(TERMS, bootstrap=wrong), AUTHOR)


def test_comments_are_never_read() -> None:
    lines = TEXT.splitlines()
    lied = [lines[0], "# id 00000000", *lines[2:], "", "  # AAAA", ""]
    assert read("\r\n".join(lied)) == TERMS
    assert read(qr_text(read_file(TEXT))) == TERMS


@given(st.integers(0, len(TEXT) - 1), st.characters(codec="ascii"))
def test_any_one_character_changed_is_refused_or_changes_nothing(at: int, other: str) -> None:
    changed = TEXT[:at] + other + TEXT[at + 1 :]
    try:
        assert read(changed) == TERMS
    except Malformed:
        assert changed != TEXT


@given(st.one_of(st.text(), st.binary().map(lambda data: TEXT.splitlines()[0] + "\n" + data.decode("latin-1"))))
def test_whatever_is_no_network_file_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        read(text)


@given(st.data())
def test_a_body_cut_or_mutated_behind_a_fresh_signature_is_refused_or_keeps_the_rules(data: st.DataObject) -> None:
    """The author itself is not trusted to write well: what opens, opens again from its own writing."""
    body = bytearray(seal_terms(TERMS, AUTHOR).body)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not body:
            break
    signature = AUTHOR.sign("network", TERMS.network, bytes(body))
    try:
        terms = open_terms(Signed(bytes(body), signature))
    except Malformed:
        return
    assert open_terms(seal_terms(terms, AUTHOR)) == terms


def test_a_file_beyond_its_size_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(Malformed, match="at most"):
        read_file(TEXT + "\n" * FILE_CHARACTERS_MAX)
