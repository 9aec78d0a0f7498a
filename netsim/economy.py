"""Who leads and who earns: slots and HOURs of PoOT for a population of operators, by the functions that the daemon runs.

    HOUR x ── nine witnesses a node ──→ reports ── included by publishers ──→ x + 4: settled (`checkpoint.roll`)
    slot n ── `state.leaders`: weights of two HOURs before, seed, cooldown ──→ the first that is up, or the Server
           ── `reward`: sessions closed 60 slots before ──→ LUCID

There are no frames, no signatures and no forks here: every block is seen by all, and what a VRF would put out is BLAKE3 of
the publisher, the slot and the seed. What is modelled is stated with its constant. All nodes are founders of the genesis,
each is an entity of its own, and the Server is one of them that is always up; votes are only what makes a slot busy.

Source: CONSENSUS §4 to §8.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice, takewhile
from math import exp
from random import Random
from typing import Final

from blake3 import blake3

from consensus.block import REPORTS_MAX, next_seed
from consensus.checkpoint import Constitution, Happened, Included, roll
from consensus.finality import vote_slot
from consensus.ids import MB, Digest, Network, NodeId, SessionId
from consensus.params import PER_MILLE, SERVER_RANK, STATE_HOURS, UNCLE_SLOTS, Params, settled_hours, usual_hours
from consensus.registry import founding
from consensus.report import MB_MAX, witnesses
from consensus.reward import (
    BASE_BYTES,
    OWNER_HOURS,
    OWNER_SESSIONS,
    RECEIPTS,
    ClosedSession,
    Receipted,
    counted,
    paid_slot,
    reward,
    work_done,
)
from consensus.state import RECENT, State, genesis_state, leaders
from consensus.tally import Work, median
from netsim.operators import Operator, Persona, attendance, show, work_of
from netsim.seeds import derive
from netsim.strategies import HONEST, Strategy

NETWORK: Final = Network(blake3(b"economy").digest())
ERROR: Final = 0.1
"""A witness's numbers are the truth times 0.9 to 1.1, evenly: its MB by one such factor, its uptime by another."""

UNSEEN: Final = 0.02
"""An honest witness that is up says nothing of a node in so many cases; one that is away for a part of the HOUR more often."""

ARRIVES_SLOTS: Final = 10
"""A report reaches who publishes evenly within so many slots after its HOUR."""

SESSION_MB: Final = 60.0
SESSION_SPREAD: Final = 1.0
"""A closed session has log-normal bytes, 60 MB in the median; nobody's bytes are in two of them."""

OWNERS: Final = 48
"""Owners for each session an HOUR: one closes a session every other day."""

WASH_MB: Final = 12
"""Of a session that is opened only to be counted."""


