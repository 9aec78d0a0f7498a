import random
from itertools import count
from types import FunctionType, MethodType

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consensus.ids import Millis, NodeId
from node.overlay.answers import Quota, QuotaLimits
from node.overlay.calls import (
    Bootstrap,
    Declined,
    Effort,
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
    ValuePut,
    Withdraw,
)
from node.overlay.dht import SWEEP, UPKEEP, Dht, DhtLimits
from node.overlay.holdings import HoldingLimits
from node.overlay.lookup import LookupLimits
from node.overlay.machine import Action, Channel, Finished, Noted, Persist, Rejected, Send, SetTimer
from node.overlay.ours import PROVIDED, TABLE, VALUE, OursLimits
from node.overlay.routing import place, point
from node.overlay.wire import KadMessage, KadPeer, KadRecord, KadType, decode_kad, encode_kad, peer_id
from tests.examples import examples
from tests.node.overlay.kad_world import START, KadWorld, named, nodes_of, true_nearest, validate, value_of

ME, PEER, *OTHERS = nodes_of(random.Random(0), 400)
DAY = 86_400_000
KEY = b"/t/key"
LIMITS = DhtLimits()


def part_of(
    limits: DhtLimits = LIMITS, kept: tuple[Persist, ...] = (), seeds: tuple[NodeId, ...] = (), contacts: int = 0
) -> Dht:
    numbers = count(1)
    part = Dht(
        ME,
        random.Random(1),
        limits,
        {"t": validate},
        lambda: next(numbers),
        lambda node: (b"at-" + node[:4],),
        kept,
        seeds,
    )
    for node in [PEER, *OTHERS][:contacts]:
        part.table.seen(START, node)
    return part


def asked(kind: KadType, key: bytes = KEY, value: bytes | None = None, providers: tuple[KadPeer, ...] = ()) -> bytes:
    return encode_kad(KadMessage(kind, key, None if value is None else KadRecord(key, value), (), providers))


def answer_of(actions: list[Action]) -> KadMessage:
    send = actions[0]
    assert isinstance(send, Send)
    assert (send.peer, send.channel, send.exchange) == (PEER, Channel.DHT, -7)
    return decode_kad(send.frame)


def request(part: Dht, frame: bytes, now: int = START, peer: NodeId = PEER) -> list[Action]:
    return part.on_frame(Millis(now), peer, frame, -7)


def sent(actions: list[Action]) -> dict[NodeId, Send]:
    return {action.peer: action for action in actions if isinstance(action, Send)}


def state(thing: object) -> object:
    """Everything that a part holds, to be compared; functions left out."""
    if isinstance(thing, (int, str, bytes, float, type(None), FunctionType, MethodType, type)):
        return None if callable(thing) else thing
    if isinstance(thing, random.Random):
        return thing.getstate()
    if isinstance(thing, dict):
        return [(state(key), state(value)) for key, value in thing.items()]
    if isinstance(thing, (list, tuple)):
        return [state(item) for item in thing]
    names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    if names:
        return [type(thing).__name__, *(state(getattr(thing, name)) for name in names if name != "introducers")]
    return [type(thing).__name__, state(vars(thing)) if hasattr(thing, "__dict__") else repr(thing)]


# ---- what peers ask ----


def test_find_node_is_answered_with_the_k_nearest_contacts_and_their_addresses_but_not_the_asker() -> None:
    part = part_of(contacts=100)
    key = peer_id(OTHERS[200])
    actions = request(part, asked(KadType.FIND_NODE, key))
    contacts = [node for node in [PEER, *OTHERS] if node in part.table and node != PEER]
    expected = true_nearest(contacts, place(OTHERS[200]), 20)
    assert answer_of(actions) == KadMessage(
        KadType.FIND_NODE, key, closer=tuple(KadPeer(peer_id(node), (b"at-" + node[:4],)) for node in expected)
    )
    assert len(actions) == 1


def test_ping_is_answered() -> None:
    assert request(part_of(contacts=1), asked(KadType.PING, b""))[0] == Send(
        PEER, Channel.DHT, asked(KadType.PING, b""), -7
    )


