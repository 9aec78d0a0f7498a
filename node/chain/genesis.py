"""The chain before its first block: the contracts at their addresses, Prague's own, and coins for the founders.

    contracts/built ─┐
    system.json ─────┼──→ `allocation` ──→ every account of the genesis; nothing can be added later
    founders ────────┘

Source: DESIGN §7; contracts/src/At.sol; EIP-4788, 2935, 7002, 7251 for the four that every Prague chain has.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

from consensus.ids import Address

CONTRACTS: Final = (
    "LucidAnchors",
    "LucidChunkStore",
    "ParamRegistry",
    "EligibilityManager",
    "WorkCreditsOracle",
    "RewardMinter",
    "LucidToken",
    "SignerRegistry",
    "Governance",
)
"""In the order of their numbers; those of which no artefact is there are addresses without code."""
PLACES: Final = {name: Address(b"Lucid" + number.to_bytes(15, "big")) for number, name in enumerate(CONTRACTS, start=1)}
WITHDRAWALS: Final = Address(bytes.fromhex("00000961ef480eb55e80d19ad83579a64c007002"))
CONSOLIDATIONS: Final = Address(bytes.fromhex("0000bbddc7ce488642fb579f8b00f3a590007251"))
PRECOMPILES: Final = 0x11
"""Addresses up to this one are the EVM's own, and slow in Python: no transaction goes there (findings on gas rates)."""
GAS_LIMIT: Final = 15_000_000
"""Of a block, for ever (DESIGN §7): what a Pi executes within a few seconds."""
BASE_FEE: Final = 7
FOUNDER_WEI: Final = 10**18
"""Coins buy gas and nothing else; later ones are granted by blocks."""


class ChainLaw(NamedTuple):
    """What a network's genesis says of its chain."""

    chain_id: int
    began_s: int
    """When slot 0 began, in seconds: the time of the genesis block."""
    founders: Sequence[Address] = ()
    """Whose accounts have coins from the beginning."""
    slot_s: int = 120
    """How long a slot is."""

    def time_of(self, slot: int) -> int:
        """When a slot begins, in seconds: the time of its payload."""
        return self.began_s + slot * self.slot_s


class GenesisAccount(NamedTuple):
    """An account of the genesis."""

    balance: int = 0
    nonce: int = 0
    code: bytes = b""


@cache
def artefact(contract: str) -> Mapping[str, Any] | None:
    """What is committed of a contract: its ABI, code and sources; None for one that is not built yet."""
    file = files("contracts").joinpath("built", f"{contract}.json")
    if not file.is_file():
        return None
    read: Mapping[str, Any] = json.loads(file.read_text())
    return read


@cache
def _system() -> Mapping[str, str]:
    read: Mapping[str, str] = json.loads(files("node.chain").joinpath("system.json").read_text())
    return read


def allocation(law: ChainLaw, system: Mapping[Address, bytes]) -> dict[Address, GenesisAccount]:
    """Every account of the genesis; `system` are the contracts that the EVM's own package knows (EIP-4788 and 2935)."""
    made = {
        **system,
        WITHDRAWALS: bytes.fromhex(_system()["withdrawals"]),
        CONSOLIDATIONS: bytes.fromhex(_system()["consolidations"]),
        **{
            place: bytes.fromhex(found["code"])
            for name, place in PLACES.items()
            if (found := artefact(name)) is not None
        },
    }
    return {
        **{place: GenesisAccount(nonce=1, code=code) for place, code in made.items()},
        **{founder: GenesisAccount(FOUNDER_WEI) for founder in law.founders},
    }
