"""What nodes vote on is done after its delay if enough of them were for it, once; and nothing else is, by anybody, ever."""

from collections import Counter
from collections.abc import Sequence
from enum import IntEnum
from random import Random
from typing import Any, Final, NamedTuple

import pytest
from eth_abi.abi import encode
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.ids import keccak256
from node.chain.genesis import PLACES
from tests.contracts.world import ACCOUNTS, Account, Done, Reverted, Told, World, encoded
from tests.examples import examples

pytestmark = pytest.mark.component

VOTING, DELAY, EXECUTION = 2_160, 1_440, 10_080
AGAINST, FOR, ABSTAIN = range(3)
ANYBODY, *NODES = ACCOUNTS
KEY: Final = b"cooldownSlots".ljust(32, b"\0")
USUAL: Final = 16
PARAMS, SIGNERS = PLACES["ParamRegistry"], PLACES["SignerRegistry"]
THREE: Final = [one.address for one in NODES[:3]]


class State(IntEnum):
    ACTIVE, DEFEATED, LOCKED, READY, EXECUTED, EXPIRED = range(6)


class Call(NamedTuple):
    """What is proposed, and why."""

    target: bytes
    data: bytes
    description: str = "because"

    def by(self, proposer: Account) -> tuple[bytes, bytes, bytes, bytes]:
        """What `execute` and `idOf` take."""
        return self.target, self.data, proposer.address, keccak256(self.description.encode())


def setting(value: int) -> Call:
    return Call(PARAMS, encoded("ParamRegistry", "set", KEY, value))


def rotating(three: Sequence[bytes]) -> Call:
    return Call(SIGNERS, encoded("SignerRegistry", "rotate", three))


def named(call: Call, proposer: Account) -> bytes:
    return keccak256(encode(["address", "bytes", "address", "bytes32"], call.by(proposer)))


def elect(world: World, nodes: Sequence[Account], eligible: bool = True) -> None:
    accounts = [node.address for node in nodes]
    world.act("EligibilityManager", "WorkCreditsOracle", "setEligible", accounts, [eligible] * len(nodes))


def with_voters(count: int) -> World:
    world = World()
    elect(world, NODES[:count])
    world.pass_blocks()
    return world


@pytest.fixture
def world() -> World:
    return with_voters(5)


def propose(world: World, proposer: Account, call: Call) -> bytes:
    done = world.send(proposer, "Governance", "propose", *call)
    assert done.returned == (named(call, proposer),)
    return named(call, proposer)


def vote(world: World, proposal: bytes, support: int, *voters: Account) -> None:
    for voter in voters:
        world.send(voter, "Governance", "vote", proposal, support)


def execute(world: World, proposer: Account, call: Call) -> Done:
    return world.send(ANYBODY, "Governance", "execute", *call.by(proposer))


def state(world: World, proposal: bytes) -> State:
    return State(world.ask("Governance", "state", proposal))


def cooldown(world: World) -> int:
    value: int = world.ask("ParamRegistry", "get", KEY)
    return value


# ------------------------------------------------------------------ the way of a proposal


