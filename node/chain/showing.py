"""What a publisher shows the contracts of the consensus, in its own payload: an HOUR's credits, and who may vote.

    facts of the parent's block ──┬─ credits that nobody committed yet ──→ WorkCreditsOracle.commit
                                  └─ some voters that the contracts know otherwise ──→ WorkCreditsOracle.enrol

Anybody may show them; whoever publishes does, so that one call does where all would send one. A block that is left out of
the chain takes its calls with it, and the next publisher shows what is missing then. Source: CONSENSUS §8.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from consensus.facts import CREDITS, VOTERS, Facts, facts_proof, list_proofs, voters_entries
from consensus.ids import Address, Digest
from consensus.payload import PayloadTerms, facts_of
from consensus.state import State
from node.chain.genesis import PLACES, ChainLaw
from node.chain.onsystem import Order, VoterEntry, calldata, commit_credits, enrol_voters
from node.chain.verbs import number_of

LOOKED_AT: Final = 64
"""Voters that a publisher looks at; the next slot's at the next ones."""
ENROLLED_MOST: Final = 20
"""Voters in a call: 82,000 gas each, of a block's 15 M."""


class Views(Protocol):
    """An executor, as far as it is asked here."""

    @property
    def law(self) -> ChainLaw:
        """The chain's."""

    async def calls(self, name: Digest, to: Address, datas: Sequence[bytes]) -> list[bytes | None]:
        """What a contract answers after a payload to each of some calls."""


async def orders(executor: Views, terms: PayloadTerms, state: State) -> list[Order]:
    """The calls that show what is missing after a payload's parent; state is that at the beginning of the payload's slot."""
    told, time_s = facts_of(state), executor.law.time_of(terms.slot)
    made = []
    if told.credits.size:
        (known,) = await _asked(executor, terms, "WorkCreditsOracle", "creditsRoot", [told.credits.number])
        if not known:
            made.append(commit_credits(told.credits, time_s, facts_proof(told, CREDITS)))
    if told.voters.size:
        entries = await _unknown(executor, terms, told, state.checkpoint.electorate.voters)
        if entries:
            proofs = list_proofs(voters_entries(state.checkpoint.electorate.voters))
            made.append(
                enrol_voters(
                    told.voters,
                    time_s,
                    facts_proof(told, VOTERS),
                    entries,
                    [proofs[entry.place] for entry in entries],
                )
            )
    return made


async def _unknown(
    executor: Views, terms: PayloadTerms, told: Facts, voters: Mapping[Address, bool]
) -> list[VoterEntry]:
    """Of some voters, those whose entry of this ERA the contracts have not had, and would change something."""
    accounts = sorted(voters)
    first = terms.slot * LOOKED_AT % len(accounts)
    places = sorted({(first + at) % len(accounts) for at in range(min(LOOKED_AT, len(accounts)))})
    looked = [accounts[place] for place in places]
    votes = await _asked(executor, terms, "EligibilityManager", "getVotes", looked)
    taken = await _asked(executor, terms, "WorkCreditsOracle", "takenFrom", looked)
    return [
        VoterEntry(place, account, voters[account])
        for place, account, has, era in zip(places, looked, votes, taken, strict=True)
        if bool(has) is not voters[account] and era <= told.voters.number
    ][:ENROLLED_MOST]


async def _asked(
    executor: Views, terms: PayloadTerms, contract: str, function: str, arguments: Sequence[int | Address]
) -> list[int]:
    """What a contract answers after a payload's parent, for each argument."""
    calls = [calldata(contract, function, one) for one in arguments]
    return [number_of(found or b"") for found in await executor.calls(terms.parent, PLACES[contract], calls)]
