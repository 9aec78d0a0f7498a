"""Small worlds for the tests of the consensus: fixed keys, a genesis, and blocks, votes and reports as honest nodes make them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Final

from consensus import vrf
from consensus.admission import Registration, SignedRegistration, registration_signable
from consensus.block import Block, BlockBody, BlockHeader, body_digest, sign_header, vrf_input
from consensus.checkpoint import Constitution
from consensus.finality import SignedVote, Vote, sign_vote, voters_root
from consensus.ids import Address, Digest, Network, NodeId
from consensus.inclusion import Rules
from consensus.params import DEVNET, Params
from consensus.registry import founding
from consensus.report import SignedReport, assemble, report_signable, state_work, witnesses
from consensus.signing import KeyPair, verify_as_is
from consensus.state import State, at_hour, at_slot, genesis_state, leaders
from consensus.tally import Work
from consensus.transition import extend

NETWORK: Final = Network(bytes(range(32)))
FULL: Final = Work(4_000_000, 1_000_000, 1_000)
"""Of an HOUR with as much storage and relay as count."""


@cache
def key(number: int) -> KeyPair:
    """The identity of a node; in the first ERA also its era key and its VRF key."""
    return KeyPair.from_seed(number.to_bytes(32, "big"))


def named(number: int) -> Digest:
    """A digest that is recognised in a dump."""
    return Digest(number.to_bytes(32, "big"))


class Village:
    """A genesis with founders, who stay as they are for as long as nobody registers; `nodes` are in the founders' order."""

    def __init__(self, founders: int, params: Params = DEVNET, difficulty: int = 1) -> None:
        self.nodes = tuple(NodeId(key(number).public) for number in range(founders))
        self.keys: Mapping[bytes, KeyPair] = {key(number).public: key(number) for number in range(founders)}
        self.law = Constitution(NETWORK, params, self.nodes, difficulty)
        self.rules = Rules(self.law, verify_as_is)
        self.genesis = genesis_state(self.law, founding(self.nodes, {}))

    def at(self, state: State, slot: int) -> State:
        """The state at the beginning of a slot."""
        return at_slot(self.law, state, slot)

    def header(self, parent: State, slot: int, body: BlockBody, rank: int = 0) -> BlockHeader:
        """The header of a rank's block on top of another."""
        state = self.at(parent, slot)
        entity = (*leaders(self.law, state, slot), *([self.law.server] * 7))[rank]
        proof = vrf.prove(self.keys[entity].secret[:32], vrf_input(NETWORK, state.seed, slot))
        return BlockHeader(slot, rank, parent.id, entity, proof, body_digest(body), named(0), state.state)

    def block(self, parent: State, slot: int, body: BlockBody | None = None, rank: int = 0) -> Block:
        """A rank's block on top of another."""
        body = BlockBody() if body is None else body
        header = self.header(parent, slot, body, rank)
        return Block(sign_header(header, self.keys[header.entity], NETWORK), body)

    def after(self, parent: State, slot: int, body: BlockBody | None = None, rank: int = 0) -> State:
        """The state after such a block."""
        return extend(self.rules, parent, self.block(parent, slot, body, rank))

    def vote(self, state: State, voter: int, head: Digest | None = None, source: int | None = None) -> SignedVote:
        """A founder's vote in a state's HOUR, from the highest justified checkpoint or that of an HOUR."""
        at, node = state.checkpoint, self.nodes[voter]
        hour = max(at.justified) if source is None else source
        successors = voters_root(at.successors, NETWORK)
        vote = Vote(node, hour, at.justified[hour], at.hour, at.block, successors, state.id if head is None else head)
        return sign_vote(vote, key(voter), NETWORK)

    def votes(self, state: State) -> tuple[SignedVote, ...]:
        """All founders' votes in a state's HOUR."""
        return tuple(self.vote(state, voter) for voter in range(len(self.nodes)))

    def report(
        self, state: State, hour: int, number: int, work: Work = FULL, silent: Sequence[int] = ()
    ) -> SignedReport:
        """A founder's report of an HOUR, signed by its witnesses but for those at some places of the draw."""
        at = at_hour(state, hour)
        assert at is not None
        node, root = self.nodes[number], named(0)
        drawn = witnesses(NETWORK, at.seed, hour, node, at.registry.entities, at.registry.order)
        said = {
            place: state_work(self.keys[one], NETWORK, node, hour, root, work)
            for place, one in enumerate(drawn)
            if place not in silent
        }
        made = assemble(node, hour, root, said)
        return SignedReport(made, key(number).sign_as_is(report_signable(made, NETWORK)))

    def registration(self, state: State, number: int, pool: bytes | None = None) -> SignedRegistration:
        """A node's registration for the next ERA with its identity's key for everything, in a world without work."""
        at, keys = state.checkpoint, key(number)
        return sign_registration(
            Registration(
                node=NodeId(keys.public),
                era=at.registry.era + 1,
                checkpoint_hour=at.hour,
                checkpoint=at.block,
                nonce=bytes(16),
                era_key=keys.public,
                vrf_key=keys.public,
                address=Address(bytes(20)),
                pool=pool,
                capacity=0,
            ),
            keys,
        )


def sign_registration(one: Registration, keys: KeyPair) -> SignedRegistration:
    """A registration with its node's signature."""
    return SignedRegistration(one, keys.sign_as_is(registration_signable(one, NETWORK)))


def renamed(state: State, name: Digest, **changes: object) -> State:
    """A state of another name, for trees in which blocks carry nothing."""
    return replace(state, id=name, **changes)  # type: ignore[arg-type]  # the names are those of its fields
