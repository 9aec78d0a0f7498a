"""A network from its making to its second member, as it is typed: everything that a newcomer needs stands in the one file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node.carrier import onion_seed
from node.cli import main
from node.config import Home
from node.membership import joined
from node.net.multiaddrs import written_out
from node.tor.onion import onion_of
from node.tor.transport import multiaddr

pytestmark = pytest.mark.component

Typed = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Types a command with --json at a home that is named: exit code, facts, stderr."""

    def type_it(home: str, *words: str | Path) -> tuple[int, dict[str, Any], str]:
        capsys.readouterr()
        code = main(["--home", str(tmp_path / home), "--json", *map(str, words)])
        said = capsys.readouterr()
        return code, json.loads(said.out.splitlines()[-1]) if said.out else {}, said.err

    for name in ("a", "b"):
        assert type_it(name, "init", "--insecure-plaintext-keys")[0] == 0
    return type_it


def test_a_network_is_met_at_its_makers_onion_and_joined_by_its_file_alone(typed: Typed, tmp_path: Path) -> None:
    file = tmp_path / "first.network"
    code, made, _ = typed("a", "network", "create", "first", "--mode", "sandbox", "--out", file)
    assert code == 0
    onion = written_out(multiaddr(onion_of(onion_seed(Home(tmp_path / "a")))))
    assert made["bootstrap"] == [{"node": made["author"], "addresses": [onion]}]
    code, _, _ = typed("c", "init", "--insecure-plaintext-keys", "--network", file, "--quota-gb", "1")
    assert code == 0
    terms = joined(Home(tmp_path / "c"))
    assert terms is not None
    assert terms.network.hex() == made["network"]
    assert (Home(tmp_path / "c").config().replicas_gb, Home(tmp_path / "c").config().quota_gb) == (1, 1)
    assert typed("b", "network", "join", file)[0] == 0
    assert joined(Home(tmp_path / "b")) == terms


def test_a_later_file_moves_a_network_and_an_older_or_anothers_never_does(typed: Typed, tmp_path: Path) -> None:
    first, moved, other = (tmp_path / name for name in ("first", "moved", "other"))
    where = "/ip4/127.0.0.1/tcp/7001", "/ip4/127.0.0.1/tcp/7002"
    local = ("--mode", "devnet", "--transport", "loopback")
    assert typed("a", "network", "create", "first", *local, "--bootstrap", where[0], "--out", first)[0] == 0
    assert typed("a", "network", "revise", first, "--bootstrap", where[1], "--out", moved)[0] == 0
    assert typed("b", "network", "create", "first", *local, "--bootstrap", where[0], "--out", other)[0] == 0
    assert typed("b", "network", "update", first)[0] == 2, "it has joined none"
    assert typed("b", "network", "join", first)[0] == 0
    assert typed("b", "network", "update", moved)[0] == 0
    held = joined(Home(tmp_path / "b"))
    assert held is not None
    assert held.bootstrap[0].addresses == where[1:]
    for wrong, why in ((first, "no newer"), (other, "another network")):
        code, _, error = typed("b", "network", "update", wrong)
        assert (code, why in error) == (2, True), error
        assert joined(Home(tmp_path / "b")) == held
    code, _, error = typed("b", "network", "join", other)
    assert code == 2, error
    assert joined(Home(tmp_path / "b")) == held


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--mode", "devnet", "--transport", "loopback"), "fixed port"),
        (("--mode", "sandbox", "--transport", "loopback", "--bootstrap", "/ip4/127.0.0.1/tcp/1"), "cannot be"),
        (("--mode", "sandbox", "--bootstrap", "/dns4/example.org/tcp/1"), "this network cannot be"),
        (("--mode", "sandbox", "--bootstrap", "abc@/onion3/x:1"), "64 hex digits"),
        (("--mode", "sandbox", "--set", "weather=7"), "no parameter"),
    ],
)
def test_a_network_that_cannot_be_is_not_made(words: tuple[str, ...], why: str, typed: Typed, tmp_path: Path) -> None:
    code, facts, error = typed("a", "network", "create", "first", *words, "--out", tmp_path / "file")
    assert code == 2
    assert why in error + str(facts)
    assert not (tmp_path / "file").exists()


def test_a_file_that_was_touched_is_refused_and_a_file_is_never_replaced(typed: Typed, tmp_path: Path) -> None:
    file = tmp_path / "file"
    made = typed("a", "network", "create", "first", "--mode", "sandbox", "--out", file)[1]
    code, _, error = typed("a", "network", "create", "first", "--mode", "sandbox", "--out", file)
    assert (code, "exists already" in error) == (2, True)
    body = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    spot = body[0][len(body[0]) // 2]
    file.write_text(file.read_text().replace(body[0], body[0].replace(spot, "A" if spot != "A" else "B")))
    for command in ("show", "join"):
        code, _, error = typed("b", "network", command, file)
        assert code != 0, error
    assert joined(Home(tmp_path / "b")) is None
    assert made["network"]
