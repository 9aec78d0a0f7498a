"""Each channel's frames as an attacker sends them to a whole peer: one rejection, and the peer is as it was before.

Blocks and statements have tests of their own (test_agreement, test_witnessing). What is kept about the sender itself (its score, what it has used up of its share) is left out of the comparison.
"""

from collections.abc import Sequence
from random import Random
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.beacon import Deposit
from consensus.ids import NO_NETWORK, Digest, Millis
from consensus.records import pack
from consensus.signing import KeyPair
from node.overlay import replica_frames, values, wire
from node.overlay.custody import HOUR_MS, Fetch
from node.overlay.entries import LogEntry, LogName, seal_entry
from node.overlay.logs import Learned
from node.overlay.machine import Action, Channel, Noted, PeerUp, Persist, Received, Rejected
from node.overlay.peer import DIRECTORY, Peer
from node.overlay.reconcile_frames import FRAME_BYTES_MAX, PushEntries, TookEntries, write_frame
from node.overlay.replica_frames import Answered, ReplicaOffer
from node.overlay.topics import Delivered
from tests.examples import examples
from tests.node.overlay.gossip_world import START
from tests.node.overlay.peer_world import IDS, KEYS, REGISTRY, peer, seed_of

THEIRS, FORGER, SENDER = KEYS[4], KEYS[5], IDS[4]
WORK: Final = {"_opening", "_whole", "_root"}  # kept to save it
ACCOUNTS: Final = {"_scores", "_quota", "_frames", "requests", "bytes", "minute", "heard", "_now"}
HOUR: Final = START // HOUR_MS


def state(thing: Any, seen: dict[int, None] | None = None) -> Any:
    """All that a peer keeps but its accounts with others, to be compared."""
    seen = {} if seen is None else seen
    if isinstance(thing, bytes | str | int | float | None):
        return thing
    if isinstance(thing, Random):
        return thing.getstate()
    if id(thing) in seen or callable(thing):
        return None
    seen[id(thing)] = None
    if isinstance(thing, dict):
        return [(state(key, seen), state(value, seen)) for key, value in thing.items()]
    if isinstance(thing, list | tuple | set | frozenset) or type(thing).__name__ == "deque":
        return [state(item, seen) for item in thing]
    names = dict.fromkeys(
        [*getattr(thing, "__dict__", ()), *(n for kind in type(thing).__mro__ for n in getattr(kind, "__slots__", ()))]
    )
    return [(name, state(getattr(thing, name, None), seen)) for name in names if name not in ACCOUNTS | WORK]


