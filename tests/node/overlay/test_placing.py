"""The seed of a deposit is that of its time: who asks a holder too late, too early or under another seed is told so."""

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from consensus.beacon import read_deposit
from consensus.ids import Digest, NodeId
from consensus.merkle import segment_root
from consensus.placement import PLACING_HOURS, REVEALED, SKEW_HOURS, admitted, opening, order, placement_key
from consensus.records import pack
from node.overlay import replica_frames as frames
from node.overlay.custody import HOUR_MS, DepositRefused, Fetch, Fetched, Place, Serve, Unplaced, Untimely
from node.overlay.machine import Channel, Noted, Persist, Rejected, Send, SetTimer
from node.overlay.replica_frames import Answered, ReplicaOffer
from tests.node.overlay.replica_world import FAST, NETWORK, Pen, Site, World, node_id, seed_of
from tests.node.overlay.test_replicate import (
    DATA,
    NOW,
    OWNER,
    candidate,
    custody,
    facts,
    offer_of,
    receipt_of,
    settled,
    state,
    verdict_on,
)

HOUR_SLOTS = FAST.hour_slots
FIRST, END = NOW - (PLACING_HOURS + SKEW_HOURS) * HOUR_SLOTS, NOW + (1 + SKEW_HOURS) * HOUR_SLOTS


def refusal(site: Site, offer: ReplicaOffer, answer: Answered) -> None:
    """That an offer is refused with this answer, with nothing else said, blamed on nobody, and leaves nothing behind."""
    before = state(site.machine._custodies), state(site.machine._taking), state(site.machine._placing)
    assert site.machine.on_frame(site.world.now, OWNER, frames.offer(offer), -5) == [
        Send(OWNER, Channel.REPLICAS, frames.verdict(answer), -5)
    ]
    assert before == (state(site.machine._custodies), state(site.machine._taking), state(site.machine._placing))


@pytest.mark.parametrize(
    ("opened", "answer"),
    [
        (0, Answered.LATE),
        (FIRST - 1, Answered.LATE),
        (FIRST, Answered.YES),
        (NOW, Answered.YES),
        (END - 1, Answered.YES),
        (END, Answered.EARLY),
        ((1 << 40) - REVEALED - 1, Answered.EARLY),
        ((1 << 40) - REVEALED, Answered.EARLY),  # whose seed nobody knows
    ],
)
def test_at_each_edge_of_the_window_a_first_offer_is_taken_or_refused_with_the_reason(
    opened: int, answer: Answered
) -> None:
    site, offer = candidate(), offer_of(1, opened=opened)
    if answer is not Answered.YES:
        refusal(site, offer, answer)
        return
    deposit = read_deposit(offer.deposit, NETWORK)
    until = site.world.now + FAST.transfer_ms
    persist, *actions = site.machine.on_frame(site.world.now, OWNER, frames.offer(offer), -5)
    assert isinstance(persist, Persist)
    assert (persist.table, persist.key) == ("replicas", ("in", deposit.chunk))
    assert actions == [
        Send(OWNER, Channel.REPLICAS, frames.verdict(Answered.YES), -5),
        Noted(Fetch(1, OWNER, deposit.chunk, 0, deposit.roots[0], 1000, until)),  # type: ignore[arg-type]
        SetTimer(("replicate", "jobs"), until),  # type: ignore[arg-type]
    ]


def test_another_seed_than_the_slots_is_refused_and_one_that_is_not_known_yet_put_off() -> None:
    refusal(candidate(), offer_of(1, seed=NOW + REVEALED + 1), Answered.OTHER_SEED)
    refusal(candidate(), offer_of(1, opened=9, seed=1), Answered.OTHER_SEED)
    site = candidate()
    site.machine._taking._seed_at = lambda slot: seed_of(slot) if slot <= NOW else None
    refusal(site, offer_of(1, opened=NOW - REVEALED + 1), Answered.UNKNOWN)
    assert verdict_on(site, offer_of(1, opened=NOW - REVEALED)) is Answered.YES


def test_who_is_not_placed_says_so_whatever_the_slot() -> None:
    site = candidate(ranks_max=1)
    deposits = [offer_of(number) for number in range(9)]
    for offer in deposits:
        deposit = read_deposit(offer.deposit, NETWORK)
        key = placement_key(NETWORK, deposit.seed, deposit.chunk, 0)
        placed = order(key, site.world.registry, deposit.size, 1) == (site.node,)
        if not placed:
            refusal(site, offer, Answered.NOT_PLACED)
    late = [offer_of(number, opened=5) for number in range(40)]
    assert {verdict_on(site, offer) for offer in late} == {Answered.NOT_PLACED, Answered.LATE}


@given(
    st.integers(PLACING_HOURS + SKEW_HOURS, 1 << 40),
    st.integers(-SKEW_HOURS, SKEW_HOURS),
    st.integers(1, 60),
    st.data(),
)
def test_whom_its_own_clock_calls_timely_no_clock_within_the_skew_refuses(
    hour: int, skew: int, hour_slots: int, data: st.DataObject
) -> None:
    first, end = opening(hour + skew, hour_slots)
    opened = data.draw(st.sampled_from([first, end - 1]) | st.integers(first, end - 1))
    low, high = admitted(hour, hour_slots)
    assert low <= opened < high
    assert (low, high) == (opening(hour - SKEW_HOURS, hour_slots)[0], opening(hour + SKEW_HOURS, hour_slots)[1])


