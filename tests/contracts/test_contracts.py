"""What the contracts of the genesis do, on py-evm at Prague: who may say what once, and what everybody can look up."""

import pytest
from eth_abi.packed import encode_packed
from hypothesis import given
from hypothesis import strategies as st

from consensus.ids import Address, keccak256, session_id
from node.chain.genesis import PLACES
from tests.contracts.world import ACCOUNTS, SLOT_S, Reverted, Told, World

pytestmark = pytest.mark.component

OWNER, OTHER, *_ = ACCOUNTS
UUID, KEY, POLICY = bytes(range(16)), bytes(range(32)), b"\7" * 32
ID = bytes(session_id(Address(OWNER.address), UUID, KEY))
NOBODY = bytes(20)


@pytest.fixture
def world() -> World:
    made = World()
    made.pass_blocks(3)
    return made


# ------------------------------------------------------------------ LucidAnchors


def test_a_session_is_opened_followed_and_closed_by_its_owner_alone(world: World) -> None:
    opened = world.send(OWNER, "LucidAnchors", "open", UUID, KEY, POLICY)
    assert opened.returned == (ID,)
    who = "0x" + OWNER.address.hex()
    assert opened.events == (
        Told("SessionOpened", {"session": ID, "owner": who, "uuid": UUID, "ephemeralKey": KEY, "policyHash": POLICY}),
    )
    assert world.ask("LucidAnchors", "sessionOf", ID) == (who, world.time, False)
    world.pass_blocks()
    head = world.send(OWNER, "LucidAnchors", "head", ID, 7, b"h" * 32)
    assert head.events == (Told("HeadAnchored", {"session": ID, "number": 7, "head": b"h" * 32}),)
    for call in (("head", ID, 8, b"h" * 32), ("close", ID, bytes(32), bytes(32), 1, 1)):
        assert world.refusal(OTHER, "LucidAnchors", *call) == ("NotOwner", (ID, who))
    closed = world.send(OWNER, "LucidAnchors", "close", ID, b"m" * 32, b"r" * 32, 12, 3)
    said = {"session": ID, "manifestHash": b"m" * 32, "merkleRoot": b"r" * 32, "chunkCount": 12, "headCount": 3}
    assert closed.events == (Told("SessionClosed", said),)
    assert world.ask("LucidAnchors", "sessionOf", ID) == (who, world.time - SLOT_S, True)


def test_an_id_is_used_once_and_by_nobody_who_only_saw_it(world: World) -> None:
    stolen = world.send(OTHER, "LucidAnchors", "open", UUID, KEY, POLICY)  # in the same block, before the owner's
    assert stolen.returned != (ID,)
    world.send(OWNER, "LucidAnchors", "open", UUID, KEY, POLICY)
    assert world.refusal(OWNER, "LucidAnchors", "open", UUID, KEY, bytes(32)) == ("SessionExists", (ID,))
    world.send(OWNER, "LucidAnchors", "close", ID, bytes(32), bytes(32), 0, 0)
    for call in (("head", ID, 0, bytes(32)), ("close", ID, bytes(32), bytes(32), 0, 0)):
        assert world.refusal(OWNER, "LucidAnchors", *call) == ("SessionClosedAlready", (ID,))
    assert world.refusal(OWNER, "LucidAnchors", "open", UUID, KEY, POLICY) == ("SessionExists", (ID,))


def test_of_a_session_that_nobody_opened_nothing_can_be_said(world: World) -> None:
    for call in (("head", ID, 0, bytes(32)), ("close", ID, bytes(32), bytes(32), 0, 0)):
        assert world.refusal(OWNER, "LucidAnchors", *call) == ("SessionUnknown", (ID,))
    with pytest.raises(Reverted, match="SessionUnknown"):
        world.ask("LucidAnchors", "sessionOf", ID)