def test_a_proposal_is_voted_on_waits_and_is_executed_by_anybody_once(world: World) -> None:
    call, proposer = setting(20), NODES[0]
    proposal, who = named(call, proposer), "0x" + proposer.address.hex()
    made = world.send(proposer, "Governance", "propose", *call)
    said = {"proposal": proposal, "proposer": who, "target": "0x" + PARAMS.hex(), "data": call.data}
    snapshot = world.block - 1
    assert made.events == (Told("ProposalMade", said | {"description": "because", "snapshot": snapshot}),)
    assert world.ask("Governance", "idOf", *call.by(proposer)) == proposal
    cast = world.send(NODES[1], "Governance", "vote", proposal, FOR)  # in the same block
    voter = "0x" + NODES[1].address.hex()
    assert cast.events == (Told("VoteCast", {"proposal": proposal, "voter": voter, "support": FOR}),)
    world.pass_blocks(VOTING - 1)  # the last block of the vote
    vote(world, proposal, AGAINST, NODES[2])
    vote(world, proposal, FOR, NODES[3])
    vote(world, proposal, ABSTAIN, NODES[4])
    assert world.ask("Governance", "tallyOf", proposal) == (snapshot, 1, 2, 1)
    for passed, now in ((0, State.ACTIVE), (1, State.LOCKED), (DELAY - 1, State.LOCKED), (1, State.READY)):
        world.pass_blocks(passed) if passed else None
        assert state(world, proposal) == now
        if now != State.READY:
            assert world.refusal(ANYBODY, "Governance", "execute", *call.by(proposer)) == ("NotReady", (proposal, now))
        if now != State.ACTIVE:
            assert world.refusal(proposer, "Governance", "vote", proposal, FOR) == ("NotActive", (proposal, now))
    assert cooldown(world) == USUAL
    done = execute(world, proposer, call)
    assert done.events == (
        Told("ParamSet", {"key": KEY, "before": USUAL, "value": 20}),
        Told("ProposalExecuted", {"proposal": proposal}),
    )
    for passed in (1, VOTING + DELAY + EXECUTION):
        assert cooldown(world) == 20
        assert state(world, proposal) == State.EXECUTED
        refused = world.refusal(ANYBODY, "Governance", "execute", *call.by(proposer))
        assert refused == ("NotReady", (proposal, State.EXECUTED))
        world.pass_blocks(passed)


def test_times_are_three_days_two_and_fourteen_of_blocks_of_120_s(world: World) -> None:
    days = [world.ask("Governance", name) * 120 / 86_400 for name in ("VOTING", "DELAY", "EXECUTION")]
    assert days == [3, 2, 14]


def test_signers_are_rotated_by_a_vote(world: World) -> None:
    call = rotating(THREE)
    vote(world, propose(world, NODES[4], call), FOR, *NODES[:3])
    world.pass_blocks(VOTING + DELAY)
    execute(world, NODES[4], call)
    assert world.ask("SignerRegistry", "signers") == tuple("0x" + one.hex() for one in THREE)


def test_what_nobody_executes_within_fourteen_days_is_never_done(world: World) -> None:
    last, late = setting(20), setting(21)
    for proposer, call in ((NODES[0], last), (NODES[1], late)):
        vote(world, propose(world, proposer, call), FOR, *NODES[:3])
    world.pass_blocks(VOTING + DELAY + EXECUTION - 1)
    execute(world, NODES[0], last)
    world.pass_blocks()
    proposal = named(late, NODES[1])
    for passed in (1, 100_000):
        refused = world.refusal(ANYBODY, "Governance", "execute", *late.by(NODES[1]))
        assert refused == ("NotReady", (proposal, State.EXPIRED))
        world.pass_blocks(passed)
    assert cooldown(world) == 20


def test_what_the_target_refuses_is_not_done_and_expires(world: World) -> None:
    calls = {
        "OutOfBounds": setting(65),
        "UnknownKey": Call(PARAMS, encoded("ParamRegistry", "set", b"gasLimit".ljust(32, b"\0"), 1)),
        "SignerTwice": rotating([THREE[0], THREE[1], THREE[0]]),
        "NoSigner": rotating([THREE[0], bytes(20), THREE[1]]),
    }
    for proposer, call in zip(NODES[:4], calls.values(), strict=True):
        vote(world, propose(world, proposer, call), FOR, *NODES[:3])
    world.pass_blocks(VOTING + DELAY)
    for proposer, (error, call) in zip(NODES[:4], calls.items(), strict=True):
        for _ in range(2):
            assert world.refusal(ANYBODY, "Governance", "execute", *call.by(proposer))[0] == error
        assert state(world, named(call, proposer)) == State.READY
    world.pass_blocks(EXECUTION)
    assert state(world, named(calls["OutOfBounds"], NODES[0])) == State.EXPIRED


# ------------------------------------------------------------------ who, and what


def test_only_who_was_eligible_in_the_block_before_proposes_and_votes(world: World) -> None:
    late, gone = NODES[5], NODES[0]
    elect(world, [late])
    elect(world, [gone], eligible=False)
    for who in (late, ANYBODY):
        refused = world.refusal(who, "Governance", "propose", *setting(20))
        assert refused == ("NotEligible", ("0x" + who.address.hex(),))
    proposal = propose(world, gone, setting(20))
    world.pass_blocks(10)
    for who in (late, ANYBODY):
        refused = world.refusal(who, "Governance", "vote", proposal, FOR)
        assert refused == ("NotEligible", ("0x" + who.address.hex(),))
    vote(world, proposal, FOR, gone)
    assert world.refusal(gone, "Governance", "propose", *setting(20))[0] == "NotEligible"
    propose(world, late, setting(20))


