"""The folder that a run leaves: everything is there, opens, and says the same as everything else."""

import csv
import json
import shlex
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from netsim.__main__ import main

KEYS = {
    *("scenario", "seed", "nodes", "options", "faults", "virtual_s", "partial", "ok", "broken", "digest", "command"),
    *(
        "events",
        "events_per_s",
        "wall_s",
        "cpu_s",
        "load",
        "peak_mb",
        "up",
        "adversaries",
        "bytes_per_node_s",
        "network",
        "facts",
        "rejected",
    ),
    *("messages", "deliveries", "entries_missing", "delivery_ms", "signature_checks", "signatures_reused"),
    *("look_ups", "look_ups_found", "look_ups_without_answer", "look_up_hops", "look_up_queries", "look_up_ms"),
    *("target_look_ups", "target_look_ups_found"),
}
FIGURES = ("delivery", "look_ups", "hops", "replicas", "network", "traffic", "load")
WORDS = ["run", "sybil-flood", "--nodes", "15", "--seed", "6", "--minutes", "14", "--option", "messages=12"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as table:
        return list(csv.DictReader(table))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report")
    assert main([*WORDS, "--out", str(path)]) == 0
    return path


@pytest.fixture
def numbers(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return loaded


@pytest.mark.component
def test_the_folder_holds_the_report_and_nothing_else(folder: Path) -> None:
    figures = {f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png")}
    tables = {"samples.csv", "look_ups.csv", "latencies.csv", "nodes.csv"}
    assert {path.name for path in folder.iterdir()} == figures | tables | {"report.html", "report.md", "result.json"}
    for name in FIGURES:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert ET.parse(folder / f"{name}.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.component
def test_the_numbers_have_the_keys_that_others_read(numbers: dict[str, Any]) -> None:
    assert set(numbers) == KEYS
    assert (numbers["scenario"], numbers["seed"], numbers["nodes"], numbers["adversaries"]) == ("sybil-flood", 6, 15, 3)
    assert numbers["ok"]
    assert not numbers["partial"]
    assert numbers["options"]["messages"] == 12
    assert numbers["messages"] == 13  # the target writes one of its own
    assert numbers["deliveries"] == 13 * 12
    assert numbers["entries_missing"] == 0


@pytest.mark.component
def test_tables_and_numbers_agree(folder: Path, numbers: dict[str, Any]) -> None:
    looked = rows(folder / "look_ups.csv")
    assert len(looked) == numbers["look_ups"] == 200
    assert sum(row["found"] == "True" for row in looked) == numbers["look_ups_found"]
    delivered = sum(int(row["deliveries"]) for row in rows(folder / "latencies.csv"))
    assert delivered + numbers["messages"] == numbers["deliveries"]  # an author needs no delivery
    samples = rows(folder / "samples.csv")
    assert float(samples[-1]["at_s"]) <= numbers["virtual_s"]
    assert int(samples[-1]["events"]) <= numbers["events"]
    assert int(samples[-1]["up"]) == 12
    loads = rows(folder / "nodes.csv")
    assert sum(int(row["events"]) for row in loads) == numbers["events"]
    received = [float(row["bytes_in_per_s"]) for row in loads]
    assert numbers["load"]["bytes_in_per_s"]["max"] == pytest.approx(max(received), abs=0.1)
    assert sum(received) / 15 == pytest.approx(numbers["bytes_per_node_s"], abs=0.1)
    spent = [float(row["cpu_ms_per_hour"]) for row in loads]
    assert min(spent) > 0
    assert sum(spent) * numbers["virtual_s"] / 3600 / 1000 < numbers["cpu_s"]  # machines are a part of it all


@pytest.mark.component
def test_the_report_says_what_was_run_and_how_to_run_it_again(
    folder: Path, numbers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    text = (folder / "report.md").read_text()
    assert text.startswith("# sybil-flood: 15 nodes, seed 6\n")
    assert "**Every invariant held.**" in text
    assert numbers["digest"] in text
    assert all(f"![{name}]({name}.svg)" in text for name in FIGURES)
    assert f"    {numbers['command']}\n" in text
    assert main([*shlex.split(numbers["command"])[1:], "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["digest"] == numbers["digest"]
    assert again["load"]["cpu_ms_per_hour"] is None  # counted for a report alone


@pytest.mark.component
def test_a_run_in_which_nothing_happened_has_a_report_that_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "bootstrap", "--nodes", "2", "--minutes", "14"]
    assert main([*words, "--option", "messages=0", "--option", "look_ups=0", "--out", str(tmp_path)]) == 0
    assert "None" not in capsys.readouterr().out
    text = (tmp_path / "report.md").read_text()
    assert "None" not in text
    assert "| delivery, 50, 90 and 99 % | nothing was delivered |" in text
    assert "no look-up found its node in this run" in (tmp_path / "hops.svg").read_text()
