"""One seed is one run: in every process, whatever its hash seed, and on every Python we support."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.determinism import HASH_SEEDS, TOYS, Trial, interpreters, peers, run

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


THIS = Path(sys.executable)


@pytest.mark.component
def test_the_order_of_sets_in_a_process_decides_nothing() -> None:
    siege = Trial("sybil-flood", 15, 14, {"join_s": 20, "messages": 12, "look_ups": 20})
    lies = Trial("durability", 12, 5 * 24 * 60, {"chunks": 6, "departures": 80, "liars": 20})
    program = TOYS + peers([siege, lies])
    runs = {run(THIS, program, {"PYTHONHASHSEED": seed}) for seed in HASH_SEEDS}
    assert len(runs) == 1
    said = runs.pop()
    assert "'crashes'" in said
    assert "sybil-flood" in said
    assert "durability" in said


@pytest.mark.component
def test_other_versions_of_python_make_the_same_run(tmp_path: Path) -> None:
    """They lack our compiled packages, so BLAKE2 stands in for BLAKE3 on both sides, and keccak is shared (its ABI is stable).

    Only toy machines run without packages: `./lucid determinism` runs the whole peer.
    """
    others = [python for python in interpreters().values() if python != THIS]
    if not others:
        pytest.skip("no other CPython from 3.11 on is on the PATH or under ~/.pyenv: only this interpreter was tried")
    keccak = find_spec("Crypto")
    assert keccak is not None
    assert keccak.origin is not None
    (tmp_path / "blake3.py").write_text(SHIM)
    (tmp_path / "Crypto").symlink_to(Path(keccak.origin).parent)
    ours = run(THIS, TOYS, {"PYTHONPATH": str(tmp_path)})
    assert ours != run(THIS, TOYS, {})  # the stand-in was used
    for python in others:
        assert run(python, TOYS, {"PYTHONPATH": str(tmp_path)}) == ours, python
