"""How a command ends: its exit code, and the sentence that goes with it (DESIGN §12)."""

from typing import ClassVar, Final

DONE: Final = 0
NO: Final = 1
USAGE: Final = 2
UNAVAILABLE: Final = 3


class Ended(Exception):
    """A command cannot go on; its message is one sentence that names the cause and the mend."""

    code: ClassVar[int]


class Usage(Ended):
    """What was asked for makes no sense, or the configuration is wrong: asking again changes nothing."""

    code = USAGE


class Unavailable(Ended):
    """It could not be done now: something is missing, busy or full."""

    code = UNAVAILABLE


class Refuted(Ended):
    """The answer is no."""

    code = NO


CODES: Final[dict[int, type[Ended]]] = {kind.code: kind for kind in (Refuted, Usage, Unavailable)}
"""The way an ending that was told as a number ends here."""
