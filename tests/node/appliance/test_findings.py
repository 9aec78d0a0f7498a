"""Each finding of doctor provoked for real, once; and what is fine is not complained about."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from node.appliance import exposure, machine, network, service
from node.appliance.findings import Check
from node.commands import checking
from node.config import Home
from node.tor.onion import onion_of
from tests.node.test_cli import Typed, home, passphrase, recorded, typed

__all__ = ["home", "passphrase", "recorded", "typed"]
pytestmark = pytest.mark.component

ONION = f"/onion3/{onion_of(bytes(32))}:4001"


def codes(check: Check, home: Path) -> dict[str, bool]:
    """What a check finds: codes, and whether they stop the node."""
    return {one.code: one.stops for one in check(Home(home))}


@pytest.fixture
def joined(home: Path, typed: Typed, tmp_path: Path) -> Path:
    """A home in a public network over Tor."""
    made = ("network", "create", "trial", "--mode", "sandbox", "--bootstrap", ONION, "--out", tmp_path / "trial")
    assert typed(*made)[0] == 0
    assert typed("network", "join", tmp_path / "trial")[0] == 0
    return home


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes these the only programs there are, each printing a text."""

    def put(**programs: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name, text in programs.items():
            (folder / name).write_text(f"#!/bin/sh\necho '{text}'\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return put


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Callable[[Path, bytes], None]]:
    """Listens at a path as a tor or a daemon would, and gives whoever comes one answer and no more."""
    opened: list[socket.socket] = []

    def listen(path: Path, answer: bytes) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        opened.append(listener)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                opened.append(connection)
                if answer:
                    with connection, suppress(OSError):  # who only looks whether we are here has gone
                        connection.recv(4096)
                        connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()

    yield listen
    for one in opened:
        one.close()


def test_a_fine_home_is_told_from_one_that_cannot_run(joined: Path, typed: Typed) -> None:
    _, facts, _ = typed("doctor")
    about_home = {"home and settings", "permissions", "network", "libraries", "Python"}
    assert about_home <= set(facts["checked"])
    assert [one for one in facts["findings"] if one["check"] in about_home] == []
    (joined / "config.toml").write_text("[record]\nfps = 900\n")
    code, facts, _ = typed("doctor")
    assert (code, facts["ok"]) == (1, False)
    assert {"home.invalid"} == {one["code"] for one in facts["findings"] if one["check"] == "home and settings"}


def test_warnings_alone_exit_0(joined: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        checking, "_checks", lambda _screen: {"key vault": checking._vault, "tor": lambda _home: iter(())}
    )
    code, facts, _ = typed("doctor")
    assert (code, facts["ok"], [one["code"] for one in facts["findings"]]) == (0, True, ["vault.plaintext"])


def test_what_is_wrong_with_the_home(home: Path, tmp_path: Path) -> None:
    assert codes(exposure.permissions, home) == {}
    home.chmod(0o755)
    assert codes(exposure.permissions, home) == {"home.open": False}
    home.chmod(0o700)
    (home / "vault").chmod(0o644)
    assert codes(exposure.permissions, home) == {"file.open": False}
    (home / "vault").write_bytes(b"nonsense")
    assert codes(checking._vault, home) == {"vault.damaged": True}
    (home / "vault").unlink()
    assert codes(checking._vault, home) == {"vault.missing": True}
    assert codes(checking._home, home) == {}
    home.rename(tmp_path / "a home")
    assert codes(checking._home, tmp_path / "a home") == {"home.name": True}
    assert codes(checking._home, home) == {"home.invalid": True}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_belongs_to_others(home: Path) -> None:
    os.chown(home / "vault", 65534, 65534)
    assert codes(exposure.permissions, home) == {"file.foreign": True}


def test_an_export_that_was_never_tried(recorded: str, home: Path) -> None:
    del recorded
    assert codes(checking._drilled, home) == {"drill.due": False}


def test_what_is_wrong_with_the_network(home: Path, typed: Typed, request: pytest.FixtureRequest) -> None:
    assert codes(network.membership, home) == {"network.none": False}
    request.getfixturevalue("joined")
    assert codes(network.membership, home) == {}
    text = (home / "network").read_text()
    (home / "network").write_text(text[:-9] + ("A" if text[-9] != "A" else "B") + text[-8:])
    assert codes(network.membership, home) == {"network.invalid": True}


def test_what_is_wrong_with_a_tor_of_our_own(joined: Path, on_path: Callable[..., None]) -> None:
    on_path()
    assert codes(network.tor, joined) == {"tor.missing": True}
    on_path(tor="Tor version 0.4.8.10.")
    assert codes(network.tor, joined) == {"tor.old": True}
    (joined / "config.toml").write_text("[tor]\nallow_outdated = true\n")
    assert codes(network.tor, joined) == {}
    on_path(tor="Tor version 0.4.9.11.")
    (joined / "config.toml").write_text("")
    assert codes(network.tor, joined) == {}


def test_what_is_wrong_with_the_systems_tor(
    joined: Path, tmp_path: Path, listening: Callable[[Path, bytes], None]
) -> None:
    control, socks = tmp_path / "control", tmp_path / "socks"
    (joined / "config.toml").write_text(f'[tor]\nmode = "system"\ncontrol = "{control}"\nsocks = "{socks}"\n')
    assert codes(network.tor, joined) == {"tor.control": True}
    said = b'250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250-VERSION Tor="0.4.8.10"\r\n250 OK\r\n'
    listening(control, said)
    assert codes(network.tor, joined) == {"tor.socks": True, "tor.old": True, "tor.open": False}
    listening(socks, b"")
    (joined / "torrc").touch()  # a private network, which takes that version
    assert codes(network.tor, joined) == {"tor.open": False}


def test_a_daemon_that_is_not_there_or_does_not_answer(
    home: Path, listening: Callable[[Path, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert codes(checking._daemon, home) == {"daemon.absent": False}
    monkeypatch.setattr(checking, "PATIENCE_S", 0.2)
    listening(home / "control", b"")
    assert codes(checking._daemon, home) == {"daemon.frozen": True}


def test_a_daemon_whose_tor_is_not_up_passes_its_reason_on(
    home: Path, listening: Callable[[Path, bytes], None]
) -> None:
    status = {"result": {"tor": {"state": "degraded", "reason": "this machine's clock is 9000 s off"}}}
    listening(home / "control", json.dumps(status).encode() + b"\n")
    (found,) = checking._daemon(Home(home))
    assert (found.code, "9000 s off" in found.mend) == ("tor.degraded", True)


LEAKING = """
import os, socket, subprocess
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["ip", "address", "add", "192.0.2.1/32", "dev", "lo"], check=True)
from node.appliance.exposure import leaks
def found(): return sorted(one.code for one in leaks(os.getpid()))
one = socket.create_server(("127.0.0.1", 0)); two = socket.socket(socket.AF_UNIX)
six = socket.create_server(("::1", 0), family=socket.AF_INET6)
own = socket.create_connection(one.getsockname())
print(found())
far = socket.create_server(("192.0.2.1", 0)); out = socket.create_connection(far.getsockname())
print(found())
six.close(); six = socket.create_server(("::", 0), family=socket.AF_INET6); udp = socket.socket(type=socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 0))
print(found())
"""


def test_sockets_that_lead_off_the_machine_are_found() -> None:
    """In a network namespace, where they lead nowhere."""
    command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-P", "-c", LEAKING]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "unshare" in done.stderr.split(":")[0]:
        pytest.skip(f"no network namespace is to be had: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "[]",
        "['leak.connection', 'leak.listening']",
        "['leak.connection', 'leak.connection', 'leak.listening', 'leak.listening']",
    ]


def test_no_disk_is_left(tmp_path: Path) -> None:
    """On a disk of 60 MB."""
    code = f"from node.cli import main; main(['doctor', '--json', '--home', {str(tmp_path)!r}])"
    mounted = f'mount -t tmpfs -o size=60m tmpfs {tmp_path} && exec {sys.executable} -P -c "$0"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted, code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        pytest.skip(f"no mount namespace is to be had: {done.stderr.strip()}")
    found = {one["code"]: one["stops"] for one in json.loads(done.stdout.splitlines()[-1])["findings"]}
    assert found["disk.full"] is True


def test_quotas_that_are_used_up_or_promise_more_than_there_is(home: Path) -> None:
    digest = "ab" * 32
    (home / "chunks" / "ab").mkdir(parents=True)
    with (home / "chunks" / "ab" / digest).open("wb") as file:
        file.truncate(1_000_000_000)  # a hole
    (home / "config.toml").write_text("[store]\nquota_gb = 1\nreplicas_gb = 1000000\n")
    found = codes(machine.disk, home)
    assert found.keys() - {"disk.low", "disk.full"} == {"quota.full", "quota.promised"}


def test_a_clock_that_is_behind_what_others_signed(home: Path) -> None:
    folder = home / "tor" / "data"
    folder.mkdir(parents=True)
    for ahead, found in ((-7200, {}), (7200, {"clock.behind": True})):
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() + ahead))
        (folder / "cached-microdesc-consensus").write_text(f"network-status-version 3\nvalid-after {since}\n")
        assert {code: stops for code, stops in codes(machine.clock, home).items() if code == "clock.behind"} == found


def test_what_systemd_says_of_clock_and_service(
    home: Path, tmp_path: Path, on_path: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BOOTED", tmp_path)
    monkeypatch.setattr(service, "UNIT", home / "config.toml")
    on_path(timedatectl="no", systemctl="ActiveState=failed")
    assert codes(machine.clock, home) == {"clock.unsynchronised": False}
    assert codes(machine.boot, home) == {"service.failed": True}
    on_path(timedatectl="yes", systemctl="ActiveState=active")
    assert codes(machine.clock, home) == codes(machine.boot, home) == {}


def test_programs_and_libraries_that_are_missing_or_old(
    home: Path, on_path: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert codes(machine.packages, home) == codes(machine.python, home) == {}
    monkeypatch.setattr(machine, "requires", lambda _name: ["no-such-library>=1", "trio>=99.1", 'x>=1; extra == "dev"'])
    assert codes(machine.packages, home) == {"package.missing": True, "package.old": False}
    monkeypatch.setattr(machine, "PYTHON_MIN", (9, 1))
    assert codes(machine.python, home) == {"python.old": True}
    on_path()
    assert codes(machine.program("ffmpeg", "ffmpeg"), home) == {"ffmpeg.missing": False}
    assert codes(machine.program("setpriv", "util-linux", stops=True), home) == {"setpriv.missing": True}
    assert codes(checking._encoder, home) == {"encoder.missing": False}
    assert {one.code for one in checking._screen(None, Home(home))} == {"display.none"}
    assert {one.code for one in checking._screen(":4242", Home(home))} == {"display.closed"}