def test_a_value_that_was_put_is_echoed_and_got() -> None:
    part = part_of(contacts=1)
    put = asked(KadType.PUT_VALUE, KEY, value_of(1, START + DAY))
    assert request(part, put) == [Send(PEER, Channel.DHT, put, -7)]
    got = answer_of(request(part, asked(KadType.GET_VALUE)))
    assert got.record == KadRecord(KEY, value_of(1, START + DAY))
    assert request(part, asked(KadType.GET_VALUE), START + DAY)
    assert answer_of(request(part, asked(KadType.GET_VALUE), START + DAY)).record is None  # it has expired


def test_an_older_value_never_replaces_a_newer_one_and_the_putter_is_shown_it() -> None:
    part = part_of(contacts=1)
    newer = value_of(2, START + DAY)
    request(part, asked(KadType.PUT_VALUE, KEY, newer))
    for old in (value_of(1, START + 2 * DAY), value_of(2, START + DAY - 1)):
        assert answer_of(request(part, asked(KadType.PUT_VALUE, KEY, old))).record == KadRecord(KEY, newer)
    assert answer_of(request(part, asked(KadType.GET_VALUE))).record == KadRecord(KEY, newer)


def test_of_two_values_with_one_sequence_every_holder_keeps_the_same_whatever_came_first() -> None:
    one, other = value_of(1, START + DAY, b"a"), value_of(1, START + DAY, b"b")
    for first, second in ((one, other), (other, one)):
        part = part_of(contacts=1)
        request(part, asked(KadType.PUT_VALUE, KEY, first))
        request(part, asked(KadType.PUT_VALUE, KEY, second))
        assert answer_of(request(part, asked(KadType.GET_VALUE))).record == KadRecord(KEY, other)


def test_a_provider_is_told_of_until_it_expires() -> None:
    part = part_of(contacts=1)
    own, other = KadPeer(peer_id(PEER), (b"a", b"b", b"c", b"d", b"e")), KadPeer(peer_id(OTHERS[0]))
    assert part.on_frame(START, PEER, asked(KadType.ADD_PROVIDER, b"cid", None, (other, own)), 0) == []
    expected = (KadPeer(peer_id(PEER), (b"a", b"b", b"c", b"d")),)
    assert answer_of(request(part, asked(KadType.GET_PROVIDERS, b"cid"))).providers == expected
    assert answer_of(request(part, asked(KadType.GET_PROVIDERS, b"cid"), START + DAY)).providers == ()
    assert part._provisions._total == 1
    part.on_timer(Millis(START + DAY), UPKEEP)
    assert (part._provisions._total, part._provisions._counts) == (0, {})


REFUSED = [
    (b"\xff\xff", "not protobuf"),
    (bytes(70_000), "70000 bytes, 65536 at most"),
    (b"\x08\x09", "no DHT message has type 9"),
    (asked(KadType.FIND_NODE, b""), "a request without a key"),
    (asked(KadType.GET_VALUE, b""), "a request without a key"),
    (asked(KadType.PUT_VALUE), "a value that is not of its key"),
    (
        encode_kad(KadMessage(KadType.PUT_VALUE, KEY, KadRecord(b"/t/b", value_of(1, START + DAY)))),
        "a value that is not of its key",
    ),
    (asked(KadType.PUT_VALUE, b"plainkey", value_of(1, START + DAY)), "a value that no validator accepts"),
    (asked(KadType.PUT_VALUE, b"/zz/k", value_of(1, START + DAY)), "a value that no validator accepts"),
    (asked(KadType.PUT_VALUE, b"/\xff/k", value_of(1, START + DAY)), "a value that no validator accepts"),
    (asked(KadType.PUT_VALUE, KEY, b"no" + value_of(1, START + DAY)), "a value that no validator accepts"),
    (asked(KadType.PUT_VALUE, KEY, value_of(1, START)), "a value that no validator accepts"),
    (asked(KadType.PUT_VALUE, KEY, value_of(1, START + DAY, bytes(16_384))), "a value that no validator accepts"),
    (asked(KadType.ADD_PROVIDER), "a provision that is not the sender's own"),
    (
        asked(KadType.ADD_PROVIDER, b"cid", None, (KadPeer(peer_id(OTHERS[0])),)),
        "a provision that is not the sender's own",
    ),
]


