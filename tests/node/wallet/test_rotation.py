"""Rotation: older sessions keep their keys, what is recorded after it has a key that no older copy yields, and a kill costs nothing."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from consensus.ids import Address, SessionId
from node.exits import Unavailable, Usage
from node.wallet.rotation import GENERATIONS_MAX, rotate
from node.wallet.vault import Secrets, close, open_vault

SESSION = SessionId(b"s" * 32)


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    file = tmp_path / "home" / "vault"
    file.parent.mkdir()
    file.write_bytes(close(Secrets.generate(), None))
    return file


def test_a_rotation_adds_a_key_and_changes_nothing_else(vault: Path) -> None:
    old = open_vault(vault.read_bytes(), None)
    new = rotate(vault, None)
    assert open_vault(vault.read_bytes(), None) == new
    assert (new.identity, new.address) == (old.identity, old.address)
    assert new.session_secret(0, SESSION) == old.session_secret(0, SESSION)
    assert new.session_secret(1, SESSION) != new.session_secret(0, SESSION)
    with pytest.raises(Unavailable):
        old.session_secret(1, SESSION)
    assert vault.stat().st_mode & 0o777 == 0o600


def test_an_account_gets_a_new_key_and_the_former_one_stays(vault: Path) -> None:
    old = open_vault(vault.read_bytes(), None)
    assert b"former" not in vault.read_bytes()  # earlier releases open it
    new = rotate(vault, None, account=True)
    assert open_vault(vault.read_bytes(), None) == new
    assert (new.identity, new.masters) == (old.identity, old.masters)
    assert new.former == (old.account_key,)
    assert new.address not in {old.address, Address(bytes(20))}
    newest = rotate(vault, None, account=True)
    assert newest.former == (old.account_key, new.account_key)
    assert rotate(vault, None).former == newest.former
    vault.write_bytes(close(replace(new, former=(bytes(32),) * GENERATIONS_MAX), None))
    with pytest.raises(Usage, match="takes no more"):
        rotate(vault, None, account=True)


@pytest.mark.component
def test_a_closed_vault_is_rotated_under_its_passphrase_alone(vault: Path) -> None:
    secrets = open_vault(vault.read_bytes(), None)
    vault.write_bytes(close(secrets, b"correct horse"))
    before = vault.read_bytes()
    for wrong in (b"wrong horse", None):
        with pytest.raises(Unavailable):
            rotate(vault, wrong)
        assert vault.read_bytes() == before
    assert rotate(vault, b"correct horse") == open_vault(vault.read_bytes(), b"correct horse")


def test_a_vault_that_is_full_stays_as_it_is(vault: Path) -> None:
    vault.write_bytes(close(Secrets(bytes(32), bytes(32), (bytes(32),) * GENERATIONS_MAX), None))
    with pytest.raises(Usage):
        rotate(vault, None)
    assert len(open_vault(vault.read_bytes(), None).masters) == GENERATIONS_MAX


@pytest.mark.component
def test_a_rotation_killed_at_any_point_leaves_a_vault_that_opens(vault: Path) -> None:
    command = [sys.executable, "-m", "tests.node.wallet.rotation", str(vault)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stdout + done.stderr
    kills, rotated = map(int, done.stdout.split())
    assert kills > 20, "every call of it was a kill point"
    assert rotated >= 1, "some kills came after the replacement"
