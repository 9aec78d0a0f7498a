"""A run's page in a real browser: it shows all there is, loads nothing from anywhere, and fits."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from netsim.__main__ import main
from netsim.page import NAME, page, write
from netsim.scenarios import SCENARIOS
from tests.browser import browser
from tests.netsim.test_cli import QUICK

pytestmark = pytest.mark.component

LOOK: Final = """
const ids = [...document.querySelectorAll("[id]")].map(one => one.id);
const drawn = [...document.querySelectorAll("figure svg")].map(one => one.getBoundingClientRect());
return {
  title: document.title,
  answer: document.querySelector(".answer").innerText,
  broke: document.querySelector(".answer").classList.contains("broke"),
  figures: drawn.length,
  seen: drawn.filter(one => one.height > 100 && one.width > 300).length,
  loaded: performance.getEntriesByType("resource").length,
  twice: ids.length - new Set(ids).size,
  fits: document.documentElement.scrollWidth <= document.documentElement.clientWidth,
  held: document.querySelectorAll("li.held").length,
  open: document.querySelectorAll("li.open").length,
  text: document.body.innerText,
}
"""


async def looked_at(path: Path) -> dict[str, Any]:
    async with browser() as shown:
        await shown.show(path)
        found: dict[str, Any] = await shown.run(LOOK)
    return found


async def test_the_page_of_a_run_stands_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "bootstrap", *QUICK, "--out", str(tmp_path), "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    seen = await looked_at(tmp_path / NAME)
    assert seen["title"] == "bootstrap: 8 nodes, seed 1"
    assert (seen["answer"], seen["broke"]) == ("Every invariant held.", False)
    assert seen["figures"] == seen["seen"] == len([*tmp_path.glob("*.svg")]) == 7
    assert (seen["loaded"], seen["twice"], seen["fits"]) == (0, 0, True)
    assert (seen["held"] > 3, seen["open"]) == (True, 0)
    assert numbers["command"] in seen["text"]
    assert numbers["digest"] in seen["text"]
    assert "What this models" in seen["text"]


async def test_the_page_of_several_seeds_tells_their_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["run", "agree-steady", "--nodes", "4", "--minutes", "360", "--seeds", "2", "--out", str(tmp_path)]) == 0
    )
    assert str(tmp_path / NAME) in capsys.readouterr().out
    seen = await looked_at(tmp_path / NAME)
    assert seen["title"] == "agree-steady: 4 nodes, seeds 1 to 2"
    assert "95 % interval" in seen["text"]
    assert seen["text"].count("lucid-netsim run agree-steady") == 2


def test_what_broke_and_what_was_interrupted_is_said_first_and_all_is_escaped(tmp_path: Path) -> None:
    base: dict[str, Any] = {
        "scenario": "bootstrap",
        "nodes": 3,
        "seed": 1,
        "options": {"messages": 5},
        "ok": False,
        "partial": False,
        "broken": {"check": "LookUps", "sentence": "1 < 2 & <b>3</b>", "now": 1, "node": -1},
        "digest": "aa",
        "command": "lucid-netsim run x",
        "events": 5,
    }
    made = page(base, ["first", "  a <line>"], {})
    assert "Broken: LookUps: 1 &lt; 2 &amp; &lt;b&gt;3&lt;/b&gt;." in made
    assert "a &lt;line&gt;" in made
    assert 'class="open"' in made
    assert "<figure" not in made
    assert "interrupted" in page({**base, "partial": True}, [""], {})
    assert "was not kept" in page({**base, "broken": None}, [""], {})
    many = {**base, "runs": [base], "seeds": [1], "figures": {}, "broken": {"1": "LookUps"}}
    assert "Broken: LookUps with seed 1" in page(many, [""], {})
    (tmp_path / "one.svg").write_text('<?xml version="1.0"?><svg><g id="a"/><use href="#a" clip-path="url(#a)"/></svg>')
    drawn = write(tmp_path, base, ["first"]).read_text()
    assert '<g id="one-a"/><use href="#one-a" clip-path="url(#one-a)"/>' in drawn


@pytest.mark.parametrize("kind", sorted({one.kind for one in SCENARIOS.values()}))
def test_every_kind_of_run_writes_its_page(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = {
        "overlay": ["bootstrap", *QUICK],
        "siege": ["gossip-calm", "--nodes", "10", "--option", "rate=10"],
        "agreement": ["agree-steady", "--nodes", "3", "--minutes", "360"],
        "economy": ["poot-baseline", "--nodes", "20", "--minutes", "1800"],
        "durability": [
            "durability",
            "--nodes",
            "20",
            "--minutes",
            "17280",
            "--option",
            "chunks=4",
            "--option",
            "liars=0",
        ],
    }[kind]
    main(["run", *words, "--out", str(tmp_path)])
    assert f"report: {tmp_path / NAME}" in capsys.readouterr().out
    assert "<h2>What had to hold</h2>" in (tmp_path / NAME).read_text()
