"""What a network's genesis means for its consensus: parameters, law and first state.

What the genesis does not name follows from its mode. Source: CONSENSUS §1; node/network.
"""

from dataclasses import replace
from typing import Final

from consensus.checkpoint import Constitution
from consensus.inclusion import Rules
from consensus.params import DEVNET, MAINNET, Params, complaints
from consensus.registry import founding
from consensus.signing import verify_as_is
from consensus.state import State, genesis_state
from node.chain.genesis import ChainLaw
from node.network import Genesis, Mode, NetworkTerms

HOURS_A_DAY: Final = 24
"""HOURs: leaderWindowDays counts days of the network's own HOURs."""


def params_of(genesis: Genesis) -> Params:
    """The consensus parameters of a network."""
    timing = genesis.timing
    usual = DEVNET if genesis.mode is Mode.DEVNET else MAINNET
    return replace(
        usual,
        slot_ms=1_000 * timing.slot_s,
        hour_slots=timing.hour_slots,
        era_hours=timing.era_hours,
        month_hours=timing.month_hours,
        rank_ms=timing.rank_ms,
        vote_ms=timing.vote_ms,
        window_hours=HOURS_A_DAY * timing.window_days,
        leader_rule=genesis.leader_rule,
    )


def obstacle(genesis: Genesis) -> str | None:
    """Why a network can have no chain; None when it has one."""
    return "; ".join(complaints(params_of(genesis))) or None


def law_of(terms: NetworkTerms) -> Constitution:
    """The law of a network: what decides the validity of its blocks."""
    genesis = terms.genesis
    difficulty = 1 << genesis.admission_bits
    return Constitution(terms.network, params_of(genesis), genesis.founders, difficulty)


def chain_law_of(terms: NetworkTerms) -> ChainLaw:
    """What the network's genesis means for its execution layer; the chain id follows from the network's, below 2³¹ for all clients."""
    genesis = terms.genesis
    chain_id = int.from_bytes(terms.network[:4], "big") >> 1 | 1 << 30
    return ChainLaw(chain_id, genesis.created // 1_000, (), genesis.timing.slot_s)


def rules_of(law: Constitution) -> tuple[Rules, State]:
    """The law with libsodium's checks, and the state of the genesis."""
    return Rules(law, verify_as_is), genesis_state(law, founding(law.founders, {}))
