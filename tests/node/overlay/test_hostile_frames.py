"""Each channel's frames as an attacker sends them to a whole peer: one rejection, and the peer is as it was before.

What is kept about the sender itself (its score, what it has used up of its share) is left out of the comparison.
"""

from collections.abc import Sequence
from random import Random
from typing import Any, Final, NamedTuple

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus import vrf
from consensus.beacon import Deposit
from consensus.block import Block, BlockBody, BlockHeader, body_digest, sign_header, vrf_input
from consensus.catchup import BlockAnswer
from consensus.checkpoint import Constitution
from consensus.ids import NO_NETWORK, Digest, Millis, NodeId
from consensus.inclusion import Rules
from consensus.params import DEVNET
from consensus.records import pack
from consensus.registry import founding
from consensus.replica import ConsensusReplica
from consensus.report import state_work, statement_signable, witnesses
from consensus.signatory import EraKeys, Own
from consensus.signing import KeyPair
from consensus.state import at_slot, genesis_state, leaders
from consensus.tally import Work
from consensus.wishes import NewBlock, RecordRefused
from node.overlay import agreement, clocks, replica_frames, values, wire, witness_frames
from node.overlay.custody import HOUR_MS, Fetch
from node.overlay.entries import LogEntry, LogName, seal_entry
from node.overlay.logs import Learned
from node.overlay.machine import Action, Channel, Noted, PeerUp, Persist, Received, Rejected, Send
from node.overlay.peer import DIRECTORY, Peer
from node.overlay.reconcile_frames import FRAME_BYTES_MAX, PushEntries, TookEntries, write_frame
from node.overlay.replica_frames import Answered, ReplicaOffer
from node.overlay.topics import Delivered
from node.overlay.witness_frames import Claim, ClaimAsked, NextAsked, SampleAsked, Stated, Taken, write_witness
from tests.examples import examples
from tests.node.overlay.gossip_world import START
from tests.node.overlay.peer_world import IDS, KEYS, REGISTRY, VERIFY, peer, seed_of

THEIRS, FORGER, SENDER = KEYS[4], KEYS[5], IDS[4]
WORK: Final = {"_opening", "_whole", "_root", "_known", "_head"}  # kept to save it
ACCOUNTS: Final = {"_scores", "_quota", "_frames", "requests", "bytes", "minute", "heard", "_now", "_served"}
HOUR: Final = START // HOUR_MS
FOUNDERS: Final = tuple(IDS[:5])
LAW: Final = Constitution(NO_NETWORK, DEVNET, FOUNDERS)
GENESIS: Final = genesis_state(LAW, founding(FOUNDERS, {}))
EMPTY: Final = Digest(blake3(b"").digest())
SLOT: Final = 2
"""The chain's present slot; HOUR 0."""


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


def founder(_rows: object) -> ConsensusReplica:
    """The consensus of the peer that is besieged."""
    keys = EraKeys(KEYS[0], KEYS[0].secret[:32])
    own = Own(IDS[0], KEYS[0], {KEYS[0].public: keys}.get, lambda _era: keys)
    return ConsensusReplica(Rules(LAW, VERIFY), GENESIS, Millis(START - SLOT * DEVNET.slot_ms), own, {})


