"""Getting a replica onto a holder: one job for each, from the placement order's best candidate to the first that signs.

    (waiting) → asking the owner → offered → copying → receipt, or the next candidate
                 only a repair by another holder

The owner encodes the replica that is missing. While it is away a holder passes on its own replica, byte for byte, to the
next in that replica's order: three copies on three entities again, if not three encodings until the owner is back.

Source: CONSENSUS §4, DESIGN §5.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, TypeAlias

from consensus.beacon import Deposit, Receipt
from consensus.ids import Digest, Millis, Network, NodeId
from consensus.placement import REVEALED, Registrant, next_holder, opening, order, placement_key
from node.overlay import replica_frames as frames
from node.overlay.custody import Custody, DepositRefused, RepairStarted, ReplicateLimits, Serve, Unplaced, Untimely
from node.overlay.machine import Action, Channel, Noted, Rejected, Send
from node.overlay.replica_frames import Answered, ReplicaOffer

JobKey: TypeAlias = tuple[Digest, int]
NEVER: Final = Millis(1 << 62)
ERAS_KEPT: Final = 3
"""Registries: a receipt that counts began in this ERA or the one before, and is judged by that and the one before it."""


class Register:
    """The registries of the last ERAs, and what placement asks of them.

    Nodes enter a new registry one by one, and a receipt outlives its ERA, so whether a holder was placed is asked of the
    receipt's own ERA and of the one before it: whoever has both comes to the same answer, whenever it is asked.
    """

    def __init__(self, network: Network, limits: ReplicateLimits) -> None:
        self._network, self._limits = network, limits
        self._registries: dict[int, Sequence[Registrant]] = {}
        self._era = 0
        self._earlier: dict[NodeId, bytes] = {}
        self.entities: dict[NodeId, bytes] = {}
        """Of the newest registry."""

    def enter(self, era: int, registry: Sequence[Registrant]) -> None:
        """Know the registry of an ERA; the ERAs may come in any order, and only the newest are kept."""
        registries = self._registries | {era: registry}
        eras = sorted(registries)[-ERAS_KEPT:]
        self._registries = {era: registries[era] for era in eras}
        self._era = eras[-1]
        self._earlier = {one.node: one.entity for era in eras[:-1] for one in registries[era]}
        self.entities = {one.node: one.entity for one in registries[self._era]}

    def entity(self, node: NodeId) -> bytes:
        """Whose work the node does, or did when it was last registered; one that never was works for itself."""
        return self.entities.get(node) or self._earlier.get(node, node)

    def ranks(self, deposit: Deposit, j: int) -> tuple[NodeId, ...]:
        """The nodes that may hold replica j by the newest registry, best first."""
        return self._ranks(self._era, deposit, j)

    def _ranks(self, era: int, deposit: Deposit, j: int) -> tuple[NodeId, ...]:
        key = placement_key(self._network, deposit.seed, deposit.chunk, j)
        return order(key, self._registries.get(era, ()), deposit.size, self._limits.ranks_max)

    def takes(self, node: NodeId, deposit: Deposit, j: int) -> bool:
        """Whether the node may take replica j now: placed by the newest registry or by the one before it."""
        return any(node in self._ranks(era, deposit, j) for era in (self._era, self._era - 1))

    def placed(self, deposit: Deposit, receipt: Receipt) -> bool | None:
        """Whether the receipt's holder was placed by the registry of the ERA in which its term began, or the one before.

        None when it cannot be told, because one of the two is not known. Costs two orders of the registry at most.
        """
        began = receipt.since // (self._limits.era_hours * self._limits.hour_slots)
        eras = [era for era in (began, began - 1) if era >= 0]
        if any(receipt.holder in self._ranks(era, deposit, receipt.j) for era in eras):
            return True
        return False if all(era in self._registries for era in eras) else None


class _Stage(Enum):
    ASKING = 1
    OFFERED = 2
    COPYING = 3


class _Job:
    """One replica that is looking for a holder."""

    __slots__ = ("candidate", "deadline", "exchange", "old", "ranks", "refused", "stage")

    def __init__(self, old: NodeId | None) -> None:
        self.old = old
        self.stage = _Stage.OFFERED
        self.candidate: NodeId | None = None
        self.exchange = 0
        self.deadline = NEVER
        self.ranks: tuple[NodeId, ...] = ()
        self.refused: dict[NodeId, None] = {}


class Placing:
    """The jobs of one node, as an owner or as a holder that repairs."""

    def __init__(
        self,
        me: NodeId,
        limits: ReplicateLimits,
        custodies: dict[Digest, Custody],
        register: Register,
        seed_at: Callable[[int], Digest | None],
        next_exchange: Callable[[], int],
    ) -> None:
        self._me, self._limits, self._register = me, limits, register
        self._custodies, self._seed_at, self._next_exchange = custodies, seed_at, next_exchange
        self._jobs: dict[JobKey, _Job] = {}
        self._waiting: dict[JobKey, NodeId | None] = {}
        self._exchanges: dict[int, JobKey] = {}
        self.slot = 0
        """The current HOUR's first: receipts that have lapsed are not passed on."""

    def begin(self, now: Millis, chunk: Digest, j: int, old: NodeId | None) -> list[Action]:
        """Look for a holder; nothing when that is under way or waits its turn."""
        if (chunk, j) in self._jobs or (chunk, j) in self._waiting:
            return []
        self._waiting[chunk, j] = old
        return self._pump(now)

    def under_way(self, chunk: Digest) -> bool:
        """Whether a replica of a chunk is looking for a holder, or waits to; a holder repairs one at a time."""
        return any((chunk, j) in jobs for j in range(3) for jobs in (self._jobs, self._waiting))

    def loads(self) -> tuple[int, int]:
        """How many replicas are looking for a holder, and how many wait to."""
        return len(self._jobs), len(self._waiting)

    def deadline(self) -> Millis:
        """When the next job runs out of time; NEVER without one."""
        return min((job.deadline for job in self._jobs.values()), default=NEVER)

    def _pump(self, now: Millis) -> list[Action]:
        actions: list[Action] = []
        while self._waiting and len(self._jobs) < self._limits.jobs_max:
            key = next(iter(self._waiting))
            old = self._waiting.pop(key)
            custody = self._custodies.get(key[0])
            if custody is None:
                continue
            job = self._jobs[key] = _Job(old)
            if custody.owned or old is None:
                actions += self._offer(now, key, job)
            else:
                job.stage, job.candidate = _Stage.ASKING, custody.deposit.owner
                actions.append(self._exchange(now, key, job, frames.missing(key[0], old)))
        return actions

    def _exchange(self, now: Millis, key: JobKey, job: _Job, frame: bytes) -> Send:
        assert job.candidate is not None
        job.exchange = self._next_exchange()
        job.deadline = Millis(now + self._limits.accept_ms)
        self._exchanges[job.exchange] = key
        return Send(job.candidate, Channel.REPLICAS, frame, job.exchange)

    def _offer(self, now: Millis, key: JobKey, job: _Job) -> list[Action]:
        """Offer the replica to the next candidate; without one the job ends here and its chunk's owner or holder retries."""
        chunk, j = key
        custody = self._custodies[chunk]
        deposit, register = custody.deposit, self._register
        actions: list[Action] = []
        if not job.ranks:
            job.ranks = register.ranks(deposit, j)
            if job.old is not None:
                actions.append(Noted(RepairStarted(chunk, j, job.old)))
        taken = {register.entity(deposit.owner), register.entity(self._me)}
        taken |= {register.entity(node) for node in custody.holders}
        taken |= {
            register.entity(other.candidate)
            for number in range(3)
            if number != j and (other := self._jobs.get((chunk, number))) is not None and other.candidate is not None
        }
        job.stage = _Stage.OFFERED
        job.candidate = next_holder(job.ranks, register.entities, taken, {**job.refused, **custody.left})
        if job.candidate is None:
            job.candidate = next_holder(job.ranks, register.entities, taken, job.refused)
        if job.candidate is None:
            del self._jobs[key]
            actions.append(Noted(Unplaced(chunk, j)))
            if custody.owned and not custody.ring and not self.under_way(chunk) and self._untimely(deposit):
                actions.append(Noted(Untimely(chunk)))
            return actions
        receipts = [
            holding.signed for holding in custody.holders.values() if holding.live and holding.until > self.slot
        ]
        if custody.signed is not None:
            receipts.append(custody.signed)
        frame = frames.offer(ReplicaOffer(custody.packed, custody.signature, j, tuple(receipts)))
        actions.append(self._exchange(now, key, job, frame))
        return actions

    def _untimely(self, deposit: Deposit) -> bool:
        """Whether nobody with our clock and our chain would be the first to hold anything of this deposit."""
        first, end = opening(self.slot // self._limits.hour_slots, self._limits.hour_slots)
        known = self._seed_at(deposit.opened + REVEALED)
        return not first <= deposit.opened < end or (known is not None and known != deposit.seed)

    def _next(self, now: Millis, key: JobKey) -> list[Action]:
        """Go on to another candidate: this one refused, failed or took too long."""
        job = self._jobs[key]
        self._exchanges.pop(job.exchange, None)
        if job.stage is not _Stage.ASKING and job.candidate is not None:
            job.refused[job.candidate] = None
        custody = self._custodies[key[0]]
        forgotten: list[Action] = [] if custody.copying.pop(key[1], None) is None else [custody.persist()]
        return forgotten + self._offer(now, key, job) + self._pump(now)

    def on_verdict(self, now: Millis, peer: NodeId, exchange: int, answer: Answered) -> list[Action]:
        """What a candidate says to our offer, or the owner to our news."""
        key = self._exchanges.get(exchange)
        if key is None or self._jobs[key].candidate != peer:
            return [Noted(Rejected(peer, "a verdict on nothing that we asked"))]
        job = self._jobs[key]
        custody = self._custodies[key[0]]
        if job.stage is _Stage.ASKING and answer in {Answered.YES, Answered.HELD}:
            custody.owner_until = Millis(now + self._limits.transfer_ms)
            return self.drop(now, key)
        if job.stage is _Stage.OFFERED and answer in {Answered.LATE, Answered.EARLY, Answered.OTHER_SEED}:
            return [Noted(DepositRefused(*key, peer, answer)), *self._next(now, key)]
        if job.stage is _Stage.ASKING or answer is not Answered.YES:
            return self._next(now, key)
        custody.copying[key[1]] = peer
        return [custody.persist(), self._serve(now, key, job)]

    def resume(self, now: Millis, key: JobKey, candidate: NodeId) -> list[Action]:
        """Take up a job whose candidate was fetching when we stopped."""
        job = self._jobs[key] = _Job(None)
        job.candidate = candidate
        return [self._serve(now, key, job)]

    def _serve(self, now: Millis, key: JobKey, job: _Job) -> Noted:
        assert job.candidate is not None
        self._exchanges.pop(job.exchange, None)
        job.stage, job.deadline = _Stage.COPYING, Millis(now + self._limits.transfer_ms)
        deposit = self._custodies[key[0]].deposit
        root = deposit.roots[key[1]]
        return Noted(Serve(job.candidate, deposit.chunk, key[1], root, deposit.size, job.deadline))

    def on_failed(self, now: Millis, exchange: int) -> list[Action]:
        """Our exchange broke off; nothing when it is not ours."""
        key = self._exchanges.get(exchange)
        return [] if key is None else self._next(now, key)

    def on_undone(self, now: Millis, peer: NodeId, key: JobKey) -> list[Action]:
        """The candidate could not fetch the replica."""
        job = self._jobs.get(key)
        if job is None or job.candidate != peer or job.stage is not _Stage.COPYING:
            return [Noted(Rejected(peer, "the end of no transfer of ours"))]
        return self._next(now, key)

    def on_deadline(self, now: Millis) -> list[Action]:
        """Go on with every job whose time is up."""
        actions: list[Action] = []
        for key in [key for key, job in self._jobs.items() if job.deadline <= now]:
            actions += self._next(now, key)
        return actions

    def expects(self, key: JobKey, holder: NodeId) -> bool:
        """Whether this holder's receipt would end the job."""
        job = self._jobs.get(key)
        return job is not None and job.stage is not _Stage.ASKING and job.candidate == holder

    def old(self, key: JobKey) -> NodeId | None:
        """In whose place the job looks for a holder."""
        return self._jobs[key].old

    def cancel(self, key: JobKey) -> None:
        """Forget a job whose chunk we let go."""
        self._waiting.pop(key, None)
        job = self._jobs.pop(key, None)
        if job is not None:
            self._exchanges.pop(job.exchange, None)
            self._custodies[key[0]].copying.pop(key[1], None)

    def drop(self, now: Millis, key: JobKey) -> list[Action]:
        """End a job, done or pointless; the next that waits begins."""
        self.cancel(key)
        return self._pump(now)