@given(st.integers(-SKEW_HOURS, SKEW_HOURS), st.integers(0, PLACING_HOURS), st.integers(0, HOUR_SLOTS - 1))
def test_an_honest_depositor_is_accepted_by_every_node_whose_clock_is_within_the_skew(
    skew: int, waited: int, at: int
) -> None:
    site = candidate()
    opened = NOW + (skew - waited) * HOUR_SLOTS + at
    assert verdict_on(site, offer_of(1, opened=opened)) is Answered.YES


def test_a_repair_of_an_old_chunk_is_taken_on_the_word_of_a_placed_holder_and_of_no_other() -> None:
    world, chunk = settled(hours=40)
    one = world.sites[min(world.holders(chunk))]
    new = next(site for node, site in world.sites.items() if node not in {*world.holders(chunk), OWNER})
    known, own = custody(one, chunk), receipt_of(one, chunk)
    liar = node_id(700)  # in no registry
    forged = ReplicaOffer(known.packed, known.signature, 0, (receipt_of(one, chunk, holder=liar),))
    era = world.now // HOUR_MS // FAST.era_hours
    assert era == NOW // HOUR_SLOTS // FAST.era_hours + 1, "the receipts were renewed"
    assert verdict_on(new, forged, liar) is Answered.UNKNOWN
    world.step(new, "on_registry", era, world.registry)
    assert verdict_on(new, forged, liar) is Answered.LATE
    assert verdict_on(new, forged._replace(holders=()), OWNER) is Answered.LATE
    assert state(new.machine._taking._transfers) == []
    assert verdict_on(new, forged._replace(holders=(own,)), one.node) is Answered.YES


def late_owner() -> tuple[World, Site, Place]:
    """An owner whose chunk nobody took in time, for it was alone."""
    world = World(12)
    world.strike()
    others = [node for node in world.sites if node != OWNER]
    for node in others:
        world.sites[node].alive = False
    chunk = world.place(OWNER, DATA)
    world.run(PLACING_HOURS + 0.5)
    site = world.sites[OWNER]
    assert len(site.facts_of(Unplaced)) > PLACING_HOURS
    assert site.facts_of(Untimely) == []
    world.run(1)
    assert site.facts_of(Untimely)[0] == Untimely(chunk)
    world.run(SKEW_HOURS)
    deposit = custody(site, chunk).deposit
    for node in others:
        world.restart(node)
    return world, site, Place(chunk, deposit.size, deposit.roots, deposit.opened, deposit.seed)


def reopened(place: Place, opened: int) -> Place:
    return place._replace(opened=opened, seed=seed_of(opened + REVEALED))


