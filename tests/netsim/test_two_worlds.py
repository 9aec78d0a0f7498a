"""One population in both worlds: the machines of the protocol, and the economy that has its rules and no overlay, tell the same."""

from collections import Counter
from dataclasses import replace
from math import sqrt

import pytest

from consensus.params import MAINNET, PER_MILLE, SERVER_RANK
from consensus.wishes import NewBlock
from netsim.agreement import Citizen
from netsim.checks import judge
from netsim.economy import Economy
from netsim.operators import Operator, Rig
from netsim.parliament import HOUR_MS, stage
from netsim.tape import Recipe

pytestmark = pytest.mark.component

NODES, HOURS = 12, 60
DEVIATIONS = 4
"""Draws of one slot are nearly independent of those of the next: beyond four deviations lies one share of 15,000."""


def test_shares_of_the_slots_are_the_same_with_machines_and_without() -> None:
    made = stage(Recipe("agree-steady", 5, NODES, HOURS * HOUR_MS, ()))
    blocks: dict[int, NewBlock] = {}

    def published(_now: int, _node: int, fact: NewBlock) -> None:
        blocks.setdefault(fact.slot, fact)

    made.world.on_fact(NewBlock, published)
    assert judge(made.world, made.world.now + HOURS * HOUR_MS, made.checks) is None
    citizens = [node.machine for node in made.world.nodes]
    operators = [
        Operator(f"{number}", (Rig(one.work.storage, 0, PER_MILLE),))
        for number, one in enumerate(citizens)
        if isinstance(one, Citizen) and one.work is not None
    ]
    assert len(operators) == NODES
    slots = HOURS * MAINNET.hour_slots
    economy = Economy(5, operators, replace(MAINNET, voter_hours=0), 4 * slots, 20)
    economy.run(4 * slots)
    assert economy.begins < slots // 3

    # Slots without anything to publish are the Server's; how many there are differs, since reports arrive otherwise.
    led = Counter(fact.entity for slot, fact in blocks.items() if slot >= economy.begins and fact.rank < SERVER_RANK)
    drawn = economy.led - Counter({economy.server: economy.fallbacks})
    here, there = led.total(), drawn.total()
    assert here > 300
    for citizen, identity in zip(citizens, economy.identities, strict=True):
        assert isinstance(citizen, Citizen)
        shares = led[citizen.me] / here, drawn[identity.node] / there
        share = (led[citizen.me] + drawn[identity.node]) / (here + there)
        assert abs(shares[0] - shares[1]) <= DEVIATIONS * sqrt(share * (1 - share) * (1 / here + 1 / there)), shares
