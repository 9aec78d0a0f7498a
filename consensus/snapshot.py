"""A state as rows that a node keeps, so that it begins there and not at the genesis when it starts again.

    State at the beginning of a final HOUR ── `rows_of` ──→ snapshot: version ‖ BLAKE3 ‖ body      credits: an HOUR's
                                           ←── `read` ──

The credits of the window are most of it, and an HOUR's never change: each is a row of its own, written once. All of it follows
from the state's digest, which the headers of the HOUR carry: so one that is shown to be final is as good from a stranger.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

from blake3 import blake3

from consensus.admission import PoolRegistration, Registration
from consensus.ancestry import Stored
from consensus.checkpoint import Checkpoint, Constitution, Duty, Happened, Included, checkpoint_digest, weigh
from consensus.electorate import read_month, read_rest, spell_month, spell_rest
from consensus.encoding import Malformed, Value, decode, encode
from consensus.facts import Minting
from consensus.finality import Point, Voter
from consensus.ids import Digest
from consensus.records import from_value, to_value
from consensus.registry import Member, Pool, Registry, registry_of
from consensus.state import Published, State, left_open, state_digest
from consensus.storage import read_storage
from consensus.tally import HourCredits, Tally, Work, advance, read_spelled, recompute, spell
from consensus.wishes import Keep

VERSION: Final = 4
SNAPSHOT_HOURS: Final = 6
"""A new one is made so often; the blocks since then are read again at a start."""
LAST: Final = b"last"
PROOF: Final = "proof"
"""The table of what shows the last snapshot to be final."""
_HASH_BYTES: Final = 32
_NAMES: Final = 5
"""The place of the credits' names in a checkpoint (`_of_checkpoint`)."""


class Rows(NamedTuple):
    """What to keep: the snapshot, and the HOURs whose credits it names, for `credits_row`."""

    snapshot: bytes
    hours: Mapping[Digest, HourCredits]


def rows_of(state: State) -> Rows:
    """A state at the beginning of its HOUR. Costs O(nodes) for each of the checkpoints that it remembers."""
    checkpoints = [*state.recent]
    if not any(one is state.at_final for one in checkpoints):
        checkpoints.append(state.at_final)
    registries: list[Registry] = []
    for one in checkpoints:
        if not any(one.registry is known for known in registries):
            registries.append(one.registry)
    months = [*dict.fromkeys(spell_month(month) for one in checkpoints for month in one.electorate.months)]
    hours = {name: hour for one in checkpoints for name, hour in zip(one.credit_digests, one.tally.hours, strict=True)}
    body: Value = [
        state.state,
        [_of_registry(one) for one in registries],
        [
            _of_checkpoint(one, next(at for at, known in enumerate(registries) if one.registry is known), months)
            for one in checkpoints
        ],
        [len(state.recent), next(at for at, one in enumerate(checkpoints) if one is state.at_final)],
        left_open(state),
        list[Value](months),
    ]
    return Rows(_hashed(encode(body)), hours)


def read(law: Constitution, snapshot: bytes, credits_of: Callable[[Digest], bytes | None]) -> tuple[State, Point]:
    """The state of a snapshot and its checkpoint. Raises Malformed for what is damaged, or whose credits are missing."""
    with _well_formed():
        return _read(law, snapshot, credits_of)


@contextmanager
def _well_formed() -> Iterator[None]:
    """What a stranger's row spells may be of any shape: whatever fails on its way to the digest is Malformed."""
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, ZeroDivisionError) as error:
        raise Malformed(f"a row that spells no state: {type(error).__name__}") from error


