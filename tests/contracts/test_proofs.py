"""What the consensus told a block is minted, committed and enrolled by whoever shows it, once; and nothing else is."""

from collections.abc import Sequence
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.facts import (
    CREDITS,
    NOBODY,
    REWARD,
    VOTERS,
    Facts,
    Listed,
    Minting,
    credits_entries,
    facts_proof,
    is_listed,
    list_proofs,
    list_root,
    voters_entries,
)
from consensus.ids import Address, Digest, keccak256
from consensus.reward import LUCID, SLOT_MAX
from tests.contracts.world import ACCOUNTS, SLOT_S, Reverted, Told, World
from tests.examples import examples

pytestmark = pytest.mark.component

ANYBODY, *NODES = ACCOUNTS
PAYEES: Final = [Address(node.address) for node in NODES]
NO_LIST: Final = Listed(0, list_root([]), 0)
NOTHING: Final = Facts(Digest(b"b" * 32), Minting(0, NOBODY, 0), NO_LIST, NO_LIST)
RING: Final = 8_191
"""Roots that EIP-4788 keeps."""


def shown(account: bytes) -> str:
    return "0x" + account.hex()


@pytest.fixture
def world() -> World:
    made = World()
    made.pass_blocks(3)
    return made


# ------------------------------------------------------------------ RewardMinter


def rewarding(slot: int, payee: Address = PAYEES[0], amount: int = 7) -> Facts:
    return NOTHING._replace(reward=Minting(slot, payee, amount))


def minting(world: World, facts: Facts) -> tuple[Any, ...]:
    """A call that mints what a block was told, and is told now."""
    return "RewardMinter", "mint", *facts.reward, world.tell(facts), facts_proof(facts, REWARD)


def test_the_minter_knows_the_bound_of_the_consensus(world: World) -> None:
    assert world.ask("RewardMinter", "SLOT_MAX") == SLOT_MAX


def test_a_reward_is_minted_by_anybody_in_the_block_that_was_told_of_it_or_later(world: World) -> None:
    first = minting(world, rewarding(9, PAYEES[0], 50))
    done = world.send(ANYBODY, *first)
    minted = Told("RewardMinted", {"slot": 9, "payee": shown(PAYEES[0]), "amount": 50})
    moved = {"from": shown(NOBODY), "to": shown(PAYEES[0]), "value": 50 * LUCID}
    assert done.events == (Told("Transfer", moved), minted)
    late = minting(world, rewarding(10, PAYEES[1], 1))
    world.pass_blocks(RING - 1)
    world.send(ANYBODY, *late)
    assert [world.ask("LucidToken", "balanceOf", who) for who in (*PAYEES[:2], ANYBODY.address)] == [
        50 * LUCID,
        LUCID,
        0,
    ]
    assert world.ask("LucidToken", "totalSupply") == 51 * LUCID


def test_a_slot_is_minted_once_whatever_other_blocks_were_told(world: World) -> None:
    slots = (0, 1, 127, 128, 255, 256, 257, 2**256 - 1)
    for done, slot in enumerate(slots):
        assert [world.ask("RewardMinter", "minted", one) for one in slots] == [at < done for at in range(len(slots))]
        call = minting(world, rewarding(slot))
        world.send(ANYBODY, *call)
        assert world.refusal(ANYBODY, *call) == ("MintedAlready", (slot,))
    for slot in slots:
        again = minting(world, rewarding(slot, PAYEES[1], 8))
        assert world.refusal(ANYBODY, *again) == ("MintedAlready", (slot,))
    assert world.ask("LucidToken", "totalSupply") == 7 * len(slots) * LUCID
    assert not world.ask("RewardMinter", "minted", 2)


