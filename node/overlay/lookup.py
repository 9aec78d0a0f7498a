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

_ASKED: Final = (WAITING, OVERDUE, LONG)
_LATE: Final = (OVERDUE, LONG)
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

    __slots__ = ("broken", "depth", "distance", "introducers", "kept", "listed", "node", "path", "state")

    def __init__(self, node: NodeId, distance: int, depth: int, introducers: "tuple[_Candidate, ...]") -> None:
        self.node = node
        self.distance = distance
        self.depth = depth  # questions on the way to it, its own included
        self.introducers = introducers  # none: it came from our own table
        self.path = 0  # which asked it
        self.listed = 0  # a bit for each path that has it
        self.state = NEW
        self.kept = 0  # peers it named that answered
        self.broken = 0  # … that failed


class _Path:
    """The candidates of one path, nearest first, and beside them their distances, which alone can be bisected quickly."""

    __slots__ = ("bit", "candidates", "distances")

    def __init__(self, number: int) -> None:
        self.bit = 1 << number
        self.distances: list[int] = []
        self.candidates: list[_Candidate] = []

    def __len__(self) -> int:
        return len(self.candidates)

    def enlist(self, candidate: _Candidate, most: int) -> None:
        """Take in one that is not here, if it is among so many nearest."""
        distances, candidates = self.distances, self.candidates
        at = bisect_left(distances, candidate.distance)
        if at == most:
            return
        distances.insert(at, candidate.distance)
        candidates.insert(at, candidate)
        candidate.listed |= self.bit
        if len(distances) > most:
            distances.pop()
            candidates.pop().listed &= ~self.bit

    def remove(self, candidate: _Candidate) -> None:
        """Take out one that is here."""
        at = bisect_left(self.distances, candidate.distance)
        del self.distances[at], self.candidates[at]
        candidate.listed &= ~self.bit


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
        self._candidates: dict[NodeId, _Candidate] = {}
        self._paths = tuple([_Path(number) for number in range(limits.paths)])
        self._flight: dict[_Candidate, int] = {}  # questions waited for: when they were asked, the oldest first
        self._overdue: dict[_Candidate, int] = {}  # those for which there is a little more time
        self._turn = 0  # the path that asked last
        self._asked_again = False  # the target itself, after a failure
        self.done = False
        self.queries = 0
        self.rounds = 0  # the longest chain of questions that had to wait for each other
        for turn, node in enumerate(seeds):
            if node != me and node not in self._candidates:
                candidate = self._candidates[node] = _Candidate(node, place(node) ^ target, 1, ())
                self._paths[turn % limits.paths].enlist(candidate, limits.candidates)

    def due(self, now: Millis) -> list[NodeId]:
        """Whom to ask now; sets `done` instead when there is nothing left to ask or to wait for."""
        if self.done:
            return []
        room = min(self._limits.alpha - len(self._flight), self._limits.queries - self.queries)
        asked: list[NodeId] = []
        wanted = [self._wanted(path) for path in self._paths] if room > 0 else []
        while room > len(asked) and any(wanted):
            path = self._turn = (self._turn + 1) % len(wanted)
            if wanted[path]:
                candidate = wanted[path].pop()
                if candidate.state == NEW:  # else another path was quicker
                    candidate.state = WAITING
                    candidate.path = path
                    self._flight[candidate] = now
                    asked.append(candidate.node)
        self.queries += len(asked)
        spent = self.queries >= self._limits.queries and not self._flight
        if not asked and (spent or all(map(self._is_exhausted, self._paths))):
            self.done = True
        return asked

    def answered(self, node: NodeId, closer: Sequence[NodeId]) -> None:
        """Take an answer, also one that is overdue; from a peer that was not asked it changes nothing."""
        candidates = self._candidates
        candidate = candidates.get(node)
        if candidate is None or candidate.state not in _ASKED:
            return
        if self._flight.pop(candidate, None) is None:
            self._overdue.pop(candidate, None)
        state = candidate.state
        candidate.state = ANSWERED
        for introducer in candidate.introducers:
            introducer.kept += 1
            if state != WAITING:
                introducer.broken -= 1
        depth = candidate.depth
        self.rounds = max(self.rounds, depth)
        if not candidate.distance:
            self.done = True  # the very node that was looked for
        limits = self._limits
        if len(closer) > limits.k:
            return
        path = self._paths[candidate.path]
        bit, depth, itself, target = path.bit, depth + 1, (candidate,), self._target
        for named in closer:
            known = candidates.get(named)
            if known is None:
                if named != self._me:
                    known = candidates[named] = _Candidate(named, place(named) ^ target, depth, itself)
                    path.enlist(known, limits.candidates)
                continue
            if known.state == NEW:
                introducers = known.introducers
                if 0 < len(introducers) < _INTRODUCERS_MAX and candidate not in introducers:
                    known.introducers += itself
            if not known.listed & bit and known.state != FAILED and known is not candidate:
                path.enlist(known, limits.candidates)

    def failed(self, node: NodeId) -> None:
        """Take note that a peer will not answer."""
        candidate = self._candidates.get(node)
        if candidate is None or candidate.state not in _ASKED:
            return
        if self._flight.pop(candidate, None) is None:
            self._overdue.pop(candidate, None)
        if not candidate.distance and not self._asked_again:
            # One dial in twenty fails over Tor; of all peers the one that is looked for has no substitute.
            self._asked_again = True
            candidate.state = NEW
            return
        self._fail(candidate)

    def expire(self, now: Millis) -> None:
        """Stop waiting for what is overdue; end when the whole takes too long."""
        patience = self._limits.patience_ms
        for waiting, late, state in (
            (self._flight, now - patience, OVERDUE),
            (self._overdue, now - 2 * patience, LONG),
        ):
            while waiting:
                candidate = next(iter(waiting))
                if waiting[candidate] > late:
                    break
                asked = waiting.pop(candidate)
                candidate.state = state
                if state == OVERDUE:
                    self._overdue[candidate] = asked
                    for introducer in candidate.introducers:
                        introducer.broken += 1
        if now >= self._due_at:
            self.done = True

    def wake(self) -> Millis:
        """When `expire` has something to do next, if nothing else happens before."""
        at, patience = self._due_at, self._limits.patience_ms
        for asked in self._flight.values():
            at = min(at, asked + patience)
            break
        for asked in self._overdue.values():
            at = min(at, asked + 2 * patience)
            break
        return Millis(at)

    def nearest(self) -> list[NodeId]:
        """The peers that answered, nearest first, k at most."""
        answered = [candidate for candidate in self._candidates.values() if candidate.state == ANSWERED]
        answered.sort(key=_distance)
        return [candidate.node for candidate in answered[: self._limits.k]]

    def hops(self) -> int:
        """Questions on the way to the nearest peer that answered; 0 without any."""
        answered = [candidate for candidate in self._candidates.values() if candidate.state == ANSWERED]
        return min(answered, key=_distance).depth if answered else 0

    def introducer(self, node: NodeId) -> NodeId | None:
        """Who named a peer first in this look-up; none for one of the start."""
        candidate = self._candidates.get(node)
        return candidate.introducers[0].node if candidate is not None and candidate.introducers else None

    def _wanted(self, path: _Path) -> list[_Candidate]:
        """Those of a path's k nearest that nobody has asked yet, the nearest last."""
        wanted: list[_Candidate] = []
        count, k, lies = 0, self._limits.k, self._limits.lies
        for candidate in path.candidates:
            state = candidate.state
            if state == NEW:
                introducers = candidate.introducers
                if introducers and introducers[0].broken >= lies and not self._is_credible(candidate):
                    continue
                wanted.append(candidate)
            elif state in _LATE:
                continue
            count += 1
            if count == k:
                break
        wanted.reverse()
        return wanted

    def _is_exhausted(self, path: _Path) -> bool:
        """Whether a path's k nearest have answered, or all that it knows and that did not take too long."""
        count = 0
        overdue = long = False
        for candidate in path.candidates:
            state = candidate.state
            if state == ANSWERED:
                count += 1
                if count == self._limits.k:
                    return True
            elif not candidate.distance and state in _ASKED:
                return False  # no other peer can stand in for the target: its circuit may take its whole time
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

    def _fail(self, candidate: _Candidate) -> None:
        if candidate.state == WAITING:
            for introducer in candidate.introducers:
                introducer.broken += 1
        candidate.state = FAILED
        for path in self._paths:
            if candidate.listed & path.bit:
                path.remove(candidate)


def _distance(candidate: _Candidate) -> int:
    return candidate.distance
