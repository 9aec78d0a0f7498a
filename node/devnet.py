"""A network on one machine: N real daemons in homes of their own, over loopback or a private Tor network.

    DIR/0 … DIR/N−1   homes, keys in the clear        DIR/devnet.network   the file they joined, by node 0, the Server
    DIR/tor           the private Tor network, with --transport tor

For developers and for trying out. Every process dies with this one, however it ends. It builds what users build, and
starts what users start: nothing here knows how a daemon works inside. Source: DESIGN §12.
"""

import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from consensus.ids import Millis, NodeId
from consensus.params import LeaderRule
from consensus.signing import KeyPair
from node.carrier import own_address
from node.config import Home
from node.control.client import NoDaemon, ask
from node.exits import Ended, Unavailable, Usage
from node.membership import load
from node.network import (
    TIMINGS,
    BootstrapNode,
    Carrier,
    Genesis,
    Mode,
    NetworkTerms,
    Timing,
    seal_terms,
    write_file,
)
from node.tor.network import NoTorNetwork, tor_network
from node.wallet.vault import Secrets, close, open_vault
from pipeline import durable
from pipeline.child import Child, child

NODES_MAX: Final = 50
ENOUGH: Final = 3
"""Connections by which a node counts as connected, or all others in a smaller network."""
LOOK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class DevNode:
    """One node of a devnet: its home, and its process while it runs."""

    number: int
    home: Home
    node: NodeId
    running: Child


class Devnet:
    """A devnet that runs; `said` is what its nodes answered last."""

    def __init__(self, folder: Path, nodes: list[DevNode]) -> None:
        self.folder, self.nodes = folder, nodes
        self.began = time.monotonic()
        self.said: dict[int, dict[str, Any]] = {}
        self.connected_s: float | None = None
        """How long it took until everybody was connected and knew everybody."""

    async def look(self) -> None:
        """Ask every node how it is; raises Unavailable when one has ended."""
        for one in self.nodes:
            if one.running.process.poll() is not None:
                raise Unavailable(f"node {one.number} has ended: see {one.home.path / 'log'}")
            try:
                self.said[one.number] = await trio.to_thread.run_sync(ask, one.home.path, "status")
            except (NoDaemon, Ended):
                self.said.pop(one.number, None)
        if self.connected_s is None and self._is_connected():
            self.connected_s = time.monotonic() - self.began

    def _is_connected(self) -> bool:
        count = len(self.nodes)
        enough = min(ENOUGH, count - 1)
        return len(self.said) == count and all(
            len(facts["peers"]) >= enough and facts["directory"] >= count for facts in self.said.values()
        )

    def facts(self) -> dict[str, Any]:
        """What scripts want to know."""
        nodes = [
            {
                "number": one.number,
                "home": str(one.home.path),
                "node": one.node,
                "pid": one.running.pid,
                **self._of(one),
            }
            for one in self.nodes
        ]
        return {"folder": str(self.folder), "connected_s": self.connected_s, "nodes": nodes}

    def _of(self, one: DevNode) -> dict[str, Any]:
        facts = self.said.get(one.number)
        return (
            {}
            if facts is None
            else {"addresses": facts["addresses"], "peers": len(facts["peers"]), "chain": facts["chain"]}
        )

    def screen(self) -> list[str]:
        """The live view, a line each."""
        lines = [
            f"{'node':<12}{'peers':>6}{'known':>7}{'held':>6}{'sessions':>10}{'head':>7}{'final':>7}{'tor':>14}  home"
        ]
        for one in self.nodes:
            facts = self.said.get(one.number)
            if facts is None:
                lines.append(f"{one.node.hex()[:8]:<12}{'starting':>13}{'':>44}  {one.home.path}")
                continue
            tor = facts["tor"]["state"] if facts["tor"] else "–"
            sessions = f"{facts['sessions_replicated']}/{facts['sessions']}"
            counts = f"{len(facts['peers']):>6}{facts['directory']:>7}{facts['replicas_held']:>6}{sessions:>10}{_slots(facts)}{tor:>14}"
            lines.append(f"{one.node.hex()[:8]:<12}{counts}  {one.home.path}")
        return lines


def _slots(facts: Mapping[str, Any]) -> str:
    """The slot of a node's head, and its last final HOUR."""
    chain = facts["chain"]
    return f"{'–':>7}{'–':>7}" if chain is None else f"{chain['head_slot']:>7}{chain['final_hour']:>7}"


@asynccontextmanager
async def devnet(
    folder: Path, nodes: int, carrier: Carrier, timing: Timing = TIMINGS[Mode.DEVNET]
) -> AsyncIterator[Devnet]:
    """A devnet in a folder, made if need be, taken up if it is there; raises Usage, Unavailable."""
    if not 2 <= nodes <= NODES_MAX:
        raise Usage(f"a devnet has 2 to {NODES_MAX} nodes, and {nodes} were asked for")
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as until:
        torrc = ""
        if carrier is Carrier.TOR:
            try:
                torrc = (await until.enter_async_context(tor_network(folder / "tor"))).torrc
            except NoTorNetwork as error:
                raise Unavailable(f"the private Tor network did not start: {error}") from error
        keys = [_make_home(Home(folder / str(number)), torrc) for number in range(nodes)]
        text = _network(folder, keys[0], carrier, timing)
        running = []
        for number, pair in enumerate(keys):
            home = Home(folder / str(number))
            if not home.network.exists():
                durable.create(home.network, text.encode(), 0o644)
            running.append(DevNode(number, home, NodeId(pair.public), await until.enter_async_context(started(home))))
        try:
            yield Devnet(folder, running)
        finally:
            for one in running:  # all at once, before each is waited for
                one.running.signal(signal.SIGTERM)


def _make_home(home: Home, torrc: str) -> KeyPair:
    """A home with keys in the clear and room for others' replicas; one that is there stays as it is."""
    if not home.vault.exists():
        home.create({"replicas_gb": 1})
        durable.create(home.vault, close(Secrets.generate(), None))
    if torrc:
        durable.replace(home.path / "torrc", torrc.encode())
    return open_vault(home.vault.read_bytes(), None).identity


def _network(folder: Path, author: KeyPair, carrier: Carrier, timing: Timing) -> str:
    """The text of the network's file, made with the first start."""
    file = folder / "devnet.network"
    if file.exists():
        if (made := load(file)[1].genesis.carrier) is not carrier:
            raise Usage(f"{folder} holds a devnet over {made.name.lower()}: name another folder with --dir")
        return file.read_text()
    me, server, now = NodeId(author.public), Home(folder / "0"), Millis(time.time_ns() // 1_000_000)
    if carrier is Carrier.LOOPBACK:
        settings, listen = server.path / "config.toml", f'listen = "127.0.0.1:{_free_port()}"'
        settings.write_text(settings.read_text().replace('# listen = "127.0.0.1:0"', listen))
    genesis = Genesis("devnet", Mode.DEVNET, me, now, timing, LeaderRule.SORTITION, (me,), 0, carrier)
    terms = NetworkTerms(genesis, 1, now, (BootstrapNode(me, (own_address(server, carrier),)),))
    text = write_file(seal_terms(terms, author), ["a devnet on one machine"])
    durable.create(file, text.encode(), 0o644)
    return text


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def started(home: Home, *options: str) -> AsyncIterator[Child]:
    """The daemon of a home while the block runs, its log in the home."""
    with (home.path / "log").open("ab") as log:
        command = [sys.executable, "-P", "-m", "node", "run", "--home", str(home.path), *options]
        async with child(command, stdout=log.fileno(), stderr=log.fileno(), ending=signal.SIGTERM) as running:
            yield running