def test_nothing_is_minted_that_no_block_was_told(world: World) -> None:
    facts = rewarding(9, PAYEES[0], 7)
    _, _, slot, payee, amount, time, proof = minting(world, facts)
    other = world.tell(rewarding(10, PAYEES[0], 7))
    turned, zeros = proof[::-1], (bytes(32), bytes(32))
    refused: list[tuple[Any, ...]] = [
        (8, payee, amount, time, proof),
        (slot, PAYEES[1], amount, time, proof),
        (slot, payee, 8, time, proof),
        (slot, payee, amount, other, proof),
        (slot, payee, amount, time, turned),
        (slot, payee, amount, time, zeros),
        (slot, payee, amount, time, (proof[0], bytes(32))),
        (slot, payee, amount, time, (bytes(32), proof[1])),
        *((slot, payee, amount, time, facts_proof(facts, place)) for place in (0, CREDITS, VOTERS)),
    ]
    for said in refused:
        assert world.refusal(ANYBODY, "RewardMinter", "mint", *said) == ("NotAFact", (REWARD, said[3]))
    for never in (0, time - 1, other + SLOT_S, 2**256 - 1):
        said = (slot, payee, amount, never, proof)
        assert world.refusal(ANYBODY, "RewardMinter", "mint", *said) == ("NoBlockAt", (never,))
    assert world.ask("LucidToken", "totalSupply") == 0
    world.send(ANYBODY, "RewardMinter", "mint", slot, payee, amount, time, proof)


def test_what_a_block_was_told_can_be_shown_until_its_root_is_overwritten(world: World) -> None:
    call = minting(world, rewarding(9))
    world.pass_blocks(RING)
    assert world.refusal(ANYBODY, *call) == ("NoBlockAt", (call[5],))


def test_no_slot_mints_nothing_for_nobody_or_above_the_bound_whatever_a_block_was_told(world: World) -> None:
    for facts in (rewarding(9, NOBODY, 7), rewarding(9, PAYEES[0], 0), rewarding(9, NOBODY, 0)):
        assert world.refusal(ANYBODY, *minting(world, facts)) == ("NothingToMint", (9,))
    for amount in (51, 2**256 - 1):
        assert world.refusal(ANYBODY, *minting(world, rewarding(9, PAYEES[0], amount))) == ("AboveSlotMax", (amount,))
    assert not world.ask("RewardMinter", "minted", 9)
    world.send(ANYBODY, *minting(world, rewarding(9, PAYEES[0], 50)))


MINTINGS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 2), st.sampled_from([0, 1, 2, 49, 50, 51]), st.integers(0, 3)),
    min_size=1,
    max_size=12,
)
"""Slot, payee, amount, and which of the calls before, if any, is sent again."""


@given(MINTINGS)
@settings(max_examples=examples(200))
def test_there_is_as_much_lucid_as_distinct_slots_minted(steps: list[tuple[int, int, int, int]]) -> None:
    world, paid, sent = World(), dict[int, tuple[Address, int]](), list[tuple[Any, ...]]()
    for slot, payee, amount, again in steps:
        call = sent[-again] if 0 < again <= len(sent) else minting(world, rewarding(slot, PAYEES[payee], amount))
        sent.append(call)
        try:
            world.send(ANYBODY, *call)
        except Reverted:
            assert call[2] in paid or not 0 < call[4] <= 50
        else:
            assert call[2] not in paid
            paid[call[2]] = (call[3], call[4])
    assert world.ask("LucidToken", "totalSupply") == LUCID * sum(amount for _, amount in paid.values())
    for who in PAYEES[:3]:
        due = LUCID * sum(amount for payee, amount in paid.values() if payee == who)
        assert world.ask("LucidToken", "balanceOf", who) == due


# ------------------------------------------------------------------ WorkCreditsOracle: credits


def of_hour(hour: int, credited: dict[Address, int]) -> Facts:
    entries = credits_entries(credited)
    return NOTHING._replace(credits=Listed(hour, list_root(entries), len(entries)))


def committing(world: World, facts: Facts) -> tuple[Any, ...]:
    return "WorkCreditsOracle", "commit", *facts.credits, world.tell(facts), facts_proof(facts, CREDITS)


