"""What the machine lacks: programs, packages, disk and a clock that is right. Nothing here asks the network."""

import calendar
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final

from node.appliance import service
from node.appliance.findings import Check, Finding
from node.config import Home
from node.console import moment, size
from node.exits import Ended
from node.membership import joined
from node.store.files import ChunkFiles
from node.store.replicas import ReplicaFiles

PYTHON_MIN: Final = (3, 11)
DISK_LOW_BYTES: Final = 1_000_000_000
DISK_FULL_BYTES: Final = 100_000_000
CLOCK_S: Final = 3600
"""How far ahead of our clock a consensus may begin: an onion is not found by clocks that are hours off."""

_NEEDED: Final = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)")
_CONSENSUS: Final = re.compile(r"^valid-after (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)$", re.MULTILINE)
_HEAD_BYTES: Final = 4096


def python(_home: Home) -> Iterator[Finding]:
    """The Python that runs this."""
    if sys.version_info[:2] < PYTHON_MIN:
        found = ".".join(map(str, sys.version_info[:3]))
        yield Finding("python.old", f"Python {found} is too old: 3.11 or later", stops=True)


def packages(_home: Home) -> Iterator[Finding]:
    """The libraries that the distribution asks for, each at least as new as it asks."""
    for text in requires("lucid-node") or ():
        needed = _NEEDED.match(text)
        if needed is None or "extra ==" in text:
            continue
        name, least = needed.groups()
        try:
            found = version(name)
        except PackageNotFoundError:
            yield Finding(
                "package.missing", f"the library {name} is not installed: `./lucid install` again", stops=True
            )
            continue
        if _number(found) < _number(least):
            yield Finding(
                "package.old", f"the library {name} is {found} and {least} is needed: `./lucid install` again"
            )


def _number(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def program(name: str, package: str, *, stops: bool = False) -> Check:
    """Whether a program is installed."""

    def check(_home: Home) -> Iterator[Finding]:
        if shutil.which(name) is None:
            yield Finding(f"{name}.missing", f"{name} is not installed: apt-get install {package}", stops)

    return check


def free_bytes(home: Home) -> int:
    """What is free where the home lies, or would."""
    folder = next(path for path in (home.path, *home.path.parents) if path.exists())
    return shutil.disk_usage(folder).free


def disk(home: Home) -> Iterator[Finding]:
    """Room, and whether what was promised to others fits into it."""
    free = free_bytes(home)
    if free < DISK_LOW_BYTES:
        full = free < DISK_FULL_BYTES
        yield Finding(
            "disk.full" if full else "disk.low", f"only {size(free)} are free for {home.path}: free 1 GB or more", full
        )
    try:
        config = home.config()
    except Ended:
        return  # told where the settings are looked at
    own, most = ChunkFiles(home.chunks).usage(), config.quota_gb * 10**9
    if most and own >= most:
        mend = f"raise store.quota_gb in {home.path / 'config.toml'}, or nothing more is recorded"
        yield Finding(
            "quota.full", f"your own chunks take {size(own)} of the {config.quota_gb} GB that they may: {mend}"
        )
    folder = home.path / "replicas"
    promised = config.replicas_gb * 10**9 - (ReplicaFiles(folder).usage() if folder.exists() else 0)
    if promised > free:
        yield Finding(
            "quota.promised",
            f"store.replicas_gb promises others {size(promised)} more and {size(free)} are free: lower it, or free the room",
        )


def clock(home: Home) -> Iterator[Finding]:
    """Against what must have been signed before now, and against whoever keeps the time of this machine."""
    now = time.time()
    for what, since in _signed(home):
        if now < since - CLOCK_S:
            yield Finding(
                "clock.behind", f"the clock says {moment(int(now * 1000))}, before {what} was made: set it", stops=True
            )
            return
    if service.BOOTED.exists() and shutil.which("timedatectl"):
        command = ["timedatectl", "show", "-p", "NTPSynchronized", "--value"]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if said == "no":
            yield Finding(
                "clock.unsynchronised",
                "nothing keeps the clock right, and recordings carry its time: apt-get install systemd-timesyncd",
            )


def _signed(home: Home) -> Iterator[tuple[str, float]]:
    """What others signed, and when, in seconds since 1970."""
    try:
        terms = joined(home)
    except Ended:
        terms = None  # told where the network is looked at
    if terms is not None:
        yield "the network's file", terms.issued / 1000
    for name in ("cached-microdesc-consensus", "cached-consensus"):
        try:
            with Path(home.path, "tor", "data", name).open(encoding="ascii", errors="replace") as file:
                found = _CONSENSUS.search(file.read(_HEAD_BYTES))
        except OSError:
            continue
        if found is not None:
            parsed = time.strptime(found[1] + " UTC", "%Y-%m-%d %H:%M:%S %Z")
            yield "tor's newest list of relays", float(calendar.timegm(parsed))


def boot(_home: Home) -> Iterator[Finding]:
    """The service, where one is installed."""
    if not service.UNIT.exists() or not service.BOOTED.exists():
        return
    try:
        said = service.state()
    except Ended as error:
        yield Finding("service.unknown", str(error))
        return
    if said.get("ActiveState") == "failed":
        mend = "`journalctl -u lucid-node -e` shows why, `systemctl restart lucid-node` tries again"
        yield Finding("service.failed", f"the service has failed ({said.get('Result')}): {mend}", stops=True)
