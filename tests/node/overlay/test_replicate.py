"""Replication: chunks get onto three entities and stay there, and nobody gains by lying, flooding or dropping."""

import random
from dataclasses import replace
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.beacon import Receipt, Segment, challenge, discrepancy, read_receipt, show, signable
from consensus.encoding import Malformed, encode
from consensus.ids import Digest, Network, NodeId
from consensus.merkle import SEGMENT, segment_root
from consensus.placement import MEMBERS_MAX, Registrant
from consensus.records import pack
from node.overlay import replica_frames as frames
from node.overlay.custody import (
    HOUR_MS,
    Challenged,
    Custody,
    Discard,
    Fetch,
    Fetched,
    Lost,
    Place,
    Placed,
    ReadSegments,
    Repaired,
    RepairStarted,
    ReplicaDamaged,
    SegmentsRead,
    Serve,
    Stored,
    Uncounted,
    Unplaced,
    live_holders,
    read_incoming,
    read_row,
)
from node.overlay.machine import Action, Channel, Finished, Noted, Persist, Rejected, Send, SetTimer, Unreadable
from node.overlay.placing import ERAS_KEPT, Register
from node.overlay.replica_frames import Answered, ReplicaFrame, ReplicaOffer, SegmentsAsked, SignedReceipt
from node.overlay.replicate import ROUND
from node.overlay.watching import is_turn
from tests.examples import examples
from tests.node.overlay.replica_world import FAST, NETWORK, Pen, Site, World, encoded, node_id, seed_of, verify

OWNER = node_id(0)
NOW = 1000 * FAST.hour_slots
"""The slot in which every world begins."""
NONCE = Digest(b"n" * 32)
DATA = blake3(b"a sealed chunk").digest(length=3 * SEGMENT + 5)


def state(thing: Any) -> Any:
    """Everything a machine keeps, comparable; what it was given to call is left out."""
    match thing:
        case random.Random():
            return thing.getstate()
        case dict():
            return [(state(key), state(value)) for key, value in thing.items()]
        case list() | tuple():
            return [state(item) for item in thing]
        case int() | bytes() | str() | None:
            return thing
        case _ if callable(thing):
            return None
        case _:
            names = [*getattr(thing, "__slots__", ()), *getattr(thing, "__dict__", {})]
            return type(thing).__name__, [(name, state(getattr(thing, name))) for name in names if hasattr(thing, name)]


def settled(size: int = 12, hours: float = 2, **options: Any) -> tuple[World, Digest]:
    world = World(size, **options)
    world.strike()
    chunk = world.place(OWNER, DATA)
    world.run(hours)
    return world, chunk


def custody(site: Site, chunk: Digest) -> Custody:
    return site.machine._custodies[chunk]


def test_a_row_tells_its_live_holders_without_being_restored() -> None:
    world, chunk = settled()
    for site in world.sites.values():
        for one in site.machine._custodies.values():
            for holding in list(one.holders.values())[:1]:
                holding.live = False
            one.close_ring(site.node)
            row = one.persist().value
            assert row is not None
            assert live_holders(row) == len(one.ring)
    assert live_holders(custody(world.sites[OWNER], chunk).persist().value or b"") == 2
    for broken in (
        b"",
        b"\x80",
        encode([1, b"", b"", True, None, [], [], []]),
        encode([2, b"", b"", True, None, [], []]),
    ):
        with pytest.raises(Malformed):
            live_holders(broken)


def facts(world: World, kind: type) -> list[Any]:
    return [fact for site in world.sites.values() for fact in site.facts_of(kind)]


def refused(site: Site, peer: NodeId, frame: bytes, exchange: int = 0) -> str:
    """That the frame changes nothing and is rejected once; the reason."""
    before = state(site.machine)
    actions = site.machine.on_frame(site.world.now, peer, frame, exchange)
    assert state(site.machine) == before
    match actions:
        case [Noted(Rejected(told, reason))]:
            assert told == peer
            return reason
        case _:
            raise AssertionError(actions)


def passed_over(site: Site, peer: NodeId, signed: SignedReceipt) -> str:
    """That a receipt is not counted and nobody blamed; the reason."""
    receipt = read_receipt(signed.packed, NETWORK)
    known, spent = state(custody(site, receipt.chunk)), site.machine._frames.get(peer, 0)
    actions = site.machine.on_frame(site.world.now, peer, frames.told((signed,)))
    assert state(custody(site, receipt.chunk)) == known
    assert site.machine._frames[peer] == spent + 2  # the frame, and as much again for what it cost to judge it
    match actions:
        case [Noted(Uncounted(chunk, holder, told, reason))]:
            assert (chunk, holder, told) == (receipt.chunk, receipt.holder, peer)
            return reason
        case _:
            raise AssertionError(actions)


def test_a_chunk_gets_onto_three_entities_whose_receipts_anyone_can_check() -> None:
    world, chunk = settled()
    held = world.holders(chunk)
    assert sorted(held.values()) == [0, 1, 2]
    assert OWNER not in held
    ((call, placed),) = world.sites[OWNER].finished
    assert call == 7
    assert isinstance(placed, Placed)
    assert {node: j for j, node in enumerate(placed.holders)} == held
    deposit = custody(world.sites[OWNER], chunk).deposit
    for node, signed in zip(placed.holders, placed.receipts, strict=True):
        receipt = read_receipt(signed.packed, NETWORK)
        assert receipt.holder == node
        assert discrepancy(receipt, deposit, 1001 * 30, 192 * 30) is None
        assert verify(node, signed.signature, signable(receipt))
    assert sorted(fact.holder for fact in facts(world, Stored)) == sorted(held)
    for node in held:  # and everybody who watches knows everybody
        assert custody(world.sites[node], chunk).ring == tuple(sorted(held))
    assert world.rejections() == []


def test_in_a_healthy_network_every_holder_passes_a_challenge_every_third_hour_and_little_else_happens() -> None:
    world, _chunk = settled()
    for site in world.sites.values():
        site.facts.clear()
    sets = world.events
    world.run(100)
    passes = facts(world, Challenged)
    assert all(fact.passed for fact in passes)
    assert 99 <= len(passes) <= 140  # three holders, and those that one member was not drawn for in twelve hours
    assert facts(world, RepairStarted) == world.rejections() == []
    # a seed for each node, a round for each of the four members; and for each challenge three events and a deadline
    assert world.events - sets < (12 + 4) * 100 + 4 * 140


def test_a_node_without_chunks_has_no_timers() -> None:
    world = World(4)
    world.run(5)
    assert all(site.timers == {} and site.rows == {} for site in world.sites.values())


def test_with_two_of_three_gone_the_owner_encodes_both_anew_within_a_day() -> None:
    world, chunk = settled(hours=30)
    for node in list(world.holders(chunk))[:2]:
        world.kill(node)
    world.run(28)
    assert sorted(world.holders(chunk).values()) == [0, 1, 2]
    assert len(facts(world, Repaired)) == len(facts(world, RepairStarted)) == 2
    assert facts(world, Lost) == world.rejections() == []


@pytest.mark.parametrize("killed", [1, 2])
def test_without_the_owner_the_next_in_order_get_copies_of_a_replica_that_is_left(killed: int) -> None:
    world, chunk = settled(hours=30)
    gone = list(world.holders(chunk))[:killed]
    for node in [*gone, OWNER]:
        world.kill(node)
    left = world.holders(chunk)
    world.run(30)
    held = world.holders(chunk)
    assert len(held) == 3
    assert set(held.values()) == set(left.values())  # no encoding is new
    repairs = facts(world, Repaired)
    assert {fact.old for fact in repairs} == set(gone)
    assert {fact.new for fact in repairs} == set(held) - set(left)
    assert world.rejections() == []


