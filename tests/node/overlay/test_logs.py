"""Per-author logs: the merge law, what is let in, what is forgotten, and what we write ourselves."""

import functools
import json
from itertools import permutations
from random import Random
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus import merkle
from consensus.encoding import Malformed, encode
from consensus.ids import Digest, Millis, NodeId
from consensus.records import pack, to_value, unpack
from consensus.signing import KeyPair
from node.overlay.entries import (
    BODY_MAX,
    ENTRY_BYTES_MAX,
    LIFETIME,
    WINDOW,
    LogBodies,
    LogEntry,
    LogItem,
    LogName,
    SignedEntry,
    check_form,
    merge,
    opener,
    seal_entry,
    signed_parts,
    written,
)
from node.overlay.logs import (
    Announce,
    Forked,
    Learned,
    Logs,
    LogsLimits,
    Outrun,
    ReadDirectory,
    ReadLog,
    SnapshotDue,
    Unadmitted,
)
from node.overlay.machine import Finished, Noted, Persist, Rejected, SetTimer, Unreadable
from node.overlay.pen import Append, AppendRefused
from node.overlay.shelf import Shelf
from tests.examples import examples
from tests.node.overlay.log_world import (
    DAY,
    DIRECTORY,
    IDS,
    INDEX,
    KEYS,
    LATER,
    NETWORK,
    NOW,
    OPEN,
    ZEROS,
    chained,
    digest,
    entry,
    facts,
    give_all,
    held,
    item,
    make_logs,
    state,
    verify,
)
from tests.vectors.stored import vector

HOUR = 3_600_000
PEER = IDS[9]


@functools.cache
def pool() -> list[bytes]:
    """Entries of two authors full of forks, false bases and broken chains: 60 directory and 192 index entries."""
    out = []
    for author in (1, 2):
        for epoch in (0, 1):
            for seq in range(5):
                out += [entry(author, DIRECTORY, seq, epoch=epoch, body=b"%d" % body) for body in range(3)]
                for base in range(seq + 1):
                    out += [
                        entry(author, INDEX, seq, epoch=epoch, base=base, body=b"%d" % body, previous=previous)
                        for body, previous in ((0, ZEROS), (1, digest(b"")), (2, ZEROS))
                    ]
    return out


def expected(entries: list[bytes]) -> dict[tuple[LogName, NodeId], list[bytes]]:
    """The law, spelled out over the whole set at once."""
    out: dict[tuple[LogName, NodeId], list[bytes]] = {}
    items = [item(data) for data in dict.fromkeys(entries)]
    for place in sorted({(one.log, one.author) for one in items}):
        mine = [one for one in items if (one.log, one.author) == place]
        last = [one for one in mine if one.epoch == max(other.epoch for other in mine)]
        standing = [one for one in last if one.seq >= max(other.base for other in last)]
        best: dict[int, LogItem] = {}
        for one in sorted(standing, key=lambda one: (one.base, bytes(255 - byte for byte in one.digest))):
            best[one.seq] = one  # the last one stays: the highest base, then the lowest hash
        out[place] = [best[seq].raw for seq in sorted(best)]
    return out


some_entries = st.lists(st.integers(0, 239).map(lambda at: pool()[at]), max_size=14)


@settings(max_examples=examples(150), deadline=None)
@given(entries=some_entries, seed=st.integers(0, 99))
def test_what_is_held_is_a_function_of_the_set_of_entries_seen(entries: list[bytes], seed: int) -> None:
    shuffled = entries + entries[: seed % 5]
    Random(seed).shuffle(shuffled)
    first, second = make_logs(), make_logs(3)
    give_all(first, entries)
    give_all(second, shuffled)
    assert held(first) == held(second) == expected(entries)
    assert first.directory.root(NOW) == second.directory.root(NOW)
    for log in LogName:
        one, other = first.shelf(log), second.shelf(log)
        assert one.fingerprint(0, len(one.authors)) == other.fingerprint(0, len(other.authors))


