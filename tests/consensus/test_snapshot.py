"""Snapshots: a state comes back as it was, and what is damaged, missing or of another version is told."""

from dataclasses import replace

import pytest

from consensus.encoding import Malformed
from consensus.ids import Network
from consensus.params import DEVNET
from consensus.snapshot import Rows, credits_row, read, rows_of
from consensus.state import State
from tests.consensus.towns import Town
from tests.consensus.worlds import FULL

ERAS = replace(DEVNET, hour_slots=4, era_hours=6, month_hours=60)


def row_of(rows: Rows) -> dict[bytes, bytes]:
    """The credits' rows."""
    return {name: credits_row(hour) for name, hour in rows.hours.items()}


def states(town: Town) -> list[State]:
    """Every state of the first node's tree and of the way to its head."""
    replica = town.up[0].replica
    return [*replica.tree.ancestors(replica.head().id)]


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
    assert any(state.happened.reports for state in found)
    assert any(state.checkpoint.joining or state.happened.registrations for state in found)
    assert any(state.checkpoint.misses for state in found)
    for state in [*found, town.village.genesis]:
        rows = rows_of(state, state.final)
        back, final = read(town.law, rows.snapshot, row_of(rows).get)
        assert (back, final) == (state, state.final)
        assert rows_of(back, final) == rows


def test_checkpoints_that_share_a_registry_share_it_afterwards(town: Town) -> None:
    state = states(town)[0]
    rows = rows_of(state, state.final)
    back, _ = read(town.law, rows.snapshot, row_of(rows).get)
    assert len({id(one.registry) for one in back.recent}) == len({id(one.registry) for one in state.recent}) == 2


def test_every_damage_is_told(town: Town) -> None:
    state = states(town)[0]
    rows = rows_of(state, state.final)
    for at in range(0, len(rows.snapshot), 37):
        damaged = bytearray(rows.snapshot)
        damaged[at] ^= 1
        with pytest.raises(Malformed, match="damaged" if at else "of version 00; this program reads version 1"):
            read(town.law, bytes(damaged), row_of(rows).get)
    with pytest.raises(Malformed, match="damaged"):
        read(town.law, rows.snapshot[:-1], row_of(rows).get)
    with pytest.raises(Malformed, match="not all there"):
        read(town.law, rows.snapshot, lambda _: None)
    for change, sentence in ((b"\2", "of version 02; this program reads version 1"), (b"\1\1", "damaged")):
        others = {name: change + row[len(change) :] for name, row in row_of(rows).items()}
        with pytest.raises(Malformed, match=sentence):
            read(town.law, rows.snapshot, others.get)


def test_a_snapshot_of_another_law_is_told(town: Town) -> None:
    state = states(town)[0]
    rows = rows_of(state, state.final)
    other = replace(town.law, network=Network(bytes(32)))
    with pytest.raises(Malformed, match="another checkpoint than it says"):
        read(other, rows.snapshot, row_of(rows).get)
