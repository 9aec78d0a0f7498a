"""The command line as a contract: exit codes, the sentence, the JSON, and nothing lost whatever is typed (DESIGN §12)."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node.cli import main
from node.config import HOME_VERSION

pytestmark = pytest.mark.component

Typed = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "passphrase"
    file.write_text("correct horse battery staple\n")
    monkeypatch.delenv("LUCID_PASSPHRASE_FILE", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    return file


@pytest.fixture
def typed(tmp_path: Path, passphrase: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Types a command with --json at a home of the test's own: exit code, facts, stderr."""

    def type_it(*words: str | Path) -> tuple[int, dict[str, Any], str]:
        capsys.readouterr()
        code = main(["--home", str(tmp_path / "home"), "--json", *map(str, words)])
        said = capsys.readouterr()
        return code, json.loads(said.out.splitlines()[-1]) if said.out else {}, said.err

    return type_it


@pytest.fixture
def home(typed: Typed, tmp_path: Path) -> Path:
    code, _, _ = typed("init", "--insecure-plaintext-keys")
    assert code == 0
    return tmp_path / "home"


@pytest.fixture
def recorded(home: Path, typed: Typed, tmp_path: Path) -> str:
    """A session of several chunks, all of them raw."""
    (tmp_path / "input").write_bytes(os.urandom(300_000))
    code, facts, _ = typed("record", "--input", tmp_path / "input", "--chunk-bytes", "65536:131072")
    assert code == 0
    assert facts["chunks"] >= 3
    session: str = facts["session"]
    return session


def test_a_recording_is_listed_verified_exported_and_played(
    recorded: str, typed: Typed, tmp_path: Path, home: Path
) -> None:
    _, listed, _ = typed("sessions")
    (row,) = listed["sessions"]
    assert (row["session"], row["state"], row["copies"], row["owed"]) == (recorded, "sealed", 0, 3 * row["chunks"])
    code, asleep, _ = typed("status")
    assert (code, asleep["running"], asleep["sessions"], asleep["replicas_owed"]) == (3, False, 1, row["owed"])
    assert [one["session"] for one in asleep["newest"]] == [recorded]
    code, verdict, _ = typed("verify", recorded[:8])
    assert (code, verdict["valid"], verdict["faults"], verdict["signer_trusted"]) == (0, True, [], False)
    bundle = tmp_path / "bundle.tar"
    assert typed("export", recorded, "--with-chunks", "--out", bundle)[0] == 0
    assert typed("play", recorded, "--out", tmp_path / "out")[0] == 0
    assert (tmp_path / "out").read_bytes() == (tmp_path / "input").read_bytes()
    assert typed("scrub")[1]["valid"]
    alone = subprocess.run(  # a machine without home and keys
        [
            sys.executable,
            "-m",
            "node",
            "--json",
            "verify",
            str(bundle),
            "--signer",
            verdict["signer"],
            "--require",
            "signer",
        ],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    facts = json.loads(alone.stdout.splitlines()[-1])
    assert (alone.returncode, facts["valid"], facts["signer_trusted"]) == (0, True, True)


def test_a_bundle_signed_by_a_stranger_says_so_and_fails_when_the_signer_is_required(
    recorded: str, typed: Typed, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.tar"
    typed("export", recorded, "--out", bundle)
    trusted = "11" * 32
    assert typed("verify", bundle, "--signer", trusted)[0] == 0
    code, verdict, _ = typed("verify", bundle, "--signer", trusted, "--require", "signer")
    assert (code, verdict["valid"], verdict["signer_trusted"]) == (1, True, False)
    for unmet in ("final", "witnessed", "chunks"):
        assert typed("verify", bundle, "--require", unmet)[0] == 1


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "swap"])
def test_damage_to_a_stored_chunk_names_the_chunk(damage: str, recorded: str, typed: Typed, home: Path) -> None:
    from node.sessions.records import load
    from node.store.files import ChunkFiles
    from node.store.reading import read_only

    with read_only(home / "store") as reader:
        kept = load(reader, bytes.fromhex(recorded))  # type: ignore[arg-type]
    assert kept is not None
    files = ChunkFiles(home / "chunks")
    first, second = (files.path(chunk.file) for chunk in kept.chunks[:2])
    match damage:
        case "flip":
            data = bytearray(second.read_bytes())
            data[len(data) // 2] ^= 1
            second.write_bytes(data)
        case "truncate":
            second.write_bytes(second.read_bytes()[:-1])
        case "remove":
            second.unlink()
        case _:
            second.write_bytes(first.read_bytes())
    code, verdict, _ = typed("verify", recorded)
    assert code == 1
    assert [fault["chunk"] for fault in verdict["faults"]] == ["video/1"]
    assert typed("scrub")[0] == 1
    code, _, said = typed("play", recorded, "--out", home / "played")
    assert code == 1
    assert "video/1" in said
    assert not (home / "played").exists()


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["verify", "zzzz"], 2, "neither a file nor"),
        (["verify", "abcdef"], 3, "no session begins with"),
        (["verify", "./gone.tar"], 3, "not there"),
        (["verify", "/"], 2, "folder"),
        (["export", "abcdef", "--out", "x"], 3, "no session begins with"),
        (["play", "abcdef", "--out", "x"], 3, "no session begins with"),
        (["record"], 2, "no display"),
        (["record", "--display", ":4242"], 3, ":4242"),
        (["record", "--input", "/gone"], 3, "/gone"),
        (["record", "--input", "/"], 2, "folder"),
        (["init"], 2, "already"),
        (["keys", "import", "/gone"], 3, "/gone"),
    ],
)
def test_a_mistake_gets_one_sentence_and_its_code(
    words: list[str], code: int, part: str, recorded: str, typed: Typed
) -> None:
    got, facts, said = typed(*words)
    assert got == code
    assert part in said
    assert len(said.strip().splitlines()) == 1
    assert facts["code"] == code