@pytest.mark.parametrize(("frame", "reason"), REFUSED)
def test_what_is_invalid_changes_nothing_and_is_noted_once(frame: bytes, reason: str) -> None:
    part = part_of(contacts=50)
    before = state(part)
    assert request(part, frame, peer=OTHERS[300]) == [Noted(Rejected(OTHERS[300], reason))]
    assert state(part) == before


def test_a_request_outside_an_exchange_is_refused() -> None:
    assert part_of().on_frame(START, PEER, asked(KadType.FIND_NODE), 0) == [
        Noted(Rejected(PEER, "a request on the stream of notices"))
    ]


@settings(max_examples=examples(40))
@given(st.data())
@example(None)
def test_any_frame_is_answered_or_rejected_and_a_rejected_one_changes_nothing(data: st.DataObject | None) -> None:
    part = part_of(contacts=12)
    frames = [frame for frame, _ in REFUSED] + [asked(kind, KEY, value_of(1, START + DAY)) for kind in KadType]
    part.on_command(START, 1, GetValue(KEY))
    for _ in range(6):
        if data is None:
            frame, exchange = b"", 1
        else:
            frame = data.draw(st.sampled_from(frames) | st.binary(max_size=80))
            if frame and data.draw(st.booleans()):
                at = data.draw(st.integers(0, len(frame) - 1))
                frame = frame[:at] + data.draw(st.binary(max_size=3)) + frame[at + 1 :]
            exchange = data.draw(st.sampled_from([-7, 0, 1, 2, 3, 99]))
        sender = part._open[exchange].peer if exchange in part._open else PEER
        before = state(part)
        actions = part.on_frame(START, sender, frame, exchange)
        rejections = [a for a in actions if isinstance(a, Noted) and isinstance(a.fact, Rejected)]
        if rejections:
            assert actions == rejections
            assert len(actions) == 1
            assert state(part) == before


def test_a_flood_of_requests_gets_its_burst_and_then_its_rate() -> None:
    part = part_of(contacts=1)
    frame = asked(KadType.PING, b"")
    served = [len(sent(request(part, frame, START))) for _ in range(10_000)]
    assert sum(served) == 100
    refused = [Noted(Rejected(PEER, "more requests than its quota"))]
    before = state(part)
    assert request(part, frame) == refused
    assert state(part) == before
    assert request(part, frame, START + 49) == refused
    assert len(sent(request(part, frame, START + 50))) == 1
    assert len(sent(request(part, frame, START + 51))) == 0
    assert len(sent(request(part, frame, START + 50, OTHERS[0]))) > 0  # others are not held to account


def test_a_flood_from_ten_thousand_identities_is_bounded_in_all_that_it_can_fill() -> None:
    part = part_of()
    strangers = nodes_of(random.Random(5), 10_000)
    for number, node in enumerate(strangers):
        now = START + number
        part.on_peer_up(Millis(now), node, _dialled=False)
        request(part, asked(KadType.PUT_VALUE, b"/t/%d" % number, value_of(1, now + DAY)), now, node)
        provider = (KadPeer(peer_id(node)),)
        request(part, asked(KadType.ADD_PROVIDER, b"cid%d" % number, None, provider), now, node)
        part.on_peer_lost(Millis(now), node)
    assert len(part.table) == 0  # none of them has answered anything
    assert len(part._open) == LIMITS.routing.pinged
    assert len(part._quota) <= LIMITS.quota.peers + 1
    assert len(part._values) == LIMITS.holdings.values
    assert len(part._provisions) <= LIMITS.holdings.provisions
    assert len(part._up) == 0


def test_quotas_forget_who_has_been_quiet() -> None:
    quota = Quota(QuotaLimits(peers=3))
    for number, node in enumerate(OTHERS[:5]):
        quota.charge(Millis(START + 100 * number), node)
    assert len(quota) <= 3
    limits = QuotaLimits(request_ms_all=10, burst_ms_all=20)
    quota = Quota(limits)
    for node in OTHERS[:2]:
        assert quota.allows(START, node)
        quota.charge(START, node)
    assert not quota.allows(START, OTHERS[2])
    assert quota.allows(Millis(START + 10), OTHERS[2])


