"""What a world of the overlay has to show at its end, whatever happened in it: whole directories, look-ups that found, no honest node shut out."""

from collections import deque
from collections.abc import Iterable
from typing import Final

from consensus.ids import NodeId
from netsim.checks import Report
from netsim.measures import Measures
from netsim.world import World
from node.overlay.peer import Blocked

KEPT_TIMES: Final = 4
KEPT_ANYWAY: Final = 64
LOOKED_AT: Final = 64


class Directories:
    """At the end every node that is up holds the newest directory entry of everybody."""

    def __init__(self, measures: Measures) -> None:
        self.measures = measures

    def watch(self, world: World, report: Report) -> None:
        """Nothing is needed while it runs."""

    def end(self, world: World, report: Report) -> None:
        """Compare all nodes."""
        del world
        missing = self.measures.missing()
        if missing:
            node, digest = missing[0]
            report(node, f"{len(missing)} entries are missing at nodes that are up, {digest.hex()[:8]} first")


class LookUps:
    """Enough of the look-ups found whom they sought."""

    def __init__(self, measures: Measures, least: int) -> None:
        self.measures, self.least = measures, least

    def watch(self, world: World, report: Report) -> None:
        """Nothing is needed while it runs."""

    def end(self, world: World, report: Report) -> None:
        """Count."""
        del world
        done = self.measures.look_ups
        found = sum(one.found for one in done)
        if 1000 * found < self.least * len(done):
            report(-1, f"{found} of {len(done)} look-ups found their node; {self.least} in 1,000 are expected")


class Trust:
    """No honest node shuts another one out, whatever the links do to what they say."""

    def __init__(self, honest: Iterable[NodeId]) -> None:
        self.honest = frozenset(honest)

    def watch(self, world: World, report: Report) -> None:
        """Hear of every block."""

        def blocked(_now: int, index: int, fact: Blocked) -> None:
            if fact.peer in self.honest:
                report(index, f"an honest node is shut out, {fact.peer.hex()[:8]}, with a score of {fact.score:.0f}")

        world.on_fact(Blocked, blocked)

    def end(self, world: World, report: Report) -> None:
        """Nothing is left to look at."""


class LinksTook:
    """What the links were to do to frames they have done: a run over links that lost nothing shows nothing."""

    def watch(self, world: World, report: Report) -> None:
        """Nothing is needed while it runs."""

    def end(self, world: World, report: Report) -> None:
        """Count."""
        model, counts = world.links, world.counts
        for done, share in (("lost", model.loss), ("doubled", model.doubled), ("overtaken", model.overtaken)):
            if share and not counts[f"frames {done}"]:
                report(-1, f"no frame was {done}, and {share} in 1,000 were to be")


class KeptBounded:
    """When all is quiet, no honest node keeps more of anything than there are nodes and messages, a few times over.

    What came and went leaves nothing behind: a queue that nobody empties shows. Looks at every container that is reached from
    a machine, of 64 nodes at the most.
    """

    def __init__(self, measures: Measures, honest: Iterable[NodeId]) -> None:
        self.measures, self.honest = measures, frozenset(honest)

    def watch(self, world: World, report: Report) -> None:
        """Nothing is needed while it runs."""

    def end(self, world: World, report: Report) -> None:
        """Count."""
        most = KEPT_TIMES * (len(world.nodes) + len(self.measures.sent)) + KEPT_ANYWAY
        for node in [node for node in world.nodes if node.up and node.id in self.honest][:LOOKED_AT]:
            name, size = largest(node.machine)
            if size > most:
                report(node.index, f"{name} holds {size} things while nothing happens; {most} are the most to expect")
                return


def largest(machine: object) -> tuple[str, int]:
    """The largest container that is reached from a machine by way of its own parts, with the name of what holds it."""
    seen, found = set[int](), ("nothing", 0)
    left: list[tuple[object, str]] = [(machine, type(machine).__name__)]
    while left:
        one, name = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, dict | list | set | deque):
            found = max(found, (name, len(one)), key=lambda each: each[1])
            inner = one.values() if isinstance(one, dict) else one
            left.extend((value, name) for value in inner if not isinstance(value, int | str | bytes | float))
        elif type(one).__module__.startswith("node.overlay"):
            slots = {slot for kind in type(one).__mro__ for slot in getattr(kind, "__slots__", ())}
            fields = sorted({*slots, *getattr(one, "__dict__", ())})
            left.extend((getattr(one, field, None), f"{type(one).__name__}.{field}") for field in fields)
    return found
