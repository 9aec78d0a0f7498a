"""A broken run, kept so that it can be seen again: what to run, what broke, and what the nodes concerned did.

A tape is a file of one line of JSON, for people and tools, and one canonical encoding of the whole. Its recipe builds the
same run again, and the trace digest tells whether it was the same run. The lives on it are what went into the machines of
the nodes concerned and what came out, so that one node's incident can be stepped through without the other thousand.

A tape belongs to the code that made it: the rules may have changed since, so any other code refuses it.
"""

import json
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from blake3 import blake3

from consensus.encoding import Malformed, Value, decode, encode
from consensus.ids import Millis, NodeId
from netsim.checks import Broken, Check, judge
from netsim.faults import KINDS, NO_FAULTS, Plan, complaints, from_fields, table_of
from netsim.nodes import Life, Make, Records
from netsim.seeds import derive
from netsim.world import World
from node.overlay import machine

VERSION: Final = 1

_EVENTS: Final[dict[str, type]] = {
    kind.__name__: kind
    for kind in (
        machine.Received,
        machine.Failed,
        machine.TimerFired,
        machine.PeerUp,
        machine.PeerLost,
        machine.ClockStepped,
        machine.Command,
        machine.Channel,
    )
}


class Refused(Exception):
    """The tape cannot be used; the text says why and what to do."""


class Diverged(Exception):
    """Run again, it was another run: something in it depends on more than the recipe."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that a run follows from."""

    scenario: str
    seed: int
    nodes: int
    duration_ms: int
    options: tuple[tuple[str, int | str], ...] = ()
    plan: Plan = NO_FAULTS


class Build(Protocol):
    """Makes the world of a recipe, its plan applied, and the checks it runs under; netsim.scenarios knows the names."""

    def __call__(self, recipe: Recipe, recorded: Iterable[int]) -> tuple[World, Sequence[Check]]:
        """A new world; recorded are the nodes to record."""


class Moment(NamedTuple):
    """One step of a machine: what it was given (nothing: `start`), and the encoding of what it did."""

    now: int
    event: machine.Event | None
    actions: bytes


class LifeOnTape(NamedTuple):
    """One run of a node's machine from its start on."""

    number: int
    records: Records
    moments: tuple[Moment, ...]


@dataclass(frozen=True, slots=True)
class Tape:
    """A broken run."""

    recipe: Recipe
    broken: Broken
    digest: str  # of the trace, up to and including the millisecond in which it broke
    lives: tuple[tuple[NodeId, tuple[LifeOnTape, ...]], ...] = ()


def perform(recipe: Recipe, build: Build, recorded: Iterable[int] = ()) -> tuple[World, Broken | None]:
    """Run a recipe: the world at its end, and what broke."""
    world, checks = build(recipe, recorded)
    return world, judge(world, world.now + recipe.duration_ms, checks)


def capture(recipe: Recipe, build: Build, broken: Broken, digest: str) -> Tape:
    """The tape of a run that broke, by running it again with the node concerned recorded; raises Diverged."""
    world, again = perform(recipe, build, () if broken.node < 0 else (broken.node,))
    _same(broken, digest, world, again)
    lives = tuple((node.id, tuple(map(_taped, node.lives))) for node in world.nodes if node.lives is not None)
    return Tape(recipe, broken, digest, lives)


def replay(tape: Tape, build: Build) -> World:
    """Run a tape's recipe again up to where it broke, exactly; raises Diverged when it is not the same run."""
    world, again = perform(tape.recipe, build)
    _same(tape.broken, tape.digest, world, again)
    return world


def replay_life(life: LifeOnTape, node_id: NodeId, seed: int, make: Make) -> int | None:
    """Feed a new machine what a recorded one was given: the first step that comes out otherwise, or None."""
    again = make(node_id, derive(seed, "node", node_id, life.number), dict(life.records))
    for number, (now, event, actions) in enumerate(life.moments):
        got = again.start(Millis(now)) if event is None else again.handle(Millis(now), event)
        if encode(_pack(tuple(got))) != actions:
            return number
    return None


def write(path: Path, tape: Tape) -> None:
    """Write a tape to a file."""
    recipe, broken = tape.recipe, tape.broken
    header = {
        "lucid_tape": VERSION,
        "code": code_digest(),
        "commit": commit(),
        "scenario": recipe.scenario,
        "seed": recipe.seed,
        "check": broken.check,
        "now": broken.now,
        "node": broken.node,
        "sentence": broken.sentence,
    }
    faults: list[Value] = [
        [table_of(fault), {f.name: getattr(fault, f.name) for f in fields(fault)}] for fault in recipe.plan.faults
    ]
    body: Value = {
        "recipe": [recipe.scenario, recipe.seed, recipe.nodes, recipe.duration_ms, list(recipe.options), faults],
        "broken": list(broken),
        "digest": tape.digest,
        "lives": [[node_id, [_pack_life(life) for life in lives]] for node_id, lives in tape.lives],
    }
    path.write_bytes(json.dumps(header, ensure_ascii=False).encode() + b"\n" + encode(body))