@pytest.mark.parametrize("killed", [1, 2])
def test_an_owner_whose_disk_lost_the_chunk_promises_nothing_and_the_holders_copy_it(killed: int) -> None:
    world, chunk = settled(hours=30)
    owner, gone = world.sites[OWNER], list(world.holders(chunk))[:killed]
    kept = owner.own.pop(chunk)
    for node in gone:
        world.kill(node)
    left = world.holders(chunk)
    world.run(30)
    assert len(world.holders(chunk)) == 3
    assert set(world.holders(chunk).values()) == set(left.values())  # no encoding is new
    # Once it is there again the owner encodes what is lacking.
    owner.own[chunk] = kept
    world.run(6)
    assert set(world.holders(chunk).values()) == {0, 1, 2}
    assert world.rejections() == []


def test_the_last_holder_alone_brings_every_chunk_of_a_dozen_back_to_three() -> None:
    world = World(12, seed=4)
    world.strike()
    chunks = [world.place(node_id(number), DATA + bytes([number]), 1) for number in range(12)]
    world.run(30)
    assert all(len(world.holders(chunk)) == 3 for chunk in chunks)
    for node in list(world.holders(chunks[0]))[:2]:
        world.kill(node)
    world.run(32)
    assert all(len(world.holders(chunk)) == 3 for chunk in chunks)
    assert world.rejections() == []


def test_who_comes_back_is_believed_after_a_challenge_and_the_era_change_trims_to_three_encodings() -> None:
    world, chunk = settled(hours=30)
    gone = [*list(world.holders(chunk))[:2], OWNER]
    for node in gone:
        world.kill(node)
    world.run(60)
    assert len(set(world.holders(chunk).values())) == 1
    for node in gone:
        world.restart(node)
    world.run(8)
    assert set(world.holders(chunk).values()) == {0, 1, 2}
    assert len(world.holders(chunk)) > 3
    world.run(2 * 168)
    held = world.holders(chunk)
    assert sorted(held.values()) == [0, 1, 2]
    for node in held:
        assert custody(world.sites[node], chunk).ring == tuple(sorted(held))
    assert world.rejections() == []


def test_a_holder_that_signed_and_has_not_the_bytes_is_found_out_and_replaced() -> None:
    world, chunk = settled()
    liar = min(world.holders(chunk))
    world.sites[liar].spoil = lambda data: bytes(len(data))
    world.run(40)
    assert liar not in world.holders(chunk)
    assert sorted(world.holders(chunk).values()) == [0, 1, 2]
    assert {(fact.peer, fact.reason) for fact in world.rejections()} == {(liar, "a segment that is not the replica's")}
    assert not any(fact.passed for fact in facts(world, Challenged)[-1:] if fact.holder == liar)


def test_a_holder_that_stops_answering_is_replaced_after_a_day_and_not_before() -> None:
    world, chunk = settled()
    silent = min(world.holders(chunk))
    world.sites[silent].mute = True
    world.run(9)
    assert facts(world, RepairStarted) == []
    world.run(20)
    ((_, _, old, new),) = facts(world, Repaired)
    assert old == silent
    assert new in world.holders(chunk)


def test_a_holder_whose_disk_failed_says_so_and_is_replaced_at_once() -> None:
    world, chunk = settled()
    unlucky = min(world.holders(chunk))
    j = world.holders(chunk)[unlucky]
    world.sites[unlucky].disk.clear()
    world.run(3)
    assert facts(world, ReplicaDamaged) == [ReplicaDamaged(chunk, j)]
    assert [fact.old for fact in facts(world, Repaired)] == [unlucky]
    assert sorted(world.holders(chunk).values()) == [0, 1, 2]
    assert chunk not in world.sites[unlucky].machine._custodies or unlucky in world.holders(chunk)


def test_when_all_holders_are_gone_the_owner_says_lost_until_one_comes_back() -> None:
    world, chunk = settled(4, hours=30)
    held = world.holders(chunk)
    for node in held:
        world.kill(node)
    world.run(30)
    assert facts(world, Lost) == [Lost(chunk)]
    for node in held:
        world.restart(node)
    world.run(26)
    assert world.holders(chunk) == held
    assert custody(world.sites[OWNER], chunk).ring == tuple(sorted(held))


def test_a_node_that_was_cut_off_replaces_nobody() -> None:
    world, chunk = settled(hours=30)
    alone = min(world.holders(chunk))
    site = world.sites[alone]
    site.machine.on_peer_lost(world.now, node_id(999))
    others = [node for node in world.sites if node != alone]
    for node in others:
        world.kill(node)
    world.run(72)
    assert site.facts_of(RepairStarted) == []
    assert len([fact for fact in site.facts_of(Challenged) if not fact.passed]) > 100
    for node in others:
        world.sites[node].alive = True
    world.run(3)
    assert site.facts_of(RepairStarted) == []


