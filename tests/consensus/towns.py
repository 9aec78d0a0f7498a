"""Towns: replicas of a few nodes that hear each other at once, on a time that is driven by hand.

What a replica wants is done as a host does it: rows are kept, what is spread reaches everybody of the same side, a payload is
valid when its header names it. Every list of wishes is looked at: no journal row may come after something that is sent.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from blake3 import blake3

from consensus import vrf
from consensus.block import Block
from consensus.finality import SignedVote, read_vote
from consensus.ids import Digest, Millis, NodeId
from consensus.inclusion import Rules
from consensus.params import DEVNET, Params
from consensus.replica import ConsensusReplica
from consensus.report import SignedReport, assemble, report_signable, state_work, witnesses
from consensus.signatory import EraKeys, Own
from consensus.signing import KeyPair, verify_as_is
from consensus.state import State, at_hour
from consensus.tally import Work
from consensus.wishes import BuildPayload, Doing, ExecutePayload, FetchBlocks, Keep, Prove, Spread, Told, Topic, Wake
from tests.consensus.worlds import FULL, NETWORK, Village, key

BEGAN: Final = Millis(1_000_000)
LASTING: Final = replace(DEVNET, era_hours=100, month_hours=100)
"""A devnet whose first ERA does not end within a test."""
SLOT: Final = DEVNET.slot_ms
EMPTY: Final = blake3(b"").digest()

Rows = dict[Any, bytes]
_PROVEN: dict[Any, Any] = {}
_CHECKED: dict[Any, bool] = {}


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """As libsodium says, asked once."""
    asked = public, signature, message
    if asked not in _CHECKED:
        _CHECKED[asked] = verify_as_is(*asked)
    return _CHECKED[asked]


def verify_proof(public: bytes, alpha: bytes, proof: bytes) -> bytes | None:
    """The output of a proof, worked out once."""
    asked = public, alpha, proof
    if asked not in _PROVEN:
        _PROVEN[asked] = vrf.verify(*asked)
    found: bytes | None = _PROVEN[asked]
    return found


class Dweller:
    """A node: its replica, what it kept, what it waits for, and what it told."""

    def __init__(self, town: "Town", number: int, rows: Rows) -> None:
        self.number, self.node, self.rows = number, town.village.nodes[number], rows
        read = {key: row for key, row in rows.items() if key[0] in {"journal", "branches"}}
        self.replica = ConsensusReplica(town.rules, town.village.genesis, BEGAN, town.own(number), read, self.stored)
        self.timers: dict[tuple[str | int, ...], Millis] = {}
        self.facts: list[Any] = []
        self.sent: list[Spread] = []
        self.proving: list[Prove] = []

    def told(self, kind: type) -> list[Any]:
        """Its facts of a kind."""
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def spread(self, topic: Topic) -> list[bytes]:
        """What it spread of a topic."""
        return [one.data for one in self.sent if one.topic is topic]

    def stored(self, table: str, key: bytes) -> bytes | None:
        """A row that it kept."""
        return self.rows.get((table, (key,)))

    def votes(self) -> list[SignedVote]:
        """Its votes."""
        return [read_vote(data) for data in self.spread(Topic.VOTES)]


class Town:
    """Some founders, all of them up and on one side at first; with work they report each HOUR."""

    def __init__(self, founders: int, params: Params = LASTING, work: Work | None = None, difficulty: int = 1) -> None:
        self.village = Village(founders, params, difficulty)
        self.law, self.params, self.work = self.village.law, params, work
        self.keys = {one: EraKeys(pair, pair.secret[:32]) for one, pair in self.village.keys.items()}
        self.rules = Rules(self.law, verify, verify_proof, {})
        self.now = BEGAN
        self.sides = dict.fromkeys(range(founders), 0)
        self.up: dict[int, Dweller] = {}
        self.down: dict[int, Rows] = {}
        self.dying: set[NodeId] = set()
        """Nodes that die while their payloads are built."""
        self._queue: deque[Callable[[], Any]] = deque()
        for number in range(founders):
            self.start(number)

    def own(self, number: int) -> Own:
        """What a node is given of its own."""
        me = key(number)

        def new_keys(era: int) -> EraKeys:
            made = key(1_000 * era + number)
            return self.keys.setdefault(made.public, EraKeys(made, made.secret[:32]))

        ours = {key(1_000 * era + number).public for era in range(9)}
        return Own(
            NodeId(me.public),
            me,
            lambda public: self.keys.get(public) if public in ours else None,
            new_keys,
            capacity=7,
        )

    def report(self, state: State, hour: int, node: NodeId, work: Work = FULL) -> SignedReport:
        """A node's report, signed by all its witnesses."""
        at = at_hour(state, hour)
        assert at is not None
        members = at.registry.members
        signing = {one: self.keys[members[one].era_key].signing for one in members}
        drawn = witnesses(NETWORK, at.seed, hour, node, at.registry.entities, at.registry.order)
        root = Digest(bytes(32))
        said = {place: state_work(signing[one], NETWORK, node, hour, root, work) for place, one in enumerate(drawn)}
        made = assemble(node, hour, root, said)
        return SignedReport(made, signing[node].sign_as_is(report_signable(made, NETWORK)))

    # who is there

    def start(self, number: int, rows: Mapping[Any, bytes] | None = None) -> Dweller:
        """A node starts with what it kept, and meets its side."""
        kept = self.down.pop(number, {}) if rows is None else dict(rows)
        made = self.up[number] = Dweller(self, number, kept)
        self.do(made, made.replica.start(self.now))
        self.meet()
        return made

    def stop(self, *numbers: int) -> None:
        """Nodes die."""
        for number in numbers:
            self.down[number] = self.up.pop(number).rows

    def part(self, *sides: Sequence[int]) -> None:
        """From now on each side hears itself only; all on one side are whole again."""
        self.sides = {number: side for side, numbers in enumerate(sides) for number in numbers}
        self.meet()

    def meet(self) -> None:
        """Everybody learns of everybody on its side, and asks."""
        for one in self.up.values():
            for other in self.side(one):
                self.do(one, one.replica.peer_up(other.node))
        self.settle()

    def side(self, dweller: Dweller) -> list[Dweller]:
        """Who hears a node."""
        return [
            one
            for one in self.up.values()
            if one is not dweller and self.sides[one.number] == self.sides[dweller.number]
        ]

    # what happens

    def do(self, dweller: Dweller, doing: Iterable[Doing]) -> None:
        """What a replica wants."""
        wanted = [*doing]
        kinds = [
            "sent" if isinstance(one, Spread) else "row" for one in wanted if is_row(one) or isinstance(one, Spread)
        ]
        assert kinds == sorted(kinds, reverse=False), wanted
        replica = dweller.replica
        for one in wanted:
            match one:
                case Keep(table, name, None):
                    dweller.rows.pop((table, name), None)
                case Keep(table, name, value):
                    dweller.rows[table, name] = value or b""
                case Wake(name, at):
                    dweller.timers[name] = at
                case Told(fact):
                    dweller.facts.append(fact)
                case ExecutePayload(call, block, _):
                    valid = is_payable(block)
                    self._queue.appendleft(
                        lambda call=call, valid=valid: self.do(dweller, replica.executed(self.now, call, valid=valid))  # type: ignore[misc]
                    )
                case BuildPayload() if dweller.node in self.dying:
                    pass
                case BuildPayload(call, _):
                    self.do(dweller, replica.built(self.now, call, Digest(EMPTY), b""))
                case Spread(topic, data):
                    dweller.sent.append(one)
                    self._queue += [
                        partial(self.give, other, topic, data, dweller.node) for other in self.side(dweller)
                    ]
                case FetchBlocks(peer, question):
                    self._queue.append(partial(self._ask, dweller, peer, question))
                case Prove():
                    dweller.proving.append(one)

    def give(self, dweller: Dweller, topic: Topic, data: bytes, author: NodeId) -> Any:
        """A node hears a record; what becomes of it."""
        heard, doing = dweller.replica.hear(self.now, topic, data, author)
        self.do(dweller, doing)
        return heard

    def _ask(self, dweller: Dweller, peer: NodeId, question: bytes) -> None:
        other = next((one for one in self.side(dweller) if one.node == peer), None)
        if other is not None:
            answer = other.replica.answer(question)
            self.do(dweller, dweller.replica.answered(self.now, peer, answer)[1])

    def settle(self) -> None:
        """Until nobody has anything to say."""
        while self._queue:
            self._queue.popleft()()

    def run(self, slot: int, into: int = -1) -> None:
        """Until just before a slot, or so many ms into it."""
        until = BEGAN + slot * self.params.slot_ms + into
        while True:
            due = [(at, one.number, name) for one in self.up.values() for name, at in one.timers.items()]
            if not due or min(due, key=lambda one: one[:2])[0] > until:
                self.now = Millis(until)
                return
            at, number, name = min(due, key=lambda one: one[:2])
            self.now = max(self.now, at)
            self._fire(self.up[number], name)
            self.settle()

    def _fire(self, dweller: Dweller, name: tuple[str | int, ...]) -> None:
        del dweller.timers[name]
        self.do(dweller, dweller.replica.wake(self.now, name))
        size = self.params.hour_slots
        slot = dweller.replica.slot_at(self.now)
        if name[0] == "slot" and self.work is not None and slot % size == 1 and slot > size:
            state = dweller.replica.next()[0]
            at = at_hour(state, slot // size - 1)
            if at is not None and dweller.node in at.registry.members:
                made = self.report(state, slot // size - 1, dweller.node, self.work)
                self.do(dweller, dweller.replica.submit(made))

    # what came of it

    def heads(self) -> set[Digest]:
        """The heads that nodes have."""
        return {one.replica.head().id for one in self.up.values()}

    def finals(self) -> set[int]:
        """The HOURs of their last final checkpoints."""
        return {one.replica.head().final.hour for one in self.up.values()}


def is_row(one: Doing) -> bool:
    """Whether it is a journal's row."""
    return isinstance(one, Keep) and one.table == "journal"


def is_payable(block: Block) -> bool:
    """Whether a header names its payload."""
    return block.header.payload == blake3(block.body.payload).digest()


def kept(replica: ConsensusReplica) -> tuple[Any, ...]:
    """All that a replica knows, to be compared."""
    pools = replica.pools
    return (
        replica.head().id,
        replica.final,
        replica.tree.root,
        replica.tree.justified,
        len(replica.tree),
        dict(replica.latest),
        *(dict(one) for one in (pools.votes, pools.reports, pools.registrations, pools.pools)),
        *(dict(two) for two in (pools.double_votes, pools.double_proposals, pools.headers)),
        replica.is_doubled,
    )


def signed_by(pair: KeyPair) -> NodeId:
    """Whose key it is."""
    return NodeId(pair.public)
