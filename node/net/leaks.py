"""A tripwire in this process: nothing but unix sockets and loopback, and no name is ever looked up.

Whatever leaves a node leaves through tor, which is another process. A library that connects by itself, a version check, a
resolver: each would show the node's address to whoever is asked. Python tells an audit hook of each call before it is
made, and the hook raises. It cannot be taken out again. It is no sandbox: C code can do without Python, other processes
are not touched, and a name that is given to the standard library's `socket.connect` itself is looked up before the hook
hears of it (trio, asyncio and http.client look names up by getaddrinfo, which it does hear of). A network namespace without
interfaces is the wall, and this is what names the culprit.
Source: PEP 578.
"""

import ipaddress
import socket
import sys
from typing import Any, Final

_TO_ADDRESS: Final = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}
_LOOK_UP: Final = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}

_installed: list[bool] = []


class Leak(RuntimeError):
    """Something in this process wanted to reach the network without tor; the message says what and where to."""


def forbid_leaks() -> None:
    """From now on, for as long as the process lives, raises Leak out of whatever would leave this machine."""
    if not _installed:
        _installed.append(True)
        sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _TO_ADDRESS:
        _check_address(event, *arguments)
    elif event in _LOOK_UP and not _is_here(arguments[0]):
        raise Leak(f"{event} of {arguments[0]!r} would ask a name server, past tor: pass a literal address or an onion")


def _check_address(event: str, sock: socket.socket, address: Any) -> None:
    if address is None or sock.family == socket.AF_UNIX:
        return
    inet = sock.family in {socket.AF_INET, socket.AF_INET6}
    if not inet or not isinstance(address, tuple) or not _is_loopback(address[0]):
        raise Leak(f"{event} to {address!r} would leave this machine past tor: dial an onion instead")


def _is_here(host: Any) -> bool:
    """Whether finding its address asks nobody: none at all, this machine, or a literal."""
    if isinstance(host, tuple):  # getnameinfo's
        return _is_loopback(host[0])
    return host is None or host in {"localhost", b"localhost"} or _is_loopback(host)


def _is_loopback(host: Any) -> bool:
    text = host.decode("ascii", "replace") if isinstance(host, (bytes, bytearray)) else host
    try:
        return ipaddress.ip_address(str(text).partition("%")[0]).is_loopback
    except ValueError:
        return False
