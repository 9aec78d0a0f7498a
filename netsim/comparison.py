"""Two runs side by side: what was run differently, and each figure with its ratio. A run is its result.json, or the folder of it.

Where one side has several seeds (seeds.json) both are taken as such: netsim.versus tells differences from luck.

Whatever number stands in both results is a figure, so a scenario's own numbers need no mention here. Counters (network, facts,
rejected) that a result lacks were never moved and count as 0.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from netsim.scenarios import SCENARIOS, Unknown

COUNTERS: Final = ("network", "facts", "rejected")
SETTINGS: Final = ("scenario", "seed", "nodes")


class NoResult(Exception):
    """A file is not the result of a run; the sentence says which."""


class Pair(NamedTuple):
    """A figure of both runs; None where a run has none."""

    name: str
    a: float | None
    b: float | None

    @property
    def ratio(self) -> float | None:
        """B in units of A; None where that says nothing."""
        return self.b / self.a if self.a and self.b is not None else None


class Comparison(NamedTuple):
    """What differs between the recipes, a sentence each; whether the traces are the same; all figures."""

    differ: list[str]
    same_trace: bool
    figures: list[Pair]


def read(path: Path) -> dict[str, Any]:
    """The result of a run from its file or folder; raises OSError, NoResult."""
    names = ("seeds.json", "result.json")
    file = next((path / name for name in names if (path / name).exists()), path / names[-1]) if path.is_dir() else path
    try:
        numbers = json.loads(file.read_text())
    except ValueError as error:
        raise NoResult(f"{file} is not JSON: {error}") from error
    if isinstance(numbers, dict) and numbers.get("runs") and {"seeds", "figures"} <= numbers.keys():
        return numbers
    if not isinstance(numbers, dict) or not {*SETTINGS, "options", "digest", "virtual_s"} <= numbers.keys():
        raise NoResult(f"{file} is not the result of a run: name a folder that `run --out` wrote, or its result.json")
    return numbers


def one_kind(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """See that two results are of one kind of scenario; raises Unknown. Scenarios that are not known here are taken as they are."""
    kinds = [SCENARIOS[one["scenario"]].kind for one in (a, b) if one["scenario"] in SCENARIOS]
    if len(set(kinds)) > 1:
        raise Unknown(
            f"{a['scenario']} is of kind {kinds[0]} and {b['scenario']} of kind {kinds[1]}: what they measure cannot be compared"
        )


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> Comparison:
    """Lay two results side by side, figures in A's order and then those of B alone."""
    ours, theirs = dict(leaves(a)), dict(leaves(b))
    names = dict.fromkeys([*ours, *theirs])
    pairs = [Pair(name, _value(name, ours), _value(name, theirs)) for name in names]
    return Comparison(_differences(a, b), a["digest"] == b["digest"], pairs)


def set_differently(a: Mapping[str, Any], b: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Which settings, of those names, and which options two results do not share, a sentence each."""
    wrong = [f"{key}: {a[key]} and {b[key]}" for key in names if a[key] != b[key]]
    for key in dict.fromkeys([*a["options"], *b["options"]]):
        mine, other = a["options"].get(key, "none"), b["options"].get(key, "none")
        if mine != other:
            wrong.append(f"option {key}: {mine} and {other}")
    return wrong


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    wrong = [*set_differently(a, b, SETTINGS), *faults_differ(a, b)]
    if a["virtual_s"] != b["virtual_s"]:
        wrong.append(f"virtual seconds: {a['virtual_s']:g} and {b['virtual_s']:g}")
    wrong += [f"{name} was interrupted" for name, run in (("A", a), ("B", b)) if run.get("partial")]
    wrong += [f"in {name} {run['broken']['check']} broke" for name, run in (("A", a), ("B", b)) if run.get("broken")]
    return wrong


def faults_differ(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """How the fault plans of two results differ, a sentence each."""
    mine, other = a.get("faults", []), b.get("faults", [])
    told = [
        f"fault in {side} alone: {fault}"
        for side, first, second in (("A", mine, other), ("B", other, mine))
        for fault in _beyond(first, second)
    ]
    return told or (["the order of the faults"] if mine != other else [])


def _beyond(faults: Sequence[str], others: Sequence[str]) -> list[str]:
    """The faults that others lack, each as often as it is there more often."""
    return list((Counter(faults) - Counter(others)).elements())


def leaves(numbers: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The figures of a result: whatever number stands in it, by its name."""
    for key, value in numbers.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if name not in {"options", "broken"}:
                yield from leaves(value, f"{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and name not in SETTINGS:
            yield name, value


def is_counter(name: str) -> bool:
    """Whether a figure counts what happened, and is 0 in a result that lacks it."""
    return name.partition(".")[0] in COUNTERS


def _value(name: str, figures: Mapping[str, float]) -> float | None:
    return figures.get(name, 0 if is_counter(name) else None)


def say(compared: Comparison) -> list[str]:
    """What the terminal shows, a line each."""
    lines = [f"differs: {sentence}" for sentence in compared.differ]
    if not lines:
        lines = ["the same recipe"]
    lines.append("one trace" if compared.same_trace else "different traces")
    rows = [("", "A", "B", "B / A")]
    rows += [
        (one.name, _spell(one.a), _spell(one.b), "–" if one.ratio is None else f"{one.ratio:.3f}")
        for one in compared.figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines += [
        f"  {row[0]:<{widths[0]}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    return lines


def _spell(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
