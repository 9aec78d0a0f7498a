"""What of a session is wanted on the chain, and when: opened at once, a head every five slots, closed, committed to."""

from typing import Any

import trio

from consensus.ids import Address, Digest, Millis, SessionId
from consensus.records import unpack
from node.chain.executor import AnchoredSession, PayloadAt
from node.chain.onsystem import Commitment, Order, anchor_head, close_session, commit_chunks, open_session
from node.chain.outbox import CallStanding, CallState
from node.sessions.anchoring import HEAD_SLOTS, Anchoring, told
from node.sessions.placement import Placement
from node.sessions.records import StoreLedger
from node.store import Key
from node.store.memory import MemoryStore
from node.timeline import Timeline
from pipeline.manifest import Signed, identity, sign
from tests.pipeline.sessions import Made, small

SLOT_MS = 1_000
MADE = small()
NETWORK, OWNER = MADE.opening.network, MADE.opening.owner
ROOTS = tuple(Digest(bytes([number]) * 32) for number in (1, 2, 3))


class Wanting:
    """An outbox that writes down what is wanted of it, and how far it is."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.orders: dict[Key, Order] = {}
        self.at: dict[Key, CallStanding] = {}

    async def want(self, key: Key, order: Order, now: Millis) -> None:
        del now
        self.orders.setdefault(key, order)

    def wants(self, key: Key) -> bool:
        return key in self.orders

    def standing(self, key: Key) -> CallStanding | None:
        return self.at.get(key)

    def beginning(self, prefix: Key) -> list[CallStanding]:
        return [one for key, one in self.at.items() if key[: len(prefix)] == prefix]

    def subjects(self) -> tuple[object, ...]:
        return tuple(dict.fromkeys(key[0] for key in self.at))


class Placed:
    """A replication that knows the replicas of some files."""

    def __init__(self) -> None:
        self.files: set[Digest] = set()

    def placement(self, file: Digest) -> Placement | None:
        if file not in self.files:
            return None
        return Placement(MADE.opening.session, 0, file, 100, 5, Digest(bytes(32)), ROOTS)


class Watch:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.ms = 0

    def now(self) -> Millis:
        return Millis(self.ms)


class Scene:
    def __init__(self, address: Address = OWNER, network: Any = NETWORK) -> None:
        self.store, self.outbox, self.placed, self.clock = MemoryStore(), Wanting(address), Placed(), Watch()
        self.network = network
        self.anchoring = self.begun()
        self.ledger = StoreLedger(self.store, MADE.opening.session)

    def begun(self) -> Anchoring:
        calendar = Timeline(Millis(0), SLOT_MS, 4, 3)
        return Anchoring(self.store, self.outbox, [], self.placed, calendar, self.network, self.clock)  # type: ignore[arg-type]

    async def look(self, slots: int = 0) -> list[tuple[Any, ...]]:
        """What is wanted after so many slots more, without the session."""
        self.clock.ms += slots * SLOT_MS
        await self.anchoring._look(MADE.opening.session)
        return [key[1:] for key in self.outbox.orders]


def played(made: Made = MADE) -> tuple[Signed, list[Signed]]:
    key = made.terms.ephemeral
    return sign(made.opening, made.terms.identity, NETWORK), [sign(head, key, NETWORK) for head in made.heads]


def test_a_session_is_opened_at_once_followed_every_five_slots_and_closed() -> None:
    async def main() -> None:
        scene, (opening, heads) = Scene(), played()
        assert await scene.look() == []
        await scene.ledger.opened(opening)
        assert await scene.look() == [("open", 0)]
        session, says = MADE.opening.session, MADE.opening
        assert scene.outbox.orders[session, "open", 0] == open_session(says.uuid, says.ephemeral, says.policy)
        await scene.ledger.headed(heads[0])
        assert await scene.look(HEAD_SLOTS - 1) == [("open", 0)]
        await scene.ledger.headed(heads[1])
        assert await scene.look(1) == [("open", 0), ("head", 1)]  # the newest; the one before is a part of it
        assert scene.outbox.orders[session, "head", 1] == anchor_head(session, 1, identity(MADE.heads[1], NETWORK))
        assert await scene.look(1) == [("open", 0), ("head", 1)]
        for chunk in MADE.chunks:
            await scene.ledger.sealed(chunk, [])
        manifest = unpack(Signed, MADE.signed_manifest())
        await scene.ledger.closed(manifest)
        assert await scene.look() == [("open", 0), ("head", 1), ("close", 0)]
        of = MADE.manifest
        assert scene.outbox.orders[session, "close", 0] == close_session(
            session, identity(of, NETWORK), of.root, of.chunk_count, of.heads
        )
        assert await scene.look(HEAD_SLOTS) == [("open", 0), ("head", 1), ("close", 0)]
        files = [chunk.file for chunk in MADE.chunks]
        scene.placed.files = {*files}
        assert (await scene.look())[3:] == [("commit", 0)]
        chunks = [Commitment(file, 100, (ROOTS[0], ROOTS[1], ROOTS[2])) for file in files]
        assert scene.outbox.orders[session, "commit", 0] == commit_chunks(session, 0, chunks)
        assert session in scene.anchoring._done

    trio.run(main)


def test_what_is_sealed_is_committed_to_while_the_session_goes_on_once_a_slot_and_in_its_order() -> None:
    async def main() -> None:
        scene, (opening, _) = Scene(), played()
        session, files = MADE.opening.session, [chunk.file for chunk in MADE.chunks]
        await scene.ledger.opened(opening)
        await scene.ledger.sealed(MADE.chunks[-1], [])  # of the last stream: later chunks come before it in the records
        assert await scene.look() == [("open", 0)]  # the roots of its replicas are not known yet
        scene.placed.files = {*files}
        assert (await scene.look())[1:] == [("commit", 0)]
        await scene.ledger.sealed(MADE.chunks[0], [])
        assert (await scene.look())[1:] == [("commit", 0)]  # the slot has its call
        assert (await scene.look(1))[1:] == [("commit", 0), ("commit", 1)]
        scene.anchoring = scene.begun()  # another life
        for chunk in MADE.chunks[1:-1]:
            await scene.ledger.sealed(chunk, [])
        await scene.ledger.closed(unpack(Signed, MADE.signed_manifest()))
        assert (await scene.look())[3:] == [("commit", 2), ("close", 0)]
        order = [files[-1], *files[:-1]]
        for first, last in ((0, 1), (1, 2), (2, len(files))):
            chunks = [Commitment(file, 100, (ROOTS[0], ROOTS[1], ROOTS[2])) for file in order[first:last]]
            assert scene.outbox.orders[session, "commit", first] == commit_chunks(session, first, chunks)
        assert session in scene.anchoring._done

    trio.run(main)


def test_a_call_that_was_numbered_and_not_wanted_is_wanted_by_the_next_life() -> None:
    async def main() -> None:
        scene, (opening, _) = Scene(), played()
        await scene.ledger.opened(opening)
        await scene.ledger.sealed(MADE.chunks[0], [])
        scene.placed.files = {MADE.chunks[0].file}
        await scene.look()
        wanted = scene.outbox.orders.pop((MADE.opening.session, "commit", 0))
        scene.anchoring = scene.begun()
        await scene.look()
        assert scene.outbox.orders[MADE.opening.session, "commit", 0] == wanted

    trio.run(main)


def test_another_accounts_or_networks_sessions_are_left_alone() -> None:
    async def main() -> None:
        for scene in (Scene(address=Address(bytes(20))), Scene(network=b"\1" * 32)):
            await scene.ledger.opened(played()[0])
            assert await scene.look() == []
            assert scene.anchoring.told() == {}

    trio.run(main)


def test_its_state_on_the_chain_follows_from_its_calls() -> None:
    scene, session = Scene(), MADE.opening.session

    def state(**calls: CallStanding) -> Any:
        scene.outbox.at = {(session, what, 0): one for what, one in calls.items()}
        standing = scene.anchoring.standing(session)
        return None if standing is None else standing["state"]

    waiting, sent = CallStanding(CallState.WAITING), CallStanding(CallState.SENT)
    included, final = CallStanding(CallState.INCLUDED, 5), CallStanding(CallState.FINAL, 5)
    failed = CallStanding(CallState.FAILED, 5)
    assert state() is None
    assert [state(open=one) for one in (waiting, sent, included, final)] == ["opening", "opening", "opened", "opened"]
    assert [state(open=final, close=one) for one in (sent, included, final)] == ["closing", "anchored", "final"]
    assert state(open=included, close=included) == "anchored"
    assert [state(open=failed), state(open=final, close=failed)] == ["failed", "failed"]
    state(open=final, head=CallStanding(CallState.INCLUDED, 9))
    scene.outbox.at[b"of somebody else's", "hold", 0] = final
    assert scene.anchoring.told() == {session.hex(): scene.anchoring.standing(session)}
    assert scene.anchoring.told()[session.hex()] == {
        "state": "opened",
        "opened": {"state": "final", "block": 5, "time": None},
        "heads": 1,
        "last_head_block": 9,
        "closed": None,
    }


def test_who_opened_and_was_not_heard_of_for_a_day_of_hours_gave_it_up() -> None:
    session, owner = SessionId(bytes(32)), Address(bytes(20))
    running = AnchoredSession(session, owner, PayloadAt(3, 1_000), PayloadAt(9, 1_060), None)
    assert told(running, 1_160, 100)["state"] == "open"
    gone = told(running, 1_161, 100)
    assert (gone["state"], gone["opened_block"], gone["seen"], gone["closed"]) == ("abandoned", 3, 1_060_000, None)
    closed = told(running._replace(closed=PayloadAt(12, 1_070)), 9_999, 100)
    assert (closed["state"], closed["closed_block"], closed["closed"]) == ("closed", 12, 1_070_000)


def test_what_a_former_account_opened_it_still_closes() -> None:
    async def main() -> None:
        scene, (opening, _) = Scene(address=Address(b"\7" * 20)), played()
        former = Wanting(OWNER)
        scene.anchoring.outboxes[OWNER] = former  # type: ignore[assignment]
        await scene.ledger.opened(opening)
        for chunk in MADE.chunks:
            await scene.ledger.sealed(chunk, [])
        await scene.ledger.closed(unpack(Signed, MADE.signed_manifest()))
        assert await scene.look() == []
        assert [key[1] for key in former.orders] == ["open", "close"]
        session = MADE.opening.session
        former.at = {(session, "open", 0): CallStanding(CallState.FINAL, 5)}
        assert scene.anchoring.told()[session.hex()]["state"] == "opened"

    trio.run(main)
