"""The SOCKS dialler against a fake SOCKS port: what it says, in how many writes, and what each refusal means."""

import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from node.net.endpoints import BadEndpoint, checked, parse_endpoint, spelled
from node.net.nursery import bare_nursery
from node.tor.onion import onion_of
from node.tor.socks import DialFailed, dial_onion

ONION = onion_of(bytes(32))
GRANTED = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
Serve = Callable[[trio.SocketStream], Coroutine[None, None, None]]


@asynccontextmanager
async def socks_port(serve: Serve) -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sk") as folder:
        path = Path(folder, "socks")
        listening = trio.socket.socket(trio.socket.AF_UNIX)
        await listening.bind(str(path))
        listening.listen(8)
        async with bare_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(listening)])
            yield path
            nursery.cancel_scope.cancel()


def answering(*answers: bytes, heard: list[bytes] | None = None) -> Serve:
    async def serve(stream: trio.SocketStream) -> None:
        for answer in answers:
            data = bytes(await stream.receive_some(1000))
            if heard is not None:
                heard.append(data)
            await stream.send_all(answer)
        await stream.aclose()

    return serve


async def test_method_and_password_go_out_apart_and_what_follows_the_answer_is_the_peers() -> None:
    heard: list[bytes] = []
    serve = answering(b"\x05\x02", b"\x01\x00" + GRANTED + b"the peer speaks first", heard=heard)
    async with socks_port(serve) as socks:
        stream = await dial_onion(socks, ONION, 4001, "peer")
        assert await stream.receive_some(100) == b"the peer speaks first"
        await stream.aclose()
    method, rest = heard
    assert method == b"\x05\x01\x02"
    size = rest[1]
    assert not rest[2 : 2 + size].startswith(b"<torS0X>")
    assert rest[2 + size :] == b"\x04peer" + b"\x05\x01\x00\x03\x3e" + f"{ONION}.onion".encode() + b"\x0f\xa1"


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 7, 8, 0xF0, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0x42])
async def test_each_refusal_says_what_it_is_and_whether_to_try_again(code: int) -> None:
    answer = bytearray(GRANTED)
    answer[1] = code
    async with socks_port(answering(b"\x05\x02", b"\x01\x00" + answer)) as socks:
        with pytest.raises(DialFailed) as failed:
            await dial_onion(socks, ONION, 80, "p")
    assert failed.value.code == code
    assert failed.value.retry == (code in {1, 3, 4, 6, 0xF0, 0xF2, 0xF3, 0xF7, 0x42})
    assert ONION not in str(failed.value)  # whoever reads a log shall not learn whom we know


@pytest.mark.parametrize(
    "answers",
    [
        [b"\x05\xff"],
        [b"\x01\x00"],
        [b"\x05"],
        [b"\x05\x02", b"\x01\x01"],
        [b"\x05\x02", b"\x01\x00\x04\x00\x00\x01"],
        [b"\x05\x02", b"\x01\x00\x05\x00\x00\x09"],
        [b"\x05\x02", b"\x01\x00\x05\x00\x00\x03\x10abc"],
    ],
)
async def test_what_is_not_socks_fails_and_may_be_tried_again(answers: list[bytes]) -> None:
    async with socks_port(answering(*answers)) as socks:
        with pytest.raises(DialFailed) as failed:
            await dial_onion(socks, ONION, 80, "p")
    assert failed.value.code is None
    assert failed.value.retry


async def test_a_dial_that_hangs_ends_by_its_own_deadline_and_closes_its_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ended = trio.Event()

    async def silent(stream: trio.SocketStream) -> None:
        async for _ in stream:
            pass
        ended.set()

    async with socks_port(silent) as socks:
        autojump_clock.autojump_threshold = 0.1
        with pytest.raises(DialFailed, match="within 45 s") as failed:
            await dial_onion(socks, ONION, 80, "p")
        await ended.wait()
    assert failed.value.retry


async def test_without_a_socks_port_the_sentence_names_it() -> None:
    with pytest.raises(DialFailed, match=r"unix:/nowhere/socks.*tor running"):
        await dial_onion(Path("/nowhere/socks"), ONION, 80, "p")
    for isolation in ("", "x" * 256):
        with pytest.raises(ValueError, match="1 to 255"):
            await dial_onion(Path("/nowhere/socks"), ONION, 80, isolation)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("unix:/a/b", Path("/a/b")),
        ("/a/b", Path("/a/b")),
        ("127.0.0.1:9050", ("127.0.0.1", 9050)),
        ("[::1]:1", ("::1", 1)),
    ],
)
def test_endpoints_are_read(text: str, endpoint: Path | tuple[str, int]) -> None:
    assert parse_endpoint(text) == endpoint
    assert parse_endpoint(spelled(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:80",
        "8.8.8.8:53",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:٣",
        "127.0.0.1",
        "[::]:1",
        "/" + "a" * 107,
    ],
)
def test_endpoints_that_are_not_of_this_machine_are_refused(text: str) -> None:
    with pytest.raises(BadEndpoint):
        parse_endpoint(text)


@given(st.ip_addresses())
def test_no_address_off_loopback_is_an_endpoint(address: object) -> None:
    if not getattr(address, "is_loopback"):  # noqa: B009 - typed as object
        with pytest.raises(BadEndpoint):
            checked((str(address), 80))