CREDITED: Final = {account: 1_000 * at for at, account in enumerate(PAYEES)}


def test_an_hours_credits_are_committed_once_and_each_can_be_shown(world: World) -> None:
    facts = of_hour(3, CREDITED)
    root, count = facts.credits.root, len(PAYEES)
    call = committing(world, facts)
    done = world.send(ANYBODY, *call)
    assert done.events == (Told("CreditsCommitted", {"hour": 3, "root": root, "count": count}),)
    assert [world.ask("WorkCreditsOracle", "creditsRoot", hour) for hour in (2, 3)] == [bytes(32), root]
    proofs = list_proofs(credits_entries(CREDITED))
    for place, account in enumerate(sorted(CREDITED)):
        said = (3, account, CREDITED[account], place, count, proofs[place])
        assert world.ask("WorkCreditsOracle", "hasCredits", *said)
        for changed in (
            (3, PAYEES[0] if account != PAYEES[0] else PAYEES[1], *said[2:]),
            (3, account, CREDITED[account] + 1, *said[3:]),
            (*said[:3], place ^ 1, count, proofs[place]),
            (*said[:4], count + 1, proofs[place]),
            (*said[:4], count - 1, proofs[place]),
            (*said[:5], proofs[place][:-1]),
            (*said[:5], (*proofs[place], bytes(32))),
        ):
            assert not world.ask("WorkCreditsOracle", "hasCredits", *changed)
    with pytest.raises(Reverted, match="HourUnknown"):
        world.ask("WorkCreditsOracle", "hasCredits", 2, PAYEES[0], 0, 0, count, proofs[0])
    for again in (call, committing(world, of_hour(3, {PAYEES[0]: 1}))):
        assert world.refusal(ANYBODY, *again) == ("CommittedAlready", (3,))
    assert world.ask("WorkCreditsOracle", "creditsRoot", 3) == root


def test_nothing_is_committed_that_no_block_was_told(world: World) -> None:
    facts = of_hour(3, CREDITED)._replace(voters=Listed(4, Digest(b"v" * 32), 5))
    _, _, hour, root, count, time, proof = committing(world, facts)
    for said in (
        (2, root, count, time, proof),
        (hour, b"v" * 32, count, time, proof),
        (hour, root, count + 1, time, proof),
        (hour, root, count, time, proof[::-1]),
        (*facts.voters, time, facts_proof(facts, VOTERS)),  # a list, but not of credits
        (*facts.voters, time, proof),
    ):
        assert world.refusal(ANYBODY, "WorkCreditsOracle", "commit", *said) == ("NotAFact", (CREDITS, time))
    unknown = (hour, root, count, time + SLOT_S, proof)
    assert world.refusal(ANYBODY, "WorkCreditsOracle", "commit", *unknown) == ("NoBlockAt", (time + SLOT_S,))
    rootless = facts._replace(credits=Listed(3, Digest(bytes(32)), 0))
    assert world.refusal(ANYBODY, *committing(world, rootless)) == ("NoList", ())
    world.send(ANYBODY, *committing(world, of_hour(3, {})))  # an HOUR without credits is an HOUR
    assert not world.ask("WorkCreditsOracle", "hasCredits", 3, PAYEES[0], 0, 0, 0, [])


@given(st.integers(1, 20), st.data())
@settings(max_examples=examples(300))
def test_the_chain_takes_the_proofs_that_the_consensus_does(count: int, data: st.DataObject) -> None:
    """Proofs as they are made, and damaged ones; for the place and the count that they are for, and others."""
    credited = {Address(keccak256(bytes([number]))[:20]): number for number in range(count)}
    facts, entries = of_hour(1, credited), credits_entries(credited)
    world = World()
    world.send(ANYBODY, *committing(world, facts))
    number = data.draw(st.integers(0, count - 1))
    account = sorted(credited)[number]
    proof = list(list_proofs(entries)[number])
    place, claimed = number, count
    if not (is_whole := data.draw(st.booleans())):
        place, claimed = data.draw(st.integers(0, count)), data.draw(st.integers(0, 2 * count))
        parts = st.sampled_from([bytes(32), *proof]).map(Digest)
        proof = data.draw(st.sampled_from([proof, proof[1:], proof[:-1], proof[::-1], [*proof, data.draw(parts)]]))
    expected = is_listed(facts.credits.root, claimed, place, entries[number], proof)
    assert expected or not is_whole
    said = (1, account, credited[account], place, claimed, proof)
    assert world.ask("WorkCreditsOracle", "hasCredits", *said) == expected


