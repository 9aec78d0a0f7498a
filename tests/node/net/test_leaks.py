"""The tripwire: what stays on this machine passes, and whatever would leave it raises before it does."""

import socket
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from node.net.leaks import Leak, forbid_leaks

ABROAD = "192.0.2.1"  # TEST-NET-1: no host has it


TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


def call(kind: int, method: str, *arguments: object, family: int = socket.AF_INET) -> None:
    """A method of a fresh socket, which is closed whatever comes of it."""
    with socket.socket(family, kind) as sock:
        getattr(sock, method)(*arguments)


@pytest.mark.parametrize(
    "leak",
    [
        lambda: call(TCP, "connect", (ABROAD, 80)),
        lambda: call(TCP, "connect_ex", (ABROAD, 80)),
        lambda: call(TCP, "bind", ("", 0)),
        lambda: call(TCP, "bind", ("0.0.0.0", 0)),
        lambda: call(UDP, "sendto", b"x", (ABROAD, 53)),
        lambda: call(UDP, "sendmsg", [b"x"], [], 0, (ABROAD, 53)),
        lambda: call(UDP, "sendto", b"x", ("2001:db8::1", 53), family=socket.AF_INET6),
        lambda: call(UDP, "sendto", b"x", ("::ffff:192.0.2.1", 53), family=socket.AF_INET6),
        lambda: socket.getaddrinfo("example.com", 80),
        lambda: socket.getaddrinfo(b"example.com", 80),
        lambda: socket.gethostbyname("example.com"),
        lambda: socket.gethostbyname_ex("example.com"),
        lambda: socket.gethostbyaddr(ABROAD),
        lambda: socket.getnameinfo((ABROAD, 80), 0),
        lambda: urllib.request.urlopen("http://example.com/"),
        lambda: trio.run(trio.open_tcp_stream, "example.com", 80),
        lambda: trio.run(trio.open_tcp_stream, ABROAD, 80),
        lambda: socket.create_connection((ABROAD, 80)),
    ],
)
def test_what_would_leave_this_machine_raises(leak: Callable[[], object]) -> None:
    forbid_leaks()
    with pytest.raises((Leak, ExceptionGroup)) as raised:
        leak()
    error: BaseException = raised.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Leak)
    assert "past tor" in str(error)


async def test_loopback_and_unix_sockets_pass() -> None:
    forbid_leaks()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with listener, await trio.open_tcp_stream("localhost", port):
        call(UDP, "sendto", b"x", ("127.0.0.1", port))
        assert socket.getaddrinfo("127.0.0.1", port)
        assert socket.getaddrinfo(None, port)
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX) as there,
        socket.socket(socket.AF_UNIX) as here,
    ):
        there.bind(str(Path(folder, "s")))
        there.listen()
        here.connect(str(Path(folder, "s")))
        here.sendmsg([b"x"])
