"""What a daemon says of the chain, and how status and explain put it, from replicas that have run for some HOURs."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from consensus.ids import NodeId, SessionId
from consensus.params import DEVNET
from consensus.replica import ConsensusReplica
from consensus.storage import Storage, StoredChunk, StoredSession
from consensus.tally import Credit, HourCredits, Tally, Work
from node.commands import asking
from node.commands.listing import _stored
from node.commands.status import _chain
from node.config import Home
from node.console import Console
from node.control.calls import Calls
from node.control.chain import account, standing, storage
from node.control.server import Request
from node.exits import DONE, NO, Unavailable, Usage
from tests.consensus.towns import Town
from tests.consensus.worlds import named

HOURS = 8
STRANGER = NodeId(b"s" * 32)


@pytest.fixture(scope="module")
def town() -> Town:
    made = Town(3, DEVNET, work=Work(100, 40, 900))  # whose usual HOUR is known after two
    made.run(HOURS * DEVNET.hour_slots)
    return made


@pytest.fixture
def replica(town: Town) -> ConsensusReplica:
    return town.up[1].replica


def test_the_standing_is_that_of_the_head_and_says_why_who_leads(town: Town, replica: ConsensusReplica) -> None:
    facts = json.loads(json.dumps(standing(replica, town.now)))
    head = replica.head()
    assert (facts["head"], facts["head_slot"], facts["height"]) == (head.id.hex(), head.slot, head.height)
    assert facts["final_hour"] == head.final.hour >= HOURS - 3
    assert facts["justified_hour"] >= facts["final_hour"]
    assert (facts["registered"], facts["voters"], facts["doubled"]) == (3, 3, False)
    assert facts["leader"] in {node.hex() for node in town.village.nodes}
    assert "sortition by the seed of slot" in facts["why"]
    assert "among 3" in facts["why"]
    first, second, third, fourth = _chain(facts)
    assert f"head {head.id.hex()[:8]} of slot {head.slot}" in first
    assert f"final HOUR {head.final.hour}" in first
    assert second.endswith("3 registered, 3 vote")
    assert facts["leader"][:8] in third
    assert fourth == "clock      of no three peers, nor of the Server, is the time known"
    assert len([*_chain({**facts, "doubled": True})]) == 5
    assert facts["hours_behind"] == 0
    off = [*_chain({**facts, "clock_offset_ms": 7_000, "clock_samples": 4, "on_time": False})][3]
    assert off.endswith(
        "-7,000 ms to the median of 4 peers: this node neither proposes nor votes until it is within 5 s"
    )
    assert [*_chain({**facts, "clock_offset_ms": -12, "clock_samples": 1})][3].endswith(" +12 ms to the Server")
    assert [line for line in _chain({**facts, "hours_behind": 1_500}) if "1,500 HOURs without a block" in line]


def test_a_network_in_which_nobody_has_weight_is_led_by_its_server() -> None:
    fresh = Town(3)
    replica = fresh.up[0].replica
    facts = standing(replica, fresh.now)
    assert facts["head_slot"] == facts["final_hour"] == 0
    assert facts["why"]


def test_an_account_adds_up(town: Town, replica: ConsensusReplica) -> None:
    facts = json.loads(json.dumps(account(replica, town.village.nodes[2])))
    assert facts["registered"]
    assert facts["voter"]
    assert facts["expelled_hour"] is None
    assert facts["work_mb"] == sum(row["work"] for row in facts["hours"]) > 0
    assert {row["uptime"] for row in facts["hours"]} == {900}
    assert all(row["storage"] == 100 for row in facts["not_settled"])
    assert 0 < facts["weight"] < facts["weight_of_all"]
    assert facts["live_ppm"] == 1_000_000 if len(facts["misses"]) < 2 else facts["live_ppm"] < 1_000_000


def test_who_was_away_for_days_is_told_of_its_last_24_hours(
    town: Town, replica: ConsensusReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, (state, slot) = town.village.nodes[2], replica.next()
    earned = [HourCredits.of(hour, [(node, Credit(7, 0))]) for hour in range(30)]
    tally = Tally((*earned, *map(HourCredits, range(30, 90))), {})
    known = replace(state, recent=(replace(state.checkpoint, tally=tally),))
    monkeypatch.setattr(replica, "next", lambda: (known, slot))
    assert [row["hour"] for row in account(replica, node)["hours"]] == [*range(6, 30)]


def test_of_a_node_that_nobody_knows_there_is_nothing_to_tell(replica: ConsensusReplica) -> None:
    facts = account(replica, STRANGER)
    assert not facts["registered"]
    assert not facts["voter"]
    assert facts["hours"] == facts["not_settled"] == facts["misses"] == []
    assert facts["work_mb"] == facts["weight"] == 0


def explained(facts: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """What the command ends with, and says."""
    monkeypatch.setattr(asking, "asked", lambda *_: facts)
    out = StringIO()
    return asking.explain(argparse.Namespace(node=None), Home(Path("nowhere")), Console(out=out)), out.getvalue()


def test_explain_says_where_the_weight_is_from(
    town: Town, replica: ConsensusReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = account(replica, town.village.nodes[2])
    code, said = explained(facts, monkeypatch)
    assert code == DONE
    assert facts["node"] in said
    assert "registered  since HOUR 0" in said
    assert f"work        {facts['work_mb']} MB" in said
    assert f"HOUR {facts['hours'][-1]['hour']}" in said
    assert "MB of 125 seen, uptime 900 ‰" in said
    assert "usual       125 MB an HOUR: half as much again counts at the most" in said
    assert "pool" not in said
    assert "expelled" not in said
    code, said = explained({**facts, "expelled_hour": 4, "entity": "ab" * 32, "misses": [1, 2]}, monkeypatch)
    assert f"pool        {'ab' * 32}" in said
    assert "expelled    in HOUR 4" in said
    assert "missed (HOURs 1, 2)" in said


def test_explain_of_a_stranger_ends_with_no(replica: ConsensusReplica, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = explained(account(replica, STRANGER), monkeypatch)
    assert code == NO
    assert "not in this ERA" in said
    assert "no evidence, no credit" in said
    assert "0.00 % of the draw" in said


async def test_the_call_names_a_node_by_64_digits_or_means_our_own(town: Town, replica: ConsensusReplica) -> None:
    async def told(_facts: Mapping[str, Any]) -> None:
        """Nothing is told before the end."""

    me = town.village.nodes[1]
    daemon: Any = SimpleNamespace(me=me, peer=SimpleNamespace(agreement=SimpleNamespace(replica=replica)))
    calls = Calls(daemon)
    assert (await calls._explain(Request({}, None, told)))["node"] == me.hex()
    assert (await calls._explain(Request({"node": STRANGER.hex()}, None, told)))["node"] == STRANGER.hex()
    for wrong in ("ab", "", "zz" * 32, "ab" * 33):
        with pytest.raises(Usage, match="64 hex digits"):
            await calls._explain(Request({"node": wrong}, None, told))
    daemon.peer.agreement = None
    with pytest.raises(Unavailable, match="no chain"):
        await calls._explain(Request({}, None, told))


def test_of_a_session_that_is_followed_it_says_how_far_it_is_stored_and_which_slot_pays() -> None:
    chunks = tuple(
        StoredChunk(
            named(number), 5, named(0), 9, named(1), tuple((NodeId(named(who)), named(who)) for who in range(held))
        )
        for number, held in enumerate((3, 2, 4))
    )
    session = SessionId(named(7))
    told = {"chunks": 3, "held": 2, "shown": 0, "paid_slot": None}
    for closed, passed in ((0, 0), (12, 1)):
        head = SimpleNamespace(storage=Storage({session: StoredSession(closed, 12, named(9), chunks, passed)}))
        replica = SimpleNamespace(head=lambda head=head: head, params=DEVNET)
        facts = storage(replica, session)  # type: ignore[arg-type]
        assert facts == {**told, "shown": passed, "paid_slot": 72 if closed else None}
        assert storage(replica, SessionId(named(8))) is None  # type: ignore[arg-type]
        assert facts is not None
        assert _stored(facts) == (
            "2 of 3 chunks held by three, shown to a holder, slot 72 pays for it"
            if closed
            else "2 of 3 chunks held by three, not shown to anybody yet"
        )
