"""What the consensus costs: the draw and the window of 10,000 entities, a full block of 128 votes and 333 reports, the VRF.

Everything is checked for real: libsodium's signatures, the VRF, every rule. In process time, one core.
"""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from consensus import finality, report, vrf
from consensus.block import (
    REPORTS_MAX,
    VOTES_MAX,
    Block,
    BlockBody,
    BlockHeader,
    body_digest,
    read_block,
    sign_header,
    vrf_input,
)
from consensus.checkpoint import Checkpoint, Constitution, checkpoint_digest, weigh
from consensus.finality import Vote, sign_vote, voters_root
from consensus.ids import Digest, Network
from consensus.inclusion import Rules
from consensus.params import MAINNET, USUAL_HOURS, LeaderRule
from consensus.records import pack
from consensus.schedule import ranks
from consensus.signing import verify_as_is
from consensus.snapshot import credits_row, read, rows_of
from consensus.state import State, at_slot, leaders, state_digest
from consensus.tally import Credit, HourCredits, Work, advance, recompute, settled, usual, weights
from consensus.transition import extend
from netsim.agreement import Society
from tests.bench.measure import spread, table

ENTITIES: Final = 10_000
HOURS: Final = 168


def main(_folder: Path, rounds: int) -> dict[str, object]:
    """Measure and print; returns the figures in ms."""
    rng = random.Random(1)
    entities = [rng.randbytes(32) for _ in range(ENTITIES)]
    heavy = {entity: rng.randrange(1, 1 << 50) for entity in entities}
    network, seed = Network(bytes(32)), Digest(bytes(32))
    hours = [
        settled(hour, [(one, Credit(rng.randrange(1, 1 << 22), 0, 1, 1_000, 1 << 22)) for one in entities])
        for hour in range(HOURS)
    ]
    whole = recompute(hours)
    latest = replace(hours[0], hour=HOURS)
    live = dict.fromkeys(entities, 1_000_000)
    rules, parent, data = _full_block()
    secret = rng.randbytes(32)
    proof, public = vrf.prove(secret, b"alpha"), vrf.public_key(secret)
    measured = {
        "a slot's ranks, 10,000 entities": (
            50,
            _times(rounds, lambda: ranks(LeaderRule.SORTITION, network, seed, rng.getrandbits(40), heavy)),
        ),
        "a 7-day window of 10,000 afresh": (5_000, _times(rounds, lambda: recompute(hours))),
        "one more HOUR of it": (None, _times(rounds, lambda: advance(whole, latest, HOURS))),
        "their weights": (None, _times(rounds, lambda: weights(whole.sums, live))),
        "a block of 128 votes, 333 reports": (400, _times(rounds, lambda: _validate(rules, parent, data))),
        "VRF verify": (5, _times(max(rounds, 50), lambda: vrf.verify(public, b"alpha", proof))),
        "VRF prove": (None, _times(max(rounds, 50), lambda: vrf.prove(secret, b"alpha"))),
    }
    law, state = _settled_state(hours)
    snapshot = rows_of(state)
    rows_kept = {name: credits_row(hour) for name, hour in snapshot.hours.items()}
    measured["what 10,000 nodes are used to"] = None, _times(rounds, lambda: usual(whole, USUAL_HOURS))
    measured["a snapshot of 10,000 nodes"] = None, _times(rounds, lambda: rows_of(state))
    measured["beginning there"] = None, _times(min(rounds, 3), lambda: read(law, snapshot.snapshot, rows_kept.get))
    rows: list[tuple[str, ...]] = [("", "ms", "at most")]
    rows += [(name, spread(spent), "" if most is None else f"{most:,}") for name, (most, spent) in measured.items()]
    table(rows)
    print(
        f"  the block has {len(data):,} bytes, the snapshot {len(snapshot.snapshot):,}, an HOUR's credits {len(credits_row(latest)):,}"
    )
    return {name: spent for name, (_, spent) in measured.items()}


def _times(rounds: int, what: Callable[[], object]) -> list[float]:
    spent = []
    for _ in range(rounds):
        began = time.process_time()
        what()
        spent.append(1_000 * (time.process_time() - began))
    return spent


def _full_block() -> tuple[Rules, State, bytes]:
    """A block in HOUR 1 that carries as much as one may."""
    society = Society(1, 400, 400, replace(MAINNET, voter_hours=0))
    law, network = society.law, society.law.network
    rules = Rules(law, verify_as_is)
    slot = law.params.hour_slots + 5
    parent = at_slot(law, society.genesis, slot - 1)
    state = at_slot(law, parent, slot)
    at = state.checkpoint
    votes = []
    for node, key in at.voters[:VOTES_MAX]:
        vote = Vote(node, 0, at.justified[0], at.hour, at.block, voters_root(at.successors, network), state.id)
        votes.append(sign_vote(vote, society.keys[key].signing, network))
    reports = [
        made
        for node in society.ids[:REPORTS_MAX]
        if (made := society.report(state, 0, node, Work(1_000, 10, 1_000))) is not None
    ]
    body = BlockBody(votes=tuple(votes), reports=tuple(reports))
    leader = leaders(law, state, slot)[0]
    keys = society.keys[leader]
    proof = vrf.prove(keys.vrf_secret, vrf_input(network, state.seed, slot))
    header = BlockHeader(slot, 0, state.id, leader, proof, body_digest(body), Digest(bytes(32)), state.state)
    return rules, parent, pack(Block(sign_header(header, keys.signing, network), body))


def _settled_state(hours: list[HourCredits]) -> tuple[Constitution, State]:
    """A state of 10,000 nodes with a full window, and the eight checkpoints that it remembers, an HOUR of credits apart."""
    society = Society(1, ENTITIES, 128, MAINNET)
    whole = recompute(hours)
    names = tuple(Digest(one.hour.to_bytes(32, "big")) for one in hours)
    checkpoints: list[Checkpoint] = []
    for at in range(8):
        made = replace(society.genesis.checkpoint, hour=HOURS + at, tally=whole, credit_digests=names)
        checkpoints.append(replace(made, weights=weigh(made)))
        latest = replace(hours[at], hour=HOURS + at)
        whole = advance(whole, latest, HOURS)
        names = (*names[1:], Digest(latest.hour.to_bytes(32, "big")))
    digests = tuple(checkpoint_digest(society.law, one) for one in checkpoints)
    state = replace(society.genesis, recent=tuple(checkpoints), at_final=checkpoints[-2], names=digests)
    state = replace(state, slot=checkpoints[-1].hour * MAINNET.hour_slots - 1)
    return society.law, replace(state, state=state_digest(society.law, state))


def _validate(rules: Rules, parent: State, data: bytes) -> None:
    """As a node meets it for the first time: nothing of it was read or checked before."""
    for cached in (read_block, report.report_signable, finality.vote_signable):
        cached.cache_clear()
    block = read_block(data)
    if len(extend(rules, parent, block).happened.reports) != REPORTS_MAX:
        raise RuntimeError("not every report was taken")