def test_a_vote_is_given_once_and_to_one_of_three(world: World) -> None:
    proposal = propose(world, NODES[0], setting(20))
    for voter, support in ((NODES[0], FOR), (NODES[1], AGAINST), (NODES[2], ABSTAIN)):
        assert not world.ask("Governance", "hasVoted", proposal, voter.address)
        vote(world, proposal, support, voter)
        assert world.ask("Governance", "hasVoted", proposal, voter.address)
        for again in (AGAINST, FOR, ABSTAIN):
            refused = world.refusal(voter, "Governance", "vote", proposal, again)
            assert refused == ("VotedAlready", (proposal, "0x" + voter.address.hex()))
    for nothing in (3, 255):
        assert world.refusal(NODES[3], "Governance", "vote", proposal, nothing) == ("unknown", (b"",))
    assert world.ask("Governance", "tallyOf", proposal)[1:] == (1, 1, 1)


@pytest.mark.parametrize(
    "call",
    [
        Call(PARAMS, b""),
        Call(PARAMS, setting(20).data[:3]),
        Call(PARAMS, setting(20).data[:4]),
        Call(PARAMS, setting(20).data[:-1]),
        Call(PARAMS, setting(20).data + b"\0"),
        Call(PARAMS, encoded("ParamRegistry", "get", KEY) + bytes(32)),
        Call(SIGNERS, rotating(THREE).data[:-1]),
        Call(SIGNERS, rotating(THREE).data + bytes(32)),
        Call(SIGNERS, encoded("SignerRegistry", "isSigner", THREE[0]) + bytes(64)),
        *(Call(place, setting(20).data) for place in PLACES.values() if place != PARAMS),
        *(Call(place, rotating(THREE).data) for place in PLACES.values() if place != SIGNERS),
        Call(PLACES["LucidToken"], encoded("LucidToken", "mint", THREE[0], 1)),
        Call(NODES[0].address, b""),
        Call(bytes(20), setting(20).data),
    ],
)
def test_nothing_else_can_be_proposed(world: World, call: Call) -> None:
    assert world.refusal(NODES[0], "Governance", "propose", *call) == ("NotAllowed", ("0x" + call.target.hex(),))


def test_an_account_has_one_proposal_that_is_voted_on(world: World) -> None:
    first, other = setting(20), setting(21)
    proposal = propose(world, NODES[0], first)
    propose(world, NODES[1], first)  # of another account's, the same call is another proposal
    for call in (first, other):
        assert world.refusal(NODES[0], "Governance", "propose", *call) == ("OpenAlready", (proposal,))
    world.pass_blocks(VOTING - 1)
    assert world.refusal(NODES[0], "Governance", "propose", *other) == ("OpenAlready", (proposal,))
    world.pass_blocks()
    assert state(world, proposal) == State.DEFEATED
    assert world.refusal(NODES[0], "Governance", "propose", *first) == ("ProposalExists", (proposal,))
    propose(world, NODES[0], first._replace(description="because, again"))


def test_of_a_proposal_that_nobody_made_nothing_can_be_said_or_done(world: World) -> None:
    call, proposer = setting(20), NODES[0]
    vote(world, propose(world, proposer, call), FOR, *NODES[:5])
    world.pass_blocks(VOTING + DELAY)
    target, data, who, why = call.by(proposer)
    for other in (
        (SIGNERS, data, who, why),
        (target, setting(21).data, who, why),
        (target, data + b"\0", who, why),
        (target, data, NODES[1].address, why),
        (target, data, who, bytes(32)),
    ):
        assert world.refusal(ANYBODY, "Governance", "execute", *other)[0] == "ProposalUnknown"
    unknown = bytes(32)
    assert world.refusal(NODES[0], "Governance", "vote", unknown, FOR) == ("ProposalUnknown", (unknown,))
    for view in ("state", "tallyOf"):
        with pytest.raises(Reverted, match="ProposalUnknown"):
            world.ask("Governance", view, unknown)
    execute(world, proposer, call)


