"""Asking the daemon of a home, from a command; blocking, with nothing but the standard library.

Source: DESIGN §11 (one table), §12 (exit codes).
"""

import array
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from node.exits import CODES, Unavailable

ANSWER_BYTES_MAX: Final = 16 << 20
PATH_BYTES_MAX: Final = 107
"""Of a unix socket's path, on Linux."""


class NoDaemon(Exception):
    """No daemon serves this home."""


@contextmanager
def reachable(home: Path) -> Iterator[str]:
    """A name of the home's control socket that fits into a socket's address, however deep the home lies."""
    path = str(home / "control")
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        yield path
        return
    folder = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/control"
    finally:
        os.close(folder)


def connect(home: Path) -> socket.socket:
    """A connection to the home's daemon; raises NoDaemon, Unavailable."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with reachable(home) as path:
            sock.connect(path)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        sock.close()
        raise NoDaemon(f"no daemon runs for {home}: start it with `lucid-node run`") from None
    except PermissionError as error:
        sock.close()
        raise Unavailable(f"{home / 'control'} belongs to another user: run this command as that user") from error
    return sock


def answers(home: Path) -> bool:
    """Whether a daemon serves this home."""
    try:
        connect(home).close()
    except NoDaemon:
        return False
    return True


def ask(
    home: Path,
    call: str,
    args: Mapping[str, Any] | None = None,
    *,
    progress: Callable[[dict[str, Any]], None] = lambda _facts: None,
    fd: int | None = None,
    patience_s: float | None = None,
) -> dict[str, Any]:
    """What the daemon answers; raises NoDaemon, the `Ended` that the call ended with, TimeoutError after `patience_s`."""
    with connect(home) as sock, suppress(ConnectionError), sock.makefile("rb") as lines:
        sock.settimeout(patience_s)
        request = json.dumps({"call": call, "args": dict(args or {})}).encode() + b"\n"
        with suppress(BrokenPipeError):  # it may have answered, and hung up, before it was given all
            rights = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
            if rest := request[sock.sendmsg([request], rights) :]:
                sock.sendall(rest)
        while line := lines.readline(ANSWER_BYTES_MAX):
            said = json.loads(line)
            if "result" in said:
                result: dict[str, Any] = said["result"]
                return result
            if "error" in said:
                raise CODES.get(said["code"], Unavailable)(said["error"])
            progress(said["progress"])
    raise Unavailable("the daemon went away before it answered: see its log, and `lucid-node status`")
