"""Checkpoint sync: who begins at a stranger's snapshot has the chain that everybody has, and nothing else passes for one."""

from dataclasses import replace
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from consensus.block import read_block
from consensus.checkpoint import Constitution
from consensus.checkpoint_sync import MAGIC, Offered, accept, sections, spell, split
from consensus.encoding import Malformed, decode, encode
from consensus.ids import Network
from consensus.params import DEVNET
from consensus.proof import HandOver, ProofWrong, read_proof
from consensus.records import pack, unpack
from consensus.replica import ConsensusReplica
from consensus.snapshot import SNAPSHOT_HOURS, VERSION, credits_row
from consensus.succession import NEWEST, Succession
from consensus.tally import HourCredits
from consensus.wishes import FetchBlocks, Keep
from tests.consensus.test_replica import STRANGER, again, carried
from tests.consensus.towns import BEGAN, Dweller, Town, verify
from tests.consensus.worlds import FULL

pytestmark = pytest.mark.component

ERAS = replace(DEVNET, hour_slots=4, era_hours=6, month_hours=60)
HOURS = 24


class Stay:
    """A town of seven for some ERAs, and what its first node could offer in each HOUR."""

    def __init__(self) -> None:
        self.town = Town(7, ERAS, work=FULL)
        self.offers: dict[int, list[bytes]] = {}
        for hour in range(1, HOURS):
            self.town.run(hour * ERAS.hour_slots)
            if (found := sections(self.me.stored)) is not None:
                self.offers[hour] = [*found]
        self.last = self.offers[max(self.offers)]

    @property
    def me(self) -> Dweller:
        return self.town.up[0]

    @property
    def law(self) -> Constitution:
        return self.town.law


@pytest.fixture(scope="module")
def stay() -> Stay:
    return Stay()


def rows_of(offered: Offered) -> dict[Any, bytes]:
    return {(one.table, one.key): one.value or b"" for one in offered.rows}


def caught_up(stay: Stay, rows: dict[Any, bytes]) -> ConsensusReplica:
    """A newcomer with those rows, after it asked the first node for what it lacks."""
    made = again(stay.town, rows)
    questions = [made.question()]
    while questions:
        doing = made.answered(stay.town.now, STRANGER, stay.me.replica.answer(questions.pop()))[1]
        questions += [one.question for one in carried(stay.town, made, doing) if isinstance(one, FetchBlocks)][:1]
    return made


# ------------------------------------------------------------------ what is right


def test_who_begins_there_has_the_chain_that_everybody_has(stay: Stay) -> None:
    offered = accept(stay.law, stay.last, verify)
    assert offered.verdict.trust == "genesis"
    assert offered.point.hour > 2 * ERAS.era_hours
    begun = again(stay.town, rows_of(offered))
    assert begun.tree.root == offered.point.block
    assert (begun.final, begun.head()) == (offered.point, offered.state)
    made = caught_up(stay, rows_of(offered))
    assert made.head().id == stay.me.replica.head().id
    assert made.head().state == stay.me.replica.head().state
    assert made.head().final == stay.me.replica.head().final
    assert made.next()[0].checkpoint.weights == stay.me.replica.next()[0].checkpoint.weights


def test_a_newcomer_that_began_there_votes_and_offers_with_the_others() -> None:
    """The Server starts again with nothing but its keys and a file: a quorum of three needs it."""
    town = Town(3, ERAS, work=FULL)
    town.run(10 * ERAS.hour_slots + 2)
    found = sections(town.up[1].stored)
    assert found is not None
    rows = rows_of(accept(town.law, found, verify))
    town.stop(0)
    journal = {key: row for key, row in town.down.pop(0).items() if key[0] == "journal"}
    town.start(0, rows | journal)
    town.run(19 * ERAS.hour_slots + 2)
    assert len(town.heads()) == 1
    assert min(town.finals()) >= 16
    offers = [sections(town.up[number].stored) for number in (0, 1)]
    assert [None if one is None else [*one] for one in offers] == [[*(sections(town.up[0].stored) or ())]] * 2
    assert accept(town.law, sections(town.up[0].stored) or (), verify).point.hour >= 12


