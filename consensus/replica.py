"""The consensus as one machine: what is heard becomes blocks, heads and finality; what is due is proposed and voted.

    heard: block, vote, report, registration ──→ Verdict and actions          woken: slot, propose, vote
    ExecutePayload, BuildPayload, Prove ──→ the host ──→ executed, built, proven            asked: blocks after those that a peer has

No clock, no socket, no randomness. Within one step the host makes every `Keep` durable before it lets a `Spread` out. What
is invalid changes nothing, is told once as `RecordRefused`, and costs bounded work.

Source: CONSENSUS §2, §6, §7; DESIGN §3, §8.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from consensus import catchup
from consensus.ancestry import Stored
from consensus.block import REPORTS_MAX, Block, BlockHeader, block_id, read_block
from consensus.conclusions import EMPTY_PAUSE_MS, Conclusions
from consensus.encoding import Malformed
from consensus.finalised import Finalised
from consensus.finality import Point, SignedVote, Vote, read_vote, vote_signable
from consensus.forks import Tree
from consensus.ids import Digest, Millis, NodeId
from consensus.inclusion import Invalid, Rules, era_keys
from consensus.params import EARLY_MS, LATE_MS, SERVER_RANK
from consensus.payload import terms_of
from consensus.petitions import take_in
from consensus.pools import Pools
from consensus.reasons import Reason
from consensus.records import pack, unpack
from consensus.report import SignedReport
from consensus.signatory import Own, Signatory
from consensus.state import State, at_hour
from consensus.transition import extend
from consensus.waiting import Early, Orphans, remember
from consensus.wishes import (
    BuildPayload,
    Doing,
    ExecutePayload,
    FetchBlocks,
    Heard,
    Keep,
    NewBlock,
    NewFinal,
    RecordRefused,
    Spread,
    Told,
    Topic,
    Wake,
)

AHEAD_SLOTS: Final = 2
"""A block for a slot still further ahead is not looked at."""
REMEMBERED_MAX: Final = 256
"""Payloads that were invalid, and peers that are asked for more."""
SERVED: Final = 64
"""Blocks that are held ready for who asks; older ones are read."""
UNPAYABLE: Final = "a block whose payload is invalid"


class ConsensusReplica:
    """One node's consensus; `began` is when slot 0 began.

    `rows` are what it kept in its last life of the tables journal and branches, and of blocks where it kept no chain yet;
    `stored` reads those of the others, and what it keeps from now on. Without it they are all in `rows`.
    """

    def __init__(
        self,
        rules: Rules,
        genesis: State,
        began: Millis,
        own: Own | None,
        rows: Mapping[tuple[str, tuple[str | bytes, ...]], bytes],
        stored: Stored | None = None,
    ) -> None:
        self.rules, self.law, self.params = rules, rules.law, rules.law.params
        self.began, self.own = began, own
        self.is_on_time = True
        """Whether our clock is known to be that of the others: without that nothing is signed."""
        self.signatory: Signatory | None = None
        self._rows, self._stored = rows, stored or (lambda table, name: rows.get((table, (name,))))
        self.finalised = Finalised(self.law, genesis, self._stored)
        self.tree, self.pools = Tree(self.finalised.root, self.final), Pools()
        self.latest: dict[NodeId, tuple[int, Digest]] = {}
        self._slot = 0
        self._hour = 0
        self._was_pending = False
        """Whether there was something to publish when the present slot began."""
        self._call = 0
        self._bytes: dict[Digest, bytes] = {}
        self._full: set[Digest] = set()
        """The blocks that have no room for one more report; only asked for members."""
        self._orphans = Orphans()
        self._unplaced: dict[tuple[int, NodeId], SignedVote] = {}
        """Votes for checkpoints that are not known yet: of voters, one an HOUR."""
        self._early = Early()
        self._unpayable: dict[Digest, None] = {}
        """Blocks whose payload was invalid."""
        self._doubles: set[bytes] = set()
        """Voters that are known to have broken a rule: they count no more in the fork choice."""
        self._executing: dict[int, tuple[Block, bytes, State, bool]] = {}
        self._building: dict[int, tuple[State, int, int]] = {}
        self._views: dict[tuple[Digest, int], State] = {}
        self._known = Conclusions(rules)
        self._head: State | None = None
        self._has_votes = False  # since the head was worked out
        self._catching: dict[NodeId, Digest] = {}
        """Whom to ask for more when a block has joined."""

    # ------------------------------------------------------------------ time

    def start_of(self, slot: int) -> Millis:
        """When a slot begins."""
        return Millis(self.began + slot * self.params.slot_ms)

    def slot_at(self, now: Millis) -> int:
        """The slot of a moment; 0 before the first."""
        return max(0, (now - self.began) // self.params.slot_ms)

    def start(self, now: Millis) -> list[Doing]:
        """Take in what was kept, then wait for the next slot; called once, before anything else."""
        self._slot = self.slot_at(now)
        if self.own is not None:
            signed = {key: row for key, row in self._rows.items() if key[0] == "journal"}
            self.signatory = Signatory(self.law, self.own, signed, self._slot)
        kept: list[Doing] = []
        for block, data in sorted(self.finalised.past.kept_blocks(self._rows), key=lambda one: one[0].header.slot):
            kept += self._follow(block.header.slot)
            parent = self.tree.state(block.header.parent)
            if parent is not None and block_id(block.header, self.law.network) not in self.tree:
                with suppress(Invalid):  # which a later release may say of it: peers have the chain
                    self._join(block, data, extend(self.rules, parent, block), is_late=False)
        kept = [one for one in kept + self._follow(self._slot) if isinstance(one, Keep)]
        self._rows = {}
        return [*kept, Wake(("slot", self._slot + 1), self.start_of(self._slot + 1)), *self._approach(now)]

    def wake(self, now: Millis, key: tuple[str | int, ...]) -> list[Doing]:
        """What is due at the time that a `Wake` named."""
        match key:
            case ("slot", int(slot)):
                return self._on_slot(now, slot)
            case ("propose", int(slot), int(rank)):
                return self._on_propose(slot, rank)
            case ("vote", int(slot)):
                return self._on_vote(slot)
            case ("approach",):
                return self._approach(now)
            case _:
                return self._on_early(now)

    def _on_slot(self, now: Millis, slot: int) -> list[Doing]:
        """A slot begins: an HOUR may, too; find out what is ours to do in it."""
        self._slot = max(slot, self.slot_at(now))
        following = self._slot + 1
        out: list[Doing] = [Wake(("slot", following), self.start_of(following))]
        if self._slot != slot:
            return out  # the machine was asleep: what was due is past
        out += self._follow(slot)
        head = self.head()
        if self.is_behind:
            return out + self._approach(now)
        state = self._known.at(head, slot)
        self.pools.forget(state, slot)
        if self.signatory is not None:
            drawn = self.leaders(state, slot)
            waits = self.signatory.own.node in drawn[1:]
            self._was_pending = waits and self.pools.is_pending(self.rules, state, slot)
            out += self.signatory.due(state, slot, drawn, self.start_of(slot))
        return out + self._register(state)

    @property
    def is_behind(self) -> bool:
        """Whether more empty HOURs lie between the head and now than are followed in one step: nothing is judged by then."""
        return not self._known.is_near(self._head or self.head(), self._slot)

    def _approach(self, now: Millis) -> list[Doing]:
        """Follow some of the HOURs in which nobody published; until that is done, nothing is ours to do."""
        if not self.is_behind:
            return []
        self._known.approach(self.head(), self._slot)
        return [Wake(("approach",), Millis(now + EMPTY_PAUSE_MS))]

    # ------------------------------------------------------------------ our own part

    @property
    def final(self) -> Point:
        """The last final checkpoint."""
        return self.finalised.final

    def head(self) -> State:
        """The block to build on, as its state."""
        if self._head is None or self._has_votes:
            expelled = {*self.tree.parent(self.tree.root).checkpoint.expelled, *self._doubles}
            self._head = self.tree.head({voter: block for voter, (_, block) in self.latest.items()}, expelled)
            self._has_votes = False
        return self._head

    def leaders(self, state: State, slot: int) -> tuple[bytes, ...]:
        """Who may publish a slot, rank 0 first; state is that at its beginning."""
        return self._known.leaders(state, slot)

    def _on_propose(self, slot: int, rank: int) -> list[Doing]:
        """Our rank's time: ask for a payload, if nothing valid was seen and it is our turn on this branch."""
        head = self.head()
        if self.signatory is None or head.slot >= slot or slot != self._slot or self.is_behind or not self.is_on_time:
            return []
        state = self._known.at(head, slot)
        if 0 < rank < SERVER_RANK and not self._was_pending:
            return []  # what came since is the next slot's: the ranks before us saw nothing to publish, and missed nothing
        if rank < SERVER_RANK and self.leaders(state, slot)[rank : rank + 1] != (self.signatory.own.node,):
            return []
        self._call += 1
        self._building[self._call] = state, slot, rank
        return [BuildPayload(self._call, terms_of(state, slot, self.signatory.own.node), state)]

    def built(self, now: Millis, call: int, name: Digest, payload: bytes) -> list[Doing]:
        """The execution layer made a payload: sign the header, keep the journal, spread the block."""
        state, slot, rank = self._building.pop(call)
        if self.signatory is None or self.head().id != state.id or slot != self._slot:
            return []  # it came too late, or another block came first
        block, out = self.signatory.propose(self.rules, self.pools, state, slot, rank, name, payload)
        if block is None:
            return out
        data = pack(block)
        return [*out, *self._take(now, block, data, None)[1], Spread(Topic.BLOCKS, data)]

    def _on_vote(self, slot: int) -> list[Doing]:
        """Our vote of this HOUR, once."""
        if self.signatory is None or slot != self._slot or self.is_behind or not self.is_on_time:
            return []
        head = self.head()
        if head.id not in self._full and self.pools.leaves_out(self.rules, head):
            head = self.tree.parent(head.id)
        vote, out = self.signatory.vote(self._known.at(head, slot), head.id)
        return out if vote is None else [*out, *self._on_vote_heard(vote)[1], Spread(Topic.VOTES, pack(vote))]

    def _register(self, state: State) -> list[Doing]:
        """Register for the next ERA when it is time; on a network without admission work at once."""
        if self.signatory is None:
            return []
        self._call += 1
        wanted = self.signatory.register(state, self._slot, self._call)
        return self.proven(self._call, bytes(16)) if wanted and state.checkpoint.difficulty <= 1 else wanted

    def proven(self, call: int, nonce: bytes) -> list[Doing]:
        """The proof of work of a `Prove` is there: spread the registration. A call that was overtaken is nothing."""
        signed = None if self.signatory is None else self.signatory.proven(call, nonce)
        if signed is None:
            return []
        self.pools.add_registration(signed)
        return [Spread(Topic.ADMISSIONS, pack(signed))]

    def submit(self, signed: SignedReport) -> list[Doing]:
        """A report of our own: keep it for a block, and spread it."""
        self.pools.add_report(signed, self._slot)
        return [Spread(Topic.BEACONS, pack(signed))]

    @property
    def is_doubled(self) -> bool:
        """Whether another program signs with this node's key, so that this one signs nothing any more."""
        return self.signatory is not None and self.signatory.is_doubled

    # ------------------------------------------------------------------ what is heard

    def hear(self, now: Millis, topic: Topic, data: bytes, peer: NodeId) -> tuple[Heard, list[Doing]]:
        """Judge a record from a peer, and what follows from it."""
        try:
            if topic is Topic.BLOCKS:
                return self._take(now, read_block(data), data, peer)
            if self.is_behind:
                return Heard.IGNORE, []  # whether it is right follows from a state that is not there yet
            if topic is Topic.VOTES:
                return self._on_vote_heard(read_vote(data))
            found = take_in(self.rules, self.pools, self.next, self._slot, topic, data)
        except Malformed as error:
            return self._refuse(topic, str(error))
        return self._refuse(topic, found) if isinstance(found, Reason) else (found, [])

    def _refuse(self, topic: Topic, reason: str) -> tuple[Heard, list[Doing]]:
        return Heard.REJECT, [Told(RecordRefused(topic, reason))]

    def next(self) -> tuple[State, int]:
        """The state for the next block that could be made, and its slot; without the newest votes, since a head costs O(blocks)."""
        head = self._head or self.head()
        if self.is_behind:
            slot = self._known.reached(head).slot + 1
            return self._known.at(head, slot), slot
        slot = max(self._slot, head.slot + 1)
        return self._known.at(head, slot), slot

    # ------------------------------------------------------------------ votes

    def _view(self, vote: Vote, *, is_signed: bool) -> State | None:
        """The state at the beginning of a vote's HOUR on top of its target; None while that is not known.

        For an unsigned vote it is not worked out, unless it is where we are ourselves.
        """
        key = vote.target, vote.target_hour
        if key not in self._views:
            state, start = self.tree.state(vote.target), vote.target_hour * self.params.hour_slots
            ours = at_hour(self.next()[0], vote.target_hour)
            if state is None or state.slot >= start or not (is_signed or (ours and ours.block == vote.target)):
                return None
            self._views[key] = self._known.at(state, start)
        return self._views[key]

    def _on_vote_heard(self, signed: SignedVote) -> tuple[Heard, list[Doing]]:
        vote, hour = signed.vote, self._slot // self.params.hour_slots
        key = vote.target_hour, vote.voter
        if not hour - 2 <= vote.target_hour <= hour + 1 or vote.voter in self._doubles:
            return Heard.IGNORE, []
        if self.pools.votes.get(key) == signed and (key not in self._unplaced or vote.target not in self.tree):
            return Heard.IGNORE, []
        message = vote_signable(vote, self.law.network)
        known = era_keys(self.next()[0], vote.voter)
        public = next((one for one in known if self.rules.verify(one, signed.signature, message)), None)
        view = self._view(vote, is_signed=public is not None)
        if view is not None:
            theirs = view.checkpoint.key_of.get(vote.voter)
            if theirs is None or vote.voter in view.checkpoint.expelled:
                return self._refuse(Topic.VOTES, Reason.NO_VOTER)
            if theirs != public and not self.rules.verify(theirs, signed.signature, message):
                return self._refuse(Topic.VOTES, Reason.VOTE_UNSIGNED)
            public = theirs
        elif public is None or vote.target in self.tree:
            return Heard.IGNORE, []
        else:
            self._unplaced.setdefault(key, signed)
        self._count(signed, is_placed=view is not None)
        return Heard.ACCEPT, [] if self.signatory is None else self.signatory.heard_vote(public, signed)

    def _count(self, signed: SignedVote, *, is_placed: bool = True) -> None:
        """A vote whose signature is good, for the pools and the fork choice: there it counts when its target is known."""
        vote = signed.vote
        self.pools.add_vote(signed)
        if vote.voter in self.pools.double_votes:
            self._doubles.add(vote.voter)
            self._has_votes = True
        elif is_placed and vote.target_hour > self.latest.get(vote.voter, (-1, b""))[0]:
            self.latest[vote.voter] = vote.target_hour, vote.head
            self._has_votes = True

    # ------------------------------------------------------------------ blocks

    def _take(self, now: Millis, block: Block, data: bytes, peer: NodeId | None) -> tuple[Heard, list[Doing]]:
        """A block from a peer, or from ourselves."""
        header = block.header
        name = block_id(header, self.law.network)
        if name in self.tree or data in self._orphans or name in self._judging():
            return Heard.IGNORE, []
        if name in self._unpayable:
            return self._refuse(Topic.BLOCKS, UNPAYABLE)
        if header.slot > self.slot_at(now) + AHEAD_SLOTS or self._is_third(header, peer):
            return Heard.IGNORE, []
        parent = self.tree.state(header.parent)
        if parent is None:
            if header.slot <= self.tree.parent(self.tree.root).slot:
                return Heard.IGNORE, []  # it is final, or never will be
            self._orphans.add(block, data)
            return Heard.IGNORE, [] if peer is None else [FetchBlocks(peer, self.question())]
        state = self._known.after(parent, block, name)
        if isinstance(state, Invalid):
            return self._refuse(Topic.BLOCKS, str(state))
        due = Millis(self.start_of(header.slot) + header.rank * self.params.rank_ms)
        if due > now + EARLY_MS:
            again = self._early.add(block, data, due)
            return Heard.IGNORE, [] if again is None else [Wake(("early",), again)]
        self._call += 1
        self._executing[self._call] = block, data, state, now > due + LATE_MS
        return Heard.ACCEPT, [
            ExecutePayload(self._call, block, terms_of(self._known.at(parent, header.slot), header.slot, header.entity))
        ]

    def _is_third(self, header: BlockHeader, peer: NodeId | None) -> bool:
        """Whether a peer spreads one more block for a slot, of somebody who is known to have made two; asked for, it is taken."""
        known = self.pools.double_proposals.get(header.entity)
        return peer is not None and known is not None and known.first.header.slot == header.slot

    def _judging(self) -> set[Digest]:
        """The blocks whose payloads are being executed."""
        return {state.id for _, _, state, _ in self._executing.values()}

    def _on_early(self, now: Millis) -> list[Doing]:
        out: list[Doing] = []
        for block, data in self._early.take():
            heard, actions = self._take(now, block, data, None)
            out += actions
            if heard is Heard.ACCEPT:
                out.append(Spread(Topic.BLOCKS, data))
        return out

    def executed(self, now: Millis, call: int, *, valid: bool) -> list[Doing]:
        """The execution layer's word: a block with a valid payload joins the tree, and what waited for it follows."""
        block, data, state, is_late = self._executing.pop(call)
        if block.header.parent not in self.tree:
            return []  # a final checkpoint contradicts it meanwhile
        if not valid:
            remember(self._unpayable, state.id, None, REMEMBERED_MAX)
            return self._refuse(Topic.BLOCKS, UNPAYABLE)[1]
        out = self._join(block, data, state, is_late=is_late) + self._waiting_for(now, state.id)
        for peer in [peer for peer, name in self._catching.items() if name == state.id]:
            del self._catching[peer]
            out.append(FetchBlocks(peer, self.question(state.id)))
        return out

    def _join(self, block: Block, data: bytes, state: State, *, is_late: bool) -> list[Doing]:
        """A block that keeps every rule becomes a part of the tree."""
        header = block.header
        self.tree.add(state, header.parent, is_late=is_late, block=block)
        self._head = None
        remember(self._bytes, state.id, data, SERVED)
        if len(block.body.reports) == REPORTS_MAX:
            self._full.add(state.id)
        self.pools.add_header(block.signed)
        for signed in block.body.votes:
            self._count(signed)
        self._doubles |= {found.first.vote.voter for found in block.body.double_votes}
        out: list[Doing] = [
            Keep("blocks", (state.id,), data),
            Keep("branches", (state.id,), b""),
            Told(NewBlock(state.id, header.parent, header.slot, header.rank, header.entity)),
        ]
        return out if self.signatory is None else out + self.signatory.heard_block(state, block)

    def _waiting_for(self, now: Millis, name: Digest) -> list[Doing]:
        """Orphans and votes that waited for a block."""
        out: list[Doing] = []
        for block, data in self._orphans.take(name):
            out += self._take(now, block, data, None)[1]
        for key in [key for key, signed in self._unplaced.items() if signed.vote.target == name]:
            out += self._on_vote_heard(self._unplaced[key])[1]
            del self._unplaced[key]
        return out

    def _follow(self, slot: int) -> list[Doing]:
        """At the beginning of a slot: a new HOUR may start from a new justified checkpoint; what contradicts a final one goes."""
        hour = slot // self.params.hour_slots
        if hour > self._hour:
            self._hour = hour
            self.tree.justify()
            self._head = None
        self._known.forget()
        final = self.head().final
        self._views = {key: state for key, state in self._views.items() if key[1] >= hour - 1}
        self._unplaced = {key: one for key, one in self._unplaced.items() if key[0] >= hour - 1}
        if final.hour <= self.final.hour:
            return []
        rows, left = self.finalised.advance(self.tree, self.head(), self._known.at)
        self._head = None
        self._orphans.forget(self.tree.parent(final.block).slot)
        for name in left:
            self._bytes.pop(name, None)
            self._full.discard(name)
        return [Told(NewFinal(final)), *rows]

    # ------------------------------------------------------------------ catching up

    def peer_up(self, peer: NodeId) -> list[Doing]:
        """A new peer: ask it for what we lack."""
        return [FetchBlocks(peer, self.question())]

    def question(self, *got: Digest) -> bytes:
        """What we have: our branch, and blocks that we have just got of another."""
        branch = (state.id for state in self.tree.ancestors(self.head().id))
        return catchup.question((*got, *branch), self.finalised.past)

    def answer(self, asked: bytes) -> bytes:
        """The blocks of our branch that an asker lacks. Raises Malformed for no question."""
        path = [state.id for state in self.tree.ancestors(self.head().id)]
        return catchup.answer(asked, self.finalised.past, path[::-1], self.block)

    def block(self, block: Digest) -> bytes | None:
        """A block that was kept."""
        return self._bytes.get(block) or self._stored("blocks", block)

    def answered(self, now: Millis, peer: NodeId, answer: bytes) -> tuple[Heard, list[Doing]]:
        """Blocks that a peer sent: taken in one after the other; while there is news it is asked for more."""
        try:
            read = [(read_block(data), data) for data in unpack(catchup.BlockAnswer, answer).blocks]
        except Malformed as error:
            return self._refuse(Topic.BLOCKS, str(error))
        out: list[Doing] = []
        for block, data in read:
            heard, actions = self._take(now, block, data, None)
            out += actions
            if heard is Heard.REJECT:
                return heard, out
        before = self.tree.state(self._catching.pop(peer, Digest(b"")))
        if not read:
            return Heard.ACCEPT, out
        last = block_id(read[-1][0].header, self.law.network)
        known = self.tree.state(last)
        if known is not None:  # nothing new in it: go on behind it, as long as that leads further
            if before is not None and before.slot >= known.slot:
                return Heard.ACCEPT, out
            out.append(FetchBlocks(peer, self.question(last)))
        remember(self._catching, peer, last, REMEMBERED_MAX)
        return Heard.ACCEPT, out
