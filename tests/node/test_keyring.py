"""keys rotate and drill as commands: what an export is worth is known before the disk is lost."""

import base64
import os
from pathlib import Path

import pytest
import trio

from node.cli import main
from node.control.server import Control
from node.sessions.records import load
from node.store.files import ChunkFiles
from node.store.reading import read_only
from node.tor.onion import reader_key
from tests.node.test_cli import Typed, home, passphrase, recorded, typed

__all__ = ["home", "passphrase", "recorded", "typed"]
pytestmark = pytest.mark.component


def findings(typed: Typed) -> dict[str, str]:
    """What doctor says of the drill, whatever else this machine lacks."""
    _, facts, _ = typed("doctor")
    assert "restore drill" in facts["checked"]
    return {one["check"]: one["mend"] for one in facts["findings"] if one["check"] == "restore drill"}


def test_an_export_is_tried_and_outdated_by_a_rotation(
    recorded: str, typed: Typed, tmp_path: Path, passphrase: Path, home: Path
) -> None:
    with_phrase = ("--export-passphrase-file", passphrase)
    assert "was ever tried" in findings(typed)["restore drill"]
    assert typed("keys", "export", "--out", tmp_path / "old", *with_phrase)[0] == 0
    code, facts, _ = typed("keys", "drill", "--from", tmp_path / "old", *with_phrase)
    assert (code, facts["ok"]) == (0, True)
    found = facts["drill"]
    assert (found["generations"], found["sessions"], found["opened"], found["faults"]) == (1, 1, 1, [])
    assert findings(typed) == {}
    assert typed("doctor")[1]["drill"] == found

    code, facts, _ = typed("keys", "rotate")
    assert (code, facts["generations"]) == (0, 2)
    assert findings(typed) == {}, "nothing was recorded under the new key yet"
    code, facts, _ = typed("record", "--input", tmp_path / "input")
    assert code == 0
    assert "newer key" in findings(typed)["restore drill"]
    code, facts, _ = typed("keys", "drill", "--from", tmp_path / "old", *with_phrase)
    assert code == 1
    assert len(facts["drill"]["faults"]) == 2, "the export is behind the vault, and lacks the second session's key"
    assert "failed" in findings(typed)["restore drill"]

    assert typed("keys", "export", "--out", tmp_path / "new", *with_phrase)[0] == 0
    code, facts, _ = typed("keys", "drill", "--from", tmp_path / "new", *with_phrase)
    assert (code, facts["drill"]["sessions"], facts["drill"]["opened"]) == (0, 2, 2)
    assert findings(typed) == {}
    for session in (row["session"] for row in typed("sessions")[1]["sessions"]):
        assert typed("play", session, "--out", tmp_path / session)[0] == 0
        assert (tmp_path / session).read_bytes() == (tmp_path / "input").read_bytes()


def test_a_drill_finds_another_nodes_keys_and_chunks_that_do_not_open(
    recorded: str, typed: Typed, tmp_path: Path, passphrase: Path, home: Path
) -> None:
    other = ["--home", str(tmp_path / "other")]
    assert main([*other, "init", "--insecure-plaintext-keys"]) == 0
    assert (
        main([*other, "--passphrase-file", str(passphrase), "keys", "export", "--out", str(tmp_path / "theirs")]) == 0
    )
    code, facts, _ = typed("keys", "drill", "--from", tmp_path / "theirs", "--export-passphrase-file", passphrase)
    assert (code, facts["drill"]["sessions"]) == (1, 0)
    assert all(part in str(facts["drill"]["faults"]) for part in ("identity", "account", "master", "another key"))

    with read_only(home / "store") as reader:
        kept = load(reader, bytes.fromhex(recorded))  # type: ignore[arg-type]
    assert kept is not None
    files = ChunkFiles(home / "chunks")
    typed("keys", "export", "--out", tmp_path / "ours", "--export-passphrase-file", passphrase)
    drill = ("keys", "drill", "--from", tmp_path / "ours", "--export-passphrase-file", passphrase)
    files.path(kept.chunks[0].file).write_bytes(os.urandom(100))
    code, facts, _ = typed(*drill)
    assert (code, facts["drill"]["sessions"], facts["drill"]["opened"]) == (1, 1, 0)
    assert "video/0" in facts["drill"]["faults"][0]
    files.path(kept.chunks[0].file).unlink()
    code, facts, _ = typed(*drill)
    assert (code, facts["drill"]["opened"]) == (0, 1), "the next chunk that is here"


@pytest.mark.parametrize(("words", "code"), [(["/gone"], 3), (["/"], 3), ([__file__], 2)])
def test_a_drill_of_what_is_no_export_is_refused(words: list[str], code: int, home: Path, typed: Typed) -> None:
    assert typed("keys", "drill", "--from", *words)[0] == code
    assert not (home / "drill").exists()


async def test_keys_are_not_rotated_under_a_running_node(home: Path, typed: Typed) -> None:
    before = (home / "vault").read_bytes()
    async with trio.open_nursery() as nursery:
        await nursery.start(Control(home).serve)
        code, _, said = await trio.to_thread.run_sync(typed, "keys", "rotate")
        nursery.cancel_scope.cancel()
    assert (code, "stop it" in said) == (3, True)
    assert (home / "vault").read_bytes() == before


def test_a_reader_of_an_onion_is_made_and_kept_nowhere(home: Path, typed: Typed) -> None:
    before = sorted(home.iterdir()) if home.exists() else []
    code, made, _ = typed("keys", "reader")
    secret = base64.b32decode(made["secret"] + "====")
    assert (code, made["key"]) == (0, reader_key(secret))
    assert (sorted(home.iterdir()) if home.exists() else []) == before
    assert typed("keys", "reader")[1] != made