def test_it_can_be_offered_in_most_hours_and_begins_within_the_last_ones(stay: Stay) -> None:
    late = range(3 + SNAPSHOT_HOURS, HOURS)
    assert sum(hour in stay.offers for hour in late) >= len(late) * 4 // 6
    for hour, parts in stay.offers.items():
        assert hour - accept(stay.law, parts, verify).point.hour <= SNAPSHOT_HOURS + 3


def test_each_era_hands_over_once_and_a_start_finds_where_it_was(stay: Stay) -> None:
    def kept(rows: dict[Any, bytes]) -> list[bytes]:
        names = sorted(name for name in rows if name[0] == "handovers")
        return [rows[name] for name in names]

    steps = [unpack(HandOver, row) for row in kept(stay.me.rows)]
    assert [one.finality.point.hour // ERAS.era_hours for one in steps] == [1, 2, 3]
    town = Town(3, ERAS, work=FULL)
    for hour in range(2, 16):  # each HOUR one of them starts again
        town.run(hour * ERAS.hour_slots + 2)
        town.stop(1)
        town.start(1)
    assert kept(town.up[1].rows) == kept(town.up[0].rows)
    assert len(kept(town.up[1].rows)) == 2


def test_without_its_hand_overs_nothing_is_offered_and_all_else_goes_on() -> None:
    town = Town(3, ERAS, work=FULL)
    town.run(16 * ERAS.hour_slots + 2)
    town.stop(1)
    damaged = {key: row for key, row in town.down.pop(1).items() if key[0] != "handovers"}
    town.start(1, damaged)
    town.run(23 * ERAS.hour_slots)
    assert len(town.heads()) == 1
    assert sections(town.up[1].stored) is None
    assert sections(town.up[0].stored) is not None


@pytest.mark.parametrize("table", ["snapshot", "credits", "handovers", "proof"])
def test_of_what_is_damaged_nothing_is_offered(stay: Stay, table: str) -> None:
    names = [name for name in stay.me.rows if name[0] == table]
    state = accept(stay.law, stay.last, verify).state
    for name in names[-1:]:
        for damaged in (None, b"\0" + stay.me.rows[name][1:]):
            rows = dict(stay.me.rows)
            del rows[name]
            rows |= {} if damaged is None else {name: damaged}

            def stored(table: str, key: bytes, rows: dict[Any, bytes] = rows) -> bytes | None:
                return rows.get((table, (key,)))

            if table == "handovers":
                path = [*stay.me.replica.tree.ancestors(stay.me.replica.head().id)][::-1]
                assert [
                    *Succession(stay.law, state, stored).follow(
                        path, state.checkpoint.point, stay.me.replica.tree.block
                    )
                ] == []
            elif (found := sections(stored)) is not None:
                with pytest.raises((Malformed, ProofWrong)):
                    accept(stay.law, found, verify)


def test_a_snapshot_whose_hour_has_no_block_gets_no_proof_of_another(stay: Stay) -> None:
    """The one before was not shown to be final yet, and is not there any more."""
    path = [*stay.me.replica.tree.ancestors(stay.me.replica.head().id)][::-1]
    root = path[0]
    first = path[1].checkpoint.point
    assert first.block == root.id
    made = Succession(stay.law, path[-1], stay.me.stored)
    [*_] = made.follow(path, first, stay.me.replica.tree.block)
    made._wanted = path[1].id
    empty = first._replace(hour=first.hour - 1)
    told = [*made.follow(path, empty, stay.me.replica.tree.block)]
    assert [one.key for one in told] == [(NEWEST,)]
    assert made._wanted is None


# ------------------------------------------------------------------ what is not


def test_a_file_is_its_sections(stay: Stay) -> None:
    data = b"".join(spell(stay.last))
    assert split(data) == stay.last
    assert data.startswith(b"lucid-checkpoint\x03")
    for cut in (len(MAGIC), len(MAGIC) + 3, len(data) // 2, len(data) - 1):
        with pytest.raises(Malformed, match="cut off"):
            split(data[:cut])
    with pytest.raises(Malformed, match="no checkpoint file"):
        split(b"lucid-something\x02")
    with pytest.raises(Malformed, match="another version"):
        split(b"lucid-checkpoint\x01" + data[len(MAGIC) :])
    with pytest.raises(Malformed, match="too long"):
        split(MAGIC + b"\xff\xff\xff\xff")
    with pytest.raises(Malformed, match="too long"):
        split(MAGIC + bytes(4) * 70_000)


def test_a_snapshot_of_another_hour_or_network_is_refused(stay: Stay) -> None:
    hours = sorted(stay.offers)
    early, late = stay.offers[hours[0]], stay.last
    with pytest.raises(ProofWrong, match="another state than the header names"):
        accept(stay.law, [late[0], *early[1:]], verify)
    with pytest.raises(ProofWrong, match="another state than the header names"):
        accept(stay.law, [early[0], *late[1:]], verify)
    with pytest.raises(ProofWrong, match="begins at another point"):
        accept(replace(stay.law, network=Network(bytes(32))), late, verify)
    with pytest.raises(Malformed, match="not all there"):
        accept(stay.law, late[:-1], verify)
    with pytest.raises(Malformed, match="not all there"):
        accept(stay.law, [*late[:-1], credits_row(HourCredits(9_999))], verify)
    body: Any = decode(late[1][33:])
    wordy = rehashed(
        encode([body[0], [*body[1], body[1][0]], *body[2:]])
    )  # the same state, with a registry that nobody needs
    with pytest.raises(Malformed, match="another spelling"):
        accept(stay.law, [late[0], wordy, *late[2:]], verify)
    assert accept(stay.law, [*late, b"the execution layer's"], verify).rest == (b"the execution layer's",)
    proof = read_proof(late[0])
    with pytest.raises(ProofWrong):
        accept(stay.law, [pack(replace(proof, headers=proof.headers[1:])), *late[1:]], verify)


def rehashed(data: bytes) -> bytes:
    """A row as a stranger would make it: with the hash of what it holds."""
    return bytes((VERSION,)) + blake3(data).digest() + data


@given(st.data())
def test_no_mutation_of_a_file_passes_for_another_state(stay: Stay, data: st.DataObject) -> None:
    """Flipped bytes, with the row's own hash put right: refused with a sentence, or the same bytes again."""
    parts = [*stay.last]
    place = data.draw(st.integers(0, len(parts) - 1))
    part = bytearray(parts[place] if place == 0 else parts[place][33:])
    for _ in range(data.draw(st.integers(1, 3))):
        part[data.draw(st.integers(0, len(part) - 1))] = data.draw(st.integers(0, 255))
    parts[place] = bytes(part) if place == 0 else rehashed(bytes(part))
    if parts == stay.last:
        return
    with pytest.raises((Malformed, ProofWrong)):
        accept(stay.law, parts, verify)


@given(st.data())
def test_values_of_any_shape_in_a_snapshot_are_refused(stay: Stay, data: st.DataObject) -> None:
    """Some part of the snapshot, anywhere in it, is another value: a number, text, nothing, a list too few or too many."""
    body: Any = decode(stay.last[1][33:])
    before, at = encode(body), body
    for _ in range(data.draw(st.integers(0, 6))):
        lists = [one for one in at if isinstance(one, list) and one]
        if not lists:
            break
        at = data.draw(st.sampled_from(lists))
    others: list[Any] = [0, -1, 1 << 60, b"", bytes(32), "", [], [[]], None, True, {}, [1, 2, 3]]
    at[data.draw(st.integers(0, len(at) - 1))] = data.draw(st.sampled_from(others))
    if encode(body) == before:
        return
    with pytest.raises((Malformed, ProofWrong)):
        accept(stay.law, [stay.last[0], rehashed(encode(body)), *stay.last[2:]], verify)


def test_a_snapshot_that_lags_too_far_behind_is_not_taken(stay: Stay) -> None:
    body: Any = decode(stay.last[1][33:])
    body[3][1] = 0  # its oldest checkpoint passes for the final one
    with pytest.raises(ProofWrong, match="older than what the header tells of"):
        accept(stay.law, [stay.last[0], rehashed(encode(body)), *stay.last[2:]], verify)


def test_the_first_header_is_that_of_the_block_on_top(stay: Stay) -> None:
    offered = accept(stay.law, stay.last, verify)
    header = read_proof(stay.last[0]).headers[0]
    block = stay.me.rows["blocks", (offered.verdict.block,)]
    assert read_block(block).header == header
    assert header.parent == offered.point.block
    assert isinstance(offered.rows[0], Keep)
    assert stay.town.now > BEGAN
