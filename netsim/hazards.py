"""What may befall a node or the network, one function each; a plan of them is in netsim.faults.

Each counts what it did in `World.counts`, so that a run can prove that its faults took place; one that finds nothing to do
(a crash of a node that is down) does nothing and counts nothing.

* A crash loses everything but what was persisted. The store commits whole transactions, so a write is there or not; `torn`
  is for disks that lie: "lost" undoes the last write although what followed it was sent, "half" leaves half of its value.
* A frozen node handles nothing, then all that came meanwhile. Frozen for longer than the keepalive allows, its peers take
  it for dead and the connections end.
* A step of the clock is told to the machine, whose `now` is slewed; drift nobody notices.
"""

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from netsim.clocks import Clock
from netsim.nodes import Node
from netsim.world import World
from node.overlay.machine import ClockStepped


class Crashed(NamedTuple):
    """A node was killed."""


def crash(world: World, index: int, torn: str = "") -> None:
    """Kill a node: all but its records is gone; torn "lost" undoes its last write, "half" leaves half of it."""
    node = world.nodes[index]
    if not node.up:
        return
    world.end(node)
    if torn and node.last_write is not None:
        _tear(node, torn)
        world.counts["torn writes"] += 1
    world.counts["crashes"] += 1
    world.note(index, Crashed())


def restart(world: World, index: int) -> None:
    """Start a node that is down, from its records, with a generator of its own."""
    if not world.nodes[index].up:
        world.counts["restarts"] += 1
        world.start(world.nodes[index])


def freeze(world: World, index: int, duration: int) -> None:
    """Let a node handle nothing for so many milliseconds."""
    node = world.nodes[index]
    if not node.up or node.frozen:
        return
    world.counts["freezes"] += 1
    node.frozen, node.handle = True, None
    world.at(world.now + duration, partial(_thaw, world, node, node.life))
    dead_after = world.links.dead_after_ms
    if duration >= dead_after:
        world.at(world.now + dead_after, partial(world.circuits.break_all, node, node.life))


def fill_disk(world: World, index: int, *, full: bool) -> None:
    """Let every Persist of a node fail from now on, or no longer."""
    world.nodes[index].disk_full = full
    world.counts["full disks"] += full


def step_clock(world: World, index: int, delta: int) -> None:
    """Set the wall clock of a node by so many milliseconds."""
    node, clock = world.nodes[index], _clock(world, index)
    world.counts["clock steps"] += 1
    _slew(world, node, clock, clock.step(world.now, delta))
    if node.up:
        world.agenda.push(world.now, (node, ClockStepped(delta), node.life))


def drift_clock(world: World, index: int, ppm: int) -> None:
    """Let the clock of a node run fast or slow from now on."""
    clock = _clock(world, index)
    world.counts["clock drifts"] += 1
    _slew(world, world.nodes[index], clock, clock.drift(world.now, ppm))


def cut(world: World, name: str, sources: Iterable[int], targets: Iterable[int]) -> None:
    """Let nothing through from sources to targets, until `heal` of the same name."""
    world.counts["cuts"] += 1
    world.circuits.cut(name, frozenset(sources), frozenset(targets), world.nodes)


def heal(world: World, name: str) -> None:
    """Undo a cut."""
    world.counts["heals"] += 1
    world.circuits.heal(name, world.nodes)


def _tear(node: Node, how: str) -> None:
    assert node.last_write is not None
    key, before = node.last_write
    node.last_write = None
    if how == "half" and (value := node.records.get(key)):
        node.records[key] = value[: len(value) // 2]
    elif before is None:
        node.records.pop(key, None)
    else:
        node.records[key] = before


def _thaw(world: World, node: Node, life: int) -> None:
    if node.frozen and node.life == life:
        node.frozen = False
        world.attach(node)
        backlog, node.backlog = node.backlog, []
        for entry in backlog:
            world.agenda.push(world.now, entry)


def _clock(world: World, index: int) -> Clock:
    node = world.nodes[index]
    if node.clock is None:
        node.clock = Clock(world.now)
    return node.clock


def _slew(world: World, node: Node, clock: Clock, left: int) -> None:
    """Put the timers where the clock will now show their time, and look again when the slewing is over."""
    for key, (_, event, at) in list(node.armed.items()):
        entry = (node, event, at)
        node.armed[key] = entry
        world.stale += 1
        world.agenda.push(clock.when(at), entry)
    if left:
        world.at(world.now + left, lambda: _slew(world, node, clock, clock.settle(world.now)))
