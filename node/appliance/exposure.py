"""What others could see or take of a node: permissions of its files, and sockets that lead off this machine.

The sockets are those that the kernel lists for the daemon's processes, so no library that opened one by itself is missed.
The daemon may have unix sockets and loopback; its tor, a child, may connect to wherever it likes and listen nowhere else.
"""

import ipaddress
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from node.appliance.findings import Finding
from node.config import Home

PRIVATE: Final = ("vault", "onion", "control")
"""Secrets, and the socket that takes orders."""
_TABLES: Final = ("tcp", "tcp6", "udp", "udp6", "raw", "raw6")
_LISTEN: Final = 0x0A


def permissions(home: Home) -> Iterator[Finding]:
    """Who may read or write what."""
    if not home.path.exists():
        return
    about = home.path.stat()
    if os.geteuid() not in {0, about.st_uid}:
        yield Finding("home.foreign", f"{home.path} belongs to another user: run this command as that user", stops=True)
        return
    if about.st_mode & 0o077:
        yield Finding("home.open", f"others can look into it: chmod 700 {home.path}")
    if not os.access(home.path, os.W_OK):
        yield Finding("home.readonly", f"{home.path} cannot be written: mount it writable, or chmod u+w", stops=True)
    for name in PRIVATE:
        path = home.path / name
        with suppress(FileNotFoundError):
            found = path.lstat()
            if found.st_uid != about.st_uid:
                mend = f"chown --reference={home.path} {path}"
                yield Finding("file.foreign", f"{path} belongs to another user than its home: {mend}", stops=True)
            elif found.st_mode & 0o077:
                yield Finding("file.open", f"others can use {path}: chmod 600 {path}")


class Open(NamedTuple):
    """A socket of a process that could carry packets."""

    table: str
    local: str
    peer: str
    listens: bool

    @property
    def leaves(self) -> bool:
        """Whether an end of it is off this machine, or open to others."""
        return not _is_loopback(self.local) or not (self.listens or _is_loopback(self.peer))


def sockets(pid: int) -> list[Open]:
    """The internet sockets of a process; raises OSError where they may not be seen."""
    own = set[str]()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            target = os.readlink(entry)
            if target.startswith("socket:["):
                own.add(target[8:-1])
    found = []
    for table in _TABLES:
        with suppress(FileNotFoundError):  # without IPv6
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[9] in own:
                    local, peer = (_address(text) for text in fields[1:3])
                    found.append(Open(table, local, peer, table.startswith("tcp") and int(fields[3], 16) == _LISTEN))
    return found


def leaks(daemon: int) -> Iterator[Finding]:
    """What of the daemon and its tor is open to others, or goes past tor."""
    try:
        yield from _leaks(f"the daemon ({daemon})", sockets(daemon), may_connect=False)
        for child in _children(daemon):
            yield from _leaks(f"its child ({child})", sockets(child), may_connect=True)
    except OSError as error:
        yield Finding(
            "leak.unknown", f"the daemon's sockets cannot be seen ({error.strerror}): run this as its user or root"
        )


def _leaks(whose: str, found: Iterable[Open], *, may_connect: bool) -> Iterator[Finding]:
    for one in found:
        if one.leaves and one.listens:
            mend = "stop it, and take out what opened that port"
            yield Finding(
                "leak.listening", f"{whose} listens for others at {one.local} ({one.table}): {mend}", stops=True
            )
        elif one.leaves and not may_connect:
            mend = "it shows where this node is; stop it, and take out what opened that connection"
            yield Finding(
                "leak.connection",
                f"{whose} reaches past tor, {one.local} to {one.peer} ({one.table}): {mend}",
                stops=True,
            )


def _children(pid: int) -> list[int]:
    found = set[int]()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):
            found |= {int(word) for word in (task / "children").read_text().split()}
    return sorted(found)


def _address(text: str) -> str:
    """ADDRESS:PORT of what the kernel writes as 0100007F:1F90, words in the machine's byte order."""
    digits, _, port = text.partition(":")
    packed = b"".join(int(digits[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(digits), 8))
    address = ipaddress.ip_address(packed)
    return f"[{address}]:{int(port, 16)}" if address.version == 6 else f"{address}:{int(port, 16)}"


def _is_loopback(spelled: str) -> bool:
    address = ipaddress.ip_address(spelled.rpartition(":")[0].strip("[]"))
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