def _read(law: Constitution, snapshot: bytes, credits_of: Callable[[Digest], bytes | None]) -> tuple[State, Point]:
    body: Any = decode(unhashed(snapshot))
    name, registries, checkpoints, (recent, at_final), rest, months = body
    (height, rank, payload, granted, payout, minted), published, publishers, links, votes, stored = rest
    kept, sums = [_registry(one) for one in registries], [read_month(one) for one in months]
    made: list[Checkpoint] = []
    for *one, (numbers, others) in checkpoints:
        read_before = _checkpoint(law, one, kept, made, credits_of)
        electorate = read_rest([sums[number] for number in numbers], others)
        made.append(replace(read_before, electorate=electorate))
    at = made[recent - 1]
    found = State(
        id=at.block,
        state=name,
        slot=at.hour * law.params.hour_slots - 1,
        height=height,
        rank=rank,
        seed=at.seed,
        recent=tuple(made[:recent]),
        names=tuple(checkpoint_digest(law, one) for one in made[:recent]),
        at_final=made[at_final],
        happened=Happened(at.justified, at.final, votes={(hour, node): Point(*source) for hour, node, source in votes}),
        published=tuple(
            Published(at, tuple(drawn), its, busy, before, tuple(uncles))
            for at, drawn, its, busy, before, uncles in published
        ),
        publishers=tuple((at, entity) for at, entity in publishers),
        payload=payload,
        granted=tuple(granted),
        payout=Minting(*payout) if payout else None,
        minted=minted,
        storage=read_storage(stored),
        links={(Point(*source), Point(*target)): frozenset(who) for source, target, who in links},
    )
    if state_digest(law, found) != name:
        raise Malformed("a snapshot of another state than it says")
    return found, at.point


class Snapshots:
    """Those of a node: where it begins, and when the next one is made."""

    def __init__(self, law: Constitution, stored: Stored) -> None:
        self._law, self._stored = law, stored
        self.point: Point | None = None
        """The final checkpoint at whose HOUR it begins."""
        self._credits = frozenset[Digest]()

    def begin(self) -> tuple[State, Point] | None:
        """What was kept, with its final checkpoint; None if it is not there or cannot be read: then it is the genesis."""
        row = self._stored("snapshot", LAST)
        if row is None:
            return None
        try:
            found, final = read(self._law, row, partial(self._stored, "credits"))
        except Malformed:
            return None
        self.point = final
        self._credits = frozenset(name for one in (*found.recent, found.at_final) for name in one.credit_digests)
        return found, final

    def renew(self, state: State, final: Point, at: Callable[[State, int], State]) -> list[Keep]:
        """The rows of a newer one, from the state after a final checkpoint's block, if it is time; `at` is `at_slot`'s answer."""
        if final.hour < (0 if self.point is None else self.point.hour) + SNAPSHOT_HOURS:
            return []
        rows = rows_of(at(state, final.hour * self._law.params.hour_slots))
        new = [
            Keep("credits", (name,), credits_row(hour))
            for name, hour in rows.hours.items()
            if name not in self._credits
        ]
        gone = [Keep("credits", (name,), None) for name in sorted(self._credits - {*rows.hours})]
        self.point, self._credits = final, frozenset(rows.hours)
        return [*new, Keep("snapshot", (LAST,), rows.snapshot), Keep(PROOF, (LAST,), None), *gone]


# ---------------------------------------------------------------------- rows


def _hashed(data: bytes) -> bytes:
    """A row: its version, the hash of what it holds, and that."""
    return bytes((VERSION,)) + blake3(data).digest() + data


def unhashed(row: bytes) -> bytes:
    """What a row holds, which is as it was written; or Malformed."""
    if row[:1] != bytes((VERSION,)):
        raise Malformed(f"a row of version {row[:1].hex()}; this program reads version {VERSION}")
    data = row[1 + _HASH_BYTES :]
    if blake3(data).digest() != row[1 : 1 + _HASH_BYTES]:
        raise Malformed("a row that is damaged")
    return data


# ---------------------------------------------------------------------- credits


def credits_row(hour: HourCredits) -> bytes:
    """What is kept of an HOUR's credits."""
    return _hashed(spell(hour))


def _credits(data: bytes | None) -> HourCredits:
    if data is None:
        raise Malformed("a snapshot whose credits are not all there")
    return read_spelled(unhashed(data))


def credits_named(snapshot: bytes) -> list[Digest]:
    """The names of the credits that a snapshot needs, each once; raises Malformed for what is damaged. Costs none of them."""
    with _well_formed():
        body: Any = decode(unhashed(snapshot))
        return [*dict.fromkeys(Digest(name) for one in body[2] for name in one[_NAMES])]


