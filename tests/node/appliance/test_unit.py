"""The unit as systemd itself reads it: nothing to complain about, little exposed, and every path the one that was meant."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from node.appliance.unit import NAME, Reach, Service, unit
from node.exits import Usage
from tests.examples import examples

pytestmark = pytest.mark.component

SYSTEMD = Path("/lib/systemd/systemd")
EXPOSURE = {Reach.NONE: 5, Reach.LOOPBACK: 13, Reach.INTERNET: 14}
"""In tenths; systemd 252 counts 0.4, 1.2 and 1.3. node/README.md tells what is left and why."""


@pytest.fixture(scope="module", autouse=True)
def _systemd() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Readable for another user, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def made(reach: Reach, home: Path = Path("/srv/lucid"), program: str = "/usr/bin/env") -> Service:
    sealed = Path("/etc/credstore.encrypted/lucid-node.passphrase")
    return Service(home, "daemon", "daemon", (program, "-m", "node"), (Path("/home") / "x",), reach, sealed, ("adm",))


def analyzed(*words: str | Path, code: int = 0) -> str:
    done = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout


@pytest.mark.parametrize("reach", list(Reach))
def test_systemd_finds_nothing_to_complain_about(reach: Reach, folder: Path) -> None:
    (folder / NAME).write_text(unit(made(reach)))
    analyzed("verify", "--man=no", folder / NAME)


@pytest.mark.parametrize("reach", list(Reach))
def test_a_node_is_exposed_no_more_than_the_readme_says(reach: Reach, folder: Path) -> None:
    (folder / NAME).write_text(unit(made(reach)))
    threshold = f"--threshold={EXPOSURE[reach]}"
    found = analyzed("security", "--offline=true", "--json=short", threshold, folder / NAME)
    exposed = {row["name"] for row in json.loads(found) if row["set"] is False and float(row["exposure"] or 0) >= 0.3}
    assert (
        exposed
        == {
            Reach.NONE: set(),
            Reach.LOOPBACK: {"PrivateNetwork=", "RestrictAddressFamilies=~AF_(INET|INET6)"},
            Reach.INTERNET: {"PrivateNetwork=", "RestrictAddressFamilies=~AF_(INET|INET6)"},
        }[reach]
    )


NAMES = (
    st.lists(
        st.text(
            st.characters(min_codepoint=32, exclude_categories=("C", "Z")) | st.sampled_from(" %\"'\\$;:{}~"),
            min_size=1,
        ),
        min_size=1,
        max_size=4,
    )
    .map("/".join)
    .map(os.path.normpath)
    .filter(lambda name: ".." not in name and name[0] != "/" and len(name.encode()) < 200)
)


def dumped(folder: Path) -> dict[str, list[str]]:
    """The unit in a folder as systemd's own first process understands it; it takes no orders from root in this mode."""
    command = [str(SYSTEMD), "--test", "--system", f"--unit={NAME}"]
    if os.geteuid() == 0:
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    # The colon at the end: the machine's own units as well, of which any unit needs some.
    environment = {"PATH": os.environ["PATH"], "SYSTEMD_UNIT_PATH": f"{folder}:"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    _, _, rest = done.stdout.partition(f"-> Unit {NAME}:\n")
    lines = rest.partition("\n\t-> Unit ")[0].splitlines()
    found: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.lstrip("\t").partition(": ")
        found.setdefault(name, []).append(value)
    return found


def words_of(line: str) -> list[str]:
    """The words of a command line as systemd prints it: in double quotes, with backslashes, where it has to be."""
    found = re.findall(r'"((?:\\.|[^"\\])*)"|(\S+)', line)
    return [re.sub(r"\\(.)", r"\1", quoted_one) if quoted_one else plain for quoted_one, plain in found]


@settings(max_examples=examples(6))
@given(names=st.lists(NAMES, min_size=1, max_size=20, unique=True))
@example(names=[" ", "a b", "100%", "%h", "$HOME", "${x}", 'q"q', "it's", "back\\slash\\", "a:b", ";", "end "])
def test_systemd_reads_the_paths_that_were_written(names: list[str]) -> None:
    paths = [f"/srv/{name}" for name in names]
    service = made(Reach.NONE, Path(paths[0]))
    service = replace(service, command=("/bin/true", *paths), needs=tuple(Path(f"/home/{name}") for name in names))
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        (Path(place) / NAME).write_text(unit(service))
        found = dumped(Path(place))
    assert found["ReadWritePaths"] == [paths[0]]
    assert found["BindReadOnlyPaths"] == [f"/home/{name}:/home/{name}:rbind" for name in names]
    assert words_of(found["Command Line"][0])[:-1] == [
        *("/bin/true", *paths, "run", "--home", paths[0], "--passphrase-file")
    ]


def test_a_path_that_no_line_can_hold_is_refused_in_words() -> None:
    for name in ("a\nExecStart=/bin/false", "a\tb", "a\x7f", "\udcff"):
        with pytest.raises(Usage, match="no systemd unit can name"):
            unit(made(Reach.NONE, Path("/srv") / name))


def test_a_home_that_the_service_would_not_find_again_is_refused() -> None:
    with pytest.raises(Usage, match="move the home"):
        unit(made(Reach.NONE, Path("/tmp/home")))


def test_the_passphrase_is_a_credential_and_nothing_else(folder: Path) -> None:
    text = unit(made(Reach.INTERNET))
    assert "Environment" not in text
    assert "LoadCredentialEncrypted=passphrase:/etc/credstore.encrypted/lucid-node.passphrase\n" in text
    assert "--passphrase-file %d/passphrase\n" in text
    (folder / NAME).write_text(text)
    (line,) = dumped(folder)["Command Line"]
    assert line.endswith("/lucid-node.service/passphrase")
