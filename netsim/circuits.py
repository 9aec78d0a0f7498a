"""Connections between nodes: dialled, shared by all channels, and lost in the ways that netsim.links describes.

A connection is two pipes, one for each direction. Its rules, on top of the link model's:

* Who dialled is up first; the other side learns it with the first thing that comes through the pipe, so nothing can
  arrive before `PeerUp`. `PeerLost` comes to both sides once each, after a `Failed` for every exchange that was open.
* A node that drops a connection reads no more; what it has sent still arrives, and then the end does.
* Two nodes that dial each other get one connection. A dial that finds a connection which is dead and not yet noticed
  replaces it: `PeerLost`, then `PeerUp`.
* A request is numbered anew for the side that is asked, below 0; its answer goes back under the asker's own number. Only
  the first answer counts.
* Frames to a peer that is not connected wait for the dial in a bounded outbox; when it fails they are gone, and those that
  open an exchange yield `Failed`.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import partial
from heapq import heappush
from typing import Final

from consensus.ids import NodeId
from netsim.agenda import Agenda
from netsim.links import QUANTILE_BITS, SCALE_BITS, LinkModel, exponential, lognormal
from netsim.nodes import Node
from node.overlay.machine import Channel, Failed, PeerLost, PeerUp, Received, Send

_DRAW_SHIFT: Final = 31 - QUANTILE_BITS
"""Jitter comes from a linear congruential generator in each pipe (ISO C's example), by its high bits: a Mersenne Twister's
2.5 kB for each node do not fit the processor's cache, and that alone would cost a fifth of the speed."""

_new: Final = tuple.__new__  # a NamedTuple's own constructor takes twice as long


class Pipe:
    """One direction of a connection; it carries while `fate` is empty."""

    __slots__ = (
        "answering",
        "asked",
        "code",
        "draw",
        "dst",
        "fate",
        "free",
        "last",
        "latency",
        "part",
        "src",
        "twin",
        "up",
    )

    twin: "Pipe"

    def __init__(self, src: Node, dst: Node, latency: int, draw: int) -> None:
        self.src = src
        self.dst = dst
        self.code = (src.index + 1) << 32 | dst.code  # the trace's name for a frame that comes through
        self.latency = latency
        self.draw = draw  # the state of its jitter
        self.up = False  # whether src's machine knows the connection
        self.fate = ""  # why nothing comes through any more
        self.free = 0  # the millisecond in which the last byte of what is queued leaves
        self.part = 0  # and how far into it, in microseconds
        self.last = 0  # when the last frame arrives
        self.asked: dict[int, Channel] | None = None  # src's open exchanges
        self.answering: dict[int, int] | None = None  # what dst asked: src's number to dst's


class Circuits:
    """All connections of a world, and who cannot reach whom."""

    def __init__(self, agenda: Agenda, model: LinkModel, by_id: Mapping[NodeId, Node], counts: Counter[str]) -> None:
        self.agenda = agenda
        self.model = model
        self.by_id = by_id
        self.counts = counts
        self.cuts: dict[str, tuple[frozenset[int], frozenset[int]]] = {}
        self.latencies = lognormal(model.latency_ms, model.spread)
        self.jitters = lognormal(1 << SCALE_BITS, model.jitter)
        self.dials = lognormal(model.dial_ms, model.dial_spread)
        self.lives = exponential(model.life_ms) if model.life_ms else ()
        self.us_per_mib = max(1, (1 << 20) * 1_000_000 // model.bytes_per_s)
        self.wait_ms = model.outbox_wait_ms
        self.post: Callable[[Pipe, Send], None] = self._post_datagram if model.lossy else self._post_stream

    # Sending

    def _post_stream(self, pipe: Pipe, send: Send) -> None:
        """Put a frame on its way; the hot path of every world."""
        _, channel, frame, exchange = send
        if exchange and not (exchange := self._number(pipe, channel, exchange)):
            return
        if pipe.fate:
            self.counts["frames sent into a " + pipe.fate] += 1
            return
        src, agenda = pipe.src, self.agenda
        now = agenda.now
        size = len(frame)
        cost = size * self.us_per_mib >> 20
        free = pipe.free
        if free < now:
            free = now
        elif free - now > self.wait_ms:
            self._overflow(pipe, send)
            return
        else:
            cost += pipe.part
        if cost >= 1000:
            free += cost // 1000
            cost %= 1000
        pipe.free = free
        pipe.part = cost
        pipe.draw = draw = (pipe.draw * 1_103_515_245 + 12_345) & 0x7FFFFFFF
        at: int = free + (pipe.latency * self.jitters[draw >> _DRAW_SHIFT] >> SCALE_BITS)
        if at < pipe.last:
            at = pipe.last
        else:
            pipe.last = at
        src.bytes_out += size
        entry = (pipe.dst, _new(Received, (src.id, channel, frame, exchange)), pipe)
        bucket = agenda.buckets.get(at)  # Agenda.push, without the call; a frame never arrives in the past
        if bucket is None:
            agenda.buckets[at] = [entry]
            heappush(agenda.times, at)
        else:
            bucket.append(entry)

    def _post_datagram(self, pipe: Pipe, send: Send) -> None:
        model, draw, counts = self.model, pipe.src.net.randrange, self.counts
        if draw(1000) < model.loss:
            counts["frames lost"] += 1
            if send.exchange:  # it was opened, or answered, all the same
                self._number(pipe, send.channel, send.exchange)
            return
        kept = pipe.last
        self._post_stream(pipe, send)
        if send.exchange == 0 and draw(1000) < model.doubled:
            counts["frames doubled"] += 1
            self._post_stream(pipe, send)
        if draw(1000) < model.overtaken:
            counts["frames overtaken"] += 1
            pipe.last = kept  # what comes next need not wait for this one

    def _number(self, pipe: Pipe, channel: Channel, exchange: int) -> int:
        """The number under which the other side sees an exchange; 0 when the frame goes nowhere."""
        if exchange < 0:
            asker = None if pipe.answering is None else pipe.answering.pop(-exchange, None)
            if asker is None:
                self.counts["answers that nobody waits for"] += 1
            return asker or 0
        asked = pipe.asked
        if asked is None:
            asked = pipe.asked = {}
        if exchange in asked:
            raise ValueError(f"exchange {exchange} is still open: the machine used its number twice")
        if len(asked) >= self.model.exchanges:
            oldest = next(iter(asked))
            self._fail(pipe.src, pipe.dst.id, asked.pop(oldest), oldest)
        asked[exchange] = channel
        dst, twin = pipe.dst, pipe.twin
        if channel in dst.refused:
            self.counts["exchanges refused"] += 1
            self.agenda.push(self.agenda.now + 2 * pipe.latency, (None, partial(self._refuse, pipe, exchange), None))
            return 0
        dst.exchange += 1
        answering = twin.answering
        if answering is None:
            answering = twin.answering = {}
        elif len(answering) >= self.model.exchanges:
            del answering[next(iter(answering))]
        answering[dst.exchange] = exchange
        return -dst.exchange

    def _refuse(self, pipe: Pipe, exchange: int) -> None:
        channel = pipe.asked.pop(exchange, None) if pipe.asked else None
        if channel is not None:
            self._fail(pipe.src, pipe.dst.id, channel, exchange)

    def _overflow(self, pipe: Pipe, send: Send) -> None:
        self.counts["frames dropped from an outbox"] += 1
        if send.exchange > 0 and pipe.asked and pipe.asked.pop(send.exchange, None):
            self._fail(pipe.src, pipe.dst.id, send.channel, send.exchange)

    def _fail(self, node: Node, peer: NodeId, channel: Channel, exchange: int) -> None:
        self.agenda.push(self.agenda.now, (node, Failed(peer, channel, exchange), node.life))

    # Dialling

    def dial_for(self, node: Node, send: Send) -> None:
        """Keep a frame for a peer that is not connected, and dial it unless that is under way."""
        if send.exchange < 0 or send.peer == node.id:
            self.counts["answers that nobody waits for" if send.exchange < 0 else "frames to itself"] += 1
            return
        outbox = node.dialling.get(send.peer)
        if outbox is None:
            outbox = node.dialling[send.peer] = deque()
            self.counts["dials"] += 1
            took = self.dials[node.net.getrandbits(QUANTILE_BITS)]
            fails = node.net.randrange(1000) < self.model.dial_failures
            done = partial(self._dialled, node, node.life, send.peer, fails, took)
            self.agenda.push(self.agenda.now + took, (None, done, None))
        elif len(outbox) >= self.model.outbox_frames:
            self.counts["frames dropped from an outbox"] += 1
            dropped = outbox.popleft()
            if dropped.exchange:
                self._fail(node, send.peer, dropped.channel, dropped.exchange)
        outbox.append(send)

    def _dialled(self, node: Node, life: int, peer: NodeId, fails: bool, took: int) -> None:
        if node.life != life or node.machine is None or peer not in node.dialling:
            return
        if node.frozen:  # it finds out when it goes on
            node.backlog.append((None, partial(self._dialled, node, life, peer, fails, took), None))
            return
        other = self.by_id.get(peer)
        if other is None or other.handle is None or not self._reachable(node, other):
            self.counts["dials into a cut"] += other is not None and not self._reachable(node, other)
            rest = max(0, self.model.dial_deadline_ms - took)
            self.agenda.push(self.agenda.now + rest, (None, partial(self._undialled, node, life, peer), None))
        elif fails:
            self._undialled(node, life, peer)
        else:
            self._connect(node, other)

    def _undialled(self, node: Node, life: int, peer: NodeId) -> None:
        if node.life == life and peer not in node.pipes:
            self.counts["dials that failed"] += 1
            for send in node.dialling.pop(peer, ()):
                self.counts["frames dropped from an outbox"] += 1
                if send.exchange:
                    self._fail(node, peer, send.channel, send.exchange)

    def _connect(self, node: Node, other: Node) -> None:
        for mine in (node.pipes.get(other.id), other.pipes.get(node.id)):
            if mine is not None:
                if not mine.fate and not mine.twin.fate:
                    return  # the other side was faster: its PeerUp is on the way, and takes the outbox
                self._leave(mine)
        latency = self.latencies[node.net.getrandbits(QUANTILE_BITS)]
        draw = node.net.getrandbits(30)
        there, back = Pipe(node, other, latency, draw), Pipe(other, node, latency, draw ^ 0x2AAAAAAA)
        there.twin, back.twin = back, there
        if self.model.lossy:
            there.fate = "cut" if self.blocked(node.index, other.index) else ""
            back.fate = "cut" if self.blocked(other.index, node.index) else ""
        now = self.agenda.now
        if self.lives:
            life = self.lives[node.net.getrandbits(QUANTILE_BITS)]
            self.agenda.push(now + life, (None, partial(self._break, there), None))
        self.counts["connections"] += 1
        there.last = now + latency
        self.agenda.push(there.last, (other, PeerUp(node.id, dialled=False), back))
        node.pipes[other.id] = there
        there.up = True
        self.agenda.push(now, (node, PeerUp(other.id, dialled=True), node.life))
        self._flush(there)

    def accept(self, back: Pipe) -> bool:
        """Let the side that was dialled know the connection; False when it never comes to be."""
        node, peer = back.src, back.dst.id
        if back.twin.fate or node.machine is None or peer in node.pipes:
            if back.twin.up:
                self._notice_later(back.twin, self.model.dead_after_ms)
            if node.machine is not None and peer not in node.pipes:
                self._undialled(node, node.life, peer)
            return False
        node.pipes[peer] = back
        back.up = True
        # What waited goes out after PeerUp was handled: pushed for now, and now comes after this.
        self.agenda.push(self.agenda.now, (None, partial(self._flush, back), None))
        return True

    def _flush(self, pipe: Pipe) -> None:
        if pipe.up:
            for send in pipe.src.dialling.pop(pipe.dst.id, ()):
                self.post(pipe, send)

    def _reachable(self, node: Node, other: Node) -> bool:
        there = self.blocked(node.index, other.index)
        return not (there or (not self.model.lossy and self.blocked(other.index, node.index)))

    # Ending

    def drop(self, node: Node, peer: NodeId) -> None:
        """Close a connection from one side, or give up dialling it."""
        pipe = node.pipes.get(peer)
        if pipe is None:
            self._undialled(node, node.life, peer)
            return
        if not pipe.fate:  # else its end is on the way already
            self._end_after(pipe)
        self._leave(pipe)

    def crash(self, node: Node) -> None:
        """End all connections of a node that is gone: some ends are told, the others noticed by keepalive."""
        for pipe in node.pipes.values():
            pipe.up = False
            if not pipe.fate:
                if node.net.randrange(1000) < self.model.silent:
                    pipe.fate = "crashed node"
                    self._notice_later(pipe.twin, self.model.dead_after_ms)
                else:
                    self._end_after(pipe)
            pipe.twin.fate = pipe.twin.fate or "crashed node"
        node.pipes = {}
        node.dialling = {}

    def break_all(self, node: Node, life: int) -> None:
        """What the keepalives of its peers do to a node that is frozen for too long."""
        if node.frozen and node.life == life:
            for pipe in list(node.pipes.values()):
                self._doom(pipe, "frozen node", 0)

    def cut(self, name: str, sources: frozenset[int], targets: frozenset[int], nodes: list[Node]) -> None:
        """Let nothing through from sources to targets until `heal`; a connection across ends, unless lossy."""
        self.cuts[name] = (sources, targets)
        for index in sorted(sources | targets):
            for pipe in list(nodes[index].pipes.values()):
                for way in (pipe, pipe.twin):
                    if way.src.index in sources and way.dst.index in targets:
                        if not self.model.lossy:
                            self._notice_later(pipe, self.model.dead_after_ms)
                            self._notice_later(pipe.twin, self.model.dead_after_ms)
                        way.fate = way.fate or "cut"

    def heal(self, name: str, nodes: list[Node]) -> None:
        """Undo a cut: circuits can be built again, and datagrams pass."""
        sources, targets = self.cuts.pop(name)
        for index in sorted(sources | targets):
            for pipe in nodes[index].pipes.values():
                for way in (pipe, pipe.twin):
                    if self.model.lossy and way.fate == "cut" and not self.blocked(way.src.index, way.dst.index):
                        way.fate = ""

    def blocked(self, source: int, target: int) -> bool:
        """Whether a cut lies between two nodes, in that direction."""
        return any(source in sources and target in targets for sources, targets in self.cuts.values())

    def _break(self, pipe: Pipe) -> None:
        if (pipe.up or pipe.twin.up) and not (pipe.fate and pipe.twin.fate):
            self.counts["circuits broken"] += 1
            silent = pipe.src.net.randrange(1000) < self.model.silent
            self._doom(pipe, "broken circuit", self.model.dead_after_ms if silent else pipe.latency)

    def _doom(self, pipe: Pipe, fate: str, notice: int) -> None:
        for way in (pipe, pipe.twin):
            way.fate = way.fate or fate
            self._notice_later(way, notice)

    def _end_after(self, pipe: Pipe) -> None:
        """Let the end of a connection follow the frames that are on their way."""
        at = max(pipe.last, self.agenda.now + pipe.latency)
        self.agenda.push(at, (None, partial(self._arrive_end, pipe), None))

    def _arrive_end(self, pipe: Pipe) -> None:
        if pipe.fate:  # cut or broken on the way: the other side has only its keepalive
            self._notice_later(pipe.twin, self.model.dead_after_ms)
        else:
            self._notice(pipe.twin)

    def _notice_later(self, pipe: Pipe, delay: int) -> None:
        self.agenda.push(self.agenda.now + delay, (None, partial(self._notice, pipe), None))

    def _notice(self, pipe: Pipe) -> None:
        if pipe.up:
            self._leave(pipe)

    def _leave(self, pipe: Pipe) -> None:
        """Take a connection from the side that learns of its end."""
        node, peer = pipe.src, pipe.dst.id
        pipe.up = False
        pipe.twin.fate = pipe.twin.fate or "closed connection"
        if node.pipes.get(peer) is pipe:
            del node.pipes[peer]
        for exchange, channel in (pipe.asked or {}).items():
            self._fail(node, peer, channel, exchange)
        pipe.asked = pipe.answering = None
        self.agenda.push(self.agenda.now, (node, PeerLost(peer), node.life))
