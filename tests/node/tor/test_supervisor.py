"""The supervisor against a control port that says what a test wants: every state has its reason, and what ends is begun anew."""

import base64
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from node.tor.interface import ManagedTor, OnionService, SystemTor, Tor, TorLimits, TorOutdated, TorState, TorStatus
from node.tor.onion import Onion, expand, onion_of
from node.tor.socks import DialFailed
from node.tor.supervisor import open_tor
from tests.node.tor.faketor import FakeTor, fake_tor

NOWHERE = Path("/nonexistent/backend")


class Script:
    """A tor that is in the network, takes every onion and tells of four uploads, unless a test changes it."""

    def __init__(self, seeds: list[bytes]) -> None:
        self.version = "0.4.9.11"
        self.phase = 'NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="Done"'
        self.frozen = False
        self.owed: list[str] = []
        self.uploads = 4
        self.collisions = 0
        self.held: set[Onion] = set()
        self.keys = {base64.b64encode(expand(seed)).decode(): onion_of(seed) for seed in seeds}

    def __call__(self, line: str) -> bytes | None:
        if self.frozen:
            self.owed.append(line)
            return None
        match line.split():
            case ["GETINFO", "version"]:
                return f"250-version={self.version}\r\n250 OK\r\n".encode()
            case ["GETINFO", "status/bootstrap-phase"]:
                return f"250-status/bootstrap-phase={self.phase}\r\n250 OK\r\n".encode()
            case ["GETINFO", "network-liveness"]:
                return b"250-network-liveness=up\r\n250 OK\r\n"
            case ["GETINFO", "onions/current"]:
                return f"250+onions/current=\r\n{chr(10).join(self.held)}\r\n.\r\n250 OK\r\n".encode()
            case ["ADD_ONION", key, *_]:
                return self.add(self.keys[key.removeprefix("ED25519-V3:")])
            case ["DEL_ONION", onion]:
                self.held.discard(Onion(onion))
                return b"250 OK\r\n"
            case _:
                return b"250 OK\r\n"

    def add(self, onion: Onion) -> bytes:
        if self.collisions:
            self.collisions -= 1
            return b"550 Onion address collision\r\n"
        self.held.add(onion)
        told = f"650 HS_DESC UPLOADED {onion} UNKNOWN $A~a\r\n" * self.uploads
        return f"250-ServiceID={onion}\r\n250 OK\r\n{told}".encode()


@asynccontextmanager
async def scripted(
    seeds: list[bytes], limits: TorLimits | None = None, change: Callable[[Script], None] = lambda script: None
) -> AsyncIterator[tuple[Tor, FakeTor, Script]]:
    with tempfile.TemporaryDirectory(prefix="sv") as place:
        async with fake_tor(Path(place)) as fake:
            script = Script(seeds)
            change(script)
            fake.answer = script
            async with open_tor(SystemTor(fake.control, Path(place, "no socks")), limits) as tor:
                yield tor, fake, script


async def until(tor: Tor, holds: Callable[[TorStatus], bool]) -> TorStatus:
    """The first status of that kind, the present one included."""
    status = tor.status()
    with trio.fail_after(10_000):  # of the test's own clock
        while not holds(status):
            status = await tor.changed(status)
    return status


def sent(fake: FakeTor, verb: str) -> int:
    return sum(line.startswith(verb) for line in fake.lines)


@pytest.mark.parametrize("allowed", [False, True])
async def test_a_public_network_is_refused_with_an_old_tor_unless_that_is_allowed(
    allowed: bool, autojump_clock: trio.testing.MockClock
) -> None:
    def old(script: Script) -> None:
        script.version = "0.4.8.10 (git-0000)"

    if allowed:
        async with scripted([], TorLimits(allow_outdated=True), old) as (tor, _, _):
            status = await until(tor, lambda status: status.state is TorState.UP)
            assert status == TorStatus(TorState.UP, "", 100, "0.4.8.10", ())
        return
    with pytest.raises(TorOutdated, match=r"0\.4\.8\.10.*0\.4\.9\.11.*upgrade tor"):
        async with scripted([], None, old) as (_, fake, _):
            await trio.sleep_forever()
    assert sent(fake, "ADD_ONION") == 0


