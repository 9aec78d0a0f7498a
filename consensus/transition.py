"""From one block's state to the next: every rule that a block has to keep, and what it changes.

    State(parent) ── empty slots, HOURs that begin: `at_slot` ──→ ── the block's rules: `extend` ──→ State(block) | Invalid

Source: CONSENSUS §2, §4, §6, §7.
"""

from dataclasses import replace

from consensus import finality
from consensus.admission import pool_id
from consensus.block import Block, BlockBody, BlockHeader, block_id, next_seed
from consensus.checkpoint import Constitution, Happened, active
from consensus.finality import Point
from consensus.inclusion import (
    Invalid,
    Rules,
    check_double_proposal,
    check_double_vote,
    check_header,
    check_pool,
    check_registration,
    check_report,
    check_uncle,
    check_vote,
)
from consensus.news import split
from consensus.params import UNCLE_SLOTS
from consensus.payload import payout_of
from consensus.reasons import Reason
from consensus.state import Links, Published, State, at_slot, leaders
from consensus.storage import due, learned, revealed, settled


def extend(rules: Rules, parent: State, block: Block) -> State:
    """The state after a block on top of its parent's; raises Invalid with the first rule that the block breaks.

    The block's body is the one of its header (`read_block`). Costs a signature check for each vote and ten for each report.
    """
    law, header = rules.law, block.header
    if header.slot <= parent.slot:
        raise Invalid("a block that is not after its parent")
    state = at_slot(law, parent, header.slot)
    drawn = leaders(law, state, header.slot)
    output = check_header(rules, state, block.signed, drawn, state.seed)
    if header.state != state.state:
        raise Invalid("a block on top of another state")
    happened, links = _take_votes(rules, state, block.body)
    happened = _take_reports(rules, state, block, happened)
    happened = _take_registrations(rules, state, block.body, happened)
    happened = _take_evidence(rules, state, block.body, happened)
    published = _take_uncles(rules, state, block.body)
    happened, published = _charge(happened, published, header.slot)
    busy = block.body.is_busy
    at_final = next((one for one in state.recent if one.point == happened.final), state.at_final)
    sessions = due(state.storage, header.slot, law.params.hour_slots)
    payout = payout_of(state, header.slot, header.entity, law.server, sessions)
    if payout is not None:
        happened = replace(happened, paid=happened.paid | {payout.payee})
    seed = next_seed(law.network, state.seed, output)
    storage = settled(state.storage, header.slot, law.params.hour_slots, sessions)
    if news := split(block.body.payload)[0]:
        storage = learned(storage, news, header.slot, state.checkpoint.registry, law.network)
    return State(
        id=block_id(header, law.network),
        state=state.state,
        slot=header.slot,
        height=parent.height + 1,
        rank=header.rank,
        seed=seed,
        recent=state.recent,
        names=state.names,
        at_final=at_final,
        happened=happened,
        published=(*published, Published(header.slot, drawn, header.rank, busy, state.seed, ())),
        publishers=_publishers(law, state, header),
        payload=header.payload,
        payout=payout,
        minted=state.minted + (payout.amount if payout else 0),
        granted=tuple(one.registration.address for one in block.body.registrations),
        storage=revealed(storage, header.slot, seed),
        links=links,
    )


def _publishers(law: Constitution, state: State, header: BlockHeader) -> tuple[tuple[int, bytes], ...]:
    kept = tuple(one for one in state.publishers if one[0] > header.slot - law.params.cooldown_slots)
    return (*kept, (header.slot, header.entity))


