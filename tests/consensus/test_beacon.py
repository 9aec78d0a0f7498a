"""Receipts, challenges and placement: what holds, what does not, and the stored values taken apart by hand."""

import struct
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from consensus.beacon import (
    CHALLENGED,
    REPLICA_BYTES_MAX,
    Deposit,
    Receipt,
    Segment,
    challenge,
    discrepancy,
    passed,
    read_deposit,
    read_receipt,
    receipt_id,
    replica_key,
    segment_count,
    show,
    shown,
    signable,
    term,
)
from consensus.encoding import Malformed
from consensus.ids import Digest, Network, NodeId
from consensus.merkle import SEGMENT, segment_root
from consensus.placement import (
    MEMBERS_MAX,
    REPLICAS,
    Registrant,
    first_holders,
    leader,
    lots,
    next_holder,
    order,
    placement_key,
    watcher,
)
from consensus.records import pack
from consensus.signing import verify
from tests.vectors import beacon as made
from tests.vectors.stored import vector

STORED: dict[str, Any] = vector("beacon_v1")
NETWORK, CHUNK, SEED, DEPOSIT, RECEIPT = made.NETWORK, made.CHUNK, made.SEED, made.DEPOSIT, made.RECEIPT
OTHER = Network(b"o" * 32)
digests = st.binary(min_size=32, max_size=32).map(Digest)
hours = st.integers(0, (1 << 64) - 1)


def by_hand(name: bytes, message: bytes) -> bytes:
    return blake3(b"lucid/" + name + b"/v1" + NETWORK + message).digest()


def test_stored_replica_keys_are_keyed_hashes_of_chunk_and_number() -> None:
    for j, stored in enumerate(STORED["replica_keys"]):
        assert replica_key(made.SECRET, CHUNK, j).hex() == stored
        assert blake3(b"lucid/replica/v1" + CHUNK + bytes([j]), key=made.SECRET).hexdigest() == stored


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_replica_secret_of_another_size_has_no_keys(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        replica_key(bytes(size), CHUNK, 0)


def test_stored_records_are_read_and_written_for_ever() -> None:
    deposit, receipt = bytes.fromhex(STORED["deposit"]), bytes.fromhex(STORED["receipt"])
    assert (read_deposit(deposit, NETWORK), pack(DEPOSIT)) == (DEPOSIT, deposit)
    assert (read_receipt(receipt, NETWORK), pack(RECEIPT)) == (RECEIPT, receipt)
    fields = cbor2.loads(receipt)
    assert fields == {
        "v": 1,
        "network": NETWORK,
        "chunk": CHUNK,
        "j": 1,
        "root": segment_root(made.REPLICA),
        "size": made.SIZE,
        "holder": made.HOLDER.public,
        "owner": made.OWNER.public,
        "since": 1 << 33,
        "until": (1 << 33) + 9,
    }
    assert cbor2.loads(deposit)["roots"] == list(made.ROOTS)
    assert signable(RECEIPT) == b"lucid/receipt/v1" + NETWORK + receipt == bytes.fromhex(STORED["receipt_signable"])
    assert receipt_id(RECEIPT) == by_hand(b"receipt", receipt) == bytes.fromhex(STORED["receipt_id"])
    for key, name, record in ((made.OWNER, "deposit", deposit), (made.HOLDER, "receipt", receipt)):
        assert verify(key.public, bytes.fromhex(STORED[f"{name}_signature"]), name, NETWORK, record)
    assert signable(DEPOSIT) == b"lucid/deposit/v1" + NETWORK + deposit


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"network": OTHER}, "another network"),
        ({"roots": made.ROOTS[:2]}, "3 different roots"),
        ({"roots": (made.ROOTS[0], made.ROOTS[0], made.ROOTS[1])}, "3 different roots"),
    ],
)
def test_a_deposit_that_commits_to_less_is_malformed(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Malformed, match=sentence):
        read_deposit(pack(replace(DEPOSIT, **change)), NETWORK)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"network": OTHER}, "another network"), ({"until": RECEIPT.since}, "no time"), ({"until": 0}, "no time")],
)
def test_a_receipt_for_elsewhere_or_for_no_time_is_malformed(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Malformed, match=sentence):
        read_receipt(pack(replace(RECEIPT, **change)), NETWORK)


