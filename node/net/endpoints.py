"""Where a local service listens: a unix socket or a port on loopback, never anything that a packet could leave through."""

import ipaddress
import socket
from pathlib import Path
from typing import Final

import trio

Endpoint = Path | tuple[str, int]
"""The path of a unix socket, or a literal loopback address with a port; a name would have to be looked up."""

PATH_BYTES_MAX: Final = 107
"""What fits into Linux' sun_path with its final NUL."""


class BadEndpoint(ValueError):
    """The place is no unix socket's path or loopback address; the message says why and what would be."""


def checked(endpoint: Endpoint) -> Endpoint:
    """The endpoint as it is; raises BadEndpoint unless it is local and can be connected to."""
    if isinstance(endpoint, Path):
        if len(bytes(endpoint)) > PATH_BYTES_MAX:
            raise BadEndpoint(
                f"{endpoint} is over {PATH_BYTES_MAX} bytes long, too long for a socket: use a shorter folder"
            )
        return endpoint
    host, port = endpoint
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local or not 0 < port < 65536:
        raise BadEndpoint(f"{host}:{port} is no port of loopback: write 127.0.0.1 and a port of 1 to 65535, or a path")
    return endpoint


def parse_endpoint(text: str) -> Endpoint:
    """`unix:/path`, `/path`, `127.0.0.1:port` or `[::1]:port`; raises BadEndpoint."""
    if text.startswith(("unix:", "/")):
        return checked(Path(text.removeprefix("unix:")))
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdecimal():
        raise BadEndpoint(f"{text!r} is neither unix:/PATH nor ADDRESS:PORT")
    return checked((host.removeprefix("[").removesuffix("]"), int(port)))


def spelled(endpoint: Endpoint) -> str:
    """The endpoint as tor and people write it."""
    if isinstance(endpoint, Path):
        return f"unix:{endpoint}"
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def connect(endpoint: Endpoint) -> trio.SocketStream:
    """A stream to what listens there; raises OSError when nothing does. No name is ever looked up."""
    checked(endpoint)
    if isinstance(endpoint, Path):
        return await trio.open_unix_socket(endpoint)
    family = socket.AF_INET6 if ":" in endpoint[0] else socket.AF_INET
    connection = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        await connection.connect(endpoint)
    except BaseException:
        connection.close()
        raise
    return trio.SocketStream(connection)
