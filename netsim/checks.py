"""What must hold in a run, and how a run that breaks it is told.

A check watches: it subscribes to facts, looks every so often, and is asked at the end; it changes nothing. `judge` runs a
world under its checks and stops at the first thing that is broken, because what follows from a broken state proves little.
An exception out of a machine is always one.

Liveness has its own form: faults until some time, then the network is whole, and by a stated bound after that the goal must
be reached (`Converges`). And a fault that did nothing proves nothing, so `FaultsTook` holds a plan against the counters.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias

from netsim.faults import EVIDENCE, Cut, Plan
from netsim.nodes import Node
from netsim.world import MachineRaised, World
from node.overlay.machine import Machine

CUT_EVIDENCE: Final = ("frames sent into a cut", "frames lost to a cut", "dials into a cut")

Report: TypeAlias = Callable[[int, str], None]
"""Tells that something is broken: the node, or -1 for the network as a whole, and a sentence."""


class Broken(NamedTuple):
    """An invariant that did not hold."""

    check: str
    now: int  # world time, Unix milliseconds
    node: int  # -1: the network as a whole
    sentence: str


class Check(Protocol):
    """One invariant."""

    def watch(self, world: World, report: Report) -> None:
        """Subscribe to what it needs; called once, before the run."""

    def end(self, world: World, report: Report) -> None:
        """Judge the state at the end of the run."""


def judge(world: World, until: int, checks: Sequence[Check]) -> Broken | None:
    """Run a world under its checks: the first thing that broke, or None."""
    broken: list[Broken] = []

    def reporter(check: Check) -> Report:
        def report(node: int, sentence: str) -> None:
            broken.append(Broken(type(check).__name__, world.now, node, sentence))
            world.stop()

        return report

    reports = [(check, reporter(check)) for check in checks]
    for check, report in reports:
        check.watch(world, report)
    try:
        world.run(until)
    except MachineRaised as error:
        return Broken("MachineRaised", error.now, error.node, str(error))
    if not broken:
        for check, report in reports:
            check.end(world, report)
    return broken[0] if broken else None


class Bounded:
    """What a machine keeps never grows beyond a limit; size says how much that is."""

    def __init__(self, what: str, size: Callable[[Machine], int], limit: int, every_ms: int) -> None:
        self.what = what
        self.size = size
        self.limit = limit
        self.every_ms = every_ms
        self.largest = 0

    def watch(self, world: World, report: Report) -> None:
        """Look at all nodes every so often."""
        world.every(self.every_ms, lambda: self.end(world, report))

    def end(self, world: World, report: Report) -> None:
        """Look once more."""
        for node in world.nodes:
            if node.machine is not None:
                size = self.size(node.machine)
                self.largest = max(self.largest, size)
                if size > self.limit:
                    report(node.index, f"{self.what}: {size} are kept, and {self.limit} is the limit")


class TimeForward:
    """The time that a machine is told never goes back within one life of it."""

    def __init__(self, every_ms: int) -> None:
        self.every_ms = every_ms
        self.seen: dict[tuple[int, int], int] = {}

    def watch(self, world: World, report: Report) -> None:
        """Read all clocks every so often."""
        world.every(self.every_ms, lambda: self.end(world, report))

    def end(self, world: World, report: Report) -> None:
        """Read them once more."""
        for node in world.nodes:
            now = node.now(world.now)
            if now < self.seen.get((node.index, node.life), now):
                report(node.index, f"its time went back to {now}")
            self.seen[node.index, node.life] = now


class FaultsTook:
    """Every kind of fault of the plan really happened, and a cut kept something from its target."""

    def __init__(self, plan: Plan) -> None:
        self.planned = list(dict.fromkeys(EVIDENCE[type(fault)] for fault in plan.faults))
        self.cuts = any(isinstance(fault, Cut) for fault in plan.faults)

    def watch(self, world: World, report: Report) -> None:
        """Nothing is needed while it runs."""

    def end(self, world: World, report: Report) -> None:
        """Compare the plan with the counters."""
        for counter in self.planned:
            if not world.counts[counter]:
                report(-1, f"{counter} were planned, and none happened")
        if self.cuts and not any(world.counts[counter] for counter in CUT_EVIDENCE):
            report(-1, "a cut was planned, and neither a frame nor a dial ever met it")


class Converges:
    """A goal is reached within a bound after the last fault is over, and then kept for as long as the run lasts."""

    def __init__(self, goal: str, reached: Callable[[World], bool], after: int, within_ms: int, every_ms: int) -> None:
        self.goal = goal
        self.reached = reached
        self.after = after  # world time of the last fault's end
        self.deadline = after + within_ms
        self.every_ms = every_ms
        self.at: int | None = None  # since when it has held

    def watch(self, world: World, report: Report) -> None:
        """Look every so often once the faults are over."""
        world.every(self.every_ms, lambda: self._look(world, report), start=self.after)

    def end(self, world: World, report: Report) -> None:
        """The deadline must have come, or nothing is proven."""
        if world.now < self.deadline:
            report(-1, f"the run ended {self.deadline - world.now} ms before {self.goal} was due")
        else:
            self._look(world, report)

    def _look(self, world: World, report: Report) -> None:
        if self.reached(world):
            if self.at is None:
                self.at = world.now
        elif self.at is not None:
            report(-1, f"{self.goal} held from {self.at} on, and does no longer")
        elif world.now >= self.deadline:
            report(-1, f"{self.goal} was not reached {self.deadline - self.after} ms after the last fault")


def running(world: World) -> list[Node]:
    """The nodes whose machines run, in order."""
    return [node for node in world.nodes if node.up]