def test_one_peer_has_room_for_so_many_values_and_those_that_expire_last_go_first() -> None:
    part = part_of(DhtLimits(holdings=HoldingLimits(values=4, values_per_peer=3)), contacts=2)

    def put(name: bytes, expires: int, peer: NodeId = PEER) -> bool:
        return bool(sent(request(part, asked(KadType.PUT_VALUE, b"/t/" + name, value_of(1, expires)), peer=peer)))

    def names() -> set[bytes]:
        return {key[3:] for key in part._values._held}

    assert [put(name, START + DAY) for name in (b"a", b"b", b"c")] == [True] * 3
    assert not put(b"d", START + 1)  # its fourth
    assert put(b"a", START + DAY)  # again: no new place
    assert put(b"e", START + 900, OTHERS[0])
    assert not put(b"f", START + 2 * DAY, OTHERS[0])
    assert put(b"f", START + 1000, OTHERS[0])
    assert names() == {b"a", b"b", b"e", b"f"}
    assert put(b"g", START + 10)  # one of its own went
    part.on_timer(Millis(START + 1000), UPKEEP)
    assert names() == {b"a"}
    assert part._values._counts == {PEER: 1}


def test_nothing_is_kept_longer_than_two_days_without_being_put_again() -> None:
    part = part_of(contacts=1)
    request(part, asked(KadType.PUT_VALUE, KEY, value_of(1, 2**63)))
    request(part, asked(KadType.PUT_VALUE, KEY, value_of(1, 2**63)), START + DAY)
    part.on_timer(Millis(START + 3 * DAY - 1), UPKEEP)
    assert len(part._values) == 1
    part.on_timer(Millis(START + 3 * DAY), UPKEEP)
    assert len(part._values) == 0


def test_provisions_have_places_a_key_a_peer_and_in_all_and_who_renews_keeps_its_own() -> None:
    part = part_of(
        DhtLimits(holdings=HoldingLimits(provisions=4, provisions_per_key=2, provisions_per_peer=3)), contacts=1
    )

    def provide(key: bytes, node: NodeId) -> bool:
        frame = asked(KadType.ADD_PROVIDER, key, None, (KadPeer(peer_id(node)),))
        return not any(isinstance(a, Noted) for a in part.on_frame(START, node, frame, 0))

    assert [provide(key, PEER) for key in (b"a", b"b", b"c", b"d")] == [True, True, True, False]
    assert [provide(b"a", node) for node in OTHERS[:2]] == [True, False]
    assert not provide(b"e", OTHERS[2])
    assert provide(b"a", PEER)


# ---- becoming contacts ----


def test_a_stranger_that_asks_is_pinged_and_becomes_a_contact_only_by_answering() -> None:
    part = part_of()
    stranger = OTHERS[0]
    actions = request(part, asked(KadType.FIND_NODE), peer=stranger)
    assert actions[1:] == [
        Send(stranger, Channel.DHT, asked(KadType.PING, b""), 1),
        SetTimer(SWEEP, Millis(START + LIMITS.timeout_ms)),
    ]
    assert len(request(part, asked(KadType.FIND_NODE), peer=stranger)) == 1  # no second ping
    assert stranger not in part.table
    assert part.on_frame(START, PEER, asked(KadType.PING, b""), 1) == [
        Noted(Rejected(PEER, "an answer to nothing that is open"))
    ]
    assert part.on_frame(START, stranger, asked(KadType.PING, b""), 1) == []
    assert stranger in part.table


def test_a_stranger_that_connects_and_does_not_answer_is_not_pinged_again_for_ten_minutes() -> None:
    part = part_of()
    assert len(sent(part.on_peer_up(START, PEER, _dialled=True))) == 1
    assert part.on_failed(START, OTHERS[0], 1) == []  # not its exchange
    assert part.on_failed(START, PEER, 1) == []
    assert part.on_failed(START, PEER, 1) == []
    assert part.on_peer_up(Millis(START + 599_999), PEER, _dialled=True) == []
    assert len(sent(part.on_peer_up(Millis(START + 600_000), PEER, _dialled=True))) == 1