def _take_votes(rules: Rules, state: State, body: BlockBody) -> tuple[Happened, Links]:
    """What votes bring; a quorum justifies its target, and makes its source final when it is that of the HOUR before."""
    happened = state.happened
    if not body.votes:
        return happened, state.links
    links = dict(state.links)
    for signed in body.votes:
        if reason := check_vote(rules, replace(state, happened=happened), signed):
            raise Invalid(reason)
        vote = signed.vote
        source, target = Point(vote.source_hour, vote.source), Point(vote.target_hour, vote.target)
        links[source, target] = links.get((source, target), frozenset()) | {vote.voter}
        happened = replace(happened, votes={**happened.votes, (target.hour, vote.voter): source})
    for (source, target), who in links.items():
        at = next(one for one in state.recent[-2:] if one.hour == target.hour)
        if finality.is_quorum(at.voters, rules.law.server, who, active(at.duties, at.voters)):
            happened = _joined(happened, source, target)
    return happened, links


def _joined(happened: Happened, source: Point, target: Point) -> Happened:
    """After a quorum voted from a source to a target."""
    is_next = target.hour == source.hour + 1
    final = source if is_next and source.hour > happened.final.hour else happened.final
    justified = {hour: block for hour, block in happened.justified.items() if hour >= final.hour}
    return replace(happened, final=final, justified={**justified, target.hour: target.block})


def _take_reports(rules: Rules, state: State, block: Block, happened: Happened) -> Happened:
    if not block.body.reports:
        return happened
    reports = dict(happened.reports)
    for signed in block.body.reports:
        key = signed.report.hour, signed.report.node
        if key in reports:
            raise Invalid("a second report")
        seen = check_report(rules, state, block.header.slot, signed)
        if isinstance(seen, Reason):
            raise Invalid(seen)
        reports[key] = seen._replace(includer=block.header.entity)
    return replace(happened, reports=reports)


def _take_registrations(rules: Rules, state: State, body: BlockBody, happened: Happened) -> Happened:
    for signed in body.registrations:
        if reason := check_registration(rules, replace(state, happened=happened), signed):
            raise Invalid(reason)
        one = signed.registration
        happened = replace(happened, registrations={**happened.registrations, one.node: one})
    for signed_pool in body.pools:
        if reason := check_pool(rules, replace(state, happened=happened), signed_pool):
            raise Invalid(reason)
        name = pool_id(signed_pool.pool, rules.law.network)
        happened = replace(happened, pools={**happened.pools, name: signed_pool.pool})
    return happened


def _take_evidence(rules: Rules, state: State, body: BlockBody, happened: Happened) -> Happened:
    for vote in body.double_votes:
        happened = _expel(happened, check_double_vote(rules, replace(state, happened=happened), vote))
    for proposal in body.double_proposals:
        happened = _expel(happened, check_double_proposal(rules, replace(state, happened=happened), proposal))
    return happened


def _expel(happened: Happened, found: bytes | Reason) -> Happened:
    if isinstance(found, Reason):
        raise Invalid(found)
    return replace(happened, expelled=(*happened.expelled, found))


def _take_uncles(rules: Rules, state: State, body: BlockBody) -> tuple[Published, ...]:
    for signed in body.uncles:
        if reason := check_uncle(rules, state, signed):
            raise Invalid(reason)
        slot, rank = signed.header.slot, signed.header.rank
        marked = [one._replace(uncles=(*one.uncles, rank)) if one.slot == slot else one for one in state.published]
        state = replace(state, published=tuple(marked))
    return state.published


def _charge(happened: Happened, published: tuple[Published, ...], slot: int) -> tuple[Happened, tuple[Published, ...]]:
    """Slots led and missed, of those whose uncles had their time; none where there was nothing to publish."""
    due = [one for one in published if one.slot < slot - UNCLE_SLOTS]
    misses, led = dict(happened.misses), dict(happened.led)
    for one in [one for one in due if one.busy]:
        for entity in one.drawn[one.rank : one.rank + 1]:  # nobody's where the Server stood in
            led[entity] = led.get(entity, 0) + 1
        for rank, entity in enumerate(one.drawn[: one.rank]):
            if rank not in one.uncles:
                misses[entity] = misses.get(entity, 0) + 1
    return replace(happened, misses=misses, led=led), published[len(due) :]
