"""What goes wrong in a run, as data: a plan of faults with times, checked for contradictions before anything happens.

Times are milliseconds from the world's beginning, nodes are given by index. A plan can be written in TOML, one table for
each fault, with the fields of its class below:

    [[crash]]
    node = 3
    at = 10_000
    down_ms = 60_000

`expand` turns what is drawn at random (`Churn`, `MassRestart`) into single crashes, so that shrinking a plan can remove one.
"""

import tomllib
from dataclasses import MISSING, asdict, dataclass, fields
from functools import partial
from typing import Final, TypeAlias

from netsim import hazards
from netsim.clocks import DRIFT_PPM_MAX
from netsim.links import QUANTILE_BITS, exponential
from netsim.seeds import derive
from netsim.world import World


@dataclass(frozen=True, slots=True)
class Crash:
    """A node is killed; started again after down_ms, or by a Restart when that is 0."""

    node: int
    at: int
    down_ms: int = 0
    torn: str = ""  # what becomes of its last write: "" kept, "lost" undone, "half" cut in half


@dataclass(frozen=True, slots=True)
class Restart:
    """A node that was killed, or stopped by itself, is started again."""

    node: int
    at: int


@dataclass(frozen=True, slots=True)
class Freeze:
    """A node handles nothing for a while, then everything that came meanwhile."""

    node: int
    at: int
    for_ms: int


@dataclass(frozen=True, slots=True)
class FullDisk:
    """Nothing more can be persisted until for_ms later (0: for good): a node that tries stops."""

    node: int
    at: int
    for_ms: int = 0


@dataclass(frozen=True, slots=True)
class StepClock:
    """A node's wall clock is set."""

    node: int
    at: int
    delta_ms: int


@dataclass(frozen=True, slots=True)
class DriftClock:
    """A node's clock runs wrong by millionths from then on."""

    node: int
    at: int
    ppm: int


@dataclass(frozen=True, slots=True)
class MassRestart:
    """A share of all nodes (in thousandths) is killed within spread_ms, each for down_ms."""

    at: int
    share: int
    down_ms: int
    spread_ms: int = 0


