"""A desktop without a screen: an X server of our own that a session runs on and is recorded from.

The rule: nobody else gets in. The server has no TCP socket and asks for a cookie that only this process and its
children know; it dies with us. X clients find cookies through the environment variable XAUTHORITY, the one in this
process as well, so it is set while a desktop is open; desktops close in the reverse order of their opening.
"""

import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import trio

from pipeline.child import child

START_S: Final = 15.0

_FAMILY_LOCAL: Final = 256
_COOKIE: Final = b"MIT-MAGIC-COOKIE-1"


class NoDisplay(Exception):
    """The X display is missing, refuses us or could not be started; the message says which and what to do."""


@asynccontextmanager
async def virtual_display(width: int, height: int, *, options: Sequence[str] = ()) -> AsyncIterator[str]:
    """The name (`:99`) of a fresh X server with a screen of width × height pixels and 24 bits of colour.

    Children of this process reach it by that name. `options` go to Xvfb as they are. Raises NoDisplay.
    """
    for program, package in (("Xvfb", "xvfb"), ("setpriv", "util-linux")):
        if shutil.which(program) is None:
            raise NoDisplay(f"{program} is not installed: apt-get install {package}")
    cookie = secrets.token_bytes(16)
    with tempfile.TemporaryDirectory(prefix="lucid-x-") as place:
        door, complaints = os.path.join(place, "door"), os.path.join(place, "complaints")
        _write(door, _entry(b"", cookie))
        # fmt: off
        command = ["Xvfb", "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp", "-auth", door, "-noreset", *options]
        # fmt: on
        reading, writing = os.pipe()
        numbers = trio.lowlevel.FdStream(reading)
        with open(complaints, "wb") as log:
            # SIGTERM, also when we die: Xvfb then removes its socket, which SIGKILL would leave behind.
            running = child(
                [*command, "-displayfd", str(writing)],
                stderr=log.fileno(),
                pass_fds=(writing,),
                ending=signal.SIGTERM,
            )
            async with numbers, running:
                os.close(writing)
                number = await _number(numbers, complaints)
                with _known(os.path.join(place, "keys"), number, cookie):
                    yield f":{number.decode()}"


async def _number(numbers: trio.lowlevel.FdStream, complaints: str) -> bytes:
    """The display number, which Xvfb writes when it accepts clients."""
    said = b""
    with trio.move_on_after(START_S):
        while not said.endswith(b"\n"):
            more = await numbers.receive_some(32)
            if not more:
                break
            said += more
    if not said.strip().isdigit():
        with open(complaints, "rb") as log:
            lines = log.read()[-4096:].decode(errors="replace").replace("(EE)", "").split("\n")
        last = next((text.strip() for text in reversed(lines) if text.strip()), "it says nothing")
        raise NoDisplay(f"Xvfb did not start: {last}")
    return said.strip()


@contextmanager
def _known(path: str, number: bytes, cookie: bytes) -> Iterator[None]:
    """XAUTHORITY names a file with this display's cookie and all that was known before, while the context lasts."""
    before = os.environ.get("XAUTHORITY")
    keys = b""
    try:
        with open(before or os.path.expanduser("~/.Xauthority"), "rb") as known:
            keys = known.read()
    except OSError:
        pass  # nobody has logged in on a screen here
    # A stale entry of the same number must not win: libXau takes the first that fits, python-xlib the last.
    ours = _entry(number, cookie)
    _write(path, ours + keys + ours)
    os.environ["XAUTHORITY"] = path
    try:
        yield
    finally:
        if before is None:
            del os.environ["XAUTHORITY"]
        else:
            os.environ["XAUTHORITY"] = before


def _entry(number: bytes, cookie: bytes) -> bytes:
    """One entry of an Xauthority file: family u16 be, then address, number, name and data, each behind its u16 be length."""
    fields = (socket.gethostname().encode(), number, _COOKIE, cookie)
    return _FAMILY_LOCAL.to_bytes(2, "big") + b"".join(len(field).to_bytes(2, "big") + field for field in fields)


def _write(path: str, data: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