def test_a_depositor_that_is_late_is_told_so_and_its_later_deposit_is_held_by_three() -> None:
    world, site, place = late_owner()
    world.run(4)
    answers = [fact.answer for fact in site.facts_of(DepositRefused)]
    assert answers
    assert set(answers) == {Answered.LATE}
    assert len(site.facts_of(Untimely)) > 4  # each HOUR, until the host opens it anew
    assert world.holders(place.chunk) == {}
    later = reopened(place, world.now // HOUR_MS * HOUR_SLOTS)
    world.step(site, "on_command", 8, later)
    world.run(1)
    assert sorted(world.holders(place.chunk).values()) == [0, 1, 2]
    assert {one.call: one.result is not None for one in site.finished} == {7: False, 8: True}
    for node in world.holders(place.chunk):
        assert custody(world.sites[node], place.chunk).deposit == later.deposit(NETWORK, OWNER)
    assert facts(world, Rejected) == []


def test_a_later_deposit_counts_only_while_nobody_holds_the_chunk_or_is_asked_to() -> None:
    world, chunk = settled()
    site = world.sites[OWNER]
    deposit = custody(site, chunk).deposit
    place = Place(chunk, deposit.size, deposit.roots, deposit.opened, deposit.seed)
    world.step(site, "on_command", 9, reopened(place, deposit.opened + 60))
    assert custody(site, chunk).deposit == deposit
    world, site, place = late_owner()
    world.strike()  # the owner asks around anew
    deposit = custody(site, place.chunk).deposit
    later = reopened(place, deposit.opened + 900)
    world.step(site, "on_command", 8, later)
    assert custody(site, place.chunk).deposit == deposit
    while site.machine._placing.under_way(place.chunk):
        world.run(0.01)
    for other in (reopened(place, deposit.opened - 1), later._replace(size=place.size + 1), place):
        world.step(site, "on_command", 9, other)
        assert custody(site, place.chunk).deposit == deposit
        while site.machine._placing.under_way(place.chunk):
            world.run(0.01)
    world.step(site, "on_command", 10, later)
    assert custody(site, place.chunk).deposit == later.deposit(NETWORK, OWNER)


@pytest.mark.parametrize(("hours", "answer"), [(-40, Answered.LATE), (40, Answered.EARLY)])
def test_an_owner_with_a_wrong_clock_hears_so_from_all_and_does_not_place_anew(hours: int, answer: Answered) -> None:
    world = World(12)
    world.strike()
    site = world.sites[OWNER]
    hour = world.now // HOUR_MS + hours
    site.machine.on_seed(world.now, hour, seed_of(hour))
    opened = hour * HOUR_SLOTS
    roots = tuple(Digest(bytes([j]) * 32) for j in range(3))
    site.own[Digest(bytes(32))] = b"bytes", bytes(32)
    world.step(site, "on_command", 7, Place(Digest(bytes(32)), 5, roots, opened, seed_of(opened + REVEALED)))
    world.run(0.3)
    assert {fact.candidate for fact in site.facts_of(DepositRefused)} == {*world.sites} - {OWNER}
    assert {fact.answer for fact in site.facts_of(DepositRefused)} == {answer}
    assert site.facts_of(Untimely) == facts(world, Rejected) == []


def test_a_seed_that_a_reorganised_chain_took_back_makes_the_deposit_untimely_at_once() -> None:
    world = World(12)
    world.strike()
    site = world.sites[OWNER]
    roots = tuple(Digest(bytes([j]) * 32) for j in range(3))
    site.own[Digest(bytes(32))] = b"bytes", bytes(32)
    world.step(site, "on_command", 7, Place(Digest(bytes(32)), 5, roots, NOW, seed_of(1)))
    world.run(0.3)
    assert {fact.answer for fact in site.facts_of(DepositRefused)} == {Answered.OTHER_SEED}
    assert site.facts_of(Untimely) == [Untimely(Digest(bytes(32)))]
    assert facts(world, Rejected) == []


def test_two_that_take_and_let_go_by_turns_are_passed_over_as_long_as_there_are_others() -> None:
    world, chunk = settled()
    owner, first = world.sites[OWNER], world.holders(chunk)
    thrashers = [min(first)]
    for _ in range(6):
        for node in thrashers:
            held = world.sites[node].machine._custodies.get(chunk)
            if held is not None:
                world.do(world.sites[node], world.sites[node].machine._release(held))
        world.run(1)
        thrashers = (thrashers + [node for node in world.holders(chunk) if node not in first])[:2]
    assert len(thrashers) == 2
    assert [[fact.peer for fact in owner.facts_of(Serve)].count(node) for node in thrashers] == [1, 1]
    assert len(world.holders(chunk)) == 3


def test_the_only_candidate_left_is_asked_again_though_it_let_go() -> None:
    world, chunk = settled(4)
    site = world.sites[min(world.holders(chunk))]
    world.do(site, site.machine._release(custody(site, chunk)))
    world.run(2)
    assert len(world.holders(chunk)) == 3


def squatted(world: World) -> tuple[Digest, ReplicaOffer, NodeId]:
    """The digest of a chunk that OWNER is to place, and another's deposit of other bytes under it."""
    chunk, thief = Digest(blake3(DATA).digest()), node_id(5)
    roots = tuple(segment_root(bytes([j]) * 1000) for j in range(3))
    deposit = Place(chunk, 1000, roots, NOW, seed_of(NOW + REVEALED)).deposit(NETWORK, thief)
    return chunk, ReplicaOffer(pack(deposit), Pen(thief).sign("deposit", NETWORK, pack(deposit)), 0, ()), thief


def squat(site: Site, offer: ReplicaOffer, thief: NodeId, *, done: bool) -> None:
    assert verdict_on(site, offer, thief) is Answered.YES
    if done:
        root = read_deposit(offer.deposit, NETWORK).roots[0]
        world, ref = site.world, site.machine._taking._ref
        world.do(site, site.machine.on_command(world.now, 0, Fetched(ref, root, 1000)))


def test_a_holder_of_another_deposit_under_the_same_digest_is_busy_and_blamed_by_nobody() -> None:
    world = World(12)
    world.strike()
    chunk, offer, thief = squatted(world)
    for number in range(6, 12):
        squat(world.sites[node_id(number)], offer, thief, done=True)
    assert world.place(OWNER, DATA) == chunk
    world.run(2)
    assert facts(world, Rejected) == []
    held = [holding.j for holding in custody(world.sites[OWNER], chunk).holders.values() if holding.live]
    assert sorted(held) == [0, 1, 2]


@pytest.mark.parametrize("done", [False, True])
def test_an_owner_keeps_its_chunk_though_another_deposited_under_its_digest_before(done: bool) -> None:
    world = World(12)
    world.strike()
    chunk, offer, thief = squatted(world)
    site = world.sites[OWNER]
    squat(site, offer, thief, done=done)
    ref = site.machine._taking._ref
    assert world.place(OWNER, DATA) == chunk
    assert site.machine._taking._bytes == 0
    root = read_deposit(offer.deposit, NETWORK).roots[0]
    world.step(site, "on_command", 0, Fetched(ref, root, 1000))
    world.run(2)
    assert custody(site, chunk).owned
    assert sorted(world.holders(chunk).values()) == [0, 1, 2]
    assert len(site.finished) == 1