@given(st.binary(min_size=20, max_size=20), st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32))
def test_an_id_is_the_one_that_recordings_carry(owner: bytes, uuid: bytes, key: bytes) -> None:
    """The recorder's own (consensus.ids), the contract's, and eth-abi's packing hashed."""
    found = World().ask("LucidAnchors", "idOf", owner, uuid, key)
    packed = encode_packed(["address", "bytes16", "bytes32"], ["0x" + owner.hex(), uuid, key])
    assert found == session_id(Address(owner), uuid, key) == keccak256(packed)


# ------------------------------------------------------------------ LucidChunkStore


def chunk(number: int) -> tuple[bytes, int, list[bytes]]:
    return bytes([number]) * 32, 1_000 + number, [bytes([number, j]) * 16 for j in range(3)]


def committed(*numbers: int) -> tuple[Told, ...]:
    return tuple(
        Told(
            "ChunkCommitted", {"session": ID, "chunk": name, "number": number - 1, "size": size, "roots": tuple(roots)}
        )
        for number in numbers
        for name, size, roots in (chunk(number),)
    )


def test_chunks_are_committed_to_in_their_order_by_the_owner_of_their_session(world: World) -> None:
    world.send(OWNER, "LucidAnchors", "open", UUID, KEY, POLICY)
    done = world.send(OWNER, "LucidChunkStore", "commit", ID, 0, [chunk(1), chunk(2)])
    assert done.events == committed(1, 2)
    for first in (0, 1, 3):  # what is sent again, or too soon, is refused
        assert world.refusal(OWNER, "LucidChunkStore", "commit", ID, first, [chunk(3)]) == ("OutOfOrder", (ID, 2))
    world.send(OWNER, "LucidAnchors", "close", ID, bytes(32), bytes(32), 3, 0)
    last = world.send(OWNER, "LucidChunkStore", "commit", ID, 2, [chunk(3)])  # the close cuts a last one
    assert last.events == committed(3)
    assert world.ask("LucidChunkStore", "committed", ID) == 3


def test_nobody_commits_for_another_or_for_nothing(world: World) -> None:
    assert world.refusal(OWNER, "LucidChunkStore", "commit", ID, 0, [chunk(1)]) == ("SessionUnknown", (ID,))
    world.send(OWNER, "LucidAnchors", "open", UUID, KEY, POLICY)
    who = "0x" + OWNER.address.hex()
    assert world.refusal(OTHER, "LucidChunkStore", "commit", ID, 0, [chunk(1)]) == ("NotOwner", (ID, who))
    assert world.refusal(OWNER, "LucidChunkStore", "commit", ID, 0, []) == ("NoChunks", ())
    assert world.ask("LucidChunkStore", "committed", ID) == 0


def committed_to(world: World, count: int) -> None:
    world.send(OWNER, "LucidAnchors", "open", UUID, KEY, POLICY)
    for first in range(0, count, 100):
        batch = [chunk(number % 256) for number in range(first, min(first + 100, count))]
        world.send(OWNER, "LucidChunkStore", "commit", ID, first, batch)


def test_a_holder_says_which_replicas_it_holds_and_says_it_itself(world: World) -> None:
    committed_to(world, 300)
    who = "0x" + OTHER.address.hex()
    for first, bits, replica in ((0, 1, 0), (299, 1, 2), (44, 2**255, 1), (0, 2**256 - 1, 2), (290, 2**9 + 4, 0)):
        done = world.send(OTHER, "LucidChunkStore", "hold", ID, first, bits, replica)
        said = {"session": ID, "holder": who, "replica": replica, "first": first, "bits": bits}
        assert done.events == (Told("ChunksHeld", said),)


def test_whoever_checked_a_holder_says_what_it_found(world: World) -> None:
    committed_to(world, 3)
    said = {"session": ID, "holder": "0x" + OWNER.address.hex(), "prober": "0x" + OTHER.address.hex()}
    for number, replica, available in ((0, 0, True), (2, 2, False)):
        done = world.send(OTHER, "LucidChunkStore", "probe", ID, number, replica, OWNER.address, available)
        found = {"number": number, "replica": replica, "available": available}
        assert done.events == (Told("ChunkProbed", said | found),)


