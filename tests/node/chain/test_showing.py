"""A publisher shows the contracts what the consensus says of credits and voters: once, what is missing, and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import trio

from consensus.electorate import Electorate
from consensus.ids import Address, Digest
from consensus.payload import PayloadTerms, facts_of, terms_of
from consensus.registry import registry_of
from consensus.state import State
from consensus.tally import Credit, HourCredits, Tally
from node.chain import showing
from node.chain.genesis import PLACES
from node.chain.onsystem import Order, calldata
from node.chain.verbs import number_of
from tests.consensus.worlds import named
from tests.node.chain.test_paid import ACCOUNTS, LAW, Town

pytestmark = pytest.mark.component


class Asked:
    """An executor whose answers are those of an engine at once."""

    def __init__(self, town: Town) -> None:
        self._town, self.law = town, LAW

    async def calls(self, name: Digest, to: Address, datas: Sequence[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = self._town.engine.verbs["calls"](name, to, list(datas))
        return found


class Hall(Town):
    """A town whose states have credits and voters as a test wants them."""

    def __init__(self) -> None:
        super().__init__()
        self.hour = 3
        self.voters: Mapping[Address, bool] = {}

    def knowing(self) -> State:
        entries = sorted((bytes(node), Credit(50, 0)) for node in self.village.nodes)
        checkpoint = replace(
            self.state.checkpoint,
            tally=Tally((HourCredits.of(self.hour, entries),), {}),
            electorate=Electorate((), frozenset(), self.voters),
        )
        return replace(self.state, recent=(checkpoint,), names=self.state.names[-1:])

    def shown(self, slot: int) -> list[Order]:
        """What a publisher shows in a slot; its block follows."""
        self.state = self.knowing()
        at = self.village.at(self.state, slot)
        at = replace(at, recent=(*at.recent[:-1], self.state.checkpoint))
        entity = self.village.nodes[0]
        terms: PayloadTerms = terms_of(at, slot, entity)
        orders: list[Order] = trio.run(showing.orders, Asked(self), terms, at)
        sent = [self.signed(1, order) for order in orders]
        name, payload = self.engine.verbs["build"](showing_terms(terms), sent)
        self.engine.verbs["judge"](showing_terms(terms), name, payload)
        self.state = replace(self.state, payload=Digest(name), payout=None, slot=slot)
        assert terms.root != bytes(32)
        assert facts_of(at).credits.number == self.hour
        return orders

    def asked(self, contract: str, function: str, argument: Any) -> int:
        (found,) = self.engine.verbs["calls"](
            self.state.payload, PLACES[contract], [calldata(contract, function, argument)]
        )
        return number_of(found)


def showing_terms(terms: PayloadTerms) -> list[Any]:
    return list(terms)


def named_by(orders: list[Order]) -> list[str]:
    selectors = {calldata("WorkCreditsOracle", "commit", 0, bytes(32), 0, 0, [bytes(32)] * 2)[:4]: "commit"}
    return [selectors.get(one.data[:4], "enrol") for one in orders]


def test_an_hours_credits_are_committed_once() -> None:
    hall = Hall()
    assert named_by(hall.shown(1)) == ["commit"]
    assert hall.asked("WorkCreditsOracle", "creditsRoot", 3) == number_of(facts_of(hall.knowing()).credits.root)
    assert hall.shown(2) == []
    hall.hour = 4
    assert named_by(hall.shown(3)) == ["commit"]


def test_voters_are_enrolled_and_struck_once_an_era_whoever_publishes(monkeypatch: pytest.MonkeyPatch) -> None:
    hall = Hall()
    hall.shown(1)
    hall.voters = dict.fromkeys(ACCOUNTS[:4], True) | {ACCOUNTS[5]: False}
    monkeypatch.setattr(showing, "ENROLLED_MOST", 3)
    assert named_by(hall.shown(2)) == ["enrol"]
    assert named_by(hall.shown(3)) == ["enrol"]
    assert hall.shown(4) == []
    assert [hall.asked("EligibilityManager", "getVotes", one) for one in ACCOUNTS] == [1, 1, 1, 1, 0, 0]
    hall.voters = {**hall.voters, ACCOUNTS[1]: False}
    assert hall.shown(5) == []  # it has had its entry of this ERA
    registry = hall.state.checkpoint.registry
    later = registry_of(1, registry.members.values(), {})
    hall.state = replace(hall.state, recent=(replace(hall.state.checkpoint, registry=later),))
    assert named_by(hall.shown(6)) == ["enrol"]
    assert [hall.asked("EligibilityManager", "getVotes", one) for one in ACCOUNTS] == [1, 0, 1, 1, 0, 0]


def test_of_many_voters_each_slot_looks_at_some(monkeypatch: pytest.MonkeyPatch) -> None:
    hall = Hall()
    hall.shown(1)
    hall.voters = {Address(named(number)[-20:]): True for number in range(1, 11)}
    monkeypatch.setattr(showing, "LOOKED_AT", 4)
    for slot in range(2, 7):
        hall.shown(slot)
    assert [hall.asked("EligibilityManager", "getVotes", one) for one in hall.voters] == [1] * 10
