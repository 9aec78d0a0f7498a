"""The consensus' stored vectors: records are read and written for ever, and the stored blocks are replayed to what is stored."""

import json

import cbor2
import pytest
from blake3 import blake3

from consensus.admission import PoolRegistration
from consensus.block import Block, read_block
from consensus.checkpoint import part_digests
from consensus.finality import SignedVote, read_vote
from consensus.records import pack, unpack
from consensus.transition import extend
from tests.consensus.worlds import NETWORK, Village
from tests.vectors import agreed
from tests.vectors.spoken import Entry
from tests.vectors.stored import vector

STORED = vector("consensus_v1")
HISTORY = vector("history_v4")
BYTES = {entry["name"]: bytes.fromhex(entry["bytes"]) for entry in STORED["entries"]}


@pytest.mark.parametrize("entry", agreed.AGREED, ids=lambda entry: entry.name)
def test_records_of_the_consensus_are_read_and_written_for_ever(entry: Entry) -> None:
    data = BYTES[entry.name]
    assert entry.read(data) == entry.thing
    assert entry.write(entry.thing) == data
    assert cbor2.dumps(cbor2.loads(data), canonical=True) == data


def test_there_is_one_vector_of_each_and_the_readers_take_them() -> None:
    assert [*BYTES] == [entry.name for entry in agreed.AGREED]
    assert len(BYTES) == 18
    assert read_vote(BYTES["SignedVote"]) == unpack(SignedVote, BYTES["SignedVote"])
    assert read_block(BYTES["Block"]) == unpack(Block, BYTES["Block"])


def test_things_are_called_what_is_stored() -> None:
    assert json.loads(json.dumps(agreed.names())) == STORED["names"]


def test_names_are_hashes_in_their_domains() -> None:
    def by_hand(name: str, message: bytes) -> str:
        return blake3(b"lucid/" + name.encode() + b"/v1" + NETWORK + message).hexdigest()

    names, pool = STORED["names"], unpack(PoolRegistration, BYTES["PoolRegistration"])
    header = unpack(Block, BYTES["Block"]).header
    assert names["block_id"] == by_hand("block", BYTES["BlockHeader"])
    assert names["body_digest"] == header.body.hex() == blake3(BYTES["BlockBody"]).hexdigest()
    assert names["pool_id"] == by_hand("pool", b"\x02" + b"".join(pool.keys))
    assert names["vote_signable"] == (b"lucid/vote/v1" + NETWORK + BYTES["Vote"]).hex()
    assert names["header_signable"] == (b"lucid/header/v1" + NETWORK + BYTES["BlockHeader"]).hex()
    assert names["report_signable"] == (b"lucid/report/v1" + NETWORK + BYTES["HourReport"]).hex()


def test_the_stored_blocks_lead_to_what_is_stored() -> None:
    world = Village(len(STORED["genesis"]["founders"]))
    state = world.genesis
    assert [node.hex() for node in world.nodes] == STORED["genesis"]["founders"]
    assert [part.hex() for part in part_digests(world.law, state.checkpoint)] == STORED["genesis"]["parts"]
    assert agreed.told(world, state) == HISTORY["genesis"]
    assert HISTORY["founders"] == STORED["genesis"]["founders"]
    for step in HISTORY["history"]:
        block = read_block(bytes.fromhex(step["block"]))
        assert pack(block).hex() == step["block"]
        state = extend(world.rules, state, block)
        assert agreed.told(world, state) == {name: said for name, said in step.items() if name != "block"}
    assert (state.justified.hour, state.final.hour) == (9, 8)
    assert state.checkpoint.expelled == {world.nodes[3]: 5}
    assert len({*state.checkpoint.weights.values()}) > 1  # by work, no longer alike


def test_blocks_of_before_are_still_read() -> None:
    steps = [*STORED["history"], *vector("history_v2")["history"], *vector("history_v3")["history"]]
    before = [bytes.fromhex(step["block"]) for step in steps]
    assert len(before) == 95
    assert [pack(read_block(block)) for block in before] == before