@settings(max_examples=examples(100), deadline=None)
@given(left=some_entries, right=some_entries)
def test_replicas_that_swap_what_they_hold_hold_what_one_that_saw_all_holds(
    left: list[bytes], right: list[bytes]
) -> None:
    one, other, both = make_logs(), make_logs(), make_logs()
    give_all(one, left)
    give_all(other, right)
    give_all(both, left + right)
    mine, theirs = ([data for kept in held(logs).values() for data in kept] for logs in (one, other))
    give_all(one, theirs)
    give_all(other, mine)
    assert held(one) == held(other) == held(both)


def test_three_forks_merge_alike_in_all_orders() -> None:
    forks = [OPEN(entry(1, INDEX, 3, base=base, body=body)) for base, body in ((1, b"a"), (2, b"b"), (2, b"c"))]
    ends = {functools.reduce(merge, order, OPEN(entry(1, INDEX, 1))) for order in permutations(forks)}
    assert ends == {(min((forks[1][0], forks[2][0]), key=lambda one: one.digest),)}


@settings(max_examples=examples(60), deadline=None)
@given(entries=some_entries)
def test_a_restarted_node_holds_the_same_and_knows_the_same_forks(entries: list[bytes]) -> None:
    logs, stored = make_logs(), dict[Any, bytes]()
    for action in give_all(logs, entries):
        if isinstance(action, Persist):
            assert action.table == "logs"
            if action.value is None:
                del stored[action.key]
            else:
                stored[action.key] = action.value
    again = make_logs(records=list(reversed(stored.items())))
    assert held(again) == held(logs)
    assert again.directory.root(NOW) == logs.directory.root(NOW)
    for log in LogName:
        assert [again.forked(log, author) for author in IDS[:4]] == [logs.forked(log, author) for author in IDS[:4]]
    assert len(stored) == sum(map(len, held(logs).values())) + len([1 for key in stored if key[0] == "fork"])


def test_the_root_is_the_merkle_root_by_author_of_what_has_not_expired() -> None:
    logs = make_logs()
    assert logs.directory.root(NOW) == merkle.root([])
    entries = {IDS[author]: entry(author, DIRECTORY, 0, expiry=NOW + author * DAY) for author in (5, 2, 7)}
    give_all(logs, entries.values())
    leaves = {author: merkle.leaf(author + digest(data)) for author, data in entries.items()}
    assert logs.directory.root(NOW) == merkle.root([leaves[author] for author in sorted(leaves)])
    alive = [leaves[author] for author in sorted(leaves) if author != IDS[2]]
    assert logs.directory.root(Millis(NOW + 2 * DAY)) == merkle.root(alive)
    assert logs.directory.root(Millis(NOW + 2 * DAY - 1)) == logs.directory.root(NOW)


# What is let in


def resigned(data: bytes, **changes: object) -> bytes:
    """The bytes of an entry with fields changed, signed by nobody in particular."""
    fields: dict[Any, Any] = {**to_value(written(item(data))), **changes}  # type: ignore[dict-item]
    body = encode(fields)
    return pack(SignedEntry(body, KEYS[1].sign("entry", NETWORK, body)))