# ------------------------------------------------------------------ what carries


@pytest.mark.parametrize(
    ("eligible", "against", "in_favour", "abstaining", "carried"),
    [
        (1, 0, 1, 0, True),
        (1, 0, 0, 0, False),
        (1, 0, 0, 1, False),
        (2, 0, 1, 0, True),
        (2, 1, 1, 0, False),
        (3, 0, 1, 0, False),  # a third is too few
        (3, 0, 1, 1, True),
        (3, 1, 2, 0, True),
        (3, 2, 1, 0, False),
        (6, 0, 2, 0, False),
        (6, 0, 3, 0, True),
        (6, 0, 1, 2, True),
        (6, 1, 1, 2, False),
        (6, 4, 2, 0, False),
        (6, 2, 2, 2, False),
        (6, 2, 3, 1, True),
        (7, 1, 2, 0, False),  # those against do not make it carry
        (7, 2, 3, 0, True),
        (7, 0, 2, 1, True),
    ],
)
def test_more_than_a_third_are_for_it_or_abstain_and_more_for_it_than_against(
    eligible: int, against: int, in_favour: int, abstaining: int, carried: bool
) -> None:
    world = with_voters(eligible)
    proposal = propose(world, NODES[0], setting(20))
    supports = [AGAINST] * against + [FOR] * in_favour + [ABSTAIN] * abstaining
    for voter, support in zip(NODES, supports, strict=False):
        vote(world, proposal, support, voter)
    elect(world, NODES, eligible=False)  # who is eligible later does not matter
    world.pass_blocks(VOTING)
    assert state(world, proposal) == (State.LOCKED if carried else State.DEFEATED)
    world.pass_blocks(DELAY)
    refused = ("NotReady", (proposal, State.DEFEATED))
    if carried:
        execute(world, NODES[0], setting(20))
    else:
        assert world.refusal(ANYBODY, "Governance", "execute", *setting(20).by(NODES[0])) == refused
    assert cooldown(world) == (20 if carried else USUAL)


# ------------------------------------------------------------------ all of it, in any order


class Ballot(NamedTuple):
    """A proposal as the rules have it."""

    call: Call
    proposer: int
    began: int
    roll: frozenset[int]
    """Who was eligible in the block before."""
    given: dict[int, int]


class Model:
    """The rules in Python, beside a world: what is done to both has to come to the same."""

    def __init__(self) -> None:
        self.world = World()
        self.eligible: frozenset[int] = frozenset()
        self.before: frozenset[int] = frozenset()
        """In the block before."""
        self.ballots: list[Ballot] = []
        self.done: list[int] = []
        self.value = USUAL

    def state(self, one: Ballot) -> State:
        passed = self.world.block - one.began + 1
        if self.ballots.index(one) in self.done:
            return State.EXECUTED
        if passed <= VOTING:
            return State.ACTIVE
        count = [list(one.given.values()).count(support) for support in range(3)]
        if count[FOR] <= count[AGAINST] or (count[FOR] + count[ABSTAIN]) * 3 <= len(one.roll):
            return State.DEFEATED
        if passed <= VOTING + DELAY:
            return State.LOCKED
        return State.READY if passed <= VOTING + DELAY + EXECUTION else State.EXPIRED

    def tried(self, who: Account, function: str, *said: Any) -> bool:
        try:
            self.world.send(who, "Governance", function, *said)
        except Reverted:
            return False
        return True

    def pass_blocks(self, count: int) -> None:
        self.world.pass_blocks(count)
        self.before = self.eligible

    def elect(self, node: int) -> None:
        is_new = node not in self.eligible
        elect(self.world, [NODES[node]], eligible=is_new)
        self.eligible ^= {node}

    def propose(self, node: int, value: int) -> None:
        call = setting(value)._replace(description=f"number {len(self.ballots)}")
        is_open = any(one.proposer == node and self.state(one) == State.ACTIVE for one in self.ballots)
        may = node in self.before and not is_open
        assert self.tried(NODES[node], "propose", *call) == may
        if may:
            self.ballots.append(Ballot(call, node, self.world.block, self.before, {}))

    def vote(self, node: int, which: int, support: int) -> None:
        one = self.ballots[which]
        may = self.state(one) == State.ACTIVE and node in one.roll and node not in one.given
        assert self.tried(NODES[node], "vote", named(one.call, NODES[one.proposer]), support) == may
        if may:
            one.given[node] = support

    def execute(self, which: int) -> None:
        one = self.ballots[which]
        may = self.state(one) == State.READY
        assert self.tried(ANYBODY, "execute", *one.call.by(NODES[one.proposer])) == may
        if may:
            self.done.append(which)
            self.value = int.from_bytes(one.call.data[-32:], "big")

    def check(self) -> None:
        assert cooldown(self.world) == self.value
        for one in self.ballots:
            proposal = named(one.call, NODES[one.proposer])
            assert state(self.world, proposal) == self.state(one)
            given = list(one.given.values())
            count = tuple(given.count(support) for support in range(3))
            assert self.world.ask("Governance", "tallyOf", proposal) == (one.began - 1, *count)