def test_unanswered_exchanges_are_given_up_by_one_timer_that_is_armed_only_while_some_are_open() -> None:
    part = part_of()
    part.on_peer_up(START, PEER, _dialled=True)
    assert [type(a) for a in part.on_peer_up(Millis(START + 5), OTHERS[0], _dialled=True)] == [Send]
    due = Millis(START + LIMITS.timeout_ms)
    assert part.on_timer(due, SWEEP) == [SetTimer(SWEEP, Millis(due + 5))]
    assert part.on_timer(Millis(due + 5), SWEEP) == []
    assert part._open == {}


def test_while_nobody_answers_no_contact_is_blamed() -> None:
    part = part_of(contacts=5)
    for number in range(1, 6):
        actions = part.on_command(START, number, FindNode(OTHERS[300]))
        for send in sent(actions).values():
            part.on_failed(Millis(START + 1), send.peer, send.exchange)
    assert len(part.table) == 5


def test_contacts_that_fail_while_others_answer_are_forgotten() -> None:
    part = part_of(contacts=5)
    for number in range(1, 4):
        actions = part.on_command(Millis(START + number), number, FindNode(OTHERS[300]))
        for send in sent(actions).values():
            if send.peer == PEER:
                empty = asked(KadType.FIND_NODE, peer_id(OTHERS[300]))
                part.on_frame(Millis(START + number), PEER, empty, send.exchange)
        for send in sent(actions).values():
            if send.peer != PEER:
                part.on_failed(Millis(START + number), send.peer, send.exchange)
    assert [node for node in [PEER, *OTHERS] if node in part.table] == [PEER]


# ---- commands, exactly ----


def test_find_node_asks_the_nearest_contact_follows_its_answer_and_reports() -> None:
    part = part_of(contacts=1)
    target = OTHERS[9]
    question = asked(KadType.FIND_NODE, peer_id(target))
    assert part.on_command(START, 5, FindNode(target)) == [
        Send(PEER, Channel.DHT, question, 1),
        SetTimer(SWEEP, Millis(START + 4_000)),
    ]
    answer = KadMessage(KadType.FIND_NODE, peer_id(target), closer=(KadPeer(peer_id(target), (b"onion",)),))
    assert part.on_frame(Millis(START + 900), PEER, encode_kad(answer), 1) == [
        Noted(Located(target, (b"onion",))),
        Send(target, Channel.DHT, question, 2),
    ]
    assert part.on_frame(Millis(START + 2000), target, asked(KadType.FIND_NODE, peer_id(target)), 2) == [
        Noted(LookedUp("find_node", peer_id(target), ok=True, hops=2, queries=2, ms=2000)),
        Finished(5, NodesFound((target, PEER), found=True, effort=Effort(2, 2, 2, 2000))),
    ]
    assert target in part.table


def test_an_invalid_answer_is_as_none_at_all() -> None:
    part = part_of(contacts=1)
    part.on_command(START, 5, FindNode(OTHERS[9]))
    before = state(part)
    too_many = KadMessage(KadType.FIND_NODE, b"k", closer=named(OTHERS[:21]))
    for frame in (b"\xff", encode_kad(too_many), asked(KadType.GET_VALUE), b"\x08\x04" + b"\x42\x00" * 10_000):
        actions = part.on_frame(START, PEER, frame, 1)
        assert [type(action) for action in actions] == [Noted]
        assert state(part) == before
    actions = part.on_timer(Millis(START + LIMITS.lookup.whole_ms), SWEEP)
    assert actions[-1] == Finished(5, NodesFound((), found=False, effort=Effort(0, 1, 0, 60_000)))


def test_a_get_takes_the_newest_of_its_quorum_and_puts_those_right_that_held_an_older_one() -> None:
    part = part_of(DhtLimits(quorum=3, repairs=1), contacts=5)
    old, new = value_of(1, START + DAY), value_of(2, START + DAY)
    sends = list(sent(part.on_command(START, 1, GetValue(KEY))).values())
    assert all(send.frame == asked(KadType.GET_VALUE) for send in sends)
    actions: list[Action] = []
    for send, value in zip(sends, (old, None, new, old), strict=False):
        assert actions == []
        actions = part.on_frame(START, send.peer, asked(KadType.GET_VALUE, KEY, value), send.exchange)
    assert actions == [
        Send(sends[0].peer, Channel.DHT, asked(KadType.PUT_VALUE, KEY, new), 6),  # one of two: bounded
        Noted(LookedUp("get_value", KEY, ok=True, hops=1, queries=5, ms=0)),
        Finished(1, ValueFound(new, 2, found=3, repaired=1, effort=Effort(1, 5, 1, 0))),
    ]
    late = sends[4]
    assert part.on_frame(START, late.peer, asked(KadType.GET_VALUE, KEY, new), late.exchange) == []


