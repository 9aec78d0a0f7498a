"""What a node says on the chain of what it holds and was shown: what counts, once, by the account that is registered."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final

import pytest

from consensus.beacon import Deposit
from consensus.ids import Address, Digest, Millis, NodeId, SessionId
from consensus.news import roots_name
from consensus.placement import REPLICAS
from consensus.registry import Member, registry_of
from consensus.storage import Storage, StoredChunk, StoredSession
from node.chain.onsystem import Order, hold_chunks, show_replica
from node.overlay.custody import Challenged
from node.sessions.vouching import HOLD, PROBE, SPAN, Vouching
from node.store import Key
from tests.consensus.worlds import NETWORK, Village, named

ME, OTHER, THIRD = (NodeId(named(number)) for number in (1, 2, 3))
ACCOUNTS = {node: Address(bytes([number]) * 20) for number, node in enumerate((ME, OTHER, THIRD), 1)}
SESSION: Final = SessionId(named(50))
SEED: Final = named(60)
ROOTS: Final = (named(81), named(82), named(83))


def chunk(number: int, *holders: NodeId, **changes: Any) -> StoredChunk:
    made = StoredChunk(
        named(100 + number), 500, roots_name(ROOTS), 9, SEED, tuple((one, bytes(one)) for one in holders)
    )
    return made._replace(**changes)


class Scene:
    """A head that a test sets, an inventory and an outbox that write down."""

    def __init__(self) -> None:
        self.members = [Member(node, bytes(node), b"", b"", account, 1 << 40, 0) for node, account in ACCOUNTS.items()]
        self.chunks: tuple[StoredChunk, ...] = ()
        self.passed = 0
        self.is_followed = True
        self.mine: dict[Digest, tuple[int, Deposit]] = {}
        self.theirs: dict[tuple[Digest, NodeId], int] = {}
        self.orders: dict[Key, Order] = {}
        self.gone: list[Key] = []
        self.replica, self.clock = self, self
        outboxes = {ACCOUNTS[ME]: self}
        self.vouching = Vouching(ME, self, self, self, outboxes.get)  # type: ignore[arg-type]

    def hold(self, number: int, j: int, **changes: Any) -> None:
        deposit = Deposit(NETWORK, named(100 + number), 500, OTHER, 9, SEED, ROOTS)
        self.mine[deposit.chunk] = j, replace(deposit, **changes)

    # the chain and its replica
    def head(self) -> Any:
        state = Village(2).genesis
        followed = StoredSession(0, 9, named(4), self.chunks, self.passed)
        sessions = {SESSION: followed} if self.is_followed else {}
        checkpoint = replace(state.checkpoint, registry=registry_of(0, self.members, {}))
        return replace(state, recent=(checkpoint,), storage=Storage(sessions))

    # the host
    def on_fact(self, kind: type, hear: Callable[[Challenged], None]) -> None:
        assert kind is Challenged
        self.hear = hear

    def now(self) -> Millis:
        return Millis(5)

    # the inventory
    def deposit(self, name: Digest) -> Deposit | None:
        return self.mine[name][1] if name in self.mine else None

    def replica_(self, name: Digest) -> int | None:
        return self.mine[name][0] if name in self.mine else None

    def replica_of(self, name: Digest, holder: NodeId) -> int | None:
        return self.theirs.get((name, holder))

    # the outbox
    async def want(self, key: Key, order: Order, now: Millis) -> None:
        assert now == 5
        assert key not in self.orders
        self.orders[key] = order

    def subjects(self) -> tuple[object, ...]:
        return tuple(dict.fromkeys(key[0] for key in self.orders))

    async def let_go(self, prefix: Key) -> None:
        self.gone.append(prefix)


@pytest.fixture
def scene() -> Scene:
    made = Scene()
    inventory = SimpleNamespace(deposit=made.deposit, replica=made.replica_, replica_of=made.replica_of)
    made.vouching._inventory = inventory  # type: ignore[assignment]
    return made


async def test_what_is_held_is_said_in_one_call_for_each_replica_and_once(scene: Scene) -> None:
    scene.chunks = tuple(chunk(number) for number in range(4))
    scene.hold(1, 0)
    scene.hold(2, 2)
    scene.hold(3, 0)
    await scene.vouching.look()
    wanted = {
        (SESSION, HOLD, 1 * REPLICAS): hold_chunks(SESSION, 1, 0b101, 0),
        (SESSION, HOLD, 2 * REPLICAS + 2): hold_chunks(SESSION, 2, 1, 2),
    }
    assert scene.orders == wanted
    await scene.vouching.look()
    scene.hold(0, 0)
    await scene.vouching.look()
    assert scene.orders == {**wanted, (SESSION, HOLD, 0): hold_chunks(SESSION, 0, 1, 0)}


async def test_chunks_that_are_far_apart_take_two_calls(scene: Scene) -> None:
    scene.chunks = tuple(chunk(number) for number in range(SPAN + 2))
    for number in (1, SPAN, SPAN + 1):
        scene.hold(number, 1)
    await scene.vouching.look()
    assert [*scene.orders] == [(SESSION, HOLD, 1 * REPLICAS + 1), (SESSION, HOLD, (SPAN + 1) * REPLICAS + 1)]
    assert scene.orders[SESSION, HOLD, 4] == hold_chunks(SESSION, 1, 1 | 1 << (SPAN - 1), 1)


@pytest.mark.parametrize(
    "of",
    [
        chunk(0, seed=b""),  # drawn by nothing yet
        chunk(0, size=0),  # which counts for nothing
        chunk(0, ME),  # for which we are named already
        chunk(0, size=501),
        chunk(0, seed=named(61)),
        chunk(0, roots=roots_name(ROOTS[::-1])),
        chunk(1),  # which we do not have
    ],
)
async def test_nothing_is_said_of_what_would_not_count_or_is_not_what_was_committed_to(
    scene: Scene, of: StoredChunk
) -> None:
    scene.chunks = (of,)
    scene.hold(0, 0)
    await scene.vouching.look()
    assert scene.orders == {}


async def test_a_holder_that_passed_our_challenge_is_shown_once_and_only_while_nobody_was(scene: Scene) -> None:
    scene.chunks = (chunk(0, ME, OTHER), chunk(1, ME, THIRD))
    scene.hold(0, 0)
    scene.hold(1, 0)
    name = scene.chunks[0].chunk
    scene.theirs[name, OTHER] = 2
    scene.hear(Challenged(name, 2, OTHER, passed=False))
    await scene.vouching.look()
    assert scene.orders == {}
    scene.hear(Challenged(name, 2, OTHER, passed=True))
    scene.passed = 1
    await scene.vouching.look()
    assert scene.orders == {}
    scene.passed = 0
    await scene.vouching.look()
    assert scene.orders == {(SESSION, PROBE, 0): show_replica(SESSION, 0, 2, ACCOUNTS[OTHER])}


@pytest.mark.parametrize(("holders", "knows_replica"), [((OTHER,), True), ((ME,), True), ((ME, OTHER), False)])
async def test_only_holders_that_both_count_show_each_other(
    scene: Scene, holders: tuple[NodeId, ...], knows_replica: bool
) -> None:
    scene.chunks = (chunk(0, *holders),)
    scene.hold(0, 1)
    name = scene.chunks[0].chunk
    if knows_replica:
        scene.theirs[name, OTHER] = 0
    scene.hear(Challenged(name, 0, OTHER, passed=True))
    await scene.vouching.look()
    assert not any(key[1] == PROBE for key in scene.orders)


async def test_two_nodes_of_one_entity_do_not_show_each_other(scene: Scene) -> None:
    scene.chunks = (chunk(0, holders=((ME, b"pool"), (OTHER, b"pool"))),)
    scene.hold(0, 1)
    scene.theirs[scene.chunks[0].chunk, OTHER] = 0
    scene.hear(Challenged(scene.chunks[0].chunk, 0, OTHER, passed=True))
    await scene.vouching.look()
    assert scene.orders == {}


async def test_who_is_not_registered_or_has_another_account_says_nothing(scene: Scene) -> None:
    scene.chunks = (chunk(0),)
    scene.hold(0, 0)
    scene.members[0] = scene.members[0]._replace(address=Address(b"\x77" * 20))
    await scene.vouching.look()
    scene.members = scene.members[1:]
    await scene.vouching.look()
    assert scene.orders == {}


async def test_who_left_the_registry_is_not_shown(scene: Scene) -> None:
    scene.chunks = (chunk(0, ME, OTHER),)
    scene.hold(0, 1)
    scene.theirs[scene.chunks[0].chunk, OTHER] = 0
    scene.hear(Challenged(scene.chunks[0].chunk, 0, OTHER, passed=True))
    scene.members = [one for one in scene.members if one.node != OTHER]
    await scene.vouching.look()
    assert scene.orders == {}


async def test_sessions_that_are_followed_no_more_are_let_go_of(scene: Scene) -> None:
    scene.chunks = (chunk(0),)
    scene.hold(0, 0)
    await scene.vouching.look()
    assert scene.gone == []
    scene.is_followed = False
    await scene.vouching.look()
    assert scene.gone == [(SESSION, HOLD), (SESSION, PROBE)]
    scene.mine = {}
    scene.hear(Challenged(named(100), 0, OTHER, passed=True))
    await scene.vouching.look()
    assert scene.vouching._shown == {}
    assert scene.vouching._said == {}
