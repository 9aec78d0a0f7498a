"""What a proposer asks before it includes a record: the same rules as in a block, each with its reason and its price."""

from dataclasses import replace

import pytest

from consensus.block import BlockBody
from consensus.checkpoint import Included
from consensus.finality import sign_vote
from consensus.ids import NodeId
from consensus.inclusion import Invalid, Rules, check_header, check_report, check_uncle, check_vote, era_keys
from consensus.params import DEVNET, SERVER_RANK, UNCLE_SLOTS
from consensus.reasons import BLAMED, Reason
from consensus.state import State, leaders
from tests.consensus.towns import LASTING, verify, verify_proof
from tests.consensus.worlds import FULL, NETWORK, Village, key, named, sign_registration


def village(founders: int = 7) -> Village:
    made = Village(founders, LASTING)
    made.rules = Rules(made.law, verify, verify_proof)
    return made


V = village()
FIRST = V.after(V.genesis, 1)
NOW = V.at(FIRST, 5)


def test_a_report_of_an_hour_that_the_state_does_not_reach_is_of_none() -> None:
    late = V.at(V.genesis, 4 * 40)
    assert check_report(V.rules, V.genesis, 4 * 40, V.report(late, 39, 0)) is Reason.UNKNOWN_HOUR


def test_a_report_may_be_included_from_the_end_of_its_hour_for_so_many_slots() -> None:
    found = {}
    for slot in range(1, 20):
        state = V.at(V.genesis, slot)
        found[slot] = check_report(V.rules, state, slot, V.report(V.at(V.genesis, 4), 1, 0)) if slot >= 4 else None
    good = {slot for slot, seen in found.items() if isinstance(seen, Included)}
    assert good == {*range(8, 8 + LASTING.report_slots)}
    assert {seen for seen in found.values() if isinstance(seen, Reason)} == {Reason.OUT_OF_TIME}
    assert found[8] == Included(FULL, b"")


def test_a_vote_is_checked_against_the_checkpoint_that_it_is_for() -> None:
    good = V.vote(NOW, 1)
    assert check_vote(V.rules, NOW, good) is None
    assert check_vote(V.rules, V.at(FIRST, 9), good) is None  # late by an HOUR
    assert check_vote(V.rules, V.at(FIRST, 13), good) is Reason.OTHER_CHECKPOINT
    assert check_vote(V.rules, V.at(V.genesis, 5), good) is Reason.OTHER_CHECKPOINT  # on another branch
    ahead = sign_vote(replace(good.vote, target_hour=2), key(1), NETWORK)
    assert check_vote(V.rules, NOW, ahead) is Reason.OTHER_CHECKPOINT


def test_only_what_no_branch_can_make_right_is_anybodys_fault() -> None:
    assert {*BLAMED} == {Reason.VOTE_UNSIGNED, Reason.NO_VRF_KEY, Reason.REGISTRATION_UNSIGNED, Reason.LITTLE_WORK}
    assert len({*map(str, Reason)}) == len([*Reason])


def test_an_uncle_counts_for_eight_slots_however_few_blocks_there_are() -> None:
    passed = V.after(FIRST, 2, rank=3)
    signed = V.block(FIRST, 2, rank=1).signed
    assert check_uncle(V.rules, V.at(passed, 3), signed) is None
    assert check_uncle(V.rules, V.at(passed, 2 + UNCLE_SLOTS), signed) is None
    assert check_uncle(V.rules, V.at(passed, 3 + UNCLE_SLOTS), signed) is Reason.NO_UNCLE
    forged = replace(signed, signatures=V.block(FIRST, 2, rank=2).signed.signatures)
    assert check_uncle(V.rules, V.at(passed, 3), forged) is Reason.UNCLE_INVALID


def test_the_keys_of_a_voter_are_those_of_all_hours_that_are_remembered() -> None:
    other = Village(3, DEVNET)
    start = other.at(other.genesis, 1)
    made = other.registration(start, 1).registration
    joined = sign_registration(replace(made, era_key=key(50).public), key(1))
    also = other.registration(start, 0), other.registration(start, 2)
    state = other.after(other.genesis, 1, BlockBody(registrations=(joined, *also)))
    for slot in (5, 9, 13, 17, 21):
        votes = [other.vote(other.at(state, slot), voter) for voter in range(3)]
        at = other.at(state, slot).checkpoint
        votes[1] = sign_vote(votes[1].vote, key(50) if at.key_of[other.nodes[1]] == key(50).public else key(1), NETWORK)
        state = other.after(state, slot, BlockBody(votes=tuple(votes)), SERVER_RANK)
    assert [*era_keys(other.at(state, 24), other.nodes[1])] == [key(1).public, key(50).public]
    assert era_keys(state, NodeId(named(1))) == []


def test_the_header_alone_is_judged_before_anything_else() -> None:
    signed = V.block(FIRST, 5).signed
    drawn = leaders(V.law, NOW, 5)
    asked: list[bytes] = []

    def proven(public: bytes, alpha: bytes, proof: bytes) -> bytes | None:
        asked.append(proof)
        return verify_proof(public, alpha, proof)

    rules = Rules(V.law, verify, proven)
    assert check_header(rules, NOW, signed, drawn, NOW.seed) is not None
    with pytest.raises(Invalid, match="has not signed"):
        check_header(rules, NOW, replace(signed, signatures=V.block(FIRST, 6).signed.signatures), drawn, NOW.seed)
    with pytest.raises(Invalid, match="another's"):
        check_header(rules, NOW, signed, drawn[1:], NOW.seed)
    assert len(asked) == 1  # the dear check is the last
    with pytest.raises(Invalid, match="VRF proof is wrong"):
        check_header(rules, NOW, signed, drawn, named(1))


def test_states_are_values() -> None:
    again: State = V.at(V.after(V.genesis, 1), 5)
    assert again == NOW
    assert again is not NOW
