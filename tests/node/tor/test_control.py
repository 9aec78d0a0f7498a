"""The control client against a fake control port: replies in step, no injection, errors bare and with their mend."""

import getpass
import grp
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from node.net.nursery import bare_nursery
from node.tor.control import COLLISION, TorClosed, TorRefusal, TorSilent, TorUnreachable, open_control
from node.tor.onion import onion_of, reader_key
from node.tor.wire import NotTor
from tests.node.tor.faketor import FakeTor, fake_tor

SEED = bytes(32)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ct") as place:  # short: sockets have 107 bytes
        yield Path(place)


async def test_it_proves_the_cookie_and_answers_stay_in_step(folder: Path) -> None:
    async with fake_tor(folder) as tor, open_control(tor.control) as control, trio.open_nursery() as nursery:
        tor.answer = lambda line: f"250-{line.split()[1]}=<{line.split()[1]}>\r\n250 OK\r\n".encode()
        answers: dict[str, str] = {}

        async def ask(key: str) -> None:
            answers[key] = await control.info(key)

        for number in range(50):
            nursery.start_soon(ask, f"k{number}")
        await trio.testing.wait_all_tasks_blocked()
    assert answers == {f"k{number}": f"<k{number}>" for number in range(50)}


async def test_a_cancelled_caller_leaves_the_others_in_step(folder: Path) -> None:
    async with fake_tor(folder) as tor, open_control(tor.control) as control:
        tor.answer = lambda line: None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(control.info, "a")
            await trio.testing.wait_all_tasks_blocked()
            while tor.lines[-1] != "GETINFO a":
                await tor.heard.wait()
            nursery.cancel_scope.cancel()
        tor.answer = lambda line: b"250-a=1\r\n250 OK\r\n250-b=2\r\n250 OK\r\n"
        assert await control.info("b") == "2"


async def test_a_command_is_one_line_or_nothing_at_all(folder: Path) -> None:
    async with fake_tor(folder) as tor, open_control(tor.control) as control:
        before = list(tor.lines)
        for bad in ("GETINFO x\r\nSIGNAL HALT", "SIGNAL\nHALT", "a\0b"):
            with pytest.raises(ValueError, match="no line end"):
                await control.command(bad)
        with pytest.raises(ValueError, match="space, comma or quote"):
            await control.add_onion(SEED, {80: Path("/tmp/x y")})
        assert tor.lines == before


async def test_events_reach_every_listener_and_a_full_channel_loses_the_newest(folder: Path) -> None:
    async with fake_tor(folder) as tor, open_control(tor.control) as control:
        async with control.events("HS_DESC", "STATUS_CLIENT") as both, control.events("HS_DESC", most=1) as one:
            assert [line for line in tor.lines if "SETEVENTS" in line] == ["SETEVENTS HS_DESC STATUS_CLIENT"]
            await tor.say(b"650 HS_DESC UPLOADED a\r\n650 STATUS_CLIENT NOTICE x\r\n650 HS_DESC UPLOADED b\r\n")
            await control.command("GETINFO version")
            assert [both.receive_nowait().words[-1] for _ in range(3)] == ["a", "x", "b"]
            assert one.receive_nowait().text == "UPLOADED a"
            with pytest.raises(trio.WouldBlock):
                one.receive_nowait()
            await tor.hang_up()
            assert [event async for event in both] == []
        assert "control connection" in await control.wait_closed()


async def test_the_end_of_tor_ends_every_caller_with_a_bare_error(folder: Path) -> None:
    async with fake_tor(folder) as tor:
        tor.answer = lambda line: None
        with pytest.raises(TorClosed):
            async with open_control(tor.control) as control, bare_nursery() as nursery:
                nursery.start_soon(tor_dies, tor)
                await control.info("version")
        with pytest.raises(KeyError, match="mine"):
            async with open_control(tor.control):
                raise KeyError("mine")


async def tor_dies(tor: FakeTor) -> None:
    while not tor.lines[-1].startswith("GETINFO"):
        await tor.heard.wait()
    await tor.hang_up()


async def test_what_is_not_tor_ends_the_connection(folder: Path) -> None:
    async with fake_tor(folder) as tor, open_control(tor.control) as control:
        await tor.say(b"250 nobody asked\r\n")
        assert "not asked" in await control.wait_closed()
        with pytest.raises(TorClosed):
            await control.version()


