"""The daemon's end of the control socket: reads one request, runs its call, writes what comes of it.

Who speaks HTTP gets pages instead of calls, so that `curl --unix-socket HOME/control http://lucid/metrics` and whatever else
scrapes Prometheus' text over a Unix socket need nothing of ours (RFC 9112; GET alone, one request a connection).
"""

import json
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import trio

from node.control.client import reachable
from node.exits import Ended, Unavailable, Usage

REQUEST_BYTES_MAX: Final = 64 << 10
CONNECTIONS_MAX: Final = 64
REQUEST_S: Final = 10
"""A client sends its line at once; who dawdles is no client of ours."""


class Request:
    """What a command asked; `progress` tells it something before the end, `fd` is a file that it handed over."""

    def __init__(
        self, args: Mapping[str, Any], fd: int | None, progress: Callable[[Mapping[str, Any]], Awaitable[None]]
    ) -> None:
        self.args, self.fd, self.progress = args, fd, progress

    def text(self, name: str, default: str | None = None) -> str:
        """A text among the arguments; raises Usage."""
        value = self.args.get(name, default)
        if not isinstance(value, str):
            raise Usage(f"the argument {name} is a text")
        return value

    def take_fd(self) -> int:
        """The file that was handed over, whose closing is now the caller's; raises Usage."""
        if self.fd is None:
            raise Usage("this call needs an open file, and none was handed over")
        fd, self.fd = self.fd, None
        return fd


Call = Callable[[Request], Awaitable[Mapping[str, Any]]]
"""Answers a request; raises Ended when it cannot."""

Page = Callable[[], Awaitable[str]]
"""The text of a page."""


class Control:
    """The socket and its table of calls; parts of the daemon add theirs before `serve`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.calls: dict[str, Call] = {}
        self.pages: dict[str, Page] = {}

    def add(self, name: str, call: Call) -> None:
        """Offer a call; a name is offered once."""
        if name in self.calls:
            raise ValueError(f"{name} is offered already")
        self.calls[name] = call

    def add_page(self, path: str, page: Page) -> None:
        """Offer a page of text to whoever asks in HTTP; a path is offered once."""
        if path in self.pages:
            raise ValueError(f"{path} is offered already")
        self.pages[path] = page

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled. The caller holds the home's lock, so a socket that lies there is a dead daemon's."""
        path = self.home / "control"
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            if path.exists() and stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()
            with reachable(self.home) as name:
                before = os.umask(0o177)
                try:
                    await listener.bind(name)
                finally:
                    os.umask(before)
            listener.listen(CONNECTIONS_MAX)
            try:
                async with trio.open_nursery() as nursery:
                    task_status.started()
                    room = trio.CapacityLimiter(CONNECTIONS_MAX)
                    while True:
                        await room.acquire_on_behalf_of(token := object())
                        connection, _ = await listener.accept()
                        nursery.start_soon(self._answer, connection, room, token)
            finally:
                path.unlink(missing_ok=True)

    async def _answer(self, connection: trio.socket.SocketType, room: trio.CapacityLimiter, token: object) -> None:
        """One connection: nothing that goes wrong here reaches another."""
        try:
            with connection:
                if not _is_ours(connection):
                    return
                with suppress(OSError, ValueError):
                    await self._talk(connection)
        finally:
            room.release_on_behalf_of(token)

    async def _talk(self, connection: trio.socket.SocketType) -> None:
        async def say(facts: Mapping[str, Any]) -> None:
            await _send(connection, facts)

        async def progress(facts: Mapping[str, Any]) -> None:
            await say({"progress": facts})

        line, fd = b"", None
        with trio.move_on_after(REQUEST_S):
            line, fd = await _request(connection)
        try:
            if line.startswith(b"GET "):
                await _send_all(connection, await self._reply(line))
                return
            try:
                call, request = self._parse(line, fd, progress)
            except Usage as error:
                await say({"error": str(error), "code": error.code})
                return
            fd = None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_hung_up, connection, nursery.cancel_scope)
                await say(await _outcome(call, request))
                nursery.cancel_scope.cancel()
        finally:
            if fd is not None:
                os.close(fd)

    async def _reply(self, line: bytes) -> bytes:
        path = line.split(b" ")[1].strip().decode("ascii", "replace")
        page = self.pages.get(path)
        text = f"this daemon has no page {path[:40]!r}\n" if page is None else await page()
        status, body = "404 Not Found" if page is None else "200 OK", text.encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
        return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body

    def _parse(
        self, line: bytes, fd: int | None, progress: Callable[[Mapping[str, Any]], Awaitable[None]]
    ) -> tuple[Call, Request]:
        try:
            asked = json.loads(line)
        except ValueError:
            raise Usage("a request is one line of JSON") from None
        if not isinstance(asked, dict) or not isinstance(args := asked.get("args", {}), dict):
            raise Usage("a request names a call and its args")
        call = self.calls.get(str(asked.get("call")))
        if call is None:
            raise Usage(f"this daemon has no call {str(asked.get('call'))[:40]!r}: is it as new as the command?")
        return call, Request(args, fd, progress)


async def _outcome(call: Call, request: Request) -> Mapping[str, Any]:
    try:
        return {"result": await call(request)}
    except Ended as error:
        return {"error": str(error), "code": error.code}
    except trio.ClosedResourceError:
        stopping = Unavailable("the daemon is stopping: ask again when it runs")
        return {"error": str(stopping), "code": stopping.code}
    finally:
        if request.fd is not None:
            os.close(request.fd)


def _is_ours(connection: trio.socket.SocketType) -> bool:
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid in {0, os.geteuid()}


async def _request(connection: trio.socket.SocketType) -> tuple[bytes, int | None]:
    """The first line, and the file that came with it."""
    data, fds = b"", list[int]()
    try:
        while b"\n" not in data:
            part, ancillary, _, _ = await connection.recvmsg(REQUEST_BYTES_MAX, socket.CMSG_SPACE(4 * 4))
            for level, kind, raw in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds += struct.unpack(f"{len(raw) // 4}i", raw[: len(raw) // 4 * 4])
            data += part
            if not part or len(data) > REQUEST_BYTES_MAX:
                break
        return data.partition(b"\n")[0], fds.pop(0) if fds else None
    finally:
        for fd in fds:
            os.close(fd)


async def _send(connection: trio.socket.SocketType, facts: Mapping[str, Any]) -> None:
    await _send_all(connection, json.dumps(facts, default=_hex, ensure_ascii=False).encode() + b"\n")


async def _send_all(connection: trio.socket.SocketType, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[await connection.send(view) :]


def _hex(value: object) -> str:
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    raise TypeError(f"{type(value).__name__} has no JSON form")


async def _hung_up(connection: trio.socket.SocketType, scope: trio.CancelScope) -> None:
    """End the call when its command has gone: nobody waits for it."""
    with suppress(OSError):
        while await connection.recv(1):
            pass
    scope.cancel()