@pytest.mark.parametrize("size", [0, REPLICA_BYTES_MAX + 1])
def test_replicas_of_no_or_absurd_size_have_no_records(size: int) -> None:
    for record in (DEPOSIT, RECEIPT):
        with pytest.raises(Malformed):
            pack(replace(record, size=size))


def test_the_largest_records_fit_their_caps_and_longer_ones_are_not_looked_at() -> None:
    most = (1 << 64) - 1
    large = replace(DEPOSIT, opened=most, size=REPLICA_BYTES_MAX)
    assert read_deposit(pack(large), NETWORK) == large
    long = replace(RECEIPT, j=2, since=most - 1, until=most, size=REPLICA_BYTES_MAX)
    assert read_receipt(pack(long), NETWORK) == long
    for read in (read_deposit, read_receipt):
        with pytest.raises(Malformed, match="too long"):
            read(bytes(513), NETWORK)


@given(st.data())
def test_damaged_records_are_malformed_or_say_something_else(data: st.DataObject) -> None:
    for record, read in ((DEPOSIT, read_deposit), (RECEIPT, read_receipt)):
        packed = bytearray(pack(record))
        packed[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        try:
            found: Deposit | Receipt = read(bytes(packed), NETWORK)
        except Malformed:
            continue
        assert pack(found) == packed
        assert found != record


SLOT = RECEIPT.since


@pytest.mark.parametrize(
    ("change", "slot", "sentence"),
    [
        ({}, SLOT, None),
        ({}, SLOT + 8, None),
        ({}, SLOT - 1, "another time"),
        ({}, SLOT + 9, "another time"),
        ({"until": SLOT + 11}, SLOT, "another time"),
        ({"network": OTHER}, SLOT, "another chunk"),
        ({"chunk": Digest(bytes(32))}, SLOT, "another chunk"),
        ({"owner": NodeId(bytes(32))}, SLOT, "another chunk"),
        ({"j": 0}, SLOT, "other bytes"),
        ({"size": made.SIZE + 1}, SLOT, "other bytes"),
        ({"root": made.ROOTS[2]}, SLOT, "other bytes"),
        ({"holder": made.DEPOSIT.owner}, SLOT, "owner itself"),
    ],
)
def test_a_receipt_is_for_this_deposit_and_this_time_or_says_why_not(
    change: dict[str, Any], slot: int, sentence: str | None
) -> None:
    found = discrepancy(replace(RECEIPT, **change), DEPOSIT, slot, 10)
    assert (found is None) if sentence is None else (found is not None and sentence in found)


@given(st.integers(0, 1 << 40), st.integers(1, 100), st.integers(1, 400), st.integers(0, 50))
def test_a_term_covers_its_hour_and_ends_with_the_era_and_the_overlap(
    hour: int, hour_slots: int, era_hours: int, overlap: int
) -> None:
    since, until = term(hour, hour_slots, era_hours, overlap)
    assert since == hour * hour_slots < until
    assert (until // hour_slots - overlap) % era_hours == 0
    assert until - since <= (era_hours + overlap) * hour_slots


def test_challenges_are_the_stored_ones() -> None:
    for case in STORED["challenges"]:
        assert list(challenge(NETWORK, SEED, receipt_id(RECEIPT), case["hour"], case["size"])) == case["segments"]


def test_a_challenge_is_a_shuffle_of_the_hash_stream() -> None:
    """A second implementation: Fisher and Yates on a whole list."""
    hour, size = 1 << 33, 16_000_000
    cards = list(range(segment_count(size)))
    message = b"lucid/challenge/v1" + NETWORK + SEED + receipt_id(RECEIPT) + struct.pack(">Q", hour)
    for turn, word in enumerate(struct.unpack(">32Q", blake3(message).digest(length=256))):
        at = turn + word % (len(cards) - turn)
        cards[turn], cards[at] = cards[at], cards[turn]
    assert challenge(NETWORK, SEED, receipt_id(RECEIPT), hour, size) == tuple(sorted(cards[:32]))


@given(digests, digests, hours, st.integers(1, REPLICA_BYTES_MAX))
def test_a_challenge_asks_for_different_segments_that_are_there(
    seed: Digest, receipt: Digest, hour: int, size: int
) -> None:
    drawn = challenge(NETWORK, seed, receipt, hour, size)
    count = -(-size // SEGMENT)
    assert segment_count(size) == count
    assert len(drawn) == min(CHALLENGED, count)
    assert list(drawn) == sorted(set(drawn))
    assert 0 <= drawn[0] <= drawn[-1] < count


def test_another_hour_seed_receipt_or_network_asks_for_other_segments() -> None:
    size = 16_000_000
    same = (NETWORK, SEED, CHUNK, 7)
    others: list[tuple[Network, Digest, Digest, int]] = [
        same,
        (OTHER, SEED, CHUNK, 7),
        (NETWORK, CHUNK, CHUNK, 7),
        (NETWORK, SEED, SEED, 7),
        (NETWORK, SEED, CHUNK, 8),
    ]
    assert len({challenge(*each, size) for each in others}) == len(others)


def test_every_segment_is_asked_for_about_equally_often() -> None:
    counts = [0] * 50
    for hour in range(1000):
        for index in challenge(NETWORK, SEED, CHUNK, hour, 50 * SEGMENT):
            counts[index] += 1
    assert 560 < min(counts) <= max(counts) < 720  # 640 expected, standard deviation 15


def test_the_stored_answer_is_shown_and_holds() -> None:
    parts = show(memoryview(made.REPLICA), [0, 2, 3])
    for part, stored in zip(parts, STORED["answer"], strict=True):
        assert (part.number, blake3(part.data).hexdigest()) == (stored["number"], stored["bytes"])
        assert [one.hex() for one in part.proof] == stored["proof"]
        assert shown(RECEIPT.root, RECEIPT.size, part)


@pytest.mark.parametrize("number", [-1, 4, 1 << 40])
def test_a_segment_that_is_not_there_is_not_shown(number: int) -> None:
    with pytest.raises(IndexError):
        show(made.REPLICA, [number])
    assert not shown(RECEIPT.root, made.SIZE, Segment(number, b"", ()))


@given(st.data())
def test_a_segment_with_anything_changed_does_not_hold(data: st.DataObject) -> None:
    number = data.draw(st.integers(0, 3))
    (part,) = show(made.REPLICA, [number])
    at, bit = data.draw(st.integers(0, len(part.data) - 1)), data.draw(st.integers(0, 7))
    flipped = bytearray(part.data)
    flipped[at] ^= 1 << bit
    wrong = [
        part._replace(data=bytes(flipped)),
        part._replace(data=part.data[:-1]),
        part._replace(data=part.data + b"\0"),
        part._replace(data=b""),
        part._replace(proof=part.proof[::-1]) if part.proof[::-1] != part.proof else part._replace(proof=()),
        part._replace(proof=(*part.proof, bytes(32))),
        *[part._replace(number=other) for other in range(-1, 6) if other != number],
    ]
    for one in wrong:
        assert not shown(RECEIPT.root, made.SIZE, one)
    assert not shown(made.ROOTS[0], made.SIZE, part)
    assert not shown(RECEIPT.root, made.SIZE + 1, part) or number < 3  # the size binds the last segment,
    assert not shown(RECEIPT.root, made.SIZE + SEGMENT, part)  # and their number all


def test_an_answer_passes_whole_and_in_order_only() -> None:
    asked = challenge(NETWORK, SEED, receipt_id(RECEIPT), 5, made.SIZE)
    answer = show(made.REPLICA, asked)
    assert passed(RECEIPT.root, made.SIZE, asked, answer)
    assert not passed(RECEIPT.root, made.SIZE, asked, answer[:-1])
    assert not passed(RECEIPT.root, made.SIZE, asked, answer[::-1])
    assert not passed(RECEIPT.root, made.SIZE, asked, (*answer, answer[0]))
    assert not passed(made.ROOTS[2], made.SIZE, asked, answer)
    assert not passed(RECEIPT.root, made.SIZE, asked, ())


REGISTRY = made.REGISTRY
ENTITIES = {one.node: one.entity for one in REGISTRY}


def test_stored_orders_are_by_keyed_hash_among_those_with_room() -> None:
    for j in range(REPLICAS):
        key = placement_key(NETWORK, SEED, CHUNK, j)
        assert key == by_hand(b"place", SEED + CHUNK + bytes([j])) == bytes.fromhex(STORED["placement_keys"][j])
        room = [one.node for one in REGISTRY if one.capacity >= 20_000]
        expected = sorted(room, key=lambda node: blake3(node, key=key).digest())[:10]
        assert order(key, REGISTRY, 20_000, 10) == tuple(expected)
        assert [node.hex() for node in expected] == STORED["orders"][j]


def test_stored_lots_name_the_stored_watchers_and_leader() -> None:
    holders = tuple(one.node for one in REGISTRY[:MEMBERS_MAX])
    owner = NodeId(made.OWNER.public)
    drawn = lots(NETWORK, SEED, CHUNK, 1 << 33)
    assert drawn == by_hand(b"watch", SEED + CHUNK + struct.pack(">Q", 1 << 33)) == bytes.fromhex(STORED["lots"])
    words = struct.unpack(">8I", drawn)
    for at, stored in enumerate(STORED["watchers"]):
        pool = [*holders[:at], *holders[at + 1 :], owner]
        assert watcher(drawn, holders, at, owner) == pool[words[at] % len(pool)] == bytes.fromhex(stored)
    assert leader(drawn, holders) == holders[words[7] % len(holders)] == bytes.fromhex(STORED["leader"])


def test_stored_first_holders_are_of_distinct_entities_and_not_the_owners() -> None:
    chosen = first_holders(NETWORK, SEED, CHUNK, 20_000, b"entity 20", REGISTRY)
    assert [node and node.hex() for node in chosen] == STORED["first_holders"]
    entities = [ENTITIES[node] for node in chosen if node is not None]
    assert len(set(entities)) == REPLICAS
    assert b"entity 20" not in entities


@given(st.lists(st.integers(0, 5), min_size=0, max_size=12), digests, st.integers(0, 5))
def test_no_entity_holds_two_and_a_replica_is_unplaced_only_for_want_of_entities(
    entities: list[int], chunk: Digest, owner: int
) -> None:
    registry = [Registrant(NodeId(bytes([at]) * 32), bytes([entity]), 10) for at, entity in enumerate(entities)]
    chosen = first_holders(NETWORK, SEED, chunk, 10, bytes([owner]), registry)
    found = [registry[node[0]].entity for node in chosen if node is not None]
    assert len(set(found)) == len(found) == min(REPLICAS, len(set(entities) - {owner}))
    assert bytes([owner]) not in found
    assert first_holders(NETWORK, SEED, chunk, 11, bytes([owner]), registry) == (None,) * REPLICAS


@given(digests, st.integers(0, 255), st.integers(0, 59))
def test_a_node_that_leaves_moves_nobody_else(chunk: Digest, j: int, gone: int) -> None:
    key = placement_key(NETWORK, SEED, chunk, j)
    whole = order(key, REGISTRY, 0, 60)
    left = [one for at, one in enumerate(REGISTRY) if at != gone]
    assert order(key, left[::-1], 0, 60) == tuple(node for node in whole if node != REGISTRY[gone].node)


def test_placement_and_watching_are_shared_out_evenly() -> None:
    nodes = [Registrant(NodeId(bytes([at]) * 32), bytes([at]), 1) for at in range(10)]  # ids far from evenly spread
    firsts = dict.fromkeys((one.node for one in nodes), 0)
    holders = tuple(one.node for one in nodes[:3])
    watched = dict.fromkeys((*holders[1:], nodes[9].node), 0)
    led = dict.fromkeys(holders, 0)
    for turn in range(3000):
        chunk = Digest(blake3(turn.to_bytes(4, "big")).digest())
        firsts[order(placement_key(NETWORK, SEED, chunk, 0), nodes, 1, 1)[0]] += 1
        drawn = lots(NETWORK, SEED, chunk, turn)
        watched[watcher(drawn, holders, 0, nodes[9].node)] += 1
        led[leader(drawn, holders)] += 1
    assert all(240 < times < 360 for times in firsts.values())
    assert all(900 < times < 1100 for times in [*watched.values(), *led.values()])


def test_the_next_holder_skips_the_unknown_the_taken_and_the_passed_over() -> None:
    nodes = [one.node for one in REGISTRY[:4]]
    entities = {node: bytes([at]) for at, node in enumerate(nodes) if at != 0}
    assert next_holder(nodes, entities, {b"\x01"}, {nodes[2]: None}) == nodes[3]
    assert next_holder(nodes, entities, {b"\x01"}, ()) == nodes[2]
    assert next_holder(nodes, entities, set(entities.values()), ()) is None
    assert next_holder((), entities, (), ()) is None
