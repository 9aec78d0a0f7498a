"""What a node answers for in an HOUR, and what its witnesses stated of it: fixed once, and kept over a restart.

    claims: hour ──→ Claim          statements: hour, place ──→ Stated          both as they are sent (`witness_frames`)

Without the claim that its witnesses attested to a node would earn nothing for the HOUR in which it starts again, and
without their statements nothing for the one before.
"""

from collections.abc import Callable, Mapping
from typing import Final

from consensus.encoding import Malformed
from consensus.ids import Digest, Network
from node.overlay.inventory import Answerable
from node.overlay.machine import Persist
from node.overlay.witness_frames import ENTRIES_MAX, Claim, Stated, claim_root, read_witness, write_witness

CLAIMS: Final = "claims"
STATEMENTS: Final = "statements"
Rows = Mapping[tuple[str, tuple[int | str | bytes, ...]], bytes]


class Claims:
    """Of one node; `held` are the replicas that it answers for now, at most so many."""

    def __init__(self, network: Network, held: Callable[[int], list[Answerable]], rows: Rows) -> None:
        self._network, self._held = network, held
        self._claims: dict[int, Claim] = {}
        self._roots: dict[int, Digest] = {}
        self._stated: dict[int, dict[int, bytes]] = {}
        for (table, key), row in rows.items():
            if table in {CLAIMS, STATEMENTS}:
                self._recall(key, row)

    def _recall(self, key: tuple[int | str | bytes, ...], row: bytes) -> None:
        """A row that was kept; a damaged one is as none."""
        try:
            match key, read_witness(row):
                case (int(hour),), Claim() as claim:
                    self._claims[hour] = claim
                case (int(hour), int(place)), Stated(said, where, statement) if (said, where) == (hour, place):
                    self._stated.setdefault(hour, {})[place] = statement
        except Malformed:
            pass

    def fix(self, hour: int) -> list[Persist]:
        """Have a claim of an HOUR: that which was fixed, or what is held now, which then is to be kept."""
        if hour in self._claims:
            return []
        held = self._held(ENTRIES_MAX)
        self._claims[hour] = Claim(b"".join(one.root for one in held), tuple(one.size for one in held))
        return [Persist(CLAIMS, (hour,), write_witness(self._claims[hour]))]

    def of(self, hour: int) -> Claim | None:
        """The claim of an HOUR, once it is fixed."""
        return self._claims.get(hour)

    def root(self, hour: int) -> Digest:
        """What a report calls it; raises KeyError before it is fixed."""
        if hour not in self._roots:
            self._roots[hour] = claim_root(self._claims[hour], self._network)
        return self._roots[hour]

    def wanted(self, hour: int, names: tuple[Digest, ...]) -> list[Answerable]:
        """The replicas of a claim that are asked for, as they are here; those that are gone are left out."""
        claim = self._claims.get(hour)
        claimed = set() if claim is None else {*claim.entries}
        here = {one.root: one for one in self._held(1 << 30)}
        return [here[name] for name in names if name in claimed and name in here]

    def take(self, hour: int, place: int, statement: bytes) -> list[Persist]:
        """A witness's statement: its first one counts."""
        if place in (said := self._stated.setdefault(hour, {})):
            return []
        said[place] = statement
        return [Persist(STATEMENTS, (hour, place), write_witness(Stated(hour, place, statement)))]

    def stated(self, hour: int) -> Mapping[int, bytes]:
        """What was stated of an HOUR, by the places of the witnesses."""
        return self._stated.get(hour, {})

    def reported(self, hour: int) -> list[Persist]:
        """An HOUR's statements are in a report, or will never be."""
        return [Persist(STATEMENTS, (hour, place), None) for place in self._stated.pop(hour, {})]

    def forget(self, hour: int) -> list[Persist]:
        """What is of use no more when an HOUR has begun."""
        gone = [at for at in self._claims if at < hour]
        for at in gone:
            del self._claims[at]
            self._roots.pop(at, None)
        old = [row for at in [*self._stated] if at < hour - 1 for row in self.reported(at)]
        return [*(Persist(CLAIMS, (at,), None) for at in gone), *old]
