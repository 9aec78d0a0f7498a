"""What is wrong with a node or its machine: a code for programs, and a sentence that says how to mend it for people."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from node.config import Home


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    code: str
    """Stable, as "tor.missing"."""
    mend: str
    stops: bool = False
    """Whether the node cannot run as it is; else it is a warning."""


Check = Callable[[Home], Iterator[Finding]]
"""Looks at one matter; what is fine yields nothing."""
