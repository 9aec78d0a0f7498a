"""The entries of `consensus_v1.json`, every record of the consensus and what things are called, and `history_v4.json`, a network's first HOURs.

Keys are those of tests/consensus/worlds.py: the key of number n has the seed n in 32 bytes, big-endian.
"""

from typing import Any, Final

from consensus.admission import (
    PoolRegistration,
    Registration,
    SignatureList,
    SignedPool,
    pool_id,
    pool_signable,
    work_of,
)
from consensus.block import (
    Block,
    BlockBody,
    BlockHeader,
    DoubleProposal,
    SignedHeader,
    block_id,
    body_digest,
    header_signable,
    next_seed,
    sign_header,
    skipped_seed,
    vrf_input,
)
from consensus.catchup import BlockAnswer, BlockQuestion
from consensus.checkpoint import part_digests
from consensus.finality import DoubleVote, Vote, Voter, era_lot, sign_vote, vote_signable, vote_slot, voters_root
from consensus.ids import Address, NodeId
from consensus.params import ERA_LOT, MAINNET
from consensus.records import pack
from consensus.report import SignedReport, assemble, report_signable, state_work, statement_signable, witnesses
from consensus.signer import SigningJournal
from consensus.state import State
from consensus.tally import Work
from tests.consensus.worlds import NETWORK, Village, key, named, sign_registration
from tests.vectors.spoken import Entry, record, text

ME: Final = NodeId(key(1).public)
VOTE: Final = Vote(ME, 1 << 33, named(2), (1 << 33) + 1, named(3), named(4), named(5))
SIGNED_VOTE: Final = sign_vote(VOTE, key(1), NETWORK)
OTHER_VOTE: Final = sign_vote(Vote(ME, 1 << 33, named(2), (1 << 33) + 1, named(3), named(4), named(6)), key(1), NETWORK)
WORK: Final = Work(4_000_000, 1_000_000, 999)
REPORT: Final = assemble(
    ME,
    1 << 33,
    named(7),
    {place: state_work(key(10 + place), NETWORK, ME, 1 << 33, named(7), WORK) for place in (0, 2, 3, 5, 8)},
)
SIGNED_REPORT: Final = SignedReport(REPORT, key(1).sign_as_is(report_signable(REPORT, NETWORK)))
REGISTRATION: Final = Registration(
    node=ME,
    era=1 << 20,
    checkpoint_hour=1 << 33,
    checkpoint=named(8),
    nonce=text(0x10, 16),
    era_key=key(2).public,
    vrf_key=key(3).public,
    address=Address(text(0x20, 20)),
    pool=None,
    capacity=1 << 40,
)
POOL: Final = PoolRegistration(
    1 << 20, (key(4).public, key(5).public, key(6).public), 2, key(7).public, Address(text(0x20, 20)), (ME,)
)
SIGNED_POOL: Final = SignedPool(
    POOL, SignatureList(0b101, tuple(key(at).sign_as_is(pool_signable(POOL, NETWORK)) for at in (4, 6)))
)
REGISTRATIONS: Final = (sign_registration(REGISTRATION, key(1)),)
PAYLOAD: Final = b"the execution layer's"
SMALL_BODY: Final = BlockBody(votes=(SIGNED_VOTE,), payload=PAYLOAD)
PROOF: Final = text(0x30, 80)


def header(body: BlockBody, rank: int = 2) -> BlockHeader:
    """A header for a body."""
    return BlockHeader(1 << 35, rank, named(9), ME, PROOF, body_digest(body), named(10), named(11))


SIGNED_HEADER: Final = sign_header(header(SMALL_BODY), key(1), NETWORK)
OTHER_HEADER: Final = sign_header(header(BlockBody()), key(1), NETWORK)
BODY: Final = BlockBody(
    votes=(SIGNED_VOTE,),
    reports=(SIGNED_REPORT,),
    double_votes=(DoubleVote(SIGNED_VOTE, OTHER_VOTE),),
    double_proposals=(DoubleProposal(SIGNED_HEADER, OTHER_HEADER),),
    uncles=(SIGNED_HEADER,),
    registrations=REGISTRATIONS,
    pools=(SIGNED_POOL,),
    payload=PAYLOAD,
)
BLOCK: Final = Block(sign_header(header(BODY), key(1), NETWORK), BODY)

AGREED: Final[tuple[Entry, ...]] = (
    record(VOTE),
    record(SIGNED_VOTE),
    record(DoubleVote(SIGNED_VOTE, OTHER_VOTE)),
    record(REPORT),
    record(SIGNED_REPORT),
    record(SignatureList(0b10001, (text(0x40, 64), text(0x80, 64)))),
    record(REGISTRATION),
    record(REGISTRATIONS[0]),
    record(POOL),
    record(SIGNED_POOL),
    record(header(BODY)),
    record(SIGNED_HEADER),
    record(DoubleProposal(SIGNED_HEADER, OTHER_HEADER)),
    record(BODY),
    record(BLOCK),
    record(BlockQuestion((named(1), named(2)))),
    record(BlockAnswer((pack(BLOCK), b"another"))),
    record(SigningJournal(1 << 33, (1 << 33) + 1, SIGNED_VOTE.signature, 1 << 35, 2, text(0x40, 64))),
)