def test_nothing_is_said_of_chunks_or_replicas_that_are_not_there(world: World) -> None:
    def held(first: int, bits: int, replica: int = 0) -> tuple[str, tuple[object, ...]]:
        return world.refusal(OTHER, "LucidChunkStore", "hold", ID, first, bits, replica)

    def probed(number: int, replica: int = 0) -> tuple[str, tuple[object, ...]]:
        return world.refusal(OTHER, "LucidChunkStore", "probe", ID, number, replica, OWNER.address, True)

    assert held(0, 1) == probed(0) == ("NotCommitted", (ID, 0))  # of a session that nobody opened
    committed_to(world, 3)
    for first, bits in (
        (0, 8),
        (0, 9),
        (0, 2**255),
        (2, 2),
        (2, 3),
        (3, 1),
        (4, 1),
        (2**64 - 1, 1),
        (2**64 - 1, 2**255),
    ):
        assert held(first, bits) == ("NotCommitted", (ID, 3))
    for number in (3, 4, 2**64 - 1):
        assert probed(number) == ("NotCommitted", (ID, 3))
    assert held(0, 0) == ("NoChunks", ())
    for replica in (3, 255):
        assert held(0, 1, replica) == probed(0, replica) == ("NoReplica", (replica,))


# ------------------------------------------------------------------ ParamRegistry


def key(name: str) -> bytes:
    return name.encode().ljust(32, b"\0")


BOUNDS = {  # SPEC §4, for those that it bounds
    "slotTimeoutMs": (5_000, 1_000, 10_000),
    "cooldownSlots": (16, 8, 64),
    "leaderWindowDays": (7, 3, 14),
}


def test_every_key_has_a_usual_value_within_its_bounds(world: World) -> None:
    keys = world.ask("ParamRegistry", "keys")
    assert len({*keys}) == 8
    for name in keys:
        usual, low, high = world.ask("ParamRegistry", "boundsOf", name)
        assert low <= usual <= high
        assert world.ask("ParamRegistry", "get", name) == usual
    for name, bounds in BOUNDS.items():
        assert world.ask("ParamRegistry", "boundsOf", key(name)) == bounds


def test_only_governance_changes_a_value_and_within_its_bounds(world: World) -> None:
    name = key("cooldownSlots")
    assert world.refusal(OWNER, "ParamRegistry", "set", name, 20) == ("NotGovernance", ())
    for value in (8, 64, 0x10):
        before = world.ask("ParamRegistry", "get", name)
        done = world.act("ParamRegistry", "Governance", "set", name, value)
        assert done.events == (Told("ParamSet", {"key": name, "before": before, "value": value}),)
        assert world.ask("ParamRegistry", "get", name) == value
    for value in (0, 7, 65, 2**256 - 1):
        with pytest.raises(Reverted) as caught:
            world.act("ParamRegistry", "Governance", "set", name, value)
        assert (caught.value.name, caught.value.said) == ("OutOfBounds", (name, value, 8, 64))
    assert world.ask("ParamRegistry", "get", name) == 16
    for call in (("set", key("gasLimit"), 1), ("set", b"cooldownSlots" + b"\1" * 19, 16)):
        with pytest.raises(Reverted, match="UnknownKey"):
            world.act("ParamRegistry", "Governance", *call)


# ------------------------------------------------------------------ EligibilityManager


def test_who_is_eligible_has_one_vote_from_then_on_and_what_was_stays(world: World) -> None:
    nodes = [one.address for one in ACCOUNTS[:3]]
    assert world.refusal(OWNER, "EligibilityManager", "setEligible", nodes, [True] * 3) == ("NotOracle", ())
    done = world.act("EligibilityManager", "WorkCreditsOracle", "setEligible", nodes, [True, True, False])
    assert [event.said["node"] for event in done.events] == ["0x" + node.hex() for node in nodes[:2]]
    then = world.block
    world.pass_blocks(2)
    world.act("EligibilityManager", "WorkCreditsOracle", "setEligible", nodes, [False, True, True])
    votes = [world.ask("EligibilityManager", "getVotes", node) for node in nodes]
    assert votes == [0, 1, 1]
    now = world.block
    world.pass_blocks()
    past = [[world.ask("EligibilityManager", "getPastVotes", node, at) for node in nodes] for at in (then, now)]
    assert past == [[1, 1, 0], [0, 1, 1]]
    totals = [world.ask("EligibilityManager", "getPastTotalSupply", at) for at in (then - 1, then, now)]
    assert totals == [0, 2, 2]
    with pytest.raises(Reverted, match="FutureLookup"):
        world.ask("EligibilityManager", "getPastVotes", nodes[0], world.block)


