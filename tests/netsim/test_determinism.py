"""One seed is one run: in every process, whatever its hash seed, and on every Python we support."""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PLAN = "Plan((Crash(2, 3000, 9000), Cut('x', 4000, (0, 1, 2), (3, 4), 30_000), Churn(0, 60_000, 20_000, 9000, (5, 6))))"
PROGRAM = f"""
from netsim.faults import *
from tests.netsim.toys import digest_of
print(digest_of(7, 12, {PLAN}, 90_000))
"""
SHIM = """
import hashlib

class blake3:
    def __init__(self, data=b""):
        self._hash = hashlib.blake2b(data, digest_size=32)
        self.update, self.digest, self.hexdigest = self._hash.update, self._hash.digest, self._hash.hexdigest

    def copy(self):
        other = blake3()
        other.__dict__.update(vars(self))
        other._hash = self._hash.copy()
        other.update, other.digest, other.hexdigest = other._hash.update, other._hash.digest, other._hash.hexdigest
        return other
"""


def run(python: str, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [python, "-c", PROGRAM],
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.component
def test_the_order_of_sets_in_a_process_decides_nothing() -> None:
    runs = {run(sys.executable, {"PYTHONHASHSEED": seed}) for seed in ("1", "2")}
    assert len(runs) == 1
    assert "'crashes'" in runs.pop()


def others() -> list[Path]:
    found = sorted(Path.home().glob(".pyenv/versions/*/bin/python"))
    return [path for path in found if path.parent.parent.name.startswith(("3.12.", "3.13.", "3.14."))]


@pytest.mark.component
def test_other_versions_of_python_make_the_same_run(tmp_path: Path) -> None:
    """They lack our compiled packages, so BLAKE2 stands in for BLAKE3 on both sides, and keccak is shared (its ABI is stable)."""
    if not others():
        pytest.skip("no CPython 3.12, 3.13 or 3.14 under ~/.pyenv/versions: only this interpreter was tried")
    keccak = find_spec("Crypto")
    assert keccak is not None
    assert keccak.origin is not None
    (tmp_path / "blake3.py").write_text(SHIM)
    (tmp_path / "Crypto").symlink_to(Path(keccak.origin).parent)
    ours = run(sys.executable, {"PYTHONPATH": str(tmp_path)})
    assert ours != run(sys.executable, {})  # the stand-in was used
    for python in others():
        assert run(str(python), {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}) == ours, python
