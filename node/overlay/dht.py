"""The part that speaks libp2p's kad-dht: has what peers ask answered, asks on the host's behalf, keeps the table filled.

Who gets into the table is told in routing.py. A stranger that connects or asks is pinged if there is room for it, so
that a new node becomes known by its own first look-up; a bounded number of such pings is out at a time. A failure counts
against a contact only if somebody answered since it was asked: while our own link is down, nobody is to blame.

Exchanges end by an answer, a failure, or one sweeping timer that is armed only while something is open. A second timer
does the upkeep: expiry, own values and provisions put again, stale buckets refreshed, one such routine at a time.

Source: libp2p specs, kad-dht; Kademlia §2.3, §2.5; findings/net §4 (what the stock server does wrong); DESIGN §4.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from consensus.encoding import Malformed
from consensus.ids import Millis, NodeId
from node.overlay.answers import PING_FRAME, Answers, Quota, QuotaLimits
from node.overlay.calls import (
    Bootstrap,
    Declined,
    Errand,
    FindNode,
    FindProviders,
    GetValue,
    Located,
    LookedUp,
    NodesFound,
    Order,
    Provide,
    ProvidersFound,
    ProvisionTold,
    PutValue,
    TableFilled,
    ValueFound,
    Withdraw,
    provide_message,
    put_message,
)
from node.overlay.holdings import HoldingLimits, Judged, Provisions, Stowed, Validator, Values
from node.overlay.lookup import Lookup, LookupLimits
from node.overlay.machine import Action, Channel, Finished, Noted, Persist, Rejected, Send, SetTimer, TimerKey
from node.overlay.ours import Ours, OursLimits
from node.overlay.routing import RoutingLimits, Strangers, Table, place, point
from node.overlay.wire import KAD_LIMITS, KadMessage, KadRecord, KadType, decode_kad, encode_kad, peer_id

if TYPE_CHECKING:
    import random

SWEEP: Final = ("dht", "sweep")
UPKEEP: Final = ("dht", "upkeep")

_KINDS: Final[dict[type[Order], tuple[str, str, KadType]]] = {
    # what LookedUp calls it when the host asks, and when it is our own routine; what its look-up asks
    FindNode: ("find_node", "refresh", KadType.FIND_NODE),
    PutValue: ("put_value", "republish", KadType.FIND_NODE),
    GetValue: ("get_value", "get_value", KadType.GET_VALUE),
    Provide: ("provide", "republish", KadType.FIND_NODE),
    FindProviders: ("find_providers", "find_providers", KadType.GET_PROVIDERS),
    Bootstrap: ("join", "join", KadType.FIND_NODE),
}
_PING: Final = KadMessage(KadType.PING)


@dataclass(frozen=True, slots=True)
class DhtLimits:
    """Bounds of the part, and those of its table, look-ups and holdings."""

    routing: RoutingLimits = field(default_factory=RoutingLimits)
    lookup: LookupLimits = field(default_factory=LookupLimits)
    holdings: HoldingLimits = field(default_factory=HoldingLimits)
    quota: QuotaLimits = field(default_factory=QuotaLimits)
    ours: OursLimits = field(default_factory=OursLimits)
    timeout_ms: int = 20_000  # an exchange's: a circuit and a round trip in 99 of 100 cases
    calls: int = 32  # of the host's at a time; each has some tens of exchanges open
    seeds: int = 64  # peers taken from one Bootstrap
    quorum: int = 5  # valid answers that a GET waits for: with 20 % liars, 3 in 10,000 see only old values
    repairs: int = 8  # peers put right after one GET
    providers: int = 20  # found before a look-up for providers ends
    upkeep_ms: int = 600_000


class _Question(NamedTuple):
    """An exchange of ours that waits for its answer; call: none for a ping or a repair."""

    peer: NodeId
    kind: KadType
    key: bytes
    call: Errand | None
    sent: Millis


class Dht:
    """The DHT of one node. `locate` tells the binary multiaddrs known of a node, our own included."""

    def __init__(
        self,
        me: NodeId,
        rng: "random.Random",
        limits: DhtLimits,
        validators: Mapping[str, Validator],
        next_exchange: Callable[[], int],
        locate: Callable[[NodeId], Sequence[bytes]],
        kept: Iterable[Persist] = (),
        seeds: Sequence[NodeId] = (),
    ) -> None:
        self._me = me
        self._rng = rng
        self._limits = limits
        self._next_exchange = next_exchange
        self._locate = locate
        self._seeds = tuple(seeds)
        self.table = Table(me, limits.routing)
        self._values = Values(validators, limits.holdings)
        self._provisions = Provisions(limits.holdings)
        self._ours = Ours(rng, limits.ours, kept)
        self._open: dict[int, _Question] = {}  # by exchange, the oldest first
        self._calls: dict[Errand, None] = {}
        self._routines: dict[tuple[str, bytes], Order] = {}  # of our own, to be called one after the other
        self._strangers = Strangers(self.table, limits.routing)
        self._up: dict[NodeId, None] = {}
        self._quota = Quota(limits.quota)
        self._answers = Answers(
            me, self.table, self._values, self._provisions, self._ours.provided, locate, limits.lookup.k
        )
        self._armed: Millis | None = None  # when the sweep is due
        self._answered_at = Millis(0)  # when anybody did
        self._is_running = False

    # ---- events ----

    def start(self, now: Millis) -> list[Action]:
        """Arm the upkeep; look ourselves up through the seeds, if there are any."""
        self._ours.start(now)
        actions: list[Action] = [SetTimer(UPKEEP, Millis(now + self._rng.randrange(1, self._limits.upkeep_ms)))]
        if self._seeds:
            self._routines["join", b""] = Bootstrap(self._seeds)
            self._run_routines(now, actions)
        return actions

    def on_frame(self, now: Millis, peer: NodeId, frame: bytes, exchange: int) -> list[Action]:
        """Take a frame: an answer if the exchange is ours, else a request."""
        if exchange > 0:
            return self._on_answer(now, peer, frame, exchange)
        if not self._quota.allows(now, peer):
            return [Noted(Rejected(peer, "more requests than its quota"))]
        try:
            message = decode_kad(frame)
        except Malformed as error:
            return [Noted(Rejected(peer, str(error)))]
        if not exchange and message.type != KadType.ADD_PROVIDER:
            return [Noted(Rejected(peer, "a request on the stream of notices"))]
        answer = self._answers.answer(now, peer, message)
        if isinstance(answer, str):
            return [Noted(Rejected(peer, answer))]
        self._quota.charge(now, peer)
        actions: list[Action] = []
        if answer is not None and exchange:
            actions.append(Send(peer, Channel.DHT, answer, exchange))
        self._court(now, peer, actions)
        return actions

    def on_failed(self, now: Millis, peer: NodeId, exchange: int) -> list[Action]:
        """Take note that an exchange of ours will not be answered."""
        waiting = self._open.get(exchange)
        if waiting is None or waiting.peer != peer:
            return []
        del self._open[exchange]
        actions: list[Action] = []
        self._lose(now, exchange, waiting, actions)
        return actions

    def on_timer(self, now: Millis, key: TimerKey) -> list[Action]:
        """Give up what is overdue, or do the upkeep."""
        actions: list[Action] = []
        if key == UPKEEP:
            self._upkeep(now, actions)
        elif key == SWEEP:
            self._armed = None
            self._sweep(now, actions)
        return actions

    def on_peer_up(self, now: Millis, peer: NodeId, _dialled: bool) -> list[Action]:
        """Get to know a peer that is connected, if the table has room for it."""
        self._up[peer] = None
        actions: list[Action] = []
        self._court(now, peer, actions)
        return actions

    def on_peer_lost(self, _now: Millis, peer: NodeId) -> list[Action]:
        """Take note that a peer has gone; exchanges with it fail by themselves, and it stays in the table until it fails."""
        self._up.pop(peer, None)
        return []

    def on_command(self, now: Millis, call: int, order: Order) -> list[Action]:
        """Carry out one of the commands of calls.py."""
        most = self._limits.calls
        if len(self._calls) >= most:
            return [Finished(call, Declined(f"{most} look-ups are under way; ask again when one is done"))]
        if not isinstance(order, Bootstrap):
            key = order.target if isinstance(order, FindNode) else order.key
            if not 0 < len(key) <= KAD_LIMITS.key_bytes_max:
                return [Finished(call, Declined(f"a key has 1 to {KAD_LIMITS.key_bytes_max} bytes"))]
        return self._carry_out(now, call, order)

    # ---- what comes of our own exchanges ----

    def _on_answer(self, now: Millis, peer: NodeId, frame: bytes, exchange: int) -> list[Action]:
        waiting = self._open.get(exchange)
        if waiting is None or waiting.peer != peer:
            return [Noted(Rejected(peer, "an answer to nothing that is open"))]
        try:
            message = decode_kad(frame)
        except Malformed as error:
            return [Noted(Rejected(peer, str(error)))]
        record = message.record
        value = None
        if message.type != waiting.kind or len(message.closer) > self._limits.lookup.k:
            return [Noted(Rejected(peer, "not an answer to what it was asked"))]
        if record is not None and waiting.call is not None:
            value = self._judge(now, waiting, record)
            if value is None:
                return [Noted(Rejected(peer, "an answer with a value that no validator accepts"))]
        del self._open[exchange]
        self._answered_at = now
        self._strangers.answered(peer)
        actions: list[Action] = []
        call = waiting.call
        head = self.table.seen(now, peer, call.lookup.introducer(peer) if call is not None else None)
        if head is not None:
            self._ping(now, head, actions)
        if call is None or call not in self._calls:
            return actions
        if call.pending is None:
            self._take(call, peer, message, value)
            self._ask(now, call, actions)
        else:
            call.pending.pop(exchange, None)
            if call.value is not None and value is not None:
                call.stored += value == call.value
                if value > call.value and (call.newer is None or value > call.newer):
                    call.newer = value
            self._close_if_told(now, call, actions)
        return actions

    def _judge(self, now: Millis, waiting: _Question, record: KadRecord) -> Judged | None:
        """The value of an answer, if it is a valid one; twenty holders show the same, which is judged once."""
        if waiting.call is not None:
            for known in (waiting.call.value, waiting.call.shown):
                if known is not None and record.value == known.value and known.standing.expires > now:
                    return known if record.key == waiting.key else None
        return self._values.judge(now, waiting.key, record.value) if record.key == waiting.key else None

    def _take(self, call: Errand, peer: NodeId, message: KadMessage, value: Judged | None) -> None:
        call.lookup.answered(peer, call.learn(message.closer))
        match call.order:
            case GetValue():
                if value is not None:
                    call.held[peer] = call.shown = value
                    call.lookup.done = call.lookup.done or len(call.held) >= self._limits.quorum
            case FindProviders():
                for node in call.learn(message.providers):
                    if len(call.providers) < self._limits.providers:
                        call.providers[node] = call.addresses.get(node, ())
                call.lookup.done = call.lookup.done or len(call.providers) >= self._limits.providers
            case _:
                pass

    def _lose(self, now: Millis, exchange: int, waiting: _Question, actions: list[Action]) -> None:
        self._strangers.failed(now, waiting.peer)
        self.table.failed(waiting.peer, is_blamed=self._answered_at >= waiting.sent)
        call = waiting.call
        if call is None or call not in self._calls:
            return
        if call.pending is None:
            call.lookup.failed(waiting.peer)
            self._ask(now, call, actions)
        else:
            call.pending.pop(exchange, None)
            self._close_if_told(now, call, actions)

    def _sweep(self, now: Millis, actions: list[Action]) -> None:
        late = now - self._limits.timeout_ms
        while self._open:
            exchange = next(iter(self._open))
            waiting = self._open[exchange]
            if waiting.sent > late:
                break
            del self._open[exchange]
            self._lose(now, exchange, waiting, actions)
        for call in list(self._calls):
            if call.pending is None and call.lookup.wake() <= now:
                call.lookup.expire(now)
                self._ask(now, call, actions)
        for waiting in self._open.values():
            self._arm(Millis(waiting.sent + self._limits.timeout_ms), actions)
            break
        for call in self._calls:
            if call.pending is None:
                self._arm(call.lookup.wake(), actions)

    def _arm(self, at: Millis, actions: list[Action]) -> None:
        if self._armed is None or at < self._armed:
            self._armed = at
            actions.append(SetTimer(SWEEP, at))

    # ---- asking ----

    def _send(self, now: Millis, peer: NodeId, asked: KadMessage, frame: bytes, call: Errand | None) -> Send:
        exchange = self._next_exchange()
        self._open[exchange] = _Question(peer, asked.type, asked.key, call, now)
        return Send(peer, Channel.DHT, frame, exchange)

    def _court(self, now: Millis, peer: NodeId, actions: list[Action]) -> None:
        """Ping a stranger for whom there is room."""
        if self._strangers.is_worth_a_ping(now, peer):
            self._ping(now, peer, actions)

    def _ping(self, now: Millis, peer: NodeId, actions: list[Action]) -> None:
        actions.append(self._send(now, peer, _PING, PING_FRAME, None))
        self._arm(Millis(now + self._limits.timeout_ms), actions)

    def _begin(
        self,
        now: Millis,
        call: int | None,
        order: Order,
        key: bytes,
        seeds: Sequence[NodeId] = (),
        value: Judged | None = None,
    ) -> list[Action]:
        kind, routine, asks = _KINDS[type(order)]
        target = point(key)
        self.table.touch(now, target)
        seeds = seeds or self.table.closest(target, self._limits.lookup.k) or self._seeds
        lookup = Lookup(now, target, seeds[: self._limits.seeds], self._me, self._limits.lookup)
        begun = Errand(now, call, order, kind if call is not None else routine, key, asks, lookup)
        begun.value = value
        self._calls[begun] = None
        if asks is KadType.GET_VALUE and (held := self._values.get(now, key)) is not None:
            begun.held[self._me] = held
        actions: list[Action] = []
        self._ask(now, begun, actions)
        return actions

    def _ask(self, now: Millis, call: Errand, actions: list[Action]) -> None:
        """Put the questions that are due, or go on to what follows the look-up."""
        lookup = call.lookup
        asked = KadMessage(call.request, call.key)
        for node in lookup.due(now):
            where = call.addresses.get(node)
            if where and node not in self._up:
                actions.append(Noted(Located(node, where)))
            actions.append(self._send(now, node, asked, call.frame, call))
        if lookup.done:
            self._arrive(now, call, actions)
        else:
            self._arm(lookup.wake(), actions)

    def _arrive(self, now: Millis, call: Errand, actions: list[Action]) -> None:
        """Do what the call's look-up was for, with the peers that it found."""
        nearest = call.lookup.nearest()
        effort = call.effort(now)
        match call.order:
            case FindNode(target, is_key):
                found = bool(nearest) and (is_key or nearest[0] == target)
                self._finish(now, call, NodesFound(tuple(nearest), found, effort), found, actions)
            case PutValue() if call.value is not None:
                self._tell(now, call, call.value, nearest, actions)
            case GetValue():
                self._finish(now, call, self._repair(now, call, actions), bool(call.held), actions)
            case Provide(key):
                frame = encode_kad(provide_message(key, self._me, self._locate(self._me)))
                actions += [Send(node, Channel.DHT, frame) for node in nearest]
                self._finish(now, call, ProvisionTold(len(nearest), effort), bool(nearest), actions)
            case FindProviders():
                for node, where in self._provisions.of(now, call.key):
                    call.providers.setdefault(node, where)
                found_all = tuple(call.providers.items())[: self._limits.providers]
                self._finish(now, call, ProvidersFound(found_all, effort), bool(found_all), actions)
            case _:
                self._refresh_stale(now)
                self._finish(now, call, TableFilled(len(self.table), effort), bool(nearest), actions)

    def _repair(self, now: Millis, call: Errand, actions: list[Action]) -> ValueFound:
        """Put the newest value back to those who hold an older one, a bounded number of them."""
        best = call.best()
        if best is None:
            return call.value_found(now, 0)
        outdated = call.outdated(self._limits.repairs)
        message = put_message(call.key, best)
        frame = encode_kad(message)
        for node in outdated:
            if node == self._me:
                self._values.put(now, call.key, best, self._me)
            else:
                actions.append(self._send(now, node, message, frame, None))
                self._arm(Millis(now + self._limits.timeout_ms), actions)
        return call.value_found(now, len(outdated))

    def _tell(self, now: Millis, call: Errand, value: Judged, nearest: list[NodeId], actions: list[Action]) -> None:
        """Put a value to the k nearest; to ourselves too if we are one of them."""
        target = point(call.key)
        k = self._limits.lookup.k
        if len(nearest) < k or place(self._me) ^ target < place(nearest[-1]) ^ target:
            kept = self._values.put(now, call.key, value, self._me)
            call.stored += kept is Stowed.YES
            call.newer = self._values.get(now, call.key) if kept is Stowed.OLDER else None
            call.told += 1
        message = put_message(call.key, value)
        frame = encode_kad(message)
        call.pending = {}
        for node in nearest:
            sent = self._send(now, node, message, frame, call)
            call.pending[sent.exchange] = None
            actions.append(sent)
        call.told += len(nearest)
        if nearest:
            self._arm(Millis(now + self._limits.timeout_ms), actions)
        self._close_if_told(now, call, actions)

    def _close_if_told(self, now: Millis, call: Errand, actions: list[Action]) -> None:
        if not call.pending:
            self._finish(now, call, call.value_put(now), call.stored > 0, actions)

    def _finish(self, now: Millis, call: Errand, result: object, ok: bool, actions: list[Action]) -> None:
        del self._calls[call]
        lookup = call.lookup
        actions.append(Noted(LookedUp(call.routine, call.key, ok, lookup.hops(), lookup.queries, now - call.started)))
        if call.number is not None:
            actions.append(Finished(call.number, result))
        self._run_routines(now, actions)

    # ---- commands ----

    def _carry_out(self, now: Millis, call: int | None, order: Order) -> list[Action]:
        match order:
            case FindNode(target, is_key):
                return self._begin(now, call, order, target if is_key else peer_id(NodeId(target)))
            case Bootstrap(peers):
                return self._begin(now, call, order, peer_id(self._me), seeds=peers)
            case GetValue(key) | FindProviders(key):
                return self._begin(now, call, order, key)
            case Provide(key):
                noted = self._ours.provide(now, key)
                return self._full(call) if noted is None else noted + self._begin(now, call, order, key)
            case PutValue(key, content):
                value = self._values.judge(now, key, content)
                if value is not None:
                    noted = self._ours.put(now, key, content)
                    return (
                        self._full(call) if noted is None else noted + self._begin(now, call, order, key, value=value)
                    )
                if call is not None:
                    return [Finished(call, Declined("no validator accepts this value under this key, now"))]
                return self._ours.withdraw(key)  # it has expired since
            case Withdraw(key):
                for kind in ("PutValue", "Provide"):
                    self._routines.pop((kind, key), None)
                actions = self._ours.withdraw(key)
                return actions if call is None else [*actions, Finished(call, None)]

    def _full(self, call: int | None) -> list[Action]:
        most = self._limits.ours.entries
        return [] if call is None else [Finished(call, Declined(f"{most} are put again already; withdraw one"))]

    # ---- upkeep ----

    def _upkeep(self, now: Millis, actions: list[Action]) -> None:
        self._values.sweep(now)
        self._provisions.sweep(now)
        for order in self._ours.due(now):
            self._routines[type(order).__name__, order.key] = order
        self._refresh_stale(now)
        if not len(self.table) and self._seeds:
            self._routines["join", b""] = Bootstrap(self._seeds)
        self._run_routines(now, actions)
        jitter = self._rng.randrange(self._limits.upkeep_ms // 8)
        actions.append(SetTimer(UPKEEP, Millis(now + self._limits.upkeep_ms - jitter)))

    def _refresh_stale(self, now: Millis) -> None:
        for index in self.table.stale(now):
            node = self.table.somewhere(index, self._rng)
            if node is not None:
                self._routines["refresh", index.to_bytes(2, "big")] = FindNode(node)

    def _run_routines(self, now: Millis, actions: list[Action]) -> None:
        """Start the next of our own calls unless one is under way; one may end where it starts, hence the loop."""
        if self._is_running:
            return
        self._is_running = True
        while self._routines and all(call.number is not None for call in self._calls):
            name = next(iter(self._routines))
            order = self._routines.pop(name)
            actions += self._carry_out(now, None, order)
        self._is_running = False
