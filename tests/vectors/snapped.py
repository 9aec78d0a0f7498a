"""The entries of `snapshot_v4.json`, rows from which a node of three founders begins again, and `checkpoint_v3.json`, a file for others."""

from dataclasses import replace
from typing import Any

from consensus.checkpoint import checkpoint_digest
from consensus.checkpoint_sync import sections, spell
from consensus.params import DEVNET
from consensus.snapshot import credits_row, rows_of
from consensus.state import at_slot, state_digest
from tests.consensus.towns import Town
from tests.consensus.worlds import FULL, NETWORK
from tests.vectors.paying import ACCOUNTS, stored

FOUNDERS = 3
LAW = replace(DEVNET, hour_slots=4, era_hours=7, month_hours=70)


def snapshot_v4() -> dict[str, Any]:
    """The state at the beginning of the last final HOUR, in an ERA for which all have registered anew, with their reports.

    With sessions that are stored, one that was paid for, and accounts that were paid and may vote, which a town's do not.
    """
    town = Town(FOUNDERS, LAW, work=FULL)
    town.run(18 * LAW.hour_slots + 2)
    replica = town.up[0].replica
    state = at_slot(town.law, replica.tree.parent(replica.tree.root), replica.final.hour * LAW.hour_slots)
    at = state.checkpoint
    voters = {ACCOUNTS[0]: True, ACCOUNTS[1]: False}
    at = replace(at, electorate=replace(at.electorate, paid=frozenset(ACCOUNTS[:3]), voters=voters))
    state = replace(state, recent=(*state.recent[:-1], at), storage=stored())
    state = replace(state, names=(*state.names[:-1], checkpoint_digest(town.law, at)))
    state = replace(state, state=state_digest(town.law, state))
    rows = rows_of(state)
    return {
        "origin": "Rows of version 4 as first released, made by snapped.py from a town of three founders.",
        "network": NETWORK.hex(),
        "founders": [node.hex() for node in town.village.nodes],
        "window_hours": LAW.window_hours,
        "state": {
            "id": state.id.hex(),
            "checkpoint": state.state.hex(),
            "slot": state.slot,
            "height": state.height,
            "seed": state.seed.hex(),
            "era": state.checkpoint.registry.era,
            "weights": [[entity.hex(), weight] for entity, weight in state.checkpoint.weights.items()],
        },
        "final": [replica.final.hour, replica.final.block.hex()],
        "snapshot": rows.snapshot.hex(),
        "credits": {name.hex(): credits_row(hour).hex() for name, hour in rows.hours.items()},
    }


def checkpoint_v3() -> dict[str, Any]:
    """What that node gives a newcomer in the second ERA: one hand-over, a snapshot and its credits."""
    town = Town(FOUNDERS, LAW, work=FULL)
    town.run(16 * LAW.hour_slots + 2)
    found, point = sections(town.up[0].stored), town.up[0].replica.finalised.snapshots.point
    assert found is not None
    assert point is not None
    return {
        "origin": "A checkpoint file of version 3, without what an execution layer adds, as first released, made by snapped.py from a town of three founders.",
        "network": NETWORK.hex(),
        "founders": [node.hex() for node in town.village.nodes],
        "window_hours": LAW.window_hours,
        "file": b"".join(spell(found)).hex(),
        "point": [point.hour, point.block.hex()],
    }
