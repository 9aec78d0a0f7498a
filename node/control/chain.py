"""What a daemon tells of the chain: where it stands, who leads and why, what the node's own part in it is, what it pays for.

Source: CONSENSUS §4 to §8.
"""

from collections.abc import Mapping
from typing import Any

from consensus.checkpoint import votes_per_mille
from consensus.ids import Millis, NodeId, SessionId
from consensus.params import usual_hours
from consensus.replica import ConsensusReplica
from consensus.reward import RECEIPTS, paid_slots
from consensus.state import State, weighing
from consensus.tally import Credit, live_ppm, usual
from node.overlay.clocks import Clocks


def standing(replica: ConsensusReplica, now: Millis, clocks: Clocks | None = None) -> Mapping[str, Any]:
    """The chain as this node sees it: slots, head, justified and final checkpoint, voters, and the leader of this slot."""
    head = replica.head()
    slot = replica.slot_at(now)
    state, following = replica.next()
    at = state.checkpoint
    justified = head.justified
    drawn = replica.leaders(state, following)
    return {
        "slot": slot,
        "hours_behind": (slot - following) // replica.params.hour_slots if replica.is_behind else 0,
        "head": head.id.hex(),
        "head_slot": head.slot,
        "height": head.height,
        "justified_hour": justified.hour,
        "final_hour": head.final.hour,
        "final_block": head.final.block.hex(),
        "era": at.registry.era,
        "registered": len(at.registry.members),
        "voters": len(at.voters),
        "next_slot": following,
        "leader": drawn[0].hex() if drawn else replica.law.server.hex(),
        "why": _why(replica, state, drawn),
        "doubled": replica.is_doubled,
        "clock_offset_ms": None if clocks is None else clocks.offset,
        "clock_samples": 0 if clocks is None else clocks.samples,
        "on_time": replica.is_on_time,
    }


def _why(replica: ConsensusReplica, state: State, drawn: tuple[bytes, ...]) -> str:
    """Why the leader of the next slot leads, in a sentence."""
    if not drawn:
        return "nobody registered has weight: the Server publishes"
    past = weighing(state)
    total = sum(past.weights.values())
    share = 1_000 * past.weights.get(drawn[0], 0) // max(1, total)
    rule = replica.params.leader_rule.name.lower()
    return f"{rule} by the seed of slot {state.slot} among {len(past.weights)}, with {share} ‰ of the weight at HOUR {past.hour}"


def storage(replica: ConsensusReplica, session: SessionId) -> Mapping[str, Any] | None:
    """What the chain has of a session's storage, and which slot pays for it; None for one that is not followed, or no more."""
    followed = replica.head().storage.sessions.get(session)
    if followed is None:
        return None
    return {
        "chunks": len(followed.chunks),
        "held": sum(len({entity for _, entity in chunk.holders}) >= RECEIPTS for chunk in followed.chunks),
        "shown": followed.passed,
        "paid_slot": followed.closed + paid_slots(replica.params.hour_slots) if followed.closed else None,
    }


def account(replica: ConsensusReplica, node: NodeId) -> Mapping[str, Any]:
    """Why a node's credits are what they are: per HOUR of the window, its cap, votes and misses, and its weight."""
    state, _ = replica.next()
    at = state.checkpoint
    member = at.registry.members.get(node)
    entity = node if member is None else member.entity
    misses = at.misses.get(entity, ())
    known = at.tally.sums.get(node, Credit(0, 0))
    hours = [
        {"hour": hour.hour, **credit._asdict()} for hour in at.tally.hours if (credit := hour.get(node)) is not None
    ]
    waiting = {hour: of[node].work._asdict() for hour, of in sorted(at.reports.items()) if node in of}
    return {
        "node": node.hex(),
        "entity": entity.hex(),
        "registered": member is not None,
        "since_hour": None if member is None else member.since,
        "registered_next": node in at.joining or node in state.happened.registrations,
        "voter": node in at.key_of,
        "votes_per_mille": votes_per_mille(at.duties, node),
        "cap_mb": replica.params.cap_mb,
        "usual_mb": usual(at.tally, usual_hours(replica.params)).get(node, 0),
        "window_hours": replica.params.window_hours,
        "work_mb": known.work,
        "floors": known.floors,
        "hours": hours[-24:],
        "not_settled": [{"hour": hour, **work} for hour, work in waiting.items()],
        "misses": list(misses),
        "led": len(at.led.get(entity, ())),
        "live_ppm": live_ppm(len(at.led.get(entity, ())), len(misses)),
        "weight": at.weights.get(entity, 0),
        "weight_of_all": sum(at.weights.values()),
        "expelled_hour": at.expelled.get(entity),
    }