async def test_the_way_into_the_network_is_told_with_what_tor_warns_of(autojump_clock: trio.testing.MockClock) -> None:
    def lost(script: Script) -> None:
        script.phase = 'NOTICE BOOTSTRAP PROGRESS=10 TAG=conn_done SUMMARY="Connected to a relay"'

    seed = secrets.token_bytes(32)
    async with scripted([seed], None, lost) as (tor, fake, _), trio.open_nursery() as nursery:
        status = await until(tor, lambda status: status.state is TorState.BOOTSTRAPPING)
        assert (status.reason, status.progress) == ("Connected to a relay (conn_done)", 10)
        nursery.start_soon(tor.serve, OnionService(seed, {80: NOWHERE}))
        await fake.say(
            b'650 STATUS_CLIENT WARN BOOTSTRAP PROGRESS=14 TAG=handshake SUMMARY="Handshaking" WARNING="Clock skew" COUNT=3\r\n'
        )
        status = await until(tor, lambda status: status.progress == 14)
        assert "Handshaking (handshake): Clock skew; look at" in status.reason
        assert sent(fake, "ADD_ONION") == 0
        await fake.say(b'650 STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="Done"\r\n')
        status = await until(tor, lambda status: status.state is TorState.UP)
        assert status.onions == (onion_of(seed),)


async def test_a_lost_control_connection_is_down_until_the_next_has_published_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seed = secrets.token_bytes(32)
    async with scripted([seed]) as (tor, fake, script):
        onion = await tor.serve(OnionService(seed, {80: NOWHERE}))
        script.frozen = True  # so that the next session stays where it is
        await fake.hang_up()
        status = await until(tor, lambda status: status.state is TorState.DOWN)
        assert (status.onions, status.reason) == ((), "tor closed the control connection")
        script.frozen = False
        status = await until(tor, lambda status: status.state is TorState.UP)
        assert status.onions == (onion,)
        assert sent(fake, "ADD_ONION") == 2


async def test_a_frozen_tor_is_degraded_and_recovers_when_it_answers(autojump_clock: trio.testing.MockClock) -> None:
    seed = secrets.token_bytes(32)
    async with scripted([seed], TorLimits(silences=2)) as (tor, fake, script):
        onion = await tor.serve(OnionService(seed, {80: NOWHERE}))
        script.frozen = True
        status = await until(tor, lambda status: status.state is TorState.DEGRADED)
        assert "tor does not answer" in status.reason
        assert status.onions == (onion,)
        await trio.sleep(1000)  # not ours to kill
        assert tor.status() == status
        script.frozen = False
        for line in script.owed:
            await fake.say(script(line) or b"")
        assert (await until(tor, lambda status: status.state is TorState.UP)).onions == (onion,)
        assert sent(fake, "ADD_ONION") == 1


async def test_no_more_than_ten_onions_are_published_at_a_time(autojump_clock: trio.testing.MockClock) -> None:
    seeds = [secrets.token_bytes(32) for _ in range(25)]

    def silent(script: Script) -> None:
        script.uploads = 0

    async with scripted(seeds, None, silent) as (tor, fake, script), trio.open_nursery() as nursery:
        await until(tor, lambda status: status.state is TorState.UP)
        for seed in seeds:
            nursery.start_soon(tor.serve, OnionService(seed, {80: NOWHERE}))
        await trio.sleep(1)
        assert (tor.status().state, sent(fake, "ADD_ONION")) == (TorState.PUBLISHING, 10)
        for onion in list(script.held):
            await fake.say(f"650 HS_DESC UPLOADED {onion} UNKNOWN $A~a\r\n".encode() * 4)
        await trio.sleep(1)
        assert (len(tor.status().onions), sent(fake, "ADD_ONION")) == (10, 20)
        nursery.cancel_scope.cancel()