def test_a_get_rejects_values_that_are_forged_or_of_another_key() -> None:
    part = part_of(contacts=1)
    part.on_command(START, 1, GetValue(KEY))
    rejected = [Noted(Rejected(PEER, "an answer with a value that no validator accepts"))]
    other = encode_kad(KadMessage(KadType.GET_VALUE, KEY, KadRecord(b"/t/other", value_of(1, START + DAY))))
    for frame in (asked(KadType.GET_VALUE, KEY, b"forged"), other):
        assert part.on_frame(START, PEER, frame, 1) == rejected
    assert part.on_frame(START, PEER, asked(KadType.GET_VALUE), 1)[-1] == Finished(
        1, ValueFound(None, None, 0, 0, Effort(1, 1, 1, 0))
    )


def test_a_put_is_kept_across_restarts_told_to_the_nearest_and_counts_who_echoes_it() -> None:
    part = part_of(contacts=3)
    value = value_of(1, START + DAY)
    actions = part.on_command(START, 1, PutValue(KEY, value))
    assert actions[0] == Persist(TABLE, (VALUE, KEY), value)
    told: list[Action] = []
    for send in sent(actions).values():
        told = part.on_frame(START, send.peer, asked(KadType.FIND_NODE), send.exchange)
    sends = list(sent(told).values())
    assert {send.peer for send in sends} == {PEER, *OTHERS[:2]}
    assert all(send.frame == asked(KadType.PUT_VALUE, KEY, value) for send in sends)
    newer = value_of(2, START + DAY)
    part.on_frame(START, sends[0].peer, asked(KadType.PUT_VALUE, KEY, value), sends[0].exchange)
    part.on_frame(START, sends[1].peer, asked(KadType.PUT_VALUE, KEY, newer), sends[1].exchange)
    done = part.on_failed(START, sends[2].peer, sends[2].exchange)
    assert done[-1] == Finished(1, ValuePut(stored=2, told=4, newer=newer, effort=Effort(1, 3, 1, 0)))


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (PutValue(b"/zz/k", b"x"), "no validator accepts this value under this key, now"),
        (PutValue(KEY, value_of(1, START)), "no validator accepts this value under this key, now"),
        (GetValue(b""), "a key has 1 to 128 bytes"),
        (Provide(bytes(129)), "a key has 1 to 128 bytes"),
    ],
)
def test_a_command_that_cannot_succeed_is_declined_with_a_reason(order: Order, reason: str) -> None:
    assert part_of(contacts=1).on_command(START, 3, order) == [Finished(3, Declined(reason))]


def test_commands_and_own_entries_are_bounded() -> None:
    part = part_of(DhtLimits(calls=3, ours=OursLimits(entries=1)), contacts=1)
    part.on_command(START, 1, Provide(b"a"))
    part.on_command(START, 2, PutValue(KEY, value_of(1, START + DAY)))
    full = "1 are put again already; withdraw one"
    assert part.on_command(START, 3, Provide(b"b")) == [Finished(3, Declined(full))]
    other = PutValue(b"/t/other", value_of(1, START + DAY))
    assert part.on_command(START, 3, other) == [Finished(3, Declined(full))]
    part.on_command(START, 3, PutValue(KEY, value_of(2, START + DAY)))
    busy = "3 look-ups are under way; ask again when one is done"
    assert part.on_command(START, 4, GetValue(KEY)) == [Finished(4, Declined(busy))]