def names() -> dict[str, str]:
    """What records are called, what is signed of them, and what is drawn."""
    nodes = [NodeId(named(number)) for number in range(40)]
    drawn = witnesses(NETWORK, named(12), 1 << 33, nodes[3], {one: one for one in nodes}, nodes)
    electors = [Voter(NodeId(named(number)), named(1_000 + number)) for number in range(ERA_LOT + 8)]
    lot = {*electors} - {*era_lot(electors, NETWORK, named(12))}
    found: dict[str, bytes] = {
        "block_id": block_id(BLOCK.header, NETWORK),
        "body_digest": body_digest(BODY),
        "header_signable": header_signable(BLOCK.header, NETWORK),
        "vote_signable": vote_signable(VOTE, NETWORK),
        "report_signable": report_signable(REPORT, NETWORK),
        "statement_signable": statement_signable(NETWORK, ME, 1 << 33, named(7), REPORT.said[:8]),
        "pool_id": pool_id(POOL, NETWORK),
        "pool_signable": pool_signable(POOL, NETWORK),
        "vrf_input": vrf_input(NETWORK, named(12), 1 << 35),
        "next_seed": next_seed(NETWORK, named(12), text(0x30, 64)),
        "skipped_seed": skipped_seed(NETWORK, named(12), 1 << 35),
        "voters_root": voters_root(electors[:3], NETWORK),
        "work_of": work_of(NETWORK, ME, named(8), text(0x10, 16)).to_bytes(32, "big"),
        "witnesses": bytes(nodes.index(one) for one in drawn),
        "vote_slots": bytes(vote_slot(MAINNET, named(12), 0, one) for one in nodes),
        "not_in_the_lot": b"".join(sorted(voter.node for voter in lot)),
    }
    return {name: made.hex() for name, made in found.items()}


def history() -> list[dict[str, Any]]:
    """The first blocks of a devnet of four: with votes, reports, registrations, an uncle, a double vote and empty slots."""
    world = Village(4)
    state, made = world.genesis, []
    passed: tuple[SignedHeader, ...] = ()
    for slot in range(1, 41):
        if slot in (3, 10, 11):
            continue
        at = world.at(state, slot)
        votes = world.votes(at)[: 4 if slot in (17, 21) else 3] if slot % 4 == 1 and slot > 4 else ()
        double = DoubleVote(world.vote(at, 3), world.vote(at, 3, head=named(1)))
        body = BlockBody(
            votes=votes,
            reports=tuple(world.report(at, slot // 4 - 1, one) for one in range(3))
            if slot > 4 and slot % 4 == 2
            else (),
            double_votes=(double,) if slot == 21 else (),
            uncles=passed,
            registrations=tuple(world.registration(at, one) for one in range(4)) if slot == 1 else (),
            payload=slot.to_bytes(1, "big") if slot % 2 else b"",
        )
        rank = 1 if slot == 7 else 6 if slot == 9 else 0
        passed = (world.block(state, slot, BlockBody()).signed,) if slot == 7 else ()
        block = world.block(state, slot, body, rank)
        state = world.after(state, slot, body, rank)
        made.append({"block": pack(block).hex(), **told(world, state)})
    return made


def told(world: Village, state: State) -> dict[str, Any]:
    """What is known after a block."""
    at = state.checkpoint
    return {
        "id": state.id.hex(),
        "seed": state.seed.hex(),
        "justified": state.justified.hour,
        "final": state.final.hour,
        "state": state.state.hex(),
        "weights": {entity.hex(): weight for entity, weight in at.weights.items()},
    }


def history_v4() -> dict[str, Any]:
    """The first ten HOURs of a devnet of four, whose draw goes by work in the last of them."""
    world = Village(4)
    return {
        "origin": "The first blocks whose states know who stores sessions and who may vote, made by agreed.py; those of before are in consensus_v1.json, history_v2.json and history_v3.json.",
        "founders": [node.hex() for node in world.nodes],
        "genesis": told(world, world.genesis),
        "history": history(),
    }


def consensus_v1() -> dict[str, Any]:
    """Records, names and the genesis of a devnet of four; the stored file has blocks of before history_v2, too."""
    world = Village(4)
    first = world.genesis.checkpoint
    return {
        "origin": "Records and the first HOURs of version 1 as first released, made by agreed.py.",
        "network": NETWORK.hex(),
        "entries": [{"name": one.name, "bytes": one.write(one.thing).hex()} for one in AGREED],
        "names": names(),
        "genesis": {
            "founders": [node.hex() for node in world.nodes],
            "parts": [part.hex() for part in part_digests(world.law, first)],
        },
    }
