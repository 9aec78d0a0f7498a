"""Two sets of runs side by side: the means of each figure, their ratio, and whether luck alone could have made the difference.

    seeds.json, seeds.json ──→ what differs · a row a figure: A, B, B / A, chance (of luck, corrected for all figures), verdict

Of the machine's own figures (netsim.batch.MACHINE) no chance is told: they follow from what else it did.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from netsim.batch import MACHINE, figures
from netsim.comparison import SETTINGS, faults_differ, set_differently
from netsim.significance import LEVEL, Estimate, chance, estimate, holm, least_chance, seeds_needed


class FigureRow(NamedTuple):
    """A figure of both sides."""

    name: str
    a: Estimate
    b: Estimate
    chance: float | None
    """Of luck alone, corrected; None where it is not asked."""

    @property
    def ratio(self) -> float | None:
        """B's mean in units of A's; None where that says nothing."""
        return self.b.mean / self.a.mean if self.a.mean else None

    @property
    def differs(self) -> bool:
        """Whether it is more than luck."""
        return self.chance is not None and self.chance < LEVEL


class Versus(NamedTuple):
    """What was run differently, whether seeds are paired, how many would be needed if these are too few, and all figures."""

    differ: list[str]
    paired: bool
    needed: int | None
    rows: list[FigureRow]


def runs_of(numbers: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The runs of a batch, or the one run that a result is."""
    return list(numbers["runs"]) if "runs" in numbers else [numbers]


def versus(a: Mapping[str, Any], b: Mapping[str, Any]) -> Versus:
    """Lay two sets of runs side by side, by the figures that both have."""
    mine, other = runs_of(a), runs_of(b)
    paired = [one["seed"] for one in mine] == [one["seed"] for one in other]
    ours, theirs = figures(mine), figures(other)
    names = [name for name in ours if name in theirs]
    asked = {
        name: chance(ours[name], theirs[name], paired=paired)
        for name in names
        if name not in MACHINE and not name.startswith("load.cpu") and ours[name] != theirs[name]
    }
    corrected = holm(asked)
    least = least_chance(len(mine), len(other), paired=paired) * max(1, len(asked))
    needed = None if least < LEVEL else seeds_needed(max(1, len(asked)))
    rows = [FigureRow(name, estimate(ours[name]), estimate(theirs[name]), corrected.get(name)) for name in names]
    return Versus(_differences(mine[0], other[0], mine, other), paired, needed, rows)


def _differences(
    a: Mapping[str, Any], b: Mapping[str, Any], mine: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]
) -> list[str]:
    told = set_differently(a, b, [key for key in SETTINGS if key != "seed"])
    told += faults_differ(a, b)
    if a["virtual_s"] != b["virtual_s"]:
        told.append(f"virtual seconds: {a['virtual_s']:g} and {b['virtual_s']:g}")
    if len(mine) != len(other):
        told.append(f"seeds: {len(mine)} and {len(other)}")
    return told + [
        f"in {name} seed {run['seed']} broke {run['broken']['check']}"
        for name, runs in (("A", mine), ("B", other))
        for run in runs
        if run.get("broken")
    ]


def say(compared: Versus) -> list[str]:
    """What the terminal shows."""
    lines = [f"differs: {sentence}" for sentence in compared.differ] or ["the same recipe"]
    lines.append(
        "seeds are paired: each figure is compared seed by seed" if compared.paired else "seeds are not paired"
    )
    if compared.needed is not None:
        lines.append(
            f"too few seeds to tell a difference from luck: for so many figures both sides need at least {compared.needed}"
        )
    rows = [("", "A", "B", "B / A", "chance", "")]
    for one in compared.rows:
        ratio = "–" if one.ratio is None else f"{one.ratio:.3f}"
        luck = "–" if one.chance is None else f"{one.chance:.3g}"
        rows.append((one.name, _spell(one.a), _spell(one.b), ratio, luck, "differs" if one.differs else ""))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows:
        cells = "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append(f"  {row[0]:<{widths[0]}}{cells}".rstrip())
    return lines


def _spell(one: Estimate) -> str:
    return f"{one.mean:,.5g}" + (f" ± {one.high - one.mean:.2g}" if one.seeds > 1 else "")
