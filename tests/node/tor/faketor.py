"""A control port without a tor: a unix socket that speaks the protocol as a test tells it to."""

import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from node.net.nursery import bare_nursery

COOKIE: Final = bytes(range(32))
NONCE: Final = bytes(range(100, 132))

Answer = Callable[[str], bytes | None]
"""What tor says to a command line; None for silence."""


class FakeTor:
    """Answers authentication itself, and everything else as `answer` says; keeps the lines that it was sent."""

    def __init__(self, folder: Path) -> None:
        self.control = folder / "control"
        self.cookie = folder / "cookie"
        self.methods = "COOKIE,SAFECOOKIE"
        self.knows = COOKIE
        self.answer: Answer = lambda line: b"250 OK\r\n"
        self.lines: list[str] = []
        self.streams: list[trio.SocketStream] = []
        self.heard = trio.Event()
        self.sending = trio.Lock()
        self.cookie.write_bytes(COOKIE)

    def reply(self, line: str) -> bytes | None:
        if line == "PROTOCOLINFO 1":
            return (
                f'250-PROTOCOLINFO 1\r\n250-AUTH METHODS={self.methods} COOKIEFILE="{self.cookie}"\r\n'
                f'250-VERSION Tor="0.4.9.11"\r\n250 OK\r\n'
            ).encode()
        if line.startswith("AUTHCHALLENGE SAFECOOKIE "):
            message = self.knows + bytes.fromhex(line.split()[2]) + NONCE
            shown = hmac.digest(b"Tor safe cookie authentication server-to-controller hash", message, "sha256").hex()
            self.wanted = hmac.digest(
                b"Tor safe cookie authentication controller-to-server hash", message, "sha256"
            ).hex()
            return f"250 AUTHCHALLENGE SERVERHASH={shown.upper()} SERVERNONCE={NONCE.hex().upper()}\r\n".encode()
        if line.startswith("AUTHENTICATE"):
            fine = self.methods == "NULL" or line == f"AUTHENTICATE {self.wanted}"
            return b"250 OK\r\n" if fine else b"515 Authentication failed: wrong hash\r\n"
        return self.answer(line)

    async def serve(self, stream: trio.SocketStream) -> None:
        self.streams.append(stream)
        rest = b""
        try:
            async for data in stream:
                *lines, rest = (rest + data).split(b"\r\n")
                for raw in lines:
                    self.lines.append(raw.decode())
                    said = self.reply(raw.decode())
                    self.heard.set()
                    self.heard = trio.Event()
                    if said is not None:
                        async with self.sending:
                            await stream.send_all(said)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def say(self, data: bytes) -> None:
        async with self.sending:
            await self.streams[-1].send_all(data)

    async def hang_up(self) -> None:
        await self.streams[-1].aclose()


@asynccontextmanager
async def fake_tor(folder: Path) -> AsyncIterator[FakeTor]:
    """A FakeTor whose sockets lie in that folder."""
    tor = FakeTor(folder)
    listening = trio.socket.socket(trio.socket.AF_UNIX)
    await listening.bind(str(tor.control))
    listening.listen(8)
    async with bare_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, tor.serve, [trio.SocketListener(listening)])
        yield tor
        nursery.cancel_scope.cancel()