def test_withdrawn_entries_are_forgotten_durably_and_put_no_more() -> None:
    kept = (Persist(TABLE, (VALUE, KEY), value_of(1, START + DAY)), Persist(TABLE, (PROVIDED, b"cid"), b""))
    part = part_of(kept=kept, contacts=1)
    part.start(START)
    assert part.on_command(START, 1, Withdraw(KEY)) == [Persist(TABLE, (VALUE, KEY), None), Finished(1, None)]
    assert part.on_command(START, 2, Withdraw(b"cid")) == [Persist(TABLE, (PROVIDED, b"cid"), None), Finished(2, None)]
    assert part.on_command(START, 3, Withdraw(b"cid")) == [Finished(3, None)]
    part.table.touch(START, 0)
    assert list(part._ours.due(Millis(START + DAY))) == []


def test_what_was_kept_is_put_again_soon_after_a_restart_and_an_expired_value_is_forgotten() -> None:
    value = value_of(1, START + DAY)
    dead = Persist(TABLE, (VALUE, b"/t/dead"), value_of(1, START - 1))
    part = part_of(kept=(dead, Persist(TABLE, (VALUE, KEY), value), Persist(TABLE, (PROVIDED, b"cid"), b"")))
    part.start(START)
    actions = part.on_timer(Millis(START + 600_000), UPKEEP)  # nobody is known: each ends where it starts
    assert Persist(TABLE, (VALUE, b"/t/dead"), None) in actions
    facts = [action.fact for action in actions if isinstance(action, Noted)]
    assert [(fact.kind, fact.target) for fact in facts if isinstance(fact, LookedUp)] == [
        ("republish", KEY),
        ("republish", b"cid"),
    ]
    assert len(part._values) == 1  # we are one of the nearest
    (timer,) = [action for action in actions if isinstance(action, SetTimer)]
    assert timer.key == UPKEEP
    assert START + 600_000 + 525_000 <= timer.at <= START + 1_200_000


def test_a_thousand_own_entries_without_a_network_do_not_nest() -> None:
    part = part_of(kept=tuple(Persist(TABLE, (PROVIDED, b"%d" % n), b"") for n in range(1_000)))
    part.start(START)
    actions = part.on_timer(Millis(START + 600_000), UPKEEP)
    assert sum(isinstance(action, Noted) for action in actions) == 1_000


def test_a_start_with_seeds_looks_itself_up_through_them() -> None:
    part = part_of(seeds=(PEER, OTHERS[0]))
    actions = part.start(START)
    assert {send.frame for send in sent(actions).values()} == {asked(KadType.FIND_NODE, peer_id(ME))}
    assert sent(actions).keys() == {PEER, OTHERS[0]}
    assert isinstance(actions[0], SetTimer)
    assert part_of().start(START) == [SetTimer(UPKEEP, actions[0].at)]


# ---- worlds ----


def joined(seed: int, size: int) -> KadWorld:
    """A network whose nodes came one after the other through the first."""
    world = KadWorld(seed, size)
    for node in world.nodes:
        world.act(node, world.parts[node].start(world.now))
    for node in world.nodes[1:]:
        assert isinstance(world.command(node, Bootstrap((world.nodes[0],))), TableFilled)
    world.run(120_000)
    return world


def test_nodes_that_join_through_one_seed_all_find_each_other() -> None:
    world = joined(1, 30)
    assert [len(part.table) for part in world.parts.values()] == [29] * 30
    for node in world.nodes[::5]:
        found = world.command(node, FindNode(world.nodes[7]))
        assert isinstance(found, NodesFound)
        assert found.found or node == world.nodes[7]


def test_a_value_put_by_one_is_got_by_all_and_updated_everywhere() -> None:
    world = joined(2, 25)
    one, two = (value_of(n, world.now + DAY) for n in (1, 2))
    put = world.command(world.nodes[3], PutValue(KEY, one))
    assert isinstance(put, ValuePut)
    assert (put.stored, put.newer) == (put.told, None)
    assert put.told >= 20
    world.command(world.nodes[4], PutValue(KEY, two))
    holders = true_nearest(world.nodes, point(KEY), 20)
    stale = world.command(world.nodes[5], PutValue(KEY, one))
    assert isinstance(stale, ValuePut)
    assert stale.newer == two
    held = [world.parts[node]._values.get(world.now, KEY) for node in holders]
    assert [each and each.value for each in held] == [two] * 20
    for node in world.nodes[::6]:
        got = world.command(node, GetValue(KEY))
        assert isinstance(got, ValueFound)
        assert (got.value, got.sequence) == (two, 2)


