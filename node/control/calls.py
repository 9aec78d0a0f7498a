"""The calls of a running daemon beside a recorder's ledger: what it is, how its sessions are, and have them brought back.

`Shown` is the part of the daemon that they look at; they hold nothing of their own.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from consensus.ids import Network, NodeId, SessionId
from node.chain.following import Chain
from node.chain.rpc import RpcServer
from node.control.chain import account, standing, storage
from node.control.metrics import exposition
from node.control.server import Control, Request
from node.exits import Unavailable, Usage
from node.net.host import Host
from node.net.multiaddrs import written_out
from node.net.swarm import Swarm
from node.network import NetworkTerms
from node.overlay.entries import LogName
from node.overlay.peer import Peer
from node.presence import Presence
from node.sessions.anchoring import ABANDONED_HOURS, Anchoring, told
from node.sessions.life import Sessions
from node.sessions.placement import newest, owed
from node.sessions.restore import NotFound
from node.timeline import Timeline
from node.tor.interface import Tor
from pipeline.stores import NoRoom


class Shown(Protocol):
    """What the calls see of a daemon."""

    me: NodeId
    network: Network
    terms: NetworkTerms
    calendar: Timeline
    capacity: int
    addresses: tuple[bytes, ...]
    host: Host
    peer: Peer
    swarm: Swarm
    presence: Presence
    sessions: Sessions
    tor: Tor | None
    chain: Chain | None
    anchoring: Anchoring | None
    rpc: RpcServer | None


class Calls:
    """Answers about one daemon."""

    def __init__(self, daemon: Shown) -> None:
        self._daemon = daemon

    def offer(self, control: Control) -> None:
        """Add the calls to the table."""
        control.add("status", self._status)
        control.add("explain", self._explain)
        control.add("sessions", self._sessions)
        control.add("anchors", self._anchors)
        control.add("chain_sessions", self._chain_sessions)
        control.add("restore", self._restore)
        control.add_page("/metrics", self._metrics)

    async def _status(self, _request: Request) -> Mapping[str, Any]:
        return await self._facts()

    async def _facts(self) -> Mapping[str, Any]:
        daemon = self._daemon
        held, held_bytes = daemon.peer.replicate.inventory.held()
        traffic = daemon.swarm.traffic()
        rows = await daemon.sessions.progress()
        return {
            "node": daemon.me,
            "network": daemon.terms.genesis.name,
            "network_id": daemon.network,
            "mode": daemon.terms.genesis.mode.name.lower(),
            "hour": daemon.calendar.hour(daemon.host.clock.now()),
            "addresses": [written_out(address) for address in daemon.addresses],
            "chain": None
            if daemon.peer.agreement is None
            else standing(daemon.peer.agreement.replica, daemon.host.clock.now(), daemon.peer.clocks),
            "account": _account(daemon.chain),
            "transactions_waiting": 0 if daemon.chain is None else len(daemon.chain.mempool),
            "rpc": None if daemon.rpc is None else {"address": daemon.rpc.address, "onion": daemon.rpc.onion},
            "tor": _tor(daemon.tor),
            "peers": [node.hex() for node in daemon.peer.connected],
            "bytes_in": sum(received for received, _ in traffic.values()),
            "bytes_out": sum(sent for _, sent in traffic.values()),
            "contacts": len(daemon.peer.dht.table),
            "mesh": len(daemon.peer.gossip.mesh("directory")),
            "directory": len(daemon.peer.logs.directory.authors),
            "holders": sum(advert.capacity > 0 for _, advert in daemon.presence.adverts()),
            "replicas_held": held,
            "replica_bytes": held_bytes,
            "replica_bytes_most": daemon.capacity,
            "sessions": len(rows),
            "sessions_replicated": sum(row["state"] == "replicated" for row in rows),
            "sessions_missing": daemon.sessions.unknown,
            **owed(rows),
            "newest": newest(rows),
            "queues": _queues(daemon),
            "offsets": {log.name.lower(): _offset(daemon, log) for log in LogName},
            "steps": daemon.host.steps,
        }

    async def _explain(self, request: Request) -> Mapping[str, Any]:
        """Why the credits of this node, or of a named one, are what they are."""
        if self._daemon.peer.agreement is None:
            raise Unavailable("this network has no chain")
        try:
            node = NodeId(bytes.fromhex(request.text("node"))) if "node" in request.args else self._daemon.me
        except ValueError:
            node = NodeId(b"")
        if len(node) != 32:
            raise Usage("a node is named by 64 hex digits")
        return account(self._daemon.peer.agreement.replica, node)

    async def _metrics(self) -> str:
        return exposition(await self._facts())

    async def _sessions(self, _request: Request) -> Mapping[str, Any]:
        return {"sessions": await self._daemon.sessions.progress()}

    async def _anchors(self, _request: Request) -> Mapping[str, Any]:
        """How far each session is on the chain, and what the account has to pay for it."""
        anchoring = self._daemon.anchoring
        if anchoring is None:
            return {"sessions": {}, "account": None, "wei": None}
        return {"sessions": anchoring.told(), "account": anchoring.outbox.address, "wei": str(anchoring.outbox.wei)}

    async def _chain_sessions(self, request: Request) -> Mapping[str, Any]:
        """Every session of the last so many HOURs that was opened on the chain, by anybody, and whether it was abandoned."""
        daemon, hours = self._daemon, request.args.get("hours")
        if daemon.chain is None:
            raise Unavailable("this network has no chain")
        if not isinstance(hours, int) or hours < 1:
            raise Usage("the argument hours is a whole number, 1 or more")
        now_s, hour_s = daemon.host.clock.now() // 1_000, daemon.calendar.hour_ms // 1_000
        height = daemon.chain.replica.head().height
        first = max(0, height - hours * daemon.calendar.hour_slots)
        found = await daemon.chain.executor.anchored(first, height)
        rows = [
            {**told(one, now_s, ABANDONED_HOURS * hour_s), "storage": storage(daemon.chain.replica, one.session)}
            for one in found
        ]
        return {"sessions": rows, "height": height}

    async def _restore(self, request: Request) -> Mapping[str, Any]:
        """Bring back the records of all sessions that this disk lacks, or the chunks of one session."""
        sessions = self._daemon.sessions
        wanted = request.args.get("session")
        try:
            if wanted is None:
                return {"sessions": await sessions.look(), "missing": sessions.unknown}
            return {"chunks": await sessions.bring_chunks(SessionId(bytes.fromhex(request.text("session"))))}
        except KeyError:
            raise Unavailable("this node knows no such session: `lucid-node sessions` lists them") from None
        except ValueError:
            raise Usage("a session is named by 64 hex digits") from None
        except (NotFound, NoRoom, OSError) as error:
            raise Unavailable(str(error)) from error


def _queues(daemon: Shown) -> Mapping[str, int]:
    """What waits, and for what."""
    ours, others = daemon.peer.gossip.waiting()
    return {
        "disk": daemon.host.waiting,
        "gossip_ours": ours,
        "gossip_others": others,
        **daemon.peer.replicate.inventory.moves()._asdict(),
    }


def _offset(daemon: Shown, log: LogName) -> Mapping[str, int]:
    """How far a log has come here: entries of all authors, and of our own the last one's epoch and number, from 0."""
    shelf = daemon.peer.logs.shelf(log)
    own = shelf.chain(daemon.me)
    return {
        "authors": len(shelf.authors),
        "bytes": shelf.size,
        "epoch": own[-1].epoch if own else 0,
        "entries": own[-1].seq + 1 if own else 0,
    }


def _account(chain: Chain | None) -> Mapping[str, Any] | None:
    """What this node's account has: wei and base units of LUCID as texts, which may not fit other languages' numbers."""
    if chain is None or chain.holding is None:
        return None
    return {"address": chain.holding.address, "wei": str(chain.holding.wei), "lucid": str(chain.holding.lucid)}


def _tor(tor: Tor | None) -> Mapping[str, Any] | None:
    if tor is None:
        return None
    now = tor.status()
    facts = {"state": now.state.value, "reason": now.reason, "progress": now.progress, "version": now.version}
    return {**facts, "onions": len(now.onions)}
