from dataclasses import replace

import pytest

from consensus.ids import Digest, Millis, NodeId
from consensus.params import DEVNET, MAINNET, LeaderRule
from node.constitution import law_of, obstacle, params_of, rules_of
from node.network import TIMINGS, BootstrapNode, Carrier, Genesis, Mode, NetworkTerms

ME, OTHER = NodeId(b"a" * 32), NodeId(b"b" * 32)


def genesis(mode: Mode) -> Genesis:
    return Genesis("test", mode, ME, Millis(5), TIMINGS[mode], LeaderRule.SORTITION, (ME, OTHER), 3, Carrier.TOR)


@pytest.mark.parametrize("mode", Mode)
def test_a_genesis_of_usual_timing_has_the_usual_parameters(mode: Mode) -> None:
    assert params_of(genesis(mode)) == (DEVNET if mode is Mode.DEVNET else MAINNET)
    assert obstacle(genesis(mode)) is None


def test_the_law_names_the_founders_the_server_first() -> None:
    terms = NetworkTerms(genesis(Mode.MAINNET), 1, Millis(5), (BootstrapNode(ME, ()),))
    law = law_of(terms)
    assert (law.network, law.server, law.founders, law.difficulty) == (terms.network, ME, (ME, OTHER), 8)
    rules, state = rules_of(law)
    assert rules.law is law
    assert [*state.checkpoint.registry.members] == [ME, OTHER]
    assert state.id == Digest(terms.network)


def test_a_network_whose_eras_are_too_short_has_no_chain_and_says_why() -> None:
    odd = replace(genesis(Mode.DEVNET), timing=replace(TIMINGS[Mode.DEVNET], era_hours=1))
    assert obstacle(odd) == "era_hours is 1: from 3 to 10000 HOURs (CONSENSUS §1)"