async def test_one_upload_is_enough_after_a_while_and_none_is_told_and_tried_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seed = secrets.token_bytes(32)
    limits = TorLimits(publish_s=60, settle_s=7)

    def silent(script: Script) -> None:
        script.uploads = 0

    async with scripted([seed], limits, silent) as (tor, fake, script), trio.open_nursery() as nursery:
        nursery.start_soon(tor.serve, OnionService(seed, {80: NOWHERE}))
        while not sent(fake, "ADD_ONION"):
            await fake.heard.wait()
        await fake.say(f"650 HS_DESC FAILED {onion_of(seed)} UNKNOWN $A~a REASON=UPLOAD_REJECTED\r\n".encode())
        status = await until(tor, lambda status: status.state is TorState.DEGRADED)
        assert "not published within 60 s: a directory refused it (UPLOAD_REJECTED)" in status.reason
        script.uploads, script.collisions = 1, 1  # the first attempt's onion is in the way
        before = trio.current_time()
        status = await until(tor, lambda status: status.state is TorState.UP)
        assert (status.onions, sent(fake, "DEL_ONION")) == ((onion_of(seed),), 1)
        assert 7 <= trio.current_time() - before < 8


async def test_an_onion_is_served_when_each_upload_is_answered(autojump_clock: trio.testing.MockClock) -> None:
    seed = secrets.token_bytes(32)
    begun, done, failed = (
        f"650 HS_DESC {what} {onion_of(seed)} UNKNOWN $A~a{more}\r\n".encode() for what, more in WORDS
    )

    def silent(script: Script) -> None:
        script.uploads = 0

    async with scripted([seed], TorLimits(settle_s=50), silent) as (tor, fake, _), trio.open_nursery() as nursery:
        nursery.start_soon(tor.serve, OnionService(seed, {80: NOWHERE}))
        await trio.sleep(1)
        await fake.say(6 * begun + 4 * done + failed)
        await trio.sleep(1)
        assert tor.status().onions == ()  # the sixth could be the one that matters
        await fake.say(done)
        await trio.sleep(1)
        assert tor.status().onions == (onion_of(seed),)


WORDS = (("UPLOAD", " id HSDIR_INDEX=00"), ("UPLOADED", ""), ("FAILED", " REASON=UPLOAD_REJECTED"))


async def test_an_onion_out_of_reach_is_published_anew_and_then_tor_is_begun_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seed = secrets.token_bytes(32)
    limits = TorLimits(probe_s=600, reprobe_s=60, probes_failed=3)
    async with scripted([seed], limits) as (tor, fake, _):
        onion = await tor.serve(OnionService(seed, {80: NOWHERE}))
        started = trio.current_time()
        status = await until(tor, lambda status: "3 times in a row" in status.reason)
        assert (status.state, status.onions) == (TorState.DEGRADED, (onion,))
        assert 720 <= trio.current_time() - started < 725
        await trio.sleep(1)
        assert (sent(fake, "ADD_ONION"), len(fake.streams)) == (2, 1)
        status = await until(tor, lambda status: status.state is TorState.DOWN)
        assert "stayed out of reach" in status.reason
        await until(tor, lambda status: status.onions == (onion,))
        assert (sent(fake, "ADD_ONION"), len(fake.streams)) == (3, 2)


async def test_a_failed_dial_renews_the_peers_descriptor_and_not_all_the_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    peers = [onion_of(secrets.token_bytes(32)) for _ in range(2)]
    async with scripted([], TorLimits(fetch_s=30)) as (tor, fake, _):
        await until(tor, lambda status: status.state is TorState.UP)
        for _ in range(3):
            for peer in peers:
                with pytest.raises(DialFailed):
                    await tor.dial(peer, 80, "a")
        assert [line for line in fake.lines if "HSFETCH" in line] == [f"HSFETCH {peer}" for peer in peers]
        await trio.sleep(30)
        with pytest.raises(DialFailed):
            await tor.dial(peers[0], 80, "a")
        assert sent(fake, "HSFETCH") == 3


@asynccontextmanager
async def socks_at(path: Path, answers: Sequence[bytes | None]) -> AsyncIterator[list[bytes]]:
    """A SOCKS port that gives each connection the next answer, None being silence; yields the isolations it was asked for."""
    asked: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(3)
            await stream.send_all(b"\x05\x02")
            data = bytes(await stream.receive_some(1000))
            user = data[1]
            asked.append(data[3 + user : 3 + user + data[2 + user]])
            answer = answers[len(asked) - 1]
            if answer is not None:
                await stream.send_all(b"\x01\x00\x05" + answer + b"\x00\x01" + bytes(6) + b"hello")
            with suppress(trio.BrokenResourceError):  # "hello" was left unread
                await stream.receive_some(1)

    with trio.socket.socket(trio.socket.AF_UNIX) as listening:
        await listening.bind(str(path))
        listening.listen(8)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(listening)])
            yield asked
            nursery.cancel_scope.cancel()


