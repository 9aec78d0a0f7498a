"""Tor as the rest of the program sees it: dial an onion, serve an onion, and say how it is.

Whoever holds a `Tor` neither knows nor cares whether it is one that we run (`ManagedTor`), the system's (`SystemTor`), an
onion that somebody else configured (`ExternalOnion`), or sockets of this machine (node.tor.loopback), which pass the
same tests. node.tor.supervisor is what keeps the first two alive.

    DOWN → CONNECTING → BOOTSTRAPPING → PUBLISHING → UP ⇄ DEGRADED        from anywhere to DOWN when tor is lost

Source: DESIGN §4; Tor changelog 0.4.9.11 (a rendezvous point could pose as the onion service, #41297).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

import trio

from node.net.endpoints import Endpoint
from node.tor.onion import Onion

VERSION_PUBLIC: Final = (0, 4, 9, 11)
VERSION_PRIVATE: Final = (0, 4, 8)
SYSTEM_SOCKS: Final = Path("/run/tor/socks")
"""Where Debian's service has it."""


class TorState(Enum):
    """How far tor is."""

    DOWN = "down"
    """There is no tor; it is tried again."""
    CONNECTING = "connecting"
    BOOTSTRAPPING = "bootstrapping"
    """It looks for the network; `progress` and `reason` say how far it is."""
    PUBLISHING = "publishing"
    """Our onions are being made known; dialling works."""
    UP = "up"
    DEGRADED = "degraded"
    """Something of `reason` is wrong, and what is not named works."""


@dataclass(frozen=True, slots=True)
class TorStatus:
    """What tor is doing; `reason` is a sentence for people, empty when all is well."""

    state: TorState
    reason: str = ""
    progress: int = 0
    """Percent of the way into the network."""
    version: str = ""
    onions: tuple[Onion, ...] = ()
    """Ours that are published, in the order of their addresses."""


class LatestStatus:
    """The status that holds now, and waiting for another one."""

    def __init__(self, now: TorStatus) -> None:
        self.now = now
        self._change = trio.Event()

    def set(self, status: TorStatus) -> None:
        """Tells whoever waits, unless it is the same."""
        if status != self.now:
            self.now = status
            self._change.set()
            self._change = trio.Event()

    async def other_than(self, since: TorStatus) -> TorStatus:
        """As soon as it differs from that one; what came and went in between is not seen."""
        while self.now == since:
            await self._change.wait()
        return self.now


@dataclass(frozen=True, slots=True)
class OnionService:
    """An onion of ours: its 32-byte seed, and to which local endpoint each virtual port leads."""

    seed: bytes = field(repr=False)
    ports: Mapping[int, Endpoint]
    readers: tuple[str, ...] = ()
    """`onion.reader_key` of each peer that may find it; empty: whoever knows the address."""
    streams_max: int = 64
    """Streams of one circuit; a peer needs one connection, and has a circuit of its own."""


class Tor(Protocol):
    """A way to reach onions and to be one."""

    async def dial(self, onion: Onion, port: int, isolation: str) -> trio.abc.Stream:
        """A stream to an onion's virtual port that shares no circuit with other isolations; raises socks.DialFailed.

        An isolation is a name of 1 to 199 bytes, usually the peer's id.
        """

    async def serve(self, service: OnionService) -> Onion:
        """Returns when the onion can be found, and keeps it so until it is withdrawn, whatever becomes of tor.

        The address is the seed's, save where somebody else holds the key (ExternalOnion).
        Serving the seed of an onion that is served replaces its ports and readers. Endpoints are connected to when a peer
        comes, so whoever listens there may do so later. Waits as long as tor takes; cancelled, it leaves the onion served,
        and it returns too when the onion is withdrawn meanwhile.
        """

    async def withdraw(self, onion: Onion) -> None:
        """Ends new connections to an onion of ours; streams that are open stay. One that is not served is no error."""

    async def add_reader(self, onion: Onion, secret: bytes) -> None:
        """Keeps a 32-byte X25519 secret for an onion that opens only for its readers; replaces one from before."""

    def status(self) -> TorStatus:
        """How it is now."""

    async def changed(self, since: TorStatus) -> TorStatus:
        """How it is as soon as that is not `since`; what came and went in between is not seen."""


@dataclass(frozen=True, slots=True)
class ManagedTor:
    """A tor that we start, and that dies with us; its files and sockets lie in `folder`, which is its alone."""

    folder: Path
    network: str = ""
    """torrc lines of a private network; empty for the public one."""


@dataclass(frozen=True, slots=True)
class SystemTor:
    """A tor that somebody else runs, such as Debian's service, whose control port we may use."""

    control: Endpoint = Path("/run/tor/control")
    socks: Endpoint = SYSTEM_SOCKS
    private: bool = False
    """Whether it is in a private network."""


@dataclass(frozen=True, slots=True)
class ExternalOnion:
    """An onion that somebody configured in a torrc, and the SOCKS port to dial through; nothing of it is controlled."""

    onion: Onion
    backend: Endpoint
    """Where its HiddenServicePort leads, which is where we have to listen."""
    port: int
    socks: Endpoint


@dataclass(frozen=True, slots=True)
class TorLimits:
    """Deadlines and bounds, for the real network; a private one allows for shorter ones."""

    allow_outdated: bool = False
    dial_s: float = 45.0
    slow_s: float = 10.0  # a dial that takes longer is raced by another, with the peer's descriptor renewed
    uploads: int = 4  # at least, and none that is not answered: after one alone, a third of first dials found nothing
    settle_s: float = 10.0  # after the first upload, if there are no more
    publish_s: float = 120.0  # then it is published anew
    publications: int = 10  # at a time: some twenty wedge a tor
    retry_first_s: float = 0.1
    retry_last_s: float = 5.0
    heartbeat_s: float = 15.0
    answer_s: float = 10.0  # of a heartbeat: tor answers within milliseconds
    silences: int = 4  # heartbeats without an answer before a managed tor is killed
    probe_s: float = 600.0
    reprobe_s: float = 60.0  # while one has failed
    probes_failed: int = 3  # in a row, before the onion is published anew, and again before tor is restarted
    fetch_s: float = 30.0  # between two renewals of one peer's descriptor
    fetched_most: int = 4_096  # peers whose renewals are remembered


class TorOutdated(Exception):
    """The tor that is there is too old; the message names its version, what is needed and how to get it."""


def ensure_version(version: str, *, private: bool, allow_outdated: bool) -> None:
    """Raises TorOutdated for a version such as "0.4.8.10" that is too old for its network.

    A private network has no strangers, and takes what Ubuntu 24.04 ships; a public one only if that is allowed.
    """
    found = re.match(r"(\d+)\.(\d+)\.(\d+)(?:\.(\d+))?", version)
    number = tuple(int(part or 0) for part in found.groups()) if found else (0,)
    least = VERSION_PRIVATE if private or allow_outdated else VERSION_PUBLIC
    if number < least:
        wanted = ".".join(map(str, least))
        raise TorOutdated(
            f"tor is of version {version}, and this network needs {wanted} or newer, in which others cannot pose as an onion "
            "service: upgrade tor (`apt-get install tor`; an older system takes it from the Tor project's own Debian repository)"
            + ("" if private or allow_outdated else ", or set tor.allow_outdated and bear the risk")
        )
