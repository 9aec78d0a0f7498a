"""The private network with real tors: onions are published, found and dialled, and nothing outlives its owner."""

import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from node.tor import network
from node.tor.control import COLLISION, TorControl, TorRefusal, open_control
from node.tor.network import NoTorNetwork, TorNetwork, tor_network
from node.tor.onion import Onion, reader_key
from node.tor.socks import DialFailed, dial_onion
from tests.node.tor.conftest import PrivateTor
from tests.node.tor.echo import echo_at, echoed

pytestmark = pytest.mark.component


@asynccontextmanager
async def published(control: TorControl, target: Path, *, readers: Sequence[str] = ()) -> AsyncIterator[Onion]:
    async with control.events("HS_DESC") as events:
        onion = await control.add_onion(secrets.token_bytes(32), {80: target}, readers=readers, streams_max=100)
        uploads = 0
        with trio.fail_after(60):
            async for event in events:
                uploads += event.words[:2] == ["UPLOADED", onion]
                if uploads == 4:
                    break
    yield onion
    await control.del_onion(onion)


async def reached(socks: Path, onion: Onion, isolation: str) -> trio.SocketStream:
    """A stream, dialled again while what was published a moment ago is not found: the tors of a busy machine are late."""
    with trio.fail_after(60):
        while True:
            try:
                return await dial_onion(socks, onion, 80, isolation)
            except DialFailed as failed:
                if not failed.retry:
                    raise
            await trio.sleep(1)


async def test_an_onion_is_published_and_dialled_and_its_bytes_come_back(private_tor: PrivateTor) -> None:
    async with echo_at(private_tor.folder / "b1") as target, open_control(private_tor.controls[0]) as control:
        async with published(control, target) as onion:
            async with await reached(private_tor.socks[1], onion, "a") as stream:
                assert await echoed(stream) == b"hello"
                async with await reached(private_tor.socks[0], onion, "hairpin") as own:
                    assert await echoed(own) == b"hello"
                with pytest.raises(DialFailed) as failed:
                    await dial_onion(private_tor.socks[1], onion, 81, "a")
                assert failed.value.code == 5


async def test_an_onion_with_readers_opens_for_their_key_alone(private_tor: PrivateTor) -> None:
    ours, others = secrets.token_bytes(32), secrets.token_bytes(32)
    async with (
        echo_at(private_tor.folder / "b2") as target,
        open_control(private_tor.controls[0]) as control,
        open_control(private_tor.controls[1]) as reader,
        published(control, target, readers=[reader_key(ours), reader_key(secrets.token_bytes(32))]) as onion,
    ):
        with pytest.raises(DialFailed) as failed:
            await dial_onion(private_tor.socks[1], onion, 80, "b")
        assert (failed.value.code, failed.value.retry) == (0xF4, False)
        await reader.add_reader(onion, others)
        with pytest.raises(DialFailed) as failed:
            await dial_onion(private_tor.socks[1], onion, 80, "b")
        assert (failed.value.code, failed.value.retry) == (0xF5, False)
        await reader.add_reader(onion, ours)
        async with await reached(private_tor.socks[1], onion, "b") as stream:
            assert await echoed(stream) == b"hello"


async def test_an_onion_is_tied_to_its_connection(private_tor: PrivateTor) -> None:
    seed, target = secrets.token_bytes(32), private_tor.folder / "b3"
    async with open_control(private_tor.controls[0]) as first, open_control(private_tor.controls[0]) as second:
        onion = await first.add_onion(seed, {80: target})
        with pytest.raises(TorRefusal) as refused:
            await second.add_onion(seed, {80: target})
        assert refused.value.code == COLLISION
        with pytest.raises(TorRefusal, match="552"):
            await second.del_onion(onion)
        assert onion in await first.info("onions/current")
    async with open_control(private_tor.controls[0]) as third:
        with pytest.raises(TorRefusal):
            await third.del_onion(onion)
        assert await third.add_onion(seed, {80: target}) == onion


async def test_what_is_no_onion_never_leaves_tor(private_tor: PrivateTor) -> None:
    stranger = Onion("example.com.onion.of.nobody")
    with pytest.raises(DialFailed) as failed:
        await dial_onion(private_tor.socks[0], stranger, 80, "x")
    assert failed.value.code in {2, 0xF6}


def tors_of(folder: Path) -> list[int]:
    """The pids of the tors whose torrc lies in that folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] == b"tor" and any(word.startswith(bytes(folder) + b"/") for word in words):
            found.append(int(entry.name))
    return found


async def test_no_tor_outlives_the_process_that_made_it() -> None:
    with tempfile.TemporaryDirectory(prefix="tn") as place:
        folder = Path(place)
        command = [sys.executable, "-P", "-m", "node.tor.network", place, "--relays", "3"]
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert running.stdout is not None
        said = json.loads(await trio.to_thread.run_sync(running.stdout.readline))
        running.stdout.close()
        assert said["torrc"].startswith("TestingTorNetwork 1\n")
        assert len(tors_of(folder)) == 4
        running.kill()
        await trio.to_thread.run_sync(running.wait)
        with trio.fail_after(20):
            while tors_of(folder):
                await trio.sleep(0.02)  # nothing tells of the end of another's children


async def test_a_network_that_was_there_is_that_network_again() -> None:
    with tempfile.TemporaryDirectory(prefix="tn") as place:
        folder = Path(place)
        first = await torrc_of(folder)
        assert not tors_of(folder)
        assert await torrc_of(folder) == first


async def torrc_of(folder: Path) -> str:
    async with tor_network(folder, relays=3) as net:
        client = await net.client(0)
        assert client is await net.client(0)
        assert len(tors_of(folder)) == 5
        await net.stop(client)
        await net.start(client)
        async with open_control(client.control) as control:
            assert (await control.bootstrap())["PROGRESS"] == "100"
        return net.torrc


async def test_a_missed_vote_begins_anew_with_keys_alone_and_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    leads: list[float] = []

    async def begin(net: TorNetwork) -> None:
        leads.append(net.lead_s)
        assert {path.name for path in net.relays[0].folder.iterdir()} <= {"keys"}
        (net.relays[0].folder / "keys").mkdir(exist_ok=True)
        (net.relays[0].folder / "cached-consensus").write_text("without us")
        if len(leads) < 3:
            raise network._MissedVote

    monkeypatch.setattr(TorNetwork, "begin", begin)
    with tempfile.TemporaryDirectory(prefix="tn") as place:
        async with tor_network(Path(place), lead_s=4.0):
            assert leads == [4.0, 8.0, 12.0]
    leads.clear()
    monkeypatch.setattr(network, "_ATTEMPTS", 2)
    with tempfile.TemporaryDirectory(prefix="tn") as place:
        with pytest.raises(NoTorNetwork, match=r"missed by a relay 2 times.*too busy"):
            async with tor_network(Path(place), lead_s=4.0):
                pass


async def test_a_folder_too_deep_for_sockets_and_a_missing_tor_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NoTorNetwork, match="shorter"):
        async with tor_network(tmp_path / ("a" * 90)):
            pass
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoTorNetwork, match="apt-get install tor"):
        async with tor_network(tmp_path):
            pass