def test_a_vote_is_nobody_elses(world: World) -> None:
    assert world.ask("EligibilityManager", "delegates", OWNER.address) == "0x" + OWNER.address.hex()
    assert world.refusal(OWNER, "EligibilityManager", "delegate", OTHER.address) == ("NoDelegation", ())
    signed = (OTHER.address, 0, 2**64, 27, bytes(32), bytes(32))
    assert world.refusal(OWNER, "EligibilityManager", "delegateBySig", *signed) == ("NoDelegation", ())
    with pytest.raises(Reverted, match="LengthsDiffer"):
        world.act("EligibilityManager", "WorkCreditsOracle", "setEligible", [OWNER.address], [])


# ------------------------------------------------------------------ LucidToken


def test_lucid_is_minted_by_the_minter_alone_and_past_balances_can_be_looked_up(world: World) -> None:
    assert (world.ask("LucidToken", "name"), world.ask("LucidToken", "symbol")) == ("Lucid", "LUCID")
    assert world.refusal(OWNER, "LucidToken", "mint", OWNER.address, 1) == ("NotMinter", ())
    world.act("LucidToken", "RewardMinter", "mint", OWNER.address, 50)
    minted = world.block
    world.pass_blocks(4)
    world.send(OWNER, "LucidToken", "transfer", OTHER.address, 20)
    sent = world.block
    world.pass_blocks()
    for at, of in ((minted - 1, (0, 0, 0)), (minted, (50, 0, 50)), (sent - 1, (50, 0, 50)), (sent, (30, 20, 50))):
        found = [world.ask("LucidToken", "balanceOfAt", who.address, at) for who in (OWNER, OTHER)]
        assert (*found, world.ask("LucidToken", "totalSupplyAt", at)) == of
    with pytest.raises(Reverted, match="FutureLookup"):
        world.ask("LucidToken", "balanceOfAt", OWNER.address, world.block)
    assert world.refusal(OWNER, "LucidToken", "transfer", OTHER.address, 31)[0] == "ERC20InsufficientBalance"


# ------------------------------------------------------------------ SignerRegistry


def test_three_signers_are_rotated_by_governance_and_are_three(world: World) -> None:
    three = [one.address for one in ACCOUNTS[:3]]
    assert world.ask("SignerRegistry", "THRESHOLD") == 2
    assert world.refusal(OWNER, "SignerRegistry", "rotate", three) == ("NotGovernance", ())
    done = world.act("SignerRegistry", "Governance", "rotate", three)
    assert done.events[0].said["generation"] == world.ask("SignerRegistry", "generation") == 1
    assert world.ask("SignerRegistry", "signers") == tuple("0x" + one.hex() for one in three)
    assert [world.ask("SignerRegistry", "isSigner", who) for who in (*three, ACCOUNTS[3].address, NOBODY)] == [
        *[True] * 3,
        False,
        False,
    ]
    for wrong, name in (([three[0], three[1], three[0]], "SignerTwice"), ([three[0], NOBODY, three[1]], "NoSigner")):
        with pytest.raises(Reverted, match=name):
            world.act("SignerRegistry", "Governance", "rotate", wrong)
    assert world.ask("SignerRegistry", "generation") == 1


def test_no_contract_is_where_another_is_and_none_takes_coins(world: World) -> None:
    assert len({*PLACES.values()}) == len(PLACES)
    assert all(place.startswith(b"Lucid") and len(place) == 20 for place in PLACES.values())