async def test_a_silent_tor_is_told_from_a_dead_one(folder: Path) -> None:
    async with fake_tor(folder) as tor, open_control(tor.control, answer_s=0.01) as control:
        tor.answer = lambda line: None
        with pytest.raises(TorSilent, match="GETINFO within"):
            await control.info("version")


async def test_proof_of_work_is_asked_for_and_left_out_where_it_is_not_known(folder: Path) -> None:
    onion, reader = onion_of(SEED), reader_key(SEED)
    async with fake_tor(folder) as tor, open_control(tor.control) as control:

        def old_tor(line: str) -> bytes:
            if "PoW" in line:
                return b"512 Unrecognized argument\r\n"
            return f"250-ServiceID={onion}\r\n250 OK\r\n".encode()

        tor.answer = old_tor
        target = folder / "b"
        assert await control.add_onion(SEED, {80: target, 81: ("::1", 9)}, readers=[reader], streams_max=4) == onion
        assert await control.add_onion(SEED, {80: target}) == onion
        asked = [line.split(" ", 2)[2] for line in tor.lines if line.startswith("ADD_ONION")]
        plain = f"Flags=DiscardPK,V3Auth,MaxStreamsCloseCircuit MaxStreams=4 Port=80,unix:{target} Port=81,[::1]:9"
        plain += f" ClientAuthV3={reader}"
        assert asked == [f"{plain} PoWDefensesEnabled=1", plain, f"Flags=DiscardPK Port=80,unix:{target}"]


async def test_a_collision_is_no_reason_to_try_without_proof_of_work(folder: Path) -> None:
    async with fake_tor(folder) as tor, open_control(tor.control) as control:
        tor.answer = lambda line: b"550 Onion address collision\r\n"
        with pytest.raises(TorRefusal) as refused:
            await control.add_onion(SEED, {80: folder / "b"})
        assert refused.value.code == COLLISION
        assert sum(line.startswith("ADD_ONION") for line in tor.lines) == 1
        assert "PrivateKey" not in str(refused.value)
        assert "ED25519" not in str(refused.value)
        tor.answer = lambda line: f"250-ServiceID={onion_of(bytes([1] * 32))}\r\n250 OK\r\n".encode()
        with pytest.raises(NotTor, match="another onion"):
            await control.add_onion(SEED, {80: folder / "b"})


async def test_nothing_at_the_port_says_which_port_and_how_to_have_one(folder: Path) -> None:
    with pytest.raises(TorUnreachable, match=f"unix:{folder}/control.*ControlSocket"):
        async with open_control(folder / "control"):
            pass
    with pytest.raises(TorUnreachable, match=r"127\.0\.0\.1:1 .*ControlPort"):
        async with open_control(("127.0.0.1", 1)):
            pass


async def test_authentication_that_fails_names_the_method_the_path_and_the_mend(folder: Path) -> None:
    async with fake_tor(folder) as tor:
        tor.methods = "HASHEDPASSWORD"
        with pytest.raises(TorUnreachable, match=r"offers the authentication HASHEDPASSWORD.*CookieAuthentication 1"):
            async with open_control(tor.control):
                pass
        tor.methods = "COOKIE,SAFECOOKIE"
        tor.knows = bytes(32)
        with pytest.raises(TorUnreachable, match=f"does not know the cookie in {tor.cookie}"):
            async with open_control(tor.control):
                pass
        assert not any(line.startswith("AUTHENTICATE") for line in tor.lines)
        tor.cookie.unlink()
        with pytest.raises(TorUnreachable, match=f"SAFECOOKIE of tor at unix:{tor.control} should be in {tor.cookie}"):
            async with open_control(tor.control):
                pass
        tor.methods = "NULL"
        async with open_control(tor.control) as control:
            assert (await control.command("GETINFO x")).ok


async def test_a_missing_permission_names_the_group(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = grp.getgrgid(os.stat(folder).st_gid).gr_name

    async def refuse(_path: Path) -> trio.SocketStream:
        raise PermissionError(13, "Permission denied")

    async with fake_tor(folder) as tor:
        monkeypatch.setattr(Path, "read_bytes", lambda _: (_ for _ in ()).throw(PermissionError(13, "denied")))
        with pytest.raises(
            TorUnreachable, match=f"read the SAFECOOKIE.*{tor.cookie}.*adduser {getpass.getuser()} {group}"
        ):
            async with open_control(tor.control):
                pass
        monkeypatch.setattr(trio, "open_unix_socket", refuse)
        with pytest.raises(TorUnreachable, match=f"open the control socket {tor.control}.*group {group}"):
            async with open_control(tor.control):
                pass
