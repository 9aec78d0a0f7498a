"""The figures of a run of the overlay, each as SVG and PNG: to be read at a glance, with a unit on every axis.

A figure has one panel or several, one below the other; a panel is a function that draws the measures into axes.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from netsim.measures import LATENCY_STEP_MS, LookUp, Measures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WINDOWS: Final = 12
"""Stretches of a run for which look-ups are summed up."""

Panel = Callable[["Axes", Any], None]


class Figure(NamedTuple):
    """A figure: its file's name, its title, and what draws each panel."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def draw(folder: Path, measures: Any, figures: Sequence[Figure]) -> list[str]:
    """Draw figures of the measures into a folder; their names. Raises OSError."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    for figure in figures:
        panels = len(figure.panels)
        sheet, grid = plt.subplots(
            panels, figsize=(7, 3.8 if panels == 1 else 2.6 * panels), layout="constrained", squeeze=False
        )
        sheet.suptitle(figure.title, fontsize=11)
        for axes, panel in zip(grid[:, 0], figure.panels, strict=True):
            panel(axes, measures)
            axes.grid(visible=True, alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        for ending in ("svg", "png"):
            sheet.savefig(
                folder / f"{figure.name}.{ending}", dpi=110, metadata={"Date": None} if ending == "svg" else None
            )
        plt.close(sheet)
    return [figure.name for figure in figures]


def overlay_figures() -> tuple[Figure, ...]:
    """Those of a run of the overlay."""
    return (
        Figure("delivery", "How long an entry takes to reach a node", (_latency,)),
        Figure("look_ups", "Look-ups: share that found their node, and how long they took", (_found, _took)),
        Figure("hops", "Look-ups: hops to the node that was found", (_hops,)),
        Figure("replicas", "Nodes up, and how many of them hold an entry (mean over entries)", (_replicas,)),
        Figure("network", "Connections and contacts of a node", (_network,)),
        Figure("traffic", "Bytes and events of a node, over time", (_bytes, _events)),
        Figure("load", "Bytes and processor time of each node, the least busy first", (_load_bytes, _load_cpu)),
    )


def siege_figures() -> tuple[Figure, ...]:
    """Those of a siege."""
    return (Figure("meshes", "Places of honest meshes that Sybils hold, and thin meshes", (_held, _thin)),)


def _held(axes: "Axes", ledger: Any) -> None:
    axes.plot([one.at_s for one in ledger.watched], [100 * one.sybils / max(1, one.places) for one in ledger.watched])
    axes.set_xlabel("virtual seconds")
    percent_axis(axes, "% of places")


def _thin(axes: "Axes", ledger: Any) -> None:
    axes.plot([one.at_s for one in ledger.watched], [one.thin for one in ledger.watched])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("virtual seconds")
    axes.set_ylabel("thin meshes")


def empty(axes: "Axes", sentence: str) -> None:
    """Say why there is nothing to be seen."""
    axes.text(0.5, 0.5, sentence, transform=axes.transAxes, ha="center", va="center", color="0.4")
    axes.set_xticks([])
    axes.set_yticks([])


def time_axis(axes: "Axes", measures: Measures) -> None:
    """Virtual minutes, from the beginning of the run to its end."""
    axes.set_xlim(0, max(1, measures.world.now - measures.begun) / 60_000)
    axes.set_xlabel("virtual minutes")


def percent_axis(axes: "Axes", label: str) -> None:
    """0 to 100 %."""
    axes.set_ylim(0, 104)
    axes.set_ylabel(label)


def _plain(axes: "Axes", which: str) -> None:
    """Numbers as people write them on a logarithmic axis: 0.1, not 10 to the -1."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def _latency(axes: "Axes", measures: Measures) -> None:
    total, passed = sum(measures.latencies.values()), 0
    if not total:
        empty(axes, "no entry reached another node in this run")
        return
    xs, ys = [LATENCY_STEP_MS / 1000], [0.0]
    for step in sorted(measures.latencies):
        passed += measures.latencies[step]
        xs.append((step + 1) * LATENCY_STEP_MS / 1000)
        ys.append(100 * passed / total)
    axes.step(xs, ys, where="post")
    for share, name in ((0.5, "median"), (0.99, "99 %")):
        at = (measures.percentile(share) or 0) / 1000
        axes.axvline(at, color="0.5", linestyle=":", linewidth=1)
        beside: dict[str, Any] = {"xytext": (-4, 0), "textcoords": "offset points", "ha": "right"}
        axes.annotate(f"{name}\n{at:g} s", (at, 70), fontsize=9, color="0.3", **beside)
    axes.set_xscale("log")
    _plain(axes, "x")
    axes.set_xlabel("seconds from the append until a node holds the entry")
    percent_axis(axes, "% of deliveries")