GOOD = entry(1, DIRECTORY, 4)
BAD = {
    "nothing": b"",
    "cut off": GOOD[:-1],
    "longer": GOOD + b"\x00",
    "too long": bytes(ENTRY_BYTES_MAX + 1),
    "forged": GOOD[:-100] + bytes([GOOD[-100] ^ 1]) + GOOD[-99:],
    "another's": pack(SignedEntry(signed_parts(item(GOOD))[1], KEYS[2].sign("entry", NETWORK, b""))),
    "for another network": seal_entry(written(item(GOOD)), KEYS[1], type(NETWORK)(bytes(32))),
    "of another record": pack(
        SignedEntry(signed_parts(item(GOOD))[1], KEYS[1].sign("manifest", NETWORK, signed_parts(item(GOOD))[1]))
    ),
    "of version 2": resigned(GOOD, v=2),
    "of no log": resigned(GOOD, log=9),
    "a log named by a truth": resigned(GOOD, log=True),
    "a directory entry with a past": resigned(GOOD, base=3),
    "a directory entry in parts": resigned(GOOD, rest=1),
    "a directory body of 513 B": resigned(GOOD, body=bytes(513)),
    "an index body of 4,097 B": resigned(GOOD, log=2, body=bytes(BODY_MAX + 1)),
    "out of its window": resigned(GOOD, log=2, seq=WINDOW, base=0),
    "based in the future": resigned(GOOD, log=2, seq=3, base=4),
    "absurd expiry": entry(1, DIRECTORY, 4, expiry=NOW + LIFETIME + DAY + 1),
    "beyond all": resigned(GOOD, expiry=(1 << 64) - 1),
    "negative": resigned(GOOD, seq=-1, base=-1),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_invalid_changes_nothing_and_is_noted_once(data: bytes) -> None:
    logs = make_logs()
    give_all(logs, [entry(1, DIRECTORY, 3)])
    before = state(logs)
    verdict, out = logs.on_gossip(NOW, PEER, data)
    assert verdict == "reject"
    assert len(out) == 1
    assert [one.peer for one in facts(out, Rejected)] == [PEER]
    assert state(logs) == before


@settings(max_examples=examples(300), deadline=None)
@given(data=st.data())
def test_no_mutation_of_an_entry_is_taken(data: st.DataObject) -> None:
    logs = make_logs()
    before = state(logs)
    at = data.draw(st.integers(0, len(GOOD) - 1))
    mutated = data.draw(
        st.one_of(
            st.binary(max_size=40),
            st.integers(1, 255).map(lambda flip: GOOD[:at] + bytes([GOOD[at] ^ flip]) + GOOD[at + 1 :]),
            st.binary(max_size=3).map(lambda more: GOOD[:at] + more + GOOD[at + 1 + len(more) :]),
        )
    )
    if mutated == GOOD:
        return
    verdict, out = logs.on_gossip(NOW, PEER, mutated)
    if verdict == "ignore":  # the author's id was hit, or the expiry: nothing is held and nothing noted
        assert not facts(out, Learned)
    else:
        assert (verdict, len(out), len(facts(out, Rejected))) == ("reject", 1, 1)
    assert state(logs) == before


def test_what_is_new_is_kept_learned_and_passed_on_and_a_replay_is_ignored() -> None:
    logs = make_logs()
    tick = SetTimer(("logs", "sweep"), Millis(-(-LATER // HOUR) * HOUR))
    learned = Noted(Learned(item(GOOD)))
    persisted = Persist("logs", ("entry", 1, IDS[1], 0), GOOD)
    assert logs.on_gossip(NOW, PEER, GOOD) == ("accept", [persisted, learned, tick])
    before = state(logs)
    assert logs.on_gossip(NOW, PEER, GOOD) == ("ignore", [])
    assert logs.on_gossip(NOW, PEER, entry(1, DIRECTORY, 2)) == ("ignore", [])
    assert logs.on_gossip(NOW, PEER, entry(1, DIRECTORY, 9, expiry=NOW - HOUR)) == ("ignore", [])
    assert state(logs) == before


def test_signatures_are_not_checked_for_what_would_change_nothing() -> None:
    asked: list[bytes] = []

    def counting(public: bytes, signature: bytes, message: bytes) -> bool:
        asked.append(public)
        return verify(public, signature, message)

    logs = make_logs(verify=counting, admitted=lambda author: author != IDS[2])
    history = chained(1, DIRECTORY, 4)
    give_all(logs, [history[3], *history, history[3], entry(2, DIRECTORY, 1)])
    assert asked == [IDS[1]]


def test_a_fork_keeps_the_lower_hash_and_is_flagged_once_with_both_entries() -> None:
    forks = sorted((entry(1, DIRECTORY, 4, body=b"%d" % body) for body in range(3)), key=digest)
    logs = make_logs()
    out = give_all(logs, [forks[1], forks[2], forks[0]])
    assert held(logs) == {(DIRECTORY, IDS[1]): [forks[0]]}
    assert facts(out, Forked) == [Forked(IDS[1], DIRECTORY, forks[1], forks[2])]
    assert logs.forked(DIRECTORY, IDS[1]) == (forks[1], forks[2])
    assert [one.key for one in out if isinstance(one, Persist)] == [
        ("entry", 1, IDS[1], 0),
        ("fork", 1, IDS[1]),
        ("entry", 1, IDS[1], 0),
    ]


@pytest.mark.parametrize("log", list(LogName))
def test_a_history_that_skips_back_is_flagged_in_either_order(log: LogName) -> None:
    honest = chained(1, log, 2)
    broken = entry(1, log, 1, previous=digest(b"other"), body=b"other")
    for order in ([honest[0], broken], [broken, honest[0]]):
        out = give_all(make_logs(), order)
        assert [{one.first, one.second} for one in facts(out, Forked)] == [set(order)]
    assert not facts(give_all(make_logs(), reversed(chained(1, log, 5))), Forked)


def test_a_flood_of_forks_stops_at_the_gossip_limit_and_costs_one_proof() -> None:
    logs = make_logs(limits=LogsLimits(changes=8))
    flood = sorted((entry(1, DIRECTORY, 4, body=b"%d" % body) for body in range(300)), key=digest, reverse=True)
    verdicts = [logs.on_gossip(NOW, PEER, data)[0] for data in flood]
    assert verdicts == ["accept"] * 8 + ["ignore"] * 292
    assert held(logs) == {(DIRECTORY, IDS[1]): [flood[7]]}
    assert logs.on_gossip(NOW, PEER, entry(2, DIRECTORY, 0))[0] == "accept"
    assert logs.on_gossip(Millis(NOW + 600_000), PEER, flood[-1])[0] == "accept"


def test_no_set_of_entries_exceeds_an_authors_quota() -> None:
    logs = make_logs()
    rng = Random(5)
    for _ in range(300):
        base = rng.randrange(3000)
        epoch = rng.randrange(2)
        lying = [entry(1, INDEX, base + step, epoch=epoch, base=base) for step in (0, rng.randrange(WINDOW))]
        give_all(logs, lying)
        chain = logs.index.chain(IDS[1])
        assert chain[0].seq >= max(one.base for one in chain) > chain[-1].seq - WINDOW
        assert logs.index.size == sum(len(one.raw) for one in chain)


def test_a_full_directory_takes_news_of_those_who_are_in_it_only() -> None:
    logs = make_logs(limits=LogsLimits(directory_authors=2, index_authors=1))
    give_all(logs, [entry(author, log, 1) for author in (1, 2, 3) for log in LogName])
    assert logs.directory.authors == sorted([IDS[1], IDS[2]])
    assert logs.index.authors == [IDS[1]]
    assert logs.on_gossip(NOW, PEER, entry(2, DIRECTORY, 2))[0] == "accept"
    assert logs.on_gossip(NOW, PEER, entry(3, DIRECTORY, 2)) == ("ignore", [])
    assert isinstance(logs.on_command(NOW, 1, Append(DIRECTORY, b"me", LATER))[-1], Finished)
    assert IDS[0] in logs.directory.authors


def test_authors_that_are_not_admitted_are_noted_once_and_remembered_within_bounds() -> None:
    allowed: dict[NodeId, None] = {}
    logs = make_logs(admitted=allowed.__contains__, limits=LogsLimits(declined=4))
    data = entry(1, DIRECTORY, 0)
    assert logs.on_gossip(NOW, PEER, data) == ("ignore", [Noted(Unadmitted(PEER, IDS[1]))])
    assert logs.on_gossip(NOW, PEER, data) == ("ignore", [])
    assert logs.declined(DIRECTORY, b"", None) == [digest(data)[:16]]
    assert logs.declined(INDEX, b"", None) == []
    for seq in range(20):
        logs.on_gossip(NOW, PEER, entry(2, DIRECTORY, seq))
    assert len(logs.declined(DIRECTORY, b"", None)) == 4
    allowed[IDS[2]] = None
    assert logs.declined(DIRECTORY, b"", None) == []
    assert logs.on_gossip(NOW, PEER, entry(2, DIRECTORY, 3))[0] == "accept"
    allowed.clear()
    assert logs.revise(NOW) == [Persist("logs", ("entry", 1, IDS[2], 0), None)]
    assert not held(logs)


def test_an_index_is_kept_for_chosen_owners_and_always_for_ourselves() -> None:
    logs = make_logs(0, keeps=lambda author: author == IDS[1])
    assert [logs.on_gossip(NOW, PEER, entry(author, INDEX, 0))[0] for author in (1, 2)] == ["accept", "ignore"]
    logs.on_command(NOW, 1, Append(INDEX, b"mine", LATER))
    assert logs.index.authors == sorted([IDS[0], IDS[1]])


# What is forgotten


def test_expired_entries_vanish_from_reading_at_once_and_from_the_shelf_at_the_hour() -> None:
    logs = make_logs()
    expiry = NOW + 90 * 60_000
    data = entry(1, DIRECTORY, 4, expiry=expiry)
    hour = Millis(-(-expiry // HOUR) * HOUR)
    out = give_all(logs, [data, entry(2, DIRECTORY, 4, expiry=expiry + 5 * HOUR)])
    assert [one for one in out if isinstance(one, SetTimer)] == [SetTimer(("logs", "sweep"), hour)]
    read = ReadDirectory(IDS[1])
    assert logs.on_command(Millis(expiry - 1), 7, read) == [Finished(7, written(item(data)))]
    assert logs.on_command(Millis(expiry), 7, read) == [Finished(7, None)]
    assert logs.on_timer(hour, ("logs", "sweep")) == [
        Persist("logs", ("entry", 1, IDS[1], 0), None),
        SetTimer(("logs", "sweep"), Millis(hour + 5 * HOUR)),
    ]
    assert logs.on_gossip(hour, PEER, data) == ("ignore", [])
    assert logs.on_timer(Millis(hour + 5 * HOUR), ("logs", "sweep")) == [Persist("logs", ("entry", 1, IDS[2], 0), None)]


def test_a_node_that_was_away_forgets_at_start_what_expired() -> None:
    data = [entry(1, INDEX, seq, expiry=NOW + (seq + 1) * DAY) for seq in range(3)]
    records = [(("entry", 2, IDS[1], seq), one) for seq, one in enumerate(data)]
    logs = make_logs(records=records)
    out = logs.start(Millis(NOW + 2 * DAY))
    assert out[:2] == [Persist("logs", ("entry", 2, IDS[1], seq), None) for seq in (0, 1)]
    assert held(logs) == {(INDEX, IDS[1]): [data[2]]}


def test_records_that_are_not_understood_are_counted_and_skipped() -> None:
    records: list[Any] = [
        (("entry", 1, IDS[1], 0), b"damaged"),
        (("own", 1), b"damaged"),
        (("own", 9), b"damaged"),
        (("fork", 1, IDS[1]), encode([b""])),
        (("later",), b""),
        (("entry", 1, IDS[1], 0), GOOD),
    ]
    logs = make_logs(records=records)
    assert logs.start(NOW)[0] == Noted(Unreadable(5))
    assert held(logs) == {(DIRECTORY, IDS[1]): [GOOD]}


@pytest.mark.parametrize("delta", [-HOUR, HOUR])
def test_a_step_of_the_clock_changes_nothing(delta: int) -> None:
    logs = make_logs()
    give_all(logs, [GOOD])
    before = state(logs)
    assert logs.on_clock(NOW, delta) == []
    assert state(logs) == before


# What we write


def appended(logs: Logs, log: LogName, body: bytes, *, now: int = NOW, **options: Any) -> list[Any]:
    return logs.on_command(Millis(now), 1, Append(log, body, **({"expiry": Millis(LATER)} | options)))


def read(logs: Logs, author: int = 0, now: int = NOW) -> Any:
    (answer,) = logs.on_command(Millis(now), 2, ReadLog(IDS[author], INDEX))
    assert isinstance(answer, Finished)
    return answer.result


def test_appending_keeps_before_it_announces_and_answers_with_the_digest() -> None:
    logs = make_logs(0)
    first, second = entry(0, DIRECTORY, 0, body=b"a"), entry(0, DIRECTORY, 1, body=b"b", previous=ZEROS)
    second = entry(0, DIRECTORY, 1, body=b"b", previous=digest(first))
    out = appended(logs, DIRECTORY, b"a")
    assert [type(one) for one in out] == [Persist, Noted, SetTimer, Persist, Announce, Finished]
    assert out[0] == Persist("logs", ("entry", 1, IDS[0], 0), first)
    assert out[3] == Persist("logs", ("own", 1), encode([0, 1, digest(first), LATER]))
    assert out[4:] == [Announce("directory", first), Finished(1, digest(first))]
    assert appended(logs, DIRECTORY, b"b")[-2:] == [Announce("directory", second), Finished(1, digest(second))]
    assert held(logs) == {(DIRECTORY, IDS[0]): [second]}
    assert make_logs(1).on_gossip(NOW, IDS[0], second)[0] == "accept"


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (Append(DIRECTORY, b"", Millis(NOW)), "in the future"),
        (Append(DIRECTORY, b"", Millis(NOW + LIFETIME + 1)), "within 400 days"),
        (Append(DIRECTORY, b"", Millis(LATER - 1)), "never lowers"),
        (Append(DIRECTORY, bytes(513), LATER), "512 bytes"),
        (Append(INDEX, bytes((1 << 20) + 1), LATER, snapshot=True), "1048576 bytes"),
        (Append(INDEX, bytes(BODY_MAX * 150), LATER), "snapshot first"),
    ],
)
def test_an_append_that_nobody_would_take_is_refused_without_a_trace(order: Append, reason: str) -> None:
    logs = make_logs(0)
    appended(logs, DIRECTORY, b"a")
    appended(logs, INDEX, bytes(BODY_MAX * 200))
    appended(logs, INDEX, bytes(BODY_MAX * 200))
    before = state(logs)
    (answer,) = logs.on_command(NOW, 3, order)
    assert isinstance(answer, Finished)
    assert isinstance(answer.result, AppendRefused)
    assert reason in answer.result.reason
    assert state(logs) == before


def test_a_long_body_travels_in_parts_and_a_snapshot_replaces_all_before_it() -> None:
    logs, replica = make_logs(0), make_logs(1)
    bodies = [b"a", b"b" * 10_000, b""]
    sent = [one.data for body in bodies for one in appended(logs, INDEX, body) if isinstance(one, Announce)]
    assert len(sent) == 5
    assert read(logs) == LogBodies(tuple(bodies), gapless=True)
    give_all(replica, reversed(sent))
    assert read(replica) == read(logs)

    snapshot = [one.data for one in appended(logs, INDEX, b"s" * 9_000, snapshot=True) if isinstance(one, Announce)]
    update = [one.data for one in appended(logs, INDEX, b"u") if isinstance(one, Announce)]
    assert read(logs) == LogBodies((b"s" * 9_000, b"u"), gapless=True)
    give_all(replica, snapshot[:2])
    assert read(replica) == LogBodies(tuple(bodies), gapless=False)  # half a snapshot has replaced nothing yet
    out = give_all(replica, [*update, *sent, snapshot[2]])
    assert read(replica) == read(logs)
    assert held(replica) == held(logs)
    assert len([one for one in out if isinstance(one, Persist) and one.value is None]) == 5
    assert not facts(out, Forked)


def test_bodies_after_a_gap_are_read_and_those_cut_by_it_are_not() -> None:
    logs, replica = make_logs(0), make_logs(1)
    sent = [
        one.data
        for body in (b"a", b"b" * 9_000, b"c", b"d")
        for one in appended(logs, INDEX, body)
        if isinstance(one, Announce)
    ]
    give_all(replica, [sent[0], *sent[2:]])
    assert read(replica) == LogBodies((b"a", b"c", b"d"), gapless=False)
    give_all(replica, [sent[1]])
    assert read(replica).gapless


def test_a_log_is_full_at_its_window_until_a_snapshot_which_is_said_to_be_due_at_1_mib() -> None:
    logs = make_logs(0)
    due = []
    for _ in range(WINDOW // 16):
        due.append(facts(appended(logs, INDEX, bytes(BODY_MAX * 16)), SnapshotDue))
    first = next(at for at, facts_of in enumerate(due) if facts_of)
    assert due[first][0].size > 1 << 20 >= due[first][0].size - 17 * ENTRY_BYTES_MAX
    assert isinstance(appended(logs, INDEX, b"")[-1].result, AppendRefused)
    out = appended(logs, INDEX, bytes(1 << 20), snapshot=True)
    assert isinstance(out[-1].result, bytes)
    assert read(logs) == LogBodies((bytes(1 << 20),), gapless=True)
    assert appended(logs, INDEX, b"u" * (1 << 20))[-1].result
    assert len(read(logs).bodies) == 2
    assert len(logs.index.chain(IDS[0])) == WINDOW


def test_a_restored_author_opens_a_new_epoch_and_makes_it_durable_at_start() -> None:
    stored = {one.key: one.value for one in appended(make_logs(0), INDEX, b"old") if isinstance(one, Persist)}
    plain = make_logs(0, records=list(stored.items()))
    assert item(appended(plain, INDEX, b"next")[-2].data).seq == 1
    restored = make_logs(0, records=list(stored.items()), restored=True)
    for action in restored.start(NOW):
        if isinstance(action, Persist):
            stored[action.key] = action.value
    assert read(restored) == LogBodies((b"old",), gapless=True)
    again = make_logs(0, records=list(stored.items()))
    data = item(appended(again, INDEX, b"new", snapshot=True)[-2].data)
    assert (data.epoch, data.seq, data.base) == (1, 0, 0)
    assert read(again) == LogBodies((b"new",), gapless=True)


def test_an_entry_of_ours_that_we_do_not_know_makes_us_go_on_in_a_new_epoch() -> None:
    logs = make_logs(0)
    appended(logs, DIRECTORY, b"rolled back")
    unknown = entry(0, DIRECTORY, 5, epoch=2)
    verdict, out = logs.on_gossip(NOW, PEER, unknown)
    assert verdict == "accept"
    assert facts(out, Outrun) == [Outrun(DIRECTORY, 3)]
    assert item(appended(logs, DIRECTORY, b"now")[-2].data)[3:5] == (3, 0)
    twin = entry(0, DIRECTORY, 0, epoch=3, body=b"twin")
    _, out = logs.on_gossip(NOW, PEER, twin)
    assert facts(out, Outrun) == [Outrun(DIRECTORY, 4)]
    assert len(facts(out, Forked)) == 1
    assert logs.on_gossip(NOW, PEER, unknown) == ("ignore", [])


def test_a_position_outlives_the_entry_it_followed() -> None:
    logs = make_logs(0)
    stored = {one.key: one.value for one in appended(logs, DIRECTORY, b"a") if isinstance(one, Persist)}
    for one in logs.on_timer(Millis(LATER + HOUR), ("logs", "sweep")):
        assert isinstance(one, Persist)
        stored.pop(one.key)
    again = make_logs(0, records=[(key, value) for key, value in stored.items() if value is not None])
    out = appended(again, DIRECTORY, b"b", now=LATER + HOUR, expiry=Millis(LATER + DAY))
    assert item(out[-2].data).seq == 1


def test_orders_of_other_parts_are_a_mistake_of_the_parents() -> None:
    with pytest.raises(TypeError, match="no command"):
        make_logs().on_command(NOW, 1, object())


def test_a_shared_opener_gives_every_node_the_same_objects() -> None:
    shared = functools.lru_cache(maxsize=100)(opener(NETWORK))
    nodes = [make_logs(number, open_entry=shared) for number in (0, 3)]
    for logs in nodes:
        give_all(logs, [bytes(bytearray(GOOD))])
    assert nodes[0].directory.chain(IDS[1]) is nodes[1].directory.chain(IDS[1])


@settings(max_examples=examples(60), deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3)), max_size=30))
def test_a_shelf_is_the_dict_that_it_replaces(steps: list[tuple[int, int]]) -> None:
    shelf, model = Shelf(), dict[NodeId, Any]()
    for author, seq in steps:
        chain = OPEN(pool()[author // 4 * 120 + seq]) if seq else ()
        who = chain[0].author if chain else IDS[1 + author // 4]
        shelf.put(chain, who)
        model.pop(who, None)
        if chain:
            model[who] = chain
    assert dict(shelf.chains()) == model
    assert shelf.authors == sorted(model)
    assert shelf.size == sum(len(one.raw) for chain in model.values() for one in chain)
    marks = b"".join(model[author][0].digest[:16] for author in sorted(model))
    assert shelf.fingerprint(0, len(model)) == blake3(marks).digest()[:16]


# The golden vector

PLAIN = (
    LogEntry(IDS[1], DIRECTORY, 0, 0, 0, 0, 0, ZEROS, LATER, b""),
    LogEntry(IDS[1], DIRECTORY, 3, 1 << 40, 1 << 40, 0, 0, Digest(bytes(range(32))), LATER, bytes(range(256)) * 2),
    LogEntry(IDS[1], INDEX, 1, 700, 300, 2, 255, Digest(bytes(range(32))), LATER, b"part of an update"),
    LogEntry(IDS[1], INDEX, 0, 0, 0, 0, 0, ZEROS, Millis(0), b""),
)


def log_entry_v1() -> dict[str, Any]:
    """Signed entries of version 1 as first released."""
    entries = []
    for plain in PLAIN:
        data = seal_entry(plain, KEYS[1], NETWORK)
        fields = {key: value.hex() if isinstance(value, bytes) else value for key, value in to_value(plain).items()}  # type: ignore[union-attr]
        entries.append({"fields": fields, "signed": data.hex(), "digest": digest(data).hex()})
    logs = make_logs()
    give_all(logs, [seal_entry(plain, KEYS[number], NETWORK) for number, plain in signed_by_three()])
    origin = (
        "Log entries of version 1 as first released, made by tests/node/overlay/test_logs.py; bytes of `fields` in hex."
    )
    return {
        "origin": origin,
        "network": NETWORK.hex(),
        "seed": (bytes([1]) * 32).hex(),
        "entries": entries,
        "directory": {"seeds": [1, 2, 3], "root": logs.directory.root(NOW).hex()},
    }


def signed_by_three() -> list[tuple[int, LogEntry]]:
    return [(number, LogEntry(IDS[number], DIRECTORY, 0, 1, 1, 0, 0, ZEROS, LATER, b"x")) for number in (1, 2, 3)]


def test_entries_of_version_1_are_read_and_written_for_ever() -> None:
    stored = vector("log_entry_v1")
    assert log_entry_v1() == json.loads(json.dumps(stored))
    prefix = b"lucid/entry/v1" + bytes.fromhex(stored["network"])
    keys = KeyPair.from_seed(bytes.fromhex(stored["seed"]))
    for kept, plain in zip(stored["entries"], PLAIN, strict=True):
        data = bytes.fromhex(kept["signed"])
        assert written(item(data)) == plain
        assert signed_parts(item(data)) == (unpack(SignedEntry, data).signature, pack(plain))
        assert blake3(prefix + data).hexdigest() == kept["digest"]
        assert verify(keys.public, signed_parts(item(data))[0], prefix + signed_parts(item(data))[1])


def test_nobody_seals_what_nobody_would_take() -> None:
    with pytest.raises(Malformed):
        check_form(LogEntry(IDS[1], DIRECTORY, 0, 1, 0, 0, 0, ZEROS, LATER, b""))
    with pytest.raises(Malformed):
        seal_entry(LogEntry(IDS[1], INDEX, 0, 1, 2, 0, 0, ZEROS, LATER, b""), KEYS[1], NETWORK)
