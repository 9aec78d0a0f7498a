"""A what-if as numbers, as lines and as a page: what was described, what to expect with how much confidence, what is not enough."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from netsim.explaining import MODELS
from netsim.page import NAME, document, listed, tabled, text
from netsim.scenarios import named
from netsim.whatif import Answer, Described, Part

FILE: Final = "what-if.json"


def numbers(
    network: Described,
    played: Sequence[Part],
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    found: Sequence[Answer],
) -> dict[str, Any]:
    """All that is known, as JSON has it."""
    broken = [
        f"{part.name}, seed {run['seed']}: {run['broken']['check']}: {run['broken']['sentence']}"
        for part in played
        for run in runs[part.name]
        if run["broken"]
    ]
    return {
        "network": asdict(network),
        "stored_gb": round(network.stored_gb, 3),
        "seeds": [run["seed"] for run in next(iter(runs.values()))],
        "ok": not broken,
        "broken": broken,
        "answers": [{**one._asdict(), "value": one.value._asdict()} for one in found],
        "parts": [
            {
                "name": part.name,
                "nodes": part.nodes,
                "commands": [run["command"] for run in runs[part.name]],
                "digests": [run["digest"] for run in runs[part.name]],
                "cpu_s": round(sum(run["cpu_s"] for run in runs[part.name]), 1),
            }
            for part in played
        ],
    }


def say(told: Mapping[str, Any]) -> Iterator[str]:
    """It in lines for people."""
    network = told["network"]
    yield f"{network['nodes']:,} nodes as described, {len(told['seeds'])} seed{'s' if len(told['seeds']) > 1 else ''}: {answer(told)}"
    rows = [("", "expected", "95 % interval", "unit"), *(_row(one) for one in told["answers"])]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        yield f"  {row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip()
    yield from (f"  {sentence}" for sentence in short_of(told))
    smaller = [f"{part['name']} {part['nodes']}" for part in told["parts"] if part["nodes"] < network["nodes"]]
    if smaller:
        yield f"  run with fewer nodes than described, --whole runs them all: {', '.join(smaller)}"


def short_of(told: Mapping[str, Any]) -> list[str]:
    """What is not enough, and what broke."""
    wanting = [f"{one['name']}: {one['verdict']}" for one in told["answers"] if one["verdict"]]
    return wanting + [f"broken: {sentence}" for sentence in told["broken"]]


def answer(told: Mapping[str, Any]) -> str:
    """The answer in a sentence."""
    if told["broken"]:
        return "an invariant broke: see below"
    wanting = len(short_of(told))
    return (
        f"{wanting} of these figures {'is' if wanting == 1 else 'are'} not enough"
        if wanting
        else "nothing of it is short"
    )


def _row(one: Mapping[str, Any]) -> tuple[str, str, str, str]:
    value = one["value"]
    between = f"{_spell(value['low'])} … {_spell(value['high'])}" if value["high"] > value["low"] else ""
    return one["name"], _spell(value["mean"]), between, one["unit"]


def _spell(value: float) -> str:
    """Three digits, and no exponent for what is large."""
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def write(folder: Path, told: Mapping[str, Any]) -> Path:
    """Write the numbers and the page; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    path = folder / NAME
    path.write_text(page(told))
    return path


def page(told: Mapping[str, Any]) -> str:
    """It as one page that needs nothing else."""
    title = f"What if: {told['network']['nodes']:,} nodes"
    wanting = short_of(told)
    rows = [(*_row(one), one["source"]) for one in told["answers"]]
    kinds = dict.fromkeys(named(part["commands"][0].split()[2]).kind for part in told["parts"])
    commands = [command for part in told["parts"] for command in part["commands"]]
    head = ("", "expected", "95 % interval", "unit", "where it is from")
    return document(
        title,
        [
            f"<h1>{text(title)}</h1>",
            f'<p class="answer{" broke" if wanting else ""}">{text(answer(told).capitalize())}.</p>',
            *([listed("Short of what is asked", wanting)] if wanting else []),
            "<h2>What to expect</h2>" + tabled(head, rows),
            "<h2>What was described</h2>" + tabled(("key", "value"), [(k, str(v)) for k, v in told["network"].items()]),
            "<h2>What was run for it</h2>"
            + tabled(("part", "nodes"), [(part["name"], str(part["nodes"])) for part in told["parts"]]),
            "<h2>What this leaves out</h2>"
            + "".join(listed(kind.capitalize(), MODELS[kind].leaves_out) for kind in kinds),
            f"<h2>To see it again</h2><pre>{text(chr(10).join(commands))}</pre>",
        ],
    )
