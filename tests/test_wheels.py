"""The lock files, and what is known of the wheels they name."""

import re
import tomllib

from tests.wheels import ROOT, digest, pins, recorded

RUN, DEV, ORACLE = (
    (ROOT / name).read_text()
    for name in ("requirements.lock", "requirements-dev.lock", "tests/oracle/requirements.lock")
)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=~! ;\[]", requirement, maxsplit=1)[0] for requirement in requirements}


def test_a_lock_lists_pins_with_hashes_and_no_index() -> None:
    for lock in (RUN, DEV, ORACLE):
        assert "://" not in lock
        assert not re.search(r"^\s*-(?!-hash=sha256:)", lock, flags=re.MULTILINE)
        entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
        assert len(entries) == len(pins(lock)) > 0
        assert all("--hash=sha256:" in entry for entry in entries)


def test_the_development_lock_adds_to_the_other_and_changes_nothing() -> None:
    assert pins(RUN).items() < pins(DEV).items()


def test_what_the_project_asks_for_is_locked() -> None:
    extras = PROJECT["optional-dependencies"]
    assert names(PROJECT["dependencies"]) | names(extras["build"]) <= pins(RUN).keys()
    assert names(extras["dev"]) <= pins(DEV).keys()
    assert names(PYPROJECT["dependency-groups"]["oracle"]) <= pins(ORACLE).keys()


def test_the_record_of_wheels_is_about_the_present_pins() -> None:
    found = recorded()
    assert found["pins"] == digest(RUN), (
        "the dependencies changed since the last ./lucid audit: run it and commit what it says"
    )
    assert isinstance(found["missing"], list)
    assert set(found["missing"]) <= pins(RUN).keys()