PASSING: Final = st.sampled_from([1, VOTING - 1, VOTING, DELAY - 1, DELAY, VOTING + DELAY, EXECUTION - 1, EXECUTION])
GIVEN: Final = st.tuples(st.integers(0, 4), st.sampled_from([FOR, FOR, FOR, ABSTAIN, AGAINST]))


@given(st.data())
@settings(max_examples=examples(100))
def test_whatever_is_done_the_rules_hold(data: st.DataObject) -> None:
    """Never executed without quorum, majority and delay, and once; a vote counts once; one proposal at a time."""
    model = Model()
    for node in range(data.draw(st.integers(1, 4))):
        model.elect(node)
    model.pass_blocks(1)
    for _ in range(data.draw(st.integers(1, 4))):
        for node in data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=3)):
            model.propose(node, data.draw(st.integers(8, 64)))
        which = st.integers(0, max(0, len(model.ballots) - 1))
        for passed in data.draw(st.lists(PASSING, min_size=1, max_size=3)):
            for node, support in data.draw(st.lists(GIVEN, max_size=6)) if model.ballots else ():
                model.vote(node, data.draw(which), support)
            for node in data.draw(st.lists(st.integers(0, 4), max_size=2)):
                model.elect(node)
            model.check()
            model.pass_blocks(passed)
            for _ in range(min(2, len(model.ballots))):
                model.execute(data.draw(which))
            model.check()


def walked(seed: int, steps: int) -> Counter[tuple[str, State]]:
    """A walk in which time stops at the edges of what is allowed; what was tried how often, of proposals in which state."""
    model, rng, tried = Model(), Random(seed), Counter[tuple[str, State]]()
    for node in rng.sample(range(5), rng.randint(2, 5)):
        model.elect(node)
    model.pass_blocks(1)
    for _ in range(steps):
        move = rng.choices(("elect", "propose", "vote", "execute", "pass"), (3, 2, 24, 8, 4))[0]
        if move == "elect" and len(model.eligible) > 2:
            model.elect(rng.randrange(5))
        elif move == "propose":
            model.propose(rng.randrange(5), rng.randint(8, 64))
        elif move == "pass":
            model.pass_blocks(rng.choice((1, 1, VOTING - 1, VOTING, DELAY - 1, DELAY, EXECUTION - 1, EXECUTION)))
        elif model.ballots and move in ("vote", "execute"):
            which = rng.randrange(max(0, len(model.ballots) - 3), len(model.ballots))
            tried[move, model.state(model.ballots[which])] += 1
            if move == "vote":
                model.vote(rng.randrange(6), which, rng.choice((FOR, FOR, FOR, ABSTAIN, AGAINST)))
            else:
                model.execute(which)
        model.check()
    return tried


def test_on_long_walks_the_rules_hold_and_all_is_tried_in_every_state() -> None:
    """The seeds are fixed, so that what they reach can be asked for: a walk that no longer gets there tests nothing."""
    tried = sum((walked(seed, 150) for seed in range(10)), Counter[tuple[str, State]]())
    assert min(tried[move, state] for move in ("vote", "execute") for state in State) >= 3
