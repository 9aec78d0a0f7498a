"""The unit under a real systemd, confined as it will be: the daemon lives, is revived, and can do no more than it should."""

import json
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.appliance.unit import NAME
from node.tor.onion import onion_of
from tests.system.booted import USER, Booted, booted

pytestmark = pytest.mark.system

PHRASE = "canary-of-the-passphrase-7261"
HOME = Path(f"/home/{USER}/100%/$HOME")


@pytest.fixture(scope="module")
def machine() -> Iterator[Booted]:
    with tempfile.TemporaryDirectory(prefix="bt-") as folder, booted(Path(folder)) as one:
        yield one


@pytest.fixture(scope="module")
def torrc(machine: Booted) -> Iterator[str]:
    """Lines for a tor of a private network inside the machine; its first client has the sockets of a system's tor."""
    command = machine.enters(sys.executable, "-P", "-m", "node.tor.network", "/run/net", "--clients", "1")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as net:
        assert net.stdout is not None
        said = json.loads(net.stdout.readline())
        machine.run("mkdir", "-p", "/run/tor")
        for name, path in said["clients"][0].items():
            machine.run("ln", "-s", path, f"/run/tor/{name}")
            machine.run("chown", f"{USER}:{USER}", path)
        machine.run("chmod", "711", "/run/net", "/run/net/client0")
        machine.run("chown", USER, "/run/net/client0/control_auth_cookie")
        # A consensus that comes later lists the authority too, whose own descriptor no relay has yet.
        yield said["torrc"].replace("PathsNeededToBuildCircuits 0.67", "PathsNeededToBuildCircuits 0.25")
        net.send_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def home(machine: Booted, torrc: str) -> Path:
    """A home of a user's, with a closed vault, in a network of its own over Tor."""
    at = ("--home", HOME, "--passphrase-file", "/run/phrase")
    for file in (Path("/run/phrase"), Path(f"/home/{USER}/phrase")):
        _write(machine, file, PHRASE + "\n")
    machine.lucid("init", *at)
    onion = f"/onion3/{onion_of(bytes(32))}:4001"
    machine.lucid("network", "create", "trial", "--mode", "devnet", "--bootstrap", onion, "--out", "/run/t", *at)
    machine.lucid("network", "join", "/run/t", *at)
    _write(machine, HOME / "torrc", torrc)
    machine.run("chown", "-R", f"{USER}:{USER}", f"/home/{USER}")
    return HOME


def _write(machine: Booted, path: Path, text: str) -> None:
    command = machine.enters("sh", "-c", 'umask 077; mkdir -p "${0%/*}"; cat >"$0"', path)
    subprocess.run(command, input=text, text=True, check=True)


def _install(machine: Booted, home: Path, *settings: str) -> None:
    _write(machine, Path(f"/etc/systemd/system/{NAME}.d/log.conf"), "\n".join(["[Service]", *_LOGGED, *settings, ""]))
    machine.lucid("service", "install", "--home", home, "--passphrase-file", "/run/phrase")


_LOGGED = ("StandardOutput=append:/run/said", "StandardError=append:/run/said")


def _said(machine: Booted) -> str:
    return machine.run("sh", "-c", "cat /run/said 2>/dev/null || true")