def test_three_identities_of_one_entity_get_one_replica() -> None:
    world, chunk = settled(16, entities=lambda number: b"entity %d" % (number // 4))
    entities = {one.node: one.entity for one in world.registry}
    held = {entities[node] for node in world.holders(chunk)}
    assert len(held) == 3
    assert b"entity 0" not in held


def test_with_two_entities_only_the_third_replica_stays_unplaced_and_is_tried_every_hour() -> None:
    world, chunk = settled(12, hours=5, entities=lambda number: b"entity %d" % (number % 3))
    assert len(world.holders(chunk)) == 2
    assert world.sites[OWNER].finished == []
    assert 5 <= len(facts(world, Unplaced)) <= 9  # each HOUR, and when another replica finds its place


def test_an_owner_whose_bytes_are_not_what_it_committed_to_gets_no_receipt() -> None:
    world = World(12)
    world.strike()
    world.sites[OWNER].spoil = lambda data: data + b"more than was stated"
    chunk = world.place(OWNER, DATA)
    world.run(1)
    assert world.holders(chunk) == {}
    assert facts(world, Stored) == []
    assert {(fact.peer, fact.reason) for fact in world.rejections()} == {
        (OWNER, "a replica that is not what its owner committed to")
    }
    for site in world.sites.values():
        assert site.disk == {}
        assert site.machine._taking._bytes == 0


def test_receipts_are_renewed_each_era_and_known_to_all_before_the_old_ones_end() -> None:
    world, chunk = settled()
    world.run(168 + 30)
    slot = world.now // HOUR_MS * 30
    for node in [*world.holders(chunk), OWNER]:
        known = custody(world.sites[node], chunk)
        assert all(holding.until > slot for holding in known.holders.values())
        assert known.until > slot or node == OWNER
    assert world.rejections() == []


# Restarts.


def test_a_restarted_holder_resumes_its_transfer() -> None:
    world = World(12)
    world.strike()
    chunk = world.place(OWNER, DATA)
    world.run(0.004)
    (node, *_) = [node for node, site in world.sites.items() if site.facts_of(Fetch)]
    world.kill(node)
    world.run(0.01)
    world.restart(node)
    world.run(0.1)
    assert node in world.holders(chunk)
    assert world.rejections() == []


def test_restarted_holders_answer_for_what_they_signed_and_a_restarted_owner_goes_on_placing() -> None:
    world = World(12)
    world.strike()
    chunk = world.place(OWNER, DATA)
    world.run(0.004)
    world.restart(OWNER)
    world.run(3)
    held = world.holders(chunk)
    assert sorted(held.values()) == [0, 1, 2]
    for node in held:
        world.restart(node)
    for site in world.sites.values():
        site.facts.clear()
    world.run(40)
    assert world.holders(chunk) == held
    assert len([fact for fact in facts(world, Challenged) if fact.passed]) >= 40
    assert facts(world, RepairStarted) == world.rejections() == []


def test_what_is_persisted_is_what_is_known() -> None:
    world, _chunk = settled(hours=30)
    for site in world.sites.values():
        again = site.boot()
        again.start(world.now)
        assert again._custodies.keys() == site.machine._custodies.keys()
        for kept, known in zip(again._custodies.values(), site.machine._custodies.values(), strict=True):
            assert kept.persist() == known.persist()
            assert (kept.ring, kept.mine, kept.name) == (known.ring, known.mine, known.name)
        assert again._taking._bytes == site.machine._taking._bytes


def test_a_torn_row_costs_its_own_chunk_alone() -> None:
    world, chunk = settled(hours=2)
    site = next(site for site in world.sites.values() if any(key[0] == "at" for key in site.rows))
    (key,) = [key for key in site.rows if key[0] == "at"]
    whole = site.rows[key]
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        site.rows[key] = whole[:size]
        site.rows["at", b"another"] = whole
        again = site.boot()
        assert Noted(Unreadable(1)) in again.start(world.now)
        assert list(again._custodies) == [chunk]
    site.rows = {("in", chunk): whole[:40]}
    assert site.boot().start(world.now) == [Noted(Unreadable(1))]


@given(st.data())
def test_a_damaged_row_is_malformed_or_another_row(data: st.DataObject) -> None:
    rows = [row for site in SETTLED.sites.values() for row in site.rows.values()]
    row = bytearray(data.draw(st.sampled_from(rows)))
    row[data.draw(st.integers(0, len(row) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for read in (read_row, read_incoming):
        try:
            read(bytes(row), NETWORK)
        except Malformed:
            continue
    with pytest.raises(Malformed):
        read_row(bytes(row[:-1]), NETWORK)


# One machine, frame by frame.

SETTLED, CHUNK = settled()


def fresh() -> tuple[World, Digest, Site, Site, Site]:
    """A settled world: the holders of replicas 0, 1 and 2."""
    world, chunk = settled()
    by_number = {j: world.sites[node] for node, j in world.holders(chunk).items()}
    return world, chunk, by_number[0], by_number[1], by_number[2]


def receipt_of(site: Site, chunk: Digest, **change: Any) -> SignedReceipt:
    """A holder's receipt with something changed, signed again by whom it now names."""
    own = custody(site, chunk).signed
    assert own is not None
    receipt = replace(read_receipt(own.packed, NETWORK), **change)
    return SignedReceipt(pack(receipt), Pen(receipt.holder).sign("receipt", receipt.network, pack(receipt)))


def next_round(site: Site) -> list[Action]:
    """The actions of a site's next round, its world stopped there."""
    hour = site.world.now // HOUR_MS + 1
    site.world.now = type(site.world.now)(hour * HOUR_MS)
    for other in site.world.sites.values():
        other.machine.on_seed(site.world.now, hour, seed_of(hour))
    return site.machine.on_timer(site.world.now, ROUND)


def challenged(one: Site, chunk: Digest) -> tuple[NodeId, SegmentsAsked]:
    """A challenge that the site makes, hours later if need be."""
    for _ in range(20):
        for action in next_round(one):
            if isinstance(action, Send):
                asked = frames.read(action.frame)
                if isinstance(asked, SegmentsAsked):
                    return action.peer, asked
    raise AssertionError("not drawn in twenty HOURs")


def spelled(asked: SegmentsAsked) -> bytes:
    assert asked.nonce is not None
    return frames.asked(asked.hour, asked.nonce, list(asked.items))


def answer(one: Site, peer: NodeId, asked: SegmentsAsked) -> bytes:
    """The true answer of a challenged site, by its own machine."""
    site = one.world.sites[peer]
    sent = site.machine.on_frame(one.world.now, one.node, spelled(asked))
    (order,) = [a.fact for a in sent if isinstance(a, Noted) and isinstance(a.fact, ReadSegments)]
    found = tuple(show(site.disk[want.root], want.indexes) for want in order.wants)
    (send,) = site.machine.on_command(one.world.now, 0, SegmentsRead(order.ref, found))
    assert isinstance(send, Send)
    assert (send.peer, send.channel, send.exchange) == (one.node, Channel.REPLICAS, 0)
    return send.frame


def test_an_answer_passes_once_and_its_replay_or_one_of_another_hour_not_at_all() -> None:
    world, chunk, one, *_ = fresh()
    peer, asked = challenged(one, chunk)
    frame = answer(one, peer, asked)
    j = custody(one, chunk).holders[peer].j
    assert one.machine.on_frame(world.now, peer, frame) == [Noted(Challenged(chunk, j, peer, passed=True))]
    assert refused(one, peer, frame) == "an answer to no open challenge"
    while True:
        again, later = challenged(one, chunk)
        if again == peer:
            break
    assert later.hour > asked.hour
    assert refused(one, peer, frame) == "an answer to no open challenge"
    assert refused(one, OWNER, answer(one, peer, later)) == "an answer to no open challenge"


def test_an_answer_after_the_deadline_is_none() -> None:
    world, chunk, one, *_ = fresh()
    peer, asked = challenged(one, chunk)
    frame = answer(one, peer, asked)
    world.now = type(world.now)(world.now + FAST.answer_ms)
    assert refused(one, peer, frame) == "an answer to no open challenge"
    missed = one.machine.on_timer(world.now, ("replicate", "asks"))
    assert Noted(Challenged(chunk, custody(one, chunk).holders[peer].j, peer, passed=False)) in missed
    assert refused(one, peer, frame) == "an answer to no open challenge"


def test_wrong_segments_wrong_proofs_and_unasked_segments_are_rejected_and_the_challenge_stays_open() -> None:
    world, chunk, one, *_ = fresh()
    peer, asked = challenged(one, chunk)
    right = frames.read(answer(one, peer, asked))
    assert isinstance(right, frames.SegmentsShown)
    ((_, parts),) = right.items
    first = parts[0]
    for wrong, reason in [
        (first._replace(data=bytes(SEGMENT)), "not the replica's"),
        (first._replace(proof=first.proof[::-1]), "not the replica's"),
        (first._replace(proof=()), "not the replica's"),
        (first._replace(number=1), "not asked for|not the replica's"),
        (first._replace(number=99), "not asked for"),
    ]:
        frame = frames.shown(right.hour, [(chunk, (wrong, *parts[1:]))])
        assert any(each in refused(one, peer, frame) for each in reason.split("|"))
    twice = frames.shown(right.hour, [(chunk, (first, first))])
    assert refused(one, peer, twice) == "a segment that was not asked for"
    assert refused(one, peer, frames.shown(right.hour + 1, [(chunk, parts)])) == "an answer to no open challenge"
    half = one.machine.on_frame(world.now, peer, frames.shown(right.hour, [(chunk, parts[:2])]))
    assert half == []  # an answer may come in several frames, each segment once
    assert refused(one, peer, frames.shown(right.hour, [(chunk, parts[1:])])) == "a segment that was not asked for"
    (passed,) = one.machine.on_frame(world.now, peer, frames.shown(right.hour, [(chunk, parts[2:])]))
    assert isinstance(passed, Noted)
    assert passed.fact.passed  # type: ignore[attr-defined]


def test_what_a_member_asks_for_neither_the_hour_nor_another_challenge_tells() -> None:
    big = blake3(b"big").digest(length=64 * SEGMENT)
    world = World(6, seed=5)
    world.strike()
    chunks = [world.place(OWNER, big + bytes([number]), number) for number in range(2)]
    world.run(2)
    site = world.sites[OWNER]
    seen: dict[Digest, list[tuple[int, ...]]] = {chunk: [] for chunk in chunks}
    nonces = []
    for _ in range(12):
        for action in next_round(site):
            if isinstance(action, Send) and isinstance(asked := frames.read(action.frame), SegmentsAsked):
                nonces.append(asked.nonce)
                for chunk, name in asked.items:
                    drawn = tuple(site.machine._watch._asks[action.peer, chunk].left)
                    assert asked.nonce is not None
                    assert drawn == challenge(NETWORK, asked.nonce, name, asked.hour, len(big) + 1)
                    assert drawn != challenge(NETWORK, seed_of(asked.hour), name, asked.hour, len(big) + 1)
                    seen[chunk].append(drawn)
    assert len(nonces) == len(set(nonces)) >= 6
    for draws in seen.values():
        assert len(draws) == len(set(draws)) >= 3


def test_a_challenge_as_it_was_asked_before_there_were_nonces_is_answered() -> None:
    _, chunk, one, *_ = fresh()
    hour, name = one.world.now // HOUR_MS, custody(one, chunk).name
    frame = encode([1, 5, hour, [[chunk, name]]])
    asked = frames.read(frame)
    assert asked == SegmentsAsked(hour, ((chunk, name),), None)
    (order,) = [one.fact for one in one.machine.on_frame(one.world.now, OWNER, frame) if isinstance(one, Noted)]
    assert isinstance(order, ReadSegments)
    drawn = challenge(NETWORK, seed_of(hour), name, hour, len(DATA))
    assert tuple(index for want in order.wants for index in want.indexes) == drawn


@given(st.binary(min_size=32, max_size=32), st.integers(0, 10**6), st.integers(1, 360))
def test_a_chunk_has_its_turn_once_in_so_many_hours(chunk: bytes, hour: int, every: int) -> None:
    assert sum(is_turn(Digest(chunk), at, every) for at in range(hour, hour + every)) == 1


def test_turns_of_many_chunks_are_spread_over_the_hours() -> None:
    chunks = [blake3(number.to_bytes(2, "big")).digest() for number in range(3_000)]
    counts = [sum(is_turn(Digest(chunk), hour, 3) for chunk in chunks) for hour in range(3)]
    assert sum(counts) == 3_000
    assert max(counts) < 1_150


@pytest.mark.parametrize("seed", range(4))
def test_new_holders_pass_within_the_next_two_hours_and_a_lie_replaces_none_that_passes(seed: int) -> None:
    world = World(12, seed=seed)
    world.strike()
    chunks = [world.place(OWNER, DATA + bytes([number]), number) for number in range(12)]
    world.run(2.5)  # a session is paid for sixty slots after its closing: two HOURs
    passed = {(fact.chunk, fact.holder) for fact in facts(world, Challenged) if fact.passed}
    assert passed == {(chunk, node) for chunk in chunks for node in world.holders(chunk)}
    world.run(40)
    for _ in range(13):
        world.run(1)
        for chunk in chunks:
            held = world.holders(chunk)
            liar, victim, *_ = held
            owner = world.sites[OWNER]
            (said,) = owner.machine.on_frame(world.now, liar, frames.missing(chunk, victim), -7)
            assert said == Send(liar, Channel.REPLICAS, frames.verdict(Answered.HELD), -7)
    assert facts(world, RepairStarted) == world.rejections() == []


@pytest.mark.parametrize("hours", [12, 16])
def test_who_is_off_for_a_night_and_comes_back_is_replaced_by_nobody(hours: int) -> None:
    for seed in range(3):
        world = World(16, seed=seed)
        world.strike()
        chunks = [world.place(OWNER, DATA + bytes([number]), number) for number in range(12)]
        world.run(30 + seed)
        held = [world.holders(chunk) for chunk in chunks]
        off = max(world.sites, key=lambda node: sum(node in one for one in held))
        world.kill(off)
        world.run(hours)
        world.restart(off)
        world.run(3)
        assert facts(world, RepairStarted) == world.rejections() == []
        assert [world.holders(chunk) for chunk in chunks] == held


def test_only_members_may_challenge_once_an_hour_for_an_hour_that_is_now() -> None:
    _, chunk, one, two, _ = fresh()
    hour = one.world.now // HOUR_MS
    name = custody(one, chunk).name
    stranger = next(node for node in one.world.sites if node not in {*one.world.holders(chunk), OWNER})
    assert one.machine.on_frame(one.world.now, stranger, frames.asked(hour, NONCE, [(chunk, name)])) == []
    for other in (hour + 1, hour - 10, 0, (1 << 64) - 1):
        assert "not now" in refused(one, two.node, frames.asked(other, NONCE, [(chunk, name)]))
    assert one.machine.on_frame(one.world.now, OWNER, frames.asked(hour, NONCE, [(chunk, name)]))
    assert refused(one, OWNER, frames.asked(hour, NONCE, [(chunk, name)])) == "a second challenge in one HOUR"
    assert refused(one, OWNER, frames.asked(hour - 1, NONCE, [(chunk, name)])) == "a second challenge in one HOUR"


def test_a_challenge_on_an_unknown_receipt_gets_the_current_one_and_on_an_unknown_chunk_a_release() -> None:
    _, chunk, one, *_ = fresh()
    hour = one.world.now // HOUR_MS
    other = Digest(b"o" * 32)
    actions = one.machine.on_frame(one.world.now, OWNER, frames.asked(hour, NONCE, [(chunk, other), (other, other)]))
    own = custody(one, chunk).signed
    assert own is not None
    assert actions == [
        Send(OWNER, Channel.REPLICAS, frames.released(other)),
        Send(OWNER, Channel.REPLICAS, frames.told((own,))),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"network": Network(b"x" * 32)}, "another network"),
        ({"since": 0, "until": 30}, "another time"),
        ({"since": 1 << 40, "until": 1 << 41}, "another time"),
        ({"until": 1 << 40}, "another time"),
        ({"root": Digest(bytes(32))}, "other bytes"),
        ({"size": 5}, "other bytes"),
        ({"j": 2}, "other bytes"),
        ({"owner": node_id(5)}, "another chunk"),
        ({"holder": OWNER}, "owner itself"),
    ],
)
def test_a_receipt_for_anything_else_is_rejected(change: dict[str, Any], reason: str) -> None:
    _, chunk, one, two, _ = fresh()
    signed = receipt_of(two, chunk, **change)
    teller = NodeId(change.get("holder", two.node))
    assert reason in refused(one, teller, frames.told((signed,)))
    if teller != two.node:
        assert reason in refused(one, two.node, frames.told((signed,)))


def test_a_receipt_is_rejected_without_its_holders_signature_or_from_one_who_has_no_part() -> None:
    world, chunk, one, two, three = fresh()
    outside = [node for node in world.sites if node not in {*world.holders(chunk), OWNER}]
    until = custody(two, chunk).until + 168 * 30
    soon = {"since": (until - 192 * 30), "until": until}
    world.now = type(world.now)(world.now + 168 * HOUR_MS)
    for site in (one, two, three):
        site.machine.on_seed(world.now, world.now // HOUR_MS, seed_of(1))
    good = receipt_of(two, chunk, **soon)
    assert refused(one, two.node, frames.told((SignedReceipt(good.packed, bytes(64)),))).endswith("not signed")
    new = receipt_of(two, chunk, holder=outside[0], **soon)
    assert refused(one, outside[1], frames.told((new,))) == "a receipt from one who has no part in it"
    forged = SignedReceipt(new.packed, good.signature)
    assert refused(one, outside[0], frames.told((forged,))).endswith("not signed")
    assert one.machine.on_frame(world.now, two.node, frames.told((good,))) != []
    assert one.machine.on_frame(world.now, two.node, frames.told((good,))) == []  # a duplicate says nothing new


def test_a_second_replica_for_one_entity_does_not_count_and_one_for_one_holder_is_rejected() -> None:
    world, chunk = settled(16, entities=lambda number: b"entity %d" % (number // 4))
    entities = {one.node: one.entity for one in world.registry}
    held = world.holders(chunk)
    one, two = (world.sites[node] for node in list(held)[:2])
    twin = next(node for node in world.sites if node not in held and entities[node] == entities[two.node])
    assert "one entity" in passed_over(one, twin, receipt_of(two, chunk, holder=twin))
    own = next(node for node in world.sites if node not in held and entities[node] == entities[one.node])
    assert "one entity" in passed_over(one, own, receipt_of(two, chunk, holder=own))
    deposit = custody(one, chunk).deposit
    other = (held[two.node] + 1) % 3
    second = receipt_of(two, chunk, j=other, root=deposit.roots[other])
    assert "one holder" in refused(one, two.node, frames.told((second,)))


def test_two_new_holders_of_one_entity_in_one_notice_are_one() -> None:
    world, chunk = settled(16, entities=lambda number: b"entity %d" % (number // 2))
    entities = {one.node: one.entity for one in world.registry}
    held = world.holders(chunk)
    one, two = (world.sites[node] for node in list(held)[:2])
    used = {entities[node] for node in [*held, OWNER]}
    pair = [node for node in world.sites if entities[node] not in used]
    pair = [node for node in pair if entities[node] == entities[pair[0]]]
    assert len(pair) == 2
    one.machine.on_frame(world.now, OWNER, frames.told(tuple(receipt_of(two, chunk, holder=node) for node in pair)))
    assert pair[0] in custody(one, chunk).ring
    assert pair[1] not in custody(one, chunk).holders


def test_a_self_declared_holder_counts_only_after_a_challenge_and_the_known_holders_are_bounded() -> None:
    world, chunk, one, two, _ = fresh()
    outside = [node for node in world.sites if node not in {*world.holders(chunk), OWNER}]
    ring = custody(one, chunk).ring
    for node in outside:
        one.machine.on_frame(world.now, node, frames.told((receipt_of(two, chunk, holder=node),)))
        assert custody(one, chunk).ring == ring
        assert len(custody(one, chunk).holders) < MEMBERS_MAX
    for node in outside:  # nor by the word of a member without end
        one.machine.on_frame(world.now, two.node, frames.told((receipt_of(two, chunk, holder=node),)))
        assert len(custody(one, chunk).holders) < MEMBERS_MAX


# Registries that differ.


def registry_of(numbers: range) -> tuple[Registrant, ...]:
    return tuple(sorted(Registrant(node_id(number), b"entity %d" % number, 1 << 40) for number in numbers))


def test_honest_nodes_an_era_apart_blame_nobody_and_every_chunk_stays_at_three() -> None:
    world = World(24, limits=replace(FAST, ranks_max=5))
    before, after = registry_of(range(16)), registry_of(range(6, 24))
    for site in world.sites.values():
        for era in (4, 5):
            site.machine.on_registry(world.now, era, before)
    world.strike()
    world.run(7.9)  # into the last HOUR of ERA 5
    chunks = [world.place(node_id(number), DATA + bytes([number]), 1) for number in range(6)]
    world.run(0.1)
    sites = list(world.sites.values())
    for site in sites[::2]:
        site.machine.on_registry(world.now, 6, after)
    for number in range(6, 12):  # some placed by those who know of the change, some by those who do not
        chunks.append(world.place(node_id(number), DATA + bytes([number]), 1))
    world.run(20)
    for number in range(6):  # who is not registered any more leaves; and its chunks have no owner left
        world.kill(node_id(number))
    world.run(20)
    for site in sites[1::2]:
        site.machine.on_registry(world.now, 6, after)
    world.run(30)
    assert all(len(world.holders(chunk)) == 3 for chunk in chunks)
    for chunk in chunks:
        for node in world.holders(chunk):
            assert set(custody(world.sites[node], chunk).ring) == set(world.holders(chunk))
    assert world.rejections() == []
    assert facts(world, Repaired)


def test_a_receipt_of_an_era_whose_registry_is_not_known_yet_counts_once_it_is_known_and_a_challenge_passed() -> None:
    world, chunk, one, two, _ = fresh()
    outside = [node for node in world.sites if node not in {*world.holders(chunk), OWNER}]
    placed, stray = outside[0], outside[1]
    world.now = type(world.now)(1007 * HOUR_MS)
    one.machine.on_seed(world.now, 1007, seed_of(1007))
    one.machine._register._registries = {}  # so that nothing is known of either
    ahead = {"since": 1008 * 30, "until": (1008 + 192) * 30}
    for node in (placed, stray):
        one.machine.on_frame(world.now, two.node, frames.told((receipt_of(two, chunk, holder=node, **ahead),)))
        assert not custody(one, chunk).holders[node].judged
        assert node not in custody(one, chunk).ring
    registry = tuple(each for each in world.registry if each.node != stray)
    one.machine.on_registry(world.now, 5, registry)
    assert {placed, stray} <= custody(one, chunk).holders.keys()  # the receipts' own ERA may yet have placed them
    one.machine.on_registry(world.now, 6, registry)
    assert stray not in custody(one, chunk).holders
    assert custody(one, chunk).holders[placed].judged
    assert not custody(one, chunk).holders[placed].live


def test_a_receipt_by_one_who_was_not_placed_does_not_count_whoever_tells_it() -> None:
    _, chunk, one, two, _ = fresh()
    stranger = node_id(77)
    for teller in (stranger, two.node, OWNER):
        assert "not placed" in passed_over(one, teller, receipt_of(two, chunk, holder=stranger))


def test_receipts_that_do_not_count_use_up_the_frames_of_whoever_tells_them() -> None:
    world, chunk, one, two, _ = fresh()
    signed = receipt_of(two, chunk, holder=node_id(77))
    limit = FAST.frames_peer_max
    spent = one.machine._frames.get(two.node, 0)
    told = 0
    while True:
        match one.machine.on_frame(world.now, two.node, frames.told((signed,))):
            case [Noted(Rejected(_, reason))]:
                assert reason == "too many frames in one HOUR"
                break
            case _:
                told += 1
    assert told <= (limit - spent) // 2 + 1


@given(st.permutations(range(8)), st.lists(st.sets(st.integers(0, 40), min_size=1), min_size=8, max_size=8), st.data())
def test_whoever_knows_a_receipts_era_and_the_one_before_judges_it_alike(
    entered: list[int], members: list[set[int]], data: st.DataObject
) -> None:
    limits = replace(FAST, ranks_max=3)
    deposit = custody(SETTLED.sites[OWNER], CHUNK).deposit
    signed = custody(SETTLED.sites[OWNER], CHUNK).holders[min(SETTLED.holders(CHUNK))].signed
    holder, era = data.draw(st.integers(0, 40)), data.draw(st.integers(1, 7))
    slots = limits.era_hours * limits.hour_slots
    receipt = read_receipt(signed.packed, NETWORK)
    receipt = replace(receipt, holder=node_id(holder), since=era * slots, until=era * slots + 9)
    whole, part = Register(NETWORK, limits), Register(NETWORK, limits)
    registries = [tuple(Registrant(node_id(n), b"%d" % n, 1 << 40) for n in sorted(some)) for some in members]
    for each in entered:
        whole.enter(each, registries[each])
        assert len(whole._registries) <= ERAS_KEPT
    for each in (era, era - 1):
        part.enter(each, registries[each])
    said = part.placed(deposit, receipt)
    first = (Register(NETWORK, limits), Register(NETWORK, limits))
    for register, each in zip(first, (era, era - 1), strict=True):
        register.enter(each, registries[each])
    assert said is any(node_id(holder) in register.ranks(deposit, receipt.j) for register in first)
    assert whole.placed(deposit, receipt) in ({said} if era >= 6 else {said, None})
    assert Register(NETWORK, limits).placed(deposit, receipt) is None


# Offers.


def offer_of(
    number: int, *, owner: NodeId = OWNER, size: int = 1000, opened: int = NOW, seed: int | None = None, j: int = 0
) -> ReplicaOffer:
    """An offer by an owner that has nothing but its word."""
    world = World(1)
    site = Site(world, 0)
    site.node = owner
    site.machine = site.boot()
    chunk = Digest(blake3(b"offered" + number.to_bytes(4, "big")).digest())
    roots = tuple(Digest(bytes([part]) * 32) for part in range(3))
    drawn = seed_of(opened + 2 if seed is None else seed)
    (kept, *_) = site.machine.on_command(world.now, 1, Place(chunk, size, roots, opened, drawn))
    assert isinstance(kept, Persist)
    assert kept.value is not None
    row = read_row(kept.value, NETWORK)
    return ReplicaOffer(row.packed, row.signature, j, ())


def candidate(**limits: Any) -> Site:
    world = World(12, limits=replace(FAST, **limits))
    world.strike()
    return world.sites[node_id(3)]


def verdict_on(site: Site, offer: ReplicaOffer, peer: NodeId = OWNER, exchange: int = -5) -> Answered:
    (send,) = [
        action
        for action in site.machine.on_frame(site.world.now, peer, frames.offer(offer), exchange)
        if isinstance(action, Send) and action.exchange
    ]
    assert (send.peer, send.exchange) == (peer, exchange)
    spoken = frames.read(send.frame)
    assert isinstance(spoken, frames.ReplicaVerdict)
    return spoken.answer


def test_an_offer_is_accepted_durably_and_fetched_from_whom_it_came() -> None:
    site = candidate()
    offer = offer_of(1)
    chunk, now = Digest(blake3(b"offered\0\0\0\1").digest()), site.world.now
    persist, send, fetch, timer = site.machine.on_frame(now, OWNER, frames.offer(offer), -5)
    assert persist == Persist("replicas", ("in", chunk), persist.value)  # type: ignore[union-attr]
    assert send == Send(OWNER, Channel.REPLICAS, frames.verdict(Answered.YES), -5)
    until = now + FAST.transfer_ms
    assert fetch == Noted(Fetch(1, OWNER, chunk, 0, Digest(bytes(32)), 1000, until))  # type: ignore[arg-type]
    assert timer == SetTimer(("replicate", "jobs"), until)  # type: ignore[arg-type]
    assert site.machine.on_frame(now, OWNER, frames.offer(offer), -6) == [
        Send(OWNER, Channel.REPLICAS, frames.verdict(Answered.YES), -6)
    ]
    assert verdict_on(site, offer._replace(j=1)) is Answered.BUSY
    assert site.machine.on_command(now, 0, Fetched(1, None, 0)) == [
        Persist("replicas", ("in", chunk), None),
        Send(OWNER, Channel.REPLICAS, frames.undone(chunk, 0)),
    ]
    assert site.machine._taking._bytes == 0


def test_a_transfer_that_takes_too_long_is_given_up_and_what_comes_late_is_discarded() -> None:
    site = candidate()
    assert verdict_on(site, offer_of(1)) is Answered.YES
    late = type(site.world.now)(site.world.now + FAST.transfer_ms)
    actions = site.machine.on_timer(late, ("replicate", "jobs"))
    assert [type(action) for action in actions] == [Persist, Send]
    assert site.machine._taking._bytes == 0
    root = Digest(bytes(32))
    assert site.machine.on_command(late, 0, Fetched(1, root, 1000)) == [Noted(Discard(Digest(b""), root))]
    assert site.machine._custodies == {}


def test_offers_beyond_a_quota_or_more_at_once_than_agreed_are_refused_with_the_reason() -> None:
    assert verdict_on(candidate(quota_bytes=999), offer_of(1)) is Answered.FULL
    assert verdict_on(candidate(owner_bytes=999), offer_of(1)) is Answered.FULL
    site = candidate(quota_bytes=2500)
    answers = [verdict_on(site, offer_of(number)) for number in range(4)]
    assert answers == [Answered.YES, Answered.YES, Answered.FULL, Answered.FULL]
    site = candidate(owner_bytes=2500)
    answers = [verdict_on(site, offer_of(number)) for number in range(3)]
    assert answers == [Answered.YES, Answered.YES, Answered.FULL]
    assert verdict_on(site, offer_of(4, owner=node_id(8)), node_id(8)) is Answered.YES
    site = candidate()
    answers = [verdict_on(site, offer_of(number)) for number in range(6)]
    assert answers == [Answered.YES] * 4 + [Answered.BUSY] * 2
    site = candidate(incoming_max=2)
    answers = [verdict_on(site, offer_of(number, owner=node_id(number)), node_id(number)) for number in (5, 6, 7)]
    assert answers == [Answered.YES, Answered.YES, Answered.BUSY]


def test_who_is_not_placed_or_of_the_owners_entity_or_knows_no_seed_refuses() -> None:
    site = candidate(ranks_max=1)
    answers = {verdict_on(site, offer_of(number, size=number + 1)) for number in range(9)}
    assert Answered.NOT_PLACED in answers
    world = World(12, entities=lambda number: b"one")
    assert verdict_on(world.sites[node_id(3)], offer_of(1)) is Answered.SAME_ENTITY


def test_an_offer_that_is_not_its_owners_is_rejected_and_not_answered() -> None:
    site = candidate()
    good = offer_of(1)
    assert "not signed" in refused(site, OWNER, frames.offer(good._replace(signature=bytes(64))), -1)
    assert "nothing to offer" in refused(site, node_id(4), frames.offer(good), -1)
    assert "our own" in refused(site, node_id(3), frames.offer(offer_of(1, owner=node_id(3))), -1)
    for exchange in (0, 5):
        assert "kind of stream" in refused(site, OWNER, frames.offer(good), exchange)
    forged = SignedReceipt(b"", bytes(64))
    refused(site, OWNER, frames.offer(good._replace(holders=(forged,))), -1)


def test_the_receipts_in_an_offer_are_checked_one_by_one() -> None:
    world, chunk, one, two, _ = fresh()
    new = next(site for node, site in world.sites.items() if node not in {*world.holders(chunk), OWNER})
    known = custody(one, chunk)

    def offering(*receipts: SignedReceipt) -> bytes:
        return frames.offer(ReplicaOffer(known.packed, known.signature, 0, receipts))

    first, second = receipt_of(one, chunk), receipt_of(two, chunk)
    assert "twice" in refused(new, one.node, offering(first, first), -1)
    assert "ourselves" in refused(new, one.node, offering(first, receipt_of(two, chunk, holder=new.node)), -1)
    assert "not signed" in refused(new, one.node, offering(first, SignedReceipt(second.packed, bytes(64))), -1)
    assert "another time" in refused(new, one.node, offering(first, receipt_of(two, chunk, since=0, until=9)), -1)
    assert "nothing to offer" in refused(new, one.node, offering(second), -1)
    assert new.machine.on_frame(world.now, one.node, offering(first, second), -1)[1] == Send(
        one.node, Channel.REPLICAS, frames.verdict(Answered.YES), -1
    )


def test_a_holder_that_is_offered_its_chunk_again_repeats_its_receipt() -> None:
    world, chunk, one, *_ = fresh()
    known = custody(one, chunk)
    assert known.signed is not None
    frame = frames.offer(ReplicaOffer(known.packed, known.signature, 0, ()))
    assert one.machine.on_frame(world.now, OWNER, frame, -9) == [
        Send(OWNER, Channel.REPLICAS, frames.verdict(Answered.HELD), -9),
        Send(OWNER, Channel.REPLICAS, frames.told((known.signed,))),
    ]


def test_a_placement_goes_to_the_next_in_order_on_refusal_failure_and_silence() -> None:
    world = World(12)
    world.strike()
    site, chunk = world.sites[OWNER], Digest(b"c" * 32)
    site.own[chunk] = DATA, bytes(32)
    roots = tuple(segment_root(encoded(DATA, bytes(32), chunk, j)) for j in range(3))
    actions = site.machine.on_command(world.now, 3, Place(chunk, len(DATA), roots, NOW, seed_of(NOW + 2)))
    offers = [action for action in actions if isinstance(action, Send)]
    assert len({send.peer for send in offers}) == len(offers) == 3
    tried = [send.peer for send in offers]

    def candidate_after(actions: list[Action]) -> Send:
        (send,) = [action for action in actions if isinstance(action, Send)]
        assert send.peer not in tried
        tried.append(send.peer)
        return send

    first = candidate_after(
        site.machine.on_frame(world.now, offers[0].peer, frames.verdict(Answered.FULL), offers[0].exchange)
    )
    second = candidate_after(site.machine.on_failed(world.now, first.peer, first.exchange))
    assert "nothing that we asked" in refused(site, second.peer, frames.verdict(Answered.YES), first.exchange)
    assert "nothing that we asked" in refused(site, first.peer, frames.verdict(Answered.YES), second.exchange)
    kept, serve = site.machine.on_frame(world.now, second.peer, frames.verdict(Answered.YES), second.exchange)
    assert isinstance(kept, Persist)
    assert isinstance(serve, Noted)
    assert isinstance(serve.fact, Serve)
    assert (serve.fact.peer, serve.fact.root) == (second.peer, roots[serve.fact.j])
    candidate_after(site.machine.on_frame(world.now, second.peer, frames.undone(Digest(b"c" * 32), serve.fact.j)))
    assert "no transfer" in refused(site, second.peer, frames.undone(Digest(b"c" * 32), serve.fact.j))
    late = type(world.now)(world.now + FAST.accept_ms)
    resent = [send for send in site.machine.on_timer(late, ("replicate", "jobs")) if isinstance(send, Send)]
    assert len({send.peer for send in resent}) == len(resent) == 3


def test_news_of_a_missing_holder_is_heard_from_its_fellows_only_and_not_against_our_own_eyes() -> None:
    world, chunk, one, two, three = fresh()
    owner = world.sites[OWNER]
    stranger = next(node for node in world.sites if node not in {*world.holders(chunk), OWNER})
    frame = frames.missing(chunk, two.node)
    assert "no part" in refused(owner, stranger, frame, -1)
    assert "no part" in refused(one, three.node, frame, -1)
    assert "kind of stream" in refused(owner, one.node, frame)
    world.run(24)
    assert owner.machine.on_frame(world.now, one.node, frame, -2) == [
        Send(one.node, Channel.REPLICAS, frames.verdict(Answered.HELD), -2)
    ]


# Floods, pacing, caps.


def test_a_flood_is_rejected_once_the_hour_is_used_up_and_nothing_grows() -> None:
    site = candidate(frames_peer_max=50)
    peer = node_id(9)
    sizes = []
    for number in range(200):
        frame = frames.released(Digest(number.to_bytes(32, "big")))
        match site.machine.on_frame(site.world.now, peer, frame):
            case []:
                assert number < 50
            case [Noted(Rejected(_, reason))]:
                assert number >= 50
                assert reason == "too many frames in one HOUR"
            case other:
                raise AssertionError(other)
        sizes.append(len(repr(state(site.machine))))
    assert max(sizes) - sizes[0] < 200
    site.machine.on_seed(site.world.now, 1001, seed_of(1001))
    assert site.machine.on_frame(site.world.now, peer, frames.released(Digest(bytes(32)))) == []


def test_peers_without_number_are_counted_up_to_a_bound() -> None:
    site = candidate(peers_max=10)
    frame = frames.released(Digest(bytes(32)))
    answers = [site.machine.on_frame(site.world.now, node_id(number), frame) for number in range(100)]
    assert answers[:10] == [[]] * 10
    assert all(answers[10:])
    assert len(site.machine._frames) == 10


def test_challenges_by_one_peer_are_bounded_in_an_hour() -> None:
    site = candidate(items_peer_max=64)
    many = [(Digest(bytes([number]) * 32), Digest(bytes(32))) for number in range(64)]
    assert len(site.machine.on_frame(site.world.now, OWNER, frames.asked(1000, NONCE, many))) == 64
    assert refused(site, OWNER, frames.asked(1000, NONCE, many)) == "too many challenges in one HOUR"


@pytest.mark.component
def test_large_replicas_are_challenged_a_few_at_a_time_and_read_in_parts() -> None:
    big = blake3(b"big").digest(length=40 * SEGMENT)
    world = World(6, limits=replace(FAST, asked_bytes=600_000), seed=3)
    world.strike()
    chunks = [world.place(OWNER, big + bytes([number]), number) for number in range(6)]
    world.run(1.5)
    assert all(len(world.holders(chunk)) == 3 for chunk in chunks)
    most = 0
    world.run(0.5)
    for _ in range(200):
        world.run(1 / 3600)
        for site in world.sites.values():
            watch = site.machine._watch
            most = max(most, watch._asked_bytes)
            assert watch._asked_bytes == sum(ask.weight for ask in watch._asks.values())
            assert len(watch._reads) <= FAST.reads_max
    assert 32 * SEGMENT <= most < 600_000 + 32 * SEGMENT
    reads = facts(world, ReadSegments)
    assert reads
    assert max(sum(len(want.indexes) for want in read.wants) for read in reads) == 8
    assert all(fact.passed for fact in facts(world, Challenged))
    assert len(facts(world, Challenged)) >= 36
    assert world.rejections() == []


def test_every_kind_of_frame_is_read_as_it_was_written() -> None:
    digest = Digest(b"d" * 32)
    signed = SignedReceipt(b"packed", b"s" * 64)
    segment = Segment(3, b"data", (b"p" * 32,) * 11)
    offer = ReplicaOffer(b"deposit", b"s" * 64, 2, (signed,) * MEMBERS_MAX)
    written: list[tuple[bytes, ReplicaFrame]] = [
        (frames.offer(offer), offer),
        (frames.told((signed,) * 64), frames.ReceiptsTold((signed,) * 64)),
        (frames.undone(digest, 2), frames.CopyUndone(digest, 2)),
        (frames.asked(9, NONCE, [(digest, digest)]), SegmentsAsked(9, ((digest, digest),), NONCE)),
        (frames.shown(9, [(digest, (segment,))]), frames.SegmentsShown(9, ((digest, (segment,)),))),
        (frames.missing(digest, OWNER), frames.HolderMissing(digest, OWNER)),
        (frames.released(digest), frames.ReplicaReleased(digest)),
        *[(frames.verdict(answer), frames.ReplicaVerdict(answer)) for answer in Answered],
    ]
    for data, spoken in written:
        assert frames.read(data) == spoken
        with pytest.raises(Malformed):
            frames.read(data[:-1])
        with pytest.raises(Malformed):
            frames.read(data + b"\0")


@given(
    st.integers(0, (1 << 64) - 1), st.integers(1, 64), st.integers(1, 32), st.integers(0, 12), st.binary(max_size=300)
)
def test_what_is_spelled_by_hand_is_canonical(hour: int, count: int, segments: int, siblings: int, data: bytes) -> None:
    chunks = [Digest(bytes([number]) * 32) for number in range(count)]
    asked = [(chunk, Digest(bytes(32))) for chunk in chunks]
    assert frames.asked(hour, NONCE, asked) == encode([1, 9, hour, NONCE, list(asked)])
    parts = tuple(Segment(number, data, (bytes(32),) * siblings) for number in range(segments))
    expected = encode([1, 6, hour, [[chunk, list(parts)] for chunk in chunks]])
    assert frames.shown(hour, [(chunk, parts) for chunk in chunks]) == expected


@pytest.mark.parametrize(
    "value",
    [
        [],
        [1],
        {},
        [2, 8, bytes(32)],
        [True, 8, bytes(32)],
        [1, True, bytes(32)],
        [1, 0],
        [1, 9],
        [1, 8],
        [1, 8, bytes(31)],
        [1, 8, bytes(32), 0],
        [1, 7, bytes(32), "x" * 32],
        [1, 1, bytes(513), bytes(64), 0, []],
        [1, 1, b"", bytes(63), 0, []],
        [1, 1, b"", bytes(64), 3, []],
        [1, 1, b"", bytes(64), -1, []],
        [1, 1, b"", bytes(64), 0, [[b"", bytes(64)]] * (MEMBERS_MAX + 1)],
        [1, 1, b"", bytes(64), 0, [[b""]]],
        [1, 1, b"", bytes(64), 0, [[bytes(385), bytes(64)]]],
        [1, 2, 7],
        [1, 3, []],
        [1, 3, [[b"", bytes(64)]] * 65],
        [1, 4, bytes(32), 3],
        [1, 5, 0, []],
        [1, 9, 0, bytes(32), []],
        [1, 9, 0, bytes(31), [[bytes(32), bytes(32)]]],
        [1, 9, 0, [[bytes(32), bytes(32)]]],
        [1, 5, -1, [[bytes(32), bytes(32)]]],
        [1, 5, 0, [[bytes(32), bytes(32)]] * 2],
        [1, 5, 0, [[bytes([at]) * 32, bytes(32)] for at in range(65)]],
        [1, 6, 0, []],
        [1, 6, 0, [[bytes(32), []]]],
        [1, 6, 0, [[bytes(32), [[0, b"", []]]]] * 2],
        [1, 6, 0, [[bytes(32), [[0, b"", []]] * 33]]],
        [1, 6, 0, [[bytes(32), [[0, bytes(SEGMENT + 1), []]]]]],
        [1, 6, 0, [[bytes(32), [[0, b"", [bytes(31)]]]]]],
        [1, 6, 0, [[bytes(32), [[0, b"", [bytes(32)] * 13]]]]],
        [1, 6, 0, [[bytes(32), [[1 << 32, b"", []]]]]],
        [1, 6, 0, [[bytes(32), [[0, b"", None]]]]],
        [1, 6, 0, [[bytes(32), [[0, b"", [], 0]]]]],
        [1, 6, 0, [bytes(32)]],
    ],
)
def test_a_frame_that_breaks_a_cap_is_rejected(value: Any) -> None:
    refused(candidate(), OWNER, encode(value))


def test_an_oversized_frame_is_not_decoded() -> None:
    assert "at most" in refused(candidate(), OWNER, bytes(frames.FRAME_BYTES_MAX + 1))


def seen(chunk: Digest) -> list[bytes]:
    """Frames such as go between the members of the settled world."""
    held = SETTLED.holders(chunk)
    known = custody(SETTLED.sites[min(held)], chunk)
    assert known.signed is not None
    hour = SETTLED.now // HOUR_MS
    receipts = tuple(holding.signed for holding in known.holders.values())
    return [
        frames.offer(ReplicaOffer(known.packed, known.signature, 1, (*receipts, known.signed))),
        frames.told((*receipts, known.signed)),
        frames.asked(hour, NONCE, [(chunk, known.name)]),
        frames.shown(hour, [(chunk, show(DATA, [0, 3]))]),
        frames.missing(chunk, min(held)),
        frames.released(chunk),
        frames.undone(chunk, 1),
        frames.verdict(Answered.YES),
    ]


@settings(max_examples=examples(300))
@given(st.data())
def test_of_random_and_mutated_frames_none_raises_and_the_rejected_change_nothing(data: st.DataObject) -> None:
    site = data.draw(st.sampled_from([SETTLED.sites[node_id(number)] for number in range(12)]))
    peer = data.draw(st.sampled_from([*list(SETTLED.sites), node_id(500)]))
    frame = bytearray(data.draw(st.sampled_from(seen(CHUNK)) | st.binary(max_size=60)))
    for _ in range(data.draw(st.integers(0, 3))):
        if frame:
            at = data.draw(st.integers(0, len(frame) - 1))
            frame[at] = data.draw(st.integers(0, 255))
    exchange = data.draw(st.sampled_from([0, 1, -1]))
    rows = dict(site.rows)
    machine = site.boot()  # a machine of its own, so that no example depends on another
    machine.start(SETTLED.now)
    machine.on_registry(SETTLED.now, 5, SETTLED.registry)
    machine.on_seed(SETTLED.now, SETTLED.now // HOUR_MS, seed_of(SETTLED.now // HOUR_MS))
    before = state(machine)
    actions = machine.on_frame(SETTLED.now, peer, bytes(frame), exchange)
    if any(isinstance(action, Noted) and isinstance(action.fact, Rejected) for action in actions):
        assert len(actions) == 1
        assert state(machine) == before
    assert rows == site.rows


def test_a_command_that_is_none_of_ours_is_a_mistake_of_the_hosts() -> None:
    with pytest.raises(TypeError, match="no command"):
        candidate().machine.on_command(candidate().world.now, 1, "place")


def test_placing_a_chunk_twice_answers_the_first_call_and_goes_on() -> None:
    world, _chunk = settled()
    world.place(OWNER, DATA, 8)
    assert [one.call for one in world.sites[OWNER].finished] == [7, 8]
    assert type(world.sites[OWNER].finished[1].result) is Placed
    site = candidate(held_max=0)
    place = Place(Digest(bytes(32)), 5, tuple(Digest(bytes([j]) * 32) for j in range(3)), 5, seed_of(7))
    assert site.machine.on_command(site.world.now, 1, place) == [Finished(1, None)]


def test_the_same_seed_gives_the_same_world() -> None:
    def digest() -> str:
        world, chunk = settled(hours=10)
        world.kill(min(world.holders(chunk)))
        world.run(40)
        return repr([(site.facts, state(site.machine)) for site in world.sites.values()])

    assert digest() == digest()


def test_a_receipt_record_is_signed_in_its_own_domain() -> None:
    _, chunk, one, *_ = fresh()
    own = custody(one, chunk).signed
    assert own is not None
    receipt: Receipt = read_receipt(own.packed, NETWORK)
    assert verify(one.node, own.signature, signable(receipt))
    assert not verify(one.node, own.signature, signable(replace(receipt, network=Network(b"x" * 32))))