# ------------------------------------------------------------------ WorkCreditsOracle: voters


def of_era(era: int, eligible: dict[Address, bool]) -> Facts:
    entries = voters_entries(eligible)
    return NOTHING._replace(voters=Listed(era, list_root(entries), len(entries)))


def enrolling(world: World, era: int, eligible: dict[Address, bool], accounts: Sequence[Address]) -> tuple[Any, ...]:
    """A call that enrols some accounts, in that order, by what a block is told now."""
    facts, ordered = of_era(era, eligible), sorted(eligible)
    proofs = list_proofs(voters_entries(eligible))
    places = [ordered.index(account) for account in accounts]
    entries = [(place, ordered[place], eligible[ordered[place]]) for place in places]
    time, proof = world.tell(facts), facts_proof(facts, VOTERS)
    return "WorkCreditsOracle", "enrol", *facts.voters, time, proof, entries, [proofs[place] for place in places]


def votes(world: World) -> list[int]:
    return [world.ask("EligibilityManager", "getVotes", account) for account in PAYEES]


def test_whoever_shows_it_makes_nodes_eligible_and_no_longer_so(world: World) -> None:
    listed = dict.fromkeys(PAYEES[:4], True) | {PAYEES[4]: False}
    done = world.send(ANYBODY, *enrolling(world, 5, listed, PAYEES[:3]))
    changed = [Told("EligibilityChanged", {"node": shown(node), "eligible": True}) for node in PAYEES[:3]]
    root = of_era(5, listed).voters.root
    assert done.events == (*changed, Told("VotersEnrolled", {"era": 5, "root": root, "taken": 3}))
    assert votes(world) == [1, 1, 1, 0, 0, 0, 0]
    world.send(NODES[3], *enrolling(world, 5, listed, [PAYEES[3], PAYEES[4]]))
    assert votes(world) == [1, 1, 1, 1, 0, 0, 0]
    world.send(ANYBODY, *enrolling(world, 6, {PAYEES[0]: False, PAYEES[1]: True}, PAYEES[:2]))
    assert votes(world) == [0, 1, 1, 1, 0, 0, 0]  # who is not in a list stays as he was
    assert [world.ask("WorkCreditsOracle", "takenFrom", one) for one in PAYEES[:6]] == [7, 7, 6, 6, 6, 0]


def test_an_entry_is_taken_once_an_era_and_never_of_an_older_one(world: World) -> None:
    world.send(ANYBODY, *enrolling(world, 5, {PAYEES[0]: True, PAYEES[1]: False}, PAYEES[:2]))
    for era, listed in ((4, False), (5, False), (0, False), (5, True)):
        done = world.send(ANYBODY, *enrolling(world, era, {PAYEES[0]: listed}, PAYEES[:1]))
        assert [(event.name, event.said["taken"]) for event in done.events] == [("VotersEnrolled", 0)]
    mixed = world.send(
        ANYBODY, *enrolling(world, 4, dict.fromkeys(PAYEES[:4], True), [PAYEES[at] for at in (0, 2, 1, 3)])
    )
    assert mixed.events[-1].said["taken"] == 2  # older entries do not stop the others
    assert votes(world) == [1, 0, 1, 1, 0, 0, 0]
    twice = enrolling(world, 7, {PAYEES[0]: False, PAYEES[5]: True}, [PAYEES[5], PAYEES[5], PAYEES[0]])
    assert world.send(ANYBODY, *twice).events[-1].said["taken"] == 2
    assert votes(world) == [0, 0, 1, 1, 0, 1, 0]
    world.pass_blocks()
    assert world.ask("EligibilityManager", "getPastTotalSupply", world.block - 1) == 3


