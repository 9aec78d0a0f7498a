"""What a node needs to reach its network: the file it joined by, and a tor that is there, new enough and its own to command."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from node.appliance.findings import Finding
from node.config import Config, Home
from node.exits import Ended
from node.membership import carrier_of, joined
from node.net.endpoints import BadEndpoint, Endpoint, parse_endpoint, spelled
from node.network import Carrier
from node.tor.interface import SYSTEM_SOCKS, TorOutdated, ensure_version

ANSWER_S: Final = 5.0
_VERSION: Final = re.compile(r"[Tt]or\W+(?:version )?\"?(\d+\.\d+\.\d+\.\d+)")
_REPLY_BYTES: Final = 4096


def membership(home: Home) -> Iterator[Finding]:
    """The network that the home has joined, and that its settings fit it."""
    try:
        terms = joined(home)
        if terms is not None:
            carrier_of(home, terms)
    except Ended as error:
        yield Finding("network.invalid", str(error), stops=True)
        return
    if terms is None:
        yield Finding(
            "network.none",
            "this home has joined no network, so its recordings stay on this disk alone: `lucid-node network join FILE`",
        )


def tor(home: Home) -> Iterator[Finding]:
    """The tor that the settings name; nothing where the network is not over Tor."""
    try:
        config, terms = home.config(), joined(home)
        if terms is None or carrier_of(home, terms) is not Carrier.TOR:
            return
    except Ended:
        return  # told where the settings and the network are looked at
    if config.tor_mode == "system":
        yield from _system(home, config)
    elif config.tor_mode == "external":
        yield from _answering(parse_endpoint(config.tor_socks), "tor.socks")
    elif shutil.which("tor") is None:
        yield Finding("tor.missing", "tor is not installed: apt-get install tor", stops=True)
    else:
        said = subprocess.run(["tor", "--version"], capture_output=True, text=True, check=False).stdout
        yield from _old(home, config, said)


def _old(home: Home, config: Config, said: str) -> Iterator[Finding]:
    found = _VERSION.search(said)
    private = (home.path / "torrc").exists()
    try:
        ensure_version(found[1] if found else "unknown", private=private, allow_outdated=config.tor_allow_outdated)
    except TorOutdated as error:
        yield Finding("tor.old", str(error), stops=True)


def _system(home: Home, config: Config) -> Iterator[Finding]:
    try:
        control = parse_endpoint(config.tor_control)
    except BadEndpoint as error:
        yield Finding("tor.control", f"tor.control: {error}", stops=True)
        return
    unreachable = list(_answering(control, "tor.control"))
    if unreachable:
        yield from unreachable
        return
    yield from _answering(parse_endpoint(config.tor_socks) if config.tor_socks else SYSTEM_SOCKS, "tor.socks")
    said = _protocol(control)
    yield from _old(home, config, said)
    methods = re.search(r"METHODS=([A-Z,]+)", said)
    if methods is not None and "NULL" in methods[1].split(","):
        mend = "set CookieAuthentication 1 in its torrc and reload it"
        yield Finding("tor.open", f"tor at {spelled(control)} takes orders from everybody on this machine: {mend}")


def _answering(endpoint: Endpoint, code: str) -> Iterator[Finding]:
    try:
        _connected(endpoint).close()
    except PermissionError:
        mend = "add this user to the group of that socket (Debian: `adduser NAME debian-tor`) and log in anew"
        yield Finding(code, f"{spelled(endpoint)} is not open to this user: {mend}", stops=True)
    except OSError as error:
        mend = "start tor (`systemctl start tor`), or name the right place in config.toml"
        yield Finding(code, f"no tor answers at {spelled(endpoint)} ({error.strerror or error}): {mend}", stops=True)


def _connected(endpoint: Endpoint) -> socket.socket:
    if isinstance(endpoint, Path):
        family: socket.AddressFamily = socket.AF_UNIX
        address: str | tuple[str, int] = str(endpoint)
    else:
        family, address = socket.AF_INET6 if ":" in endpoint[0] else socket.AF_INET, endpoint
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(ANSWER_S)
    try:
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _protocol(control: Endpoint) -> str:
    """What tor says of itself to strangers: its version, and how to authenticate; empty when it says nothing."""
    try:
        with _connected(control) as sock:
            sock.sendall(b"PROTOCOLINFO 1\r\nQUIT\r\n")
            said = b""
            while len(said) < _REPLY_BYTES and (part := sock.recv(_REPLY_BYTES)):
                said += part
    except OSError:
        return ""
    return said.decode("ascii", "replace")
