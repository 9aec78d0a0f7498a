"""Snapshots: a state comes back as it was, and what is damaged, missing or of another version is told."""

from dataclasses import replace

import pytest

from consensus.encoding import Malformed
from consensus.ids import Digest, Network
from consensus.params import DEVNET
from consensus.snapshot import Rows, credits_row, read, rows_of
from consensus.state import State, at_slot
from consensus.tally import HourCredits, Tally
from tests.consensus.towns import Town
from tests.consensus.worlds import FULL

ERAS = replace(DEVNET, hour_slots=4, era_hours=6, month_hours=60)


def row_of(rows: Rows) -> dict[bytes, bytes]:
    """The credits' rows."""
    return {name: credits_row(hour) for name, hour in rows.hours.items()}


def states(town: Town) -> list[State]:
    """After each block of the way to the first node's head, the state at the beginning of the HOUR after."""
    replica, size = town.up[0].replica, town.law.params.hour_slots
    found = replica.tree.ancestors(replica.head().id)
    return [at_slot(town.law, one, (one.checkpoint.hour + 1) * size) for one in found]


@pytest.fixture(scope="module")
def town() -> Town:
    """Five founders in their third ERA, with reports, registrations and misses: one of them is away for some HOURs."""
    made = Town(5, ERAS, work=FULL)
    made.run(9 * 4 + 2)
    made.stop(3)
    made.run(13 * 4 + 1)
    made.start(3)
    made.run(16 * 4 + 3)
    return made


def test_a_state_comes_back_as_it_was(town: Town) -> None:
    found = states(town)
    for of in ("reports", "joining", "misses"):
        assert any(getattr(state.checkpoint, of) for state in found)
    for of in ("published", "publishers", "links"):
        assert any(getattr(state, of) for state in found)
    assert any(state.happened.votes for state in found)
    first = at_slot(town.law, town.village.genesis, town.law.params.hour_slots)
    for state in [*found, first]:
        rows = rows_of(state)
        back, point = read(town.law, rows.snapshot, row_of(rows).get)
        assert (back, point) == (state, state.checkpoint.point)
        assert rows_of(back) == rows


def test_checkpoints_that_share_a_registry_share_it_afterwards(town: Town) -> None:
    state = states(town)[0]
    rows = rows_of(state)
    back, _ = read(town.law, rows.snapshot, row_of(rows).get)
    assert len({id(one.registry) for one in back.recent}) == len({id(one.registry) for one in state.recent}) == 2


def test_every_damage_is_told(town: Town) -> None:
    state = states(town)[0]
    rows = rows_of(state)
    for at in range(0, len(rows.snapshot), 37):
        damaged = bytearray(rows.snapshot)
        damaged[at] ^= 1
        with pytest.raises(Malformed, match="damaged" if at else "of version 05; this program reads version 4"):
            read(town.law, bytes(damaged), row_of(rows).get)
    with pytest.raises(Malformed, match="damaged"):
        read(town.law, rows.snapshot[:-1], row_of(rows).get)
    with pytest.raises(Malformed, match="not all there"):
        read(town.law, rows.snapshot, lambda _: None)
    for change, sentence in ((b"\1", "of version 01; this program reads version 4"), (b"\4\1", "damaged")):
        others = {name: change + row[len(change) :] for name, row in row_of(rows).items()}
        with pytest.raises(Malformed, match=sentence):
            read(town.law, rows.snapshot, others.get)


def test_a_snapshot_that_names_credits_twice_or_too_many_is_refused_before_any_is_read(town: Town) -> None:
    state = states(town)[-1]
    most = town.law.params.window_hours

    def unread(_name: Digest) -> bytes | None:
        raise AssertionError("credits were read")

    name = state.checkpoint.credit_digests[-1]
    for names in ((name, name), tuple(Digest(at.to_bytes(32, "big")) for at in range(most + 1))):
        doubled = tuple(
            replace(one, credit_digests=names, tally=Tally(((HourCredits(0),) * len(names)), {}))
            for one in state.recent
        )
        rows = rows_of(replace(state, recent=doubled, at_final=doubled[0]))
        with pytest.raises(Malformed, match="names credits twice"):
            read(town.law, rows.snapshot, unread)


def test_a_snapshot_of_another_law_is_told(town: Town) -> None:
    state = states(town)[0]
    rows = rows_of(state)
    other = replace(town.law, network=Network(bytes(32)))
    with pytest.raises(Malformed, match="another state than it says"):
        read(other, rows.snapshot, row_of(rows).get)