def test_entries_that_are_passed_over_are_entries_of_nobody(world: World) -> None:
    """Not even of the address of zeros, which the words that they leave free would name."""
    listed = {NOBODY: True, PAYEES[0]: True, PAYEES[1]: True}
    world.send(ANYBODY, *enrolling(world, 5, listed, [*listed]))
    again = world.send(ANYBODY, *enrolling(world, 5, listed, [*listed]))
    assert [event.name for event in again.events] == ["VotersEnrolled"]
    assert world.ask("EligibilityManager", "getVotes", NOBODY) == 1


def test_nobody_is_enrolled_by_anything_else(world: World) -> None:
    listed = {account: at < 4 for at, account in enumerate(PAYEES)}
    contract, function, *fact, entries, proofs = enrolling(world, 5, listed, PAYEES[:5])
    era, root, count, time, proof = fact

    def refused(*said: Any) -> tuple[str, tuple[Any, ...]]:
        return world.refusal(ANYBODY, contract, function, *said)

    for other in ((6, root, count, time, proof), (era, b"r" * 32, count, time, proof), (era, root, 8, time, proof)):
        assert refused(*other, entries, proofs) == ("NotAFact", (VOTERS, time))
    of_credits = facts_proof(of_era(5, listed), CREDITS)
    assert refused(era, root, count, time, of_credits, entries, proofs) == ("NotAFact", (VOTERS, time))
    assert refused(era, root, count, time + 1, proof, entries, proofs) == ("NoBlockAt", (time + 1,))
    assert refused(*fact, entries, proofs[:-1]) == ("LengthsDiffer", (5, 4))
    assert refused(*fact, entries[1:], proofs) == ("LengthsDiffer", (4, 5))
    place, account, eligible = entries[-1]
    for false, its in (
        ((place, account, not eligible), proofs[-1]),
        ((place, ANYBODY.address, eligible), proofs[-1]),
        ((place ^ 1, account, eligible), proofs[-1]),
        ((count, account, eligible), proofs[-1]),
        ((place, account, eligible), proofs[-1][:-1]),
        ((place, account, eligible), (*proofs[-1], bytes(32))),
        ((place, account, eligible), proofs[0]),
    ):
        assert refused(*fact, [*entries[:-1], false], [*proofs[:-1], its]) == ("NotListed", (false[0],))
    assert votes(world) == [0] * 7  # not even those before the one that was wrong
    world.send(ANYBODY, contract, function, *fact, entries, proofs)
    assert votes(world) == [1, 1, 1, 1, 0, 0, 0]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 127), st.integers(0, 127)), min_size=1, max_size=6))
@settings(max_examples=examples(75))
def test_each_account_is_as_the_latest_era_of_its_entries_said(steps: list[tuple[int, int, int]]) -> None:
    """ERA, who is listed and who of them is eligible, as bits."""
    world, newest = World(), dict[Address, tuple[int, bool]]()
    for era, listed, eligible in steps:
        said = {one: bool(eligible >> at & 1) for at, one in enumerate(PAYEES) if listed >> at & 1}
        done = world.send(ANYBODY, *enrolling(world, era, said, list(said)))
        fresh = {one: (era, may) for one, may in said.items() if one not in newest or newest[one][0] < era}
        assert done.events[-1].said["taken"] == len(fresh)
        newest |= fresh
    assert votes(world) == [int(newest.get(account, (0, False))[1]) for account in PAYEES]
    world.pass_blocks()
    assert world.ask("EligibilityManager", "getPastTotalSupply", world.block - 1) == sum(votes(world))
