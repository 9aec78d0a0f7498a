"""A run as one HTML page that needs nothing else: what was asked, the answer, figures, tables, what held, how to see it again.

result, lines for people, figures (SVG files) ──→ report.html: no script, no font, no picture from anywhere else
"""

import html
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from netsim.batch import FILE
from netsim.comparison import leaves
from netsim.explaining import explained
from netsim.report import capitalised
from netsim.scenarios import named

NAME: Final = "report.html"
_COLUMNS: Final = 4
"""Of so many a line of the terminal is one of a table."""
_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --ink: #1b1b1f; --paper: #fff; --soft: #f3f3f6; --bad: #b3261e; --good: #146c2e }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6ea; --paper: #17171b; --soft: #222228; --bad: #f2857d; --good: #6dd58c } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; line-height: 1.25 } h2 { font-size: 1.1rem; margin-top: 2.2rem }
.answer { font-size: 1.15rem; padding: .8rem 1rem; background: var(--soft); border-left: .3rem solid var(--good) } .broke { border-color: var(--bad) }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } pre { background: var(--soft); padding: .8rem; overflow-x: auto }
figure { margin: 1rem 0; background: #fff; border-radius: .4rem; overflow-x: auto } figure svg { max-width: 100%; height: auto; display: block }
.held::before { content: "✓ "; color: var(--good) } .open::before { content: "✗ "; color: var(--bad) } li { margin: .2rem 0 }
"""


def page(numbers: Mapping[str, Any], said: Sequence[str], figures: Mapping[str, str]) -> str:
    """The page of a run, or of several seeds; figures are SVG by their names."""
    told, many = explained(named(numbers["scenario"])), "runs" in numbers
    seeds = f"seeds {numbers['seeds'][0]} to {numbers['seeds'][-1]}" if many else f"seed {numbers['seed']}"
    title = f"{numbers['scenario']}: {numbers['nodes']} nodes, {seeds}"
    options = [(name, str(value), told["options"][name]["means"]) for name, value in dict(numbers["options"]).items()]
    parts = [
        f"<h1>{text(title)}</h1>",
        f"<p>{text(capitalised(told['shows']))}.</p>",
        f'<p class="answer{"" if numbers["ok"] else " broke"}">{text(_answer(numbers))}</p>',
        *([] if many else _lines(said[1:])),
        "<h2>What was asked</h2>" + tabled(("option", "value", "meaning"), options),
        *([listed("Faults of the plan", numbers["faults"])] if numbers.get("faults") else []),
        *([f"<h2>Figures</h2>{_figures(figures)}"] if figures else []),
        "<h2>What had to hold</h2>" + _invariants(told["checks"], numbers),
        "<h2>All numbers</h2>" + (_estimates(numbers) if many else _figures_of(numbers)),
        "<h2>What this models</h2>" + listed("Runs for real", told["runs"]) + listed("Is assumed", told["stands_in"]),
        listed("Is left out", told["leaves_out"]),
        "<h2>To see it again</h2>" + _again(numbers),
    ]
    return document(title, parts)


def document(title: str, parts: Sequence[str]) -> str:
    """A page of these parts, which are HTML."""
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{text(title)}</title>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'
    )


def write(folder: Path, numbers: Mapping[str, Any], said: Sequence[str]) -> Path:
    """Write the page beside what else is there of a run, with the figures that are; raises OSError."""
    figures = {file.stem: file.read_text() for file in sorted(folder.glob("*.svg"))}
    path = folder / NAME
    path.write_text(page(numbers, said, figures))
    return path


def text(value: object) -> str:
    """A value as HTML shows it."""
    return html.escape(str(value))


def _answer(numbers: Mapping[str, Any]) -> str:
    if numbers["partial"]:
        return "It was interrupted: these are partial results."
    if numbers["ok"]:
        return "Every invariant held."
    broken = numbers["broken"]
    if "runs" in numbers:
        return "Broken: " + ", ".join(f"{check} with seed {seed}" for seed, check in broken.items())
    return (
        f"Broken: {broken['check']}: {broken['sentence']}."
        if broken
        else "What was judged was not kept: see the numbers."
    )


def _lines(said: Sequence[str]) -> list[str]:
    """What a terminal shows: sentences as a list, and lines of equally many columns, two blanks or more apart, as a table."""
    rows = [re.split(r" {2,}", line.strip()) for line in said]
    parts = []
    for columns, group in groupby(rows, len):
        block = [*group]
        if columns < _COLUMNS:
            parts.append("<ul>" + "".join(f"<li>{text('  '.join(row))}</li>" for row in block) + "</ul>")
        else:
            spoken = [place for place in range(columns) if not all(row[place][:1].isdigit() for row in block[1:])]
            parts.append(tabled(block[0], block[1:], max(spoken, default=-1) + 1))
    return parts


def _invariants(checks: Sequence[str], numbers: Mapping[str, Any]) -> str:
    kind = "held" if numbers["ok"] else "open"
    return "<ul>" + "".join(f'<li class="{kind}">{text(one)}</li>' for one in checks) + "</ul>"


def listed(title: str, sentences: Sequence[str]) -> str:
    """Sentences below a title."""
    return f"<p>{title}:</p><ul>" + "".join(f"<li>{text(one)}</li>" for one in sentences) + "</ul>"


def tabled(head: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 99) -> str:
    """A table; cells from a column on are numbers."""

    def cells(kind: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{kind}{' class=n' if place >= numbers_from else ''}>{text(cell)}</{kind}>"
            for place, cell in enumerate(row)
        )

    top, body = cells("th", head), "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _figures_of(numbers: Mapping[str, Any]) -> str:
    return tabled(("figure", "value"), [(name, f"{value:,.6g}") for name, value in leaves(numbers)], 1)


def _estimates(numbers: Mapping[str, Any]) -> str:
    rows = [
        (
            name,
            f"{one['mean']:,.6g}",
            f"{one['low']:,.5g} … {one['high']:,.5g}",
            f"{one['least']:,.6g}",
            f"{one['most']:,.6g}",
        )
        for name, one in numbers["figures"].items()
    ]
    return tabled(("figure", "mean", "95 % interval", "least", "most"), rows, 1)


def _again(numbers: Mapping[str, Any]) -> str:
    runs = numbers.get("runs", [numbers])
    commands = "\n".join(run["command"] for run in runs)
    trace = "" if "runs" in numbers else f"<p>The trace is {text(numbers.get('digest', 'not told'))}.</p>"
    where = f"<p>Each seed's own report is in its folder; {FILE} has all of them.</p>" if "runs" in numbers else ""
    return f"<pre>{text(commands)}</pre>{trace}{where}"


def _figures(figures: Mapping[str, str]) -> str:
    """Pictures inside the page; their ids are made their own, or a second one would be drawn with the first one's parts."""
    made = []
    for name, drawn in figures.items():
        inner = drawn[drawn.index("<svg") :]
        inner = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', inner)
        inner = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', inner)
        inner = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", inner)
        made.append(f'<figure role="img" aria-label="{text(name)}">{inner}</figure>')
    return "".join(made)
