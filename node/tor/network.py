"""A private Tor network on loopback: one authority, some relays and clients by number, from Debian's tor package alone.

    async with tor_network(folder, relays=4) as net:          python -m node.tor.network FOLDER --clients 2
        client = await net.client(0)                          client.control, client.socks: unix sockets

It is ready in some 10 s, and a client in 2 s more. Every process dies with the context or with the process that made it.
A folder that held a network is that network again, sooner: its keys, addresses and consensus are used as they are.

What makes it quick, and reliable: the first vote is placed by TestingV3AuthVotingStartOffset a few seconds after the start,
wherever the wall clock stands; relays are told to RELOAD once there is a consensus, since their own retries back off; no
client starts before every relay can serve it, since it would wait ten seconds before asking again. A vote that a relay
missed on a slow machine cannot be mended within the interval: all starts anew, with more time before the vote.

The authority is no guard. It has served every relay when the first vote comes, and may be the only node that has measured
any bandwidth: all paths then end at it, and those that would begin there too are refused until the next consensus.

Each network has a 127.a.b.0/24 of its own, one address a node, so that fixed ports do for any number of networks at once.
"""

import argparse
import json
import math
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import trio

from node.net.endpoints import PATH_BYTES_MAX
from node.net.nursery import bare_nursery
from node.tor.control import TorClosed, TorControl, TorRefusal, TorUnreachable, open_control
from node.tor.process import OWN_TORRC_ONLY
from pipeline.child import Child, child

OR_PORT, DIR_PORT = 5000, 7000
LEAD_S: Final = 7.0
"""From the start to the first consensus; 6 s missed one vote in five on two busy cores, 7 s none in 46."""
_LEAD_MORE_S: Final = 4.0
_ATTEMPTS: Final = 4
_FIRST_INTERVAL_S: Final = 20
_STEP_S: Final = 0.1
"""How often a tor that is starting is asked whether it is there: nothing tells of a socket that comes to be."""
_STAGE_S: Final = 120.0

_NETWORK: Final = """\
TestingTorNetwork 1
PathsNeededToBuildCircuits 0.67
TestingClientMaxIntervalWithoutRequest 1
TestingDirConnectionMaxStall 5
VanguardsLiteEnabled 0
"""
_NODE: Final = """\
DataDirectory "{folder}"
Log notice file {folder}/log
SafeLogging 0
ShutdownWaitLength 0
NumCPUs 1
ControlPort 0
ControlSocket "{folder}/control"
CookieAuthentication 1
__OwningControllerProcess {owner}
GeoIPFile "{folder}/../empty"
GeoIPv6File "{folder}/../empty"
OutboundBindAddress {address}
"""
_RELAY: Final = f"""\
Nickname {{name}}
Address {{address}}
ORPort {{address}}:{OR_PORT} IPv4Only
DirPort {{address}}:{DIR_PORT}
AssumeReachable 1
SocksPort 0
ExitRelay 0
ExitPolicy reject *:*
ContactInfo none
DoSCircuitCreationEnabled 0
DoSConnectionEnabled 0
DoSRefuseSingleHopClientRendezvous 0
"""
# Later intervals are long: a time period of v3 onions is 24 intervals, so ten seconds would rotate descriptors within a test.
_AUTHORITY: Final = f"""\
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
TestingV3AuthInitialVotingInterval {_FIRST_INTERVAL_S}
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
TestingV3AuthVotingStartOffset {{offset}}
V3AuthVotingInterval 300
V3AuthVoteDelay 20
V3AuthDistDelay 20
V3AuthNIntervalsValid 3
TestingDirAuthVoteExit *
TestingDirAuthVoteHSDir *
TestingDirAuthVoteGuard {{guards}}
TestingDirAuthVoteGuardIsStrict 1
AuthDirFastGuarantee 1
TestingMinExitFlagThreshold 0
TestingMinFastFlagThreshold 0
TestingAuthDirTimeToLearnReachability 0
MinUptimeHidServDirectoryV2 0
AuthDirMaxServersPerAddr 0
ConsensusParams cbtdisabled=1 vanguards-lite-enabled=0
"""
_CLIENT: Final = """\
ClientOnly 1
SocksPort unix:"{folder}/socks" IsolateSOCKSAuth ExtendedErrors OnionTrafficOnly
"""


class NoTorNetwork(Exception):
    """The private network could not be made; the message says what is missing or which part did not come up."""


class _MissedVote(Exception):
    pass