def besieged() -> Peer:
    """A peer with the sender and two others connected, in a network that places replicas."""
    machine = peer(0, 1, {})
    machine.start(START)
    machine.on_registry(START, HOUR // 168, REGISTRY)
    machine.on_seed(START, HOUR, seed_of(HOUR * 30))
    for node in (IDS[1], SENDER, IDS[2]):
        machine.handle(START, PeerUp(node, dialled=False))
    return machine


def entry(signer: KeyPair = THEIRS, sequence: int = 1) -> bytes:
    expiry = Millis(START + 86_400_000)
    return seal_entry(
        LogEntry(SENDER, LogName.DIRECTORY, 0, sequence, sequence, 0, 0, Digest(bytes(32)), expiry, b"here"),
        signer,
        NO_NETWORK,
    )


def gossiped(signer: KeyPair = THEIRS, data: bytes = b"") -> bytes:
    message = wire.sign_message(SENDER, START * 1_000_000, DIRECTORY, data or entry(), signer.sign_as_is)
    return wire.encode_publish([message])


def valued(signer: KeyPair = THEIRS, sequence: int = 1) -> bytes:
    value = values.NamedValue(SENDER, b"name", sequence, Millis(START + 86_400_000), b"body")
    key = values.key_of(SENDER, b"name")
    record = wire.KadRecord(key, values.write(signer, NO_NETWORK, value))
    return wire.encode_kad(wire.KadMessage(wire.KadType.PUT_VALUE, key, record))


def offered(signer: KeyPair = THEIRS) -> bytes:
    opened = HOUR * 30
    roots = (Digest(b"a" * 32), Digest(b"b" * 32), Digest(b"c" * 32))
    deposit = pack(Deposit(NO_NETWORK, Digest(b"d" * 32), 1000, SENDER, opened, seed_of(opened + 2), roots))
    signature = signer.sign("deposit", NO_NETWORK, deposit)
    return replica_frames.offer(ReplicaOffer(deposit, signature, 1, ()))


class Speech(NamedTuple):
    """What is said on a channel, and how it is said wrongly."""

    right: bytes
    exchange: int
    taken: type
    """The fact, or the action, by which the peer shows that it took it in."""
    most: int
    """Bytes of the longest frame."""
    unsigned: Sequence[bytes]
    early: Sequence[tuple[bytes, int]]
    """Frames with their exchanges that answer nothing, or stand on the wrong kind of stream."""


ANSWER = wire.encode_kad(wire.KadMessage(wire.KadType.FIND_NODE, b"key"))
SPEECHES: Final = {
    Channel.GOSSIP: Speech(
        gossiped(),
        0,
        Delivered,
        wire.RPC_LIMITS.frame_bytes_max,
        [gossiped(FORGER), gossiped(data=entry(FORGER))],
        [(gossiped(), -9), (gossiped(), 9)],
    ),
    Channel.DHT: Speech(
        valued(), -9, Peer, wire.KAD_LIMITS.frame_bytes_max, [valued(FORGER)], [(ANSWER, 999), (valued(), 0)]
    ),
    Channel.LOGS: Speech(
        write_frame(PushEntries((entry(),))),
        -9,
        Learned,
        FRAME_BYTES_MAX,
        [write_frame(PushEntries((entry(FORGER),)))],
        [
            (write_frame(TookEntries(1)), 999),
            (write_frame(TookEntries(1)), -9),
            (write_frame(PushEntries((entry(),))), 0),
        ],
    ),
    Channel.REPLICAS: Speech(
        offered(),
        -9,
        Fetch,
        replica_frames.FRAME_BYTES_MAX,
        [offered(FORGER)],
        [
            (replica_frames.verdict(Answered.YES), 999),
            (offered(), 0),
            (replica_frames.undone(Digest(b"d" * 32), 1), 0),
            (replica_frames.shown(HOUR, []), 0),
        ],
    ),
}


def give(machine: Peer, channel: Channel, frame: bytes, exchange: int) -> Sequence[Action]:
    return machine.handle(START, Received(SENDER, channel, frame, exchange))


def facts(actions: Sequence[Action]) -> list[type]:
    return [type(action.fact) for action in actions if isinstance(action, Noted)]


def refused(channel: Channel, frame: bytes, exchange: int) -> str:
    """Why the peer refuses a frame, which changes nothing."""
    machine = besieged()
    before = state(machine)
    actions = give(machine, channel, frame, exchange)
    assert [type(action) for action in actions] == [Noted]
    assert facts(actions) == [Rejected]
    fact = actions[0].fact  # type: ignore[union-attr]
    assert isinstance(fact, Rejected)
    assert fact.peer == SENDER
    assert state(machine) == before
    return fact.reason


@pytest.mark.parametrize("channel", SPEECHES)
def test_what_is_right_is_taken_in_and_its_replay_is_not(channel: Channel) -> None:
    speech, machine = SPEECHES[channel], besieged()
    fresh = state(machine)
    first = give(machine, channel, speech.right, speech.exchange)
    assert Rejected not in facts(first)
    before = state(machine)
    assert before != fresh
    assert speech.taken in [Peer, *facts(first)]
    again = give(machine, channel, speech.right, speech.exchange - 1 if speech.exchange else 0)
    assert facts(again) == []
    assert not [action for action in again if isinstance(action, Persist) and channel is not Channel.REPLICAS]
    assert state(machine) == before


@pytest.mark.parametrize("channel", SPEECHES)
def test_what_is_too_long_is_refused_unread(channel: Channel) -> None:
    speech = SPEECHES[channel]
    assert "at most" in refused(channel, speech.right + bytes(speech.most + 1 - len(speech.right)), speech.exchange)


@pytest.mark.parametrize(
    ("channel", "at"), [(channel, at) for channel, speech in SPEECHES.items() for at in range(len(speech.unsigned))]
)
def test_what_its_author_has_not_signed_is_refused(channel: Channel, at: int) -> None:
    refused(channel, SPEECHES[channel].unsigned[at], SPEECHES[channel].exchange)


@pytest.mark.parametrize(
    ("channel", "at"), [(channel, at) for channel, speech in SPEECHES.items() for at in range(len(speech.early))]
)
def test_what_comes_out_of_order_is_refused(channel: Channel, at: int) -> None:
    refused(channel, *SPEECHES[channel].early[at])


@settings(max_examples=examples(150), deadline=None)
@given(st.sampled_from([*SPEECHES]), st.floats(0, 1), st.binary(max_size=3), st.sampled_from([0, -9, 999]))
def test_a_damaged_frame_that_is_refused_has_changed_nothing(
    channel: Channel, where: float, more: bytes, exchange: int
) -> None:
    frame, machine = SPEECHES[channel].right, besieged()
    at = int(where * len(frame))
    before = state(machine)
    actions = give(machine, channel, frame[:at] + more + frame[at + 1 :], exchange)
    if Rejected in facts(actions):
        assert len(actions) == 1
        assert state(machine) == before