@dataclass(frozen=True, slots=True)
class Gone:
    """Nodes leave for good."""

    nodes: tuple[int, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Churn:
    """Nodes come and go between two times: each stays up for session_ms and down for down_ms in the mean, both exponential."""

    at: int
    until: int
    session_ms: int
    down_ms: int
    nodes: tuple[int, ...] = ()  # none named: all


@dataclass(frozen=True, slots=True)
class Cut:
    """Nothing passes from sources to targets, in that direction, for a while or until a Heal of that name."""

    name: str
    at: int
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    for_ms: int = 0


@dataclass(frozen=True, slots=True)
class Heal:
    """A cut ends."""

    name: str
    at: int


Fault: TypeAlias = (
    Crash | Restart | Freeze | FullDisk | StepClock | DriftClock | MassRestart | Gone | Churn | Cut | Heal
)

KINDS: Final[dict[str, type[Fault]]] = {
    "crash": Crash,
    "restart": Restart,
    "freeze": Freeze,
    "full_disk": FullDisk,
    "step_clock": StepClock,
    "drift_clock": DriftClock,
    "mass_restart": MassRestart,
    "gone": Gone,
    "churn": Churn,
    "cut": Cut,
    "heal": Heal,
}
"""The tables of a plan in TOML."""

EVIDENCE: Final[dict[type, str]] = {
    Crash: "crashes",
    Restart: "restarts",
    Freeze: "freezes",
    FullDisk: "full disks",
    StepClock: "clock steps",
    DriftClock: "clock drifts",
    MassRestart: "crashes",
    Gone: "crashes",
    Churn: "crashes",
    Cut: "cuts",
    Heal: "heals",
}
"""The world's counter that moves when a fault of a kind happens."""


class Contradiction(Exception):
    """A plan that cannot happen as it is written; the text is a sentence for each reason."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Faults in any order; those of one time happen in the order of the plan."""

    faults: tuple[Fault, ...] = ()

    @property
    def end(self) -> int:
        """When the last fault is over, in milliseconds from the beginning; a fault without end is over when it begins."""
        return max((_end(fault) for fault in self.faults), default=0)


NO_FAULTS: Final = Plan()


def parse(text: str) -> Plan:
    """The plan of a TOML text; raises Contradiction for tables and fields that do not exist."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Contradiction(f"the plan is not TOML: {error}") from error
    faults: list[Fault] = []
    wrong: list[str] = []
    for name, entries in tables.items():
        kind = KINDS.get(name)
        if kind is None or not isinstance(entries, list):
            wrong.append(f"there is no fault [[{name}]]: write one of {', '.join(KINDS)} in double brackets")
            continue
        for entry in entries:
            try:
                faults.append(from_fields(kind, entry))
            except Contradiction as error:
                wrong.append(f"[[{name}]] {error}")
    if wrong:
        raise Contradiction("; ".join(wrong))
    return Plan(tuple(faults))


def from_fields(kind: type[Fault], entry: object) -> Fault:
    """A fault from its fields by name; raises Contradiction when one is missing, unknown or of another type."""
    if not isinstance(entry, dict):
        raise Contradiction("has no fields")
    known = {field.name: field for field in fields(kind)}
    if unknown := [str(name) for name in entry if name not in known]:
        raise Contradiction(f"has no field {', '.join(unknown)}: its fields are {', '.join(known)}")
    if missing := [name for name, field in known.items() if field.default is MISSING and name not in entry]:
        raise Contradiction(f"lacks {', '.join(missing)}")
    values: dict[str, object] = {}
    for name, value in entry.items():
        if "tuple" in str(known[name].type):
            if not (isinstance(value, list) and all(type(item) is int for item in value)):
                raise Contradiction(f"{name} is a list of node indices")
            values[name] = tuple(value)
        elif type(value) is not (expected := str if known[name].type is str else int):
            raise Contradiction(f"{name} is {'text' if expected is str else 'a whole number'}")
        else:
            values[name] = value
    return kind(**values)  # type: ignore[arg-type] # checked against the fields just above


def table_of(fault: Fault) -> str:
    """The table of a plan in TOML in which a fault stands."""
    return next(name for name, kind in KINDS.items() if type(fault) is kind)


def described(fault: Fault) -> str:
    """A fault in a line: its kind, and its fields as a plan in TOML has them."""
    told = ", ".join(
        f"{name} = {list(value) if isinstance(value, tuple) else value}" for name, value in asdict(fault).items()
    )
    return f"{table_of(fault)}: {told}"


def complaints(plan: Plan, nodes: int) -> list[str]:
    """Why a plan cannot happen as written in a world of so many nodes, a sentence each."""
    wrong: list[str] = []
    for fault in plan.faults:
        wrong += (f"{_name(fault)}: {reason}" for reason in _alone(fault, nodes))
    return wrong or _together(plan, nodes)


def expand(plan: Plan, seed: int, nodes: int) -> Plan:
    """The plan with everything drawn that is random in it; raises Contradiction.

    Each Churn and MassRestart draws from a generator of its own, by its fields: removing another fault does not shift it.
    """
    if wrong := complaints(plan, nodes):
        raise Contradiction("; ".join(wrong))
    faults: list[Fault] = []
    for fault in plan.faults:
        if isinstance(fault, MassRestart):
            rng = derive(seed, "faults", repr(fault))
            chosen = sorted(rng.sample(range(nodes), max(1, nodes * fault.share // 1000)))
            faults += (Crash(i, fault.at + rng.randrange(fault.spread_ms + 1), fault.down_ms) for i in chosen)
        elif isinstance(fault, Churn):
            for node in fault.nodes or range(nodes):
                faults += _churned(fault, node, seed)
        elif isinstance(fault, Gone):
            faults += (Crash(node, fault.at) for node in fault.nodes)
        else:
            faults.append(fault)
    return Plan(tuple(faults))


def apply(world: World, plan: Plan) -> Plan:
    """Schedule a plan, from the world's present on; the expanded plan is returned. Raises Contradiction."""
    expanded = expand(plan, world.seed, len(world.nodes))
    start = world.now
    for fault in expanded.faults:
        _schedule(world, start, fault)
    return expanded


def _schedule(world: World, start: int, fault: Fault) -> None:
    at = start + fault.at
    match fault:
        case Crash(node, _, down_ms, torn):
            world.at(at, partial(hazards.crash, world, node, torn))
            if down_ms:
                world.at(at + down_ms, partial(hazards.restart, world, node))
        case Restart(node):
            world.at(at, partial(hazards.restart, world, node))
        case Freeze(node, _, for_ms):
            world.at(at, partial(hazards.freeze, world, node, for_ms))
        case FullDisk(node, _, for_ms):
            world.at(at, partial(hazards.fill_disk, world, node, full=True))
            if for_ms:
                world.at(at + for_ms, partial(hazards.fill_disk, world, node, full=False))
        case StepClock(node, _, delta_ms):
            world.at(at, partial(hazards.step_clock, world, node, delta_ms))
        case DriftClock(node, _, ppm):
            world.at(at, partial(hazards.drift_clock, world, node, ppm))
        case Cut(name, _, sources, targets, for_ms):
            world.at(at, partial(hazards.cut, world, name, sources, targets))
            if for_ms:
                world.at(at + for_ms, partial(hazards.heal, world, name))
        case Heal(name):
            world.at(at, partial(hazards.heal, world, name))
        case MassRestart() | Churn() | Gone():
            raise AssertionError("expanded before it is scheduled")


def _churned(fault: Churn, node: int, seed: int) -> list[Crash]:
    rng = derive(seed, "faults", repr(fault), node)
    up, down = exponential(fault.session_ms), exponential(fault.down_ms)
    crashes: list[Crash] = []
    at = fault.at + up[rng.getrandbits(QUANTILE_BITS)]
    while at < fault.until:
        down_ms = min(down[rng.getrandbits(QUANTILE_BITS)], fault.until - at)
        crashes.append(Crash(node, at, down_ms))
        at += down_ms + up[rng.getrandbits(QUANTILE_BITS)]
    return crashes


def _end(fault: Fault) -> int:
    match fault:
        case Crash(_, at, down_ms):
            return at + down_ms
        case Freeze(_, at, for_ms) | FullDisk(_, at, for_ms) | Cut(_, at, _, _, for_ms):
            return at + for_ms
        case MassRestart(at, _, down_ms, spread_ms):
            return at + spread_ms + down_ms
        case Churn(_, until):
            return until
        case _:
            return fault.at


def _name(fault: Fault) -> str:
    return f"{type(fault).__name__} at {fault.at} ms"


def _nodes_of(fault: Fault) -> tuple[int, ...]:
    match fault:
        case Gone(nodes):
            return nodes
        case Churn():
            return fault.nodes
        case Cut(_, _, sources, targets):
            return (*sources, *targets)
        case MassRestart() | Heal():
            return ()
        case _:
            return (fault.node,)


def _alone(fault: Fault, nodes: int) -> list[str]:
    """What is wrong with one fault, whatever the others are."""
    wrong = [f"there is no node {node} among {nodes}" for node in _nodes_of(fault) if not 0 <= node < nodes]
    if fault.at < 0:
        wrong.append("a time before the beginning")
    match fault:
        case Crash(_, _, down_ms, torn):
            if down_ms < 0:
                wrong.append("it is down for a negative time")
            if torn not in {"", "lost", "half"}:
                wrong.append(f'torn is "lost", "half" or nothing, not "{torn}"')
        case Freeze(_, _, for_ms) if for_ms <= 0:
            wrong.append("it is frozen for no time")
        case FullDisk(_, _, for_ms) if for_ms < 0:
            wrong.append("it lasts a negative time")
        case StepClock(_, _, 0):
            wrong.append("a step of 0 is none")
        case DriftClock(_, _, ppm) if abs(ppm) > DRIFT_PPM_MAX:
            wrong.append(f"no clock drifts by more than {DRIFT_PPM_MAX} ppm")
        case MassRestart(_, share, down_ms, spread_ms):
            if not 0 < share <= 1000 or down_ms <= 0 or spread_ms < 0:
                wrong.append("the share lies between 1 and 1000 thousandths, down_ms above 0, spread_ms not below 0")
        case Gone(()):
            wrong.append("nobody is named")
        case Churn(at, until, session_ms, down_ms):
            if until <= at or session_ms <= 0 or down_ms <= 0:
                wrong.append("until comes after at, and session_ms and down_ms are above 0")
        case Cut(_, _, sources, targets, for_ms):
            if not sources or not targets or for_ms < 0:
                wrong.append("sources and targets name a node at least, and for_ms is not negative")
        case _:
            pass
    return wrong


def _together(plan: Plan, nodes: int) -> list[str]:
    """Contradictions between faults: each node's and each cut's story, told in the order of time."""
    wrong: list[str] = []
    down: dict[int, int | None] = {}  # node to when it is up again, None for not by itself
    cuts: dict[str, int | None] = {}
    churned = {node: fault for fault in plan.faults if isinstance(fault, Churn) for node in fault.nodes or range(nodes)}
    for fault in sorted(plan.faults, key=lambda fault: fault.at):
        at = fault.at
        match fault:
            case Crash() | Restart() | Freeze() | Gone():
                for node in _nodes_of(fault):
                    again = down.get(node, -1)
                    is_down = again is None or again > at
                    if node in churned and churned[node].at <= at < churned[node].until:
                        wrong.append(f"{_name(fault)}: node {node} is churned then, so nobody knows whether it is up")
                    elif isinstance(fault, Restart):
                        if not _may_be_down(node, at, is_down=is_down, plan=plan):
                            wrong.append(f"{_name(fault)}: node {node} is not down then")
                        down.pop(node, None)
                    elif is_down:
                        wrong.append(f"{_name(fault)}: node {node} is down then")
                    elif not isinstance(fault, Freeze):
                        lasting = isinstance(fault, Crash) and fault.down_ms
                        down[node] = at + lasting if lasting else None
            case Cut(name, _, _, _, for_ms):
                until = cuts.get(name, -1)
                if until is None or until > at:
                    wrong.append(f"{_name(fault)}: there is a cut {name} already")
                cuts[name] = at + for_ms if for_ms else None
            case Heal(name):
                if cuts.get(name, -1) is not None:
                    wrong.append(f"{_name(fault)}: there is no cut {name} to heal then")
                cuts.pop(name, None)
            case _:
                pass
    return wrong


def _may_be_down(node: int, at: int, *, is_down: bool, plan: Plan) -> bool:
    """Whether a node is down, or may have stopped because its disk was full."""
    return is_down or any(
        isinstance(fault, FullDisk) and fault.node == node and fault.at <= at for fault in plan.faults
    )
