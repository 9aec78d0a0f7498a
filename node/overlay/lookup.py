"""One iterative look-up: whom to ask next on the way to the k peers nearest to a point, until nothing nearer is left.

It knows no frames: `due` names peers to be asked, `answered`, `failed` and `expire` say what became of it. Built for
Tor, where a question takes a second, now and then ten, and dead peers are common:

* No rounds. Whenever fewer than alpha questions are being waited for, the next nearest candidate is asked. A question
  that is overdue (patience) is no longer waited for, nor is its peer counted among the nearest until it does answer, so
  one slow peer holds nobody up; its answer still counts when it comes.
* d disjoint paths (S/Kademlia §4.4): the start is dealt out to d lists of candidates; who is asked on one path is not
  asked on another, and what it tells goes to its own path alone. A liar misleads the path that it is on. Each path goes
  on until the k nearest of its own list have answered.
* A peer whose tales prove false loses the rest of them: when three of the candidates that it named have failed or are
  overdue, and more so than answered, those known through no one else are passed over. Else twenty invented ids beside
  the target cost twenty time-outs.
* Peers far off cost nothing: they are asked only while nobody nearer is known. An answer with more than k peers is no
  answer of an honest peer; none of it is taken.

It ends always: questions, candidates and the whole time are bounded. In a network that answers truly, and whose tables
hold for each bucket what exists of it up to k, it finds the true k nearest (law in the tests). Against ids ground for
one key nothing here helps; that is why nothing safety-relevant needs the DHT (DESIGN §4).

Measured with a round trip of log-normal 1 s (σ 0.5), 2.5 s more to build a circuit to four of five peers, 10 % of peers dead,
1,000 nodes, patience 4 s; and, in brackets, with built circuits and 5 % dead. The last rows: 20 % of 1,000 nodes answer
with invented peers beside the target, the k nearest are the honest ones.

    alpha  d   median       95 %         questions    of the k nearest found
      3    2   23.5 (9.8) s 29.0 (13.7)  27.8 (23.2)  97.0 (99.6) %
      8    2   14.0 (6.2)   19.0 (9.4)   32.1 (27.6)  96.9 (99.6)
     10    1   11.7 (5.9)   13.8 (8.6)   31.6 (28.6)  95.2 (99.8)
     10    2   12.2 (6.3)   14.5 (10.5)  34.1 (29.7)  95.8 (99.8)
     10    3   12.8 (5.8)   16.1 (9.7)   36.1 (29.9)  96.0 (99.8)
     10    1   liars 24.6   35.5         70.3         93.6
     10    2   liars 21.0   30.7         69.7         100.0
     10    4   liars 19.7   29.8         68.0         100.0

So alpha = 10 and d = 2: a second path costs 5 % of time and questions and is what holds against liars; more do not buy more.
Without disbelief d = 2 found 87 % and took 41.7 s. (The row of alpha 3 was measured with patience 3 s.)

Source: Kademlia §2.3; Baumgart and Mies, S/Kademlia (2007) §4.4; libp2p specs, kad-dht; DESIGN §4.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from consensus.ids import Millis, NodeId
from node.overlay.routing import place

NEW: Final = 0
WAITING: Final = 1
OVERDUE: Final = 2
LONG: Final = 3
ANSWERED: Final = 4
FAILED: Final = 5

_INTRODUCERS_MAX: Final = 4  # remembered of one candidate: enough that one of them is honest


@dataclass(frozen=True, slots=True)
class LookupLimits:
    """Bounds of one look-up: at most `queries` × `k` candidates of some 300 bytes, 0.7 MB."""

    k: int = 20  # peers looked for; also the most that one answer may name
    alpha: int = 10  # questions waited for at a time, on all paths together
    paths: int = 2  # disjoint ones
    patience_ms: int = (
        4_000  # 99 % of questions over a built circuit are answered by then, half of those that build one
    )
    whole_ms: int = 60_000  # then it ends with what it has
    queries: int = 120  # four times what 10,000 honest nodes take
    candidates: int = 128  # nearest ones kept, a path
    lies: int = 3  # named peers that failed before one who named them may be disbelieved


class _Candidate:
    """A peer that was named, and what became of asking it."""

    __slots__ = ("broken", "depth", "introducers", "kept", "node", "path", "state")

    def __init__(self, node: NodeId, depth: int, introducers: "tuple[_Candidate, ...]") -> None:
        self.node = node
        self.depth = depth  # questions on the way to it, its own included
        self.introducers = introducers  # none: it came from our own table
        self.path = 0  # which asked it
        self.state = NEW
        self.kept = 0  # peers it named that answered
        self.broken = 0  # … that failed


class Lookup:
    """A look-up under way. `done` is final; `nearest` is its result."""

    __slots__ = (
        *(
            "_asked_again",
            "_candidates",
            "_due_at",
            "_flight",
            "_limits",
            "_me",
            "_overdue",
            "_paths",
            "_target",
            "_turn",
        ),
        *("done", "queries", "rounds"),
    )

    def __init__(self, now: Millis, target: int, seeds: Sequence[NodeId], me: NodeId, limits: LookupLimits) -> None:
        self._target = target
        self._me = me
        self._limits = limits
        self._due_at = now + limits.whole_ms
        self._candidates: dict[int, _Candidate] = {}  # by distance, which names a peer as well as its id does
        self._paths: list[list[int]] = [[] for _ in range(limits.paths)]  # distances, nearest first
        self._flight: dict[int, int] = {}  # questions waited for: when they were asked, the oldest first
        self._overdue: dict[int, int] = {}  # those for which there is a little more time
        self._turn = 0  # the path that asked last
        self._asked_again = False  # the target itself, after a failure
        self.done = False
        self.queries = 0
        self.rounds = 0  # the longest chain of questions that had to wait for each other
        for turn, node in enumerate(seeds):
            distance = place(node) ^ target
            if node != me and distance not in self._candidates:
                self._candidates[distance] = _Candidate(node, 1, ())
                self._enlist(self._paths[turn % limits.paths], distance)

    def due(self, now: Millis) -> list[NodeId]:
        """Whom to ask now; sets `done` instead when there is nothing left to ask or to wait for."""
        if self.done:
            return []
        wanted = [self._wanted(path) for path in self._paths]
        room = min(self._limits.alpha - len(self._flight), self._limits.queries - self.queries)
        asked: list[NodeId] = []
        while room > len(asked) and any(wanted):
            path = self._turn = (self._turn + 1) % len(wanted)
            if wanted[path]:
                distance = wanted[path].pop()
                candidate = self._candidates[distance]
                if candidate.state == NEW:  # else another path was quicker
                    candidate.state = WAITING
                    candidate.path = path
                    self._flight[distance] = now
                    asked.append(candidate.node)
        self.queries += len(asked)
        spent = self.queries >= self._limits.queries and not self._flight
        if not asked and (spent or all(map(self._is_exhausted, self._paths))):
            self.done = True
        return asked

    def answered(self, node: NodeId, closer: Sequence[NodeId]) -> None:
        """Take an answer, also one that is overdue; from a peer that was not asked it changes nothing."""
        distance = place(node) ^ self._target
        candidate = self._candidates.get(distance)
        if candidate is None or candidate.state not in (WAITING, OVERDUE, LONG):
            return
        if self._flight.pop(distance, None) is None:
            self._overdue.pop(distance, None)
        state = candidate.state
        candidate.state = ANSWERED
        for introducer in candidate.introducers:
            introducer.kept += 1
            if state != WAITING:
                introducer.broken -= 1
        self.rounds = max(self.rounds, candidate.depth)
        if not distance:
            self.done = True  # the very node that was looked for
        if len(closer) > self._limits.k:
            return
        path = self._paths[candidate.path]
        for named in closer:
            far = place(named) ^ self._target
            known = self._candidates.get(far)
            if known is None:
                if named == self._me:
                    continue
                self._candidates[far] = _Candidate(named, candidate.depth + 1, (candidate,))
            elif known is candidate:
                continue
            elif (
                known.state == NEW
                and 0 < len(known.introducers) < _INTRODUCERS_MAX
                and candidate not in known.introducers
            ):
                known.introducers += (candidate,)
            if known is None or known.state != FAILED:
                self._enlist(path, far)

    def failed(self, node: NodeId) -> None:
        """Take note that a peer will not answer."""
        distance = place(node) ^ self._target
        candidate = self._candidates.get(distance)
        if candidate is None or candidate.state not in (WAITING, OVERDUE, LONG):
            return
        if self._flight.pop(distance, None) is None:
            self._overdue.pop(distance, None)
        if not distance and not self._asked_again:
            # One dial in twenty fails over Tor; of all peers the one that is looked for has no substitute.
            self._asked_again = True
            candidate.state = NEW
            return
        self._fail(distance, candidate)

    def expire(self, now: Millis) -> None:
        """Stop waiting for what is overdue; end when the whole takes too long."""
        patience = self._limits.patience_ms
        for waiting, late, state in (
            (self._flight, now - patience, OVERDUE),
            (self._overdue, now - 2 * patience, LONG),
        ):
            while waiting:
                distance = next(iter(waiting))
                if waiting[distance] > late:
                    break
                asked = waiting.pop(distance)
                candidate = self._candidates[distance]
                candidate.state = state
                if state == OVERDUE:
                    self._overdue[distance] = asked
                    for introducer in candidate.introducers:
                        introducer.broken += 1
        if now >= self._due_at:
            self.done = True

    def wake(self) -> Millis:
        """When `expire` has something to do next, if nothing else happens before."""
        at = self._due_at
        for asked in self._flight.values():
            at = min(at, asked + self._limits.patience_ms)
            break
        for asked in self._overdue.values():
            at = min(at, asked + 2 * self._limits.patience_ms)
            break
        return Millis(at)

    def nearest(self) -> list[NodeId]:
        """The peers that answered, nearest first, k at most."""
        answered = [distance for distance, candidate in self._candidates.items() if candidate.state == ANSWERED]
        return [self._candidates[distance].node for distance in sorted(answered)[: self._limits.k]]

    def hops(self) -> int:
        """Questions on the way to the nearest peer that answered; 0 without any."""
        nearest = min((far for far, candidate in self._candidates.items() if candidate.state == ANSWERED), default=None)
        return 0 if nearest is None else self._candidates[nearest].depth

    def introducer(self, node: NodeId) -> NodeId | None:
        """Who named a peer first in this look-up; none for one of the start."""
        candidate = self._candidates.get(place(node) ^ self._target)
        return candidate.introducers[0].node if candidate is not None and candidate.introducers else None

    def _enlist(self, path: list[int], distance: int) -> None:
        at = bisect_left(path, distance)
        if at < self._limits.candidates and (at == len(path) or path[at] != distance):
            path.insert(at, distance)
            if len(path) > self._limits.candidates:
                path.pop()

    def _wanted(self, path: list[int]) -> list[int]:
        """Those of a path's k nearest that nobody has asked yet, the nearest last."""
        wanted: list[int] = []
        count = 0
        for distance in path:
            candidate = self._candidates[distance]
            if candidate.state == NEW:
                if not self._is_credible(candidate):
                    continue
                wanted.append(distance)
            elif candidate.state in (OVERDUE, LONG):
                continue
            count += 1
            if count == self._limits.k:
                break
        wanted.reverse()
        return wanted

    def _is_exhausted(self, path: list[int]) -> bool:
        """Whether a path's k nearest have answered, or all that it knows and that did not take too long."""
        count = 0
        overdue = long = False
        for distance in path:
            candidate = self._candidates[distance]
            state = candidate.state
            if not distance and state in (WAITING, OVERDUE, LONG):
                return False  # no other peer can stand in for the target: its circuit may take its whole time
            if state == ANSWERED:
                count += 1
                if count == self._limits.k:
                    return True
            elif state == OVERDUE:
                overdue = True
            elif state == LONG:
                long = True
            elif state == WAITING or self._is_credible(candidate):
                return False
        return not (
            overdue or (long and not self.rounds)
        )  # while nobody at all has answered, what is late is all there is

    def _is_credible(self, candidate: _Candidate) -> bool:
        introducers = candidate.introducers
        if not introducers:
            return True
        for introducer in introducers:
            if introducer.broken < self._limits.lies or introducer.broken <= introducer.kept:
                return True
        return False

    def _fail(self, distance: int, candidate: _Candidate) -> None:
        if candidate.state == WAITING:
            for introducer in candidate.introducers:
                introducer.broken += 1
        candidate.state = FAILED
        for path in self._paths:
            at = bisect_left(path, distance)
            if at < len(path) and path[at] == distance:
                del path[at]
