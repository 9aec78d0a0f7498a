"""A whole peer: who it shuts out, how it finds others when all it has are liars, and that nothing breaks it."""

from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from consensus.ids import NO_NETWORK, Digest, Millis, NodeId
from node.overlay.entries import LogEntry, LogName, seal_entry
from node.overlay.machine import Action, Channel, Drop, Noted, PeerLost, PeerUp, Received, Rejected, Send, TimerFired
from node.overlay.peer import DIRECTORY, KEEPALIVE, UPKEEP, Blocked
from node.overlay.topics import Graylisted
from node.overlay.wire import Prune, Rpc, Subscription, encode_rpc, peer_id
from tests.examples import examples
from tests.node.overlay.gossip_world import START
from tests.node.overlay.peer_world import CHANNELS, IDS, KEYS, Chaos, peer

EDGES = [0, 1, 3_599_999, START, (1 << 53) - 10_000_000]
"""Where clocks may stand: at the beginning of time, and where integers cease to be exact in other languages."""
STEP = st.tuples(
    st.integers(0, 15), st.integers(0, 3), st.integers(0, 3), st.integers(0, 9_999), st.binary(max_size=60)
)


def perform(chaos: Chaos, kind: int, one: int, other: int, number: int, blob: bytes) -> None:
    match kind:
        case 0:
            chaos.meet(one, other)
        case 1:
            chaos.part(chaos.hosts[one], other)
        case 2 | 3 | 4 | 5:
            chaos.deliver(number, 0, blob)
        case 6 | 7:
            chaos.deliver(number, number % 7, blob)
        case 8:
            chaos.garbage(one, other, CHANNELS[number % 4], blob, asks=number % 8 > 3)
        case 9:
            chaos.answer(one, number, blob, fails=number % 3 == 0)
        case 10:
            chaos.wait(number)
        case 11:
            chaos.wait(number * 1_000)  # up to 2.7 h
        case 12 | 13:
            chaos.command(one, number, blob)
        case 14:
            chaos.step_clock(one, (3_600_000, -3_600_000)[number % 2])
        case _:
            chaos.crash(one, number % 4)


@settings(max_examples=examples(25))
@example((1 << 53) - 10_000_000, [(12, 0, 0, 13, b"")])  # our sequence numbers are nanoseconds in 64 bits
@given(st.sampled_from(EDGES), st.lists(STEP, max_size=60))
def test_nothing_that_can_happen_makes_a_peer_raise_or_break_its_hosts_rules(
    now: int, steps: list[tuple[int, int, int, int, bytes]]
) -> None:
    chaos = Chaos(now)
    for each in steps:
        perform(chaos, *each)


# ---------------------------------------------------------------------- who is shut out

FORGED = b"\xff" * 40


class Rig:
    """One peer, number 0, and what is done to it."""

    def __init__(self) -> None:
        self.now = START
        self.peer = peer(0, 1, {})
        self.peer.start(self.now)

    def up(self, node: NodeId, *, dialled: bool = False) -> Sequence[Action]:
        return self.peer.handle(self.now, PeerUp(node, dialled))

    def get(self, node: NodeId, frame: bytes, channel: Channel = Channel.GOSSIP) -> Sequence[Action]:
        return self.peer.handle(self.now, Received(node, channel, frame))

    def join(self, node: NodeId) -> None:
        self.up(node)
        self.get(node, encode_rpc(Rpc((Subscription(subscribe=True, topic=DIRECTORY),))))

    def offend(self, node: NodeId) -> Sequence[Action]:
        """Send what no honest peer sends until something else comes of it than a rejection."""
        for _ in range(10):
            actions = self.get(node, FORGED)
            if not (len(actions) == 1 and isinstance(actions[0], Noted) and isinstance(actions[0].fact, Rejected)):
                return actions
        raise AssertionError("nothing came of it")


def test_a_graylisted_peer_is_dropped_and_its_reconnects_are_refused_for_longer_every_time() -> None:
    rig, bad = Rig(), IDS[4]
    for minutes in (10, 20, 40):
        rig.join(bad)
        actions = rig.offend(bad)
        score = rig.peer.gossip.score(rig.now, bad)
        until = Millis(rig.now + minutes * 60_000)
        assert actions == [
            Noted(Graylisted(bad, score)),
            Noted(Blocked(bad, score, until)),
            Drop(bad, "its gossip score is below the graylist threshold"),
        ]
        rig.peer.handle(rig.now, PeerLost(bad))
        for at, dialled in ((rig.now, False), (rig.now, True), (until - 1, False)):
            rig.now = Millis(at)
            assert rig.up(bad, dialled=dialled) == [Drop(bad, "this node refuses it for what it sent before")]
            assert rig.peer.handle(rig.now, PeerLost(bad)) == []
            assert bad not in rig.peer.connected
        rig.now = until
    rig.join(bad)
    assert bad in rig.peer.connected


def test_who_is_shut_out_keeps_its_place_in_the_directory_and_in_the_table() -> None:
    rig, bad = Rig(), IDS[4]
    rig.join(bad)
    expiry = Millis(rig.now + 86_400_000)
    entry = LogEntry(bad, LogName.DIRECTORY, 0, 0, 0, 0, 0, Digest(bytes(32)), expiry, b"here I am")
    rig.peer.logs.on_gossip(rig.now, bad, seal_entry(entry, KEYS[4], NO_NETWORK))
    rig.peer.dht.table.seen(rig.now, bad)
    rig.offend(bad)
    rig.peer.handle(rig.now, PeerLost(bad))
    assert len(rig.peer.logs.directory.chain(bad)) == 1
    assert bad in rig.peer.dht.table


def test_a_node_all_of_whose_peers_are_liars_finds_an_honest_one_in_every_round() -> None:
    """All connections, the table and every name that was remembered are the adversary's; the bootstrap node is not."""
    rig = Rig()
    crew = [NodeId(bytes([number]) * 32) for number in range(100, 112)]
    invented = [NodeId(number.to_bytes(2) * 16) for number in range(1, 600)]
    for node in crew:
        rig.join(node)
        for start in range(0, 600, 16):
            named = tuple(peer_id(each) for each in invented[start : start + 16])
            rig.get(node, encode_rpc(Rpc(prune=(Prune(DIRECTORY, named, 60),))))
    for node in crew:
        rig.offend(node)
        rig.peer.handle(rig.now, PeerLost(node))
    assert rig.peer.connected == ()
    for _ in range(10):
        rig.now = Millis(rig.now + 30_000)
        actions = rig.peer.handle(rig.now, TimerFired(UPKEEP))
        dialled = [each.peer for each in actions if isinstance(each, Send) and each.frame == KEEPALIVE]
        assert IDS[1] in dialled
        assert not set(dialled) & set(crew)
