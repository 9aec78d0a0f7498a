"""What honest nodes keep while a fifth of the network means ill: their look-ups, their directory, their memory."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from consensus.ids import NodeId
from netsim import adversaries
from netsim.adversaries import HOARD_MAX, KNOWN_MAX, Intruder, MeshSpam, Replayer, ground
from netsim.checks import judge
from netsim.faults import Plan
from netsim.overlay import Stage, stage
from netsim.scenarios import SEEDS, keys_of, named, recipe
from node.overlay.logs import Learned
from node.overlay.machine import Rejected
from node.overlay.peer import DIRECTORY, Blocked, Peer
from node.overlay.routing import place
from node.overlay.topics import Delivered, Graylisted

NODES, MINUTES = 25, 14


@dataclass
class Siege:
    """A run with adversaries, and what was seen of it."""

    stage: Stage
    graylisted: Counter[NodeId] = field(default_factory=Counter)
    rejected: Counter[NodeId] = field(default_factory=Counter)
    learned: Counter[tuple[int, bytes]] = field(default_factory=Counter)
    delivered: Counter[tuple[int, bytes]] = field(default_factory=Counter)
    blocked: Counter[tuple[int, NodeId]] = field(default_factory=Counter)
    looks: list[float] = field(default_factory=list)
    """Every ten seconds: of all pairs of an honest node and an adversary, the share that is connected."""

    def look(self) -> None:
        peers, crew = self.peers(), [one.me for one in self.intruders()]
        if len(peers) == NODES - NODES // 5 and crew:  # everybody has joined
            self.looks.append(sum(node in peer.connected for peer in peers for node in crew) / len(peers) / len(crew))

    def peers(self) -> list[Peer]:
        return [node.machine for node in self.stage.world.nodes if isinstance(node.machine, Peer)]

    def intruders(self) -> list[Intruder]:
        return [node.machine for node in self.stage.world.nodes if isinstance(node.machine, Intruder)]


@cache
def besiege(name: str, share: int = 200) -> Siege:
    """One run of a scenario for all tests that look at it; they change nothing."""
    settings = {"adversaries": str(share), "join_s": "20", "look_ups": "100", "messages": "40"}
    what = recipe(named(name), NODES, 3, MINUTES, settings, Plan())
    seen = Siege(stage(what))
    world = seen.stage.world
    world.on_fact(Graylisted, lambda _now, _node, fact: seen.graylisted.update([fact.peer]))
    world.on_fact(Blocked, lambda _now, node, fact: seen.blocked.update([(node, fact.peer)]))
    world.every(10_000, seen.look)
    world.on_fact(Rejected, lambda _now, _node, fact: seen.rejected.update([fact.peer]))
    world.on_fact(Learned, lambda _now, node, fact: seen.learned.update([(node, fact.item.digest)]))
    world.on_fact(Delivered, lambda _now, node, fact: seen.delivered.update([(node, fact.message_id)]))
    seen.stage.broken = judge(world, world.now + what.duration_ms, seen.stage.checks)
    return seen


def weigh(value: Any, seen: set[int]) -> int:
    """Items in all containers below a part of a peer, and a unit for each 100 bytes in them."""
    if isinstance(value, bytes | str):
        return len(value) // 100
    if id(value) in seen or isinstance(value, type):
        return 0
    seen.add(id(value))
    if isinstance(value, dict):
        return sum(1 + weigh(key, seen) + weigh(item, seen) for key, item in list(value.items()))
    if isinstance(value, list | tuple | set | frozenset) or type(value).__name__ == "deque":
        return sum(1 + weigh(item, seen) for item in value)
    if not type(value).__module__.startswith("node.overlay"):
        return 0
    names = [
        *getattr(value, "__dict__", ()),
        *(n for kind in type(value).__mro__ for n in getattr(kind, "__slots__", ())),
    ]
    return sum(weigh(getattr(value, name, None), seen) for name in names)


@pytest.mark.component
@pytest.mark.parametrize("name", ["eclipse", "sybil-flood", "content-eclipse", "spam", "replay"])
def test_a_fifth_of_adversaries_costs_honest_nodes_no_entry_and_few_look_ups(name: str) -> None:
    siege = besiege(name)
    measures = siege.stage.measures
    assert siege.stage.broken is None
    assert (len(siege.intruders()), len(siege.peers())) == (NODES // 5, NODES - NODES // 5)
    assert all(one.done > 20 for one in siege.intruders()), "the attack took place"
    assert len(measures.sent) == 40 + (name == "sybil-flood")
    assert measures.missing() == []
    assert set(measures.delivered.values()) == {len(siege.peers())}
    found = sum(one.found for one in measures.look_ups)
    assert len(measures.look_ups) == 100
    assert found >= 95


@pytest.mark.component
@pytest.mark.parametrize("name", ["eclipse", "sybil-flood", "content-eclipse", "spam", "replay"])
def test_honest_nodes_never_pay_for_what_adversaries_do(name: str) -> None:
    """No honest node shuns another, and none passes on what another has to refuse."""
    siege = besiege(name)
    honest = {peer.me for peer in siege.peers()}
    assert not honest & set(siege.graylisted)
    assert not honest & set(siege.rejected)


@pytest.mark.component
def test_adversaries_are_in_every_honest_table_and_still_find_no_way_to_close_the_circle() -> None:
    siege = besiege("eclipse")
    crew = [one.me for one in siege.intruders()]
    assert all(sum(node in peer.dht.table for node in crew) >= len(crew) // 2 for peer in siege.peers())
    everybody = {peer.me for peer in siege.peers()}
    assert all(any(node in peer.dht.table for node in everybody - {peer.me}) for peer in siege.peers())


@pytest.mark.component
def test_who_is_hidden_from_look_ups_is_in_every_directory() -> None:
    siege = besiege("sybil-flood")
    crew = siege.intruders()[0].crew
    aim = place(crew.target)
    nearest = sorted((place(node.id) ^ aim, node.id) for node in siege.stage.world.nodes if node.id != crew.target)
    assert sum(node in crew.members for _, node in nearest[: len(crew.members)]) >= len(crew.members) - 1
    assert len(siege.stage.measures.sought) == 40  # found or not: nothing that matters needs it
    newest = [peer.logs.directory.chain(crew.target) for peer in siege.peers()]
    assert len(newest) == len(siege.peers())
    assert all(chain and chain[0].digest == newest[0][0].digest for chain in newest)


@pytest.mark.component
def test_a_content_is_forgotten_as_published_once_all_who_keep_its_providers_are_sybils() -> None:
    few = besiege("content-eclipse")  # five of the twenty that keep a key's providers
    assert sum(one.found for one in few.stage.measures.sought) == 40
    settings = {"adversaries": "400", "join_s": "20", "look_ups": "20", "messages": "12"}
    many = stage(recipe(named("content-eclipse"), 60, 3, MINUTES, settings, Plan()))
    assert judge(many.world, many.world.now + MINUTES * 60_000, many.checks) is None
    assert len(many.measures.sought) == 40
    assert sum(one.found for one in many.measures.sought) < 4  # nothing that matters asks for providers
    assert many.measures.missing() == []


@pytest.mark.component
def test_spammers_are_off_the_network_within_minutes_and_come_back_for_moments() -> None:
    siege = besiege("spam")
    crew = [one.me for one in siege.intruders()]
    assert sum(isinstance(one, MeshSpam) and one.is_forger for one in siege.intruders()) == 2
    assert len(siege.blocked) == len(siege.peers()) * len(crew), "each honest node has shut each of them out"
    assert max(siege.blocked.values()) == 2, "in 14 minutes there is room for one block of 10 and one of 20"
    assert max(siege.looks[:12]) > 0.5, "they were connected"
    gone = siege.looks[18:60]  # from the third minute to the tenth, when the first blocks end
    assert max(gone) == 0
    assert sum(siege.looks[60:]) / len(siege.looks[60:]) < 0.1
    for peer in siege.peers():
        honest = [node for node in peer.gossip.mesh(DIRECTORY) if node not in crew]
        assert len(honest) >= peer.limits.gossip.degree_low


@pytest.mark.component
def test_spam_makes_nobody_keep_much_more_than_without_it() -> None:
    attacked, calm = besiege("spam"), besiege("spam", 0)
    usual = max(weigh(peer, set()) for peer in calm.peers())
    assert usual > 300
    assert max(weigh(peer, set()) for peer in attacked.peers()) < 2 * usual


@pytest.mark.component
def test_what_was_heard_once_counts_once() -> None:
    siege = besiege("replay")
    assert sum(one.done for one in siege.intruders()) > 1000
    assert set(siege.learned.values()) == {1}
    assert set(siege.delivered.values()) == {1}


@pytest.mark.component
@pytest.mark.parametrize("name", ["eclipse", "spam", "replay"])
def test_adversaries_keep_no_more_than_their_bounds(name: str) -> None:
    for one in besiege(name).intruders():
        assert 0 < len(one.known) <= KNOWN_MAX
        assert not isinstance(one, Replayer) or 0 < len(one.hoard) <= HOARD_MAX


def test_ground_ids_lie_beside_their_target_and_are_the_same_again() -> None:
    target = NodeId(keys_of(1, SEEDS).public)
    aim, nodes, count = place(target), 60, 8
    made = [NodeId(pair.public) for pair in ground(1, aim, count, nodes)]
    honest = [NodeId(keys_of(1, number).public) for number in range(nodes) if number != SEEDS]
    nearest = sorted((place(node) ^ aim, node) for node in (*made, *honest))[:count]
    assert sum(node in made for _, node in nearest) >= count - 1
    assert made == [NodeId(pair.public) for pair in ground(1, aim, count, nodes)]


def test_grinding_ends_however_large_the_network_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adversaries, "GRIND_MAX", 50)
    assert len(ground(1, place(NodeId(keys_of(1, SEEDS).public)), 3, 10**9)) == 3
