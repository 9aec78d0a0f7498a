"""Whole daemons on a private Tor network: tors that die and freeze under them, namespaces apart, and nothing past tor."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from node.cli import main
from node.control.client import NoDaemon, ask
from node.exits import Ended
from node.net.onion import parse_onion
from node.net.tor import SystemTor
from node.net.torcontrol import open_control
from node.net.torsupervisor import open_tor
from pipeline.child import Child, child
from tests.node.net.conftest import PrivateTor
from tests.system.enclosed import UNSHARE, enclosed, relays_of

pytestmark = pytest.mark.system

STRACE: Final = ("strace", "-D", "-f", "-qq", "-e", "signal=none", "--seccomp-bpf")
CALLS: Final = "connect,sendto,sendmsg,sendmmsg,bind"
FAMILY: Final = re.compile(r"^(\d+) +(\w+)\(.*?\{sa_family=(AF_\w+)(?:, sin6?_port=htons\(\d+\))?(?:.*?\"([^\"]*)\")?")
LOOKS: Final = {("bind", "AF_INET6", "::1")}
"""urllib3, which py-libp2p brings, looks when it is imported whether this machine has IPv6."""
Facts = dict[str, Any]


class Homes:
    """Homes of one network over the private Tor network, and the daemons that run in them."""

    def __init__(self, folder: Path, net: PrivateTor) -> None:
        self.folder, self.net = folder, net

    def path(self, number: int) -> Path:
        return self.folder / str(number)

    def make(self, count: int) -> None:
        """Homes 0 to count − 1; the network's file names home 0 alone."""
        file = str(self.folder / "file")
        for number in range(count):
            home = self.path(number)
            joined = ["--network", file] if number else []
            typed_here(home, "init", "--insecure-plaintext-keys", "--quota-gb", "1", *joined)
            (home / "torrc").write_text(self.net.torrc)
            if number == 0:
                typed_here(home, "network", "create", "test", "--mode", "devnet", "--out", file)
                typed_here(home, "network", "join", file)

    def use_system_tor(self, number: int, client: int) -> None:
        """Have a home use a tor of the private network by its unix sockets, instead of one of its own."""
        control, socks = self.net.controls[client], self.net.socks[client]
        settings = f'[store]\nreplicas_gb = 1\n[tor]\nmode = "system"\ncontrol = "{control}"\nsocks = "{socks}"\n'
        (self.path(number) / "config.toml").write_text(settings)

    def command(self, number: int) -> list[str]:
        return [sys.executable, "-P", "-m", "node", "run", "--home", str(self.path(number))]

    @asynccontextmanager
    async def daemon(
        self, number: int, before: Sequence[str] = (), shared: Sequence[tuple[str, int]] | None = None
    ) -> AsyncIterator[Child]:
        """A daemon, behind a command, and with `shared` in a namespace that reaches those ports."""
        with (self.path(number) / "log").open("ab") as log:
            whole = [*before, *self.command(number)]
            if shared is not None:
                async with enclosed(whole, shared, log.fileno()) as running:
                    yield running
            else:
                async with child(whole, stderr=log.fileno(), ending=signal.SIGTERM) as running:
                    yield running

    async def says(self, number: int) -> Facts | None:
        """The status of a daemon, None while it has no control socket."""
        try:
            return await trio.to_thread.run_sync(ask, self.path(number), "status")
        except (NoDaemon, Ended):
            return None

    async def until(self, number: int, holds: Callable[[Facts], bool]) -> list[Facts]:
        """All that a daemon said of itself until it was so; generously, for machines that do other things as well."""
        said = list[Facts]()
        with trio.move_on_after(270):
            while not said or not holds(said[-1]):
                facts = await self.says(number)
                said += [facts] if facts is not None and (not said or facts != said[-1]) else []
                await trio.sleep(0.1)
            return said
        log = (self.path(number) / "log").read_text().splitlines()[-20:]
        raise AssertionError(f"node {number} said last {said[-1:]}, and its log ends with {log}")

    async def met(self, numbers: Sequence[int]) -> None:
        """Returns when these all are connected to each other."""
        ids = {number: (await self.until(number, lambda facts: True))[-1]["node"] for number in numbers}
        for number in numbers:
            others = {ids[other] for other in numbers if other != number}
            await self.until(number, lambda facts, others=others: others <= set(facts["peers"]))  # type: ignore[misc]

    async def tor_pid(self, number: int) -> int:
        async with open_control(self.path(number) / "tor" / "control") as control:
            return int(await control.info("process/pid"))


def typed_here(home: Path, *words: str) -> None:
    assert main(["--home", str(home), *words]) == 0


async def typed(home: Path, *words: str) -> Facts:
    command = [sys.executable, "-P", "-m", "node", *words, "--home", str(home), "--json"]
    done = await trio.to_thread.run_sync(partial(subprocess.run, command, capture_output=True, text=True, check=False))
    assert done.returncode == 0, done.stderr
    answer: Facts = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.fixture
def homes(private_tor: PrivateTor) -> Iterator[Homes]:
    with tempfile.TemporaryDirectory(prefix="tf") as name:  # short: sockets have names of 107 bytes
        yield Homes(Path(name), private_tor)


@pytest.fixture
def namespaces() -> None:
    refused = subprocess.run([*UNSHARE, "true"], capture_output=True, check=False, text=True)
    if refused.returncode:
        pytest.skip(f"this machine gives us no network namespace: {refused.stderr.strip()}")