def test_providers_are_found_with_what_they_say_of_themselves() -> None:
    world = joined(3, 25)
    for node in world.nodes[:2]:
        assert isinstance(world.command(node, Provide(b"cid")), ProvisionTold)
    world.run(5_000)
    found = world.command(world.nodes[9], FindProviders(b"cid"))
    assert isinstance(found, ProvidersFound)
    assert {node for node, _ in found.providers} == set(world.nodes[:2])


def test_departed_nodes_leave_the_tables_within_hours_and_values_outlive_them() -> None:
    world = joined(4, 22)
    value = value_of(1, world.now + 10 * DAY)
    world.command(world.nodes[0], PutValue(KEY, value))
    gone = [node for node in world.nodes[1:] if (place(node) ^ point(KEY)) < 2**255][:6]
    world.silent.update(dict.fromkeys(gone))
    world.run(5 * 3_600_000)
    stayed = [node for node in world.nodes if node not in world.silent]
    known = sum(other in world.parts[node].table for node in stayed for other in gone)
    assert known <= 0.05 * len(stayed) * len(gone)
    got = world.command(stayed[-1], GetValue(KEY))
    assert isinstance(got, ValueFound)
    assert got.value == value


def test_two_runs_of_one_seed_are_the_same() -> None:
    one, other = (joined(6, 12) for _ in range(2))
    assert one.events == other.events
    assert one.facts == other.facts
    assert state(one.parts[one.nodes[3]]) == state(other.parts[other.nodes[3]])


def test_200_nodes_of_which_a_fifth_answer_with_each_other_still_find_95_percent() -> None:
    world = KadWorld(7, 200)
    world.fill_tables()
    liars = dict.fromkeys(world.rng.sample(world.nodes, 40))
    honest = [node for node in world.nodes if node not in liars]

    def ring(_: NodeId, message: KadMessage) -> KadMessage:
        return KadMessage(message.type, message.key, closer=named(true_nearest(list(liars), point(message.key), 20)))

    world.liars = dict.fromkeys(liars, ring)
    right = total = 0
    for node in honest[:30]:
        key = world.rng.randbytes(20)
        found = world.command(node, FindNode(key, is_key=True))
        assert isinstance(found, NodesFound)
        assert found.effort.ms <= LIMITS.lookup.whole_ms
        nearest = true_nearest([other for other in world.nodes if other != node], point(key), 20)
        wanted = [other for other in nearest if other not in liars]
        right += len(set(wanted) & set(found.nodes))
        total += len(wanted)
    assert right / total >= 0.95


def nonsense(_: NodeId, message: KadMessage) -> bytes:
    return encode_kad(KadMessage(message.type, message.key)) + b"\x42\x00" * 10_000


def forged(_: NodeId, message: KadMessage) -> KadMessage:
    return KadMessage(message.type, message.key, KadRecord(message.key, b"forged"))


def old(_: NodeId, message: KadMessage) -> KadMessage:
    return KadMessage(message.type, message.key, KadRecord(message.key, value_of(1, START + 100 * DAY)))


def poison(_: NodeId, message: KadMessage) -> KadMessage:
    return KadMessage(message.type, message.key, closer=named(nodes_of(random.Random(message.key[-4:]), 20)))


def silence(_: NodeId, __: KadMessage) -> None:
    return None


@pytest.mark.parametrize("lie", [nonsense, forged, old, poison, silence])
def test_a_value_is_found_among_a_fifth_of_liars(lie: object) -> None:
    world = KadWorld(8, 100)
    world.fill_tables()
    liars = world.rng.sample(world.nodes[2:], 20)
    world.liars = dict.fromkeys(liars, lie)  # type: ignore[arg-type]
    newest = value_of(9, world.now + DAY)
    put = world.command(world.nodes[0], PutValue(KEY, newest))
    assert isinstance(put, ValuePut)
    assert put.stored >= 12
    got = world.command(world.nodes[1], GetValue(KEY))
    assert isinstance(got, ValueFound)
    assert got.value == newest
    assert got.effort.queries <= LookupLimits().queries
