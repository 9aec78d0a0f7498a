"""Proofs for those who follow no chain: what they show, from which trust, and that nothing else passes for one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import VerifyKey

from consensus.admission import SignatureList
from consensus.block import Block, BlockBody, BlockHeader, SignedHeader, block_id, read_block
from consensus.checkpoint import Checkpoint, Constitution
from consensus.encoding import Malformed, encode
from consensus.finality import Point, SignedVote, Vote, Voter, sign_vote, voters_root
from consensus.ids import Digest, Network, NodeId
from consensus.params import DEVNET, MAINNET
from consensus.proof import (
    FROM_GENESIS,
    PROOF_BYTES_MAX,
    Certificate,
    ChainProof,
    ChainVerdict,
    Finality,
    HandOver,
    ProofWrong,
    TrustPoint,
    check,
    checkpoint_trust,
    genesis_trust,
    part_of,
    read_proof,
    spell_voters,
)
from consensus.prover import certify, prove
from consensus.records import pack, unpack
from consensus.registry import founding
from consensus.signing import KeyPair, verify_as_is
from consensus.state import State, at_slot, genesis_state, parts_of
from consensus.tally import Work
from consensus.transition import extend
from netsim.agreement import Citizen, Society
from netsim.parliament import LINKS
from netsim.verify import CachedVerify
from netsim.world import World
from tests.vectors.stored import vector

NETWORK = Network(bytes(range(32)))
OTHER = Digest(b"\x07" * 32)
"""A block that nobody knows."""
verify = CachedVerify()
Chain = list[tuple[Block, State]]


@cache
def key(number: int) -> KeyPair:
    """A key, recognised by its seed."""
    return KeyPair.from_seed(number.to_bytes(32, "big"))


class Story:
    """A branch of two blocks an HOUR whose voters all vote, each ERA's with new keys; every third HOUR an ERA begins.

    Each ERA a node joins and one leaves, but not the Server, which is node 0. In `quiet` HOURs nobody votes, in `weak` ones too few.
    """

    def __init__(
        self,
        size: int,
        hours: int = 10,
        quiet: Sequence[int] = (),
        weak: Sequence[int] = (),
        network: Network = NETWORK,
    ) -> None:
        self.size, self.network = size, network
        founders = tuple(NodeId(key(number).public) for number in range(size))
        self.law = Constitution(network, DEVNET, founders)
        self.genesis = genesis_state(self.law, founding(founders, {}))
        self.points = [self.genesis.checkpoint.point]
        self.chain: Chain = []
        self.checkpoints: list[Checkpoint] = []
        self.final = self.source = self.points[0]
        self.era = self.following = self.named = 0
        for hour in range(hours):
            self._live(hour, quiet, weak)

    def keys(self, era: int) -> dict[NodeId, KeyPair]:
        """Who votes in an ERA, with their era keys."""
        numbers = [0, *range(era + 1, era + self.size)]
        return {NodeId(key(number).public): key(number + 1_000 * era) for number in numbers}

    def voters(self, era: int) -> tuple[Voter, ...]:
        """The same, as the chain has it."""
        return tuple(sorted(Voter(node, pair.public) for node, pair in self.keys(era).items()))

    def votes(
        self, era: int, source: Point, target: Point, successors: Digest, heads: Sequence[Digest]
    ) -> list[SignedVote]:
        """Those of all voters of an ERA, whose heads alternate."""
        return [
            sign_vote(Vote(node, *source, *target, successors, heads[at % len(heads)]), pair, self.network)
            for at, (node, pair) in enumerate(self.keys(era).items())
        ]

    def certificate(
        self, era: int, source: Point, target: Point, to: int | None = None, who: slice = slice(None)
    ) -> Certificate:
        """What voters of an ERA sign on demand, naming an ERA's voters for their successors."""
        root = voters_root(self.voters(era if to is None else to), self.network)
        return certify(self.votes(era, source, target, root, [target.block])[who], self.voters(era))

    def _live(self, hour: int, quiet: Sequence[int], weak: Sequence[int]) -> None:
        if self.final.hour >= self.named:
            self.era = self.following
        if hour and hour % 3 == 0 and self.era == self.following:
            self.following, self.named = self.era + 1, hour
        at = replace(
            self.genesis.checkpoint,
            hour=hour,
            block=self.points[-1].block,
            voters=self.voters(self.era),
            successors=self.voters(self.following),
        )
        self.checkpoints.append(at)
        self._add(at, 1, ())
        if not hour or hour in quiet:
            self._add(at, 2, ())
        else:
            heads = at.block, self.chain[-1][1].id
            root = voters_root(at.successors, self.network)
            cast = self.votes(self.era, self.source, at.point, root, heads)
            if hour in weak:
                cast = cast[: self.size // 2]
            else:
                self.final = self.source if hour == self.source.hour + 1 else self.final
                self.source = at.point
            self._add(at, 2, tuple(cast))
        self.points.append(Point(hour + 1, self.chain[-1][1].id))

    def _add(self, at: Checkpoint, place: int, votes: tuple[SignedVote, ...]) -> None:
        parent = self.chain[-1][1].id if self.chain else self.genesis.id
        nothing = Digest(bytes(32))
        header = BlockHeader(4 * at.hour + place, 0, parent, self.law.server, bytes(80), nothing, nothing, nothing)
        block = Block(SignedHeader(header, SignatureList(1, (bytes(64),))), BlockBody(votes))
        self.chain.append(
            (
                block,
                replace(
                    self.genesis,
                    id=block_id(header, self.network),
                    slot=header.slot,
                    recent=(*self.checkpoints[-2:],),
                    happened=replace(self.genesis.happened, final=self.final),
                ),
            )
        )

    @property
    def trust(self) -> TrustPoint:
        """That in its genesis."""
        return genesis_trust(self.law)

    def proof(self, place: int, trust: TrustPoint | None = None) -> ChainProof:
        """Of the block at a place."""
        made = prove(trust or self.trust, self.chain, self.chain[place][1].id)
        assert made is not None
        return made


@cache
def story(size: int = 9) -> Story:
    """One of ten HOURs."""
    return Story(size)


@cache
def lived() -> tuple[Society, Chain]:
    """A world of seven replicas, ten HOURs of six slots and three HOURs an ERA, as its first node has it."""
    society = Society(1, 7, 7, replace(MAINNET, era_hours=3, hour_slots=6, report_slots=12, voter_hours=0))
    number = {node: place for place, node in enumerate(society.ids)}
    world = World(1, lambda me, _rng, rows: Citizen(society, number[me], rows, Work(1_000, 0, 1_000)), LINKS)
    for node in society.ids:
        world.add(node)
    world.run(world.now + 10 * 6 * MAINNET.slot_ms)
    citizen = world.nodes[0].machine
    assert isinstance(citizen, Citizen)
    blocks, name = [], citizen.replica.head().id
    while name != society.genesis.id:
        blocks.append(read_block(citizen._disk["blocks", name]))
        name = blocks[-1].header.parent
    chain, state = [], society.genesis
    for block in reversed(blocks):
        state = extend(society.rules, state, block)
        chain.append((block, state))
    return society, chain


def parts_at(society: Society, chain: Chain, block: Block) -> tuple[Digest, ...]:
    """The parts of the state at the beginning of a block's HOUR."""
    first = block.header.slot - block.header.slot % society.law.params.hour_slots
    before = [state for one, state in chain if one.header.slot < first]
    return parts_of(society.law, at_slot(society.law, before[-1], first))


def refusal(proof: ChainProof, trust: TrustPoint) -> str:
    """The sentence with which a proof is refused."""
    with pytest.raises(ProofWrong) as caught:
        check(proof, trust, verify)
    return str(caught.value)


# ------------------------------------------------------------------ what is shown


def test_a_block_of_each_era_of_a_lived_chain_is_shown_from_the_genesis() -> None:
    society, chain = lived()
    trust = genesis_trust(society.law)
    keys = set()
    for era in range(3):
        block, state = next(one for one in chain if one[1].checkpoint.registry.era == era)
        proof = prove(trust, chain, state.id)
        assert proof is not None
        assert read_proof(pack(proof)) == proof
        verdict = check(proof, trust, society.rules.verify)
        assert (verdict.trust, verdict.trust_point, verdict.block) == (
            "genesis",
            Point(0, society.genesis.id),
            state.id,
        )
        assert verdict.header == block.header
        assert verdict.final.hour > state.checkpoint.hour
        assert verdict.final in [later.checkpoint.point for _, later in chain]
        assert verdict.proven[0] == FROM_GENESIS
        assert len(proof.hand_overs) == era
        keys |= {one.successors for one in proof.hand_overs}
    assert len(keys) == 2


def test_a_signed_checkpoint_saves_the_hand_overs_before_it() -> None:
    society, chain = lived()
    at = next(
        state.at_final
        for _, state in chain
        if state.at_final.hour > 3 and checkpoint_trust(society.law, state.at_final)
    )
    trust = checkpoint_trust(society.law, at)
    assert trust is not None
    assert unpack(TrustPoint, pack(trust)) == trust
    wanted = next(state for _, state in chain if state.checkpoint.hour == 7)
    proof = prove(trust, chain, wanted.id)
    assert proof is not None
    assert len(proof.hand_overs) == 1
    verdict = check(proof, trust, society.rules.verify)
    assert (verdict.trust, verdict.trust_point) == ("checkpoint", at.point)
    assert verdict.proven[0] == (
        f"a history in which the voters of the checkpoint of HOUR {at.hour} and their successors were honest"
        " contains this anchor"
    )
    assert (
        refusal(proof, genesis_trust(society.law)) == "the proof begins at another point than the one that is trusted"
    )


def test_a_checkpoint_is_no_point_of_trust_while_a_hand_over_is_under_way() -> None:
    told = story()
    trusted = [checkpoint_trust(told.law, at) is not None for at in told.checkpoints]
    assert trusted == [True, True, True, False, False, True, False, False, True, False]
    assert checkpoint_trust(told.law, told.checkpoints[0]) == told.trust


def test_a_block_before_the_trust_point_is_shown_by_headers_alone() -> None:
    told = story()
    trust = checkpoint_trust(told.law, told.checkpoints[5])
    assert trust is not None
    proof = told.proof(4, trust)
    assert (proof.finality, proof.hand_overs, len(proof.headers)) == (None, (), 6)
    verdict = check(proof, trust, verify)
    assert verdict.trust == "checkpoint"
    assert verdict.proven == (
        "the history of the checkpoint of HOUR 5 that is trusted contains this anchor",
        "headers from the block of slot 9 to that checkpoint: 6",
    )
    assert verdict.not_proven == ("what the block carries: its header alone was looked at",)
    assert prove(trust, told.chain[:9], told.chain[4][1].id) is None
    surplus = replace(proof, hand_overs=told.proof(10).hand_overs)
    assert refusal(surplus, trust) == "the hand-overs lead to no final checkpoint"


def test_the_sentences_tell_how_many_voted_and_that_nobody_knows_who_was_active() -> None:
    verdict = check(story().proof(10), story().trust, verify)
    assert verdict.proven == (
        FROM_GENESIS,
        "hand-overs from the voters of the trust point to those who voted: 1",
        "the checkpoint of HOUR 6 is final: 7 and 7 of 9 voters agreed",
        "headers from the block of slot 21 to that checkpoint: 2",
        "over two thirds of all voters agreed each time, and so of the active, whoever they were",
    )
    assert verdict.not_proven == (
        "what the block carries: its header alone was looked at",
        "that era keys were erased: who holds those of a past quorum can make another history",
        "who of the voters was active, or expelled: at the least 7 of all 9 agreed",
    )


def test_over_half_of_seven_are_enough_and_then_no_two_thirds_are_claimed() -> None:
    told = story()
    few = Finality(
        told.certificate(0, told.points[0], told.points[1], who=slice(5)),
        told.certificate(0, told.points[1], told.points[2], who=slice(5)),
    )
    verdict = check(replace(told.proof(0), finality=few), told.trust, verify)
    assert "the checkpoint of HOUR 1 is final: 5 and 5 of 9 voters agreed" in verdict.proven
    assert not any("two thirds" in sentence for sentence in verdict.proven)
    assert verdict.not_proven[-1] == "who of the voters was active, or expelled: at the least 5 of all 9 agreed"
    fewer = replace(few, finalises=told.certificate(0, told.points[1], told.points[2], who=slice(4)))
    assert refusal(replace(told.proof(0), finality=fewer), told.trust) == (
        "the final checkpoint, the votes for HOUR 2: 4 of 9 are no quorum"
    )


def test_below_seven_voters_the_server_is_trusted_and_has_to_have_voted() -> None:
    told = story(5)
    proof = told.proof(10)
    verdict = check(proof, told.trust, verify)
    assert (verdict.trust, verdict.trust_point) == ("server", told.points[0])
    assert verdict.proven[0] == FROM_GENESIS
    assert "the checkpoint of HOUR 6 is final: 5 and 5 of 5 voters agreed" in verdict.proven
    assert verdict.not_proven[-1] == (
        "that the Server signed no second history: among fewer than seven voters its vote decides"
    )
    assert not any("active" in sentence for sentence in verdict.not_proven)
    second = told.certificate(0, told.points[1], told.points[2])
    start = told.proof(0)
    for who, count in ((slice(1, None), 4), (slice(2), 2)):
        first = told.certificate(0, told.points[0], told.points[1], who=who)
        wrong = replace(start, finality=Finality(first, second))
        assert refusal(wrong, told.trust) == f"the final checkpoint, the votes for HOUR 1: {count} of 5 are no quorum"
    least = told.certificate(0, told.points[0], told.points[1], who=slice(3))
    assert check(replace(start, finality=Finality(least, second)), told.trust, verify).trust == "server"


def test_the_server_is_trusted_from_where_fewer_than_seven_vote() -> None:
    told, few = story(9), story(5)
    header = told.chain[0][0].header
    point = Point(4, block_id(header, NETWORK))
    root = voters_root(few.voters(1), NETWORK)
    first, second = (
        certify(told.votes(0, told.points[at], told.points[at + 1], root, [OTHER]), told.voters(0)) for at in (0, 1)
    )
    over = HandOver(Finality(first, second), spell_voters(few.voters(1)))
    for who, is_claimed in ((slice(None), True), (slice(3), False)):
        finality = Finality(
            few.certificate(1, told.points[2], point, who=who), few.certificate(1, point, Point(5, OTHER))
        )
        verdict = check(ChainProof(0, told.trust.block, (over,), (header,), finality), told.trust, verify)
        assert verdict.trust == "server"
        assert any("at the least 7 of all 9 agreed" in sentence for sentence in verdict.not_proven)
        assert any("no second history" in sentence for sentence in verdict.not_proven)
        assert any("two thirds of all" in sentence for sentence in verdict.proven) == is_claimed


# ------------------------------------------------------------------ how it is made


def test_nothing_is_shown_of_a_block_that_is_not_there_or_not_final_yet() -> None:
    told = story()
    assert prove(told.trust, told.chain, Digest(bytes(32))) is None
    assert prove(told.trust, told.chain, told.chain[-1][1].id) is None
    assert prove(told.trust, told.chain[:-4], told.chain[12][1].id) is None


def test_hand_overs_that_are_known_save_the_blocks_that_showed_them() -> None:
    told = story()
    whole, known = told.proof(14), told.proof(10).hand_overs
    assert (len(whole.hand_overs), len(known)) == (2, 1)
    assert prove(told.trust, told.chain[10:], told.chain[14][1].id, known) == whole
    assert prove(told.trust, told.chain[10:], told.chain[14][1].id) is None


def test_hours_without_votes_or_with_too_few_are_stepped_over() -> None:
    told = Story(9, 14, quiet=(4,), weak=(7,))
    for place in range(24):
        proof = told.proof(place)
        verdict = check(proof, told.trust, verify)
        assert verdict.block == told.chain[place][1].id
        assert verdict.final.hour not in {3, 4, 6, 7, 10}
    assert [one.finality.point.hour for one in told.proof(18).hand_overs] == [5, 9]


def test_a_certificate_is_of_one_link_and_of_one_set() -> None:
    told = story()
    root = voters_root(told.voters(0), NETWORK)
    one, other = (told.votes(0, told.points[0], told.points[to], root, [root]) for to in (1, 2))
    for votes in ([], [*one[:4], *other[4:]], told.votes(1, told.points[0], told.points[1], root, [root])):
        with pytest.raises(ValueError, match="of votes on one link by voters of one set"):
            certify(votes, told.voters(0))


def test_votes_beyond_two_thirds_are_left_out_the_rarest_heads_first() -> None:
    told = story()
    root, rare, common = voters_root(told.voters(0), NETWORK), Digest(bytes(32)), Digest(b"\xff" * 32)
    votes = told.votes(0, told.points[0], told.points[1], root, [common, common, rare])
    made = certify(votes, told.voters(0))
    assert {len(made.head_of), len(made.signatures) // 64, made.voted[0].bit_count() + made.voted[1].bit_count()} == {7}
    assert sorted(made.heads) == [rare, common]
    assert made.head_of.count(made.heads.index(common)) == 6
    assert certify(reversed(votes), told.voters(0)[::-1]) == made


@pytest.mark.parametrize(("size", "most"), [(5, 1_900), (100, 17_000), (512, 82_000)])
def test_a_hand_over_is_small(size: int, most: int) -> None:
    told = Story(size, 7)
    (hand_over,) = told.proof(8).hand_overs
    assert most * 0.8 < len(pack(hand_over)) < most
    assert check(told.proof(8), told.trust, verify).final.hour == 5


# ------------------------------------------------------------------ what is refused


def last(proof: ChainProof) -> Finality:
    """What makes the final checkpoint final."""
    assert proof.finality is not None
    return proof.finality


def with_first(proof: ChainProof, **changes: Any) -> ChainProof:
    """The proof with another first certificate for the final checkpoint."""
    finality = last(proof)
    return replace(proof, finality=replace(finality, justifies=replace(finality.justifies, **changes)))


def with_hand_over(proof: ChainProof, place: int, **changes: Any) -> ChainProof:
    """The proof with another hand-over."""
    made = [*proof.hand_overs]
    made[place] = replace(made[place], **changes)
    return replace(proof, hand_overs=tuple(made))


def with_header(proof: ChainProof, place: int, **changes: Any) -> ChainProof:
    """The proof with another header."""
    made = [*proof.headers]
    made[place] = replace(made[place], **changes)
    return replace(proof, headers=tuple(made))


def with_finality(told: Story, proof: ChainProof, era: int, *hops: Point) -> ChainProof:
    """The proof with links that an ERA's voters sign, from each point to the next."""
    first, second = hops[:2], hops[-2:]
    return replace(
        proof, finality=Finality(told.certificate(era, first[0], first[1]), told.certificate(era, second[0], second[1]))
    )


Mutation = Callable[[ChainProof, Story], ChainProof]
FINAL = "the final checkpoint"
MUTATIONS: list[tuple[str, Mutation, str]] = [
    ("another HOUR of trust", lambda p, _: replace(p, trust_hour=1), "begins at another point"),
    ("another block of trust", lambda p, _: replace(p, trust_block=OTHER), "begins at another point"),
    (
        "hand-overs in another order",
        lambda p, _: replace(p, hand_overs=p.hand_overs[::-1]),
        "hand-over 1, the votes for HOUR 6: that of ",
    ),
    (
        "no first hand-over",
        lambda p, _: replace(p, hand_overs=p.hand_overs[1:]),
        "hand-over 1, the votes for HOUR 6: that of ",
    ),
    (
        "no last hand-over",
        lambda p, _: replace(p, hand_overs=p.hand_overs[:1]),
        f"{FINAL}, the votes for HOUR 8: that of ",
    ),
    (
        "a hand-over twice",
        lambda p, _: replace(p, hand_overs=p.hand_overs[:1] * 2),
        "hand-over 2: it hands over to those who vote already",
    ),
    (
        "hand-overs that lead nowhere",
        lambda p, _: replace(p, finality=None),
        "the hand-overs lead to no final checkpoint",
    ),
    (
        "successors exchanged",
        lambda p, _: with_hand_over(p, 0, successors=p.hand_overs[1].successors),
        "hand-over 1: the votes name other successors than it lists",
    ),
    (
        "successors of whom only the first votes know",
        lambda p, t: with_hand_over(
            p, 0, finality=Finality(p.hand_overs[0].finality.justifies, t.certificate(0, t.points[3], t.points[4], 2))
        ),
        "hand-over 1: the votes name other successors than it lists",
    ),
    ("nobody to hand over to", lambda p, _: with_hand_over(p, 0, successors=b""), "a list of voters is not one of"),
    (
        "a successor cut off",
        lambda p, _: with_hand_over(p, 0, successors=p.hand_overs[0].successors[:-1]),
        "a list of voters is not one of",
    ),
    (
        "successors in another order",
        lambda p, _: with_hand_over(p, 0, successors=p.hand_overs[0].successors[64:] + p.hand_overs[0].successors[:64]),
        "a list of voters is not one of",
    ),
    (
        "a successor twice",
        lambda p, _: with_hand_over(p, 0, successors=p.hand_overs[0].successors[:64] + p.hand_overs[0].successors),
        "a list of voters is not one of",
    ),
    (
        "certificates of two checkpoints",
        lambda p, t: with_finality(t, p, 2, t.points[7], t.points[8], Point(8, OTHER), t.points[9]),
        f"{FINAL}: the two certificates do not meet in one checkpoint",
    ),
    (
        "certificates exchanged",
        lambda p, _: replace(p, finality=Finality(last(p).finalises, last(p).justifies)),
        "the headers do not lead to the final checkpoint",
    ),
    (
        "a link over two HOURs",
        lambda p, t: with_finality(t, p, 2, t.points[7], t.points[8], Point(10, OTHER)),
        f"{FINAL}: the second certificate is not for the HOUR after the first",
    ),
    (
        "a link to itself",
        lambda p, t: with_finality(t, p, 2, t.points[8], t.points[8], t.points[9]),
        f"{FINAL}: votes from no earlier HOUR",
    ),
    (
        "the HOUR that the hand-over was justified in",
        lambda p, t: with_finality(t, p, 2, t.points[6], t.points[8]._replace(hour=7), Point(8, OTHER)),
        f"{FINAL}: its HOUR is over at what is final before it",
    ),
    (
        "votes that surround the hand-over",
        lambda p, t: with_finality(t, p, 2, t.points[5], t.points[8], t.points[9]),
        f"{FINAL}: its votes surround those for what is final before it",
    ),
    (
        "a source that contradicts the hand-over",
        lambda p, t: with_finality(t, p, 2, Point(6, OTHER), t.points[8], t.points[9]),
        f"{FINAL}: its votes come from another checkpoint than the one that is justified",
    ),
    (
        "a source that contradicts what the hand-over justified",
        lambda p, t: with_finality(t, p, 2, Point(7, OTHER), t.points[8], t.points[9]),
        f"{FINAL}: its votes come from another checkpoint than the one that is justified",
    ),
    (
        "votes by another set",
        lambda p, t: with_finality(t, p, 1, t.points[7], t.points[8], t.points[9]),
        f"{FINAL}, the votes for HOUR 8: that of ",
    ),
    ("a longer mask", lambda p, _: with_first(p, voted=bytes(3)), "they are of another number of voters"),
    ("a voter who is none", lambda p, _: with_first(p, voted=b"\xff\xff"), "they are of another number of voters"),
    ("one more voter", lambda p, _: with_first(p, voted=b"\xff\x01"), "not as many heads and signatures as votes"),
    (
        "a head too few",
        lambda p, _: with_first(p, head_of=last(p).justifies.head_of[1:]),
        "not as many heads and signatures as votes",
    ),
    (
        "a signature too few",
        lambda p, _: with_first(p, signatures=last(p).justifies.signatures[64:]),
        "not as many heads and signatures as votes",
    ),
    (
        "a head that nobody named",
        lambda p, _: with_first(p, heads=(*last(p).justifies.heads, OTHER)),
        "heads are not listed once each and in order",
    ),
    (
        "heads in another order",
        lambda p, _: with_first(
            p, heads=last(p).justifies.heads[::-1], head_of=tuple(1 - at for at in last(p).justifies.head_of)
        ),
        "heads are not listed once each and in order",
    ),
    (
        "a head twice",
        lambda p, _: with_first(p, heads=last(p).justifies.heads[:1] * 2),
        "heads are not listed once each and in order",
    ),
    (
        "heads exchanged",
        lambda p, _: with_first(p, heads=last(p).justifies.heads[::-1]),
        "is not signed with its key",
    ),
    ("another target", lambda p, _: with_first(p, target=OTHER), "do not lead to the final checkpoint"),
    ("another source", lambda p, _: with_first(p, source_hour=6, source=p.trust_block), "come from another checkpoint"),
    ("other successors", lambda p, _: with_first(p, successors=OTHER), "is not signed with its key"),
    ("no headers", lambda p, _: replace(p, headers=()), "the headers do not lead to the final checkpoint"),
    (
        "no last header",
        lambda p, _: replace(p, headers=p.headers[:-1]),
        "the headers do not lead to the final checkpoint",
    ),
    ("another first header", lambda p, _: with_header(p, 0, slot=3), "has another parent than the one before it"),
    ("another parent", lambda p, _: with_header(p, 1, parent=OTHER), "has another parent than the one before it"),
    ("another last header", lambda p, _: with_header(p, 1, slot=3), "do not lead to the final checkpoint"),
]


@pytest.mark.parametrize(
    ("mutate", "sentence"), [one[1:] for one in MUTATIONS], ids=[one[0].replace(" ", "-") for one in MUTATIONS]
)
def test_what_is_changed_is_refused_with_a_sentence(mutate: Mutation, sentence: str) -> None:
    told = story()
    proof = told.proof(14)
    assert len(proof.hand_overs) == len(proof.headers) == 2
    assert sentence in refusal(mutate(proof, told), told.trust)


def test_each_voter_below_the_quorum_counts() -> None:
    told = story()
    for count in range(1, 10):
        finality = Finality(
            told.certificate(0, told.points[0], told.points[1], who=slice(count)),
            told.certificate(0, told.points[1], told.points[2]),
        )
        proof = replace(told.proof(0), finality=finality)
        if count < 5:
            assert refusal(proof, told.trust) == f"{FINAL}, the votes for HOUR 1: {count} of 9 are no quorum"
        else:
            assert check(proof, told.trust, verify).final.hour == 1


def test_a_minority_shows_no_other_chain() -> None:
    """Four of nine make a block of their own final, name themselves as successors, and go on alone."""
    told = story()
    mine = told.voters(0)[:4]
    header = replace(told.chain[0][0].header, slot=3)
    point = Point(1, block_id(header, NETWORK))
    beyond = Point(2, OTHER)
    root = voters_root(mine, NETWORK)
    pairs = {voter.node: told.keys(0)[voter.node] for voter in mine}

    def forged(source: Point, target: Point) -> list[SignedVote]:
        return [sign_vote(Vote(node, *source, *target, root, OTHER), pair, NETWORK) for node, pair in pairs.items()]

    first, second = forged(told.points[0], point), forged(point, beyond)
    finality = Finality(certify(first, told.voters(0)), certify(second, told.voters(0)))
    hand_over = HandOver(finality, spell_voters(mine))
    alone = Finality(certify(first, mine), certify(second, mine))
    for proof in (
        ChainProof(0, told.trust.block, (), (header,), finality),
        ChainProof(0, told.trust.block, (hand_over,), (header,), alone),
    ):
        assert "4 of 9 are no quorum" in refusal(proof, told.trust)
    by_themselves = ChainProof(0, told.trust.block, (), (header,), alone)
    assert "they are of another number of voters" in refusal(by_themselves, told.trust)
    stolen = replace(finality.justifies, voted=b"\xff\x01", head_of=(0,) * 9, signatures=bytes(64 * 9))
    padded = replace(by_themselves, finality=Finality(stolen, finality.finalises))
    assert "is not signed with its key" in refusal(padded, told.trust)


def test_what_one_network_shows_is_nothing_on_another() -> None:
    other = Network(bytes(32))
    told, there = story(), Story(9, network=other)
    assert there.trust == replace(told.trust, network=other, block=Digest(other))
    assert "begins at another point" in refusal(told.proof(14), there.trust)
    assert "has another parent" in refusal(replace(told.proof(14), trust_block=there.trust.block), there.trust)
    one, ours = there.proof(0), last(told.proof(0))
    assert check(one, there.trust, verify).final.hour == 1
    signed = with_first(one, signatures=ours.justifies.signatures)
    assert "is not signed with its key" in refusal(signed, there.trust)
    assert "the headers do not lead" in refusal(replace(one, finality=ours), there.trust)
    elsewhere = with_first(one, source=told.trust.block)
    assert "come from another checkpoint" in refusal(elsewhere, there.trust)


def test_a_trust_without_voters_is_refused() -> None:
    told = story()
    assert "a list of voters" in refusal(told.proof(0), replace(told.trust, voters=b""))


def test_a_change_of_any_byte_is_refused() -> None:
    told = story(3)
    proof = told.proof(9)
    assert len(proof.hand_overs) == 1
    data = pack(proof)
    for at in range(len(data)):
        flipped = bytes((data[at] ^ 1 << at % 8,))
        assert judged(data[:at] + flipped + data[at + 1 :], told) is None


def judged(data: bytes, told: Story) -> ChainVerdict | None:
    """What bytes show; None when they are refused."""
    try:
        return check(read_proof(data), told.trust, verify)
    except (Malformed, ProofWrong):
        return None


@given(st.binary(max_size=200))
def test_bytes_are_refused(data: bytes) -> None:
    assert judged(data, story(5)) is None


@given(st.data())
def test_bytes_of_a_proof_that_are_cut_and_put_elsewhere_are_refused(data: st.DataObject) -> None:
    told = story(5)
    spelled = pack(told.proof(6))
    places = st.integers(0, len(spelled))
    start, end, into = (data.draw(places) for _ in range(3))
    made = spelled[:into] + data.draw(st.one_of(st.just(spelled[start:end]), st.binary(max_size=8))) + spelled[into:]
    cut = data.draw(st.integers(0, 70))
    made = made[:into] + made[into + cut :]
    assert made == spelled or judged(made, told) is None


def test_a_proof_that_is_too_long_is_not_read() -> None:
    with pytest.raises(Malformed, match="too long"):
        read_proof(bytes(PROOF_BYTES_MAX + 1))


# ------------------------------------------------------------------ parts of a state


def test_a_part_of_a_state_is_shown_against_a_header() -> None:
    society, chain = lived()
    block, state = chain[20]
    at, network = state.checkpoint, society.law.network
    parts = parts_at(society, chain, block)
    voters = [at.named, [list(one) for one in at.voters], [list(one) for one in at.successors]]
    assert part_of(block.header.state, network, parts, 2, encode(voters)) == voters  # type: ignore[arg-type]
    credits_ = [bytes(one) for one in at.credit_digests]
    assert part_of(block.header.state, network, parts, 6, encode(credits_)) == credits_  # type: ignore[arg-type]


def test_a_part_of_another_state_or_place_is_refused() -> None:
    society, chain = lived()
    block, state = chain[20]
    header, network = block.header, society.law.network
    parts = parts_at(society, chain, block)
    part = encode([bytes(one) for one in state.checkpoint.credit_digests])
    joined = Digest(parts[0] + parts[1])
    for others in (parts[:-1], (*parts, parts[0]), (joined, *parts[2:]), parts[::-1]):
        with pytest.raises(ProofWrong, match="those of another state"):
            part_of(header.state, network, others, 6, part)
    with pytest.raises(ProofWrong, match="those of another state"):
        part_of(header.body, network, parts, 6, part)
    for place, data in ((5, part), (-6, part), (12, part), (6, part + b"\0")):
        with pytest.raises(ProofWrong, match=f"not those of part {place}"):
            part_of(header.state, network, parts, place, data)


# ------------------------------------------------------------------ by hand


def test_the_signed_bytes_are_those_of_the_votes() -> None:
    told = story()
    one = last(told.proof(0)).justifies
    voted = [voter for place, voter in enumerate(told.voters(0)) if one.voted[place // 8] >> place % 8 & 1]
    assert len(voted) == 7
    for at, voter in enumerate(voted):
        vote = {
            "v": 1,
            "voter": voter.node,
            "source_hour": 0,
            "source": NETWORK,
            "target_hour": 1,
            "target": told.points[1].block,
            "successors": one.successors,
            "head": one.heads[one.head_of[at]],
        }
        message = b"lucid/vote/v1" + NETWORK + cbor2.dumps(vote, canonical=True)
        VerifyKey(voter.key).verify(message, one.signatures[64 * at : 64 * at + 64])


def test_proofs_of_version_1_are_read_and_checked_for_ever() -> None:
    for stored, told in zip(vector("chain_proof_v1")["proofs"], (story(9), story(5)), strict=True):
        trust = unpack(TrustPoint, bytes.fromhex(stored["trust"]))
        proof = read_proof(bytes.fromhex(stored["proof"]))
        assert (trust, proof) == (told.trust, told.proof(stored["place"]))
        verdict = check(proof, trust, verify_as_is)
        assert {
            "trust": verdict.trust,
            "final_hour": verdict.final.hour,
            "final": verdict.final.block.hex(),
            "block": verdict.block.hex(),
            "proven": [*verdict.proven],
            "not_proven": [*verdict.not_proven],
        } == stored["verdict"]
