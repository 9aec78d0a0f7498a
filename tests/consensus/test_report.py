"""Reports of an HOUR: who witnesses, what they sign, and that nothing can be changed in it."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import Malformed
from consensus.ids import Digest, NodeId
from consensus.params import WITNESSES
from consensus.reasons import Reason
from consensus.records import pack, unpack
from consensus.report import (
    MB_MAX,
    REPORT_BYTES_MAX,
    HourReport,
    SignedReport,
    assemble,
    judge_report,
    numbers,
    read_report,
    report_signable,
    state_work,
    statement_signable,
    witnesses,
)
from consensus.signing import KeyPair, verify, verify_as_is
from consensus.tally import Work, median
from tests.consensus.worlds import FULL, NETWORK, key, named

ME, HOUR, ROOT = NodeId(named(7)), 1 << 40, named(8)
WITNESS_KEYS = [key(number) for number in range(WITNESSES)]
PUBLIC = [one.public for one in WITNESS_KEYS]
LARGEST = Work(MB_MAX, MB_MAX, 1_000)

works = st.builds(Work, st.integers(0, MB_MAX), st.integers(0, MB_MAX), st.integers(0, 1_000))


def said(*works_by_place: Work | None) -> HourReport:
    """A report with a statement by each witness that has something to say."""
    stated = {
        place: state_work(WITNESS_KEYS[place], NETWORK, ME, HOUR, ROOT, work)
        for place, work in enumerate(works_by_place)
        if work is not None
    }
    return assemble(ME, HOUR, ROOT, stated)


def judged(report: HourReport, keys: list[bytes] = PUBLIC) -> Work | Reason:
    return judge_report(report, NETWORK, keys, verify_as_is)


# ------------------------------------------------------------------ who witnesses


def world(count: int, entities: int) -> tuple[dict[NodeId, bytes], list[NodeId]]:
    """So many nodes, each of the entity with the remainder of its number."""
    nodes = [NodeId(named(number)) for number in range(count)]
    return {node: named(1_000 + number % entities) for number, node in enumerate(nodes)}, nodes


@given(st.integers(1, 60), st.integers(1, 60), st.binary(min_size=32, max_size=32), st.integers(0, 1 << 40))
def test_up_to_nine_witness_and_none_of_the_same_entity(count: int, entities: int, seed: bytes, hour: int) -> None:
    entity_of, nodes = world(count, entities)
    drawn = witnesses(NETWORK, Digest(seed), hour, nodes[0], entity_of, nodes)
    others = [node for node in nodes if entity_of[node] != entity_of[nodes[0]]]
    assert len({*drawn}) == len(drawn)
    assert {*drawn} <= {*others}
    assert len(drawn) <= WITNESSES
    if count <= 36:  # all can be drawn
        assert len(drawn) == min(WITNESSES, len(others))
    assert drawn == witnesses(NETWORK, Digest(seed), hour, nodes[0], entity_of, nodes)


def test_everybody_witnesses_alike_and_another_node_hour_and_seed_have_others() -> None:
    entity_of, nodes = world(60, 60)
    counts = Counter(
        node for hour in range(1_180) for node in witnesses(NETWORK, named(0), hour, nodes[5], entity_of, nodes)
    )
    assert counts.keys() == {*nodes} - {nodes[5]}
    assert all(125 <= count <= 240 for count in counts.values())  # 180 ± 4.5 σ
    places = Counter(witnesses(NETWORK, named(0), hour, nodes[5], entity_of, nodes)[0] for hour in range(1_180))
    assert max(places.values()) <= 42  # 20 ± 5 σ
    drawn = {
        witnesses(NETWORK, seed, hour, node, entity_of, nodes)
        for seed in (named(0), named(1))
        for hour in (0, 1)
        for node in nodes[:2]
    }
    assert len(drawn) == 8


def test_the_draw_is_that_of_all_permutations_by_fisher_and_yates() -> None:
    entity_of, nodes = world(4, 4)
    stranger = NodeId(named(99))
    drawn = Counter(witnesses(NETWORK, named(3), hour, stranger, entity_of, nodes) for hour in range(2_400))
    assert len(drawn) == 24
    assert all(60 <= count <= 145 for count in drawn.values())


def test_half_of_the_nodes_in_one_entity_leave_enough_to_witness() -> None:
    entity_of, nodes = world(60, 2)
    assert all(len(witnesses(NETWORK, named(0), hour, nodes[0], entity_of, nodes)) == WITNESSES for hour in range(500))


def test_of_a_crowd_of_one_entity_the_draw_ends_in_bounded_time() -> None:
    entity_of, nodes = world(1_000, 1)
    assert witnesses(NETWORK, named(0), 0, nodes[0], entity_of, nodes) == ()
    assert witnesses(NETWORK, named(0), 0, nodes[0], {}, []) == ()


# ------------------------------------------------------------------ statements


@given(works)
def test_numbers_are_packed_as_they_are_defined(work: Work) -> None:
    packed = numbers(work)
    assert len(packed) == 8
    as_read = [int.from_bytes(part, "big") for part in (packed[:3], packed[3:6], packed[6:])]
    assert as_read == [*work]


@pytest.mark.parametrize(
    "work", [Work(MB_MAX + 1, 0, 0), Work(0, MB_MAX + 1, 0), Work(0, 0, 1_001), Work(-1, 0, 0), Work(0, 0, -1)]
)
def test_numbers_beyond_a_statement_are_refused(work: Work) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        numbers(work)


def test_a_witness_signs_node_hour_root_and_numbers() -> None:
    stated = state_work(WITNESS_KEYS[0], NETWORK, ME, HOUR, ROOT, Work(1, 2, 3))
    assert stated[:8] == bytes.fromhex("0000010000020003")
    message = ME + HOUR.to_bytes(8, "big") + ROOT + stated[:8]
    assert verify(PUBLIC[0], stated[8:], "statement", NETWORK, message)
    assert statement_signable(NETWORK, ME, HOUR, ROOT, stated[:8]) == b"lucid/statement/v1" + NETWORK + message


@given(st.lists(st.one_of(st.none(), works), min_size=9, max_size=9))
def test_a_report_proves_the_median_of_those_that_spoke_or_that_they_are_too_few(spoke: list[Work | None]) -> None:
    report = said(*spoke)
    assert report.mask == sum(1 << place for place, work in enumerate(spoke) if work is not None)
    found = median([work for work in spoke if work is not None], WITNESSES)
    assert judged(report) == (Reason.FEW_WITNESSES if found is None else found)


def test_five_of_nine_are_enough_and_of_fewer_more_than_half() -> None:
    assert judged(said(*[FULL] * 5)) == FULL
    assert judged(said(*[FULL] * 4)) is Reason.FEW_WITNESSES
    assert judged(said(FULL, FULL), PUBLIC[:3]) == FULL
    assert judged(said(FULL), PUBLIC[:2]) is Reason.FEW_WITNESSES
    assert judged(said(), []) is Reason.FEW_WITNESSES


def test_a_statement_of_nobody_and_one_that_another_signed_are_refused() -> None:
    assert judged(said(*[FULL] * 9), PUBLIC[:8]) is Reason.STATEMENT_OF_NOBODY
    assert judged(said(*[FULL] * 9), [*PUBLIC[:8], PUBLIC[0]]) is Reason.STATEMENT_UNSIGNED
    for other in (
        replace(said(*[FULL] * 9), node=NodeId(named(9))),
        replace(said(*[FULL] * 9), hour=HOUR + 1),
        replace(said(*[FULL] * 9), next=named(9)),
        replace(said(*[FULL] * 5), mask=0b111110),
    ):
        assert judged(other) is Reason.STATEMENT_UNSIGNED


def test_every_bit_of_a_statement_is_signed() -> None:
    report = said(*[FULL] * 5)
    for bit in range(8 * 72):
        changed = bytearray(report.said)
        changed[72 + bit // 8] ^= 1 << bit % 8
        assert judged(replace(report, said=bytes(changed))) is Reason.STATEMENT_UNSIGNED, bit


# ------------------------------------------------------------------ reports as bytes


def signed(report: HourReport, by: KeyPair = WITNESS_KEYS[0]) -> SignedReport:
    return SignedReport(report, by.sign_as_is(report_signable(report, NETWORK)))


def test_a_full_report_is_read_back_and_within_its_size() -> None:
    full = signed(assemble(ME, (1 << 64) - 1, ROOT, dict.fromkeys(range(9), numbers(LARGEST) + bytes(64))))
    data = pack(full)
    assert len(data) == 847 <= REPORT_BYTES_MAX
    assert read_report(data) == unpack(SignedReport, data) == full
    assert verify(PUBLIC[0], full.signature, "report", NETWORK, pack(full.report))


@pytest.mark.parametrize(
    ("report", "why"),
    [
        (replace(said(FULL, FULL), mask=0b1), "statements of its mask"),
        (replace(said(FULL, FULL), mask=0b111), "statements of its mask"),
        (replace(said(FULL, FULL), said=said(FULL, FULL).said[:-1]), "statements of its mask"),
        (replace(said(FULL), said=bytes(6) + b"\x03\xe9" + bytes(64)), "more than the whole time"),
        (replace(said(FULL, FULL), said=said(FULL).said + b"\xff" * 72), "more than the whole time"),
    ],
)
def test_a_report_of_another_shape_is_malformed(report: HourReport, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        read_report(pack(SignedReport(report, bytes(64))))


def test_what_is_too_long_or_no_report_is_malformed() -> None:
    with pytest.raises(Malformed, match="too long"):
        read_report(bytes(REPORT_BYTES_MAX + 1))
    for data in (b"", bytes(9), pack(said(FULL)), pack(signed(said(FULL))) + b"\0"):
        with pytest.raises(Malformed):
            read_report(data)
    for broken in (
        replace(said(), mask=1 << WITNESSES),
        replace(said(), said=bytes(9 * 72 + 1)),
        replace(said(), node=NodeId(bytes(31))),
    ):
        with pytest.raises(Malformed):
            pack(broken)


@given(st.integers(0, 2_000), st.integers(1, 255))
def test_a_report_with_one_byte_changed_is_refused_or_spells_another(place: int, change: int) -> None:
    report = signed(said(*[FULL] * 5))
    data = bytearray(pack(report))
    data[place % len(data)] ^= change
    try:
        read = read_report(bytes(data))
    except Malformed:
        return
    assert pack(read) == bytes(data)
    signable = report_signable(read.report, NETWORK)
    assert not verify_as_is(PUBLIC[0], read.signature, signable)