async def test_a_slow_dial_is_raced_by_another_with_the_descriptor_renewed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    peer = onion_of(secrets.token_bytes(32))
    async with scripted([], TorLimits(slow_s=10, dial_s=45, fetch_s=30)) as (tor, fake, _):
        await until(tor, lambda status: status.state is TorState.UP)
        async with socks_at(fake.control.with_name("no socks"), [None, b"\x00", None, b"\xf2", None]) as asked:
            started = trio.current_time()
            async with await tor.dial(peer, 80, "a") as stream:
                assert await stream.receive_some(5) == b"hello"
            assert trio.current_time() - started == 10
            assert sent(fake, "HSFETCH") == 1
            assert asked[0] + b" again" == asked[1]  # circuits of its own, and the peer's all the same
            started = trio.current_time()
            with pytest.raises(DialFailed, match="introduction"):  # the second's answer, which is the first to come
                await tor.dial(peer, 80, "a")
            assert trio.current_time() - started == 45
            with trio.move_on_after(5):
                await tor.dial(peer, 80, "a")
            assert len(asked) == 5


async def test_an_answer_in_time_is_raced_by_nobody(autojump_clock: trio.testing.MockClock) -> None:
    peer = onion_of(secrets.token_bytes(32))
    async with scripted([]) as (tor, fake, _):
        await until(tor, lambda status: status.state is TorState.UP)
        async with socks_at(fake.control.with_name("no socks"), [b"\x00", b"\xf4"]) as asked:
            await (await tor.dial(peer, 80, "a")).aclose()
            with pytest.raises(DialFailed) as failed:
                await tor.dial(peer, 80, "a")
            assert (failed.value.code, len(asked), sent(fake, "HSFETCH")) == (0xF4, 2, 0)


async def test_an_onion_withdrawn_while_it_is_published_lets_go_who_waits_and_stays_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seed = secrets.token_bytes(32)

    def silent(script: Script) -> None:
        script.uploads = 0

    async with scripted([seed], None, silent) as (tor, fake, script), trio.open_nursery() as nursery:
        nursery.start_soon(tor.serve, OnionService(seed, {80: NOWHERE}))
        await trio.sleep(1)
        await tor.withdraw(onion_of(seed))
        await trio.sleep(1)
        assert not nursery.child_tasks
        assert (script.held, tor.status().state) == (set(), TorState.UP)
        await fake.hang_up()
        await trio.sleep(10)
        assert (tor.status().state, sent(fake, "ADD_ONION")) == (TorState.UP, 1)


async def test_a_reader_secret_that_is_none_is_refused_before_tor_could_trip_over_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with scripted([]) as (tor, fake, _):
        with pytest.raises(ValueError, match="32 bytes"):
            await tor.add_reader(onion_of(bytes(32)), b"short")
        secret, reader = secrets.token_bytes(32), onion_of(bytes(32))
        await until(tor, lambda status: status.state is TorState.UP)
        await tor.add_reader(reader, secret)
        await fake.hang_up()
        await until(tor, lambda status: status.state is TorState.DOWN)
        await until(tor, lambda status: status.state is TorState.UP)
        line = f"ONION_CLIENT_AUTH_ADD {reader} x25519:{base64.b64encode(secret).decode()}"
        assert fake.lines.count(line) == 2  # tor forgets it with its process


async def test_without_a_tor_the_sentence_says_how_to_have_one(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with tempfile.TemporaryDirectory(prefix="sv") as place:
        async with open_tor(ManagedTor(Path(place, "t"))) as tor:
            status = await until(tor, lambda status: status.state is TorState.DOWN and "install" in status.reason)
            assert status.reason == "tor is not installed: apt-get install tor"
        async with open_tor(SystemTor(Path(place, "control"), Path(place, "socks"))) as tor:
            status = await until(tor, lambda status: "start tor" in status.reason)
            assert status.state is TorState.DOWN