def besieged() -> Peer:
    """A peer with the sender and two others connected, in a network that places replicas and has a chain.

    It has asked each for blocks, and told the sender, a witness, what it will answer for.
    """
    machine = peer(0, 1, {}, consensus=founder)
    machine.start(START)
    machine.on_registry(START, HOUR // 168, REGISTRY)
    machine.on_seed(START, HOUR, seed_of(HOUR * 30))
    for node in (IDS[1], SENDER, IDS[2]):
        machine.handle(START, PeerUp(node, dialled=False))
    give(machine, Channel.WITNESS, write_witness(NextAsked(0)), -3)
    return machine


def asked(channel: Channel) -> int:
    """The exchange in which the peer asks the sender for blocks, or for its time."""
    machine = peer(0, 1, {}, consensus=founder)
    machine.start(START)
    machine.on_registry(START, HOUR // 168, REGISTRY)
    machine.on_seed(START, HOUR, seed_of(HOUR * 30))
    machine.handle(START, PeerUp(IDS[1], dialled=False))
    out = machine.handle(START, PeerUp(SENDER, dialled=False))
    return next(one.exchange for one in out if isinstance(one, Send) and one.channel is channel)


def answered(signer: KeyPair | None = None) -> bytes:
    """A block of slot 1 by the first leader who is not the peer itself, as an answer."""
    state = at_slot(LAW, GENESIS, 1)
    rank, entity = next((at, one) for at, one in enumerate(leaders(LAW, state, 1)) if one != IDS[0])
    keys = KEYS[IDS.index(NodeId(entity))]
    proof = vrf.prove(keys.secret[:32], vrf_input(NO_NETWORK, state.seed, 1))
    header = BlockHeader(1, rank, GENESIS.id, entity, proof, body_digest(BlockBody()), EMPTY, GENESIS.state)
    return pack(BlockAnswer((pack(Block(sign_header(header, signer or keys, NO_NETWORK), BlockBody())),)))


def stated(signer: KeyPair = THEIRS, uptime: int = 1_000, beside: int = 0) -> bytes:
    """The sender's statement of HOUR 0 about the peer, in its place or one beside it."""
    entities = dict(zip(FOUNDERS, FOUNDERS, strict=True))
    drawn = witnesses(NO_NETWORK, GENESIS.seed, 0, IDS[0], entities, GENESIS.checkpoint.registry.order)
    root = witness_frames.claim_root(Claim(b"", ()), NO_NETWORK)
    statement = state_work(signer, NO_NETWORK, IDS[0], 0, root, Work(0, 0, min(1_000, uptime)))
    if uptime > 1_000:
        said = statement[:6] + uptime.to_bytes(2, "big")
        statement = said + signer.sign_as_is(statement_signable(NO_NETWORK, IDS[0], 0, root, said))
    return write_witness(Stated(0, (drawn.index(SENDER) + beside) % len(drawn), statement))


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
    Channel.BLOCKS: Speech(
        answered(),
        asked(Channel.BLOCKS),
        NewBlock,
        agreement.FRAME_BYTES_MAX,
        [answered(FORGER)],
        [(answered(), 999), (answered(), 0), (answered(), -9)],
    ),
    Channel.WITNESS: Speech(
        stated(),
        -9,
        Peer,
        witness_frames.FRAME_BYTES_MAX,
        [stated(FORGER)],
        [
            (write_witness(Taken()), 999),
            (write_witness(Taken()), -9),
            (write_witness(ClaimAsked(1)), -9),
            (write_witness(SampleAsked(0, (Digest(b"b" * 32), Digest(b"a" * 32)))), -9),
            (stated(), 0),
            (stated(uptime=1_001), -9),
            (stated(beside=1), -9),
        ],
    ),
    Channel.CLOCK: Speech(
        START.to_bytes(8, "big"),
        asked(Channel.CLOCK),
        Peer,
        clocks.FRAME_BYTES,
        [],
        [(bytes(8), 999), (bytes(8), 0), (bytes(8), -9), (bytes(7), asked(Channel.CLOCK))],
    ),
}


ANSWERED = {Channel.BLOCKS, Channel.CLOCK}


def give(machine: Peer, channel: Channel, frame: bytes, exchange: int) -> Sequence[Action]:
    return machine.handle(START, Received(SENDER, channel, frame, exchange))


def facts(actions: Sequence[Action]) -> list[type]:
    return [type(action.fact) for action in actions if isinstance(action, Noted)]


def refused(channel: Channel, frame: bytes, exchange: int) -> str:
    """Why the peer refuses a frame, which changes nothing."""
    machine = besieged()
    before = state(over(besieged(), channel, exchange))
    (action,) = unheard(give(machine, channel, frame, exchange))
    assert isinstance(action, Noted)
    fact = action.fact
    assert isinstance(fact, Rejected)
    assert fact.peer == SENDER
    assert state(over(machine, channel, exchange)) == before
    return fact.reason


def over(machine: Peer, channel: Channel, exchange: int) -> Peer:
    """The peer after a question for blocks is over, however it was answered."""
    if channel is Channel.BLOCKS and machine.agreement is not None:
        machine.agreement._asked.pop(exchange, None)
    return machine


def unheard(actions: Sequence[Action]) -> list[Action]:
    """The actions without what the chain's own log says of a record that it refused."""
    return [one for one in actions if not (isinstance(one, Noted) and isinstance(one.fact, RecordRefused))]


@pytest.mark.parametrize("channel", Channel)
def test_what_is_right_is_taken_in_and_its_replay_is_not(channel: Channel) -> None:
    speech, machine = SPEECHES[channel], besieged()
    fresh = state(machine)
    first = give(machine, channel, speech.right, speech.exchange)
    assert Rejected not in facts(first)
    before = state(machine)
    assert before != fresh
    assert speech.taken in [Peer, *facts(first)]
    again = give(machine, channel, speech.right, speech.exchange - 1 if speech.exchange else 0)
    assert facts(again) == ([Rejected] if channel in ANSWERED else [])  # an answer comes once
    assert not [action for action in again if isinstance(action, Persist) and channel is not Channel.REPLICAS]
    assert state(machine) == before


@pytest.mark.parametrize("channel", Channel)
def test_what_is_too_long_is_refused_unread(channel: Channel) -> None:
    speech = SPEECHES[channel]
    reason = refused(channel, speech.right + bytes(speech.most + 1 - len(speech.right)), speech.exchange)
    assert "at most" in reason or channel in ANSWERED  # whose frames are measured by the host


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
@given(
    st.sampled_from(Channel),
    st.floats(0, 1),
    st.binary(max_size=3),
    st.sampled_from([0, -9, 999, SPEECHES[Channel.BLOCKS].exchange]),
)
def test_a_damaged_frame_that_is_refused_has_changed_nothing(
    channel: Channel, where: float, more: bytes, exchange: int
) -> None:
    frame, machine = SPEECHES[channel].right, besieged()
    at = int(where * len(frame))
    before = state(over(besieged(), channel, exchange))
    actions = unheard(give(machine, channel, frame[:at] + more + frame[at + 1 :], exchange))
    if Rejected in facts(actions):
        assert len(actions) == 1
        assert state(over(machine, channel, exchange)) == before
