"""The artefacts are what the pinned compiler makes of the sources, byte for byte, and calls cost what is committed."""

import hashlib
import json
from pathlib import Path

import pytest

from node.chain.genesis import PLACES
from tests.contracts.compiler import BUILT, GAS, PACKAGES, SOURCES, compile_into
from tests.contracts.gas import measured

pytestmark = pytest.mark.component

CODE_BYTES_MAX = 24_576  # EIP-170


def test_the_artefacts_are_those_of_the_sources(tmp_path: Path) -> None:
    made = compile_into(tmp_path)
    assert {file.name for file in made} == {file.name for file in BUILT.glob("*.json")}
    for file in made:
        assert file.read_bytes() == (BUILT / file.name).read_bytes(), f"./lucid contracts writes {file.name}"


def test_an_artefact_says_what_it_was_made_of() -> None:
    for file in sorted(BUILT.glob("*.json")):
        found = json.loads(file.read_text())
        assert found["contract"] == file.stem
        assert found["contract"] in PLACES
        assert found["settings"]["evmVersion"] == "prague"
        assert 0 < len(found["code"]) // 2 <= CODE_BYTES_MAX
        for name, digest in found["sources"].items():
            path = SOURCES / name[4:] if name.startswith("src/") else PACKAGES / "node_modules" / name
            assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_calls_cost_what_is_committed() -> None:
    assert measured() == json.loads(GAS.read_text()), "./lucid contracts writes what they cost now"
