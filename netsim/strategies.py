"""What an operator does where the rules leave it a choice: as a witness, with its reports, and in its slots.

`Strategy` is what the daemon does; each of the others departs from it in one thing. A strategy sees what its operator would
see: its own identities, the chain, and its own VRF output before it is published.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from consensus.params import PER_MILLE
from consensus.tally import Work, quorum


class Look(Protocol):
    """One draw ahead, as an operator can compute it who knows what seed a publisher would make."""

    def own(self, entity: bytes) -> bool:
        """Whether an entity is the operator's and up."""

    def lead(self, entity: bytes | None) -> tuple[bool, int]:
        """After a block by an entity: whether the operator leads the next slot, and how many first ranks of it are its own.

        None stands for the next rank of another that is up, as far as it can be foreseen.
        """


class Strategy:
    """What the daemon does."""

    name = "honest"
    late_header = False
    """Whether it shows a header for a slot that it let pass, which saves it from the miss."""

    def state(self, seen: Work, *, fellow: bool) -> Work | None:
        """What it says as the witness of a node of its own operator, or of another; None says nothing."""
        del fellow
        return seen

    def assemble(self, stated: Sequence[tuple[Work, bool]], witnesses: int) -> list[Work]:
        """Which statements it puts into its report; with each, whether a node of its own operator made it."""
        del witnesses
        return [work for work, _ in stated]

    def includes(self, *, fellow: bool) -> bool:
        """Whether it puts a report into its block."""
        del fellow
        return True

    def chosen(self, drawn: Sequence[bytes], look: Look) -> bytes | None:
        """Which of its entities publishes, of the ranks from its first one on; None leaves the slot to others."""
        del look
        return drawn[0]


class Collude(Strategy):
    """Its identities witness for each other so many times the truth, and for others nothing: no work, or no word."""

    def __init__(self, name: str, times: int, *, silent: bool, selects: bool = False) -> None:
        self.name, self.times, self.silent, self.selects = name, times, silent, selects

    def state(self, seen: Work, *, fellow: bool) -> Work | None:
        """Inflated, or nothing."""
        if fellow:
            return Work(seen.storage * self.times, seen.relay * self.times, PER_MILLE)
        return None if self.silent else Work(0, 0, 0)

    def assemble(self, stated: Sequence[tuple[Work, bool]], witnesses: int) -> list[Work]:
        """All of them; or, if it selects, those of its fellows and just as many others as make a quorum."""
        if not self.selects:
            return [work for work, _ in stated]
        fellows = [work for work, fellow in stated if fellow]
        others = sorted((work for work, fellow in stated if not fellow), reverse=True)
        return fellows + others[: max(0, quorum(witnesses) - len(fellows))]


class Censor(Strategy):
    """Its blocks leave out everybody else's reports."""

    name = "censor"

    def includes(self, *, fellow: bool) -> bool:
        """Its own alone."""
        return fellow


class Withhold(Strategy):
    """It looks one draw ahead: of its identities that lead a slot, that one publishes whose seed serves it best, or none does.

    What counts is its slots now and next, then how many first ranks of the next are its own, since each is a seed to choose from.
    """

    name = "withhold"

    def __init__(self, *, late_header: bool) -> None:
        self.late_header = late_header
        self.name = "withhold, header shown late" if late_header else "withhold"

    def chosen(self, drawn: Sequence[bytes], look: Look) -> bytes | None:
        """The best of its options."""
        options: list[bytes | None] = []
        for entity in drawn:
            if not look.own(entity):
                break
            options.append(entity)
        options.append(None)

        def worth(option: bytes | None) -> tuple[int, int]:
            leads, run = look.lead(option)
            return (option is not None) + leads, run

        return max(options, key=worth)


HONEST: Final = Strategy()