def read(path: Path, orders: Sequence[type] = ()) -> Tape:
    """The tape of a file; orders are the classes of commands that may be on it. Raises Refused."""
    line, _, rest = path.read_bytes().partition(b"\n")
    try:
        header = json.loads(line)
        version, code = header["lucid_tape"], header["code"]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path.name} is not a tape") from error
    if version != VERSION:
        raise Refused(
            f"{path.name} is a tape of version {version} and this code reads {VERSION}: run its scenario and seed again"
        )
    if code != code_digest():
        of = header.get("commit") or ""
        mend = f"check out {of}" if of and not str(of).endswith("+") else "check that out"
        raise Refused(
            f"{path.name} was made by other code ({str(code)[:8]}{', commit ' if of else ''}{of}): {mend}, or run its scenario "
            "and seed again"
        )
    try:
        return _from_body(decode(rest), {**_EVENTS, **{kind.__name__: kind for kind in orders}})
    except (Malformed, ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path.name} is damaged: {error}") from error


def shrink(plan: Plan, nodes: int, fails: Callable[[Plan], bool], runs_max: int = 200) -> tuple[Plan, int]:
    """A smaller plan that still fails, and how many runs were used; no single fault can be left out unless runs ran out.

    Delta debugging (Zeller and Hildebrandt, 2002, ddmin) by complements; candidates that contradict themselves are
    skipped and cost nothing. Expand a plan first, so that the crashes of a churn can go one by one.
    """
    faults, parts, runs = list(plan.faults), 2, 0
    while faults and runs < runs_max:
        size = -(-len(faults) // parts)
        for start in range(0, len(faults), size):
            candidate = Plan((*faults[:start], *faults[start + size :]))
            if runs >= runs_max or complaints(candidate, nodes):
                continue
            runs += 1
            if fails(candidate):
                faults, parts = list(candidate.faults), max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(len(faults), 2 * parts)
    return Plan(tuple(faults)), runs


@cache
def code_digest() -> str:
    """BLAKE3 over every module that a run is made of, in hexadecimal."""
    root = Path(__file__).parent.parent
    digest = blake3()
    for folder in ("consensus", "netsim", "node/overlay"):
        for path in sorted((root / folder).glob("*.py")):
            digest.update(f"{folder}/{path.name}\n".encode() + blake3(path.read_bytes()).digest())
    return digest.hexdigest()


def commit() -> str:
    """The commit that the code was checked out at, with a + if it was changed since; nothing where that is not known."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():  # installed, and perhaps inside of somebody else's checkout
        return ""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.stdout.strip()


def _same(broken: Broken, digest: str, world: World, again: Broken | None) -> None:
    if again != broken or world.digest() != digest:
        raise Diverged(
            f"run again, {'nothing broke' if again is None else again.sentence} (trace {world.digest()[:8]}), but it was: {broken.sentence} (trace {digest[:8]})"
        )


def _taped(life: Life) -> LifeOnTape:
    steps = life.steps
    moments = tuple(Moment(step.now, step.event, encode(_pack(step.actions))) for step in steps)
    return LifeOnTape(life.number, life.records, moments)


def _pack_life(life: LifeOnTape) -> Value:
    records: list[Value] = [[table, list(key), value] for (table, key), value in life.records.items()]
    return [life.number, records, [[at, _pack(event), actions] for at, event, actions in life.moments]]


def _pack(value: object) -> Value:
    """A value as what the encoding knows; a class by its name, and what has no encoding by its repr."""
    match value:
        case Enum():
            return {"class": type(value).__name__, "of": [_pack(value.value)]}
        case bool() | bytes() | str() | None:
            return value
        case int():
            return value if -(1 << 63) <= value < 1 << 63 else {"class": "int", "of": [str(value)]}
        case tuple() if hasattr(value, "_fields"):
            return {"class": type(value).__name__, "of": [_pack(item) for item in value]}
        case tuple():
            return [_pack(item) for item in value]
        case list():
            return {"class": "list", "of": [_pack(item) for item in value]}
        case dict():
            return {"class": "dict", "of": [[_pack(key), _pack(item)] for key, item in value.items()]}
        case _ if is_dataclass(value):
            return {"class": type(value).__name__, "of": [_pack(getattr(value, f.name)) for f in fields(value)]}
        case _:
            return {"class": type(value).__name__, "repr": repr(value)}


def _unpack(value: Value, classes: Mapping[str, type]) -> Any:
    match value:
        case dict():
            name, items = value["class"], value.get("of")
            if not isinstance(items, list):
                raise Malformed(f"a {name!r} cannot be read back")
            inner = [_unpack(item, classes) for item in items]
            match name:
                case "list":
                    return inner
                case "dict":
                    return dict(inner)
                case "int":
                    return int(inner[0])
                case str() if name in classes:
                    return classes[name](*inner)
                case _:
                    raise Malformed(f"nobody said what a {name!r} is: name its class among the orders")
        case list():
            return tuple(_unpack(item, classes) for item in value)
        case _:
            return value


def _from_body(body: Any, classes: Mapping[str, type]) -> Tape:
    scenario, seed, nodes, duration, options, faults = body["recipe"]
    plan = Plan(tuple(from_fields(KINDS[name], values) for name, values in faults))
    recipe = Recipe(scenario, seed, nodes, duration, tuple((name, value) for name, value in options), plan)
    lives = tuple(
        (NodeId(node_id), tuple(_unpack_life(life, classes) for life in lives)) for node_id, lives in body["lives"]
    )
    return Tape(recipe, Broken(*body["broken"]), body["digest"], lives)


def _unpack_life(life: Any, classes: Mapping[str, type]) -> LifeOnTape:
    number, records, moments = life
    kept = {(table, tuple(key)): value for table, key, value in records}
    return LifeOnTape(number, kept, tuple(Moment(at, _unpack(event, classes), done) for at, event, done in moments))
