"""The control socket with real sockets: what a command asks is what the call is given, and nothing else gets in."""

import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from node.control.client import NoDaemon, ask
from node.control.server import Control, Request
from node.exits import Refuted, Unavailable, Usage


@asynccontextmanager
async def served(home: Path, **calls: Any) -> AsyncIterator[Control]:
    control = Control(home)
    for name, call in calls.items():
        control.add(name, call)
    async with trio.open_nursery() as nursery:
        await nursery.start(control.serve)
        yield control
        nursery.cancel_scope.cancel()


async def asked(home: Path, call: str, args: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return await trio.to_thread.run_sync(partial(ask, home, call, args, **more))


async def echo(request: Request) -> dict[str, Any]:
    return {"said": dict(request.args), "raw": b"\x01\xff"}


async def test_what_is_asked_is_answered_and_bytes_become_hex(tmp_path: Path) -> None:
    async with served(tmp_path, echo=echo):
        assert await asked(tmp_path, "echo", {"a": [1, "ü"]}) == {"said": {"a": [1, "ü"]}, "raw": "01ff"}
        assert (tmp_path / "control").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "control").exists()


async def test_a_home_deeper_than_a_sockets_address_is_reached_all_the_same(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    async with served(deep, echo=echo):
        assert (await asked(deep, "echo"))["said"] == {}


@pytest.mark.parametrize("kind", [Refuted, Usage, Unavailable])
async def test_an_ending_arrives_as_it_was_raised(tmp_path: Path, kind: type[Exception]) -> None:
    async def ends(_request: Request) -> dict[str, Any]:
        raise kind("because")

    async with served(tmp_path, ends=ends):
        with pytest.raises(kind, match="because"):
            await asked(tmp_path, "ends")
        with pytest.raises(Usage, match="no call 'other'"):
            await asked(tmp_path, "other")


async def test_progress_comes_before_the_result(tmp_path: Path) -> None:
    async def works(request: Request) -> dict[str, Any]:
        await request.progress({"done": 1})
        await request.progress({"done": 2})
        return {}

    seen: list[dict[str, Any]] = []
    async with served(tmp_path, works=works):
        await asked(tmp_path, "works", progress=seen.append)
    assert seen == [{"done": 1}, {"done": 2}]


async def test_an_open_file_can_be_handed_over(tmp_path: Path) -> None:
    async def reads(request: Request) -> dict[str, Any]:
        with os.fdopen(request.take_fd()) as file:
            return {"text": file.read()}

    (tmp_path / "file").write_text("content")
    async with served(tmp_path, reads=reads):
        with (tmp_path / "file").open() as file:
            assert await asked(tmp_path, "reads", fd=file.fileno()) == {"text": "content"}
        with pytest.raises(Usage, match="none was handed over"):
            await asked(tmp_path, "reads")


async def test_who_hangs_up_ends_its_call(tmp_path: Path) -> None:
    begun, ended = trio.Event(), trio.Event()

    async def waits(_request: Request) -> dict[str, Any]:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with served(tmp_path, waits=waits, echo=echo):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(tmp_path / "control"))
            sock.sendall(b'{"call": "waits"}\n')
            await begun.wait()
        await ended.wait()
        assert "said" in await asked(tmp_path, "echo")


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b"{}\n", b'{"call": "echo", "args": 3}\n', b"\xff\n", b"x" * 70_000])
async def test_nonsense_is_refused_in_words_and_others_are_served(tmp_path: Path, line: bytes) -> None:
    def sent() -> bytes:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(tmp_path / "control"))
            sock.sendall(line)
            return sock.recv(4096)

    async with served(tmp_path, echo=echo):
        assert b'"code": 2' in await trio.to_thread.run_sync(sent)
        assert "said" in await asked(tmp_path, "echo")


async def test_without_a_daemon_the_mend_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon, match="lucid-node run"):
        await asked(tmp_path, "echo")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control"))  # its daemon was killed: the socket lies there and nobody listens
    with pytest.raises(NoDaemon):
        await asked(tmp_path, "echo")
    async with served(tmp_path, echo=echo):
        assert "said" in await asked(tmp_path, "echo")


async def fetched(home: Path, request: bytes) -> bytes:
    def fetch() -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(home / "control"))
            connection.sendall(request)
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
            return b"".join(parts)

    return await trio.to_thread.run_sync(fetch)


async def test_a_page_is_served_to_whoever_speaks_http(tmp_path: Path) -> None:
    async def figures() -> str:
        return "größe 1\n"

    async with served(tmp_path, echo=echo) as control:
        control.add_page("/metrics", figures)
        head, _, body = (await fetched(tmp_path, b"GET /metrics HTTP/1.1\r\nHost: lucid\r\n\r\n")).partition(
            b"\r\n\r\n"
        )
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert (body, int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])) == ("größe 1\n".encode(), len(body))
        assert (await fetched(tmp_path, b"GET /other HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
        assert b"200" not in await fetched(tmp_path, b"GET \n")
