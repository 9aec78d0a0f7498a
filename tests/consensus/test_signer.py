"""The signer: whatever it is asked, forgets and hears, no two things that it signs contradict each other."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.block import BlockHeader, contradict_headers, header_signable, sign_header
from consensus.encoding import Malformed
from consensus.finality import SignedVote, Vote, contradict, sign_vote, vote_signable
from consensus.ids import NodeId
from consensus.signer import FRESH, Signer, SigningJournal, journal_key
from consensus.signing import verify_as_is
from tests.consensus.worlds import NETWORK, key, named

KEYS = key(1)
ME = NodeId(KEYS.public)


def vote(source: int, target: int, head: int = 0) -> Vote:
    return Vote(ME, source, named(source), target, named(target), named(0), named(head))


def header(slot: int, rank: int = 0, state: int = 0) -> BlockHeader:
    return BlockHeader(slot, rank, named(0), ME, bytes(80), named(0), named(0), named(state))


def heard(one: Vote) -> SignedVote:
    return sign_vote(one, KEYS, NETWORK)


def begun(row: bytes | None = None) -> Signer:
    return Signer(KEYS, NETWORK, row)


votes = st.builds(vote, st.integers(0, 9), st.integers(0, 12), st.integers(0, 1))
headers = st.builds(header, st.integers(0, 9), st.integers(0, 6), st.integers(0, 1))


# ------------------------------------------------------------------ signing


def test_what_is_signed_verifies_and_the_journal_says_so() -> None:
    signer = begun()
    assert signer.journal == FRESH
    assert signer.public == KEYS.public
    voted, proposed = signer.vote(vote(3, 4)), signer.propose(header(9, 2))
    assert voted == heard(vote(3, 4))
    assert verify_as_is(KEYS.public, voted.signature, vote_signable(voted.vote, NETWORK))
    assert proposed == sign_header(header(9, 2), KEYS, NETWORK)
    signature = proposed.signatures.signatures[0]
    assert verify_as_is(KEYS.public, signature, header_signable(proposed.header, NETWORK))
    assert signer.journal == SigningJournal(3, 4, voted.signature, 9, 2, signature)
    assert begun(signer.row).journal == signer.journal
    assert verify_as_is(KEYS.public, signer.sign(b"statement"), b"statement")
    assert begun(signer.row).row == signer.row
    with pytest.raises(Malformed):
        begun(b"no journal")


def test_nothing_lower_and_nothing_twice_is_signed_and_a_refusal_changes_nothing() -> None:
    signer = begun()
    assert signer.vote(vote(0, 0)) is None  # the genesis is justified by nobody's vote
    assert signer.propose(header(0)) is None
    assert signer.vote(vote(3, 4)) is not None
    assert signer.propose(header(9, 2)) is not None
    row = signer.row
    for refused in (vote(3, 4), vote(3, 4, head=1), vote(3, 3), vote(2, 5), vote(9, 4)):
        assert signer.vote(refused) is None
    for late in (header(9, 2), header(9, 3), header(8)):
        assert signer.propose(late) is None
    assert signer.row == row
    assert signer.vote(vote(3, 5)) is not None
    assert signer.propose(header(10)) is not None


@given(st.lists(st.one_of(votes, headers, st.just("restart")), max_size=40))
def test_no_two_things_that_are_signed_contradict_each_other(asked: list[Vote | BlockHeader | str]) -> None:
    """The row as it was when the last signature left is all that a restart has."""
    signer = begun()
    voted: list[Vote] = []
    proposed: list[BlockHeader] = []
    for one in asked:
        match one:
            case Vote():
                voted += [one] if signer.vote(one) is not None else []
            case BlockHeader():
                proposed += [one] if signer.propose(one) is not None else []
            case _:
                signer = begun(signer.row)
    assert not any(contradict(one, other) for one in voted for other in voted)
    assert len({one.target_hour for one in voted}) == len(voted)
    assert len({one.slot for one in proposed}) == len(proposed)
    assert not any(contradict_headers(one, other) for one in proposed for other in proposed)


@given(st.lists(votes, max_size=20), st.lists(headers, max_size=20), st.data())
def test_an_old_copy_that_hears_what_was_signed_later_contradicts_nothing(
    wanted: list[Vote], blocks: list[BlockHeader], data: st.DataObject
) -> None:
    first = begun()
    rows, voted, proposed = [first.row], [], []
    for one in wanted:
        voted += [] if (made := first.vote(one)) is None else [made]
        rows.append(first.row)
    for block in blocks:
        proposed += [] if (done := first.propose(block)) is None else [done]
        rows.append(first.row)
    copy = begun(data.draw(st.sampled_from(rows)))
    for signed in data.draw(st.permutations(voted)):
        assert not copy.heard_vote(signed, since=12)
    for shown in data.draw(st.permutations(proposed)):
        assert not copy.heard_proposal(shown, since=9)
    everything = [signed.vote for signed in voted]
    for one in data.draw(st.lists(votes, max_size=10)):
        if (signed_later := copy.vote(one)) is not None:
            assert not any(contradict(signed_later.vote, other) for other in everything)
    for block in data.draw(st.lists(headers, max_size=10)):
        if copy.propose(block) is not None:
            assert block.slot not in {shown.header.slot for shown in proposed}


# ------------------------------------------------------------------ doubles


def test_a_vote_after_the_start_that_the_journal_does_not_know_shows_a_double() -> None:
    signer = begun()
    own = signer.vote(vote(7, 8))
    assert own is not None
    row = signer.row
    assert not signer.heard_vote(own, since=5)
    assert not signer.heard_vote(heard(vote(6, 7)), since=5)  # lower than what is signed: of no consequence
    assert signer.heard_vote(heard(vote(7, 8, head=1)), since=5)
    assert signer.heard_vote(heard(vote(8, 9)), since=5)
    assert signer.row == row


def test_a_vote_from_before_the_start_is_learnt() -> None:
    signer = begun()
    earlier = heard(vote(7, 8))
    assert not signer.heard_vote(earlier, since=8)
    assert signer.journal == replace(FRESH, source_hour=7, target_hour=8, vote=earlier.signature)
    assert signer.vote(vote(7, 8)) is None
    assert signer.vote(vote(6, 9)) is None
    assert not signer.heard_vote(heard(vote(6, 8)), since=8)
    assert signer.journal.source_hour == 7  # never lower
    assert signer.heard_vote(heard(vote(8, 9)), since=8)
    assert signer.vote(vote(7, 9)) is not None


def test_a_header_shows_a_double_or_is_learnt_likewise() -> None:
    signer = begun()
    own = signer.propose(header(8, 1))
    assert own is not None
    row = signer.row
    assert not signer.heard_proposal(own, since=5)
    assert not signer.heard_proposal(sign_header(header(7), KEYS, NETWORK), since=5)
    assert signer.heard_proposal(sign_header(header(8, 1, state=1), KEYS, NETWORK), since=5)
    assert signer.heard_proposal(sign_header(header(9), KEYS, NETWORK), since=5)
    assert signer.row == row
    earlier = sign_header(header(12, 3), KEYS, NETWORK)
    assert not signer.heard_proposal(earlier, since=12)
    assert signer.journal == replace(begun(row).journal, slot=12, rank=3, proposal=earlier.signatures.signatures[0])
    assert signer.propose(header(12, 3)) is None
    assert signer.propose(header(13)) is not None


def test_the_journal_of_a_key_is_kept_under_its_name() -> None:
    assert journal_key(KEYS.public) == ("signed", KEYS.public)