def _tally(
    law: Constitution,
    names: tuple[Digest, ...],
    before: Checkpoint | None,
    credits_of: Callable[[Digest], bytes | None],
) -> Tally:
    """The tally of the HOURs of those names: that of the checkpoint before and one more, where it is."""
    if len(names) > law.params.window_hours or len({*names}) < len(names):
        raise Malformed("a snapshot that names credits twice, or more of them than a window has")
    if before is not None and names and names == (*before.credit_digests, names[-1])[-len(names) :]:
        return advance(before.tally, _credits(credits_of(names[-1])), law.params.window_hours)
    return recompute(_credits(credits_of(name)) for name in names)


# ---------------------------------------------------------------------- parts


def _of_registry(registry: Registry) -> Value:
    members: Value = [list(one) for one in registry.members.values()]
    pools: Value = [[name, list(one.keys), *one[1:]] for name, one in registry.pools.items()]
    return [registry.era, members, pools]


def _registry(value: Any) -> Registry:
    era, members, pools = value
    made = {name: Pool(tuple(keys), *rest) for name, keys, *rest in pools}
    return registry_of(era, (Member(*one) for one in members), made)


def _of_checkpoint(at: Checkpoint, registry: int, months: Sequence[bytes]) -> Value:
    return [
        [at.hour, at.block, at.seed, registry, at.named, at.difficulty, at.newcomers, list(at.final)],
        [[list(one) for one in voters] for voters in (at.electors, at.voters, at.successors)],
        _of_numbered(at.justified),
        _of_records(at.joining),
        _of_records(at.joining_pools),
        list(at.credit_digests),
        [[hour, _of_included(of)] for hour, of in sorted(at.reports.items())],
        [[node, *duty] for node, duty in sorted(at.duties.items())],
        [[[entity, list(hours)] for entity, hours in sorted(of.items())] for of in (at.misses, at.led)],
        [list(one) for one in sorted(at.expelled.items())],
        list(at.points),
        [[months.index(spell_month(month)) for month in at.electorate.months], spell_rest(at.electorate)],
    ]


def _checkpoint(
    law: Constitution,
    value: Any,
    registries: list[Registry],
    before: list[Checkpoint],
    credits_of: Callable[[Digest], bytes | None],
) -> Checkpoint:
    place, sets, justified, joining, pools, names, reports, duties, charged, expelled, points = value
    hour, block, seed, registry, named, difficulty, newcomers, final = place
    electors, voters, successors = (tuple(Voter(*one) for one in of) for of in sets)
    misses, led = ({entity: tuple(hours) for entity, hours in of} for of in charged)
    made = Checkpoint(
        hour=hour,
        block=block,
        seed=seed,
        registry=registries[registry],
        electors=electors,
        voters=voters,
        successors=successors,
        named=named,
        justified=dict(justified),
        final=Point(*final),
        joining=_records(Registration, joining),
        joining_pools=_records(PoolRegistration, pools),
        difficulty=difficulty,
        newcomers=newcomers,
        tally=_tally(law, tuple(names), before[-1] if before else None, credits_of),
        credit_digests=tuple(names),
        reports={at: _included(of) for at, of in reports},
        duties={node: Duty(voted, due) for node, voted, due in duties},
        misses=misses,
        led=led,
        expelled=dict(expelled),
        points=tuple(points),
    )
    if hour == 0:
        return replace(made, weights=dict.fromkeys(made.registry.entities.values(), 1))
    return replace(made, weights=weigh(made))


def _of_included(reports: Mapping[Any, Included]) -> Value:
    return [[node, list(one.work), one.includer] for node, one in sorted(reports.items())]


def _included(value: Iterable[Any]) -> dict[Any, Included]:
    return {node: Included(Work(*work), includer) for node, work, includer in value}


def _of_numbered(of: Mapping[int, Digest]) -> Value:
    return [[hour, of[hour]] for hour in sorted(of)]


def _of_records(of: Mapping[Any, Any]) -> Value:
    return [[name, to_value(of[name])] for name in sorted(of)]


def _records(kind: type[Any], value: Iterable[Any]) -> dict[Any, Any]:
    return {name: from_value(kind, one) for name, one in value}