@pytest.fixture
def tracing(tmp_path: Path) -> None:
    """strace works here, and what it tells of a call that would leave this machine is recognised."""
    leak = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
    command = [*STRACE, "-e", f"trace={CALLS}", "-o", str(tmp_path / "t"), "--", sys.executable, "-I", "-c", leak]
    refused = subprocess.run(command, capture_output=True, check=False, text=True)
    if refused.returncode:
        pytest.skip(f"this machine lets us trace no process: {refused.stderr.strip()}")
    assert [where for _, _, *where in addressed(tmp_path / "t")] == [["AF_INET", "192.0.2.1"]]


def addressed(trace: Path) -> list[tuple[str, ...]]:
    """Process, call, family and address of each traced call that names one."""
    return [found.groups("") for line in trace.read_text().splitlines() if (found := FAMILY.match(line))]


@pytest.mark.usefixtures("namespaces", "tracing")
async def test_a_session_is_replicated_past_no_wall_by_nodes_of_which_one_has_no_interface(homes: Homes) -> None:
    """Node 1 is traced from its first call on; node 3 is in a namespace where even lo is down, and uses the system's tor."""
    homes.make(4)
    homes.use_system_tor(1, 0)
    homes.use_system_tor(3, 1)
    trace = homes.folder / "trace"
    source = homes.folder / "input"
    source.write_bytes(os.urandom(300_000))
    async with AsyncExitStack() as until:
        for number in (0, 2):
            await until.enter_async_context(homes.daemon(number))
        traced = [*STRACE, "-e", f"trace={CALLS}", "-o", str(trace)]
        await until.enter_async_context(homes.daemon(1, before=traced))
        await until.enter_async_context(homes.daemon(3, shared=()))
        await homes.met(range(4))
        await typed(homes.path(1), "record", "--input", str(source))
        await homes.until(1, lambda facts: facts["sessions_replicated"] == 1)
        sealed = (await homes.until(3, lambda facts: facts["tor"]["state"] == "up"))[-1]
        assert sealed["replicas_held"] > 0
        assert sealed["tor"]["onions"] == 1
        await answers(homes.net, sealed["addresses"][0])
    calls = addressed(trace)
    assert {(call, family) for _, call, family, _ in calls} >= {("connect", "AF_UNIX"), ("bind", "AF_UNIX")}
    assert sum(place == str(homes.net.socks[0]) for *_, place in calls) >= 3, "it dialled nobody through tor"
    past = [call for call in calls if call[2] != "AF_UNIX" and call[1:] not in LOOKS]
    assert past == []


async def answers(net: PrivateTor, address: str) -> None:
    """A stranger's tor dials a node's onion, and the node begins to speak."""
    onion, port = address.removeprefix("/onion3/").split(":")
    async with open_tor(SystemTor(net.controls[2], net.socks[2], private=True)) as tor:
        with trio.fail_after(120):
            async with await tor.dial(parse_onion(onion), int(port), "stranger") as stream:
                await stream.send_all(b"\x13/multistream/1.0.0\n")
                assert bytes(await stream.receive_some(20)) == b"\x13/multistream/1.0.0\n"


FAULTS: Final = {
    0: (signal.SIGKILL, "tor ended and was started again"),
    1: (signal.SIGTERM, "tor ended and was started again"),
    2: (signal.SIGSTOP, "tor does not answer: it is frozen"),
}
"""By node, what is done to its tor, and what `status` tells of it."""


async def test_tors_that_are_killed_stopped_or_frozen_under_daemons_are_replaced_and_told_of(homes: Homes) -> None:
    homes.make(len(FAULTS))
    async with AsyncExitStack() as until:
        for number in FAULTS:
            await until.enter_async_context(homes.daemon(number))
        await homes.met(list(FAULTS))
        before = {number: await homes.tor_pid(number) for number in FAULTS}
        for number, (fault, _) in FAULTS.items():
            os.kill(before[number], fault)
        async with trio.open_nursery() as nursery:
            for number, (_, reason) in FAULTS.items():
                nursery.start_soon(mended, homes, number, reason)
        assert not set(before.values()) & {await homes.tor_pid(number) for number in FAULTS}
        await homes.met(list(FAULTS))  # anew: whatever went through those tors has ended with them


async def mended(homes: Homes, number: int, reason: str) -> None:
    """Until the daemon has a tor that serves its onion again; it has told meanwhile that it had none, and why."""
    lost = await homes.until(number, lambda facts: facts["tor"]["state"] != "up")
    said = [lost[-1]["tor"], *(facts["tor"] for facts in await homes.until(number, is_served))]
    assert any(reason in tor["reason"] for tor in said), said
    assert all(tor["reason"] for tor in said if tor["state"] not in {"up", "publishing"}), said


def is_served(facts: Facts) -> bool:
    return (facts["tor"]["state"], facts["tor"]["onions"]) == ("up", 1)


@pytest.mark.usefixtures("namespaces")
async def test_two_nodes_that_share_only_the_tor_network_meet_again_without_the_bootstrap_node(homes: Homes) -> None:
    """Each in a namespace of its own, with a tor of its own that reaches the relays of the private network and nothing else."""
    homes.make(3)
    relays = relays_of(homes.net.folder)
    async with homes.daemon(0) as server:
        async with homes.daemon(1, shared=relays) as one, homes.daemon(2, shared=relays) as two:
            await homes.met(range(3))
            spaces = {os.readlink(f"/proc/{pid}/ns/net") for pid in ("self", one.pid, two.pid)}
            assert len(spaces) == 3
            for running in (server, one, two):
                running.signal(signal.SIGKILL)
                await running.wait()
        async with homes.daemon(1, shared=relays), homes.daemon(2, shared=relays):
            await homes.met((1, 2))
            assert await homes.says(0) is None