class Economy:
    """The world after some slots; slot 0 is the genesis. Equal seeds, operators and laws make equal worlds."""

    def __init__(self, seed: int, operators: Sequence[Operator], params: Params, slots: int, sessions: int) -> None:
        """The Server is the first identity; `sessions` close in an HOUR, in the mean."""
        self.seed, self.operators, self.params, self.slots, self.sessions = seed, operators, params, slots, sessions
        self.identities = show(operators, seed)
        self.by_node = {one.node: one for one in self.identities}
        nodes = [one.node for one in self.identities]
        everything = [rig for operator in operators for rig in operator.rigs]
        self.up = [attendance(seed, number, one.up, slots + 1) for number, one in enumerate(everything)]
        self.law = Constitution(NETWORK, params, tuple(nodes))
        self.state: State = genesis_state(self.law, founding(nodes, {}))
        self.server = nodes[0]
        self.begins = params.hour_slots * (usual_hours(params) // 2 + 1 + settled_hours(params) + STATE_HOURS)
        """The first slot whose leaders are drawn by work: what is counted is counted from here on."""
        self.arriving: dict[int, list[tuple[int, NodeId, Work]]] = {}
        self.pending: dict[tuple[int, NodeId], tuple[int, Work]] = {}
        self.voting: Counter[int] = Counter()
        self.closed: dict[int, list[ClosedSession]] = {}
        self.paid: deque[tuple[int, bytes]] = deque()
        self.earlier: Counter[bytes] = Counter()
        self.washes = self._washes()
        self.due: deque[tuple[int, tuple[bytes, ...], tuple[bytes, ...]]] = deque()
        self.included: dict[tuple[int, NodeId], Included] = {}
        self.missed: Counter[bytes] = Counter()
        self.counted: Counter[bytes] = Counter()
        self.trace = blake3()
        self.minted = 0
        # What is counted: slots, LUCID, misses and MB of real work, by identity.
        self.led: Counter[bytes] = Counter()
        self.earned: Counter[bytes] = Counter()
        self.misses: Counter[bytes] = Counter()
        self.worked: Counter[bytes] = Counter()
        self.fallbacks = self.reports = self.reports_lost = self.wash_paid = 0
        self.unwitnessed = 0
        """MB of real work of nodes of which too few witnesses could say anything in that HOUR."""
        self.slot = 0
        self._schedule_votes(0)

    def run(self, until: int) -> None:
        """Go on to a slot, that one included."""
        while self.slot < until:
            self.slot += 1
            if self.slot % self.params.hour_slots == 0:
                self._new_hour(self.slot // self.params.hour_slots)
            self._new_slot(self.slot)

    @property
    def counts(self) -> bool:
        """Whether the present slot is counted."""
        return self.slot >= self.begins

    def digest(self) -> str:
        """The digest of all publishers so far, in their order."""
        return self.trace.hexdigest()

    def is_up(self, entity: bytes) -> bool:
        """Whether an identity's machine is up in the present slot."""
        return bool(self.up[self.by_node[NodeId(entity)].rig][self.slot])

    # An HOUR

    def _new_hour(self, hour: int) -> None:
        """Settle what is due, and have the HOUR that ended witnessed."""
        self._witness(hour - 1)
        state = self.state
        happened = replace(state.happened, reports=self.included, misses=self.missed, led=self.counted)
        made = roll(self.law, state.recent, state.at_final, happened, state.seed, state.seed)
        kept = settled_hours(self.params) + RECENT
        self.included, self.missed, self.counted = {}, Counter(), Counter()
        self.state = replace(state, recent=(*state.recent, made)[-kept:], happened=Happened(made.justified, made.final))
        self._schedule_votes(hour)

    def _schedule_votes(self, hour: int) -> None:
        """Voters that are up in their slot vote; what is cast makes the next slot busy."""
        seed = self.state.checkpoint.seed
        self.voting = Counter(
            slot + 1
            for voter, _ in self.state.checkpoint.voters
            if (slot := vote_slot(self.params, seed, hour, voter)) <= self.slots
            and self.up[self.by_node[voter].rig][slot]
        )

    def _witness(self, hour: int) -> None:
        """The reports of an HOUR that ended, from what its witnesses state, on their way to who publishes."""
        at = next(one for one in reversed(self.state.recent) if one.hour == hour)
        rng = derive(self.seed, "witness", hour)
        size = self.params.hour_slots
        begin, end = hour * size, (hour + 1) * size
        shares = [here.count(1, begin, end) / size for here in self.up]
        entities, order = at.registry.entities, at.registry.order
        for node in self.identities:
            uptime = int(PER_MILLE * shares[node.rig])
            truth = Work(node.storage, node.relay, uptime)
            if self.counts:
                self.worked[node.node] += work_of(*truth)
            if not uptime:
                continue
            drawn = witnesses(NETWORK, at.seed, hour, node.node, entities, order)
            work = self._reported(rng, node, truth, [self.by_node[one] for one in drawn], shares)
            if work is None:
                self.unwitnessed += work_of(*truth) if self.counts else 0
            else:
                self.reports += 1
                self.arriving.setdefault(end + rng.randrange(ARRIVES_SLOTS), []).append((hour, node.node, work))

    def _reported(
        self, rng: Random, node: Persona, truth: Work, drawn: Sequence[Persona], shares: Sequence[float]
    ) -> Work | None:
        """The median of what a node's witnesses state and it puts into its report."""
        stated: list[tuple[Work, bool]] = []
        operators, own = self.operators, node.operator
        for _, operator, rig, _, _ in drawn:
            strategy, fellow = operators[operator].strategy, operator == own
            if strategy is HONEST:
                if rng.random() < shares[rig] * (1 - UNSEEN):
                    stated.append((_measure(rng, truth), fellow))
            elif shares[rig] and (said := strategy.state(_measure(rng, truth), fellow=fellow)) is not None:
                stated.append((Work(min(MB_MAX, said.storage), min(MB_MAX, said.relay), said.uptime), fellow))
        return median(self.operators[node.operator].strategy.assemble(stated, len(drawn)), len(drawn))

    # A slot

    def _new_slot(self, slot: int) -> None:
        for hour, node, work in self.arriving.pop(slot, ()):
            self.pending[hour, node] = slot, work
        self._close(slot)
        busy = bool(self.pending or self.voting[slot] or self.closed[slot])
        drawn = leaders(self.law, self.state, slot)
        rank = self._rank(drawn) if busy else SERVER_RANK
        publisher = drawn[rank] if rank < SERVER_RANK else self.server
        if busy:
            late = (one for one in drawn[:rank] if not (self.is_up(one) and self._strategy(one).late_header))
            self.due.append((slot, drawn[rank : rank + 1], tuple(late)))
        while self.due and self.due[0][0] < slot - UNCLE_SLOTS:
            _, publishers, late_ones = self.due.popleft()
            self.counted.update(publishers)
            self.missed.update(late_ones)
            self.misses.update(late_ones)
        self._include(slot, publisher)
        self._pay(slot, publisher, rank)
        self.state = self.after(self.state, slot, publisher)
        self.trace.update(publisher)

    def _strategy(self, entity: bytes) -> Strategy:
        return self.operators[self.by_node[NodeId(entity)].operator].strategy

    def _rank(self, drawn: Sequence[bytes]) -> int:
        """The rank that publishes: the first that is up and does not let the slot pass."""
        decided: dict[int, bytes | None] = {}
        for rank, entity in enumerate(drawn):
            operator = self.by_node[NodeId(entity)].operator
            strategy = self.operators[operator].strategy
            if not self.is_up(entity):
                continue
            if strategy is HONEST:
                return rank
            if operator not in decided:
                able = [one for one in drawn[rank:] if self.is_up(one)]
                decided[operator] = strategy.chosen(able, Foresight(self, operator, able))
            if decided[operator] == entity:
                return rank
        return SERVER_RANK

    def after(self, state: State, slot: int, publisher: bytes) -> State:
        """The state after a slot, as far as the next draw looks at it."""
        output = blake3(b"vrf" + publisher + slot.to_bytes(8, "big") + state.seed).digest(64)
        kept = (one for one in state.publishers if one[0] > slot - self.params.cooldown_slots)
        return replace(
            state,
            slot=slot,
            seed=next_seed(NETWORK, state.seed, output),
            publishers=(*kept, (slot, publisher)),
        )

    def _include(self, slot: int, publisher: bytes) -> None:
        """Put reports into the block, the oldest first; those that no block can carry any more are lost."""
        operator, strategy = self.by_node[NodeId(publisher)].operator, self._strategy(publisher)
        size, last = self.params.hour_slots, self.params.report_slots
        # They arrive within a few slots of their HOUR's end, so those of one HOUR stand before all of the next.
        gone = [*takewhile(lambda key: slot >= (key[0] + 1) * size + last, self.pending)]
        self.reports_lost += len(gone)
        for key in gone:
            del self.pending[key]
        able: Iterable[tuple[int, NodeId]] = self.pending
        if strategy is not HONEST:
            able = (key for key in self.pending if strategy.includes(fellow=self.by_node[key[1]].operator == operator))
        for key in list(islice(able, REPORTS_MAX)):
            self.included[key] = Included(self.pending.pop(key)[1], publisher)

    # Sessions and LUCID

    def _close(self, slot: int) -> None:
        """The sessions that are closed in a slot, each stored by three entities that are not its owner."""
        rng = derive(self.seed, "sessions", slot)
        owners = max(1, OWNERS * self.sessions)
        made = []
        for turn in range(_poisson(rng, self.sessions / self.params.hour_slots)):
            size = int(MB * SESSION_MB * rng.lognormvariate(0, SESSION_SPREAD))
            made.append(_session(slot, turn, b"owner %d" % rng.randrange(owners), size))
        made += [
            _session(slot, len(made) + n, owner, WASH_MB * MB) for n, owner in enumerate(self.washes.get(slot, ()))
        ]
        self.closed[slot] = made

    def _washes(self) -> dict[int, list[bytes]]:
        """When accounts of operators close sessions that are to be counted: two in 24 HOURs each, at a moment of its own."""
        day = OWNER_HOURS * self.params.hour_slots
        found: dict[int, list[bytes]] = {}
        for number, operator in enumerate(self.operators):
            for account in range(operator.owners):
                rng = derive(self.seed, "wash", number, account)
                for begin in rng.sample(range(day), OWNER_SESSIONS):
                    for slot in range(begin, self.slots + 1, day):
                        found.setdefault(slot, []).append(b"wash %d %d" % (number, account))
        return found

    def _pay(self, slot: int, publisher: bytes, rank: int) -> None:
        """Mint the slot's reward and count whom it went to."""
        size = self.params.hour_slots
        paid = paid_slot(slot, size)
        kept: tuple[ClosedSession, ...] = ()
        if paid is not None:
            # What `reward.recent` says, kept up to date: counted anew for every slot it would be half of a run's time.
            while self.paid and self.paid[0][0] <= paid - OWNER_HOURS * size:
                self.earlier[self.paid.popleft()[1]] -= 1
            closed = self.closed.pop(paid, [])
            kept = counted(closed, {one.owner: self.earlier[one.owner] for one in closed})
            self.paid.extend((paid, one.owner) for one in kept)
            self.earlier.update(one.owner for one in kept)
        tally = self.state.recent[max(0, len(self.state.recent) - 1 - STATE_HOURS)].tally
        # The sessions' own HOUR is settled two HOURs after this slot; the latest that is settled stands for it.
        entities = tally.hours[-1].count if tally.hours else 0
        amount = reward(work_done(kept, entities), self.minted, BASE_BYTES, to_server=publisher == self.server)
        self.minted += amount
        if self.counts:
            self.led[publisher] += 1
            self.earned[publisher] += amount
            self.wash_paid += sum(one.owner.startswith(b"wash") for one in kept)
            self.fallbacks += rank == SERVER_RANK


class Foresight:
    """What an operator sees of the next slot's draw, knowing the VRF output of each that may publish now.

    Of others it would not: so what it gains by it is an upper bound.
    """

    def __init__(self, economy: Economy, operator: int, able: Sequence[bytes]) -> None:
        self.economy, self.operator, self.able = economy, operator, able

    def own(self, entity: bytes) -> bool:
        """Whether an entity is the operator's."""
        return self.economy.by_node[NodeId(entity)].operator == self.operator

    def lead(self, entity: bytes | None) -> tuple[bool, int]:
        """Whether the operator leads the next slot, and how many of its first ranks are its own."""
        economy = self.economy
        others = (one for one in self.able if not self.own(one))
        publisher = entity or next(others, economy.server)
        after = economy.after(economy.state, economy.slot, publisher)
        run = 0
        for one in leaders(economy.law, after, economy.slot + 1):
            if not self.own(one):
                break
            run += 1
        return run > 0, run


def _measure(rng: Random, truth: Work) -> Work:
    """The truth as a witness measures it."""
    size = 1 - ERROR + 2 * ERROR * rng.random()
    time = 1 - ERROR + 2 * ERROR * rng.random()
    return Work(int(truth.storage * size), int(truth.relay * size), min(PER_MILLE, int(truth.uptime * time)))


def _session(slot: int, turn: int, owner: bytes, size: int) -> ClosedSession:
    name = blake3(b"session %d %d" % (slot, turn)).digest()
    held = (Receipted(Digest(name), size, b"holder %d" % number, placed=True) for number in range(RECEIPTS))
    return ClosedSession(SessionId(name), owner, tuple(held), 1)


def _poisson(rng: Random, mean: float) -> int:
    """A number of independent events with so many in the mean, by Knuth's product of uniforms."""
    limit, product, count = exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count
