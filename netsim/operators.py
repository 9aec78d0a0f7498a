"""Who takes part in an economy: machines that work, the operators that run them, and the identities that they show.

Of an identity only what is behind it is real: what a machine stores and relays is divided evenly among the identities
that it shows, and they are up and down together. The figures are **assumptions**: MB stored are log-normal (median
50,000, sigma 1: of 1,000 machines the largest has some 1.2 TB), MB relayed an HOUR are a log-normal share of them (median a
tenth), and a machine is away now and then for two hours in the mean, 5 % of the time in the median.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from random import Random
from typing import Final, NamedTuple

from consensus.ids import NodeId
from consensus.params import PER_MILLE
from consensus.tally import Work, credit
from netsim.seeds import derive
from netsim.strategies import HONEST, Strategy

STORED_MB: Final = 50_000
RELAYED: Final = 0.1
SPREAD: Final = 1.0
AWAY: Final = 0.05
AWAY_MAX: Final = 0.5
AWAY_SLOTS: Final = 60
"""How long a machine is away, in the mean."""

UNCAPPED: Final = 1 << 60


class Rig(NamedTuple):
    """A machine: MB stored, MB relayed an HOUR, and the thousandths of the time for which it is up."""

    storage: int
    relay: int
    up: int

    @property
    def rate(self) -> int:
        """Real work an HOUR in the mean, in MB: what counts by the tally's rule, without its cap."""
        return work_of(self.storage, self.relay, self.up)


class Persona(NamedTuple):
    """A registered node, an entity of its own, with what is really behind it."""

    node: NodeId
    operator: int
    rig: int
    storage: int
    relay: int


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody with machines, who shows so many identities and plays a strategy."""

    name: str
    rigs: tuple[Rig, ...]
    identities: int = 1
    strategy: Strategy = HONEST
    owners: int = 0
    """Accounts under which it opens sessions of its own, two a day each, only to have them counted."""


def work_of(storage: int, relay: int, up: int) -> int:
    """Real work of an HOUR, in MB: the tally's own credit of the truth, without its limits."""
    return credit(Work(storage, relay, up), PER_MILLE, UNCAPPED, UNCAPPED).work


def rig(rng: Random, stored_mb: int = STORED_MB, away: float = AWAY) -> Rig:
    """A machine as they are found, of so many MB and so often away in the median."""
    storage = int(stored_mb * rng.lognormvariate(0, SPREAD))
    relay = int(storage * RELAYED * rng.lognormvariate(0, SPREAD))
    gone = min(AWAY_MAX, away * exp(rng.gauss(0, SPREAD)))
    return Rig(storage, relay, PER_MILLE - int(PER_MILLE * gone))


def rigs(seed: int, count: int, stored_mb: int = STORED_MB, away: float = AWAY) -> list[Rig]:
    """So many machines; the first of them are the same for every count."""
    return [rig(derive(seed, "machine", number), stored_mb, away) for number in range(count)]


def sized(rate: int, up: int) -> Rig:
    """A machine of so much real work an HOUR, that relays as others do."""
    storage = rate * PER_MILLE * 10 // (up * 11)
    return Rig(storage, storage // 10, up)


def share_of(others: Sequence[Rig], percent: int) -> int:
    """The real work an HOUR that is so many per cent of all, its own included."""
    return sum(one.rate for one in others) * percent // (100 - percent)


def show(operators: Sequence[Operator], seed: int) -> list[Persona]:
    """All identities, in the order of the operators; a machine's work is divided evenly among those that it shows."""
    shown: list[Persona] = []
    first = 0
    for number, operator in enumerate(operators):
        count = len(operator.rigs)
        for turn in range(operator.identities):
            at = turn % count
            sharing = len(range(at, operator.identities, count))
            whole = operator.rigs[at]
            # Work below the number of identities is lost, as it is for who cuts a disk into slices too thin.
            node = NodeId(derive(seed, "identity", number, turn).randbytes(32))
            shown.append(Persona(node, number, first + at, whole.storage // sharing, whole.relay // sharing))
        first += count
    return shown


def attendance(seed: int, number: int, up: int, slots: int) -> bytearray:
    """For each slot whether a machine is up: stretches that are exponential, of two hours when it is away."""
    made = bytearray(b"\1" * slots)
    if up >= PER_MILLE:
        return made
    rng = derive(seed, "away", number)
    there = AWAY_SLOTS * up / (PER_MILLE - up)
    at = rng.expovariate(1 / there) if rng.randrange(PER_MILLE) < up else 0.0
    while at < slots:
        back = at + rng.expovariate(1 / AWAY_SLOTS)
        begin, end = round(at), min(slots, round(back))
        made[begin:end] = bytes(max(0, end - begin))
        at = back + rng.expovariate(1 / there)
    return made