def _found(axes: "Axes", measures: Measures) -> None:
    if not measures.look_ups:
        empty(axes, "no look-up ended in this run")
        return
    span = max(1, measures.world.now - measures.begun) / 1000 / WINDOWS
    windows: dict[int, list[LookUp]] = {}
    for one in measures.look_ups:
        windows.setdefault(int(one.at_s / span), []).append(one)
    ranked = sorted(windows.items())
    width = span / 60
    at = [(number + 0.5) * width for number, _ in ranked]
    shares = [100 * sum(one.found for one in ended) / len(ended) for _, ended in ranked]
    bars = axes.bar(at, shares, 0.9 * width, color="tab:blue", alpha=0.6)
    axes.bar_label(bars, [f"{len(ended)}" for _, ended in ranked], label_type="center", fontsize=8)
    time_axis(axes, measures)
    percent_axis(axes, "% found (of so many)")


def _took(axes: "Axes", measures: Measures) -> None:
    if not measures.look_ups:
        empty(axes, "no look-up ended in this run")
        return
    for label, colour, marker, chosen in (
        ("found", "tab:blue", "o", [one for one in measures.look_ups if one.found]),
        ("not found", "tab:red", "x", [one for one in measures.look_ups if not one.found]),
    ):
        if chosen:
            axes.scatter(
                [one.at_s / 60 for one in chosen],
                [max(one.ms, 1) / 1000 for one in chosen],
                s=12,
                color=colour,
                marker=marker,
                label=label,
            )
    axes.set_yscale("log")
    _plain(axes, "y")
    time_axis(axes, measures)
    axes.set_ylabel("seconds it took")
    axes.legend(frameon=False)


def _hops(axes: "Axes", measures: Measures) -> None:
    counts = Counter(one.hops for one in measures.look_ups if one.found)
    if not counts:
        empty(axes, "no look-up found its node in this run")
        return
    hops = range(max(counts) + 1)
    bars = axes.bar(hops, [counts[number] for number in hops], 0.8, color="tab:blue", alpha=0.6)
    axes.bar_label(bars, fontsize=9)
    axes.set_xticks(hops)
    axes.set_xlabel("hops")
    axes.set_ylabel("look-ups")


def _replicas(axes: "Axes", measures: Measures) -> None:
    samples = measures.samples
    axes.plot([one.at_s / 60 for one in samples], [one.up for one in samples], ":", color="0.4", label="nodes up")
    written = [one for one in samples if one.entries]
    axes.plot(
        [one.at_s / 60 for one in written],
        [one.up * one.directory / one.entries for one in written],
        label="replicas of an entry",
    )
    axes.set_ylim(bottom=0)
    time_axis(axes, measures)
    axes.set_ylabel("nodes")
    axes.legend(frameon=False)


def _network(axes: "Axes", measures: Measures) -> None:
    at = [sample.at_s / 60 for sample in measures.samples]
    axes.plot(at, [sample.contacts for sample in measures.samples], label="contacts in the routing table")
    axes.plot(at, [sample.connections for sample in measures.samples], label="connections")
    axes.set_ylim(bottom=0)
    time_axis(axes, measures)
    axes.set_ylabel("mean over nodes")
    axes.legend(frameon=False)


def _rate(axes: "Axes", measures: Measures, unit: str, counter: str) -> None:
    """A counter of the samples as a rate; a logarithmic axis, for joining costs a hundred times what idling does."""
    steps = []
    for earlier, later in zip(measures.samples, measures.samples[1:], strict=False):
        span = max(later.at_s - earlier.at_s, 1e-9) * max(1, later.up)
        steps.append((later.at_s / 60, (getattr(later, counter) - getattr(earlier, counter)) / span))
    if not any(rate > 0 for _, rate in steps):
        empty(axes, "too short a run for two samples")
        return
    axes.step([at for at, _ in steps], [rate if rate > 0 else float("nan") for _, rate in steps], where="pre")
    axes.set_yscale("log")
    _plain(axes, "y")
    time_axis(axes, measures)
    axes.set_ylabel(unit)


def _bytes(axes: "Axes", measures: Measures) -> None:
    _rate(axes, measures, "bytes/s received", "bytes_in")


def _events(axes: "Axes", measures: Measures) -> None:
    _rate(axes, measures, "events/s", "events")


def _ranked(axes: "Axes", values: Sequence[float], unit: str, colour: str, label: str = "") -> None:
    ranked = sorted(values)
    axes.step([100 * n / len(ranked) for n in range(len(ranked) + 1)], [*ranked, ranked[-1]], colour, where="post", label=label)  # fmt: skip
    axes.set_xlim(0, 100)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("% of nodes")
    axes.set_ylabel(unit)


def _load_bytes(axes: "Axes", measures: Measures) -> None:
    loads = measures.loads()
    _ranked(axes, [one.bytes_in_per_s for one in loads], "bytes/s", "tab:blue", "received")
    _ranked(axes, [one.bytes_out_per_s for one in loads], "bytes/s", "tab:orange", "sent")
    axes.legend(frameon=False)


def _load_cpu(axes: "Axes", measures: Measures) -> None:
    spent = [one.cpu_ms_per_hour for one in measures.loads()]
    if not any(spent):
        empty(axes, "processor time was not measured in this run")
        return
    _ranked(axes, spent, "CPU ms a virtual hour", "tab:green")