def test_an_empty_input_makes_no_session(home: Path, typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    code, _, said = typed("record", "--input", tmp_path / "empty")
    assert (code, "empty" in said) == (3, True)
    assert typed("sessions")[1]["sessions"] == []


def test_usage_errors_exit_2(home: Path) -> None:
    for words in (["nonsense"], [], ["record", "--fps", "0"], ["record", "--duration", "soon"], ["verify"], ["keys"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2


def test_a_home_written_by_a_newer_version_is_left_alone(recorded: str, typed: Typed, home: Path) -> None:
    (home / "version").write_text(f"{HOME_VERSION + 1}\n")
    for words in (["sessions"], ["verify", recorded], ["record", "--input", "/dev/zero"], ["recover"], ["scrub"]):
        code, _, said = typed(*words)
        assert (code, "newer" in said) == (2, True)


def test_every_error_in_the_settings_is_named_at_once(home: Path, typed: Typed, tmp_path: Path) -> None:
    (home / "config.toml").write_text("[record]\nfps = 900\ncolour = 1\n[attic]\nx = 1\n[store]\nquota_gb = 'much'\n")
    code, _, said = typed("record", "--input", tmp_path / "x")
    assert code == 2
    for part in ("record.fps", "record.colour", "[attic]", "store.quota_gb"):
        assert part in said


def test_a_closed_vault_opens_with_its_passphrase_only(
    tmp_path: Path, passphrase: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, wrong = str(tmp_path / "closed"), tmp_path / "wrong"
    wrong.write_text("something else entirely\n")
    assert main(["--home", home, "--passphrase-file", str(passphrase), "init"]) == 0
    (tmp_path / "input").write_bytes(os.urandom(5000))
    said: dict[Path | None, str] = {}
    codes = {}
    for file in (wrong, None, passphrase):
        given = ["--passphrase-file", str(file)] if file else []
        codes[file] = main(["--home", home, *given, "record", "--input", str(tmp_path / "input")])
        said[file] = capsys.readouterr().err
    assert codes == {wrong: 3, None: 2, passphrase: 0}
    assert "wrong" in said[wrong]
    assert "--passphrase-file" in said[None]
    vault = (tmp_path / "closed" / "vault").read_bytes()
    assert b"none" not in vault


def test_exported_keys_play_a_recording_on_another_machine(
    recorded: str, typed: Typed, tmp_path: Path, passphrase: Path, home: Path
) -> None:
    saved = tmp_path / "keys"
    assert typed("keys", "export", "--out", saved, "--passphrase-file", passphrase)[0] == 0
    assert typed("keys", "export", "--out", saved, "--passphrase-file", passphrase)[0] == 2
    other = tmp_path / "other"
    words = ["--home", str(other), "--passphrase-file", str(passphrase)]
    assert main([*words, "keys", "import", str(saved)]) == 0
    for part in ("store", "chunks"):
        os.rename(home / part, other / part)
    assert main([*words, "play", recorded, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").read_bytes() == (tmp_path / "input").read_bytes()


def test_a_second_recorder_on_one_home_is_refused_and_reading_works_beside_the_first(
    home: Path, typed: Typed, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "node", "--home", str(home), "record", "--input", str(pipe)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as first:
        with open(pipe, "wb", buffering=0) as writing:
            writing.write(b"some bytes")
            assert first.stdout is not None
            assert "Recording session" in first.stdout.readline()
            (tmp_path / "input").write_bytes(b"x" * 100)
            code, _, said = typed("record", "--input", tmp_path / "input")
            assert (code, f"process {first.pid}" in said) == (3, True)
            _, listed, _ = typed("sessions")
            (row,) = listed["sessions"]
            assert row["state"] == "open"
            assert typed("verify", row["session"])[0] == 3
        assert first.wait(30) == 0
    assert typed("verify", row["session"])[0] == 0


def test_a_damaged_store_is_a_fault_and_no_traceback(recorded: str, typed: Typed, home: Path) -> None:
    """Every page of the records overwritten in turn: each command says something sensible."""
    whole = (home / "store" / "data.mdb").read_bytes()
    page = 4096
    for start in range(0, len(whole), page):
        if not any(whole[start : start + page]):
            continue
        (home / "store" / "data.mdb").write_bytes(whole[:start] + b"\xa5" * page + whole[start + page :])
        probe = f"from node.cli import main; import sys; sys.exit(main(['--home', {str(home)!r}, '--json', 'verify', {recorded!r}]))"
        done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode != 0 or json.loads(done.stdout.splitlines()[-1])["valid"]


def test_local_commands_start_without_trio(recorded: str, home: Path) -> None:
    probe = (
        "import sys; from node.cli import main; "
        f"code = main(['--home', {str(home)!r}, '--json', 'verify', {recorded!r}]); "
        "assert not {'trio', 'Xlib', 'asyncio'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "settings",
    [
        'rpc_reader = "{}"',
        'rpc_reader = "{}"\nrpc = "127.0.0.1:8545"\n[tor]\nmode = "external"\nsocks = "127.0.0.1:9050"\nonion = "{}.onion:4001"',
    ],
)
def test_a_reader_without_a_server_or_a_tor_of_ours_is_refused(settings: str, home: Path, typed: Typed) -> None:
    (home / "config.toml").write_text("[network]\n" + settings.format("A" * 52, "a" * 56))
    code, _, said = typed("run")
    assert code == 2
    assert "network.rpc_reader" in said