def _status(machine: Booted, home: Path) -> dict[str, Any]:
    """What the daemon says to its own user, empty as long as it says nothing."""
    command = machine.enters("setpriv", "--reuid", USER, "--regid", USER, "--clear-groups")
    command += [sys.executable, "-P", "-m", "node", "status", "--json", "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    return found


def _active(machine: Booted) -> bool:
    return machine.show(NAME)["ActiveState"] == "active"


def _main(machine: Booted) -> str:
    """The daemon's process inside, never 0: signals to that go to whoever sends them."""
    pid = machine.show(NAME)["MainPID"]
    assert pid != "0", machine.log()
    return pid


def _replaced(machine: Booted, old: str) -> bool:
    facts = machine.show(NAME)
    return facts["ActiveState"] == "active" and facts["MainPID"] not in {"0", old}


@pytest.fixture
def confined(machine: Booted, home: Path, request: pytest.FixtureRequest) -> Path:
    """The node as a service, up in the Tor network; installed anew where an earlier test had it otherwise."""
    wanted = getattr(request, "param", "")
    if not _active(machine) or machine.run("cat", home / "config.toml") != wanted:
        _write(machine, home / "config.toml", wanted)
        machine.run("chown", f"{USER}:{USER}", home / "config.toml")
        _install(machine, home, "WatchdogSec=30")
    machine.until(lambda: _is_up(machine, home))
    return home


def _is_up(machine: Booted, home: Path) -> bool:
    """Whether the node's onion is published; relays that lack a descriptor, and who waits for it, ask again."""
    state = (_status(machine, home).get("tor") or {}).get("state")
    if state == "bootstrapping":
        machine.run("sh", "-c", "kill -HUP $(pidof tor)")  # all that run inside: relays and clients
    return bool(state == "up")


def test_a_node_with_a_tor_of_its_own_lives_in_its_unit(machine: Booted, confined: Path) -> None:
    pid = _main(machine)
    status = machine.run("cat", f"/proc/{pid}/status")
    assert re.search(r"^NoNewPrivs:\s1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\s2$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\s0+$", status, re.MULTILINE)
    assert re.search(r"^Uid:\s64001\s", status, re.MULTILINE)
    for where in ("cmdline", "environ"):
        assert PHRASE not in machine.run("cat", f"/proc/{pid}/{where}")
    assert PHRASE not in _said(machine)
    tried = ("/", "/etc", "/usr", "/var", "/var/lib", "/home", "/root", "/run", "/opt", "/srv", confined)
    asked = 'for path; do if [ -w "$path" ]; then echo "$path"; fi; done'
    inside = ("nsenter", f"--target={pid}", "--mount", "setpriv", "--reuid", USER, "--regid", USER, "--clear-groups")
    # /home and /root are small ones of its own, and gone with it.
    assert machine.run(*inside, "sh", "-c", asked, "sh", *tried).split("\n") == ["/home", "/root", str(confined), ""]
    assert machine.run(*inside, "ls", "/root", "/home") == f"/home:\n{USER}\n\n/root:\n"
    made = machine.enters(
        "setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", sys.executable, "-P", "-m", "node"
    )
    made += ["record", "--input", "/etc/services", "--home", str(confined), "--passphrase-file", f"/home/{USER}/phrase"]
    recorded = subprocess.run(made, capture_output=True, text=True, check=False)
    assert recorded.returncode == 0, recorded.stderr
    assert _status(machine, confined)["sessions"] == 1


def test_a_node_that_was_killed_or_is_stuck_is_started_again(machine: Booted, confined: Path) -> None:
    first = _main(machine)
    machine.run("kill", "-KILL", first)
    machine.until(lambda: _replaced(machine, first))
    second = _main(machine)
    machine.run("kill", "-STOP", second)  # it says nothing more, and does not end: only the watchdog replaces it
    machine.until(lambda: _replaced(machine, second))
    assert int(machine.show(NAME)["NRestarts"]) >= 2


def test_a_node_comes_up_with_its_machine(machine: Booted, confined: Path) -> None:
    machine.run("systemctl", "stop", NAME)
    assert json.loads(machine.lucid("service", "status", code=1))["state"] == "inactive (dead)"
    machine.run("systemctl", "stop", "multi-user.target")
    machine.run("systemctl", "start", "multi-user.target")  # as a boot does
    machine.until(lambda: _active(machine))
    facts = json.loads(machine.lucid("service", "status"))
    assert (facts["active"], facts["enabled"]) == (True, True)


def test_a_service_that_is_taken_out_leaves_the_home(machine: Booted, confined: Path) -> None:
    assert json.loads(machine.lucid("service", "uninstall"))["removed"]
    assert json.loads(machine.lucid("service", "status", code=1))["installed"] is False
    assert machine.run("sh", "-c", 'ls /etc/credstore.encrypted; test -e "$0/vault" && echo kept', confined) == "kept\n"


@pytest.mark.parametrize("confined", ['[tor]\nmode = "system"\ncontrol = "/run/tor/control"\n'], indirect=True)
def test_behind_the_systems_tor_a_node_has_no_network_at_all(machine: Booted, confined: Path) -> None:
    interfaces = machine.run("cat", f"/proc/{_main(machine)}/net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
    own, outer = (machine.run("readlink", f"/proc/{pid}/ns/net") for pid in (_main(machine), "1"))
    assert own != outer
    facts = _status(machine, confined)["tor"]
    assert (facts["state"], facts["onions"]) == ("up", 1)
