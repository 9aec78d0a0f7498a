"""label, note and hold as commands: said with and without a daemon, shown by `sessions`, and a hold is kept by all that deletes."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from consensus.ids import Millis, SessionId
from node.config import Config, Home
from node.control.annotating import Annotating
from node.control.server import Control
from node.keys import unlock
from node.sessions.annotations import Annotations
from node.sessions.desk import OpenHome, opened
from node.sessions.records import load_one
from node.store import Delete, Held
from tests.node.test_cli import Typed, home, passphrase, recorded, typed

__all__ = ["home", "passphrase", "recorded", "typed"]
pytestmark = pytest.mark.component


@asynccontextmanager
async def daemon(home: Path) -> AsyncIterator[OpenHome]:
    """The part of one that takes down what is said."""
    secrets = unlock(Home(home), None)
    async with opened(Home(home), Config(), secrets) as desk, trio.open_nursery() as nursery:
        control = Control(home)
        annotations = Annotations(desk.store, desk.chunks, secrets)
        Annotating(desk.store, annotations, lambda: Millis(7)).offer(control)
        await nursery.start(control.serve)
        yield desk
        nursery.cancel_scope.cancel()


def test_what_is_said_is_listed(recorded: str, typed: Typed) -> None:
    (row,) = typed("sessions")[1]["sessions"]
    assert (row["label"], row["notes"], row["holds"], row["legal_hold"]) == ("", [], [], False)
    code, facts, _ = typed("label", recorded[:8], "the émigré's")
    assert (code, facts["changed"], facts["label"]) == (0, True, "the émigré's")
    assert typed("label", recorded[:8], "the émigré's")[1]["changed"] is False
    assert typed("note", recorded[:8], "looks odd")[0] == 0
    code, facts, _ = typed("hold", recorded[:8], "--reason", "case 7")
    assert (code, facts["changed"], facts["legal_hold"]) == (0, True, True)
    assert typed("hold", recorded[:8], "--reason", "case 7")[1]["changed"] is False
    _, listed, _ = typed("sessions")
    (row,) = listed["sessions"]
    assert listed["annotations_shown"]
    assert (row["session"], row["state"], row["label"]) == (recorded, "sealed", "the émigré's")
    assert [note["text"] for note in row["notes"]] == ["looks odd"]
    assert ([hold["reason"] for hold in row["holds"]], row["legal_hold"]) == (["case 7"], True)
    assert typed("hold", recorded[:8], "--release")[1]["legal_hold"] is False
    assert typed("label", recorded[:8], "")[1]["label"] == ""
    (row,) = typed("sessions")[1]["sessions"]
    assert (row["label"], row["holds"], row["legal_hold"], len(row["notes"])) == ("", [], False, 1)


async def test_a_daemon_takes_down_what_is_said_and_tells_it(recorded: str, home: Path) -> None:
    async def type_it(*words: str) -> dict[str, object]:
        """In a process of its own: LMDB opens a store once in each."""
        command = [sys.executable, "-m", "node", "--home", str(home), "--json", *words]
        done = await trio.run_process(command, capture_stdout=True)
        facts: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        return facts

    async with daemon(home):
        assert (await type_it("label", recorded[:8], "by the daemon"))["label"] == "by the daemon"
        await type_it("hold", recorded[:8])
        told = await type_it("sessions")
    assert told == await type_it("sessions"), "with and without a daemon"
    assert json.dumps(told).count("by the daemon") == 1


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("label", "zz", "x"), 2, "not the beginning of a session id"),
        (("label", "beef", "x"), 3, "no session begins with beef"),
        (("note", "RECORDED", ""), 2, "1 to 2000 characters"),
        (("label", "RECORDED", "x" * 2001), 2, "2000 characters"),
        (("hold", "RECORDED", "--reason", "bell \a"), 2, "no control characters"),
    ],
)
def test_what_cannot_be_said_changes_nothing(
    words: tuple[str, ...], code: int, sentence: str, recorded: str, typed: Typed
) -> None:
    found = typed(*(recorded if word == "RECORDED" else word for word in words))
    assert found[0] == code
    assert sentence in found[2]
    (row,) = typed("sessions")[1]["sessions"]
    assert (row["label"], row["notes"], row["holds"]) == ("", [], [])


def test_without_the_passphrase_a_hold_is_known_and_words_are_not(
    typed: Typed, tmp_path: Path, passphrase: Path
) -> None:
    opens = ("--passphrase-file", passphrase)
    typed("init", *opens)
    (tmp_path / "input").write_bytes(b"frame")
    session = typed("record", "--input", tmp_path / "input", *opens)[1]["session"]
    assert typed("sessions")[1]["annotations_shown"]
    typed("label", session, "secret", *opens)
    typed("hold", session, *opens)
    code, listed, _ = typed("sessions")
    (row,) = listed["sessions"]
    assert (code, listed["annotations_shown"], row["legal_hold"], row["label"]) == (0, False, True, None)
    assert typed("sessions", *opens)[1]["sessions"][0]["label"] == "secret"
    assert b"secret" not in (tmp_path / "home" / "store" / "data.mdb").read_bytes()


async def test_nothing_deletes_the_chunks_of_a_session_on_hold(recorded: str, typed: Typed, home: Path) -> None:
    """Not even a sweep that finds no record of them, and not by anyone without keys."""
    await trio.to_thread.run_sync(typed, "hold", recorded)
    session = SessionId(bytes.fromhex(recorded))
    async with daemon(home) as desk:
        kept = await load_one(desk.store, session)
        assert kept is not None
        files = [chunk.file for chunk in kept.chunks]
        for file in files:
            with pytest.raises(Held):
                desk.chunks.delete(file)
        await desk.store.commit([Delete("files", (file,)) for file in files])
    async with daemon(home) as desk:
        assert all(desk.chunks.has(file) for file in files)
        await trio.to_thread.run_sync(typed, "hold", recorded, "--release")
        desk.chunks.delete(files[0])
        assert not desk.chunks.has(files[0])
