"""The stored vector of a node's own rows: where it began with one release it begins with every later one."""

from dataclasses import replace

import pytest
from blake3 import blake3
from cbor2 import loads

from consensus.checkpoint import Constitution
from consensus.checkpoint_sync import accept, spell, split
from consensus.encoding import Malformed
from consensus.ids import Network, NodeId
from consensus.params import DEVNET
from consensus.proof import read_proof
from consensus.signing import verify_as_is
from consensus.snapshot import credits_row, read, rows_of
from tests.vectors.paying import ACCOUNTS, stored
from tests.vectors.stored import vector

STORED = vector("snapshot_v4")


def law() -> Constitution:
    founders = tuple(NodeId(bytes.fromhex(one)) for one in STORED["founders"])
    params = replace(DEVNET, window_hours=STORED["window_hours"])
    return Constitution(Network(bytes.fromhex(STORED["network"])), params, founders)


def test_a_snapshot_of_this_version_is_read_for_ever() -> None:
    rows = {bytes.fromhex(name): bytes.fromhex(row) for name, row in STORED["credits"].items()}
    state, final = read(law(), bytes.fromhex(STORED["snapshot"]), rows.get)
    said = STORED["state"]
    assert [final.hour, final.block.hex()] == STORED["final"]
    assert (state.id.hex(), state.state.hex(), state.seed.hex()) == (said["id"], said["checkpoint"], said["seed"])
    assert (state.slot, state.height, state.checkpoint.registry.era) == (said["slot"], said["height"], said["era"])
    assert [[entity.hex(), weight] for entity, weight in state.checkpoint.weights.items()] == said["weights"]
    assert state.storage == stored()
    assert state.checkpoint.electorate.voters == {ACCOUNTS[0]: True, ACCOUNTS[1]: False}
    again = rows_of(state)
    assert again.snapshot.hex() == STORED["snapshot"]
    assert {name: credits_row(hour) for name, hour in again.hours.items()} == rows


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_snapshot_of_other_rules_is_refused_whole_and_the_chain_read_again(version: int) -> None:
    """Of before a usual HOUR counted; of before states knew their payload, and of before they knew who stores and who votes."""
    before = vector(f"snapshot_v{version}")
    rows = {bytes.fromhex(name): bytes.fromhex(row) for name, row in before["credits"].items()}
    with pytest.raises(Malformed, match=f"version 0{version}; this program reads version 4"):
        read(law(), bytes.fromhex(before["snapshot"]), rows.get)


def test_a_row_is_a_version_a_hash_and_cbor() -> None:
    row = bytes.fromhex(STORED["snapshot"])
    assert (row[0], row[1:33]) == (4, blake3(row[33:]).digest())
    name, registries, checkpoints, *_ = loads(row[33:])
    assert name.hex() == STORED["state"]["checkpoint"]
    (hour, block, *_), *_ = checkpoints[-1]
    assert [hour, block.hex()] == STORED["final"]
    assert len(registries) <= 2


@pytest.mark.parametrize("version", [1, 2])
def test_a_checkpoint_file_of_before_is_told_apart(version: int) -> None:
    """Of before accounts came with it; of before it said who stores and who votes."""
    with pytest.raises(Malformed, match="of another version"):
        split(bytes.fromhex(vector(f"checkpoint_v{version}")["file"]))


def test_a_checkpoint_file_of_this_version_is_taken_for_ever() -> None:
    made = vector("checkpoint_v3")
    assert (made["network"], made["founders"], made["window_hours"]) == (
        *(STORED["network"], STORED["founders"], STORED["window_hours"]),
    )
    data = bytes.fromhex(made["file"])
    parts = split(data)
    offered = accept(law(), parts, verify_as_is)
    assert [offered.point.hour, offered.point.block.hex()] == made["point"]
    assert len(read_proof(parts[0]).hand_overs) == 1
    assert b"".join(spell(parts)) == data
