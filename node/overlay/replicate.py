"""Replication: gets a sealed chunk onto R holders of distinct entities and keeps it there, with its owner or without.

    owner ── Place ──→ placing ── offers ──→ taking (the holder) ── receipt ──→ everybody who watches over the chunk
    each HOUR: watching ── challenges ──→ a holder that fails for 24 h is given up ──→ placing: the next in its order

The owner and the holders of a chunk are its members. They share no state: each keeps the others' receipts and believes
its own challenges. Who repairs is drawn each HOUR from the seed among the live holders, and the owner is asked first. Two
views may differ and make one copy too many; at the ERA's change, when receipts are renewed, whoever stands behind R
better placed holders lets go.

This module joins the three parts, owns the custodies, and decides about receipts, repair and renewal.
Source: CONSENSUS §4, DESIGN §5.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from consensus.beacon import Receipt, read_receipt, signable, term
from consensus.encoding import Malformed
from consensus.ids import Digest, Millis, Network, NodeId
from consensus.placement import MEMBERS_MAX, REPLICAS, Registrant, leader, lots
from consensus.records import pack
from node.overlay import replica_frames as frames
from node.overlay.custody import (
    TABLE,
    Custody,
    Discard,
    Fetched,
    Holding,
    Lost,
    Place,
    Repaired,
    ReplicaDamaged,
    ReplicateLimits,
    SegmentsRead,
    Signs,
    Stored,
    Uncounted,
    read_row,
)
from node.overlay.inventory import Inventory
from node.overlay.machine import (
    Action,
    Channel,
    Finished,
    Noted,
    Persist,
    Rejected,
    Send,
    SetTimer,
    TimerKey,
    Unreadable,
    Verify,
)
from node.overlay.placing import Placing, Register
from node.overlay.replica_frames import (
    Answered,
    CopyUndone,
    HolderMissing,
    ReceiptsTold,
    ReplicaOffer,
    ReplicaReleased,
    ReplicaVerdict,
    SegmentsAsked,
    SegmentsShown,
    SignedReceipt,
)
from node.overlay.standing import doubt, introductions, misplaced, objection, settlement, sign, surplus, uncounted
from node.overlay.taking import Taking, Transfer
from node.overlay.watching import ASKS, Watch

if TYPE_CHECKING:
    from random import Random

ROUND: Final[TimerKey] = ("replicate", "round")
JOBS: Final[TimerKey] = ("replicate", "jobs")


class Replicate:
    """One node's part in replication, as an owner, a holder and a watcher."""

    def __init__(
        self,
        me: NodeId,
        network: Network,
        rng: "Random",
        limits: ReplicateLimits,
        keys: Signs,
        verify: Verify,
        seed_at: Callable[[int], Digest | None],
        next_exchange: Callable[[], int],
        kept: Iterable[tuple[tuple[int | str | bytes, ...], bytes]] = (),
        is_here: Callable[[Digest], bool] = lambda _chunk: True,
    ) -> None:
        """`seed_at`: a slot's seed, None when not known; `kept`: rows of "replicas"; `is_here`: can a chunk of ours be encoded?"""
        self._me, self._network, self._rng, self._limits = me, network, rng, limits
        self._keys, self._verify, self._is_here = keys, verify, is_here
        self._custodies: dict[Digest, Custody] = {}
        self._seeds: dict[int, Digest] = {}
        self._hour = 0
        self._register = Register(network, limits)
        self._watch = Watch(me, network, limits, self._custodies, self._seeds, rng)
        self._placing = Placing(me, limits, self._custodies, self._register, seed_at, next_exchange)
        self._taking = Taking(me, network, limits, self._custodies, self._register, verify, seed_at)
        self.inventory = Inventory(me, network, self._custodies, self._placing, self._taking, self._register)
        self._calls: dict[Digest, int] = {}
        self._ailing: dict[Digest, None] = {}
        self._frames: dict[NodeId, int] = {}
        self._armed: Millis | None = None
        self._kept = list(kept)

    def start(self, now: Millis) -> list[Action]:
        """Take up what the store gave back: obligations at once, transfers again from their beginning."""
        actions: list[Action] = []
        for key, data in self._kept:
            try:
                if key[0] == "in":
                    actions += self._taking.resume(now, data)
                    continue
                row = read_row(data, self._network)
            except Malformed:  # the disk tore it; the others repair its chunk
                actions.append(Noted(Unreadable(1)))
                continue
            custody = self._custodies[row.deposit.chunk] = row.restore(self._me, now)
            if row.own is not None:
                self._taking.reserve(row.deposit.owner, row.deposit.size)
            for j, node in row.copying:
                actions += self._placing.resume(now, (row.deposit.chunk, j), node)
            if row.owned or len(custody.ring) < REPLICAS:
                self._ailing[row.deposit.chunk] = None
        self._kept.clear()
        return self._armed_for(actions)

    def on_registry(self, now: Millis, era: int, registry: Sequence[Registrant]) -> list[Action]:
        """The registry of an ERA; who may hold what follows from it. After `start` the last three are due, oldest first."""
        self._register.enter(era, registry)
        actions: list[Action] = []
        for custody in list(self._custodies.values()):
            for node in misplaced(self._register, custody, self._me, self._network):
                actions += self._strike_off(now, custody, node)
        return self._armed_for(actions)

    def on_seed(self, now: Millis, hour: int, seed: Digest) -> list[Action]:
        """An HOUR has begun: draw its lots, in a moment, and look after the chunks that lack a holder.

        Called with the current HOUR right after `start` too: before that no receipt has a time.
        """
        self._seeds[hour] = seed
        while len(self._seeds) > self._limits.seeds_max:
            del self._seeds[next(iter(self._seeds))]
        self._hour = hour
        self._placing.slot = self._slot()
        self._frames.clear()
        self._watch.new_hour()
        actions: list[Action] = []
        if self._custodies:
            delay = self._rng.randrange(self._limits.jitter_ms + 1)
            actions.append(SetTimer(ROUND, Millis(now + delay)))
        for chunk in list(self._ailing):
            actions += self._mend(now, chunk)
        return self._armed_for(actions)

    def on_peer_up(self, _now: Millis, peer: NodeId, _dialled: bool) -> list[Action]:
        """Somebody is connected: what others miss from now on is their fault, not ours."""
        self._watch.up[peer] = None
        return []

    def on_peer_lost(self, _now: Millis, peer: NodeId) -> list[Action]:
        """Nothing follows: challenges have deadlines, exchanges fail."""
        self._watch.up.pop(peer, None)
        return []

    def on_failed(self, now: Millis, _peer: NodeId, exchange: int) -> list[Action]:
        """An offer or a question of ours broke off."""
        return self._armed_for(self._placing.on_failed(now, exchange))

    def on_timer(self, now: Millis, key: TimerKey) -> list[Action]:
        """A round of challenges, the deadline of challenges, or that of jobs and transfers."""
        if key == ROUND:
            actions = self._renew(now)
            if self._hour % self._limits.sync_hours == 0:
                for custody in self._custodies.values():
                    if len(custody.ring) != REPLICAS:
                        actions += introductions(custody, self._me, self._slot())
            return actions + self._watch.begin(now, self._hour)
        if key == ASKS:
            actions, failed = self._watch.on_deadline(now)
            for chunk, node in failed:
                actions += self._give_up(now, chunk, node)
            return self._armed_for(actions)
        self._armed = None
        actions = self._placing.on_deadline(now)
        return self._armed_for(actions + self._taking.on_deadline(now))

    def on_frame(self, now: Millis, peer: NodeId, frame: bytes, exchange: int = 0) -> list[Action]:
        """What a peer's frame leads to; one Rejected and nothing else when it is invalid."""
        try:
            spoken = frames.read(frame)
        except Malformed as fault:
            return [Noted(Rejected(peer, str(fault)))]
        solicited = isinstance(spoken, SegmentsShown)
        spent = 0
        if not solicited:
            spent = self._frames.get(peer, 0) + 1
            if spent > self._limits.frames_peer_max or (spent == 1 and len(self._frames) >= self._limits.peers_max):
                return [Noted(Rejected(peer, "too many frames in one HOUR"))]
        actions = self._hear(now, peer, spoken, exchange)
        match actions:
            case [Noted(Rejected())]:
                return actions
            case _:
                self._watch.heard = now
                if not solicited:
                    self._frames[peer] = spent + uncounted(actions)
                return actions if solicited else self._armed_for(actions)

    def _hear(self, now: Millis, peer: NodeId, spoken: frames.ReplicaFrame, exchange: int) -> list[Action]:
        if (exchange < 0) is not isinstance(spoken, (ReplicaOffer, HolderMissing)):
            return [Noted(Rejected(peer, "a frame on the wrong kind of stream"))]
        match spoken:
            case SegmentsShown():
                return self._watch.on_shown(now, peer, spoken)
            case SegmentsAsked():
                return self._watch.on_asked(peer, spoken)
            case ReceiptsTold():
                return self._on_told(now, peer, spoken)
            case ReplicaOffer():
                return self._taking.on_offer(now, peer, spoken, exchange, self._slot())
            case ReplicaVerdict(answer):
                return self._placing.on_verdict(now, peer, exchange, answer)
            case CopyUndone(chunk, j):
                return self._placing.on_undone(now, peer, (chunk, j))
            case ReplicaReleased(chunk):
                return self._on_released(now, peer, chunk)
            case HolderMissing(chunk, holder):
                return self._on_missing(now, peer, chunk, holder, exchange)

    def on_command(self, now: Millis, call: int, order: object) -> list[Action]:
        """Place a chunk, or the host's answer to Fetch or ReadSegments."""
        match order:
            case Place():
                return self._armed_for(self._place(now, call, order))
            case Fetched():
                actions, transfer = self._taking.on_fetched(order)
                return self._armed_for(actions if transfer is None else actions + self._stored(now, transfer))
            case SegmentsRead():
                actions, damaged = self._watch.on_read(order)
                for chunk in damaged:
                    custody = self._custodies[chunk]
                    actions += [Noted(ReplicaDamaged(chunk, custody.mine)), *self._release(custody)]
                return actions
            case _:
                raise TypeError(f"{order!r} is no command of replication")

    def _slot(self) -> int:
        return self._hour * self._limits.hour_slots

    def _armed_for(self, actions: list[Action]) -> list[Action]:
        """The actions, and the timer of jobs and transfers if one of them now ends earlier than it is set for."""
        at = self._placing.deadline()
        incoming = self._taking.deadline()
        if incoming is not None and incoming < at:
            at = incoming
        if at < 1 << 62 and (self._armed is None or at < self._armed):
            self._armed = at
            actions.append(SetTimer(JOBS, at))
        return actions

    # The owner: placing.

    def _place(self, now: Millis, call: int, order: Place) -> list[Action]:
        actions = self._taking.drop(order.chunk)  # what a stranger deposited under our digest is in our way
        custody = self._custodies.get(order.chunk)
        if custody is not None and not custody.owned:
            actions, custody = actions + self._release(custody), None
        if custody is None and len(self._custodies) >= self._limits.held_max:
            return [*actions, Finished(call, None)]
        if custody is None or (custody.reopens(order) and not self._placing.under_way(order.chunk)):
            deposit = order.deposit(self._network, self._me)
            packed = pack(deposit)
            signed = deposit, packed, self._keys.sign("deposit", self._network, packed)
            if custody is None:
                custody = self._custodies[order.chunk] = Custody(*signed, owned=True)
            custody.commit(*signed)
        earlier, self._calls[order.chunk] = self._calls.get(order.chunk), call
        actions += [] if earlier is None else [Finished(earlier, None)]
        return [*actions, custody.persist(), *self._mend(now, order.chunk), *self._settled(custody)]

    def _settled(self, custody: Custody) -> list[Action]:
        """The answer to Place once all R replicas are held, and their receipts to each holder."""
        chunk = custody.deposit.chunk
        placed = settlement(custody) if chunk in self._calls else None
        return [] if placed is None else [Finished(self._calls.pop(chunk), placed)]

    # The holder: receipts of our own.

    def _stored(self, now: Millis, transfer: Transfer) -> list[Action]:
        deposit = transfer.deposit
        custody = Custody(deposit, transfer.packed, transfer.signature, owned=False)
        sign(self._keys, self._limits, custody, self._me, transfer.j, self._hour)
        late = Millis(now - self._limits.seen_ms - 1)  # on hearsay only, so challenged in the next round
        for receipt, signed in transfer.holders:
            if len(custody.holders) < MEMBERS_MAX - 1:
                custody.holders[receipt.holder] = Holding(receipt, signed, late, live=True)
        custody.close_ring(self._me)
        self._custodies[deposit.chunk] = custody
        assert custody.signed is not None
        frame = frames.told((custody.signed,))
        sends: list[Action] = [Send(node, Channel.REPLICAS, frame) for node in custody.members()]
        return [custody.persist(), *sends, Noted(Stored(deposit.chunk, transfer.j, self._me))]

    def _renew(self, now: Millis) -> list[Action]:
        """Receipts for the new ERA, told to everybody who watches; what is held beyond R copies is let go instead."""
        limits = self._limits
        _, until = term(self._hour, limits.hour_slots, limits.era_hours, limits.overlap_hours)
        news: dict[NodeId, list[SignedReceipt]] = {}
        actions: list[Action] = []
        for custody in [one for one in self._custodies.values() if 0 < one.until < until]:
            for node in [
                n for n, holding in custody.holders.items() if holding.until < self._slot() and not holding.live
            ]:
                self._forget_holder(custody, node)
            if surplus(self._register, self._limits, custody, self._me, now):
                actions += self._release(custody)
                continue
            sign(self._keys, self._limits, custody, self._me, custody.mine, self._hour)
            actions.append(custody.persist())
            if len(custody.ring) < REPLICAS:
                self._ailing[custody.deposit.chunk] = None
            for node in custody.members():
                assert custody.signed is not None
                news.setdefault(node, []).append(custody.signed)
        for node, receipts in news.items():
            for at in range(0, len(receipts), frames.ITEMS_MAX):
                actions.append(Send(node, Channel.REPLICAS, frames.told(tuple(receipts[at : at + frames.ITEMS_MAX]))))
        return actions

    def _release(self, custody: Custody) -> list[Action]:
        """Let go of what we hold, and say so."""
        deposit = custody.deposit
        self._watch.forget(deposit.chunk)
        for j in range(REPLICAS):
            self._placing.cancel((deposit.chunk, j))
        del self._custodies[deposit.chunk]
        self._ailing.pop(deposit.chunk, None)
        self._taking.reserve(deposit.owner, -deposit.size)
        frame = frames.released(deposit.chunk)
        sends: list[Action] = [Send(node, Channel.REPLICAS, frame) for node in custody.members()]
        sends.append(Noted(Discard(deposit.chunk, deposit.roots[custody.mine])))
        return [Persist(TABLE, ("at", deposit.chunk), None), *sends]

    # Every member: the receipts of others.

    def _on_told(self, now: Millis, peer: NodeId, frame: ReceiptsTold) -> list[Action]:
        news: list[tuple[Custody, Receipt, SignedReceipt]] = []
        for signed in frame.receipts:
            try:
                receipt = read_receipt(signed.packed, self._network)
            except Malformed as fault:
                return [Noted(Rejected(peer, str(fault)))]
            custody = self._custodies.get(receipt.chunk)
            if custody is None or receipt.holder == self._me:
                continue
            known = custody.holders.get(receipt.holder)
            if known is not None and known.live and known.signed.packed == signed.packed:
                continue
            wrong = objection(self._limits, custody, self._slot(), peer, receipt)
            if wrong is None and not self._verify(receipt.holder, signed.signature, signable(receipt)):
                wrong = "a receipt that its holder has not signed"
            if wrong is not None:
                return [Noted(Rejected(peer, wrong))]
            news.append((custody, receipt, signed))
        actions: list[Action] = []
        for custody, receipt, signed in news:
            actions += self._admit(now, peer, custody, receipt, signed)
        return actions

    def _admit(
        self, now: Millis, peer: NodeId, custody: Custody, receipt: Receipt, signed: SignedReceipt
    ) -> list[Action]:
        """Take a valid receipt: a renewal, the end of a job of ours, or a holder to be watched from now on."""
        node, key = receipt.holder, (receipt.chunk, receipt.j)
        known = custody.holders.get(node)
        expected = self._placing.expects(key, node)
        teller = custody.holders.get(peer)
        vouched = peer == custody.deposit.owner or (teller is not None and teller.live)
        if known is not None:
            if receipt.until < known.until or (known.live and known.j != receipt.j):  # by another of the same notice
                return []
            if known.j != receipt.j:
                self._watch.forget(receipt.chunk, node)
                known.j = receipt.j
            known.renew(receipt, signed)
            known.recall = known.recall or not known.live
            return [custody.persist()]
        if (wrong := doubt(self._register, custody, self._me, receipt)) is not None:
            return [Noted(Uncounted(receipt.chunk, node, peer, wrong))]
        if not expected and not self._make_room(custody):
            return []
        judged = self._register.placed(custody.deposit, receipt) is True
        late = Millis(now - self._limits.seen_ms - 1)  # it has shown us nothing: challenged in the next round
        holding = custody.holders[node] = Holding(receipt, signed, late, live=expected or (vouched and judged))
        holding.judged = judged
        custody.close_ring(self._me)
        actions: list[Action] = []
        if expected:
            actions += self._placed(now, custody, key, node)
        elif holding.live and custody.vacant:
            custody.vacant.pop(0)
        return [custody.persist(), *actions, *self._settled(custody)]

    def _placed(self, now: Millis, custody: Custody, key: tuple[Digest, int], node: NodeId) -> list[Action]:
        """A job of ours is done: whoever watches over the chunk shall know each other."""
        old = self._placing.old(key)
        actions = self._placing.drop(now, key)
        if old in custody.vacant:
            custody.vacant.remove(old)
        if old is not None:
            actions.append(Noted(Repaired(*key, old, node)))
        if old is not None or len(custody.ring) >= REPLICAS:
            actions += introductions(custody, self._me, self._slot())
        return actions + self._mend(now, key[0])

    def _make_room(self, custody: Custody) -> bool:
        """Whether one more holder can be known, at the cost of one that failed."""
        if len(custody.holders) < MEMBERS_MAX - 1:
            return True
        failed = next((node for node, holding in custody.holders.items() if not holding.live), None)
        if failed is not None:
            self._forget_holder(custody, failed)
        return failed is not None

    def _forget_holder(self, custody: Custody, node: NodeId) -> None:
        self._watch.forget(custody.deposit.chunk, node)
        del custody.holders[node]
        custody.asked.pop(node, None)

    # Every member: repair.

    def _on_released(self, now: Millis, peer: NodeId, chunk: Digest) -> list[Action]:
        custody = self._custodies.get(chunk)
        if custody is None or peer not in custody.holders:
            return []
        custody.pass_over(peer, self._limits.ranks_max)
        return self._strike_off(now, custody, peer)

    def _strike_off(self, now: Millis, custody: Custody, node: NodeId) -> list[Action]:
        """A holder is none any more, and will not come back as one."""
        actions = self._give_up(now, custody.deposit.chunk, node) if custody.holders[node].live else []
        self._forget_holder(custody, node)
        return [*actions, custody.persist()]

    def _give_up(self, now: Millis, chunk: Digest, node: NodeId) -> list[Action]:
        """A holder does not count any more; it may still come back and pass."""
        custody = self._custodies[chunk]
        holding = custody.holders[node]
        holding.live, holding.recall, holding.misses = False, False, 0
        custody.vacant = [*custody.vacant[1 - MEMBERS_MAX :], node]
        custody.close_ring(self._me)
        lost: list[Action] = [] if custody.ring or not custody.owned else [Noted(Lost(chunk))]
        self._ailing[chunk] = None
        return [custody.persist(), *lost, *self._mend(now, chunk)]

    def _on_missing(self, now: Millis, peer: NodeId, chunk: Digest, holder: NodeId, exchange: int) -> list[Action]:
        """To the owner: repair, unless we have seen the holder pass ourselves."""
        custody = self._custodies.get(chunk)
        teller = None if custody is None else custody.holders.get(peer)
        if custody is None or not custody.owned or teller is None or not teller.live:
            return [Noted(Rejected(peer, "news of a holder from one who has no part in it"))]
        holding = custody.holders.get(holder)
        alive = holding is not None and holding.live
        if holding is not None and alive and holding.passed >= now - self._limits.seen_ms:
            return [Send(peer, Channel.REPLICAS, frames.verdict(Answered.HELD), exchange)]
        actions = self._give_up(now, chunk, holder) if alive else self._mend(now, chunk)
        answer = Answered.YES if self._is_here(chunk) else Answered.BUSY  # after a yes they would all wait for us
        return [*actions, Send(peer, Channel.REPLICAS, frames.verdict(answer), exchange)]

    def _mend(self, now: Millis, chunk: Digest) -> list[Action]:
        """Begin what a chunk lacks, if that is ours to do this HOUR."""
        custody = self._custodies[chunk]
        vacant = custody.vacant
        if custody.owned:
            lacking = custody.lacking()
            if not lacking:
                self._ailing.pop(chunk, None)
                return []
            self._ailing[chunk] = None
            if not self._is_here(chunk):
                return []
            turns = zip(lacking, [*vacant, *[None] * REPLICAS], strict=False)
            return [action for j, old in turns for action in self._placing.begin(now, chunk, j, old)]
        if len(custody.ring) >= REPLICAS or custody.mine < 0:
            self._ailing.pop(chunk, None)
            return []
        seed = self._seeds.get(self._hour)
        if seed is None or now < custody.owner_until or self._placing.under_way(chunk):
            return []
        if leader(lots(self._network, seed, chunk, self._hour), custody.ring) != self._me:
            return []
        return self._placing.begin(now, chunk, custody.mine, vacant[0] if vacant else None)
