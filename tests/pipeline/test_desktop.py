import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import trio

from pipeline.audit import screen_size
from pipeline.child import child
from pipeline.desktop import NoDisplay, virtual_display

LIMIT_S = 20


@pytest.mark.system
async def test_a_desktop_is_reachable_by_us_alone_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.environ.get("XAUTHORITY")
    with trio.fail_after(LIMIT_S):
        async with virtual_display(320, 240) as first, virtual_display(200, 100) as second:
            assert first != second
            assert await trio.to_thread.run_sync(screen_size, first) == (320, 240)
            assert await trio.to_thread.run_sync(screen_size, second) == (200, 100)
            door = Path(f"/tmp/.X11-unix/X{first[1:]}")
            assert door.exists()
            with monkeypatch.context() as stranger:
                stranger.setenv("XAUTHORITY", os.devnull)
                with pytest.raises(NoDisplay, match=f"display {first} cannot be opened"):
                    await trio.to_thread.run_sync(screen_size, first)
            with trio.socket.socket() as plain, pytest.raises(ConnectionRefusedError):
                await plain.connect(("127.0.0.1", 6000 + int(first[1:])))
    assert os.environ.get("XAUTHORITY") == before
    assert not door.exists()


@pytest.mark.component
async def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(NoDisplay, match="Xvfb did not start: Unrecognized option: -nonsense"):
        async with virtual_display(320, 240, options=["-nonsense"]):
            pytest.fail("no desktop should open")


@pytest.mark.component
async def test_a_missing_server_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoDisplay, match="Xvfb is not installed: apt-get install xvfb"):
        async with virtual_display(320, 240):
            pytest.fail("no desktop should open")


PARENT = """
import trio
from pipeline.child import child
async def main():
    async with child(["sleep", "600"]) as sleeper:
        print(sleeper.pid, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


@pytest.mark.component
async def test_a_child_dies_with_a_parent_that_is_killed() -> None:
    reading, writing = os.pipe()
    with trio.fail_after(LIMIT_S):
        async with (
            trio.lowlevel.FdStream(reading) as pids,
            child([sys.executable, "-c", PARENT], stdout=writing) as parent,
        ):
            os.close(writing)
            said = b""
            while not said.endswith(b"\n"):
                said += await pids.receive_some(32)
            sleeper = os.pidfd_open(int(said))
            while Path(f"/proc/{int(said)}/comm").read_text() != "sleep\n":  # before, nothing ties it to its parent
                await trio.sleep(0.01)
            parent.signal(signal.SIGKILL)
            await trio.lowlevel.wait_readable(sleeper)
            os.close(sleeper)


@pytest.mark.component
async def test_a_child_that_ignores_its_ending_is_killed() -> None:
    shell = shutil.which("sh")
    assert shell is not None
    reading, writing = os.pipe()
    script = 'trap "" TERM; echo ready; while :; do read line; sleep 1; done'
    with trio.fail_after(LIMIT_S):
        async with trio.lowlevel.FdStream(reading) as said:
            async with child([shell, "-c", script], stdout=writing, ending=signal.SIGTERM) as deaf:
                os.close(writing)
                assert await said.receive_some(32) == b"ready\n"
            assert deaf.process.returncode == -signal.SIGKILL
