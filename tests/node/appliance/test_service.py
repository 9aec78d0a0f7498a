"""service as a command where no systemd runs, and what a unit is made from."""

from pathlib import Path

import pytest

from node.appliance import service
from node.appliance.unit import Reach
from node.cli import main
from node.config import Home
from node.exits import Usage
from tests.node.test_cli import Typed, home, passphrase, typed

__all__ = ["home", "passphrase", "typed"]
pytestmark = pytest.mark.component


@pytest.fixture
def unbooted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BOOTED", tmp_path / "no-systemd")


@pytest.mark.parametrize("command", ["install", "status", "uninstall"])
@pytest.mark.usefixtures("unbooted")
def test_without_systemd_one_sentence_says_what_else_there_is(command: str, home: Path, typed: Typed) -> None:
    code, facts, said = typed("service", command)
    assert (code, facts["code"]) == (3, 3)
    assert len(said.splitlines()) == 1
    assert "systemd does not run this machine" in said


@pytest.mark.usefixtures("unbooted")
def test_the_unit_is_printed_wherever_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["service", "install", "--print", "--user", "daemon", "--home", "/srv/not-there-yet"]) == 0
    text = capsys.readouterr().out
    assert "\nUser=daemon\n" in text
    assert '"run" "--home" "/srv/not-there-yet" --passphrase-file %d/passphrase\n' in text
    assert text.endswith("[Install]\nWantedBy=multi-user.target\n")


def test_keys_in_the_clear_need_no_credential(home: Path) -> None:
    assert service.described(Home(home), "root", closed=False).credential is None


@pytest.mark.parametrize(
    ("settings", "reach"),
    [
        ("", Reach.INTERNET),
        ('[tor]\nmode = "system"\ncontrol = "/run/tor/control"', Reach.NONE),
        ('[tor]\nmode = "system"\ncontrol = "/run/tor/control"\nsocks = "127.0.0.1:9050"', Reach.LOOPBACK),
        ('[tor]\nmode = "system"\ncontrol = "127.0.0.1:9051"', Reach.LOOPBACK),
        (f'[tor]\nmode = "external"\nsocks = "/run/s"\nonion = "{"a" * 56}.onion:1"', Reach.NONE),
        (
            f'[network]\nlisten = "127.0.0.1:7"\n[tor]\nmode = "external"\nsocks = "/run/s"\nonion = "{"a" * 56}.onion:1"',
            Reach.LOOPBACK,
        ),
    ],
)
def test_a_daemon_gets_no_more_of_the_network_than_its_tor_makes_necessary(
    settings: str, reach: Reach, home: Path
) -> None:
    (home / "config.toml").write_text(settings + "\n")
    assert service.reach(Home(home))[0] is reach


def test_a_user_that_there_is_not_is_named(home: Path) -> None:
    with pytest.raises(Usage, match="no user nobody-of-that-name"):
        service.account(Home(home), "nobody-of-that-name")
