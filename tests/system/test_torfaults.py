"""Whole daemons on a private Tor network: tors that die and freeze under them, namespaces apart, and nothing past tor."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
import trio

from node.tor.interface import SystemTor
from node.tor.onion import parse_onion
from node.tor.supervisor import open_tor
from tests.node.tor.conftest import PrivateTor
from tests.system.enclosed import UNSHARE, relays_of
from tests.system.homes import Facts, Homes, typed

pytestmark = pytest.mark.system

STRACE: Final = ("strace", "-D", "-f", "-qq", "-e", "signal=none", "--seccomp-bpf")
CALLS: Final = "connect,sendto,sendmsg,sendmmsg,bind"
FAMILY: Final = re.compile(r"^(\d+) +(\w+)\(.*?\{sa_family=(AF_\w+)(?:, sin6?_port=htons\(\d+\))?(?:.*?\"([^\"]*)\")?")
LOOKS: Final = {("bind", "AF_INET6", "::1")}
"""urllib3, which py-libp2p brings, looks when it is imported whether this machine has IPv6."""


@pytest.fixture
def homes(private_tor: PrivateTor) -> Iterator[Homes]:
    with tempfile.TemporaryDirectory(prefix="tf") as name:  # short: sockets have names of 107 bytes
        yield Homes(Path(name), private_tor.torrc)


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
async def test_a_session_is_replicated_past_no_wall_by_nodes_of_which_one_has_no_interface(
    homes: Homes, private_tor: PrivateTor
) -> None:
    """Node 1 is traced from its first call on; node 3 is in a namespace where even lo is down, and uses the system's tor."""
    homes.make(range(4))
    for number, client in ((1, 0), (3, 1)):
        control, socks = private_tor.controls[client], private_tor.socks[client]
        homes.set(number, f'[tor]\nmode = "system"\ncontrol = "{control}"\nsocks = "{socks}"\n')
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
        await answers(private_tor, sealed["addresses"][0])
    calls = addressed(trace)
    assert {(call, family) for _, call, family, _ in calls} >= {("connect", "AF_UNIX"), ("bind", "AF_UNIX")}
    assert str(private_tor.socks[0]) in [place for *_, place in calls], "it dialled nobody through tor"
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
    homes.make(list(FAULTS))
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
async def test_two_nodes_that_share_only_the_tor_network_meet_again_without_the_bootstrap_node(
    homes: Homes, private_tor: PrivateTor
) -> None:
    """Each in a namespace of its own, with a tor of its own that reaches the relays of the private network and nothing else."""
    homes.make(range(3))
    relays = relays_of(private_tor.folder)
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
