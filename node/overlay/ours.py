"""What this node itself puts into the DHT and provides, kept across restarts, and when each is to be put again.

Rows of "dht" under ("value", key), the value, and ("provided", key), nothing; to be given back at the next start.

Source: Kademlia §2.5; libp2p specs, kad-dht ("Content routing").
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from consensus.ids import Millis
from node.overlay.calls import Provide, PutValue
from node.overlay.machine import Action, Persist

if TYPE_CHECKING:
    import random

TABLE: Final = "dht"
VALUE: Final = "value"
PROVIDED: Final = "provided"

_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class OursLimits:
    """How much, and how often: 1,024 × 16 KiB at most, 16 MiB."""

    entries: int = 1_024  # of each kind
    republish_ms: int = 6 * _HOUR_MS  # a fourth of a provision's life: nodes are away for hours
    start_ms: int = 600_000  # after a start, everything is put again within this time


class Ours:
    """Values and provisions of our own, by key."""

    def __init__(self, rng: "random.Random", limits: OursLimits, kept: Iterable[Persist]) -> None:
        self._rng = rng
        self._limits = limits
        self._values: dict[bytes, bytes] = {}
        self.provided: dict[bytes, None] = {}
        self._again: dict[tuple[str, bytes], Millis] = {}
        for row in kept:
            match row.key:
                case ("value", bytes() as key) if row.value is not None:
                    self._values[key] = row.value
                case ("provided", bytes() as key):
                    self.provided[key] = None
                case _:
                    raise ValueError(f"{row.key!r} is no key of the table {TABLE}")

    def start(self, now: Millis) -> None:
        """Let everything that was kept be put again soon, not all at once."""
        names = [(VALUE, key) for key in self._values] + [(PROVIDED, key) for key in self.provided]
        for name in names:
            self._again[name] = Millis(now + self._rng.randrange(self._limits.start_ms))

    def put(self, now: Millis, key: bytes, value: bytes) -> list[Action] | None:
        """Put a value from now on; none if there is no room for one more."""
        held = self._values.get(key)
        if held is None and len(self._values) >= self._limits.entries:
            return None
        self._values[key] = value
        self._postpone(now, (VALUE, key))
        return [] if held == value else [Persist(TABLE, (VALUE, key), value)]

    def provide(self, now: Millis, key: bytes) -> list[Action] | None:
        """Provide a key from now on; none if there is no room for one more."""
        known = key in self.provided
        if not known and len(self.provided) >= self._limits.entries:
            return None
        self.provided[key] = None
        self._postpone(now, (PROVIDED, key))
        return [] if known else [Persist(TABLE, (PROVIDED, key), b"")]

    def withdraw(self, key: bytes) -> list[Action]:
        """Put and provide it no more."""
        actions: list[Action] = []
        if self._values.pop(key, None) is not None:
            del self._again[VALUE, key]
            actions.append(Persist(TABLE, (VALUE, key), None))
        if key in self.provided:
            del self.provided[key], self._again[PROVIDED, key]
            actions.append(Persist(TABLE, (PROVIDED, key), None))
        return actions

    def due(self, now: Millis) -> Iterator[PutValue | Provide]:
        """What is to be put again by now."""
        for (kind, key), at in self._again.items():
            if at <= now:
                yield PutValue(key, self._values[key]) if kind == VALUE else Provide(key)

    def _postpone(self, now: Millis, name: tuple[str, bytes]) -> None:
        early = self._rng.randrange(self._limits.republish_ms // 8)  # so that what began together spreads
        self._again[name] = Millis(now + self._limits.republish_ms - early)