class TorNode:
    """One tor of the network: its folder, and where it listens."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.address = address
        self.control = folder / "control"
        self.socks = folder / "socks"
        self.fingerprint = ""
        self.process: Child | None = None

    @property
    def name(self) -> str:
        return self.folder.name

    def running(self) -> Child:
        """Its process; raises NoTorNetwork when it was never started."""
        if self.process is None:
            raise NoTorNetwork(f"{self.name} was not started")
        return self.process


class TorNetwork:
    """A network that serves; made by `tor_network`."""

    def __init__(self, folder: Path, relays: int, children: AsyncExitStack, lead_s: float) -> None:
        place = folder / "addresses"
        if not place.exists():
            place.write_text(f"127.{random.randint(1, 254)}.{random.randint(0, 255)}")  # noqa: S311 - no secret
        self._prefix = place.read_text()
        self._folder = folder
        self._children = children
        self.lead_s = lead_s
        self._clients: dict[int, TorNode] = {}
        self._lock = trio.Lock()
        self._identity = ""
        (folder / "empty").touch()
        self.authority = self._node("authority", 1)
        self.relays = [self._node(f"relay{number}", 2 + number) for number in range(relays)]

    @property
    def torrc(self) -> str:
        """The lines that make any tor a client of this network."""
        a = self.authority
        where = f"orport={OR_PORT} no-v2 v3ident={self._identity} {a.address}:{DIR_PORT} {a.fingerprint}"
        return f"{_NETWORK}DirAuthority {a.name} {where}\n"

    async def client(self, number: int) -> TorNode:
        """The client of that number, 0 to 99, started and bootstrapped when it is first asked for."""
        async with self._lock:
            if number not in self._clients:
                node = self._node(f"client{number}", 100 + number)
                self._write(node, _CLIENT)
                await self.start(node)
                self._clients[number] = node
        return self._clients[number]

    async def start(self, node: TorNode) -> None:
        """Starts a client, for the first time or again, and returns when it has bootstrapped."""
        await self._spawn(node)
        with _stage(f"{node.name} did not bootstrap", node):
            async with _reached(node) as control, control.events("STATUS_CLIENT") as events:
                if (await control.bootstrap())["PROGRESS"] != "100":
                    async for event in events:
                        if event.pairs.get("PROGRESS") == "100":
                            break

    async def stop(self, node: TorNode, how: signal.Signals = signal.SIGKILL) -> None:
        """Sends the signal and returns when the process has ended."""
        node.running().signal(how)
        await node.running().wait()

    async def begin(self) -> None:
        """Starts authority and relays and returns when each relay can serve clients."""
        await self._make_keys()
        offset = math.ceil(time.time() + self.lead_s) % _FIRST_INTERVAL_S
        guards = ",".join(relay.fingerprint for relay in self.relays)
        authority = _AUTHORITY.replace("{offset}", str(offset)).replace("{guards}", guards)
        self._write(self.authority, _RELAY + authority)
        for relay in self.relays:
            self._write(relay, _RELAY)
        for node in (self.authority, *self.relays):
            await self._spawn(node)
        with _stage("the authority published no consensus", self.authority):
            async with _reached(self.authority) as control:
                await self._consensus(control)
        async with bare_nursery() as nursery:
            for relay in self.relays:
                nursery.start_soon(self._cached, relay)

    def _node(self, name: str, host: int) -> TorNode:
        folder = self._folder / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return TorNode(folder, f"{self._prefix}.{host}")

    def _write(self, node: TorNode, torrc: str) -> None:
        values = {"name": node.name, "folder": node.folder, "address": node.address, "owner": os.getpid()}
        (node.folder / "torrc").write_text(self.torrc + (_NODE + torrc).format(**values))

    async def _spawn(self, node: TorNode) -> None:
        (node.folder / "control").unlink(missing_ok=True)  # of a tor that was killed: it would be connected to, in vain
        command = ["tor", *OWN_TORRC_ONLY, "-f", str(node.folder / "torrc"), "--quiet"]
        node.process = await self._children.enter_async_context(child(command))

    async def _make_keys(self) -> None:
        async with bare_nursery() as nursery:
            for node in (self.authority, *self.relays):
                nursery.start_soon(self._fingerprint, node)
            nursery.start_soon(self._certify)

    async def _fingerprint(self, node: TorNode) -> None:
        # "ORPort 1" makes it a relay, which has keys; the false authority keeps it from looking for a real one.
        none = ["--DirAuthority", f"x 127.0.0.1:1 {'F' * 40}", "--Nickname", node.name, "--ORPort", "1"]
        command = ["tor", *OWN_TORRC_ONLY, "-f", "/nonexistent", "--quiet", "--list-fingerprint", *none]
        said = await _output([*command, "--DataDirectory", str(node.folder)])
        node.fingerprint = said.split(" ", 1)[1].replace(" ", "").strip()

    async def _certify(self) -> None:
        keys = self.authority.folder / "keys"
        keys.mkdir(mode=0o700, exist_ok=True)
        certificate = keys / "authority_certificate"
        if not certificate.exists():
            command = ["tor-gencert", "--create-identity-key", "--passphrase-fd", "0", "-m", "12"]
            places = [
                "-i",
                f"{keys}/authority_identity_key",
                "-s",
                f"{keys}/authority_signing_key",
                "-c",
                str(certificate),
            ]
            await _output([*command, *places], typed=b"none\n")
        found = re.search(r"^fingerprint ([0-9A-F]{40})$", certificate.read_text(), re.MULTILINE)
        if found is None:
            raise NoTorNetwork(f"{certificate} names no fingerprint: remove {self._folder} and start again")
        self._identity = found[1]

    async def _consensus(self, control: TorControl) -> None:
        while True:
            listed = await control.info("ns/all")
            if listed.strip():
                break
            await trio.sleep(_STEP_S)
        # The authority itself need not be in it: it looks at its own descriptor once a minute only.
        for relay in self.relays:
            entry = re.search(rf"^r {relay.name} .*\n(?:[^rs].*\n)*s (.*)", listed, re.MULTILINE)
            if entry is None or not {"HSDir", "Guard", "Running", "Valid"} <= set(entry[1].split()):
                raise _MissedVote(relay.name)

    async def _cached(self, relay: TorNode) -> None:
        with _stage(f"{relay.name} did not fetch the consensus", relay):
            async with _reached(relay) as control:
                while await control.info("status/enough-dir-info") != "1":
                    await control.signal("RELOAD")
                    for _ in range(10):
                        await trio.sleep(_STEP_S / 2)
                        if await control.info("status/enough-dir-info") == "1":
                            return


@asynccontextmanager
async def tor_network(folder: Path, *, relays: int = 4, lead_s: float = LEAD_S) -> AsyncIterator[TorNetwork]:
    """A private network in a folder of its own, which is made if need be; raises NoTorNetwork.

    Four relays are the fewest with which an onion is always found, and none of them can be spared: eight survive the loss
    of one. Costs 0.13 GB and a second or two of processor time; loopback must be up.
    """
    for program, package in (("tor", "tor"), ("tor-gencert", "tor"), ("setpriv", "util-linux")):
        if shutil.which(program) is None:
            raise NoTorNetwork(f"{program} is not installed: apt-get install {package}")
    if len(bytes(folder.absolute() / "client99" / "control")) > PATH_BYTES_MAX:
        raise NoTorNetwork(f"{folder} is too long a path for tor's sockets: use a shorter one")
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for attempt in range(_ATTEMPTS):
        async with AsyncExitStack() as children:
            net = TorNetwork(folder, relays, children, lead_s + attempt * _LEAD_MORE_S)
            if await _begun(net):
                yield net
                return
        _forget(folder)
    raise NoTorNetwork(
        f"the first vote was missed by a relay {_ATTEMPTS} times: the machine is too busy, try again later"
    )


async def _begun(net: TorNetwork) -> bool:
    try:
        await net.begin()
    except _MissedVote:
        return False
    return True


def _forget(folder: Path) -> None:
    """Leaves of each node its keys alone."""
    for path in folder.glob("*/*"):
        if path.name == "keys":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@asynccontextmanager
async def _reached(node: TorNode) -> AsyncIterator[TorControl]:
    """A control connection to a tor that may still be starting."""
    async with AsyncExitStack() as stack:
        while True:
            try:
                control = await stack.enter_async_context(open_control(node.control))
            except (TorUnreachable, TorClosed, TorRefusal):
                if node.running().process.poll() is not None:
                    raise NoTorNetwork(f"{node.name} ended at once: see {node.folder / 'log'}") from None
                await trio.sleep(_STEP_S / 2)
                continue
            yield control
            return


@contextmanager
def _stage(what: str, node: TorNode) -> Iterator[None]:
    """Bounds a stage of the start by _STAGE_S and says which one it was."""
    with trio.move_on_after(_STAGE_S) as scope:
        yield
    if scope.cancelled_caught:
        raise NoTorNetwork(f"{what} within {_STAGE_S:g} s: see {node.folder / 'log'}")


async def _output(command: list[str], *, typed: bytes = b"") -> str:
    """What a short command prints; raises NoTorNetwork when it fails."""
    done = await trio.run_process(command, stdin=typed, capture_stdout=True, capture_stderr=True, check=False)
    if done.returncode:
        last = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()[-1:]
        raise NoTorNetwork(f"{command[0]} failed: {' '.join(last) or done.returncode}")
    return done.stdout.decode()


async def _serve(folder: Path, relays: int, clients: int) -> None:
    async with tor_network(folder, relays=relays) as net:
        async with bare_nursery() as nursery:
            for number in range(clients):
                nursery.start_soon(net.client, number)
        nodes = [await net.client(number) for number in range(clients)]
        ready = [{"control": str(node.control), "socks": str(node.socks)} for node in nodes]
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            print(json.dumps({"torrc": net.torrc, "clients": ready}), flush=True)
            async for _ in signals:
                return


def main(arguments: Sequence[str]) -> int:
    """Runs a network until SIGINT or SIGTERM, after one line of JSON that says how to use it: `torrc` and `clients`."""
    parser = argparse.ArgumentParser(prog="python -m node.tor.network", description="a private Tor network on loopback")
    parser.add_argument("folder", type=Path, help="keeps it; a network that is in it already is started again")
    parser.add_argument("--relays", type=int, default=4)
    parser.add_argument("--clients", type=int, default=0)
    asked = parser.parse_args(arguments)
    try:
        trio.run(_serve, asked.folder, asked.relays, asked.clients)
    except NoTorNetwork as error:
        print(f"tor network: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
