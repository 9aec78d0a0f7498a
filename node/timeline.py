"""Slots, HOURs and ERAs of a network: what a moment is called there. Source: CONSENSUS §1."""

from dataclasses import dataclass

from consensus.ids import Digest, Millis, Network
from consensus.signing import digest


@dataclass(frozen=True, slots=True)
class Timeline:
    """The calendar of a network, from its genesis on."""

    began: Millis
    slot_ms: int
    hour_slots: int
    era_hours: int

    @property
    def hour_ms(self) -> int:
        """How long an HOUR is."""
        return self.slot_ms * self.hour_slots

    def slot(self, now: Millis) -> int:
        """The slot of a moment; 0 before the genesis."""
        return max(0, now - self.began) // self.slot_ms

    def hour(self, now: Millis) -> int:
        """The HOUR of a moment."""
        return self.slot(now) // self.hour_slots

    def starts(self, hour: int) -> Millis:
        """When an HOUR begins."""
        return Millis(self.began + hour * self.hour_ms)


def interim_seed(network: Network, slot: int) -> Digest:
    """The seed of a slot where there is no chain to draw it, and of an HOUR's lots: the same for everybody, and known in advance.

    So on a network without a chain an owner could choose a slot, or seal a chunk again and again, until its placement suits
    it. Of challenges only who makes them is known: what is asked for its challenger draws (node/overlay/watching).
    """
    return digest("interim seed", network, slot.to_bytes(8, "big"))
