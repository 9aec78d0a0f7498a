"""How many examples a law is tried on."""

import os
from typing import Final

EXAMPLES: Final = int(os.environ.get("LUCID_EXAMPLES", "20"))
"""Of a law that does not say otherwise; `./lucid fuzz` sets it."""


def examples(percent: int) -> int:
    """How many for a law whose examples cost more or find less than others'."""
    return max(1, EXAMPLES * percent // 100)
